#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the committed corpora alone reach of the files that read what others wrote: coverage.py BUILD_DIR [--lines].

BUILD_DIR has the programs compiled for it (tests/run.sh coverage). Prints a table: lines and branches that the corpora
reach, then where the other lines are reached: those that need memory to run out, a call of the system to fail, or sizes
and entry points that no corpus has are reached by tests of their own. --lines names what is left by file and line.
"""
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Readers of hostile files; error.c, mem.c and the like are reached by everything.
PARSERS = ("config/config.c", "config/chatglm4v.c", "config/glm4v.c", "config/keys.c", "config/processor.c",
           "config/identify.c", "base/json.c", "base/json_parse.c", "checkpoint/pattern.c",
           "checkpoint/quantization_config.c", "quantize/write_config.c", "quantize/write_files.c",
           "checkpoint/safetensors.c", "checkpoint/shards.c", "model/weights.c", "model/weights_glm4v.c",
           "model/weights_chatglm4v.c", "checkpoint/source.c", "checkpoint/source_read.c",
           "tokenizer/tokenizer.c", "tokenizer/bpe.c", "tokenizer/json.c", "tokenizer/load.c",
           "tokenizer/split.c", "tokenizer/vocab.c", "base/utf8.c", "chat/detokenize.c", "chat/action.c",
           "chat/box.c", "base/file.c", "checkpoint/absent.c")
# Column: programs. Of a line that several reach, the first column has it.
OTHERS = {
    "memory": ("engine/test-oom", "engine/test-libc-oom"),
    "system": ("engine/test-io",),
    "tests": ("unit/test-*", "engine/test-checkpoint", "engine/test-quantize", "engine/test-import*"),
}


def tool(name):
    found = shutil.which(name) or shutil.which(f"{name}-14")
    return found or sys.exit(f"coverage.py: {name} is not installed (Debian package llvm)")


def corpora_of(program):
    name = program.name.removeprefix("replay-").replace("-", "_")
    return [path for path in (ROOT / "tests/fuzz/corpus" / name, ROOT / "tests/fuzz/corpus/regress" / name)
            if path.is_dir()]


def run(program, arguments, folder):
    environment = dict(os.environ, LLVM_PROFILE_FILE=f"{folder}/{program.name}-%p.profraw")
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def export(programs, folder, *options):
    """What llvm-cov says of all that ran in a folder."""
    merged = f"{folder}/all.profdata"
    raw = sorted(pathlib.Path(folder).glob("*.profraw"))
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-o", merged, *raw], check=True)
    objects = [part for program in programs[1:] for part in ("-object", program)]
    return subprocess.run([tool("llvm-cov"), "export", *options, f"-instr-profile={merged}", programs[0], *objects],
                          check=True, capture_output=True, text=True).stdout


def engine_file(path):
    """What comes after engine/src/, or nothing."""
    return path.partition("/engine/src/")[2]


def lines_reached(programs, folder):
    """File: line: was it reached?"""
    lines, name = collections.defaultdict(dict), ""
    for text in export(programs, folder, "-format=lcov").splitlines():
        key, _, value = text.partition(":")
        if key == "SF":
            name = engine_file(value)
        elif key == "DA" and name:
            number, count = value.split(",")[:2]
            lines[name][int(number)] = lines[name].get(int(number), False) or int(count) > 0
    return lines


def branches(programs, folder):
    files = json.loads(export(programs, folder, "-summary-only"))["data"][0]["files"]
    return {engine_file(entry["filename"]): entry["summary"]["branches"] for entry in files}


def run_others(build):
    """Column: file: line: was it reached?"""
    reached = {}
    for column, patterns in OTHERS.items():
        programs = sorted(path for pattern in patterns for path in build.glob(pattern) if path.is_file())
        with tempfile.TemporaryDirectory() as folder:
            for program in programs:
                run(program, [], folder)
            reached[column] = lines_reached(programs, folder)
    return reached


def row(name, lines, branch, others):
    """A line of the table, and the numbers of the lines that nothing reaches."""
    left = [number for number, reached in lines.items() if not reached]
    by = dict.fromkeys(OTHERS, 0)
    none = []
    for number in left:
        column = next((c for c in OTHERS if others[c].get(name, {}).get(number)), None)
        if column:
            by[column] += 1
        else:
            none.append(number)
    percent = 100 * (1 - len(left) / len(lines))
    cells = [f"`{name}`", len(lines), f"{percent:.1f} %", f"{branch['percent']:.1f} %",
             *(by[column] or "" for column in OTHERS), len(none) or ""]
    return "| " + " | ".join(map(str, cells)) + " |", none


def main():
    if sys.argv[1:2] == ["--help"] or set(sys.argv[2:]) - {"--lines"} or len(sys.argv) < 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1], "tests").resolve()
    programs = sorted(path for path in build.glob("fuzz/replay-*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            run(program, ["0", *corpora_of(program)], folder)
        lines, branch = lines_reached(programs, folder), branches(programs, folder)
    others = run_others(build)
    print("| file | lines | reached | branches | memory | system | tests | left |\n|---|---|---|---|---|---|---|---|")
    left = {}
    for name in PARSERS:
        if name in lines:
            text, left[name] = row(name, lines[name], branch[name], others)
            print(text)
    if "--lines" in sys.argv:
        for name, numbers in left.items():
            print(f"{name}: {' '.join(map(str, numbers))}" if numbers else "", end="\n" if numbers else "")


if __name__ == "__main__":
    main()
