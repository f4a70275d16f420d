/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend: kernel tables by CPU flags, a thread pool, memory. Weights and tables
 * are in backend/cpu_weights.c; operations in backend/cpu_rows.c (row by row),
 * backend/cpu_linear.c and backend/cpu_attention.c. */
#include "backend/cpu_priv.h"

#include <string.h>

#include "base/cpu_level.h"
#include "base/error.h"
#include "base/mem.h"
#include "cpu.h"

/* Below this many element operations the pool costs more than it saves (a wake-up is a few
 * microseconds). */
#define WORTH_THREADS (1u << 16)

void glm4v_cpu_run(glm4v_cpu_backend *c, uint32_t n, uint64_t work,
                   void (*fn)(void *user, uint32_t i, uint32_t thread), void *user)
{
    if (n > 1 && work >= WORTH_THREADS) {
        glm4v_pool_run(c->base.pool, n, fn, user);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
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

static size_t cpu_activation_size(glm4v_backend *b)
{
    return sizeof(float);
}

static int cpu_upload(glm4v_backend *b, void *y, const float *host, size_t n)
{
    memcpy(y, host, n * sizeof(float));
    return 0;
}

static int cpu_download(glm4v_backend *b, float *host, const void *x, size_t n)
{
    memcpy(host, x, n * sizeof(float));
    return 0;
}

/* Replace *block by one of n * size bytes; NOMEM leaves it. */
static int grow(void **block, size_t n, size_t size, const char *what, glm4v_error *err)
{
    void *fresh = glm4v_alloc_sparse(n, size);
    if (!fresh)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for scratch of %s (%zu x %zu bytes)",
                          what, n, size);
    glm4v_free(*block);
    *block = fresh;
    return 0;
}

/* Groups of rounded activations of one slab. */
static size_t slab_groups(int32_t T, int32_t n_in)
{
    const size_t rows = T < GLM4V_CPU_SLAB ? (size_t)T : GLM4V_CPU_SLAB;
    return (size_t)glm4v_group_count(n_in) * rows;
}

/* Floats of one thread: whole cache lines, so that threads share none. */
static size_t attention_floats(int32_t n_k, int32_t head_dim)
{
    return (glm4v_attention_scratch(GLM4V_CPU_ATTENTION_ROWS, n_k, head_dim) + 15) / 16 * 16;
}

static void cpu_scratch_bytes(glm4v_backend *b, int32_t T, int32_t max_n_in, int32_t n_k,
                              int32_t head_dim, uint64_t *linear, uint64_t *attention)
{
    const size_t groups = slab_groups(T, max_n_in);
    const size_t row = (size_t)glm4v_group_count(max_n_in) * GLM4V_GROUP;
    *linear = groups * (GLM4V_GROUP * sizeof(uint16_t) + sizeof(float) + sizeof(int32_t)) +
              glm4v_pool_threads(b->pool) * row * sizeof(float);
    *attention =
        (uint64_t)glm4v_pool_threads(b->pool) * attention_floats(n_k, head_dim) * sizeof(float);
}

int glm4v_cpu_reserve_linear(glm4v_cpu_backend *c, int32_t T, int32_t n_in, glm4v_error *err)
{
    const size_t groups = slab_groups(T, n_in);
    const size_t bytes = groups * GLM4V_GROUP * sizeof(uint16_t);
    int rc = 0;
    if (bytes > c->x_bytes) {
        rc = grow(&c->x, bytes, 1, "rounded activations", err);
        if (!rc)
            c->x_bytes = bytes;
    }
    if (!rc && groups > c->x_groups) {
        rc = grow((void **)&c->x_scale, groups, sizeof *c->x_scale, "activation scales", err);
        if (!rc)
            rc = grow((void **)&c->x_sum, groups, sizeof *c->x_sum, "activation sums", err);
        c->x_groups =
            rc ? 0 : groups; /* one of the two may be the longer one now: grow both next time */
    }
    const size_t row = (size_t)glm4v_group_count(n_in) * GLM4V_GROUP;
    if (!rc && row > c->row_floats) {
        rc = grow((void **)&c->row, glm4v_pool_threads(c->base.pool) * row, sizeof *c->row,
                  "a row of activations", err);
        if (!rc)
            c->row_floats = row;
    }
    return rc;
}

int glm4v_cpu_reserve_attention(glm4v_cpu_backend *c, int32_t n_k, int32_t head_dim,
                                glm4v_error *err)
{
    const size_t threads = glm4v_pool_threads(c->base.pool);
    const size_t floats = attention_floats(n_k, head_dim);
    if (floats <= c->attention_floats)
        return 0;
    int rc =
        grow((void **)&c->attention_scratch, threads * floats, sizeof(float), "attention", err);
    if (!rc)
        c->attention_floats = floats;
    return rc;
}

static int cpu_reserve(glm4v_backend *b, int32_t T, int32_t max_n_in, int32_t n_k, int32_t head_dim,
                       glm4v_error *err)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    pthread_mutex_lock(&c->lock);
    int rc = glm4v_cpu_reserve_linear(c, T, max_n_in, err);
    if (!rc)
        rc = glm4v_cpu_reserve_attention(c, n_k, head_dim, err);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* ---- open and close ---- */

static void cpu_close(glm4v_backend *b)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    glm4v_pool_close(&c->base.pool);
    glm4v_free(c->x);
    glm4v_free(c->x_scale);
    glm4v_free(c->x_sum);
    glm4v_free(c->row);
    glm4v_free(c->attention_scratch);
    glm4v_free(c->room);
    pthread_mutex_destroy(&c->lock);
    glm4v_free(c);
}

static const glm4v_backend_ops cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .activation_size = cpu_activation_size,
    .upload = cpu_upload,
    .download = cpu_download,
    .upload_f32 = cpu_upload,
    .weights_reserve = glm4v_cpu_weights_reserve,
    .weight_bytes = glm4v_cpu_weight_bytes,
    .weight_alloc = glm4v_cpu_weight_alloc,
    .weight_fill = glm4v_cpu_weight_fill,
    .weight_fill_codes = glm4v_cpu_weight_fill_codes,
    .weight_fill_bf16 = glm4v_cpu_weight_fill_bf16,
    .weight_room = glm4v_cpu_weight_room,
    .weight_order = glm4v_cpu_weight_order,
    .weight_free = glm4v_cpu_weight_free,
    .table_alloc = glm4v_cpu_table_alloc,
    .table_fill = glm4v_cpu_table_fill,
    .table_fill_codes = glm4v_cpu_table_fill_codes,
    .table_free = glm4v_cpu_table_free,
    .embed = glm4v_cpu_embed,
    .linear = glm4v_cpu_linear,
    .rms_norm = glm4v_cpu_rms_norm,
    .layer_norm = glm4v_cpu_layer_norm,
    .silu_mul = glm4v_cpu_silu_mul,
    .gelu = glm4v_cpu_gelu,
    .add = glm4v_cpu_add,
    .scale = glm4v_cpu_scale,
    .rope = glm4v_cpu_rope,
    .kv_append = glm4v_cpu_kv_append,
    .attention = glm4v_cpu_attention,
    .copy_rows = glm4v_cpu_copy_rows,
    .gather_rows = glm4v_cpu_gather_rows,
    .reserve = cpu_reserve,
    .scratch_bytes = cpu_scratch_bytes,
};

int glm4v_backend_cpu_open(glm4v_backend **backend, uint32_t n_threads, const glm4v_log *log,
                           glm4v_error *err)
{
    unsigned flags;
    int rc = glm4v_cpu_choose(&flags, err);
    if (rc)
        return rc;
    glm4v_cpu_backend *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CPU backend");
    rc = glm4v_pool_open(&c->base.pool, n_threads, err);
    if (!rc && pthread_mutex_init(&c->lock, NULL)) {
        glm4v_pool_close(&c->base.pool);
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CPU backend's lock");
    }
    if (rc) {
        glm4v_free(c);
        return rc;
    }
    c->base.ops = &cpu_ops;
    c->base.isa = glm4v_cpu_level(flags);
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
