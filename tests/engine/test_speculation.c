/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drafts that are checked several tokens at a time: the same bytes as without them, whatever the
 * request, alone and in company; what comes again takes few steps; what never does costs none.
 * test-speculation [glm45|chatglm4v|glm_ocr]: of the other families. */
#include "drafted.h"
#include "forward/context.h"
#include "model/model.h"

#ifndef DEVICE_MEMORY
#define DEVICE_MEMORY 0
#endif

#define REPORT                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"surface\":{\"enum\":[\"copper\",\"steel\"]},"          \
    "\"count\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},\"note\":{\"type\":"            \
    "\"string\",\"maxLength\":12}},\"required\":[\"surface\",\"count\",\"note\"]}"

/* GLM4V_DEEP=1: a thousand requests. A device of the tests is slow. */
static uint32_t n_requests(void)
{
    if (getenv("GLM4V_DEEP"))
        return 1000;
    return DEVICE_MEMORY ? 15 : 48;
}

static bool family_reasons;

/* ---- the same bytes ---- */

/* Requests that differ in all that a draft must not change; every few of them a question comes
 * again, with the same answer, with another seed or about another picture. */
static glm4v_task varied_task(uint32_t i, glm4v_image *image)
{
    static const char *const prompts[] = { "Describe the surface.", "Repeat: a b a b a b a b.",
                                           "Report.", "Which one?", "Read it." };
    static const char *const choices[] = { "copper", "steel", "copper plate" };
    const uint32_t kind = i % 5, again = i / 5;
    *image = picture(again % 3, 56, 56 + 28 * (int32_t)(kind % 2));
    return (glm4v_task) { .prompt = prompts[kind],
                          .images = image,
                          .n_images = again % 2,
                          .max_tokens = kind == 2 ? 70 : 3 + again % 4 * 13,
                          .max_reasoning_tokens = 20,
                          .thinking = again % 4 == 3,
                          .temperature = kind == 4 ? 0 : (float)(again % 3) / 2,
                          .top_k = kind == 1 ? 5 : 0,
                          .top_p = again % 5 == 4 ? 0.9f : 0,
                          .repetition_penalty = again % 4 == 1 ? 1.2f : 0,
                          .seed = again % 7 == 6 ? again : 1,
                          .stream = i % 2,
                          .json_schema = kind == 2 ? REPORT : NULL,
                          .choices = kind == 3 ? choices : NULL,
                          .n_choices = kind == 3 ? 3 : 0 };
}

/* The drafts of n requests of the record; statistics agree with them. */
static void check_counters(glm4v_engine *engine, uint32_t n)
{
    glm4v_engine_stats stats = { 0 };
    uint64_t drafted = 0, accepted = 0, tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        drafted += others[i].numbers.drafted_tokens;
        accepted += others[i].numbers.accepted_tokens;
        tokens += others[i].numbers.output_tokens;
        CHECK(others[i].numbers.accepted_tokens <= others[i].numbers.drafted_tokens);
        CHECK(others[i].numbers.accepted_tokens <= others[i].numbers.output_tokens);
    }
    glm4v_engine_get_stats(engine, &stats, NULL);
    CHECK_EQ(stats.drafted_tokens, drafted);
    CHECK_EQ(stats.accepted_tokens, accepted);
    printf("# %llu tokens, of %llu drafted %llu accepted, in %llu steps\n",
           (unsigned long long)tokens, (unsigned long long)drafted, (unsigned long long)accepted,
           (unsigned long long)stats.decode_steps);
    CHECK(accepted > (DEVICE_MEMORY ? 0 : tokens / 40));
}

static void requests_give_the_same_bytes_with_drafts_alone_and_in_company(void)
{
    static const uint32_t batches[] = { 1, 3, AT_ONCE };
    const uint32_t n = n_requests();
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    run_all(engine, alone, n, 1,
            &(drafted_how) { .task = varied_task, .speculation = GLM4V_SPECULATION_OFF });
    glm4v_engine_close(&engine);
    for (int i = 0; i < 3; i++) {
        engine = fixture_engine(&(glm4v_engine_options) { .max_batch = batches[i] });
        REQUIRE(engine);
        run_all(engine, others, n, batches[i], &(drafted_how) { .task = varied_task });
        check_same(n);
        check_counters(engine, n);
        glm4v_engine_close(&engine);
    }
}

/* What each row of a draft has of its own: tokens that a penalty has seen, the mask of a schema,
 * the place where reasoning ends. Seeds come again, so that drafts are right, and change, so that
 * others are wrong. */
static const struct {
    const char *name, *schema;
    float temperature, penalty;
    bool thinking, choices;
} kinds[] = {
    { "penalty", NULL, 0, 1.3f },
    { "penalty, drawn", NULL, 1.5f, 1.3f },
    { "schema", REPORT, 0, 0 },
    { "schema, drawn", REPORT, 2, 0 },
    { "schema and penalty, drawn", REPORT, 2, 1.3f },
    { "schema behind reasoning", REPORT, 0, 0, true },
    { "schema behind reasoning, drawn", REPORT, 1.5f, 1.2f, true },
    { "choices behind reasoning", NULL, 0, 0, true, true },
    { "choices behind reasoning, drawn", NULL, 1, 1.2f, true, true },
};

static glm4v_task kind_task(int kind, uint32_t seed)
{
    static const char *const choices[] = { "copper", "steel" };
    return (glm4v_task) { .prompt = kinds[kind].name,
                          .json_schema = kinds[kind].schema,
                          .choices = kinds[kind].choices ? choices : NULL,
                          .n_choices = kinds[kind].choices ? 2 : 0,
                          .max_tokens = 60,
                          .max_reasoning_tokens = 15,
                          .thinking = kinds[kind].thinking,
                          .temperature = kinds[kind].temperature,
                          .repetition_penalty = kinds[kind].penalty,
                          .seed = seed };
}

static void rows_of_a_draft_have_penalty_and_mask_of_their_own(void)
{
    enum { KINDS = sizeof kinds / sizeof *kinds, SEEDS = DEVICE_MEMORY ? 4 : 6 };
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 2 });
    REQUIRE(engine);
    for (int kind = 0; kind < KINDS; kind++) {
        uint32_t drafted = 0, accepted = 0, tokens = 0;
        for (uint32_t i = 0; i < 3 * SEEDS; i++) {
            glm4v_task task = kind_task(kind, i < SEEDS ? i : i / 2 % SEEDS);
            task.speculation = GLM4V_SPECULATION_OFF;
            run_task(engine, task, &alone[0]);
            task.speculation = GLM4V_SPECULATION_AUTO;
            run_task(engine, task, &others[0]);
            check_same(1);
            drafted += others[0].numbers.drafted_tokens;
            accepted += others[0].numbers.accepted_tokens;
            tokens += others[0].numbers.output_tokens;
        }
        printf("# %s: %u tokens, of %u drafted %u accepted\n", kinds[kind].name, tokens, drafted,
               accepted);
        if (kinds[kind].choices && !family_reasons)
            continue; /* nothing is written before they are scored */
        CHECK(accepted > tokens / 10);
        CHECK(drafted > accepted || !kinds[kind].temperature);
    }
    glm4v_engine_close(&engine);
}

/* The end of reasoning is forced within a draft; what follows takes the draws of no draft. */
static void a_forced_end_of_reasoning_takes_no_draw(void)
{
    glm4v_task task = { .prompt = "Describe the surface.",
                        .max_tokens = 12,
                        .max_reasoning_tokens = 5,
                        .thinking = true,
                        .temperature = 1 };
    uint32_t accepted = 0;
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    for (task.seed = 0; task.seed < 4; task.seed++) {
        task.speculation = GLM4V_SPECULATION_OFF;
        run_task(engine, task, &alone[0]);
        task.speculation = GLM4V_SPECULATION_AUTO;
        for (int again = 0; again < 3; again++) {
            run_task(engine, task, &others[0]);
            check_same(1);
            accepted += others[0].numbers.accepted_tokens;
        }
    }
    CHECK(accepted > 30);
    glm4v_engine_close(&engine);
}

/* Where the answer fills the context, drafts end before it. */
static void a_full_context_ends_an_answer_at_the_same_token(void)
{
    glm4v_task task = { .prompt = "Go on and on.", .max_tokens = 500, .temperature = 1 };
    int full = 0, drafted = 0;
    glm4v_engine *engine =
        fixture_engine(&(glm4v_engine_options) { .max_batch = 1, .context_length = 90 });
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 12; seed++) {
        task.seed = seed;
        task.speculation = GLM4V_SPECULATION_OFF;
        run_task(engine, task, &alone[0]);
        for (int again = 0; again < 2; again++) {
            task.speculation = GLM4V_SPECULATION_AUTO;
            run_task(engine, task, &others[0]);
            check_same(1);
        }
        full += others[0].finish == GLM4V_FINISH_LENGTH;
        drafted += others[0].numbers.accepted_tokens > 10;
    }
    CHECK(full > 0);
    CHECK(drafted > 0);
    glm4v_engine_close(&engine);
}

/* ---- what comes again ---- */

static uint64_t steps_of(glm4v_engine *engine)
{
    glm4v_engine_stats stats = { 0 };
    glm4v_engine_get_stats(engine, &stats, NULL);
    return stats.decode_steps;
}

/* A long answer of the model, by its seed. */
static glm4v_task long_task(glm4v_engine *engine)
{
    glm4v_task task = { .prompt = "Describe.", .max_tokens = 40, .temperature = 1.5f };
    for (task.seed = 1; task.seed < 50; task.seed++) {
        task.speculation = GLM4V_SPECULATION_OFF;
        run_task(engine, task, &alone[0]);
        if (alone[0].numbers.output_tokens == 40)
            break;
    }
    CHECK_EQ(alone[0].numbers.output_tokens, 40);
    task.speculation = GLM4V_SPECULATION_AUTO;
    return task;
}

static void an_answer_that_comes_again_takes_a_step_for_eight_tokens(void)
{
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    glm4v_task task = long_task(engine);
    run_task(engine, task, &others[0]);
    check_same(1);
    for (int again = 0; again < 2; again++) {
        const uint64_t before = steps_of(engine);
        run_task(engine, task, &others[0]);
        check_same(1);
        CHECK_EQ(steps_of(engine) - before, 5); /* 39 tokens behind the first one */
        CHECK_EQ(others[0].numbers.accepted_tokens, 34);
    }
    glm4v_engine_close(&engine);
}

static void the_past_answer_of_another_stream_does_not_count(void)
{
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    glm4v_task task = long_task(engine);
    run_task(engine, task, &others[0]);
    task.stream = 1;
    const uint64_t before = steps_of(engine);
    run_task(engine, task, &others[0]);
    check_same(1);
    CHECK(steps_of(engine) - before > 30);
    glm4v_engine_close(&engine);
}

/* A row of a step in 32 tokens, and the first drafts of a question; of an MTP layer a row in 96,
 * and its first ones. */
static void answers_that_never_come_again_have_hardly_a_draft(void)
{
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    uint64_t drafted = 0, accepted = 0, tokens = 0, n = DEVICE_MEMORY ? 10 : 40;
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < n; seed++) {
        const glm4v_task task = {
            .prompt = "Any text.", .max_tokens = 40, .temperature = 2, .seed = seed
        };
        run_task(engine, task, &others[0]);
        drafted += others[0].numbers.drafted_tokens;
        accepted += others[0].numbers.accepted_tokens;
        tokens += others[0].numbers.output_tokens;
    }
    printf("# %llu tokens, of %llu drafted %llu accepted\n", (unsigned long long)tokens,
           (unsigned long long)drafted, (unsigned long long)accepted);
    const uint64_t layer = fixture_model->mtp.present ? 8 + tokens / 96 : 0;
    CHECK(drafted - accepted <= 14 + tokens / 32 + 2 * n + 2 * accepted + layer);
    glm4v_engine_close(&engine);
}

/* ---- rows of a step ---- */

/* Requests that all have drafts share the rows of a step; none is left without its own. */
static void drafts_of_a_full_batch_share_its_rows(void)
{
    record *records = others;
    glm4v_request *requests[AT_ONCE];
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = AT_ONCE - 2 });
    glm4v_engine_stats stats = { 0 };
    REQUIRE(engine);
    glm4v_task task = long_task(engine);
    run_task(engine, task, &others[0]);
    glm4v_engine_get_stats(engine, &stats, NULL);
    const uint64_t steps = stats.decode_steps, rows = stats.decode_rows;
    for (int i = 0; i < AT_ONCE; i++) {
        task.on_text = record_text;
        task.on_done = record_done;
        task.user = memset(&records[i], 0, sizeof *records);
        CHECK_EQ(glm4v_engine_submit(engine, &task, &requests[i], NULL), 0);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        CHECK_EQ(glm4v_request_wait(requests[i], 60000000000u), 0);
        glm4v_request_unref(&requests[i]);
        CHECK_STR(records[i].text, alone[0].text);
    }
    glm4v_engine_get_stats(engine, &stats, NULL);
    CHECK(stats.decode_rows - rows <= (stats.decode_steps - steps) * GLM4V_SPAN_ROWS);
    CHECK(stats.decode_steps - steps < (AT_ONCE * 40 / (AT_ONCE - 2)) * 3 / 2);
    glm4v_engine_close(&engine);
}

/* ---- callbacks ---- */

typedef struct {
    record record;
    glm4v_request *request;
    int at;
} canceler;

static void cancel_at(void *user, glm4v_text_part part, const char *text)
{
    canceler *c = user;
    if (atomic_fetch_add(&c->record.n_text, 1) + 1 == c->at)
        glm4v_request_cancel(c->request);
}

static void canceler_done(void *user, const glm4v_result *result)
{
    record_done(&((canceler *)user)->record, result);
}

/* A caller that ends the answer at a text of its own, as a stop string. */
static void a_cancel_between_accepted_tokens_ends_the_answer_there(void)
{
    uint32_t tokens[2];
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    const glm4v_task long_one = long_task(engine);
    run_task(engine, long_one, &others[0]);
    for (int i = 0; i < 2; i++) {
        static canceler c;
        glm4v_task task = long_one;
        memset(&c, 0, sizeof c);
        c.at = 5;
        task.speculation = i ? GLM4V_SPECULATION_AUTO : GLM4V_SPECULATION_OFF;
        task.on_text = cancel_at;
        task.on_done = canceler_done;
        task.user = &c;
        task.images = NULL;
        /* the request is known to the callback before its first text */
        glm4v_image image = picture(0, 280, 280);
        glm4v_request *first = NULL;
        CHECK_EQ(glm4v_engine_submit(engine,
                                     &(glm4v_task) { .prompt = "First.",
                                                     .images = &image,
                                                     .n_images = 1,
                                                     .max_tokens = 1,
                                                     .stream = 9 },
                                     &first, NULL),
                 0);
        CHECK_EQ(glm4v_engine_submit(engine, &task, &c.request, NULL), 0);
        CHECK_EQ(glm4v_request_wait(c.request, 60000000000u), 0);
        CHECK_EQ(glm4v_request_wait(first, 60000000000u), 0);
        CHECK_EQ(c.record.status, GLM4V_ERR_CANCELED);
        CHECK_EQ(atomic_load(&c.record.n_text), 5);
        tokens[i] = c.record.numbers.output_tokens;
        glm4v_request_unref(&c.request);
        glm4v_request_unref(&first);
    }
    CHECK_EQ(tokens[1], tokens[0]);
    glm4v_engine_close(&engine);
}

static void another_value_of_the_field_is_refused(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_error err = { 0 };
    REQUIRE(engine);
    CHECK_EQ(glm4v_engine_check(engine, &(glm4v_task) { .prompt = "x", .speculation = 2 }, &err),
             GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "speculation is 2");
    glm4v_engine_close(&engine);
}

int main(int argc, char **argv)
{
    const char *family = argc > 1 ? argv[1] : "";
    const tiny_model_options tiny = { .glm45 = !strcmp(family, "glm45"),
                                      .chatglm4v = !strcmp(family, "chatglm4v"),
                                      .glm_ocr = !strcmp(family, "glm_ocr") };
    family_reasons = !tiny.chatglm4v && !tiny.glm_ocr;
    if (!fixture_open(&tiny))
        return 1;
    TEST(requests_give_the_same_bytes_with_drafts_alone_and_in_company);
    TEST(rows_of_a_draft_have_penalty_and_mask_of_their_own);
    TEST(a_forced_end_of_reasoning_takes_no_draw);
    TEST(a_full_context_ends_an_answer_at_the_same_token);
    TEST(an_answer_that_comes_again_takes_a_step_for_eight_tokens);
    TEST(the_past_answer_of_another_stream_does_not_count);
    TEST(answers_that_never_come_again_have_hardly_a_draft);
    TEST(drafts_of_a_full_batch_share_its_rows);
    TEST(a_cancel_between_accepted_tokens_ends_the_answer_there);
    TEST(another_value_of_the_field_is_refused);
    fixture_close();
    return test_end();
}
