/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the AVX2 files share: tails, sums across lanes, the exponential. */
#ifndef GLM4V_KERNELS_AVX2_H
#define GLM4V_KERNELS_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* Lanes i < n set, for maskload and maskstore; n <= 0: none, n >= 8: all. */
static inline __m256i tail_mask(ptrdiff_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const ptrdiff_t below = n < 8 ? n : 8;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(below > 0 ? (int32_t)below : 0), lane);
}

/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
static inline float sum_lanes(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* 2^n, n = whole floats in [-126, 127], by the exponent's bits. */
static inline __m256 power_of_two(__m256 n)
{
    __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23));
}

/* exp(x) = 2^n exp(r), x = n ln 2 + r, |r| <= ln 2 / 2. exp(r) by a polynomial of degree 6 (minimax
 * by Lawson's iteration, relative error 3.6e-9 with these coefficients); 2^n in two factors, so
 * that results run into denormals and infinity as they should. ln 2 in two parts, the first short
 * enough for n times it to be exact. Within 1.1 units in the last place; NaN stays NaN. */
static inline __m256 exp_ps(__m256 x)
{
    enum {
        NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC,
        TO_ZERO = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC
    };

    /* where one operand is NaN, the second is returned */
    x = _mm256_max_ps(_mm256_set1_ps(-105), x);
    x = _mm256_min_ps(_mm256_set1_ps(89), x);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), NEAREST);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 y = _mm256_set1_ps(0x1.6a23cep-10f);
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0x1.123a2p-7f));
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0x1.5558f2p-5f));
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0x1.555492p-3f));
    y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0x1.fffffcp-2f));
    y = _mm256_fmadd_ps(_mm256_mul_ps(y, r), r, r);
    y = _mm256_add_ps(y, _mm256_set1_ps(1));
    __m256 half = _mm256_round_ps(_mm256_mul_ps(n, _mm256_set1_ps(0.5f)), TO_ZERO);
    return _mm256_mul_ps(_mm256_mul_ps(y, power_of_two(half)),
                         power_of_two(_mm256_sub_ps(n, half)));
}

/* out = the transpose of v: lane i of vector j is lane j of v[i]. */
static inline void transpose8(__m256i out[8], const __m256i v[8])
{
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        out[i] = _mm256_permute2x128_si256(b[i], b[4 + i], 0x20);
        out[i + 4] = _mm256_permute2x128_si256(b[i], b[4 + i], 0x31);
    }
}

/* The same into memory, 64 bytes apart. */
static inline void transpose_store(uint8_t *out, const __m256i v[8])
{
    __m256i t[8];
    transpose8(t, v);
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)(out + 64 * i), t[i]);
}

/* 32 inputs of 8 outputs into a panel: as int8, and then the two pairs of 4 outputs apart. */
static inline void transpose_store_fp8(uint8_t *panel, const __m256i v[8])
{
    const __m256i pairs = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0,
                                           1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m256i t[8];
    transpose8(t, v);
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)(panel + 64 * i), _mm256_shuffle_epi8(t[i], pairs));
}

/* 64 bytes, each 0 to 15, as 32: byte 8b + i in the low nibble of byte 4b + i, 8b + 4 + i in its
 * high nibble. */
static inline __m256i join_nibbles(__m256i first, __m256i second)
{
    __m256 a = _mm256_castsi256_ps(first), b = _mm256_castsi256_ps(second);
    __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)),
            odd = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
    __m256i both = _mm256_or_si256(
        even, _mm256_slli_epi16(odd, 4)); /* no byte is above 15: nothing crosses over */
    return _mm256_permute4x64_epi64(both, 0xd8);
}

#endif
