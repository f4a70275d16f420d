/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows that are quantized already into panels, and rows of f32, AVX-512: blocks of 16 rows and 4
 * words of 32 bits are turned, each into four whole cache lines. Loads put rows into the lanes of
 * 128 bits where they end up and leave the other lanes alone, so that a turn is eight shuffles. */
#include "avx512.h"
#include "gemm.h"

enum { WORDS = 4 }; /* of a row at a time */

/* Words of rows 0, 4, 8, 12, each row in a lane. */
ALWAYS_INLINE __m512i every_fourth(const uint8_t *row, ptrdiff_t ld)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, _mm_loadu_si128((const __m128i *)(row + 4 * ld)));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, _mm_loadu_si128((const __m128i *)(row + 8 * ld)));
    return _mm512_mask_broadcast_i32x4(v, 0xf000,
                                       _mm_loadu_si128((const __m128i *)(row + 12 * ld)));
}

/* v[i]: words 0 to 3 of rows i, 4 + i, 8 + i, 12 + i; afterwards word i of all rows. */
ALWAYS_INLINE void turn(__m512i v[WORDS])
{
    const __m512i low01 = _mm512_unpacklo_epi32(v[0], v[1]);
    const __m512i high01 = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(v[2], v[3]);
    const __m512i high23 = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(low01, low23);
    v[1] = _mm512_unpackhi_epi64(low01, low23);
    v[2] = _mm512_unpacklo_epi64(high01, high23);
    v[3] = _mm512_unpackhi_epi64(high01, high23);
}

ALWAYS_INLINE void store(uint8_t *panel, const __m512i v[WORDS])
{
    UNROLL for (int i = 0; i < WORDS; i++) _mm512_storeu_si512(panel + 64 * i, v[i]);
}

void glm4v_pack_f32_avx512(float *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
{
    int64_t k = 0;
    for (; n == GLM4V_PANEL && k + WORDS <= K; k += WORDS) {
        __m512i v[WORDS];
        UNROLL for (int i = 0; i < WORDS; i++) v[i] =
            every_fourth((const uint8_t *)(w + i * ldw + k), ldw * 4);
        turn(v);
        store((uint8_t *)(panel + k * GLM4V_PANEL), v);
    }
    if (k < K)
        glm4v_pack_f32_c(panel + k * GLM4V_PANEL, w + k, ldw, n, K - k);
}

/* Words of eight nibbles, in order from the low bits up, as the panel's: nibbles i and 4 + i in
 * byte i. Bytes 1 and 2 change places, then the inner two nibbles of each half. */
ALWAYS_INLINE __m512i reorder_nibbles(__m512i words)
{
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    const __m512i x = _mm512_shuffle_epi8(words, bytes);
    /* (x ^ x >> 4) & mask */
    const __m512i differ =
        _mm512_ternarylogic_epi32(x, _mm512_srli_epi16(x, 4), _mm512_set1_epi16(0x00f0), 0x28);
    return _mm512_ternarylogic_epi32(x, differ, _mm512_slli_epi16(differ, 4), 0x96); /* ^ ^ */
}

void glm4v_pack_words_int4_avx512(uint8_t *panel, const uint32_t *words, ptrdiff_t ldw, int64_t n,
                                  int64_t K)
{
    if (n < GLM4V_PANEL) {
        glm4v_pack_words_int4_c(panel, words, ldw, n, K);
        return;
    }
    for (int64_t b = 0; b < K / 8; b += WORDS) {
        __m512i v[WORDS];
        UNROLL for (int i = 0; i < WORDS; i++)
        {
            const uint32_t *row = words + i * ldw + b;
            v[i] = reorder_nibbles(every_fourth((const uint8_t *)row, ldw * 4));
        }
        turn(v);
        store(panel + b * 64, v);
    }
}

void glm4v_pack_codes_int8_avx512(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n,
                                  int64_t K)
{
    const __m512i offset = _mm512_set1_epi8(-128);
    int64_t k = 0;
    for (; n == GLM4V_PANEL && k + 4 * WORDS <= K; k += 4 * WORDS) {
        __m512i v[WORDS];
        UNROLL for (int i = 0; i < WORDS; i++) v[i] =
            _mm512_xor_si512(offset, every_fourth(q + i * ldq + k, ldq));
        turn(v);
        store(panel + k * GLM4V_PANEL, v);
    }
    if (k < K)
        glm4v_pack_codes_int8_c(panel + k * GLM4V_PANEL, q + k, ldq, n, K - k);
}

void glm4v_pack_codes_fp8_avx512(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n,
                                 int64_t K)
{
    /* inputs in pairs: those of four outputs next to each other */
    const __m512i pairs =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    int64_t k = 0;
    for (; n == GLM4V_PANEL && k + 4 * WORDS <= K; k += 4 * WORDS) {
        __m512i v[WORDS];
        UNROLL for (int i = 0; i < WORDS; i++) v[i] = every_fourth(q + i * ldq + k, ldq);
        turn(v);
        UNROLL for (int i = 0; i < WORDS; i++) v[i] = _mm512_shuffle_epi8(v[i], pairs);
        store(panel + k * GLM4V_PANEL, v);
    }
    if (k < K)
        glm4v_pack_codes_fp8_c(panel + k * GLM4V_PANEL, q + k, ldq, n, K - k);
}
