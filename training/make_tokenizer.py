# SPDX-License-Identifier: LGPL-2.1-or-later
"""Train the tokenizer on the words the model uses and write it with its chat template.

    python training/make_tokenizer.py           writes models/surface-tiny/tokenizer*.json, chat_template.jinja

A byte-level BPE of the GLM-4 layout: bytes, merges, then the named control tokens of GLM-4.1V in their order.
Numbers up to 99 and the multiples of 5 up to 995 are one token each: those are the coordinates of boxes.
"""
import itertools
import json
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import words
from defects import KINDS
from surfaces import MATERIALS

MODEL = Path(__file__).parent.parent / "models" / "surface-tiny"
VOCABULARY = 1152
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
           "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
           "<|image|>", "<|video|>")
VISIBLE = ("<think>", "</think>", "<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>", "<|sep|>")
TEMPLATE = """[gMASK]<sop>
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{- '<|assistant|>\\n' + message.content -}}
  {%- else -%}
    {{- '<|' + message.role + '|>\\n' -}}
    {%- if message.content is string -%}
      {{- message.content -}}
    {%- else -%}
      {%- for part in message.content -%}
        {%- if part.type == 'image' -%}<|begin_of_image|><|image|><|end_of_image|>
        {%- elif part.type == 'video' -%}<|begin_of_video|><|video|><|end_of_video|>
        {%- elif part.type == 'text' -%}{{- part.text -}}
        {%- endif -%}
      {%- endfor -%}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>\\n' -}}
  {%- if enable_thinking is defined and not enable_thinking -%}<think></think><answer>{%- endif -%}
{%- endif -%}
"""


def facts_at_random(rng):
    """Facts without a picture: enough to make words of."""
    scene = rng.choice(["surface", "belt", "pattern", "strip", "other", "empty belt"], p=[.5, .25, .1, .1, .03, .02])
    facts = {"scene": str(scene), "defects": []}
    if scene in ("surface", "belt"):
        facts["material"] = str(rng.choice(MATERIALS))
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.uniform(0, 0.7), rng.uniform(0, 0.7), rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)
            facts["defects"].append({"kind": str(rng.choice(KINDS)), "box": (x, y, min(1, x + w), min(1, y + h))})
    elif scene in ("pattern", "strip"):
        facts["name"] = str(rng.choice(list(words.PATTERN if scene == "pattern" else words.STRIP_ZH)))
    return facts


def corpus(rng, count=20000):
    strip_digits = str.maketrans("", "", "0123456789")
    for _ in range(count):
        facts = facts_at_random(rng)
        prompt, answer, lang = words.ask(rng, facts)
        yield prompt.translate(strip_digits)
        yield answer.replace(words.BOX_OPEN, "").replace(words.BOX_CLOSE, "").translate(strip_digits)
        if rng.random() < 0.1:
            yield words.thought(rng, facts, lang)
        if rng.random() < 0.05:
            yield words.pick(rng, words.SYSTEM).translate(strip_digits)


def everyday_words():
    """Words that must be whole whatever the corpus happens to repeat."""
    for group in (words.NUMBER, words.AT, words.PLURAL.values(), words.KIND_EN.values(), words.SEVERITY, MATERIALS,
                  words.PLACES, words.STRIP_ZH):
        for word in group:
            yield from [f" {word}"] * 500
    for group in (words.PLACES_ZH, words.KIND_ZH.values(), words.SEVERITY_ZH, words.MATERIAL_ZH.values(),
                  words.STRIP_ZH.values(), [f"有{n}处" for n in words.NUMBER_ZH], [f"，{p}" for p in words.PLACES_ZH]):
        for word in group:
            yield from [word] * 500


def build():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    numbers = [str(n) for n in range(10, 100)] + [str(n) for n in range(100, 1000, 5)]
    size = VOCABULARY - len(CONTROL) - len(VISIBLE) - len(numbers)
    text = itertools.chain(corpus(np.random.default_rng(4)), everyday_words())
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, max_token_length=18, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False))
    data = json.loads(tokenizer.to_str())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    for number in numbers:
        vocabulary[number] = len(vocabulary)
        merges.append([number[:-1], number[-1]])
        if len(number) == 3 and number[1] != "0":       # 9 + 95 when 95 was merged before 99
            merges.append([number[0], number[1:]])
    first = len(vocabulary)
    assert first + len(CONTROL) + len(VISIBLE) <= VOCABULARY, first
    data["added_tokens"] = [
        {"id": first + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": name in CONTROL} for i, name in enumerate(CONTROL + VISIBLE)]
    data["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    data["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return data


def main():
    MODEL.mkdir(parents=True, exist_ok=True)
    data = build()
    (MODEL / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    added = {str(t["id"]): {key: t[key] for key in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
             for t in data["added_tokens"]}
    (MODEL / "tokenizer_config.json").write_text(json.dumps({
        "added_tokens_decoder": added, "additional_special_tokens": list(CONTROL), "clean_up_tokenization_spaces": False,
        "do_lower_case": False, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 4096, "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
    (MODEL / "chat_template.jinja").write_text(TEMPLATE)
    print(f"{len(data['model']['vocab'])} tokens and {len(data['added_tokens'])} control tokens")


if __name__ == "__main__":
    main()
