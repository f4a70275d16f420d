/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vision tower: patches of one picture (or one temporal patch of a clip) -> rows of the text
 * model's width. Every patch attends to every other of the same picture, and to nothing else:
 *
 *   patch embedding, norm, position table | blocks | norm, 2x2 merge by convolution | merger MLP
 *
 * Rows stay in merge-block-major order throughout, so the four rows of a block lie side by side and
 * the convolution is a plain product. Source: Glm4vVisionModel of Hugging Face transformers. */
#include <math.h>

#include "context.h"
#include "error.h"
#include "forward.h"
#include "mem.h"
#include "position.h"

#define MERGER_EPS 1e-5f /* of the LayerNorm; not in any config */
#define MAX_PATCHES (1u << 22)

/* Elements of `work` that each step of the tower lays side by side, P patches. */
typedef struct {
    size_t patches;                    /* stem: [P, C] */
    size_t qkv, attention;             /* blocks: [P, 3 hidden] [P, hidden] */
    size_t keys, values;               /* blocks: [heads, P, Dh] */
    size_t gate_up, act;               /* blocks: [P, 2 ffn] [P, ffn] */
    size_t merged, projected;          /* merger: [M, out] twice */
    size_t merger_gate_up, merger_act; /* [M, 2 merger_ffn] [M, merger_ffn] */
    size_t largest;                    /* of the four sums */
} work_sizes;

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Widths are bounded by the config readers and P by MAX_PATCHES: no product overflows. */
static work_sizes sizes_of(const glm4v_vision_config *v, size_t P)
{
    const size_t hidden = (size_t)v->hidden, ffn = (size_t)v->ffn, out = (size_t)v->out_hidden;
    const size_t M = P / (size_t)(v->merge * v->merge), merger = (size_t)v->merger_ffn;
    work_sizes s = {
        .patches = P * (size_t)(v->channels * v->temporal * v->patch * v->patch),
        .qkv = P * 3 * hidden,
        .attention = P * hidden,
        .keys = P * hidden,
        .values = P * hidden,
        .gate_up = P * 2 * ffn,
        .act = P * ffn,
        .merged = M * out,
        .projected = M * out,
        .merger_gate_up = M * 2 * merger,
        .merger_act = M * merger,
    };
    s.largest = max_size(
        max_size(s.patches, s.qkv + s.attention + s.keys + s.values),
        max_size(s.gate_up + s.act, s.merged + s.projected + s.merger_gate_up + s.merger_act));
    return s;
}

uint64_t glm4v_vision_scratch_bytes(const glm4v_model *model, uint64_t patches)
{
    const glm4v_vision_config *v = &model->config.vision;
    glm4v_backend *b = model->stages ? model->stages[0].backend : NULL;
    const uint64_t size = b ? b->ops->activation_size(b) : sizeof(float);
    if (patches > MAX_PATCHES)
        return UINT64_MAX;
    /* x, branch, work; position table and rotary of this grid */
    return (2 * patches * (uint64_t)v->hidden + sizes_of(v, patches).largest) * size +
           patches * ((uint64_t)v->hidden * size + (uint64_t)v->head_dim * sizeof(float));
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

/* Room for P patches. The old block goes first: the two together might not fit. */
static int scratch_reserve(glm4v_context *c, uint32_t P, glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    if (P <= c->vision.patches)
        return 0;
    scratch_free(c);
    const size_t size = b->ops->activation_size(b), rows = (size_t)P * (size_t)v->hidden * size;
    const int32_t C = v->channels * v->temporal * v->patch * v->patch;
    int32_t widest = v->merge * v->merge * v->hidden;
    const int32_t widths[] = { C, v->ffn, v->merger_ffn, v->out_hidden };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        widest = widths[i] > widest ? widths[i] : widest;
    int rc = b->ops->alloc(b, &c->vision.x, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.branch, rows, err);
    if (!rc)
        rc = b->ops->alloc(b, &c->vision.work, sizes_of(v, P).largest * size, err);
    if (!rc)
        rc = b->ops->reserve(b, (int32_t)P, widest, (int32_t)P, v->head_dim, err);
    if (rc)
        scratch_free(c);
    else
        c->vision.patches = P;
    return rc;
}

/* Compute position table and rotary of a grid and copy them to the device. */
static int grid_fill(glm4v_context *c, glm4v_grid_tables *grid, uint32_t grid_h, uint32_t grid_w,
                     glm4v_error *err)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const size_t P = (size_t)grid_h * grid_w;
    const size_t n = P * (size_t)v->hidden, rotary = P * (size_t)(v->head_dim / 2);
    float *host = glm4v_alloc(max_size(n, 2 * rotary), sizeof *host);
    if (!host)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for the position table of %u x %u patches", grid_h, grid_w);
    int rc = b->ops->alloc(b, &grid->position, n * b->ops->activation_size(b), err);
    if (!rc)
        rc = b->ops->alloc(b, (void **)&grid->cos, rotary * sizeof(float), err);
    if (!rc)
        rc = b->ops->alloc(b, (void **)&grid->sin, rotary * sizeof(float), err);
    if (!rc) {
        glm4v_vision_positions(host, c->model->vision.table, grid_h, grid_w, v);
        rc = b->ops->upload(b, grid->position, host, n);
        glm4v_vision_rotary(host, host + rotary, grid_h, grid_w, v);
        if (rc || b->ops->upload_f32(b, grid->cos, host, rotary) ||
            b->ops->upload_f32(b, grid->sin, host + rotary, rotary))
            rc = glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s refused the position tables",
                            b->ops->name);
    }
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
static int grid_tables(glm4v_context *c, glm4v_grid_tables **found, uint32_t grid_h,
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

/* patches (host) -> x: embedding, norm, and only then the positions. */
static int stem(glm4v_context *c, const glm4v_grid_tables *grid, const float *patches, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    glm4v_backend *b = c->stages[0].backend;
    void *x = c->vision.x;
    return b->ops->upload(b, c->vision.work, patches, (size_t)P * (size_t)w->patch.n_in) ||
           b->ops->linear(b, x, v->hidden, c->vision.work, w->patch.n_in, &w->patch, w->patch_bias,
                          P, false) ||
           b->ops->rms_norm(b, x, x, w->post_conv_norm, P, v->hidden, v->norm_eps, false) ||
           b->ops->add(b, x, grid->position, (size_t)P * (size_t)v->hidden);
}

/* qkv, rotated -> o, every patch to every other. Keys and values are put head by head first, as in
 * the text model's cache: side by side in qkv, rows 3 hidden apart, they fall into few cache sets,
 * and with 4096 patches of surface-tiny the whole tower took 1.7 times as long. */
static int attend(glm4v_context *c, void *o, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int32_t hidden = v->hidden, Dh = v->head_dim;
    const work_sizes size = sizes_of(v, (size_t)P);
    glm4v_backend *b = c->stages[0].backend;
    void *qkv = c->vision.work, *keys = glm4v_at(b, qkv, size.qkv + size.attention);
    void *values = glm4v_at(b, keys, size.keys);
    const glm4v_kv_job rows = {
        .k_cache = keys,
        .v_cache = values,
        .k = glm4v_at(b, qkv, (size_t)hidden),
        .v = glm4v_at(b, qkv, 2 * (size_t)hidden),
        .n = P,
    };
    const glm4v_attention_job job = {
        .o = o, .q = qkv, .k = keys, .v = values, .n_q = P, .n_k = P
    };
    const glm4v_attention shape = {
        .heads = v->heads,
        .kv_heads = v->heads,
        .head_dim = Dh,
        .ldo = hidden,
        .ldq = 3 * (int64_t)hidden,
        .ldk = Dh,
        .ldv = Dh,
        .k_head = (int64_t)P * Dh,
        .v_head = (int64_t)P * Dh,
        .scale = 1.0f / sqrtf((float)Dh),
    };
    return b->ops->kv_append(b, &rows, 1, 3 * (int64_t)hidden, v->heads, Dh, P) ||
           b->ops->attention(b, &job, 1, &shape);
}

/* One block: x += proj(attention(norm1 x)); x += down(silu(gate norm2 x) * up norm2 x). */
static int block(glm4v_context *c, const glm4v_grid_tables *grid, const glm4v_vision_layer *w,
                 int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int32_t hidden = v->hidden;
    const work_sizes size = sizes_of(v, (size_t)P);
    glm4v_backend *b = c->stages[0].backend;
    void *x = c->vision.x, *branch = c->vision.branch, *qkv = c->vision.work,
         *gate_up = c->vision.work;
    void *o = glm4v_at(b, qkv, size.qkv), *act = glm4v_at(b, gate_up, size.gate_up);
    return b->ops->rms_norm(b, branch, x, w->norm1, P, hidden, v->norm_eps, false) ||
           b->ops->linear(b, qkv, 3 * (int64_t)hidden, branch, hidden, &w->qkv, NULL, P, false) ||
           b->ops->rope(b, qkv, 3 * (int64_t)hidden, grid->cos, grid->sin, P, 2 * v->heads,
                        v->head_dim, v->head_dim / 2, GLM4V_ROPE_HALF) ||
           attend(c, o, P) || b->ops->linear(b, x, hidden, o, hidden, &w->proj, NULL, P, true) ||
           b->ops->rms_norm(b, branch, x, w->norm2, P, hidden, v->norm_eps, false) ||
           b->ops->linear(b, gate_up, 2 * (int64_t)v->ffn, branch, hidden, &w->gate_up, NULL, P,
                          false) ||
           b->ops->silu_mul(b, act, gate_up, P, v->ffn) ||
           b->ops->linear(b, x, hidden, act, v->ffn, &w->down, NULL, P, true);
}

/* x -> rows [M, out]: norm, each block of merge x merge rows through the convolution, then the
 * merger. */
static int merge(glm4v_context *c, void *rows, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    const int32_t M = P / (v->merge * v->merge), out = v->out_hidden, ffn = v->merger_ffn;
    const work_sizes size = sizes_of(v, (size_t)P);
    glm4v_backend *b = c->stages[0].backend;
    void *x = c->vision.x, *merged = c->vision.work;
    void *y = glm4v_at(b, merged, size.merged);
    void *gate_up = glm4v_at(b, y, size.projected),
         *act = glm4v_at(b, gate_up, size.merger_gate_up);
    return b->ops->rms_norm(b, x, x, w->post_norm, P, v->hidden, v->norm_eps, false) ||
           b->ops->linear(b, merged, out, x, w->downsample.n_in, &w->downsample, w->downsample_bias,
                          M, false) ||
           b->ops->linear(b, y, out, merged, out, &w->merger_proj, NULL, M, false) ||
           b->ops->layer_norm(b, y, y, w->merger_norm, w->merger_norm_bias, M, out, MERGER_EPS,
                              false) ||
           b->ops->gelu(b, y, (size_t)M * (size_t)out) ||
           b->ops->linear(b, gate_up, 2 * (int64_t)ffn, y, out, &w->merger_gate_up, NULL, M,
                          false) ||
           b->ops->silu_mul(b, act, gate_up, M, ffn) ||
           b->ops->linear(b, rows, out, act, ffn, &w->merger_down, NULL, M, false);
}

/* All of it for one picture, scratch and tables being there. */
static int encode(glm4v_context *c, const glm4v_grid_tables *grid, void *rows, const float *patches,
                  int32_t P, const atomic_bool *cancel, glm4v_error *err)
{
    const glm4v_model *m = c->model;
    const char *device = c->stages[0].backend->ops->name;
    if (stem(c, grid, patches, P))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in the patch embedding", device);
    for (int32_t i = 0; i < m->config.vision.layers; i++) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return glm4v_fail(err, GLM4V_ERR_CANCELED, "canceled before vision layer %d", i);
        if (block(c, grid, &m->vision.layers[i], P))
            return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in vision layer %d", device,
                              i);
    }
    if (merge(c, rows, P))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in the vision merger", device);
    return 0;
}

int glm4v_vision_encode(glm4v_context *context, glm4v_embeddings *out, const float *patches,
                        uint32_t grid_h, uint32_t grid_w, const atomic_bool *cancel,
                        glm4v_error *err)
{
    const glm4v_vision_config *v = &context->model->config.vision;
    const uint32_t side = (uint32_t)v->merge;
    glm4v_grid_tables *grid = NULL;
    if (!grid_h || !grid_w || grid_h % side || grid_w % side || grid_h > MAX_PATCHES / grid_w)
        return glm4v_fail(
            err, GLM4V_ERR_INVALID,
            "a picture of %u x %u patches: both sides must be multiples of %u, %u patches at most",
            grid_h, grid_w, side, MAX_PATCHES);
    const uint32_t P = grid_h * grid_w, M = P / (side * side);
    int rc = scratch_reserve(context, P, err);
    if (!rc)
        rc = grid_tables(context, &grid, grid_h, grid_w, err);
    if (!rc)
        rc = glm4v_embeddings_reserve(context, out, M, err);
    if (rc)
        return rc;
    void *rows = glm4v_at(context->stages[0].backend, out->rows,
                          (size_t)out->n_rows * (size_t)v->out_hidden);
    rc = encode(context, grid, rows, patches, (int32_t)P, cancel, err);
    if (!rc)
        out->n_rows += M;
    return rc;
}
