/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See record.h. */
#include "replay/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "contract/settings.h"
#include "contract/text.h"
#include "fail.h"

enum { MOST_LINE = 16 << 20 };

/* ---- members ---- */

/* An object of a line, and where the first fault of it is told. */
typedef struct {
    const json_t *object;
    glm4v_error *err;
} members;

static bool bad(const members *m, const char *key, const char *expected)
{
    if (!m->err->code)
        cli_fail(m->err, GLM4V_ERR_FORMAT, "\"%s\" is not %s", key, expected);
    return false;
}

/* NULL without the key; told if it has to be there. */
static const char *text_of(const members *m, const char *key, bool required)
{
    const json_t *value = json_object_get(m->object, key);
    if ((value && !json_is_string(value)) || (required && !value))
        bad(m, key, "a string");
    return json_string_value(value);
}

/* `otherwise` without the key. */
static int64_t count_of(const members *m, const char *key, int64_t otherwise, int64_t most)
{
    const json_t *value = json_object_get(m->object, key);
    if (!value)
        return otherwise;
    const int64_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < 0 || count > most)
        bad(m, key, "a number that it can be");
    return count;
}

/* In [0, most]. */
static float real_of(const members *m, const char *key, double most)
{
    const json_t *value = json_object_get(m->object, key);
    const double number = json_number_value(value);
    if (json_is_number(value) && number >= 0 && number <= most)
        return (float)number;
    bad(m, key, "a number that it can be");
    return 0;
}

static bool flag_of(const members *m, const char *key)
{
    const json_t *value = json_object_get(m->object, key);
    if (!json_is_boolean(value))
        bad(m, key, "true or false");
    return json_is_true(value);
}

static members object_of(const members *m, const char *key)
{
    const json_t *value = json_object_get(m->object, key);
    if (!json_is_object(value))
        bad(m, key, "an object");
    return (members) { value, m->err };
}

/* Of values that is() accepts; NULL without the key. */
static const json_t *array_of(const members *m, const char *key, bool (*is)(const json_t *))
{
    const json_t *array = json_object_get(m->object, key);
    if (!array)
        return NULL;
    bool good = json_is_array(array);
    for (size_t i = 0; i < json_array_size(array); i++)
        good = good && is(json_array_get(array, i));
    if (!good)
        bad(m, key, "an array of what it has to be");
    return array;
}

static bool is_text(const json_t *value)
{
    return json_is_string(value);
}

static bool is_count(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool is_digest(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) == GLM4V_DIGEST_SIZE - 1;
}

static bool is_share(const json_t *value)
{
    return json_is_number(value) && json_number_value(value) > 0 && json_number_value(value) <= 1;
}

/* ---- settings ---- */

static uint32_t find_choice(const cli_recorded_settings *s, const char *choice)
{
    uint32_t i = 0;
    while (i < s->task.n_choices && strcmp(s->choices[i], choice))
        i++;
    return i;
}

static void read_fails(cli_recorded_settings *s, const members *m)
{
    const json_t *fails = array_of(m, "fail-choices", is_text);
    const json_t *thresholds = array_of(m, "thresholds", is_share);
    if (fails && json_array_size(thresholds) != s->task.n_choices)
        bad(m, "thresholds", "as long as \"choices\"");
    if (!fails || m->err->code)
        return;
    s->fails = g_new0(unsigned char, s->task.n_choices + 1);
    s->thresholds = g_new0(double, s->task.n_choices + 1);
    for (size_t i = 0; i < json_array_size(fails); i++) {
        const uint32_t choice = find_choice(s, json_string_value(json_array_get(fails, i)));
        if (choice == s->task.n_choices)
            bad(m, "fail-choices", "among \"choices\"");
        s->fails[choice] = 1;
    }
    for (uint32_t i = 0; i < s->task.n_choices; i++)
        s->thresholds[i] = json_number_value(json_array_get(thresholds, i));
}

static void read_shape(cli_recorded_settings *s, const members *m)
{
    const json_t *choices = array_of(m, "choices", is_text);
    const char *pattern = text_of(m, "pattern", false);
    if (json_array_size(choices) > GLM4V_MAX_CHOICES)
        bad(m, "choices", "at most " G_STRINGIFY(GLM4V_MAX_CHOICES) " texts");
    if (m->err->code)
        return;
    s->task.n_choices = (uint32_t)json_array_size(choices);
    s->choices = g_new0(const char *, s->task.n_choices + 1);
    for (uint32_t i = 0; i < s->task.n_choices; i++)
        s->choices[i] = json_string_value(json_array_get(choices, i));
    s->task.choices = s->task.n_choices ? s->choices : NULL;
    read_fails(s, m);
    s->task.json_schema = text_of(m, "json-schema", false);
    s->timeout_verdict = text_of(m, "timeout-verdict", false);
    if (pattern && !m->err->code)
        glm4v_matcher_open(&s->matcher, pattern, m->err);
}

static void read_question(cli_recorded_settings *s, const members *m)
{
    const members sampling = object_of(m, "sampling"), limits = object_of(m, "limits");
    s->prompts = array_of(m, "prompts", is_text);
    if (!s->prompts)
        bad(m, "prompts", "an array");
    s->placeholders = flag_of(m, "placeholders");
    s->camera = text_of(m, "camera", false);
    s->kv_cache = text_of(m, "kv-cache", true);
    s->task = (glm4v_task) {
        .struct_size = sizeof s->task,
        .system = text_of(m, "system", false),
        .max_tokens = (uint32_t)count_of(&limits, "max-tokens", 0, GLM4V_MAX_TOKENS),
        .temperature = real_of(&sampling, "temperature", 2),
        .top_k = (uint32_t)count_of(&sampling, "top-k", 0, UINT32_MAX),
        .top_p = real_of(&sampling, "top-p", 1),
        .repetition_penalty = real_of(&sampling, "repetition-penalty", 2),
        .seed = count_of(&sampling, "seed", 0, INT64_MAX),
        .thinking = flag_of(&sampling, "thinking"),
    };
    s->context_length = (uint32_t)count_of(&limits, "context-length", 0, UINT32_MAX);
    s->max_pixels = count_of(&limits, "max-pixels", 0, INT64_MAX);
}

static const char *text_or_nothing(const members *m, const char *key)
{
    const char *text = text_of(m, key, false);
    return text ? text : "";
}

static void read_model(cli_recorded_settings *s, const members *m)
{
    s->has_model = json_object_get(m->object, "model") != NULL;
    if (!s->has_model)
        return;
    const members model = object_of(m, "model");
    s->model = (cli_recorded_model) {
        .name = text_of(&model, "name", true),
        .hash = text_or_nothing(&model, "hash"),
        .quant = text_or_nothing(&model, "quant"),
        .isa = text_or_nothing(&model, "isa"),
        .products = text_or_nothing(&model, "products"),
        .device = text_or_nothing(&model, "device"),
    };
}

static void clear_settings(cli_recorded_settings *s)
{
    json_decref(s->root);
    g_free(s->choices);
    g_free(s->fails);
    g_free(s->thresholds);
    glm4v_matcher_close(&s->matcher);
    *s = (cli_recorded_settings) { 0 };
}

cli_recorded_settings *cli_recorded_settings_take(cli_recorded_settings *from)
{
    cli_recorded_settings *taken = g_new(cli_recorded_settings, 1);
    *taken = *from;
    *from = (cli_recorded_settings) { 0 };
    return taken;
}

void cli_recorded_settings_free(cli_recorded_settings *settings)
{
    clear_settings(settings);
    g_free(settings);
}

static int visit_settings(const cli_record_visitor *v, const char *line, cli_recorded_settings *s,
                          glm4v_error *err)
{
    const members m = { s->root, err };
    char computed[GLM4V_DIGEST_SIZE];
    const char *hash = text_of(&m, "hash", true);
    s->genuine = glm4v_contract_settings_check(line, computed);
    g_strlcpy(s->hash, hash ? hash : "", sizeof s->hash);
    read_question(s, &m);
    read_shape(s, &m);
    read_model(s, &m);
    const int rc = err->code ? err->code : v->settings(v->user, s, err);
    clear_settings(s);
    return rc;
}

/* ---- results ---- */

static void read_part(cli_recorded_result *r, const members *m)
{
    r->has_part = json_object_get(m->object, "roi") != NULL;
    if (!r->has_part)
        return;
    const members roi = object_of(m, "roi");
    r->part = (cli_part) {
        .x = (int32_t)count_of(&roi, "x", 0, GLM4V_MAX_SIDE),
        .y = (int32_t)count_of(&roi, "y", 0, GLM4V_MAX_SIDE),
        .width = (int32_t)count_of(&roi, "width", 0, GLM4V_MAX_SIDE),
        .height = (int32_t)count_of(&roi, "height", 0, GLM4V_MAX_SIDE),
    };
    r->label = text_of(&roi, "label", false);
}

static void read_result(cli_recorded_result *r, const members *m)
{
    const json_t *clip = json_object_get(m->object, "clip");
    const json_t *time = json_object_get(m->object, "running-time");
    r->id = count_of(m, "id", -1, INT64_MAX);
    r->status = text_of(m, "status", true);
    r->settings = text_of(m, "settings", true);
    r->prompt_hash = text_of(m, "prompt-hash", true);
    r->pictures = array_of(m, "pictures", is_digest);
    r->prompt_number = count_of(m, "prompt-number", 0, INT64_MAX);
    r->frame_number = count_of(m, "frame-number", 0, INT64_MAX);
    r->running_time =
        json_is_integer(time) ? (uint64_t)json_integer_value(time) : GLM4V_UNKNOWN_TIME;
    if (clip) {
        const members of_clip = object_of(m, "clip");
        r->times = array_of(&of_clip, "times", is_count);
        if (r->pictures && json_array_size(r->times) != json_array_size(r->pictures))
            bad(m, "clip", "of as many times as pictures");
    }
    read_part(r, m);
    if (json_array_size(r->pictures) > (clip ? GLM4V_MAX_FRAMES : 1))
        bad(m, "pictures", "of so many");
}

static int visit_line(const cli_record_visitor *v, const GString *line, int64_t number,
                      glm4v_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(line->str, line->len, JSON_REJECT_DUPLICATES, &why);
    const char *type = json_string_value(json_object_get(root, "type"));
    int rc = 0;
    if (!json_is_object(root)) {
        rc = cli_fail(err, GLM4V_ERR_FORMAT, "%s", root ? "this is no object" : why.text);
        json_decref(root);
    } else if (type && !strcmp(type, "settings")) {
        rc = visit_settings(v, line->str, &(cli_recorded_settings) { .root = root, .line = number },
                            err);
    } else {
        cli_recorded_result result = { .root = root, .line = number };
        const char *status = json_string_value(json_object_get(root, "status"));
        if (!type && g_strcmp0(status, "warning")) {
            read_result(&result, &(members) { root, err });
            rc = err->code ? err->code : v->result(v->user, &result, err);
        }
        json_decref(root);
    }
    return rc;
}

/* The next line without its end; false at the end of the file, or where it is too long. */
static bool next_line(FILE *file, GString *line, glm4v_error *err)
{
    int c;
    g_string_truncate(line, 0);
    while ((c = getc_unlocked(file)) != EOF && c != '\n') {
        g_string_append_c(line, (char)c);
        if (line->len > MOST_LINE) {
            cli_fail(err, GLM4V_ERR_FORMAT, "it is longer than %d bytes", MOST_LINE);
            return false;
        }
    }
    if (ferror(file))
        cli_fail(err, GLM4V_ERR_IO, "%s", strerror(errno));
    return !ferror(file) && (c == '\n' || line->len > 0);
}

int cli_record_read_file(FILE *file, const char *path, const cli_record_visitor *visitor,
                         glm4v_error *err)
{
    GString *line = g_string_sized_new(4096);
    glm4v_error why = { 0 };
    int64_t number = 0;
    int rc = 0;
    while (!rc && next_line(file, line, &why)) {
        number++;
        if (line->len)
            rc = visit_line(visitor, line, number, &why);
    }
    if (why.code)
        rc = cli_fail(err, why.code, "%.160s: line %lld: %.240s", path, (long long)number + !rc,
                      why.msg);
    g_string_free(line, TRUE);
    return rc;
}

int cli_record_read(const char *path, const cli_record_visitor *visitor, glm4v_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return cli_fail(err, GLM4V_ERR_NOT_FOUND, "%.200s: %s", path, strerror(errno));
    const int rc = cli_record_read_file(file, path, visitor, err);
    fclose(file);
    return rc;
}
