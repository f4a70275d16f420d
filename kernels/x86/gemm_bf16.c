/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix product of bf16 weights by vdpbf16ps, for CPUs that run it faster than two fused
 * multiply-adds. */
#include "avx512.h"

enum { SUMS = 24, bf16_ELEMENT = 2 };

ALWAYS_INLINE void bf16_tile(const glm4v_gemm_args *g, int32_t t, int32_t p, const int R,
                             const int P)
{
    const int32_t pairs = (g->K + 1) / 2;
    const size_t panel = (size_t)pairs * 2 * GLM4V_PANEL;
    const uint16_t *x = (const uint16_t *)g->x + t * g->ldx,
                   *w = (const uint16_t *)g->w + p * panel;
    __m512 sum[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (int32_t k = 0; k < pairs; k++, w += 2 * GLM4V_PANEL) {
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

TILES(bf16)

void glm4v_gemm_bf16_avx512bf16(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &bf16_tiles);
}
