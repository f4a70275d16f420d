/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which device gets which layers: by what is free, by a limit, by hand; on GPUs that a module of
 * ours shows (fake_cuda_module.c), whose memory the environment sets. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>

#include "fixture.h"

#define GIB ((uint64_t)1 << 30)
#define CONFIG_4V SOURCE_ROOT "/tests/data/glm-4v-9b/config.json"
#define CONFIG_41V SOURCE_ROOT "/tests/data/glm-4.1v-9b/config.json"
enum { LAYERS = 40 };

static glm4v_error err;
static char lines[2048];

static void on_line(void *user, glm4v_log_level level, const char *line)
{
    if (level <= GLM4V_LOG_WARNING)
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n", line);
}

static uint64_t bytes_of(const glm4v_device_memory *d)
{
    return d->weights + d->kv_cache + d->scratch;
}

/* The plan of a published configuration with random weights. */
static glm4v_memory plan(const char *config, glm4v_model_options options)
{
    glm4v_memory m = { 0 };
    uint32_t layer = 0;
    options.random_weights = 1;
    options.n_threads = 1;
    options.log = on_line;
    lines[0] = 0;
    if (glm4v_model_estimate_memory(
            config, &(glm4v_estimate_options) { .model = &options, .width = 448, .height = 448 },
            &m, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    for (uint32_t i = 0; i < m.n_devices; i++) {
        printf("#   %-8s layers %2u + %2u, %6.2f GiB\n", m.device[i].name, m.device[i].first_layer,
               m.device[i].n_layers, (double)bytes_of(&m.device[i]) / (double)GIB);
        CHECK_EQ(m.device[i].first_layer, layer);
        layer += m.device[i].n_layers;
    }
    CHECK_EQ(layer, LAYERS);
    return m;
}

static void set_gpu(const char *mib)
{
    setenv("FAKE_CUDA_MIB", mib, 1);
}

/* The GPU is full to within a layer or two, and not fuller than its limit; the CPU has the rest. */
static void check_full(const glm4v_memory *m, uint64_t limit)
{
    REQUIRE(m->n_devices == 2);
    const uint64_t gpu = bytes_of(&m->device[0]), layer = m->device[0].weights / LAYERS;
    CHECK_STR(m->device[0].name, "cuda:0");
    CHECK_STR(m->device[1].name, "cpu");
    CHECK(gpu <= limit && gpu + 3 * layer > limit);
}

static void a_limit_leaves_the_rest_to_the_cpu(void)
{
    set_gpu("81920");
    const glm4v_model_options options = { .device = "cuda,cpu",
                                          .quantization = "int4,embedding=int8,lm-head=int4",
                                          .gpu_memory_limit = 6 * GIB };
    const glm4v_memory m = plan(CONFIG_4V, options);
    check_full(&m, 6 * GIB);
    CHECK_STR(lines, "");
}

static void auto_fills_a_small_gpu_and_says_so(void)
{
    set_gpu("8192");
    const glm4v_memory m = plan(CONFIG_41V, (glm4v_model_options) { .quantization = "int8" });
    check_full(&m, 8 * GIB);
    CHECK_CONTAINS(lines, "run on the CPU, which is slower");
}

static void auto_needs_no_cpu_where_all_fits(void)
{
    set_gpu("24576");
    const glm4v_memory m = plan(CONFIG_41V, (glm4v_model_options) { .quantization = "int8" });
    CHECK_EQ(m.n_devices, 1);
    CHECK_STR(m.device[0].name, "cuda:0");
    CHECK_STR(lines, "");
}

static void auto_leaves_a_gpu_that_is_too_small(void)
{
    set_gpu("512");
    const glm4v_memory m = plan(CONFIG_41V, (glm4v_model_options) { .quantization = "int4" });
    CHECK_EQ(m.n_devices, 1);
    CHECK_STR(m.device[0].name, "cpu");
    CHECK_CONTAINS(lines, "is the CPU: ");
    CHECK_CONTAINS(lines, "has room for 512 MiB");
}

static void a_cpu_that_is_named_is_not_used_without_need(void)
{
    set_gpu("");
    const glm4v_memory m = plan(CONFIG_41V, (glm4v_model_options) { .device = "cuda:0,cpu" });
    CHECK_EQ(m.n_devices, 1);
}

/* The first one has the tower and the embedding as well. */
static void gpus_share_by_what_is_free(void)
{
    set_gpu("24576");
    const glm4v_memory m = plan(
        CONFIG_41V, (glm4v_model_options) { .device = "cuda:0,cuda:1", .quantization = "int8" });
    REQUIRE(m.n_devices == 2);
    CHECK(m.device[0].n_layers < m.device[1].n_layers);
    CHECK(bytes_of(&m.device[0]) < bytes_of(&m.device[1]) * 5 / 4);
    CHECK(bytes_of(&m.device[1]) < bytes_of(&m.device[0]) * 5 / 4);
}

static void two_small_gpus_and_the_cpu(void)
{
    set_gpu("4096");
    const glm4v_memory m = plan(CONFIG_41V, (glm4v_model_options) { .device = "cuda:0,cuda:1,cpu",
                                                                    .quantization = "int8" });
    REQUIRE(m.n_devices == 3);
    CHECK(bytes_of(&m.device[0]) <= 4 * GIB && bytes_of(&m.device[1]) <= 4 * GIB);
    CHECK_STR(m.device[2].name, "cpu");
}

static void layers_by_hand(void)
{
    set_gpu("24576");
    const glm4v_memory m =
        plan(CONFIG_41V, (glm4v_model_options) { .layers = "cuda:1=0,cuda:0=1-29,cpu=30-39" });
    REQUIRE(m.n_devices == 3);
    CHECK_STR(m.device[0].name, "cuda:1");
    CHECK_EQ(m.device[0].n_layers, 1);
    CHECK_EQ(m.device[1].n_layers, 29);
    CHECK_STR(m.device[2].name, "cpu");
}

static void maps_that_do_not_fit_are_refused(void)
{
    static const struct {
        const char *device, *layers;
        int code;
        const char *text;
    } cases[] = {
        { NULL, "cuda:0=0-19", GLM4V_ERR_INVALID, "ends with layer 19, the model with layer 39" },
        { NULL, "cuda:0=0-19,cpu=21-39", GLM4V_ERR_INVALID, "from layer 20 to 39" },
        { NULL, "cuda:0=0-19,cpu=19-39", GLM4V_ERR_INVALID, "from layer 20 to 39" },
        { NULL, "cuda:0=0-40", GLM4V_ERR_INVALID, "from layer 0 to 39 at most" },
        { NULL, "cuda:0=5-2", GLM4V_ERR_INVALID, "from layer 0 to 39" },
        { NULL, "cuda:0=0-1x,cpu=2-39", GLM4V_ERR_INVALID, "expected DEVICE=FIRST-LAST" },
        { NULL, "cuda:0", GLM4V_ERR_INVALID, "expected DEVICE=FIRST-LAST" },
        { NULL, "", GLM4V_ERR_INVALID, "expected DEVICE=FIRST-LAST" },
        { NULL, "gpu=0-39", GLM4V_ERR_INVALID, "device \"gpu\"" },
        { NULL, "cuda:7=0-39", GLM4V_ERR_DEVICE, "there is no cuda:7" },
        { "cuda:0", "cpu=0-39", GLM4V_ERR_INVALID, "leave device out" },
        { "auto,cpu", NULL, GLM4V_ERR_INVALID, "\"auto\" stands alone" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_memory m = { 0 };
        const glm4v_model_options options = { .device = cases[i].device,
                                              .layers = cases[i].layers,
                                              .random_weights = 1,
                                              .n_threads = 1 };
        CHECK_EQ(glm4v_model_estimate_memory(
                     CONFIG_41V,
                     &(glm4v_estimate_options) { .model = &options, .width = 448, .height = 448 },
                     &m, &err),
                 cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].text);
    }
}

static void a_gpu_that_is_named_and_too_small_is_an_error(void)
{
    glm4v_memory m = { 0 };
    const glm4v_model_options options = {
        .device = "cuda:0,cpu", .quantization = "int4", .random_weights = 1, .n_threads = 1
    };
    set_gpu("512");
    CHECK_EQ(glm4v_model_estimate_memory(
                 CONFIG_41V,
                 &(glm4v_estimate_options) { .model = &options, .width = 448, .height = 448 }, &m,
                 &err),
             GLM4V_ERR_NOMEM);
    CHECK_CONTAINS(err.msg, "device cuda:0 has room for 512 MiB");
}

/* What the stages are loaded on does not change the answer. */
static void answers_do_not_depend_on_the_map(void)
{
    static const char *const maps[] = { "cpu=0-1", "cuda:0=0-1", "cuda:0=0,cpu=1", "cpu=0,cuda:1=1",
                                        "cuda:0=0,cuda:1=1" };
    char dir[512], first[512] = "";
    set_gpu("");
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        const glm4v_model_options options = { .layers = maps[i], .n_threads = 1 };
        glm4v_image image = picture(0, 200, 100);
        const glm4v_task task = { .prompt = "Describe the image.",
                                  .images = &image,
                                  .n_images = 1,
                                  .max_tokens = 24,
                                  .temperature = 0.8f };
        glm4v_model *model = NULL;
        glm4v_engine *engine = NULL;
        glm4v_result *result = NULL;
        REQUIRE(!glm4v_model_open(&model, dir, &options, &err));
        REQUIRE(!glm4v_engine_open(&engine, model, NULL, &err));
        REQUIRE(!glm4v_describe(engine, &task, &result, &err));
        if (!i)
            snprintf(first, sizeof first, "%s", result->text);
        CHECK_STR(result->text, first);
        glm4v_result_free(&result);
        glm4v_engine_close(&engine);
        glm4v_model_close(&model);
    }
    CHECK(*first);
    tiny_model_remove(dir);
}

int main(void)
{
    TEST(a_limit_leaves_the_rest_to_the_cpu);
    TEST(auto_fills_a_small_gpu_and_says_so);
    TEST(auto_needs_no_cpu_where_all_fits);
    TEST(auto_leaves_a_gpu_that_is_too_small);
    TEST(a_cpu_that_is_named_is_not_used_without_need);
    TEST(gpus_share_by_what_is_free);
    TEST(two_small_gpus_and_the_cpu);
    TEST(layers_by_hand);
    TEST(maps_that_do_not_fit_are_refused);
    TEST(a_gpu_that_is_named_and_too_small_is_an_error);
    TEST(answers_do_not_depend_on_the_map);
    return test_end();
}
