/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where in a compiled schema an answer stands, and what may come next, byte by byte: a stack of the
 * values that are open. Copies are independent. Every state can be completed. */
#ifndef GLM4V_ENGINE_AUTOMATON_H
#define GLM4V_ENGINE_AUTOMATON_H

#include "shape/schema.h"

#define GLM4V_MAX_OPEN (GLM4V_MAX_NESTING + 1)

typedef struct {
    int32_t node;
    int32_t count; /* characters; items; state of a number or literal; object: next property */
    int16_t phase; /* by kind */
    int16_t key;   /* object: the property whose key or value is written */
    int32_t typed; /* bytes of the key */
} glm4v_open_value;

typedef struct {
    int32_t n;                             /* open values; 0: the answer is complete */
    uint32_t code;                         /* bits of a character of which some bytes are missing */
    uint8_t missing;                       /* bytes of it */
    uint8_t low, high;                     /* the next one of them lies in [low, high] */
    uint8_t unused;                        /* zero: states are compared by their bytes */
    glm4v_open_value open[GLM4V_MAX_OPEN]; /* [n], the innermost last */
} glm4v_automaton;

/* Bytes that count of a state. */
static inline size_t glm4v_automaton_size(const glm4v_automaton *a)
{
    return offsetof(glm4v_automaton, open) + (size_t)a->n * sizeof *a->open;
}

/* Of the bytes that count. */
uint64_t glm4v_automaton_hash(const glm4v_automaton *a);

glm4v_automaton glm4v_automaton_start(const glm4v_schema *schema);

/* Take one byte. False: it may not come here, and *a is of no use any more. */
bool glm4v_automaton_step(const glm4v_schema *schema, glm4v_automaton *a, unsigned char byte);

/* May the answer end here? */
bool glm4v_automaton_may_end(const glm4v_schema *schema, const glm4v_automaton *a);

/* The next byte of the shortest completion; -1: it may end. Following it gives `rest` bytes. */
int glm4v_automaton_shortest(const glm4v_schema *schema, const glm4v_automaton *a);
int64_t glm4v_automaton_rest(const glm4v_schema *schema, const glm4v_automaton *a);

/* Take the bytes of the shortest completion that end the character, or escape, that is begun; how
 * many, 0 between characters. */
int64_t glm4v_automaton_end_character(const glm4v_schema *schema, glm4v_automaton *a);

/* Make states alike between which the next `bytes` bytes make no difference: lengths of strings and
 * arrays that have reached their minimum and cannot reach their maximum. What may come, and the
 * rest, stay the same. */
void glm4v_automaton_forget(const glm4v_schema *schema, glm4v_automaton *a, int64_t bytes);

/* The only byte that may come; -1: there are several, or it may end. */
int glm4v_automaton_forced(const glm4v_schema *schema, const glm4v_automaton *a);

/* Inside a string, between two characters: how many more it has room for (INT64_MAX: any number)
 * and how many it lacks. False: anywhere else. */
bool glm4v_automaton_in_string(const glm4v_schema *schema, const glm4v_automaton *a, int64_t *room,
                               int64_t *lacks);
/* Is b in the same string as a, which is in one? Then the characters between them. */
bool glm4v_automaton_same_string(const glm4v_automaton *a, const glm4v_automaton *b,
                                 int64_t *characters);

#endif
