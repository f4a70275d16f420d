/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The insides of a context, and the text model's passes that prefill and decode share. Private to
 * context.c, vision*.c, text.c, block.c, prefill.c and decode.c. R: rows of one call at most; S:
 * slots; D Nh Nk Dh F V as everywhere. */
#ifndef GLM4V_ENGINE_FORWARD_H
#define GLM4V_ENGINE_FORWARD_H

#include "forward/context.h"

/* Activations, rotary tables and KV cache of one stage, in memory of its device. */
typedef struct {
    glm4v_backend *backend;
    int32_t first, count; /* layers */
    void *x;              /* [R, D] residual stream */
    void *branch;         /* [R, D] what goes into a branch, then what comes out of it */
    void *qkv;            /* [R, (Nh + 2 Nk) Dh] */
    void *o;              /* [R, Nh Dh] */
    void *gate_up;        /* [R, 2 F] */
    void *act;            /* [R, F] */
    float *cos, *sin;     /* [R, rotary_dim / 2] */
    /* [S, count, Nk, length, Dh], then the kept slot [count, Nk, kept, Dh]; keys are stored
     * rotated */
    void *keys, *values;
} glm4v_stage_buffers;

#define GLM4V_GRID_CACHE 4             /* grids whose tables are kept */
#define GLM4V_GRID_CACHE_PATCHES 32768 /* patches of all of them, unless one alone is larger */

/* What depends on a picture's grid only. P: patches; N: these and a class row behind them, in
 * families that have one. */
typedef struct {
    uint32_t grid_h, grid_w; /* 0: empty entry */
    uint64_t used;           /* time of last use */
    void *position;          /* [N, hidden] position table at this grid */
    float *cos, *sin;        /* [P, head_dim / 2]; NULL without rotary */
} glm4v_grid_tables;

/* Vision scratch on stage 0. `work` is one block, used by one step of the tower after the other. */
typedef struct {
    uint32_t patches; /* room for this many */
    void *x, *branch; /* [N, hidden] */
    void *work;
    glm4v_grid_tables grids[GLM4V_GRID_CACHE];
    uint64_t clock;
} glm4v_vision_buffers;

struct glm4v_context {
    const glm4v_model *model; /* outlives the context */
    uint32_t slots, length, kept, max_rows;
    glm4v_stage_buffers *stages;
    void *logits; /* [min(S, R), V] on the last stage */
    uint32_t logit_rows;
    float *host_cos, *host_sin; /* [R, rotary_dim / 2] */
    float *host_x;              /* [R, D], with several stages: what goes from one to the next */
    int32_t *rows;              /* [R] row indices of one copy */
    glm4v_kv_job *kv_jobs;      /* [S] */
    glm4v_attention_job *jobs;  /* [S] */
    glm4v_vision_buffers vision;
};

/* Rows [row, row + n) of a call belong to the sequence in slot, which holds `length` tokens before
 * them. */
typedef struct {
    uint32_t slot, length;
    int32_t row, n;
} glm4v_span;

/* A norm over rows: LayerNorm, or without a bias RMSNorm. w NULL: the family has none here. */
typedef struct {
    const float *w, *bias; /* [n] */
    float eps;
} glm4v_norm;

/* A block's MLP: `second` of silu(gate) * up, where `first` gives gate rows, then up rows; or of
 * gelu, where it gives as many as `second` takes. */
typedef struct {
    const glm4v_weight *first, *second;
    const float *first_bias; /* or NULL */
    void *wide;              /* [T, first->n_out] */
    void *act;               /* [T, second->n_in]; not used with gelu */
} glm4v_mlp;

/* Address of element `index` of activations. */
static inline void *glm4v_at(glm4v_backend *b, const void *x, size_t index)
{
    return (char *)(uintptr_t)x + index * b->ops->activation_size(b);
}

/* Inputs of the widest product of the text model. */
int32_t glm4v_text_widest(const glm4v_text_config *text);

/* Are keys and values kept as bf16 where activations of b are wider? */
bool glm4v_kv_is_bf16(const glm4v_model *model, glm4v_backend *b);

/* Address of element `index` of keys or values. */
static inline void *glm4v_kv_at(const glm4v_context *c, glm4v_backend *b, const void *x,
                                size_t index)
{
    return glm4v_kv_is_bf16(c->model, b) ? (char *)(uintptr_t)x + index * sizeof(uint16_t)
                                         : glm4v_at(b, x, index);
}

/* block.c. All return nonzero when the device failed. y = norm(x) (+ y if add); y may be x. */
int glm4v_norm_rows(glm4v_backend *b, void *y, const void *x, const glm4v_norm *norm, int32_t T,
                    int32_t n, bool add);
/* x [T, n_out] += norm(in w^T + bias). branch: scratch [T, n_out] where there is a norm. */
int glm4v_add_branch(glm4v_backend *b, void *x, void *branch, const void *in, const glm4v_weight *w,
                     const float *bias, const glm4v_norm *norm, int32_t T);
/* All of an MLP but its second product; *out: what that takes. */
int glm4v_mlp_inner(glm4v_backend *b, const glm4v_mlp *mlp, const void *in, int32_t T,
                    const void **out);

/* Rotary row `row` of the next glm4v_text_forward(). */
void glm4v_text_position(glm4v_context *context, int32_t row, int32_t t, int32_t h, int32_t w);

/* Rows [0, T) in x of stage 0 through all layers; their keys and values are appended to the caches.
 * The result is in x of the last stage. n_spans <= S. CANCELED when *cancel was set, looked at
 * before each layer. */
int glm4v_text_forward(glm4v_context *context, const glm4v_span *spans, int32_t n_spans, int32_t T,
                       const atomic_bool *cancel, glm4v_error *err);

/* Final norm and head of rows [row, row + n) -> logits [n, V] on the host. Overwrites `branch` of
 * the last stage. */
int glm4v_text_logits(glm4v_context *context, int32_t row, int32_t n, float *logits,
                      glm4v_error *err);

/* Ids are within the vocabulary, or INVALID. */
int glm4v_check_ids(const glm4v_context *context, const int32_t *ids, size_t n, glm4v_error *err);

/* Elements of `work` that each step of the tower lays side by side. */
typedef struct {
    size_t patches;        /* stem: [P, C] */
    size_t qkv, attention; /* blocks: [N, 3 hidden] [N, hidden] */
    size_t keys, values;   /* blocks: [heads, N, Dh] */
    /* MLPs go slab by slab of S rows; merger: S' = S / merge^2 rows */
    int32_t slab, merger_slab;
    size_t wide, act;                  /* blocks: [S, 2 ffn] [S, ffn]; with gelu [S, ffn] [0] */
    size_t merged, projected;          /* merger: [S', out] twice */
    size_t merger_gate_up, merger_act; /* [S', 2 merger_ffn] [S', merger_ffn] */
    size_t largest;                    /* of the four sums */
} glm4v_vision_sizes;

/* vision_buffers.c. P: at most GLM4V_MAX_PATCHES. reserve: room for P patches; tables: those of a
 * grid, from the cache or computed. */
#define GLM4V_MAX_PATCHES (1u << 22)
glm4v_vision_sizes glm4v_vision_sizes_of(const glm4v_vision_config *v, size_t P);
int glm4v_vision_reserve(glm4v_context *context, uint32_t P, glm4v_error *err);
int glm4v_vision_tables(glm4v_context *context, glm4v_grid_tables **found, uint32_t grid_h,
                        uint32_t grid_w, glm4v_error *err);
void glm4v_vision_buffers_free(glm4v_context *context);
/* Of a picture of so many patches: what reserve and tables take, and scratch of the backend
 * (planner). UINT64_MAX: more patches than there may be. */
uint64_t glm4v_vision_scratch_bytes(const glm4v_model *model, uint64_t patches);
void glm4v_vision_backend_bytes(const glm4v_model *model, uint64_t patches, uint64_t *linear,
                                uint64_t *attention);

#endif
