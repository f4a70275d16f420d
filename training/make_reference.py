# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write small pictures and the reference implementation's greedy answers to them, for the engine's tests.

    python training/make_reference.py               writes tests/data/surface-tiny/*.png and answers.jsonl

transformers in fp32. One line a picture: file, prompt, thinking, grid (merged rows and columns), ids (of the
answer, without the stop token), text, margin: the smallest lead of a chosen token over the next, in logits. Near ties are
left out, so an engine that computes in fp32 must give the same ids.
"""
import json

import numpy as np
import torch
from PIL import Image

import words
from evaluate import QUESTIONS, Reference
from frames import smart_resize
from make_tokenizer import MODEL
from patterns import Patterns
from pictures import PictureMaker

FOLDER = MODEL.parent.parent / "tests" / "data" / "surface-tiny"
COUNT, SEED, MARGIN = 100, 4242, 0.05
SIZES = ((112, 112), (140, 112), (100, 130), (168, 112), (128, 128), (90, 160), (224, 112), (240, 135))
QUESTION_ORDER = ("caption", "caption", "report", "caption", "boxes", "count", "caption", "defective", "choice", "report")


def answer(reference, picture, prompt):
    """(ids, smallest margin, grid); ids None when the answer has no end."""
    inputs = reference.processor(text=[prompt], images=[Image.fromarray(picture)], return_tensors="pt").to(
        reference.device)
    with torch.no_grad():
        out = reference.model.generate(**inputs, max_new_tokens=192, do_sample=False, return_dict_in_generate=True,
                                       output_logits=True)
    row = out.sequences[0, inputs["input_ids"].shape[1]:].tolist()
    top = torch.stack(out.logits)[:, 0].topk(2).values
    ids = reference.before_stop(row)
    return (ids if len(ids) < len(row) else None), (top[:, 0] - top[:, 1]).min().item(), \
        inputs["image_grid_thw"][0].tolist()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    reference, maker, rng = Reference(), PictureMaker(SEED, 1, Patterns()), np.random.default_rng(SEED)
    lines, tried = [], 0
    while len(lines) < COUNT:
        width, height = SIZES[tried % len(SIZES)]
        scene = "pattern" if tried % 12 == 5 else "other" if tried % 25 == 7 else ("surface", "belt")[tried % 3 == 1]
        picture, facts = maker.draw(rng, height, width, scene)
        if tried % 2:                                       # grey files are a third of the size
            picture = np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))
        lang, question = ("en", "zh")[tried // 2 % 2], QUESTION_ORDER[tried % len(QUESTION_ORDER)]
        thinking = tried % 20 == 16
        tried += 1
        prompt = QUESTIONS[question][lang]
        ids, margin, grid = answer(reference, picture, reference.prompt(prompt, thinking=thinking))
        if ids is None or margin < MARGIN:
            continue
        assert grid == [1, smart_resize(height, width)[0] // 14, smart_resize(height, width)[1] // 14]
        name = f"{len(lines):03d}.png"
        image = Image.fromarray(picture)
        (image if tried % 2 else image.convert("L")).save(FOLDER / name, optimize=True)
        lines.append({"file": name, "prompt": prompt, "thinking": thinking, "grid": [grid[1] // 2, grid[2] // 2],
                      "ids": ids, "text": reference.tokenizer.decode(ids, skip_special_tokens=False),
                      "margin": round(margin, 3)})
        print(name, lines[-1]["text"], flush=True)
    (FOLDER / "answers.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{COUNT} of {tried} pictures, {size} bytes")


if __name__ == "__main__":
    main()
