/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys of configuration files, for config.c and the families' readers. A key may be in several
 * places; the first place that has it with a value other than null is used. All return 0, or FORMAT
 * with file, key, expected and found. */
#ifndef GLM4V_ENGINE_CONFIG_KEYS_H
#define GLM4V_ENGINE_CONFIG_KEYS_H

#include "base/json.h"
#include "config/config.h"

#define CONFIG "config.json"
#define GLM4V_MAX_PLACES 6

/* Where a key may be, highest priority first. */
typedef struct {
    const json_t *object[GLM4V_MAX_PLACES];
    const char *label[GLM4V_MAX_PLACES]; /* for messages */
    int n;
} glm4v_places;

typedef enum { GLM4V_OPTIONAL, GLM4V_REQUIRED } glm4v_need;

/* One place more; what is no object is left out. */
void glm4v_key_place(glm4v_places *p, const json_t *object, const char *label);
/* Index of the place that has the key; -1 if none. */
int glm4v_key_find(const glm4v_places *p, const char *key);
int glm4v_key_missing(const glm4v_places *p, const char *key, glm4v_error *err);

/* An optional key that is missing leaves *value alone. */
int glm4v_key_int(const glm4v_places *p, const char *key, glm4v_need needed, glm4v_range range,
                  int64_t *value, glm4v_error *err);
/* An optional token id, in [0, vocab). */
int glm4v_key_id(const glm4v_places *p, const char *key, int64_t vocab, int32_t *id,
                 glm4v_error *err);
int glm4v_key_double(const glm4v_places *p, const char *key, glm4v_need needed,
                     glm4v_interval range, double *value, glm4v_error *err);
int glm4v_key_string(const glm4v_places *p, const char *key, const char **value, glm4v_error *err);
int glm4v_key_bool(const glm4v_places *p, const char *key, bool *value, glm4v_error *err);

/* A key that, where it is there, may only have one value, as nothing else is built in:
 * UNSUPPORTED. */
int glm4v_key_expect_string(const glm4v_places *p, const char *key, const char *expected,
                            glm4v_error *err);
int glm4v_key_expect_int(const glm4v_places *p, const char *key, int64_t expected,
                         glm4v_error *err);
int glm4v_key_expect_bool(const glm4v_places *p, const char *key, bool expected, glm4v_error *err);

int glm4v_key_divides(int64_t part, int64_t whole, const char *part_key, const char *whole_key,
                      const char *label, glm4v_error *err);

/* The families' readers: sizes and token ids of config.json, its root being an object. */
int glm4v_config_read_glm4v(glm4v_config *c, const json_t *root, glm4v_error *err);
int glm4v_config_read_glm_ocr(glm4v_config *c, const json_t *root, glm4v_error *err);
int glm4v_config_read_chatglm4v(glm4v_config *c, const json_t *root, glm4v_error *err);

/* What glm4v and its relatives, whose config.json has the same layout, differ in. */
typedef struct {
    bool qkv_bias;        /* of the text model */
    bool mtp;             /* "num_nextn_predict_layers" counts */
    double rotary_factor; /* "partial_rotary_factor" where it is missing */
    /* The tower's sizes whose keys differ; p: vision_config, of which all else was read. */
    int (*tower)(glm4v_vision_config *v, const glm4v_places *p, glm4v_error *err);
} glm4v_relative;
int glm4v_config_read_relative(glm4v_config *c, const json_t *root, const glm4v_relative *relative,
                               glm4v_error *err);

/* Processor files of a directory, for the families that bring them. */
void glm4v_config_default_processors(glm4v_config *c);
int glm4v_config_read_processors(glm4v_config *c, const char *dir, glm4v_error *err);

#endif
