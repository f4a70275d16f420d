#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The element asks servers over networks that delay, drop, cut and reset, by names that change, through HTTP proxies, with
client certificates, and over HTTP/2. Every due frame has one result, in order; video never waits; and when the network is
well again, so are the results."""
import json
import re
import shutil
import socket
import subprocess
import sys
import time

from common_serve import GLM4V, PICTURE, SLOW, SOURCE, Skip, check, check_object, environment, good, main, run

sys.path.insert(0, str(SOURCE / "tests" / "support"))
from bad_network import BadNetwork, HttpProxy, cut, delay, drop, reset  # noqa: E402
from faulty_server import ANSWER, CERTIFICATE, OTHER_AUTHORITY, FaultyServer  # noqa: E402

WIDTH, HEIGHT = 64, 48
FRAME = WIDTH * HEIGHT * 3 // 2
SECOND = 10**9


NO_PROXY = {name: "" for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy",
                                  "NO_PROXY")}


def test_source(n, more=""):
    return (f"videotestsrc pattern=ball num-buffers={n} {more} "
            f"! video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=30/1")


FED = f"fdsrc blocksize={FRAME} ! rawvideoparse format=i420 width={WIDTH} height={HEIGHT} framerate=30/1"


class Run:
    """gst-launch-1.0 with elements by name, each with its properties and a source of its own; a context."""

    def __init__(self, folder, elements, source, launch="", **env):
        self.folder, self.n, self.cameras, self.seen = folder, 0, {}, {name: [] for name in elements}
        line = "  ".join(f"{source} ! glm4vdescribe name={name} interval=0 model=m camera={name} {properties} "
                         f"! filesink location={folder}/{name}.yuv sync={'true' if 'is-live' in source else 'false'} "
                         f"async=false {name}.json ! fdsink sync=false async=false" for name, properties in elements.items())
        self.process = subprocess.Popen(["bash", "-c", f"exec {launch}gst-launch-1.0 -q {line}"], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=subprocess.PIPE,
                                        env=environment(preload=True, **{**NO_PROXY, **env}))

    def __enter__(self):
        return self

    def __exit__(self, *why):
        if why[0]:
            self.process.kill()
        self.process.wait(60 * SLOW)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def next(self):
        """The next result; None: there are no more."""
        for raw in self.process.stdout:
            result = json.loads(raw)
            check_object(result)
            if "type" not in result:
                self.seen[self.cameras[result["settings"]]].append(result)
                return result
            self.cameras[result["hash"]] = result["camera"]
        return None

    def feed(self):
        """The result of a frame, which the only element gets now."""
        self.n += 1
        self.process.stdin.write(bytes([16 + self.n]) * FRAME)
        self.process.stdin.flush()
        return self.next()

    def results(self, n):
        """Those of each element when all n are there: one a frame, in order; all of the video has passed."""
        self.process.stdin.close()
        while self.next():
            pass
        said = self.process.stderr.read().decode(errors="replace")
        check(self.process.wait(60 * SLOW) == 0, "gst-launch-1.0", self.process.returncode, said[-3000:])
        for name, results in self.seen.items():
            check([result["id"] for result in results] == list(range(n)), name, [result["id"] for result in results])
            size = (self.folder / f"{name}.yuv").stat().st_size
            check(size == n * FRAME, name, "bytes of video:", size)
        return self.seen


def ask(folder, elements, n=1, more="", **env):
    with Run(folder, elements, test_source(n, more), **env) as run:
        return run.results(n)


def statuses(results):
    return [result["status"] for result in results]


def message(results):
    (result,) = results
    check(result["status"] == "error" and result["text"] == "", result)
    return result["message"]


def is_ok(result):
    return result["status"] == "ok" and result["text"] == ANSWER


# ---- bad networks


def each_fault_is_told_and_passes(folder):
    """Frame 0 meets the fault, twice where it is tried again; frames 1 and 2 do not."""
    faults = {"drops": ([drop()], "timeout", "the deadline passed while http://.* was asked"),
              "empty": ([cut(0)] * 2, "error", "no answer: "),
              "head": ([cut(40)] * 2, "error", "no answer: "),
              "event": ([cut(400)] * 2, "error", "its answer was cut short: "),
              "resets": ([reset(0)] * 2, "error", "no answer: "),
              "reset-event": ([reset(400)] * 2, "error", "its answer was cut short: ")}
    passing = {"late": [delay(0.05)] * 3, "once-cut": [cut(400)], "once-reset": [reset(0)]}
    with FaultyServer() as server:
        networks = {name: BadNetwork(server.server.server_port, plan)
                    for name, plan in {**{name: fault[0] for name, fault in faults.items()}, **passing}.items()}
        for network in networks.values():
            network.__enter__()
        elements = {name: f"mode=sync deadline={SECOND * SLOW if name == 'drops' else 0} "
                          f"endpoint=http://127.0.0.1:{network.port}/good/v1" for name, network in networks.items()}
        results = ask(folder, elements, 3)
        for network in networks.values():
            network.__exit__()
    for name, (plan, status, words) in faults.items():
        check(statuses(results[name]) == [status, "ok", "ok"], name, results[name])
        check(re.search(words, results[name][0]["message"]), name, results[name][0])
        check(networks[name].connections() > len(plan), name, networks[name].connections())
    for name in passing:
        check(all(is_ok(result) for result in results[name]), name, results[name])


def video_passes_while_the_network_is_bad(folder):
    frames = 30
    with FaultyServer() as server, BadNetwork(server.server.server_port, then=drop()) as network:
        endpoint = f"endpoint=http://127.0.0.1:{network.port}/good/v1"
        start = time.monotonic()
        results = ask(folder, {"drops": f"{endpoint} deadline={SECOND // 5}", "waits": f"{endpoint} eos-timeout={SECOND // 5}"},
                      frames, "is-live=true")
        check(time.monotonic() - start < 20 * SLOW, "video waited", time.monotonic() - start)
    check(set(statuses(results["drops"])) <= {"timeout", "dropped"}, statuses(results["drops"]))
    check("timeout" in statuses(results["drops"]), statuses(results["drops"]))
    check(set(statuses(results["waits"])) == {"dropped"}, statuses(results["waits"]))


def results_are_well_when_the_network_is(folder):
    """Beside the video, one frame after another."""
    plan = [drop(), cut(300), cut(300), reset(300), reset(300)]
    with FaultyServer() as server, BadNetwork(server.server.server_port, plan) as network:
        endpoint = f"endpoint=http://127.0.0.1:{network.port}/good/v1"
        with Run(folder, {"beside": f"{endpoint} deadline={SECOND * SLOW}"}, FED) as run:
            check([run.feed()["status"] for _ in range(3)] == ["timeout", "error", "error"], run.seen)
            check(is_ok(run.feed()) and is_ok(run.feed()), run.seen)
            run.results(5)


def a_network_that_drops_is_left_out(folder):
    """Of two endpoints: a deadline that passes without a byte counts as a failure."""
    frames = 12
    with FaultyServer() as server, BadNetwork(server.server.server_port, then=drop()) as dead:
        endpoint = f"endpoint=http://127.0.0.1:{dead.port}/good/v1,{server.endpoint('good')}"
        results = ask(folder, {"both": f"mode=sync deadline={SECOND * SLOW} {endpoint}"}, frames)["both"]
        n_asked = dead.connections()
    check(set(statuses(results)) == {"ok", "timeout"} and statuses(results).count("timeout") == n_asked, statuses(results))
    check(n_asked < frames // 2, "asked", n_asked, "times")


# ---- names and addresses


def a_server_moves_behind_the_network(folder):
    """Connections are reset, and another server is at the same address: no result is lost."""
    with FaultyServer() as old, FaultyServer() as new, BadNetwork(old.server.server_port) as network:
        with Run(folder, {"moves": f"mode=sync endpoint=http://127.0.0.1:{network.port}/good/v1"}, FED) as run:
            check(is_ok(run.feed()) and is_ok(run.feed()), run.seen)
            network.move(new.server.server_port)
            check(is_ok(run.feed()) and is_ok(run.feed()), run.seen)
            run.results(4)
        check([server.count("good") for server in (old, new)] == [2, 2], old.server.counts, new.server.counts)


# Names are those of a file: /etc/hosts of a name space of the program's own. No server of names is asked.
OWN_NAMES = "mount --bind {0}/hosts /etc/hosts && mount --bind {0}/resolv.conf /etc/resolv.conf"


def names(folder, *lines):
    """The file is written in its place, since it is mounted."""
    (folder / "hosts").write_text("".join(line + "\n" for line in ("127.0.0.1 localhost", *lines)))


def run_with_names(folder, elements):
    names(folder)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    mounts = OWN_NAMES.format(folder)
    own = "unshare --user --map-root-user --mount"
    if subprocess.run(["bash", "-c", f"{own} bash -c '{mounts}'"], capture_output=True).returncode:
        raise Skip("this system has no name spaces for users: addresses of names cannot be changed")
    return Run(folder, elements, FED, launch=f"{own} bash -c '{mounts} && exec \"$@\"' run ")


def a_name_appears_and_moves(folder):
    """It is unknown at first; then it has one address, then another; then two of which the first is dead."""
    with FaultyServer() as server, BadNetwork(server.server.server_port, address="127.0.0.2") as first:
        endpoint = f"mode=sync endpoint=http://parts.test:{first.port}/good/v1"
        with run_with_names(folder, {"named": endpoint}) as run:
            unknown = run.feed()
            check(unknown["status"] == "error" and re.search("no answer: .*resolve.*parts.test", unknown["message"]), unknown)
            names(folder, "127.0.0.2 parts.test")
            check(is_ok(run.feed()) and first.connections() == 1, run.seen)
            with BadNetwork(server.server.server_port, address="127.0.0.3", port=first.port) as second:
                names(folder, "127.0.0.3 parts.test")
                first.close()
                check(is_ok(run.feed()) and second.connections() == 1, run.seen)
                names(folder, "127.0.0.2 parts.test", "127.0.0.3 parts.test")
                second.move(second.target)
                check(is_ok(run.feed()) and second.connections() == 2, run.seen)
            run.results(4)


# ---- HTTP proxies


def a_proxy_of_the_environment_is_used(folder):
    key = folder / "key"
    key.write_text("secret\n")
    with FaultyServer() as server, FaultyServer(tls=True) as safe:
        with HttpProxy(server.server.server_port) as proxy, HttpProxy(safe.server.server_port) as tunnel:
            # a name that only the proxy knows, and one that the certificate is for
            elements = {"plain": "endpoint=http://parts.invalid/locked/v1",
                        "safe": f"endpoint=https://localhost/locked/v1 ca-file={CERTIFICATE}",
                        "direct": f"endpoint={server.endpoint('locked')}"}
            results = ask(folder, {name: f"mode=sync api-key-file={key} {properties}" for name, properties in elements.items()},
                          2, http_proxy=proxy.url, https_proxy=tunnel.url, no_proxy="127.0.0.1")
    for name in elements:
        check(all(is_ok(result) for result in results[name]), name, results[name])
    check(all(head.startswith("POST http://parts.invalid/locked/v1/chat/completions ") for head in proxy.heads), proxy.heads)
    check([head.split("\r\n")[0] for head in tunnel.heads] == ["CONNECT localhost:443 HTTP/1.1"], tunnel.heads)
    check("secret" not in "".join(tunnel.heads), "the proxy was told the key", tunnel.heads)


def a_proxy_that_refuses_is_told(folder):
    for status, words in ((407, "status 407: the HTTP proxy wants another login (http_proxy=http://USER:PASSWORD@HOST:PORT)"),
                          (403, "status 403")):
        with HttpProxy(1, refusal=status) as proxy:
            elements = {"plain": "endpoint=http://parts.invalid/v1", "safe": "endpoint=https://parts.invalid/v1"}
            login = proxy.url.replace("//", "//user:word@")
            results = ask(folder, elements, http_proxy=login, https_proxy=login)
            n_asked = len(proxy.heads)
        for name in elements:
            check(words.replace("http_", "https_") in message(results[name]) if name == "safe" else
                  words in message(results[name]), name, results[name])
            check("word" not in message(results[name]).replace("PASSWORD", ""), results[name])
        check(n_asked == 2, "what cannot pass was tried again", proxy.heads)
    results = ask(folder, {"absent": "endpoint=http://parts.invalid/v1", "unknown": "endpoint=https://parts.invalid/v1"},
                  http_proxy="http://127.0.0.1:1", https_proxy="http://no-such-proxy.invalid:3128")
    check("no answer: Failed to connect to 127.0.0.1 port 1" in message(results["absent"]), results)
    check("no answer: Could not resolve proxy: no-such-proxy.invalid" in message(results["unknown"]), results)


# ---- certificates and HTTP/2


def a_server_may_want_a_certificate(folder):
    text = CERTIFICATE.read_text()
    private_key, certificate = folder / "private", folder / "certificate"
    end = text.index("-----BEGIN CERTIFICATE")
    private_key.write_text(text[:end])
    certificate.write_text(text[end:])
    with FaultyServer(tls=True, clients=CERTIFICATE) as server:
        endpoint = f"endpoint={server.endpoint('good')} ca-file={CERTIFICATE}"
        elements = {"shown": f"{endpoint} certificate-file={certificate} private-key-file={private_key}",
                    "none": endpoint, "stranger": f"{endpoint} certificate-file={OTHER_AUTHORITY} private-key-file={private_key}",
                    "no-key": f"{endpoint} certificate-file={certificate} private-key-file={certificate}",
                    "no-authority": f"endpoint={server.endpoint('good')} ca-file={private_key}"}
        results = ask(folder, elements)
        words = [GLM4V, "describe", "--endpoint", server.endpoint("good"), "--model", "m", "--ca-file", CERTIFICATE, PICTURE]
        refused, shown = run(words), run(words + ["--certificate-file", certificate, "--private-key-file", private_key])
    check(refused.returncode == 1 and "certificate-file" in refused.stderr, refused)
    check(good(shown).stdout == ANSWER + "\n", shown)
    check(is_ok(results["shown"][0]), results["shown"])
    for name, words in (("none", "certificate-file"), ("no-key", "certificate-file or private-key-file"),
                        ("stranger", "certificate-file or private-key-file"), ("no-authority", "ca-file")):
        check(words in message(results[name]), name, results[name])


class SecondHttp:
    """haproxy before a server: TLS and HTTP/2 at `port`, and it tells which version it was asked in; a context."""

    def __init__(self, folder, target):
        if not shutil.which("haproxy"):
            raise Skip("the Debian package haproxy is not installed")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        (folder / "haproxy.cfg").write_text(f"""
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend safe
    bind fd@{self.listener.fileno()} ssl crt {CERTIFICATE} alpn h2,http/1.1
    http-request set-header X-Version %[req.ver]
    default_backend servers
backend servers
    server s 127.0.0.1:{target}
""")
        self.process = subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, pass_fds=[self.listener.fileno()])

    def __enter__(self):
        return self  # it listens already

    def __exit__(self, *why):
        self.process.terminate()
        self.process.wait(20 * SLOW)
        self.listener.close()


def http_2_is_spoken_where_it_is_offered(folder):
    with FaultyServer() as server, SecondHttp(folder, server.server.server_port) as front:
        with BadNetwork(front.port) as network:
            endpoint = f"ca-file={CERTIFICATE} endpoint=https://127.0.0.1:{network.port}/good/v1"
            with Run(folder, {"two": f"mode=sync deadline={SECOND * SLOW} {endpoint}"}, FED) as run:
                check(is_ok(run.feed()) and is_ok(run.feed()) and network.connections() == 1, run.seen)
                network.freeze()  # the connection that is there; new ones are well
                late = run.feed()
                check(late["status"] == "timeout", late)
                check(is_ok(run.feed()) and network.connections() == 2, run.seen)
                network.move(front.port)
                check(is_ok(run.feed()) and network.connections() == 3, run.seen)
                run.results(5)
            with Run(folder, {"stalls": f"mode=sync stall-timeout={SECOND * SLOW} {endpoint}"}, FED) as run:
                check(is_ok(run.feed()), run.seen)
                network.freeze()
                stalled = run.feed()
                check(stalled["status"] == "error" and "stall-timeout" in stalled["message"] and
                      f"https://127.0.0.1:{network.port}/good/v1" in stalled["message"], stalled)
                check(is_ok(run.feed()), run.seen)
                run.results(3)
        versions = {headers.get("x-version", headers.get("X-Version")) for _, _, headers in server.server.requests}
    check(versions == {"2.0"}, versions)


if __name__ == "__main__":
    main([each_fault_is_told_and_passes, video_passes_while_the_network_is_bad, results_are_well_when_the_network_is,
          a_network_that_drops_is_left_out, a_server_moves_behind_the_network, a_name_appears_and_moves,
          a_proxy_of_the_environment_is_used, a_proxy_that_refuses_is_told, a_server_may_want_a_certificate,
          http_2_is_spoken_where_it_is_offered])
