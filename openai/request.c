/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of a request, see request.h. What is unknown is passed over, as other servers do;
 * what is known and would change the answer, but cannot be done, is refused by its name; what
 * only colours it is listed as ignored. */
#include "openai/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "openai/reader.h"

#define FILE_NAME "request"

int openai_refuse(const openai_reader *r, const char *parameter, int code, const char *format, ...)
{
    char text[sizeof r->err->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(r->parameter, OPENAI_MAX_PARAMETER, "%s", parameter);
    return glm4v_fail(r->err, code, "%s", text);
}

/* rc of a getter, with the name of what it got. */
static int about(const openai_reader *r, const char *parameter, int rc)
{
    if (rc)
        snprintf(r->parameter, OPENAI_MAX_PARAMETER, "%s", parameter);
    return rc;
}

/* ---- values ---- */

static int read_count(const openai_reader *r, const char *key, glm4v_range range, uint32_t *value)
{
    int64_t n = *value;
    int rc = glm4v_json_int(r->request->root, FILE_NAME, key, range, &n, r->err);
    *value = (uint32_t)n;
    return about(r, key, rc);
}

static int read_number(const openai_reader *r, const char *key, glm4v_interval range, double *value)
{
    return about(r, key, glm4v_json_double(r->request->root, FILE_NAME, key, range, value, r->err));
}

static int read_flag(const openai_reader *r, const json_t *object, const char *key, bool *value)
{
    return about(r, key, glm4v_json_bool(object, FILE_NAME, key, value, r->err));
}

static int read_object(const openai_reader *r, const char *key, const json_t **value)
{
    return about(r, key, glm4v_json_object(r->request->root, FILE_NAME, key, value, r->err));
}

/* ---- tokens and sampling ---- */

static int read_tokens(const openai_reader *r)
{
    openai_request *q = r->request;
    const glm4v_range range = { 1, r->limits->max_tokens };
    q->max_tokens = r->limits->tokens;
    int rc = read_count(r, "max_tokens", range, &q->max_tokens);
    if (!rc)
        rc = read_count(r, "max_completion_tokens", range, &q->max_tokens);
    q->max_reasoning_tokens = q->max_tokens;
    return rc ? rc : read_count(r, "max_reasoning_tokens", range, &q->max_reasoning_tokens);
}

static int read_seed(const openai_reader *r)
{
    int64_t seed = 0;
    const json_t *given = json_object_get(r->request->root, "seed");
    int rc = glm4v_json_int(r->request->root, FILE_NAME, "seed",
                            (glm4v_range) { INT64_MIN, INT64_MAX }, &seed, r->err);
    r->request->seed = (uint64_t)seed;
    r->request->has_seed = given && !json_is_null(given);
    return about(r, "seed", rc);
}

static int read_sampling(const openai_reader *r)
{
    openai_request *q = r->request;
    q->top_p = q->repetition_penalty = 1;
    int rc = read_number(r, "temperature", (glm4v_interval) { 0, 2 }, &q->temperature);
    if (!rc)
        rc = read_number(r, "top_p", (glm4v_interval) { 1e-9, 1 }, &q->top_p);
    if (!rc)
        rc = read_count(r, "top_k", (glm4v_range) { 0, 1000000 }, &q->top_k);
    if (!rc)
        rc =
            read_number(r, "repetition_penalty", (glm4v_interval) { 1, 2 }, &q->repetition_penalty);
    return rc ? rc : read_seed(r);
}

/* ---- stop ---- */

static int add_stop(const openai_reader *r, const json_t *value)
{
    const char *text = json_string_value(value);
    if (!text || !*text)
        return openai_refuse(r, "stop", GLM4V_ERR_INVALID,
                             "\"stop\" is a text that is not empty, or a list of such");
    if (strlen(text) > OPENAI_MAX_STOP_BYTES)
        return openai_refuse(r, "stop", GLM4V_ERR_INVALID,
                             "a text in \"stop\" is longer than %d bytes", OPENAI_MAX_STOP_BYTES);
    if (r->request->n_stops == OPENAI_MAX_STOPS)
        return openai_refuse(r, "stop", GLM4V_ERR_INVALID, "\"stop\" has more than %d texts",
                             OPENAI_MAX_STOPS);
    r->request->stops[r->request->n_stops++] = text;
    return 0;
}

static int read_stops(const openai_reader *r)
{
    const json_t *stop = json_object_get(r->request->root, "stop");
    int rc = 0;
    if (!stop || json_is_null(stop))
        return 0;
    if (!json_is_array(stop))
        return add_stop(r, stop);
    for (size_t i = 0; !rc && i < json_array_size(stop); i++)
        rc = add_stop(r, json_array_get(stop, i));
    return rc;
}

/* ---- what is sent ---- */

static int read_stream(const openai_reader *r)
{
    const json_t *options = NULL;
    int rc = read_flag(r, r->request->root, "stream", &r->request->stream);
    if (!rc)
        rc = read_object(r, "stream_options", &options);
    if (!rc && options)
        rc = read_flag(r, options, "include_usage", &r->request->usage);
    return rc;
}

/* Three ways to say the same. */
static int read_thinking(const openai_reader *r)
{
    openai_request *q = r->request;
    const json_t *arguments = NULL;
    q->reasoning = true;
    int rc = read_object(r, "chat_template_kwargs", &arguments);
    if (!rc && arguments)
        rc = read_flag(r, arguments, "enable_thinking", &q->thinking);
    if (!rc)
        rc = read_flag(r, q->root, "enable_thinking", &q->thinking);
    return rc ? rc : read_flag(r, q->root, "return_reasoning", &q->reasoning);
}

/* ---- what cannot be done ---- */

static bool is_nothing(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && !json_array_size(value)) ||
           (json_is_object(value) && !json_object_size(value)) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static int refuse_unsupported(const openai_reader *r)
{
    static const char *const names[] = { "tools",          "functions",       "logprobs",
                                         "top_logprobs",   "audio",           "guided_regex",
                                         "guided_grammar", "prompt_logprobs", "best_of",
                                         "use_beam_search" };
    int64_t n = 1;
    int rc =
        about(r, "n",
              glm4v_json_int(r->request->root, FILE_NAME, "n", (glm4v_range) { 1, 1 }, &n, r->err));
    for (size_t i = 0; !rc && i < sizeof names / sizeof *names; i++)
        if (!is_nothing(json_object_get(r->request->root, names[i])))
            rc = openai_refuse(r, names[i], GLM4V_ERR_UNSUPPORTED, "\"%s\" is not supported",
                               names[i]);
    return rc;
}

static void list_ignored(openai_request *q)
{
    static const char *const names[] = { "frequency_penalty", "presence_penalty", "logit_bias",
                                         "min_p", "reasoning_effort" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!is_nothing(json_object_get(q->root, names[i])))
            q->ignored[q->n_ignored++] = names[i];
}

int openai_request_read(openai_request *request, const char *json, size_t size,
                        const openai_limits *limits, char parameter[OPENAI_MAX_PARAMETER],
                        glm4v_error *err)
{
    const glm4v_json_limits bounds = { .bytes = limits->bytes,
                                       .nodes = 100000,
                                       .string = limits->bytes,
                                       .memory = limits->bytes + (32 << 20),
                                       .depth = 64 };
    const openai_reader r = { request, limits, parameter, err };
    *request = (openai_request) { 0 };
    parameter[0] = 0;
    int rc = glm4v_json_parse(&request->root, json, size, FILE_NAME, &bounds, err);
    if (!rc && !json_is_object(request->root))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "the request is not a JSON object");
    if (!rc)
        rc = about(&r, "model",
                   glm4v_json_string(request->root, FILE_NAME, "model", &request->model, err));
    if (!rc)
        rc = refuse_unsupported(&r);
    if (!rc)
        rc = read_tokens(&r);
    if (!rc)
        rc = read_sampling(&r);
    if (!rc)
        rc = read_stops(&r);
    if (!rc)
        rc = read_stream(&r);
    if (!rc)
        rc = read_thinking(&r);
    if (!rc)
        rc = openai_read_shape(&r);
    if (!rc)
        rc = openai_read_messages(&r);
    if (!rc)
        list_ignored(request);
    return rc;
}

void openai_request_drop_messages(openai_request *request)
{
    json_object_del(request->root, "messages");
    glm4v_free(request->pictures);
    request->pictures = NULL;
    request->n_pictures = 0;
}

void openai_request_close(openai_request *request)
{
    json_decref(request->root);
    free(request->json_schema);
    glm4v_free(request->pictures);
    glm4v_free(request->texts);
    *request = (openai_request) { 0 };
}
