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
    return glm4v_fail(err, rc, "device %s failed %s%s%s", b->device, text, *failure ? ": " : "",
                      failure);
}

int glm4v_pass_start(glm4v_context *c, glm4v_lane lane, glm4v_pass_kind kind, glm4v_error *err)
{
    if (c->lane[lane].pass.kind != GLM4V_PASS_NONE)
        return glm4v_fail(err, GLM4V_ERR_INTERNAL, "a pass is under way in lane %d already", lane);
    c->lane[lane].pass = (glm4v_pass) { .kind = kind };
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
static int record_chunk(glm4v_context *c, glm4v_lane lane, int64_t stage)
{
    glm4v_pass *p = &c->lane[lane].pass;
    const glm4v_stage_buffers *s = &c->stages[stage];
    glm4v_event *event = s->event[lane][p->next_event];
    int rc = s->backend->ops->event_record(s->backend, glm4v_queue_of(lane), event);
    p->next_event = (p->next_event + 1) % GLM4V_CHUNKS;
    p->chunk[p->n_chunks].backend = s->backend;
    p->chunk[p->n_chunks].event = event;
    p->n_chunks += !rc;
    c->lane[lane].n_chunks += !rc;
    return rc;
}

static void drop_oldest(glm4v_pass *p)
{
    p->n_chunks--;
    memmove(p->chunk, p->chunk + 1, p->n_chunks * sizeof *p->chunk);
}

static int chunk_failed(glm4v_context *c, glm4v_lane lane, int rc, glm4v_error *err)
{
    glm4v_fail_device(err, c->lane[lane].pass.chunk[0].backend, rc, "during a pass");
    glm4v_pass_drop(c, lane);
    return rc;
}

bool glm4v_pass_room(const glm4v_context *context, glm4v_lane lane)
{
    return context->lane[lane].pass.n_chunks < GLM4V_CHUNKS;
}

uint64_t glm4v_pass_oldest(const glm4v_context *context, glm4v_lane lane)
{
    const glm4v_lane_state *l = &context->lane[lane];
    return l->pass.n_chunks ? l->n_chunks - (uint64_t)l->pass.n_chunks + 1 : 0;
}

int glm4v_pass_submit(glm4v_context *context, glm4v_lane lane, glm4v_error *err)
{
    glm4v_pass *p = &context->lane[lane].pass;
    int64_t stage = p->stage;
    int rc = p->kind == GLM4V_PASS_VISION ? glm4v_vision_chunk(context, err)
                                          : glm4v_text_chunk(context, lane, err);
    /* the stage of the end of the chunk; for a finished pass p->stage is one more than the last */
    if (p->kind == GLM4V_PASS_TEXT && p->stage > stage)
        stage = p->stage - 1;
    if (!rc && (rc = record_chunk(context, lane, stage)))
        glm4v_fail_device(err, context->stages[stage].backend, rc, "to record an event");
    if (rc) {
        glm4v_pass_drop(context, lane);
        return rc;
    }
    return !p->submitted;
}

/* Of a batch that is done. */
static void add_busy(glm4v_context *c, glm4v_lane lane)
{
    for (int64_t i = 0; i < c->model->n_stages; i++) {
        glm4v_stage_buffers *s = &c->stages[i];
        const glm4v_step *step = s->work[lane].step;
        if (step->size.timed && s->backend->ops->step_time)
            s->busy += s->backend->ops->step_time(s->work[lane].step);
    }
}

uint64_t glm4v_context_busy(const glm4v_context *context, int64_t stage)
{
    return context->stages[stage].busy;
}

int glm4v_pass_poll(glm4v_context *context, glm4v_lane lane, glm4v_error *err)
{
    glm4v_pass *p = &context->lane[lane].pass;
    while (p->n_chunks) {
        glm4v_backend *b = p->chunk[0].backend;
        int rc = b->ops->event_done(b, p->chunk[0].event);
        if (rc < 0)
            return chunk_failed(context, lane, rc, err);
        if (!rc)
            return 0;
        drop_oldest(p);
    }
    if (p->submitted) {
        if (p->kind == GLM4V_PASS_TEXT)
            add_busy(context, lane);
        p->kind = GLM4V_PASS_NONE;
    }
    return 1;
}

void glm4v_pass_wait(glm4v_context *context, glm4v_lane lane)
{
    const glm4v_pass *p = &context->lane[lane].pass;
    glm4v_backend *b = p->chunk[0].backend;
    if (p->n_chunks)
        b->ops->sync(b, p->chunk[0].event);
}

void glm4v_pass_drop(glm4v_context *context, glm4v_lane lane)
{
    glm4v_pass *p = &context->lane[lane].pass;
    if (p->kind == GLM4V_PASS_NONE)
        return;
    if (p->open) {
        glm4v_stage_buffers *s = &context->stages[p->stage];
        glm4v_step *step = p->kind == GLM4V_PASS_VISION ? context->vision.step : s->work[lane].step;
        s->backend->ops->step_drop(step);
    }
    /* failed or not: after this the pass's memory is not used */
    for (int64_t i = 0; i < context->model->n_stages; i++) {
        const glm4v_stage_buffers *s = &context->stages[i];
        if (!s->backend->ops->event_record(s->backend, glm4v_queue_of(lane), s->event[lane][0]))
            s->backend->ops->sync(s->backend, s->event[lane][0]);
    }
    *p = (glm4v_pass) { 0 };
}

int glm4v_pass_canceled(const glm4v_context *context, glm4v_lane lane, glm4v_error *err)
{
    const glm4v_pass *p = &context->lane[lane].pass;
    return glm4v_fail(err, GLM4V_ERR_CANCELED, "canceled before %s layer %" PRId64,
                      p->kind == GLM4V_PASS_VISION ? "vision" : "text", p->layer);
}

/* Wait until the pass has room for a chunk, or with `all` is done. */
static int wait_until(glm4v_context *c, glm4v_lane lane, bool all, glm4v_error *err)
{
    for (;;) {
        int rc = glm4v_pass_poll(c, lane, err);
        if (rc < 0)
            return rc;
        if (rc || (!all && glm4v_pass_room(c, lane)))
            return 0;
        glm4v_pass_wait(c, lane);
    }
}

int glm4v_pass_run(glm4v_context *c, glm4v_lane lane, const atomic_bool *cancel, glm4v_error *err)
{
    for (int more = 1; more;) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed)) {
            glm4v_pass_canceled(c, lane, err);
            glm4v_pass_drop(c, lane);
            return GLM4V_ERR_CANCELED;
        }
        int rc = wait_until(c, lane, false, err);
        if (!rc)
            rc = more = glm4v_pass_submit(c, lane, err);
        if (rc < 0)
            return rc;
    }
    return wait_until(c, lane, true, err);
}

/* ---- results ---- */

float *glm4v_pass_logits(glm4v_context *context, glm4v_lane lane)
{
    return context->lane[lane].host_logits;
}

const int32_t *glm4v_pass_ids(const glm4v_context *context, glm4v_lane lane)
{
    return context->lane[lane].host_ids;
}
