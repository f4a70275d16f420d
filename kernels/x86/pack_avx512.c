/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* int4 weights into panels, AVX-512: a group of 128 (or 32) inputs stays in eight (two) registers
 * while its eight scales are tried. The same sums in the same order as the C form, and so the same
 * choice. */
#include "avx2.h"
#include "avx512.h"
#include "quant_avx2.h"

enum { MAX_VECTORS = GLM4V_GROUP / 16 };

/* w / scale as whole floats in [-8, 7]. */
ALWAYS_INLINE __m512 round_to_int4(__m512 w, __m512 inverse)
{
    __m512 q = _mm512_roundscale_ps(_mm512_mul_ps(w, inverse), 8);
    return _mm512_min_ps(_mm512_set1_ps(7), _mm512_max_ps(_mm512_set1_ps(-8), q));
}

/* ((0+4)+(2+6)) + ((1+5)+(3+7)), of lanes added eight apart. */
ALWAYS_INLINE float fold(__m512 v)
{
    return sum_lanes(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}

ALWAYS_INLINE float group_error(const __m512 *w, const int vectors, float scale, float inverse)
{
    const __m512 s = _mm512_set1_ps(scale), inv = _mm512_set1_ps(inverse);
    __m512 sum = _mm512_setzero_ps();
    UNROLL for (int i = 0; i < vectors; i++)
    {
        __m512 e = _mm512_sub_ps(w[i], _mm512_mul_ps(s, round_to_int4(w[i], inv)));
        sum = _mm512_add_ps(sum, _mm512_mul_ps(e, e));
    }
    return fold(sum);
}

ALWAYS_INLINE float best_scale(const __m512 *w, const int vectors, float max, float *inverse)
{
    static const float divisor[] = GLM4V_INT4_DIVISORS;
    float scale = 0, least = INFINITY;
    UNROLL for (size_t i = 0; i < sizeof divisor / sizeof *divisor; i++)
    {
        float s = max / divisor[i], inv = divisor[i] / max;
        float error = group_error(w, vectors, s, inv);
        if (i == 0 || error < least) {
            least = error;
            scale = s;
            *inverse = inv;
        }
    }
    return scale;
}

/* The group's codes 0 to 15, in order. */
ALWAYS_INLINE void codes(uint8_t *q, const __m512 *w, const int vectors, float inverse)
{
    const __m512 inv = _mm512_set1_ps(inverse);
    UNROLL for (int i = 0; i < vectors; i++)
    {
        __m512i v = _mm512_cvtps_epi32(round_to_int4(w[i], inv));
        v = _mm512_add_epi32(v, _mm512_set1_epi32(8));
        _mm_store_si128((__m128i *)(q + 16 * i), _mm512_cvtepi32_epi8(v));
    }
}

/* K inputs, a multiple of 32 and at most 128, in groups of `group`. */
ALWAYS_INLINE void pack_groups(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw,
                               int64_t n, int64_t K, const int group)
{
    _Alignas(64) uint8_t q[GLM4V_PANEL][GLM4V_GROUP];
    for (int64_t k = 0; k < K; k += group, scale += GLM4V_PANEL) {
        for (int i = 0; i < GLM4V_PANEL; i++) {
            float max = 0, inverse = 0;
            scale[i] = i < n ? row_scale(&max, w + i * ldw + k, group) : 0;
            if (max > 0) {
                __m512 v[MAX_VECTORS];
                UNROLL for (int j = 0; j < group / 16; j++) v[j] =
                    _mm512_loadu_ps(w + i * ldw + k + 16 * j);
                scale[i] = best_scale(v, group / 16, max, &inverse);
                codes(q[i] + k, v, group / 16, inverse);
            } else {
                memset(q[i] + k, 8, group);
            }
        }
    }
    glm4v_pack_codes_int4_avx2(panel, q[0], GLM4V_GROUP, GLM4V_PANEL, K);
}

void glm4v_pack_int4_avx512(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                            int64_t K)
{
    for (int64_t k = 0; k < K; k += GLM4V_GROUP)
        pack_groups(panel + k * 8, scale + k / GLM4V_GROUP * GLM4V_PANEL, w + k, ldw, n,
                    GLM4V_GROUP, GLM4V_GROUP);
}

void glm4v_pack_int4_32_avx512(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw,
                               int64_t n, int64_t K)
{
    for (int64_t k = 0; k < K; k += GLM4V_GROUP)
        pack_groups(panel + k * 8, scale + k / GLM4V_SMALL_GROUP * GLM4V_PANEL, w + k, ldw, n,
                    K - k < GLM4V_GROUP ? K - k : GLM4V_GROUP, GLM4V_SMALL_GROUP);
}
