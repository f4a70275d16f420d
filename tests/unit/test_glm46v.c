/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GLM-4.6V from configuration files to prompt ids: sizes of pictures, frames of clips, timestamps,
 * template and placeholders together give what transformers' own processor gives
 * (tests/data/glm46v/make.py). */
#include <jansson.h>

#include "base/mem.h"
#include "chat/prompt.h"
#include "picture/preprocess.h"
#include "test.h"

#define DATA SOURCE_ROOT "/tests/data/"
#define MAX_PICTURES 8
#define MAX_FRAMES 1024

static glm4v_config config;
static glm4v_tokenizer *tokenizer;
static glm4v_chat chat;
static glm4v_preprocessor *stills, *clips;

static void the_saved_processor_s_values_are_taken(void)
{
    CHECK_STR(glm4v_template_name(chat.format), "glm-4.5");
    CHECK(config.image.min_pixels == 12544 && config.image.max_pixels == 11760000);
    CHECK(config.video.min_pixels == 12544 && config.video.max_pixels == 47040000);
    CHECK(config.text.rope_theta == 500000 && config.text.context == 131072);
    CHECK_EQ(config.n_stop_ids, 3);
    CHECK_EQ(config.image_id, glm4v_tokenizer_control(tokenizer, "<|image|>"));
    CHECK_EQ(config.video_end_id, glm4v_tokenizer_control(tokenizer, "<|end_of_video|>"));
}

/* A conversation. Strings are borrowed from its line. */
typedef struct {
    glm4v_task task;
    glm4v_turn turns[MAX_PICTURES];
    glm4v_image images[MAX_PICTURES];
    glm4v_grid grids[MAX_FRAMES];
    uint32_t n_images, n_grids;
} conversation;

static uint32_t add_images(conversation *c, const json_t *sizes)
{
    size_t i;
    json_t *size;
    json_array_foreach((json_t *)sizes, i, size)
    {
        static const uint8_t pixel[3];
        glm4v_image *image = &c->images[c->n_images++];
        glm4v_patch_grid grid = { 0, 0 };
        *image = (glm4v_image) { .data = pixel,
                                 .width = (int32_t)json_integer_value(json_array_get(size, 0)),
                                 .height = (int32_t)json_integer_value(json_array_get(size, 1)) };
        image->stride = 3 * (int64_t)image->width;
        CHECK_EQ(glm4v_preprocess_grid(stills, image, 1, 0, &grid, NULL), 0);
        c->grids[c->n_grids++] = (glm4v_grid) { grid.h, grid.w, 0 };
    }
    return (uint32_t)i;
}

static void add_clip(conversation *c, const json_t *clip, const json_t *expected)
{
    static double seconds[MAX_FRAMES];
    static uint32_t frames[MAX_FRAMES + 1];
    const uint32_t n = (uint32_t)json_integer_value(json_array_get(clip, 2));
    const double fps = json_number_value(json_array_get(clip, 3));
    const glm4v_image image = { .data = (const uint8_t *)"",
                                .width = (int32_t)json_integer_value(json_array_get(clip, 0)),
                                .height = (int32_t)json_integer_value(json_array_get(clip, 1)),
                                .stride = 3 * json_integer_value(json_array_get(clip, 0)) };
    glm4v_clip sampled = { seconds, n, frames, MAX_FRAMES + 1, 0 };
    glm4v_patch_grid grid = { 0, 0 };
    REQUIRE(n <= MAX_FRAMES);
    for (uint32_t i = 0; i < n; i++)
        seconds[i] = i / fps;
    CHECK_EQ(glm4v_sample_clip(&sampled, &config, chat.format == GLM4V_TEMPLATE_GLM45, NULL), 0);
    const uint32_t taken = sampled.n_indices;
    CHECK_EQ(taken, json_array_size(expected));
    for (uint32_t i = 0; i < taken; i++)
        CHECK_EQ(frames[i], json_integer_value(json_array_get(expected, i)));
    CHECK_EQ(glm4v_preprocess_grid(clips, &image, taken, 0, &grid, NULL), 0);
    for (uint32_t i = 0; i < taken; i += 2)
        c->grids[c->n_grids++] = (glm4v_grid) { grid.h, grid.w, seconds[frames[i]] };
    c->task.n_frames = n;
    c->task.frames = c->images;
}

/* One row of grids a picture; a clip has one for all its pairs. */
static void check_grids(const conversation *c, const json_t *expected)
{
    size_t i;
    json_t *row;
    uint32_t at = 0;
    json_array_foreach((json_t *)expected, i, row)
    {
        int64_t n = json_integer_value(json_array_get(row, 0));
        for (int64_t k = 0; k < n && at < c->n_grids; k++, at++) {
            CHECK_EQ(c->grids[at].grid_h, json_integer_value(json_array_get(row, 1)));
            CHECK_EQ(c->grids[at].grid_w, json_integer_value(json_array_get(row, 2)));
        }
    }
    CHECK_EQ(at, c->n_grids);
}

static void check_case(const json_t *line, int number)
{
    static conversation c;
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    const json_t *clip = json_object_get(line, "clip"), *ids = json_object_get(line, "ids"), *turn;
    size_t i;
    memset(&c, 0, sizeof c);
    json_array_foreach(json_object_get(line, "history"), i, turn)
    {
        glm4v_turn *t = &c.turns[c.task.n_history++];
        t->user = json_string_value(json_array_get(turn, 0));
        t->images = c.images + c.n_images;
        t->n_images = add_images(&c, json_array_get(turn, 1));
        t->assistant = json_string_value(json_array_get(turn, 2));
    }
    c.task.history = c.turns;
    c.task.system = json_string_value(json_object_get(line, "system"));
    c.task.prompt = json_string_value(json_object_get(line, "prompt"));
    c.task.thinking = json_is_true(json_object_get(line, "thinking"));
    c.task.images = c.images + c.n_images;
    c.task.n_images = add_images(&c, json_object_get(line, "images"));
    if (clip)
        add_clip(&c, clip, json_object_get(line, "frames"));
    check_grids(&c, json_object_get(line, "grids"));
    if (glm4v_prompt_build(&p, &(glm4v_prompt_maker) { tokenizer, &chat, &config }, &c.task,
                           c.grids, c.n_grids, &err)) {
        test_fail(__FILE__, __LINE__, "line %d: %s", number, err.msg);
        return;
    }
    CHECK_EQ(p.n_ids, json_array_size(ids));
    for (i = 0; i < (size_t)p.n_ids && i < json_array_size(ids) && test_ok; i++)
        if (p.ids[i] != json_integer_value(json_array_get(ids, i)))
            test_fail(__FILE__, __LINE__, "line %d: id %zu is %d, not %d", number, i, p.ids[i],
                      (int)json_integer_value(json_array_get(ids, i)));
    glm4v_prompt_clear(&p);
}

static void conversations_become_the_ids_of_the_reference_processor(void)
{
    FILE *file = fopen(DATA "glm46v/cases.jsonl", "r");
    char *line = NULL;
    size_t size = 0;
    int number = 0;
    REQUIRE(file);
    while (getline(&line, &size, file) > 0) {
        json_t *root = json_loads(line, 0, NULL);
        CHECK(root != NULL);
        check_case(root, ++number);
        json_decref(root);
    }
    CHECK_EQ(number, 13);
    free(line);
    fclose(file);
}

int main(void)
{
    glm4v_error err = { 0 };
    if (glm4v_config_read(&config, DATA "glm46v", true, &err) ||
        glm4v_tokenizer_open(&tokenizer, DATA "tokenizer/glm-4.5", &err) ||
        glm4v_chat_init(&chat, tokenizer, &config, &err) ||
        glm4v_preprocessor_open(&stills, &config.image, &config.vision, &err) ||
        glm4v_preprocessor_open(&clips, &config.video, &config.vision, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    TEST(the_saved_processor_s_values_are_taken);
    TEST(conversations_become_the_ids_of_the_reference_processor);
    glm4v_preprocessor_close(&clips);
    glm4v_preprocessor_close(&stills);
    glm4v_tokenizer_close(&tokenizer);
    return test_end();
}
