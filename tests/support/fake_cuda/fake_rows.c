/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The launchers of kernels/cuda/rows.h, sample.h and pixels.h on the CPU, by the C kernels, the
 * host's sampler and its preprocessing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/forms.h"
#include "cuda/pixels.h"
#include "cuda/rows.h"
#include "cuda/sample.h"
#include "fake_kernels.h"
#include "forward/sample.h"
#include "norm.h"
#include "picture/preprocess.h"

void *fake_room(size_t bytes)
{
    void *room = malloc(bytes ? bytes : 1);
    if (!room) {
        fprintf(stderr, "fake cuda: no memory\n");
        exit(1);
    }
    return room;
}

float *fake_wide(const glm4v_bf16 *x, int64_t n)
{
    float *y = fake_room((size_t)n * sizeof *y);
    glm4v_bf16_to_f32_c(y, x, (size_t)n);
    return y;
}

float fake_get(const glm4v_bf16 *x)
{
    float y;
    glm4v_bf16_to_f32_c(&y, x, 1);
    return y;
}

void fake_put(glm4v_bf16 *y, float x, bool add)
{
    const float sum = add ? fake_get(y) + x : x;
    glm4v_f32_to_bf16_c(y, &sum, 1);
}

/* ---- norms ---- */

static float *norm_of(const float *x, const float *w, const float *bias, float eps, int64_t n)
{
    float *y = fake_room((size_t)n * sizeof *y);
    if (bias)
        glm4v_layer_norm_c(y, x, w, bias, n, eps, false);
    else
        glm4v_rms_norm_c(y, x, w, n, eps, false);
    return y;
}

static void run_norm(void *args)
{
    const glm4v_cuda_norm *a = args;
    for (int64_t i = 0; i < (int64_t)a->rows * a->groups; i++) {
        const int64_t r = i / a->groups, at = i % a->groups * a->n;
        float *x = fake_wide(a->x + r * a->ldx + at, a->n);
        float *y = norm_of(x, a->w, a->bias, a->eps, a->n);
        for (int64_t k = 0; k < a->n; k++)
            fake_put(a->y + r * a->ldy + at + k, y[k], a->add);
        free(y);
        free(x);
    }
}

cudaError_t glm4v_cuda_norm_rows(cudaStream_t stream, const glm4v_cuda_norm *n)
{
    return fake_cuda_launch(stream, run_norm, n, sizeof *n);
}

typedef struct {
    glm4v_cuda_norm_round a;
    glm4v_cuda_matrix w;
    glm4v_cuda_rounded out;
} norm_round_args;

/* Numbers of the branch's row, rounded to bf16 where its norm follows. */
static float *branch_of(const glm4v_cuda_norm_round *a, int64_t r)
{
    const glm4v_cuda_sums sums = { .sums = a->branch,
                                   .ld = a->ldbranch,
                                   .column = a->branch_column,
                                   .row = a->branch_row,
                                   .bias = a->branch_bias };
    float *branch = fake_wide(a->branch + r * a->ldbranch, a->norm.n);
    for (int64_t k = 0; a->branch_row && k < a->norm.n; k++) {
        branch[k] = fake_number_of(&sums, r, k);
        if (a->branch_norm) {
            glm4v_bf16 narrow;
            fake_put(&narrow, branch[k], false);
            branch[k] = fake_get(&narrow);
        }
    }
    return branch;
}

static void add_branch(const glm4v_cuda_norm_round *a, int64_t r)
{
    glm4v_bf16 *x = (glm4v_bf16 *)(uintptr_t)a->norm.x + r * a->norm.ldx;
    float *branch = branch_of(a, r);
    float *y = a->branch_norm ? norm_of(branch, a->branch_norm, NULL, a->branch_eps, a->norm.n)
                              : branch_of(a, r);
    for (int64_t k = 0; k < a->norm.n; k++)
        fake_put(x + k, y[k], true);
    free(y);
    free(branch);
}

static void run_norm_round(void *args)
{
    const norm_round_args *b = args;
    const glm4v_cuda_norm *norm = &b->a.norm;
    for (int64_t r = 0; r < norm->rows; r++) {
        if (b->a.branch)
            add_branch(&b->a, r);
        float *x = fake_wide(norm->x + r * norm->ldx, norm->n);
        float *y = norm_of(x, norm->w, norm->bias, norm->eps, norm->n);
        glm4v_bf16 *narrow = fake_room((size_t)norm->n * sizeof *narrow);
        glm4v_f32_to_bf16_c(narrow, y, (size_t)norm->n);
        if (glm4v_cuda_rounds(&b->w)) {
            float *wide = fake_wide(narrow, norm->n);
            fake_round_row(&b->out, &b->w, r, wide);
            free(wide);
        } else {
            memcpy(norm->y + r * norm->ldy, narrow, (size_t)norm->n * sizeof *narrow);
        }
        free(narrow);
        free(y);
        free(x);
    }
}

cudaError_t glm4v_cuda_norm_rounded(cudaStream_t stream, const glm4v_cuda_norm_round *n)
{
    norm_round_args a = { .a = *n, .w = *n->w };
    if (glm4v_cuda_rounds(n->w)) {
        fake_set_rounded(n->out, n->w);
        a.out = *n->out;
    }
    return fake_cuda_launch(stream, run_norm_round, &a, sizeof a);
}

/* ---- values ---- */

typedef struct {
    void *y;
    const void *x;
    size_t n;
    int64_t rows;
    float factor;
    const int32_t *map;
} value_args;

static void run_silu_mul(void *args)
{
    const value_args *a = args;
    for (size_t i = 0; i < (size_t)a->rows * a->n; i++) {
        const glm4v_bf16 *gate = (const glm4v_bf16 *)a->x + i / a->n * 2 * a->n + i % a->n;
        const float g = fake_get(gate);
        fake_put((glm4v_bf16 *)a->y + i, g / (1 + expf(-g)) * fake_get(gate + a->n), false);
    }
}

cudaError_t glm4v_cuda_silu_mul(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                                int32_t rows, int32_t n)
{
    const value_args a = { .y = y, .x = x, .n = (size_t)n, .rows = rows };
    return fake_cuda_launch(stream, run_silu_mul, &a, sizeof a);
}

static void run_gelu(void *args)
{
    const value_args *a = args;
    for (size_t i = 0; i < a->n; i++) {
        const float x = fake_get((glm4v_bf16 *)a->y + i);
        fake_put((glm4v_bf16 *)a->y + i, 0.5f * x * (1 + erff(x * 0.70710678f)), false);
    }
}

cudaError_t glm4v_cuda_gelu(cudaStream_t stream, glm4v_bf16 *x, size_t n)
{
    const value_args a = { .y = x, .n = n };
    return fake_cuda_launch(stream, run_gelu, &a, sizeof a);
}

static void run_add(void *args)
{
    const value_args *a = args;
    for (size_t i = 0; i < a->n; i++)
        fake_put((glm4v_bf16 *)a->y + i, fake_get((const glm4v_bf16 *)a->x + i), true);
}

cudaError_t glm4v_cuda_add(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x, size_t n)
{
    const value_args a = { .y = y, .x = x, .n = n };
    return fake_cuda_launch(stream, run_add, &a, sizeof a);
}

static void run_scale(void *args)
{
    const value_args *a = args;
    for (size_t i = 0; i < a->n; i++)
        fake_put((glm4v_bf16 *)a->y + i, fake_get((glm4v_bf16 *)a->y + i) * a->factor, false);
}

cudaError_t glm4v_cuda_scale(cudaStream_t stream, glm4v_bf16 *x, float factor, size_t n)
{
    const value_args a = { .y = x, .factor = factor, .n = n };
    return fake_cuda_launch(stream, run_scale, &a, sizeof a);
}

static void run_widen(void *args)
{
    const value_args *a = args;
    glm4v_bf16_to_f32_c(a->y, a->x, a->n);
}

cudaError_t glm4v_cuda_widen(cudaStream_t stream, float *y, const glm4v_bf16 *x, size_t n)
{
    const value_args a = { .y = y, .x = x, .n = n };
    return fake_cuda_launch(stream, run_widen, &a, sizeof a);
}

static void run_narrow(void *args)
{
    const value_args *a = args;
    glm4v_f32_to_bf16_c(a->y, a->x, a->n);
}

cudaError_t glm4v_cuda_narrow(cudaStream_t stream, glm4v_bf16 *y, const float *x, size_t n)
{
    const value_args a = { .y = y, .x = x, .n = n };
    return fake_cuda_launch(stream, run_narrow, &a, sizeof a);
}

static void run_place(void *args)
{
    const value_args *a = args;
    for (int64_t i = 0; i < a->rows; i++)
        memcpy((glm4v_bf16 *)a->y + (size_t)a->map[i] * a->n,
               (const glm4v_bf16 *)a->x + (size_t)i * a->n, a->n * sizeof(glm4v_bf16));
}

static void run_take(void *args)
{
    const value_args *a = args;
    for (int64_t i = 0; i < a->rows; i++)
        memcpy((glm4v_bf16 *)a->y + (size_t)i * a->n,
               (const glm4v_bf16 *)a->x + (size_t)a->map[i] * a->n, a->n * sizeof(glm4v_bf16));
}

cudaError_t glm4v_cuda_place(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                             const int32_t *map, int32_t n, int64_t n_cols)
{
    const value_args a = { .y = y, .x = x, .map = map, .rows = n, .n = (size_t)n_cols };
    return fake_cuda_launch(stream, run_place, &a, sizeof a);
}

cudaError_t glm4v_cuda_take(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                            const int32_t *map, int32_t n, int64_t n_cols)
{
    const value_args a = { .y = y, .x = x, .map = map, .rows = n, .n = (size_t)n_cols };
    return fake_cuda_launch(stream, run_take, &a, sizeof a);
}

/* ---- tables ---- */

typedef struct {
    glm4v_cuda_table t;
    glm4v_cuda_step_data step;
    const int32_t *sampled;
    const float *from;
    glm4v_bf16 *y;
    int64_t row, n;
} table_args;

static void run_table_fill(void *args)
{
    const table_args *a = args;
    glm4v_convert_ops convert;
    glm4v_convert_ops_init(&convert, 0);
    glm4v_form_of((glm4v_form)a->t.form)
        ->cpu.table_fill(&convert, a->t.data, a->t.scale, a->row, a->n, a->from, a->t.n_cols);
}

cudaError_t glm4v_cuda_table_fill(cudaStream_t stream, const glm4v_cuda_table *t, int32_t row,
                                  int32_t n, const float *rows)
{
    const table_args a = { .t = *t, .row = row, .n = n, .from = rows };
    return fake_cuda_launch(stream, run_table_fill, &a, sizeof a);
}

static void run_embed(void *args)
{
    const table_args *a = args;
    const size_t n = (size_t)a->t.n_cols;
    glm4v_convert_ops convert;
    float *row = fake_room(n * sizeof *row);
    glm4v_convert_ops_init(&convert, 0);
    for (int64_t i = 0; i < a->n; i++) {
        int32_t id = a->step.ids[i];
        if (id == INT32_MIN)
            id = a->sampled[a->step.slot[i]];
        if (id < 0 || id >= a->t.n_rows)
            id = 0;
        glm4v_form_of((glm4v_form)a->t.form)
            ->cpu.table_row(&convert, row, a->t.data, a->t.scale, id, a->t.n_cols);
        glm4v_f32_to_bf16_c(a->y + (size_t)i * n, row, n);
    }
    free(row);
}

cudaError_t glm4v_cuda_embed(cudaStream_t stream, glm4v_bf16 *y, const glm4v_cuda_table *t,
                             const glm4v_cuda_step_data *step, const int32_t *sampled, int32_t rows)
{
    const table_args a = { .t = *t, .step = *step, .sampled = sampled, .y = y, .n = rows };
    return fake_cuda_launch(stream, run_embed, &a, sizeof a);
}

/* ---- sampling ---- */

size_t glm4v_cuda_sample_scratch(int32_t vocab, int32_t n)
{
    return (size_t)vocab * (size_t)n;
}

typedef struct {
    glm4v_cuda_step_data step;
    glm4v_cuda_sample s;
} sample_args;

/* Ids of the row's slot up to it. */
static void see(const sample_args *a, uint64_t *seen, int32_t output)
{
    for (int32_t r = 0; r <= output; r++) {
        int32_t id = a->step.ids[r];
        if (a->step.slot[r] != a->step.slot[output])
            continue;
        if (id == INT32_MIN)
            id = a->s.sampled[a->step.slot[r]];
        if (id >= 0 && id < a->s.vocab)
            seen[id / 64] |= (uint64_t)1 << (id % 64);
    }
}

static void choose(const sample_args *a, int32_t i)
{
    const size_t V = (size_t)a->s.vocab, words = V / 64 + 1;
    const glm4v_cuda_draw *draw = &a->step.draws[i];
    uint64_t *seen = a->s.seen + (size_t)draw->slot * words;
    const uint64_t *never = draw->mask < 0 ? NULL : a->s.masks + (size_t)draw->mask * words;
    glm4v_candidate *scratch = fake_room(V * sizeof *scratch);
    if (draw->penalty != 1)
        see(a, seen, a->step.outputs[i]);
    glm4v_sampler sampler = { .temperature = draw->temperature,
                              .top_k = draw->top_k,
                              .top_p = draw->top_p,
                              .penalty = draw->penalty,
                              .state = draw->generator,
                              .seen = draw->penalty != 1 ? seen : NULL,
                              .vocab = a->s.vocab };
    a->s.ids[i] = glm4v_sampler_next(&sampler, a->s.logits + (size_t)i * V, never, scratch);
    free(scratch);
}

static void run_sample(void *args)
{
    const sample_args *a = args;
    for (int32_t i = 0; i < a->s.n; i++)
        choose(a, i);
    for (int32_t i = 0; i < a->s.n; i++)
        a->s.sampled[a->step.draws[i].slot] = a->s.ids[i];
}

cudaError_t glm4v_cuda_sample_tokens(cudaStream_t stream, const glm4v_cuda_step_data *step,
                                     const glm4v_cuda_sample *s, void *scratch)
{
    const sample_args a = { *step, *s };
    return fake_cuda_launch(stream, run_sample, &a, sizeof a);
}

/* ---- pixels ---- */

size_t glm4v_cuda_pixels_scratch(const glm4v_cuda_pixels *p)
{
    return 256;
}

typedef struct {
    glm4v_cuda_pixels p;
    glm4v_bf16 *y;
} pixel_args;

static uint8_t byte_of(float x)
{
    return (uint8_t)fminf(fmaxf(x * 255 + 0.5f, 0), 255);
}

static void on_white(uint8_t *rgb, uint8_t alpha)
{
    for (int i = 0; i < 3; i++)
        rgb[i] = (uint8_t)((rgb[i] * alpha + 255 * (255 - alpha) + 127) / 255);
}

/* One pixel as RGB. */
static void pixel_of(uint8_t *rgb, const glm4v_cuda_image *image, int32_t x, int32_t y)
{
    const uint8_t *at[3];
    float yuv[3] = { 0 };
    for (int i = 0; i < 3; i++)
        at[i] = (const uint8_t *)image->plane[i] + (i ? y / 2 : y) * image->stride[i];
    switch (image->format) {
    case GLM4V_CUDA_RGB:
        memcpy(rgb, at[0] + 3 * x, 3);
        return;
    case GLM4V_CUDA_BGR:
    case GLM4V_CUDA_RGBX:
    case GLM4V_CUDA_BGRX:
        for (int i = 0; i < 3; i++)
            rgb[i] = at[0][(image->format == GLM4V_CUDA_BGR ? 3 : 4) * x +
                           (image->format == GLM4V_CUDA_RGBX ? i : 2 - i)];
        return;
    case GLM4V_CUDA_RGBA:
    case GLM4V_CUDA_BGRA:
        for (int i = 0; i < 3; i++)
            rgb[i] = at[0][4 * x + (image->format == GLM4V_CUDA_RGBA ? i : 2 - i)];
        on_white(rgb, at[0][4 * x + 3]);
        return;
    case GLM4V_CUDA_GRAY8:
        memset(rgb, at[0][x], 3);
        return;
    case GLM4V_CUDA_NV12:
        for (int i = 0; i < 3; i++)
            yuv[i] = (float)(i ? at[1][x / 2 * 2 + i - 1] : at[0][x]) / 255;
        break;
    case GLM4V_CUDA_I420:
        for (int i = 0; i < 3; i++)
            yuv[i] = (float)(i ? at[i][x / 2] : at[0][x]) / 255;
        break;
    case GLM4V_CUDA_P010:
        for (int i = 0; i < 3; i++) {
            uint16_t value;
            memcpy(&value, i ? at[1] + 4 * (x / 2) + 2 * (i - 1) : at[0] + 2 * x, 2);
            yuv[i] = (float)(value >> 6) / 1023;
        }
        break;
    case GLM4V_CUDA_YUY2:
        yuv[0] = (float)at[0][2 * x] / 255;
        yuv[1] = (float)at[0][x / 2 * 4 + 1] / 255;
        yuv[2] = (float)at[0][x / 2 * 4 + 3] / 255;
        break;
    }
    for (int i = 0; i < 3; i++)
        rgb[i] = byte_of(image->matrix[4 * i] * yuv[0] + image->matrix[4 * i + 1] * yuv[1] +
                         image->matrix[4 * i + 2] * yuv[2] + image->matrix[4 * i + 3]);
}

static glm4v_image rgb_of(const glm4v_cuda_image *image)
{
    const int64_t w = image->width, h = image->height;
    uint8_t *rgb = fake_room((size_t)(3 * w * h));
    for (int64_t i = 0; i < w * h; i++)
        pixel_of(rgb + 3 * i, image, image->left + (int32_t)(i % w), image->top + (int32_t)(i / w));
    return (glm4v_image) {
        .data = rgb, .width = image->width, .height = image->height, .stride = 3 * w
    };
}

static void run_patches(void *args)
{
    const pixel_args *a = args;
    const glm4v_cuda_pixels *p = &a->p;
    const glm4v_image images[2] = { rgb_of(&p->frame[0]), rgb_of(&p->frame[1]) };
    const glm4v_image *frames[2] = { &images[0], &images[1] };
    const glm4v_vision_config vision = { .patch = p->patch,
                                         .merge = p->merge,
                                         .temporal = p->temporal };
    glm4v_processor_config processor = { .min_pixels = 1, .max_pixels = UINT64_MAX };
    glm4v_preprocessor *preprocessor = NULL;
    const size_t n = (size_t)p->grid_h * (size_t)p->grid_w * 3 * (size_t)p->temporal *
                     (size_t)p->patch * (size_t)p->patch;
    float *patches = fake_room(n * sizeof *patches);
    for (int i = 0; i < 3; i++) {
        processor.mean[i] = p->mean[i];
        processor.std[i] = p->std[i];
    }
    if (glm4v_preprocessor_open(&preprocessor, &processor, &vision, NULL) ||
        glm4v_preprocess_run(preprocessor, patches, frames,
                             (glm4v_patch_grid) { p->grid_h, p->grid_w }, NULL, NULL))
        memset(patches, 0xff, n * sizeof *patches);
    glm4v_preprocessor_close(&preprocessor);
    glm4v_f32_to_bf16_c(a->y, patches, n);
    free(patches);
    for (int i = 0; i < 2; i++)
        free((uint8_t *)(uintptr_t)images[i].data);
}

cudaError_t glm4v_cuda_patches(cudaStream_t stream, glm4v_bf16 *y, const glm4v_cuda_pixels *p,
                               void *scratch)
{
    const pixel_args a = { *p, y };
    return fake_cuda_launch(stream, run_patches, &a, sizeof a);
}
