/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the shape of the answer may be given by: response_format (OpenAI), structured_outputs
 * (vLLM), guided_choice and guided_json (vLLM before it). One of them at most. */
#include <stdlib.h>
#include <string.h>

#include "openai/reader.h"

/* One more way to say the shape: it must be the only one. */
static int claim(const openai_reader *r, const char *parameter)
{
    if (!r->request->n_choices && !r->request->json_schema)
        return 0;
    return openai_refuse(r, parameter, GLM4V_ERR_INVALID,
                         "\"%s\" and another shape of the answer in one request; give one of them",
                         parameter);
}

static int take_choices(const openai_reader *r, const char *parameter, const json_t *list)
{
    const size_t n = json_array_size(list);
    int rc = claim(r, parameter);
    if (!rc && (!json_is_array(list) || !n || n > GLM4V_MAX_CHOICES))
        rc = openai_refuse(r, parameter, GLM4V_ERR_INVALID, "\"%s\" is a list of 1 to %d texts",
                           parameter, GLM4V_MAX_CHOICES);
    for (size_t i = 0; !rc && i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            rc = openai_refuse(r, parameter, GLM4V_ERR_INVALID,
                               "choice %zu of \"%s\" is not a text", i, parameter);
        else
            r->request->choices[r->request->n_choices++] = text;
    }
    return rc;
}

/* A schema as an object, or as a text that holds one. */
static int take_schema(const openai_reader *r, const char *parameter, const json_t *schema)
{
    const char *text = json_string_value(schema);
    int rc = claim(r, parameter);
    if (!rc && !json_is_object(schema) && !text)
        rc = openai_refuse(r, parameter, GLM4V_ERR_INVALID, "\"%s\" has no schema", parameter);
    if (rc)
        return rc;
    r->request->json_schema = text ? strdup(text) : json_dumps(schema, JSON_COMPACT);
    if (!r->request->json_schema)
        return openai_refuse(r, parameter, GLM4V_ERR_NOMEM, "no memory for a schema");
    if (strlen(r->request->json_schema) > OPENAI_MAX_SCHEMA_BYTES)
        return openai_refuse(r, parameter, GLM4V_ERR_INVALID, "the schema is longer than %d KiB",
                             OPENAI_MAX_SCHEMA_BYTES >> 10);
    return 0;
}

static int read_format(const openai_reader *r, const json_t *format)
{
    const char *type = json_string_value(json_object_get(format, "type"));
    if (type && !strcmp(type, "text"))
        return 0;
    if (type && !strcmp(type, "json_schema"))
        return take_schema(r, "response_format",
                           json_object_get(json_object_get(format, "json_schema"), "schema"));
    if (type && !strcmp(type, "json_object"))
        return openai_refuse(r, "response_format", GLM4V_ERR_UNSUPPORTED,
                             "response_format \"json_object\" is not supported: give a schema with "
                             "\"json_schema\"");
    return openai_refuse(r, "response_format", GLM4V_ERR_INVALID,
                         "the type of \"response_format\" is not \"text\" or \"json_schema\"");
}

static int read_structured(const openai_reader *r, const json_t *outputs)
{
    const json_t *choice = json_object_get(outputs, "choice");
    const json_t *schema = json_object_get(outputs, "json");
    const char *key;
    json_t *value;
    int rc = 0;
    if (choice && !json_is_null(choice))
        rc = take_choices(r, "structured_outputs.choice", choice);
    if (!rc && schema && !json_is_null(schema))
        rc = take_schema(r, "structured_outputs.json", schema);
    json_object_foreach((json_t *)outputs, key, value)
    {
        if (!rc && strcmp(key, "choice") && strcmp(key, "json") && !json_is_null(value) &&
            !json_is_false(value))
            rc = openai_refuse(r, "structured_outputs", GLM4V_ERR_UNSUPPORTED,
                               "\"structured_outputs\" with \"%.40s\" is not supported", key);
    }
    return rc;
}

static const json_t *given(const openai_reader *r, const char *key)
{
    const json_t *value = json_object_get(r->request->root, key);
    return value && json_is_null(value) ? NULL : value;
}

static int object_expected(const openai_reader *r, const char *key)
{
    const json_t *value = given(r, key);
    return !value || json_is_object(value)
               ? 0
               : openai_refuse(r, key, GLM4V_ERR_INVALID, "\"%s\" is not an object", key);
}

int openai_read_shape(const openai_reader *r)
{
    int rc = object_expected(r, "response_format");
    if (!rc)
        rc = object_expected(r, "structured_outputs");
    if (!rc && given(r, "response_format"))
        rc = read_format(r, given(r, "response_format"));
    if (!rc && given(r, "structured_outputs"))
        rc = read_structured(r, given(r, "structured_outputs"));
    if (!rc && given(r, "guided_choice"))
        rc = take_choices(r, "guided_choice", given(r, "guided_choice"));
    if (!rc && given(r, "guided_json"))
        rc = take_schema(r, "guided_json", given(r, "guided_json"));
    return rc;
}
