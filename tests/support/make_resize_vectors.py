#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the table of tests/unit/test_resize.c: digests of what Pillow makes of pictures that a formula gives.

Needs Pillow below 13 (from 13 on it does the vertical pass first when the height shrinks more than the width, which
the reference processors of the models do not expect): pip install 'pillow<13' && make_resize_vectors.py
"""
from PIL import Image

SIZES = [(1, 1, 28, 28), (3, 2, 28, 56), (28, 28, 28, 28), (29, 28, 28, 28), (28, 31, 28, 28), (31, 98, 84, 56),
         (97, 213, 84, 224), (200, 150, 224, 224), (640, 360, 308, 168), (333, 77, 56, 308), (7, 260, 84, 84),
         (1021, 16, 28, 28), (5, 5, 140, 112), (63, 65, 56, 84), (64, 64, 112, 56), (1280, 720, 308, 168)]


def picture(width, height):
    """Random bytes, a third of them 0 or 255, so that both clamps are reached."""
    state, out = 12345, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1103515245 + 12345) & 0x7fffffff
        byte = state >> 16 & 255
        out.append(byte if state >> 24 & 3 else 255 * (byte & 1))
    return Image.frombytes("RGB", (width, height), bytes(out))


def digest(data):
    """FNV-1a, 64 bits."""
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return h


for w, h, ow, oh in SIZES:
    print("    { %d, %d, %d, %d, 0x%016x }," %
          (w, h, ow, oh, digest(picture(w, h).resize((ow, oh), Image.BICUBIC).tobytes())))
