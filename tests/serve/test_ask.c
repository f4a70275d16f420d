/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests that a client writes: the server's reader takes them as they were meant. */
#include "base/mem.h"
#include "openai/ask.h"
#include "openai/request.h"
#include "test.h"

static const openai_limits limits = {
    .bytes = 1 << 20, .pictures = 8, .max_tokens = 8192, .tokens = 10
};
static const openai_dialect plain = { .no_logprobs = true }; /* glm4v refuses those */

typedef struct {
    glm4v_text_out json;
    openai_request request;
    int rc;
} outcome;

static outcome write_and_read(const openai_ask *ask, const openai_dialect *dialect)
{
    char parameter[OPENAI_MAX_PARAMETER];
    glm4v_error err = { 0 };
    outcome o = { .rc = 0 };
    openai_write_ask(&o.json, ask, "a \"model\"", dialect);
    CHECK(!o.json.failed);
    o.rc = openai_request_read(&o.request, o.json.data, o.json.size, &limits, parameter, &err);
    if (o.rc)
        test_fail(__FILE__, __LINE__, "%s: %s", err.msg, o.json.data);
    return o;
}

static void close_it(outcome *o)
{
    openai_request_close(&o->request);
    glm4v_free(o->json.data);
}

static void a_question_arrives_with_its_options(void)
{
    const openai_ask ask = { .system = "be \"brief\"",
                             .prompt = "what?\n\xC3\xA4",
                             .max_tokens = 7,
                             .max_reasoning_tokens = 11,
                             .top_k = 3,
                             .temperature = 0.5,
                             .top_p = 0.25,
                             .repetition_penalty = 1.5,
                             .seed = 1234567890123,
                             .thinking = true };
    outcome o = write_and_read(&ask, &plain);
    const openai_request *q = &o.request;
    CHECK_STR(q->model, "a \"model\"");
    CHECK_STR(q->system, ask.system);
    CHECK(q->n_turns == 1 && !q->n_pictures);
    CHECK_STR(q->turns[0].user, ask.prompt);
    CHECK(q->max_tokens == 18 && q->max_reasoning_tokens == 11 && q->top_k == 3);
    CHECK(q->temperature == 0.5 && q->top_p == 0.25 && q->repetition_penalty == 1.5);
    CHECK(q->seed == 1234567890123 && q->thinking && q->stream && q->usage);
    close_it(&o);
}

static void what_is_said_anyway_is_left_out(void)
{
    const openai_ask ask = { .prompt = "q", .max_tokens = 7, .top_p = 1 };
    outcome o = write_and_read(&ask, &plain);
    static const char *const keys[] = { "top_p", "top_k",    "seed",          "system",
                                        "repet", "logprobs", "structured_out" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        CHECK(!strstr(o.json.data, keys[i]));
    CHECK(!o.request.thinking && strstr(o.json.data, "\"enable_thinking\":false"));
    close_it(&o);
}

/* Of all lengths of the last group. */
static void pictures_are_data_urls(void)
{
    static const openai_file files[] = { { "f", 1, "image/png", 0 },
                                         { "fo", 2, "image/png", 0 },
                                         { "foo", 3, "image/jpeg", 0 },
                                         { "\xFF\x00\xFE\x01", 4, "image/jpeg", 0 } };
    const openai_ask ask = { .prompt = "q", .files = files, .n_files = 4, .max_tokens = 1 };
    outcome o = write_and_read(&ask, &plain);
    REQUIRE(o.request.n_pictures == 4 && !o.request.clip);
    CHECK_STR(o.request.pictures[0].url, "data:image/png;base64,Zg==");
    CHECK_STR(o.request.pictures[1].url, "data:image/png;base64,Zm8=");
    CHECK_STR(o.request.pictures[2].url, "data:image/jpeg;base64,Zm9v");
    CHECK_STR(o.request.pictures[3].url, "data:image/jpeg;base64,/wD+AQ==");
    close_it(&o);
}

static void a_clip_has_its_times(void)
{
    static const openai_file files[] = { { "a", 1, "image/png", 0 }, { "b", 1, "image/png", 0.5 } };
    const openai_ask ask = {
        .prompt = "q", .files = files, .n_files = 2, .clip = true, .max_tokens = 1
    };
    outcome o = write_and_read(&ask, &plain);
    CHECK(o.request.clip && o.request.n_pictures == 2 && o.request.pictures[1].seconds == 0.5);
    close_it(&o);
    o = write_and_read(&ask, &(openai_dialect) { .no_clips = true });
    CHECK(!o.request.clip && o.request.n_pictures == 2);
    close_it(&o);
}

static const char *const choices[] = { "good", "a \"bad\" one that is longer than the rest" };

static void shapes_are_said_in_both_ways(void)
{
    openai_ask ask = { .prompt = "q", .choices = choices, .n_choices = 2, .max_tokens = 2 };
    openai_dialect dialect = plain;
    for (int older = 0; older < 2; older++) {
        dialect.older_shapes = older;
        outcome o = write_and_read(&ask, &dialect);
        REQUIRE(o.request.n_choices == 2);
        CHECK_STR(o.request.choices[1], choices[1]);
        CHECK(o.request.max_tokens >= strlen(choices[1])); /* no choice is cut */
        CHECK((strstr(o.json.data, "guided_choice") != NULL) == older);
        close_it(&o);
    }
    ask = (openai_ask) { .prompt = "q", .json_schema = "{\"type\":\"object\"}", .max_tokens = 2 };
    for (int older = 0; older < 2; older++) {
        dialect.older_shapes = older;
        outcome o = write_and_read(&ask, &dialect);
        REQUIRE(o.request.json_schema);
        CHECK_STR(o.request.json_schema, ask.json_schema);
        CHECK((strstr(o.json.data, "guided_json") != NULL) == older);
        close_it(&o);
    }
}

static void a_refusal_is_followed_by_other_words(void)
{
    const openai_ask ask = { .prompt = "q", .choices = choices, .n_choices = 2, .clip = true };
    openai_dialect d = { .no_clips = false };
    CHECK(openai_other_dialect(&d, &ask, "\"logprobs\" is not supported"));
    CHECK(d.no_logprobs && !d.older_shapes && !d.no_clips);
    CHECK(openai_other_dialect(&d, &ask, "no such field: structured_outputs"));
    CHECK(d.older_shapes && !d.no_clips);
    CHECK(openai_other_dialect(&d, &ask, "parts of type \"video\" are not supported"));
    CHECK(d.no_clips && !d.no_thinking);
    CHECK(openai_other_dialect(&d, &ask, "logprobs, video, structured_outputs") && d.no_thinking);
    CHECK(!openai_other_dialect(&d, &ask, "logprobs, video, structured_outputs"));
    d = (openai_dialect) { .no_clips = false };
    CHECK(openai_other_dialect(&d, &ask, "video is not known") && d.no_clips);
    d = (openai_dialect) { .no_clips = false };
    CHECK(openai_other_dialect(&d, &ask, "Unknown parameter: 'chat_template_kwargs'."));
    CHECK(d.no_thinking && !d.older_shapes && !d.no_logprobs && !d.no_clips);
    const openai_ask simple = { .prompt = "q", .max_tokens = 1 };
    openai_ask slow = simple;
    slow.thinking = true;
    slow.max_reasoning_tokens = 5;
    outcome o = write_and_read(&slow, &d);
    CHECK(!strstr(o.json.data, "chat_template_kwargs") && !strstr(o.json.data, "max_reasoning"));
    close_it(&o);
    CHECK(!openai_other_dialect(&d, &simple, "logprobs"));
    d = (openai_dialect) { .no_clips = false };
    CHECK(openai_other_dialect(&d, &simple, "a field is not known") && d.no_thinking);
}

static void every_allocation_may_fail(void)
{
    static char bytes[5000];
    const openai_file file = { bytes, sizeof bytes, "image/png", 0 };
    const openai_ask ask = {
        .prompt = "q", .files = &file, .n_files = 1, .choices = choices, .n_choices = 2
    };
    const openai_dialect dialect = { .no_clips = false };
    for (uint64_t nth = 1; nth < 100; nth++) {
        glm4v_text_out out = { 0 };
        glm4v_mem_fail_at(nth, false);
        openai_write_ask(&out, &ask, "m", &dialect);
        glm4v_mem_fail_at(0, false);
        const bool failed = out.failed;
        glm4v_free(out.data);
        if (!failed) {
            CHECK(nth > 1);
            return;
        }
    }
    test_fail(__FILE__, __LINE__, "it never succeeds");
}

int main(void)
{
    TEST(a_question_arrives_with_its_options);
    TEST(what_is_said_anyway_is_left_out);
    TEST(pictures_are_data_urls);
    TEST(a_clip_has_its_times);
    TEST(shapes_are_said_in_both_ways);
    TEST(a_refusal_is_followed_by_other_words);
    TEST(every_allocation_may_fail);
    return test_end();
}
