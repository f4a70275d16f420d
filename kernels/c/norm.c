/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Normalisation, the reference: the formulas of norm.h with sums in double. */
#include "norm.h"

#include <assert.h>
#include <math.h>

void glm4v_rms_norm_c(float *y, const float *x, const float *w, int64_t n, float eps, bool add)
{
    double sum = 0;

    assert(n >= 1);
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    double scale = 1 / sqrt(sum / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * scale * w[i] + (add ? y[i] : 0));
}

void glm4v_layer_norm_c(float *y, const float *x, const float *w, const float *bias, int64_t n,
                        float eps, bool add)
{
    double mean = 0, var = 0;

    assert(n >= 1);
    for (int64_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(var / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * scale * w[i] + bias[i] + (add ? y[i] : 0));
}
