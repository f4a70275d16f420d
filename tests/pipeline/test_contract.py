#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each result of the pad json matches docs/result.schema.json, judged by python3-jsonschema: those of launch lines with
the shipped model, and those that the scripted engine of the program element-json gives."""
import json
import os

import jsonschema

from common import BUILD, SHIPPED, SOURCE, check, environment, good, gst_launch, main, run

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


def validator():
    schema = json.loads((SOURCE / "docs" / "result.schema.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def check_objects(lines, judge):
    objects = [json.loads(line) for line in lines]
    for value in objects:
        error = next(judge.iter_errors(value), None)
        check(error is None, error and error.message, value)
    return objects


def line_test(name, line):
    def test(folder):
        out = folder / "results.jsonl"
        good(gst_launch(f"-q {line} ! fakesink d.json ! queue ! filesink location={out}", timeout=120))
        text = out.read_text()
        check(text.endswith("\n"), text[-100:])
        objects = check_objects(text.splitlines(), validator())
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
    if name == "boxes":
        check(any("boxes" in value for value in objects), objects)
    if name == "verdicts":
        check(all("verdict" in value and "roi" in value for value in objects), objects)
    if name == "schema":
        check(all(isinstance(value["json"], dict) for value in objects), objects)


def results_of_a_scripted_engine_match_the_schema(folder):
    out = folder / "objects.jsonl"
    good(run([BUILD / "tests" / "element" / "element-json"], timeout=120, env=environment(GLM4V_JSON_OUT=out)))
    objects = check_objects(out.read_text().splitlines(), validator())
    check({value["status"] for value in objects} == {"ok", "unchanged", "timeout", "dropped", "error"}, len(objects))


def the_schema_refuses_what_is_no_result(folder):
    """The control: each of these lacks or has what a result must have or lack."""
    judge = validator()
    out = folder / "one.jsonl"
    good(gst_launch(f"-q {PICTURES} ! glm4vdescribe name=d ! fakesink d.json ! filesink location={out}", timeout=120,
                    env=environment(preload=True, GLM4V_MODEL=os.fspath(SHIPPED))))
    result = json.loads(out.read_text().splitlines()[0])
    check(judge.is_valid(result), result)
    for key in result:
        shorter = {name: value for name, value in result.items() if name != key}
        optional = key in ("width", "height")
        check(judge.is_valid(shorter) == optional, "without", key)
    for key, value in {"status": "fine", "verdict": "pass", "refers-to": 0, "message": "why", "pts": -1, "id": "0",
                       "another": 1, "choice": "ok", "incident": {}}.items():
        check(not judge.is_valid(dict(result, **{key: value})), "with", key)


if __name__ == "__main__":
    main([line_test(name, line) for name, line in LINES.items()]
         + [results_of_a_scripted_engine_match_the_schema, the_schema_refuses_what_is_no_result])
