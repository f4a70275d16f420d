/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Masks by the state of the answer, as bits: what a state forbids is found once and copied from
 * then on. Bounded; the mask that was used longest ago makes room. One thread at a time. */
#ifndef GLM4V_ENGINE_MASK_CACHE_H
#define GLM4V_ENGINE_MASK_CACHE_H

#include "shape/automaton.h"

#define GLM4V_CACHED_MASKS 64

/* Bytes and tokens that may follow, counted from a state. */
typedef struct {
    int64_t tokens, bytes;
} glm4v_budget;

typedef struct {
    glm4v_automaton state;
    uint64_t hash, used;
    glm4v_budget least; /* from which on the mask holds: no token is refused for lack of room */
} glm4v_cached_mask;

typedef struct {
    glm4v_cached_mask entries[GLM4V_CACHED_MASKS]; /* [n] */
    int32_t n;
    uint64_t clock;
    int64_t words;  /* of a mask */
    uint64_t *bits; /* [GLM4V_CACHED_MASKS, words] */
} glm4v_mask_cache;

/* NOMEM. */
int glm4v_mask_cache_open(glm4v_mask_cache **cache, int64_t words, glm4v_error *err);
void glm4v_mask_cache_close(glm4v_mask_cache **cache);
/* That one takes. */
uint64_t glm4v_mask_cache_bytes(int64_t words);

/* The mask of a state where it holds with this budget, valid until the next put; or NULL. */
const uint64_t *glm4v_mask_cache_get(glm4v_mask_cache *cache, const glm4v_automaton *state,
                                     const glm4v_budget *budget);
void glm4v_mask_cache_put(glm4v_mask_cache *cache, const glm4v_automaton *state,
                          const glm4v_budget *least, const uint64_t *mask);

#endif
