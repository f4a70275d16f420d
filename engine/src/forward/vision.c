/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vision tower: patches of one picture (or one temporal patch of a clip) -> rows of the text
 * model's width. Every patch attends to every other of the same picture, and to nothing else:
 *
 *   patch embedding, position table | blocks | 2x2 merge by convolution | merger MLP
 *
 * glm4v: norms before each branch of a block, rotary positions, SwiGLU. glm_ocr: likewise, with
 * norms of each head of q and k, biases, no position table. chatglm4v: norms behind each branch, a
 * class row among the patches, gelu, learned rows around the picture's. Config and weights
 * determine which of these there are.
 *
 * Rows stay in merge-block-major order throughout, so the four rows of a block lie side by side and
 * the convolution is a plain product. Source: Glm4vVisionModel of Hugging Face transformers;
 * EVA2-CLIP-E as GLM-4V-9B's modelling code has it (docs/model.md). */
#include <inttypes.h>
#include <math.h>

#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

#define MERGER_EPS 1e-5f /* of the LayerNorm; not in any config */

/* patches -> x: embedding, norm, and only then the positions. The class row lies behind the
 * patches, so that their order is as without it. */
static int stem(glm4v_context *c, const glm4v_pass *p, int64_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    const int64_t n = P * v->hidden;
    glm4v_step *step = c->vision.step;
    glm4v_backend *b = step->backend;
    void *x = c->vision.x;
    const glm4v_product embed = { .y = x,
                                  .ldy = v->hidden,
                                  .x = c->vision.work,
                                  .ldx = w->patch.n_in,
                                  .w = &w->patch,
                                  .bias = w->patch_bias,
                                  .rows = P };
    const glm4v_norm norm = { .w = w->post_conv_norm, .eps = v->norm_eps };
    int rc = p->vision.pixels
                 ? b->ops->preprocess(step, c->vision.work, p->vision.pixels)
                 : b->ops->step_upload(step, c->vision.work, p->vision.patches, P * w->patch.n_in);
    if (!rc)
        rc = b->ops->product(step, &embed);
    if (!rc && norm.w)
        rc = glm4v_norm_all(step, x, x, &norm, P, v->hidden);
    if (!rc && v->table_side)
        rc = b->ops->add(step, x, p->grid->position, n);
    return rc || !v->class_rows
               ? rc
               : b->ops->step_copy(step, glm4v_at(b, x, n), glm4v_at(b, p->grid->position, n),
                                   v->class_rows * v->hidden * b->traits->activation);
}

/* Each head of q or k by itself, in place. w NULL: there is no norm. */
static int norm_heads(glm4v_step *step, const glm4v_vision_config *v, void *x, const float *w,
                      int64_t rows)
{
    const glm4v_norm norm = { .w = w, .eps = v->norm_eps };
    const glm4v_norm_rows args = { .y = x,
                                   .ldy = 3 * v->hidden,
                                   .x = x,
                                   .ldx = 3 * v->hidden,
                                   .norm = &norm,
                                   .rows = rows,
                                   .groups = v->heads,
                                   .n = v->head_dim };
    return w ? step->backend->ops->norm(step, &args) : 0;
}

/* x += proj(attention(norm x)), with post_norm the norm follows the branch. */
static int add_attention(glm4v_context *c, const glm4v_grid_tables *grid,
                         const glm4v_vision_layer *w, int64_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int64_t hidden = v->hidden, N = P + v->class_rows;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(c->model, P);
    glm4v_step *step = c->vision.step;
    glm4v_backend *b = step->backend;
    void *qkv = c->vision.work, *o = glm4v_at(b, qkv, size.qkv);
    const glm4v_norm norm = { w->norm1, w->norm1_bias, v->norm_eps }, none = { 0 };
    const glm4v_norm_product in = { .norm = v->post_norm ? NULL : &norm,
                                    .normed = c->vision.branch,
                                    .product = { .y = qkv,
                                                 .ldy = 3 * hidden,
                                                 .x = c->vision.x,
                                                 .ldx = hidden,
                                                 .w = &w->qkv,
                                                 .bias = w->qkv_bias,
                                                 .rows = N } };
    const glm4v_rope rope = {
        .x = qkv, .ldx = 3 * hidden, .heads = 2 * v->heads, .head_dim = v->head_dim
    };
    const glm4v_attend_all attend = { .o = o,
                                      .ldo = hidden,
                                      .q = qkv,
                                      .k = glm4v_at(b, qkv, hidden),
                                      .v = glm4v_at(b, qkv, 2 * hidden),
                                      .ld = 3 * hidden,
                                      .rows = N,
                                      .heads = v->heads,
                                      .head_dim = v->head_dim,
                                      .scale = 1.0f / sqrtf((float)v->head_dim),
                                      .scratch = glm4v_at(b, o, size.o) };
    const glm4v_product_add out = { .x = c->vision.x,
                                    .branch = c->vision.branch,
                                    .in = o,
                                    .w = &w->proj,
                                    .bias = w->proj_bias,
                                    .norm = v->post_norm ? &norm : &none,
                                    .rows = N };
    int rc = glm4v_run_norm_product(step, &in);
    if (!rc)
        rc = norm_heads(step, v, qkv, w->q_norm, N);
    if (!rc)
        rc = norm_heads(step, v, glm4v_at(b, qkv, hidden), w->k_norm, N);
    if (!rc && grid->rotary.cos)
        rc = b->ops->rope(step, &rope);
    if (!rc)
        rc = b->ops->attend_all(step, &attend);
    return rc ? rc : glm4v_run_product_add(step, &out);
}

/* x += down(mlp(norm x)), likewise, rows [first, first + n). */
static int add_mlp(glm4v_context *c, const glm4v_vision_layer *w, const glm4v_vision_sizes *size,
                   int64_t first, int64_t n)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const int64_t at = first * v->hidden;
    void *x = glm4v_at(b, c->vision.x, at), *wide = c->vision.work;
    void *act = v->gelu ? wide : glm4v_at(b, wide, size->wide);
    const glm4v_norm norm = { w->norm2, w->norm2_bias, v->norm_eps }, none = { 0 };
    const glm4v_gate_up up = { .in = { .norm = v->post_norm ? NULL : &norm,
                                       .normed = c->vision.branch,
                                       .product = { .y = wide,
                                                    .ldy = w->gate_up.n_out,
                                                    .x = x,
                                                    .ldx = v->hidden,
                                                    .w = &w->gate_up,
                                                    .bias = w->gate_up_bias,
                                                    .rows = n } },
                               .gelu = v->gelu,
                               .act = act };
    const glm4v_product_add down = { .x = x,
                                     .branch = c->vision.branch,
                                     .in = act,
                                     .w = &w->down,
                                     .bias = w->down_bias,
                                     .norm = v->post_norm ? &norm : &none,
                                     .rows = n };
    int rc = glm4v_run_gate_up(c->vision.step, &up);
    return rc ? rc : glm4v_run_product_add(c->vision.step, &down);
}

static int block(glm4v_context *c, const glm4v_grid_tables *grid, const glm4v_vision_layer *w,
                 int64_t P)
{
    const int64_t N = P + c->model->config.vision.class_rows;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(c->model, P);
    int rc = add_attention(c, grid, w, P);
    for (int64_t r = 0; !rc && r < N; r += size.slab)
        rc = add_mlp(c, w, &size, r, N - r < size.slab ? N - r : size.slab);
    return rc;
}

/* Merged rows [first, first + n): each block of merge x merge rows of x through the convolution,
 * then the merger. */
static int merge_slab(glm4v_context *c, void *rows, const glm4v_vision_sizes *size, int64_t first,
                      int64_t n)
{
    const glm4v_vision_weights *w = &c->model->vision;
    const int64_t out = c->model->config.vision.out_hidden;
    glm4v_step *step = c->vision.step;
    glm4v_backend *b = step->backend;
    void *merged = c->vision.work, *y = glm4v_at(b, merged, size->merged);
    void *wide = glm4v_at(b, y, size->projected), *act = glm4v_at(b, wide, size->merger_gate_up);
    const glm4v_product downsample = {
        .y = merged,
        .ldy = out,
        .x = glm4v_at(b, c->vision.x, first * w->downsample.n_in),
        .ldx = w->downsample.n_in,
        .w = &w->downsample,
        .bias = w->downsample_bias,
        .rows = n,
    };
    const glm4v_product project = {
        .y = y, .ldy = out, .x = merged, .ldx = out, .w = &w->merger_proj, .rows = n
    };
    const glm4v_norm norm = { w->merger_norm, w->merger_norm_bias, MERGER_EPS };
    const glm4v_gate_up up = { .in = { .product = { .y = wide,
                                                    .ldy = w->merger_gate_up.n_out,
                                                    .x = y,
                                                    .ldx = out,
                                                    .w = &w->merger_gate_up,
                                                    .rows = n } },
                               .act = act };
    const glm4v_product down = { .y = glm4v_at(b, rows, first * out),
                                 .ldy = out,
                                 .x = act,
                                 .ldx = w->merger_down.n_in,
                                 .w = &w->merger_down,
                                 .rows = n };
    int rc = b->ops->product(step, &downsample);
    if (!rc)
        rc = b->ops->product(step, &project);
    if (!rc)
        rc = glm4v_norm_all(step, y, y, &norm, n, out);
    if (!rc)
        rc = b->ops->gelu(step, y, n * out);
    if (!rc)
        rc = glm4v_run_gate_up(step, &up);
    return rc ? rc : b->ops->product(step, &down);
}

/* x -> rows [M, out]: norm, then slab by slab. */
static int merge(glm4v_context *c, void *rows, int64_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(c->model, P);
    const glm4v_norm norm = { .w = c->model->vision.post_norm, .eps = v->norm_eps };
    const int64_t M = P / (v->merge * v->merge);
    int rc =
        norm.w ? glm4v_norm_all(c->vision.step, c->vision.x, c->vision.x, &norm, P, v->hidden) : 0;
    for (int64_t r = 0; !rc && r < M; r += size.merger_slab)
        rc = merge_slab(c, rows, &size, r, M - r < size.merger_slab ? M - r : size.merger_slab);
    return rc;
}

/* The learned rows around the picture's M, and the division of all of them. rows: the first. */
static int frame(glm4v_context *c, void *rows, int64_t M)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    const int64_t out = v->out_hidden, n = M + 2 * v->border;
    glm4v_step *step = c->vision.step;
    glm4v_backend *b = step->backend;
    int rc = v->border ? b->ops->step_upload(step, rows, w->begin, out) : 0;
    if (!rc && v->border)
        rc = b->ops->step_upload(step, glm4v_at(b, rows, (n - 1) * out), w->end, out);
    return rc || v->divisor == 0 ? rc : b->ops->scale(step, rows, 1 / v->divisor, n * out);
}

/* ---- chunks ---- */

/* Multiply-adds of a layer, about. */
static uint64_t layer_work(const glm4v_vision_config *v, uint64_t P)
{
    const uint64_t hidden = v->hidden;
    return P * hidden * (4 * hidden + (v->gelu ? 2 : 3) * v->ffn + 2 * P);
}

static int begin(glm4v_context *c, glm4v_pass *p, int64_t P)
{
    const glm4v_step_rows rows = { .rows = P + c->model->config.vision.class_rows,
                                   .rotary = p->grid->rotary.cos ? &p->grid->rotary : NULL };
    int rc = c->stages[0].backend->ops->step_begin(c->vision.step, &rows, &p->replayed);
    p->open = !rc;
    return rc ? rc : stem(c, p, P);
}

/* Merger and frame of a pass whose layers are through. */
static int finish(glm4v_context *c, glm4v_pass *p, int64_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int64_t M = P / (v->merge * v->merge);
    glm4v_backend *b = c->stages[0].backend;
    const int64_t out = v->out_hidden;
    void *rows = glm4v_at(b, p->vision.out->rows, p->vision.out->n_rows * out);
    int rc = merge(c, glm4v_at(b, rows, v->border * out), P);
    return rc ? rc : frame(c, rows, M);
}

int glm4v_vision_chunk(glm4v_context *context, glm4v_error *err)
{
    glm4v_context *c = context;
    const glm4v_vision_config *v = &c->model->config.vision;
    glm4v_pass *p = &c->lane[GLM4V_LANE_PREFILL].pass;
    const int64_t P = (p->vision.grid_h * p->vision.grid_w);
    glm4v_backend *b = c->stages[0].backend;
    int64_t n = glm4v_chunk_layers(b, layer_work(v, P));
    int rc = p->open ? 0 : begin(c, p, P);
    if (rc)
        return glm4v_fail_device(err, b, rc, "in the patch embedding");
    if (p->layer == v->layers) {
        if ((rc = finish(c, p, P)))
            return glm4v_fail_device(err, b, rc, "in the vision merger");
        p->open = false;
        p->submitted = true;
        p->vision.out->n_rows += glm4v_picture_rows(v, p->vision.grid_h, p->vision.grid_w);
        rc = b->ops->step_end(c->vision.step);
        return rc ? glm4v_fail_device(err, b, rc, "to end a picture") : 0;
    }
    for (; p->layer < v->layers && n > 0; n--, p->layer++)
        if ((rc = block(c, p->grid, &c->model->vision.layers[p->layer], P)))
            return glm4v_fail_device(err, b, rc, "in vision layer %" PRId64, p->layer);
    rc = b->ops->step_flush(c->vision.step);
    return rc ? glm4v_fail_device(err, b, rc, "before vision layer %" PRId64, p->layer) : 0;
}

static int check_grid(const glm4v_vision_config *v, int64_t grid_h, int64_t grid_w,
                      glm4v_error *err)
{
    const int64_t side = v->merge, table = v->table_side;
    if (!grid_h || !grid_w || grid_h % side || grid_w % side || grid_h > GLM4V_MAX_PATCHES / grid_w)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %" PRId64 " x %" PRId64
                          " patches: both sides must be multiples of %" PRId64
                          ", %u patches at most",
                          grid_h, grid_w, side, GLM4V_MAX_PATCHES);
    if (v->absolute && (grid_h != table || grid_w != table))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %" PRId64 " x %" PRId64
                          " patches: this model accepts %" PRId64 " x %" PRId64 " only",
                          grid_h, grid_w, table, table);
    return 0;
}

int glm4v_vision_begin(glm4v_context *context, const glm4v_vision_pass *pass, glm4v_error *err)
{
    const glm4v_vision_config *v = &context->model->config.vision;
    glm4v_grid_tables *grid = NULL;
    int rc = check_grid(v, pass->grid_h, pass->grid_w, err);
    if (!rc)
        rc = glm4v_pass_start(context, GLM4V_LANE_PREFILL, GLM4V_PASS_VISION, err);
    if (rc)
        return rc;
    const int64_t P = pass->grid_h * pass->grid_w;
    /* tables first: what they are computed in is gone when the larger scratch is taken */
    rc = glm4v_vision_tables(context, &grid, pass->grid_h, pass->grid_w, err);
    if (!rc)
        rc = glm4v_vision_reserve(context, P, err);
    if (!rc)
        rc = glm4v_embeddings_reserve(context, pass->out,
                                      glm4v_picture_rows(v, pass->grid_h, pass->grid_w), err);
    glm4v_pass *p = &context->lane[GLM4V_LANE_PREFILL].pass;
    p->kind = rc ? GLM4V_PASS_NONE : GLM4V_PASS_VISION;
    p->vision = *pass;
    p->grid = grid;
    return rc;
}

int glm4v_vision_encode(glm4v_context *context, const glm4v_vision_pass *pass,
                        const atomic_bool *cancel, glm4v_error *err)
{
    const int64_t before = pass->out->n_rows;
    int rc = glm4v_vision_begin(context, pass, err);
    if (!rc)
        rc = glm4v_pass_run(context, GLM4V_LANE_PREFILL, cancel, err);
    if (rc)
        pass->out->n_rows = before;
    return rc;
}
