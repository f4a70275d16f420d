# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write trained weights as a Hugging Face directory and compare it with transformers' own class.

    python training/export.py --weights run             writes models/surface-tiny/{model.safetensors, *.json}
    python training/export.py --weights run --check     and holds the training model against the reference, in fp32
    python training/export.py --weights run --out DIR   writes DIR instead, with the other files of models/surface-tiny/
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import data
from defects import KINDS
from frames import LONGEST, SHORTEST
from make_tokenizer import MODEL, CONTROL, VISIBLE
from model import Config, Model
from official import official
from train import load


def configs(c):
    vocabulary = json.loads((MODEL / "tokenizer.json").read_text())
    ids = {t["content"]: t["id"] for t in vocabulary["added_tokens"]}
    assert len(ids) == len(CONTROL + VISIBLE) and max(ids.values()) < c.vocabulary
    stop = [ids[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>", "</answer>")]
    pad = ids["<|endoftext|>"]
    config = {
        "architectures": ["Glm4vForConditionalGeneration"], "model_type": "glm4v", "dtype": "bfloat16",
        "tie_word_embeddings": True, "eos_token_id": stop, "pad_token_id": pad,
        "image_start_token_id": ids["<|begin_of_image|>"], "image_end_token_id": ids["<|end_of_image|>"],
        "video_start_token_id": ids["<|begin_of_video|>"], "video_end_token_id": ids["<|end_of_video|>"],
        "image_token_id": ids["<|image|>"], "video_token_id": ids["<|video|>"],
        "text_config": {
            "model_type": "glm4v_text", "vocab_size": c.vocabulary, "hidden_size": c.hidden, "intermediate_size": c.ffn,
            "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
            "hidden_act": "silu", "attention_bias": True, "attention_dropout": 0.0, "max_position_embeddings": 4096,
            "rms_norm_eps": c.eps, "initializer_range": 0.02, "use_cache": True, "eos_token_id": stop,
            "pad_token_id": pad, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": c.theta, "partial_rotary_factor": 0.5,
                                "mrope_section": list(c.sections)}},
        "vision_config": {
            "model_type": "glm4v_vision", "depth": c.vision_layers, "hidden_size": c.vision_hidden,
            "num_heads": c.vision_heads, "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0,
            "in_channels": 3, "patch_size": c.patch, "image_size": c.table * c.patch, "temporal_patch_size": 2,
            "spatial_merge_size": 2, "out_hidden_size": c.hidden, "intermediate_size": c.merger, "rms_norm_eps": c.eps,
            "initializer_range": 0.02}}
    picture = {"size": {"shortest_edge": SHORTEST, "longest_edge": LONGEST}, "do_rescale": True, "patch_size": c.patch,
               "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
               "image_std": [0.26862954, 0.26130258, 0.27577711], "processor_class": "Glm4vProcessor"}
    return {"config.json": config,
            "generation_config.json": {"do_sample": False, "eos_token_id": stop, "pad_token_id": pad},
            "preprocessor_config.json": picture | {"image_processor_type": "Glm4vImageProcessor"},
            "video_preprocessor_config.json": picture | {"video_processor_type": "Glm4vVideoProcessor"}}


def write(model, folder):
    if folder.resolve() != MODEL.resolve():
        shutil.copytree(MODEL, folder, dirs_exist_ok=True)
    save_file(official(model), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in configs(model.c).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {size} bytes in all")
    assert size <= 15_000_000


def check(model, folder, count=12):
    """Largest differences to transformers, both in fp32 with the exported weights."""
    from transformers import Glm4vForConditionalGeneration
    import numpy as np
    from pictures import PictureMaker
    reference = Glm4vForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    for p in model.parameters():
        p.data = p.data.bfloat16().float()
    voc, maker = data.Words(), PictureMaker(99, 1)
    out = data.views(bytearray(data.layout(count)[1]), count)
    data.fill(np.random.default_rng(5), maker, voc, out, count)
    b = {k: torch.from_numpy(v.copy()) for k, v in out.items()}
    b = {k: v.long() if v.dtype == torch.int32 else v for k, v in b.items()}
    from train import Developer
    pixels = Developer("cpu")(b["pixels"], b["grid"], None, light=False).float()
    with torch.no_grad():
        hidden, _ = model.eval()(pixels, b["grid"], b["ids"], b["slot"], b["position"], b["branch"])
        logits = model.logits(hidden)
        worst = 0.0
        for i in range(count):
            rows, columns = data.GRID_LIST[int(b["grid"][i])]
            keep = b["branch"][i] <= 1
            keep &= b["branch"][i] >= 0
            n = 4 * rows * columns
            px = pixels[i, :n].view(n, 3, 1, 196).expand(-1, -1, 2, -1).reshape(n, -1)
            ids = b["ids"][i][keep][None]
            theirs = reference(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=px,
                               image_grid_thw=torch.tensor([[1, 2 * rows, 2 * columns]]),
                               mm_token_type_ids=(ids == voc.image).int()).logits[0]
            ours = logits[i][keep]
            worst = max(worst, ((ours - theirs).pow(2).sum() / theirs.pow(2).sum()).item())
    print(f"normalised error of the logits against transformers: {worst:.1e}")
    assert worst < 1e-8


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    model = Model(Config(), data.GRID_LIST, len(KINDS))
    step = load(args.weights, model)
    print(f"weights of step {step}")
    write(model, args.out)
    if args.check:
        check(model, args.out)


if __name__ == "__main__":
    main()
