#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the lines between @code and @endcode of a header's first comment: extract_usage.py HEADER"""
import sys

lines = open(sys.argv[1], encoding="utf-8").read().split("\n")
first, last = lines.index(" * @code"), lines.index(" * @endcode")
assert first < last
for line in lines[first + 1:last]:
    print(line[3:])
