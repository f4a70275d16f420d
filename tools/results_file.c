/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See results_file.h. */
#include "results_file.h"

#include <gst/gst.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

enum { VERSION = 1 };
#define ELEMENT "GstGlm4vDescribe"

/* ---- writing ---- */

/* Names of choices; folders may have any bytes, JSON must be UTF-8. */
static json_t *string_of(const char *text)
{
    char *valid = g_utf8_make_valid(text, -1);
    json_t *string = json_string(valid);
    g_free(valid);
    return string;
}

static json_t *numbers_of(const double *numbers, uint32_t n)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(array, json_real(numbers[i]));
    return array;
}

static json_t *names_of(const cli_shape *shape, bool fails_only)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < shape->n; i++)
        if (!fails_only || shape->fails[i])
            json_array_append_new(array, json_string(shape->choices[i]));
    return array;
}

static json_t *pictures_of(const cli_judged *judged)
{
    const cli_shape *shape = &judged->shape;
    json_t *array = json_array();
    for (size_t i = 0; i < judged->n; i++) {
        const cli_judged_picture *p = &judged->pictures[i];
        json_t *picture = json_object();
        json_object_set_new(picture, "path", string_of(p->path));
        json_object_set_new(picture, "folder", json_string(shape->choices[p->folder]));
        json_object_set_new(picture, "choice",
                            json_string(shape->choices[cli_judged_choice(judged, p)]));
        json_object_set_new(picture, "verdict",
                            json_string(glm4v_verdict_name(cli_judged_verdict(judged, p))));
        json_object_set_new(picture, "probabilities", numbers_of(p->probabilities, shape->n));
        json_array_append_new(array, picture);
    }
    return array;
}

static json_t *model_of(const glm4v_model_info *info)
{
    json_t *model = json_object();
    json_object_set_new(model, "name", string_of(info->name));
    json_object_set_new(model, "hash", json_string(info->hash));
    return model;
}

/* Write text so that the file appears complete or not at all. */
static int replace_file(const char *path, const char *text, size_t len, glm4v_error *err)
{
    GError *error = NULL;
    int rc = 0;
    if (!g_file_set_contents(path, text, (gssize)len, &error))
        rc = cli_fail(err, GLM4V_ERR_IO, "%.100s: %.140s", path, error->message);
    g_clear_error(&error);
    return rc;
}

int cli_results_write(const char *path, const cli_judged *judged, const cli_results *results,
                      glm4v_error *err)
{
    const cli_shape *shape = &judged->shape;
    json_t *root = json_object();
    json_object_set_new(root, "version", json_integer(VERSION));
    json_object_set_new(root, "model", model_of(results->model));
    json_object_set_new(root, "prompt", json_string(results->prompt));
    json_object_set_new(root, "choices", names_of(shape, false));
    json_object_set_new(root, "fail-choices", names_of(shape, true));
    json_object_set_new(root, "thresholds", numbers_of(shape->thresholds, shape->n));
    json_object_set_new(root, "escape-rate", json_real(results->rate));
    json_object_set_new(root, "confidence", json_real(results->confidence));
    if (results->drift)
        json_object_set(root, "drift", results->drift);
    json_object_set_new(root, "pictures", pictures_of(judged));
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    int rc = text ? replace_file(path, text, strlen(text), err)
                  : cli_fail(err, GLM4V_ERR_NOMEM, "no memory for the results");
    free(text);
    json_decref(root);
    return rc;
}

/* ---- reading ---- */

/* Non-empty, of strings. */
static bool are_names(const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        if (!json_is_string(json_array_get(array, i)))
            return false;
    return json_array_size(array) > 0;
}

/* A number in [0, 1] for each choice. */
static bool are_shares(const json_t *array, size_t n)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *number = json_array_get(array, i);
        const double value = json_number_value(number);
        if (!json_is_number(number) || value < 0 || value > 1)
            return false;
    }
    return json_array_size(array) == n;
}

/* What is wrong with a file; NULL: nothing. */
static const char *fault_of(const json_t *root)
{
    const json_t *choices = json_object_get(root, "choices");
    const json_t *pictures = json_object_get(root, "pictures");
    if (json_integer_value(json_object_get(root, "version")) != VERSION)
        return "\"version\" is not 1";
    if (!are_names(choices))
        return "\"choices\" is no list of texts";
    if (!are_names(json_object_get(root, "fail-choices")))
        return "\"fail-choices\" is no list of texts";
    if (!json_is_string(json_object_get(root, "prompt")))
        return "\"prompt\" is no text";
    if (!json_is_array(pictures))
        return "\"pictures\" is no list";
    for (size_t i = 0; i < json_array_size(pictures); i++) {
        const json_t *picture = json_array_get(pictures, i);
        if (!json_is_string(json_object_get(picture, "folder")) ||
            !are_shares(json_object_get(picture, "probabilities"), json_array_size(choices)))
            return "a picture has no \"folder\", or not a probability for each choice";
    }
    return NULL;
}

json_t *cli_results_read(const char *path, glm4v_error *err)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    const char *fault = root ? fault_of(root) : NULL;
    if (!root)
        cli_fail(err, error.line < 0 ? GLM4V_ERR_IO : GLM4V_ERR_FORMAT, "%.100s: %.130s", path,
                 error.text);
    else if (fault)
        cli_fail(err, GLM4V_ERR_FORMAT,
                 "%.120s: %s: it was not written by glm4v thresholds --output", path, fault);
    if (fault) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static size_t place_of(const json_t *names, const char *name)
{
    size_t i = 0;
    while (i < json_array_size(names) && strcmp(json_string_value(json_array_get(names, i)), name))
        i++;
    return i;
}

double *cli_results_own(const json_t *earlier, const char *choice, size_t *n)
{
    const json_t *pictures = json_object_get(earlier, "pictures");
    const size_t place = place_of(json_object_get(earlier, "choices"), choice);
    double *own = cli_alloc(json_array_size(pictures), sizeof *own);
    *n = 0;
    for (size_t i = 0; own && i < json_array_size(pictures); i++) {
        const json_t *picture = json_array_get(pictures, i);
        if (!strcmp(json_string_value(json_object_get(picture, "folder")), choice))
            own[(*n)++] =
                json_number_value(json_array_get(json_object_get(picture, "probabilities"), place));
    }
    return own;
}

/* ---- presets ---- */

/* As GStreamer writes a value into such a file. */
static void set_value(GKeyFile *file, const char *preset, const char *key, const GValue *value)
{
    char *text = gst_value_serialize(value);
    g_key_file_set_value(file, preset, key, text);
    g_free(text);
}

static void set_string(GKeyFile *file, const char *preset, const char *key, const char *text)
{
    GValue value = G_VALUE_INIT;
    g_value_init(&value, G_TYPE_STRING);
    g_value_set_string(&value, text);
    set_value(file, preset, key, &value);
    g_value_unset(&value);
}

/* <"a", "b", ...>: the choices, or those of them that fail. */
static void set_choices(GKeyFile *file, const char *preset, const char *key, const cli_shape *shape,
                        bool fails_only)
{
    GValue array = G_VALUE_INIT;
    g_value_init(&array, GST_TYPE_ARRAY);
    for (uint32_t i = 0; i < shape->n; i++) {
        GValue value = G_VALUE_INIT;
        g_value_init(&value, G_TYPE_STRING);
        g_value_set_string(&value, shape->choices[i]);
        if (!fails_only || shape->fails[i])
            gst_value_array_append_value(&array, &value);
        g_value_unset(&value);
    }
    set_value(file, preset, key, &array);
    g_value_unset(&array);
}

/* <0.4, 1.0, ...>: with a point, so that each is read as a number of that type. */
static void set_thresholds(GKeyFile *file, const char *preset, const cli_shape *shape)
{
    GString *text = g_string_new("<");
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    for (uint32_t i = 0; i < shape->n; i++)
        g_string_append_printf(
            text, "%s%s", i ? ", " : " ",
            g_ascii_formatd(number, sizeof number, "%.4f", shape->thresholds[i]));
    g_string_append(text, " >");
    g_key_file_set_value(file, preset, "thresholds", text->str);
    g_string_free(text, TRUE);
}

/* The presets that are there; a file of another element is refused. */
static int load_presets(GKeyFile *file, const char *path, glm4v_error *err)
{
    GError *error = NULL;
    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        return 0;
    const bool loaded = g_key_file_load_from_file(file, path, G_KEY_FILE_KEEP_COMMENTS, &error);
    char *element = g_key_file_get_value(file, "_presets_", "element-name", NULL);
    int rc = 0;
    if (!loaded)
        rc = cli_fail(err, GLM4V_ERR_IO, "%.100s: %.140s", path, error->message);
    else if (g_strcmp0(element, ELEMENT))
        rc = cli_fail(err, GLM4V_ERR_FORMAT, "%.160s: it holds no presets of " ELEMENT, path);
    g_free(element);
    g_clear_error(&error);
    return rc;
}

int cli_preset_write(const char *path, const char *name, const char *prompt,
                     const cli_judged *judged, glm4v_error *err)
{
    GKeyFile *file = g_key_file_new();
    gsize len;
    int rc = load_presets(file, path, err);
    if (!rc) {
        g_key_file_set_value(file, "_presets_", "element-name", ELEMENT);
        if (!g_key_file_has_key(file, "_presets_", "version", NULL))
            g_key_file_set_value(file, "_presets_", "version", "0.1.0");
        g_key_file_remove_group(file, name, NULL);
        set_string(file, name, "prompt", prompt);
        g_key_file_set_value(file, name, "output", "choice");
        set_choices(file, name, "choices", &judged->shape, false);
        set_choices(file, name, "fail-choices", &judged->shape, true);
        set_thresholds(file, name, &judged->shape);
        char *text = g_key_file_to_data(file, &len, NULL);
        rc = replace_file(path, text, len, err);
        g_free(text);
    }
    g_key_file_unref(file);
    return rc;
}
