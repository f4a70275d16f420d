/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention of the CPU backend, and its keys and values. A job's work is cut by key/value head
 * and then by query rows; the queries of all heads that share a key/value head are processed
 * together, so that keys and values are read once for them. The result of a row does not depend on
 * the other rows. */
#include <inttypes.h>
#include <string.h>

#include "backend/cpu_priv.h"
#include "base/error.h"
#include "base/mem.h"

typedef struct {
    int64_t heads, kv_heads, head_dim;
    int64_t ldo, ldq;
    int64_t k_head; /* elements from one key or value head to the next */
    float scale;
    bool causal; /* query i of a job sees keys [0, n_k - n_q + i], else all n_k */
    bool bf16;   /* keys and values are bf16, else f32 */
} attention_shape;

typedef struct {
    glm4v_cpu_backend *cpu;
    const glm4v_cpu_attention_job *jobs;
    const attention_shape *shape;
    int64_t n_jobs, group, rows_per_task;
} attention_call;

static int64_t tasks_of(const attention_call *a, const glm4v_cpu_attention_job *job)
{
    const int64_t rows = job->n_q * a->group;
    return (rows + a->rows_per_task - 1) / a->rows_per_task * a->shape->kv_heads;
}

/* Rows [first, first + n) of one job and key/value head: row r is query r / group, head r % group
 * of the group. */
static void attend(const attention_call *a, const glm4v_cpu_attention_job *job, int64_t kv_head,
                   int64_t first, int64_t n, float *scratch)
{
    const attention_shape *s = a->shape;
    const size_t size = s->bf16 ? sizeof(uint16_t) : sizeof(float);
    float *o[GLM4V_CPU_ATTENTION_ROWS];
    const float *q[GLM4V_CPU_ATTENTION_ROWS];
    int32_t n_keys[GLM4V_CPU_ATTENTION_ROWS];
    for (int64_t i = 0; i < n; i++) {
        const int64_t query = (first + i) / a->group;
        const int64_t head = (kv_head * a->group + (first + i) % a->group) * s->head_dim;
        o[i] = job->o + query * s->ldo + head;
        q[i] = job->q + query * s->ldq + head;
        n_keys[i] = (int32_t)(s->causal ? job->n_k - job->n_q + query + 1 : job->n_k);
    }
    const glm4v_attention_args args = {
        .o = o,
        .q = q,
        .n_keys = n_keys,
        .k = (const char *)job->k + kv_head * s->k_head * size,
        .v = (const char *)job->v + kv_head * s->k_head * size,
        .bf16 = s->bf16,
        .ldk = s->head_dim,
        .ldv = s->head_dim,
        .rows = n,
        .head_dim = s->head_dim,
        .scale = s->scale,
        .scratch = scratch,
    };
    a->cpu->attention.attention(&args);
}

static void attention_task(void *user, int64_t i, int64_t thread)
{
    const attention_call *a = user;
    const glm4v_cpu_attention_job *job = a->jobs;
    int64_t task = i;
    for (int64_t tasks; task >= (tasks = tasks_of(a, job)); job++)
        task -= tasks;
    const int64_t rows = job->n_q * a->group;
    const int64_t first = task / a->shape->kv_heads * a->rows_per_task;
    attend(a, job, task % a->shape->kv_heads, first,
           rows - first < a->rows_per_task ? rows - first : a->rows_per_task,
           a->cpu->attention_scratch + thread * a->cpu->attention_floats);
}

static int run_attention(glm4v_cpu_backend *c, const glm4v_cpu_attention_job *jobs, int64_t n_jobs,
                         const attention_shape *shape)
{
    attention_call a = { .cpu = c,
                         .jobs = jobs,
                         .shape = shape,
                         .n_jobs = n_jobs,
                         .group = shape->heads / shape->kv_heads };
    int64_t rows = 0, work = 0;
    int64_t n_k = 1, tasks = 0;
    for (int64_t i = 0; i < n_jobs; i++) {
        rows += jobs[i].n_q * shape->heads;
        work += jobs[i].n_q * shape->heads * jobs[i].n_k * shape->head_dim / 4;
        n_k = jobs[i].n_k > n_k ? jobs[i].n_k : n_k;
    }
    const int64_t threads = glm4v_pool_threads(c->base.pool);
    a.rows_per_task = (rows + threads - 1) / threads;
    if (a.rows_per_task < 1)
        a.rows_per_task = 1;
    if (a.rows_per_task > GLM4V_CPU_ATTENTION_ROWS)
        a.rows_per_task = GLM4V_CPU_ATTENTION_ROWS;
    for (int64_t i = 0; i < n_jobs; i++)
        tasks += tasks_of(&a, &jobs[i]);
    pthread_mutex_lock(&c->lock);
    int rc = glm4v_cpu_reserve_attention(c, n_k, shape->head_dim);
    if (!rc)
        glm4v_cpu_run(c, tasks, work, attention_task, &a);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* ---- appending ---- */

typedef struct {
    const glm4v_cpu_backend *cpu;
    const glm4v_cpu_append_job *jobs;
    int64_t ld, capacity;
    int64_t kv_heads, head_dim;
    bool bf16;
} append_call;

/* One row of one head, n values, to element `at` of a cache. */
static void append_row(const append_call *a, void *cache, int64_t at, const float *x)
{
    const int64_t n = a->head_dim;
    if (a->bf16)
        a->cpu->convert.f32_to_bf16((uint16_t *)cache + at, x, n);
    else
        memcpy((float *)cache + at, x, n * sizeof *x);
}

/* One job and key/value head. */
static void append_task(void *user, int64_t i, int64_t thread)
{
    const append_call *a = user;
    const glm4v_cpu_append_job *job = &a->jobs[i / a->kv_heads];
    const int64_t head = i % a->kv_heads, Dh = a->head_dim;
    const int64_t to = (head * a->capacity + job->position) * Dh;
    for (int64_t r = 0; r < job->n; r++) {
        append_row(a, job->k_cache, to + r * Dh, job->k + r * a->ld + head * Dh);
        append_row(a, job->v_cache, to + r * Dh, job->v + r * a->ld + head * Dh);
    }
}

static void run_append(const append_call *a, int64_t n_jobs)
{
    uint64_t work = 0;
    for (int64_t i = 0; i < n_jobs; i++)
        work += a->jobs[i].n * a->kv_heads * a->head_dim;
    glm4v_cpu_run((glm4v_cpu_backend *)(uintptr_t)a->cpu, n_jobs * a->kv_heads, work, append_task,
                  (void *)(uintptr_t)a);
}

/* ---- keys and values of sequences: [slots][layers][heads][length][head_dim], then the kept slot
 * likewise ---- */

static size_t number_size(const glm4v_kv_shape *s)
{
    return s->form == GLM4V_KV_BF16 ? sizeof(uint16_t) : sizeof(float);
}

/* Element of the first token of a head in a slot. */
static int64_t head_at(const glm4v_kv_shape *s, int64_t slot, int64_t layer, int64_t head)
{
    const int64_t heads = s->layers * s->heads;
    const int64_t number = layer * s->heads + head;
    return (slot * heads * s->length + number * glm4v_kv_room(s, slot)) * s->head_dim;
}

/* Numbers of keys, and as many of values; false when they overflow. */
static bool numbers_of(const glm4v_kv_shape *s, size_t *n)
{
    size_t tokens, heads;
    return !glm4v_mul_overflow(s->slots, s->length, &tokens) &&
           !glm4v_add_overflow(tokens, s->kept, &tokens) &&
           !glm4v_mul_overflow(s->layers * s->heads, s->head_dim, &heads) &&
           !glm4v_mul_overflow(tokens, heads, n) && *n <= SIZE_MAX / (2 * sizeof(float));
}

uint64_t glm4v_cpu_kv_bytes(glm4v_backend *b, const glm4v_kv_shape *shape)
{
    size_t n;
    return numbers_of(shape, &n) ? 2 * n * number_size(shape) : UINT64_MAX;
}

int glm4v_cpu_kv_open(glm4v_backend *b, glm4v_kv *kv, const glm4v_kv_shape *shape, glm4v_error *err)
{
    glm4v_kv fresh = { .shape = *shape };
    size_t n;
    if (shape->form != GLM4V_KV_F32 && shape->form != GLM4V_KV_BF16)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "the CPU keeps keys and values as fp32 or bf16 only");
    if (!numbers_of(shape, &n))
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%" PRId64 " sequences of %" PRId64
                          " tokens are more than memory can hold",
                          shape->slots, shape->length);
    int rc = b->ops->alloc(b, &fresh.keys, n * number_size(shape), err);
    if (!rc && (rc = b->ops->alloc(b, &fresh.values, n * number_size(shape), err)))
        b->ops->free(b, fresh.keys);
    if (!rc)
        *kv = fresh;
    return rc;
}

void glm4v_cpu_kv_close(glm4v_backend *b, glm4v_kv *kv)
{
    b->ops->free(b, kv->keys);
    b->ops->free(b, kv->values);
    *kv = (glm4v_kv) { 0 };
}

int glm4v_cpu_kv_copy(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                      int64_t n)
{
    const glm4v_kv_shape *s = &kv->shape;
    const size_t size = number_size(s), bytes = n * s->head_dim * size;
    if (n > glm4v_kv_room(s, to) || n > glm4v_kv_room(s, from))
        return GLM4V_ERR_INVALID;
    for (int64_t layer = 0; layer < s->layers; layer++)
        for (int64_t head = 0; head < s->heads; head++) {
            const size_t y = head_at(s, to, layer, head) * size;
            const size_t x = head_at(s, from, layer, head) * size;
            memmove((char *)kv->keys + y, (const char *)kv->keys + x, bytes);
            memmove((char *)kv->values + y, (const char *)kv->values + x, bytes);
        }
    return 0;
}

static void *kv_at(const glm4v_kv *kv, void *data, int64_t slot, int64_t layer)
{
    return (char *)data + head_at(&kv->shape, slot, layer, 0) * number_size(&kv->shape);
}

/* The next span of a round at or behind i: number `round` of its slot; n_spans: there is none. */
static int64_t next_span(const glm4v_cpu_step *s, int64_t round, int64_t i)
{
    int64_t first = i; /* of the slot */
    while (first > 0 && i < s->n_spans && s->spans[first - 1].slot == s->spans[i].slot)
        first--;
    for (; i < s->n_spans; i++) {
        if (s->spans[i].slot != s->spans[first].slot)
            first = i;
        if (i - first == round)
            break;
    }
    return i;
}

static void append_round(glm4v_cpu_step *s, const glm4v_append *a, int64_t round)
{
    const glm4v_kv_shape *shape = &a->kv->shape;
    int64_t n = 0;
    for (int64_t i = next_span(s, round, 0); i < s->n_spans; i = next_span(s, round, i + 1)) {
        const glm4v_step_span *span = &s->spans[i];
        s->appends[n++] = (glm4v_cpu_append_job) {
            .k_cache = kv_at(a->kv, a->kv->keys, span->slot, a->layer),
            .v_cache = kv_at(a->kv, a->kv->values, span->slot, a->layer),
            .k = (const float *)a->k + span->row * a->ld,
            .v = (const float *)a->v + span->row * a->ld,
            .position = span->length,
            .n = span->n,
        };
    }
    const append_call call = { .cpu = glm4v_cpu(s->base.backend),
                               .jobs = s->appends,
                               .ld = a->ld,
                               .capacity = shape->length,
                               .kv_heads = shape->heads,
                               .head_dim = shape->head_dim,
                               .bf16 = shape->form == GLM4V_KV_BF16 };
    run_append(&call, n);
}

int glm4v_cpu_append(glm4v_step *step, const glm4v_append *a)
{
    glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    s->later = *a;
    append_round(s, a, 0);
    return 0;
}

static int attend_round(glm4v_cpu_step *s, const glm4v_attend *a, int64_t round)
{
    const glm4v_kv_shape *kv = &a->kv->shape;
    int64_t n = 0;
    for (int64_t i = next_span(s, round, 0); i < s->n_spans; i = next_span(s, round, i + 1)) {
        const glm4v_step_span *span = &s->spans[i];
        s->jobs[n++] = (glm4v_cpu_attention_job) {
            .o = (float *)a->o + span->row * a->ldo,
            .q = (const float *)a->q + span->row * a->ldq,
            .k = kv_at(a->kv, a->kv->keys, span->slot, a->layer),
            .v = kv_at(a->kv, a->kv->values, span->slot, a->layer),
            .n_q = span->n,
            .n_k = span->length + span->n,
        };
    }
    const attention_shape shape = { .heads = a->heads,
                                    .kv_heads = kv->heads,
                                    .head_dim = kv->head_dim,
                                    .ldo = a->ldo,
                                    .ldq = a->ldq,
                                    .k_head = kv->length * kv->head_dim,
                                    .scale = a->scale,
                                    .causal = true,
                                    .bf16 = kv->form == GLM4V_KV_BF16 };
    return run_attention(glm4v_cpu(s->base.backend), s->jobs, n, &shape);
}

/* A branch is appended when the one before it has been attended to, whose place it takes. */
int glm4v_cpu_attend(glm4v_step *step, const glm4v_attend *a)
{
    glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    int rc = attend_round(s, a, 0);
    for (int64_t round = 1; !rc && round < s->n_rounds; round++) {
        append_round(s, &s->later, round);
        rc = attend_round(s, a, round);
    }
    return rc;
}

/* ---- all rows to all ---- */

uint64_t glm4v_cpu_attend_all_bytes(glm4v_backend *b, int64_t rows, int64_t heads, int64_t head_dim)
{
    return 2 * (rows * heads * head_dim) * sizeof(float);
}

/* Keys and values are copied head by head first, like those of sequences: in rows of q, k and v
 * they use only few cache sets, and with 4096 patches of surface-tiny the whole tower needed 1.7
 * times as long. */
int glm4v_cpu_attend_all(glm4v_step *step, const glm4v_attend_all *a)
{
    const int64_t head = a->rows * a->head_dim;
    float *keys = a->scratch, *values = keys + head * a->heads;
    const glm4v_cpu_append_job rows = {
        .k_cache = keys, .v_cache = values, .k = a->k, .v = a->v, .n = a->rows
    };
    const append_call append = { .cpu = glm4v_cpu(step->backend),
                                 .jobs = &rows,
                                 .ld = a->ld,
                                 .capacity = a->rows,
                                 .kv_heads = a->heads,
                                 .head_dim = a->head_dim };
    const glm4v_cpu_attention_job job = {
        .o = a->o, .q = a->q, .k = keys, .v = values, .n_q = a->rows, .n_k = a->rows
    };
    const attention_shape shape = { .heads = a->heads,
                                    .kv_heads = a->heads,
                                    .head_dim = a->head_dim,
                                    .ldo = a->ldo,
                                    .ldq = a->ld,
                                    .k_head = head,
                                    .scale = a->scale };
    run_append(&append, 1);
    return run_attention(glm4v_cpu(step->backend), &job, 1, &shape);
}
