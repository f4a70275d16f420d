/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reference vectors in every weight form, at the kernel level that GLM4V_CPU names: those committed
 * in tests/data, and those beside the source tree where they are. Under a sanitizer, which looks
 * for errors in memory and not in numbers, the latter, which are larger, in the last form alone. */
#include "golden.h"

#include <math.h>
#include <unistd.h>

#include "backend_step.h"
#include "shadow.h"
#include "test.h"

static const char *const forms[] = { "fp32",    "bf16",
                                     "int8",    "int4",
                                     "fp8",     "fp8-dynamic",
                                     "int4-32", "text=int4,vision=int8,lm-head=int8" };

enum { N_FORMS = sizeof forms / sizeof *forms };

static struct {
    char dir[512];
    const char *form;
    int stages; /* at least: what the set's cases have at the C level */
} current;

static void count_line(void *user, const golden_result *r)
{
    ++*(int *)user;
    if (!strcmp(r->case_name, "all"))
        printf("# %s of all cases: error %.2f of its limit\n", r->stage, sqrt(r->nmse / r->limit));
    if (!r->pass)
        test_fail(__FILE__, __LINE__,
                  "%s %s: max abs %g, nmse %g (limit %g), first difference %d (margin %g)",
                  r->case_name, r->stage, r->max_abs, r->nmse, r->limit, r->first_diff, r->margin);
}

static void run_form(void)
{
    char file[600];
    int lines = 0;
    glm4v_error err = { 0 };
    const char *isa = "";
    snprintf(file, sizeof file, "%s/golden.safetensors", current.dir);
    if (!test_needs("golden", !access(file, R_OK), "no reference vectors beside the source tree"))
        return;
    const golden_options options = {
        .model = current.dir, .file = file, .device = "cpu", .quantization = current.form
    };
    if (golden_run(&options, count_line, &lines, &isa, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    CHECK(lines >= current.stages);
    printf("# %d stages, kernels %s\n", lines, isa);
}

static void run_set(const char *name, const char *dir, int stages, size_t first_form)
{
    for (size_t i = first_form; i < N_FORMS; i++) {
        char title[128];
        snprintf(current.dir, sizeof current.dir, "%s", dir);
        current.form = forms[i];
        current.stages = stages;
        snprintf(title, sizeof title, "%s_as_%s_is_within_tolerance", name, forms[i]);
        test_run(title, run_form);
    }
}

/* A check that cannot fail proves nothing: an absurd tolerance must be missed, and told. */
static int missed;

static void count_missed(void *user, const golden_result *r)
{
    missed += !r->pass && r->nmse >= 0;
}

static void a_stage_beyond_tolerance_is_told(void)
{
    glm4v_error err = { 0 };
    const golden_options options = { .model = SOURCE_ROOT "/tests/data/golden-tiny",
                                     .file =
                                         SOURCE_ROOT "/tests/data/golden-tiny/golden.safetensors",
                                     .quantization = "int8",
                                     .tolerance = 1e-9 };
    missed = 0;
    CHECK_EQ(golden_run(&options, count_missed, NULL, NULL, &err), 0);
    CHECK(missed >= 10);
}

static void a_file_without_cases_is_an_error(void)
{
    glm4v_error err = { 0 };
    const golden_options options = { .model = SOURCE_ROOT "/tests/data/golden-tiny",
                                     .file =
                                         SOURCE_ROOT "/tests/data/golden-tiny/model.safetensors" };
    CHECK_EQ(golden_run(&options, count_missed, NULL, NULL, &err), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "no case");
}

/* The watch over single operations must see a wrong one, in the operation that is wrong. */
static int add_too_much(glm4v_step *step, void *y, const void *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ((float *)y)[i] += ((const float *)x)[i] * 1.0001f;
    return 0;
}

static void a_wrong_operation_is_noticed(void)
{
    glm4v_backend *b = NULL;
    shadow s;
    float y[64] = { 0 }, x[64];
    for (int i = 0; i < 64; i++)
        x[i] = (float)i;
    REQUIRE(b = cpu_open(1));
    const glm4v_backend_ops right = *b->ops;
    glm4v_backend_ops wrong = right;
    wrong.add = add_too_much;
    b->ops = &wrong;
    REQUIRE(!shadow_open(&s, b, NULL));
    CHECK_EQ(run_gelu(&s.base, y, 64), 0);
    CHECK(shadow_take(&s).nmse < 1e-12);
    CHECK_EQ(run_add(&s.base, y, x, 64), 0);
    CHECK_EQ(run_gelu(&s.base, y, 64), 0);
    const shadow_errors errors = shadow_take(&s);
    CHECK(errors.nmse > 5e-9 && errors.nmse < 5e-8);
    CHECK_STR(errors.operation, "add");
    CHECK_EQ(errors.operations, 2);
    CHECK_EQ(shadow_take(&s).operations, 0);
    shadow_close(&s);
    b->ops = &right;
    cpu_close(&b);
}

int main(void)
{
    const size_t first = TEST_SANITIZED ? N_FORMS - 1 : 0;
    char dir[512];
    run_set("golden_tiny", SOURCE_ROOT "/tests/data/golden-tiny", 20, 0);
    run_set("golden_tiny_chatglm4v", SOURCE_ROOT "/tests/data/golden-tiny-chatglm4v", 14, 0);
    run_set("golden_tiny_glm_ocr", SOURCE_ROOT "/tests/data/golden-tiny-glm-ocr", 20, 0);
    snprintf(dir, sizeof dir, "%s/glm4v", test_golden_dir());
    run_set("glm4v", dir, 29, first);
    snprintf(dir, sizeof dir, "%s/glm-4v-9b", test_golden_dir());
    run_set("glm_4v_9b", dir, 14, first);
    snprintf(dir, sizeof dir, "%s/glm-ocr", test_golden_dir());
    run_set("glm_ocr", dir, 29, first);
    TEST(a_stage_beyond_tolerance_is_told);
    TEST(a_file_without_cases_is_an_error);
    TEST(a_wrong_operation_is_noticed);
    return test_end();
}
