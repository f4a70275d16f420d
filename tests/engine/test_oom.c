/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* T-OOM-1: load, start an engine, describe one picture, unload, with allocation N failing, for
 * every N: that one alone, and all from it on. Each time: the error says that memory is out,
 * nothing stays allocated, and the next run in the same process gives the same text. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "glm4v/glm4v.h"
#include "test.h"
#include "tiny_model.h"

static char dir[512];
static uint8_t pixels[3 * 64 * 48];

/* One whole use. text [size] gets the answer. */
static int use(char *text, size_t size, const char *quantization, glm4v_error *err)
{
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    glm4v_image image = { .data = pixels, .width = 64, .height = 48, .stride = 192 };
    glm4v_task task = {
        .prompt = "Describe the image.", .images = &image, .n_images = 1, .max_tokens = 6
    };
    glm4v_engine_options small = { .max_batch = 1, .context_length = 256, .prefix_tokens = 16 };
    int rc = glm4v_model_open(
        &model, dir, &(glm4v_model_options) { .n_threads = 1, .quantization = quantization }, err);
    if (!rc)
        rc = glm4v_engine_open(&engine, model, &small, err);
    if (!rc)
        rc = glm4v_describe(engine, &task, &result, err);
    if (result)
        snprintf(text, size, "%s", result->text);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    return rc;
}

static void sweep(const char *quantization, bool from_then_on)
{
    char whole[1024] = "", text[1024];
    glm4v_error err = { 0 };
    REQUIRE(!use(whole, sizeof whole, quantization, &err));
    size_t live = glm4v_mem_live();
    uint64_t before = glm4v_mem_calls();
    REQUIRE(!use(text, sizeof text, quantization, &err));
    CHECK_STR(text, whole);
    uint64_t calls = glm4v_mem_calls() - before;
    printf("# %llu allocations\n", (unsigned long long)calls);
    CHECK(calls > 100);
    for (uint64_t n = 1; n <= calls; n++) {
        memset(&err, 0, sizeof err);
        glm4v_mem_fail_at(n, from_then_on);
        int rc = use(text, sizeof text, quantization, &err);
        glm4v_mem_fail_at(0, false);
        if (rc != GLM4V_ERR_NOMEM || err.code != rc || !err.msg[0])
            test_fail(__FILE__, __LINE__, "allocation %llu: code %d, \"%s\"", (unsigned long long)n,
                      rc, err.msg);
        if (glm4v_mem_live() != live)
            test_fail(__FILE__, __LINE__, "allocation %llu: %zu bytes stay", (unsigned long long)n,
                      glm4v_mem_live() - live);
        if (n % 16 && n != calls) /* the run after it, now and then */
            continue;
        rc = use(text, sizeof text, quantization, &err);
        if (rc || strcmp(text, whole))
            test_fail(__FILE__, __LINE__, "after allocation %llu: code %d, text \"%s\"",
                      (unsigned long long)n, rc, text);
    }
}

static void each_allocation_may_fail_once(void)
{
    sweep(NULL, false);
}

static void all_allocations_may_fail_from_any_on(void)
{
    sweep(NULL, true);
}

static void each_allocation_of_a_quantized_model_may_fail(void)
{
    sweep("int4,lm-head=int8,embedding=int8", false);
}

int main(void)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 31 >> 2);
    if (tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 2 }))
        return 1;
    TEST(each_allocation_may_fail_once);
    TEST(all_allocations_may_fail_from_any_on);
    TEST(each_allocation_of_a_quantized_model_may_fail);
    tiny_model_remove(dir);
    return test_end();
}
