/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/rope.h */
#include <stdio.h>
#include <string.h>

#include "tolerance.h"

enum { X_REF, X_OPS, COS, SIN };

static void fill_inputs(struct check *t, int heads, int head_dim, int n_freq, enum fill kind)
{
    size_t n = (size_t)heads * head_dim;
    float *c = check_buf(t, COS, n_freq * sizeof *c), *s = check_buf(t, SIN, n_freq * sizeof *s);
    check_fill(t, check_buf(t, X_REF, n * sizeof(float)), n, kind);
    memcpy(check_buf(t, X_OPS, n * sizeof(float)), t->slot[X_REF].data, n * sizeof(float));
    for (int i = 0; i < n_freq; i++) {
        float angle = check_gauss(t);
        c[i] = cosf(angle);
        s[i] = sinf(angle);
    }
    check_input(t, COS);
    check_input(t, SIN);
}

static void check_style(struct check *t, glm4v_rope_fn ref, glm4v_rope_fn ops)
{
    static const int shapes[][3] = {
        /* heads, head_dim, n_freq */
        { 1, 2, 1 },    { 3, 7, 3 },     { 2, 16, 8 },   { 1, 17, 8 },  { 2, 64, 32 },
        { 4, 128, 32 }, { 12, 128, 64 }, { 3, 112, 56 }, { 2, 80, 13 }, { 2, 90, 45 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *n = shapes[i];
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            fill_inputs(t, n[0], n[1], n[2], kind);
            float *a = (float *)t->slot[X_REF].data, *b = (float *)t->slot[X_OPS].data;
            ref(a, (float *)t->slot[COS].data, (float *)t->slot[SIN].data, n[0], n[1], n[2]);
            ops(b, (float *)t->slot[COS].data, (float *)t->slot[SIN].data, n[0], n[1], n[2]);
            struct tolerance tolerance = TOL_ROPE;
            tolerance.tiny = 0x1p-148; /* two roundings of a denormal */
            check_close(t, b, a, (size_t)n[0] * n[1], tolerance, "%s, %d x %d, %d pairs",
                        fill_name(kind), n[0], n[1], n[2]);
            check_guards(t, "%s, %d x %d, %d pairs", fill_name(kind), n[0], n[1], n[2]);
        }
    }
    fill_inputs(t, 12, 128, 64, FILL_NORMAL);
    float *x = (float *)t->slot[X_OPS].data;
    BENCH(t, "12 x 128", 2 * 12 * 128 * 4, 0, 0,
          ops(x, (float *)t->slot[COS].data, (float *)t->slot[SIN].data, 12, 128, 64));
    check_end(t);
}

void check_rope(struct check *t)
{
    if (check_pair(t, rope, interleaved, "rope_interleaved"))
        check_style(t, t->ref.rope.interleaved, t->ops.rope.interleaved);
    if (check_pair(t, rope, half, "rope_half"))
        check_style(t, t->ref.rope.half, t->ops.rope.half);
}
