# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pack pictures of other things, shrunk, into two files: one to train on, one to measure on.

    python training/make_negatives.py --sources FOLDER --out FOLDER

--sources holds a folder a source, named as in negatives.tsv: a Debian package unpacked (dpkg -x), or a repository checked out.
Writes negatives-train.zip and negatives-test.zip: kind/source/says/number.webp. No source is in both. The pictures
are not part of this repository.
"""
import argparse
import csv
import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

TABLE = Path(__file__).parent / "negatives.tsv"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tga", ".pat")
LONGEST = {"train": 264, "test": 320}       # pixels
QUALITY = {"train": 76, "test": 86}          # of WebP
CROP = 224                                  # pixels a side of a part taken unshrunk, or at half size
SMALLEST, FLATTEST = 48, 6.0                # pixels a side; standard deviation of the grey values


def rows():
    with open(TABLE, encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read(file):
    """RGB, upright, transparent parts white; None for what is no picture or has nothing on it."""
    try:
        if file.suffix == ".pat":                               # GIMP's patterns: a header, then the pixels
            data = file.read_bytes()
            size, _, width, height, channels = struct.unpack(">5I", data[:20])
            pixels = np.frombuffer(data, np.uint8, width * height * channels, size).reshape(height, width, channels)
            picture = Image.fromarray(pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, 2))
        else:
            picture = ImageOps.exif_transpose(Image.open(file))
            if picture.mode in ("P", "LA", "RGBA", "PA"):
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return picture if min(picture.size) >= SMALLEST else None


def flat(picture):
    return np.asarray(picture.convert("L").resize((64, 64))).std() < FLATTEST


def cells(sheet):
    """The pictures of a contact sheet of ambientCG's previews: 128x128, 144 apart, 176 between the rows."""
    for top in range(16, sheet.height - 128, 176):
        for left in range(16, sheet.width - 127, 144):
            cell = sheet.crop((left + 2, top + 2, left + 126, top + 126))
            if np.asarray(cell).min() < 250:
                yield cell


def parts(rng, picture, count):
    """Squares out of a large picture, at full and at half size."""
    for k in range(count):
        side = CROP * (1 + k % 2)
        if min(picture.size) >= 2 * side:
            x, y = (int(rng.integers(0, n - side + 1)) for n in picture.size)
            yield picture.crop((x, y, x + side, y + side)).resize((CROP, CROP), Image.Resampling.LANCZOS)


def pictures(rng, row, folder):
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()
                   and re.search(row["files"], f.relative_to(folder).as_posix()))
    rng.shuffle(files)
    found = 0
    for file in files:
        picture = read(file)
        if picture is None:
            continue
        if row["crops"] == "sheet":
            for cell in cells(picture):
                if found < int(row["at_most"]) and not flat(cell):
                    found += 1
                    yield cell
            continue
        if found >= int(row["at_most"]):
            return
        if flat(picture):
            continue
        found += 1
        longest = LONGEST[row["part"]]
        small = picture.copy()
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3)
        if min(small.size) >= SMALLEST:
            yield small
        for part in parts(rng, picture, int(row["crops"])):
            if not flat(part):
                yield part


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    table = rows()
    both = {r["name"] for r in table if r["part"] == "train"} & {r["name"] for r in table if r["part"] == "test"}
    assert not both, both
    missing = sorted({r["name"] for r in table if not (args.sources / r["name"]).is_dir()})
    if missing:
        raise SystemExit(f"{args.sources}: no folder for {', '.join(missing)}; negatives.tsv tells where they come from")
    args.out.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        with zipfile.ZipFile(args.out / f"negatives-{part}.zip", "w", zipfile.ZIP_STORED) as out:
            for number, row in enumerate(r for r in table if r["part"] == part):
                count, size = 0, 0
                for picture in pictures(np.random.default_rng([31, number]), row, args.sources / row["name"]):
                    data = io.BytesIO()
                    picture.save(data, "WEBP", quality=QUALITY[part])
                    name = f"{row['kind']}/{row['name']}/{row['says'] or 'any'}/{count:04}.webp"
                    out.writestr(zipfile.ZipInfo(name), data.getvalue())        # no dates: the same file each time
                    count, size = count + 1, size + data.tell()
                print(f"{part:5} {row['kind']:8} {row['name']:28} {count:5} pictures {size / 1e6:6.1f} MB", flush=True)


if __name__ == "__main__":
    main()
