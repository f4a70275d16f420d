/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* y [T, N] = x [T, K] * w [N, K]^T (+ bias) (+ y): matrix products with weights in panels, and how
 * panels are made.
 *
 * Panels. The N outputs are cut in panels of 16, the last one filled up with zero weights. One
 * layout serves all levels: 16 neighbouring outputs are the lanes of one vector (two at AVX2), so a
 * panel is read front to back.
 *   f32   float   [panels][K][16]
 *   bf16  uint16  [panels][ceil(K/2)][16][2]
 *   int8  uint8   [panels][ceil(K/4)][16][4]   q + 128, q in [-127, 127];  scale f32 [panels][16]
 *   int4  uint8   [panels][K/8][16][4]         low nibble: input 8b + i, high nibble: input 8b + 4
 *                                              + i; scale f32 [panels][K/128][16]; zero uint8, same
 *                                              order, or NULL: 8 everywhere. K a multiple of 128.
 *   int4_32        as int4, in groups of 32: scale f32 [panels][K/32][16], zero in that order. K a
 *                                              multiple of 32.
 *   fp8   uint8   [panels][ceil(K/4)][4][2][4][2]  e4m3: 4 inputs of 16 outputs are 4 times 2 pairs
 *                                              of inputs of 4 outputs; scale f32 [panels][16], or
 *                                              in blocks [panels][ceil(K/128)][16]
 * Inputs beyond K are zero weights (int8: 128). Unsigned int8, because vpdpbusd multiplies unsigned
 * by signed. The order of fp8, because unpacking bytes of two vectors then gives a panel of bf16;
 * 0x7f and 0xff, e4m3's NaN, do not occur in panels (here they would be 480 and -480).
 *
 * Activations. f32: as they are. bf16, fp8: rounded to bf16 by bf16_row. int8 and int4: rounded to
 * int8 by quantize_row, per row and group of 128 inputs g (the last group of a row may be
 * shorter). int4_32: by quantize_row_32, per row and group of 32. fp8 with x_scale: rounded to e4m3
 * by fp8_row with one scale a row, and held as bf16, which has every e4m3.
 *
 * What is computed, for every row t and output n alone:
 *   f32   y = sum_k x w, one fp32 chain in order of k
 *   bf16  the same in pairs, the odd input of a pair first, fp32 accumulation (the order of
 *         vdpbf16ps, which flushes denormal inputs and results to zero: below 2^-126 levels may
 *         differ)
 *   fp8   y = w_scale[n] * sum, the sum as under bf16 (which holds e4m3 exactly); in blocks one
 *         such sum for each g, and y = sum_g w_scale[n][g] * sum as one fp32 chain; with x_scale
 *         then y = y * x_scale[t]
 *   int8  y = w_scale[n] * sum_g x_scale[g] * (sum_k q_x u - 128 sum_k q_x)
 *   int4  y = sum_g (x_scale[g] * w_scale[n][g]) * (sum_k q_x u - zero sum_k q_x)
 *   int4_32  the same over groups of 32
 *         sums over k in int32, exact, the same at every level; sums over g one fp32 chain in order
 *         of g
 *   then y = y + bias, then y = old y + y if add.
 * The order depends on K and the level only, never on T, the tile or the range of panels: a row
 * alone gives the same bytes as the row among others (batch invariance). The C forms sum in double.
 *
 * Kernels run in one thread, allocate nothing and cannot fail. Pointers need no more than their
 * type's alignment; 64-byte alignment of panels is faster. */
#ifndef GLM4V_KERNELS_GEMM_H
#define GLM4V_KERNELS_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GLM4V_PANEL = 16, GLM4V_GROUP = 128, GLM4V_SMALL_GROUP = 32 };

static inline int64_t glm4v_panel_count(int64_t n_out)
{
    return (n_out + 15) / 16;
}

static inline int64_t glm4v_group_count(int64_t K)
{
    return (K + 127) / 128;
}

/* Bytes of one panel. */
static inline size_t glm4v_panel_bytes_f32(int64_t K)
{
    return K * 64;
}

static inline size_t glm4v_panel_bytes_bf16(int64_t K)
{
    return (K + 1) / 2 * 64;
}

static inline size_t glm4v_panel_bytes_int8(int64_t K)
{
    return (K + 3) / 4 * 64;
}

static inline size_t glm4v_panel_bytes_int4(int64_t K)
{
    return K / 8 * 64;
}

static inline size_t glm4v_panel_bytes_fp8(int64_t K)
{
    return (K + 3) / 4 * 64;
}

/* Where input k of a panel's output i lies in fp8. */
static inline size_t glm4v_fp8_at(int64_t k, int64_t i)
{
    return k / 4 * 64 + i / 4 * 16 + k % 4 / 2 * 8 + i % 4 * 2 + k % 2;
}

typedef struct {
    float *y; /* [T, n_out], rows ldy apart */
    /* f32: float [T, K]. bf16, fp8: uint16 [T, K rounded up to 2]. int8, int4: int8 [T, K
     * rounded up to 128], int4_32: int8 [T, K], as the row operations below write them. Rows ldx
     * elements apart */
    const void *x;
    const float *x_scale;  /* int8, int4, int4_32: [T, groups]; fp8: [T] or NULL; else unused */
    const int32_t *x_sum;  /* int8, int4, int4_32: [T, groups], else unused */
    const void *w;         /* the whole matrix: panel 0 */
    const float *w_scale;  /* int8, fp8: [panels][16], int4, int4_32: [panels][groups][16] */
    const uint8_t *w_zero; /* int4, int4_32: [panels][groups][16] or NULL */
    const float *bias;     /* [n_out] or NULL */
    ptrdiff_t ldy, ldx;
    int64_t T, K, n_out; /* all >= 1 */
    /* which panels to compute: columns [16 panel, 16 (panel + n_panels)) of y, cut at n_out */
    int64_t panel, n_panels;
    bool add;
    bool w_blocks; /* fp8: w_scale is [panels][groups][16] */
} glm4v_gemm_args;

#define decl_gemm(name) void(name)(const glm4v_gemm_args *g)

/* y [K rounded up to 2] = x [K] as bf16, the rest 0. */
#define decl_bf16_row(name) void(name)(uint16_t * y, const float *x, int64_t K)

/* Per group of 128 inputs: scale = max|x| / 127, q = round(x * (127 / max|x|)), ties to even, sum =
 * sum q. q [K rounded up to 128], the rest 0; scale, sum [groups]. A group whose largest magnitude
 * is below GLM4V_QUANT_MIN (convert.h) counts as zero: scale 0, q 0. A group holding NaN or
 * infinity gets scale NaN and q 0: every output of the row becomes NaN. The same bits at every
 * level. quantize_row_32: the same in groups of 32, K a multiple of 32; q [K]. */
#define decl_quantize_row(name)                                                                    \
    void(name)(int8_t * q, float *scale, int32_t *sum, const float *x, int64_t K)

/* scale = max|x| / 448, y = x * (448 / max|x|) to the nearest e4m3 as bf16; y [K rounded up to 2],
 * the rest 0. GLM4V_QUANT_MIN, NaN and infinity as in quantize_row. The same bits at all levels. */
#define decl_fp8_row(name) void(name)(uint16_t * y, float *scale, const float *x, int64_t K)

/* One panel from n <= 16 rows of weights f32 [n, K], ldw apart. Same bits at every level. Rounding
 * to nearest, ties to even.
 * int8: per output, symmetric, scale = max|w| / 127, the rules of GLM4V_QUANT_MIN and NaN as in
 * quantize_row. int4: per output and group, q - 8 = round(w / scale) cut to [-8, 7]; scale is that
 * one of max|w| / {7, 7.25, 7.5, 7.75, 8, 8.5, 9, 9.5} with the least squared error (on Gaussian
 * weights 74 % of that of max|w| / 7 alone). int4_32: the same per group of 32. fp8: as int8, scale
 * = max|w| / 448 and q = w * (448 / max|w|) to the nearest e4m3. */
#define GLM4V_INT4_DIVISORS                                                                        \
    {                                                                                              \
        7, 7.25f, 7.5f, 7.75f, 8, 8.5f, 9, 9.5f                                                    \
    }
#define decl_pack_f32(name)                                                                        \
    void(name)(float *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
#define decl_pack_bf16(name)                                                                       \
    void(name)(uint16_t * panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
#define decl_pack_quant(name)                                                                      \
    void(name)(uint8_t * panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)

/* One panel from n <= 16 rows that are quantized already, ldq or ldw apart. codes: one a byte; int8
 * two's complement, int4 (and int4_32, whose codes lie as those) 0 to 15 (upper bits do not
 * count), fp8 e4m3; K of int4 a multiple of 32. words: int4, input 8b + i in
 * bits 4i to 4i + 3 of word b. The rest of the panel represents zero weights. The same bytes at all
 * levels. */
#define decl_pack_codes(name)                                                                      \
    void(name)(uint8_t * panel, const uint8_t *q, ptrdiff_t ldq, int64_t n, int64_t K)
#define decl_pack_words(name)                                                                      \
    void(name)(uint8_t * panel, const uint32_t *words, ptrdiff_t ldw, int64_t n, int64_t K)

typedef decl_gemm(*glm4v_gemm_fn);
typedef decl_bf16_row(*glm4v_bf16_row_fn);
typedef decl_quantize_row(*glm4v_quantize_row_fn);
typedef decl_fp8_row(*glm4v_fp8_row_fn);
typedef decl_pack_f32(*glm4v_pack_f32_fn);
typedef decl_pack_bf16(*glm4v_pack_bf16_fn);
typedef decl_pack_quant(*glm4v_pack_quant_fn);
typedef decl_pack_codes(*glm4v_pack_codes_fn);
typedef decl_pack_words(*glm4v_pack_words_fn);

typedef struct {
    glm4v_gemm_fn f32, bf16, int8, int4, int4_32, fp8;
    glm4v_bf16_row_fn bf16_row;
    glm4v_quantize_row_fn quantize_row, quantize_row_32;
    glm4v_fp8_row_fn fp8_row;
    glm4v_pack_f32_fn pack_f32;
    glm4v_pack_bf16_fn pack_bf16;
    glm4v_pack_quant_fn pack_int8; /* scale [16] */
    glm4v_pack_quant_fn pack_int4; /* scale [groups][16] */
    glm4v_pack_quant_fn pack_int4_32;
    glm4v_pack_quant_fn pack_fp8; /* scale [16] */
    glm4v_pack_codes_fn pack_codes_int8, pack_codes_int4, pack_codes_fp8;
    glm4v_pack_words_fn pack_words_int4;
} glm4v_gemm_ops;

void glm4v_gemm_ops_init(glm4v_gemm_ops *ops, unsigned cpu);

/* The weights that a panel represents, f32 [n, K], rows ldw apart: for comparison with a reference.
 * One form, C. */
void glm4v_unpack_f32(float *w, ptrdiff_t ldw, const float *panel, int64_t n, int64_t K);
void glm4v_unpack_bf16(float *w, ptrdiff_t ldw, const uint16_t *panel, int64_t n, int64_t K);
void glm4v_unpack_int8(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale, int64_t n,
                       int64_t K);
void glm4v_unpack_int4(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                       const uint8_t *zero, int64_t n, int64_t K);
void glm4v_unpack_int4_32(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                          const uint8_t *zero, int64_t n, int64_t K);
void glm4v_unpack_fp8(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                      bool blocks, int64_t n, int64_t K);

/* The codes of a panel's n outputs, one a byte, rows ldq apart, as the input of pack_codes: for
 * files, and for comparison. One form, C. */
void glm4v_unpack_codes_int8(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K);
void glm4v_unpack_codes_int4(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K);
void glm4v_unpack_codes_fp8(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K);

/* n codes of int4, one a byte, to words as the input of pack_words_int4: in place, n a multiple of
 * 8. */
void glm4v_join_nibbles(uint8_t *q, size_t n);

/* Scales and zero points of a panel, between rows [n][groups] (int8, fp8 without blocks: one group)
 * and the panel's own order [groups][16]. Scales get there by pack_f32. Outputs from n on: zero
 * point 8. zero and panel of zeros may be NULL: 8 everywhere. */
void glm4v_pack_zeros(uint8_t *panel, const uint8_t *zero, int64_t n, int64_t groups);
void glm4v_unpack_scales(float *scale, const float *panel, int64_t n, int64_t groups);
void glm4v_unpack_zeros(uint8_t *zero, const uint8_t *panel, int64_t n, int64_t groups);

decl_gemm(glm4v_gemm_f32_c);
decl_gemm(glm4v_gemm_f32_avx2);
decl_gemm(glm4v_gemm_f32_avx512);
decl_gemm(glm4v_gemm_bf16_c);
decl_gemm(glm4v_gemm_bf16_avx2);
decl_gemm(glm4v_gemm_bf16_avx512);
decl_gemm(glm4v_gemm_bf16_avx512bf16);
decl_gemm(glm4v_gemm_bf16_amx);
decl_gemm(glm4v_gemm_int8_c);
decl_gemm(glm4v_gemm_int8_avx2);
decl_gemm(glm4v_gemm_int8_vnni);
decl_gemm(glm4v_gemm_int8_amx);
decl_gemm(glm4v_gemm_int4_c);
decl_gemm(glm4v_gemm_int4_avx2);
decl_gemm(glm4v_gemm_int4_vnni);
decl_gemm(glm4v_gemm_int4_amx);
decl_gemm(glm4v_gemm_int4_32_c);
decl_gemm(glm4v_gemm_int4_32_avx2);
decl_gemm(glm4v_gemm_int4_32_vnni);
decl_gemm(glm4v_gemm_fp8_c);
decl_gemm(glm4v_gemm_fp8_avx2);
decl_gemm(glm4v_gemm_fp8_avx512);
decl_gemm(glm4v_gemm_fp8_avx512bf16);
decl_gemm(glm4v_gemm_fp8_amx);
decl_bf16_row(glm4v_bf16_row_c);
decl_bf16_row(glm4v_bf16_row_avx2);
decl_quantize_row(glm4v_quantize_row_c);
decl_quantize_row(glm4v_quantize_row_avx2);
decl_quantize_row(glm4v_quantize_row_32_c);
decl_quantize_row(glm4v_quantize_row_32_avx2);
decl_fp8_row(glm4v_fp8_row_c);
decl_fp8_row(glm4v_fp8_row_avx2);
decl_pack_f32(glm4v_pack_f32_c);
decl_pack_f32(glm4v_pack_f32_avx2);
decl_pack_f32(glm4v_pack_f32_avx512);
decl_pack_bf16(glm4v_pack_bf16_c);
decl_pack_bf16(glm4v_pack_bf16_avx2);
decl_pack_quant(glm4v_pack_int8_c);
decl_pack_quant(glm4v_pack_int8_avx2);
decl_pack_quant(glm4v_pack_int4_c);
decl_pack_quant(glm4v_pack_int4_avx2);
decl_pack_quant(glm4v_pack_int4_avx512);
decl_pack_quant(glm4v_pack_int4_32_c);
decl_pack_quant(glm4v_pack_int4_32_avx2);
decl_pack_quant(glm4v_pack_int4_32_avx512);
decl_pack_quant(glm4v_pack_fp8_c);
decl_pack_quant(glm4v_pack_fp8_avx2);
decl_pack_codes(glm4v_pack_codes_int8_c);
decl_pack_codes(glm4v_pack_codes_int4_c);
decl_pack_codes(glm4v_pack_codes_fp8_c);
decl_pack_words(glm4v_pack_words_int4_c);
decl_pack_codes(glm4v_pack_codes_int8_avx2);
decl_pack_codes(glm4v_pack_codes_int4_avx2);
decl_pack_codes(glm4v_pack_codes_fp8_avx2);
decl_pack_words(glm4v_pack_words_int4_avx2);
decl_pack_codes(glm4v_pack_codes_int8_avx512);
decl_pack_codes(glm4v_pack_codes_fp8_avx512);
decl_pack_words(glm4v_pack_words_int4_avx512);

#endif
