/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One pass over an answer that finds boxes wherever models put them: between box markers in [ ], (
 * ) or < >, or in JSON, whole or cut off, fenced or in the middle of prose. So it is a scanner for
 * braces, keys, strings and brackets, not a JSON parser: it skips what it does not know. Answers
 * are untrusted: memory is fixed, every number is bounded.
 * Source: "Grounding and actions" in docs/model.md. */
#include "chat/box.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

#define MAX_DEPTH 32        /* of objects whose labels are kept */
#define MAX_NUMBER_BYTES 12 /* of one number */
#define SCALE 1000.0

/* An object that is open: the boxes found since it began get its label. */
typedef struct {
    uint32_t first;
    char label[GLM4V_LABEL_BYTES];
} object;

typedef struct {
    const char *text;
    size_t len, at;
    const glm4v_span *spans; /* ascending */
    size_t n_spans;
    glm4v_found_box *boxes;
    uint32_t n;
    object objects[MAX_DEPTH];
    size_t depth;                 /* may exceed MAX_DEPTH; what is deeper has no label */
    size_t brackets;              /* open since the key of a list of boxes; 0: in no such list */
    bool box_key, label_key;      /* the key before, whose value is due */
    char last[GLM4V_LABEL_BYTES]; /* the last string or word */
    size_t no_string[2];          /* before this, '"' and '\'' begin none */
} scanner;

/* ---- numbers ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_blanks(const char *s, size_t len, size_t i)
{
    while (i < len && is_blank(s[i]))
        i++;
    return i;
}

/* A decimal number at s; its length, 0 if there is none or it is longer than coordinates are. */
static size_t read_number(double *value, const char *s, size_t len)
{
    size_t i = len > 0 && s[0] == '-';
    const size_t first = i;
    double v = 0, unit = 1;
    bool fraction = false;
    for (; i < len && (is_digit(s[i]) || (s[i] == '.' && !fraction && i > first)); i++) {
        if (s[i] == '.')
            fraction = true;
        else if (fraction)
            v += (unit /= 10) * (s[i] - '0');
        else
            v = 10 * v + (s[i] - '0');
        if (i >= MAX_NUMBER_BYTES)
            return 0;
    }
    *value = first ? -v : v;
    return i > first && s[i - 1] != '.' ? i : 0;
}

static char closing(char opening)
{
    switch (opening) {
    case '[':
        return ']';
    case '(':
        return ')';
    case '<':
        return '>';
    default:
        return 0;
    }
}

size_t glm4v_read_numbers(double *numbers, int most, int *n, const char *s, size_t len)
{
    const char close = len ? closing(s[0]) : 0;
    size_t i = 1;
    *n = 0;
    if (!close)
        return 0;
    for (;;) {
        i = skip_blanks(s, len, i);
        if (i < len && s[i] == close && *n > 0)
            return i + 1;
        if (i < len && s[i] == ',' && *n > 0)
            i = skip_blanks(s, len, i + 1);
        if (i < len && s[i] == close && *n > 0)
            return i + 1;
        if (*n == most || i >= len)
            return 0;
        size_t size = read_number(&numbers[*n], s + i, len - i);
        if (!size)
            return 0;
        i += size;
        ++*n;
    }
}

/* ---- pixels ---- */

/* Some models write parts of a side, 0 to 1, in place of thousandths. */
static bool are_parts(const double *numbers, int n)
{
    for (int i = 0; i < n; i++)
        if (numbers[i] < 0 || numbers[i] > 1)
            return false;
    return true;
}

void glm4v_point_scale(double point[2])
{
    const bool whole = point[0] == floor(point[0]) && point[1] == floor(point[1]);
    const double scale = are_parts(point, 2) && !whole ? SCALE : 1; /* 0 and 1: the first pixels */
    point[0] *= scale;
    point[1] *= scale;
}

int32_t glm4v_point_in_pixels(double value, int32_t size)
{
    double pixel = floor(value * size / SCALE);
    if (pixel < 0)
        return 0;
    return pixel > size - 1 ? size - 1 : (int32_t)pixel;
}

/* One axis: *first and *count of the pixels between a and b. */
static bool side_in_pixels(int32_t *first, int32_t *count, double a, double b, int32_t size)
{
    double low = a < b ? a : b, high = a < b ? b : a;
    if (high <= 0 || low >= SCALE)
        return false;
    double last = ceil((high < SCALE ? high : SCALE) * size / SCALE);
    *first = glm4v_point_in_pixels(low, size);
    *count = (int32_t)last - *first;
    if (*count < 1) /* a line, as coarse coordinates make of a scratch */
        *count = 1;
    return true;
}

bool glm4v_box_in_pixels(glm4v_box *box, const double corner[4], int32_t width, int32_t height)
{
    const double scale = are_parts(corner, 4) ? SCALE : 1;
    return side_in_pixels(&box->x, &box->width, scale * corner[0], scale * corner[2], width) &&
           side_in_pixels(&box->y, &box->height, scale * corner[1], scale * corner[3], height);
}

/* ---- strings and keys ---- */

/* Is s one of the words, of which there are n? */
static bool is_one_of(const char *s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s, words[i]) == 0)
            return true;
    return false;
}

static bool is_box_key(const char *s)
{
    static const char *const keys[] = { "bbox",   "box",   "bbox_2d",      "box_2d",
                                        "bboxes", "boxes", "bounding_box", "bounding_boxes" };
    return is_one_of(s, keys, sizeof keys / sizeof *keys);
}

static bool is_label_key(const char *s)
{
    static const char *const keys[] = { "label", "type", "name", "class", "category", "kind" };
    return is_one_of(s, keys, sizeof keys / sizeof *keys);
}

/* -1: c is not a hexadecimal digit. */
static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hexadecimal digits at s, or -1. */
static int32_t read_hex(const char *s, size_t len)
{
    int32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_digit(i < len ? s[i] : 0);
        if (digit < 0)
            return -1;
        value = 16 * value + digit;
    }
    return value;
}

/* Add a character to a label, or leave it out when it does not fit or is none to show. */
static void append(char label[GLM4V_LABEL_BYTES], size_t *used, uint32_t code)
{
    unsigned char bytes[4];
    if (code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0xD800 && code < 0xE000))
        return;
    size_t n = glm4v_utf8_put(bytes, code);
    if (*used + n >= GLM4V_LABEL_BYTES) {
        *used = GLM4V_LABEL_BYTES; /* cut: nothing more, shorter characters neither */
        return;
    }
    memcpy(label + *used, bytes, n);
    *used += n;
    label[*used] = 0;
}

/* A string at the scanner's place goes to `last`. One that the line's end or the text's cuts off is
 * none, nor is any that begins inside it: each line is looked through once. */
static bool take_string(scanner *s)
{
    const char quote = s->text[s->at];
    size_t *const none = &s->no_string[quote == '\''];
    size_t i = s->at + 1, used = 0;
    char label[GLM4V_LABEL_BYTES] = "";
    if (s->at < *none)
        return false;
    while (i < s->len && s->text[i] != quote && s->text[i] != '\n') {
        uint32_t code = 0;
        int n = glm4v_utf8_next((const unsigned char *)s->text + i, s->len - i, &code);
        i += n > 0 ? n : 1;
        if (code == '\\' && i < s->len) {
            int32_t hex = s->text[i] == 'u' ? read_hex(s->text + i + 1, s->len - i - 1) : -1;
            code = hex >= 0 ? hex : (unsigned char)s->text[i];
            if (hex < 0 && code >= 0x80)
                continue; /* a backslash before a long character, which comes next */
            i += hex >= 0 ? 5 : 1;
        }
        if (used < GLM4V_LABEL_BYTES)
            append(label, &used, code);
    }
    if (i >= s->len || s->text[i] != quote) {
        *none = i;
        return false;
    }
    memcpy(s->last, label, sizeof label);
    s->at = i + 1;
    return true;
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void take_word(scanner *s)
{
    size_t used = 0;
    while (s->at < s->len && is_word(s->text[s->at])) {
        if (used < GLM4V_LABEL_BYTES - 1)
            s->last[used++] = s->text[s->at];
        s->at++;
    }
    s->last[used] = 0;
}

/* ---- objects and boxes ---- */

static void open_object(scanner *s)
{
    if (s->depth < MAX_DEPTH)
        s->objects[s->depth] = (object) { .first = s->n };
    s->depth++;
}

static void close_object(scanner *s)
{
    if (s->depth == 0 || --s->depth >= MAX_DEPTH)
        return;
    const object *o = &s->objects[s->depth];
    for (uint32_t i = o->first; i < s->n; i++)
        if (!s->boxes[i].label[0])
            memcpy(s->boxes[i].label, o->label, sizeof o->label);
}

static void take_label(scanner *s)
{
    if (s->depth > 0 && s->depth <= MAX_DEPTH)
        memcpy(s->objects[s->depth - 1].label, s->last, sizeof s->last);
}

/* After a string or a word: is it a key, or the value of one? */
static void take_key_or_value(scanner *s, bool string)
{
    size_t i = skip_blanks(s->text, s->len, s->at);
    if (i < s->len && (s->text[i] == ':' || s->text[i] == '=')) {
        s->at = i + 1;
        s->box_key = is_box_key(s->last);
        s->label_key = is_label_key(s->last);
        return;
    }
    if (string && s->label_key)
        take_label(s);
    s->box_key = s->label_key = false;
}

static bool in_span(const scanner *s)
{
    for (size_t i = 0; i < s->n_spans; i++)
        if (s->at >= s->spans[i].start && s->at < s->spans[i].end)
            return true;
    return false;
}

/* An opening bracket: a box with its four numbers, or the list around boxes. */
static void take_bracket(scanner *s)
{
    double numbers[4];
    int n;
    size_t size = 0;
    if (s->box_key || s->brackets || in_span(s))
        size = glm4v_read_numbers(numbers, 4, &n, s->text + s->at, s->len - s->at);
    if (size && n == 4 && s->n < GLM4V_MAX_BOXES) {
        glm4v_found_box *box = &s->boxes[s->n++];
        memcpy(box->corner, numbers, sizeof numbers);
        box->label[0] = 0;
    } else if (!size && s->text[s->at] != '<')
        s->brackets += s->box_key || s->brackets;
    s->at += size ? size : 1;
    s->box_key = s->label_key = false;
}

uint32_t glm4v_find_boxes(glm4v_found_box boxes[GLM4V_MAX_BOXES], const char *text, size_t len,
                          const glm4v_span *spans, size_t n_spans)
{
    scanner s = { .text = text, .len = len, .spans = spans, .n_spans = n_spans, .boxes = boxes };
    while (s.at < len && s.n < GLM4V_MAX_BOXES) {
        const char c = text[s.at];
        if (c == '"' || (c == '\'' && s.depth)) { /* elsewhere an apostrophe */
            if (take_string(&s))
                take_key_or_value(&s, true);
            else
                s.at++;
        } else if (is_word(c)) {
            take_word(&s);
            take_key_or_value(&s, false);
        } else if (closing(c)) {
            take_bracket(&s);
        } else {
            if (c == '{')
                open_object(&s);
            else if (c == '}')
                close_object(&s);
            else if ((c == ']' || c == ')') && s.brackets)
                s.brackets--;
            s.at++;
        }
    }
    while (s.depth) /* cut off, or full */
        close_object(&s);
    return s.n;
}
