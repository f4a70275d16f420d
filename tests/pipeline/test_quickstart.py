#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""examples/quickstart.sh in a copy of the tree, on a finished build: captions on stdout, VTT file, PNG."""
import re
import shutil
import struct
import subprocess

from common import BUILD, SOURCE, check, environment, good, main, run


def tree(folder):
    """What the script reads, so that it writes its out/ elsewhere than in the source tree."""
    (folder / "examples").mkdir()
    shutil.copy(SOURCE / "examples" / "quickstart.sh", folder / "examples")
    for name in ("examples/media", "tools", "models"):
        (folder / name).symlink_to(SOURCE / name)
    return folder


def quickstart(folder, **extra):
    env = environment(preload=True, BUILD=BUILD, **extra)
    return good(run(["bash", tree(folder) / "examples" / "quickstart.sh"], timeout=240, env=env))


def it_prints_captions_with_times_and_writes_vtt_and_png(folder):
    done = quickstart(folder)
    cues = re.findall(r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})\n(.+)", done.stdout)
    check(len(cues) >= 5, done.stdout, done.stderr)
    check([start for start, _, _ in cues] == sorted(start for start, _, _ in cues), cues)
    check(all(start < end and text.strip() for start, end, text in cues), cues)
    vtt = (folder / "out" / "captions.vtt").read_text()
    check(vtt.startswith("WEBVTT") and all(text in vtt for _, _, text in cues), vtt)
    png = (folder / "out" / "caption.png").read_bytes()
    check(png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82"))
    width, height = struct.unpack(">II", png[16:24])
    check(width >= 320 and height >= 240, width, height)
    middle = "crop=iw/2:ih/4:iw/4:3*ih/4"
    grey = subprocess.run(["ffmpeg", "-v", "error", "-i", str(folder / "out" / "caption.png"), "-vf", middle, "-pix_fmt",
                           "gray", "-f", "rawvideo", "-"], stdout=subprocess.PIPE, check=True).stdout
    check(sum(value > 230 for value in grey) > 300, "no white text on the picture")


def a_second_run_gives_the_same_captions_and_installs_nothing(folder):
    first = quickstart(folder).stdout
    shutil.rmtree(folder / "examples")
    for name in ("tools", "models"):
        (folder / name).unlink()
    second = quickstart(folder).stdout
    check(first == second, first, second)
    check("Installing" not in second, second)


if __name__ == "__main__":
    main([it_prints_captions_with_times_and_writes_vtt_and_png,
          a_second_run_gives_the_same_captions_and_installs_nothing])
