/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A loaded model: configuration, tokenizer, weights on their stages. Immutable after
 * glm4v_model_open(). */
#ifndef GLM4V_ENGINE_MODEL_H
#define GLM4V_ENGINE_MODEL_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "chat/prompt.h"
#include "config/config.h"
#include "model/weights.h"
#include "picture/preprocess.h"
#include "tokenizer/tokenizer.h"

/* One transformer block of the vision tower. f32 vectors in device memory; NULL where a family has
 * none. */
typedef struct {
    float *norm1, *norm2;           /* [hidden]: of attention and of the MLP */
    float *norm1_bias, *norm2_bias; /* NULL: RMSNorm */
    glm4v_weight qkv;               /* [3 * hidden, hidden] */
    glm4v_weight proj;              /* [hidden, hidden] */
    glm4v_weight gate_up;           /* [2 * ffn, hidden]: gate rows, then up rows; gelu: [ffn, ] */
    glm4v_weight down;              /* [hidden, ffn] */
    float *q_norm, *k_norm;         /* [head_dim]: of each head */
    float *qkv_bias, *proj_bias, *gate_up_bias, *down_bias;
} glm4v_vision_layer;

typedef struct {
    glm4v_weight patch;    /* [hidden, C] */
    float *patch_bias;     /* [hidden] */
    float *post_conv_norm; /* [hidden]; NULL = none */
    /* [S * S, hidden], host memory; a class row's position before them; NULL = none */
    float *table;
    float *class_row; /* [hidden], host memory: attends with the patches; NULL = none */
    glm4v_vision_layer *layers;
    float *post_norm; /* [hidden]; NULL = none */
    /* [out, merge * merge * hidden]: inputs in the order (my, mx, channel) */
    glm4v_weight downsample;
    float *downsample_bias;                   /* [out] */
    glm4v_weight merger_proj;                 /* [out, out] */
    float *merger_norm, *merger_norm_bias;    /* [out] */
    glm4v_weight merger_gate_up, merger_down; /* [2 * merger_ffn, out], [out, merger_ffn] */
    float *begin, *end; /* [out], host memory: rows around each picture's; NULL = none */
} glm4v_vision_weights;

/* One block of the text model. */
typedef struct {
    float *input_norm;     /* before attention, [D] */
    float *post_attn_norm; /* on the attention branch's output, [D]; NULL = none */
    float *mlp_norm;       /* before the MLP, [D] */
    float *post_mlp_norm;  /* on the MLP branch's output, [D]; NULL = none */
    glm4v_weight qkv;      /* [(Nh + 2 Nk) * Dh, D]: q, k, v rows */
    float *qkv_bias;       /* or NULL */
    glm4v_weight o;        /* [D, Nh * Dh] */
    glm4v_weight gate_up;  /* [2 F, D] */
    glm4v_weight down;     /* [D, F] */
} glm4v_text_layer;

/* What is around the block of the MTP layer, which drafts tokens; see docs/model.md. It shares
 * embedding and head with the model. */
typedef struct {
    bool present;
    float *embedding_norm, *state_norm; /* [D]: of what goes into it */
    glm4v_weight joint;                 /* [D, 2 D]: of embedding and state side by side */
    float *head_norm;                   /* [D] */
} glm4v_mtp_weights;

/* Contiguous text layers on one device; activations are copied between stages. Stage 0 also holds
 * the vision tower and the embedding, the last one the head. */
typedef struct {
    glm4v_backend *backend;
    char device[16]; /* its name in the device string: "cpu", "cuda:1"; "auto" is what it became */
    int64_t first, count;
    uint64_t limit; /* of device memory that is used, bytes; 0: none */
} glm4v_stage;

struct glm4v_model {
    atomic_uint refs;
    glm4v_config config;
    glm4v_model_info info;
    glm4v_log log;
    glm4v_form form[GLM4V_N_PARTS];
    glm4v_quantization_config *quantized; /* of the checkpoint; NULL: none */
    /* NULL with weights_only, and with random_weights where there is none */
    glm4v_tokenizer *tokenizer;
    glm4v_chat chat;
    glm4v_preprocessor *preprocessor;       /* of pictures; NULL with weights_only */
    glm4v_preprocessor *video_preprocessor; /* of clips; NULL with weights_only */
    glm4v_pool *pool; /* host threads: of the CPU's operations, loading and preprocessing */
    glm4v_stage *stages;
    int64_t n_stages;
    glm4v_vision_weights vision;
    glm4v_table embedding;
    glm4v_text_layer *layers; /* [glm4v_text_blocks()]: L, then the MTP layer's */
    glm4v_mtp_weights mtp;
    float *norm;          /* [D] */
    glm4v_weight lm_head; /* [V, D] */
    /* what of the above was allocated; its sources are gone after loading */
    glm4v_plan plan;
};

/* Blocks of text layers that there may be. */
static inline int64_t glm4v_text_blocks(const glm4v_config *config)
{
    return config->text.layers + config->text.mtp;
}

/* Free m and its contents without regard to references: for model.c, and builders that failed. */
void glm4v_model_destroy(glm4v_model *m);

#endif
