#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make_golden.py for family glm_ocr (GLM-OCR): a tiny random model and what must come out of it.

    tests/golden/make_golden_glm_ocr.py DIR            write config.json, model.safetensors, golden.safetensors into DIR
    tests/golden/make_golden_glm_ocr.py --verify DIR   compare this program with vectors made by somebody else

Computed in float64 with numpy, from docs/model.md and nothing of the engine. What the families share is make_golden.py's.
The MTP layer's vectors take words for the rows of pictures. tests/data/golden-tiny-glm-ocr was made with numpy
2.4.6; the same seed gives the same bytes.
"""
import sys

import numpy as np

import make_golden
from make_golden import SUPPRESSED, biases_of, block_shapes, rms_norm, shapes_around, text_layer_shapes

DRAFTS = 3


class Model(make_golden.Model):
    SEED = 5
    CONFIG = {
        "architectures": ["GlmOcrForConditionalGeneration"],
        "model_type": "glm_ocr",
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "image_start_token_id": 76, "image_end_token_id": 77,
        "video_start_token_id": 78, "video_end_token_id": 79,
        "image_token_id": 80, "video_token_id": 81,
        "text_config": {
            "model_type": "glm_ocr_text",
            "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
            "attention_bias": False, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "eos_token_id": [66, 72], "pad_token_id": 66, "num_nextn_predict_layers": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0,
                                "mrope_section": [4, 6, 6]},
        },
        "vision_config": {
            "model_type": "glm_ocr_vision",
            "depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2,
            "spatial_merge_size": 2, "in_channels": 3, "image_size": 336, "out_hidden_size": 64,
            "intermediate_size": 48, "hidden_act": "silu", "attention_bias": True, "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0},
        },
    }

    @staticmethod
    def shapes(config):
        t, v = config["text_config"], config["vision_config"]
        D, size = t["hidden_size"], v["hidden_size"] // v["num_heads"]
        shapes = shapes_around(config, v["out_hidden_size"] * v["in_channels"])
        for i in range(t["num_hidden_layers"] + 1):
            shapes |= text_layer_shapes(t, i)
        extra = f"model.language_model.layers.{t['num_hidden_layers']}."
        for name, shape in (("enorm", (D,)), ("hnorm", (D,)), ("shared_head.norm", (D,)), ("eh_proj", (D, 2 * D)),
                            ("embed_tokens", (t["vocab_size"], D)), ("shared_head.head", (t["vocab_size"], D))):
            shapes[f"{extra}{name}.weight"] = shape
        for i in range(v["depth"]):
            block = block_shapes(v, i, v["intermediate_size"])
            shapes |= block | biases_of(block, ("qkv", "proj", "gate_proj", "up_proj", "down_proj"))
            for name in ("q_norm", "k_norm"):
                shapes[f"model.visual.blocks.{i}.attn.{name}.weight"] = (size,)
        return shapes

    def place(self, x, grid_h, grid_w):
        return x

    def mtp(self, states, words, position):
        """What the MTP layer makes of the rows' states and of the words behind them."""
        B = f"model.language_model.layers.{self.text['num_hidden_layers']}."
        words[0] = 0
        both = np.concatenate([self.norm(B + "enorm", words), self.norm(B + "hnorm", states)], axis=1)
        y = self.layer(self.text["num_hidden_layers"], self.linear(B + "eh_proj")(both), position)
        return y, self.head(self.norm(B + "shared_head.norm", y))

    def drafts(self, ids, position, following, vision):
        states, ids, drafted, rows = self.states(ids[:-1], position, vision), list(ids), [], []
        for i in range(DRAFTS):
            y, logits = self.mtp(states, self.words(ids[1:]), position)
            every = logits if i == 0 else every
            rows.append(logits[-1])
            drafted.append(int(np.argmax(logits[-1][:-SUPPRESSED])))
            ids.append(drafted[-1])
            states = np.concatenate([states, y[-1:]])
            position = np.concatenate([position, np.full((3, 1), following)], axis=1)
            following += 1
        words = "_words" if vision is not None else ""
        return {"mtp_draft_logits" + words: np.array(rows), "mtp_draft_ids" + words: np.array(drafted),
                "mtp_logits" + words: every}

    def norm_heads(self, block, q, k):
        norm = lambda name, x: rms_norm(x, self.vector(f"{block}attn.{name}.weight"), self.vision["rms_norm_eps"])
        return norm("q_norm", q), norm("k_norm", k)


if __name__ == "__main__":
    sys.exit(make_golden.main(Model, __doc__))
