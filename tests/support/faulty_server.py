# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server of chat completions that misbehaves on order: http://127.0.0.1:PORT/BEHAVIOUR/v1 is an endpoint for each of
the functions below whose name begins with do_. Requests are kept, and how many there were of each behaviour."""
import collections
import contextlib
import http.server
import json
import pathlib
import socket
import ssl
import struct
import threading

CERTIFICATE = pathlib.Path(__file__).with_suffix(".pem")  # of localhost, signed by itself; with its key
OTHER_AUTHORITY = CERTIFICATE.with_name("other_authority.pem")  # that has signed nothing else
ANSWER = "A grey part."


def chunk(text=None, reason=None, **more):
    delta = {} if text is None else {"role": "assistant", "content": text}
    return {"id": "x", "object": "chat.completion.chunk", "model": "m-1",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}


def stream_of(text, **more):
    """The events of a good answer, as bytes; more is what the choice of the first one has beside it."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    events = [chunk(text[:3], **more), chunk(text[3:]), chunk(reason="stop"), {**chunk(), "choices": [], "usage": usage}]
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def logprobs(token, others):
    return {"logprobs": {"content": [{"token": token, "logprob": others[token],
                                      "top_logprobs": [{"token": t, "logprob": p} for t, p in others.items()]}]}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_stream(self, body, length=None):
        """A stream of so many bytes, or of as many as there are."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message, **headers):
        self.send(status, {"error": {"message": message, "type": "invalid_request_error"}}, **headers)

    def hang_up(self):
        self.close_connection = True

    def do_GET(self):
        behaviour = self.path.split("/")[1]
        if behaviour == "no-models":
            self.refuse(404, "nothing here")
        elif behaviour == "empty-models":
            self.send(200, {"data": []})
        else:
            self.send(200, {"object": "list", "data": [{"id": f"{behaviour}-model"}]})

    def do_POST(self):
        behaviour = self.path.split("/")[1]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.counts[behaviour] += 1
            self.server.requests.append((behaviour, body, dict(self.headers)))
            number = self.server.counts[behaviour]
        try:
            getattr(self, "do_" + behaviour.replace("-", "_"))(body, number)
        except (BrokenPipeError, ConnectionResetError):
            self.hang_up()

    # ---- behaviours

    def do_good(self, body, number):
        self.send_stream(stream_of(ANSWER))

    def do_whole(self, body, number):
        self.send(200, {"model": "m-1", "choices": [{"message": {"content": ANSWER}, "finish_reason": "length"}]})

    def do_kept_open(self, body, number):
        """The answer is complete, its transfer never is."""
        self.send_stream(stream_of(ANSWER), 1 << 20)
        self.server.stopped.wait(60)
        self.hang_up()

    def do_error(self, body, number):
        self.refuse(500, "the model fell over")

    def do_busy(self, body, number):
        self.refuse(429, "too many", Retry_After="3600")

    def do_busy_for_a_while(self, body, number):
        self.refuse(429, "too many", Retry_After="20")

    def do_once_busy(self, body, number):
        self.refuse(429, "too many", Retry_After="1") if number == 1 else self.do_good(body, number)

    def do_once_error(self, body, number):
        self.refuse(503, "loading") if number == 1 else self.do_good(body, number)

    def do_cut(self, body, number):
        """Within an event, the connection closed."""
        good = stream_of(ANSWER)
        self.send_stream(good[:good.index(b"\n\n") + 40], len(good))
        self.hang_up()

    def do_cut_later(self, body, number):
        """After an event, and time to pass it on."""
        good = stream_of(ANSWER)
        self.send_stream(good[:good.index(b"\n\n") + 2], len(good))
        self.server.stopped.wait(2)
        self.hang_up()

    def do_ends_early(self, body, number):
        """Whole events, but no end of the answer."""
        good = stream_of(ANSWER)
        self.send_stream(good[:good.index(b"\n\n") + 2])

    def do_wrong_json(self, body, number):
        self.send_stream(b"data: {\"choices\":\n\ndata: [DONE]\n\n")

    def do_page(self, body, number):
        self.send(200, b"<html>Welcome</html>", "text/html")

    def do_reset(self, body, number):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.hang_up()

    def do_huge(self, body, number):
        self.send_stream(b"data: {\"x\": \"" + b"y" * (2 << 20), 1 << 30)
        self.hang_up()

    def do_silent(self, body, number):
        self.server.stopped.wait(60)
        self.hang_up()

    def do_slow(self, body, number):
        """A byte at a time."""
        self.send_stream(b"", 1 << 20)
        for byte in stream_of(ANSWER) * 100:
            self.wfile.write(bytes([byte]))
            if self.server.stopped.wait(0.05):
                break
        self.hang_up()

    def do_fails_within(self, body, number):
        first = stream_of(ANSWER).split(b"\n\n")[0]
        self.send_stream(first + b"\n\ndata: {\"error\": {\"message\": \"out of memory\"}}\n\n")

    def do_elsewhere(self, body, number):
        self.send(307, b"", Location="http://elsewhere.invalid/v1/chat/completions")

    def do_long_reason(self, body, number):
        self.refuse(404, "\u00e4" * 1000)

    def do_locked(self, body, number):
        key = self.headers.get("Authorization")
        self.do_good(body, number) if key == "Bearer secret" else self.refuse(401, "who are you")

    def do_other_choice(self, body, number):
        self.send_stream(stream_of("perhaps"))

    def do_other_json(self, body, number):
        self.send_stream(stream_of('{"count": "many"}'))

    def do_mixed_json(self, body, number):
        """White space, and another order."""
        self.send_stream(stream_of('{ "b": [ 1, 2 ],\n "a": "x y" }'))

    def do_older(self, body, number):
        """Only what vLLM had before."""
        for key in ("structured_outputs", "response_format", "logprobs"):
            if key in body:
                self.refuse(400, f"extra fields not permitted: {key}")
                return
        self.send_stream(stream_of("bad" if "guided_choice" in body else '{"count":3}'))

    def do_strict(self, body, number):
        """Only what OpenAI's own service knows."""
        for key in body:
            if key not in ("model", "messages", "max_tokens", "temperature", "seed", "stream", "stream_options"):
                self.refuse(400, f"Unrecognized request argument supplied: {key}")
                return
        self.do_good(body, number)

    def do_deaf(self, body, number):
        """Ignores the newer words for shapes."""
        if "guided_choice" in body or "guided_json" in body:
            self.do_older({key: body[key] for key in body if key.startswith("guided_")}, number)
        else:
            self.do_good(body, number)

    def do_newer(self, body, number):
        """Ignores the older words for choices."""
        self.send_stream(stream_of("bad" if "structured_outputs" in body else ANSWER))

    def do_deaf_for_ever(self, body, number):
        """Ignores the newer words, and never answers to the older ones."""
        self.do_slow(body, number) if "guided_choice" in body else self.do_good(body, number)

    def do_never(self, body, number):
        self.refuse(400, "no")

    def do_shares(self, body, number):
        self.send_stream(stream_of("bad", **logprobs("bad", {"bad": -0.2, "good": -1.8, "odd": -5.0})))

    def do_few_shares(self, body, number):
        self.send_stream(stream_of("bad", **logprobs("bad", {"bad": -0.2, "odd": -5.0})))


def read_rest(connection, address):
    """Of what a refused client sends; its connection would be reset before the refusal arrives."""
    del address
    with contextlib.suppress(OSError):
        while socket.socket.recv(connection, 65536):
            pass


class FaultyServer:
    """Runs in threads of this process; a context."""

    def __init__(self, tls=False, clients=None):
        """clients: whose certificates they must show."""
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.lock, self.server.stopped = threading.Lock(), threading.Event()
        self.server.counts, self.server.requests = collections.Counter(), []
        self.server.handle_error = read_rest  # clients leave when they like
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *why):
        self.server.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def endpoint(self, behaviour):
        return f"{self.base}/{behaviour}/v1"

    def count(self, behaviour):
        with self.server.lock:
            return self.server.counts[behaviour]

    def bodies(self, behaviour):
        """What was sent to it, parsed, in order."""
        with self.server.lock:
            return [body for name, body, _ in self.server.requests if name == behaviour]
