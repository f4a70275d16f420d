#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cameras that break off, stall, end, send garbage and come back: glm4v describe and examples/watch-camera.c.

The camera is tests/support/rtsp_server.c, a process that is killed, stopped (SIGSTOP) and started again on its port;
by HTTP a server of this file; by UDP gst-launch-1.0. No test tells how fast something is; bounds are there so that a
wait ends.
"""
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from common import (BUILD, GLM4V, HTTP_LEAKS, SHIPPED, SLOW, SOURCE, Skip, check, environment, good, gst_launch, main,
                    one_result, results_of, run, tiny_model)

BASE = tempfile.mkdtemp(prefix="glm4v-cameras-")
MODEL = None
SERVER = BUILD / "tests" / "pipeline" / "rtsp-server"
WAIT = 60 * SLOW  # longer than anything takes
FRAME = "video/x-raw,format=I420,width=160,height=120,framerate=15/1"
# Every line on stderr while a camera is away.
MESSAGE = (r"glm4v: (rtsp|rtspt|udp|http)://\S+: ((attempt \d+: )?\S.*; attempt \d+ in [\d.]+ s \(giving up in \d+ s\)|"
           r"receiving frames again, after [\d.]+ s and \d+ attempts?)")
DEEP = bool(os.environ.get("GLM4V_DEEP"))


class Program:
    """A program in the background; its lines are kept as they come."""

    def __init__(self, words, **env):
        self.child = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, env=environment(**env))
        self.out, self.err = [], []
        self.readers = [threading.Thread(target=self.read, args=pair, daemon=True)
                        for pair in ((self.child.stdout, self.out), (self.child.stderr, self.err))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(pipe, lines):
        for line in pipe:
            lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def wait_until(self, holds, what):
        end = time.monotonic() + WAIT
        while not holds():
            check(time.monotonic() < end and self.child.poll() is None, "waited for", what, "status", self.child.poll(),
                  self.out, self.err)
            time.sleep(0.05)

    def wait_for_captions(self, more=2):
        count = len(self.out) + more
        self.wait_until(lambda: len(self.out) >= count, f"{more} captions")

    def wait_for_word(self, text, after=0):
        self.wait_until(lambda: any(text in line for line in self.err[after:]), text)

    def end(self, status):
        """Waits for the end."""
        try:
            self.child.wait(WAIT)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"does not end: {self.out} {self.err}") from late
        for reader in self.readers:
            reader.join(WAIT)
        check(self.child.returncode == status, "status", self.child.returncode, "not", status, self.out, self.err)
        check(not any("Sanitizer" in line for line in self.err), *self.err)  # exits with 1, as a failed input does
        return self

    def close(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Camera:
    """The RTSP server; started again it has the same address."""

    def __init__(self, launch=None):
        if not SERVER.exists():
            raise Skip("libgstrtspserver-1.0-dev is not installed")
        self.launch, self.port, self.server = launch, 0, None
        self.start()

    def start(self):
        words = [SERVER, "--port", self.port, "--seconds", 3600]
        self.server = Program(words + ([self.launch] if self.launch else []))
        self.server.wait_until(lambda: self.server.out, "the server's address")
        self.url = self.server.out[0]
        self.port = int(re.search(r":(\d+)/", self.url)[1])

    def signal(self, number):
        self.server.child.send_signal(number)

    def kill(self):
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def describe(*words, **env):
    return Program([GLM4V, "describe", "--model", MODEL, "--max-tokens", "2", *words], **env)


def times(lines):
    """Of caption lines, in seconds."""
    found = [re.match(r"(\d\d):(\d\d):(\d\d\.\d{3})  ", line) for line in lines]
    check(all(found), lines)
    return [int(m[1]) * 3600 + int(m[2]) * 60 + float(m[3]) for m in found]


def a_camera_that_is_killed_is_an_error_that_says_what_to_do(folder):
    with Camera() as camera, describe("--json", camera.url) as program:
        program.wait_for_captions()
        camera.kill()
        program.end(1)
        check(len(program.err) == 1 and "was interrupted" in program.err[0] and "--reconnect SECONDS" in program.err[0],
              program.err)
        told = results_of("\n".join(program.out))
        check(told[-1]["status"] == "error" and told[-1]["message"] in program.err[0], told[-1])
        check(all(result["status"] == "ok" for result in told[:-1]), told)


def a_camera_that_stops_without_a_word_is_an_error(folder):
    with Camera() as camera, describe("--timeout", 3, camera.url) as program:
        program.wait_for_captions()
        camera.signal(signal.SIGSTOP)
        program.end(1)
        check(len(program.err) == 1 and "no frame for 3 s" in program.err[0] and "--reconnect" in program.err[0],
              program.err)


def a_camera_that_ends_its_stream_is_an_error(folder):
    launch = f"( videotestsrc is-live=true ! identity eos-after=60 ! {FRAME} ! jpegenc ! rtpjpegpay name=pay0 )"
    with Camera(launch) as camera, describe("--timeout", 20 * SLOW, camera.url) as program:
        program.end(1)
        check(len(program.err) == 1 and "ended by its sender" in program.err[0], program.err)
        check(program.out, "no caption before the end")


def a_recording_that_a_camera_sends_to_its_end_is_no_error(folder):
    clip = folder / "clip.mov"
    good(gst_launch(f"-q videotestsrc num-buffers=60 ! {FRAME} ! jpegenc ! qtmux ! filesink location={clip}"))
    with Camera(f"( filesrc location={clip} ! qtdemux ! jpegparse ! rtpjpegpay name=pay0 )") as camera, \
            describe("--timeout", 20 * SLOW, "--reconnect", 60, camera.url) as program:
        program.end(0)
        check(not program.err and program.out, program.err, program.out)


def a_camera_that_never_was_there_is_an_error(folder):
    with Camera() as camera:
        camera.kill()
        with describe("--timeout", 5, camera.url) as program:
            program.end(1)
            check(len(program.err) == 1 and "connect" in program.err[0] and not program.out, program.err)


def an_address_that_swallows_everything_is_an_error_and_a_signal_ends_it(folder):
    """A listener whose queue is full: the system answers nothing, as where a cable is pulled."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        try:
            for scheme in ("rtsp", "rtspt"):
                url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/camera"
                with describe("--timeout", 2, url) as program:
                    program.end(1)
                    check("no frame within 2 s" in program.err[0], program.err)
                with describe("--timeout", 3600, url) as program:
                    time.sleep(1)
                    program.child.send_signal(signal.SIGINT)
                    program.end(-signal.SIGINT)
        finally:
            for client in waiting:
                client.close()


class Cable:
    """A relay of TCP connections that can be pulled out: what is sent then is lost, and nobody is told."""

    def __init__(self, port):
        self.port, self.pulled = port, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtspt://127.0.0.1:{self.listener.getsockname()[1]}/camera"
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            self.sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source, target):
        try:
            while data := source.recv(65536):
                if not self.pulled:
                    target.sendall(data)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in [self.listener] + self.sockets:
            one.close()


def a_cable_that_is_pulled_is_noticed_and_captions_return(folder):
    with Camera() as camera, Cable(camera.port) as cable:
        with describe("--timeout", 3, cable.url) as program:
            program.wait_for_captions()
            cable.pulled = True
            program.end(1)
            check("no frame for 3 s" in program.err[0], program.err)
        cable.pulled = False
        with describe("--timeout", 3, "--reconnect", 3600, cable.url) as program:
            program.wait_for_captions()
            cable.pulled = True
            program.wait_for_word("attempt 2 in")
            cable.pulled = False
            program.wait_for_word("frames again")
            program.wait_for_captions()
            program.child.send_signal(signal.SIGINT)
            program.end(-signal.SIGINT)


def captions_return_with_the_camera_and_times_go_on(folder):
    with Camera() as camera, describe("--timeout", 3, "--reconnect", 3600, camera.url) as program:
        program.wait_for_captions()
        for way in ("killed", "stopped"):
            told = len(program.err)
            if way == "killed":
                camera.kill()
            else:
                camera.signal(signal.SIGSTOP)
            program.wait_for_word("attempt 2 in", told)
            captions = len(program.out)
            if way == "killed":
                camera.start()
            else:
                camera.signal(signal.SIGCONT)
            program.wait_for_word("frames again", told)
            program.wait_for_captions()
            lines = program.err[told:]
            check(all(re.fullmatch(MESSAGE, line) for line in lines), lines)
            check(("was interrupted" if way == "killed" else "no frame for 3 s") in lines[0], lines)
            attempts, pauses = zip(*[(int(m[1]), float(m[2])) for m in
                                     (re.search(r"; attempt (\d+) in ([\d.]+) s \(giving", line) for line in lines) if m])
            check(list(attempts) == list(range(1, len(attempts) + 1)), "each attempt is told once", lines)
            check(list(pauses) == sorted(pauses) and max(pauses) <= 4, pauses)
            moments = times(program.out)
            check(moments == sorted(moments), moments)
            gap = moments[captions] - moments[captions - 1]
            check(gap > 2, "an outage of more than 3 s is", gap, "s of the captions' times")
        program.child.send_signal(signal.SIGINT)
        program.end(-signal.SIGINT)


def after_the_given_time_it_gives_up(folder):
    with Camera() as camera, describe("--timeout", 3, "--reconnect", 5, "--json", camera.url) as program:
        program.wait_for_captions()
        camera.kill()
        lost = time.monotonic()
        program.end(1)
        check(time.monotonic() - lost >= 4.5, "gave up early:", program.err)
        check(re.search(r"gave up after \d+ s and \d+ attempts$", program.err[-1]), program.err)
        check(json.loads(program.out[-1])["message"] in program.err[-1], program.out[-1])


def a_camera_that_is_switched_on_later_is_waited_for(folder):
    with Camera() as camera:
        camera.kill()
        with describe("--timeout", 5, "--reconnect", 3600, camera.url) as program:
            program.wait_for_word("attempt 2 in")
            camera.start()
            program.wait_for_captions()
            check(times(program.out)[0] < 1, "the time begins with the first frame", program.out)
            program.child.send_signal(signal.SIGTERM)
            program.end(-signal.SIGTERM)


def a_signal_ends_it_in_each_state(folder):
    with Camera() as camera, describe("--timeout", 3600, camera.url) as program:
        camera.signal(signal.SIGSTOP)
        with describe("--timeout", 3600, camera.url) as waiting:  # for the first answer
            time.sleep(1)
            waiting.child.send_signal(signal.SIGINT)
            waiting.end(-signal.SIGINT)
            check(not waiting.out and not waiting.err, waiting.err)
        camera.signal(signal.SIGCONT)
        program.wait_for_captions()
        camera.signal(signal.SIGSTOP)  # for the next frame
        time.sleep(1)
        program.child.send_signal(signal.SIGTERM)
        program.end(-signal.SIGTERM)
        check(not program.err and times(program.out), program.err)
    with describe("--reconnect", 3600, camera.url) as program:
        program.wait_for_word("attempt 4 in")  # a pause of seconds
        program.child.send_signal(signal.SIGINT)
        program.end(-signal.SIGINT)
        check(not program.out, program.out)


def endless_model(folder):
    """A model that never stops by itself: each answer takes thousands of tokens."""
    model = shutil.copytree(MODEL, folder / "model")
    config = (model / "config.json").read_text()
    endless = re.sub(r'"eos_token_id": \[[^]]*\]', '"eos_token_id": [383]', config)
    check(endless != config, config)
    (model / "config.json").write_text(endless.replace('"max_position_embeddings": 4096',
                                                       '"max_position_embeddings": 131072'))
    return model


def a_signal_ends_the_answer_under_way(folder):
    picture = folder / "picture.png"
    good(gst_launch(f"-q videotestsrc num-buffers=1 ! pngenc ! filesink location={picture}"))
    words = [GLM4V, "describe", "--model", endless_model(folder), "--max-tokens", "65536", "--json"] + [picture] * 50
    with Program(words) as program:
        program.wait_for_captions(2)  # the settings are a line too
        program.child.send_signal(signal.SIGINT)
        program.end(-signal.SIGINT)
        check(not program.err, program.err)
        check(one_result("\n".join(program.out))["tokens"]["out"] > 3000, program.out[0])


def a_slow_model_describes_what_the_camera_sees_now(folder):
    tokens = 65536 // SLOW ** 2  # sanitized, so many take minutes
    with Camera() as camera, Program([GLM4V, "describe", "--model", endless_model(folder), "--max-tokens", tokens,
                                      "--interval", "0", camera.url]) as program:
        began = time.monotonic()
        program.wait_for_captions(1)
        first = time.monotonic()
        program.wait_for_captions(3)
        moments, took = times(program.out), (time.monotonic() - first) / 3
        check(moments[3] - moments[1] > took, "frames 1/15 s apart, or nearly, are described:", moments, took, first - began)


def growth(pid):
    """Open files, threads and resident KiB of a process."""
    status = open(f"/proc/{pid}/status").read()
    return (len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"Threads:\s+(\d+)", status)[1]),
            int(re.search(r"VmRSS:\s+(\d+)", status)[1]))


def many_reconnects_leave_nothing_behind(folder):
    """G-14. With one heap for all threads, what is resident tells of a leak; the sanitizer tells when the program ends."""
    rounds = 1000 if DEEP else 20
    with Camera() as camera, describe("--timeout", 5 * SLOW, "--reconnect", 10, "--interval", "0", camera.url,
                                      MALLOC_ARENA_MAX=1) as program:
        sizes = []
        for number in range(rounds):
            program.wait_for_captions()
            sizes.append(growth(program.child.pid))
            told = len(program.err)
            camera.kill()
            program.wait_for_word("attempt 1 in", told)
            camera.start()
            program.wait_for_word("frames again", told)
        program.wait_for_captions()
        sizes.append(growth(program.child.pid))
        files, threads, memory = zip(*sizes)
        check(min(files[-5:]) <= max(files[:5]) and min(threads[-5:]) <= max(threads[:5]), "files and threads grow:", sizes)
        if SLOW == 1:
            check(min(memory[-5:]) <= max(memory[:8]) + 512, "memory grows:", memory)
        camera.kill()
        program.end(1)


def a_camera_may_come_back_with_another_size(folder):
    with Camera() as camera, describe("--timeout", 5 * SLOW, "--reconnect", 60, "--json", camera.url) as program:
        program.wait_for_captions()
        camera.kill()
        camera.launch = f"( videotestsrc is-live=true ! {FRAME} ! jpegenc ! rtpjpegpay name=pay0 )"
        camera.start()
        program.wait_for_word("frames again")
        program.wait_for_captions()
        sizes = [(result["width"], result["height"]) for result in results_of("\n".join(program.out))]
        check(sizes[0] == (320, 240) and sizes[-1] == (160, 120) and len(set(sizes)) == 2, sizes)


def every_frame_of_a_flapping_camera_keeps_its_interval(folder):
    with Camera() as camera, describe("--timeout", 5, "--reconnect", 60, "--interval", "3600", camera.url) as program:
        program.wait_for_captions(1)
        for _ in range(2):
            told = len(program.err)
            camera.kill()
            program.wait_for_word("attempt 1 in", told)
            camera.start()
            program.wait_for_word("frames again", told)
        time.sleep(1)
        check(len(program.out) == 1, program.out)


class Http:
    """Serves /camera (Motion JPEG without an end), /short (that ends), /stall, /file (a clip), /login."""

    def __init__(self, clip):
        jpeg = run_to_bytes(f"videotestsrc num-buffers=1 ! {FRAME} ! jpegenc ! fdsink")

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/login":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                elif self.path == "/file":
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(clip)))
                    self.end_headers()
                    self.wfile.write(clip)
                else:
                    self.send_response(200)
                    self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
                    self.end_headers()
                    self.frames({"/short": 30, "/stall": 30}.get(self.path, 100000))

            def frames(self, count):
                try:
                    for _ in range(count):
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) +
                                         jpeg + b"\r\n")
                        time.sleep(0.05)
                    if self.path == "/stall":
                        time.sleep(WAIT)
                except OSError:  # the client has gone
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def run_to_bytes(line):
    done = subprocess.run(["bash", "-c", f"gst-launch-1.0 -q {line}"], capture_output=True, timeout=WAIT,
                          env=environment(preload=True))
    check(done.returncode == 0 and done.stdout, done.stderr)
    return done.stdout


def a_camera_by_http_is_treated_alike_and_a_file_by_http_is_a_file(folder):
    good(gst_launch(f"-q videotestsrc num-buffers=45 ! {FRAME} ! jpegenc ! avimux ! filesink location={folder}/clip.avi"))
    with Http((folder / "clip.avi").read_bytes()) as server:
        def ask(*words):
            return describe(*words, **HTTP_LEAKS)
        with ask("--timeout", 20 * SLOW, "--interval", "0", f"{server.url}/short") as program:
            program.end(1)
            check("ended by its sender" in program.err[0] and program.out, program.err)
        with ask("--timeout", 3, "--interval", "0", f"{server.url}/stall") as program:
            program.end(1)
            check("no frame for 3 s" in program.err[0] and program.out, program.err)
        with ask("--reconnect", 60, "--interval", "0", f"{server.url}/short") as program:
            program.wait_for_word("frames again")
            program.wait_for_captions()
        with ask("--reconnect", 60, f"{server.url}/file") as program:
            program.end(0)
            check(len(program.out) == 3 and not program.err, program.out, program.err)
        with ask("--reconnect", 60, f"{server.url}/login") as program:
            program.end(1)
            check(len(program.err) == 1 and "login was refused" in program.err[0], program.err)
        with Program([BUILD / "examples" / "watch-camera", f"{server.url}/short", folder / "recording.mkv"],
                     GLM4V_MODEL=MODEL) as program:
            program.wait_until(lambda: sum(line.startswith("camera  connected") for line in program.out) >= 2, "its return")
            check(any("the stream ended" in line for line in program.out), program.out)
            program.wait_until(lambda: any(line.startswith("caption") for line in program.out), "a caption")


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def a_stream_by_udp_is_treated_alike(folder):
    port = free_udp_port()
    words = (f"gst-launch-1.0 -q videotestsrc is-live=true ! {FRAME} ! x264enc tune=zerolatency key-int-max=15 ! mpegtsmux ! "
             f"udpsink host=127.0.0.1 port={port}").split()
    with describe("--timeout", 3, "--reconnect", 3600, f"udp://127.0.0.1:{port}") as program:
        for _ in range(2):
            told = len(program.err)
            sender = Program(words)
            program.wait_for_captions()
            sender.close()
            program.wait_for_word("no frame for 3 s", told)
        moments = times(program.out)
        check(moments == sorted(moments), moments)
    with describe("--timeout", 3, f"udp://127.0.0.1:{port}") as program:
        program.end(1)
        check("no frame within 3 s" in program.err[0], program.err)


def a_server_that_answers_garbage_is_told_and_tried_again(folder):
    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(b"\x00\xff\x13RTSP garbage\r\n" * 50)
                connection.close()
            except OSError:
                return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with describe("--timeout", 3, "--reconnect", 4, f"rtsp://127.0.0.1:{listener.getsockname()[1]}/x") as program:
            program.end(1)
            check(len(program.err) >= 3 and "gave up after" in program.err[-1], program.err)


def help_and_document_tell_the_same_of_cameras(folder):
    text = re.sub(r"\s+", " ", good(run([GLM4V, "describe", "--help"])).stdout)
    page = re.sub(r"\s+", " ", (SOURCE / "docs" / "cameras.md").read_text())
    default = re.search(r"--timeout SECONDS .*?default (\d+)", text)[1]
    check(f"`--timeout` seconds ({default})" in page, "the default of --timeout", default)
    check(re.search(r"--reconnect SECONDS .*?default 0 = its end is an error, exit status 1", text), text)
    check("--reconnect" in text[text.index("examples:"):], "no example with --reconnect")
    for words in (["--timeout", "0"], ["--timeout", "100000"], ["--reconnect", "-1"], ["--reconnect", "always"]):
        done = run([GLM4V, "describe", *words, "rtsp://127.0.0.1:9/none"])
        check(done.returncode == 2 and words[0] in done.stderr, words, done.stderr)
    for line in re.findall(r"^glm4v: rtsp.*$", (SOURCE / "docs" / "cameras.md").read_text(), flags=re.M):
        check(re.fullmatch(MESSAGE, line), "no message of this kind is ever printed:", line)


def probe(recording, stream, entries):
    done = good(run(["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "csv=p=0",
                     recording]))
    check(not done.stderr, done.stderr)
    return [line.rstrip(",") for line in done.stdout.splitlines()]


def caption_times(lines):
    return [int(m[1]) * 60 + float(m[2]) for m in (re.match(r"caption 0:(\d\d):(\d\d\.\d+)  ", line) for line in lines) if m]


def the_example_records_on_and_captions_return(folder):
    """The model that comes with the project: black frames would not be called colour bars."""
    recording = folder / "recording.mkv"
    with Camera() as camera, Program([BUILD / "examples" / "watch-camera", camera.url, recording],
                                     GLM4V_MODEL=SHIPPED) as program:
        def wait_for(kind, count=1):
            seen = len(program.out)
            program.wait_until(lambda: sum(line.startswith(kind) for line in program.out[seen:]) >= count, kind)
        wait_for("caption", 3)
        # It comes back with another size, of which the recording must not know.
        camera.launch = f"( videotestsrc is-live=true ! {FRAME} ! jpegenc ! rtpjpegpay name=pay0 )"
        for away, back, word in ((camera.kill, camera.start, "lost: "),
                                 (lambda: camera.signal(signal.SIGSTOP), lambda: camera.signal(signal.SIGCONT), "no frame")):
            before = len(program.out)
            away()
            program.wait_until(lambda: any(word in line for line in program.out[before:]), word)
            lost = len(program.out)
            wait_for("camera  lost")  # a second time, with no caption in between
            # Answers that take seconds, as of a sanitized model, may still come: of frames before the outage.
            check(len(caption_times(program.out[lost:])) <= (2 if SLOW > 1 else 0), "captions of black frames:", program.out)
            back()
            wait_for("camera  connected")
            wait_for("caption", 3)
        program.child.send_signal(signal.SIGINT)
        program.end(0)
        check(not program.err, program.err)
    captions = [line for line in program.out if line.startswith("caption")]
    check(all("SMPTE" in line and "colour bars" in line for line in captions), captions)
    moments = caption_times(captions)
    check(moments == sorted(moments) and len(set(moments)) == len(moments), moments)
    check(max(b - a for a, b in zip(moments, moments[1:])) > 5, "no outage in", moments)
    check(probe(recording, "v", "stream=width,height") == ["640,360"], probe(recording, "v", "stream=width,height"))
    frames = [float(line) for line in probe(recording, "v", "packet=pts_time")]
    steps = [b - a for a, b in zip(frames, frames[1:])]
    check(abs(len(frames) / 10 - frames[-1]) < 1 and max(steps) < 1, "frames are missing:", frames)
    check(frames[-1] > moments[-1] - 0.2, "the recording ended before the last caption:", frames[-1], moments[-1])
    cues = [float(line) for line in probe(recording, "s", "packet=pts_time")]
    check(len(cues) >= len(moments) - 1, len(cues), "cues of", len(moments), "captions")


def the_example_tells_what_it_cannot_do(folder):
    program = BUILD / "examples" / "watch-camera"
    check(run([program]).returncode == 2)
    done = run([program, "rtsp://127.0.0.1:9/none", folder / "a.mkv"], env=environment(GLM4V_MODEL=folder / "none"))
    check(done.returncode == 1 and "none" in done.stderr, done.stderr)
    done = run([program, "rtsp://127.0.0.1:9/none", folder / "none" / "a.mkv"], env=environment(GLM4V_MODEL=MODEL))
    check(done.returncode == 1 and "none/a.mkv" in done.stderr, done.stderr)


if __name__ == "__main__":
    MODEL = tiny_model(BASE)
    try:
        main([a_camera_that_is_killed_is_an_error_that_says_what_to_do, a_camera_that_stops_without_a_word_is_an_error,
              a_camera_that_ends_its_stream_is_an_error, a_recording_that_a_camera_sends_to_its_end_is_no_error,
              a_camera_that_never_was_there_is_an_error,
              an_address_that_swallows_everything_is_an_error_and_a_signal_ends_it,
              a_cable_that_is_pulled_is_noticed_and_captions_return, captions_return_with_the_camera_and_times_go_on,
              after_the_given_time_it_gives_up, a_camera_that_is_switched_on_later_is_waited_for,
              a_signal_ends_it_in_each_state, a_signal_ends_the_answer_under_way,
              a_slow_model_describes_what_the_camera_sees_now, many_reconnects_leave_nothing_behind,
              a_camera_may_come_back_with_another_size, every_frame_of_a_flapping_camera_keeps_its_interval,
              a_camera_by_http_is_treated_alike_and_a_file_by_http_is_a_file, a_stream_by_udp_is_treated_alike,
              a_server_that_answers_garbage_is_told_and_tried_again, the_example_records_on_and_captions_return,
              the_example_tells_what_it_cannot_do,
              help_and_document_tell_the_same_of_cameras])
    finally:
        shutil.rmtree(BASE)
