/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drafts of GLM-OCR's MTP layer. The tiny model's weights are random, so that its drafts are hardly
 * ever right; a script in the backend puts on top of the layer's logits, with a given share, the
 * token that the answer has there. Its own logits are the golden sets' matter. */
#include "drafted.h"
#include "engine.h"

#ifndef DEVICE_MEMORY
#define DEVICE_MEMORY 0
#endif

enum { TOKENS = 80 };

/* GLM4V_DEEP=1: a thousand requests. A device of the tests is slow. */
static uint32_t n_requests(void)
{
    if (getenv("GLM4V_DEEP"))
        return MOST;
    return DEVICE_MEMORY ? 18 : 48;
}

/* ---- the script ---- */

static struct {
    glm4v_backend_ops real, ops;
    glm4v_engine *engine;
    uint32_t share; /* of right drafts, of 256 */
    bool credit;    /* without end */
    uint64_t step;  /* number of the decode step that is drafted for */
    int64_t depth;  /* passes of the layer for it */
    int64_t rows;   /* of logits of the layer, until they are there */
    uint64_t last_number;
    int32_t ids[MOST][TOKENS]; /* of the answers */
    int64_t n[MOST];
    uint64_t told[MOST]
                 [TOKENS]; /* digest of what it told first behind so many tokens; 0: nothing */
} script;

/* The head's steps alone have outputs and no ids; they may be replayed. */
static int scripted_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed)
{
    script.rows = rows->ids ? 0 : rows->n_outputs;
    return script.real.step_begin(step, rows, replayed);
}

static uint64_t digest_of(const float *x, int64_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        h = (h ^ bits) * 0x100000001b3u;
    }
    return h;
}

static bool right_at(uint32_t request, int64_t at)
{
    uint32_t h = (request + 1) * 2246822519u ^ (uint32_t)at * 2654435761u;
    h = (h ^ (h >> 15)) * 3266489917u;
    return (h >> 13) % 256 < script.share;
}

static void script_row(float *logits, int64_t vocab, const glm4v_request *r)
{
    const uint32_t number = (uint32_t)((const record *)r->task.user - others);
    const int64_t at = r->drafter.n_text - r->drafter.answer + script.depth;
    if (at >= TOKENS)
        return;
    if (!script.depth)
        script.told[number][at] = digest_of(logits, vocab);
    const int32_t id = at < script.n[number] ? script.ids[number][at] : 0;
    logits[right_at(number, at) ? id : (id + 1) % vocab] = 1e30f;
}

/* Rows are those of the requests of the batch whose drafts go on, in order. */
static void script_rows(void)
{
    const glm4v_batch *batch = &script.engine->batch[0];
    const int64_t vocab = fixture_model->config.text.vocab;
    float *logits = glm4v_pass_logits(script.engine->context, GLM4V_LANE_DECODE);
    int64_t row = 0;
    if (script.step != script.engine->n_batches)
        script.depth = 0;
    script.step = script.engine->n_batches;
    for (int64_t i = 0; i < batch->n; i++) {
        const glm4v_request *r = batch->request[i];
        if (r->drafter.source == GLM4V_DRAFT_MTP && r->drafter.n > script.depth)
            script_row(logits + row++ * vocab, vocab, r);
    }
    CHECK_EQ(row, script.rows);
    script.rows = 0;
    script.depth++;
    if (script.credit)
        script.engine->past.mtp.credit = INT32_MAX;
}

/* The thread waits for a pass of the layer: an event that is reached then is behind it. */
static int scripted_done(glm4v_backend *b, glm4v_event *event)
{
    int rc = script.real.event_done(b, event);
    if (rc == 1 && script.rows)
        script_rows();
    return rc;
}

static void install(void)
{
    glm4v_backend *b = fixture_model->stages[0].backend;
    script.real = script.ops = *b->ops;
    script.ops.step_begin = scripted_begin;
    script.ops.event_done = scripted_done;
    b->ops = &script.ops;
}

/* An engine that the script sees. */
static glm4v_engine *open_engine(uint32_t max_batch, uint32_t share, bool credit)
{
    glm4v_engine *engine =
        fixture_engine(&(glm4v_engine_options) { .max_batch = max_batch, .context_length = 512 });
    script.engine = engine;
    script.share = share;
    script.credit = credit;
    script.step = UINT64_MAX;
    script.last_number = 0;
    memset(script.told, 0, sizeof script.told);
    return engine;
}

/* The scheduler's thread: the ids of an answer are those that the engine keeps. */
static void learn(void *user, const glm4v_result *result)
{
    const uint32_t number = (uint32_t)((const record *)user - others);
    const glm4v_past *past = &script.engine->past;
    if (past->last_number != script.last_number) {
        const glm4v_past_answer *a = &past->answers[past->n_answers - 1];
        script.n[number] = a->n < TOKENS ? a->n : TOKENS;
        memcpy(script.ids[number], past->ids + a->start,
               (size_t)script.n[number] * sizeof **script.ids);
        script.last_number = past->last_number;
    }
    record_done(user, result);
}

/* ---- the same bytes ---- */

#define REPORT                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"lot\":{\"type\":\"string\",\"maxLength\":8},"          \
    "\"good\":{\"type\":\"boolean\"}},\"required\":[\"lot\",\"good\"]}"

/* Each a stream of its own: no past answer drafts. */
static glm4v_task varied_task(uint32_t i, glm4v_image *image)
{
    static const char *const choices[] = { "good", "not good" };
    const uint32_t kind = i % 6;
    *image = picture(i % 5, 56, 56 + 28 * (int32_t)(i % 3));
    return (glm4v_task) { .prompt = kind == 5 ? "Which one?" : "Text Recognition:",
                          .images = image,
                          .n_images = kind % 2,
                          .max_tokens = kind == 4 ? 60 : 10 + i % 7 * 9,
                          .temperature = kind == 0 ? 0 : 0.5f + (float)(i % 3) / 2,
                          .top_k = kind == 2 ? 20 : 0,
                          .repetition_penalty = kind == 3 ? 1.2f : 0,
                          .seed = i,
                          .stream = i,
                          .json_schema = kind == 4 ? REPORT : NULL,
                          .choices = kind == 5 ? choices : NULL,
                          .n_choices = kind == 5 ? 2 : 0 };
}

/* What it told first behind the same tokens is the same, whichever drafts were right before, and in
 * company: the layer's keys and values are then those of true states. */
static void check_told(const uint64_t (*expected)[TOKENS], uint32_t n)
{
    uint32_t both = 0;
    for (uint32_t i = 0; i < n; i++)
        for (int at = 0; at < TOKENS; at++)
            if (expected[i][at] && script.told[i][at]) {
                CHECK_EQ(script.told[i][at], expected[i][at]);
                both++;
            }
    printf("# told the same %u times\n", both);
    CHECK(both > n * 4);
}

static void the_same_bytes_come_with_its_drafts_alone_and_in_company(void)
{
    static const uint32_t batches[] = { 1, 3, AT_ONCE };
    static uint64_t told[MOST][TOKENS];
    const uint32_t n = n_requests();
    glm4v_engine *engine = open_engine(1, 0, true);
    REQUIRE(engine);
    run_all(engine, alone, n, 1,
            &(drafted_how) { .task = varied_task, .speculation = GLM4V_SPECULATION_OFF });
    CHECK_EQ(engine->past.mtp.drafted, 0);
    run_all(engine, others, n, 1, &(drafted_how) { .task = varied_task, .on_done = learn });
    check_same(n);
    CHECK(engine->past.mtp.drafted > n && engine->past.mtp.accepted < n);
    memcpy(told, script.told, sizeof told);
    glm4v_engine_close(&engine);
    for (int i = 0; i < 3; i++) {
        engine = open_engine(batches[i], 200, true);
        REQUIRE(engine);
        run_all(engine, others, n, batches[i],
                &(drafted_how) { .task = varied_task, .on_done = i ? NULL : learn });
        check_same(n);
        check_told(told, n);
        const glm4v_mtp_record *m = &engine->past.mtp;
        glm4v_engine_stats stats = { 0 };
        glm4v_engine_get_stats(engine, &stats, NULL);
        printf("# of %llu drafted %llu accepted, in %llu steps\n", (unsigned long long)m->drafted,
               (unsigned long long)m->accepted, (unsigned long long)stats.decode_steps);
        CHECK(m->drafted <= stats.drafted_tokens && m->accepted <= stats.accepted_tokens);
        CHECK(m->accepted > 4 * n && 2 * m->accepted > m->drafted);
        glm4v_engine_close(&engine);
    }
}

/* ---- what it costs in vain ---- */

static void a_layer_that_is_never_right_rests(void)
{
    glm4v_engine *engine = open_engine(1, 0, false);
    uint64_t tokens = 0, resting = 0;
    REQUIRE(engine);
    for (uint32_t i = 0; i < 40; i++) {
        const glm4v_task task = {
            .prompt = "Any text.", .max_tokens = 40, .temperature = 2, .seed = i, .stream = i
        };
        const uint64_t before = engine->past.mtp.drafted;
        run_task(engine, task, &others[0]);
        tokens += others[0].numbers.output_tokens;
        resting += engine->past.mtp.drafted == before;
    }
    const glm4v_mtp_record *m = &engine->past.mtp;
    printf("# %llu tokens, of %llu drafted %llu accepted\n", (unsigned long long)tokens,
           (unsigned long long)m->drafted, (unsigned long long)m->accepted);
    CHECK(m->drafted - m->accepted <= 8 + tokens / 96 + 2 * m->accepted);
    CHECK(m->drafted > 8); /* it is tried again */
    CHECK(resting > 30);
    glm4v_engine_close(&engine);
}

/* ---- what comes from elsewhere ---- */

/* A beginning that was computed without the layer is computed again. */
static void a_prefix_without_its_keys_is_not_used(void)
{
    static const bool cached[4] = { false, true, false, true };
    glm4v_engine *engine = open_engine(1, 0, true);
    REQUIRE(engine);
    for (int i = 0; i < 4; i++) {
        const glm4v_task task = { .system = "Read what is written, and nothing else.",
                                  .prompt = "Text Recognition:",
                                  .max_tokens = 6,
                                  .speculation =
                                      i < 2 ? GLM4V_SPECULATION_OFF : GLM4V_SPECULATION_AUTO };
        run_task(engine, task, &others[0]);
        CHECK_EQ(others[0].numbers.cached_tokens > 0, cached[i]);
    }
    glm4v_engine_close(&engine);
}

static void check_without(const char *dir, const char *device)
{
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_error err = { 0 };
    const glm4v_model_options options = { .n_threads = 1, .device = device };
    CHECK_EQ(glm4v_model_open(&model, dir, &options, &err), 0);
    CHECK_EQ(
        glm4v_engine_open(&engine, model, &(glm4v_engine_options) { .context_length = 256 }, &err),
        0);
    REQUIRE(engine);
    CHECK(!glm4v_context_mtp(engine->context));
    run_task(engine, (glm4v_task) { .prompt = "Read.", .max_tokens = 20 }, &others[0]);
    CHECK_EQ(others[0].status, 0);
    CHECK_EQ(engine->past.mtp.drafted, 0);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
}

static void files_without_the_layer_have_no_such_drafts(void)
{
    char dir[256];
    REQUIRE(!tiny_model_make(dir, sizeof dir,
                             &(tiny_model_options) { .glm_ocr = true, .resaved = true }));
    check_without(dir, "cpu");
    tiny_model_remove(dir);
}

/* Embedding and head lie on different devices. */
static void several_devices_have_no_such_drafts(void)
{
    check_without(fixture_dir, "cpu,cpu");
}

static void rows_that_do_not_fit_are_refused(void)
{
    const int32_t zero = 0, far = 1000, id = 5, below = -2;
    glm4v_error err = { 0 };
    glm4v_context *c = NULL;
    const glm4v_context_size size = { .slots = 2, .length = 32, .max_rows = 16, .span_rows = 8 };
    glm4v_mtp_pass pass = { .rows = { &zero, &zero, &id, &zero, 1, NULL },
                            .states = &zero,
                            .outputs = &zero,
                            .n_outputs = 1 };
    REQUIRE(!glm4v_context_open(&c, fixture_model, size, &err));
    pass.states = &far;
    CHECK_EQ(glm4v_mtp_run(c, &pass, &err), GLM4V_ERR_INVALID);
    pass.states = &below;
    CHECK_EQ(glm4v_mtp_run(c, &pass, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "row 0 has state -2");
    pass.states = &zero;
    pass.outputs = &far;
    CHECK_EQ(glm4v_mtp_run(c, &pass, &err), GLM4V_ERR_INVALID);
    pass.outputs = &zero;
    pass.n_outputs = 2;
    CHECK_EQ(glm4v_mtp_run(c, &pass, &err), GLM4V_ERR_INVALID);
    glm4v_context_close(&c);
    REQUIRE(!glm4v_context_open(
        &c, fixture_model,
        (glm4v_context_size) { .slots = 2, .length = 32, .max_rows = 16, .in_flight = 2 }, &err));
    CHECK(!glm4v_context_mtp(c));
    pass.n_outputs = 1;
    CHECK_EQ(glm4v_mtp_run(c, &pass, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "no MTP layer");
    glm4v_context_close(&c);
}

int main(void)
{
    if (!fixture_open(&(tiny_model_options) { .glm_ocr = true }))
        return 1;
    install();
    TEST(the_same_bytes_come_with_its_drafts_alone_and_in_company);
    TEST(a_layer_that_is_never_right_rests);
    TEST(a_prefix_without_its_keys_is_not_used);
    TEST(files_without_the_layer_have_no_such_drafts);
    TEST(several_devices_have_no_such_drafts);
    TEST(rows_that_do_not_fit_are_refused);
    fixture_close();
    return test_end();
}
