/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products, AVX2. A panel's 16 outputs are two vectors; a tile holds at most 12 of its 16
 * registers of sums.
 *
 * int8: bytes widened to 16 bit in pairs (inputs 0, 2 and 1, 3 of a quad) and multiplied by
 * vpmaddwd: u8 x s8 products of vpmaddubsw would saturate. int4: nibbles are at most 15, so eight
 * vpmaddubsw results fit in 16 bits. */
#include <string.h>

#include "avx2.h"
#include "gemm_walk.h"

enum { SUMS = 12, CHUNK = 256 };

/* Output of row t, panel p: bias and old y are added here, in this order. */
ALWAYS_INLINE void store_half(const glm4v_gemm_args *g, int64_t t, int64_t first, __m256 sum)
{
    float *y = g->y + t * g->ldy + first;
    if (first + 8 <= g->n_out) {
        if (g->bias)
            sum = _mm256_add_ps(sum, _mm256_loadu_ps(g->bias + first));
        if (g->add)
            sum = _mm256_add_ps(_mm256_loadu_ps(y), sum);
        _mm256_storeu_ps(y, sum);
    } else if (first < g->n_out) {
        __m256i mask = tail_mask(g->n_out - first);
        if (g->bias)
            sum = _mm256_add_ps(sum, _mm256_maskload_ps(g->bias + first, mask));
        if (g->add)
            sum = _mm256_add_ps(_mm256_maskload_ps(y, mask), sum);
        _mm256_maskstore_ps(y, mask, sum);
    }
}

ALWAYS_INLINE void store_panel(const glm4v_gemm_args *g, int64_t t, int64_t p, __m256 low,
                               __m256 high)
{
    store_half(g, t, p * GLM4V_PANEL, low);
    store_half(g, t, p * GLM4V_PANEL + 8, high);
}

ALWAYS_INLINE void f32_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int R,
                            const int P)
{
    const float *x = (const float *)g->x + t * g->ldx;
    const float *w = (const float *)g->w + p * g->K * GLM4V_PANEL;
    const size_t panel = g->K * GLM4V_PANEL;
    __m256 sum[SUMS];

    UNROLL for (int i = 0; i < R * P * 2; i++) sum[i] = _mm256_setzero_ps();
    for (int64_t k = 0; k < g->K; k++, w += GLM4V_PANEL) {
        UNROLL for (int i = 0; i < P; i++)
        {
            __m256 low = _mm256_loadu_ps(w + i * panel), high = _mm256_loadu_ps(w + i * panel + 8);
            prefetch_panel(w + i * panel);
            UNROLL for (int r = 0; r < R; r++)
            {
                __m256 v = _mm256_broadcast_ss(x + r * g->ldx + k), *s = sum + (r * P + i) * 2;
                s[0] = _mm256_fmadd_ps(v, low, s[0]);
                s[1] = _mm256_fmadd_ps(v, high, s[1]);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, sum[(r * P + i) * 2], sum[(r * P + i) * 2 + 1]);
}

/* The two bf16 of each 32-bit lane as floats. */
ALWAYS_INLINE __m256 even_of(__m256i pair)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
}

ALWAYS_INLINE __m256 odd_of(__m256i pair)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
}

ALWAYS_INLINE __m256i load_half(const void *w)
{
    return _mm256_loadu_si256((const __m256i *)w);
}

ALWAYS_INLINE __m256i broadcast4(const void *x)
{
    int32_t value;
    memcpy(&value, x, sizeof value);
    return _mm256_set1_epi32(value);
}

/* buffer [R][CHUNK] = inputs [0, 2 pairs) of R rows as floats: widened once here, not at every
 * broadcast. */
ALWAYS_INLINE void widen_rows(float (*buffer)[CHUNK], const uint16_t *x, ptrdiff_t ldx,
                              int64_t pairs, const int R)
{
    for (int r = 0; r < R; r++) {
        int64_t k = 0;
        for (; k + 8 <= 2 * pairs; k += 8) {
            __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x + r * ldx + k)));
            _mm256_storeu_si256((__m256i *)(buffer[r] + k), _mm256_slli_epi32(v, 16));
        }
        for (; k < 2 * pairs; k++) {
            uint32_t bits = (uint32_t)x[r * ldx + k] << 16;
            memcpy(&buffer[r][k], &bits, sizeof bits);
        }
    }
}

ALWAYS_INLINE void bf16_chunk(__m256 *sum, float (*x)[CHUNK], const uint16_t *w, size_t panel,
                              int64_t pairs, const int R, const int P)
{
    for (int64_t k = 0; k < pairs; k++, w += 2 * GLM4V_PANEL) {
        UNROLL for (int i = 0; i < P * 2; i++)
        {
            __m256i pair = load_half(w + i / 2 * panel + i % 2 * 16);
            __m256 even = even_of(pair), odd = odd_of(pair);
            if (i % 2 == 0)
                prefetch_panel(w + i / 2 * panel);
            UNROLL for (int r = 0; r < R; r++)
            {
                __m256 *s = sum + r * P * 2 + i;
                *s = _mm256_fmadd_ps(_mm256_broadcast_ss(&x[r][2 * k + 1]), odd, *s);
                *s = _mm256_fmadd_ps(_mm256_broadcast_ss(&x[r][2 * k]), even, *s);
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
    float buffer[6][CHUNK];
    __m256 sum[SUMS];

    UNROLL for (int i = 0; i < R * P * 2; i++) sum[i] = _mm256_setzero_ps();
    for (int64_t k = 0; k < pairs; k += CHUNK / 2) {
        int64_t count = pairs - k < CHUNK / 2 ? pairs - k : CHUNK / 2;
        widen_rows(buffer, x + 2 * k, g->ldx, count, R);
        bf16_chunk(sum, buffer, w + k * 2 * GLM4V_PANEL, panel, count, R, P);
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, sum[(r * P + i) * 2], sum[(r * P + i) * 2 + 1]);
}

/* Four inputs of eight outputs, e4m3, as two pairs of bf16. The upper byte of a bf16 hangs on sign
 * and three bits of the exponent alone, the lower one on the other four bits. Where the exponent is
 * 0 the value is a fraction of 2^-6, normal in bf16, and both bytes are corrected: codes below 8
 * find the correction in a table, the others zero, because adding 0x78 sets their bit 7. */
ALWAYS_INLINE void decode_fp8(__m256i pair[2], __m256i code)
{
    const __m256i upper =
        _mm256_setr_epi8(0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, (char)0xbc, (char)0xbd,
                         (char)0xbe, (char)0xbf, (char)0xc0, (char)0xc1, (char)0xc2, (char)0xc3,
                         0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, (char)0xbc, (char)0xbd,
                         (char)0xbe, (char)0xbf, (char)0xc0, (char)0xc1, (char)0xc2, (char)0xc3);
    const __m256i small_upper = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0x3c, 7, 7, 7, 0, 0, 0, 0,
                                                 0, 0, 0, 0, 0, 0, 0, 0, 0x3c, 7, 7, 7, 0, 0, 0, 0);
    const __m256i small_lower = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, (char)0xa0, (char)0xf0, 0x40, 0x70, 0x20, 0x10, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0x10, (char)0xa0, (char)0xf0, 0x40, 0x70, 0x20, 0x10);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i small =
        _mm256_add_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x7f)), _mm256_set1_epi8(0x78));
    __m256i high = _mm256_shuffle_epi8(upper, _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble));
    __m256i low = _mm256_slli_epi16(_mm256_and_si256(code, nibble), 4);
    high = _mm256_xor_si256(high, _mm256_shuffle_epi8(small_upper, small));
    low = _mm256_xor_si256(low, _mm256_shuffle_epi8(small_lower, small));
    pair[0] = _mm256_unpacklo_epi8(low, high);
    pair[1] = _mm256_unpackhi_epi8(low, high);
}

/* As bf16_chunk, for `quads` times 4 inputs. */
ALWAYS_INLINE void fp8_chunk(__m256 *sum, float (*x)[CHUNK], const uint8_t *w, size_t panel,
                             int64_t quads, const int R, const int P)
{
    for (int64_t k = 0; k < quads; k++, w += 64) {
        UNROLL for (int i = 0; i < P * 2; i++)
        {
            __m256i pair[2];
            decode_fp8(pair, load_half(w + i / 2 * panel + i % 2 * 32));
            if (i % 2 == 0)
                prefetch_panel(w + i / 2 * panel);
            UNROLL for (int j = 0; j < 2; j++)
            {
                __m256 even = even_of(pair[j]), odd = odd_of(pair[j]);
                UNROLL for (int r = 0; r < R; r++)
                {
                    __m256 *s = sum + r * P * 2 + i;
                    const float *v = x[r] + 4 * k + 2 * j;
                    *s = _mm256_fmadd_ps(_mm256_broadcast_ss(v + 1), odd, *s);
                    *s = _mm256_fmadd_ps(_mm256_broadcast_ss(v), even, *s);
                }
            }
        }
    }
}

/* sum = that of inputs [from, to), from a multiple of 4. Inputs that fill up a quad are zero. */
ALWAYS_INLINE void fp8_sum(__m256 *sum, const uint16_t *x, ptrdiff_t ldx, const uint8_t *w,
                           size_t panel, int64_t from, int64_t to, const int R, const int P)
{
    float buffer[6][CHUNK];
    UNROLL for (int i = 0; i < R * P * 2; i++) sum[i] = _mm256_setzero_ps();
    for (int64_t k = from; k < to; k += CHUNK) {
        int64_t pairs = ((to - k < CHUNK ? to - k : CHUNK) + 1) / 2;
        widen_rows(buffer, x + k, ldx, pairs, R);
        for (int r = 0; r < R && pairs % 2; r++)
            memset(&buffer[r][2 * pairs], 0, 2 * sizeof **buffer);
        fp8_chunk(sum, buffer, w + k * GLM4V_PANEL, panel, (pairs + 1) / 2, R, P);
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
    __m256 total[SUMS];

    UNROLL for (int i = 0; i < R * P * 2; i++) total[i] = _mm256_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        const int64_t from = n * span, to = g->K - from < span ? g->K : from + span;
        __m256 sum[SUMS];
        keep_in_memory(total);
        fp8_sum(sum, x, g->ldx, w, panel, from, to, R, P);
        UNROLL for (int i = 0; i < R * P * 2; i++)
        {
            size_t at = (p + i / 2 % P) * scales + n * GLM4V_PANEL + i % 2 * 8;
            total[i] = _mm256_fmadd_ps(_mm256_loadu_ps(g->w_scale + at), sum[i], total[i]);
        }
    }
    if (g->x_scale)
        UNROLL for (int i = 0; i < R * P * 2; i++) total[i] =
            _mm256_mul_ps(total[i], _mm256_broadcast_ss(g->x_scale + t + i / (2 * P)));
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, total[(r * P + i) * 2], total[(r * P + i) * 2 + 1]);
}

/* A quad of inputs as two pairs of 16 bits: 0, 2 and 1, 3. */
struct halves {
    __m256i even, odd;
};

ALWAYS_INLINE struct halves unsigned_halves(const uint8_t *w)
{
    __m256i v = load_half(w);
    return (struct halves) { _mm256_and_si256(v, _mm256_set1_epi16(0xff)),
                             _mm256_srli_epi16(v, 8) };
}

ALWAYS_INLINE struct halves signed_halves(const int8_t *x)
{
    __m256i v = broadcast4(x);
    return (struct halves) { _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8),
                             _mm256_srai_epi16(v, 8) };
}

ALWAYS_INLINE __m256i add_dot(__m256i sum, struct halves w, struct halves x)
{
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.even, x.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w.odd, x.odd));
}

/* sums [R * P * 2] of a group of quads of an int8 panel. What is used more often is widened
 * first. */
ALWAYS_INLINE void int8_group(__m256i *sum, const int8_t *x, ptrdiff_t ldx, const uint8_t *w,
                              size_t panel, int64_t quads, const int R, const int P)
{
    for (int64_t k = 0; k < quads; k++, w += 64, x += 4) {
        if (P == 1) {
            struct halves low = unsigned_halves(w), high = unsigned_halves(w + 32);
            prefetch_panel(w);
            UNROLL for (int r = 0; r < R; r++)
            {
                struct halves v = signed_halves(x + r * ldx);
                sum[r * 2] = add_dot(sum[r * 2], low, v);
                sum[r * 2 + 1] = add_dot(sum[r * 2 + 1], high, v);
            }
        } else {
            struct halves v[2];
            UNROLL for (int r = 0; r < R; r++) v[r] = signed_halves(x + r * ldx);
            UNROLL for (int i = 0; i < P * 2; i++)
            {
                struct halves part = unsigned_halves(w + i / 2 * panel + i % 2 * 32);
                if (i % 2 == 0)
                    prefetch_panel(w + i / 2 * panel);
                UNROLL for (int r = 0; r < R; r++) sum[r * P * 2 + i] =
                    add_dot(sum[r * P * 2 + i], part, v[r]);
            }
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
    __m256 total[SUMS];

    UNROLL for (int i = 0; i < R * P * 2; i++) total[i] = _mm256_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        __m256i sum[SUMS];
        UNROLL for (int i = 0; i < R * P * 2; i++) sum[i] =
            _mm256_set1_epi32(-128 * g->x_sum[(t + i / (2 * P)) * groups + n]);
        int64_t count = quads - 32 * n < 32 ? quads - 32 * n : 32;
        int8_group(sum, x + n * GLM4V_GROUP, g->ldx, w + n * 32 * 64, panel, count, R, P);
        UNROLL for (int i = 0; i < R * P * 2; i++)
        {
            __m256 scale = _mm256_broadcast_ss(g->x_scale + (t + i / (2 * P)) * groups + n);
            total[i] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum[i]), total[i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        UNROLL for (int i = 0; i < P; i++)
        {
            const float *scale = g->w_scale + (p + i) * GLM4V_PANEL;
            __m256 low = _mm256_mul_ps(total[(r * P + i) * 2], _mm256_loadu_ps(scale));
            __m256 high = _mm256_mul_ps(total[(r * P + i) * 2 + 1], _mm256_loadu_ps(scale + 8));
            store_panel(g, t + r, p + i, low, high);
        }
    }
}

/* sums [R * P * 2] of one group of an int4 panel: blocks of 8 inputs, four at a time in 16 bits (8
 * x 15 x 127 x 2 < 2^15). */
ALWAYS_INLINE void int4_sums(__m256i *sum, const int8_t *x, ptrdiff_t ldx, const uint8_t *w,
                             size_t panel, const int group, const int R, const int P)
{
    const __m256i low_nibble = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    for (int four = 0; four < group / 32; four++) {
        __m256i part[SUMS];
        UNROLL for (int i = 0; i < R * P * 2; i++) part[i] = _mm256_setzero_si256();
        for (int block = 0; block < 4; block++, w += 64, x += 8) {
            UNROLL for (int i = 0; i < P * 2; i++)
            {
                __m256i bytes = load_half(w + i / 2 * panel + i % 2 * 32);
                __m256i first = _mm256_and_si256(bytes, low_nibble);
                __m256i second = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_nibble);
                if (i % 2 == 0)
                    prefetch_panel(w + i / 2 * panel);
                UNROLL for (int r = 0; r < R; r++)
                {
                    __m256i *s = part + r * P * 2 + i;
                    *s = _mm256_add_epi16(*s, _mm256_maddubs_epi16(first, broadcast4(x + r * ldx)));
                    *s = _mm256_add_epi16(
                        *s, _mm256_maddubs_epi16(second, broadcast4(x + r * ldx + 4)));
                }
            }
        }
        UNROLL for (int i = 0; i < R * P * 2; i++) sum[i] =
            _mm256_add_epi32(sum[i], _mm256_madd_epi16(part[i], one));
    }
}

ALWAYS_INLINE void group_tile(const glm4v_gemm_args *g, int64_t t, int64_t p, const int group,
                              const int R, const int P)
{
    const int64_t groups = g->K / group;
    const size_t panel = glm4v_panel_bytes_int4(g->K), scales = groups * GLM4V_PANEL;
    const int8_t *x = (const int8_t *)g->x + t * g->ldx;
    const uint8_t *w = (const uint8_t *)g->w + p * panel;
    __m256 total[SUMS];

    UNROLL for (int i = 0; i < R * P * 2; i++) total[i] = _mm256_setzero_ps();
    for (int64_t n = 0; n < groups; n++) {
        __m256i sum[SUMS];
        UNROLL for (int i = 0; i < R * P * 2; i++)
        {
            size_t at = (p + i / 2 % P) * scales + n * GLM4V_PANEL + i % 2 * 8;
            __m256i zero = _mm256_set1_epi32(8);
            if (g->w_zero)
                zero = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(g->w_zero + at)));
            __m256i inputs = _mm256_set1_epi32(-g->x_sum[(t + i / (2 * P)) * groups + n]);
            sum[i] = _mm256_mullo_epi32(zero, inputs);
        }
        int4_sums(sum, x + n * group, g->ldx, w + n * group * 8, panel, group, R, P);
        UNROLL for (int i = 0; i < R * P * 2; i++)
        {
            size_t at = (p + i / 2 % P) * scales + n * GLM4V_PANEL + i % 2 * 8;
            __m256 scale = _mm256_broadcast_ss(g->x_scale + (t + i / (2 * P)) * groups + n);
            scale = _mm256_mul_ps(scale, _mm256_loadu_ps(g->w_scale + at));
            total[i] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum[i]), total[i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < P; i++)
        store_panel(g, t + r, p + i, total[(r * P + i) * 2], total[(r * P + i) * 2 + 1]);
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

#define TILE(form, R, P)                                                                           \
    static void form##_##R##x##P(const glm4v_gemm_args *g, int64_t t, int64_t p)                   \
    {                                                                                              \
        form##_tile(g, t, p, R, P);                                                                \
    }

/* Sums in registers: fp32 forms hold up to 6 rows of a panel (12 vectors), integer forms 4 (8
 * vectors, and the widened weights). */
#define TILES(form)                                                                                \
    TILE(form, 1, 1)                                                                               \
    TILE(form, 1, 2)                                                                               \
    TILE(form, 1, 4) TILE(form, 2, 1) TILE(form, 2, 2) TILE(form, 3, 1) TILE(form, 4, 1)
TILES(f32)
TILE(f32, 6, 1)
TILES(bf16)
TILE(bf16, 6, 1)
TILES(fp8)
TILE(fp8, 6, 1)
TILES(int8)
TILES(int4)
TILES(int4_32)

#define TABLE(form, size, rows, ...)                                                               \
    {                                                                                              \
        .max_rows = rows, .max_panels = { 4, 2, 1, 1 }, .element = size,                           \
        .tile = { [1] = { form##_1x1, form##_1x2, form##_1x4 },                                    \
                  [2] = { form##_2x1, form##_2x2, form##_2x2 },                                    \
                  [3] = { form##_3x1 },                                                            \
                  [4] = { form##_4x1 },                                                            \
                  __VA_ARGS__ },                                                                   \
    }

static const glm4v_tiles f32_tiles = TABLE(f32, 4, 6, [6] = { f32_6x1 });
static const glm4v_tiles bf16_tiles = TABLE(bf16, 2, 6, [6] = { bf16_6x1 });
static const glm4v_tiles fp8_tiles = TABLE(fp8, 2, 6, [6] = { fp8_6x1 });
static const glm4v_tiles int8_tiles = TABLE(int8, 1, 4);
static const glm4v_tiles int4_tiles = TABLE(int4, 1, 4);
static const glm4v_tiles int4_32_tiles = TABLE(int4_32, 1, 4);

void glm4v_gemm_f32_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &f32_tiles);
}

void glm4v_gemm_bf16_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &bf16_tiles);
}

void glm4v_gemm_fp8_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &fp8_tiles);
}

void glm4v_gemm_int8_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int8_tiles);
}

void glm4v_gemm_int4_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int4_tiles);
}

void glm4v_gemm_int4_32_avx2(const glm4v_gemm_args *g)
{
    glm4v_gemm_walk(g, &int4_32_tiles);
}
