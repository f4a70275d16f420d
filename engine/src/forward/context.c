/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* KV cache, activation buffers and scratch of one engine, all taken here; vision scratch alone
 * grows later, with the largest picture seen. The planner's figures come from the same list of
 * sizes as the allocations. */
#include "forward/context.h"

#include "base/error.h"
#include "base/mem.h"
#include "forward/context_priv.h"

/* Elements of each buffer of one stage. */
typedef struct {
    size_t x, branch, qkv, o, gate_up, act, rotary, cache, logits;
} stage_sizes;

static bool multiply(size_t *r, size_t a, size_t b, size_t c)
{
    return !glm4v_mul_overflow(a, b, r) && !glm4v_mul_overflow(*r, c, r);
}

static bool is_last(const glm4v_model *model, int32_t stage)
{
    return stage == model->n_stages - 1;
}

/* Rows of logits held at a time. */
static size_t logit_rows(glm4v_context_size size)
{
    return size.slots < size.max_rows ? size.slots : size.max_rows;
}

/* False if a size overflows. */
static bool sizes_of(stage_sizes *s, const glm4v_model *model, int32_t stage,
                     glm4v_context_size size)
{
    const glm4v_text_config *text = &model->config.text;
    const size_t heads = (size_t)text->heads + 2 * (size_t)text->kv_heads, rows = size.max_rows;
    const size_t kv_heads = (size_t)model->stages[stage].count * (size_t)text->kv_heads;
    size_t tokens;
    return multiply(&s->x, rows, (size_t)text->hidden, 1) &&
           multiply(&s->branch, rows, (size_t)text->hidden, 1) &&
           multiply(&s->qkv, rows, heads, (size_t)text->head_dim) &&
           multiply(&s->o, rows, (size_t)text->heads, (size_t)text->head_dim) &&
           multiply(&s->gate_up, rows, 2, (size_t)text->ffn) &&
           multiply(&s->act, rows, (size_t)text->ffn, 1) &&
           multiply(&s->rotary, rows, (size_t)text->rotary_dim / 2, 1) &&
           multiply(&s->logits, logit_rows(size), (size_t)text->vocab, is_last(model, stage)) &&
           multiply(&tokens, size.slots, size.length, 1) &&
           !glm4v_add_overflow(tokens, size.kept, &tokens) &&
           multiply(&s->cache, tokens, kv_heads, (size_t)text->head_dim);
}

bool glm4v_kv_is_bf16(const glm4v_model *model, glm4v_backend *b)
{
    return b->ops->activation_size(b) > sizeof(uint16_t) &&
           model->form[GLM4V_PART_TEXT] != GLM4V_FORM_F32 && model->config.text.head_dim % 2 == 0;
}

static size_t kv_size(const glm4v_model *model, glm4v_backend *b)
{
    return glm4v_kv_is_bf16(model, b) ? sizeof(uint16_t) : b->ops->activation_size(b);
}

int32_t glm4v_text_widest(const glm4v_text_config *text)
{
    int32_t widest = text->hidden > text->ffn ? text->hidden : text->ffn;
    return text->heads * text->head_dim > widest ? text->heads * text->head_dim : widest;
}

static size_t host_bytes(const glm4v_model *model, int32_t stage, glm4v_context_size size)
{
    const glm4v_text_config *text = &model->config.text;
    const size_t rows = size.max_rows, slots = size.slots;
    if (stage)
        return 0;
    return rows * (size_t)text->rotary_dim * sizeof(float) + rows * sizeof(int32_t) +
           slots * (sizeof(glm4v_kv_job) + sizeof(glm4v_attention_job)) + sizeof(glm4v_context) +
           (size_t)model->n_stages * sizeof(glm4v_stage_buffers) +
           (model->n_stages > 1 ? rows * (size_t)text->hidden * sizeof(float) : 0);
}

glm4v_context_bytes glm4v_context_memory(const glm4v_model *model, int32_t stage,
                                         glm4v_context_size size)
{
    glm4v_context_bytes out = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
    glm4v_backend *b = model->stages[stage].backend;
    stage_sizes s;
    size_t kv;
    if (!sizes_of(&s, model, stage, size) || !multiply(&kv, s.cache, 2, kv_size(model, b)))
        return out;
    out.kv_cache = kv;
    out.activations =
        (s.x + s.branch + s.qkv + s.o + s.gate_up + s.act + s.logits) * b->ops->activation_size(b) +
        2 * s.rotary * sizeof(float);
    out.host = host_bytes(model, stage, size);
    return out;
}

static int stage_open(glm4v_stage_buffers *s, void **logits, const glm4v_model *model,
                      int32_t stage, glm4v_context_size wanted, glm4v_error *err)
{
    const glm4v_text_config *text = &model->config.text;
    glm4v_backend *b = s->backend = model->stages[stage].backend;
    stage_sizes n;
    const size_t size = b->ops->activation_size(b), kv = kv_size(model, b);
    s->first = model->stages[stage].first;
    s->count = model->stages[stage].count;
    if (!sizes_of(&n, model, stage, wanted) || n.cache > SIZE_MAX / kv)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%u sequences of %u tokens are more than memory can hold", wanted.slots,
                          wanted.length);
    const struct {
        void **ptr;
        size_t bytes;
    } list[] = {
        { &s->x, n.x * size },
        { &s->branch, n.branch * size },
        { &s->qkv, n.qkv * size },
        { &s->o, n.o * size },
        { &s->gate_up, n.gate_up * size },
        { &s->act, n.act * size },
        { (void **)&s->cos, n.rotary * sizeof(float) },
        { (void **)&s->sin, n.rotary * sizeof(float) },
        { &s->keys, n.cache * kv },
        { &s->values, n.cache * kv },
        { logits, n.logits * size }, /* of the last stage only */
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof list / sizeof *list - !is_last(model, stage); i++)
        rc = b->ops->alloc(b, list[i].ptr, list[i].bytes, err);
    return rc ? rc
              : b->ops->reserve(b, (int32_t)wanted.max_rows, glm4v_text_widest(text),
                                (int32_t)wanted.length, text->head_dim, err);
}

static void stage_close(glm4v_stage_buffers *s)
{
    glm4v_backend *b = s->backend;
    if (!b)
        return;
    void *list[] = { s->x,   s->branch, s->qkv, s->o,    s->gate_up,
                     s->act, s->cos,    s->sin, s->keys, s->values };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        b->ops->free(b, list[i]);
}

static int open_host(glm4v_context *c, glm4v_error *err)
{
    const glm4v_text_config *text = &c->model->config.text;
    size_t rotary = (size_t)c->max_rows * (size_t)text->rotary_dim / 2;
    c->host_cos = glm4v_alloc(rotary, sizeof(float));
    c->host_sin = glm4v_alloc(rotary, sizeof(float));
    c->rows = glm4v_alloc(c->max_rows, sizeof *c->rows);
    c->kv_jobs = glm4v_alloc(c->slots, sizeof *c->kv_jobs);
    c->jobs = glm4v_alloc(c->slots, sizeof *c->jobs);
    if (c->model->n_stages > 1)
        c->host_x = glm4v_alloc((size_t)c->max_rows * (size_t)text->hidden, sizeof(float));
    if (!c->host_cos || !c->host_sin || !c->rows || !c->kv_jobs || !c->jobs ||
        (c->model->n_stages > 1 && !c->host_x))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the tables of %u rows", c->max_rows);
    return 0;
}

int glm4v_context_open(glm4v_context **context, const glm4v_model *model, glm4v_context_size size,
                       glm4v_error *err)
{
    if (!size.slots || !size.length || !size.max_rows || size.slots > 4096 ||
        size.length > INT32_MAX / 2 || size.kept > size.length || size.max_rows > 65536)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a context of %u sequences, %u tokens, %u rows is out of range",
                          size.slots, size.length, size.max_rows);
    glm4v_context *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    c->model = model;
    c->slots = size.slots;
    c->length = size.length;
    c->kept = size.kept;
    c->max_rows = size.max_rows;
    c->logit_rows = (uint32_t)logit_rows(size);
    c->stages = glm4v_alloc((size_t)model->n_stages, sizeof *c->stages);
    int rc = c->stages ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    for (int32_t i = 0; !rc && i < model->n_stages; i++)
        rc = stage_open(&c->stages[i], &c->logits, model, i, size, err);
    if (!rc)
        rc = open_host(c, err);
    if (rc)
        glm4v_context_close(&c);
    else
        *context = c;
    return rc;
}

void glm4v_context_close(glm4v_context **context)
{
    glm4v_context *c = *context;
    if (!c)
        return;
    glm4v_vision_buffers_free(c);
    if (c->logits) {
        glm4v_backend *last = c->model->stages[c->model->n_stages - 1].backend;
        last->ops->free(last, c->logits);
    }
    for (int32_t i = 0; c->stages && i < c->model->n_stages; i++)
        stage_close(&c->stages[i]);
    glm4v_free(c->stages);
    glm4v_free(c->host_cos);
    glm4v_free(c->host_sin);
    glm4v_free(c->host_x);
    glm4v_free(c->rows);
    glm4v_free(c->kv_jobs);
    glm4v_free(c->jobs);
    glm4v_free(c);
    *context = NULL;
}

int glm4v_check_ids(const glm4v_context *context, const int32_t *ids, size_t n, glm4v_error *err)
{
    int32_t vocab = context->model->config.text.vocab;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "token %zu has id %d, but the model's vocab_size is %d", i, ids[i],
                              vocab);
    return 0;
}

/* First element of a head (of all of the stage) in a slot's cache. */
static size_t head_at(const glm4v_context *c, const glm4v_stage_buffers *s, uint32_t slot,
                      size_t head)
{
    const glm4v_text_config *text = &c->model->config.text;
    const size_t heads = (size_t)s->count * (size_t)text->kv_heads;
    const size_t length = slot < c->slots ? c->length : c->kept;
    return (slot * heads * c->length + head * length) * (size_t)text->head_dim;
}

static uint32_t tokens_of(const glm4v_context *c, uint32_t slot)
{
    return slot < c->slots ? c->length : slot == c->slots ? c->kept : 0;
}

int glm4v_context_copy(glm4v_context *context, uint32_t to, uint32_t from, uint32_t n)
{
    const glm4v_text_config *text = &context->model->config.text;
    const int32_t row = 0;
    if (n > tokens_of(context, to) || n > tokens_of(context, from) ||
        (size_t)n * (size_t)text->head_dim > INT32_MAX)
        return GLM4V_ERR_INVALID;
    for (int32_t i = 0; i < context->model->n_stages; i++) {
        const glm4v_stage_buffers *s = &context->stages[i];
        glm4v_backend *b = s->backend;
        /* of activations, as copy_rows counts */
        const size_t columns = (size_t)n * (size_t)text->head_dim * kv_size(context->model, b) /
                               b->ops->activation_size(b);
        for (size_t j = 0; j < (size_t)s->count * (size_t)text->kv_heads; j++) {
            size_t y = head_at(context, s, to, j), x = head_at(context, s, from, j);
            if (b->ops->copy_rows(b, glm4v_kv_at(context, b, s->keys, y), &row,
                                  glm4v_kv_at(context, b, s->keys, x), 1, (int32_t)columns) ||
                b->ops->copy_rows(b, glm4v_kv_at(context, b, s->values, y), &row,
                                  glm4v_kv_at(context, b, s->values, x), 1, (int32_t)columns))
                return GLM4V_ERR_DEVICE;
        }
    }
    return 0;
}

int glm4v_embeddings_reserve(glm4v_context *context, glm4v_embeddings *e, uint32_t n_rows,
                             glm4v_error *err)
{
    glm4v_backend *b = context->stages[0].backend;
    const int32_t hidden = context->model->config.text.hidden;
    const size_t row = (size_t)hidden * b->ops->activation_size(b);
    if (n_rows <= e->capacity - e->n_rows)
        return 0;
    size_t wanted, bytes;
    if (glm4v_add_overflow(e->n_rows, n_rows, &wanted) || wanted > INT32_MAX ||
        glm4v_mul_overflow(wanted, row, &bytes))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%u image tokens are more than memory can hold",
                          n_rows);
    void *rows = NULL;
    int rc = b->ops->alloc(b, &rows, bytes, err);
    for (uint32_t i = 0; !rc && i < e->n_rows; i += context->max_rows) {
        uint32_t n = e->n_rows - i < context->max_rows ? e->n_rows - i : context->max_rows;
        for (uint32_t j = 0; j < n; j++)
            context->rows[j] = (int32_t)j;
        if (b->ops->copy_rows(b, (char *)rows + i * row, context->rows, (char *)e->rows + i * row,
                              (int32_t)n, hidden)) {
            b->ops->free(b, rows);
            rc = glm4v_fail(err, GLM4V_ERR_DEVICE, "copying %u image tokens failed", e->n_rows);
        }
    }
    if (rc)
        return rc;
    if (e->rows)
        b->ops->free(b, e->rows);
    e->rows = rows;
    e->capacity = (uint32_t)wanted;
    return 0;
}

void glm4v_embeddings_clear(glm4v_context *context, glm4v_embeddings *e)
{
    glm4v_backend *b = context->stages[0].backend;
    if (e->rows)
        b->ops->free(b, e->rows);
    *e = (glm4v_embeddings) { 0 };
}
