/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/attention.h */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tolerance.h"

enum { Q, K, V, O_REF, O_OPS, SCRATCH, WIDE, COUNTS };

struct problem {
    int rows, n_keys, head_dim;
    glm4v_attention_args args;
};

static float *at(struct check *t, int slot)
{
    return (float *)t->slot[slot].data;
}

static void call(struct check *t, const struct problem *p, glm4v_attention_fn fn, int slot,
                 int first, int rows)
{
    float *o[64];
    const float *q[64];
    glm4v_attention_args args = p->args;
    for (int r = 0; r < rows; r++) {
        o[r] = at(t, slot) + (size_t)(first + r) * p->head_dim;
        q[r] = at(t, Q) + (size_t)(first + r) * p->head_dim;
    }
    args.o = o;
    args.q = q;
    args.n_keys += first;
    args.rows = rows;
    fn(&args);
}

/* n keys or values in a slot, as f32 or narrowed to bf16. */
static void fill_cache(struct check *t, int slot, size_t n, enum fill kind, bool bf16)
{
    float *x = check_buf(t, bf16 ? WIDE : slot, n * 4);
    check_fill(t, x, n, kind);
    if (kind == FILL_NAN && slot == K)
        x[check_random(t) % n] = NAN;
    if (bf16)
        t->ref.convert.f32_to_bf16(check_buf(t, slot, n * 2), x, n);
}

/* causal: rows see ever more keys, as queries of one sequence do. Keys lie further apart than they
 * are long. */
static void make_problem(struct check *t, struct problem *p, int rows, int n_keys, int head_dim,
                         bool causal, bool bf16, enum fill kind)
{
    ptrdiff_t ld = head_dim + 4;
    size_t cache = ((size_t)(n_keys - 1) * ld + head_dim);
    int32_t *counts = check_buf(t, COUNTS, rows * sizeof *counts);

    check_fill(t, check_buf(t, Q, (size_t)rows * head_dim * 4), (size_t)rows * head_dim, kind);
    fill_cache(t, K, cache, kind == FILL_NAN ? FILL_NAN : FILL_NORMAL, bf16);
    fill_cache(t, V, cache, kind, bf16);
    check_buf(t, O_REF, (size_t)rows * head_dim * 4);
    check_buf(t, O_OPS, (size_t)rows * head_dim * 4);
    size_t floats = (glm4v_attention_scratch(rows, n_keys, head_dim) + 15) / 16 *
                    16; /* keeps 64-byte alignment */
    check_buf(t, SCRATCH, floats * 4);
    for (int r = 0; r < rows; r++)
        counts[r] = causal && n_keys - rows + 1 + r > 0 ? n_keys - rows + 1 + r
                    : causal                            ? 1
                                                        : n_keys;
    *p = (struct problem) { .rows = rows, .n_keys = n_keys, .head_dim = head_dim };
    p->args = (glm4v_attention_args) { .n_keys = counts,
                                       .k = at(t, K),
                                       .v = at(t, V),
                                       .bf16 = bf16,
                                       .ldk = ld,
                                       .ldv = ld,
                                       .head_dim = head_dim,
                                       .scratch = at(t, SCRATCH) };
    p->args.scale = 1 / sqrtf((float)head_dim);
    check_input(t, Q);
    check_input(t, K);
    check_input(t, V);
    check_input(t, COUNTS);
}

static void rows_alone_equal_rows_among_others(struct check *t, bool causal, bool bf16)
{
    struct problem p;
    make_problem(t, &p, 29, 77, 48, causal, bf16, FILL_PEAKY);
    call(t, &p, t->ops.attention.attention, O_OPS, 0, 29);
    for (int rows = 1; rows <= 29; rows++) {
        int first = (int)(check_random(t) % (unsigned)(30 - rows));
        call(t, &p, t->ops.attention.attention, O_REF, first, rows);
        check_bytes(t, at(t, O_REF) + first * 48, at(t, O_OPS) + first * 48, (size_t)rows * 48 * 4,
                    "rows %d to %d alone", first, first + rows);
    }
}

/* What stands beyond a row's keys may be anything. */
static void keys_beyond_a_row_have_no_influence(struct check *t)
{
    struct problem p;
    make_problem(t, &p, 7, 40, 33, true, false, FILL_NORMAL);
    call(t, &p, t->ops.attention.attention, O_REF, 0, 7);
    for (int j = p.args.n_keys[3]; j < 40; j++)
        for (int d = 0; d < 33; d++) {
            at(t, K)[j * p.args.ldk + d] = NAN;
            at(t, V)[j * p.args.ldv + d] = NAN;
        }
    call(t, &p, t->ops.attention.attention, O_OPS, 0, 7);
    check_bytes(t, at(t, O_OPS), at(t, O_REF), 4 * 33 * sizeof(float),
                "NaN beyond the keys of rows 0 to 3");
    check_close(t, at(t, O_OPS) + 4 * 33, at(t, O_OPS) + 4 * 33, 33, (struct tolerance) { 0 },
                "row 4");
    if (!isnan(at(t, O_OPS)[4 * 33]))
        check_fail(t, "row 4 sees a NaN key and is not NaN");
}

/* bf16 keys and values give the bytes of the same numbers in f32. */
static void bf16_caches_read_as_their_numbers(struct check *t)
{
    struct problem p;
    make_problem(t, &p, 13, 75, 83, true, true, FILL_PEAKY);
    call(t, &p, t->ops.attention.attention, O_OPS, 0, 13);
    const size_t n = 74 * (size_t)p.args.ldk + 83;
    float *k = malloc(n * sizeof *k), *v = malloc(n * sizeof *v);
    t->ref.convert.bf16_to_f32(k, p.args.k, n);
    t->ref.convert.bf16_to_f32(v, p.args.v, n);
    p.args.k = k;
    p.args.v = v;
    p.args.bf16 = false;
    call(t, &p, t->ops.attention.attention, O_REF, 0, 13);
    check_bytes(t, at(t, O_OPS), at(t, O_REF), 13 * 83 * sizeof(float), "bf16 against f32");
    free(k);
    free(v);
}

static void bench_attention(struct check *t, int rows, int n_keys, int head_dim, bool bf16)
{
    struct problem p;
    char shape[48];
    if (!t->bench)
        return;
    make_problem(t, &p, rows, n_keys, head_dim, false, bf16, FILL_NORMAL);
    snprintf(shape, sizeof shape, "rows %d %s keys %d x %d", rows, bf16 ? "bf16" : "f32", n_keys,
             head_dim);
    BENCH(t, shape, 0, 4.0 * rows * n_keys * head_dim, check_peak(t->cpu, PEAK_F32),
          call(t, &p, t->ops.attention.attention, O_OPS, 0, rows));
}

void check_attention(struct check *t)
{
    static const int shapes[][3] = {
        /* rows, keys, head_dim */
        { 1, 1, 1 },      { 1, 5, 7 },    { 2, 16, 16 },   { 3, 17, 33 },
        { 5, 31, 64 },    { 12, 32, 80 }, { 13, 33, 112 }, { 8, 130, 128 },
        { 24, 200, 128 }, { 33, 65, 20 }, { 1, 700, 128 }, { 48, 150, 256 },
    };
    if (!check_pair(t, attention, attention, "attention"))
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *n = shapes[i];
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            for (int way = 0; way < 4; way++) {
                struct problem p;
                const bool causal = way & 1, bf16 = way & 2;
                if (kind ==
                    /* scores of 1e15 choose one key: equal scores aside, any rounding may change
                     * it */
                    FILL_HUGE)
                    continue;
                make_problem(t, &p, n[0], n[1], n[2], causal, bf16, kind);
                call(t, &p, t->ref.attention.attention, O_REF, 0, n[0]);
                call(t, &p, t->ops.attention.attention, O_OPS, 0, n[0]);
                struct tolerance tolerance = TOL_ATTENTION;
                tolerance.tiny = kind == FILL_DENORMAL ? 0x1p-126 : 0;
                check_close(t, at(t, O_OPS), at(t, O_REF), (size_t)n[0] * n[2], tolerance,
                            "%s, %d rows, %d keys, size %d, causal %d, bf16 %d", fill_name(kind),
                            n[0], n[1], n[2], causal, bf16);
                check_guards(t, "%d rows, %d keys, size %d", n[0], n[1], n[2]);
            }
        }
    }
    for (int way = 0; way < 4; way++)
        rows_alone_equal_rows_among_others(t, way & 1, way & 2);
    bf16_caches_read_as_their_numbers(t);
    keys_beyond_a_row_have_no_influence(t);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        bench_attention(t, 1, 512, 128, bf16);
        bench_attention(t, 16, 2048, 128, bf16);
        bench_attention(t, 48, 1024, 128, bf16);
        bench_attention(t, 48, 1024, 64, bf16);
    }
    check_end(t);
}
