#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the programs of tests/cuda under compute-sanitizer, on a machine with a GPU.

    tests/cuda/sanitize.py [--build DIR] [--logs DIR] [--seconds N] [--limit N] [--jobs N] [TOOL...]

TOOL: memcheck, racecheck, initcheck, synccheck; without one all of them. No run lasts beyond --limit seconds, or begins
or lasts beyond --seconds in all. Prints a line for each run and what was reported, by kernel; the logs have the rest.
The status is 0 if every run came to its end and all reports are explained.

Explained is what initcheck reports of memory that cuBLASLt wrote: on GPUs with a tensor memory accelerator its kernels
store with it, which initcheck does not see, so whoever reads a prefill product of bf16 or fp8-dynamic weights is
reported; in runs with other weights it counts. Explained are also races that racecheck sees
within a kernel of cuBLASLt, and that memcheck names a call that finds peer access enabled already.
"""
import argparse
import collections
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time

TOOLS = ["memcheck", "racecheck", "initcheck", "synccheck"]
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CASES = 40  # seconds after which kernel tests begin no further case

# Program, arguments, GLM4V_PART, are products of cuBLASLt read by kernels of ours?
Run = collections.namedtuple("Run", "program arguments part library")
RUNS = [
    Run("test-forward-cuda", ["few", "int8"], "0/20", False),  # pieces of a prompt
    Run("test-forward-cuda", ["few", "int4"], "1/20", False),  # eight sequences
    Run("test-forward-cuda", ["few", "int8"], "3/20", False),  # two contexts
    Run("test-forward-cuda", ["few", "int8"], "12/20", False),  # keys and values of int8
    Run("test-forward-cuda", ["few", "int8"], "13/20", False),
    Run("test-forward-cuda", ["few", "bf16"], "0/20", True),
    Run("test-forward-cuda", ["few", "fp8-dynamic"], "0/20", True),
    Run("test-cuda-attention", [], None, False),
    Run("test-cuda-products", ["3"], None, True),
    Run("test-cuda-rows", [], None, False),
    Run("test-cuda-sample", [], None, False),
    Run("test-cuda-pixels", [], None, False),
    Run("test-cuda-prefill-lt", [], None, True),
    Run("test-cuda_operations-cuda", [], None, True),
]

# Kernels that read products, and the copy of one to the host.
READERS = re.compile(r"\b(norm|norm_round|map|silu_mul|copy_rows|rotate|rotate_halves|append|rotate_append|attention|finish|"
                     r"silu_round|wgmma)_kernel\b|\b(finish_sums|round_int8|round_vectors|reorder|tile_product)\b|cuda[Mm]emcpy|"
                     r"cublas|cutlass|nvjet|gemm")
LIBRARY = re.compile(r"\b(nvjet|cutlass|cublas)")
REPORT = re.compile(r"^=+ (?! )(?!COMPUTE|ERROR SUMMARY|RACECHECK SUMMARY|LEAK|Target|Internal Sanit)(.+)")
PLACE = re.compile(r"^=+ {5,}(?:at|and.*access by.*at) (.+?)(?:\+0x[0-9a-f]+.*)?$")


def reports(text):
    """{(what, where): how often}"""
    found, what = collections.Counter(), None
    for line in text.splitlines():
        report, place = REPORT.match(line), PLACE.match(line)
        if report:
            if what:
                found[what, ""] += 1
            what = re.sub(r"0x[0-9a-f]+|\d+ hazards?|\(\d+[^)]*\)", "*", report.group(1))
        elif place and what:
            found[what, place.group(1)] += 1
            what = None
    if what:
        found[what, ""] += 1
    return found


def run(tool, r, options, deadline):
    """(tool, run, how it ended, reports)"""
    left = deadline - time.monotonic()
    if left < 5:
        return tool, r, "not begun: no time left", {}
    seconds = min(options.limit, left)
    environment = dict(os.environ, GLM4V_SECONDS=str(min(CASES, seconds / 2)), GLM4V_REQUIRE="gpu")
    if r.part:
        environment["GLM4V_PART"] = r.part
    log = os.path.join(options.logs, "-".join([tool, r.program] + r.arguments + [(r.part or "").split("/")[0]]) + ".log")
    command = ["compute-sanitizer", "--tool", tool, "--print-limit", "1000", "--error-exitcode", "99",
               os.path.join(options.build, "tests/cuda", r.program)] + r.arguments
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8", errors="replace") as out:
        try:
            status = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=seconds,
                                    check=False).returncode
        except subprocess.TimeoutExpired:
            status = None
    with open(log, encoding="utf-8", errors="replace") as out:
        text = out.read()
    tests = len(re.findall(r"^(?:not )?ok \d", text, re.M)) - text.count("# SKIP")
    failed = len(re.findall(r"^not ok", text, re.M))
    ended = "%d tests, %.0f s" % (tests, time.monotonic() - begin)
    if status is None:
        ended = "not finished: " + ended
    elif failed or status not in (0, 99) or "SUMMARY" not in text:
        ended = "failed: %d tests, status %d: %s" % (failed, status, log)
    return tool, r, ended, reports(text)


def is_explained(tool, r, what, where):
    if tool == "initcheck":
        return r.library and bool(READERS.search(what + " " + where))
    if tool == "racecheck":
        return bool(LIBRARY.search(what)) and (not where or bool(LIBRARY.search(where)))
    return tool == "memcheck" and "cudaErrorPeerAccessAlreadyEnabled" in what


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default=os.path.join(SOURCE, "build"))
    parser.add_argument("--logs", default="sanitizer-logs")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--limit", type=float, default=75)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("tools", nargs="*", choices=TOOLS + [[]], default=[])
    options = parser.parse_args()
    if not shutil.which("compute-sanitizer"):
        sys.exit("compute-sanitizer is not installed; it comes with CUDA")
    os.makedirs(options.logs, exist_ok=True)
    deadline = time.monotonic() + options.seconds
    bad = 0
    table = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run, tool, r, options, deadline) for tool in options.tools or TOOLS for r in RUNS]
        for one in concurrent.futures.as_completed(waiting):
            tool, r, ended, found = one.result()
            name = " ".join([r.program] + r.arguments + ([r.part] if r.part else []))
            print("%-10s %-44s %5d reports, %s" % (tool, name, sum(found.values()), ended), flush=True)
            bad += not ended[0].isdigit()
            for (what, where), n in found.items():
                table["explained" if is_explained(tool, r, what, where) else "REPORT", tool, what, where] += n
    for (kind, tool, what, where), n in sorted(table.items()):
        print("%-9s %-10s %6d %s, %s" % (kind, tool, n, what, where[:100]))
        bad += kind == "REPORT"
    print("%d reports that are not explained or runs that did not end well" % bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
