/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prefill products: each form to its way. In tiles where the device can (tile.h), but plain
 * products of BF16 by cuBLASLt, and those of FP8_DYNAMIC, with scales behind them. On other devices
 * BF16 by cuBLASLt, with a pass over its sums for what it does not do (bias, epilogues), and the
 * other forms in blocks (product_blocks.cuh). */
#include <stdlib.h>

#include "prefill_lt.h"
#include "product.cuh"
#include "tile.h"

struct glm4v_cuda_prefill {
    tile_device tiles;
    lt_library lt;
    float *sums; /* rows of sums on their way to y; NULL where there are tiles */
};

namespace
{
enum { THREADS = 256, SUMS_BYTES = 64 << 20 };

/* sums [rows, n_out] */
__global__ void __launch_bounds__(THREADS) finish_sums(const product_args p, const float *sums)
{
    const int64_t t = blockIdx.x;
    const int32_t n = (int32_t)(blockIdx.y * THREADS + threadIdx.x), half = p.n_out / 2;
    const float *sum = sums + t * p.n_out;

    let_next_begin();
    wait_for_earlier();
    if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
        if (n < half)
            finish_pair(p, t, n, sum[n], sum[half + n]);
    } else if (n < p.n_out) {
        finish(p, t, n, sum[n]);
    }
}

lt_product lt_arguments(const product_args &p)
{
    return { p.y,    p.ldy,   p.x,    p.w,   p.x_bytes / 2, p.w_bytes / 2,
             p.rows, p.n_out, p.n_in, p.add, p.y_f32,       false };
}

cudaError_t multiply_rows(cudaStream_t stream, glm4v_cuda_prefill *prefill, const product_args &p)
{
    lt_product q = lt_arguments(p);
    const unsigned width = (unsigned)(p.epilogue == GLM4V_CUDA_SILU_MUL ? p.n_out / 2 : p.n_out);
    q.y = prefill->sums;
    q.ldy = p.n_out;
    q.add = false;
    q.y_f32 = true; /* rounded once, behind the epilogue */
    const cudaError_t error = lt_multiply(&prefill->lt, stream, &q);
    if (error != cudaSuccess)
        return error;
    return launch(finish_sums, dim3((unsigned)p.rows, (width + THREADS - 1) / THREADS),
                  dim3(THREADS), 0, stream, p, (const float *)prefill->sums);
}

/* Sums of codes, then in place what is left to do. Rows are filled with zeros. */
cudaError_t multiply_fp8(cudaStream_t stream, glm4v_cuda_prefill *prefill, const product_args &p,
                         bool raw)
{
    const lt_product q = { p.y,    p.ldy,     p.x,
                           p.w,    p.x_bytes, p.w_bytes,
                           p.rows, p.n_out,   (int32_t)p.w_bytes,
                           false,  false,     true };
    const glm4v_cuda_sums s = {
        (const glm4v_bf16 *)p.y, p.ldy, p.w_scale, p.row_scale, p.bias, p.rows, p.n_out
    };
    const cudaError_t error = lt_multiply(&prefill->lt, stream, &q);
    if (error != cudaSuccess || raw)
        return error;
    return glm4v_cuda_finish_sums(stream, (glm4v_bf16 *)p.y, p.ldy, &s, p.epilogue, false);
}

/* Sums fit in y, and multiples of 16 the library. */
bool fp8_takes(const glm4v_cuda_product *p)
{
    return p->w->form == GLM4V_CUDA_FP8_DYNAMIC && p->w->n_out % 16 == 0 &&
           p->epilogue != GLM4V_CUDA_SILU_MUL && !p->add && !p->y_f32 && p->ldy % 8 == 0;
}

bool is_plain(const product_args &p)
{
    return !p.bias && p.epilogue == GLM4V_CUDA_PLAIN;
}

/* As many rows at a time as there is room for their sums. */
cudaError_t multiply_lt(cudaStream_t stream, glm4v_cuda_prefill *prefill, const product_args &p)
{
    const lt_product q = lt_arguments(p);
    const int64_t element = p.y_f32 ? 4 : 2, most = SUMS_BYTES / (p.n_out * (int64_t)sizeof(float));
    cudaError_t error = cudaSuccess;

    if (is_plain(p))
        return lt_multiply(&prefill->lt, stream, &q);
    for (int64_t t = 0; t < p.rows && error == cudaSuccess; t += most) {
        product_args part = p;
        part.rows = (int32_t)(p.rows - t < most ? p.rows - t : most);
        part.x = p.x + t * p.x_bytes;
        part.y = (uint8_t *)p.y + t * p.ldy * element;
        error = multiply_rows(stream, prefill, part);
    }
    return error;
}

/* cuBLASLt wants rows in step with 16 bytes, and sums of a row need room. None of this depends on
 * the number of rows. */
bool lt_takes(const glm4v_cuda_prefill *prefill, const glm4v_cuda_product *p)
{
    const glm4v_cuda_matrix *w = p->w;
    if (w->form != GLM4V_CUDA_BF16 || w->n_out % 8 || w->n_in % 8)
        return false;
    return prefill->sums ? (int64_t)w->n_out * 4 <= SUMS_BYTES : is_plain(arguments_of(p));
}
} // namespace

size_t glm4v_cuda_prefill_version(void)
{
    return cublasLtGetVersion();
}

bool glm4v_cuda_prefill_by_group(const glm4v_cuda_prefill *prefill)
{
    return prefill->tiles.usable;
}

int glm4v_cuda_prefill_choices(const glm4v_cuda_prefill *prefill,
                               glm4v_cuda_choice choice[GLM4V_CUDA_CHOICES])
{
    int n = 0;
    for (int i = 0; i < prefill->lt.n_shapes; i++)
        if (!prefill->lt.shape[i].none)
            choice[n++] = prefill->lt.shape[i].choice;
    return n;
}

cudaError_t glm4v_cuda_prefill_open(glm4v_cuda_prefill **prefill, size_t *bytes,
                                    const glm4v_cuda_choices *choices)
{
    glm4v_cuda_prefill *q = (glm4v_cuda_prefill *)calloc(1, sizeof *q);
    *prefill = q;
    *bytes = 0;
    if (!q)
        return cudaErrorMemoryAllocation;
    cudaError_t error = tile_device_open(&q->tiles);
    if (error == cudaSuccess)
        error = lt_open(&q->lt, choices);
    const size_t sums = q->tiles.usable ? 0 : SUMS_BYTES;
    if (error == cudaSuccess && sums)
        error = cudaMalloc(&q->sums, sums);
    if (error != cudaSuccess) {
        glm4v_cuda_prefill_close(q);
        *prefill = NULL;
        return error;
    }
    *bytes = q->lt.workspace_bytes + sums;
    return cudaSuccess;
}

void glm4v_cuda_prefill_close(glm4v_cuda_prefill *prefill)
{
    if (!prefill)
        return;
    cudaFree(prefill->sums);
    lt_close(&prefill->lt);
    free(prefill);
}

cudaError_t glm4v_cuda_prefill_product(cudaStream_t stream, glm4v_cuda_prefill *prefill,
                                       const glm4v_cuda_product *p)
{
    if (lt_takes(prefill, p)) {
        const cudaError_t error = multiply_lt(stream, prefill, arguments_of(p));
        if (error != cudaErrorNotSupported)
            return error;
    }
    if (fp8_takes(p)) {
        const cudaError_t error = multiply_fp8(stream, prefill, arguments_of(p), p->raw);
        if (error != cudaErrorNotSupported)
            return error;
    }
    if (tile_takes(&prefill->tiles, p))
        return tile_multiply(stream, &prefill->tiles, p);
    return blocks_multiply(stream, p);
}
