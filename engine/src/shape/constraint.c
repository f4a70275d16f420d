/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Masks of tokens from the automaton of a schema and the trie of a vocabulary. The trie is walked
 * together with the automaton, which cuts it off early, but in a string: there the tokens of whole
 * plain characters are set from a list, and only the others are walked through.
 *
 * How many tokens a completion takes is found for the one with the fewest bytes, cut into the
 * fewest tokens; where its bytes alone fit, that is enough to know. Used by token.c. */
#include "shape/constraint.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer_priv.h"

#define MOST_FORCED 256 /* bytes that are forced at a time */
#define MEMOS 64        /* states whose completions are remembered within a mask */

/* A shortest completion. */
typedef struct {
    unsigned char *text; /* [n] */
    int32_t *tokens;     /* [n + 1] fewest tokens from each byte on */
    int64_t n;
} completion;

typedef struct {
    glm4v_automaton state;
    int64_t tokens;
} memo;

struct glm4v_constraint {
    glm4v_schema *schema;
    const glm4v_token_tries *tries;
    const glm4v_tokenizer *tokenizer;
    glm4v_automaton state;
    int64_t bytes;          /* of the answer so far */
    int64_t shortest;       /* tokens of the shortest answer */
    int64_t capacity;       /* bytes of a completion that may fit */
    completion plan, other; /* from the state of the answer; from one that is looked at */
    uint64_t *never;
    /* [longest + 1] along the path through the trie */
    glm4v_automaton *path;
    int32_t *ends;    /* of the nodes on it */
    int32_t *planned; /* bytes in which it agrees with the plan */
    memo memos[MEMOS];
    int32_t n_memos, next_memo;
    glm4v_ids encoded;
    glm4v_bpe bpe;
};

/* ---- completions ---- */

/* The shortest completion of a state, `room` bytes at most; false: it is longer. */
static bool complete(const glm4v_constraint *c, completion *out, const glm4v_automaton *from)
{
    glm4v_automaton a = *from;
    const glm4v_trie *trie = &c->tries->all;
    out->n = 0;
    if (glm4v_automaton_rest(c->schema, from) > c->capacity)
        return false;
    for (int byte; (byte = glm4v_automaton_shortest(c->schema, &a)) >= 0;) {
        out->text[out->n++] = (unsigned char)byte;
        glm4v_automaton_step(c->schema, &a, (unsigned char)byte);
    }
    out->tokens[out->n] = 0;
    for (int64_t i = out->n; i-- > 0;) {
        int32_t node = 0;
        out->tokens[i] = INT32_MAX;
        for (int64_t k = i; k < out->n; k++) {
            node = glm4v_trie_next(trie, node, out->text[k]);
            if (!node)
                break;
            if (trie->nodes[node].id >= 0 && out->tokens[k + 1] < out->tokens[i] - 1)
                out->tokens[i] = out->tokens[k + 1] + 1;
        }
    }
    return true;
}

/* Tokens of the shortest completion of a state. */
static int64_t tokens_to_end(glm4v_constraint *c, const glm4v_automaton *a)
{
    for (int32_t i = 0; i < c->n_memos; i++)
        if (!memcmp(&c->memos[i].state, a, glm4v_automaton_size(a)))
            return c->memos[i].tokens;
    memo *m = &c->memos[c->next_memo];
    m->state = *a;
    m->tokens = complete(c, &c->other, a) ? c->other.tokens[0] : INT64_MAX;
    c->next_memo = (c->next_memo + 1) % MEMOS;
    c->n_memos += c->n_memos < MEMOS;
    return m->tokens;
}

/* ---- masks ---- */

typedef struct {
    int64_t left;  /* tokens that may come behind the next one */
    int64_t bytes; /* likewise, from the state on */
    bool planned;  /* the plan was made */
} budget;

static void allow(glm4v_constraint *c, int32_t id)
{
    c->never[id / 64] &= ~((uint64_t)1 << (id % 64));
}

/* Can the answer be completed behind a token of len bytes that leads to a? planned: the token
 * belongs to the plan. */
static bool fits(glm4v_constraint *c, const budget *b, const glm4v_automaton *a, int64_t len,
                 bool planned)
{
    const int64_t rest = glm4v_automaton_rest(c->schema, a);
    if (len + rest > b->bytes)
        return false;
    if (rest <= b->left)
        return true;
    return (planned ? c->plan.tokens[len] : tokens_to_end(c, a)) <= b->left;
}

/* All tokens of a trie that the automaton follows. */
static void walk(glm4v_constraint *c, const glm4v_trie *trie, const budget *b)
{
    int32_t depth = 0;
    memcpy(&c->path[0], &c->state, glm4v_automaton_size(&c->state));
    c->ends[0] = trie->n;
    c->planned[0] = 0;
    for (int32_t i = 1; i < trie->n;) {
        const glm4v_trie_node *node = &trie->nodes[i];
        while (i >= c->ends[depth])
            depth--;
        glm4v_automaton *a = &c->path[depth + 1];
        memcpy(a, &c->path[depth], glm4v_automaton_size(&c->path[depth]));
        if (!glm4v_automaton_step(c->schema, a, node->byte)) {
            i = node->end;
            continue;
        }
        const bool planned = b->planned && c->planned[depth] == depth && depth < c->plan.n &&
                             c->plan.text[depth] == node->byte;
        c->planned[depth + 1] = c->planned[depth] + planned;
        if (node->id >= 0 && fits(c, b, a, depth + 1, planned))
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
    to = to < longest ? to : longest;
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

/* In a string the plain tokens are a list by length; the longer ones leave less to be done. */
static void walk_string(glm4v_constraint *c, const budget *b, int64_t room, int64_t lacks)
{
    int64_t from = 1, most = room < c->tries->longest_plain ? room : c->tries->longest_plain;
    for (; from <= most; from++) {
        glm4v_automaton a = c->state;
        glm4v_automaton_skip(&a, from);
        if (from > lacks || fits(c, b, &a, 0, false))
            break;
    }
    glm4v_automaton a = c->state;
    glm4v_automaton_skip(&a, from <= most ? from : 0);
    if (from <= most && fits(c, b, &a, 0, false)) {
        const int64_t spare = (b->bytes - glm4v_automaton_rest(c->schema, &a)) / 4;
        allow_plain(c, from, spare < most ? spare : most);
    }
    walk(c, &c->tries->rest, b);
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

const uint64_t *glm4v_constraint_never(glm4v_constraint *c, int64_t left, const int32_t *stop_ids,
                                       int64_t n_stop_ids)
{
    const int64_t rest = glm4v_automaton_rest(c->schema, &c->state);
    budget b = { .left = left - 1, .bytes = GLM4V_MAX_ANSWER_BYTES - c->bytes };
    int64_t room, lacks;
    c->n_memos = c->next_memo = 0;
    memset(c->never, 0xFF, ((size_t)c->tries->n_ids / 64 + 1) * sizeof *c->never);
    b.planned = (rest > b.left || rest + 4 * c->tries->longest > b.bytes) &&
                complete(c, &c->plan, &c->state);
    if (left > 0 && glm4v_automaton_in_string(c->schema, &c->state, &room, &lacks))
        walk_string(c, &b, room, lacks);
    else if (left > 0)
        walk(c, &c->tries->all, &b);
    if (left > 0 && b.planned)
        allow_plan(c);
    for (int64_t i = 0; glm4v_constraint_may_end(c) && i < n_stop_ids; i++)
        allow(c, stop_ids[i]);
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
        at += (int64_t)len;
    }
    return i;
}

/* The bytes that must come next, whole characters. */
static int64_t forced_text(const glm4v_constraint *c, unsigned char *text)
{
    glm4v_automaton a = c->state;
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
    glm4v_automaton a = c->state;
    for (int64_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(c->tokenizer, c->encoded.ids[i], &len);
        for (size_t k = 0; k < len; k++)
            glm4v_automaton_step(c->schema, &a, (unsigned char)bytes[k]);
    }
    return glm4v_automaton_rest(c->schema, &a) <= left || tokens_to_end(c, &a) <= left;
}

int64_t glm4v_constraint_forced(glm4v_constraint *c, int64_t left, int32_t *ids, int64_t most)
{
    unsigned char text[MOST_FORCED];
    const int64_t n_text = forced_text(c, text);
    glm4v_automaton a = c->state;
    c->encoded.n = 0;
    c->n_memos = c->next_memo = 0;
    if (!n_text || glm4v_encode_with(c->tokenizer, &c->bpe, (const char *)text, (size_t)n_text,
                                     &c->encoded, NULL))
        return 0;
    for (int64_t i = 0; i < n_text; i++)
        glm4v_automaton_step(c->schema, &a, text[i]);
    int64_t n = a.n ? settled(c, text, n_text, &a) : (int64_t)c->encoded.n;
    n = n < most ? n : most;
    if (n > left || !fits_behind(c, n, left - n))
        return 0;
    memcpy(ids, c->encoded.ids, (size_t)n * sizeof *ids);
    return n;
}

/* ---- the answer ---- */

void glm4v_constraint_take(glm4v_constraint *c, int32_t id)
{
    size_t len;
    const char *bytes = glm4v_tokenizer_bytes(c->tokenizer, id, &len);
    for (size_t i = 0; i < len; i++)
        glm4v_automaton_step(c->schema, &c->state, (unsigned char)bytes[i]);
    c->bytes += (int64_t)len;
}

bool glm4v_constraint_done(const glm4v_constraint *c)
{
    return !c->state.n;
}

bool glm4v_constraint_may_end(const glm4v_constraint *c)
{
    return glm4v_automaton_may_end(c->schema, &c->state);
}

int64_t glm4v_constraint_shortest(const glm4v_constraint *c)
{
    return c->shortest;
}

static bool open_completion(completion *out, int64_t capacity)
{
    out->text = glm4v_alloc((size_t)capacity + 1, 1);
    out->tokens = glm4v_alloc((size_t)capacity + 1, sizeof *out->tokens);
    return out->text && out->tokens;
}

/* Scratch of the tokenizer, so that forced tokens take no memory later. */
static int warm_up(glm4v_constraint *c, glm4v_error *err)
{
    char text[MOST_FORCED];
    memset(text, 'a', sizeof text);
    return glm4v_encode_with(c->tokenizer, &c->bpe, text, sizeof text, &c->encoded, err);
}

static int open_scratch(glm4v_constraint *c, int64_t max_tokens, glm4v_error *err)
{
    const size_t longest = (size_t)c->tries->longest + 2;
    const int64_t most = max_tokens * c->tries->longest;
    c->capacity = most < GLM4V_MAX_ANSWER_BYTES ? most : GLM4V_MAX_ANSWER_BYTES;
    c->never = glm4v_alloc((size_t)c->tries->n_ids / 64 + 1, sizeof *c->never);
    c->path = glm4v_alloc(longest, sizeof *c->path);
    c->ends = glm4v_alloc(longest, sizeof *c->ends);
    c->planned = glm4v_alloc(longest, sizeof *c->planned);
    if (!c->never || !c->path || !c->ends || !c->planned ||
        !open_completion(&c->plan, c->capacity) || !open_completion(&c->other, c->capacity))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer of %" PRId64 " bytes",
                          c->capacity);
    return warm_up(c, err);
}

int glm4v_constraint_open(glm4v_constraint **constraint, const char *schema,
                          const glm4v_tokenizer *tokenizer, const glm4v_token_tries *tries,
                          int64_t max_tokens, glm4v_error *err)
{
    glm4v_constraint *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a schema");
    c->tries = tries;
    c->tokenizer = tokenizer;
    int rc = glm4v_schema_open(&c->schema, schema, err);
    if (!rc)
        rc = open_scratch(c, max_tokens, err);
    if (!rc) {
        c->state = glm4v_automaton_start(c->schema);
        c->shortest = tokens_to_end(c, &c->state);
        if (c->shortest > max_tokens)
            rc = glm4v_fail(err, GLM4V_ERR_INVALID,
                            "json_schema: the shortest answer has %" PRId64
                            " bytes and does not fit max_tokens, which is %" PRId64 ": raise it",
                            glm4v_automaton_rest(c->schema, &c->state), max_tokens);
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
    glm4v_schema_close(&c->schema);
    glm4v_free(c->never);
    glm4v_free(c->path);
    glm4v_free(c->ends);
    glm4v_free(c->planned);
    glm4v_free(c->plan.text);
    glm4v_free(c->plan.tokens);
    glm4v_free(c->other.text);
    glm4v_free(c->other.tokens);
    glm4v_free(c->encoded.ids);
    glm4v_bpe_clear(&c->bpe);
    glm4v_free(c);
    *constraint = NULL;
}
