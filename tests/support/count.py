#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts TAP lines: count.py DIRECTORY, with meson's testlog.json lines in *.json and plain TAP in *.tap.

Prints each failed and skipped test, then "N passed, N failed, N skipped" as the last line. A program that
ended badly without a "not ok" of its own counts as one failure; one that never started counts as well.
"""
import argparse
import collections
import json
import pathlib
import re
import sys

TAP = re.compile(r"^(not ok|ok)\b\s*\d*\s*-?\s*([^#]*)(?:#\s*(SKIP)\b\s*(.*))?", re.I)
GOOD_ENDS = ("OK", "SKIP")


def count_lines(program, text, tally):
    """Adds one program's TAP lines to tally; returns how many there were of each kind."""
    seen = collections.Counter()
    for line in text.splitlines():
        match = TAP.match(line)
        if not match:
            continue
        name = f"{program}: {match.group(2).strip()}"
        if match.group(1).lower() == "not ok":
            kind = "failed"
        elif (match.group(3) or "").upper() == "SKIP":
            kind = "skipped"
            name += f" ({match.group(4).strip()})"
        else:
            kind = "passed"
        seen[kind] += 1
        tally[kind].append(name)
    return seen


def count_meson(job, path, tally):
    for line in path.read_text(errors="replace").splitlines():
        test = json.loads(line)
        program = f"{job}: {test['name']}"
        if test["result"] == "EXPECTEDFAIL":  # it had to refuse, and did: what it printed on the way does not count
            tally["passed"].append(program)
            continue
        seen = count_lines(program, test.get("stdout") or "", tally)
        if test["result"] == "SKIP" and not seen:
            tally["skipped"].append(program)
        elif test["result"] not in GOOD_ENDS and not seen["failed"]:
            tally["failed"].append(f"{program}: ended with {test['result']}, status {test['returncode']}")
        elif test["result"] == "OK" and not seen:
            tally["passed"].append(program)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra-failures", type=int, default=0, help="jobs that could not run")
    parser.add_argument("directory", type=pathlib.Path)
    args = parser.parse_args()
    tally = {"passed": [], "failed": [], "skipped": []}
    for path in sorted(args.directory.glob("*.json")):
        count_meson(path.stem, path, tally)
    for path in sorted(args.directory.glob("*.tap")):
        count_lines(path.stem, path.read_text(errors="replace"), tally)
    tally["failed"] += ["a job could not run"] * args.extra_failures
    for name in tally["skipped"]:
        print("skipped:", name)
    for name in tally["failed"]:
        print("FAILED:", name)
    print(", ".join(f"{len(names)} {kind}" for kind, names in tally.items()))
    return 1 if tally["failed"] or not tally["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
