#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the compressed-tensors package and transformers make of a checkpoint that glm4v quantize wrote.

    make_compressed.py values DIR            one line a quantized module: its name, and a digest of the weights unpacked
    make_compressed.py vectors DIR GOLDEN    run the cases of GOLDEN through DIR; writes DIR/golden.safetensors
                                             (--device cuda: on a GPU)

tests/data/compressed.txt is the first over the tiny model of the tests (build/tests/make-tiny-model DIR), in the forms that
tests/engine/test_quantize.c names. The second is for build/tests/golden-check DIR DIR/golden.safetensors.
Needs torch, safetensors, compressed-tensors; vectors: transformers. Made with torch 2.11.0, safetensors 0.8.0,
compressed-tensors 0.20.0, transformers 5.17.0, on the CPU; vectors also on an H100.
"""
import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

SUPPRESSED = 30  # ids at the end of the vocabulary that are never generated
STEPS = 24


def tensors_of(folder):
    out = {}
    for path in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            out.update({name: file.get_tensor(name) for name in file.keys()})
    return out


def fnv(values):
    """FNV-1a over the bits of f32 numbers, a number at a time."""
    digest = 0xcbf29ce484222325
    for word in np.ascontiguousarray(values, dtype="<f4").view("<u4").ravel().tolist():
        digest = (digest ^ word) * 0x100000001b3 & 0xffffffffffffffff
    return digest


def unpacked(folder):
    """The weights of each quantized module, by the package: which scheme it has is found as the package finds it."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_name
    config = QuantizationConfig.model_validate(
        json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"])
    tensors = tensors_of(folder)
    for scale in sorted(name for name in tensors if name.endswith(".weight_scale")):
        module = scale[:-len(".weight_scale")]
        kind = "Embedding" if "embed" in module else "Linear"
        assert not any(match_name(module, target) for target in config.ignore), module
        scheme = next(group for group in config.config_groups.values()
                      if any(target == kind or match_name(module, target) for target in group.targets))
        state = {name[len(module) + 1:]: value for name, value in tensors.items() if name.startswith(module + ".weight")}
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        yield module, compressor.decompress(state, scheme)["weight"]
    for name in tensors:
        if name.endswith(".weight") and name + "_scale" not in tensors and tensors[name].dim() == 2:
            module = name[:-len(".weight")]
            named = any(match_name(module, target) for group in config.config_groups.values() for target in group.targets)
            ignored = any(match_name(module, target) for target in config.ignore)
            assert ignored or not named, module


def print_values(folder):
    for module, weight in unpacked(folder):
        assert weight.dtype == torch.float32, (module, weight.dtype)
        print(f"{module} {fnv(weight.numpy()):016x}")


def load(folder, device):
    from transformers import AutoModelForImageTextToText
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.to(device)
    torch.set_default_device(device)
    with torch.no_grad():
        model(input_ids=torch.tensor([[0]]))  # the package unpacks weights before the first call of the whole model
    return model.eval()


@torch.no_grad()
def run_case(model, case):
    """Vision rows, logits and greedy tokens of one case."""
    ids = case["input_ids"].long()
    core, out = model.model, {}
    rows = core.get_input_embeddings()(ids)
    if "pixel_values" in case:
        grid = torch.tensor([[1, h, w] for t, h, w in case["grid_thw"].tolist() for _ in range(t)])
        seen = core.visual(case["pixel_values"], grid_thw=grid)
        out["vision"] = getattr(seen, "pooler_output", seen)
        rows = rows.clone()
        rows[ids == model.config.image_token_id] = out["vision"]
    positions = case["position_ids"].long()
    greedy, margins = [], []
    for step in range(STEPS):
        hidden = core.language_model(inputs_embeds=rows[None], position_ids=positions[:, None]).last_hidden_state
        logits = model.lm_head(hidden)[0]
        if step == 0:
            out["logits_last"] = logits[-1].clone()
            out["logits_mean_abs"] = logits.abs().mean(-1)
        best = logits[-1][:-SUPPRESSED].topk(2)
        greedy.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        rows = torch.cat([rows, core.get_input_embeddings()(torch.tensor(greedy[-1:]))])
        positions = torch.cat([positions, positions.max().repeat(3, 1) + 1], 1)
    out["greedy_ids"] = torch.tensor(greedy, dtype=torch.int32)
    out["greedy_margin"] = torch.tensor(margins)
    return out


def make_vectors(folder, golden, device):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = load(folder, device)
    with safe_open(golden, "pt", device) as file:
        given = {name: file.get_tensor(name) for name in file.keys()}
    out = {}
    for name in sorted({key.split(".")[0] for key in given}):
        case = {key.split(".")[1]: value for key, value in given.items() if key.split(".")[0] == name}
        case.update(run_case(model, case))
        out.update({f"{name}.{key}": value.contiguous().cpu() for key, value in case.items()})
    save_file(out, pathlib.Path(folder) / "golden.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("values", "vectors"))
    parser.add_argument("folder")
    parser.add_argument("golden", nargs="?")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.what == "values":
        print_values(options.folder)
    elif options.golden:
        make_vectors(options.folder, options.golden, options.device)
    else:
        parser.error("vectors need a file of cases")


if __name__ == "__main__":
    main()
