#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""glm4v serve: what it answers, how it starts and stops."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading

import jsonschema
from PIL import Image

from common_serve import (EXAMPLES, GLM4V, PICTURE, PROMPT, SHIPPED, SLOW, SOURCE, Server, Skip, check, data_url, good,
                          long_question, main, no_response_tells_of_the_inside, picture, question, run, start_stream,
                          tiny_model, user)

SERVER = None


def described(path, *options):
    return good(run([GLM4V, "describe", "--model", SHIPPED, *options, path])).stdout.strip()


def matches(value, name):
    """Does a value match a schema of the OpenAPI document?"""
    document = json.loads(SERVER.get("/openapi.json"))
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": document["components"]},
                        jsonschema.Draft202012Validator)


def every_documented_path_answers(folder):
    paths = json.loads(SERVER.get("/openapi.json"))["paths"]
    table = re.findall(r'^    { "([A-Z]+)", "(/[^"]*)", ', (SOURCE / "tools" / "serve" / "routes.c").read_text(), re.M)
    check(len(table) == 8 and {(method.upper(), path.replace("{model}", "")) for path, methods in paths.items()
                               for method in methods} == set(table), table, sorted(paths))
    for path, methods in paths.items():
        path = path.replace("{model}", "surface-tiny")
        for method in methods:
            body = json.dumps(question(max_tokens=1)) if method == "post" else None
            status, headers, data = SERVER.request(method.upper(), path, body, {"Content-Type": "application/json"})
            check(status == 200 and data, path, status, data)
            check(headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store", headers)
        check(SERVER.request("HEAD", path)[0] == (200 if "get" in methods else 405), path)
        status, headers, data = SERVER.request("DELETE", path)
        check(status == 405 and headers["Allow"] == list(methods)[0].upper(), path, status, headers)
        matches(json.loads(data), "Error")
    for path in ("/", "/nothing", "/v1/models/nothing", "/v1/models/", "/health/"):
        check(SERVER.request("GET", path)[0] == 404, path)


def health_has_the_form_that_clients_know(folder):
    check(json.loads(SERVER.get("/health")) == {"status": "ok", "model_loaded": True})
    check(json.loads(SERVER.get("/ready")) == {"status": "ready"})


def the_model_has_several_names(folder):
    names = ["surface-tiny", "autoglm-phone-9b", "second"]
    check([model["id"] for model in json.loads(SERVER.get("/v1/models"))["data"]] == names)
    for name in names + [None]:
        answer = SERVER.ask(question(model=name, max_tokens=1))
        check(answer["model"] == (name or names[0]), answer)
        if name:
            check(json.loads(SERVER.get(f"/v1/models/{name}"))["id"] == name)
    error = SERVER.ask(question(model="gpt-4"), 404)["error"]
    check(error["code"] == "model_not_found" and error["param"] == "model", error)


def an_answer_is_the_one_of_describe(folder):
    for path in (PICTURE, EXAMPLES / "known-sheet.png"):
        answer = SERVER.ask(question(PROMPT, picture(path)))
        matches(answer, "Completion")
        check(answer["choices"][0]["message"]["content"] == described(path), answer)
        check(answer["choices"][0]["finish_reason"] == "stop" and answer["usage"]["completion_tokens"] > 3, answer)


def pictures_come_in_an_object_or_alone_and_in_any_format(folder):
    texts = {SERVER.text(question(PROMPT, picture(as_object=flag))) for flag in (True, False)}
    check(len(texts) == 1, texts)
    image = Image.open(PICTURE)
    for kind in ("bmp", "tiff", "gif"):
        image.save(folder / f"p.{kind}")
    image.save(folder / "p.webp", lossless=True)
    for name in ("p.bmp", "p.tiff", "p.webp"):
        check(SERVER.text(question(PROMPT, picture(folder / name))) in texts, name)
    check(SERVER.text(question(PROMPT, picture(folder / "p.gif"))))


def several_pictures_and_turns_are_one_conversation(folder):
    other = EXAMPLES / "known-sheet.png"
    one = SERVER.ask(question(PROMPT, picture()))["usage"]["prompt_tokens"]
    two = SERVER.ask(question(PROMPT, picture(), picture(other)))["usage"]["prompt_tokens"]
    check(two > one + 8, one, two)
    messages = [{"role": "system", "content": "You look at surfaces."}, user(PROMPT, picture()),
                {"role": "assistant", "content": "A surface."}, user(PROMPT, picture(other))]
    answer = SERVER.ask({"messages": messages, "max_tokens": 8})
    check(answer["usage"]["prompt_tokens"] > two, answer["usage"])


def frames_with_times_are_a_clip(folder):
    frames = [data_url(PICTURE)] * 4
    for part in ({"type": "video", "video": frames, "times": [0, 0.5, 1, 1.5]}, {"type": "video", "video": frames, "fps": 2}):
        answer = SERVER.ask(question(PROMPT, part, max_tokens=8))
        check(answer["usage"]["completion_tokens"] > 0, answer)
    unlike = {"type": "video", "video": [data_url(PICTURE), data_url(EXAMPLES / "known-sheet.png")]}
    error = SERVER.ask(question(PROMPT, unlike), 400)
    check("clip frame 1" in error["error"]["message"], error)


def text_alone_is_answered(folder):
    check(SERVER.ask(question("Hello", max_tokens=4))["usage"]["completion_tokens"] > 0)


def a_stream_is_the_answer_in_pieces(folder):
    whole = SERVER.ask(question())
    events = SERVER.stream(question(stream_options={"include_usage": True}))
    usage = events.pop()
    check(usage["choices"] == [] and usage["usage"]["total_tokens"] == whole["usage"]["total_tokens"], usage)
    check(events[0]["choices"][0]["delta"]["role"] == "assistant", events[0])
    check("".join(e["choices"][0]["delta"].get("content", "") for e in events) == whole["choices"][0]["message"]["content"])
    check([e["choices"][0]["finish_reason"] for e in events] == [None] * (len(events) - 1) + ["stop"])
    check(len({e["id"] for e in events}) == 1 and all(e["object"] == "chat.completion.chunk" for e in events))
    check(len(events) > 5, "not in pieces", len(events))
    check("usage" not in SERVER.stream(question())[-1])


def answers_end_where_a_stop_text_begins(folder):
    whole = SERVER.text(question())
    words = whole.split()
    for stop in (words[3], [words[5], words[3]], f"{words[2]} {words[3]}"):
        answer = SERVER.ask(question(stop=stop))
        cut = whole[:min(whole.index(s) for s in ([stop] if isinstance(stop, str) else stop))].rstrip()
        check(answer["choices"][0]["message"]["content"] == cut and answer["choices"][0]["finish_reason"] == "stop", answer)
        events = SERVER.stream(question(stop=stop))
        check("".join(e["choices"][0]["delta"].get("content", "") for e in events) == cut, events)
    check(SERVER.text(question(stop=whole[0])) == "")
    check(SERVER.text(question(stop="not in it")) == whole)


def a_bound_of_tokens_ends_an_answer(folder):
    answer = SERVER.ask(question(max_tokens=3))
    details = answer["usage"]["completion_tokens_details"]
    check(details["accepted_prediction_tokens"] <= 3 and details["rejected_prediction_tokens"] <= 21, details)
    check(answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["completion_tokens"] == 3, answer)


def one_seed_gives_one_text(folder):
    texts = [SERVER.text(question(temperature=2, seed=7)) for _ in range(2)]
    check(texts[0] == texts[1], texts)
    check(len({SERVER.text(question(temperature=2)) for _ in range(6)}) > 1, "without a seed all are alike")


def choices_have_probabilities(folder):
    for shape in ({"structured_outputs": {"choice": ["good", "bad"]}}, {"guided_choice": ["good", "bad"]}):
        answer = SERVER.ask(question("Choose one: good, bad.", picture(), **shape))
        shares = answer["glm4v"]["probabilities"]
        matches(answer, "Completion")
        check([s["choice"] for s in shares] == ["good", "bad"] and abs(sum(s["probability"] for s in shares) - 1) < 1e-5, shares)
        best = max(shares, key=lambda s: s["probability"])
        check(answer["choices"][0]["message"]["content"] == best["choice"], answer)
        events = SERVER.stream(question("Choose one: good, bad.", picture(), **shape))
        check(events[-1]["glm4v"]["probabilities"] == shares, events[-1])


def a_schema_holds_and_boxes_are_told(folder):
    schema = json.loads((SOURCE / "examples" / "inspection.schema.json").read_text())
    answer = SERVER.ask(question("Report the defects as JSON.", picture(), max_tokens=256, response_format={
        "type": "json_schema", "json_schema": {"name": "report", "strict": True, "schema": schema}}))
    report = json.loads(answer["choices"][0]["message"]["content"])
    jsonschema.validate(report, schema)
    check(len(answer["glm4v"]["boxes"]) == len(report["defects"]) > 0, answer)
    error = SERVER.ask(question(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object",
                                                                                                   "pattern": "a"}}}), 400)
    check("pattern" in error["error"]["message"], error)


def options_without_effect_are_told(folder):
    answer = SERVER.ask(question(max_tokens=1, frequency_penalty=0.2, presence_penalty=0, min_p=0.1))
    check(answer["glm4v"]["ignored"] == ["frequency_penalty", "min_p"], answer)


def reasoning_is_apart_from_the_answer(folder):
    with Server("--context-length", 512, model=tiny_model(folder)) as server:
        body = question("x", max_tokens=8, max_reasoning_tokens=6)
        message = server.ask({**body, "enable_thinking": True})["choices"][0]["message"]
        check(message["reasoning_content"] and "think>" not in json.dumps(message), message)
        for off in ({"enable_thinking": True, "return_reasoning": False}, {"chat_template_kwargs": {"enable_thinking": False}}):
            check("reasoning_content" not in server.ask({**body, **off})["choices"][0]["message"], off)
        events = server.stream({**body, "chat_template_kwargs": {"enable_thinking": True}})
        parts = ["".join(e["choices"][0]["delta"].get(key, "") for e in events) for key in ("reasoning_content", "content")]
        check(parts[0].strip() == message["reasoning_content"] and parts[1] == message["content"], parts, message)
        events = server.stream({**body, "enable_thinking": True, "return_reasoning": False})
        check(not any("reasoning_content" in e["choices"][0]["delta"] for e in events), events)


def wrong_requests_are_told_what_is_wrong(folder):
    rows = [(b"", "bad_request", ""), (b"{", "invalid_value", ""), (b"[]", "invalid_value", ""),
            (b"\xff", "invalid_value", ""), ({}, "invalid_value", "messages"),
            (question(temperature=3), "invalid_value", "temperature"), (question(n=2), "invalid_value", "n"),
            (question(max_tokens=0), "invalid_value", "max_tokens"), (question(tools=[{}]), "unsupported_value", "tools"),
            (question(max_tokens=100000), "invalid_value", "max_tokens"),
            (question(guided_choice=["a", "a"]), "invalid_value", ""), (question(guided_choice=[""]), "invalid_value", ""),
            (question("x " * 9000), "invalid_value", "")]
    for body, code, parameter in rows:
        answer = SERVER.ask(body, 400)
        matches(answer, "Error")
        error = answer["error"]
        check(error["type"] == "invalid_request_error" and error["code"] == code, str(body)[:80], error)
        check((error["param"] or "") == parameter, str(body)[:80], error)
    # A prompt that is too long is found by the engine, behind the beginning of a stream.
    check(SERVER.ask({**question("x " * 9000), "stream": True}, 400)["error"]["message"])


def metrics_count(folder):
    before = SERVER.metric("glm4v_output_tokens_total")
    n = SERVER.metric("glm4v_time_to_first_token_seconds_count")
    SERVER.ask(question(max_tokens=3))
    check(SERVER.metric("glm4v_output_tokens_total") == before + 3)
    check(SERVER.metric("glm4v_accepted_tokens_total") <= SERVER.metric("glm4v_drafted_tokens_total"))
    check(SERVER.metric("glm4v_time_to_first_token_seconds_count") == n + 1)
    check(SERVER.metric('glm4v_time_to_first_token_seconds_bucket{le="+Inf"}') == n + 1)
    weights = (SHIPPED / "model.safetensors").stat().st_size
    check(SERVER.metric("process_resident_memory_bytes") > 1 << 20 and SERVER.metric("glm4v_engine_memory_bytes") > weights)
    requests = SERVER.metric("glm4v_engine_decode_requests_total")
    check(requests <= SERVER.metric("glm4v_engine_decode_rows_total"), requests)
    check(SERVER.metric("glm4v_engine_running") == 0 and SERVER.metric("glm4v_requests_in_progress") == 0)
    check(SERVER.metric('glm4v_http_requests_total{path="other",code="404"}') > 0)
    SERVER.until(lambda: SERVER.metric("glm4v_decoded_pixels_bytes") == 0, "pixels are freed")
    for line in SERVER.get("/metrics").decode().splitlines():
        check(line.startswith("# ") or len(line.split(" ")) == 2, line)


def requests_share_steps(folder):
    steps = SERVER.metric("glm4v_engine_decode_steps_total")
    requests = SERVER.metric("glm4v_engine_decode_requests_total")
    threads = [threading.Thread(target=SERVER.ask, args=(question(PROMPT, picture()),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(SERVER.metric("glm4v_engine_decode_requests_total") - requests >
          SERVER.metric("glm4v_engine_decode_steps_total") - steps)


def one_connection_serves_many_requests(folder):
    import http.client
    client = http.client.HTTPConnection("127.0.0.1", timeout=60 * SLOW)
    client.sock = SERVER.connect()
    port = client.sock.getsockname()
    for n in range(5):
        SERVER.ask(question(max_tokens=2), connection=client)
        check(client.sock and client.sock.getsockname() == port, "closed after", n)
    client.close()


def states_until_ready(server):
    """What a server that has just been started says: (is the model loaded?, status of /ready)."""
    seen = []
    while not seen or seen[-1] != (True, 200):
        try:
            loaded = json.loads(server.get("/health"))["model_loaded"]
            seen.append((loaded, server.request("GET", "/ready")[0]))
        except ConnectionRefusedError:
            check(server.process.poll() is None, "the server ended:", server.process.returncode)
    return seen


def it_answers_while_the_model_is_loaded(folder):
    """It is loaded so soon that now and then a start is over before it is asked."""
    for _ in range(20):
        port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
        with Server(address=f"127.0.0.1:{port}", wait=False) as server:
            server.port = port
            seen = states_until_ready(server)
        check({status for _, status in seen} <= {200, 503} and seen == sorted(seen, key=lambda s: (s[0], s[1] == 200)), seen)
        if seen[0] == (False, 503):
            return
    raise AssertionError("never seen while it loads")


def too_many_requests_are_sent_away(folder):
    with Server("--max-requests", 1, "--context-length", 4096, model=tiny_model(folder)) as server:
        sock = start_stream(server, long_question(1900))
        status, headers, data = server.request("POST", "/v1/chat/completions", json.dumps(question("x")),
                                               {"Content-Type": "application/json"})
        check(status == 503 and headers["Retry-After"] == "1" and b"overloaded" in data, status, headers, data)
        sock.close()
        server.until(lambda: server.metric("glm4v_requests_in_progress") == 0, "the first request is canceled")
        server.ask(question("x", max_tokens=2))


def an_answer_that_takes_too_long_is_an_error(folder):
    with Server("--request-timeout", "0.001") as server:
        check(server.ask(question(), 504)["error"]["code"] == "timeout")


def a_socket_file_needs_no_key(folder):
    keys = folder / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    with Server("--api-key-file", keys, address=f"unix:{folder}/s") as server:
        check(server.text(question(max_tokens=2)))
        check(os.path.exists(f"{folder}/s"))
    check(not os.path.exists(f"{folder}/s"), "the file is left")


def wrong_command_lines_start_nothing(folder):
    readable = folder / "keys"
    readable.write_text("secret\n")
    readable.chmod(0o644)
    rows = [(["--listen", "0.0.0.0:0"], 2, "--api-key-file"), (["--listen", "nonsense"], 2, "HOST:PORT"),
            (["--listen", f"127.0.0.1:{SERVER.port}"], 1, "in use"), (["extra"], 2, "extra"), (["--batch", "0"], 2, "--batch"),
            (["--api-key-file", folder / "none"], 2, "No such"), (["--api-key-file", readable], 2, "chmod"),
            (["--model", folder], 3, "config.json"), (["--alias", ""], 2, "--alias"),
            (["--alias", "a"] * 33, 2, "too often")]
    for words, status, part in rows:
        done = run([GLM4V, "serve", "--listen", "127.0.0.1:0", *words])
        check(done.returncode == status and part in done.stderr, words, done.returncode, done.stderr)


def read_all(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def a_stop_lets_answers_end_and_takes_no_new_ones(folder):
    with Server("--context-length", 4096, model=tiny_model(folder)) as server:
        sock = start_stream(server, long_question(1900))
        begun, body = server.connect(), json.dumps(question("x")).encode()
        begun.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        server.until(lambda: server.metric("glm4v_connections") == 3, "the head of a request is there")
        server.stop()
        server.until(lambda: server.request("GET", "/ready")[0] == 503, "not ready any more")
        check(server.ask(question("x"), 503)["error"]["code"] == "stopping")
        begun.sendall(body[5:])  # its head came before the stop
        check(b'"code":"stopping"' in read_all(begun), "a new request is taken")
        check(read_all(sock).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "the answer is cut")
        check(server.process.wait(20 * SLOW) == 0, server.process.returncode)


def a_stop_sends_what_is_complete(folder):
    """The thread that sends gets little time: answers end, and the server with them, before it knows."""
    model, processor = tiny_model(folder), min(os.sched_getaffinity(0))
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"],
                                preexec_fn=lambda: os.sched_setaffinity(0, {processor})) for _ in range(3)]
    try:
        for i in range(10):
            with Server("--context-length", 4096, model=model) as server:
                sock = start_stream(server, long_question(60 + 7 * i))
                slow_down(server.process.pid, "MHD-single", processor)
                server.stop()
                check(read_all(sock).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "the answer is cut")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def slow_down(pid, name, processor):
    """That thread of a process runs behind others on this processor."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            os.sched_setaffinity(int(task.name), {processor})
            os.setpriority(os.PRIO_PROCESS, int(task.name), 10)
            return
    raise AssertionError(f"no thread {name}")


def a_stop_cancels_what_takes_too_long(folder):
    with Server("--context-length", 4096, "--stop-timeout", 0, model=tiny_model(folder)) as server:
        sock = start_stream(server, long_question(1900))
        server.stop()
        check(b'"code":"stopping"' in read_all(sock))
        check(server.process.wait(20 * SLOW) == 0, server.process.returncode)


def the_service_manager_is_told(folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(20 * SLOW)
        with Server(env={"NOTIFY_SOCKET": f"{folder}/notify"}) as server:
            check(manager.recv(100) == b"READY=1")
            server.stop()
            check(manager.recv(100) == b"STOPPING=1")


def the_unit_is_accepted_by_systemd(folder):
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd is not installed")
    unit = SOURCE / "examples" / "serve" / "glm4v.service"
    text = unit.read_text().replace("/usr/bin/glm4v", str(GLM4V))
    (folder / "glm4v.service").write_text(text)
    done = run(["systemd-analyze", "verify", folder / "glm4v.service"])
    check(done.returncode == 0 and "glm4v.service" not in done.stderr, done.stderr)
    done = run(["systemd-analyze", "security", "--offline=true", folder / "glm4v.service"])
    exposure = float(done.stdout.split("Overall exposure level for glm4v.service: ")[1].split()[0])
    check(exposure < 2, done.stdout[-300:])


def it_works_with_the_system_calls_that_the_unit_leaves(folder):
    """Loading, answers, metrics and a stop; another call ends the server."""
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd is not installed")
    unit = SOURCE / "examples" / "serve" / "glm4v.service"
    launch = [sys.executable, SOURCE / "tests" / "support" / "system_call_filter.py", unit]
    # At the end LeakSanitizer stops the process by ptrace, which no service may call.
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    with Server("--allow-media-domain", "localhost", launch=launch, env=env) as server:
        check(server.text(question()) == described(PICTURE))
        check(server.stream(question(PROMPT, picture(), max_tokens=3)))
        url = {"type": "image_url", "image_url": {"url": "http://localhost:1/x.png"}}
        check("picture 0" in server.ask(question(PROMPT, url), 400)["error"]["message"])
        server.get("/metrics")
    with Server(address=f"unix:{folder}/s", launch=launch, env=env) as server:
        server.get("/ready")


if __name__ == "__main__":
    with Server("--alias", "autoglm-phone-9b", "--alias", "second", "--batch", 8) as SERVER:
        main([every_documented_path_answers, health_has_the_form_that_clients_know, the_model_has_several_names,
              an_answer_is_the_one_of_describe, pictures_come_in_an_object_or_alone_and_in_any_format,
              several_pictures_and_turns_are_one_conversation, frames_with_times_are_a_clip, text_alone_is_answered,
              a_stream_is_the_answer_in_pieces, answers_end_where_a_stop_text_begins, a_bound_of_tokens_ends_an_answer,
              one_seed_gives_one_text, choices_have_probabilities, a_schema_holds_and_boxes_are_told,
              options_without_effect_are_told, reasoning_is_apart_from_the_answer, wrong_requests_are_told_what_is_wrong,
              metrics_count, requests_share_steps, one_connection_serves_many_requests,
              it_answers_while_the_model_is_loaded, too_many_requests_are_sent_away,
              an_answer_that_takes_too_long_is_an_error, a_socket_file_needs_no_key, wrong_command_lines_start_nothing,
              a_stop_lets_answers_end_and_takes_no_new_ones, a_stop_sends_what_is_complete,
              a_stop_cancels_what_takes_too_long, the_service_manager_is_told, the_unit_is_accepted_by_systemd,
              it_works_with_the_system_calls_that_the_unit_leaves, no_response_tells_of_the_inside])
