/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory planner: what it tells before anything is loaded is, within 3 %, what is then taken,
 * by the allocator's own count and, for a model of some hundred MB, by the process's resident
 * memory; the published models fit where they are meant to fit; and where memory is short, the
 * message names what would fit. Given "process": the part that measures and limits the memory of
 * whole processes, which sanitizers and valgrind take more of. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "files.h"
#include "fixture.h"

#define MOST_REQUESTS 8

/* Does this process take the memory that it would take in the field? */
static bool is_ordinary(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return !TEST_SANITIZED && !(preload && strstr(preload, "vgpreload"));
}

static glm4v_error err;

/* |told - measured| within 3 % of measured, or within what stacks of a few calls take. */
static void check_close(const char *what, uint64_t told, uint64_t measured)
{
    const uint64_t difference = told > measured ? told - measured : measured - told;
    printf("#   %-8s told %10" PRIu64 ", measured %10" PRIu64 " (%+.2f %%)\n", what, told, measured,
           100 * ((double)told / (double)measured - 1));
    if ((double)difference > 0.03 * (double)measured)
        test_fail(__FILE__, __LINE__, "%s: told %" PRIu64 ", measured %" PRIu64, what, told,
                  measured);
}

/* `batch` requests at once, each with a picture. */
static void describe_at_once(glm4v_engine *engine, uint32_t batch, int32_t width, int32_t height)
{
    glm4v_request *request[MOST_REQUESTS] = { 0 };
    for (uint32_t i = 0; i < batch; i++) {
        glm4v_image image = picture(i, width, height);
        const glm4v_task task = {
            .prompt = "Describe", .images = &image, .n_images = 1, .max_tokens = 4, .stream = i
        };
        CHECK_EQ(glm4v_engine_submit(engine, &task, &request[i], &err), 0);
    }
    for (uint32_t i = 0; i < batch && request[i]; i++) {
        CHECK_EQ(glm4v_request_wait(request[i], UINT64_MAX), 0);
        glm4v_request_unref(&request[i]);
    }
}

/* ---- by the allocator's count ---- */

typedef struct {
    const char *quantization;
    uint32_t context, batch, prefix;
    int32_t width, height;
} memory_case;

static void check_case(const char *dir, bool random, const memory_case *c)
{
    const glm4v_model_options options = { .quantization = c->quantization,
                                          .n_threads = 2,
                                          .random_weights = random };
    const glm4v_engine_options limits = { .context_length = c->context,
                                          .max_batch = c->batch,
                                          .prefix_tokens = c->prefix };
    glm4v_memory told = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    picture(0, 1, 1); /* its pixels are drawn outside of the count */
    REQUIRE(
        !glm4v_model_estimate_memory(dir,
                                     &(glm4v_estimate_options) { .model = &options,
                                                                 .engine = &limits,
                                                                 .width = (uint32_t)c->width,
                                                                 .height = (uint32_t)c->height },
                                     &told, &err));
    CHECK_EQ(told.total, told.weights + told.tables + told.kv_cache + told.scratch);
    CHECK(told.peak >= told.total && told.peak >= told.weights + told.tables + told.loading);
    printf("# %s, %dx%d, %u x %u tokens\n", c->quantization ? c->quantization : "as stored",
           c->width, c->height, c->batch, c->context);
    const size_t before = glm4v_mem_live();
    glm4v_mem_reset_peak();
    REQUIRE(!glm4v_model_open(&model, dir, &options, &err));
    check_close("loading", told.weights + told.tables + told.loading, glm4v_mem_peak() - before);
    check_close("model", told.weights + told.tables, glm4v_mem_live() - before);
    glm4v_mem_reset_peak();
    REQUIRE(!glm4v_engine_open(&engine, model, &limits, &err));
    describe_at_once(engine, c->batch, c->width, c->height);
    check_close("total", told.total, glm4v_mem_peak() - before);
    glm4v_engine_stats stats = { 0 };
    CHECK_EQ(glm4v_engine_get_stats(engine, &stats, &err), 0);
    if (c->width == 448 && c->height == 448)
        CHECK_EQ(stats.memory, told.total - told.tables);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    CHECK_EQ(glm4v_mem_live(), before);
}

static void the_plan_of_a_small_model_is_what_it_takes(void)
{
    static const memory_case cases[] = {
        { NULL, 2048, 2, 0, 320, 240 },
        { "int8,embedding=int8,lm-head=int8", 1024, 4, 64, 640, 480 },
        { "int4", 2048, 1, 16, 1120, 1120 },
        { "fp32,embedding=fp32,lm-head=fp32", 700, 8, 100, 448, 448 },
        { "text=int4,vision=int8,lm-head=int8", 4096, 1, 1, 56, 56 },
    };
    static const tiny_model_options families[] = { { .shards = 3 },
                                                   { .chatglm4v = true, .shards = 3 },
                                                   { .glm_ocr = true, .shards = 3 } };
    for (size_t family = 0; family < sizeof families / sizeof *families; family++) {
        char dir[512];
        REQUIRE(!tiny_model_make(dir, sizeof dir, &families[family]));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check_case(dir, false, &cases[i]);
        tiny_model_remove(dir);
    }
}

static void the_plan_of_the_reference_model_is_what_it_takes(void)
{
    static const memory_case cases[] = {
        { NULL, 1024, 4, 0, 448, 448 },
        { "int8", 512, 2, 0, 224, 448 },
    };
    const char *config = file_path(test_golden_dir(), "glm-4v-9b/config.json");
    if (!test_needs("golden", !access(config, R_OK), "no reference vectors here"))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(config, true, &cases[i]);
}

/* What is told more where requests have schemas, is what the first ones take and leave behind. */
static void schemas_are_counted_where_there_are_some(void)
{
    static const char schema[] = "{\"type\":\"string\",\"title\":\"%d\"}";
    const glm4v_model_options options = { .n_threads = 1 };
    const glm4v_engine_options limits = { .max_batch = 1, .context_length = 2048 };
    glm4v_estimate_options ask = {
        .model = &options, .engine = &limits, .width = 224, .height = 224
    };
    glm4v_memory without = { 0 }, with = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    char dir[512], text[64];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    REQUIRE(!glm4v_model_estimate_memory(dir, &ask, &without, &err));
    ask.json_schema = 1;
    REQUIRE(!glm4v_model_estimate_memory(dir, &ask, &with, &err));
    CHECK_EQ(with.total - without.total, with.scratch - without.scratch);
    CHECK_EQ(with.device[0].scratch - without.device[0].scratch, with.total - without.total);
    REQUIRE(!glm4v_model_open(&model, dir, &options, &err));
    REQUIRE(!glm4v_engine_open(&engine, model, &limits, &err));
    const size_t before = glm4v_mem_live();
    for (int i = 0; i < 6; i++) { /* more than are kept */
        glm4v_request *request = NULL;
        snprintf(text, sizeof text, schema, i);
        const glm4v_task task = { .prompt = "?", .json_schema = text, .max_tokens = 2000 };
        REQUIRE(!glm4v_engine_submit(engine, &task, &request, &err));
        glm4v_request_cancel(request);
        CHECK_EQ(glm4v_request_wait(request, UINT64_MAX), 0);
        glm4v_request_unref(&request);
    }
    const uint64_t told = with.total - without.total, kept = glm4v_mem_live() - before;
    printf("#   schemas  told %" PRIu64 ", kept when no request is left %" PRIu64 "\n", told, kept);
    CHECK(kept <= told && kept >= told / 2);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    tiny_model_remove(dir);
}

static void stages_add_up(void)
{
    char dir[512];
    glm4v_memory one = { 0 }, two = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    const glm4v_model_options whole = { .device = "cpu", .n_threads = 1 },
                              halves = { .device = "cpu,cpu", .n_threads = 1 };
    REQUIRE(!glm4v_model_estimate_memory(
        dir, &(glm4v_estimate_options) { .model = &whole, .width = 448, .height = 448 }, &one,
        &err));
    REQUIRE(!glm4v_model_estimate_memory(
        dir, &(glm4v_estimate_options) { .model = &halves, .width = 448, .height = 448 }, &two,
        &err));
    CHECK(one.n_devices == 1 && two.n_devices == 2);
    CHECK_STR(two.device[1].name, "cpu");
    CHECK(two.device[1].first_layer == 1 && two.device[1].n_layers == 1);
    CHECK_EQ(one.weights, two.weights);
    CHECK_EQ(one.kv_cache, two.kv_cache);
    CHECK_EQ(two.device[0].weights + two.device[1].weights, two.weights);
    CHECK_EQ(two.device[0].kv_cache, two.device[1].kv_cache);
    CHECK_EQ(two.device[0].scratch + two.device[1].scratch, two.scratch);
    tiny_model_remove(dir);
}

/* The first stage has the tower and the embedding as well: it gets fewer layers, and both devices
 * about the same bytes. */
static void layers_are_dealt_out_by_bytes(void)
{
    static const struct {
        const char *device;
        uint32_t n;
    } cases[] = { { "cpu,cpu", 2 }, { "cpu,cpu,cpu,cpu", 4 } };
    char config[512];
    snprintf(config, sizeof config, "%s/tests/data/glm-4.1v-9b/config.json", SOURCE_ROOT);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_memory m = { 0 };
        const glm4v_model_options options = {
            .device = cases[i].device, .random_weights = 1, .n_threads = 1, .quantization = "int8"
        };
        uint64_t least = UINT64_MAX, most = 0;
        uint32_t layers = 0;
        REQUIRE(!glm4v_model_estimate_memory(
            config, &(glm4v_estimate_options) { .model = &options, .width = 448, .height = 448 },
            &m, &err));
        CHECK_EQ(m.n_devices, cases[i].n);
        for (uint32_t k = 0; k < m.n_devices; k++) {
            least = m.device[k].weights < least ? m.device[k].weights : least;
            most = m.device[k].weights > most ? m.device[k].weights : most;
            CHECK_EQ(m.device[k].first_layer, layers);
            layers += m.device[k].n_layers;
        }
        CHECK_EQ(layers, 40);
        CHECK(m.device[0].n_layers < m.device[1].n_layers);
        CHECK(most - least < m.weights / 30); /* a layer is a fiftieth */
    }
}

/* ---- the published models ---- */

#define GIB (1024.0 * 1024 * 1024)
#define INT8 "int8,embedding=int8,lm-head=int8"
#define INT4 "int4,embedding=int8,lm-head=int4"
#define MIXED "text=int4,vision=int8,embedding=int8,lm-head=int4"

static void the_published_models_fit_where_they_should(void)
{
    static const struct {
        const char *config, *quantization;
        uint32_t width, height;
        double gib;
    } cases[] = {
        { "glm-4v-9b/config.json", "bf16", 1120, 1120, 28 },
        { "glm-4v-9b/config.json", INT8, 1120, 1120, 14.5 },
        { "glm-4v-9b/config.json", INT4, 1120, 1120, 8.5 },
        { "glm-4v-9b/config.json", MIXED, 1120, 1120, 10.5 },
        { "glm-4.1v-9b/config.json", "bf16", 1288, 728, 20.5 },
        { "glm-4.1v-9b/config.json", INT8, 1288, 728, 11 },
        { "glm-4.1v-9b/config.json", INT4, 1288, 728, 7 },
        { "glm-4.1v-9b/config.json", MIXED, 1288, 728, 7 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[512];
        glm4v_memory m = { 0 };
        /* four streams, each with room for its picture and as many tokens again */
        const glm4v_engine_options engine = { .max_batch = 4, .context_length = 3072 };
        const glm4v_model_options options = { .random_weights = 1,
                                              .n_threads = 8,
                                              .quantization = cases[i].quantization };
        snprintf(config, sizeof config, "%s/tests/data/%s", SOURCE_ROOT, cases[i].config);
        REQUIRE(
            !glm4v_model_estimate_memory(config,
                                         &(glm4v_estimate_options) { .model = &options,
                                                                     .engine = &engine,
                                                                     .width = cases[i].width,
                                                                     .height = cases[i].height },
                                         &m, &err));
        printf("# %-23s %-50s %5.2f GiB: weights %.2f, cache %.2f, scratch %.2f; of %.1f\n",
               cases[i].config, cases[i].quantization, (double)m.total / GIB,
               (double)m.weights / GIB, (double)m.kv_cache / GIB, (double)m.scratch / GIB,
               cases[i].gib);
        CHECK((double)m.peak / GIB <= cases[i].gib);
    }
}

/* ---- by resident memory ---- */

/* About 150 M parameters; wide and shallow, so that they are quickly made. */
static const char middle_config[] =
    "{\"model_type\": \"glm4v\", \"image_token_id\": 16000, \"video_token_id\": 16001,"
    "\"image_start_token_id\": 16002, \"image_end_token_id\": 16003,"
    "\"video_start_token_id\": 16004, \"video_end_token_id\": 16005, \"eos_token_id\": 16006,"
    "\"text_config\": {\"vocab_size\": 16384, \"hidden_size\": 1024, \"intermediate_size\": 4096,"
    "\"num_hidden_layers\": 6, \"num_attention_heads\": 8, \"num_key_value_heads\": 2,"
    "\"hidden_act\": \"silu\", \"max_position_embeddings\": 4096, \"rope_theta\": 10000.0,"
    "\"partial_rotary_factor\": 0.5, \"rope_scaling\": {\"type\": \"default\","
    "\"mrope_section\": [8, 12, 12]}},"
    "\"vision_config\": {\"hidden_size\": 512, \"depth\": 4, \"num_heads\": 8,"
    "\"intermediate_size\": 2048, \"out_hidden_size\": 1024, \"patch_size\": 14,"
    "\"image_size\": 336, \"hidden_act\": \"silu\"}}";

static uint64_t status_value(const char *name)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)) &&
            sscanf(line + strlen(name) + 1, "%llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

/* In a process of its own: the high-water mark only ever rises. */
static void check_resident(const char *config, const memory_case *c)
{
    const glm4v_model_options options = { .quantization = c->quantization,
                                          .n_threads = 2,
                                          .random_weights = 1 };
    const glm4v_engine_options limits = { .context_length = c->context,
                                          .max_batch = c->batch,
                                          .prefix_tokens = c->prefix };
    glm4v_memory told = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    REQUIRE(
        !glm4v_model_estimate_memory(config,
                                     &(glm4v_estimate_options) { .model = &options,
                                                                 .engine = &limits,
                                                                 .width = (uint32_t)c->width,
                                                                 .height = (uint32_t)c->height },
                                     &told, &err));
    picture(0, 1, 1);
    malloc_trim(0);
    const uint64_t before = status_value("VmRSS");
    printf("# %s, %dx%d, %u x %u tokens\n", c->quantization ? c->quantization : "as stored",
           c->width, c->height, c->batch, c->context);
    REQUIRE(!glm4v_model_open(&model, config, &options, &err));
    REQUIRE(!glm4v_engine_open(&engine, model, &limits, &err));
    describe_at_once(engine, c->batch, c->width, c->height);
    check_close("peak", told.peak, status_value("VmHWM") - before);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
}

static void resident_memory_is_what_was_told(void)
{
    /* contexts that the prompts fill: what is never touched is not resident */
    static const memory_case cases[] = {
        { NULL, 640, 1, 8, 644, 644 },
        { "int8,embedding=int8,lm-head=int8", 600, 3, 8, 644, 644 },
        { "int4", 1024, 1, 8, 840, 840 },
    };
    char dir[512];
    if (!is_ordinary())
        SKIP("a sanitizer or valgrind takes memory of its own");
    REQUIRE(!tiny_model_mkdtemp(dir, sizeof dir));
    file_write_text(dir, "config.json", middle_config);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = 0;
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            check_resident(file_path(dir, "config.json"), &cases[i]);
            fflush(stdout);
            _exit(!test_ok);
        }
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
        CHECK_EQ(status, 0);
    }
    tiny_model_remove(dir);
}

/* ---- too little ---- */

/* Let the process take so many more bytes. In a child: the limit is for good. */
static void leave_only(uint64_t bytes)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%llu", &pages) == 1)
        bytes += pages * (uint64_t)sysconf(_SC_PAGESIZE);
    if (f)
        fclose(f);
    setrlimit(RLIMIT_AS, &(struct rlimit) { bytes, bytes });
}

static void in_child(void (*fn)(const char *config))
{
    char dir[512];
    int status = 0;
    if (!is_ordinary())
        SKIP("a sanitizer or valgrind takes memory of its own");
    REQUIRE(!tiny_model_mkdtemp(dir, sizeof dir));
    file_write_text(dir, "config.json", middle_config);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        fn(file_path(dir, "config.json"));
        fflush(stdout);
        _exit(!test_ok);
    }
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    tiny_model_remove(dir);
}

static uint64_t peak_of(const char *config, const char *quantization)
{
    glm4v_memory m = { 0 };
    const glm4v_model_options options = { .quantization = quantization,
                                          .n_threads = 1,
                                          .random_weights = 1 };
    CHECK_EQ(glm4v_model_estimate_memory(
                 config,
                 &(glm4v_estimate_options) { .model = &options, .width = 448, .height = 448 }, &m,
                 &err),
             0);
    return m.peak;
}

/* For each choice: with just enough memory for it, opening the model in more names that one. */
static void try_choices(const char *config)
{
    const char *const *choice = glm4v_quantization_choices();
    uint64_t peaks[16], available = UINT64_MAX;
    int n = 0, wanted = 0;
    for (; choice[n]; n++)
        peaks[n] = peak_of(config, choice[n]);
    for (int i = 0; i < n; i++)
        if (strstr(choice[i], "text=int4") && strstr(choice[i], "lm-head")) {
            wanted = i;
            available = peaks[i] + (2 << 20);
        }
    leave_only(available);
    glm4v_model *m = NULL;
    const glm4v_model_options options = { .quantization = "fp32,embedding=fp32,lm-head=fp32",
                                          .n_threads = 1,
                                          .random_weights = 1 };
    CHECK_EQ(glm4v_model_open(&m, config, &options, &err), GLM4V_ERR_NOMEM);
    printf("# %s\n", err.msg);
    CHECK_CONTAINS(err.msg, "of memory are available");
    CHECK_CONTAINS(err.msg, "the largest that fits, with an engine, is --quantization ");
    CHECK_CONTAINS(err.msg, choice[wanted]);
    /* and it does */
    const glm4v_model_options smaller = { .quantization = choice[wanted],
                                          .n_threads = 1,
                                          .random_weights = 1 };
    glm4v_engine *engine = NULL;
    CHECK_EQ(glm4v_model_open(&m, config, &smaller, &err), 0);
    if (m && glm4v_engine_open(&engine, m, NULL, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_engine_close(&engine);
    glm4v_model_close(&m);
}

static void a_model_that_does_not_fit_names_the_largest_that_does(void)
{
    in_child(try_choices);
}

static void try_nothing(const char *config)
{
    glm4v_model *m = NULL;
    const glm4v_model_options options = { .n_threads = 1, .random_weights = 1 };
    leave_only(20 << 20);
    CHECK_EQ(glm4v_model_open(&m, config, &options, &err), GLM4V_ERR_NOMEM);
    printf("# %s\n", err.msg);
    CHECK_CONTAINS(err.msg, "no quantization fits: the smallest, int4,embedding=int8,lm-head=int4, "
                            "takes ");
}

static void where_nothing_fits_the_smallest_is_named(void)
{
    in_child(try_nothing);
}

static void try_engines(const char *config)
{
    glm4v_model *m = NULL;
    glm4v_engine *engine = NULL;
    const glm4v_model_options options = { .quantization = "int8,lm-head=int8",
                                          .n_threads = 1,
                                          .random_weights = 1 };
    const glm4v_engine_options large = { .max_batch = 64, .context_length = 4096 };
    REQUIRE(!glm4v_model_open(&m, config, &options, &err));
    leave_only(120 << 20);
    CHECK_EQ(glm4v_engine_open(&engine, m, &large, &err), GLM4V_ERR_NOMEM);
    printf("# %s\n", err.msg);
    CHECK_CONTAINS(err.msg, "an engine of 64 requests of 4096 tokens takes ");
    const char *at = strstr(err.msg, "max_batch ");
    glm4v_engine_options fits = { 0 };
    REQUIRE(at && sscanf(at, "max_batch %u and context_length %u would fit", &fits.max_batch,
                         &fits.context_length) == 2);
    if (glm4v_engine_open(&engine, m, &fits, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_engine_close(&engine);
    glm4v_model_close(&m);
}

static void an_engine_that_does_not_fit_names_a_smaller_one(void)
{
    in_child(try_engines);
}

static void try_pictures(const char *config)
{
    glm4v_model *m = NULL;
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    const glm4v_model_options options = { .quantization = "int8,lm-head=int8",
                                          .n_threads = 1,
                                          .random_weights = 1 };
    glm4v_engine_options limits = { .max_batch = 1, .context_length = 4096 };
    glm4v_image image = picture(0, 1500, 1500);
    const glm4v_task task = {
        .prompt = "Describe", .images = &image, .n_images = 1, .max_tokens = 1
    };
    REQUIRE(!glm4v_model_open(&m, config, &options, &err));
    REQUIRE(!glm4v_engine_open(&engine, m, &limits, &err));
    leave_only(150 << 20);
    CHECK_EQ(glm4v_describe(engine, &task, &result, &err), GLM4V_ERR_NOMEM);
    printf("# %s\n", err.msg);
    CHECK_CONTAINS(err.msg, " MiB of scratch, but ");
    unsigned long long pixels = 0;
    const char *at = strstr(err.msg, "max_pixels ");
    REQUIRE(at && sscanf(at, "max_pixels %llu would fit", &pixels) == 1);
    glm4v_engine_close(&engine);
    limits.max_pixels = pixels;
    REQUIRE(!glm4v_engine_open(&engine, m, &limits, &err));
    if (glm4v_describe(engine, &task, &result, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    glm4v_model_close(&m);
}

static void a_picture_that_does_not_fit_names_a_smaller_size(void)
{
    in_child(try_pictures);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "process")) {
        TEST(resident_memory_is_what_was_told);
        TEST(a_model_that_does_not_fit_names_the_largest_that_does);
        TEST(where_nothing_fits_the_smallest_is_named);
        TEST(an_engine_that_does_not_fit_names_a_smaller_one);
        TEST(a_picture_that_does_not_fit_names_a_smaller_size);
        return test_end();
    }
    size_t live = glm4v_mem_live();
    TEST(the_plan_of_a_small_model_is_what_it_takes);
    TEST(the_plan_of_the_reference_model_is_what_it_takes);
    TEST(schemas_are_counted_where_there_are_some);
    TEST(stages_add_up);
    TEST(layers_are_dealt_out_by_bytes);
    TEST(the_published_models_fit_where_they_should);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    return test_end();
}
