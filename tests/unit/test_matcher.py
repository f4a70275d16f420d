#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test_matcher.py MATCH_LINES: the engine's matcher beside Python's re, on random patterns of the engine's subset.

What must hold of both: the pattern matches somewhere, from a border of words to a border of words. Half of the texts are
made from the pattern itself, so that many match; GLM4V_DEEP=1 tries twenty times as many.
"""
import json
import os
import random
import re
import subprocess
import sys

BORDER = r"(?:(?<!\w)|(?!\w))"
SIGNS = list(".-/:()[]{}*+?|^$\\")
PLAIN = list("abLOT019_ é批") + ["\U0001F600"]
MOST = 14  # characters of a text


class Maker:
    """A random pattern, and texts that it might match."""

    def __init__(self, rng):
        self.rng = rng

    def one_of(self, *choices):
        return self.rng.choice(choices)()

    def character(self):
        c = self.rng.choice(PLAIN + SIGNS)
        return ("\\" + c if c in SIGNS else c), lambda: c

    def any(self):
        return ".", lambda: self.rng.choice(PLAIN)

    def escape(self):
        name, of = self.rng.choice((("d", "0123456789"), ("w", "aZ_7"), ("s", " \t\n")))
        return "\\" + name, lambda: self.rng.choice(of)

    def set(self):
        parts, of = self.rng.choice((("0-9", "0123456789"), ("A-Fx", "ABCDEFx"), ("a\\-c", "a-c"), ("\\d_", "019_"),
                                     ("甲-龥", "丙批"), ("-a", "-a"), ("]x", "]x"), ("^", None), ("0-9^", "05^")))
        if self.rng.random() < 0.2 or parts == "^":
            return "[^" + ("ab]" if parts == "^" else parts + "]"), lambda: self.rng.choice(PLAIN)
        if parts.startswith("^"):
            parts = parts[1:] + "^"
        return "[" + parts + "]", lambda: self.rng.choice(of)

    def group(self, depth):
        pattern, text = self.alternatives(depth - 1)
        return self.rng.choice(("(", "(?:")) + pattern + ")", text

    def repeated(self, depth):
        kinds = [self.character, self.any, self.escape, self.set] + ([lambda: self.group(depth)] * 3 if depth else [])
        pattern, text = self.rng.choice(kinds)()
        least, most = sorted((self.rng.randrange(4), self.rng.randrange(4)))
        bounded = (("", (1, 1)), ("", (1, 1)), ("?", (0, 1)), ("{%d}" % most, (most, most)),
                   ("{%d,%d}" % (least, most), (least, most)))
        free = (("*", (0, 3)), ("+", (1, 3)), ("{%d,}" % least, (least, least + 2)))
        # re goes back and forth: free repetitions of free repetitions would take it for ever
        suffix, times = self.rng.choice(bounded + free if "(" not in pattern[:1] else bounded)
        return pattern + suffix, lambda: "".join(text() for _ in range(self.rng.randint(*times)))

    def sequence(self, depth):
        items = [self.repeated(depth) for _ in range(self.rng.randint(1, 4))]
        front, back = self.rng.choice((("", ""),) * 6 + (("^", ""), ("", "$"), ("^", "$")))
        return front + "".join(p for p, _ in items) + back, lambda: "".join(t() for _, t in items)

    def alternatives(self, depth):
        ways = [self.sequence(depth) for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]
        return "|".join(p for p, _ in ways), lambda: self.rng.choice(ways)[1]()

    def text(self, made):
        around = lambda: "".join(self.rng.choice(PLAIN + [" ", "\n", "."]) for _ in range(self.rng.randrange(4)))
        return (around() + (made() if self.rng.random() < 0.6 else around()) + around())[:MOST]


def main():
    rng, lines, expected = random.Random(12), [], []
    for _ in range(30000 if os.environ.get("GLM4V_DEEP") else 1500):
        maker = Maker(rng)
        pattern, made = maker.alternatives(1)
        whole = re.compile(f"{BORDER}(?:{pattern}){BORDER}", re.ASCII | re.MULTILINE)
        for _ in range(4):
            text = maker.text(made)
            lines.append(json.dumps({"pattern": pattern, "text": text}))
            expected.append("e" if whole.search("") else "y" if whole.search(text) else "n")
    answers = subprocess.run([sys.argv[1]], input="\n".join(lines), capture_output=True, text=True, check=True).stdout
    answers = answers.split()
    wrong = [(line, a, e) for line, a, e in zip(lines, answers, expected) if a != e]
    for line, a, e in wrong[:10]:
        print("#", line, "is", a, "not", e)
    counts = {c: expected.count(c) for c in "yne"}
    print("#", counts)
    tests = (("all_lines_are_answered", len(answers) == len(lines)), ("the_matcher_agrees_with_re", not wrong),
             ("each_answer_occurs_often", min(counts.values()) > len(lines) / 20))
    for number, (name, holds) in enumerate(tests, 1):
        print("ok" if holds else "not ok", number, "-", name)
    print(f"1..{len(tests)}")
    return 0 if all(holds for _, holds in tests) else 1


if __name__ == "__main__":
    sys.exit(main())
