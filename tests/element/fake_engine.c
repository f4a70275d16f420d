/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One thread per engine answers requests in order, after the scripted time or when canceled. The
 * rule of verdicts is the library's own. */
#define _GNU_SOURCE
#include "fake_engine.h"

#include <errno.h>
#include <gst/gst.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct glm4v_model {
    glm4v_model_info info;
    int refs;
};

struct glm4v_request {
    int refs;
    bool canceled, done;
    uint64_t answer_ns, deadline;
    bool hang, late, told;
    int result_code;
    char text[256];
    const glm4v_box *boxes;
    uint32_t n_boxes;
    glm4v_action action;
    char choice[64], json[256];
    double shares[GLM4V_MAX_CHOICES];
    uint32_t n_shares, chosen;
    void (*on_text)(void *user, glm4v_text_part part, const char *text);
    void (*on_done)(void *user, const glm4v_result *result);
    void *user;
    struct glm4v_request *next;
};

struct glm4v_engine {
    glm4v_model *model;
    pthread_t thread;
    glm4v_request *queue;
    uint64_t steps;
    bool stop;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything */
static pthread_cond_t cond;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static glm4v_request *in_progress; /* that is told */
static fake_script script;
static fake_counts counts;
static const glm4v_action no_action = {
    .action = "", .text = "", .message = "", .element = { -1, -1 }, .to = { -1, -1 }
};

static void init(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cond, &attr);
    pthread_condattr_destroy(&attr);
}

void gst_plugin_glm4vdescribe_register(void);

void fake_init(int *argc, char ***argv)
{
    gst_init(argc, argv);
    gst_plugin_glm4vdescribe_register();
    fake_set((fake_script) { 0 });
}

void fake_set(fake_script s)
{
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    script = s;
    counts.submitted = counts.done = counts.canceled = counts.opened = 0;
    pthread_mutex_unlock(&lock);
}

fake_counts fake_get(void)
{
    pthread_mutex_lock(&lock);
    fake_counts c = counts;
    pthread_mutex_unlock(&lock);
    return c;
}

void fake_tell(const char *text)
{
    pthread_mutex_lock(&lock);
    while (!in_progress || in_progress->canceled)
        pthread_cond_wait(&cond, &lock);
    glm4v_request *req = in_progress;
    if (text) {
        strncat(req->text, text, sizeof req->text - strlen(req->text) - 1);
    } else {
        req->told = false;
        in_progress = NULL;
    }
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    if (text && req->on_text)
        req->on_text(req->user, GLM4V_TEXT_ANSWER, text);
}

static int fail(int code, glm4v_error *err, const char *what)
{
    if (err) {
        err->code = code;
        snprintf(err->msg, sizeof err->msg, "scripted failure of %s (%s)", what,
                 glm4v_error_name(code));
    }
    return code;
}

const char *glm4v_version(void)
{
    return "0.0.0";
}

const char *glm4v_error_name(int code)
{
    static const char *names[] = { "ok",       "invalid",  "no-memory",   "not-found",
                                   "io",       "format",   "unsupported", "busy",
                                   "canceled", "deadline", "device",      "internal" };
    return code <= 0 && code > -12 ? names[-code] : "unknown";
}

/* ---- devices ---- */

int glm4v_device_retain(const char *name, void **context, glm4v_error *err)
{
    return fail(GLM4V_ERR_DEVICE, err, "device_retain");
}

void glm4v_device_release(const char *name)
{
}

/* ---- model ---- */

static glm4v_model_info make_info(const char *dir)
{
    glm4v_model_info info = { .family = "glm4v",
                              .chat_template = "glm-4.1v",
                              .stored_form = "fp32",
                              .form = { "fp32", "fp32", "fp32", "fp32" },
                              .isa = "c",
                              .hash = "0123456789abcdef",
                              .n_layers = 2 };
    const char *slash = strrchr(dir, '/');
    snprintf(info.name, sizeof info.name, "%s", slash ? slash + 1 : dir);
    pthread_mutex_lock(&lock);
    snprintf(info.image_device, sizeof info.image_device, "%s",
             script.image_device ? script.image_device : "cpu");
    if (g_str_has_prefix(info.image_device, "cuda"))
        snprintf(info.products, sizeof info.products, "fedcba9876543210");
    pthread_mutex_unlock(&lock);
    return info;
}

int glm4v_model_inspect(const char *dir, const glm4v_model_options *options, glm4v_model_info *info,
                        glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    int code = script.inspect_code;
    pthread_mutex_unlock(&lock);
    if (code)
        return fail(code, err, "model_inspect");
    *info = make_info(dir);
    return 0;
}

static int pretend_to_load(const glm4v_model_options *options, uint64_t load_ns)
{
    struct timespec step = { .tv_sec = (time_t)(load_ns / 20 / 1000000000u),
                             .tv_nsec = (long)(load_ns / 20 % 1000000000u) };
    for (uint64_t i = 0; i <= 20; i++) {
        if (options->progress && options->progress(options->progress_user, i, 20))
            return GLM4V_ERR_CANCELED;
        if (load_ns && i < 20)
            nanosleep(&step, NULL);
    }
    return 0;
}

int glm4v_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                     glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    const char *slash = strrchr(dir, '/'), *name = slash ? slash + 1 : dir;
    int code = script.open_code;
    if (!code && script.broken && !strcmp(name, script.broken))
        code = GLM4V_ERR_FORMAT;
    uint64_t load_ns = script.load_ns;
    counts.n_threads = options->n_threads;
    snprintf(counts.quantization, sizeof counts.quantization, "%s",
             options->quantization ? options->quantization : "");
    pthread_mutex_unlock(&lock);
    if (!code)
        code = pretend_to_load(options, load_ns);
    if (code)
        return fail(code, err, "model_open");
    *model = calloc(1, sizeof **model);
    (*model)->refs = 1;
    (*model)->info = make_info(dir);
    pthread_mutex_lock(&lock);
    counts.models++;
    counts.opened++;
    pthread_mutex_unlock(&lock);
    return 0;
}

void glm4v_model_close(glm4v_model **model)
{
    if (!*model)
        return;
    pthread_mutex_lock(&lock);
    bool last = --(*model)->refs == 0;
    counts.models -= last;
    pthread_mutex_unlock(&lock);
    if (last)
        free(*model);
    *model = NULL;
}

const glm4v_model_info *glm4v_model_get_info(const glm4v_model *model)
{
    return &model->info;
}

/* ---- engine ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* With the lock: wait for the scripted time, its deadline, the request's cancel or the
 * engine's end. */
static void work(glm4v_engine *engine, glm4v_request *req)
{
    uint64_t ns = now_ns() + req->answer_ns;
    if (req->deadline && req->deadline < ns && !req->hang) {
        req->late = true;
        ns = req->deadline;
    }
    struct timespec end = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    in_progress = req->told ? req : NULL;
    pthread_cond_broadcast(&cond);
    while (req->told && !(req->canceled || engine->stop))
        pthread_cond_wait(&cond, &lock);
    in_progress = NULL;
    while (req->hang || !(req->canceled || engine->stop))
        if (pthread_cond_timedwait(&cond, &lock, &end) == ETIMEDOUT)
            break;
    if (engine->stop)
        req->canceled = true;
    engine->steps++;
}

static void finish(glm4v_request *req, bool canceled)
{
    const bool well = !canceled && !req->result_code && !req->late;
    const uint32_t n = well ? req->n_shares : 0;
    glm4v_result result = { .message = "",
                            .text = req->text,
                            .reasoning = "",
                            .box = "",
                            .finish = GLM4V_FINISH_STOP,
                            .boxes = req->boxes,
                            .n_boxes = req->n_boxes,
                            .action = req->action,
                            .choice = n ? req->choice : "",
                            .choice_index = n ? req->chosen : 0,
                            .probability = n ? req->shares[req->chosen] : 0,
                            .probabilities = n ? req->shares : NULL,
                            .n_probabilities = n,
                            .json = well ? req->json : "",
                            .prompt_tokens = 12,
                            .vision_tokens = 4,
                            .output_tokens = 3,
                            .timings = { .total = req->answer_ns, .decode = req->answer_ns } };
    if (canceled || req->result_code) {
        result.status = canceled ? GLM4V_ERR_CANCELED : req->result_code;
        result.finish = canceled ? GLM4V_FINISH_CANCELED : GLM4V_FINISH_ERROR;
        result.message = "scripted failure of the answer";
        result.text = "";
        result.n_boxes = 0;
        result.action = no_action;
    } else if (req->late) {
        result.status = GLM4V_ERR_DEADLINE;
        result.finish = GLM4V_FINISH_DEADLINE;
        result.message = "scripted deadline";
        result.text = "half an ans";
    }
    req->on_done(req->user, &result);
}

static void *serve(void *user)
{
    glm4v_engine *engine = user;
    pthread_mutex_lock(&lock);
    while (!engine->stop || engine->queue) {
        glm4v_request *req = engine->queue;
        if (!req) {
            pthread_cond_wait(&cond, &lock);
            continue;
        }
        work(engine, req);
        engine->queue = req->next;
        bool canceled = req->canceled;
        pthread_mutex_unlock(&lock);
        finish(req, canceled);
        pthread_mutex_lock(&lock);
        counts.done++;
        counts.canceled += canceled;
        req->done = true;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
        glm4v_request_unref(&req);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

int glm4v_engine_open(glm4v_engine **engine, glm4v_model *model,
                      const glm4v_engine_options *options, glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    int code = script.engine_code;
    counts.max_pixels = options->max_pixels;
    counts.max_batch = options->max_batch;
    counts.context_length = options->context_length;
    if (!code) {
        model->refs++;
        counts.engines++;
    }
    pthread_mutex_unlock(&lock);
    if (code)
        return fail(code, err, "engine_open");
    *engine = calloc(1, sizeof **engine);
    (*engine)->model = model;
    pthread_create(&(*engine)->thread, NULL, serve, *engine);
    return 0;
}

void glm4v_engine_close(glm4v_engine **engine)
{
    if (!*engine)
        return;
    pthread_mutex_lock(&lock);
    (*engine)->stop = true;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    pthread_join((*engine)->thread, NULL);
    glm4v_model_close(&(*engine)->model);
    pthread_mutex_lock(&lock);
    counts.engines--;
    pthread_mutex_unlock(&lock);
    free(*engine);
    *engine = NULL;
}

/* With the lock. */
static void remember(const glm4v_task *task)
{
    counts.max_tokens = task->max_tokens;
    counts.stream = task->stream;
    counts.deadline = task->deadline;
    counts.heard = task->on_text != NULL;
    counts.pictures_id = task->pictures_id;
    counts.n_images = task->n_images;
    counts.n_frames = task->n_frames;
    if (task->n_frames)
        counts.last_timestamp = task->frames[task->n_frames - 1].timestamp;
    snprintf(counts.prompt, sizeof counts.prompt, "%s", task->prompt);
    snprintf(counts.system, sizeof counts.system, "%s", task->system ? task->system : "");
}

static void write_choice(glm4v_request *req, const glm4v_task *task, const uint8_t *p)
{
    const int sum = p[0] + p[1] + p[2];
    req->n_shares = task->n_choices;
    for (uint32_t i = 0; i < 3 && i < task->n_choices; i++)
        req->shares[i] = sum ? (double)p[i] / sum : i == 0;
    for (uint32_t i = 0; i < task->n_choices; i++)
        req->chosen = req->shares[i] > req->shares[req->chosen] ? i : req->chosen;
    snprintf(req->choice, sizeof req->choice, "%s", task->choices[req->chosen]);
    snprintf(req->text, sizeof req->text, "%s", req->choice);
}

static void write_answer(glm4v_request *req, const glm4v_task *task)
{
    const glm4v_image *image = task->n_frames ? &task->frames[0] : &task->images[0];
    const uint8_t *p = image->data + image->height / 2 * image->stride + image->width / 2 * 3;
    if (task->n_choices)
        write_choice(req, task, p);
    else if (task->json_schema)
        snprintf(req->text, sizeof req->text, "{\"red\":%d}", p[0]);
    else if (script.told)
        req->text[0] = '\0';
    else if (script.echo)
        snprintf(req->text, sizeof req->text, "%s", task->prompt);
    else if (script.text)
        snprintf(req->text, sizeof req->text, "%s", script.text);
    else
        snprintf(req->text, sizeof req->text, "%dx%d #%02x%02x%02x", image->width, image->height,
                 p[0], p[1], p[2]);
    snprintf(req->json, sizeof req->json, "%s", task->json_schema ? req->text : "");
}

int glm4v_engine_check(glm4v_engine *engine, const glm4v_task *task, glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    int code = script.check_code;
    pthread_mutex_unlock(&lock);
    return code ? fail(code, err, "engine_check") : 0;
}

/* Of servers there are only those that fail. */
int glm4v_answer_parse(glm4v_result **result, const char *text, const glm4v_task *task,
                       glm4v_error *err)
{
    return fail(GLM4V_ERR_UNSUPPORTED, err, "the fake engine reads no answers");
}

int glm4v_image_fit(const glm4v_image *image, uint64_t max_pixels, int32_t *width, int32_t *height,
                    glm4v_error *err)
{
    *width = image->width;
    *height = image->height;
    return 0;
}

int glm4v_image_resize(uint8_t *pixels, int32_t width, int32_t height, const glm4v_image *image,
                       glm4v_error *err)
{
    return fail(GLM4V_ERR_UNSUPPORTED, err, "the fake engine resizes no images");
}

int glm4v_json_schema_check(const char *json_schema, glm4v_error *err)
{
    if (!strstr(json_schema, "\"pattern\""))
        return 0;
    return fail(GLM4V_ERR_UNSUPPORTED, err, "\"pattern\"");
}

int glm4v_engine_submit(glm4v_engine *engine, const glm4v_task *task, glm4v_request **out,
                        glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    int code = script.submit_code;
    counts.submitted++;
    if (code) {
        pthread_mutex_unlock(&lock);
        return fail(code, err, "engine_submit");
    }
    glm4v_request *req = calloc(1, sizeof *req), **tail = &engine->queue;
    req->refs = 2;
    req->answer_ns = script.answer_ns;
    req->hang = script.hang;
    req->told = script.told;
    req->deadline = task->deadline;
    req->result_code = script.result_code;
    req->boxes = script.boxes;
    req->n_boxes = script.n_boxes;
    req->action = script.action ? *script.action : no_action;
    req->on_text = task->on_text;
    req->on_done = task->on_done;
    req->user = task->user;
    remember(task);
    write_answer(req, task);
    while (*tail)
        tail = &(*tail)->next;
    *tail = req;
    counts.requests++;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    *out = req;
    return 0;
}

int glm4v_engine_get_stats(glm4v_engine *engine, glm4v_engine_stats *stats, glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    *stats = (glm4v_engine_stats) { .struct_size = sizeof *stats,
                                    .steps = engine->steps,
                                    .decode_steps = 2 * engine->steps,
                                    .decode_requests = 3 * engine->steps,
                                    .memory = FAKE_MEMORY };
    pthread_mutex_unlock(&lock);
    return 0;
}

void glm4v_request_cancel(glm4v_request *req)
{
    pthread_mutex_lock(&lock);
    req->canceled = true;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
}

int glm4v_request_wait(glm4v_request *req, uint64_t timeout_ns)
{
    uint64_t now = now_ns(), ns = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    struct timespec end = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    int rc = 0;
    pthread_mutex_lock(&lock);
    while (!req->done && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&cond, &lock, &end);
    bool done = req->done;
    pthread_mutex_unlock(&lock);
    return done ? 0 : GLM4V_ERR_DEADLINE;
}

void glm4v_request_unref(glm4v_request **req)
{
    pthread_mutex_lock(&lock);
    bool last = --(*req)->refs == 0;
    counts.requests -= last;
    pthread_mutex_unlock(&lock);
    if (last)
        free(*req);
    *req = NULL;
}
