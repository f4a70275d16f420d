/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrices that come quantized already: the CPU backend takes codes, scales, zero points and the
 * order of inputs as they are, and gives codes back. Levels: GLM4V_CPU. */
#include <stdlib.h>

#include "backend_step.h"
#include "base/mem.h"
#include "convert.h"
#include "gemm.h"
#include "test.h"

enum { N = 75, K = 384, MAX_GROUPS = K / 32 };

/* A quantized matrix as a checkpoint holds it. */
typedef struct {
    glm4v_weight_kind kind;
    uint8_t q[N * K];
    uint32_t words[N * K / 8];
    float scale[N * MAX_GROUPS];
    uint8_t zero[N * MAX_GROUPS];
    glm4v_codes codes;
} matrix;

static uint64_t state = 1;

static uint32_t next_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static int32_t groups_of(const matrix *m)
{
    return glm4v_form_groups(m->kind.form, m->kind.blocks, K);
}

/* The next form from *form on whose matrices hold codes; false: there is none. */
static bool next_of_codes(glm4v_form *form)
{
    while (*form < GLM4V_N_FORMS && !glm4v_form_of(*form)->codes)
        ++*form;
    return *form < GLM4V_N_FORMS;
}

/* full: with zero points and in blocks where the form has them. */
static void make_matrix(matrix *m, glm4v_form form, bool full)
{
    const glm4v_form_traits *traits = glm4v_form_of(form);
    const bool zeros = full && traits->zeros;
    *m = (matrix) { .kind = { .form = form, .n_out = N, .n_in = K, .zeros = zeros } };
    m->kind.blocks = full && traits->blocks;
    for (int i = 0; i < N * K; i++)
        m->q[i] = (uint8_t)(next_random() & (traits->bits == 4 ? 15 : 255));
    for (int i = 0; i < N * K && traits->floating; i++)
        m->q[i] -= (m->q[i] & 0x7f) == 0x7f; /* no NaN */
    for (int i = 0; i < N * K && traits->cpu.pack_words; i++)
        m->words[i / 8] |= (uint32_t)m->q[i] << i % 8 * 4;
    for (int i = 0; i < N * groups_of(m); i++) {
        m->scale[i] = 0.5f + (float)(next_random() % 1000) / 1000;
        m->zero[i] = (uint8_t)(next_random() % 17);
    }
    m->codes = (glm4v_codes) { .q = m->q, .scale = m->scale, .zero = zeros ? m->zero : NULL };
}

/* What the codes stand for. */
static double weight_at(const matrix *m, int n, int k)
{
    const glm4v_form_traits *form = glm4v_form_of(m->kind.form);
    const int g = n * groups_of(m) + k / glm4v_form_group(m->kind.form, m->kind.blocks, K);
    const uint8_t q = m->q[n * K + k];
    if (form->floating)
        return (double)m->scale[g] * (double)glm4v_e4m3_to_f32(q);
    if (form->bits == 8)
        return (double)m->scale[g] * (int8_t)q;
    return (double)m->scale[g] * (q - (m->kind.zeros ? m->zero[g] : 8));
}

static glm4v_weight alloc_weight(glm4v_backend *b, const matrix *m)
{
    glm4v_weight w = { 0 };
    if (b->ops->weight_alloc(b, &w, &m->kind, NULL)) {
        fprintf(stderr, "weight_alloc failed\n");
        exit(1);
    }
    CHECK_EQ(w.bytes, b->ops->weight_bytes(b, &m->kind));
    return w;
}

static glm4v_codes codes_from(const matrix *m, int32_t row)
{
    glm4v_codes c = m->codes;
    const size_t at = (size_t)row * (size_t)groups_of(m);
    c.q = c.q ? c.q + (size_t)row * K : NULL;
    c.words = c.words ? c.words + (size_t)row * K / 8 : NULL;
    c.scale += at;
    c.zero = c.zero ? c.zero + at : NULL;
    return c;
}

/* In two pieces, the later one first. */
static glm4v_weight make_weight(glm4v_backend *b, const matrix *m)
{
    glm4v_weight w = alloc_weight(b, m);
    const glm4v_codes first = codes_from(m, 0), second = codes_from(m, 32);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 32, N - 32, &second), 0);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, 32, &first), 0);
    return w;
}

/* y [K][N] = the product with the unit matrix: the weights themselves, as the kernels see them. */
static float *columns_of(glm4v_backend *b, const glm4v_weight *w)
{
    float *x = glm4v_alloc((size_t)K * K, sizeof *x), *y = glm4v_alloc((size_t)K * N, sizeof *y);
    for (size_t k = 0; k < K; k++)
        x[k * K + k] = 1;
    CHECK_EQ(run_product(b, y, N, x, K, w, NULL, K, false), 0);
    glm4v_free(x);
    return y;
}

static void check_weights(glm4v_backend *b, const glm4v_weight *w, const matrix *m,
                          const int32_t *order)
{
    float *y = columns_of(b, w);
    double largest = 0;
    for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++) {
            const double wanted = weight_at(m, n, k);
            const double error = fabs((double)y[(order ? order[k] : k) * N + n] - wanted);
            const double size = fabs(wanted) > 1 ? fabs(wanted) : 1;
            largest = error / size > largest ? error / size : largest;
        }
    printf("# %s%s at %s: relative error %.2e\n", glm4v_form_name(m->kind.form),
           m->kind.zeros    ? " with zeros"
           : m->kind.blocks ? " in blocks"
                            : "",
           b->isa, largest);
    CHECK(largest < 1e-6);
    glm4v_free(y);
}

static matrix m; /* too large for a stack */

static void codes_are_taken_as_they_are(void)
{
    glm4v_backend *b = cpu_open(2);
    for (glm4v_form form = 0; next_of_codes(&form); form++)
        for (int full = 0; full < 2; full++) {
            make_matrix(&m, form, full);
            glm4v_weight w = make_weight(b, &m);
            check_weights(b, &w, &m, NULL);
            b->ops->weight_free(b, &w);
        }
    cpu_close(&b);
}

static void zero_points_are_8_where_none_are_given(void)
{
    glm4v_backend *b = cpu_open(1);
    for (glm4v_form form = 0; next_of_codes(&form); form++) {
        make_matrix(&m, form, true);
        if (!m.kind.zeros)
            continue;
        m.codes.zero = NULL;
        glm4v_weight w = make_weight(b, &m);
        m.kind.zeros = false;
        check_weights(b, &w, &m, NULL);
        b->ops->weight_free(b, &w);
    }
    cpu_close(&b);
}

static void words_of_eight_are_the_same_as_codes(void)
{
    glm4v_backend *b = cpu_open(1);
    for (glm4v_form form = 0; next_of_codes(&form); form++) {
        if (!glm4v_form_of(form)->cpu.pack_words)
            continue;
        make_matrix(&m, form, true);
        glm4v_weight w = make_weight(b, &m);
        m.codes.q = NULL;
        m.codes.words = m.words;
        glm4v_weight v = make_weight(b, &m);
        CHECK(!memcmp(w.data, v.data, (N + 15) / 16 * glm4v_form_of(form)->cpu.panel_bytes(K)));
        b->ops->weight_free(b, &w);
        b->ops->weight_free(b, &v);
    }
    cpu_close(&b);
}

/* As the loader does: each panel's codes are read to the place of the next panel. */
static glm4v_weight make_in_room(glm4v_backend *b, const matrix *m, const void *from, size_t row)
{
    glm4v_weight w = alloc_weight(b, m);
    const int32_t most = (N - 1) / 16 * 16;
    glm4v_codes codes = m->codes;
    char *room = b->ops->weight_room(b, &w, 0, most);
    CHECK(room >= (char *)w.data && room + (size_t)most * row <= (char *)w.data + w.bytes);
    memcpy(room, from, (size_t)most * row);
    codes.words = codes.words ? (void *)room : NULL;
    codes.q = codes.words ? NULL : (void *)room;
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, most, &codes), 0);
    codes = codes_from(m, most);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, most, N - most, &codes), 0);
    return w;
}

static void codes_may_be_read_to_where_they_are_packed(void)
{
    glm4v_backend *b = cpu_open(1);
    for (glm4v_form form = 0; next_of_codes(&form); form++) {
        const bool words = glm4v_form_of(form)->cpu.pack_words;
        const size_t row = words ? K / 2 : K;
        make_matrix(&m, form, false);
        glm4v_weight w = make_weight(b, &m);
        if (words)
            m.codes = (glm4v_codes) { .words = m.words, .scale = m.scale };
        glm4v_weight v = make_in_room(b, &m, words ? (const void *)m.words : m.q, row);
        CHECK(!memcmp(w.data, v.data, (N + 15) / 16 * 16 * row));
        check_weights(b, &v, &m, NULL);
        CHECK(!b->ops->weight_room(b, &w, 0, N / 16 * 16 + 16));
        CHECK(!b->ops->weight_room(b, &w, 8, 16));
        CHECK(!b->ops->weight_room(b, &w, 0, 8));
        b->ops->weight_free(b, &w);
        b->ops->weight_free(b, &v);
    }
    glm4v_weight plain = { 0 };
    const glm4v_weight_kind f32 = { .form = GLM4V_FORM_F32, .n_out = 64, .n_in = K };
    REQUIRE(!b->ops->weight_alloc(b, &plain, &f32, NULL));
    CHECK(!b->ops->weight_room(b, &plain, 0, 16));
    b->ops->weight_free(b, &plain);
    cpu_close(&b);
}

/* What quantizing while loading computes can be written to a file and read again. */
static void codes_come_back_from_panels(void)
{
    glm4v_backend *b = cpu_open(1);
    float *rows = glm4v_alloc((size_t)N * K, sizeof *rows);
    for (int i = 0; i < N * K; i++)
        rows[i] = (float)(int32_t)next_random();
    for (glm4v_form form = 0; next_of_codes(&form); form++) {
        make_matrix(&m, form, false);
        glm4v_weight w = alloc_weight(b, &m);
        const int32_t groups = groups_of(&m);
        const size_t panel = glm4v_form_of(form)->cpu.panel_bytes(K);
        CHECK_EQ(b->ops->weight_fill(b, &w, 0, N, rows), 0);
        for (int32_t row = 0; row < N; row += 16) {
            const int32_t n = N - row < 16 ? N - row : 16;
            const uint8_t *data = (const uint8_t *)w.data + (size_t)row / 16 * panel;
            const float *scale = w.scale + row * groups;
            glm4v_form_of(form)->cpu.unpack_codes(m.q + row * K, data, n, K);
            glm4v_unpack_scales(m.scale + row * groups, scale, n, groups);
        }
        check_weights(b, &w, &m, NULL);
        glm4v_weight again = make_weight(b, &m);
        CHECK(!memcmp(again.data, w.data, (N + 15) / 16 * panel));
        CHECK(!memcmp(again.scale, w.scale, (N + 15) / 16 * 16 * sizeof(float) * (size_t)groups));
        b->ops->weight_free(b, &again);
        b->ops->weight_free(b, &w);
    }
    glm4v_free(rows);
    cpu_close(&b);
}

static void an_order_of_inputs_is_followed(void)
{
    enum { T = 530 }; /* more than a slab */
    glm4v_backend *b = cpu_open(3);
    float *rows = glm4v_alloc((size_t)N * K, sizeof *rows);
    float *x = glm4v_alloc((size_t)T * K, sizeof *x), *turned = glm4v_alloc((size_t)T * K, 4);
    float *y = glm4v_alloc((size_t)T * N, sizeof *y), *z = glm4v_alloc((size_t)T * N, sizeof *z);
    int32_t order[K];
    for (int k = 0; k < K; k++)
        order[k] = (k * 131 + 7) % K; /* 131 is prime to 384 */
    for (int i = 0; i < N * K; i++)
        rows[i] = (float)(int32_t)next_random();
    for (int i = 0; i < T * K; i++)
        x[i] = (float)(int32_t)next_random();
    for (int i = 0; i < T * K; i++)
        turned[i] = x[i / K * K + order[i % K]];
    for (glm4v_form form = 0; form < GLM4V_N_FORMS; form++) {
        if (!glm4v_form_of(form)->ordered)
            continue;
        m.kind = (glm4v_weight_kind) { .form = form, .n_out = N, .n_in = K };
        glm4v_weight w = alloc_weight(b, &m);
        m.kind.ordered = true;
        glm4v_weight v = alloc_weight(b, &m);
        CHECK_EQ(v.bytes, w.bytes + K * sizeof(int32_t));
        CHECK_EQ(b->ops->weight_fill(b, &w, 0, N, rows), 0);
        CHECK_EQ(b->ops->weight_fill(b, &v, 0, N, rows), 0);
        CHECK_EQ(run_product(b, y, N, x, K, &w, NULL, T, false), 0);
        CHECK_EQ(run_product(b, z, N, x, K, &v, NULL, T, false), 0);
        CHECK(!memcmp(y, z, T * N * sizeof *y)); /* none given: as they lie */
        CHECK_EQ(b->ops->weight_order(b, &v, order), 0);
        CHECK_EQ(run_product(b, y, N, turned, K, &w, NULL, T, false), 0);
        CHECK_EQ(run_product(b, z, N, x, K, &v, NULL, T, false), 0);
        CHECK(!memcmp(y, z, T * N * sizeof *y));
        b->ops->weight_free(b, &w);
        b->ops->weight_free(b, &v);
    }
    glm4v_free(rows);
    glm4v_free(x);
    glm4v_free(turned);
    glm4v_free(y);
    glm4v_free(z);
    cpu_close(&b);
}

static void what_does_not_fit_is_refused(void)
{
    glm4v_backend *b = cpu_open(1);
    make_matrix(&m, GLM4V_FORM_INT4, false);
    glm4v_weight w = alloc_weight(b, &m);
    const glm4v_codes all = m.codes;
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 8, 16, &all), GLM4V_ERR_INVALID);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, -16, 16, &all), GLM4V_ERR_INVALID);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 64, 12, &all), GLM4V_ERR_INVALID);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, -1, &all), GLM4V_ERR_INVALID);
    glm4v_codes bad = all;
    bad.zero = m.zero; /* the matrix has no room for them */
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &bad), GLM4V_ERR_INVALID);
    bad = all;
    bad.scale = NULL;
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &bad), GLM4V_ERR_INVALID);
    bad = all;
    bad.q = NULL;
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &bad), GLM4V_ERR_INVALID);
    int32_t order[K] = { 0 };
    CHECK_EQ(b->ops->weight_order(b, &w, order), GLM4V_ERR_INVALID); /* not of that kind */
    b->ops->weight_free(b, &w);

    m.kind.ordered = true;
    w = alloc_weight(b, &m);
    order[K - 1] = K;
    CHECK_EQ(b->ops->weight_order(b, &w, order), GLM4V_ERR_INVALID);
    order[K - 1] = -1;
    CHECK_EQ(b->ops->weight_order(b, &w, order), GLM4V_ERR_INVALID);
    b->ops->weight_free(b, &w);

    make_matrix(&m, GLM4V_FORM_BF16, false);
    w = alloc_weight(b, &m);
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &m.codes), GLM4V_ERR_INVALID);
    b->ops->weight_free(b, &w);
    make_matrix(&m, GLM4V_FORM_INT8, false);
    w = alloc_weight(b, &m);
    m.codes.words = m.words;
    CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &m.codes), GLM4V_ERR_INVALID);
    b->ops->weight_free(b, &w);
    for (int i = 0; i < 2; i++) {
        make_matrix(&m, GLM4V_FORM_FP8, false);
        w = alloc_weight(b, &m);
        CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &m.codes), 0);
        m.q[N * K - 1] = i ? 0x7f : 0xff; /* no number */
        CHECK_EQ(b->ops->weight_fill_codes(b, &w, 0, N, &m.codes), GLM4V_ERR_INVALID);
        b->ops->weight_free(b, &w);
    }
    make_matrix(&m, GLM4V_FORM_FP8, true);
    w = alloc_weight(b, &m);
    CHECK_EQ(b->ops->weight_fill(b, &w, 0, N, m.scale), GLM4V_ERR_INVALID); /* by codes only */
    b->ops->weight_free(b, &w);
    cpu_close(&b);
}

static void kinds_that_do_not_exist_are_told(void)
{
    static const glm4v_weight_kind wrong[] = {
        { .form = GLM4V_FORM_INT8, .n_out = N, .n_in = K, .zeros = true },
        { .form = GLM4V_FORM_INT8, .n_out = N, .n_in = K, .blocks = true },
        { .form = GLM4V_FORM_F32, .n_out = N, .n_in = K, .ordered = true },
        { .form = GLM4V_FORM_INT4, .n_out = N, .n_in = K + 1 },
    };
    glm4v_backend *b = cpu_open(1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        glm4v_weight w = { 0 };
        glm4v_error err = { 0 };
        CHECK_EQ(b->ops->weight_bytes(b, &wrong[i]), 0);
        CHECK_EQ(b->ops->weight_alloc(b, &w, &wrong[i], &err), GLM4V_ERR_UNSUPPORTED);
        CHECK_CONTAINS(err.msg, glm4v_form_name(wrong[i].form));
        CHECK(!w.data);
    }
    const glm4v_weight_kind all = {
        .form = GLM4V_FORM_INT4, .n_out = N, .n_in = K, .zeros = true, .ordered = true
    };
    const size_t live = glm4v_mem_live();
    for (uint64_t nth = 1; nth <= 4; nth++) {
        glm4v_weight w = { 0 };
        glm4v_mem_fail_at(nth, false);
        CHECK_EQ(b->ops->weight_alloc(b, &w, &all, NULL), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(glm4v_mem_live(), live);
    }
    cpu_close(&b);
}

int main(void)
{
    TEST(codes_are_taken_as_they_are);
    TEST(zero_points_are_8_where_none_are_given);
    TEST(words_of_eight_are_the_same_as_codes);
    TEST(codes_may_be_read_to_where_they_are_packed);
    TEST(codes_come_back_from_panels);
    TEST(an_order_of_inputs_is_followed);
    TEST(what_does_not_fit_is_refused);
    TEST(kinds_that_do_not_exist_are_told);
    return test_end();
}
