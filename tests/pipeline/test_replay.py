#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`glm4v replay`: results of the element and of `glm4v describe` are derived again from archived pictures, byte for byte;
what was changed is told: a pixel, the model, the level, the form, the settings, the answer."""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import tempfile

from PIL import Image

from common import (EXAMPLES, GLM4V, SHIPPED, SLOW, SOURCE, Skip, check, environment, good, gst_launch, main, results_of, run,
                    tiny_model)

DEEP = bool(os.environ.get("GLM4V_DEEP"))
FRAMES = 1000 if DEEP else 100 if SLOW == 1 else 20
BASE = pathlib.Path(tempfile.mkdtemp(prefix="glm4v-replay-"))
CHOOSE = 'prompt="Choose one: good, bad." output=choice choices="<good, bad>" fail-choices="<bad>"'
DEFECTS = 'prompt="Report the defects as JSON."'
SCHEMA = SOURCE / "examples" / "inspection.schema.json"


def record(name, settings, source="videotestsrc pattern=snow", frames=FRAMES, size=(64, 48)):
    """A folder with results.jsonl of the element and its frames as PNG; made once."""
    folder = BASE / name
    if not folder.exists():
        (folder / "frames").mkdir(parents=True)
        width, height = size
        good(gst_launch(f"-q {source} num-buffers={frames} ! videoconvert ! videoscale ! video/x-raw,format=RGB,width={width},"
                        f"height={height},framerate=30/1 ! glm4vdescribe name=d sample-mode=all {settings} ! pngenc "
                        f"compression-level=1 ! multifilesink location={folder}/frames/%05d.png d.json ! queue ! filesink "
                        f"location={folder}/results.jsonl", timeout=300))
    return folder


def replay(results, pictures, *words, status=0, **env):
    return good(run([GLM4V, "replay", *words, results, pictures], timeout=300, env=environment(**env)), status).stdout


def summary(n):
    return f"{n} results: {n} derived again, byte for byte\n"


def part_of(folder, n=3, **changes):
    """The settings and the first n results in a file of their own, each member in changes through its function."""
    settings, *results = (folder / "results.jsonl").read_text().splitlines()[:n + 1]
    target = folder / "part.jsonl"
    objects = [json.loads(line) for line in results]
    for value in objects:
        for key, change in changes.items():
            value[key.replace("_", "-")] = change(value[key.replace("_", "-")])
    target.write_text("\n".join([settings, *map(json.dumps, objects)]) + "\n")
    return target


def verdicts_of_many_frames_are_derived_again(folder):
    place = record("verdicts", CHOOSE)
    check(replay(place / "results.jsonl", place / "frames") == summary(FRAMES))
    results = results_of((place / "results.jsonl").read_text())
    check(len({result["pictures"][0] for result in results}) == FRAMES and len(results) == FRAMES, "pictures differ")
    check(all("verdict" in result for result in results))


def captions_that_are_drawn_are_derived_again(folder):
    model = tiny_model(folder)
    place = record("captions", f"model-location={model} temperature=1.5 top-k=50 top-p=0.9 seed=7 max-tokens=12", frames=12)
    check(replay(place / "results.jsonl", place / "frames", "--model", model) == summary(12))
    texts = {result["text"] for result in results_of((place / "results.jsonl").read_text())}
    check(len(texts) > 6, texts)


def regions_are_found_in_archived_frames(folder):
    """And questions with placeholders, asked in two ways."""
    place = record("regions", 'roi="<8, 4, 40, 30>" camera="line 2" '
                   """'prompts="<\\"What is at {time} in {frame}?\\", \\"And {camera}?\\">"' """
                   "max-tokens=6", frames=8)
    check(replay(place / "results.jsonl", place / "frames") == summary(16))
    results = results_of((place / "results.jsonl").read_text())
    check(results[0]["roi"]["width"] == 40 and results[0]["prompt-hash"] != results[2]["prompt-hash"], results[:3])
    crops = folder / "crops"
    crops.mkdir()
    for frame in (place / "frames").iterdir():
        Image.open(frame).crop((8, 4, 48, 34)).save(crops / frame.name)
    check(replay(place / "results.jsonl", crops) == summary(16), "from archived parts")


def clips_are_derived_again(folder):
    place = record("clips", "frames-per-request=3 window=100000000 max-tokens=6", frames=10)
    results = results_of((place / "results.jsonl").read_text())
    check(len(results) > 5 and any(len(result["pictures"]) == 3 for result in results), results)
    check(replay(place / "results.jsonl", place / "frames") == summary(len(results)))


def boxes_and_json_are_derived_again(folder):
    for name, settings in {"boxes": f'roi="<160, 0, 320, 360>" {DEFECTS}', "json": f"output=json json-schema-location={SCHEMA} "
                           f"max-tokens=256 {DEFECTS}", "pattern": 'pattern="[0-9]+"'}.items():
        place = BASE / name
        (place / "frames").mkdir(parents=True)
        good(gst_launch(f"-q filesrc location={SOURCE}/examples/media/line.mp4 ! decodebin ! videorate ! videoconvert ! "
                        f"video/x-raw,format=RGB,framerate=1/1 ! glm4vdescribe name=d sample-mode=all max-tokens=128 "
                        f"{settings} ! pngenc ! multifilesink location={place}/frames/%05d.png d.json ! queue ! filesink "
                        f"location={place}/results.jsonl", timeout=120))
        results = results_of((place / "results.jsonl").read_text())
        check(replay(place / "results.jsonl", place / "frames") == summary(len(results)), name)
        key = {"boxes": "boxes", "json": "json", "pattern": "verdict"}[name]
        check(len(results) > 3 and any(key in result for result in results), results)
    lines = (BASE / "boxes" / "results.jsonl").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if '"boxes":' in line)
    result = json.loads(lines[at])
    result["boxes"][0]["x"] += 1
    (folder / "changed.jsonl").write_text("\n".join(lines[:at] + [json.dumps(result)]) + "\n")
    said = replay(folder / "changed.jsonl", BASE / "boxes" / "frames", status=5)
    check(f':{at + 1}: result {at - 1}: answer: boxes was [{{"x":{result["boxes"][0]["x"]}' in said, said)


def unchanged_frames_and_those_without_an_answer_are_checked(folder):
    place = record("unchanged", f"{CHOOSE} change-threshold=0.5", source="videotestsrc pattern=ball", frames=6)
    said = replay(place / "results.jsonl", place / "frames")
    check(said == "6 results: 1 derived again, byte for byte; 5 without an answer\n", said)
    lines = (place / "results.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    for key, value in {"choice": "better", "verdict": "unknown", "refers-to": 77}.items():
        (folder / "changed.jsonl").write_text("\n".join(lines[:-1] + [json.dumps(dict(last, **{key: value}))]) + "\n")
        said = replay(folder / "changed.jsonl", place / "frames", status=5)
        check("result 5: answer: " in said and str(value) in said, said)
    place = record("late", f"{CHOOSE} deadline=1", frames=4)
    check(replay(place / "results.jsonl", place / "frames") ==
          "4 results: 0 derived again, byte for byte; 4 without an answer\n")
    said = replay(part_of(place, 2, verdict=lambda _: "pass"), place / "frames", status=5)
    check('answer: verdict was pass, is fail' in said, said)


def results_of_the_command_line_are_derived_again(folder):
    pictures = folder / "pictures"
    shutil.copytree(EXAMPLES, pictures)
    Image.open(EXAMPLES / "known-sheet.png").convert("RGB").save(pictures / "sheet.jpg", quality=80)
    Image.open(EXAMPLES / "known-sheet.png").convert("RGBA").rotate(45).save(pictures / "turned.png")
    (pictures / "notes.txt").write_text("no picture\n")
    for words in (["--max-tokens", "8"], ["--temperature", "0.7", "--top-p", "0.8", "--repetition-penalty", "1.3", "--seed", "3",
                                          "--max-tokens", "8"],
                  ["--prompt", "Report the defects as JSON.", "--json-schema", SCHEMA], ["--choices", "good,bad"],
                  ["--choices", "good,bad", "--thresholds", "0.7,0.2", "--system", "Be strict.", "--max-pixels", "10000"],
                  ["--pattern", "[a-z]+", "--prompt", "What is at {time}?", "--max-tokens", "8"]):
        done = good(run([GLM4V, "describe", "--model", SHIPPED, "--json", *words, pictures]))
        (folder / "results.jsonl").write_text(done.stdout)
        check(replay(folder / "results.jsonl", pictures) == summary(len(results_of(done.stdout))), words)
    done = run([GLM4V, "replay", folder / "results.jsonl", pictures])
    check("notes.txt: skipped, neither a picture nor a video" in done.stderr, done.stderr)


def several_settings_stand_in_one_file(folder):
    lines = []
    for form in ("int8", "bf16", "int8"):
        lines.append(good(run([GLM4V, "describe", "--model", SHIPPED, "--json", "--quantization", f"text={form}", "--max-tokens",
                               "6", EXAMPLES / "known-sheet.png", EXAMPLES / "known-belt.png"])).stdout)
    (folder / "results.jsonl").write_text("".join(lines))
    check(replay(folder / "results.jsonl", EXAMPLES) == summary(6))


# ---- what differs ----

def a_flipped_pixel_is_another_picture(folder):
    place = record("verdicts", CHOOSE)
    frames = folder / "frames"
    shutil.copytree(place / "frames", frames)
    image = Image.open(frames / "00007.png")
    red, green, blue = image.getpixel((63, 47))
    image.putpixel((63, 47), (red, green, blue ^ 1))
    image.save(frames / "00007.png")
    said = replay(place / "results.jsonl", frames, status=5)
    digest = results_of((place / "results.jsonl").read_text())[7]["pictures"][0]
    check(said == f"{place}/results.jsonl:9: result 7: picture: none has the digest {digest}\n{FRAMES} results: {FRAMES - 1} "
          "derived again, byte for byte; differences: picture 1\n", said)


def another_model_is_told_and_nothing_derived(folder):
    place = record("verdicts", CHOOSE)
    said = replay(place / "results.jsonl", place / "frames", "--model", tiny_model(folder), status=5)
    check(re.search(r":1: model: model was surface-tiny [0-9a-f]{16}, is tiny [0-9a-f]{16}\n", said), said)
    check(f"{FRAMES} results: 0 derived again, byte for byte; differences: model 1\n" in said, said)


def answers_of_a_server_cannot_be_derived(folder):
    """Its settings have a model by name only."""
    place = record("verdicts", CHOOSE)
    settings, *results = map(json.loads, part_of(place).read_text().splitlines())
    del settings["hash"]
    settings["model"] = {"name": "served"}
    line = json.dumps(settings, separators=(",", ":"))
    digest = hashlib.sha256(line.encode()).hexdigest()
    lines = [f'{line[:-1]},"hash":"{digest}"}}'] + [json.dumps(dict(result, settings=digest)) for result in results]
    (folder / "served.jsonl").write_text("\n".join(lines) + "\n")
    said = replay(folder / "served.jsonl", place / "frames", status=5)
    check(":1: model: a server answered" in said and "3 results: 0 derived" in said, said)


def another_level_and_another_form_are_told(folder):
    place = record("verdicts", CHOOSE)
    isa = results_of((place / "results.jsonl").read_text())[0]["model"]["isa"]
    if isa == "c":
        raise Skip("this machine has one level only")
    said = replay(part_of(place), place / "frames", status=5, GLM4V_CPU="c")
    check(f":1: level: level was {isa}, is c\n" in said and "; differences: level 1" in said, said)
    said = replay(part_of(place), place / "frames", "--quantization", "int8", status=5)
    check(":1: form: form was text=bf16,vision=bf16" in said and "is text=int8,vision=int8" in said, said)
    check("answer: probabilities was [" in said, said)


def changed_settings_are_told(folder):
    place = record("verdicts", CHOOSE)
    settings, *results = part_of(place).read_text().splitlines()
    for before, after in {'"thresholds":[0.5,0.5]': '"thresholds":[0.5,0.4]', "Choose one": "Choose any",
                          '"seed":0': '"seed":1', '"versions":': '"versions": ', '"hash":"0': '"hash":"1'}.items():
        changed = re.sub(r'"hash":"[0-9a-f]', '"hash":"0', settings) if before == '"hash":"0' else settings
        check(before in changed, settings)
        (folder / "changed.jsonl").write_text("\n".join([changed.replace(before, after), *results]) + "\n")
        said = replay(folder / "changed.jsonl", place / "frames", status=5)
        check(":1: settings: the object was changed" in said and "3 results: 0 derived" in said, before, said)
    (folder / "changed.jsonl").write_text("\n".join(results) + "\n")
    said = replay(folder / "changed.jsonl", place / "frames", status=5)
    check(said.count("settings: the object that it names is not in this file") == 3, said)
    for key, value in {"prompt_hash": "0" * 16, "seed": 1, "model": dict(json.loads(results[0])["model"], isa="z80")}.items():
        said = replay(part_of(place, **{key: lambda _, value=value: value}), place / "frames", status=5)
        check(said.count(": settings: ") == 3 and "3 results: 0 derived" in said, key, said)


def an_edited_answer_is_told(folder):
    place = record("verdicts", CHOOSE)
    other = {"good": "bad", "bad": "good", "pass": "fail", "fail": "pass", "unknown": "pass"}
    for key, change in {"text": other.get, "choice": other.get, "verdict": other.get, "probability": lambda p: p * 0.999999,
                        "probabilities": lambda shares: [shares[0] + 1e-9, shares[1]], "finish-reason": lambda _: "length",
                        "tokens": lambda tokens: dict(tokens, out=tokens["out"] + 1)}.items():
        said = replay(part_of(place, **{key: change}), place / "frames", status=5)
        check(said.count(f": answer: {key} ") == 3 and " was " in said and "3 results: 0 derived" in said, key, said)
    said = replay(part_of(place, text=lambda text: text + " "), place / "frames", status=5)
    check('answer: text was "' in said and "; differences: answer 3" in said, said)


# ---- bad input ----

def bad_command_lines_and_files_are_told(folder):
    place = record("verdicts", CHOOSE)
    results = place / "results.jsonl"
    for words, status, said in (([], 2, "name a file of results"), ([results], 2, "and pictures"),
                                ([folder / "none.jsonl", place / "frames"], 1, "none.jsonl: No such file"),
                                ([results, folder / "none"], 1, "no such file"),
                                ([results, SOURCE / "README.md"], 1, "README.md: "),
                                (["--model", folder, results, place / "frames"], 3, "config.json")):
        done = good(run([GLM4V, "replay", *words]), status)
        check(said in done.stderr, words, done.stderr)
    settings, first = results.read_text().splitlines()[:2]
    for number, (line, said) in enumerate([("no JSON", "expected near"), ("[1]", "no object"), ("{" + '"a":{' * 3000, "depth"),
                                           (first.replace('"status":"ok"', '"status":3'), '"status" is not a string'),
                                           (first.replace('"settings":', '"setting":'), '"settings" is not a string'),
                                           (first.replace('"pictures":["', '"pictures":["0'), '"pictures" is not'),
                                           (settings.replace('"sampling":{', '"sampling":{"temperature":"x",'), "duplicate"),
                                           (settings.replace('"limits":{', '"limits":1,"x":{'), '"limits" is not an object'),
                                           (settings.replace('["bad"]', '["worse"]'), '"fail-choices" is not among'),
                                           ("x" * (17 << 20), "longer than")]):
        (folder / "bad.jsonl").write_text(f"{settings}\n{line}\n")
        done = good(run([GLM4V, "replay", folder / "bad.jsonl", place / "frames"]), 1)
        check("bad.jsonl: line 2: " in done.stderr and said in done.stderr, number, done.stderr)


def damaged_files_never_pass(folder):
    """Bytes of a file are changed at random: it is refused, or what it says differs."""
    place = record("verdicts", CHOOSE)
    data, dice = part_of(place).read_bytes(), random.Random(11)
    proven = b'"(text|choice|verdict|pictures|prompt-hash|settings|seed|finish-reason|probability)": ?\\[?"?[^",]*'
    kept = re.sub(b'"incident": {[^}]*}', lambda found: b" " * len(found[0]), data)  # of results before: not derived
    places = [at for found in re.finditer(proven, kept) for at in range(*found.span())]
    for _ in range(200 if DEEP else 25):
        at = dice.choice(places)
        (folder / "bad.jsonl").write_bytes(data[:at] + bytes([data[at] ^ dice.choice((1, 2, 16))]) + data[at + 1:])
        done = run([GLM4V, "replay", folder / "bad.jsonl", place / "frames"])
        check(done.returncode in (1, 5), at, data[at - 40:at + 40], done.stdout, done.stderr)


if __name__ == "__main__":
    try:
        main([verdicts_of_many_frames_are_derived_again, captions_that_are_drawn_are_derived_again,
              regions_are_found_in_archived_frames, clips_are_derived_again, boxes_and_json_are_derived_again,
              unchanged_frames_and_those_without_an_answer_are_checked, results_of_the_command_line_are_derived_again,
              several_settings_stand_in_one_file, a_flipped_pixel_is_another_picture,
              another_model_is_told_and_nothing_derived, answers_of_a_server_cannot_be_derived,
              another_level_and_another_form_are_told, changed_settings_are_told,
              an_edited_answer_is_told, bad_command_lines_and_files_are_told, damaged_files_never_pass])
    finally:
        shutil.rmtree(BASE, ignore_errors=True)
