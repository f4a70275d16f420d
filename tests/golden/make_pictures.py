#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes tests/data/preprocess: two pictures by a formula, and what the reference processor's steps make of them, done
with Pillow and NumPy and sharing no line with the engine. make_pictures.py OUT_DIR; make_pictures.py --verify DIR compares the
same steps with a directory of vectors that the reference implementation made.

Needs numpy and Pillow below 13 (see tests/support/make_resize_vectors.py). Made with numpy 2.4 and Pillow 11.3.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
LEAST, MOST = 12544, 9633792


def smart_resize(frames, height, width):
    if height < 28 or width < 28:
        scale = max(28 / height, 28 / width)
        height, width = int(height * scale), int(width * scale)
    if max(height, width) / min(height, width) > 200:
        return None
    h, w, t = round(height / 28) * 28, round(width / 28) * 28, round(frames / 2) * 2
    if t * h * w > MOST:
        beta = math.sqrt(frames * height * width / MOST)
        h, w = max(28, math.floor(height / beta / 28) * 28), max(28, math.floor(width / beta / 28) * 28)
    elif t * h * w < LEAST:
        beta = math.sqrt(LEAST / (frames * height * width))
        h, w = math.ceil(height * beta / 28) * 28, math.ceil(width * beta / 28) * 28
    return [h, w]


def patches(image):
    h, w = smart_resize(2, image.height, image.width)
    x = np.asarray(image.resize((w, h), Image.BICUBIC)).astype(np.float64) / 255
    x = ((x - MEAN) / STD).transpose(2, 0, 1)
    x = np.stack([x, x]).reshape(1, 2, 3, h // 28, 2, 14, w // 28, 2, 14)
    x = x.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return [1, h // 14, w // 14], x.reshape(h * w // 196, 1176)


def picture(width, height):
    """Waves, edges and dots: nothing that a smooth gradient would hide."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([127 + 120 * np.sin(x / 3 + y / 7), (x // 5 + y // 4) % 2 * 255, (x * 37 + y * 101) % 256], -1)
    return Image.fromarray(rgb.astype(np.uint8))


def write_safetensors(path, tensors):
    names = {np.dtype(np.float16): "F16", np.dtype(np.int32): "I32", np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def vectors(name, image, head=None):
    grid, x = patches(image)
    out = {name + ".grid_thw": np.array([grid], np.int32)}
    if head:
        out[name + ".pixel_values_head"] = x[:head].astype(np.float16)
        out[name + ".pixel_values_sum_rows"] = x.sum(1).astype(np.float32)
    else:
        out[name + ".pixel_values"] = x.astype(np.float16)
    return out


def make(out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "wrong").mkdir(exist_ok=True)
    rows = [[f, h, w, smart_resize(f, h, w)] for f, h, w in
            [(2, 720, 1280), (2, 28, 28), (2, 27, 54), (2, 42, 70), (2, 14, 1022), (2, 1, 1), (2, 3, 640), (4, 480, 640),
             (16, 1080, 1920), (2, 5000, 5000), (2, 9, 2000), (8, 98, 126), (2, 350, 210), (600, 720, 1280), (2, 16384, 82)]]
    (out / "smart_resize.json").write_text(json.dumps(rows) + "\n")
    (out / "wrong" / "smart_resize.json").write_text(json.dumps(rows[:2] + [[2, 42, 70, [56, 56]]]) + "\n")
    tensors = {}
    for (w, h), head in (((40, 33), None), ((150, 61), 4)):
        name = "waves_%dx%d" % (w, h)
        image = picture(w, h)
        image.save(out / (name + ".png"), optimize=True)
        tensors.update(vectors(name, image, head))
    write_safetensors(out / "golden.safetensors", tensors)
    image = picture(40, 33)
    image.save(out / "wrong" / "off.png", optimize=True)
    bad = vectors("off", image)
    first = bad["off.pixel_values"][:1].copy()
    first[0, 700] += np.float16(0.002)
    sums = bad["off.pixel_values"].astype(np.float64).sum(1).astype(np.float32) + np.float32(2)
    write_safetensors(out / "wrong" / "golden.safetensors", {
        "off.grid_thw": bad["off.grid_thw"], "off.pixel_values_head": first, "off.pixel_values_sum_rows": sums})


def verify(path):
    raw = (path / "golden.safetensors").read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    types = {"F16": np.float16, "I32": np.int32, "U8": np.uint8, "F32": np.float32}

    def tensor(name):
        e = header[name]
        return np.frombuffer(raw[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]],
                             types[e["dtype"]]).reshape(e["shape"])
    for f, h, w, expected in json.loads((path / "smart_resize.json").read_text()):
        assert smart_resize(f, h, w) == expected, (f, h, w)
    for name in [n[:-9] for n in header if n.endswith(".grid_thw")]:
        grid, x = patches(Image.open(path / (name + ".png")).convert("RGB"))
        assert grid == list(tensor(name + ".grid_thw")[0])
        key = name + (".pixel_values" if name + ".pixel_values" in header else ".pixel_values_head")
        expected = tensor(key)
        assert np.array_equal(x[:len(expected)].astype(np.float16), expected), name
    print("all equal")


if __name__ == "__main__":
    if sys.argv[1:-1] == ["--verify"]:
        verify(pathlib.Path(sys.argv[2]))
    elif len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    else:
        make(pathlib.Path(sys.argv[1]))
