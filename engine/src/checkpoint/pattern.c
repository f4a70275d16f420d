/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matching by sets of states: all positions of the pattern that the characters read so far can have
 * led to, so that nothing is tried twice. */
#include "checkpoint/pattern.h"

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 320 /* a tensor's name and the longest prefix; longer names match nothing */

typedef struct {
    enum { LITERAL, ANY, DIGIT } kind;
    char c;
    bool optional, repeated; /* '?' and '*'; '+' and '*' */
} token;

typedef struct {
    token t[GLM4V_PATTERN_LENGTH];
    int n;
    bool to_end; /* '$' */
} program;

/* ---- from text to tokens ---- */

/* One character or class at *text; false: not of the subset. */
static bool take_atom(token *t, const char **text, const char *end)
{
    const char *p = *text;
    *t = (token) { LITERAL, *p, false, false };
    if (*p == '\\') {
        if (++p == end)
            return false;
        t->c = *p;
        if (*p == 'd')
            t->kind = DIGIT;
        else if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9'))
            return false;
    } else if (*p == '.') {
        t->kind = ANY;
    } else if (end - p >= 5 && !memcmp(p, "[0-9]", 5)) {
        t->kind = DIGIT;
        p += 4;
    } else if (strchr("[]{}()|*+?^$", *p)) {
        return false;
    }
    *text = p + 1;
    return true;
}

/* Append [text, end), which is no alternative. */
static bool compile(program *g, const char *text, const char *end, bool last)
{
    while (text < end) {
        if (last && *text == '$' && text + 1 == end) {
            g->to_end = true;
            return true;
        }
        if (g->n == GLM4V_PATTERN_LENGTH || !take_atom(&g->t[g->n], &text, end))
            return false;
        token *t = &g->t[g->n++];
        if (text == end || !strchr("*+?", *text))
            continue;
        t->optional = *text != '+';
        t->repeated = *text != '?';
        text++;
        if (t->repeated && text < end && *text == '?') /* lazy: the same names match */
            text++;
    }
    return true;
}

/* A pattern's parts: front, alternatives (between '|'), back; some may be empty. */
typedef struct {
    const char *front, *front_end, *group, *group_end, *back, *end;
} parts;

static bool split(parts *s, const char *text)
{
    const char *open = NULL, *close = NULL, *end = text + strlen(text);
    bool bar = false; /* outside the group */
    if (*text == '^')
        text++;
    for (const char *p = text; p < end; p++) {
        if (*p == '\\' && p + 1 < end) {
            p++;
        } else if (*p == '(') {
            if (open)
                return false;
            open = p;
        } else if (*p == ')') {
            if (!open || close)
                return false;
            close = p;
        } else if (*p == '|' && (!open || close)) {
            bar = true;
        }
    }
    *s = (parts) { text, end, end, end, end, end };
    if (bar)
        *s = (parts) { text, text, text, end, end, end };
    if (!open)
        return true;
    if (!close || bar || strchr("*+?{", close[1] ? close[1] : 'x'))
        return false;
    *s = (parts) { text, open, open + 1, close, close + 1, end };
    if (s->group_end - s->group >= 2 && !memcmp(s->group, "?:", 2))
        s->group += 2;
    return true;
}

/* The end of the alternative that begins at p. */
static const char *alternative(const char *p, const char *end)
{
    while (p < end && *p != '|')
        p += *p == '\\' && p + 1 < end ? 2 : 1;
    return p;
}

/* The program of front, the alternative [p, end) and back. */
static bool assemble(program *g, const parts *s, const char *p, const char *end)
{
    const bool back = s->back < s->end;
    g->n = 0;
    g->to_end = false;
    return compile(g, s->front, s->front_end, p == end && !back) && compile(g, p, end, !back) &&
           compile(g, s->back, s->end, true);
}

/* ---- matching ---- */

static bool fits(const token *t, char c)
{
    return t->kind == ANY || (t->kind == DIGIT ? c >= '0' && c <= '9' : c == t->c);
}

/* State i: tokens before i are behind. From state i, which is set, optional tokens may be passed
 * over. Returns the last state that is reached. */
static int pass_over(const program *g, bool *state, int i)
{
    for (; i < g->n && g->t[i].optional; i++)
        state[i + 1] = true;
    return i;
}

/* The states after character c, of which `last` is the last one; -1: none. Backwards, so that each
 * is read before the one below it writes there. */
static int advance(const program *g, bool *state, int last, char c)
{
    int top = -1;
    state[g->n] = false; /* the whole name was behind before c */
    for (int i = last < g->n ? last : g->n - 1; i >= 0; i--) {
        if (!state[i])
            continue;
        const bool on = fits(&g->t[i], c);
        state[i] = on && g->t[i].repeated;
        if (!on)
            continue;
        state[i + 1] = true;
        const int reached = pass_over(g, state, i + 1);
        top = reached > top ? reached : top;
    }
    return top;
}

static bool run(const program *g, const char *name)
{
    bool state[GLM4V_PATTERN_LENGTH + 1] = { true };
    int last = pass_over(g, state, 0);
    for (; *name && last >= 0 && !(state[g->n] && !g->to_end); name++)
        last = advance(g, state, last, *name);
    return state[g->n];
}

/* Any alternative and any of n names; n 0: whether all alternatives are valid. */
static bool match(const char *expression, char (*names)[NAME_SIZE], int n)
{
    parts s;
    program g;
    if (!split(&s, expression))
        return false;
    for (const char *p = s.group, *end;; p = end + 1) {
        end = alternative(p, s.group_end);
        const bool valid = assemble(&g, &s, p, end);
        if (!n && !valid)
            return false;
        for (int i = 0; valid && i < n; i++)
            if (run(&g, names[i]))
                return true;
        if (end == s.group_end)
            return !n;
    }
}

/* ---- names ---- */

static const char *expression_of(const char *pattern)
{
    return strncmp(pattern, "re:", 3) ? NULL : pattern + 3;
}

bool glm4v_pattern_valid(const char *pattern)
{
    const char *expression = expression_of(pattern);
    return strlen(pattern) < GLM4V_PATTERN_LENGTH && (!expression || match(expression, NULL, 0));
}

/* Past the prefixes that programs spell differently. */
static const char *bare(const char *name)
{
    static const char *const prefixes[] = { "model.", "language_model." };
    for (size_t i = 0; i < 2 * sizeof prefixes / sizeof *prefixes; i++) {
        const char *prefix = prefixes[i % 2];
        if (!strncmp(name, prefix, strlen(prefix)))
            name += strlen(prefix);
    }
    return name;
}

bool glm4v_pattern_matches(const char *pattern, const char *module)
{
    static const char *const prefixes[] = { "", "model.", "model.language_model.",
                                            "language_model.model.", "language_model." };
    const char *expression = expression_of(pattern);
    char names[sizeof prefixes / sizeof *prefixes][NAME_SIZE];
    int n = 0;
    if (!expression)
        return !strcmp(bare(pattern), bare(module));
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        int length = snprintf(names[n], NAME_SIZE, "%s%s", prefixes[i], bare(module));
        n += length > 0 && length < NAME_SIZE;
    }
    return n && match(expression, names, n);
}
