/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers that follow a JSON schema through the whole engine: they parse and fit whatever the model
 * likes, forced tokens cost no step, the same bytes in any company, refusals. test-schema
 * [glm45|chatglm4v]: of the other families. What matches a schema is judged in tests/shape/. */
#include <jansson.h>

#include "base/mem.h"
#include "fixture.h"
#include "model/model.h"

#define REPORT                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"surface\":{\"enum\":[\"copper\",\"steel\"]},"          \
    "\"count\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20},\"note\":{\"type\":\"string\"," \
    "\"maxLength\":9},\"defects\":{\"type\":\"array\",\"maxItems\":2,\"items\":{\"type\":"         \
    "\"object\",\"properties\":{\"kind\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":6},"   \
    "\"p\":{\"type\":[\"number\",\"null\"],\"minimum\":0,\"maximum\":1}},\"required\":[\"kind\","  \
    "\"p\"]}}},\"required\":[\"surface\",\"count\",\"defects\"]}"
#define FIXED "{\"const\":{\"station\":\"seven\",\"codes\":[1,2,3]}}"

static glm4v_task asking(const char *schema, uint32_t max_tokens)
{
    return (glm4v_task) { .prompt = "Report.", .json_schema = schema, .max_tokens = max_tokens };
}

/* Does an answer have what REPORT wants? */
static void check_report(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    const json_t *defects = json_object_get(root, "defects"), *one;
    const char *surface = json_string_value(json_object_get(root, "surface"));
    const json_int_t count = json_integer_value(json_object_get(root, "count"));
    size_t i;
    if (!root)
        test_fail(__FILE__, __LINE__, "%s: %s", error.text, text);
    CHECK(surface && (!strcmp(surface, "copper") || !strcmp(surface, "steel")));
    CHECK(json_is_integer(json_object_get(root, "count")) && count >= 0 && count <= 20);
    CHECK(json_is_array(defects) && json_array_size(defects) <= 2);
    json_array_foreach(defects, i, one)
    {
        const json_t *p = json_object_get(one, "p");
        CHECK(json_string_length(json_object_get(one, "kind")) > 0);
        CHECK(json_is_null(p) || (json_number_value(p) >= 0 && json_number_value(p) <= 1));
    }
    json_decref(root);
}

static void answers_match_whatever_the_model_likes(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 60; seed++) {
        glm4v_result *result = NULL;
        glm4v_error err = { 0 };
        glm4v_task task = asking(REPORT, 48 + seed % 40);
        task.temperature = seed % 3;
        task.top_k = seed % 5;
        task.repetition_penalty = 1 + (float)(seed % 2) / 2;
        task.seed = seed;
        if (glm4v_describe(engine, &task, &result, &err))
            test_fail(__FILE__, __LINE__, "%s", err.msg);
        REQUIRE(result);
        CHECK_STR(result->json, result->text);
        CHECK_EQ(result->finish, GLM4V_FINISH_STOP);
        CHECK(result->output_tokens <= task.max_tokens);
        check_report(result->json);
        glm4v_result_free(&result);
    }
    glm4v_engine_close(&engine);
}

static void a_request_that_reasons_reports_afterwards(void)
{
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .context_length = 128 });
    int reasoned = 0;
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 20; seed++) {
        glm4v_result *result = NULL;
        glm4v_task task = asking(REPORT, 60);
        task.thinking = 1;
        task.max_reasoning_tokens = 1 + seed * 5;
        task.temperature = 1.5f;
        task.seed = seed;
        CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
        REQUIRE(result);
        check_report(result->json);
        reasoned += *result->reasoning != 0;
        glm4v_result_free(&result);
    }
    CHECK(fixture_model->chat.think < 0 || reasoned > 5);
    glm4v_engine_close(&engine);
}

/* Of a number of one token and a text of many, only the number fits behind the prompt. */
static void the_first_token_leaves_room_in_the_context(void)
{
    static const char schema[] =
        "{\"enum\":[7,\"a text that is longer than what is left of the context of this engine\"]}";
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .context_length = 48 });
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 12; seed++) {
        glm4v_result *result = NULL;
        glm4v_task task = asking(schema, 200);
        task.temperature = 2;
        task.seed = seed;
        CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
        REQUIRE(result);
        CHECK_STR(result->json, "7");
        glm4v_result_free(&result);
    }
    glm4v_engine_close(&engine);
}

static void forced_tokens_skip_the_model(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_engine_stats stats = { 0 };
    glm4v_result *result = NULL;
    const glm4v_task task = asking(FIXED, 64);
    REQUIRE(engine);
    CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
    REQUIRE(result);
    CHECK_STR(result->json, "{\"station\":\"seven\",\"codes\":[1,2,3]}");
    glm4v_engine_get_stats(engine, &stats, NULL);
    CHECK_EQ(stats.decode_steps, 0); /* nothing was left to be asked */
    glm4v_result_free(&result);
    CHECK_EQ(glm4v_describe(engine,
                            &(glm4v_task) { .prompt = "Report.",
                                            .json_schema = "{\"type\":\"object\",\"properties\":{"
                                                           "\"a long name of a property\":{"
                                                           "\"type\":\"boolean\"}},\"required\":["
                                                           "\"a long name of a property\"]}" },
                            &result, NULL),
             0);
    REQUIRE(result);
    glm4v_engine_get_stats(engine, &stats, NULL);
    CHECK(result->output_tokens > 20);
    CHECK(stats.decode_steps < result->output_tokens / 4); /* spans of forced ones, t or f */
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
}

enum { CROWD = 8 };

static void run_crowd(glm4v_engine *engine, record *records, bool together)
{
    static const char *const choices[] = { "good", "bad", "unknown" };
    glm4v_request *requests[CROWD];
    glm4v_image images[CROWD];
    for (uint32_t i = 0; i < CROWD; i++) {
        images[i] = picture(i, 60 + 20 * (int32_t)i, 80);
        glm4v_task task = asking(i % 4 == 3 ? NULL : i % 4 == 2 ? FIXED : REPORT, 60);
        task.images = &images[i];
        task.n_images = 1;
        task.temperature = i % 3;
        task.repetition_penalty = 1.2f;
        task.seed = i;
        if (i == 7) {
            task.choices = choices;
            task.n_choices = 3;
        }
        task.on_text = record_text;
        task.on_done = record_done;
        task.user = memset(&records[i], 0, sizeof *records);
        CHECK_EQ(glm4v_engine_submit(engine, &task, &requests[i], NULL), 0);
        if (!together)
            CHECK_EQ(glm4v_request_wait(requests[i], UINT64_MAX), 0);
    }
    for (uint32_t i = 0; i < CROWD; i++) {
        CHECK_EQ(glm4v_request_wait(requests[i], 60000000000u), 0);
        glm4v_request_unref(&requests[i]);
    }
}

static void company_does_not_change_a_byte(void)
{
    static record alone[CROWD], together[CROWD];
    static const uint32_t batches[] = { 2, 5, 16 };
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    run_crowd(engine, alone, false);
    glm4v_engine_close(&engine);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        engine = fixture_engine(&(glm4v_engine_options) { .max_batch = batches[i] });
        REQUIRE(engine);
        run_crowd(engine, together, true);
        glm4v_engine_close(&engine);
        for (int k = 0; k < CROWD; k++) {
            CHECK_EQ(together[k].status, 0);
            CHECK_STR(together[k].answer, alone[k].answer);
            CHECK_STR(together[k].text, alone[k].text);
        }
    }
    for (int k = 0; k < CROWD; k++)
        if (k % 4 < 2) {
            check_report(alone[k].answer);
            CHECK_STR(alone[k].text, alone[k].answer);
        }
}

static void check_refused(glm4v_engine *engine, const char *schema, uint32_t max_tokens, int code,
                          const char *why)
{
    const glm4v_task task = asking(schema, max_tokens);
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), code);
    CHECK_CONTAINS(err.msg, why);
    CHECK_EQ(glm4v_engine_check(engine, &task, &err), code);
}

static void what_cannot_be_is_refused_before_anything_runs(void)
{
    static const char *const words[] = { "a" };
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_engine_stats stats = { 0 };
    glm4v_error err = { 0 };
    glm4v_task task = asking(FIXED, 64);
    REQUIRE(engine);
    check_refused(engine, "{\"type\":", 64, GLM4V_ERR_INVALID, "json_schema");
    check_refused(engine, "{\"type\":\"string\",\"pattern\":\"a*\"}", 64, GLM4V_ERR_UNSUPPORTED,
                  "json_schema: $: \"pattern\" is not supported");
    check_refused(engine, FIXED, 8, GLM4V_ERR_INVALID, "does not fit max_tokens, which is 8");
    task.choices = words;
    task.n_choices = 1;
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "choices and a json_schema");
    glm4v_engine_get_stats(engine, &stats, NULL);
    CHECK_EQ(stats.submitted, 0);
    task.choices = NULL;
    task.n_choices = 0;
    CHECK_EQ(glm4v_engine_check(engine, &task, &err), 0);
    glm4v_engine_close(&engine);
    engine = fixture_engine(&(glm4v_engine_options) { .context_length = 40, .prefix_tokens = 8 });
    REQUIRE(engine);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "shortest answer of the json_schema");
    glm4v_engine_close(&engine);
}

typedef struct {
    record record;
    uint64_t calls[512]; /* allocations before each piece of text */
} counter;

static void count_calls(void *user, glm4v_text_part part, const char *text)
{
    counter *c = user;
    int n = atomic_fetch_add(&c->record.n_text, 1);
    if (n < 512)
        c->calls[n] = glm4v_mem_calls();
}

static void counter_done(void *user, const glm4v_result *result)
{
    record_done(&((counter *)user)->record, result);
}

static void a_step_through_a_schema_allocates_nothing(void)
{
    static counter c;
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_request *request = NULL;
    glm4v_task task = asking(REPORT, 90);
    REQUIRE(engine);
    task.temperature = 1;
    task.seed = 5;
    task.on_text = count_calls;
    task.on_done = counter_done;
    task.user = &c;
    CHECK_EQ(glm4v_engine_submit(engine, &task, &request, NULL), 0);
    CHECK_EQ(glm4v_request_wait(request, UINT64_MAX), 0);
    glm4v_request_unref(&request);
    CHECK(atomic_load(&c.record.n_text) > 10);
    for (int i = 1; i < atomic_load(&c.record.n_text); i++)
        CHECK_EQ(c.calls[i], c.calls[0]);
    glm4v_engine_close(&engine);
}

static void every_allocation_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    const glm4v_task task = asking(REPORT, 90);
    glm4v_error err = { 0 };
    glm4v_result *result = NULL;
    int rc = GLM4V_ERR_NOMEM;
    REQUIRE(engine);
    for (uint64_t nth = 1; rc == GLM4V_ERR_NOMEM && nth < 400; nth++) {
        glm4v_mem_fail_at(nth, false);
        rc = glm4v_describe(engine, &task, &result, &err);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || (rc == GLM4V_ERR_NOMEM && err.code == rc && err.msg[0]));
    }
    CHECK_EQ(rc, 0);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    CHECK_EQ(glm4v_mem_live(), live);
}

int main(int argc, char **argv)
{
    const char *family = argc > 1 ? argv[1] : "";
    if (!fixture_open(&(tiny_model_options) { .glm45 = !strcmp(family, "glm45"),
                                              .chatglm4v = !strcmp(family, "chatglm4v") }))
        return 1;
    TEST(answers_match_whatever_the_model_likes);
    TEST(a_request_that_reasons_reports_afterwards);
    TEST(the_first_token_leaves_room_in_the_context);
    TEST(forced_tokens_skip_the_model);
    TEST(company_does_not_change_a_byte);
    if (!*family) {
        TEST(what_cannot_be_is_refused_before_anything_runs);
        TEST(a_step_through_a_schema_allocates_nothing);
        TEST(every_allocation_may_fail);
    }
    fixture_close();
    return test_end();
}
