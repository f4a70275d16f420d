#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many cameras, a few servers: streams_bench.py [--streams 200] [--interval 10] [--servers 3] [--seconds 60] [--kill]
                                 streams_bench.py --bytes FILE...

Starts servers (glm4v serve, the shipped model) and plays streams, each of which asks about one JPEG of 672x672 pixels
every --interval seconds, in its turn. This program is the balancer too, by the rules of docs/scale.md: the server with
the fewest requests under way gets the next one; a server that fails is left out with growing pauses, its requests and
those that are refused with 503 are asked once more elsewhere; an answer that is not there when the next frame of the
stream is due is lost. With --together all streams are due at the same moment, with --kill one server is killed at half
time. Prints one row of the table in docs/scale.md.
--bytes prints how large the JPEG files are that frames of pictures and videos become.
(Debian: python3-pil ffmpeg)
"""
import argparse
import asyncio
import base64
import io
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from PIL import Image, UnidentifiedImageError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLIP = ROOT / "examples" / "media" / "line.mp4"
PROMPT = "Describe the image in one sentence."
SIDE, QUALITY = 672, 90  # as an element with an endpoint sends pictures
FIRST_PAUSE, LAST_PAUSE = 0.5, 8.0  # seconds for which a server that failed is left out


# ---------------------------------------------------------------- pictures --------------------

def frames_of(path):
    """One frame a second of a video, or the picture."""
    try:
        picture = Image.open(path)
        if getattr(picture, "n_frames", 1) == 1:
            return [picture.convert("RGB")]
    except UnidentifiedImageError:
        pass
    except OSError as error:
        raise SystemExit(f"streams-bench: {path}: {error.strerror}") from error
    with tempfile.TemporaryDirectory() as folder:
        command = ["ffmpeg", "-v", "error", "-i", path, "-vf", "fps=1", f"{folder}/%04d.png"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(pathlib.Path(folder).iterdir())
        if done.returncode or not found:
            raise SystemExit(f"streams-bench: {path}: no frames: {done.stderr.strip()}")
        return [Image.open(one).convert("RGB") for one in found]


def jpeg(picture):
    """Quality 90, colours at full size."""
    file = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def print_bytes(paths):
    print("| frames of | frames | KB: median | smallest | largest | KB of a request |\n|---|---|---|---|---|---|")
    for path in paths:
        files = [jpeg(frame) for frame in frames_of(path)]
        sizes = sorted(len(file) / 1000 for file in files)
        request = statistics.median(len(body_of(file)) / 1000 for file in files)
        print(f"| {pathlib.Path(path).name} | {len(sizes)} | {statistics.median(sizes):.0f} | {sizes[0]:.0f} | {sizes[-1]:.0f} "
              f"| {request:.0f} |")


def body_of(file):
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(file).decode()}}
    return json.dumps({"messages": [{"role": "user", "content": [picture, {"type": "text", "text": PROMPT}]}],
                       "max_tokens": 33}).encode()


# ---------------------------------------------------------------- servers ---------------------

class Refused(Exception):
    """The server takes no request now."""


class Server:
    """A server, its free connections, and what the balancer knows of it."""

    def __init__(self, given):
        command = [given.glm4v, "serve", "--listen", "127.0.0.1:0", "--batch", str(given.batch), "--threads", str(given.threads),
                   "--max-requests", "128"]  # streams that are due together wait rather than be refused
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        line = self.process.stderr.readline()
        if " answers at " not in line:
            raise SystemExit(f"streams-bench: {' '.join(map(str, command))}: {line.strip()}")
        self.port = int(line.rsplit(":", 1)[1])
        self.free, self.under_way, self.most, self.answered, self.asked_at = [], 0, 0, 0, 0.0
        self.pause, self.absent_until = FIRST_PAUSE, 0.0

    async def ready(self):
        for _ in range(600):
            try:
                await self.exchange(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return
            except Refused:
                await asyncio.sleep(0.1)
        raise SystemExit("streams-bench: a server did not get ready")

    async def exchange(self, request):
        """The body of an answer with status 200; connections are used again."""
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(fields["content-length"]))
        except BaseException:
            writer.close()
            raise
        if fields.get("connection") == "close":
            writer.close()
        else:
            self.free.append((reader, writer))
        if head.split()[1] == "503":
            raise Refused
        if head.split()[1] != "200":
            raise SystemExit(f"streams-bench: {head.splitlines()[0]}: {body.decode()[:500]}")
        return body

    async def ask(self, body):
        self.under_way += 1
        self.asked_at = time.monotonic()
        self.most = max(self.most, self.under_way)
        try:
            head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n").encode()
            answer = json.loads(await self.exchange(head + body))["choices"][0]["message"]["content"]
            self.answered += 1
            self.pause = FIRST_PAUSE
            return answer
        finally:
            self.under_way -= 1

    def stop(self):
        """The seconds of processor time that it took in all."""
        os.kill(self.process.pid, signal.SIGKILL)  # one that was killed before is there until it is waited for
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def leave_out(self):
        self.absent_until = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, LAST_PAUSE)


class Balancer:
    def __init__(self, servers):
        self.servers, self.again = servers, 0

    def choose(self, but):
        """Of those that have not failed of late the one with the fewest requests under way, the longest unused of equals."""
        now = time.monotonic()
        there = [server for server in self.servers if server.absent_until <= now and server is not but]
        return min(there, key=lambda server: (server.under_way, server.asked_at), default=None)

    async def ask(self, body):
        """The answer, or None when two attempts failed."""
        failed = None
        for attempt in range(2):
            server = self.choose(failed)
            if not server:
                return None
            self.again += attempt
            try:
                return await server.ask(body)
            except (OSError, asyncio.IncompleteReadError):
                server.leave_out()
            except Refused:
                pass
            failed = server
        return None


# ---------------------------------------------------------------- streams ---------------------

async def play_stream(number, given, balancer, bodies, start):
    """Seconds from each due time to its answer, None for what was lost."""
    delays = []
    offset = 0 if given.together else given.interval * number / given.streams
    for frame in range(int(given.seconds / given.interval)):
        due = start + offset + frame * given.interval
        await asyncio.sleep(due - time.monotonic())
        try:
            answer = await asyncio.wait_for(balancer.ask(bodies[(number + frame) % len(bodies)]), given.interval)
        except asyncio.TimeoutError:
            answer = None
        delays.append(time.monotonic() - due if answer else None)
    return delays


async def kill_at_half_time(given, server, start):
    await asyncio.sleep(start + given.seconds / 2 - time.monotonic())
    os.kill(server.process.pid, signal.SIGKILL)


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(p * len(values)))]


async def measure(given, servers):
    bodies = [body_of(jpeg(frame)) for frame in frames_of(CLIP)]
    await asyncio.gather(*(server.ready() for server in servers))
    balancer, start = Balancer(servers), time.monotonic() + 1
    loads = [os.getloadavg()[0]]
    tasks = [play_stream(number, given, balancer, bodies, start) for number in range(given.streams)]
    if given.kill:
        tasks.append(kill_at_half_time(given, servers[0], start))
    done = await asyncio.gather(*tasks)
    loads.append(os.getloadavg()[0])
    delays = [delay for stream in done[:given.streams] for delay in stream]
    if not any(delays):
        raise SystemExit("streams-bench: no answer")
    return delays, balancer.again, loads


def print_row(given, servers, measured, seconds):
    delays, again, loads = measured
    answered = [delay for delay in delays if delay is not None]
    name = ("together" if given.together else "in turn") + (", one server killed" if given.kill else "")
    times = " / ".join(f"{percentile(answered, p):.2f}" for p in (0.5, 0.95, 0.99)) + f" / {max(answered):.2f}"
    print("| streams | frames | lost | asked again | s to the answer: median / 95 % / 99 % / largest | most under way | "
          "by server | processor ms an answer | load |\n|---|---|---|---|---|---|---|---|---|")
    print(f"| {given.streams}, {name} | {len(delays)} | {len(delays) - len(answered)} | {again} | {times} "
          f"| {', '.join(str(server.most) for server in servers)} | {', '.join(str(server.answered) for server in servers)} "
          f"| {1000 * seconds / sum(server.answered for server in servers):.0f} | {loads[0]:.0f} to {loads[1]:.0f} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glm4v", default=ROOT / "build" / "tools" / "glm4v", metavar="PROGRAM", help="default: %(default)s")
    for name, default, text in (("streams", 200, "cameras"), ("servers", 3, "glm4v serve processes"),
                                ("batch", 4, "requests that a server advances together"), ("threads", 1, "of each server")):
        arguments.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text}; default: {default}")
    arguments.add_argument("--interval", type=float, default=10, metavar="S", help="between frames of a stream; default: 10")
    arguments.add_argument("--seconds", type=float, default=60, metavar="S", help="default: 60")
    arguments.add_argument("--together", action="store_true", help="all streams are due at the same moment")
    arguments.add_argument("--kill", action="store_true", help="one server is killed at half time")
    arguments.add_argument("--bytes", nargs="+", metavar="FILE", help="sizes of JPEG files, no servers")
    given = arguments.parse_args()
    if given.bytes:
        print_bytes(given.bytes)
        return
    if min(given.streams, given.servers, given.batch, given.threads) < 1 or not 0 < given.interval <= given.seconds:
        arguments.error("numbers are from 1 on, and --seconds is at least --interval")
    servers, measured = [], None
    try:
        for _ in range(given.servers):
            servers.append(Server(given))
        measured = asyncio.run(measure(given, servers))
    finally:
        seconds = sum(server.stop() for server in servers)
    print_row(given, servers, measured, seconds)


if __name__ == "__main__":
    sys.exit(main())
