# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write pictures to quantize and to measure with: made with seeds that neither the training nor evaluate.py use.

    python training/make_calibration.py out/calibration [--count 48] [--seed 5150]
    python training/make_calibration.py out/held-out --count 24 --seed 6160

PNG files at the camera sizes of evaluate.py, and prompts.txt with the questions it asks, for `glm4v quantize --calibrate`
and for quantization-bench. Calibrate on one seed and measure on another.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from evaluate import QUESTIONS, SCENES, SIZES
from pictures import PictureMaker


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=5150)
    args = parser.parse_args()
    maker, rng = PictureMaker(args.seed, 2), np.random.default_rng([args.seed, 9])
    args.folder.mkdir(parents=True, exist_ok=True)
    for i in range(args.count):
        width, height = SIZES[i % len(SIZES)]
        picture, _ = maker.draw(rng, height, width, SCENES[int(rng.random() < 0.33)])
        Image.fromarray(picture).save(args.folder / f"{i:03}.png")
    prompts = [text[lang] for text in QUESTIONS.values() for lang in ("en", "zh")]
    (args.folder / "prompts.txt").write_text("\n".join(prompts) + "\n")


if __name__ == "__main__":
    main()
