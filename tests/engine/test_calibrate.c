/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calibration: rounding that makes good each other's errors does so, the codes are the same
 * whatever threads and memory there are, they are what the converter writes, and what cannot be
 * done is refused with nothing left behind. What it gains on a real model: docs/quantization.md. */
#define _GNU_SOURCE
#include "quantize/calibrate.h"

#include "backend/cpu_priv.h"
#include "backend_step.h"
#include "base/mem.h"
#include "cpu.h"
#include "folders.h"
#include "model/model.h"
#include "quantize/calibration_sample.h"
#include "quantize/capture.h"
#include "test.h"
#include "tiny_model.h"

enum { K = 256, N = 24, T = 600, MAX_GROUPS = K / 32, PICTURES = 3 };

static char base[512], src[600], dst[600];
static uint8_t pixels[PICTURES][3 * 64 * 48];
static glm4v_image images[PICTURES];
static const char *const prompts[] = { "Describe.", "What is it?" };
static glm4v_error err;

static uint64_t state = 11;

/* Uniform in [-1, 1). */
static float noise(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) / 2147483648.0f;
}

/* ---- rounding ---- */

/* Inputs of the original and of the quantized model, and a matrix. Inputs go together: each is
 * mostly a mix of a few. */
static float original[T * K], quantized[T * K], weights[N * K];

static void make_inputs(float drift)
{
    static float mix[12 * K];
    for (int i = 0; i < 12 * K; i++)
        mix[i] = noise();
    for (int t = 0; t < T; t++) {
        float source[12];
        for (int s = 0; s < 12; s++)
            source[s] = noise();
        for (int k = 0; k < K; k++) {
            float x = 0.3f * noise();
            for (int s = 0; s < 12; s++)
                x += source[s] * mix[s * K + k];
            original[t * K + k] = x;
            quantized[t * K + k] = x + drift * source[k % 12] + drift * noise();
        }
    }
    for (int i = 0; i < N * K; i++)
        weights[i] = noise();
}

/* Sum over rows and inputs of (w original - decoded quantized)^2. */
static double error_of(const uint8_t *q, const float *scale, int group)
{
    double sum = 0;
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++) {
            double d = 0;
            for (int k = 0; k < K; k++)
                d += (double)weights[n * K + k] * (double)original[t * K + k] -
                     (double)scale[n * (K / group) + k / group] * (q[n * K + k] - 8) *
                         (double)quantized[t * K + k];
            sum += d * d;
        }
    return sum;
}

static double nearest_error(glm4v_form form)
{
    static uint8_t panel[K * 8], q[N * K];
    static float panel_scale[MAX_GROUPS * 16], scale[N * MAX_GROUPS];
    const int groups = glm4v_form_groups(form, false, K);
    glm4v_gemm_ops ops;
    glm4v_gemm_ops_init(&ops, 0);
    for (int row = 0; row < N; row += 16) {
        const int n = N - row < 16 ? N - row : 16;
        glm4v_form_of(form)->cpu.pack(&ops, panel, panel_scale, weights + row * K, n, K);
        glm4v_unpack_codes_int4(q + row * K, K, panel, n, K);
        glm4v_unpack_scales(scale + row * groups, panel_scale, n, groups);
    }
    return error_of(q, scale, K / groups);
}

static double calibrated_error(glm4v_form form, bool knows_original)
{
    static float second[K * K], cross[K * K], scale[N * MAX_GROUPS];
    static uint8_t q[N * K];
    glm4v_round_moments m = {
        .second = second, .cross = cross, .K = K, .group = glm4v_form_group(form, false, K)
    };
    memset(second, 0, sizeof second);
    memset(cross, 0, sizeof cross);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) {
                const float f = knows_original ? original[t * K + i] : quantized[t * K + i];
                second[i * K + j] += j <= i ? quantized[t * K + i] * quantized[t * K + j] : 0;
                cross[i * K + j] += f * quantized[t * K + j];
            }
    float *scratch = calloc(glm4v_round_scratch(K), sizeof *scratch);
    glm4v_round_prepare(&m, NULL);
    for (int row = 0; row < N; row += 16)
        glm4v_round_rows(&m, weights + row * K, N - row < 16 ? N - row : 16, q + row * K,
                         scale + row * (K / m.group), scratch);
    free(scratch);
    for (int i = 0; i < N * K; i++)
        CHECK(q[i] <= 15);
    return error_of(q, scale, m.group);
}

static void rounding_by_moments_halves_the_error_of_products(void)
{
    static const glm4v_form forms[] = { GLM4V_FORM_INT4, GLM4V_FORM_INT4_32 };
    double error[2];
    make_inputs(0);
    for (int i = 0; i < 2; i++) {
        const double nearest = nearest_error(forms[i]);
        error[i] = calibrated_error(forms[i], true);
        printf("# %s: nearest %.4g, calibrated %.4g\n", glm4v_form_name(forms[i]), nearest,
               error[i]);
        CHECK(error[i] < 0.5 * nearest);
    }
    CHECK(error[1] < error[0]); /* smaller groups */
}

static void errors_of_earlier_matrices_are_made_good(void)
{
    make_inputs(0.2f);
    const double without = calibrated_error(GLM4V_FORM_INT4, false);
    const double with = calibrated_error(GLM4V_FORM_INT4, true);
    printf("# without the original's inputs %.4g, with them %.4g\n", without, with);
    CHECK(with < 0.7 * without);
}

static void inputs_that_are_zero_round_to_nearest(void)
{
    make_inputs(0);
    memset(quantized, 0, sizeof quantized);
    CHECK(isfinite(calibrated_error(GLM4V_FORM_INT4, false)));
    CHECK(isfinite(calibrated_error(GLM4V_FORM_INT4_32, false)));
}

/* ---- moments ---- */

/* Rows through a backend whose inputs are captured, in pieces, with a gap between rows. */
static void moments_are_sums_over_all_rows_that_pass(void)
{
    enum { LD = K + 8, ROWS = 300 };
    glm4v_backend *b = NULL;
    glm4v_weight w[2] = { 0 };
    glm4v_capture l = { .list = glm4v_alloc(1, sizeof *l.list), .n = 1 };
    static float x[2][ROWS * LD], y[ROWS * 16];
    const glm4v_weight_kind kind = { .form = GLM4V_FORM_F32, .n_out = 16, .n_in = K };
    REQUIRE(b = cpu_open(2));
    REQUIRE(!glm4v_captured_open(&l.list[0], K, &err));
    for (int side = 0; side < 2; side++) {
        REQUIRE(!b->ops->weight_alloc(b, &w[side], &kind, &err));
        l.list[0].weight[side] = &w[side];
        for (int i = 0; i < ROWS * LD; i++)
            x[side][i] = noise();
    }
    for (int side = 0; side < 2; side++) {
        glm4v_capture_hook hook;
        glm4v_capture_hook_open(&hook, b, &l, side);
        glm4v_capture_begin(&l, side);
        for (int t = 0; t < ROWS; t += 280) /* 280 and 20 rows */
            CHECK_EQ(run_product(b, y, 16, x[side] + t * LD, LD, &w[side], NULL,
                                 ROWS - t < 280 ? ROWS - t : 280, false),
                     0);
        CHECK(atomic_load(&l.enough));
        glm4v_capture_hook_close(&hook);
        /* nobody is told any more */
        const int32_t seen = l.list[0].n_seen;
        CHECK_EQ(run_product(b, y, 16, x[side], LD, &w[side], NULL, 1, false), 0);
        CHECK_EQ(l.list[0].n_seen, seen);
    }
    double worst = 0;
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) {
            double second = 0, cross = 0;
            for (int t = 0; t < ROWS; t++) {
                second += (double)x[1][t * LD + i] * (double)x[1][t * LD + j];
                cross += (double)x[0][t * LD + i] * (double)x[1][t * LD + j];
            }
            const glm4v_round_moments *m = &l.list[0].moments;
            const double d = j <= i ? fabs((double)m->second[i * K + j] - second) : 0;
            const double e = fabs((double)m->cross[i * K + j] - cross);
            worst = fmax(worst, fmax(d, e));
        }
    CHECK(worst < 1e-3);
    glm4v_capture_clear(&l);
    for (int side = 0; side < 2; side++)
        b->ops->weight_free(b, &w[side]);
    cpu_close(&b);
}

/* ---- a model ---- */

static int warnings, stop_after, calls;

static void count_warnings(void *user, glm4v_log_level level, const char *line)
{
    warnings += level == GLM4V_LOG_WARNING && strstr(line, "few") != NULL;
}

static int count_down(void *user, uint64_t done, uint64_t total)
{
    CHECK(total > 0 && done <= total);
    calls++;
    return stop_after && calls >= stop_after;
}

static glm4v_calibrate_options usual(void)
{
    warnings = stop_after = calls = 0;
    memset(&err, 0, sizeof err);
    return (glm4v_calibrate_options) { .quantization = "int4",
                                       .images = images,
                                       .n_images = PICTURES,
                                       .prompts = prompts,
                                       .n_prompts = 2,
                                       .n_threads = 2,
                                       .progress = count_down,
                                       .log = count_warnings };
}

/* Int4 matrices of the tiny model: inputs are one group wide. */
static const char *const int4_names[] = {
    "model.language_model.layers.0.self_attn.q_proj.weight",
    "model.language_model.layers.0.self_attn.v_proj.weight",
    "model.language_model.layers.0.self_attn.o_proj.weight",
    "model.language_model.layers.1.mlp.gate_up_proj.weight",
};
enum { N_NAMES = sizeof int4_names / sizeof *int4_names, ROWS_READ = 40 };

static void read_codes(const glm4v_calibration *c, uint8_t *q, float *scale)
{
    static uint8_t scratch[16 * TINY_HIDDEN];
    for (int i = 0; i < N_NAMES; i++) {
        CHECK(glm4v_calibration_has(c, int4_names[i]));
        glm4v_calibration_codes(c, int4_names[i], 16, ROWS_READ,
                                &(glm4v_code_rows) { q, scale, scratch });
        q += ROWS_READ * TINY_HIDDEN;
        scale += ROWS_READ;
    }
}

static void codes_do_not_depend_on_threads_or_memory(void)
{
    static uint8_t q[3][N_NAMES * ROWS_READ * TINY_HIDDEN];
    static float scale[3][N_NAMES * ROWS_READ];
    for (int i = 0; i < 3; i++) {
        glm4v_calibration *c = NULL;
        glm4v_calibrate_options options = usual();
        options.n_threads = i == 1 ? 3 : 1;
        options.memory = i == 2 ? 1 : 0;
        REQUIRE(!glm4v_calibrate(&c, src, &options, &err));
        CHECK_EQ(warnings, 1);
        CHECK(!glm4v_calibration_has(c, "model.language_model.norm.weight"));
        CHECK(!glm4v_calibration_has(c, "lm_head.weight"));
        read_codes(c, q[i], scale[i]);
        glm4v_calibration_free(&c);
    }
    for (int i = 1; i < 3; i++) {
        CHECK(!memcmp(q[0], q[i], sizeof q[0]));
        CHECK(!memcmp(scale[0], scale[i], sizeof scale[0]));
    }
}

static void the_converter_writes_the_codes(void)
{
    static uint8_t expected[N_NAMES][ROWS_READ * TINY_HIDDEN], got[ROWS_READ * TINY_HIDDEN / 2];
    static float scale[N_NAMES][ROWS_READ], got_scale[ROWS_READ];
    glm4v_calibrate_options options = usual();
    glm4v_calibration *c = NULL;
    glm4v_checkpoint *written = NULL;
    glm4v_model *model = NULL;
    REQUIRE(!glm4v_calibrate(&c, src, &options, &err));
    read_codes(c, expected[0], scale[0]);
    glm4v_calibration_free(&c);
    CHECK_EQ(glm4v_quantize(src, dst,
                            &(glm4v_quantize_options) { .quantization = "int4",
                                                        .images = images,
                                                        .n_images = PICTURES,
                                                        .prompts = prompts,
                                                        .n_prompts = 2 },
                            &err),
             0);
    REQUIRE(!glm4v_checkpoint_open(&written, dst, &err));
    for (int i = 0; i < N_NAMES; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s_packed", int4_names[i]);
        const glm4v_tensor *t = glm4v_checkpoint_find(written, name);
        snprintf(name, sizeof name, "%s_scale", int4_names[i]);
        const glm4v_tensor *s = glm4v_checkpoint_find(written, name);
        REQUIRE(t && s);
        CHECK_EQ(glm4v_checkpoint_read(written, t, 16 * TINY_HIDDEN / 2, got, sizeof got, &err), 0);
        CHECK_EQ(glm4v_checkpoint_read(written, s, 16 * sizeof(float), got_scale, sizeof got_scale,
                                       &err),
                 0);
        for (int k = 0; k < ROWS_READ * TINY_HIDDEN; k++) /* the low nibble is the first */
            REQUIRE((got[k / 2] >> k % 2 * 4 & 15) == expected[i][k]);
        CHECK(!memcmp(got_scale, scale[i], sizeof got_scale));
    }
    glm4v_checkpoint_close(&written);
    CHECK_EQ(glm4v_model_open(&model, dst, &(glm4v_model_options) { .n_threads = 1 }, &err), 0);
    glm4v_model_close(&model);
    folder_remove(dst);
}

/* A model with a context for one sequence, and the rows of its picture. */
typedef struct {
    glm4v_model *model;
    glm4v_context *context;
    glm4v_embeddings rows;
} side;

static int side_open(side *s, const char *folder, const char *quantization)
{
    const glm4v_model_options options = { .quantization = quantization, .n_threads = 2 };
    const glm4v_context_size size = { .slots = 1, .length = 256, .max_rows = 256 };
    const int rc = glm4v_model_open(&s->model, folder, &options, &err);
    return rc ? rc : glm4v_context_open(&s->context, s->model, size, &err);
}

static void side_close(side *s)
{
    glm4v_context_close(&s->context);
    glm4v_model_close(&s->model);
}

/* Logits of all tokens of the sequence. */
static void side_run(side *s, const glm4v_calibration_sample *r, float *logits)
{
    CHECK_EQ(glm4v_calibration_sample_see(r, s->context, &s->rows, NULL, &err), 0);
    const glm4v_prefill_pass pass = glm4v_calibration_sample_pass(r, 0, &s->rows);
    CHECK_EQ(glm4v_prefill(s->context, &pass, NULL, logits, NULL, &err), 0);
    glm4v_embeddings_clear(s->context, &s->rows);
}

static double squared_distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* One answer of the original, and how far both roundings are from its logits. */
static void run_all_sides(side sides[3], const glm4v_image *image, const char *prompt,
                          double error[3])
{
    static float logits[3][256 * TINY_VOCAB];
    glm4v_calibration_sample r = { 0 };
    REQUIRE(!glm4v_calibration_sample_make(&r, sides[0].model, image, prompt, &err));
    CHECK_EQ(glm4v_calibration_sample_see(&r, sides[0].context, &sides[0].rows, NULL, &err), 0);
    CHECK_EQ(glm4v_calibration_sample_answer(&r, sides[0].context, 0, &sides[0].rows, 32, &err), 0);
    glm4v_embeddings_clear(sides[0].context, &sides[0].rows);
    for (int i = 0; i < 3; i++) {
        side_run(&sides[i], &r, logits[i]);
        error[i] += squared_distance(logits[i], logits[0], r.prompt.n_ids * TINY_VOCAB);
    }
    glm4v_calibration_sample_clear(&r);
}

static void check_family(const tiny_model_options *family)
{
    char folder[600];
    side sides[3] = { 0 }; /* original, to nearest, calibrated */
    double error[3] = { 0 };
    snprintf(folder, sizeof folder, "%s/family", base);
    REQUIRE(!tiny_model_write(folder, family));
    REQUIRE(!glm4v_quantize(folder, dst,
                            &(glm4v_quantize_options) { .quantization = "int4",
                                                        .images = images,
                                                        .n_images = PICTURES,
                                                        .prompts = prompts,
                                                        .n_prompts = 2 },
                            &err));
    REQUIRE(!side_open(&sides[0], folder, NULL) && !side_open(&sides[1], folder, "int4") &&
            !side_open(&sides[2], dst, NULL));
    CHECK_EQ(sides[2].model->layers[0].qkv.form, GLM4V_FORM_INT4);
    for (int i = 0; i < PICTURES * 2; i++)
        run_all_sides(sides, &images[i / 2], prompts[i % 2], error);
    printf("# squared error of logits: nearest %.4g, calibrated %.4g\n", error[1], error[2]);
    CHECK(error[2] > 0 && error[2] < error[1]);
    for (int i = 0; i < 3; i++)
        side_close(&sides[i]);
    folder_remove(dst);
    folder_remove(folder);
}

/* The other family: tensors of other names, one size of picture, begin and end around it. */
static void family_chatglm4v_is_calibrated_too(void)
{
    check_family(&(tiny_model_options) { .chatglm4v = true });
}

static void family_glm_ocr_is_calibrated_too(void)
{
    check_family(&(tiny_model_options) { .glm_ocr = true });
}

static void refuse(glm4v_calibrate_options options, const char *folder, int code, const char *text)
{
    glm4v_calibration *c = NULL;
    const size_t live = glm4v_mem_live();
    CHECK_EQ(glm4v_calibrate(&c, folder, &options, &err), code);
    CHECK_EQ(err.code, code);
    CHECK_CONTAINS(err.msg, text);
    CHECK(!c);
    CHECK_EQ(glm4v_mem_live(), live);
}

static void what_cannot_be_calibrated_is_refused(void)
{
    glm4v_calibrate_options options = usual();
    options.n_images = 0;
    refuse(options, src, GLM4V_ERR_INVALID, "images");
    options = usual();
    options.quantization = "int8";
    refuse(options, src, GLM4V_ERR_INVALID, "int8");
    options = usual();
    options.quantization = "int5";
    refuse(options, src, GLM4V_ERR_INVALID, "int5");
    glm4v_image empty[PICTURES] = { images[0], { .width = 64, .height = 48, .stride = 192 } };
    options = usual();
    options.images = empty;
    refuse(options, src, GLM4V_ERR_INVALID, "image has no data");
    options = usual();
    refuse(options, "/nonexistent", GLM4V_ERR_NOT_FOUND, "nonexistent");
}

static void cancel_ends_it_wherever_it_is(void)
{
    glm4v_calibrate_options options = usual();
    glm4v_calibration *c = NULL;
    REQUIRE(!glm4v_calibrate(&c, src, &options, &err));
    glm4v_calibration_free(&c);
    const int all = calls;
    CHECK(all > 20);
    for (int n = 1; n <= all; n += 1 + all * test_stride(3) / 12) {
        options = usual();
        stop_after = n;
        refuse(options, src, GLM4V_ERR_CANCELED, "cancel");
        CHECK_EQ(calls, n);
    }
}

/* A factor near the largest float: the weights can be read, what is computed with them cannot. */
static void numbers_that_overflow_are_told(void)
{
    char folder[600], path[700];
    glm4v_checkpoint *checkpoint = NULL;
    const float huge = 3e38f;
    snprintf(folder, sizeof folder, "%s/huge", base);
    REQUIRE(!tiny_model_write(folder, &(tiny_model_options) { .dtype = TINY_F32 }));
    REQUIRE(!glm4v_checkpoint_open(&checkpoint, folder, &err));
    const glm4v_tensor *t =
        glm4v_checkpoint_find(checkpoint, "model.language_model.layers.0.input_layernorm.weight");
    REQUIRE(t);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "r+b");
    REQUIRE(file);
    CHECK(!fseek(file, (long)t->offset, SEEK_SET));
    for (int i = 0; i < TINY_HIDDEN; i++)
        CHECK_EQ(fwrite(&huge, sizeof huge, 1, file), 1);
    fclose(file);
    glm4v_checkpoint_close(&checkpoint);
    refuse(usual(), folder, GLM4V_ERR_INTERNAL, "finite");
    folder_remove(folder);
}

static void memory_that_runs_out_is_an_error(void)
{
    glm4v_calibrate_options options = usual();
    options.n_images = options.n_prompts = 1;
    options.n_threads = 1;
    glm4v_calibration *c = NULL;
    const uint64_t before = glm4v_mem_calls();
    REQUIRE(!glm4v_calibrate(&c, src, &options, &err));
    const uint64_t n_calls = glm4v_mem_calls() - before;
    glm4v_calibration_free(&c);
    const size_t live = glm4v_mem_live();
    printf("# %llu allocations\n", (unsigned long long)n_calls);
    /* The first half is loading. */
    for (uint64_t n = n_calls, step; n; n -= n < step ? n : step) {
        step = (n > n_calls / 2 ? 1 : 9) * (uint64_t)test_stride(4);
        memset(&err, 0, sizeof err);
        glm4v_mem_fail_at(n, true);
        const int rc = glm4v_calibrate(&c, src, &options, &err);
        glm4v_mem_fail_at(0, false);
        if (rc != GLM4V_ERR_NOMEM || err.code != rc || glm4v_mem_live() != live)
            test_fail(__FILE__, __LINE__, "allocation %llu: code %d, \"%s\", %zu bytes stay",
                      (unsigned long long)n, rc, err.msg, glm4v_mem_live() - live);
    }
}

int main(void)
{
    if (tiny_model_mkdtemp(base, sizeof base))
        return 1;
    snprintf(src, sizeof src, "%s/src", base);
    snprintf(dst, sizeof dst, "%s/dst", base);
    if (tiny_model_write(src, NULL))
        return 1;
    for (int i = 0; i < PICTURES; i++) {
        for (size_t j = 0; j < sizeof pixels[i]; j++)
            pixels[i][j] = (uint8_t)(127 + 127 * noise());
        images[i] = (glm4v_image) { .data = pixels[i], .width = 64, .height = 48, .stride = 192 };
    }
    TEST(rounding_by_moments_halves_the_error_of_products);
    TEST(errors_of_earlier_matrices_are_made_good);
    TEST(inputs_that_are_zero_round_to_nearest);
    TEST(moments_are_sums_over_all_rows_that_pass);
    TEST(codes_do_not_depend_on_threads_or_memory);
    TEST(the_converter_writes_the_codes);
    TEST(family_chatglm4v_is_calibrated_too);
    TEST(family_glm_ocr_is_calibrated_too);
    TEST(what_cannot_be_calibrated_is_refused);
    TEST(cancel_ends_it_wherever_it_is);
    TEST(numbers_that_overflow_are_told);
    TEST(memory_that_runs_out_is_an_error);
    tiny_model_remove(base);
    return test_end();
}
