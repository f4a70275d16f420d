/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tokenizer on the real GLM-4 vocabulary, where ../shared holds it: the reference lines,
 * vectors for what these do not cover, and a tokenizer.json of real size that this program writes
 * from tokenizer.model. */
#define _GNU_SOURCE
#include <unistd.h>

#include "base/utf8.h"
#include "chat/prompt.h"
#include "test.h"
#include "token_lines.h"
#include "tokenizer/tokenizer_priv.h"

#define N_RANKS 151329

static char models[1024], lines[1024], scratch[1024];
static glm4v_tokenizer *ranks; /* from tokenizer.model */

static glm4v_tokenizer *open_dir(const char *dir)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *t = NULL;
    if (glm4v_tokenizer_open(&t, dir, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return t;
}

/* ---- vectors ---- */

static void check_ids(const char *text, const int32_t *expected, size_t n)
{
    glm4v_ids found = { 0 };
    CHECK_EQ(glm4v_tokenizer_encode(ranks, text, strlen(text), &found, NULL), 0);
    if (found.n != n || (n && memcmp(found.ids, expected, n * sizeof *expected) != 0))
        test_fail(__FILE__, __LINE__, "wrong ids for \"%s\"", text);
    glm4v_free(found.ids);
}

#define IDS(text, ...)                                                                             \
    check_ids(text, (const int32_t[]) { __VA_ARGS__ }, sizeof((int32_t[]) { __VA_ARGS__ }) / 4)

static void vectors_beyond_the_reference_lines_hold(void)
{
    REQUIRE(ranks);
    IDS("нако", 128591);
    IDS(" 参考", 99855);
    IDS(" entschieden", 151304);
    IDS("'Sнако", 13264, 128591);
    IDS("'\u017fнако", 6, 129, 123, 128591);
    IDS("\u212aнако", 14924, 103, 2108, 15857, 1456);
    IDS("I'VEнако", 40, 6, 4491, 128591);
    IDS("  \r\n\t x", 10414, 197, 856);
    IDS("a\u0301b", 64, 53481, 65);
    IDS("\xc2\x85x", 126, 227, 87);
    IDS("\n", 198);
    IDS("\n\n", 271);
    IDS("\r\n", 319);
    IDS(" ", 220);
    IDS("hello", 14978);
    IDS(" hello", 23745);
    IDS("An increasing sequence: one, two, three.", 2082, 7703, 8499, 25, 825, 11, 1378, 11, 2326,
        13);
    check_ids("", NULL, 0);
}

static void all_reference_lines_are_equal(void)
{
    long n = 0;
    REQUIRE(ranks);
    CHECK_EQ(token_lines_check(ranks, lines, &n), 0);
    CHECK(n >= 2550);
}

static void the_vocabulary_has_the_known_shape(void)
{
    int longest = 0, not_utf8 = 0;
    REQUIRE(ranks);
    CHECK_EQ(glm4v_tokenizer_size(ranks), 151343);
    for (int32_t id = 0; id < N_RANKS; id++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(ranks, id, &len);
        longest = (int)len > longest ? (int)len : longest;
        not_utf8 += !glm4v_utf8_valid(bytes, len, NULL);
    }
    CHECK_EQ(longest, 512);
    CHECK_EQ(not_utf8, 1077);
    CHECK_EQ(glm4v_tokenizer_control(ranks, "<|endoftext|>"), 151329);
    CHECK_EQ(glm4v_tokenizer_control(ranks, "<|end_of_video|>"), 151342);
}

/* Ids of token's bytes when the whole piece is not looked up. */
static size_t merged_length(const glm4v_tokenizer *t, glm4v_bpe *bpe, int32_t id)
{
    int32_t room[GLM4V_MAX_TOKEN_BYTES];
    glm4v_ids ids = { room, 0, GLM4V_MAX_TOKEN_BYTES };
    size_t len;
    const char *bytes = glm4v_tokenizer_bytes(t, id, &len);
    CHECK_EQ(glm4v_bpe_encode(t, bpe, (const unsigned char *)bytes, len, &ids, NULL), 0);
    return ids.n;
}

static void some_tokens_are_found_by_the_whole_piece_alone(void)
{
    glm4v_bpe bpe = { 0 };
    int unreachable = 0, with_space = 0;
    REQUIRE(ranks);
    ranks->whole_piece = false;
    for (int32_t id = 0; id < N_RANKS; id++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(ranks, id, &len);
        if (len < 64 && merged_length(ranks, &bpe, id) != 1) {
            unreachable++;
            with_space += bytes[0] == ' ';
        }
    }
    ranks->whole_piece = true;
    CHECK_EQ(unreachable, 893);
    CHECK_EQ(with_space, 802);
    glm4v_bpe_clear(&bpe);
}

/* ---- a tokenizer.json of real size ---- */

/* A token in the byte-level alphabet, as a JSON string. */
static void put_token(FILE *out, int32_t id)
{
    size_t len;
    const unsigned char *bytes = (const unsigned char *)glm4v_tokenizer_bytes(ranks, id, &len);
    for (size_t i = 0; i < len; i++) {
        int b = bytes[i], other = b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 0x21 : 0x21 + 0x22;
        bool plain = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
        unsigned char s[4];
        int n = glm4v_utf8_put(s, plain ? (uint32_t)b : 0x100u + (uint32_t)other);
        fprintf(out, "%s%.*s", b == '"' || b == '\\' ? "\\" : "", n, s);
    }
}

/* The two halves of a split of a token, by their ids. */
typedef struct {
    int32_t left, right;
} halves;

static int by_ids(const void *a, const void *b)
{
    const halves *x = a, *y = b;
    return x->left != y->left ? x->left - y->left : x->right - y->right;
}

/* All merges that lead to id: what its conversion from tiktoken's format writes. */
static size_t splits(halves *out, int32_t id)
{
    size_t len, n = 0;
    const unsigned char *s = (const unsigned char *)glm4v_tokenizer_bytes(ranks, id, &len);
    for (size_t k = 1; k < len; k++) {
        int32_t left = glm4v_vocab_find(ranks, &ranks->text, glm4v_hash_bytes(ranks, s, k), s, k);
        int32_t right = glm4v_vocab_find(ranks, &ranks->text,
                                         glm4v_hash_bytes(ranks, s + k, len - k), s + k, len - k);
        if (left >= 0 && right >= 0)
            out[n++] = (halves) { left, right };
    }
    qsort(out, n, sizeof *out, by_ids);
    return n;
}

static void put_merges(FILE *out, bool as_lists)
{
    static halves list[GLM4V_MAX_TOKEN_BYTES];
    const char *separator = "";
    for (int32_t id = 0; id < N_RANKS; id++) {
        size_t n = splits(list, id);
        for (size_t i = 0; i < n; i++) {
            fputs(separator, out);
            fputs(as_lists ? "[\"" : "\"", out);
            put_token(out, list[i].left);
            fputs(as_lists ? "\",\"" : " ", out);
            put_token(out, list[i].right);
            fputs(as_lists ? "\"]" : "\"", out);
            separator = ",\n";
        }
    }
}

/* "added_tokens" from a tokenizer_config.json. */
static bool put_added(FILE *out, const char *config_path)
{
    json_t *config = json_load_file(config_path, 0, NULL), *token;
    const char *key, *separator = "";
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, token)
    {
        fprintf(out, "%s{\"id\": %s, \"content\": \"%s\", \"normalized\": false, \"special\": %s}",
                separator, key, json_string_value(json_object_get(token, "content")),
                json_is_true(json_object_get(token, "special")) ? "true" : "false");
        separator = ",\n";
    }
    json_decref(config);
    return config != NULL;
}

static bool write_json(const char *path, const char *config_path, bool as_lists)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return false;
    fputs("{\"version\": \"1.0\", \"added_tokens\": [", out);
    bool ok = put_added(out, config_path);
    fputs("], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": "
          "[{\"type\": "
          "\"Split\", \"pattern\": {\"Regex\": "
          "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
          "\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"
          "\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": "
          "\"ByteLevel\", "
          "\"add_prefix_space\": false, \"use_regex\": false}]}, \"decoder\": {\"type\": "
          "\"ByteLevel\"}, \"model\": "
          "{\"type\": \"BPE\", \"ignore_merges\": true, \"vocab\": {",
          out);
    for (int32_t id = 0; id < N_RANKS; id++) {
        fputs(id ? ",\n\"" : "\"", out);
        put_token(out, id);
        fprintf(out, "\": %d", (int)id);
    }
    fputs("}, \"merges\": [", out);
    put_merges(out, as_lists);
    fputs("]}}\n", out);
    return fclose(out) == 0 && ok;
}

/* Both tokenizers must give the same ids for the text of every token. */
static void check_same_on_all_tokens(const glm4v_tokenizer *t)
{
    glm4v_ids a = { 0 }, b = { 0 };
    for (int32_t id = 0; id < N_RANKS && test_ok; id++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(ranks, id, &len);
        if (!glm4v_utf8_valid(bytes, len, NULL))
            continue;
        a.n = b.n = 0;
        CHECK_EQ(glm4v_tokenizer_encode(ranks, bytes, len, &a, NULL), 0);
        CHECK_EQ(glm4v_tokenizer_encode(t, bytes, len, &b, NULL), 0);
        if (a.n != b.n || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) != 0)
            test_fail(__FILE__, __LINE__, "the text of token %d differs", (int)id);
    }
    glm4v_free(a.ids);
    glm4v_free(b.ids);
}

static void check_json(const char *config, bool as_lists, int32_t size)
{
    char path[2048], config_path[2048];
    long n = 0;
    REQUIRE(ranks);
    snprintf(path, sizeof path, "%s/tokenizer.json", scratch);
    snprintf(config_path, sizeof config_path, "%s/%s/tokenizer_config.json", models, config);
    REQUIRE(write_json(path, config_path, as_lists));
    glm4v_tokenizer *t = open_dir(scratch);
    unlink(path);
    REQUIRE(t);
    CHECK(t->pairs != NULL);
    CHECK_EQ(glm4v_tokenizer_size(t), size);
    CHECK_EQ(token_lines_check(t, lines, &n), 0);
    CHECK(n >= 2550);
    check_same_on_all_tokens(t);
    glm4v_tokenizer_close(&t);
}

static void a_tokenizer_json_with_merges_as_words_gives_the_same_ids(void)
{
    check_json("glm-4.1v-9b-thinking", false, 151352);
}

static void a_tokenizer_json_with_merges_as_lists_gives_the_same_ids(void)
{
    check_json("glm-4.5-family", true, 151365);
}

/* ---- prompts with the real ids ---- */

static bool copy_file(const char *from, const char *to)
{
    char buffer[1 << 16];
    size_t n;
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    bool ok = in && out;
    while (ok && (n = fread(buffer, 1, sizeof buffer, in)) > 0)
        ok = fwrite(buffer, 1, n, out) == n;
    if (in)
        fclose(in);
    return (out ? fclose(out) == 0 : false) && ok;
}

/* The vocabulary of tokenizer.model with the control tokens of another family's
 * tokenizer_config.json. */
static glm4v_tokenizer *with_control(const char *config)
{
    char from[2][2048], to[2][2048];
    snprintf(from[0], sizeof from[0], "%s/glm-4v-9b/tokenizer.model", models);
    snprintf(from[1], sizeof from[1], "%s/%s/tokenizer_config.json", models, config);
    snprintf(to[0], sizeof to[0], "%s/tokenizer.model", scratch);
    snprintf(to[1], sizeof to[1], "%s/tokenizer_config.json", scratch);
    glm4v_tokenizer *t = NULL;
    if (copy_file(from[0], to[0]) && copy_file(from[1], to[1]))
        t = open_dir(scratch);
    unlink(to[0]);
    unlink(to[1]);
    return t;
}

static void check_prompt(const char *config_name, glm4v_config config, bool thinking,
                         const char *expected_format, const int32_t *expected, size_t n)
{
    glm4v_tokenizer *t = with_control(config_name);
    glm4v_chat chat;
    glm4v_prompt prompt = { 0 };
    glm4v_error err = { 0 };
    const glm4v_image image = { 0 };
    const glm4v_grid grid = { 2, 4, 0 };
    const glm4v_task task = {
        .prompt = "hello", .images = &image, .n_images = 1, .thinking = thinking
    };
    REQUIRE(t);
    config.text.vocab = 151552;
    config.vision.merge = 2;
    config.image_start_id = 151339;
    config.image_end_id = 151340;
    config.video_start_id = 151341;
    config.video_end_id = 151342;
    CHECK_EQ(glm4v_chat_init(&chat, t, &config, &err), 0);
    CHECK_STR(glm4v_template_name(chat.format), expected_format);
    CHECK_EQ(glm4v_prompt_build(&prompt, &(glm4v_prompt_maker) { t, &chat, &config }, &task, &grid,
                                1, &err),
             0);
    CHECK((size_t)prompt.n_ids == n && memcmp(prompt.ids, expected, n * sizeof *expected) == 0);
    glm4v_prompt_clear(&prompt);
    glm4v_tokenizer_close(&t);
}

#define PROMPT(name, format, image, thinking, ...)                                                 \
    check_prompt(name, (glm4v_config) { .image_id = image }, thinking, format,                     \
                 (const int32_t[]) { __VA_ARGS__ }, sizeof((int32_t[]) { __VA_ARGS__ }) / 4)

static void prompts_have_the_real_ids(void)
{
    const char *const old = "glm-4.1v-9b-thinking", *const new = "glm-4.5-family";
    PROMPT(old, "glm-4.1v", 151343, true, 151331, 151333, 151336, 198, 151339, 151343, 151343,
           151340, 14978, 151337, 198);
    PROMPT(old, "glm-4.1v", 151343, false, 151331, 151333, 151336, 198, 151339, 151343, 151343,
           151340, 14978, 151337, 198, 151345, 151346, 151347);
    check_prompt("glm-4v-9b",
                 (glm4v_config) { .family = GLM4V_FAMILY_CHATGLM4V, .image_id = 151329 }, false,
                 "chatglm4v",
                 (const int32_t[]) { 151331, 151333, 151336, 198, 151339, 151329, 151329, 151340,
                                     14978, 151337 },
                 10);
    PROMPT(new, "glm-4.5", 151363, true, 151331, 151333, 151336, 198, 151339, 151363, 151363,
           151340, 14978, 151337);
    PROMPT(new, "glm-4.5", 151363, false, 151331, 151333, 151336, 198, 151339, 151363, 151363,
           151340, 14978, 151360, 151337, 198, 151350, 151351);
}

int main(void)
{
    const char *dir = getenv("TMPDIR");
    char model[2048];
    glm4v_error err = { 0 };
    snprintf(models, sizeof models, "%s/../models", test_golden_dir());
    snprintf(lines, sizeof lines, "%s/tokenizer_glm4.jsonl", test_golden_dir());
    snprintf(model, sizeof model, "%s/glm-4v-9b", models);
    test_ok = true;
    if (!test_needs("golden", access(model, R_OK) == 0 && access(lines, R_OK) == 0,
                    "no reference files")) {
        printf("1..0 # SKIP %s\n", test_skip);
        return !test_ok;
    }
    snprintf(scratch, sizeof scratch, "%s/glm4v-tokenizer-XXXXXX", dir ? dir : "/tmp");
    if (!mkdtemp(scratch) || glm4v_tokenizer_open(&ranks, model, &err)) {
        printf("Bail out! %s %s\n", scratch, err.msg);
        return 1;
    }
    TEST(all_reference_lines_are_equal);
    TEST(vectors_beyond_the_reference_lines_hold);
    TEST(the_vocabulary_has_the_known_shape);
    TEST(some_tokens_are_found_by_the_whole_piece_alone);
    TEST(a_tokenizer_json_with_merges_as_words_gives_the_same_ids);
    TEST(a_tokenizer_json_with_merges_as_lists_gives_the_same_ids);
    TEST(prompts_have_the_real_ids);
    glm4v_tokenizer_close(&ranks);
    rmdir(scratch);
    return test_end();
}
