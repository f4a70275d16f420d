#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""examples/read-captions.c and .py read the captions that the element makes."""
import re

from common import BUILD, EXAMPLES, SHIPPED, SOURCE, Skip, check, environment, good, main, make_inputs, run, tiny_model


def clip(folder):
    make_inputs(folder)
    return folder / "clip.avi"


def env(folder):
    return environment(preload=True, GLM4V_MODEL=tiny_model(folder))


def lines(done, kind):
    """Lines of one way of reading: (time, rest)."""
    return re.findall(rf"^{kind} +(?:0:|00:)(\d\d:\d\d\.\d{{3}})\d* +(.*)$", done.stdout, flags=re.M)


def check_captions(done):
    """The clip has 5 s. The last caption is not shown where the clip ends before it can be read."""
    bus, text = ([time for time, _ in lines(done, kind)] for kind in ("bus", "text"))
    check(2 <= len(bus) <= 5 and bus[0] == text[0] == "00:00.000", done.stdout)
    check(set(bus[:-1]) <= set(text), done.stdout)


def read_captions_c_shows_meta_bus_and_text(folder):
    program = BUILD / "examples" / "read-captions"
    done = good(run([program, clip(folder)], env=environment(GLM4V_MODEL=tiny_model(folder))))
    check_captions(done)
    check(lines(done, "meta") == lines(done, "bus"), "meta and message differ:", done.stdout)


def read_captions_py_shows_bus_and_text(folder):
    script = SOURCE / "examples" / "read-captions.py"
    if run(["/usr/bin/python3", "-c", "import gi"]).returncode:
        raise Skip("python3-gi is not installed")
    done = good(run(["/usr/bin/python3", script, clip(folder), "What is this?"], env=env(folder)))
    check_captions(done)


def both_show_the_boxes_of_the_shipped_model(folder):
    picture, prompt = EXAMPLES / "known-sheet.png", "Report the defects as JSON."
    programs = [[BUILD / "examples" / "read-captions"]]
    if not run(["/usr/bin/python3", "-c", "import gi"]).returncode:
        programs.append(["/usr/bin/python3", SOURCE / "examples" / "read-captions.py"])
    for program in programs:
        done = good(run([*program, picture, prompt], env=environment(preload=True, GLM4V_MODEL=SHIPPED)))
        found = re.findall(r"^box .*?(\w+) at (\d+),(\d+), (\d+) x (\d+) pixels$", done.stdout, flags=re.M)
        x1, y1, x2, y2 = map(int, re.search(r'"box":\[(\d+),(\d+),(\d+),(\d+)\]', done.stdout).groups())
        check(len(found) == 1 and found[0][0] == re.search(r'"type":"(\w+)"', done.stdout)[1], done.stdout)
        x, y, width, height = map(int, found[0][1:])  # of a picture of 168x112
        check((x, y) == (x1 * 168 // 1000, y1 * 112 // 1000), done.stdout)
        check((x + width, y + height) == (-(-x2 * 168 // 1000), -(-y2 * 112 // 1000)), done.stdout)


def they_tell_a_missing_file_and_exit_with_1(folder):
    done = run([BUILD / "examples" / "read-captions", folder / "none.mp4"], env=environment())
    check(done.returncode == 1 and done.stderr.strip(), done.stderr)


if __name__ == "__main__":
    main([read_captions_c_shows_meta_bus_and_text, read_captions_py_shows_bus_and_text,
          both_show_the_boxes_of_the_shipped_model, they_tell_a_missing_file_and_exit_with_1])
