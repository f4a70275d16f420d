/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rotary position embedding of one row of heads, in place. RoPE, arXiv:2104.09864.
 *   interleaved  (x[2i], x[2i+1]) <- (x[2i] c - x[2i+1] s, x[2i+1] c + x[2i] s)
 *   half         (x[i], x[i+n_freq]) <- (x[i] c - x[i+n_freq] s, x[i+n_freq] c + x[i] s)
 * for i < n_freq, c = cos[i], s = sin[i]. Values of a head from 2 n_freq on pass unchanged. x: f32
 * [heads][head_dim], heads >= 1, 1 <= 2 n_freq <= head_dim. cos, sin: f32 [n_freq], the same for
 * all heads. */
#ifndef GLM4V_KERNELS_ROPE_H
#define GLM4V_KERNELS_ROPE_H

#include <stdint.h>

#define decl_rope(name)                                                                            \
    void(name)(float *x, const float *cos, const float *sin, int64_t heads, int64_t head_dim,      \
               int64_t n_freq)

typedef decl_rope(*glm4v_rope_fn);

typedef struct {
    glm4v_rope_fn interleaved, half;
} glm4v_rope_ops;

void glm4v_rope_ops_init(glm4v_rope_ops *ops, unsigned cpu);

decl_rope(glm4v_rope_interleaved_c);
decl_rope(glm4v_rope_interleaved_avx2);
decl_rope(glm4v_rope_half_c);
decl_rope(glm4v_rope_half_avx2);

#endif
