/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json_results.h. */
#include "json_results.h"

#include <glib.h>

#include "contract/settings.h"
#include "contract/text.h"

enum { VERSION = 1 };

/* ---- settings ---- */

static glm4v_contract_shape shape_of(const cli_asked *asked)
{
    const cli_shape *shape = asked->shape;
    const char *output = "text";
    if (shape->n)
        output = "choice";
    else if (shape->json_schema)
        output = "json";
    return (glm4v_contract_shape) {
        .output = output,
        .choices = shape->choices,
        .fails = shape->verdict ? shape->fails : NULL,
        .thresholds = shape->thresholds,
        .n_choices = shape->n,
        .pattern = asked->pattern,
        .schema = shape->json_schema,
    };
}

void cli_json_results_begin(cli_json_results *results, const cli_asked *asked)
{
    const glm4v_task *task = asked->task;
    const glm4v_model_info *info = asked->model;
    char forms[GLM4V_FORMS_SIZE];
    const glm4v_contract_model model = {
        .name = info->name,
        .hash = info->hash,
        .quant = *info->hash ? forms : "",
        .isa = info->isa,
        .products = info->products,
        .device = info->image_device,
    };
    const glm4v_contract_settings settings = {
        .prompts = &task->prompt,
        .n_prompts = 1,
        .system = task->system,
        .shape = shape_of(asked),
        .temperature = task->temperature,
        .top_p = task->top_p,
        .repetition_penalty = task->repetition_penalty,
        .top_k = task->top_k,
        .seed = task->seed,
        .thinking = task->thinking,
        .max_tokens = task->max_tokens,
        .context_length = asked->engine->context_length,
        .max_pixels = asked->engine->max_pixels,
        .kv_cache = asked->engine->kv_cache,
        .model = &model,
    };
    *results = (cli_json_results) { .asked = *asked };
    glm4v_contract_forms(forms, info);
    glm4v_digest_prompt(results->prompt, task->system, task->prompt);
    char *line = glm4v_contract_settings_write(&settings, results->settings);
    fputs(line, stdout);
    g_free(line);
    cli_flush();
}

/* ---- parts of a result ---- */

/* Nanoseconds. */
static void json_timings(cli_json *json, const glm4v_timings *t)
{
    cli_json_open(json, "timings");
    cli_json_int(json, "queued", t->queued);
    cli_json_int(json, "preprocess", t->preprocess);
    cli_json_int(json, "vision", t->vision);
    cli_json_int(json, "prefill", t->prefill);
    cli_json_int(json, "first-token", t->first_token);
    cli_json_int(json, "decode", t->decode);
    cli_json_int(json, "total", t->total);
    cli_json_close(json);
}

static void json_tokens(cli_json *json, const glm4v_result *result)
{
    cli_json_open(json, "tokens");
    cli_json_int(json, "in", result->prompt_tokens);
    cli_json_int(json, "out", result->output_tokens);
    cli_json_int(json, "vision", result->vision_tokens);
    cli_json_int(json, "drafted", result->drafted_tokens);
    cli_json_int(json, "accepted", result->accepted_tokens);
    cli_json_close(json);
}

static void json_clean(cli_json *json, const char *key, const char *text)
{
    char *clean = glm4v_contract_sanitize(text);
    cli_json_string(json, key, clean);
    g_free(clean);
}

static void json_model(cli_json *json, const glm4v_model_info *info)
{
    char forms[GLM4V_FORMS_SIZE];
    glm4v_contract_forms(forms, info);
    cli_json_open(json, "model");
    json_clean(json, "name", info->name);
    if (*info->hash) { /* of a server's model only the name is known */
        cli_json_string(json, "hash", info->hash);
        cli_json_string(json, "quant", forms);
        cli_json_string(json, "isa", info->isa);
    }
    if (*info->products)
        cli_json_string(json, "products", info->products);
    cli_json_close(json);
}

/* In pixels of the frame. */
static void json_boxes(cli_json *json, const glm4v_result *result)
{
    cli_json_array(json, "boxes");
    for (uint32_t i = 0; i < result->n_boxes; i++) {
        const glm4v_box *box = &result->boxes[i];
        cli_json_open(json, NULL);
        cli_json_int(json, "x", box->x);
        cli_json_int(json, "y", box->y);
        cli_json_int(json, "width", box->width);
        cli_json_int(json, "height", box->height);
        if (*box->label)
            json_clean(json, "label", box->label);
        cli_json_close(json);
    }
    cli_json_array_close(json);
}

static void json_point(cli_json *json, const char *key, const int32_t point[2])
{
    if (point[0] < 0)
        return;
    cli_json_array(json, key);
    cli_json_int(json, NULL, point[0]);
    cli_json_int(json, NULL, point[1]);
    cli_json_array_close(json);
}

static void json_action(cli_json *json, const glm4v_action *action)
{
    cli_json_open(json, "action");
    json_clean(json, "action", action->action);
    json_point(json, "element", action->element);
    json_point(json, "to", action->to);
    if (*action->text)
        json_clean(json, "text", action->text);
    if (*action->message)
        json_clean(json, "message", action->message);
    cli_json_close(json);
}

/* The digest of the frame as the model saw it. */
static void json_picture(cli_json *json, const glm4v_image *image)
{
    char digest[GLM4V_DIGEST_SIZE];
    if (!glm4v_digest_image(digest, image))
        return;
    cli_json_array(json, "pictures");
    cli_json_string(json, NULL, digest);
    cli_json_array_close(json);
}

static const char *finish_name(glm4v_finish finish)
{
    static const char *const names[] = { "stop", "length", "deadline", "canceled", "error" };
    return names[finish];
}

/* ---- lines ---- */

static void json_input(cli_json *json, const char *input, int64_t pts)
{
    cli_json_string(json, "input", input);
    if (pts >= 0)
        cli_json_int(json, "pts", pts);
    else
        cli_json_null(json, "pts");
}

static void end(cli_json *json)
{
    cli_json_close(json);
    cli_json_end(json);
}

static void begin_result(cli_json_results *r, cli_json *json, const char *input, int64_t pts)
{
    cli_json_open(json, NULL);
    cli_json_int(json, "version", VERSION);
    cli_json_int(json, "id", r->n++);
    json_input(json, input, pts);
}

static void end_result(const cli_json_results *r, cli_json *json)
{
    cli_json_int(json, "seed", r->asked.task->seed);
    cli_json_string(json, "prompt-hash", r->prompt);
    cli_json_string(json, "settings", r->settings);
    end(json);
}

void cli_json_results_answer(cli_json_results *r, const cli_json_subject *about,
                             const glm4v_result *result)
{
    const cli_frame *frame = about->frame;
    cli_json json = { .out = stdout };
    begin_result(r, &json, about->input, frame->pts);
    cli_json_int(&json, "width", frame->image.width);
    cli_json_int(&json, "height", frame->image.height);
    cli_json_string(&json, "status", "ok");
    if (frame->damaged)
        cli_json_bool(&json, "damaged", true);
    json_clean(&json, "text", result->text);
    if (*result->reasoning)
        json_clean(&json, "reasoning", result->reasoning);
    if (*result->box)
        json_clean(&json, "box", result->box);
    if (result->n_boxes)
        json_boxes(&json, result);
    if (*result->action.action)
        json_action(&json, &result->action);
    cli_shape_json(&json, result);
    if (about->verdict)
        cli_json_string(&json, "verdict", about->verdict);
    cli_json_string(&json, "finish-reason", finish_name(result->finish));
    json_timings(&json, &result->timings);
    json_tokens(&json, result);
    json_model(&json, r->asked.model);
    json_picture(&json, &frame->image);
    end_result(r, &json);
}

void cli_json_results_failure(cli_json_results *r, const char *input, int64_t pts,
                              const glm4v_error *err)
{
    cli_json json = { .out = stdout };
    begin_result(r, &json, input, pts);
    cli_json_string(&json, "status", "error");
    cli_json_string(&json, "finish-reason", "error");
    cli_json_string(&json, "text", "");
    cli_json_string(&json, "error", glm4v_error_name(err->code));
    cli_json_string(&json, "message", err->msg);
    end_result(r, &json);
}

void cli_json_results_warning(const char *input, const cli_troubles *troubles, const char *message)
{
    cli_json json = { .out = stdout };
    cli_json_open(&json, NULL);
    cli_json_int(&json, "version", VERSION);
    json_input(&json, input, -1);
    cli_json_string(&json, "status", "warning");
    cli_json_int(&json, "frames", troubles->frames);
    cli_json_int(&json, "damaged-frames", troubles->damaged);
    cli_json_string(&json, "message", message);
    end(&json);
}
