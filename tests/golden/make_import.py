#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checkpoints as other programs quantize them: tests/golden/make_import.py DIR (tests/data/import).

Writes DIR/NAME/{config.json, quantized.safetensors, expected.safetensors} for a tiny model with one matrix or more in every
layout that engine/src/checkpoint/source.h reads. What is not quantized is a function of its name (plain() here and in
tests/engine/test_import.c), so that it need not be stored. expected.safetensors holds, for each quantized matrix, the
FNV-1a sum of the float32 values scale * (code - zero) in row-major order, and the logits of a prompt, computed by
transformers in float32 from those values.

compressed-tensors: packed and unpacked by the package of that name (two layouts that its newest version does not write any
more, weight_g_idx and byte zero points, follow version 0.9.4). AWQ: AutoAWQ's WQLinear_GEMM.from_linear (eight outputs in a
word, in the order 0 2 4 6 1 3 5 7), and read back by compressed-tensors' AutoAWQConverter. GPTQ: AutoGPTQ's QuantLinear.pack
(eight inputs in a word; zero points less one, masked after adding it back), gptq_v2 as GPTQModel writes it.

Made with compressed-tensors 0.20.0, transformers 5.17.0, torch 2.11.0, numpy 2.4.6 on a CPU; the same seed gives the same
codes, the logits differ in their last bits with the versions.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert.converters import AutoAWQConverter
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file
from transformers import Glm4vConfig, Glm4vForConditionalGeneration

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
HIDDEN, FFN, HEADS, HEAD_DIM, VOCAB = 256, 16, 16, 16, 32
VISION, PATCH, SIDE, MERGER = 16, 2, 2, 16


def config(layers):
    return {
        "architectures": ["Glm4vForConditionalGeneration"], "model_type": "glm4v", "tie_word_embeddings": False,
        "image_start_token_id": 26, "image_end_token_id": 27, "video_start_token_id": 28, "video_end_token_id": 29,
        "image_token_id": 30, "video_token_id": 31, "eos_token_id": [24],
        "text_config": {
            "model_type": "glm4v_text", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": FFN,
            "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": 1,
            "hidden_act": "silu", "attention_bias": True, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "eos_token_id": [24], "pad_token_id": 24,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
                                "mrope_section": [2, 1, 1]},
        },
        "vision_config": {
            "model_type": "glm4v_vision", "depth": 1, "hidden_size": VISION, "num_heads": 1, "patch_size": PATCH,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3, "image_size": PATCH * SIDE,
            "out_hidden_size": HIDDEN, "intermediate_size": MERGER, "hidden_act": "silu", "attention_bias": False,
            "rms_norm_eps": 1e-5,
        },
    }


# ---- tensors that are a function of their name ----

def fnv(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return h


def plain(name, shape):
    """Numbers that bf16 holds: norms near 1, embeddings of deviation 1, matrices of 1/14."""
    n = int(np.prod(shape))
    x = np.uint64(fnv(name.encode())) + np.arange(n, dtype=np.uint64)
    for shift, factor in ((30, 0xbf58476d1ce4e5b9), (27, 0x94d049bb133111eb)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    v = ((x ^ (x >> np.uint64(31))) & np.uint64(0xff)).astype(np.float64) - 128
    if "norm" in name and name.endswith("weight"):
        v = 1 + np.floor(v / 8) / 128
    else:
        v /= 64 if "embed_tokens" in name else 1024
    return torch.from_numpy(v.reshape(shape).astype(np.float32))


def names(layers):
    """Every tensor of the model, unquantized, and its shape."""
    out = {"model.language_model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN),
           "model.language_model.norm.weight": (HIDDEN,)}
    for i in range(layers):
        p = f"model.language_model.layers.{i}."
        for norm in ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"):
            out[p + norm + ".weight"] = (HIDDEN,)
        for x, rows in (("q", HEADS * HEAD_DIM), ("k", HEAD_DIM), ("v", HEAD_DIM)):
            out[f"{p}self_attn.{x}_proj.weight"] = (rows, HIDDEN)
            out[f"{p}self_attn.{x}_proj.bias"] = (rows,)
        out[p + "self_attn.o_proj.weight"] = (HIDDEN, HEADS * HEAD_DIM)
        out[p + "mlp.gate_proj.weight"] = out[p + "mlp.up_proj.weight"] = (FFN, HIDDEN)
        out[p + "mlp.down_proj.weight"] = (HIDDEN, FFN)
    v = "model.visual."
    b = v + "blocks.0."
    out |= {
        v + "patch_embed.proj.weight": (VISION, 3, 2, PATCH, PATCH), v + "patch_embed.proj.bias": (VISION,),
        v + "post_conv_layernorm.weight": (VISION,), v + "embeddings.position_embedding.weight": (SIDE * SIDE, VISION),
        b + "norm1.weight": (VISION,), b + "norm2.weight": (VISION,), b + "attn.qkv.weight": (3 * VISION, VISION),
        b + "attn.proj.weight": (VISION, VISION), b + "mlp.gate_proj.weight": (HIDDEN, VISION),
        b + "mlp.up_proj.weight": (HIDDEN, VISION), b + "mlp.down_proj.weight": (VISION, HIDDEN),
        v + "post_layernorm.weight": (VISION,), v + "downsample.weight": (HIDDEN, VISION, 2, 2),
        v + "downsample.bias": (HIDDEN,), v + "merger.proj.weight": (HIDDEN, HIDDEN),
        v + "merger.post_projection_norm.weight": (HIDDEN,), v + "merger.post_projection_norm.bias": (HIDDEN,),
        v + "merger.gate_proj.weight": (MERGER, HIDDEN), v + "merger.up_proj.weight": (MERGER, HIDDEN),
        v + "merger.down_proj.weight": (HIDDEN, MERGER),
    }
    return out


# ---- compressed-tensors ----

def compressed(form, w, scale_dtype, **weights):
    """Tensors that the package writes of w, and the values it reads back."""
    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    group = args.group_size or w.shape[1]
    if args.strategy == "block":
        rows, cols = args.block_structure
        blocks = [[w[r:r + rows, c:c + cols] for c in range(0, w.shape[1], cols)] for r in range(0, w.shape[0], rows)]
        low = torch.tensor([[x.min() for x in line] for line in blocks])
        high = torch.tensor([[x.max() for x in line] for line in blocks])
    elif args.strategy == "tensor":
        low, high = w.min().reshape(1), w.max().reshape(1)
    else:
        parts = w.reshape(w.shape[0], -1, group if args.strategy == "group" else w.shape[1])
        low, high = parts.amin(dim=2), parts.amax(dim=2)
    scale, zero = calculate_qparams(low, high, args)
    scale = scale.to(scale_dtype)
    state = {"weight": w, "weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    compressor = BaseCompressor.get_value_from_registry(form)
    # codes are made, and read back, with the scale as it is stored, in float32
    full = compressor.compress(state | {"weight_scale": scale.float()}, scheme)
    back = compressor.decompress(dict(full), scheme)["weight"].float()
    return full | {"weight_scale": scale}, back


def ordered_by_group(w, seed, size=128):
    """Version 0.9.4 with actorder "group": columns stay where they are, weight_g_idx tells the group of each."""
    n, k = w.shape
    group = torch.from_numpy(np.random.default_rng(seed).permutation(k) // size)
    order = torch.argsort(group, stable=True)
    tensors, back = compressed("pack-quantized", w[:, order], torch.float16, num_bits=4, strategy="group",
                               group_size=size, symmetric=True)
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
    inverse = torch.argsort(order)
    codes = unpack_from_int32(tensors["weight_packed"], 4, w.shape)[:, inverse]
    tensors["weight_packed"] = pack_to_int32(codes.contiguous(), 4)
    tensors["weight_g_idx"] = group.to(torch.int32)
    return tensors, back[:, inverse]


# ---- AWQ ----

def awq(w, group=128):
    n, k = w.shape
    group = min(group, k)
    parts = w.numpy().reshape(n, k // group, group)
    low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
    scale = ((high - low) / 15).astype(np.float16)
    zero = np.clip(np.rint(-low / scale.astype(np.float32)), 0, 15).astype(np.int64)
    step = scale.astype(np.float32)[:, :, None]
    codes = np.clip(np.rint(parts / step) + zero[:, :, None], 0, 15).astype(np.int64)

    def pack(columns):  # [rows, n] -> [rows, n / 8]
        out = np.zeros((columns.shape[0], n // 8), np.int64)
        for i, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            out |= columns[:, column::8] << (4 * i)
        return torch.from_numpy(out.astype(np.uint32).view(np.int32))

    tensors = {"qweight": pack(codes.reshape(n, k).T), "qzeros": pack(zero.T),
               "scales": torch.from_numpy(np.ascontiguousarray(scale.T))}
    expected = (step * (codes - zero[:, :, None]).astype(np.float32)).reshape(n, k)
    # the package's own reading of the same tensors
    read, read_scale, read_zero = AutoAWQConverter(group_size=group)._convert_gemm_module(
        tensors["qweight"], tensors["scales"], tensors["qzeros"])
    assert (read.numpy() + 8 == codes.reshape(n, k)).all() and (read_zero.numpy() + 8 == zero).all()
    assert (read_scale.numpy() == scale).all()
    return tensors, torch.from_numpy(expected)


# ---- GPTQ ----

def gptq(w, bits=4, group=128, symmetric=True, version=1, order=None, with_g_idx=True):
    """order [k]: the group of each input; None: one group after the other."""
    n, k = w.shape
    group = min(group, k) if group > 0 else k
    top = 2 ** bits - 1
    g_idx = np.arange(k) // group if order is None else order
    scale, zero = np.zeros((k // group, n), np.float16), np.zeros((k // group, n), np.int64)
    for g in range(k // group):
        part = w.numpy()[:, g_idx == g]
        low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        if not symmetric and g == 0:
            low[0] = 0  # a group without negative weights: its zero point is 0, which is stored as 15
        scale[g] = ((high - low) / top).astype(np.float16)
        zero[g] = (top + 1) // 2 if symmetric else np.clip(np.rint(-low / scale[g].astype(np.float32)), 0, top)
    step, offset = scale.astype(np.float32)[g_idx].T, zero[g_idx].T
    codes = np.clip(np.rint(w.numpy() / step) + offset, 0, top).astype(np.int64)
    per = 32 // bits

    def pack(rows):  # [per * m, columns] -> [m, columns]
        out = np.zeros((rows.shape[0] // per, rows.shape[1]), np.int64)
        for i in range(per):
            out |= rows[i::per] << (bits * i)
        return np.ascontiguousarray(out.astype(np.uint32).view(np.int32))

    stored = zero if version == 2 else zero - 1 & top
    tensors = {"qweight": torch.from_numpy(pack(codes.T)), "qzeros": torch.from_numpy(pack(stored.T).T.copy()),
               "scales": torch.from_numpy(scale)}
    if with_g_idx:
        tensors["g_idx"] = torch.from_numpy(g_idx.astype(np.int32))
    return tensors, torch.from_numpy(step * (codes - offset).astype(np.float32))


# ---- checkpoints ----

def layer(i, *modules):
    return [f"model.language_model.layers.{i}.{m}" for m in modules]


GATE_UP = ("mlp.gate_proj", "mlp.up_proj")
MLP = GATE_UP + ("mlp.down_proj",)


def compressed_checkpoint():
    """Each layer another scheme; a group's name is what docs and tests call it."""
    kinds = [
        ("int8", "int-quantized", torch.bfloat16, {"num_bits": 8, "strategy": "channel"}),
        ("int4", "pack-quantized", torch.bfloat16, {"num_bits": 4, "strategy": "group", "group_size": 128}),
        ("int4-zeros", "pack-quantized", torch.float16,
         {"num_bits": 4, "strategy": "group", "group_size": 128, "symmetric": False}),
        ("int8-packed", "pack-quantized", torch.float32, {"num_bits": 8, "strategy": "channel"}),
        ("fp8", "float-quantized", torch.float32, {"num_bits": 8, "type": "float", "strategy": "channel"}),
        ("fp8-block", "float-quantized", torch.bfloat16,
         {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}),
        ("int4-order", "pack-quantized", torch.float16,
         {"num_bits": 4, "strategy": "group", "group_size": 128, "actorder": "group"}),
        ("int8-zeros", "int-quantized", torch.float32, {"num_bits": 8, "strategy": "channel", "symmetric": False}),
        ("int4-64", "pack-quantized", torch.bfloat16, {"num_bits": 4, "strategy": "group", "group_size": 64}),
        ("fp8-tensor", "float-quantized", torch.float32, {"num_bits": 8, "type": "float", "strategy": "tensor"}),
    ]
    modules, groups = {}, {}
    for i, (name, form, dtype, weights) in enumerate(kinds):
        which = GATE_UP if weights["strategy"] == "group" else MLP  # the inputs of `down` are no whole group
        for module in layer(i, *which):
            w = plain(module + ".weight", names(len(kinds))[module + ".weight"])
            modules[module] = ordered_by_group(w, 5) if name == "int4-order" else compressed(form, w, dtype, **weights)
        targets = [f"re:.*layers\\.{i}\\..*(gate|up)_proj$"]
        if which is MLP:
            targets.append(f"model.language_model.layers.{i}.mlp.down_proj")
        groups[name] = {"targets": targets, "format": form, "input_activations": None, "output_activations": None,
                        "weights": {"type": "int", "symmetric": True, "dynamic": False} | weights}
    return len(kinds), modules, {"quant_method": "compressed-tensors", "format": "mixed-precision",
                                 "quantization_status": "compressed", "ignore": ["lm_head", "re:visual.*"],
                                 "kv_cache_scheme": None, "config_groups": groups}


def compressed_32_checkpoint():
    """Groups of 32, as llm-compressor writes them: without and with zero points, and in an order of inputs."""
    kinds = [
        ("int4-32", torch.bfloat16, {"num_bits": 4, "strategy": "group", "group_size": 32}),
        ("int4-32-zeros", torch.float16, {"num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False}),
        ("int4-32-order", torch.float16, {"num_bits": 4, "strategy": "group", "group_size": 32, "actorder": "group"}),
    ]
    modules, groups = {}, {}
    for i, (name, dtype, weights) in enumerate(kinds):
        for module in layer(i, *GATE_UP):
            w = plain(module + ".weight", names(len(kinds))[module + ".weight"])
            if name.endswith("order"):
                modules[module] = ordered_by_group(w, 6, 32)
            else:
                modules[module] = compressed("pack-quantized", w, dtype, **weights)
        groups[name] = {"targets": [f"re:.*layers\\.{i}\\..*(gate|up)_proj$"], "format": "pack-quantized",
                        "input_activations": None, "output_activations": None,
                        "weights": {"type": "int", "symmetric": True, "dynamic": False} | weights}
    return len(kinds), modules, {"quant_method": "compressed-tensors", "format": "pack-quantized",
                                 "quantization_status": "compressed", "ignore": ["lm_head", "re:visual.*"],
                                 "kv_cache_scheme": None, "config_groups": groups}


def simple(layers, which, quantize, quantization):
    modules = {}
    for i in range(layers):
        for module in layer(i, *which):
            w = plain(module + ".weight", names(layers)[module + ".weight"])
            modules[module] = quantize(i, module, w)
    return layers, modules, quantization


def orders(module, group=128):
    """Inputs that modules share have one order."""
    k = FFN if "down" in module else HIDDEN
    return np.random.default_rng(7).permutation(k) // min(group, k)


def fp8_block(w):
    tensors, back = compressed("float-quantized", w, torch.float32, num_bits=8, type="float", strategy="block",
                               block_structure=[128, 128])
    tensors["weight_scale_inv"] = tensors.pop("weight_scale")
    return tensors, back


CHECKPOINTS = {
    "compressed": compressed_checkpoint,
    "awq": lambda: simple(1, MLP + ("self_attn.k_proj",), lambda i, m, w: awq(w),
                          {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
                           "modules_to_not_convert": ["visual"]}),
    "gptq": lambda: simple(1, MLP, lambda i, m, w: gptq(w, with_g_idx="gate" in m),
                           {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True,
                            "damp_percent": 0.01, "block_name_to_quantize": "model.language_model.layers"}),
    "gptq-order": lambda: simple(1, MLP, lambda i, m, w: gptq(w, symmetric=False, order=orders(m)),
                                 {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True,
                                  "sym": False}),
    "gptq-v2": lambda: simple(1, MLP, lambda i, m, w: gptq(w, symmetric=False, version=2, with_g_idx=False),
                              {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": False,
                               "checkpoint_format": "gptq_v2"}),
    "gptq-8": lambda: simple(1, MLP, lambda i, m, w: gptq(w, bits=8, group=-1),
                             {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": False, "sym": True}),
    "gptq-8-128": lambda: simple(1, GATE_UP, lambda i, m, w: gptq(w, bits=8, group=128),
                                 {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False,
                                  "sym": True}),
    "compressed-32": compressed_32_checkpoint,
    "awq-32": lambda: simple(1, GATE_UP, lambda i, m, w: awq(w, group=32),
                             {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True,
                              "version": "gemm", "modules_to_not_convert": ["visual"]}),
    "gptq-32": lambda: simple(1, GATE_UP, lambda i, m, w: gptq(w, group=32),
                              {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}),
    "gptq-32-order": lambda: simple(1, GATE_UP,
                                    lambda i, m, w: gptq(w, group=32, symmetric=False, order=orders(m, 32)),
                                    {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True,
                                     "sym": False}),
    "fp8": lambda: simple(1, MLP, lambda i, m, w: fp8_block(w),
                          {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}),
}


def reference_logits(settings, layers, modules):
    """Of the last token of PROMPT, by transformers."""
    state = {name: plain(name, shape) for name, shape in names(layers).items()}
    state |= {module + ".weight": values for module, (_, values) in modules.items()}
    for i in range(layers):
        p = f"model.language_model.layers.{i}.mlp."
        state[p + "gate_up_proj.weight"] = torch.cat([state.pop(p + "gate_proj.weight"), state.pop(p + "up_proj.weight")])
    model = Glm4vForConditionalGeneration(Glm4vConfig(**settings)).float().eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return model(input_ids=torch.tensor([PROMPT])).logits[0]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    for name, make in CHECKPOINTS.items():
        layers, modules, quantization = make()
        settings = config(layers)
        out = folder / name
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(settings | {"quantization_config": quantization}, indent=1) + "\n")
        save_file({f"{module}.{part}": value.contiguous() for module, (tensors, _) in modules.items()
                   for part, value in tensors.items()}, out / "quantized.safetensors")
        expected = {module: torch.tensor(np.array([fnv(values.contiguous().numpy().tobytes())], np.uint64).view(np.int64))
                    for module, (_, values) in modules.items()}
        expected["logits"] = reference_logits(settings, layers, modules).contiguous()
        save_file(expected, out / "expected.safetensors")
        print(name, len(modules), "modules,", (out / "quantized.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
