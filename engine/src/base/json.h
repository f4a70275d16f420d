/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bounded access to JSON files, on top of jansson's trees. A pre-scan that allocates nothing
 * refuses what is too deep, too long or too many before a tree is built; duplicate keys are an
 * error.
 *
 * The getters leave *value as it was when the key is missing or null (so the caller presets the
 * default), and fail naming file and key when the type or range is wrong. `file` is the name for
 * messages. */
#ifndef GLM4V_ENGINE_JSON_H
#define GLM4V_ENGINE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct {
    size_t bytes;  /* whole text */
    size_t nodes;  /* values and keys */
    size_t string; /* bytes of one string */
    size_t memory; /* bytes of the tree, by an estimate from above */
    int depth;     /* nesting */
} glm4v_json_limits;

/* 4 MiB, 1 M nodes, depth 64, strings 1 MiB, tree 256 MiB */
extern const glm4v_json_limits GLM4V_JSON_CONFIG;
extern const glm4v_json_limits GLM4V_JSON_SAFETENSORS; /* 16 MiB */
extern const glm4v_json_limits GLM4V_JSON_TOKENIZER;   /* 64 MiB, 4 M nodes */

/* Parse text [0, len). *root: a new reference, json_decref() it. FORMAT on failure, with the
 * offset. */
int glm4v_json_parse(json_t **root, const char *text, size_t len, const char *file,
                     const glm4v_json_limits *limits, glm4v_error *err);

/* Read and parse dir/name. A regular file only (no FIFO, no device). NOT_FOUND, IO, FORMAT,
 * NOMEM. */
int glm4v_json_read(json_t **root, const char *dir, const char *name,
                    const glm4v_json_limits *limits, glm4v_error *err);

/* What a number may be, both ends included. */
typedef struct {
    int64_t min, max;
} glm4v_range;
typedef struct {
    double min, max;
} glm4v_interval;

int glm4v_json_int(const json_t *object, const char *file, const char *key, glm4v_range range,
                   int64_t *value, glm4v_error *err);
int glm4v_json_double(const json_t *object, const char *file, const char *key, glm4v_interval range,
                      double *value, glm4v_error *err); /* finite; integers are taken too */
int glm4v_json_bool(const json_t *object, const char *file, const char *key, bool *value,
                    glm4v_error *err);
int glm4v_json_string(const json_t *object, const char *file, const char *key, const char **value,
                      glm4v_error *err); /* borrowed from the tree; no NUL inside */
int glm4v_json_object(const json_t *object, const char *file, const char *key, const json_t **value,
                      glm4v_error *err);
int glm4v_json_array(const json_t *object, const char *file, const char *key, const json_t **value,
                     glm4v_error *err);

/* Read a whole regular file of at most limit bytes into *data (glm4v_free), NUL-terminated beyond
 * *size. */
int glm4v_read_file(char **data, size_t *size, const char *dir, const char *name, size_t limit,
                    glm4v_error *err);

#endif
