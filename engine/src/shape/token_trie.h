/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text tokens of a vocabulary by their bytes, for finding all that a state lets through. Tokens
 * of whole characters that may stand in a JSON string as they are ("plain") are kept apart too, by
 * their number of characters: inside a string nearly the whole vocabulary is allowed, and is set at
 * once. Immutable after open; any thread. */
#ifndef GLM4V_ENGINE_TOKEN_TRIE_H
#define GLM4V_ENGINE_TOKEN_TRIE_H

#include "tokenizer/tokenizer.h"

#define GLM4V_PLAIN_SETS 32 /* characters up to which sets of plain tokens are kept */

/* In preorder: a node's children stand behind it, up to its end. */
typedef struct {
    int32_t id;  /* of the token that ends here; -1: none */
    int32_t end; /* one more than the last node below */
    unsigned char byte;
} glm4v_trie_node;

typedef struct {
    glm4v_trie_node *nodes; /* [n]; 0 is the root */
    int32_t n;
    int32_t first[256]; /* the root's child for a byte; 0: none */
} glm4v_trie;

typedef struct {
    glm4v_trie all;
    glm4v_trie rest;      /* without the plain ones */
    int32_t *plain;       /* [n_plain] ids, by their number of characters */
    int32_t *plain_start; /* [longest_plain + 2] where those of so many characters begin */
    int32_t n_plain;
    int32_t longest_plain; /* characters */
    uint64_t *plain_sets;  /* of at most 1, 2, ... characters, then of all */
    int32_t longest;       /* bytes of any token */
    int32_t n_ids;         /* of the model's head */
    size_t bytes;          /* that all of it takes */
} glm4v_token_tries;

/* The plain tokens of at most n characters, 1 <= n, n <= GLM4V_PLAIN_SETS or all of them; bits
 * [n_ids / 64 + 1]. */
const uint64_t *glm4v_plain_set(const glm4v_token_tries *tries, int64_t n);

/* n_ids: rows of the model's head; tokens beyond are left out. NOMEM. */
int glm4v_token_tries_open(glm4v_token_tries **tries, const glm4v_tokenizer *tokenizer,
                           int64_t n_ids, glm4v_error *err);
void glm4v_token_tries_close(glm4v_token_tries **tries);

/* The child of a node for a byte; 0: none. */
int32_t glm4v_trie_next(const glm4v_trie *trie, int32_t node, unsigned char byte);

#endif
