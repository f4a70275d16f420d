/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention, the reference: one row at a time, scores in scratch, sums in double. */
#include "attention.h"

#include <assert.h>
#include <math.h>

/* s [n] = exp(s - max), in place; returns their sum. */
static double exponentials(float *s, int64_t n)
{
    double max = s[0], sum = 0;
    for (int64_t j = 1; j < n; j++)
        if (!(s[j] <= max))
            max = s[j];
    for (int64_t j = 0; j < n; j++) {
        s[j] = (float)exp(s[j] - max);
        sum += s[j];
    }
    return sum;
}

static void attend_row(const glm4v_attention_args *a, int64_t r)
{
    const float *q = a->q[r];
    float *o = a->o[r], *s = a->scratch;
    int64_t n = a->n_keys[r];

    assert(n >= 1);
    for (int64_t j = 0; j < n; j++) {
        double dot = 0;
        for (int64_t d = 0; d < a->head_dim; d++)
            dot += (double)q[d] * glm4v_attention_element(a->k, j * a->ldk + d, a->bf16);
        s[j] = (float)(dot * a->scale);
    }
    double sum = exponentials(s, n);
    for (int64_t d = 0; d < a->head_dim; d++) {
        double value = 0;
        for (int64_t j = 0; j < n; j++)
            value += (double)s[j] * glm4v_attention_element(a->v, j * a->ldv + d, a->bf16);
        o[d] = (float)(value / sum);
    }
}

void glm4v_attention_c(const glm4v_attention_args *a)
{
    assert(a->rows >= 1 && a->head_dim >= 1);
    for (int64_t r = 0; r < a->rows; r++)
        attend_row(a, r);
}
