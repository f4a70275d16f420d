/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of floating-point weights, AVX-512 without extensions. */
#include "avx512.h"

enum { SUMS = 24, CHUNK = 256, f32_ELEMENT = 4, bf16_ELEMENT = 2, fp8_ELEMENT = 2 };

ALWAYS_INLINE void f32_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                            const int P)
{
    const float *x = (const float *)g->x + t * g->ldx;
    const float *w = (const float *)g->w + p * g->K * GLM4V_PANEL;
    const size_t panel = g->K * GLM4V_PANEL;
    __m512 sum[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < g->K; k++, w += GLM4V_PANEL) {
        __m512 weight[8];
        UNROLL for (int i = 0; i < P; i++)
        {
            weight[i] = _mm512_loadu_ps(w + i * panel);
            prefetch_panel(w + i * panel);
        }
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512 v = _mm512_set1_ps(x[r * g->ldx + k]);
            UNROLL for (int i = 0; i < P; i++) sum[r * P + i] =
                _mm512_fmadd_ps(v, weight[i], sum[r * P + i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, sum[r * P + i]);
}

/* buffer [R][CHUNK] = inputs [from, from + 2 pairs) of R rows as floats: widened once here, not at
 * every broadcast. */
ALWAYS_INLINE void widen_rows(float (*buffer)[CHUNK], const uint16_t *x, ptrdiff_t ldx,
                              int64_t pairs, const int R)
{
    for (int r = 0; r < R; r++) {
        for (int64_t k = 0; k < 2 * pairs; k += 16) {
            __m256i v = _mm256_maskz_loadu_epi16(tail_mask16(2 * pairs - k), x + r * ldx + k);
            _mm512_storeu_si512(buffer[r] + k, _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
        }
    }
}

ALWAYS_INLINE void bf16_chunk(__m512 *sum, float (*x)[CHUNK], const uint16_t *w, size_t panel,
                              int64_t pairs, const int R, const int P)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int64_t k = 0; k < pairs; k++, w += 2 * GLM4V_PANEL) {
        __m512 even[8], odd[8];
        UNROLL for (int i = 0; i < P; i++)
        {
            __m512i pair = _mm512_loadu_si512(w + i * panel);
            prefetch_panel(w + i * panel);
            even[i] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
            odd[i] = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
        }
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512 x0 = _mm512_set1_ps(x[r][2 * k]), x1 = _mm512_set1_ps(x[r][2 * k + 1]);
            UNROLL for (int i = 0; i < P; i++)
            {
                __m512 *s = sum + r * P + i;
                *s = _mm512_fmadd_ps(x0, even[i], _mm512_fmadd_ps(x1, odd[i], *s));
            }
        }
    }
}

ALWAYS_INLINE void bf16_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                             const int P)
{
    const int64_t pairs = (g->K + 1) / 2;
    const size_t panel = pairs * 2 * GLM4V_PANEL;
    const uint16_t *x = (const uint16_t *)g->x + t * g->ldx,
                   *w = (const uint16_t *)g->w + p * panel;
    float buffer[12][CHUNK];
    __m512 sum[SUMS];

    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; k += CHUNK / 2) {
        int64_t count = pairs - k < CHUNK / 2 ? pairs - k : CHUNK / 2;
        widen_rows(buffer, x + 2 * k, g->ldx, count, R);
        bf16_chunk(sum, buffer, w + k * 2 * GLM4V_PANEL, panel, count, R, P);
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, sum[r * P + i]);
}

/* As bf16_chunk, for `quads` times 4 inputs. */
ALWAYS_INLINE void fp8_chunk(__m512 *sum, float (*x)[CHUNK], const uint8_t *w, size_t panel,
                             int64_t quads, const int R, const int P)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int64_t k = 0; k < quads; k++, w += 64) {
        UNROLL for (int i = 0; i < P; i++)
        {
            __m512i pair[2];
            decode_fp8(pair, _mm512_loadu_si512(w + i * panel));
            prefetch_panel(w + i * panel);
            UNROLL for (int j = 0; j < 2; j++)
            {
                __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pair[j], 16));
                __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pair[j], high));
                UNROLL for (int r = 0; r < R; r++)
                {
                    const float *v = x[r] + 4 * k + 2 * j;
                    __m512 *s = sum + r * P + i;
                    *s = _mm512_fmadd_ps(_mm512_set1_ps(v[1]), odd, *s);
                    *s = _mm512_fmadd_ps(_mm512_set1_ps(v[0]), even, *s);
                }
            }
        }
    }
}

/* sum = that of inputs [from, to), from a multiple of 4. widen_rows writes zeros up to a multiple
 * of 16 inputs: what fills up a quad. */
ALWAYS_INLINE void fp8_sum(__m512 *sum, const uint16_t *x, ptrdiff_t ldx, const uint8_t *w,
                           size_t panel, int64_t from, int64_t to, const int R, const int P)
{
    float buffer[12][CHUNK];
    UNROLL for (int i = 0; i < R * P; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t k = from; k < to; k += CHUNK) {
        int64_t count = to - k < CHUNK ? to - k : CHUNK;
        widen_rows(buffer, x + k, ldx, (count + 1) / 2, R);
        fp8_chunk(sum, buffer, w + k * GLM4V_PANEL, panel, (count + 3) / 4, R, P);
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
        const int64_t from = n * span, to = g->K - from < span ? g->K : from + span;
        __m512 sum[SUMS];
        keep_in_memory(total);
        fp8_sum(sum, x, g->ldx, w, panel, from, to, R, P);
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

TILES(f32)
TILES(bf16)
TILES(fp8)

void glm4v_gemm_f32_avx512(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &f32_tiles);
}

void glm4v_gemm_bf16_avx512(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &bf16_tiles);
}

void glm4v_gemm_fp8_avx512(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &fp8_tiles);
}
