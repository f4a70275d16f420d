/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Splitting, merging and the tokenizer's files, on the small tokenizers of tests/data/tokenizer. */
#define _GNU_SOURCE
#include "base/json.h"
#include "files.h"
#include "test.h"
#include "token_lines.h"
#include "tokenizer/tokenizer_priv.h"

#define DATA SOURCE_ROOT "/tests/data/tokenizer/"

/* ---- splitting ---- */

/* Does text split into these pieces, each in brackets? */
static void check_split(const char *text, const char *expected)
{
    char found[512] = "";
    size_t len = strlen(text), n = 0;
    for (size_t i = 0; i < len;) {
        size_t piece = glm4v_split_next(text + i, len - i);
        n += (size_t)snprintf(found + n, sizeof found - n, "[%.*s]", (int)piece, text + i);
        i += piece;
        if (piece == 0 || n >= sizeof found)
            break;
    }
    CHECK_STR(found, expected);
}

static void words_take_one_character_before_them(void)
{
    check_split("Hello world", "[Hello][ world]");
    check_split("a  b", "[a][ ][ b]");
    check_split("(x)(y)", "[(x][)(][y][)]");
    check_split("\tx\nx", "[\tx][\n][x]");
    check_split("\u3000x\u00a0y", "[\u3000x][\u00a0y]");
    check_split("\xc2\x85x", "[\xc2\x85x]");             /* U+0085, next line */
    check_split("\u200bx\u180ey", "[\u200bx][\u180ey]"); /* neither is white space */
    check_split("a\u0301b", "[a][\u0301b]");             /* a mark is no letter */
    check_split("7x", "[7][x]");
    check_split("日本語の", "[日本語の]");
}

static void contractions_ignore_case_and_know_the_long_s(void)
{
    check_split("it's", "[it]['s]");
    check_split("I'VE'Re'lL", "[I]['VE]['Re]['lL]");
    check_split("'sx", "['s][x]");
    check_split("'lx", "['lx]");
    check_split("'rx'e", "['rx]['e]");
    check_split("'\u017fx", "['\u017f][x]");
    check_split("'\u212ax",
                "['\u212ax]"); /* the Kelvin sign is a letter, and no alternative has a k */
    check_split("'", "[']");
    check_split("'l", "['l]");
    check_split(" 's", "[ '][s]");
}

static void numbers_come_by_three(void)
{
    check_split("1234567", "[123][456][7]");
    check_split(" 12", "[ ][12]");
    check_split("\u0663\u2167\u00bd7", "[\u0663\u2167\u00bd][7]");
    check_split("x1y", "[x][1][y]");
}

static void punctuation_takes_a_space_before_and_newlines_after(void)
{
    check_split("a, b", "[a][,][ b]");
    check_split(" ?!\r\n\nx", "[ ?!\r\n\n][x]");
    check_split("  !", "[ ][ !]");
    check_split("\t!", "[\t][!]");
    check_split("}\n }", "[}\n][ }]");
}

static void white_space_ends_at_its_last_newline(void)
{
    check_split("  \r\n\t x", "[  \r\n][\t][ x]");
    check_split("\n\n", "[\n\n]");
    check_split(" \n ", "[ \n][ ]");
    check_split("x   ", "[x][   ]");
    check_split("   x", "[  ][ x]");
    check_split("   7", "[  ][ ][7]");
    check_split(" ", "[ ]");
    check_split("\u2028\u2029", "[\u2028\u2029]");
    check_split("\x1c\x1fx", "[\x1c\x1f][x]"); /* separators are no white space here */
}

/* ---- helpers for files ---- */

static char *slurp(const char *dir, const char *name, size_t *len)
{
    file_text t = file_read(dir, name);
    *len = t.len;
    return t.data;
}

/* text with the first occurrence of find replaced; free() it. */
static char *replaced(const char *text, const char *find, const char *with)
{
    const char *at = strstr(text, find);
    char *out = malloc(strlen(text) + strlen(with) + 1);
    if (!at)
        test_fail(__FILE__, __LINE__, "\"%s\" does not occur", find);
    else
        sprintf(out, "%.*s%s%s", (int)(at - text), text, with, at + strlen(find));
    if (!at)
        strcpy(out, text);
    return out;
}

static int parse_json(glm4v_tokenizer **t, const char *text, glm4v_error *err)
{
    return glm4v_tokenizer_parse(t, &(glm4v_tokenizer_files) { true, text, strlen(text) }, err);
}

/* Loading text must fail so, with a message that contains word. */
static void check_refused(bool is_json, const char *text, size_t len, const char *config, int code,
                          const char *word)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *t = NULL;
    int rc = glm4v_tokenizer_parse(
        &t, &(glm4v_tokenizer_files) { is_json, text, len, config, config ? strlen(config) : 0 },
        &err);
    if (rc != code)
        test_fail(__FILE__, __LINE__, "%d, not %d (%s): %s", rc, code, word, err.msg);
    CHECK_CONTAINS(err.msg, word);
    CHECK(t == NULL);
    glm4v_tokenizer_close(&t);
}

static glm4v_tokenizer *small(const char *name)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *t = NULL;
    char dir[512];
    snprintf(dir, sizeof dir, DATA "%s", name);
    if (glm4v_tokenizer_open(&t, dir, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return t;
}

static glm4v_ids encode(const glm4v_tokenizer *t, const char *text)
{
    glm4v_error err = { 0 };
    glm4v_ids ids = { 0 };
    if (glm4v_tokenizer_encode(t, text, strlen(text), &ids, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return ids;
}

/* ---- encoding ---- */

static void ids_equal_those_of_other_implementations(void)
{
    static const char *const names[] = { "glm-4.1v", "glm-4.5", "chatglm4v" };
    for (int i = 0; i < 3; i++) {
        glm4v_tokenizer *t = small(names[i]);
        long n = 0;
        REQUIRE(t);
        CHECK_EQ(token_lines_check(t, DATA "lines.jsonl", &n), 0);
        CHECK(n > 400);
        glm4v_tokenizer_close(&t);
    }
}

/* O-04: names of control tokens, alone and between all kinds of neighbours. */
static void text_never_becomes_a_control_token(void)
{
    static const char *const around[] = {
        "",   " ",  "\n",     "a",  "7", "!",  "'",  "<", "|",
        "。", "用", "\u017f", "\t", "[", "</", "|>", "_", "\u3000"
    };
    static const char *const files[] = { "glm-4.1v", "glm-4.5", "chatglm4v" };
    const int n_around = (int)(sizeof around / sizeof *around);
    int cases = 0;
    for (int f = 0; f < 3; f++) {
        glm4v_tokenizer *t = small(files[f]);
        REQUIRE(t);
        for (int32_t id = 0; id < glm4v_tokenizer_size(t); id++) {
            size_t len;
            const char *name = glm4v_tokenizer_bytes(t, id, &len);
            if (!glm4v_tokenizer_is_control(t, id))
                continue;
            for (int i = 0; i < n_around; i++, cases++) {
                char text[128];
                snprintf(text, sizeof text, "%s%.*s%s", around[i], (int)len, name,
                         around[(i * 7 + id) % n_around]);
                glm4v_ids ids = encode(t, text);
                CHECK(token_ids_spell(t, ids.ids, ids.n, text,
                                      strlen(text))); /* and by no control token */
                glm4v_free(ids.ids);
            }
        }
        glm4v_tokenizer_close(&t);
    }
    CHECK(cases >= 1000);
}

static void encoding_appends_and_refuses_what_is_not_utf8(void)
{
    glm4v_tokenizer *t = small("glm-4.1v");
    glm4v_error err = { 0 };
    glm4v_ids ids = encode(t, "one");
    size_t n = ids.n;
    CHECK_EQ(glm4v_tokenizer_encode(t, " two\xFF", 5, &ids, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "byte 4");
    CHECK_EQ(ids.n, n);
    CHECK_EQ(glm4v_tokenizer_encode(t, " two", 4, &ids, &err), 0);
    CHECK(token_ids_spell(t, ids.ids, ids.n, "one two", 7));
    CHECK_EQ(glm4v_tokenizer_encode(t, "a\0b", 3, &ids, &err), 0);
    CHECK(token_ids_spell(t, ids.ids, ids.n, "one twoa\0b", 10));
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
}

static void whole_pieces_are_found_only_where_the_file_says_so(void)
{
    size_t len;
    char *text = slurp(DATA "glm-4.1v", "tokenizer.json", &len);
    char *merging = replaced(text, "\"ignore_merges\": true", "\"ignore_merges\": false");
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    CHECK_EQ(parse_json(&t, merging, &err), 0);
    REQUIRE(t);
    glm4v_ids ids = encode(t, "нако");
    CHECK_EQ(ids.n, 8); /* its bytes: no merge leads there */
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    t = small("glm-4.1v");
    ids = encode(t, "нако");
    CHECK_EQ(ids.n, 1);
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    free(merging);
    free(text);
}

/* A run of one letter is one piece. Doubling the text must not quadruple the work, on either kind
 * of table. */
static void merging_is_not_quadratic(void)
{
    static const char *const names[] = { "glm-4.1v", "chatglm4v" };
    const size_t n = GLM4V_MAX_PIECE_BYTES;
    char *text = malloc(n);
    for (int i = 0; i < 2; i++) {
        glm4v_tokenizer *t = small(names[i]);
        for (int kind = 0; kind < 3; kind++) {
            glm4v_bpe bpe = { 0 };
            glm4v_error err = { 0 };
            glm4v_ids ids = { 0 };
            for (size_t k = 0; k < n; k++)
                text[k] = kind == 0 ? 'a' : kind == 1 ? "eht"[k % 3] : (char)('a' + k * k % 26);
            CHECK_EQ(glm4v_encode_with(t, &bpe, text, n, &ids, &err), 0);
            CHECK(token_ids_spell(t, ids.ids, ids.n, text, n));
            CHECK(bpe.steps > n / 2);
            CHECK(bpe.steps <= 64 * n * 16); /* n log2 n */
            glm4v_bpe_clear(&bpe);
            glm4v_free(ids.ids);
        }
        glm4v_tokenizer_close(&t);
    }
    free(text);
}

static void longer_pieces_are_cut_between_characters(void)
{
    glm4v_tokenizer *t = small("glm-4.1v");
    /* of three bytes: 64 KiB is no border */
    const size_t whole = GLM4V_MAX_PIECE_BYTES / 3 * 3, n = whole + 30;
    char *text = malloc(n + 1);
    for (size_t i = 0; i < n; i += 3)
        memcpy(text + i, "。", 3); /* a token by itself */
    text[n] = 0;
    glm4v_ids all = encode(t, text), rest = encode(t, text + whole);
    text[whole] = 0;
    glm4v_ids first = encode(t, text);
    CHECK_EQ(all.n, first.n + rest.n);
    CHECK(memcmp(all.ids, first.ids, first.n * sizeof *all.ids) == 0);
    CHECK(memcmp(all.ids + first.n, rest.ids, rest.n * sizeof *all.ids) == 0);
    glm4v_free(all.ids);
    glm4v_free(first.ids);
    glm4v_free(rest.ids);
    free(text);
    glm4v_tokenizer_close(&t);
}

/* The small vocabulary and behind it runs of 2, 4, 8 ... `longest` bytes 'b'. */
static glm4v_tokenizer *with_runs(int longest)
{
    size_t len, room = 1 << 20;
    char *base = slurp(DATA "chatglm4v", "tokenizer.model", &len), *text = malloc(room);
    glm4v_tokenizer *t = NULL;
    int rank = 560;
    memcpy(text, base, len);
    for (int size = 2; size <= longest; size *= 2) {
        for (int i = 0; i < size / 3; i++)
            len += (size_t)sprintf(text + len, "YmJi");
        len += (size_t)sprintf(text + len, "%s %d\n", size % 3 == 1 ? "Yg==" : "YmI=", rank++);
    }
    CHECK_EQ(glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, text, len }, NULL), 0);
    free(base);
    free(text);
    return t;
}

static void check_run(const glm4v_tokenizer *t, size_t n, size_t n_ids)
{
    char *run = malloc(n + 1);
    memset(run, 'b', n);
    run[n] = 0;
    glm4v_ids ids = encode(t, run);
    CHECK(token_ids_spell(t, ids.ids, ids.n, run, n));
    CHECK_EQ(ids.n, n_ids);
    glm4v_free(ids.ids);
    free(run);
}

static void merging_stops_at_the_longest_token(void)
{
    glm4v_tokenizer *t = with_runs(GLM4V_MAX_TOKEN_BYTES);
    REQUIRE(t);
    check_run(t, 5 * GLM4V_MAX_TOKEN_BYTES + 3, 7); /* five of 4096, one of two, one */
    glm4v_tokenizer_close(&t);
}

/* Each merge of "bc" offers two more, of higher rank, and leaves two that became impossible: the
 * heap grows. */
static void merges_that_offer_others_have_room(void)
{
    const size_t n = 16384;
    size_t len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len), *other = malloc(len + 128),
         *run = malloc(n + 1);
    glm4v_tokenizer *t = NULL;
    /* bc bcbc bcb cb */
    len = (size_t)sprintf(other, "%sYmM= 560\nYmNiYw== 561\nYmNi 562\nY2I= 563\n", text);
    CHECK_EQ(glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, other, len }, NULL), 0);
    REQUIRE(t);
    for (size_t i = 0; i < n; i++)
        run[i] = "bc"[i % 2];
    run[n] = 0;
    glm4v_ids ids = encode(t, run);
    CHECK(token_ids_spell(t, ids.ids, ids.n, run, n));
    CHECK_EQ(ids.n, n / 4);
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    free(run);
    free(other);
    free(text);
}

/* 512 tokens, a power of two: the table must keep free places, or the search for what is not there
 * would not end. */
static void a_missing_token_is_not_searched_for_ever(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len), *other = malloc(len + 8192);
    glm4v_tokenizer *t = NULL;
    len = (size_t)(strstr(text, " 255\n") + 5 - text);
    memcpy(other, text, len);
    for (int i = 0; i < 256; i++) /* byte i, byte 0 */
        len += (size_t)sprintf(other + len, "%c%cA= %d\n", digits[i >> 2], digits[(i & 3) << 4],
                               256 + i);
    CHECK_EQ(glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, other, len }, NULL), 0);
    REQUIRE(t);
    glm4v_ids ids = encode(t, "the surface");
    CHECK_EQ(ids.n, 11);
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    free(other);
    free(text);
}

static void the_leftmost_of_equal_merges_comes_first(void)
{
    size_t len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len);
    char *other = malloc(len + 64);
    glm4v_tokenizer *t = NULL;
    len = (size_t)sprintf(other, "%sYWE= 560\n", text); /* "aa" */
    CHECK_EQ(glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, other, len }, NULL), 0);
    REQUIRE(t);
    glm4v_ids ids = encode(t, "aaaaa");
    REQUIRE(ids.n == 3);
    CHECK_EQ(ids.ids[0], 560);
    CHECK_EQ(ids.ids[1], 560);
    CHECK_EQ(ids.ids[2], 'a');
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    free(other);
    free(text);
}

/* ---- files ---- */

/* "special": false makes text of an added token, unless prompts and answers are made of it. */
static void added_tokens_that_are_not_special_are_text_that_no_text_becomes(void)
{
    static const struct {
        const char *name;
        bool text;
    } cases[] = { { "<tool_call>", true }, { "</tool_call>", true },    { "<think>", false },
                  { "<sop>", false },      { "/nothink", false },       { "<|user|>", false },
                  { "<|image|>", false },  { "<|code_prefix|>", false } };
    glm4v_tokenizer *t = small("glm-4.5");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int32_t id = glm4v_tokenizer_control(t, cases[i].name);
        glm4v_ids ids = { 0 };
        CHECK(id >= 0 && glm4v_tokenizer_is_control(t, id));
        CHECK_EQ(glm4v_tokenizer_is_text(t, id), cases[i].text);
        CHECK_EQ(glm4v_tokenizer_encode(t, cases[i].name, strlen(cases[i].name), &ids, NULL), 0);
        CHECK(ids.n > 1);
        for (size_t k = 0; k < ids.n; k++)
            CHECK(ids.ids[k] != id && !glm4v_tokenizer_is_control(t, ids.ids[k]));
        glm4v_free(ids.ids);
    }
    CHECK(glm4v_tokenizer_is_text(t, 97) && !glm4v_tokenizer_is_text(t, -1));
    CHECK(!glm4v_tokenizer_is_text(t, (int32_t)glm4v_tokenizer_size(t)));
    glm4v_tokenizer_close(&t);
}

static void control_tokens_are_found_by_name(void)
{
    glm4v_tokenizer *t = small("glm-4.1v");
    size_t len;
    int32_t user = glm4v_tokenizer_control(t, "<|user|>");
    CHECK(user > 0 && glm4v_tokenizer_is_control(t, user));
    CHECK(glm4v_tokenizer_control(t, "<think>") > user);
    CHECK_EQ(glm4v_tokenizer_control(t, "the"), -1);
    CHECK_EQ(glm4v_tokenizer_control(t, ""), -1);
    CHECK_EQ(glm4v_tokenizer_control(t, "/nothink"), -1);
    CHECK(!glm4v_tokenizer_is_control(t, -1) && !glm4v_tokenizer_is_control(t, 1 << 30));
    CHECK(glm4v_tokenizer_bytes(t, -1, &len) == NULL && len == 0);
    CHECK(glm4v_tokenizer_bytes(t, glm4v_tokenizer_size(t), &len) == NULL);
    CHECK(glm4v_tokenizer_bytes(t, glm4v_tokenizer_size(t) - 1, &len) != NULL);
    glm4v_tokenizer_close(&t);
}

static void a_tokenizer_json_that_asks_for_something_else_is_refused_by_name(void)
{
    static const struct {
        const char *find, *with;
        int code;
        const char *word;
    } cases[] = {
        { "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}", GLM4V_ERR_UNSUPPORTED,
          "NFC" },
        { "\"Split\"", "\"Digits\"", GLM4V_ERR_UNSUPPORTED, "Digits" },
        { "|\\\\s+(?!", "|\\\\s(?!", GLM4V_ERR_UNSUPPORTED, "pattern" },
        { "\"Regex\"", "\"String\"", GLM4V_ERR_UNSUPPORTED, "pattern" },
        { "\"Isolated\"", "\"Removed\"", GLM4V_ERR_UNSUPPORTED, "invert" },
        { "\"Isolated\"", "\"Contiguous\"", GLM4V_ERR_UNSUPPORTED, "Contiguous" },
        { "\"invert\": false", "\"invert\": true", GLM4V_ERR_UNSUPPORTED, "invert" },
        { "\"use_regex\": false", "\"use_regex\": true", GLM4V_ERR_UNSUPPORTED, "use_regex" },
        { "\"add_prefix_space\": false", "\"add_prefix_space\": true", GLM4V_ERR_UNSUPPORTED,
          "add_prefix_space" },
        { "\"Sequence\"", "\"Whitespace\"", GLM4V_ERR_UNSUPPORTED, "Whitespace" },
        { "\"decoder\": {\n\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"Metaspace\"",
          GLM4V_ERR_UNSUPPORTED, "Metaspace" },
        { "\"BPE\"", "\"Unigram\"", GLM4V_ERR_UNSUPPORTED, "Unigram" },
        { "\"dropout\": null", "\"dropout\": 0.5", GLM4V_ERR_UNSUPPORTED, "dropout" },
        { "\"byte_fallback\": false", "\"byte_fallback\": true", GLM4V_ERR_UNSUPPORTED,
          "byte_fallback" },
        { "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", GLM4V_ERR_UNSUPPORTED,
          "</w>" },
        { "\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"##\"",
          GLM4V_ERR_UNSUPPORTED, "##" },
        { "\"ignore_merges\": true", "\"ignore_merges\": 1", GLM4V_ERR_FORMAT, "ignore_merges" },
        { "\"A\": 65", "\"A\": 66", GLM4V_ERR_FORMAT, "66" }, /* an id twice */
        { "\"A\": 65", "\"A\": 700", GLM4V_ERR_FORMAT, "no token has the id" },
        { "\"A\": 65", "\"A\": -1", GLM4V_ERR_FORMAT, "\"A\"" },
        { "\"A\": 65", "\"A\": 2097152", GLM4V_ERR_FORMAT, "\"A\"" },
        { "\"A\": 65", "\"A\": 65.0", GLM4V_ERR_FORMAT, "\"A\"" },
        { "\"A\": 65", "\"\u4e00\": 65", GLM4V_ERR_FORMAT, "alphabet" },
        { "\"A\": 65", "\"\": 65", GLM4V_ERR_FORMAT, "alphabet" },
        { "\"@\": 64", "\"@@@@\": 64", GLM4V_ERR_FORMAT, "0x40" }, /* a byte without a token */
        { "\"A\": 65", "\"<sop>\": 65", GLM4V_ERR_FORMAT,
          "<sop>" }, /* a control token by another id */
        { "\"id\": 561", "\"id\": 560", GLM4V_ERR_FORMAT, "560" },
        { "\"content\": \"[MASK]\"", "\"content\": \"\"", GLM4V_ERR_FORMAT, "561" },
        { "\"content\": \"[MASK]\"", "\"content\": \"<sop>\"", GLM4V_ERR_FORMAT, "same" },
        { "\"content\": \"[MASK]\"", "\"text\": \"[MASK]\"", GLM4V_ERR_FORMAT, "content" },
        { "\"id\": 561", "\"id\": \"561\"", GLM4V_ERR_FORMAT, "id" },
        { "\"id\": 561", "\"number\": 561", GLM4V_ERR_FORMAT, "id" },
        { "\"h e\"", "\"he\"", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "\"h \"", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "\"h e e\"", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "\"h #\"", GLM4V_ERR_FORMAT, "merges" }, /* joined, not in the vocabulary */
        { "\"h e\"", "[\"h\", \"e\", \"e\"]", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "[\"h\", 1]", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "7", GLM4V_ERR_FORMAT, "merges" },
        { "\"h e\"", "\"h e\", \"h e\"", GLM4V_ERR_FORMAT, "duplicate" },
        { "\"merges\"", "\"merge\"", GLM4V_ERR_FORMAT, "merges" },
        { "\"vocab\"", "\"words\"", GLM4V_ERR_FORMAT, "vocab" },
        { "\"model\"", "\"other\"", GLM4V_ERR_UNSUPPORTED, "model" },
        { "\"pre_tokenizer\"", "\"pre\"", GLM4V_ERR_UNSUPPORTED, "pre_tokenizer" },
    };
    size_t len;
    char *text = slurp(DATA "glm-4.1v", "tokenizer.json", &len);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *wrong = replaced(text, cases[i].find, cases[i].with);
        check_refused(true, wrong, strlen(wrong), NULL, cases[i].code, cases[i].word);
        free(wrong);
    }
    check_refused(true, "[]", 2, NULL, GLM4V_ERR_FORMAT, "object");
    check_refused(true, "\xEF\xBB\xBF{}", 5, NULL, GLM4V_ERR_FORMAT, "tokenizer.json");
    free(text);
}

static void other_spellings_of_the_same_are_taken(void)
{
    static const struct {
        const char *find, *with;
    } cases[] = {
        { "\"normalizer\": null", "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}" },
        { "\"Isolated\",\n\"invert\": false", "\"Removed\", \"invert\": true" },
        { "\"h e\"", "[\"h\", \"e\"]" },
        { "\"dropout\": null", "\"dropout\": 0" },
        { "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"\"" },
        { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
          "?[^\\\\s\\\\p{L}\\\\p{N}]+"
          "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|",
          "'(?i:[sdmt]|ll|ve|re)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+\\\\p{L}+|\\\\p{N}{1,3}| "
          "?[^\\\\s\\\\p{L}\\\\p{N}]++"
          "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]|" },
    };
    size_t len;
    char *text = slurp(DATA "glm-4.1v", "tokenizer.json", &len);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *other = replaced(text, cases[i].find, cases[i].with);
        glm4v_tokenizer *t = NULL;
        glm4v_error err = { 0 };
        long n;
        if (parse_json(&t, other, &err))
            test_fail(__FILE__, __LINE__, "%s: %s", cases[i].with, err.msg);
        else
            CHECK_EQ(token_lines_check(t, DATA "lines.jsonl", &n), 0);
        glm4v_tokenizer_close(&t);
        free(other);
    }
    free(text);
}

/* A merge that leads to what was made a control token later is left out; the rest is read as it is.
 */
static void merging_never_ends_in_a_control_token(void)
{
    size_t len;
    char *text = slurp(DATA "glm-4.1v", "tokenizer.json", &len);
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    char added[128];
    const char *he = strstr(text, "\"he\": ");
    REQUIRE(he != NULL);
    int id = (int)strtol(he + strlen("\"he\": "), NULL, 10);
    CHECK(id > 0);
    snprintf(added, sizeof added, "\"added_tokens\": [{\"id\": %d, \"content\": \"he\"},", id);
    char *other = replaced(text, "\"added_tokens\": [", added);
    CHECK_EQ(parse_json(&t, other, &err), 0);
    REQUIRE(t);
    glm4v_ids ids = encode(t, "he");
    CHECK_EQ(ids.n, 2);
    CHECK(token_ids_spell(t, ids.ids, ids.n, "he", 2));
    CHECK_EQ(glm4v_tokenizer_control(t, "he"), id);
    glm4v_free(ids.ids);
    glm4v_tokenizer_close(&t);
    free(other);
    free(text);
}

static void a_tokenizer_model_with_wrong_lines_is_refused(void)
{
    static const struct {
        const char *find, *with;
        const char *word;
    } cases[] = {
        { "QQ== 65\n", "QQ== 66\n", "66" },   /* a rank twice */
        { "QQ== 65\n", "Qg== 65\n", "same" }, /* a token twice */
        { "QQ== 65\n", "", "65" },            /* a gap */
        { "QQ== 65\n", "QQ= 65\n", "line 66" },
        { "QQ== 65\n", "Q*== 65\n", "line 66" },
        { "QQ== 65\n", "==== 65\n", "line 66" },
        { "QQ== 65\n", " 65\n", "line 66" },
        { "QQ== 65\n", "QQ==65\n", "line 66" },
        { "QQ== 65\n", "QQ== 6x5\n", "line 66" },
        { "QQ== 65\n", "QQ== \n", "line 66" },
        { "QQ== 65\n", "QQ== -65\n", "line 66" },
        { "QQ== 65\n", "QQ== 12345678\n", "line 66" },
        { "QQ== 65\n", "QQ== 9999999\n", "token ids" },
    };
    size_t len, config_len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len);
    char *config = slurp(DATA "chatglm4v", "tokenizer_config.json", &config_len);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *wrong = replaced(text, cases[i].find, cases[i].with);
        check_refused(false, wrong, strlen(wrong), config, GLM4V_ERR_FORMAT, cases[i].word);
        free(wrong);
    }
    check_refused(false, "", 0, config, GLM4V_ERR_FORMAT, "truncated");
    check_refused(false, "", 0, NULL, GLM4V_ERR_FORMAT, "token ids");
    char *bad = replaced(config, "\"561\"", "\"x561\"");
    check_refused(false, text, len, bad, GLM4V_ERR_FORMAT, "x561");
    free(bad);
    bad = replaced(config, "\"content\": \"[MASK]\"", "\"content\": 7");
    check_refused(false, text, len, bad, GLM4V_ERR_FORMAT, "content");
    free(bad);
    check_refused(false, text, len, "[]", GLM4V_ERR_FORMAT, "object");
    free(text);
    free(config);
}

static void windows_line_ends_and_blank_lines_are_taken(void)
{
    size_t len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len);
    char *other = replaced(text, "QQ== 65\n", "\r\nQQ== 65\r\n\n");
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    long n;
    CHECK_EQ(
        glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, other, strlen(other) }, &err),
        0);
    REQUIRE(t);
    CHECK_EQ(token_lines_check(t, DATA "lines.jsonl", &n), 0);
    glm4v_tokenizer_close(&t);
    free(other);
    free(text);
}

/* Every beginning of the two files: refused, or, where nothing but the last newline is missing,
 * equal. */
static void every_truncation_is_refused(void)
{
    size_t len, config_len;
    char *config = slurp(DATA "chatglm4v", "tokenizer_config.json", &config_len);
    for (int is_json = 0; is_json < 2; is_json++) {
        char *text = slurp(is_json ? DATA "glm-4.5" : DATA "chatglm4v",
                           is_json ? "tokenizer.json" : "tokenizer.model", &len);
        /* parsing 17 kB 17,000 times takes long */
        size_t step = is_json && !getenv("GLM4V_DEEP") ? 7 : 1;
        for (size_t n = 0; n + 1 < len; n += step) {
            glm4v_tokenizer *t = NULL;
            if (glm4v_tokenizer_parse(&t,
                                      &(glm4v_tokenizer_files) {
                                          is_json, text, n, is_json ? NULL : config, config_len },
                                      NULL) == 0)
                test_fail(__FILE__, __LINE__, "%zu of %zu bytes were taken", n, len);
            glm4v_tokenizer_close(&t);
        }
        free(text);
    }
    free(config);
}

/* A changed bit: refused, or a tokenizer that still gives every text back. */
static void every_changed_bit_is_refused_or_harmless(void)
{
    static const char sample[] = "The surface isn't clean:\n 缺陷 12345 <think>/nothink qxzj";
    static const char *const dirs[] = { DATA "chatglm4v", DATA "glm-4.1v" };
    static const char *const names[] = { "tokenizer.model", "tokenizer.json" };
    size_t len, step = getenv("GLM4V_DEEP") ? 1 : 37;
    for (int is_json = 0; is_json < 2; is_json++) {
        char *text = slurp(dirs[is_json], names[is_json], &len);
        for (size_t bit = 0; bit < 8 * len; bit += step) {
            glm4v_tokenizer *t = NULL;
            text[bit / 8] ^= (char)(1 << bit % 8);
            if (glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { is_json, text, len }, NULL) ==
                0) {
                glm4v_ids ids = encode(t, sample);
                if (!token_ids_spell(t, ids.ids, ids.n, sample, sizeof sample - 1))
                    test_fail(__FILE__, __LINE__, "%s, bit %zu: the text does not come back",
                              names[is_json], bit);
                glm4v_free(ids.ids);
            }
            glm4v_tokenizer_close(&t);
            text[bit / 8] ^= (char)(1 << bit % 8);
        }
        free(text);
    }
}

/* Parse tokenizer.json with `find` replaced; the code it gives. */
static int parse_replaced(const char *find, const char *with, int32_t *size)
{
    size_t len;
    char *text = slurp(DATA "glm-4.1v", "tokenizer.json", &len),
         *other = replaced(text, find, with);
    glm4v_tokenizer *t = NULL;
    int rc = parse_json(&t, other, NULL);
    *size = t ? glm4v_tokenizer_size(t) : 0;
    glm4v_tokenizer_close(&t);
    free(other);
    free(text);
    return rc;
}

/* A tokenizer.model whose last token has n bytes 'b'. */
static int parse_long_token(size_t n)
{
    size_t len;
    char *text = slurp(DATA "chatglm4v", "tokenizer.model", &len),
         *longer = malloc(len + 2 * n + 64);
    glm4v_tokenizer *t = NULL;
    memcpy(longer, text, len);
    for (size_t i = 0; i < n / 3; i++, len += 4)
        memcpy(longer + len, "YmJi", 4);
    len += (size_t)sprintf(longer + len, "%s 560\n",
                           n % 3 == 1   ? "Yg=="
                           : n % 3 == 2 ? "YmI="
                                        : "");
    int rc = glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, longer, len }, NULL);
    glm4v_tokenizer_close(&t);
    free(longer);
    free(text);
    return rc;
}

static void limits_hold_on_both_sides(void)
{
    char with[GLM4V_MAX_TOKEN_BYTES + 64];
    int32_t size;
    CHECK_EQ(parse_long_token(GLM4V_MAX_TOKEN_BYTES), 0);
    for (size_t more = 1; more < 5; more++)
        CHECK_EQ(parse_long_token(GLM4V_MAX_TOKEN_BYTES + more), GLM4V_ERR_FORMAT);
    CHECK_EQ(parse_long_token(1 << 20), GLM4V_ERR_FORMAT);
    for (int past = 0; past < 2; past++) {
        memset(with, 'b', sizeof with);
        snprintf(with + GLM4V_MAX_TOKEN_BYTES + past, 32, "\": 559");
        with[0] = '"';
        CHECK_EQ(parse_replaced("\"!?!#\": 559", with, &size), 0); /* 4095 and 4096 bytes */
        memmove(with + 2, with + 1, sizeof with - 2);
        CHECK_EQ(parse_replaced("\"!?!#\": 559", with, &size), past ? GLM4V_ERR_FORMAT : 0);
        snprintf(with, sizeof with, "\"added_tokens\": [{\"id\": %d, \"content\": \"<last>\"},",
                 GLM4V_MAX_VOCAB - 1 + past);
        CHECK_EQ(parse_replaced("\"added_tokens\": [", with, &size), past ? GLM4V_ERR_FORMAT : 0);
        CHECK_EQ(size, past ? 0 : GLM4V_MAX_VOCAB);
    }
}

static void missing_files_are_told(void)
{
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_tokenizer_open(&t, DATA, &err), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, "neither tokenizer.json nor tokenizer.model");
    CHECK_EQ(glm4v_tokenizer_open_file(&t, DATA "none.json", &err), GLM4V_ERR_NOT_FOUND);
    CHECK_EQ(glm4v_tokenizer_open_file(&t, DATA "chatglm4v/tokenizer.model", &err), 0);
    CHECK_EQ(glm4v_tokenizer_control(t, "<|user|>"), -1);
    glm4v_tokenizer_close(&t);
}

/* T-OOM for the loaders and for encoding: whichever allocation fails, NOMEM and nothing left. */
static void failing_memory_is_an_error_and_leaks_nothing(void)
{
    static const char *const names[] = { "glm-4.5", "chatglm4v" };
    for (int i = 0; i < 2; i++) {
        char dir[512];
        snprintf(dir, sizeof dir, DATA "%s", names[i]);
        size_t live = glm4v_mem_live();
        for (uint64_t nth = 1, done = 0; !done; nth++) {
            glm4v_tokenizer *t = NULL;
            glm4v_ids ids = { 0 };
            uint64_t before = glm4v_mem_calls();
            glm4v_mem_fail_at(nth, nth % 2);
            int rc = glm4v_tokenizer_open(&t, dir, NULL);
            if (!rc)
                rc = glm4v_tokenizer_encode(t, "the surface", 11, &ids, NULL);
            done = glm4v_mem_calls() - before < nth;
            glm4v_mem_fail_at(0, false);
            CHECK_EQ(rc, done ? 0 : GLM4V_ERR_NOMEM);
            glm4v_free(ids.ids);
            glm4v_tokenizer_close(&t);
            CHECK_EQ(glm4v_mem_live(), live);
            if (!test_ok)
                return;
        }
    }
}

int main(void)
{
    TEST(words_take_one_character_before_them);
    TEST(contractions_ignore_case_and_know_the_long_s);
    TEST(numbers_come_by_three);
    TEST(punctuation_takes_a_space_before_and_newlines_after);
    TEST(white_space_ends_at_its_last_newline);
    TEST(ids_equal_those_of_other_implementations);
    TEST(text_never_becomes_a_control_token);
    TEST(encoding_appends_and_refuses_what_is_not_utf8);
    TEST(whole_pieces_are_found_only_where_the_file_says_so);
    TEST(merging_is_not_quadratic);
    TEST(longer_pieces_are_cut_between_characters);
    TEST(merging_stops_at_the_longest_token);
    TEST(merges_that_offer_others_have_room);
    TEST(a_missing_token_is_not_searched_for_ever);
    TEST(the_leftmost_of_equal_merges_comes_first);
    TEST(added_tokens_that_are_not_special_are_text_that_no_text_becomes);
    TEST(control_tokens_are_found_by_name);
    TEST(a_tokenizer_json_that_asks_for_something_else_is_refused_by_name);
    TEST(other_spellings_of_the_same_are_taken);
    TEST(merging_never_ends_in_a_control_token);
    TEST(a_tokenizer_model_with_wrong_lines_is_refused);
    TEST(windows_line_ends_and_blank_lines_are_taken);
    TEST(every_truncation_is_refused);
    TEST(every_changed_bit_is_refused_or_harmless);
    TEST(limits_hold_on_both_sides);
    TEST(missing_files_are_told);
    TEST(failing_memory_is_an_error_and_leaks_nothing);
    return test_end();
}
