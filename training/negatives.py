# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of everything else: photographs and other surfaces packed by make_negatives.py, changed a great deal.

    Negatives(file).draw(rng, height, width) -> u8 [height, width, 3] (RGB)

Half of what is grey goes through the very same change as the steel strips of X-SDD, so that neither being grey nor light,
noise, blur or JPEG tells a strip: what is on it has to.
"""
import zipfile

import cv2
import numpy as np

from banks import Strips
from documents import drawn_page

FLATTEST, SMOOTHEST = 3.5, 1.0      # standard deviation of the grey values, of all and less what is large: with less there
#                                     is nothing to see, and drawn metal can look the same
SHARES = {"everyday": 0.36, "surface": 0.57, "page": 0.07}


def unpack(file):
    """[(kind, source, says, picture)] of a file of make_negatives.py."""
    out = []
    with zipfile.ZipFile(file) as packed:
        for name in packed.namelist():
            kind, source, says, _ = name.split("/")
            picture = cv2.imdecode(np.frombuffer(packed.read(name), np.uint8), cv2.IMREAD_COLOR)
            out.append((kind, source, says, np.ascontiguousarray(picture[..., ::-1])))
    if not out:
        raise SystemExit(f"{file}: no pictures")
    return out


def empty(picture):
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32)
    dark = np.clip(small.mean() / 60, 0.2, 1)       # a dark picture may be flat: drawn metal is never that dark
    return small.std() < FLATTEST * dark or (small - cv2.GaussianBlur(small, (0, 0), 5)).std() < SMOOTHEST * dark


def grey(picture):
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


def window(rng, picture, height, width, smallest):
    """A part of the picture with about the aspect asked for, smallest..1 of what fits, turned and mirrored; resized."""
    if rng.random() < 0.5:
        picture = cv2.flip(picture, 1)
    h, w = picture.shape[:2]
    aspect = width / height * np.exp(rng.uniform(-0.2, 0.2))
    fits = min(h, w / aspect)
    high = fits * np.exp(rng.uniform(np.log(smallest), 0))
    y, x, high, wide = rng.uniform(0, h - high), rng.uniform(0, w - high * aspect), high, high * aspect
    part = picture[int(y):int(y + high) + 1, int(x):int(x + wide) + 1]
    large = part.shape[0] > height
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if large else
                      (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(0, 2))])


def streaks(rng, picture):
    """Smeared along one direction, as ground and drawn surfaces are."""
    n = 2 * int(rng.integers(3, 14)) + 1
    kernel = np.zeros((n, n), np.float32)
    turn, reach = rng.uniform(0, np.pi), n // 2
    a, b = int(round(reach * np.cos(turn))), int(round(reach * np.sin(turn)))
    cv2.line(kernel, (reach - a, reach - b), (reach + a, reach + b), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def edges(rng, picture):
    """The surface ends somewhere: bands of another brightness at one or two sides."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for side in rng.choice(4, int(rng.integers(1, 3)), replace=False):
        depth = rng.uniform(0.06, 0.3)
        if side == 0:
            mask[:, :int(depth * width)] = 1
        elif side == 1:
            mask[:, -int(depth * width) - 1:] = 1
        elif side == 2:
            mask[:int(depth * height)] = 1
        else:
            mask[-int(depth * height) - 1:] = 1
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.8, 8))[..., None]
    return (picture * (1 - mask) + mask * rng.uniform(5, 230)).astype(np.uint8)


def dimmed(rng, picture):
    """In hardly any light; often the middle or a corner is lit more than the rest."""
    out = picture.astype(np.float32) * rng.uniform(0.05, 0.4)
    if rng.random() < 0.4:
        height, width = picture.shape[:2]
        lamp = np.zeros((height, width), np.float32)
        at = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        cv2.circle(lamp, at, int(min(height, width) * rng.uniform(0.05, 0.3)), 1.0, -1)
        lamp = cv2.GaussianBlur(lamp, (0, 0), rng.uniform(2, 0.15 * min(height, width)))[..., None]
        out = out * (1 + rng.uniform(0.5, 4) * lamp) + rng.uniform(0, 60) * lamp
    return np.clip(out, 0, 255).astype(np.uint8)


def exposure(rng, picture):
    """Another brightness and contrast; now and then hardly any light."""
    out = picture.astype(np.float32)
    mean = out.mean((0, 1))
    low = rng.uniform(0.08, 0.45) if rng.random() < 0.22 else rng.uniform(0.7, 1.3)
    return np.clip((mean + (out - mean) * np.exp(rng.uniform(-0.8, 0.4))) * low, 0, 255).astype(np.uint8)


class Negatives:
    """The pictures stay in memory decoded; make one before the workers start, and they share it."""

    def __init__(self, file):
        self.by_source, self.names, share = {}, {"everyday": [], "surface": []}, {"everyday": [], "surface": []}
        for kind, source, _, picture in unpack(file):
            self.by_source.setdefault((kind, source), []).append(picture)
        for kind, source in sorted(self.by_source):
            self.names[kind].append((kind, source))
            share[kind].append(len(self.by_source[kind, source]) ** 0.6)
        self.share = {kind: np.array(s) / sum(s) for kind, s in share.items()}

    def pick(self, rng, kind):
        names = self.names[kind]
        pool = self.by_source[names[rng.choice(len(names), p=self.share[kind])]]
        return pool[int(rng.integers(0, len(pool)))]

    def draw(self, rng, height, width):
        """(picture, whether it is a surface): never one with nothing to see."""
        for _ in range(8):
            kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
            picture = self.one(rng, kind, height, width)
            if not empty(picture):
                break
        return picture, kind == "surface"

    def one(self, rng, kind, height, width):
        if kind == "page":
            picture = drawn_page(rng, height, width, lambda: self.pick(rng, "everyday"))
        else:
            whole = kind == "everyday" and rng.random() < 0.55
            picture = self.pick(rng, kind)
            if rng.random() < (0.3 if kind == "surface" else 0.03):
                picture = np.rot90(picture, int(rng.integers(1, 4)))
            picture = window(rng, picture, height, width, 0.7 if whole else 0.22)
        if rng.random() < (0.68 if kind == "surface" else 0.25):
            if rng.random() < 0.5:                              # as a strip is changed, in every way
                side = min(height, width)
                square = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (side, side))
                picture = Strips.change(rng, square, height, width)
                return dimmed(rng, picture) if rng.random() < 0.3 else picture
            picture = grey(picture)
        if kind == "surface" and rng.random() < 0.2:
            picture = streaks(rng, picture)
        if kind == "surface" and rng.random() < 0.16:
            picture = edges(rng, picture)
        if kind == "surface" and rng.random() < 0.15:
            picture = dimmed(rng, picture)
        elif rng.random() < 0.6:
            picture = exposure(rng, picture)
        if rng.random() < 0.25:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.6))
        if rng.random() < 0.4:
            done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 92))])
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(picture)
