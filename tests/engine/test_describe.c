/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The whole path of one request on the tiny model: pictures, clips, history, reasoning, limits,
 * refusals. */
#include "base/mem.h"
#include "base/utf8.h"
#include "checkpoint/safetensors.h"
#include "fixture.h"

static glm4v_engine *engine;
static bool model_reasons;

/* Tokens of a picture: patches after merging. */
static uint32_t tokens_of(const glm4v_result *r)
{
    return r->image_width / 28 * (r->image_height / 28);
}

static void a_picture_gives_text_and_figures(void)
{
    glm4v_image image = picture(0, 200, 100);
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
    CHECK(r.answer[0] && atomic_load(&r.n_text) > 0);
    CHECK(glm4v_utf8_valid(r.answer, strlen(r.answer), NULL));
    CHECK(r.numbers.image_width == 196 && r.numbers.image_height == 112);
    CHECK_EQ(r.numbers.vision_tokens, tokens_of(&r.numbers));
    CHECK(r.numbers.prompt_tokens > r.numbers.vision_tokens);
    CHECK(r.numbers.output_tokens >= 1 && r.numbers.output_tokens <= 12);
    const glm4v_timings *t = &r.numbers.timings;
    CHECK(t->preprocess && t->vision && t->prefill && t->first_token && t->total);
    CHECK(t->queued + t->preprocess + t->vision + t->prefill <= t->first_token);
    CHECK(t->first_token + t->decode <= t->total + 1000000);
}

static void the_same_task_gives_the_same_text(void)
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
    CHECK(strcmp(a.answer, c.answer)); /* the picture matters */
}

static void streamed_text_is_the_answer(void)
{
    for (uint32_t i = 0; i < 6; i++) {
        glm4v_image image = picture(i, 100, 100);
        record r;
        run_task(engine,
                 (glm4v_task) { .prompt = "Go on.",
                                .images = &image,
                                .n_images = 1,
                                .max_tokens = 30,
                                .temperature = 1,
                                .seed = i },
                 &r);
        /* the end is trimmed only afterwards */
        CHECK(!strncmp(r.text, r.answer, strlen(r.answer)));
        for (const char *rest = r.text + strlen(r.answer); *rest; rest++)
            CHECK(*rest == ' ' || *rest == '\n' || *rest == '\t' || *rest & 0x80);
    }
}

static void a_prompt_without_picture_is_answered(void)
{
    record r;
    run_task(engine, (glm4v_task) { .prompt = "Hello", .max_tokens = 5 }, &r);
    CHECK_EQ(r.status, 0);
    CHECK_EQ(r.numbers.vision_tokens, 0);
    CHECK_EQ(r.numbers.image_width, 0);
}

static void max_tokens_bounds_the_answer(void)
{
    glm4v_image image = picture(1, 100, 100);
    for (uint32_t n = 1; n <= 9; n += 4) {
        record r;
        run_task(
            engine,
            (glm4v_task) { .prompt = "Long.", .images = &image, .n_images = 1, .max_tokens = n },
            &r);
        CHECK_EQ(r.status, 0);
        CHECK(r.numbers.output_tokens <= n);
        CHECK_EQ(r.finish, r.numbers.output_tokens == n ? GLM4V_FINISH_LENGTH : GLM4V_FINISH_STOP);
    }
}

static void a_full_context_ends_the_answer(void)
{
    glm4v_engine *small = fixture_engine(&(glm4v_engine_options) { .context_length = 40 });
    REQUIRE(small);
    record r;
    run_task(small, (glm4v_task) { .prompt = "aaaaaaaa", .max_tokens = 500, .temperature = 1 }, &r);
    CHECK_EQ(r.status, 0);
    if (r.finish == GLM4V_FINISH_LENGTH)
        /* the last token needs no place */
        CHECK_EQ(r.numbers.prompt_tokens + r.numbers.output_tokens, 41);
    glm4v_engine_close(&small);
}

static void a_prompt_beyond_the_context_is_told_to_on_done(void)
{
    glm4v_engine *small = fixture_engine(&(glm4v_engine_options) { .context_length = 40 });
    glm4v_image image = picture(0, 448, 448);
    record r;
    REQUIRE(small);
    run_task(small, (glm4v_task) { .prompt = "x", .images = &image, .n_images = 1 }, &r);
    CHECK_EQ(r.status, GLM4V_ERR_INVALID);
    CHECK_EQ(r.finish, GLM4V_FINISH_ERROR);
    CHECK_CONTAINS(r.message, "the context holds 40");
    CHECK_STR(r.answer, "");
    /* and the engine goes on */
    run_task(small, (glm4v_task) { .prompt = "x", .max_tokens = 3 }, &r);
    CHECK_EQ(r.status, 0);
    glm4v_engine_close(&small);
}

static void images_that_the_device_cannot_read_are_refused(void)
{
    static const struct {
        glm4v_image_memory memory;
        glm4v_pixel_format format;
        int code;
        const char *text;
    } cases[] = {
        { GLM4V_IMAGE_HOST, GLM4V_PIXELS_NV12, GLM4V_ERR_UNSUPPORTED, "NV12" },
        { GLM4V_IMAGE_HOST, GLM4V_PIXELS_GRAY8, GLM4V_ERR_UNSUPPORTED, "videoconvert" },
        { GLM4V_IMAGE_CUDA, GLM4V_PIXELS_I420, GLM4V_ERR_UNSUPPORTED, "cudadownload" },
        { GLM4V_IMAGE_HOST, (glm4v_pixel_format)99, GLM4V_ERR_INVALID, "unknown format" },
        { (glm4v_image_memory)7, GLM4V_PIXELS_RGB, GLM4V_ERR_INVALID, "unknown format" },
    };
    glm4v_error err = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_image image = picture(0, 64, 48);
        image.memory = cases[i].memory;
        image.format = cases[i].format;
        const glm4v_task task = { .prompt = "x", .images = &image, .n_images = 1 };
        CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].text);
    }
    /* a part of an image in memory of the process: its caller lets data point there */
    glm4v_image parts[] = { picture(0, 64, 48), picture(1, 64, 48) };
    parts[1].left = 4;
    glm4v_task task = { .prompt = "x", .images = parts, .n_images = 2 };
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "left 4");
    task = (glm4v_task) { .prompt = "x", .frames = parts, .n_frames = 2 };
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "must be alike");
}

static void max_pixels_bounds_every_picture(void)
{
    glm4v_engine *small = fixture_engine(&(glm4v_engine_options) { .max_pixels = 50000 });
    glm4v_image image = picture(0, 1280, 720);
    record r;
    REQUIRE(small);
    run_task(small,
             (glm4v_task) { .prompt = "x", .images = &image, .n_images = 1, .max_tokens = 2 }, &r);
    CHECK_EQ(r.status, 0);
    CHECK(r.numbers.image_width * r.numbers.image_height <= 50000);
    CHECK(r.numbers.image_width * r.numbers.image_height > 35000);
    glm4v_engine_close(&small);
}

static void several_pictures_are_all_seen(void)
{
    glm4v_image images[] = { picture(0, 100, 100), picture(1, 60, 200), picture(2, 300, 40) };
    record three, swapped, single;
    glm4v_task task = {
        .prompt = "Compare.", .images = images, .n_images = 3, .max_tokens = 24, .temperature = 1
    };
    run_task(engine, task, &three);
    CHECK_EQ(three.status, 0);
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        task.images = &images[i];
        task.n_images = 1;
        run_task(engine, task, &single);
        sum += single.numbers.vision_tokens;
    }
    CHECK_EQ(three.numbers.vision_tokens, sum);
    task.images = (glm4v_image[]) { images[0], images[2], images[1] };
    task.n_images = 3;
    run_task(engine, task, &swapped);
    CHECK_EQ(swapped.numbers.vision_tokens, sum);
    CHECK(strcmp(swapped.answer, three.answer));
}

static void history_and_its_pictures_count(void)
{
    glm4v_image before = picture(5, 100, 100), now = picture(6, 100, 100);
    glm4v_turn turn = {
        .user = "What is this?", .assistant = "A plate.", .images = &before, .n_images = 1
    };
    record plain, with, without_picture;
    glm4v_task task = { .prompt = "And now?", .images = &now, .n_images = 1, .max_tokens = 24 };
    run_task(engine, task, &plain);
    task.history = &turn;
    task.n_history = 1;
    run_task(engine, task, &with);
    CHECK_EQ(with.status, 0);
    CHECK_EQ(with.numbers.vision_tokens, 2 * plain.numbers.vision_tokens);
    turn.n_images = 0;
    run_task(engine, task, &without_picture);
    CHECK_EQ(without_picture.numbers.vision_tokens, plain.numbers.vision_tokens);
    CHECK(without_picture.numbers.prompt_tokens > plain.numbers.prompt_tokens);
}

static void a_clip_is_seen_in_pairs_of_frames(void)
{
    glm4v_image frames[8]; /* at 2 a second: all are taken */
    record r, reversed;
    for (uint32_t i = 0; i < 8; i++)
        frames[i] = picture(i, 120, 80);
    glm4v_task task = {
        .prompt = "What happens?", .frames = frames, .n_frames = 8, .max_tokens = 24
    };
    run_task(engine, task, &r);
    CHECK_EQ(r.status, 0);
    CHECK_EQ(r.numbers.vision_tokens, 4 * tokens_of(&r.numbers));
    for (uint32_t i = 0; i < 8; i++) {
        frames[i] = picture(7 - i, 120, 80);
        frames[i].timestamp = i / 2.0;
    }
    run_task(engine, task, &reversed);
    CHECK(strcmp(r.answer, reversed.answer));
}

static void reasoning_is_told_apart_and_bounded(void)
{
    glm4v_image image = picture(2, 100, 100);
    int reasoned = 0, answered = 0;
    for (uint32_t seed = 0; seed < 12; seed++) {
        record r;
        run_task(engine,
                 (glm4v_task) { .prompt = "Think.",
                                .images = &image,
                                .n_images = 1,
                                .max_tokens = 8,
                                .thinking = 1,
                                .max_reasoning_tokens = 6,
                                .temperature = 1,
                                .seed = seed },
                 &r);
        CHECK_EQ(r.status, 0);
        CHECK(r.numbers.output_tokens <= 14);
        CHECK(!r.reasoning[0] || strcmp(r.answer, r.reasoning));
        CHECK(!strstr(r.answer, "think>") && !strstr(r.reasoning, "think>"));
        reasoned += r.reasoning[0] != 0;
        /* after the forced end */
        answered += r.reasoning[0] && r.numbers.output_tokens > 6 && r.answer[0];
    }
    if (model_reasons)
        CHECK(reasoned > 6 && answered > 4);
    else
        CHECK_EQ(reasoned, 0); /* asked to reason, it answers */
}

static void without_thinking_there_is_no_reasoning(void)
{
    for (uint32_t seed = 0; seed < 12; seed++) {
        record r;
        run_task(engine,
                 (glm4v_task) { .prompt = "Go.", .max_tokens = 60, .temperature = 2, .seed = seed },
                 &r);
        CHECK_STR(r.reasoning, "");
    }
}

static void questions_about_the_same_pictures_share_their_encoding(void)
{
    glm4v_engine *fresh = fixture_engine(NULL), *alone = fixture_engine(NULL);
    const glm4v_image image = picture(8, 100, 100), other = picture(9, 100, 100);
    const char *prompts[] = { "Is it whole?", "Which color has it, and which shape?", "Well?" };
    glm4v_task task = { .system = "Be brief.", .n_images = 1, .max_tokens = 24 };
    record shared, apart;
    REQUIRE(fresh && alone);
    for (uint32_t i = 0; i < 9; i++) { /* three questions about each of three pictures */
        task.prompt = prompts[i % 3];
        task.images = i / 3 == 1 ? &other : &image;
        task.pictures_id = 100 + i / 3;
        run_task(fresh, task, &shared);
        task.pictures_id = 0;
        run_task(alone, task, &apart);
        CHECK_STR(shared.answer, apart.answer);
        CHECK_EQ(shared.numbers.prompt_tokens, apart.numbers.prompt_tokens);
        CHECK_EQ(shared.numbers.timings.vision > 0, i % 3 == 0);
        CHECK_EQ(shared.numbers.cached_tokens > apart.numbers.vision_tokens, i % 3 > 0);
    }
    glm4v_engine_close(&fresh);
    glm4v_engine_close(&alone);
}

static void pictures_that_do_not_fit_the_prefix_are_encoded_again(void)
{
    glm4v_engine *small = fixture_engine(&(glm4v_engine_options) { .prefix_tokens = 12 });
    const glm4v_image image = picture(8, 100, 100);
    glm4v_task task = {
        .prompt = "Is it whole?", .images = &image, .n_images = 1, .max_tokens = 8, .pictures_id = 5
    };
    record first, second;
    REQUIRE(small);
    run_task(small, task, &first);
    run_task(small, task, &second);
    CHECK_STR(second.answer, first.answer);
    CHECK(second.numbers.timings.vision > 0);
    CHECK(second.numbers.cached_tokens < second.numbers.vision_tokens + 12);
    glm4v_engine_close(&small);
}

static void the_constant_prefix_is_computed_once(void)
{
    glm4v_engine *fresh = fixture_engine(NULL);
    glm4v_image image = picture(8, 100, 100);
    glm4v_task task = { .system = "You inspect surfaces and name what is wrong with them.",
                        .prompt = "Well?",
                        .images = &image,
                        .n_images = 1,
                        .max_tokens = 24 };
    record first, second, other;
    glm4v_engine_stats stats = { 0 };
    REQUIRE(fresh);
    run_task(fresh, task, &first);
    run_task(fresh, task, &second);
    CHECK_EQ(first.numbers.cached_tokens, 0);
    CHECK(second.numbers.cached_tokens > 10);
    CHECK_STR(second.answer, first.answer);
    task.system = "You inspect surfaces and count what is wrong with them.";
    run_task(fresh, task, &other);
    CHECK(other.numbers.cached_tokens > 3 &&
          other.numbers.cached_tokens < second.numbers.cached_tokens);
    task.system = "You inspect surfaces and name what is wrong with them.";
    run_task(fresh, task, &second);
    CHECK_STR(second.answer, first.answer);
    glm4v_engine_get_stats(fresh, &stats, NULL);
    CHECK_EQ(stats.prefix_hits, 3);
    glm4v_engine_close(&fresh);
}

static void describe_hands_out_a_copy(void)
{
    glm4v_image image = picture(9, 100, 100);
    glm4v_task task = { .prompt = "Describe.", .images = &image, .n_images = 1, .max_tokens = 16 };
    glm4v_result *result = NULL;
    glm4v_error err = { .code = 77, .msg = "untouched" };
    record r;
    run_task(engine, task, &r);
    REQUIRE(!glm4v_describe(engine, &task, &result, &err));
    CHECK_STR(result->text, r.answer);
    CHECK_EQ(result->output_tokens, r.numbers.output_tokens);
    CHECK_STR(result->message, "");
    CHECK_EQ(err.code, 77);
    CHECK_STR(err.msg, "untouched");
    glm4v_result_free(&result);
    CHECK(!result);
    glm4v_result_free(&result);
}

static void short_structs_of_older_versions_are_taken(void)
{
    glm4v_image image = picture(9, 100, 100);
    glm4v_task task = { .struct_size = offsetof(glm4v_task, thinking),
                        .prompt = "Describe.",
                        .images = &image,
                        .n_images = 1,
                        .max_tokens = 4,
                        .thinking = 1,
                        .temperature = 99 };
    glm4v_result *result = NULL;
    CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
    CHECK(result && !result->reasoning[0]);
    glm4v_result_free(&result);
}

typedef struct {
    glm4v_task task;
    const char *says;
} refusal;

static void bad_tasks_are_refused_at_once(void)
{
    static const uint8_t rgb[12];
    glm4v_image good = picture(0, 50, 50), none = { .width = 5, .height = 5, .stride = 15 };
    glm4v_image empty = { .data = rgb, .width = 0, .height = 2, .stride = 6 };
    glm4v_image narrow = { .data = rgb, .width = 1, .height = 9000, .stride = 3 };
    glm4v_image short_rows = { .data = rgb, .width = 2, .height = 2, .stride = 5 };
    glm4v_image back[] = { picture(2, 50, 50), picture(1, 50, 50) };
    glm4v_image unequal[] = { picture(0, 50, 50), picture(1, 50, 51) };
    glm4v_turn no_answer = { .user = "Q" }, bad_turn = { .user = "Q", .assistant = "\xff" };
    glm4v_turn bad_picture = { .user = "Q", .assistant = "A", .images = &empty, .n_images = 1 };
    const refusal cases[] = {
        { { .images = &good, .n_images = 1 }, "has no prompt" },
        { { .prompt = "caf\xe9" }, "not UTF-8" },
        { { .prompt = "x", .system = "\xc0\x80" }, "system prompt is not UTF-8" },
        { { .prompt = "x", .images = &none, .n_images = 1 }, "has no data" },
        { { .prompt = "x", .images = &empty, .n_images = 1 }, "0x2" },
        { { .prompt = "x", .images = &narrow, .n_images = 1 }, "too narrow" },
        { { .prompt = "x", .images = &short_rows, .n_images = 1 }, "5 bytes" },
        { { .prompt = "x", .n_images = 1 }, "the pointer is NULL" },
        { { .prompt = "x", .images = &good, .n_images = 65 }, "at most 64" },
        { { .prompt = "x", .frames = &good, .n_frames = 641 }, "at most 640" },
        { { .prompt = "x", .images = &good, .n_images = 1, .frames = &good, .n_frames = 1 },
          "both images and clip frames" },
        { { .prompt = "x", .frames = back, .n_frames = 2 }, "must not decrease" },
        { { .prompt = "x", .frames = unequal, .n_frames = 2 }, "50x51" },
        { { .prompt = "x", .history = &no_answer, .n_history = 1 }, "has no answer" },
        { { .prompt = "x", .history = &bad_turn, .n_history = 1 }, "not UTF-8" },
        { { .prompt = "x", .history = &bad_picture, .n_history = 1 }, "0x2" },
        { { .prompt = "x", .max_tokens = 65537 }, "max_tokens" },
        { { .prompt = "x", .max_reasoning_tokens = 65537 }, "max_reasoning_tokens" },
        { { .prompt = "x", .temperature = 2.5f }, "temperature" },
        { { .prompt = "x", .temperature = NAN }, "temperature" },
        { { .prompt = "x", .top_p = 1.5f }, "top_p" },
        { { .prompt = "x", .repetition_penalty = 0.5f }, "repetition_penalty" },
        { { .prompt = "x", .struct_size = 3 }, "struct_size" },
    };
    size_t live = glm4v_mem_live();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_error err = { 0 };
        glm4v_request *request = NULL;
        record r = { 0 };
        glm4v_task task = cases[i].task;
        task.on_done = record_done;
        task.user = &r;
        CHECK_EQ(glm4v_engine_submit(engine, &task, &request, &err), GLM4V_ERR_INVALID);
        CHECK_EQ(err.code, GLM4V_ERR_INVALID);
        CHECK_CONTAINS(err.msg, cases[i].says);
        CHECK(!request && !atomic_load(&r.n_done));
    }
    CHECK_EQ(glm4v_mem_live(), live);
}

static void bad_engine_options_are_refused(void)
{
    static const glm4v_engine_options bad[] = { { .max_batch = 65 },
                                                { .max_pending = 65537 },
                                                { .context_length = 1u << 30 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        glm4v_engine *none = NULL;
        glm4v_error err = { 0 };
        CHECK_EQ(glm4v_engine_open(&none, fixture_model, &bad[i], &err), GLM4V_ERR_INVALID);
        CHECK(err.msg[0] && !none);
    }
}

static void a_model_without_tokenizer_cannot_describe(void)
{
    glm4v_model *model = NULL;
    glm4v_engine *none = NULL;
    glm4v_error err = { 0 };
    REQUIRE(
        !glm4v_model_open(&model, fixture_dir, &(glm4v_model_options) { .weights_only = 1 }, NULL));
    CHECK_EQ(glm4v_engine_open(&none, model, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "tokenizer");
    glm4v_model_close(&model);
}

/* Overwrite a bf16 tensor of a model on disk with one value. */
static bool overwrite(const char *dir, const char *tensor, uint16_t value)
{
    char path[300];
    glm4v_checkpoint *files = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (glm4v_checkpoint_open_file(&files, path, NULL))
        return false;
    const glm4v_tensor *t = glm4v_checkpoint_find(files, tensor);
    FILE *file = fopen(path, "r+b");
    bool good = t && file && !fseek(file, (long)t->offset, SEEK_SET);
    for (uint64_t i = 0; good && i < t->size / 2; i++)
        good = fwrite(&value, sizeof value, 1, file) == 1;
    if (file)
        good &= !fclose(file);
    glm4v_checkpoint_close(&files);
    return good;
}

/* Finite weights, but so large that logits are not. */
static void logits_that_are_no_numbers_fail_the_request(void)
{
    char dir[256];
    glm4v_model *good = fixture_model;
    glm4v_error err = { 0 };
    record r;
    /* 3.4e38 */
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL) && overwrite(dir, "lm_head.weight", 0x7f7f));
    REQUIRE(!glm4v_model_open(&fixture_model, dir, NULL, &err));
    glm4v_engine *broken = fixture_engine(NULL);
    glm4v_image image = picture(0, 50, 50);
    REQUIRE(broken);
    run_task(broken, (glm4v_task) { .prompt = "x", .images = &image, .n_images = 1 }, &r);
    CHECK_EQ(r.status, GLM4V_ERR_INTERNAL);
    CHECK_EQ(r.finish, GLM4V_FINISH_ERROR);
    CHECK_CONTAINS(r.message, "logits are not finite");
    CHECK_STR(r.answer, "");
    glm4v_engine_close(&broken);
    glm4v_model_close(&fixture_model);
    fixture_model = good;
    tiny_model_remove(dir);
}

static void nothing_stays_allocated_after_close(void)
{
    size_t live = glm4v_mem_live();
    glm4v_engine *fresh = fixture_engine(NULL);
    glm4v_image frames[] = { picture(0, 90, 50), picture(1, 90, 50), picture(2, 90, 50) };
    record r;
    REQUIRE(fresh);
    run_task(fresh,
             (glm4v_task) { .prompt = "x",
                            .frames = frames,
                            .n_frames = 3,
                            .max_tokens = 4,
                            .repetition_penalty = 1.2f },
             &r);
    CHECK_EQ(r.status, 0);
    glm4v_engine_close(&fresh);
    CHECK(!fresh);
    CHECK_EQ(glm4v_mem_live(), live);
    glm4v_engine_close(&fresh);
}

int main(int argc, char **argv)
{
    const char *family = argc > 1 ? argv[1] : "";
    tiny_model_options tiny = { .glm45 = !strcmp(family, "glm45"),
                                .glm_ocr = !strcmp(family, "glm_ocr") };
    model_reasons = !tiny.glm_ocr;
    if (!fixture_open(&tiny) || !(engine = fixture_engine(NULL)))
        return 1;
    TEST(a_picture_gives_text_and_figures);
    TEST(the_same_task_gives_the_same_text);
    TEST(streamed_text_is_the_answer);
    TEST(a_prompt_without_picture_is_answered);
    TEST(max_tokens_bounds_the_answer);
    TEST(a_full_context_ends_the_answer);
    TEST(a_prompt_beyond_the_context_is_told_to_on_done);
    TEST(images_that_the_device_cannot_read_are_refused);
    TEST(max_pixels_bounds_every_picture);
    TEST(several_pictures_are_all_seen);
    TEST(history_and_its_pictures_count);
    TEST(a_clip_is_seen_in_pairs_of_frames);
    TEST(reasoning_is_told_apart_and_bounded);
    TEST(without_thinking_there_is_no_reasoning);
    TEST(questions_about_the_same_pictures_share_their_encoding);
    TEST(pictures_that_do_not_fit_the_prefix_are_encoded_again);
    TEST(the_constant_prefix_is_computed_once);
    TEST(describe_hands_out_a_copy);
    TEST(short_structs_of_older_versions_are_taken);
    TEST(bad_tasks_are_refused_at_once);
    TEST(bad_engine_options_are_refused);
    TEST(a_model_without_tokenizer_cannot_describe);
    TEST(logits_that_are_no_numbers_fail_the_request);
    glm4v_engine_close(&engine); /* its thread frees the last request after its answer is out */
    TEST(nothing_stays_allocated_after_close);
    fixture_close();
    return test_end();
}
