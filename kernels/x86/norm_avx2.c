/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Normalisation, AVX2: 16 partial sums in two vectors, value i in sum i % 16; then one pass that
 * scales. */
#include "norm.h"

#include <math.h>

#include "avx2.h"

/* Sum of f(x) over [0, n), f = square of the distance to `mean`, or the value itself. */
static inline __attribute__((always_inline)) float sum_of(const float *x, int64_t n, float mean,
                                                          int square)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() }, m = _mm256_set1_ps(mean);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 2; k++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * k), d = _mm256_sub_ps(v, m);
            sum[k] = square ? _mm256_fmadd_ps(d, d, sum[k]) : _mm256_add_ps(sum[k], v);
        }
    }
    for (int k = 0; i < n; i += 8, k++) {
        __m256i mask = tail_mask(n - i);
        __m256 v = _mm256_maskload_ps(x + i, mask);
        __m256 d = _mm256_and_ps(_mm256_sub_ps(v, m), _mm256_castsi256_ps(mask));
        sum[k] = square ? _mm256_fmadd_ps(d, d, sum[k]) : _mm256_add_ps(sum[k], v);
    }
    return sum_lanes(_mm256_add_ps(sum[0], sum[1]));
}

void glm4v_rms_norm_avx2(float *y, const float *x, const float *w, int64_t n, float eps, bool add)
{
    __m256 scale = _mm256_set1_ps(1 / sqrtf(sum_of(x, n, 0, 1) / (float)n + eps));
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale), weight = _mm256_loadu_ps(w + i);
        v = add ? _mm256_fmadd_ps(v, weight, _mm256_loadu_ps(y + i)) : _mm256_mul_ps(v, weight);
        _mm256_storeu_ps(y + i, v);
    }
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), scale),
               weight = _mm256_maskload_ps(w + i, mask);
        v = add ? _mm256_fmadd_ps(v, weight, _mm256_maskload_ps(y + i, mask))
                : _mm256_mul_ps(v, weight);
        _mm256_maskstore_ps(y + i, mask, v);
    }
}

void glm4v_layer_norm_avx2(float *y, const float *x, const float *w, const float *bias, int64_t n,
                           float eps, bool add)
{
    float mean = sum_of(x, n, 0, 0) / (float)n;
    __m256 m = _mm256_set1_ps(mean);
    __m256 scale = _mm256_set1_ps(1 / sqrtf(sum_of(x, n, mean, 1) / (float)n + eps));
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), m), scale);
        v = _mm256_fmadd_ps(v, _mm256_loadu_ps(w + i), _mm256_loadu_ps(bias + i));
        _mm256_storeu_ps(y + i, add ? _mm256_add_ps(v, _mm256_loadu_ps(y + i)) : v);
    }
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), m), scale);
        v = _mm256_fmadd_ps(v, _mm256_maskload_ps(w + i, mask), _mm256_maskload_ps(bias + i, mask));
        v = add ? _mm256_add_ps(v, _mm256_maskload_ps(y + i, mask)) : v;
        _mm256_maskstore_ps(y + i, mask, v);
    }
}
