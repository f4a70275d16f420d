/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public calls on engines: open and close, submit, describe, statistics. Any thread; the work
 * is done by scheduler.c on the engine's own thread.
 *
 * Lock: engine->lock guards queue, stop, fault and stats; that of request->done may be taken inside
 * it. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/struct_size.h"
#include "engine.h"
#include "estimate.h"

int glm4v_engine_patches(glm4v_engine *engine, size_t n, glm4v_error *err)
{
    if (n <= engine->patches_capacity)
        return 0;
    glm4v_backend *b = engine->model->stages[0].backend;
    b->ops->staging_free(b, engine->patches);
    engine->patches = NULL;
    engine->patches_capacity = 0;
    int rc = b->ops->staging_alloc(b, (void **)&engine->patches, n * sizeof(float), err);
    engine->patches_capacity = rc ? 0 : n;
    return rc;
}

static void forbid(uint64_t *mask, int32_t id)
{
    if (id >= 0)
        mask[id / 64] |= (uint64_t)1 << (id % 64);
}

/* May the model write this token? Not rows of the head that no token belongs to, and of the control
 * tokens only stop ids and the markers that answers are made of. Added tokens that are not special
 * are text. */
static bool is_written(const glm4v_model *m, int32_t id)
{
    const glm4v_chat *c = &m->chat;
    const int32_t markers[] = {
        c->think, c->think_end, c->answer, c->answer_end, c->box, c->box_end
    };
    size_t len;
    if (id >= glm4v_tokenizer_size(m->tokenizer) || !glm4v_tokenizer_bytes(m->tokenizer, id, &len))
        return false;
    return glm4v_tokenizer_is_text(m->tokenizer, id) || glm4v_is_one_of(id, markers, 6) ||
           glm4v_is_one_of(id, m->config.stop_ids, m->config.n_stop_ids);
}

/* Ids that are never generated, by whether a request reasons: without it the markers of reasoning
 * too. */
static int make_masks(glm4v_engine *engine, glm4v_error *err)
{
    const glm4v_model *m = engine->model;
    const int64_t vocab = m->config.text.vocab, words = vocab / 64 + 1;
    int64_t n = 0;
    uint64_t *masks = engine->masks = glm4v_alloc(GLM4V_FIXED_MASKS * words, sizeof *masks);
    if (!masks)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a mask of %" PRId64 " tokens",
                          vocab);
    for (int32_t id = 0; id < vocab; id++)
        if (is_written(m, id))
            n++;
        else
            forbid(masks, id);
    memcpy(masks + words, masks, words * sizeof *masks);
    forbid(masks, m->chat.think);
    forbid(masks, m->chat.think_end);
    forbid(masks, m->chat.answer);
    if (n <= 3)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "the tokenizer has no token that this model can generate");
    return glm4v_context_samples(engine->context)
               ? glm4v_context_set_masks(engine->context, 0, masks, GLM4V_FIXED_MASKS, err)
               : 0;
}

/* Where nothing is to be allocated in a request: room for the largest image. */
static int take_patches(glm4v_engine *engine, glm4v_error *err)
{
    const glm4v_vision_config *v = &engine->model->config.vision;
    const size_t patch = glm4v_patch_values(v);
    if (!engine->model->stages[0].backend->traits->all_at_open)
        return 0;
    return glm4v_engine_patches(engine, engine->limits.context.patches * patch, err);
}

static int allocate(glm4v_engine *engine, glm4v_error *err)
{
    const glm4v_engine_limits *l = &engine->limits;
    size_t vocab = engine->model->config.text.vocab;
    int rc = glm4v_context_open(&engine->context, engine->model, l->context, err);
    if (!rc)
        rc = glm4v_prefix_open(&engine->prefix, l->prefix_tokens, l->max_batch, err);
    if (!rc)
        rc = glm4v_past_open(&engine->past, engine->model->stages[0].backend->traits->asynchronous,
                             err);
    if (!rc)
        rc = make_masks(engine, err);
    if (rc)
        return rc;
    engine->texts = glm4v_alloc(l->max_batch * glm4v_text_room(l), sizeof *engine->texts);
    if (!engine->texts)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the tokens of %" PRId64 " requests",
                          l->max_batch);
    engine->scratch = glm4v_alloc_aligned(vocab, sizeof *engine->scratch);
    if (!engine->scratch)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to sort %zu tokens", vocab);
    return take_patches(engine, err);
}

uint64_t glm4v_engine_host_bytes(const glm4v_model *m, const glm4v_engine_limits *l,
                                 uint64_t patches)
{
    const glm4v_vision_config *v = &m->config.vision;
    const uint64_t V = m->config.text.vocab;
    const uint64_t patch = glm4v_patch_values(v);
    return sizeof(glm4v_engine) + l->max_batch * sizeof(glm4v_request) +
           V * sizeof(glm4v_candidate) + GLM4V_FIXED_MASKS * (V / 64 + 1) * sizeof(uint64_t) +
           l->prefix_tokens * sizeof(int32_t) + glm4v_past_bytes() +
           l->max_batch * glm4v_text_room(l) * sizeof(int32_t) + patches * patch * sizeof(float);
}

static void free_engine(glm4v_engine *engine)
{
    glm4v_backend *b = engine->model->stages[0].backend;
    glm4v_prefix_close(&engine->prefix);
    glm4v_past_close(&engine->past);
    glm4v_free(engine->texts);
    glm4v_context_close(&engine->context);
    glm4v_free(engine->masks);
    glm4v_shapes_clear(&engine->shapes);
    glm4v_token_tries_close(&engine->tries);
    glm4v_free(engine->scratch);
    b->ops->staging_free(b, engine->patches);
    glm4v_model_close(&engine->model);
    glm4v_free(engine);
}

int glm4v_engine_shape(glm4v_engine *engine, glm4v_shape **shape, const char *json_schema,
                       glm4v_error *err)
{
    const glm4v_model *m = engine->model;
    int rc = 0;
    pthread_mutex_lock(&engine->shapes_lock);
    if (!engine->tries)
        rc = glm4v_token_tries_open(&engine->tries, m->tokenizer, m->config.text.vocab, err);
    if (!rc)
        rc = glm4v_shapes_take(&engine->shapes, shape, json_schema, engine->tries, err);
    pthread_mutex_unlock(&engine->shapes_lock);
    return rc;
}

/* Signals belong to the host process: none is delivered to the engine's thread. */
static int start_thread(glm4v_engine *engine, glm4v_error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&engine->thread, NULL, glm4v_scheduler_main, engine);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc ? glm4v_fail(err, GLM4V_ERR_NOMEM, "the engine's thread could not be started: %s",
                           strerror(rc))
              : 0;
}

static void destroy_locks(glm4v_engine *engine)
{
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->shapes_lock);
}

static int init_locks(glm4v_engine *engine, glm4v_error *err)
{
    if (pthread_mutex_init(&engine->lock, NULL))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the engine's lock");
    if (!pthread_mutex_init(&engine->shapes_lock, NULL)) {
        if (!pthread_cond_init(&engine->wake, NULL))
            return 0;
        pthread_mutex_destroy(&engine->shapes_lock);
    }
    pthread_mutex_destroy(&engine->lock);
    return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the engine's lock");
}

static int start(glm4v_engine *engine, glm4v_error *err)
{
    int rc = init_locks(engine, err);
    if (rc)
        return rc;
    rc = start_thread(engine, err);
    if (rc)
        destroy_locks(engine);
    return rc;
}

int glm4v_engine_open(glm4v_engine **out, glm4v_model *model, const glm4v_engine_options *options,
                      glm4v_error *err)
{
    glm4v_engine_limits limits;
    if (!model->tokenizer)
        return glm4v_fail(
            err, GLM4V_ERR_INVALID,
            "the model was opened without tokenizer (weights_only): it cannot describe");
    const int64_t temporal = glm4v_family_of(model->config.family)->temporal;
    if (model->config.vision.temporal != temporal)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "config.json: temporal_patch_size is %" PRId64 ", expected %" PRId64,
                          model->config.vision.temporal, temporal);
    int rc = glm4v_engine_limits_of(&limits, model, options, err);
    if (rc)
        return rc;
    rc = glm4v_estimate_check_engine(model, &limits, err);
    if (rc)
        return rc;
    glm4v_engine *engine = glm4v_alloc(1, sizeof *engine);
    if (!engine)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an engine");
    engine->model = glm4v_model_ref(model);
    engine->limits = limits;
    engine->queue_end = &engine->queue;
    rc = glm4v_estimate_engine(model, &limits, &engine->stats.memory, err);
    if (!rc)
        rc = allocate(engine, err);
    if (!rc)
        rc = start(engine, err);
    if (rc) {
        free_engine(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

void glm4v_engine_close(glm4v_engine **engine_ptr)
{
    glm4v_engine *engine = engine_ptr ? *engine_ptr : NULL;
    if (!engine)
        return;
    pthread_mutex_lock(&engine->lock);
    engine->stop = true;
    for (glm4v_request *r = engine->queue; r; r = r->next)
        atomic_store(&r->cancel, true);
    for (int64_t i = 0; i < engine->n_running; i++)
        atomic_store(&engine->running[i]->cancel, true);
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    destroy_locks(engine);
    free_engine(engine);
    *engine_ptr = NULL;
}

/* Lock held. */
static int check_room(const glm4v_engine *engine, uint32_t stream, glm4v_error *err)
{
    int64_t waiting = 0;
    if (engine->fault.code)
        return glm4v_fail(err, engine->fault.code, "%s", engine->fault.msg);
    for (const glm4v_request *r = engine->queue; r; r = r->next)
        waiting += r->task.stream == stream;
    if (waiting >= engine->limits.max_pending)
        return glm4v_fail(err, GLM4V_ERR_BUSY, "%" PRId64 " requests of stream %u wait already",
                          waiting, stream);
    return 0;
}

int glm4v_engine_submit(glm4v_engine *engine, const glm4v_task *task, glm4v_request **request,
                        glm4v_error *err)
{
    glm4v_request *r = NULL;
    int rc = glm4v_request_new(engine, task, &r, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&engine->lock);
    rc = check_room(engine, r->task.stream, err);
    if (!rc) {
        atomic_fetch_add(&r->refs, request != NULL);
        if (request)
            *request = r;
        r->number = engine->n_numbers++;
        *engine->queue_end = r;
        engine->queue_end = &r->next;
        engine->stats.submitted++;
        engine->stats.queued++;
        pthread_cond_signal(&engine->wake);
    }
    pthread_mutex_unlock(&engine->lock);
    if (rc)
        glm4v_request_unref(&r);
    return rc;
}

int glm4v_describe(glm4v_engine *engine, const glm4v_task *task, glm4v_result **result,
                   glm4v_error *err)
{
    glm4v_request *r = NULL;
    int rc = glm4v_engine_submit(engine, task, &r, err);
    if (rc)
        return rc;
    glm4v_request_wait(r, UINT64_MAX);
    glm4v_result *copy = NULL;
    rc = r->result.status;
    if (rc)
        glm4v_fail(err, rc, "%s", r->result.message);
    else if (result && !(copy = glm4v_result_copy(&r->result)))
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a copy of the result");
    else if (result)
        *result = copy;
    glm4v_request_unref(&r);
    return rc;
}

int glm4v_engine_check(glm4v_engine *engine, const glm4v_task *task, glm4v_error *err)
{
    glm4v_request *r = NULL;
    int rc = glm4v_request_new(engine, task, &r, err);
    if (!rc)
        glm4v_request_unref(&r);
    return rc;
}

int glm4v_json_schema_check(const char *json_schema, glm4v_error *err)
{
    glm4v_schema *schema = NULL;
    if (!json_schema)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "no JSON schema");
    int rc = glm4v_schema_open(&schema, json_schema, err);
    glm4v_schema_close(&schema);
    return rc;
}

int glm4v_engine_get_stats(glm4v_engine *engine, glm4v_engine_stats *stats, glm4v_error *err)
{
    pthread_mutex_lock(&engine->lock);
    const glm4v_engine_stats own = engine->stats;
    pthread_mutex_unlock(&engine->lock);
    return glm4v_struct_write(stats, &own, sizeof own, "engine stats", err);
}
