# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drawn things that are no surface: pages of text, screens with windows, charts, gradients, noise."""
import cv2
import numpy as np

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
         cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-:()")


def word(rng):
    return "".join(rng.choice(LETTERS, int(rng.integers(2, 10))))


def colour(rng, low=0, high=255):
    return [int(v) for v in rng.uniform(low, high, 3)]


def lines(rng, picture, box, ink, size):
    """Rows of words in box (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    font, step = FONTS[int(rng.integers(0, len(FONTS)))], max(6, int(size * 34 * rng.uniform(0.9, 1.6)))
    for y in range(y1 + step, y2, step):
        if rng.random() < 0.9:
            end = x2 - int(rng.uniform(0, 0.4) * (x2 - x1))
            text = " ".join(word(rng) for _ in range(max(1, int((end - x1) / (size * 100)))))
            cv2.putText(picture, text, (x1, y), font, size, ink, 1 + int(size * 1.4), cv2.LINE_AA)


def page(rng, height, width, photo):
    dark = rng.random() < 0.25
    picture = np.full((height, width, 3), colour(rng, *((0, 60) if dark else (190, 255))), np.uint8)
    columns = int(rng.integers(1, 4))
    for k in range(columns):
        x1, x2 = width * k // columns + 6, width * (k + 1) // columns - 4
        lines(rng, picture, (x1, int(rng.uniform(0, 0.3) * height), x2, height), colour(rng, *((150, 255) if dark else (0, 110))),
              rng.uniform(0.25, 0.9))
    return picture


def screen(rng, height, width, photo):
    """A desktop: a background, then windows with title bars, text and pictures."""
    picture = cv2.resize(photo(), (width, height)) if rng.random() < 0.4 else np.full((height, width, 3), colour(rng), np.uint8)
    for _ in range(int(rng.integers(1, 6))):
        w, h = (int(rng.uniform(0.25, 0.9) * n) for n in (width, height))
        x, y = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
        back = colour(rng, 200, 255) if rng.random() < 0.7 else colour(rng, 10, 70)
        cv2.rectangle(picture, (x, y), (x + w, y + h), back, -1)
        cv2.rectangle(picture, (x, y), (x + w, y + max(6, height // 24)), colour(rng), -1)
        if rng.random() < 0.45:
            inner_h, inner_w = max(8, h - height // 8), max(8, w - 8)
            part = cv2.resize(photo(), (inner_w, inner_h))
            target = picture[y + height // 16:y + height // 16 + inner_h, x + 4:x + 4 + inner_w]
            target[:] = part[:target.shape[0], :target.shape[1]]
        else:
            lines(rng, picture, (x + 4, y + height // 20, x + w - 4, y + h), colour(rng, 0, 120) if sum(back) > 380 else
                  colour(rng, 150, 255), rng.uniform(0.25, 0.6))
    return picture


def chart(rng, height, width, photo):
    picture = np.full((height, width, 3), colour(rng, 200, 255), np.uint8)
    left, bottom = int(0.12 * width), int(0.88 * height)
    for y in np.linspace(0.1, 0.88, int(rng.integers(3, 8))):
        cv2.line(picture, (left, int(y * height)), (width - 8, int(y * height)), colour(rng, 160, 220), 1)
    n, kind = int(rng.integers(4, 24)), int(rng.integers(0, 3))
    x = np.linspace(left, width - 10, n).astype(int)
    for _ in range(int(rng.integers(1, 4))):
        y = (bottom - np.abs(np.cumsum(rng.normal(0, 0.12, n))).clip(0, 0.78) * height).astype(int)
        ink = colour(rng)
        if kind == 0:
            cv2.polylines(picture, [np.stack([x, y], 1).astype(np.int32)], False, ink, int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            for a, b in zip(x, y):
                if kind == 1:
                    cv2.rectangle(picture, (int(a), int(b)), (int(a + 0.6 * (width - left) / n), bottom), ink, -1)
                else:
                    cv2.circle(picture, (int(a), int(b)), int(rng.integers(2, 6)), ink, -1, cv2.LINE_AA)
    cv2.putText(picture, word(rng), (left, int(0.08 * height)), FONTS[0], rng.uniform(0.4, 0.8), (30, 30, 30), 1, cv2.LINE_AA)
    return picture


def collage(rng, height, width, photo):
    """Photographs beside each other."""
    picture, columns, rows = np.zeros((height, width, 3), np.uint8), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    ys, xs = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
    for y1, y2 in zip(ys, ys[1:]):
        for x1, x2 in zip(xs, xs[1:]):
            picture[y1:y2, x1:x2] = cv2.resize(photo(), (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_AREA)
    return picture


def drawn_page(rng, height, width, photo):
    """One of them; photo() gives a photograph for screens and collages."""
    make = (page, screen, chart, collage)[rng.choice(4, p=(0.35, 0.3, 0.15, 0.2))]
    return make(rng, height, width, photo)
