# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure the exported model on new pictures, through transformers and its own preprocessing, in fp32.

    python training/evaluate.py --strips X-SDD [--count 500] [--seed 909] [--json out/evaluation.json]
    python training/evaluate.py --strips X-SDD --negatives negatives-test.zip       and pictures of other things
    python training/evaluate.py --engine build/tests/bench/quantization-bench [--model DIR] [--quantization int4]

With --engine the project's own engine answers, in any form of the weights (docs/quantization.md). --more-patterns shows the
test patterns at 20 sizes in place of the card's four, so that one picture counts for 0.2 points and not for one.

Pictures are drawn at camera sizes from textures and seeds the training never used, shrunk by the processor like any
frame, and asked the same questions in both languages. Answers are parsed back and compared with what was drawn.
"""
import argparse
import collections
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tokenizers import Tokenizer

import make_patterns
import words
from banks import Strips
from frames import smart_resize
from make_tokenizer import MODEL
from negatives import unpack
from patterns import seen_as
from pictures import PictureMaker

SIZES = ((224, 224), (448, 448), (640, 360), (640, 480), (1280, 720), (360, 640))       # width, height
FRAMES = ((448, 448), (640, 480), (640, 360), (480, 640))                               # of pictures of other things
SCENES = ["surface", "belt"]
QUESTIONS = {
    "caption": {lang: words.DESCRIBE[lang] for lang in ("en", "zh")},
    "report": {"en": words.REPORT["en"][0], "zh": words.REPORT["zh"][0]},
    "boxes": {"en": "Give the boxes of all defects.", "zh": "框出所有缺陷。"},
    "count": {"en": "How many defects are there?", "zh": "有多少个缺陷？"},
    "defective": {"en": "Is there a defect? Answer yes or no.", "zh": "有缺陷吗？请回答是或否。"},
    "choice": {"en": "Choose one: good, bad.", "zh": "选择一项：合格、不合格。"},
}


class Reference:
    """transformers' class and processor on the exported directory."""

    def __init__(self, folder=MODEL):
        from transformers import AutoProcessor, Glm4vForConditionalGeneration
        from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
        torch.backends.cudnn.allow_tf32 = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Glm4vForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().to(self.device)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.image_processor = Glm4vImageProcessorPil.from_pretrained(folder)     # bicubic as PIL has it
        self.tokenizer = self.processor.tokenizer

    def prompt(self, text, system=None, thinking=False):
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]})
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False,
                                                  enable_thinking=thinking)

    def see(self, pictures):
        """What the processor makes of pictures of one size."""
        inputs = self.processor(text=[self.prompt("")] * len(pictures), images=[Image.fromarray(p) for p in pictures],
                                return_tensors="pt")
        return {"pixel_values": inputs["pixel_values"].to(self.device),
                "image_grid_thw": inputs["image_grid_thw"].to(self.device)}

    def answer(self, seen, prompt, limit=160):
        """Greedy answers for pictures of one size, seen or not yet: their texts without the stop token."""
        seen = seen if isinstance(seen, dict) else self.see(seen)
        n, grid = len(seen["image_grid_thw"]), seen["image_grid_thw"][0].tolist()
        text = prompt.replace("<|image|>", "<|image|>" * (grid[1] * grid[2] // 4))
        ids = torch.tensor([self.tokenizer(text)["input_ids"]] * n, device=self.device)
        with torch.no_grad():
            rows = self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit,
                                       mm_token_type_ids=(ids == self.model.config.image_token_id).int(),
                                       do_sample=False, **seen)
        return [self.tokenizer.decode(self.before_stop(row), skip_special_tokens=False)
                for row in rows[:, ids.shape[1]:].tolist()]

    def before_stop(self, row):
        """The answer without its stop token and what follows; None without a stop token only where asked for."""
        stops = [k for k, t in enumerate(row) if t in self.model.generation_config.eos_token_id]
        return row[:stops[0]] if stops else row


class Engine:
    """The same by the project's engine: quantization-bench answers all questions about a folder of pictures at once."""

    def __init__(self, program, folder, quantization):
        self.command = [program, "--model", str(folder), "--threads", "1", "--answers", quantization or f"@{folder}"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def prompt(self, text):
        return text

    def see(self, pictures):
        return {"pictures": pictures, "answers": {}}

    def ask(self, seen, prompts):
        with tempfile.TemporaryDirectory() as folder:
            for i, picture in enumerate(seen["pictures"]):
                Image.fromarray(picture).save(Path(folder) / f"{i:05}.png", compress_level=1)
            (Path(folder) / "prompts.txt").write_text("\n".join(prompts))
            command = self.command[:1] + ["--pictures", folder] + self.command[1:]
            lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        texts = [self.tokenizer.decode(json.loads(line), skip_special_tokens=False) for line in lines]
        for k, prompt in enumerate(prompts):
            seen["answers"][prompt] = texts[k::len(prompts)]

    def answer(self, seen, prompt):
        seen = seen if isinstance(seen, dict) else self.see(seen)
        captions = list(words.DESCRIBE.values())        # of all pictures; the other questions, of made ones
        others = [text for name, texts in QUESTIONS.items() if name != "caption" for text in texts.values()]
        if prompt not in seen["answers"]:
            self.ask(seen, next((group for group in (captions, others) if prompt in group), [prompt]))
        return seen["answers"][prompt]


def read_caption(text, lang):
    """A caption back to ({(kind, place): count}, said to be clean)."""
    found = collections.Counter()
    if lang == "zh":
        names = {v: k for k, v in words.KIND_ZH.items()}
        for where, n, kind in re.findall(f"({'|'.join(sorted(words.PLACES_ZH, key=len, reverse=True))})有([一两三四五])处"
                                         f"({'|'.join(names)})", text):
            found[names[kind], words.PLACES_ZH.index(where)] += words.NUMBER_ZH.index(n)
        return found, "没有缺陷" in text
    names = {v: k for table in (words.KIND_EN, words.PLURAL) for k, v in table.items()}
    kinds, places = ("|".join(sorted(map(re.escape, table), key=len, reverse=True)) for table in (names, words.AT))
    for n, kind, where in re.findall(f"(one|two|three|four|five) ({kinds}) ({places})", text):
        found[names[kind], words.AT.index(where)] += words.NUMBER.index(n)
    return found, "clean" in text.lower() and "without defects" in text


def read_report(text, lang):
    """A JSON answer as [(kind, place, severity, box)], or None when it is no valid report."""
    try:
        data = json.loads(text)
        names = {v: k for k, v in (words.KIND_ZH if lang == "zh" else words.KIND_EN).items()}
        places = words.PLACES_ZH if lang == "zh" else words.PLACES
        levels = words.SEVERITY_ZH if lang == "zh" else words.SEVERITY
        rows = [(names[d["type"]], places.index(d["place"]), levels.index(d["severity"]), [v / 1000 for v in d["box"]])
                for d in data["defects"]]
        assert data["count"] == len(rows) and isinstance(data["surface"], str) and all(len(r[3]) == 4 for r in rows)
        return rows
    except (ValueError, KeyError, TypeError, AssertionError):
        return None


def parses(text):
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


def read_boxes(text):
    match = re.fullmatch(re.escape(words.BOX_OPEN) + "(.*)" + re.escape(words.BOX_CLOSE), text)
    if not match or not parses(match[1]):
        return []
    rows = json.loads(match[1])
    return [[v / 1000 for v in row] for row in (rows if rows and isinstance(rows[0], list) else [rows])]


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])                              # noqa: E731
    return w * h / (area(a) + area(b) - w * h)


class Tally:
    """Shares: add(name, hit) and the ratios at the end."""

    def __init__(self):
        self.hits, self.all = collections.Counter(), collections.Counter()

    def add(self, name, hit):
        self.hits[name] += bool(hit)
        self.all[name] += 1

    def table(self):
        return {name: (round(100 * self.hits[name] / n, 2), n) for name, n in sorted(self.all.items())}


def score(tally, facts, width, answers, lang):
    defects = facts["defects"]
    truth = collections.Counter((d["kind"], words.place(d["box"])) for d in defects)
    kinds = collections.Counter(d["kind"] for d in defects)
    found, clean = read_caption(answers["caption"], lang)
    add = lambda name, hit: tally.add(f"{name} {lang}", hit)                    # noqa: E731
    said = collections.Counter()
    for (kind, _), n in found.items():
        said[kind] += n
    if defects:
        add("kind, all of a picture", set(said) == set(kinds))
        add("place, all of a picture", found == truth)
        for kind, n in kinds.items():
            for k in range(n):
                add("kind, each defect", k < said[kind])
        for key, n in truth.items():
            for k in range(n):
                add("place, each defect", k < found[key])
    else:
        add("clean called clean", clean and not found)
    add("defective not called clean", not clean) if defects else None
    add("count in the caption", sum(found.values()) == len(defects))
    add("count asked", answers["count"] == str(len(defects)))
    add("material", (words.MATERIAL_ZH[facts["material"]] if lang == "zh" else facts["material"]) in answers["caption"])
    add("caption exact", answers["caption"] == words.caption(facts, lang))
    yes, no = ("是", "否") if lang == "zh" else ("yes", "no")
    add("yes or no", answers["defective"] == (yes if defects else no))
    good, bad = ("合格", "不合格") if lang == "zh" else ("good", "bad")
    add("choice", answers["choice"] == (bad if defects else good))
    add("JSON parses", parses(answers["report"]))
    rows = read_report(answers["report"], lang)
    add("JSON keeps its form", rows is not None)
    boxes = read_boxes(answers["boxes"])
    for d in defects:
        size = "28 px and wider" if (d["box"][2] - d["box"][0]) * width >= 28 else "narrower"
        best = max([iou(d["box"], r[3]) for r in rows or [] if r[0] == d["kind"]], default=0)
        add(f"IoU >= 0.5, JSON, {size}", best >= 0.5)
        add(f"IoU >= 0.5, box question, {size}", max([iou(d["box"], b) for b in boxes], default=0) >= 0.5)
        near = max(rows or [], key=lambda r: iou(d["box"], r[3]), default=None)
        if near and iou(d["box"], near[3]) >= 0.5:
            add("severity", near[2] == words.severity(d["box"]))


def made_pictures(reference, tally, seed, count, log):
    maker, rng = PictureMaker(seed, 2), np.random.default_rng([seed, 9])
    for index, (width, height) in enumerate(SIZES):
        n = count // len(SIZES) + (index < count % len(SIZES))
        drawn = [maker.draw(rng, height, width, SCENES[int(rng.random() < 0.33)]) for _ in range(n)]
        model_width = smart_resize(height, width)[1]
        seen = reference.see([p for p, _ in drawn])
        for lang in ("en", "zh"):
            answers = {q: reference.answer(seen, reference.prompt(text[lang])) for q, text in QUESTIONS.items()}
            for i, (_, facts) in enumerate(drawn):
                one = {q: a[i] for q, a in answers.items()}
                log.append({"size": [width, height], "lang": lang, "facts": facts, "answers": one})
                if facts["scene"] in SCENES:
                    score(tally, facts, model_width, one, lang)
                else:
                    tally.add(f"empty belt {lang}", one["caption"] == words.caption(facts, lang))


def others(reference, tally, seed, strips, sizes):
    """Strips set aside, test patterns at sizes the training did not have, and pictures of something else."""
    if strips:
        held = Strips(strips, "held-out")
        names = ", ".join(held.names)
        for name in held.names:
            pictures = [np.repeat(p[..., None], 3, 2) for _, p in held.by_class[name]]
            for lang in ("en", "zh"):
                want = words.caption({"scene": "strip", "name": name, "defects": []}, lang)
                for text in reference.answer(pictures, reference.prompt(words.DESCRIBE[lang])):
                    tally.add(f"x-sdd class, caption {lang}", text == want)
                    tally.add(f"x-sdd {name} {lang}", text == want)
            for text in reference.answer(pictures, reference.prompt(f"Choose one: {names}.")):
                tally.add("x-sdd class, choice en", text == name)
            large = [np.asarray(Image.fromarray(p).resize((448, 448), Image.Resampling.BICUBIC)) for p in pictures]
            for text in reference.answer(large, reference.prompt(words.DESCRIBE["en"])):
                tally.add("x-sdd class, enlarged to 448x448, en",
                          text == words.caption({"scene": "strip", "name": name, "defects": []}, "en"))
    for width, height in sizes:
        files = [make_patterns.other(pattern, width, height) for pattern in make_patterns.PATTERNS]
        seen = reference.see([np.asarray(Image.open(file).convert("RGB")) for file in files])
        for lang in ("en", "zh"):
            for pattern, text in zip(make_patterns.PATTERNS, reference.answer(
                    seen, reference.prompt(words.DESCRIBE[lang]))):
                facts = {"scene": "pattern", "name": seen_as(pattern, width, height), "defects": []}
                same = text == words.caption(facts, lang)
                tally.add(f"test pattern {lang}", same)
                if not same:
                    print(f"{pattern} at {width}x{height}: {text}")
    maker, rng = PictureMaker(seed + 1, 1), np.random.default_rng([seed, 10])
    pictures = [maker.draw(rng, 360, 640, "other")[0] for _ in range(40)]
    for text in reference.answer(pictures, reference.prompt(words.DESCRIBE["en"])):
        tally.add("something else, made, en", "something other" in text)


def honest(name, answer, lang):
    """Whether an answer about something unknown says so and keeps its form."""
    facts = {"scene": "other", "defects": []}
    if name == "caption":
        return answer == words.caption(facts, lang)
    if name == "report":
        return answer == words.report(facts, lang)
    if name == "choice":
        return answer == words.UNKNOWN[lang]
    return answer == {"defective": {"en": "no", "zh": "否"}[lang], "count": "0",
                      "boxes": {"en": "There is no defect.", "zh": "没有缺陷。"}[lang]}[name]


def other_things(reference, tally, file, log):
    """Photographs and other surfaces that no training saw, each as a frame of about its aspect and asked everything."""
    groups = collections.defaultdict(list)
    for kind, source, says, picture in unpack(file):
        aspect = picture.shape[1] / picture.shape[0]
        frame = min(FRAMES, key=lambda f: abs(np.log(f[0] / f[1] / aspect)))
        picture = np.asarray(ImageOps.fit(Image.fromarray(picture), frame, Image.Resampling.BICUBIC))
        groups[frame].append((kind, source, says, picture))
    for rows in groups.values():
        seen = reference.see([picture for *_, picture in rows])
        for lang in ("en", "zh"):
            answers = {q: reference.answer(seen, reference.prompt(text[lang])) for q, text in QUESTIONS.items()}
            for i, (kind, source, says, _) in enumerate(rows):
                one = {q: a[i] for q, a in answers.items()}
                found, clean = read_caption(one["caption"], lang)
                right_in_kind = clean if says == "none" else {k for k, _ in found} == {says}
                log.append({"kind": kind, "source": source, "says": says, "lang": lang, "answers": one})
                told = honest("caption", one["caption"], lang)
                tally.add(f"{kind}: honest {lang}", told)
                tally.add(f"{kind} of {source}: honest {lang}", told)
                if kind == "surface":
                    tally.add(f"surface: honest or right in kind {lang}", told or right_in_kind)
                for question, answer in one.items():
                    if question != "caption":
                        tally.add(f"{kind}: {question} honest {lang}", honest(question, answer, lang))
                tally.add(f"other things: JSON keeps its form {lang}", read_report(one["report"], lang) is not None
                          or honest("report", one["report"], lang))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strips", help="folder of the X-SDD pictures")
    parser.add_argument("--negatives", type=Path, help="negatives-test.zip of make_negatives.py")
    parser.add_argument("--count", type=int, default=500, help="pictures to draw; 0: measure --negatives alone")
    parser.add_argument("--seed", type=int, default=909)
    parser.add_argument("--more-patterns", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL, help="another form of the model; default: the one shipped")
    parser.add_argument("--engine", help="quantization-bench of a build: it answers instead of transformers")
    parser.add_argument("--quantization", help="with --engine: form of the weights, as the program takes it")
    args = parser.parse_args()
    if args.quantization and not args.engine:
        parser.error("--quantization needs --engine")
    reference = Engine(args.engine, args.model, args.quantization) if args.engine else Reference(args.model)
    tally, log, began = Tally(), [], time.time()
    if args.count:
        made_pictures(reference, tally, args.seed, args.count, log)
        others(reference, tally, args.seed, args.strips,
               make_patterns.OTHER_SIZES + (make_patterns.MORE_SIZES if args.more_patterns else ()))
    if args.negatives:
        other_things(reference, tally, args.negatives, log)
    for name, (share, n) in tally.table().items():
        print(f"{share:6.2f} %  of {n:5d}  {name}")
    print(f"{time.time() - began:.0f} s")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"shares": tally.table(), "log": log}, ensure_ascii=False, indent=0))


if __name__ == "__main__":
    main()
