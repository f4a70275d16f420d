#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write config.json, processor_config.json and cases.jsonl: what transformers makes of GLM-4.6V conversations.

    make.py CHAT_TEMPLATE      the chat_template.jinja of the GLM-4.5 family

transformers 5.17.0, torch and torchvision on the CPU, jinja2 3.1.6. Tokenizer: ../tokenizer/glm-4.5. The processor classes
of GLM-4.6V-Flash (Glm46VProcessor) with their own defaults, saved by themselves. A case is a whole conversation through the
rendered template, picture and clip sizes, frame sampling, timestamps and placeholders up to the prompt's ids. The text
template has no picture items: their markers stand in the text, where the template for pictures would put them.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.video_utils import VideoMetadata

HERE = pathlib.Path(__file__).parent
IMAGE = "<|begin_of_image|><|image|><|end_of_image|>"
VIDEO = "<|begin_of_video|><|video|><|end_of_video|>"

CASES = [
    {"prompt": "Describe the image in one sentence.", "images": [[640, 480]]},
    {"prompt": "Describe the image in one sentence.", "images": [[640, 480]], "thinking": True},
    {"system": "Answer as JSON.", "prompt": "What differs?", "images": [[300, 200], [28, 500], [90, 160]]},
    {"prompt": "表面没有缺陷？", "images": [[5000, 3500]], "thinking": True},
    {"prompt": "small", "images": [[20, 13]]},
    {"system": "S", "history": [["one", [[100, 100]], " two\n"], ["three", [], "four"]], "prompt": "five",
     "images": [[56, 84]]},
    {"system": "S", "history": [["one", [[100, 100]], "two"]], "prompt": "five", "images": [], "thinking": True},
    {"prompt": "What happens?", "clip": [64, 48, 24, 24.0]},
    {"prompt": "What happens?", "clip": [64, 48, 24, 24.0], "thinking": True},
    {"system": "S", "prompt": "And here?", "clip": [200, 120, 5, 7.0]},
    {"prompt": "longer", "clip": [32, 32, 400, 8.0]},
    {"prompt": "long", "clip": [32, 32, 800, 2.0]},
    {"prompt": "few", "clip": [640, 360, 2, 0.04]},
]


def tokenizer():
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(HERE / ".." / "tokenizer" / "glm-4.5" / "tokenizer.json"))
    return fast


def config(fast):
    """The layout that GLM-4.6V-Flash's own file has, with the small vocabulary's ids and small sizes."""
    ids = {name: fast.convert_tokens_to_ids(token) for name, token in (
        ("image_token_id", "<|image|>"), ("video_token_id", "<|video|>"),
        ("image_start_token_id", "<|begin_of_image|>"), ("image_end_token_id", "<|end_of_image|>"),
        ("video_start_token_id", "<|begin_of_video|>"), ("video_end_token_id", "<|end_of_video|>"))}
    stops = fast.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    text = {"vocab_size": 640, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "eos_token_id": stops,
            "pad_token_id": stops[0], "dtype": "bfloat16",
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.5,
                                "mrope_section": [8, 12, 12]}}
    vision = {"depth": 2, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 256, "intermediate_size": 512, "patch_size": 14,
              "image_size": 336, "spatial_merge_size": 2, "temporal_patch_size": 2}
    return transformers.Glm4vConfig(text_config=text, vision_config=vision, **ids)


def conversation(case):
    messages = []
    if "system" in case:
        messages.append({"role": "system", "content": case["system"]})
    for question, images, answer in case.get("history", []):
        messages.append({"role": "user", "content": IMAGE * len(images) + question})
        messages.append({"role": "assistant", "content": answer})
    pictures = VIDEO if "clip" in case else IMAGE * len(case["images"])
    messages.append({"role": "user", "content": pictures + case["prompt"]})
    return messages


def run(processor, case):
    text = processor.tokenizer.apply_chat_template(
        conversation(case), chat_template=processor.chat_template, tokenize=False, add_generation_prompt=True,
        enable_thinking=case.get("thinking", False))
    sizes = [size for turn in case.get("history", []) for size in turn[1]] + case.get("images", [])
    images = [Image.new("RGB", tuple(size)) for size in sizes]
    arguments = {"images": images} if images else {}
    if "clip" in case:
        width, height, n, fps = case["clip"]
        arguments["videos"] = [torch.zeros((n, 3, height, width), dtype=torch.uint8)]
        arguments["video_metadata"] = [VideoMetadata(total_num_frames=n, fps=fps, duration=None)]
    out = processor(text=[text], return_tensors="pt", **arguments)
    grids = out.get("image_grid_thw", out.get("video_grid_thw"))
    result = {"grids": grids.tolist() if grids is not None else [], "ids": out["input_ids"][0].tolist()}
    if "clip" in case:
        metadata = VideoMetadata(total_num_frames=n, fps=fps, duration=None)
        result["frames"] = np.asarray(processor.video_processor.sample_frames(metadata)).tolist()
    return result


def main():
    fast = tokenizer()
    processor = transformers.Glm46VProcessor(
        image_processor=transformers.Glm46VImageProcessor(), tokenizer=fast,
        video_processor=transformers.Glm46VVideoProcessor(), chat_template=pathlib.Path(sys.argv[1]).read_text())
    saved = {"image_processor": json.loads(processor.image_processor.to_json_string()),
             "video_processor": json.loads(processor.video_processor.to_json_string()),
             "processor_class": "Glm46VProcessor"}
    (HERE / "processor_config.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")
    (HERE / "config.json").write_text(config(fast).to_json_string(use_diff=False))
    with open(HERE / "cases.jsonl", "w") as out:
        for case in CASES:
            out.write(json.dumps({**case, **run(processor, case)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
