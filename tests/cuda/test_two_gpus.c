/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two GPUs of one machine: the real configurations with random weights, split by the planner and by
 * hand, give the bytes of one GPU; memory is what was told; an engine on each GPU of one process;
 * one of two GPUs fails in mid-stream. Exits 77 with less than two GPUs. The names of tests on the
 * command line are the ones that are run; none: all. */
#include <stdatomic.h>
#include <unistd.h>

#include "base/mem.h"
#include "fixture.h"
#include "forward/context_priv.h"
#include "forward/position.h"
#include "model/model.h"

#define DATA SOURCE_ROOT "/tests/data/"

enum { SLOTS = 4, TOKENS = 32, LENGTH = 2048, TEXT = 40, PIECE = 512 };

static glm4v_error err;
static char lines[4000]; /* of the log */

static void keep_line(void *user, glm4v_log_level level, const char *line)
{
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s\n", line);
}

static uint64_t state;

static uint32_t next_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* ---- one model on one, or split over two ---- */

static const struct {
    const char *what, *device, *layers;
} places[] = { { "one GPU", "cuda:0", NULL },
               { "two GPUs, automatic", "cuda:0,cuda:1", NULL },
               { "two GPUs, 27 and 13 layers", NULL, "cuda:0=0-26,cuda:1=27-39" } };

enum { PLACES = sizeof places / sizeof *places };

/* A picture between words; each slot has its own. */
typedef struct {
    glm4v_prompt prompt;
    glm4v_image_run run;
    int32_t *ids, *position, next;
    float *patches;
    int64_t n_patches;
} request;

static void request_clear(request *r)
{
    free(r->ids);
    free(r->position);
    free(r->patches);
}

/* False: no memory. */
static bool request_make(request *r, const glm4v_model *m, uint64_t seed)
{
    const glm4v_config *c = &m->config;
    const int64_t side = c->image.side ? c->image.side / c->vision.patch : 48;
    const glm4v_image_run run = { .start = 5, .grid_h = side, .grid_w = side };
    const int64_t rows = glm4v_picture_rows(&c->vision, side, side);
    state = seed;
    *r = (request) { .run = run, .n_patches = side * side };
    r->run.n = rows;
    const int64_t n = rows + TEXT;
    r->ids = calloc((size_t)n, sizeof *r->ids);
    r->position = calloc(3 * (size_t)n, sizeof *r->position);
    r->patches = calloc((size_t)(r->n_patches * m->vision.patch.n_in), sizeof *r->patches);
    if (!r->ids || !r->position || !r->patches)
        return false;
    for (int64_t i = 0; i < n; i++)
        r->ids[i] = i >= 5 && i < 5 + rows ? c->image_id : (int32_t)next_random(100000);
    for (int64_t i = 0; i < r->n_patches * m->vision.patch.n_in; i++)
        r->patches[i] = (float)next_random(2000) / 1000 - 1;
    r->prompt = (glm4v_prompt) { .ids = r->ids, .n_ids = n, .runs = &r->run, .n_runs = 1 };
    glm4v_positions(r->position, &r->next, &r->prompt, c);
    return true;
}

/* Picture and prompt, piece by piece; logits of the last row. */
static int prefill(glm4v_context *c, int32_t slot, const request *r, float *logits)
{
    glm4v_embeddings e = { 0 };
    const glm4v_vision_pass vision = {
        .out = &e, .patches = r->patches, .grid_h = r->run.grid_h, .grid_w = r->run.grid_w
    };
    int rc = glm4v_vision_encode(c, &vision, NULL, &err);
    for (int64_t at = 0; !rc && at < r->prompt.n_ids; at += PIECE) {
        const int64_t left = r->prompt.n_ids - at;
        const glm4v_prefill_pass pass = { .slot = slot,
                                          .prompt = &r->prompt,
                                          .position = r->position,
                                          .start = at,
                                          .n = left < PIECE ? left : PIECE,
                                          .vision = &e };
        rc = glm4v_prefill(c, &pass, left <= PIECE ? logits : NULL, NULL, NULL, &err);
    }
    glm4v_embeddings_clear(c, &e);
    return rc;
}

static int32_t largest(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

/* What is compared: ids of all slots, and the last logits. */
typedef struct {
    int32_t ids[SLOTS][TOKENS];
    float *logits; /* [SLOTS, vocab] */
    int64_t vocab;
} outcome;

/* Slots [first, first + n) are a batch in flight. */
static int begin(glm4v_context *c, const request *r, const outcome *o, int32_t step, int32_t batch)
{
    const int32_t n = SLOTS / 2, first = n * batch;
    int32_t slots[SLOTS], length[SLOTS], ids[SLOTS], position[SLOTS];
    for (int32_t i = 0; i < n; i++) {
        slots[i] = first + i;
        length[i] = (int32_t)r[first + i].prompt.n_ids + step;
        ids[i] = o->ids[first + i][step];
        position[i] = r[first + i].next + step;
    }
    const glm4v_decode_rows list = {
        .slots = slots, .length = length, .ids = ids, .position = position, .n = n, .batch = batch
    };
    int rc = glm4v_decode_begin(c, &list, &err);
    return rc ? rc : glm4v_pass_submit(c, GLM4V_LANE_DECODE + batch, &err);
}

static int end(glm4v_context *c, outcome *o, int32_t step, int32_t batch, int64_t vocab)
{
    const glm4v_lane lane = GLM4V_LANE_DECODE + batch;
    const int32_t n = SLOTS / 2, first = n * batch;
    int rc;
    while (!(rc = glm4v_pass_poll(c, lane, &err)))
        glm4v_pass_wait(c, lane);
    if (rc < 0)
        return rc;
    memcpy(o->logits + first * vocab, glm4v_pass_logits(c, lane),
           (size_t)(n * vocab) * sizeof *o->logits);
    for (int32_t i = first; i < first + n && step + 1 < TOKENS; i++)
        o->ids[i][step + 1] = largest(o->logits + i * vocab, vocab);
    return 0;
}

/* All slots, greedily, in two batches in flight. */
static int decode(glm4v_context *c, const request *r, outcome *o, int64_t vocab)
{
    int rc = 0;
    for (int32_t step = 0; !rc && step < TOKENS; step++) {
        rc = begin(c, r, o, step, 0);
        if (!rc)
            rc = begin(c, r, o, step, 1);
        if (!rc)
            rc = end(c, o, step, 0, vocab);
        if (!rc)
            rc = end(c, o, step, 1, vocab);
    }
    return rc;
}

static int run_requests(const glm4v_model *m, glm4v_context *c, outcome *o)
{
    const int64_t vocab = m->config.text.vocab;
    request r[SLOTS] = { 0 };
    o->vocab = vocab;
    o->logits = calloc((size_t)(SLOTS * vocab), sizeof *o->logits);
    int rc = o->logits ? 0 : GLM4V_ERR_NOMEM;
    for (int32_t i = 0; !rc && i < SLOTS; i++) {
        rc = request_make(&r[i], m, (uint64_t)i + 3) ? 0 : GLM4V_ERR_NOMEM;
        if (!rc)
            rc = prefill(c, i, &r[i], o->logits);
        o->ids[i][0] = largest(o->logits, vocab);
    }
    if (!rc)
        rc = decode(c, r, o, vocab);
    for (int32_t i = 0; i < SLOTS; i++)
        request_clear(&r[i]);
    return rc;
}

/* What is taken on each GPU while an engine is open, beside what was told. */
static void compare_memory(const glm4v_memory *told, const uint64_t *before)
{
    for (uint32_t i = 0; i < told->n_devices; i++) {
        const glm4v_device_memory *d = &told->device[i];
        const double expected = (double)(d->weights + d->kv_cache + d->scratch);
        glm4v_device now;
        REQUIRE(!glm4v_device_examine(d->name, &now, &err));
        const double taken = (double)before[i] - (double)now.available;
        printf("#   %s, %u layers: told %.0f MiB, taken %.0f MiB (%+.2f %%)\n", d->name,
               d->n_layers, expected / 1048576, taken / 1048576, 100 * (taken / expected - 1));
        CHECK(fabs(taken - expected) <= 0.03 * expected);
    }
}

static int run_place(const char *config, size_t place, outcome *o)
{
    const glm4v_model_options options = { .struct_size = sizeof options,
                                          .device = places[place].device,
                                          .layers = places[place].layers,
                                          .quantization = "bf16",
                                          .random_weights = 1,
                                          .random_seed = 7,
                                          .log = keep_line };
    const glm4v_engine_options with = { .max_batch = SLOTS, .context_length = LENGTH };
    const glm4v_estimate_options estimate = { .struct_size = sizeof estimate,
                                              .model = &options,
                                              .engine = &with,
                                              .width = 672,
                                              .height = 672 };
    const glm4v_context_size size = {
        .slots = SLOTS, .length = LENGTH, .max_rows = PIECE, .patches = 6400, .in_flight = 2
    };
    glm4v_memory told = { .struct_size = sizeof told };
    uint64_t before[GLM4V_MAX_DEVICES] = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_context *context = NULL;
    int rc = glm4v_model_estimate_memory(config, &estimate, &told, &err);
    for (uint32_t i = 0; !rc && i < told.n_devices; i++) {
        glm4v_device device;
        rc = glm4v_device_examine(told.device[i].name, &device, &err);
        before[i] = device.available;
    }
    lines[0] = 0;
    if (!rc)
        rc = glm4v_model_open(&model, config, &options, &err);
    if (!rc)
        rc = glm4v_engine_open(&engine, model, &with, &err);
    if (!rc)
        compare_memory(&told, before);
    glm4v_engine_close(&engine);
    if (!rc)
        rc = glm4v_context_open(&context, model, size, &err);
    if (!rc)
        rc = run_requests(model, context, o);
    for (int64_t i = 0; !rc && model->n_stages > 1 && i < model->n_stages; i++)
        CHECK(glm4v_context_busy(context, i) > 0);
    glm4v_context_close(&context);
    glm4v_model_close(&model);
    return rc;
}

static void compare_places(const char *config)
{
    static outcome o[PLACES];
    for (size_t i = 0; i < PLACES; i++) {
        printf("# %s\n", places[i].what);
        if (run_place(config, i, &o[i])) {
            test_fail(__FILE__, __LINE__, "%s: %s", places[i].what, err.msg);
            return;
        }
        if (i)
            CHECK_CONTAINS(lines, "activations go from cuda:0 to cuda:1 by ");
        const char *way = strstr(lines, "activations go");
        if (way)
            printf("#   %.*s\n", (int)strcspn(way, "\n"), way);
        CHECK(!memcmp(o[i].ids, o[0].ids, sizeof o[0].ids));
        CHECK(!memcmp(o[i].logits, o[0].logits, (size_t)(SLOTS * o[0].vocab) * sizeof(float)));
        fflush(stdout);
    }
    printf("# ids of slot 0:");
    for (int i = 0; i < 12; i++)
        printf(" %d", o[0].ids[0][i]);
    printf("\n");
    for (size_t i = 0; i < PLACES; i++)
        free(o[i].logits);
}

static void glm_41v_9b_has_the_bytes_of_one_gpu(void)
{
    compare_places(DATA "glm-4.1v-9b/config.json");
}

static void glm_4v_9b_has_the_bytes_of_one_gpu(void)
{
    compare_places(DATA "glm-4v-9b/config.json");
}

/* ---- an engine on each ---- */

static int open_small(glm4v_model **model, glm4v_engine **engine, const char *device)
{
    const glm4v_model_options options = { .device = device, .quantization = "int8" };
    int rc = glm4v_model_open(model, SOURCE_ROOT "/models/surface-tiny", &options, &err);
    return rc ? rc : glm4v_engine_open(engine, *model, NULL, &err);
}

enum { STREAMS = 8, FRAMES = 12 };

/* Streams by turns on the engines; all frames of all streams are submitted, then awaited. Returns
 * how many ended well; the text of each in answers. */
static int run_streams(glm4v_engine *const *engines, record (*answers)[FRAMES])
{
    static glm4v_image images[STREAMS][FRAMES];
    glm4v_request *requests[STREAMS][FRAMES] = { { NULL } };
    int well = 0;
    for (uint32_t f = 0; f < FRAMES; f++)
        for (uint32_t s = 0; s < STREAMS; s++) {
            images[s][f] = picture(7 * s + f, 120 + 8 * (int32_t)s, 100 + 5 * (int32_t)f);
            const glm4v_task task = { .prompt = "Describe the image in one sentence.",
                                      .images = &images[s][f],
                                      .n_images = 1,
                                      .max_tokens = 32,
                                      .stream = s,
                                      .on_done = record_done,
                                      .user = memset(&answers[s][f], 0, sizeof(record)) };
            if (glm4v_engine_submit(engines[s % 2], &task, &requests[s][f], &err))
                snprintf(answers[s][f].message, sizeof answers[s][f].message, "%s", err.msg);
        }
    for (uint32_t s = 0; s < STREAMS; s++)
        for (uint32_t f = 0; f < FRAMES; f++) {
            if (!requests[s][f])
                continue;
            CHECK_EQ(glm4v_request_wait(requests[s][f], 60000000000u), 0);
            CHECK_EQ(atomic_load(&answers[s][f].n_done), 1);
            well += answers[s][f].status == 0;
            glm4v_request_unref(&requests[s][f]);
        }
    return well;
}

static void eight_streams_share_an_engine_on_each_gpu(void)
{
    static record answers[2][STREAMS][FRAMES];
    glm4v_model *models[2] = { NULL };
    glm4v_engine *engines[2] = { NULL };
    REQUIRE(!open_small(&models[0], &engines[0], "cuda:0"));
    REQUIRE(!open_small(&models[1], &engines[1], "cuda:1"));
    glm4v_engine *const first[2] = { engines[0], engines[0] };
    CHECK_EQ(run_streams(first, answers[0]), STREAMS * FRAMES);
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(run_streams(engines, answers[1]), STREAMS * FRAMES);
        for (int s = 0; s < STREAMS; s++)
            for (int f = 0; f < FRAMES; f++)
                CHECK_STR(answers[1][s][f].answer, answers[0][s][f].answer);
    }
    for (int i = 0; i < 2; i++) {
        glm4v_engine_close(&engines[i]);
        glm4v_model_close(&models[i]);
    }
}

/* ---- one of them fails ---- */

/* With a model over both: every request that follows fails and names the GPU; the engine on the
 * other GPU goes on; a new engine works. */
static void a_gpu_that_fails_in_mid_stream_is_named(void)
{
    static record answers[STREAMS][FRAMES];
    glm4v_model *both = NULL, *one = NULL;
    glm4v_engine *engines[2] = { NULL };
    int failed = 0;
    REQUIRE(!open_small(&one, &engines[0], "cuda:0"));
    setenv("GLM4V_CUDA_FAULT", "launch@1:400:700", 1);
    REQUIRE(!open_small(&both, &engines[1], "cuda:0,cuda:1"));
    unsetenv("GLM4V_CUDA_FAULT");
    const int well = run_streams(engines, answers);
    for (int s = 0; s < STREAMS; s++)
        for (int f = 0; f < FRAMES; f++) {
            if (s % 2 == 0) {
                CHECK_STR(answers[s][f].message, ""); /* of the engine on the other GPU */
                CHECK_EQ(answers[s][f].status, 0);
            } else if (answers[s][f].status) {
                failed++;
                CHECK_EQ(answers[s][f].status, GLM4V_ERR_DEVICE);
                CHECK_CONTAINS(answers[s][f].message, "cuda:1");
            }
        }
    printf("# %d of %d frames described; \"%s\"\n", well, STREAMS * FRAMES,
           answers[1][FRAMES - 1].message);
    CHECK(failed > 0 && well >= STREAMS * FRAMES / 2);
    glm4v_engine_close(&engines[1]);
    glm4v_model_close(&both);
    REQUIRE(!open_small(&both, &engines[1], "cuda:0,cuda:1"));
    CHECK_EQ(run_streams(engines, answers), STREAMS * FRAMES);
    for (int i = 0; i < 2; i++)
        glm4v_engine_close(&engines[i]);
    glm4v_model_close(&both);
    glm4v_model_close(&one);
}

/* Named on the command line, or none is. */
static void run(int argc, char **argv, const char *name, void (*fn)(void))
{
    bool wanted = argc < 2;
    for (int i = 1; i < argc; i++)
        wanted |= !strcmp(argv[i], name);
    if (wanted)
        test_run(name, fn);
}

int main(int argc, char **argv)
{
    glm4v_device device;
    if (glm4v_device_examine("cuda:1", &device, &err)) {
        printf("1..0 # SKIP %s\n", err.msg);
        return 77;
    }
#define RUN(fn) run(argc, argv, #fn, fn)
    RUN(eight_streams_share_an_engine_on_each_gpu);
    RUN(a_gpu_that_fails_in_mid_stream_is_named);
    RUN(glm_41v_9b_has_the_bytes_of_one_gpu);
    RUN(glm_4v_9b_has_the_bytes_of_one_gpu);
    return test_end();
}
