/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The shortest way from a state to the end of the answer: its bytes, and in how few tokens. One
 * thread at a time. */
#ifndef GLM4V_ENGINE_COMPLETION_H
#define GLM4V_ENGINE_COMPLETION_H

#include "shape/automaton.h"
#include "shape/token_trie.h"

typedef struct {
    unsigned char *text; /* [n] */
    int32_t *tokens;     /* [n + 1] fewest tokens from each byte on */
    int64_t n;
} glm4v_completion;

typedef struct {
    glm4v_automaton state;
    int64_t tokens;
} glm4v_completion_memo;

typedef struct {
    const glm4v_schema *schema;
    const glm4v_trie *trie;
    int64_t capacity;             /* bytes of a completion that may fit */
    bool bytes_alone;             /* each byte that may end a character is a token too */
    glm4v_completion other;       /* scratch */
    glm4v_completion_memo *memos; /* states that were looked at, by their hash */
} glm4v_completer;

/* What points to schema and trie must stay. NOMEM; close it then too. */
int glm4v_completer_open(glm4v_completer *c, const glm4v_schema *schema, const glm4v_trie *trie,
                         int64_t capacity, glm4v_error *err);
void glm4v_completer_close(glm4v_completer *c);

/* That they take. */
uint64_t glm4v_completer_bytes(int64_t capacity);
uint64_t glm4v_completion_bytes(int64_t capacity);

int glm4v_completion_open(glm4v_completion *completion, int64_t capacity, glm4v_error *err);
void glm4v_completion_close(glm4v_completion *completion);

/* The shortest completion of a state; false: it has more than `capacity` bytes. */
bool glm4v_complete(const glm4v_completer *c, glm4v_completion *out, const glm4v_automaton *from);

/* Tokens that complete a state, INT64_MAX where its bytes are too many. Of a state within a
 * character the count of those that end it, byte by byte, and then the fewest: with few tokens left
 * there are thousands of such states, but few behind the character. */
int64_t glm4v_tokens_to_end(glm4v_completer *c, const glm4v_automaton *a);

#endif
