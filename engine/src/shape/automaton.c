/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Following a compiled schema byte by byte. Each kind of value has a function for a byte, for the
 * shortest way on and for what is forced; a number, or a text that another one begins with, ends
 * when a byte comes that belongs to the value around it. */
#include "shape/automaton.h"

#include <string.h>

#include "base/utf8.h"

/* Phases. */
enum { BEFORE = 0 };
enum { STRING_INSIDE = 1, STRING_ESCAPE };
enum { ARRAY_OPENED = 1, ARRAY_ITEM, ARRAY_BEHIND_ITEM, ARRAY_COMMA };
enum { OBJECT_OPENED = 1, OBJECT_KEY, OBJECT_VALUE, OBJECT_BEHIND_VALUE, OBJECT_COMMA };

#define PAD ' ' /* what the shortest string is filled with */

static const glm4v_schema_node *node_of(const glm4v_schema *s, const glm4v_open_value *v)
{
    return &s->nodes[v->node];
}

static glm4v_open_value *top(glm4v_automaton *a)
{
    return &a->open[a->n - 1];
}

static void push(const glm4v_schema *s, glm4v_automaton *a, int32_t node)
{
    a->open[a->n++] = (glm4v_open_value) { .node = node,
                                           .count = s->nodes[node].kind == GLM4V_SCHEMA_LITERAL
                                                        ? s->nodes[node].first
                                                        : 0 };
}

/* The value around learns that the one in it is complete. */
static void behind(const glm4v_schema *s, glm4v_open_value *v)
{
    if (node_of(s, v)->kind == GLM4V_SCHEMA_ARRAY) {
        v->phase = ARRAY_BEHIND_ITEM;
        v->count++;
    } else {
        v->phase = OBJECT_BEHIND_VALUE;
        v->count = v->key + 1;
    }
}

static void pop(const glm4v_schema *s, glm4v_automaton *a)
{
    if (--a->n)
        behind(s, top(a));
}

glm4v_automaton glm4v_automaton_start(const glm4v_schema *schema)
{
    glm4v_automaton a;
    memset(&a, 0, sizeof a); /* states are compared by their bytes */
    push(schema, &a, schema->root);
    return a;
}

/* ---- properties ---- */

static const glm4v_schema_property *property(const glm4v_schema *s, const glm4v_open_value *v,
                                             int32_t i)
{
    return &s->properties[node_of(s, v)->first + i];
}

/* One more than the last property that may come next. */
static int32_t candidates_end(const glm4v_schema *s, const glm4v_open_value *v)
{
    const int32_t n = node_of(s, v)->n;
    for (int32_t i = v->count; i < n; i++)
        if (property(s, v, i)->required)
            return i + 1;
    return n;
}

static bool lacks_some(const glm4v_schema *s, const glm4v_open_value *v)
{
    return property(s, v, v->count)->need > 0;
}

static unsigned char key_byte(const glm4v_schema *s, const glm4v_open_value *v, int32_t i)
{
    return (unsigned char)s->keys.data[property(s, v, i)->key + v->typed];
}

/* Does the key of property i begin with what was typed? */
static bool fits(const glm4v_schema *s, const glm4v_open_value *v, int32_t i)
{
    const glm4v_schema_property *a = property(s, v, i), *b = property(s, v, v->key);
    return a->key_len > v->typed && !memcmp(s->keys.data + a->key, s->keys.data + b->key, v->typed);
}

static void begin_key(glm4v_open_value *v)
{
    v->phase = OBJECT_KEY;
    v->key = (int16_t)v->count;
    v->typed = 0;
}

/* Bytes from the key of property i on to the end of the object. */
static int64_t key_cost(const glm4v_schema *s, const glm4v_open_value *v, int32_t i)
{
    const glm4v_schema_property *p = property(s, v, i);
    return p->key_len - v->typed + s->nodes[p->value].cost + property(s, v, i + 1)->need + 1;
}

/* The property with the shortest way on among those that what was typed may become. */
static int32_t nearest_key(const glm4v_schema *s, const glm4v_open_value *v)
{
    const int32_t end = candidates_end(s, v);
    int32_t best = -1;
    for (int32_t i = v->count; i < end; i++)
        if (fits(s, v, i) && (best < 0 || key_cost(s, v, i) < key_cost(s, v, best)))
            best = i;
    return best;
}

/* ---- the first byte of a value ---- */

static bool begins_with(const glm4v_schema *s, int32_t node, unsigned char byte)
{
    const glm4v_schema_node *n = &s->nodes[node];
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return glm4v_literals_next(&s->literals, n->first, byte) != 0;
    case GLM4V_SCHEMA_NUMBER: {
        const int symbol = glm4v_number_symbol(byte);
        return symbol >= 0 && n->number->states[0].next[symbol] >= 0;
    }
    case GLM4V_SCHEMA_STRING:
        return byte == '"';
    case GLM4V_SCHEMA_ARRAY:
        return byte == '[';
    case GLM4V_SCHEMA_OBJECT:
        return byte == '{';
    case GLM4V_SCHEMA_UNION:
        for (int32_t i = 0; i < n->n; i++)
            if (begins_with(s, s->alternatives[n->first + i], byte))
                return true;
        return false;
    }
    return false;
}

/* ---- steps by kind: taken, refused, or the value had ended before this byte ---- */

typedef enum { REFUSED, TAKEN, AGAIN } outcome;

static outcome step_literal(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    const glm4v_literal_node *nodes = s->literals.nodes;
    const int32_t next = glm4v_literals_next(&s->literals, v->count, byte);
    if (!next && nodes[v->count].rest)
        return REFUSED;
    if (!next) {
        pop(s, a);
        return AGAIN;
    }
    v->count = next;
    if (!nodes[next].child)
        pop(s, a);
    return TAKEN;
}

/* A number that nothing can follow is complete. */
static bool number_ends(const glm4v_number_state *state)
{
    for (int i = 0; i < GLM4V_NUMBER_SYMBOLS; i++)
        if (state->next[i] >= 0)
            return false;
    return true;
}

static outcome step_number(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    const glm4v_number_state *states = node_of(s, v)->number->states;
    const int symbol = glm4v_number_symbol(byte);
    const int next = symbol < 0 ? -1 : states[v->count].next[symbol];
    if (next < 0 && states[v->count].rest)
        return REFUSED;
    if (next < 0) {
        pop(s, a);
        return AGAIN;
    }
    v->count = next;
    if (number_ends(&states[next]))
        pop(s, a);
    return TAKEN;
}

/* The first byte of a character of several: what the next one may be. Unicode, table 3-7. */
static bool begin_character(glm4v_automaton *a, unsigned char byte)
{
    if (byte < 0xC2 || byte > 0xF4)
        return false;
    a->missing = (uint8_t)(1 + (byte >= 0xE0) + (byte >= 0xF0));
    a->code = byte & (0x3Fu >> a->missing);
    a->low = 0x80;
    a->high = 0xBF;
    if (byte == 0xC2 || byte == 0xE0)
        a->low = 0xA0;
    else if (byte == 0xED)
        a->high = 0x9F;
    else if (byte == 0xF0)
        a->low = 0x90;
    else if (byte == 0xF4)
        a->high = 0x8F;
    return true;
}

/* A further byte of a character; what a text never holds is refused (U+0080 to U+009F by low). */
static bool go_on_character(glm4v_automaton *a, unsigned char byte)
{
    if (byte < a->low || byte > a->high)
        return false;
    a->code = a->code << 6 | (byte & 0x3F);
    a->missing--;
    a->low = 0x80;
    a->high = 0xBF;
    if (a->missing)
        return true;
    const bool shown = !glm4v_utf8_hidden(a->code);
    a->code = a->low = a->high = 0;
    return shown;
}

static bool has_room(const glm4v_schema *s, const glm4v_open_value *v)
{
    return node_of(s, v)->most < 0 || v->count < node_of(s, v)->most;
}

static outcome inside_string(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    if (a->missing) {
        if (!go_on_character(a, byte))
            return REFUSED;
        v->count += !a->missing;
        return TAKEN;
    }
    if (byte == '"') {
        if (v->count < node_of(s, v)->least)
            return REFUSED;
        pop(s, a);
        return TAKEN;
    }
    if (!has_room(s, v) || byte < 0x20 || byte == 0x7F)
        return REFUSED;
    if (byte == '\\')
        v->phase = STRING_ESCAPE;
    else if (byte < 0x80)
        v->count++;
    else
        return begin_character(a, byte) ? TAKEN : REFUSED;
    return TAKEN;
}

static outcome step_string(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    switch (v->phase) {
    case BEFORE:
        v->phase = STRING_INSIDE;
        return byte == '"' ? TAKEN : REFUSED;
    case STRING_ESCAPE:
        v->phase = STRING_INSIDE;
        v->count++;
        return byte == '"' || byte == '\\' || byte == 'n' || byte == 't' ? TAKEN : REFUSED;
    default:
        return inside_string(s, a, byte);
    }
}

static outcome begin_item(const glm4v_schema *s, glm4v_automaton *a)
{
    glm4v_open_value *v = top(a);
    v->phase = ARRAY_ITEM;
    push(s, a, node_of(s, v)->first);
    return AGAIN;
}

static outcome step_array(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    const bool enough = v->count >= node_of(s, v)->least;
    switch (v->phase) {
    case BEFORE:
        v->phase = ARRAY_OPENED;
        return byte == '[' ? TAKEN : REFUSED;
    case ARRAY_OPENED:
    case ARRAY_BEHIND_ITEM:
        if (byte == ']' && enough) {
            pop(s, a);
            return TAKEN;
        }
        if (!has_room(s, v) || byte == ']')
            return REFUSED;
        if (v->phase == ARRAY_OPENED)
            return begin_item(s, a);
        v->phase = ARRAY_COMMA;
        return byte == ',' ? TAKEN : REFUSED;
    default:
        return begin_item(s, a);
    }
}

static outcome step_key(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    const int32_t end = candidates_end(s, v);
    for (int32_t i = v->count; i < end; i++)
        if (fits(s, v, i) && key_byte(s, v, i) == byte) {
            v->key = (int16_t)i;
            if (++v->typed == property(s, v, i)->key_len) {
                v->phase = OBJECT_VALUE;
                v->typed = 0;
                push(s, a, property(s, v, i)->value);
            }
            return TAKEN;
        }
    return REFUSED;
}

static outcome step_object(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    glm4v_open_value *v = top(a);
    switch (v->phase) {
    case BEFORE:
        v->phase = OBJECT_OPENED;
        return byte == '{' ? TAKEN : REFUSED;
    case OBJECT_OPENED:
    case OBJECT_BEHIND_VALUE:
        if (byte == '}' && !lacks_some(s, v)) {
            pop(s, a);
            return TAKEN;
        }
        if (v->count == node_of(s, v)->n)
            return REFUSED;
        if (v->phase == OBJECT_OPENED) {
            begin_key(v);
            return AGAIN;
        }
        v->phase = OBJECT_COMMA;
        return byte == ',' ? TAKEN : REFUSED;
    case OBJECT_COMMA:
        begin_key(v);
        return AGAIN;
    default:
        return step_key(s, a, byte);
    }
}

static outcome step_union(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    const glm4v_schema_node *n = node_of(s, top(a));
    for (int32_t i = 0; i < n->n; i++) {
        const int32_t alternative = s->alternatives[n->first + i];
        if (begins_with(s, alternative, byte)) {
            a->n--;
            push(s, a, alternative);
            return AGAIN;
        }
    }
    return REFUSED;
}

bool glm4v_automaton_step(const glm4v_schema *s, glm4v_automaton *a, unsigned char byte)
{
    static outcome (*const steps[])(const glm4v_schema *, glm4v_automaton *, unsigned char) = {
        [GLM4V_SCHEMA_LITERAL] = step_literal, [GLM4V_SCHEMA_STRING] = step_string,
        [GLM4V_SCHEMA_NUMBER] = step_number,   [GLM4V_SCHEMA_ARRAY] = step_array,
        [GLM4V_SCHEMA_OBJECT] = step_object,   [GLM4V_SCHEMA_UNION] = step_union,
    };
    outcome o = AGAIN;
    while (o == AGAIN && a->n)
        o = steps[node_of(s, top(a))->kind](s, a, byte);
    return o == TAKEN;
}

/* ---- ends ---- */

/* May the innermost value end without a byte of its own? */
static bool may_close(const glm4v_schema *s, const glm4v_open_value *v)
{
    const glm4v_schema_node *n = node_of(s, v);
    if (n->kind == GLM4V_SCHEMA_LITERAL)
        return !s->literals.nodes[v->count].rest;
    return n->kind == GLM4V_SCHEMA_NUMBER && !n->number->states[v->count].rest;
}

bool glm4v_automaton_may_end(const glm4v_schema *s, const glm4v_automaton *a)
{
    return !a->n || (a->n == 1 && may_close(s, &a->open[0]));
}

/* ---- the shortest way on ---- */

/* The innermost value that a byte of the shortest completion belongs to, with what has ended in it;
 * false: the answer may end. */
static bool settle(const glm4v_schema *s, const glm4v_automaton *a, glm4v_open_value *v)
{
    if (glm4v_automaton_may_end(s, a))
        return false;
    *v = a->open[a->n - 1];
    if (may_close(s, v)) {
        *v = a->open[a->n - 2];
        behind(s, v);
    }
    return true;
}

static int first_byte(const glm4v_schema *s, int32_t node)
{
    const glm4v_schema_node *n = &s->nodes[node];
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return s->literals.nodes[s->literals.nodes[n->first].shortest].byte;
    case GLM4V_SCHEMA_NUMBER:
        return "0123456789.-"[n->number->states[0].shortest];
    case GLM4V_SCHEMA_STRING:
        return '"';
    case GLM4V_SCHEMA_ARRAY:
        return '[';
    case GLM4V_SCHEMA_OBJECT:
        return '{';
    case GLM4V_SCHEMA_UNION:
        return first_byte(s, s->alternatives[n->first]);
    }
    return -1;
}

static int shortest_string(const glm4v_schema *s, const glm4v_automaton *a,
                           const glm4v_open_value *v)
{
    if (v->phase == BEFORE)
        return '"';
    if (v->phase == STRING_ESCAPE)
        return 'n';
    if (a->missing)
        return a->low;
    return v->count < node_of(s, v)->least ? PAD : '"';
}

static int shortest_array(const glm4v_schema *s, const glm4v_open_value *v)
{
    const glm4v_schema_node *n = node_of(s, v);
    switch (v->phase) {
    case BEFORE:
        return '[';
    case ARRAY_OPENED:
        return v->count < n->least ? first_byte(s, n->first) : ']';
    case ARRAY_BEHIND_ITEM:
        return v->count < n->least ? ',' : ']';
    default:
        return first_byte(s, n->first);
    }
}

static int shortest_object(const glm4v_schema *s, const glm4v_open_value *v)
{
    switch (v->phase) {
    case BEFORE:
        return '{';
    case OBJECT_OPENED:
        return lacks_some(s, v) ? '"' : '}';
    case OBJECT_BEHIND_VALUE:
        return lacks_some(s, v) ? ',' : '}';
    case OBJECT_COMMA:
        return '"';
    default:
        return key_byte(s, v, nearest_key(s, v));
    }
}

int glm4v_automaton_shortest(const glm4v_schema *s, const glm4v_automaton *a)
{
    glm4v_open_value v;
    if (!settle(s, a, &v))
        return -1;
    const glm4v_schema_node *n = node_of(s, &v);
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return s->literals.nodes[s->literals.nodes[v.count].shortest].byte;
    case GLM4V_SCHEMA_NUMBER:
        return "0123456789.-"[n->number->states[v.count].shortest];
    case GLM4V_SCHEMA_STRING:
        return shortest_string(s, a, &v);
    case GLM4V_SCHEMA_ARRAY:
        return shortest_array(s, &v);
    case GLM4V_SCHEMA_OBJECT:
        return shortest_object(s, &v);
    case GLM4V_SCHEMA_UNION:
        return first_byte(s, s->alternatives[n->first]);
    }
    return -1;
}

/* Bytes of the items that an array still needs, and of its end; `comma`: one stands before each. */
static int64_t rest_of_items(const glm4v_schema *s, const glm4v_open_value *v, bool comma)
{
    const glm4v_schema_node *n = node_of(s, v);
    const int64_t needed = n->least > v->count ? n->least - v->count : 0;
    return needed ? needed * (1 + s->nodes[n->first].cost) + comma : 1;
}

static int64_t rest_of_array(const glm4v_schema *s, const glm4v_open_value *v)
{
    glm4v_open_value after = *v;
    switch (v->phase) {
    case BEFORE:
        return node_of(s, v)->cost;
    case ARRAY_OPENED:
        return rest_of_items(s, v, false);
    case ARRAY_COMMA: /* an item comes, needed or not */
        after.count++;
        return s->nodes[node_of(s, v)->first].cost + rest_of_items(s, &after, true);
    case ARRAY_ITEM: /* around the item that is open */
        after.count++;
        return rest_of_items(s, &after, true);
    default:
        return rest_of_items(s, v, true);
    }
}

static int64_t rest_of_object(const glm4v_schema *s, const glm4v_open_value *v)
{
    glm4v_open_value key = *v;
    const int64_t need = property(s, v, v->count)->need;
    switch (v->phase) {
    case BEFORE:
        return node_of(s, v)->cost;
    case OBJECT_OPENED:
        return need - (need > 0) + 1;
    case OBJECT_BEHIND_VALUE:
        return need + 1;
    case OBJECT_VALUE: /* around the value that is open */
        return property(s, v, v->key + 1)->need + 1;
    case OBJECT_COMMA:
        begin_key(&key);
        return key_cost(s, &key, nearest_key(s, &key));
    default:
        return key_cost(s, v, nearest_key(s, v));
    }
}

static int64_t rest_of_string(const glm4v_schema *s, const glm4v_automaton *a,
                              const glm4v_open_value *v)
{
    const bool begun = a->missing || v->phase == STRING_ESCAPE;
    const int64_t count = v->count + begun, least = node_of(s, v)->least;
    return a->missing + (v->phase == STRING_ESCAPE) + (v->phase == BEFORE) +
           (least > count ? least - count : 0) + 1;
}

static int64_t rest_of(const glm4v_schema *s, const glm4v_automaton *a, const glm4v_open_value *v)
{
    const glm4v_schema_node *n = node_of(s, v);
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return s->literals.nodes[v->count].rest;
    case GLM4V_SCHEMA_NUMBER:
        return n->number->states[v->count].rest;
    case GLM4V_SCHEMA_STRING:
        return rest_of_string(s, a, v);
    case GLM4V_SCHEMA_ARRAY:
        return rest_of_array(s, v);
    case GLM4V_SCHEMA_OBJECT:
        return rest_of_object(s, v);
    case GLM4V_SCHEMA_UNION:
        return n->cost;
    }
    return 0;
}

int64_t glm4v_automaton_rest(const glm4v_schema *s, const glm4v_automaton *a)
{
    int64_t rest = 0;
    for (int32_t i = 0; i < a->n; i++)
        rest += rest_of(s, a, &a->open[i]);
    return rest;
}

/* ---- what is forced ---- */

static int forced_literal(const glm4v_schema *s, int32_t at)
{
    const glm4v_literal_node *nodes = s->literals.nodes;
    const int32_t child = nodes[at].child;
    return nodes[at].rest && child && !nodes[child].sibling ? nodes[child].byte : -1;
}

static int forced_number(const glm4v_number_state *state)
{
    int only = -1;
    for (int i = 0; i < GLM4V_NUMBER_SYMBOLS && state->rest; i++)
        if (state->next[i] >= 0) {
            if (only >= 0)
                return -1;
            only = "0123456789.-"[i];
        }
    return only;
}

/* The only byte that a value can begin with. */
static int forced_first(const glm4v_schema *s, int32_t node)
{
    const glm4v_schema_node *n = &s->nodes[node];
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return forced_literal(s, n->first);
    case GLM4V_SCHEMA_NUMBER:
        return forced_number(&n->number->states[0]);
    case GLM4V_SCHEMA_UNION:
        return -1;
    case GLM4V_SCHEMA_STRING:
    case GLM4V_SCHEMA_ARRAY:
    case GLM4V_SCHEMA_OBJECT:
        break;
    }
    return first_byte(s, node);
}

static int forced_string(const glm4v_schema *s, const glm4v_automaton *a, const glm4v_open_value *v)
{
    if (v->phase == BEFORE)
        return '"';
    return v->phase == STRING_INSIDE && !a->missing && !has_room(s, v) ? '"' : -1;
}

static int forced_array(const glm4v_schema *s, const glm4v_open_value *v)
{
    const glm4v_schema_node *n = node_of(s, v);
    const bool enough = v->count >= n->least;
    switch (v->phase) {
    case BEFORE:
        return '[';
    case ARRAY_OPENED:
        if (!has_room(s, v))
            return ']';
        return enough ? -1 : forced_first(s, n->first);
    case ARRAY_BEHIND_ITEM:
        if (!has_room(s, v))
            return ']';
        return enough ? -1 : ',';
    default:
        return forced_first(s, n->first);
    }
}

static int forced_key(const glm4v_schema *s, const glm4v_open_value *v)
{
    const int32_t end = candidates_end(s, v);
    int only = -1;
    for (int32_t i = v->count; i < end; i++)
        if (fits(s, v, i)) {
            const int byte = key_byte(s, v, i);
            if (only >= 0 && byte != only)
                return -1;
            only = byte;
        }
    return only;
}

static int forced_object(const glm4v_schema *s, const glm4v_open_value *v)
{
    const bool more = v->count < node_of(s, v)->n;
    switch (v->phase) {
    case BEFORE:
        return '{';
    case OBJECT_OPENED:
        if (!more)
            return '}';
        return lacks_some(s, v) ? '"' : -1;
    case OBJECT_BEHIND_VALUE:
        if (!more)
            return '}';
        return lacks_some(s, v) ? ',' : -1;
    case OBJECT_COMMA:
        return '"';
    default:
        return forced_key(s, v);
    }
}

int glm4v_automaton_forced(const glm4v_schema *s, const glm4v_automaton *a)
{
    if (!a->n)
        return -1;
    const glm4v_open_value *v = &a->open[a->n - 1];
    const glm4v_schema_node *n = node_of(s, v);
    switch (n->kind) {
    case GLM4V_SCHEMA_LITERAL:
        return forced_literal(s, v->count);
    case GLM4V_SCHEMA_NUMBER:
        return forced_number(&n->number->states[v->count]);
    case GLM4V_SCHEMA_STRING:
        return forced_string(s, a, v);
    case GLM4V_SCHEMA_ARRAY:
        return forced_array(s, v);
    case GLM4V_SCHEMA_OBJECT:
        return forced_object(s, v);
    case GLM4V_SCHEMA_UNION:
        break;
    }
    return -1;
}

/* ---- strings ---- */

bool glm4v_automaton_in_string(const glm4v_schema *s, const glm4v_automaton *a, int64_t *room,
                               int64_t *lacks)
{
    if (!a->n || a->missing)
        return false;
    const glm4v_open_value *v = &a->open[a->n - 1];
    const glm4v_schema_node *n = node_of(s, v);
    if (n->kind != GLM4V_SCHEMA_STRING || v->phase != STRING_INSIDE)
        return false;
    *room = n->most < 0 ? INT64_MAX : n->most - v->count;
    *lacks = n->least > v->count ? n->least - v->count : 0;
    return true;
}

bool glm4v_automaton_same_string(const glm4v_automaton *a, const glm4v_automaton *b,
                                 int64_t *characters)
{
    const glm4v_open_value *x = &a->open[a->n - 1], *y = &b->open[b->n - 1];
    if (a->n != b->n || y->phase != STRING_INSIDE || x->node != y->node || b->missing ||
        memcmp(a->open, b->open, (a->n - 1) * sizeof *a->open))
        return false;
    *characters = y->count - x->count;
    return true;
}

static bool within_character(const glm4v_schema *s, const glm4v_automaton *a)
{
    if (!a->n)
        return false;
    const glm4v_open_value *v = &a->open[a->n - 1];
    return a->missing || (node_of(s, v)->kind == GLM4V_SCHEMA_STRING && v->phase == STRING_ESCAPE);
}

int64_t glm4v_automaton_end_character(const glm4v_schema *s, glm4v_automaton *a)
{
    int64_t n = 0;
    for (; within_character(s, a); n++)
        glm4v_automaton_step(s, a, (unsigned char)glm4v_automaton_shortest(s, a));
    return n;
}

/* ---- states that are alike ---- */

uint64_t glm4v_automaton_hash(const glm4v_automaton *a)
{
    const unsigned char *bytes = (const unsigned char *)a;
    const size_t n = glm4v_automaton_size(a);
    uint64_t hash = 0, word;
    for (size_t i = 0; i < n; i += sizeof word) {
        word = 0;
        memcpy(&word, bytes + i, n - i < sizeof word ? n - i : sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return hash;
}

void glm4v_automaton_forget(const glm4v_schema *s, glm4v_automaton *a, int64_t bytes)
{
    for (int32_t i = 0; i < a->n; i++) {
        glm4v_open_value *v = &a->open[i];
        const glm4v_schema_node *n = node_of(s, v);
        const bool counts = n->kind == GLM4V_SCHEMA_STRING || n->kind == GLM4V_SCHEMA_ARRAY;
        if (counts && v->count > n->least && (n->most < 0 || n->most - v->count > bytes))
            v->count = (int32_t)n->least;
    }
}
