/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* KV cache, activation buffers and scratch of one engine, all taken here; vision scratch alone
 * grows later, with the largest picture seen. The planner's figures come from the same list of
 * sizes as the allocations. */
#include "context.h"

#include "error.h"
#include "forward.h"
#include "mem.h"

/* Elements of each buffer of one stage. */
typedef struct {
    size_t x, branch, qkv, o, gate_up, act, rotary, cache;
} stage_sizes;

static bool multiply(size_t *r, size_t a, size_t b, size_t c)
{
    return !glm4v_mul_overflow(a, b, r) && !glm4v_mul_overflow(*r, c, r);
}

/* False if a size overflows. */
static bool sizes_of(stage_sizes *s, const glm4v_text_config *text, uint32_t slots, uint32_t length,
                     uint32_t rows, int32_t layers)
{
    size_t heads = (size_t)text->heads + 2 * (size_t)text->kv_heads;
    size_t row = (size_t)layers * (size_t)text->kv_heads;
    size_t sequence;
    return multiply(&s->x, rows, (size_t)text->hidden, 1) &&
           multiply(&s->branch, rows, (size_t)text->hidden, 1) &&
           multiply(&s->qkv, rows, heads, (size_t)text->head_dim) &&
           multiply(&s->o, rows, (size_t)text->heads, (size_t)text->head_dim) &&
           multiply(&s->gate_up, rows, 2, (size_t)text->ffn) &&
           multiply(&s->act, rows, (size_t)text->ffn, 1) &&
           multiply(&s->rotary, rows, (size_t)text->rotary_dim / 2, 1) &&
           multiply(&sequence, row, length, (size_t)text->head_dim) &&
           multiply(&s->cache, slots, sequence, 1);
}

/* A model that is only planned has no backend yet: then it is the CPU's. */
static size_t activation_size(const glm4v_model *model)
{
    glm4v_backend *b = model->stages ? model->stages[0].backend : NULL;
    return b ? b->ops->activation_size(b) : sizeof(float);
}

uint64_t glm4v_context_kv_bytes(const glm4v_model *model, uint32_t slots, uint32_t length)
{
    stage_sizes s;
    size_t bytes;
    if (!sizes_of(&s, &model->config.text, slots, length, 1, model->config.text.layers) ||
        !multiply(&bytes, s.cache, 2, activation_size(model)))
        return UINT64_MAX;
    return bytes;
}

uint64_t glm4v_context_scratch_bytes(const glm4v_model *model, uint32_t max_rows, uint32_t grid_h,
                                     uint32_t grid_w)
{
    const glm4v_text_config *text = &model->config.text;
    stage_sizes s;
    if (!sizes_of(&s, text, 1, 1, max_rows, text->layers))
        return UINT64_MAX;
    uint64_t stages = model->n_stages ? (uint64_t)model->n_stages : 1;
    uint64_t elements = s.x + s.branch + s.qkv + s.o + s.gate_up + s.act;
    uint64_t rows = max_rows < 64 ? max_rows : 64;
    return stages * (elements * activation_size(model) + 2 * s.rotary * sizeof(float)) +
           rows * (uint64_t)text->vocab * activation_size(model) +
           glm4v_vision_scratch_bytes(model, (uint64_t)grid_h * grid_w);
}

static int stage_open(glm4v_stage_buffers *s, const glm4v_stage *stage,
                      const glm4v_text_config *text, uint32_t slots, uint32_t length, uint32_t rows,
                      glm4v_error *err)
{
    glm4v_backend *b = s->backend = stage->backend;
    stage_sizes n;
    size_t size = b->ops->activation_size(b);
    s->first = stage->first;
    s->count = stage->count;
    if (!sizes_of(&n, text, slots, length, rows, stage->count) || n.cache > SIZE_MAX / size)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%u sequences of %u tokens are more than memory can hold", slots, length);
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
        { &s->keys, n.cache * size },
        { &s->values, n.cache * size },
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof list / sizeof *list; i++)
        rc = b->ops->alloc(b, list[i].ptr, list[i].bytes, err);
    int32_t widest = text->hidden > text->ffn ? text->hidden : text->ffn;
    if (text->heads * text->head_dim > widest)
        widest = text->heads * text->head_dim;
    return rc ? rc
              : b->ops->reserve(b, (int32_t)rows, widest, (int32_t)length, text->head_dim, err);
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

/* Host arrays, and the logits of the last stage. */
static int open_shared(glm4v_context *c, glm4v_error *err)
{
    const glm4v_text_config *text = &c->model->config.text;
    size_t rotary = (size_t)c->max_rows * (size_t)text->rotary_dim / 2;
    glm4v_backend *last = c->model->stages[c->model->n_stages - 1].backend;
    c->logit_rows = c->slots < c->max_rows ? c->slots : c->max_rows;
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
    return last->ops->alloc(
        last, &c->logits,
        (size_t)c->logit_rows * (size_t)text->vocab * last->ops->activation_size(last), err);
}

int glm4v_context_open(glm4v_context **context, const glm4v_model *model, uint32_t slots,
                       uint32_t length, uint32_t max_rows, glm4v_error *err)
{
    if (!slots || !length || !max_rows || slots > 4096 || length > INT32_MAX / 2 ||
        max_rows > 65536)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a context of %u sequences, %u tokens, %u rows is out of range", slots,
                          length, max_rows);
    glm4v_context *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    c->model = model;
    c->slots = slots;
    c->length = length;
    c->max_rows = max_rows;
    c->stages = glm4v_alloc((size_t)model->n_stages, sizeof *c->stages);
    int rc = c->stages ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    for (int32_t i = 0; !rc && i < model->n_stages; i++)
        rc = stage_open(&c->stages[i], &model->stages[i], &model->config.text, slots, length,
                        max_rows, err);
    if (!rc)
        rc = open_shared(c, err);
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

int glm4v_context_copy(glm4v_context *context, uint32_t to, uint32_t from, uint32_t n)
{
    const glm4v_text_config *text = &context->model->config.text;
    const size_t head = (size_t)context->length * (size_t)text->head_dim;
    const int32_t row = 0;
    if (to >= context->slots || from >= context->slots || n > context->length ||
        (size_t)n * (size_t)text->head_dim > INT32_MAX)
        return GLM4V_ERR_INVALID;
    for (int32_t i = 0; i < context->model->n_stages; i++) {
        const glm4v_stage_buffers *s = &context->stages[i];
        glm4v_backend *b = s->backend;
        const size_t heads = (size_t)s->count * (size_t)text->kv_heads;
        for (size_t j = 0; j < heads; j++) {
            size_t y = (to * heads + j) * head, x = (from * heads + j) * head;
            if (b->ops->copy_rows(b, glm4v_at(b, s->keys, y), &row, glm4v_at(b, s->keys, x), 1,
                                  (int32_t)n * text->head_dim) ||
                b->ops->copy_rows(b, glm4v_at(b, s->values, y), &row, glm4v_at(b, s->values, x), 1,
                                  (int32_t)n * text->head_dim))
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
