/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests of chat completions, read from JSON: what clients send, and every bound (H-01, H-05). */
#include "openai/request.h"
#include "test.h"

static const openai_limits limits = {
    .bytes = 1 << 20, .pictures = 4, .max_tokens = 100, .tokens = 10
};

typedef struct {
    openai_request request;
    char parameter[OPENAI_MAX_PARAMETER];
    glm4v_error err;
    int rc;
} outcome;

static outcome read_json(const char *json)
{
    outcome o = { .rc = 0 };
    o.rc = openai_request_read(&o.request, json, strlen(json), &limits, o.parameter, &o.err);
    return o;
}

/* A request with one question, and these options before it. */
static outcome read_with(const char *options)
{
    char json[8192];
    snprintf(json, sizeof json, "{%s%s\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
             options, *options ? "," : "");
    return read_json(json);
}

static void close_it(outcome *o)
{
    openai_request_close(&o->request);
    CHECK(!o->request.root && !o->request.texts && !o->request.pictures);
}

static void check_refused(const char *options, int code, const char *parameter)
{
    outcome o = read_with(options);
    if (o.rc != code || strcmp(o.parameter, parameter) || !o.err.msg[0])
        test_fail(__FILE__, __LINE__, "%s: %d \"%s\" \"%s\", expected %d \"%s\"", options, o.rc,
                  o.parameter, o.err.msg, code, parameter);
    close_it(&o);
}

static void check_taken(const char *options)
{
    outcome o = read_with(options);
    if (o.rc)
        test_fail(__FILE__, __LINE__, "%s: %s", options, o.err.msg);
    close_it(&o);
}

static void a_question_alone_has_every_default(void)
{
    outcome o = read_with("");
    const openai_request *q = &o.request;
    REQUIRE(!o.rc);
    CHECK(!q->model && !q->system && q->n_turns == 1 && !q->n_pictures && !q->clip);
    CHECK_STR(q->turns[0].user, "q");
    CHECK(!q->turns[0].assistant);
    CHECK_EQ(q->max_tokens, 10);
    CHECK_EQ(q->max_reasoning_tokens, 10);
    CHECK(q->temperature == 0 && q->top_p == 1 && q->repetition_penalty == 1 && !q->top_k);
    CHECK(!q->has_seed && !q->stream && !q->usage && !q->thinking && q->reasoning);
    CHECK(!q->n_stops && !q->n_choices && !q->json_schema && !q->n_ignored);
    close_it(&o);
}

static void options_are_taken_as_given(void)
{
    outcome o =
        read_with("\"model\":\"m\",\"max_tokens\":7,\"max_completion_tokens\":8,"
                  "\"temperature\":0.5,\"top_p\":0.9,\"top_k\":3,\"repetition_penalty\":1.5,"
                  "\"seed\":-1,\"stop\":[\"a\",\"b\"],\"stream\":true,\"stream_options\":"
                  "{\"include_usage\":true},\"chat_template_kwargs\":{\"enable_thinking\":"
                  "true},\"return_reasoning\":false,\"frequency_penalty\":0.2,\"n\":1,"
                  "\"user\":\"u\",\"tools\":[],\"logprobs\":false");
    const openai_request *q = &o.request;
    REQUIRE(!o.rc);
    CHECK_STR(q->model, "m");
    CHECK_EQ(q->max_tokens, 8);
    CHECK(q->temperature == 0.5 && q->top_p == 0.9 && q->top_k == 3);
    CHECK(q->repetition_penalty == 1.5 && q->has_seed && q->seed == UINT64_MAX);
    CHECK(q->n_stops == 2 && !strcmp(q->stops[1], "b"));
    CHECK(q->stream && q->usage && q->thinking && !q->reasoning);
    REQUIRE(q->n_ignored == 1);
    CHECK_STR(q->ignored[0], "frequency_penalty");
    close_it(&o);
}

static void null_is_the_same_as_nothing(void)
{
    check_taken(
        "\"model\":null,\"max_tokens\":null,\"temperature\":null,\"seed\":null,\"stop\":null,"
        "\"stream\":null,\"stream_options\":null,\"response_format\":null,"
        "\"structured_outputs\":null,\"guided_choice\":null,\"tools\":null,\"n\":null");
}

static void numbers_have_bounds(void)
{
    static const struct {
        const char *key, *good[3], *bad[7];
    } rows[] = {
        { "max_tokens", { "1", "100" }, { "0", "101", "-1", "1e308", "1.5", "\"1\"", "-0.0" } },
        { "max_completion_tokens", { "1", "100" }, { "0", "101", "9223372036854775807" } },
        { "max_reasoning_tokens", { "1", "100" }, { "0", "101", "true" } },
        { "temperature", { "0", "2", "-0" }, { "-0.1", "2.1", "1e308", "\"NaN\"", "[]" } },
        { "top_p", { "1", "0.00001" }, { "0", "1.1", "-1", "-0", "\"1\"" } },
        { "top_k", { "0", "1000000" }, { "-1", "1000001", "0.5" } },
        { "repetition_penalty", { "1", "2" }, { "0.9", "2.1" } },
        { "seed", { "-9223372036854775808", "9223372036854775807" }, { "1.5", "\"7\"", "{}" } },
        { "n", { "1" }, { "0", "2", "1.0", "\"1\"" } },
    };
    char options[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t k = 0; k < 3 && rows[i].good[k]; k++) {
            snprintf(options, sizeof options, "\"%s\":%s", rows[i].key, rows[i].good[k]);
            check_taken(options);
        }
        for (size_t k = 0; k < 7 && rows[i].bad[k]; k++) {
            snprintf(options, sizeof options, "\"%s\":%s", rows[i].key, rows[i].bad[k]);
            check_refused(options, GLM4V_ERR_FORMAT, rows[i].key);
        }
    }
    check_refused("\"temperature\":NaN", GLM4V_ERR_FORMAT, "");
    check_refused("\"temperature\":1e309", GLM4V_ERR_FORMAT, "");
    check_refused("\"seed\":9223372036854775808", GLM4V_ERR_FORMAT, "");
}

static void what_cannot_be_done_is_refused_by_its_name(void)
{
    check_refused("\"tools\":[{}]", GLM4V_ERR_UNSUPPORTED, "tools");
    check_refused("\"logprobs\":true", GLM4V_ERR_UNSUPPORTED, "logprobs");
    check_refused("\"guided_regex\":\"a\"", GLM4V_ERR_UNSUPPORTED, "guided_regex");
    check_refused("\"response_format\":{\"type\":\"json_object\"}", GLM4V_ERR_UNSUPPORTED,
                  "response_format");
    check_refused("\"response_format\":{\"type\":\"xml\"}", GLM4V_ERR_INVALID, "response_format");
    check_refused("\"response_format\":3", GLM4V_ERR_INVALID, "response_format");
    check_refused("\"structured_outputs\":{\"regex\":\"a\"}", GLM4V_ERR_UNSUPPORTED,
                  "structured_outputs");
    check_refused("\"stream_options\":[]", GLM4V_ERR_FORMAT, "stream_options");
}

static void stop_texts_have_bounds(void)
{
    char options[1024] = "\"stop\":[";
    char text[300];
    check_taken("\"stop\":\"x\"");
    check_refused("\"stop\":\"\"", GLM4V_ERR_INVALID, "stop");
    check_refused("\"stop\":3", GLM4V_ERR_INVALID, "stop");
    check_refused("\"stop\":[\"a\",null]", GLM4V_ERR_INVALID, "stop");
    for (int i = 0; i < OPENAI_MAX_STOPS; i++)
        strcat(options, i ? ",\"x\"" : "\"x\"");
    strcat(options, "]");
    check_taken(options);
    options[strlen(options) - 1] = 0;
    strcat(options, ",\"y\"]");
    check_refused(options, GLM4V_ERR_INVALID, "stop");
    memset(text, 'a', sizeof text);
    snprintf(options, sizeof options, "\"stop\":\"%.*s\"", OPENAI_MAX_STOP_BYTES, text);
    check_taken(options);
    snprintf(options, sizeof options, "\"stop\":\"%.*s\"", OPENAI_MAX_STOP_BYTES + 1, text);
    check_refused(options, GLM4V_ERR_INVALID, "stop");
}

static void choices_come_in_three_ways_and_one_at_a_time(void)
{
    static const char *const ways[] = { "\"guided_choice\":[\"good\",\"bad\"]",
                                        "\"structured_outputs\":{\"choice\":[\"good\",\"bad\"]}" };
    for (size_t i = 0; i < 2; i++) {
        outcome o = read_with(ways[i]);
        CHECK(!o.rc && o.request.n_choices == 2);
        CHECK_STR(o.request.choices[1], "bad");
        close_it(&o);
    }
    check_refused("\"guided_choice\":[]", GLM4V_ERR_INVALID, "guided_choice");
    check_refused("\"guided_choice\":\"a\"", GLM4V_ERR_INVALID, "guided_choice");
    check_refused("\"guided_choice\":[1]", GLM4V_ERR_INVALID, "guided_choice");
    check_refused("\"guided_choice\":[\"a\"],\"structured_outputs\":{\"choice\":[\"a\"]}",
                  GLM4V_ERR_INVALID, "guided_choice");
    check_refused("\"guided_choice\":[\"a\"],\"guided_json\":{}", GLM4V_ERR_INVALID, "guided_json");
}

static void choices_have_a_bound(void)
{
    char options[4096] = "\"guided_choice\":[\"x\"";
    for (int i = 1; i < GLM4V_MAX_CHOICES; i++)
        strcat(options, ",\"x\"");
    strcat(options, "]");
    check_taken(options);
    options[strlen(options) - 1] = 0;
    strcat(options, ",\"x\"]");
    check_refused(options, GLM4V_ERR_INVALID, "guided_choice");
}

static void a_schema_keeps_the_order_of_its_keys(void)
{
    static const char *const ways[] = {
        ("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"r\","
         "\"schema\":{\"type\":\"object\",\"b\":1,\"a\":2}}}"),
        "\"structured_outputs\":{\"json\":{\"type\":\"object\",\"b\":1,\"a\":2}}",
        "\"guided_json\":\"{\\\"type\\\":\\\"object\\\",\\\"b\\\":1,\\\"a\\\":2}\"",
    };
    for (size_t i = 0; i < 3; i++) {
        outcome o = read_with(ways[i]);
        CHECK(!o.rc);
        CHECK_STR(o.request.json_schema, "{\"type\":\"object\",\"b\":1,\"a\":2}");
        close_it(&o);
    }
    check_refused("\"response_format\":{\"type\":\"json_schema\"}", GLM4V_ERR_INVALID,
                  "response_format");
    check_taken("\"response_format\":{\"type\":\"text\"}");
}

static void pictures_are_urls_in_an_object_or_alone(void)
{
    outcome o = read_json(
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
        "{\"url\":\"data:a\",\"detail\":\"low\"}},{\"type\":\"text\",\"text\":\"one \"},"
        "{\"type\":\"image_url\",\"image_url\":\"data:b\"},\"two\"]}]}");
    const openai_request *q = &o.request;
    REQUIRE(!o.rc && q->n_pictures == 2);
    CHECK_STR(q->pictures[0].url, "data:a");
    CHECK_STR(q->pictures[1].url, "data:b");
    CHECK_STR(q->turns[0].user, "one two");
    CHECK_EQ(q->turns[0].n_pictures, 2);
    openai_request_drop_messages(&o.request);
    CHECK_STR(o.request.turns[0].user, "one two");
    CHECK(!o.request.n_pictures && !json_object_get(o.request.root, "messages"));
    close_it(&o);
}

static void a_conversation_becomes_turns(void)
{
    outcome o = read_json(
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s1\"},{\"role\":\"developer\","
        "\"content\":[{\"type\":\"text\",\"text\":\"s2\"}]},{\"role\":\"user\",\"content\":[{"
        "\"type\":\"image_url\",\"image_url\":\"u\"},\"q1\"]},{\"role\":\"assistant\",\"content\":"
        "\"<think>t</think><answer>a1</answer>\"},{\"role\":\"user\",\"content\":\"q2\"},{\"role\":"
        "\"user\",\"content\":[\"q3\",{\"type\":\"image_url\",\"image_url\":\"v\"}]}]}");
    const openai_request *q = &o.request;
    REQUIRE(!o.rc && q->n_turns == 2);
    CHECK_STR(q->system, "s1\ns2");
    CHECK_STR(q->turns[0].user, "q1");
    CHECK_STR(q->turns[0].assistant, "a1");
    CHECK_STR(q->turns[1].user, "q2\nq3");
    CHECK(!q->turns[1].assistant);
    CHECK(q->turns[0].first_picture == 0 && q->turns[0].n_pictures == 1);
    CHECK(q->turns[1].first_picture == 1 && q->turns[1].n_pictures == 1);
    close_it(&o);
}

static void reasoning_of_earlier_answers_is_left_out(void)
{
    static const char *const pairs[][2] = {
        { "<think>a</think>\\n<answer>do(x)</answer>", "do(x)" },
        { "<think>a</think>plain", "plain" },
        { "<think>never ends", "<think>never ends" },
        { "no <think>a</think>", "no <think>a</think>" },
        { "<think></think><answer>open", "open" },
    };
    char json[512];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        snprintf(json, sizeof json,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
                 "\"content\":\"%s\"},{\"role\":\"user\",\"content\":\"r\"}]}",
                 pairs[i][0]);
        outcome o = read_json(json);
        CHECK(!o.rc);
        CHECK_STR(o.request.turns[0].assistant, pairs[i][1]);
        CHECK_STR(o.request.turns[1].user, "r");
        close_it(&o);
    }
}

static void a_video_is_frames_with_times(void)
{
    outcome o = read_json("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\","
                          "\"video\":[\"a\",{\"url\":\"b\"}],\"times\":[0.5,2]},\"q\"]}]}");
    CHECK(!o.rc && o.request.clip && o.request.n_pictures == 2);
    CHECK(o.request.pictures[0].seconds == 0.5 && o.request.pictures[1].seconds == 2);
    close_it(&o);
    o = read_json("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":"
                  "[\"a\",\"b\"],\"fps\":4}]}]}");
    CHECK(!o.rc && o.request.pictures[1].seconds == 0.25);
    close_it(&o);
}

static void wrong_messages_are_refused(void)
{
    static const char *const wrong[] = {
        "3",
        "[]",
        "[3]",
        "[{}]",
        "[{\"role\":3}]",
        "[{\"role\":\"tool\",\"content\":\"x\"}]",
        "[{\"role\":\"user\"}]",
        "[{\"role\":\"user\",\"content\":3}]",
        "[{\"role\":\"user\",\"content\":[3]}]",
        "[{\"role\":\"user\",\"content\":[{}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"sound\"}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":3}}]}]",
        "[{\"role\":\"system\",\"content\":\"s\"}]",
        "[{\"role\":\"system\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"u\"}]},"
        "{\"role\":\"user\",\"content\":\"q\"}]",
        "[{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"q\"}]",
        "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]",
        "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"system\",\"content\":\"s\"}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[]}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\"],\"times\":[]}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\",\"b\"],\"times\":"
        "[1,1]}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\"],\"fps\":0}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\"]}]},{\"role\":"
        "\"assistant\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"q\"}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"u\"},{\"type\":"
        "\"video\",\"video\":[\"a\"]}]}]",
    };
    char json[1024];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(json, sizeof json, "{\"messages\":%s}", wrong[i]);
        outcome o = read_json(json);
        if (!o.rc || strcmp(o.parameter, "messages") || !o.err.msg[0])
            test_fail(__FILE__, __LINE__, "%s: %d, %s", wrong[i], o.rc, o.err.msg);
        close_it(&o);
    }
}

static void a_video_url_is_told_what_to_send(void)
{
    outcome o = read_json("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video_url\","
                          "\"video_url\":{\"url\":\"data:video/mp4;base64,AAAA\"}}]}]}");
    CHECK_EQ(o.rc, GLM4V_ERR_UNSUPPORTED);
    CHECK_STR(o.parameter, "messages");
    CHECK_CONTAINS(o.err.msg, "send frames as {\"type\": \"video\"");
    close_it(&o);
}

/* Of n messages, or n pictures of one. */
static outcome read_many(int n, bool pictures)
{
    char *json = malloc(200 + 100 * (size_t)n), *end = json;
    end += sprintf(end, pictures ? "{\"messages\":[{\"role\":\"user\",\"content\":["
                                 : "{\"messages\":[");
    for (int i = 0; i < n; i++)
        end += sprintf(end, "%s%s", i ? "," : "",
                       pictures ? "{\"type\":\"image_url\",\"image_url\":\"u\"}"
                                : "{\"role\":\"user\",\"content\":\"q\"}");
    sprintf(end, pictures ? "]}]}" : "]}");
    outcome o = read_json(json);
    free(json);
    return o;
}

static void messages_and_pictures_have_bounds(void)
{
    const int most[] = { OPENAI_MAX_MESSAGES, (int)limits.pictures };
    for (int kind = 0; kind < 2; kind++)
        for (int beyond = 0; beyond < 2; beyond++) {
            outcome o = read_many(most[kind] + beyond, kind == 1);
            CHECK_EQ(o.rc, beyond ? GLM4V_ERR_INVALID : 0);
            close_it(&o);
        }
}

static void turns_have_a_bound(void)
{
    for (int beyond = 0; beyond < 2; beyond++) {
        static char json[20000];
        char *end = json;
        end += sprintf(end, "{\"messages\":[");
        for (int i = 0; i < GLM4V_MAX_TURNS + beyond; i++)
            end += sprintf(end, "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
                                "\"content\":\"a\"},");
        sprintf(end, "{\"role\":\"user\",\"content\":\"q\"}]}");
        outcome o = read_json(json);
        CHECK_EQ(o.rc, beyond ? GLM4V_ERR_INVALID : 0);
        close_it(&o);
    }
}

static void depth_and_size_have_bounds(void)
{
    char deep[400] = "\"x\":";
    memset(deep + 4, '[', 100);
    memset(deep + 104, ']', 100);
    check_refused(deep, GLM4V_ERR_FORMAT, "");
    char *large = calloc(limits.bytes + 2, 1);
    memset(large, ' ', limits.bytes + 1);
    large[0] = '{';
    outcome o = read_json(large);
    CHECK_EQ(o.rc, GLM4V_ERR_FORMAT);
    close_it(&o);
    free(large);
    for (const char *const *text =
             (const char *const[]) { "", "[]", "3", "{", "{\"a\":1,\"a\":2}", "{} x", NULL };
         *text; text++) {
        o = read_json(*text);
        CHECK_EQ(o.rc, GLM4V_ERR_FORMAT);
        close_it(&o);
    }
}

int main(void)
{
    TEST(a_question_alone_has_every_default);
    TEST(options_are_taken_as_given);
    TEST(null_is_the_same_as_nothing);
    TEST(numbers_have_bounds);
    TEST(what_cannot_be_done_is_refused_by_its_name);
    TEST(stop_texts_have_bounds);
    TEST(choices_come_in_three_ways_and_one_at_a_time);
    TEST(choices_have_a_bound);
    TEST(a_schema_keeps_the_order_of_its_keys);
    TEST(pictures_are_urls_in_an_object_or_alone);
    TEST(a_conversation_becomes_turns);
    TEST(reasoning_of_earlier_answers_is_left_out);
    TEST(a_video_is_frames_with_times);
    TEST(a_video_url_is_told_what_to_send);
    TEST(wrong_messages_are_refused);
    TEST(messages_and_pictures_have_bounds);
    TEST(turns_have_a_bound);
    TEST(depth_and_size_have_bounds);
    return test_end();
}
