/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A piece of a prompt through the text model: embed the ids, put the pictures' rows in their
 * places, fill the KV cache, take the last row's logits. Pieces of any size give the same bytes
 * as the whole prompt at once. */
#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

/* Rows of x in a run <- rows of vision, from the one that `start` falls on. */
static int splice(glm4v_context *c, const glm4v_prompt *prompt, uint32_t start, uint32_t n,
                  const glm4v_embeddings *vision, glm4v_error *err)
{
    const int32_t D = c->model->config.text.hidden;
    glm4v_backend *b = c->stages[0].backend;
    uint32_t first = 0, rows = 0; /* of vision: before start, and within [start, start + n) */
    for (size_t r = 0; r < prompt->n_runs; r++) {
        const glm4v_image_run *run = &prompt->runs[r];
        for (uint32_t i = run->start; i < run->start + run->n && i < start + n; i++) {
            first += i < start;
            if (i >= start)
                c->rows[rows++] = (int32_t)(i - start);
        }
    }
    if (!rows)
        return 0;
    if (!vision || rows > vision->n_rows || first > vision->n_rows - rows)
        return glm4v_fail(
            err, GLM4V_ERR_INVALID,
            "the prompt has %u image tokens before token %u, but its pictures give %u rows",
            first + rows, start + n, vision ? vision->n_rows : 0);
    if (b->ops->copy_rows(b, c->stages[0].x, c->rows,
                          glm4v_at(b, vision->rows, (size_t)first * (size_t)D), (int32_t)rows, D))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed to place %u image tokens",
                          b->ops->name, rows);
    return 0;
}

int glm4v_prefill(glm4v_context *context, uint32_t slot, const glm4v_prompt *prompt,
                  const int32_t *position, uint32_t start, uint32_t n,
                  const glm4v_embeddings *vision, float *logits, float *all_logits,
                  const atomic_bool *cancel, glm4v_error *err)
{
    const glm4v_model *m = context->model;
    glm4v_backend *b = context->stages[0].backend;
    const size_t L = prompt->n_ids;
    if (slot >= context->slots || !n || n > context->max_rows || start > L || n > L - start)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "prefill of tokens %u to %u of %zu in slot %u is out of range", start,
                          start + n, L, slot);
    if (start + n > context->length)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "the prompt has %zu tokens, more than the context of %u", L,
                          context->length);
    int rc = glm4v_check_ids(context, prompt->ids + start, n, err);
    if (rc)
        return rc;
    if (b->ops->embed(b, context->stages[0].x, &m->embedding, prompt->ids + start, (int32_t)n))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed to embed %u tokens",
                          b->ops->name, n);
    for (uint32_t i = 0; i < n; i++)
        glm4v_text_position(context, (int32_t)i, position[start + i], position[L + start + i],
                            position[2 * L + start + i]);
    const glm4v_span span = { .slot = slot, .length = start, .row = 0, .n = (int32_t)n };
    rc = splice(context, prompt, start, n, vision, err);
    if (!rc)
        rc = glm4v_text_forward(context, &span, 1, (int32_t)n, cancel, err);
    if (!rc && all_logits)
        rc = glm4v_text_logits(context, 0, (int32_t)n, all_logits, err);
    if (!rc && logits)
        rc = glm4v_text_logits(context, (int32_t)n - 1, 1, logits, err);
    return rc;
}
