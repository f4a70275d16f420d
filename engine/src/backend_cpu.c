/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend: kernel tables by CPU flags, a thread pool, memory, weights and tables.
 * Operations are in backend_cpu_rows.c (row by row), backend_cpu_linear.c and
 * backend_cpu_attention.c. */
#include "backend_cpu.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "error.h"
#include "mem.h"

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

int glm4v_cpu_reserve_linear(glm4v_cpu_backend *c, int32_t T, int32_t n_in, glm4v_error *err)
{
    const size_t rows = T < GLM4V_CPU_SLAB ? (size_t)T : GLM4V_CPU_SLAB;
    const size_t groups = (size_t)glm4v_group_count(n_in) * rows;
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
    return rc;
}

int glm4v_cpu_reserve_attention(glm4v_cpu_backend *c, int32_t n_k, int32_t head_dim,
                                glm4v_error *err)
{
    const size_t threads = glm4v_pool_threads(c->base.pool);
    /* whole cache lines, so that threads share none */
    const size_t floats =
        (glm4v_attention_scratch(GLM4V_CPU_ATTENTION_ROWS, n_k, head_dim) + 15) / 16 * 16;
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

/* ---- weights ---- */

typedef struct {
    size_t panel; /* bytes of one panel */
    size_t scale; /* scales of one panel */
} panel_sizes;

/* False: the CPU has no such form, or none for this width. */
static bool panel_sizes_of(panel_sizes *s, glm4v_form form, int32_t n_in)
{
    *s = (panel_sizes) { 0 };
    switch (form) {
    case GLM4V_FORM_F32:
        s->panel = glm4v_panel_bytes_f32(n_in);
        return true;
    case GLM4V_FORM_BF16:
        s->panel = glm4v_panel_bytes_bf16(n_in);
        return true;
    case GLM4V_FORM_INT8:
        s->panel = glm4v_panel_bytes_int8(n_in);
        s->scale = GLM4V_PANEL;
        return true;
    case GLM4V_FORM_INT4:
        s->panel = glm4v_panel_bytes_int4(n_in);
        s->scale = (size_t)glm4v_group_count(n_in) * GLM4V_PANEL;
        return n_in % GLM4V_GROUP == 0;
    default:
        return false;
    }
}

static uint64_t cpu_weight_bytes(glm4v_backend *b, glm4v_form form, int32_t n_out, int32_t n_in)
{
    panel_sizes s;
    if (!panel_sizes_of(&s, form, n_in))
        return 0;
    return (uint64_t)glm4v_panel_count(n_out) * (s.panel + s.scale * sizeof(float));
}

static void cpu_weight_free(glm4v_backend *b, glm4v_weight *w)
{
    glm4v_free(w->data);
    glm4v_free(w->scale);
    glm4v_free(w->zero);
    *w = (glm4v_weight) { 0 };
}

static int cpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, glm4v_form form, int32_t n_out,
                            int32_t n_in, glm4v_error *err)
{
    panel_sizes s;
    if (!panel_sizes_of(&s, form, n_in))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "the CPU has no %s matrices of %d inputs",
                          glm4v_form_name(form), n_in);
    const size_t panels = (size_t)glm4v_panel_count(n_out);
    glm4v_weight fresh = {
        .form = form,
        .n_out = n_out,
        .n_in = n_in,
        .data = glm4v_alloc_aligned(panels, s.panel),
        .scale = s.scale ? glm4v_alloc_aligned(panels * s.scale, sizeof(float)) : NULL,
        .bytes = cpu_weight_bytes(b, form, n_out, n_in),
    };
    if (!fresh.data || (s.scale && !fresh.scale)) {
        cpu_weight_free(b, &fresh);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a matrix of %d x %d as %s", n_out,
                          n_in, glm4v_form_name(form));
    }
    *w = fresh;
    return 0;
}

static int cpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                           const float *rows)
{
    const glm4v_gemm_ops *ops = &glm4v_cpu(b)->gemm;
    const int32_t K = w->n_in;
    panel_sizes s;
    if (!panel_sizes_of(&s, w->form, K) || row < 0 || row % GLM4V_PANEL || n < 0 ||
        row > w->n_out - n)
        return GLM4V_ERR_INVALID;
    for (int32_t i = 0; i < n; i += GLM4V_PANEL) {
        const size_t panel = (size_t)(row + i) / GLM4V_PANEL;
        const int32_t some = n - i < GLM4V_PANEL ? n - i : GLM4V_PANEL;
        const float *from = rows + (size_t)i * (size_t)K;
        void *to = (char *)w->data + panel * s.panel;
        float *scale = w->scale + panel * s.scale;
        switch (w->form) {
        case GLM4V_FORM_F32:
            ops->pack_f32(to, from, K, some, K);
            break;
        case GLM4V_FORM_BF16:
            ops->pack_bf16(to, from, K, some, K);
            break;
        case GLM4V_FORM_INT8:
            ops->pack_int8(to, scale, from, K, some, K);
            break;
        default:
            ops->pack_int4(to, scale, from, K, some, K);
            break;
        }
    }
    return 0;
}

/* ---- tables ---- */

static void cpu_table_free(glm4v_backend *b, glm4v_table *t)
{
    glm4v_free(t->data);
    glm4v_free(t->scale);
    *t = (glm4v_table) { 0 };
}

static int cpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int32_t n_rows,
                           int32_t n_cols, glm4v_error *err)
{
    const size_t size = form == GLM4V_FORM_F32 ? 4 : form == GLM4V_FORM_BF16 ? 2 : 1;
    const size_t bytes = (size_t)n_rows * (size_t)n_cols * size; /* int32 x int32 x 4 fits */
    if (form != GLM4V_FORM_F32 && form != GLM4V_FORM_BF16 && form != GLM4V_FORM_INT8)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "the CPU has no %s tables",
                          glm4v_form_name(form));
    glm4v_table fresh = {
        .form = form,
        .n_rows = n_rows,
        .n_cols = n_cols,
        .data = glm4v_alloc_aligned(bytes, 1),
        .scale =
            form == GLM4V_FORM_INT8 ? glm4v_alloc_aligned((size_t)n_rows, sizeof(float)) : NULL,
        .bytes = bytes + (form == GLM4V_FORM_INT8 ? (size_t)n_rows * sizeof(float) : 0),
    };
    if (!fresh.data || (form == GLM4V_FORM_INT8 && !fresh.scale)) {
        cpu_table_free(b, &fresh);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a table of %d x %d as %s", n_rows,
                          n_cols, glm4v_form_name(form));
    }
    *t = fresh;
    return 0;
}

static int cpu_table_fill(glm4v_backend *b, glm4v_table *t, int32_t row, int32_t n,
                          const float *rows)
{
    const glm4v_convert_ops *ops = &glm4v_cpu(b)->convert;
    const size_t cols = (size_t)t->n_cols, at = (size_t)row * cols;
    if (row < 0 || n < 0 || row > t->n_rows - n)
        return GLM4V_ERR_INVALID;
    if (t->form == GLM4V_FORM_F32)
        memcpy((float *)t->data + at, rows, (size_t)n * cols * sizeof(float));
    else if (t->form == GLM4V_FORM_BF16)
        ops->f32_to_bf16((uint16_t *)t->data + at, rows, (size_t)n * cols);
    else
        for (int32_t i = 0; i < n; i++)
            ops->f32_to_int8((int8_t *)t->data + at + (size_t)i * cols, &t->scale[row + i],
                             rows + (size_t)i * cols, cols);
    return 0;
}

/* ---- open and close ---- */

static void cpu_close(glm4v_backend *b)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    glm4v_pool_close(&c->base.pool);
    glm4v_free(c->x);
    glm4v_free(c->x_scale);
    glm4v_free(c->x_sum);
    glm4v_free(c->attention_scratch);
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
    .weight_bytes = cpu_weight_bytes,
    .weight_alloc = cpu_weight_alloc,
    .weight_fill = cpu_weight_fill,
    .weight_free = cpu_weight_free,
    .table_alloc = cpu_table_alloc,
    .table_fill = cpu_table_fill,
    .table_free = cpu_table_free,
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
};

int glm4v_backend_cpu_open(glm4v_backend **backend, uint32_t n_threads, const glm4v_log *log,
                           glm4v_error *err)
{
    unsigned flags = glm4v_cpu_flags();
    const char *level = getenv("GLM4V_CPU");
    if (!glm4v_cpu_mask(level, &flags))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "GLM4V_CPU=%s in the environment: expected c, avx2, avx512 or amx",
                          level);
    glm4v_cpu_backend *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CPU backend");
    int rc = glm4v_pool_open(&c->base.pool, n_threads, err);
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
