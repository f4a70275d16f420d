/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend as the forward passes see it: every operation against a plain formula in double,
 * and the promise that a row's bytes depend neither on the other rows nor on the number of threads.
 * Levels: GLM4V_CPU. */
#include <math.h>
#include <stdlib.h>

#include "backend/backend.h"
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

static glm4v_backend *open_cpu(uint32_t threads)
{
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    if (glm4v_backend_open(&b, "cpu", threads, NULL, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    return b;
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
    static const double limit[] = { [GLM4V_FORM_F32] = 1e-12,
                                    [GLM4V_FORM_BF16] = 1e-4,
                                    [GLM4V_FORM_INT8] = 5e-4,
                                    [GLM4V_FORM_INT4] = 2e-2,
                                    [GLM4V_FORM_FP8] = 2e-3 };
    _Static_assert(sizeof limit / sizeof *limit == GLM4V_N_FORMS, "a form has no limit");
    glm4v_backend *b = open_cpu(2);
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
        CHECK_EQ(b->ops->linear(b, y, N, x, K, &w, bias, T, true), 0);
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
    glm4v_backend_close(&b);
}

/* K and N that fill no panel, group or tile; more rows than a slab. */
static void linear_rows_do_not_depend_on_rows_or_threads(void)
{
    enum { T = 1100, K = 384, N = 200, LDX = 390, LDY = 211 };
    glm4v_backend *one = open_cpu(1), *four = open_cpu(4);
    float *x = random_array(T * LDX), *rows = random_array(N * K), *bias = random_array(N);
    float *y = random_array(T * LDY), *z = random_array(T * LDY);
    for (glm4v_form i = 0; i < GLM4V_N_FORMS; i++) {
        glm4v_weight w = make_weight(one, i, N, K, rows);
        memset(y, 0, T * LDY * sizeof *y);
        memset(z, 0, T * LDY * sizeof *z);
        CHECK_EQ(four->ops->linear(four, y, LDY, x, LDX, &w, bias, T, false), 0);
        CHECK_EQ(one->ops->linear(one, z, LDY, x, LDX, &w, bias, T, false), 0);
        CHECK(same(y, z, T * LDY));
        memset(z, 0, T * LDY * sizeof *z);
        static const int32_t pieces[] = { 1, 2, 7, 30, 64, 300, 696 };
        for (int32_t row = 0, p = 0; row < T; row += pieces[p++])
            CHECK_EQ(four->ops->linear(four, z + row * LDY, LDY, x + row * LDX, LDX, &w, bias,
                                       pieces[p], false),
                     0);
        CHECK(same(y, z, T * LDY));
        one->ops->weight_free(one, &w);
    }
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(bias);
    glm4v_free(y);
    glm4v_free(z);
    glm4v_backend_close(&one);
    glm4v_backend_close(&four);
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

enum { HEADS = 6, KV_HEADS = 2, HEAD_DIM = 48, CAPACITY = 90, JOBS = 3 };

/* Cache of JOBS sequences as the context lays it out: [job][kv_heads][capacity][head_dim]. */
static void make_jobs(glm4v_attention_job *jobs, glm4v_attention *shape, float *o, const float *q,
                      const float *k, const float *v, const int32_t *n_q, const int32_t *n_k)
{
    *shape = (glm4v_attention) { .heads = HEADS,
                                 .kv_heads = KV_HEADS,
                                 .head_dim = HEAD_DIM,
                                 .ldo = HEADS * HEAD_DIM,
                                 .ldq = HEADS * HEAD_DIM,
                                 .ldk = HEAD_DIM,
                                 .ldv = HEAD_DIM,
                                 .k_head = CAPACITY * HEAD_DIM,
                                 .v_head = CAPACITY * HEAD_DIM,
                                 .scale = 0.25f,
                                 .causal = true };
    for (int32_t i = 0, row = 0; i < JOBS; row += n_q[i++])
        jobs[i] = (glm4v_attention_job) { .o = o + row * HEADS * HEAD_DIM,
                                          .q = q + row * HEADS * HEAD_DIM,
                                          .k = k + i * KV_HEADS * CAPACITY * HEAD_DIM,
                                          .v = v + i * KV_HEADS * CAPACITY * HEAD_DIM,
                                          .n_q = n_q[i],
                                          .n_k = n_k[i] };
}

static void attention_is_causal_and_shares_keys_among_heads(void)
{
    static const int32_t n_q[JOBS] = { 1, 17, 40 }, n_k[JOBS] = { 90, 17, 71 };
    const size_t rows = 58, row = HEADS * HEAD_DIM, cache = JOBS * KV_HEADS * CAPACITY * HEAD_DIM;
    glm4v_backend *b = open_cpu(3);
    float *q = random_array(rows * row), *k = random_array(cache), *v = random_array(cache);
    float *o = random_array(rows * row);
    double *expected = glm4v_alloc(rows * row, sizeof *expected);
    glm4v_attention_job jobs[JOBS];
    glm4v_attention shape;
    make_jobs(jobs, &shape, o, q, k, v, n_q, n_k);
    CHECK_EQ(b->ops->attention(b, jobs, JOBS, &shape), 0);
    for (int32_t i = 0, r = 0; i < JOBS; i++)
        for (int32_t j = 0; j < n_q[i]; j++, r++)
            for (int32_t h = 0; h < HEADS; h++) {
                const size_t at =
                    (size_t)(i * KV_HEADS + h / (HEADS / KV_HEADS)) * CAPACITY * HEAD_DIM;
                const size_t head = (size_t)r * row + (size_t)h * HEAD_DIM;
                attend_in_double(expected + head, q + head, k + at, v + at, HEAD_DIM, HEAD_DIM,
                                 n_k[i] - n_q[i] + j + 1, HEAD_DIM, 0.25);
            }
    CHECK(nmse(o, expected, rows * row) < 1e-11);

    /* each row alone, on one thread: the same bytes */
    glm4v_backend *one = open_cpu(1);
    float *alone = random_array(rows * row);
    for (int32_t i = 0, r = 0; i < JOBS; i++)
        for (int32_t j = 0; j < n_q[i]; j++, r++) {
            glm4v_attention_job job = jobs[i];
            job.o = alone + (size_t)r * row;
            job.q = q + (size_t)r * row;
            job.n_q = 1;
            job.n_k = n_k[i] - n_q[i] + j + 1;
            CHECK_EQ(one->ops->attention(one, &job, 1, &shape), 0);
        }
    CHECK(same(o, alone, rows * row));
    glm4v_free(q);
    glm4v_free(k);
    glm4v_free(v);
    glm4v_free(o);
    glm4v_free(alone);
    glm4v_free(expected);
    glm4v_backend_close(&one);
    glm4v_backend_close(&b);
}

static void kv_append_writes_rows_behind_those_there(void)
{
    enum { N = 5, LD = 2 * KV_HEADS * HEAD_DIM + 3, AT = 7 };
    glm4v_backend *b = open_cpu(2);
    float *new_rows = random_array(N * LD), *k = random_array(KV_HEADS * CAPACITY * HEAD_DIM);
    float *v = random_array(KV_HEADS * CAPACITY * HEAD_DIM);
    float *k_before = random_array(KV_HEADS * CAPACITY * HEAD_DIM);
    float *v_before = random_array(KV_HEADS * CAPACITY * HEAD_DIM);
    memcpy(k_before, k, KV_HEADS * CAPACITY * HEAD_DIM * sizeof *k);
    memcpy(v_before, v, KV_HEADS * CAPACITY * HEAD_DIM * sizeof *v);
    const glm4v_kv_job job = { .k_cache = k,
                               .v_cache = v,
                               .k = new_rows,
                               .v = new_rows + KV_HEADS * HEAD_DIM,
                               .position = AT,
                               .n = N };
    CHECK_EQ(b->ops->kv_append(b, &job, 1, LD, KV_HEADS, HEAD_DIM, CAPACITY), 0);
    for (int h = 0; h < KV_HEADS; h++)
        for (int r = 0; r < CAPACITY; r++) {
            const size_t at = ((size_t)h * CAPACITY + (size_t)r) * HEAD_DIM;
            const bool written = r >= AT && r < AT + N;
            const float *from = new_rows + (r - AT) * LD + h * HEAD_DIM;
            CHECK(same(k + at, written ? from : k_before + at, HEAD_DIM));
            CHECK(same(v + at, written ? from + KV_HEADS * HEAD_DIM : v_before + at, HEAD_DIM));
        }
    glm4v_free(new_rows);
    glm4v_free(k);
    glm4v_free(v);
    glm4v_free(k_before);
    glm4v_free(v_before);
    glm4v_backend_close(&b);
}

/* Row operations on many rows and threads, against one row at a time on one thread and a formula
 * for the first row. */
static void row_operations_do_not_depend_on_rows_or_threads(void)
{
    enum { T = 333, N = 150, FREQ = 20, ROPE_HEADS = 3, DIM = 50 };
    glm4v_backend *one = open_cpu(1), *four = open_cpu(4);
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
    BOTH(b->ops->rms_norm(b, y, x, w, T, N, 1e-5f, true),
         b->ops->rms_norm(b, z + r * N, x + r * N, w, 1, N, 1e-5f, true));
    BOTH(b->ops->layer_norm(b, y, x, w, bias, T, N, 1e-5f, true),
         b->ops->layer_norm(b, z + r * N, x + r * N, w, bias, 1, N, 1e-5f, true));
    BOTH(b->ops->silu_mul(b, y, x, T, N), b->ops->silu_mul(b, z + r * N, x + 2 * r * N, 1, N));
    BOTH(b->ops->rope(b, y, N, cos_, sin_, T, ROPE_HEADS, DIM, FREQ, GLM4V_ROPE_INTERLEAVED),
         b->ops->rope(b, z + r * N, N, cos_ + r * FREQ, sin_ + r * FREQ, 1, ROPE_HEADS, DIM, FREQ,
                      GLM4V_ROPE_INTERLEAVED));
    BOTH(b->ops->rope(b, y, N, cos_, sin_, T, ROPE_HEADS, DIM, FREQ, GLM4V_ROPE_HALF),
         b->ops->rope(b, z + r * N, N, cos_ + r * FREQ, sin_ + r * FREQ, 1, ROPE_HEADS, DIM, FREQ,
                      GLM4V_ROPE_HALF));
    BOTH(b->ops->add(b, y, x, T * N), b->ops->add(b, z + r * N, x + r * N, N));
    BOTH(b->ops->scale(b, y, 0.3f, T * N), b->ops->scale(b, z + r * N, 0.3f, N));
#undef BOTH
    glm4v_free(x);
    glm4v_free(w);
    glm4v_free(bias);
    glm4v_free(cos_);
    glm4v_free(sin_);
    glm4v_free(y);
    glm4v_free(z);
    glm4v_backend_close(&one);
    glm4v_backend_close(&four);
}

static void row_operations_are_their_formulas(void)
{
    enum { N = 64 };
    glm4v_backend *b = open_cpu(1);
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
    b->ops->rms_norm(b, y, x, w, 1, N, 1e-5f, false);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = (double)w[i] * (x[i] - mean) / sqrt(variance + 1e-5) + (double)bias[i];
    b->ops->layer_norm(b, y, x, w, bias, 1, N, 1e-5f, false);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = (double)x[i] / (1 + exp(-(double)x[i])) * (double)x[N + i];
    b->ops->silu_mul(b, y, x, 1, N);
    CHECK(nmse(y, expected, N) < 1e-12);
    for (int i = 0; i < N; i++)
        expected[i] = 0.5 * (double)x[i] * (1 + erf((double)x[i] / sqrt(2)));
    memcpy(y, x, N * sizeof *y);
    b->ops->gelu(b, y, N);
    CHECK(nmse(y, expected, N) < 1e-12);
    glm4v_free(x);
    glm4v_free(w);
    glm4v_free(bias);
    glm4v_free(y);
    glm4v_backend_close(&b);
}

static void tables_give_back_their_rows(void)
{
    enum { ROWS = 40, COLS = 96, T = 5 };
    static const glm4v_form table_forms[] = { GLM4V_FORM_F32, GLM4V_FORM_BF16, GLM4V_FORM_INT8 };
    static const double limit[] = { 1e-30, 1e-5, 1e-4 };
    static const int32_t ids[T] = { 39, 0, 7, 7, 20 };
    glm4v_backend *b = open_cpu(2);
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
        CHECK_EQ(b->ops->embed(b, y, &t, ids, T), 0);
        CHECK(nmse(y, expected, T * COLS) < limit[i]);
        b->ops->table_free(b, &t);
    }
    CHECK_EQ(b->ops->gather_rows(b, y, rows, ids, T, COLS), 0);
    CHECK(nmse(y, expected, T * COLS) < 1e-30);
    static const int32_t places[T] = { 4, 2, 0, 1, 3 };
    CHECK_EQ(b->ops->copy_rows(b, z, places, y, T, COLS), 0);
    for (int i = 0; i < T; i++)
        CHECK(same(z + places[i] * COLS, y + i * COLS, COLS));
    glm4v_free(rows);
    glm4v_free(y);
    glm4v_free(z);
    glm4v_backend_close(&b);
}

static void reserved_operations_allocate_nothing(void)
{
    enum { T = 600, K = 256, N = 64 };
    glm4v_backend *b = open_cpu(3);
    float *x = random_array(T * K), *rows = random_array(N * K), *y = random_array(T * N);
    glm4v_attention_job job = { .o = y, .q = x, .k = x, .v = x, .n_q = 20, .n_k = 20 };
    const glm4v_attention shape = {
        .heads = 1, .kv_heads = 1, .head_dim = N, .ldo = N, .ldq = N, .ldk = N, .ldv = N, .scale = 1
    };
    CHECK_EQ(b->ops->reserve(b, T, K, 20, N, NULL), 0);
    for (glm4v_form i = 0; i < GLM4V_N_FORMS; i++) {
        glm4v_weight w = make_weight(b, i, N, K, rows);
        const uint64_t calls = glm4v_mem_calls();
        CHECK_EQ(b->ops->linear(b, y, N, x, K, &w, NULL, T, false), 0);
        CHECK_EQ(b->ops->attention(b, &job, 1, &shape), 0);
        CHECK_EQ(glm4v_mem_calls(), calls);
        b->ops->weight_free(b, &w);
    }
    glm4v_free(x);
    glm4v_free(rows);
    glm4v_free(y);
    glm4v_backend_close(&b);
}

static void what_cannot_be_had_is_told(void)
{
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    glm4v_weight w = { 0 };
    CHECK_EQ(glm4v_backend_open(&b, "cuda:1", 1, NULL, &err), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "CUDA");
    CHECK_EQ(glm4v_backend_open(&b, "cuda:0,cuda:1", 1, NULL, &err), GLM4V_ERR_DEVICE);
    CHECK_EQ(glm4v_backend_open(&b, "cuda:", 1, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_backend_open(&b, "cuda,", 1, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_backend_open(&b, "gpu", 1, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "\"gpu\"");
    CHECK(!b);
    b = open_cpu(1);
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
    glm4v_backend_close(&b);
    for (uint64_t nth = 1; nth <= 5; nth++) {
        b = open_cpu(1);
        glm4v_mem_fail_at(nth, false);
        CHECK_EQ(b->ops->reserve(b, 4, 256, 64, 64, &err), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(b->ops->reserve(b, 4, 256, 64, 64, &err), 0);
        glm4v_backend_close(&b);
    }
}

/* Read to the memory of the matrix, all but the last panel, as the loader does. */
static void bf16_rows_are_taken_as_they_are(void)
{
    enum { N = 75, K = 250, MOST = N / 16 * 16 };
    glm4v_backend *b = open_cpu(1);
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
    glm4v_backend_close(&b);
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
    glm4v_backend *b = open_cpu(1);
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
    glm4v_backend_close(&b);
    CHECK_EQ(glm4v_mem_live(), before);
}

static void every_allocation_of_open_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    for (uint64_t nth = 1;; nth++) {
        glm4v_backend *b = NULL;
        glm4v_error err = { 0 };
        glm4v_mem_fail_at(nth, false);
        int rc = glm4v_backend_open(&b, "auto", 2, NULL, &err);
        glm4v_mem_fail_at(0, false);
        glm4v_backend_close(&b);
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
    CHECK_EQ(glm4v_backend_open(&b, "cpu", 1, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "sse9");
    setenv("GLM4V_CPU", "c", 1);
    CHECK_EQ(glm4v_backend_open(&b, "cpu", 1, NULL, &err), 0);
    CHECK_STR(b->isa, "c");
    glm4v_backend_close(&b);
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
    TEST(kv_append_writes_rows_behind_those_there);
    TEST(row_operations_do_not_depend_on_rows_or_threads);
    TEST(row_operations_are_their_formulas);
    TEST(tables_give_back_their_rows);
    TEST(reserved_operations_allocate_nothing);
    TEST(what_cannot_be_had_is_told);
    TEST(bf16_rows_are_taken_as_they_are);
    TEST(bf16_that_is_not_finite_is_found);
    TEST(weights_share_the_room_that_was_reserved);
    TEST(every_allocation_of_open_may_fail);
    TEST(an_unknown_level_in_the_environment_is_told);
    return test_end();
}
