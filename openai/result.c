/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See result.h. */
#include "openai/result.h"

#include <inttypes.h>
#include <string.h>

#include "openai/number.h"

static void add(glm4v_text_out *out, const char *text)
{
    glm4v_text_add(out, text, strlen(text));
}

static void add_key(glm4v_text_out *out, const char *key)
{
    glm4v_text_string(out, key);
    add(out, ":");
}

static void add_string(glm4v_text_out *out, const char *key, const char *value)
{
    add_key(out, key);
    glm4v_text_string(out, value);
}

static void add_head(glm4v_text_out *out, const openai_head *head, const char *object)
{
    add(out, "{");
    add_string(out, "id", head->id);
    add(out, ",");
    add_string(out, "object", object);
    glm4v_text_format(out, ",\"created\":%" PRId64 ",", head->created);
    add_string(out, "model", head->model);
    add(out, ",");
    add_string(out, "system_fingerprint", head->fingerprint);
}

/* ---- what this engine tells beside OpenAI's keys ---- */

static void add_boxes(glm4v_text_out *out, const glm4v_result *result)
{
    if (!result->n_boxes)
        return;
    add(out, ",\"boxes\":[");
    for (uint32_t i = 0; i < result->n_boxes; i++) {
        const glm4v_box *b = &result->boxes[i];
        glm4v_text_format(out, "%s{\"x\":%d,\"y\":%d,\"width\":%d,\"height\":%d,", i ? "," : "",
                          b->x, b->y, b->width, b->height);
        add_string(out, "label", b->label);
        add(out, "}");
    }
    add(out, "]");
}

static void add_point(glm4v_text_out *out, const char *key, const int32_t point[2])
{
    if (point[0] >= 0)
        glm4v_text_format(out, ",\"%s\":[%d,%d]", key, point[0], point[1]);
}

static void add_action(glm4v_text_out *out, const glm4v_action *action)
{
    if (!*action->action)
        return;
    add(out, ",\"action\":{");
    add_string(out, "action", action->action);
    if (*action->text) {
        add(out, ",");
        add_string(out, "text", action->text);
    }
    if (*action->message) {
        add(out, ",");
        add_string(out, "message", action->message);
    }
    add_point(out, "element", action->element);
    add_point(out, "to", action->to);
    add(out, "}");
}

static void add_probabilities(glm4v_text_out *out, const openai_answer *answer)
{
    const glm4v_result *result = answer->result;
    if (!result->n_probabilities)
        return;
    add(out, ",\"probability\":");
    openai_write_decimal(out, result->probability);
    add(out, ",\"probabilities\":[");
    for (uint32_t i = 0; i < result->n_probabilities; i++) {
        add(out, i ? ",{" : "{");
        add_string(out, "choice", answer->choices[i]);
        add(out, ",\"probability\":");
        openai_write_decimal(out, result->probabilities[i]);
        add(out, "}");
    }
    add(out, "]");
}

static void add_ignored(glm4v_text_out *out, const openai_answer *answer)
{
    if (!answer->n_ignored)
        return;
    add(out, ",\"ignored\":[");
    for (uint32_t i = 0; i < answer->n_ignored; i++) {
        add(out, i ? "," : "");
        glm4v_text_string(out, answer->ignored[i]);
    }
    add(out, "]");
}

static void add_timing(glm4v_text_out *out, const char *key, uint64_t ns, bool first)
{
    glm4v_text_format(out, "%s\"%s\":", first ? "" : ",", key);
    openai_write_decimal(out, (double)ns / 1e9);
}

static void add_extension(glm4v_text_out *out, const openai_answer *answer)
{
    const glm4v_timings *t = &answer->result->timings;
    add(out, ",\"glm4v\":{\"timings\":{");
    add_timing(out, "queued", t->queued, true);
    add_timing(out, "preprocess", t->preprocess, false);
    add_timing(out, "vision", t->vision, false);
    add_timing(out, "prefill", t->prefill, false);
    add_timing(out, "first_token", t->first_token, false);
    add_timing(out, "decode", t->decode, false);
    add_timing(out, "total", t->total, false);
    add(out, "}");
    glm4v_text_format(out, ",\"vision_tokens\":%u", answer->result->vision_tokens);
    if (*answer->result->box) {
        add(out, ",");
        add_string(out, "box", answer->result->box);
    }
    add_boxes(out, answer->result);
    add_action(out, &answer->result->action);
    add_probabilities(out, answer);
    add_ignored(out, answer);
    add(out, "}");
}

/* ---- objects ---- */

static void add_usage(glm4v_text_out *out, const glm4v_result *r)
{
    glm4v_text_format(out,
                      ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,"
                      "\"total_tokens\":%u,\"prompt_tokens_details\":{\"cached_tokens\":%u},"
                      "\"completion_tokens_details\":{\"accepted_prediction_tokens\":%u,"
                      "\"rejected_prediction_tokens\":%u}}",
                      r->prompt_tokens, r->output_tokens, r->prompt_tokens + r->output_tokens,
                      r->cached_tokens, r->accepted_tokens, r->drafted_tokens - r->accepted_tokens);
}

static const char *finish_reason(const openai_answer *answer)
{
    if (answer->stopped || answer->result->finish == GLM4V_FINISH_STOP)
        return "stop";
    return answer->result->finish == GLM4V_FINISH_LENGTH ? "length" : "error";
}

void openai_write_completion(glm4v_text_out *out, const openai_head *head,
                             const openai_answer *answer)
{
    add_head(out, head, "chat.completion");
    add(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",");
    add_string(out, "content", answer->text);
    if (answer->reasoning && *answer->result->reasoning) {
        add(out, ",");
        add_string(out, "reasoning_content", answer->result->reasoning);
    }
    add(out, ",\"refusal\":null},\"logprobs\":null,");
    add_string(out, "finish_reason", finish_reason(answer));
    add(out, "}]");
    add_usage(out, answer->result);
    add_extension(out, answer);
    add(out, "}");
}

void openai_write_chunk(glm4v_text_out *out, const openai_head *head, glm4v_text_part part,
                        const char *text, bool first)
{
    add_head(out, head, "chat.completion.chunk");
    add(out, ",\"choices\":[{\"index\":0,\"delta\":{");
    if (first)
        add(out, "\"role\":\"assistant\",");
    add_string(out, part == GLM4V_TEXT_REASONING ? "reasoning_content" : "content", text);
    add(out, "},\"logprobs\":null,\"finish_reason\":null}]}");
}

void openai_write_end(glm4v_text_out *out, const openai_head *head, const openai_answer *answer)
{
    add_head(out, head, "chat.completion.chunk");
    add(out, ",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,");
    add_string(out, "finish_reason", finish_reason(answer));
    add(out, "}]");
    add_extension(out, answer);
    add(out, "}");
}

void openai_write_usage(glm4v_text_out *out, const openai_head *head, const glm4v_result *result)
{
    add_head(out, head, "chat.completion.chunk");
    add(out, ",\"choices\":[]");
    add_usage(out, result);
    add(out, "}");
}

static void add_optional(glm4v_text_out *out, const char *key, const char *value)
{
    add(out, ",");
    add_key(out, key);
    if (value && *value)
        glm4v_text_string(out, value);
    else
        add(out, "null");
}

void openai_write_error(glm4v_text_out *out, const openai_error *error)
{
    add(out, "{\"error\":{");
    add_string(out, "message", error->message);
    add(out, ",");
    add_string(out, "type", error->type);
    add_optional(out, "param", error->parameter);
    add_optional(out, "code", error->code);
    add(out, "}}");
}
