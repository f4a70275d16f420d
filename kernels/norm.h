/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Normalisation of one row.
 *   rms_norm    y = w * x / sqrt(mean(x^2) + eps)                RMSNorm, arXiv:1910.07467
 *   layer_norm  y = w * (x - mean) / sqrt(var + eps) + bias      LayerNorm, arXiv:1607.06450
 *               with var = mean((x - mean)^2)
 * add: the result is added to what y holds.
 * Squares are summed in fp32 by the vector forms: magnitudes beyond 1e17 overflow there (the C
 * forms sum in double). x, w, bias, y: f32 [n], n >= 1, any alignment. y may be x (then add means x
 * + norm(x)), nothing else overlaps. */
#ifndef GLM4V_KERNELS_NORM_H
#define GLM4V_KERNELS_NORM_H

#include <stdbool.h>
#include <stdint.h>

#define decl_rms_norm(name)                                                                        \
    void(name)(float *y, const float *x, const float *w, int64_t n, float eps, bool add)
#define decl_layer_norm(name)                                                                      \
    void(name)(float *y, const float *x, const float *w, const float *bias, int64_t n, float eps,  \
               bool add)

typedef decl_rms_norm(*glm4v_rms_norm_fn);
typedef decl_layer_norm(*glm4v_layer_norm_fn);

typedef struct {
    glm4v_rms_norm_fn rms_norm;
    glm4v_layer_norm_fn layer_norm;
} glm4v_norm_ops;

void glm4v_norm_ops_init(glm4v_norm_ops *ops, unsigned cpu);

decl_rms_norm(glm4v_rms_norm_c);
decl_rms_norm(glm4v_rms_norm_avx2);
decl_rms_norm(glm4v_rms_norm_avx512);
decl_layer_norm(glm4v_layer_norm_c);
decl_layer_norm(glm4v_layer_norm_avx2);
decl_layer_norm(glm4v_layer_norm_avx512);

#endif
