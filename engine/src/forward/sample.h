/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logits [V] to the next token id. What a request draws follows from its own options, seed and
 * history alone, so that other requests of a batch do not change it. */
#ifndef GLM4V_ENGINE_SAMPLE_H
#define GLM4V_ENGINE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "glm4v/glm4v.h"

typedef struct {
    float temperature; /* 0 = greedy */
    uint32_t top_k;    /* 0 = no bound */
    float top_p;       /* 1 = no bound */
    float penalty;     /* of repetition; 1 = none */
    uint64_t state;    /* of the generator */
    uint64_t *seen;    /* bit i: token i is in prompt or answer; NULL without penalty */
    int64_t vocab;
} glm4v_sampler;

/* Room for sorting, V of them. */
typedef struct {
    float logit;
    int32_t id;
} glm4v_candidate;

/* Options of task; NOMEM. */
int glm4v_sampler_init(glm4v_sampler *s, const glm4v_task *task, int64_t vocab, glm4v_error *err);
void glm4v_sampler_clear(glm4v_sampler *s);

/* A token of the prompt or of the answer, for the penalty. */
void glm4v_sampler_see(glm4v_sampler *s, int32_t id);

/* The id of the largest of n logits, of equals the lowest; any id where they are not finite. */
int32_t glm4v_largest_logit(const float *logits, int64_t n);

/* The next id, or -1 when a logit is NaN or infinite. logits [V] are overwritten; ids in the set
 * `never`, bits [V / 64 + 1] or NULL, are not chosen, at least one id must be left. scratch: V
 * candidates. */
int32_t glm4v_sampler_next(glm4v_sampler *s, float *logits, const uint64_t *never,
                           glm4v_candidate *scratch);

/* How a device chooses the next id, with mask number `mask`; took: it did, the generator goes on.
 * */
glm4v_draw glm4v_sampler_draw(const glm4v_sampler *s, int32_t mask);
void glm4v_sampler_took(glm4v_sampler *s);

#endif
