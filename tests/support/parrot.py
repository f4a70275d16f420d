#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes a model that says the same whatever it sees: parrot.py SOURCE TARGET PIECE...

SOURCE is a model directory of the layout of models/surface-tiny, TARGET a folder that is made. Each PIECE, no two alike,
becomes a token if it is none; the name of a control token is that token. No layer adds to the residual stream, so that
the last token alone decides the next one: token k has 1 in place k + 1 of its embedding, every other token in place 0,
and row k of the head answers to place k. <|endoftext|> comes behind the last PIECE by itself.
"""
import json
import pathlib
import shutil
import struct
import sys

ONE, TEN = b"\x80\x3f", b"\x20\x41"  # 1.0 and 10.0 as bfloat16


def letters_of_bytes():
    """Byte -> the letter that byte-level tokenizers write for it."""
    plain = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = iter(range(256, 512))
    return {byte: chr(byte if byte in plain else next(others)) for byte in range(256)}


def read_tensors(path):
    raw = path.read_bytes()
    begin = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:begin])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], raw[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]])
            for name, entry in header.items()}


def write_tensors(path, tensors):
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def row(width, place, value):
    return bytes(2 * place) + value + bytes(2 * (width - place - 1))


def tables(rows, width, tokens, stop):
    """Embedding and head."""
    embedding = [row(width, 0, ONE) for _ in range(rows)]
    head = [bytes(2 * width) for _ in range(rows)]
    for place, token in enumerate(tokens):
        embedding[token] = row(width, place + 1, ONE)
    for place, token in enumerate(tokens + [stop]):
        head[token] = row(width, place, TEN)
    return b"".join(embedding), b"".join(head)


def silent(name, dtype, shape, data):
    """The weights with no layer of the language model adding anything, and a plain last norm."""
    if "visual" in name:
        return dtype, shape, data
    if "o_proj" in name or "down_proj" in name:
        return dtype, shape, bytes(len(data))
    if name.endswith("norm.weight") and "layers" not in name:
        return "BF16", shape, ONE * shape[0]
    return dtype, shape, data


def make(source, target, pieces):
    source, target = pathlib.Path(source), pathlib.Path(target)
    target.mkdir()
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, target)
    config = json.loads((source / "config.json").read_text())
    text = config["text_config"]
    width, first = text["hidden_size"], text["vocab_size"]

    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["ignore_merges"] = True  # a piece that is a word of a prompt or a choice is one token there too
    vocabulary, rows, tokens = tokenizer["model"]["vocab"], first, []
    control = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    letters = letters_of_bytes()
    for piece in pieces:
        word = "".join(letters[byte] for byte in piece.encode())
        tokens.append(control[piece] if piece in control else vocabulary.setdefault(word, rows))
        rows = max(rows, tokens[-1] + 1)
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))

    text["vocab_size"] = rows
    text["tie_word_embeddings"] = config["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(config))

    embedding, head = tables(rows, width, tokens, text["eos_token_id"][0])
    tensors = {name: silent(name, *entry) for name, entry in read_tensors(source / "model.safetensors").items()}
    shape = [rows, width]
    for name in tensors:
        if "embed_tokens" in name:
            tensors[name] = ("BF16", shape, embedding)
    tensors["lm_head.weight"] = ("BF16", shape, head)
    write_tensors(target / "model.safetensors", tensors)
    return target


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2], sys.argv[3:])
