/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A piece of a prompt through the text model: embed the ids, put the pictures' rows in their
 * places, fill the KV cache, take the last row's logits. Pieces of any size give the same bytes
 * as the whole prompt at once. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

/* Rows of x in a run <- rows of vision, from the one that `start` falls on. */
static int find_places(glm4v_context *c, const glm4v_prefill_pass *a, glm4v_error *err)
{
    const int64_t D = c->model->config.text.hidden;
    glm4v_pass *p = &c->lane[GLM4V_LANE_PREFILL].pass;
    int64_t first = 0, rows = 0; /* of vision: before start, and within [start, start + n) */
    for (int64_t r = 0; r < a->prompt->n_runs; r++) {
        const glm4v_image_run *run = &a->prompt->runs[r];
        for (int64_t i = run->start; i < run->start + run->n && i < a->start + a->n; i++) {
            first += i < a->start;
            if (i >= a->start)
                c->places[rows++] = (int32_t)(i - a->start);
        }
    }
    if (!rows)
        return 0;
    if (!a->vision || rows > a->vision->n_rows || first > a->vision->n_rows - rows)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "the prompt has %" PRId64 " image tokens before token %" PRId64
                          ", but its pictures give %" PRId64 " rows",
                          first + rows, a->start + a->n, a->vision ? a->vision->n_rows : 0);
    p->rows.places = c->places;
    p->rows.n_places = rows;
    p->pictures = glm4v_at(c->stages[0].backend, a->vision->rows, first * D);
    return 0;
}

static int check(const glm4v_context *c, const glm4v_prefill_pass *a, glm4v_error *err)
{
    const int64_t L = a->prompt->n_ids;
    if (a->slot >= c->size.slots || !a->n || a->n > c->size.max_rows || a->start > L ||
        a->n > L - a->start)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "prefill of tokens %" PRId64 " to %" PRId64 " of %zu in slot %" PRId64
                          " is out of range",
                          a->start, a->start + a->n, L, a->slot);
    if (a->start + a->n > c->size.length)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "the prompt has %zu tokens, more than the context of %" PRId64, L,
                          c->size.length);
    if (a->mtp != GLM4V_MTP_NONE && !c->states)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "there is no MTP layer in this context");
    int rc = glm4v_check_ids(c, a->prompt->ids + a->start, a->n, false, err);
    for (int64_t axis = 0; !rc && axis < 3; axis++)
        rc = glm4v_check_positions(c, a->position + axis * L + a->start, a->n, err);
    return rc;
}

static int begin(glm4v_context *c, const glm4v_prefill_pass *a, float *all_logits, glm4v_error *err)
{
    const int64_t L = a->prompt->n_ids;
    glm4v_pass *p = &c->lane[GLM4V_LANE_PREFILL].pass;
    int rc = check(c, a, err);
    if (!rc)
        rc = glm4v_pass_start(c, GLM4V_LANE_PREFILL, GLM4V_PASS_TEXT, err);
    if (rc)
        return rc;
    c->prefill_span = (glm4v_step_span) { .slot = (int32_t)a->slot,
                                          .length = (int32_t)a->start,
                                          .n = (int32_t)a->n };
    c->prefill_output = c->prefill_span.n - 1;
    p->rows = (glm4v_step_rows) { .rows = a->n,
                                  .ids = a->prompt->ids + a->start,
                                  .spans = &c->prefill_span,
                                  .n_spans = 1,
                                  .outputs = &c->prefill_output,
                                  .n_outputs = a->logits || a->draw };
    for (int64_t axis = 0; axis < 3; axis++)
        p->rows.position[axis] = a->position + axis * L + a->start;
    if (a->draw) {
        c->prefill_draw = *a->draw;
        p->rows.draws = &c->prefill_draw;
    }
    p->logits = a->logits;
    p->all_logits = all_logits;
    p->mtp = (glm4v_mtp_work) { .part = a->mtp, .begins = a->start == 0 };
    if (a->mtp != GLM4V_MTP_NONE) /* the token behind the last row is not known yet */
        p->mtp.rows = a->start + a->n < L ? a->n : a->n - 1;
    rc = find_places(c, a, err);
    if (rc)
        p->kind = GLM4V_PASS_NONE;
    return rc;
}

int glm4v_prefill_begin(glm4v_context *context, const glm4v_prefill_pass *pass, glm4v_error *err)
{
    return begin(context, pass, NULL, err);
}

int glm4v_prefill(glm4v_context *context, const glm4v_prefill_pass *pass, float *logits,
                  float *all_logits, const atomic_bool *cancel, glm4v_error *err)
{
    glm4v_prefill_pass wanted = *pass;
    wanted.logits = logits != NULL;
    int rc = begin(context, &wanted, all_logits, err);
    if (!rc)
        rc = glm4v_pass_run(context, GLM4V_LANE_PREFILL, cancel, err);
    if (!rc && logits)
        memcpy(logits, context->lane[GLM4V_LANE_PREFILL].host_logits,
               context->model->config.text.vocab * sizeof *logits);
    return rc;
}
