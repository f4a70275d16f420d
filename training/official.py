# SPDX-License-Identifier: LGPL-2.1-or-later
"""The weights under the names of the public checkpoints, and back: official() for export.py, restore() to go on training."""
import torch
from safetensors.torch import load_file


def official(model):
    """The weights under the names of the public checkpoints, bf16."""
    c, out = model.c, {}
    text, visual = "model.language_model.", "model.visual."
    out[text + "embed_tokens.weight"] = model.embed.weight
    out[text + "norm.weight"] = model.norm.weight
    for i, layer in enumerate(model.layers):
        for name, p in layer.named_parameters():
            part = name if "layernorm" in name else f"mlp.{name}" if name.split(".")[0] in ("gate_up_proj", "down_proj") \
                else f"self_attn.{name}"
            out[f"{text}layers.{i}.{part}"] = p
    v = model.visual
    # a still image is given twice, as two frames: half the weight on each
    half = v.patch.weight.view(c.vision_hidden, 3, 1, c.patch, c.patch) / 2
    out[visual + "patch_embed.proj.weight"] = half.expand(-1, -1, 2, -1, -1)
    out[visual + "patch_embed.proj.bias"] = v.patch.bias
    out[visual + "post_conv_layernorm.weight"] = v.post_conv_layernorm.weight
    out[visual + "embeddings.position_embedding.weight"] = v.table
    for i, block in enumerate(v.blocks):
        for name, p in block.named_parameters():
            part = name if "norm" in name else f"attn.{name}" if name.split(".")[0] in ("qkv", "proj") else f"mlp.{name}"
            out[f"{visual}blocks.{i}.{part}"] = p
    out[visual + "post_layernorm.weight"] = v.post_layernorm.weight
    out[visual + "downsample.weight"] = v.downsample.weight.view(c.hidden, 2, 2, c.vision_hidden).permute(0, 3, 1, 2)
    out[visual + "downsample.bias"] = v.downsample.bias
    for name in ("proj.weight", "post_projection_norm.weight", "post_projection_norm.bias", "gate_proj.weight",
                 "up_proj.weight", "down_proj.weight"):
        out[f"{visual}merger.{name}"] = v.get_parameter(name)
    return {name: p.detach().to(torch.bfloat16).contiguous().clone() for name, p in out.items()}


@torch.no_grad()
def restore(model, file):
    """Fill the model with what official() wrote; the helper head, which is never written, stays as it is."""
    stored, c = {name: t.float() for name, t in load_file(file).items()}, model.c
    patch, down = "model.visual.patch_embed.proj.weight", "model.visual.downsample.weight"
    stored[patch] = stored[patch].sum(2).reshape(c.vision_hidden, -1)           # both frames of a still image
    stored[down] = stored[down].permute(0, 2, 3, 1).reshape(c.hidden, -1)
    text, visual = "model.language_model.", "model.visual."
    own = {"embed.weight": text + "embed_tokens.weight", "norm.weight": text + "norm.weight",
           "visual.patch.weight": patch, "visual.patch.bias": visual + "patch_embed.proj.bias",
           "visual.table": visual + "embeddings.position_embedding.weight"}
    for name, p in model.named_parameters():
        if name.startswith("helper."):
            continue
        part = name.split(".")
        if name in own:
            there = own[name]
        elif part[0] == "layers":
            inner = ".".join(part[2:])
            there = text + f"layers.{part[1]}." + (inner if "layernorm" in inner else f"mlp.{inner}" if part[2] in (
                "gate_up_proj", "down_proj") else f"self_attn.{inner}")
        elif part[1] == "blocks":
            inner = ".".join(part[3:])
            there = visual + f"blocks.{part[2]}." + (inner if "norm" in inner else f"attn.{inner}" if part[3] in (
                "qkv", "proj") else f"mlp.{inner}")
        elif part[1] in ("post_conv_layernorm", "post_layernorm", "downsample"):
            there = visual + ".".join(part[1:])
        else:
            there = visual + "merger." + ".".join(part[1:])
        p.copy_(stored.pop(there))
    assert not stored, f"{file}: {', '.join(stored)} have no place in the model"
