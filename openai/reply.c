/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reply.h. Keys that are missing are the rule, as servers differ; values of another type are
 * errors where an answer hangs on them, and passed over where it does not. */
#include "openai/reply.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#define FILE_NAME "the server's answer"

static const glm4v_json_limits LIMITS = {
    .bytes = 4 << 20, .nodes = 200000, .string = 1 << 20, .memory = 64 << 20, .depth = 64
};

/* ---- texts ---- */

/* Copy as much of text [0, size) as fits, whole characters, controls as spaces. */
static void copy_text(char *to, size_t room, const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        uint32_t code = GLM4V_REPLACEMENT;
        unsigned char s[4];
        const int read = glm4v_utf8_next((const unsigned char *)text + i, size - i, &code);
        if (!read)
            break; /* the end cuts it */
        i += (size_t)(read < 0 ? -read : read);
        const int len = glm4v_utf8_put(s, glm4v_utf8_hidden(code) ? ' ' : code);
        if (n + (size_t)len >= room)
            break;
        memcpy(to + n, s, (size_t)len);
        n += (size_t)len;
    }
    to[n] = 0;
}

static void copy_string(char *to, size_t room, const json_t *value)
{
    if (json_is_string(value))
        copy_text(to, room, json_string_value(value), json_string_length(value));
}

/* The words of {"error": {"message": ...}}, {"error": "..."}, {"message": ...}, {"detail": ...};
 * NULL: there are none. */
static const json_t *reason_of(const json_t *root)
{
    const json_t *error = json_object_get(root, "error");
    const json_t *message = json_object_get(error, "message");
    if (!message)
        message = json_is_string(error) ? error : json_object_get(root, "message");
    if (!message)
        message = json_object_get(root, "detail");
    return json_is_string(message) ? message : NULL;
}

void openai_read_reason(char reason[OPENAI_MAX_REASON], const char *body, size_t size)
{
    glm4v_error err = { 0 };
    json_t *root = NULL;
    reason[0] = 0;
    if (!glm4v_json_parse(&root, body, size, FILE_NAME, &LIMITS, &err))
        copy_string(reason, OPENAI_MAX_REASON, reason_of(root));
    json_decref(root);
    if (reason[0])
        return;
    size_t n = 0;
    while (n < size && body[n] != '\n' && body[n] != '\r' && body[n])
        n++;
    copy_text(reason, OPENAI_MAX_REASON, body, n);
}

/* ---- an object ---- */

static int wrong(glm4v_error *err, const char *what)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s is not a chat completion: %s", FILE_NAME, what);
}

/* A number of tokens, or what was there before. */
static uint32_t count_of(const json_t *value, uint32_t before)
{
    const int64_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    return n >= 0 && n <= INT32_MAX ? (uint32_t)n : before;
}

static void read_usage(openai_reply *r, const json_t *usage)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    const json_t *output = json_object_get(usage, "completion_tokens_details");
    r->prompt_tokens = count_of(json_object_get(usage, "prompt_tokens"), r->prompt_tokens);
    r->output_tokens = count_of(json_object_get(usage, "completion_tokens"), r->output_tokens);
    r->cached_tokens = count_of(json_object_get(details, "cached_tokens"), r->cached_tokens);
    r->accepted_tokens =
        count_of(json_object_get(output, "accepted_prediction_tokens"), r->accepted_tokens);
    r->rejected_tokens =
        count_of(json_object_get(output, "rejected_prediction_tokens"), r->rejected_tokens);
}

static uint64_t time_of(const json_t *timings, const char *key)
{
    const double seconds = json_number_value(json_object_get(timings, key));
    return seconds > 0 && seconds < 1e6 ? (uint64_t)(seconds * 1e9) : 0;
}

static void read_extension(openai_reply *r, json_t *extension)
{
    const json_t *timings = json_object_get(extension, "timings");
    if (!json_is_object(extension))
        return;
    r->vision_tokens = count_of(json_object_get(extension, "vision_tokens"), r->vision_tokens);
    r->vision_time = time_of(timings, "vision");
    r->prefill_time = time_of(timings, "prefill");
    json_decref(r->extension);
    r->extension = json_incref(extension);
}

static int read_logprobs(openai_reply *r, const json_t *logprobs, glm4v_error *err)
{
    json_t *content = json_object_get(logprobs, "content");
    if (!json_is_array(content) || !json_array_size(content))
        return 0;
    if (!r->tokens)
        r->tokens = json_array();
    if (!r->tokens || json_array_extend(r->tokens, content))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the probabilities of an answer");
    return 0;
}

static int take_text(glm4v_text_out *to, const json_t *value, const char **piece, glm4v_error *err)
{
    const size_t n = json_string_length(value);
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_string(value))
        return wrong(err, "its text is of another type");
    if (to->size + n > OPENAI_MAX_REPLY_TEXT)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s is longer than %d KiB", FILE_NAME,
                          OPENAI_MAX_REPLY_TEXT >> 10);
    const size_t before = to->size;
    glm4v_text_add(to, json_string_value(value), n);
    if (to->failed)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer");
    *piece = n ? to->data + before : "";
    return 0;
}

/* "delta" of an event or "message" of a whole answer. */
static int read_message(openai_reply *r, const json_t *message, openai_piece *piece,
                        glm4v_error *err)
{
    const json_t *reasoning = json_object_get(message, "reasoning_content");
    if (!json_is_string(reasoning)) /* as vLLM calls it since 0.11 */
        reasoning = json_object_get(message, "reasoning");
    if (!json_is_object(message))
        return wrong(err, "it has no message");
    int rc = take_text(&r->content, json_object_get(message, "content"), &piece->content, err);
    return rc ? rc : take_text(&r->reasoning, reasoning, &piece->reasoning, err);
}

static int read_finish(openai_reply *r, const json_t *reason, glm4v_error *err)
{
    const char *text = json_string_value(reason);
    if (!text)
        return 0;
    if (!strcmp(text, "error"))
        return glm4v_fail(err, GLM4V_ERR_IO, "the server's model failed");
    r->finished = true;
    r->cut = !strcmp(text, "length");
    return 0;
}

/* One of "choices". */
static int read_answer(openai_reply *r, const json_t *answer, const char *key, openai_piece *piece,
                       glm4v_error *err)
{
    int rc = read_message(r, json_object_get(answer, key), piece, err);
    if (!rc)
        rc = read_logprobs(r, json_object_get(answer, "logprobs"), err);
    return rc ? rc : read_finish(r, json_object_get(answer, "finish_reason"), err);
}

static int read_error(const json_t *root, glm4v_error *err)
{
    char reason[OPENAI_MAX_REASON] = "no reason is given";
    const json_t *error = json_object_get(root, "error");
    if (!error || json_is_null(error))
        return 0;
    copy_string(reason, sizeof reason, reason_of(root));
    return glm4v_fail(err, GLM4V_ERR_IO, "the server failed: %s", reason);
}

/* key: where the text of a choice is. */
static int read_object(openai_reply *r, const json_t *root, const char *key, openai_piece *piece,
                       glm4v_error *err)
{
    const json_t *choices = json_object_get(root, "choices");
    const json_t *usage = json_object_get(root, "usage");
    int rc = json_is_object(root) ? read_error(root, err) : wrong(err, "it is no object");
    if (rc)
        return rc;
    if (!json_is_array(choices))
        return wrong(err, "it has no choices");
    copy_string(r->model, sizeof r->model, json_object_get(root, "model"));
    read_usage(r, usage);
    read_extension(r, json_object_get(root, "glm4v"));
    return json_array_size(choices) ? read_answer(r, json_array_get(choices, 0), key, piece, err)
                                    : 0;
}

static int read_json(openai_reply *r, const char *json, size_t size, const char *key,
                     openai_piece *piece, glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_json_parse(&root, json, size, FILE_NAME, &LIMITS, err);
    if (!rc)
        rc = read_object(r, root, key, piece, err);
    json_decref(root);
    return rc;
}

int openai_reply_event(openai_reply *reply, const char *data, size_t size, openai_piece *piece,
                       glm4v_error *err)
{
    openai_piece own;
    piece = piece ? piece : &own;
    *piece = (openai_piece) { "", "" };
    if (size == 6 && !memcmp(data, "[DONE]", 6)) {
        reply->done = true;
        return 0;
    }
    return read_json(reply, data, size, "delta", piece, err);
}

int openai_reply_whole(openai_reply *reply, const char *json, size_t size, glm4v_error *err)
{
    openai_piece piece;
    int rc = read_json(reply, json, size, "message", &piece, err);
    if (!rc && !reply->finished)
        rc = wrong(err, "it tells no reason of its end");
    reply->done = !rc;
    return rc;
}

void openai_reply_close(openai_reply *reply)
{
    glm4v_free(reply->content.data);
    glm4v_free(reply->reasoning.data);
    json_decref(reply->extension);
    json_decref(reply->tokens);
    *reply = (openai_reply) { 0 };
}

/* ---- models ---- */

int openai_read_models(char model[OPENAI_MAX_MODEL_NAME], const char *json, size_t size,
                       glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_json_parse(&root, json, size, "the server's list of models", &LIMITS, err);
    model[0] = 0;
    if (!rc)
        copy_string(model, OPENAI_MAX_MODEL_NAME,
                    json_object_get(json_array_get(json_object_get(root, "data"), 0), "id"));
    json_decref(root);
    if (!rc && !model[0])
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "the server's list of models has none");
    return rc;
}
