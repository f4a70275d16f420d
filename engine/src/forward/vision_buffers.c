/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory of the vision tower: scratch, which grows with the largest picture seen, and the tables of
 * the last grids. The planner's figures come from the same sizes. P: patches; N: P and the class
 * row; M: rows of the text model. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/available_memory.h"
#include "base/error.h"
#include "base/mem.h"
#include "forward/context.h"
#include "forward/context_priv.h"
#include "forward/position.h"

/* Rows of an MLP at a time: its width is several times the tower's, and products of a thousand rows
 * are as fast as larger ones. */
#define SLAB 1024

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Widths are bounded by the config readers and P by GLM4V_MAX_PATCHES: no product overflows. */
glm4v_vision_sizes glm4v_vision_sizes_of(const glm4v_vision_config *v, size_t P)
{
    const size_t hidden = (size_t)v->hidden, ffn = (size_t)v->ffn, out = (size_t)v->out_hidden;
    const size_t block = (size_t)(v->merge * v->merge), merger = (size_t)v->merger_ffn;
    const size_t N = P + (size_t)v->class_rows, most = block < SLAB ? SLAB / block : 1;
    const size_t S = N < SLAB ? N : SLAB, M = P / block < most ? P / block : most;
    glm4v_vision_sizes s = {
        .patches = P * (size_t)(v->channels * v->temporal * v->patch * v->patch),
        .qkv = N * 3 * hidden,
        .attention = N * hidden,
        .keys = N * hidden,
        .values = N * hidden,
        .slab = (int32_t)S,
        .merger_slab = (int32_t)M,
        .wide = S * (v->gelu ? 1 : 2) * ffn,
        .act = v->gelu ? 0 : S * ffn,
        .merged = M * out,
        .projected = M * out,
        .merger_gate_up = M * 2 * merger,
        .merger_act = M * merger,
    };
    s.largest = max_size(
        max_size(s.patches, s.qkv + s.attention + s.keys + s.values),
        max_size(s.wide + s.act, s.merged + s.projected + s.merger_gate_up + s.merger_act));
    return s;
}

uint64_t glm4v_vision_scratch_bytes(const glm4v_model *model, uint64_t patches)
{
    const glm4v_vision_config *v = &model->config.vision;
    glm4v_backend *b = model->stages[0].backend;
    const uint64_t size = b->ops->activation_size(b);
    if (patches > GLM4V_MAX_PATCHES)
        return UINT64_MAX;
    /* x, branch, position table of this grid; work; rotary */
    const uint64_t rows = patches + (uint64_t)v->class_rows;
    const uint64_t rotary = v->absolute ? 0 : patches * (uint64_t)v->head_dim * sizeof(float);
    return (3 * rows * (uint64_t)v->hidden + glm4v_vision_sizes_of(v, patches).largest) * size +
           rotary;
}

/* Inputs of the widest product of the tower. */
static int32_t widest_input(const glm4v_vision_config *v)
{
    const int32_t C = v->channels * v->temporal * v->patch * v->patch;
    const int32_t widths[] = { C, v->ffn, v->merger_ffn, v->out_hidden };
    int32_t widest = v->merge * v->merge * v->hidden;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        widest = widths[i] > widest ? widths[i] : widest;
    return widest;
}

void glm4v_vision_backend_bytes(const glm4v_model *model, uint64_t patches, uint64_t *linear,
                                uint64_t *attention)
{
    const glm4v_vision_config *v = &model->config.vision;
    const int32_t N =
        (int32_t)(patches < GLM4V_MAX_PATCHES ? patches : GLM4V_MAX_PATCHES) + v->class_rows;
    glm4v_backend *b = model->stages[0].backend;
    b->ops->scratch_bytes(b, N, widest_input(v), N, v->head_dim, linear, attention);
}

static void grid_clear(glm4v_backend *b, glm4v_grid_tables *grid)
{
    b->ops->free(b, grid->position);
    b->ops->free(b, grid->cos);
    b->ops->free(b, grid->sin);
    *grid = (glm4v_grid_tables) { 0 };
}

static void scratch_free(glm4v_context *c)
{
    glm4v_backend *b = c->stages[0].backend;
    b->ops->free(b, c->vision.x);
    b->ops->free(b, c->vision.branch);
    b->ops->free(b, c->vision.work);
    c->vision.x = c->vision.branch = c->vision.work = NULL;
    c->vision.patches = 0;
}

void glm4v_vision_buffers_free(glm4v_context *context)
{
    if (!context->stages || !context->stages[0].backend)
        return;
    scratch_free(context);
    for (int i = 0; i < GLM4V_GRID_CACHE; i++)
        grid_clear(context->stages[0].backend, &context->vision.grids[i]);
}

/* Scratch is taken without being touched, and would drive the system out of memory later. */
static int check_memory(const glm4v_model *m, uint32_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &m->config.vision;
    const uint64_t needed = glm4v_vision_scratch_bytes(m, P), available = glm4v_memory_available();
    if (needed <= available)
        return 0;
    /* what a patch takes hardly depends on how many there are */
    const double fits = (double)available / (double)needed * P * (double)v->patch * v->patch;
    char advice[64] = "a smaller quantization leaves more";
    if (!v->absolute)
        snprintf(advice, sizeof advice, "max_pixels %.0f would fit", floor(0.9 * fits));
    return glm4v_fail(err, GLM4V_ERR_NOMEM,
                      "an image of %u patches takes %" PRIu64 " MiB of scratch, but %" PRIu64
                      " MiB of memory are available; %s",
                      P, needed >> 20, available >> 20, advice);
}

/* Room for P patches. The old block goes first: the two together might not fit. */
int glm4v_vision_reserve(glm4v_context *c, uint32_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const uint32_t N = P + (uint32_t)v->class_rows;
    if (P <= c->vision.patches)
        return 0;
    scratch_free(c);
    const size_t size = b->ops->activation_size(b), rows = (size_t)N * (size_t)v->hidden * size;
    int rc = check_memory(c->model, P, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.x, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.branch, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.work, glm4v_vision_sizes_of(v, P).largest * size, err);
    if (!rc)
        rc = b->ops->reserve(b, (int32_t)N, widest_input(v), (int32_t)N, v->head_dim, err);
    if (rc)
        scratch_free(c);
    else
        c->vision.patches = P;
    return rc;
}

/* Cosines and sines of every patch to the device. */
static int fill_rotary(glm4v_context *c, glm4v_grid_tables *grid, float *host, uint32_t grid_h,
                       uint32_t grid_w, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const size_t n = (size_t)grid_h * grid_w * (size_t)(v->head_dim / 2);
    int rc = b->ops->alloc(b, (void **)&grid->cos, n * sizeof(float), err);
    if (!rc)
        rc = b->ops->alloc(b, (void **)&grid->sin, n * sizeof(float), err);
    if (rc)
        return rc;
    glm4v_vision_rotary(host, host + n, grid_h, grid_w, v);
    return b->ops->upload_f32(b, grid->cos, host, n) ||
                   b->ops->upload_f32(b, grid->sin, host + n, n)
               ? glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s refused the rotary tables",
                            b->ops->name)
               : 0;
}

/* Compute position table and rotary of a grid and copy them to the device. */
static int grid_fill(glm4v_context *c, glm4v_grid_tables *grid, uint32_t grid_h, uint32_t grid_w,
                     glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    glm4v_backend *b = c->stages[0].backend;
    const size_t P = (size_t)grid_h * grid_w;
    const size_t n = (P + (size_t)v->class_rows) * (size_t)v->hidden;
    float *host = glm4v_alloc(max_size(n, P * (size_t)v->head_dim), sizeof *host);
    if (!host)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for the position table of %u x %u patches", grid_h, grid_w);
    int rc = b->ops->alloc(b, &grid->position, n * b->ops->activation_size(b), err);
    if (!rc) {
        if (v->absolute)
            glm4v_vision_table(host, w->table, w->class_row, v);
        else
            glm4v_vision_positions(host, w->table, grid_h, grid_w, v);
        if (b->ops->upload(b, grid->position, host, n))
            rc = glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s refused the position table",
                            b->ops->name);
    }
    if (!rc && !v->absolute)
        rc = fill_rotary(c, grid, host, grid_h, grid_w, err);
    glm4v_free(host);
    if (rc) {
        grid_clear(b, grid);
        return rc;
    }
    grid->grid_h = grid_h;
    grid->grid_w = grid_w;
    return 0;
}

/* Tables of a grid: from the cache, or computed in the place of the longest unused. */
int glm4v_vision_tables(glm4v_context *c, glm4v_grid_tables **found, uint32_t grid_h,
                        uint32_t grid_w, glm4v_error *err)
{
    glm4v_vision_buffers *vision = &c->vision;
    size_t patches = (size_t)grid_h * grid_w;
    glm4v_grid_tables *oldest = &vision->grids[0];
    *found = NULL;
    for (int i = 0; i < GLM4V_GRID_CACHE && !*found; i++) {
        glm4v_grid_tables *grid = &vision->grids[i];
        patches += (size_t)grid->grid_h * grid->grid_w;
        if (grid->grid_h == grid_h && grid->grid_w == grid_w)
            *found = grid;
        else if (grid->used < oldest->used)
            oldest = grid;
    }
    if (!*found) {
        for (int i = 0; i < GLM4V_GRID_CACHE; i++)
            if (patches > GLM4V_GRID_CACHE_PATCHES || &vision->grids[i] == oldest)
                grid_clear(c->stages[0].backend, &vision->grids[i]);
        int rc = grid_fill(c, oldest, grid_h, grid_w, err);
        if (rc)
            return rc;
        *found = oldest;
    }
    (*found)->used = ++vision->clock;
    return 0;
}
