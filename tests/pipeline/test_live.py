#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""examples/live-captions: a file and an RTSP camera in; captions on the picture, in MP4, Matroska and HLS, as JSON lines.
FFmpeg reads the files back, Chromium plays the page. No test tells how fast something is; bounds are there so that a
wait ends."""
import functools
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from PIL import Image, ImageChops

from common import BUILD, SHIPPED, SLOW, SOURCE, Skip, check, environment, good, main, results_of, run

EXAMPLE = SOURCE / "examples" / "live-captions"
sys.path[:0] = [str(EXAMPLE), str(SOURCE / "tests" / "support")]
import browser  # noqa: E402
import hls  # noqa: E402

PROGRAM = ["/usr/bin/python3", EXAMPLE / "live-captions.py"]
CLIP = SOURCE / "examples" / "media" / "line.mp4"
SMALL = ["--size", "320x180", "--rate", "8", "--model", SHIPPED]
BASE = ""  # what the tests make together
SERVER = BUILD / "tests" / "pipeline" / "rtsp-server"
WAIT = 60 * SLOW


class Program:
    """A program in the background; its lines are kept as they come."""

    def __init__(self, words):
        self.child = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, env=environment(preload=True))
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def wait_for(self, pattern, count=1, after=0):
        """Until so many lines match behind the first `after` ones; the number of lines then."""
        end = time.monotonic() + WAIT
        while sum(bool(re.search(pattern, line)) for line in self.lines[after:]) < count:
            check(time.monotonic() < end and self.child.poll() is None, "waited for", pattern, self.child.poll(), self.lines)
            time.sleep(0.05)
        return len(self.lines)

    def interrupt(self):
        self.child.send_signal(signal.SIGINT)
        check(self.child.wait(WAIT) == 0, self.child.returncode, self.lines)
        self.reader.join(WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def subtitles(path, *options):
    """(begin, end, text) of each cue as FFmpeg reads it, times in milliseconds."""
    done = good(run(["ffmpeg", "-v", "error", *options, "-i", path, "-map", "0:s:0", "-c:s", "srt", "-f", "srt", "-"]))
    text = re.sub(r"</?font[^>]*>", "", done.stdout).replace("\r", "")
    cues = []
    for times, words in re.findall(r"^(\S+ --> \S+)\n(.*?)(?:\n\n|\Z)", text, flags=re.M | re.S):
        both = [re.split(r"[:,]", one) for one in times.split(" --> ")]
        cues.append((*(((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in both), words.strip()))
    return cues


def probe(path, *options):
    done = good(run(["ffprobe", "-v", "error", *options, "-show_streams", "-show_format", "-of", "json", path]))
    value = json.loads(done.stdout)
    return {stream["codec_type"]: stream for stream in value["streams"]}, value["format"]


def segments(folder, kind):
    """(number, duration) of a playlist, whose files must be there."""
    text = (folder / f"{kind}.m3u8").read_text()
    found = [(int(number), float(duration)) for duration, number in
             re.findall(r"^#EXTINF:([\d.]+),\n[a-z]+(\d+)\.(?:m4s|vtt)$", text, flags=re.M)]
    first = int(re.search(r"^#EXT-X-MEDIA-SEQUENCE:(\d+)$", text, flags=re.M)[1])
    check([number for number, _ in found] == list(range(first, first + len(found))), text)
    target = int(re.search(r"^#EXT-X-TARGETDURATION:(\d+)$", text, flags=re.M)[1])
    check(all(round(duration) <= target for _, duration in found), text)
    for number, _ in found:
        check((folder / f"{kind}{number:05}.{'vtt' if kind == 'text' else 'm4s'}").is_file(), number, text)
    return found


def results_in(path):
    return results_of(path.read_text())


# What several tests look at is made once.
@functools.cache
def from_a_file():
    """The folder, and the texts of the results, one a second."""
    folder = pathlib.Path(BASE)
    outputs = ["--mp4", folder / "a.mp4", "--mkv", folder / "a.mkv", "--json", folder / "a.jsonl", "--hls", folder / "hls",
               "--screen", f"jpegenc ! multifilesink location={folder}/screen%04d.jpg", "--interval", "1"]
    done = good(run([*PROGRAM, CLIP, *SMALL, *outputs], env=environment(preload=True), timeout=120))
    printed = re.findall(r"^caption (\S+)  (.+)$", done.stdout, flags=re.M)
    check(len(printed) == 19, done.stdout, done.stderr)
    return folder, [text for _, text in printed]


@functools.cache
def cues_of_a_file():
    """As Matroska has them. A long text is several cues, of lines that the element breaks."""
    return subtitles(from_a_file()[0] / "a.mkv")


def same_cues(some, others):
    """Times are rounded to the units of each format."""
    return len(some) == len(others) and all(
        text == other and abs(begin - begins) <= 2 and abs(end - ends) <= 2
        for (begin, end, text), (begins, ends, other) in zip(some, others))


def a_file_becomes_mp4_matroska_and_hls_with_the_same_captions(folder):
    del folder
    made, texts = from_a_file()
    expected = cues_of_a_file()
    check(" ".join(" ".join(text.split()) for *_, text in expected) == " ".join(texts), expected, texts)
    check({begin for begin, _, _ in expected} >= set(range(0, 19000, 1000)), expected)
    for name, kind, options in (("a.mp4", "mov_text", ()), ("a.mkv", "subrip", ()),
                                ("hls/main.m3u8", "webvtt", ("-strict", "experimental"))):
        streams, _ = probe(made / name, *options)
        check(streams["video"]["codec_name"] == "h264" and streams["subtitle"]["codec_name"] == kind, name, streams)
        check((streams["video"]["width"], streams["video"]["height"]) == (320, 180), name, streams)
        found = subtitles(made / name, *options)
        check(same_cues(found, expected), name, found, expected)
    frames = good(run(["ffprobe", "-v", "error", "-count_packets", "-select_streams", "v", "-show_entries",
                       "stream=nb_read_packets", "-of", "csv=p=0", made / "hls/video.m3u8"])).stdout.split()
    check(set(frames) == {"152"}, frames)  # 19 seconds at 8 frames a second
    video = segments(made / "hls", "video")
    check(video == segments(made / "hls", "text") and [duration for _, duration in video] == [2] * 9 + [1], video)


def a_file_becomes_json_lines_and_captions_on_the_picture(folder):
    del folder
    made, texts = from_a_file()
    results = results_in(made / "a.jsonl")
    check([result["text"] for result in results] == texts, results)
    pictures = sorted(made.glob("screen*.jpg"))
    check(len(pictures) == 152, len(pictures))
    for number in (4, 100, 148):
        picture = Image.open(pictures[number]).convert("L")
        letters, above = edges(picture.crop((0, 140, 320, 160))), edges(picture.crop((0, 110, 320, 130)))
        check(letters > 100 > above, f"no caption on {pictures[number].name}: {letters} edges, {above} above it")


def edges(picture):
    """Pixels that are much brighter or darker than their left neighbour: letters have many, the line few."""
    return sum(ImageChops.difference(picture, ImageChops.offset(picture, 1, 0)).histogram()[50:])


def wait_for_segment(folder, number):
    """Until the playlists end at least with this one."""
    end = time.monotonic() + WAIT
    while not (folder / f"text{number:05}.vtt").exists():
        check(time.monotonic() < end, "no segment", number)
        time.sleep(0.05)


# Where all is slow, the first frame comes later than half a second after its pipeline plays: before it stands black.
SEEN = ("A test pattern: SMPTE colour bars.", *(["A test pattern: plain black."] if SLOW > 1 else []))


def an_rtsp_camera_that_breaks_off_is_opened_again_and_files_go_on(folder):
    if not SERVER.exists():
        raise Skip("libgstrtspserver-1.0-dev is not installed")
    outputs = ["--mp4", folder / "a.mp4", "--mkv", folder / "a.mkv", "--json", folder / "a.jsonl", "--hls", folder / "hls",
               "--segment", "1", "--window", "4", "--interval", "0.5"]
    with Program([SERVER, "--port", "0", "--seconds", "600"]) as camera:
        camera.wait_for("^rtsp:")
        url = camera.lines[0]
        with Program([*PROGRAM, url, *SMALL, *outputs]) as program:
            program.wait_for("^caption .*bars", 3)
            camera.child.kill()
            camera.child.wait()
            lost = program.wait_for("^camera  lost: ")
            wait_for_segment(folder / "hls", max(number for number, _ in segments(folder / "hls", "text")) + 2)
            port = re.search(r":(\d+)/", url)[1]
            with Program([SERVER, "--port", port, "--seconds", "600"]) as again:
                again.wait_for("^rtsp:")
                program.wait_for("^camera  connected", after=lost)
                program.wait_for("^caption .*bars", 2, after=lost)
                program.interrupt()
    captions = [line for line in program.lines if line.startswith("caption ")]
    check(all(line.endswith(SEEN) for line in captions), "not of the camera:", program.lines)
    results = results_in(folder / "a.jsonl")
    answers = [result for result in results if result["status"] == "ok"]  # a busy machine drops a frame now and then
    check(len(answers) == len(captions), results)
    check(len(results) - len(answers) < len(answers) or SLOW > 1, results)
    check_after_an_outage(folder, answers)


def check_after_an_outage(folder, results):
    times = [result["running-time"] / 1e9 for result in results]
    gap = max(after - before for before, after in zip(times, times[1:]))
    check(gap >= 2, "two segments of an outage, but results of", times)
    for name in ("a.mp4", "a.mkv"):
        _, form = probe(folder / name)
        check(float(form["duration"]) > times[-1], name, form, times)
        texts = subtitles(folder / name)
        check(len(texts) >= 4 and all(text.endswith(SEEN) for *_, text in texts), name, texts)
        check(any(after[0] - before[1] >= 1000 for before, after in zip(texts, texts[1:])), "captions of the outage:", texts)
    video = segments(folder / "hls", "video")
    check(video == segments(folder / "hls", "text") and len(video) == 4 and video[0][0] > 0, video)
    check((folder / "hls" / "video.m3u8").read_text().endswith("#EXT-X-ENDLIST\n"), video)
    kept = sorted(int(path.name[5:10]) for path in (folder / "hls").glob("video0*.m4s"))
    check(kept == list(range(max(0, video[0][0] - 4), video[-1][0] + 1)), "two windows of files stay:", kept, video)
    streams, _ = probe(folder / "hls" / "video.m3u8")
    check(streams["video"]["codec_name"] == "h264", streams)


class Recorded(hls.Writer):
    """A writer whose segments come from a list instead of an MP4."""

    def __init__(self, folder, **options):
        super().__init__(folder, 2, **options)
        self.begin_at(5.0)
        self.fragments.feed = lambda data: data
        self.write_main = lambda: None

    def segment(self, number):
        self.add_video([(2.0 * number, 2.0, b"segment")])


def a_segment_waits_for_its_captions_but_for_one_segment_only(folder):
    writer = Recorded(folder / "hls")
    writer.segment(0)
    check(not (folder / "hls" / "video.m3u8").exists(), "published before its captions are known")
    writer.add_caption(6, 8, "a < b & c\u2192d")  # from 1 to 3, over a boundary
    writer.add_gap(7)
    check((folder / "hls" / "text00000.vtt").read_text() == "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n"
          "00:00:01.000 --> 00:00:03.000\na &lt; b &amp; c\u2192d\n\n", (folder / "hls" / "text00000.vtt").read_text())
    writer.segment(1)
    check(len(segments(folder / "hls", "video")) == 1, "the second one waits too")
    writer.segment(2)
    check(len(segments(folder / "hls", "text")) == 2, "but not any longer")
    check("00:00:01.000 --> 00:00:03.000" in (folder / "hls" / "text00001.vtt").read_text(), "in both segments")
    writer.add_caption(8, 8.5, "too late")
    writer.add_caption(8, 10, "partly late")
    writer.close()
    check(writer.late == 1 and "00:00:04.000 --> 00:00:05.000\npartly late" in
          (folder / "hls" / "text00002.vtt").read_text(), writer.late)
    check((folder / "hls" / "text.m3u8").read_text().endswith("#EXT-X-ENDLIST\n"), "ended")


def broken_mp4_is_refused_and_cut_bytes_wait(folder):
    del folder
    whole = (from_a_file()[0] / "hls" / "init.mp4").read_bytes()
    fragment = (from_a_file()[0] / "hls" / "video00001.m4s").read_bytes()
    reader = hls.Fragments()
    found = [one for at in range(0, len(whole + fragment), 997) for one in reader.feed((whole + fragment)[at:at + 997])]
    check(found == [(2.0, 2.0, fragment)] and bytes(reader.header) == whole, "cut anywhere, read the same")
    check(hls.description_of(whole)[1:] == (320, 180), hls.description_of(whole))
    for data in (b"\0\0\0\4moov", b"\0\0\0\0mdat", whole[:32] + b"\0\0\0\x10moov" + bytes(8)):
        try:
            hls.Fragments().feed(data)
        except hls.FormatError:
            continue
        check(False, "not refused:", data[:60])


def what_cannot_be_done_is_told_before_anything_is_opened(folder):
    for words, told in (([CLIP], "nothing to do"), ([folder / "none.mp4", "--mkv", folder / "a.mkv"], "none.mp4: no such file"),
                        ([CLIP, "--mkv", folder / "a.mkv", "--size", "321x180"], "must be even"),
                        ([CLIP, "--mkv", folder / "a.mkv", "--rate", "0"], "is not from 1 to 60"),
                        ([CLIP, "--hls", folder / "hls", "--window", "2"], "at least 3 segments"),
                        ([CLIP, "--screen", "no-such-sink"], "no-such-sink")):
        done = run([*PROGRAM, *words], env=environment(preload=True))
        check(done.returncode in (1, 2) and told in done.stderr, words, done.returncode, done.stderr)
    check(not list(folder.iterdir()), list(folder.iterdir()))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def the_page_plays_video_and_captions_in_a_browser(folder):
    if not browser.program():
        check("browser" not in os.environ.get("GLM4V_REQUIRE", ""), "no chromium")
        raise Skip("no chromium: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=from_a_file()[0] / "hls"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with browser.Browser(folder, f"http://127.0.0.1:{server.server_port}/index.html", wait=WAIT) as page:
            cues = cues_of_a_file()
            page.wait_for(f"typeof track == 'object' && track.cues.length == {len(cues)} && video.readyState >= 3")
            page.value("video.pause(), video.currentTime = 12.5, 0")
            page.wait_for("!video.seeking && track.activeCues.length == 1 && log.children.length > 0")
            text = page.value("track.activeCues[0].text")
            check([text] == [text for begin, end, text in cues if begin <= 12500 < end], text, cues)
            check(" ".join(text.split()) in page.value("log.innerText"), text, page.value("log.innerText"))
            check(page.value("video.error") is None and page.value("video.duration") == 19, page.value("video.duration"))
            page.screenshot(folder / "page.png")
    finally:
        server.shutdown()
        server.server_close()
    picture = Image.open(folder / "page.png").convert("RGB").crop((90, 40, 870, 470))
    low, high = picture.convert("L").getextrema()
    check(low < 60 and high > 235, "neither picture nor caption on the page:", low, high)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="glm4v-live-") as BASE:
        main([a_file_becomes_mp4_matroska_and_hls_with_the_same_captions,
              a_file_becomes_json_lines_and_captions_on_the_picture,
              an_rtsp_camera_that_breaks_off_is_opened_again_and_files_go_on,
              a_segment_waits_for_its_captions_but_for_one_segment_only, broken_mp4_is_refused_and_cut_bytes_wait,
              what_cannot_be_done_is_told_before_anything_is_opened, the_page_plays_video_and_captions_in_a_browser])
