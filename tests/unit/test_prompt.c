/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chat templates: prompts.jsonl holds what the models' own templates give, made by
 * tests/data/tokenizer/expect.py. */
#include <jansson.h>

#include "base/mem.h"
#include "chat/prompt.h"
#include "test.h"
#include "token_lines.h"

#define DATA SOURCE_ROOT "/tests/data/tokenizer/"
#define MAX_TURNS 8
#define MAX_GRIDS 16

static glm4v_config config_for(const glm4v_tokenizer *t, glm4v_family family)
{
    return (glm4v_config) {
        .family = family,
        .text.vocab = 640,
        .vision.merge = 2,
        .vision.border = family == GLM4V_FAMILY_CHATGLM4V,
        .image_id = family == GLM4V_FAMILY_CHATGLM4V ? glm4v_tokenizer_control(t, "<|endoftext|>")
                                                     : glm4v_tokenizer_control(t, "<|image|>"),
        .video_id = glm4v_tokenizer_control(t, "<|video|>"),
        .image_start_id = glm4v_tokenizer_control(t, "<|begin_of_image|>"),
        .image_end_id = glm4v_tokenizer_control(t, "<|end_of_image|>"),
        .video_start_id = glm4v_tokenizer_control(t, "<|begin_of_video|>"),
        .video_end_id = glm4v_tokenizer_control(t, "<|end_of_video|>"),
    };
}

typedef struct {
    glm4v_tokenizer *tokenizer;
    glm4v_config config;
    glm4v_chat chat;
} setting;

static bool setting_open(setting *s, const char *name)
{
    glm4v_error err = { 0 };
    char dir[512];
    bool old = strcmp(name, "chatglm4v") == 0, ocr = strcmp(name, "glm-ocr") == 0;
    snprintf(dir, sizeof dir, DATA "%s", ocr ? "glm-4.5" : name); /* the same control tokens */
    memset(s, 0, sizeof *s);
    if (glm4v_tokenizer_open(&s->tokenizer, dir, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return false;
    }
    s->config = config_for(s->tokenizer, GLM4V_FAMILY_GLM4V);
    if (old || ocr)
        s->config = config_for(s->tokenizer, old ? GLM4V_FAMILY_CHATGLM4V : GLM4V_FAMILY_GLM_OCR);
    if (glm4v_chat_init(&s->chat, s->tokenizer, &s->config, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return false;
    }
    return true;
}

static int build(glm4v_prompt *prompt, const setting *s, const glm4v_task *task,
                 const glm4v_grid *grids, size_t n_grids, glm4v_error *err)
{
    const glm4v_prompt_maker with = { s->tokenizer, &s->chat, &s->config };
    return glm4v_prompt_build(prompt, &with, task, grids, n_grids, err);
}

/* ---- prompts.jsonl ---- */

static const glm4v_image picture = { 0 }; /* only counted */

/* What a line describes. Strings are borrowed from its tree. */
typedef struct {
    glm4v_task task;
    glm4v_turn turns[MAX_TURNS];
    glm4v_image images[MAX_GRIDS];
    glm4v_grid grids[MAX_GRIDS];
    size_t n_grids;
} line_case;

static uint32_t add_grids(line_case *c, const json_t *list)
{
    size_t i;
    json_t *grid;
    json_array_foreach((json_t *)list, i, grid)
    {
        c->grids[c->n_grids++] =
            (glm4v_grid) { (uint32_t)json_integer_value(json_array_get(grid, 0)),
                           (uint32_t)json_integer_value(json_array_get(grid, 1)),
                           json_number_value(json_array_get(grid, 2)) };
    }
    return (uint32_t)i;
}

static void read_case(line_case *c, const json_t *line)
{
    const json_t *prompt = json_object_get(line, "prompt"), *turn;
    size_t i;
    memset(c, 0, sizeof *c);
    json_array_foreach(json_object_get(line, "history"), i, turn)
    {
        const json_t *user = json_array_get(turn, 0);
        c->turns[i].user = json_string_value(json_object_get(user, "user"));
        c->turns[i].assistant = json_string_value(json_array_get(turn, 1));
        c->turns[i].images = &picture;
        c->turns[i].n_images = add_grids(c, json_object_get(user, "grids"));
        c->task.n_history++;
    }
    c->task.system = json_string_value(json_object_get(line, "system"));
    c->task.prompt = json_string_value(json_object_get(prompt, "user"));
    c->task.history = c->turns;
    c->task.images = c->images;
    c->task.n_images = add_grids(c, json_object_get(prompt, "grids"));
    c->task.frames = c->images;
    c->task.n_frames = 2 * add_grids(c, json_object_get(line, "clip"));
    c->task.thinking = json_is_true(json_object_get(line, "thinking"));
}

/* The runs must tell where the image ids are. */
static void check_runs(const glm4v_prompt *p, const setting *s, const line_case *c)
{
    size_t n_image = 0, n_run = 0;
    CHECK_EQ(p->n_runs, c->n_grids);
    for (int64_t i = 0; i < p->n_ids; i++)
        n_image += p->ids[i] == s->config.image_id;
    for (int64_t r = 0; r < p->n_runs; r++) {
        const glm4v_image_run *run = &p->runs[r];
        CHECK(run->grid_h == c->grids[r].grid_h && run->grid_w == c->grids[r].grid_w);
        CHECK_EQ(run->video, c->task.n_frames > 0);
        CHECK_EQ(p->ids[run->start - 1], s->config.image_start_id);
        CHECK_EQ(run->n, run->grid_h * run->grid_w / 4);
        for (uint32_t i = 0; i < run->grid_h * run->grid_w / 4; i++, n_run++)
            CHECK_EQ(p->ids[run->start + i], s->config.image_id);
        CHECK_EQ(p->ids[run->start + run->grid_h * run->grid_w / 4], s->config.image_end_id);
    }
    CHECK_EQ(n_image, n_run);
    CHECK_EQ(p->constant, p->n_runs ? p->runs[0].start : p->n_ids);
}

static void check_line(const setting *s, const json_t *line, int number)
{
    line_case c;
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    const json_t *ids = json_object_get(line, "ids");
    read_case(&c, line);
    if (build(&p, s, &c.task, c.grids, c.n_grids, &err)) {
        test_fail(__FILE__, __LINE__, "line %d: %s", number, err.msg);
        return;
    }
    bool same = p.n_ids == (int64_t)json_array_size(ids);
    for (int64_t i = 0; same && i < p.n_ids; i++)
        same = p.ids[i] == json_integer_value(json_array_get(ids, i));
    if (!same) {
        test_fail(__FILE__, __LINE__, "line %d differs", number);
        for (int64_t i = 0; i < p.n_ids; i++)
            printf("%s%d", i ? " " : "# ", (int)p.ids[i]);
        printf("\n");
    }
    check_runs(&p, s, &c);
    glm4v_prompt_clear(&p);
    CHECK(p.ids == NULL && p.n_ids == 0);
}

static void check_style(const char *style, int expected)
{
    setting s;
    char *line = NULL;
    size_t size = 0;
    int number = 0, seen = 0;
    FILE *file = fopen(DATA "prompts.jsonl", "r");
    REQUIRE(file);
    REQUIRE(setting_open(&s, style));
    CHECK_STR(glm4v_template_name(s.chat.format), style);
    while (getline(&line, &size, file) > 0) {
        json_t *root = json_loads(line, 0, NULL);
        const char *of = json_string_value(json_object_get(root, "style"));
        number++;
        if (of && strcmp(of, style) == 0) {
            check_line(&s, root, number);
            seen++;
        }
        json_decref(root);
    }
    CHECK_EQ(seen, expected);
    free(line);
    fclose(file);
    glm4v_tokenizer_close(&s.tokenizer);
}

static void glm41v_prompts_equal_the_template(void)
{
    check_style("glm-4.1v", 24);
}

static void glm45_prompts_equal_the_template(void)
{
    check_style("glm-4.5", 24);
}

static void glm_ocr_prompts_equal_the_template(void)
{
    check_style("glm-ocr", 24);
}

/* ---- GLM-4V-9B, which has no template file ---- */

/* ids += those of text, encoded on its own. */
static void expect_text(const setting *s, int32_t *ids, size_t *n, const char *text)
{
    glm4v_ids part = { 0 };
    CHECK_EQ(glm4v_tokenizer_encode(s->tokenizer, text, strlen(text), &part, NULL), 0);
    memcpy(ids + *n, part.ids, part.n * sizeof *ids);
    *n += part.n;
    glm4v_free(part.ids);
}

static void chatglm4v_role_lines_and_texts_are_encoded_apart(void)
{
    setting s;
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    int32_t ids[256];
    size_t n = 0;
    REQUIRE(setting_open(&s, "chatglm4v"));
    const glm4v_turn turns[] = { { "", "skipped", NULL, 0 }, { "\none", "", NULL, 0 } };
    const glm4v_task task = { .system = "S",
                              .prompt = "\ntwo",
                              .n_images = 1,
                              .images = &picture,
                              .history = turns,
                              .n_history = 2 };
    const glm4v_grid grid = { 4, 4, 0 };
    CHECK_EQ(build(&p, &s, &task, &grid, 1, &err), 0);
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "[gMASK]");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<sop>");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|system|>");
    expect_text(&s, ids, &n, "\n");
    expect_text(&s, ids, &n, "S");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|assistant|>");
    expect_text(&s, ids, &n, "\n");
    expect_text(&s, ids, &n, "skipped");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|user|>");
    expect_text(&s, ids, &n, "\n");
    expect_text(&s, ids, &n, "\none");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|user|>");
    expect_text(&s, ids, &n, "\n");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|begin_of_image|>");
    for (int i = 0; i < 4; i++)
        ids[n++] = s.config.image_id;
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|end_of_image|>");
    expect_text(&s, ids, &n, "\ntwo");
    ids[n++] = glm4v_tokenizer_control(s.tokenizer, "<|assistant|>");
    CHECK_EQ(p.n_ids, n);
    CHECK((size_t)p.n_ids == n && memcmp(p.ids, ids, n * sizeof *ids) == 0);
    /* the learned rows stand for the two image tokens: these belong to the picture */
    CHECK_EQ(p.n_runs, 1);
    CHECK_EQ(p.runs[0].n, 6);
    CHECK_EQ(p.ids[p.runs[0].start], s.config.image_start_id);
    CHECK_EQ(p.ids[p.runs[0].start + 5], s.config.image_end_id);
    CHECK_EQ(p.constant, p.runs[0].start);
    glm4v_prompt_clear(&p);
    glm4v_tokenizer_close(&s.tokenizer);
}

/* ---- refusals ---- */

static void check_invalid(const setting *s, const glm4v_task *task, const glm4v_grid *grids,
                          size_t n, const char *word)
{
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    CHECK_EQ(build(&p, s, task, grids, n, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, word);
    CHECK(p.ids == NULL && p.runs == NULL);
}

static void wrong_tasks_are_refused(void)
{
    setting s;
    const glm4v_grid grids[] = {
        { 2, 2, 0 }, { 2, 2, -1 }, { 3, 2, 0 }, { 1u << 31, 1u << 31, 0 }, { 2, 2, NAN }
    };
    const glm4v_turn bad_turn = { "\xFF", "a", NULL, 0 }, bad_answer = { "a", "b\xC3", NULL, 0 };
    const glm4v_turn with_picture = { "a", "b", &picture, 1 };
    REQUIRE(setting_open(&s, "glm-4.1v"));
    check_invalid(&s, &(glm4v_task) { 0 }, NULL, 0, "no prompt");
    check_invalid(&s, &(glm4v_task) { .prompt = "a\x80" }, NULL, 0,
                  "prompt is not UTF-8 at byte 1");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .system = "\xED\xA0\x80" }, NULL, 0,
                  "system prompt is not UTF-8");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .history = &bad_turn, .n_history = 1 }, NULL,
                  0, "history");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .history = &bad_answer, .n_history = 1 }, NULL,
                  0, "history");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_images = 2 }, grids, 1,
                  "1 picture sizes for 2");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_images = 1 }, grids + 2, 1,
                  "2 x 3 patches");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_images = 1 }, grids + 3, 1, "more than");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_frames = 2 }, grids + 1, 1, "timestamp");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_frames = 2 }, grids + 4, 1, "timestamp");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_frames = 2 }, grids, 0, "0 picture sizes");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_frames = 2, .n_images = 1 }, grids, 2,
                  "clip");
    check_invalid(
        &s,
        &(glm4v_task) { .prompt = "a", .n_frames = 2, .history = &with_picture, .n_history = 1 },
        grids, 2, "clip");
    glm4v_tokenizer_close(&s.tokenizer);
    REQUIRE(setting_open(&s, "chatglm4v"));
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_images = 2 }, grids, 2,
                  "one picture in a conversation and no clips, found 2 pictures");
    check_invalid(
        &s,
        &(glm4v_task) { .prompt = "a", .n_images = 1, .history = &with_picture, .n_history = 1 },
        grids, 2, "found 2 pictures");
    check_invalid(&s, &(glm4v_task) { .prompt = "a", .n_frames = 2 }, grids, 1, "2 clip frames");
    glm4v_tokenizer_close(&s.tokenizer);
}

static void a_clip_needs_its_tokens(void)
{
    setting s;
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    const glm4v_grid grid = { 2, 2, 0 };
    REQUIRE(setting_open(&s, "glm-4.1v"));
    s.config.video_start_id = -1;
    CHECK_EQ(glm4v_chat_init(&s.chat, s.tokenizer, &s.config, &err), 0);
    CHECK_EQ(build(&p, &s, &(glm4v_task) { .prompt = "a", .n_frames = 2 }, &grid, 1, &err),
             GLM4V_ERR_UNSUPPORTED);
    glm4v_tokenizer_close(&s.tokenizer);
}

static void check_init(setting *s, int code, const char *word)
{
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_chat_init(&s->chat, s->tokenizer, &s->config, &err), code);
    if (code)
        CHECK_CONTAINS(err.msg, word);
}

/* chat_init with one id of the configuration changed; with another size of the vocabulary. */
static void check_id(setting *s, int32_t *field, int32_t value, const char *word)
{
    int32_t kept = *field;
    *field = value;
    check_init(s, GLM4V_ERR_FORMAT, word);
    *field = kept;
}

static void check_vocab(setting *s, int64_t size, int code)
{
    int64_t kept = s->config.text.vocab;
    s->config.text.vocab = size;
    check_init(s, code, "vocab_size");
    s->config.text.vocab = kept;
}

static void ids_of_config_json_must_name_the_right_tokens(void)
{
    setting s;
    REQUIRE(setting_open(&s, "glm-4.1v"));
    check_id(&s, &s.config.image_id, 570, "image_token_id");
    check_id(&s, &s.config.image_id, -1, "image_token_id");
    check_id(&s, &s.config.image_start_id, 7, "image_start_token_id");
    check_id(&s, &s.config.image_end_id, 7, "image_end_token_id");
    check_id(&s, &s.config.video_start_id, 7, "video_start_token_id");
    check_id(&s, &s.config.video_end_id, 7, "video_end_token_id");
    check_vocab(&s, glm4v_tokenizer_size(s.tokenizer) - 1, GLM4V_ERR_FORMAT);
    check_vocab(&s, glm4v_tokenizer_size(s.tokenizer), 0);
    glm4v_tokenizer_close(&s.tokenizer);
}

static void control_tokens_that_fit_no_template_are_refused(void)
{
    setting s;
    glm4v_chat chat;
    glm4v_error err = { 0 };
    REQUIRE(setting_open(&s, "chatglm4v"));
    s.config.family = GLM4V_FAMILY_GLM4V; /* neither <answer> nor /nothink */
    CHECK_EQ(glm4v_chat_init(&chat, s.tokenizer, &s.config, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "/nothink");
    glm4v_tokenizer_close(&s.tokenizer);
    CHECK_EQ(glm4v_tokenizer_open_file(&s.tokenizer, DATA "chatglm4v/tokenizer.model", &err), 0);
    s.config.family = GLM4V_FAMILY_CHATGLM4V;
    CHECK_EQ(glm4v_chat_init(&chat, s.tokenizer, &s.config, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "[gMASK]");
    glm4v_tokenizer_close(&s.tokenizer);
}

/* The text behind the picture of a one-patch clip must be `expected`. */
static void check_timestamp(const setting *s, double seconds, const char *expected)
{
    glm4v_prompt p = { 0 };
    glm4v_error err = { 0 };
    const glm4v_grid grid = { 2, 2, seconds };
    CHECK_EQ(
        build(&p, s, &(glm4v_task) { .prompt = "", .n_frames = 2, .thinking = 1 }, &grid, 1, &err),
        0);
    /* [gMASK] <sop> <|user|> newline, video start, image start, image, image end, time, video end,
     * <|assistant|> */
    size_t end = p.n_ids;
    while (end > 8 && p.ids[end - 1] != s->config.video_end_id)
        end--;
    if (end <= 8 || !token_ids_spell(s->tokenizer, p.ids + 8, end - 9, expected, strlen(expected)))
        test_fail(__FILE__, __LINE__, "%.17g is not written as \"%s\"", seconds, expected);
    glm4v_prompt_clear(&p);
}

static void timestamps_are_rounded_to_tenths_as_printf_does(void)
{
    setting s;
    char expected[64];
    uint32_t seed = 1;
    REQUIRE(setting_open(&s, "glm-4.5"));
    for (int i = 0; i < 20000 && test_ok; i++) {
        seed = seed * 1664525u + 1013904223u;
        /* any value, one near a tie, an exact tie or one step beside it, a large one */
        double quarter = (seed >> 20) / 4.0, towards = seed & 1 ? 1e9 : i % 8 == 2 ? 0 : quarter;
        double seconds = i % 4 == 0   ? seed / 65536.0 / 7
                         : i % 4 == 1 ? (seed >> 20) / 20.0
                         : i % 4 == 2 ? nextafter(quarter, towards)
                                      : seed / 4.3;
        snprintf(expected, sizeof expected, "%.1f seconds", seconds); /* in the C locale */
        check_timestamp(&s, seconds, expected);
    }
    check_timestamp(&s, 0.25, "0.2 seconds");
    check_timestamp(&s, 0.75, "0.8 seconds");
    check_timestamp(&s, 9.95, "9.9 seconds"); /* the number is a little less */
    check_timestamp(&s, 9.96, "10.0 seconds");
    glm4v_tokenizer_close(&s.tokenizer);
    REQUIRE(setting_open(&s, "glm-4.1v"));
    check_timestamp(&s, 0.999, "0");
    check_timestamp(&s, 61.5, "61");
    glm4v_tokenizer_close(&s.tokenizer);
}

/* Whatever the model that ships is trained to next, its tokenizer must be of the kind that this
 * engine reads. */
static void the_shipped_model_speaks_glm41v(void)
{
    static const char *const texts[] = {
        "Describe the image in one sentence.", "用一句话描述这张图片。",
        "A scratch at the top left.\n\n  {\"count\": 2} \u017f\U0001F600"
    };
    static const char dir[] = SOURCE_ROOT "/models/surface-tiny";
    setting s = { 0 };
    glm4v_error err = { 0 };
    const glm4v_grid grid = { 2, 2, 0 };
    if (glm4v_config_read(&s.config, dir, true, &err) ||
        glm4v_tokenizer_open(&s.tokenizer, dir, &err) ||
        glm4v_chat_init(&s.chat, s.tokenizer, &s.config, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return;
    }
    CHECK_STR(glm4v_template_name(s.chat.format), "glm-4.1v");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        glm4v_prompt p = { 0 };
        const glm4v_task task = { .prompt = texts[i], .images = &picture, .n_images = 1 };
        CHECK_EQ(build(&p, &s, &task, &grid, 1, &err), 0);
        /* [gMASK] <sop> <|user|> newline, picture, text, <|assistant|> newline <think> </think>
         * <answer> */
        REQUIRE(p.n_ids > 12);
        CHECK_EQ(p.ids[4], s.config.image_start_id);
        CHECK_EQ(p.ids[p.n_ids - 1], s.chat.answer);
        CHECK(token_ids_spell(s.tokenizer, p.ids + 7, p.n_ids - 12, texts[i], strlen(texts[i])));
        glm4v_prompt_clear(&p);
    }
    glm4v_tokenizer_close(&s.tokenizer);
}

static void failing_memory_is_an_error_and_leaks_nothing(void)
{
    setting s;
    const glm4v_turn turn = { "the surface", "a scratch", &picture, 1 };
    const glm4v_task task = {
        .prompt = "Describe", .system = "S", .history = &turn, .n_history = 1
    };
    const glm4v_grid grid = { 20, 20, 0 };
    REQUIRE(setting_open(&s, "glm-4.5"));
    size_t live = glm4v_mem_live();
    for (uint64_t nth = 1, done = 0; !done && test_ok; nth++) {
        glm4v_prompt p = { 0 };
        uint64_t before = glm4v_mem_calls();
        glm4v_mem_fail_at(nth, nth % 2);
        int rc = build(&p, &s, &task, &grid, 1, NULL);
        done = glm4v_mem_calls() - before < nth;
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(rc, done ? 0 : GLM4V_ERR_NOMEM);
        glm4v_prompt_clear(&p);
        CHECK_EQ(glm4v_mem_live(), live);
    }
    glm4v_tokenizer_close(&s.tokenizer);
}

int main(void)
{
    TEST(glm41v_prompts_equal_the_template);
    TEST(glm45_prompts_equal_the_template);
    TEST(glm_ocr_prompts_equal_the_template);
    TEST(chatglm4v_role_lines_and_texts_are_encoded_apart);
    TEST(wrong_tasks_are_refused);
    TEST(a_clip_needs_its_tokens);
    TEST(ids_of_config_json_must_name_the_right_tokens);
    TEST(control_tokens_that_fit_no_template_are_refused);
    TEST(timestamps_are_rounded_to_tenths_as_printf_does);
    TEST(the_shipped_model_speaks_glm41v);
    TEST(failing_memory_is_an_error_and_leaks_nothing);
    return test_end();
}
