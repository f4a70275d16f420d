/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of bf16 and fp8 weights by vdpbf16ps, for CPUs that run it faster than two fused
 * multiply-adds. */
#include "avx512.h"

enum { SUMS = 24, bf16_ELEMENT = 2, fp8_ELEMENT = 2 };

ALWAYS_INLINE void bf16_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                             const int P)
{
    const int64_t pairs = (g->K + 1) / 2;
    const size_t panel = pairs * 2 * GLM4V_PANEL;
    const uint16_t *x = (const uint16_t *)g->x + t * g->ldx,
                   *w = (const uint16_t *)g->w + p * panel;
    __m512 sum[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; k++, w += 2 * GLM4V_PANEL) {
        __m512i weight[8];
        UNROLL for (int i = 0; i < P; i++)
        {
            weight[i] = _mm512_loadu_si512(w + i * panel);
            prefetch_panel(w + i * panel);
        }
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512bh v = (__m512bh)broadcast4_16(x + r * g->ldx + 2 * k);
            UNROLL for (int i = 0; i < P; i++) sum[r * P + i] =
                _mm512_dpbf16_ps(sum[r * P + i], v, (__m512bh)weight[i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, sum[r * P + i]);
}

/* Pair j of a quad of inputs, decoded, times R rows. */
ALWAYS_INLINE void fp8_pair(__m512 *sum, const uint16_t *x, ptrdiff_t ldx, __m512i weight,
                            const int R, const int P)
{
    UNROLL for (int r = 0; r < R; r++) sum[r * P] =
        _mm512_dpbf16_ps(sum[r * P], (__m512bh)broadcast4_16(x + r * ldx), (__m512bh)weight);
}

/* sum = that of `pairs` times 2 inputs. */
ALWAYS_INLINE void fp8_sum(__m512 *sum, const uint16_t *x, ptrdiff_t ldx, const uint8_t *w,
                           size_t panel, int64_t pairs, const int R, const int P)
{
    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (; pairs > 0; pairs -= 2, w += 64, x += 4) {
        UNROLL for (int i = 0; i < P; i++)
        {
            __m512i pair[2];
            decode_fp8(pair, _mm512_loadu_si512(w + i * panel));
            prefetch_panel(w + i * panel);
            fp8_pair(sum + i, x, ldx, pair[0], R, P);
            if (pairs > 1)
                fp8_pair(sum + i, x + 2, ldx, pair[1], R, P);
        }
    }
}

ALWAYS_INLINE void fp8_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                            const int P)
{
    const int64_t groups = g->w_blocks ? glm4v_group_count(g->K) : 1;
    const int64_t span = g->w_blocks ? GLM4V_GROUP : g->K;
    const size_t panel = glm4v_panel_bytes_fp8(g->K), scales = groups * GLM4V_PANEL;
    const uint16_t *x = (const uint16_t *)g->x + t * g->ldx;
    const uint8_t *w = (const uint8_t *)g->w + p * panel;
    __m512 total[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) total[i] = _mm512_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        const int64_t from = n * span, count = g->K - from < span ? g->K - from : span;
        __m512 sum[SUMS];
        keep_in_memory(total);
        fp8_sum(sum, x + from, g->ldx, w + from * GLM4V_PANEL, panel, (count + 1) / 2, R, P);
        UNROLL for (int i = 0; i < R * P; i++)
        {
            size_t at = (p + i % P) * scales + n * GLM4V_PANEL;
            total[i] = _mm512_fmadd_ps(_mm512_loadu_ps(g->w_scale + at), sum[i], total[i]);
        }
    }
    if (g->x_scale)
        UNROLL for (int i = 0; i < R * P; i++) total[i] =
            _mm512_mul_ps(total[i], _mm512_set1_ps(g->x_scale[t + i / P]));
    UNROLL for (int i = 0; i < R * P; i++) store_panel(g, t + i / P, p + i % P, total[i]);
}

TILES(bf16)
TILES(fp8)

void glm4v_gemm_bf16_avx512bf16(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &bf16_tiles);
}

void glm4v_gemm_fp8_avx512bf16(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &fp8_tiles);
}
