/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See result.h. The order of the members is that of the schema. */
#include "contract/result.h"

#include <glib.h>

#include "contract/json.h"

const char *glm4v_contract_finish_name(glm4v_finish finish)
{
    static const char *const names[] = { [GLM4V_FINISH_STOP] = "stop",
                                         [GLM4V_FINISH_LENGTH] = "length",
                                         [GLM4V_FINISH_DEADLINE] = "deadline",
                                         [GLM4V_FINISH_CANCELED] = "error",
                                         [GLM4V_FINISH_ERROR] = "error" };
    return names[finish];
}

/* ---- members ---- */

typedef glm4v_contract_receiver receiver;

static void put(const receiver *to, const char *key, glm4v_contract_member member)
{
    to->take(to->user, key, &member);
}

static void open(const receiver *to, const char *key)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_OBJECT });
}

static void close(const receiver *to)
{
    put(to, NULL, (glm4v_contract_member) { .kind = GLM4V_MEMBER_OBJECT_END });
}

static void open_array(const receiver *to, const char *key)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_ARRAY });
}

static void close_array(const receiver *to)
{
    put(to, NULL, (glm4v_contract_member) { .kind = GLM4V_MEMBER_ARRAY_END });
}

static void put_int(const receiver *to, const char *key, int32_t value)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_INT, .wide = value });
}

static void put_uint(const receiver *to, const char *key, uint32_t value)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_UINT, .count = value });
}

static void put_count(const receiver *to, const char *key, uint64_t value)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_COUNT, .count = value });
}

static void put_time(const receiver *to, const char *key, uint64_t value)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_TIME, .count = value });
}

static void put_number(const receiver *to, const char *key, double value)
{
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_NUMBER, .number = value });
}

/* Unless there is none. */
static void put_string(const receiver *to, const char *key, const char *value)
{
    if (value && *value)
        put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_STRING, .string = value });
}

static void put_json(const receiver *to, const char *key, const char *value)
{
    if (value && *value)
        put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_JSON, .string = value });
}

/* What a person or a model wrote, even if nothing is left of it. */
static void put_text(const receiver *to, const char *key, const char *text)
{
    char *clean = glm4v_contract_sanitize(text);
    put(to, key, (glm4v_contract_member) { .kind = GLM4V_MEMBER_STRING, .string = clean });
    g_free(clean);
}

/* Unless nothing is left of it. */
static void put_some_text(const receiver *to, const char *key, const char *text)
{
    char *clean = text ? glm4v_contract_sanitize(text) : NULL;
    put_string(to, key, clean);
    g_free(clean);
}

/* ---- parts of a result ---- */

static void build_region(const receiver *to, const char *key, const glm4v_contract_region *region)
{
    open(to, key);
    put_int(to, "x", region->x);
    put_int(to, "y", region->y);
    put_int(to, "width", region->width);
    put_int(to, "height", region->height);
    put_some_text(to, "label", region->label);
    close(to);
}

static void build_boxes(const receiver *to, const glm4v_result *answer,
                        const glm4v_contract_region *roi)
{
    open_array(to, "boxes");
    for (uint32_t i = 0; i < answer->n_boxes; i++) {
        const glm4v_box *box = &answer->boxes[i];
        build_region(to, NULL,
                     &(glm4v_contract_region) { roi->x + box->x, roi->y + box->y, box->width,
                                                box->height, box->label });
    }
    close_array(to);
}

static void build_point(const receiver *to, const char *key, const int32_t point[2],
                        const glm4v_contract_region *roi)
{
    if (point[0] < 0)
        return;
    open_array(to, key);
    put_int(to, NULL, roi->x + point[0]);
    put_int(to, NULL, roi->y + point[1]);
    close_array(to);
}

static void build_action(const receiver *to, const glm4v_action *action,
                         const glm4v_contract_region *roi)
{
    open(to, "action");
    put_text(to, "action", action->action);
    put_some_text(to, "text", action->text);
    put_some_text(to, "message", action->message);
    build_point(to, "element", action->element, roi);
    build_point(to, "to", action->to, roi);
    close(to);
}

static void build_answer(const receiver *to, const glm4v_contract_result *r)
{
    static const glm4v_contract_region whole = { 0 };
    const glm4v_contract_region *roi = r->roi ? r->roi : &whole;
    put_text(to, "text", r->answer ? r->answer->text : "");
    if (!r->answer)
        return;
    put_some_text(to, "reasoning", r->answer->reasoning);
    put_some_text(to, "box", r->answer->box);
    if (r->answer->n_boxes)
        build_boxes(to, r->answer, roi);
    if (*r->answer->action.action)
        build_action(to, &r->answer->action, roi);
}

static void build_incident(const receiver *to, const glm4v_contract_incident *incident)
{
    open(to, "incident");
    put_count(to, "number", incident->number);
    put_string(to, "choice", incident->choice);
    put_count(to, "first", incident->first);
    put_count(to, "last", incident->last);
    put_count(to, "first-id", incident->first_id);
    put_count(to, "count", incident->count);
    close(to);
}

static void build_judgement(const receiver *to, const glm4v_contract_result *r)
{
    const glm4v_result *chosen = r->chosen;
    if (chosen)
        put_string(to, "choice", chosen->choice);
    if (chosen && chosen->n_probabilities) {
        put_number(to, "probability", chosen->probability);
        open_array(to, "probabilities");
        for (uint32_t i = 0; i < chosen->n_probabilities; i++)
            put_number(to, NULL, chosen->probabilities[i]);
        close_array(to);
    }
    put_string(to, "verdict", r->verdict);
    put_string(to, "state", r->state);
    if (r->incident.count)
        build_incident(to, &r->incident);
    if (chosen)
        put_json(to, "json", chosen->json);
}

static void build_clip(const receiver *to, const glm4v_contract_clip *clip)
{
    open(to, "clip");
    put_uint(to, "frames", clip->frames);
    put_count(to, "length", clip->length);
    if (clip->n_times) {
        open_array(to, "times");
        for (uint32_t i = 0; i < clip->n_times; i++)
            put_count(to, NULL, clip->times[i]);
        close_array(to);
    }
    close(to);
}

static void build_picture(const receiver *to, const glm4v_contract_result *r)
{
    if (r->roi)
        build_region(to, "roi", r->roi);
    if (r->clip)
        build_clip(to, r->clip);
    if (r->width) {
        put_uint(to, "width", r->width);
        put_uint(to, "height", r->height);
    }
    if (r->n_pictures) {
        open_array(to, "pictures");
        for (uint32_t i = 0; i < r->n_pictures; i++)
            put_string(to, NULL, r->pictures[i]);
        close_array(to);
    }
}

static void build_costs(const receiver *to, const glm4v_contract_result *r)
{
    const glm4v_timings *t = &r->answer->timings;
    open(to, "timings");
    if (r->stream)
        put_count(to, "convert", r->stream->convert);
    put_count(to, "queued", t->queued);
    put_count(to, "preprocess", t->preprocess);
    put_count(to, "vision", t->vision);
    put_count(to, "prefill", t->prefill);
    put_count(to, "first-token", t->first_token);
    put_count(to, "decode", t->decode);
    put_count(to, "total", t->total);
    close(to);
    open(to, "tokens");
    put_uint(to, "in", r->answer->prompt_tokens);
    put_uint(to, "out", r->answer->output_tokens);
    put_uint(to, "vision", r->answer->vision_tokens);
    put_uint(to, "drafted", r->answer->drafted_tokens);
    put_uint(to, "accepted", r->answer->accepted_tokens);
    close(to);
}

static void build_model(const receiver *to, const glm4v_contract_model *model)
{
    open(to, "model");
    put_text(to, "name", model->name);
    put_string(to, "hash", model->hash);
    put_string(to, "quant", model->quant);
    put_string(to, "isa", model->isa);
    put_string(to, "products", model->products);
    close(to);
}

/* ---- the whole ---- */

void glm4v_contract_result_build(const glm4v_contract_result *r, const receiver *to)
{
    put_uint(to, "version", GLM4V_RESULT_VERSION);
    put_count(to, "id", r->id);
    put_json(to, "trigger-id", r->trigger_id);
    if (r->input)
        put(to, "input",
            (glm4v_contract_member) { .kind = GLM4V_MEMBER_STRING, .string = r->input });
    put_time(to, "pts", r->pts);
    if (r->stream) {
        put_time(to, "running-time", r->stream->running_time);
        if (r->stream->capture_utc)
            put_count(to, "capture-utc", r->stream->capture_utc);
        put_count(to, "frame-number", r->stream->frame_number);
    }
    if (r->prompt_number)
        put_uint(to, "prompt-number", *r->prompt_number);
    put_string(to, "status", r->status);
    if (r->damaged)
        put(to, "damaged", (glm4v_contract_member) { .kind = GLM4V_MEMBER_TRUE });
    put_string(to, "finish-reason", r->finish_reason);
    if (r->message)
        put_text(to, "message", r->message);
    put_string(to, "error", r->error);
    if (r->refers_to)
        put_count(to, "refers-to", *r->refers_to);
    if (r->stream)
        put_count(to, "delay", r->stream->delay);
    put_count(to, "seed", r->seed);
    build_answer(to, r);
    build_judgement(to, r);
    build_picture(to, r);
    if (r->answer)
        build_costs(to, r);
    if (r->model)
        build_model(to, r->model);
    put_string(to, "prompt-hash", r->prompt_hash);
    put_string(to, "settings", r->settings);
}

/* ---- JSON ---- */

static void write_time(glm4v_contract_json *json, const char *key, uint64_t time)
{
    if (time == GLM4V_UNKNOWN_TIME)
        glm4v_contract_json_null(json, key);
    else
        glm4v_contract_json_count(json, key, time);
}

static void write_member(void *user, const char *key, const glm4v_contract_member *member)
{
    glm4v_contract_json *json = user;
    switch (member->kind) {
    case GLM4V_MEMBER_OBJECT:
        glm4v_contract_json_open(json, key);
        break;
    case GLM4V_MEMBER_OBJECT_END:
        glm4v_contract_json_close(json);
        break;
    case GLM4V_MEMBER_ARRAY:
        glm4v_contract_json_array(json, key);
        break;
    case GLM4V_MEMBER_ARRAY_END:
        glm4v_contract_json_array_close(json);
        break;
    case GLM4V_MEMBER_STRING:
        glm4v_contract_json_string(json, key, member->string);
        break;
    case GLM4V_MEMBER_JSON:
        glm4v_contract_json_value(json, key, member->string);
        break;
    case GLM4V_MEMBER_INT:
        glm4v_contract_json_int(json, key, member->wide);
        break;
    case GLM4V_MEMBER_UINT:
    case GLM4V_MEMBER_COUNT:
        glm4v_contract_json_count(json, key, member->count);
        break;
    case GLM4V_MEMBER_TIME:
        write_time(json, key, member->count);
        break;
    case GLM4V_MEMBER_NUMBER:
        glm4v_contract_json_number(json, key, member->number);
        break;
    case GLM4V_MEMBER_TRUE:
        glm4v_contract_json_bool(json, key, true);
        break;
    }
}

char *glm4v_contract_result_write(const glm4v_contract_result *result)
{
    glm4v_contract_json json = { .text = g_string_sized_new(1024) };
    glm4v_contract_json_open(&json, NULL);
    glm4v_contract_result_build(result, &(receiver) { write_member, &json });
    glm4v_contract_json_close(&json);
    g_string_append_c(json.text, '\n');
    return g_string_free(json.text, FALSE);
}
