/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See match.h. What can be said about an answer the automaton says, byte by byte; it knows one
 * order of properties only, so that a text that it refuses is tried once more in that order. */
#include "shape/match.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "shape/automaton.h"

#define FILE_NAME "answer"

static const glm4v_json_limits LIMITS = {
    .bytes = 256 << 10, .nodes = 100000, .string = 256 << 10, .memory = 64 << 20, .depth = 64
};

/* Without the white space between its parts. */
static void add_compact(glm4v_text_out *out, const char *text)
{
    bool quoted = false, escaped = false;
    for (; *text; text++) {
        if (!quoted && strchr(" \t\r\n", *text))
            continue;
        glm4v_text_add(out, text, 1);
        quoted ^= *text == '"' && !escaped;
        escaped = quoted && *text == '\\' && !escaped;
    }
}

static bool follows(const glm4v_schema *schema, const char *text)
{
    glm4v_automaton a = glm4v_automaton_start(schema);
    for (; *text; text++)
        if (!a.n || !glm4v_automaton_step(schema, &a, (unsigned char)*text))
            return false;
    return glm4v_automaton_may_end(schema, &a);
}

/* ---- order ---- */

/* A value and what it must match. */
typedef struct {
    json_t *value;
    const json_t *schema;
} pair;

typedef struct {
    pair *pairs;
    size_t n, room;
    bool failed;
} worklist;

static void push(worklist *list, json_t *value, const json_t *schema)
{
    if (!schema || list->failed)
        return;
    if (list->n == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        pair *more = glm4v_realloc(list->pairs, room, sizeof *more);
        list->failed = !more;
        if (!more)
            return;
        list->pairs = more;
        list->room = room;
    }
    list->pairs[list->n++] = (pair) { value, schema };
}

/* Properties go, one after the other, from where they are to the end: jansson keeps the order of
 * insertion. */
static void order_object(worklist *list, json_t *object, const json_t *properties)
{
    const char *key;
    json_t *schema;
    json_object_foreach((json_t *)properties, key, schema)
    {
        json_t *value = json_incref(json_object_get(object, key));
        if (!value)
            continue;
        json_object_del(object, key);
        list->failed |= json_object_set_new(object, key, value) != 0;
        push(list, value, schema);
    }
}

/* False: memory is out. */
static bool order(json_t *root, const json_t *schema)
{
    worklist list = { 0 };
    push(&list, root, schema);
    while (list.n && !list.failed) {
        const pair p = list.pairs[--list.n];
        if (json_is_object(p.value))
            order_object(&list, p.value, json_object_get(p.schema, "properties"));
        for (size_t i = 0; i < json_array_size(p.value); i++)
            push(&list, json_array_get(p.value, i), json_object_get(p.schema, "items"));
    }
    glm4v_free(list.pairs);
    return !list.failed;
}

/* The same values in the schema's order, or as they are where memory is out or it is no JSON. */
static int add_ordered(glm4v_text_out *out, const char *schema, const char *text, glm4v_error *err)
{
    json_t *root = NULL, *rules = NULL;
    char *dumped = NULL;
    int rc = glm4v_json_parse(&root, text, strlen(text), FILE_NAME, &LIMITS, err);
    if (!rc)
        rc = glm4v_json_parse(&rules, schema, strlen(schema), "json_schema", &LIMITS, err);
    if (!rc)
        dumped = order(root, rules) ? json_dumps(root, JSON_COMPACT) : NULL;
    if (!rc && !dumped)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer in JSON");
    if (!rc)
        glm4v_text_add(out, dumped, strlen(dumped));
    free(dumped);
    json_decref(root);
    json_decref(rules);
    return rc;
}

int glm4v_schema_match(glm4v_text_out *json, const char *schema_text, const char *text,
                       glm4v_error *err)
{
    glm4v_schema *schema = NULL;
    int rc = glm4v_schema_open(&schema, schema_text, err);
    if (rc)
        return rc;
    add_compact(json, text);
    if (!json->failed && !follows(schema, json->data ? json->data : "")) {
        json->size = 0;
        rc = add_ordered(json, schema_text, text, err);
        if (!rc && !json->failed && !follows(schema, json->data))
            rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "it is JSON that does not match the schema");
    }
    if (!rc && json->failed)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer in JSON");
    glm4v_schema_close(&schema);
    return rc;
}
