#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clips as glm4v describe sees them: times, rotation, tracks, damage, pipes, pictures by HTTP.

The clips are made here by GStreamer and ffmpeg; each of their frames is of one colour, or of four in its quarters.
"""
import base64
import contextlib
import http.server
import re
import shutil
import subprocess
import tempfile
import threading

from common import BUILD, GLM4V, SLOW, Skip, check, environment, good, gst_launch, main, one_result, results_of, run, tiny_model
from test_pictures import DUMP, dump, frames_of, noise, pixels, png

BASE = tempfile.mkdtemp(prefix="glm4v-clips-")
SIZE = "width=64,height=48"


def path(name):
    return f"{BASE}/{name}"


def ffmpeg(*words):
    if not shutil.which("ffmpeg"):
        raise Skip("ffmpeg is not installed")
    good(run(["ffmpeg", "-v", "error", "-y", *words]))


def times(frames):
    """In milliseconds."""
    return [frame[2] // 10 ** 6 for frame in frames]


def clip(*words, **options):
    frames, status, said = dump(*words, **options)
    check(status == 0, words, status, said)
    return frames, said


def make_clips():
    """a.avi: Motion JPEG, 4 s at 10 frames a second, red, green, blue and white for a second each; the same as raw
    Motion JPEG, and in Matroska and MP4."""
    colors = (0xffff0000, 0xff00ff00, 0xff0000ff, 0xffffffff)
    for n, color in enumerate(colors):
        good(gst_launch(f"-q videotestsrc pattern=solid-color foreground-color={color} num-buffers=10 ! "
                        f"video/x-raw,{SIZE},framerate=10/1 ! jpegenc ! multifilesink location={BASE}/{n}-%02d.jpg"))
    names = [f"{BASE}/{n}-{i:02}.jpg" for n in range(4) for i in range(10)]
    raw = b"".join(open(name, "rb").read() for name in names)
    for name in ("a.mjpeg", "a.jpg", "noname"):
        with open(path(name), "wb") as file:
            file.write(raw)
    for n, name in enumerate(names):
        shutil.copy(name, f"{BASE}/all-{n:02}.jpg")
    good(gst_launch(f"-q multifilesrc location={BASE}/all-%02d.jpg caps=image/jpeg,framerate=10/1 ! jpegparse ! avimux ! "
                    f"filesink location={path('a.avi')}"))
    for name, mux in (("a.mkv", "matroskamux"), ("a.mov", "qtmux")):
        good(gst_launch(f"-q filesrc location={path('a.avi')} ! avidemux ! jpegparse ! {mux} ! "
                        f"filesink location={path(name)}"))


RAINBOW = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def near(color, expected):
    return all(abs(a - b) <= 40 for a, b in zip(color, expected))


def is_rainbow(frames):
    return len(frames) == 4 and all(near(frame[3], color) for frame, color in zip(frames, RAINBOW))


def motion_jpeg_without_a_container_is_a_clip(folder):
    """By its name, and by what it holds; 25 frames a second, as other programs take it for."""
    for name in ("a.mjpeg", "a.jpg", "noname"):
        frames, _ = clip(path(name))
        check(times(frames) == [n * 40 for n in range(40)], name, times(frames))
        frames, _ = clip(path(name), "0.4")
        check(times(frames) == [0, 400, 800, 1200] and is_rainbow(frames), name, times(frames))
    first = open(path("all-00.jpg"), "rb").read()
    (folder / "one.mjpg").write_bytes(first)
    check(times(clip(folder / "one.mjpg")[0]) == [0])
    # A second picture of another size is a thumbnail, or what a telephone adds.
    png(folder / "other.png", noise(3), 2, 8)
    other = subprocess.run(["bash", "-c", f"gst-launch-1.0 -q filesrc location={folder}/other.png ! pngdec ! videoconvert ! "
                            "jpegenc ! fdsink"], capture_output=True, env=environment(preload=True), check=True).stdout
    (folder / "two.jpg").write_bytes(first + other)
    check(len(pixels(folder / "two.jpg")) == 48)


def standard_input_pipes_and_data_uris_are_read(folder):
    picture = png(folder / "a.png", noise(3), 2, 8)
    expected = pixels(picture)
    with open(picture, "rb") as file:
        check(pixels("-", stdin=file) == expected, "a picture from a file")
    check(pixels("-", input=picture.read_bytes()) == expected, "a picture from a pipe")
    for name in ("a.mkv", "a.avi", "a.mov", "a.mjpeg"):
        data = open(path(name), "rb").read()
        interval = "0.4" if name == "a.mjpeg" else "1"
        with open(path(name), "rb") as file:
            check(is_rainbow(clip("-", interval, stdin=file)[0]), name, "from a file")
        check(is_rainbow(clip("-", interval, input=data)[0]), name, "from a pipe")
        check(is_rainbow(clip(f"data:;base64,{base64.b64encode(data).decode()}", interval)[0]), name, "from a data: URI")
        done = subprocess.run(["bash", "-c", f"'{DUMP}' <(cat '{path(name)}') {interval}"], capture_output=True,
                              timeout=60 * SLOW, env=environment(), check=False)
        check(is_rainbow(frames_of(done.stdout)), name, "from a named pipe", done.stderr)
    for data in (b"", b"no picture\n" * 500):
        frames, status, said = dump("-", input=data)
        check(status == 1 and not frames and said, status, said)
    model = tiny_model(BASE)
    done = good(run(f"'{GLM4V}' describe --model '{model}' --max-tokens 2 --json - < '{picture}'"))
    check(one_result(done.stdout)["input"] == "-", done.stdout)


def a_pipe_is_described_while_it_is_written(folder):
    """Motion JPEG from a camera program has no end: its first frames come at once."""
    data = open(path("a.mjpeg"), "rb").read()

    def write(pipe):
        with contextlib.suppress(OSError):
            while True:
                pipe.write(data)
    with subprocess.Popen([DUMP, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as child:
        clock = threading.Timer(60 * SLOW, child.kill)
        writer = threading.Thread(target=write, args=(child.stdin,))
        clock.start()
        writer.start()
        line = child.stdout.readline()
        child.kill()
        clock.cancel()
        writer.join()
        with contextlib.suppress(OSError):
            child.stdin.close()
    check(line == b"64 48 0\n", "no frame before the end of the pipe", line)


def the_rotation_of_the_container_is_undone(folder):
    rows = [[(255, 0, 0) if x < 16 else (0, 255, 0) for x in range(80)] for _ in range(48)]
    for n in range(5):
        png(folder / f"{n}.png", rows, 2, 8)
    good(gst_launch(f"-q multifilesrc location={folder}/%d.png caps=image/png,framerate=5/1 ! pngdec ! videoconvert ! "
                    f"x264enc ! mp4mux ! filesink location={folder}/a.mp4"))
    def quarter(frame, width, height):
        """Where the red is."""
        places = {"left": (3, height // 2), "right": (width - 4, height // 2), "top": (width // 2, 3),
                  "bottom": (width // 2, height - 4)}
        at = {name: 3 * (y * width + x) for name, (x, y) in places.items()}
        return [name for name, start in at.items() if near(frame[start:start + 3], (255, 0, 0))]
    for degrees, side in ((0, "left"), (90, "bottom"), (180, "right"), (270, "top")):
        ffmpeg("-i", folder / "a.mp4", "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}", folder / "b.mp4")
        width, height, _, frame = clip(folder / "b.mp4")[0][0]
        check((width, height) == ((80, 48) if degrees % 180 == 0 else (48, 80)), degrees, width, height)
        check(quarter(frame, width, height) == [side], degrees, quarter(frame, width, height))
        ffmpeg("-i", folder / "b.mp4", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", folder / "frame")
        check(quarter((folder / "frame").read_bytes(), width, height) == [side], "ffmpeg disagrees at", degrees)


def retimed(folder, name, function, count=40):
    """The frames of a.avi in a Matroska file whose times are those that the function gives, in milliseconds."""
    body = b""

    def element(number, data):
        return bytes.fromhex(number) + (len(data) | 1 << 56).to_bytes(8, "big") + data

    def integer(number, value):
        return element(number, value.to_bytes(4, "big"))
    for n in range(count):
        frame = open(path(f"all-{n % 40:02}.jpg"), "rb").read()
        body += element("1F43B675", integer("E7", function(n)) + element("A3", b"\x81\0\0\x80" + frame))
    track = element("AE", integer("D7", 1) + integer("73C5", 1) + integer("83", 1) + element("86", b"V_MJPEG") +
                    integer("23E383", 100_000_000) + element("E0", integer("B0", 64) + integer("BA", 48)))
    head = element("1A45DFA3", integer("42F7", 1) + element("4282", b"matroska") + integer("4287", 4) + integer("4285", 2))
    info = element("1549A966", integer("2AD7B1", 1_000_000))
    (folder / name).write_bytes(head + element("18538067", info + element("1654AE6B", track) + body))
    return folder / name


def time_that_goes_back_or_stands_still_goes_on(folder):
    plain = [n * 100 for n in range(40)]
    for name, function in (("plain", lambda n: n * 100), ("back to 0", lambda n: n % 20 * 100),
                           ("three times", lambda n: n % 15 * 100), ("still", lambda n: 0),
                           ("still at the end", lambda n: min(n, 20) * 100)):
        file = retimed(folder, "a.mkv", function)
        check(times(clip(file)[0]) == plain, name, times(clip(file)[0]))
        frames, _ = clip(file, "1")
        check(times(frames) == [0, 1000, 2000, 3000] and is_rainbow(frames), name, times(frames))
    # An unsteady clock goes on by itself, and no error adds up.
    found = times(clip(retimed(folder, "a.mkv", lambda n: n * 100 + 50 - n % 2 * 130))[0])
    check(found == sorted(set(found)) and len(found) == 40 and found[-1] <= 4000, found)
    # A jump forward is what the clip says.
    found = times(clip(retimed(folder, "a.mkv", lambda n: n * 100 + (n >= 20) * 5000))[0])
    check(found == [n * 100 + (n >= 20) * 5000 for n in range(40)], found)


def a_cover_is_not_the_video(folder):
    """A video track of one picture, before the video and behind it; in each container."""
    for name, mux in (("a.mkv", "matroskamux"), ("a.mov", "qtmux")):
        for cover_first in (True, False):
            tracks = [f"videotestsrc pattern=black num-buffers=1 ! video/x-raw,{SIZE},framerate=10/1 ! jpegenc ! jpegparse ! "
                      "queue ! m.", f"filesrc location={path('a.avi')} ! avidemux ! jpegparse ! queue ! m."]
            line = " ".join(tracks if cover_first else tracks[::-1])
            good(gst_launch(f"-q {mux} name=m ! filesink location={folder}/{name} {line}"))
            frames, said = clip(folder / name, "1")
            check(is_rainbow(frames), name, cover_first, times(frames), said)
            if name == "a.mov":
                continue
            counts = [len(clip(folder / name, "1", track)[0]) for track in ("1", "2")]
            check(counts == ([1, 4] if cover_first else [4, 1]), name, cover_first, counts)
    # What qtdemux takes for a preview it does not show at all.
    done = good(run([GLM4V, "describe", "--model", tiny_model(BASE), "--video-track", "1", folder / "a.mov"]), 1)
    check("there is no video track 1 in it: it has 1, from 0 on" in done.stderr, done.stderr)
    model = tiny_model(BASE)
    words = [GLM4V, "describe", "--model", model, "--max-tokens", "1", "--json"]
    lines = results_of(good(run([*words, "--video-track", "0", path("a.mkv")])).stdout)
    check(len(lines) == 4, lines)
    done = good(run([*words, "--video-track", "7", path("a.mkv")]), 1)
    check("there is no video track 7 in it: it has 1, from 0 on" in done.stderr, done.stderr)


def warning(folder, file, *words):
    """The line about damage, in both forms."""
    model = tiny_model(BASE)
    done = good(run([GLM4V, "describe", "--model", model, "--max-tokens", "1", "--json", *words, file]))
    lines = results_of(done.stdout)
    check(lines[-1]["status"] == "warning" and lines[-1]["message"] in done.stderr, lines[-1], done.stderr)
    return lines[-1], lines[:-1]


def damaged_frames_are_counted_and_told(folder):
    frames = [open(path(f"all-{n:02}.jpg"), "rb").read() for n in range(40)]
    avi = bytearray(open(path("a.avi"), "rb").read())
    for n in (5, 20, 21):  # two with a hole in their data, and one that is no JPEG
        at = avi.index(frames[n][:-2], sum(map(len, frames[:n])))
        size = len(frames[n])
        if n == 21:
            avi[at:at + 200] = bytes(200)
        else:
            avi[at + size - 26:at + size - 2] = b"\xff\xd9" * 12
    (folder / "bad.avi").write_bytes(avi)
    told, results = warning(folder, folder / "bad.avi", "--interval", "0")
    check(told["damaged-frames"] == 3 and told["frames"] == 40, told)
    check(sum("damaged" in result for result in results) == 2 and len(results) == 39, len(results))
    check(not [line for line in clip(path("a.avi"))[1].splitlines() if "damaged" in line])
    good(gst_launch(f"-q videotestsrc num-buffers=50 ! video/x-raw,width=160,height=120,framerate=25/1 ! "
                    f"x264enc key-int-max=10 ! mp4mux ! filesink location={folder}/a.mp4"))
    whole = (folder / "a.mp4").read_bytes()
    check(not clip(folder / "a.mp4", "1")[1], "a sound H.264 clip is told to be damaged")
    data = bytearray(whole)
    middle = whole.index(b"mdat") + (len(whole) - whole.index(b"mdat")) // 3
    data[middle:middle + 300] = bytes(range(1, 151)) * 2
    (folder / "bad.mp4").write_bytes(data)
    told, _ = warning(folder, folder / "bad.mp4")
    check(told["damaged-frames"] >= 1, told)
    check(re.search(r"\d+ of \d+ frames are damaged \(the first: .+\)", told["message"]), told)


def a_clip_that_is_cut_short_is_told(folder):
    good(gst_launch(f"-q videotestsrc num-buffers=200 ! video/x-raw,{SIZE},framerate=10/1 ! x264enc ! "
                    f"matroskamux ! filesink location={folder}/a.mkv"))
    whole = (folder / "a.mkv").read_bytes()
    (folder / "b.mkv").write_bytes(whole[:len(whole) // 2])
    told, _ = warning(folder, folder / "b.mkv", "--interval", "5")
    check("s of 20.0 s: it is cut short or damaged" in told["message"], told)


def the_first_real_error_is_told(folder):
    """Never GStreamer's words for the consequence."""
    (folder / "sound.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0")
    frame = open(path("all-00.jpg"), "rb").read()
    broken = bytearray(open(path("a.avi"), "rb").read())
    at = broken.index(frame[:100])
    broken[at:at + 200] = bytes(200)
    (folder / "broken.avi").write_bytes(broken[:at + 400])
    mov = open(path("a.mov"), "rb").read()
    (folder / "headless.mov").write_bytes(mov[:len(mov) // 2])
    (folder / "noise.mp4").write_bytes(mov[:200] + bytes(4000))
    for name in ("sound.wav", "broken.avi", "headless.mov", "noise.mp4"):
        frames, status, said = dump(folder / name)
        check("Internal data stream error" not in said and (status == 0 or said), name, status, said)
        check(status == 1 and not frames, name, status, len(frames), said)


@contextlib.contextmanager
def served(folder):
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {
        "log_message": lambda *_: None,
        "__init__": lambda self, *words: http.server.SimpleHTTPRequestHandler.__init__(self, *words, directory=str(folder))})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def a_picture_by_http_is_read_as_a_file_is(folder):
    rows = noise(3, 16)
    picture = png(folder / "a.png", rows, 2, 16)
    whole = picture.read_bytes()
    (folder / "b.png").write_bytes(whole[:len(whole) // 2])
    with served(folder) as url:
        check(pixels(f"{url}/a.png") == pixels(picture))
        frames, status, said = dump(f"{url}/b.png")
        check(status == 1 and not frames and "damaged or cut short" in said, status, said)


if __name__ == "__main__":
    try:
        make_clips()
        main([motion_jpeg_without_a_container_is_a_clip, standard_input_pipes_and_data_uris_are_read,
              a_pipe_is_described_while_it_is_written, the_rotation_of_the_container_is_undone,
              time_that_goes_back_or_stands_still_goes_on, a_cover_is_not_the_video, damaged_frames_are_counted_and_told,
              a_clip_that_is_cut_short_is_told, the_first_real_error_is_told, a_picture_by_http_is_read_as_a_file_is])
    finally:
        shutil.rmtree(BASE)
