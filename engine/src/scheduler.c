/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's thread: continuous batching. A step admits waiting requests to free slots, advances
 * all decoding ones by a token in one batch, then does one piece of work of one request that is not
 * decoding yet: its prompt, one image, or one piece of prefill. So a new image delays running
 * answers by one piece of work, never by a whole prompt.
 *
 * Work is submitted and polled; the thread never waits for a whole piece. On a device whose queues
 * run in parallel, a decode step is submitted beside a chunk and has priority; kernels of decode
 * fill a GPU, so the chunk is then given the time until it is done before the next step. The
 * thread waits only if there is nothing to submit. Where a model is spread over several devices,
 * as many batches are in flight as there are stages, so that each device has one: while one works
 * on a batch, the one before works on the next. On the CPU a call has done its work when it
 * returns, and the same code alternates between a decode step and a piece. A request that is part
 * of a pass under way (busy) is ended from outside when the pass has come back: within a decode
 * step, or a chunk of at most 20 ms.
 *
 * Order of waiting requests: the earliest deadline first; among equals the streams in turn; within
 * a stream as submitted (a stream moves up with its most urgent request). Questions about the same
 * pictures that wait together are one turn: no other pictures come into the prefix cache between
 * them. Of the admitted ones, the earliest deadline works first, then who has had least, in quanta,
 * then who came first: a frame is finished before the next one begins, and a long clip does not
 * hold up frames.
 *
 * Lock: engine->lock guards the queue, the statistics, and changes of `running`, which this thread
 * alone makes and may therefore read without it. No callback and no work runs under it.
 * Source: continuous batching, Orca, OSDI 2022. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine.h"

/* ---- the queue; engine->lock held ---- */

static uint64_t deadline_of(const glm4v_request *r)
{
    return r->task.deadline ? r->task.deadline : UINT64_MAX;
}

static bool belongs_to_turn(const glm4v_engine *engine, const glm4v_request *r)
{
    return engine->turn_pictures && r->task.pictures_id == engine->turn_pictures &&
           r->task.stream == engine->last_stream && r->number < engine->turn_end;
}

/* Does a go before b? */
static bool more_urgent(const glm4v_engine *engine, const glm4v_request *a, const glm4v_request *b)
{
    const bool now_a = belongs_to_turn(engine, a), now_b = belongs_to_turn(engine, b);
    uint32_t turn_a = a->task.stream - engine->last_stream - 1,
             turn_b = b->task.stream - engine->last_stream - 1;
    if (deadline_of(a) != deadline_of(b))
        return deadline_of(a) < deadline_of(b);
    if (now_a != now_b)
        return now_a;
    return turn_a != turn_b ? turn_a < turn_b : a->number < b->number;
}

static glm4v_request *unlink_at(glm4v_engine *engine, glm4v_request **link)
{
    glm4v_request *r = *link;
    *link = r->next;
    if (engine->queue_end == &r->next)
        engine->queue_end = link;
    r->next = NULL;
    engine->stats.queued--;
    return r;
}

static glm4v_request *take_next(glm4v_engine *engine)
{
    const glm4v_request *best = engine->queue;
    for (const glm4v_request *r = engine->queue; r; r = r->next)
        if (more_urgent(engine, r, best))
            best = r;
    glm4v_request **link = &engine->queue;
    while ((*link)->task.stream != best->task.stream)
        link = &(*link)->next;
    if (!belongs_to_turn(engine, *link)) {
        engine->last_stream = (*link)->task.stream;
        engine->turn_pictures = (*link)->task.pictures_id;
        engine->turn_end = engine->n_numbers;
    }
    return unlink_at(engine, link);
}

/* Has something ended r from outside? Then it is marked so. */
static bool ended_from_outside(glm4v_engine *engine, glm4v_request *r, uint64_t now)
{
    if (engine->stop || atomic_load(&r->cancel)) {
        glm4v_fail(&r->error, GLM4V_ERR_CANCELED, "canceled by the caller");
        glm4v_describe_end(r, GLM4V_FINISH_CANCELED, GLM4V_ERR_CANCELED);
    } else if (engine->fault.code) {
        r->error = engine->fault;
        glm4v_describe_end(r, GLM4V_FINISH_ERROR, engine->fault.code);
    } else if (now >= deadline_of(r)) {
        glm4v_fail(&r->error, GLM4V_ERR_DEADLINE, "the deadline passed after %u tokens",
                   r->result.output_tokens);
        glm4v_describe_end(r, GLM4V_FINISH_DEADLINE, GLM4V_ERR_DEADLINE);
    } else {
        return false;
    }
    return true;
}

/* Waiting requests that will never run. */
static glm4v_request *take_ended(glm4v_engine *engine, uint64_t now)
{
    for (glm4v_request **link = &engine->queue; *link; link = &(*link)->next)
        if (ended_from_outside(engine, *link, now))
            return unlink_at(engine, link);
    return NULL;
}

/* ---- the scheduler's own ---- */

static void admit(glm4v_engine *engine, glm4v_request *r, uint64_t now)
{
    int64_t slot = 0;
    while (engine->slot_taken[slot])
        slot++;
    engine->slot_taken[slot] = true;
    r->slot = slot;
    r->started = now;
    engine->running[engine->n_running++] = r;
}

static void count_end(glm4v_engine *engine, const glm4v_request *r)
{
    pthread_mutex_lock(&engine->lock);
    glm4v_engine_stats *s = &engine->stats;
    s->canceled += r->result.finish == GLM4V_FINISH_CANCELED;
    s->failed +=
        r->result.finish == GLM4V_FINISH_ERROR || r->result.finish == GLM4V_FINISH_DEADLINE;
    s->completed += r->result.status == 0;
    s->drafted_tokens += r->result.drafted_tokens;
    s->accepted_tokens += r->result.accepted_tokens;
    s->prefix_hits += r->result.cached_tokens > 0;
    s->running = (uint32_t)engine->n_running;
    if (r->result.status == GLM4V_ERR_DEVICE && !engine->fault.code)
        engine->fault = r->error;
    pthread_mutex_unlock(&engine->lock);
}

static void finish(glm4v_engine *engine, glm4v_request *r)
{
    count_end(engine, r);
    if (r->result.status == 0 || r->result.status == GLM4V_ERR_CANCELED)
        glm4v_draft_keep(&engine->past, &r->drafter);
    glm4v_request_finish(engine, r);
    glm4v_request_unref(&r);
}

/* Take what is done out of the batch; the others keep their order. */
static void retire(glm4v_engine *engine)
{
    int64_t kept = 0, n = engine->n_running, n_done = 0;
    glm4v_request *done[GLM4V_MAX_BATCH];
    pthread_mutex_lock(&engine->lock);
    for (int64_t i = 0; i < n; i++) {
        glm4v_request *r = engine->running[i];
        if (r->stage == GLM4V_STAGE_DONE) {
            engine->slot_taken[r->slot] = false;
            done[n_done++] = r;
        } else {
            engine->running[kept++] = r;
        }
    }
    engine->n_running = kept;
    pthread_mutex_unlock(&engine->lock);
    for (int64_t i = 0; i < n_done; i++)
        finish(engine, done[i]);
}

/* Wait for work, admit, and weed out what was canceled or is late. False when the engine closes and
 * nothing is left. */
static bool begin_step(glm4v_engine *engine)
{
    glm4v_request *ended;
    pthread_mutex_lock(&engine->lock);
    while (!engine->queue && !engine->n_running && !engine->stop)
        pthread_cond_wait(&engine->wake, &engine->lock);
    uint64_t now = glm4v_now();
    while ((ended = take_ended(engine, now))) {
        pthread_mutex_unlock(&engine->lock);
        finish(engine, ended);
        pthread_mutex_lock(&engine->lock);
    }
    for (int64_t i = 0; i < engine->n_running; i++)
        if (!engine->running[i]->busy)
            ended_from_outside(engine, engine->running[i], now);
    while (engine->queue && engine->n_running < engine->limits.max_batch)
        admit(engine, take_next(engine), now);
    bool more = engine->n_running || !engine->stop;
    engine->stats.running = (uint32_t)engine->n_running;
    engine->stats.steps++;
    pthread_mutex_unlock(&engine->lock);
    return more;
}

static bool works_before(const glm4v_request *a, const glm4v_request *b)
{
    if (deadline_of(a) != deadline_of(b))
        return deadline_of(a) < deadline_of(b);
    return a->units / GLM4V_QUANTUM < b->units / GLM4V_QUANTUM;
}

/* ---- the piece ---- */

static void piece_failed(glm4v_engine *engine, int rc)
{
    glm4v_describe_failed(engine->piece, rc);
    engine->piece = NULL;
}

/* Choose who works next, and begin its piece. */
static bool begin_piece(glm4v_engine *engine)
{
    glm4v_request *next = NULL;
    for (int64_t i = 0; i < engine->n_running; i++) {
        glm4v_request *r = engine->running[i];
        if (r->stage == GLM4V_STAGE_VISION &&
            !glm4v_embeddings_free(engine->context, &r->embeddings))
            continue; /* until the images before it are in the cache */
        if (r->stage < GLM4V_STAGE_DECODE && (!next || works_before(r, next)))
            next = r;
    }
    if (!next)
        return false;
    glm4v_describe_begin(engine, next);
    engine->piece = next->busy ? next : NULL;
    engine->piece_submitted = false;
    return true;
}

/* Chunks of the piece, as many as the device has room for: all where calls have done their work
 * when they return. A cancel is seen before each. */
static bool submit_piece(glm4v_engine *engine)
{
    glm4v_request *r = engine->piece;
    bool moved = false;
    while (engine->piece && !engine->piece_submitted &&
           glm4v_pass_room(engine->context, GLM4V_LANE_PREFILL)) {
        int rc;
        if (atomic_load(&r->cancel)) {
            rc = glm4v_pass_canceled(engine->context, GLM4V_LANE_PREFILL, &r->error);
            glm4v_pass_drop(engine->context, GLM4V_LANE_PREFILL);
        } else {
            rc = glm4v_pass_submit(engine->context, GLM4V_LANE_PREFILL, &r->error);
            engine->piece_submitted = !rc;
            if (rc >= 0 && !engine->piece_submitted)
                rc = glm4v_pass_poll(engine->context, GLM4V_LANE_PREFILL, &r->error);
        }
        moved = true;
        if (rc < 0)
            piece_failed(engine, rc);
    }
    return moved;
}

/* One piece of work of one request, or what the device has room for of it. False: nothing could be
 * done now. */
static bool work_piece(glm4v_engine *engine)
{
    bool moved = !engine->piece && begin_piece(engine);
    if (!engine->piece)
        return moved;
    int rc = glm4v_pass_poll(engine->context, GLM4V_LANE_PREFILL, &engine->piece->error);
    if (rc >= 0) {
        moved |= submit_piece(engine);
        if (!engine->piece)
            return true;
        rc = glm4v_pass_poll(engine->context, GLM4V_LANE_PREFILL, &engine->piece->error);
    }
    if (rc < 0) {
        piece_failed(engine, rc);
        return true;
    }
    if (!rc || !engine->piece_submitted)
        return moved;
    glm4v_request *r = engine->piece;
    engine->piece = NULL;
    glm4v_describe_finish(engine, r);
    return true;
}

/* ---- decoding ---- */

static glm4v_lane lane_of(const glm4v_engine *engine, const glm4v_batch *batch)
{
    return GLM4V_LANE_DECODE + (glm4v_lane)(batch - engine->batch);
}

static void decode_failed(glm4v_batch *batch, int rc, const glm4v_error *error)
{
    for (int64_t i = 0; i < batch->n; i++) {
        batch->request[i]->error = *error;
        glm4v_describe_failed(batch->request[i], rc);
    }
    batch->n = 0;
}

/* Rows of a decode step while it is made up. */
typedef struct {
    int32_t slots[GLM4V_MAX_BATCH], length[GLM4V_MAX_BATCH];
    int32_t ids[GLM4V_MAX_BATCH], position[GLM4V_MAX_BATCH];
    glm4v_draw draws[GLM4V_MAX_BATCH];
    int64_t n;
    bool logits; /* are wanted, on the device or the host */
} step_rows;

static int add_rows(glm4v_engine *engine, step_rows *step, glm4v_request *r)
{
    int rc = glm4v_token_prepare(engine, r, &r->error);
    if (rc)
        return rc;
    for (int64_t i = 0; i < r->n_rows; i++, step->n++) {
        const glm4v_row row = glm4v_token_row(r, i);
        step->slots[step->n] = (int32_t)r->slot;
        step->length[step->n] = (int32_t)row.length;
        step->ids[step->n] = row.id;
        step->position[step->n] = (int32_t)row.position;
        step->draws[step->n] = row.draw;
    }
    step->logits |= glm4v_score_wanted(r);
    return 0;
}

static bool decodes(const glm4v_request *r)
{
    return r->stage == GLM4V_STAGE_DECODE || r->stage == GLM4V_STAGE_SCORE;
}

/* Requests of a batch: an even share of those that decode, but as many as a batch has at least.
 * 0: the batches in flight are enough for them. */
static int64_t share_of(const glm4v_engine *engine)
{
    const int64_t batches = engine->limits.context.in_flight, least = engine->limits.least_batch;
    int64_t all = 0, under_way = 0;
    for (int64_t i = 0; i < engine->n_running; i++)
        all += decodes(engine->running[i]);
    for (int64_t i = 0; i < batches; i++)
        under_way += engine->batch[i].n > 0;
    const int64_t even = (all + batches - 1) / batches, share = even > least ? even : least;
    return under_way * share < all ? share : 0;
}

/* Who decodes and is in no batch, in order of admission; no more than the share, so that those who
 * come back next find a batch as large. */
static void find_decoding(const glm4v_engine *engine, glm4v_batch *batch)
{
    const int64_t share = share_of(engine);
    for (int64_t i = 0; i < engine->n_running && batch->n < share; i++) {
        glm4v_request *r = engine->running[i];
        if (decodes(r) && !r->busy)
            batch->request[batch->n++] = r;
    }
}

/* A row for every request that decodes; those that have several tokens to go on with share the rows
 * that are left. Returns how many are left then. */
static int64_t share_rows(glm4v_engine *engine, const glm4v_batch *batch)
{
    int64_t left = engine->limits.context.decode_rows;
    for (int64_t i = 0; i < batch->n; i++) {
        const int64_t others = batch->n - 1 - i;
        left -= glm4v_token_rows(engine, batch->request[i], left - others);
    }
    return left;
}

/* Rows that are left are for drafts; where they are too few, the longest draft is cut first. */
static void add_drafts(glm4v_engine *engine, const glm4v_batch *batch, int64_t left)
{
    int64_t wanted = 0;
    for (int64_t i = 0; i < batch->n; i++)
        wanted += glm4v_token_draft(engine, batch->request[i], left);
    for (; wanted > left; wanted--) {
        glm4v_request *longest = batch->request[0];
        for (int64_t i = 1; i < batch->n; i++)
            if (batch->request[i]->drafter.n >= longest->drafter.n)
                longest = batch->request[i];
        glm4v_token_cut_draft(longest);
    }
}

static int make_step(glm4v_engine *engine, const glm4v_batch *batch, step_rows *step,
                     glm4v_error *err)
{
    add_drafts(engine, batch, share_rows(engine, batch));
    int rc = glm4v_draft_fill(engine, batch, err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < batch->n; i++) {
        glm4v_request *r = batch->request[i];
        rc = add_rows(engine, step, r);
        if (rc) {
            *err = r->error;
            return rc;
        }
        r->busy = true;
    }
    return 0;
}

static void submit_batch(glm4v_engine *engine, glm4v_batch *batch)
{
    const bool samples = glm4v_context_samples(engine->context);
    const glm4v_lane lane = lane_of(engine, batch);
    step_rows step = { .n = 0 };
    glm4v_error err = { 0 };
    int rc = make_step(engine, batch, &step, &err);
    const glm4v_decode_rows rows = { .slots = step.slots,
                                     .length = step.length,
                                     .ids = step.ids,
                                     .position = step.position,
                                     .n = step.n,
                                     .draws = samples ? step.draws : NULL,
                                     .logits = step.logits,
                                     .batch = lane - GLM4V_LANE_DECODE };
    if (!rc)
        rc = glm4v_decode_begin(engine->context, &rows, &err);
    if (!rc)
        rc = glm4v_pass_submit(engine->context, lane, &err);
    if (rc)
        decode_failed(batch, rc, &err);
    batch->number = ++engine->n_batches;
    batch->submitted = glm4v_now();
    pthread_mutex_lock(&engine->lock);
    engine->stats.decode_steps++;
    engine->stats.decode_rows += step.n;
    engine->stats.decode_requests += batch->n;
    pthread_mutex_unlock(&engine->lock);
}

/* A chunk that a decode step was put before gets the device to itself until it is done. Where
 * several batches are in flight they leave each device idle often enough. */
static bool chunk_goes_first(const glm4v_engine *engine)
{
    const uint64_t oldest = glm4v_pass_oldest(engine->context, GLM4V_LANE_PREFILL);
    return engine->limits.context.in_flight == 1 && oldest && oldest == engine->delayed;
}

/* A step for every batch that is not in flight. */
static bool submit_decode(glm4v_engine *engine)
{
    bool moved = false;
    if (chunk_goes_first(engine))
        return false;
    for (int64_t i = 0; i < engine->limits.context.in_flight; i++) {
        glm4v_batch *batch = &engine->batch[i];
        if (batch->n)
            continue;
        find_decoding(engine, batch);
        if (!batch->n)
            continue;
        engine->delayed = glm4v_pass_oldest(engine->context, GLM4V_LANE_PREFILL);
        submit_batch(engine, batch);
        moved = true;
    }
    return moved;
}

/* For the statistics, which other threads read. */
static void note_time(glm4v_engine *engine, const glm4v_batch *batch)
{
    const uint64_t now = glm4v_now(), last = engine->last_finished;
    pthread_mutex_lock(&engine->lock);
    engine->stats.decode_time += now - (batch->submitted > last ? batch->submitted : last);
    for (int64_t i = 0; i < engine->model->n_stages; i++)
        engine->stats.stage_busy[i] = glm4v_context_busy(engine->context, i);
    pthread_mutex_unlock(&engine->lock);
    engine->last_finished = now;
}

/* What came of a step in flight, if it is done. */
static bool finish_batch(glm4v_engine *engine, glm4v_batch *batch)
{
    const glm4v_lane lane = lane_of(engine, batch);
    const int64_t n = batch->n;
    glm4v_error err = { 0 };
    int rc = n ? glm4v_pass_poll(engine->context, lane, &err) : 0;
    if (!rc)
        return false;
    if (rc < 0) {
        decode_failed(batch, rc, &err);
        return true;
    }
    note_time(engine, batch);
    batch->n = 0;
    for (int64_t i = 0, first = 0; i < n; i++) {
        glm4v_request *r = batch->request[i];
        const int64_t rows = r->n_rows;
        r->busy = false;
        glm4v_token_stepped(engine, r, lane, first);
        first += rows;
    }
    return true;
}

static bool finish_decode(glm4v_engine *engine)
{
    bool moved = false;
    for (int64_t i = 0; i < engine->limits.context.in_flight; i++)
        moved |= finish_batch(engine, &engine->batch[i]);
    return moved;
}

/* Until the device is done with the batch that was submitted first, or with a chunk. */
static void wait_for_device(glm4v_engine *engine)
{
    const glm4v_batch *oldest = NULL;
    for (int64_t i = 0; i < engine->limits.context.in_flight; i++) {
        const glm4v_batch *batch = &engine->batch[i];
        if (batch->n && (!oldest || batch->number < oldest->number))
            oldest = batch;
    }
    if (oldest)
        glm4v_pass_wait(engine->context, lane_of(engine, oldest));
    else if (engine->piece)
        glm4v_pass_wait(engine->context, GLM4V_LANE_PREFILL);
}

void *glm4v_scheduler_main(void *arg)
{
    glm4v_engine *engine = arg;
    pthread_setname_np(pthread_self(), "glm4v-engine");
    glm4v_thread_background();
    while (begin_step(engine)) {
        retire(engine); /* ended from outside */
        bool moved = submit_decode(engine);
        moved |= finish_decode(engine);
        moved |= work_piece(engine);
        retire(engine);
        if (!moved)
            wait_for_device(engine);
    }
    return NULL;
}
