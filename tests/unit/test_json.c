/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json.c and file.c: limits on both sides, hostile files, getters. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "files.h"
#include "test.h"
#include "tiny_model.h"

static char dir[512];
static glm4v_error err;

static int parse(const char *text, size_t len, const glm4v_json_limits *limits)
{
    json_t *root = NULL;
    int rc = glm4v_json_parse(&root, text, len, "f.json", limits, &err);
    json_decref(root);
    return rc;
}

static int parse_text(const char *text)
{
    return parse(text, strlen(text), &GLM4V_JSON_CONFIG);
}

static void depth_64_parses_and_65_does_not(void)
{
    char text[256] = "";
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    CHECK_EQ(parse_text(text), 0);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    CHECK_EQ(parse_text(text), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "deeper than 64");
    CHECK_CONTAINS(err.msg, "byte 64");
}

static void a_depth_bomb_is_refused_without_parsing(void)
{
    size_t n = 4 << 20;
    char *text = malloc(n);
    memset(text, '[', n);
    uint64_t calls = glm4v_mem_calls();
    CHECK_EQ(parse(text, n, &GLM4V_JSON_CONFIG), GLM4V_ERR_FORMAT);
    CHECK_EQ(glm4v_mem_calls(), calls);
    free(text);
}

static void node_limit_holds_on_both_sides(void)
{
    const glm4v_json_limits limits = {
        .bytes = 1000, .nodes = 5, .string = 10, .depth = 4, .memory = 4096
    };
    CHECK_EQ(parse("[1,2,3,4]", 9, &limits), 0);
    CHECK_EQ(parse("[1,2,3,4,5]", 11, &limits), GLM4V_ERR_FORMAT);
    CHECK_EQ(parse("{\"a\":1,\"b\":2}", 13, &limits), 0); /* keys count */
    CHECK_EQ(parse("{\"a\":1,\"b\":[]}", 14, &limits), 0);
    CHECK_EQ(parse("{\"a\":1,\"b\":[1]}", 15, &limits), GLM4V_ERR_FORMAT);
}

static void string_limit_holds_on_both_sides(void)
{
    const glm4v_json_limits limits = {
        .bytes = 1000, .nodes = 5, .string = 4, .depth = 4, .memory = 4096
    };
    CHECK_EQ(parse("[\"abcd\"]", 8, &limits), 0);
    CHECK_EQ(parse("[\"abcde\"]", 9, &limits), GLM4V_ERR_FORMAT);
    CHECK_EQ(parse("[\"\\\"\\\"\"]", 8, &limits), 0);
}

/* Empty objects cost most for their three bytes. */
static void memory_limit_holds_on_both_sides(void)
{
    const glm4v_json_limits limits = {
        .bytes = 1000, .nodes = 50, .string = 4, .depth = 4, .memory = 144 + 2 * 240
    };
    CHECK_EQ(parse("[{},{}]", 7, &limits), 0);
    CHECK_EQ(parse("[{},{},1]", 9, &limits), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "would take more than");
    size_t n = 4000000, len = 3 * n + 1;
    char *text = malloc(len + 1);
    for (size_t i = 0; i < n; i++)
        memcpy(text + 1 + 3 * i, "{},", 3);
    text[0] = '[', text[len - 1] = ']';
    CHECK_EQ(parse(text, len, &GLM4V_JSON_TOKENIZER), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "256 MiB");
    free(text);
}

static void byte_limit_holds_on_both_sides(void)
{
    const glm4v_json_limits limits = {
        .bytes = 8, .nodes = 5, .string = 4, .depth = 4, .memory = 4096
    };
    CHECK_EQ(parse("[      ]", 8, &limits), 0);
    CHECK_EQ(parse("[       ]", 9, &limits), GLM4V_ERR_FORMAT);
}

static void what_is_no_json_is_refused_by_name(void)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        { "", "is empty" },
        { "{\"a\":1,\"a\":2}", "duplicate" },
        { "\xef\xbb\xbf{}", "byte order mark" },
        { "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer" },
        { "{\"a\":\"\\u0000\"}", "f.json" },
        { "{\"a\":\"\xff\"}", "f.json" },
        { "{\"a\":1", "f.json" },
        { "]", "has no opening bracket" },
        { "[1]]", "has no opening bracket" },
        { "\"abc", "does not end" },
        { "{\"a\":\x01}", "0x01" },
        { "[1 2]", "f.json" },
        { "[99999999999999999999]", "f.json" },
        { "[1e999]", "f.json" },
        { "[NaN]", "f.json" },
        { "[1}", "f.json" },
        { "{} x", "f.json" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(&err, 0, sizeof err);
        CHECK_EQ(parse_text(cases[i].text), GLM4V_ERR_FORMAT);
        CHECK_EQ(err.code, GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
}

static void a_nul_byte_in_the_text_is_refused(void)
{
    CHECK_EQ(parse("[1]\0", 4, &GLM4V_JSON_CONFIG), GLM4V_ERR_FORMAT);
    CHECK_EQ(parse("[\"a\0b\"]", 7, &GLM4V_JSON_CONFIG), GLM4V_ERR_FORMAT);
}

static void crlf_and_spaces_are_json(void)
{
    CHECK_EQ(parse_text("{\r\n\t\"a\" : [ 1 , -2.5e3 , true, null ]\r\n}\r\n"), 0);
}

/* ---- the parser against jansson's own ---- */

static const char *const documents[] = {
    "{\"a\":[1,-2,3.5,1e3,-0.25E-2,0],\"b\":{\"c\":null,\"d\":true,\"e\":false},\"f\":\"x\"}",
    "[\"\\u00e9\\ud83d\\ude00\\n\\t\\\"\\\\\\/\", \"\xc3\xa9\xe4\xb8\x80\xf0\x9f\x98\x80\", "
    "\"\\b\\f\\r\"]",
    " [ ] ",
    "{ \"k\" : { } , \"l\" : [ [ ] , [ { } ] ] }",
    "[9223372036854775807,-9223372036854775808,1.7976931348623157e308,5e-324,0.1,"
    "123456789012345678]",
    "{\"dtype\":\"BF16\",\"shape\":[640,256],\"data_offsets\":[0,327680]}",
};

/* Both readers take the same texts and make the same trees of them. */
static void compare(const char *text, size_t len, int *taken)
{
    json_error_t error;
    json_t *ours = NULL, *theirs = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    int rc = glm4v_json_parse(&ours, text, len, "f", &GLM4V_JSON_CONFIG, &err);
    if (!rc != !!theirs || (theirs && !json_equal(ours, theirs)))
        test_fail(__FILE__, __LINE__, "readers differ on %.*s: %s | %s", (int)len, text,
                  rc ? err.msg : "taken", theirs ? "taken" : error.text);
    *taken += !rc;
    json_decref(ours);
    json_decref(theirs);
}

static void the_parser_agrees_with_jansson(void)
{
    static const char bytes[] = "{}[]\",:\\ 0123456789-+.eEtrufalsn/\xc3\xa9\xed\xa0\x80\t\n\x7f";
    uint64_t state = 1;
    int taken = 0, tried = 0;
    for (size_t d = 0; d < sizeof documents / sizeof *documents; d++) {
        size_t len = strlen(documents[d]);
        compare(documents[d], len, &taken);
        CHECK_EQ(taken, d + 1);
        for (size_t cut = 1; cut < len; cut++)
            compare(documents[d], cut, &(int) { 0 });
    }
    for (int i = 0; i < 60000; i++) {
        char text[256];
        const char *from = documents[(size_t)i % (sizeof documents / sizeof *documents)];
        size_t len = strlen(from);
        memcpy(text, from, len);
        for (int changes = 1 + i % 3; changes--;) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            size_t at = (size_t)(state >> 33) % len;
            char c = bytes[(state >> 20) % (sizeof bytes - 1)];
            switch (state >> 60 & 3) {
            case 0:
                memmove(text + at, text + at + 1, --len - at); /* leave one out */
                break;
            case 1:
                memmove(text + at + 1, text + at, len++ - at); /* put one in */
                text[at] = c;
                break;
            default:
                text[at] = c;
            }
        }
        compare(text, len, &taken);
        tried++;
    }
    printf("# %d of %d changed texts were taken\n", taken, tried);
    CHECK(taken > tried / 20 && taken < tried);
}

/* ---- getters ---- */

static json_t *tree(const char *text)
{
    json_t *root = NULL;
    if (glm4v_json_parse(&root, text, strlen(text), "f.json", &GLM4V_JSON_CONFIG, &err))
        file_die("cannot parse", text);
    return root;
}

static void getters_keep_the_default_when_missing_or_null(void)
{
    json_t *root = tree("{\"n\":null}");
    int64_t i = 7;
    double d = 7;
    bool b = true;
    const char *s = "x";
    const json_t *o = root, *a = root;
    static const char *const keys[] = { "n", "none" };
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(glm4v_json_int(root, "f", keys[k], (glm4v_range) { 0, 1 }, &i, &err), 0);
        CHECK_EQ(glm4v_json_double(root, "f", keys[k], (glm4v_interval) { 0, 1 }, &d, &err), 0);
        CHECK_EQ(glm4v_json_bool(root, "f", keys[k], &b, &err), 0);
        CHECK_EQ(glm4v_json_string(root, "f", keys[k], &s, &err), 0);
        CHECK_EQ(glm4v_json_object(root, "f", keys[k], &o, &err), 0);
        CHECK_EQ(glm4v_json_array(root, "f", keys[k], &a, &err), 0);
    }
    CHECK(i == 7 && d == 7 && b && !strcmp(s, "x") && o == root && a == root);
    json_decref(root);
}

static void getters_check_type_and_range(void)
{
    json_t *root = tree("{\"i\":5,\"d\":1.5,\"s\":\"t\",\"b\":false,\"a\":[],\"o\":{}}");
    int64_t i = 0;
    double d = 0;
    bool b = true;
    const char *s = NULL;
    const json_t *p = NULL;
    CHECK(!glm4v_json_int(root, "f", "i", (glm4v_range) { 5, 5 }, &i, &err) && i == 5);
    CHECK_EQ(glm4v_json_int(root, "f", "i", (glm4v_range) { 6, 9 }, &i, &err), GLM4V_ERR_FORMAT);
    CHECK_STR(err.msg, "f: \"i\" is 5, expected 6 to 9");
    CHECK_EQ(glm4v_json_int(root, "f", "i", (glm4v_range) { 1, 4 }, &i, &err), GLM4V_ERR_FORMAT);
    CHECK_EQ(glm4v_json_int(root, "f", "d", (glm4v_range) { 0, 9 }, &i, &err), GLM4V_ERR_FORMAT);
    CHECK_STR(err.msg, "f: \"d\" is a number with a fraction, expected an integer");
    CHECK(!glm4v_json_double(root, "f", "i", (glm4v_interval) { 0, 9 }, &d, &err) && d == 5);
    CHECK(!glm4v_json_double(root, "f", "d", (glm4v_interval) { 1.5, 1.5 }, &d, &err) && d == 1.5);
    CHECK_EQ(glm4v_json_double(root, "f", "d", (glm4v_interval) { 2, 3 }, &d, &err),
             GLM4V_ERR_FORMAT);
    CHECK_EQ(glm4v_json_double(root, "f", "s", (glm4v_interval) { 2, 3 }, &d, &err),
             GLM4V_ERR_FORMAT);
    CHECK(!glm4v_json_bool(root, "f", "b", &b, &err) && !b);
    CHECK_EQ(glm4v_json_bool(root, "f", "i", &b, &err), GLM4V_ERR_FORMAT);
    CHECK(!glm4v_json_string(root, "f", "s", &s, &err) && !strcmp(s, "t"));
    CHECK_EQ(glm4v_json_string(root, "f", "a", &s, &err), GLM4V_ERR_FORMAT);
    CHECK(!glm4v_json_object(root, "f", "o", &p, &err) && json_is_object(p));
    CHECK_EQ(glm4v_json_object(root, "f", "a", &p, &err), GLM4V_ERR_FORMAT);
    CHECK(!glm4v_json_array(root, "f", "a", &p, &err) && json_is_array(p));
    CHECK_EQ(glm4v_json_array(root, "f", "o", &p, &err), GLM4V_ERR_FORMAT);
    json_decref(root);
}

/* ---- files ---- */

static int open_name(const char *name)
{
    int fd = -1;
    glm4v_file_id id;
    memset(&err, 0, sizeof err);
    int rc = glm4v_file_open(&fd, &id, dir, name, &err);
    if (!rc)
        close(fd);
    return rc;
}

static void only_regular_files_are_opened(void)
{
    file_write_text(dir, "plain", "x");
    CHECK_EQ(open_name("plain"), 0);
    CHECK_EQ(open_name("none"), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, "none");
    CHECK_EQ(open_name("."), GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "not a regular file");
    CHECK_EQ(mkfifo(file_path(dir, "fifo"), 0600), 0);
    CHECK_EQ(open_name("fifo"), GLM4V_ERR_IO); /* and does not wait for a writer */
    CHECK_CONTAINS(err.msg, "not a regular file");
    if (geteuid()) { /* root may read everything */
        chmod(file_path(dir, "plain"), 0);
        CHECK_EQ(open_name("plain"), GLM4V_ERR_IO);
        chmod(file_path(dir, "plain"), 0600);
    }
}

static void links_inside_the_directory_are_followed(void)
{
    file_write_text(dir, "target", "x");
    CHECK_EQ(symlink("target", file_path(dir, "link-in")), 0);
    CHECK_EQ(open_name("link-in"), 0);
    CHECK_EQ(symlink(file_path(dir, "target"), file_path(dir, "link-absolute")), 0);
    CHECK_EQ(open_name("link-absolute"), 0);
}

static void links_out_of_the_directory_are_refused(void)
{
    static const char *const targets[] = { "/dev/null", "/etc/passwd", "..", "../", "/dev/zero" };
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        unlink(file_path(dir, "link-out"));
        CHECK_EQ(symlink(targets[i], file_path(dir, "link-out")), 0);
        CHECK_EQ(open_name("link-out"), GLM4V_ERR_IO);
        CHECK_CONTAINS(err.msg, "link-out: a symbolic link out of");
    }
    CHECK_EQ(symlink("nowhere", file_path(dir, "link-broken")), 0);
    CHECK_EQ(open_name("link-broken"), GLM4V_ERR_NOT_FOUND);
    CHECK_EQ(symlink("link-loop", file_path(dir, "link-loop")), 0);
    CHECK_EQ(open_name("link-loop"), GLM4V_ERR_IO);
}

/* cache/blobs/HASH <- cache/snapshots/REVISION/NAME, as download tools lay a model out. */
static void links_of_a_download_cache_are_followed(void)
{
    char cache[600], snapshot[700], other[700];
    glm4v_file_id id;
    int fd = -1;
    CHECK_EQ(tiny_model_mkdtemp(cache, sizeof cache), 0);
    snprintf(snapshot, sizeof snapshot, "%s/snapshots/abc", cache);
    snprintf(other, sizeof other, "%s/other", cache);
    mkdir(file_path(cache, "blobs"), 0700);
    mkdir(file_path(cache, "snapshots"), 0700);
    mkdir(snapshot, 0700);
    mkdir(other, 0700);
    file_write_text(file_path(cache, "blobs"), "0123", "x");
    file_write_text(other, "secret", "x");
    CHECK_EQ(symlink("../../blobs/0123", file_path(snapshot, "config.json")), 0);
    CHECK_EQ(symlink("../../other/secret", file_path(snapshot, "bad.json")), 0);
    int rc = glm4v_file_open(&fd, &id, snapshot, "config.json", &err);
    CHECK_EQ(rc, 0);
    if (!rc)
        close(fd);
    CHECK_EQ(glm4v_file_open(&fd, &id, snapshot, "bad.json", &err), GLM4V_ERR_IO);
    tiny_model_remove(cache);
}

static void a_file_above_the_limit_is_refused_unread(void)
{
    char *data = NULL;
    size_t size = 0;
    file_write_text(dir, "ten", "0123456789");
    CHECK_EQ(glm4v_read_file(&data, &size, dir, "ten", 10, &err), 0);
    CHECK_EQ(size, 10);
    CHECK_STR(data, "0123456789");
    glm4v_free(data);
    CHECK_EQ(glm4v_read_file(&data, &size, dir, "ten", 9, &err), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "ten: 10 bytes, at most 9");
}

static void a_changed_file_is_recognised(void)
{
    int fd = -1;
    glm4v_file_id id;
    file_write_text(dir, "seen", "0123456789");
    CHECK_EQ(glm4v_file_open(&fd, &id, dir, "seen", &err), 0);
    CHECK_EQ(glm4v_file_verify(fd, "seen", &id, &err), 0);
    char buffer[20];
    CHECK_EQ(glm4v_file_read(fd, "seen", 4, buffer, 6, &err), 0);
    CHECK(!memcmp(buffer, "456789", 6));
    CHECK_EQ(glm4v_file_read(fd, "seen", 4, buffer, 7, &err), GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "ends at byte 10, 1 bytes early");
    CHECK_EQ(truncate(file_path(dir, "seen"), 5), 0);
    CHECK_EQ(glm4v_file_verify(fd, "seen", &id, &err), GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "from 10 to 5 bytes");
    id.size = 5; /* the same size, another time */
    CHECK_EQ(glm4v_file_verify(fd, "seen", &id, &err), GLM4V_ERR_IO);
    close(fd);
}

int main(void)
{
    if (tiny_model_mkdtemp(dir, sizeof dir))
        return 1;
    size_t live = glm4v_mem_live();
    TEST(depth_64_parses_and_65_does_not);
    TEST(a_depth_bomb_is_refused_without_parsing);
    TEST(node_limit_holds_on_both_sides);
    TEST(string_limit_holds_on_both_sides);
    TEST(memory_limit_holds_on_both_sides);
    TEST(byte_limit_holds_on_both_sides);
    TEST(what_is_no_json_is_refused_by_name);
    TEST(a_nul_byte_in_the_text_is_refused);
    TEST(crlf_and_spaces_are_json);
    TEST(the_parser_agrees_with_jansson);
    TEST(getters_keep_the_default_when_missing_or_null);
    TEST(getters_check_type_and_range);
    TEST(only_regular_files_are_opened);
    TEST(links_inside_the_directory_are_followed);
    TEST(links_out_of_the_directory_are_refused);
    TEST(links_of_a_download_cache_are_followed);
    TEST(a_file_above_the_limit_is_refused_unread);
    TEST(a_changed_file_is_recognised);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    tiny_model_remove(dir);
    return test_end();
}
