/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/convert.h: bits, not tolerances. */
#include <string.h>

#include "tolerance.h"

enum { X, Y_REF, Y_OPS };

static void check_narrow(struct check *t, glm4v_narrow16_fn ref, glm4v_narrow16_fn ops)
{
    for (int n = 1; n; n = next_size(n, 520)) {
        for (int kind = 0; kind <= FILL_KINDS; kind++) {
            float *x = check_buf(t, X, n * sizeof *x);
            uint16_t *a = check_buf(t, Y_REF, n * sizeof *a),
                     *b = check_buf(t, Y_OPS, n * sizeof *b);
            if (kind < FILL_KINDS)
                check_fill(t, x, n, kind);
            for (int i = 0; kind == FILL_KINDS && i < n;
                 i++) { /* any bits; half of them ties of bf16 or f16 */
                uint32_t bits = (uint32_t)check_random(t), tie = bits & 1 ? 0x8000 : 0x1000;
                if (bits & 2)
                    bits = (bits & ~(2 * tie - 1)) | tie;
                memcpy(&x[i], &bits, sizeof bits);
            }
            check_input(t, X);
            ref(a, x, n);
            ops(b, x, n);
            check_bytes(t, b, a, n * sizeof *a, "kind %d, n %d", kind, n);
            check_guards(t, "kind %d, n %d", kind, n);
        }
    }
    float *x = check_buf(t, X, 4096 * sizeof *x);
    uint16_t *y = check_buf(t, Y_OPS, 4096 * sizeof *y);
    check_fill(t, x, 4096, FILL_NORMAL);
    BENCH(t, "n 4096", 4096 * 6, 0, 0, ops(y, x, 4096));
    check_end(t);
}

static void check_widen(struct check *t, glm4v_widen16_fn ref, glm4v_widen16_fn ops)
{
    uint16_t *all = check_buf(t, X, 65536 * sizeof *all);
    float *a = check_buf(t, Y_REF, 65536 * sizeof *a), *b = check_buf(t, Y_OPS, 65536 * sizeof *b);
    for (int i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    ref(a, all, 65536);
    ops(b, all, 65536);
    check_bytes(t, b, a, 65536 * sizeof *a, "all values");
    for (int n = 1; n; n = next_size(n, 520)) {
        uint16_t *x = check_buf(t, X, n * sizeof *x);
        a = check_buf(t, Y_REF, n * sizeof *a);
        b = check_buf(t, Y_OPS, n * sizeof *b);
        for (int i = 0; i < n; i++)
            x[i] = (uint16_t)check_random(t);
        check_input(t, X);
        ref(a, x, n);
        ops(b, x, n);
        check_bytes(t, b, a, n * sizeof *a, "n %d", n);
        check_guards(t, "n %d", n);
    }
    all = check_buf(t, X, 4096 * sizeof *all);
    b = check_buf(t, Y_OPS, 4096 * sizeof *b);
    memset(all, 0, 4096 * sizeof *all);
    BENCH(t, "n 4096", 4096 * 6, 0, 0, ops(b, all, 4096));
    check_end(t);
}

static void check_int8(struct check *t)
{
    if (!check_pair(t, convert, f32_to_int8, "f32_to_int8"))
        return;
    for (int n = 1; n; n = next_size(n, 520)) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            float *x = check_buf(t, X, n * sizeof *x), scale[2];
            int8_t *a = check_buf(t, Y_REF, n), *b = check_buf(t, Y_OPS, n);
            check_fill(t, x, n, kind);
            check_input(t, X);
            t->ref.convert.f32_to_int8(a, &scale[0], x, n);
            t->ops.convert.f32_to_int8(b, &scale[1], x, n);
            check_bytes(t, b, a, n, "%s, n %d", fill_name(kind), n);
            check_close(t, &scale[1], &scale[0], 1, (struct tolerance) { 0 }, "scale, %s, n %d",
                        fill_name(kind), n);
            check_guards(t, "%s, n %d", fill_name(kind), n);
        }
    }
    check_end(t);
}

static void check_fp8(struct check *t)
{
    if (!check_pair(t, convert, f32_to_fp8, "f32_to_fp8"))
        return;
    for (int n = 1; n; n = next_size(n, 520)) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            float *x = check_buf(t, X, n * sizeof *x), scale[2];
            uint8_t *a = check_buf(t, Y_REF, n), *b = check_buf(t, Y_OPS, n);
            check_fill(t, x, n, kind);
            for (int i = 0; kind == FILL_NORMAL && i < n; i += 2) /* all exponents */
                x[i] *= ldexpf(1, -(int)(check_random(t) % 20));
            check_input(t, X);
            t->ref.convert.f32_to_fp8(a, &scale[0], x, n);
            t->ops.convert.f32_to_fp8(b, &scale[1], x, n);
            check_bytes(t, b, a, n, "%s, n %d", fill_name(kind), n);
            check_close(t, &scale[1], &scale[0], 1, (struct tolerance) { 0 }, "scale, %s, n %d",
                        fill_name(kind), n);
            check_guards(t, "%s, n %d", fill_name(kind), n);
        }
    }
    check_end(t);
}

static void check_int8_to_f32(struct check *t)
{
    if (!check_pair(t, convert, int8_to_f32, "int8_to_f32"))
        return;
    for (int n = 1; n; n = next_size(n, 520)) {
        int8_t *q = check_buf(t, X, n);
        float *a = check_buf(t, Y_REF, n * sizeof *a), *b = check_buf(t, Y_OPS, n * sizeof *b);
        for (int i = 0; i < n; i++)
            q[i] = (int8_t)check_random(t);
        check_input(t, X);
        t->ref.convert.int8_to_f32(a, q, 0.37f, n);
        t->ops.convert.int8_to_f32(b, q, 0.37f, n);
        check_bytes(t, b, a, n * sizeof *a, "n %d", n);
        check_guards(t, "n %d", n);
    }
    check_end(t);
}

void check_convert(struct check *t)
{
    const glm4v_convert_ops *ref = &t->ref.convert, *ops = &t->ops.convert;

    if (check_pair(t, convert, f32_to_bf16, "f32_to_bf16"))
        check_narrow(t, ref->f32_to_bf16, ops->f32_to_bf16);
    if (check_pair(t, convert, f32_to_f16, "f32_to_f16"))
        check_narrow(t, ref->f32_to_f16, ops->f32_to_f16);
    if (check_pair(t, convert, bf16_to_f32, "bf16_to_f32"))
        check_widen(t, ref->bf16_to_f32, ops->bf16_to_f32);
    if (check_pair(t, convert, f16_to_f32, "f16_to_f32"))
        check_widen(t, ref->f16_to_f32, ops->f16_to_f32);
    check_int8(t);
    check_fp8(t);
    check_int8_to_f32(t);
}
