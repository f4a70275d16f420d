#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each line of the pad json, and of `glm4v describe --json`, matches docs/result.schema.json, judged by
python3-jsonschema, and each result names the settings before it: lines of launch lines and commands with the shipped
model, and those that the scripted engine of the program element-json gives."""
import hashlib
import json
import os
import re

from common import (BUILD, EXAMPLES, GLM4V, SHIPPED, SOURCE, check, check_object, environment, good, gst_launch, main,
                    make_inputs, results_of, run, validator)

PICTURES = "videotestsrc num-buffers=6 ! video/x-raw,width=224,height=224,framerate=2/1"
LIVE = PICTURES.replace("videotestsrc", "videotestsrc is-live=true")
CLIP = f"filesrc location={SOURCE}/examples/media/line.mp4 ! decodebin ! videoconvert"
LINES = {
    "captions": f"{PICTURES} ! glm4vdescribe name=d sample-mode=all",
    "unchanged": f"{PICTURES} ! glm4vdescribe name=d sample-mode=all change-threshold=0.5",
    "timeouts": f"{PICTURES} ! glm4vdescribe name=d sample-mode=all deadline=1",
    "dropped": f"{LIVE} ! glm4vdescribe name=d mode=async sample-mode=all",
    "boxes": f'{CLIP} ! glm4vdescribe name=d interval=2000000000 prompt="Report the defects as JSON."',
    "verdicts": f'{CLIP} ! glm4vdescribe name=d interval=1000000000 prompt="Choose one: good, bad." output=choice '
                'choices="<good, bad>" fail-choices="<bad>" roi="<160, 0, 320, 360>"',
    "schema": f'{PICTURES} ! glm4vdescribe name=d output=json max-tokens=256 json-sync=false '
              f'json-schema-location={SOURCE}/examples/inspection.schema.json prompt="Report the defects as JSON."',
    "clips": f"{PICTURES} ! glm4vdescribe name=d frames-per-request=2 interval=1000000000",
}


def check_hash(line, value):
    """As docs/element.md tells how to check it."""
    tail = f',"hash":"{value["hash"]}"}}'
    check(line.endswith(tail), line)
    check(hashlib.sha256((line[:-len(tail)] + "}").encode()).hexdigest() == value["hash"], line)


def check_objects(lines, one_stream=True):
    """The results among them."""
    settings, found = None, []
    for line in lines:
        value = json.loads(line)
        check_object(value)
        if value.get("type") == "settings":
            check_hash(line, value)
            check(value["hash"] != settings or not one_stream, "twice in a row", line)
            settings = value["hash"]
        elif value["status"] != "warning":
            check(value["settings"] == settings, settings, line)
            found.append(value)
    return found


def line_test(name, line):
    def test(folder):
        out = folder / "results.jsonl"
        good(gst_launch(f"-q {line} ! fakesink d.json ! queue ! filesink location={out}", timeout=120))
        text = out.read_text()
        check(text.endswith("\n"), text[-100:])
        objects = check_objects(text.splitlines())
        check([value["id"] for value in objects] == list(range(len(objects))), text[:2000])
        check(len(objects) >= 2, text)
        check_kind(name, objects)
    test.__name__ = f"{name} match the schema"
    return test


def check_kind(name, objects):
    statuses = {value["status"] for value in objects}
    wanted = {"unchanged": "unchanged", "timeouts": "timeout"}.get(name, "ok")
    if name != "dropped":
        check(wanted in statuses, statuses)
    for value in objects:
        told = value["status"] in ("ok", "timeout") and "timings" in value
        check(len(value.get("pictures", [])) == (value.get("clip", {}).get("frames", 1) if told else 0), value)
    if name == "boxes":
        check(any("boxes" in value for value in objects), objects)
    if name == "verdicts":
        check(all("verdict" in value and "roi" in value for value in objects), objects)
    if name == "schema":
        check(all(isinstance(value["json"], dict) for value in objects), objects)


COMMANDS = {
    "captions of pictures": [EXAMPLES / "known-sheet.png", EXAMPLES / "known-belt.png", "missing.png"],
    "defects": ["--prompt", "Report the defects as JSON.", EXAMPLES / "known-sheet.png"],
    "verdicts of pictures": ["--choices", "good,bad", "--fail-choices", "bad", EXAMPLES / "known-sheet.png",
                             EXAMPLES / "known-belt.png"],
    "answers in JSON": ["--prompt", "Report the defects as JSON.", "--temperature", "0.7", "--seed", "7", "--json-schema",
                        SOURCE / "examples" / "inspection.schema.json", EXAMPLES / "known-sheet.png"],
    "patterns": ["--pattern", "LOT[0-9]{6}", "--system", "Be brief.", EXAMPLES / "known-sheet.png"],
    "frames": ["--interval", "1", "--max-tokens", "1", "clip.avi"],
    "frames of a clip that is cut": ["--max-tokens", "1", "cut.avi"],
}


def command_test(name, words):
    def test(folder):
        make_inputs(folder)
        data = (folder / "clip.avi").read_bytes()
        (folder / "cut.avi").write_bytes(data[:len(data) // 2])
        done = run([GLM4V, "describe", "--model", SHIPPED, "--json", *words], cwd=folder, timeout=120)
        check(done.returncode == ("missing.png" in words), done.stderr)
        objects = check_objects(done.stdout.splitlines())
        check([value["id"] for value in objects] == list(range(len(objects))) and objects, done.stdout[:2000])
        check(all(("pictures" in value) == (value["status"] == "ok") for value in objects), done.stdout[:2000])
    test.__name__ = f"{name} match the schema"
    return test


def element_and_command_see_the_same_pixels(folder):
    picture, out = EXAMPLES / "known-sheet.png", folder / "results.jsonl"
    words = "Choose one: good, bad."
    good(gst_launch(f"-q filesrc location={picture} ! pngdec ! videoconvert ! glm4vdescribe name=d output=choice "
                    f"choices='<good, bad>' fail-choices='<bad>' prompt='{words}' ! fakesink d.json ! filesink location={out}"))
    said = good(run([GLM4V, "describe", "--model", SHIPPED, "--json", "--prompt", words, "--choices", "good,bad",
                     "--fail-choices", "bad", picture])).stdout
    (element,), (command,) = results_of(out.read_text()), results_of(said)
    for key in ("pictures", "prompt-hash", "text", "choice", "verdict", "seed", "model", "tokens"):
        check(element[key] == command[key], key, element, command)
    (settings, _), (other, _) = (list(map(json.loads, text.splitlines())) for text in (out.read_text(), said))
    check({key: settings[key] for key in ("prompts", "choices", "thresholds", "model", "kv-cache")} ==
          {key: other[key] for key in ("prompts", "choices", "thresholds", "model", "kv-cache")}, settings, other)


def settings_come_on_the_bus_before_their_results(folder):
    done = good(gst_launch(f"-m {PICTURES} ! glm4vdescribe sample-mode=all ! fakesink", timeout=120))
    said = [re.search("glm4vdescribe-(settings|result),", line) for line in done.stdout.splitlines()]
    check([found[1] for found in said if found] == ["settings"] + ["result"] * 6, done.stdout[-2000:])


def results_of_a_scripted_engine_match_the_schema(folder):
    out = folder / "objects.jsonl"
    good(run([BUILD / "tests" / "element" / "element-json"], timeout=120, env=environment(GLM4V_JSON_OUT=out)))
    objects = check_objects(out.read_text().splitlines(), one_stream=False)
    check({value["status"] for value in objects} == {"ok", "unchanged", "timeout", "dropped", "error"}, len(objects))


def the_schema_refuses_what_is_no_result(folder):
    """The control: each of these lacks or has what a result must have or lack."""
    judge = validator()
    out = folder / "one.jsonl"
    good(gst_launch(f"-q {PICTURES} ! glm4vdescribe name=d ! fakesink d.json ! filesink location={out}", timeout=120,
                    env=environment(preload=True, GLM4V_MODEL=os.fspath(SHIPPED))))
    settings, result = map(json.loads, out.read_text().splitlines()[:2])
    check(judge.is_valid(result) and judge.is_valid(settings), result, settings)
    for key in settings:
        shorter = {name: value for name, value in settings.items() if name != key}
        check(judge.is_valid(shorter) == (key in ("model", "timeout-verdict")), "settings without", key)
    for key in result:
        shorter = {name: value for name, value in result.items() if name != key}
        optional = key in ("width", "height", "pictures")
        check(judge.is_valid(shorter) == optional, "without", key)
    for key, value in {"status": "fine", "verdict": "pass", "refers-to": 0, "message": "why", "pts": -1, "id": "0",
                       "another": 1, "settings": "0", "error": "io", "input": "a.png", "choice": "ok", "incident": {}}.items():
        check(not judge.is_valid(dict(result, **{key: value})), "with", key)


if __name__ == "__main__":
    main([line_test(name, line) for name, line in LINES.items()]
         + [command_test(name, words) for name, words in COMMANDS.items()]
         + [element_and_command_see_the_same_pixels, settings_come_on_the_bus_before_their_results]
         + [results_of_a_scripted_engine_match_the_schema, the_schema_refuses_what_is_no_result])
