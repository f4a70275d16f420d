/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend: kernel tables by CPU flags, memory and copies. Every call has done its work when
 * it returns. Weights and tables are in backend/cpu_weights.c; steps in backend/cpu_step.c;
 * operations in backend/cpu_rows.c (row by row), backend/cpu_linear.c and
 * backend/cpu_attention.c. */
#include "backend/cpu_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/available_memory.h"
#include "base/cpu_level.h"
#include "base/error.h"
#include "base/mem.h"
#include "cpu.h"

/* Below this many element operations the pool costs more than it saves (a wake-up is a few
 * microseconds). */
#define WORTH_THREADS (1u << 16)

void glm4v_cpu_run(glm4v_cpu_backend *c, int64_t n, uint64_t work,
                   void (*fn)(void *user, int64_t i, int64_t thread), void *user)
{
    if (n > 1 && work >= WORTH_THREADS) {
        glm4v_pool_run(c->base.pool, n, fn, user);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        fn(user, i, 0);
}

/* ---- memory ---- */

static int cpu_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err)
{
    void *block = glm4v_alloc_sparse(bytes, 1);
    if (!block)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a buffer of %zu bytes", bytes);
    *ptr = block;
    return 0;
}

static void cpu_free(glm4v_backend *b, void *ptr)
{
    glm4v_free(ptr);
}

static uint64_t cpu_available(glm4v_backend *b)
{
    return glm4v_memory_available();
}

static int cpu_staging_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err)
{
    void *block = glm4v_alloc_aligned(bytes, 1);
    if (!block)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a buffer of %zu bytes", bytes);
    *ptr = block;
    return 0;
}

static int cpu_upload(glm4v_backend *b, void *y, const float *host, int64_t n)
{
    memcpy(y, host, n * sizeof(float));
    return 0;
}

static int cpu_download(glm4v_backend *b, float *host, const void *x, int64_t n)
{
    memcpy(host, x, n * sizeof(float));
    return 0;
}

static int cpu_copy(glm4v_backend *b, void *y, const void *x, size_t bytes)
{
    memcpy(y, x, bytes);
    return 0;
}

static int cpu_copy_from(glm4v_backend *b, glm4v_queue q, void *y, glm4v_backend *from,
                         const void *x, int64_t n)
{
    return from->ops == b->ops ? cpu_copy(b, y, x, n * sizeof(float)) : GLM4V_ERR_UNSUPPORTED;
}

/* Calls have done their work when they return: every event is reached. */
static int cpu_event_open(glm4v_backend *b, glm4v_event **event, glm4v_error *err)
{
    *event = (glm4v_event *)b;
    return 0;
}

static void cpu_event_close(glm4v_backend *b, glm4v_event *event)
{
}

static int cpu_event_record(glm4v_backend *b, glm4v_queue q, glm4v_event *event)
{
    return 0;
}

static int cpu_event_done(glm4v_backend *b, glm4v_event *event)
{
    return 1;
}

static int cpu_sync(glm4v_backend *b, glm4v_event *event)
{
    return 0;
}

static void cpu_failure(glm4v_backend *b, char *text, size_t size)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    pthread_mutex_lock(&c->lock);
    snprintf(text, size, "%s", c->failure);
    pthread_mutex_unlock(&c->lock);
}

static void cpu_observe(glm4v_backend *b, const glm4v_observer *observer)
{
    glm4v_cpu(b)->observer = observer;
}

/* Replace *block by one of n * size bytes; NOMEM leaves it. */
static int grow(glm4v_cpu_backend *c, void **block, int64_t n, size_t size, const char *what)
{
    void *fresh = glm4v_alloc_sparse(n, size);
    if (!fresh) {
        snprintf(c->failure, sizeof c->failure, "no memory for scratch of %s (%zu x %zu bytes)",
                 what, n, size);
        return GLM4V_ERR_NOMEM;
    }
    glm4v_free(*block);
    *block = fresh;
    return 0;
}

/* Scales of a group of 128 rounded activations, in whatever form's groups. */
static int64_t group_scales(void)
{
    return GLM4V_GROUP / glm4v_rounding_least_group();
}

/* Groups of 128 rounded activations of one slab. */
static int64_t slab_groups(int64_t T, int64_t n_in)
{
    const int64_t rows = T < GLM4V_CPU_SLAB ? T : GLM4V_CPU_SLAB;
    return glm4v_group_count(n_in) * rows;
}

/* Floats of one thread: whole cache lines, so that threads share none. */
static int64_t attention_floats(int64_t n_k, int64_t head_dim)
{
    return (glm4v_attention_scratch(GLM4V_CPU_ATTENTION_ROWS, n_k, head_dim) + 15) / 16 * 16;
}

static void cpu_scratch_bytes(glm4v_backend *b, const glm4v_scratch_need *need, uint64_t *product,
                              uint64_t *attention)
{
    const int64_t groups = slab_groups(need->rows, need->n_in);
    const int64_t row = glm4v_group_count(need->n_in) * GLM4V_GROUP;
    const int64_t threads = glm4v_pool_threads(b->pool);
    *product = groups * (GLM4V_GROUP * sizeof(uint16_t) +
                         group_scales() * (sizeof(float) + sizeof(int32_t))) +
               threads * row * sizeof(float);
    *attention = threads * attention_floats(need->n_k, need->head_dim) * sizeof(float);
}

int glm4v_cpu_reserve_linear(glm4v_cpu_backend *c, int64_t T, int64_t n_in)
{
    const int64_t groups = slab_groups(T, n_in), scales = groups * group_scales();
    const size_t bytes = groups * GLM4V_GROUP * sizeof(uint16_t);
    int rc = 0;
    if (bytes > c->x_bytes) {
        rc = grow(c, &c->x, bytes, 1, "rounded activations");
        if (!rc)
            c->x_bytes = bytes;
    }
    if (!rc && scales > c->x_scales) {
        rc = grow(c, (void **)&c->x_scale, scales, sizeof *c->x_scale, "activation scales");
        if (!rc)
            rc = grow(c, (void **)&c->x_sum, scales, sizeof *c->x_sum, "activation sums");
        c->x_scales =
            rc ? 0 : scales; /* one of the two may be the longer one now: grow both next time */
    }
    const int64_t row = glm4v_group_count(n_in) * GLM4V_GROUP;
    if (!rc && row > c->row_floats) {
        rc = grow(c, (void **)&c->row, glm4v_pool_threads(c->base.pool) * row, sizeof *c->row,
                  "a row of activations");
        if (!rc)
            c->row_floats = row;
    }
    return rc;
}

int glm4v_cpu_reserve_attention(glm4v_cpu_backend *c, int64_t n_k, int64_t head_dim)
{
    const int64_t threads = glm4v_pool_threads(c->base.pool);
    const int64_t floats = attention_floats(n_k, head_dim);
    if (floats <= c->attention_floats)
        return 0;
    int rc = grow(c, (void **)&c->attention_scratch, threads * floats, sizeof(float), "attention");
    if (!rc)
        c->attention_floats = floats;
    return rc;
}

static int cpu_reserve(glm4v_backend *b, const glm4v_scratch_need *need, glm4v_error *err)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    pthread_mutex_lock(&c->lock);
    int rc = glm4v_cpu_reserve_linear(c, need->rows, need->n_in);
    if (!rc)
        rc = glm4v_cpu_reserve_attention(c, need->n_k, need->head_dim);
    if (rc)
        glm4v_fail(err, rc, "%s", c->failure);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* ---- open and close ---- */

static void cpu_close(glm4v_backend *b)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    glm4v_free(c->x);
    glm4v_free(c->x_scale);
    glm4v_free(c->x_sum);
    glm4v_free(c->row);
    glm4v_free(c->attention_scratch);
    glm4v_free(c->room);
    pthread_mutex_destroy(&c->lock);
    glm4v_free(c);
}

static void cpu_staging_free(glm4v_backend *b, void *ptr)
{
    glm4v_free(ptr);
}

static const glm4v_backend_ops cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .failure = cpu_failure,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .available = cpu_available,
    .staging_alloc = cpu_staging_alloc,
    .staging_free = cpu_staging_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .write = cpu_copy,
    .copy = cpu_copy,
    .event_open = cpu_event_open,
    .event_close = cpu_event_close,
    .event_record = cpu_event_record,
    .queue_wait = cpu_event_record,
    .event_done = cpu_event_done,
    .sync = cpu_sync,
    .weights_reserve = glm4v_cpu_weights_reserve,
    .weight_bytes = glm4v_cpu_weight_bytes,
    .weight_alloc = glm4v_cpu_weight_alloc,
    .weight_fill = glm4v_cpu_weight_fill,
    .weight_fill_codes = glm4v_cpu_weight_fill_codes,
    .weight_fill_bf16 = glm4v_cpu_weight_fill_bf16,
    .weight_room = glm4v_cpu_weight_room,
    .weight_order = glm4v_cpu_weight_order,
    .weight_free = glm4v_cpu_weight_free,
    .table_bytes = glm4v_cpu_table_bytes,
    .table_alloc = glm4v_cpu_table_alloc,
    .table_fill = glm4v_cpu_table_fill,
    .table_fill_codes = glm4v_cpu_table_fill_codes,
    .table_free = glm4v_cpu_table_free,
    .kv_bytes = glm4v_cpu_kv_bytes,
    .kv_open = glm4v_cpu_kv_open,
    .kv_close = glm4v_cpu_kv_close,
    .kv_copy = glm4v_cpu_kv_copy,
    .reserve = cpu_reserve,
    .scratch_bytes = cpu_scratch_bytes,
    .attend_all_bytes = glm4v_cpu_attend_all_bytes,
    .step_bytes = glm4v_cpu_step_bytes,
    .step_open = glm4v_cpu_step_open,
    .step_close = glm4v_cpu_step_close,
    .step_begin = glm4v_cpu_step_begin,
    .step_flush = glm4v_cpu_step_end,
    .step_end = glm4v_cpu_step_end,
    .step_drop = glm4v_cpu_step_drop,
    .step_upload = glm4v_cpu_step_upload,
    .step_download = glm4v_cpu_step_download,
    .step_read = glm4v_cpu_step_copy,
    .step_copy = glm4v_cpu_step_copy,
    .copy_from = cpu_copy_from,
    .embed = glm4v_cpu_embed,
    .product = glm4v_cpu_product,
    .logits = glm4v_cpu_product,
    .norm = glm4v_cpu_norm,
    .silu_mul = glm4v_cpu_silu_mul,
    .gelu = glm4v_cpu_gelu,
    .add = glm4v_cpu_add,
    .scale = glm4v_cpu_scale,
    .rope = glm4v_cpu_rope,
    .append = glm4v_cpu_append,
    .attend = glm4v_cpu_attend,
    .attend_all = glm4v_cpu_attend_all,
    .place_rows = glm4v_cpu_place_rows,
    .take_rows = glm4v_cpu_take_rows,
    .observe = cpu_observe,
};

static const glm4v_backend_traits cpu_traits = {
    .activation = sizeof(float),
    .kv_form = GLM4V_KV_BF16,
    .kv_forms = 1 << GLM4V_KV_F32 | 1 << GLM4V_KV_BF16,
    .prefill_rows = 512,
    .branches = true,
    .tower_rows = 1024, /* products of a thousand rows are as fast as larger ones */
};

int glm4v_backend_cpu_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log,
                           glm4v_error *err)
{
    unsigned flags;
    int rc = glm4v_cpu_choose(&flags, err);
    if (rc)
        return rc;
    glm4v_cpu_backend *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CPU backend");
    if (pthread_mutex_init(&c->lock, NULL)) {
        glm4v_free(c);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CPU backend's lock");
    }
    c->base.ops = &cpu_ops;
    c->base.traits = &cpu_traits;
    c->base.pool = pool;
    c->base.isa = glm4v_cpu_level(flags);
    c->base.device = "cpu";
    c->base.log = log;
    glm4v_norm_ops_init(&c->norm, flags);
    glm4v_rope_ops_init(&c->rope, flags);
    glm4v_gemm_ops_init(&c->gemm, flags);
    glm4v_attention_ops_init(&c->attention, flags);
    glm4v_act_ops_init(&c->act, flags);
    glm4v_convert_ops_init(&c->convert, flags);
    *backend = &c->base;
    return 0;
}
