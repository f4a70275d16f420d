/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Control tokens, those of tokenizer_config.json's added_tokens_decoder among them. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/load.h"

int64_t glm4v_load_id(const char *s, size_t len)
{
    int64_t value = 0;
    if (len < 1 || len > 7)
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

static int bad_control(glm4v_error *err, const char *key)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%s: \"added_tokens_decoder\": \"%.40s\" is not an id with its \"content\"",
                      GLM4V_TOKENIZER_CONFIG, key);
}

/* added_tokens_decoder, or NULL where there is none. */
static int controls_of(const json_t **controls, const json_t *config, glm4v_error *err)
{
    *controls = NULL;
    return config ? glm4v_json_object(config, GLM4V_TOKENIZER_CONFIG, "added_tokens_decoder",
                                      controls, err)
                  : 0;
}

int glm4v_load_control_size(const json_t *config, int64_t *size, size_t *n, glm4v_error *err)
{
    const json_t *controls, *value;
    const char *key;
    int rc = controls_of(&controls, config, err);
    if (rc || !controls)
        return rc;
    json_object_foreach((json_t *)controls, key, value)
    {
        int64_t id = glm4v_load_id(key, strlen(key));
        if (id < 0 || !json_is_object(value))
            return bad_control(err, key);
        if (id >= *size)
            *size = id + 1;
    }
    *n += json_object_size(controls);
    return 0;
}

/* Names that prompts and answers are made of: control tokens, whether a file calls them special or
 * not. */
static bool has_meaning(const char *name)
{
    static const char *const names[] = {
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
        "<|image|>",
        "<|video|>",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "/nothink",
        "<|begin_of_box|>",
        "<|end_of_box|>",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Without "special" it is taken for special, as files of older programs leave it out. */
static int kind_of(glm4v_token_kind *kind, const json_t *entry, const char *name, const char *file,
                   glm4v_error *err)
{
    bool special = true;
    int rc = glm4v_json_bool(entry, file, "special", &special, err);
    *kind = special || has_meaning(name) ? GLM4V_TOKEN_CONTROL : GLM4V_TOKEN_ADDED;
    return rc;
}

int glm4v_load_control(glm4v_tokenizer *t, int64_t id, const json_t *entry, const char *file,
                       glm4v_error *err)
{
    const glm4v_token *token = &t->tokens[id];
    const char *name = json_string_value(json_object_get(entry, "content"));
    const size_t len = strlen(name);
    glm4v_token_kind kind;
    int rc = kind_of(&kind, entry, name, file, err);
    if (rc)
        return rc;
    if (glm4v_tokenizer_is_control(t, (int32_t)id) && token->len == len &&
        memcmp(t->bytes + token->start, name, len) == 0)
        return 0; /* in both files: the first decides */
    return glm4v_vocab_add(
        t, &(glm4v_new_token) { (int32_t)id, kind, (const unsigned char *)name, len }, file, err);
}

int glm4v_load_controls(glm4v_tokenizer *t, const json_t *config, glm4v_error *err)
{
    const json_t *controls, *value;
    const char *key;
    int rc = controls_of(&controls, config, err);
    if (rc || !controls)
        return rc;
    json_object_foreach((json_t *)controls, key, value)
    {
        const char *name = NULL;
        rc = glm4v_json_string(value, GLM4V_TOKENIZER_CONFIG, "content", &name, err);
        if (!rc && !name)
            rc = bad_control(err, key);
        if (!rc)
            rc = glm4v_load_control(t, glm4v_load_id(key, strlen(key)), value,
                                    GLM4V_TOKENIZER_CONFIG, err);
        if (rc)
            return rc;
    }
    return 0;
}
