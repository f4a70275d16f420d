# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backgrounds: a bank of large textures of seven materials, a belt and its light.

Drawing a whole background for every picture is what makes a picture maker slow, so a worker draws a few
large textures once and every picture is a crop of one of them, zoomed and turned.
"""
import cv2
import numpy as np

MATERIALS = ("rolled steel", "brushed steel", "cast iron", "milled aluminium", "painted metal", "copper",
             "galvanised steel")
SIZE = 768          # pixels a side of one texture


def smooth_noise(rng, height, width, cell_y, cell_x):
    """Noise in about -1..1 whose grains are cell_y x cell_x pixels."""
    grid = rng.standard_normal((max(2, int(height / cell_y) + 2), max(2, int(width / cell_x) + 2)))
    return cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def grey(rng, low, high, spread=6):
    """A nearly neutral base colour."""
    return rng.uniform(low, high) + rng.uniform(-spread, spread, 3)


def rolled_steel(rng):
    n = 9 * smooth_noise(rng, SIZE, SIZE, rng.uniform(24, 90), rng.uniform(2, 5))
    n += 7 * smooth_noise(rng, SIZE, SIZE, 60, 60) + 4 * smooth_noise(rng, SIZE, SIZE, 1.5, 1.5)
    return n, grey(rng, 80, 165)


def brushed_steel(rng):
    n = rng.uniform(9, 16) * smooth_noise(rng, SIZE, SIZE, rng.uniform(120, 400), 1.2)
    n += 4 * smooth_noise(rng, SIZE, SIZE, 90, 30)
    return n, grey(rng, 130, 200)


def cast_iron(rng):
    n = rng.uniform(9, 14) * smooth_noise(rng, SIZE, SIZE, 2.2, 2.2)
    n += 7 * smooth_noise(rng, SIZE, SIZE, 7, 7) + 5 * smooth_noise(rng, SIZE, SIZE, 70, 70)
    return n, grey(rng, 55, 110)


def milled_aluminium(rng):
    """Arcs of a face mill: rings about a far centre, once or twice over."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    pitch, n = rng.uniform(7, 16), 0
    for _ in range(rng.integers(1, 3)):
        radius = np.hypot(x - rng.uniform(-900, -100), y - rng.uniform(0, SIZE))
        n = n + rng.uniform(7, 12) * np.sin(2 * np.pi * radius / pitch)
    return n + 4 * smooth_noise(rng, SIZE, SIZE, 1.3, 1.3) + 5 * smooth_noise(rng, SIZE, SIZE, 90, 90), \
        grey(rng, 140, 205)


def painted_metal(rng):
    n = rng.uniform(2, 5) * smooth_noise(rng, SIZE, SIZE, 5, 5) + 4 * smooth_noise(rng, SIZE, SIZE, 120, 120)
    colour = rng.uniform(60, 150) * np.ones(3)
    colour[rng.integers(0, 3)] += rng.uniform(25, 55)
    colour[rng.integers(0, 3)] -= rng.uniform(20, 45)
    return n + smooth_noise(rng, SIZE, SIZE, 1.2, 1.2), colour


def copper(rng):
    n = rng.uniform(5, 9) * smooth_noise(rng, SIZE, SIZE, rng.uniform(40, 160), 2)
    n += 8 * smooth_noise(rng, SIZE, SIZE, 50, 50) + 3 * smooth_noise(rng, SIZE, SIZE, 1.3, 1.3)
    return n, rng.uniform(0.75, 1.1) * np.array([185, 112, 78]) + rng.uniform(-8, 8, 3)


def galvanised_steel(rng):
    """Spangles: crystals of different brightness with straight borders."""
    count = int(rng.integers(250, 700))
    points = rng.uniform(0, SIZE, (count, 2)).astype(np.float32)
    seeds = np.ones((SIZE, SIZE), np.uint8)
    seeds[points[:, 1].astype(int), points[:, 0].astype(int)] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.uniform(-16, 16, label.max() + 1).astype(np.float32)
    return cv2.GaussianBlur(shade[label], (0, 0), 0.8) + 3 * smooth_noise(rng, SIZE, SIZE, 1.5, 1.5), \
        grey(rng, 135, 190)


MAKERS = (rolled_steel, brushed_steel, cast_iron, milled_aluminium, painted_metal, copper, galvanised_steel)


def belt(rng):
    """Dark rubber with a weave or ribs across the direction of travel."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    n = 3 * smooth_noise(rng, SIZE, SIZE, 2, 2) + 3 * smooth_noise(rng, SIZE, SIZE, 40, 40)
    style = rng.integers(0, 3)
    if style == 0:
        n += 4 * np.sin(2 * np.pi * x / rng.uniform(10, 26))
    elif style == 1:
        n += 3 * np.sin(2 * np.pi * (x + y) / 9) * np.sin(2 * np.pi * (x - y) / 9)
    base = rng.choice([grey(rng, 22, 60), np.array([25, 60, 45]) + rng.uniform(-8, 8, 3),
                       np.array([35, 45, 80]) + rng.uniform(-8, 8, 3)])
    return n, base


def finish(noise_and_base):
    noise, base = noise_and_base
    return np.clip(base + noise[..., None], 0, 255).astype(np.uint8)


class Bank:
    """per_material textures of every material, and as many belts."""

    def __init__(self, seed, per_material=3):
        rng = np.random.default_rng([seed, 1])
        self.materials = [[finish(make(rng)) for _ in range(per_material)] for make in MAKERS]
        self.belts = [finish(belt(rng)) for _ in range(max(2, per_material))]

    @staticmethod
    def crop(rng, texture, height, width, zoom):
        """height x width pixels out of a texture; one texel is zoom pixels. A copy, u8 [height, width, 3]."""
        h = min(SIZE, max(8, int(height / zoom)))
        w = min(SIZE, max(8, int(width / zoom)))
        y, x = rng.integers(0, SIZE - h + 1), rng.integers(0, SIZE - w + 1)
        part = cv2.resize(texture[y:y + h, x:x + w], (width, height))
        if rng.random() < 0.5:
            part = cv2.flip(part, 1)
        if rng.random() < 0.3 and height == width:
            part = cv2.transpose(part)
        return part

    def material(self, rng, index, height, width, zoom):
        choices = self.materials[index]
        return self.crop(rng, choices[rng.integers(0, len(choices))], height, width, zoom)

    def belt(self, rng, height, width, zoom):
        return self.crop(rng, self.belts[rng.integers(0, len(self.belts))], height, width, zoom)
