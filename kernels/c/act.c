/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Element-wise operations, the reference, in double. */
#include "act.h"

#include <math.h>

void glm4v_silu_mul_c(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(gate[i] / (1 + exp(-(double)gate[i])) * up[i]);
}

void glm4v_gelu_c(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] =
            (float)(0.5 * x[i] * erfc(-x[i] * 0.70710678118654752440)); /* erfc(-z) = 1 + erf(z) */
}

void glm4v_add_c(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void glm4v_scale_c(float *y, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] *= factor;
}
