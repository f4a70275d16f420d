/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Engine options after checking, every default filled in: used by the engine and by the planner
 * that estimates its memory. */
#ifndef GLM4V_ENGINE_LIMITS_H
#define GLM4V_ENGINE_LIMITS_H

#include "forward/context.h"

#define GLM4V_QUANTUM 8 /* pieces of work before a request lets others of equal deadline pass */

typedef struct {
    int64_t max_batch, max_pending, context_length, prefix_tokens;
    int64_t least_batch;        /* requests of a batch before a second one is made up */
    uint64_t max_pixels;        /* of one picture or frame; never 0 */
    bool json_schema;           /* for the planner: requests have one */
    glm4v_context_size context; /* the batch, and one slot that keeps the constant prefix */
} glm4v_engine_limits;

/* max_batch requests share the batches in flight, of whose decode steps each has a row for each of
 * its requests; one alone may take several. */
void glm4v_engine_limits_batch(glm4v_engine_limits *limits, int64_t max_batch);

/* options may be NULL. INVALID names the option and its range. */
int glm4v_engine_limits_of(glm4v_engine_limits *limits, const glm4v_model *model,
                           const glm4v_engine_options *options, glm4v_error *err);

/* engine.c: bytes that an engine keeps in host memory beside its context, with room for a picture
 * of so many patches (planner). */
uint64_t glm4v_engine_host_bytes(const glm4v_model *model, const glm4v_engine_limits *limits,
                                 uint64_t patches);

#endif
