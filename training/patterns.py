# SPDX-License-Identifier: LGPL-2.1-or-later
"""Test patterns of GStreamer's videotestsrc at the size the model sees: a bank of renderings, and what is drawn anew.

Checkers and zone plates are drawn at the size of some camera frame and shrunk as the processor does, because how they
look then depends on that size; the others are renderings of make_patterns.py.
"""
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "cache" / "patterns"
FINE_SQUARES = 35_000               # checkers with more squares in the frame are called fine
CELLS = {1: 0.2, 2: 0.35, 4: 0.3, 8: 0.15}      # side of a square in pixels of the frame, and its share
CLOSE = 0.6                         # of the checkers: the one of two draws that is nearer to that number
LARGEST = 5.4                       # pixels of a frame for one of the model, either way
DRAWN = {"checkers": 0.3, "zone plate": 0.14}   # share of all patterns
PLAIN = 0.25                        # of the grey zone plates: without its k properties videotestsrc draws plain grey


def seen_as(name, width, height):
    """The name a pattern goes by in a frame of that size: how fine checkers are is a matter of their number."""
    if not name.startswith("checkers-"):
        return name
    return "checkers-1" if width * height > FINE_SQUARES * int(name[9:]) ** 2 else "checkers-4"


def frame_size(rng, height, width):
    """Height and width of a camera frame that may become such a picture."""
    scale = np.exp(rng.uniform(0, np.log(LARGEST)))
    return tuple(int(round(n * scale * rng.uniform(0.94, 1.06))) for n in (height, width))


def shrink(plane, height, width):
    """As the processor does it: bicubic, over all pixels that one of the model covers."""
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))


def squares(rng, height, width):
    """Side of a square, height and width of its frame."""
    return int(rng.choice(list(CELLS), p=list(CELLS.values()))), *frame_size(rng, height, width)


def checkers(rng, height, width):
    """Red and green squares that begin anywhere: (name, picture)."""
    cell, high, wide = min((squares(rng, height, width) for _ in range(1 + (rng.random() < CLOSE))),
                           key=lambda s: abs(np.log(s[1] * s[2] / s[0] ** 2 / FINE_SQUARES)))
    y, x = ((np.arange(n) + rng.integers(0, 2 * cell)) // cell & 1 for n in (high, wide))
    red = shrink((255 * (y[:, None] ^ x)).astype(np.uint8), height, width)
    return seen_as(f"checkers-{cell}", wide, high), np.stack([red, 255 - red, np.zeros_like(red)], 2)


def waves(rng, height, width):
    """A zone plate's sine, -1..1: rings, ellipses or hyperbolas, now and then with straight waves or off the middle."""
    y, x = (np.arange(n, dtype=np.float32) - n // 2 for n in (height, width))
    kx, ky = np.exp(rng.uniform(np.log(4), np.log(60), 2))
    if rng.random() < 0.6:
        ky = kx
    if rng.random() < 0.15:
        ky = -ky
    if rng.random() < 0.2:
        y, x = y + rng.uniform(-0.4, 0.4) * height, x + rng.uniform(-0.4, 0.4) * width
    turns = kx * x * x / width + (ky * y * y / height)[:, None] + rng.uniform(0, 256)
    if rng.random() < 0.15:
        turns = turns + rng.uniform(-12, 12) * x + rng.uniform(-12, 12) * y[:, None]
    return np.sin(turns * np.float32(2 * np.pi / 256))


def zone_plate(rng, height, width):
    """In grey or in colour, as it is made in RGB (blue alone) or in YUV: (name, picture)."""
    grey = rng.random() < 0.5
    if grey and rng.random() < PLAIN:
        return "zone-plate", np.full((height, width, 3), 128, np.uint8)
    wave = waves(rng, *frame_size(rng, height, width))
    gains = (127, 127, 127) if grey else (0, 0, 127) if rng.random() < 0.5 else (203, -153, 257)
    planes = [shrink(np.clip(127.5 + gain * wave, 0, 255).astype(np.uint8), height, width) for gain in gains]
    return "zone-plate" if grey else "chroma-zone-plate", np.stack(planes, 2)


class Patterns:
    """Patterns of every kind, in equal parts but for what is drawn."""

    def __init__(self, folder=FOLDER):
        self.by_name = {}
        for file in sorted(Path(folder).glob("*.png")):
            name = file.name.split("_")[0]
            self.by_name.setdefault(name, []).append(cv2.imread(str(file))[..., ::-1].copy())
        self.names = sorted(name for name in self.by_name if not name.startswith(("checkers", "zone", "chroma")))
        if not self.names:
            raise SystemExit(f"{folder}: no patterns; run make_patterns.py first")

    def pick(self, rng, height, width):
        """(name, picture) of the asked size."""
        part = rng.random()
        if part < DRAWN["checkers"]:
            return checkers(rng, height, width)
        if part < sum(DRAWN.values()):
            return zone_plate(rng, height, width)
        return self.rendering(rng, height, width)

    def rendering(self, rng, height, width):
        """One of the bank; of just that size when there is one."""
        name = self.names[rng.integers(0, len(self.names))]
        exact = [p for p in self.by_name[name] if p.shape[:2] == (height, width)]
        choice = exact or self.by_name[name]
        picture = choice[rng.integers(0, len(choice))]
        if picture.shape[:2] != (height, width):
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        return name, picture
