/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of the CPU backend that process each row, or each value, separately. Rows are
 * distributed in blocks; flat arrays are cut at multiples of BLOCK values, so that the tails of the
 * vector kernels are always the same values. */
#include <string.h>

#include "backend/cpu_priv.h"

#define BLOCK 8192 /* values of one task, about */

/* Arguments of one operation over T rows of n values. */
typedef struct {
    glm4v_cpu_backend *cpu;
    void *y;
    const void *x;
    const glm4v_norm *norm;
    const float *cos, *sin;
    const int32_t *rows;
    const glm4v_table *table;
    int64_t ldy, ldx;
    int64_t T, n, per_task, groups, heads, head_dim;
    int64_t size; /* values of a flat array */
    float factor;
    bool add;
    glm4v_rope_fn rope;
} row_task;

/* Run `fn` over T rows that cost `cost` element operations each. */
static int run_rows(row_task *t, int64_t T, int64_t cost,
                    void (*fn)(void *user, int64_t i, int64_t thread))
{
    int64_t per_task = cost > 0 ? BLOCK / cost : BLOCK;
    if (per_task < 1)
        per_task = 1;
    t->T = T;
    t->per_task = per_task < T ? per_task : T;
    if (T > 0)
        glm4v_cpu_run(t->cpu, (T + t->per_task - 1) / t->per_task, T * cost, fn, t);
    return 0;
}

/* Rows of task i: [first, return). */
static int64_t last_row(const row_task *t, int64_t i, int64_t *first)
{
    *first = i * t->per_task;
    return t->T - *first < t->per_task ? t->T : *first + t->per_task;
}

/* Row r of the task is group r % groups of row r / groups. */
static void norm_rows(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    const glm4v_norm *norm = t->norm;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const int64_t group = r % t->groups * t->n;
        float *y = (float *)t->y + r / t->groups * t->ldy + group;
        const float *x = (const float *)t->x + r / t->groups * t->ldx + group;
        if (norm->bias)
            t->cpu->norm.layer_norm(y, x, norm->w, norm->bias, t->n, norm->eps, t->add);
        else
            t->cpu->norm.rms_norm(y, x, norm->w, t->n, norm->eps, t->add);
    }
}

int glm4v_cpu_norm(glm4v_step *s, const glm4v_norm_rows *n)
{
    row_task t = { .cpu = glm4v_cpu(s->backend),
                   .y = n->y,
                   .ldy = n->ldy,
                   .x = n->x,
                   .ldx = n->ldx,
                   .norm = n->norm,
                   .groups = n->groups,
                   .n = n->n,
                   .add = n->add };
    return run_rows(&t, n->rows * n->groups, n->n, norm_rows);
}

static void silu_mul_rows(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    const int64_t n = t->n;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const float *gate = (const float *)t->x + 2 * r * n;
        t->cpu->act.silu_mul((float *)t->y + r * n, gate, gate + n, n);
    }
}

int glm4v_cpu_silu_mul(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n)
{
    row_task t = { .cpu = glm4v_cpu(s->backend), .y = y, .x = x, .n = n };
    return run_rows(&t, rows, 4 * n, silu_mul_rows);
}

static void rope_rows(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        const int64_t at = r * t->n;
        t->rope((float *)t->y + r * t->ldx, t->cos + at, t->sin + at, t->heads, t->head_dim, t->n);
    }
}

int glm4v_cpu_rope(glm4v_step *step, const glm4v_rope *r)
{
    const glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    glm4v_cpu_backend *c = glm4v_cpu(step->backend);
    row_task t = { .cpu = c,
                   .y = r->x,
                   .ldx = r->ldx,
                   .cos = s->row_cos,
                   .sin = s->row_sin,
                   .n = s->n_freq,
                   .heads = r->heads,
                   .head_dim = r->head_dim };
    switch (s->style) {
    case GLM4V_ROPE_INTERLEAVED:
        t.rope = c->rope.interleaved;
        break;
    case GLM4V_ROPE_HALF:
        t.rope = c->rope.half;
        break;
    }
    return run_rows(&t, s->rows, 2 * r->heads * s->n_freq, rope_rows);
}

static void embed_rows(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    const glm4v_table *table = t->table;
    void (*read)(const glm4v_convert_ops *, float *, const void *, const float *, int64_t,
                 int64_t) = glm4v_form_of(table->form)->cpu.table_row;
    const int64_t n = table->n_cols;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++) {
        float *y = (float *)t->y + r * n;
        read(&t->cpu->convert, y, table->data, table->scale, t->rows[r], n);
    }
}

int glm4v_cpu_embed(glm4v_step *step, void *y, const glm4v_table *table)
{
    const glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    row_task t = { .cpu = glm4v_cpu(step->backend), .y = y, .table = table, .rows = s->ids };
    return run_rows(&t, s->rows, table->n_cols, embed_rows);
}

static void place_task(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    const int64_t n = t->n;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++)
        memcpy((float *)t->y + t->rows[r] * n, (const float *)t->x + r * n, n * sizeof(float));
}

int glm4v_cpu_place_rows(glm4v_step *step, void *y, const void *x, int64_t n_cols)
{
    const glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    row_task t = {
        .cpu = glm4v_cpu(step->backend), .y = y, .x = x, .rows = s->places, .n = n_cols
    };
    return run_rows(&t, s->n_places, n_cols, place_task);
}

static void take_task(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    const int64_t n = t->n;
    int64_t r, end = last_row(t, i, &r);
    for (; r < end; r++)
        memcpy((float *)t->y + r * n, (const float *)t->x + t->rows[r] * n, n * sizeof(float));
}

int glm4v_cpu_take_rows(glm4v_step *step, void *y, const void *x, int64_t n_cols)
{
    const glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    row_task t = {
        .cpu = glm4v_cpu(step->backend), .y = y, .x = x, .rows = s->outputs, .n = n_cols
    };
    return run_rows(&t, s->n_outputs, n_cols, take_task);
}

/* Block i of a flat array. */
static int64_t flat_block(const row_task *t, int64_t i, int64_t *at)
{
    *at = i * BLOCK;
    return t->size - *at < BLOCK ? t->size - *at : BLOCK;
}

static void gelu_task(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    int64_t at, n = flat_block(t, i, &at);
    t->cpu->act.gelu((float *)t->y + at, (const float *)t->y + at, n);
}

int glm4v_cpu_gelu(glm4v_step *s, void *x, int64_t n)
{
    row_task t = { .cpu = glm4v_cpu(s->backend), .y = x, .size = n };
    glm4v_cpu_run(t.cpu, (n + BLOCK - 1) / BLOCK, 4 * n, gelu_task, &t);
    return 0;
}

static void add_task(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    int64_t at, n = flat_block(t, i, &at);
    t->cpu->act.add((float *)t->y + at, (const float *)t->x + at, n);
}

int glm4v_cpu_add(glm4v_step *s, void *y, const void *x, int64_t n)
{
    row_task t = { .cpu = glm4v_cpu(s->backend), .y = y, .x = x, .size = n };
    glm4v_cpu_run(t.cpu, (n + BLOCK - 1) / BLOCK, n, add_task, &t);
    return 0;
}

static void scale_task(void *user, int64_t i, int64_t thread)
{
    const row_task *t = user;
    int64_t at, n = flat_block(t, i, &at);
    t->cpu->act.scale((float *)t->y + at, t->factor, n);
}

int glm4v_cpu_scale(glm4v_step *s, void *x, float factor, int64_t n)
{
    row_task t = { .cpu = glm4v_cpu(s->backend), .y = x, .factor = factor, .size = n };
    glm4v_cpu_run(t.cpu, (n + BLOCK - 1) / BLOCK, n, scale_task, &t);
    return 0;
}
