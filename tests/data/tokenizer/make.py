#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write the small tokenizers of the tests: make.py, in this folder. Standard library only; the same bytes each time.

One vocabulary, learned by plain byte-pair merging from the few lines below, in the layouts that the engine reads:
  glm-4.1v/   tokenizer.json, merges as "a b", control tokens of GLM-4.1V
  glm-4.5/    tokenizer.json, merges as ["a", "b"], control tokens of the GLM-4.5 family, two of them in the vocabulary
  chatglm4v/  tokenizer.model and tokenizer_config.json, control tokens of GLM-4V-9B
"""
import base64
import collections
import json
import pathlib
import re

HERE = pathlib.Path(__file__).parent
N_MERGES = 300

TEXT = """
Describe the image in one sentence. The surface shows two scratches near the top left and one dent in the centre.
A clean surface without any defect. Three small pits lie at the lower edge; the largest is about 40 pixels wide.
The answer is yes. The answer is no. How many defects are there? There are three defects: a scratch, a stain and a pit.
Answer as JSON: {"kind": "scratch", "count": 2, "box": [[120, 40, 300, 85]]}. What's in the picture? It's a metal sheet.
The line shows colour bars; they're moving from left to right. We'll look again in 15 seconds, don't wait.
用一句话描述这张图片。图片上有两条划痕，在左上角；中间有一个凹坑。表面没有缺陷，很干净。
表面有三个小坑，最大的在下边缘。答案是“是”。答案是“否”。有多少个缺陷？有三个缺陷：划痕、污渍和凹坑。
"""

# Tokens that no merge leads to: only the look-up of a whole piece finds them.
WHOLE = [" qxzj", "нако", "ſj", "!?!#"]

CONTROL = """<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>
<|begin_of_image|> <|end_of_image|> <|begin_of_video|> <|end_of_video|>""".split()
CONTROL_41V = CONTROL + """<|image|> <|video|> <think> </think> <answer> </answer> <|begin_of_box|> <|end_of_box|>
<|sep|>""".split()
CONTROL_45 = CONTROL + """<|code_prefix|> <think> </think> <tool_call> </tool_call> /nothink <|begin_of_box|>
<|end_of_box|> <|image|> <|video|>""".split()

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def alphabet():
    """The character that stands for each byte in tokenizer.json."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn(text, n_merges):
    """Byte-pair merges, most frequent first, ties by the pair itself. Runs of letters, of digits and of others."""
    words = collections.Counter(re.findall(r" ?[^\W\d_]+|\d{1,3}| ?[^\w\s]+|\s", text))
    split = {w: [bytes([b]) for b in w.encode()] for w in words}
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for word, count in words.items():
            parts = split[word]
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for parts in split.values():
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = [parts[i] + parts[i + 1]]
                i += 1
    return merges


def added(name, token_id):
    return {"id": token_id, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": name.startswith(("<|", "["))}


def write_json(folder, vocab, merges, control, first, listed):
    """listed: how many control tokens stand in "vocab" too, as trainers leave them."""
    byte = alphabet()
    spell = lambda token: "".join(byte[b] for b in token)
    tokens = {spell(t): i for i, t in enumerate(vocab)} | {n: first + i for i, n in enumerate(control[:listed])}
    pairs = [[spell(a), spell(b)] for a, b in merges]
    if folder == "glm-4.1v":
        pairs = [" ".join(p) for p in pairs]
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(n, first + i) for i, n in enumerate(control)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": tokens, "merges": pairs},
    }
    (HERE / folder).mkdir(exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ": "), indent=0)
    (HERE / folder / "tokenizer.json").write_text(text + "\n")


def write_ranks(folder, vocab, control, first):
    (HERE / folder).mkdir(exist_ok=True)
    lines = [f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(vocab)]
    (HERE / folder / "tokenizer.model").write_text("".join(lines))
    decoder = {str(first + i): {"content": n, "special": True} for i, n in enumerate(control)}
    config = {"added_tokens_decoder": decoder, "tokenizer_class": "ChatGLM4Tokenizer"}
    (HERE / folder / "tokenizer_config.json").write_text(json.dumps(config, indent=0) + "\n")


def main():
    merges = learn(TEXT.strip(), N_MERGES)
    vocab = [bytes([b]) for b in range(256)] + [a + b for a, b in merges] + [w.encode() for w in WHOLE]
    write_json("glm-4.1v", vocab, merges, CONTROL_41V, len(vocab), 0)
    write_json("glm-4.5", vocab, merges, CONTROL_45, len(vocab), 2)
    write_ranks("chatglm4v", vocab, CONTROL, len(vocab))


if __name__ == "__main__":
    main()
