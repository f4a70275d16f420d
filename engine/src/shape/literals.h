/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of fixed texts as byte tries: the values of an enum, written as compact JSON. All sets of a
 * schema share one array. */
#ifndef GLM4V_ENGINE_LITERALS_H
#define GLM4V_ENGINE_LITERALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

typedef struct {
    int32_t child, sibling; /* 0: none */
    int32_t rest;           /* bytes to the nearest end below; 0: a text ends here */
    int32_t shortest;       /* child that leads there */
    unsigned char byte;
} glm4v_literal_node;

typedef struct {
    glm4v_literal_node *nodes; /* [n]; 0 is not used */
    int32_t n, capacity;
} glm4v_literals;

/* A new, empty set: its root, or NOMEM. add: one more text to the set of root. finish: all texts of
 * the set are there. free: all sets. */
int glm4v_literals_begin(glm4v_literals *l, int32_t *root, glm4v_error *err);
int glm4v_literals_add(glm4v_literals *l, int32_t root, const char *text, size_t len,
                       glm4v_error *err);
void glm4v_literals_finish(glm4v_literals *l, int32_t root);
void glm4v_literals_free(glm4v_literals *l);

/* The child of a node for a byte; 0: none. */
int32_t glm4v_literals_next(const glm4v_literals *l, int32_t node, unsigned char byte);

/* Append a value as compact JSON. What a result's text never holds (controls, overrides of the
 * direction of text) is escaped. Arrays and objects nested deeper than GLM4V_MAX_NESTING are
 * refused: INVALID. */
#define GLM4V_MAX_NESTING 16
int glm4v_json_write(glm4v_text_out *out, const json_t *value, glm4v_error *err);
/* A string [0, len) with its quotes. */
void glm4v_json_write_string(glm4v_text_out *out, const char *s, size_t len);

#endif
