#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make_golden.py for family chatglm4v (GLM-4V-9B): a tiny random model and what must come out of it.

    tests/golden/make_golden_chatglm4v.py DIR            write config.json, model.safetensors, golden.safetensors into DIR
    tests/golden/make_golden_chatglm4v.py --verify DIR   compare this program with vectors made by somebody else

Computed in float64 with numpy, from docs/model.md and nothing of the engine. Files, norms and the rounding of each weight
form are make_golden.py's. tests/data/golden-tiny-chatglm4v was made with numpy 2.4.6; the same seed gives the same bytes.
"""
import argparse
import json
import pathlib
import sys

import numpy as np

from make_golden import (FORMS, GREEDY, MARGIN, SUPPRESSED, Linear, erf, frequencies, layer_norm, nmse, patch_places,
                         read_safetensors, rms_norm, silu, softmax, stored, to_bf16, write_safetensors)

SEED = 8

CONFIG = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "num_layers": 2, "padded_vocab_size": 96, "hidden_size": 64, "ffn_hidden_size": 128, "kv_channels": 32,
    "num_attention_heads": 2, "multi_query_attention": True, "multi_query_group_num": 1, "seq_length": 512,
    "layernorm_epsilon": 1.5625e-07, "rmsnorm": True, "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False, "add_bias_linear": False, "add_qkv_bias": True,
    "original_rope": True, "rope_ratio": 1, "pre_seq_len": None, "prefix_projection": False,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "eos_token_id": [66, 72], "pad_token_id": 66, "boi_token_id": 76, "eoi_token_id": 77,
    "vision_config": {
        "hidden_act": "gelu", "in_channels": 3, "num_hidden_layers": 2, "hidden_size": 32, "num_heads": 2,
        "intermediate_size": 48, "patch_size": 4, "image_size": 24, "num_positions": 37, "layer_norm_eps": 1e-6,
        "scaling_factor": 8,
    },
}


class Model:
    def __init__(self, config, weights, form="fp32"):
        self.config, self.vision, self.weights = config, config["vision_config"], weights
        self.form, self.linears = form, {}

    def vector(self, name):
        return self.weights["transformer." + name].astype(np.float64)

    def linear(self, name, form=None):
        name = "transformer." + name
        if name not in self.linears:
            w = self.weights[name + ".weight"]
            self.linears[name] = Linear(w.reshape(len(w), -1), self.weights.get(name + ".bias"), form or self.form)
        return self.linears[name]

    def layer_norm(self, name, x, eps):
        return layer_norm(x, self.vector(name + ".weight"), self.vector(name + ".bias"), eps)

    def encode(self, image):
        """[3, H, W] -> begin, rows of the picture, end."""
        v, eps = self.vision, self.vision["layer_norm_eps"]
        heads, p = v["num_heads"], v["patch_size"]
        side = v["image_size"] // p
        size = v["hidden_size"] // heads
        patches = np.array([image[:, y * p:(y + 1) * p, x * p:(x + 1) * p].ravel()
                            for y in range(side) for x in range(side)], np.float64)
        x = np.concatenate([self.vector("vision.patch_embedding.cls_embedding"),
                            self.linear("vision.patch_embedding.proj", stored(self.form))(patches)])
        x = x + self.vector("vision.patch_embedding.position_embedding.weight")
        for i in range(v["num_hidden_layers"]):
            B = f"vision.transformer.layers.{i}."
            y = self.linear(B + "attention.query_key_value")(x)
            q, k, val = y.reshape(len(x), 3, heads, size).transpose(1, 0, 2, 3)
            weight = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size))
            y = self.linear(B + "attention.dense")(np.einsum("hqk,khd->qhd", weight, val).reshape(len(x), -1))
            x = x + self.layer_norm(B + "input_layernorm", y, eps)
            y = self.linear(B + "mlp.fc1")(x)
            y = self.linear(B + "mlp.fc2")(0.5 * y * (1 + erf(y / np.sqrt(2))))
            x = x + self.layer_norm(B + "post_attention_layernorm", y, eps)
        return self.adapter(x[1:], side)

    def adapter(self, x, side):
        """Patches in plain order -> rows of the text model."""
        form = "int8" if self.form == "int4" else self.form  # every image token passes here once: kept finer
        if "conv" not in self.linears:
            w = self.weights["transformer.vision.conv.weight"].transpose(0, 2, 3, 1)
            self.linears["conv"] = Linear(w.reshape(len(w), -1), self.weights["transformer.vision.conv.bias"],
                                          stored(self.form))
        order = [y * side + x_ for y, x_ in patch_places(side, side, 2)]
        A = "vision.linear_proj."
        y = self.linear(A + "linear_proj", form)(self.linears["conv"](x[order].reshape(len(x) // 4, -1)))
        y = self.layer_norm(A + "norm1", y, 1e-5)
        y = 0.5 * y * (1 + erf(y / np.sqrt(2)))
        y = silu(self.linear(A + "gate_proj", form)(y)) * self.linear(A + "dense_h_to_4h", form)(y)
        y = self.linear(A + "dense_4h_to_h", form)(y)
        rows = np.concatenate([self.vector("vision.boi")[0], y, self.vector("vision.eoi")[0]])
        return rows / self.vision["scaling_factor"]

    def logits(self, ids, vision):
        """[L, V] and positions [L]: every row of the sequence with the picture in its place. ids: not expanded."""
        t = self.config
        Nh, Dh, eps = t["num_attention_heads"], t["kv_channels"], t["layernorm_epsilon"]
        Nk = t["multi_query_group_num"] if t["multi_query_attention"] else Nh
        x = self.vector("embedding.word_embeddings.weight")[ids]
        position = np.arange(len(ids))
        if vision is not None:
            b = ids.index(t["boi_token_id"])
            assert ids[b + 2] == t["eoi_token_id"]
            x = np.concatenate([x[:b], vision, x[b + 3:]])
            position = np.concatenate([position[:b + 1], np.full(len(vision) - 2, b + 1), position[b + 2:]])
        L, n = len(x), Dh // 2
        angle = position[:, None] * frequencies(10000 * t["rope_ratio"], n)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

        def rotate(q):
            out = q.copy()
            out[..., 0:n:2] = q[..., 0:n:2] * cos - q[..., 1:n:2] * sin
            out[..., 1:n:2] = q[..., 1:n:2] * cos + q[..., 0:n:2] * sin
            return out

        mask = np.where(np.tril(np.ones((L, L))) > 0, 0, -np.inf)
        for i in range(t["num_layers"]):
            B = f"encoder.layers.{i}."
            y = self.linear(B + "self_attention.query_key_value")(rms_norm(x, self.vector(B + "input_layernorm.weight"),
                                                                           eps))
            q, k, v = np.split(y, [Nh * Dh, (Nh + Nk) * Dh], axis=1)
            q, k, v = rotate(q.reshape(L, Nh, Dh)), rotate(k.reshape(L, Nk, Dh)), v.reshape(L, Nk, Dh)
            if self.form != "fp32":  # the cache's form
                k, v = to_bf16(k), to_bf16(v)
            k, v = np.repeat(k, Nh // Nk, axis=1), np.repeat(v, Nh // Nk, axis=1)
            p = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(Dh) + mask)
            x = x + self.linear(B + "self_attention.dense")(np.einsum("hqk,khd->qhd", p, v).reshape(L, -1))
            y = rms_norm(x, self.vector(B + "post_attention_layernorm.weight"), eps)
            gate, up = np.split(self.linear(B + "mlp.dense_h_to_4h")(y), 2, axis=1)
            x = x + self.linear(B + "mlp.dense_4h_to_h")(silu(gate) * up)
        x = rms_norm(x, self.vector("encoder.final_layernorm.weight"), eps)
        return self.linear("output_layer", stored(self.form))(x), position

    def greedy(self, ids, vision):
        """(ids, margins) of GREEDY tokens."""
        ids, out, margins = list(ids), [], []
        for _ in range(GREEDY):
            row = self.logits(ids, vision)[0][-1][:-SUPPRESSED]
            order = np.argsort(row)
            out.append(int(order[-1]))
            margins.append(row[order[-1]] - row[order[-2]])
            ids.append(out[-1])
        return np.array(out), np.array(margins)


# ---- making ----

def random_weights(config, random):
    """Values that keep every part of the model at work: branches, norms and positions all matter."""
    v, D, F = config["vision_config"], config["hidden_size"], config["ffn_hidden_size"]
    q = config["num_attention_heads"] * config["kv_channels"]
    qkv = q + 2 * config["multi_query_group_num"] * config["kv_channels"]
    H, W, p = v["hidden_size"], v["intermediate_size"], v["patch_size"]
    shapes = {
        "embedding.word_embeddings.weight": (config["padded_vocab_size"], D),
        "encoder.final_layernorm.weight": (D,),
        "output_layer.weight": (config["padded_vocab_size"], D),
        "vision.patch_embedding.proj.weight": (H, 3, p, p), "vision.patch_embedding.proj.bias": (H,),
        "vision.patch_embedding.cls_embedding": (1, H),
        "vision.patch_embedding.position_embedding.weight": (v["num_positions"], H),
        "vision.conv.weight": (D, H, 2, 2), "vision.conv.bias": (D,),
        "vision.linear_proj.linear_proj.weight": (D, D),
        "vision.linear_proj.norm1.weight": (D,), "vision.linear_proj.norm1.bias": (D,),
        "vision.linear_proj.gate_proj.weight": (F, D), "vision.linear_proj.dense_h_to_4h.weight": (F, D),
        "vision.linear_proj.dense_4h_to_h.weight": (D, F),
        "vision.boi": (1, 1, D), "vision.eoi": (1, 1, D),
    }
    for i in range(config["num_layers"]):
        B = f"encoder.layers.{i}."
        shapes[B + "input_layernorm.weight"] = shapes[B + "post_attention_layernorm.weight"] = (D,)
        shapes[B + "self_attention.query_key_value.weight"] = (qkv, D)
        shapes[B + "self_attention.query_key_value.bias"] = (qkv,)
        shapes[B + "self_attention.dense.weight"] = (D, q)
        shapes[B + "mlp.dense_h_to_4h.weight"], shapes[B + "mlp.dense_4h_to_h.weight"] = (2 * F, D), (D, F)
    for i in range(v["num_hidden_layers"]):
        B = f"vision.transformer.layers.{i}."
        for name, out, inner in (("attention.query_key_value", 3 * H, H), ("attention.dense", H, H), ("mlp.fc1", W, H),
                                 ("mlp.fc2", H, W)):
            shapes[B + name + ".weight"], shapes[B + name + ".bias"] = (out, inner), (out,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[B + name + ".weight"] = shapes[B + name + ".bias"] = (H,)
    weights = {}
    for name in sorted(shapes):
        x = random.standard_normal(shapes[name])
        if "norm" in name and name.endswith("weight"):
            x = 1 + 0.3 * x
        elif name in ("vision.boi", "vision.eoi"):
            x *= 8
        elif len(shapes[name]) > 1 and "embedding" not in name.split(".")[-2] and "embedding" not in name.split(".")[-1]:
            x *= (4 if name == "output_layer.weight" else 1.5) / np.sqrt(np.prod(shapes[name][1:]))
        elif len(shapes[name]) == 1:
            x *= 0.3
        weights["transformer." + name] = to_bf16(x).astype(np.float32)
    return weights


def cases(config, random):
    """name -> (ids, whether there is a picture)."""
    words = lambda n: [int(i) for i in random.integers(0, config["padded_vocab_size"] - SUPPRESSED, n)]
    picture = [config[k] for k in ("boi_token_id", "pad_token_id", "eoi_token_id")]
    yield "text", words(19), False
    yield "image", words(5) + picture + words(7), True
    yield "image_first", picture + words(4), True


def make(directory):
    random = np.random.Generator(np.random.PCG64(SEED))
    weights, golden = random_weights(CONFIG, random), {}
    model = Model(CONFIG, weights)
    rounded = {form: Model(CONFIG, weights, form) for form in FORMS}
    side = CONFIG["vision_config"]["image_size"]
    for name, ids, seen in cases(CONFIG, random):
        vision, vision_of = None, dict.fromkeys(FORMS)
        put = lambda key, value, dtype="F32": golden.__setitem__(f"{name}.{key}", (dtype, value))
        if seen:
            image = random.standard_normal((3, side, side)).astype(np.float32)
            vision = model.encode(image)
            vision_of = {form: rounded[form].encode(image) for form in FORMS}
            put("image", image)
            put("vision", vision)
        logits, position = model.logits(ids, vision)
        greedy, margin = model.greedy(ids, vision)
        if margin.min() < MARGIN:
            sys.exit(f"{name}: margin {margin.min():.4f} below {MARGIN}: take another seed")
        put("input_ids", np.array(ids), "I32")
        put("position_ids", position, "I32")
        put("logits_last", logits[-1])
        put("logits_mean_abs", np.abs(logits).mean(axis=1))
        put("greedy_ids", greedy, "I32")
        put("greedy_margin", margin)
        for form in FORMS:
            if seen:
                put("vision@" + form, vision_of[form])
            put("logits_last@" + form, rounded[form].logits(ids, vision_of[form])[0][-1])
    out = pathlib.Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    write_safetensors(out / "model.safetensors", {name: ("BF16", w) for name, w in weights.items()})
    write_safetensors(out / "golden.safetensors", golden)


# ---- verifying ----

def verify(directory):
    directory = pathlib.Path(directory)
    golden, weights = read_safetensors(directory / "golden.safetensors"), {}
    for path in directory.glob("model*.safetensors"):
        weights.update(read_safetensors(path))
    model = Model(json.loads((directory / "config.json").read_text()), weights)
    worst = 0.0
    for name in sorted({key.split(".")[0] for key in golden}):
        get = lambda key: golden.get(f"{name}.{key}")
        ids, vision, errors = get("input_ids").tolist(), None, {}
        if get("image") is not None:
            vision = model.encode(get("image"))
            errors["vision"] = nmse(vision, get("vision"))
        logits, position = model.logits(ids, vision)
        errors["logits_last"] = nmse(logits[-1], get("logits_last"))
        errors["logits_mean_abs"] = nmse(np.abs(logits).mean(axis=1), get("logits_mean_abs"))
        same = np.array_equal(position, get("position_ids"))
        same &= np.array_equal(model.greedy(ids, vision)[0], get("greedy_ids"))
        print(name, {key: f"{value:.1e}" for key, value in errors.items()}, "ids", "equal" if same else "DIFFER")
        worst = max([worst, *errors.values(), 0 if same else 1])
    return 0 if worst < 1e-9 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--verify", action="store_true", help="compare, write nothing")
    parser.add_argument("directory")
    args = parser.parse_args()
    return verify(args.directory) if args.verify else make(args.directory)


if __name__ == "__main__":
    sys.exit(main())
