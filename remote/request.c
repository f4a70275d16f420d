/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request's own data: copies of the task and its pictures as files, and its result. */
#include "remote/request.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/task.h"
#include "base/utf8.h"
#include "remote/picture.h"

/* ---- a new one ---- */

/* Ranges of numbers are the server's own. */
static int check_task(const glm4v_task *task, glm4v_error *err)
{
    int rc = glm4v_task_check(task, err);
    for (uint32_t i = 0; !rc && i < task->n_choices; i++)
        rc = *task->choices[i] ? glm4v_utf8_check("choice", task->choices[i], err)
                               : glm4v_fail(err, GLM4V_ERR_INVALID, "choice %u is empty", i);
    if (!rc && task->n_history)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "a server is asked without earlier turns");
    if (!rc && task->json_schema)
        rc = glm4v_json_schema_check(task->json_schema, err);
    return rc;
}

/* A copy of text; *failed: memory is out. */
static const char *copy(const char *text, bool *failed)
{
    char *own = text ? glm4v_strdup(text) : NULL;
    *failed |= text && !own;
    return own;
}

static int copy_task(remote_request *r, const glm4v_task *task, glm4v_error *err)
{
    bool failed = false;
    const char **choices = glm4v_alloc(task->n_choices, sizeof *choices);
    r->task = *task;
    r->task.images = r->task.frames = NULL;
    r->task.history = NULL;
    r->task.system = copy(task->system, &failed);
    r->task.prompt = copy(task->prompt, &failed);
    r->task.json_schema = copy(task->json_schema, &failed);
    r->task.choices = choices;
    r->task.n_choices = choices ? task->n_choices : 0;
    for (uint32_t i = 0; i < r->task.n_choices; i++)
        choices[i] = copy(task->choices[i], &failed);
    if (failed || !choices)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a question");
    return 0;
}

/* Its pictures as files, and what of them the answer is read with. */
static int code_pictures(remote_request *r, const glm4v_task *task, glm4v_error *err)
{
    const remote_client *c = r->client;
    const uint32_t n = task->n_frames ? task->n_frames : task->n_images;
    const glm4v_image *images = task->n_frames ? task->frames : task->images;
    const uint64_t start = glm4v_now();
    openai_file *files = glm4v_alloc(n, sizeof *files);
    int rc = 0;
    r->ask.files = files;
    r->files = glm4v_alloc(n, sizeof *r->files);
    if (!files || !r->files)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the pictures of a question");
    for (uint32_t i = 0; !rc && i < n; i++) {
        r->ask.n_files = i + 1;
        rc = remote_code_picture(&r->files[i], &images[i], c->max_pixels, c->coding, err);
        files[i] = (openai_file) { .data = r->files[i].data,
                                   .size = r->files[i].size,
                                   .type = c->coding == REMOTE_PNG ? "image/png" : "image/jpeg",
                                   .seconds = images[i].timestamp };
    }
    if (!rc && n) {
        r->image = images[0];
        r->image.data = NULL;
        rc = glm4v_image_fit(&images[0], c->max_pixels, &r->sent.width, &r->sent.height, err);
    }
    r->preprocess = glm4v_now() - start;
    return rc;
}

static void make_ask(remote_request *r, bool clip)
{
    glm4v_task *t = &r->task;
    t->max_tokens = t->max_tokens ? t->max_tokens : GLM4V_DEFAULT_TOKENS;
    t->max_reasoning_tokens =
        t->max_reasoning_tokens ? t->max_reasoning_tokens : GLM4V_DEFAULT_REASONING_TOKENS;
    t->images = r->ask.n_files ? &r->image : NULL; /* the answer is about the first one */
    t->n_images = r->ask.n_files > 0;
    t->n_frames = 0;
    r->ask = (openai_ask) { .system = t->system,
                            .prompt = t->prompt,
                            .files = r->ask.files,
                            .n_files = r->ask.n_files,
                            .clip = clip,
                            .max_tokens = t->max_tokens,
                            .max_reasoning_tokens = t->max_reasoning_tokens,
                            .top_k = t->top_k,
                            .temperature = (double)t->temperature,
                            .top_p = (double)t->top_p,
                            .repetition_penalty = (double)t->repetition_penalty,
                            .seed = t->seed,
                            .thinking = t->thinking != 0,
                            .choices = t->choices,
                            .n_choices = t->n_choices,
                            .json_schema = t->json_schema };
}

int remote_request_new(remote_request **request, remote_client *client, const glm4v_task *given,
                       glm4v_error *err)
{
    int rc = check_task(given, err);
    if (rc)
        return rc;
    remote_request *r = glm4v_alloc(1, sizeof *r);
    if (!r || glm4v_completion_init(&r->done)) {
        glm4v_free(r);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a request");
    }
    atomic_init(&r->refs, 1);
    r->client = client;
    rc = copy_task(r, given, err);
    if (!rc)
        rc = code_pictures(r, given, err);
    if (rc) {
        remote_unref(&r);
        return rc;
    }
    make_ask(r, given->n_frames > 0);
    r->submitted = glm4v_now();
    *request = r;
    return 0;
}

/* ---- its end ---- */

static void finish(remote_request *r, const glm4v_result *result)
{
    if (r->task.on_done)
        r->task.on_done(r->task.user, result);
    glm4v_completion_end(&r->done);
}

static void fill_timings(const remote_request *r, glm4v_timings *t)
{
    const uint64_t now = glm4v_now(), first = r->first_text ? r->first_text : now;
    *t = (glm4v_timings) { .queued = (r->started ? r->started : now) - r->submitted,
                           .preprocess = r->preprocess,
                           .vision = r->transfer.reply.vision_time,
                           .prefill = r->transfer.reply.prefill_time,
                           .first_token = first - r->submitted,
                           .decode = now - first,
                           .total = now - r->submitted };
}

/* What the reply says as the model wrote it. */
static int join_texts(const openai_reply *reply, glm4v_text_out *text, glm4v_error *err)
{
    const glm4v_text_out *reasoning = &reply->reasoning, *content = &reply->content;
    if (reasoning->size) {
        glm4v_text_add(text, "<think>", 7);
        glm4v_text_add(text, reasoning->data, reasoning->size);
        glm4v_text_add(text, "</think>", 8);
    }
    glm4v_text_add(text, content->data ? content->data : "", content->size);
    return text->failed ? glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer") : 0;
}

/* shaped: it must be one of the task's choices, or match its schema. */
static int parse(const remote_request *r, bool shaped, glm4v_result **parsed, glm4v_error *err)
{
    glm4v_text_out text = { 0 };
    glm4v_task task = r->task;
    if (!shaped) {
        task.n_choices = 0;
        task.json_schema = NULL;
    }
    int rc = join_texts(&r->transfer.reply, &text, err);
    if (!rc)
        rc = glm4v_answer_parse(parsed, text.data, &task, err);
    glm4v_free(text.data);
    return rc;
}

/* Boxes in pixels of the picture that was sent become those of the task's, whole pixels
 * outwards. */
static uint32_t scale_boxes(const remote_request *r, glm4v_box *boxes, uint32_t n)
{
    const int64_t w = r->sent.width, h = r->sent.height;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n && w && h; i++) {
        glm4v_box b = boxes[i];
        const int64_t left = b.x * (int64_t)r->image.width / w;
        const int64_t top = b.y * (int64_t)r->image.height / h;
        int64_t right = ((b.x + (int64_t)b.width) * r->image.width + w - 1) / w;
        int64_t bottom = ((b.y + (int64_t)b.height) * r->image.height + h - 1) / h;
        right = right < r->image.width ? right : r->image.width;
        bottom = bottom < r->image.height ? bottom : r->image.height;
        if (left >= right || top >= bottom)
            continue;
        b.x = (int32_t)left;
        b.y = (int32_t)top;
        b.width = (int32_t)(right - left);
        b.height = (int32_t)(bottom - top);
        boxes[kept++] = b;
    }
    return kept;
}

static void tell_answer(remote_request *r, const glm4v_result *parsed)
{
    const openai_reply *reply = &r->transfer.reply;
    double shares[GLM4V_MAX_CHOICES];
    glm4v_box boxes[GLM4V_MAX_BOXES];
    glm4v_result result = *parsed;
    result.finish = reply->cut ? GLM4V_FINISH_LENGTH : GLM4V_FINISH_STOP;
    result.prompt_tokens = reply->prompt_tokens;
    result.cached_tokens = reply->cached_tokens;
    result.vision_tokens = reply->vision_tokens;
    result.output_tokens = reply->output_tokens;
    result.accepted_tokens = reply->accepted_tokens;
    result.drafted_tokens = reply->accepted_tokens + reply->rejected_tokens;
    result.image_width = (uint32_t)r->sent.width;
    result.image_height = (uint32_t)r->sent.height;
    if (!*result.box)
        result.box = openai_reply_box(reply);
    if (!result.n_boxes) {
        result.n_boxes = scale_boxes(r, boxes, openai_reply_boxes(reply, boxes));
        result.boxes = boxes;
    }
    if (openai_reply_shares(reply, r->task.choices, r->task.n_choices, shares)) {
        result.probabilities = shares;
        result.n_probabilities = r->task.n_choices;
        result.probability = shares[result.choice_index];
    }
    fill_timings(r, &result.timings);
    finish(r, &result);
}

static bool is_shaped(const remote_request *r)
{
    return r->ask.n_choices || r->ask.json_schema;
}

/* The server has answered these words. Whether it knows those for a shape, the answer shows. */
static void learn(remote_request *r, bool shape_kept)
{
    openai_dialect *known = &r->endpoint->dialect;
    known->no_logprobs |= r->dialect.no_logprobs;
    known->no_clips |= r->dialect.no_clips;
    known->no_thinking |= r->dialect.no_thinking;
    if (!is_shaped(r))
        return;
    if (shape_kept)
        known->older_shapes = r->dialect.older_shapes;
    else
        r->endpoint->ignores_shapes |= r->reworded;
}

/* An answer of another shape: perhaps the server ignores the words for it. Others may help, once;
 * not where text was given away, or an answer of the right shape was cut. */
static bool use_other_words(remote_request *r)
{
    const bool cut = !r->ask.n_choices && r->transfer.reply.cut;
    if (!is_shaped(r) || r->reworded || r->endpoint->ignores_shapes || r->used || cut)
        return false;
    r->reworded = true;
    r->dialect.older_shapes = !r->dialect.older_shapes;
    return true;
}

bool remote_request_answer(remote_request *r)
{
    glm4v_result *parsed = NULL;
    glm4v_error err = { 0 };
    snprintf(r->model, sizeof r->model, "%s",
             *r->transfer.reply.model ? r->transfer.reply.model : r->endpoint->model);
    const int rc = parse(r, true, &parsed, &err);
    if (!rc || rc == GLM4V_ERR_FORMAT)
        learn(r, !rc);
    if (rc) {
        glm4v_fail(&r->error, rc, "%.100s: %s", r->endpoint->url, err.msg);
        if (rc == GLM4V_ERR_FORMAT && use_other_words(r))
            return false;
        remote_request_fail(r, rc);
        return true;
    }
    tell_answer(r, parsed);
    glm4v_result_free(&parsed);
    return true;
}

static glm4v_finish finish_of(int code)
{
    switch (code) {
    case GLM4V_ERR_DEADLINE:
        return GLM4V_FINISH_DEADLINE;
    case GLM4V_ERR_CANCELED:
        return GLM4V_FINISH_CANCELED;
    default:
        return GLM4V_FINISH_ERROR;
    }
}

void remote_request_fail(remote_request *r, int code)
{
    static const glm4v_action no_action = {
        .action = "", .text = "", .message = "", .element = { -1, -1 }, .to = { -1, -1 }
    };
    glm4v_result *parsed = NULL;
    glm4v_result result = { .text = "", .reasoning = "", .box = "", .action = no_action };
    /* what there is when the time is over */
    if (code == GLM4V_ERR_DEADLINE && !parse(r, false, &parsed, NULL))
        result = *parsed;
    result.status = code;
    result.message = r->error.msg;
    result.finish = finish_of(code);
    result.choice = result.json = "";
    result.prompt_tokens = r->transfer.reply.prompt_tokens;
    result.output_tokens = r->transfer.reply.output_tokens;
    fill_timings(r, &result.timings);
    finish(r, &result);
    glm4v_result_free(&parsed);
}

/* ---- for its holder ---- */

void remote_cancel(remote_request *r)
{
    if (!r)
        return;
    atomic_store(&r->cancel, true);
    pthread_mutex_lock(&r->done.lock); /* the client is there until it is done */
    if (!r->done.done)
        curl_multi_wakeup(r->client->multi);
    pthread_mutex_unlock(&r->done.lock);
}

int remote_wait(remote_request *r, uint64_t timeout_ns)
{
    return glm4v_completion_wait(&r->done, timeout_ns);
}

const char *remote_url(const remote_request *r)
{
    const char *url = atomic_load(&((remote_request *)r)->url);
    return url ? url : "";
}

uint64_t remote_progress(const remote_request *r)
{
    return atomic_load(&((remote_request *)r)->progress);
}

const char *remote_model(const remote_request *r)
{
    return r->model;
}

void remote_unref(remote_request **request)
{
    remote_request *r = request ? *request : NULL;
    if (!r)
        return;
    *request = NULL;
    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    for (uint32_t i = 0; r->files && i < r->ask.n_files; i++)
        glm4v_free(r->files[i].data);
    glm4v_free(r->files);
    glm4v_free((void *)r->ask.files);
    for (uint32_t i = 0; i < r->task.n_choices; i++)
        glm4v_free((void *)r->task.choices[i]);
    glm4v_free((void *)r->task.choices);
    glm4v_free((void *)r->task.system);
    glm4v_free((void *)r->task.prompt);
    glm4v_free((void *)r->task.json_schema);
    glm4v_completion_clear(&r->done);
    glm4v_free(r);
}
