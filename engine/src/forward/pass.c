/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Passes in progress: chunks are submitted to the device, an event is recorded after each, and the
 * host polls the events. Vision, prefill and decode differ in what a chunk is (vision.c,
 * text.c). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "forward/context_priv.h"

int glm4v_fail_device(glm4v_error *err, glm4v_backend *b, int rc, const char *where, ...)
{
    char text[160], failure[256] = "";
    va_list args;
    va_start(args, where);
    vsnprintf(text, sizeof text, where, args);
    va_end(args);
    b->ops->failure(b, failure, sizeof failure);
    return glm4v_fail(err, rc, "device %s failed %s%s%s", b->ops->name, text, *failure ? ": " : "",
                      failure);
}

int glm4v_pass_start(glm4v_context *c, glm4v_queue q, glm4v_pass_kind kind, glm4v_error *err)
{
    if (c->pass[q].kind != GLM4V_PASS_NONE)
        return glm4v_fail(err, GLM4V_ERR_INTERNAL, "a pass is under way on queue %d already",
                          (int)q);
    c->pass[q] = (glm4v_pass) { .kind = kind };
    return 0;
}

int64_t glm4v_chunk_layers(glm4v_backend *b, uint64_t work)
{
    const uint64_t layers = work ? b->traits->chunk / work : 0;
    if (layers < 1)
        return 1;
    return layers < INT32_MAX ? layers : INT32_MAX;
}

/* ---- chunks in flight ---- */

/* Behind what the stage was given last. */
static int record_chunk(glm4v_context *c, glm4v_queue q, int64_t stage)
{
    glm4v_pass *p = &c->pass[q];
    const glm4v_stage_buffers *s = &c->stages[stage];
    glm4v_event *event = s->event[q][p->next_event];
    int rc = s->backend->ops->event_record(s->backend, q, event);
    p->next_event = (p->next_event + 1) % GLM4V_CHUNKS;
    p->chunk[p->n_chunks].backend = s->backend;
    p->chunk[p->n_chunks].event = event;
    p->n_chunks += !rc;
    return rc;
}

static void drop_oldest(glm4v_pass *p)
{
    p->n_chunks--;
    memmove(p->chunk, p->chunk + 1, p->n_chunks * sizeof *p->chunk);
}

static int chunk_failed(glm4v_context *c, glm4v_queue q, int rc, glm4v_error *err)
{
    glm4v_fail_device(err, c->pass[q].chunk[0].backend, rc, "during a pass");
    glm4v_pass_drop(c, q);
    return rc;
}

bool glm4v_pass_room(const glm4v_context *context, glm4v_queue queue)
{
    return context->pass[queue].n_chunks < GLM4V_CHUNKS;
}

int glm4v_pass_submit(glm4v_context *context, glm4v_queue queue, glm4v_error *err)
{
    glm4v_pass *p = &context->pass[queue];
    int64_t stage = p->stage;
    int rc = p->kind == GLM4V_PASS_VISION ? glm4v_vision_chunk(context, err)
                                          : glm4v_text_chunk(context, queue, err);
    /* the stage of the end of the chunk; for a finished pass p->stage is one more than the last */
    if (p->kind == GLM4V_PASS_TEXT && p->stage > stage)
        stage = p->stage - 1;
    if (!rc && (rc = record_chunk(context, queue, stage)))
        glm4v_fail_device(err, context->stages[stage].backend, rc, "to record an event");
    if (rc) {
        glm4v_pass_drop(context, queue);
        return rc;
    }
    return !p->submitted;
}

int glm4v_pass_poll(glm4v_context *context, glm4v_queue queue, glm4v_error *err)
{
    glm4v_pass *p = &context->pass[queue];
    while (p->n_chunks) {
        glm4v_backend *b = p->chunk[0].backend;
        int rc = b->ops->event_done(b, p->chunk[0].event);
        if (rc < 0)
            return chunk_failed(context, queue, rc, err);
        if (!rc)
            return 0;
        drop_oldest(p);
    }
    if (p->submitted)
        p->kind = GLM4V_PASS_NONE;
    return 1;
}

void glm4v_pass_wait(glm4v_context *context, glm4v_queue queue)
{
    const glm4v_pass *p = &context->pass[queue];
    glm4v_backend *b = p->chunk[0].backend;
    if (p->n_chunks)
        b->ops->sync(b, p->chunk[0].event);
}

void glm4v_pass_drop(glm4v_context *context, glm4v_queue queue)
{
    glm4v_pass *p = &context->pass[queue];
    if (p->kind == GLM4V_PASS_NONE)
        return;
    if (p->open) {
        glm4v_stage_buffers *s = &context->stages[p->stage];
        glm4v_step *step =
            p->kind == GLM4V_PASS_VISION ? context->vision.step : s->work[queue].step;
        s->backend->ops->step_drop(step);
    }
    /* failed or not: after this the pass's memory is not used */
    for (int64_t i = 0; i < context->model->n_stages; i++) {
        const glm4v_stage_buffers *s = &context->stages[i];
        if (!s->backend->ops->event_record(s->backend, queue, s->event[queue][0]))
            s->backend->ops->sync(s->backend, s->event[queue][0]);
    }
    *p = (glm4v_pass) { 0 };
}

int glm4v_pass_canceled(const glm4v_context *context, glm4v_queue queue, glm4v_error *err)
{
    const glm4v_pass *p = &context->pass[queue];
    return glm4v_fail(err, GLM4V_ERR_CANCELED, "canceled before %s layer %" PRId64,
                      p->kind == GLM4V_PASS_VISION ? "vision" : "text", p->layer);
}

/* Wait until the pass has room for a chunk, or with `all` is done. */
static int wait_until(glm4v_context *c, glm4v_queue q, bool all, glm4v_error *err)
{
    for (;;) {
        int rc = glm4v_pass_poll(c, q, err);
        if (rc < 0)
            return rc;
        if (rc || (!all && glm4v_pass_room(c, q)))
            return 0;
        glm4v_pass_wait(c, q);
    }
}

int glm4v_pass_run(glm4v_context *c, glm4v_queue q, const atomic_bool *cancel, glm4v_error *err)
{
    for (int more = 1; more;) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            glm4v_pass_canceled(c, q, err);
            glm4v_pass_drop(c, q);
            return GLM4V_ERR_CANCELED;
        }
        int rc = wait_until(c, q, false, err);
        if (!rc)
            rc = more = glm4v_pass_submit(c, q, err);
        if (rc < 0)
            return rc;
    }
    return wait_until(c, q, true, err);
}

/* ---- results ---- */

float *glm4v_pass_logits(glm4v_context *context, glm4v_queue queue)
{
    return context->host_logits[queue];
}

const int32_t *glm4v_pass_ids(const glm4v_context *context, glm4v_queue queue)
{
    return context->host_ids[queue];
}
