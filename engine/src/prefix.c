/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The constant beginning of prompts (system prompt, markers up to the first picture) is computed
 * once: its keys and values stay in a reserved slot of the KV cache and are copied to the slot of a
 * new request. Keys depend on the tokens before them alone, so any common beginning may be used.
 * With a pictures_id that is the cache's own, the pictures are part of it.
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

/* The ids up to and with the last picture; 0 without pictures. */
static int64_t pictures_end(const glm4v_prompt *prompt)
{
    const glm4v_image_run *last = prompt->n_runs ? &prompt->runs[prompt->n_runs - 1] : NULL;
    return last ? last->start + last->n : 0;
}

/* Tokens that prompt and cache have in common; the prompt's last one is always computed, for its
 * logits. Image ids look alike: they count if the pictures are known to be the same ones, and then
 * all of them. */
static int64_t shared(const glm4v_prefix *prefix, const glm4v_request *r)
{
    const glm4v_prompt *prompt = &r->prompt;
    const bool same = r->task.pictures_id && r->task.pictures_id == prefix->pictures_id;
    const int64_t most = same ? prompt->n_ids : prompt->constant;
    int64_t n = 0;
    if (r->drafter.mtp && !prefix->mtp)
        return 0;
    while (n < prefix->n && n < most && n + 1 < prompt->n_ids && prefix->ids[n] == prompt->ids[n])
        n++;
    return n > prompt->constant && n < pictures_end(prompt) ? prompt->constant : n;
}

bool glm4v_prefix_has_pictures(const glm4v_prefix *prefix, const glm4v_request *r)
{
    return r->prompt.n_runs && shared(prefix, r) >= pictures_end(&r->prompt);
}

/* The MTP layer made its last row with the token that followed then: it is computed again, but for
 * a picture's, whose embeddings may be gone. */
static int64_t without_last(int64_t n, const glm4v_request *r)
{
    return n > pictures_end(&r->prompt) || (n && n <= r->prompt.constant) ? n - 1 : n;
}

int64_t glm4v_prefix_load(glm4v_prefix *prefix, glm4v_context *context, const glm4v_request *r)
{
    int64_t n = shared(prefix, r);
    if (r->drafter.mtp)
        n = without_last(n, r);
    if (n && glm4v_context_copy(context, r->slot, prefix->slot, n))
        return 0; /* prefill will report the failure again */
    return n;
}

/* What of a prompt is worth keeping: with pictures that may be asked about again, all of it. */
static int64_t worth_keeping(const glm4v_prefix *prefix, const glm4v_request *r)
{
    const glm4v_prompt *prompt = &r->prompt;
    int64_t n = r->task.pictures_id ? prompt->n_ids - 1 : prompt->constant;
    if (n > prefix->capacity)
        n = prefix->capacity;
    return n < pictures_end(prompt) && n > prompt->constant ? prompt->constant : n;
}

void glm4v_prefix_save(glm4v_prefix *prefix, glm4v_context *context, const glm4v_request *r)
{
    const int64_t n = worth_keeping(prefix, r);
    if (shared(prefix, r) >= n || glm4v_prefix_has_pictures(prefix, r))
        return;
    prefix->n = 0;
    if (glm4v_context_copy(context, prefix->slot, r->slot, n))
        return;
    memcpy(prefix->ids, r->prompt.ids, n * sizeof *prefix->ids);
    prefix->n = n;
    prefix->pictures_id = r->task.pictures_id;
    prefix->mtp = r->drafter.mtp;
}
