/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows from one number form to another. Narrowing rounds to nearest, ties to even; NaN stays a
 * quiet NaN, beyond the range becomes infinity. All of these give the same bits at every level,
 * denormals included.
 *   f32_to_bf16, f32_to_f16, bf16_to_f32, f16_to_f32   n values, n >= 0
 *   f32_to_int8   one row of a table: *scale = max|x| / 127, q = round(x * (127 / max|x|)) in
 *                 [-127, 127] A row whose largest magnitude is below GLM4V_QUANT_MIN counts as zero
 *                 (scale 0, q 0): 127 /
 * max would
 *                 overflow. A row holding NaN or infinity gets scale NaN and q 0, so that it reads
 *                 back as NaN.
 *   f32_to_fp8    the same for *scale = max|x| / 448, q = x * (448 / max|x|) to the nearest e4m3
 *   int8_to_f32   y = scale * q
 *   e4m3          8 bits, sign, 4 of exponent (bias 7), 3 of fraction; no infinities, 0x7f and 0xff
 *                 NaN. Narrowing saturates at 448, NaN too
 * Any alignment, no overlap. */
#ifndef GLM4V_KERNELS_CONVERT_H
#define GLM4V_KERNELS_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GLM4V_QUANT_MIN 0x1p-100f

#define decl_narrow16(name) void(name)(uint16_t * y, const float *x, size_t n)
#define decl_widen16(name) void(name)(float *y, const uint16_t *x, size_t n)
#define decl_f32_to_int8(name) void(name)(int8_t * q, float *scale, const float *x, size_t n)
#define decl_f32_to_fp8(name) void(name)(uint8_t * q, float *scale, const float *x, size_t n)
#define decl_int8_to_f32(name) void(name)(float *y, const int8_t *q, float scale, size_t n)

typedef decl_narrow16(*glm4v_narrow16_fn);
typedef decl_widen16(*glm4v_widen16_fn);
typedef decl_f32_to_int8(*glm4v_f32_to_int8_fn);
typedef decl_f32_to_fp8(*glm4v_f32_to_fp8_fn);
typedef decl_int8_to_f32(*glm4v_int8_to_f32_fn);

typedef struct {
    glm4v_narrow16_fn f32_to_bf16, f32_to_f16;
    glm4v_widen16_fn bf16_to_f32, f16_to_f32;
    glm4v_f32_to_int8_fn f32_to_int8;
    glm4v_f32_to_fp8_fn f32_to_fp8;
    glm4v_int8_to_f32_fn int8_to_f32;
} glm4v_convert_ops;

void glm4v_convert_ops_init(glm4v_convert_ops *ops, unsigned cpu);

/* For the C forms that quantize, here and in pack.c: scale = max / 127 of a row, and one value
 * rounded. max is 0 where the row counts as zero and where the scale is NaN. */
float glm4v_row_scale(float *max, const float *x, size_t n);
int glm4v_round_int8(float x, float max);

/* Whether any of n codes is NaN; whether none of n numbers is NaN or infinite. Loops that the
 * compiler turns into vectors of the least level. */
bool glm4v_has_nan_e4m3(const uint8_t *e4m3, size_t n);
bool glm4v_all_finite(const float *x, size_t n);
bool glm4v_all_finite_bf16(const uint16_t *x, size_t n);

/* One value; for the C forms, and where few are needed. */
uint8_t glm4v_f32_to_e4m3(float x);
float glm4v_e4m3_to_f32(uint8_t e4m3);

decl_narrow16(glm4v_f32_to_bf16_c);
decl_narrow16(glm4v_f32_to_bf16_avx2);
decl_narrow16(glm4v_f32_to_f16_c);
decl_narrow16(glm4v_f32_to_f16_avx2);
decl_widen16(glm4v_bf16_to_f32_c);
decl_widen16(glm4v_bf16_to_f32_avx2);
decl_widen16(glm4v_f16_to_f32_c);
decl_widen16(glm4v_f16_to_f32_avx2);
decl_f32_to_int8(glm4v_f32_to_int8_c);
decl_f32_to_int8(glm4v_f32_to_int8_avx2);
decl_f32_to_fp8(glm4v_f32_to_fp8_c);
decl_f32_to_fp8(glm4v_f32_to_fp8_avx2);
decl_int8_to_f32(glm4v_int8_to_f32_c);
decl_int8_to_f32(glm4v_int8_to_f32_avx2);

#endif
