/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The next token of each of several sequences, or the next few of one: several rows of a sequence
 * in one step are a draft that is checked. Allocates nothing; a row's logits do not depend on the
 * others. A step's key is all that settles which operations it makes, so that a device may record
 * it. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

bool glm4v_context_branches(const glm4v_context *c)
{
    for (int64_t i = 0; i < c->model->n_stages; i++)
        if (!c->stages[i].backend->traits->branches)
            return false;
    return true;
}

/* What row i does in the sequence of the span before it. */
typedef enum { FOLLOWS, BRANCHES, MISFITS } place;

static place place_of(const glm4v_context *c, const glm4v_step_span *last, int32_t length)
{
    const int32_t end = last->length + last->n;
    if (length == end && last->n < c->size.span_rows)
        return FOLLOWS;
    return length < end && glm4v_context_branches(c) ? BRANCHES : MISFITS;
}

/* The rows' spans; INVALID where rows of a sequence do not follow each other. */
static int find_spans(glm4v_context *c, const glm4v_decode_rows *a, int64_t *n_spans,
                      glm4v_error *err)
{
    glm4v_step_span *spans = c->lane[GLM4V_LANE_DECODE + a->batch].spans;
    int64_t n = 0;
    for (int32_t i = 0; i < a->n; i++) {
        glm4v_step_span *last = n ? &spans[n - 1] : NULL;
        place at = BRANCHES;
        if (a->slots[i] < 0 || a->slots[i] >= c->size.slots || a->length[i] < 0 ||
            a->length[i] >= c->size.length)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "sequence %d of %d tokens: the context has %" PRId64 " of %" PRId64,
                              a->slots[i], a->length[i], c->size.slots, c->size.length);
        if (last && last->slot == a->slots[i])
            at = place_of(c, last, a->length[i]);
        if (at == MISFITS)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "row %d"
                              " of sequence %d holds %d tokens: rows of a sequence follow each "
                              "other, %" PRId64 " at most",
                              i, a->slots[i], a->length[i], c->size.span_rows);
        if (at == FOLLOWS)
            last->n++;
        else
            spans[n++] =
                (glm4v_step_span) { .slot = a->slots[i], .length = a->length[i], .row = i, .n = 1 };
    }
    *n_spans = n;
    return 0;
}

int glm4v_decode_take(glm4v_context *c, const glm4v_decode_rows *a, int64_t *n_spans,
                      glm4v_error *err)
{
    const glm4v_lane lane = GLM4V_LANE_DECODE + a->batch;
    const int64_t n = a->n, most = c->size.decode_rows;
    if (a->batch < 0 || lane >= c->n_lanes)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "batch %d in flight: the context has %" PRId64,
                          a->batch, c->size.in_flight);
    glm4v_lane_state *s = &c->lane[lane];
    if (!n || n > most)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "decode of %" PRId64 " rows; the context holds %zu of %" PRId64
                          " sequences",
                          a->n, most, c->size.slots);
    int rc = find_spans(c, a, n_spans, err);
    if (!rc)
        rc = glm4v_check_ids(c, a->ids, n, glm4v_context_feeds_itself(c), err);
    if (!rc)
        rc = glm4v_check_positions(c, a->position, n, err);
    if (!rc && a->draws && !glm4v_context_samples(c))
        rc = glm4v_fail(err, GLM4V_ERR_INVALID, "the device does not sample");
    if (!rc)
        rc = glm4v_pass_start(c, lane, GLM4V_PASS_TEXT, err);
    if (rc)
        return rc;
    memcpy(s->ids, a->ids, n * sizeof *s->ids);
    memcpy(s->position, a->position, n * sizeof *s->position);
    return 0;
}

int glm4v_decode_begin(glm4v_context *context, const glm4v_decode_rows *a, glm4v_error *err)
{
    glm4v_lane_state *s = &context->lane[GLM4V_LANE_DECODE + a->batch];
    const int64_t n = a->n;
    const bool logits = !a->draws || a->logits;
    int64_t n_spans = 0;
    int rc = glm4v_decode_take(context, a, &n_spans, err);
    if (rc)
        return rc;
    for (int32_t i = 0; i < n; i++)
        s->outputs[i] = i;
    if (a->draws)
        memcpy(s->draws, a->draws, n * sizeof *s->draws);
    s->pass.rows = (glm4v_step_rows) { .rows = n,
                                       .ids = s->ids,
                                       .position = { s->position, s->position, s->position },
                                       .spans = s->spans,
                                       .n_spans = n_spans,
                                       .outputs = s->outputs,
                                       .n_outputs = n,
                                       .draws = a->draws ? s->draws : NULL,
                                       .sampled = context->sampled,
                                       .key = 4 * n + 2 * (a->draws != NULL) + logits };
    s->pass.logits = logits;
    return 0;
}

int glm4v_decode(glm4v_context *context, const glm4v_decode_rows *rows, float *logits,
                 glm4v_error *err)
{
    const glm4v_lane lane = GLM4V_LANE_DECODE + rows->batch;
    int rc = glm4v_decode_begin(context, rows, err);
    if (!rc)
        rc = glm4v_pass_run(context, lane, NULL, err);
    if (!rc && context->lane[lane].pass.logits)
        memcpy(logits, context->lane[lane].host_logits,
               rows->n * context->model->config.text.vocab * sizeof *logits);
    return rc;
}
