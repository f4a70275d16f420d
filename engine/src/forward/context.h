/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an engine needs beside the immutable model: KV cache slots, activation buffers, scratch; and
 * the forward passes that use them (vision.c, prefill.c, decode.c). One thread at a time: the
 * scheduler's. */
#ifndef GLM4V_ENGINE_CONTEXT_H
#define GLM4V_ENGINE_CONTEXT_H

#include <stdatomic.h>

#include "model/model.h"

typedef struct glm4v_context glm4v_context;

typedef struct {
    uint32_t slots;  /* sequences that can be prefilled and decoded, numbers [0, slots) */
    uint32_t length; /* tokens of each */
    uint32_t kept; /* tokens of one more slot, number `slots`, for copies only; 0: there is none */
    uint32_t max_rows; /* of one pass of prefill or decode */
} glm4v_context_size;

/* Allocate keys and values, and scratch for prefill and decode, which allocate nothing afterwards.
 * Keys and values are bf16 unless the text model is fp32. The model must outlive the context (the
 * engine holds a reference). INVALID, NOMEM. */
int glm4v_context_open(glm4v_context **context, const glm4v_model *model, glm4v_context_size size,
                       glm4v_error *err);
void glm4v_context_close(glm4v_context **context);

/* Bytes of one stage of an open context (planner); UINT64_MAX when they overflow. */
typedef struct {
    uint64_t kv_cache;
    uint64_t activations; /* of prefill and decode, on the device */
    uint64_t host;        /* tables and lists */
} glm4v_context_bytes;

glm4v_context_bytes glm4v_context_memory(const glm4v_model *model, int32_t stage,
                                         glm4v_context_size size);

/* Pictures of one request after the tower: rows of D activations on stage 0, in the prompt's
 * order. */
typedef struct {
    void *rows; /* [n_rows, D], device memory of stage 0 */
    uint32_t n_rows, capacity;
} glm4v_embeddings;

/* Make room for n_rows more; free. */
int glm4v_embeddings_reserve(glm4v_context *context, glm4v_embeddings *e, uint32_t n_rows,
                             glm4v_error *err);
void glm4v_embeddings_clear(glm4v_context *context, glm4v_embeddings *e);

/* vision.c: patches [grid_h * grid_w, C] (host f32) of one picture or temporal patch through the
 * tower; appends glm4v_picture_rows() rows to out. Scratch grows here if the picture is the
 * largest so far. CANCELED as soon as *cancel is set, looked at between layers (cancel may be
 * NULL). */
int glm4v_vision_encode(glm4v_context *context, glm4v_embeddings *out, const float *patches,
                        uint32_t grid_h, uint32_t grid_w, const atomic_bool *cancel,
                        glm4v_error *err);

/* prefill.c: tokens [start, start + n) of a prompt into slot; the rows before start are in the
 * cache already. n <= max_rows. position: [3][prompt->n_ids] of the whole prompt. Rows of the
 * prompt's runs are taken from vision in order. logits: NULL, or [V] of the last row. all_logits:
 * NULL, or [n, V] (reference vectors). */
int glm4v_prefill(glm4v_context *context, uint32_t slot, const glm4v_prompt *prompt,
                  const int32_t *position, uint32_t start, uint32_t n,
                  const glm4v_embeddings *vision, float *logits, float *all_logits,
                  const atomic_bool *cancel, glm4v_error *err);

/* decode.c: one token for each of n sequences (n <= max_rows). Row i: sequence slots[i] holds
 * length[i] tokens, takes ids[i] at position[i] (all three axes). logits [n, V] on the host. */
int glm4v_decode(glm4v_context *context, const uint32_t *slots, const uint32_t *length,
                 const int32_t *ids, const int32_t *position, uint32_t n, float *logits,
                 glm4v_error *err);

/* Copy the first n tokens' keys and values of all layers from one slot to another, the kept one
 * included (prefix cache). */
int glm4v_context_copy(glm4v_context *context, uint32_t to, uint32_t from, uint32_t n);

#endif
