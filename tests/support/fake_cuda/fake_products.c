/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The launchers of kernels/cuda/product.h on the CPU, in the layouts of that header (INT4: low
 * nibble first). Activations are rounded and weights packed by the C kernels; sums are double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/forms.h"
#include "cuda/product.h"
#include "fake_kernels.h"

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static const glm4v_form_traits *traits_of(const glm4v_cuda_matrix *w)
{
    return glm4v_form_of((glm4v_form)w->form);
}

static int64_t groups_of(const glm4v_cuda_matrix *w)
{
    return glm4v_form_groups((glm4v_form)w->form, w->blocks, w->n_in);
}

/* Bytes of a row. */
static size_t row_bytes(glm4v_cuda_form form, int64_t n_in)
{
    switch (form) {
    case GLM4V_CUDA_F32:
        return (size_t)n_in * sizeof(float);
    case GLM4V_CUDA_BF16:
        return (size_t)up(n_in, 8) * 2;
    case GLM4V_CUDA_INT8:
    case GLM4V_CUDA_FP8:
    case GLM4V_CUDA_FP8_DYNAMIC:
        return (size_t)up(n_in, 16);
    case GLM4V_CUDA_INT4:
    case GLM4V_CUDA_INT4_32:
        return (size_t)n_in / 2;
    }
    return 0;
}

glm4v_cuda_matrix_bytes glm4v_cuda_matrix_size(glm4v_cuda_form form, int32_t n_out, int32_t n_in,
                                               bool blocks, bool zeros, bool ordered)
{
    const size_t scales = (size_t)(n_out * glm4v_form_groups((glm4v_form)form, blocks, n_in));
    return (glm4v_cuda_matrix_bytes) {
        .data = (size_t)up((int64_t)((size_t)n_out * row_bytes(form, n_in)), 256),
        .scale = (size_t)up((int64_t)(scales * sizeof(float)), 256),
        .zero = zeros ? (size_t)up((int64_t)scales, 256) : 0,
        .order = ordered ? (size_t)up(n_in * (int64_t)sizeof(int32_t), 256) : 0,
    };
}

/* ---- packing ---- */

typedef struct {
    glm4v_cuda_matrix w;
    int32_t row, n;
    const void *rows;
} pack_args;

static uint8_t *row_at(const glm4v_cuda_matrix *w, int64_t row)
{
    return (uint8_t *)w->data + (size_t)row * row_bytes(w->form, w->n_in);
}

/* Codes of one row, one a byte. */
static void put_codes(const glm4v_cuda_matrix *w, int64_t row, const uint8_t *q)
{
    uint8_t *to = row_at(w, row);
    if (traits_of(w)->bits == 8) {
        memcpy(to, q, (size_t)w->n_in);
        return;
    }
    for (int32_t k = 0; k < w->n_in; k += 2)
        to[k / 2] = (uint8_t)(q[k] | q[k + 1] << 4);
}

static void encode(const pack_args *a)
{
    const glm4v_cuda_matrix *w = &a->w;
    const size_t K = (size_t)w->n_in, n = (size_t)a->n;
    glm4v_gemm_ops gemm;
    glm4v_convert_ops convert;
    glm4v_gemm_ops_init(&gemm, 0);
    glm4v_convert_ops_init(&convert, 0);
    uint8_t *q = fake_room(n * K);
    void *scratch = aligned_alloc(
        64, (size_t)up((int64_t)glm4v_form_encode_scratch((glm4v_form)w->form, w->n_in) + 64, 64));
    traits_of(w)->cpu.encode(&gemm, &convert, q, w->scale + a->row * groups_of(w), a->rows, a->n,
                             w->n_in, scratch);
    for (size_t i = 0; i < n; i++)
        put_codes(w, a->row + (int64_t)i, q + i * K);
    free(scratch);
    free(q);
}

static void run_pack_f32(void *args)
{
    const pack_args *a = args;
    const size_t K = (size_t)a->w.n_in;
    if (traits_of(&a->w)->codes) {
        encode(a);
        return;
    }
    for (int32_t i = 0; i < a->n; i++) {
        const float *from = (const float *)a->rows + (size_t)i * K;
        if (a->w.form == GLM4V_CUDA_F32)
            memcpy(row_at(&a->w, a->row + i), from, K * sizeof *from);
        else
            glm4v_f32_to_bf16_c((uint16_t *)(void *)row_at(&a->w, a->row + i), from, K);
    }
}

static void run_pack_bf16(void *args)
{
    const pack_args *a = args;
    const size_t bytes = (size_t)a->w.n_in * 2;
    for (int32_t i = 0; i < a->n; i++)
        memcpy(row_at(&a->w, a->row + i), (const char *)a->rows + (size_t)i * bytes, bytes);
}

static void run_pack_codes(void *args)
{
    const pack_args *a = args;
    for (int32_t i = 0; i < a->n; i++)
        put_codes(&a->w, a->row + i, (const uint8_t *)a->rows + (size_t)i * (size_t)a->w.n_in);
}

/* Input 8b + i in bits 4i of word b: the order of nibbles here. */
static void run_pack_words(void *args)
{
    const pack_args *a = args;
    const size_t bytes = (size_t)a->w.n_in / 2;
    for (int32_t i = 0; i < a->n; i++)
        memcpy(row_at(&a->w, a->row + i), (const char *)a->rows + (size_t)i * bytes, bytes);
}

#define PACK(name, type)                                                                           \
    cudaError_t glm4v_cuda_##name(cudaStream_t stream, const glm4v_cuda_matrix *w, int32_t row,    \
                                  int32_t n, const type *rows)                                     \
    {                                                                                              \
        const pack_args a = { *w, row, n, rows };                                                  \
        return fake_cuda_launch(stream, run_##name, &a, sizeof a);                                 \
    }

PACK(pack_f32, float)
PACK(pack_bf16, glm4v_bf16)
PACK(pack_codes, uint8_t)
PACK(pack_words, uint32_t)

typedef struct {
    float *rows;
    size_t n;
    uint64_t seed, first;
    float mean, deviation;
} random_args;

static void run_random(void *args)
{
    const random_args *a = args;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t x = (a->seed + a->first + i) * 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
        a->rows[i] = a->mean + a->deviation * 3.4641016f * ((float)(x >> 40) / 16777216 - 0.5f);
    }
}

cudaError_t glm4v_cuda_random_f32(cudaStream_t stream, float *rows, size_t n, uint64_t seed,
                                  uint64_t first, float mean, float deviation)
{
    const random_args a = { rows, n, seed, first, mean, deviation };
    return fake_cuda_launch(stream, run_random, &a, sizeof a);
}

/* ---- activations ---- */

void glm4v_cuda_rounded_size(int32_t rows, int32_t n_in, size_t *q, size_t *scale)
{
    *q = (size_t)(rows * up(n_in, 128) * 2);
    *scale = (size_t)(rows * up(n_in, 128) / 32) * sizeof(float);
}

static bool has_row_scales(const glm4v_cuda_matrix *w)
{
    return traits_of(w)->rounding == GLM4V_ROUND_FP8;
}

static bool is_rounded(const glm4v_cuda_matrix *w)
{
    return has_row_scales(w) || glm4v_rounding_group(traits_of(w)->rounding) > 0;
}

bool glm4v_cuda_rounds(const glm4v_cuda_matrix *w)
{
    return is_rounded(w) || w->order;
}

void fake_set_rounded(glm4v_cuda_rounded *out, const glm4v_cuda_matrix *w)
{
    out->ldq = is_rounded(w) ? up(w->n_in, 128) : up(w->n_in, 8);
    out->ldscale = has_row_scales(w) ? 1 : is_rounded(w) ? up(w->n_in, 128) / 32 : 0;
}

/* Codes of the e4m3 that fp8_row writes as bf16. */
static void round_to_e4m3(uint8_t *codes, float *scale, const float *x, size_t K)
{
    glm4v_bf16 *values = fake_room((K + 1) * sizeof *values);
    glm4v_fp8_row_c(values, scale, x, (int64_t)K);
    for (size_t k = 0; k < K; k++)
        codes[k] = glm4v_f32_to_e4m3(fake_get(values + k));
    free(values);
}

void fake_round_row(const glm4v_cuda_rounded *out, const glm4v_cuda_matrix *w, int64_t row,
                    const float *x)
{
    const size_t K = (size_t)w->n_in;
    float *ordered = fake_room(K * sizeof *ordered);
    int32_t *sums = fake_room(K * sizeof *sums);
    glm4v_gemm_ops gemm;
    glm4v_gemm_ops_init(&gemm, 0);
    for (size_t k = 0; k < K; k++)
        ordered[k] = x[w->order ? (size_t)w->order[k] : k];
    int8_t *codes = (int8_t *)out->q + row * out->ldq;
    float *scales = out->scale + row * out->ldscale;
    if (has_row_scales(w))
        round_to_e4m3((uint8_t *)codes, scales, ordered, K);
    else if (!is_rounded(w))
        glm4v_f32_to_bf16_c((uint16_t *)out->q + row * out->ldq, ordered, K);
    else if (glm4v_rounding_group(traits_of(w)->rounding) == 32)
        gemm.quantize_row_32(codes, scales, sums, ordered, w->n_in);
    else
        gemm.quantize_row(codes, scales, sums, ordered, w->n_in);
    free(sums);
    free(ordered);
}

typedef struct {
    glm4v_cuda_rounded out;
    glm4v_cuda_matrix w;
    const glm4v_bf16 *x;
    int64_t ldx, rows;
} round_args;

static void run_round(void *args)
{
    const round_args *a = args;
    for (int64_t r = 0; r < a->rows; r++) {
        float *x = fake_wide(a->x + r * a->ldx, a->w.n_in);
        fake_round_row(&a->out, &a->w, r, x);
        free(x);
    }
}

cudaError_t glm4v_cuda_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                             const glm4v_cuda_matrix *w, const glm4v_bf16 *x, int64_t ldx,
                             int32_t rows)
{
    fake_set_rounded(out, w);
    const round_args a = { *out, *w, x, ldx, rows };
    return fake_cuda_launch(stream, run_round, &a, sizeof a);
}

/* ---- products ---- */

typedef struct {
    glm4v_cuda_product p;
    glm4v_cuda_matrix w;
} product_args;

static float code_of(glm4v_cuda_form form, const uint8_t *row, int64_t k, int zero)
{
    if (form == GLM4V_CUDA_INT8)
        return (int8_t)row[k];
    if (form == GLM4V_CUDA_FP8 || form == GLM4V_CUDA_FP8_DYNAMIC)
        return glm4v_e4m3_to_f32(row[k]);
    return (float)((row[k / 2] >> (k % 2 * 4) & 15) - zero);
}

/* One row of the matrix as numbers, or raw: its codes. */
static void weights_of(float *y, const glm4v_cuda_matrix *w, int64_t row, bool raw)
{
    const int64_t groups = groups_of(w), K = w->n_in;
    const int64_t group = groups ? glm4v_form_group((glm4v_form)w->form, w->blocks, K) : 0;
    const uint8_t *at = row_at(w, row);
    if (w->form == GLM4V_CUDA_F32)
        memcpy(y, at, (size_t)K * sizeof *y);
    else if (w->form == GLM4V_CUDA_BF16)
        glm4v_bf16_to_f32_c(y, (const uint16_t *)(const void *)at, (size_t)K);
    for (int64_t g = 0; g < groups; g++) {
        const float scale = raw ? 1 : w->scale[row * groups + g];
        const int zero = w->zero ? w->zero[row * groups + g] : 8;
        const int64_t end = (g + 1) * group < K ? (g + 1) * group : K;
        for (int64_t k = g * group; k < end; k++)
            y[k] = scale * code_of(w->form, at, k, zero);
    }
}

/* Row of activations in e4m3 as numbers, or raw: as codes. */
static float *codes_of(const glm4v_cuda_rounded *in, int64_t row, int64_t K, bool raw)
{
    float *x = fake_room((size_t)K * sizeof *x);
    for (int64_t k = 0; k < K; k++)
        x[k] = (raw ? 1 : in->scale[row * in->ldscale]) *
               glm4v_e4m3_to_f32(((const uint8_t *)in->q)[row * in->ldq + k]);
    return x;
}

/* Row of activations as numbers. */
static float *inputs_of(const product_args *a, int64_t row)
{
    const glm4v_cuda_rounded *in = &a->p.rounded;
    const int64_t K = a->w.n_in, group = glm4v_rounding_group(traits_of(&a->w)->rounding);
    if (!glm4v_cuda_rounds(&a->w))
        return fake_wide(a->p.x + row * a->p.ldx, K);
    if (has_row_scales(&a->w))
        return codes_of(in, row, K, a->p.raw);
    if (!group)
        return fake_wide((const glm4v_bf16 *)in->q + row * in->ldq, K);
    float *x = fake_room((size_t)K * sizeof *x);
    for (int64_t k = 0; k < K; k++)
        x[k] = in->scale[row * in->ldscale + k / group] *
               (float)((const int8_t *)in->q)[row * in->ldq + k];
    return x;
}

/* In four parts, which do not wait for each other: most of the time of tests is spent here. */
static double sum_of(const float *x, const float *w, int64_t n)
{
    double part[4] = { 0 };
    int64_t k = 0;
    for (; k + 4 <= n; k += 4)
        for (int i = 0; i < 4; i++)
            part[i] += (double)x[k + i] * (double)w[k + i];
    for (; k < n; k++)
        part[0] += (double)x[k] * (double)w[k];
    return part[0] + part[1] + (part[2] + part[3]);
}

static float gelu(float x)
{
    return 0.5f * x * (1 + erff(x * 0.70710678f));
}

/* Sums of all rows [rows, n_out], each row of the matrix unpacked once. */
static float *sums_of(const product_args *a)
{
    const int64_t rows = a->p.rows, K = a->w.n_in, N = a->w.n_out;
    float *x = fake_room((size_t)(rows * K) * sizeof *x);
    float *sums = fake_room((size_t)(rows * N) * sizeof *sums);
    float *weights = fake_room((size_t)K * sizeof *weights);
    for (int64_t r = 0; r < rows; r++) {
        float *row = inputs_of(a, r);
        memcpy(x + r * K, row, (size_t)K * sizeof *x);
        free(row);
    }
    for (int64_t o = 0; o < N; o++) {
        weights_of(weights, &a->w, o, a->p.raw);
        for (int64_t r = 0; r < rows; r++)
            sums[r * N + o] = (float)sum_of(x + r * K, weights, K) + (a->p.bias ? a->p.bias[o] : 0);
    }
    free(weights);
    free(x);
    return sums;
}

static void run_product(void *args)
{
    const product_args *a = args;
    const glm4v_cuda_product *p = &a->p;
    const int64_t half = a->w.n_out / 2;
    const int64_t n = p->epilogue == GLM4V_CUDA_SILU_MUL ? half : a->w.n_out;
    float *sums = sums_of(a);
    for (int64_t i = 0; i < p->rows * n; i++) {
        const int64_t r = i / n, o = i % n;
        const float *row = sums + r * a->w.n_out;
        float y = row[o];
        if (p->epilogue == GLM4V_CUDA_GELU)
            y = gelu(y);
        else if (p->epilogue == GLM4V_CUDA_SILU_MUL)
            y = y / (1 + expf(-y)) * row[half + o];
        if (p->y_f32)
            ((float *)p->y)[r * p->ldy + o] = y;
        else
            fake_put((glm4v_bf16 *)p->y + r * p->ldy + o, y, p->add);
    }
    free(sums);
}

cudaError_t glm4v_cuda_decode_product(cudaStream_t stream, const glm4v_cuda_product *p)
{
    const product_args a = { *p, *p->w };
    return p->rows > GLM4V_CUDA_DECODE_ROWS ? cudaErrorInvalidValue
                                            : fake_cuda_launch(stream, run_product, &a, sizeof a);
}

struct glm4v_cuda_prefill {
    void *block;
};

size_t glm4v_cuda_prefill_version(void)
{
    return 130000;
}

bool glm4v_cuda_prefill_by_group(const glm4v_cuda_prefill *prefill)
{
    (void)prefill;
    return false;
}

/* One shape is chosen while the table is made. */
int glm4v_cuda_prefill_choices(const glm4v_cuda_prefill *prefill,
                               glm4v_cuda_choice choice[GLM4V_CUDA_CHOICES])
{
    (void)prefill;
    choice[0] = (glm4v_cuda_choice) { 48, 64, false, true, { 1, 2, 3, 4, 5, 6, 7, UINT64_MAX } };
    return 1;
}

cudaError_t glm4v_cuda_prefill_open(glm4v_cuda_prefill **prefill, size_t *bytes,
                                    const glm4v_cuda_choices *choices)
{
    glm4v_cuda_prefill *p = fake_room(sizeof *p);
    (void)choices;
    const cudaError_t status = cudaMalloc(&p->block, 256);
    *bytes = 256;
    if (status == cudaSuccess)
        *prefill = p;
    else
        free(p);
    return status;
}

void glm4v_cuda_prefill_close(glm4v_cuda_prefill *prefill)
{
    cudaFree(prefill->block);
    free(prefill);
}

cudaError_t glm4v_cuda_prefill_product(cudaStream_t stream, glm4v_cuda_prefill *prefill,
                                       const glm4v_cuda_product *p)
{
    const product_args a = { *p, *p->w };
    if (!prefill)
        return cudaErrorInvalidValue;
    return fake_cuda_launch(stream, run_product, &a, sizeof a);
}

/* ---- from sums to what follows ---- */

typedef struct {
    glm4v_cuda_sums s;
    glm4v_bf16 *y;
    int64_t ldy;
    glm4v_cuda_epilogue epilogue;
    bool add;
    glm4v_cuda_rounded out;
    glm4v_cuda_matrix w; /* of the product that follows */
} sums_args;

float fake_number_of(const glm4v_cuda_sums *s, int64_t row, int64_t n)
{
    const float sum = fake_get(s->sums + row * s->ld + n);
    return sum * s->column[n] * s->row[row] + (s->bias ? s->bias[n] : 0);
}

static float activation_of(const sums_args *a, int64_t row, int64_t n)
{
    const float x = fake_number_of(&a->s, row, n);
    if (a->epilogue == GLM4V_CUDA_GELU)
        return gelu(x);
    if (a->epilogue == GLM4V_CUDA_SILU_MUL)
        return x / (1 + expf(-x)) * fake_number_of(&a->s, row, a->s.n_out / 2 + n);
    return x;
}

static void run_finish(void *args)
{
    const sums_args *a = args;
    const int64_t n = a->epilogue == GLM4V_CUDA_SILU_MUL ? a->s.n_out / 2 : a->s.n_out;
    for (int64_t i = 0; i < a->s.rows * n; i++)
        fake_put(a->y + i / n * a->ldy + i % n, activation_of(a, i / n, i % n), a->add);
}

cudaError_t glm4v_cuda_finish_sums(cudaStream_t stream, glm4v_bf16 *y, int64_t ldy,
                                   const glm4v_cuda_sums *s, glm4v_cuda_epilogue epilogue, bool add)
{
    const sums_args a = { .s = *s, .y = y, .ldy = ldy, .epilogue = epilogue, .add = add };
    return fake_cuda_launch(stream, run_finish, &a, sizeof a);
}

static void run_silu_round(void *args)
{
    const sums_args *a = args;
    const int64_t K = a->w.n_in;
    glm4v_bf16 *row = fake_room((size_t)K * sizeof *row);
    for (int64_t r = 0; r < a->s.rows; r++) {
        for (int64_t n = 0; n < K; n++)
            fake_put(row + n, activation_of(a, r, n), false);
        float *wide = fake_wide(row, K);
        fake_round_row(&a->out, &a->w, r, wide);
        free(wide);
    }
    free(row);
}

cudaError_t glm4v_cuda_silu_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                                  const glm4v_cuda_matrix *w, const glm4v_cuda_sums *s)
{
    fake_set_rounded(out, w);
    const sums_args a = { .s = *s, .epilogue = GLM4V_CUDA_SILU_MUL, .out = *out, .w = *w };
    return fake_cuda_launch(stream, run_silu_round, &a, sizeof a);
}
