/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a JSON Schema: every keyword is known or refused, every value is checked where it stands,
 * and the nodes come out with the length of their shortest value. Recursion is bounded by
 * GLM4V_MAX_NESTING. Source: https://json-schema.org/draft/2020-12/schema */
#include "shape/schema.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

/* Bits of the types. */
enum {
    OBJECT = 1,
    ARRAY = 2,
    STRING = 4,
    INTEGER = 8,
    NUMBER = 16,
    BOOLEAN = 32,
    NOTHING = 64,
    ANY = 127,
    NOTE = 256 + ANY, /* says nothing about the value */
};

static const struct {
    const char *name;
    int bit;
} types[] = {
    { "object", OBJECT }, { "array", ARRAY },     { "string", STRING }, { "integer", INTEGER },
    { "number", NUMBER }, { "boolean", BOOLEAN }, { "null", NOTHING },
};
enum { N_TYPES = sizeof types / sizeof *types };

/* What the keywords are about. */
static const struct {
    const char *name;
    int types;
} keywords[] = {
    { "type", ANY },
    { "enum", ANY },
    { "const", ANY },
    { "properties", OBJECT },
    { "required", OBJECT },
    { "additionalProperties", OBJECT },
    { "items", ARRAY },
    { "minItems", ARRAY },
    { "maxItems", ARRAY },
    { "minLength", STRING },
    { "maxLength", STRING },
    { "minimum", INTEGER | NUMBER },
    { "maximum", INTEGER | NUMBER },
    { "exclusiveMinimum", INTEGER | NUMBER },
    { "exclusiveMaximum", INTEGER | NUMBER },
    { "title", NOTE },
    { "description", NOTE },
    { "default", NOTE },
    { "examples", NOTE },
    { "deprecated", NOTE },
    { "readOnly", NOTE },
    { "writeOnly", NOTE },
    { "$schema", NOTE },
    { "$id", NOTE },
    { "$comment", NOTE },
};

typedef struct {
    glm4v_schema *schema;
    char path[256]; /* of the node that is read, as far as it fits */
    size_t path_len;
    int depth; /* arrays and objects around it */
    glm4v_error *err;
} compiler;

static int compile(compiler *c, const json_t *json, int32_t *node);

/* ---- messages ---- */

__attribute__((format(printf, 3, 4))) static int fail(const compiler *c, int code,
                                                      const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return glm4v_fail(c->err, code, "json_schema: %s: %s", c->path, text);
}

/* Go down to a part; returns what leave() takes. */
static size_t enter(compiler *c, const char *part, const char *name)
{
    const size_t before = c->path_len;
    int n = snprintf(c->path + before, sizeof c->path - before, ".%s%s%s", part, *name ? "." : "",
                     name);
    c->path_len = before + (size_t)n < sizeof c->path ? before + (size_t)n : sizeof c->path - 1;
    return before;
}

static void leave(compiler *c, size_t before)
{
    c->path_len = before;
    c->path[before] = 0;
}

/* ---- values of keywords ---- */

static int new_node(compiler *c, glm4v_schema_kind kind, int32_t *node)
{
    glm4v_schema *s = c->schema;
    if (s->n_nodes == GLM4V_MAX_SCHEMA_NODES)
        return fail(c, GLM4V_ERR_INVALID, "the schema describes more than %d values",
                    GLM4V_MAX_SCHEMA_NODES);
    s->nodes[s->n_nodes] = (glm4v_schema_node) { .kind = kind, .most = -1 };
    *node = s->n_nodes++;
    return 0;
}

static int set_cost(compiler *c, int32_t node, int64_t cost)
{
    if (cost > GLM4V_MAX_SHORTEST)
        return fail(c, GLM4V_ERR_INVALID,
                    "the shortest value has %" PRId64 " bytes, at most %d are accepted", cost,
                    GLM4V_MAX_SHORTEST);
    c->schema->nodes[node].cost = (int32_t)cost;
    return 0;
}

/* A count; *value stays as it is without the keyword. */
static int read_count(const compiler *c, const json_t *json, const char *key, int64_t *value)
{
    const json_t *v = json_object_get(json, key);
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
        return fail(c, GLM4V_ERR_INVALID, "\"%s\" must be an integer from 0 to %d", key, INT32_MAX);
    *value = json_integer_value(v);
    return 0;
}

static int read_counts(const compiler *c, const json_t *json, glm4v_schema_node *n,
                       const char *const keys[2])
{
    int rc = read_count(c, json, keys[0], &n->least);
    if (!rc)
        rc = read_count(c, json, keys[1], &n->most);
    if (!rc && n->most >= 0 && n->most < n->least)
        rc = fail(c, GLM4V_ERR_INVALID, "\"%s\" is larger than \"%s\": nothing matches", keys[0],
                  keys[1]);
    return rc;
}

static int read_bound(const compiler *c, const json_t *json, const char *key, const char *exclusive,
                      glm4v_bound *bound)
{
    const json_t *a = json_object_get(json, key), *b = json_object_get(json, exclusive);
    if (a && b)
        return fail(c, GLM4V_ERR_INVALID, "give \"%s\" or \"%s\", not both", key, exclusive);
    if ((a && !json_is_number(a)) || (b && !json_is_number(b)))
        return fail(c, GLM4V_ERR_INVALID, "\"%s\" must be a number", a ? key : exclusive);
    if (a || b)
        *bound = glm4v_bound_of(a ? a : b, b != NULL);
    return 0;
}

/* ---- one type each ---- */

static int compile_string(compiler *c, const json_t *json, int32_t *node)
{
    static const char *const keys[] = { "minLength", "maxLength" };
    int rc = new_node(c, GLM4V_SCHEMA_STRING, node);
    if (!rc)
        rc = read_counts(c, json, &c->schema->nodes[*node], keys);
    return rc ? rc : set_cost(c, *node, 2 + c->schema->nodes[*node].least);
}

static int compile_number(compiler *c, const json_t *json, bool integer, int32_t *node)
{
    glm4v_bound low = { .present = false }, high = { .present = false };
    glm4v_error err = { 0 };
    int rc = new_node(c, GLM4V_SCHEMA_NUMBER, node);
    if (!rc)
        rc = read_bound(c, json, "minimum", "exclusiveMinimum", &low);
    if (!rc)
        rc = read_bound(c, json, "maximum", "exclusiveMaximum", &high);
    if (rc)
        return rc;
    glm4v_schema_node *n = &c->schema->nodes[*node];
    rc = glm4v_number_open(&n->number, &low, &high, integer, &err);
    return rc ? fail(c, rc, "%s", err.msg) : set_cost(c, *node, n->number->states[0].rest);
}

static int compile_array(compiler *c, const json_t *json, int32_t *node)
{
    static const char *const keys[] = { "minItems", "maxItems" };
    const json_t *items = json_object_get(json, "items");
    int32_t item = -1;
    int rc = new_node(c, GLM4V_SCHEMA_ARRAY, node);
    if (!rc)
        rc = read_counts(c, json, &c->schema->nodes[*node], keys);
    if (!rc && !items && c->schema->nodes[*node].most)
        rc = fail(c, GLM4V_ERR_INVALID, "\"items\" is missing: say what the array holds");
    if (!rc && items) {
        const size_t before = enter(c, "items", "");
        rc = compile(c, items, &item);
        leave(c, before);
    }
    if (rc)
        return rc;
    glm4v_schema_node *n = &c->schema->nodes[*node];
    n->first = item;
    return set_cost(c, *node,
                    n->least ? 1 + n->least * (1 + c->schema->nodes[item].cost) : (int64_t)2);
}

static bool names(const json_t *list, const char *name)
{
    const json_t *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        if (json_is_string(v) && !strcmp(json_string_value(v), name))
            return true;
    }
    return false;
}

static int check_required(const compiler *c, const json_t *required, const json_t *properties)
{
    const json_t *v;
    size_t i;
    if (required && !json_is_array(required))
        return fail(c, GLM4V_ERR_INVALID, "\"required\" must be a list of names");
    json_array_foreach(required, i, v)
    {
        if (!json_is_string(v))
            return fail(c, GLM4V_ERR_INVALID, "\"required\" must be a list of names");
        if (!json_object_get(properties, json_string_value(v)))
            return fail(c, GLM4V_ERR_INVALID,
                        "\"required\" names \"%.64s\", which is not in \"properties\"",
                        json_string_value(v));
    }
    return 0;
}

static int check_object(const compiler *c, const json_t *json)
{
    const json_t *properties = json_object_get(json, "properties");
    const json_t *more = json_object_get(json, "additionalProperties");
    if (properties && !json_is_object(properties))
        return fail(c, GLM4V_ERR_INVALID, "\"properties\" must be an object");
    if (json_object_size(properties) > GLM4V_MAX_PROPERTIES)
        return fail(c, GLM4V_ERR_INVALID, "%zu properties, at most %d are accepted",
                    json_object_size(properties), GLM4V_MAX_PROPERTIES);
    if (more && !json_is_boolean(more))
        return fail(c, GLM4V_ERR_UNSUPPORTED,
                    "\"additionalProperties\" with a schema is not supported, only true and false");
    return check_required(c, json_object_get(json, "required"), properties);
}

/* The key as it stands in the answer. */
static int add_key(compiler *c, glm4v_schema_property *p, const char *key)
{
    glm4v_text_out *keys = &c->schema->keys;
    p->key = (int32_t)keys->size;
    glm4v_json_write_string(keys, key, strlen(key));
    glm4v_text_add(keys, ":", 1);
    p->key_len = (int32_t)keys->size - p->key;
    return keys->failed ? glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory for a schema") : 0;
}

static int compile_properties(compiler *c, const json_t *json, int32_t first)
{
    const json_t *required = json_object_get(json, "required");
    const char *key;
    json_t *value;
    int32_t i = first;
    json_object_foreach(json_object_get(json, "properties"), key, value)
    {
        glm4v_schema_property *p = &c->schema->properties[i++];
        int rc = add_key(c, p, key);
        p->required = names(required, key);
        const size_t before = enter(c, "properties", key);
        if (!rc)
            rc = compile(c, value, &p->value);
        leave(c, before);
        if (rc)
            return rc;
    }
    return 0;
}

static int compile_object(compiler *c, const json_t *json, int32_t *node)
{
    glm4v_schema *s = c->schema;
    int rc = new_node(c, GLM4V_SCHEMA_OBJECT, node);
    if (!rc)
        rc = check_object(c, json);
    const int32_t n = (int32_t)json_object_size(json_object_get(json, "properties"));
    if (!rc && n + 1 > 2 * GLM4V_MAX_SCHEMA_NODES - s->n_properties)
        rc = fail(c, GLM4V_ERR_INVALID, "the schema describes more than %d values",
                  GLM4V_MAX_SCHEMA_NODES);
    if (rc)
        return rc;
    const int32_t first = s->nodes[*node].first = s->n_properties;
    s->nodes[*node].n = n;
    s->n_properties += n + 1;
    rc = compile_properties(c, json, first);
    if (rc)
        return rc;
    int64_t need = 0;
    for (int32_t i = first + n; i-- > first;) {
        glm4v_schema_property *p = &s->properties[i];
        need += p->required ? 1 + p->key_len + s->nodes[p->value].cost : 0;
        if (need > GLM4V_MAX_SHORTEST)
            break;
        p->need = (int32_t)need;
    }
    return set_cost(c, *node, 2 + need - (need > 0));
}

/* ---- fixed values ---- */

static bool is_of(const json_t *value, int mask)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return mask & OBJECT;
    case JSON_ARRAY:
        return mask & ARRAY;
    case JSON_STRING:
        return mask & STRING;
    case JSON_INTEGER:
        return mask & (INTEGER | NUMBER);
    case JSON_REAL:
        return (mask & NUMBER) ||
               ((mask & INTEGER) && floor(json_real_value(value)) == json_real_value(value));
    case JSON_TRUE:
    case JSON_FALSE:
        return mask & BOOLEAN;
    case JSON_NULL:
        return mask & NOTHING;
    }
    return false;
}

static int add_value(compiler *c, int32_t root, const json_t *value)
{
    glm4v_text_out text = { 0 };
    glm4v_error err = { 0 };
    int rc = glm4v_json_write(&text, value, &err);
    if (!rc)
        rc = glm4v_literals_add(&c->schema->literals, root, text.data, text.size, &err);
    glm4v_free(text.data);
    return rc ? fail(c, rc, "%s", err.msg) : 0;
}

static int compile_values(compiler *c, const json_t *const *values, size_t n, int32_t *node)
{
    glm4v_literals *l = &c->schema->literals;
    int32_t root;
    int rc = new_node(c, GLM4V_SCHEMA_LITERAL, node);
    if (!rc)
        rc = glm4v_literals_begin(l, &root, c->err);
    for (size_t i = 0; !rc && i < n; i++)
        rc = add_value(c, root, values[i]);
    if (rc)
        return rc;
    glm4v_literals_finish(l, root);
    c->schema->nodes[*node].first = root;
    return set_cost(c, *node, l->nodes[root].rest);
}

static int compile_words(compiler *c, bool nothing, int32_t *node)
{
    const json_t *const words[] = { json_true(), json_false() };
    const json_t *const none[] = { json_null() };
    return nothing ? compile_values(c, none, 1, node) : compile_values(c, words, 2, node);
}

/* Of enum or const; other keywords beside them but type would have to be compared with each. */
static int compile_enum(compiler *c, const json_t *json, int mask, int32_t *node)
{
    const json_t *list = json_object_get(json, "enum"), *one = json_object_get(json, "const"), *v;
    const char *key;
    json_t *value;
    size_t i;
    if (list && one)
        return fail(c, GLM4V_ERR_INVALID, "give \"enum\" or \"const\", not both");
    if (list && (!json_is_array(list) || !json_array_size(list)))
        return fail(c, GLM4V_ERR_INVALID, "\"enum\" must be a list of at least one value");
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        for (i = 0; i < sizeof keywords / sizeof *keywords; i++)
            if (!strcmp(key, keywords[i].name) && keywords[i].types < ANY)
                return fail(c, GLM4V_ERR_UNSUPPORTED, "\"%s\" beside \"%s\" is not supported", key,
                            list ? "enum" : "const");
    }
    const size_t n = list ? json_array_size(list) : 1;
    const json_t **values = glm4v_alloc(n, sizeof *values);
    int rc = values ? 0 : glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory for %zu values", n);
    for (i = 0; !rc && i < n; i++) {
        v = values[i] = list ? json_array_get(list, i) : one;
        if (!is_of(v, mask))
            rc = fail(c, GLM4V_ERR_INVALID, "value %zu of \"%s\" is not of the \"type\"", i + 1,
                      list ? "enum" : "const");
    }
    if (!rc)
        rc = compile_values(c, values, n, node);
    glm4v_free(values);
    return rc;
}

/* ---- a node ---- */

static int add_type(const compiler *c, const json_t *name, int *mask)
{
    for (int i = 0; json_is_string(name) && i < N_TYPES; i++)
        if (!strcmp(json_string_value(name), types[i].name)) {
            *mask |= types[i].bit;
            return 0;
        }
    return fail(c, GLM4V_ERR_INVALID,
                "\"type\" must be object, array, string, integer, number, boolean or null, or a "
                "list of these");
}

/* *mask: bits of the types; 0 without the keyword. */
static int read_type(const compiler *c, const json_t *json, int *mask)
{
    const json_t *type = json_object_get(json, "type"), *v;
    size_t i;
    int rc = 0;
    *mask = 0;
    if (!type)
        return 0;
    if (!json_is_array(type))
        return add_type(c, type, mask);
    if (!json_array_size(type))
        return fail(c, GLM4V_ERR_INVALID, "\"type\" is an empty list: nothing matches");
    json_array_foreach(type, i, v)
    {
        rc = rc ? rc : add_type(c, v, mask);
    }
    return rc;
}

static int check_keywords(const compiler *c, const json_t *json, int mask)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        size_t i = 0;
        while (i < sizeof keywords / sizeof *keywords && strcmp(key, keywords[i].name))
            i++;
        if (i == sizeof keywords / sizeof *keywords)
            return fail(c, GLM4V_ERR_UNSUPPORTED, "\"%.64s\" is not supported", key);
        if (mask && !(keywords[i].types & mask))
            return fail(c, GLM4V_ERR_INVALID, "\"%s\" says nothing about a value of this \"type\"",
                        key);
    }
    return 0;
}

static int compile_type(compiler *c, const json_t *json, int bit, int32_t *node)
{
    int rc;
    const bool container = bit == OBJECT || bit == ARRAY;
    if (container && c->depth == GLM4V_MAX_NESTING)
        return fail(c, GLM4V_ERR_INVALID, "arrays and objects are nested deeper than %d levels",
                    GLM4V_MAX_NESTING);
    c->depth += container;
    switch (bit) {
    case OBJECT:
        rc = compile_object(c, json, node);
        break;
    case ARRAY:
        rc = compile_array(c, json, node);
        break;
    case STRING:
        rc = compile_string(c, json, node);
        break;
    case INTEGER:
    case NUMBER:
        rc = compile_number(c, json, bit == INTEGER, node);
        break;
    default:
        rc = compile_words(c, bit == NOTHING, node);
    }
    c->depth -= container;
    return rc;
}

/* The alternatives of several types; the one with the shortest value stands first. */
static int compile_union(compiler *c, const json_t *json, int mask, int32_t *node)
{
    glm4v_schema *s = c->schema;
    int32_t found[N_TYPES], n = 0;
    int rc = new_node(c, GLM4V_SCHEMA_UNION, node);
    for (int i = 0; !rc && i < N_TYPES; i++)
        if (mask & types[i].bit)
            rc = compile_type(c, json, types[i].bit, &found[n++]);
    if (rc)
        return rc;
    for (int32_t i = 1; i < n; i++)
        if (s->nodes[found[i]].cost < s->nodes[found[0]].cost) {
            const int32_t shorter = found[i];
            found[i] = found[0];
            found[0] = shorter;
        }
    s->nodes[*node].first = s->n_alternatives;
    s->nodes[*node].n = n;
    memcpy(s->alternatives + s->n_alternatives, found, n * sizeof *found);
    s->n_alternatives += n;
    return set_cost(c, *node, s->nodes[found[0]].cost);
}

static int compile(compiler *c, const json_t *json, int32_t *node)
{
    int mask = 0;
    if (!json_is_object(json))
        return fail(c, GLM4V_ERR_INVALID, "a schema must be an object");
    int rc = check_keywords(c, json, 0);
    if (!rc)
        rc = read_type(c, json, &mask);
    if (rc)
        return rc;
    if (json_object_get(json, "enum") || json_object_get(json, "const"))
        return compile_enum(c, json, mask ? mask : ANY, node);
    if (!mask)
        return fail(c, GLM4V_ERR_INVALID,
                    "it says nothing about the value: give \"type\", \"enum\" or \"const\"");
    if (mask & NUMBER)
        mask &= ~INTEGER; /* integers are numbers */
    rc = check_keywords(c, json, mask);
    if (rc)
        return rc;
    return mask & (mask - 1) ? compile_union(c, json, mask, node)
                             : compile_type(c, json, mask, node);
}

/* ---- the whole ---- */

static const glm4v_json_limits limits = {
    .bytes = 256 << 10, .nodes = 65536, .string = 65536, .memory = 16 << 20, .depth = 64
};

static int parse(json_t **root, const char *text, glm4v_error *err)
{
    glm4v_error found = { 0 };
    int rc = glm4v_json_parse(root, text, strlen(text), "json_schema", &limits, &found);
    if (rc == GLM4V_ERR_FORMAT)
        rc = GLM4V_ERR_INVALID;
    return rc ? glm4v_fail(err, rc, "%s", found.msg) : 0;
}

uint64_t glm4v_schema_bytes(void)
{
    return sizeof(glm4v_schema) +
           GLM4V_MAX_SCHEMA_NODES *
               (sizeof(glm4v_schema_node) + 2 * sizeof(glm4v_schema_property) + sizeof(int32_t));
}

int glm4v_schema_open(glm4v_schema **schema, const char *text, glm4v_error *err)
{
    compiler c = { .path = "$", .path_len = 1, .err = err };
    json_t *root = NULL;
    int rc = parse(&root, text, err);
    if (rc)
        return rc;
    glm4v_schema *s = c.schema = glm4v_alloc(1, sizeof *s);
    if (s) {
        s->nodes = glm4v_alloc(GLM4V_MAX_SCHEMA_NODES, sizeof *s->nodes);
        s->properties = glm4v_alloc(2 * GLM4V_MAX_SCHEMA_NODES, sizeof *s->properties);
        s->alternatives = glm4v_alloc(GLM4V_MAX_SCHEMA_NODES, sizeof *s->alternatives);
    }
    if (!s || !s->nodes || !s->properties || !s->alternatives)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a schema");
    else
        rc = compile(&c, root, &s->root);
    json_decref(root);
    if (rc)
        glm4v_schema_close(&s);
    else
        *schema = s;
    return rc;
}

void glm4v_schema_close(glm4v_schema **schema)
{
    glm4v_schema *s = *schema;
    if (!s)
        return;
    for (int32_t i = 0; s->nodes && i < s->n_nodes; i++)
        glm4v_free(s->nodes[i].number);
    glm4v_free(s->nodes);
    glm4v_free(s->properties);
    glm4v_free(s->alternatives);
    glm4v_free(s->keys.data);
    glm4v_literals_free(&s->literals);
    glm4v_free(s);
    *schema = NULL;
}
