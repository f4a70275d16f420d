/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Element operations and copies of rows: a thread takes 8 neighbouring values with 16-byte
 * accesses, one by one at the end of an array and where rows are not aligned. Each reads and writes
 * every value once. */
#include "rows.h"
#include "vector.cuh"

constexpr int THREADS = 256;

/* y [n] = f(y, x), both bf16 or f32; x may be y. */
template <typename Y, typename X, typename F>
static __global__ void map_kernel(Y *y, const X *x, size_t n, F f)
{
    let_next_begin();
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
    float a[VECTOR], b[VECTOR];
    wait_for_earlier();
    if (i >= n)
        return;
    const int count = n - i < VECTOR ? (int)(n - i) : VECTOR;
    load8(a, x + i, count, true);
    f(b, a, y + i, count);
}

template <typename Y, typename X, typename F>
static cudaError_t map(cudaStream_t stream, Y *y, const X *x, size_t n, F f)
{
    if (!n)
        return cudaSuccess;
    return launch(map_kernel<Y, X, F>, blocks_for(n, THREADS * VECTOR), THREADS, 0, stream, y, x, n,
                  f);
}

struct gelu_of {
    __device__ void operator()(float (&y)[VECTOR], const float (&x)[VECTOR], glm4v_bf16 *to,
                               int count) const
    {
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            y[i] = 0.5f * x[i] * erfcf(-x[i] * 0.70710678f);
        store8(to, y, count, true);
    }
};

cudaError_t glm4v_cuda_gelu(cudaStream_t stream, glm4v_bf16 *x, size_t n)
{
    return map(stream, x, (const glm4v_bf16 *)x, n, gelu_of {});
}

struct sum_of {
    __device__ void operator()(float (&y)[VECTOR], const float (&x)[VECTOR], glm4v_bf16 *to,
                               int count) const
    {
        load8(y, to, count, true);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            y[i] += x[i];
        store8(to, y, count, true);
    }
};

cudaError_t glm4v_cuda_add(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x, size_t n)
{
    return map(stream, y, x, n, sum_of {});
}

struct multiple_of {
    float factor;
    __device__ void operator()(float (&y)[VECTOR], const float (&x)[VECTOR], glm4v_bf16 *to,
                               int count) const
    {
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            y[i] = factor * x[i];
        store8(to, y, count, true);
    }
};

cudaError_t glm4v_cuda_scale(cudaStream_t stream, glm4v_bf16 *x, float factor, size_t n)
{
    return map(stream, x, (const glm4v_bf16 *)x, n, multiple_of { factor });
}

struct same {
    __device__ void operator()(float (&y)[VECTOR], const float (&x)[VECTOR], glm4v_bf16 *to,
                               int count) const
    {
        store8(to, x, count, true);
    }
    __device__ void operator()(float (&y)[VECTOR], const float (&x)[VECTOR], float *to,
                               int count) const
    {
        if (count == VECTOR) {
            reinterpret_cast<float4 *>(to)[0] = make_float4(x[0], x[1], x[2], x[3]);
            reinterpret_cast<float4 *>(to)[1] = make_float4(x[4], x[5], x[6], x[7]);
            return;
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            if (i < count)
                to[i] = x[i];
    }
};

cudaError_t glm4v_cuda_widen(cudaStream_t stream, float *y, const glm4v_bf16 *x, size_t n)
{
    return map(stream, y, x, n, same {});
}

cudaError_t glm4v_cuda_narrow(cudaStream_t stream, glm4v_bf16 *y, const float *x, size_t n)
{
    return map(stream, y, x, n, same {});
}

static dim3 row_grid(int64_t n_cols, int32_t rows)
{
    return dim3((unsigned)rows, blocks_for((size_t)n_cols, THREADS * VECTOR));
}

/* Block (row, part): values [8 * THREADS * part, ...) of a row. */
static __global__ void silu_mul_kernel(glm4v_bf16 *y, const glm4v_bf16 *x, int32_t n)
{
    let_next_begin();
    const int32_t i = (int32_t)(blockIdx.y * THREADS + threadIdx.x) * VECTOR;
    const glm4v_bf16 *gate = x + 2 * (int64_t)n * blockIdx.x + i;
    float a[VECTOR], b[VECTOR];
    wait_for_earlier();
    if (i >= n)
        return;
    load8(a, gate, n - i, n % VECTOR == 0);
    load8(b, gate + n, n - i, n % VECTOR == 0);
#pragma unroll
    for (int k = 0; k < VECTOR; k++)
        a[k] = a[k] / (1 + expf(-a[k])) * b[k];
    store8(y + (int64_t)n * blockIdx.x + i, a, n - i, n % VECTOR == 0);
}

cudaError_t glm4v_cuda_silu_mul(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                                int32_t rows, int32_t n)
{
    return launch(silu_mul_kernel, row_grid(n, rows), THREADS, 0, stream, y, x, n);
}

/* y row to[i] = x row from[i]; a NULL map is i. */
static __global__ void copy_rows_kernel(glm4v_bf16 *y, const int32_t *to, const glm4v_bf16 *x,
                                        const int32_t *from, int64_t n_cols)
{
    let_next_begin();
    const int64_t i = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * VECTOR;
    wait_for_earlier();
    if (i >= n_cols)
        return;
    const int64_t row = blockIdx.x;
    x += (from ? from[row] : row) * n_cols + i;
    y += (to ? to[row] : row) * n_cols + i;
    if (n_cols % VECTOR == 0) {
        *reinterpret_cast<uint4 *>(y) = *reinterpret_cast<const uint4 *>(x);
        return;
    }
    for (int k = 0; k < VECTOR && i + k < n_cols; k++)
        y[k] = x[k];
}

cudaError_t glm4v_cuda_place(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                             const int32_t *map, int32_t n, int64_t n_cols)
{
    return n ? launch(copy_rows_kernel, row_grid(n_cols, n), THREADS, 0, stream, y, map, x, nullptr,
                      n_cols)
             : cudaSuccess;
}

cudaError_t glm4v_cuda_take(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                            const int32_t *map, int32_t n, int64_t n_cols)
{
    return n ? launch(copy_rows_kernel, row_grid(n_cols, n), THREADS, 0, stream, y, nullptr, x, map,
                      n_cols)
             : cudaSuccess;
}
