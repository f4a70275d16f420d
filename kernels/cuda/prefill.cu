/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prefill products: each form to its way. BF16 by cuBLASLt; FP8 likewise, from codes widened to
 * bf16; the others by the kernels that decode uses. What cuBLASLt does not do (scales, bias,
 * epilogues) a pass over its sums does. */
#include <stdlib.h>

#include "prefill_lt.h"
#include "product.cuh"

struct glm4v_cuda_prefill {
    lt_library lt;
    uint8_t *unpacked; /* a matrix as bf16 */
    size_t unpacked_bytes;
    uint8_t *sums; /* rows of sums on their way to y */
};

namespace
{
enum { THREADS = 256, SUMS_BYTES = 64 << 20 };

/* ---- FP8 to bf16 ---- */

struct widen_args {
    uint32_t *to; /* pairs of inputs */
    int64_t ld;
    const uint32_t *codes;
    int64_t words;      /* of codes, a row */
    const float *scale; /* of blocks, or NULL */
    int32_t scales, n_out;
};

__device__ uint32_t scaled_pair(uint32_t pair, float scale)
{
    const float low = widen_bf16((glm4v_bf16)pair) * 0x1p120f;
    const float high = widen_bf16((glm4v_bf16)(pair >> 16)) * 0x1p120f;
    return narrow_bf16(low * scale) | (uint32_t)narrow_bf16(high * scale) << 16;
}

/* A thread a word of codes; exact where there are no blocks. */
__global__ void __launch_bounds__(THREADS) widen_fp8(const widen_args a)
{
    const int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x;
    const int64_t row = i / a.words, word = i % a.words, k = fp8_input(word);

    let_next_begin();
    const bool inside = row < a.n_out;
    const uint32_t codes = inside ? a.codes[i] : 0;
    const float scale = inside && a.scale ? a.scale[row * a.scales + word / 32] : 1;
    wait_for_earlier();
    if (inside && k < a.ld) /* in steps of 8 inputs, and ld is a multiple of 8 */
        a.to[(row * a.ld + k) / 2] = scaled_pair(fp8_first(codes), scale);
    if (inside && k + 8 < a.ld)
        a.to[(row * a.ld + k + 8) / 2] = scaled_pair(fp8_last(codes), scale);
}

/* n_in rounded up to 8: elements between rows. */
cudaError_t widen_matrix(cudaStream_t stream, glm4v_cuda_prefill *prefill,
                         const glm4v_cuda_matrix *w)
{
    const int64_t ld = round_up(w->n_in, 8), words = row_bytes(w->form, w->n_in) / 4;
    const int64_t n = w->n_out * words;
    const float *scale = w->blocks ? w->scale : NULL;
    const widen_args a = { (uint32_t *)prefill->unpacked,
                           ld,
                           (const uint32_t *)w->data,
                           words,
                           scale,
                           scales_of(w),
                           w->n_out };
    if (w->n_out * ld * 2 > (int64_t)prefill->unpacked_bytes)
        return cudaErrorInvalidValue;
    return launch(widen_fp8, dim3((unsigned)((n + THREADS - 1) / THREADS)), dim3(THREADS), 0,
                  stream, a);
}

/* ---- from sums to y ---- */

__device__ float sum_at(const product_args &p, const void *sums, int64_t t, int64_t n)
{
    const int64_t at = t * p.n_out + n;
    const float sum =
        p.y_f32 ? ((const float *)sums)[at] : widen_bf16(((const glm4v_bf16 *)sums)[at]);
    return p.w_scale && p.scales == 1 ? sum * p.w_scale[n] : sum;
}

/* sums [rows, n_out], in the type of y. */
__global__ void __launch_bounds__(THREADS) finish_sums(const product_args p, const void *sums)
{
    const int64_t t = blockIdx.x;
    const int32_t n = (int32_t)(blockIdx.y * THREADS + threadIdx.x), half = p.n_out / 2;

    let_next_begin();
    wait_for_earlier();
    if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
        if (n < half)
            finish_pair(p, t, n, sum_at(p, sums, t, n), sum_at(p, sums, t, half + n));
    } else if (n < p.n_out) {
        finish(p, t, n, sum_at(p, sums, t, n));
    }
}

/* ---- products by cuBLASLt ---- */

/* The weights as bf16. */
struct bf16_weights {
    const void *data;
    int64_t ld;
};

lt_product lt_arguments(const product_args &p, const bf16_weights &w)
{
    return {
        p.y, p.ldy, p.x, w.data, p.x_bytes / 2, w.ld, p.rows, p.n_out, p.n_in, p.add, p.y_f32
    };
}

bool needs_pass(const product_args &p)
{
    return (p.w_scale && p.scales == 1) || p.bias || p.epilogue != GLM4V_CUDA_PLAIN;
}

cudaError_t multiply_rows(cudaStream_t stream, glm4v_cuda_prefill *prefill, const product_args &p,
                          const bf16_weights &w)
{
    lt_product q = lt_arguments(p, w);
    const unsigned width = (unsigned)(p.epilogue == GLM4V_CUDA_SILU_MUL ? p.n_out / 2 : p.n_out);
    q.y = prefill->sums;
    q.ldy = p.n_out;
    q.add = false;
    const cudaError_t error = lt_multiply(&prefill->lt, stream, &q);
    if (error != cudaSuccess)
        return error;
    return launch(finish_sums, dim3((unsigned)p.rows, (width + THREADS - 1) / THREADS),
                  dim3(THREADS), 0, stream, p, (const void *)prefill->sums);
}

/* As many rows at a time as there is room for their sums. */
cudaError_t multiply_lt(cudaStream_t stream, glm4v_cuda_prefill *prefill, const product_args &p,
                        const bf16_weights &w)
{
    const lt_product q = lt_arguments(p, w);
    const int64_t element = p.y_f32 ? 4 : 2, most = SUMS_BYTES / (p.n_out * element);
    cudaError_t error = cudaSuccess;

    if (!needs_pass(p))
        return lt_multiply(&prefill->lt, stream, &q);
    if (most < 1)
        return cudaErrorNotSupported;
    for (int64_t t = 0; t < p.rows && error == cudaSuccess; t += most) {
        product_args part = p;
        part.rows = (int32_t)(p.rows - t < most ? p.rows - t : most);
        part.x = p.x + t * p.x_bytes;
        part.y = (uint8_t *)p.y + t * p.ldy * element;
        error = multiply_rows(stream, prefill, part, w);
    }
    return error;
}

/* cuBLASLt wants rows of y in step with 16 bytes for its fast kernels, and has none for some odd
 * shapes; those take the kernel of decode. */
cudaError_t multiply_bf16(cudaStream_t stream, glm4v_cuda_prefill *prefill,
                          const glm4v_cuda_product *p)
{
    product_args a = arguments_of(p);
    bf16_weights w = { p->w->data, round_up(p->w->n_in, 8) };
    cudaError_t error = cudaSuccess;
    if (a.n_out % 8 || a.n_in % 8)
        return glm4v_cuda_decode_product(stream, p);
    if (p->w->form == GLM4V_CUDA_FP8) {
        error = widen_matrix(stream, prefill, p->w);
        w.data = prefill->unpacked;
    }
    if (error == cudaSuccess)
        error = multiply_lt(stream, prefill, a, w);
    return error == cudaErrorNotSupported ? glm4v_cuda_decode_product(stream, p) : error;
}
} // namespace

cudaError_t glm4v_cuda_prefill_open(glm4v_cuda_prefill **prefill, size_t unpacked, size_t *bytes)
{
    glm4v_cuda_prefill *q = (glm4v_cuda_prefill *)calloc(1, sizeof *q);
    *prefill = q;
    *bytes = 0;
    if (!q)
        return cudaErrorMemoryAllocation;
    q->unpacked_bytes = 2 * unpacked;
    cudaError_t error = lt_open(&q->lt);
    if (error == cudaSuccess)
        error = cudaMalloc(&q->sums, SUMS_BYTES);
    if (error == cudaSuccess && unpacked)
        error = cudaMalloc(&q->unpacked, q->unpacked_bytes);
    if (error != cudaSuccess) {
        glm4v_cuda_prefill_close(q);
        *prefill = NULL;
        return error;
    }
    *bytes = q->lt.workspace_bytes + SUMS_BYTES + q->unpacked_bytes;
    return cudaSuccess;
}

void glm4v_cuda_prefill_close(glm4v_cuda_prefill *prefill)
{
    if (!prefill)
        return;
    cudaFree(prefill->unpacked);
    cudaFree(prefill->sums);
    lt_close(&prefill->lt);
    free(prefill);
}

cudaError_t glm4v_cuda_prefill_product(cudaStream_t stream, glm4v_cuda_prefill *prefill,
                                       const glm4v_cuda_product *p)
{
    if (p->w->form == GLM4V_CUDA_BF16 || p->w->form == GLM4V_CUDA_FP8)
        return multiply_bf16(stream, prefill, p);
    return glm4v_cuda_decode_product(stream, p);
}
