/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rounding of values to int8 in groups, as glm4v_quantize_row does it, for kernels that have the
 * values in registers. */
#ifndef GLM4V_CUDA_ROUND_CUH
#define GLM4V_CUDA_ROUND_CUH

#include <cuda_fp8.h>
#include <math_constants.h>

#include "matrix.cuh"
#include "vector.cuh"

/* How rows rounded for w lie. Scales of groups: row by row those of the inputs; group by group
 * those of the filling too, which are 0, with rows filled up to 16. */
static inline void set_rounded_layout(glm4v_cuda_rounded *out, const glm4v_cuda_matrix *w,
                                      int64_t rows)
{
    out->ldq = round_up(w->n_in, has_byte_inputs(w->form) ? 128 : 8);
    out->ldscale = out->ldgroup = 0;
    if (w->form == GLM4V_CUDA_FP8_DYNAMIC) {
        out->ldscale = 1;
    } else if (has_byte_inputs(w->form)) {
        out->ldscale = out->by_group ? 1 : count_groups(w->n_in, group_of(w->form));
        out->ldgroup = out->by_group ? round_up(rows, 16) : 1;
    }
}

/* Has the group from input k on a scale? */
static __device__ __forceinline__ bool is_scaled(const glm4v_cuda_rounded &out, int64_t k,
                                                 int64_t n_in, int group)
{
    return k % group == 0 && k < (out.by_group ? out.ldq : n_in);
}

static __device__ __forceinline__ float *scale_at(const glm4v_cuda_rounded &out, int64_t row,
                                                  int64_t group)
{
    return out.scale + row * out.ldscale + group * out.ldgroup;
}

/* Largest magnitude of a group: bits of non-negative floats are in the order of their values, and
 * infinity and NaN lie above. */
static __device__ __forceinline__ uint32_t magnitude_bits(float x)
{
    return __float_as_uint(x) & 0x7fffffff;
}

/* The largest of a block of THREADS threads, to all of them; partial [THREADS / 32] shared, used
 * once. */
template <int THREADS>
static __device__ __forceinline__ uint32_t block_max(uint32_t value, uint32_t *partial)
{
    value = __reduce_max_sync(~0u, value);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = value;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++)
        value = max(value, partial[i]);
    return value;
}

/* max: the group's largest magnitude_bits. Scale = max / divisor, or NaN. *inverse = divisor / max,
 * 0 where all codes are 0. */
static __device__ __forceinline__ float group_scale(float *inverse, uint32_t max, float divisor)
{
    const float m = __uint_as_float(max);
    *inverse = 0;
    if (max >= 0x7f800000)
        return CUDART_NAN_F;
    if (m < 0x1p-100f)
        return 0;
    *inverse = __fdiv_rn(divisor, m);
    return __fdiv_rn(m, divisor);
}

/* inverse 0: the group may hold NaN, its codes are 0. */
static __device__ __forceinline__ int round_code(float x, float inverse)
{
    return inverse == 0 ? 0 : __float2int_rn(__fmul_rn(x, inverse));
}

static __device__ __forceinline__ uint32_t pack_bytes(int a, int b, int c, int d)
{
    return (uint32_t)(a & 0xff) | (uint32_t)(b & 0xff) << 8 | (uint32_t)(c & 0xff) << 16 |
           (uint32_t)d << 24;
}

/* As glm4v_f32_to_e4m3: to nearest, ties to even, at most 448. */
static __device__ __forceinline__ uint32_t e4m3(float x)
{
    const uint32_t bits = __float_as_uint(x), sign = bits >> 24 & 0x80, a = bits & 0x7fffffff;
    if (a >= 0x43e80000)
        return sign | 0x7e;
    if (a < 0x3c800000)
        return sign |
               (__float_as_uint(__fadd_rn(__uint_as_float(a), 16384)) - __float_as_uint(16384.0f));
    return sign | ((a - 0x3c000000 + 0x7ffff + (a >> 20 & 1)) >> 20);
}

/* Codes of two values, the first in the low byte. */
static __device__ __forceinline__ uint32_t e4m3_pair(float low, float high)
{
#if __CUDA_ARCH__ >= 890
    return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
#else
    return e4m3(low) | e4m3(high) << 8;
#endif
}

/* Codes of 8 values of a row; inverse 0: they are 0, as in round_code. */
static __device__ __forceinline__ uint2 e4m3_eight(const float (&x)[VECTOR], float inverse)
{
    uint32_t pair[VECTOR / 2];
#pragma unroll
    for (int i = 0; i < VECTOR / 2; i++)
        pair[i] = inverse == 0
                      ? 0
                      : e4m3_pair(__fmul_rn(x[2 * i], inverse), __fmul_rn(x[2 * i + 1], inverse));
    return make_uint2(pair[0] | pair[1] << 16, pair[2] | pair[3] << 16);
}

/* What a sum of a raw product stands for (glm4v_cuda_sums): the same bits wherever it is made. */
static __device__ __forceinline__ float number_of(float sum, float column, float row, float bias)
{
    return __fadd_rn(__fmul_rn(__fmul_rn(sum, column), row), bias);
}

/* The largest magnitude_bits of 8 values, or `most`. */
static __device__ __forceinline__ uint32_t most_of(const float (&x)[VECTOR], uint32_t most)
{
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        most = max(most, magnitude_bits(x[i]));
    return most;
}

/* 4 neighbouring values a lane, 128 a warp, in groups of `group` (32 or 128): codes of the lane and
 * the scale of its group. All lanes of the warp take part. */
static __device__ __forceinline__ uint32_t round_four(float *scale, const float x[4], int group)
{
    uint32_t max = 0;
    float inverse;
    for (int i = 0; i < 4; i++)
        max = ::max(max, magnitude_bits(x[i]));
    for (int step = group / 8; step; step /= 2)
        max = ::max(max, __shfl_xor_sync(~0u, max, step));
    *scale = group_scale(&inverse, max, 127);
    return pack_bytes(round_code(x[0], inverse), round_code(x[1], inverse),
                      round_code(x[2], inverse), round_code(x[3], inverse));
}

/* Codes of 8 values, and the scale of their group, which group / 8 neighbouring lanes hold. All
 * lanes of the warp call this. */
static __device__ __forceinline__ uint2 round8(float *scale, const float (&x)[VECTOR], int group)
{
    uint32_t most = 0;
    float inverse;
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        most = max(most, magnitude_bits(x[i]));
    for (int distance = group / VECTOR / 2; distance; distance /= 2)
        most = max(most, __shfl_xor_sync(~0u, most, distance));
    *scale = group_scale(&inverse, most, 127);
    int code[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        code[i] = round_code(x[i], inverse);
    return make_uint2(pack_bytes(code[0], code[1], code[2], code[3]),
                      pack_bytes(code[4], code[5], code[6], code[7]));
}

static __device__ __forceinline__ float widen_bf16(glm4v_bf16 x)
{
    return __uint_as_float((uint32_t)x << 16);
}

/* To nearest, ties to even; NaN stays a quiet NaN. */
static __device__ __forceinline__ glm4v_bf16 narrow_bf16(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (glm4v_bf16)(bits >> 16 | 0x40);
    return (glm4v_bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
