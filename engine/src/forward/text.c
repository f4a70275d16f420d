/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text model: blocks with norms before and, in glm4v, after each branch ("sandwich"), and the
 * head.
 * Prefill and decode differ in which rows they send through here: rows of one sequence, or one row
 * or a few of each of several. Source: GLM-4-0414 (Hugging Face transformers, model type
 * glm4v_text). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "forward/context_priv.h"

int glm4v_text_keys(glm4v_context *c, glm4v_stage_buffers *s, glm4v_work *b, int64_t layer,
                    int64_t T)
{
    const glm4v_text_config *text = &c->model->config.text;
    const glm4v_text_layer *w = &c->model->layers[layer];
    const glm4v_norm before_attention = { .w = w->input_norm, .eps = text->norm_eps };
    const glm4v_qkv in = { .in = { .norm = &before_attention,
                                   .normed = b->branch,
                                   .product = { .y = b->qkv,
                                                .ldy = w->qkv.n_out,
                                                .x = b->x,
                                                .ldx = text->hidden,
                                                .w = &w->qkv,
                                                .bias = w->qkv_bias,
                                                .rows = T } },
                           .heads = text->heads,
                           .kv = &s->kv,
                           .layer = layer - s->first };
    return glm4v_run_qkv(b->step, &in);
}

int glm4v_text_block(glm4v_context *c, glm4v_stage_buffers *s, glm4v_work *b, int64_t layer,
                     int64_t T)
{
    glm4v_step *step = b->step;
    const glm4v_text_config *text = &c->model->config.text;
    const glm4v_text_layer *w = &c->model->layers[layer];
    const int64_t D = text->hidden, Nh = text->heads, Dh = text->head_dim;
    const float eps = text->norm_eps;
    const glm4v_norm after_attention = { .w = w->post_attn_norm, .eps = eps };
    const glm4v_norm before_mlp = { .w = w->mlp_norm, .eps = eps };
    const glm4v_norm after_mlp = { .w = w->post_mlp_norm, .eps = eps };
    const glm4v_attend attend = { .o = b->o,
                                  .ldo = Nh * Dh,
                                  .q = b->qkv,
                                  .ldq = w->qkv.n_out,
                                  .heads = Nh,
                                  .scale = 1.0f / sqrtf((float)Dh),
                                  .kv = &s->kv,
                                  .layer = layer - s->first };
    const glm4v_product_add out = {
        .x = b->x, .branch = b->branch, .in = b->o, .w = &w->o, .norm = &after_attention, .rows = T
    };
    const glm4v_gate_up up = { .in = { .norm = &before_mlp,
                                       .normed = b->branch,
                                       .product = { .y = b->gate_up,
                                                    .ldy = w->gate_up.n_out,
                                                    .x = b->x,
                                                    .ldx = D,
                                                    .w = &w->gate_up,
                                                    .rows = T } },
                               .act = b->act };
    const glm4v_product_add down = {
        .x = b->x, .branch = b->branch, .in = b->act, .w = &w->down, .norm = &after_mlp, .rows = T
    };
    int rc = glm4v_text_keys(c, s, b, layer, T);
    if (!rc)
        rc = step->backend->ops->attend(step, &attend);
    if (!rc)
        rc = glm4v_run_product_add(step, &out);
    if (!rc)
        rc = glm4v_run_gate_up(step, &up);
    return rc ? rc : glm4v_run_product_add(step, &down);
}

/* ---- entering and leaving stages ---- */

/* The rows of the stage before, device to device where both can: then nobody waits. The rows stay
 * until the lane's next pass. */
static int hop(glm4v_context *c, glm4v_lane lane, int64_t stage, int64_t n)
{
    glm4v_stage_buffers *s = &c->stages[stage], *before = s - 1;
    glm4v_backend *b = s->backend, *from = before->backend;
    glm4v_event *event = before->event[lane][0];
    const glm4v_queue q = glm4v_queue_of(lane);
    void *y = s->work[lane].x, *x = before->work[lane].x;
    int rc = b->ops->copy_from ? b->ops->copy_from(b, q, y, from, x, n) : GLM4V_ERR_UNSUPPORTED;
    if (rc != GLM4V_ERR_UNSUPPORTED)
        return rc;
    rc = from->ops->event_record(from, q, event);
    if (!rc)
        rc = from->ops->sync(from, event);
    if (!rc)
        rc = from->ops->download(from, c->lane[lane].host_x, x, n);
    return rc ? rc : b->ops->upload(b, y, c->lane[lane].host_x, n);
}

/* The step of a stage: the last one chooses tokens, and feeds itself only if it also embeds. */
static glm4v_step_rows rows_of(const glm4v_context *c, const glm4v_pass *p)
{
    glm4v_step_rows rows = p->rows;
    rows.rotary = &c->stages[p->stage].rotary;
    if (p->stage != c->model->n_stages - 1)
        rows.draws = NULL;
    if (!glm4v_context_feeds_itself(c))
        rows.sampled = NULL;
    return rows;
}

/* Begin the stage's step with the rows that enter it. */
static int enter_stage(glm4v_context *c, glm4v_lane lane)
{
    glm4v_pass *p = &c->lane[lane].pass;
    glm4v_stage_buffers *s = &c->stages[p->stage];
    glm4v_work *w = &s->work[lane];
    const glm4v_backend_ops *ops = s->backend->ops;
    const int64_t D = c->model->config.text.hidden;
    int rc = p->stage ? hop(c, lane, p->stage, p->rows.rows * D) : 0;
    const glm4v_step_rows rows = rows_of(c, p);
    if (!rc)
        rc = ops->step_begin(w->step, &rows, &p->replayed);
    if (rc)
        return rc;
    p->open = true;
    p->layer = s->first;
    if (p->stage || p->replayed)
        return 0;
    rc = ops->embed(w->step, w->x, &c->model->embedding);
    return rc || !p->rows.n_places ? rc : ops->place_rows(w->step, w->x, p->pictures, D);
}

int glm4v_text_head(glm4v_context *c, glm4v_work *w, void *y, const void *x, const float *norm,
                    int64_t rows)
{
    const glm4v_model *m = c->model;
    const int64_t D = m->config.text.hidden;
    const glm4v_norm args = { .w = norm, .eps = m->config.text.norm_eps };
    const glm4v_product logits = { .y = w->logits,
                                   .ldy = m->config.text.vocab,
                                   .x = y,
                                   .ldx = D,
                                   .w = &m->lm_head,
                                   .rows = rows };
    int rc = glm4v_norm_all(w->step, y, x, &args, rows, D);
    return rc ? rc : w->step->backend->ops->logits(w->step, &logits);
}

int glm4v_read_logits(glm4v_context *c, glm4v_lane lane, glm4v_work *w, int64_t rows)
{
    const int64_t n = rows * c->model->config.text.vocab;
    return w->step->backend->ops->step_read(w->step, c->lane[lane].host_logits, w->logits,
                                            n * sizeof(float));
}

/* Every row's logits, for reference vectors: waits in between. */
static int all_outputs(glm4v_context *c, glm4v_lane lane, glm4v_work *w)
{
    const glm4v_pass *p = &c->lane[lane].pass;
    glm4v_backend *b = w->step->backend;
    glm4v_event *event = c->stages[p->stage].event[lane][0];
    const int64_t V = c->model->config.text.vocab, D = c->model->config.text.hidden;
    int rc = 0;
    for (int64_t i = 0, n; !rc && i < p->rows.rows; i += n) {
        n = p->rows.rows - i < w->outputs ? p->rows.rows - i : w->outputs;
        rc = glm4v_text_head(c, w, w->branch, glm4v_at(b, w->x, i * D), c->model->norm, n);
        if (!rc)
            rc = glm4v_read_logits(c, lane, w, n);
        if (!rc)
            rc = b->ops->step_flush(w->step);
        if (!rc)
            rc = b->ops->event_record(b, glm4v_queue_of(lane), event);
        if (!rc)
            rc = b->ops->sync(b, event);
        if (!rc)
            memcpy(p->all_logits + i * V, c->lane[lane].host_logits, n * V * sizeof(float));
    }
    return rc;
}

/* The normed state of a prompt's last row, for the MTP layer. */
static int keep_state(glm4v_context *c, glm4v_work *w, int64_t slot)
{
    glm4v_backend *b = w->step->backend;
    const int64_t D = c->model->config.text.hidden;
    void *to = glm4v_at(b, c->states, (c->size.decode_rows + slot) * D);
    return b->ops->step_copy(w->step, to, w->branch, D * b->traits->activation);
}

/* What is wanted of the rows after the last layer. */
static int outputs(glm4v_context *c, glm4v_lane lane, glm4v_work *w)
{
    const glm4v_pass *p = &c->lane[lane].pass;
    const glm4v_backend_ops *ops = w->step->backend->ops;
    const int64_t n = p->rows.n_outputs;
    const glm4v_sample sample = { .logits = w->logits,
                                  .vocab = c->model->config.text.vocab,
                                  .seen = c->seen,
                                  .masks = c->masks,
                                  .sampled = c->sampled,
                                  .ids = c->lane[lane].host_ids };
    const void *x = w->x;
    void *normed = lane >= GLM4V_LANE_DECODE && c->states ? c->states : w->branch;
    int rc = p->all_logits ? all_outputs(c, lane, w) : 0;
    if (!n || rc)
        return rc;
    if (n != p->rows.rows) {
        rc = ops->take_rows(w->step, w->branch, w->x, c->model->config.text.hidden);
        x = w->branch;
    }
    if (!rc)
        rc = glm4v_text_head(c, w, normed, x, c->model->norm, n);
    if (!rc && p->mtp.part != GLM4V_MTP_NONE)
        rc = keep_state(c, w, p->rows.spans->slot);
    if (!rc && p->rows.draws)
        rc = ops->sample(w->step, &sample);
    return rc || !p->logits ? rc : glm4v_read_logits(c, lane, w, n);
}

/* ---- chunks ---- */

/* Multiply-adds of a layer, about. */
static uint64_t layer_work(const glm4v_context *c, const glm4v_pass *p)
{
    const glm4v_text_config *text = &c->model->config.text;
    const uint64_t T = p->rows.rows, D = text->hidden;
    const uint64_t heads = text->heads * text->head_dim;
    const uint64_t kv = text->kv_heads * text->head_dim;
    uint64_t keys = 0;
    for (int64_t i = 0; i < p->rows.n_spans; i++)
        keys += (int64_t)p->rows.spans[i].n * p->rows.spans[i].length;
    return T * D * (2 * heads + 2 * kv + 3 * text->ffn) + 2 * keys * heads;
}

/* Layers of the open stage, as many as one chunk takes; decode is never cut. */
static int run_layers(glm4v_context *c, glm4v_lane lane)
{
    glm4v_pass *p = &c->lane[lane].pass;
    glm4v_stage_buffers *s = &c->stages[p->stage];
    const int64_t end = s->first + s->count;
    int64_t n =
        lane >= GLM4V_LANE_DECODE ? s->count : glm4v_chunk_layers(s->backend, layer_work(c, p));
    int rc = 0;
    if (p->replayed)
        p->layer = end;
    for (; !rc && p->layer < end && n > 0; n--) {
        rc = glm4v_text_block(c, s, &s->work[lane], p->layer, p->rows.rows);
        p->layer += !rc;
    }
    return rc;
}

/* Up to the end of the chunk or of the stage. */
static int stage_chunk(glm4v_context *c, glm4v_lane lane, glm4v_error *err)
{
    glm4v_pass *p = &c->lane[lane].pass;
    glm4v_stage_buffers *s = &c->stages[p->stage];
    glm4v_backend *b = s->backend;
    glm4v_step *step = s->work[lane].step;
    const bool last = p->stage == c->model->n_stages - 1;
    if (p->mtp.alone)
        return glm4v_mtp_chunk(c, lane, err);
    int rc = p->open ? 0 : enter_stage(c, lane);
    if (rc)
        return glm4v_fail_device(err, b, rc, "to begin a step of %" PRId64 " rows", p->rows.rows);
    if ((rc = run_layers(c, lane)))
        return glm4v_fail_device(err, b, rc, "in text layer %" PRId64, p->layer);
    if (p->layer < s->first + s->count) {
        rc = b->ops->step_flush(step);
        return rc ? glm4v_fail_device(err, b, rc, "before text layer %" PRId64, p->layer) : 0;
    }
    if (last && !p->replayed && (rc = outputs(c, lane, &s->work[lane])))
        return glm4v_fail_device(err, b, rc, "in the output layer");
    p->open = false;
    if ((rc = b->ops->step_end(step)))
        return glm4v_fail_device(err, b, rc, "to end a step of %" PRId64 " rows", p->rows.rows);
    p->mtp.alone = last && p->mtp.rows > 0;
    p->stage += !p->mtp.alone;
    p->submitted = last && !p->mtp.alone;
    return 0;
}

int glm4v_text_chunk(glm4v_context *context, glm4v_lane lane, glm4v_error *err)
{
    glm4v_pass *p = &context->lane[lane].pass;
    int rc = stage_chunk(context, lane, err);
    while (!rc && lane >= GLM4V_LANE_DECODE && !p->submitted)
        rc = stage_chunk(context, lane, err);
    return rc;
}
