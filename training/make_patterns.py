# SPDX-License-Identifier: LGPL-2.1-or-later
"""Render the patterns of GStreamer's videotestsrc into a small bank of PNG files, at the sizes the model sees.

    python training/make_patterns.py            writes training/cache/patterns/

Patterns that move or are random are taken several times. Checkers and zone plates are not in the bank: patterns.py draws them.
"""
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from frames import smart_resize
from patterns import FOLDER

SIZES = ((320, 240), (640, 480), (640, 360), (1280, 720), (448, 448), (224, 224), (360, 640), (854, 480), (352, 288))
OTHER_SIZES = ((800, 600), (512, 288), (400, 400), (960, 540))       # evaluate.py: never trained on
MORE_SIZES = ((480, 360), (704, 480), (768, 576), (1024, 576), (1024, 768), (720, 480), (720, 576), (600, 600),
              (300, 300), (500, 375), (375, 500), (480, 640), (540, 960), (576, 432), (416, 240), (1152, 648))
MOVING = {"snow": 3, "ball": 4}
BANK = ("smpte", "smpte75", "smpte100", "snow", "black", "white", "red", "green", "blue", "circular", "gamut", "ball",
        "bar", "pinwheel", "spokes", "gradient", "colors", "smpte-rp-219")
RINGS = ("kx2=20", "ky2=20", "kt=1")            # without them a zone plate is plain grey
DRAWN = {"checkers-1": (), "checkers-2": (), "checkers-4": (), "checkers-8": (), "zone-plate": RINGS,
         "chroma-zone-plate": RINGS}
PATTERNS = (*BANK, *DRAWN)


def render(pattern, width, height, frames, folder):
    subprocess.run(["gst-launch-1.0", "-q", "videotestsrc", f"pattern={pattern}", *DRAWN.get(pattern, ()),
                    f"num-buffers={frames * 9}", "!",
                    f"video/x-raw,format=RGB,width={width},height={height},framerate=10/1", "!", "videorate", "!",
                    "video/x-raw,framerate=1/1", "!", "pngenc", "!", "multifilesink",
                    f"location={folder}/%02d.png"], check=True)
    return sorted(Path(folder).glob("*.png"))[:frames]


def other(pattern, width, height):
    """A rendering of full size, at a size that is not in the bank: its file, made at the first call."""
    file = FOLDER.parent / "other-patterns" / f"{'-'.join([pattern, *DRAWN.get(pattern, ())])}_{width}x{height}.png"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            Image.open(render(pattern, width, height, 1, folder)[0]).save(file)
    return file


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for pattern in BANK:
        for width, height in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                for i, file in enumerate(render(pattern, width, height, MOVING.get(pattern, 1), folder)):
                    h, w = smart_resize(height, width)
                    picture = Image.open(file).convert("RGB").resize((w, h), Image.Resampling.BICUBIC)
                    picture.save(FOLDER / f"{pattern}_{width}x{height}_{i}.png")


if __name__ == "__main__":
    main()
