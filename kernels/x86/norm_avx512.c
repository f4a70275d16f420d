/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Normalisation, AVX-512: 32 partial sums in two vectors, value i in sum i % 32; then one pass that
 * scales. */
#include "norm.h"

#include <math.h>

#include "avx512.h"

/* Sum over [0, n) of the values, or of the squares of their distance to `mean`. */
ALWAYS_INLINE float sum_of(const float *x, int64_t n, float mean, int square)
{
    __m512 sum[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() }, m = _mm512_set1_ps(mean);
    for (int64_t i = 0; i < n; i += 32) {
        for (int k = 0; k < 2; k++) {
            __mmask16 mask = tail_mask16(n - i - 16 * k);
            __m512 v = _mm512_maskz_loadu_ps(mask, x + i + 16 * k),
                   d = _mm512_maskz_sub_ps(mask, v, m);
            sum[k] = square ? _mm512_fmadd_ps(d, d, sum[k]) : _mm512_add_ps(sum[k], v);
        }
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

void glm4v_rms_norm_avx512(float *y, const float *x, const float *w, int64_t n, float eps, bool add)
{
    __m512 scale = _mm512_set1_ps(1 / sqrtf(sum_of(x, n, 0, 1) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask16(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), scale);
        __m512 weight = _mm512_maskz_loadu_ps(mask, w + i);
        v = add ? _mm512_fmadd_ps(v, weight, _mm512_maskz_loadu_ps(mask, y + i))
                : _mm512_mul_ps(v, weight);
        _mm512_mask_storeu_ps(y + i, mask, v);
    }
}

void glm4v_layer_norm_avx512(float *y, const float *x, const float *w, const float *bias, int64_t n,
                             float eps, bool add)
{
    float mean = sum_of(x, n, 0, 0) / (float)n;
    __m512 m = _mm512_set1_ps(mean);
    __m512 scale = _mm512_set1_ps(1 / sqrtf(sum_of(x, n, mean, 1) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask16(n - i);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), m), scale);
        v = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(mask, w + i),
                            _mm512_maskz_loadu_ps(mask, bias + i));
        v = add ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, y + i)) : v;
        _mm512_mask_storeu_ps(y + i, mask, v);
    }
}
