/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* F32 weights: plain multiply-adds, for the small exact models. A warp has one output (SILU_MUL: a
 * pair) and up to 8 rows; lane l sums inputs l, l + 32, ... */
#include "product.cuh"

namespace
{
enum { THREADS = 256, WARPS = THREADS / 32, ROWS = 8 };

/* Sums of output n for rows [first, first + ROWS), to all lanes. */
__device__ void sum_rows(float (&sum)[ROWS], const product_args &p, int64_t n, int first)
{
    const float *w = (const float *)(p.w + n * p.w_bytes);
    for (int r = 0; r < ROWS; r++)
        sum[r] = 0;
    for (int64_t k = threadIdx.x % 32; k < p.n_in; k += 32) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int t = min(first + r, p.rows - 1);
            const glm4v_bf16 *x = (const glm4v_bf16 *)(p.x + t * p.x_bytes);
            sum[r] = fmaf(widen_bf16(x[k]), w[k], sum[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        for (int step = 16; step; step /= 2)
            sum[r] += __shfl_xor_sync(~0u, sum[r], step);
}

__global__ void __launch_bounds__(THREADS) multiply_f32(const product_args p)
{
    const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
    const int64_t n = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int64_t half = p.n_out / 2, width = pairs ? half : p.n_out;
    const int first = blockIdx.y * ROWS, lane = threadIdx.x % 32;
    float sum[ROWS], up[ROWS];

    let_next_begin();
    wait_for_earlier();
    if (n >= width)
        return;
    sum_rows(sum, p, n, first);
    if (pairs)
        sum_rows(up, p, half + n, first);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (lane != r || first + r >= p.rows)
            continue;
        if (pairs)
            finish_pair(p, first + r, (int)n, sum[r], up[r]);
        else
            finish(p, first + r, (int)n, sum[r]);
    }
}
} // namespace

cudaError_t product_f32(cudaStream_t stream, const product_args &p)
{
    const unsigned outputs = (unsigned)(((int64_t)p.n_out + WARPS - 1) / WARPS);
    return launch(multiply_f32, dim3(outputs, (unsigned)((p.rows + ROWS - 1) / ROWS)),
                  dim3(THREADS), 0, stream, p);
}
