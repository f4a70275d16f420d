# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy a model with its linears rounded to nf4, the data type of bitsandbytes: for comparison only, nothing reads such files.

    python training/make_nf4.py models/surface-tiny out/nf4

Blocks of 64 weights in the order of the file, each over its largest magnitude, to the nearest of sixteen quantiles of the
normal distribution (QLoRA, arXiv:2305.14314, appendix E); stored as f32. As there, embedding and head stay as they are; so do
the convolutions, which are no linears.
"""
import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCK = 64


def levels():
    """Eight values from 0 to 1 and eight from -1 to 0, both with a zero, from equal steps of probability."""
    normal, offset = torch.distributions.Normal(0, 1), 0.9677083
    positive = normal.icdf(torch.linspace(offset, 0.5, 9)[:-1])
    negative = -normal.icdf(torch.linspace(offset, 0.5, 8)[:-1])
    values = torch.cat([positive, negative, torch.zeros(1)]).sort().values
    return values / values.max()


def nf4(weight, values):
    blocks = weight.float().reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / scale.clamp_min(1e-30))[..., None].sub(values).abs().argmin(-1)
    return (values[nearest] * scale).reshape(weight.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    shutil.copytree(args.source, args.target)
    tensors = load_file(args.source / "model.safetensors")
    values, n = levels(), 0
    for name, weight in tensors.items():
        if weight.ndim == 2 and name.endswith(("_proj.weight", ".qkv.weight", ".proj.weight")):
            tensors[name], n = nf4(weight, values), n + 1
        elif weight.is_floating_point():
            tensors[name] = weight.float()
    save_file(tensors, args.target / "model.safetensors", {"format": "pt"})
    print(f"{n} matrices as nf4")


if __name__ == "__main__":
    main()
