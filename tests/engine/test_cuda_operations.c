/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Single operations of the CUDA backend, through the table, beside those of the CPU backend's C
 * kernels on the same numbers, which are bf16 in both. On a GPU, and on the fake runtime. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>

#include "backend/cuda_module.h"
#include "backend_step.h"
#include "convert.h"
#include "fixture.h"
#include "forward/context_priv.h"

enum { MOST = 1 << 18 };

static glm4v_backend *cpu, *gpu;
static glm4v_error err;
static float a_host[MOST], b_host[MOST], got[MOST], expected[MOST];

static uint64_t state = 5;

/* Numbers that are bf16, of magnitude 1 about. */
static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t narrow;
        state = state * 6364136223846793005u + 1442695040888963407u;
        const float value = (float)((int32_t)(state >> 33) % 2000 - 1000) / 500;
        glm4v_f32_to_bf16_c(&narrow, &value, 1);
        glm4v_bf16_to_f32_c(&x[i], &narrow, 1);
    }
}

/* Activations of a device from the host's, with a guard of as many NaN behind them. */
static void *send(glm4v_backend *b, const float *host, int64_t n)
{
    void *device = NULL;
    if (b->ops->alloc(b, &device, (size_t)n * b->traits->activation + 256, &err) ||
        b->ops->upload(b, device, host, n))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return device;
}

/* f32 parameters. */
static float *send_exact(glm4v_backend *b, const float *host, int64_t n)
{
    void *device = NULL;
    if (b->ops->alloc(b, &device, (size_t)n * sizeof *host, &err) ||
        b->ops->write(b, device, host, (size_t)n * sizeof *host))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return device;
}

static void take_back(glm4v_backend *b, float *host, void *device, int64_t n)
{
    CHECK_EQ(b->ops->download(b, host, device, n), 0);
    b->ops->free(b, device);
}

/* got beside expected. bf16 of the result is 1e-6 of it. */
static void compare(const char *what, int64_t rows, int64_t n, double limit)
{
    double error = 0, power = 1e-30;
    for (int64_t i = 0; i < rows * n; i++) {
        const double d = (double)got[i] - (double)expected[i];
        error += d * d;
        power += (double)expected[i] * (double)expected[i];
    }
    if (!(error <= limit * power))
        test_fail(__FILE__, __LINE__, "%s of %lld x %lld: error %g", what, (long long)rows,
                  (long long)n, error / power);
}

typedef int (*run_fn)(glm4v_backend *b, void *x, int64_t rows, int64_t n);

/* An operation in place on rows of both. */
static void compare_in_place(const char *what, run_fn run, int64_t rows, int64_t n)
{
    glm4v_backend *const both[] = { cpu, gpu };
    fill(a_host, rows * n);
    for (int i = 0; i < 2; i++) {
        void *x = send(both[i], a_host, rows * n);
        CHECK_EQ(run(both[i], x, rows, n), 0);
        take_back(both[i], i ? got : expected, x, rows * n);
    }
    compare(what, rows, n, 1e-5);
}

/* ---- values ---- */

static int run_gelu_rows(glm4v_backend *b, void *x, int64_t rows, int64_t n)
{
    return run_gelu(b, x, rows * n);
}

static int run_scale_rows(glm4v_backend *b, void *x, int64_t rows, int64_t n)
{
    return run_scale(b, x, 0.37f, rows * n);
}

static int run_add_rows(glm4v_backend *b, void *x, int64_t rows, int64_t n)
{
    void *other = send(b, a_host + 1, rows * n - 1);
    int rc = run_add(b, x, other, rows * n - 1);
    b->ops->free(b, other);
    return rc;
}

static void values_are_equal(void)
{
    static const int64_t sizes[][2] = { { 1, 8 }, { 3, 5 }, { 7, 64 }, { 33, 1001 }, { 64, 4096 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        compare_in_place("gelu", run_gelu_rows, sizes[i][0], sizes[i][1]);
        compare_in_place("scale", run_scale_rows, sizes[i][0], sizes[i][1]);
        compare_in_place("add", run_add_rows, sizes[i][0], sizes[i][1]);
    }
}

static void silu_mul_is_equal(void)
{
    static const int64_t sizes[][2] = { { 1, 8 }, { 5, 24 }, { 9, 1368 }, { 40, 512 } };
    glm4v_backend *const both[] = { cpu, gpu };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t rows = sizes[s][0], n = sizes[s][1];
        fill(a_host, 2 * rows * n);
        for (int i = 0; i < 2; i++) {
            void *x = send(both[i], a_host, 2 * rows * n), *y = send(both[i], a_host, rows * n);
            CHECK_EQ(run_silu_mul(both[i], y, x, rows, n), 0);
            take_back(both[i], i ? got : expected, y, rows * n);
            both[i]->ops->free(both[i], x);
        }
        compare("silu_mul", rows, n, 1e-5);
    }
}

/* ---- norms and rotary positions ---- */

static void norms_are_equal(void)
{
    static const int64_t sizes[][2] = {
        { 1, 8 }, { 3, 16 }, { 2, 64 }, { 37, 1536 }, { 20, 4096 }
    };
    glm4v_backend *const both[] = { cpu, gpu };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int variant = 0; variant < 4; variant++) { /* with bias; added */
            const int64_t rows = sizes[s][0], n = sizes[s][1];
            fill(a_host, rows * n);
            fill(b_host, 2 * n);
            for (int i = 0; i < 2; i++) {
                float *w = send_exact(both[i], b_host, n),
                      *bias = send_exact(both[i], b_host + n, n);
                void *x = send(both[i], a_host, rows * n), *y = send(both[i], a_host, rows * n);
                CHECK_EQ(
                    run_norm(both[i], y, x, w, variant & 1 ? bias : NULL, rows, n, variant & 2), 0);
                take_back(both[i], i ? got : expected, y, rows * n);
                both[i]->ops->free(both[i], x);
                both[i]->ops->free(both[i], w);
                both[i]->ops->free(both[i], bias);
            }
            compare("norm", rows, n, 1e-5);
        }
}

static void rotary_positions_are_equal(void)
{
    enum { ROWS = 11, HEADS = 3, DIM = 32, FREQ = 12 };
    glm4v_backend *const both[] = { cpu, gpu };
    float cos_[ROWS * FREQ], sin_[ROWS * FREQ];
    for (int i = 0; i < ROWS * FREQ; i++) {
        cos_[i] = cosf((float)i * 0.37f);
        sin_[i] = sinf((float)i * 0.37f);
    }
    for (int style = 0; style < 2; style++) {
        fill(a_host, ROWS * HEADS * DIM);
        for (int i = 0; i < 2; i++) {
            float *c = send_exact(both[i], cos_, ROWS * FREQ);
            float *s = send_exact(both[i], sin_, ROWS * FREQ);
            void *x = send(both[i], a_host, ROWS * HEADS * DIM);
            CHECK_EQ(run_rope(both[i], x, HEADS * DIM, c, s, ROWS, HEADS, DIM, FREQ,
                              (glm4v_rope_style)style),
                     0);
            take_back(both[i], i ? got : expected, x, ROWS * HEADS * DIM);
            both[i]->ops->free(both[i], c);
            both[i]->ops->free(both[i], s);
        }
        compare("rope", ROWS, HEADS * DIM, 1e-5);
    }
}

/* ---- products ---- */

/* y [rows, n_out], of a step of queue q, in the form. */
static int multiply(glm4v_backend *b, glm4v_form form, glm4v_queue q, int64_t rows, int64_t n_out,
                    int64_t n_in, float *y)
{
    const glm4v_weight_kind kind = { .form = form, .n_out = n_out, .n_in = n_in };
    const glm4v_step_size size = { .queue = q, .rows = rows };
    glm4v_weight w;
    glm4v_step *step = NULL;
    bool replayed;
    if (b->ops->weight_alloc(b, &w, &kind, &err))
        return GLM4V_ERR_UNSUPPORTED;
    CHECK_EQ(b->ops->weight_fill(b, &w, 0, n_out, b_host), 0);
    void *x = send(b, a_host, rows * n_in), *out = send(b, a_host, rows * n_out);
    float *bias = send_exact(b, b_host, n_out);
    const glm4v_product p = { .y = out,
                              .ldy = n_out,
                              .x = x,
                              .ldx = n_in,
                              .w = &w,
                              .bias = bias,
                              .rows = rows,
                              .add = true };
    CHECK_EQ(b->ops->step_open(b, &step, &size, &err), 0);
    CHECK_EQ(b->ops->step_begin(step, &(glm4v_step_rows) { .rows = rows }, &replayed), 0);
    CHECK_EQ(step_over(step, b->ops->product(step, &p)), 0);
    CHECK_EQ(b->ops->download(b, y, out, rows * n_out), 0);
    b->ops->free(b, x);
    b->ops->free(b, out);
    b->ops->free(b, bias);
    b->ops->weight_free(b, &w);
    return 0;
}

static void products_are_equal_in_every_form_and_queue(void)
{
    static const int64_t sizes[][3] = {
        { 1, 16, 32 }, { 3, 24, 48 }, { 64, 40, 128 }, { 65, 96, 256 }, { 100, 200, 384 }
    };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int form = 0; form < GLM4V_N_FORMS; form++)
            for (int q = 0; q < GLM4V_N_QUEUES; q++) {
                const int64_t rows = sizes[s][0], n_out = sizes[s][1], n_in = sizes[s][2];
                fill(a_host, rows * (n_in > n_out ? n_in : n_out));
                fill(b_host, n_out * n_in);
                if (multiply(cpu, (glm4v_form)form, (glm4v_queue)q, rows, n_out, n_in, expected)) {
                    CHECK(multiply(gpu, (glm4v_form)form, (glm4v_queue)q, rows, n_out, n_in, got));
                    continue;
                }
                CHECK_EQ(multiply(gpu, (glm4v_form)form, (glm4v_queue)q, rows, n_out, n_in, got),
                         0);
                compare(glm4v_form_name((glm4v_form)form), rows, n_out, 1e-5);
            }
}

/* ---- what operations leave to the next one ---- */

enum { LEFT_ROWS = 37, LEFT_N = 64, LEFT_FFN = 144 };

/* An MLP whose sums wait for the next operation, and the norm behind it. */
typedef struct {
    glm4v_weight up, down, next;
    float *norm, *bias;
    void *x, *wide, *act, *branch, *y;
    glm4v_step *step;
} mlp;

static void fill_weight(glm4v_backend *b, glm4v_weight *w, int64_t n_out, int64_t n_in)
{
    const glm4v_weight_kind kind = { .form = GLM4V_FORM_FP8_DYNAMIC, .n_out = n_out, .n_in = n_in };
    fill(b_host, n_out * n_in);
    CHECK_EQ(b->ops->weight_alloc(b, w, &kind, &err), 0);
    CHECK_EQ(b->ops->weight_fill(b, w, 0, n_out, b_host), 0);
}

static void open_mlp(glm4v_backend *b, mlp *m)
{
    const glm4v_step_size size = { .queue = GLM4V_QUEUE_PREFILL, .rows = LEFT_ROWS };
    fill_weight(b, &m->up, 2 * LEFT_FFN, LEFT_N);
    fill_weight(b, &m->down, LEFT_N, LEFT_FFN);
    fill_weight(b, &m->next, 3 * LEFT_N, LEFT_N);
    fill(b_host, LEFT_FFN);
    m->norm = send_exact(b, b_host, LEFT_N);
    m->bias = send_exact(b, b_host, LEFT_N);
    fill(a_host, LEFT_ROWS * LEFT_N);
    m->x = send(b, a_host, LEFT_ROWS * LEFT_N);
    m->branch = send(b, a_host, LEFT_ROWS * LEFT_N);
    m->wide = send(b, a_host, LEFT_ROWS * 2 * LEFT_FFN);
    m->act = send(b, a_host, LEFT_ROWS * LEFT_FFN);
    m->y = send(b, a_host, LEFT_ROWS * 3 * LEFT_N);
    CHECK_EQ(b->ops->step_open(b, &m->step, &size, &err), 0);
}

static void close_mlp(glm4v_backend *b, mlp *m)
{
    void *list[] = { m->norm, m->bias, m->x, m->branch, m->wide, m->act, m->y };
    b->ops->step_close(m->step);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        b->ops->free(b, list[i]);
    b->ops->weight_free(b, &m->up);
    b->ops->weight_free(b, &m->down);
    b->ops->weight_free(b, &m->next);
}

/* x and y behind it: [LEFT_ROWS, LEFT_N] and [LEFT_ROWS, 3 LEFT_N] of `out`. flush: nothing waits.
 */
static void run_mlp(glm4v_backend *b, bool normed, bool flush, float *out)
{
    mlp m = { 0 };
    bool replayed;
    state = 77;
    open_mlp(b, &m);
    const glm4v_norm norm = { .w = m.norm, .eps = 1e-5f }, none = { 0 };
    const glm4v_gate_up up = { .in = { .norm = &norm,
                                       .normed = m.branch,
                                       .product = { .y = m.wide,
                                                    .ldy = 2 * LEFT_FFN,
                                                    .x = m.x,
                                                    .ldx = LEFT_N,
                                                    .w = &m.up,
                                                    .rows = LEFT_ROWS } },
                               .act = m.act };
    const glm4v_product_add down = { .x = m.x,
                                     .branch = m.branch,
                                     .in = m.act,
                                     .w = &m.down,
                                     .bias = m.bias,
                                     .norm = normed ? &norm : &none,
                                     .rows = LEFT_ROWS };
    const glm4v_norm_product next = { .norm = &norm,
                                      .normed = m.branch,
                                      .product = { .y = m.y,
                                                   .ldy = 3 * LEFT_N,
                                                   .x = m.x,
                                                   .ldx = LEFT_N,
                                                   .w = &m.next,
                                                   .rows = LEFT_ROWS } };
    CHECK_EQ(b->ops->step_begin(m.step, &(glm4v_step_rows) { .rows = LEFT_ROWS }, &replayed), 0);
    CHECK_EQ(glm4v_run_gate_up(m.step, &up), 0);
    if (flush)
        CHECK_EQ(b->ops->step_flush(m.step), 0);
    CHECK_EQ(glm4v_run_product_add(m.step, &down), 0);
    if (flush)
        CHECK_EQ(b->ops->step_flush(m.step), 0);
    CHECK_EQ(glm4v_run_norm_product(m.step, &next), 0);
    CHECK_EQ(b->ops->step_end(m.step), 0);
    CHECK_EQ(queue_over(b, GLM4V_QUEUE_PREFILL), 0);
    CHECK_EQ(b->ops->download(b, out, m.x, LEFT_ROWS * LEFT_N), 0);
    CHECK_EQ(b->ops->download(b, out + LEFT_ROWS * LEFT_N, m.y, LEFT_ROWS * 3 * LEFT_N), 0);
    close_mlp(b, &m);
}

/* A value at the edge between two codes may become the other one: 2^-4 of it. */
static void what_waits_is_done_as_if_at_once(void)
{
    enum { ALL = LEFT_ROWS * 4 * LEFT_N };
    for (int normed = 0; normed < 2; normed++) {
        run_mlp(cpu, normed, false, expected);
        run_mlp(gpu, normed, false, got);
        compare("mlp", LEFT_ROWS, 4 * LEFT_N, 4e-3);
        memcpy(expected, got, ALL * sizeof *got);
        run_mlp(gpu, normed, true, got);
        CHECK(!memcmp(expected, got, ALL * sizeof *got));
    }
}

/* ---- attention ---- */

/* Rows of two spans of a step: appended, attended to. o [9, 4 * 32]. */
static void attend_on(glm4v_backend *b, glm4v_queue q, float *o)
{
    enum { ROWS = 9, HEADS = 4, KV = 2, DIM = 32, LENGTH = 40 };
    const glm4v_kv_shape shape = { .form = GLM4V_KV_BF16,
                                   .layers = 2,
                                   .heads = KV,
                                   .head_dim = DIM,
                                   .slots = 3,
                                   .length = LENGTH };
    const glm4v_step_size size = { .queue = q, .rows = ROWS, .spans = 2 };
    glm4v_kv kv;
    glm4v_step *step = NULL;
    bool replayed;
    CHECK_EQ(b->ops->kv_open(b, &kv, &shape, &err), 0);
    CHECK_EQ(b->ops->step_open(b, &step, &size, &err), 0);
    void *x = send(b, a_host, ROWS * (HEADS + 2 * KV) * DIM);
    void *out = send(b, a_host, ROWS * HEADS * DIM);
    const size_t at = b->traits->activation * DIM;
    const glm4v_append append = { .k = (char *)x + HEADS * at,
                                  .v = (char *)x + (HEADS + KV) * at,
                                  .ld = (HEADS + 2 * KV) * DIM,
                                  .kv = &kv,
                                  .layer = 1 };
    const glm4v_attend attend = { .o = out,
                                  .ldo = HEADS * DIM,
                                  .q = x,
                                  .ldq = (HEADS + 2 * KV) * DIM,
                                  .heads = HEADS,
                                  .scale = 0.2f,
                                  .kv = &kv,
                                  .layer = 1 };
    for (int32_t i = 0; i < 3; i++) { /* sequences grow */
        const glm4v_step_span spans[] = { { .slot = 2, .length = 4 * i, .row = 0, .n = 4 },
                                          { .slot = 0, .length = 5 * i, .row = 4, .n = 5 } };
        const glm4v_step_rows rows = { .rows = ROWS, .spans = spans, .n_spans = 2 };
        CHECK_EQ(b->ops->step_begin(step, &rows, &replayed), 0);
        CHECK_EQ(b->ops->append(step, &append), 0);
        CHECK_EQ(b->ops->attend(step, &attend), 0);
        CHECK_EQ(b->ops->step_end(step), 0);
    }
    CHECK_EQ(queue_over(b, q), 0);
    CHECK_EQ(b->ops->download(b, o, out, ROWS * HEADS * DIM), 0);
    b->ops->step_close(step);
    b->ops->free(b, x);
    b->ops->free(b, out);
    b->ops->kv_close(b, &kv);
}

static void attention_is_equal_on_both_queues(void)
{
    for (int q = 0; q < GLM4V_N_QUEUES; q++) {
        fill(a_host, 9 * 8 * 32);
        attend_on(cpu, (glm4v_queue)q, expected);
        attend_on(gpu, (glm4v_queue)q, got);
        compare("attend", 9, 4 * 32, 1e-5);
    }
}

static void attention_of_all_rows_is_equal(void)
{
    static const int64_t sizes[][3] = {
        { 1, 2, 16 }, { 24, 3, 32 }, { 70, 2, 64 }, { 33, 1, 112 }
    };
    glm4v_backend *const both[] = { cpu, gpu };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t rows = sizes[s][0], heads = sizes[s][1], dim = sizes[s][2];
        const int64_t n = heads * dim;
        fill(a_host, rows * 3 * n);
        for (int i = 0; i < 2; i++) {
            glm4v_backend *b = both[i];
            void *x = send(b, a_host, rows * 3 * n), *o = send(b, a_host, rows * n),
                 *scratch = NULL;
            const uint64_t bytes = b->ops->attend_all_bytes(b, rows, heads, dim);
            CHECK_EQ(b->ops->alloc(b, &scratch, (size_t)bytes, &err), 0);
            const size_t at = (size_t)n * b->traits->activation;
            const glm4v_attend_all all = { .o = o,
                                           .ldo = n,
                                           .q = x,
                                           .k = (char *)x + at,
                                           .v = (char *)x + 2 * at,
                                           .ld = 3 * n,
                                           .rows = rows,
                                           .heads = heads,
                                           .head_dim = dim,
                                           .scale = 0.2f,
                                           .scratch = scratch };
            glm4v_step *step = step_of(b, &(glm4v_step_rows) { .rows = (int32_t)rows });
            CHECK_EQ(step_over(step, b->ops->attend_all(step, &all)), 0);
            take_back(b, i ? got : expected, o, rows * n);
            b->ops->free(b, x);
            b->ops->free(b, scratch);
        }
        compare("attend_all", rows, n, 1e-5);
    }
}

/* ---- tables and rows ---- */

static void looked_up_rows_are_equal(void)
{
    static const glm4v_form forms[] = { GLM4V_FORM_F32, GLM4V_FORM_BF16, GLM4V_FORM_INT8 };
    static const int32_t ids[] = { 3, 0, 36, 3, 12 };
    glm4v_backend *const both[] = { cpu, gpu };
    for (size_t f = 0; f < 3; f++) {
        fill(b_host, 37 * 48);
        for (int i = 0; i < 2; i++) {
            glm4v_backend *b = both[i];
            glm4v_table t;
            CHECK_EQ(b->ops->table_alloc(b, &t, forms[f], 37, 48, &err), 0);
            CHECK_EQ(b->ops->table_fill(b, &t, 0, 20, b_host), 0);
            CHECK_EQ(b->ops->table_fill(b, &t, 20, 17, b_host + 20 * 48), 0);
            void *y = send(b, a_host, 5 * 48);
            const glm4v_step_rows rows = { .rows = 5, .ids = ids };
            glm4v_step *step = step_of(b, &rows);
            CHECK_EQ(step_over(step, b->ops->embed(step, y, &t)), 0);
            take_back(b, i ? got : expected, y, 5 * 48);
            b->ops->table_free(b, &t);
        }
        compare("embed", 5, 48, 1e-5);
    }
}

static void rows_are_placed_and_taken(void)
{
    static const int32_t places[] = { 6, 2, 4 }, outputs[] = { 6, 0, 2, 5 };
    glm4v_backend *const both[] = { cpu, gpu };
    fill(a_host, 7 * 40);
    fill(b_host, 7 * 40);
    for (int i = 0; i < 2; i++) {
        glm4v_backend *b = both[i];
        void *x = send(b, b_host, 7 * 40), *y = send(b, a_host, 7 * 40),
             *z = send(b, a_host, 7 * 40);
        const glm4v_step_rows rows = {
            .rows = 7, .places = places, .n_places = 3, .outputs = outputs, .n_outputs = 4
        };
        glm4v_step *step = step_of(b, &rows);
        CHECK_EQ(b->ops->place_rows(step, y, x, 40), 0);
        CHECK_EQ(step_over(step, b->ops->take_rows(step, z, y, 40)), 0);
        take_back(b, i ? got : expected, z, 7 * 40);
        b->ops->free(b, x);
        b->ops->free(b, y);
    }
    compare("rows", 7, 40, 0);
}

/* Numbers that are not bf16 are rounded on their way up, the same with a step and without. */
static void copies_round_to_bf16(void)
{
    enum { N = 5000 };
    void *x = NULL, *y = NULL;
    glm4v_step *step = step_of(gpu, &(glm4v_step_rows) { .rows = 1 });
    for (int i = 0; i < N; i++)
        a_host[i] = 1.0f + (float)i / 3000;
    REQUIRE(!gpu->ops->alloc(gpu, &x, 2 * N, &err) && !gpu->ops->alloc(gpu, &y, 2 * N, &err));
    CHECK_EQ(gpu->ops->upload(gpu, x, a_host, N), 0);
    CHECK_EQ(gpu->ops->step_upload(step, y, a_host, N), 0);
    CHECK_EQ(step_over(step, gpu->ops->step_download(step, got, y, N)), 0);
    CHECK_EQ(gpu->ops->download(gpu, expected, x, N), 0);
    for (int i = 0; i < N; i++)
        CHECK(got[i] == expected[i] && fabsf(got[i] - a_host[i]) <= a_host[i] / 256);
    gpu->ops->free(gpu, x);
    gpu->ops->free(gpu, y);
}

/* Kernels take dimensions of 32 bits: larger ones are refused, not cut. */
static void dimensions_beyond_32_bits_are_refused(void)
{
    const int64_t large = (int64_t)1 << 32;
    const glm4v_weight_kind kind = { .form = GLM4V_FORM_BF16, .n_out = large + 16, .n_in = 64 };
    const glm4v_kv_shape shape = { .form = GLM4V_KV_BF16,
                                   .layers = 1,
                                   .heads = 1,
                                   .head_dim = 64,
                                   .slots = 1,
                                   .length = large + 1 };
    glm4v_weight w = { 0 };
    glm4v_table t = { 0 };
    glm4v_kv kv = { 0 };
    glm4v_step *step = NULL;
    CHECK_EQ(gpu->ops->weight_alloc(gpu, &w, &kind, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "4294967312 x 64");
    CHECK_EQ(gpu->ops->table_alloc(gpu, &t, GLM4V_FORM_F32, large + 1, 1, &err),
             GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "4294967297 x 1");
    CHECK_EQ(gpu->ops->kv_open(gpu, &kv, &shape, &err), GLM4V_ERR_NOMEM);
    CHECK_EQ(gpu->ops->step_open(gpu, &step, &(glm4v_step_size) { .rows = large + 1 }, &err),
             GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "4294967297");
    void *x = send(gpu, a_host, 16);
    step = step_of(gpu, &(glm4v_step_rows) { .rows = 1 });
    CHECK_EQ(gpu->ops->silu_mul(step, x, x, large + 1, 8), GLM4V_ERR_INVALID);
    CHECK_EQ(gpu->ops->silu_mul(step, x, x, 1, -8), GLM4V_ERR_INVALID);
    CHECK_EQ(step_over(step, 0), 0); /* the device is as usable as before */
    gpu->ops->free(gpu, x);
}

/* Rows of GPU 0 on GPU 1 and back, in the order of both queues: what is overwritten behind the copy
 * back has been read. */
static void rows_are_copied_between_gpus(void)
{
    enum { N = 100000 };
    glm4v_backend *other = NULL;
    void *here = NULL, *there = NULL, *zeros = NULL, *back = NULL;
    const char *how = "";
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n < 2)
        SKIP("one GPU");
    REQUIRE(!glm4v_backend_cuda_open(&other, 1, NULL, NULL, &err));
    CHECK_EQ(other->ops->link(other, gpu, &how), 0);
    CHECK_EQ(gpu->ops->link(gpu, other, &how), 0); /* once more */
    printf("# %s\n", how);
    for (int q = 0; q < GLM4V_N_QUEUES; q++) {
        const glm4v_queue queue = (glm4v_queue)q;
        const glm4v_step_size size = { .queue = queue, .rows = 1 };
        glm4v_step *step = NULL;
        bool replayed;
        fill(a_host, N);
        here = send(gpu, a_host, N);
        memset(b_host, 0, N * sizeof *b_host);
        there = send(other, b_host, N);
        zeros = send(gpu, b_host, N);
        back = send(gpu, b_host, N);
        CHECK_EQ(other->ops->copy_from(other, queue, there, gpu, here, N), 0);
        CHECK_EQ(gpu->ops->copy_from(gpu, queue, back, other, there, N), 0);
        CHECK_EQ(gpu->ops->step_open(gpu, &step, &size, &err), 0);
        CHECK_EQ(gpu->ops->step_begin(step, &(glm4v_step_rows) { .rows = 1 }, &replayed), 0);
        CHECK_EQ(step_over(step, gpu->ops->step_copy(step, here, zeros, 2 * N)), 0);
        CHECK_EQ(queue_over(gpu, queue), 0);
        CHECK_EQ(queue_over(other, queue), 0);
        take_back(gpu, got, back, N);
        memcpy(expected, a_host, sizeof expected);
        compare("copy", 1, N, 0);
        take_back(gpu, got, here, N);
        memset(expected, 0, sizeof expected);
        compare("copy", 1, N, 0);
        other->ops->free(other, there);
        gpu->ops->free(gpu, zeros);
    }
    glm4v_backend_close(&other);
}

int main(void)
{
    setenv("GLM4V_CPU", "c", 1);
    cpu = cpu_open(1);
    const int rc = cpu_try_open(&gpu, "cpu", 1, &err); /* replaced: cuda_main.c */
    if (rc || strcmp(gpu->ops->name, "cuda")) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    TEST(copies_round_to_bf16);
    TEST(dimensions_beyond_32_bits_are_refused);
    TEST(values_are_equal);
    TEST(silu_mul_is_equal);
    TEST(norms_are_equal);
    TEST(rotary_positions_are_equal);
    TEST(looked_up_rows_are_equal);
    TEST(rows_are_placed_and_taken);
    TEST(products_are_equal_in_every_form_and_queue);
    TEST(what_waits_is_done_as_if_at_once);
    TEST(attention_is_equal_on_both_queues);
    TEST(attention_of_all_rows_is_equal);
    TEST(rows_are_copied_between_gpus);
    cpu_close(&gpu);
    cpu_close(&cpu);
    return test_end();
}
