/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Number forms, AVX2 and F16C. The same bits as the C forms; values left over after whole vectors
 * go through those. */
#include "convert.h"

#include "quant_avx2.h"

void glm4v_f32_to_bf16_avx2(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i low = bf16_bits(_mm256_loadu_ps(x + i)),
                high = bf16_bits(_mm256_loadu_ps(x + i + 8));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
        _mm256_storeu_si256((__m256i *)(y + i), both);
    }
    glm4v_f32_to_bf16_c(y + i, x + i, n - i);
}

void glm4v_f32_to_f16_avx2(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    glm4v_f32_to_f16_c(y + i, x + i, n - i);
}

void glm4v_bf16_to_f32_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x + i)));
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_slli_epi32(wide, 16));
    }
    glm4v_bf16_to_f32_c(y + i, x + i, n - i);
}

void glm4v_f16_to_f32_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    glm4v_f16_to_f32_c(y + i, x + i, n - i);
}

void glm4v_f32_to_int8_avx2(int8_t *q, float *scale, const float *x, size_t n)
{
    float max;
    size_t i = 0;
    *scale = row_scale(&max, x, n);
    __m256 inverse = _mm256_set1_ps(max > 0 ? 127 / max : 0);
    for (; max > 0 && i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(q + i), round_to_int8(x + i, inverse));
    for (; i < n; i++)
        q[i] = (int8_t)glm4v_round_int8(x[i], max);
}

void glm4v_f32_to_fp8_avx2(uint8_t *q, float *scale, const float *x, size_t n)
{
    float max;
    size_t i = 0;
    *scale = row_scale(&max, x, n);
    if (max > 0)
        *scale = max / 448;
    __m256 inverse = _mm256_set1_ps(max > 0 ? 448 / max : 0);
    for (; max > 0 && i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(q + i), round_to_e4m3(x + i, inverse));
    for (; i < n; i++)
        q[i] = max > 0 ? glm4v_f32_to_e4m3(x[i] * (448 / max)) : 0;
}

void glm4v_int8_to_f32_avx2(float *y, const int8_t *q, float scale, size_t n)
{
    __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(s, _mm256_cvtepi32_ps(wide)));
    }
    for (; i < n; i++)
        y[i] = scale * q[i];
}
