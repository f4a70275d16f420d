/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Element-wise operations, AVX2. */
#include "act.h"

#include "avx2.h"

/* 1 / (1 + exp(-x)) from e = exp(-|x|), which never overflows. */
static inline __m256 sigmoid(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    __m256 e = exp_ps(_mm256_or_ps(x, sign));
    __m256 top = _mm256_blendv_ps(one, e, x); /* by the sign bit of x */
    return _mm256_div_ps(top, _mm256_add_ps(one, e));
}

static inline __m256 silu_mul(__m256 gate, __m256 up)
{
    return _mm256_mul_ps(_mm256_mul_ps(gate, sigmoid(gate)), up);
}

/* Gaussian distribution function. With a = |x|, q = exp(-a^2/2) E(a), E(a) = exp(a^2/2) erfc(a /
 * sqrt 2) / 2, is the smaller tail; it is the answer for negative x, 1 - q for positive x, so
 * nothing cancels. E(a) = t P(2t
 * - 1), t = 1 / (1 + 0.35 a), P of degree 8 by Lawson's iteration on [0, 14.6], relative error
 *   4e-8. a^2/2 is
 * kept in two parts: its rounding would be up to 1e-5 of the exponential. */
static inline __m256 normal_cdf(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    __m256 a = _mm256_min_ps(_mm256_set1_ps(15), _mm256_andnot_ps(sign, x)),
           h = _mm256_mul_ps(a, _mm256_set1_ps(0.5f));
    __m256 square = _mm256_mul_ps(a, h), rest = _mm256_fmsub_ps(a, h, square);
    __m256 e = exp_ps(_mm256_xor_ps(square, sign));
    e = _mm256_fnmadd_ps(e, rest, e);
    __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(a, _mm256_set1_ps(0.35f), one));
    __m256 u = _mm256_fmsub_ps(t, _mm256_set1_ps(2), one);
    __m256 p = _mm256_set1_ps(-0x1.ddbf98p-14f);
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.c0ef9ep-13f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.69ca5p-11f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(-0x1.cbe6fp-10f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(-0x1.4ece68p-8f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.4f57d8p-7f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.2338a6p-4f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.5f3932p-3f));
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(0x1.035278p-2f));
    __m256 q = _mm256_mul_ps(_mm256_mul_ps(p, t), e);
    return _mm256_blendv_ps(_mm256_sub_ps(one, q), q, x);
}

static inline __m256 gelu(__m256 x)
{
    return _mm256_mul_ps(x, normal_cdf(x));
}

void glm4v_silu_mul_avx2(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, silu_mul(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 v = silu_mul(_mm256_maskload_ps(gate + i, mask), _mm256_maskload_ps(up + i, mask));
        _mm256_maskstore_ps(y + i, mask, v);
    }
}

void glm4v_gelu_avx2(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, gelu(_mm256_loadu_ps(x + i)));
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        _mm256_maskstore_ps(y + i, mask, gelu(_mm256_maskload_ps(x + i, mask)));
    }
}

void glm4v_add_avx2(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    for (; i < n; i++)
        y[i] += x[i];
}

void glm4v_scale_avx2(float *y, float factor, size_t n)
{
    const __m256 f = _mm256_set1_ps(factor);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(y + i), f));
    for (; i < n; i++)
        y[i] *= factor;
}
