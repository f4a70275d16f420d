# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy a glm4v model with its weights scaled for int4 as AWQ does it: another checkpoint of the same function.

    python training/make_awq.py models/surface-tiny out/awq --pictures out/calibration \\
        --engine build/tests/bench/quantization-bench

Activation-aware weight quantization (arXiv:2306.00978): the inputs of a matrix that are large on average are multiplied up in
the matrix and down where they come from, so that rounding errs less on them. The factors of a group of matrices with the same
inputs are s = mean|x|^alpha over their geometric middle; of 21 alphas from 0 to 1 the one is taken whose matrices, rounded to
int4 as the engine rounds them (groups of 128, best of eight scales), change the products least. x are the inputs in the
unquantized model on the folder's pictures and questions (prompts.txt), with the answers that the engine gives to them: what
`glm4v quantize --calibrate` sees. For comparison; `int4` of the result is measured beside other forms (docs/quantization.md).

Factors go into the norm before, or into the rows of the matrix before: v before o (one factor for all heads that share v's
row), up before down. The merger stays int8 under int4 and is left alone, as are embedding and head.
"""
import argparse
import json
import shutil
import subprocess
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evaluate import Reference

GROUP = 128
DIVISORS = (7, 7.25, 7.5, 7.75, 8, 8.5, 9, 9.5)
ALPHAS = [i / 20 for i in range(21)]


def int4(w):
    """What the engine's nearest rounding makes of w."""
    groups = w.reshape(len(w), -1, GROUP)
    top = groups.abs().amax(2, keepdim=True).clamp_min(1e-30)
    best, least = torch.zeros_like(groups), torch.full_like(top, torch.inf)
    for divisor in DIVISORS:
        scale = top / divisor
        value = (groups / scale).round().clamp(-8, 7) * scale
        error = (value - groups).square().sum(2, keepdim=True)
        best, least = torch.where(error < least, value, best), torch.minimum(error, least)
    return best.reshape(w.shape)


class Inputs:
    """Of one matrix, over all rows that pass: mean magnitudes and second moments."""

    def __init__(self, module):
        k = module.in_features
        self.rows, self.magnitude, self.second = 0, torch.zeros(k), torch.zeros(k, k, dtype=torch.float64)
        module.register_forward_pre_hook(self.listen)

    def listen(self, _, args):
        x = args[0].detach().reshape(-1, args[0].shape[-1])
        self.rows += len(x)
        self.magnitude += x.abs().sum(0)
        self.second += (x.T @ x).double()


def questions(folder, source, engine):
    """(picture, prompt, ids of the answer) of every picture and question."""
    lines = subprocess.run([engine, "--model", source, "--pictures", folder, "--threads", "1", "--answers", f"@{source}"],
                           check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    prompts = (folder / "prompts.txt").read_text().splitlines()
    pictures = [Image.open(file).convert("RGB") for file in sorted(folder.glob("*.png"))]
    assert len(lines) == len(pictures) * len(prompts)
    for i, line in enumerate(lines):
        yield pictures[i // len(prompts)], prompts[i % len(prompts)], json.loads(line)


def listen(source, folder, engine, names):
    """name -> Inputs of the unquantized model."""
    reference = Reference(source)
    modules = dict(reference.model.named_modules())
    inputs = {name: Inputs(modules[name]) for name in names}
    image = reference.model.config.image_token_id
    for picture, prompt, answer in questions(folder, source, engine):
        seen = reference.processor(text=[reference.prompt(prompt)], images=[picture], return_tensors="pt")
        ids = torch.cat([seen["input_ids"], torch.tensor([answer], dtype=torch.long)], 1)
        with torch.no_grad():
            reference.model(input_ids=ids, mm_token_type_ids=(ids == image).int(), pixel_values=seen["pixel_values"],
                            image_grid_thw=seen["image_grid_thw"], logits_to_keep=1)
    return inputs


def groups_of(config):
    """(matrices that share their inputs, where the factors' reciprocals go, its first row, inputs that share a factor)."""
    text, vision = config["text_config"], config["vision_config"]
    heads, of_kv = text["num_attention_heads"], text["num_key_value_heads"]
    shared = heads // of_kv, of_kv
    for i in range(text["num_hidden_layers"]):
        p = f"model.language_model.layers.{i}."
        yield [p + f"self_attn.{n}_proj" for n in "qkv"], p + "input_layernorm", 0, None
        yield [p + "self_attn.o_proj"], p + "self_attn.v_proj", 0, shared
        yield [p + "mlp.gate_up_proj"], p + "post_attention_layernorm", 0, None
        yield [p + "mlp.down_proj"], p + "mlp.gate_up_proj", text["intermediate_size"], None
    for i in range(vision["depth"]):
        p = f"model.visual.blocks.{i}."
        yield [p + "attn.qkv"], p + "norm1", 0, None
        yield [p + "attn.proj"], p + "attn.qkv", 2 * vision["hidden_size"], None
        yield [p + "mlp.gate_proj", p + "mlp.up_proj"], p + "norm2", 0, None
        yield [p + "mlp.down_proj"], p + "mlp.up_proj", 0, None


def factors(magnitude, alpha, shared):
    """(one for each input, one for each row that they come from)"""
    if shared:
        n, kv = shared
        magnitude = magnitude.reshape(kv, n, -1).mean(1)
    s = magnitude.clamp_min(1e-4) ** alpha
    s = s / (s.max() * s.min()).sqrt()
    return (s[:, None].expand(-1, n, -1).reshape(-1), s.reshape(-1)) if shared else (s, s)


def error_of(weights, s, second):
    """Sum of the squared changes of all products."""
    total = 0.0
    for w in weights:
        d = (int4(w * s) / s - w).double()
        total += float(((d @ second) * d).sum())
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--engine", required=True, help="quantization-bench of a build")
    args = parser.parse_args()
    tensors = load_file(args.source / "model.safetensors")
    groups = list(groups_of(json.loads((args.source / "config.json").read_text())))
    inputs = listen(args.source, args.pictures, args.engine, [names[0] for names, *_ in groups])
    for names, before, first, shared in groups:
        seen, weights = inputs[names[0]], [tensors[name + ".weight"].float() for name in names]
        mean = seen.magnitude / seen.rows
        errors = [error_of(weights, factors(mean, alpha, shared)[0], seen.second) for alpha in ALPHAS]
        alpha = ALPHAS[errors.index(min(errors))]
        s, rows = factors(mean, alpha, shared)
        for name, w in zip(names, weights):
            tensors[name + ".weight"] = w * s
        for suffix in (".weight", ".bias"):
            if before + suffix in tensors:
                source = tensors[before + suffix].float()
                source[first:first + len(rows)] /= rows if source.ndim == 1 else rows[:, None]
                tensors[before + suffix] = source
        print(f"{names[0]}: alpha {alpha:.2f}, error {min(errors) / errors[0]:.3f} of nearest rounding's")
    shutil.copytree(args.source, args.target)
    save_file(tensors, args.target / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
