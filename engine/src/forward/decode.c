/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One token further for each of several sequences. Allocates nothing; a row's logits do not depend
 * on the others. */
#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

#define MAX_SPANS 64 /* rows of one pass through the layers */

static int decode_rows(glm4v_context *c, const uint32_t *slots, const uint32_t *length,
                       const int32_t *ids, const int32_t *position, int32_t n, float *logits,
                       glm4v_error *err)
{
    glm4v_backend *b = c->stages[0].backend;
    glm4v_span spans[MAX_SPANS];
    for (int32_t i = 0; i < n; i++) {
        spans[i] = (glm4v_span) { .slot = slots[i], .length = length[i], .row = i, .n = 1 };
        glm4v_text_position(c, i, position[i], position[i], position[i]);
    }
    if (b->ops->embed(b, c->stages[0].x, &c->model->embedding, ids, n))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed to embed %d tokens",
                          b->ops->name, n);
    int rc = glm4v_text_forward(c, spans, n, n, NULL, err);
    return rc ? rc : glm4v_text_logits(c, 0, n, logits, err);
}

int glm4v_decode(glm4v_context *context, const uint32_t *slots, const uint32_t *length,
                 const int32_t *ids, const int32_t *position, uint32_t n, float *logits,
                 glm4v_error *err)
{
    if (n > context->max_rows || n > context->slots)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "decode of %u sequences; the context holds %u of %u rows", n,
                          context->slots, context->max_rows);
    for (uint32_t i = 0; i < n; i++)
        if (slots[i] >= context->slots || length[i] >= context->length)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "sequence %u of %u tokens: the context has %u of %u", slots[i],
                              length[i], context->slots, context->length);
    int rc = glm4v_check_ids(context, ids, n, err);
    const size_t V = (size_t)context->model->config.text.vocab;
    for (uint32_t i = 0; !rc && i < n; i += MAX_SPANS) {
        uint32_t rows = n - i < MAX_SPANS ? n - i : MAX_SPANS;
        rc = decode_rows(context, slots + i, length + i, ids + i, position + i, (int32_t)rows,
                         logits + (size_t)i * V, err);
    }
    return rc;
}
