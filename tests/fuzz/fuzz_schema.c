/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-07, JSON schemas: any text is refused with a reason or compiled, and what then comes out of
 * random logits parses and matches, which a plain reading of the schema judges. Bytes: which base,
 * who chooses the tokens, how many more than the fewest there may be, then the schema. P-14: some
 * are tried again with an allocation that fails. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "json_edits.h"
#include "shape/constraint.h"

const size_t fuzz_json_at = 3;

static const char *const texts[] = {
    "{\"type\":\"object\",\"properties\":{\"part\":{\"type\":\"string\",\"minLength\":1,"
    "\"maxLength\":"
    "9},\"verdict\":{\"enum\":[\"OK\",\"NG\",12,1,true,null,[1,{\"a\":\"b\"}]]},\"n\":{\"type\":"
    "\"integer\",\"minimum\":-20,\"maximum\":315},\"p\":{\"type\":\"number\",\"exclusiveMinimum\":"
    "0.125,"
    "\"exclusiveMaximum\":1},\"box\":{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"null\"]"
    ","
    "\"minimum\":0},\"minItems\":2,\"maxItems\":4}},\"required\":[\"verdict\",\"box\"],"
    "\"additionalProperties\":false}",
    "{\"type\":\"array\",\"items\":{\"type\":[\"object\",\"string\",\"boolean\"],\"maxLength\":3,"
    "\"properties\":{\"severe\":{\"const\":1.5},\"sev\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"string\"}"
    ",\"maxItems\":1},\"s\":{\"type\":\"null\"}},\"required\":[\"sev\"]}}",
    "{\"enum\":[\"a\",\"ab\",\"\\u4e00\\u5904\",-3,-31,0.5,1e20,{},\"\\u202e\\n\"]}",
};
enum { N_TEXTS = sizeof texts / sizeof *texts, TOKENS = 400 };
static json_base bases[N_TEXTS];
static glm4v_tokenizer *tokenizer;
static glm4v_token_tries *tries;

static void start(void)
{
    FUZZ_CHECK(!glm4v_tokenizer_open_file(
        &tokenizer, SOURCE_ROOT "/tests/data/tokenizer/glm-4.5/tokenizer.json", NULL));
    FUZZ_CHECK(
        !glm4v_token_tries_open(&tries, tokenizer, glm4v_tokenizer_size(tokenizer) + 1, NULL));
    for (int i = 0; i < N_TEXTS; i++) {
        glm4v_schema *schema = NULL;
        json_base_init(&bases[i], texts[i], strlen(texts[i]));
        FUZZ_CHECK(!glm4v_schema_open(&schema, texts[i], NULL));
        glm4v_schema_close(&schema);
    }
}

/* ---- a plain reading of a schema ---- */

static bool is_type(const json_t *value, const char *name)
{
    const double number = json_number_value(value);
    if (!strcmp(name, "integer"))
        return json_is_integer(value) || (json_is_real(value) && floor(number) == number);
    if (!strcmp(name, "number"))
        return json_is_number(value);
    return (!strcmp(name, "object") && json_is_object(value)) ||
           (!strcmp(name, "array") && json_is_array(value)) ||
           (!strcmp(name, "string") && json_is_string(value)) ||
           (!strcmp(name, "boolean") && json_is_boolean(value)) ||
           (!strcmp(name, "null") && json_is_null(value));
}

static bool has_type(const json_t *type, const json_t *value)
{
    const json_t *one;
    size_t i;
    if (!json_is_array(type))
        return is_type(value, json_string_value(type));
    json_array_foreach(type, i, one)
    {
        if (is_type(value, json_string_value(one)))
            return true;
    }
    return false;
}

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (!json_is_array(a) || json_array_size(a) != json_array_size(b))
        return json_equal(a, b);
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!same(json_array_get(a, i), json_array_get(b, i)))
            return false;
    return true;
}

static size_t characters(const json_t *string)
{
    size_t n = 0;
    for (const char *s = json_string_value(string); *s; s++)
        n += (*s & 0xC0) != 0x80;
    return n;
}

/* Is a count or number beyond the bound of a keyword? */
static bool beyond(const json_t *schema, const char *key, double value, int side, bool exclusive)
{
    const json_t *bound = json_object_get(schema, key);
    const double difference = bound ? (value - json_number_value(bound)) * side : -1;
    return difference > 0 || (exclusive && bound && difference == 0);
}

static bool matches(const json_t *schema, const json_t *value);

static bool parts_match(const json_t *schema, const json_t *value)
{
    const json_t *part, *of;
    const char *key;
    json_t *property;
    size_t i;
    json_array_foreach(value, i, part)
    {
        if (!matches(json_object_get(schema, "items"), part))
            return false;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, property)
    {
        of = json_object_get(json_object_get(schema, "properties"), key);
        if (!of || !matches(of, property))
            return false;
    }
    json_array_foreach(json_object_get(schema, "required"), i, part)
    {
        if (json_is_object(value) && !json_object_get(value, json_string_value(part)))
            return false;
    }
    return true;
}

static bool matches(const json_t *schema, const json_t *value)
{
    const json_t *type = json_object_get(schema, "type"), *fixed = json_object_get(schema, "enum");
    const double number = json_number_value(value);
    bool found = !fixed;
    for (size_t i = 0; i < json_array_size(fixed); i++)
        found |= same(json_array_get(fixed, i), value);
    fixed = json_object_get(schema, "const");
    if (!found || (fixed && !same(fixed, value)) || (type && !has_type(type, value)))
        return false;
    if (json_is_string(value) &&
        (beyond(schema, "minLength", (double)characters(value), -1, false) ||
         beyond(schema, "maxLength", (double)characters(value), 1, false)))
        return false;
    if (json_is_array(value) &&
        (beyond(schema, "minItems", (double)json_array_size(value), -1, false) ||
         beyond(schema, "maxItems", (double)json_array_size(value), 1, false)))
        return false;
    if (json_is_number(value) && (beyond(schema, "minimum", number, -1, false) ||
                                  beyond(schema, "maximum", number, 1, false) ||
                                  beyond(schema, "exclusiveMinimum", number, -1, true) ||
                                  beyond(schema, "exclusiveMaximum", number, 1, true)))
        return false;
    if (json_object_get(schema, "enum") || fixed)
        return true;
    return parts_match(schema, value);
}

/* ---- an answer ---- */

static uint32_t draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* The allowed id that comes first from a random place on, up or down. */
static int32_t choose(const uint64_t *never, uint64_t *state, bool down)
{
    const int32_t n = tries->n_ids, from = (int32_t)(draw(state) % (uint32_t)n);
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = (down ? from + n - i : from + i) % n;
        if (!(never[id / 64] >> (id % 64) & 1))
            return id;
    }
    FUZZ_CHECK(!"a token is allowed");
    return -1;
}

static size_t answer(glm4v_constraint *c, uint8_t chooser, int64_t most, char *text)
{
    const int32_t stop = tries->n_ids - 1;
    uint64_t state = chooser;
    size_t len = 0;
    for (int64_t n = 0; n < most && !glm4v_constraint_done(c);) {
        int32_t ids[16];
        int64_t forced = chooser & 1 ? glm4v_constraint_forced(c, most - n, ids, 16) : 0;
        if (!forced)
            ids[0] = choose(glm4v_constraint_never(c, most - n, &stop, 1), &state, chooser & 2);
        if (!forced && ids[0] == stop)
            break;
        for (int64_t i = 0; i < (forced ? forced : 1); i++, n++) {
            size_t bytes;
            const char *s = glm4v_tokenizer_bytes(tokenizer, ids[i], &bytes);
            memcpy(text + len, s, bytes);
            len += bytes;
            glm4v_constraint_take(c, ids[i]);
        }
    }
    FUZZ_CHECK(glm4v_constraint_may_end(c));
    return len;
}

static void check_answer(const char *schema, uint8_t chooser, uint8_t more)
{
    static char text[GLM4V_MAX_ANSWER_BYTES + 4096];
    glm4v_constraint *c = NULL;
    glm4v_error err = { 0 };
    glm4v_shape *shape = NULL;
    FUZZ_CHECK(!glm4v_shape_open(&shape, schema, tries, &err));
    const int rc = glm4v_constraint_open(&c, shape, tokenizer, TOKENS, &err);
    if (rc) { /* its shortest answer is too long */
        FUZZ_CHECK(rc == GLM4V_ERR_INVALID && strstr(err.msg, "max_tokens"));
        return;
    }
    const int64_t fewest = glm4v_constraint_shortest(c);
    const int64_t most = fewest + more < TOKENS ? fewest + more : TOKENS;
    const size_t len = answer(c, chooser, most, text);
    json_t *root = json_loads(schema, 0, NULL);
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    FUZZ_CHECK(root && value);
    FUZZ_CHECK(matches(root, value));
    json_decref(value);
    json_decref(root);
    glm4v_constraint_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glm4v_schema *schema = NULL;
    glm4v_error err = { 0 };
    size_t len;
    if (size < 3)
        return 0;
    if (!tries)
        start();
    const size_t live = glm4v_mem_live();
    char *text = json_input(&bases[data[0] % N_TEXTS], data + 3, size - 3, &len);
    char *string = malloc(len + 1);
    memcpy(string, text, len);
    string[len] = 0; /* a schema is a string: it ends at its first NUL */
    const uint64_t before = glm4v_mem_calls();
    const int rc = glm4v_schema_open(&schema, string, &err);
    const uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (rc)
        FUZZ_CHECK(!schema && err.code == rc && !strncmp(err.msg, "json_schema", 11) &&
                   (rc == GLM4V_ERR_INVALID || rc == GLM4V_ERR_UNSUPPORTED));
    glm4v_schema_close(&schema);
    FUZZ_WITHOUT_MEMORY(nth, &err, glm4v_schema_open(&schema, string, &err));
    FUZZ_CHECK(!schema);
    if (!rc)
        check_answer(string, data[1], data[2]);
    free(string);
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
