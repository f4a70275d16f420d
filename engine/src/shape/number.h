/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The decimal numbers of a range as a machine over their characters. Written without exponent and
 * with at most 15 digits, so that a double tells any two of them apart; an integer has no fraction;
 * zero has no minus sign. */
#ifndef GLM4V_ENGINE_NUMBER_H
#define GLM4V_ENGINE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "glm4v/glm4v.h"

#define GLM4V_NUMBER_DIGITS 15
#define GLM4V_NUMBER_SYMBOLS 12 /* 0..9 . - */

/* An end of the range; not present: there is none. */
typedef struct {
    bool present, exclusive, negative;
    char digits[24]; /* [n] significant ones, 0..9, neither first nor last is 0 */
    int32_t n;
    int32_t point; /* digits before the decimal point; <= 0: zeros follow it */
} glm4v_bound;

/* Of an integer or real; exact, of a real the shortest digits that give it back. */
glm4v_bound glm4v_bound_of(const json_t *number, bool exclusive);

typedef struct {
    int16_t next[GLM4V_NUMBER_SYMBOLS]; /* -1: not possible */
    int16_t rest;                       /* characters of the shortest end from here; 0: may end */
    int16_t shortest;                   /* symbol that leads there; -1 */
} glm4v_number_state;

typedef struct {
    int16_t n;
    glm4v_number_state states[]; /* [n]; 0 is the start */
} glm4v_number;

/* glm4v_free(). INVALID: no such number lies in the range; NOMEM. */
int glm4v_number_open(glm4v_number **number, const glm4v_bound *low, const glm4v_bound *high,
                      bool integer, glm4v_error *err);

/* Of a character; -1: none. */
static inline int glm4v_number_symbol(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c == '.')
        return 10;
    return c == '-' ? 11 : -1;
}

#endif
