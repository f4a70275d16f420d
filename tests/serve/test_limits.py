#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""glm4v serve under clients that are slow, endless, wrong or gone, and who may ask at all. Names have the ids of the
checks (H-02 ... H-11); GLM4V_DEEP=1 takes the full counts."""
import base64
import http.client
import http.server
import io
import itertools
import json
import os
import random
import socket
import statistics
import struct
import threading
import time
import zlib

from PIL import Image

from common_serve import (EXAMPLES, PICTURE, PROMPT, SLOW, SOURCE, Server, check, data_url, long_question, main,
                          no_response_tells_of_the_inside, picture, question, start_stream, tiny_model, user)

DEEP = os.environ.get("GLM4V_DEEP") == "1"
SERVER = None
MIB = 1 << 20
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SMALL = json.dumps(question("Hello", max_tokens=2)).encode()


def works():
    """Seconds that a good request takes."""
    begin = time.monotonic()
    SERVER.ask(question("Hello", max_tokens=2))
    return time.monotonic() - begin


# ---- slow clients

def drip(sock, data, stop):
    """A byte a second, until the server has had enough."""
    for byte in data:
        try:
            sock.send(bytes([byte]))
            sock.settimeout(1)
            if sock.recv(1) == b"":
                return
        except TimeoutError:
            pass
        except OSError:
            return
        if stop.is_set():
            return


def h02_slow_clients_do_not_keep_others_out(folder):
    """More of them than there are places: each good request is answered, in less than twice the time, and the slow ones
    are closed."""
    n = 1000 if DEEP else 600
    alone, beside = [works() for _ in range(40)], []
    stop, slow, threads = threading.Event(), [], []
    starts = [b"", b"GET /health HTTP/1.1\r\nHost: localh", b"GET / HTT", HEAD + b"Content-Length: 100000\r\n\r\n{"]
    for i in range(n):
        sock = SERVER.connect()
        sock.sendall(starts[i % len(starts)])
        slow.append(sock)
        if i % 50 == 0:
            beside.append(works())
    for sock in slow[-4:] if DEEP else slow[-4:-2]:  # a dripping body has 30 s
        threads.append(threading.Thread(target=drip, args=(sock, b"x" * 60, stop)))
        threads[-1].start()
    beside += [works() for _ in range(40)]
    check(SERVER.metric("glm4v_connections") <= 512 + 2, SERVER.metric("glm4v_connections"))
    if DEEP:
        check(statistics.median(beside) < 2 * statistics.median(alone), statistics.median(beside), statistics.median(alone))
    # 5 s for a head, 5 s of silence in a body; those that drip a body have 30 s.
    SERVER.until(lambda: SERVER.metric("glm4v_connections") <= 3, "the slow ones are closed")
    stop.set()
    for thread in threads:
        thread.join()
    for sock in slow:
        sock.close()
    works()


def h02_a_head_that_drips_has_a_bound_in_all(folder):
    sock = SERVER.connect()
    begin = time.monotonic()
    drip(sock, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 60, threading.Event())
    took = time.monotonic() - begin
    check(took < 20 * SLOW, "a dripping head was open for", took)
    works()


def h02_a_client_that_does_not_read_is_closed(folder):
    with Server("--context-length", 4096, model=tiny_model(folder)) as server:
        sock = start_stream(server, long_question(1900))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.until(lambda: server.metric("glm4v_requests_in_progress") == 0, "the answer ends")
        server.ask(question("x", max_tokens=2))
        sock.close()


# ---- many at once

def answer_of(sock):
    """Status, headers and JSON of a whole answer."""
    with http.client.HTTPResponse(sock, method="POST") as response:
        response.begin()
        return response.status, response.headers, json.loads(response.read())


def h02_many_requests_at_one_moment_are_all_answered(folder):
    """As many as there is room for; the others are told to come again. Clients that send nothing are beside them."""
    silent = [SERVER.connect() for _ in range(100)]
    socks = [SERVER.connect() for _ in range(200)]
    for sock in socks:
        sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(SMALL) + SMALL)
    answers = [answer_of(sock) for sock in socks]
    for status, headers, body in answers:
        check(status == 200 and body["choices"] or status == 503 and headers["Retry-After"] == "1" and
              body["error"]["code"] == "overloaded", status, headers, body)
    check(sum(status == 200 for status, _, _ in answers) >= 64, [status for status, _, _ in answers])
    for sock in silent + socks:
        sock.close()
    works()


def h02_of_idle_connections_the_oldest_are_closed(folder):
    socks = []
    for _ in range(520):
        sock = SERVER.connect()
        socks.append(sock)
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check(answer_of(sock)[0] == 200, "no answer")
    for sock in socks[:8]:
        check(sock.recv(1) == b"", "an idle connection beyond 512 is kept")
        sock.close()
    for sock in socks[8:]:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check(answer_of(sock)[0] == 200, "no second answer")
        sock.close()


def h02_a_refusal_waits_for_its_body(folder):
    """Clients that send all before they read get it; no more are answered than --max-requests says."""
    head = HEAD + b"Content-Length: %d\r\n" % (8 * MIB)
    with Server("--max-requests", 1, "--context-length", 4096, model=tiny_model(folder)) as server:
        early, late, polite = server.connect(), server.connect(), server.connect()
        early.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(SMALL) + SMALL[:-1])
        server.until(lambda: server.metric("glm4v_connections") >= 2, "its head is there")
        stream = start_stream(server, long_question(1900))
        early.sendall(SMALL[-1:])
        late.sendall(head + b"\r\n" + b" " * (8 * MIB))
        polite.sendall(head + b"Expect: 100-continue\r\n\r\n")
        for sock in (early, late, polite):
            status, headers, body = answer_of(sock)
            check(status == 503 and headers["Retry-After"] == "1" and body["error"]["code"] == "overloaded", status, body)
            sock.close()
        stream.close()
        server.until(lambda: server.request("POST", "/v1/chat/completions", SMALL, {"Content-Type": "application/json"})[0]
                     == 200, "there is room again")


# ---- endless and large bodies

def h03_a_body_that_is_announced_too_large_is_not_read(folder):
    for length in (16 * MIB + 1, 400 * MIB, 1 << 62):
        answer = SERVER.raw(HEAD + b"Content-Length: %d\r\n\r\n" % length)
        check(answer.startswith(b"HTTP/1.1 413") and b"Connection: close" in answer, length, answer)


def h03_endless_chunks_end_at_the_bound(folder):
    before = SERVER.memory()
    sock = SERVER.connect()
    sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk, sent, most = b"100000\r\n" + b" " * MIB + b"\r\n", 0, 0
    try:
        while sent < 400:
            sock.sendall(chunk)
            sent += 1
            most = max(most, SERVER.memory())
    except OSError:
        pass
    check(16 <= sent < 60, "MiB taken:", sent)
    check(most - before < 3 * 16 * MIB + (64 * MIB if SLOW > 1 else 0), "memory grew by", (most - before) >> 20, "MiB")
    works()


def h03_many_small_chunks_are_a_body_like_any(folder):
    pad = b" " * (len(SMALL) % 6) + b"      " * (1700000 if DEEP else 100000)
    body = SMALL + pad
    chunks = b"".join(b"6\r\n" + body[i:i + 6].ljust(6) + b"\r\n" for i in range(0, len(body), 6))
    before = SERVER.memory()
    answer = SERVER.raw(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 200"), answer[:300])
    check(SERVER.memory() - before < 3 * 16 * MIB + (64 * MIB if SLOW > 1 else 0), (SERVER.memory() - before) >> 20)


def h03_bodies_of_other_kinds_are_refused(folder):
    for lines, status in ((b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n", 415),
                          (b"Content-Type: application/json\r\nContent-Encoding: identity\r\n", 200),
                          (b"Content-Type: text/plain\r\n", 415), (b"Content-Type: application/jsonx\r\n", 415),
                          (b"Content-Type: application/json; charset=utf-8\r\n", 200), (b"", 415)):
        answer = SERVER.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines +
                            b"Content-Length: %d\r\n\r\n" % len(SMALL) + SMALL)
        check(answer.startswith(b"HTTP/1.1 %d" % status), lines, answer[:200])
    answer = SERVER.raw(HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
    check(answer.startswith(b"HTTP/1.1 400"), answer)
    answer = SERVER.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
    check(answer.startswith(b"HTTP/1.1 400"), answer)


def h03_bodies_of_all_requests_have_a_bound(folder):
    with Server("--max-body", "1MiB") as server:
        waiting = []
        for _ in range(4):
            sock = server.connect()
            sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n{" % MIB)
            waiting.append(sock)
        path, headers, body = "/v1/chat/completions", {"Content-Type": "application/json"}, SMALL
        server.until(lambda: server.request("POST", path, body, headers)[0] == 503, "a fifth body is refused")
        for sock in waiting:
            sock.close()
        server.until(lambda: server.request("POST", path, body, headers)[0] == 200, "there is room again")


# ---- heads

def heads():
    """(name, bytes): heads that must not lead to an answer of the model, and may not hide a second request."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    n = len(SMALL)
    get, post = b"GET /health HTTP/1.1\r\nHost: localhost\r\n", HEAD
    yield "two lengths", post + b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (n, n) + SMALL
    for a, b in ((n, 3), (3, n), (0, n), (n, 0)):
        yield f"lengths {a} {b}", post + b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (a, b) + SMALL + hidden
    for coding in (b"chunked", b"Chunked", b" chunked", b"\tchunked"):
        length, chunks = b"Content-Length: %d\r\n" % n, b"Transfer-Encoding: %s\r\n" % coding
        yield f"length and {coding}", post + length + chunks + b"\r\n0\r\n\r\n" + hidden
        yield f"{coding} and length", post + chunks + length + b"\r\n0\r\n\r\n" + hidden
    for coding in (b"gzip", b"identity", b"chunked, identity", b"gzip, chunked", b"xchunked", b"chunked x", b"chunk", b"",
                   b"chunked\x0b", b"\x0bchunked", b"\"chunked\"", b"chunked;q=1"):
        yield f"coding {coding}", post + b"Transfer-Encoding: %s\r\n\r\n0\r\n\r\n" % coding + hidden
    yield "two codings", post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden
    yield "coding in 1.0", (b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    for length in (b"-1", b"+3", b"0x10", b"3 3", b"3,3", b"3;", b"1e3", b"", b" ", b"abc", b"18446744073709551616",
                   b"99999999999999999999999", b"3\x0b", b"\xb2", b"3.0", b"0 3"):
        yield f"length {length}", post + b"Content-Length: %s\r\n\r\n" % length + SMALL
    for name in (b"Content-Length ", b"Content-Length\t", b"Content Length", b"Content-Length\x00", b"\x0bContent-Length"):
        yield f"name {name}", post + name + b": %d\r\n\r\n" % n + SMALL
    for field in (b"X: a\rContent-Length: 3", b"X: a\x01b", b"X: \x7f", b"X\r: a", b"X@: a", b"X(: a",
                  b"=: a", b"X: a\r\r", b"X: \x1b[31m", b"no colon"):
        yield f"field {field}", get + field + b"\r\n\r\n"
    yield "two hosts", get + b"Host: localhost\r\n\r\n"
    yield "two different hosts", get + b"Host: evil.example\r\n\r\n"
    yield "no host", b"GET /health HTTP/1.1\r\n\r\n"
    for host in (b"evil.example", b"localhost.evil", b"", b"localhost:x", b"127.0.0.1@evil", b"localhost, evil", b"a\tb"):
        yield f"host {host}", b"GET /health HTTP/1.1\r\nHost: %s\r\n\r\n" % host
    for line in (b"GET /health", b"GET  HTTP/1.1", b"/health", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /health HTTP/9.9",
                 b"GET /health HTTP/1.1 x", b"GET /he\x00alth HTTP/1.1", b"POST", b"GET /health HTTP/2.0", b"G\x01T / HTTP/1.1",
                 b"GET /health\tHTTP/1.1", b"GET /health HTTP/1.1\r", b"get /health HTTP/1.1",
                 b"GET http://evil.example/health HTTP/1.1", b"CONNECT evil.example:80 HTTP/1.1", b"PRI * HTTP/2.0"):
        yield f"line {line}", line + b"\r\nHost: localhost\r\n\r\n"
    for expect in (b"200-ok", b"100-continue, x", b"x"):
        yield f"expect {expect}", post + b"Expect: %s\r\nContent-Length: %d\r\n\r\n" % (expect, n) + SMALL
    for size in (b"-1", b"0x3", b"g", b"fffffffffffffffff", b" ", b"3x", b""):
        yield f"chunk {size}", post + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nabc\r\n0\r\n\r\n" + hidden
    yield "chunk without its end", post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n" + hidden
    yield "many fields", get + b"".join(b"X-%d: y\r\n" % i for i in range(10000)) + b"\r\n"
    yield "a field too many", get + b"".join(b"X-%d: y\r\n" % i for i in range(100)) + b"\r\n"
    yield "a long field", get + b"X: " + b"y" * MIB + b"\r\n\r\n"
    yield "a long name", get + b"X" * MIB + b": y\r\n\r\n"
    yield "a long path", b"GET /" + b"x" * MIB + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "an endless line", b"G" * MIB


def h04_heads_that_others_may_read_differently_are_refused(folder):
    cases = list(heads())
    check(len(cases) >= 100, "cases:", len(cases))
    served = []
    for name, data in cases:
        answer = SERVER.raw(data)
        statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        # Nothing is served. (libmicrohttpd 0.9.75 sends the head of its own refusal of a wrong length twice.)
        if not all(status[:1] in b"45" for status in statuses) or b"glm4v_" in answer:
            served.append((name, answer[:200]))
    check(not served, served)
    works()


def h04_header_fields_are_read_up_to_their_bounds(folder):
    """100 fields of 32 KiB together; a byte or a field more is refused."""
    start = b"GET /health HTTP/1.1\r\n"
    fields = b"Host: localhost\r\nConnection: close\r\n"
    for size, status in ((32 << 10, b"200"), ((32 << 10) + 1, b"431")):
        padded = fields + b"X: " + b"y" * (size - len(fields) - 5) + b"\r\n"
        check(len(padded) == size and SERVER.raw(start + padded + b"\r\n").split()[1] == status, size, status)
    for n, status in ((100, b"200"), (101, b"431")):
        many = fields + b"".join(b"X-%d: y\r\n" % i for i in range(n - 2))
        check(SERVER.raw(start + many + b"\r\n").split()[1] == status, n, status)


def h04_requests_in_a_row_are_answered_in_their_order(folder):
    answer = SERVER.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n" +
                        HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(SMALL) + SMALL)
    parts = answer.split(b"HTTP/1.1 200 OK")
    check(len(parts) == 4 and b"model_loaded" in parts[1] and b"ready" in parts[2] and b"chat.completion" in parts[3], answer)


# ---- counts

def h05_what_is_within_the_bounds_is_answered(folder):
    """The largest of each count that the next test exceeds."""
    one = picture(EXAMPLES / "known-sheet.png")
    turns = [user("q"), {"role": "assistant", "content": "a"}] * 64
    deep = b'{"x":' + b"[" * 63 + b"]" * 63 + b"," + SMALL[1:]
    for body in (question(*[one] * 64, max_tokens=1), {"messages": turns + [user("q")], "max_tokens": 1},
                 {"messages": [user("q")] * 512, "max_tokens": 1}, question("q", stop=["x" * 256] * 16, max_tokens=1),
                 question("q", max_tokens=8192), question("q", guided_choice=[str(i) for i in range(256)]), deep,
                 SMALL + b" " * (16 * MIB - len(SMALL))):
        SERVER.ask(body)


def h05_more_than_the_bounds_is_refused(folder):
    one = picture(EXAMPLES / "known-sheet.png")
    turns = [user("q"), {"role": "assistant", "content": "a"}] * 65
    rows = [(question(*[one] * 65), "messages"), ({"messages": [user("q")] * 513}, "messages"),
            ({"messages": turns + [user("q")]}, "messages"), (b'{"x":' + b"[" * 64 + b"]" * 64 + b"," + SMALL[1:], None),
            (question("q", stop=["x"] * 17), "stop"), (question("q", stop="x" * 257), "stop"),
            (question("q", max_tokens=8193), "max_tokens"), (question("q", n=2), "n"),
            (question("q", guided_choice=[str(i) for i in range(257)]), "guided_choice"),
            (question("q", guided_json={"type": "string", "description": "x" * (257 << 10)}), "guided_json"),
            (b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}", None),
            (b'{"x":[' + b"1," * 200000 + b'1],"messages":[]}', None)]
    for body, parameter in rows:
        check(SERVER.ask(body, 400)["error"]["param"] == parameter, str(body)[:80])


# ---- pictures

def png(width, height, rows=b"", depth=8, color=2):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pictures():
    """(name, bytes, status or None)"""
    image = Image.open(PICTURE).convert("RGB").resize((64, 48))
    raw = saved(image, "PNG")
    # Below 28x28 a picture is enlarged, unless it is too narrow.
    yield "one pixel", saved(Image.new("RGB", (1, 1)), "PNG"), None
    yield "a line", saved(Image.new("RGB", (1, 3000)), "PNG"), 400
    for width, height in ((65535, 65535), (16385, 1), (16384, 16384), (0, 5), (1 << 31, 1)):
        yield f"{width}x{height}", png(width, height), 400
    yield "bomb", png(16000, 16000, bytes(16001 * 100)), 400
    yield "in the bound", png(5000, 5000, b"".join([b"\0" + bytes(15000)] * 5000)), 200
    yield "beyond it", png(6000, 6000, b"".join([b"\0" + bytes(18000)] * 6000)), 400
    for n in range(0, len(raw), max(1, len(raw) // (200 if DEEP else 12))):
        yield f"cut at {n}", raw[:n] or b"x", 400
    for kind, options in (("JPEG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {}), ("PPM", {}),
                          ("TIFF", {"compression": "tiff_lzw"})):
        whole = saved(image, kind, **options)
        yield kind, whole, 200
        yield kind + " cut", whole[:len(whole) // 2], 400
    yield "CMYK", saved(image.convert("CMYK"), "JPEG"), 200
    yield "grey", saved(image.convert("L"), "PNG"), 200
    yield "16 bit", saved(Image.new("I;16", (40, 40), 30000), "PNG"), 200
    yield "alpha", saved(image.convert("RGBA"), "PNG"), 200
    yield "palette", saved(image.convert("P"), "PNG"), 200
    yield "animated", saved(image, "GIF", save_all=True, append_images=[image.rotate(90)] * 3), 200
    yield "polyglot", raw + b"PK\3\4 <script>alert(1)</script>", 200
    for text in (b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a", b"BM", b"\xff\xd8\xff", b"RIFF....WEBP",
                 b"text"):
        yield f"{text}", text, 400
    shuffle = random.Random(1)
    for i in range(300 if DEEP else 20):
        damaged = bytearray(shuffle.choice([raw, saved(image, "JPEG"), saved(image, "WEBP"), saved(image, "GIF")]))
        for _ in range(4):
            damaged[shuffle.randrange(len(damaged))] = shuffle.randrange(256)
        yield f"damaged {i}", bytes(damaged), None


def h06_pictures_of_all_kinds_are_answered_or_refused(folder):
    before, n = SERVER.memory(), 0
    for name, data, status in pictures():
        n += 1
        body = json.dumps(question(PROMPT, {"type": "image_url", "image_url": data_url(data)}, max_tokens=1))
        got, _, answer = SERVER.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        check(got in ((200, 400) if status is None else (status,)), name, got, answer[:300])
    check(n >= (500 if DEEP else 60), "pictures:", n)
    check(SERVER.memory() - before < (300 if SLOW > 1 else 200) * MIB, (SERVER.memory() - before) >> 20, "MiB more")
    SERVER.until(lambda: SERVER.metric("glm4v_decoded_pixels_bytes") == 0, "pixels are freed")


def h06_pixels_count_over_all_pictures(folder):
    large = {"type": "image_url", "image_url": data_url(png(4000, 4000, b"".join([b"\0" + bytes(12000)] * 4000)))}
    SERVER.ask(question(PROMPT, large, large, max_tokens=1))
    check("picture 2" in SERVER.ask(question(PROMPT, large, large, large, max_tokens=1), 400)["error"]["message"])


def h06_large_pictures_of_many_requests_wait_for_each_other(folder):
    """More than all requests together may have decoded: what ends makes room for those that wait."""
    large = {"type": "image_url", "image_url": data_url(png(4000, 4000, b"".join([b"\0" + bytes(12000)] * 4000)))}
    answers = []
    with Server("--context-length", 4096, "--max-pixels", 100000, model=tiny_model(folder)) as server:
        body = long_question(300)
        body["messages"][0]["content"] += [large, large]
        threads = [threading.Thread(target=lambda: answers.append(server.ask(body))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(len(answers) == len(threads), len(answers), "answers")
        server.until(lambda: server.metric("glm4v_decoded_pixels_bytes") == 0, "pixels are freed")


def h06_urls_that_hold_no_data_are_refused(folder):
    png_url = "data:image/png;base64,"
    for url in ("data:", "data:,", png_url, png_url + "%%%", png_url + "AAA\u00e9", "", "x"):
        SERVER.ask(question({"type": "image_url", "image_url": url}), 400)


# ---- who may ask

def h07_each_path_needs_the_key(folder):
    keys = folder / "keys"
    keys.write_text("# of the line\nfirst\nsecond\n")
    keys.chmod(0o600)
    paths = [(method.upper(), path.replace("{model}", "surface-tiny"))
             for path, methods in json.loads(SERVER.get("/openapi.json"))["paths"].items() for method in methods]
    with Server("--api-key-file", keys) as server:
        for method, path in paths + [("GET", "/nothing"), ("PUT", "/v1/models"), ("OPTIONS", "/v1/chat/completions")]:
            body = SMALL if method == "POST" else None
            for value in (None, "Bearer", "Bearer ", "Bearer x", "Bearer firs", "Bearer first2", "Basic first", "first"):
                headers = {"Content-Type": "application/json", **({"Authorization": value} if value else {})}
                status, got, _ = server.request(method, path, body, headers)
                check(status == 401 and got["WWW-Authenticate"] == "Bearer", method, path, value, status)
        for method, path in paths:
            headers = {"Content-Type": "application/json", "Authorization": "Bearer second"}
            check(server.request(method, path, SMALL if method == "POST" else None, headers)[0] == 200, path)


def h07_other_hosts_and_origins_are_refused(folder):
    for headers, status in (({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1:1"}, 200), ({"Host": "[::1]"}, 200),
                            ({"Host": "camera.lan"}, 403), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
                            ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200),
                            ({"Host": "localhost:8080", "Origin": "http://localhost:9090"}, 403)):
        got, sent, _ = SERVER.request("GET", "/health", headers=headers)
        check(got == status and "Access-Control-Allow-Origin" not in sent, headers, got, sent)
    with Server("--allow-host", "camera.lan") as server:
        server.get("/health", Host="camera.lan")
        server.get("/health", Host="CAMERA.lan:8080")
        server.get("/health", 403, Host="xcamera.lan")


# ---- clients that leave

def h08_clients_that_leave_cancel_their_requests(folder):
    n = 1000 if DEEP else 40
    shuffle = random.Random(2)
    with Server("--context-length", 4096, "--batch", 8, model=tiny_model(folder)) as server:
        for i in range(n):
            sock = start_stream(server, long_question(1900))
            if shuffle.random() < 0.5:
                sock.recv(shuffle.randrange(1, 5000))
            if i % 3 == 0:
                sock.shutdown(socket.SHUT_WR)
            elif i % 3 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        server.until(lambda: server.metric("glm4v_requests_in_progress") == 0, "all are canceled")
        check(server.metric("glm4v_engine_canceled_total") == n, server.metric("glm4v_engine_canceled_total"), "canceled")
        server.until(lambda: server.metric("glm4v_decoded_pixels_bytes") == 0, "pixels are freed")
        # One that waits for a whole answer leaves too.
        sock = server.connect()
        body = json.dumps(long_question(1900)).encode()
        sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        server.until(lambda: server.metric("glm4v_engine_running") == 1, "it runs")
        sock.close()
        server.until(lambda: server.metric("glm4v_engine_canceled_total") == n + 1, "it is canceled")


def s04_memory_stays_as_it_is(folder):
    """16 clients at once, pictures of several sizes, whole answers and streams; of a hundred requests one is left. Each
    answer is the one that the same request got alone."""
    n = 100000 if DEEP else 200 if SLOW > 1 else 1000
    image = Image.open(PICTURE).convert("RGB")
    bodies = [question(PROMPT, {"type": "image_url", "image_url": data_url(saved(image.resize((side, side)), "PNG"))},
                       max_tokens=tokens) for side, tokens in ((60, 1), (90, 4), (140, 2), (280, 1))]
    raw = [json.dumps(body).encode() for body in bodies]
    numbers, memory, failed = itertools.count(), {}, []
    # What is freed is used again soon under AddressSanitizer too.
    with Server("--batch", 8, env={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}) as server:
        texts = [server.text(body) for body in bodies]
        check(len(set(texts)) > 1, texts)

        def ask(k, connection):
            i = k % len(bodies)
            if k % 100 == 50:
                with server.connect() as sock:
                    sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(raw[i]) + raw[i])
                return
            if k % 7 == 0:
                text = "".join(e["choices"][0]["delta"].get("content", "") for e in server.stream(bodies[i]))
            else:
                text = server.ask(raw[i], connection=connection)["choices"][0]["message"]["content"]
            check(text == texts[i], "request", k, "got", text, "alone", texts[i])

        def ask_on():
            connection = http.client.HTTPConnection("127.0.0.1", timeout=60 * SLOW)
            connection.sock = server.connect()
            while not failed and (k := next(numbers)) < n:
                if k % (n // 100) == 0:
                    memory[100 * k // n] = server.memory()
                try:
                    ask(k, connection)
                except Exception as why:
                    failed.append(why)
            connection.close()

        clients = [threading.Thread(target=ask_on) for _ in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        check(not failed, *failed)
        server.until(lambda: server.metric("glm4v_requests_in_progress") == 0, "requests that were left end")
        check(len(os.listdir(f"/proc/{server.process.pid}/fd")) < 40, "descriptors are left")
        server.until(lambda: server.metric("glm4v_decoded_pixels_bytes") == 0, "pixels are freed")
    early, middle, late = (sorted(memory[i] for i in range(first, first + 10))[5] for first in (10, 50, 90))
    print(f"# resident after 10, 30, 50, 70, 90 and 99 % of {n} requests:",
          ", ".join(f"{memory[i] / MIB:.2f}" for i in (10, 30, 50, 70, 90, 99)), "MiB")
    # Within the first half caches of malloc may still grow.
    check(late - middle < (1 if DEEP else 4 if SLOW == 1 else 16) * MIB, "memory grew by", late - middle, "bytes")
    check(late - early < (4 if SLOW == 1 else 32) * MIB, "memory grew by", late - early, "bytes")


# ---- where pictures come from

def h11_other_urls_are_refused(folder):
    for url in ("http://127.0.0.1/x.png", "https://127.0.0.1/x.png", "file:///etc/passwd", "gopher://localhost/", "FILE:///x",
                "\\\\host\\share\\x.png", "/etc/passwd", "ftp://localhost/x.png", " http://localhost/", "-"):
        error = SERVER.ask(question(PROMPT, {"type": "image_url", "image_url": {"url": url}}), 400)["error"]
        check(error["param"] == "messages" and "picture 0" in error["message"], url, error)


class Pictures(http.server.BaseHTTPRequestHandler):
    """/picture, /away (to another host), /large, /none, /text."""

    def do_GET(self):
        data = {"/picture": PICTURE.read_bytes(), "/text": b"no picture"}.get(self.path)
        self.send_response(302 if self.path == "/away" else 200 if data or self.path == "/large" else 404)
        if self.path == "/away":
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/picture")
        self.end_headers()
        try:
            if self.path == "/large":
                for _ in range(64):
                    self.wfile.write(bytes(MIB))
            self.wfile.write(data or b"")
        except OSError:
            pass

    def log_message(self, *what):
        pass


def h11_allowed_hosts_are_asked_and_no_others(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as pictures_server, \
            Server("--allow-media-domain", "localhost") as server:
        threading.Thread(target=pictures_server.serve_forever, daemon=True).start()
        base = f"http://localhost:{pictures_server.server_port}"

        def ask(url, status=200):
            return server.ask(question(PROMPT, {"type": "image_url", "image_url": {"url": url}}), status)
        check(ask(base + "/picture")["choices"][0]["message"]["content"] == server.text(question()))
        for url in (base + "/away", base + "/none", base + "/large", base + "/text",
                    base.replace("localhost", "127.0.0.1") + "/picture",
                    base.replace("//", "//user:password@") + "/picture", "http://localhost:1/", "http://localhost.evil/",
                    "http://evil.example#@localhost/", "file:///etc/passwd", "https://localhost:99999/"):
            check("picture 0" in ask(url, 400)["error"]["message"], url)
        pictures_server.shutdown()


if __name__ == "__main__":
    with Server("--batch", 8) as SERVER:
        main([h02_slow_clients_do_not_keep_others_out, h02_a_head_that_drips_has_a_bound_in_all,
              h02_a_client_that_does_not_read_is_closed, h02_many_requests_at_one_moment_are_all_answered,
              h02_of_idle_connections_the_oldest_are_closed, h02_a_refusal_waits_for_its_body,
              h03_a_body_that_is_announced_too_large_is_not_read,
              h03_endless_chunks_end_at_the_bound, h03_many_small_chunks_are_a_body_like_any,
              h03_bodies_of_other_kinds_are_refused,
              h03_bodies_of_all_requests_have_a_bound, h04_heads_that_others_may_read_differently_are_refused,
              h04_header_fields_are_read_up_to_their_bounds, h04_requests_in_a_row_are_answered_in_their_order,
              h05_what_is_within_the_bounds_is_answered, h05_more_than_the_bounds_is_refused,
              h06_pictures_of_all_kinds_are_answered_or_refused, h06_pixels_count_over_all_pictures,
              h06_large_pictures_of_many_requests_wait_for_each_other,
              h06_urls_that_hold_no_data_are_refused, h07_each_path_needs_the_key, h07_other_hosts_and_origins_are_refused,
              h08_clients_that_leave_cancel_their_requests, s04_memory_stays_as_it_is, h11_other_urls_are_refused,
              h11_allowed_hosts_are_asked_and_no_others, no_response_tells_of_the_inside])
