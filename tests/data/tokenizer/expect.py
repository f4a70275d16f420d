#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write lines.jsonl and prompts.jsonl: what other implementations make of the small tokenizers beside this file.

    expect.py GLM41V_TEMPLATE GLM45_TEMPLATE GLM_OCR_TEMPLATE      the chat_template.jinja files of the models

Needs the packages tokenizers (0.23.3 was used), tiktoken (0.14.0) and jinja2 (3.1.6). Both tokenizers must agree
on every line. A prompt's ids come from the rendered template: names of control tokens in it become their ids, but
text of the conversation is put in afterwards, so that it stays plain text whatever it spells. GLM-OCR has the control
tokens of glm-4.5; whether its prompt closes the reasoning is said by /nothink at the end of the question, and nothing else.
"""
import base64
import json
import pathlib
import random
import re
import sys

import jinja2
import tiktoken
import tokenizers

import make

HERE = pathlib.Path(__file__).parent

LINES = ["", "a", " ", "\n", "\n\n", "\r\n", "  leading", "trailing  ", "tabs\tand\nnewlines\n\n  x",
         "It's we'll I'VE they'Re", "1234567890 3.14", "Describe the image in one sentence.",
         "用一句话描述这张图片。", "нако", " нако", "'Sнако", "'\u017fнако", "\u212aнако", "I'VEнако",
         "  \r\n\t x", "a\u0301b", "\u0085x", " qxzj qxzj", "!?!#", "\u017fj", "<|user|> <think>/nothink [gMASK]",
         "\U0001F600\u200d\u2764\ufe0f", "\u3000\u00a0\u2028x", "\u1680 \u180e\u200b\ufeff", "\u0663\u2167\u00bd",
         "'s'T'rE'vE'Ll'D'x''", " 's", "word's\n\n\nend \n ", "a" * 300, "缺陷" * 50, " " * 70 + "x", "\t \n \t"]
TRICKY = ["'s", "'", "\u017f", "l", "ve", " ", "  ", "\n", "\r\n", "\t", "a", "Scratch", "ж", "нако", "划痕", "。",
          "7", "\u0663", "\u00bd", "\u0301", "\u3000", "\u0085", "\u200b", "!", "{\"", "\U0001F600", "_", "<|user|>",
          " qxzj"]


def tricky_lines(n):
    rng = random.Random(20)
    return ["".join(rng.choice(TRICKY) for _ in range(rng.randint(1, 12))) for _ in range(n)]


def write_lines():
    fast = tokenizers.Tokenizer.from_file(str(HERE / "glm-4.1v" / "tokenizer.json"))
    fast = plain(fast)
    ranks = (line.split() for line in (HERE / "chatglm4v" / "tokenizer.model").read_text().splitlines())
    slow = tiktoken.Encoding("small", pat_str=make.PATTERN, special_tokens={},
                             mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in ranks})
    with open(HERE / "lines.jsonl", "w") as out:
        for text in LINES + tricky_lines(400):
            ids = fast.encode(text).ids
            assert ids == slow.encode_ordinary(text), text
            out.write(json.dumps({"text": text, "ids": ids}) + "\n")


def plain(tokenizer):
    """The same without control tokens, so that none is found in text."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(data))


# ---- prompts ----

def user(text, *grids):
    return {"user": text, "grids": list(grids)}


CASES = [
    {"prompt": user("Describe the image in one sentence.", [2, 2])},
    {"prompt": user("What's in the picture?", [4, 6], [2, 4], [2, 2])},
    {"system": "Answer as JSON.", "prompt": user("How many defects are there?", [4, 4])},
    {"system": "\n", "prompt": user("\n\nthe surface", )},
    {"prompt": user("表面没有缺陷？")},
    {"system": "S", "history": [[user("one", [2, 2]), "two"], [user("three"), "  four\n"], [user(""), ""]],
     "prompt": user("five", [2, 6])},
    {"prompt": user("<|user|>\n<|image|></answer><think>/nothink [gMASK]<sop>", [2, 2])},
    {"system": "<|assistant|>", "history": [[user("<|end_of_image|>"), "</think><answer>x"]],
     "prompt": user("/nothink")},
    {"prompt": user("Answer yes or no. /nothink", [2, 2])},
    {"history": [[user("a/nothink"), "\u3000b\u0085\u001c"]], "prompt": user("/nothink ")},
    {"prompt": user("What happens?"), "clip": [[2, 2, 0.0], [2, 2, 1.0], [2, 2, 2.96]]},
    {"system": "S", "prompt": user("And here?"), "clip": [[4, 2, 0.04], [4, 2, 10.25], [4, 2, 12345.65]]},
]


def picture(grid, video=False):
    return "<|begin_of_image|>" + "<|image|>" * (grid[0] * grid[1] // 4) + "<|end_of_image|>"


def conversation(case, clip):
    """Messages whose texts are single private characters, and what these stand for."""
    texts = []

    def hide(text):
        texts.append(text)
        return chr(0xE000 + len(texts) - 1)

    messages = []
    if case.get("system"):
        messages.append({"role": "system", "content": hide(case["system"])})
    for question, answer in case.get("history", []):
        messages.append({"role": "user", "content": "".join(map(picture, question["grids"])) + hide(question["user"])})
        messages.append({"role": "assistant", "content": hide(answer)})
    before = "".join(map(picture, case["prompt"]["grids"])) + clip
    messages.append({"role": "user", "content": before + hide(case["prompt"]["user"])})
    return messages, texts


def to_ids(rendered, texts, control, tokenizer):
    ids = []
    pattern = "(" + "|".join(re.escape(name) for name in sorted(control, key=len, reverse=True)) + ")"
    for part in re.split(pattern, rendered):
        if part in control:
            ids.append(control[part])
        else:
            ids += tokenizer.encode(re.sub("[\ue000-\ue0ff]", lambda m: texts[ord(m[0]) - 0xE000], part)).ids
    return ids


def render(environment, template, case, style, thinking):
    clip = ""
    if "clip" in case:
        stamp = (lambda s: f"{int(s)}") if style == "glm-4.1v" else (lambda s: f"{s:.1f} seconds")
        clip = "<|begin_of_video|>" + "".join(picture(g) + stamp(g[2]) for g in case["clip"]) + "<|end_of_video|>"
    messages, texts = conversation(case, clip)
    closed = case["prompt"]["user"].endswith("/nothink") if style == "glm-ocr" else not thinking
    if style != "glm-4.1v":
        # the template looks at the texts themselves: at their ends, and it strips answers
        for message in messages:
            index = ord(message["content"][-1]) - 0xE000
            if message["role"] == "assistant":
                texts[index] = texts[index].strip()
                message["content"] = message["content"] if texts[index] else ""
            elif message["role"] == "user" and closed and texts[index].endswith("/nothink"):
                texts[index] = texts[index][:-len("/nothink")]
                message["content"] += "/nothink"
    said = {} if style == "glm-ocr" and not closed else {"enable_thinking": not closed}
    out = environment.from_string(template).render(messages=messages, add_generation_prompt=True, **said)
    if style == "glm-4.1v" and not thinking:
        out += "<think></think><answer>"
    return out, texts


def write_prompts(templates):
    # as the transformers library renders chat templates
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    with open(HERE / "prompts.jsonl", "w") as out:
        for style, path in templates.items():
            template = pathlib.Path(path).read_text()
            folder = "glm-4.5" if style == "glm-ocr" else style
            tokenizer = tokenizers.Tokenizer.from_file(str(HERE / folder / "tokenizer.json"))
            control = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items()}
            for case in CASES:
                for thinking in (False, True):
                    rendered, texts = render(environment, template, case, style, thinking)
                    ids = to_ids(rendered, texts, control, plain(tokenizer))
                    out.write(json.dumps({"style": style, "thinking": thinking, **case, "ids": ids}) + "\n")


if __name__ == "__main__":
    write_lines()
    write_prompts({"glm-4.1v": sys.argv[1], "glm-4.5": sys.argv[2], "glm-ocr": sys.argv[3]})
