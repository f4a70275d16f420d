/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A reader for one form of call: name(key=value, key=value), where a value is a string, a list of
 * numbers or a word. Models do not always escape quotes inside strings, so a quote ends its string
 * only where an argument can end. An incomplete call is ignored: part of an action must not be
 * taken for a complete one. */
#include "chat/action.h"

#include <string.h>

#include "chat/box.h"

#define MAX_ARGUMENTS 16
#define MAX_FAILED 64 /* beginnings that are no call: bounds the time that one answer takes */

const glm4v_action GLM4V_NO_ACTION = {
    .action = "", .text = "", .message = "", .element = { -1, -1 }, .to = { -1, -1 }
};

typedef struct {
    const char *text;
    size_t len, at;
    char *memory;
    size_t used;
    int32_t width, height;
} reader;

/* ---- pieces ---- */

static char peek(const reader *r)
{
    return r->at < r->len ? r->text[r->at] : 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void skip_blanks(reader *r)
{
    while (is_blank(peek(r)))
        r->at++;
}

static bool skip(reader *r, char c)
{
    skip_blanks(r);
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

/* Is the word at the reader's place this one? Then it is stepped over. */
static bool skip_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(r);
    if (r->len - r->at < n || memcmp(r->text + r->at, word, n) ||
        (r->at + n < r->len && is_name(r->text[r->at + n])))
        return false;
    r->at += n;
    return true;
}

static void put(reader *r, char c)
{
    r->memory[r->used++] = c;
}

/* Letters, digits, underscores and, in a value, what else stands before the next comma or end. */
static const char *take_word(reader *r, bool value)
{
    const char *word = r->memory + r->used;
    skip_blanks(r);
    while (is_name(peek(r)) || (value && (peek(r) == '.' || peek(r) == '-')))
        put(r, r->text[r->at++]);
    put(r, 0);
    return word;
}

/* Does a call begin here, as far as its first key? */
static bool begins_call(const char *text, size_t len, size_t at)
{
    reader r = { .text = text, .len = len, .at = at };
    if (at > 0 && is_name(text[at - 1]))
        return false;
    if (skip_word(&r, "finish"))
        return skip(&r, '(') && skip_word(&r, "message");
    return skip_word(&r, "do") && skip(&r, '(') && skip_word(&r, "action");
}

/* ---- strings ---- */

/* Does an argument end here: before the next key, or with the call itself? */
static bool argument_ends(const reader *at)
{
    reader r = *at;
    const bool comma = skip(&r, ',');
    skip_blanks(&r);
    if (comma && peek(&r) != ')') {
        size_t first = r.at;
        while (is_name(peek(&r)))
            r.at++;
        return r.at > first && skip(&r, '=');
    }
    if (!skip(&r, ')'))
        return false;
    const char c = peek(&r), full_stop[] = "\u3002";
    if (c == ',') { /* of a sentence: another call must follow */
        r.at++;
        skip_blanks(&r);
        return begins_call(r.text, r.len, r.at);
    }
    return !c || is_blank(c) || strchr("<`.;", c) ||
           (r.len - r.at >= 3 && memcmp(r.text + r.at, full_stop, 3) == 0);
}

/* What a backslash stands for with the character after it; others stay as they are, with it. */
static void take_escape(reader *r)
{
    static const char from[] = "nt\\'\"", to[] = "\n\t\\'\"";
    r->at++;
    const char c = peek(r), *known = c ? strchr(from, c) : NULL;
    put(r, known ? to[known - from] : '\\');
    r->at += known != NULL;
}

/* A string in quotes of either kind; NULL if it does not end. */
static const char *take_string(reader *r)
{
    const char *string = r->memory + r->used, quote = r->text[r->at++];
    while (r->at < r->len) {
        const char c = r->text[r->at];
        if (c == '\\') {
            take_escape(r);
            continue;
        }
        r->at++;
        if (c == quote && argument_ends(r)) {
            put(r, 0);
            return string;
        }
        put(r, c);
    }
    return NULL;
}

/* ---- arguments ---- */

/* "[x, y]" to a pixel. A longer list is no point: it is stepped over. */
static bool take_point(reader *r, int32_t point[2])
{
    double numbers[4];
    int n;
    size_t size = glm4v_read_numbers(numbers, 4, &n, r->text + r->at, r->len - r->at);
    r->at += size;
    if (n == 2 && size && point && r->width > 0) {
        glm4v_point_scale(numbers);
        point[0] = glm4v_point_in_pixels(numbers[0], r->width);
        point[1] = glm4v_point_in_pixels(numbers[1], r->height);
    }
    return size > 0 && (n > 1 || !point);
}

/* Where the value of a key goes; NULL for keys that are of no use here. */
static const char **string_of(glm4v_action *a, const char *key)
{
    static const char *const texts[] = { "text", "app", "instruction", "duration" };
    if (strcmp(key, "action") == 0)
        return &a->action;
    if (strcmp(key, "message") == 0)
        return &a->message;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(key, texts[i]) == 0)
            return &a->text;
    return NULL;
}

static int32_t *point_of(glm4v_action *a, const char *key)
{
    if (strcmp(key, "element") == 0 || strcmp(key, "start") == 0)
        return a->element;
    return strcmp(key, "end") == 0 ? a->to : NULL;
}

static bool take_argument(reader *r, glm4v_action *a)
{
    const char *key = take_word(r, false), *value;
    if (!*key || !skip(r, '='))
        return false;
    skip_blanks(r);
    if (peek(r) == '[' || peek(r) == '(')
        return take_point(r, point_of(a, key));
    if (point_of(a, key))
        return false; /* a place in words is none */
    value = peek(r) == '"' || peek(r) == '\'' ? take_string(r) : take_word(r, true);
    const char **to = string_of(a, key);
    if (to && value && !**to) /* said twice, the first counts */
        *to = value;
    return value != NULL;
}

/* The call at the reader's place. */
static bool take_call(reader *r, glm4v_action *a)
{
    const bool finish = skip_word(r, "finish");
    *a = GLM4V_NO_ACTION;
    if (!finish && !skip_word(r, "do"))
        return false;
    if (!skip(r, '('))
        return false;
    for (int i = 0; i < MAX_ARGUMENTS; i++) {
        if (!take_argument(r, a))
            return false;
        const bool comma = skip(r, ',');
        if (skip(r, ')')) {
            a->action = finish ? "finish" : a->action;
            return *a->action && !strpbrk(a->action, "\"'()[]=,\n");
        }
        if (!comma)
            return false;
    }
    return false;
}

bool glm4v_action_parse(glm4v_action *action, char *memory, const char *text, size_t len,
                        int32_t width, int32_t height)
{
    int failed = 0;
    size_t used = 0;
    *action = GLM4V_NO_ACTION;
    for (size_t i = 0; i < len && failed < MAX_FAILED; i++) {
        if ((text[i] != 'd' && text[i] != 'f') || !begins_call(text, len, i))
            continue;
        /* the strings of the call before stay until this one is whole */
        reader r = { .text = text,
                     .len = len,
                     .at = i,
                     .memory = memory + used,
                     .width = width,
                     .height = height };
        glm4v_action next;
        if (!take_call(&r, &next)) {
            failed++;
            continue;
        }
        *action = next;
        used += r.used;
        i = r.at - 1;
    }
    return action->action[0] != 0;
}
