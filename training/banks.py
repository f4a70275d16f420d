# SPDX-License-Identifier: LGPL-2.1-or-later
"""The X-SDD steel strips: pictures that are not drawn."""
import csv
from pathlib import Path

import cv2
import numpy as np

HELD_OUT = Path(__file__).parent / "x-sdd-held-out.txt"
SPLIT_SEED = 20


def split(index):
    """(held out, training) file names: a tenth of every class is set aside."""
    with open(index, encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rng, held = np.random.default_rng(SPLIT_SEED), set()
    for name in sorted({row["class"] for row in rows}):
        files = sorted(row["file"] for row in rows if row["class"] == name)
        held |= set(rng.choice(files, round(len(files) / 10), replace=False))
    return [r for r in rows if r["file"] in held], [r for r in rows if r["file"] not in held]


class Strips:
    """X-SDD, part = train or held-out. Every picture is decoded and, after its augmentation, re-encoded alike:
    only one class has PNG files, and the format must not give it away."""

    def __init__(self, folder, part):
        held, train = split(Path(folder) / "index.tsv")
        if part == "train":
            listed = set(HELD_OUT.read_text().split())
            if listed != {row["file"] for row in held}:
                raise SystemExit(f"{HELD_OUT} does not list the files that are set aside")
        self.by_class = {}
        for row in train if part == "train" else held:
            picture = cv2.imread(str(Path(folder) / row["file"]), cv2.IMREAD_GRAYSCALE)
            self.by_class.setdefault(row["class"], []).append((row["file"], picture))
        self.names = sorted(self.by_class)
        weight = np.array([len(self.by_class[name]) for name in self.names]) ** 0.5
        self.share = weight / weight.sum()

    def pick(self, rng, height, width):
        """A training picture, changed a great deal, at the asked size."""
        name = self.names[rng.choice(len(self.names), p=self.share)]
        pool = self.by_class[name]
        return name, self.change(rng, pool[rng.integers(0, len(pool))][1], height, width)

    @staticmethod
    def change(rng, picture, height, width):
        n = picture.shape[0]
        centre = np.array([n / 2, n / 2])
        if rng.random() < 0.85:
            zoom = rng.uniform(0.62, 1.0)
            # a window of the strip with another aspect, slightly turned; the rest is mirrored in
            wide = n * zoom * np.exp(rng.uniform(-0.22, 0.22))
            high = n * zoom * np.exp(rng.uniform(-0.22, 0.22))
            turn = rng.normal(0, 0.07)
            centre = centre + rng.uniform(-0.5, 0.5, 2) * np.maximum(0, n - np.array([wide, high]))
        else:
            wide = high = n
            turn = 0.0
        c, s = np.cos(turn), np.sin(turn)
        a = np.array([[c * wide / width, -s * high / height], [s * wide / width, c * high / height]])
        if rng.random() < 0.5:
            a[:, 0] *= -1
        if rng.random() < 0.5:
            a[:, 1] *= -1
        b = centre - a @ [width / 2, height / 2]
        out = cv2.warpAffine(picture, np.column_stack([a, b]), (width, height),
                             flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)
        out = out.astype(np.float32)
        if rng.random() < 0.8:
            mean = out.mean()
            out = mean * rng.uniform(0.8, 1.25) + (out - mean) * rng.uniform(0.65, 1.4)
        if rng.random() < 0.4:
            gain = 1 + 0.12 * rng.standard_normal((3, 3)).astype(np.float32)
            out *= cv2.resize(gain, (width, height), interpolation=cv2.INTER_CUBIC)
        if rng.random() < 0.3:
            out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.2))
        if rng.random() < 0.4:
            out += rng.uniform(1, 6) * rng.standard_normal(out.shape).astype(np.float32)
        if rng.random() < 0.35:                     # hide a part
            h, w = (rng.uniform(0.1, 0.4, 2) * [height, width]).astype(int)
            y, x = rng.integers(0, height - h), rng.integers(0, width - w)
            out[y:y + h, x:x + w] = out.mean()
        out = np.clip(out, 0, 255).astype(np.uint8)
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])[1],
                           cv2.IMREAD_GRAYSCALE)
        return np.repeat(out[..., None], 3, 2)


def main():
    import sys
    held, _ = split(Path(sys.argv[1]) / "index.tsv")
    HELD_OUT.write_text("".join(row["file"] + "\n" for row in held))


if __name__ == "__main__":
    main()
