/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* safetensors.c: what a header may say, single and sharded directories, reading of every dtype. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "checkpoint/safetensors.h"
#include "files.h"
#include "test.h"
#include "tiny_model.h"

static glm4v_error err;
static char dir[512];

/* ---- headers ---- */

static int parse(const char *header, uint64_t data_bytes)
{
    glm4v_checkpoint *c = NULL;
    memset(&err, 0, sizeof err);
    int rc = glm4v_checkpoint_open_header(&c, header, strlen(header), data_bytes, &err);
    if (!rc)
        glm4v_checkpoint_close(&c);
    return rc;
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void good_headers_parse(void)
{
    CHECK_EQ(parse("{}", 0), 0);
    CHECK_EQ(parse("{" T("a", "F32", "[2,3]", "0", "24") "}", 24), 0);
    CHECK_EQ(parse("{" T("a", "F32", "[]", "0", "4") "}", 4), 0);
    CHECK_EQ(parse("{" T("a", "F32", "[0,3]", "0", "0") "}", 0), 0);
    CHECK_EQ(parse("{" T("b", "F16", "[1]", "2", "4") "," T("a", "BF16", "[1]", "0", "2") "}", 4),
             0);
    CHECK_EQ(parse("{" T("b", "I8", "[0]", "2", "2") "," T("a", "BF16", "[1]", "0", "2") "}", 2),
             0);
    CHECK_EQ(
        parse("{\"__metadata__\":{\"k\":\"v\"}," T("a", "U8", "[1,1,1,1,1,1,1,3]", "0", "3") "}   ",
              3),
        0);
}

static void bad_headers_are_refused_by_name(void)
{
    static const struct {
        const char *header;
        uint64_t data;
        const char *said;
    } cases[] = {
        { "[]", 0, "not an object" },
        { "{\"a\":1}", 0, "\"a\" is not an object" },
        { "{" T("a", "F33", "[1]", "0", "4") "}", 4, "dtype \"F33\"" },
        { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no \"dtype\"" },
        { "{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
          "\"dtype\" is an integer" },
        { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"shape\"" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4, "\"shape\"" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\"" },
        { "{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "at most 8" },
        { "{" T("a", "F32", "[-1]", "0", "4") "}", 4, "size 0 of \"shape\"" },
        { "{" T("a", "F32", "[1.0]", "0", "4") "}", 4, "size 0 of \"shape\"" },
        { "{" T("a", "F32", "[1,null]", "0", "4") "}", 4, "size 1 of \"shape\"" },
        { "{" T("a", "F32", "[281474976710657]", "0", "4") "}", 4, "size 0" }, /* 2^48 + 1 */
        { "{" T("a", "F32", "[16777216,16777217]", "0", "4") "}", 4, "size 1" },
        { "{" T("a", "F32", "[4611686018427387904,4]", "0", "4") "}", 4, "size 0" },
        { "{" T("a", "F32", "[9223372036854775807,2]", "0", "4") "}", 4, "size 0" },
        { "{" T("a", "F32", "[1]", "4", "0") "}", 4, "backwards" },
        { "{" T("a", "F32", "[1]", "-4", "0") "}", 4, "backwards" },
        { "{" T("a", "F32", "[1]", "0.0", "4") "}", 4, "two integers" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "two integers" },
        { "{" T("a", "F32", "[1]", "0", "5") "}", 5, "span 5 bytes" },
        { "{" T("a", "F32", "[1]", "0", "4") "}", 3, "cut short in \"a\"" },
        { "{" T("a", "F32", "[1]", "0", "4") "}", 5, "1 bytes follow" },
        { "{}", 1, "1 bytes follow" },
        { "{" T("a", "F32", "[1]", "1", "5") "}", 5, "leave a hole" },
        { "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "2", "6") "}", 6, "overlap" },
        { "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4, "overlap" },
        { "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12,
          "leave a hole" },
        { "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8,
          "duplicate" },
        { "{\"__metadata__\":[]}", 0, "\"__metadata__\" is not an object" },
        { "{\"__metadata__\":{\"k\":1}}", 0, "which is not a string" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = parse(cases[i].header, cases[i].data);
        CHECK(rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
}

static void the_element_limit_holds_on_both_sides(void)
{
    CHECK_EQ(
        parse("{" T("a", "U8", "[281474976710656]", "0", "281474976710656") "}", (uint64_t)1 << 48),
        0);
    CHECK_EQ(parse("{" T("a", "U8", "[281474976710657]", "0", "281474976710657") "}",
                   ((uint64_t)1 << 48) + 1),
             GLM4V_ERR_FORMAT);
}

static void the_tensor_limit_holds_on_both_sides(void)
{
    size_t room = 70000 * 64, len;
    char *text = malloc(room);
    for (int n = GLM4V_MAX_TENSORS_PER_FILE; n <= GLM4V_MAX_TENSORS_PER_FILE + 1; n++) {
        len = 1, text[0] = '{';
        for (int i = 0; i < n; i++)
            len += (size_t)snprintf(text + len, room - len,
                                    "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[0],"
                                    "\"data_offsets\":[0,0]}",
                                    i ? "," : "", i);
        snprintf(text + len, room - len, "}");
        CHECK_EQ(parse(text, 0), n > GLM4V_MAX_TENSORS_PER_FILE ? GLM4V_ERR_FORMAT : 0);
    }
    free(text);
}

/* ---- files ---- */

static int open_dir(void)
{
    glm4v_checkpoint *c = NULL;
    memset(&err, 0, sizeof err);
    int rc = glm4v_checkpoint_open(&c, dir, &err);
    if (!rc)
        glm4v_checkpoint_close(&c);
    return rc;
}

static void refused_weights_say_why(void)
{
    static const struct {
        const char *data;
        size_t len;
        const char *said;
    } cases[] = {
        { "", 0, "is empty (0 bytes)" },
        { "\2\0\0\0\0\0\0\0{", 9, "cannot hold a header of 2" },
        { "\2\0\0", 3, "3 bytes cannot hold a header" },
        { "\377\377\377\377\377\377\377\377{}", 10, "cannot hold a header" },
        { "\2\0\0\0\0\0\0\0[]", 10, "not an object" },
        { "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", 64,
          "Git LFS pointer" },
    };
    CHECK_EQ(open_dir(), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, "neither model.safetensors nor model.safetensors.index.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_write(dir, "model.safetensors", cases[i].data, cases[i].len);
        CHECK_EQ(open_dir(), GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, cases[i].said);
        CHECK_CONTAINS(err.msg, "model.safetensors");
    }
    unlink(file_path(dir, "model.safetensors"));
    CHECK_EQ(mkfifo(file_path(dir, "model.safetensors"), 0600), 0);
    CHECK_EQ(open_dir(), GLM4V_ERR_IO);
    unlink(file_path(dir, "model.safetensors"));
}

static void the_header_limit_holds_on_both_sides(void)
{
    const uint64_t limit = 16 << 20;
    for (uint64_t len = limit; len <= limit + 1; len++) {
        char *data = malloc(len + 8);
        memset(data, ' ', len + 8);
        memcpy(data, &len, 8);
        memcpy(data + 8, "{}", 2);
        file_write(dir, "model.safetensors", data, len + 8);
        CHECK_EQ(open_dir(), len > limit ? GLM4V_ERR_FORMAT : 0);
        free(data);
    }
    unlink(file_path(dir, "model.safetensors"));
}

/* ---- reading ---- */

static void every_dtype_widens_to_f32(void)
{
    /* 5 numbers each: 1, -2, 0.5 (integers: 5), 0, the largest; behind a block border too */
    static const uint16_t bf16[] = { 0x3f80, 0xc000, 0x3f00, 0, 0x7f7f };
    static const uint16_t f16[] = { 0x3c00, 0xc000, 0x3800, 0x0001, 0x7bff };
    static const float f32[] = { 1, -2, 0.5f, 0, 3.4e38f };
    static const double f64[] = { 1, -2, 0.5, 0, 3e38 };
    static const int8_t i8[] = { 1, -2, 5, 0, 127 };
    static const uint8_t u8[] = { 1, 2, 5, 0, 255 };
    static const int16_t i16[] = { 1, -2, 5, 0, 32767 };
    static const int32_t i32[] = { 1, -2, 5, 0, 1 << 30 };
    static const int64_t i64[] = { 1, -2, 5, 0, (int64_t)1 << 40 };
    static const struct {
        const char *name;
        const void *data;
        size_t size;
        float expected[5];
    } cases[] = {
        { "BF16", bf16, 2, { 1, -2, 0.5f, 0, 0x1.fep127f } },
        { "F16", f16, 2, { 1, -2, 0.5f, 0x1p-24f, 65504 } },
        { "F32", f32, 4, { 1, -2, 0.5f, 0, 3.4e38f } },
        { "F64", f64, 8, { 1, -2, 0.5f, 0, 3e38f } },
        { "I8", i8, 1, { 1, -2, 5, 0, 127 } },
        { "U8", u8, 1, { 1, 2, 5, 0, 255 } },
        { "I16", i16, 2, { 1, -2, 5, 0, 32767 } },
        { "I32", i32, 4, { 1, -2, 5, 0, 0x1p30f } },
        { "I64", i64, 8, { 1, -2, 5, 0, 0x1p40f } },
    };
    enum { REPEAT = 301, N = 5 * REPEAT }; /* 1505: two whole blocks and a rest */
    static unsigned char file[N * 8 + 256];
    static float out[N + 1];
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        size_t bytes = cases[k].size * N;
        uint64_t len = (uint64_t)snprintf((char *)file + 8, 200,
                                          "{\"x\":{\"dtype\":\"%s\",\"shape\":[%d],"
                                          "\"data_offsets\":[0,%zu]}}",
                                          cases[k].name, N, bytes);
        memcpy(file, &len, 8);
        for (int i = 0; i < REPEAT; i++)
            memcpy(file + 8 + len + (size_t)i * 5 * cases[k].size, cases[k].data,
                   5 * cases[k].size);
        file_write(dir, "x.safetensors", file, 8 + len + bytes);
        glm4v_checkpoint *c = NULL;
        REQUIRE(!glm4v_checkpoint_open_file(&c, file_path(dir, "x.safetensors"), &err));
        const glm4v_tensor *t = glm4v_checkpoint_find(c, "x");
        static const int starts[] = { 0, 1, 4, 511, 512, 513, 1504, 1505 };
        for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
            int start = starts[s], n = N - start;
            out[n] = 77;
            CHECK_EQ(glm4v_checkpoint_read_f32(c, t, (uint64_t)start, out, (size_t)n, &err), 0);
            int wrong = 0;
            for (int i = 0; i < n; i++)
                wrong += out[i] != cases[k].expected[(start + i) % 5];
            CHECK_EQ(wrong, 0);
            CHECK(out[n] == 77); /* nothing behind the end is written */
        }
        CHECK_EQ(glm4v_checkpoint_read_f32(c, t, 0, out, N + 1, &err), GLM4V_ERR_INTERNAL);
        CHECK_EQ(glm4v_checkpoint_read_f32(c, t, UINT64_MAX, out, 2, &err), GLM4V_ERR_INTERNAL);
        glm4v_checkpoint_close(&c);
    }
}

static void every_half_widens_exactly(void)
{
    static unsigned char file[65536 * 2 + 256];
    static float out[65536];
    uint64_t len =
        (uint64_t)sprintf((char *)file + 8, "{" T("x", "F16", "[65536]", "0", "131072") "}");
    memcpy(file, &len, 8);
    for (uint32_t i = 0; i < 65536; i++)
        memcpy(file + 8 + len + 2 * i, &(uint16_t) { (uint16_t)i }, 2);
    file_write(dir, "x.safetensors", file, 8 + len + 131072);
    glm4v_checkpoint *c = NULL;
    REQUIRE(!glm4v_checkpoint_open_file(&c, file_path(dir, "x.safetensors"), &err));
    REQUIRE(!glm4v_checkpoint_read_f32(c, glm4v_checkpoint_find(c, "x"), 0, out, 65536, &err));
    int wrong = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        int exponent = (int)(i >> 10 & 31), mantissa = (int)(i & 1023);
        double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        v = i & 0x8000 ? -v : v;
        if (exponent == 31)
            wrong += mantissa ? !isnan(out[i])
                              : !(isinf(out[i]) && !!signbit(out[i]) == (bool)(i >> 15));
        else
            wrong += out[i] != (float)v || !!signbit(out[i]) != (bool)(i >> 15);
    }
    CHECK_EQ(wrong, 0);
    glm4v_checkpoint_close(&c);
}

static void a_file_that_shrinks_is_an_error_not_a_signal(void)
{
    glm4v_checkpoint *c = NULL;
    char data[96] = "\x3b\0\0\0\0\0\0\0{" T("x", "U8", "[4]", "0", "4") "}";
    float out[4];
    uint64_t len = strlen(data + 8);
    memcpy(data, &len, 8);
    memcpy(data + 8 + len, "\1\2\3\4", 4);
    file_write(dir, "x.safetensors", data, 12 + len);
    REQUIRE(!glm4v_checkpoint_open_file(&c, file_path(dir, "x.safetensors"), &err));
    CHECK_EQ(glm4v_checkpoint_verify(c, &err), 0);
    CHECK_EQ(truncate(file_path(dir, "x.safetensors"), (off_t)len + 10), 0);
    CHECK_EQ(glm4v_checkpoint_read_f32(c, glm4v_checkpoint_find(c, "x"), 0, out, 4, &err),
             GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "x.safetensors: \"x\": ends at byte");
    CHECK_EQ(glm4v_checkpoint_verify(c, &err), GLM4V_ERR_IO);
    glm4v_checkpoint_close(&c);
}

/* ---- the tiny model ---- */

/* All tensors of dir hold what the generator says, in every dtype and split. */
static void check_values(const tiny_model_options *options, uint32_t shards)
{
    char model[512];
    glm4v_checkpoint *c = NULL;
    REQUIRE(!tiny_model_make(model, sizeof model, options));
    CHECK_EQ(glm4v_checkpoint_open(&c, model, &err), 0);
    if (c) {
        CHECK_EQ(glm4v_checkpoint_shards(c), shards);
        CHECK_EQ(glm4v_checkpoint_count(c), 56);
        for (uint32_t i = 0; i < glm4v_checkpoint_count(c); i++) {
            const glm4v_tensor *t = glm4v_checkpoint_at(c, i);
            size_t n = t->size / glm4v_dtype_size(t->dtype), wrong = 0;
            float *x = malloc(n * sizeof *x);
            CHECK_EQ(glm4v_checkpoint_read_f32(c, t, 0, x, n, &err), 0);
            for (size_t k = 0; k < n; k++)
                wrong += x[k] != tiny_model_value(1, t->name, k);
            CHECK_EQ(wrong, 0);
            CHECK(glm4v_checkpoint_find(c, t->name) == t);
            free(x);
        }
        CHECK(!glm4v_checkpoint_find(c, "none"));
        CHECK_EQ(glm4v_checkpoint_verify(c, &err), 0);
        glm4v_checkpoint_close(&c);
    }
    tiny_model_remove(model);
}

static void a_single_file_holds_the_generated_values(void)
{
    check_values(&(tiny_model_options) { 0 }, 1);
    check_values(&(tiny_model_options) { .dtype = TINY_F32 }, 1);
    check_values(&(tiny_model_options) { .dtype = TINY_F16 }, 1);
}

static void shards_hold_the_generated_values(void)
{
    check_values(&(tiny_model_options) { .shards = 2 }, 2);
    check_values(&(tiny_model_options) { .shards = 7 }, 7);
}

static void the_digest_depends_on_tensors_not_on_files(void)
{
    uint64_t digest[3];
    for (int i = 0; i < 3; i++) {
        char model[512];
        glm4v_checkpoint *c = NULL;
        REQUIRE(!tiny_model_make(model, sizeof model,
                                 &(tiny_model_options) { .shards = i, .tied = i == 2 }));
        REQUIRE(!glm4v_checkpoint_open(&c, model, &err));
        digest[i] = glm4v_checkpoint_digest(c);
        glm4v_checkpoint_close(&c);
        tiny_model_remove(model);
    }
    CHECK(digest[0] == digest[1]);
    CHECK(digest[0] != digest[2]);
}

/* Change one thing in a model of three shards, and open it. */
static int open_changed(const char *file, const char *from, const char *to)
{
    char model[512];
    glm4v_checkpoint *c = NULL;
    memset(&err, 0, sizeof err);
    if (tiny_model_make(model, sizeof model, &(tiny_model_options) { .shards = 3 }))
        return 0;
    if (from)
        file_replace(model, file, from, to);
    else
        unlink(file_path(model, file));
    int rc = glm4v_checkpoint_open(&c, model, &err);
    glm4v_checkpoint_close(&c);
    tiny_model_remove(model);
    return rc;
}

#define INDEX "model.safetensors.index.json"
#define SHARD "model-00002-of-00003.safetensors"

static void a_missing_shard_is_named_with_its_tensors(void)
{
    CHECK_EQ(open_changed(SHARD, NULL, NULL), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, SHARD ": is missing; it holds 19 tensors, from \"");
    CHECK_EQ(open_changed(INDEX, NULL, NULL), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, INDEX);
}

static void an_index_that_leaves_the_directory_is_refused(void)
{
    static const char *const names[] = {
        "../model-00002-of-00003.safetensors",
        "/etc/passwd",
        "x/model.safetensors",
        "..",
        "",
        ".safetensors",
        ".hidden.safetensors",
        "a\\\\b.safetensors",
        "model.bin",
        "config.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_EQ(open_changed(INDEX, SHARD, names[i]), GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, "not the name of a .safetensors file in the same folder");
    }
    CHECK_EQ(open_changed(INDEX, "\"" SHARD "\"", "7"), GLM4V_ERR_FORMAT);
}

static void a_shard_without_tensors_is_no_excuse(void)
{
    static const char empty[] = "\2\0\0\0\0\0\0\0{}";
    glm4v_checkpoint *c = NULL;
    file_write(dir, "model-1.safetensors", empty, sizeof empty - 1);
    file_write_text(dir, INDEX, "{\"weight_map\":{\"a\":\"model-1.safetensors\"}}");
    CHECK_EQ(glm4v_checkpoint_open(&c, dir, &err), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "model-1.safetensors: lacks \"a\"");
    unlink(file_path(dir, INDEX));
}

static void index_and_shards_must_agree(void)
{
    /* the index places a tensor elsewhere; names one that is not there; forgets one */
    CHECK_EQ(open_changed(INDEX, SHARD, "model-00001-of-00003.safetensors"), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "model.safetensors.index.json places there");
    CHECK_EQ(open_changed(INDEX, "\"lm_head.weight\"", "\"lm_head.weigh\""), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "lm_head.weight");
    CHECK_EQ(
        open_changed(INDEX, "\n    \"lm_head.weight\": \"model-00002-of-00003.safetensors\",", ""),
        GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "files of two downloads are mixed");
    CHECK_EQ(open_changed(INDEX, "\"weight_map\"", "\"weight_mop\""), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "weight_map");
    CHECK_EQ(open_changed(INDEX, "{", "["), GLM4V_ERR_FORMAT);
}

/* ---- reference vectors ---- */

static void the_reference_vectors_open(void)
{
    const char *golden = test_golden_dir();
    static const char *const names[] = { "glm4v/golden.safetensors", "glm4v/model.safetensors",
                                         "position_interp.safetensors",
                                         "preprocess/golden.safetensors" };
    if (!test_needs("golden", !access(file_path(golden, names[0]), R_OK),
                    "no reference vectors here"))
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        glm4v_checkpoint *c = NULL;
        CHECK_EQ(glm4v_checkpoint_open_file(&c, file_path(golden, names[i]), &err), 0);
        CHECK(c && glm4v_checkpoint_count(c) > 1);
        glm4v_checkpoint_close(&c);
    }
    glm4v_checkpoint *c = NULL;
    CHECK_EQ(glm4v_checkpoint_open(&c, file_path(golden, "glm-4v-9b"), &err), 0);
    CHECK(c && glm4v_checkpoint_shards(c) == 2);
    glm4v_checkpoint_close(&c);
}

int main(void)
{
    if (tiny_model_mkdtemp(dir, sizeof dir))
        return 1;
    size_t live = glm4v_mem_live();
    TEST(good_headers_parse);
    TEST(bad_headers_are_refused_by_name);
    TEST(the_element_limit_holds_on_both_sides);
    TEST(the_tensor_limit_holds_on_both_sides);
    TEST(refused_weights_say_why);
    TEST(the_header_limit_holds_on_both_sides);
    TEST(every_dtype_widens_to_f32);
    TEST(every_half_widens_exactly);
    TEST(a_file_that_shrinks_is_an_error_not_a_signal);
    TEST(a_single_file_holds_the_generated_values);
    TEST(shards_hold_the_generated_values);
    TEST(the_digest_depends_on_tensors_not_on_files);
    TEST(a_missing_shard_is_named_with_its_tensors);
    TEST(an_index_that_leaves_the_directory_is_refused);
    TEST(a_shard_without_tensors_is_no_excuse);
    TEST(index_and_shards_must_agree);
    TEST(the_reference_vectors_open);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    tiny_model_remove(dir);
    return test_end();
}
