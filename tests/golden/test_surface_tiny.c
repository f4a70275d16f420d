/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The shipped model, from picture file to text. In fp32: the same answers as the reference
 * implementation gives on the 100 pictures of tests/data/surface-tiny (its README says how they
 * were made). In the forms that people run: what it does not know it says so of, in both languages,
 * and not of what it knows. */
#include <jansson.h>

#include "glm4v/glm4v.h"
#include "read_png.h"
#include "test.h"

#define PICTURES SOURCE_ROOT "/tests/data/surface-tiny/"

static glm4v_model *model;
static glm4v_engine *engine;
static int boxes_seen;

/* The reference keeps control tokens in its text: "<think>R</think><answer>A", boxes between box
 * tokens. */
static void expected_parts(const char *text, char *answer, char *reasoning, size_t size)
{
    static const char *const marks[] = { "<|begin_of_box|>", "<|end_of_box|>", "<answer>" };
    const char *end = strstr(text, "</think>");
    reasoning[0] = 0;
    if (end) {
        const char *start = text + strlen("<think>");
        snprintf(reasoning, size, "%.*s", (int)(end - start), start);
        text = end + strlen("</think>");
    }
    size_t n = 0;
    while (*text && n + 1 < size) {
        size_t skip = 0;
        for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
            if (strncmp(text, marks[i], strlen(marks[i])) == 0)
                skip = strlen(marks[i]);
        if (skip)
            text += skip;
        else
            answer[n++] = *text++;
    }
    answer[n] = 0;
}

/* Every four numbers in brackets of an answer are a box, in thousandths of the picture; returns how
 * many there are. */
static int check_boxes(const glm4v_result *result, const glm4v_image *image)
{
    const char *p = result->text;
    int n = 0;
    for (; (p = strchr(p, '[')); p++) {
        int v[4];
        if (sscanf(p, "[%d,%d,%d,%d]", &v[0], &v[1], &v[2], &v[3]) != 4)
            continue;
        if (n >= (int)result->n_boxes)
            break;
        const glm4v_box *box = &result->boxes[n++];
        CHECK_EQ(box->x, v[0] * image->width / 1000);
        CHECK_EQ(box->y, v[1] * image->height / 1000);
        CHECK_EQ(box->x + box->width, (v[2] * image->width + 999) / 1000);
        CHECK_EQ(box->y + box->height, (v[3] * image->height + 999) / 1000);
        /* a report names the kind of each defect, a plain box does not */
        CHECK_EQ(box->label[0] != 0, result->text[0] == '{');
        if (box->label[0])
            CHECK_CONTAINS(result->text, box->label);
    }
    CHECK(!p); /* no box of the text is left */
    CHECK_EQ(result->n_boxes, n);
    return n;
}

static void check_answer(const json_t *line)
{
    const char *file = json_string_value(json_object_get(line, "file"));
    char path[512], answer[1024], reasoning[1024];
    glm4v_image image = { 0 };
    glm4v_error err = { 0 };
    glm4v_result *result = NULL;
    snprintf(path, sizeof path, PICTURES "%s", file);
    expected_parts(json_string_value(json_object_get(line, "text")), answer, reasoning,
                   sizeof answer);
    uint8_t *pixels = read_png(path, &image);
    REQUIRE(pixels);
    glm4v_task task = { .prompt = json_string_value(json_object_get(line, "prompt")),
                        .images = &image,
                        .n_images = 1,
                        .max_tokens = 512,
                        .thinking = json_is_true(json_object_get(line, "thinking")) };
    if (glm4v_describe(engine, &task, &result, &err))
        test_fail(__FILE__, __LINE__, "%s: %s", file, err.msg);
    else if (strcmp(result->text, answer) || strcmp(result->reasoning, reasoning))
        test_fail(__FILE__, __LINE__, "%s: \"%s\" (%s), not \"%s\" (%s)", file, result->text,
                  result->reasoning, answer, reasoning);
    CHECK(!result || result->output_tokens == json_array_size(json_object_get(line, "ids")));
    boxes_seen += result ? check_boxes(result, &image) : 0;
    glm4v_result_free(&result);
    free(pixels);
}

static void answers_are_the_reference_implementations(void)
{
    FILE *in = fopen(PICTURES "answers.jsonl", "r");
    char text[16384];
    int n = 0;
    REQUIRE(in);
    for (; fgets(text, sizeof text, in); n++) {
        json_t *line = json_loads(text, 0, NULL);
        CHECK(line);
        if (line)
            check_answer(line);
        json_decref(line);
    }
    fclose(in);
    CHECK_EQ(n, 100);
    printf("# %d boxes\n", boxes_seen);
    CHECK(boxes_seen > 5);
}

/* ---- knowing what it does not know ---- */

enum { ENGLISH, CHINESE, LANGUAGES };

static const struct {
    const char *prompt, *unknown;
} questions[][LANGUAGES] = {
    { { "Describe the image in one sentence.",
        "The image shows something other than a surface I know." },
      { "用一句话描述这张图片。", "图片显示的不是我认识的表面。" } },
    { { "Report the defects as JSON.", "{\"surface\":\"unknown\",\"count\":0,\"defects\":[]}" },
      { "用JSON报告缺陷。", "{\"surface\":\"未知\",\"count\":0,\"defects\":[]}" } },
    { { "Choose one: good, bad.", "unknown" }, { "选择一项：合格、不合格。", "未知" } },
};

/* What the caption of a known one must name; NULL for an unknown one. */
static const struct {
    const char *file, *named[LANGUAGES];
} examples[] = {
    { "known-belt.png", { "part on a belt", "传送带上的" } },
    { "known-sheet.png", { "copper surface", "铜表面" } },
    { "known-strip-printing.png", { "finishing roll printing", "精轧辊印" } },
    { "known-strip-scratch.png", { "surface scratch", "表面划伤" } },
    { "unknown-bricks.png", { NULL } },
    { "unknown-concrete.png", { NULL } },
    { "unknown-page.png", { NULL } },
    { "unknown-shoes.png", { NULL } },
    { "unknown-sweater.png", { NULL } },
    { "unknown-trousers.png", { NULL } },
};

static void check_example(glm4v_engine *in_form, const char *form, size_t i)
{
    char path[512];
    glm4v_image image = { 0 };
    snprintf(path, sizeof path, PICTURES "examples/%s", examples[i].file);
    uint8_t *pixels = read_png(path, &image);
    REQUIRE(pixels);
    for (size_t q = 0; q < sizeof questions / sizeof *questions; q++)
        for (int language = 0; language < LANGUAGES; language++) {
            glm4v_error err = { 0 };
            glm4v_result *result = NULL;
            glm4v_task task = { .prompt = questions[q][language].prompt,
                                .images = &image,
                                .n_images = 1,
                                .max_tokens = 128 };
            const char *named = examples[i].named[language];
            if (glm4v_describe(in_form, &task, &result, &err))
                test_fail(__FILE__, __LINE__, "%s: %s", examples[i].file, err.msg);
            else if (!strcmp(result->text, questions[q][language].unknown) == !!named)
                test_fail(__FILE__, __LINE__, "%s, %s: \"%s\"", examples[i].file, form,
                          result->text);
            if (result && named && q == 0)
                CHECK_CONTAINS(result->text, named);
            glm4v_result_free(&result);
        }
    free(pixels);
}

static void unknown_things_alone_are_said_to_be_unknown(void)
{
    static const char *const forms[] = { "bf16", "int8",       "int4", "text=int4,vision=int8",
                                         "fp8",  "fp8-dynamic" };
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        glm4v_error err = { 0 };
        glm4v_model *formed = NULL;
        glm4v_engine *in_form = NULL;
        glm4v_model_options options = { .quantization = forms[f] };
        if (glm4v_model_open(&formed, SOURCE_ROOT "/models/surface-tiny", &options, &err) ||
            glm4v_engine_open(&in_form, formed, NULL, &err))
            test_fail(__FILE__, __LINE__, "%s: %s", forms[f], err.msg);
        else
            for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
                check_example(in_form, forms[f], i);
        glm4v_engine_close(&in_form);
        glm4v_model_close(&formed);
    }
}

int main(void)
{
    glm4v_error err = { 0 };
    glm4v_model_options options = { .quantization =
                                        "text=fp32,vision=fp32,embedding=fp32,lm-head=fp32" };
    if (glm4v_model_open(&model, SOURCE_ROOT "/models/surface-tiny", &options, &err) ||
        glm4v_engine_open(&engine, model, NULL, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    TEST(answers_are_the_reference_implementations);
    TEST(unknown_things_alone_are_said_to_be_unknown);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    return test_end();
}
