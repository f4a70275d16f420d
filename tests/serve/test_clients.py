#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""glm4v serve asked by clients that nobody here wrote: openai, langchain-openai, curl, and the requests that llama.cpp,
vLLM and Open-AutoGLM document. The packages of requirements.txt are installed into a virtual environment in the build
folder; without a network the tests that need them are skipped, unless GLM4V_REQUIRE names clients."""
import json
import os
import shutil
import subprocess
import sys

from common_serve import (BUILD, EXAMPLES, PICTURE, PROMPT, SOURCE, Server, Skip, check, data_url, environment, good, main,
                          no_response_tells_of_the_inside, picture, question, run, user)

HERE = SOURCE / "tests" / "serve"
VENV = BUILD / "tests" / "serve" / "venv"
SERVER = None
TEXT = None  # what the model says of the picture


def install():
    """The Python of the virtual environment; what is there already is used again."""
    python, stamp = VENV / "bin" / "python", VENV / "installed.txt"
    wanted = (HERE / "requirements.txt").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(VENV, ignore_errors=True)
    # Debian's own Python has no ensurepip without another package: any other one will do as well.
    for base in (sys.executable, shutil.which("python3")):
        made = subprocess.run([base, "-m", "venv", VENV], capture_output=True, text=True, check=False)
        if made.returncode == 0:
            break
    else:
        return missing("no virtual environment can be made (Debian package python3-venv): " + made.stdout[-200:])
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1",
                           "--timeout", "20", "-r", HERE / "requirements.txt"], capture_output=True, text=True, check=False)
    if done.returncode:
        return missing("the packages of tests/serve/requirements.txt cannot be installed: " + done.stderr.strip()[-300:])
    stamp.write_text(wanted)
    return python


def missing(reason):
    reason = " ".join(reason.split())
    print("# " + reason)
    check("clients" not in os.environ.get("GLM4V_REQUIRE", ""), reason)
    return None


PYTHON = None


def client(script, **words):
    """Runs a program of the client's language; words are in its environment. What it prints as JSON."""
    if not PYTHON:
        raise Skip("the clients' packages are not there")
    env = {key: value for key, value in environment().items()
           if not key.startswith(("OPENAI", "LANG", "PYTHON")) and "proxy" not in key.lower()}
    env.update(BASE=f"http://127.0.0.1:{SERVER.port}/v1", URL=data_url(PICTURE), PROMPT=PROMPT, LC_ALL="C.UTF-8", **words)
    done = good(run([PYTHON, "-c", script], env=env, timeout=120))
    return json.loads(done.stdout.splitlines()[-1])


OPENAI = """
import asyncio, json, os
import openai
from openai import OpenAI, AsyncOpenAI
URL, BASE, PROMPT = os.environ["URL"], os.environ["BASE"], os.environ["PROMPT"]
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": URL}}]}]
client = OpenAI(base_url=BASE, api_key="unused")
def show(value):
    print(json.dumps(value))
"""


def openai_asks_about_a_picture(folder):
    found = client(OPENAI + """
names = [model.id for model in client.models.list()]
answer = client.chat.completions.create(model=names[0], messages=MESSAGES, temperature=0, max_tokens=64)
show([names, answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage.total_tokens,
      client.models.retrieve(names[1]).id, answer.id.startswith("chatcmpl-"), answer.object])
""")
    names = ["surface-tiny", "autoglm-phone-9b"]
    check(found == [names, TEXT, "stop", found[3], names[1], True, "chat.completion"], found)


def openai_streams(folder):
    found = client(OPENAI + """
stream = client.chat.completions.create(model="surface-tiny", messages=MESSAGES, stream=True,
                                        stream_options={"include_usage": True})
text, usage, n = "", None, 0
for chunk in stream:
    n += 1
    usage = chunk.usage or usage
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
with client.chat.completions.stream(model="surface-tiny", messages=MESSAGES) as events:
    for event in events:
        pass
    final = events.get_final_completion()
show([text, usage.completion_tokens, n > 5, final.choices[0].message.content, final.choices[0].finish_reason])
""")
    check(found[0] == TEXT and found[1] > 3 and found[2] and found[3:] == [TEXT, "stop"], found)


def openai_asks_from_coroutines(folder):
    found = client(OPENAI + """
async def main():
    async with AsyncOpenAI(base_url=BASE, api_key="unused") as client:
        async def whole():
            return (await client.chat.completions.create(model="surface-tiny", messages=MESSAGES)).choices[0].message.content
        async def pieces():
            stream = await client.chat.completions.create(model="surface-tiny", messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        return await asyncio.gather(*[whole() for _ in range(8)], *[pieces() for _ in range(8)])
show(asyncio.run(main()))
""")
    check(found == [TEXT] * 16, found)


def openai_leaves_a_stream(folder):
    """Closing the response is all that it does."""
    before = SERVER.metric("glm4v_engine_canceled_total")
    client(OPENAI + """
schema = {"type": "array", "items": {"type": "integer"}, "minItems": 900, "maxItems": 900}
stream = client.chat.completions.create(model="surface-tiny", messages=MESSAGES, stream=True, max_tokens=4000,
    response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
next(iter(stream))
stream.response.close()
show(True)
""")
    SERVER.until(lambda: SERVER.metric("glm4v_engine_canceled_total") > before, "the request is canceled")


def openai_knows_the_errors(folder):
    found = client(OPENAI + """
def error(**options):
    try:
        client.chat.completions.create(**{"model": "surface-tiny", "messages": MESSAGES, **options})
    except openai.APIStatusError as e:
        return [type(e).__name__, e.status_code, e.param, e.code, e.type]
tool = {"type": "function", "function": {"name": "f"}}
show([error(model="gpt-4"), error(temperature=9), error(messages=[]), error(tools=[tool])])
""")
    kind = "invalid_request_error"
    check(found == [["NotFoundError", 404, "model", "model_not_found", kind],
                    ["BadRequestError", 400, "temperature", "invalid_value", kind],
                    ["BadRequestError", 400, "messages", "invalid_value", kind],
                    ["BadRequestError", 400, "tools", "unsupported_value", kind]], found)


def openai_parses_into_a_class(folder):
    found = client(OPENAI + """
from typing import Literal
from pydantic import BaseModel
class Report(BaseModel):
    surface: str
    count: int
    verdict: Literal["good", "bad"]
answer = client.chat.completions.create(model="surface-tiny", messages=MESSAGES, max_tokens=200, response_format={"type":
    "json_schema", "json_schema": {"name": "report", "schema": {"type": "object", "properties": {"surface": {"type": "string",
    "maxLength": 40}, "count": {"type": "integer", "minimum": 0, "maximum": 9}, "verdict": {"enum": ["good", "bad"]}},
    "required": ["surface", "count", "verdict"]}}})
report = Report.model_validate_json(answer.choices[0].message.content)
choice = client.chat.completions.create(model="surface-tiny", messages=MESSAGES,
                                        extra_body={"structured_outputs": {"choice": ["good", "bad"]}})
show([report.verdict, choice.choices[0].message.content, len(choice.glm4v["probabilities"])])
""")
    check(found[0] in ("good", "bad") and found[1] in ("good", "bad") and found[2] == 2, found)


def openai_sends_its_key(folder):
    if not PYTHON:
        raise Skip("the clients' packages are not there")
    global SERVER
    keys, before = folder / "keys", SERVER
    keys.write_text("sk-test\n")
    keys.chmod(0o600)
    with Server("--api-key-file", keys) as SERVER:
        found = client(OPENAI + """
good = OpenAI(base_url=BASE, api_key="sk-test").chat.completions.create(model="surface-tiny", messages=MESSAGES)
try:
    client.chat.completions.create(model="surface-tiny", messages=MESSAGES)
except openai.AuthenticationError as e:
    show([good.choices[0].message.content, e.status_code, e.code])
""")
    SERVER = before
    check(found == [TEXT, 401, "invalid_api_key"], found)


def langchain_streams_from_a_server_without_a_key(folder):
    """As users of AutoGLM-Phone-9B write it: a picture as a plain string, options in extra_body."""
    found = client("""
import json, os
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
llm = ChatOpenAI(model="autoglm-phone-9b", base_url=os.environ["BASE"], api_key="EMPTY", temperature=0.1, max_tokens=512,
                 streaming=True, extra_body={"enable_thinking": True, "return_reasoning": True})
messages = [SystemMessage(content="You are an assistant that looks at pictures."),
            HumanMessage(content=[{"type": "text", "text": os.environ["PROMPT"]},
                                  {"type": "image_url", "image_url": os.environ["URL"]}])]
pieces = [chunk.content for chunk in llm.stream(messages)]
whole = llm.invoke(messages)
as_object = llm.invoke([HumanMessage(content=[{"type": "text", "text": os.environ["PROMPT"]},
                                              {"type": "image_url", "image_url": {"url": os.environ["URL"]}}])])
print(json.dumps([len(pieces) > 3, bool("".join(pieces)), bool(whole.content), bool(as_object.content),
                  whole.response_metadata["finish_reason"]]))
""")
    check(found == [True, True, True, True, "stop"], found)


def langchain_batches_and_binds_options(folder):
    found = client("""
import json, os
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
llm = ChatOpenAI(model="surface-tiny", base_url=os.environ["BASE"], api_key="EMPTY", temperature=0)
message = [HumanMessage(content=[{"type": "text", "text": os.environ["PROMPT"]},
                                 {"type": "image_url", "image_url": {"url": os.environ["URL"]}}])]
answers = llm.batch([message] * 4)
cut = llm.bind(stop=[" "]).invoke(message)
print(json.dumps([[a.content for a in answers], cut.content, answers[0].usage_metadata["output_tokens"] > 3]))
""")
    check(found == [[TEXT] * 4, TEXT.split()[0], True], found)


def the_document_is_openapi(folder):
    (folder / "openapi.json").write_bytes(SERVER.get("/openapi.json"))
    check(client("""
import json, os
from openapi_spec_validator import validate
validate(json.load(open(os.environ["FILE"])))
print("true")
""", FILE=str(folder / "openapi.json")) is True)


# ---- requests as they are documented

def curl(path, *words):
    done = good(run(["curl", "--silent", "--show-error", f"http://127.0.0.1:{SERVER.port}{path}", *words]))
    return done.stdout


def curl_asks_with_a_file(folder):
    body = folder / "body.json"
    body.write_text(json.dumps(question(PROMPT, picture())))
    answer = json.loads(curl("/v1/chat/completions", "-H", "Content-Type: application/json", "-d", f"@{body}"))
    check(answer["choices"][0]["message"]["content"] == TEXT, answer)
    large = json.dumps(question(PROMPT, picture(), user=" " * (2 << 20)))
    body.write_text(large)  # above 1 MiB curl asks first whether to send it
    answer = json.loads(curl("/v1/chat/completions", "-H", "Content-Type: application/json", "-d", f"@{body}"))
    check(answer["choices"][0]["message"]["content"] == TEXT, answer)
    answer = json.loads(curl("/v1/chat/completions", "-H", "Content-Type: application/json", "-H", "Transfer-Encoding: chunked",
                             "-d", f"@{body}"))
    check(answer["choices"][0]["message"]["content"] == TEXT, answer)
    check(json.loads(curl("/health", "--http1.0"))["status"] == "ok")


def curl_shows_a_stream_as_it_comes(folder):
    body = folder / "body.json"
    body.write_text(json.dumps(question(PROMPT, picture(), stream=True)))
    for options in ((), ("--http1.0",)):
        lines = [line for line in curl("/v1/chat/completions", "--no-buffer", *options, "-H", "Content-Type: application/json",
                                       "-d", f"@{body}").splitlines() if line]
        check(all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]", lines)


def the_requests_of_llama_cpp_work(folder):
    """Of the documentation of its server: a chat, and one with a schema."""
    answer = SERVER.ask({"model": "surface-tiny", "messages": [
        {"role": "system", "content": "You are ChatGPT, an AI assistant. Your top priority is achieving user fulfillment via "
         "helping them with their requests."},
        {"role": "user", "content": "Write a limerick about python exceptions"}], "max_tokens": 8},
        headers={"Authorization": "Bearer no-key"})
    check(answer["usage"]["completion_tokens"] > 0, answer)
    schema = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 20}}, "required": ["name"]}
    answer = SERVER.ask(question("Where is it?", picture(), max_tokens=60, cache_prompt=True, timings_per_token=False,
                                 response_format={"type": "json_schema", "json_schema": {"schema": schema}}))
    check(json.loads(answer["choices"][0]["message"]["content"])["name"], answer)


def the_requests_of_vllm_work(folder):
    """Of its documentation: one picture, several, choices in both forms, and what its templates take."""
    sentiment = "Classify this sentiment: vLLM is wonderful!"
    for body in (question("What's in this image?", picture()),
                 question("What are the animals in these images?", picture(), picture(EXAMPLES / "known-sheet.png")),
                 question(sentiment, structured_outputs={"choice": ["positive", "negative"]}),
                 question(sentiment, guided_choice=["positive", "negative"]),
                 question("9.11 and 9.8, which is greater?", chat_template_kwargs={"enable_thinking": False}),
                 question("Hello", top_k=20, repetition_penalty=1.05, min_p=0, skip_special_tokens=True, ignore_eos=False)):
        answer = SERVER.ask({"model": "surface-tiny", "max_completion_tokens": 64, **body})
        check(answer["choices"][0]["message"]["content"] is not None, answer)


def the_requests_of_open_autoglm_work(folder):
    """Its client sends a system prompt, pictures of screens, its own earlier answers with their thoughts, and penalties."""
    step = "** Screen Info **\n\n{\"current_app\": \"Settings\"}"
    messages = [{"role": "system",
                 "content": "You operate a phone. do(action=\"Tap\", element=[x,y]) or finish(message=\"...\")"},
                {"role": "user", "content": [{"type": "text", "text": "open the settings\n\n" + step}]},
                {"role": "assistant",
                 "content": "<think>I see it.</think><answer>do(action=\"Launch\", app=\"Settings\")</answer>"},
                {"role": "user", "content": [picture(), {"type": "text", "text": step}]}]
    body = {"messages": messages, "model": "autoglm-phone-9b", "max_tokens": 64, "temperature": 0.0, "top_p": 0.85,
            "frequency_penalty": 0.2, "stream": True}
    events = SERVER.stream(body)
    check("".join(event["choices"][0]["delta"].get("content", "") for event in events), events)
    check(events[-1]["glm4v"]["ignored"] == ["frequency_penalty"], events[-1])
    check(SERVER.ask({**body, "stream": False})["usage"]["prompt_tokens"] > 40)


if __name__ == "__main__":
    PYTHON = install()
    with Server("--alias", "autoglm-phone-9b", "--batch", 8) as SERVER:
        TEXT = SERVER.text(question())
        main([openai_asks_about_a_picture, openai_streams, openai_asks_from_coroutines, openai_leaves_a_stream,
              openai_knows_the_errors, openai_parses_into_a_class, openai_sends_its_key,
              langchain_streams_from_a_server_without_a_key, langchain_batches_and_binds_options, the_document_is_openapi,
              curl_asks_with_a_file, curl_shows_a_stream_as_it_comes, the_requests_of_llama_cpp_work,
              the_requests_of_vllm_work, the_requests_of_open_autoglm_work, no_response_tells_of_the_inside])
