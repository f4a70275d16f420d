/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights that are quantized already into panels, AVX2: 8 x 8 blocks of 32 bits transposed, as in
 * pack_avx2.c. Panels that are not full, and inputs left over, go through the C forms. */
#include "avx2.h"
#include "gemm.h"

static inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

void glm4v_pack_codes_int8_avx2(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n,
                                int64_t K)
{
    const __m256i offset = _mm256_set1_epi8(-128);
    int64_t k = 0;
    for (; n == GLM4V_PANEL && k + 32 <= K; k += 32) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++)
                v[i] = _mm256_xor_si256(offset, load(q + (half + i) * ldq + k));
            transpose_store(panel + k * GLM4V_PANEL + half * 4, v);
        }
    }
    if (k < K)
        glm4v_pack_codes_int8_c(panel + k * GLM4V_PANEL, q + k, ldq, n, K - k);
}

void glm4v_pack_codes_fp8_avx2(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n,
                               int64_t K)
{
    int64_t k = 0;
    for (; n == GLM4V_PANEL && k + 32 <= K; k += 32) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++)
                v[i] = load(q + (half + i) * ldq + k);
            transpose_store_fp8(panel + k * GLM4V_PANEL + half * 4, v);
        }
    }
    if (k < K)
        glm4v_pack_codes_fp8_c(panel + k * GLM4V_PANEL, q + k, ldq, n, K - k);
}

/* 64 codes in order, 0 to 15, as 32 bytes of the panel. */
static inline __m256i join(const uint8_t *q)
{
    const __m256i low = _mm256_set1_epi8(15);
    return join_nibbles(_mm256_and_si256(load(q), low), _mm256_and_si256(load(q + 32), low));
}

void glm4v_pack_codes_int4_avx2(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n,
                                int64_t K)
{
    if (n < GLM4V_PANEL) {
        glm4v_pack_codes_int4_c(panel, q, ldq, n, K);
        return;
    }
    int64_t k = 0;
    for (; k + 64 <= K; k += 64) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++)
                v[i] = join(q + (half + i) * ldq + k);
            transpose_store(panel + k * 8 + half * 4, v);
        }
    }
    if (k < K)
        glm4v_pack_codes_int4_c(panel + k * 8, q + k, ldq, n, K - k);
}

/* Words of eight nibbles, in order from the low bits up, as the panel's: nibble i to the low half
 * of byte i, nibble 4 + i to its high half. The two halves of a word are spread over its bytes and
 * laid over each other. */
static inline __m256i reorder_nibbles(__m256i words)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13, 0,
                                            0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13);
    const __m256i two = _mm256_set1_epi8(2);
    const __m256i even = _mm256_set1_epi16(0x000f), odd = _mm256_set1_epi16((short)0xf000);
    __m256i low = _mm256_shuffle_epi8(words, spread);
    __m256i high = _mm256_shuffle_epi8(words, _mm256_add_epi8(spread, two));
    /* bytes 0, 2 of a word get the low nibble of their byte, bytes 1, 3 the high one */
    low = _mm256_or_si256(_mm256_and_si256(low, even),
                          _mm256_srli_epi16(_mm256_and_si256(low, odd), 4));
    high = _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(high, even), 4),
                           _mm256_and_si256(high, odd));
    return _mm256_or_si256(low, high);
}

void glm4v_pack_words_int4_avx2(uint8_t *panel, const uint32_t *words, ptrdiff_t ldw, int64_t n,
                                int64_t K)
{
    if (n < GLM4V_PANEL) {
        glm4v_pack_words_int4_c(panel, words, ldw, n, K);
        return;
    }
    int64_t k = 0;
    for (; k + 64 <= K; k += 64) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++)
                v[i] = reorder_nibbles(load(words + (half + i) * ldw + k / 8));
            transpose_store(panel + k * 8 + half * 4, v);
        }
    }
    if (k < K)
        glm4v_pack_words_int4_c(panel + k * 8, words + k / 8, ldw, n, K - k);
}
