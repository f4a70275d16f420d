/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See completion.h. The bytes are those of the automaton's shortest way; the fewest tokens from
 * each of them on are found from the end backwards, along the trie of the vocabulary. What a state
 * needs does not depend on the budget, so it is remembered as long as the request lives. */
#include "shape/completion.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MEMOS 128 /* a power of two */

uint64_t glm4v_completion_bytes(int64_t capacity)
{
    return (capacity + 1) * (1 + sizeof(int32_t));
}

uint64_t glm4v_completer_bytes(int64_t capacity)
{
    return MEMOS * sizeof(glm4v_completion_memo) + glm4v_completion_bytes(capacity);
}

int glm4v_completion_open(glm4v_completion *out, int64_t capacity, glm4v_error *err)
{
    /* large, written before it is read, and mostly never */
    out->text = glm4v_alloc_sparse(capacity + 1, 1);
    out->tokens = glm4v_alloc_sparse(capacity + 1, sizeof *out->tokens);
    return out->text && out->tokens
               ? 0
               : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer of %" PRId64 " bytes",
                            capacity);
}

void glm4v_completion_close(glm4v_completion *completion)
{
    glm4v_free(completion->text);
    glm4v_free(completion->tokens);
}

/* The shortest way through a character ends in 'n' behind a backslash, or in these. */
static bool bytes_alone(const glm4v_trie *trie)
{
    for (int byte = 0x80; byte < 0xC0; byte++)
        if (trie->nodes[trie->first[byte]].id < 0)
            return false;
    return trie->nodes[trie->first['n']].id >= 0;
}

int glm4v_completer_open(glm4v_completer *c, const glm4v_schema *schema, const glm4v_trie *trie,
                         int64_t capacity, glm4v_error *err)
{
    *c = (glm4v_completer) { .schema = schema,
                             .trie = trie,
                             .capacity = capacity,
                             .bytes_alone = bytes_alone(trie),
                             .memos = glm4v_alloc(MEMOS, sizeof *c->memos) };
    if (!c->memos)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the states of a schema");
    return glm4v_completion_open(&c->other, capacity, err);
}

void glm4v_completer_close(glm4v_completer *c)
{
    glm4v_completion_close(&c->other);
    glm4v_free(c->memos);
}

/* Fewest tokens from byte i on, where those from the bytes behind it are known. */
static int32_t fewest_from(const glm4v_trie *trie, const glm4v_completion *c, int64_t i)
{
    int32_t node = 0, fewest = INT32_MAX;
    for (int64_t k = i; k < c->n; k++) {
        node = glm4v_trie_next(trie, node, c->text[k]);
        if (!node)
            break;
        if (trie->nodes[node].id >= 0 && c->tokens[k + 1] < fewest - 1)
            fewest = c->tokens[k + 1] + 1;
    }
    return fewest;
}

bool glm4v_complete(const glm4v_completer *c, glm4v_completion *out, const glm4v_automaton *from)
{
    glm4v_automaton a = *from;
    out->n = 0;
    if (glm4v_automaton_rest(c->schema, from) > c->capacity)
        return false;
    for (int byte; (byte = glm4v_automaton_shortest(c->schema, &a)) >= 0;) {
        out->text[out->n++] = (unsigned char)byte;
        glm4v_automaton_step(c->schema, &a, (unsigned char)byte);
    }
    out->tokens[out->n] = 0;
    for (int64_t i = out->n; i-- > 0;)
        out->tokens[i] = fewest_from(c->trie, out, i);
    return true;
}

int64_t glm4v_tokens_to_end(glm4v_completer *c, const glm4v_automaton *a)
{
    glm4v_automaton whole;
    memset(&whole, 0, sizeof whole);
    memcpy(&whole, a, glm4v_automaton_size(a));
    const int64_t ends = c->bytes_alone ? glm4v_automaton_end_character(c->schema, &whole) : 0;
    glm4v_completion_memo *m = &c->memos[glm4v_automaton_hash(&whole) % MEMOS];
    if (m->state.n != whole.n || memcmp(&m->state, &whole, glm4v_automaton_size(&whole))) {
        m->state = whole;
        m->tokens = glm4v_complete(c, &c->other, &whole) ? (int64_t)c->other.tokens[0] : INT64_MAX;
    }
    return m->tokens < INT64_MAX ? m->tokens + ends : INT64_MAX;
}
