#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""glm4v describe, quantize, inspect and bench from the outside: output, exit status, messages."""
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

from common import (BUILD, EXAMPLES, GLM4V, SHIPPED, SLOW, SOURCE, Skip, check, environment, good, gst_launch, main, make_inputs,
                    one_result, results_of, run, tiny_model)

SCHEMA = str(SOURCE / "examples" / "inspection.schema.json")
BASE = tempfile.mkdtemp(prefix="glm4v-cli-")
MODEL = None


def describe(*words, status=0, **options):
    return good(run([GLM4V, "describe", "--model", MODEL, "--max-tokens", "4", *words], **options), status)


def path(name):
    return f"{BASE}/{name}"


def help_teaches_each_command(folder):
    for command in ("describe", "thresholds", "quantize", "inspect", "bench"):
        text = good(run([GLM4V, command, "--help"])).stdout
        json_option = "--output" if command == "thresholds" else "--json"
        for part in (f"usage: glm4v {command}", "options:", "examples:", "exit status:", json_option):
            check(part in text, command, "help lacks", part)
        check(max(map(len, text.splitlines())) <= 110, "a help line is too wide")
    check("describe" in good(run([GLM4V, "--help"])).stdout)
    check(re.fullmatch(r"glm4v \d+\.\d+\.\d+\n", good(run([GLM4V, "--version"])).stdout))


def wrong_command_lines_exit_with_2_and_do_nothing(folder):
    picture = path("picture.png")
    for words in ([], ["nonsense"], ["describe"], ["describe", "--nonsense", picture],
                  ["describe", "--choices", "a,,b", picture], ["describe", "--choices", "a,a", picture],
                  ["describe", "--choices", 'a,"b', picture], ["describe", "--choices", '"a"b', picture],
                  ["describe", "--choices", "", picture], ["describe", "--fail-choices", "a", picture],
                  ["describe", "--choices", ",".join(map(str, range(257))), picture],
                  ["describe", "--choices", "a,b", "--fail-choices", "c", picture],
                  ["describe", "--choices", "a,b", "--thresholds", "0.5", picture],
                  ["describe", "--choices", "a,b", "--thresholds", "0.5,0", picture],
                  ["describe", "--choices", "a,b", "--thresholds", "0.5,x", picture],
                  ["describe", "--choices", "a", "--json-schema", SCHEMA, picture],
                  ["describe", "--choices", "a", "--pattern", "b", picture],
                  ["describe", "--pattern", "LOT[0-9", picture], ["describe", "--pattern", "", picture],
                  ["describe", "--speculation", "on", picture], ["describe", "--pattern", "%s(", picture],
                  ["describe", "--preset", "read", picture],
                  ["describe", "--json-schema", __file__, picture],
                  ["describe", "--json-schema", SCHEMA, "--max-tokens", "3", picture],
                  ["describe", "--max-tokens", "0", picture], ["describe", "--max-tokens", "-3", picture],
                  ["describe", "--max-tokens", "99999999999999999999", picture], ["describe", "--max-tokens"],
                  ["describe", "--temperature", "nan", picture], ["describe", "--temperature", "3", picture],
                  ["describe", "--top-p", "0.5", picture], ["describe", "--json=yes", picture],
                  ["quantize", MODEL], ["quantize", MODEL, path("a"), path("b"), "--quantization", "int8"],
                  ["quantize", MODEL, path("a")], ["quantize", MODEL, path("a"), "--quantization", "int5"],
                  ["quantize", MODEL, MODEL, "--quantization", "int8"],
                  ["describe", "--quantization", "int3", picture], ["describe", "--device", "tpu", picture],
                  ["describe", "--prompt", os.fsdecode(b"\xff"), picture],
                  ["describe", "--system", os.fsdecode(b"\xc3"), picture],
                  ["describe", "-j", picture], ["inspect", "a", "b"], ["inspect", "--frame", "9"],
                  ["bench", "--frame", "0x5"], ["bench", "extra"], ["bench", "--config", "config.json"],
                  ["bench", "--random-weights", "--config", "a.json", "--model", "b"]):
        done = good(run([GLM4V, *words]), 2)
        check(done.stderr and not done.stdout, words, "printed", done.stdout)


def tools_refuse_an_option_where_a_folder_is_expected(folder):
    for tool in ([BUILD / "tests" / "support" / "make-tiny-model"], ["bash", SOURCE / "tools" / "bundle.sh"]):
        help = good(run([*tool, "--help"], cwd=folder))
        check(tool[-1].name in help.stdout and not help.stderr, help)
        wrong = good(run([*tool, "--verbose"], cwd=folder), 2)
        check(tool[-1].name in wrong.stderr and not wrong.stdout, wrong)
    check(not os.listdir(folder), os.listdir(folder))


def a_picture_gives_one_line(folder):
    for name in ("picture.png", "picture.jpg"):
        check(len(describe(path(name)).stdout.splitlines()) == 1, name)


def several_inputs_are_named(folder):
    lines = describe(path("picture.png"), path("picture.jpg")).stdout.splitlines()
    check([line.startswith(path(name) + ": ") for line, name in zip(lines, ("picture.png", "picture.jpg"))] ==
          [True, True], lines)


def a_video_gives_a_line_per_interval_with_its_time(folder):
    for interval, times in (("1", [0, 1, 2, 3, 4]), ("2.5", [0, 2.5]), ("60", [0])):
        lines = describe("--interval", interval, path("clip.avi")).stdout.splitlines()
        found = [line.split("  ")[0] for line in lines]
        check(found == [f"00:00:{t:06.3f}" for t in times], interval, found)


def interval_0_describes_every_frame(folder):
    told = results_of(describe("--json", "--max-tokens", "1", "--interval", "0", path("clip.avi")).stdout)
    check([result["pts"] for result in told] == [n * 100_000_000 for n in range(50)], len(told))
    check([result["id"] for result in told] == list(range(50)), told)


def json_lines_hold_the_contract(folder):
    for name, pts in (("picture.png", None), ("clip.avi", 0)):
        result = one_result(describe("--json", "--interval", "60", path(name)).stdout)
        check(result["input"] == path(name) and result["pts"] == pts and result["status"] == "ok", result)
        check((result["width"], result["height"]) == (224, 224), result)
        check(result["finish-reason"] in ("stop", "length") and isinstance(result["text"], str), result)
        check(0 < result["tokens"]["vision"] < result["tokens"]["in"], result["tokens"])
        check(result["tokens"]["accepted"] <= result["tokens"]["drafted"], result["tokens"])
        check(0 < result["timings"]["first-token"] <= result["timings"]["total"], result["timings"])
        check(result["model"]["name"] == MODEL.name and re.fullmatch("[0-9a-f]{16}", result["model"]["hash"]), result)


def the_answer_about_the_same_picture_is_drafted(folder):
    picture = path("picture.png")
    words = ["--json", "--temperature", "1.5", "--seed", "4", "--max-tokens", "40", picture, picture]
    first, again = results_of(describe(*words).stdout)
    check(again["tokens"]["accepted"] > 2 and first["text"] == again["text"], first, again)
    for result in results_of(describe("--speculation", "off", *words).stdout):
        check(result["text"] == first["text"] and result["tokens"]["drafted"] == 0, result)


def boxes_of_the_answer_are_pixels_of_the_picture(folder):
    picture = EXAMPLES / "known-sheet.png"  # 168x112
    line = good(run([GLM4V, "describe", "--model", SHIPPED, "--json", "--prompt", "Report the defects as JSON.",
                     picture])).stdout
    result = one_result(line)
    (defect,) = json.loads(result["text"])["defects"]
    x1, y1, x2, y2 = defect["box"]
    (box,) = result["boxes"]
    check(box["label"] == defect["type"], box, defect)
    check((box["x"], box["y"]) == (x1 * 168 // 1000, y1 * 112 // 1000), box, defect)
    check((box["x"] + box["width"], box["y"] + box["height"]) == (-(-x2 * 168 // 1000), -(-y2 * 112 // 1000)), box, defect)
    check("action" not in result and "boxes" not in one_result(describe("--json", picture).stdout))


def choices_come_with_probabilities_and_a_verdict(folder):
    pictures = [SOURCE / "tests" / "data" / "surface-tiny" / f"{i:03}.png" for i in (0, 1, 2)]
    words = [GLM4V, "describe", "--prompt", "Choose one: good, bad.", "--choices", ' good , "bad"']
    plain = good(run(words + ["--fail-choices", "bad", *pictures])).stdout
    check(re.fullmatch(r"\S+: pass: good \(\d+\.\d %\)(\n\S+: fail: bad \(\d+\.\d %\)){2}\n", plain), plain)
    for result in results_of(good(run(words + ["--json", *pictures])).stdout):
        shares = result["probabilities"]
        check(result["text"] == result["choice"] == ("good", "bad")[shares[1] > shares[0]], result)
        check(result["probability"] == max(shares) and abs(sum(shares) - 1) < 1e-5 and "verdict" not in result, result)
    strict = good(run(words + ["--thresholds", "1,1", "--json", "--temperature", "2", pictures[1]])).stdout
    check(one_result(strict)["verdict"] == "unknown", strict)
    quoted = good(run([GLM4V, "describe", "--choices", '"a, ""b""",c,"c "', "--json", pictures[0]])).stdout
    check(len(one_result(quoted)["probabilities"]) == 3, quoted)


def a_pattern_makes_a_verdict_of_the_text(folder):
    picture = SOURCE / "tests" / "data" / "surface-tiny" / "001.png"
    text = good(run([GLM4V, "describe", picture])).stdout.strip()
    word = max(re.findall("[a-z]+", text), key=len)
    for pattern, verdict in ((word, "pass"), (word[1:], "fail"), (f"{word}|LOT[0-9]{{6}}", "pass"),
                             ("LOT[0-9]{6}", "fail"), (r"\w+\.$", "pass")):
        words = [GLM4V, "describe", "--pattern", pattern, picture]
        check(good(run(words)).stdout == f"{verdict}: {text}\n", pattern, text)
        check(one_result(good(run([*words, "--json"])).stdout)["verdict"] == verdict, pattern)
    read = good(run([GLM4V, "describe", "--preset", "ocr", "--json", picture])).stdout
    said = good(run([GLM4V, "describe", "--prompt", "Text Recognition:", "--json", picture])).stdout
    check(one_result(read)["text"] == one_result(said)["text"] and "verdict" not in one_result(read), read, said)


def answers_match_a_json_schema(folder):
    pictures = [SOURCE / "tests" / "data" / "surface-tiny" / f"{i:03}.png" for i in (0, 1, 2)]
    words = [GLM4V, "describe", "--prompt", "Report the defects as JSON.", "--json-schema", SCHEMA]
    kinds = [[], ["scratch"], ["hole"]]
    for result, kind in zip(results_of(good(run(words + ["--json", *pictures])).stdout), kinds):
        check(json.loads(result["text"]) == result["json"], result)
        check([defect["type"] for defect in result["json"]["defects"]] == kind, result)
    # of a model that knows nothing of it too
    done = describe("--max-tokens", "60", "--temperature", "1", "--json-schema", SCHEMA, "--json", path("picture.png"))
    check(set(one_result(done.stdout)["json"]) == {"surface", "count", "defects"}, done.stdout)


def a_schema_that_cannot_be_read_exits_with_1(folder):
    done = good(run([GLM4V, "describe", "--json-schema", f"{folder}/none.json", path("picture.png")]), 1)
    check("none.json cannot be read" in done.stderr and not done.stdout, done.stderr)


def the_same_seed_gives_the_same_text_and_another_seed_another(folder):
    def text(seed):
        return describe("--temperature", "2", "--max-tokens", "24", "--seed", seed, path("picture.png")).stdout
    check(text(1) == text(1))
    check(len({text(seed) for seed in range(1, 5)}) > 1)


def a_bad_input_is_told_and_the_others_are_described(folder):
    (folder / "short.png").write_bytes(open(path("picture.png"), "rb").read()[:400])
    (folder / "text.png").write_text("this is no picture\n")
    (folder / "empty.mp4").touch()
    bad = {"missing.png": "no such file", "short.png": "", "text.png": "neither a picture nor a video", "/dev/null": "not a file",
           path("sound.wav"): "neither a picture nor a video", "empty.mp4": "empty"}
    for name, said in bad.items():
        name = folder / name
        done = describe("--json", name, path("picture.png"), status=1)
        first, second = results_of(done.stdout)
        check(first["status"] == "error" and said in first["message"] and first["input"] == str(name), first)
        check(second["status"] == "ok", second)
        check(str(name) in done.stderr, done.stderr)


def names_with_spaces_percent_and_no_utf8_are_read(folder):
    for name in (b"a b.png", b"100%41.png", "\u56fe.png".encode(), b"\xff\xfe.png"):
        target = os.path.join(os.fsencode(folder), name)
        shutil.copy(path("picture.png"), target)
        check(one_result(describe("--json", os.fsdecode(target)).stdout)["status"] == "ok", name)


def a_missing_model_exits_with_3_and_names_it(folder):
    done = good(run([GLM4V, "describe", "--model", folder / "none", path("picture.png")]), 3)
    check("none" in done.stderr and not done.stdout, done.stderr)
    done = good(run([GLM4V, "describe", "--model", MODEL, "--device", "cuda:7", path("picture.png")]), 3)
    check("cuda" in done.stderr, done.stderr)


def output_that_cannot_be_written_exits_with_4_and_says_why(folder):
    for words in (f"describe --model '{MODEL}' --max-tokens 2 '{path('picture.png')}'", "inspect --json", "--help"):
        done = good(run(f"'{GLM4V}' {words} >/dev/full"), 4)
        check("No space left" in done.stderr, words, done.stderr)
        done = good(run(f"'{GLM4V}' {words} >&-"), 4)
        check("Bad file descriptor" in done.stderr, words, done.stderr)


def every_quantization_answers(folder):
    for form in ("fp32", "bf16", "int8", "int4", "text=int4,vision=int8"):
        result = one_result(describe("--json", "--quantization", form, path("picture.png")).stdout)
        check(result["status"] == "ok" and result["model"]["quant"].startswith("text="), form, result)


def the_model_is_found_without_an_option(folder):
    env = environment(GLM4V_MODEL=MODEL)
    check(one_result(good(run([GLM4V, "describe", "--json", "--max-tokens", "2", path("picture.png")], env=env)).stdout)
          ["model"]["name"] == MODEL.name)
    env.pop("GLM4V_MODEL")
    check(json.loads(good(run([GLM4V, "inspect", "--json"], env=env)).stdout)["name"] == SHIPPED.name)


def on_a_terminal(words, seconds=60):
    """What a program writes to stderr when that is a terminal."""
    try:
        leader, follower = pty.openpty()
    except OSError as error:
        raise Skip(f"no pseudo-terminal: {error}") from error
    child = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                             stderr=follower, env=environment())
    os.close(follower)
    text, end = b"", time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        ready, _, _ = select.select([leader], [], [], 0.2)
        try:
            chunk = os.read(leader, 65536) if ready else b""
        except OSError:  # the other side is closed
            break
        text += chunk
        if not ready and child.poll() is not None:
            break
    check(child.wait(seconds) == 0, text)
    os.close(leader)
    return text.decode()


def a_progress_bar_is_drawn_on_a_terminal_and_nowhere_else(folder):
    words = [GLM4V, "describe", "--model", MODEL, "--max-tokens", "2", path("clip.avi")]
    text = on_a_terminal(words)
    check("loading [" in text and "describing [" in text and text.rstrip("\n").endswith("\r\x1b[K"), repr(text))
    check(good(run(words)).stderr == "")


def quantize(*words, status=0, **options):
    return good(run([GLM4V, "quantize", *words], **options), status)


def quantize_writes_a_smaller_copy(folder):
    text = quantize(MODEL, folder / "a", "--quantization", "text=int4,vision=int8").stdout
    check(text.startswith(f"{folder / 'a'}: weights of "), text)
    result = json.loads(quantize(MODEL, folder / "b", "--json", "--quantization", "int8").stdout)
    sizes = [(place / "model.safetensors").stat().st_size for place in (MODEL, folder / "a", folder / "b")]
    check(result["source_bytes"] == sizes[0] and result["file_bytes"] == sizes[2], result, sizes)
    check(sizes[1] < sizes[2] < sizes[0], sizes)
    for place, form in (("a", "mixed-precision"), ("b", "int-quantized")):
        config = json.loads((folder / place / "config.json").read_text())
        original = json.loads((MODEL / "config.json").read_text())
        check(list(config)[:-1] == list(original) and all(config[key] == original[key] for key in original))
        check(config["quantization_config"]["format"] == form, config["quantization_config"])
        copied = {entry.name for entry in (folder / place).iterdir()}
        check(copied == {entry.name for entry in MODEL.iterdir()}, copied)
        check(not any(entry.is_symlink() for entry in (folder / place).iterdir()))


def quantize_overwrites_nothing(folder):
    (folder / "taken").mkdir()
    (folder / "taken" / "file").write_text("mine")
    done = quantize(MODEL, folder / "taken", "--quantization", "int8", status=2)
    check("not empty" in done.stderr and not done.stdout, done.stderr)
    check([entry.name for entry in folder.rglob("*")] == ["taken", "file"], list(folder.rglob("*")))


def quantize_that_cannot_write_exits_with_4_and_leaves_nothing(folder):
    done = run(f"ulimit -f 100; '{GLM4V}' quantize --json '{MODEL}' '{folder}/new' --quantization int8")
    check(done.returncode == 4 and "model.safetensors" in done.stderr and "File too large" in done.stderr, done.stderr)
    check("raise the limit (ulimit -f)" in done.stderr, done.stderr)
    check(json.loads(done.stdout)["error"] == "io", done.stdout)
    check(not list(folder.iterdir()), list(folder.iterdir()))
    if os.geteuid():
        folder.chmod(0o555)
        done = quantize(MODEL, folder / "new", "--quantization", "int8", status=4)
        folder.chmod(0o755)
        check("Permission denied" in done.stderr, done.stderr)


def quantize_that_cannot_tell_of_its_result_exits_with_4(folder):
    done = run(f"'{GLM4V}' quantize --json '{MODEL}' '{folder}/new' --quantization int8 >/dev/full")
    check(done.returncode == 4, "what is told cannot be written", done.returncode)
    good(run([GLM4V, "inspect", folder / "new"]))  # what was asked for is there all the same


def quantize_calibrates_on_a_folder_of_pictures(folder):
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("picture.png", "picture.jpg", "clip.avi"):
        shutil.copy(path(name), pictures)
    (pictures / "prompts.txt").write_text("Describe.\n\nWhat is it?\r\n")
    words = ["--quantization", "int4", "--calibrate", pictures]
    done = quantize(MODEL, folder / "a", "--verbose", *words)
    check("3 images are few" in done.stderr and "on 3 pictures, 6 sequences" in done.stderr, done.stderr)
    quantize(MODEL, folder / "b", "--quantization", "int4")
    weights = [(folder / name / "model.safetensors").read_bytes() for name in "ab"]
    check(len(weights[0]) == len(weights[1]) and weights[0] != weights[1], "the codes do not differ")
    check((folder / "a" / "config.json").read_text() == (folder / "b" / "config.json").read_text())
    good(run([GLM4V, "describe", "--model", folder / "a", "--max-tokens", "4", path("picture.png")]))


def quantize_that_cannot_calibrate_exits_with_1_and_names_the_file(folder):
    empty, bad = folder / "empty", folder / "bad"
    for place in (empty, bad):
        place.mkdir()
    shutil.copy(path("picture.png"), bad / "a.png")
    (bad / "b.png").write_text("no picture")
    for place, part in ((empty, "holds no file"), (bad, "b.png cannot be used to calibrate"),
                        (folder / "none", "none: No such file")):
        done = quantize(MODEL, folder / "new", "--quantization", "int4", "--calibrate", place, "--json", status=1)
        check(part in done.stderr and json.loads(done.stdout)["message"] in done.stderr, done.stderr, done.stdout)
    (bad / "b.png").unlink()
    done = quantize(MODEL, folder / "new", "--quantization", "int8", "--calibrate", bad, status=2)
    check("calibration is for int4 matrices" in done.stderr, done.stderr)
    check(not (folder / "new").exists())


def large_model(folder, rows):
    """The tiny model with an embedding of that many rows of zeros, of which the disk holds none."""
    shutil.copytree(MODEL, folder)
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            if entry["shape"][0] == 384:
                entry["shape"][0] = rows
            size = 2
            for length in entry["shape"]:
                size *= length
            entry["data_offsets"] = [end, end + size]
            end += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"vocab_size": 384', f'"vocab_size": {rows}'))


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def default_stops():
    """Whoever starts the tests, nohup say, may have them ignored."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)


def quantize_that_is_interrupted_leaves_nothing(folder):
    large_model(folder / "large", 2_000_000)
    place = folder / "place"
    place.mkdir()
    for number in STOPS:
        child = subprocess.Popen([GLM4V, "quantize", folder / "large", place / "new", "--quantization",
                                  "embedding=int8,lm-head=int4", "--threads", "1"], env=environment(),
                                 preexec_fn=default_stops, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30 * SLOW
        while not any(entry.name.startswith(".new.glm4v-tmp") for entry in place.iterdir()):
            check(time.monotonic() < end and child.poll() is None, "no temporary folder")
            time.sleep(0.005)
        child.send_signal(number)
        check(child.wait(60 * SLOW) == -number, "ended with", child.returncode)
        check(not list(place.iterdir()), list(place.iterdir()))


def inspect_tells_sizes_forms_and_memory(folder):
    result = json.loads(good(run([GLM4V, "inspect", "--json", MODEL])).stdout)
    check(result["valid"] and result["family"] == "glm4v" and result["text"]["layers"] == 2, result)
    totals = {row["quantization"]: row for row in result["memory"]}
    check(totals["int4"]["weights"] < totals["int8"]["weights"] < totals["bf16"]["weights"] <
          totals["fp32"]["weights"], totals)
    parts = ("weights", "kv_cache", "scratch", "tables")
    check(all(row["total"] == sum(row[part] for part in parts) <= row["peak"] for row in totals.values()), totals)
    check(all(row["fits"] for row in totals.values()), totals)
    check(totals["as stored"]["weights"] == totals["bf16"]["weights"], totals)
    sizes = [row["total"] for row in result["memory"][1:]]
    check(result["memory"][0]["quantization"] == "as stored" and sizes == sorted(sizes, reverse=True), sizes)
    one = json.loads(good(run([GLM4V, "inspect", "--json", "--batch", "1", "--context", "256", MODEL])).stdout)
    check(one["memory"][0]["kv_cache"] < totals["as stored"]["kv_cache"] / 4, one["memory"][0])
    text = good(run([GLM4V, "inspect", MODEL])).stdout
    for part in ("family", "glm4v", "int8", "MiB", "available", "yes", "valid"):
        check(part in text, part, text)


def a_configuration_alone_tells_sizes_and_memory(folder):
    config = SOURCE / "tests" / "data" / "glm-4.1v-9b" / "config.json"
    told = json.loads(good(run([GLM4V, "inspect", "--json", "--frame", "1288x728", config])).stdout)
    check(told["family"] == "glm4v" and told["parameters"] == 10292777472 and not told["file_bytes"], told)
    totals = {row["quantization"]: row["total"] / 2**30 for row in told["memory"]}
    check(20 < totals["bf16"] < 21 and 6 < totals["int4,embedding=int8,lm-head=int4"] < 7.5, totals)
    text = good(run([GLM4V, "inspect", config])).stdout
    check("configuration without weights" in text and "sound" not in text, text)


def too_little_memory_is_said_before_loading_with_what_would_fit(folder):
    if SLOW > 1:
        raise Skip("a sanitizer takes more address space than is left here")
    config = SOURCE / "tests" / "data" / "glm-4.1v-9b" / "config.json"
    done = subprocess.run([GLM4V, "bench", "--config", config, "--random-weights", "--runs", "1"], timeout=60, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
                          capture_output=True)
    check(done.returncode == 3 and not done.stdout, done)
    if "no quantization fits" not in done.stderr:  # less than 8 GiB are free
        check("the largest that fits, with an engine, is --quantization text=int4,vision=int8,embedding=int8,lm-head=int4"
              in done.stderr, done.stderr)


def inspect_refuses_a_damaged_model_and_says_where(folder):
    shutil.copytree(MODEL, folder / "bad")
    weights = folder / "bad" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = good(run([GLM4V, "inspect", "--json", folder / "bad"]), 3)
    check(json.loads(done.stdout)["valid"] is False and "model.safetensors" in done.stderr, done.stderr)
    os.remove(weights)
    check("safetensors" in good(run([GLM4V, "inspect", folder / "bad"]), 3).stderr)


def bench_measures_every_stage(folder):
    result = json.loads(good(run([GLM4V, "bench", "--model", MODEL, "--frame", "112x112", "--prompt-tokens", "20",
                                  "--tokens", "8", "--batch", "2", "--runs", "3", "--json"])).stdout)
    check(set(result["stages_ms"]) == {"preprocess", "vision", "prefill", "first_token", "decode", "total"}, result)
    for stage, spread in result["stages_ms"].items():
        check(0 < spread["min"] <= spread["median"] <= spread["max"], stage, spread)
    check(abs(result["work"]["prompt_tokens"] - result["work"]["vision_tokens"] - 20) <= 3, result["work"])
    check(0 < result["work"]["output_tokens"] <= 8, result["work"])
    check(result["decode"]["measured_gb_per_s"] > 0.1 and result["decode"]["read_gb_per_s"] > 0, result["decode"])
    check(result["memory"]["host_peak"] > 1 << 20 and result["prefill_tflops"] > 0, result)


def bench_runs_on_random_weights_with_a_configuration_alone(folder):
    shutil.copy(MODEL / "config.json", folder)
    done = good(run([GLM4V, "bench", "--config", folder / "config.json", "--random-weights", "--quantization", "int8",
                     "--frame", "56x56", "--tokens", "4", "--runs", "2", "--json"]))
    result = json.loads(done.stdout)
    check(result["model"]["random_weights"] and result["stages_ms"]["decode"]["median"] > 0, result)


def commands_and_element_take_a_directory_of_the_other_family(folder):
    model = tiny_model(BASE, "chatglm4v", "shards=2")
    info = json.loads(good(run([GLM4V, "inspect", "--json", model])).stdout)
    check(info["valid"] and info["family"] == info["chat_template"] == "chatglm4v", info)
    picture = path("picture.png")
    texts = [good(run([GLM4V, "describe", "--model", place, "--max-tokens", "8", *words, picture])).stdout
             for place, words in ((model, []), (model, []), (model, ["--quantization", "int4"]))]
    check(texts[0] == texts[1] and len(texts[0].splitlines()) == 1, texts)
    quantize(model, folder / "int4", "--quantization", "int4")
    done = good(run([GLM4V, "describe", "--model", folder / "int4", "--max-tokens", "8", picture]))
    check(done.stdout == texts[2], done.stdout, texts)
    for words in (["--model", model], ["--random-weights", "--config", model / "config.json"]):
        result = json.loads(good(run([GLM4V, "bench", *words, "--tokens", "4", "--runs", "2", "--json"])).stdout)
        check(result["work"]["vision_tokens"] == 6, result["work"])
    good(gst_launch(f"videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48,framerate=5/1 ! glm4vdescribe name=d "
                    f"model-location='{model}' mode=sync sample-mode=all max-tokens=4 ! fakesink "
                    f"d.text ! filesink location='{folder}/captions'"))
    check((folder / "captions").stat().st_size > 0)


def numbers_are_the_same_where_the_locale_has_a_decimal_comma(folder):
    if run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"]).returncode:
        raise Skip("the Debian package locales is not installed")
    comma = {"LOCPATH": folder, "LC_ALL": "de_DE.UTF-8"}
    check(good(run(["locale", "decimal_point"], env=environment(**comma))).stdout == ",\n")
    picture, prompt = EXAMPLES / "known-sheet.png", "Report the defects as JSON."
    drawn = ["--temperature", "0.7", "--top-p", "0.5", "--seed", "1", "--prompt", prompt]
    told = []
    for extra in ({}, comma):
        env = environment(preload=True, GLM4V_MODEL=SHIPPED, **extra)
        result = one_result(good(run([GLM4V, "describe", "--json", *drawn, picture], env=env)).stdout)
        memory = json.loads(good(run([GLM4V, "inspect", "--json"], env=env)).stdout)["memory"]
        done = good(run(f"gst-launch-1.0 -q filesrc location='{picture}' ! pngdec ! videoconvert ! glm4vdescribe name=d "
                        f"temperature=0.7 top-p=0.5 seed=1 prompt='{prompt}' ! fakesink d.text ! "
                        "fdsink | cat", env=env))
        check(json.loads(result["text"]) == json.loads(done.stdout), result["text"], done.stdout)
        told.append((result["text"], result["boxes"], memory))
    check(told[0] == told[1], told)


if __name__ == "__main__":
    make_inputs(BASE)
    MODEL = tiny_model(BASE)
    try:
        main([help_teaches_each_command, wrong_command_lines_exit_with_2_and_do_nothing,
              tools_refuse_an_option_where_a_folder_is_expected, a_picture_gives_one_line,
              several_inputs_are_named, a_video_gives_a_line_per_interval_with_its_time,
              interval_0_describes_every_frame, json_lines_hold_the_contract, boxes_of_the_answer_are_pixels_of_the_picture,
              choices_come_with_probabilities_and_a_verdict, a_pattern_makes_a_verdict_of_the_text,
              answers_match_a_json_schema,
              a_schema_that_cannot_be_read_exits_with_1,
              the_same_seed_gives_the_same_text_and_another_seed_another,
              a_bad_input_is_told_and_the_others_are_described, names_with_spaces_percent_and_no_utf8_are_read,
              a_missing_model_exits_with_3_and_names_it, output_that_cannot_be_written_exits_with_4_and_says_why,
              every_quantization_answers,
              the_model_is_found_without_an_option, a_progress_bar_is_drawn_on_a_terminal_and_nowhere_else,
              quantize_writes_a_smaller_copy, quantize_overwrites_nothing,
              quantize_calibrates_on_a_folder_of_pictures, quantize_that_cannot_calibrate_exits_with_1_and_names_the_file,
              quantize_that_cannot_write_exits_with_4_and_leaves_nothing,
              quantize_that_cannot_tell_of_its_result_exits_with_4, quantize_that_is_interrupted_leaves_nothing,
              inspect_tells_sizes_forms_and_memory,
              a_configuration_alone_tells_sizes_and_memory,
              too_little_memory_is_said_before_loading_with_what_would_fit, inspect_refuses_a_damaged_model_and_says_where,
              bench_measures_every_stage, bench_runs_on_random_weights_with_a_configuration_alone,
              commands_and_element_take_a_directory_of_the_other_family,
              numbers_are_the_same_where_the_locale_has_a_decimal_comma])
    finally:
        shutil.rmtree(BASE)
