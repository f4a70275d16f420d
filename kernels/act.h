/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Element-wise operations.
 *   silu_mul  y = gate / (1 + exp(-gate)) * up       SwiGLU, arXiv:2002.05202
 *   gelu      y = 0.5 x (1 + erf(x / sqrt 2))        GELU, arXiv:1606.08415, the exact form
 *   add       y = y + x
 *   scale     y = factor * y
 * Error of the vector forms: silu_mul <= 5, gelu <= 7 units in the last place, for negative
 * arguments as well (no cancellation in 1 + erf), down to results near the smallest normal number.
 * NaN stays NaN, +inf gives +inf, -inf gives NaN, as the formulas do in floating point.
 * All f32 [n], n >= 0, any alignment. y may be any one of the inputs, no other overlap. */
#ifndef GLM4V_KERNELS_ACT_H
#define GLM4V_KERNELS_ACT_H

#include <stddef.h>

#define decl_silu_mul(name) void(name)(float *y, const float *gate, const float *up, size_t n)
#define decl_gelu(name) void(name)(float *y, const float *x, size_t n)
#define decl_add(name) void(name)(float *y, const float *x, size_t n)
#define decl_scale(name) void(name)(float *y, float factor, size_t n)

typedef decl_silu_mul(*glm4v_silu_mul_fn);
typedef decl_gelu(*glm4v_gelu_fn);
typedef decl_add(*glm4v_add_fn);
typedef decl_scale(*glm4v_scale_fn);

typedef struct {
    glm4v_silu_mul_fn silu_mul;
    glm4v_gelu_fn gelu;
    glm4v_add_fn add;
    glm4v_scale_fn scale;
} glm4v_act_ops;

void glm4v_act_ops_init(glm4v_act_ops *ops, unsigned cpu);

decl_silu_mul(glm4v_silu_mul_c);
decl_silu_mul(glm4v_silu_mul_avx2);
decl_silu_mul(glm4v_silu_mul_avx512);
decl_gelu(glm4v_gelu_c);
decl_gelu(glm4v_gelu_avx2);
decl_gelu(glm4v_gelu_avx512);
decl_add(glm4v_add_c);
decl_add(glm4v_add_avx2);
decl_scale(glm4v_scale_c);
decl_scale(glm4v_scale_avx2);

#endif
