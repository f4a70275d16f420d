/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/norm.h */
#include <string.h>

#include "tolerance.h"

enum { X, W, BIAS, Y_REF, Y_OPS };

static void fill_inputs(struct check *t, int n, enum fill kind)
{
    check_fill(t, check_buf(t, X, n * sizeof(float)), n, kind);
    check_fill(t, check_buf(t, W, n * sizeof(float)), n, FILL_NORMAL);
    check_fill(t, check_buf(t, BIAS, n * sizeof(float)), n, FILL_NORMAL);
    check_fill(t, check_buf(t, Y_REF, n * sizeof(float)), n, FILL_NORMAL);
    memcpy(check_buf(t, Y_OPS, n * sizeof(float)), t->slot[Y_REF].data, n * sizeof(float));
    for (int slot = X; slot <= BIAS; slot++)
        check_input(t, slot);
}

static float *at(struct check *t, int slot)
{
    return (float *)t->slot[slot].data;
}

static void rms_norm_case(struct check *t, int n, enum fill kind)
{
    for (int add = 0; add < 2; add++) {
        fill_inputs(t, n, kind);
        t->ref.norm.rms_norm(at(t, Y_REF), at(t, X), at(t, W), n, 1e-5f, add);
        t->ops.norm.rms_norm(at(t, Y_OPS), at(t, X), at(t, W), n, 1e-5f, add);
        struct tolerance tolerance = TOL_RMS_NORM;
        if (add) /* the sum may cancel: relative to its parts, which are below 6 */
            tolerance.tiny = 1e-6;
        check_close(t, at(t, Y_OPS), at(t, Y_REF), n, tolerance, "%s, n %d, add %d",
                    fill_name(kind), n, add);
        check_guards(t, "%s, n %d", fill_name(kind), n);
        memcpy(at(t, Y_OPS), at(t, X), n * sizeof(float)); /* y may be x */
        t->ops.norm.rms_norm(at(t, Y_OPS), at(t, Y_OPS), at(t, W), n, 1e-5f, false);
        t->ref.norm.rms_norm(at(t, Y_REF), at(t, X), at(t, W), n, 1e-5f, false);
        check_close(t, at(t, Y_OPS), at(t, Y_REF), n, TOL_RMS_NORM, "in place, %s, n %d",
                    fill_name(kind), n);
    }
}

static void check_rms_norm(struct check *t)
{
    if (!check_pair(t, norm, rms_norm, "rms_norm"))
        return;
    for (int n = 1; n; n = next_size(n, 8192))
        for (int kind = 0; kind < FILL_KINDS; kind++)
            rms_norm_case(t, n, kind);
    fill_inputs(t, 4096, FILL_NORMAL);
    BENCH(t, "n 4096", 3 * 4096 * 4, 0, 0,
          t->ops.norm.rms_norm(at(t, Y_OPS), at(t, X), at(t, W), 4096, 1e-5f, false));
    check_end(t);
}

/* Largest magnitude over standard deviation: what x - mean loses by cancellation. */
static double condition(const float *x, int n)
{
    double mean = 0, square = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        mean += (double)x[i] / n;
        square += (double)x[i] * x[i] / n;
        largest = fmax(largest, fabs(x[i]));
    }
    return largest / sqrt(fmax(square - mean * mean, 1e-12 * square) + 1e-6);
}

static void layer_norm_case(struct check *t, int n, enum fill kind)
{
    for (int add = 0; add < 2; add++) {
        struct tolerance tolerance = TOL_LAYER_NORM;
        fill_inputs(t, n, kind);
        double lost = condition(at(t, X), n) * 0x1p-22;
        if (isfinite(lost)) {
            tolerance.nmse += lost * lost;
            tolerance.max += lost;
        }
        if (add) /* the sum may cancel: relative to its parts */
            tolerance.tiny = 1e-6;
        t->ref.norm.layer_norm(at(t, Y_REF), at(t, X), at(t, W), at(t, BIAS), n, 1e-6f, add);
        t->ops.norm.layer_norm(at(t, Y_OPS), at(t, X), at(t, W), at(t, BIAS), n, 1e-6f, add);
        check_close(t, at(t, Y_OPS), at(t, Y_REF), n, tolerance, "%s, n %d, add %d",
                    fill_name(kind), n, add);
        check_guards(t, "%s, n %d", fill_name(kind), n);
        memcpy(at(t, Y_OPS), at(t, X), n * sizeof(float)); /* y may be x */
        memcpy(at(t, Y_REF), at(t, X), n * sizeof(float));
        t->ref.norm.layer_norm(at(t, Y_REF), at(t, X), at(t, W), at(t, BIAS), n, 1e-6f, add);
        t->ops.norm.layer_norm(at(t, Y_OPS), at(t, Y_OPS), at(t, W), at(t, BIAS), n, 1e-6f, add);
        check_close(t, at(t, Y_OPS), at(t, Y_REF), n, tolerance, "in place, %s, n %d, add %d",
                    fill_name(kind), n, add);
    }
}

static void check_layer_norm(struct check *t)
{
    if (!check_pair(t, norm, layer_norm, "layer_norm"))
        return;
    for (int n = 1; n; n = next_size(n, 8192))
        for (int kind = 0; kind < FILL_KINDS; kind++)
            layer_norm_case(t, n, kind);
    fill_inputs(t, 4096, FILL_NORMAL);
    BENCH(
        t, "n 4096", 4 * 4096 * 4, 0, 0,
        t->ops.norm.layer_norm(at(t, Y_OPS), at(t, X), at(t, W), at(t, BIAS), 4096, 1e-6f, false));
    check_end(t);
}

void check_norm(struct check *t)
{
    check_rms_norm(t);
    check_layer_norm(t);
}
