/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json_results.h. */
#include "json_results.h"

#include "contract/result.h"
#include "json_line.h"

/* g_free()s it. */
static void print(char *line)
{
    fputs(line, stdout);
    g_free(line);
    cli_flush();
}

/* Of a server's only the name is known. */
static glm4v_contract_model model_of(const glm4v_model_info *info, char forms[GLM4V_FORMS_SIZE])
{
    glm4v_contract_forms(forms, info);
    return (glm4v_contract_model) {
        .name = info->name,
        .hash = info->hash,
        .quant = *info->hash ? forms : "",
        .isa = info->isa,
        .products = info->products,
        .device = info->image_device,
    };
}

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
    char forms[GLM4V_FORMS_SIZE];
    const glm4v_contract_model model = model_of(asked->model, forms);
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
    glm4v_digest_prompt(results->prompt, task->system, task->prompt);
    print(glm4v_contract_settings_write(&settings, results->settings));
}

/* What answers and failures have. */
static glm4v_contract_result begin_result(cli_json_results *r, const char *input, int64_t pts)
{
    return (glm4v_contract_result) {
        .id = r->n++,
        .input = input,
        .pts = pts < 0 ? GLM4V_UNKNOWN_TIME : (uint64_t)pts,
        .seed = r->asked.task->seed,
        .prompt_hash = r->prompt,
        .settings = r->settings,
    };
}

void cli_json_results_answer(cli_json_results *r, const cli_json_subject *about,
                             const glm4v_result *answer)
{
    const cli_frame *frame = about->frame;
    char forms[GLM4V_FORMS_SIZE], digest[GLM4V_DIGEST_SIZE];
    const char *picture = digest;
    const glm4v_contract_model model = model_of(r->asked.model, forms);
    glm4v_contract_result result = begin_result(r, about->input, frame->pts);
    result.status = "ok";
    result.finish_reason = glm4v_contract_finish_name(answer->finish);
    result.damaged = frame->damaged;
    result.answer = result.chosen = answer;
    result.verdict = about->verdict;
    result.width = (uint32_t)frame->image.width;
    result.height = (uint32_t)frame->image.height;
    result.pictures = &picture;
    result.n_pictures = glm4v_digest_image(digest, &frame->image);
    result.model = &model;
    print(glm4v_contract_result_write(&result));
}

void cli_json_results_failure(cli_json_results *r, const char *input, int64_t pts,
                              const glm4v_error *err)
{
    glm4v_contract_result result = begin_result(r, input, pts);
    result.status = result.finish_reason = "error";
    result.error = glm4v_error_name(err->code);
    result.message = err->msg;
    print(glm4v_contract_result_write(&result));
}

void cli_json_results_warning(const char *input, const cli_troubles *troubles, const char *message)
{
    glm4v_contract_json json = cli_json_begin();
    glm4v_contract_json_int(&json, "version", GLM4V_RESULT_VERSION);
    glm4v_contract_json_string(&json, "input", input);
    glm4v_contract_json_null(&json, "pts");
    glm4v_contract_json_string(&json, "status", "warning");
    glm4v_contract_json_int(&json, "frames", troubles->frames);
    glm4v_contract_json_int(&json, "damaged-frames", troubles->damaged);
    glm4v_contract_json_string(&json, "message", message);
    cli_json_end(&json);
}
