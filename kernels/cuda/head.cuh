/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For .cu files only: one head in the registers of 16 neighbouring lanes, 8 values each, zeros
 * beyond its size. All lanes of a warp call these together. */
#ifndef GLM4V_CUDA_HEAD_CUH
#define GLM4V_CUDA_HEAD_CUH

#include "attention.h"
#include "round.cuh"

constexpr int HEAD_LANES = 16, HEAD_MOST = HEAD_LANES * VECTOR;
constexpr int HEAD_THREADS = 128, HEADS_A_BLOCK = HEAD_THREADS / HEAD_LANES;

static __device__ __forceinline__ void load_head(float (&x)[VECTOR], const glm4v_bf16 *head,
                                                 int32_t head_dim)
{
    const int32_t at = threadIdx.x % HEAD_LANES * VECTOR;
    load8(x, head + at, head_dim - at, true);
}

static __device__ __forceinline__ void store_head(glm4v_bf16 *head, const float (&x)[VECTOR],
                                                  int32_t head_dim)
{
    const int32_t at = threadIdx.x % HEAD_LANES * VECTOR;
    store8(head + at, x, head_dim - at, true);
}

/* Numbers of 8 sums of a raw product from column n on, rounded to bf16 as glm4v_cuda_finish_sums
 * does. */
static __device__ __forceinline__ void make_numbers(float (&x)[VECTOR], const glm4v_cuda_sums &s,
                                                    int64_t row, int32_t n, int count)
{
    float column[VECTOR], bias[VECTOR] = {};
    load8(column, s.column + n, count, true);
    if (s.bias)
        load8(bias, s.bias + n, count, true);
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        x[i] = widen(narrow(number_of(x[i], column[i], s.row[row], bias[i])));
}

/* x = x w / sqrt(mean(x^2) + eps); w NULL: x as it is. */
static __device__ __forceinline__ void norm_head(float (&x)[VECTOR], const float *w, float eps,
                                                 int32_t head_dim)
{
    const int32_t at = threadIdx.x % HEAD_LANES * VECTOR;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        sum += x[i] * x[i];
#pragma unroll
    for (int distance = HEAD_LANES / 2; distance; distance /= 2)
        sum += __shfl_xor_sync(~0u, sum, distance);
    const float scale = rsqrtf(sum / (float)head_dim + eps);
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        if (w && at < head_dim)
            x[i] *= scale * w[at + i];
}

/* Pairs (2i, 2i + 1), which one lane holds. */
static __device__ __forceinline__ void rotate_neighbours(float (&x)[VECTOR], const float *cos,
                                                         const float *sin, int32_t n_freq)
{
    const int32_t first = threadIdx.x % HEAD_LANES * VECTOR / 2;
#pragma unroll
    for (int i = 0; i < VECTOR / 2; i++) {
        if (first + i >= n_freq)
            return;
        const float c = cos[first + i], s = sin[first + i], a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = b * c + a * s;
    }
}

/* Pairs (i, i + n_freq). shared: [HEAD_MOST] of this head alone. */
static __device__ __forceinline__ void
rotate_halves(float (&x)[VECTOR], const float *cos, const float *sin, int32_t n_freq, float *shared)
{
    const int32_t at = threadIdx.x % HEAD_LANES * VECTOR;
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        shared[at + i] = x[i];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const int32_t d = at + i;
        if (d < n_freq)
            x[i] = x[i] * cos[d] - shared[d + n_freq] * sin[d];
        else if (d < 2 * n_freq)
            x[i] = x[i] * cos[d - n_freq] + shared[d - n_freq] * sin[d - n_freq];
    }
}

/* A head of a row as glm4v_cuda_rope says. */
static __device__ __forceinline__ void rotate_head(float (&x)[VECTOR], const glm4v_cuda_rope &r,
                                                   int64_t row)
{
    __shared__ float shared[HEADS_A_BLOCK][HEAD_MOST];
    const float *cos = r.cos + row * r.n_freq, *sin = r.sin + row * r.n_freq;
    if (r.half)
        rotate_halves(x, cos, sin, r.n_freq, shared[threadIdx.x / HEAD_LANES]);
    else
        rotate_neighbours(x, cos, sin, r.n_freq);
}

/* The head that these lanes hold; heads of a row are cut in blocks along y. */
static __device__ __forceinline__ int32_t head_of_thread()
{
    return (int32_t)(blockIdx.y * HEADS_A_BLOCK + threadIdx.x / HEAD_LANES);
}

#endif
