/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of the CPU backend: round the activations as the weights' form wants them, then
 * tiles of rows x panels. A tile keeps its rows in the second-level cache and streams its panels
 * past them; tiles that share panels follow each other, so that panels come from memory once. A
 * kernel's result for a row depends neither on the tile nor on the other rows. */
#include "backend/cpu_priv.h"

#define TILE_X_BYTES (256 << 10)     /* rows of one tile */
#define TILE_PANEL_BYTES (256 << 10) /* panels of one tile */
#define TILES_PER_THREAD 6           /* at least, when there is enough: threads finish together */

typedef struct {
    glm4v_cpu_backend *cpu;
    glm4v_gemm_fn gemm;
    glm4v_gemm_args args; /* of the whole call; tasks narrow it */
    const float *x;       /* f32 rows before rounding */
    int64_t ldx;
    int64_t x_size; /* bytes of one value of args.x */
    glm4v_rounding rounding;
    const int32_t *order; /* of inputs, or NULL */
    int64_t groups;       /* of rounded activations: scales of a row */
    int64_t rows_per_tile, panels_per_tile, row_tiles;
} linear_call;

#define ROUND_ROWS 8 /* rows of one rounding task */

/* x, or its inputs in the order of the weights. */
static const float *in_order(const linear_call *l, const float *x, int64_t thread)
{
    if (!l->order)
        return x;
    float *row = l->cpu->row + thread * l->cpu->row_floats;
    for (int64_t k = 0; k < l->args.K; k++)
        row[k] = x[l->order[k]];
    return row;
}

static void round_rows(void *user, int64_t i, int64_t thread)
{
    const linear_call *l = user;
    const glm4v_gemm_args *g = &l->args;
    const int64_t first = i * ROUND_ROWS;
    const int64_t end = g->T - first < ROUND_ROWS ? g->T : first + ROUND_ROWS;
    for (int64_t r = first; r < end; r++) {
        const float *x = in_order(l, l->x + r * l->ldx, thread);
        const int64_t at = r * l->groups;
        switch (l->rounding) {
        case GLM4V_ROUND_NONE:
            break;
        case GLM4V_ROUND_BF16:
            l->cpu->gemm.bf16_row((uint16_t *)l->cpu->x + r * g->ldx, x, g->K);
            break;
        case GLM4V_ROUND_INT8:
            l->cpu->gemm.quantize_row((int8_t *)l->cpu->x + r * g->ldx, l->cpu->x_scale + at,
                                      l->cpu->x_sum + at, x, g->K);
            break;
        case GLM4V_ROUND_INT8_32:
            l->cpu->gemm.quantize_row_32((int8_t *)l->cpu->x + r * g->ldx, l->cpu->x_scale + at,
                                         l->cpu->x_sum + at, x, g->K);
            break;
        case GLM4V_ROUND_FP8:
            l->cpu->gemm.fp8_row((uint16_t *)l->cpu->x + r * g->ldx, l->cpu->x_scale + at, x, g->K);
            break;
        }
    }
}

static void multiply_tile(void *user, int64_t i, int64_t thread)
{
    const linear_call *l = user;
    glm4v_gemm_args g = l->args;
    const int64_t row = i % l->row_tiles * l->rows_per_tile;
    g.panel = i / l->row_tiles * l->panels_per_tile;
    g.n_panels = l->args.n_panels - g.panel < l->panels_per_tile ? l->args.n_panels - g.panel
                                                                 : l->panels_per_tile;
    g.T = l->args.T - row < l->rows_per_tile ? l->args.T - row : l->rows_per_tile;
    g.y += row * g.ldy;
    g.x = (const char *)g.x + row * g.ldx * l->x_size;
    if (g.x_scale)
        g.x_scale += row * l->groups;
    if (g.x_sum)
        g.x_sum += row * l->groups;
    l->gemm(&g);
}

static int64_t clamp(int64_t n, int64_t low, int64_t high)
{
    if (n < low)
        return low;
    return n < high ? n : high;
}

/* Cut the call into tiles and run them. */
static void multiply(linear_call *l, size_t panel_bytes)
{
    const glm4v_gemm_args *g = &l->args;
    const int64_t threads = glm4v_pool_threads(l->cpu->base.pool);
    const int64_t row_bytes = g->K * l->x_size;
    int64_t rows = clamp(TILE_X_BYTES / row_bytes, 24, 1024) / 24 * 24;
    l->rows_per_tile = rows < g->T ? rows : g->T;
    l->row_tiles = (g->T + l->rows_per_tile - 1) / l->rows_per_tile;
    const int64_t wanted = (threads * TILES_PER_THREAD + l->row_tiles - 1) / l->row_tiles;
    const int64_t for_threads = (g->n_panels + wanted - 1) / wanted;
    l->panels_per_tile = clamp(TILE_PANEL_BYTES / panel_bytes, 1, for_threads);
    const int64_t panel_tiles = (g->n_panels + l->panels_per_tile - 1) / l->panels_per_tile;
    glm4v_cpu_run(l->cpu, l->row_tiles * panel_tiles, g->T * g->K * g->n_panels, multiply_tile, l);
}

/* At most a slab of rows: round, multiply. */
static void linear_slab(linear_call *l, size_t panel_bytes)
{
    if (l->rounding != GLM4V_ROUND_NONE) {
        const int64_t tasks = (l->args.T + ROUND_ROWS - 1) / ROUND_ROWS;
        glm4v_cpu_run(l->cpu, tasks, l->args.T * l->args.K, round_rows, l);
    }
    multiply(l, panel_bytes);
}

/* Kernel, activation layout and panel size of the weights' form. */
static size_t choose(linear_call *l, const glm4v_weight *w)
{
    glm4v_cpu_backend *c = l->cpu;
    const int64_t K = w->n_in;
    const glm4v_form_traits *form = glm4v_form_of(w->form);
    const int64_t group = glm4v_rounding_group(form->rounding);
    glm4v_gemm_args *g = &l->args;
    g->x = c->x;
    g->w_scale = w->scale;
    g->w_zero = w->zero;
    g->w_blocks = w->blocks;
    l->gemm = form->cpu.product(&c->gemm);
    l->rounding = form->rounding;
    switch (form->rounding) {
    case GLM4V_ROUND_NONE:
        l->x_size = sizeof(float);
        g->ldx = l->ldx;
        break;
    case GLM4V_ROUND_BF16:
        l->x_size = sizeof(uint16_t);
        g->ldx = (K + 1) / 2 * 2;
        break;
    case GLM4V_ROUND_INT8:
    case GLM4V_ROUND_INT8_32:
        l->x_size = 1;
        l->groups = (K + group - 1) / group;
        g->ldx = l->groups * group;
        g->x_scale = c->x_scale;
        g->x_sum = c->x_sum;
        break;
    case GLM4V_ROUND_FP8:
        l->x_size = sizeof(uint16_t);
        l->groups = 1;
        g->ldx = (K + 1) / 2 * 2;
        g->x_scale = c->x_scale;
        break;
    }
    return form->cpu.panel_bytes(K);
}

int glm4v_cpu_product(glm4v_step *s, const glm4v_product *p)
{
    glm4v_cpu_backend *c = glm4v_cpu(s->backend);
    const glm4v_weight *w = p->w;
    const int64_t T = p->rows;
    /* nothing to round: no scratch, no lock, no slabs */
    const bool whole = glm4v_form_of(w->form)->rounding == GLM4V_ROUND_NONE;
    linear_call l = {
        .cpu = c,
        .order = w->order,
        .ldx = p->ldx,
        .args = { .w = w->data,
                  .bias = p->bias,
                  .ldy = p->ldy,
                  .K = w->n_in,
                  .n_out = w->n_out,
                  .n_panels = glm4v_panel_count(w->n_out),
                  .add = p->add },
    };
    if (c->observer) {
        int rc = c->observer->product(c->observer->user, p);
        if (rc)
            return rc;
    }
    if (!whole)
        pthread_mutex_lock(&c->lock);
    int rc = whole ? 0 : glm4v_cpu_reserve_linear(c, T, w->n_in);
    const size_t panel_bytes = choose(&l, w);
    const int64_t slab = whole ? T : GLM4V_CPU_SLAB;
    for (int64_t row = 0; !rc && row < T; row += slab) {
        l.x = (const float *)p->x + row * p->ldx;
        l.args.T = T - row < slab ? T - row : slab;
        l.args.y = (float *)p->y + row * p->ldy;
        if (whole)
            l.args.x = l.x;
        linear_slab(&l, panel_bytes);
    }
    if (!whole)
        pthread_mutex_unlock(&c->lock);
    return rc;
}
