/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Single operations of a backend, each in a step of its own, and the CPU backend with a pool of its
 * own: for tests of operations. All return what the operation returned. */
#ifndef GLM4V_TEST_BACKEND_STEP_H
#define GLM4V_TEST_BACKEND_STEP_H

#include <stdio.h>
#include <stdlib.h>

#include <inttypes.h>

#include "backend/backend.h"

#define UNUSED __attribute__((unused))

UNUSED static int cpu_try_open(glm4v_backend **b, const char *device, uint32_t threads,
                               glm4v_error *err)
{
    glm4v_pool *pool = NULL;
    int rc = glm4v_pool_open(&pool, threads, err);
    if (!rc)
        rc = glm4v_backend_open(b, device, pool, NULL, err);
    if (rc)
        glm4v_pool_close(&pool);
    return rc;
}

UNUSED static glm4v_backend *cpu_open(uint32_t threads)
{
    glm4v_backend *b = NULL;
    glm4v_pool *pool = NULL;
    glm4v_error err = { 0 };
    if (glm4v_pool_open(&pool, threads, &err) || glm4v_backend_cpu_open(&b, pool, NULL, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    return b;
}

/* Of cpu_open; NULL is allowed. */
UNUSED static void cpu_close(glm4v_backend **b)
{
    glm4v_pool *pool = *b ? (*b)->pool : NULL;
    glm4v_backend_close(b);
    glm4v_pool_close(&pool);
}

/* A step of these rows that has begun. */
UNUSED static glm4v_step *step_of(glm4v_backend *b, const glm4v_step_rows *rows)
{
    const glm4v_step_size size = { .queue = GLM4V_QUEUE_PREFILL,
                                   .rows = rows->rows,
                                   .spans = rows->n_spans ? rows->n_spans : 1,
                                   .outputs = rows->n_outputs,
                                   .n_freq = rows->rotary ? rows->rotary->n_freq : 0 };
    glm4v_step *step = NULL;
    bool replayed = true;
    if (b->ops->step_open(b, &step, &size, NULL) || b->ops->step_begin(step, rows, &replayed) ||
        replayed) {
        fprintf(stderr, "a step of %" PRId64 " rows could not begin\n", rows->rows);
        exit(1);
    }
    return step;
}

/* Wait for the queue. */
UNUSED static int queue_over(glm4v_backend *b, glm4v_queue q)
{
    glm4v_event *event = NULL;
    int rc = b->ops->event_open(b, &event, NULL);
    if (rc)
        return rc;
    rc = b->ops->event_record(b, q, event);
    if (!rc)
        rc = b->ops->sync(b, event);
    b->ops->event_close(b, event);
    return rc;
}

UNUSED static int step_over(glm4v_step *step, int rc)
{
    glm4v_backend *b = step->backend;
    int end = b->ops->step_end(step);
    int done = queue_over(b, step->size.queue);
    b->ops->step_close(step);
    if (rc)
        return rc;
    return end ? end : done;
}

UNUSED static int run_product(glm4v_backend *b, void *y, int64_t ldy, const void *x, int64_t ldx,
                              const glm4v_weight *w, const float *bias, int64_t rows, bool add)
{
    const glm4v_product p = { y, ldy, x, ldx, w, bias, rows, add };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = rows });
    return step_over(s, b->ops->product(s, &p));
}

/* bias NULL: RMSNorm */
UNUSED static int run_norm(glm4v_backend *b, void *y, const void *x, const float *w,
                           const float *bias, int64_t rows, int64_t n, bool add)
{
    const glm4v_norm norm = { w, bias, 1e-5f };
    const glm4v_norm_rows args = { y, n, x, n, &norm, rows, 1, n, add };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = rows });
    return step_over(s, b->ops->norm(s, &args));
}

UNUSED static int run_silu_mul(glm4v_backend *b, void *y, const void *x, int64_t rows, int64_t n)
{
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = rows });
    return step_over(s, b->ops->silu_mul(s, y, x, rows, n));
}

UNUSED static int run_gelu(glm4v_backend *b, void *x, int64_t n)
{
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = 1 });
    return step_over(s, b->ops->gelu(s, x, n));
}

UNUSED static int run_add(glm4v_backend *b, void *y, const void *x, int64_t n)
{
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = 1 });
    return step_over(s, b->ops->add(s, y, x, n));
}

UNUSED static int run_scale(glm4v_backend *b, void *x, float factor, int64_t n)
{
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = 1 });
    return step_over(s, b->ops->scale(s, x, factor, n));
}

/* Row i by row i of cos, sin [rows, n_freq]. */
UNUSED static int run_rope(glm4v_backend *b, void *x, int64_t ldx, float *cos_, float *sin_,
                           int64_t rows, int64_t heads, int64_t head_dim, int64_t n_freq,
                           glm4v_rope_style style)
{
    const glm4v_rotary rotary = {
        .cos = cos_, .sin = sin_, .n_rows = rows, .n_freq = n_freq, .style = style
    };
    const glm4v_rope rope = { x, ldx, heads, head_dim };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = rows, .rotary = &rotary });
    return step_over(s, b->ops->rope(s, &rope));
}

UNUSED static int run_embed(glm4v_backend *b, void *y, const glm4v_table *t, const int32_t *ids,
                            int64_t rows)
{
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = rows, .ids = ids });
    return step_over(s, b->ops->embed(s, y, t));
}

#undef UNUSED
#endif
