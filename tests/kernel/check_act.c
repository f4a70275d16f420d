/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/act.h */
#include <string.h>

#include "tolerance.h"

enum { A, B, Y_REF, Y_OPS };

static float *at(struct check *t, int slot)
{
    return (float *)t->slot[slot].data;
}

static void fill_inputs(struct check *t, int n, enum fill kind)
{
    check_fill(t, check_buf(t, A, n * sizeof(float)), n, kind);
    check_fill(t, check_buf(t, B, n * sizeof(float)), n, FILL_PEAKY);
    check_fill(t, check_buf(t, Y_REF, n * sizeof(float)), n, FILL_NORMAL);
    memcpy(check_buf(t, Y_OPS, n * sizeof(float)), t->slot[Y_REF].data, n * sizeof(float));
    check_input(t, A);
    check_input(t, B);
}

/* Every sixteenth part of a unit between -110 and 110, where exponentials overflow, underflow and
 * come back as denormals. */
static int fill_sweep(struct check *t)
{
    enum { N = 110 * 2 * 16 + 1 };
    fill_inputs(t, N, FILL_NORMAL);
    t->slot[A].input = false;
    for (int i = 0; i < N; i++)
        at(t, A)[i] = (float)(i - N / 2) / 16;
    check_input(t, A);
    return N;
}

static void compare(struct check *t, int n, struct tolerance tolerance, const char *what)
{
    check_close(t, at(t, Y_OPS), at(t, Y_REF), n, tolerance, "%s, n %d", what, n);
    check_guards(t, "%s, n %d", what, n);
}

static void silu_mul_case(struct check *t, int n, const char *what)
{
    t->ref.act.silu_mul(at(t, Y_REF), at(t, A), at(t, B), n);
    t->ops.act.silu_mul(at(t, Y_OPS), at(t, A), at(t, B), n);
    compare(t, n, TOL_SILU_MUL, what);
    memcpy(at(t, Y_OPS), at(t, A), n * sizeof(float));
    t->ops.act.silu_mul(at(t, Y_OPS), at(t, Y_OPS), at(t, B), n);
    compare(t, n, TOL_SILU_MUL, "in place");
}

static void gelu_case(struct check *t, int n, const char *what)
{
    t->ref.act.gelu(at(t, Y_REF), at(t, A), n);
    t->ops.act.gelu(at(t, Y_OPS), at(t, A), n);
    compare(t, n, TOL_GELU, what);
    memcpy(at(t, Y_OPS), at(t, A), n * sizeof(float));
    t->ops.act.gelu(at(t, Y_OPS), at(t, Y_OPS), n);
    compare(t, n, TOL_GELU, "in place");
}

static void add_case(struct check *t, int n, const char *what)
{
    t->ref.act.add(at(t, Y_REF), at(t, A), n);
    t->ops.act.add(at(t, Y_OPS), at(t, A), n);
    compare(t, n, TOL_ADD, what);
}

static void scale_case(struct check *t, int n, const char *what)
{
    memcpy(at(t, Y_REF), at(t, A), n * sizeof(float));
    memcpy(at(t, Y_OPS), at(t, A), n * sizeof(float));
    t->ref.act.scale(at(t, Y_REF), 0.3f, n);
    t->ops.act.scale(at(t, Y_OPS), 0.3f, n);
    compare(t, n, TOL_ADD, what);
}

static void all_cases(struct check *t, void (*run)(struct check *t, int n, const char *what))
{
    for (int n = 1; n; n = next_size(n, 1100)) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            fill_inputs(t, n, kind);
            run(t, n, fill_name(kind));
        }
    }
    run(t, fill_sweep(t), "sweep");
    fill_inputs(t, 16384, FILL_NORMAL);
}

void check_act(struct check *t)
{
    const glm4v_act_ops *ops = &t->ops.act;

    if (check_pair(t, act, silu_mul, "silu_mul")) {
        all_cases(t, silu_mul_case);
        BENCH(t, "n 16384", 3 * 16384 * 4, 0, 0,
              ops->silu_mul(at(t, Y_OPS), at(t, A), at(t, B), 16384));
        check_end(t);
    }
    if (check_pair(t, act, gelu, "gelu")) {
        all_cases(t, gelu_case);
        BENCH(t, "n 16384", 2 * 16384 * 4, 0, 0, ops->gelu(at(t, Y_OPS), at(t, A), 16384));
        check_end(t);
    }
    if (check_pair(t, act, add, "add")) {
        all_cases(t, add_case);
        BENCH(t, "n 16384", 3 * 16384 * 4, 0, 0, ops->add(at(t, Y_OPS), at(t, A), 16384));
        check_end(t);
    }
    if (check_pair(t, act, scale, "scale")) {
        all_cases(t, scale_case);
        BENCH(t, "n 16384", 2 * 16384 * 4, 0, 0, ops->scale(at(t, Y_OPS), 1, 16384));
        check_end(t);
    }
}
