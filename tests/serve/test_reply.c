/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers that a client reads: those of this project's server, of others, and what is none. */
#include "base/mem.h"
#include "base/utf8.h"
#include "openai/reply.h"
#include "openai/result.h"
#include "test.h"

static int event(openai_reply *r, const char *json)
{
    glm4v_error err = { 0 };
    const int rc = openai_reply_event(r, json, strlen(json), NULL, &err);
    CHECK((rc != 0) == (err.msg[0] != 0));
    return rc;
}

static void a_stream_of_this_server_is_read(void)
{
    static const glm4v_box box = { 3, 4, 5, 6, "dent" };
    static const double shares[] = { 0.25, 0.75 };
    static const char *const choices[] = { "good", "bad" };
    const glm4v_result result = { .text = "bad",
                                  .reasoning = "hm",
                                  .box = "[[1]]",
                                  .prompt_tokens = 9,
                                  .vision_tokens = 5,
                                  .cached_tokens = 2,
                                  .drafted_tokens = 6,
                                  .accepted_tokens = 4,
                                  .output_tokens = 3,
                                  .timings = { .vision = 2000000, .prefill = 3000000 },
                                  .boxes = &box,
                                  .n_boxes = 1,
                                  .action = { .action = "" },
                                  .probability = 0.75,
                                  .probabilities = shares,
                                  .n_probabilities = 2 };
    const openai_head head = { "id", "m", "f", 1 };
    const openai_answer answer = { .result = &result, .text = "bad", .choices = choices };
    openai_reply r = { .done = false };
    glm4v_text_out out[4] = { { 0 } };
    glm4v_box boxes[GLM4V_MAX_BOXES];
    double read[2];
    openai_write_chunk(&out[0], &head, GLM4V_TEXT_REASONING, "hm", true);
    openai_write_chunk(&out[1], &head, GLM4V_TEXT_ANSWER, "bad", false);
    openai_write_end(&out[2], &head, &answer);
    openai_write_usage(&out[3], &head, &result);
    for (int i = 0; i < 4; i++) {
        CHECK(!event(&r, out[i].data));
        glm4v_free(out[i].data);
    }
    CHECK(!event(&r, "[DONE]") && r.done && r.finished && !r.cut);
    CHECK_STR(r.content.data, "bad");
    CHECK_STR(r.reasoning.data, "hm");
    CHECK_STR(r.model, "m");
    CHECK(r.prompt_tokens == 9 && r.vision_tokens == 5 && r.cached_tokens == 2);
    CHECK(r.accepted_tokens == 4 && r.rejected_tokens == 2);
    CHECK(r.output_tokens == 3 && r.vision_time == 2000000 && r.prefill_time == 3000000);
    CHECK(openai_reply_shares(&r, choices, 2, read) && read[0] == 0.25 && read[1] == 0.75);
    REQUIRE(openai_reply_boxes(&r, boxes) == 1);
    CHECK(boxes[0].x == 3 && boxes[0].height == 6 && !strcmp(boxes[0].label, "dent"));
    CHECK_STR(openai_reply_box(&r), "[[1]]");
    openai_reply_close(&r);
}

static void others_leave_out_what_they_like(void)
{
    openai_reply r = { .done = false };
    openai_piece piece;
    glm4v_error err = { 0 };
    static const char second[] = "{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}";
    CHECK(!event(&r, "{\"choices\":[]}"));
    CHECK(!event(&r, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}"));
    CHECK(!event(&r, "{\"choices\":[{\"delta\":{\"reasoning\":\"t\",\"content\":\"a\"}}]}"));
    CHECK(!openai_reply_event(&r, second, strlen(second), &piece, &err));
    CHECK(!strcmp(piece.content, "b") && !*piece.reasoning);
    CHECK(!event(&r, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"usage\":null}"));
    CHECK(r.finished && r.cut && !r.done);
    CHECK_STR(r.content.data, "ab");
    CHECK_STR(r.reasoning.data, "t");
    CHECK_STR(r.model, "");
    openai_reply_close(&r);
}

static void what_is_no_answer_is_refused(void)
{
    static const char *const wrong[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"choices\":{}}",
        "{\"choices\":[{}]}",
        "{\"choices\":[{\"delta\":\"a\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":7}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"choices\":[]}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        openai_reply r = { .done = false };
        CHECK_EQ(event(&r, wrong[i]), GLM4V_ERR_FORMAT);
        openai_reply_close(&r);
    }
    openai_reply r = { .done = false };
    CHECK_EQ(event(&r, "{\"error\":{\"message\":\"m\"}}"), GLM4V_ERR_IO);
    CHECK_EQ(event(&r, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}"), GLM4V_ERR_IO);
    openai_reply_close(&r);
}

static void an_answer_has_a_bound(void)
{
    openai_reply r = { .done = false };
    glm4v_text_out json = { 0 };
    glm4v_text_add(&json, "{\"choices\":[{\"delta\":{\"content\":\"", 33);
    for (int i = 0; i < 1000; i++)
        glm4v_text_add(&json, "0123456789", 10);
    glm4v_text_add(&json, "\"}}]}", 5);
    int rc = 0;
    for (int i = 0; !rc && i < 1000; i++)
        rc = event(&r, json.data);
    CHECK_EQ(rc, GLM4V_ERR_FORMAT);
    CHECK(r.content.size > OPENAI_MAX_REPLY_TEXT - 10001);
    CHECK(r.content.size <= OPENAI_MAX_REPLY_TEXT);
    glm4v_free(json.data);
    openai_reply_close(&r);
}

static void a_whole_answer_is_read(void)
{
    static const char json[] = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"a\"},"
                               "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":4,"
                               "\"completion_tokens\":-1}}";
    static const char endless[] = "{\"choices\":[{\"message\":{\"content\":\"a\"}}]}";
    openai_reply r = { .done = false };
    glm4v_error err = { 0 };
    CHECK(!openai_reply_whole(&r, json, strlen(json), &err));
    CHECK(r.done && r.prompt_tokens == 4 && !r.output_tokens);
    CHECK_STR(r.content.data, "a");
    openai_reply_close(&r);
    CHECK_EQ(openai_reply_whole(&r, endless, strlen(endless), &err), GLM4V_ERR_FORMAT);
    openai_reply_close(&r);
}

/* ---- shares ---- */

static bool shares_of(const char *tokens, const char *const *choices, double *shares)
{
    char json[2000];
    openai_reply r = { .done = false };
    snprintf(json, sizeof json,
             "{\"choices\":[{\"delta\":{\"content\":\"\"},\"logprobs\":{\"content\":[%s]}}]}",
             tokens);
    CHECK(!event(&r, json));
    const bool told = openai_reply_shares(&r, choices, 2, shares);
    openai_reply_close(&r);
    return told;
}

#define TOKEN(text, p, others)                                                                     \
    "{\"token\":\"" text "\",\"logprob\":" p ",\"top_logprobs\":[" others "]}"
#define OTHER(text, p) "{\"token\":\"" text "\",\"logprob\":" p "}"

static void shares_need_every_choice(void)
{
    static const char *const ab[] = { "ab", "cd" }, *const alike[] = { "a", "ab" };
    double s[2];
    /* the answer in two tokens, the other choice in one instead of the first */
    CHECK(shares_of(TOKEN("a", "-1", OTHER("cd", "-2.5")) "," TOKEN("b", "-0.5", ""), ab, s));
    CHECK(fabs(s[0] - 1 / (1 + exp(-1))) < 1e-9 && fabs(s[0] + s[1] - 1) < 1e-12);
    /* only a part of it is told */
    CHECK(!shares_of(TOKEN("a", "-1", OTHER("c", "-2.5")) "," TOKEN("b", "-0.5", ""), ab, s));
    CHECK(!shares_of(TOKEN("a", "-1", OTHER("cd", "-2.5")), ab, s));
    CHECK(!shares_of(TOKEN("ab", "\"x\"", OTHER("cd", "-2")), ab, s));
    CHECK(!shares_of(TOKEN("ab", "3", OTHER("cd", "-2")), ab, s));
    CHECK(!shares_of("", ab, s));
    CHECK(!shares_of("{},7,null", ab, s));
    /* whether the answer ends behind it is not told */
    CHECK(!shares_of(TOKEN("a", "-1", OTHER("ab", "-2.5")), alike, s));
    CHECK(shares_of(TOKEN("ab", "0", OTHER("cd", "-9999")), ab, s) && s[0] == 1 && s[1] == 0);
}

static void told_shares_must_be_shares(void)
{
    static const char *const choices[] = { "a", "b" };
    static const struct {
        const char *list;
        bool good;
    } rows[] = {
        { "[{\"choice\":\"b\",\"probability\":0.25},{\"choice\":\"a\",\"probability\":0.75}]",
          true },
        { "[{\"choice\":\"a\",\"probability\":1}]", false },
        { "[{\"choice\":\"b\",\"probability\":0.25},{\"choice\":\"a\",\"probability\":0.25}]",
          false },
        { "[{\"choice\":\"b\",\"probability\":-1},{\"choice\":\"a\",\"probability\":2}]", false },
        { "7", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[400];
        double s[2];
        openai_reply r = { .done = false };
        snprintf(json, sizeof json, "{\"choices\":[],\"glm4v\":{\"probabilities\":%s}}",
                 rows[i].list);
        CHECK(!event(&r, json));
        CHECK(openai_reply_shares(&r, choices, 2, s) == rows[i].good);
        if (rows[i].good)
            CHECK(s[0] == 0.75 && s[1] == 0.25);
        openai_reply_close(&r);
    }
}

static void boxes_that_are_none_are_left_out(void)
{
    openai_reply r = { .done = false };
    glm4v_box boxes[GLM4V_MAX_BOXES];
    CHECK(!event(&r, "{\"choices\":[],\"glm4v\":{\"boxes\":[7,{},{\"x\":-1,\"y\":0,\"width\":1,"
                     "\"height\":1},{\"x\":0,\"y\":0,\"width\":0,\"height\":1},{\"x\":1e9,\"y\":0,"
                     "\"width\":1,\"height\":1},{\"x\":1,\"y\":2,\"width\":3,\"height\":4}]}}"));
    REQUIRE(openai_reply_boxes(&r, boxes) == 1);
    CHECK(boxes[0].y == 2 && !*boxes[0].label);
    openai_reply_close(&r);
}

/* ---- failures ---- */

static void check_reason(const char *body, const char *expected)
{
    char reason[OPENAI_MAX_REASON];
    openai_read_reason(reason, body, strlen(body));
    CHECK_STR(reason, expected);
}

static void a_reason_is_found_in_every_form(void)
{
    check_reason("{\"error\":{\"message\":\"a\"}}", "a");
    check_reason("{\"error\":\"b\"}", "b");
    check_reason("{\"object\":\"error\",\"message\":\"c\"}", "c");
    check_reason("{\"detail\":\"d\"}", "d");
    check_reason("Bad Gateway\nmore", "Bad Gateway");
    check_reason("", "");
    check_reason("{\"error\":{\"message\":\"a\\n\\u001b[31mb\\u202e\"}}", "a  [31mb ");
}

static void a_reason_is_not_cut_within_a_character(void)
{
    for (size_t before = 0; before < 4; before++) {
        char body[4000] = "", reason[OPENAI_MAX_REASON];
        memset(body, 'x', before);
        for (size_t i = 0; i < 300; i++)
            strcat(body, "\xE2\x82\xAC");
        body[before + 400] = 0; /* the body itself may end within one */
        openai_read_reason(reason, body, strlen(body));
        CHECK(glm4v_utf8_valid(reason, strlen(reason), NULL));
        CHECK(strlen(reason) > OPENAI_MAX_REASON - 8);
    }
}

static void the_first_model_is_taken(void)
{
    char model[OPENAI_MAX_MODEL_NAME];
    glm4v_error err = { 0 };
    static const char list[] = "{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}";
    static const char *const wrong[] = { "{\"data\":[]}", "{\"data\":[{\"id\":3}]}", "{}", "x" };
    CHECK(!openai_read_models(model, list, strlen(list), &err));
    CHECK_STR(model, "a");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(openai_read_models(model, wrong[i], strlen(wrong[i]), &err), GLM4V_ERR_FORMAT);
}

static void every_allocation_may_fail(void)
{
    static const char json[] = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"abc\","
                               "\"reasoning_content\":\"d\"},\"finish_reason\":\"stop\"}]}";
    for (uint64_t nth = 1; nth < 100; nth++) {
        openai_reply r = { .done = false };
        glm4v_error err = { 0 };
        glm4v_mem_fail_at(nth, false);
        const int rc = openai_reply_whole(&r, json, strlen(json), &err);
        glm4v_mem_fail_at(0, false);
        openai_reply_close(&r);
        if (!rc) {
            CHECK(nth > 2);
            return;
        }
        CHECK_EQ(rc, GLM4V_ERR_NOMEM);
    }
    test_fail(__FILE__, __LINE__, "it never succeeds");
}

int main(void)
{
    TEST(a_stream_of_this_server_is_read);
    TEST(others_leave_out_what_they_like);
    TEST(what_is_no_answer_is_refused);
    TEST(an_answer_has_a_bound);
    TEST(a_whole_answer_is_read);
    TEST(shares_need_every_choice);
    TEST(told_shares_must_be_shares);
    TEST(boxes_that_are_none_are_left_out);
    TEST(a_reason_is_found_in_every_form);
    TEST(a_reason_is_not_cut_within_a_character);
    TEST(the_first_model_is_taken);
    TEST(every_allocation_may_fail);
    return test_end();
}
