/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rounding to int8, e4m3 and bf16 at AVX2, for activations, tables and weights. The same bits as
 * the C forms of convert.h. */
#ifndef GLM4V_KERNELS_QUANT_AVX2_H
#define GLM4V_KERNELS_QUANT_AVX2_H

#include <math.h>

#include "avx2.h"
#include "convert.h"

/* bf16 in the low half of each 32-bit lane. */
static inline __m256i bf16_bits(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i even = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, _mm256_castps_si256(nan)), 16);
}

/* As glm4v_row_scale(). Magnitudes are compared as integers: the order is the same, and NaN is
 * above infinity. */
static inline float row_scale(float *max, const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        top = _mm256_max_epi32(
            top, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + i)), magnitude));
    if (i < n) {
        __m256i tail = _mm256_maskload_epi32((const int *)(x + i), tail_mask(n - i));
        top = _mm256_max_epi32(top, _mm256_and_si256(tail, magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    *max = _mm_cvtss_f32(_mm_castsi128_ps(m));
    if (!isfinite(*max)) {
        *max = 0;
        return NAN;
    }
    if (*max < GLM4V_QUANT_MIN)
        *max = 0;
    return *max / 127;
}

/* 32 values, |x * inverse| <= 127 or so. */
static inline __m256i round_to_int8(const float *x, __m256 inverse)
{
    __m256i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
    __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* |x| <= 448 or so as e4m3, in 32-bit lanes; as glm4v_f32_to_e4m3(). */
static inline __m256i e4m3_bits(__m256 x)
{
    const __m256i fraction = _mm256_set1_epi32(0x7ffff), one = _mm256_set1_epi32(1);
    const __m256 align = _mm256_set1_ps(16384);
    __m256i u = _mm256_castps_si256(x), a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(u, 24), _mm256_set1_epi32(0x80));
    __m256i small = _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), align));
    __m256i even = _mm256_and_si256(_mm256_srli_epi32(a, 20), one);
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(a, even), fraction);
    small = _mm256_sub_epi32(small, _mm256_castps_si256(align));
    up = _mm256_srli_epi32(_mm256_sub_epi32(up, _mm256_set1_epi32(0x3c000000)), 20);
    up = _mm256_min_epi32(up, _mm256_set1_epi32(0x7e));
    __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), a);
    return _mm256_or_si256(sign, _mm256_blendv_epi8(up, small, is_small));
}

/* |x| <= 448 or so rounded to e4m3 as e4m3_bits() does, as bf16 in the low half of each lane. */
static inline __m256i e4m3_as_bf16(__m256 x)
{
    const __m256 align = _mm256_set1_ps(16384);
    __m256i u = _mm256_castps_si256(x), a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256 small = _mm256_sub_ps(_mm256_add_ps(_mm256_castsi256_ps(a), align), align);
    __m256i even = _mm256_and_si256(_mm256_srli_epi32(a, 20), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(a, even), _mm256_set1_epi32(0x7ffff));
    up = _mm256_and_si256(up, _mm256_set1_epi32((int)0xfff00000));
    up = _mm256_min_epi32(up, _mm256_set1_epi32(0x43e00000)); /* 448 */
    __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), a);
    __m256i value = _mm256_blendv_epi8(up, _mm256_castps_si256(small), is_small);
    return _mm256_srli_epi32(
        _mm256_or_si256(value, _mm256_and_si256(u, _mm256_set1_epi32((int)0x80000000))), 16);
}

/* 32 values of one row, in order. */
static inline __m256i round_to_e4m3(const float *w, __m256 inverse)
{
    __m256i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = e4m3_bits(_mm256_mul_ps(_mm256_loadu_ps(w + 8 * i), inverse));
    __m256i packed =
        _mm256_packus_epi16(_mm256_packus_epi32(v[0], v[1]), _mm256_packus_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

#endif
