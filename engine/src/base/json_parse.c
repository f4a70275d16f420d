/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A JSON reader without recursion: open containers are on a stack of fixed depth. A string without
 * escapes goes from the text to its value, others are decoded first. */
#define _GNU_SOURCE
#include "base/json_parse.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/string_buffer.h"
#include "base/utf8.h"

#define MAX_NUMBER 512 /* characters */

typedef struct {
    const char *text;
    size_t len, at;
    const char *file;
    const char *string; /* [string_len]: read last; in text, or in decoded if it has escapes */
    size_t string_len;
    glm4v_text_out decoded;
    glm4v_text_out key; /* of the member whose value comes next */
    json_t *root;
    json_t *open[GLM4V_JSON_MAX_DEPTH]; /* borrowed: each is held by the one below it, the first by
                                           root */
    int depth;
    glm4v_error *err;
} reader;

static int syntax(reader *r, const char *what)
{
    return glm4v_fail(r->err, GLM4V_ERR_FORMAT, "%s: %s at byte %zu", r->file, what, r->at);
}

static int out_of_memory(reader *r)
{
    return glm4v_fail(r->err, GLM4V_ERR_NOMEM, "%s: no memory to parse it", r->file);
}

static void skip_space(reader *r)
{
    while (r->at < r->len && strchr(" \t\n\r", r->text[r->at]) && r->text[r->at])
        r->at++;
}

/* The next character, NUL at the end (which is no JSON either). */
static char peek(const reader *r)
{
    return r->at < r->len ? r->text[r->at] : 0;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits behind \u; -1 if they are not. */
static int32_t read_hex(reader *r)
{
    int32_t code = 0;
    if (r->len - r->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(r->text[r->at + i]);
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    r->at += 4;
    return code;
}

/* \uXXXX, behind the u; two of them for characters above U+FFFF. */
static int read_code(reader *r)
{
    int32_t code = read_hex(r);
    if (code >= 0xd800 && code < 0xdc00 && r->len - r->at >= 6 && r->text[r->at] == '\\' &&
        r->text[r->at + 1] == 'u') {
        r->at += 2;
        int32_t low = read_hex(r);
        code =
            low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    if (code <= 0 || (code >= 0xd800 && code < 0xe000))
        return syntax(r, "the \\u escape is not a character");
    unsigned char bytes[4];
    const int n = glm4v_utf8_put(bytes, code);
    glm4v_text_add(&r->decoded, (const char *)bytes, n);
    return 0;
}

static int read_escape(reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = peek(r);
    const char *found = c ? strchr(from, c) : NULL;
    r->at++;
    if (c == 'u')
        return read_code(r);
    if (!found)
        return syntax(r, "an unknown escape");
    glm4v_text_add(&r->decoded, &to[found - from], 1);
    return 0;
}

/* May a byte of the word be a control character, a quote or a backslash? x - n & ~x has the high
 * bit of each byte x < n; a borrow from such a byte may add one above it, never take one away. */
static bool has_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    const uint64_t quote = word ^ ones * '"', escape = word ^ ones * '\\';
    return ((word - ones * 0x20) & ~word & high) || ((quote - ones) & ~quote & high) ||
           ((escape - ones) & ~escape & high);
}

/* Length of what stands for itself from r->at on. */
static size_t plain_length(const reader *r)
{
    const char *s = r->text + r->at;
    const size_t left = r->len - r->at;
    size_t n = 0;
    for (uint64_t word; left - n >= sizeof word; n += sizeof word) {
        memcpy(&word, s + n, sizeof word);
        if (has_special(word))
            break;
    }
    while (n < left && (unsigned char)s[n] >= 0x20 && s[n] != '"' && s[n] != '\\')
        n++;
    return n;
}

/* Decode a string that does not end with its first plain bytes, which lie in string; from r->at on
 * it goes on. */
static int read_escaped(reader *r)
{
    r->decoded.size = 0;
    glm4v_text_add(&r->decoded, r->string, r->string_len);
    while (!r->decoded.failed) {
        if (r->at >= r->len)
            return syntax(r, "the text ends in a string");
        if ((unsigned char)peek(r) < 0x20)
            return syntax(r, "a control character in a string");
        if (r->text[r->at++] == '"')
            break;
        int rc = read_escape(r);
        if (rc)
            return rc;
        const size_t n = plain_length(r);
        glm4v_text_add(&r->decoded, r->text + r->at, n);
        r->at += n;
    }
    r->string = r->decoded.data;
    r->string_len = r->decoded.size;
    return r->decoded.failed ? out_of_memory(r) : 0;
}

/* A string, from its quote on. */
static int read_string(reader *r)
{
    size_t bad = 0, start = r->at++;
    r->string = r->text + r->at;
    r->string_len = plain_length(r);
    r->at += r->string_len;
    int rc = 0;
    if (peek(r) == '"')
        r->at++;
    else
        rc = read_escaped(r);
    if (!rc && !glm4v_utf8_valid(r->string, r->string_len, &bad)) {
        r->at = start;
        rc = syntax(r, "bytes that are not UTF-8 in the string");
    }
    return rc;
}

/* ---- numbers and words ---- */

static size_t skip_digits(const char *s, size_t n, size_t i)
{
    while (i < n && s[i] >= '0' && s[i] <= '9')
        i++;
    return i;
}

/* Length of the number that s [0, n) begins with by the grammar, 0 if none; *whole: no fraction, no
 * exponent. */
static size_t number_length(const char *s, size_t n, bool *whole)
{
    size_t i = n && s[0] == '-', digits = i;
    i = skip_digits(s, n, i);
    if (i == digits || (s[digits] == '0' && i > digits + 1))
        return 0;
    *whole = true;
    if (i < n && s[i] == '.') {
        digits = ++i;
        *whole = false;
        i = skip_digits(s, n, i);
        if (i == digits)
            return 0;
    }
    if (i < n && (s[i] | 0x20) == 'e') {
        *whole = false;
        i++;
        i += i < n && (s[i] == '+' || s[i] == '-');
        digits = i;
        i = skip_digits(s, n, i);
        if (i == digits)
            return 0;
    }
    return i;
}

static bool whole_value(json_int_t *value, const char *s, size_t n)
{
    bool negative = s[0] == '-';
    json_int_t v = 0;
    for (size_t i = negative; i < n; i++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            (negative ? __builtin_sub_overflow(v, s[i] - '0', &v)
                      : __builtin_add_overflow(v, s[i] - '0', &v)))
            return false;
    *value = v;
    return true;
}

static int read_number(reader *r, json_t **value)
{
    const char *s = r->text + r->at;
    bool whole;
    char copy[MAX_NUMBER + 1];
    json_int_t i = 0;
    size_t n = number_length(s, r->len - r->at, &whole);
    if (!n)
        return syntax(r, "not a number");
    if (n > MAX_NUMBER || (whole && !whole_value(&i, s, n)))
        return syntax(r, "the number is too large");
    if (whole) {
        *value = json_integer(i);
    } else {
        memcpy(copy, s, n);
        copy[n] = 0;
        /* the application may have set a locale whose numbers have a comma; "C" is static and needs
         * no freeing */
        double d = strtod_l(copy, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));
        if (!isfinite(d))
            return syntax(r, "the number is too large");
        *value = json_real(d);
    }
    r->at += n;
    return *value ? 0 : out_of_memory(r);
}

static bool take_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->len - r->at < n || memcmp(r->text + r->at, word, n))
        return false;
    r->at += n;
    return true;
}

/* A value that is no container. */
static int read_scalar(reader *r, json_t **value)
{
    int rc;
    char c = peek(r);
    if (c == '"') {
        if ((rc = read_string(r)))
            return rc;
        *value = json_stringn_nocheck(r->string, r->string_len);
        return *value ? 0 : out_of_memory(r);
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(r, value);
    if (take_word(r, "true"))
        *value = json_true();
    else if (take_word(r, "false"))
        *value = json_false();
    else if (take_word(r, "null"))
        *value = json_null();
    else
        return syntax(r, "a value is expected");
    return 0;
}

/* ---- containers ---- */

/* Give value, whose reference is taken, to the container on top. */
static int store(reader *r, json_t *value)
{
    json_t *top = r->open[r->depth - 1];
    int failed = json_is_array(top) ? json_array_append_new(top, value)
                                    : json_object_set_new_nocheck(top, r->key.data, value);
    return failed ? out_of_memory(r) : 0;
}

/* Begin an object or array, as a member of the one on top if there is one. */
static int open_container(reader *r)
{
    bool object = peek(r) == '{';
    if (r->depth == GLM4V_JSON_MAX_DEPTH)
        return syntax(r, "nested too deep");
    json_t *container = object ? json_object() : json_array();
    if (!container)
        return out_of_memory(r);
    if (r->depth) {
        int rc = store(r, container);
        if (rc)
            return rc;
    } else {
        r->root = container;
    }
    r->open[r->depth++] = container;
    r->at++;
    return 0;
}

/* "key" : */
static int read_key(reader *r)
{
    if (peek(r) != '"')
        return syntax(r, "a key is expected");
    int rc = read_string(r);
    if (rc)
        return rc;
    r->key.size = 0;
    glm4v_text_add(&r->key, r->string, r->string_len);
    if (r->key.failed)
        return out_of_memory(r);
    if (json_object_get(r->open[r->depth - 1], r->key.data))
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT, "%s: duplicate key \"%.80s\" at byte %zu",
                          r->file, r->key.data, r->at);
    skip_space(r);
    if (peek(r) != ':')
        return syntax(r, "':' is expected");
    r->at++;
    skip_space(r);
    return 0;
}

/* One member of the container on top, whose opening may itself be the member. first: none came
 * before it. */
static int read_member(reader *r, bool first, bool *opened)
{
    bool array = json_is_array(r->open[r->depth - 1]);
    int rc;
    json_t *value = NULL;
    if (!first) {
        if (peek(r) != ',')
            return syntax(r, array ? "',' or ']' is expected" : "',' or '}' is expected");
        r->at++;
        skip_space(r);
    }
    if (!array && (rc = read_key(r)))
        return rc;
    *opened = peek(r) == '{' || peek(r) == '[';
    if (*opened)
        return open_container(r);
    rc = read_scalar(r, &value);
    return rc ? rc : store(r, value);
}

static int read_all(reader *r)
{
    skip_space(r);
    if (peek(r) != '{' && peek(r) != '[')
        return syntax(r, "an object or array is expected");
    int rc = open_container(r);
    bool first = true; /* in the container on top */
    while (!rc && r->depth) {
        bool opened = false;
        skip_space(r);
        if (peek(r) == (json_is_array(r->open[r->depth - 1]) ? ']' : '}')) {
            r->at++;
            r->depth--;
        } else {
            rc = read_member(r, first, &opened);
        }
        first = opened;
    }
    skip_space(r);
    if (!rc && r->at < r->len)
        rc = syntax(r, "unexpected data after the end");
    return rc;
}

int glm4v_json_build(json_t **root, const char *text, size_t len, const char *file,
                     glm4v_error *err)
{
    reader r = { .text = text, .len = len, .file = file, .err = err };
    int rc = read_all(&r);
    glm4v_free(r.decoded.data);
    glm4v_free(r.key.data);
    if (rc)
        json_decref(r.root);
    else
        *root = r.root;
    return rc;
}
