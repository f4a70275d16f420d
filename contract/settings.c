/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See settings.h. */
#include "contract/settings.h"

#include <glib.h>
#include <string.h>

#include "contract/json.h"

enum { VERSION = 1 };
#define HASH ",\"hash\":\""
#define END "\"}"

static void write_optional(glm4v_contract_json *json, const char *key, const char *value)
{
    if (value && *value)
        glm4v_contract_json_string(json, key, value);
}

static void write_strings(glm4v_contract_json *json, const char *key, const char *const *strings,
                          uint32_t n)
{
    glm4v_contract_json_array(json, key);
    for (uint32_t i = 0; i < n; i++)
        glm4v_contract_json_string(json, NULL, strings[i]);
    glm4v_contract_json_array_close(json);
}

static void write_judging(glm4v_contract_json *json, const glm4v_contract_shape *s)
{
    glm4v_contract_json_array(json, "fail-choices");
    for (uint32_t i = 0; i < s->n_choices; i++)
        if (s->fails[i])
            glm4v_contract_json_string(json, NULL, s->choices[i]);
    glm4v_contract_json_array_close(json);
    glm4v_contract_json_array(json, "thresholds");
    for (uint32_t i = 0; i < s->n_choices; i++)
        glm4v_contract_json_number(json, NULL, s->thresholds[i]);
    glm4v_contract_json_array_close(json);
}

static void write_shape(glm4v_contract_json *json, const glm4v_contract_shape *s)
{
    glm4v_contract_json_string(json, "output", s->output);
    if (s->n_choices)
        write_strings(json, "choices", s->choices, s->n_choices);
    if (s->n_choices && s->fails)
        write_judging(json, s);
    write_optional(json, "pattern", s->pattern);
    write_optional(json, "json-schema", s->schema);
    write_optional(json, "timeout-verdict", s->timeout_verdict);
}

static void write_sampling(glm4v_contract_json *json, const glm4v_contract_settings *s)
{
    glm4v_contract_json_open(json, "sampling");
    glm4v_contract_json_number(json, "temperature", s->temperature);
    glm4v_contract_json_count(json, "top-k", s->top_k);
    glm4v_contract_json_number(json, "top-p", s->top_p);
    glm4v_contract_json_number(json, "repetition-penalty", s->repetition_penalty);
    glm4v_contract_json_count(json, "seed", s->seed);
    glm4v_contract_json_bool(json, "thinking", s->thinking);
    glm4v_contract_json_close(json);
    glm4v_contract_json_open(json, "limits");
    glm4v_contract_json_count(json, "max-tokens", s->max_tokens);
    glm4v_contract_json_count(json, "context-length", s->context_length);
    glm4v_contract_json_count(json, "max-pixels", s->max_pixels);
    glm4v_contract_json_close(json);
}

static void write_model(glm4v_contract_json *json, const glm4v_contract_model *m)
{
    glm4v_contract_json_open(json, "model");
    glm4v_contract_json_string(json, "name", m->name);
    write_optional(json, "hash", m->hash);
    write_optional(json, "quant", m->quant);
    write_optional(json, "isa", m->isa);
    write_optional(json, "products", m->products);
    write_optional(json, "device", m->device);
    glm4v_contract_json_close(json);
}

char *glm4v_contract_settings_write(const glm4v_contract_settings *s, char hash[GLM4V_DIGEST_SIZE])
{
    glm4v_contract_json json = { .text = g_string_sized_new(1024) };
    glm4v_contract_json_open(&json, NULL);
    glm4v_contract_json_string(&json, "type", "settings");
    glm4v_contract_json_count(&json, "version", VERSION);
    write_strings(&json, "prompts", s->prompts, s->n_prompts);
    glm4v_contract_json_bool(&json, "placeholders", s->placeholders);
    write_optional(&json, "system", s->system);
    write_optional(&json, "camera", s->camera);
    write_shape(&json, &s->shape);
    write_sampling(&json, s);
    glm4v_contract_json_string(&json, "kv-cache", s->kv_cache ? s->kv_cache : "auto");
    if (s->model)
        write_model(&json, s->model);
    glm4v_contract_json_open(&json, "versions");
    glm4v_contract_json_string(&json, "glm4v", GLM4V_VERSION);
    glm4v_contract_json_close(&json);
    glm4v_contract_json_close(&json);
    glm4v_digest_bytes(hash, json.text->str, json.text->len);
    g_string_truncate(json.text, json.text->len - 1);
    g_string_append_printf(json.text, HASH "%s" END "\n", hash);
    return g_string_free(json.text, FALSE);
}

bool glm4v_contract_settings_check(const char *line, char hash[GLM4V_DIGEST_SIZE])
{
    const size_t tail = strlen(HASH) + GLM4V_DIGEST_SIZE - 1 + strlen(END), n = strlen(line);
    if (n <= tail || strncmp(line + n - tail, HASH, strlen(HASH)) ||
        strcmp(line + n - strlen(END), END))
        return false;
    char *bare = g_strdup_printf("%.*s}", (int)(n - tail), line);
    glm4v_digest_bytes(hash, bare, strlen(bare));
    g_free(bare);
    return !strncmp(line + n - tail + strlen(HASH), hash, GLM4V_DIGEST_SIZE - 1);
}
