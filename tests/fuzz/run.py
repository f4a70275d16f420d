#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a libFuzzer program from its corpus and tells as TAP what it found: run.py [OPTION...] PROGRAM RUNS CORPUS...

The seed is fixed, so that a run is the same again; GLM4V_DEEP=1 makes RUNS twenty times as many. What is found is copied to
--findings. With --finds WORD the program has a bug planted: it must be found, by a report that says WORD. With --keep
DIR inputs that reach new code are kept there.
"""
import argparse
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ADDRESS = "detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=1"
# An input takes at most 2 s, no allocation is larger than 256 MiB.
LIMITS = ["-timeout=2", "-rss_limit_mb=1024", "-malloc_limit_mb=256"]
STACK = 1 << 20  # bytes: what recurses on its input shows at inputs of some kilobytes


def bound_stack():
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def fuzz(program, options, folders, findings, environment):
    """One run of the program: its status, what it said, and the input that it stopped at, or None."""
    command = [program, *LIMITS, "-print_final_stats=1", f"-artifact_prefix={findings}/", *options, *folders]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=bound_stack,
                          env=environment, check=False)
    text = done.stdout.decode(errors="replace")
    written = re.findall(r"Test unit written to (\S+)", text)
    return done.returncode, text, pathlib.Path(written[-1]) if written else None


def environment_in(scratch):
    environment = dict(os.environ, TMPDIR=str(scratch))
    # A quarantine beyond the cache and whole stacks of every allocation would take a third of the time; what is found is
    # run again for the stacks. Two frames at least: without a caller, a leak is taken for the loader's own.
    environment["ASAN_OPTIONS"] = f"{ADDRESS}:quarantine_size_mb=1:malloc_context_size=2"
    environment["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    return environment


def executions(text):
    found = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)
    return int(found[-1]) if found else 0


def is_of_threads(text):
    """Is all that leaked of threads that begin or are about to end: what the sanitizer asks when one begins, and 2032 bytes
    that GLib keeps for each of its pool?"""
    leaks = re.findall(r"leak of (\d+) byte\(s\) in (\d+) object.*\n((?:    #.*\n)*)", text)
    return bool(leaks) and all(int(size) == 2032 * int(n) or "pthread_getattr_np" in stack for size, n, stack in leaks)


def passes_alone(program, text, finding, findings, environment):
    """Was an input too slow, or a thread not at its end, only because the machine stood still?"""
    excused = finding.name.startswith("timeout-") or finding.name.startswith("leak-") and is_of_threads(text)
    return excused and not fuzz(program, [], [str(finding)], findings, environment)[0]


def with_stacks(program, finding, findings, environment):
    """The report of one input alone, with all stacks; "" where it does not fail alone."""
    whole = dict(environment, ASAN_OPTIONS=ADDRESS)
    status, text, _ = fuzz(program, [], [str(finding)], findings, whole)
    return text if status else ""


def run_all(args, runs, scratch):
    """All runs, however often the machine stalls in between: status, report, input, runs done."""
    environment, kept = environment_in(scratch), scratch / "new"
    kept.mkdir()
    total = 0
    for seed in range(1, 21):
        options = [f"-runs={runs - total}", f"-seed={seed}", "-reload=0", *args.option]
        status, text, finding = fuzz(args.program, options, [str(kept), *args.corpus], args.findings, environment)
        total += executions(text)
        if not status or not finding or not passes_alone(args.program, text, finding, args.findings, environment):
            break
        print(f"# {finding.name}: passes when run alone")
    if status and finding:
        text = with_stacks(args.program, finding, args.findings, environment) or text
    if args.keep:
        shutil.copytree(kept, args.keep, dirs_exist_ok=True)
    return status, text, finding, total


def summary(text):
    lines = [line for line in text.splitlines() if re.match(r"SUMMARY|==\d+==\s*ERROR|.* does not hold$", line)]
    return "; ".join(lines) or text[-2000:]


def report(args, status, text, finding, total, seconds):
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime
    print(f"# {args.program}: {total} inputs in {seconds:.0f} s, {processor:.0f} s of processor time")
    if args.finds:
        found = status != 0 and args.finds in text
        print(f"{'ok' if found else 'not ok'} 1 - the planted bug is found ({args.finds})")
    else:
        found = status == 0
        print(f"{'ok' if found else 'not ok'} 1 - {total} inputs do no harm")
    if not found or args.finds:
        print(f"# {summary(text)}"[:4000].replace("\n", "\n# "))
    if not found and finding:
        print(f"# the input is kept: {finding}")
    print("1..1")
    return 0 if found else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=pathlib.Path, required=True)
    parser.add_argument("--finds")
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--option", action="append", default=[], help="of libFuzzer, may be said again")
    parser.add_argument("program")
    parser.add_argument("runs", type=int)
    parser.add_argument("corpus", nargs="*", help="without one it begins from nothing")
    args = parser.parse_args()
    args.findings.mkdir(parents=True, exist_ok=True)
    deep = 20 if os.environ.get("GLM4V_DEEP") and not args.finds else 1
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glm4v-fuzz-", dir=memory) as scratch:
        status, text, finding, total = run_all(args, deep * args.runs, pathlib.Path(scratch))
    return report(args, status, text, finding, total, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
