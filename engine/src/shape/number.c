/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ranges of decimal numbers. A state is how many digits were written and how they compare with the
 * digits of the two ends; the states that a number can begin with are found from the start on, and
 * those that no number ends from are cut off. Used by schema.c. */
#include "shape/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum { POINT = 10, MINUS = 11 };

/* ---- bounds ---- */

static void strip(glm4v_bound *b)
{
    int32_t zeros = 0;
    while (zeros < b->n && b->digits[zeros] == 0)
        zeros++;
    memmove(b->digits, b->digits + zeros, b->n - zeros);
    b->n -= zeros;
    b->point -= zeros;
    while (b->n && b->digits[b->n - 1] == 0)
        b->n--;
    b->point = b->n ? b->point : 0;
    b->negative = b->n && b->negative;
}

static void take_digits(glm4v_bound *b, const char *text)
{
    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9')
            b->digits[b->n++] = (char)(*text - '0');
}

glm4v_bound glm4v_bound_of(const json_t *number, bool exclusive)
{
    glm4v_bound b = { .present = true, .exclusive = exclusive };
    char text[40];
    if (json_is_integer(number)) {
        const int64_t value = json_integer_value(number);
        snprintf(text, sizeof text, "%" PRIu64, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
        b.negative = value < 0;
        take_digits(&b, text);
        b.point = b.n;
    } else {
        const double value = json_real_value(number);
        b.negative = value < 0;
        for (int precision = 14; precision <= 16; precision++) {
            snprintf(text, sizeof text, "%.*e", precision, value < 0 ? -value : value);
            if (strtod(text, NULL) == (value < 0 ? -value : value))
                break;
        }
        take_digits(&b, text);
        const char *e = strchr(text, 'e');
        int32_t exponent = 0;
        for (const char *c = e + 2; *c; c++)
            exponent = exponent * 10 + (*c - '0');
        b.point = 1 + (e[1] == '-' ? -exponent : exponent);
    }
    strip(&b);
    return b;
}

static int digit_of(const glm4v_bound *b, int32_t i)
{
    return i >= 0 && i < b->n ? b->digits[i] : 0;
}

static int32_t whole_digits(const glm4v_bound *b)
{
    return b->point > 0 ? b->point : 0;
}

/* ---- states ---- */

typedef enum { START, SIGN, WHOLE, DOT, FRACTION } phase;

/* compare[0], [1]: what was written against as many digits of the low and the high end: -1, 0,
 * 1. */
typedef struct {
    phase phase;
    bool negative;
    int32_t whole, fraction; /* digits written; of a whole 0: none */
    int compare[2];
} state;

/* The ends of the magnitudes with and without minus sign. */
typedef struct {
    glm4v_bound end[2][2]; /* [negative][low, high] */
    bool some[2];          /* there are such numbers */
    bool integer;
} range;

static range range_of(const glm4v_bound *low, const glm4v_bound *high, bool integer)
{
    const glm4v_bound none = { .present = false };
    const glm4v_bound above_zero = { .present = true, .exclusive = true };
    range r = { .integer = integer };
    r.some[0] = !high->present || !high->negative;
    r.end[0][0] = low->present && !low->negative ? *low : none;
    r.end[0][1] = *high;
    r.some[1] = !low->present || low->negative;
    r.end[1][0] = high->present && high->negative ? *high : above_zero;
    r.end[1][1] = *low;
    return r;
}

static int sign_of(int difference)
{
    return (difference > 0) - (difference < 0);
}

/* What an end that is not there compares like. */
static int without(int which)
{
    return which ? -1 : 1;
}

static void compare_whole(const range *r, state *s, int digit)
{
    for (int which = 0; which < 2; which++) {
        const glm4v_bound *b = &r->end[s->negative][which];
        int *compare = &s->compare[which];
        if (!b->present)
            *compare = without(which);
        else if (s->whole > whole_digits(b))
            *compare = 1;
        else if (!*compare)
            *compare = sign_of(digit - digit_of(b, s->whole - 1));
    }
}

/* The whole part is complete. */
static void end_whole(const range *r, state *s)
{
    for (int which = 0; which < 2; which++) {
        const glm4v_bound *b = &r->end[s->negative][which];
        if (!b->present)
            s->compare[which] = without(which);
        else if (s->whole < whole_digits(b))
            s->compare[which] = -1;
    }
}

static void compare_fraction(const range *r, state *s, int digit)
{
    for (int which = 0; which < 2; which++) {
        const glm4v_bound *b = &r->end[s->negative][which];
        if (!s->compare[which])
            s->compare[which] = sign_of(digit - digit_of(b, b->point + s->fraction - 1));
    }
}

static bool begin_whole(const range *r, state *s, bool negative, int digit)
{
    *s = (state) { .phase = WHOLE, .negative = negative, .whole = digit > 0 };
    if (digit)
        compare_whole(r, s, digit);
    return r->some[negative];
}

/* False: the symbol is not possible. */
static bool follow(const range *r, state *s, int symbol)
{
    const bool digit = symbol < POINT;
    switch (s->phase) {
    case START:
        if (symbol == MINUS) {
            s->phase = SIGN;
            return r->some[1];
        }
        return digit && begin_whole(r, s, false, symbol);
    case SIGN:
        return digit && begin_whole(r, s, true, symbol);
    case WHOLE:
        if (symbol == POINT && !r->integer && s->whole < GLM4V_NUMBER_DIGITS) {
            end_whole(r, s);
            s->phase = DOT;
            return true;
        }
        if (!digit || !s->whole || s->whole == GLM4V_NUMBER_DIGITS)
            return false;
        s->whole++;
        compare_whole(r, s, symbol);
        return true;
    case DOT:
    case FRACTION:
        if (!digit || s->whole + s->fraction >= GLM4V_NUMBER_DIGITS)
            return false;
        s->phase = FRACTION;
        s->fraction++;
        compare_fraction(r, s, symbol);
        return true;
    }
    return false;
}

/* Is what was written a number of the range? */
static bool accepts(const range *r, state s)
{
    if (s.phase != WHOLE && s.phase != FRACTION)
        return false;
    if (s.phase == WHOLE)
        end_whole(r, &s);
    const glm4v_bound *low = &r->end[s.negative][0], *high = &r->end[s.negative][1];
    const bool low_ends = low->n <= low->point + s.fraction;
    const bool high_ends = high->n <= high->point + s.fraction;
    const bool above = s.compare[0] > 0 || (!s.compare[0] && low_ends && !low->exclusive);
    const bool below = s.compare[1] < 0 || (!s.compare[1] && !(high_ends && high->exclusive));
    return above && below;
}

/* ---- the machine ---- */

enum { KEYS = 5 * 2 * 16 * 16 * 9 };

static int key_of(const state *s)
{
    int key = (int)s->phase * 2 + s->negative;
    key = (key * 16 + s->whole) * 16 + s->fraction;
    return (key * 3 + s->compare[0] + 1) * 3 + s->compare[1] + 1;
}

typedef struct {
    state found[KEYS];
    int16_t number[KEYS]; /* of a state + 1 by its key; 0: not found */
    glm4v_number_state states[KEYS];
    int16_t n;
} builder;

static int16_t number_of(builder *b, const state *s)
{
    int16_t *number = &b->number[key_of(s)];
    if (!*number) {
        b->found[b->n] = *s;
        *number = ++b->n;
    }
    return (int16_t)(*number - 1);
}

static void find_states(builder *b, const range *r)
{
    const state start = { .phase = START };
    number_of(b, &start);
    for (int16_t i = 0; i < b->n; i++) {
        glm4v_number_state *out = &b->states[i];
        *out = (glm4v_number_state) { .rest = accepts(r, b->found[i]) ? 0 : INT16_MAX,
                                      .shortest = -1 };
        for (int symbol = 0; symbol < GLM4V_NUMBER_SYMBOLS; symbol++) {
            state s = b->found[i];
            out->next[symbol] = follow(r, &s, symbol) ? number_of(b, &s) : -1;
        }
    }
}

/* One round; true while something changes. */
static bool shorten(builder *b)
{
    bool changed = false;
    for (int16_t i = b->n; i-- > 0;) {
        glm4v_number_state *s = &b->states[i];
        for (int16_t symbol = 0; symbol < GLM4V_NUMBER_SYMBOLS; symbol++) {
            const int16_t next = s->next[symbol];
            if (next < 0 || b->states[next].rest >= s->rest - 1)
                continue;
            s->rest = (int16_t)(b->states[next].rest + 1);
            s->shortest = symbol;
            changed = true;
        }
    }
    return changed;
}

static void cut_dead_ends(builder *b)
{
    for (int16_t i = 0; i < b->n; i++)
        for (int symbol = 0; symbol < GLM4V_NUMBER_SYMBOLS; symbol++) {
            int16_t *next = &b->states[i].next[symbol];
            if (*next >= 0 && b->states[*next].rest == INT16_MAX)
                *next = -1;
        }
}

int glm4v_number_open(glm4v_number **number, const glm4v_bound *low, const glm4v_bound *high,
                      bool integer, glm4v_error *err)
{
    const range r = range_of(low, high, integer);
    builder *b = glm4v_alloc(1, sizeof *b);
    int rc = b ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a range of numbers");
    glm4v_number *made = NULL;
    if (!rc) {
        find_states(b, &r);
        while (shorten(b))
            ;
        cut_dead_ends(b);
        if (b->states[0].rest == INT16_MAX)
            rc = glm4v_fail(err, GLM4V_ERR_INVALID, "no %s of at most %d digits lies in the range",
                            integer ? "integer" : "number", GLM4V_NUMBER_DIGITS);
    }
    if (!rc) {
        made = glm4v_alloc(1, sizeof *made + b->n * sizeof *made->states);
        rc = made ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a range of numbers");
    }
    if (!rc) {
        made->n = b->n;
        memcpy(made->states, b->states, b->n * sizeof *made->states);
        *number = made;
    }
    glm4v_free(b);
    return rc;
}
