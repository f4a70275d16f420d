/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the tokenizer: the vocabulary in memory and the steps that text takes through it.
 *   text -> tokenizer/split.c (pieces) -> tokenizer/bpe.c (merging) -> ids;  tokenizer/vocab.c
 *       holds the
 *   tables, tokenizer/load.c fills them from the files, tokenizer.c is the public side. */
#ifndef GLM4V_ENGINE_TOKENIZER_PRIV_H
#define GLM4V_ENGINE_TOKENIZER_PRIV_H

#include "tokenizer/tokenizer.h"

#define GLM4V_MAX_VOCAB (1 << 21)        /* ids */
#define GLM4V_MAX_TOKEN_BYTES 4096       /* of one token */
#define GLM4V_MAX_PIECE_BYTES (64 << 10) /* longer pieces are cut before merging */

typedef enum {
    GLM4V_TOKEN_NONE,
    GLM4V_TOKEN_TEXT,
    GLM4V_TOKEN_CONTROL,
    GLM4V_TOKEN_ADDED, /* text of an answer, but text never becomes it */
} glm4v_token_kind;

typedef struct {
    uint32_t start; /* in glm4v_tokenizer.bytes */
    uint16_t len;
    uint8_t kind; /* glm4v_token_kind */
} glm4v_token;

/* Tokens by their bytes: open addressing, linear probing, at most half full. */
typedef struct {
    struct {
        /* part of the hash, so that most other keys are passed without looking at them */
        uint32_t tag;
        uint32_t id; /* + 1; 0 = free */
    } * slots;
    size_t n_slots; /* a power of two, or 0 */
} glm4v_token_table;

/* What two neighbours become. Likewise open addressing. */
typedef struct {
    int32_t left, right, merged; /* ids */
    uint32_t rank;               /* lower merges first; + 1; 0 = free */
} glm4v_pair;

struct glm4v_tokenizer {
    glm4v_token *tokens;  /* [size], by id */
    int64_t size;         /* one more than the largest id */
    unsigned char *bytes; /* of all tokens */
    size_t n_bytes, bytes_capacity;
    size_t longest;            /* bytes of the longest token that is text of an answer */
    glm4v_token_table text;    /* ordinary tokens */
    glm4v_token_table control; /* control tokens and added ones: never found by encoding */
    /* tokenizer.json's merges; NULL: the id of the joined bytes is the rank */
    glm4v_pair *pairs;
    size_t n_pairs;                            /* slots, a power of two */
    bool whole_piece;                          /* look a piece up before merging */
    int32_t byte_id[256];                      /* tokens of one byte; -1 = none */
    uint64_t base;                             /* of the hash, random */
    uint64_t power[GLM4V_MAX_TOKEN_BYTES + 1]; /* base^n */
};

/* ---- tokenizer/vocab.c ---- */

/* Hash of bytes: a polynomial modulo 2^61 - 1 at a random point, so that the hash of any part of a
 * piece follows from two prefix hashes, and keys that collide cannot be constructed. */
uint64_t glm4v_hash_step(uint64_t hash, uint64_t base, unsigned char byte);
uint64_t glm4v_hash_bytes(const glm4v_tokenizer *t, const unsigned char *s, size_t len);
/* Hash of the last len bytes of a text, from the prefix hashes before and after them; len <=
 * 4096. */
uint64_t glm4v_hash_part(const glm4v_tokenizer *t, uint64_t before, uint64_t after, size_t len);

/* Room for ids [0, size) and at most so many tokens of each kind. NOMEM; FORMAT (naming file) if
 * size is out of range. */
int glm4v_vocab_init(glm4v_tokenizer *t, int64_t size, size_t n_text, size_t n_control,
                     const char *file, glm4v_error *err);
/* A token to add: 0 <= id < size, bytes [0, len). */
typedef struct {
    int32_t id;
    glm4v_token_kind kind;
    const unsigned char *bytes;
    size_t len;
} glm4v_new_token;

/* Add a token. FORMAT (naming file) if the id or the bytes are taken or too long; NOMEM. */
int glm4v_vocab_add(glm4v_tokenizer *t, const glm4v_new_token *token, const char *file,
                    glm4v_error *err);
/* Id of a token, -1 if there is none. */
int32_t glm4v_vocab_find(const glm4v_tokenizer *t, const glm4v_token_table *table, uint64_t hash,
                         const unsigned char *s, size_t len);
/* All tokens are there: fill byte_id, longest; check gaps and that every UTF-8 text can be encoded.
 * FORMAT. */
int glm4v_vocab_finish(glm4v_tokenizer *t, const char *file, glm4v_error *err);

/* Room for n merges. NOMEM. */
int glm4v_pairs_init(glm4v_tokenizer *t, size_t n, glm4v_error *err);
/* Add a merge; false if left, right has one already. */
bool glm4v_pairs_add(glm4v_tokenizer *t, int32_t left, int32_t right, uint32_t rank,
                     int32_t merged);
/* The merge of left, right, or NULL. */
const glm4v_pair *glm4v_pairs_find(const glm4v_tokenizer *t, int32_t left, int32_t right);

/* ---- tokenizer/split.c ---- */

/* Length of the first piece of text [0, len), len >= 1, which must be UTF-8. */
size_t glm4v_split_next(const char *text, size_t len);

/* White_Space, what the split rules call \s. */
bool glm4v_is_space(uint32_t code);

/* ---- tokenizer/bpe.c ---- */

/* Scratch of merging, grown to the longest piece seen. Zeroed before first use. */
typedef struct {
    struct glm4v_bpe_node *nodes; /* [capacity] */
    struct glm4v_bpe_merge *heap; /* [3 * capacity] */
    uint64_t *prefix;             /* [capacity + 1], hashes of the piece's beginnings */
    size_t capacity, n_heap;
    uint64_t steps; /* work done: heap moves and table look-ups; tests bound it by n log n */
} glm4v_bpe;

/* Merge a piece (1 <= len <= GLM4V_MAX_PIECE_BYTES) and append its ids; there is room for len of
 * them. NOMEM. */
int glm4v_bpe_encode(const glm4v_tokenizer *t, glm4v_bpe *bpe, const unsigned char *piece,
                     size_t len, glm4v_ids *ids, glm4v_error *err);
void glm4v_bpe_clear(glm4v_bpe *bpe);

/* ---- tokenizer.c ---- */

/* glm4v_tokenizer_encode() with the caller's scratch. */
int glm4v_encode_with(const glm4v_tokenizer *t, glm4v_bpe *bpe, const char *text, size_t len,
                      glm4v_ids *ids, glm4v_error *err);

/* ---- tokenizer/load.c ---- */

/* Files of a tokenizer in memory. */
typedef struct {
    bool is_json;     /* text is tokenizer.json's, else tokenizer.model's */
    const char *text; /* [len] */
    size_t len;
    const char *config; /* [config_len], tokenizer_config.json's; NULL = none */
    size_t config_len;
} glm4v_tokenizer_files;

/* Errors as glm4v_tokenizer_open(). */
int glm4v_tokenizer_parse(glm4v_tokenizer **tokenizer, const glm4v_tokenizer_files *files,
                          glm4v_error *err);

#endif
