/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See mask_cache.h. */
#include "shape/mask_cache.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

uint64_t glm4v_mask_cache_bytes(int64_t words)
{
    return sizeof(glm4v_mask_cache) + GLM4V_CACHED_MASKS * words * sizeof(uint64_t);
}

int glm4v_mask_cache_open(glm4v_mask_cache **cache, int64_t words, glm4v_error *err)
{
    glm4v_mask_cache *c = glm4v_alloc(1, sizeof *c);
    if (c) {
        c->words = words;
        c->bits = glm4v_alloc_sparse(GLM4V_CACHED_MASKS * words, sizeof *c->bits);
    }
    if (!c || !c->bits) {
        glm4v_free(c);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d masks of tokens",
                          GLM4V_CACHED_MASKS);
    }
    *cache = c;
    return 0;
}

void glm4v_mask_cache_close(glm4v_mask_cache **cache)
{
    if (!*cache)
        return;
    glm4v_free((*cache)->bits);
    glm4v_free(*cache);
    *cache = NULL;
}

static glm4v_cached_mask *find(glm4v_mask_cache *c, const glm4v_automaton *state, uint64_t hash)
{
    for (int32_t i = 0; i < c->n; i++) {
        glm4v_cached_mask *m = &c->entries[i];
        if (m->hash == hash && m->state.n == state->n &&
            !memcmp(&m->state, state, glm4v_automaton_size(state)))
            return m;
    }
    return NULL;
}

static uint64_t *bits_of(const glm4v_mask_cache *c, const glm4v_cached_mask *m)
{
    return c->bits + (m - c->entries) * c->words;
}

const uint64_t *glm4v_mask_cache_get(glm4v_mask_cache *c, const glm4v_automaton *state,
                                     const glm4v_budget *budget)
{
    glm4v_cached_mask *m = find(c, state, glm4v_automaton_hash(state));
    if (!m || budget->tokens < m->least.tokens || budget->bytes < m->least.bytes)
        return NULL;
    m->used = ++c->clock;
    return bits_of(c, m);
}

/* A new place, or that of the mask that was used longest ago. */
static glm4v_cached_mask *place(glm4v_mask_cache *c)
{
    glm4v_cached_mask *oldest = &c->entries[0];
    if (c->n < GLM4V_CACHED_MASKS)
        return &c->entries[c->n++];
    for (int32_t i = 1; i < c->n; i++)
        oldest = c->entries[i].used < oldest->used ? &c->entries[i] : oldest;
    return oldest;
}

void glm4v_mask_cache_put(glm4v_mask_cache *c, const glm4v_automaton *state,
                          const glm4v_budget *least, const uint64_t *mask)
{
    const uint64_t hash = glm4v_automaton_hash(state);
    glm4v_cached_mask *m = find(c, state, hash);
    if (!m)
        m = place(c);
    m->state = *state;
    m->hash = hash;
    m->used = ++c->clock;
    m->least = *least;
    memcpy(bits_of(c, m), mask, c->words * sizeof *mask);
}
