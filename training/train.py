# SPDX-License-Identifier: LGPL-2.1-or-later
"""Train the model that ships.

    python training/train.py --strips X-SDD --out run --steps 20000 --seconds 560
    python training/train.py --strips X-SDD --out run --steps 20000 --seconds 560 --resume run      goes on
    python training/train.py --strips X-SDD --negatives negatives-train.zip --start models/surface-tiny --out run ...
        trains a model that ships further, with pictures of other things

The helper head is not exported: with --start it learns by itself first. Stops after --seconds with weights and optimizer
state in --out (pieces of at most 15 MB), or at --steps with the learning rate at nought. The data never repeats: step k
sees the pictures of (seed, k).
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import words
from banks import Strips
from defects import KINDS
from model import Config, Model, merge_order
from official import restore
from pictures import LIGHT

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]) * 255
APART = 400         # steps that a new helper head learns by itself beside a trained model


class Muon:
    """Momentum, then the nearest orthogonal matrix (Newton-Schulz), for matrices; AdamW for everything else.
    Source: K. Jordan et al., "Muon", 2024."""

    def __init__(self, model, matrix_rate, other_rate, decay):
        matrices, rest = {}, []
        for name, p in model.named_parameters():
            if p.ndim == 2 and matrix_rate and not any(part in name for part in ("embed", "table", "helper")):
                matrices.setdefault(tuple(p.shape), []).append(p)
            else:
                rest.append(p)
        self.groups = [(ps, [torch.zeros_like(p) for p in ps]) for ps in matrices.values()]
        self.rest, self.m, self.v = rest, [torch.zeros_like(p) for p in rest], [torch.zeros_like(p) for p in rest]
        self.matrix_rate, self.other_rate, self.decay, self.count = matrix_rate, other_rate, decay, 0

    def tensors(self):
        return [t for _, ms in self.groups for t in ms] + self.m + self.v

    @staticmethod
    def orthogonal(g):
        x = g.bfloat16()
        wide = x.shape[1] > x.shape[2]
        x = x if wide else x.mT
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return (x if wide else x.mT).float()

    @torch.no_grad()
    def step(self, scale):
        self.count += 1
        for ps, ms in self.groups:
            gs = [p.grad for p in ps]
            torch._foreach_lerp_(ms, gs, 0.05)
            update = self.orthogonal(torch.stack(torch._foreach_lerp(gs, ms, 0.95)))
            rate = self.matrix_rate * scale * max(1, ps[0].shape[0] / ps[0].shape[1]) ** 0.5
            torch._foreach_mul_(ps, 1 - rate * self.decay)
            torch._foreach_add_(ps, list(update.unbind()), alpha=-rate)
        gs = [p.grad for p in self.rest]
        torch._foreach_lerp_(self.m, gs, 0.1)
        torch._foreach_mul_(self.v, 0.95)
        torch._foreach_addcmul_(self.v, gs, gs, 0.05)
        c1, c2 = 1 - 0.9 ** self.count, 1 - 0.95 ** self.count
        root = torch._foreach_sqrt(self.v)
        torch._foreach_div_(root, c2 ** 0.5)
        torch._foreach_add_(root, 1e-8)
        rate = self.other_rate * scale
        torch._foreach_mul_(self.rest, 1 - rate * self.decay)
        torch._foreach_addcdiv_(self.rest, self.m, root, -rate / c1)


class Developer:
    """Light, noise and the cut into patches for whole batches on the device: develop() of pictures.py."""

    def __init__(self, device):
        order = np.stack([data.patch_order(*grid) for grid in data.GRID_LIST])
        self.order = torch.from_numpy(order).to(device)                             # [G, P*588]
        xs, ys = [], []
        for rows, columns in data.GRID_LIST:
            y, x = merge_order(rows, columns)
            inside = np.arange(14)
            pad = lambda v, n: np.concatenate([v, np.zeros((data.PATCHES - len(v), 14))]) / max(1, n - 1) * 2 - 1  # noqa: E731
            xs.append(pad(x[:, None] * 14.0 + inside, 28 * columns))
            ys.append(pad(y[:, None] * 14.0 + inside, 28 * rows))
        self.x, self.y = (torch.from_numpy(np.stack(v)).float().to(device) for v in (xs, ys))   # [G, P, 14]
        self.mean, self.std = MEAN.view(3, 1, 1).to(device), STD.view(3, 1, 1).to(device)
        self.grey = torch.tensor([0.299, 0.587, 0.114], device=device).view(3, 1, 1)

    def __call__(self, pixels, grid, developed, light=True):
        """pixels u8 [B, P*588] -> normalized patches bf16 [B, P, 588]."""
        n = len(pixels)
        v = torch.gather(pixels, 1, self.order[grid].long()).view(n, data.PATCHES, 3, 14, 14).float()
        if light:
            one = (n, 1, 1, 1, 1)
            draw = lambda: torch.rand(one, device=v.device)                         # noqa: E731
            leave = developed.view(one) > 0

            def maybe(share, low, high, other):
                return torch.where((draw() < share) & ~leave, low + (high - low) * draw(), other)
            c = maybe(*LIGHT["uneven"], 0.0) * torch.randn(n, 5, 1, 1, 1, device=v.device).clamp(-1.8, 1.8).view(
                n, 5, 1, 1, 1)
            x, y = self.x[grid][:, :, None, None, :], self.y[grid][:, :, None, :, None]
            c = [c[:, k].view(one) for k in range(5)]
            gain = 1 + c[0] * x + c[1] * y + c[2] * (x * x - 1 / 3) + c[3] * (y * y - 1 / 3) + c[4] * x * y
            v = v * (gain * maybe(*LIGHT["exposure"], 1.0))
            v = torch.where((draw() < LIGHT["grey"]) & ~leave, (v * self.grey).sum(2, keepdim=True), v)
            share, low, high = LIGHT["tint"]
            tint = low + (high - low) * torch.rand(n, 1, 3, 1, 1, device=v.device)
            v = v * torch.where((draw() < share) & ~leave, tint, 1.0)
            noise = torch.randn(n, data.PATCHES, 1, 14, 14, device=v.device)
            v = (v + maybe(*LIGHT["noise"], 0.0) * noise + 0.5).clamp(0, 255).floor()
        return ((v - self.mean) / self.std).flatten(2).to(torch.bfloat16)


def losses(model, developer, b, coordinates, say):
    """Mean cross entropy of the answers (coordinates against a narrow bell), and of the helper head. say: a tensor, 1, or 0
    while the helper head is new to a trained model and must not move what is before it."""
    patches = developer(b["pixels"], b["grid"], b["developed"])
    hidden, image = model(patches, b["grid"], b["ids"], b["slot"], b["position"], b["branch"])
    at = b["at"][..., None].expand(-1, -1, hidden.shape[-1])
    logp = F.log_softmax(model.logits(torch.gather(hidden, 1, at)).float(), -1)
    asked, is_number = b["want"] >= 0, b["coordinate"] >= 0
    offsets = torch.arange(-3, 4, device=asked.device)
    near = coordinates[(b["coordinate"][..., None] + offsets).clamp(0, 199)]
    index = torch.where(is_number[..., None], near, b["want"].clamp(min=0)[..., None])
    bell = torch.softmax(-(offsets.float() / 0.9) ** 2 / 2, 0)
    token = -(logp.gather(-1, index) * bell).sum(-1) * asked
    numbers, text = asked & is_number, asked & ~is_number
    right = (logp.argmax(-1) == b["want"]) & text
    out = model.helper(image.detach() + say * (image - image.detach())).float()
    known, there = b["kind"] >= 0, b["kind"] > 0
    kind = F.cross_entropy(out[..., :len(KINDS) + 1].flatten(0, 1), b["kind"].clamp(min=0).flatten().long(),
                           reduction="none").view_as(b["kind"]) * known * (0.25 + there)
    side = F.smooth_l1_loss(out[..., -4:], b["box"] / 2, reduction="none", beta=0.1).sum(-1) * there
    n = lambda mask: mask.sum().clamp(min=1)                                    # noqa: E731
    answer = token.sum() / n(asked)
    helper = kind.sum() / n(known) + side.sum() / n(there)
    return answer, helper, torch.stack([(token * numbers).sum() / n(numbers), (token * text).sum() / n(text),
                                        right.sum() / n(text), kind.sum() / n(known), side.sum() / n(there)])


class Loader:
    """Blocks of the feeder as tensors on the device, one batch ahead of the training."""

    def __init__(self, feeder, device):
        self.feeder, self.device = feeder, device
        self.fields, self.bytes = data.layout(feeder.count)
        self.host = {w: torch.frombuffer(m, dtype=torch.uint8) for w, m in enumerate(feeder.memory)}
        self.cuda = device.type == "cuda"
        if self.cuda:
            for t in self.host.values():                        # page-locked: copies run beside the training
                torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(t.data_ptr(), t.numel(), 0))
            self.stream = torch.cuda.Stream()
        self.waiting = self.fetch()

    def fetch(self):
        w, _, offset = self.feeder.take()
        source = self.host[w][offset:offset + self.bytes]
        if not self.cuda:
            return source.clone(), w, None
        with torch.cuda.stream(self.stream):
            block = source.to(self.device, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        return block, w, event

    def next(self):
        block, w, event = self.waiting
        if event is not None:
            event.synchronize()
            block.record_stream(torch.cuda.current_stream())
        self.feeder.release(w)
        self.waiting = self.fetch()
        out = {}
        for name, (offset, dtype, shape) in self.fields.items():
            size = int(np.prod(shape)) * dtype.itemsize
            kind = {np.dtype(np.uint8): torch.uint8, np.dtype(np.int32): torch.int32,
                    np.dtype(np.float32): torch.float32}[dtype]
            value = block[offset:offset + size].view(kind).view(shape)
            out[name] = value.long() if dtype == np.int32 else value
        return out


def strip_check(model, developer, folder, device):
    """Share of held-out strips whose own caption is the likeliest of the seven and "something other"."""
    held, voc = Strips(folder, "held-out"), data.Words()
    rows = [(name, p) for name in held.names for _, p in held.by_class[name]]
    asked = [(words.DESCRIBE["en"], words.caption({"scene": "strip", "name": name, "defects": []}, "en"), "en")
             for name in held.names]
    asked.append((words.DESCRIBE["en"], words.caption({"scene": "other", "defects": []}, "en"), "en"))
    scores = [caption_scores(model, developer, rows, part, voc, device) for part in (asked[:4], asked[4:])]     # four fit
    truth = torch.tensor([held.names.index(name) for name, _ in rows], device=device)
    return (torch.cat(scores, 1).argmax(1) == truth).float().mean().item()


def caption_scores(model, developer, rows, asked, voc, device):
    """Log probability of each answer in asked for each picture: [rows, asked]."""
    from PIL import Image
    out = data.views(bytearray(data.layout(len(rows))[1]), len(rows))
    for i, (_, picture) in enumerate(rows):
        picture = np.asarray(Image.fromarray(picture).convert("RGB").resize((140, 140), Image.Resampling.BICUBIC))
        out["pixels"][i, :picture.size] = picture.reshape(-1)
        out["grid"][i] = data.GRID_LIST.index((5, 5))
        data.pack(None, voc, None, 5, 5, out, i, asked)
        assert out["branch"][i].max() == len(asked)
    b = {k: torch.from_numpy(v.copy()).to(device) for k, v in out.items()}
    b = {k: v.long() if v.dtype == torch.int32 else v for k, v in b.items()}
    patches = developer(b["pixels"], b["grid"], None, light=False)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        hidden, _ = model(patches, b["grid"], b["ids"], b["slot"], b["position"], b["branch"])
        logp = model.logits(hidden).float().log_softmax(-1)
    score = logp.gather(1, b["at"][..., None].expand(-1, -1, logp.shape[-1])).gather(
        -1, b["want"].clamp(min=0)[..., None])[..., 0] * (b["want"] >= 0)
    of = b["branch"].gather(1, b["at"])
    return torch.stack([(score * (of == k + 1)).sum(1) for k in range(len(asked))], 1)


def save(folder, model, optimizer, step, steps):
    """Weights fp32 and optimizer state bf16 in pieces of at most 15 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, flat in (("weights", torch.cat([p.detach().flatten() for p in model.parameters()])),
                       ("state", torch.cat([t.flatten() for t in optimizer.tensors()]).bfloat16())):
        raw = flat.cpu().contiguous().view(torch.uint8).numpy()
        for i in range(0, len(raw), 15_000_000):
            raw[i:i + 15_000_000].tofile(folder / f"{name}-{i // 15_000_000}.bin")
    (folder / "step.json").write_text(json.dumps({"step": step, "steps": steps, "count": optimizer.count}))


def load(folder, model, optimizer=None):
    def read(name, dtype):
        files = sorted(folder.glob(f"{name}-*.bin"))
        return torch.from_numpy(np.concatenate([np.fromfile(f, np.uint8) for f in files])).view(dtype).float()

    def spread(flat, tensors):
        at = 0
        for t in tensors:
            t.data.copy_(flat[at:at + t.numel()].view_as(t))
            at += t.numel()
        assert at == flat.numel()
    spread(read("weights", torch.float32), list(model.parameters()))
    info = json.loads((folder / "step.json").read_text())
    if optimizer is not None:
        spread(read("state", torch.bfloat16), optimizer.tensors())
        optimizer.count = info["count"]
    return info["step"]


def main():
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, state and log")
    parser.add_argument("--strips", required=True, help="folder of the X-SDD pictures with index.tsv")
    parser.add_argument("--negatives", type=Path, help="negatives-train.zip of make_negatives.py")
    parser.add_argument("--start", type=Path, help="folder of an exported model to begin with")
    parser.add_argument("--steps", type=int, default=0, help="length of the whole training")
    parser.add_argument("--budget", type=float, help="instead of --steps: seconds, at the speed of steps 300 to 600")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time, state saved")
    parser.add_argument("--resume", type=Path, help="folder of an earlier part")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's rate; 0: AdamW for all")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=200, help="steps between log lines")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    before = json.loads((args.resume / "step.json").read_text()) if args.resume else {"step": 0}
    first, args.steps = before["step"], args.steps or before.get("steps", 0)
    feeder = data.Feeder(args.seed, args.batch, args.workers, args.strips, args.negatives, first)   # forks: before CUDA
    torch.manual_seed(args.seed + first)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    model = Model(Config(), data.GRID_LIST, len(KINDS)).to(device)
    optimizer = Muon(model, args.matrix_rate, args.rate, args.decay)
    if args.resume:
        load(args.resume, model, optimizer)
    elif args.start:
        restore(model, args.start / "model.safetensors")
    coordinates = torch.from_numpy(data.Words().coordinates).to(device)
    function = torch.compile(losses) if device.type == "cuda" else losses
    developer = Developer(device)
    loader = Loader(feeder, device)
    parameters = list(model.parameters())
    silent, says = torch.zeros((), device=device), torch.ones((), device=device)        # the helper head's say
    total, since, waited, step, logged = torch.zeros(7, device=device), time.time(), 0.0, first, first
    print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, {device}, step {first}, "
          f"{time.time() - began:.0f} s to start", flush=True)
    while (step < args.steps or not args.steps) and time.time() - began < args.seconds:
        t = time.time()
        batch = loader.next()
        waited += time.time() - t
        with torch.autocast(device.type, torch.bfloat16):
            answer, helper, parts = function(model, developer, batch, coordinates,
                                             silent if args.start and step < APART else says)
        if not args.steps and step == 300:
            torch.cuda.synchronize()
            mark = time.time()
        if not args.steps and step == 600:
            torch.cuda.synchronize()
            args.steps = 100 * int((step + (args.budget - (time.time() - began)) * 300 / (time.time() - mark)) / 100)
            print(f"{args.steps} steps fit the budget", flush=True)
        progress = step / args.steps if args.steps else 0
        (answer + (0.5 if progress < 0.5 and not args.start else 0.2) * helper).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step(min(1, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * progress)))
        model.zero_grad(set_to_none=True)
        total += torch.cat([answer.detach()[None], parts.detach(), norm[None]])
        step += 1
        if step % args.every == 0 or step == args.steps:
            mean = (total / (step - logged)).tolist()
            rate = (step - logged) * args.batch / (time.time() - since)
            line = dict(step=step, seconds=round(time.time() - began), loss=mean[0], numbers=mean[1], text=mean[2],
                        text_right=mean[3], kind=mean[4], side=mean[5], norm=mean[6], pictures_per_second=round(rate),
                        waiting=round(waited / (time.time() - since), 2))
            if step % (args.every * 5) == 0 or step == args.steps:
                line["strips"] = strip_check(model, developer, args.strips, device)
            line = {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
            print(json.dumps(line), flush=True)
            with open(args.out / "log.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            total.zero_()
            since, waited, logged = time.time(), 0.0, step
    save(args.out, model, optimizer, step, args.steps)
    feeder.close()
    print(f"saved at step {step}, {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
