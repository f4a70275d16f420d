/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention, AVX-512; the passes, the orders of summation and the scratch are those of
 * attention_avx2.c, with panels of 32 keys and tiles of 8 rows. */
#include "attention.h"

#include <math.h>

#include "avx512.h"

enum { KEYS = 32, TILE_ROWS = 8 };

static int64_t most_keys(const int32_t *n_keys, int64_t rows)
{
    int64_t most = 0;
    for (int64_t r = 0; r < rows; r++)
        most = n_keys[r] > most ? n_keys[r] : most;
    return most;
}

/* panel [16][KEYS apart] = the transpose of 16 rows of 16: pairs, quads, then 128-bit lanes change
 * places. */
static inline void transpose16(float *panel, const __m512 v[16])
{
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* b[i + c]: column 4 l + c of rows i to i + 3 in lane l */
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) {
        __m512 low = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x88),
               high = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x88);
        __m512 low2 = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xdd),
               high2 = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xdd);
        _mm512_storeu_ps(panel + c * KEYS, _mm512_shuffle_f32x4(low, high, 0x88));
        _mm512_storeu_ps(panel + (c + 8) * KEYS, _mm512_shuffle_f32x4(low, high, 0xdd));
        _mm512_storeu_ps(panel + (c + 4) * KEYS, _mm512_shuffle_f32x4(low2, high2, 0x88));
        _mm512_storeu_ps(panel + (c + 12) * KEYS, _mm512_shuffle_f32x4(low2, high2, 0xdd));
    }
}

/* Elements i to i + 16 of keys or values where the mask is set, as f32; else zero. */
ALWAYS_INLINE __m512 load(__mmask16 mask, const void *x, ptrdiff_t i, const bool bf16)
{
    if (!bf16)
        return _mm512_maskz_loadu_ps(mask, (const float *)x + i);
    __m256i bits = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)x + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* panel [head_dim][32] = keys [32][head_dim] from element `at` transposed; keys beyond `count`
 * become zero. */
ALWAYS_INLINE void transpose_keys(float *panel, const void *k, ptrdiff_t at, ptrdiff_t ldk,
                                  int64_t count, int64_t head_dim, const bool bf16)
{
    for (int64_t half = 0; half < KEYS; half += 16) {
        for (int64_t d = 0; d < head_dim; d += 16) {
            __mmask16 mask = tail_mask16(head_dim - d);
            __m512 v[16];
            for (int i = 0; i < 16; i++)
                v[i] = half + i < count ? load(mask, k, at + (half + i) * ldk + d, bf16)
                                        : _mm512_setzero_ps();
            if (mask == 0xffff) {
                transpose16(panel + d * KEYS + half, v);
            } else {
                float block[16 * KEYS];
                transpose16(block, v);
                for (int64_t i = 0; i < head_dim - d; i++)
                    memcpy(panel + (d + i) * KEYS + half, block + i * KEYS, 16 * sizeof(float));
            }
        }
    }
}

ALWAYS_INLINE void score_tile(float *s, size_t lds, const float *const *q, const float *panel,
                              int64_t head_dim, float scale, const int R)
{
    __m512 sum[TILE_ROWS * 2], factor = _mm512_set1_ps(scale);
    UNROLL for (int i = 0; i < R * 2; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t d = 0; d < head_dim; d++) {
        __m512 low = _mm512_loadu_ps(panel + d * KEYS),
               high = _mm512_loadu_ps(panel + d * KEYS + 16);
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512 v = _mm512_set1_ps(q[r][d]);
            sum[2 * r] = _mm512_fmadd_ps(v, low, sum[2 * r]);
            sum[2 * r + 1] = _mm512_fmadd_ps(v, high, sum[2 * r + 1]);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        _mm512_storeu_ps(s + r * lds, _mm512_mul_ps(sum[2 * r], factor));
        _mm512_storeu_ps(s + r * lds + 16, _mm512_mul_ps(sum[2 * r + 1], factor));
    }
}

/* s [n] = exp(s - max) in place; their sum: value j in lane j % 16. NaN anywhere makes the sum
 * NaN. */
static float exponentials(float *s, int64_t n)
{
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < n; j += 16)
        max = _mm512_mask_max_ps(max, tail_mask16(n - j), _mm512_loadu_ps(s + j), max);
    max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
    for (int64_t j = 0; j < n; j += 16) {
        __mmask16 mask = tail_mask16(n - j);
        __m512 e = exp_ps16(_mm512_sub_ps(_mm512_loadu_ps(s + j), max));
        _mm512_mask_storeu_ps(s + j, mask, e);
        sum = _mm512_mask_add_ps(sum, mask, sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

/* o [R][columns d to d + 16 C, cut at head_dim] = or += sum over keys [from, to) of p v. */
ALWAYS_INLINE void value_tile(const glm4v_attention_args *a, float *const *o, const float *p,
                              size_t ldp, int64_t d, int64_t from, int64_t to, const int R,
                              const int C, const bool bf16)
{
    __mmask16 mask[8];
    __m512 sum[TILE_ROWS * 2];
    UNROLL for (int c = 0; c < C; c++) mask[c] = tail_mask16(a->head_dim - d - 16 * c);
    UNROLL for (int i = 0; i < R * C; i++) sum[i] =
        from ? _mm512_maskz_loadu_ps(mask[i % C], o[i / C] + d + i % C * 16) : _mm512_setzero_ps();
    ptrdiff_t v = from * a->ldv + d;
    for (int64_t j = from; j < to; j++, v += a->ldv) {
        __m512 x[8];
        UNROLL for (int c = 0; c < C; c++) x[c] = load(mask[c], a->v, v + 16 * c, bf16);
        UNROLL for (int r = 0; r < R; r++)
        {
            __m512 weight = _mm512_set1_ps(p[r * ldp + j]);
            UNROLL for (int c = 0; c < C; c++) sum[r * C + c] =
                _mm512_fmadd_ps(weight, x[c], sum[r * C + c]);
        }
    }
    UNROLL for (int i = 0; i < R * C; i++)
        _mm512_mask_storeu_ps(o[i / C] + d + i % C * 16, mask[i % C], sum[i]);
}

ALWAYS_INLINE void values(const glm4v_attention_args *a, float *const *o, const float *p,
                          size_t ldp, int64_t from, int64_t to, const int R, const int C,
                          const bool bf16)
{
    for (int64_t d = 0; d < a->head_dim; d += 16 * C)
        value_tile(a, o, p, ldp, d, from, to, R, C, bf16);
}

static void scale_row(float *o, float scale, int64_t n)
{
    for (int64_t d = 0; d < n; d += 16) {
        __mmask16 mask = tail_mask16(n - d);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, o + d), _mm512_set1_ps(scale));
        _mm512_mask_storeu_ps(o + d, mask, v);
    }
}

static int64_t tile_rows(int64_t left)
{
    int64_t rows = 8;
    while (rows > left)
        rows /= 2;
    return rows;
}

/* Softmax and values of a tile. Keys that all its rows see together, the others row by row. */
ALWAYS_INLINE void finish_rows(const glm4v_attention_args *a, float *s, size_t lds, int64_t first,
                               int64_t rows, const bool bf16)
{
    float *const *o = a->o + first;
    float sum[TILE_ROWS];
    int64_t common = a->n_keys[first];
    for (int64_t r = 0; r < rows; r++) {
        int64_t n = a->n_keys[first + r];
        sum[r] = exponentials(s + r * lds, n);
        common = n < common ? n : common;
    }
    if (rows == 8)
        values(a, o, s, lds, 0, common, 8, 2, bf16);
    else if (rows == 4)
        values(a, o, s, lds, 0, common, 4, 4, bf16);
    else if (rows == 2)
        values(a, o, s, lds, 0, common, 2, 4, bf16);
    else
        values(a, o, s, lds, 0, common, 1, 8, bf16);
    for (int64_t r = 0; r < rows; r++) {
        if (a->n_keys[first + r] > common)
            values(a, o + r, s + r * lds, lds, common, a->n_keys[first + r], 1, 8, bf16);
        scale_row(o[r], 1 / sum[r], a->head_dim);
    }
}

static void score_block(const glm4v_attention_args *a, float *s, size_t lds, const float *panel,
                        int64_t first_key)
{
    for (int64_t r = 0, rows; r < a->rows; r += rows) {
        float *to = s + r * lds + first_key;
        const float *const *q = a->q + r;
        rows = tile_rows(a->rows - r);
        if (most_keys(a->n_keys + r, rows) <= first_key)
            continue;
        if (rows == 8)
            score_tile(to, lds, q, panel, a->head_dim, a->scale, 8);
        else if (rows == 4)
            score_tile(to, lds, q, panel, a->head_dim, a->scale, 4);
        else if (rows == 2)
            score_tile(to, lds, q, panel, a->head_dim, a->scale, 2);
        else
            score_tile(to, lds, q, panel, a->head_dim, a->scale, 1);
    }
}

ALWAYS_INLINE void attend(const glm4v_attention_args *a, const bool bf16)
{
    int64_t keys = most_keys(a->n_keys, a->rows);
    size_t lds = (keys + 31) / 32 * 32;
    float *panel = a->scratch + a->rows * lds;

    for (int64_t j = 0; j < keys; j += KEYS) {
        int64_t count = keys - j < KEYS ? keys - j : KEYS;
        transpose_keys(panel, a->k, j * a->ldk, a->ldk, count, a->head_dim, bf16);
        score_block(a, a->scratch, lds, panel, j);
    }
    for (int64_t r = 0, rows; r < a->rows; r += rows) {
        rows = tile_rows(a->rows - r);
        finish_rows(a, a->scratch + r * lds, lds, r, rows, bf16);
    }
}

static void attend_bf16(const glm4v_attention_args *a)
{
    attend(a, true);
}

static void attend_f32(const glm4v_attention_args *a)
{
    attend(a, false);
}

void glm4v_attention_avx512(const glm4v_attention_args *a)
{
    (a->bf16 ? attend_bf16 : attend_f32)(a);
}
