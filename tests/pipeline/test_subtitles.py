#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Captions as WebVTT, SubRip, Matroska, QuickTime and MP4 subtitles, read back by FFmpeg, and drawn on the video: whatever
a model writes, a file holds as many cues as there were captions, each whole, and by default a person can read them.
Models that say a fixed text are made by tests/support/parrot.py.
"""
import re
import sys
import unicodedata

from common import GLM4V, SHIPPED, SOURCE, check, good, gst_launch, main, one_result, run

sys.path.insert(0, str(SOURCE / "tests" / "support"))
import parrot  # noqa: E402

ARROW = "\u2192"
# Pieces that the model writes one after another, and the lines of the cue.
ANSWERS = [
    (["First line", "\n\n", "- point one", " --> two"], ["First line", f"- point one {ARROW} two"]),
    (["a", "\n \t\n", "b", "\n\u3000\n", "c --", ">", " d", "\n", "end"], ["a", "b", f"c {ARROW} d", "end"]),
    (["00:00:01.000", " --> ", "00:00:02.000", "\n\n", "NOTE", "\n\n\n", "STYLE"],
     [f"00:00:01.000 {ARROW} 00:00:02.000", "NOTE", "STYLE"]),
    (["2", "\n", "00:00:05,000 --> 00:00:06,000", "\nx"], ["2", f"00:00:05,000 {ARROW} 00:00:06,000", "x"]),
]
CLIP = "videotestsrc num-buffers=30 ! video/x-raw,width=64,height=64,framerate=10/1"
WRITERS = {
    "vtt": "{clip} ! {describe} ! fakesink d.text ! webvttenc ! filesink location={file}",
    "srt": "{clip} ! {describe} ! fakesink d.text ! srtenc ! filesink location={file}",
    "mkv": "{clip} ! {describe} ! jpegenc ! matroskamux name=m ! filesink location={file} d.text ! queue ! m.",
    "mov": "{clip} ! {describe} ! jpegenc ! queue max-size-time=0 ! qtmux name=m ! filesink location={file} "
           "d.text ! queue ! m.subtitle_0",
    "mp4": "{clip} ! {describe} ! videoconvert ! x264enc speed-preset=ultrafast tune=zerolatency ! queue max-size-time=0 "
           "! mp4mux name=m ! filesink location={file} d.text ! queue ! m.subtitle_0",
}
# Longer than two lines.
LONG = {
    "English": ["The metal sheet has a long scratch from one edge to another, ",
                "and beside it there are two small round holes and a stain."],
    "Chinese": ["金属板上有一道长长的划痕，", "从一边延伸到另一边，", "旁边还有两个小圆孔和一块污渍。"],
}
SECONDS = 12
QUIET = f"videotestsrc pattern=black num-buffers={5 * SECONDS} ! video/x-raw,width=320,height=240,framerate=5/1"


def blocks_of_subrip(text):
    """(begin, end, lines) of each cue; every block must be a number, a time and text."""
    cues = []
    for number, block in enumerate(text.replace("\r", "").strip("\n").split("\n\n"), 1):
        lines = block.split("\n")
        check(lines[0] == str(number), "block", number, "begins with", lines[0], "in", repr(text))
        times = re.fullmatch(r"(\S+) --> (\S+)", lines[1])
        check(times and len(lines) > 2, "block", number, "is", lines)
        cues.append((*times.groups(), lines[2:]))
    return cues


def check_cues(cues, lines, where):
    check(len(cues) == 3, where, "has", len(cues), "cues, not 3:", cues)
    for begin, end, cue in cues:
        check(end > begin, where, cues)
        check(cue == lines, where, "has", cue, "not", lines)


def by_ffmpeg(path):
    """What FFmpeg reads, without the font that QuickTime subtitles name."""
    done = good(run(["ffmpeg", "-v", "error", "-i", path, "-map", "0:s:0", "-c:s", "srt", "-f", "srt", "-"]))
    return blocks_of_subrip(re.sub(r"</?font[^>]*>", "", done.stdout))


def answer_test(number, suffix):
    pieces, lines = ANSWERS[number]

    def test(folder):
        model = parrot.make(SHIPPED, folder / "model", pieces)
        path = folder / f"captions.{suffix}"
        describe = f"glm4vdescribe name=d model-location={model} interval=1000000000 max-lines=0"
        good(gst_launch("-q " + WRITERS[suffix].format(clip=CLIP, describe=describe, file=path)))
        if suffix == "vtt":
            check(path.read_text().startswith("WEBVTT"), path.read_text())
        if suffix == "srt":
            check_cues(blocks_of_subrip(path.read_text()), lines, path.name)
        check_cues(by_ffmpeg(path), lines, f"{path.name} by FFmpeg")
    test.__name__ = f"answer {number + 1} is whole in {suffix}"
    return test


def seconds(time):
    hours, minutes, rest = time.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def columns(line):
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def check_readable(cues, text, where):
    """Lines, times and contents; a file has times of whole milliseconds."""
    check(cues, where, "has no cues")
    reached = 0
    for begin, end, lines in cues:
        begin, end = seconds(begin), seconds(end)
        check(abs(begin - reached) < 0.003 and begin < end < SECONDS + 0.003, where, cues)
        check(len(lines) <= 2 and all(columns(line) <= 37 for line in lines), where, cues)
        check(len("\n".join(lines)) <= 15 * (end - begin + 0.003), where, cues)
        reached = end
    shown = "".join("".join(lines) for _, _, lines in cues)
    check(shown.replace(" ", "") in [text.replace(" ", "") * n for n in range(1, 20)], where, shown)


def readable_test(language, suffix):
    def test(folder):
        model = parrot.make(SHIPPED, folder / "model", LONG[language])
        path = folder / f"captions.{suffix}"
        good(gst_launch("-q " + WRITERS[suffix].format(
            clip=QUIET, describe=f"glm4vdescribe name=d model-location={model}", file=path)))
        check_readable(by_ffmpeg(path), "".join(LONG[language]), path.name)
        length = good(run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path])).stdout
        check(suffix in ("vtt", "srt") or abs(float(length) - SECONDS) < 0.3, path.name, "lasts", length)
    test.__name__ = f"a caption in {language} can be read in {suffix}"
    return test


def a_caption_is_drawn_as_long_as_it_is_read(folder):
    model = parrot.make(SHIPPED, folder / "model", LONG["English"])
    good(gst_launch(f"-q {QUIET} ! glm4vdescribe name=d model-location={model} ! queue ! textoverlay name=o ! videoconvert "
                    f"! video/x-raw,format=GRAY8 ! filesink location={folder}/frames d.text ! queue ! o.text_sink"))
    size, data = 320 * 240, (folder / "frames").read_bytes()
    check(len(data) == 5 * SECONDS * size, len(data))
    shown = [max(data[n * size:(n + 1) * size]) > 200 for n in range(5 * SECONDS)]
    check(shown == [True] * 40 + [False] * 20, shown)  # 8 s; another 8 s the clip does not have


def the_command_line_writes_what_the_model_wrote(folder):
    good(gst_launch(f"-q {CLIP} ! pngenc snapshot=true ! filesink location={folder}/picture.png"))
    for number, (pieces, _) in enumerate(ANSWERS):
        model = parrot.make(SHIPPED, folder / f"model-{number}", pieces)
        done = good(run([GLM4V, "describe", "--model", model, "--json", folder / "picture.png"], preload=True))
        check(one_result(done.stdout)["text"] == "".join(pieces), done.stdout)


main([answer_test(number, suffix) for number in range(len(ANSWERS)) for suffix in WRITERS if suffix != "mp4"]
     + [readable_test(language, suffix) for language in LONG for suffix in WRITERS]
     + [a_caption_is_drawn_as_long_as_it_is_read, the_command_line_writes_what_the_model_wrote])
