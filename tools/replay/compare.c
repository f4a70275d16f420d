/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See compare.h. */
#include "replay/compare.h"

#include <stdlib.h>
#include <string.h>

#include "contract/json.h"
#include "contract/result.h"

enum { SHOWN = 120 }; /* bytes of a value in a message, about */

static void append_cut(GString *text, const char *value)
{
    const size_t n = strlen(value);
    const char *end = value + n;
    if (n > SHOWN)
        end = g_utf8_find_prev_char(value, value + SHOWN + 1);
    g_string_append_len(text, value, end ? end - value : SHOWN);
    if (n > SHOWN)
        g_string_append(text, "...");
}

void cli_differ(GString *differences, const char *what, const char *was, const char *is)
{
    if (differences->len)
        g_string_append(differences, "; ");
    g_string_append_printf(differences, "%s was ", what);
    append_cut(differences, was ? was : "nothing");
    g_string_append(differences, ", is ");
    append_cut(differences, is ? is : "nothing");
}

/* A member of both; absent in both is equal. */
static void compare(GString *differences, const char *key, const json_t *was, const json_t *is)
{
    if (was == is || json_equal(was, is))
        return;
    char *before = was ? json_dumps(was, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *now = is ? json_dumps(is, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    cli_differ(differences, key, before, now);
    free(before);
    free(now);
}

/* ---- the derived answer as it would be written ---- */

/* NULL: results of these settings have none. */
static const char *verdict_of(const cli_recorded_settings *s, const glm4v_result *answer)
{
    if (s->matcher)
        return glm4v_verdict_name(glm4v_matcher_check(s->matcher, answer->text));
    if (!s->fails)
        return NULL;
    return glm4v_verdict_name(
        glm4v_decide(answer->probabilities, s->fails, s->thresholds, answer->n_probabilities));
}

static json_t *derive(const cli_recorded_settings *s, const cli_recorded_result *recorded,
                      const glm4v_result *answer)
{
    const cli_part *part = &recorded->part;
    const glm4v_contract_region roi = { part->x, part->y, part->width, part->height, NULL };
    char *line = glm4v_contract_result_write(&(glm4v_contract_result) {
        .status = "ok",
        .finish_reason = glm4v_contract_finish_name(answer->finish),
        .answer = answer,
        .chosen = answer,
        .verdict = verdict_of(s, answer),
        .roi = &roi,
    });
    json_t *object = json_loads(line, 0, NULL);
    g_free(line);
    return object;
}

/* As many as stand in an array, or are given; g_free(). */
static char *shares_text(const json_t *array, const double *shares, uint32_t n)
{
    glm4v_contract_json json = { .text = g_string_new(NULL) };
    glm4v_contract_json_array(&json, NULL);
    for (size_t i = 0; i < json_array_size(array); i++)
        glm4v_contract_json_number(&json, NULL, json_number_value(json_array_get(array, i)));
    for (uint32_t i = 0; i < n; i++)
        glm4v_contract_json_number(&json, NULL, shares[i]);
    glm4v_contract_json_array_close(&json);
    return g_string_free(json.text, FALSE);
}

/* Also where one is written as 0.10 or 1e-1. */
static void compare_shares(GString *differences, const json_t *root, const glm4v_result *answer)
{
    const double probability = json_number_value(json_object_get(root, "probability"));
    char *was = shares_text(json_object_get(root, "probabilities"), NULL, 0);
    char *is = shares_text(NULL, answer->probabilities, answer->n_probabilities);
    if (strcmp(was, is))
        cli_differ(differences, "probabilities", was, is);
    g_free(was);
    g_free(is);
    if (probability == answer->probability)
        return;
    was = shares_text(NULL, &probability, 1);
    is = shares_text(NULL, &answer->probability, 1);
    cli_differ(differences, "probability", was, is);
    g_free(was);
    g_free(is);
}

/* What speculation expected is not part of the answer. */
static void compare_tokens(GString *differences, const json_t *was, const json_t *is)
{
    static const char *const keys[] = { "in", "out", "vision" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *what = g_strdup_printf("tokens %s", keys[i]);
        compare(differences, what, json_object_get(was, keys[i]), json_object_get(is, keys[i]));
        g_free(what);
    }
}

void cli_compare_answer(GString *differences, const cli_recorded_settings *settings,
                        const cli_recorded_result *recorded, const glm4v_result *answer)
{
    static const char *const keys[] = { "text",   "reasoning", "box",     "boxes",        "action",
                                        "choice", "json",      "verdict", "finish-reason" };
    json_t *derived = derive(settings, recorded, answer);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        compare(differences, keys[i], json_object_get(recorded->root, keys[i]),
                json_object_get(derived, keys[i]));
    compare_tokens(differences, json_object_get(recorded->root, "tokens"),
                   json_object_get(derived, "tokens"));
    compare_shares(differences, recorded->root, answer);
    json_decref(derived);
}

/* ---- settings ---- */

static void compare_text(GString *differences, const char *what, const json_t *was, const char *is)
{
    const char *text = json_string_value(was);
    if (!text || strcmp(text, is))
        cli_differ(differences, what, text, is);
}

void cli_compare_settings(GString *differences, const cli_recorded_settings *settings,
                          const cli_recorded_result *recorded, const char *prompt)
{
    const json_t *model = json_object_get(recorded->root, "model");
    const json_t *seed = json_object_get(recorded->root, "seed");
    char hash[GLM4V_PROMPT_HASH_SIZE], *wanted;
    glm4v_digest_prompt(hash, settings->task.system, prompt);
    if (strcmp(recorded->prompt_hash, hash))
        cli_differ(differences, "prompt-hash", recorded->prompt_hash, hash);
    if (!json_is_integer(seed) || (uint64_t)json_integer_value(seed) != settings->task.seed) {
        wanted = g_strdup_printf("%" G_GUINT64_FORMAT, settings->task.seed);
        cli_differ(differences, "seed", "another", wanted);
        g_free(wanted);
    }
    compare_text(differences, "model hash", json_object_get(model, "hash"), settings->model.hash);
    compare_text(differences, "quant", json_object_get(model, "quant"), settings->model.quant);
    compare_text(differences, "isa", json_object_get(model, "isa"), settings->model.isa);
}

void cli_compare_verdict(GString *differences, const cli_recorded_settings *settings,
                         const cli_recorded_result *recorded)
{
    const char *was = json_string_value(json_object_get(recorded->root, "verdict"));
    if (g_strcmp0(was, settings->timeout_verdict))
        cli_differ(differences, "verdict", was, settings->timeout_verdict);
}
