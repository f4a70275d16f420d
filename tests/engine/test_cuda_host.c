/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host side of the CUDA backend on a CUDA runtime of our own (fake_cuda.h): what becomes of
 * each status, that everything is given back, captured steps, memory of the host, two devices. What
 * it computes the programs *-fake-cuda compare. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda_check.h"
#include "backend/cuda_module.h"
#include "base/mem.h"
#include "cuda/lt_status.h"
#include "fake_cuda.h"
#include "fixture.h"
#include "forward/context_priv.h"
#include "forward/position.h"

#define MODEL SOURCE_ROOT "/tests/data/golden-tiny"

enum { SLOTS = 4, LENGTH = 120, ROWS = 60, VOCAB = 96, IMAGE_ID = 80, PATCH = 96, PROMPT = 40 };

static glm4v_error err;

/* ---- a model and a context on the device ---- */

static int opened; /* GPUs are taken in turns */

static int open_gpu(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log,
                    glm4v_error *error)
{
    return glm4v_backend_cuda_open(backend, opened++ % FAKE_CUDA_DEVICES, pool, log, error);
}

/* All on GPU 0. */
static int open_first(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log,
                      glm4v_error *error)
{
    return glm4v_backend_cuda_open(backend, 0, pool, log, error);
}

typedef struct {
    glm4v_model *model;
    glm4v_context *context;
} runner;

static void runner_close(runner *r)
{
    glm4v_context_close(&r->context);
    glm4v_model_close(&r->model);
}

static int runner_open(runner *r, const char *form, const char *device, glm4v_backend_open_fn open)
{
    const glm4v_model_options options = {
        .device = device, .quantization = form, .n_threads = 2, .weights_only = 1
    };
    const glm4v_context_size size = {
        .slots = SLOTS, .length = LENGTH, .kept = 20, .max_rows = ROWS, .patches = 64
    };
    *r = (runner) { 0 };
    glm4v_backend_replace_cpu(open);
    int rc = glm4v_model_open(&r->model, MODEL, &options, &err);
    glm4v_backend_replace_cpu(NULL);
    if (!rc)
        rc = glm4v_context_open(&r->context, r->model, size, &err);
    if (rc)
        runner_close(r);
    return rc;
}

/* A prompt with a picture of 4 x 6 patches. */
typedef struct {
    glm4v_prompt prompt;
    glm4v_image_run run;
    int32_t ids[PROMPT], position[3 * PROMPT], next;
    float patches[24 * PATCH];
} request;

static void make_request(request *r, const glm4v_model *model)
{
    *r = (request) { .run = { .start = 5, .n = 6, .grid_h = 4, .grid_w = 6 } };
    for (int i = 0; i < PROMPT; i++)
        r->ids[i] = i >= 5 && i < 11 ? IMAGE_ID : i * 37 % 66;
    for (int i = 0; i < 24 * PATCH; i++)
        r->patches[i] = (float)(i * 7919 % 2000) / 1000 - 1;
    r->prompt = (glm4v_prompt) { .ids = r->ids, .n_ids = PROMPT, .runs = &r->run, .n_runs = 1 };
    glm4v_positions(r->position, &r->next, &r->prompt, &model->config);
}

static int prefill(glm4v_context *c, int32_t slot, const request *r, float *logits)
{
    glm4v_embeddings e = { 0 };
    const glm4v_vision_pass vision = { .out = &e, .patches = r->patches, .grid_h = 4, .grid_w = 6 };
    const glm4v_prefill_pass pass = {
        .slot = slot, .prompt = &r->prompt, .position = r->position, .n = PROMPT, .vision = &e
    };
    int rc = glm4v_vision_encode(c, &vision, NULL, &err);
    if (!rc)
        rc = glm4v_prefill(c, &pass, logits, NULL, NULL, &err);
    glm4v_embeddings_clear(c, &e);
    return rc;
}

typedef struct {
    int32_t slots[SLOTS], length[SLOTS], ids[SLOTS], position[SLOTS];
} rows;

static glm4v_decode_rows make_rows(rows *a, const request *r, int32_t n, int32_t step)
{
    for (int32_t i = 0; i < n; i++) {
        a->slots[i] = i;
        a->length[i] = PROMPT + step;
        a->ids[i] = (7 * step + 3 * i) % 60;
        a->position[i] = r->next + step;
    }
    return (glm4v_decode_rows) {
        .slots = a->slots, .length = a->length, .ids = a->ids, .position = a->position, .n = n
    };
}

/* A picture, a prompt and three steps of two sequences. */
static int run_all(runner *r, float *logits)
{
    static request q;
    int rc = 0;
    make_request(&q, r->model);
    for (int32_t slot = 0; !rc && slot < 2; slot++)
        rc = prefill(r->context, slot, &q, logits);
    for (int32_t step = 0; !rc && step < 3; step++) {
        rows a;
        const glm4v_decode_rows list = make_rows(&a, &q, 2, step);
        rc = glm4v_decode(r->context, &list, logits, &err);
    }
    return rc;
}

static uint64_t made[GLM4V_CUDA_N_SITES]; /* calls before the last run was closed */

static int open_and_run(float *logits)
{
    runner r;
    int rc = runner_open(&r, "int8", "cpu", open_first);
    if (!rc)
        rc = run_all(&r, logits);
    for (int i = 0; i < GLM4V_CUDA_N_SITES; i++)
        made[i] = glm4v_cuda_calls((glm4v_cuda_site)i);
    runner_close(&r);
    return rc;
}

static bool nothing_is_left(void)
{
    const fake_cuda_counts c = fake_cuda_count();
    return !c.blocks && !c.pinned && !c.streams && !c.events && !c.graphs && !c.contexts &&
           !c.violations;
}

static bool same(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

/* ---- statuses ---- */

static void every_status_has_a_class(void)
{
    static const cudaError_t all[] = {
#define GLM4V_FAKE_CUDA_ERROR(name, number) cudaError##name,
#include "errors.inc"
#undef GLM4V_FAKE_CUDA_ERROR
    };
    int of_class[GLM4V_CUDA_SETUP + 1] = { 0 };
    CHECK_EQ(glm4v_cuda_classify(cudaSuccess), GLM4V_CUDA_OK);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const glm4v_cuda_class class_ = glm4v_cuda_classify(all[i]);
        CHECK(class_ > GLM4V_CUDA_OK && class_ <= GLM4V_CUDA_SETUP);
        CHECK(glm4v_cuda_code(class_) < 0);
        of_class[class_]++;
    }
    for (int i = GLM4V_CUDA_RETRYABLE; i <= GLM4V_CUDA_SETUP; i++)
        CHECK(of_class[i] > 0);
    CHECK_EQ(glm4v_cuda_classify(cudaErrorMemoryAllocation), GLM4V_CUDA_NO_MEMORY);
    CHECK_EQ(glm4v_cuda_classify(cudaErrorIllegalAddress), GLM4V_CUDA_STICKY);
    CHECK_EQ(glm4v_cuda_classify(cudaErrorECCUncorrectable), GLM4V_CUDA_LOST);
    CHECK_EQ(glm4v_cuda_classify(cudaErrorInsufficientDriver), GLM4V_CUDA_SETUP);
    CHECK_EQ(glm4v_cuda_classify((cudaError_t)987), GLM4V_CUDA_STICKY);
    CHECK_EQ(glm4v_cuda_code(GLM4V_CUDA_NO_MEMORY), GLM4V_ERR_NOMEM);
    CHECK_EQ(glm4v_cuda_code(GLM4V_CUDA_LOST), GLM4V_ERR_DEVICE);
}

static void every_status_of_cublaslt_has_a_class(void)
{
    static const struct {
        int status, code;
    } list[] = { { LT_SUCCESS, 0 },
                 { LT_NOT_INITIALIZED, GLM4V_ERR_DEVICE },
                 { LT_ALLOC_FAILED, GLM4V_ERR_NOMEM },
                 { LT_INVALID_VALUE, GLM4V_ERR_INVALID },
                 { LT_ARCH_MISMATCH, GLM4V_ERR_INVALID },
                 { LT_MAPPING_ERROR, GLM4V_ERR_DEVICE },
                 { LT_EXECUTION_FAILED, GLM4V_ERR_DEVICE },
                 { LT_INTERNAL_ERROR, GLM4V_ERR_DEVICE },
                 { LT_NOT_SUPPORTED, GLM4V_ERR_INVALID },
                 { LT_LICENSE_ERROR, GLM4V_ERR_INVALID },
                 { 2, GLM4V_ERR_DEVICE },
                 { 17, GLM4V_ERR_DEVICE },
                 { -1, GLM4V_ERR_DEVICE } };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        CHECK_EQ(glm4v_cuda_code(glm4v_cuda_classify(lt_error_of(list[i].status))), list[i].code);
}

static void faults_are_read_from_text(void)
{
    static const char *const wrong[] = { "",          "alloc",     "alloc:",      "alloc:x:2",
                                         "alloc:1",   "alloc:0:2", "where:1:2",   "alloc:1:2:ever",
                                         "copy:1:",   "copy:1:0",  "launch:1:-3", "al:1:2",
                                         "copy@:1:2", "copy@1",    "copy@-1:1:2", "copy@x:1:2" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!glm4v_cuda_inject_text(wrong[i]));
    CHECK(glm4v_cuda_inject_text("copy:2:719:always"));
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_COPY), cudaSuccess);
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_LAUNCH), cudaSuccess);
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_COPY), cudaErrorLaunchFailure);
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_COPY), cudaErrorLaunchFailure);
    CHECK(glm4v_cuda_inject_text("event@1:1:700:always")); /* no thread has entered device 1 */
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT), cudaSuccess);
    CHECK(glm4v_cuda_inject_text("alloc:1:2"));
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC), cudaErrorMemoryAllocation);
    CHECK_EQ(glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC), cudaSuccess);
    glm4v_cuda_inject(NULL);
}

/* ---- opening ---- */

static void a_device_that_cannot_be_opened_says_why(void)
{
    static const struct {
        cudaError_t status;
        int n, number;
        const char *says;
    } list[] = {
        { cudaErrorInsufficientDriver, 0, 0, "update the NVIDIA driver" },
        { cudaErrorNoDevice, 0, 0, "nvidia-smi" },
        { cudaSuccess, 0, 0, "cudaErrorNoDevice" },
        { cudaSuccess, 2, 2, "cuda:2" },
        { cudaErrorDevicesUnavailable, 2, 0, "another process" },
        { cudaErrorSystemDriverMismatch, 2, 0, "restart" },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        glm4v_backend *b = NULL;
        fake_cuda_set_devices(list[i].status, list[i].n);
        CHECK_EQ(glm4v_backend_cuda_open(&b, list[i].number, NULL, NULL, &err), GLM4V_ERR_DEVICE);
        CHECK_CONTAINS(err.msg, list[i].says);
        CHECK(!b);
    }
    fake_cuda_set_devices(cudaSuccess, FAKE_CUDA_DEVICES);
    CHECK(nothing_is_left());
}

static char lines[2000]; /* of the log */

static void keep_line(void *user, glm4v_log_level level, const char *line)
{
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n", line);
}

static int open_logged(glm4v_model **model)
{
    const glm4v_model_options options = { .device = "cpu,cpu",
                                          .quantization = "int8",
                                          .n_threads = 2,
                                          .weights_only = 1,
                                          .log = keep_line };
    opened = 0;
    lines[0] = 0;
    glm4v_backend_replace_cpu(open_gpu);
    int rc = glm4v_model_open(model, MODEL, &options, &err);
    glm4v_backend_replace_cpu(NULL);
    return rc;
}

/* Opens the device, and closes it if it could be opened; hash: of its table of products. */
static int open_with_products(int32_t device, char hash[17])
{
    glm4v_backend *b = NULL;
    int rc = glm4v_backend_cuda_open(&b, device, NULL, NULL, &err);
    snprintf(hash, 17, "%s", b ? b->products : "");
    glm4v_backend_close(&b);
    return rc;
}

static void write_products(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && !fclose(file));
}

/* A table for another version of cuBLASLt, as it would have been written. */
static void write_other_products(const char *path)
{
    static const char text[] = "glm4v-products 1\ngpu another card\ncublaslt 120000\n";
    char all[200];
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *c = text; *c; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    snprintf(all, sizeof all, "%shash %016" PRIx64 "\n", text, h);
    write_products(path, all);
}

static void a_table_of_products_is_written_and_read(void)
{
    char path[] = "/tmp/glm4v-products-XXXXXX", none[17], making[17], given[17], again[17];
    const int fd = mkstemp(path);
    CHECK(fd >= 0 && !close(fd));
    CHECK_EQ(open_with_products(0, none), 0);
    CHECK_EQ(strlen(none), 16);
    setenv("GLM4V_CUDA_TUNE", path, 1);
    CHECK_EQ(open_with_products(0, making), 0);
    CHECK_STR(making, "");
    unsetenv("GLM4V_CUDA_TUNE");
    setenv("GLM4V_CUDA_PRODUCTS", path, 1);
    CHECK_EQ(open_with_products(0, given), 0);
    CHECK_EQ(strlen(given), 16);
    CHECK(strcmp(given, none));
    CHECK_EQ(open_with_products(0, again), 0);
    CHECK_STR(again, given);
    write_other_products(path);
    CHECK_EQ(open_with_products(0, again), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "another card and cuBLASLt 120000");
    CHECK_CONTAINS(err.msg, "glm4v bench --tune");
    write_products(path, "glm4v-products 1\ngpu x\n");
    CHECK_EQ(open_with_products(0, again), GLM4V_ERR_FORMAT);
    unlink(path);
    CHECK_EQ(open_with_products(0, again), GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, path);
    unsetenv("GLM4V_CUDA_PRODUCTS");
    CHECK(nothing_is_left());
}

/* One file for two kinds of GPU: each finds its own table, and what is written anew for one leaves
 * the other's as it was. What is no file of tables is not overwritten. */
static void a_file_has_a_table_for_each_kind_of_gpu(void)
{
    char path[] = "/tmp/glm4v-products-XXXXXX", hash[2][17], again[17], combined[17];
    glm4v_model *model = NULL;
    const int fd = mkstemp(path);
    CHECK(fd >= 0 && !close(fd));
    setenv("GLM4V_CUDA_TUNE", path, 1);
    CHECK_EQ(open_logged(&model), 0); /* on both */
    CHECK_STR(glm4v_model_get_info(model)->products, "");
    CHECK_CONTAINS(lines, "GLM4V_CUDA_TUNE: products of cuBLASLt are timed on cuda:1");
    glm4v_model_close(&model);
    unsetenv("GLM4V_CUDA_TUNE");
    setenv("GLM4V_CUDA_PRODUCTS", path, 1);
    for (int32_t i = 0; i < 2; i++)
        CHECK_EQ(open_with_products(i, hash[i]), 0);
    CHECK(strcmp(hash[0], hash[1]));
    CHECK_EQ(open_logged(&model), 0);
    snprintf(combined, sizeof combined, "%s", glm4v_model_get_info(model)->products);
    glm4v_model_close(&model);
    CHECK_EQ(strlen(combined), 16);
    CHECK(strcmp(combined, hash[0]) && strcmp(combined, hash[1]));
    setenv("GLM4V_CUDA_TUNE", path, 1);
    CHECK_EQ(open_with_products(1, again), 0);
    unsetenv("GLM4V_CUDA_TUNE");
    for (int32_t i = 0; i < 2; i++) {
        CHECK_EQ(open_with_products(i, again), 0);
        CHECK_STR(again, hash[i]);
    }
    unsetenv("GLM4V_CUDA_PRODUCTS");
    write_products(path, "my notes\n");
    setenv("GLM4V_CUDA_TUNE", path, 1);
    CHECK_EQ(open_with_products(0, again), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "GLM4V_CUDA_TUNE");
    unsetenv("GLM4V_CUDA_TUNE");
    unlink(path);
    CHECK(nothing_is_left());
}

static void the_threads_context_is_what_it_was(void)
{
    static char mine;
    static float logits[SLOTS * VOCAB];
    void *const contexts[] = { NULL, &mine };
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        runner r;
        fake_cuda_set_current(contexts[i]);
        REQUIRE(!runner_open(&r, "int4", "cpu", open_first));
        CHECK(fake_cuda_current() == contexts[i]);
        CHECK_EQ(run_all(&r, logits), 0);
        CHECK(fake_cuda_current() == contexts[i]);
        runner_close(&r);
        CHECK(fake_cuda_current() == contexts[i]);
        fake_cuda_set_current(NULL);
    }
    CHECK(nothing_is_left());
}

/* ---- faults ---- */

/* Call number k of the site has this status, for every k until all has run; what fails while it is
 * closed, nobody is told. Returns the k. */
static uint64_t fail_each(glm4v_cuda_site site, cudaError_t status, int code, uint64_t stride)
{
    static float logits[SLOTS * VOCAB];
    uint64_t k = 1;
    for (;; k += stride) {
        const glm4v_cuda_fault fault = { .site = site, .nth = k, .status = status };
        const uint64_t before = glm4v_cuda_calls(site);
        glm4v_cuda_inject(&fault);
        const int rc = open_and_run(logits);
        glm4v_cuda_inject(NULL);
        if (made[site] - before < k) {
            CHECK_EQ(rc, 0);
            return k;
        }
        if (rc != code)
            test_fail(__FILE__, __LINE__, "call %llu: %d, not %d: %s", (unsigned long long)k, rc,
                      code, err.msg);
        if (!nothing_is_left()) {
            test_fail(__FILE__, __LINE__, "call %llu: something is left", (unsigned long long)k);
            return k;
        }
    }
}

static void every_allocation_may_fail(void)
{
    CHECK(fail_each(GLM4V_CUDA_AT_ALLOC, cudaErrorMemoryAllocation, GLM4V_ERR_NOMEM, 1) > 100);
    CHECK(fail_each(GLM4V_CUDA_AT_GRAPH, cudaErrorMemoryAllocation, GLM4V_ERR_NOMEM, 1) > 1);
}

static void every_call_may_end_the_device(void)
{
    CHECK(fail_each(GLM4V_CUDA_AT_LAUNCH, cudaErrorIllegalAddress, GLM4V_ERR_DEVICE, 5) > 100);
    CHECK(fail_each(GLM4V_CUDA_AT_COPY, cudaErrorLaunchFailure, GLM4V_ERR_DEVICE, 7) > 30);
    CHECK(fail_each(GLM4V_CUDA_AT_EVENT, cudaErrorECCUncorrectable, GLM4V_ERR_DEVICE, 7) > 100);
    CHECK(fail_each(GLM4V_CUDA_AT_ALLOC, cudaErrorUnknown, GLM4V_ERR_DEVICE, 9) > 100);
}

static void a_launch_without_room_leaves_the_device_usable(void)
{
    CHECK(fail_each(GLM4V_CUDA_AT_LAUNCH, cudaErrorLaunchOutOfResources, GLM4V_ERR_NOMEM, 11) >
          100);
}

/* What failed once fails for good, and says what it was; a new model on the device works. */
static void a_lost_device_is_told_until_it_is_opened_again(void)
{
    static float logits[SLOTS * VOCAB], again[SLOTS * VOCAB];
    const glm4v_cuda_fault fault = { .site = GLM4V_CUDA_AT_EVENT,
                                     .nth = 9,
                                     .status = cudaErrorIllegalAddress };
    runner r;
    REQUIRE(!runner_open(&r, "int8", "cpu", open_first));
    CHECK_EQ(run_all(&r, logits), 0);
    glm4v_cuda_inject(&fault);
    CHECK_EQ(run_all(&r, again), GLM4V_ERR_DEVICE);
    glm4v_cuda_inject(NULL);
    CHECK_EQ(run_all(&r, again), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "cudaErrorIllegalAddress");
    runner_close(&r);
    CHECK(nothing_is_left());
    CHECK_EQ(open_and_run(again), 0);
    CHECK(same(logits, again, (size_t)2 * VOCAB));
}

static void a_device_that_is_full_says_so(void)
{
    static float logits[SLOTS * VOCAB];
    const size_t sizes[] = { 0, 4096, (size_t)300 << 10, (size_t)8 << 20, (size_t)9 << 20 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fake_cuda_set_memory(sizes[i]);
        CHECK_EQ(open_and_run(logits), GLM4V_ERR_NOMEM);
        CHECK(nothing_is_left());
    }
    fake_cuda_set_memory((size_t)4 << 30);
}

/* ---- steps ---- */

static void a_step_is_captured_the_second_time_and_replayed(void)
{
    static request q;
    static float first[SLOTS * VOCAB], got[SLOTS * VOCAB];
    runner r;
    REQUIRE(!runner_open(&r, "int8", "cpu", open_first));
    make_request(&q, r.model);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        CHECK_EQ(prefill(r.context, slot, &q, got), 0);
    for (int32_t n = 1; n <= SLOTS; n++) {
        rows a;
        const glm4v_decode_rows list = make_rows(&a, &q, n, 0);
        const unsigned long before = fake_cuda_count().graph_launches;
        for (int32_t i = 0; i < 5; i++) { /* the same tokens again: the same logits */
            CHECK_EQ(glm4v_decode(r.context, &list, i ? got : first, &err), 0);
            CHECK(!i || same(first, got, (size_t)n * VOCAB));
        }
        CHECK_EQ(fake_cuda_count().graph_launches, before + 4);
    }
    runner_close(&r);
    CHECK(nothing_is_left());
}

/* Failures while a step is captured: the next one is right all the same. */
static void a_capture_that_fails_is_discarded(void)
{
    static request q;
    static float expected[SLOTS * VOCAB], got[SLOTS * VOCAB];
    runner r;
    REQUIRE(!runner_open(&r, "int8", "cpu", open_first));
    make_request(&q, r.model);
    for (int32_t slot = 0; slot < 2; slot++)
        CHECK_EQ(prefill(r.context, slot, &q, got), 0);
    rows a;
    const glm4v_decode_rows list = make_rows(&a, &q, 2, 0);
    CHECK_EQ(glm4v_decode(r.context, &list, expected, &err), 0);
    for (uint64_t k = 1; k <= 12; k += 3) {
        const glm4v_cuda_fault fault = { .site = GLM4V_CUDA_AT_LAUNCH,
                                         .nth = k,
                                         .status = cudaErrorLaunchOutOfResources };
        glm4v_cuda_inject(&fault);
        CHECK_EQ(glm4v_decode(r.context, &list, got, &err), GLM4V_ERR_NOMEM);
        glm4v_cuda_inject(NULL);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(glm4v_decode(r.context, &list, got, &err), 0);
        CHECK(same(expected, got, (size_t)2 * VOCAB));
    }
    runner_close(&r);
    CHECK(nothing_is_left());
}

/* A graph that cannot be made: the step fails, later ones run without. */
static void a_graph_that_cannot_be_made_is_done_without(void)
{
    static request q;
    static float expected[SLOTS * VOCAB], got[SLOTS * VOCAB];
    const glm4v_cuda_fault fault = { .site = GLM4V_CUDA_AT_GRAPH,
                                     .nth = 1,
                                     .status = cudaErrorMemoryAllocation };
    runner r;
    REQUIRE(!runner_open(&r, "bf16", "cpu", open_first));
    make_request(&q, r.model);
    CHECK_EQ(prefill(r.context, 0, &q, got), 0);
    rows a;
    const glm4v_decode_rows list = make_rows(&a, &q, 1, 0);
    CHECK_EQ(glm4v_decode(r.context, &list, expected, &err), 0);
    glm4v_cuda_inject(&fault);
    CHECK_EQ(glm4v_decode(r.context, &list, got, &err), GLM4V_ERR_NOMEM);
    glm4v_cuda_inject(NULL);
    const unsigned long before = fake_cuda_count().graph_launches;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(glm4v_decode(r.context, &list, got, &err), 0);
        CHECK(same(expected, got, VOCAB));
    }
    CHECK_EQ(fake_cuda_count().graph_launches, before);
    runner_close(&r);
    CHECK(nothing_is_left());
}

/* Steps are handed over one after another, nobody waits, and what was handed over is overwritten:
 * more of them than page-locked blocks. */
static void the_host_may_be_several_steps_ahead(void)
{
    enum { STEPS = 11 };
    static request q;
    static float expected[VOCAB], got[VOCAB];
    for (int ahead = 0; ahead < 2; ahead++) {
        runner r;
        REQUIRE(!runner_open(&r, "int8", "cpu", open_first));
        glm4v_stage_buffers *stage = &r.context->stages[0];
        glm4v_work *work = &stage->work[GLM4V_LANE_DECODE];
        glm4v_backend *b = stage->backend;
        make_request(&q, r.model);
        CHECK_EQ(prefill(r.context, 0, &q, got), 0);
        for (int32_t step = 0; step < STEPS; step++) {
            int32_t id = step * 5 % 60, position = q.next + step, output = 0;
            glm4v_step_span span = { .slot = 0, .length = PROMPT + step, .row = 0, .n = 1 };
            const glm4v_step_rows list = { .rows = 1,
                                           .ids = &id,
                                           .position = { &position, &position, &position },
                                           .rotary = &stage->rotary,
                                           .spans = &span,
                                           .n_spans = 1,
                                           .outputs = &output,
                                           .n_outputs = 1,
                                           .key = 2 };
            const glm4v_append append = { .k = work->x, .v = work->x, .ld = 64, .kv = &stage->kv };
            bool replayed = false;
            REQUIRE(!b->ops->step_begin(work->step, &list, &replayed));
            id = position = output = 0x5a5a5a5a;
            memset(&span, 0x5a, sizeof span);
            CHECK_EQ(replayed, step > 1);
            if (!replayed) {
                CHECK_EQ(b->ops->embed(work->step, work->x, &r.model->embedding), 0);
                CHECK_EQ(b->ops->append(work->step, &append), 0);
            }
            CHECK_EQ(b->ops->step_end(work->step), 0);
            if (!ahead) {
                CHECK_EQ(b->ops->event_record(b, GLM4V_QUEUE_DECODE, stage->event[0][0]), 0);
                CHECK_EQ(b->ops->sync(b, stage->event[0][0]), 0);
            }
        }
        rows a;
        glm4v_decode_rows list = make_rows(&a, &q, 1, STEPS);
        CHECK_EQ(glm4v_decode(r.context, &list, ahead ? got : expected, &err), 0);
        runner_close(&r);
    }
    CHECK(same(expected, got, VOCAB));
    CHECK(nothing_is_left());
}

/* ---- memory ---- */

/* Weights come through one reserved block, whose end nothing exceeds, and nothing is taken once all
 * has run. */
static void nothing_is_taken_after_the_first_requests(void)
{
    static float logits[SLOTS * VOCAB];
    runner r;
    REQUIRE(!runner_open(&r, "int4", "cpu", open_first));
    CHECK_EQ(run_all(&r, logits), 0);
    const unsigned long before = fake_cuda_count().allocations;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(run_all(&r, logits), 0);
    CHECK_EQ(fake_cuda_count().allocations, before);
    runner_close(&r);
}

static void what_is_planned_is_what_is_taken(void)
{
    static const char *const forms[] = { "fp32",    "bf16", "int8",       "int4",
                                         "int4-32", "fp8",  "fp8-dynamic" };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        runner r;
        REQUIRE(!runner_open(&r, forms[i], "cpu", open_first));
        glm4v_backend *b = r.model->stages[0].backend;
        const glm4v_weight *w = &r.model->layers[0].qkv;
        const glm4v_weight_kind kind = { .form = w->form, .n_out = w->n_out, .n_in = w->n_in };
        CHECK_EQ(b->ops->weight_bytes(b, &kind), w->bytes);
        CHECK(b->ops->available(b) < ((uint64_t)4 << 30) - fake_cuda_count().bytes);
        runner_close(&r);
    }
    CHECK(nothing_is_left());
}

/* ---- several devices ---- */

static void two_stages_equal_one(void)
{
    static const glm4v_backend_open_fn opens[] = { open_gpu, open_first }; /* two GPUs; twice one */
    static float expected[SLOTS * VOCAB], got[SLOTS * VOCAB];
    CHECK_EQ(open_and_run(expected), 0);
    for (size_t i = 0; i < sizeof opens / sizeof *opens; i++) {
        runner r;
        opened = 0;
        REQUIRE(!runner_open(&r, "int8", "cpu,cpu", opens[i]));
        CHECK_EQ(r.model->n_stages, 2);
        CHECK_EQ(run_all(&r, got), 0);
        CHECK(same(expected, got, (size_t)2 * VOCAB));
        runner_close(&r);
    }
    CHECK(nothing_is_left());
}

static void the_log_says_how_activations_go_from_gpu_to_gpu(void)
{
    for (int peers = 0; peers < 2; peers++) {
        glm4v_model *model = NULL;
        fake_cuda_set_peers(peers);
        CHECK_EQ(open_logged(&model), 0);
        CHECK_CONTAINS(lines, peers ? "activations go from cuda:0 to cuda:1 by peer copy"
                                    : "activations go from cuda:0 to cuda:1 by page-locked memory");
        glm4v_model_close(&model);
    }
    CHECK(nothing_is_left());
}

/* The driver says that peers can be reached, and then refuses: the model is loaded all the same. A
 * device that is lost meanwhile ends the load. */
static void peer_access_that_fails_is_done_without(void)
{
    static const struct {
        cudaError_t status;
        int code;
    } cases[] = {
        { cudaErrorTooManyPeers, 0 },
        { cudaErrorInvalidDevice, 0 },
        { cudaErrorMemoryAllocation, 0 },
        { cudaErrorIllegalAddress, GLM4V_ERR_DEVICE },
    };
    glm4v_model *model = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_cuda_refuse_peers(cases[i].status);
        CHECK_EQ(open_logged(&model), cases[i].code);
        CHECK_CONTAINS(cases[i].code ? err.msg : lines, cudaGetErrorName(cases[i].status));
        if (!cases[i].code) {
            CHECK_CONTAINS(lines, "cuda:0 and cuda:1 cannot read each other's memory");
            CHECK_CONTAINS(lines, "from cuda:0 to cuda:1 by page-locked memory of the driver");
        }
        glm4v_model_close(&model);
    }
    fake_cuda_refuse_peers(cudaSuccess);
    CHECK(nothing_is_left());
}

/* Between the submission of a step and the first look at it nobody waits, and each stage's time is
 * measured. */
static void a_step_of_two_gpus_is_submitted_without_waiting(void)
{
    static request q;
    static float expected[SLOTS * VOCAB], got[SLOTS * VOCAB];
    runner one, two;
    opened = 0;
    REQUIRE(!runner_open(&one, "int8", "cpu", open_first));
    REQUIRE(!runner_open(&two, "int8", "cpu,cpu", open_gpu));
    make_request(&q, one.model);
    for (int32_t slot = 0; slot < 2; slot++) {
        CHECK_EQ(prefill(one.context, slot, &q, got), 0);
        CHECK_EQ(prefill(two.context, slot, &q, got), 0);
    }
    CHECK_EQ(glm4v_context_busy(two.context, 0), 0);
    for (int32_t step = 0; step < 4; step++) { /* as many as the host may be ahead */
        rows a;
        const glm4v_decode_rows list = make_rows(&a, &q, 2, step);
        const uint64_t busy[2] = { glm4v_context_busy(two.context, 0),
                                   glm4v_context_busy(two.context, 1) };
        CHECK_EQ(glm4v_decode(one.context, &list, expected, &err), 0);
        CHECK_EQ(glm4v_decode_begin(two.context, &list, &err), 0);
        const unsigned long waits = fake_cuda_count().waits;
        CHECK_EQ(glm4v_pass_submit(two.context, GLM4V_LANE_DECODE, &err), 0);
        CHECK_EQ(fake_cuda_count().waits, waits);
        while (!glm4v_pass_poll(two.context, GLM4V_LANE_DECODE, &err))
            glm4v_pass_wait(two.context, GLM4V_LANE_DECODE);
        CHECK(same(expected, glm4v_pass_logits(two.context, GLM4V_LANE_DECODE), 2 * VOCAB));
        for (int i = 0; i < 2; i++)
            CHECK(glm4v_context_busy(two.context, i) > busy[i]);
    }
    CHECK_EQ(glm4v_context_busy(one.context, 0), 0);
    runner_close(&two);
    runner_close(&one);
    CHECK(nothing_is_left());
}

/* A fault of one device only: its name is in the message. */
static void the_message_names_the_gpu_that_failed(void)
{
    static float logits[SLOTS * VOCAB];
    for (int device = 0; device < 2; device++) {
        runner r;
        char text[64];
        opened = 0;
        REQUIRE(!runner_open(&r, "int8", "cpu,cpu", open_gpu));
        CHECK_EQ(run_all(&r, logits), 0);
        snprintf(text, sizeof text, "launch@%d:7:700:always", device);
        CHECK(glm4v_cuda_inject_text(text));
        CHECK_EQ(run_all(&r, logits), GLM4V_ERR_DEVICE);
        glm4v_cuda_inject(NULL);
        CHECK_CONTAINS(err.msg, device ? "device cuda:1 failed" : "device cuda:0 failed");
        CHECK_CONTAINS(err.msg, "cudaErrorIllegalAddress");
        CHECK_EQ(run_all(&r, logits), GLM4V_ERR_DEVICE);
        runner_close(&r);
    }
    CHECK(nothing_is_left());
}

/* ---- keys and values ---- */

/* Rows [n, 2 * 32] appended and attended to in this form; o [n, 64]. */
static int attend_as(glm4v_backend *b, glm4v_kv_form form, const float *x, int32_t n, float *o)
{
    const glm4v_kv_shape shape = {
        .form = form, .layers = 2, .heads = 2, .head_dim = 32, .slots = 2, .length = 16, .kept = 5
    };
    const glm4v_step_size size = { .queue = GLM4V_QUEUE_PREFILL, .rows = n, .spans = 1 };
    const glm4v_step_span span = { .slot = 1, .length = 0, .row = 0, .n = n };
    const glm4v_step_rows list = { .rows = n, .spans = &span, .n_spans = 1 };
    glm4v_kv kv;
    glm4v_step *step = NULL;
    void *device = NULL;
    bool replayed;
    int rc = b->ops->kv_open(b, &kv, &shape, &err);
    if (rc)
        return rc;
    CHECK_EQ(b->ops->step_open(b, &step, &size, &err), 0);
    CHECK_EQ(b->ops->alloc(b, &device, (size_t)n * 128 * b->traits->activation, &err), 0);
    CHECK_EQ(b->ops->upload(b, device, x, n * 64), 0);
    CHECK_EQ(b->ops->step_begin(step, &list, &replayed), 0);
    const glm4v_append append = { .k = device, .v = device, .ld = 64, .kv = &kv, .layer = 1 };
    const glm4v_attend attend = { .o = glm4v_at(b, device, (size_t)n * 64),
                                  .ldo = 64,
                                  .q = device,
                                  .ldq = 64,
                                  .heads = 2,
                                  .scale = 0.2f,
                                  .kv = &kv,
                                  .layer = 1 };
    CHECK_EQ(b->ops->append(step, &append), 0);
    CHECK_EQ(b->ops->attend(step, &attend), 0);
    CHECK_EQ(b->ops->step_download(step, o, attend.o, n * 64), 0);
    CHECK_EQ(b->ops->step_end(step), 0);
    CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &kv, 2, 1, 5), 0);
    CHECK_EQ(b->ops->kv_copy(b, GLM4V_QUEUE_PREFILL, &kv, 2, 1, 6), GLM4V_ERR_INVALID);
    glm4v_event *event = NULL;
    CHECK_EQ(b->ops->event_open(b, &event, &err), 0);
    CHECK_EQ(b->ops->event_record(b, GLM4V_QUEUE_PREFILL, event), 0);
    CHECK_EQ(b->ops->sync(b, event), 0);
    b->ops->event_close(b, event);
    b->ops->step_close(step);
    b->ops->free(b, device);
    b->ops->kv_close(b, &kv);
    return 0;
}

static void keys_and_values_may_be_int8(void)
{
    enum { N = 11 };
    float x[N * 64], exact[N * 64], coded[N * 64];
    double error = 0, power = 0;
    glm4v_backend *b = NULL;
    for (int i = 0; i < N * 64; i++)
        x[i] = (float)(i * 7919 % 997) / 400 - 1.2f;
    REQUIRE(!glm4v_backend_cuda_open(&b, 1, NULL, NULL, &err));
    CHECK_EQ(attend_as(b, GLM4V_KV_BF16, x, N, exact), 0);
    CHECK_EQ(attend_as(b, GLM4V_KV_INT8, x, N, coded), 0);
    CHECK_EQ(attend_as(b, GLM4V_KV_FP8, x, N, coded), GLM4V_ERR_UNSUPPORTED);
    for (int i = 0; i < N * 64; i++) {
        error += (double)(coded[i] - exact[i]) * (double)(coded[i] - exact[i]);
        power += (double)exact[i] * (double)exact[i];
    }
    CHECK(error > 0 && error < 1e-3 * power);
    glm4v_backend_close(&b);
    CHECK(nothing_is_left());
}

/* ---- pictures ---- */

static void only_images_that_can_be_read_are_taken(void)
{
    static const struct {
        glm4v_image_memory memory;
        int32_t device;
        glm4v_pixel_format format;
        int64_t stride, plane_stride;
        bool taken;
    } list[] = {
        { GLM4V_IMAGE_HOST, 0, GLM4V_PIXELS_RGB, 300, 0, true },
        { GLM4V_IMAGE_HOST, 0, GLM4V_PIXELS_RGB, 299, 0, false },
        { GLM4V_IMAGE_HOST, 0, GLM4V_PIXELS_BGR, 300, 0, false },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_RGB, 300, 0, true },
        { GLM4V_IMAGE_CUDA, 0, GLM4V_PIXELS_RGB, 300, 0, false },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_BGRX, 400, 0, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_BGRX, 396, 0, false },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_NV12, 100, 100, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_NV12, 100, 0, false },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_I420, 100, 50, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_I420, 100, 49, false },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_P010, 200, 200, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_YUY2, 200, 0, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_GRAY8, 100, 0, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_RGBA, 400, 0, true },
        { GLM4V_IMAGE_CUDA, 1, GLM4V_PIXELS_BGRA, 396, 0, false },
        { GLM4V_IMAGE_CUDA, 1, (glm4v_pixel_format)99, 400, 400, false },
        { (glm4v_image_memory)7, 1, GLM4V_PIXELS_RGB, 300, 0, false },
    };
    glm4v_backend *b = NULL;
    REQUIRE(!glm4v_backend_cuda_open(&b, 1, NULL, NULL, &err));
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const uint8_t *const plane = list[i].plane_stride ? picture_pixels : NULL;
        const glm4v_image image = { .data = picture_pixels,
                                    .width = 100,
                                    .height = 50,
                                    .stride = list[i].stride,
                                    .memory = list[i].memory,
                                    .device = list[i].device,
                                    .format = list[i].format,
                                    .plane = { plane, plane },
                                    .plane_stride = { list[i].plane_stride,
                                                      list[i].plane_stride } };
        if (b->ops->takes(b, &image) != list[i].taken)
            test_fail(__FILE__, __LINE__, "image %zu", i);
    }
    for (int32_t left = -1; left < 3; left++) { /* 100 pixels of a row of 101 */
        const glm4v_image image = { .data = picture_pixels,
                                    .width = 100,
                                    .height = 50,
                                    .stride = 303,
                                    .memory = GLM4V_IMAGE_CUDA,
                                    .device = 1,
                                    .left = left };
        CHECK(b->ops->takes(b, &image) == (left == 0 || left == 1));
    }
    glm4v_backend_close(&b);
}

/* ---- formats ---- */

enum { BAR_SIDE = 16, BAR_N = BAR_SIDE * BAR_SIDE, PICTURES = 4 };

/* Two colour bars in each format. */
static uint8_t bar_rgb[3 * BAR_N], bar_rgba[4 * BAR_N], bar_nv12[BAR_N + BAR_N / 2],
    bar_i420[BAR_N + BAR_N / 2], bar_yuy2[2 * BAR_N];
static uint16_t bar_p010[BAR_N + BAR_N / 2];

static void draw_bars(void)
{
    static const uint8_t bar[2][3] = { { 200, 60, 40 }, { 30, 90, 180 } };
    for (int i = 0; i < BAR_N; i++) {
        const int x = i % BAR_SIDE, y = i / BAR_SIDE;
        const uint8_t *c = bar[x >= BAR_SIDE / 2];
        const double R = c[0] / 255.0, G = c[1] / 255.0, B = c[2] / 255.0;
        const double Y = 0.299 * R + 0.587 * G + 0.114 * B;
        const double U = (B - Y) / 1.772, V = (R - Y) / 1.402;
        const uint8_t luma = (uint8_t)(16.5 + 219 * Y), u = (uint8_t)(128.5 + 224 * U),
                      v = (uint8_t)(128.5 + 224 * V);
        memcpy(bar_rgb + 3 * i, c, 3);
        memcpy(bar_rgba + 4 * i, c, 3);
        bar_rgba[4 * i + 3] = 153;
        bar_nv12[i] = bar_i420[i] = bar_yuy2[2 * i] = luma;
        bar_yuy2[2 * i + 1] = x % 2 ? v : u;
        bar_p010[i] = (uint16_t)((int)(64.5 + 876 * Y) << 6);
        if (x % 2 || y % 2)
            continue;
        const int at = y / 2 * BAR_SIDE + x;
        bar_nv12[BAR_N + at] = u;
        bar_nv12[BAR_N + at + 1] = v;
        bar_i420[BAR_N + at / 2] = u;
        bar_i420[BAR_N + BAR_N / 4 + at / 2] = v;
        bar_p010[BAR_N + at] = (uint16_t)((int)(512.5 + 896 * U) << 6);
        bar_p010[BAR_N + at + 1] = (uint16_t)((int)(512.5 + 896 * V) << 6);
    }
}

/* Patches [n] of n pictures, one after the other in one step. */
static void patches_in_a_row(glm4v_backend *b, float (*patches)[BAR_N * 3],
                             const glm4v_image *images, int n)
{
    void *out[PICTURES] = { NULL };
    glm4v_step *step = NULL;
    bool replayed;
    const glm4v_step_size size = { .queue = GLM4V_QUEUE_PREFILL, .rows = 16 };
    REQUIRE(!b->ops->step_open(b, &step, &size, &err));
    CHECK_EQ(b->ops->step_begin(step, &(glm4v_step_rows) { .rows = 16 }, &replayed), 0);
    for (int i = 0; i < n; i++) {
        const glm4v_pixels pixels = { .frames = { &images[i], &images[i] },
                                      .grid_h = 4,
                                      .grid_w = 4,
                                      .patch = 4,
                                      .temporal = 1,
                                      .merge = 2,
                                      .std = { 1, 1, 1 } };
        REQUIRE(!b->ops->alloc(b, &out[i], sizeof *patches, &err));
        CHECK(b->ops->takes(b, &images[i]));
        CHECK_EQ(b->ops->preprocess(step, out[i], &pixels), 0);
    }
    for (int i = 0; i < n; i++)
        CHECK_EQ(b->ops->step_download(step, patches[i], out[i], BAR_N * 3), 0);
    CHECK_EQ(b->ops->step_end(step), 0);
    b->ops->step_close(step);
    for (int i = 0; i < n; i++)
        b->ops->free(b, out[i]);
}

/* Patches of an image whose pointers are offsets into data, which goes to the device. */
static void patches_of(float *patches, glm4v_backend *b, glm4v_image image, const void *data,
                       size_t bytes)
{
    char *device = NULL;
    float row[1][BAR_N * 3];
    REQUIRE(!b->ops->alloc(b, (void **)&device, bytes, &err));
    CHECK_EQ(b->ops->write(b, device, data, bytes), 0);
    image.data = (const uint8_t *)device + (uintptr_t)image.data;
    for (int i = 0; i < 2; i++)
        image.plane[i] = (const uint8_t *)device + (uintptr_t)image.plane[i];
    patches_in_a_row(b, row, &image, 1);
    memcpy(patches, row[0], sizeof row);
    b->ops->free(b, device);
}

static void check_near(const float *got, const float *want, float most, int format)
{
    for (int k = 0; k < 3 * BAR_N; k++)
        if (!(fabsf(got[k] - want[k]) <= most)) {
            test_fail(__FILE__, __LINE__, "format %d, number %d: %g, not %g", format, k,
                      (double)got[k], (double)want[k]);
            return;
        }
}

/* All of the bars, or a part of them, in each format: near the same RGB. Transparent ones are laid
 * on white. */
static void formats_become_the_same_patches(void)
{
    const struct {
        glm4v_pixel_format format;
        const void *data;
        size_t bytes;
        int64_t stride, plane[2], plane_stride[2];
    } list[] = {
        { GLM4V_PIXELS_RGB, bar_rgb, sizeof bar_rgb, 3 * BAR_SIDE, { 0 }, { 0 } },
        { GLM4V_PIXELS_NV12, bar_nv12, sizeof bar_nv12, BAR_SIDE, { BAR_N }, { BAR_SIDE } },
        { GLM4V_PIXELS_I420,
          bar_i420,
          sizeof bar_i420,
          BAR_SIDE,
          { BAR_N, BAR_N + BAR_N / 4 },
          { BAR_SIDE / 2, BAR_SIDE / 2 } },
        { GLM4V_PIXELS_YUY2, bar_yuy2, sizeof bar_yuy2, 2 * BAR_SIDE, { 0 }, { 0 } },
        { GLM4V_PIXELS_P010,
          bar_p010,
          sizeof bar_p010,
          2 * BAR_SIDE,
          { 2 * BAR_N },
          { 2 * BAR_SIDE } },
    };
    static const struct {
        int32_t left, top, width, height;
    } parts[] = { { 0, 0, BAR_SIDE, BAR_SIDE }, { 5, 3, 8, 12 } };
    static float want[BAR_N * 3], got[BAR_N * 3];
    glm4v_backend *b = NULL;
    draw_bars();
    REQUIRE(!glm4v_backend_cuda_open(&b, 0, NULL, NULL, &err));
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        glm4v_image image = { .width = parts[k].width,
                              .height = parts[k].height,
                              .stride = 3 * BAR_SIDE,
                              .memory = GLM4V_IMAGE_CUDA };
        const int first = parts[k].top * BAR_SIDE + parts[k].left;
        image.data = (const uint8_t *)(uintptr_t)(3 * first);
        patches_of(want, b, image, bar_rgb, sizeof bar_rgb);
        image.left = parts[k].left;
        image.top = parts[k].top;
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
            image.data = NULL;
            image.format = list[i].format;
            image.stride = list[i].stride;
            for (int p = 0; p < 2; p++) {
                image.plane[p] = (const uint8_t *)(uintptr_t)list[i].plane[p];
                image.plane_stride[p] = list[i].plane_stride[p];
            }
            patches_of(got, b, image, list[i].data, list[i].bytes);
            check_near(got, want, i ? 3 / 255.0f : 0, (int)list[i].format);
        }
    }
    glm4v_backend_close(&b);
    CHECK(nothing_is_left());
}

static void transparent_pixels_are_laid_on_white(void)
{
    static float got[BAR_N * 3];
    glm4v_backend *b = NULL;
    draw_bars();
    REQUIRE(!glm4v_backend_cuda_open(&b, 0, NULL, NULL, &err));
    for (int blue_first = 0; blue_first < 2; blue_first++) {
        const glm4v_image image = { .width = BAR_SIDE,
                                    .height = BAR_SIDE,
                                    .stride = 4 * BAR_SIDE,
                                    .memory = GLM4V_IMAGE_CUDA,
                                    .format = blue_first ? GLM4V_PIXELS_BGRA : GLM4V_PIXELS_RGBA };
        patches_of(got, b, image, bar_rgba, sizeof bar_rgba);
        for (int c = 0; c < 3; c++) { /* channels of the first patch, whose pixels are alike */
            const int color = bar_rgba[blue_first ? 2 - c : c];
            const float want = (float)(color * 153 + 255 * 102) / 255 / 255;
            CHECK(fabsf(got[16 * c] - want) < 3 / 255.0f);
        }
    }
    glm4v_backend_close(&b);
    CHECK(nothing_is_left());
}

/* Copies of later ones run beside the queue, into the same memory. */
static void pictures_of_the_host_in_a_row_do_not_mix(void)
{
    static uint8_t pixels[PICTURES][3 * BAR_N];
    static float alone[PICTURES][BAR_N * 3], together[PICTURES][BAR_N * 3];
    glm4v_image images[PICTURES];
    glm4v_backend *b = NULL;
    REQUIRE(!glm4v_backend_cuda_open(&b, 0, NULL, NULL, &err));
    for (int i = 0; i < PICTURES; i++) {
        for (int k = 0; k < 3 * BAR_N; k++)
            pixels[i][k] = (uint8_t)(k * (i + 3) + 50 * i);
        images[i] = (glm4v_image) {
            .data = pixels[i], .width = BAR_SIDE, .height = BAR_SIDE, .stride = 3 * BAR_SIDE
        };
        patches_in_a_row(b, &alone[i], &images[i], 1);
    }
    patches_in_a_row(b, together, images, PICTURES);
    CHECK(!memcmp(alone, together, sizeof alone));
    CHECK(memcmp(alone[0], alone[1], sizeof alone[0]));
    glm4v_backend_close(&b);
    CHECK(nothing_is_left());
}

int main(void)
{
    TEST(every_status_has_a_class);
    TEST(every_status_of_cublaslt_has_a_class);
    TEST(faults_are_read_from_text);
    TEST(a_device_that_cannot_be_opened_says_why);
    TEST(a_table_of_products_is_written_and_read);
    TEST(a_file_has_a_table_for_each_kind_of_gpu);
    TEST(the_threads_context_is_what_it_was);
    TEST(every_allocation_may_fail);
    TEST(every_call_may_end_the_device);
    TEST(a_launch_without_room_leaves_the_device_usable);
    TEST(a_lost_device_is_told_until_it_is_opened_again);
    TEST(a_device_that_is_full_says_so);
    TEST(a_step_is_captured_the_second_time_and_replayed);
    TEST(a_capture_that_fails_is_discarded);
    TEST(a_graph_that_cannot_be_made_is_done_without);
    TEST(the_host_may_be_several_steps_ahead);
    TEST(nothing_is_taken_after_the_first_requests);
    TEST(what_is_planned_is_what_is_taken);
    TEST(two_stages_equal_one);
    TEST(the_log_says_how_activations_go_from_gpu_to_gpu);
    TEST(peer_access_that_fails_is_done_without);
    TEST(a_step_of_two_gpus_is_submitted_without_waiting);
    TEST(the_message_names_the_gpu_that_failed);
    TEST(keys_and_values_may_be_int8);
    TEST(only_images_that_can_be_read_are_taken);
    TEST(formats_become_the_same_patches);
    TEST(pictures_of_the_host_in_a_row_do_not_mix);
    TEST(transparent_pixels_are_laid_on_white);
    return test_end();
}
