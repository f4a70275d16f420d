# SPDX-License-Identifier: LGPL-2.1-or-later
"""From pictures to training batches, made by worker processes straight into shared memory.

One sample is one picture and several questions. The tokens before and of the image come once; the questions follow as
branches that see what is shared and themselves only, at the positions each would have alone. So a picture is drawn and
seen by the vision tower once for four or five answers, and every branch computes exactly what a request would.
"""
import ctypes
import functools
import mmap
import multiprocessing
import os

import cv2
import numpy as np
from PIL import Image
from tokenizers import Tokenizer

import words
from banks import Strips
from defects import KINDS
from frames import FACTOR, GRIDS
from make_tokenizer import MODEL
from negatives import Negatives
from patterns import Patterns
from pictures import PictureMaker, needs_light

TOKENS, ANSWERS, PATCHES, SLOTS = 256, 144, 256, 64
GRID_LIST = list(GRIDS)
GRID_SHARE = np.array(list(GRIDS.values())) / sum(GRIDS.values())
FIELDS = (("pixels", np.uint8, (PATCHES * 588,)), ("grid", np.int32, ()), ("developed", np.int32, ()),
          ("ids", np.int32, (TOKENS,)),
          ("slot", np.int32, (TOKENS,)), ("position", np.int32, (TOKENS, 3)), ("branch", np.int32, (TOKENS,)),
          ("at", np.int32, (ANSWERS,)), ("want", np.int32, (ANSWERS,)), ("coordinate", np.int32, (ANSWERS,)),
          ("kind", np.int32, (SLOTS,)), ("box", np.float32, (SLOTS, 4)))


class Words:
    """The tokenizer with what packing needs of it."""

    def __init__(self):
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.loose = Tokenizer.from_file(str(MODEL / "tokenizer.json"))     # splits words now and then
        self.loose.model.dropout = 0.12
        self.known = functools.lru_cache(100_000)(lambda text: self.tokenizer.encode(text).ids)
        one = self.tokenizer.token_to_id
        self.image = one("<|image|>")
        self.coordinates = np.array([one(str(5 * i)) for i in range(200)])
        self.step = {int(t): i for i, t in enumerate(self.coordinates)}
        text = [self.tokenizer.decode([i], skip_special_tokens=False) for i in range(self.tokenizer.get_vocab_size())]
        self.before_coordinate = {i for i, t in enumerate(text) if t and (t == "," or t.endswith("["))}

    def encode(self, text, loose=False):
        return self.loose.encode(text).ids if loose else self.known(text)


def patch_order(rows, columns):
    """Where in a picture [28 rows, 28 columns, 3] the values of its patches lie: [PATCHES * 3*14*14], 2x2 blocks."""
    where = np.arange(rows * columns * 2352).reshape(rows, 2, 14, columns, 2, 14, 3)
    out = np.zeros(PATCHES * 588, np.int32)
    out[:where.size] = where.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1)
    return out


def draw(rng, maker):
    """A picture at the size the model sees before light and noise, its facts and the index of its grid."""
    index = int(rng.choice(len(GRID_LIST), p=GRID_SHARE))
    scene = None
    if maker.strips is not None and rng.random() < 0.02:        # strips are often small, and so are others
        index = GRID_LIST.index((5, 5))
        scene = "strip" if maker.negatives is None or rng.random() < 0.5 else "negative"
    rows, columns = GRID_LIST[index]
    height, width = FACTOR * rows, FACTOR * columns
    if rows * columns >= 50 and scene is None and rng.random() < 0.14:       # drawn larger, shrunk as the processor does
        factor = rng.uniform(1.15, 2.3)
        big = (int(height * factor * rng.uniform(0.94, 1.06)), int(width * factor * rng.uniform(0.94, 1.06)))
        picture, facts = maker.scene(rng, *big, rng.choice(["surface", "belt"], p=[0.6, 0.4]))
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    else:
        picture, facts = maker.scene(rng, height, width, scene)
    return picture, facts, index


def vary(rng, prompt):
    """The same question as people type it."""
    if rng.random() < 0.1:
        prompt = prompt.rstrip(".?。？")
    if rng.random() < 0.05:
        prompt = prompt.lower()
    if rng.random() < 0.04:
        prompt = ("请" if ord(prompt[0]) > 255 else "Please, ") + prompt
    return prompt


def question(rng, facts):
    """(prompt, answer, language of the answer)"""
    if rng.random() < 0.03:                                     # the other language on request
        lang = words.pick(rng, ("en", "zh"))
        make = (words.caption, words.report)[int(rng.random() < 0.3)]
        prompt = words.pick(rng, words.DESCRIBE_OTHER[lang] if make is words.caption else words.REPORT[lang])
        other = "zh" if lang == "en" else "en"
        prompt += " Answer in Chinese." if lang == "en" else "请用英文回答。"
        return prompt, make(facts, other), other
    prompt, answer, lang = words.ask(rng, facts)
    return vary(rng, prompt), answer, lang


def helper_targets(facts, rows, columns, kind, box):
    """For every image token: which defect covers it (0 none, -1 unknown), and that box's four sides from its middle."""
    kind[:] = -1
    if facts["scene"] == "strip":
        return
    kind[:rows * columns] = 0
    for d in sorted(facts["defects"], key=lambda d: -(d["box"][2] - d["box"][0]) * (d["box"][3] - d["box"][1])):
        x1, y1, x2, y2 = d["box"] * np.array([columns, rows, columns, rows])
        ys = {int(min(rows - 1, (y1 + y2) / 2))} | {y for y in range(rows) if y1 < y + 0.5 < y2}
        xs = {int(min(columns - 1, (x1 + x2) / 2))} | {x for x in range(columns) if x1 < x + 0.5 < x2}
        for y in ys:
            for x in xs:
                kind[y * columns + x] = 1 + KINDS.index(d["kind"])
                box[y * columns + x] = (x + 0.5 - x1, y + 0.5 - y1, x2 - x - 0.5, y2 - y - 0.5)


def pack(rng, voc, facts, rows, columns, out, i, asked=None):
    """Write sample i: the shared part, then as many questions as fit. asked: these (prompt, answer, lang) instead."""
    e = voc.encode
    head, first = "[gMASK]<sop>", None
    if asked is None and rng.random() < 0.12:
        head += "<|system|>\n" + words.pick(rng, words.SYSTEM)
    if asked is None and rng.random() < 0.05:                   # the text stands before the image
        first = question(rng, facts)
        head += "<|user|>\n" + first[0]
    else:
        head += "<|user|>\n"
    before = e(head + "<|begin_of_image|>")
    n, p = rows * columns, len(before)
    shared = before + [voc.image] * n + e("<|end_of_image|>")
    y, x = np.divmod(np.arange(n), columns)
    after = p + max(rows, columns)
    size = len(shared)
    ids, slot, position, branch = out["ids"][i], out["slot"][i], out["position"][i], out["branch"][i]
    ids[:], slot[:], position[:], branch[:] = 0, -1, 0, -1
    out["at"][i], out["want"][i], out["coordinate"][i] = 0, -1, -1
    ids[:size], branch[:size] = shared, 0
    position[:p] = np.arange(p)[:, None]
    slot[p:p + n] = np.arange(n)
    position[p:p + n] = np.stack([np.full(n, p), p + y, p + x], 1)
    position[p + n] = after
    at = answers = 0
    number = 1
    while True:
        if asked is not None:
            if number > len(asked):
                return
            prompt, answer, lang = asked[number - 1]
        else:
            prompt, answer, lang = first or question(rng, facts)
        if asked is None and rng.random() < 0.05:
            start = "<|assistant|>\n"
            answer = f"<think>{words.thought(rng, facts, lang)}</think><answer>{answer}"
        else:
            start = "<|assistant|>\n<think></think><answer>"
        asks = [] if first else e(prompt, loose=asked is None and rng.random() < 0.12)
        asks, says = asks + e(start), e(answer + "</answer>")
        length = len(asks) + len(says)
        if size + length > TOKENS or answers + len(says) > ANSWERS:
            return
        here = slice(size, size + length)
        ids[here], branch[here] = asks + says, number
        position[here] = (after + 1 + np.arange(length))[:, None]
        at = size + len(asks) - 1
        span = slice(answers, answers + len(says))
        out["at"][i][span] = at + np.arange(len(says))
        out["want"][i][span] = says
        for k, (token, last) in enumerate(zip(says, asks[-1:] + says)):
            if token in voc.step and last in voc.before_coordinate:
                out["coordinate"][i][answers + k] = voc.step[token]
        size, answers, number = size + length, answers + len(says), number + 1
        if first:
            return


def mirror(picture, facts):
    """The picture seen in a mirror: a second sample for hardly any work. Test patterns stay as they are."""
    if facts["scene"] == "pattern":
        return picture, facts
    turned = [d | {"box": (1 - d["box"][2], d["box"][1], 1 - d["box"][0], d["box"][3])} for d in facts["defects"]]
    return cv2.flip(picture, 1), facts | {"defects": turned}


def fill(rng, maker, voc, out, count):
    """A batch: every picture twice, as drawn and mirrored, with other questions and later other light."""
    for i in range(count):
        picture, facts, index = mirror(picture, facts) + (index,) if i % 2 else draw(rng, maker)
        rows, columns = GRID_LIST[index]
        out["pixels"][i, :picture.size] = picture.reshape(-1)
        out["developed"][i] = not needs_light(facts)
        out["grid"][i] = index
        out["box"][i] = 0
        helper_targets(facts, rows, columns, out["kind"][i], out["box"][i])
        pack(rng, voc, facts, rows, columns, out, i)


def layout(count):
    """Offsets of the fields of a batch in one block: ({name: (offset, dtype, shape)}, bytes)."""
    fields, offset = {}, 0
    for name, dtype, shape in FIELDS:
        fields[name] = (offset, np.dtype(dtype), (count, *shape))
        offset += -(-int(np.dtype(dtype).itemsize * count * np.prod(shape, dtype=np.int64)) // 256) * 256
    return fields, offset


def views(block, count):
    return {name: np.frombuffer(block, dtype, int(np.prod(shape)), offset).reshape(shape)
            for name, (offset, dtype, shape) in layout(count)[0].items()}


class Feeder:
    """workers processes fill a ring of blocks each; batch k comes from worker k % workers, so the order is fixed."""

    def __init__(self, seed, count, workers, strips, negatives=None, first=0, depth=3):
        self.count, self.workers, self.depth, self.k, self.first = count, workers, depth, first, first
        self.bytes = layout(count)[1]
        self.negatives = Negatives(negatives) if negatives else None    # read once: the workers share it
        self.memory = [mmap.mmap(-1, self.bytes * depth) for _ in range(workers)]
        context = multiprocessing.get_context("fork")
        self.free = [context.Semaphore(depth) for _ in range(workers)]
        self.ready = [context.Semaphore(0) for _ in range(workers)]
        self.processes = [context.Process(target=self.work, args=(w, seed, strips), daemon=True)
                          for w in range(workers)]
        for process in self.processes:
            process.start()

    def work(self, w, seed, strips):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        libc = ctypes.CDLL("libc.so.6")         # keep freed memory: mapping it anew for every array costs more
        libc.mallopt(-3, 1 << 30)               # than the arithmetic (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
        libc.mallopt(-1, 1 << 30)
        maker = PictureMaker(seed * 1000 + w, 2, Patterns(), Strips(strips, "train") if strips else None,
                             self.negatives)
        voc = Words()
        turn = 0
        for k in range(self.first, 1 << 40):
            if k % self.workers != w:
                continue
            self.free[w].acquire()
            block = memoryview(self.memory[w])[turn * self.bytes:(turn + 1) * self.bytes]
            fill(np.random.default_rng([seed, 3, k]), maker, voc, views(block, self.count), self.count)
            self.ready[w].release()
            turn = (turn + 1) % self.depth

    def take(self):
        """The next block: (worker, its memory, offset). Give it back with release(worker), in the same order."""
        w = self.k % self.workers
        while not self.ready[w].acquire(timeout=20):
            if not self.processes[w].is_alive():
                raise SystemExit(f"worker {w} ended")
        turn = ((self.k - self.first) // self.workers) % self.depth
        self.k += 1
        return w, self.memory[w], turn * self.bytes

    def release(self, w):
        self.free[w].release()

    def close(self):
        for process in self.processes:
            process.kill()
