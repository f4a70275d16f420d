/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See backend_bf16.h. */
#include "backend_bf16.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu_priv.h"
#include "convert.h"

static const glm4v_backend_ops *cpu; /* the CPU's own operations */
static glm4v_backend_ops ops;

static void round_row(void *y, int64_t n)
{
    float *row = y;
    for (int64_t i = 0; i < n; i++) {
        uint16_t narrow;
        glm4v_f32_to_bf16_c(&narrow, &row[i], 1);
        glm4v_bf16_to_f32_c(&row[i], &narrow, 1);
    }
}

static int round_rows(int rc, void *y, int64_t rows, int64_t n, int64_t ld)
{
    for (int64_t r = 0; !rc && r < rows; r++)
        round_row((float *)y + r * ld, n);
    return rc;
}

static int64_t rows_of(glm4v_step *s)
{
    return glm4v_cpu_step_of(s)->rows;
}

static int bf16_upload(glm4v_backend *b, void *y, const float *host, int64_t n)
{
    return round_rows(cpu->upload(b, y, host, n), y, 1, n, n);
}

static int bf16_step_upload(glm4v_step *s, void *y, const float *host, int64_t n)
{
    return round_rows(cpu->step_upload(s, y, host, n), y, 1, n, n);
}

static int bf16_embed(glm4v_step *s, void *y, const glm4v_table *t)
{
    return round_rows(cpu->embed(s, y, t), y, rows_of(s), t->n_cols, t->n_cols);
}

static int bf16_product(glm4v_step *s, const glm4v_product *p)
{
    return round_rows(cpu->product(s, p), p->y, p->rows, p->w->n_out, p->ldy);
}

static int bf16_norm(glm4v_step *s, const glm4v_norm_rows *n)
{
    return round_rows(cpu->norm(s, n), n->y, n->rows, n->groups * n->n, n->ldy);
}

static int bf16_silu_mul(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n)
{
    return round_rows(cpu->silu_mul(s, y, x, rows, n), y, rows, n, n);
}

static int bf16_gelu(glm4v_step *s, void *x, int64_t n)
{
    return round_rows(cpu->gelu(s, x, n), x, 1, n, n);
}

static int bf16_add(glm4v_step *s, void *y, const void *x, int64_t n)
{
    return round_rows(cpu->add(s, y, x, n), y, 1, n, n);
}

static int bf16_scale(glm4v_step *s, void *x, float factor, int64_t n)
{
    return round_rows(cpu->scale(s, x, factor, n), x, 1, n, n);
}

static int bf16_rope(glm4v_step *s, const glm4v_rope *r)
{
    return round_rows(cpu->rope(s, r), r->x, rows_of(s), r->heads * r->head_dim, r->ldx);
}

static int bf16_attend(glm4v_step *s, const glm4v_attend *a)
{
    const int64_t n = a->heads * a->kv->shape.head_dim;
    return round_rows(cpu->attend(s, a), a->o, rows_of(s), n, a->ldo);
}

static int bf16_attend_all(glm4v_step *s, const glm4v_attend_all *a)
{
    return round_rows(cpu->attend_all(s, a), a->o, a->rows, a->heads * a->head_dim, a->ldo);
}

int bf16_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log, glm4v_error *err)
{
    const char *level = getenv("GLM4V_CPU");
    char before[32] = "";
    if (level)
        strncpy(before, level, sizeof before - 1);
    setenv("GLM4V_CPU", "c", 1);
    int rc = glm4v_backend_cpu_open(backend, pool, log, err);
    if (level)
        setenv("GLM4V_CPU", before, 1);
    else
        unsetenv("GLM4V_CPU");
    if (rc)
        return rc;
    cpu = (*backend)->ops;
    ops = *cpu;
    ops.upload = bf16_upload;
    ops.step_upload = bf16_step_upload;
    ops.embed = bf16_embed;
    ops.product = bf16_product;
    ops.norm = bf16_norm;
    ops.silu_mul = bf16_silu_mul;
    ops.gelu = bf16_gelu;
    ops.add = bf16_add;
    ops.scale = bf16_scale;
    ops.rope = bf16_rope;
    ops.attend = bf16_attend;
    ops.attend_all = bf16_attend_all;
    (*backend)->ops = &ops;
    return 0;
}
