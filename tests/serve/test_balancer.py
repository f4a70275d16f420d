#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three servers of which one is killed while elements ask: every due frame has one result, in order, and none is lost.
Behind a balancer, with the configuration of examples/serve/, and as three endpoints of the element."""
import json
import shutil
import socket
import subprocess
import time
import urllib.request

from common_serve import SLOW, SOURCE, Server, Skip, check, check_object, environment, main

FRAMES = 30  # of each of the streams
PROMPTS = ("Describe the image in one sentence.", "Which colours are there?", "Is this a part?")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Balancer:
    """haproxy with the example's configuration, but for the addresses; a context."""

    def __init__(self, folder, servers):
        if not shutil.which("haproxy"):
            raise Skip("the Debian package haproxy is not installed")
        self.port = free_port()
        text = (SOURCE / "examples" / "serve" / "haproxy.cfg").read_text()
        for port, address in zip((8081, 8082, 8083), servers):
            check(text.count(f"127.0.0.1:{port}\n") == 1, "no server at port", port)
            text = text.replace(f"127.0.0.1:{port}\n", f"{address}\n")
        check(text.count("bind 127.0.0.1:8080\n") == 1, "another address")
        (folder / "haproxy.cfg").write_text(text.replace("bind 127.0.0.1:8080\n", f"bind 127.0.0.1:{self.port}\n"))
        self.log = open(folder / "haproxy.log", "wb+")
        self.process = subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=self.log, stderr=self.log)

    def __enter__(self):
        end = time.monotonic() + 20 * SLOW
        while not self.answers():
            self.log.seek(0)
            check(self.process.poll() is None and time.monotonic() < end, "haproxy:", self.log.read().decode())
            time.sleep(0.05)
        return self

    def answers(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).status == 200
        except OSError:
            return False

    def __exit__(self, *why):
        self.process.terminate()
        self.process.wait(20 * SLOW)
        self.log.close()


def ask_while_one_is_killed(endpoint, victim):
    """Results of each stream, by the hash of its prompt; the victim dies after some of them."""
    source = f"videotestsrc pattern=ball num-buffers={FRAMES} ! video/x-raw,width=64,height=48"
    asks = f"glm4vdescribe mode=sync interval=0 max-tokens=12 endpoint={endpoint}"
    line = "  ".join(f"{source} ! {asks} name=d{i} prompt='{prompt}' ! fakesink sync=false "
                     f"d{i}.json ! fdsink sync=false async=false" for i, prompt in enumerate(PROMPTS))
    program = subprocess.Popen(["bash", "-c", "exec gst-launch-1.0 -q " + line], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment(preload=True))
    results, n = {}, 0
    for raw in program.stdout:
        result = json.loads(raw)
        check_object(result)
        if "type" in result:
            continue
        results.setdefault(result["prompt-hash"], []).append(result)
        n += 1
        if n == FRAMES:  # a third of all
            victim.process.kill()
    check(program.wait(60 * SLOW) == 0, "gst-launch-1.0", program.returncode)
    return results


def check_nothing_is_lost(results, servers):
    check(len(results) == len(PROMPTS), "streams:", len(results))
    for stream in results.values():
        check([result["id"] for result in stream] == list(range(FRAMES)), [result["id"] for result in stream])
        failed = [result for result in stream if result["status"] != "ok"]
        check(not failed, failed[:3])
        check(all(result["text"] for result in stream), stream[0])
    for server in servers[1:]:
        answered = server.metric('glm4v_http_requests_total{path="/v1/chat/completions",code="200"}')
        check(answered > FRAMES / 3, "answers of a server that went on:", answered)


def three_servers():
    return [Server("--threads", "1") for _ in range(3)]


def stop(servers):
    """All but the first, which was killed."""
    servers[0].process.wait(20 * SLOW)
    servers[0].process.stderr.close()
    for server in servers[1:]:
        server.__exit__(None)


def a_balancer_loses_nothing_when_a_server_is_killed(folder):
    servers = three_servers()
    try:
        with Balancer(folder, [server.address for server in servers]) as balancer:
            results = ask_while_one_is_killed(f"http://127.0.0.1:{balancer.port}/v1", servers[0])
        check_nothing_is_lost(results, servers)
    finally:
        servers[0].process.kill()
        stop(servers)


def endpoints_lose_nothing_when_a_server_is_killed(folder):
    del folder
    servers = three_servers()
    try:
        results = ask_while_one_is_killed(",".join(f"http://{server.address}/v1" for server in servers), servers[0])
        check_nothing_is_lost(results, servers)
    finally:
        servers[0].process.kill()
        stop(servers)


if __name__ == "__main__":
    main([a_balancer_loses_nothing_when_a_server_is_killed, endpoints_lose_nothing_when_a_server_is_killed])
