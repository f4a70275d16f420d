/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An answer on its way through a schema: which tokens may come next, and which ones must. Whatever
 * is chosen among them, the answer is complete within its tokens: near their end only those are let
 * through from which the shortest completion still fits. One thread at a time. */
#ifndef GLM4V_ENGINE_CONSTRAINT_H
#define GLM4V_ENGINE_CONSTRAINT_H

#include "shape/shape.h"

#define GLM4V_MAX_ANSWER_BYTES (64 * 1024 - 4) /* chat/detokenize.h has room for so many */

typedef struct glm4v_constraint glm4v_constraint;

/* An answer of at most max_tokens. Takes the holder's part of the shape, after a failure too;
 * tokenizer outlives it. INVALID: the shortest answer does not fit. NOMEM. */
int glm4v_constraint_open(glm4v_constraint **constraint, glm4v_shape *shape,
                          const glm4v_tokenizer *tokenizer, int64_t max_tokens, glm4v_error *err);
void glm4v_constraint_close(glm4v_constraint **constraint);

/* Bytes that one takes at most, beside the shape. */
uint64_t glm4v_constraint_bytes(const glm4v_token_tries *tries, int64_t max_tokens);

/* Tokens of the shortest answer. */
int64_t glm4v_constraint_shortest(const glm4v_constraint *c);

/* The ids that may not come next, [n_ids / 64 + 1] as bits, valid until the next call, when `left`
 * tokens may still come. At least one id is left. The ids that end an answer are let through where
 * it may end. */
const uint64_t *glm4v_constraint_never(glm4v_constraint *c, int64_t left, const int32_t *stop_ids,
                                       int64_t n_stop_ids);

/* Ids that must come next, at most `most`; written as the tokenizer writes them, without those that
 * may melt into what follows. Returns how many. */
int64_t glm4v_constraint_forced(glm4v_constraint *c, int64_t left, int32_t *ids, int64_t most);

/* An allowed or forced token was chosen. */
void glm4v_constraint_take(glm4v_constraint *c, int32_t id);

/* Where the answer stands, and back there from tokens that were only tried. */
typedef struct {
    glm4v_automaton state;
    int64_t bytes;
} glm4v_constraint_place;

glm4v_constraint_place glm4v_constraint_stands(const glm4v_constraint *c);
void glm4v_constraint_go_back(glm4v_constraint *c, const glm4v_constraint_place *place);

/* Is the answer complete, so that nothing can follow? Might it end here? */
bool glm4v_constraint_done(const glm4v_constraint *c);
bool glm4v_constraint_may_end(const glm4v_constraint *c);

#endif
