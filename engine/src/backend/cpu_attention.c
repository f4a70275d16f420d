/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention of the CPU backend, and the KV cache's append. A job's work is cut by key/value head
 * and then by query rows; the queries of all heads that share a key/value head stand together, so
 * that keys and values are read once for them. A row's result does not depend on which rows stand
 * beside it. */
#include <string.h>

#include "backend/cpu_priv.h"

typedef struct {
    glm4v_cpu_backend *cpu;
    const glm4v_attention_job *jobs;
    const glm4v_attention *shape;
    int32_t n_jobs, group, rows_per_task;
} attention_call;

static int32_t tasks_of(const attention_call *a, const glm4v_attention_job *job)
{
    const int32_t rows = job->n_q * a->group;
    return (rows + a->rows_per_task - 1) / a->rows_per_task * a->shape->kv_heads;
}

/* Rows [first, first + n) of one job and key/value head: row r is query r / group, head r % group
 * of the group. */
static void attend(const attention_call *a, const glm4v_attention_job *job, int32_t kv_head,
                   int32_t first, int32_t n, float *scratch)
{
    const glm4v_attention *s = a->shape;
    const size_t size = s->bf16 ? sizeof(uint16_t) : sizeof(float);
    float *o[GLM4V_CPU_ATTENTION_ROWS];
    const float *q[GLM4V_CPU_ATTENTION_ROWS];
    int32_t n_keys[GLM4V_CPU_ATTENTION_ROWS];
    for (int32_t i = 0; i < n; i++) {
        const int32_t query = (first + i) / a->group;
        const int64_t head = (int64_t)(kv_head * a->group + (first + i) % a->group) * s->head_dim;
        o[i] = (float *)job->o + query * s->ldo + head;
        q[i] = (const float *)job->q + query * s->ldq + head;
        n_keys[i] = s->causal ? job->n_k - job->n_q + query + 1 : job->n_k;
    }
    const glm4v_attention_args args = {
        .o = o,
        .q = q,
        .n_keys = n_keys,
        .k = (const char *)job->k + (size_t)(kv_head * s->k_head) * size,
        .v = (const char *)job->v + (size_t)(kv_head * s->v_head) * size,
        .bf16 = s->bf16,
        .ldk = s->ldk,
        .ldv = s->ldv,
        .rows = n,
        .head_dim = s->head_dim,
        .scale = s->scale,
        .scratch = scratch,
    };
    a->cpu->attention.attention(&args);
}

static void attention_task(void *user, uint32_t i, uint32_t thread)
{
    const attention_call *a = user;
    const glm4v_attention_job *job = a->jobs;
    int32_t task = (int32_t)i;
    for (int32_t tasks; task >= (tasks = tasks_of(a, job)); job++)
        task -= tasks;
    const int32_t rows = job->n_q * a->group;
    const int32_t first = task / a->shape->kv_heads * a->rows_per_task;
    attend(a, job, task % a->shape->kv_heads, first,
           rows - first < a->rows_per_task ? rows - first : a->rows_per_task,
           a->cpu->attention_scratch + thread * a->cpu->attention_floats);
}

int glm4v_cpu_attention(glm4v_backend *b, const glm4v_attention_job *jobs, int32_t n_jobs,
                        const glm4v_attention *shape)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    attention_call a = { .cpu = c,
                         .jobs = jobs,
                         .shape = shape,
                         .n_jobs = n_jobs,
                         .group = shape->heads / shape->kv_heads };
    int64_t rows = 0, work = 0;
    int32_t n_k = 1, tasks = 0;
    for (int32_t i = 0; i < n_jobs; i++) {
        rows += (int64_t)jobs[i].n_q * shape->heads;
        work += (int64_t)jobs[i].n_q * shape->heads * jobs[i].n_k * shape->head_dim / 4;
        n_k = jobs[i].n_k > n_k ? jobs[i].n_k : n_k;
    }
    const int64_t threads = glm4v_pool_threads(c->base.pool),
                  share = (rows + threads - 1) / threads;
    a.rows_per_task =
        share < GLM4V_CPU_ATTENTION_ROWS ? (int32_t)(share ? share : 1) : GLM4V_CPU_ATTENTION_ROWS;
    for (int32_t i = 0; i < n_jobs; i++)
        tasks += tasks_of(&a, &jobs[i]);
    pthread_mutex_lock(&c->lock);
    int rc = glm4v_cpu_reserve_attention(c, n_k, shape->head_dim, NULL);
    if (!rc)
        glm4v_cpu_run(c, (uint32_t)tasks, (uint64_t)work, attention_task, &a);
    pthread_mutex_unlock(&c->lock);
    return rc ? GLM4V_ERR_DEVICE : 0;
}

typedef struct {
    const glm4v_cpu_backend *cpu;
    const glm4v_kv_job *jobs;
    int64_t ld, capacity;
    int32_t kv_heads, head_dim;
} append_call;

/* One row of one head, n values, to element `at` of a cache. */
static void append_row(const append_call *a, const glm4v_kv_job *job, void *cache, int64_t at,
                       const void *rows, int64_t from)
{
    const float *x = (const float *)rows + from;
    const size_t n = (size_t)a->head_dim;
    if (job->bf16)
        a->cpu->convert.f32_to_bf16((uint16_t *)cache + at, x, n);
    else
        memcpy((float *)cache + at, x, n * sizeof *x);
}

/* One job and key/value head. */
static void append_task(void *user, uint32_t i, uint32_t thread)
{
    const append_call *a = user;
    const glm4v_kv_job *job = &a->jobs[i / (uint32_t)a->kv_heads];
    const int64_t head = i % (uint32_t)a->kv_heads, Dh = a->head_dim;
    const int64_t to = (head * a->capacity + job->position) * Dh;
    for (int32_t r = 0; r < job->n; r++) {
        append_row(a, job, job->k_cache, to + r * Dh, job->k, r * a->ld + head * Dh);
        append_row(a, job, job->v_cache, to + r * Dh, job->v, r * a->ld + head * Dh);
    }
}

int glm4v_cpu_kv_append(glm4v_backend *b, const glm4v_kv_job *jobs, int32_t n_jobs, int64_t ld,
                        int32_t kv_heads, int32_t head_dim, int64_t capacity)
{
    append_call a = { .cpu = glm4v_cpu(b),
                      .jobs = jobs,
                      .ld = ld,
                      .capacity = capacity,
                      .kv_heads = kv_heads,
                      .head_dim = head_dim };
    uint64_t work = 0;
    for (int32_t i = 0; i < n_jobs; i++)
        work += (uint64_t)jobs[i].n * (uint64_t)kv_heads * (uint64_t)head_dim;
    glm4v_cpu_run(glm4v_cpu(b), (uint32_t)(n_jobs * kv_heads), work, append_task, &a);
    return 0;
}
