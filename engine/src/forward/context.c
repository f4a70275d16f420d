/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and values, working sets and scratch of one engine, all taken here; vision scratch alone
 * grows later, with the largest picture seen, where the device lets it. The planner's figures come
 * from the same list of sizes as the allocations. */
#include "forward/context.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/mem.h"
#include "forward/context_priv.h"
#include "forward/position.h"

#define PREFILL_OUTPUTS 4 /* rows of logits held at a time by prefill */
#define TABLE_ROWS 256    /* of rotary tables on their way to the device */

/* ---- sizes ---- */

static glm4v_context_size with_defaults(glm4v_context_size size)
{
    size.span_rows = size.span_rows ? size.span_rows : 1;
    size.in_flight = size.in_flight ? size.in_flight : 1;
    size.decode_rows = size.decode_rows ? size.decode_rows : size.slots * size.span_rows;
    return size;
}

static bool is_last(const glm4v_model *model, int64_t stage)
{
    return stage == model->n_stages - 1;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int32_t lanes_of(const glm4v_context_size *size)
{
    return GLM4V_LANE_DECODE + (int32_t)size->in_flight;
}

static glm4v_step_size step_size_of(const glm4v_model *model, glm4v_lane lane,
                                    const glm4v_context_size *size)
{
    const bool decode = lane >= GLM4V_LANE_DECODE;
    const int64_t rows = decode ? size->decode_rows : size->max_rows;
    return (glm4v_step_size) {
        .queue = glm4v_queue_of(lane),
        .rows = rows,
        .spans = decode ? rows : 1,
        .outputs = decode ? rows : smaller(rows, PREFILL_OUTPUTS),
        .n_freq = model->config.text.rotary_dim / 2,
        .timed = decode && model->n_stages > 1,
    };
}

/* Numbers of each buffer of a working set. */
typedef struct {
    size_t x, branch, qkv, o, gate_up, act, pair, logits;
} work_sizes;

static bool multiply(size_t *r, size_t a, size_t b, size_t c)
{
    return !glm4v_mul_overflow(a, b, r) && !glm4v_mul_overflow(*r, c, r);
}

/* False if a size overflows. */
static bool work_sizes_of(work_sizes *s, const glm4v_model *model, int64_t stage, glm4v_lane lane,
                          const glm4v_context_size *size)
{
    const glm4v_text_config *text = &model->config.text;
    const glm4v_step_size step = step_size_of(model, lane, size);
    const int64_t heads = text->heads + 2 * text->kv_heads;
    const int64_t rows = step.rows;
    return multiply(&s->x, rows, text->hidden, 1) && multiply(&s->branch, rows, text->hidden, 1) &&
           multiply(&s->qkv, rows, heads, text->head_dim) &&
           multiply(&s->o, rows, text->heads, text->head_dim) &&
           multiply(&s->gate_up, rows, 2, text->ffn) && multiply(&s->act, rows, text->ffn, 1) &&
           multiply(&s->pair, rows, text->hidden, 2 * glm4v_runs_mtp(model, size)) &&
           multiply(&s->logits, step.outputs, text->vocab, is_last(model, stage));
}

/* Keys of an odd head do not lie in pairs. */
static glm4v_kv_shape kv_shape_of(const glm4v_model *model, int64_t stage,
                                  const glm4v_context_size *size)
{
    const glm4v_text_config *text = &model->config.text;
    const bool exact = model->form[GLM4V_PART_TEXT] == GLM4V_FORM_F32 || text->head_dim % 2;
    const glm4v_kv_form own = exact ? GLM4V_KV_F32 : model->stages[stage].backend->traits->kv_form;
    return (glm4v_kv_shape) {
        .form = size->kv_form ? size->kv_form : own,
        .layers = model->stages[stage].count + glm4v_runs_mtp(model, size),
        .heads = text->kv_heads,
        .head_dim = text->head_dim,
        .slots = size->slots,
        .length = size->length,
        .kept = size->kept,
    };
}

static int64_t rotary_floats(const glm4v_model *model, const glm4v_context_size *size)
{
    return size->length * model->config.text.rotary_dim / 2;
}

int64_t glm4v_text_widest(const glm4v_text_config *text)
{
    const int64_t hidden = text->hidden * (text->mtp ? 2 : 1);
    int64_t widest = hidden > text->ffn ? hidden : text->ffn;
    return text->heads * text->head_dim > widest ? text->heads * text->head_dim : widest;
}

static int64_t masks_of(const glm4v_context_size *size)
{
    return GLM4V_FIXED_MASKS + size->slots * (size->span_rows ? size->span_rows : 1);
}

/* Bytes of sampling on the device. */
static uint64_t sampling_bytes(const glm4v_model *model, const glm4v_context_size *size)
{
    const glm4v_backend *b = model->stages[model->n_stages - 1].backend;
    const uint64_t set = glm4v_id_words(model) * sizeof(uint64_t);
    return b->ops->sample ? (size->slots + masks_of(size)) * set + size->slots * sizeof(int32_t)
                          : 0;
}

/* Numbers of the states that the MTP layer takes. */
static size_t state_floats(const glm4v_model *model, const glm4v_context_size *size)
{
    return glm4v_runs_mtp(model, size)
               ? (size->decode_rows + size->slots) * model->config.text.hidden
               : 0;
}

/* Lists of the stages, logits and what goes from stage to stage. */
static uint64_t host_bytes(const glm4v_model *model, int64_t stage, const glm4v_context_size *size)
{
    const uint64_t V = model->config.text.vocab, D = model->config.text.hidden;
    const uint64_t decoded = size->in_flight * size->decode_rows;
    uint64_t bytes = 0;
    if (stage)
        return 0;
    for (glm4v_lane lane = 0; lane < lanes_of(size); lane++) {
        const glm4v_step_size step = step_size_of(model, lane, size);
        bytes += step.outputs * (V * sizeof(float) + sizeof(int32_t)) +
                 (model->n_stages > 1 ? step.rows * D * sizeof(float) : 0);
    }
    return bytes + decoded * (sizeof(glm4v_step_span) + 4 * sizeof(int32_t) + sizeof(glm4v_draw)) +
           size->max_rows * sizeof(int32_t) + sizeof(glm4v_context) +
           model->n_stages * sizeof(glm4v_stage_buffers);
}

glm4v_context_bytes glm4v_context_memory(const glm4v_model *model, int64_t stage,
                                         glm4v_context_size wanted)
{
    const glm4v_context_size size = with_defaults(wanted);
    glm4v_context_bytes out = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
    glm4v_backend *b = model->stages[stage].backend;
    const glm4v_kv_shape kv = kv_shape_of(model, stage, &size);
    uint64_t bytes = 2 * rotary_floats(model, &size) * sizeof(float);
    for (glm4v_lane lane = 0; lane < lanes_of(&size); lane++) {
        const glm4v_step_size step = step_size_of(model, lane, &size);
        work_sizes s;
        if (!work_sizes_of(&s, model, stage, lane, &size))
            return out;
        bytes +=
            (s.x + s.branch + s.qkv + s.o + s.gate_up + s.act + s.pair) * b->traits->activation +
            s.logits * sizeof(float) + b->ops->step_bytes(b, &step);
    }
    bytes += state_floats(model, &size) * b->traits->activation;
    if (is_last(model, stage))
        bytes += sampling_bytes(model, &size);
    out.kv_cache = b->ops->kv_bytes(b, &kv);
    out.activations = bytes;
    out.host = host_bytes(model, stage, &size);
    return out;
}

/* ---- stages ---- */

static int work_open(glm4v_work *w, const glm4v_model *model, int64_t stage, glm4v_lane lane,
                     const glm4v_context_size *wanted, glm4v_error *err)
{
    glm4v_backend *b = model->stages[stage].backend;
    const glm4v_step_size step = step_size_of(model, lane, wanted);
    const size_t size = b->traits->activation;
    work_sizes n;
    if (!work_sizes_of(&n, model, stage, lane, wanted))
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%" PRId64 " sequences and %" PRId64
                          " rows are more than memory can hold",
                          wanted->slots, wanted->max_rows);
    const struct {
        void **ptr;
        size_t bytes;
    } list[] = {
        { &w->x, n.x * size },
        { &w->branch, n.branch * size },
        { &w->qkv, n.qkv * size },
        { &w->o, n.o * size },
        { &w->gate_up, n.gate_up * size },
        { &w->act, n.act * size },
        { &w->pair, n.pair * size },
        { (void **)&w->logits, n.logits * sizeof(float) }, /* of the last stage only */
    };
    w->rows = step.rows;
    w->outputs = step.outputs;
    int rc = b->ops->step_open(b, &w->step, &step, err);
    for (size_t i = 0; !rc && i < sizeof list / sizeof *list; i++)
        if (list[i].bytes)
            rc = b->ops->alloc(b, list[i].ptr, list[i].bytes, err);
    return rc;
}

static void work_close(glm4v_work *w, glm4v_backend *b)
{
    void *list[] = { w->x, w->branch, w->qkv, w->o, w->gate_up, w->act, w->pair, w->logits };
    if (w->step)
        b->ops->step_close(w->step);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        b->ops->free(b, list[i]);
}

/* Cosines and sines of every position to the device. */
static int rotary_open(glm4v_rotary *r, glm4v_backend *b, const glm4v_text_config *text,
                       int64_t length, glm4v_error *err)
{
    const int64_t n = text->rotary_dim / 2, bytes = length * n * sizeof(float);
    float *host = glm4v_alloc(2 * TABLE_ROWS * n, sizeof *host);
    *r = (glm4v_rotary) { .n_rows = length,
                          .n_freq = n,
                          .section = { text->mrope[0], text->mrope[1], text->mrope[2] },
                          .style = GLM4V_ROPE_INTERLEAVED };
    int rc = host ? b->ops->alloc(b, (void **)&r->cos, bytes, err)
                  : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for rotary tables");
    if (!rc)
        rc = b->ops->alloc(b, (void **)&r->sin, bytes, err);
    for (int64_t i = 0; !rc && i < length; i += TABLE_ROWS) {
        const int64_t rows = length - i < TABLE_ROWS ? length - i : TABLE_ROWS;
        float *sines = host + TABLE_ROWS * n;
        glm4v_text_rotary(host, sines, i, rows, text);
        rc = b->ops->write(b, r->cos + i * n, host, rows * n * sizeof(float));
        if (!rc)
            rc = b->ops->write(b, r->sin + i * n, sines, rows * n * sizeof(float));
        if (rc)
            glm4v_fail_device(err, b, rc, "to copy rotary tables");
    }
    glm4v_free(host);
    return rc;
}

glm4v_scratch_need glm4v_text_need(const glm4v_model *model, const glm4v_context_size *size)
{
    const glm4v_text_config *text = &model->config.text;
    return (glm4v_scratch_need) { .rows = glm4v_most_rows(size),
                                  .n_in = glm4v_text_widest(text),
                                  .n_k = size->length,
                                  .head_dim = text->head_dim,
                                  .heads = text->heads };
}

static int stage_open(glm4v_stage_buffers *s, const glm4v_model *model, int64_t stage,
                      const glm4v_context_size *size, glm4v_error *err)
{
    const glm4v_text_config *text = &model->config.text;
    glm4v_backend *b = s->backend = model->stages[stage].backend;
    const glm4v_kv_shape kv = kv_shape_of(model, stage, size);
    const glm4v_scratch_need need = glm4v_text_need(model, size);
    s->first = model->stages[stage].first;
    s->count = model->stages[stage].count;
    int rc = b->ops->kv_open(b, &s->kv, &kv, err);
    for (glm4v_lane lane = 0; !rc && lane < lanes_of(size); lane++) {
        rc = work_open(&s->work[lane], model, stage, lane, size, err);
        for (int i = 0; !rc && i < GLM4V_CHUNKS; i++)
            rc = b->ops->event_open(b, &s->event[lane][i], err);
    }
    if (!rc)
        rc = rotary_open(&s->rotary, b, text, size->length, err);
    return rc ? rc : b->ops->reserve(b, &need, err);
}

static void stage_close(glm4v_stage_buffers *s)
{
    glm4v_backend *b = s->backend;
    if (!b)
        return;
    for (glm4v_lane lane = 0; lane < GLM4V_MAX_LANES; lane++) {
        work_close(&s->work[lane], b);
        for (int i = 0; i < GLM4V_CHUNKS; i++)
            if (s->event[lane][i])
                b->ops->event_close(b, s->event[lane][i]);
    }
    b->ops->free(b, s->rotary.cos);
    b->ops->free(b, s->rotary.sin);
    if (s->kv.keys)
        b->ops->kv_close(b, &s->kv);
}

/* ---- the whole ---- */

/* False: no memory. */
static bool open_lists_of(glm4v_lane_state *s, int64_t rows)
{
    s->spans = glm4v_alloc(rows, sizeof *s->spans);
    s->ids = glm4v_alloc(rows, sizeof *s->ids);
    s->position = glm4v_alloc(rows, sizeof *s->position);
    s->outputs = glm4v_alloc(rows, sizeof *s->outputs);
    s->heads = glm4v_alloc(rows, sizeof *s->heads);
    s->draws = glm4v_alloc(rows, sizeof *s->draws);
    return s->spans && s->ids && s->position && s->outputs && s->heads && s->draws;
}

static int open_lists(glm4v_context *c, glm4v_error *err)
{
    const int64_t decoded = c->size.decode_rows;
    c->places = glm4v_alloc(c->size.max_rows, sizeof *c->places);
    bool room = c->places != NULL;
    for (glm4v_lane lane = GLM4V_LANE_DECODE; room && lane < c->n_lanes; lane++)
        room = open_lists_of(&c->lane[lane], decoded);
    if (!room)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the lists of %" PRId64 " rows",
                          decoded);
    return 0;
}

static int open_staging(glm4v_context *c, glm4v_error *err)
{
    glm4v_backend *b = glm4v_last_stage(c)->backend;
    const int64_t V = c->model->config.text.vocab, D = c->model->config.text.hidden;
    int rc = 0;
    for (glm4v_lane lane = 0; !rc && lane < c->n_lanes; lane++) {
        const glm4v_step_size step = step_size_of(c->model, lane, &c->size);
        const int64_t n = step.outputs, rows = step.rows;
        glm4v_lane_state *s = &c->lane[lane];
        rc = b->ops->staging_alloc(b, (void **)&s->host_logits, n * V * sizeof(float), err);
        if (!rc)
            rc = b->ops->staging_alloc(b, (void **)&s->host_ids, n * sizeof(int32_t), err);
        if (!rc && c->model->n_stages > 1)
            rc = b->ops->staging_alloc(b, (void **)&s->host_x, rows * D * sizeof(float), err);
    }
    return rc;
}

static int open_sampling(glm4v_context *c, glm4v_error *err)
{
    glm4v_backend *b = glm4v_last_stage(c)->backend;
    const size_t set = glm4v_id_words(c->model) * sizeof(uint64_t);
    if (!glm4v_context_samples(c))
        return 0;
    int rc = b->ops->alloc(b, (void **)&c->seen, c->size.slots * set, err);
    if (!rc)
        rc = b->ops->alloc(b, (void **)&c->sampled, c->size.slots * sizeof *c->sampled, err);
    return rc ? rc : b->ops->alloc(b, (void **)&c->masks, masks_of(&c->size) * set, err);
}

/* Of devices whose memory is all taken now: the tower's, and rows of one request's pictures. */
static int open_pictures(glm4v_context *c, glm4v_error *err)
{
    glm4v_backend *b = c->stages[0].backend;
    const int64_t rows = c->size.length * c->model->config.text.hidden;
    int rc = glm4v_vision_open(c, c->size.patches, err);
    return rc ? rc : b->ops->alloc(b, &c->store, rows * b->traits->activation, err);
}

static int open_states(glm4v_context *c, glm4v_error *err)
{
    glm4v_backend *b = glm4v_last_stage(c)->backend;
    const size_t n = state_floats(c->model, &c->size);
    return n ? b->ops->alloc(b, &c->states, n * b->traits->activation, err) : 0;
}

static int check_size(const glm4v_context_size *size, glm4v_error *err)
{
    if (size->in_flight < 1 || size->in_flight > GLM4V_MAX_IN_FLIGHT)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%" PRId64 " batches in flight: between 1 and %d are possible",
                          size->in_flight, GLM4V_MAX_IN_FLIGHT);
    if (size->slots < 1 || size->length < 1 || size->max_rows < 1 || size->slots > 4096 ||
        size->length > INT32_MAX / 2 || size->kept > size->length || size->max_rows > 65536 ||
        size->span_rows > GLM4V_SPAN_ROWS || size->decode_rows * size->in_flight < size->slots ||
        size->decode_rows > size->slots * size->span_rows)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a context of %" PRId64 " sequences, %" PRId64 " tokens, %" PRId64
                          " rows is out of range",
                          size->slots, size->length, size->max_rows);
    return 0;
}

int glm4v_context_open(glm4v_context **context, const glm4v_model *model, glm4v_context_size size,
                       glm4v_error *err)
{
    size = with_defaults(size);
    int rc = check_size(&size, err);
    if (rc)
        return rc;
    glm4v_context *c = glm4v_alloc(1, sizeof *c);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    c->model = model;
    c->size = size;
    c->n_lanes = lanes_of(&size);
    c->stages = glm4v_alloc(model->n_stages, sizeof *c->stages);
    rc = c->stages ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a context");
    for (int64_t i = 0; !rc && i < model->n_stages; i++)
        rc = stage_open(&c->stages[i], model, i, &size, err);
    if (!rc)
        rc = open_lists(c, err);
    if (!rc)
        rc = open_staging(c, err);
    if (!rc)
        rc = open_sampling(c, err);
    if (!rc)
        rc = open_states(c, err);
    if (!rc && model->stages[0].backend->traits->all_at_open && size.patches)
        rc = open_pictures(c, err);
    if (rc)
        glm4v_context_close(&c);
    else
        *context = c;
    return rc;
}

static void close_staging(glm4v_context *c)
{
    glm4v_backend *b = glm4v_last_stage(c)->backend;
    if (!b)
        return;
    for (glm4v_lane lane = 0; lane < c->n_lanes; lane++) {
        b->ops->staging_free(b, c->lane[lane].host_logits);
        b->ops->staging_free(b, c->lane[lane].host_ids);
        b->ops->staging_free(b, c->lane[lane].host_x);
    }
    b->ops->free(b, c->states);
    b->ops->free(b, c->seen);
    b->ops->free(b, c->masks);
    b->ops->free(b, c->sampled);
}

static void close_lists(glm4v_lane_state *s)
{
    glm4v_free(s->spans);
    glm4v_free(s->ids);
    glm4v_free(s->position);
    glm4v_free(s->outputs);
    glm4v_free(s->heads);
    glm4v_free(s->draws);
}

/* Copies of keys and values may still be on their way. */
static void wait_for_all(glm4v_context *c)
{
    for (int64_t i = 0; i < c->model->n_stages; i++)
        for (glm4v_lane lane = 0; lane < c->n_lanes; lane++) {
            const glm4v_stage_buffers *s = &c->stages[i];
            glm4v_event *event = s->event[lane][0];
            if (event && !s->backend->ops->event_record(s->backend, glm4v_queue_of(lane), event))
                s->backend->ops->sync(s->backend, event);
        }
}

void glm4v_context_close(glm4v_context **context)
{
    glm4v_context *c = *context;
    if (!c)
        return;
    if (c->stages)
        wait_for_all(c);
    glm4v_vision_buffers_free(c);
    if (c->store)
        c->stages[0].backend->ops->free(c->stages[0].backend, c->store);
    if (c->stages)
        close_staging(c);
    for (int64_t i = 0; c->stages && i < c->model->n_stages; i++)
        stage_close(&c->stages[i]);
    for (glm4v_lane lane = 0; lane < c->n_lanes; lane++)
        close_lists(&c->lane[lane]);
    glm4v_free(c->stages);
    glm4v_free(c->places);
    glm4v_free(c);
    *context = NULL;
}

/* ---- checks ---- */

int glm4v_check_ids(const glm4v_context *context, const int32_t *ids, int64_t n, bool sampled,
                    glm4v_error *err)
{
    int64_t vocab = context->model->config.text.vocab;
    for (int64_t i = 0; i < n; i++)
        if ((ids[i] < 0 || ids[i] >= vocab) && !(sampled && ids[i] == GLM4V_ID_SAMPLED))
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "token %zu has id %d, but the model's vocab_size is %" PRId64, i,
                              ids[i], vocab);
    return 0;
}

int glm4v_check_positions(const glm4v_context *context, const int32_t *position, int64_t n,
                          glm4v_error *err)
{
    const int64_t length = context->size.length;
    for (int64_t i = 0; i < n; i++)
        if (position[i] < 0 || position[i] >= length)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "token %zu stands at position %d, the context has %" PRId64, i,
                              position[i], length);
    return 0;
}

/* ---- sampling ---- */

bool glm4v_context_samples(const glm4v_context *context)
{
    return glm4v_last_stage(context)->backend->ops->sample != NULL;
}

bool glm4v_context_feeds_itself(const glm4v_context *context)
{
    return glm4v_context_samples(context) &&
           glm4v_last_stage(context)->backend == context->stages[0].backend;
}

int glm4v_context_set_masks(glm4v_context *context, int64_t first, const uint64_t *masks, int64_t n,
                            glm4v_error *err)
{
    glm4v_backend *b = glm4v_last_stage(context)->backend;
    const int64_t words = glm4v_id_words(context->model), room = masks_of(&context->size);
    if (!context->masks || first < 0 || n < 0 || n > room || first > room - n)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "masks %" PRId64 " to %" PRId64 ": the device has room for %" PRId64,
                          first, first + n, context->masks ? room : 0);
    int rc = b->ops->write(b, context->masks + first * words, masks, n * words * sizeof *masks);
    return rc ? glm4v_fail_device(err, b, rc, "to copy masks") : 0;
}

int glm4v_context_set_seen(glm4v_context *context, int64_t slot, const uint64_t *seen,
                           glm4v_error *err)
{
    glm4v_backend *b = glm4v_last_stage(context)->backend;
    const int64_t words = glm4v_id_words(context->model);
    if (!context->seen || slot >= context->size.slots)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "no sampling in slot %" PRId64, slot);
    int rc = b->ops->write(b, context->seen + slot * words, seen, words * sizeof *seen);
    return rc ? glm4v_fail_device(err, b, rc, "to copy the ids of prompt and answer") : 0;
}

/* ---- keys and values, pictures ---- */

int glm4v_context_copy(glm4v_context *context, int64_t to, int64_t from, int64_t n)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < context->model->n_stages; i++) {
        glm4v_stage_buffers *s = &context->stages[i];
        rc = s->backend->ops->kv_copy(s->backend, GLM4V_QUEUE_PREFILL, &s->kv, to, from, n);
    }
    return rc;
}

bool glm4v_embeddings_free(const glm4v_context *context, const glm4v_embeddings *e)
{
    return !context->store_owner || context->store_owner == e;
}

static int take_store(glm4v_context *c, glm4v_embeddings *e, int64_t n_rows, glm4v_error *err)
{
    if (!glm4v_embeddings_free(c, e))
        return glm4v_fail(err, GLM4V_ERR_BUSY, "the images of another request are in memory");
    if (n_rows > c->size.length - e->n_rows)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%" PRId64 " image tokens: the context has room for %" PRId64,
                          e->n_rows + n_rows, c->size.length);
    c->store_owner = e;
    e->rows = c->store;
    e->capacity = c->size.length;
    return 0;
}

int glm4v_embeddings_reserve(glm4v_context *context, glm4v_embeddings *e, int64_t n_rows,
                             glm4v_error *err)
{
    glm4v_backend *b = context->stages[0].backend;
    const size_t row = context->model->config.text.hidden * b->traits->activation;
    if (n_rows <= e->capacity - e->n_rows)
        return 0;
    if (context->store)
        return take_store(context, e, n_rows, err);
    const int64_t wanted = e->n_rows + n_rows;
    size_t bytes;
    if (wanted > INT32_MAX || glm4v_mul_overflow(wanted, row, &bytes))
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%" PRId64 " image tokens are more than memory can hold", n_rows);
    void *rows = NULL;
    int rc = b->ops->alloc(b, &rows, bytes, err);
    if (!rc && e->n_rows && (rc = b->ops->copy(b, rows, e->rows, e->n_rows * row))) {
        b->ops->free(b, rows);
        glm4v_fail_device(err, b, rc, "to copy %" PRId64 " image tokens", e->n_rows);
    }
    if (rc)
        return rc;
    b->ops->free(b, e->rows);
    e->rows = rows;
    e->capacity = wanted;
    return 0;
}

void glm4v_embeddings_clear(glm4v_context *context, glm4v_embeddings *e)
{
    glm4v_backend *b = context->stages[0].backend;
    if (!context->store)
        b->ops->free(b, e->rows);
    if (context->store_owner == e)
        context->store_owner = NULL;
    *e = (glm4v_embeddings) { 0 };
}
