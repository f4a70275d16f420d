/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Steps of the CUDA backend. What step_begin hands over goes through page-locked memory, of which
 * there is enough for several steps, into one block of the device: one copy, behind which the
 * step's kernels read it. Steps of decode with a key are captured the second time and replayed from
 * then on; what changes from step to step is in that block alone. */
#include <inttypes.h>
#include <string.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"

/* Where the arrays begin in the block: first what is copied, then what the device writes. */
typedef struct {
    size_t ids, slot, position, axis[3], places, outputs, draws, copied, cos, sin, ids_out,
        row_scale, all;
} layout;

static size_t put(size_t *end, size_t n, size_t size)
{
    const size_t at = *end;
    *end = glm4v_gpu_round_up(at + n * size);
    return at;
}

static layout layout_of(const glm4v_step_size *size)
{
    const size_t rows = size->rows, outputs = size->outputs;
    const size_t tokens = size->spans ? rows : 0, rotary = size->n_freq ? rows : 0;
    layout l = { 0 };
    l.ids = put(&l.all, tokens, sizeof(int32_t));
    l.slot = put(&l.all, tokens, sizeof(int32_t));
    l.position = put(&l.all, tokens, sizeof(int32_t));
    for (int i = 0; i < 3; i++)
        l.axis[i] = put(&l.all, rotary, sizeof(int32_t));
    l.places = put(&l.all, tokens, sizeof(int32_t));
    l.outputs = put(&l.all, outputs, sizeof(int32_t));
    l.draws = put(&l.all, outputs, sizeof(glm4v_cuda_draw));
    l.copied = l.all;
    l.cos = put(&l.all, rotary * size->n_freq, sizeof(float));
    l.sin = put(&l.all, rotary * size->n_freq, sizeof(float));
    l.ids_out = put(&l.all, outputs, sizeof(int32_t));
    l.row_scale = put(&l.all, size->queue == GLM4V_QUEUE_PREFILL ? 2 * rows : 0, sizeof(float));
    return l;
}

static glm4v_cuda_step_data data_at(const layout *l, void *block)
{
    char *at = block;
    glm4v_cuda_step_data data = { .ids = (void *)(at + l->ids),
                                  .slot = (void *)(at + l->slot),
                                  .position = (void *)(at + l->position),
                                  .places = (void *)(at + l->places),
                                  .outputs = (void *)(at + l->outputs),
                                  .draws = (void *)(at + l->draws),
                                  .cos = (void *)(at + l->cos),
                                  .sin = (void *)(at + l->sin) };
    for (int i = 0; i < 3; i++)
        data.axis[i] = (void *)(at + l->axis[i]);
    return data;
}

/* Keys of decode are few: how many tokens there are, and whether they are sampled; of an MTP layer
 * how many, and four kinds of steps. */
static size_t keys_of(const glm4v_step_size *size)
{
    return size->queue == GLM4V_QUEUE_DECODE ? 6 * size->rows + 2 : 0;
}

uint64_t glm4v_gpu_step_bytes(glm4v_backend *b, const glm4v_step_size *size)
{
    const layout l = layout_of(size);
    return l.all + GLM4V_GPU_RING * l.copied + sizeof(glm4v_gpu_step) +
           (uint64_t)size->spans * sizeof(glm4v_step_span) + keys_of(size) * sizeof(glm4v_gpu_key);
}

/* ---- open and close ---- */

static void close_graph(glm4v_gpu_backend *g, glm4v_gpu_key *key)
{
    if (key->graph)
        glm4v_gpu_check(g, cudaGraphExecDestroy(key->graph), "cudaGraphExecDestroy");
    key->graph = NULL;
}

void glm4v_gpu_step_close(glm4v_step *step)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    GLM4V_CUDA_ENTER(&g->context);
    for (size_t i = 0; i < s->n_keys; i++)
        close_graph(g, &s->keys[i]);
    for (int i = 0; i < GLM4V_GPU_RING; i++)
        if (s->ring[i].read)
            glm4v_gpu_check(g, cudaEventDestroy(s->ring[i].read), "cudaEventDestroy");
    if (s->capture)
        glm4v_gpu_check(g, cudaStreamDestroy(s->capture), "cudaStreamDestroy");
    glm4v_gpu_time_close(s);
    glm4v_gpu_give(g, s->device);
    glm4v_gpu_give_pinned(g, s->pinned);
    glm4v_free(s->keys);
    glm4v_free(s->spans);
    glm4v_free(s);
}

static int open_blocks(glm4v_gpu_backend *g, glm4v_gpu_step *s)
{
    const layout l = layout_of(&s->base.size);
    int rc = l.all ? glm4v_gpu_take(g, &s->device, l.all) : 0;
    s->copied = l.copied;
    s->data = data_at(&l, s->device);
    s->ids_out = (void *)((char *)s->device + l.ids_out);
    s->row_scale = (void *)((char *)s->device + l.row_scale);
    if (!rc && l.copied)
        rc = glm4v_gpu_take_pinned(g, &s->pinned, GLM4V_GPU_RING * l.copied);
    if (!rc && l.copied) /* what a step does not use is copied too */
        memset(s->pinned, 0, GLM4V_GPU_RING * l.copied);
    for (int i = 0; !rc && l.copied && i < GLM4V_GPU_RING; i++)
        rc = glm4v_gpu_event_open_raw(g, &s->ring[i].read);
    if (!rc && s->base.size.queue == GLM4V_QUEUE_DECODE)
        rc = glm4v_gpu_check(g,
                             glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC)
                                 ?: cudaStreamCreateWithFlags(&s->capture, cudaStreamNonBlocking),
                             "cudaStreamCreateWithFlags");
    return rc ? rc : glm4v_gpu_time_open(s);
}

int glm4v_gpu_step_open(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                        glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    if (!GLM4V_GPU_FITS(size->rows, size->spans, size->outputs, size->n_freq))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "CUDA takes steps of up to 2^31 - 1 rows, not %" PRId64, size->rows);
    glm4v_gpu_step *s = glm4v_alloc(1, sizeof *s);
    if (s) {
        s->spans = glm4v_alloc(size->spans, sizeof *s->spans);
        s->key_room = keys_of(size);
        s->keys = glm4v_alloc(s->key_room, sizeof *s->keys);
    }
    if (!s || !s->spans || !s->keys) {
        if (s) {
            glm4v_free(s->spans);
            glm4v_free(s->keys);
        }
        glm4v_free(s);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a step of %" PRId64 " rows",
                          size->rows);
    }
    GLM4V_CUDA_ENTER(&g->context);
    s->base = (glm4v_step) { .backend = b, .size = *size };
    s->queue = &g->queue[size->queue];
    s->stream = s->queue->stream;
    int rc = open_blocks(g, s);
    if (rc) {
        glm4v_gpu_fail(g, err, rc, "no memory for a step of %" PRId64 " rows", size->rows);
        glm4v_gpu_step_close(&s->base);
        return rc;
    }
    *step = &s->base;
    return 0;
}

/* ---- handing over ---- */

static void copy_ints(int32_t *to, const int32_t *from, int64_t n)
{
    if (from && n)
        memcpy(to, from, n * sizeof *to);
}

/* Slots and positions of the rows, which the spans say together. */
static void spread_spans(const glm4v_cuda_step_data *host, const glm4v_step_rows *rows)
{
    for (int64_t i = 0; i < rows->n_spans; i++) {
        const glm4v_step_span *span = &rows->spans[i];
        for (int32_t k = 0; k < span->n; k++) {
            host->slot[span->row + k] = span->slot;
            host->position[span->row + k] = span->length + k;
        }
    }
}

static void copy_draws(const glm4v_cuda_step_data *host, const glm4v_step_rows *rows)
{
    for (int64_t i = 0; rows->draws && i < rows->n_outputs; i++) {
        const glm4v_draw *draw = &rows->draws[i];
        host->draws[i] = (glm4v_cuda_draw) { .temperature = draw->temperature,
                                             .top_k = draw->top_k,
                                             .top_p = draw->top_p,
                                             .penalty = draw->penalty,
                                             .generator = draw->generator,
                                             .mask = draw->mask,
                                             .slot = host->slot[rows->outputs[i]] };
    }
}

/* The step's data through the next page-locked block to the device. */
static int hand_over(glm4v_gpu_backend *g, glm4v_gpu_step *s, const glm4v_step_rows *rows)
{
    const layout l = layout_of(&s->base.size);
    const uint32_t number = s->next;
    if (!s->copied)
        return 0;
    if (s->ring[number].used) {
        int rc = glm4v_gpu_check(g,
                                 glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT)
                                     ?: cudaEventSynchronize(s->ring[number].read),
                                 "an earlier step, seen by cudaEventSynchronize");
        if (rc)
            return rc;
    }
    char *block = (char *)s->pinned + number * s->copied;
    const glm4v_cuda_step_data host = data_at(&l, block);
    copy_ints(host.ids, rows->ids, rows->rows);
    copy_ints(host.places, rows->places, rows->n_places);
    copy_ints(host.outputs, rows->outputs, rows->n_outputs);
    for (int i = 0; rows->rotary && i < 3; i++)
        copy_ints(host.axis[i], rows->position[i], rows->rows);
    spread_spans(&host, rows);
    copy_draws(&host, rows);
    int rc = glm4v_gpu_copy_async(g, s->device, block, s->copied, s->queue->stream);
    if (!rc)
        rc = glm4v_gpu_record(g, s->ring[number].read, s->queue->stream);
    s->ring[number].used = true;
    s->next = (number + 1) % GLM4V_GPU_RING;
    return rc;
}

static bool fits(const glm4v_step_size *size, const glm4v_step_rows *rows)
{
    if (rows->rows < 1 || rows->rows > size->rows || rows->n_spans > size->spans ||
        rows->n_outputs > size->outputs || rows->n_places > rows->rows)
        return false;
    if (!size->spans && (rows->ids || rows->n_places || rows->draws))
        return false;
    return !rows->rotary || !rows->position[0] || rows->rotary->n_freq <= size->n_freq;
}

static void note_rows(glm4v_gpu_step *s, const glm4v_step_rows *rows)
{
    s->rows = rows->rows;
    s->n_spans = rows->n_spans;
    s->n_places = rows->n_places;
    s->n_outputs = rows->n_outputs;
    s->sampled = rows->sampled;
    if (rows->n_spans)
        memcpy(s->spans, rows->spans, rows->n_spans * sizeof *s->spans);
}

/* Cosines and sines of the rows: gathered by their positions, or the tables' first rows. */
static int set_rotary(glm4v_gpu_backend *g, glm4v_gpu_step *s, const glm4v_step_rows *rows)
{
    const glm4v_rotary *r = rows->rotary;
    if (!r)
        return 0;
    int rc =
        glm4v_gpu_begin(g, GLM4V_GPU_FITS(r->n_freq, r->section[0], r->section[1], r->section[2]));
    if (rc)
        return rc;
    glm4v_cuda_rotary gather = { .cos = r->cos,
                                 .sin = r->sin,
                                 .rows = glm4v_gpu_i32(rows->rows),
                                 .n_freq = glm4v_gpu_i32(r->n_freq) };
    for (int i = 0; i < 3; i++)
        gather.section[i] = glm4v_gpu_i32(r->section[i]);
    s->n_freq = r->n_freq;
    s->half = r->style == GLM4V_ROPE_HALF;
    s->cos = rows->position[0] ? s->data.cos : r->cos;
    s->sin = rows->position[0] ? s->data.sin : r->sin;
    if (!rows->position[0] || s->mode == GLM4V_GPU_REPLAY)
        return 0;
    return GLM4V_GPU_LAUNCH(g, "gather_rotary",
                            glm4v_cuda_gather_rotary(s->stream, &s->data, &gather));
}

/* ---- keys ---- */

static bool same_tables(const glm4v_rotary *a, const glm4v_rotary *b)
{
    return a->cos == b->cos && a->sin == b->sin && a->n_rows == b->n_rows &&
           a->n_freq == b->n_freq && a->style == b->style && a->section[0] == b->section[0] &&
           a->section[1] == b->section[1] && a->section[2] == b->section[2];
}

static bool same_key(const glm4v_gpu_key *a, const glm4v_gpu_key *b)
{
    return a->key == b->key && a->sampled == b->sampled && a->rows == b->rows &&
           a->n_outputs == b->n_outputs && a->draws == b->draws &&
           same_tables(&a->rotary, &b->rotary);
}

/* Room for one key more. */
static int grow_keys(glm4v_gpu_backend *g, glm4v_gpu_step *s)
{
    const size_t room = 2 * s->key_room + 2;
    if (s->n_keys < s->key_room)
        return 0;
    glm4v_gpu_key *more = glm4v_realloc(s->keys, room, sizeof *more);
    if (!more)
        return glm4v_gpu_refuse(g, GLM4V_ERR_NOMEM, "no memory to note a step");
    s->keys = more;
    s->key_room = room;
    return 0;
}

/* What is to be done with a step of this key: s->mode, s->key. */
static int choose_mode(glm4v_gpu_backend *g, glm4v_gpu_step *s, const glm4v_step_rows *rows)
{
    const glm4v_gpu_key wanted = { .key = rows->key,
                                   .sampled = rows->sampled,
                                   .rotary = rows->rotary ? *rows->rotary : (glm4v_rotary) { 0 },
                                   .rows = rows->rows,
                                   .n_outputs = rows->n_outputs,
                                   .draws = rows->draws != NULL };
    size_t i = 0;
    s->mode = GLM4V_GPU_AT_ONCE;
    s->stream = s->queue->stream;
    s->key = s->n_keys;
    if (!rows->key || !s->capture)
        return 0;
    while (i < s->n_keys && s->keys[i].key != rows->key)
        i++;
    if (i == s->n_keys) {
        int rc = grow_keys(g, s);
        if (!rc)
            s->keys[s->n_keys++] = wanted;
        s->key = s->n_keys;
        return rc;
    }
    glm4v_gpu_key *known = &s->keys[i];
    if (!same_key(known, &wanted)) {
        close_graph(g, known);
        *known = wanted;
        return 0;
    }
    s->key = i;
    if (known->graph)
        s->mode = GLM4V_GPU_REPLAY;
    else if (!known->refused)
        s->mode = GLM4V_GPU_CAPTURE;
    return 0;
}

static int begin_capture(glm4v_gpu_backend *g, glm4v_gpu_step *s)
{
    s->stream = s->capture;
    return glm4v_gpu_check(g, cudaStreamBeginCapture(s->capture, cudaStreamCaptureModeThreadLocal),
                           "cudaStreamBeginCapture");
}

/* What was captured so far is discarded; the next step of the key is captured again. */
static void discard_capture(glm4v_gpu_backend *g, glm4v_gpu_step *s)
{
    cudaGraph_t graph = NULL;
    glm4v_gpu_check(g, cudaStreamEndCapture(s->capture, &graph), "cudaStreamEndCapture");
    if (graph)
        glm4v_gpu_check(g, cudaGraphDestroy(graph), "cudaGraphDestroy");
}

static void idle(glm4v_gpu_step *s)
{
    s->mode = GLM4V_GPU_AT_ONCE;
    s->stream = s->queue->stream;
    s->residual.x = s->gate.act = s->numbers.y = NULL;
}

int glm4v_gpu_step_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    int rc = glm4v_gpu_usable(g);
    if (rc)
        return rc;
    if (!fits(&step->size, rows))
        return glm4v_gpu_refuse(g, GLM4V_ERR_INVALID, "a step of %" PRId64 " rows does not fit",
                                rows->rows);
    GLM4V_CUDA_ENTER(&g->context);
    rc = glm4v_gpu_behind_fills(g, s->queue);
    if (!rc)
        rc = choose_mode(g, s, rows);
    if (!rc)
        rc = glm4v_gpu_time_begin(s);
    if (!rc)
        rc = hand_over(g, s, rows);
    if (!rc && s->mode == GLM4V_GPU_CAPTURE)
        rc = begin_capture(g, s);
    if (rc) {
        idle(s);
        return rc;
    }
    note_rows(s, rows);
    if ((rc = set_rotary(g, s, rows))) {
        glm4v_gpu_step_drop(step);
        return rc;
    }
    *replayed = s->mode == GLM4V_GPU_REPLAY;
    return 0;
}

/* Nothing is held back but what is captured, which has a key, and what was left to the next
 * operation. */
int glm4v_gpu_step_flush(glm4v_step *step)
{
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    int rc = glm4v_gpu_usable(g);
    GLM4V_CUDA_ENTER(&g->context);
    return rc ? rc : glm4v_gpu_catch_up(glm4v_gpu_step_of(step));
}

static int end_capture(glm4v_gpu_backend *g, glm4v_gpu_step *s)
{
    cudaGraph_t graph = NULL;
    glm4v_gpu_key *key = &s->keys[s->key];
    int rc = glm4v_gpu_check(g, cudaStreamEndCapture(s->capture, &graph), "cudaStreamEndCapture");
    if (!rc)
        rc = glm4v_gpu_check(g,
                             glm4v_cuda_injected(GLM4V_CUDA_AT_GRAPH)
                                 ?: cudaGraphInstantiate(&key->graph, graph, 0),
                             "cudaGraphInstantiate");
    if (graph) {
        int end = glm4v_gpu_check(g, cudaGraphDestroy(graph), "cudaGraphDestroy");
        rc = rc ? rc : end;
    }
    key->refused = rc != 0;
    return rc;
}

int glm4v_gpu_step_end(glm4v_step *step)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    GLM4V_CUDA_ENTER(&g->context);
    int left = glm4v_gpu_catch_up(s);
    int rc = s->mode == GLM4V_GPU_CAPTURE ? end_capture(g, s) : 0;
    rc = rc ? rc : left;
    if (!rc)
        rc = glm4v_gpu_usable(g);
    if (!rc && s->mode != GLM4V_GPU_AT_ONCE) {
        /* not between two kernels of another thread's operation, which share scratch */
        pthread_mutex_lock(&s->queue->lock);
        s->queue->attended.o = NULL;
        rc = GLM4V_GPU_LAUNCH(g, "cudaGraphLaunch",
                              cudaGraphLaunch(s->keys[s->key].graph, s->queue->stream));
        pthread_mutex_unlock(&s->queue->lock);
    }
    if (!rc)
        rc = glm4v_gpu_time_end(s);
    idle(s);
    return rc;
}

void glm4v_gpu_step_drop(glm4v_step *step)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    GLM4V_CUDA_ENTER(&g->context);
    if (s->mode == GLM4V_GPU_CAPTURE)
        discard_capture(g, s);
    idle(s);
}
