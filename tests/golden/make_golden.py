#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reference vectors of our own: a tiny random glm4v model and what must come out of it.

    tests/golden/make_golden.py DIR            write config.json, model.safetensors, golden.safetensors into DIR
    tests/golden/make_golden.py --verify DIR   compare this program with a golden.safetensors made by somebody else

The model is computed here in float64 with numpy, from docs/model.md and nothing of the engine: two programs that share no
line must agree. Layout of golden.safetensors: docs/model.md. For the quantized forms (bf16, int8, int4, fp8,
fp8-dynamic) the rounding of weights and activations is written down here a second time as well; those tensors are named
NAME.TENSOR@FORM.
tests/data/golden-tiny was made with numpy 2.4.6; the same seed gives the same bytes.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np

SEED = 9
GREEDY = 24          # tokens generated for each case
SUPPRESSED = 30      # ids at the end of the vocabulary that are never generated
MARGIN = 0.03        # least distance of the two best logits
# and how far the engine lets each drift from fp32
FORMS = {"bf16": 2e-3, "int8": 3e-2, "int4": 5e-1, "fp8": 2e-1, "fp8-dynamic": 4e-1}

CONFIG = {
    "architectures": ["Glm4vForConditionalGeneration"],
    "model_type": "glm4v",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "image_start_token_id": 76, "image_end_token_id": 77,
    "video_start_token_id": 78, "video_end_token_id": 79,
    "image_token_id": 80, "video_token_id": 81,
    "eos_token_id": [66, 72],
    "text_config": {
        "model_type": "glm4v_text",
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu", "attention_bias": True,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "eos_token_id": [66, 72], "pad_token_id": 66,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                            "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "model_type": "glm4v_vision",
        "depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2,
        "spatial_merge_size": 2, "in_channels": 3, "image_size": 24, "out_hidden_size": 64,
        "intermediate_size": 128, "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-5,
    },
}


# ---- files ----

def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = data[8 + size + begin:8 + size + end]
        if entry["dtype"] == "BF16":
            value = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            value = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8"}[entry["dtype"]])
        out[name] = value.reshape(entry["shape"])
    return out


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        dtype, value = tensors[name]
        raw = np.ascontiguousarray(value)
        if dtype == "BF16":
            bits = raw.astype("<f4").view("<u4")
            assert not np.any(bits & 0xffff), name
            raw = (bits >> 16).astype("<u2")
        blob = raw.astype({"BF16": "<u2", "F32": "<f4", "I32": "<i4"}[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


# ---- rounding of the weight forms ----

def to_bf16(x):
    """Nearest bf16, ties to even, of the float32 nearest to x."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def int8_groups(x):
    """Activations: int8 per row and group of 128 inputs; the values they stand for."""
    out = np.empty(x.shape)
    for g in range(0, x.shape[1], 128):
        part = np.asarray(x[:, g:g + 128], np.float32)
        top = np.abs(part).max(axis=1, keepdims=True)
        step = np.divide(np.float32(127), top, out=np.zeros_like(top), where=top > 0)
        out[:, g:g + 128] = np.rint(part * step) * (top / np.float32(127)).astype(np.float64)
    return out


def int8_weight(w):
    """One scale for each output."""
    w = np.asarray(w, np.float32)
    top = np.abs(w).max(axis=1, keepdims=True)
    return np.rint(w * (np.float32(127) / top)) * (top / np.float32(127)).astype(np.float64)


def int4_weight(w):
    """One scale for each output and 128 inputs: of eight candidates the one with the least squared error."""
    w = np.asarray(w, np.float32)
    out = np.empty(w.shape)
    for g in range(0, w.shape[1], 128):
        part = w[:, g:g + 128]
        top = np.abs(part).max(axis=1, keepdims=True)
        best, least = np.zeros(part.shape), np.full((len(part), 1), np.inf)
        for divisor in (7, 7.25, 7.5, 7.75, 8, 8.5, 9, 9.5):
            scale = top / np.float32(divisor)
            value = np.clip(np.rint(part / scale), -8, 7) * scale.astype(np.float64)
            error = ((value - part) ** 2).sum(axis=1, keepdims=True)
            best, least = np.where(error < least, value, best), np.minimum(error, least)
        out[:, g:g + 128] = best
    return out


def e4m3_rows(x):
    """e4m3, one scale for each row: steps of an eighth of a number's power of two, of 2^-9 below 2^-6."""
    x = np.asarray(x, np.float32)
    top = np.abs(x).max(axis=1, keepdims=True)
    part = (x * np.divide(np.float32(448), top, out=np.zeros_like(top), where=top > 0)).astype(np.float64)
    step = np.exp2(np.maximum(np.floor(np.log2(np.maximum(np.abs(part), 2.0 ** -9))), -6) - 3)
    return np.minimum(np.rint(np.abs(part) / step) * step, 448) * np.sign(part) * (top / np.float32(448)).astype(np.float64)


class Linear:
    """x -> x w^T + bias, with weights and activations rounded as the form says."""

    def __init__(self, w, bias=None, form="fp32"):
        if form == "int4" and w.shape[1] % 128:
            form = "int8"  # no whole groups: as the engine does
        rounding = {"fp32": lambda m: np.asarray(m, np.float64), "bf16": to_bf16, "int8": int8_weight,
                    "int4": int4_weight, "fp8": e4m3_rows, "fp8-dynamic": e4m3_rows}
        self.w = rounding[form](w)
        self.round = {"fp32": lambda x: x, "bf16": to_bf16, "fp8": to_bf16, "fp8-dynamic": e4m3_rows}.get(form, int8_groups)
        self.bias = 0 if bias is None else bias.astype(np.float64)

    def __call__(self, x):
        return self.round(x) @ self.w.T + self.bias


def stored(form):
    """Of what is never quantized: bf16, as these models are stored, unless everything is fp32."""
    return "fp32" if form == "fp32" else "bf16"


# ---- the model ----

def rms_norm(x, w, eps):
    return w * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def layer_norm(x, w, bias, eps):
    x = x - x.mean(axis=-1, keepdims=True)
    return w * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) + bias


def silu(x):
    return x / (1 + np.exp(-x))


def erf(x):
    return np.vectorize(__import__("math").erf)(x)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def frequencies(base, n):
    """base^(-2k/n), k < n/2, in float32 as the reference keeps them."""
    power = np.arange(0, n, 2, dtype=np.float32) / np.float32(n)
    return (np.float32(1) / np.float32(base) ** power).astype(np.float64)


def patch_places(grid_h, grid_w, merge):
    """(y, x) of every patch, block after block of merge x merge."""
    return [(by + my, bx + mx) for by in range(0, grid_h, merge) for bx in range(0, grid_w, merge)
            for my in range(merge) for mx in range(merge)]


def cubic_taps(s, side):
    """Indices and weights of bicubic interpolation, a = -0.75, at coordinate s."""
    a = -0.75
    near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1
    far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    i = int(np.floor(s))
    u = s - i
    return np.clip(np.arange(i - 1, i + 3), 0, side - 1), np.array([far(u + 1), near(u), near(1 - u), far(2 - u)])


class Model:
    CONFIG, SEED = CONFIG, SEED

    def __init__(self, config, weights, form="fp32"):
        self.config, self.weights = config, weights
        self.text, self.vision = config.get("text_config", config), config["vision_config"]
        self.form, self.linears = form, {}

    @staticmethod
    def shapes(config):
        t, v, P = config["text_config"], config["vision_config"], "model.visual."
        shapes = shapes_around(config, v["intermediate_size"])
        shapes[P + "post_conv_layernorm.weight"] = (v["hidden_size"],)
        shapes[P + "embeddings.position_embedding.weight"] = ((v["image_size"] // v["patch_size"]) ** 2,
                                                              v["hidden_size"])
        for i in range(t["num_hidden_layers"]):
            layer = text_layer_shapes(t, i)
            shapes |= layer | biases_of(layer, ("q_proj", "k_proj", "v_proj"))
        for i in range(v["depth"]):
            shapes |= block_shapes(v, i, v["out_hidden_size"])
        return shapes

    def vector(self, name):
        return self.weights[name].astype(np.float64)

    def linear(self, name, form=None):
        if name not in self.linears:
            w = self.weights[name + ".weight"]
            self.linears[name] = Linear(w.reshape(len(w), -1), self.weights.get(name + ".bias"), form or self.form)
        return self.linears[name]

    def positions_of_grid(self, grid_h, grid_w):
        """The position table at a grid's patches."""
        table = self.vector("model.visual.embeddings.position_embedding.weight")
        side = self.vision["image_size"] // self.vision["patch_size"]
        rows = []
        for y, x in patch_places(grid_h, grid_w, self.vision["spatial_merge_size"]):
            iy, wy = cubic_taps((y + 0.5) * side / grid_h - 0.5, side)
            ix, wx = cubic_taps((x + 0.5) * side / grid_w - 0.5, side)
            rows.append(np.einsum("i,j,ijd->d", wy, wx, table[iy[:, None] * side + ix[None, :]]))
        return np.array(rows)

    def place(self, x, grid_h, grid_w):
        """Behind the patch embedding: norm, then positions."""
        x = rms_norm(x, self.vector("model.visual.post_conv_layernorm.weight"), self.vision["rms_norm_eps"])
        return x + self.positions_of_grid(grid_h, grid_w)

    def norm_heads(self, block, q, k):
        """Before the rotation."""
        return q, k

    def encode(self, patches, grid_h, grid_w):
        """The vision tower on one picture or temporal patch."""
        v, P, eps = self.vision, "model.visual.", self.vision["rms_norm_eps"]
        heads, merge = v["num_heads"], v["spatial_merge_size"]
        size = v["hidden_size"] // heads
        x = self.linear(P + "patch_embed.proj", stored(self.form))(patches.astype(np.float64))
        x = self.place(x, grid_h, grid_w)
        f = frequencies(10000, size // 2)
        angle = np.array([np.concatenate([y * f, x_ * f]) for y, x_ in patch_places(grid_h, grid_w, merge)])
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

        def rotate(q):
            a, b = q[..., :size // 2], q[..., size // 2:]
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        for i in range(v["depth"]):
            B = f"{P}blocks.{i}."
            y = self.linear(B + "attn.qkv")(rms_norm(x, self.vector(B + "norm1.weight"), eps))
            q, k, val = y.reshape(len(x), 3, heads, size).transpose(1, 0, 2, 3)
            q, k = self.norm_heads(B, q, k)
            p = softmax(np.einsum("qhd,khd->hqk", rotate(q), rotate(k)) / np.sqrt(size))
            x = x + self.linear(B + "attn.proj")(np.einsum("hqk,khd->qhd", p, val).reshape(len(x), -1))
            y = rms_norm(x, self.vector(B + "norm2.weight"), eps)
            y = silu(self.linear(B + "mlp.gate_proj")(y)) * self.linear(B + "mlp.up_proj")(y)
            x = x + self.linear(B + "mlp.down_proj")(y)
        x = rms_norm(x, self.vector(P + "post_layernorm.weight"), eps)
        # the convolution's inputs in the rows' own order: (my, mx), then channel
        if P + "downsample" not in self.linears:
            w = self.weights[P + "downsample.weight"].transpose(0, 2, 3, 1)
            self.linears[P + "downsample"] = Linear(w.reshape(len(w), -1), self.weights[P + "downsample.bias"],
                                                    stored(self.form))
        x = self.linear(P + "downsample")(x.reshape(len(x) // merge ** 2, -1))
        M = P + "merger."
        form = "int8" if self.form == "int4" else self.form  # every image token passes here once: kept finer
        x = self.linear(M + "proj", form)(x)
        x = layer_norm(x, self.vector(M + "post_projection_norm.weight"),
                       self.vector(M + "post_projection_norm.bias"), 1e-5)
        x = 0.5 * x * (1 + erf(x / np.sqrt(2)))
        x = silu(self.linear(M + "gate_proj", form)(x)) * self.linear(M + "up_proj", form)(x)
        return self.linear(M + "down_proj", form)(x)

    def encode_all(self, pixel_values, grid_thw):
        """Every temporal patch by itself, in order."""
        rows, at = [], 0
        for t, h, w in grid_thw:
            for _ in range(t):
                rows.append(self.encode(pixel_values[at:at + h * w], h, w))
                at += h * w
        return np.concatenate(rows)

    def positions(self, ids, grid_thw):
        """[3, L] of a prompt, and the position that follows."""
        merge, image = self.vision["spatial_merge_size"], self.config["image_token_id"]
        grids = iter([(h // merge, w // merge) for t, h, w in grid_thw for _ in range(t)])
        out, at, i = [], 0, 0
        while i < len(ids):
            if ids[i] != image:
                out.append((at, at, at))
                at, i = at + 1, i + 1
                continue
            h, w = next(grids)
            out += [(at, at + y, at + x) for y in range(h) for x in range(w)]
            at, i = at + max(h, w), i + h * w
        return np.array(out).T, at

    def layer(self, i, x, position):
        """Text layer i of rows x [L, D] at their positions [3, L]."""
        t, B = self.text, f"model.language_model.layers.{i}."
        Nh, Nk, L = t["num_attention_heads"], t["num_key_value_heads"], len(x)
        Dh = t.get("head_dim") or t["hidden_size"] // Nh
        rope = t.get("rope_parameters") or {**t["rope_scaling"], "rope_theta": t["rope_theta"],
                                            "partial_rotary_factor": t["partial_rotary_factor"]}
        n = int(Dh * rope["partial_rotary_factor"])
        axis = np.repeat([0, 1, 2], rope["mrope_section"])
        angle = position[axis].T * frequencies(rope["rope_theta"], n)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

        def rotate(q):
            out = q.copy()
            out[..., 0:n:2] = q[..., 0:n:2] * cos - q[..., 1:n:2] * sin
            out[..., 1:n:2] = q[..., 1:n:2] * cos + q[..., 0:n:2] * sin
            return out

        mask = np.where(np.tril(np.ones((L, L))) > 0, 0, -np.inf)
        norm = lambda name, y: self.norm(B + name, y)
        y = norm("input_layernorm", x)
        q = rotate(self.linear(B + "self_attn.q_proj")(y).reshape(L, Nh, Dh))
        k = rotate(self.linear(B + "self_attn.k_proj")(y).reshape(L, Nk, Dh))
        v = self.linear(B + "self_attn.v_proj")(y).reshape(L, Nk, Dh)
        if self.form != "fp32":  # the cache's form
            k, v = to_bf16(k), to_bf16(v)
        k, v = np.repeat(k, Nh // Nk, axis=1), np.repeat(v, Nh // Nk, axis=1)
        p = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(Dh) + mask)
        y = self.linear(B + "self_attn.o_proj")(np.einsum("hqk,khd->qhd", p, v).reshape(L, -1))
        x = x + norm("post_self_attn_layernorm", y)
        y = self.linear(B + "mlp.gate_up_proj")(norm("post_attention_layernorm", x))
        gate, up = np.split(y, 2, axis=1)
        return x + norm("post_mlp_layernorm", self.linear(B + "mlp.down_proj")(silu(gate) * up))

    def norm(self, name, x):
        """RMSNorm of the text model."""
        return rms_norm(x, self.vector(name + ".weight"), self.text["rms_norm_eps"])

    def words(self, ids):
        return self.weights["model.language_model.embed_tokens.weight"][ids].astype(np.float64)

    def states(self, ids, position, vision):
        """[L, D]: what the head gets."""
        x = self.words(ids)
        if vision is not None:
            x[np.array(ids) == self.config["image_token_id"]] = vision
        for i in range(self.text["num_hidden_layers"]):
            x = self.layer(i, x, position)
        return self.norm("model.language_model.norm", x)

    def head(self, x):
        return self.linear("lm_head", stored(self.form))(x)

    def logits(self, ids, position, vision):
        """[L, V]: every position of a sequence."""
        return self.head(self.states(ids, position, vision))

    def drafts(self, ids, position, following, vision):
        """Vectors of an MTP layer, for families that have one; ids end with the first token of the answer."""
        return {}

    def greedy(self, ids, position, following, vision):
        """(ids, margins) of GREEDY tokens."""
        ids, out, margins = list(ids), [], []
        for _ in range(GREEDY):
            row = self.logits(ids, position, vision)[-1][:-SUPPRESSED]
            order = np.argsort(row)
            out.append(int(order[-1]))
            margins.append(row[order[-1]] - row[order[-2]])
            ids.append(out[-1])
            position = np.concatenate([position, np.full((3, 1), following)], axis=1)
            following += 1
        return np.array(out), np.array(margins)


# ---- making ----

def text_layer_shapes(t, layer):
    """Of one text layer, without biases."""
    D, F = t["hidden_size"], t["intermediate_size"]
    Dh = t.get("head_dim") or D // t["num_attention_heads"]
    q, kv = t["num_attention_heads"] * Dh, t["num_key_value_heads"] * Dh
    B = f"model.language_model.layers.{layer}."
    shapes = {B + name + "_layernorm.weight": (D,) for name in ("input", "post_self_attn", "post_attention", "post_mlp")}
    for name, n in (("q", q), ("k", kv), ("v", kv)):
        shapes[B + f"self_attn.{name}_proj.weight"] = (n, D)
    shapes[B + "self_attn.o_proj.weight"] = (D, q)
    shapes[B + "mlp.gate_up_proj.weight"], shapes[B + "mlp.down_proj.weight"] = (2 * F, D), (D, F)
    return shapes


def block_shapes(v, block, ffn):
    """Of one block of the tower, without biases."""
    H, B = v["hidden_size"], f"model.visual.blocks.{block}."
    return {B + "norm1.weight": (H,), B + "norm2.weight": (H,),
            B + "attn.qkv.weight": (3 * H, H), B + "attn.proj.weight": (H, H),
            B + "mlp.gate_proj.weight": (ffn, H), B + "mlp.up_proj.weight": (ffn, H), B + "mlp.down_proj.weight": (H, ffn)}


def biases_of(shapes, names):
    """Of the matrices that end in one of the names."""
    return {name[:-len("weight")] + "bias": shape[:1] for name, shape in shapes.items()
            if name.removesuffix(".weight").endswith(names)}


def shapes_around(config, merger):
    """Of all that is no layer and common to the families."""
    t, v = config["text_config"], config["vision_config"]
    D, H, out = t["hidden_size"], v["hidden_size"], v["out_hidden_size"]
    P, p = "model.visual.", v["patch_size"]
    return {
        "model.language_model.embed_tokens.weight": (t["vocab_size"], D),
        "model.language_model.norm.weight": (D,),
        "lm_head.weight": (t["vocab_size"], D),
        P + "patch_embed.proj.weight": (H, v["in_channels"], v["temporal_patch_size"], p, p),
        P + "patch_embed.proj.bias": (H,),
        P + "post_layernorm.weight": (H,),
        P + "downsample.weight": (out, H, v["spatial_merge_size"], v["spatial_merge_size"]),
        P + "downsample.bias": (out,),
        P + "merger.proj.weight": (out, out),
        P + "merger.post_projection_norm.weight": (out,), P + "merger.post_projection_norm.bias": (out,),
        P + "merger.gate_proj.weight": (merger, out), P + "merger.up_proj.weight": (merger, out),
        P + "merger.down_proj.weight": (out, merger),
    }


def random_weights(shapes, random):
    """Values that keep every part of the model at work: branches, norms and positions all matter."""
    weights = {}
    for name in sorted(shapes):
        x = random.standard_normal(shapes[name])
        if "norm" in name and name.endswith("weight"):
            x = 1 + 0.3 * x
        elif len(shapes[name]) > 1 and "embed" not in name.split(".")[-2]:
            x *= (4 if name == "lm_head.weight" else 1.5) / np.sqrt(np.prod(shapes[name][1:]))
        elif len(shapes[name]) == 1:
            x *= 0.3
        weights[name] = to_bf16(x).astype(np.float32)
    return weights


def cases(config, random):
    """name -> (ids, grid_thw or None)."""
    merge = config["vision_config"]["spatial_merge_size"]
    start, end, image = (config[k] for k in ("image_start_token_id", "image_end_token_id", "image_token_id"))
    words = lambda n: [int(i) for i in random.integers(0, config["text_config"]["vocab_size"] - SUPPRESSED, n)]
    picture = lambda h, w: [start] + [image] * (h * w // merge ** 2) + [end]
    yield "text", words(19), None
    yield "image", words(3) + picture(4, 6) + words(5), [(1, 4, 6)]
    yield "image_default_grid", picture(6, 6) + words(4), [(1, 6, 6)]
    yield "two_images", words(2) + picture(4, 4) + picture(2, 10) + words(6), [(1, 4, 4), (1, 2, 10)]
    yield ("video", words(2) + [config["video_start_token_id"]] + picture(4, 2) + words(1) + picture(4, 2) +
           words(2) + [config["video_end_token_id"]] + words(4), [(2, 4, 2)])


def pixels(config, grid_thw, random):
    """[patches, C]; the frames of a still are the same, those of a clip are not."""
    v = config["vision_config"]
    n = sum(t * h * w for t, h, w in grid_thw)
    area = v["patch_size"] ** 2
    x = random.standard_normal((n, v["in_channels"], v["temporal_patch_size"], area))
    if all(t == 1 for t, _, _ in grid_thw):
        x[:, :, 1:] = x[:, :, :1]
    return x.reshape(n, -1).astype(np.float32)


def make(directory, kind):
    """Of a class of models, its configuration and seed."""
    config, random = kind.CONFIG, np.random.Generator(np.random.PCG64(kind.SEED))
    weights, golden = random_weights(kind.shapes(config), random), {}
    model = kind(config, weights)
    rounded = {form: kind(config, weights, form) for form in FORMS}
    for name, ids, grid in cases(config, random):
        vision, vision_of = None, dict.fromkeys(FORMS)
        put = lambda key, value, dtype="F32": golden.__setitem__(f"{name}.{key}", (dtype, value))
        if grid:
            values = pixels(config, grid, random)
            vision = model.encode_all(values, grid)
            vision_of = {form: rounded[form].encode_all(values, grid) for form in FORMS}
            put("pixel_values", values)
            put("grid_thw", np.array(grid), "I32")
            put("vision", vision)
        position, following = model.positions(ids, grid or [])
        logits = model.logits(ids, position, vision)
        greedy, margin = model.greedy(ids, position, following, vision)
        if margin.min() < MARGIN:
            sys.exit(f"{name}: margin {margin.min():.4f} below {MARGIN}: take another seed")
        put("input_ids", np.array(ids), "I32")
        put("position_ids", position, "I32")
        put("logits_last", logits[-1])
        put("logits_mean_abs", np.abs(logits).mean(axis=1))
        put("greedy_ids", greedy, "I32")
        put("greedy_margin", margin)
        for key, value in model.drafts(ids + [int(greedy[0])], position, following, vision).items():
            put(key, value, "I32" if "ids" in key else "F32")
        for form in FORMS:
            if grid:
                put("vision@" + form, vision_of[form])
            rounded_logits = rounded[form].logits(ids, position, vision_of[form])[-1]
            if nmse(rounded_logits, logits[-1]) > FORMS[form]:
                sys.exit(f"{name}: {form} alone drifts by {nmse(rounded_logits, logits[-1]):.4f}: take another seed")
            put("logits_last@" + form, rounded_logits)
    out = pathlib.Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_safetensors(out / "model.safetensors", {name: ("BF16", w) for name, w in weights.items()})
    write_safetensors(out / "golden.safetensors", golden)


# ---- verifying ----

def nmse(a, b):
    return float(((a - b) ** 2).sum() / (b.astype(np.float64) ** 2).sum())


def verify(directory, kind):
    directory = pathlib.Path(directory)
    golden = read_safetensors(directory / "golden.safetensors")
    model = kind(json.loads((directory / "config.json").read_text()),
                 read_safetensors(directory / "model.safetensors"))
    worst = 0.0
    for name in sorted({key.split(".")[0] for key in golden}):
        get = lambda key: golden.get(f"{name}.{key}")
        grid = [tuple(map(int, row)) for row in get("grid_thw")] if get("grid_thw") is not None else []
        ids, vision, errors = get("input_ids").tolist(), None, {}
        if grid:
            vision = model.encode_all(get("pixel_values"), grid)
            errors["vision"] = nmse(vision, get("vision"))
        position, following = model.positions(ids, grid)
        logits = model.logits(ids, position, vision)
        errors["logits_last"] = nmse(logits[-1], get("logits_last"))
        errors["logits_mean_abs"] = nmse(np.abs(logits).mean(axis=1), get("logits_mean_abs"))
        greedy = get("greedy_ids")
        for key, value in model.drafts(ids + [int(greedy[0])], position, following, vision).items():
            if get(key) is not None:
                errors[key] = nmse(value, get(key))
        same = np.array_equal(position, get("position_ids"))
        same &= np.array_equal(model.greedy(ids, position, following, vision)[0], greedy)
        print(name, {key: f"{value:.1e}" for key, value in errors.items()}, "ids", "equal" if same else "DIFFER")
        worst = max([worst, *errors.values(), 0 if same else 1])
    return 0 if worst < 1e-9 else 1


def main(kind, description):
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--verify", action="store_true", help="compare, write nothing")
    parser.add_argument("directory")
    args = parser.parse_args()
    return verify(args.directory, kind) if args.verify else make(args.directory, kind)


if __name__ == "__main__":
    sys.exit(main(Model, __doc__))
