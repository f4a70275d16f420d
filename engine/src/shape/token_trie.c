/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Building the tries: tokens are sorted by their bytes, and each adds what it does not share with
 * the one before. Opened by engine.c with the first request that needs it. */
#include "shape/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

typedef struct {
    const unsigned char *bytes;
    int32_t len, id;
    int32_t characters; /* of a plain token, else 0 */
} token;

static int by_bytes(const void *a, const void *b)
{
    const token *x = a, *y = b;
    const int order = memcmp(x->bytes, y->bytes, (size_t)(x->len < y->len ? x->len : y->len));
    return order ? order : x->len - y->len;
}

/* Characters of a token that may stand in a JSON string as it is; 0: it may not, or not whole. */
static int32_t characters_of(const token *t)
{
    int32_t n = 0;
    for (int32_t i = 0; i < t->len; n++) {
        uint32_t code = 0;
        const int bytes = glm4v_utf8_next(t->bytes + i, t->len - i, &code);
        if (bytes <= 0 || code == '"' || code == '\\' || glm4v_utf8_hidden(code))
            return 0;
        i += bytes;
    }
    return n;
}

static int32_t collect(token *tokens, const glm4v_tokenizer *tokenizer, int64_t n_ids)
{
    const int64_t size = glm4v_tokenizer_size(tokenizer);
    int32_t n = 0;
    for (int32_t id = 0; id < size && id < n_ids; id++) {
        size_t len;
        const char *bytes = glm4v_tokenizer_bytes(tokenizer, id, &len);
        if (!bytes || !len || glm4v_tokenizer_is_control(tokenizer, id))
            continue;
        tokens[n] = (token) { (const unsigned char *)bytes, (int32_t)len, id, 0 };
        tokens[n].characters = characters_of(&tokens[n]);
        n++;
    }
    return n;
}

/* Bytes that a token shares with the one before it. */
static int32_t shared(const token *before, const token *t)
{
    int32_t n = 0;
    while (before && n < before->len && n < t->len && before->bytes[n] == t->bytes[n])
        n++;
    return n;
}

static bool is_in(const token *t, bool all)
{
    return all || !t->characters;
}

static int32_t count_nodes(const token *tokens, int32_t n, bool all)
{
    const token *before = NULL;
    int32_t nodes = 1;
    for (int32_t i = 0; i < n; i++)
        if (is_in(&tokens[i], all)) {
            nodes += tokens[i].len - shared(before, &tokens[i]);
            before = &tokens[i];
        }
    return nodes;
}

/* path: [longest + 1] nodes of the token before, the root first. */
static int build(glm4v_trie *trie, const token *tokens, int32_t n, bool all, int32_t *path,
                 glm4v_error *err)
{
    const token *before = NULL;
    const int32_t n_nodes = count_nodes(tokens, n, all);
    trie->nodes = glm4v_alloc(n_nodes, sizeof *trie->nodes);
    if (!trie->nodes)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a trie of %d bytes", n_nodes);
    trie->nodes[0] = (glm4v_trie_node) { .id = -1 };
    trie->n = 1;
    path[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        const token *t = &tokens[i];
        if (!is_in(t, all))
            continue;
        for (int32_t k = shared(before, t); k < t->len; k++) {
            path[k + 1] = trie->n;
            trie->nodes[trie->n++] = (glm4v_trie_node) { .id = -1, .byte = t->bytes[k] };
        }
        trie->nodes[path[t->len]].id = t->id;
        for (int32_t k = 0; k <= t->len; k++)
            trie->nodes[path[k]].end = trie->n;
        before = t;
    }
    trie->nodes[0].end = trie->n;
    for (int32_t child = 1; child < trie->n; child = trie->nodes[child].end)
        trie->first[trie->nodes[child].byte] = child;
    return 0;
}

/* Ids of the plain tokens, by their number of characters. */
static int sort_plain(glm4v_token_tries *t, const token *tokens, int32_t n, glm4v_error *err)
{
    for (int32_t i = 0; i < n; i++) {
        t->n_plain += tokens[i].characters > 0;
        if (tokens[i].characters > t->longest_plain)
            t->longest_plain = tokens[i].characters;
    }
    t->plain = glm4v_alloc(t->n_plain, sizeof *t->plain);
    t->plain_start = glm4v_alloc(t->longest_plain + 2, sizeof *t->plain_start);
    if (!t->plain || !t->plain_start)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d tokens", n);
    for (int32_t i = 0; i < n; i++)
        t->plain_start[tokens[i].characters + 1] += tokens[i].characters > 0;
    for (int32_t k = 1; k <= t->longest_plain; k++)
        t->plain_start[k + 1] += t->plain_start[k];
    for (int32_t i = 0; i < n; i++)
        if (tokens[i].characters)
            t->plain[t->plain_start[tokens[i].characters]++] = tokens[i].id;
    for (int32_t k = t->longest_plain; k > 0; k--)
        t->plain_start[k + 1] = t->plain_start[k];
    t->plain_start[0] = t->plain_start[1] = 0;
    return 0;
}

static int32_t n_sets(const glm4v_token_tries *t)
{
    return t->longest_plain < GLM4V_PLAIN_SETS ? t->longest_plain : GLM4V_PLAIN_SETS;
}

const uint64_t *glm4v_plain_set(const glm4v_token_tries *t, int64_t n)
{
    const int64_t set = n > n_sets(t) ? n_sets(t) : n - 1;
    return t->plain_sets + set * (t->n_ids / 64 + 1);
}

/* Each set is the one before it and the tokens of one more character; the last has all. */
static int fill_sets(glm4v_token_tries *t, glm4v_error *err)
{
    const int32_t words = t->n_ids / 64 + 1, n = n_sets(t);
    t->plain_sets = glm4v_alloc((size_t)(n + 1) * (size_t)words, sizeof *t->plain_sets);
    if (!t->plain_sets)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d sets of tokens", n + 1);
    for (int32_t set = 0; set <= n; set++) {
        uint64_t *bits = t->plain_sets + (size_t)set * (size_t)words;
        if (set)
            memcpy(bits, bits - words, words * sizeof *bits);
        const int32_t to = set < n ? t->plain_start[set + 2] : t->n_plain;
        for (int32_t i = t->plain_start[set + 1]; i < to; i++)
            bits[t->plain[i] / 64] |= (uint64_t)1 << (t->plain[i] % 64);
    }
    return 0;
}

static int fill(glm4v_token_tries *t, token *tokens, int32_t n, glm4v_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if (tokens[i].len > t->longest)
            t->longest = tokens[i].len;
    int32_t *path = glm4v_alloc(t->longest + 1, sizeof *path);
    int rc =
        path ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for tokens of %d bytes", t->longest);
    if (!rc)
        rc = sort_plain(t, tokens, n, err);
    if (!rc)
        rc = fill_sets(t, err);
    qsort(tokens, n, sizeof *tokens, by_bytes);
    if (!rc)
        rc = build(&t->all, tokens, n, true, path, err);
    if (!rc)
        rc = build(&t->rest, tokens, n, false, path, err);
    glm4v_free(path);
    t->bytes = sizeof *t + (t->all.n + t->rest.n) * sizeof *t->all.nodes +
               (t->n_plain + t->longest_plain + 2) * sizeof *t->plain +
               (size_t)(n_sets(t) + 1) * (t->n_ids / 64 + 1) * sizeof *t->plain_sets;
    return rc;
}

int glm4v_token_tries_open(glm4v_token_tries **tries, const glm4v_tokenizer *tokenizer,
                           int64_t n_ids, glm4v_error *err)
{
    const size_t size = glm4v_tokenizer_size(tokenizer);
    glm4v_token_tries *t = glm4v_alloc(1, sizeof *t);
    token *tokens = glm4v_alloc(size, sizeof *tokens);
    int rc = t && tokens
                 ? 0
                 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a trie of %zu tokens", size);
    if (!rc) {
        t->n_ids = (int32_t)n_ids;
        rc = fill(t, tokens, collect(tokens, tokenizer, n_ids), err);
    }
    glm4v_free(tokens);
    if (rc)
        glm4v_token_tries_close(&t);
    else
        *tries = t;
    return rc;
}

void glm4v_token_tries_close(glm4v_token_tries **tries)
{
    glm4v_token_tries *t = *tries;
    if (!t)
        return;
    glm4v_free(t->all.nodes);
    glm4v_free(t->rest.nodes);
    glm4v_free(t->plain);
    glm4v_free(t->plain_start);
    glm4v_free(t->plain_sets);
    glm4v_free(t);
    *tries = NULL;
}

int32_t glm4v_trie_next(const glm4v_trie *trie, int32_t node, unsigned char byte)
{
    if (!node)
        return trie->first[byte];
    for (int32_t child = node + 1; child < trie->nodes[node].end; child = trie->nodes[child].end)
        if (trie->nodes[child].byte == byte)
            return child;
    return 0;
}
