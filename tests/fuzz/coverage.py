#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the committed corpora alone reach of the files that read what others wrote: coverage.py BUILD_DIR.

BUILD_DIR has the replay programs compiled for it (tests/run.sh coverage). Prints a table of lines and branches.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Readers of hostile files; error.c, mem.c and the like are reached by everything.
PARSERS = ("config.c", "config_chatglm4v.c", "config_glm4v.c", "config_keys.c", "config_processor.c", "json.c",
           "json_parse.c", "pattern.c", "quantization_config.c", "safetensors.c", "shards.c", "source.c",
           "source_read.c", "tokenizer_bpe.c", "tokenizer_json.c", "tokenizer_load.c", "tokenizer_split.c",
           "tokenizer_vocab.c", "utf8.c", "detokenize.c", "file.c", "absent.c")


def tool(name):
    found = shutil.which(name) or shutil.which(f"{name}-14")
    return found or sys.exit(f"coverage.py: {name} is not installed (Debian package llvm)")


def run_corpora(programs, folder):
    for program in programs:
        name = program.name.removeprefix("replay-").replace("-", "_")
        corpora = [path for path in (ROOT / "tests/fuzz/corpus" / name, ROOT / "tests/fuzz/corpus/regress" / name)
                   if path.is_dir()]
        environment = dict(os.environ, LLVM_PROFILE_FILE=f"{folder}/{name}.profraw")
        subprocess.run([program, "0", *corpora], check=True, stdout=subprocess.DEVNULL, env=environment)


def summary(programs, folder):
    raw = sorted(pathlib.Path(folder).glob("*.profraw"))
    merged = f"{folder}/all.profdata"
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-o", merged, *raw], check=True)
    objects = [part for program in programs[1:] for part in ("-object", program)]
    out = subprocess.run([tool("llvm-cov"), "export", "-summary-only", f"-instr-profile={merged}", programs[0], *objects],
                         check=True, capture_output=True).stdout
    return {pathlib.Path(entry["filename"]).name: entry["summary"] for entry in json.loads(out)["data"][0]["files"]
            if "/engine/src/" in entry["filename"]}


def main():
    programs = sorted(path for path in pathlib.Path(sys.argv[1], "tests/fuzz").glob("replay-*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        run_corpora(programs, folder)
        files = summary(programs, folder)
    print("| file | lines | of | branches | of |\n|---|---|---|---|---|")
    for name in PARSERS:
        if name in files:
            lines, branches = files[name]["lines"], files[name]["branches"]
            print(f"| `{name}` | {lines['percent']:.1f} % | {lines['count']} | {branches['percent']:.1f} % |"
                  f" {branches['count']} |")


if __name__ == "__main__":
    main()
