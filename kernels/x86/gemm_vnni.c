/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of int8 and int4 weights by vpdpbusd. The integer sums of a tile's group stay in
 * registers, starting from minus zero point times the sum of inputs; the fp32 sums of a tile of
 * many rows pass through the stack once a group. */
#include "avx512.h"

enum { SUMS = 24, int8_ELEMENT = 1, int4_ELEMENT = 1, int4_32_ELEMENT = 1 };

/* *sum += u8 w times s8 x, quad by quad. Not the intrinsic: gcc 12 gives its result another
 * register than its operand and then spills half of a large tile (int8, 256 x 1536 x 1024: 225
 * against 474 Gop/s). */
ALWAYS_INLINE void add_dot(__m512i *sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(x));
}

ALWAYS_INLINE void int8_group(__m512i *sum, const int8_t *x, ptrdiff_t ldx, const uint8_t *w,
                              size_t panel, int64_t quads, const int R, const int P)
{
    for (int64_t k = 0; k < quads; k++, w += 64, x += 4) {
        __m512i weight[8];
        UNROLL for (int i = 0; i < P; i++)
        {
            weight[i] = _mm512_loadu_si512(w + i * panel);
            prefetch_panel(w + i * panel);
        }
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512i v = broadcast4_16(x + r * ldx);
            UNROLL for (int i = 0; i < P; i++) add_dot(&sum[r * P + i], weight[i], v);
        }
    }
}

ALWAYS_INLINE void int8_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                             const int P)
{
    const int64_t groups = glm4v_group_count(g->K), quads = (g->K + 3) / 4;
    const size_t panel = glm4v_panel_bytes_int8(g->K);
    const int8_t *x = (const int8_t *)g->x + t * g->ldx;
    const uint8_t *w = (const uint8_t *)g->w + p * panel;
    __m512 total[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) total[i] = _mm512_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        __m512i sum[SUMS];
        int64_t count = quads - 32 * n < 32 ? quads - 32 * n : 32;
        UNROLL for (int i = 0; i < R * P; i++) sum[i] =
            _mm512_set1_epi32(-128 * g->x_sum[(t + i / P) * groups + n]);
        keep_in_memory(total);
        int8_group(sum, x + n * GLM4V_GROUP, g->ldx, w + n * 32 * 64, panel, count, R, P);
        UNROLL for (int i = 0; i < R * P; i++)
        {
            __m512 scale = _mm512_set1_ps(g->x_scale[(t + i / P) * groups + n]);
            total[i] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum[i]), total[i]);
        }
    }
    UNROLL for (int i = 0; i < R * P; i++)
    {
        __m512 scale = _mm512_loadu_ps(g->w_scale + (p + i % P) * GLM4V_PANEL);
        store_panel(g, t + i / P, p + i % P, _mm512_mul_ps(total[i], scale));
    }
}

/* Blocks of 8 inputs: the low nibbles of a block's 64 bytes are its first quad, the high ones
 * its second. What there is less of stays in registers: inputs of few rows, or weights of few
 * panels. */
ALWAYS_INLINE void int4_sums(__m512i *sum, const int8_t *x, ptrdiff_t ldx, const uint8_t *w,
                             size_t panel, const int group, const int R, const int P)
{
    for (int block = 0; block < group / 8; block++, w += 64, x += 8) {
        if (R < P) {
            __m512i v[4], u[4];
            UNROLL for (int r = 0; r < R; r++)
            {
                v[r] = broadcast4_16(x + r * ldx);
                u[r] = broadcast4_16(x + r * ldx + 4);
            }
            UNROLL for (int i = 0; i < P; i++)
            {
                struct nibbles weight = split_nibbles(w + i * panel);
                prefetch_panel(w + i * panel);
                UNROLL for (int r = 0; r < R; r++)
                {
                    __m512i *s = sum + r * P + i;
                    add_dot(s, weight.first, v[r]);
                    add_dot(s, weight.second, u[r]);
                }
            }
        } else {
            struct nibbles weight[4];
            UNROLL for (int i = 0; i < P; i++)
            {
                weight[i] = split_nibbles(w + i * panel);
                prefetch_panel(w + i * panel);
            }
            UNROLL for (int r = 0; r < R; r++)
            {
                __m512i v = broadcast4_16(x + r * ldx), u = broadcast4_16(x + r * ldx + 4);
                UNROLL for (int i = 0; i < P; i++)
                {
                    __m512i *s = sum + r * P + i;
                    add_dot(s, weight[i].first, v);
                    add_dot(s, weight[i].second, u);
                }
            }
        }
    }
}

/* Where the sum of panel p's outputs starts in group n of row t: minus zero point times sum of
 * inputs, both of 16 bits (127 * 128 < 2^15). */
ALWAYS_INLINE __m512i int4_start(const glm4v_gemm_args *g, size_t at, int32_t inputs)
{
    if (!g->w_zero)
        return _mm512_set1_epi32(-8 * inputs);
    __m512i zero = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(g->w_zero + at)));
    return _mm512_madd_epi16(zero, _mm512_set1_epi32(-inputs));
}

ALWAYS_INLINE void group_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int group,
                              const int R, const int P)
{
    const int64_t groups = g->K / group;
    const size_t panel = glm4v_panel_bytes_int4(g->K), scales = groups * GLM4V_PANEL;
    const int8_t *x = (const int8_t *)g->x + t * g->ldx;
    const uint8_t *w = (const uint8_t *)g->w + p * panel;
    __m512 total[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) total[i] = _mm512_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        __m512i sum[SUMS];
        UNROLL for (int i = 0; i < R * P; i++) sum[i] = int4_start(
            g, (p + i % P) * scales + n * GLM4V_PANEL, g->x_sum[(t + i / P) * groups + n]);
        keep_in_memory(total);
        int4_sums(sum, x + n * group, g->ldx, w + n * group * 8, panel, group, R, P);
        UNROLL for (int i = 0; i < R * P; i++)
        {
            __m512 scale = _mm512_set1_ps(g->x_scale[(t + i / P) * groups + n]);
            scale = _mm512_mul_ps(
                scale, _mm512_loadu_ps(g->w_scale + (p + i % P) * scales + n * GLM4V_PANEL));
            total[i] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum[i]), total[i]);
        }
    }
    UNROLL for (int i = 0; i < R * P; i++) store_panel(g, t + i / P, p + i % P, total[i]);
}

ALWAYS_INLINE void int4_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                             const int P)
{
    group_tile(g, t, p, GLM4V_GROUP, R, P);
}

ALWAYS_INLINE void int4_32_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                                const int P)
{
    group_tile(g, t, p, GLM4V_SMALL_GROUP, R, P);
}

TILES(int8)
TILES(int4)
TILES(int4_32)

void glm4v_gemm_int8_vnni(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int8_tiles);
}

void glm4v_gemm_int4_vnni(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int4_tiles);
}

void glm4v_gemm_int4_32_vnni(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int4_32_tiles);
}
