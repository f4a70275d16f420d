/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/gemm.h: the products and the rounding of activations. Weights and activations are
 * prepared by the C forms, so that both forms under comparison read the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tolerance.h"

enum form { F32, BF16, FP8, FP8_BLOCKS, FP8_DYNAMIC, INT8, INT4, INT4_ZERO, INT4_32, INT4_32_ZERO };
enum { X, X_SCALE, X_SUM, W, W_SCALE, W_ZERO, BIAS, Y_REF, Y_OPS, RAW };

struct problem {
    enum form form;
    int T, K, N;
    glm4v_gemm_args args; /* y points to Y_OPS, ldy = N + 3 */
};

static int round_up(int n, int unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Bytes of an activation, and to what count of them rows are filled up. */
static int element(enum form form)
{
    return form == F32 ? 4 : form < INT8 ? 2 : 1;
}

/* Inputs of a group of activations, and of scales where there are such. */
static int group_of(enum form form)
{
    return form >= INT4_32 ? 32 : 128;
}

static int unit_of(enum form form)
{
    return form == F32 ? 1 : form < INT8 ? 2 : group_of(form);
}

static int count_groups(enum form form, int K)
{
    if (form == FP8_DYNAMIC)
        return 1;
    return (K + group_of(form) - 1) / group_of(form);
}

static void make_activations(struct check *t, struct problem *p, enum fill kind)
{
    int groups = count_groups(p->form, p->K), unit = unit_of(p->form);
    glm4v_quantize_row_fn quantize =
        p->form >= INT4_32 ? glm4v_quantize_row_32_c : glm4v_quantize_row_c;
    int ldx = round_up(p->K, unit) + (p->form == F32 ? 5 : 0), size = element(p->form);
    size_t last = (size_t)(p->T - 1) * ldx;
    float *raw = check_buf(t, RAW, (size_t)p->K * sizeof *raw);
    char *x = check_buf(t, X, (last + round_up(p->K, unit)) * size);
    float *scale = check_buf(t, X_SCALE, (size_t)p->T * groups * sizeof *scale);
    int32_t *sum = check_buf(t, X_SUM, (size_t)p->T * groups * sizeof *sum);

    for (int i = 0; i < p->T; i++) {
        check_fill(t, raw, p->K, kind >= FILL_NAN && i != p->T / 2 ? FILL_PEAKY : kind);
        if (p->form == F32)
            memcpy(x + (size_t)i * ldx * 4, raw, p->K * sizeof *raw);
        else if (p->form == FP8_DYNAMIC)
            glm4v_fp8_row_c((uint16_t *)(x + (size_t)i * ldx * 2), scale + i, raw, p->K);
        else if (p->form < INT8)
            glm4v_bf16_row_c((uint16_t *)(x + (size_t)i * ldx * 2), raw, p->K);
        else
            quantize((int8_t *)x + (size_t)i * ldx, scale + i * groups, sum + i * groups, raw,
                     p->K);
    }
    p->args.x = x;
    p->args.ldx = ldx;
    p->args.x_scale = p->form >= FP8_DYNAMIC ? scale : NULL;
    p->args.x_sum = p->form >= INT8 ? sum : NULL;
}

static size_t panel_bytes(enum form form, int K)
{
    return form == F32    ? glm4v_panel_bytes_f32(K)
           : form == BF16 ? glm4v_panel_bytes_bf16(K)
           : form < INT8  ? glm4v_panel_bytes_fp8(K)
           : form == INT8 ? glm4v_panel_bytes_int8(K)
                          : glm4v_panel_bytes_int4(K);
}

static void pack_panel(enum form form, char *panel, float *scale, const float *w, int n, int K)
{
    if (form == F32)
        glm4v_pack_f32_c((float *)panel, w, K, n, K);
    else if (form == BF16)
        glm4v_pack_bf16_c((uint16_t *)panel, w, K, n, K);
    else if (form < INT8)
        glm4v_pack_fp8_c((uint8_t *)panel, scale, w, K, n, K);
    else if (form == INT8)
        glm4v_pack_int8_c((uint8_t *)panel, scale, w, K, n, K);
    else if (form < INT4_32)
        glm4v_pack_int4_c((uint8_t *)panel, scale, w, K, n, K);
    else
        glm4v_pack_int4_32_c((uint8_t *)panel, scale, w, K, n, K);
}

static void make_weights(struct check *t, struct problem *p)
{
    int64_t panels = glm4v_panel_count(p->N), groups = count_groups(p->form, p->K);
    size_t bytes = panel_bytes(p->form, p->K);
    bool per_group = p->form >= INT4 || p->form == FP8_BLOCKS;
    size_t scales = per_group ? (size_t)groups * 16 : 16;
    float *raw = check_buf(t, RAW, (size_t)16 * p->K * sizeof *raw);
    char *w = check_buf(t, W, panels * bytes);
    float *scale = check_buf(t, W_SCALE, panels * scales * sizeof *scale);
    float *bias = check_buf(t, BIAS, (size_t)p->N * sizeof *bias);
    uint8_t *zero = check_buf(t, W_ZERO, panels * scales);

    for (int i = 0; i < panels; i++) {
        int n = p->N - 16 * i < 16 ? p->N - 16 * i : 16;
        check_fill(t, raw, (size_t)n * p->K, FILL_NORMAL);
        pack_panel(p->form, w + i * bytes, scale + i * scales, raw, n, p->K);
    }
    check_fill(t, bias, p->N, FILL_NORMAL);
    for (size_t i = 0; i < panels * scales; i++) {
        zero[i] = (uint8_t)(check_random(t) % 17); /* 16: GPTQ stores one less */
        if (p->form == FP8_BLOCKS)
            scale[i] = 0.01f + (float)(check_random(t) % 100) / 5000;
    }
    p->args.w = w;
    p->args.w_scale = scale;
    p->args.w_zero = p->form == INT4_ZERO || p->form == INT4_32_ZERO ? zero : NULL;
    p->args.w_blocks = p->form == FP8_BLOCKS;
    p->args.bias = bias;
}

static void make_problem(struct check *t, struct problem *p, enum form form, int T, int K, int N,
                         enum fill kind)
{
    *p = (struct problem) { .form = form, .T = T, .K = K, .N = N };
    make_weights(t, p);
    make_activations(t, p, kind);
    p->args.T = T;
    p->args.K = K;
    p->args.n_out = N;
    p->args.n_panels = glm4v_panel_count(N);
    p->args.ldy = N + 3;
    p->args.y = check_buf(t, Y_OPS, ((size_t)(T - 1) * (N + 3) + N) * sizeof(float));
    check_buf(t, Y_REF, ((size_t)(T - 1) * (N + 3) + N) * sizeof(float));
    for (int slot = X; slot <= BIAS; slot++)
        check_input(t, slot);
}

/* Poison between the rows must stand, and rows must be close. */
static void compare(struct check *t, const struct problem *p, struct tolerance tolerance,
                    const char *what)
{
    const float *ref = (const float *)t->slot[Y_REF].data;
    const uint8_t poison[12] = { 0xd7, 0xd7, 0xd7, 0xd7, 0xd7, 0xd7,
                                 0xd7, 0xd7, 0xd7, 0xd7, 0xd7, 0xd7 };
    for (int i = 0; i < p->T; i++) {
        const float *row = p->args.y + i * p->args.ldy;
        check_close(t, row, ref + i * p->args.ldy, p->N, tolerance, "%s, row %d of %dx%dx%d", what,
                    i, p->T, p->K, p->N);
        if (i + 1 < p->T)
            check_bytes(t, row + p->N, poison, sizeof poison, "%s: space between rows", what);
    }
}

static void one_shape(struct check *t, glm4v_gemm_fn ref, glm4v_gemm_fn ops, enum form form, int T,
                      int K, int N, enum fill kind, struct tolerance tolerance)
{
    struct problem p;
    make_problem(t, &p, form, T, K, N, kind);
    for (int mode = 0; mode < 4; mode++) {
        glm4v_gemm_args args = p.args;
        args.bias = mode & 1 ? p.args.bias : NULL;
        args.add = mode & 2;
        if (mode ==
            1) /* a sum may cancel against bias or y: errors relative to those, which are below 6 */
            tolerance.tiny = fmax(tolerance.tiny, 1e-6);
        check_poison(t, Y_REF);
        check_poison(t, Y_OPS);
        for (int i = 0; args.add && i < T; i++) {
            check_fill(t, p.args.y + i * args.ldy, N, FILL_NORMAL);
            memcpy((float *)t->slot[Y_REF].data + i * args.ldy, p.args.y + i * args.ldy,
                   N * sizeof(float));
        }
        ops(&args);
        args.y = (float *)t->slot[Y_REF].data;
        ref(&args);
        compare(t, &p, tolerance, fill_name(kind));
        if (kind != FILL_NORMAL)
            break;
    }
    check_guards(t, "%s, %dx%dx%d", fill_name(kind), T, K, N);
}

/* The rule that batching rests on: rows [first, first + T) alone, panels one by one, give the bytes
 * of the whole call. */
static void rows_alone_equal_rows_among_others(struct check *t, glm4v_gemm_fn ops, enum form form,
                                               int K, int N)
{
    enum { T = 33 };
    int groups = count_groups(form, K);
    struct problem p;
    make_problem(t, &p, form, T, K, N, FILL_PEAKY);
    ops(&p.args);
    float *y = check_buf(t, Y_REF, sizeof(float) * T * N);
    for (int rows = 1; rows <= T; rows++) {
        int first = (int)(check_random(t) % (unsigned)(T - rows + 1));
        glm4v_gemm_args args = p.args;
        args.T = rows;
        args.x = (const char *)args.x + first * args.ldx * element(form);
        if (args.x_scale)
            args.x_scale += first * groups;
        if (args.x_sum)
            args.x_sum += first * groups;
        args.y = y;
        args.ldy = N;
        int step = 1 + (int)(check_random(t) % 9);
        for (args.panel = 0; args.panel < p.args.n_panels; args.panel += args.n_panels) {
            int64_t left = p.args.n_panels - args.panel;
            args.n_panels = step < left ? step : left;
            ops(&args);
        }
        for (int i = 0; i < rows; i++)
            check_bytes(t, y + i * N, p.args.y + (first + i) * p.args.ldy, N * sizeof *y,
                        "row %d of %d alone, %d panels a call, K %d", first + i, rows, step, K);
    }
}

static void bench_product(struct check *t, glm4v_gemm_fn ops, enum form form)
{
    static const enum peak peaks[] = { PEAK_F32,  PEAK_BF16, PEAK_BF16, PEAK_BF16, PEAK_BF16,
                                       PEAK_INT8, PEAK_INT8, PEAK_INT8, PEAK_INT8, PEAK_INT8 };
    static const int shapes[][3] = { { 1, 4096, 4096 },  { 1, 1024, 256 },   { 4, 4096, 4096 },
                                     { 16, 4096, 1024 }, { 256, 256, 1024 }, { 256, 1536, 1024 },
                                     { 192, 4096, 512 } };
    char name[64];
    for (size_t i = 0; t->bench && i < sizeof shapes / sizeof *shapes; i++) {
        int T = shapes[i][0], K = shapes[i][1], N = shapes[i][2];
        struct problem p;
        make_problem(t, &p, form, T, K, N, FILL_NORMAL);
        double scales = form >= INT4 || form == FP8_BLOCKS ? 64.0 * count_groups(form, K) : 0;
        double bytes = (double)glm4v_panel_count(N) * ((double)panel_bytes(form, K) + scales);
        snprintf(name, sizeof name, "T %d K %d N %d", T, K, N);
        if (T == 1)
            BENCH(t, name, bytes, 0, check_read_bandwidth(t->cpu, (size_t)bytes), ops(&p.args));
        else
            BENCH(t, name, bytes, 2.0 * T * K * N, check_peak(t->cpu, peaks[form]), ops(&p.args));
    }
}

static void check_product(struct check *t, glm4v_gemm_fn ref, glm4v_gemm_fn ops, enum form form,
                          struct tolerance tolerance)
{
    static const int shapes[][3] = {
        /* T, K, N: odd ones, panels left over after blocks of 2, 3, 4 and 8 */
        { 1, 1, 1 },     { 1, 2, 16 },     { 2, 3, 17 },     { 3, 7, 31 },
        { 5, 127, 48 },  { 12, 128, 130 }, { 13, 129, 5 },   { 25, 255, 33 },
        { 7, 384, 144 }, { 1, 513, 300 },  { 31, 1000, 64 }, { 6, 4096, 24 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int K = form >= INT4 ? round_up(shapes[i][1], unit_of(form)) : shapes[i][1];
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            struct tolerance allowed = tolerance;
            allowed.tiny = kind == FILL_DENORMAL
                               ? 0x1p-118
                               : 0; /* K <= 4096 flushed terms below 2^-126, bf16 */
            one_shape(t, ref, ops, form, shapes[i][0], K, shapes[i][2], kind, allowed);
        }
    }
    rows_alone_equal_rows_among_others(t, ops, form, form >= INT4 ? 384 : 333, 150);
    rows_alone_equal_rows_among_others(t, ops, form, form >= INT4 ? unit_of(form) : 65, 17);
    bench_product(t, ops, form);
    check_end(t);
}

/* Largest magnitudes everywhere: sums reach 255 * 127 * 128 a group, where 16-bit steps would
 * saturate. */
static void integers_at_their_limits(struct check *t, glm4v_gemm_fn ref, glm4v_gemm_fn ops,
                                     enum form form)
{
    struct problem p;
    make_problem(t, &p, form, 3, 256, 32, FILL_NORMAL);
    const int groups = 3 * count_groups(form, 256);
    int8_t *x = (int8_t *)t->slot[X].data;
    uint8_t *w = (uint8_t *)t->slot[W].data;
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(x, 127 * sign, t->slot[X].size);
        memset(w, 255, t->slot[W].size);
        for (int i = 0; i < groups; i++)
            ((int32_t *)t->slot[X_SUM].data)[i] = 127 * group_of(form) * sign;
        for (size_t i = 0; i < t->slot[W_SCALE].size / 4; i++)
            ((float *)t->slot[W_SCALE].data)[i] = 1;
        for (int i = 0; i < groups; i++)
            ((float *)t->slot[X_SCALE].data)[i] = 1; /* all steps exact in fp32 now */
        p.args.bias = NULL;
        ops(&p.args);
        p.args.y = (float *)t->slot[Y_REF].data;
        ref(&p.args);
        p.args.y = (float *)t->slot[Y_OPS].data;
        compare(t, &p, (struct tolerance) { .ulp = 0.5 }, "limits");
    }
}

/* Every code as a weight, those that panels do not hold (0x7f, 0xff: 480) too: y [256] is the
 * value itself, as the activation is 1. */
static void every_code_is_decoded(struct check *t, glm4v_gemm_fn ops)
{
    enum { CODES = 256 };
    struct problem p;
    make_problem(t, &p, FP8, 1, 7, CODES, FILL_ZERO);
    for (int k = 0; k < 7; k++) { /* each place of a quad */
        uint8_t *w = (uint8_t *)t->slot[W].data;
        uint16_t *x = (uint16_t *)t->slot[X].data;
        memset(w, 0, t->slot[W].size);
        memset(x, 0, t->slot[X].size);
        x[k] = 0x3f80;
        for (int i = 0; i < CODES; i++) {
            w[i / 16 * (int)glm4v_panel_bytes_fp8(7) + (int)glm4v_fp8_at(k, i % 16)] = (uint8_t)i;
            ((float *)t->slot[W_SCALE].data)[i] = 1;
        }
        p.args.bias = NULL;
        ops(&p.args);
        for (int i = 0; i < CODES; i++) {
            int rest = i & 0x7f;
            double wanted = rest < 8 ? ldexp(rest, -9) : ldexp(8 + rest % 8, rest / 8 - 10);
            wanted = i & 0x80 ? -wanted : wanted;
            if (p.args.y[i] != wanted)
                check_fail(t, "code %d at input %d is %g, not %g", i, k, (double)p.args.y[i],
                           wanted);
        }
    }
}

static void check_quantize_rows(struct check *t, glm4v_quantize_row_fn ref,
                                glm4v_quantize_row_fn ops, enum form form)
{
    const int unit = group_of(form);
    for (int size = 1; size; size = next_size(size, 2048)) {
        const int K = form == INT4_32 ? round_up(size, 32) : size;
        int groups = count_groups(form, K);
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            float *x = check_buf(t, X, K * sizeof *x);
            check_fill(t, x, K, kind);
            if (kind == FILL_PEAKY && K > 3) /* a tie: 127 / max is 1, and 2.5 must go to 2 */
                x[0] = 127, x[1] = 2.5f, x[2] = -3.5f;
            check_input(t, X);
            int8_t *q[2] = { check_buf(t, 1, groups * unit), check_buf(t, 2, groups * unit) };
            float *scale[2] = { check_buf(t, 3, groups * 4), check_buf(t, 4, groups * 4) };
            int32_t *sum[2] = { check_buf(t, 5, groups * 4), check_buf(t, 6, groups * 4) };
            ref(q[0], scale[0], sum[0], x, K);
            ops(q[1], scale[1], sum[1], x, K);
            check_bytes(t, q[1], q[0], groups * unit, "q, %s, K %d", fill_name(kind), K);
            check_bytes(t, sum[1], sum[0], groups * 4, "sum, %s, K %d", fill_name(kind), K);
            check_close(t, scale[1], scale[0], groups, (struct tolerance) { 0 }, "scale, %s, K %d",
                        fill_name(kind), K);
            check_guards(t, "%s, K %d", fill_name(kind), K);
        }
    }
    float *x = check_buf(t, X, 4096 * sizeof *x);
    int8_t *q = check_buf(t, 1, 4096);
    float *scale = check_buf(t, 3, 128 * 4);
    int32_t *sum = check_buf(t, 5, 128 * 4);
    check_fill(t, x, 4096, FILL_NORMAL);
    BENCH(t, "K 4096", 4096 * 4, 0, 0, ops(q, scale, sum, x, 4096));
    check_end(t);
}

static void check_fp8_row(struct check *t)
{
    if (!check_pair(t, gemm, fp8_row, "fp8_row"))
        return;
    for (int K = 1; K; K = next_size(K, 600)) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            size_t bytes = (size_t)round_up(K, 2) * 2;
            float *x = check_buf(t, X, K * sizeof *x), scale[2];
            uint16_t *ref = check_buf(t, Y_REF, bytes), *ops = check_buf(t, Y_OPS, bytes);
            check_fill(t, x, K, kind);
            for (int i = 0; kind == FILL_NORMAL && i < K; i += 2) /* all exponents of e4m3 */
                x[i] *= ldexpf(1, -(int)(check_random(t) % 20));
            if (kind == FILL_PEAKY && K > 5) { /* ties: 448 / max is 1 */
                const float ties[] = { 448, 17, -19, 0x1.8p-9f, -0x2.8p-9f, 0x1p-10f };
                memset(x, 0, K * sizeof *x);
                memcpy(x, ties, sizeof ties);
            }
            check_input(t, X);
            t->ref.gemm.fp8_row(ref, &scale[0], x, K);
            t->ops.gemm.fp8_row(ops, &scale[1], x, K);
            check_bytes(t, ops, ref, bytes, "%s, K %d", fill_name(kind), K);
            check_close(t, &scale[1], &scale[0], 1, (struct tolerance) { 0 }, "scale, %s, K %d",
                        fill_name(kind), K);
            check_guards(t, "%s, K %d", fill_name(kind), K);
        }
    }
    float *x = check_buf(t, X, 4096 * sizeof *x), scale;
    uint16_t *y = check_buf(t, Y_OPS, 4096 * sizeof *y);
    check_fill(t, x, 4096, FILL_NORMAL);
    BENCH(t, "K 4096", 4096 * 6, 0, 0, t->ops.gemm.fp8_row(y, &scale, x, 4096));
    check_end(t);
}

static void check_bf16_row(struct check *t)
{
    if (!check_pair(t, gemm, bf16_row, "bf16_row"))
        return;
    for (int K = 1; K; K = next_size(K, 600)) {
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            size_t bytes = (size_t)round_up(K, 2) * 2;
            float *x = check_buf(t, X, K * sizeof *x);
            uint16_t *ref = check_buf(t, Y_REF, bytes), *ops = check_buf(t, Y_OPS, bytes);
            check_fill(t, x, K, kind);
            check_input(t, X);
            t->ref.gemm.bf16_row(ref, x, K);
            t->ops.gemm.bf16_row(ops, x, K);
            check_bytes(t, ops, ref, bytes, "%s, K %d", fill_name(kind), K);
            check_guards(t, "%s, K %d", fill_name(kind), K);
        }
    }
    check_end(t);
}

void check_gemm(struct check *t)
{
    const glm4v_gemm_ops *ref = &t->ref.gemm, *ops = &t->ops.gemm;

    if (check_pair(t, gemm, f32, "gemm_f32"))
        check_product(t, ref->f32, ops->f32, F32, TOL_GEMM_F32);
    if (check_pair(t, gemm, bf16, "gemm_bf16"))
        check_product(t, ref->bf16, ops->bf16, BF16, TOL_GEMM_BF16);
    if (check_pair(t, gemm, fp8, "gemm_fp8")) {
        every_code_is_decoded(t, ops->fp8);
        check_product(t, ref->fp8, ops->fp8, FP8, TOL_GEMM_BF16);
    }
    if (check_pair(t, gemm, fp8, "gemm_fp8_blocks"))
        check_product(t, ref->fp8, ops->fp8, FP8_BLOCKS, TOL_GEMM_BF16);
    if (check_pair(t, gemm, fp8, "gemm_fp8_dynamic"))
        check_product(t, ref->fp8, ops->fp8, FP8_DYNAMIC, TOL_GEMM_BF16);
    if (check_pair(t, gemm, int8, "gemm_int8")) {
        integers_at_their_limits(t, ref->int8, ops->int8, INT8);
        check_product(t, ref->int8, ops->int8, INT8, TOL_GEMM_INT);
    }
    if (check_pair(t, gemm, int4, "gemm_int4")) {
        integers_at_their_limits(t, ref->int4, ops->int4, INT4);
        check_product(t, ref->int4, ops->int4, INT4, TOL_GEMM_INT);
    }
    if (check_pair(t, gemm, int4, "gemm_int4_zero")) {
        integers_at_their_limits(t, ref->int4, ops->int4, INT4_ZERO);
        check_product(t, ref->int4, ops->int4, INT4_ZERO, TOL_GEMM_INT);
    }
    if (check_pair(t, gemm, int4_32, "gemm_int4_32")) {
        integers_at_their_limits(t, ref->int4_32, ops->int4_32, INT4_32);
        check_product(t, ref->int4_32, ops->int4_32, INT4_32, TOL_GEMM_INT);
    }
    if (check_pair(t, gemm, int4_32, "gemm_int4_32_zero")) {
        integers_at_their_limits(t, ref->int4_32, ops->int4_32, INT4_32_ZERO);
        check_product(t, ref->int4_32, ops->int4_32, INT4_32_ZERO, TOL_GEMM_INT);
    }
    if (check_pair(t, gemm, quantize_row, "quantize_row"))
        check_quantize_rows(t, ref->quantize_row, ops->quantize_row, INT4);
    if (check_pair(t, gemm, quantize_row_32, "quantize_row_32"))
        check_quantize_rows(t, ref->quantize_row_32, ops->quantize_row_32, INT4_32);
    check_bf16_row(t);
    check_fp8_row(t);
}
