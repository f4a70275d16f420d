/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The MTP layer: a block behind the last one, with keys and values of the same rows, that joins
 * what the model made of a token (its state, normed as for the head) with the embedding of the next
 * token, and tells the one behind that. What it tells is a draft: the model's own passes decide.
 * Of a prompt only keys and values are needed, which cost a third of a layer. Rows of pictures take
 * the embedding of their placeholder. Source: docs/model.md. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

bool glm4v_context_mtp(const glm4v_context *context)
{
    return context->states != NULL;
}

/* w->x [T, D] = joint of embeddings and of the states in w->branch. */
static int join(glm4v_context *c, glm4v_work *w, int64_t T, bool begins)
{
    glm4v_step *step = w->step;
    const glm4v_backend_ops *ops = step->backend->ops;
    const glm4v_mtp_weights *m = &c->model->mtp;
    const int64_t D = c->model->config.text.hidden;
    const float eps = c->model->config.text.norm_eps;
    const glm4v_norm of_embedding = { .w = m->embedding_norm, .eps = eps };
    const glm4v_norm of_state = { .w = m->state_norm, .eps = eps };
    glm4v_norm_rows norms = { .y = glm4v_at(step->backend, w->pair, D),
                              .ldy = 2 * D,
                              .x = w->branch,
                              .ldx = D,
                              .norm = &of_state,
                              .rows = T,
                              .groups = 1,
                              .n = D };
    const glm4v_product product = {
        .y = w->x, .ldy = D, .x = w->pair, .ldx = 2 * D, .w = &m->joint, .rows = T
    };
    int rc = ops->norm(step, &norms);
    if (!rc)
        rc = ops->embed(step, w->x, &c->model->embedding);
    if (!rc && begins) /* the first row has none */
        rc = ops->scale(step, w->x, 0, D);
    norms.y = w->pair;
    norms.x = w->x;
    norms.norm = &of_embedding;
    if (!rc)
        rc = ops->norm(step, &norms);
    return rc ? rc : ops->product(step, &product);
}

/* States of the rows -> w->branch. */
static int find_states(glm4v_context *c, glm4v_lane lane, glm4v_work *w, int64_t T)
{
    const glm4v_mtp_work *mtp = &c->lane[lane].pass.mtp;
    const int64_t D = c->model->config.text.hidden;
    const glm4v_norm norm = { .w = c->model->norm, .eps = c->model->config.text.norm_eps };
    if (lane == GLM4V_LANE_PREFILL)
        return glm4v_norm_all(w->step, w->branch, w->x, &norm, T, D);
    return w->step->backend->ops->take_rows(w->step, w->branch, mtp->chained ? w->x : c->states, D);
}

/* The step of the layer, but for logits. */
static int run_layer(glm4v_context *c, glm4v_lane lane, glm4v_stage_buffers *s)
{
    const glm4v_pass *p = &c->lane[lane].pass;
    const glm4v_mtp_work *mtp = &p->mtp;
    glm4v_work *w = &s->work[lane];
    const int64_t T = p->rows.rows, layer = c->model->config.text.layers;
    int rc = find_states(c, lane, w, T);
    if (!rc)
        rc = join(c, w, T, mtp->begins);
    if (rc)
        return rc;
    return mtp->part == GLM4V_MTP_KEYS ? glm4v_text_keys(c, s, w, layer, T)
                                       : glm4v_text_block(c, s, w, layer, T);
}

/* Logits of the rows of w->x that are wanted, which stay as they are: the next pass takes them. */
static int run_head(glm4v_context *c, glm4v_lane lane, glm4v_work *w)
{
    const int64_t n = c->lane[lane].pass.mtp.n_outputs, D = c->model->config.text.hidden;
    int rc = w->step->backend->ops->take_rows(w->step, w->branch, w->x, D);
    if (!rc)
        rc = glm4v_text_head(c, w, w->branch, w->branch, c->model->mtp.head_norm, n);
    return rc ? rc : glm4v_read_logits(c, lane, w, n);
}

typedef int (*mtp_part)(glm4v_context *c, glm4v_lane lane, glm4v_stage_buffers *s);

static int head_part(glm4v_context *c, glm4v_lane lane, glm4v_stage_buffers *s)
{
    return run_head(c, lane, &s->work[lane]);
}

/* One step with what `part` calls. */
static int run_step(glm4v_context *c, glm4v_lane lane, const glm4v_step_rows *rows, mtp_part part)
{
    glm4v_pass *p = &c->lane[lane].pass;
    glm4v_stage_buffers *s = &c->stages[p->stage];
    const glm4v_backend_ops *ops = s->backend->ops;
    int rc = ops->step_begin(s->work[lane].step, rows, &p->replayed);
    if (rc)
        return rc;
    p->open = true;
    rc = p->replayed ? 0 : part(c, lane, s);
    if (rc)
        return rc;
    p->open = false;
    return ops->step_end(s->work[lane].step);
}

/* The prompt's rows again, each with the token behind it. */
static void take_prompt(glm4v_context *c, glm4v_pass *p)
{
    c->prefill_span.n = (int32_t)p->mtp.rows;
    p->rows.rows = p->mtp.rows;
    p->rows.ids++;
    p->rows.n_places = p->rows.n_outputs = 0;
    p->rows.draws = NULL;
}

/* What settles the operations of a step of n rows that decode beside the model: whose states, and
 * what of the layer; or its head. */
static uint64_t layer_key(const glm4v_mtp_work *mtp, int64_t n)
{
    const uint64_t part = mtp->part == GLM4V_MTP_KEYS ? 0 : 1 + mtp->chained;
    return GLM4V_KEY_MTP + 4 * (uint64_t)n + part;
}

static uint64_t head_key(int64_t n)
{
    return GLM4V_KEY_MTP + 4 * (uint64_t)n + 3;
}

int glm4v_mtp_chunk(glm4v_context *c, glm4v_lane lane, glm4v_error *err)
{
    glm4v_pass *p = &c->lane[lane].pass;
    const int64_t n = p->mtp.n_outputs;
    if (lane == GLM4V_LANE_PREFILL)
        take_prompt(c, p);
    glm4v_step_rows rows = p->rows;
    rows.rotary = &c->stages[p->stage].rotary;
    rows.key = lane == GLM4V_LANE_PREFILL ? 0 : layer_key(&p->mtp, rows.rows);
    int rc = run_step(c, lane, &rows, run_layer);
    if (!rc && n) {
        const glm4v_step_rows heads = {
            .rows = n, .outputs = c->lane[lane].heads, .n_outputs = n, .key = head_key(n)
        };
        rc = run_step(c, lane, &heads, head_part);
    }
    if (rc)
        return glm4v_fail_device(err, c->stages[p->stage].backend, rc, "in the MTP layer");
    p->stage++;
    p->submitted = true;
    return 0;
}

/* ---- drafts ---- */

static int check(const glm4v_context *c, const glm4v_mtp_pass *a, glm4v_error *err)
{
    if (!c->states || a->rows.draws || a->rows.batch)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "there is no MTP layer in this context");
    if (a->n_outputs > a->rows.n)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "%" PRId64 " outputs of %" PRId64 " rows",
                          a->n_outputs, a->rows.n);
    for (int64_t i = 0; i < a->rows.n; i++)
        if (a->states[i] < GLM4V_STATE_OF_PROMPT || a->states[i] >= c->size.decode_rows)
            return glm4v_fail(err, GLM4V_ERR_INVALID, "row %" PRId64 " has state %d of %" PRId64, i,
                              a->states[i], c->size.decode_rows);
    for (int64_t i = 0; i < a->n_outputs; i++)
        if (a->outputs[i] < 0 || a->outputs[i] >= a->rows.n)
            return glm4v_fail(err, GLM4V_ERR_INVALID, "output %d of %" PRId64 " rows",
                              a->outputs[i], a->rows.n);
    return 0;
}

int glm4v_mtp_run(glm4v_context *context, const glm4v_mtp_pass *a, glm4v_error *err)
{
    glm4v_lane_state *s = &context->lane[GLM4V_LANE_DECODE];
    const int64_t n = a->rows.n;
    int64_t n_spans = 0;
    int rc = check(context, a, err);
    if (!rc)
        rc = glm4v_decode_take(context, &a->rows, &n_spans, err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        s->outputs[i] = a->states[i] == GLM4V_STATE_OF_PROMPT
                            ? (int32_t)context->size.decode_rows + a->rows.slots[i]
                            : a->states[i];
    if (a->n_outputs)
        memcpy(s->heads, a->outputs, a->n_outputs * sizeof *s->heads);
    s->pass.rows = (glm4v_step_rows) { .rows = n,
                                       .ids = s->ids,
                                       .position = { s->position, s->position, s->position },
                                       .spans = s->spans,
                                       .n_spans = n_spans,
                                       .outputs = s->outputs,
                                       .n_outputs = n };
    s->pass.mtp = (glm4v_mtp_work) { .part = a->n_outputs ? GLM4V_MTP_WHOLE : GLM4V_MTP_KEYS,
                                     .alone = true,
                                     .chained = a->chained,
                                     .n_outputs = a->n_outputs };
    return glm4v_pass_run(context, GLM4V_LANE_DECODE, NULL, err);
}
