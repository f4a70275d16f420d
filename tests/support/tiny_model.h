/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A GLM-4V-shaped model (glm4v, chatglm4v or glm_ocr) of about 900 kB, written to disk by a program
 * of ours: the real layout (config.json, safetensors, tokenizer, processor files), seeded random
 * weights, the same bytes on every machine. It says nothing sensible; it lets every path run. No
 * dependency on the engine, so that a defect there cannot hide here. */
#ifndef GLM4V_TINY_MODEL_H
#define GLM4V_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TINY_VOCAB = 384,  /* rows of embedding and lm_head */
    TINY_BASE = 320,   /* ordinary tokens: ids 0..319; control tokens follow */
    TINY_HIDDEN = 128, /* text width, a whole int4 group */
    TINY_FFN = 144,    /* no multiple of 128: stays int8 under int4 */
    TINY_LAYERS = 2,
    TINY_HEADS = 2,
    TINY_KV_HEADS = 1,
    TINY_HEAD_DIM = 64, /* rotary 32 = 2 * (4 + 6 + 6) */
    TINY_VISION_HIDDEN = 32,
    TINY_VISION_LAYERS = 2,
    TINY_VISION_HEADS = 2,
    TINY_PATCH = 14,
    TINY_TABLE_SIDE = 4,
    TINY_MERGER_FFN = 144,
    TINY_VISION_FFN = 80, /* chatglm4v, glm_ocr: of the blocks */
    TINY_OCR_HEADS = 4,   /* glm_ocr: with head_dim twice as wide as hidden */
    TINY_OCR_KV_HEADS = 2,
};

/* Ids of the control tokens that all families share. */
enum {
    TINY_ENDOFTEXT = TINY_BASE,
    TINY_GMASK = TINY_BASE + 2,
    TINY_SOP = TINY_BASE + 4,
    TINY_SYSTEM = TINY_BASE + 6,
    TINY_USER,
    TINY_ASSISTANT,
    TINY_OBSERVATION,
    TINY_BEGIN_IMAGE,
    TINY_END_IMAGE,
    TINY_BEGIN_VIDEO,
    TINY_END_VIDEO,
    TINY_IMAGE_41V = TINY_BASE + 14, /* <|image|> of the GLM-4.1V set */
    TINY_IMAGE_45 = TINY_BASE + 34,  /* <|image|> of the GLM-4.5 set */
};

typedef enum { TINY_BF16, TINY_F32, TINY_F16 } tiny_dtype;

/* Zero: one bf16 file, nested config, GLM-4.1V control tokens, tokenizer.json, no tie. */
typedef struct {
    uint64_t seed;      /* of the weights; 0 = 1 */
    int shards;         /* files with an index; 0 and 1 = a single model.safetensors */
    tiny_dtype dtype;   /* every weight is exactly representable in all three */
    bool flat_config;   /* text keys at the top level, as GLM-4.1V's own file */
    bool glm45;         /* control tokens of the GLM-4.5 family */
    bool short_prefix;  /* tensors named model.* and visual.* */
    bool outer_prefix;  /* language_model.model.*, language_model.lm_head.weight and visual.* */
    bool split_gate_up; /* text mlp.gate_proj and mlp.up_proj in place of gate_up_proj */
    bool tied;          /* no lm_head.weight, tie_word_embeddings true */
    bool tiktoken;      /* tokenizer.model in place of tokenizer.json */
    /* family chatglm4v: its names, config.json and tokenizer.model; no processor files. Only seed,
     * shards, dtype, tied and weights_only count then. */
    bool chatglm4v;
    bool glm_ocr;      /* family glm_ocr, with control tokens of the GLM-4.5 family */
    bool resaved;      /* of glm_ocr: no MTP layer, which config.json still announces */
    bool weights_only; /* config.json and weights alone */
} tiny_model_options;

/* Write the model into dir, which is created if missing. options may be NULL. 0, or -1 with a line
 * on stderr. */
int tiny_model_write(const char *dir, const tiny_model_options *options);

/* Make a fresh temporary directory (under TMPDIR or /tmp); its path goes to dir [size]. 0 or -1. */
int tiny_model_mkdtemp(char *dir, size_t size);

/* Both: a temporary directory with the model in it. 0 or -1. */
int tiny_model_make(char *dir, size_t size, const tiny_model_options *options);

/* Remove a directory and everything in it. Refuses what does not carry the temporary name of
 * tiny_model_mkdtemp(). */
void tiny_model_remove(const char *dir);

/* Element i of the tensor that would be called name with all options zero ("lm_head.weight", ...).
 * For a fused tensor that is stored split, the fused name counts. */
float tiny_model_value(uint64_t seed, const char *name, uint64_t i);

#endif
