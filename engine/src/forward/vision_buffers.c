/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory of the vision tower: scratch, which grows with the largest picture seen, and the tables of
 * the last grids. The planner's figures come from the same sizes. P: patches; N: P and the class
 * row; M: rows of the text model. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "forward/context.h"
#include "forward/context_priv.h"
#include "forward/position.h"

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Widths are bounded by the config readers and P by GLM4V_MAX_PATCHES: no product overflows. */
glm4v_vision_sizes glm4v_vision_sizes_of(const glm4v_model *model, int64_t P)
{
    const glm4v_vision_config *v = &model->config.vision;
    glm4v_backend *b = model->stages[0].backend;
    const int64_t slab = b->traits->tower_rows;
    const int64_t hidden = v->hidden, ffn = v->ffn, out = v->out_hidden;
    const int64_t block = (v->merge * v->merge), merger = v->merger_ffn;
    const int64_t N = P + v->class_rows, most = block < slab ? slab / block : 1;
    const int64_t S = N < slab ? N : slab, M = P / block < most ? P / block : most;
    const uint64_t attend = b->ops->attend_all_bytes(b, N, v->heads, v->head_dim);
    glm4v_vision_sizes s = {
        .patches = P * glm4v_patch_values(v),
        .qkv = N * 3 * hidden,
        .o = N * hidden,
        .attend = ((attend + b->traits->activation - 1) / b->traits->activation),
        .slab = S,
        .merger_slab = M,
        .wide = S * (v->gelu ? 1 : 2) * ffn,
        .act = v->gelu ? 0 : S * ffn,
        .merged = M * out,
        .projected = M * out,
        .merger_gate_up = M * 2 * merger,
        .merger_act = M * merger,
    };
    s.largest =
        larger(larger(s.patches, s.qkv + s.o + s.attend),
               larger(s.wide + s.act, s.merged + s.projected + s.merger_gate_up + s.merger_act));
    return s;
}

static glm4v_step_size step_size_of(const glm4v_vision_config *v, uint64_t P)
{
    return (glm4v_step_size) { .queue = GLM4V_QUEUE_PREFILL, .rows = P + v->class_rows };
}

uint64_t glm4v_vision_scratch_bytes(const glm4v_model *model, uint64_t patches)
{
    const glm4v_vision_config *v = &model->config.vision;
    glm4v_backend *b = model->stages[0].backend;
    if (patches > GLM4V_MAX_PATCHES)
        return UINT64_MAX;
    /* x, branch, position table of this grid; work; rotary; step */
    const uint64_t rows = patches + v->class_rows, arrays = v->table_side ? 3 : 2;
    const uint64_t rotary = v->absolute ? 0 : patches * v->head_dim * sizeof(float);
    const uint64_t work = glm4v_vision_sizes_of(model, patches).largest;
    const glm4v_step_size step = step_size_of(v, patches);
    return (arrays * rows * v->hidden + work) * b->traits->activation + rotary +
           b->ops->step_bytes(b, &step);
}

/* Inputs of the widest product of the tower. */
static int64_t widest_input(const glm4v_vision_config *v)
{
    const int64_t C = glm4v_patch_values(v);
    const int64_t widths[] = { C, v->ffn, v->merger_ffn, v->out_hidden };
    int64_t widest = v->merge * v->merge * v->hidden;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        widest = widths[i] > widest ? widths[i] : widest;
    return widest;
}

static glm4v_scratch_need need_of(const glm4v_vision_config *v, int64_t P)
{
    const int64_t N = P + v->class_rows;
    return (glm4v_scratch_need) {
        .rows = N, .n_in = widest_input(v), .n_k = N, .head_dim = v->head_dim
    };
}

void glm4v_vision_backend_bytes(const glm4v_model *model, uint64_t patches, uint64_t *product,
                                uint64_t *attention)
{
    const int64_t P = (patches < GLM4V_MAX_PATCHES ? patches : GLM4V_MAX_PATCHES);
    const glm4v_scratch_need need = need_of(&model->config.vision, P);
    glm4v_backend *b = model->stages[0].backend;
    b->ops->scratch_bytes(b, &need, product, attention);
}

static void grid_clear(glm4v_backend *b, glm4v_grid_tables *grid)
{
    b->ops->free(b, grid->position);
    b->ops->free(b, grid->rotary.cos);
    b->ops->free(b, grid->rotary.sin);
    *grid = (glm4v_grid_tables) { 0 };
}

static void scratch_free(glm4v_context *c)
{
    glm4v_backend *b = c->stages[0].backend;
    b->ops->free(b, c->vision.x);
    b->ops->free(b, c->vision.branch);
    b->ops->free(b, c->vision.work);
    if (c->vision.step)
        b->ops->step_close(c->vision.step);
    c->vision.step = NULL;
    c->vision.x = c->vision.branch = c->vision.work = NULL;
    c->vision.patches = 0;
}

void glm4v_vision_buffers_free(glm4v_context *context)
{
    if (!context->stages || !context->stages[0].backend)
        return;
    scratch_free(context);
    context->stages[0].backend->ops->staging_free(context->stages[0].backend, context->vision.host);
    for (int i = 0; i < GLM4V_GRID_CACHE; i++)
        grid_clear(context->stages[0].backend, &context->vision.grids[i]);
}

/* Scratch is taken without being touched, and would drive the system out of memory later. */
static int check_memory(const glm4v_model *m, int64_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &m->config.vision;
    glm4v_backend *b = m->stages[0].backend;
    const uint64_t needed = glm4v_vision_scratch_bytes(m, P), available = b->ops->available(b);
    if (needed <= available)
        return 0;
    /* what a patch takes hardly depends on how many there are */
    const double fits =
        (double)available / (double)needed * (double)P * (double)v->patch * (double)v->patch;
    char advice[64] = "a smaller quantization leaves more";
    if (!v->absolute)
        snprintf(advice, sizeof advice, "max_pixels %.0f would fit", floor(0.9 * fits));
    return glm4v_fail(err, GLM4V_ERR_NOMEM,
                      "an image of %" PRId64 " patches takes %" PRIu64
                      " MiB of scratch, but %" PRIu64 " MiB of memory are available; %s",
                      P, needed >> 20, available >> 20, advice);
}

static int take_scratch(glm4v_context *c, int64_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const glm4v_step_size step = step_size_of(v, P);
    const glm4v_scratch_need need = need_of(v, P);
    const size_t size = b->traits->activation, rows = step.rows * v->hidden * size;
    int rc = b->ops->step_open(b, &c->vision.step, &step, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.x, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.branch, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.work, glm4v_vision_sizes_of(c->model, P).largest * size,
                           err);
    if (!rc)
        rc = b->ops->reserve(b, &need, err);
    if (rc)
        scratch_free(c);
    else
        c->vision.patches = P;
    return rc;
}

/* Room for P patches. The old block goes first: the two together might not fit. */
int glm4v_vision_reserve(glm4v_context *c, int64_t P, glm4v_error *err)
{
    if (P <= c->vision.patches)
        return 0;
    if (c->vision.host)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %" PRId64 " patches: the device took memory for %" PRId64
                          " when it was opened",
                          P, c->vision.patches);
    scratch_free(c);
    int rc = check_memory(c->model, P, err);
    return rc ? rc : take_scratch(c, P, err);
}

/* ---- tables of a grid ---- */

/* Numbers of the position table of P patches. */
static int64_t position_floats(const glm4v_vision_config *v, int64_t P)
{
    return v->table_side ? (P + v->class_rows) * v->hidden : 0;
}

/* Numbers that are worked out on the host at a time: the position table, or cosines and sines. */
static int64_t host_floats(const glm4v_vision_config *v, int64_t P)
{
    return larger(position_floats(v, P), P * v->head_dim);
}

/* Memory of the device for the tables of P patches. */
static int grid_open(glm4v_context *c, glm4v_grid_tables *grid, int64_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const int64_t n = position_floats(v, P);
    const size_t rotary = P * (v->head_dim / 2) * sizeof(float);
    int rc = n ? b->ops->alloc(b, &grid->position, n * b->traits->activation, err) : 0;
    if (!rc && !v->absolute)
        rc = b->ops->alloc(b, (void **)&grid->rotary.cos, rotary, err);
    if (!rc && !v->absolute)
        rc = b->ops->alloc(b, (void **)&grid->rotary.sin, rotary, err);
    if (rc)
        grid_clear(b, grid);
    return rc;
}

/* Work out position table and rotary of a grid and copy them to the device. */
static int grid_fill(glm4v_context *c, glm4v_grid_tables *grid, float *host, int64_t grid_h,
                     int64_t grid_w, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    glm4v_backend *b = c->stages[0].backend;
    const int64_t P = grid_h * grid_w, n = P * (v->head_dim / 2);
    if (v->absolute)
        glm4v_vision_table(host, w->table, w->class_row, v);
    else if (v->table_side)
        glm4v_vision_positions(host, w->table, grid_h, grid_w, v);
    int rc = v->table_side ? b->ops->upload(b, grid->position, host, position_floats(v, P)) : 0;
    if (!rc && !v->absolute) {
        glm4v_vision_rotary(host, host + n, grid_h, grid_w, v);
        rc = b->ops->write(b, grid->rotary.cos, host, n * sizeof *host);
        if (!rc)
            rc = b->ops->write(b, grid->rotary.sin, host + n, n * sizeof *host);
        grid->rotary.n_rows = P;
        grid->rotary.n_freq = v->head_dim / 2;
        grid->rotary.style = GLM4V_ROPE_HALF;
    }
    if (rc)
        return glm4v_fail_device(
            err, b, rc, "to copy the tables of %" PRId64 " x %" PRId64 " patches", grid_h, grid_w);
    grid->grid_h = grid_h;
    grid->grid_w = grid_w;
    return 0;
}

/* A grid that is not kept yet, replacing `grid`. */
static int grid_make(glm4v_context *c, glm4v_grid_tables *grid, int64_t grid_h, int64_t grid_w,
                     glm4v_error *err)
{
    const int64_t P = grid_h * grid_w;
    if (c->vision.host) {
        grid->grid_h = 0;
        return P > c->vision.patches ? glm4v_vision_reserve(c, P, err)
                                     : grid_fill(c, grid, c->vision.host, grid_h, grid_w, err);
    }
    float *host = glm4v_alloc(host_floats(&c->model->config.vision, P), sizeof *host);
    if (!host)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for the position table of %" PRId64 " x %" PRId64 " patches",
                          grid_h, grid_w);
    int rc = grid_open(c, grid, P, err);
    if (!rc && (rc = grid_fill(c, grid, host, grid_h, grid_w, err)))
        grid_clear(c->stages[0].backend, grid);
    glm4v_free(host);
    return rc;
}

int glm4v_vision_open(glm4v_context *c, int64_t P, glm4v_error *err)
{
    glm4v_backend *b = c->stages[0].backend;
    if (P > GLM4V_MAX_PATCHES)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "images of %" PRId64 " patches: at most %u are possible", P,
                          GLM4V_MAX_PATCHES);
    int rc = check_memory(c->model, P, err);
    if (!rc)
        rc = take_scratch(c, P, err);
    if (!rc)
        rc = grid_open(c, &c->vision.grids[0], P, err);
    return rc ? rc
              : b->ops->staging_alloc(b, (void **)&c->vision.host,
                                      host_floats(&c->model->config.vision, P) * sizeof(float),
                                      err);
}

/* Tables of a grid: from the cache, or computed in place of the least recently used ones. If all
 * memory was allocated at open, there is one place. */
int glm4v_vision_tables(glm4v_context *c, glm4v_grid_tables **found, int64_t grid_h, int64_t grid_w,
                        glm4v_error *err)
{
    glm4v_vision_buffers *vision = &c->vision;
    int64_t patches = grid_h * grid_w;
    glm4v_grid_tables *oldest = &vision->grids[0];
    const int places = vision->host ? 1 : GLM4V_GRID_CACHE;
    *found = NULL;
    for (int i = 0; i < places && !*found; i++) {
        glm4v_grid_tables *grid = &vision->grids[i];
        patches += grid->grid_h * grid->grid_w;
        if (grid->grid_h == grid_h && grid->grid_w == grid_w)
            *found = grid;
        else if (grid->used < oldest->used)
            oldest = grid;
    }
    if (!*found) {
        for (int i = 0; i < places && !vision->host; i++)
            if (patches > GLM4V_GRID_CACHE_PATCHES || &vision->grids[i] == oldest)
                grid_clear(c->stages[0].backend, &vision->grids[i]);
        int rc = grid_make(c, oldest, grid_h, grid_w, err);
        if (rc)
            return rc;
        *found = oldest;
    }
    (*found)->used = ++vision->clock;
    return 0;
}
