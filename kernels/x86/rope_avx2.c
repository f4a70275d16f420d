/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rotary embedding, AVX2. Pairs left over after whole vectors are rotated one by one. */
#include "rope.h"

#include <math.h>

#include "avx2.h"

static inline void rotate_pair(float *a, float *b, float c, float s)
{
    float x = *a, y = *b;
    *a = fmaf(x, c, -(y * s));
    *b = fmaf(y, c, x * s);
}

/* Four pairs: (a, b) c + (-b, a) s. */
static inline __m256 rotate_neighbours(__m256 x, __m256 c, __m256 s)
{
    return _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), s));
}

/* v [4] twice each: lanes 0 0 1 1 2 2 3 3. */
static inline __m256 double_up(const float *v)
{
    __m128 x = _mm_loadu_ps(v);
    return _mm256_set_m128(_mm_unpackhi_ps(x, x), _mm_unpacklo_ps(x, x));
}

void glm4v_rope_interleaved_avx2(float *x, const float *cos, const float *sin, int64_t heads,
                                 int64_t head_dim, int64_t n_freq)
{
    int64_t i = 0;
    for (; i + 4 <= n_freq; i += 4) {
        __m256 c = double_up(cos + i), s = double_up(sin + i);
        for (int64_t h = 0; h < heads; h++) {
            float *pair = x + h * head_dim + 2 * i;
            _mm256_storeu_ps(pair, rotate_neighbours(_mm256_loadu_ps(pair), c, s));
        }
    }
    for (; i < n_freq; i++)
        for (int64_t h = 0; h < heads; h++) {
            float *pair = x + h * head_dim + 2 * i;
            rotate_pair(pair, pair + 1, cos[i], sin[i]);
        }
}

void glm4v_rope_half_avx2(float *x, const float *cos, const float *sin, int64_t heads,
                          int64_t head_dim, int64_t n_freq)
{
    int64_t i = 0;
    for (; i + 8 <= n_freq; i += 8) {
        __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
        for (int64_t h = 0; h < heads; h++) {
            float *low = x + h * head_dim + i, *high = low + n_freq;
            __m256 a = _mm256_loadu_ps(low), b = _mm256_loadu_ps(high);
            _mm256_storeu_ps(low, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            _mm256_storeu_ps(high, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
        }
    }
    for (; i < n_freq; i++)
        for (int64_t h = 0; h < heads; h++) {
            float *low = x + h * head_dim + i;
            rotate_pair(low, low + n_freq, cos[i], sin[i]);
        }
}
