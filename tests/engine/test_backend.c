/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend as the forward passes see it: every operation against a plain formula in double,
 * and the promise that a row's bytes depend neither on the other rows nor on the number of threads.
 * Levels: GLM4V_CPU. */
#include <math.h>
#include <stdlib.h>

#include "backend_step.h"
#include "base/error.h"
#include "base/mem.h"
#include "convert.h"
#include "gemm.h"
#include "test.h"

static uint64_t state = 1;

static float next_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) / 2147483648.0f;
}

static float *random_array(size_t n)
{
    float *x = glm4v_alloc_aligned(n, sizeof *x);
    if (!x) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < n; i++)
        x[i] = next_random();
    return x;
}

static bool same(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

/* sum (a - b)^2 / sum b^2 */
static double nmse(const float *a, const double *b, size_t n)
{
    double error = 0, power = 1e-300;
    for (size_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        power += b[i] * b[i];
    }
    return error / power;
}

static glm4v_weight make_weight(glm4v_backend *b, glm4v_form form, int32_t n_out, int32_t n_in,
                                const float *rows)
{
    glm4v_weight w = { 0 };
    const glm4v_weight_kind kind = { .form = form, .n_out = n_out, .n_in = n_in };
    if (b->ops->weight_alloc(b, &w, &kind, NULL)) {
        fprintf(stderr, "weight_alloc failed\n");
        exit(1);
    }
    CHECK_EQ(w.bytes, b->ops->weight_bytes(b, &kind));
    /* in two pieces, the later one first */
    int32_t half = n_out / 2 / 16 * 16;
    CHECK_EQ(b->ops->weight_fill(b, &w, half, n_out - half, rows + (size_t)half * (size_t)n_in), 0);
    CHECK_EQ(b->ops->weight_fill(b, &w, 0, half, rows), 0);
    return w;
}

static void linear_is_the_product_of_each_form(void)
{
    enum { T = 37, K = 256, N = 75 };
    static const double limit[] = {
        [GLM4V_FORM_F32] = 1e-12,       [GLM4V_FORM_BF16] = 1e-4, [GLM4V_FORM_INT8] = 5e-4,
        [GLM4V_FORM_INT4] = 2e-2,       [GLM4V_FORM_FP8] = 2e-3,  [GLM4V_FORM_INT4_32] = 1.2e-2,
        [GLM4V_FORM_FP8_DYNAMIC] = 4e-3
    };
    _Static_assert(sizeof limit / sizeof *limit == GLM4V_N_FORMS, "a form has no limit");
    glm4v_backend *b = cpu_open(2);
    float *x = random_array(T * K), *rows = random_array(N * K), *bias = random_array(N);
    float *y = random_array(T * N), *before = random_array(T * N);
    double *expected = glm4v_alloc(T * N, sizeof *expected);
    memcpy(y, before, T * N * sizeof *y);
    for (int32_t t = 0; t < T; t++)
        for (int32_t n = 0; n < N; n++) {
            double sum = (double)bias[n] + (double)before[t * N + n];
            for (int32_t k = 0; k < K; k++)
                sum += (double)x[t * K + k] * (double)rows[n * K + k];
            expected[t * N + n] = sum;
        }
    for (glm4v_form i = 0; i < GLM4V_N_FORMS; i++) {
        glm4v_weight w = make_weight(b, i, N, K, rows);
        memcpy(y, before, T * N * sizeof *y);
        CHECK_EQ(run_product(b, y, N, x, K, &w, bias, T, true), 0);
        double error = nmse(y, expected, T * N);
        printf("# %s at %s: normalised error %.2e\n", glm4v_form_name(i), b->isa, error);
        CHECK(error < limit[i]);
        CHECK(i == GLM4V_FORM_F32 || error > 0);
        b->ops->weight_free(b, &w);
    }
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(bias);
    glm4v_free(y);
    glm4v_free(before);
    glm4v_free(expected);
    cpu_close(&b);
}

/* K and N that fill no panel, group or tile; more rows than a slab. */
static void linear_rows_do_not_depend_on_rows_or_threads(void)
{
    enum { T = 1100, K = 384, N = 200, LDX = 390, LDY = 211 };
    glm4v_backend *one = cpu_open(1), *four = cpu_open(4);
    float *x = random_array(T * LDX), *rows = random_array(N * K), *bias = random_array(N);
    float *y = random_array(T * LDY), *z = random_array(T * LDY);
    for (glm4v_form i = 0; i < GLM4V_N_FORMS; i++) {
        glm4v_weight w = make_weight(one, i, N, K, rows);
        memset(y, 0, T * LDY * sizeof *y);
        memset(z, 0, T * LDY * sizeof *z);
        CHECK_EQ(run_product(four, y, LDY, x, LDX, &w, bias, T, false), 0);
        CHECK_EQ(run_product(one, z, LDY, x, LDX, &w, bias, T, false), 0);
        CHECK(same(y, z, T * LDY));
        memset(z, 0, T * LDY * sizeof *z);
        static const int32_t pieces[] = { 1, 2, 7, 30, 64, 300, 696 };
        for (int32_t row = 0, p = 0; row < T; row += pieces[p++])
            CHECK_EQ(run_product(four, z + row * LDY, LDY, x + row * LDX, LDX, &w, bias, pieces[p],
                                 false),
                     0);
        CHECK(same(y, z, T * LDY));
        one->ops->weight_free(one, &w);
    }
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(bias);
    glm4v_free(y);
    glm4v_free(z);
    cpu_close(&one);
    cpu_close(&four);
}

/* One head of one query in double. */
static void attend_in_double(double *o, const float *q, const float *k, const float *v, int64_t ldk,
                             int64_t ldv, int32_t n_k, int32_t head_dim, double scale)
{
    double *p = glm4v_alloc((size_t)n_k, sizeof *p), top = -INFINITY, sum = 0;
    for (int32_t j = 0; j < n_k; j++) {
        for (int32_t d = 0; d < head_dim; d++)
            p[j] += (double)q[d] * (double)k[j * ldk + d];
        p[j] *= scale;
        top = p[j] > top ? p[j] : top;
    }
    for (int32_t j = 0; j < n_k; j++)
        sum += p[j] = exp(p[j] - top);
    for (int32_t d = 0; d < head_dim; d++) {
        o[d] = 0;
        for (int32_t j = 0; j < n_k; j++)
            o[d] += p[j] / sum * (double)v[j * ldv + d];
    }
    glm4v_free(p);
}

enum { HEADS = 6, KV_HEADS = 2, HEAD_DIM = 48, LENGTH = 90, SLOTS = 3, KEPT = 20, LAYERS = 2 };
enum { ROW = HEADS * HEAD_DIM, KV_ROW = KV_HEADS * HEAD_DIM };

/* Keys and values of three sequences, the rows k, v [SLOTS][LENGTH] at hand for comparison. */
typedef struct {
    glm4v_kv kv;
    float *k, *v;
} cache;

static void cache_close(glm4v_backend *b, cache *c)
{
    b->ops->kv_close(b, &c->kv);
    glm4v_free(c->k);
    glm4v_free(c->v);
}

/* Rows [from, to) of a slot through append, in a step of their own. */
static int append_rows(glm4v_backend *b, cache *c, uint32_t slot, int32_t from, int32_t to)
{
    const size_t at = ((size_t)slot * LENGTH + (size_t)from) * KV_ROW;
    const glm4v_step_span span = { .slot = slot, .length = (uint32_t)from, .n = to - from };
    const glm4v_append append = {
        .k = c->k + at, .v = c->v + at, .ld = KV_ROW, .kv = &c->kv, .layer = 1
    };
    glm4v_step *s =
        step_of(b, &(glm4v_step_rows) { .rows = to - from, .spans = &span, .n_spans = 1 });
    return step_over(s, b->ops->append(s, &append));
}

static cache cache_open(glm4v_backend *b, glm4v_kv_form form)
{
    const glm4v_kv_shape shape = { .form = form,
                                   .layers = LAYERS,
                                   .heads = KV_HEADS,
                                   .head_dim = HEAD_DIM,
                                   .slots = SLOTS,
                                   .length = LENGTH,
                                   .kept = KEPT };
    cache c = { .k = random_array(SLOTS * LENGTH * KV_ROW),
                .v = random_array(SLOTS * LENGTH * KV_ROW) };
    for (size_t i = 0; i < SLOTS * LENGTH * KV_ROW; i++) { /* numbers that bf16 has */
        c.k[i] = roundf(c.k[i] * 100) / 128;
        c.v[i] = roundf(c.v[i] * 100) / 128;
    }
    CHECK_EQ(b->ops->kv_open(b, &c.kv, &shape, NULL), 0);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        CHECK_EQ(append_rows(b, &c, slot, 0, 50), 0);
        CHECK_EQ(append_rows(b, &c, slot, 50, LENGTH), 0);
    }
    return c;
}

/* The step's spans over q -> o. */
static int attend_spans(glm4v_backend *b, const cache *c, float *o, const float *q,
                        const glm4v_step_span *spans, int32_t n_spans)
{
    const glm4v_attend attend = { .o = o,
                                  .ldo = ROW,
                                  .q = q,
                                  .ldq = ROW,
                                  .heads = HEADS,
                                  .scale = 0.25f,
                                  .kv = &c->kv,
                                  .layer = 1 };
    const glm4v_step_span *last = &spans[n_spans - 1];
    glm4v_step *s = step_of(
        b, &(glm4v_step_rows) { .rows = last->row + last->n, .spans = spans, .n_spans = n_spans });
    return step_over(s, b->ops->attend(s, &attend));
}

static void attention_is_causal_and_shares_keys_among_heads(void)
{
    enum { ROWS = 58 };
    static const glm4v_step_span spans[SLOTS] = { { 2, 89, 0, 1 },
                                                  { 0, 0, 1, 17 },
                                                  { 1, 31, 18, 40 } };
    glm4v_backend *b = cpu_open(3), *one = cpu_open(1);
    float *q = random_array(ROWS * ROW), *o = random_array(ROWS * ROW);
    float *alone = random_array(ROWS * ROW);
    double *expected = glm4v_alloc(ROWS * ROW, sizeof *expected);
    for (int form = 0; form < 2; form++) {
        cache c = cache_open(b, form ? GLM4V_KV_BF16 : GLM4V_KV_F32);
        CHECK_EQ(attend_spans(b, &c, o, q, spans, SLOTS), 0);
        for (int i = 0; i < SLOTS; i++)
            for (int32_t j = 0; j < spans[i].n; j++)
                for (size_t h = 0; h < HEADS; h++) {
                    const size_t head = (size_t)(spans[i].row + j) * ROW + h * HEAD_DIM;
                    const size_t kv =
                        (size_t)spans[i].slot * LENGTH * KV_ROW + h / (HEADS / KV_HEADS) * HEAD_DIM;
                    attend_in_double(expected + head, q + head, c.k + kv, c.v + kv, KV_ROW, KV_ROW,
                                     (int32_t)spans[i].length + j + 1, HEAD_DIM, 0.25);
                }
        CHECK(nmse(o, expected, ROWS * ROW) < 1e-11);
        /* each row alone, on one thread: the same bytes */
        for (int i = 0; i < SLOTS; i++)
            for (int32_t j = 0; j < spans[i].n; j++) {
                const size_t at = (size_t)(spans[i].row + j) * ROW;
                const glm4v_step_span row = { spans[i].slot, spans[i].length + (uint32_t)j, 0, 1 };
                CHECK_EQ(attend_spans(one, &c, alone + at, q + at, &row, 1), 0);
            }
        CHECK(same(o, alone, ROWS * ROW));
        cache_close(b, &c);
    }
    glm4v_free(q);
    glm4v_free(o);
    glm4v_free(alone);
    glm4v_free(expected);
    cpu_close(&one);
    cpu_close(&b);
}

/* Copied keys and values give the same attention, through the kept slot too. */
static void copied_keys_and_values_are_the_same(void)
{
    glm4v_backend *b = cpu_open(2);
    float *q = random_array(ROW), *o = random_array(ROW), *p = random_array(ROW);
    static const glm4v_step_span from = { 0, KEPT - 1, 0, 1 }, to = { 2, KEPT - 1, 0, 1 };
    for (int form = 0; form < 2; form++) {
        cache c = cache_open(b, form ? GLM4V_KV_BF16 : GLM4V_KV_F32);
        CHECK_EQ(attend_spans(b, &c, o, q, &from, 1), 0);
        CHECK_EQ(attend_spans(b, &c, p, q, &to, 1), 0);
        CHECK(!same(o, p, ROW));
        CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &c.kv, SLOTS, 0, KEPT), 0);
        CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &c.kv, 2, SLOTS, KEPT), 0);
        CHECK_EQ(attend_spans(b, &c, p, q, &to, 1), 0);
        CHECK(same(o, p, ROW));
        CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &c.kv, SLOTS, 0, KEPT + 1),
                 GLM4V_ERR_INVALID);
        CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &c.kv, SLOTS + 1, 0, 1),
                 GLM4V_ERR_INVALID);
        cache_close(b, &c);
    }
    const glm4v_kv_shape int8 = {
        .form = GLM4V_KV_INT8, .layers = 1, .heads = 1, .head_dim = 64, .slots = 1, .length = 8
    };
    glm4v_kv kv;
    glm4v_error err = { 0 };
    CHECK_EQ(b->ops->kv_open(b, &kv, &int8, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "bf16");
    glm4v_free(q);
    glm4v_free(o);
    glm4v_free(p);
    cpu_close(&b);
}

static void in_a_picture_every_row_sees_all(void)
{
    enum { ROWS = 70, LD = 3 * ROW };
    glm4v_backend *b = cpu_open(2);
    float *qkv = random_array(ROWS * LD), *o = random_array(ROWS * ROW);
    double *expected = glm4v_alloc(ROWS * ROW, sizeof *expected);
    void *scratch = glm4v_alloc_aligned(b->ops->attend_all_bytes(b, ROWS, HEADS, HEAD_DIM), 1);
    const glm4v_attend_all all = { .o = o,
                                   .ldo = ROW,
                                   .q = qkv,
                                   .k = qkv + ROW,
                                   .v = qkv + 2 * ROW,
                                   .ld = LD,
                                   .rows = ROWS,
                                   .heads = HEADS,
                                   .head_dim = HEAD_DIM,
                                   .scale = 0.25f,
                                   .scratch = scratch };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = ROWS });
    CHECK_EQ(step_over(s, b->ops->attend_all(s, &all)), 0);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t h = 0; h < HEADS; h++)
            attend_in_double(expected + r * ROW + h * HEAD_DIM, qkv + r * LD + h * HEAD_DIM,
                             qkv + ROW + h * HEAD_DIM, qkv + 2 * ROW + h * HEAD_DIM, LD, LD, ROWS,
                             HEAD_DIM, 0.25);
    CHECK(nmse(o, expected, ROWS * ROW) < 1e-11);
    glm4v_free(qkv);
    glm4v_free(o);
    glm4v_free(expected);
    glm4v_free(scratch);
    cpu_close(&b);
}

/* Sections of a row's frequencies follow its positions on t, h and w. */
static void sections_follow_their_axes(void)
{
    enum { ROWS = 3, FREQ = 8, POSITIONS = 30, DIM = 16 };
    static const int32_t t[ROWS] = { 7, 0, 29 }, h[ROWS] = { 1, 12, 3 }, w[ROWS] = { 28, 2, 9 };
    glm4v_backend *b = cpu_open(1);
    float *cos_ = random_array(POSITIONS * FREQ), *sin_ = random_array(POSITIONS * FREQ);
    float *x = random_array(ROWS * DIM), *y = random_array(ROWS * DIM);
    float row_cos[ROWS * FREQ], row_sin[ROWS * FREQ];
    const glm4v_rotary rotary = {
        .cos = cos_, .sin = sin_, .n_rows = POSITIONS, .n_freq = FREQ, .section = { 2, 3, 3 }
    };
    memcpy(y, x, ROWS * DIM * sizeof *x);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < FREQ; k++) {
            const int32_t position = k < 2 ? t[r] : k < 5 ? h[r] : w[r];
            row_cos[r * FREQ + k] = cos_[position * FREQ + k];
            row_sin[r * FREQ + k] = sin_[position * FREQ + k];
        }
    CHECK_EQ(run_rope(b, y, DIM, row_cos, row_sin, ROWS, 1, DIM, FREQ, GLM4V_ROPE_INTERLEAVED), 0);
    const glm4v_rope rope = { x, DIM, 1, DIM };
    glm4v_step *s =
        step_of(b, &(glm4v_step_rows) { .rows = ROWS, .position = { t, h, w }, .rotary = &rotary });
    CHECK_EQ(step_over(s, b->ops->rope(s, &rope)), 0);
    CHECK(same(x, y, ROWS * DIM));
    glm4v_free(cos_);
    glm4v_free(sin_);
    glm4v_free(x);
    glm4v_free(y);
    cpu_close(&b);
}

/* A norm of each head within rows that hold other things too. */
static void heads_are_normed_by_themselves(void)
{
    enum { ROWS = 5, GROUPS = 3, N = 48, LD = 200 };
    glm4v_backend *b = cpu_open(2);
    float *x = random_array(ROWS * LD), *y = random_array(ROWS * LD), *w = random_array(N);
    const glm4v_norm norm = { .w = w, .eps = 1e-5f };
    const glm4v_norm_rows args = { x, LD, x, LD, &norm, ROWS, GROUPS, N, false };
    memcpy(y, x, ROWS * LD * sizeof *x);
    for (int r = 0; r < ROWS; r++)
        for (int g = 0; g < GROUPS; g++) {
            float *at = y + r * LD + g * N;
            CHECK_EQ(run_norm(b, at, at, w, NULL, 1, N, false), 0);
        }
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = ROWS });
    CHECK_EQ(step_over(s, b->ops->norm(s, &args)), 0);
    CHECK(same(x, y, ROWS * LD));
    glm4v_free(x);
    glm4v_free(y);
    glm4v_free(w);
    cpu_close(&b);
}

/* Row operations on many rows and threads, against one row at a time on one thread and a formula
 * for the first row. */
static void row_operations_do_not_depend_on_rows_or_threads(void)
{
    enum { T = 333, N = 150, FREQ = 20, ROPE_HEADS = 3, DIM = 50 };
    glm4v_backend *one = cpu_open(1), *four = cpu_open(4);
    float *x = random_array(T * 2 * N), *w = random_array(N), *bias = random_array(N);
    float *cos_ = random_array(T * FREQ), *sin_ = random_array(T * FREQ);
    float *y = random_array(T * N), *z = random_array(T * N);
#define BOTH(all, each)                                                                            \
    do {                                                                                           \
        memcpy(y, x + T * N, T * N * sizeof *y);                                                   \
        memcpy(z, x + T * N, T * N * sizeof *z);                                                   \
        glm4v_backend *b = four;                                                                   \
        CHECK_EQ(all, 0);                                                                          \
        b = one;                                                                                   \
        for (size_t r = 0; r < T; r++)                                                             \
            CHECK_EQ(each, 0);                                                                     \
        CHECK(same(y, z, T *N));                                                                   \
    } while (0)
    BOTH(run_norm(b, y, x, w, NULL, T, N, true),
         run_norm(b, z + r * N, x + r * N, w, NULL, 1, N, true));
    BOTH(run_norm(b, y, x, w, bias, T, N, true),
         run_norm(b, z + r * N, x + r * N, w, bias, 1, N, true));
    BOTH(run_silu_mul(b, y, x, T, N), run_silu_mul(b, z + r * N, x + 2 * r * N, 1, N));
    BOTH(run_rope(b, y, N, cos_, sin_, T, ROPE_HEADS, DIM, FREQ, GLM4V_ROPE_INTERLEAVED),
         run_rope(b, z + r * N, N, cos_ + r * FREQ, sin_ + r * FREQ, 1, ROPE_HEADS, DIM, FREQ,
                  GLM4V_ROPE_INTERLEAVED));
    BOTH(run_rope(b, y, N, cos_, sin_, T, ROPE_HEADS, DIM, FREQ, GLM4V_ROPE_HALF),
         run_rope(b, z + r * N, N, cos_ + r * FREQ, sin_ + r * FREQ, 1, ROPE_HEADS, DIM, FREQ,
                  GLM4V_ROPE_HALF));
    BOTH(run_add(b, y, x, T * N), run_add(b, z + r * N, x + r * N, N));
    BOTH(run_scale(b, y, 0.3f, T * N), run_scale(b, z + r * N, 0.3f, N));
#undef BOTH
    glm4v_free(x);
    glm4v_free(w);
    glm4v_free(bias);
    glm4v_free(cos_);
    glm4v_free(sin_);
    glm4v_free(y);
    glm4v_free(z);
    cpu_close(&one);
    cpu_close(&four);
}

static void row_operations_are_their_formulas(void)
{
    enum { N = 64 };
    glm4v_backend *b = cpu_open(1);
    float *x = random_array(2 * N), *w = random_array(N), *bias = random_array(N),
          *y = random_array(N);
    double expected[N], mean = 0, square = 0, variance = 0;
    for (int i = 0; i < N; i++) {
        mean += (double)x[i] / N;
        square += (double)x[i] * (double)x[i] / N;
    }
    for (int i = 0; i < N; i++)
        variance += (x[i] - mean) * (x[i] - mean) / N;
    for (int i = 0; i < N; i++)
        expected[i] = (double)w[i] * (double)x[i] / sqrt(square + 1e-5);
    run_norm(b, y, x, w, NULL, 1, N, false);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = (double)w[i] * (x[i] - mean) / sqrt(variance + 1e-5) + (double)bias[i];
    run_norm(b, y, x, w, bias, 1, N, false);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = (double)x[i] / (1 + exp(-(double)x[i])) * (double)x[N + i];
    run_silu_mul(b, y, x, 1, N);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = 0.5 * (double)x[i] * (1 + erf((double)x[i] / sqrt(2)));
    memcpy(y, x, N * sizeof *y);
    run_gelu(b, y, N);
    CHECK(nmse(y, expected, N) < 1e-12);
    glm4v_free(x);
    glm4v_free(w);
    glm4v_free(bias);
    glm4v_free(y);
    cpu_close(&b);
}

static void tables_give_back_their_rows(void)
{
    enum { ROWS = 40, COLS = 96, T = 5 };
    static const glm4v_form table_forms[] = { GLM4V_FORM_F32, GLM4V_FORM_BF16, GLM4V_FORM_INT8 };
    static const double limit[] = { 1e-30, 1e-5, 1e-4 };
    static const int32_t ids[T] = { 39, 0, 7, 7, 20 };
    glm4v_backend *b = cpu_open(2);
    float *rows = random_array(ROWS * COLS), *y = random_array(T * COLS),
          *z = random_array(T * COLS);
    double expected[T * COLS];
    for (int i = 0; i < T * COLS; i++)
        expected[i] = (double)rows[ids[i / COLS] * COLS + i % COLS];
    for (size_t i = 0; i < 3; i++) {
        glm4v_table t = { 0 };
        CHECK_EQ(b->ops->table_alloc(b, &t, table_forms[i], ROWS, COLS, NULL), 0);
        CHECK_EQ(b->ops->table_fill(b, &t, 0, 30, rows), 0);
        CHECK_EQ(b->ops->table_fill(b, &t, 30, 10, rows + 30 * COLS), 0);
        CHECK_EQ(run_embed(b, y, &t, ids, T), 0);
        CHECK(nmse(y, expected, T * COLS) < limit[i]);
        b->ops->table_free(b, &t);
    }
    static const int32_t places[T] = { 4, 2, 0, 1, 3 };
    glm4v_step *s = step_of(
        b, &(glm4v_step_rows) {
               .rows = T, .places = places, .n_places = T, .outputs = ids, .n_outputs = T });
    CHECK_EQ(b->ops->take_rows(s, y, rows, COLS), 0);
    CHECK(nmse(y, expected, T * COLS) < 1e-30);
    CHECK_EQ(step_over(s, b->ops->place_rows(s, z, y, COLS)), 0);
    for (int i = 0; i < T; i++)
        CHECK(same(z + places[i] * COLS, y + i * COLS, COLS));
    glm4v_free(rows);
    glm4v_free(y);
    glm4v_free(z);
    cpu_close(&b);
}

static void reserved_operations_allocate_nothing(void)
{
    enum { T = 600, K = 256, N = 64 };
    glm4v_backend *b = cpu_open(3);
    float *x = random_array(T * K), *rows = random_array(N * K), *y = random_array(T * N);
    const glm4v_scratch_need need = { T, K, 20, N };
    const glm4v_attend_all all = { .o = y,
                                   .ldo = N,
                                   .q = x,
                                   .k = x,
                                   .v = x,
                                   .ld = N,
                                   .rows = 20,
                                   .heads = 1,
                                   .head_dim = N,
                                   .scale = 1,
                                   .scratch = x + T * K / 2 };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = T });
    CHECK_EQ(b->ops->reserve(b, &need, NULL), 0);
    for (glm4v_form i = 0; i < GLM4V_N_FORMS; i++) {
        glm4v_weight w = make_weight(b, i, N, K, rows);
        const glm4v_product p = { y, N, x, K, &w, NULL, T, false };
        const uint64_t calls = glm4v_mem_calls();
        CHECK_EQ(b->ops->product(s, &p), 0);
        CHECK_EQ(b->ops->attend_all(s, &all), 0);
        CHECK_EQ(glm4v_mem_calls(), calls);
        b->ops->weight_free(b, &w);
    }
    CHECK_EQ(step_over(s, 0), 0);
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(y);
    cpu_close(&b);
}

/* Scratch that cannot be had is out of memory, and the next call has it. */
static void an_operation_out_of_memory_says_so_and_goes_on(void)
{
    enum { T = 4, K = 256, N = 32 };
    glm4v_backend *b = cpu_open(2);
    float *x = random_array(T * K), *rows = random_array(N * K), *y = random_array(T * N);
    glm4v_weight w = make_weight(b, GLM4V_FORM_INT8, N, K, rows);
    char text[256] = "";
    const glm4v_product p = { y, N, x, K, &w, NULL, T, false };
    const glm4v_attend_all all = { .o = y,
                                   .ldo = 16,
                                   .q = x,
                                   .k = x,
                                   .v = x,
                                   .ld = 16,
                                   .rows = T,
                                   .heads = 1,
                                   .head_dim = 16,
                                   .scale = 1,
                                   .scratch = x + T * K / 2 };
    glm4v_step *s = step_of(b, &(glm4v_step_rows) { .rows = T });
    b->ops->failure(b, text, sizeof text);
    CHECK_STR(text, "");
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(b->ops->product(s, &p), GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    b->ops->failure(b, text, sizeof text);
    CHECK_CONTAINS(text, "no memory for scratch of rounded activations");
    CHECK_EQ(b->ops->product(s, &p), 0);
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(b->ops->attend_all(s, &all), GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    CHECK_EQ(b->ops->attend_all(s, &all), 0);
    CHECK_EQ(step_over(s, 0), 0);
    b->ops->weight_free(b, &w);
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(y);
    cpu_close(&b);
}

/* Rows beyond what a step has room for are refused before anything is done. */
static void a_step_refuses_what_it_has_no_room_for(void)
{
    static const int32_t list[4] = { 0 };
    static const glm4v_draw draw = { 0 };
    glm4v_backend *b = cpu_open(1);
    const glm4v_step_size size = { .rows = 3, .spans = 1, .outputs = 1 }, patches = { .rows = 3 };
    glm4v_step *s = NULL, *p = NULL;
    bool replayed;
    REQUIRE(!b->ops->step_open(b, &s, &size, NULL));
    REQUIRE(!b->ops->step_open(b, &p, &patches, NULL));
    const glm4v_step_rows bad[] = {
        { .rows = 0 },
        { .rows = 4 },
        { .rows = 3, .outputs = list, .n_outputs = 2 },
        { .rows = 3, .places = list, .n_places = 4 },
        { .rows = 3, .outputs = list, .n_outputs = 1, .draws = &draw }, /* the CPU has no sample */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(b->ops->step_begin(s, &bad[i], &replayed), GLM4V_ERR_INVALID);
    CHECK_EQ(b->ops->step_begin(p, &(glm4v_step_rows) { .rows = 1, .ids = list }, &replayed),
             GLM4V_ERR_INVALID);
    glm4v_mem_fail_at(1, false);
    glm4v_step *none = NULL;
    CHECK_EQ(b->ops->step_open(b, &none, &size, NULL), GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    b->ops->step_close(s);
    b->ops->step_close(p);
    cpu_close(&b);
}

static void what_cannot_be_had_is_told(void)
{
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    glm4v_weight w = { 0 };
    CHECK_EQ(cpu_try_open(&b, "cuda:1", 1, &err), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "device \"cuda:1\": ");
    CHECK_EQ(cpu_try_open(&b, "cuda:0,cuda:1", 1, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(cpu_try_open(&b, "cuda:", 1, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(cpu_try_open(&b, "cuda,", 1, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(cpu_try_open(&b, "gpu", 1, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "\"gpu\"");
    CHECK(!b);
    b = cpu_open(1);
    static const glm4v_scratch_need need = { 4, 256, 64, 64 };
    static const glm4v_weight_kind odd = { GLM4V_FORM_INT4, 16, 96 },
                                   huge = { GLM4V_FORM_F32, INT32_MAX, INT32_MAX },
                                   small = { GLM4V_FORM_INT8, 16, 128 };
    CHECK_EQ(b->ops->weight_alloc(b, &w, &odd, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_EQ(b->ops->weight_alloc(b, &w, &huge, &err), GLM4V_ERR_NOMEM);
    CHECK(!w.data);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        glm4v_mem_fail_at(nth, false);
        CHECK_EQ(b->ops->weight_alloc(b, &w, &small, &err), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
    }
    cpu_close(&b);
    for (uint64_t nth = 1; nth <= 5; nth++) {
        b = cpu_open(1);
        glm4v_mem_fail_at(nth, false);
        CHECK_EQ(b->ops->reserve(b, &need, &err), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(b->ops->reserve(b, &need, &err), 0);
        cpu_close(&b);
    }
}

/* Read to the memory of the matrix, all but the last panel, as the loader does. */
static void bf16_rows_are_taken_as_they_are(void)
{
    enum { N = 75, K = 250, MOST = N / 16 * 16 };
    glm4v_backend *b = cpu_open(1);
    uint16_t *bits = glm4v_alloc((size_t)N * K, sizeof *bits);
    float *rows = random_array(N * K);
    REQUIRE(bits);
    rows[0] = 0x1p-140f; /* denormal in bf16 too */
    rows[1] = -0.0f;
    glm4v_f32_to_bf16_c(bits, rows, N * K);
    glm4v_weight w = make_weight(b, GLM4V_FORM_BF16, N, K, rows);
    glm4v_weight v = make_weight(b, GLM4V_FORM_BF16, N, K, rows);
    memset(v.data, 0xff, v.bytes);
    void *room = b->ops->weight_room(b, &v, 0, MOST);
    REQUIRE(room);
    memcpy(room, bits, sizeof *bits * MOST * K);
    CHECK_EQ(b->ops->weight_fill_bf16(b, &v, 0, MOST, room), 0);
    CHECK_EQ(b->ops->weight_fill_bf16(b, &v, MOST, N - MOST, bits + MOST * K), 0);
    CHECK(!memcmp(w.data, v.data, w.bytes));
    CHECK_EQ(b->ops->weight_fill_bf16(b, &v, 8, 16, bits), GLM4V_ERR_INVALID);
    b->ops->weight_free(b, &v);
    v = make_weight(b, GLM4V_FORM_BF16, N, K - 1, rows);
    CHECK_EQ(b->ops->weight_fill_bf16(b, &v, 0, 16, bits), GLM4V_ERR_INVALID);
    CHECK(!b->ops->weight_room(b, &v, 0, 16));
    b->ops->weight_free(b, &v);
    b->ops->weight_free(b, &w);
    glm4v_free(bits);
    glm4v_free(rows);
    cpu_close(&b);
}

static void bf16_that_is_not_finite_is_found(void)
{
    uint16_t x[19] = { 0 };
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        float wide;
        x[bits % 19] = (uint16_t)bits;
        glm4v_bf16_to_f32_c(&wide, &x[bits % 19], 1);
        CHECK_EQ(glm4v_all_finite_bf16(x, 19), isfinite(wide) != 0);
        x[bits % 19] = 0;
    }
}

static void weights_share_the_room_that_was_reserved(void)
{
    static const glm4v_weight_kind kinds[] = {
        { .form = GLM4V_FORM_INT4, .n_out = 40, .n_in = 256, .zeros = true, .ordered = true },
        { .form = GLM4V_FORM_INT8, .n_out = 17, .n_in = 33, .ordered = true },
        { .form = GLM4V_FORM_BF16, .n_out = 1, .n_in = 3 },
    };
    enum { KINDS = sizeof kinds / sizeof *kinds, ROWS = 5, COLS = 7 };
    const size_t before = glm4v_mem_live();
    glm4v_backend *b = cpu_open(1);
    glm4v_weight w[KINDS] = { 0 }, beyond = { 0 };
    glm4v_table t = { 0 };
    glm4v_error err = { 0 };
    uint64_t bytes = 64 + 64; /* the table: numbers, scales */
    for (int i = 0; i < KINDS; i++)
        bytes += b->ops->weight_bytes(b, &kinds[i]);
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(b->ops->weights_reserve(b, bytes, &err), GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    CHECK_EQ(b->ops->weights_reserve(b, bytes, &err), 0);
    const uint64_t calls = glm4v_mem_calls();
    for (int i = 0; i < KINDS; i++) {
        CHECK_EQ(b->ops->weight_alloc(b, &w[i], &kinds[i], &err), 0);
        CHECK_EQ((uintptr_t)w[i].data % 64, 0);
    }
    CHECK_EQ(b->ops->table_alloc(b, &t, GLM4V_FORM_INT8, ROWS, COLS, &err), 0);
    CHECK_EQ(t.bytes, 128);
    CHECK_EQ(glm4v_mem_calls(), calls);
    CHECK_EQ((char *)t.scale - (char *)w[0].data, (long)bytes - 64);
    const size_t full = glm4v_mem_live();
    CHECK_EQ(b->ops->weight_alloc(b, &beyond, &kinds[2], &err), 0);
    CHECK(glm4v_mem_live() > full);
    b->ops->weight_free(b, &beyond);
    CHECK_EQ(glm4v_mem_live(), full);
    for (int i = 0; i < KINDS; i++)
        b->ops->weight_free(b, &w[i]);
    b->ops->table_free(b, &t);
    CHECK_EQ(glm4v_mem_live(), full);
    cpu_close(&b);
    CHECK_EQ(glm4v_mem_live(), before);
}

static void every_allocation_of_open_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    for (uint64_t nth = 1;; nth++) {
        glm4v_backend *b = NULL;
        glm4v_error err = { 0 };
        glm4v_mem_fail_at(nth, false);
        int rc = cpu_try_open(&b, "auto", 2, &err);
        glm4v_mem_fail_at(0, false);
        cpu_close(&b);
        CHECK_EQ(glm4v_mem_live(), live);
        if (!rc) {
            CHECK(nth > 1);
            break;
        }
        CHECK_EQ(rc, GLM4V_ERR_NOMEM);
    }
}

static void an_unknown_level_in_the_environment_is_told(void)
{
    const char *level = getenv("GLM4V_CPU");
    char before[32] = "";
    if (level)
        snprintf(before, sizeof before, "%s", level);
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    setenv("GLM4V_CPU", "sse9", 1);
    CHECK_EQ(cpu_try_open(&b, "cpu", 1, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "sse9");
    setenv("GLM4V_CPU", "c", 1);
    CHECK_EQ(cpu_try_open(&b, "cpu", 1, &err), 0);
    CHECK_STR(b->isa, "c");
    cpu_close(&b);
    if (level)
        setenv("GLM4V_CPU", before, 1);
    else
        unsetenv("GLM4V_CPU");
}

int main(void)
{
    TEST(linear_is_the_product_of_each_form);
    TEST(linear_rows_do_not_depend_on_rows_or_threads);
    TEST(attention_is_causal_and_shares_keys_among_heads);
    TEST(copied_keys_and_values_are_the_same);
    TEST(in_a_picture_every_row_sees_all);
    TEST(sections_follow_their_axes);
    TEST(heads_are_normed_by_themselves);
    TEST(row_operations_do_not_depend_on_rows_or_threads);
    TEST(row_operations_are_their_formulas);
    TEST(tables_give_back_their_rows);
    TEST(reserved_operations_allocate_nothing);
    TEST(an_operation_out_of_memory_says_so_and_goes_on);
    TEST(a_step_refuses_what_it_has_no_room_for);
    TEST(what_cannot_be_had_is_told);
    TEST(bf16_rows_are_taken_as_they_are);
    TEST(bf16_that_is_not_finite_is_found);
    TEST(weights_share_the_room_that_was_reserved);
    TEST(every_allocation_of_open_may_fail);
    TEST(an_unknown_level_in_the_environment_is_told);
    return test_end();
}
