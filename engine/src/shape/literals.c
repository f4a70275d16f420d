/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values of a schema as text, and sets of such texts. Used by schema.c. */
#include "shape/literals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

#define MOST_NODES (1 << 20) /* bytes of all literals of a schema */

/* ---- tries ---- */

static int add_node(glm4v_literals *l, unsigned char byte, int32_t *node, glm4v_error *err)
{
    if (l->n >= l->capacity) {
        const int32_t capacity = l->capacity ? 2 * l->capacity : 256;
        if (l->n >= MOST_NODES)
            return glm4v_fail(err, GLM4V_ERR_INVALID, "its values are longer than %d bytes",
                              MOST_NODES);
        glm4v_literal_node *more = glm4v_realloc(l->nodes, (size_t)capacity, sizeof *more);
        if (!more)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d bytes of values", l->n);
        l->nodes = more;
        l->capacity = capacity;
        l->n = l->n ? l->n : 1;
    }
    l->nodes[l->n] = (glm4v_literal_node) { .rest = INT32_MAX, .byte = byte };
    *node = l->n++;
    return 0;
}

int glm4v_literals_begin(glm4v_literals *l, int32_t *root, glm4v_error *err)
{
    return add_node(l, 0, root, err);
}

int32_t glm4v_literals_next(const glm4v_literals *l, int32_t node, unsigned char byte)
{
    int32_t child = l->nodes[node].child;
    while (child && l->nodes[child].byte != byte)
        child = l->nodes[child].sibling;
    return child;
}

int glm4v_literals_add(glm4v_literals *l, int32_t root, const char *text, size_t len,
                       glm4v_error *err)
{
    int32_t node = root;
    for (size_t i = 0; i < len; i++) {
        int32_t child = glm4v_literals_next(l, node, (unsigned char)text[i]);
        if (!child) {
            int rc = add_node(l, (unsigned char)text[i], &child, err);
            if (rc)
                return rc;
            l->nodes[child].sibling = l->nodes[node].child;
            l->nodes[node].child = child;
        }
        node = child;
    }
    l->nodes[node].rest = 0;
    return 0;
}

/* Children stand behind their parents. */
void glm4v_literals_finish(glm4v_literals *l, int32_t root)
{
    for (int32_t node = l->n - 1; node >= root; node--)
        for (int32_t child = l->nodes[node].child; child; child = l->nodes[child].sibling)
            if (l->nodes[child].rest < l->nodes[node].rest - 1) {
                l->nodes[node].rest = l->nodes[child].rest + 1;
                l->nodes[node].shortest = child;
            }
}

void glm4v_literals_free(glm4v_literals *l)
{
    glm4v_free(l->nodes);
    *l = (glm4v_literals) { 0 };
}

/* ---- text ---- */

void glm4v_json_write_string(glm4v_text_out *out, const char *s, size_t len)
{
    glm4v_text_add(out, "\"", 1);
    for (size_t i = 0; i < len;) {
        uint32_t code = GLM4V_REPLACEMENT;
        int n = glm4v_utf8_next((const unsigned char *)s + i, len - i, &code);
        n = n > 0 ? n : 1; /* jansson's strings are UTF-8 */
        if (code == '"' || code == '\\')
            glm4v_text_add(out, "\\", 1);
        if (glm4v_utf8_hidden(code))
            glm4v_text_format(out, "\\u%04x", code);
        else
            glm4v_text_add(out, s + i, n);
        i += n;
    }
    glm4v_text_add(out, "\"", 1);
}

/* The shortest digits that give it back, whatever the decimal point of the language. */
static void write_real(glm4v_text_out *out, double value)
{
    char text[40];
    int precision = 1;
    do
        snprintf(text, sizeof text, "%.*g", precision, value);
    while (strtod(text, NULL) != value && precision++ < 17);
    bool plain = true;
    for (char *c = text; *c; c++) {
        const bool point = !strchr("0123456789-+e", *c);
        if (point)
            glm4v_text_add(out, ".", 1);
        else
            glm4v_text_add(out, c, 1);
        plain &= !point && *c != 'e';
        while (point && c[1] && !strchr("0123456789-+e", c[1]))
            c++; /* a point of several bytes */
    }
    if (plain)
        glm4v_text_add(out, ".0", 2);
}

static void write_scalar(glm4v_text_out *out, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        glm4v_json_write_string(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        glm4v_text_format(out, "%" PRId64, (int64_t)json_integer_value(value));
        break;
    case JSON_REAL:
        write_real(out, json_real_value(value));
        break;
    case JSON_TRUE:
        glm4v_text_add(out, "true", 4);
        break;
    case JSON_FALSE:
        glm4v_text_add(out, "false", 5);
        break;
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        glm4v_text_add(out, "null", 4);
        break;
    }
}

static int write_at(glm4v_text_out *out, const json_t *value, int depth, glm4v_error *err)
{
    const char *key;
    json_t *part;
    size_t i;
    int rc = 0;
    if (!json_is_array(value) && !json_is_object(value)) {
        write_scalar(out, value);
        return 0;
    }
    if (depth >= GLM4V_MAX_NESTING)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "a value is nested deeper than %d levels",
                          GLM4V_MAX_NESTING);
    if (json_is_array(value)) {
        glm4v_text_add(out, "[", 1);
        json_array_foreach(value, i, part)
        {
            glm4v_text_add(out, ",", i > 0);
            rc = rc ? rc : write_at(out, part, depth + 1, err);
        }
        glm4v_text_add(out, "]", 1);
        return rc;
    }
    bool first = true;
    glm4v_text_add(out, "{", 1);
    json_object_foreach((json_t *)(uintptr_t)value, key, part)
    {
        glm4v_text_add(out, ",", !first);
        first = false;
        glm4v_json_write_string(out, key, strlen(key));
        glm4v_text_add(out, ":", 1);
        rc = rc ? rc : write_at(out, part, depth + 1, err);
    }
    glm4v_text_add(out, "}", 1);
    return rc;
}

int glm4v_json_write(glm4v_text_out *out, const json_t *value, glm4v_error *err)
{
    int rc = write_at(out, value, 0, err);
    return !rc && out->failed ? glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a value") : rc;
}
