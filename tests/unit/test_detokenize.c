/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The last stage: ids to text. Checks O-01 to O-03 and O-05 of the fault plan are named at their
 * tests. */
#include "base/mem.h"
#include "base/utf8.h"
#include "chat/answer.h"
#include "test.h"

#define DATA SOURCE_ROOT "/tests/data/tokenizer/"

/* Everything that came out of one run. */
typedef struct {
    glm4v_detokenizer d;
    char answer[4096], reasoning[4096]; /* the stream, by part; box text is answer */
    char box[1024];                     /* stream of the box part alone */
    bool fits;
} run;

static glm4v_tokenizer *tokenizer;
static glm4v_chat chat;

static void open_tokenizer(const char *name)
{
    glm4v_error err = { 0 };
    char dir[512];
    snprintf(dir, sizeof dir, DATA "%s", name);
    glm4v_tokenizer_close(&tokenizer);
    if (glm4v_tokenizer_open(&tokenizer, dir, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return;
    }
    const glm4v_config config = {
        .family = strcmp(name, "chatglm4v") ? GLM4V_FAMILY_GLM4V : GLM4V_FAMILY_CHATGLM4V,
        .text.vocab = 4096,
        .image_id = glm4v_tokenizer_control(tokenizer, "<|image|>"),
        .image_start_id = glm4v_tokenizer_control(tokenizer, "<|begin_of_image|>"),
        .image_end_id = glm4v_tokenizer_control(tokenizer, "<|end_of_image|>"),
        .video_start_id = -1,
        .video_end_id = -1,
    };
    if (glm4v_chat_init(&chat, tokenizer, &config, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void start(run *r, bool thinking, uint32_t max_tokens)
{
    glm4v_error err = { 0 };
    memset(r, 0, sizeof *r);
    r->fits = true;
    if (glm4v_detokenizer_init(&r->d, tokenizer, &chat, thinking, max_tokens, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void push(run *r, int32_t id)
{
    const char *text = NULL;
    glm4v_text_part part;
    r->fits = glm4v_detokenizer_push(&r->d, id, &text, &part);
    if (!glm4v_utf8_valid(text, strlen(text), NULL))
        test_fail(__FILE__, __LINE__, "id %d gave text that is not UTF-8", (int)id);
    char *stream = part == GLM4V_TEXT_REASONING ? r->reasoning : r->answer;
    size_t room = sizeof r->answer - strlen(stream) - 1;
    strncat(stream, text, room);
    if (part == GLM4V_TEXT_BOX)
        strncat(r->box, text, sizeof r->box - strlen(r->box) - 1);
}

/* Push text in which {name} stands for the control token <name>, {box} {/box} for the box markers,
 * {/nothink} and {user} likewise. */
static void push_text(run *r, const char *text)
{
    while (*text) {
        size_t plain = strcspn(text, "{");
        glm4v_ids ids = { 0 };
        CHECK_EQ(glm4v_tokenizer_encode(tokenizer, text, plain, &ids, NULL), 0);
        for (size_t i = 0; i < ids.n; i++)
            push(r, ids.ids[i]);
        glm4v_free(ids.ids);
        text += plain;
        if (*text != '{')
            continue;
        char name[64], token[64];
        size_t len = strcspn(text, "}") - 1;
        snprintf(name, sizeof name, "%.*s", (int)len, text + 1);
        snprintf(token, sizeof token, "%s",
                 !strcmp(name, "box")    ? "<|begin_of_box|>"
                 : !strcmp(name, "/box") ? "<|end_of_box|>"
                                         : "");
        if (!*token)
            snprintf(token, sizeof token, !strcmp(name, "user") ? "<|%.40s|>" : "<%.40s>", name);
        int32_t id = glm4v_tokenizer_control(tokenizer, token);
        if (id < 0)
            test_fail(__FILE__, __LINE__, "no token %s", token);
        push(r, id);
        text += len + 2;
    }
}

static void finish(run *r)
{
    glm4v_detokenizer_finish(&r->d);
}

/* One answer from start to end. */
static void check(bool thinking, const char *output, const char *answer, const char *reasoning,
                  const char *box)
{
    run r;
    start(&r, thinking, 200);
    push_text(&r, output);
    finish(&r);
    CHECK_STR(r.d.answer.data, answer);
    CHECK_STR(r.d.reasoning.data, reasoning);
    CHECK_STR(r.d.box.data, box);
    CHECK_EQ(r.d.answer.len, strlen(answer));
    glm4v_detokenizer_clear(&r.d);
}

static void added_tokens_that_are_not_special_are_shown(void)
{
    open_tokenizer("glm-4.5");
    check(false, "a {tool_call}b{/tool_call}", "a <tool_call>b</tool_call>", "", "");
    check(true, "{think}{tool_call}{/think}{tool_call}", "<tool_call>", "<tool_call>", "");
    glm4v_tokenizer_close(&tokenizer);
}

static void parts_are_told_apart(void)
{
    for (int i = 0; i < 2; i++) {
        open_tokenizer(i ? "glm-4.5" : "glm-4.1v");
        check(false, "A scratch.", "A scratch.", "", "");
        check(false, "\nA scratch.\n ", "A scratch.", "", "");
        check(true, "{think}look\n{/think}A scratch.", "A scratch.", "look", "");
        check(true, "\n{think}\nlook{/think}\nA scratch.", "A scratch.", "look", "");
        check(true, "{think}{/think}yes", "yes", "", "");
        check(true, "{think}look", "", "look", "");        /* cut while reasoning */
        check(true, "look{/think}yes", "yes", "look", ""); /* began without saying so */
        check(true, "yes", "yes", "", "");                 /* did not reason at all */
        check(false, "{think}look{/think}yes", "yes", "look",
              ""); /* reasoned though it was not asked to */
        check(false, "look{/think}yes", "yes", "look", "");
        check(false, "one{think}two{/think}three{/think}four", "onethreefour", "two", "");
        check(false, "at {box}[[1, 2]]{/box}.", "at [[1, 2]].", "", "[[1, 2]]");
        check(false, "{box} yes {/box}, {box}no{/box}", "yes , no", "", "yes");
        check(false, "{box}cut", "cut", "", "cut");
        check(true, "{think}x{box}a{/box}b{/think}{box}c{/box}", "c", "xab", "c");
        check(false, "a{user}b", "ab", "", ""); /* no control token shows */
        check(false, "", "", "", "");
    }
    open_tokenizer("glm-4.1v");
    check(true, "{think}look{/think}\n{answer}yes{/answer}", "yes", "look", "");
    check(true, "{think}look{/think}yes", "yes", "look", ""); /* <answer> left out */
    check(true, "{answer}yes", "yes", "", "");
    check(true, "look {answer}yes{/answer}", "yes", "look", "");
    check(false, "{answer}yes{/answer}", "yes", "", "");
    check(true, "{think}tap{/think}{answer}do(action=\"Tap\", element=[1,2]){/answer}",
          "do(action=\"Tap\", element=[1,2])", "tap", ""); /* AutoGLM */
}

static void the_stream_is_the_text_before_trimming(void)
{
    run r;
    open_tokenizer("glm-4.1v");
    start(&r, true, 100);
    push_text(&r, "\n{think}\n a surface {/think}\n{answer} one {box}[[1]]{/box} two\n");
    CHECK_STR(r.reasoning, "a surface ");
    CHECK_STR(r.answer, "one [[1]] two\n");
    CHECK_STR(r.box, "[[1]]");
    CHECK_STR(r.d.answer.data, r.answer);
    finish(&r);
    CHECK_STR(r.d.answer.data, "one [[1]] two");
    glm4v_detokenizer_clear(&r.d);
}

/* The boxes of an answer about a 1000 x 500 picture as "x y width height label;", then its action,
 * element and message. */
static void check_parts(bool thinking, const char *output, const char *expected)
{
    const glm4v_image image = { .width = 1000, .height = 500 };
    const glm4v_turn turn = { .images = (const glm4v_image[]) { { .width = 7 }, image },
                              .n_images = 2 };
    const glm4v_task tasks[] = { { .images = &image, .n_images = 1 },
                                 { .frames = &image, .n_frames = 1 },
                                 { .history = &turn, .n_history = 1 } };
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++) {
        run r;
        char text[512] = "";
        glm4v_answer *a = NULL;
        glm4v_result result = { 0 };
        size_t used = 0;
        start(&r, thinking, 200);
        push_text(&r, output);
        CHECK_EQ(glm4v_answer_open(&a, &r.d, NULL), 0);
        glm4v_answer_read(a, &result, &r.d, &tasks[k]);
        for (uint32_t i = 0; i < result.n_boxes; i++) {
            const glm4v_box *b = &result.boxes[i];
            used += (size_t)snprintf(text + used, sizeof text - used, "%d %d %d %d %s;", b->x, b->y,
                                     b->width, b->height, b->label);
        }
        if (result.action.action[0])
            snprintf(text + used, sizeof text - used, "%s %d,%d %s", result.action.action,
                     result.action.element[0], result.action.element[1], result.action.message);
        CHECK_STR(text, expected);
        glm4v_free(a);
        glm4v_detokenizer_clear(&r.d);
    }
}

static void boxes_and_actions_are_read_from_the_answer_alone(void)
{
    for (int i = 0; i < 2; i++) {
        open_tokenizer(i ? "glm-4.5" : "glm-4.1v");
        check_parts(false, "A scratch.", "");
        check_parts(false, "", "");
        check_parts(false, "at {box}[[100,200,300,400]]{/box}.", "100 100 200 100 ;");
        check_parts(false, "at [[100,200,300,400]].", "");
        check_parts(false, "\n {box}[1,2,3,4]{/box} and [5,6,7,8] {box} [9,10,11,12]",
                    "1 1 2 1 ;9 5 2 1 ;");
        check_parts(false, "{box}[1,2,3,4]{box}[5,6,7,8]{user}[9,10,11,12]{/box}",
                    "1 1 2 1 ;5 3 2 1 ;9 5 2 1 ;");
        check_parts(false, "{box}[1000,0,1001,4]{/box}{box}[0,0,2,2]{/box}", "0 0 2 1 ;");
        check_parts(true, "{think}{box}[1,2,3,4]{/box} do(action=\"Home\"){/think}no", "");
        check_parts(false, "{box}[1,2,3,4]{/box}{/think}{box}[5,6,7,8]{/box}", "5 3 2 1 ;");
        check_parts(true, "{think}tap{/think}do(action=\"Tap\", element=[1,2])", "Tap 1,1 ");
        check_parts(false, "finish(message=\"\u5b8c\u6210\")", "finish -1,-1 \u5b8c\u6210");
    }
    open_tokenizer("glm-4.1v");
    check_parts(true, "{think}tap{/think}{answer}do(action=\"Tap\", element=[1,2]){/answer}",
                "Tap 1,1 ");
}

/* Ids of single bytes are the bytes themselves in the small vocabularies. */
static void push_bytes(run *r, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        push(r, (unsigned char)bytes[i]);
}

static void check_bytes(const char *bytes, size_t n, const char *expected)
{
    run r;
    start(&r, false, 100);
    push_bytes(&r, bytes, n);
    finish(&r);
    CHECK_STR(r.d.answer.data, expected);
    CHECK_STR(r.answer, expected);
    glm4v_detokenizer_clear(&r.d);
}

static void half_characters_are_held_back(void)
{
    run r;
    open_tokenizer("glm-4.1v");
    start(&r, false, 100);
    push_bytes(&r, "a\xE5\x88", 3);
    CHECK_STR(r.answer, "a");
    push_bytes(&r, "\x92", 1);
    CHECK_STR(r.answer, "a划");
    push_bytes(&r, "\xF0\x9F\x98", 3); /* O-02: the answer ends here */
    finish(&r);
    CHECK_STR(r.d.answer.data, "a划");
    glm4v_detokenizer_clear(&r.d);
}

static void wrong_bytes_become_one_replacement_each_by_the_whatwg_rule(void)
{
    open_tokenizer("glm-4.1v");
    check_bytes("a\xFFz", 3, "a\uFFFDz");
    check_bytes("\xE5\x88z", 3, "\uFFFDz");
    check_bytes("\xE5z\x88", 3, "\uFFFDz\uFFFD");
    check_bytes("\xF0\x9F\x98\xF0\x9F\x98\x80", 7, "\uFFFD\U0001F600");
    check_bytes("\xED\xA0\x80.", 4, "\uFFFD\uFFFD\uFFFD.");
    check_bytes("\xC0\x80.", 3, "\uFFFD\uFFFD.");
    check_bytes("\xF4\x90\x80\x80.", 5, "\uFFFD\uFFFD\uFFFD\uFFFD.");
}

static void a_control_token_ends_a_half_character(void)
{
    run r;
    open_tokenizer("glm-4.1v");
    start(&r, false, 100);
    push_bytes(&r, "a\xE5", 2);
    push(&r, chat.think);
    CHECK_STR(r.answer, "a\uFFFD"); /* it belonged to the answer */
    push_bytes(&r, "b", 1);
    CHECK_STR(r.reasoning, "b");
    glm4v_detokenizer_clear(&r.d);
}

/* O-03 */
/* GLM-4V-9B begins with an empty line, where a tool's name would stand. No tools are offered, so a
 * first line that is not empty is part of the answer. */
static void the_empty_first_line_is_left_out(void)
{
    open_tokenizer("chatglm4v");
    check(false, "\nA cat.\nA dog.", "A cat.\nA dog.", "", "");
    check(false, "A cat.\nA dog.", "A cat.\nA dog.", "", "");
    check(false, " \n\nA cat.", "A cat.", "", "");
    check(false, "\n", "", "", "");
}

static void controls_escapes_and_direction_overrides_are_dropped(void)
{
    open_tokenizer("glm-4.1v");
    check_bytes("a\0b", 3, "ab");
    check_bytes("\x1b[31mred\x1b[0m", 12, "[31mred[0m");
    check_bytes("a\r\n\tb\x07\x7f", 7, "a\n\tb");
    check_bytes("a\xC2\x9B"
                "2Jb\xC2\x85.",
                9, "a2Jb."); /* C1 */
    check_bytes("a\xE2\x80\xAE"
                "b\xE2\x81\xA6"
                "c\xE2\x81\xA9.",
                13, "abc.");                    /* U+202E, U+2066, U+2069 */
    check_bytes("\xE2\x80\x8F.", 4, "\u200F."); /* a mark overrides nothing */
}

/* O-01: the ids of one text, cut at random places into byte tokens and longer ones. */
static void token_borders_make_no_difference(void)
{
    static const char *const parts[] = { "a",
                                         "\xE5\x88\x92",
                                         "\xE5\x88",
                                         "\xFF",
                                         "\xF0\x9F\x98\x80",
                                         "\xF0\x9F",
                                         "\x80",
                                         " ",
                                         "\n",
                                         "\0",
                                         "\x1b",
                                         "the",
                                         "\xED\xA0\x80",
                                         "缺陷",
                                         "\xE2\x80\xAE" };
    static const size_t lens[] = { 1, 3, 2, 1, 4, 2, 1, 1, 1, 1, 1, 3, 3, 6, 3 };
    uint32_t seed = 1;
    open_tokenizer("glm-4.1v");
    for (int round = 0; round < 2000 && test_ok; round++) {
        char bytes[256];
        size_t n = 0;
        for (int i = 0; i < 20; i++) {
            seed = seed * 1664525u + 1013904223u;
            size_t k = (seed >> 16) % (sizeof parts / sizeof *parts);
            memcpy(bytes + n, parts[k], lens[k]);
            n += lens[k];
        }
        run single, longer;
        start(&single, false, 300);
        push_bytes(&single, bytes, n);
        start(&longer, false, 300);
        for (size_t i = 0;
             i < n;) { /* the longest token that the vocabulary has here, or one byte by chance */
            int32_t best = (unsigned char)bytes[i];
            size_t best_len = 1;
            seed = seed * 1664525u + 1013904223u;
            for (int32_t id = 256; seed >> 31 && id < glm4v_tokenizer_size(tokenizer); id++) {
                size_t len;
                const char *s = glm4v_tokenizer_bytes(tokenizer, id, &len);
                if (!glm4v_tokenizer_is_control(tokenizer, id) && len > best_len && len <= n - i &&
                    !memcmp(s, bytes + i, len)) {
                    best = id;
                    best_len = len;
                }
            }
            push(&longer, best);
            i += best_len;
        }
        CHECK_STR(longer.answer, single.answer);
        finish(&single);
        finish(&longer);
        CHECK_STR(longer.d.answer.data, single.d.answer.data);
        CHECK(glm4v_utf8_valid(single.d.answer.data, single.d.answer.len, NULL));
        glm4v_detokenizer_clear(&single.d);
        glm4v_detokenizer_clear(&longer.d);
    }
}

/* O-05 */
static void an_endless_answer_ends_at_its_byte_limit(void)
{
    static run r;
    open_tokenizer("glm-4.1v");
    start(&r, false, 1 << 20);
    long pushed = 0;
    while (r.fits && pushed < GLM4V_MAX_OUTPUT_BYTES) {
        push_bytes(&r, "\xE5\x88\x92", 3);
        r.answer[0] = 0;
        pushed++;
    }
    CHECK_EQ(r.d.answer.len, GLM4V_MAX_OUTPUT_BYTES / 3 * 3); /* whole characters only */
    CHECK(glm4v_utf8_valid(r.d.answer.data, r.d.answer.len, NULL));
    push_bytes(&r, "\xFF\xFF", 2); /* going on does no harm */
    CHECK(!r.fits);
    glm4v_detokenizer_clear(&r.d);
}

static void ids_without_a_token_give_nothing(void)
{
    run r;
    open_tokenizer("glm-4.1v");
    start(&r, false, 10);
    push(&r, -1);
    push(&r, glm4v_tokenizer_size(tokenizer));
    push(&r, INT32_MAX);
    CHECK_STR(r.answer, "");
    glm4v_detokenizer_clear(&r.d);
}

static void pushing_allocates_nothing(void)
{
    run r;
    open_tokenizer("glm-4.1v");
    start(&r, true, 100);
    uint64_t calls = glm4v_mem_calls();
    for (int32_t id = 0; id < glm4v_tokenizer_size(tokenizer); id++)
        push(&r, id);
    finish(&r);
    CHECK_EQ(glm4v_mem_calls(), calls);
    glm4v_detokenizer_clear(&r.d);
}

static void failing_memory_is_an_error_and_leaks_nothing(void)
{
    open_tokenizer("glm-4.1v");
    size_t live = glm4v_mem_live();
    for (uint64_t nth = 1; nth <= 3; nth++) {
        glm4v_detokenizer d;
        glm4v_mem_fail_at(nth, false);
        CHECK_EQ(glm4v_detokenizer_init(&d, tokenizer, &chat, false, 64, NULL), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(glm4v_mem_live(), live);
    }
}

int main(void)
{
    TEST(added_tokens_that_are_not_special_are_shown);
    TEST(parts_are_told_apart);
    TEST(the_stream_is_the_text_before_trimming);
    TEST(boxes_and_actions_are_read_from_the_answer_alone);
    TEST(half_characters_are_held_back);
    TEST(wrong_bytes_become_one_replacement_each_by_the_whatwg_rule);
    TEST(a_control_token_ends_a_half_character);
    TEST(the_empty_first_line_is_left_out);
    TEST(controls_escapes_and_direction_overrides_are_dropped);
    TEST(token_borders_make_no_difference);
    TEST(an_endless_answer_ends_at_its_byte_limit);
    TEST(ids_without_a_token_give_nothing);
    TEST(pushing_allocates_nothing);
    TEST(failing_memory_is_an_error_and_leaks_nothing);
    glm4v_tokenizer_close(&tokenizer);
    return test_end();
}
