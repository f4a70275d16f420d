# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running server for the tests, and plain clients of it. Everything that it sends is kept for a look at the end."""
import base64
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "pipeline"))
from common import (BUILD, EXAMPLES, GLM4V, SHIPPED, SLOW, SOURCE, Skip, check, check_object,  # noqa: E402,F401
                    environment, good, gst_launch, main, one_result, results_of, run, tiny_model)

PICTURE = SOURCE / "tests" / "data" / "surface-tiny" / "001.png"
PROMPT = "Describe the image in one sentence."
TRAFFIC = []  # what servers sent
# Pointers, paths, names of shared memory, words of other libraries' failures (H-09).
LEAKS = re.compile(rb"0x[0-9a-f]{6,}|/(?:home|root|usr|tmp|work|proc|dev|var|etc)/|Traceback|terminate called|\bat line \d", re.I)


class Server:
    """glm4v serve at a free port, or at a UNIX socket, started by other words before its own; a context."""

    def __init__(self, *options, model=SHIPPED, address="127.0.0.1:0", env=None, wait=True, launch=()):
        words = [*map(str, launch), str(GLM4V), "serve", "--listen", address, "--model", str(model), *map(str, options)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        env=environment(**(env or {})))
        self.log, self.stopping = "", False
        if wait:
            self.address = self.wait_for(r"answers at (?:http://)?(\S+)")
            self.port = int(self.address.rsplit(":", 1)[1]) if not self.address.startswith("unix:") else None

    def wait_for(self, pattern):
        while True:
            line = self.process.stderr.readline().decode()
            self.log += line
            match = re.search(pattern, line)
            if match:
                return match.group(1)
            check(line, "the server ended:", self.log, self.process.poll())

    def __enter__(self):
        return self

    def stop(self):
        """Once: a second signal would end it at once."""
        if not self.stopping and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.stopping = True

    def __exit__(self, *why):
        self.stop()
        try:
            rest = self.process.communicate(timeout=20 * SLOW)[1].decode()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("the server does not stop") from None
        self.log += rest
        if not why[0]:
            check(self.process.returncode == 0, "exit status", self.process.returncode, self.log)
            check("ERROR: " not in self.log and "runtime error" not in self.log, self.log)

    # ---- requests

    def connect(self, timeout=60):
        if self.port is None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout * SLOW)
            sock.connect(self.address[len("unix:"):])
            return sock
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)

    def request(self, method, path, body=None, headers=None, connection=None):
        """Status, headers, body."""
        client = connection or http.client.HTTPConnection("127.0.0.1", timeout=60 * SLOW)
        if not client.sock:
            client.sock = self.connect()
        client.request(method, path, body, headers or {})
        response = client.getresponse()
        data = response.read()
        TRAFFIC.append(data)
        if not connection:
            client.close()
        return response.status, dict(response.getheaders()), data

    def get(self, path, status=200, **headers):
        got, _, body = self.request("GET", path, headers=headers)
        check(got == status, path, got, body)
        return body

    def ask(self, body, status=200, headers=None, connection=None):
        """The answer to a chat completion, as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        got, _, data = self.request("POST", "/v1/chat/completions", raw,
                                    {"Content-Type": "application/json", **(headers or {})}, connection)
        check(got == status, f"status {got}, not {status}:", data.decode(errors="replace")[:600], str(body)[:300])
        return json.loads(data)

    def text(self, body):
        return self.ask(body)["choices"][0]["message"]["content"]

    def stream(self, body):
        """The events of a stream, as JSON; the last one must be [DONE]."""
        status, headers, data = self.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}),
                                             {"Content-Type": "application/json"})
        check(status == 200 and headers["Content-Type"] == "text/event-stream", status, headers, data)
        events = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
        check(events.pop() == "[DONE]", data)
        return [json.loads(event) for event in events]

    def raw(self, data, timeout=20):
        """What comes back for these bytes until the server closes, or is silent."""
        with self.connect(timeout) as sock:
            try:
                sock.sendall(data)
                parts = []
                while part := sock.recv(65536):
                    parts.append(part)
            except ConnectionError:
                pass
            except TimeoutError:
                raise AssertionError(f"the server does not close: {data[:200]!r}") from None
        TRAFFIC.append(b"".join(parts))
        return b"".join(parts)

    def metric(self, name):
        match = re.search(rb"^" + re.escape(name.encode()) + rb" (\S+)$", self.get("/metrics"), re.M)
        check(match, "no metric", name)
        return float(match.group(1))

    def until(self, condition, what):
        """Waits for a condition that must come true."""
        end = time.monotonic() + 30 * SLOW
        while not condition():
            check(time.monotonic() < end, "never:", what)
            time.sleep(0.02)

    def memory(self):
        """Bytes resident."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


def data_url(path, kind="image/png"):
    raw = path if isinstance(path, bytes) else pathlib.Path(path).read_bytes()
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def picture(path=PICTURE, as_object=True):
    url = data_url(path)
    return {"type": "image_url", "image_url": {"url": url} if as_object else url}


def user(*parts):
    return {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def question(*parts, **options):
    """A request: by default the prompt and a picture."""
    return {"messages": [user(*(parts or (PROMPT, picture())))], **options}


def long_question(n, **options):
    """Its answer is a list of n numbers, whatever the model would like."""
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": n, "maxItems": n}
    return question("x", response_format={"type": "json_schema", "json_schema": {"schema": schema}}, max_tokens=4000, **options)


def start_stream(server, body):
    """A connection on which the first bytes of a stream have come."""
    sock = server.connect()
    raw = json.dumps({**body, "stream": True}).encode()
    sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    check(sock.recv(100).startswith(b"HTTP/1.1 200"), "no stream")
    return sock


def no_response_tells_of_the_inside(folder):
    """H-09, over all that servers sent in the tests before."""
    del folder
    check(TRAFFIC, "nothing was recorded")
    for body in TRAFFIC:
        match = LEAKS.search(body)
        check(not match, match, body[:300])
