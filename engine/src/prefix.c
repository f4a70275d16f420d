/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The constant beginning of prompts (system prompt, markers up to the first picture) is computed
 * once: its keys and values stay in a reserved slot of the KV cache and are copied to the slot of a
 * new request. Keys depend on the tokens before them alone, so any common beginning may be used.
 * Called by describe.c before prefill. */
#include "base/error.h"
#include "base/mem.h"
#include "engine.h"

#include <inttypes.h>
#include <string.h>

int glm4v_prefix_open(glm4v_prefix *prefix, int64_t capacity, int64_t slot, glm4v_error *err)
{
    *prefix = (glm4v_prefix) { .capacity = capacity, .slot = slot };
    prefix->ids = glm4v_alloc(capacity, sizeof *prefix->ids);
    return prefix->ids ? 0
                       : glm4v_fail(err, GLM4V_ERR_NOMEM,
                                    "no memory for a prefix of %" PRId64 " tokens", capacity);
}

void glm4v_prefix_close(glm4v_prefix *prefix)
{
    glm4v_free(prefix->ids);
    prefix->ids = NULL;
}

/* Tokens that prompt and cache have in common; the prompt's last one is always computed, for its
 * logits. */
static int64_t shared(const glm4v_prefix *prefix, const glm4v_prompt *prompt)
{
    int64_t n = 0;
    while (n < prefix->n && n < prompt->constant && n + 1 < prompt->n_ids &&
           prefix->ids[n] == prompt->ids[n])
        n++;
    return n;
}

int64_t glm4v_prefix_load(glm4v_prefix *prefix, glm4v_context *context, const glm4v_prompt *prompt,
                          int64_t slot)
{
    int64_t n = shared(prefix, prompt);
    if (n && glm4v_context_copy(context, slot, prefix->slot, n))
        return 0; /* prefill will report the failure again */
    return n;
}

void glm4v_prefix_save(glm4v_prefix *prefix, glm4v_context *context, const glm4v_prompt *prompt,
                       int64_t slot)
{
    int64_t n = prompt->constant < prefix->capacity ? prompt->constant : prefix->capacity;
    if (shared(prefix, prompt) >= n)
        return;
    prefix->n = 0;
    if (glm4v_context_copy(context, prefix->slot, slot, n))
        return;
    memcpy(prefix->ids, prompt->ids, n * sizeof *prefix->ids);
    prefix->n = n;
}
