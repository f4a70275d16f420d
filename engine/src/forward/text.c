/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text model: blocks with norms before and, in glm4v, after each branch ("sandwich"), and the
 * head.
 * Prefill and decode differ in which rows they send through here: rows of one sequence, or one row
 * of each of several. Source: GLM-4-0414 (Hugging Face transformers, model type glm4v_text). */
#include <math.h>

#include "base/error.h"
#include "forward/context_priv.h"
#include "forward/position.h"

void glm4v_text_position(glm4v_context *context, int32_t row, int32_t t, int32_t h, int32_t w)
{
    const glm4v_text_config *text = &context->model->config.text;
    const size_t at = (size_t)row * (size_t)text->rotary_dim / 2;
    glm4v_text_rotary(context->host_cos + at, context->host_sin + at,
                      (const int32_t[3]) { t, h, w }, text);
}

/* Where keys and values of one layer and slot begin, in elements. */
static size_t cache_at(const glm4v_context *c, const glm4v_stage_buffers *s, int32_t layer,
                       uint32_t slot)
{
    const glm4v_text_config *text = &c->model->config.text;
    return ((size_t)slot * (size_t)s->count + (size_t)(layer - s->first)) * (size_t)text->kv_heads *
           c->length * (size_t)text->head_dim;
}

/* Rotated queries against the cache, which takes this call's keys and values first. qkv -> o. */
static int attend(glm4v_context *c, glm4v_stage_buffers *s, int32_t layer, const glm4v_span *spans,
                  int32_t n_spans)
{
    glm4v_backend *b = s->backend;
    const glm4v_text_config *text = &c->model->config.text;
    const int32_t Nh = text->heads, Nk = text->kv_heads, Dh = text->head_dim;
    const int64_t ld = (int64_t)(Nh + 2 * Nk) * Dh;
    for (int32_t i = 0; i < n_spans; i++) {
        const glm4v_span *span = &spans[i];
        const size_t cache = cache_at(c, s, layer, span->slot);
        const size_t row = (size_t)span->row * (size_t)ld;
        void *k = glm4v_kv_at(c, b, s->keys, cache), *v = glm4v_kv_at(c, b, s->values, cache);
        c->kv_jobs[i] = (glm4v_kv_job) {
            .k_cache = k,
            .v_cache = v,
            .k = glm4v_at(b, s->qkv, row + (size_t)Nh * (size_t)Dh),
            .v = glm4v_at(b, s->qkv, row + (size_t)(Nh + Nk) * (size_t)Dh),
            .position = (int32_t)span->length,
            .n = span->n,
            .bf16 = glm4v_kv_is_bf16(c->model, b),
        };
        c->jobs[i] = (glm4v_attention_job) {
            .o = glm4v_at(b, s->o, (size_t)span->row * (size_t)Nh * (size_t)Dh),
            .q = glm4v_at(b, s->qkv, row),
            .k = k,
            .v = v,
            .n_q = span->n,
            .n_k = (int32_t)span->length + span->n,
        };
    }
    const glm4v_attention shape = {
        .heads = Nh,
        .kv_heads = Nk,
        .head_dim = Dh,
        .ldo = (int64_t)Nh * Dh,
        .ldq = ld,
        .ldk = Dh,
        .ldv = Dh,
        .k_head = (int64_t)c->length * Dh,
        .v_head = (int64_t)c->length * Dh,
        .scale = 1.0f / sqrtf((float)Dh),
        .causal = true,
        .bf16 = glm4v_kv_is_bf16(c->model, b),
    };
    return b->ops->kv_append(b, c->kv_jobs, n_spans, ld, Nk, Dh, c->length) ||
           b->ops->attention(b, c->jobs, n_spans, &shape);
}

/* One block. Nonzero when the device failed. */
static int text_layer(glm4v_context *c, glm4v_stage_buffers *s, int32_t layer,
                      const glm4v_span *spans, int32_t n_spans, int32_t T)
{
    glm4v_backend *b = s->backend;
    const glm4v_text_config *text = &c->model->config.text;
    const glm4v_text_layer *w = &c->model->layers[layer];
    const int32_t D = text->hidden, Dh = text->head_dim, qkv = w->qkv.n_out;
    const float eps = text->norm_eps;
    const glm4v_norm after_attention = { .w = w->post_attn_norm, .eps = eps };
    const glm4v_norm after_mlp = { .w = w->post_mlp_norm, .eps = eps };
    const glm4v_mlp mlp = {
        .first = &w->gate_up, .second = &w->down, .wide = s->gate_up, .act = s->act
    };
    const void *act;
    return b->ops->rms_norm(b, s->branch, s->x, w->input_norm, T, D, eps, false) ||
           b->ops->linear(b, s->qkv, qkv, s->branch, D, &w->qkv, w->qkv_bias, T, false) ||
           b->ops->rope(b, s->qkv, qkv, s->cos, s->sin, T, text->heads + text->kv_heads, Dh,
                        text->rotary_dim / 2, GLM4V_ROPE_INTERLEAVED) ||
           attend(c, s, layer, spans, n_spans) ||
           glm4v_add_branch(b, s->x, s->branch, s->o, &w->o, NULL, &after_attention, T) ||
           b->ops->rms_norm(b, s->branch, s->x, w->mlp_norm, T, D, eps, false) ||
           glm4v_mlp_inner(b, &mlp, s->branch, T, &act) ||
           glm4v_add_branch(b, s->x, s->branch, act, &w->down, NULL, &after_mlp, T);
}

/* Rotary tables to the stage, and the rows from the stage before it. */
static int enter_stage(glm4v_context *c, int32_t index, int32_t T)
{
    const glm4v_text_config *text = &c->model->config.text;
    glm4v_stage_buffers *s = &c->stages[index];
    glm4v_backend *b = s->backend;
    const size_t rotary = (size_t)T * (size_t)text->rotary_dim / 2,
                 n = (size_t)T * (size_t)text->hidden;
    if (b->ops->upload_f32(b, s->cos, c->host_cos, rotary) ||
        b->ops->upload_f32(b, s->sin, c->host_sin, rotary))
        return GLM4V_ERR_DEVICE;
    if (!index)
        return 0;
    const glm4v_stage_buffers *before = s - 1;
    return before->backend->ops->download(before->backend, c->host_x, before->x, n) ||
           b->ops->upload(b, s->x, c->host_x, n);
}

int glm4v_text_forward(glm4v_context *context, const glm4v_span *spans, int32_t n_spans, int32_t T,
                       const atomic_bool *cancel, glm4v_error *err)
{
    for (int32_t i = 0; i < context->model->n_stages; i++) {
        glm4v_stage_buffers *s = &context->stages[i];
        if (enter_stage(context, i, T))
            return glm4v_fail(err, GLM4V_ERR_DEVICE, "copying %d rows to device %s failed", T,
                              s->backend->ops->name);
        for (int32_t layer = s->first; layer < s->first + s->count; layer++) {
            if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
                return glm4v_fail(err, GLM4V_ERR_CANCELED, "canceled before text layer %d", layer);
            if (text_layer(context, s, layer, spans, n_spans, T))
                return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in text layer %d",
                                  s->backend->ops->name, layer);
        }
    }
    return 0;
}

int glm4v_text_logits(glm4v_context *context, int32_t row, int32_t n, float *logits,
                      glm4v_error *err)
{
    const glm4v_model *m = context->model;
    const int32_t D = m->config.text.hidden, V = m->config.text.vocab;
    const glm4v_stage_buffers *s = &context->stages[m->n_stages - 1];
    glm4v_backend *b = s->backend;
    for (int32_t i = 0; i < n; i += (int32_t)context->logit_rows) {
        const int32_t T =
            n - i < (int32_t)context->logit_rows ? n - i : (int32_t)context->logit_rows;
        const void *x = glm4v_at(b, s->x, (size_t)(row + i) * (size_t)D);
        if (b->ops->rms_norm(b, s->branch, x, m->norm, T, D, m->config.text.norm_eps, false) ||
            b->ops->linear(b, context->logits, V, s->branch, D, &m->lm_head, NULL, T, false) ||
            b->ops->download(b, logits + (size_t)i * (size_t)V, context->logits,
                             (size_t)T * (size_t)V))
            return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in the output layer",
                              b->ops->name);
    }
    return 0;
}
