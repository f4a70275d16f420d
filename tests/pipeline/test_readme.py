#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every shell line of README.md and docs/*.md runs as it stands there, from the root of the source tree.

A block marked ```sh is run line by line (a backslash continues a line). Lines that cannot run in a test are listed in
EXEMPT with the reason; a line that matches nothing there and fails is a failure, and so is an exemption that no line
needs any more.
"""
import json
import os
import re
import signal
import subprocess

from common import BUILD, SHARED, SLOW, SOURCE, Skip, check, environment, good, main, run

EXEMPT = {
    r"^git clone": "needs the network",
    r"^cd ": "the tests stand in the source tree",
    r"v4l2src": "needs a camera",
    r"--screen$": "needs a screen; test_live.py has another sink in its place",
    r"http\.server": "serves until it is stopped; test_live.py serves and plays the same folder",
    r"GLM-4\.1V-9B-Thinking": "needs the published checkpoint",
    r"golden-check .*--device cuda": "needs a GPU and a checkpoint of full size",
    r"^python training/": "needs the Python packages of training/",
    r"out/(calibration|held-out)": "needs the pictures that training/make_calibration.py draws; tested by test_cli.py",
    r"quickstart\.sh": "tested by test_quickstart.py",
    r"rtsp-server": "tested together with the lines that name its address, below",
    r"glm4v serve .*&$": "tested together with the lines that name its address, below",
    r"http://127\.0\.0\.1:8080": "tested together with the server's line, below",
    r"rtsp://127\.0\.0\.1:8554/camera": "tested together with the server's line, below",
    r"tests/cuda/sanitize\.py": "needs a GPU and compute-sanitizer",
    r"streams_bench\.py": "measures minutes, or prints sizes",
    r"glm4v bench|(pipeline|inspection|serve|speculation|mtp|camera)-bench|load-bench (8|24)":
        "measures; a small glm4v bench is in test_cli.py, load-bench 4 is run",
}

CAMERA = "rtsp://127.0.0.1:8554/camera"
SERVICE = "http://127.0.0.1:8080"


def shell_lines(path):
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(), flags=re.S | re.M)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#.*$", "", line).strip()
            if line and not line.startswith("#"):
                yield re.sub(r"\s+", " ", line)


def documents():
    return [SOURCE / "README.md"] + sorted((SOURCE / "docs").glob("*.md"))


def exemption(line):
    return next((pattern for pattern in EXEMPT if re.search(pattern, line)), None)


def prepare(folder):
    """A folder that looks like the source tree after a build, and takes what the lines write."""
    for name in ("examples", "models", "tests", "docs", "tools", "README.md"):
        (folder / name).symlink_to(SOURCE / name)
    (folder / "build").symlink_to(BUILD)
    (folder / "out").mkdir()
    return launching()


def launching():
    """The environment of lines that begin gst-launch-1.0."""
    env = environment(preload=True, PATH=f"{BUILD / 'tools'}:{os.environ['PATH']}")
    env.pop("GLM4V_MODEL", None)
    return env


def written(line):
    """What a line writes below out/ or as part.png: names, up to the % of a numbered one."""
    return re.findall(r"(?:location=|--output |> ?)((?:out/|part\.png)[^\s%]*)", line)


def line_test(document, line):
    def test(folder):
        tree = folder / "tree"
        tree.mkdir()
        env = prepare(tree)
        if "../shared" in line:
            if not SHARED.exists():
                raise Skip("the clip is not part of the source tree")
            (folder / "shared").symlink_to(SHARED)
        # Lines build on the files that earlier lines of the same document write.
        for before in shell_lines(document):
            if before == line:
                break
            if any(name in line for name in written(before)) and not exemption(before):
                run(before, cwd=tree, env=env, timeout=120)
        done = good(run(line, cwd=tree, env=env, timeout=120))
        check("WARNING: erroneous pipeline" not in done.stderr, done.stderr)
        if "glm4vdescribe" in line and "fdsink" in line:
            check(re.search(r"\d\d:\d\d\.\d{3} --> [\d:.]+\n\S+", done.stdout), "no caption:", done.stdout, done.stderr)
        if "output=choice" in line and " -m " in line:
            check_verdicts(done.stdout)
    test.__name__ = f"{document.relative_to(SOURCE)}: {line[:90]}".replace("#", "number ")
    return test


def check_verdicts(output):
    """Each result has an id, in order, and a verdict; each answer a choice and its probability."""
    results = [line for line in output.splitlines() if "glm4vdescribe-result" in line]
    ids = [int(re.search(r" id=\(guint64\)(\d+)", line).group(1)) for line in results]
    check(ids and ids == list(range(len(ids))), "ids:", ids, output[:2000])
    answers = [line for line in results if "status=(string)ok" in line]
    check(answers or SLOW > 1, "no answer:", output[:2000])  # within its deadline
    for line in results:
        check(re.search(r" verdict=\(string\)(pass|fail|unknown)", line), line)
        check(re.search(r" state=\(string\)(pass|fail|unknown)", line), line)
    for line in answers:
        check(re.search(r" choice=\(string\)\S", line), line)
        check(0 < float(re.search(r" probability=\(double\)([\d.e-]+)", line).group(1)) <= 1, line)


def every_exemption_is_needed(folder):
    lines = [line for document in documents() for line in shell_lines(document)]
    check(len(lines) > 10, "the documents hold", len(lines), "lines only")
    unused = [pattern for pattern in EXEMPT if not any(re.search(pattern, line) for line in lines)]
    check(not unused, "no line needs", unused)


def camera_test(document):
    """The camera stand-in of a document in the background; each line that names its address runs until three captions
    have come. Any free port stands in for the one that the lines name, so that two runs at once do not meet."""
    def test(folder):
        lines = list(shell_lines(document))
        (server,) = (line.rstrip("& ") for line in lines if "rtsp-server" in line)
        clients = [line for line in lines if CAMERA in line]
        tree = folder / "tree"
        tree.mkdir()
        env = prepare(tree)
        check(" --port 8554" in server and clients, server, clients)
        background = subprocess.Popen(["bash", "-c", "exec " + server.replace("--port 8554", "--port 0 --seconds 600")],
                                      cwd=tree, env=environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            url = background.stdout.readline().decode().strip()
            check(re.fullmatch(r"rtsp://127\.0\.0\.1:\d+/camera", url), url)
            for client in clients:
                three_captions(client.replace(CAMERA, url), tree, env)
        finally:
            background.terminate()
            background.wait(10)
    test.__name__ = f"{document.relative_to(SOURCE)}: the lines of its camera"
    return test


def service_test(document):
    """The service of a document, at any free port; each line that names its address gets an answer, or measures some."""
    def test(folder):
        if "serve" not in run([BUILD / "tools" / "glm4v", "--help"]).stdout:
            raise Skip("glm4v serve is not built")
        lines = list(shell_lines(document))
        (server,) = (line.rstrip("& ") for line in lines if "glm4v serve" in line)
        tree = folder / "tree"
        tree.mkdir()
        env = prepare(tree)
        check("--listen 127.0.0.1:8080" in server, server)
        background = subprocess.Popen(["bash", "-c", "exec " + server.replace(":8080", ":0")], cwd=tree, env=env,
                                      stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            url = background.stderr.readline().decode().split(" answers at ")[1].strip()
            for client in (line for line in lines if SERVICE in line):
                env = launching() if "gst-launch" in client else environment()
                done = good(run(client.replace(SERVICE, url), cwd=tree, env=env))
                answer = json.loads(done.stdout.splitlines()[-1])  # before results stand their settings
                if "measure" in answer:
                    check(answer["captions"] > 0, client, answer)
                else:
                    check(answer.get("status") == "ok" or answer["choices"][0]["message"]["content"], client, answer)
        finally:
            background.terminate()
            background.communicate(timeout=30 * SLOW)
    test.__name__ = f"{document.relative_to(SOURCE)}: the lines of its service"
    return test


def three_captions(client, tree, env):
    program = subprocess.Popen(["bash", "-c", "exec " + client], cwd=tree, env=env, stdout=subprocess.PIPE,
                               stdin=subprocess.DEVNULL)
    signal.alarm(60 * SLOW)
    captions = 0
    for raw in program.stdout:
        captions += bool(re.search(rb' --> |^caption |^\d\d:\d\d:\d\d\.\d{3}  |"status":"ok"', raw))
        if captions == 3:
            break
    signal.alarm(0)
    program.send_signal(signal.SIGINT)
    program.wait(30 * SLOW)
    check(captions == 3, client, "gave", captions, "captions")


if __name__ == "__main__":
    tests = [line_test(document, line) for document in documents() for line in shell_lines(document)
             if not exemption(line)]
    cameras = [camera_test(document) for document in documents()
               if any(CAMERA in line for line in shell_lines(document))]
    services = [service_test(document) for document in documents()
                if any(SERVICE in line for line in shell_lines(document))]
    main(tests + [every_exemption_is_needed] + cameras + services)
