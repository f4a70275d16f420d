/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bounded JSON. The pre-scan walks the text once, allocates nothing and counts: jansson takes some
 * hundred bytes for a value of two, so a hostile file of the permitted size must be refused before
 * it is parsed. The scan only knows strings, brackets and runs of other characters; json_parse.c
 * checks the grammar. */
#define _GNU_SOURCE
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json_parse.h"
#include "base/mem.h"

#define MIB ((size_t)1 << 20)

#define LIMITS(mib, values)                                                                        \
    {                                                                                              \
        .bytes = (mib)*MIB, .nodes = (values), .string = MIB, .memory = 256 * MIB, .depth = 64,    \
    }
const glm4v_json_limits GLM4V_JSON_CONFIG = LIMITS(4, 1000000);
const glm4v_json_limits GLM4V_JSON_SAFETENSORS = LIMITS(16, 1000000);
const glm4v_json_limits GLM4V_JSON_TOKENIZER = LIMITS(64, 4000000);

/* ---- pre-scan ---- */

/* Offset after the string that begins (behind its quote) at i, or 0 when it does not end. Quotes
 * and backslashes are searched for apart, so that long strings take little time. */
static size_t skip_string(const char *text, size_t len, size_t i)
{
    const char *quote = NULL;
    while (i < len) {
        if (!quote || quote < text + i)
            quote = memchr(text + i, '"', len - i);
        if (!quote)
            return 0;
        const char *escape = memchr(text + i, '\\', (size_t)(quote - text) - i);
        if (!escape)
            return quote - text + 1;
        i = escape - text + 2;
    }
    return 0;
}

static bool is_scalar_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.';
}

static bool is_filler(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ':';
}

/* What jansson takes for a value, measured and rounded up: an object with its first table, an
 * array, a string or key beside its bytes, a number with its place in an array. */
enum { OBJECT_BYTES = 240, ARRAY_BYTES = 144, STRING_BYTES = 96, SCALAR_BYTES = 48 };

static int scan(const char *text, size_t len, const char *file, const glm4v_json_limits *limits,
                glm4v_error *err)
{
    size_t nodes = 0, memory = 0, i = 0;
    int depth = 0;
    while (i < len) {
        char c = text[i];
        size_t start = i++;
        if (is_filler(c))
            continue;
        if (c == '}' || c == ']') {
            depth--; /* the parser finds brackets that do not match; below zero ends here */
            if (depth < 0)
                return glm4v_fail(err, GLM4V_ERR_FORMAT,
                                  "%s: '%c' at byte %zu has no opening bracket", file, c, start);
            continue;
        }
        if (++nodes > limits->nodes)
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: more than %zu JSON values (at byte %zu)",
                              file, limits->nodes, start);
        if (c == '{' || c == '[') {
            memory += c == '{' ? OBJECT_BYTES : ARRAY_BYTES;
            if (++depth > limits->depth)
                return glm4v_fail(err, GLM4V_ERR_FORMAT,
                                  "%s: nested deeper than %d levels at byte %zu", file,
                                  limits->depth, start);
        } else if (c == '"') {
            i = skip_string(text, len, i);
            if (!i)
                return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the string at byte %zu does not end",
                                  file, start);
            memory += STRING_BYTES + i - start - 2;
            if (i - start - 2 > limits->string)
                return glm4v_fail(err, GLM4V_ERR_FORMAT,
                                  "%s: the string at byte %zu is longer than %zu bytes", file,
                                  start, limits->string);
        } else if (is_scalar_byte(c)) {
            memory += SCALAR_BYTES;
            while (i < len && is_scalar_byte(text[i]))
                i++;
        } else {
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: byte 0x%02x at offset %zu is not JSON",
                              file, (unsigned char)c, start);
        }
        if (memory > limits->memory)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: its values would take more than %zu MiB (at byte %zu)", file,
                              limits->memory / MIB, start);
    }
    return 0;
}

int glm4v_json_parse(json_t **root, const char *text, size_t len, const char *file,
                     const glm4v_json_limits *limits, glm4v_error *err)
{
    if (!len)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: is empty", file);
    int rc = glm4v_file_check_head(file, text, len, false, err);
    if (rc)
        return rc;
    if (len > limits->bytes)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: %zu bytes, at most %zu are accepted", file,
                          len, limits->bytes);
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: begins with a byte order mark; save it as plain UTF-8", file);
    rc = scan(text, len, file, limits, err);
    return rc ? rc : glm4v_json_build(root, text, len, file, err);
}

/* ---- files ---- */

int glm4v_read_file(char **data, size_t *size, const char *dir, const char *name, size_t limit,
                    glm4v_error *err)
{
    int fd = -1;
    glm4v_file_id id;
    int rc = glm4v_file_open(&fd, &id, dir, name, err);
    if (rc)
        return rc;
    char *text = NULL;
    if (id.size > limit) {
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: %" PRIu64 " bytes, at most %zu are accepted",
                        name, id.size, limit);
        goto done;
    }
    text = glm4v_alloc(id.size + 1, 1);
    if (!text) {
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for its %" PRIu64 " bytes", name,
                        id.size);
        goto done;
    }
    rc = glm4v_file_read(fd, name, 0, text, id.size, err);
    if (!rc)
        rc = glm4v_file_verify(fd, name, &id, err);
done:
    close(fd);
    if (rc) {
        glm4v_free(text);
        return rc;
    }
    *data = text;
    *size = id.size;
    return 0;
}

int glm4v_json_read(json_t **root, const char *dir, const char *name,
                    const glm4v_json_limits *limits, glm4v_error *err)
{
    char *text = NULL;
    size_t size = 0;
    int rc = glm4v_read_file(&text, &size, dir, name, limits->bytes, err);
    if (!rc)
        rc = glm4v_json_parse(root, text, size, name, limits, err);
    glm4v_free(text);
    return rc;
}

/* ---- getters ---- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* The value of key, or NULL when it is missing or null: the caller's default then holds. */
static const json_t *look_up(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && json_is_null(value) ? NULL : value;
}

static int wrong_type(const json_t *value, const char *file, const char *key, const char *expected,
                      glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%.80s\" is %s, expected %s", file, key,
                      type_name(value), expected);
}

int glm4v_json_int(const json_t *object, const char *file, const char *key, glm4v_range range,
                   int64_t *value, glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_integer(v))
        return wrong_type(v, file, key, "an integer", err);
    int64_t i = json_integer_value(v);
    if (i < range.min || i > range.max)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"%.80s\" is %" PRId64 ", expected %" PRId64 " to %" PRId64, file,
                          key, i, range.min, range.max);
    *value = i;
    return 0;
}

int glm4v_json_double(const json_t *object, const char *file, const char *key, glm4v_interval range,
                      double *value, glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return wrong_type(v, file, key, "a number", err);
    double d = json_number_value(v);
    if (!isfinite(d) || d < range.min || d > range.max)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%.80s\" is %g, expected %g to %g", file,
                          key, d, range.min, range.max);
    *value = d;
    return 0;
}

int glm4v_json_bool(const json_t *object, const char *file, const char *key, bool *value,
                    glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong_type(v, file, key, "true or false", err);
    *value = json_is_true(v);
    return 0;
}

int glm4v_json_string(const json_t *object, const char *file, const char *key, const char **value,
                      glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return wrong_type(v, file, key, "a string", err);
    *value = json_string_value(v); /* no NUL inside: json_parse.c refuses \u0000 */
    return 0;
}

int glm4v_json_object(const json_t *object, const char *file, const char *key, const json_t **value,
                      glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_object(v))
        return wrong_type(v, file, key, "an object", err);
    *value = v;
    return 0;
}

int glm4v_json_array(const json_t *object, const char *file, const char *key, const json_t **value,
                     glm4v_error *err)
{
    const json_t *v = look_up(object, key);
    if (!v)
        return 0;
    if (!json_is_array(v))
        return wrong_type(v, file, key, "an array", err);
    *value = v;
    return 0;
}
