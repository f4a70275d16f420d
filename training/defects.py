# SPDX-License-Identifier: LGPL-2.1-or-later
"""Eight kinds of defect, each drawn in a small window of its own.

A maker returns a Patch: how a window of the picture changes. pixel' = pixel * (1 - alpha) + alpha * colour + add,
where `colour` is given relative to the mean colour under the window, so that a defect shows on any surface.
`s` is pixels per model pixel: 1 when the picture is drawn at the size the model sees.
"""
from dataclasses import dataclass

import cv2
import numpy as np

KINDS = ("scratch", "crack", "pit", "dent", "stain", "rust", "hole", "inclusion")


@dataclass
class Patch:
    alpha: np.ndarray       # f32 [h, w]
    colour: object          # function of the mean colour under the window -> [3] or [h, w, 3]
    add: np.ndarray         # f32 [h, w] or None
    box: tuple              # x1 y1 x2 y2 inside the window: the visible part


def tight(mask, threshold, pad):
    """The box of what a person would call the defect, pad pixels wider."""
    ys, xs = np.flatnonzero((mask > threshold).any(1)), np.flatnonzero((mask > threshold).any(0))
    return (max(0, xs[0] - pad), max(0, ys[0] - pad),
            min(mask.shape[1], xs[-1] + 1 + pad), min(mask.shape[0], ys[-1] + 1 + pad))


def lines(shape, strokes, width):
    """Anti-aliased open curves: u8 [h, w]. Strokes are float arrays [n, 2] of x, y."""
    mask = np.zeros(shape, np.uint8)
    cv2.polylines(mask, [np.round(p * 16).astype(np.int32) for p in strokes], False, 255, width,
                  cv2.LINE_AA, 4)
    return mask


def window_of(strokes, margin):
    """Shift strokes so that they fit a window with a margin; the window's shape."""
    points = np.concatenate(strokes)
    low, high = points.min(0) - margin, points.max(0) + margin
    return [p - low for p in strokes], (int(high[1] - low[1]) + 2, int(high[0] - low[0]) + 2)


def contrast(rng, low, high):
    """A colour that much lighter or darker than the surface, whichever has room."""
    amount, sign = rng.uniform(low, high), rng.random() < 0.65

    def colour(mean):
        level = mean.mean()
        up = sign if 70 < level < 165 else level <= 165
        return np.clip(mean + (amount if up else -amount), 0, 255)
    return colour


def scratch(rng, s):
    while True:
        length, angle = s * rng.uniform(24, 105), rng.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        bend = length * rng.uniform(-0.14, 0.14) * np.array([-along[1], along[0]])
        t = np.linspace(-0.5, 0.5, 10)[:, None]
        stroke = t * length * along + (0.25 - t * t) * 4 * bend
        if (stroke.max(0) - stroke.min(0)).min() > 7 * s:       # a box a few pixels high says little
            break
    strokes, shape = window_of([stroke], 4 * s)
    width = max(1, int(round(s * rng.uniform(1, 2.3))))
    mask = lines(shape, strokes, width)
    shadow = lines(shape, [strokes[0] + 1.3 * s * np.array([-along[1], along[0]])], width)
    return Patch(mask.astype(np.float32) * (rng.uniform(0.75, 1) / 255), contrast(rng, 60, 115),
                 shadow.astype(np.float32) * (-rng.uniform(10, 35) / 255), tight(mask, 64, s))


def crack(rng, s):
    def walk(start, angle, steps, step):
        points = [start]
        for _ in range(steps):
            angle += rng.uniform(-0.85, 0.85)
            angle -= 0.25 * (angle - first)
            points.append(points[-1] + step * rng.uniform(0.7, 1.3) * np.array([np.cos(angle), np.sin(angle)]))
        return np.array(points)
    first = rng.uniform(0, 2 * np.pi)
    steps = int(rng.integers(5, 14))
    trunk = walk(np.zeros(2), first, steps, s * rng.uniform(4.5, 7.5))
    strokes = [trunk]
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(1, len(trunk) - 1)
        strokes.append(walk(trunk[at], first + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1),
                            int(rng.integers(2, 5)), s * rng.uniform(3, 5.5)))
    strokes, shape = window_of(strokes, 4 * s)
    mask = lines(shape, strokes[:1], max(1, int(round(s * rng.uniform(1.2, 2.4)))))
    mask = np.maximum(mask, lines(shape, strokes[1:], max(1, int(round(s)))))
    dark = rng.uniform(0.08, 0.32)
    return Patch(mask.astype(np.float32) * (rng.uniform(0.85, 1) / 255), lambda mean: mean * dark, None,
                 tight(mask, 64, s))


def disc(rng, radius, margin, flat):
    """Distance field of an ellipse: (distance in pixels from the centre scaled to a circle, angle field)."""
    n = int(radius + margin) * 2 + 1
    y, x = np.mgrid[0:n, 0:n].astype(np.float32) - n // 2
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / flat
    return np.hypot(u, v), x, y


def pit(rng, s):
    radius = s * rng.uniform(2.4, 4.4)
    d, x, y = disc(rng, radius, 3 * s, rng.uniform(0.8, 1))
    mask = np.clip((radius - d) / (0.8 * s) + 0.5, 0, 1)
    light = rng.uniform(0, 2 * np.pi)
    rim = np.exp(-((d - radius - 0.6 * s) / (0.8 * s)) ** 2)
    rim *= np.clip((x * np.cos(light) + y * np.sin(light)) / (radius + 1), 0, 1)
    dark = rng.uniform(0.3, 0.5)
    return Patch(mask * rng.uniform(0.8, 0.95), lambda mean: mean * dark, rim * rng.uniform(25, 55),
                 tight(mask, 0.4, s))


def hole(rng, s):
    radius = s * rng.uniform(7, 17)
    d, _, _ = disc(rng, radius, 4 * s, rng.uniform(0.8, 1))
    mask = np.clip((radius - d) / s + 0.5, 0, 1)
    rim = np.exp(-((d - radius - 1.2 * s) / (1.0 * s)) ** 2)
    black = rng.uniform(3, 22)
    return Patch(mask, lambda mean: np.full(3, black), rim * rng.uniform(20, 60), tight(mask, 0.4, s))


def dent(rng, s):
    radius = s * rng.uniform(11, 27)
    d, x, y = disc(rng, radius, 5 * s, rng.uniform(0.75, 1))
    light = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(light) + y * np.sin(light)) / radius
    field = slope * np.clip(1.15 - d / radius, 0, 1) ** 0.7
    add = field * (rng.uniform(75, 130) / max(field.max(), 1e-3) * 0.6)
    return Patch(np.zeros_like(add), lambda mean: mean, add, tight((d < radius).astype(np.float32), 0.5, 0))


def blob(rng, radius, rough):
    """An irregular patch with soft edges: f32 [n, n] in 0..1."""
    n = int(radius * 1.5) * 2 + 5
    y, x = np.mgrid[0:n, 0:n].astype(np.float32) - n // 2
    angle, stretch = np.arctan2(y, x), rng.uniform(0.65, 1)
    turn = rng.uniform(0, np.pi)
    d = np.hypot(x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch)
    edge = 1
    for k in (2, 3, 5):
        edge = edge + rough * rng.uniform(-0.2, 0.2) * np.cos(k * angle + rng.uniform(0, 6.3))
    return np.clip((radius * edge - d) / (0.16 * radius + 0.8) + 0.5, 0, 1)


def stain(rng, s):
    mask = blob(rng, s * rng.uniform(10, 27), 1)
    tint = rng.choice([[0.42, 0.38, 0.28], [0.5, 0.5, 0.5], [0.35, 0.42, 0.6], [0.32, 0.3, 0.3]])
    tint = np.array(tint) * rng.uniform(0.85, 1.2)
    return Patch(mask * rng.uniform(0.65, 0.9), lambda mean: mean * tint, None, tight(mask, 0.3, 0))


def rust(rng, s):
    mask = blob(rng, s * rng.uniform(9, 25), 1.3)
    n = len(mask)
    grain = cv2.resize(rng.standard_normal((int(n / (2.1 * s)) + 2,) * 2).astype(np.float32), (n, n),
                       interpolation=cv2.INTER_CUBIC)
    speckle = np.clip(grain * 1.8 + 0.55, 0, 1)
    tone = np.array([150, 74, 30]) * rng.uniform(0.75, 1.1) + rng.uniform(-12, 12, 3)
    colour = np.clip(tone + 26 * grain[..., None], 0, 255)
    return Patch(mask * (0.25 + 0.7 * speckle), lambda mean: colour * (0.75 + mean.mean() / 500), None,
                 tight(mask, 0.3, 0))


def inclusion(rng, s):
    count, radius = int(rng.integers(5, 8)), s * rng.uniform(7, 16)
    angles = np.sort(rng.uniform(0, 2 * np.pi, count) * 0.25 + np.arange(count) * 2 * np.pi / count)
    corner = radius * rng.uniform(0.6, 1.1, count)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    (corner,), shape = window_of([corner], 3 * s)
    points = np.round(corner * 16).astype(np.int32)
    mask, edge = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    cv2.polylines(edge, [points], True, 255, max(1, int(round(1.2 * s))), cv2.LINE_AA, 4)
    lift = rng.uniform(60, 110)
    return Patch(mask.astype(np.float32) * (rng.uniform(0.8, 1) / 255),
                 lambda mean: np.clip(mean + lift, 0, 245), edge.astype(np.float32) * (-rng.uniform(60, 110) / 255),
                 tight(np.maximum(mask, edge), 100, 0))


MAKERS = (scratch, crack, pit, dent, stain, rust, hole, inclusion)


def make(rng, kind, s):
    return MAKERS[kind](rng, s)


def apply(picture, patch, left, top):
    """Draw a patch whose window's corner is at (left, top) into u8 [H, W, 3]; what lies outside is cut off."""
    height, width = picture.shape[:2]
    h, w = patch.alpha.shape
    x1, y1, x2, y2 = max(0, left), max(0, top), min(width, left + w), min(height, top + h)
    if x1 >= x2 or y1 >= y2:
        return
    inner = np.s_[y1 - top:y2 - top, x1 - left:x2 - left]
    under = picture[y1:y2, x1:x2].astype(np.float32)
    colour = patch.colour(np.array(cv2.mean(under)[:3]))
    if getattr(colour, "ndim", 1) == 3:
        colour = colour[inner]
    under += patch.alpha[inner][..., None] * (colour.astype(np.float32) - under)
    if patch.add is not None:
        under += patch.add[inner][..., None]
    picture[y1:y2, x1:x2] = np.clip(under, 0, 255)
