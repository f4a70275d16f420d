# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the few pictures of known and unknown things that are committed, and the picture of the model card.

    python training/make_examples.py --sources FOLDER --strips X-SDD    writes tests/data/surface-tiny/examples/*.png
    python training/make_examples.py                                    asks the model about them, through transformers, and
                                                                        writes models/surface-tiny/answers.png

--sources is make_negatives.py's folder. Only what may be passed on is taken: CC0-1.0, Apache-2.0 and what is drawn here. The
photographs and strips were not trained on. Names begin with known- or unknown-: what the engine's test expects of an answer.
"""
import argparse
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

import words
from make_negatives import cells, read
from make_tokenizer import MODEL
from pictures import PictureMaker

FOLDER = MODEL.parent.parent / "tests" / "data" / "surface-tiny" / "examples"
SIDE, COLOURS = 126, 128                    # of a photograph: pixels a side, colours of its palette
PHOTOGRAPHS = {
    "unknown-shoes": "clothing/train/shoes/d10acc75-b240-4e72-822e-7f1279ed7caa.jpg",
    "unknown-sweater": "clothing/train/longsleeve/9ed46a0d-2b44-4594-a0ee-7323c6d87919.jpg",
    "unknown-trousers": "clothing/test/pants/122f0c94-4f37-4010-8c43-06d79bdf4433.jpg",
}
SHEETS = {"unknown-concrete": ("ambientcg/previews/Concrete.webp", 7), "unknown-bricks": ("ambientcg/previews/Bricks.webp", 12)}
STRIPS = {"known-strip-scratch": "surface_scratch", "known-strip-printing": "finishing_roll_printing"}
DRAWN = {"known-sheet": ("surface", 112, 168, 3), "known-belt": ("belt", 90, 160, 5)}      # scene, height, width, seed
PAGE = """Incoming inspection
Order 4711, lot 3
12 parts, 11 passed
1 returned: thread M6
Checked by: A. Lin
来料检验 第三批
十二件 合格十一件"""
TILE, MARGIN, PER_ROW, TEXT, LINES = 172, 12, 5, 13, 5


def font(size):
    """One with Latin and Chinese letters, as fontconfig knows it."""
    name = "WenQuanYi Micro Hei"
    file = subprocess.run(["fc-match", "-f", "%{file}", name], check=True, stdout=subprocess.PIPE, text=True).stdout
    if "wqy" not in file:
        raise SystemExit(f"font {name} is not installed (Debian package fonts-wqy-microhei)")
    return ImageFont.truetype(file, size)


def page():
    picture = Image.new("L", (168, 126), 250)
    ImageDraw.Draw(picture).multiline_text((10, 6), PAGE, 25, font(12), spacing=4)
    return picture


def pictures(sources, strips):
    """[(name, picture)], all small."""
    for name, file in PHOTOGRAPHS.items():
        yield name, ImageOps.fit(read(sources / file), (SIDE, SIDE), Image.Resampling.LANCZOS).quantize(COLOURS)
    for name, (sheet, index) in SHEETS.items():
        yield name, list(cells(read(sources / sheet)))[index].quantize(COLOURS)
    yield "unknown-page", page()
    held_out = (Path(__file__).parent / "x-sdd-held-out.txt").read_text().split()
    for name, kind in STRIPS.items():
        yield name, Image.open(strips / next(file for file in held_out if file.startswith(kind + "/"))).convert("L")
    for name, (scene, height, width, seed) in DRAWN.items():
        maker = PictureMaker(seed, 1)
        facts = {"defects": []}
        rng = np.random.default_rng(seed)
        while len(facts["defects"]) != 1:
            picture, facts = maker.draw(rng, height, width, scene)
        yield name, Image.fromarray(picture).quantize(COLOURS)


def folded(draw, text, lang, letters, width):
    """Text in lines that fit; Chinese may be broken anywhere but before a full stop, which may stand out."""
    rows, gap = [""], "" if lang == "zh" else " "
    for piece in text if lang == "zh" else text.split():
        longer = rows[-1] + gap + piece if rows[-1] else piece
        if piece == "。" or draw.textlength(longer, letters) <= width:
            rows[-1] = longer
        else:
            rows.append(piece)
    return "\n".join(rows)


def card(answers):
    """[(picture, English, Chinese)] as tiles with their answers below."""
    letters, high = font(TEXT), TILE + LINES * (TEXT + 5)
    rows = -(-len(answers) // PER_ROW)
    out = Image.new("RGB", (PER_ROW * (TILE + MARGIN) + MARGIN, rows * (high + MARGIN) + MARGIN), "white")
    draw = ImageDraw.Draw(out)
    for k, (picture, *texts) in enumerate(answers):
        x, y = MARGIN + k % PER_ROW * (TILE + MARGIN), MARGIN + k // PER_ROW * (high + MARGIN)
        picture = ImageOps.contain(picture, (TILE, TILE), Image.Resampling.BICUBIC)
        out.paste(picture, (x, y + TILE - picture.height))
        text = "\n".join(folded(draw, t, lang, letters, TILE) for t, lang in zip(texts, ("en", "zh")))
        draw.multiline_text((x, y + TILE + 4), text, "black", letters, spacing=4)
    return out.quantize(COLOURS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--strips", type=Path)
    args = parser.parse_args()
    if args.sources and args.strips:
        FOLDER.mkdir(exist_ok=True)
        for name, picture in pictures(args.sources, args.strips):
            picture.save(FOLDER / f"{name}.png", optimize=True)
        return print(f"{FOLDER}: {sum(file.stat().st_size for file in FOLDER.glob('*.png'))} bytes")
    from evaluate import Reference
    reference, answers = Reference(), []
    for file in sorted(FOLDER.glob("*.png"), key=lambda f: (f.name.startswith("unknown"), f.name)):
        picture = Image.open(file).convert("RGB")
        texts = [reference.answer([np.asarray(picture)], reference.prompt(words.DESCRIBE[lang]))[0] for lang in ("en", "zh")]
        print(file.name, *texts, sep="\t", flush=True)
        answers.append((picture, *texts))
    card(answers).save(MODEL / "answers.png", optimize=True)
    print(f"answers.png: {(MODEL / 'answers.png').stat().st_size} bytes")


if __name__ == "__main__":
    main()
