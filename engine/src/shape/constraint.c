/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Masks of tokens from the automaton of a schema and the trie of a vocabulary. The trie is walked
 * together with the automaton, which cuts it off early, but in a string: there the tokens of whole
 * plain characters are set from a list, and only the others are walked through. What was found for
 * a state is kept for all requests of the schema, where the budget did not matter.
 *
 * How many tokens a completion takes is found for the one with the fewest bytes, cut into the
 * fewest tokens; where its bytes alone fit, that is enough to know. Used by token.c. */
#include "shape/constraint.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "shape/completion.h"
#include "tokenizer/tokenizer_priv.h"

#define MOST_FORCED 256   /* bytes that are forced at a time */
#define WORTH_KEEPING 256 /* nodes of a trie that a mask took */

struct glm4v_constraint {
    glm4v_shape *shape;
    const glm4v_schema *schema; /* the shape's */
    const glm4v_token_tries *tries;
    const glm4v_tokenizer *tokenizer;
    glm4v_constraint_place at; /* the answer so far */
    int64_t shortest;          /* tokens of the shortest answer */
    glm4v_completion plan;     /* from the state of the answer */
    glm4v_completer completer;
    uint64_t *never;
    /* [longest + 1] along the path through the trie */
    glm4v_automaton *path;
    int32_t *ends;    /* of the nodes on it */
    int32_t *planned; /* bytes in which it agrees with the plan */
    glm4v_ids encoded;
    glm4v_bpe bpe;
};

/* ---- masks ---- */

/* A mask that is being made. */
typedef struct {
    glm4v_budget room;  /* of tokens, behind the next one; of bytes, from the state on */
    glm4v_budget least; /* room that all tokens that were let through need */
    bool refused;       /* there was one that did not fit */
    bool planned;       /* the plan was made */
    bool string;        /* the state is in a string, which lacks characters: */
    int64_t lacks;
    int64_t nodes; /* of the trie that were looked at */
} maker;

static void allow(glm4v_constraint *c, int32_t id)
{
    c->never[id / 64] &= ~((uint64_t)1 << (id % 64));
}

/* Tokens from a on to the end. In the string of the state the plan knows them, whatever stands in
 * it. */
static int64_t tokens_behind(glm4v_constraint *c, const maker *m, const glm4v_automaton *a)
{
    int64_t characters;
    if (m->planned && m->string && glm4v_automaton_same_string(&c->at.state, a, &characters))
        return c->plan.tokens[characters < m->lacks ? characters : m->lacks];
    return glm4v_tokens_to_end(&c->completer, a);
}

/* Can the answer be completed behind a token of len bytes that leads to a? planned: the token
 * belongs to the plan. */
static bool fits(glm4v_constraint *c, maker *m, const glm4v_automaton *a, int64_t len, bool planned)
{
    const int64_t rest = glm4v_automaton_rest(c->schema, a);
    bool fit = len + rest <= m->room.bytes;
    if (fit && rest > m->room.tokens)
        fit = (planned ? c->plan.tokens[len] : tokens_behind(c, m, a)) <= m->room.tokens;
    m->refused |= !fit;
    m->least.tokens = rest > m->least.tokens ? rest : m->least.tokens;
    m->least.bytes = len + rest > m->least.bytes ? len + rest : m->least.bytes;
    return fit;
}

/* All tokens of a trie that the automaton follows. */
static void walk(glm4v_constraint *c, const glm4v_trie *trie, maker *m)
{
    int32_t depth = 0;
    memcpy(&c->path[0], &c->at.state, glm4v_automaton_size(&c->at.state));
    c->ends[0] = trie->n;
    c->planned[0] = 0;
    for (int32_t i = 1; i < trie->n; m->nodes++) {
        const glm4v_trie_node *node = &trie->nodes[i];
        while (i >= c->ends[depth])
            depth--;
        glm4v_automaton *a = &c->path[depth + 1];
        memcpy(a, &c->path[depth], glm4v_automaton_size(&c->path[depth]));
        if (!glm4v_automaton_step(c->schema, a, node->byte)) {
            i = node->end;
            continue;
        }
        const bool planned = m->planned && c->planned[depth] == depth && depth < c->plan.n &&
                             c->plan.text[depth] == node->byte;
        c->planned[depth + 1] = c->planned[depth] + planned;
        if (node->id >= 0 && fits(c, m, a, depth + 1, planned))
            allow(c, node->id);
        c->ends[++depth] = node->end;
        i++;
    }
}

/* Plain tokens of `from` to `to` characters. */
static void allow_plain(glm4v_constraint *c, int64_t from, int64_t to)
{
    const glm4v_token_tries *t = c->tries;
    const int64_t longest = t->longest_plain;
    if (from == 1 && to > 0) {
        const int64_t at_once = to < GLM4V_PLAIN_SETS || to == longest ? to : GLM4V_PLAIN_SETS;
        const uint64_t *set = glm4v_plain_set(t, at_once);
        const int64_t words = t->n_ids / 64 + 1;
        for (int64_t i = 0; i < words; i++)
            c->never[i] &= ~set[i];
        from = at_once + 1;
    }
    for (int32_t i = from <= to ? t->plain_start[from] : 0;
         from <= to && i < t->plain_start[to + 1]; i++)
        allow(c, t->plain[i]);
}

/* Does the answer fit behind n plain characters? */
static bool fits_plain(const glm4v_constraint *c, const maker *m, int64_t rest, int64_t n)
{
    const int64_t filled = n < m->lacks ? n : m->lacks;
    return rest - filled <= m->room.tokens ||
           (m->planned && c->plan.tokens[filled] <= m->room.tokens);
}

/* In a string the plain tokens are a list by length; the longer ones leave less to be done, but
 * need more bytes: four a character at most. */
static void walk_string(glm4v_constraint *c, maker *m, int64_t room)
{
    const int64_t longest = c->tries->longest_plain, most = room < longest ? room : longest;
    const int64_t rest = glm4v_automaton_rest(c->schema, &c->at.state);
    int64_t from = 1, to = (m->room.bytes - rest) / 4;
    while (from <= most && from <= m->lacks && !fits_plain(c, m, rest, from))
        from++;
    if (from <= most && !fits_plain(c, m, rest, from))
        from = most + 1;
    to = to < most ? to : most;
    m->refused |= from > 1 || to < most;
    m->least.tokens = rest > m->least.tokens ? rest : m->least.tokens;
    m->least.bytes = rest + 4 * most;
    allow_plain(c, from, to);
    walk(c, &c->tries->rest, m);
}

/* The first token of the plan that leaves the fewest behind it. */
static void allow_plan(glm4v_constraint *c)
{
    const glm4v_trie *trie = &c->tries->all;
    int32_t node = 0;
    for (int64_t i = 0; i < c->plan.n; i++) {
        node = glm4v_trie_next(trie, node, c->plan.text[i]);
        if (!node)
            return;
        if (trie->nodes[node].id >= 0 && c->plan.tokens[i + 1] == c->plan.tokens[0] - 1)
            allow(c, trie->nodes[node].id);
    }
}

/* The mask of the state, by looking. */
static void make_mask(glm4v_constraint *c, maker *m, const int32_t *stop_ids, int64_t n_stop_ids)
{
    const int64_t rest = glm4v_automaton_rest(c->schema, &c->at.state);
    int64_t room = 0;
    m->string = glm4v_automaton_in_string(c->schema, &c->at.state, &room, &m->lacks);
    m->planned = (rest > m->room.tokens || rest + 4 * c->tries->longest > m->room.bytes) &&
                 glm4v_complete(&c->completer, &c->plan, &c->at.state);
    if (m->string)
        walk_string(c, m, room);
    else
        walk(c, &c->tries->all, m);
    if (m->planned)
        allow_plan(c);
    for (int64_t i = 0; glm4v_constraint_may_end(c) && i < n_stop_ids; i++)
        allow(c, stop_ids[i]);
}

const uint64_t *glm4v_constraint_never(glm4v_constraint *c, int64_t left, const int32_t *stop_ids,
                                       int64_t n_stop_ids)
{
    const size_t words = c->tries->n_ids / 64 + 1;
    maker m = { .room = { left - 1, GLM4V_MAX_ANSWER_BYTES - c->at.bytes } };
    glm4v_automaton state;
    memset(&state, 0, sizeof state);
    memcpy(&state, &c->at.state, glm4v_automaton_size(&c->at.state));
    glm4v_automaton_forget(c->schema, &state, c->tries->longest);
    const uint64_t *known = glm4v_mask_cache_get(c->shape->masks, &state, &m.room);
    if (known) {
        memcpy(c->never, known, words * sizeof *c->never);
        return c->never;
    }
    memset(c->never, 0xFF, words * sizeof *c->never);
    make_mask(c, &m, stop_ids, n_stop_ids);
    if (!m.refused && (m.string || m.nodes > WORTH_KEEPING))
        glm4v_mask_cache_put(c->shape->masks, &state, &m.least, c->never);
    return c->never;
}

/* ---- forced tokens ---- */

/* May a token that stands on node go on with what may follow a? */
static bool may_grow(const glm4v_constraint *c, const glm4v_automaton *a, int32_t node)
{
    const glm4v_trie *trie = &c->tries->all;
    for (int32_t child = node + 1; child < trie->nodes[node].end; child = trie->nodes[child].end) {
        glm4v_automaton next = *a;
        if (glm4v_automaton_step(c->schema, &next, trie->nodes[child].byte))
            return true;
    }
    return false;
}

/* How many of the encoded tokens stand whatever follows the text [0, n), which leads to a. */
static int64_t settled(const glm4v_constraint *c, const unsigned char *text, int64_t n,
                       const glm4v_automaton *a)
{
    int64_t at = 0, i = 0;
    for (; i < (int64_t)c->encoded.n; i++) {
        size_t len;
        int32_t node = 0;
        for (int64_t k = at; k < n && (k == at || node); k++)
            node = glm4v_trie_next(&c->tries->all, node, text[k]);
        if (node && may_grow(c, a, node))
            break;
        glm4v_tokenizer_bytes(c->tokenizer, c->encoded.ids[i], &len);
        at += len;
    }
    return i;
}

/* The bytes that must come next, whole characters. */
static int64_t forced_text(const glm4v_constraint *c, unsigned char *text)
{
    glm4v_automaton a = c->at.state;
    int64_t n = 0;
    size_t bad;
    for (int byte; n < MOST_FORCED && (byte = glm4v_automaton_forced(c->schema, &a)) >= 0;) {
        text[n++] = (unsigned char)byte;
        glm4v_automaton_step(c->schema, &a, (unsigned char)byte);
    }
    return glm4v_utf8_valid((const char *)text, (size_t)n, &bad) ? n : (int64_t)bad;
}

/* Does the answer fit behind the first n encoded tokens? */
static bool fits_behind(glm4v_constraint *c, int64_t n, int64_t left)
{
    glm4v_automaton a = c->at.state;
    for (int64_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(c->tokenizer, c->encoded.ids[i], &len);
        for (size_t k = 0; k < len; k++)
            glm4v_automaton_step(c->schema, &a, (unsigned char)bytes[k]);
    }
    return glm4v_automaton_rest(c->schema, &a) <= left ||
           glm4v_tokens_to_end(&c->completer, &a) <= left;
}

int64_t glm4v_constraint_forced(glm4v_constraint *c, int64_t left, int32_t *ids, int64_t most)
{
    unsigned char text[MOST_FORCED];
    const int64_t n_text = forced_text(c, text);
    glm4v_automaton a = c->at.state;
    c->encoded.n = 0;
    if (!n_text || glm4v_encode_with(c->tokenizer, &c->bpe, (const char *)text, (size_t)n_text,
                                     &c->encoded, NULL))
        return 0;
    for (int64_t i = 0; i < n_text; i++)
        glm4v_automaton_step(c->schema, &a, text[i]);
    int64_t n = a.n ? settled(c, text, n_text, &a) : (int64_t)c->encoded.n;
    n = n < most ? n : most;
    if (n > left || !fits_behind(c, n, left - n))
        return 0;
    memcpy(ids, c->encoded.ids, n * sizeof *ids);
    return n;
}

/* ---- the answer ---- */

void glm4v_constraint_take(glm4v_constraint *c, int32_t id)
{
    size_t len;
    const char *bytes = glm4v_tokenizer_bytes(c->tokenizer, id, &len);
    for (size_t i = 0; i < len; i++)
        glm4v_automaton_step(c->schema, &c->at.state, (unsigned char)bytes[i]);
    c->at.bytes += len;
}

glm4v_constraint_place glm4v_constraint_stands(const glm4v_constraint *c)
{
    return c->at;
}

void glm4v_constraint_go_back(glm4v_constraint *c, const glm4v_constraint_place *place)
{
    c->at = *place;
}

bool glm4v_constraint_done(const glm4v_constraint *c)
{
    return !c->at.state.n;
}

bool glm4v_constraint_may_end(const glm4v_constraint *c)
{
    return glm4v_automaton_may_end(c->schema, &c->at.state);
}

int64_t glm4v_constraint_shortest(const glm4v_constraint *c)
{
    return c->shortest;
}

/* Scratch of the tokenizer, so that forced tokens take no memory later. */
static int warm_up(glm4v_constraint *c, glm4v_error *err)
{
    char text[MOST_FORCED];
    memset(text, 'a', sizeof text);
    return glm4v_encode_with(c->tokenizer, &c->bpe, text, sizeof text, &c->encoded, err);
}

/* Bytes of the longest completion that can fit. */
static int64_t capacity_of(const glm4v_token_tries *tries, int64_t max_tokens)
{
    const int64_t most = max_tokens * tries->longest;
    return most < GLM4V_MAX_ANSWER_BYTES ? most : GLM4V_MAX_ANSWER_BYTES;
}

uint64_t glm4v_constraint_bytes(const glm4v_token_tries *tries, int64_t max_tokens)
{
    const uint64_t longest = tries->longest + 2;
    return sizeof(glm4v_constraint) + ((uint64_t)tries->n_ids / 64 + 1) * sizeof(uint64_t) +
           longest * (sizeof(glm4v_automaton) + 2 * sizeof(int32_t)) +
           glm4v_completer_bytes(capacity_of(tries, max_tokens)) +
           glm4v_completion_bytes(capacity_of(tries, max_tokens));
}

static int open_scratch(glm4v_constraint *c, int64_t max_tokens, glm4v_error *err)
{
    const size_t longest = c->tries->longest + 2;
    const int64_t capacity = capacity_of(c->tries, max_tokens);
    c->never = glm4v_alloc(c->tries->n_ids / 64 + 1, sizeof *c->never);
    c->path = glm4v_alloc(longest, sizeof *c->path);
    c->ends = glm4v_alloc(longest, sizeof *c->ends);
    c->planned = glm4v_alloc(longest, sizeof *c->planned);
    if (!c->never || !c->path || !c->ends || !c->planned)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer of %" PRId64 " bytes",
                          capacity);
    int rc = glm4v_completer_open(&c->completer, c->schema, &c->tries->all, capacity, err);
    if (!rc)
        rc = glm4v_completion_open(&c->plan, capacity, err);
    return rc ? rc : warm_up(c, err);
}

int glm4v_constraint_open(glm4v_constraint **constraint, glm4v_shape *shape,
                          const glm4v_tokenizer *tokenizer, int64_t max_tokens, glm4v_error *err)
{
    glm4v_constraint *c = glm4v_alloc(1, sizeof *c);
    if (!c) {
        glm4v_shape_close(&shape);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a schema");
    }
    c->shape = shape;
    c->schema = shape->schema;
    c->tries = shape->tries;
    c->tokenizer = tokenizer;
    int rc = open_scratch(c, max_tokens, err);
    if (!rc) {
        c->at.state = glm4v_automaton_start(c->schema);
        c->shortest = glm4v_tokens_to_end(&c->completer, &c->at.state);
        if (c->shortest > max_tokens)
            rc = glm4v_fail(err, GLM4V_ERR_INVALID,
                            "json_schema: the shortest answer has %" PRId64
                            " bytes and does not fit max_tokens, which is %" PRId64 ": raise it",
                            glm4v_automaton_rest(c->schema, &c->at.state), max_tokens);
    }
    if (rc)
        glm4v_constraint_close(&c);
    else
        *constraint = c;
    return rc;
}

void glm4v_constraint_close(glm4v_constraint **constraint)
{
    glm4v_constraint *c = *constraint;
    if (!c)
        return;
    glm4v_shape_close(&c->shape);
    glm4v_completer_close(&c->completer);
    glm4v_completion_close(&c->plan);
    glm4v_free(c->never);
    glm4v_free(c->path);
    glm4v_free(c->ends);
    glm4v_free(c->planned);
    glm4v_free(c->encoded.ids);
    glm4v_bpe_clear(&c->bpe);
    glm4v_free(c);
    *constraint = NULL;
}
