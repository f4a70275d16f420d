/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights into panels, AVX2. Rows are quantized a stretch at a time and land in the panel by
 * transposing 8 x 8 blocks of 32 bits: a float, a pair of bf16, a quad of int8, or four bytes of
 * nibbles. The same bytes as the C forms; what is left after whole stretches goes through those. */
#include <string.h>

#include "gemm.h"
#include "quant_avx2.h"

void glm4v_pack_f32_avx2(float *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
{
    int64_t k = 0;
    if (n == GLM4V_PANEL) {
        for (; k + 8 <= K; k += 8) {
            for (int half = 0; half < 16; half += 8) {
                __m256i v[8];
                for (int i = 0; i < 8; i++)
                    v[i] = _mm256_loadu_si256((const __m256i *)(w + (half + i) * ldw + k));
                transpose_store((uint8_t *)(panel + k * GLM4V_PANEL + half), v);
            }
        }
    }
    if (k < K)
        glm4v_pack_f32_c(panel + k * GLM4V_PANEL, w + k, ldw, n, K - k);
}

/* 16 floats as 8 pairs of bf16. */
static inline __m256i bf16_pairs(const float *w)
{
    __m256i low = bf16_bits(_mm256_loadu_ps(w)), high = bf16_bits(_mm256_loadu_ps(w + 8));
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}

void glm4v_pack_bf16_avx2(uint16_t *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
{
    int64_t k = 0;
    if (n == GLM4V_PANEL) {
        for (; k + 16 <= K; k += 16) {
            for (int half = 0; half < 16; half += 8) {
                __m256i v[8];
                for (int i = 0; i < 8; i++)
                    v[i] = bf16_pairs(w + (half + i) * ldw + k);
                transpose_store((uint8_t *)(panel + k * GLM4V_PANEL + half * 2), v);
            }
        }
    }
    if (k < K)
        glm4v_pack_bf16_c(panel + k * GLM4V_PANEL, w + k, ldw, n, K - k);
}

/* Inputs [k, K) of row i, one at a time. */
static void int8_rest(uint8_t *panel, const float *w, float max, int i, int64_t k, int64_t K)
{
    for (; k < K; k++)
        panel[(k / 4 * GLM4V_PANEL + i) * 4 + k % 4] = (uint8_t)(128 + glm4v_round_int8(w[k], max));
}

void glm4v_pack_int8_avx2(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                          int64_t K)
{
    const __m256i offset = _mm256_set1_epi8(-128);
    float max[GLM4V_PANEL] = { 0 };
    int64_t whole = K / 32 * 32;

    for (int i = 0; i < GLM4V_PANEL; i++)
        scale[i] = i < n ? row_scale(&max[i], w + i * ldw, K) : 0;
    for (int64_t k = 0; k < whole; k += 32) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++) {
                v[i] = offset;
                if (max[half + i] > 0)
                    v[i] = _mm256_xor_si256(offset,
                                            round_to_int8(w + (half + i) * ldw + k,
                                                          _mm256_set1_ps(127 / max[half + i])));
            }
            transpose_store(panel + k * GLM4V_PANEL + half * 4, v);
        }
    }
    memset(panel + whole * GLM4V_PANEL, 128, glm4v_panel_bytes_int8(K - whole));
    for (int i = 0; i < n; i++)
        int8_rest(panel, w + i * ldw, max[i], i, whole, K);
}

/* w / scale as whole floats in [-8, 7]. */
static inline __m256 round_to_int4(__m256 w, __m256 inverse)
{
    __m256 q =
        _mm256_round_ps(_mm256_mul_ps(w, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_min_ps(_mm256_set1_ps(7), _mm256_max_ps(_mm256_set1_ps(-8), q));
}

/* As group_error() of c/pack.c, in its order: input k in sum k % 16, folded 8, 4, 2, 1. */
static inline float group_error(const float *w, int group, float scale, float inverse)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    __m256 s = _mm256_set1_ps(scale), inv = _mm256_set1_ps(inverse);
    for (int k = 0; k < group; k += 16) {
        for (int i = 0; i < 2; i++) {
            __m256 v = _mm256_loadu_ps(w + k + 8 * i);
            __m256 e = _mm256_sub_ps(v, _mm256_mul_ps(s, round_to_int4(v, inv)));
            sum[i] = _mm256_add_ps(sum[i], _mm256_mul_ps(e, e));
        }
    }
    return sum_lanes(_mm256_add_ps(sum[0], sum[1]));
}

static inline float best_scale(const float *w, int group, float max, float *inverse)
{
    static const float divisor[] = GLM4V_INT4_DIVISORS;
    float scale = 0, least = INFINITY;
    for (size_t i = 0; i < sizeof divisor / sizeof *divisor; i++) {
        float s = max / divisor[i], inv = divisor[i] / max;
        float error = group_error(w, group, s, inv);
        if (i == 0 || error < least) {
            least = error;
            scale = s;
            *inverse = inv;
        }
    }
    return scale;
}

/* 32 inputs of one row as bytes 0 to 15, in order. inverse 0: a group that counts as zero. */
static inline __m256i codes_of(const float *w, float inverse)
{
    const __m256i eight = _mm256_set1_epi8(8);
    __m256i v[4];
    if (!(inverse > 0))
        return eight;
    for (int i = 0; i < 4; i++)
        v[i] =
            _mm256_cvtps_epi32(round_to_int4(_mm256_loadu_ps(w + 8 * i), _mm256_set1_ps(inverse)));
    __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm256_add_epi8(packed, eight);
}

/* The scales of one group of 16 rows, and one divided by each, or 0. */
static inline void choose_scales(float *scale, float *inverse, const float *w, ptrdiff_t ldw,
                                 int64_t n, int group)
{
    for (int i = 0; i < GLM4V_PANEL; i++) {
        float max = 0;
        inverse[i] = 0;
        scale[i] = i < n ? row_scale(&max, w + i * ldw, group) : 0;
        if (max > 0)
            scale[i] = best_scale(w + i * ldw, group, max, &inverse[i]);
    }
}

/* 64 inputs, a vector of each row, at a time: two halves of 32 inputs with the factors of the
 * groups that they lie in. Inputs [k, K) are left over; returns k. */
static inline int64_t pack_int4(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw,
                                int64_t n, int64_t K, const int group)
{
    float inverse[2][GLM4V_PANEL] = { { 0 } };
    int64_t k = 0;
    for (; k + 64 <= K; k += 64) {
        for (int h = 0; h < 2; h++) {
            const int64_t at = k + 32 * h;
            if (at % group == 0)
                choose_scales(scale + at / group * GLM4V_PANEL, inverse[h], w + at, ldw, n, group);
            else
                memcpy(inverse[h], inverse[1 - h], sizeof inverse[h]);
        }
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++) {
                const float *row = w + (half + i) * ldw + k;
                v[i] = join_nibbles(codes_of(row, inverse[0][half + i]),
                                    codes_of(row + 32, inverse[1][half + i]));
            }
            transpose_store(panel + k * 8 + half * 4, v);
        }
    }
    return k;
}

void glm4v_pack_int4_avx2(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                          int64_t K)
{
    pack_int4(panel, scale, w, ldw, n, K, GLM4V_GROUP);
}

void glm4v_pack_int4_32_avx2(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                             int64_t K)
{
    const int64_t k = pack_int4(panel, scale, w, ldw, n, K, GLM4V_SMALL_GROUP);
    if (k < K)
        glm4v_pack_int4_32_c(panel + k * 8, scale + k / GLM4V_SMALL_GROUP * GLM4V_PANEL, w + k, ldw,
                             n, K - k);
}

void glm4v_pack_fp8_avx2(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                         int64_t K)
{
    float max[GLM4V_PANEL] = { 0 };
    int64_t whole = K / 32 * 32;

    for (int i = 0; i < GLM4V_PANEL; i++) {
        scale[i] = i < n ? row_scale(&max[i], w + i * ldw, K) : 0;
        scale[i] = max[i] > 0 ? max[i] / 448 : scale[i];
    }
    for (int64_t k = 0; k < whole; k += 32) {
        for (int half = 0; half < 16; half += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++) {
                const float top = max[half + i];
                v[i] = top > 0 ? round_to_e4m3(w + (half + i) * ldw + k, _mm256_set1_ps(448 / top))
                               : _mm256_setzero_si256();
            }
            transpose_store_fp8(panel + k * GLM4V_PANEL + half * 4, v);
        }
    }
    panel += whole * GLM4V_PANEL;
    memset(panel, 0, glm4v_panel_bytes_fp8(K - whole));
    for (int i = 0; i < n; i++)
        for (int64_t k = whole; k < K && max[i] > 0; k++)
            panel[glm4v_fp8_at(k - whole, i)] = glm4v_f32_to_e4m3(w[i * ldw + k] * (448 / max[i]));
}

void glm4v_bf16_row_avx2(uint16_t *y, const float *x, int64_t K)
{
    glm4v_f32_to_bf16_avx2(y, x, K);
    if (K & 1)
        y[K] = 0;
}

static inline void fp8_16(uint16_t *y, const float *x, __m256 inverse)
{
    __m256i low = e4m3_as_bf16(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    __m256i high = e4m3_as_bf16(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
    _mm256_storeu_si256((__m256i *)y, both);
}

void glm4v_fp8_row_avx2(uint16_t *y, float *scale, const float *x, int64_t K)
{
    const size_t bytes = (K + 1) / 2 * 2 * sizeof *y;
    float max, rest[16] = { 0 };
    uint16_t last[16];
    int64_t k = 0;
    *scale = row_scale(&max, x, K);
    if (!(max > 0)) { /* zeros, or no numbers */
        memset(y, 0, bytes);
        return;
    }
    *scale = max / 448;
    const __m256 inverse = _mm256_set1_ps(448 / max);
    for (; k + 16 <= K; k += 16)
        fp8_16(y + k, x + k, inverse);
    memcpy(rest, x + k, (K - k) * sizeof *x);
    fp8_16(last, rest, inverse);
    memcpy(y + k, last, bytes - k * sizeof *y);
}

/* Sum of 32 signed bytes, added in eight lanes: |q| * 4 fits in 16 bits. */
static inline __m256i sum_bytes(__m256i q)
{
    const __m256i one = _mm256_set1_epi16(1);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), one);
}

static inline int32_t sum_lanes_i(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* The whole groups of a row; returns how many there are. */
static inline int64_t quantize_groups(int8_t *q, float *scale, int32_t *sum, const float *x,
                                      int64_t K, const int group)
{
    int64_t n = 0;
    for (; n < K / group; n++, q += group, x += group) {
        float max;
        scale[n] = row_scale(&max, x, group);
        __m256 inverse = _mm256_set1_ps(max > 0 ? 127 / max : 0);
        __m256i total = _mm256_setzero_si256();
        for (int i = 0; i < group; i += 32) {
            __m256i v = max > 0 ? round_to_int8(x + i, inverse) : _mm256_setzero_si256();
            _mm256_storeu_si256((__m256i *)(q + i), v);
            total = _mm256_add_epi32(total, sum_bytes(v));
        }
        sum[n] = sum_lanes_i(total);
    }
    return n;
}

void glm4v_quantize_row_avx2(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t K)
{
    const int64_t n = quantize_groups(q, scale, sum, x, K, GLM4V_GROUP), k = n * GLM4V_GROUP;
    if (k < K)
        glm4v_quantize_row_c(q + k, scale + n, sum + n, x + k, K - k);
}

void glm4v_quantize_row_32_avx2(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t K)
{
    quantize_groups(q, scale, sum, x, K, GLM4V_SMALL_GROUP);
}
