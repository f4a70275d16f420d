/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the AVX-512 files share: tails, the exponential, the end of a product. */
#ifndef GLM4V_KERNELS_AVX512_H
#define GLM4V_KERNELS_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gemm_walk.h"

/* Lanes i < n set; n <= 0: none, n >= 16: all. */
static inline __mmask16 tail_mask16(ptrdiff_t n)
{
    if (n >= 16)
        return 0xffff;
    return (__mmask16)(n > 0 ? (1u << n) - 1 : 0);
}

/* As exp_ps() of avx2.h; vscalefps multiplies by 2^n in one step, into denormals and infinity. */
static inline __m512 exp_ps16(__m512 x)
{
    /* where one operand is NaN, the second is returned */
    x = _mm512_max_ps(_mm512_set1_ps(-105), x);
    x = _mm512_min_ps(_mm512_set1_ps(89), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 y = _mm512_set1_ps(0x1.6a23cep-10f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.123a2p-7f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.5558f2p-5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.555492p-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0x1.fffffcp-2f));
    y = _mm512_fmadd_ps(_mm512_mul_ps(y, r), r, r);
    return _mm512_scalef_ps(_mm512_add_ps(y, _mm512_set1_ps(1)), n);
}

/* Output of row t, panel p of a product: bias and old y are added here, in this order. */
ALWAYS_INLINE void store_panel(const glm4v_gemm_args *g, int64_t t, int64_t p, __m512 sum)
{
    int64_t first = p * GLM4V_PANEL;
    __mmask16 mask = tail_mask16(g->n_out - first);
    float *y = g->y + t * g->ldy + first;
    if (g->bias)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, g->bias + first));
    if (g->add)
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
    _mm512_mask_storeu_ps(y, mask, sum);
}

ALWAYS_INLINE __m512i broadcast4_16(const void *x)
{
    int32_t value;
    memcpy(&value, x, sizeof value);
    return _mm512_set1_epi32(value);
}

/* Two quads of inputs of 16 outputs, from 64 bytes of an int4 panel, a byte a code. */
struct nibbles {
    __m512i first, second;
};

ALWAYS_INLINE struct nibbles split_nibbles(const uint8_t *w)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i bytes = _mm512_loadu_si512(w);
    return (struct nibbles) { _mm512_and_si512(bytes, low),
                              _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low) };
}

/* Four inputs of 16 outputs, e4m3, as two pairs of bf16; see gemm_avx2.c. */
ALWAYS_INLINE void decode_fp8(__m512i pair[2], __m512i code)
{
    const __m512i upper = _mm512_broadcast_i32x4(
        _mm_setr_epi32(0x3f3e3d3c, 0x43424140, (int)0xbfbebdbc, (int)0xc3c2c1c0));
    const __m512i small_upper = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0x0707073c, 0));
    const __m512i small_lower =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, (int)0xf0a01000, 0x10207040));
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i small =
        _mm512_add_epi8(_mm512_and_si512(code, _mm512_set1_epi8(0x7f)), _mm512_set1_epi8(0x78));
    __m512i high = _mm512_shuffle_epi8(upper, _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble));
    __m512i low = _mm512_slli_epi16(_mm512_and_si512(code, nibble), 4);
    high = _mm512_xor_si512(high, _mm512_shuffle_epi8(small_upper, small));
    low = _mm512_xor_si512(low, _mm512_shuffle_epi8(small_lower, small));
    pair[0] = _mm512_unpacklo_epi8(low, high);
    pair[1] = _mm512_unpackhi_epi8(low, high);
}

/* Tile functions of one form, and their table. 24 vectors of sums at most: 12 rows of 2 panels;
 * with fewer rows more panels. */
#define TILE(form, R, P)                                                                           \
    static void form##_##R##x##P(const glm4v_gemm_args *g, int64_t t, int64_t p)                   \
    {                                                                                              \
        form##_tile(g, t, p, R, P);                                                                \
    }
/* clang-format off */
#define TILES(form)                                                                                \
    TILE(form, 1, 1) TILE(form, 1, 2) TILE(form, 1, 4) TILE(form, 1, 8)                            \
    TILE(form, 2, 1) TILE(form, 2, 2) TILE(form, 2, 4) TILE(form, 2, 8)                            \
    TILE(form, 3, 1) TILE(form, 3, 2) TILE(form, 3, 4)                                             \
    TILE(form, 4, 1) TILE(form, 4, 2) TILE(form, 4, 4)                                             \
    TILE(form, 6, 1) TILE(form, 6, 2) TILE(form, 8, 1) TILE(form, 8, 2)                            \
    TILE(form, 10, 1) TILE(form, 10, 2) TILE(form, 12, 1) TILE(form, 12, 2)                        \
    static const glm4v_tiles form##_tiles = {                                                      \
        .max_rows = 12,                                                                            \
        .max_panels = { 8, 8, 4, 2 },                                                              \
        .element = form##_ELEMENT,                                                                 \
        .tile = { [1] = { form##_1x1, form##_1x2, form##_1x4, form##_1x8 },                        \
                  [2] = { form##_2x1, form##_2x2, form##_2x4, form##_2x8 },                        \
                  [3] = { form##_3x1, form##_3x2, form##_3x4 },                                    \
                  [4] = { form##_4x1, form##_4x2, form##_4x4 },                                    \
                  [6] = { form##_6x1, form##_6x2 },                                                \
                  [8] = { form##_8x1, form##_8x2 },                                                \
                  [10] = { form##_10x1, form##_10x2 },                                             \
                  [12] = { form##_12x1, form##_12x2 } },                                           \
    };
/* clang-format on */

#endif
