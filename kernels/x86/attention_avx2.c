/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention, AVX2. Two passes over a call's rows:
 *   scores  16 keys at a time are turned into a panel [head_dim][16] in scratch, once for all rows;
 *           then tiles of rows multiply it as a product does, one chain per score in order of d
 *   values  tiles of 4 rows: the softmax of each, then sums over keys, one chain per output in
 *           order of j; keys that only some rows of the tile see are added row by row, going on
 *           from the stored sums
 * Scratch: [rows][keys rounded up to 32] scores, then the panel. */
#include "attention.h"

#include <math.h>

#include "avx2.h"
#include "gemm_walk.h"

enum { KEYS = 16, TILE_ROWS = 4 };

static int64_t most_keys(const int32_t *n_keys, int64_t rows)
{
    int64_t most = 0;
    for (int64_t r = 0; r < rows; r++)
        most = n_keys[r] > most ? n_keys[r] : most;
    return most;
}

/* Elements i to i + 8 of keys or values, as f32. */
ALWAYS_INLINE __m256 load(const void *x, ptrdiff_t i, const bool bf16)
{
    if (!bf16)
        return _mm256_loadu_ps((const float *)x + i);
    __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)x + i));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/* The first n of them, n < 8; the others become zero and are not read. */
ALWAYS_INLINE __m256 load_tail(const void *x, ptrdiff_t i, int64_t n, const bool bf16)
{
    float lanes[8] = { 0 };
    if (!bf16)
        return _mm256_maskload_ps((const float *)x + i, tail_mask(n));
    for (int64_t k = 0; k < n; k++)
        lanes[k] = glm4v_attention_element(x, i + k, true);
    return _mm256_loadu_ps(lanes);
}

/* panel [head_dim][16] = keys [16][head_dim] from element `at` transposed; keys beyond `count`
 * become zero. */
ALWAYS_INLINE void transpose_keys(float *panel, const void *k, ptrdiff_t at, ptrdiff_t ldk,
                                  int64_t count, int64_t head_dim, const bool bf16)
{
    int64_t whole = count == KEYS ? head_dim / 8 * 8 : 0;
    for (int64_t d = 0; d < whole; d += 8) {
        for (int64_t half = 0; half < KEYS; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++)
                v[i] = _mm256_castps_si256(load(k, at + (half + i) * ldk + d, bf16));
            transpose_store((uint8_t *)(panel + d * KEYS + half), v);
        }
    }
    for (int64_t j = 0; j < KEYS; j++)
        for (int64_t d = whole; d < head_dim; d++)
            panel[d * KEYS + j] =
                j < count ? glm4v_attention_element(k, at + j * ldk + d, bf16) : 0;
}

ALWAYS_INLINE void score_tile(float *s, size_t lds, const float *const *q, const float *panel,
                              int64_t head_dim, float scale, const int R)
{
    __m256 sum[TILE_ROWS * 2], factor = _mm256_set1_ps(scale);
    UNROLL for (int i = 0; i < R * 2; i++) sum[i] = _mm256_setzero_ps();
    for (int64_t d = 0; d < head_dim; d++) {
        __m256 low = _mm256_loadu_ps(panel + d * KEYS),
               high = _mm256_loadu_ps(panel + d * KEYS + 8);
        UNROLL for (int r = 0; r < R; r++)
        {
            __m256 v = _mm256_broadcast_ss(q[r] + d);
            sum[2 * r] = _mm256_fmadd_ps(v, low, sum[2 * r]);
            sum[2 * r + 1] = _mm256_fmadd_ps(v, high, sum[2 * r + 1]);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        _mm256_storeu_ps(s + r * lds, _mm256_mul_ps(sum[2 * r], factor));
        _mm256_storeu_ps(s + r * lds + 8, _mm256_mul_ps(sum[2 * r + 1], factor));
    }
}

/* s [n] = exp(s - max) in place; their sum: value j in lane j % 8. NaN anywhere makes the sum
 * NaN. */
static float exponentials(float *s, int64_t n)
{
    __m256 max = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
    for (int64_t j = n; j % 8; j++)
        s[j] = -INFINITY; /* up to the next vector: no influence, exp gives 0 */
    for (int64_t j = 0; j < n; j += 8)
        max = _mm256_max_ps(_mm256_loadu_ps(s + j), max);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    max = _mm256_broadcastss_ps(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
    for (int64_t j = 0; j < n; j += 8) {
        __m256 e = exp_ps(_mm256_sub_ps(_mm256_loadu_ps(s + j), max));
        _mm256_storeu_ps(s + j, e);
        sum = _mm256_add_ps(sum, e);
    }
    return sum_lanes(sum);
}

/* o [R][columns d to d + 8 C] = or += sum over keys [from, to) of p v. */
ALWAYS_INLINE void value_tile(const glm4v_attention_args *a, float *const *o, const float *p,
                              size_t ldp, int64_t d, int64_t from, int64_t to, const int R,
                              const int C, const bool bf16)
{
    __m256 sum[8];
    UNROLL for (int i = 0; i < R * C; i++) sum[i] =
        from ? _mm256_loadu_ps(o[i / C] + d + i % C * 8) : _mm256_setzero_ps();
    ptrdiff_t v = from * a->ldv + d;
    for (int64_t j = from; j < to; j++, v += a->ldv) {
        UNROLL for (int r = 0; r < R; r++)
        {
            __m256 weight = _mm256_broadcast_ss(p + r * ldp + j);
            UNROLL for (int c = 0; c < C; c++) sum[r * C + c] =
                _mm256_fmadd_ps(weight, load(a->v, v + 8 * c, bf16), sum[r * C + c]);
        }
    }
    UNROLL for (int i = 0; i < R * C; i++) _mm256_storeu_ps(o[i / C] + d + i % C * 8, sum[i]);
}

/* The same for the last columns, one row, fewer than 8 of them. */
ALWAYS_INLINE void value_tail(const glm4v_attention_args *a, float *o, const float *p, int64_t d,
                              int64_t from, int64_t to, const bool bf16)
{
    const int64_t n = a->head_dim - d;
    __m256i mask = tail_mask(n);
    __m256 sum = from ? _mm256_maskload_ps(o + d, mask) : _mm256_setzero_ps();
    for (int64_t j = from; j < to; j++)
        sum = _mm256_fmadd_ps(_mm256_broadcast_ss(p + j), load_tail(a->v, j * a->ldv + d, n, bf16),
                              sum);
    _mm256_maskstore_ps(o + d, mask, sum);
}

/* All columns of R rows, keys [from, to): C vectors at a time, then one, then what is left. */
ALWAYS_INLINE void values(const glm4v_attention_args *a, float *const *o, const float *p,
                          size_t ldp, int64_t from, int64_t to, const int R, const int C,
                          const bool bf16)
{
    int64_t d = 0;
    for (; d + 8 * C <= a->head_dim; d += 8 * C)
        value_tile(a, o, p, ldp, d, from, to, R, C, bf16);
    for (; d + 8 <= a->head_dim; d += 8)
        value_tile(a, o, p, ldp, d, from, to, R, 1, bf16);
    for (int r = 0; d < a->head_dim && r < R; r++)
        value_tail(a, o[r], p + r * ldp, d, from, to, bf16);
}

static void scale_row(float *o, float scale, int64_t n)
{
    __m256 factor = _mm256_set1_ps(scale);
    int64_t d = 0;
    for (; d + 8 <= n; d += 8)
        _mm256_storeu_ps(o + d, _mm256_mul_ps(_mm256_loadu_ps(o + d), factor));
    for (; d < n; d++)
        o[d] *= scale;
}

/* Softmax and values of `rows` rows, 1, 2 or 4. */
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
    if (rows == 4)
        values(a, o, s, lds, 0, common, 4, 2, bf16);
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

static int64_t tile_rows(int64_t left)
{
    if (left >= TILE_ROWS)
        return TILE_ROWS;
    return left >= 2 ? 2 : 1;
}

static void score_block(const glm4v_attention_args *a, float *s, size_t lds, const float *panel,
                        int64_t first_key)
{
    for (int64_t r = 0, rows; r < a->rows; r += rows) {
        float *to = s + r * lds + first_key;
        rows = tile_rows(a->rows - r);
        if (most_keys(a->n_keys + r, rows) <= first_key)
            continue;
        if (rows == 4)
            score_tile(to, lds, a->q + r, panel, a->head_dim, a->scale, 4);
        else if (rows == 2)
            score_tile(to, lds, a->q + r, panel, a->head_dim, a->scale, 2);
        else
            score_tile(to, lds, a->q + r, panel, a->head_dim, a->scale, 1);
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

void glm4v_attention_avx2(const glm4v_attention_args *a)
{
    (a->bf16 ? attend_bf16 : attend_f32)(a);
}
