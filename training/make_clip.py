# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the demonstration clip: plates on a moving belt, good ones and bad ones.

    python training/make_clip.py                     writes examples/media/line.mp4 (needs gst-launch-1.0, openh264enc)
    python training/make_clip.py --check             and compares the model's captions with what is in the frames

The plates and their defects are drawn once on a long belt; a frame is the part of it before the camera, with motion
blur, light and noise as in the training pictures.
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import defects
import pictures
import surfaces
import words

FRAMES = Path(__file__).parent / "cache" / "clip-frames"
CLIP = Path(__file__).parent.parent / "examples" / "media" / "line.mp4"
WIDTH, HEIGHT, RATE, SECONDS, SPEED = 640, 360, 25, 19, 6        # speed: pixels a frame, a plate every 4.1 seconds
PLATE, PITCH = (400, 300), 620
MATERIAL = "rolled steel"
# kind, place on the plate as a fraction of its size; a plate without any is good
PLATES = ((), (("scratch", 0.25, 0.22),), (), (("hole", 0.25, 0.75), ("dent", 0.72, 0.25)), (("rust", 0.5, 0.5),))


def scene(seed):
    """The whole belt u8 [HEIGHT, long, 3] and its defects [(kind, box in pixels)], the right end coming first."""
    rng, s = np.random.default_rng(seed), pictures.model_scale(HEIGHT, WIDTH)
    bank = surfaces.Bank(seed, 2)
    long = WIDTH + SPEED * RATE * SECONDS
    tile = bank.belt(rng, HEIGHT, WIDTH, 1.6 * s)
    belt = np.hstack([tile if i % 2 else tile[:, ::-1] for i in range(long // WIDTH + 1)])[:, :long]
    texture = np.hstack([bank.material(rng, surfaces.MATERIALS.index(MATERIAL), HEIGHT, WIDTH, s)
                         for _ in range(long // WIDTH + 1)])[:, :long]
    first = long - WIDTH // 2
    plates = [pictures.Part((first - i * PITCH, HEIGHT / 2), PLATE, 0, False) for i in range(len(PLATES))]
    belt = pictures.lay_parts(np.ascontiguousarray(belt), np.ascontiguousarray(texture), plates, s)
    found = []
    for plate, wanted in zip(plates, PLATES):
        for kind, x, y in wanted:
            patch = defects.make(rng, defects.KINDS.index(kind), s)
            bx1, by1, bx2, by2 = patch.box
            left = int(plate.centre[0] + (x - 0.5) * PLATE[0] - (bx1 + bx2) / 2)
            top = int(plate.centre[1] + (y - 0.5) * PLATE[1] - (by1 + by2) / 2)
            defects.apply(belt, patch, left, top)
            found.append((kind, (left + bx1, top + by1, left + bx2, top + by2)))
    return belt, found


def facts_of(found, left):
    """What the frame whose left edge is at left shows: its facts, or None while a defect is half out of sight."""
    seen = []
    for kind, (x1, y1, x2, y2) in found:
        a, b = max(0, x1 - left), min(WIDTH, x2 - left)
        if b <= a:
            continue
        if b - a < 0.6 * (x2 - x1):
            return None
        seen.append({"kind": kind, "box": (a / WIDTH, y1 / HEIGHT, b / WIDTH, y2 / HEIGHT)})
    return {"scene": "belt", "material": MATERIAL, "defects": seen}


def frames(seed):
    belt, found = scene(seed)
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[-1:1:HEIGHT * 1j, -1:1:WIDTH * 1j].astype(np.float32)
    gain = (1.02 + 0.05 * x - 0.06 * y - 0.05 * x * x)[..., None]
    for i in range(RATE * SECONDS):
        left = belt.shape[1] - WIDTH - SPEED * i
        picture = cv2.blur(belt[:, left:left + WIDTH], (SPEED, 1)) * gain
        picture += 1.2 * rng.standard_normal((HEIGHT, WIDTH, 1), np.float32)
        yield np.clip(picture, 0, 255).astype(np.uint8), facts_of(found, left)


def decode(folder):
    """Every half second of the clip as PNG files named by their frame number."""
    subprocess.run(["gst-launch-1.0", "-q", "filesrc", f"location={CLIP}", "!", "decodebin", "!", "videoconvert", "!",
                    "video/x-raw,format=RGB", "!", "pngenc", "compression-level=1", "!", "multifilesink",
                    f"location={folder}/%04d.png"], check=True)
    for file in Path(folder).glob("*.png"):
        if int(file.stem) % (RATE // 2):
            file.unlink()


def check(seed):
    """Captions of the decoded clip, twice a second."""
    from evaluate import Reference, read_caption
    reference, good, n = Reference(), 0, 0
    if not list(FRAMES.glob("*.png")):
        FRAMES.mkdir(parents=True, exist_ok=True)
        decode(FRAMES)
    files, truth = sorted(FRAMES.glob("*.png")), [facts for _, facts in frames(seed)]
    seen = reference.see([np.asarray(Image.open(file).convert("RGB")) for file in files])
    answers = {lang: reference.answer(seen, reference.prompt(words.DESCRIBE[lang])) for lang in ("en", "zh")}
    for i, file in enumerate(files):
        facts = truth[int(file.stem)]
        for lang in ("en", "zh"):
            text, verdict = answers[lang][i], "half in sight"
            if facts:
                same = text == words.caption(facts, lang)
                kinds = {k for k, _ in read_caption(text, lang)[0]} == {d["kind"] for d in facts["defects"]}
                good, n = good + same, n + 1
                verdict = "right" if same else "kinds right" if kinds else "WRONG"
            print(f"{int(file.stem) / RATE:5.2f} s  {verdict:13s} {text}", flush=True)
    print(f"{good} of {n} captions word for word")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check and CLIP.exists():
        return check(args.seed)
    CLIP.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".rgb") as raw:
        for picture, _ in frames(args.seed):
            raw.write(picture.tobytes())
        raw.flush()
        subprocess.run(["gst-launch-1.0", "-q", "filesrc", f"location={raw.name}", "!", "rawvideoparse", "format=rgb",
                        f"width={WIDTH}", f"height={HEIGHT}", f"framerate={RATE}/1", "!", "videoconvert", "!",
                        "video/x-raw,format=I420", "!", "openh264enc", "bitrate=700000", "max-bitrate=1000000",
                        "rate-control=bitrate", "gop-size=50", "!", "h264parse", "!", "mp4mux", "!", "filesink",
                        f"location={CLIP}"], check=True)
    print(f"{CLIP.name}: {CLIP.stat().st_size} bytes")


if __name__ == "__main__":
    main()
