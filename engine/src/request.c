/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request's own data: a checked copy of the caller's task in one block of memory, the pictures it
 * will show to the vision tower, its result, and who holds it. Called by engine.c (any thread) and
 * scheduler.c.
 *
 * Lock: that of request->done is taken alone or inside engine->lock, never the other way round. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/struct_size.h"
#include "base/task.h"
#include "engine.h"

/* ---- checks ---- */

static int check_number(const char *name, double value, double min, double max, glm4v_error *err)
{
    if (value >= min && value <= max)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID, "%s is %g, expected [%g, %g]", name, value, min, max);
}

static int check_task(const glm4v_task *task, glm4v_error *err)
{
    int rc = glm4v_task_check(task, err);
    if (!rc)
        rc = check_number("max_tokens", task->max_tokens, 1, GLM4V_MAX_TOKENS, err);
    if (!rc)
        rc = check_number("max_reasoning_tokens", task->max_reasoning_tokens, 1, GLM4V_MAX_TOKENS,
                          err);
    if (!rc)
        rc = check_number("temperature", (double)task->temperature, 0, 2, err);
    if (!rc)
        rc = check_number("top_p", (double)task->top_p, 0, 1, err);
    if (!rc && task->repetition_penalty != 0)
        rc = check_number("repetition_penalty", (double)task->repetition_penalty, 1, 2, err);
    if (!rc)
        rc = check_number("speculation", task->speculation, GLM4V_SPECULATION_AUTO,
                          GLM4V_SPECULATION_OFF, err);
    return rc;
}

static int read_task(glm4v_task *task, const glm4v_task *given, glm4v_error *err)
{
    int rc = glm4v_struct_read(task, given, sizeof *task, "task", err);
    if (rc)
        return rc;
    task->max_tokens = task->max_tokens ? task->max_tokens : GLM4V_DEFAULT_TOKENS;
    task->max_reasoning_tokens =
        task->max_reasoning_tokens ? task->max_reasoning_tokens : GLM4V_DEFAULT_REASONING_TOKENS;
    return check_task(task, err);
}

/* ---- the copy ---- */

static int64_t count_pictures(const glm4v_task *task, int64_t n_samples)
{
    int64_t n = task->n_images + n_samples / 2;
    for (int64_t i = 0; i < task->n_history; i++)
        n += task->history[i].n_images;
    return n;
}

static void copy_task(glm4v_request *r, glm4v_arena *a, const glm4v_task *task, int64_t n_pictures)
{
    r->task = *task;
    r->task.system = glm4v_arena_string(a, task->system);
    r->task.prompt = glm4v_arena_string(a, task->prompt);
    r->task.images = glm4v_arena_take(a, task->images, task->n_images * sizeof *task->images);
    r->task.frames = glm4v_arena_take(a, task->frames, task->n_frames * sizeof *task->frames);
    glm4v_turn *turns = glm4v_arena_take(a, task->history, task->n_history * sizeof *turns);
    r->task.history = turns;
    for (int64_t i = 0; i < task->n_history; i++) {
        const glm4v_turn *turn = &task->history[i];
        glm4v_turn own = *turn;
        own.user = glm4v_arena_string(a, turn->user);
        own.assistant = glm4v_arena_string(a, turn->assistant);
        own.images = glm4v_arena_take(a, turn->images, turn->n_images * sizeof *turn->images);
        if (turns)
            turns[i] = own;
    }
    r->task.json_schema = glm4v_arena_string(a, task->json_schema);
    const char **choices = glm4v_arena_take(a, NULL, task->n_choices * sizeof *choices);
    r->task.choices = choices;
    for (uint32_t i = 0; i < task->n_choices; i++) {
        const char *own = glm4v_arena_string(a, task->choices[i]);
        if (choices)
            choices[i] = own;
    }
    r->pictures = glm4v_arena_take(a, NULL, n_pictures * sizeof *r->pictures);
    r->grids = glm4v_arena_take(a, NULL, n_pictures * sizeof *r->grids);
}

static bool device_takes(const glm4v_engine *engine, const glm4v_image *image)
{
    glm4v_backend *b = engine->model->stages[0].backend;
    return b->ops->takes && image->data && b->ops->takes(b, image);
}

/* What of it its size comes from. Where the device reads the pixels, how they lie is its matter. */
static glm4v_image shape_of(const glm4v_engine *engine, const glm4v_image *image)
{
    if (!device_takes(engine, image))
        return *image;
    return (glm4v_image) { .data = image->data,
                           .width = image->width,
                           .height = image->height,
                           .stride = GLM4V_CHANNELS * (int64_t)image->width };
}

/* Within memory of the process all begin at their first pixel, as the first of a clip does. */
static bool alike(const glm4v_image *a, const glm4v_image *b)
{
    const bool begins_alike = a->left == b->left && a->top == b->top;
    return a->width == b->width && a->height == b->height && a->memory == b->memory &&
           a->device == b->device && a->format == b->format &&
           (a->memory != GLM4V_IMAGE_HOST || begins_alike);
}

/* One more picture: two frames at one size. n_frames: of the whole clip, 1 for a still. */
static int add_picture(glm4v_engine *engine, glm4v_request *r, const glm4v_image *first,
                       const glm4v_image *second, int64_t n_frames, glm4v_error *err)
{
    int64_t i = r->n_pictures;
    const glm4v_preprocessor *p =
        n_frames > 1 ? engine->model->video_preprocessor : engine->model->preprocessor;
    const glm4v_image shape = shape_of(engine, first);
    glm4v_patch_grid grid;
    int rc = glm4v_preprocess_grid(p, &shape, n_frames, engine->limits.max_pixels, &grid, err);
    if (rc)
        return rc;
    r->grids[i] = (glm4v_grid) { grid.h, grid.w, .seconds = first->timestamp };
    r->pictures[i] = (glm4v_picture) { { first, second }, p };
    r->n_pictures++;
    return 0;
}

static int add_stills(glm4v_engine *engine, glm4v_request *r, const glm4v_image *images, int64_t n,
                      glm4v_error *err)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < n; i++)
        rc = add_picture(engine, r, &images[i], &images[i], 1, err);
    return rc;
}

static int add_clip(glm4v_engine *engine, glm4v_request *r, const uint32_t *samples, int64_t n,
                    glm4v_error *err)
{
    const glm4v_image *frames = r->task.frames;
    int rc = 0;
    for (int64_t i = 1; !rc && i < r->task.n_frames; i++)
        if (!frames[i].data || !alike(&frames[i], &frames[0]) ||
            (!device_takes(engine, &frames[i]) &&
             frames[i].stride < GLM4V_CHANNELS * (int64_t)frames[i].width))
            rc =
                glm4v_fail(err, GLM4V_ERR_INVALID,
                           "clip frame %" PRId64 " is %dx%d, the first is %dx%d; all must be alike",
                           i, frames[i].width, frames[i].height, frames[0].width, frames[0].height);
    for (int64_t i = 0; !rc && i < n; i += 2)
        rc = add_picture(engine, r, &frames[samples[i]], &frames[samples[i + 1]], n, err);
    return rc;
}

/* Frames of the clip that the model sees; clip->indices is freed by the caller. */
static int sample_frames(glm4v_engine *engine, const glm4v_task *task, glm4v_clip *clip,
                         glm4v_error *err)
{
    const int64_t n = task->n_frames;
    const bool dynamic = glm4v_chat_dynamic_clips(&engine->model->chat);
    if (!n)
        return 0;
    double *seconds = glm4v_alloc(n, sizeof *seconds);
    *clip = (glm4v_clip) { .seconds = seconds, .n = n, .room = n + n % 2 };
    clip->indices = glm4v_alloc(clip->room, sizeof *clip->indices);
    for (int64_t i = 0; seconds && i < n; i++)
        seconds[i] = task->frames[i].timestamp;
    int rc =
        seconds && clip->indices
            ? glm4v_sample_clip(clip, &engine->model->config, dynamic, err)
            : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a clip of %" PRId64 " frames", n);
    clip->seconds = NULL;
    glm4v_free(seconds);
    return rc;
}

/* Allocate and copy; pictures are not looked at yet. */
static glm4v_request *copy_request(const glm4v_task *task, int64_t n_pictures)
{
    glm4v_request scratch = { 0 };
    glm4v_arena measured = { 0 };
    copy_task(&scratch, &measured, task, n_pictures);
    glm4v_request *r = glm4v_alloc(1, sizeof *r);
    char *memory = glm4v_alloc(1, measured.used);
    if (!r || !memory || glm4v_completion_init(&r->done)) {
        glm4v_free(memory);
        glm4v_free(r);
        return NULL;
    }
    glm4v_arena a = { .base = memory };
    copy_task(r, &a, task, n_pictures);
    r->memory = memory;
    r->result.action = GLM4V_NO_ACTION;
    r->result.choice = r->result.json = "";
    atomic_init(&r->refs, 1);
    return r;
}

/* FNV-1a of a text and its end. */
static uint64_t mix(uint64_t digest, const char *text)
{
    for (; text && *text; text++)
        digest = (digest ^ (uint8_t)*text) * 0x100000001b3u;
    return (digest ^ 0xff) * 0x100000001b3u; /* no byte of UTF-8 */
}

/* Past answers to the same texts of the same stream are likely to come again. */
static uint64_t digest_of(const glm4v_task *task)
{
    uint64_t digest = 0xcbf29ce484222325u ^ task->stream;
    digest = mix(digest, task->system);
    digest = mix(digest, task->prompt);
    digest = mix(digest, task->json_schema);
    for (int64_t i = 0; i < task->n_history; i++) {
        digest = mix(digest, task->history[i].user);
        digest = mix(digest, task->history[i].assistant);
    }
    return mix(digest, task->thinking ? "thinking" : "");
}

static int add_constraint(glm4v_engine *engine, glm4v_request *r, glm4v_error *err)
{
    glm4v_shape *shape;
    if (!r->task.json_schema)
        return 0;
    int rc = glm4v_engine_shape(engine, &shape, r->task.json_schema, err);
    return rc ? rc
              : glm4v_constraint_open(&r->constraint, shape, engine->model->tokenizer,
                                      r->task.max_tokens, err);
}

/* The tree of the choices; the longest replaces max_tokens. */
static int add_choices(const glm4v_engine *engine, glm4v_request *r, glm4v_error *err)
{
    if (!r->task.n_choices)
        return 0;
    int rc = glm4v_choices_open(&r->choices, engine->model->tokenizer, r->task.choices,
                                r->task.n_choices, err);
    if (!rc)
        r->task.max_tokens = (uint32_t)r->choices->longest;
    return rc;
}

int glm4v_request_new(glm4v_engine *engine, const glm4v_task *given, glm4v_request **request,
                      glm4v_error *err)
{
    glm4v_task task;
    glm4v_clip clip = { .n = 0 };
    glm4v_request *r = NULL;
    int rc = read_task(&task, given, err);
    if (!rc)
        rc = glm4v_prompt_check(&engine->model->chat, &task, err);
    if (!glm4v_chat_reasons(&engine->model->chat))
        task.thinking = 0; /* a model without reasoning answers at once */
    if (!rc)
        rc = sample_frames(engine, &task, &clip, err);
    if (!rc) {
        r = copy_request(&task, count_pictures(&task, clip.n_indices));
        rc = r ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a request");
    }
    for (int64_t i = 0; !rc && i < task.n_history; i++)
        rc = add_stills(engine, r, r->task.history[i].images, r->task.history[i].n_images, err);
    if (!rc)
        rc = add_stills(engine, r, r->task.images, r->task.n_images, err);
    if (!rc)
        rc = add_clip(engine, r, clip.indices, clip.n_indices, err);
    if (!rc)
        rc = add_choices(engine, r, err);
    if (!rc)
        rc = add_constraint(engine, r, err);
    glm4v_free(clip.indices);
    if (rc) {
        glm4v_request_unref(&r);
        return rc;
    }
    if (r->n_pictures) {
        r->image_width = r->grids[0].grid_w * engine->model->config.vision.patch;
        r->image_height = r->grids[0].grid_h * engine->model->config.vision.patch;
    }
    r->question = digest_of(&task);
    r->submitted = glm4v_now();
    *request = r;
    return 0;
}

/* ---- the end ---- */

static const char *text_or_empty(const glm4v_text *text)
{
    return text->data ? text->data : "";
}

static void fill_result(const glm4v_engine *engine, glm4v_request *r)
{
    glm4v_result *result = &r->result;
    uint64_t now = glm4v_now();
    if (r->detokenizer.tokenizer)
        glm4v_detokenizer_finish(&r->detokenizer);
    result->message = result->status ? r->error.msg : "";
    result->text = text_or_empty(&r->detokenizer.answer);
    result->reasoning = text_or_empty(&r->detokenizer.reasoning);
    result->box = text_or_empty(&r->detokenizer.box);
    if (r->constraint && !result->status)
        result->json = result->text;
    result->prompt_tokens = (uint32_t)r->prompt.n_ids;
    for (int64_t i = 0; i < r->prompt.n_runs; i++)
        result->vision_tokens += (uint32_t)r->prompt.runs[i].n;
    result->image_width = (uint32_t)r->image_width;
    result->image_height = (uint32_t)r->image_height;
    result->timings.queued = (r->started ? r->started : now) - r->submitted;
    result->timings.decode = r->decode_started ? now - r->decode_started : 0;
    result->timings.total = now - r->submitted;
}

void glm4v_request_finish(glm4v_engine *engine, glm4v_request *r)
{
    fill_result(engine, r);
    glm4v_embeddings_clear(engine->context, &r->embeddings);
    glm4v_prompt_clear(&r->prompt);
    glm4v_sampler_clear(&r->sampler);
    glm4v_constraint_close(&r->constraint);
    glm4v_free(r->position);
    r->position = NULL;
    if (r->task.on_done)
        r->task.on_done(r->task.user, &r->result);
    glm4v_completion_end(&r->done);
}

void glm4v_request_cancel(glm4v_request *request)
{
    if (request)
        atomic_store(&request->cancel, true);
}

int glm4v_request_wait(glm4v_request *request, uint64_t timeout_ns)
{
    return glm4v_completion_wait(&request->done, timeout_ns);
}

void glm4v_request_unref(glm4v_request **request)
{
    glm4v_request *r = request ? *request : NULL;
    if (!r)
        return;
    *request = NULL;
    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->detokenizer.tokenizer)
        glm4v_detokenizer_clear(&r->detokenizer);
    glm4v_completion_clear(&r->done);
    glm4v_free(r->answer);
    glm4v_free(r->choices);
    glm4v_constraint_close(&r->constraint);
    glm4v_free(r->memory);
    glm4v_free(r);
}
