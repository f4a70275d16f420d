/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resize for AVX-512 VNNI. A weight q is cut into three signed digits to base 256, q = d0 + 256 d1
 * + 65536 d2, so that vpdpbusd does four taps of a digit at once; the three sums are put together
 * exactly, modulo 2^32. packed, 4 words for 4 taps: d0, d1, d2 of the four taps, one word
 * unused. */
#include "image.h"

#include <immintrin.h>
#include <string.h>

void glm4v_resize_pack_vnni(const glm4v_resize_axis *axis)
{
    int64_t n = axis->n_out * axis->taps;
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t digits[3] = { 0 };
        for (int tap = 0; tap < 4; tap++) {
            uint32_t q = (uint32_t)(axis->weight[i + tap] + 0x808080); /* every digit and 128 */
            for (int d = 0; d < 3; d++)
                digits[d] |= ((q >> (8 * d) & 255) ^ 128) << (8 * tap);
        }
        memcpy(axis->packed + i, digits, sizeof digits);
        axis->packed[i + 3] = 0;
    }
}

static inline __m512i word(const uint32_t *p)
{
    return _mm512_set1_epi32((int32_t)*p);
}

static inline __m512i combine(__m512i d0, __m512i d1, __m512i d2)
{
    __m512i sum =
        _mm512_add_epi32(d0, _mm512_add_epi32(_mm512_slli_epi32(d1, 8), _mm512_slli_epi32(d2, 16)));
    return _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(1 << 21)), GLM4V_RESIZE_BITS);
}

/* Outputs whose taps, read in whole loads of 16 bytes, lie inside the row whatever their count. */
static int64_t safe_outputs(const glm4v_resize_axis *axis)
{
    int64_t n = axis->n_out;
    while (n > 0 && 3 * (axis->first[n - 1] + axis->taps) + 4 > 3 * axis->n_in)
        n--;
    return n;
}

/* Four rows, one in each quarter of a register; 32-bit lanes r, g, b, 0. */
static void resize_four_rows(uint8_t *const dst[4], const uint8_t *const src[4],
                             const glm4v_resize_axis *axis, int64_t x0, int64_t x1)
{
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    for (int64_t x = x0; x < x1; x++) {
        const uint32_t *w = axis->packed + x * axis->taps;
        int64_t at = 3 * (int64_t)axis->first[x], end = at + 3 * (int64_t)axis->count[x];
        __m512i d0 = _mm512_setzero_si512(), d1 = d0, d2 = d0;
        for (; at < end; at += 12, w += 4) {
            __m512i p = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(src[0] + at)));
            p = _mm512_inserti32x4(p, _mm_loadu_si128((const __m128i *)(src[1] + at)), 1);
            p = _mm512_inserti32x4(p, _mm_loadu_si128((const __m128i *)(src[2] + at)), 2);
            p = _mm512_inserti32x4(p, _mm_loadu_si128((const __m128i *)(src[3] + at)), 3);
            p = _mm512_shuffle_epi8(p, by_channel);
            d0 = _mm512_dpbusd_epi32(d0, p, word(w));
            d1 = _mm512_dpbusd_epi32(d1, p, word(w + 1));
            d2 = _mm512_dpbusd_epi32(d2, p, word(w + 2));
        }
        __m512i sum = _mm512_max_epi32(combine(d0, d1, d2), _mm512_setzero_si512());
        __m128i bytes = _mm512_cvtusepi32_epi8(sum);
        uint32_t pixel[4];
        _mm_storeu_si128((__m128i *)pixel, bytes);
        /* the fourth byte is 0 and belongs to the next output, written later */
        for (int row = 0; row < 4; row++)
            memcpy(dst[row] + 3 * x, &pixel[row], 4);
    }
}

void glm4v_resize_rows_vnni(uint8_t *dst, int64_t dst_stride, const uint8_t *src,
                            int64_t src_stride, int64_t n_rows, const glm4v_resize_axis *axis,
                            int64_t x0)
{
    /* always below n_out: the last window ends where the row does */
    int64_t safe = safe_outputs(axis);
    for (int64_t row = 0; row < n_rows; row += 4) {
        uint8_t *d[4];
        const uint8_t *s[4];
        for (int i = 0; i < 4; i++) { /* rows beyond the last repeat it */
            int64_t at = row + i < n_rows ? row + i : n_rows - 1;
            d[i] = dst + at * dst_stride;
            s[i] = src + at * src_stride;
        }
        resize_four_rows(d, s, axis, x0, safe);
    }
    glm4v_resize_rows_c(dst, dst_stride, src, src_stride, n_rows, axis, x0 > safe ? x0 : safe);
}

/* 64 columns, four rows at a time; rows beyond the last have weight 0 and repeat it. Interleaving
 * within quarters leaves the columns in the order that the packs below undo. */
void glm4v_resize_columns_vnni(uint8_t *dst, const uint8_t *src, int64_t src_stride, int64_t n,
                               const glm4v_resize_axis *axis, int64_t y)
{
    const uint32_t *packed = axis->packed + y * axis->taps;
    int64_t count = axis->count[y];
    for (int64_t j = 0; j < n; j += 64) {
        __mmask64 mask = n - j >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - j)) - 1;
        __m512i sum[4][3];
        for (int k = 0; k < 12; k++)
            sum[k / 3][k % 3] = _mm512_setzero_si512();
        for (int64_t i = 0; i < count; i += 4) {
            __m512i row[4], quad[4];
            for (int k = 0; k < 4; k++) {
                int64_t at = i + k < count ? i + k : count - 1;
                row[k] = _mm512_maskz_loadu_epi8(mask, src + at * src_stride + j);
            }
            __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]),
                    high01 = _mm512_unpackhi_epi8(row[0], row[1]);
            __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]),
                    high23 = _mm512_unpackhi_epi8(row[2], row[3]);
            quad[0] = _mm512_unpacklo_epi16(low01, low23);
            quad[1] = _mm512_unpackhi_epi16(low01, low23);
            quad[2] = _mm512_unpacklo_epi16(high01, high23);
            quad[3] = _mm512_unpackhi_epi16(high01, high23);
            for (int k = 0; k < 12; k++)
                sum[k / 3][k % 3] =
                    _mm512_dpbusd_epi32(sum[k / 3][k % 3], quad[k / 3], word(packed + i + k % 3));
        }
        __m512i out[4];
        for (int k = 0; k < 4; k++)
            out[k] = combine(sum[k][0], sum[k][1], sum[k][2]);
        __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(out[0], out[1]),
                                            _mm512_packs_epi32(out[2], out[3]));
        _mm512_mask_storeu_epi8(dst + j, mask, bytes);
    }
}
