/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seam of backend.h on a device that records work and runs it later (backend_record.h): the
 * same bytes as the CPU, whatever the host does with its memory meanwhile; decode beside vision;
 * sampling on the device; several devices; cancel between chunks; failures of operations. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend_record.h"
#include "base/mem.h"
#include "engine.h"
#include "fixture.h"
#include "forward/context_priv.h"
#include "forward/position.h"
#include "forward/sample.h"

#define MODEL SOURCE_ROOT "/tests/data/golden-tiny"

enum { SLOTS = 6, LENGTH = 200, ROWS = 120, VOCAB = 96, IMAGE_ID = 80, PATCH = 96, PROMPT = 40 };

static glm4v_error err;

/* A model and a context on the recording backend, or on the CPU. */
typedef struct {
    glm4v_model *model;
    glm4v_context *context;
} runner;

static int64_t in_flight = 1; /* batches of the contexts that are opened */

static runner open_on(glm4v_backend_open_fn open, const char *device, uint32_t span_rows)
{
    runner r = { 0 };
    const glm4v_model_options options = {
        .device = device, .quantization = "int8", .n_threads = 2, .weights_only = 1
    };
    const glm4v_context_size size = { .slots = SLOTS,
                                      .length = LENGTH,
                                      .kept = 20,
                                      .max_rows = ROWS,
                                      .span_rows = span_rows,
                                      .in_flight = in_flight };
    glm4v_backend_replace_cpu(open);
    if (glm4v_model_open(&r.model, MODEL, &options, &err) ||
        glm4v_context_open(&r.context, r.model, size, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    glm4v_backend_replace_cpu(NULL);
    return r;
}

static void runner_close(runner *r)
{
    glm4v_context_close(&r->context);
    glm4v_model_close(&r->model);
}

static uint64_t state = 11;

static uint32_t next_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
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
        r->ids[i] = i >= 5 && i < 11 ? IMAGE_ID : (int32_t)next_random(66);
    for (size_t i = 0; i < 24 * PATCH; i++)
        r->patches[i] = (float)next_random(2000) / 1000 - 1;
    r->prompt = (glm4v_prompt) { .ids = r->ids, .n_ids = PROMPT, .runs = &r->run, .n_runs = 1 };
    glm4v_positions(r->position, &r->next, &r->prompt, &model->config);
}

static glm4v_vision_pass vision_of(const request *r, glm4v_embeddings *out)
{
    return (glm4v_vision_pass) { .out = out, .patches = r->patches, .grid_h = 4, .grid_w = 6 };
}

/* Picture and prompt into the slot; logits [V] of the last row. */
static void prefill(glm4v_context *c, int32_t slot, const request *r, float *logits)
{
    glm4v_embeddings e = { 0 };
    const glm4v_vision_pass vision = vision_of(r, &e);
    const glm4v_prefill_pass pass = {
        .slot = slot, .prompt = &r->prompt, .position = r->position, .n = PROMPT, .vision = &e
    };
    CHECK_EQ(glm4v_vision_encode(c, &vision, NULL, &err), 0);
    CHECK_EQ(glm4v_prefill(c, &pass, logits, NULL, NULL, &err), 0);
    glm4v_embeddings_clear(c, &e);
}

/* Rows of a decode step: token number `step` of the first n slots. */
typedef struct {
    int32_t slots[SLOTS], length[SLOTS];
    int32_t ids[SLOTS], position[SLOTS];
} rows;

static glm4v_decode_rows make_rows(rows *a, const request *r, uint32_t n, uint32_t step)
{
    for (uint32_t i = 0; i < n; i++) {
        a->slots[i] = i;
        a->length[i] = PROMPT + step;
        a->ids[i] = (int32_t)((7 * step + 3 * i) % 60);
        a->position[i] = r->next + (int32_t)step;
    }
    return (glm4v_decode_rows) { a->slots, a->length, a->ids, a->position, n, NULL };
}

/* Wait for a pass by looking, as the scheduler does. */
static int finish(glm4v_context *c, glm4v_lane lane)
{
    int rc = 0;
    for (int polls = 0; !rc && polls < 10000; polls++)
        rc = glm4v_pass_poll(c, lane, &err);
    return rc;
}

static bool same(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

/* ---- steps ---- */

static void a_decode_step_is_recorded_once_a_batch_size_and_replayed(void)
{
    enum { STEPS = 5 };
    static request r;
    static float expected[VOCAB * SLOTS], got[VOCAB * SLOTS];
    for (int variant = 0; variant < 3; variant++) {
        record_wanted = (record_options) { .composites = variant == 1, .verify = variant == 2 };
        runner cpu = open_on(NULL, "cpu", 1), device = open_on(record_open, "cpu", 1);
        make_request(&r, cpu.model);
        for (int32_t slot = 0; slot < SLOTS; slot++) {
            prefill(cpu.context, slot, &r, expected);
            prefill(device.context, slot, &r, got);
            CHECK(same(expected, got, VOCAB));
        }
        record_count = (record_counts) { 0 };
        for (uint32_t step = 0; step < STEPS; step++)
            for (uint32_t n = 1; n <= SLOTS; n++) {
                rows a;
                const glm4v_decode_rows list = make_rows(&a, &r, n, step);
                CHECK_EQ(glm4v_decode(cpu.context, &list, expected, &err), 0);
                CHECK_EQ(glm4v_decode(device.context, &list, got, &err), 0);
                CHECK(same(expected, got, n * VOCAB));
            }
        CHECK_EQ(record_count.replayed, variant == 2 ? 0 : (STEPS - 1) * SLOTS);
        CHECK_EQ(record_count.violations, 0);
        runner_close(&device);
        runner_close(&cpu);
    }
}

/* A step that failed half-way is not a recording: the next one of its key is whole. */
static void a_step_that_fails_half_way_is_not_replayed(void)
{
    static request r;
    static float expected[VOCAB * SLOTS], got[VOCAB * SLOTS];
    record_wanted = (record_options) { .composites = true, .polls = 1 };
    runner device = open_on(record_open, "cpu", 1);
    make_request(&r, device.model);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        prefill(device.context, slot, &r, got);
    rows a;
    const glm4v_decode_rows list = make_rows(&a, &r, 4, 0);
    for (unsigned long at = 1; at <= 8; at++) {
        record_count.refuse_at = at;
        CHECK_EQ(glm4v_decode(device.context, &list, got, &err), GLM4V_ERR_NOMEM);
        record_count.refuse_at = 0;
    }
    record_count = (record_counts) { 0 };
    CHECK_EQ(glm4v_decode(device.context, &list, expected, &err), 0);
    CHECK_EQ(glm4v_decode(device.context, &list, got, &err), 0);
    CHECK(same(expected, got, 4 * VOCAB));
    CHECK_EQ(record_count.recorded, 1);
    CHECK_EQ(record_count.replayed, 1);
    CHECK_EQ(record_count.violations, 0);
    runner_close(&device);
    runner cpu = open_on(NULL, "cpu", 1);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        prefill(cpu.context, slot, &r, got);
    CHECK_EQ(glm4v_decode(cpu.context, &list, got, &err), 0);
    CHECK(same(expected, got, 4 * VOCAB));
    runner_close(&cpu);
}

/* Between submission and the first look, everything that was handed over is overwritten. */
static void step_arrays_may_change_once_they_are_handed_over(void)
{
    static request r;
    static float expected[VOCAB * SLOTS], unused[VOCAB];
    record_wanted = (record_options) { .composites = true, .polls = 3 };
    runner device = open_on(record_open, "cpu", 1);
    glm4v_context *c = device.context;
    make_request(&r, device.model);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        prefill(c, slot, &r, unused);
    for (int replay = 0; replay < 2; replay++) {
        rows a;
        glm4v_decode_rows list = make_rows(&a, &r, 3, 0);
        CHECK_EQ(glm4v_decode(c, &list, expected, &err), 0);
        CHECK_EQ(glm4v_decode_begin(c, &list, &err), 0);
        memset(&a, 0x5a, sizeof a);
        CHECK_EQ(glm4v_pass_submit(c, GLM4V_LANE_DECODE, &err), 0);
        const glm4v_lane_state *lane = &c->lane[GLM4V_LANE_DECODE];
        memset(lane->ids, 0x5a, 3 * sizeof *lane->ids);
        memset(lane->position, 0x5a, 3 * sizeof *lane->position);
        memset(lane->spans, 0x5a, 3 * sizeof *lane->spans);
        memset(lane->outputs, 0x5a, 3 * sizeof *lane->outputs);
        CHECK(isnan(glm4v_pass_logits(c, GLM4V_LANE_DECODE)[0])); /* not run yet */
        CHECK_EQ(glm4v_pass_poll(c, GLM4V_LANE_DECODE, &err), 0);
        CHECK_EQ(finish(c, GLM4V_LANE_DECODE), 1);
        CHECK(same(expected, glm4v_pass_logits(c, GLM4V_LANE_DECODE), 3 * VOCAB));
    }
    CHECK(record_count.replayed > 0);
    runner_close(&device);
}

static void device_memory_is_out_of_reach_of_the_host(void)
{
    record_wanted = (record_options) { 0 };
    runner device = open_on(record_open, "cpu", 1);
    const volatile float *const addresses[] = { device.context->stages[0].rotary.cos,
                                                device.context->stages[0].kv.keys,
                                                device.model->lm_head.data };
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        int status = 0;
        fflush(stdout);
        pid_t child = fork();
        if (!child) {
            signal(SIGSEGV, SIG_DFL);
            _exit(*addresses[i] == 7 ? 1 : 0);
        }
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
        /* a sanitizer turns the signal into its own exit */
        CHECK(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) > 1));
    }
    runner_close(&device);
}

/* What has to stay until an event is reached, and does not, is noticed. */
static void memory_that_changes_too_early_is_noticed(void)
{
    static request r;
    record_wanted = (record_options) { .polls = 1 };
    runner device = open_on(record_open, "cpu", 1);
    glm4v_embeddings e = { 0 };
    make_request(&r, device.model);
    const glm4v_vision_pass vision = vision_of(&r, &e);
    record_count = (record_counts) { 0 };
    CHECK_EQ(glm4v_vision_begin(device.context, &vision, &err), 0);
    CHECK_EQ(glm4v_pass_submit(device.context, GLM4V_LANE_PREFILL, &err), 1);
    r.patches[17] += 1;
    CHECK_EQ(finish(device.context, GLM4V_LANE_PREFILL), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "changed before it ran");
    CHECK_EQ(record_count.violations, 1);
    glm4v_embeddings_clear(device.context, &e);
    runner_close(&device);
    record_count.violations = 0;
}

/* Several rows of a sequence in one step: a draft that is checked. */
static void rows_of_one_sequence_equal_steps_of_one_row(void)
{
    enum { DRAFT = 4 };
    static request r;
    static float one[VOCAB * DRAFT], together[VOCAB * (DRAFT + 2)], other[VOCAB];
    for (int on_device = 0; on_device < 2; on_device++) {
        record_wanted = (record_options) { .composites = true, .polls = 1 };
        runner run = open_on(on_device ? record_open : NULL, "cpu", 4);
        make_request(&r, run.model);
        for (int32_t slot = 0; slot < 4; slot++)
            prefill(run.context, slot, &r, other);
        for (uint32_t i = 0; i < DRAFT; i++) {
            const int32_t slot = 0, length = PROMPT + i;
            const int32_t id = (int32_t)(i * 5 + 1), position = r.next + (int32_t)i;
            const glm4v_decode_rows list = { &slot, &length, &id, &position, 1, NULL };
            CHECK_EQ(glm4v_decode(run.context, &list, one + i * VOCAB, &err), 0);
        }
        /* another sequence before and behind */
        const int32_t slots[] = { 2, 1, 1, 1, 1, 3 };
        const int32_t length[] = { PROMPT, PROMPT, PROMPT + 1, PROMPT + 2, PROMPT + 3, PROMPT };
        const int32_t ids[] = { 9, 1, 6, 11, 16, 9 };
        const int32_t position[] = { r.next, r.next, r.next + 1, r.next + 2, r.next + 3, r.next };
        glm4v_decode_rows list = { slots, length, ids, position, 6, NULL };
        CHECK_EQ(glm4v_decode(run.context, &list, together, &err), 0);
        CHECK(same(together + VOCAB, one, DRAFT * VOCAB));
        CHECK(same(together, together + 5 * VOCAB, VOCAB));
        /* rows that do not follow each other, and too many */
        const int32_t gap[] = { PROMPT, PROMPT, PROMPT + 2, PROMPT + 3, PROMPT + 4, PROMPT };
        list.length = gap;
        CHECK_EQ(glm4v_decode(run.context, &list, together, &err), GLM4V_ERR_INVALID);
        const int32_t five[] = { 1, 1, 1, 1, 1 };
        const int32_t longer[] = { PROMPT, PROMPT + 1, PROMPT + 2, PROMPT + 3, PROMPT + 4 };
        list = (glm4v_decode_rows) { five, longer, ids, position, 5, NULL };
        CHECK_EQ(glm4v_decode(run.context, &list, together, &err), GLM4V_ERR_INVALID);
        runner_close(&run);
    }
}

/* ---- sampling ---- */

static void tokens_that_the_device_chooses_are_the_hosts(void)
{
    enum { STEPS = 20, VARIANTS = 3 };
    static request r;
    static float logits[VOCAB];
    static const glm4v_task tasks[VARIANTS] = {
        { .temperature = 0 },
        { .temperature = 1.2f, .top_k = 30, .seed = 5 },
        { .temperature = 0.9f, .top_p = 0.9f, .repetition_penalty = 1.3f, .seed = 8 },
    };
    static const int32_t masked[] = { 3, 64, 95 };
    uint64_t mask[VOCAB / 64 + 1] = { 0 };
    for (size_t i = 0; i < 3; i++)
        mask[masked[i] / 64] |= (uint64_t)1 << (masked[i] % 64);
    record_wanted = (record_options) { .samples = true, .composites = true, .polls = 2 };
    runner cpu = open_on(NULL, "cpu", 1), device = open_on(record_open, "cpu", 1);
    make_request(&r, cpu.model);
    CHECK(!glm4v_context_samples(cpu.context));
    REQUIRE(glm4v_context_samples(device.context));
    CHECK_EQ(glm4v_context_set_masks(device.context, 0, mask, 1, &err), 0);
    CHECK_EQ(glm4v_context_set_masks(cpu.context, 0, mask, 1, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_context_set_masks(device.context, GLM4V_FIXED_MASKS + SLOTS, mask, 1, &err),
             GLM4V_ERR_INVALID);
    for (int32_t slot = 0; slot < VARIANTS; slot++) {
        int32_t host[STEPS], id = 4;
        glm4v_candidate scratch[VOCAB];
        glm4v_sampler sampler, mirror;
        REQUIRE(!glm4v_sampler_init(&sampler, &tasks[slot], VOCAB, &err));
        REQUIRE(!glm4v_sampler_init(&mirror, &tasks[slot], VOCAB, &err));
        prefill(cpu.context, slot, &r, logits);
        prefill(device.context, slot, &r, logits);
        if (mirror.seen)
            CHECK_EQ(glm4v_context_set_seen(device.context, slot, mirror.seen, &err), 0);
        for (int step = 0; step < STEPS; step++) {
            const int32_t length = PROMPT + (uint32_t)step;
            const int32_t position = r.next + step;
            glm4v_decode_rows list = { &slot, &length, &id, &position, 1, NULL };
            glm4v_sampler_see(&sampler, id);
            CHECK_EQ(glm4v_decode(cpu.context, &list, logits, &err), 0);
            host[step] = id = glm4v_sampler_next(&sampler, logits, mask, scratch);
        }
        /* the device feeds itself: the host reads the ids, but never says them */
        id = 4;
        for (int step = 0; step < STEPS; step++) {
            const int32_t length = PROMPT + (uint32_t)step;
            const int32_t position = r.next + step;
            const glm4v_draw draw = glm4v_sampler_draw(&mirror, 0);
            const glm4v_decode_rows list = { &slot, &length, &id, &position, 1, &draw };
            CHECK_EQ(glm4v_decode(device.context, &list, NULL, &err), 0);
            CHECK_EQ(glm4v_pass_ids(device.context, GLM4V_LANE_DECODE)[0], host[step]);
            glm4v_sampler_took(&mirror);
            id = GLM4V_ID_SAMPLED;
        }
        glm4v_sampler_clear(&sampler);
        glm4v_sampler_clear(&mirror);
    }
    const int32_t slot = 0, length = PROMPT;
    const int32_t sampled = GLM4V_ID_SAMPLED, position = r.next;
    const glm4v_decode_rows list = { &slot, &length, &sampled, &position, 1, NULL };
    CHECK_EQ(glm4v_decode(cpu.context, &list, logits, &err), GLM4V_ERR_INVALID);
    runner_close(&device);
    runner_close(&cpu);
}

/* ---- two queues ---- */

static void decode_steps_run_beside_a_picture(void)
{
    static request r, later;
    static float expected[2 * VOCAB], got[2 * VOCAB], alone[VOCAB];
    record_wanted = (record_options) { .composites = true, .polls = 2 };
    runner device = open_on(record_open, "cpu", 1);
    glm4v_context *c = device.context;
    glm4v_embeddings e = { 0 };
    int steps = 0, chunks = 0;
    make_request(&r, device.model);
    make_request(&later, device.model);
    prefill(c, 3, &later, alone);
    for (int32_t slot = 0; slot < 2; slot++)
        prefill(c, slot, &r, expected);
    const glm4v_vision_pass vision = vision_of(&later, &e);
    CHECK_EQ(glm4v_vision_begin(c, &vision, &err), 0);
    for (int more = 1; more; chunks++) {
        rows a;
        const glm4v_decode_rows list = make_rows(&a, &r, 2, (uint32_t)steps++);
        CHECK(glm4v_pass_room(c, GLM4V_LANE_PREFILL));
        more = glm4v_pass_submit(c, GLM4V_LANE_PREFILL, &err);
        REQUIRE(more >= 0);
        CHECK_EQ(glm4v_decode(c, &list, got, &err), 0); /* done before the chunk is looked at */
        CHECK_EQ(glm4v_pass_poll(c, GLM4V_LANE_PREFILL, &err), 0);
        glm4v_pass_wait(c, GLM4V_LANE_PREFILL);
        CHECK(glm4v_pass_poll(c, GLM4V_LANE_PREFILL, &err) >= 0);
    }
    CHECK(chunks > 1);
    CHECK_EQ(finish(c, GLM4V_LANE_PREFILL), 1);
    /* the same as one after the other */
    const glm4v_prefill_pass pass = {
        .slot = 4, .prompt = &later.prompt, .position = later.position, .n = PROMPT, .vision = &e
    };
    CHECK_EQ(glm4v_prefill(c, &pass, expected, NULL, NULL, &err), 0);
    CHECK(same(expected, alone, VOCAB));
    for (uint32_t step = 0; step < (uint32_t)steps; step++) {
        rows a;
        glm4v_decode_rows list = make_rows(&a, &r, 2, step);
        if (!step) /* into slots of their own */
            prefill(c, 5, &r, alone);
        a.slots[0] = 5;
        list.n = 1;
        CHECK_EQ(glm4v_decode(c, &list, expected, &err), 0);
    }
    CHECK(same(expected, got, VOCAB));
    CHECK_EQ(record_count.violations, 0);
    glm4v_embeddings_clear(c, &e);
    runner_close(&device);
}

static void a_pass_that_is_dropped_leaves_the_device_as_it_was(void)
{
    static request r;
    static float before[VOCAB], after[VOCAB];
    record_wanted = (record_options) { .composites = true, .polls = 2 };
    runner device = open_on(record_open, "cpu", 1);
    glm4v_context *c = device.context;
    glm4v_embeddings e = { 0 };
    make_request(&r, device.model);
    prefill(c, 0, &r, before);
    const glm4v_vision_pass vision = vision_of(&r, &e);
    CHECK_EQ(glm4v_vision_begin(c, &vision, &err), 0);
    CHECK_EQ(glm4v_vision_begin(c, &vision, &err), GLM4V_ERR_INTERNAL); /* one at a time */
    CHECK_EQ(glm4v_pass_submit(c, GLM4V_LANE_PREFILL, &err), 1);
    CHECK_EQ(glm4v_pass_canceled(c, GLM4V_LANE_PREFILL, &err), GLM4V_ERR_CANCELED);
    CHECK_CONTAINS(err.msg, "vision layer");
    glm4v_pass_drop(c, GLM4V_LANE_PREFILL);
    memset(r.patches, 0, sizeof r.patches); /* nobody reads them any more */
    glm4v_embeddings_clear(c, &e);
    CHECK_EQ(record_count.violations, 0);
    state = 11;
    make_request(&r, device.model);
    prefill(c, 1, &r, before);
    prefill(c, 2, &r, after);
    CHECK(same(before, after, VOCAB));
    runner_close(&device);
}

/* ---- several devices ---- */

static int open_in_turns(glm4v_backend **b, glm4v_pool *pool, const glm4v_log *log, glm4v_error *e)
{
    static int n;
    return n++ % 2 ? glm4v_backend_cpu_open(b, pool, log, e) : record_open(b, pool, log, e);
}

static void rows_hop_from_device_to_device(void)
{
    static request r;
    static float expected[VOCAB * SLOTS], got[VOCAB * SLOTS];
    static const struct {
        glm4v_backend_open_fn open;
        const char *device;
    } cases[] = { { record_open, "cpu,cpu" }, { open_in_turns, "cpu,cpu" } };
    for (size_t i = 0; i < 2; i++) {
        record_wanted = (record_options) { .composites = true, .polls = 1 };
        runner cpu = open_on(NULL, "cpu", 1), two = open_on(cases[i].open, cases[i].device, 1);
        CHECK_EQ(two.model->n_stages, 2);
        CHECK(!glm4v_context_samples(two.context));
        make_request(&r, cpu.model);
        for (int32_t slot = 0; slot < 3; slot++) {
            prefill(cpu.context, slot, &r, expected);
            prefill(two.context, slot, &r, got);
            CHECK(same(expected, got, VOCAB));
        }
        for (uint32_t step = 0; step < 4; step++) {
            rows a;
            const glm4v_decode_rows list = make_rows(&a, &r, 3, step);
            CHECK_EQ(glm4v_decode(cpu.context, &list, expected, &err), 0);
            CHECK_EQ(glm4v_decode(two.context, &list, got, &err), 0);
            CHECK(same(expected, got, 3 * VOCAB));
        }
        runner_close(&two);
        runner_close(&cpu);
    }
    CHECK_EQ(record_count.violations, 0);
}

/* Two batches of different sequences: both are handed over before either has run, and each has the
 * bytes that it has alone. */
static void two_batches_are_in_flight_at_once(void)
{
    enum { STEPS = 4, HALF = 3 };
    static request r;
    static float expected[VOCAB * SLOTS], got[VOCAB * HALF];
    record_wanted = (record_options) { .composites = true, .polls = 2 };
    runner cpu = open_on(NULL, "cpu", 1);
    in_flight = 2;
    runner two = open_on(record_open, "cpu,cpu", 1);
    in_flight = 1;
    glm4v_context *c = two.context;
    make_request(&r, cpu.model);
    for (int32_t slot = 0; slot < SLOTS; slot++) {
        prefill(cpu.context, slot, &r, expected);
        prefill(c, slot, &r, got);
    }
    record_count = (record_counts) { 0 };
    for (uint32_t step = 0; step < STEPS; step++) {
        rows a;
        glm4v_decode_rows list = make_rows(&a, &r, SLOTS, step);
        CHECK_EQ(glm4v_decode(cpu.context, &list, expected, &err), 0);
        for (int32_t batch = 0; batch < 2; batch++) {
            const glm4v_decode_rows half = { .slots = a.slots + HALF * batch,
                                             .length = a.length + HALF * batch,
                                             .ids = a.ids + HALF * batch,
                                             .position = a.position + HALF * batch,
                                             .n = HALF,
                                             .batch = batch };
            CHECK_EQ(glm4v_decode_begin(c, &half, &err), 0);
            CHECK_EQ(glm4v_decode_begin(c, &half, &err), GLM4V_ERR_INTERNAL);
            CHECK_EQ(glm4v_pass_submit(c, GLM4V_LANE_DECODE + batch, &err), 0);
        }
        memset(&a, 0x5a, sizeof a);
        for (int32_t i = 1; i >= 0; i--) /* the later one first */
            CHECK(isnan(glm4v_pass_logits(c, GLM4V_LANE_DECODE + i)[0]));
        for (int32_t i = 0; i < 2; i++) {
            const glm4v_lane lane = GLM4V_LANE_DECODE + (step % 2 ? i : 1 - i);
            const float *half = expected + (size_t)HALF * VOCAB * (lane - GLM4V_LANE_DECODE);
            CHECK_EQ(glm4v_pass_poll(c, lane, &err), 0);
            CHECK_EQ(finish(c, lane), 1);
            CHECK(same(half, glm4v_pass_logits(c, lane), (size_t)HALF * VOCAB));
        }
    }
    CHECK_EQ(record_count.recorded, 4); /* a batch on a stage */
    CHECK_EQ(record_count.replayed, 4 * (STEPS - 1));
    CHECK_EQ(record_count.violations, 0);
    rows a;
    glm4v_decode_rows list = make_rows(&a, &r, 1, STEPS);
    list.batch = 2;
    CHECK_EQ(glm4v_decode_begin(c, &list, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "batch 2 in flight");
    list = make_rows(&a, &r, HALF + 1, STEPS); /* more than its share */
    CHECK_EQ(glm4v_decode_begin(c, &list, &err), 0);
    glm4v_pass_drop(c, GLM4V_LANE_DECODE);
    runner_close(&two);
    runner_close(&cpu);
}

/* Tokens are chosen by the last device, which does not embed them. */
static void the_last_of_several_devices_chooses(void)
{
    static request r;
    static float logits[VOCAB];
    record_wanted = (record_options) { .samples = true, .composites = true, .polls = 1 };
    runner one = open_on(record_open, "cpu", 1), two = open_on(record_open, "cpu,cpu", 1);
    CHECK(glm4v_context_samples(two.context) && !glm4v_context_feeds_itself(two.context));
    CHECK(glm4v_context_feeds_itself(one.context));
    make_request(&r, one.model);
    prefill(one.context, 0, &r, logits);
    prefill(two.context, 0, &r, logits);
    const glm4v_draw draw = {
        .temperature = 1, .top_p = 1, .penalty = 1, .generator = 5, .mask = -1
    };
    int32_t ids[2] = { 4, 4 };
    for (int32_t step = 0; step < 6; step++) {
        const int32_t slot = 0, length = PROMPT + step, position = r.next + step;
        for (int i = 0; i < 2; i++) {
            glm4v_context *c = i ? two.context : one.context;
            const glm4v_decode_rows list = { &slot, &length, &ids[i], &position, 1, &draw };
            CHECK_EQ(glm4v_decode(c, &list, NULL, &err), 0);
            ids[i] = glm4v_pass_ids(c, GLM4V_LANE_DECODE)[0];
        }
        CHECK_EQ(ids[0], ids[1]);
    }
    const int32_t slot = 0, length = PROMPT + 6, id = GLM4V_ID_SAMPLED, position = r.next + 6;
    const glm4v_decode_rows list = { &slot, &length, &id, &position, 1, &draw };
    CHECK_EQ(glm4v_decode(two.context, &list, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(record_count.violations, 0);
    runner_close(&two);
    runner_close(&one);
}

/* ---- weights ---- */

/* Fills read the loader's buffers later than they are called; random weights are the device's. */
static void weights_are_filled_late_and_random_ones_made_on_the_device(void)
{
    static const char *const forms[] = { "fp32", "bf16", "int8", "int4" };
    record_wanted = (record_options) { 0 };
    glm4v_backend_replace_cpu(record_open);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (int random = 0; random < 2; random++) {
            const glm4v_model_options options = { .quantization = forms[i],
                                                  .n_threads = 3,
                                                  .random_weights = random,
                                                  .weights_only = 1 };
            glm4v_model *model = NULL;
            record_count = (record_counts) { 0 };
            if (glm4v_model_open(&model, MODEL, &options, &err))
                test_fail(__FILE__, __LINE__, "%s", err.msg);
            CHECK(record_count.late_fills > 0);
            CHECK((record_count.random > 0) == random);
            CHECK_EQ(record_count.violations, 0);
            glm4v_model_close(&model);
        }
    glm4v_backend_replace_cpu(NULL);
}

/* ---- the engine ---- */

static glm4v_engine *open_engine(const glm4v_engine_options *options)
{
    glm4v_backend_replace_cpu(record_open);
    const bool opened = fixture_open(NULL);
    glm4v_backend_replace_cpu(NULL);
    return opened ? fixture_engine(options) : NULL;
}

static void close_engine(glm4v_engine **engine)
{
    glm4v_engine_close(engine);
    fixture_close();
}

/* Memory that runs out in an operation ends its request and nothing else; a device that fails ends
 * all. */
static void an_operation_out_of_memory_fails_one_request(void)
{
    record_wanted = (record_options) { .composites = true, .samples = true, .polls = 1 };
    glm4v_engine *engine = open_engine(&(glm4v_engine_options) { .context_length = 400 });
    glm4v_image image = picture(0, 100, 80);
    const glm4v_task task = { .prompt = "What?",
                              .images = &image,
                              .n_images = 1,
                              .max_tokens = 8,
                              .temperature = 1,
                              .speculation = GLM4V_SPECULATION_OFF };
    record whole, r;
    REQUIRE(engine);
    record_count = (record_counts) { 0 };
    run_task(engine, task, &whole);
    CHECK_EQ(whole.status, 0);
    const unsigned long operations = record_count.operations;
    for (unsigned long at = 1; at <= operations; at += 7) {
        record_count.fail_at = at;
        record_count.failure = GLM4V_ERR_NOMEM;
        run_task(engine, task, &r);
        CHECK_EQ(r.status, GLM4V_ERR_NOMEM);
        CHECK_CONTAINS(r.message, "injected");
        record_count.fail_at = 0;
        run_task(engine, task, &r);
        CHECK_EQ(r.status, 0);
        CHECK_STR(r.answer, whole.answer);
    }
    record_count.fail_at = operations / 2;
    record_count.failure = GLM4V_ERR_DEVICE;
    run_task(engine, task, &r);
    CHECK_EQ(r.status, GLM4V_ERR_DEVICE);
    record_count.fail_at = 0;
    CHECK_EQ(glm4v_describe(engine, &task, NULL, &err), GLM4V_ERR_DEVICE);
    close_engine(&engine);
}

/* Everything is taken at open: not one allocation of device memory in requests. */
static void a_request_allocates_nothing_on_a_device_that_takes_all_at_open(void)
{
    record_wanted =
        (record_options) { .composites = true, .samples = true, .all_at_open = true, .polls = 1 };
    glm4v_engine *engine = open_engine(
        &(glm4v_engine_options) { .context_length = 600, .max_batch = 3, .max_pixels = 60000 });
    glm4v_request *requests[6] = { 0 };
    static record records[6];
    glm4v_image images[6];
    REQUIRE(engine);
    const unsigned long allocations = record_count.allocations;
    for (uint32_t i = 0; i < 6; i++) {
        images[i] = picture(i, 60 + 90 * (int32_t)i, 400 - 50 * (int32_t)i);
        const glm4v_task task = { .prompt = "What?",
                                  .images = &images[i],
                                  .n_images = 1,
                                  .max_tokens = 6,
                                  .on_done = record_done,
                                  .user = memset(&records[i], 0, sizeof *records) };
        CHECK_EQ(glm4v_engine_submit(engine, &task, &requests[i], &err), 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        CHECK_EQ(glm4v_request_wait(requests[i], 60000000000u), 0);
        CHECK_EQ(records[i].status, 0);
        glm4v_request_unref(&requests[i]);
    }
    CHECK_EQ(record_count.allocations, allocations);
    close_engine(&engine);
}

/* An image in memory of the device gives the answer that it gives from the host's. */
static void a_picture_may_lie_in_device_memory(void)
{
    record_wanted = (record_options) { .composites = true, .samples = true, .polls = 1 };
    glm4v_engine *engine = open_engine(NULL);
    glm4v_image image = picture(3, 120, 90);
    glm4v_task task = {
        .prompt = "What?", .images = &image, .n_images = 1, .max_tokens = 12, .temperature = 1
    };
    record host, device;
    void *pixels = NULL;
    REQUIRE(engine);
    run_task(engine, task, &host);
    CHECK_EQ(host.status, 0);
    glm4v_backend *b = fixture_model->stages[0].backend;
    const size_t bytes = (size_t)image.stride * 90;
    REQUIRE(!b->ops->alloc(b, &pixels, bytes, &err) &&
            !b->ops->write(b, pixels, image.data, bytes));
    image.data = pixels;
    image.memory = GLM4V_IMAGE_CUDA;
    record_count.preprocessed = 0;
    run_task(engine, task, &device);
    CHECK_EQ(device.status, 0);
    CHECK_EQ(record_count.preprocessed, 1);
    CHECK_STR(device.answer, host.answer);
    image.format = GLM4V_PIXELS_NV12; /* which this one does not take */
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), GLM4V_ERR_UNSUPPORTED);
    b->ops->free(b, pixels);
    close_engine(&engine);
}

/* Tokens of a running answer between the submission of an image and its first token. */
typedef struct {
    record record;
    atomic_int tokens, *others;
    int seen; /* of others, at the first token */
} counted;

static void count_token(void *user, glm4v_text_part part, const char *text)
{
    counted *c = user;
    if (atomic_fetch_add(&c->tokens, 1) == 0 && c->others)
        c->seen = atomic_load(c->others);
}

static void counted_done(void *user, const glm4v_result *result)
{
    record_done(&((counted *)user)->record, result);
}

static void a_long_picture_does_not_hold_up_running_answers(void)
{
    static counted running, late;
    record_wanted =
        (record_options) { .composites = true, .samples = true, .polls = 6, .quick = true };
    glm4v_engine *engine = open_engine(&(glm4v_engine_options) { .context_length = 4000 });
    glm4v_image image = picture(0, 560, 560);
    glm4v_request *first = NULL, *second = NULL;
    bool beside = false;
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 8 && !beside; seed++) { /* an answer may end at once */
        running = (counted) { 0 };
        late = (counted) { .others = &running.tokens };
        glm4v_task task = { .prompt = "Go on.",
                            .max_tokens = 2000,
                            .temperature = 2,
                            .seed = seed,
                            .on_text = count_token,
                            .on_done = counted_done,
                            .user = &running };
        CHECK_EQ(glm4v_engine_submit(engine, &task, &first, &err), 0);
        while (!atomic_load(&running.tokens) && !atomic_load(&running.record.n_done))
            usleep(100);
        const int before = atomic_load(&running.tokens);
        task = (glm4v_task) { .prompt = "Look.",
                              .images = &image,
                              .n_images = 1,
                              .max_tokens = 4,
                              .temperature = 1,
                              .on_text = count_token,
                              .on_done = counted_done,
                              .user = &late };
        CHECK_EQ(glm4v_engine_submit(engine, &task, &second, &err), 0);
        CHECK_EQ(glm4v_request_wait(second, 60000000000u), 0);
        /* prompt, image and prefill are a handful of pieces; chunks are many more */
        beside = late.seen - before > 12;
        printf("# %d tokens beside an image\n", late.seen - before);
        glm4v_request_cancel(first);
        CHECK_EQ(glm4v_request_wait(first, 60000000000u), 0);
        glm4v_request_unref(&first);
        glm4v_request_unref(&second);
    }
    CHECK(beside);
    CHECK_EQ(record_count.violations, 0);
    close_engine(&engine);
}

/* Of an engine for so many requests on two devices that nobody asked for a number of batches. */
static void a_second_batch_is_for_more_than_sixteen_requests(void)
{
    static const struct {
        uint32_t max_batch, in_flight, rows;
    } list[] = { { 1, 1, 8 }, { 16, 1, 16 }, { 17, 2, 16 }, { 40, 2, 20 } };
    record_wanted = (record_options) { .samples = true };
    fixture_device = "cpu,cpu";
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        glm4v_engine *engine = open_engine(
            &(glm4v_engine_options) { .context_length = 64, .max_batch = list[i].max_batch });
        REQUIRE(engine);
        CHECK_EQ(engine->limits.context.in_flight, list[i].in_flight);
        CHECK_EQ(engine->limits.context.decode_rows, list[i].rows);
        close_engine(&engine);
    }
    fixture_device = NULL;
}

/* Two stages of recording devices: requests go in two batches, with the answers of one. */
static void batches_in_flight_give_the_answers_of_one(void)
{
    enum { N = 7 };
    static record records[2][N];
    glm4v_image images[N];
    record_wanted = (record_options) { .composites = true, .samples = true, .polls = 2 };
    glm4v_engine_stats stats = { 0 };
    for (uint32_t batches = 1; batches <= 2; batches++) {
        fixture_device = "cpu,cpu";
        glm4v_engine *engine = open_engine(&(glm4v_engine_options) {
            .context_length = 400, .max_batch = N, .batches_in_flight = batches });
        fixture_device = NULL;
        glm4v_request *requests[N] = { 0 };
        REQUIRE(engine);
        CHECK_EQ(engine->limits.context.in_flight, batches);
        record_count.violations = 0;
        for (uint32_t i = 0; i < N; i++) {
            images[i] = picture(i, 60 + 30 * (int32_t)i, 90);
            const glm4v_task task = { .prompt = i % 2 ? "What?" : "Go on.",
                                      .images = &images[i],
                                      .n_images = i % 2,
                                      .max_tokens = 20 + 5 * i,
                                      .temperature = 1.5f,
                                      .repetition_penalty = i % 3 ? 1.0f : 1.3f,
                                      .seed = i,
                                      .on_done = record_done,
                                      .user = memset(&records[batches - 1][i], 0, sizeof(record)) };
            CHECK_EQ(glm4v_engine_submit(engine, &task, &requests[i], &err), 0);
        }
        for (uint32_t i = 0; i < N; i++) {
            CHECK_EQ(glm4v_request_wait(requests[i], 60000000000u), 0);
            CHECK_EQ(records[batches - 1][i].status, 0);
            glm4v_request_unref(&requests[i]);
        }
        CHECK_EQ(glm4v_engine_get_stats(engine, &stats, &err), 0);
        printf("# %d in flight: %llu rows in %llu steps\n", (int)batches,
               (unsigned long long)stats.decode_rows, (unsigned long long)stats.decode_steps);
        CHECK_EQ(record_count.violations, 0);
        close_engine(&engine);
    }
    for (uint32_t i = 0; i < N; i++)
        CHECK_STR(records[0][i].answer, records[1][i].answer);
}

int main(void)
{
    TEST(a_decode_step_is_recorded_once_a_batch_size_and_replayed);
    TEST(a_step_that_fails_half_way_is_not_replayed);
    TEST(step_arrays_may_change_once_they_are_handed_over);
    TEST(device_memory_is_out_of_reach_of_the_host);
    TEST(memory_that_changes_too_early_is_noticed);
    TEST(rows_of_one_sequence_equal_steps_of_one_row);
    TEST(tokens_that_the_device_chooses_are_the_hosts);
    TEST(decode_steps_run_beside_a_picture);
    TEST(a_pass_that_is_dropped_leaves_the_device_as_it_was);
    TEST(rows_hop_from_device_to_device);
    TEST(two_batches_are_in_flight_at_once);
    TEST(the_last_of_several_devices_chooses);
    TEST(weights_are_filled_late_and_random_ones_made_on_the_device);
    TEST(an_operation_out_of_memory_fails_one_request);
    TEST(a_request_allocates_nothing_on_a_device_that_takes_all_at_open);
    TEST(a_picture_may_lie_in_device_memory);
    TEST(a_long_picture_does_not_hold_up_running_answers);
    TEST(a_second_batch_is_for_more_than_sixteen_requests);
    TEST(batches_in_flight_give_the_answers_of_one);
    return test_end();
}
