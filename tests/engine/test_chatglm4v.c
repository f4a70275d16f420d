/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The whole path of a request on a tiny model of family chatglm4v: its directory as GLM-4V-9B's is,
 * one picture of one size, learned rows around it, one position for all its rows. */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/mem.h"
#include "engine.h"
#include "files.h"
#include "fixture.h"
#include "forward/position.h"

enum { ROWS = TINY_TABLE_SIDE * TINY_TABLE_SIDE / 4 + 2, SIDE = TINY_TABLE_SIDE * TINY_PATCH };

static glm4v_engine *engine;

static void a_picture_of_any_shape_takes_the_same_rows(void)
{
    static const int32_t sizes[][2] = { { 200, 100 }, { 13, 700 }, { 56, 56 }, { 1, 1 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        glm4v_image image = picture(0, sizes[i][0], sizes[i][1]);
        record r;
        run_task(engine,
                 (glm4v_task) { .prompt = "Describe the image.",
                                .images = &image,
                                .n_images = 1,
                                .max_tokens = 12,
                                .temperature = 0.8f },
                 &r);
        CHECK_EQ(r.status, 0);
        CHECK_STR(r.message, "");
        CHECK(r.numbers.image_width == SIDE && r.numbers.image_height == SIDE);
        CHECK_EQ(r.numbers.vision_tokens, ROWS);
    }
}

static void the_picture_matters_and_the_text_repeats(void)
{
    glm4v_image image = picture(3, 150, 90), other = picture(4, 150, 90);
    record a, b, c;
    glm4v_task task = {
        .prompt = "What is it?", .images = &image, .n_images = 1, .max_tokens = 20
    };
    run_task(engine, task, &a);
    run_task(engine, task, &b);
    task.images = &other;
    run_task(engine, task, &c);
    CHECK_STR(a.answer, b.answer);
    CHECK(strcmp(a.answer, c.answer));
    CHECK(b.numbers.cached_tokens > 0 && b.numbers.cached_tokens < 8); /* up to the picture */
}

static void one_picture_of_the_history_counts(void)
{
    glm4v_image image = picture(5, 100, 100);
    const glm4v_turn turn = {
        .user = "What is it?", .assistant = "A part.", .images = &image, .n_images = 1
    };
    record r;
    run_task(engine,
             (glm4v_task) { .prompt = "Sure?", .history = &turn, .n_history = 1, .max_tokens = 5 },
             &r);
    CHECK_EQ(r.status, 0);
    CHECK_EQ(r.numbers.vision_tokens, ROWS);
}

static void check_refused(const glm4v_task *task)
{
    glm4v_request *request = NULL;
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_engine_submit(engine, task, &request, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "one picture in a conversation");
    CHECK(!request);
}

static void a_second_picture_and_clips_are_refused_at_once(void)
{
    glm4v_image images[] = { picture(0, 60, 60), picture(1, 60, 60) };
    const glm4v_turn turn = {
        .user = "What is it?", .assistant = "A part.", .images = images, .n_images = 1
    };
    check_refused(&(glm4v_task) { .prompt = "x", .images = images, .n_images = 2 });
    check_refused(&(glm4v_task) {
        .prompt = "x", .images = images, .n_images = 1, .history = &turn, .n_history = 1 });
    check_refused(&(glm4v_task) { .prompt = "x", .frames = images, .n_frames = 2 });
}

/* It has no markers for reasoning: asked to reason, it answers, within max_tokens. */
static void thinking_changes_nothing(void)
{
    record plain, thinking;
    glm4v_task task = { .prompt = "Count.", .max_tokens = 6, .temperature = 1, .seed = 3 };
    run_task(engine, task, &plain);
    task.thinking = 1;
    run_task(engine, task, &thinking);
    CHECK_STR(thinking.answer, plain.answer);
    CHECK_STR(thinking.reasoning, "");
    CHECK(thinking.numbers.output_tokens <= 6);
}

static bool is_masked(int32_t id)
{
    return engine->masks[id / 64] >> (id % 64) & 1;
}

static void rows_without_a_token_and_control_tokens_are_never_drawn(void)
{
    const int32_t stops[] = { TINY_ENDOFTEXT, TINY_USER, TINY_OBSERVATION };
    for (int32_t id = 0; id < TINY_VOCAB; id++)
        CHECK_EQ(is_masked(id), id >= TINY_BASE && !glm4v_is_one_of(id, stops, 3));
    CHECK(!memcmp(engine->masks, engine->masks + TINY_VOCAB / 64 + 1,
                  (TINY_VOCAB / 64 + 1) * sizeof *engine->masks));
}

/* Text, picture, text through the passes themselves; the logits of each step. */
static void generate(glm4v_context *context, const glm4v_prompt *prompt, const int32_t *position,
                     int32_t next, const float *patches, uint32_t piece, float *logits)
{
    enum { STEPS = 2 };
    const uint32_t n = (uint32_t)prompt->n_ids;
    glm4v_embeddings e = { 0 };
    CHECK_EQ(glm4v_vision_encode(context,
                                 &(glm4v_vision_pass) { .out = &e,
                                                        .patches = patches,
                                                        .grid_h = TINY_TABLE_SIDE,
                                                        .grid_w = TINY_TABLE_SIDE },
                                 NULL, NULL),
             0);
    CHECK_EQ(e.n_rows, ROWS);
    for (uint32_t i = 0; i < n; i += piece) {
        const uint32_t some = n - i < piece ? n - i : piece;
        CHECK_EQ(glm4v_prefill(context,
                               &(glm4v_prefill_pass) { .slot = 0,
                                                       .prompt = prompt,
                                                       .position = position,
                                                       .start = i,
                                                       .n = some,
                                                       .vision = &e },
                               i + some == n ? logits : NULL, NULL, NULL, NULL),
                 0);
    }
    for (int s = 1; s <= STEPS; s++) {
        const int32_t slot = 0, length = n + (uint32_t)s - 1;
        const int32_t id = s, at = next + s - 1;
        CHECK_EQ(glm4v_decode(context, &(glm4v_decode_rows) { &slot, &length, &id, &at, 1, NULL },
                              logits + s * TINY_VOCAB, NULL),
                 0);
    }
    glm4v_embeddings_clear(context, &e);
}

static void pieces_that_cut_the_picture_equal_the_whole(void)
{
    static const uint32_t pieces[] = { 1, 3, 4, 7, 8 };
    static float patches[TINY_TABLE_SIDE * TINY_TABLE_SIDE * 3 * TINY_PATCH * TINY_PATCH];
    static float whole[3 * TINY_VOCAB], cut[3 * TINY_VOCAB];
    const glm4v_task task = { .prompt = "What?", .system = "S", .n_images = 1 };
    const glm4v_grid grid = { TINY_TABLE_SIDE, TINY_TABLE_SIDE, 0 };
    const glm4v_model *m = fixture_model;
    glm4v_context *context = NULL;
    glm4v_prompt prompt = { 0 };
    int32_t position[3 * 64], next = 0;
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++)
        patches[i] = (float)(i * 7919 % 2001) / 1000 - 1;
    REQUIRE(!glm4v_prompt_build(&prompt,
                                &(glm4v_prompt_maker) { m->tokenizer, &m->chat, &m->config }, &task,
                                &grid, 1, NULL));
    REQUIRE(prompt.n_ids <= 64);
    glm4v_positions(position, &next, &prompt, &m->config);
    CHECK_EQ(next, (int32_t)prompt.n_ids - ROWS + 3); /* the picture costs three positions */
    REQUIRE(!glm4v_context_open(
        &context, m, (glm4v_context_size) { .slots = 1, .length = 80, .max_rows = 64 }, NULL));
    generate(context, &prompt, position, next, patches, 64, whole);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        memset(cut, 0, sizeof cut);
        generate(context, &prompt, position, next, patches, pieces[i], cut);
        CHECK(!memcmp(whole, cut, sizeof whole));
    }
    glm4v_error err = { 0 };
    glm4v_embeddings e = { 0 };
    CHECK_EQ(glm4v_vision_encode(
                 context,
                 &(glm4v_vision_pass) { .out = &e, .patches = patches, .grid_h = 2, .grid_w = 2 },
                 NULL, &err),
             GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "accepts 4 x 4 only");
    glm4v_context_close(&context);
    glm4v_prompt_clear(&prompt);
}

/* ---- the directory ---- */

static void files_and_forms_do_not_change_what_is_opened(void)
{
    static const tiny_model_options files[] = { { .chatglm4v = true, .shards = 3 },
                                                { .chatglm4v = true, .dtype = TINY_F32 },
                                                { .chatglm4v = true, .tied = true } };
    static const char *const forms[] = { NULL, "int8", "int4", "int4-32", "fp8-dynamic" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char dir[256];
        glm4v_model_info info = { 0 };
        glm4v_error err = { 0 };
        REQUIRE(!tiny_model_make(dir, sizeof dir, &files[i]));
        CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), 0);
        CHECK_STR(info.family, "chatglm4v");
        CHECK(info.min_pixels == SIDE * SIDE && info.max_pixels == SIDE * SIDE);
        for (size_t j = 0; j < sizeof forms / sizeof *forms; j++) {
            const glm4v_model_options options = { .n_threads = 1, .quantization = forms[j] };
            glm4v_model *model = NULL;
            CHECK_EQ(glm4v_model_open(&model, dir, &options, &err), 0);
            if (model)
                glm4v_model_close(&model);
        }
        tiny_model_remove(dir);
    }
}

static void ids_that_the_configuration_lacks_are_the_tokenizers(void)
{
    glm4v_config c = fixture_model->config;
    CHECK(c.image_id == TINY_ENDOFTEXT && c.image_start_id == TINY_BEGIN_IMAGE);
    const glm4v_model_options options = { .random_weights = 1, .device = "cpu" };
    glm4v_model *model = NULL;
    glm4v_error err = { 0 };
    char config[300];
    snprintf(config, sizeof config, "%s/config.json", fixture_dir);
    CHECK_EQ(glm4v_model_open(&model, config, &options, &err), 0); /* as bench does */
    if (!model)
        return;
    CHECK_EQ(model->config.image_id, TINY_ENDOFTEXT);
    CHECK_EQ(model->chat.format, GLM4V_TEMPLATE_CHATGLM4V);
    glm4v_model_close(&model);
}

/* What inspect says of the model with `from` in a file changed to `to`, of the same length. */
static int inspect_changed(const char *file, const char *from, const char *to, glm4v_error *err)
{
    char dir[256];
    glm4v_model_info info = { 0 };
    if (tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .chatglm4v = true }))
        return -1;
    file_replace(dir, file, from, to);
    int rc = glm4v_model_inspect(dir, NULL, &info, err);
    tiny_model_remove(dir);
    return rc;
}

static void a_tensor_that_does_not_fit_is_named(void)
{
    static const char *const names[] = {
        "transformer.embedding.word_embeddings.weight",
        "transformer.encoder.layers.1.self_attention.query_key_value.bias",
        "transformer.encoder.final_layernorm.weight",
        "transformer.output_layer.weight",
        "transformer.vision.patch_embedding.cls_embedding",
        "transformer.vision.transformer.layers.0.post_attention_layernorm.bias",
        "transformer.vision.linear_proj.dense_h_to_4h.weight",
        "transformer.vision.eoi",
    };
    glm4v_error err = { 0 };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char quoted[128], other[128];
        snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
        memcpy(other, quoted, sizeof other);
        other[strlen(other) - 2] = '?'; /* before the quotation mark */
        CHECK_EQ(inspect_changed("model.safetensors", quoted, other, &err), GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, names[i]);
        CHECK_CONTAINS(err.msg, "missing");
    }
    CHECK_EQ(inspect_changed("config.json", "\"ffn_hidden_size\": 144", "\"ffn_hidden_size\": 146",
                             &err),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "dense_h_to_4h");
    CHECK_CONTAINS(err.msg, "[288, 128], expected [292, 128]");
    CHECK_EQ(inspect_changed("config.json", "\"num_layers\": 2", "\"num_layers\": 1", &err),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "\"num_layers\" is 1, but the weights hold");
    CHECK_EQ(inspect_changed("config.json", "\"boi_token_id\": 330", "\"boi_token_id\": 331", &err),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "\"boi_token_id\" is 331, but the tokenizer's");
}

/* Opening, an engine's context and a picture through the tower; whatever is refused is given
 * back. */
static int open_and_encode(glm4v_error *err)
{
    static const float patches[TINY_TABLE_SIDE * TINY_TABLE_SIDE * 3 * TINY_PATCH * TINY_PATCH];
    const glm4v_model_options options = { .n_threads = 1, .device = "cpu" };
    const glm4v_context_size size = { .slots = 1, .length = 16, .max_rows = 16 };
    glm4v_embeddings rows = { 0 };
    glm4v_context *context = NULL;
    glm4v_model *model = NULL;
    int rc = glm4v_model_open(&model, fixture_dir, &options, err);
    if (!rc)
        rc = glm4v_context_open(&context, model, size, err);
    if (!rc)
        rc = glm4v_vision_encode(context,
                                 &(glm4v_vision_pass) { .out = &rows,
                                                        .patches = patches,
                                                        .grid_h = TINY_TABLE_SIDE,
                                                        .grid_w = TINY_TABLE_SIDE },
                                 NULL, err);
    if (context)
        glm4v_embeddings_clear(context, &rows);
    glm4v_context_close(&context);
    if (model)
        glm4v_model_close(&model);
    return rc;
}

static void every_allocation_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    int rc = GLM4V_ERR_NOMEM;
    uint64_t nth = 0;
    while (rc && test_ok) {
        glm4v_error err = { 0 };
        glm4v_mem_fail_at(++nth, false);
        rc = open_and_encode(&err);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || (rc == GLM4V_ERR_NOMEM && err.code == rc && err.msg[0]));
        CHECK_EQ(glm4v_mem_live(), live);
    }
    CHECK(nth > 50);
}

int main(void)
{
    if (!fixture_open(&(tiny_model_options) { .chatglm4v = true }))
        return 1;
    engine = fixture_engine(&(glm4v_engine_options) { .context_length = 128 });
    if (!engine)
        return 1;
    TEST(a_picture_of_any_shape_takes_the_same_rows);
    TEST(the_picture_matters_and_the_text_repeats);
    TEST(one_picture_of_the_history_counts);
    TEST(a_second_picture_and_clips_are_refused_at_once);
    TEST(thinking_changes_nothing);
    TEST(rows_without_a_token_and_control_tokens_are_never_drawn);
    TEST(pieces_that_cut_the_picture_equal_the_whole);
    TEST(files_and_forms_do_not_change_what_is_opened);
    TEST(ids_that_the_configuration_lacks_are_the_tokenizers);
    TEST(a_tensor_that_does_not_fit_is_named);
    TEST(every_allocation_may_fail);
    glm4v_engine_close(&engine);
    fixture_close();
    return test_end();
}
