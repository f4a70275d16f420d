/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers that another program's model wrote: their parts, choices, schemas; and pictures that are
 * made smaller for it. */
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "test.h"

static const uint8_t pixel[3];
static const glm4v_image picture = { .data = pixel, .width = 200, .height = 100, .stride = 600 };

static glm4v_result *parse(const char *text, const glm4v_task *task)
{
    glm4v_result *result = NULL;
    glm4v_error err = { 0 };
    if (glm4v_answer_parse(&result, text, task, &err))
        test_fail(__FILE__, __LINE__, "%s: %s", text, err.msg);
    return result;
}

static void reasoning_and_answer_are_told_apart(void)
{
    static const struct {
        const char *text, *answer, *reasoning;
    } rows[] = {
        { "", "", "" },
        { "  a b \n", "a b", "" },
        { "<think> t </think> <answer> a </answer>", "a", "t" },
        { "<think>t</think>\n<answer>a", "a", "t" },
        { "t</think>a", "a", "t" }, /* the prompt had the beginning */
        { "<think>t", "", "t" },
        { "a < b <thin> </answ", "a < b <thin> </answ", "" },
        { "a\x1B[31m\xE2\x80\xAE"
          "b\xFF",
          "a[31mb\xEF\xBF\xBD", "" },
        { "\xE2\x82</think>x", "x", "\xEF\xBF\xBD" },
    };
    const glm4v_task task = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        glm4v_result *r = parse(rows[i].text, &task);
        CHECK_STR(r->text, rows[i].answer);
        CHECK_STR(r->reasoning, rows[i].reasoning);
        CHECK(!r->status && !*r->choice && !*r->json && !r->n_boxes && !*r->action.action);
        glm4v_result_free(&r);
    }
}

static void boxes_and_actions_are_in_pixels(void)
{
    const glm4v_task task = { .images = &picture, .n_images = 1 };
    glm4v_result *r = parse("at <|begin_of_box|>[[100,200,300,400]]<|end_of_box|> and "
                            "<|begin_of_box|>[[0,0,500,500]]<|end_of_box|>",
                            &task);
    CHECK_STR(r->text, "at [[100,200,300,400]] and [[0,0,500,500]]");
    CHECK_STR(r->box, "[[100,200,300,400]]");
    REQUIRE(r->n_boxes == 2);
    CHECK(r->boxes[0].x == 20 && r->boxes[0].y == 20 && r->boxes[0].width == 40);
    CHECK(r->boxes[1].width == 100 && r->boxes[1].height == 50);
    glm4v_result_free(&r);
    r = parse("<think>tap</think><answer>do(action=\"Tap\", element=[500, 500])</answer>", &task);
    CHECK_STR(r->action.action, "Tap");
    CHECK(r->action.element[0] == 100 && r->action.element[1] == 50);
    glm4v_result_free(&r);
}

static void a_choice_must_be_one(void)
{
    static const char *const choices[] = { "good", "bad" };
    const glm4v_task task = { .choices = choices, .n_choices = 2 };
    glm4v_result *r = parse("<think>hm</think> bad\n", &task);
    CHECK_STR(r->choice, "bad");
    CHECK(r->choice_index == 1 && !r->n_probabilities && !r->probabilities);
    glm4v_result_free(&r);
    static const char *const wrong[] = { "", "Bad", "bad.", "good bad", "ba" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        glm4v_error err = { 0 };
        CHECK_EQ(glm4v_answer_parse(&r, wrong[i], &task, &err), GLM4V_ERR_FORMAT);
        CHECK(!r && strstr(err.msg, "none of the choices"));
    }
}

static void json_is_made_as_this_library_writes_it(void)
{
    const glm4v_task task = {
        .json_schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{"
                       "\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"},\"y\":{"
                       "\"type\":\"string\"}},\"required\":[\"x\",\"y\"]}},\"b\":{\"type\":"
                       "\"boolean\"}},\"required\":[\"a\",\"b\"]}"
    };
    static const char expected[] = "{\"a\":[{\"x\":0.1,\"y\":\"p \\\" q\"}],\"b\":true}";
    static const char *const right[] = {
        expected,
        " {\"a\": [ {\"x\": 0.1,\n \"y\": \"p \\\" q\"} ],\t\"b\": true} ",
    };
    static const char *const wrong[] = {
        "",
        "[]",
        "{\"a\":[]}",
        "{\"a\":[],\"b\":1}",
        "{\"a\":[],\"b\":true,\"c\":1}",
        "{\"a\":[{\"x\":1}],\"b\":true}",
        "{\"a\":[],\"b\":true",
        "{\"a\":[],\"b\":true}}",
        "no",
    };
    glm4v_result *r = NULL;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        r = parse(right[i], &task);
        CHECK_STR(r->json, expected);
        CHECK_STR(r->text, expected);
        glm4v_result_free(&r);
    }
    r = parse("{\"b\": true, \"a\": [{\"y\": \"s\", \"x\": 2}]}", &task);
    CHECK_STR(r->json, "{\"a\":[{\"x\":2,\"y\":\"s\"}],\"b\":true}");
    glm4v_result_free(&r);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        glm4v_error err = { 0 };
        CHECK_EQ(glm4v_answer_parse(&r, wrong[i], &task, &err), GLM4V_ERR_FORMAT);
        CHECK(!r && strstr(err.msg, "does not match the schema"));
    }
}

static void long_answers_are_cut_to_what_fits(void)
{
    const size_t n = 200000;
    char *text = malloc(n + 1);
    memset(text, 'x', n);
    text[n] = 0;
    glm4v_result *r = parse(text, &(glm4v_task) { 0 });
    CHECK(strlen(r->text) > 60000 && strlen(r->text) <= 64 * 1024);
    glm4v_result_free(&r);
    free(text);
}

static void every_allocation_may_fail(void)
{
    const glm4v_task task = { .json_schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"
                                             "\"integer\"},\"b\":{\"type\":\"integer\"}}}" };
    for (uint64_t nth = 1; nth < 1000; nth++) {
        glm4v_result *r = NULL;
        glm4v_error err = { 0 };
        const size_t before = glm4v_mem_live();
        glm4v_mem_fail_at(nth, false);
        const int rc = glm4v_answer_parse(&r, "{\"b\": 1, \"a\": 2}", &task, &err);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || rc == GLM4V_ERR_NOMEM);
        glm4v_result_free(&r);
        CHECK_EQ(glm4v_mem_live(), before);
        if (!rc) {
            CHECK(nth > 5);
            return;
        }
    }
    test_fail(__FILE__, __LINE__, "it never succeeds");
}

/* ---- pictures ---- */

static void large_pictures_get_the_processors_size(void)
{
    static const struct {
        int32_t width, height, fit_width, fit_height;
        uint64_t max_pixels;
    } rows[] = {
        { 1920, 1080, 896, 504, 672 * 672 }, { 1080, 1920, 504, 896, 672 * 672 },
        { 672, 672, 672, 672, 672 * 672 },   { 100, 50, 100, 50, 672 * 672 },
        { 1920, 1080, 1920, 1080, 0 },       { 673, 672, 672, 672, 672 * 672 },
        { 2000, 2000, 28, 28, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const glm4v_image image = { .data = pixel,
                                    .width = rows[i].width,
                                    .height = rows[i].height,
                                    .stride = 3 * (int64_t)rows[i].width };
        glm4v_error err = { 0 };
        int32_t w = 0, h = 0;
        CHECK(!glm4v_image_fit(&image, rows[i].max_pixels, &w, &h, &err));
        if (w != rows[i].fit_width || h != rows[i].fit_height)
            test_fail(__FILE__, __LINE__, "%dx%d: %dx%d", rows[i].width, rows[i].height, w, h);
    }
}

static void pictures_that_are_none_are_refused(void)
{
    glm4v_image image = picture;
    glm4v_error err = { 0 };
    uint8_t out[3 * 28 * 28];
    int32_t w, h;
    image.stride = 599;
    CHECK_EQ(glm4v_image_fit(&image, 1, &w, &h, &err), GLM4V_ERR_INVALID);
    image = picture;
    image.memory = GLM4V_IMAGE_CUDA;
    CHECK_EQ(glm4v_image_fit(&image, 1, &w, &h, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_EQ(glm4v_image_resize(out, 28, 28, &image, &err), GLM4V_ERR_UNSUPPORTED);
    image = picture;
    CHECK_EQ(glm4v_image_resize(out, 0, 28, &image, &err), GLM4V_ERR_INVALID);
    image.width = 10000;
    image.height = 10;
    image.stride = 30000;
    CHECK_EQ(glm4v_image_fit(&image, 1000, &w, &h, &err), GLM4V_ERR_INVALID);
}

static void a_resized_picture_keeps_its_colours(void)
{
    enum { W = 100, H = 70 };
    static uint8_t in[H][W + 5][3], out[40][56][3];
    glm4v_error err = { 0 };
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            memcpy(in[y][x], x < W / 2 ? (uint8_t[]) { 10, 20, 30 } : (uint8_t[]) { 200, 100, 50 },
                   3);
    const glm4v_image image = { .data = in[0][0], .width = W, .height = H, .stride = sizeof in[0] };
    CHECK(!glm4v_image_resize(out[0][0], 56, 40, &image, &err));
    CHECK(!memcmp(out[0][0], in[0][0], 3) && !memcmp(out[39][55], in[0][W - 1], 3));
    static uint8_t same[H][W][3];
    CHECK(!glm4v_image_resize(same[0][0], W, H, &image, &err));
    for (int y = 0; y < H; y++)
        CHECK(!memcmp(same[y], in[y], sizeof same[y]));
}

/* ---- messages ---- */

static void a_message_is_not_cut_within_a_character(void)
{
    for (int before = 0; before < 4; before++) {
        char text[2000] = "";
        glm4v_error err = { 0 };
        memset(text, 'x', (size_t)before);
        for (int i = 0; i < 300; i++)
            strcat(text, i % 2 ? "\xE2\x82\xAC" : "\xF0\x9F\x98\x80");
        glm4v_fail(&err, GLM4V_ERR_IO, "%s", text);
        CHECK(glm4v_utf8_valid(err.msg, strlen(err.msg), NULL));
        CHECK(strlen(err.msg) > sizeof err.msg - 6);
    }
}

int main(void)
{
    TEST(reasoning_and_answer_are_told_apart);
    TEST(boxes_and_actions_are_in_pixels);
    TEST(a_choice_must_be_one);
    TEST(json_is_made_as_this_library_writes_it);
    TEST(long_answers_are_cut_to_what_fits);
    TEST(every_allocation_may_fail);
    TEST(large_pictures_get_the_processors_size);
    TEST(pictures_that_are_none_are_refused);
    TEST(a_resized_picture_keeps_its_colours);
    TEST(a_message_is_not_cut_within_a_character);
    return test_end();
}
