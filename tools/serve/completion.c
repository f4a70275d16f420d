/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See completion.h. */
#define _GNU_SOURCE
#include "completion.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "../cli.h"
#include "base/mem.h"

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- errors ---- */

/* How an engine's error is told. What is the client's own doing is told in full; of what is not,
 * only that it happened: the reason goes to the log. */
typedef struct {
    unsigned status;
    const char *type, *code;
    const char *message; /* NULL: that of the error */
} error_row;

static error_row row_of(int code)
{
    static const char invalid[] = "invalid_request_error", server[] = "server_error";
    switch (code) {
    case GLM4V_ERR_INVALID:
    case GLM4V_ERR_FORMAT:
    case GLM4V_ERR_IO: /* of a picture that is fetched */
    case GLM4V_ERR_NOT_FOUND:
        return (error_row) { 400, invalid, "invalid_value", NULL };
    case GLM4V_ERR_UNSUPPORTED:
        return (error_row) { 400, invalid, "unsupported_value", NULL };
    case GLM4V_ERR_BUSY:
        return (error_row) { 503, server, "overloaded", "too many requests wait" };
    case GLM4V_ERR_NOMEM:
        return (error_row) { 503, server, "overloaded", "memory is out" };
    case GLM4V_ERR_CANCELED:
        return (error_row) { 503, server, "stopping", "the request was canceled" };
    case GLM4V_ERR_DEADLINE:
        return (error_row) { 504, server, "timeout", "the answer took too long" };
    default:
        return (error_row) { 500, server, "internal_error", "the model could not answer" };
    }
}

static void fail(serve_exchange *x, const glm4v_error *err, const char *parameter)
{
    const error_row row = row_of(err->code);
    if (row.status >= 500 && err->code != GLM4V_ERR_CANCELED)
        cli_message("%s: %s", x->id, err->msg);
    serve_exchange_fail(
        x, row.status,
        &(openai_error) { row.message ? row.message : err->msg, row.type, parameter, row.code });
}

/* ---- events ---- */

static openai_head head_of(const serve_exchange *x)
{
    return (openai_head) { .id = x->id,
                           .model = x->ask.model ? x->ask.model : x->server->set->names[0],
                           .fingerprint = x->server->fingerprint,
                           .created = x->created };
}

static void open_event(serve_exchange *x)
{
    x->status = MHD_HTTP_OK;
    glm4v_text_add(&x->out, "data: ", 6);
}

static void close_event(serve_exchange *x)
{
    glm4v_text_add(&x->out, "\n\n", 2);
}

/* Lock held. */
static void send_text(serve_exchange *x, glm4v_text_part part, const char *text)
{
    const openai_head head = head_of(x);
    open_event(x);
    openai_write_chunk(&x->out, &head, part, text, !x->role_sent);
    close_event(x);
    x->role_sent = true;
    x->text_sent |= part != GLM4V_TEXT_REASONING;
}

/* A stop text came: the rest is not wanted. Lock held. */
static void stop_answer(serve_exchange *x)
{
    x->cancel = true;
    if (x->request)
        glm4v_request_cancel(x->request);
}

static void take_answer(serve_exchange *x, const char *text)
{
    glm4v_text_out shown = { 0 };
    serve_stops_push(&x->text, text, x->stream ? &shown : &x->answer);
    if (shown.size)
        send_text(x, GLM4V_TEXT_ANSWER, shown.data);
    x->out.failed |= shown.failed || x->text.held.failed || x->answer.failed;
    glm4v_free(shown.data);
    if (x->text.stopped)
        stop_answer(x);
}

static void on_text(void *user, glm4v_text_part part, const char *text)
{
    serve_exchange *x = user;
    pthread_mutex_lock(&x->lock);
    if (part != GLM4V_TEXT_REASONING)
        take_answer(x, text);
    else if (x->stream && x->ask.reasoning)
        send_text(x, part, text);
    if (x->status)
        serve_exchange_wake(x);
    pthread_mutex_unlock(&x->lock);
}

/* ---- the end ---- */

static void end_stream(serve_exchange *x, const openai_head *head, const openai_answer *answer)
{
    glm4v_text_out rest = { 0 };
    serve_stops_finish(&x->text, &rest);
    if (rest.size)
        send_text(x, GLM4V_TEXT_ANSWER, rest.data);
    else if (!x->text_sent && !x->text.stopped) /* what seemed to be reasoning was the answer */
        send_text(x, GLM4V_TEXT_ANSWER, answer->result->text);
    x->out.failed |= rest.failed;
    glm4v_free(rest.data);
    open_event(x);
    openai_write_end(&x->out, head, answer);
    close_event(x);
    if (x->ask.usage) {
        open_event(x);
        openai_write_usage(&x->out, head, answer->result);
        close_event(x);
    }
    glm4v_text_add(&x->out, "data: [DONE]\n\n", 14);
}

static void end_whole(serve_exchange *x, const openai_head *head, openai_answer *answer)
{
    serve_stops_finish(&x->text, &x->answer);
    if (x->text.stopped)
        answer->text = x->answer.data ? x->answer.data : "";
    x->status = MHD_HTTP_OK;
    openai_write_completion(&x->out, head, answer);
    glm4v_text_add(&x->out, "\n", 1);
    x->out.failed |= x->answer.failed;
}

static void succeed(serve_exchange *x, const glm4v_result *result)
{
    const openai_head head = head_of(x);
    openai_answer answer = { .result = result,
                             .text = result->text,
                             .reasoning = x->ask.reasoning,
                             .stopped = x->text.stopped,
                             .choices = x->ask.choices,
                             .ignored = x->ask.ignored,
                             .n_ignored = x->ask.n_ignored };
    pthread_mutex_lock(&x->lock);
    if (x->stream)
        end_stream(x, &head, &answer);
    else
        end_whole(x, &head, &answer);
    x->finished = true;
    serve_exchange_wake(x);
    pthread_mutex_unlock(&x->lock);
}

/* The engine's hold ends when on_done has returned. The pixels go now, whenever the client has the
 * answer. */
static void release(serve_job *job)
{
    serve_exchange *x = (serve_exchange *)job;
    serve_images_free(&x->images);
    serve_exchange_unref(x);
}

static void on_done(void *user, const glm4v_result *result)
{
    serve_exchange *x = user;
    serve_server *server = x->server;
    glm4v_error err = { .code = result->status };
    atomic_fetch_sub(&server->requests, 1); /* before the client knows that it is over */
    if (!result->status || x->text.stopped) {
        serve_metrics_described(&server->metrics, result, x->n_pictures,
                                x->submitted - x->received);
        succeed(x, result);
    } else {
        snprintf(err.msg, sizeof err.msg, "%s", result->message);
        fail(x, &err, "");
    }
    x->job.run = release;
    serve_workers_push(server->cleaner, &x->job);
    atomic_fetch_sub(&server->held, 1); /* last: the cleaner may end then */
}

/* ---- the beginning ---- */

static uint64_t draw_seed(void)
{
    uint64_t seed = 0;
    return getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed ? seed : now_ns();
}

/* Turns before the last one, with their pictures. NULL: no memory. */
static glm4v_turn *make_history(const serve_exchange *x)
{
    const openai_request *ask = &x->ask;
    glm4v_turn *turns = glm4v_alloc(GLM4V_MAX_TURNS, sizeof *turns);
    for (uint32_t i = 0; turns && i + 1 < ask->n_turns; i++)
        turns[i] = (glm4v_turn) { .user = ask->turns[i].user,
                                  .assistant = ask->turns[i].assistant,
                                  .images = x->images.images + ask->turns[i].first_picture,
                                  .n_images = ask->turns[i].n_pictures };
    return turns;
}

static glm4v_task make_task(serve_exchange *x, const glm4v_turn *history)
{
    const openai_request *ask = &x->ask;
    const openai_turn *last = &ask->turns[ask->n_turns - 1];
    const glm4v_image *pictures = x->images.images + last->first_picture;
    const double timeout = x->server->set->request_timeout;
    return (glm4v_task) {
        .struct_size = sizeof(glm4v_task),
        .system = ask->system,
        .prompt = last->user,
        .images = ask->clip ? NULL : pictures,
        .n_images = ask->clip ? 0 : last->n_pictures,
        .frames = ask->clip ? pictures : NULL,
        .n_frames = ask->clip ? last->n_pictures : 0,
        .history = history,
        .n_history = ask->n_turns - 1,
        .max_tokens = ask->max_tokens,
        .max_reasoning_tokens = ask->max_reasoning_tokens,
        .thinking = ask->thinking,
        .temperature = (float)ask->temperature,
        .top_k = ask->top_k,
        .top_p = (float)ask->top_p,
        .repetition_penalty = (float)ask->repetition_penalty,
        .seed = ask->has_seed ? ask->seed : draw_seed(),
        .stream = atomic_fetch_add(&x->server->numbers, 1),
        .deadline = x->received + (uint64_t)llround(timeout * 1e9),
        .on_text = on_text,
        .on_done = on_done,
        .user = x,
        .choices = ask->n_choices ? ask->choices : NULL,
        .n_choices = ask->n_choices,
        .json_schema = ask->json_schema,
    };
}

/* The engine has it, or rc. */
static int submit(serve_exchange *x, glm4v_engine *engine, glm4v_error *err)
{
    glm4v_turn *history = make_history(x);
    glm4v_request *request = NULL;
    if (!history) {
        *err = (glm4v_error) { GLM4V_ERR_NOMEM, "no memory for a conversation" };
        return GLM4V_ERR_NOMEM;
    }
    const glm4v_task task = make_task(x, history);
    x->text = (serve_stops) { .stops = x->ask.stops, .n_stops = x->ask.n_stops };
    x->n_pictures = x->images.n;
    x->submitted = now_ns();
    serve_exchange_ref(x); /* the engine's */
    atomic_fetch_add(&x->server->held, 1);
    int rc = glm4v_engine_submit(engine, &task, &request, err);
    glm4v_free(history);
    if (rc) {
        atomic_fetch_sub(&x->server->held, 1);
        serve_exchange_unref(x);
        return rc;
    }
    pthread_mutex_lock(&x->lock);
    x->request = request;
    if (x->cancel)
        glm4v_request_cancel(request);
    pthread_mutex_unlock(&x->lock);
    return 0;
}

static bool is_canceled(serve_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    const bool cancel = x->cancel;
    pthread_mutex_unlock(&x->lock);
    return cancel;
}

static void refuse_model(serve_exchange *x)
{
    char message[256];
    snprintf(message, sizeof message, "there is no model \"%.100s\"; this server has \"%.100s\"",
             x->ask.model, x->server->set->names[0]);
    atomic_fetch_sub(&x->server->requests, 1);
    serve_exchange_fail(
        x, MHD_HTTP_NOT_FOUND,
        &(openai_error) { message, "invalid_request_error", "model", "model_not_found" });
}

/* From the body to the engine. */
static void complete(serve_exchange *x)
{
    const serve_settings *set = x->server->set;
    const openai_limits limits = { .bytes = set->max_body,
                                   .pictures = SERVE_PICTURES,
                                   .max_tokens = set->max_tokens,
                                   .tokens = set->max_tokens < SERVE_TOKENS ? set->max_tokens
                                                                            : SERVE_TOKENS };
    char parameter[OPENAI_MAX_PARAMETER] = "";
    glm4v_error err = { 0 };
    int rc = openai_request_read(&x->ask, x->body.data ? x->body.data : "", x->body.size, &limits,
                                 parameter, &err);
    if (!rc && x->ask.model && !serve_is_model(set, x->ask.model)) {
        refuse_model(x);
        return;
    }
    x->stream = x->ask.stream;
    if (!rc) {
        rc = serve_images_decode(&x->images, &x->ask, &set->sources, &x->server->pixels, &err);
        snprintf(parameter, sizeof parameter, "%s", rc ? "messages" : "");
        openai_request_drop_messages(&x->ask);
    }
    serve_exchange_release_body(x);
    if (!rc && is_canceled(x))
        rc = err.code = GLM4V_ERR_CANCELED;
    if (!rc)
        rc = submit(x, atomic_load(&x->server->engine), &err);
    if (rc) {
        serve_images_free(&x->images);
        atomic_fetch_sub(&x->server->requests, 1);
        fail(x, &err, parameter);
    }
}

static void work(serve_job *job)
{
    serve_exchange *x = (serve_exchange *)job;
    serve_server *server = x->server;
    complete(x);
    serve_exchange_unref(x);
    atomic_fetch_sub(&server->held, 1); /* last: the connection is not suspended any more */
}

void serve_completion_begin(serve_exchange *x)
{
    uint32_t random[3] = { 0 };
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random[0] = (uint32_t)now_ns();
    snprintf(x->id, sizeof x->id, "chatcmpl-%08x%08x%08x", random[0], random[1], random[2]);
    x->received = now_ns();
    x->created = time(NULL);
    x->job.run = work;
    serve_exchange_ref(x); /* the worker's */
    atomic_fetch_add(&x->server->held, 1);
    serve_workers_push(x->server->workers, &x->job);
}
