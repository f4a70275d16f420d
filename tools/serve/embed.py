#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes files as C strings: embed.py OUTPUT NAME=FILE..."""
import pathlib
import sys


def literal(text):
    def code(byte):
        return chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
    return "\n".join(f'    "{"".join(map(code, line))}"' for line in text.splitlines(keepends=True)) or '    ""'


def main():
    lines = ['#include "documents.h"']
    for word in sys.argv[2:]:
        name, _, path = word.partition("=")
        lines += ["", f"const char {name}[] =", literal(pathlib.Path(path).read_bytes()) + ";"]
    pathlib.Path(sys.argv[1]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
