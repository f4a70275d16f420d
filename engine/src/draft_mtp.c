/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drafts that the model's MTP layer makes, before a decode step. What the step before it gave, the
 * states of the tokens that were right, goes into the layer first, each with the token behind it;
 * its last row tells the first token of the draft, and each token goes back into the layer for the
 * next. Rows of the draft are replaced by true ones later. All requests of a batch share these
 * passes; they take about a fifth of a step each, so the thread waits for them.
 * Called by scheduler.c. Source: docs/model.md. */
#include "engine.h"
#include "forward/sample.h"

/* Rows of one pass. */
typedef struct {
    int32_t slots[GLM4V_MAX_BATCH], length[GLM4V_MAX_BATCH], ids[GLM4V_MAX_BATCH];
    int32_t position[GLM4V_MAX_BATCH], states[GLM4V_MAX_BATCH];
    int64_t n;
    glm4v_request *drafting[GLM4V_MAX_BATCH]; /* [n_outputs], of outputs */
    int32_t outputs[GLM4V_MAX_BATCH];         /* their last rows */
    int64_t n_outputs;
} mtp_rows;

static void add_row(mtp_rows *rows, const glm4v_request *r, int64_t length, int32_t id,
                    int32_t state)
{
    rows->slots[rows->n] = (int32_t)r->slot;
    rows->length[rows->n] = (int32_t)length;
    rows->ids[rows->n] = id;
    rows->position[rows->n] = r->next_position + (int32_t)(length - r->length);
    rows->states[rows->n++] = state;
}

static void add_output(mtp_rows *rows, glm4v_request *r)
{
    rows->outputs[rows->n_outputs] = (int32_t)rows->n - 1;
    rows->drafting[rows->n_outputs++] = r;
}

/* Rows that are in the model's cache, but not yet in the layer's. */
static int64_t behind(const glm4v_request *r)
{
    return r->drafter.mtp ? r->length - r->mtp_length : 0;
}

static bool drafts(const glm4v_request *r)
{
    return r->drafter.n && r->drafter.source == GLM4V_DRAFT_MTP;
}

/* A request comes up to date: each row with the token behind it, of which all are known. */
static void add_behind(mtp_rows *rows, glm4v_request *r)
{
    const glm4v_drafter *d = &r->drafter;
    const int64_t of_prompt = d->n_text - r->length - r->n_ahead; /* less by those of pictures */
    if (!behind(r))
        return;
    for (int64_t i = r->mtp_length; i < r->length; i++)
        add_row(rows, r, i, d->text[of_prompt + i + 1],
                r->mtp_state == GLM4V_STATE_OF_PROMPT
                    ? r->mtp_state
                    : r->mtp_state + (int32_t)(i - r->mtp_length));
    r->mtp_length = r->length;
    if (drafts(r))
        add_output(rows, r);
}

static int run(glm4v_engine *engine, const mtp_rows *rows, bool chained, glm4v_error *err)
{
    const glm4v_mtp_pass pass = {
        .rows = { rows->slots, rows->length, rows->ids, rows->position, rows->n, NULL },
        .states = rows->states,
        .chained = chained,
        .outputs = rows->outputs,
        .n_outputs = rows->n_outputs,
    };
    return rows->n ? glm4v_mtp_run(engine->context, &pass, err) : 0;
}

/* Token `at` of the drafts, from the logits of a pass. */
static void take_tokens(const glm4v_engine *engine, const mtp_rows *rows, int64_t at)
{
    const int64_t vocab = engine->model->config.text.vocab;
    const float *logits = glm4v_pass_logits(engine->context, GLM4V_LANE_DECODE);
    for (int64_t i = 0; i < rows->n_outputs; i++)
        rows->drafting[i]->drafter.ids[at] = glm4v_largest_logit(logits + i * vocab, vocab);
}

/* Those whose drafts go on behind token `at - 1`. */
static void add_next(mtp_rows *next, const mtp_rows *last, int64_t at)
{
    for (int64_t i = 0; i < last->n_outputs; i++) {
        glm4v_request *r = last->drafting[i];
        if (r->drafter.n <= at)
            continue;
        add_row(next, r, r->length + at - 1, r->drafter.ids[at - 1], last->outputs[i]);
        add_output(next, r);
    }
}

static int draft(glm4v_engine *engine, mtp_rows *rows, glm4v_error *err)
{
    int rc = run(engine, rows, false, err);
    for (int64_t at = 0; !rc && rows->n_outputs; at++) {
        mtp_rows next = { .n = 0 };
        take_tokens(engine, rows, at);
        add_next(&next, rows, at + 1);
        rc = run(engine, &next, true, err);
        *rows = next;
    }
    return rc;
}

/* More rows than a pass has room for, of requests that have just begun beside others whose drafts
 * were right: some do without a draft. */
static void fit(const glm4v_batch *batch, int64_t room)
{
    for (int64_t i = 0; i < batch->n; i++) {
        glm4v_request *r = batch->request[i];
        if (!drafts(r))
            continue;
        if (behind(r) > room) {
            r->n_rows -= r->drafter.n;
            r->drafter.n = 0;
        } else {
            room -= behind(r);
        }
    }
}

/* Those without a draft, in passes of their own. */
static int catch_up(glm4v_engine *engine, const glm4v_batch *batch, int64_t room, glm4v_error *err)
{
    mtp_rows rows = { .n = 0 };
    int rc = 0;
    for (int64_t i = 0; !rc && i < batch->n; i++) {
        glm4v_request *r = batch->request[i];
        if (drafts(r))
            continue;
        if (rows.n + behind(r) > room) {
            rc = run(engine, &rows, false, err);
            rows.n = 0;
        }
        add_behind(&rows, r);
    }
    return rc ? rc : run(engine, &rows, false, err);
}

int glm4v_draft_fill(glm4v_engine *engine, const glm4v_batch *batch, glm4v_error *err)
{
    const int64_t room = engine->limits.context.decode_rows;
    mtp_rows rows = { .n = 0 };
    int64_t all = 0;
    int rc = 0;
    for (int64_t i = 0; i < batch->n; i++)
        all += behind(batch->request[i]);
    if (all > room) {
        fit(batch, room);
        rc = catch_up(engine, batch, room, err);
    }
    for (int64_t i = 0; !rc && i < batch->n; i++)
        add_behind(&rows, batch->request[i]);
    return rc ? rc : draft(engine, &rows, err);
}
