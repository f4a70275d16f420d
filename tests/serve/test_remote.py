#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The element asks servers: glm4v serve, which must make no difference, and one that misbehaves on order. All elements of
a test run in one process; their results come as JSON."""
import json
import re
import sys
import time

from common_serve import (GLM4V, PICTURE, SLOW, SOURCE, Server, check, environment, good, gst_launch, main, one_result,
                          results_of, run)

sys.path.insert(0, str(SOURCE / "tests" / "support"))
from faulty_server import ANSWER, CERTIFICATE, OTHER_AUTHORITY, FaultyServer  # noqa: E402

GREY = "videotestsrc pattern=solid-color foreground-color=0xff808080 num-buffers=1 ! video/x-raw,width=64,height=48"
SHOWN = f"filesrc location={PICTURE} ! pngdec ! videoconvert"
CHOICES = "output=choice choices='<good,bad>' fail-choices='<bad>'"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
          "required": ["a", "b"]}


def describe(folder, elements, source=GREY, env=None):
    """Results of each element by its name, and what gst-launch printed; all with their properties, side by side."""
    for name in elements:
        (folder / name).unlink(missing_ok=True)
    line = "  ".join(f"{source} ! glm4vdescribe name={name} {properties} ! fakesink sync=false "
                     f"{name}.json ! filesink location={folder}/{name} async=false"
                     for name, properties in elements.items())
    done = good(gst_launch("-m " + line, env=environment(True, **env) if env else None))
    return {name: results_of((folder / name).read_text()) for name in elements}, done


def one(results, name):
    check(len(results[name]) == 1, name, "has", len(results[name]), "results")
    return results[name][0]


def alike(result):
    """What must not depend on who answers."""
    keys = ("id", "status", "text", "finish-reason", "choice", "verdict", "json", "width", "height", "boxes", "prompt-hash")
    return {key: result.get(key) for key in keys}, {key: result["tokens"][key] for key in ("in", "vision")}


def statistics_of(said):
    """Of each element, from its message at the end of the stream: what must not depend on who answers."""
    keys = ("frames-seen", "sampled", "results", "inferred", "dropped-busy", "timeouts", "errors", "pass", "fail", "unknown",
            "tokens-in")
    found = re.findall(r'element "([^"]+)" \(element\): glm4vdescribe-stats, (.*)', said)
    return {name: {key: int(re.search(rf"\b{key}=\(guint64\)(\d+)", line).group(1)) for key in keys}
            for name, line in found}


def a_server_answers_as_an_engine_does(folder):
    schema = folder / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}},
                                  "required": ["n"]}))
    shapes = {"text": "", "choice": CHOICES, "schema": f"output=json json-schema-location={schema}",
              "region": "roi='<10,10,90,70>'", "clip": "frames-per-request=2 window=0"}
    with Server() as server:
        endpoint = f"endpoint=http://{server.address}/v1 remote-coding=png"
        elements = {name: properties for name, properties in shapes.items()}
        elements |= {name + "-remote": f"{properties} {endpoint}" for name, properties in shapes.items()}
        elements["jpeg-remote"] = f"endpoint=http://{server.address}/v1/"
        elements["small-remote"] = f"endpoint=http://{server.address}/v1 remote-max-pixels=6272"
        elements = {name: properties + " stats-interval=3600000000000" for name, properties in elements.items()}
        results, done = describe(folder, elements, SHOWN)
    counts = statistics_of(done.stdout)
    check(sorted(counts) == sorted(elements), counts)
    for name in shapes:
        here, there = one(results, name), one(results, name + "-remote")
        check(alike(here) == alike(there), name, here, there)
        check(there["model"] == {"name": "surface-tiny"}, there["model"])
        check(here["tokens"]["out"] > 0 and there["tokens"]["out"] > 0, here, there)
        for here_share, there_share in zip(here.get("probabilities", []), there.get("probabilities", [])):
            check(abs(here_share - there_share) < 2e-6, here, there)
        check(len(here.get("probabilities", [])) == len(there.get("probabilities", [])), here, there)
        check(counts[name] == counts[name + "-remote"] and counts[name]["results"] == 1, counts[name], counts[name + "-remote"])
    check(one(results, "jpeg-remote")["status"] == "ok", results["jpeg-remote"])
    small = one(results, "small-remote")
    check(small["status"] == "ok" and small["width"] == 140, small)
    check(small["tokens"]["vision"] < one(results, "text")["tokens"]["vision"], small)


FAULTS = {
    "error": ("error", "status 500: the model fell over"),
    "busy": ("error", "no server may be asked for 3[56]..+ s; .*status 429: too many"),
    "cut": ("error", "answer was cut short"),
    "ends-early": ("error", "answer was cut short"),
    "wrong-json": ("error", "the server's answer"),
    "page": ("error", "the server's answer"),
    "reset": ("error", "no answer: "),
    "huge": ("error", "an event of its stream is larger than 1024 KiB"),
    "fails-within": ("error", "the server failed: out of memory"),
    "elsewhere": ("error", "status 307 leads to http://elsewhere.invalid/v1/chat/completions, which is not followed"),
    "long-reason": ("error", "status 404: \u00e4+$"),
    "locked": ("error", "status 401, the key or its lack: who are you"),
    "silent": ("timeout", "the deadline passed while http://.* was asked"),
    "slow": ("timeout", "the deadline passed while http://.* answered"),
    "no-models": ("error", "its list of models: status 404: nothing here"),
    "empty-models": ("error", "list of models has none"),
}


def each_fault_is_a_result_with_its_reason(folder):
    with FaultyServer() as server:
        elements = {name: f"endpoint={server.endpoint(name)}" for name in FAULTS}
        for name in ("silent", "slow"):
            elements[name] += f" deadline={SLOW * 2 * 10**9}"
        elements["refused"] = "endpoint=http://127.0.0.1:1/v1"
        elements["unknown"] = "endpoint=http://no-such-host.invalid/v1"
        results, done = describe(folder, elements)
    faults = {**FAULTS, "refused": ("error", "no answer: .*onnect"), "unknown": ("error", "no answer: .*resolve")}
    for name, (status, pattern) in faults.items():
        result = one(results, name)
        check(result["status"] == status and re.search(pattern, result["message"]), name, result)
        check(result["text"] == "" or name == "slow", name, result)
    check("No server described a frame: frame 0" in done.stdout + done.stderr, done.stderr[-3000:])


def what_may_pass_is_tried_once_more(folder):
    with FaultyServer() as server:
        names = ("once-error", "once-busy", "error", "good", "whole", "kept-open")
        results, _ = describe(folder, {name: f"endpoint={server.endpoint(name)}" for name in names})
        for name in names:
            result = one(results, name)
            check(result["status"] == ("error" if name == "error" else "ok"), name, result)
            check(result["text"] == ("" if name == "error" else ANSWER), name, result)
        check([server.count(name) for name in names] == [2, 2, 2, 1, 1, 1], server.server.counts)
    check(one(results, "whole")["finish-reason"] == "length", results["whole"])
    check(one(results, "once-busy")["timings"]["total"] > 0.9e9, results["once-busy"])
    result = one(results, "good")
    check([result["tokens"][key] for key in ("in", "out", "vision")] == [7, 3, 0], result)
    check(result["model"] == {"name": "m-1"}, result)


PARTIAL = """
import json, sys
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
pipeline, texts = Gst.parse_launch(sys.argv[1]), []
pipeline.get_by_name("d").connect("partial", lambda element, number, text: texts.append(text))
pipeline.set_state(Gst.State.PLAYING)
pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR)
pipeline.set_state(Gst.State.NULL)
print(json.dumps(texts))
"""


def an_answer_that_was_passed_on_is_not_asked_for_again(folder):
    """The signal partial has told a part of it: another answer could contradict that."""
    with FaultyServer() as server:
        for name in ("cut-later", "once-error"):
            line = (f"{GREY} ! glm4vdescribe name=d endpoint={server.endpoint(name)} ! fakesink sync=false "
                    f"d.json ! filesink location={folder}/{name} async=false")
            done = good(run([sys.executable, "-c", PARTIAL, line], preload=True))
            texts, result = json.loads(done.stdout.splitlines()[-1]), one_result((folder / name).read_text())
            if name == "cut-later":
                check(texts == [ANSWER[:3]] and server.count(name) == 1, texts, server.server.counts)
                check(result["status"] == "error" and "cut short" in result["message"], result)
            else:  # nothing was told before the failure
                check(result["text"] == ANSWER and server.count(name) == 2, result, server.server.counts)


def a_server_that_rests_beyond_the_deadline_is_an_error_at_once(folder):
    deadline = 10 * SLOW
    name = "busy-for-a-while" if deadline < 20 else "busy"  # 20 s and an hour
    with FaultyServer() as server:
        results, _ = describe(folder, {"rests": f"endpoint={server.endpoint(name)} deadline={deadline * 10**9}"})
        check(server.count(name) == 1, server.server.counts)
    result = one(results, "rests")
    check(result["status"] == "error" and re.search(r"no server may be asked for \d+ s", result["message"]), result)
    check(result["timings"]["total"] < deadline * 10**9 / 2, result)


def shapes_are_asked_for_in_the_words_that_a_server_knows_and_checked(folder):
    count = json.dumps({"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]})
    json_shape = "output=json json-schema-location="
    (folder / "count.schema").write_text(count)
    (folder / "ab.schema").write_text(json.dumps(SCHEMA))
    with FaultyServer() as server:
        # apart from each other, so that each learns the words for itself
        elements = {"older-choice": f"{CHOICES} endpoint={server.endpoint('older')}",
                    "older-json": f"{json_shape}{folder}/count.schema endpoint={server.endpoint('older')} model=m",
                    "other-choice": f"{CHOICES} endpoint={server.endpoint('other-choice')}",
                    "other-json": f"{json_shape}{folder}/count.schema endpoint={server.endpoint('other-json')}",
                    "mixed-json": f"{json_shape}{folder}/ab.schema endpoint={server.endpoint('mixed-json')}",
                    "shares": f"{CHOICES} endpoint={server.endpoint('shares')}",
                    "few-shares": f"{CHOICES} endpoint={server.endpoint('few-shares')}",
                    "late": f"{CHOICES} endpoint={server.endpoint('deaf-for-ever')} deadline={SLOW * 4 * 10**9}"}
        results, _ = describe(folder, elements)
        first = server.bodies("shares")[0]
        check(first["structured_outputs"] == {"choice": ["good", "bad"]} and first["logprobs"] is True, first)
        check(first["stream"] is True and first["stream_options"] == {"include_usage": True}, first)
        check(first["model"] == "shares-model", first["model"])
        check(server.bodies("mixed-json")[0]["response_format"]["json_schema"]["schema"] == SCHEMA, server.bodies("mixed-json"))
        older = [body for body in server.bodies("older") if "guided_choice" in body or "guided_json" in body]
        check([body for body in older if "guided_choice" in body][-1]["guided_choice"] == ["good", "bad"], "words")
        check([server.count(name) for name in ("other-choice", "other-json")] == [2, 2], server.server.counts)
    older = one(results, "older-choice")
    check(older["choice"] == "bad" and older["verdict"] == "unknown" and "probability" not in older, older)
    check(one(results, "older-json")["json"] == {"count": 3}, results["older-json"])
    check("none of the choices: \"perhaps\"" in one(results, "other-choice")["message"], results["other-choice"])
    check("does not match the schema" in one(results, "other-json")["message"], results["other-json"])
    check(one(results, "mixed-json")["text"] == '{"a":"x y","b":[1,2]}', results["mixed-json"])
    shares = one(results, "shares")
    check(abs(shares["probability"] - 0.832) < 1e-3 and shares["verdict"] == "fail", shares)
    late = one(results, "late")
    check(late["status"] == "timeout" and "the deadline passed; http" in late["message"] and
          f"none of the choices: \"{ANSWER}\"" in late["message"], late)
    few = one(results, "few-shares")
    check(few["choice"] == "bad" and few["verdict"] == "unknown" and "probabilities" not in few, few)


def words_that_a_server_answered_are_kept(folder):
    """The first request finds them, the others use them; what leads to nothing is forgotten."""
    frames = GREY.replace("num-buffers=1", "num-buffers=3")
    schema = folder / "kept.schema"
    schema.write_text(json.dumps({"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}))
    shapes = {"strict": "", "deaf": CHOICES, "other-choice": CHOICES, "newer": CHOICES, "never": ""}
    with FaultyServer() as server, FaultyServer() as second:
        elements = {name: f"{shape} endpoint={server.endpoint(name)}" for name, shape in shapes.items()}
        elements["deaf-json"] = f"output=json json-schema-location={schema} endpoint={second.endpoint('deaf')}"
        results, _ = describe(folder, {name: f"{properties} model=m interval=0 mode=sync"
                                       for name, properties in elements.items()}, frames)
        counts = {name: server.count(name) for name in shapes} | {"deaf-json": second.count("deaf")}
        kwargs = ["chat_template_kwargs" in body for body in server.bodies("strict")]
        older = ["guided_choice" in body for body in server.bodies("deaf")]
        never = ["chat_template_kwargs" in body for body in server.bodies("never")]
    check([result["text"] for result in results["strict"]] == [ANSWER] * 3, results["strict"])
    check(kwargs == [True, False, False, False], "strict:", kwargs)
    check([result["choice"] for result in results["deaf"]] == ["bad"] * 3, results["deaf"])
    check(older == [False, True, True, True], "deaf:", older)
    check([result["json"] for result in results["deaf-json"]] == [{"count": 3}] * 3, results["deaf-json"])
    check([result["choice"] for result in results["newer"]] == ["bad"] * 3, results["newer"])
    check([result["status"] for result in results["other-choice"]] == ["error"] * 3, results["other-choice"])
    check(all("status 400: no" in result["message"] for result in results["never"]), results["never"])
    check(never == [True, False] * 3, "never:", never)
    check([counts[name] for name in ("other-choice", "newer", "deaf-json")] == [4, 3, 4], counts)


def a_server_that_fails_is_left_out(folder):
    source = GREY.replace("num-buffers=1", "num-buffers=12")
    with FaultyServer() as server:
        good = server.endpoint("good")
        elements = {"absent": f"endpoint=http://127.0.0.1:1/v1,{good}", "broken": f"endpoint={server.endpoint('error')},{good}"}
        results, _ = describe(folder, {name: f"{properties} model=m interval=0 mode=sync"
                                       for name, properties in elements.items()}, source)
        for name in elements:
            check([result["status"] for result in results[name]] == ["ok"] * 12, name, results[name])
            check([result["id"] for result in results[name]] == list(range(12)), name, results[name])
        check(server.count("good") == 24 and 1 <= server.count("error") < 12, server.server.counts)


def the_key_is_sent_and_the_certificate_looked_at(folder):
    key = folder / "key"
    key.write_text("secret\n")
    with FaultyServer() as server, FaultyServer(tls=True) as safe:
        elements = {"file": f"endpoint={server.endpoint('locked')} api-key-file={key}",
                    "stranger": f"endpoint={safe.endpoint('good')} ca-file={OTHER_AUTHORITY}",
                    "known": f"endpoint={safe.endpoint('locked')} ca-file={CERTIFICATE} api-key-file={key}",
                    "shown": f"endpoint={safe.endpoint('good')} ca-file={CERTIFICATE} certificate-file={CERTIFICATE} "
                             f"private-key-file={CERTIFICATE}"}
        results, said = describe(folder, elements)
        again, said_again = describe(folder, {"environment": f"endpoint={server.endpoint('locked')}"},
                                     env={"GLM4V_API_KEY": "secret"})
    check("secret" not in said.stdout + said.stderr + said_again.stdout + said_again.stderr, "the key is shown")
    check("secret" not in json.dumps([results, again]), "the key is in a result")
    for name in ("file", "known", "shown"):
        check(one(results, name)["text"] == ANSWER, name, results[name])
    check(one(again, "environment")["text"] == ANSWER, again)
    check("its certificate is not trusted" in one(results, "stranger")["message"], results["stranger"])


def wrong_settings_are_told_before_any_frame(folder):
    for properties, words in (("endpoint=ftp://host/v1", "is no endpoint"),
                              ("endpoint=http://user:word@host/v1", "holds a login"),
                              (f"endpoint=http://host/v1 api-key-file={folder}/none", "the file of the key"),
                              (f"endpoint=http://host/v1 ca-file={folder}/none", "the file of the authority"),
                              ("endpoint=http://host/v1 model-location=/x", "endpoint is set and so is model-location")):
        done = gst_launch(f"{GREY} ! glm4vdescribe {properties} ! fakesink")
        check(done.returncode and words in done.stderr, properties, done.stderr)
        check("user:word" not in done.stderr, done.stderr)


def video_does_not_wait_for_a_server(folder):
    source = ("videotestsrc is-live=true pattern=black num-buffers=30 ! "
              "video/x-raw,width=64,height=48,framerate=60/1")
    with FaultyServer() as server:
        start = time.monotonic()
        results, _ = describe(folder, {"silent": f"endpoint={server.endpoint('silent')} interval=0 eos-timeout=100000000"},
                              source)
        check(time.monotonic() - start < 20 * SLOW, "video waited", time.monotonic() - start)
    statuses = [result["status"] for result in results["silent"]]
    check(len(statuses) == 30 and set(statuses) == {"dropped"}, statuses)
    check("loading" not in [result["finish-reason"] for result in results["silent"]], results["silent"][0])


def the_command_line_asks_servers(folder):
    words = [GLM4V, "describe", "--json", "--choices", "good,bad", "--fail-choices", "bad", PICTURE]
    with Server() as server, FaultyServer() as faulty:
        (here,) = results_of(good(run(words)).stdout)
        (there,) = results_of(good(run(words + ["--endpoint", f"http://{server.address}/v1"])).stdout)
        plain = good(run([GLM4V, "describe", "--endpoint", faulty.endpoint("good"), PICTURE])).stdout
        few = good(run(words + ["--endpoint", faulty.endpoint("few-shares"), "--model", "m"])).stdout
        failed = run([GLM4V, "describe", "--endpoint", faulty.endpoint("error"), PICTURE])
        wrong = run([GLM4V, "describe", "--endpoint", "ftp://host", PICTURE])
    for key in ("status", "text", "choice", "verdict", "width", "height", "prompt-hash", "pictures"):
        check(here[key] == there[key], key, here, there)
    check(there["model"] == {"name": "surface-tiny"}, there)
    check(plain == ANSWER + "\n", plain)
    (result,), settings = results_of(few), json.loads(few.splitlines()[0])
    check(settings["model"] == {"name": "m"} and result["model"] == {"name": "m-1"}, settings, result)
    check(result["verdict"] == "unknown" and result["choice"] == "bad" and "probabilities" not in result, result)
    check(failed.returncode == 1 and "status 500: the model fell over" in failed.stderr, failed.stderr)
    check(wrong.returncode == 2 and "is no endpoint" in wrong.stderr, wrong.stderr)


if __name__ == "__main__":
    main([a_server_answers_as_an_engine_does, each_fault_is_a_result_with_its_reason, what_may_pass_is_tried_once_more,
          an_answer_that_was_passed_on_is_not_asked_for_again, a_server_that_rests_beyond_the_deadline_is_an_error_at_once,
          shapes_are_asked_for_in_the_words_that_a_server_knows_and_checked, words_that_a_server_answered_are_kept,
          a_server_that_fails_is_left_out,
          the_key_is_sent_and_the_certificate_looked_at, wrong_settings_are_told_before_any_frame,
          video_does_not_wait_for_a_server, the_command_line_asks_servers])
