#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""glm4v thresholds from the outside, with drawn sheets and the shipped model: what it proposes, writes and compares.
Its figures are computed again here from the results that it writes."""
import json
import math
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import zlib

from common import GLM4V, SHIPPED, SLOW, check, environment, good, gst_launch, main, results_of, run

BASE = pathlib.Path(tempfile.mkdtemp(prefix="glm4v-thresholds-"))
KINDS = ("none", "scratch", "hole")
SIDE = 128
ASK = ("--choices", ",".join(KINDS), "--fail-choices", "scratch,hole", "--prompt", "Classify: scratch, hole, none.")


def thresholds(*words, status=0, **options):
    return good(run([GLM4V, "thresholds", "--model", SHIPPED, *words], **options), status)


def write_png(path, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)) +
                     chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def draw(path, kind, seed, darker=0):
    """A grey sheet with grain, and on it a bright line, a black disc, or nothing."""
    r = random.Random(seed)
    base = r.randint(120, 170) - darker
    rows = []
    for _ in range(SIDE):
        line = base + r.randint(-5, 5)
        rows.append([line + (byte & 15) - 7 for byte in r.randbytes(SIDE)])
    x0, y0, slope, radius = r.randint(36, SIDE - 36), r.randint(36, SIDE - 36), r.uniform(-1, 1), r.randint(8, 13)
    for y in range(SIDE):
        for x in range(SIDE):
            if kind == "hole" and (x - x0) ** 2 + (y - y0) ** 2 < radius ** 2:
                rows[y][x] = 10 + (x & 3)
            if kind == "scratch" and abs(y - y0) < 40 and abs(x - x0 - slope * (y - y0)) < 1.5:
                rows[y][x] = 240
    write_png(path, rows)


def sheets(name, count, darker=0):
    """A folder a kind; drawn once."""
    folder = BASE / name
    for kind in KINDS:
        if not (folder / kind).exists():
            (folder / kind).mkdir(parents=True)
            for i in range(count):
                draw(folder / kind / f"{i:03}.png", kind, f"{name} {kind} {i}", darker)
    return folder


def first_run():
    """Results of 30 sheets a kind and what was printed, measured once."""
    path, told = BASE / "first.json", BASE / "first.txt"
    if not path.exists():
        done = thresholds(*ASK, "--escape-rate", "0.1", "--output", path, sheets("parts", 30), timeout=120)
        told.write_text(done.stdout + done.stderr)
    return path, told.read_text()


def bound(events, n):
    """Clopper-Pearson, by exact sums."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = sum(math.comb(n, i) * p ** i * (1 - p) ** (n - i) for i in range(events + 1))
        low, high = (p, high) if tail > 0.05 else (low, p)
    return high


def verdict(results, probabilities):
    """The rule as docs/answers.md has it."""
    chosen = probabilities.index(max(probabilities))
    rows = list(zip(results["choices"], probabilities, results["thresholds"]))
    if any(p >= limit for choice, p, limit in rows if choice in results["fail-choices"]):
        return "fail"
    choice, p, limit = rows[chosen]
    return "pass" if choice not in results["fail-choices"] and p >= limit else "unknown"


def the_thresholds_part_the_sheets_and_the_table_counts_them(folder):
    path, told = first_run()
    check("warning" not in told, told)
    results = json.loads(path.read_text())
    check(results["choices"] == list(KINDS) and results["fail-choices"] == ["scratch", "hole"])
    check(len(results["pictures"]) == 90 and len({p["path"] for p in results["pictures"]}) == 90)
    for picture in results["pictures"]:
        check(abs(sum(picture["probabilities"]) - 1) < 1e-9)
        check(picture["verdict"] == verdict(results, picture["probabilities"]), picture)
    for kind in KINDS:
        ours = [p for p in results["pictures"] if p["folder"] == kind]
        wanted = "pass" if kind == "none" else "fail"
        counts = [sum(p["choice"] == choice for p in ours) for choice in KINDS] + [len(ours)]
        verdicts = [sum(p["verdict"] == name for p in ours) for name in ("pass", "fail", "unknown")]
        line = " ".join(re.search(rf"^{kind} .*", told, re.M).group().replace("|", "").split()[1:])
        check(line == " ".join(map(str, counts + verdicts)), line, counts, verdicts)
        check(verdicts[("pass", "fail").index(wanted)] >= 27, kind, verdicts)
        events = verdicts[1] if kind == "none" else verdicts[0]
        check(f"{kind}: {events} of 30" in told and f"at most {100 * bound(events, 30):.2f} %" in told, told)
    check(not any(p["verdict"] == "pass" for p in results["pictures"] if p["folder"] != "none"))


def the_proposal_is_the_same_in_a_second_run_and_holds_in_describe(folder):
    results = json.loads(first_run()[0].read_text())
    thresholds(*ASK, "--escape-rate", "0.1", "--output", folder / "again.json", sheets("parts", 30), timeout=120)
    check(json.loads((folder / "again.json").read_text()) == results)
    files = [p["path"] for p in results["pictures"]][::9]
    done = good(run([GLM4V, "describe", "--model", SHIPPED, *ASK, "--json", "--thresholds",
                     ",".join(f"{t:.4f}" for t in results["thresholds"]), *files]))
    told = [result["verdict"] for result in results_of(done.stdout)]
    check(told == [p["verdict"] for p in results["pictures"]][::9], told)


def escapes_are_allowed_only_as_far_as_the_rate_is_shown(folder):
    parts = folder / "parts"
    shutil.copytree(sheets("parts", 30), parts, ignore=lambda _, names: [n for n in names if n > "011.png" and n < "9"])
    draw(parts / "scratch" / "clean.png", "none", "a defect that cannot be seen")
    done = thresholds(*ASK, "--escape-rate", "0.5", "--output", folder / "r.json", parts, timeout=120)
    passed = re.search(r"scratch: (\d+) of 13 pass", done.stdout).group(1)
    check(passed == "1" and bound(1, 13) < 0.5, done.stdout)
    done = thresholds(*ASK, "--escape-rate", "0.1", "--output", folder / "r.json", parts, timeout=120)
    check("scratch: 0 of 13 pass" in done.stdout, done.stdout)
    check(json.loads((folder / "r.json").read_text())["thresholds"][0] > 0.5)


def few_pictures_give_a_warning_with_their_bound(folder):
    done = thresholds(*ASK, sheets("few", 5))
    for kind in KINDS:
        check(f'"{kind}" has 5 pictures, fewer than 30: they can show no rate below {100 * bound(0, 5):.1f} %'
              in done.stderr, done.stderr)
    check("it takes 299 pictures without an escape" in done.stderr and bound(0, 299) <= 0.01 < bound(0, 298))


def ks(a, b):
    """Distance and p as statistics.h names them."""
    distance = max(abs(sum(x <= at for x in a) / len(a) - sum(x <= at for x in b) / len(b)) for at in a + b)
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (root + 0.12 + 0.11 / root) * distance
    return distance, 1.0 if x < 0.2 else 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))


def compared(folder, parts):
    done = thresholds("--compare", first_run()[0], "--output", folder / "now.json", parts, timeout=120)
    now, then = json.loads((folder / "now.json").read_text()), json.loads(first_run()[0].read_text())
    check(now["prompt"] == then["prompt"] and now["choices"] == then["choices"])
    check([f["folder"] for f in now["drift"]["folders"]] == list(KINDS))
    for told in now["drift"]["folders"]:
        index = KINDS.index(told["folder"])
        samples = [[p["probabilities"][index] for p in r["pictures"] if p["folder"] == told["folder"]]
                   for r in (now, then)]
        distance, p = ks(*samples)
        check(abs(told["distance"] - distance) < 1e-12 and abs(told["p"] - p) < 1e-9, told, distance, p)
    return now["drift"]["drifted"], done.stdout


def other_sheets_of_the_same_line_show_no_drift_and_darker_ones_do(folder):
    drifted, text = compared(folder, sheets("other", 30))
    check(not drifted and "no drift is shown" in text, text)
    drifted, text = compared(folder, sheets("darker", 30, darker=90))
    check(drifted and "the line has drifted" in text and "Kolmogorov-Smirnov" in text, text)


def a_preset_is_added_to_those_that_are_there(folder):
    presets = folder / "GstGlm4vDescribe.prs"
    presets.write_text("[_presets_]\nversion=7\nelement-name=GstGlm4vDescribe\n\n[mine]\nprompt=What?\n")
    for name in ("line", "line", "line2"):  # the second time it is replaced
        thresholds("--fail-choices", "scratch,hole", "--preset", presets, "--preset-name", name, sheets("few", 5))
    text = presets.read_text()
    check(text.count("[line]") == 1 and text.count("[line2]") == 1 and "version=7" in text, text)
    check("[mine]\nprompt=What?\n" in text, text)
    check("output=choice\n" in text and re.search(r"^thresholds=< (0|1)\.\d{4}, \S+, \S+ >$", text, re.M), text)
    other = folder / "other.prs"
    other.write_text("[_presets_]\nversion=1\nelement-name=GstX264Enc\n")
    done = thresholds("--fail-choices", "scratch,hole", "--preset", other, sheets("few", 5), status=4)
    check("holds no presets of GstGlm4vDescribe" in done.stderr and "X264" in other.read_text(), done.stderr)


def the_element_takes_the_preset(folder):
    words = ("none", "scratch", "hole, \"round\"")
    choices = ",".join('"' + word.replace('"', '""') + '"' for word in words)
    for word, kind in zip(words, KINDS):
        shutil.copytree(sheets("few", 5) / kind, folder / "parts" / word)
    thresholds("--choices", choices, "--fail-choices", ",".join(choices.split(",", 1)[1:]), "--output",
               folder / "r.json", "--preset", folder / "GstGlm4vDescribe.prs", folder / "parts")
    results = json.loads((folder / "r.json").read_text())
    for picture in results["pictures"][::5]:
        shutil.copy(picture["path"], folder / "x.png")
        done = good(gst_launch(f"-m filesrc location={folder}/x.png ! pngdec ! videoconvert ! glm4vdescribe "
                               f"model-location={SHIPPED} '@preset=choice' sample-mode=all mode=sync ! fakesink",
                               env=environment(preload=True, GST_PRESET_PATH=folder)))
        told = re.search(r"verdict=\(string\)(\w+)", done.stdout)
        check(told and told.group(1) == picture["verdict"], picture, done.stdout, done.stderr)
        shares = [float(x) for x in re.search(r"probabilities=\([^)]*\)<([^>]*)>", done.stdout).group(1).split(",")]
        check(len(shares) == 3 and max(abs(a - b) for a, b in zip(shares, picture["probabilities"])) < 0.02, shares,
              picture)


def folders_may_have_names_with_commas_and_quotes(folder):
    for name, kind in (('a, "b"', "none"), ("传送", "hole")):
        (folder / "parts" / name).mkdir(parents=True)
        draw(folder / "parts" / name / "x.png", kind, name)
    done = thresholds("--fail-choices", "传送", "--output", folder / "r.json", folder / "parts")
    check(json.loads((folder / "r.json").read_text())["choices"] == ['a, "b"', "传送"], done.stdout)


def broken_and_other_files_are_named_and_left_out(folder):
    shutil.copytree(sheets("few", 5), folder / "parts")
    (folder / "parts" / "hole" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "parts" / "none" / "notes.txt").write_text("no picture")
    done = thresholds(*ASK, "--output", folder / "r.json", folder / "parts", status=1)
    check("broken.png" in done.stderr and "notes.txt: skipped" in done.stderr, done.stderr)
    check(len(json.loads((folder / "r.json").read_text())["pictures"]) == 15)


def wrong_command_lines_change_nothing(folder):
    few, out = sheets("few", 5), folder / "r.json"
    for words in ([], [few, few], [few], ["--fail-choices", "dent", few], ["--fail-choices", "none,scratch,hole", few],
                  ["--choices", "none,scratch", "--fail-choices", "scratch", few], [*ASK, "--escape-rate", "0", few],
                  [*ASK, "--escape-rate", "0.6", few], [*ASK, "--preset-name", "a]b", few], [*ASK, "--prompt", "\udcff", few]):
        good(run([GLM4V, "thresholds", "--model", SHIPPED, "--output", out, *words]), 2)
    bad = folder / "bad.json"
    for text in ("", "{", "[]", '{"version": 2}', first_run()[0].read_text().replace('"folder"', '"order"', 1),
                 first_run()[0].read_text().replace('"probabilities": [', '"probabilities": [2, ', 1)):
        bad.write_text(text)
        done = good(run([GLM4V, "thresholds", "--model", SHIPPED, "--output", out, "--compare", bad, few]), 1)
        check(str(bad) in done.stderr, done.stderr)
    for place in (folder / "nowhere", folder, few / "none"):
        done = good(run([GLM4V, "thresholds", "--model", SHIPPED, "--output", out, *ASK, place]), 1)
        check(str(place) in done.stderr, done.stderr)
    good(run([GLM4V, "thresholds", "--model", SHIPPED, *ASK, "--output", folder / "no" / "r.json", few]), 4)
    good(run([GLM4V, "thresholds", "--model", SHIPPED, *ASK, "--output", folder, few]), 4)
    check(sorted(p.name for p in folder.iterdir()) == ["bad.json"])


def an_interrupted_run_leaves_the_earlier_results(folder):
    out = folder / "r.json"
    out.write_text("earlier")
    words = [str(w) for w in (GLM4V, "thresholds", "--model", SHIPPED, *ASK, "--output", out, sheets("parts", 30))]
    for wait in (0.2, 0.6):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60 * SLOW)
        if process.returncode == -signal.SIGINT:
            check(out.read_text() == "earlier" and len(list(folder.iterdir())) == 1)
        else:  # a fast machine
            check(process.returncode == 0 and json.loads(out.read_text()))
            out.write_text("earlier")


try:
    main([the_thresholds_part_the_sheets_and_the_table_counts_them,
          the_proposal_is_the_same_in_a_second_run_and_holds_in_describe,
          escapes_are_allowed_only_as_far_as_the_rate_is_shown,
          few_pictures_give_a_warning_with_their_bound,
          other_sheets_of_the_same_line_show_no_drift_and_darker_ones_do,
          a_preset_is_added_to_those_that_are_there,
          the_element_takes_the_preset,
          folders_may_have_names_with_commas_and_quotes,
          broken_and_other_files_are_named_and_left_out,
          wrong_command_lines_change_nothing,
          an_interrupted_run_leaves_the_earlier_results])
finally:
    shutil.rmtree(BASE, ignore_errors=True)
