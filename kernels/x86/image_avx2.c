/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resize for AVX2. A 22-bit weight q is cut into q = 4096 high + low, so that vpmaddwd does two
 * taps of each half at once: sum = 4096 sum(high * p) + sum(low * p), exact modulo 2^32 as the
 * reference's sum is. packed, 4 words for 4 taps: high 0 1, high 2 3, low 0 1, low 2 3, each a pair
 * of 16-bit numbers. Patches stay in C: a table of 256 floats per channel is as fast by scalar
 * loads as by gathers. */
#include "image.h"

#include <immintrin.h>
#include <string.h>

static uint32_t pair(int32_t a, int32_t b)
{
    return (uint32_t)(a & 0xffff) | (uint32_t)b << 16;
}

void glm4v_resize_pack_avx2(const glm4v_resize_axis *axis)
{
    int64_t n = axis->n_out * axis->taps;
    for (int64_t i = 0; i < n; i += 4) {
        const int32_t *w = axis->weight + i;
        uint32_t *out = axis->packed + i;
        out[0] = pair(w[0] >> 12, w[1] >> 12);
        out[1] = pair(w[2] >> 12, w[3] >> 12);
        out[2] = pair(w[0] & 4095, w[1] & 4095);
        out[3] = pair(w[2] & 4095, w[3] & 4095);
    }
}

static inline __m256i word(const uint32_t *p)
{
    return _mm256_set1_epi32((int32_t)*p);
}

/* High and low sums to pixels in 32-bit lanes; clamping is left to the saturating packs. */
static inline __m256i combine(__m256i high, __m256i low)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, 12), low);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << 21)), GLM4V_RESIZE_BITS);
}

/* Outputs whose taps, read in whole loads of 16 bytes, lie inside the row whatever their count. */
static int64_t safe_outputs(const glm4v_resize_axis *axis)
{
    int64_t n = axis->n_out;
    while (n > 0 && 3 * (axis->first[n - 1] + axis->taps) + 4 > 3 * axis->n_in)
        n--;
    return n;
}

/* Two rows, one in each half of a register; 32-bit lanes r, g, b, 0. */
static void resize_two_rows(uint8_t *dst0, uint8_t *dst1, const uint8_t *src0, const uint8_t *src1,
                            const glm4v_resize_axis *axis, int64_t x0, int64_t x1)
{
    const __m256i taps01 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i taps23 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    for (int64_t x = x0; x < x1; x++) {
        const uint32_t *w = axis->packed + x * axis->taps;
        int64_t at = 3 * (int64_t)axis->first[x], end = at + 3 * (int64_t)axis->count[x];
        __m256i high = _mm256_setzero_si256(), low = high;
        for (; at < end; at += 12, w += 4) {
            __m256i p = _mm256_inserti128_si256(
                _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(src0 + at))),
                _mm_loadu_si128((const __m128i *)(src1 + at)), 1);
            __m256i a = _mm256_shuffle_epi8(p, taps01), b = _mm256_shuffle_epi8(p, taps23);
            high = _mm256_add_epi32(high, _mm256_madd_epi16(a, word(w)));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(a, word(w + 2)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(b, word(w + 1)));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(b, word(w + 3)));
        }
        __m256i sum = _mm256_packs_epi32(combine(high, low), _mm256_setzero_si256());
        sum = _mm256_packus_epi16(sum, sum);
        uint32_t p0 = (uint32_t)_mm256_extract_epi32(sum, 0),
                 p1 = (uint32_t)_mm256_extract_epi32(sum, 4);
        /* the fourth byte is 0 and belongs to the next output, written later */
        memcpy(dst0 + 3 * x, &p0, 4);
        memcpy(dst1 + 3 * x, &p1, 4);
    }
}

void glm4v_resize_rows_avx2(uint8_t *dst, int64_t dst_stride, const uint8_t *src,
                            int64_t src_stride, int64_t n_rows, const glm4v_resize_axis *axis,
                            int64_t x0)
{
    /* always below n_out: the last window ends where the row does */
    int64_t safe = safe_outputs(axis);
    for (int64_t row = 0; row < n_rows; row += 2) {
        int64_t second = row + 1 < n_rows ? 1 : 0; /* an odd last row is done twice */
        uint8_t *d = dst + row * dst_stride;
        const uint8_t *s = src + row * src_stride;
        resize_two_rows(d, d + second * dst_stride, s, s + second * src_stride, axis, x0, safe);
    }
    glm4v_resize_rows_c(dst, dst_stride, src, src_stride, n_rows, axis, x0 > safe ? x0 : safe);
}

/* 16 columns; taps in pairs of rows, an odd last one with a weight of 0 for its partner. */
void glm4v_resize_columns_avx2(uint8_t *dst, const uint8_t *src, int64_t src_stride, int64_t n,
                               const glm4v_resize_axis *axis, int64_t y)
{
    const uint32_t *packed = axis->packed + y * axis->taps;
    int64_t count = axis->count[y], j = 0;
    for (; j + 16 <= n; j += 16) {
        __m256i high0 = _mm256_setzero_si256(), high1 = high0, low0 = high0, low1 = high0;
        for (int64_t i = 0; i < count; i += 2) {
            const uint32_t *w = packed + (i & ~3) + (i >> 1 & 1);
            const uint8_t *p = src + i * src_stride + j;
            __m128i a = _mm_loadu_si128((const __m128i *)p);
            __m128i b = _mm_loadu_si128((const __m128i *)(i + 1 < count ? p + src_stride : p));
            __m256i left = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            __m256i right = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            high0 = _mm256_add_epi32(high0, _mm256_madd_epi16(left, word(w)));
            high1 = _mm256_add_epi32(high1, _mm256_madd_epi16(right, word(w)));
            low0 = _mm256_add_epi32(low0, _mm256_madd_epi16(left, word(w + 2)));
            low1 = _mm256_add_epi32(low1, _mm256_madd_epi16(right, word(w + 2)));
        }
        /* columns 0-3 8-11 | 4-7 12-15 */
        __m256i sum = _mm256_packs_epi32(combine(high0, low0), combine(high1, low1));
        sum = _mm256_permute4x64_epi64(sum, _MM_SHUFFLE(3, 1, 2, 0));
        __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        _mm_storeu_si128((__m128i *)(dst + j), bytes);
    }
    if (j < n)
        glm4v_resize_columns_c(dst + j, src + j, src_stride, n - j, axis, y);
}
