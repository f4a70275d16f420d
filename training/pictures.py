# SPDX-License-Identifier: LGPL-2.1-or-later
"""The picture maker: draws a picture and knows everything about it.

    python training/pictures.py --seed 7 --count 24 --sheet out/pictures.png

draws a contact sheet with the captions printed below. A picture comes with facts, a dict:
    scene     surface | belt | empty belt | pattern | strip | other
    material  one of surfaces.MATERIALS (surface, belt)
    name      the pattern's or the strip defect's name (pattern, strip)
    lit       True when light and noise are already as they shall be
    defects   [{kind, box}], box = x1 y1 x2 y2 as fractions of the width and height
"""
import argparse
from pathlib import Path

import cv2
import numpy as np

import defects
import surfaces

cv2.setNumThreads(0)                # one core a worker

MODEL_PIXELS = 224 * 224            # what a large frame is shrunk to; see smart_resize of the processor
COUNTS = (0.2, 0.36, 0.24, 0.13, 0.07)          # share of pictures with 0..4 defects
EDGE = 0.02                         # centres keep this far from the borders of the 3x3 places


def model_scale(height, width):
    """Picture pixels per model pixel."""
    return max(1.0, (height * width / MODEL_PIXELS) ** 0.5)


def near_a_place_border(x, y):
    return min(abs(v - b) for v in (x, y) for b in (1 / 3, 2 / 3)) < EDGE


def overlap(a, b, gap):
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def add_defects(rng, picture, count, s, allowed=None):
    """Draw up to count defects that do not touch each other; their kinds and boxes.

    allowed: bool [H, W], where defects may lie, or None for everywhere. One in six may be cut by the frame's edge.
    """
    height, width = picture.shape[:2]
    boxes, found, kind = [], [], None
    for _ in range(count):
        if kind is None or rng.random() < 0.6:
            kind = int(rng.integers(0, len(defects.KINDS)))
        for _ in range(14):
            patch = defects.make(rng, kind, s)
            bx1, by1, bx2, by2 = patch.box
            bw, bh = bx2 - bx1, by2 - by1
            if bw > width * 0.9 or bh > height * 0.9:
                continue
            cut = 0.4 if rng.random() < 0.16 else 0
            x = rng.uniform(-cut * bw, width - (1 - cut) * bw)
            y = rng.uniform(-cut * bh, height - (1 - cut) * bh)
            left, top = int(round(x - bx1)), int(round(y - by1))
            full = (left + bx1, top + by1, left + bx2, top + by2)
            box = (max(0, full[0]), max(0, full[1]), min(width, full[2]), min(height, full[3]))
            if (box[2] - box[0]) * (box[3] - box[1]) < 0.58 * bw * bh:
                continue
            if near_a_place_border((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height):
                continue
            if any(overlap(full, other, 5 * s) for other in boxes):
                continue
            if allowed is not None and not all(
                    allowed[min(height - 1, max(0, int(v))), min(width - 1, max(0, int(u)))]
                    for u in (box[0], box[2], (box[0] + box[2]) / 2) for v in (box[1], box[3])):
                continue
            defects.apply(picture, patch, left, top)
            boxes.append(full)
            found.append({"kind": defects.KINDS[kind],
                          "box": (box[0] / width, box[1] / height, box[2] / width, box[3] / height)})
            break
    return found


def capture(rng, picture, s, moving):
    """What a camera does before light and noise: blur of motion or focus, now and then JPEG."""
    if moving and rng.random() < 0.6:
        picture = cv2.blur(picture, (int(rng.integers(1, int(5 * s) + 2)), 1))
    elif rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), s * rng.uniform(0.3, 0.8))
    if rng.random() < 0.08:
        picture = recode(picture, int(rng.integers(55, 95)))
    return picture


# Light and noise as shares and ranges, here and where the training does the same on whole batches (train.py)
LIGHT = dict(uneven=(0.6, 0.02, 0.11), exposure=(0.6, 0.75, 1.15), grey=0.25, tint=(0.25, 0.93, 1.07),
             noise=(0.6, 1, 6))


def develop(rng, picture):
    """Uneven light, exposure, colour and sensor noise: u8 [H, W, 3] in and out."""
    height, width = picture.shape[:2]
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    gain = np.ones((height, width), np.float32)
    share, low, high = LIGHT["uneven"]
    if rng.random() < share:
        c = rng.uniform(low, high) * rng.standard_normal(5).clip(-1.8, 1.8).astype(np.float32)
        gain += c[0] * x + c[1] * y + c[2] * (x * x - 1 / 3) + c[3] * (y * y - 1 / 3) + c[4] * x * y
    share, low, high = LIGHT["exposure"]
    if rng.random() < share:
        gain *= rng.uniform(low, high)
    out = picture * gain[..., None]
    if rng.random() < LIGHT["grey"]:
        out = np.repeat(np.dot(out, np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
    share, low, high = LIGHT["tint"]
    if rng.random() < share:
        out *= rng.uniform(low, high, 3).astype(np.float32)
    share, low, high = LIGHT["noise"]
    if rng.random() < share:
        out += np.float32(rng.uniform(low, high)) * rng.standard_normal((height, width, 1), np.float32)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def recode(picture, quality):
    """Through JPEG and back."""
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


class Part:
    """The outline of a part on the belt: a plate or a disc."""

    def __init__(self, centre, size, turn, round_part):
        self.centre, self.round = centre, round_part
        self.size, self.turn = size, turn

    def corners(self, less=0):
        c, d = np.cos(self.turn), np.sin(self.turn)
        half = (np.array(self.size) - less) / 2
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ np.array([[c, d], [-d, c]])
        return [np.round((corners + self.centre) * 16).astype(np.int32)]

    def fill(self, mask, less=0):
        """Paint it on u8 [H, W], less pixels smaller."""
        if self.round:
            cv2.circle(mask, tuple(int(round(v * 16)) for v in self.centre), int((self.size[1] - less) * 8), 255, -1,
                       cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, self.corners(less), 255, cv2.LINE_AA, 4)

    def edge(self, picture, colour, width):
        if self.round:
            cv2.circle(picture, tuple(int(round(v * 16)) for v in self.centre), int(self.size[1] * 8), colour, width,
                       cv2.LINE_AA, 4)
        else:
            cv2.polylines(picture, self.corners(), True, colour, width, cv2.LINE_AA, 4)


def lay_parts(picture, texture, parts, s):
    """Put parts of one texture on the belt, with a shadow and a bright edge: the new picture, u8."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    for part in parts:
        part.fill(mask)
    step = int(3 * s)
    shadow = np.zeros_like(mask)
    shadow[step:, step:] = mask[:-step, :-step]
    dark = cv2.blur(shadow, (int(7 * s) | 1,) * 2).astype(np.float32) * np.float32(0.55 / 255)
    picture = cv2.blendLinear(picture, np.zeros_like(picture), 1 - dark, dark)
    a = mask.astype(np.float32) * np.float32(1 / 255)
    picture = cv2.blendLinear(picture, texture, 1 - a, a)
    light = [min(255, v + 22) for v in cv2.mean(texture)[:3]]
    for part in parts:
        part.edge(picture, light, max(1, int(round(s))))
    return picture


DEVELOPED = ("surface", "belt", "empty belt", "other")
SCENES = {"surface": 0.58, "belt": 0.28, "other": 0.025, "pattern": 0.13, "strip": 0.18, "negative": 0.44}


def needs_light(facts):
    """Whether light and noise come after the drawing: develop(), or the training's on the device."""
    return facts["scene"] in DEVELOPED and not facts.get("lit")


class PictureMaker:
    """Draws pictures from one seed's textures. patterns, strips, negatives: banks, or None to leave those scenes out."""

    def __init__(self, seed, per_material=3, patterns=None, strips=None, negatives=None):
        self.bank = surfaces.Bank(seed, per_material)
        self.patterns, self.strips, self.negatives = patterns, strips, negatives

    def surface(self, rng, height, width, s):
        material = int(rng.integers(0, len(surfaces.MATERIALS)))
        picture = self.bank.material(rng, material, height, width, s * rng.uniform(0.6, 1.5))
        found = add_defects(rng, picture, int(rng.choice(5, p=COUNTS)), s)
        return capture(rng, picture, s, rng.random() < 0.25), \
            {"scene": "surface", "material": surfaces.MATERIALS[material], "defects": found}

    def belt(self, rng, height, width, s):
        picture = self.bank.belt(rng, height, width, s * rng.uniform(0.7, 1.5))
        if rng.random() < 0.07:
            return capture(rng, picture, s, True), {"scene": "empty belt", "defects": []}
        material = int(rng.integers(0, len(surfaces.MATERIALS)))
        texture = self.bank.material(rng, material, height, width, s * rng.uniform(0.6, 1.3))
        round_part = rng.random() < 0.2
        part_height = height * rng.uniform(0.6, 1.05)
        part_width = part_height if round_part else max(width * rng.uniform(0.5, 1.0), part_height * 0.8)
        turn = 0 if rng.random() < 0.6 else rng.uniform(-0.12, 0.12)
        x, y = width * rng.uniform(0.0, 1.0), height * rng.uniform(0.42, 0.58)
        pitch = part_width * rng.uniform(1.08, 1.5)
        parts = [Part((x + step, y), (part_width, part_height), turn, round_part) for step in (0, -pitch, pitch)
                 if step == 0 or -part_width / 2 < x + step < width + part_width / 2]
        picture = lay_parts(picture, texture, parts, s)
        inner = np.zeros((height, width), np.uint8)
        for part in parts:
            part.fill(inner, 8 * s)
        found = add_defects(rng, picture, int(rng.choice(5, p=COUNTS)), s, inner > 128)
        return capture(rng, picture, s, True), \
            {"scene": "belt", "material": surfaces.MATERIALS[material], "defects": found}

    def pattern(self, rng, height, width, s):
        name, picture = self.patterns.pick(rng, height, width)
        if rng.random() < 0.5:
            picture = picture * np.float32(rng.uniform(0.85, 1.0)) + np.float32(rng.uniform(0, 8)) \
                + np.float32(rng.uniform(0, 3)) * rng.standard_normal((height, width, 1), np.float32)
            picture = np.clip(picture, 0, 255).astype(np.uint8)
        return picture, {"scene": "pattern", "name": name, "defects": []}

    def strip(self, rng, height, width, s):
        name, picture = self.strips.pick(rng, height, width)
        return picture, {"scene": "strip", "name": name, "defects": []}

    def other(self, rng, height, width, s):
        """Anything else: overlapping shapes of all sizes and colours, as photographs have."""
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = rng.uniform(0, 255, 3).astype(np.uint8)
        for _ in range(int(rng.integers(12, 90))):
            radius = s * min(120, 4 / max(rng.random(), 0.03) ** 1.2)
            centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
            colour = rng.uniform(0, 255, 3)
            if rng.random() < 0.5:
                cv2.ellipse(picture, centre, (max(1, int(radius)), max(1, int(radius * rng.uniform(0.3, 1)))),
                            rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
            else:
                points = np.array(centre) + radius * rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2))
                cv2.fillPoly(picture, [points.astype(np.int32)], colour, cv2.LINE_AA)
        if rng.random() < 0.6:
            picture = cv2.GaussianBlur(picture, (0, 0), s * rng.uniform(0.5, 2.5))
        for _ in range(int(rng.integers(0, 3))):
            cv2.putText(picture, "".join(rng.choice(list("abcdeghkmnoprstuABCDER0123456789"), 5)),
                        (int(rng.uniform(0, width * 0.7)), int(rng.uniform(15, height))),
                        cv2.FONT_HERSHEY_SIMPLEX, s * rng.uniform(0.4, 1), rng.uniform(0, 255, 3), 1 + int(s))
        return capture(rng, picture, s, False), \
            {"scene": "other", "defects": []}

    def negative(self, rng, height, width, s):
        """A photograph, a page or another surface. Some have defects drawn on: those alone make no metal either."""
        picture, surface = self.negatives.draw(rng, height, width)
        if surface and rng.random() < 0.15:
            add_defects(rng, picture, int(rng.integers(1, 4)), s)
        return picture, {"scene": "other", "defects": [], "lit": bool(rng.random() < 0.5)}

    def draw(self, rng, height, width, scene=None):
        """A picture u8 [height, width, 3] (RGB) and its facts."""
        picture, facts = self.scene(rng, height, width, scene)
        return (develop(rng, picture) if needs_light(facts) else picture), facts

    def scene(self, rng, height, width, scene=None):
        """The same before light and noise."""
        if scene is None:
            banks = {"pattern": self.patterns, "strip": self.strips, "negative": self.negatives}
            scenes = [name for name in SCENES if banks.get(name, self) is not None]
            weight = np.array([SCENES[name] for name in scenes])
            scene = scenes[rng.choice(len(scenes), p=weight / weight.sum())]
        return getattr(self, scene)(rng, height, width, model_scale(height, width))


def main():
    import words
    from banks import Strips
    from patterns import Patterns
    parser = argparse.ArgumentParser(description="Draw a contact sheet of made pictures.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--scene")
    parser.add_argument("--size", default="224x224", help="WIDTHxHEIGHT of each picture")
    parser.add_argument("--strips", help="folder of the X-SDD pictures")
    parser.add_argument("--sheet", default="out/pictures.png")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    maker = PictureMaker(args.seed, 1, Patterns(), Strips(args.strips, "train") if args.strips else None)
    rng = np.random.default_rng(args.seed)
    tiles = []
    for i in range(args.count):
        picture, facts = maker.draw(rng, height, width, args.scene)
        picture = picture.copy()
        for one in facts["defects"]:
            x1, y1, x2, y2 = (np.array(one["box"]) * [width, height, width, height]).astype(int)
            cv2.rectangle(picture, (x1, y1), (x2, y2), (0, 255, 0), 1)
        tiles.append(picture)
        print(i, words.caption(facts, "en"), words.caption(facts, "zh"))
    columns = max(1, min(6, args.count))
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    sheet = np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)])
    Path(args.sheet).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(args.sheet, sheet[..., ::-1])


if __name__ == "__main__":
    main()
