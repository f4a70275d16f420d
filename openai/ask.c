/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See ask.h. Keys beyond OpenAI's are those of vLLM, which other servers have taken over; those
 * that say what a server does anyway are left out. */
#include "openai/ask.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "openai/number.h"

enum { TOP_LOGPROBS = 20 }; /* that a server tells at most */

static void add(glm4v_text_out *out, const char *text)
{
    glm4v_text_add(out, text, strlen(text));
}

static void add_string(glm4v_text_out *out, const char *key, const char *value)
{
    glm4v_text_string(out, key);
    add(out, ":");
    glm4v_text_string(out, value);
}

/* ---- pictures ---- */

static void add_base64(glm4v_text_out *out, const unsigned char *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[4 * 256];
    size_t n = 0;
    for (size_t i = 0; i < size; i += 3) {
        const size_t left = size - i;
        const uint32_t bits = (uint32_t)data[i] << 16 |
                              (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                              (left > 2 ? data[i + 2] : 0);
        line[n++] = digits[bits >> 18];
        line[n++] = digits[bits >> 12 & 63];
        line[n++] = left > 1 ? digits[bits >> 6 & 63] : '=';
        line[n++] = left > 2 ? digits[bits & 63] : '=';
        if (n == sizeof line) {
            glm4v_text_add(out, line, n);
            n = 0;
        }
    }
    glm4v_text_add(out, line, n);
}

static void add_url(glm4v_text_out *out, const openai_file *file)
{
    glm4v_text_format(out, "\"data:%s;base64,", file->type);
    add_base64(out, file->data, file->size);
    add(out, "\"");
}

static void add_pictures(glm4v_text_out *out, const openai_ask *ask)
{
    for (uint32_t i = 0; i < ask->n_files; i++) {
        add(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
        add_url(out, &ask->files[i]);
        add(out, "}},");
    }
}

static void add_clip(glm4v_text_out *out, const openai_ask *ask)
{
    add(out, "{\"type\":\"video\",\"video\":[");
    for (uint32_t i = 0; i < ask->n_files; i++) {
        add(out, i ? "," : "");
        add_url(out, &ask->files[i]);
    }
    add(out, "],\"times\":[");
    for (uint32_t i = 0; i < ask->n_files; i++) {
        add(out, i ? "," : "");
        openai_write_decimal(out, ask->files[i].seconds);
    }
    add(out, "]},");
}

static void add_messages(glm4v_text_out *out, const openai_ask *ask, bool clip)
{
    size_t room = 4096;
    for (uint32_t i = 0; i < ask->n_files; i++)
        room += ask->files[i].size / 3 * 4 + 128;
    glm4v_text_reserve(out, room);
    add(out, "\"messages\":[");
    if (ask->system && *ask->system) {
        add(out, "{\"role\":\"system\",");
        add_string(out, "content", ask->system);
        add(out, "},");
    }
    add(out, "{\"role\":\"user\",\"content\":[");
    if (clip)
        add_clip(out, ask);
    else
        add_pictures(out, ask);
    add(out, "{\"type\":\"text\",");
    add_string(out, "text", ask->prompt);
    add(out, "}]}]");
}

/* ---- options ---- */

static void add_sampling(glm4v_text_out *out, const openai_ask *ask)
{
    add(out, ",\"temperature\":");
    openai_write_decimal(out, ask->temperature);
    if (ask->top_p > 0 && ask->top_p < 1) {
        add(out, ",\"top_p\":");
        openai_write_decimal(out, ask->top_p);
    }
    if (ask->top_k)
        glm4v_text_format(out, ",\"top_k\":%" PRIu32, ask->top_k);
    if (ask->repetition_penalty > 1) {
        add(out, ",\"repetition_penalty\":");
        openai_write_decimal(out, ask->repetition_penalty);
    }
    if (ask->temperature >
        0) /* without draws it has no effect; 63 bits are what all servers take */
        glm4v_text_format(out, ",\"seed\":%" PRIu64, ask->seed & INT64_MAX);
}

/* A choice must never be cut: a token has a byte at least. */
static uint32_t tokens_of(const openai_ask *ask)
{
    size_t n = ask->max_tokens;
    for (uint32_t i = 0; i < ask->n_choices; i++) {
        const size_t bytes = strlen(ask->choices[i]) + 1;
        n = bytes > n ? bytes : n;
    }
    return (uint32_t)(n + (ask->thinking ? ask->max_reasoning_tokens : 0));
}

static void add_tokens(glm4v_text_out *out, const openai_ask *ask, const openai_dialect *dialect)
{
    glm4v_text_format(out, ",\"max_tokens\":%" PRIu32, tokens_of(ask));
    if (dialect->no_thinking)
        return;
    if (ask->thinking)
        glm4v_text_format(out, ",\"max_reasoning_tokens\":%" PRIu32, ask->max_reasoning_tokens);
    glm4v_text_format(out, ",\"chat_template_kwargs\":{\"enable_thinking\":%s}",
                      ask->thinking ? "true" : "false");
}

static void add_choices(glm4v_text_out *out, const openai_ask *ask, const openai_dialect *dialect)
{
    add(out,
        dialect->older_shapes ? ",\"guided_choice\":[" : ",\"structured_outputs\":{\"choice\":[");
    for (uint32_t i = 0; i < ask->n_choices; i++) {
        add(out, i ? "," : "");
        glm4v_text_string(out, ask->choices[i]);
    }
    add(out, dialect->older_shapes ? "]" : "]}");
    if (!dialect->no_logprobs)
        glm4v_text_format(out, ",\"logprobs\":true,\"top_logprobs\":%d", TOP_LOGPROBS);
}

static void add_schema(glm4v_text_out *out, const openai_ask *ask, const openai_dialect *dialect)
{
    if (dialect->older_shapes) {
        add(out, ",\"guided_json\":");
        add(out, ask->json_schema);
        return;
    }
    add(out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\","
             "\"strict\":true,\"schema\":");
    add(out, ask->json_schema);
    add(out, "}}");
}

void openai_write_ask(glm4v_text_out *out, const openai_ask *ask, const char *model,
                      const openai_dialect *dialect)
{
    add(out, "{");
    add_string(out, "model", model);
    add(out, ",");
    add_messages(out, ask, ask->clip && !dialect->no_clips);
    add_tokens(out, ask, dialect);
    add_sampling(out, ask);
    if (ask->n_choices)
        add_choices(out, ask, dialect);
    else if (ask->json_schema)
        add_schema(out, ask, dialect);
    add(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
}

bool openai_other_dialect(openai_dialect *dialect, const openai_ask *ask, const char *text)
{
    const bool shaped = ask->n_choices || ask->json_schema;
    const bool logprobs = ask->n_choices && !dialect->no_logprobs;
    const bool clip = ask->clip && !dialect->no_clips;
    const bool thinking = strstr(text, "chat_template_kwargs") || strstr(text, "max_reasoning");
    if (!dialect->no_thinking && thinking)
        dialect->no_thinking = true;
    else if (logprobs && strstr(text, "logprobs"))
        dialect->no_logprobs = true;
    else if (clip && (!shaped || dialect->older_shapes || strstr(text, "video")))
        dialect->no_clips = true;
    else if (shaped && !dialect->older_shapes)
        dialect->older_shapes = true;
    else if (logprobs)
        dialect->no_logprobs = true;
    else if (!dialect->no_thinking)
        dialect->no_thinking = true;
    else
        return false;
    return true;
}
