/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rotary embedding, the reference: both layouts are one rotation with different distances. */
#include "rope.h"

#include <assert.h>

/* Rotate pairs (x[i * step], x[i * step + distance]) of every head. */
static void rotate(float *x, const float *cos, const float *sin, int64_t heads, int64_t head_dim,
                   int64_t n_freq, int64_t step, int64_t distance)
{
    assert(heads >= 1 && n_freq >= 1 && 2 * n_freq <= head_dim);
    for (int64_t h = 0; h < heads; h++, x += head_dim) {
        for (int64_t i = 0; i < n_freq; i++) {
            double a = x[i * step], b = x[i * step + distance];
            x[i * step] = (float)(a * cos[i] - b * sin[i]);
            x[i * step + distance] = (float)(b * cos[i] + a * sin[i]);
        }
    }
}

void glm4v_rope_interleaved_c(float *x, const float *cos, const float *sin, int64_t heads,
                              int64_t head_dim, int64_t n_freq)
{
    rotate(x, cos, sin, heads, head_dim, n_freq, 2, 1);
}

void glm4v_rope_half_c(float *x, const float *cos, const float *sin, int64_t heads,
                       int64_t head_dim, int64_t n_freq)
{
    rotate(x, cos, sin, heads, head_dim, n_freq, 1, n_freq);
}
