/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vision tower: patches of one picture (or one temporal patch of a clip) -> rows of the text
 * model's width. Every patch attends to every other of the same picture, and to nothing else:
 *
 *   patch embedding, position table | blocks | 2x2 merge by convolution | merger MLP
 *
 * glm4v: norms before each branch of a block, rotary positions, SwiGLU. chatglm4v: norms behind
 * each branch, a class row among the patches, gelu, learned rows around the picture's. Which of
 * these there is, config and weights say.
 *
 * Rows stay in merge-block-major order throughout, so the four rows of a block lie side by side and
 * the convolution is a plain product. Source: Glm4vVisionModel of Hugging Face transformers;
 * EVA2-CLIP-E as GLM-4V-9B's modelling code has it (docs/model.md). */
#include <math.h>

#include "base/error.h"
#include "forward/context.h"
#include "forward/context_priv.h"

#define MERGER_EPS 1e-5f /* of the LayerNorm; not in any config */

/* patches (host) -> x: embedding, norm, and only then the positions. The class row lies behind the
 * patches, so that their order is as without it. */
static int stem(glm4v_context *c, const glm4v_grid_tables *grid, const float *patches, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    const size_t n = (size_t)P * (size_t)v->hidden;
    glm4v_backend *b = c->stages[0].backend;
    void *x = c->vision.x;
    if (b->ops->upload(b, c->vision.work, patches, (size_t)P * (size_t)w->patch.n_in) ||
        b->ops->linear(b, x, v->hidden, c->vision.work, w->patch.n_in, &w->patch, w->patch_bias, P,
                       false))
        return GLM4V_ERR_DEVICE;
    if (w->post_conv_norm &&
        b->ops->rms_norm(b, x, x, w->post_conv_norm, P, v->hidden, v->norm_eps, false))
        return GLM4V_ERR_DEVICE;
    return b->ops->add(b, x, grid->position, n) ||
           (v->class_rows &&
            b->ops->copy_rows(b, x, &P, glm4v_at(b, grid->position, n), v->class_rows, v->hidden));
}

/* qkv, rotated where positions are -> o, every row to every other. Keys and values are put head by
 * head first, as in the text model's cache: side by side in qkv, rows 3 hidden apart, they fall
 * into few cache sets, and with 4096 patches of surface-tiny the whole tower took 1.7 times as
 * long. */
static int attend(glm4v_context *c, const glm4v_grid_tables *grid, void *o, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int32_t hidden = v->hidden, Dh = v->head_dim;
    const int32_t N = P + v->class_rows;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(v, (size_t)P);
    glm4v_backend *b = c->stages[0].backend;
    void *qkv = c->vision.work, *keys = glm4v_at(b, qkv, size.qkv + size.attention);
    void *values = glm4v_at(b, keys, size.keys);
    const glm4v_kv_job rows = {
        .k_cache = keys,
        .v_cache = values,
        .k = glm4v_at(b, qkv, (size_t)hidden),
        .v = glm4v_at(b, qkv, 2 * (size_t)hidden),
        .n = N,
    };
    const glm4v_attention_job job = {
        .o = o, .q = qkv, .k = keys, .v = values, .n_q = N, .n_k = N
    };
    const glm4v_attention shape = {
        .heads = v->heads,
        .kv_heads = v->heads,
        .head_dim = Dh,
        .ldo = hidden,
        .ldq = 3 * (int64_t)hidden,
        .ldk = Dh,
        .ldv = Dh,
        .k_head = (int64_t)N * Dh,
        .v_head = (int64_t)N * Dh,
        .scale = 1.0f / sqrtf((float)Dh),
    };
    if (grid->cos && b->ops->rope(b, qkv, 3 * (int64_t)hidden, grid->cos, grid->sin, P,
                                  2 * v->heads, Dh, Dh / 2, GLM4V_ROPE_HALF))
        return GLM4V_ERR_DEVICE;
    return b->ops->kv_append(b, &rows, 1, 3 * (int64_t)hidden, v->heads, Dh, N) ||
           b->ops->attention(b, &job, 1, &shape);
}

/* What a branch takes: x normed, or x itself where norms stand behind the branches. */
static int enter_branch(glm4v_context *c, const glm4v_norm *norm, int32_t N, const void **in)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    *in = v->post_norm ? c->vision.x : c->vision.branch;
    return v->post_norm ? 0
                        : glm4v_norm_rows(c->stages[0].backend, c->vision.branch, c->vision.x, norm,
                                          N, v->hidden, false);
}

/* x += down(mlp(in)), slab by slab. in is x, or branch where norms stand before the branches. */
static int add_mlp(glm4v_context *c, const glm4v_vision_layer *w, const void *in,
                   const glm4v_norm *norm, int32_t N)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(v, (size_t)N - (size_t)v->class_rows);
    glm4v_backend *b = c->stages[0].backend;
    const glm4v_mlp mlp = { .first = &w->gate_up,
                            .second = &w->down,
                            .first_bias = w->gate_up_bias,
                            .wide = c->vision.work,
                            .act = glm4v_at(b, c->vision.work, size.wide) };
    int rc = 0;
    for (int32_t r = 0; !rc && r < N; r += size.slab) {
        const int32_t n = N - r < size.slab ? N - r : size.slab;
        const size_t at = (size_t)r * (size_t)v->hidden;
        const void *act;
        rc = glm4v_mlp_inner(b, &mlp, glm4v_at(b, in, at), n, &act) ||
             glm4v_add_branch(b, glm4v_at(b, c->vision.x, at), c->vision.branch, act, &w->down,
                              w->down_bias, norm, n);
    }
    return rc;
}

/* One block: x += proj(attention(norm1 x)); x += down(mlp(norm2 x)), with the norms outside of the
 * branches where post_norm says so. */
static int block(glm4v_context *c, const glm4v_grid_tables *grid, const glm4v_vision_layer *w,
                 int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const int32_t hidden = v->hidden, N = P + v->class_rows;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(v, (size_t)P);
    glm4v_backend *b = c->stages[0].backend;
    void *x = c->vision.x, *branch = c->vision.branch, *work = c->vision.work;
    void *o = glm4v_at(b, work, size.qkv);
    const glm4v_norm none = { 0 };
    const glm4v_norm norm1 = { w->norm1, w->norm1_bias, v->norm_eps };
    const glm4v_norm norm2 = { w->norm2, w->norm2_bias, v->norm_eps };
    const void *in;
    return enter_branch(c, &norm1, N, &in) ||
           b->ops->linear(b, work, 3 * (int64_t)hidden, in, hidden, &w->qkv, w->qkv_bias, N,
                          false) ||
           attend(c, grid, o, P) ||
           glm4v_add_branch(b, x, branch, o, &w->proj, w->proj_bias, v->post_norm ? &norm1 : &none,
                            N) ||
           enter_branch(c, &norm2, N, &in) || add_mlp(c, w, in, v->post_norm ? &norm2 : &none, N);
}

/* Merged rows [first, first + n): each block of merge x merge rows of x through the convolution,
 * then the merger. */
static int merge_slab(glm4v_context *c, void *rows, const glm4v_vision_sizes *size, int32_t first,
                      int32_t n)
{
    const glm4v_vision_weights *w = &c->model->vision;
    const int32_t out = c->model->config.vision.out_hidden;
    glm4v_backend *b = c->stages[0].backend;
    const void *x = glm4v_at(b, c->vision.x, (size_t)first * (size_t)w->downsample.n_in);
    void *merged = c->vision.work, *y = glm4v_at(b, merged, size->merged);
    void *wide = glm4v_at(b, y, size->projected);
    const glm4v_mlp mlp = { .first = &w->merger_gate_up,
                            .second = &w->merger_down,
                            .wide = wide,
                            .act = glm4v_at(b, wide, size->merger_gate_up) };
    const glm4v_norm norm = { w->merger_norm, w->merger_norm_bias, MERGER_EPS };
    const void *act;
    return b->ops->linear(b, merged, out, x, w->downsample.n_in, &w->downsample, w->downsample_bias,
                          n, false) ||
           b->ops->linear(b, y, out, merged, out, &w->merger_proj, NULL, n, false) ||
           glm4v_norm_rows(b, y, y, &norm, n, out, false) ||
           b->ops->gelu(b, y, (size_t)n * (size_t)out) || glm4v_mlp_inner(b, &mlp, y, n, &act) ||
           b->ops->linear(b, glm4v_at(b, rows, (size_t)first * (size_t)out), out, act,
                          w->merger_down.n_in, &w->merger_down, NULL, n, false);
}

/* x -> rows [M, out]: norm, then slab by slab. */
static int merge(glm4v_context *c, void *rows, int32_t P)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const float *post_norm = c->model->vision.post_norm;
    const glm4v_vision_sizes size = glm4v_vision_sizes_of(v, (size_t)P);
    const int32_t M = P / (v->merge * v->merge);
    glm4v_backend *b = c->stages[0].backend;
    int rc = post_norm && b->ops->rms_norm(b, c->vision.x, c->vision.x, post_norm, P, v->hidden,
                                           v->norm_eps, false);
    for (int32_t r = 0; !rc && r < M; r += size.merger_slab)
        rc = merge_slab(c, rows, &size, r, M - r < size.merger_slab ? M - r : size.merger_slab);
    return rc ? GLM4V_ERR_DEVICE : 0;
}

/* The learned rows around the picture's M, and the division of all of them. rows: the first. */
static int frame(glm4v_context *c, void *rows, int32_t M)
{
    const glm4v_vision_config *v = &c->model->config.vision;
    const glm4v_vision_weights *w = &c->model->vision;
    const size_t out = (size_t)v->out_hidden, n = (size_t)M + 2 * (size_t)v->border;
    glm4v_backend *b = c->stages[0].backend;
    return (v->border && (b->ops->upload(b, rows, w->begin, out) ||
                          b->ops->upload(b, glm4v_at(b, rows, (n - 1) * out), w->end, out))) ||
           (v->divisor != 0 && b->ops->scale(b, rows, 1 / v->divisor, n * out));
}

/* All of it for one picture, scratch and tables being there. */
static int encode(glm4v_context *c, const glm4v_grid_tables *grid, void *rows, const float *patches,
                  int32_t P, const atomic_bool *cancel, glm4v_error *err)
{
    const glm4v_model *m = c->model;
    const glm4v_vision_config *v = &m->config.vision;
    glm4v_backend *b = c->stages[0].backend;
    const char *device = b->ops->name;
    if (stem(c, grid, patches, P))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in the patch embedding", device);
    for (int32_t i = 0; i < v->layers; i++) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return glm4v_fail(err, GLM4V_ERR_CANCELED, "canceled before vision layer %d", i);
        if (block(c, grid, &m->vision.layers[i], P))
            return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in vision layer %d", device,
                              i);
    }
    void *inner = glm4v_at(b, rows, (size_t)v->border * (size_t)v->out_hidden);
    if (merge(c, inner, P) || frame(c, rows, P / (v->merge * v->merge)))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "device %s failed in the vision merger", device);
    return 0;
}

static int check_grid(const glm4v_vision_config *v, uint32_t grid_h, uint32_t grid_w,
                      glm4v_error *err)
{
    const uint32_t side = (uint32_t)v->merge, table = (uint32_t)v->table_side;
    if (!grid_h || !grid_w || grid_h % side || grid_w % side || grid_h > GLM4V_MAX_PATCHES / grid_w)
        return glm4v_fail(
            err, GLM4V_ERR_INVALID,
            "an image of %u x %u patches: both sides must be multiples of %u, %u patches at most",
            grid_h, grid_w, side, GLM4V_MAX_PATCHES);
    if (v->absolute && (grid_h != table || grid_w != table))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %u x %u patches: this model accepts %u x %u only", grid_h,
                          grid_w, table, table);
    return 0;
}

int glm4v_vision_encode(glm4v_context *context, glm4v_embeddings *out, const float *patches,
                        uint32_t grid_h, uint32_t grid_w, const atomic_bool *cancel,
                        glm4v_error *err)
{
    const glm4v_vision_config *v = &context->model->config.vision;
    glm4v_grid_tables *grid = NULL;
    int rc = check_grid(v, grid_h, grid_w, err);
    if (rc)
        return rc;
    const uint32_t P = grid_h * grid_w, n = (uint32_t)glm4v_picture_rows(v, grid_h, grid_w);
    /* tables first: what they are computed in is gone when the larger scratch is taken */
    rc = glm4v_vision_tables(context, &grid, grid_h, grid_w, err);
    if (!rc)
        rc = glm4v_vision_reserve(context, P, err);
    if (!rc)
        rc = glm4v_embeddings_reserve(context, out, n, err);
    if (rc)
        return rc;
    void *rows = glm4v_at(context->stages[0].backend, out->rows,
                          (size_t)out->n_rows * (size_t)v->out_hidden);
    rc = encode(context, grid, rows, patches, (int32_t)P, cancel, err);
    if (!rc)
        out->n_rows += n;
    return rc;
}
