/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A JSON Schema, checked and compiled to what shape/automaton.c follows byte by byte. The answers
 * that it allows are compact JSON: no white space, the properties of an object in the order of the
 * schema, and no others. Supported are type (one or several), enum, const, properties, required,
 * additionalProperties (true or false), items, minItems, maxItems, minLength, maxLength, minimum,
 * maximum, exclusiveMinimum and exclusiveMaximum; annotations such as title and description have no
 * effect; anything else is refused by its name and place. */
#ifndef GLM4V_ENGINE_SCHEMA_H
#define GLM4V_ENGINE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shape/literals.h"
#include "shape/number.h"

#define GLM4V_MAX_SCHEMA_NODES 1024
#define GLM4V_MAX_PROPERTIES 256 /* of one object */
#define GLM4V_MAX_SHORTEST 16384 /* bytes of the shortest answer */

typedef enum {
    GLM4V_SCHEMA_LITERAL,
    GLM4V_SCHEMA_STRING,
    GLM4V_SCHEMA_NUMBER,
    GLM4V_SCHEMA_ARRAY,
    GLM4V_SCHEMA_OBJECT,
    GLM4V_SCHEMA_UNION,
} glm4v_schema_kind;

typedef struct {
    glm4v_schema_kind kind;
    int32_t cost; /* bytes of the shortest value */
    /* literal: root of the set. array: node of the items, -1: there are none. object: first
     * property. union: first alternative, a list of nodes */
    int32_t first;
    int32_t n;            /* properties, alternatives */
    int64_t least, most;  /* characters of a string, items of an array; most -1: no bound */
    glm4v_number *number; /* of a number */
} glm4v_schema_node;

typedef struct {
    int32_t key, key_len; /* in keys: "name": with quotes and colon */
    int32_t value;        /* node */
    int32_t need;         /* bytes of the required ones from here on: comma, key, value of each */
    bool required;
} glm4v_schema_property;

typedef struct {
    glm4v_schema_node *nodes; /* [n_nodes] */
    int32_t n_nodes;
    int32_t root;
    glm4v_schema_property *properties; /* of all objects; behind those of each one more that has the
                                        * need of none */
    int32_t n_properties;
    int32_t *alternatives; /* of all unions: nodes */
    int32_t n_alternatives;
    glm4v_text_out keys;
    glm4v_literals literals;
} glm4v_schema;

/* Compile text. Where it is wrong the message begins with "json_schema: " and the place, such as
 * $.properties.count. INVALID: no JSON, no schema, or one that nothing matches; UNSUPPORTED: a
 * keyword that is not understood; NOMEM. */
int glm4v_schema_open(glm4v_schema **schema, const char *text, glm4v_error *err);
/* Bytes of one, but for its literals and numbers. */
uint64_t glm4v_schema_bytes(void);
void glm4v_schema_close(glm4v_schema **schema);

#endif
