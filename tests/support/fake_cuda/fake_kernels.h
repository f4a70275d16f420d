/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the launchers on the CPU share. */
#ifndef GLM4V_FAKE_KERNELS_H
#define GLM4V_FAKE_KERNELS_H

#include "cuda/product.h"
#include "fake_cuda.h"

/* bytes of memory; ends the program without. */
void *fake_room(size_t bytes);
/* n activations as f32, in memory of their own. */
float *fake_wide(const glm4v_bf16 *x, int64_t n);
float fake_get(const glm4v_bf16 *x);
/* *y = x, or with add *y += x. */
void fake_put(glm4v_bf16 *y, float x, bool add);

/* fake_products.c */
/* What the sum stands for. */
float fake_number_of(const glm4v_cuda_sums *s, int64_t row, int64_t n);
void fake_set_rounded(glm4v_cuda_rounded *out, const glm4v_cuda_matrix *w);
void fake_round_row(const glm4v_cuda_rounded *out, const glm4v_cuda_matrix *w, int64_t row,
                    const float *x);

#endif
