/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The launchers of kernels/cuda/attention.h on the CPU, in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "cuda/attention.h"
#include "fake_kernels.h"
#include "norm.h"

/* ---- rotary positions ---- */

typedef struct {
    glm4v_cuda_step_data step;
    glm4v_cuda_rotary r;
} gather_args;

static void run_gather(void *args)
{
    const gather_args *a = args;
    const glm4v_cuda_rotary *r = &a->r;
    for (int64_t i = 0; i < r->rows; i++)
        for (int32_t k = 0; k < r->n_freq; k++) {
            int axis = 0;
            for (int32_t end = r->section[0]; axis < 2 && k >= end; end += r->section[axis])
                axis++;
            const int64_t from = (int64_t)a->step.axis[axis][i] * r->n_freq + k;
            a->step.cos[i * r->n_freq + k] = r->cos[from];
            a->step.sin[i * r->n_freq + k] = r->sin[from];
        }
}

cudaError_t glm4v_cuda_gather_rotary(cudaStream_t stream, const glm4v_cuda_step_data *step,
                                     const glm4v_cuda_rotary *r)
{
    const gather_args a = { *step, *r };
    return fake_cuda_launch(stream, run_gather, &a, sizeof a);
}

/* Of the sums that x holds. */
static void make_numbers(const glm4v_cuda_rope *r)
{
    for (int64_t i = 0; r->sums.sums && i < (int64_t)r->rows * r->sums.n_out; i++) {
        const int64_t row = i / r->sums.n_out, n = i % r->sums.n_out;
        fake_put(r->x + row * r->ldx + n, fake_number_of(&r->sums, row, n), false);
    }
}

static void rotate_head(glm4v_bf16 *x, const glm4v_cuda_rope *r, int64_t row)
{
    for (int32_t i = 0; i < r->n_freq; i++) {
        glm4v_bf16 *a = x + (r->half ? i : 2 * i);
        glm4v_bf16 *b = x + (r->half ? i + r->n_freq : 2 * i + 1);
        const float c = r->cos[row * r->n_freq + i], s = r->sin[row * r->n_freq + i];
        const float p = fake_get(a), q = fake_get(b);
        fake_put(a, p * c - q * s, false);
        fake_put(b, p * s + q * c, false);
    }
}

static void run_rotate(void *args)
{
    const glm4v_cuda_rope *r = args;
    make_numbers(r);
    for (int64_t i = 0; i < (int64_t)r->rows * r->heads; i++)
        rotate_head(r->x + i / r->heads * r->ldx + i % r->heads * r->head_dim, r, i / r->heads);
}

cudaError_t glm4v_cuda_rotate(cudaStream_t stream, const glm4v_cuda_rope *r)
{
    return fake_cuda_launch(stream, run_rotate, r, sizeof *r);
}

/* ---- keys and values ---- */

/* One head of one token. */
static void put_head(const glm4v_cuda_kv *kv, size_t at, const glm4v_bf16 *x, bool keys)
{
    void *to = keys ? kv->keys : kv->values;
    float most = 0;
    if (kv->form == GLM4V_CUDA_KV_BF16) {
        memcpy((glm4v_bf16 *)to + at, x, (size_t)kv->head_dim * sizeof *x);
        return;
    }
    for (int32_t i = 0; i < kv->head_dim; i++)
        most = fmaxf(most, fabsf(fake_get(x + i)));
    (keys ? kv->k_scale : kv->v_scale)[at / (size_t)kv->head_dim] = most / 127;
    for (int32_t i = 0; i < kv->head_dim; i++)
        ((int8_t *)to)[at + (size_t)i] =
            (int8_t)lrintf(most > 0 ? fake_get(x + i) * (127 / most) : 0);
}

/* n numbers in double. */
static void widen(double *y, const glm4v_bf16 *x, int32_t n)
{
    enum { AT_ONCE = 64 };
    float part[AT_ONCE];
    for (int32_t i = 0; i < n; i++) {
        if (i % AT_ONCE == 0)
            glm4v_bf16_to_f32_c(part, x + i, (size_t)(n - i < AT_ONCE ? n - i : AT_ONCE));
        y[i] = (double)part[i % AT_ONCE];
    }
}

/* One head of one token. */
static void get_head(double *y, const glm4v_cuda_kv *kv, size_t at, bool keys)
{
    const void *from = keys ? kv->keys : kv->values;
    if (kv->form == GLM4V_CUDA_KV_BF16) {
        widen(y, (const glm4v_bf16 *)from + at, kv->head_dim);
        return;
    }
    const double scale = (double)(keys ? kv->k_scale : kv->v_scale)[at / (size_t)kv->head_dim];
    for (int32_t i = 0; i < kv->head_dim; i++)
        y[i] = scale * ((const int8_t *)from)[at + (size_t)i];
}

typedef struct {
    glm4v_cuda_kv kv;
    glm4v_cuda_step_data step;
    glm4v_cuda_append a;
} append_args;

static void run_append(void *args)
{
    const append_args *b = args;
    const glm4v_cuda_kv *kv = &b->kv;
    for (int32_t r = 0; r < b->a.rows; r++)
        for (int32_t h = 0; h < kv->heads; h++) {
            const size_t at =
                glm4v_cuda_kv_at(kv, b->a.layer, b->step.slot[r], h, b->step.position[r]);
            const int64_t from = r * b->a.ld + h * kv->head_dim;
            put_head(kv, at, b->a.k + from, true);
            put_head(kv, at, b->a.v + from, false);
        }
}

cudaError_t glm4v_cuda_append_kv(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                 const glm4v_cuda_step_data *step, const glm4v_cuda_append *a)
{
    const append_args b = { *kv, *step, *a };
    return fake_cuda_launch(stream, run_append, &b, sizeof b);
}

typedef struct {
    glm4v_cuda_kv kv;
    glm4v_cuda_step_data step;
    glm4v_cuda_qkv a;
} qkv_args;

static void norm_head(glm4v_bf16 *x, const float *w, float eps, int32_t n)
{
    if (!w)
        return;
    float *wide = fake_wide(x, n), *y = fake_room((size_t)n * sizeof *y);
    glm4v_rms_norm_c(y, wide, w, n, eps, false);
    for (int32_t i = 0; i < n; i++)
        fake_put(x + i, y[i], false);
    free(y);
    free(wide);
}

static void run_qkv(void *args)
{
    const qkv_args *b = args;
    const glm4v_cuda_rope *rope = &b->a.rope;
    const int32_t Nh = rope->heads, Nk = b->kv.heads, Dh = rope->head_dim;
    append_args append = { .kv = b->kv,
                           .step = b->step,
                           .a = { .k = rope->x + Nh * Dh,
                                  .v = rope->x + (Nh + Nk) * Dh,
                                  .ld = rope->ldx,
                                  .layer = b->a.layer,
                                  .rows = rope->rows } };
    make_numbers(rope);
    for (int64_t r = 0; r < rope->rows; r++)
        for (int32_t h = 0; h < Nh + Nk; h++) {
            glm4v_bf16 *x = rope->x + r * rope->ldx + h * Dh;
            norm_head(x, h < Nh ? b->a.q_norm : b->a.k_norm, b->a.eps, Dh);
            rotate_head(x, rope, r);
        }
    run_append(&append);
}

cudaError_t glm4v_cuda_rotate_append(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                     const glm4v_cuda_step_data *step, const glm4v_cuda_qkv *a)
{
    const qkv_args b = { *kv, *step, *a };
    return fake_cuda_launch(stream, run_qkv, &b, sizeof b);
}

typedef struct {
    glm4v_cuda_kv kv;
    int32_t to, from, n;
} copy_kv_args;

static void run_copy_kv(void *args)
{
    const copy_kv_args *a = args;
    const glm4v_cuda_kv *kv = &a->kv;
    const bool codes = kv->form == GLM4V_CUDA_KV_INT8;
    const size_t size = codes ? 1 : sizeof(glm4v_bf16), Dh = (size_t)kv->head_dim;
    for (int32_t i = 0; i < kv->layers * kv->heads; i++) {
        const size_t y = glm4v_cuda_kv_at(kv, i / kv->heads, a->to, i % kv->heads, 0);
        const size_t x = glm4v_cuda_kv_at(kv, i / kv->heads, a->from, i % kv->heads, 0);
        memmove((char *)kv->keys + y * size, (char *)kv->keys + x * size, (size_t)a->n * Dh * size);
        memmove((char *)kv->values + y * size, (char *)kv->values + x * size,
                (size_t)a->n * Dh * size);
        if (!codes)
            continue;
        memmove(kv->k_scale + y / Dh, kv->k_scale + x / Dh, (size_t)a->n * sizeof(float));
        memmove(kv->v_scale + y / Dh, kv->v_scale + x / Dh, (size_t)a->n * sizeof(float));
    }
}

cudaError_t glm4v_cuda_copy_kv(cudaStream_t stream, const glm4v_cuda_kv *kv, int32_t to,
                               int32_t from, int32_t n)
{
    const copy_kv_args a = { *kv, to, from, n };
    return fake_cuda_launch(stream, run_copy_kv, &a, sizeof a);
}

/* ---- attention ---- */

/* One head of one row over n keys; get() writes the head of a key or value to y [head_dim]. */
typedef struct {
    glm4v_bf16 *o;
    const glm4v_bf16 *q;
    int32_t n, head_dim;
    float scale;
    void (*get)(const void *user, double *y, int32_t key, bool keys);
    const void *user;
} head_args;

static void attend_head(const head_args *a)
{
    const size_t Dh = (size_t)a->head_dim;
    double *p = fake_room((size_t)a->n * sizeof *p), most = -INFINITY, sum = 0;
    double *q = fake_room(3 * Dh * sizeof *q), *x = q + Dh, *y = x + Dh;
    widen(q, a->q, a->head_dim);
    for (int32_t j = 0; j < a->n; j++) {
        a->get(a->user, x, j, true);
        p[j] = 0;
        for (size_t i = 0; i < Dh; i++)
            p[j] += q[i] * x[i];
        p[j] *= (double)a->scale;
        most = fmax(most, p[j]);
    }
    for (int32_t j = 0; j < a->n; j++)
        sum += p[j] = exp(p[j] - most);
    memset(y, 0, Dh * sizeof *y);
    for (int32_t j = 0; j < a->n; j++) {
        a->get(a->user, x, j, false);
        for (size_t i = 0; i < Dh; i++)
            y[i] += p[j] * x[i];
    }
    for (size_t i = 0; i < Dh; i++)
        fake_put(a->o + i, (float)(y[i] / sum), false);
    free(q);
    free(p);
}

typedef struct {
    const glm4v_cuda_kv *kv;
    int32_t layer, slot, head;
} kv_head;

static void of_kv(const void *user, double *y, int32_t key, bool keys)
{
    const kv_head *h = user;
    get_head(y, h->kv, glm4v_cuda_kv_at(h->kv, h->layer, h->slot, h->head, key), keys);
}

/* Row r of a, which sees n keys of the slot. */
static void attend_row(const glm4v_cuda_kv *kv, const glm4v_cuda_attend *a, int64_t r, int32_t slot,
                       int32_t n)
{
    for (int32_t h = 0; h < a->heads; h++) {
        const kv_head user = { kv, a->layer, slot, h / (a->heads / kv->heads) };
        const head_args head = { .o = a->o + r * a->ldo + h * kv->head_dim,
                                 .q = a->q + r * a->ldq + h * kv->head_dim,
                                 .n = n,
                                 .head_dim = kv->head_dim,
                                 .scale = a->scale,
                                 .get = of_kv,
                                 .user = &user };
        attend_head(&head);
    }
}

typedef struct {
    glm4v_cuda_kv kv;
    glm4v_cuda_step_data step;
    glm4v_cuda_attend a;
    glm4v_cuda_span span;
    glm4v_cuda_matrix w; /* that o is rounded for */
    glm4v_cuda_rounded rounded;
} attend_args;

static void run_decode(void *args)
{
    const attend_args *b = args;
    for (int32_t r = 0; r < b->a.rows; r++) {
        attend_row(&b->kv, &b->a, r, b->step.slot[r], b->step.position[r] + 1);
        if (!b->rounded.q)
            continue;
        float *o = fake_wide(b->a.o + r * b->a.ldo, b->w.n_in);
        fake_round_row(&b->rounded, &b->w, r, o);
        free(o);
    }
}

static void run_prefill(void *args)
{
    const attend_args *b = args;
    for (int32_t i = 0; i < b->span.n; i++)
        attend_row(&b->kv, &b->a, b->span.row + i, b->span.slot, b->span.length + i + 1);
}

size_t glm4v_cuda_decode_scratch(const glm4v_cuda_kv *kv, int32_t heads, int32_t rows)
{
    return (size_t)heads * (size_t)rows * sizeof(float);
}

cudaError_t glm4v_cuda_attend_decode(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                     const glm4v_cuda_step_data *step, const glm4v_cuda_attend *a,
                                     void *scratch)
{
    attend_args b = { .kv = *kv, .step = *step, .a = *a };
    if (a->rounded) {
        b.w = (glm4v_cuda_matrix) { .form = GLM4V_CUDA_INT8, .n_in = a->heads * kv->head_dim };
        fake_set_rounded(a->rounded, &b.w);
        b.rounded = *a->rounded;
    }
    return fake_cuda_launch(stream, run_decode, &b, sizeof b);
}

cudaError_t glm4v_cuda_attend_prefill(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                      const glm4v_cuda_attend *a, const glm4v_cuda_span *span)
{
    const attend_args b = { .kv = *kv, .a = *a, .span = *span };
    return fake_cuda_launch(stream, run_prefill, &b, sizeof b);
}

typedef struct {
    const glm4v_cuda_attend_all *a;
    int32_t head;
} row_head;

static void of_rows(const void *user, double *y, int32_t key, bool keys)
{
    const row_head *h = user;
    const glm4v_bf16 *from = keys ? h->a->k : h->a->v;
    widen(y, from + key * h->a->a.ldq + h->head * h->a->head_dim, h->a->head_dim);
}

static void run_rows(void *args)
{
    const glm4v_cuda_attend_all *a = args;
    for (int64_t i = 0; i < (int64_t)a->a.rows * a->a.heads; i++) {
        const int64_t r = i / a->a.heads, h = i % a->a.heads;
        const row_head user = { a, (int32_t)h };
        const head_args head = { .o = a->a.o + r * a->a.ldo + h * a->head_dim,
                                 .q = a->a.q + r * a->a.ldq + h * a->head_dim,
                                 .n = a->a.rows,
                                 .head_dim = a->head_dim,
                                 .scale = a->a.scale,
                                 .get = of_rows,
                                 .user = &user };
        attend_head(&head);
    }
}

cudaError_t glm4v_cuda_attend_rows(cudaStream_t stream, const glm4v_cuda_attend_all *a)
{
    return fake_cuda_launch(stream, run_rows, a, sizeof *a);
}
