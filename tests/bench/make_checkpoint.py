#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A checkpoint of family chatglm4v, of any size, full of random numbers: make_checkpoint.py CONFIG DIR [--file-bytes N].

Writes DIR/{config.json, model-*-of-*.safetensors, model.safetensors.index.json}: the tensors that CONFIG asks for, by the names
and shapes of GLM-4V-9B, in bf16, in files of at most N bytes (default 2e9: the 15 files of the real one). The numbers are
seeded by the tensors' names, so the same bytes again everywhere: magnitudes of 2^-7 to 2^-3, either sign. It needs numpy
and 64 MiB of memory.
"""
import argparse
import json
import pathlib
import shutil
import zlib

import numpy as np

PIECE = 1 << 23  # numbers


def linear(tensors, name, n_out, n_in, bias):
    tensors[name + ".weight"] = [n_out, n_in]
    if bias:
        tensors[name + ".bias"] = [n_out]


def text_tensors(c):
    d, f, layers, vocab = c["hidden_size"], c["ffn_hidden_size"], c["num_layers"], c["padded_vocab_size"]
    heads = c["num_attention_heads"] + 2 * c["multi_query_group_num"]
    tensors = {"transformer.embedding.word_embeddings.weight": [vocab, d]}
    for i in range(layers):
        layer = f"transformer.encoder.layers.{i}."
        tensors[layer + "input_layernorm.weight"] = [d]
        linear(tensors, layer + "self_attention.query_key_value", heads * c["kv_channels"], d, c["add_qkv_bias"])
        linear(tensors, layer + "self_attention.dense", d, c["num_attention_heads"] * c["kv_channels"], False)
        tensors[layer + "post_attention_layernorm.weight"] = [d]
        linear(tensors, layer + "mlp.dense_h_to_4h", 2 * f, d, False)
        linear(tensors, layer + "mlp.dense_4h_to_h", d, f, False)
    tensors["transformer.encoder.final_layernorm.weight"] = [d]
    if not c.get("tie_word_embeddings"):
        tensors["transformer.output_layer.weight"] = [vocab, d]
    return tensors


def vision_tensors(c):
    v, d, f = c["vision_config"], c["hidden_size"], c["ffn_hidden_size"]
    w, root = v["hidden_size"], "transformer.vision."
    patch, positions = root + "patch_embedding.", v["num_positions"]
    tensors = {patch + "proj.weight": [w, v["in_channels"], v["patch_size"], v["patch_size"]], patch + "proj.bias": [w],
               patch + "cls_embedding": [1, w], patch + "position_embedding.weight": [positions, w]}
    for i in range(v["num_hidden_layers"]):
        layer = f"{root}transformer.layers.{i}."
        linear(tensors, layer + "attention.query_key_value", 3 * w, w, True)
        linear(tensors, layer + "attention.dense", w, w, True)
        linear(tensors, layer + "mlp.fc1", v["intermediate_size"], w, True)
        linear(tensors, layer + "mlp.fc2", w, v["intermediate_size"], True)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors.update({layer + norm + ".weight": [w], layer + norm + ".bias": [w]})
    tensors.update({root + "conv.weight": [d, w, 2, 2], root + "conv.bias": [d]})
    adapter = root + "linear_proj."
    linear(tensors, adapter + "linear_proj", d, d, False)
    tensors.update({adapter + "norm1.weight": [d], adapter + "norm1.bias": [d]})
    linear(tensors, adapter + "gate_proj", f, d, False)
    linear(tensors, adapter + "dense_h_to_4h", f, d, False)
    linear(tensors, adapter + "dense_4h_to_h", d, f, False)
    tensors.update({root + "boi": [1, 1, d], root + "eoi": [1, 1, d]})
    return tensors


def count(shape):
    return int(np.prod(shape, dtype=np.int64))


def split(tensors, limit):
    files, used = [{}], 0
    for name, shape in tensors.items():
        size = 2 * count(shape)
        if used and used + size > limit:
            files.append({})
            used = 0
        files[-1][name] = shape
        used += size
    return files


def write_numbers(file, name, n):
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for at in range(0, n, PIECE):
        bits = np.frombuffer(bytearray(random.bytes(2 * min(PIECE, n - at))), dtype="<u2")
        bits &= 0x81FF
        bits |= 0x3C00
        file.write(bits)


def write_file(path, tensors):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * count(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            write_numbers(file, name, count(shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--file-bytes", type=float, default=2e9)
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    tensors = {**text_tensors(config), **vision_tensors(config)}
    total = 2 * sum(map(count, tensors.values()))
    args.dir.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(args.dir).free < total * 1.02:
        parser.error(f"{args.dir}: {total} bytes are needed, more than are free there")
    files, where = split(tensors, args.file_bytes), {}
    for i, part in enumerate(files):
        name = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        write_file(args.dir / name, part)
        where.update(dict.fromkeys(part, name))
        print(f"{name}: {len(part)} tensors", flush=True)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (args.dir / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    shutil.copyfile(args.config, args.dir / "config.json")


if __name__ == "__main__":
    main()
