/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernel tests, after dav1d's checkasm: every vector form against the plain C form, on every level
 * that this machine has.
 *
 * One check_<header>.c per kernels/<header>.h. A check asks check_begin() whether there is anything
 * to compare, fills inputs, calls both forms, and compares with a tolerance of tolerance.h. Buffers
 * come from check_buf(): they end at a page that cannot be touched, so reading or writing one byte
 * beyond the end stops the program, and bytes in front are guarded by a pattern. Outputs are
 * poisoned before the call and inputs compared after it.
 *
 * A new level needs no new test; a new operation needs a check and a line in `checks` of
 * check.c. */
#ifndef GLM4V_CHECK_H
#define GLM4V_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "act.h"
#include "attention.h"
#include "convert.h"
#include "cpu.h"
#include "gemm.h"
#include "image.h"
#include "norm.h"
#include "rope.h"

struct tables {
    glm4v_act_ops act;
    glm4v_attention_ops attention;
    glm4v_convert_ops convert;
    glm4v_gemm_ops gemm;
    glm4v_image_ops image;
    glm4v_norm_ops norm;
    glm4v_rope_ops rope;
};

enum { CHECK_SLOTS = 24 };

struct check_slot {
    uint8_t *map, *data, *copy; /* copy: of an input, taken by check_input() */
    size_t capacity, size;
    bool input;
};

struct check {
    struct tables ref, ops, below; /* _c; under test; one level lower */
    unsigned cpu;
    const char *level;
    const char *function; /* glob over names, NULL = all */
    bool bench, json;
    bool quiet; /* the self-test: failures are counted, not printed */
    uint64_t random;
    const char *name; /* of the running check */
    int failures;     /* of the running check */
    bool said;        /* its first failure was printed */
    struct check_slot slot[CHECK_SLOTS];
};

/* Largest error allowed. nmse: sum of squared errors over sum of squares. max: error of one value,
 * in units of the largest magnitude of the reference. ulp: error of one value in units in the last
 * place of the reference, where that is not below `tiny`. 0: not asked. */
struct tolerance {
    double nmse, max, ulp, tiny;
};

/* Kinds of input; every one is tried by a check that loops over them. */
enum fill {
    FILL_NORMAL, /* Gaussian */
    FILL_PEAKY,  /* Gaussian, one value in 50 a hundred times larger */
    FILL_ZERO,
    FILL_HUGE,     /* about 1e15 */
    FILL_DENORMAL, /* below 2^-126 */
    FILL_NAN,      /* peaky, with one NaN */
    FILL_INF,      /* peaky, with one infinity */
    FILL_KINDS
};
const char *fill_name(enum fill kind);
void check_fill(struct check *t, float *x, size_t n, enum fill kind);
uint64_t check_random(struct check *t);
float check_gauss(struct check *t);

/* Start the test of one operation. False: the form under test is the form below, or the name was
 * not asked for. */
typedef void (*check_fn)(void);
bool check_begin(struct check *t, check_fn below, check_fn ops, const char *name);
#define check_pair(t, table, fn, name)                                                             \
    check_begin(t, (check_fn)(t)->below.table.fn, (check_fn)(t)->ops.table.fn, name)
void check_end(struct check *t);

/* Memory of `bytes` in a slot, ending at a page that faults. Contents of an output: a signalling
 * pattern. */
void *check_buf(struct check *t, int slot, size_t bytes);
void check_poison(struct check *t, int slot);
/* Declare a slot's present contents an input: check_guards() compares. */
void check_input(struct check *t, int slot);
/* Fails when bytes in front of any slot, or an input, changed. Ends the inputs' protection. */
void check_guards(struct check *t, const char *what, ...) __attribute__((format(printf, 2, 3)));

void check_fail(struct check *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* got against ref; NaN and infinities must stand at the same places. */
void check_close(struct check *t, const float *got, const float *ref, size_t n,
                 struct tolerance tolerance, const char *what, ...)
    __attribute__((format(printf, 6, 7)));
void check_bytes(struct check *t, const void *got, const void *ref, size_t bytes, const char *what,
                 ...) __attribute__((format(printf, 5, 6)));
/* 1, 2, 3, 7, 8, 9, 15, 16, 17, 31 … : powers of two and their neighbours. 0 when above max. */
int next_size(int n, int max);

/* Benchmarks: BENCH(t, "gemv 4096x4096", bytes, operations, call(...)); bytes or operations may be
 * 0. */
struct bench {
    double seconds[11]; /* per call */
    int runs;
    long calls, left;
    double start;
};
bool bench_next(struct bench *b);
void bench_report(struct check *t, struct bench *b, const char *shape, double bytes,
                  double operations, double peak);
#define BENCH(t, shape, bytes, operations, peak, call)                                             \
    do {                                                                                           \
        if ((t)->bench) {                                                                          \
            struct bench bench_state = { 0 };                                                      \
            while (bench_next(&bench_state))                                                       \
                call;                                                                              \
            bench_report(t, &bench_state, shape, bytes, operations, peak);                         \
        }                                                                                          \
    } while (0)

/* Operations a second that one thread can issue at this level: multiply-adds count two. Measured
 * once, with --bench. */
enum peak { PEAK_F32, PEAK_BF16, PEAK_INT8, PEAK_KINDS };
double check_peak(unsigned cpu, enum peak kind);
/* Bytes a second that one thread reads from a buffer of this size. */
double check_read_bandwidth(unsigned cpu, size_t bytes);
double check_now(void);

void check_act(struct check *t);
void check_attention(struct check *t);
void check_convert(struct check *t);
void check_gemm(struct check *t);
void check_image(struct check *t);
void check_norm(struct check *t);
void check_pack(struct check *t);
void check_rope(struct check *t);

/* The C forms against facts that do not come from them, and the harness against wrong forms. TAP
 * lines of their own. */
void check_reference(struct check *t);
void check_harness(struct check *t);

#endif
