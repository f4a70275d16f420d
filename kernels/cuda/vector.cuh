/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For .cu files only: eight neighbouring bf16 as floats, and sums over threads in a fixed order. */
#ifndef GLM4V_CUDA_VECTOR_CUH
#define GLM4V_CUDA_VECTOR_CUH

#include "launch.cuh"

constexpr int VECTOR = 8; /* values of a 16-byte access */

static __device__ __forceinline__ float widen(glm4v_bf16 x)
{
    return __uint_as_float((uint32_t)x << 16);
}

static __device__ __forceinline__ glm4v_bf16 narrow(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/* low in the lower half */
static __device__ __forceinline__ uint32_t narrow2(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

static __device__ __forceinline__ void widen8(float (&x)[VECTOR], uint4 bits)
{
    const uint32_t words[4] = { bits.x, bits.y, bits.z, bits.w };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = __uint_as_float(words[i] << 16);
        x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

static __device__ __forceinline__ uint4 narrow8(const float (&x)[VECTOR])
{
    return make_uint4(narrow2(x[0], x[1]), narrow2(x[2], x[3]), narrow2(x[4], x[5]),
                      narrow2(x[6], x[7]));
}

/* Values [0, count) of p as they are, the rest 0; all 8 in one access where p is aligned to 16
 * bytes. Several of these can be under way before the first is used. */
static __device__ __forceinline__ uint4 load_bits(const glm4v_bf16 *p, int count, bool aligned)
{
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (aligned && count >= VECTOR)
        bits = *reinterpret_cast<const uint4 *>(p);
    else if (count > 0) {
        uint32_t half[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            half[i] = i < count ? p[i] : 0;
        bits = make_uint4(half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16,
                          half[6] | half[7] << 16);
    }
    return bits;
}

/* The same, widened. */
static __device__ __forceinline__ void load8(float (&x)[VECTOR], const glm4v_bf16 *p, int count,
                                             bool aligned)
{
    widen8(x, load_bits(p, count, aligned));
}

static __device__ __forceinline__ void load8(float (&x)[VECTOR], const float *p, int count,
                                             bool aligned)
{
    if (aligned && count >= VECTOR) {
        const float4 low = *reinterpret_cast<const float4 *>(p);
        const float4 high = *reinterpret_cast<const float4 *>(p + 4);
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
        return;
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        x[i] = i < count ? p[i] : 0;
}

static __device__ __forceinline__ void store8(glm4v_bf16 *p, const float (&x)[VECTOR], int count,
                                              bool aligned)
{
    if (aligned && count >= VECTOR) {
        *reinterpret_cast<uint4 *>(p) = narrow8(x);
        return;
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        if (i < count)
            p[i] = narrow(x[i]);
}

/* The sum over a warp, in every lane. */
static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

/* The sum over a block of THREADS threads, 32 or a multiple of 128, in every thread; partial [32]
 * shared, aligned to 16 bytes, which the caller uses again only behind a barrier. */
template <int THREADS> static __device__ __forceinline__ float block_sum(float x, float *partial)
{
    constexpr int WARPS = THREADS / 32;
    x = warp_sum(x);
    if (THREADS == 32)
        return x;
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = x;
    __syncthreads();
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < WARPS / 4; i++) {
        const float4 part = reinterpret_cast<const float4 *>(partial)[i];
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

/* Blocks of `threads` that cover n. */
static inline unsigned blocks_for(size_t n, int threads)
{
    return (unsigned)((n + (size_t)threads - 1) / (size_t)threads);
}

#endif
