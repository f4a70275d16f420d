/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text to token ids and back: byte-level BPE with the split rules of the GLM-4 family, from
 * tokenizer.json or from a tiktoken tokenizer.model with tokenizer_config.json. No regex is
 * executed: the split pattern of tokenizer.json must be the family's own, else UNSUPPORTED.
 * Immutable after open; any thread. */
#ifndef GLM4V_ENGINE_TOKENIZER_H
#define GLM4V_ENGINE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "glm4v/glm4v.h"

typedef struct glm4v_tokenizer glm4v_tokenizer;

/* Open dir/tokenizer.json, or where there is none dir/tokenizer.model; tokenizer_config.json adds
 * the control tokens of tokenizer.model. NOT_FOUND, IO, FORMAT, UNSUPPORTED, NOMEM. */
int glm4v_tokenizer_open(glm4v_tokenizer **tokenizer, const char *dir, glm4v_error *err);
/* Open one file alone (tests): tokenizer.json's syntax if the name ends in .json, else
 * tokenizer.model's, which then has no control tokens. */
int glm4v_tokenizer_open_file(glm4v_tokenizer **tokenizer, const char *path, glm4v_error *err);
/* One token a byte, control tokens with the ids of config: for random weights without a tokenizer
 * file. FORMAT: the vocabulary is too small; NOMEM. */
int glm4v_tokenizer_open_bytes(glm4v_tokenizer **tokenizer, const glm4v_config *config,
                               glm4v_error *err);
void glm4v_tokenizer_close(glm4v_tokenizer **tokenizer);

/* Bytes that it takes in memory. */
size_t glm4v_tokenizer_memory(const glm4v_tokenizer *tokenizer);

/* One more than the largest id. */
int64_t glm4v_tokenizer_size(const glm4v_tokenizer *tokenizer);

/* A list of ids that grows. Zeroed before first use; ids: glm4v_free(). */
typedef struct {
    int32_t *ids; /* [n] */
    size_t n, capacity;
} glm4v_ids;

/* Encode UTF-8 text [0, len) as ordinary text: control tokens spelled in it become plain
 * characters. Appends to *ids. INVALID: not UTF-8; NOMEM. O(len log len). */
int glm4v_tokenizer_encode(const glm4v_tokenizer *tokenizer, const char *text, size_t len,
                           glm4v_ids *ids, glm4v_error *err);

/* Id of a control token such as "<|user|>", -1 if the tokenizer has none of that name. */
int32_t glm4v_tokenizer_control(const glm4v_tokenizer *tokenizer, const char *name);

/* Is id an added token, special or not? Text is never encoded as one. */
bool glm4v_tokenizer_is_control(const glm4v_tokenizer *tokenizer, int32_t id);

/* Are its bytes text of an answer: those of an ordinary token, or the name of an added one that is
 * not special and has no meaning here? */
bool glm4v_tokenizer_is_text(const glm4v_tokenizer *tokenizer, int32_t id);

/* Bytes of a token (not terminated, not always whole characters); control tokens give their names.
 * NULL and *len = 0 for an id without a token. */
const char *glm4v_tokenizer_bytes(const glm4v_tokenizer *tokenizer, int32_t id, size_t *len);

#endif
