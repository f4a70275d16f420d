/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Engine options after checking, every default filled in: used by the engine and by the planner
 * that estimates its memory. */
#ifndef GLM4V_ENGINE_LIMITS_H
#define GLM4V_ENGINE_LIMITS_H

#include "forward/context.h"

#define GLM4V_QUANTUM 8 /* pieces of work before a request lets others of equal deadline pass */

typedef struct {
    int64_t max_batch, max_pending, context_length, prefix_tokens;
    uint64_t max_pixels;        /* of one picture or frame; never 0 */
    glm4v_context_size context; /* the batch, and one slot that keeps the constant prefix */
} glm4v_engine_limits;

/* Rows of a decode step of one of several batches in flight, which max_batch requests share: one
 * for each request; one alone may take several. */
int64_t glm4v_decode_rows_of(int64_t max_batch, int64_t in_flight);

/* options may be NULL. INVALID names the option and its range. */
int glm4v_engine_limits_of(glm4v_engine_limits *limits, const glm4v_model *model,
                           const glm4v_engine_options *options, glm4v_error *err);

/* engine.c: bytes that an engine keeps in host memory beside its context, with room for a picture
 * of so many patches (planner). */
uint64_t glm4v_engine_host_bytes(const glm4v_model *model, const glm4v_engine_limits *limits,
                                 uint64_t patches);

#endif
