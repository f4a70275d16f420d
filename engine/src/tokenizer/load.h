/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tokenizer/load.c reads a tokenizer with. */
#ifndef GLM4V_ENGINE_TOKENIZER_LOAD_H
#define GLM4V_ENGINE_TOKENIZER_LOAD_H

#include <jansson.h>

#include "tokenizer/tokenizer_priv.h"

#define GLM4V_TOKENIZER_CONFIG "tokenizer_config.json"

/* controls.c. A decimal number in s [0, len) of at most seven digits; -1 if it is none. */
int64_t glm4v_load_id(const char *s, size_t len);

/* json.c. Fill a zeroed tokenizer from tokenizer.json's text; config: the tree of
 * tokenizer_config.json, or NULL. */
int glm4v_load_json(glm4v_tokenizer *t, const char *text, size_t len, const json_t *config,
                    glm4v_error *err);

/* controls.c. Raise *size above the ids of config's added_tokens_decoder, and *n by their
 * number. */
int glm4v_load_control_size(const json_t *config, int64_t *size, size_t *n, glm4v_error *err);

/* Add the added token that entry describes, whose "content" is a string; the same id and name once
 * more is no error. 0 <= id < size. */
int glm4v_load_control(glm4v_tokenizer *t, int64_t id, const json_t *entry, const char *file,
                       glm4v_error *err);

/* Add those of config's added_tokens_decoder. */
int glm4v_load_controls(glm4v_tokenizer *t, const json_t *config, glm4v_error *err);

#endif
