/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See quantize/capture.h. Moments are products themselves: x^T x of a block of rows goes through
 * the kernel of fp32 matrices, with the rows as its "weights" and their transpose as its rows. */
#include "quantize/capture.h"

#include <inttypes.h>
#include <string.h>

#include "backend/cpu_priv.h"
#include "base/error.h"
#include "base/mem.h"

#define BLOCK 256    /* rows of x summed at a time */
#define TILE_ROWS 64 /* rows of the moments of one task */

/* One block of rows on its way into the moments. */
typedef struct {
    const glm4v_cpu_backend *cpu;
    glm4v_round_moments *m;
    const float *x, *f; /* [n, K] of the quantized and the original model */
    int64_t ldx;
    int64_t n;
    float *panels;  /* [K / 16][n][16] of x */
    float *xt, *ft; /* [K, n] */
} block;

/* Sixteen columns: into their panel, and turned into rows. */
static void turn_columns(void *user, int64_t task, int64_t thread)
{
    const block *b = user;
    const int64_t n = b->n, first = task * GLM4V_PANEL;
    float *panel = b->panels + first * n;
    for (int64_t t = 0; t < n; t++) {
        const float *x = b->x + t * b->ldx + first;
        const float *f = b->f + t * b->m->K + first;
        memcpy(panel + t * GLM4V_PANEL, x, GLM4V_PANEL * sizeof *x);
        for (int64_t i = 0; i < GLM4V_PANEL; i++) {
            b->xt[(first + i) * n + t] = x[i];
            b->ft[(first + i) * n + t] = f[i];
        }
    }
}

/* Rows of H, up to their diagonal, and of C. */
static void add_rows(void *user, int64_t task, int64_t thread)
{
    const block *b = user;
    const int64_t K = b->m->K, first = task * TILE_ROWS;
    const int64_t rows = K - first < TILE_ROWS ? K - first : TILE_ROWS;
    glm4v_gemm_args g = {
        .y = b->m->second + first * K,
        .x = b->xt + first * b->n,
        .w = b->panels,
        .ldy = K,
        .ldx = b->n,
        .T = rows,
        .K = b->n,
        .n_out = K,
        .n_panels = (first + rows) / GLM4V_PANEL,
        .add = true,
    };
    b->cpu->gemm.f32(&g);
    g.y = b->m->cross + first * K;
    g.x = b->ft + first * b->n;
    g.n_panels = K / GLM4V_PANEL;
    b->cpu->gemm.f32(&g);
}

static int grow(float **data, int64_t n, glm4v_capture *l)
{
    float *more = glm4v_realloc(*data, n, sizeof *more);
    if (!more)
        return glm4v_fail(&l->error, GLM4V_ERR_NOMEM, "no memory for %zu numbers of calibration",
                          n);
    *data = more;
    return 0;
}

/* The original's rows wait for the quantized model's. */
static int keep(glm4v_capture *to, glm4v_captured *l, const float *x, int64_t ldx, int64_t T)
{
    const int64_t K = l->moments.K;
    if (T > l->capacity - l->n_seen) {
        if (T > INT32_MAX / 2 - l->n_seen || grow(&l->seen, (l->n_seen + T) * K, to))
            return GLM4V_ERR_NOMEM;
        l->capacity = l->n_seen + T;
    }
    for (int64_t t = 0; t < T; t++)
        memcpy(l->seen + (l->n_seen + t) * K, x + t * ldx, K * sizeof *x);
    l->n_seen += T;
    return 0;
}

/* Rows of the quantized model and the original's that belong to them. */
static int add(const glm4v_capture_hook *hook, glm4v_captured *l, const float *x, int64_t ldx,
               int64_t T)
{
    glm4v_capture *to = hook->to;
    const int64_t K = l->moments.K;
    if (T > l->n_seen - l->n_paired)
        return glm4v_fail(&to->error, GLM4V_ERR_INTERNAL,
                          "calibration: %" PRId64 " rows in the quantized model, %" PRId64
                          " in the original",
                          l->n_paired + T, l->n_seen);
    if (to->scratch_floats < 3 * K * BLOCK) {
        if (grow(&to->scratch, 3 * K * BLOCK, to))
            return GLM4V_ERR_NOMEM;
        to->scratch_floats = 3 * K * BLOCK;
    }
    for (int64_t t = 0; t < T; t += BLOCK) {
        block b = {
            .cpu = glm4v_cpu(hook->backend),
            .m = &l->moments,
            .x = x + t * ldx,
            .f = l->seen + (l->n_paired + t) * K,
            .ldx = ldx,
            .n = T - t < BLOCK ? T - t : BLOCK,
            .panels = to->scratch,
            .xt = to->scratch + K * BLOCK,
            .ft = to->scratch + 2 * K * BLOCK,
        };
        glm4v_pool_run(hook->backend->pool, (K / GLM4V_PANEL), turn_columns, &b);
        glm4v_pool_run(hook->backend->pool, ((K + TILE_ROWS - 1) / TILE_ROWS), add_rows, &b);
    }
    l->n_paired += T;
    return 0;
}

static int see_product(void *user, const glm4v_product *p)
{
    const glm4v_capture_hook *hook = user;
    glm4v_capture *to = hook->to;
    int rc = 0;
    for (int64_t i = 0; !rc && i < to->n; i++)
        if (to->list[i].weight[hook->side] == p->w) {
            rc = hook->side == GLM4V_ORIGINAL ? keep(to, &to->list[i], p->x, p->ldx, p->rows)
                                              : add(hook, &to->list[i], p->x, p->ldx, p->rows);
            if (i + 1 == to->n)
                atomic_store(&to->enough, true);
        }
    return rc;
}

void glm4v_capture_hook_open(glm4v_capture_hook *hook, glm4v_backend *backend, glm4v_capture *to,
                             int side)
{
    *hook = (glm4v_capture_hook) { .observer = { .product = see_product, .user = hook },
                                   .backend = backend,
                                   .to = to,
                                   .side = side };
    backend->ops->observe(backend, &hook->observer);
}

void glm4v_capture_hook_close(glm4v_capture_hook *hook)
{
    if (hook->backend)
        hook->backend->ops->observe(hook->backend, NULL);
    hook->backend = NULL;
}

uint64_t glm4v_captured_bytes(int64_t K)
{
    return 2 * K * K * sizeof(float);
}

int glm4v_captured_open(glm4v_captured *l, int64_t K, glm4v_error *err)
{
    l->moments.K = K;
    l->moments.second = glm4v_alloc(K * K, sizeof(float));
    l->moments.cross = glm4v_alloc(K * K, sizeof(float));
    return l->moments.second && l->moments.cross
               ? 0
               : glm4v_fail(err, GLM4V_ERR_NOMEM,
                            "no memory for the moments of %" PRId64 " inputs (%" PRIu64 " MiB)", K,
                            glm4v_captured_bytes(K) >> 20);
}

void glm4v_capture_clear(glm4v_capture *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        glm4v_free(l->list[i].moments.second);
        glm4v_free(l->list[i].moments.cross);
        glm4v_free(l->list[i].seen);
    }
    glm4v_free(l->list);
    glm4v_free(l->scratch);
    *l = (glm4v_capture) { 0 };
}

void glm4v_capture_begin(glm4v_capture *l, int side)
{
    atomic_store(&l->enough, false);
    for (int64_t i = 0; i < l->n; i++) {
        if (side == GLM4V_ORIGINAL)
            l->list[i].n_seen = 0;
        l->list[i].n_paired = 0;
    }
}
