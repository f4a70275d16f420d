/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pattern to a small program, and a text through it by sets of instructions: all places of the
 * program that the characters read so far can have led to, so that nothing is tried twice and the
 * time is proportional to the text. Jumps are relative: a repeated part is copied.
 * Source: K. Thompson, Regular expression search algorithm, CACM 11(6), 1968. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "glm4v/glm4v.h"

#define MOST 1024 /* instructions */
#define MAX_RANGES 512
#define MAX_DEPTH 16  /* of groups */
#define MAX_COUNT 255 /* of a repetition */

typedef enum { CLASS, SPLIT, JUMP, LINE_START, LINE_END, MATCH } operation;

/* SPLIT goes to both targets, JUMP to the first; both are relative. CLASS: ranges [a, b). */
typedef struct {
    operation op;
    int32_t a, b;
    bool inverted;
} instruction;

typedef struct {
    uint32_t low, high;
} range;

struct glm4v_matcher {
    instruction code[MOST];
    int32_t n;
    range ranges[MAX_RANGES];
    int32_t n_ranges;
};

/* ---- from text to instructions ---- */

/* An open group; of the whole pattern the first one. */
typedef struct {
    int32_t start;       /* of its code */
    int32_t alternative; /* where the current one begins */
    int32_t jumps;       /* the last jump to its end, each has the one before in `a`; -1: none */
} group;

typedef struct {
    glm4v_matcher *m;
    const char *pattern, *at;
    group groups[MAX_DEPTH];
    int32_t depth;
    int32_t atom; /* code that a repetition repeats begins here; -1: there is none */
    glm4v_error *err;
} compiler;

static int refuse(const compiler *c, const char *why)
{
    return glm4v_fail(c->err, GLM4V_ERR_INVALID, "pattern \"%.80s\": %s at byte %zu", c->pattern,
                      why, (size_t)(c->at - c->pattern));
}

static int append(compiler *c, instruction i)
{
    if (c->m->n >= MOST - 1) /* room for MATCH */
        return refuse(c, "it is too long");
    c->m->code[c->m->n++] = i;
    return 0;
}

/* Before what is at `at`. */
static int insert(compiler *c, int32_t at, instruction i)
{
    glm4v_matcher *m = c->m;
    int rc = append(c, i);
    if (rc)
        return rc;
    memmove(&m->code[at + 1], &m->code[at], (m->n - 1 - at) * sizeof *m->code);
    m->code[at] = i;
    return 0;
}

static int add_range(compiler *c, uint32_t low, uint32_t high)
{
    if (c->m->n_ranges == MAX_RANGES)
        return refuse(c, "it has too many characters");
    c->m->ranges[c->m->n_ranges++] = (range) { low, high };
    return 0;
}

/* The next character of the pattern. */
static int take(compiler *c, uint32_t *code)
{
    const size_t left = strlen(c->at);
    const int n = left ? glm4v_utf8_next((const unsigned char *)c->at, left, code) : 0;
    if (n <= 0)
        return refuse(c, left ? "it is not UTF-8" : "it ends too early");
    c->at += n;
    return 0;
}

static bool is_letter_or_digit(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What follows a backslash: a class of ASCII, or a character as it is. *single: it is one. */
static int take_escape(compiler *c, uint32_t *single)
{
    uint32_t code;
    int rc = take(c, &code);
    *single = UINT32_MAX;
    if (rc)
        return rc;
    switch (code) {
    case 'd':
        return add_range(c, '0', '9');
    case 'w':
        rc = add_range(c, '0', '9');
        if (!rc)
            rc = add_range(c, 'A', 'Z');
        if (!rc)
            rc = add_range(c, '_', '_');
        return rc ? rc : add_range(c, 'a', 'z');
    case 's':
        rc = add_range(c, '\t', '\r');
        return rc ? rc : add_range(c, ' ', ' ');
    default:
        break;
    }
    if (is_letter_or_digit(code) || code == '_' || code >= 0x80)
        return refuse(c, "there is no such escape; use \\d, \\w, \\s or escape a sign");
    *single = code;
    return add_range(c, code, code);
}

/* "-HIGH" behind the character `low`, whose range was added. */
static int take_high(compiler *c, uint32_t low)
{
    uint32_t high;
    c->at++;
    int rc = take(c, &high);
    if (!rc && high == '\\') {
        c->m->n_ranges--; /* the escape adds its own */
        rc = take_escape(c, &high);
    }
    if (rc)
        return rc;
    if (high == UINT32_MAX || high < low)
        return refuse(c, "a range of characters is the wrong way round");
    c->m->ranges[c->m->n_ranges - 1] = (range) { low, high };
    return 0;
}

/* Behind "[". */
static int take_class(compiler *c)
{
    instruction i = { .op = CLASS, .a = c->m->n_ranges };
    int rc = 0;
    if (*c->at == '^') {
        i.inverted = true;
        c->at++;
    }
    for (bool first = true; !rc && (first || *c->at != ']'); first = false) {
        uint32_t code;
        if ((rc = take(c, &code)))
            return rc;
        if (code == '[')
            return refuse(c, "a [ in a class must be escaped");
        rc = code == '\\' ? take_escape(c, &code) : add_range(c, code, code);
        if (!rc && code != UINT32_MAX && c->at[0] == '-' && c->at[1] && c->at[1] != ']')
            rc = take_high(c, code);
    }
    c->at += !rc;
    i.b = c->m->n_ranges;
    return rc ? rc : append(c, i);
}

static int take_group(compiler *c)
{
    if (c->at[0] == '?' && c->at[1] == ':')
        c->at += 2;
    else if (c->at[0] == '?')
        return refuse(c, "of groups with ? only (?: is known");
    if (c->depth == MAX_DEPTH)
        return refuse(c, "groups lie too deep");
    c->groups[c->depth++] = (group) { c->m->n, c->m->n, -1 };
    c->atom = -1;
    return 0;
}

/* "|": the alternative so far, or what follows. */
static int take_bar(compiler *c)
{
    group *g = &c->groups[c->depth - 1];
    const int32_t length = c->m->n - g->alternative;
    int rc = insert(c, g->alternative, (instruction) { .op = SPLIT, .a = 1, .b = length + 2 });
    if (!rc)
        rc = append(c, (instruction) { .op = JUMP, .a = g->jumps });
    g->jumps = c->m->n - 1;
    g->alternative = c->m->n;
    c->atom = -1;
    return rc;
}

static void close_group(compiler *c)
{
    const group *g = &c->groups[--c->depth];
    for (int32_t jump = g->jumps, before; jump >= 0; jump = before) {
        before = c->m->code[jump].a;
        c->m->code[jump].a = c->m->n - jump;
    }
    c->atom = g->start;
}

/* ---- repetitions ---- */

/* code[first, first + length) once more, at the end. */
static int copy(compiler *c, int32_t first, int32_t length)
{
    int rc = 0;
    for (int32_t i = 0; !rc && i < length; i++)
        rc = append(c, c->m->code[first + i]);
    return rc;
}

/* The atom any number of times. */
static int repeat_freely(compiler *c, int32_t first)
{
    const int32_t length = c->m->n - first;
    int rc = insert(c, first, (instruction) { .op = SPLIT, .a = 1, .b = length + 2 });
    return rc ? rc : append(c, (instruction) { .op = JUMP, .a = -(length + 1) });
}

/* `times` more of it, each of which may be the last or not be there at all. */
static int repeat_at_most(compiler *c, int32_t first, int32_t length, int32_t times)
{
    int rc = 0;
    for (int32_t i = 0; !rc && i < times; i++) {
        const int32_t rest = (times - i) * (length + 1); /* to behind the last */
        rc = append(c, (instruction) { .op = SPLIT, .a = 1, .b = rest });
        if (!rc)
            rc = copy(c, first, length);
    }
    return rc;
}

/* The atom at least `least` and at most `most` times; most < 0: no bound. */
static int repeat(compiler *c, int32_t least, int32_t most)
{
    const int32_t first = c->atom, length = c->m->n - first;
    int rc = 0;
    if (first < 0)
        return refuse(c, "there is nothing to repeat");
    c->atom = -1; /* twice is not allowed */
    for (int32_t i = 1; !rc && i < least; i++)
        rc = copy(c, first, length);
    if (rc)
        return rc;
    if (most < 0 && least == 0)
        return repeat_freely(c, first);
    if (most < 0)
        return append(c, (instruction) { .op = SPLIT, .a = -length, .b = 1 });
    if (least == 0 && most > 0) { /* the atom that is there is the first of them */
        rc = repeat_at_most(c, first, length, most);
        if (!rc)
            memmove(&c->m->code[first], &c->m->code[first + length],
                    (c->m->n - first - length) * sizeof *c->m->code);
    } else if (most > least) {
        rc = repeat_at_most(c, first, length, most - least);
    }
    if (!rc && least == 0)
        c->m->n -= length;
    return rc;
}

/* A decimal number; -1: none. */
static int32_t take_number(compiler *c)
{
    int32_t value = -1;
    while (*c->at >= '0' && *c->at <= '9' && value <= MAX_COUNT)
        value = (value < 0 ? 0 : 10 * value) + (*c->at++ - '0');
    return value;
}

/* Behind "{". */
static int take_counts(compiler *c)
{
    const int32_t least = take_number(c);
    int32_t most = least;
    if (*c->at == ',') {
        c->at++;
        most = take_number(c);
    }
    if (least < 0 || *c->at != '}')
        return refuse(c, "expected {N}, {N,} or {N,M}");
    c->at++;
    if (least > MAX_COUNT || most > MAX_COUNT)
        return refuse(c, "a part is repeated more than 255 times");
    if (most >= 0 && most < least)
        return refuse(c, "a repetition is the wrong way round");
    return repeat(c, least, most);
}

/* ---- the whole pattern ---- */

static int take_character(compiler *c, uint32_t code)
{
    instruction i = { .op = CLASS, .a = c->m->n_ranges };
    int rc = 0;
    c->atom = c->m->n;
    if (code == '.') { /* all but a new line */
        i.inverted = true;
        code = '\n';
    }
    if (code == '\\')
        rc = take_escape(c, &code);
    else
        rc = add_range(c, code, code);
    i.b = c->m->n_ranges;
    return rc ? rc : append(c, i);
}

static int take_anchor(compiler *c, operation op)
{
    c->atom = -1;
    return append(c, (instruction) { .op = op });
}

static int take_item(compiler *c)
{
    uint32_t code;
    int rc = take(c, &code);
    if (rc)
        return rc;
    switch (code) {
    case '(':
        return take_group(c);
    case ')':
        if (c->depth == 1)
            return refuse(c, "a ) has no (");
        close_group(c);
        return 0;
    case '|':
        return take_bar(c);
    case '[':
        c->atom = c->m->n;
        return take_class(c);
    case '^':
        return take_anchor(c, LINE_START);
    case '$':
        return take_anchor(c, LINE_END);
    case '*':
        return repeat(c, 0, -1);
    case '+':
        return repeat(c, 1, -1);
    case '?':
        return repeat(c, 0, 1);
    case '{':
        return take_counts(c);
    case '}':
    case ']':
        c->at--;
        return refuse(c, "a sign must be escaped");
    default:
        return take_character(c, code);
    }
}

static int compile(glm4v_matcher *m, const char *pattern, glm4v_error *err)
{
    compiler c = { .m = m, .pattern = pattern, .at = pattern, .atom = -1, .err = err };
    int rc = 0;
    c.groups[c.depth++] = (group) { 0, 0, -1 };
    while (!rc && *c.at)
        rc = take_item(&c);
    if (rc)
        return rc;
    if (c.depth > 1)
        return refuse(&c, "a ( has no )");
    close_group(&c);
    m->code[m->n++] = (instruction) { .op = MATCH };
    /* in an inspection this would pass whatever was read */
    return glm4v_matcher_check(m, "") == GLM4V_VERDICT_PASS
               ? refuse(&c, "it matches a text without characters")
               : 0;
}

int glm4v_matcher_open(glm4v_matcher **matcher, const char *pattern, glm4v_error *err)
{
    if (!matcher || !pattern || !*pattern)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "no pattern was given");
    glm4v_matcher *m = glm4v_alloc(1, sizeof *m);
    int rc =
        m ? compile(m, pattern, err) : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a pattern");
    if (rc)
        glm4v_free(m);
    else
        *matcher = m;
    return rc;
}

void glm4v_matcher_close(glm4v_matcher **matcher)
{
    if (!matcher)
        return;
    glm4v_free(*matcher);
    *matcher = NULL;
}

/* ---- matching ---- */

/* Instructions that wait for a character, each once. */
typedef struct {
    int16_t list[MOST];
    int32_t n;
    uint32_t seen[MOST / 32];
} place_set;

/* Between two characters; 0: the end of the text. */
typedef struct {
    uint32_t before, after;
} gap;

static bool is_word(uint32_t c)
{
    return is_letter_or_digit(c) || c == '_';
}

/* May a match begin or end here? Not inside of a word. */
static bool is_border(const gap *g)
{
    return !is_word(g->before) || !is_word(g->after);
}

/* All places that are reached from `start` without a character. Returns whether MATCH is one. */
static bool reach(const glm4v_matcher *m, place_set *set, int32_t start, const gap *g)
{
    int16_t stack[2 * MOST]; /* each instruction once, two targets at most */
    int32_t n = 0;
    bool matched = false;
    stack[n++] = (int16_t)start;
    while (n) {
        const int32_t at = stack[--n];
        const instruction *i = &m->code[at];
        const uint32_t bit = (uint32_t)1 << (at % 32);
        if (set->seen[at / 32] & bit)
            continue;
        set->seen[at / 32] |= bit;
        bool passes = false;
        switch (i->op) {
        case CLASS:
            set->list[set->n++] = (int16_t)at;
            break;
        case MATCH:
            matched = true;
            break;
        case SPLIT:
            stack[n++] = (int16_t)(at + i->b);
            stack[n++] = (int16_t)(at + i->a);
            break;
        case JUMP:
            stack[n++] = (int16_t)(at + i->a);
            break;
        case LINE_START:
            passes = !g->before || g->before == '\n';
            break;
        case LINE_END:
            passes = !g->after || g->after == '\n';
            break;
        }
        if (passes)
            stack[n++] = (int16_t)(at + 1);
    }
    return matched;
}

static bool fits(const glm4v_matcher *m, const instruction *i, uint32_t code)
{
    for (int32_t r = i->a; r < i->b; r++)
        if (code >= m->ranges[r].low && code <= m->ranges[r].high)
            return !i->inverted;
    return i->inverted;
}

static void clear(place_set *set)
{
    set->n = 0;
    memset(set->seen, 0, sizeof set->seen);
}

/* The character at *text, which is stepped over; 0 at the end. What is not UTF-8 is U+FFFD. */
static uint32_t next_character(const char **text, const char *end)
{
    uint32_t code = GLM4V_REPLACEMENT;
    if (*text == end)
        return 0;
    const int n = glm4v_utf8_next((const unsigned char *)*text, (size_t)(end - *text), &code);
    *text += n > 0 ? n : 1;
    return code;
}

glm4v_verdict glm4v_matcher_check(const glm4v_matcher *matcher, const char *text)
{
    place_set sets[2], *now = &sets[0], *next = &sets[1];
    const char *end = text + strlen(text);
    gap g = { .after = next_character(&text, end) };
    clear(now);
    for (;;) {
        if (is_border(&g) && reach(matcher, now, 0, &g))
            return GLM4V_VERDICT_PASS;
        const uint32_t code = g.after;
        if (!code)
            return GLM4V_VERDICT_FAIL;
        g = (gap) { code, next_character(&text, end) };
        clear(next);
        bool matched = false;
        for (int32_t i = 0; i < now->n; i++)
            if (fits(matcher, &matcher->code[now->list[i]], code))
                matched |= reach(matcher, next, now->list[i] + 1, &g);
        if (matched && is_border(&g))
            return GLM4V_VERDICT_PASS;
        place_set *swap = now;
        now = next;
        next = swap;
    }
}
