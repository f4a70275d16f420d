/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of the CPU backend that treat each row, or each value, by itself. Rows are dealt out
 * in blocks; flat arrays are cut at multiples of BLOCK values, so that the vector kernels' tails
 * fall on the same values always. */
#include <string.h>

#include "backend/cpu_priv.h"

#define BLOCK 8192 /* values of one task, about */

/* Arguments of one operation over T rows of n values. */
typedef struct {
    glm4v_cpu_backend *cpu;
    void *y;
    const void *x;
    const float *a, *b; /* weights and bias, or cos and sin */
    const int32_t *rows;
    const glm4v_table *table;
    int64_t ldx;
    int32_t T, n, per_task, heads, head_dim;
    size_t size; /* values of a flat array */
    float eps, factor;
    bool add;
    glm4v_rope_fn rope;
} row_task;

/* Run `fn` over T rows that cost `cost` element operations each. */
static int run_rows(row_task *t, int32_t T, size_t cost,
                    void (*fn)(void *user, uint32_t i, uint32_t thread))
{
    const size_t per_task = cost >= BLOCK ? 1 : BLOCK / (cost ? cost : 1);
    t->T = T;
    t->per_task = per_task < (size_t)T ? (int32_t)per_task : T;
    if (T > 0)
        glm4v_cpu_run(t->cpu, (uint32_t)((T + t->per_task - 1) / t->per_task), (uint64_t)T * cost,
                      fn, t);
    return 0;
}

/* Rows of task i: [first, return). */
static int32_t last_row(const row_task *t, uint32_t i, int32_t *first)
{
    *first = (int32_t)i * t->per_task;
    return t->T - *first < t->per_task ? t->T : *first + t->per_task;
}

static void rms_norm_rows(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const size_t at = (size_t)r * (size_t)t->n;
        t->cpu->norm.rms_norm((float *)t->y + at, (const float *)t->x + at, t->a, t->n, t->eps,
                              t->add);
    }
}

int glm4v_cpu_rms_norm(glm4v_backend *b, void *y, const void *x, const float *w, int32_t T,
                       int32_t n, float eps, bool add)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .x = x, .a = w, .n = n, .eps = eps, .add = add };
    return run_rows(&t, T, (size_t)n, rms_norm_rows);
}

static void layer_norm_rows(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const size_t at = (size_t)r * (size_t)t->n;
        t->cpu->norm.layer_norm((float *)t->y + at, (const float *)t->x + at, t->a, t->b, t->n,
                                t->eps, t->add);
    }
}

int glm4v_cpu_layer_norm(glm4v_backend *b, void *y, const void *x, const float *w,
                         const float *bias, int32_t T, int32_t n, float eps, bool add)
{
    row_task t = {
        .cpu = glm4v_cpu(b), .y = y, .x = x, .a = w, .b = bias, .n = n, .eps = eps, .add = add
    };
    return run_rows(&t, T, (size_t)n, layer_norm_rows);
}

static void silu_mul_rows(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    const size_t n = (size_t)t->n;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const float *gate = (const float *)t->x + 2 * (size_t)r * n;
        t->cpu->act.silu_mul((float *)t->y + (size_t)r * n, gate, gate + n, n);
    }
}

int glm4v_cpu_silu_mul(glm4v_backend *b, void *y, const void *x, int32_t T, int32_t n)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .x = x, .n = n };
    return run_rows(&t, T, 4 * (size_t)n, silu_mul_rows);
}

static void rope_rows(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const size_t at = (size_t)r * (size_t)t->n;
        t->rope((float *)t->y + (int64_t)r * t->ldx, t->a + at, t->b + at, t->heads, t->head_dim,
                t->n);
    }
}

int glm4v_cpu_rope(glm4v_backend *b, void *x, int64_t ldx, const float *cos, const float *sin,
                   int32_t T, int32_t heads, int32_t head_dim, int32_t n_freq,
                   glm4v_rope_style style)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    row_task t = { .cpu = c,
                   .y = x,
                   .ldx = ldx,
                   .a = cos,
                   .b = sin,
                   .n = n_freq,
                   .heads = heads,
                   .head_dim = head_dim,
                   .rope = style == GLM4V_ROPE_INTERLEAVED ? c->rope.interleaved : c->rope.half };
    return run_rows(&t, T, 2 * (size_t)heads * (size_t)n_freq, rope_rows);
}

static void embed_rows(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    const glm4v_table *table = t->table;
    void (*read)(const glm4v_convert_ops *, float *, const void *, const float *, size_t, size_t) =
        glm4v_form_of(table->form)->cpu.table_row;
    const size_t n = (size_t)table->n_cols;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        float *y = (float *)t->y + (size_t)r * n;
        read(&t->cpu->convert, y, table->data, table->scale, (size_t)t->rows[r], n);
    }
}

int glm4v_cpu_embed(glm4v_backend *b, void *y, const glm4v_table *table, const int32_t *ids,
                    int32_t T)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .table = table, .rows = ids };
    return run_rows(&t, T, (size_t)table->n_cols, embed_rows);
}

static void copy_task(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    const size_t n = (size_t)t->n;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++)
        memcpy((float *)t->y + (size_t)t->rows[r] * n, (const float *)t->x + (size_t)r * n,
               n * sizeof(float));
}

int glm4v_cpu_copy_rows(glm4v_backend *b, void *y, const int32_t *rows, const void *x, int32_t n,
                        int32_t n_cols)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .x = x, .rows = rows, .n = n_cols };
    return run_rows(&t, n, (size_t)n_cols, copy_task);
}

static void gather_task(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    const size_t n = (size_t)t->n;
    int32_t r, end = last_row(t, i, &r);
    for (; r < end; r++)
        memcpy((float *)t->y + (size_t)r * n, (const float *)t->x + (size_t)t->rows[r] * n,
               n * sizeof(float));
}

int glm4v_cpu_gather_rows(glm4v_backend *b, void *y, const void *x, const int32_t *rows, int32_t n,
                          int32_t n_cols)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .x = x, .rows = rows, .n = n_cols };
    return run_rows(&t, n, (size_t)n_cols, gather_task);
}

/* Block i of a flat array. */
static size_t flat_block(const row_task *t, uint32_t i, size_t *at)
{
    *at = (size_t)i * BLOCK;
    return t->size - *at < BLOCK ? t->size - *at : BLOCK;
}

static void gelu_task(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    size_t at, n = flat_block(t, i, &at);
    t->cpu->act.gelu((float *)t->y + at, (const float *)t->y + at, n);
}

int glm4v_cpu_gelu(glm4v_backend *b, void *x, size_t n)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = x, .size = n };
    glm4v_cpu_run(t.cpu, (uint32_t)((n + BLOCK - 1) / BLOCK), 4 * (uint64_t)n, gelu_task, &t);
    return 0;
}

static void add_task(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    size_t at, n = flat_block(t, i, &at);
    t->cpu->act.add((float *)t->y + at, (const float *)t->x + at, n);
}

int glm4v_cpu_add(glm4v_backend *b, void *y, const void *x, size_t n)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = y, .x = x, .size = n };
    glm4v_cpu_run(t.cpu, (uint32_t)((n + BLOCK - 1) / BLOCK), n, add_task, &t);
    return 0;
}

static void scale_task(void *user, uint32_t i, uint32_t thread)
{
    const row_task *t = user;
    size_t at, n = flat_block(t, i, &at);
    t->cpu->act.scale((float *)t->y + at, t->factor, n);
}

int glm4v_cpu_scale(glm4v_backend *b, void *x, float factor, size_t n)
{
    row_task t = { .cpu = glm4v_cpu(b), .y = x, .factor = factor, .size = n };
    glm4v_cpu_run(t.cpu, (uint32_t)((n + BLOCK - 1) / BLOCK), n, scale_task, &t);
    return 0;
}
