/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See backend_record.h. One lock guards all of it, memory that runs included: what is proven is
 * order, not speed. */
#define _GNU_SOURCE
#include "backend_record.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu_priv.h"
#include "base/error.h"
#include "base/mem.h"
#include "forward/context_priv.h"
#include "forward/sample.h"
#include "digest.h"

record_options record_wanted = {
    .composites = true, .samples = true, .all_at_open = false, .polls = 2
};
record_counts record_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- memory of the device: one range of addresses, opened as a whole while work runs ---- */

#define RANGE ((size_t)8 << 30)
#define POISONED ((size_t)4 << 20) /* of a block, at most */

typedef struct block {
    size_t at, bytes; /* of the range */
    struct block *next;
} block;

static char *range;
static size_t range_used;
static block *blocks, *freed;
static int range_open; /* nested */

static void open_range(void)
{
    if (range_open++ == 0 && range_used)
        mprotect(range, range_used, PROT_READ | PROT_WRITE);
}

static void close_range(void)
{
    if (--range_open == 0 && range_used)
        mprotect(range, range_used, PROT_NONE);
}

/* Of a block that was freed, or behind all others. */
static block *find_block(size_t bytes)
{
    for (block **b = &freed; *b; b = &(*b)->next)
        if ((*b)->bytes == bytes) {
            block *found = *b;
            *b = found->next;
            return found;
        }
    if (bytes > RANGE - range_used)
        return NULL;
    block *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return NULL;
    *fresh = (block) { .at = range_used, .bytes = bytes };
    range_used += bytes;
    return fresh;
}

static void *take_memory(size_t bytes)
{
    const size_t whole = (bytes + 4096) / 4096 * 4096;
    if (!range)
        range = mmap(NULL, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    block *b = range == MAP_FAILED || whole < bytes ? NULL : find_block(whole);
    if (!b)
        return NULL;
    b->next = blocks;
    blocks = b;
    /* what lies behind range_used was never opened with the rest */
    mprotect(range + b->at, whole, PROT_READ | PROT_WRITE);
    memset(range + b->at, 0xff, whole < POISONED ? whole : POISONED);
    if (!range_open)
        mprotect(range + b->at, whole, PROT_NONE);
    record_count.allocations++;
    return range + b->at;
}

static void give_memory(void *ptr)
{
    for (block **b = &blocks; ptr && *b; b = &(*b)->next)
        if (range + (*b)->at == (char *)ptr) {
            block *found = *b;
            *b = found->next;
            found->next = freed;
            freed = found;
            open_range();
            memset(ptr, 0xff, found->bytes < POISONED ? found->bytes : POISONED);
            close_range();
            return;
        }
}

/* No block is in use: the lists go, so that tests see nothing left. */
static void clear_memory(void)
{
    while (!blocks && freed) {
        block *b = freed;
        freed = b->next;
        free(b);
    }
    if (!blocks)
        range_used = 0;
}

/* ---- what is noted ---- */

typedef enum {
    OP_EMBED,
    OP_PRODUCT,
    OP_LOGITS,
    OP_NORM,
    OP_SILU_MUL,
    OP_GELU,
    OP_ADD,
    OP_SCALE,
    OP_ROPE,
    OP_APPEND,
    OP_ATTEND,
    OP_ATTEND_ALL,
    OP_PLACE,
    OP_TAKE,
    OP_SAMPLE,
    OP_NORM_PRODUCT,
    OP_QKV,
    OP_GATE_UP,
    OP_PRODUCT_ADD,
    OP_PREPROCESS,
    OP_UPLOAD,
    OP_READ,
    OP_COPY,
} op_kind;

/* Plain arguments of the operations that have no descriptor. */
typedef struct {
    void *y;
    const void *x;
    const glm4v_table *table;
    size_t n;
    int64_t rows, width;
    float factor;
} plain;

typedef struct {
    op_kind kind;
    glm4v_norm norm; /* a copy of what the descriptor points to */
    uint64_t digest; /* of what has to stay */
    union {
        plain plain;
        glm4v_product product;
        glm4v_norm_rows norm;
        glm4v_rope rope;
        glm4v_append append;
        glm4v_attend attend;
        glm4v_attend_all attend_all;
        glm4v_sample sample;
        glm4v_norm_product norm_product;
        glm4v_qkv qkv;
        glm4v_gate_up gate_up;
        glm4v_product_add product_add;
        struct {
            void *patches;
            glm4v_pixels pixels;
        } preprocess;
    } a;
} op;

typedef struct {
    op *ops;
    size_t n, capacity;
} program;

/* Data of one step, as handed over. */
typedef struct {
    glm4v_step_rows rows;
    glm4v_rotary rotary;
    int32_t *arrays;
    glm4v_step_span *spans;
    glm4v_draw *draws;
} step_data;

#define MAX_KEYS 256

typedef struct {
    uint64_t key;
    program program;
} recording;

typedef struct record record;

typedef struct {
    glm4v_step base;
    glm4v_step *inner;
    step_data *data; /* of the step that is open */
    program program; /* what it called since it began or was flushed */
    uint64_t key;
    bool open, replayed, begun; /* begun: a task that begins it was handed over */
    recording keys[MAX_KEYS];
    size_t n_keys, n_tasks; /* tasks: not run yet */
    const step_data *running;
} record_step;

/* One entry of a queue. */
typedef struct task {
    record_step *step;
    step_data *data; /* begins the step; NULL: it has begun */
    program own;     /* run and freed; with a recording, empty */
    size_t recorded; /* 1 + number of the step's recording; 0: none */
    bool ends;
    /* other tasks */
    glm4v_kv *kv;
    int64_t to, from, n;
    record *after; /* run its queue up to the ticket first */
    glm4v_queue after_queue;
    uint64_t ticket;
    void *y;
    const void *x;
    size_t bytes;
    struct task *next;
} task;

struct glm4v_event {
    glm4v_queue queue;
    uint64_t ticket;
    int polls;
};

struct record {
    glm4v_backend base;
    glm4v_backend_ops ops;
    glm4v_backend_traits traits;
    glm4v_backend *inner;
    record_options options;
    task *first[GLM4V_N_QUEUES], **last[GLM4V_N_QUEUES];
    uint64_t submitted[GLM4V_N_QUEUES], done[GLM4V_N_QUEUES];
    int failed; /* for good */
    char failure[256];
};

static record *of(glm4v_backend *b)
{
    return (record *)b;
}

static record_step *step_of(glm4v_step *s)
{
    return (record_step *)s;
}

static int violation(record *r, const char *what)
{
    printf("# record: %s\n", what);
    record_count.violations++;
    snprintf(r->failure, sizeof r->failure, "%s", what);
    return r->failed = GLM4V_ERR_DEVICE;
}

static int no_memory(record *r)
{
    snprintf(r->failure, sizeof r->failure, "no memory to note an operation");
    return GLM4V_ERR_NOMEM;
}

/* The structs and host memory that an operation points to. */
static uint64_t digest_of(const op *o)
{
    const uint64_t h = DIGEST_BEGIN;
    switch (o->kind) {
    case OP_EMBED:
        return digest_table(o->a.plain.table, h);
    case OP_PRODUCT:
    case OP_LOGITS:
        return digest_weight(o->a.product.w, h);
    case OP_APPEND:
        return digest_kv(o->a.append.kv, h);
    case OP_ATTEND:
        return digest_kv(o->a.attend.kv, h);
    case OP_NORM_PRODUCT:
        return digest_weight(o->a.norm_product.product.w, h);
    case OP_QKV:
        return digest_weight(o->a.qkv.in.product.w, digest_kv(o->a.qkv.kv, h));
    case OP_GATE_UP:
        return digest_weight(o->a.gate_up.in.product.w, h);
    case OP_PRODUCT_ADD:
        return digest_weight(o->a.product_add.w, h);
    case OP_PREPROCESS:
        return digest_image(o->a.preprocess.pixels.frames[0], h);
    case OP_UPLOAD:
        return digest_bytes(o->a.plain.x, o->a.plain.n * sizeof(float), h);
    default:
        return h;
    }
}

static void program_clear(program *p)
{
    free(p->ops);
    *p = (program) { 0 };
}

/* Note an operation of an open step. */
static int note(glm4v_step *step, op o)
{
    record_step *s = step_of(step);
    record *r = of(step->backend);
    program *p = &s->program;
    pthread_mutex_lock(&lock);
    int rc = r->failed;
    if (!rc && (!s->open || s->replayed))
        rc = violation(r, "an operation of a step that is not open, or is replayed");
    if (!rc && record_count.refuse_at && !--record_count.refuse_at)
        rc = no_memory(r);
    if (!rc && p->n == p->capacity) {
        const size_t capacity = p->capacity ? 2 * p->capacity : 64;
        op *more = realloc(p->ops, capacity * sizeof *more);
        rc = more ? 0 : no_memory(r);
        p->ops = more ? more : p->ops;
        p->capacity = more ? capacity : p->capacity;
    }
    if (!rc) {
        o.digest = digest_of(&o);
        p->ops[p->n++] = o;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_embed(glm4v_step *s, void *y, const glm4v_table *t)
{
    return note(s, (op) { .kind = OP_EMBED, .a.plain = { .y = y, .table = t } });
}

static int record_product(glm4v_step *s, const glm4v_product *p)
{
    return note(s, (op) { .kind = OP_PRODUCT, .a.product = *p });
}

static int record_logits(glm4v_step *s, const glm4v_product *p)
{
    return note(s, (op) { .kind = OP_LOGITS, .a.product = *p });
}

static int record_norm(glm4v_step *s, const glm4v_norm_rows *n)
{
    return note(s, (op) { .kind = OP_NORM, .norm = *n->norm, .a.norm = *n });
}

static int record_silu_mul(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n)
{
    return note(
        s, (op) { .kind = OP_SILU_MUL, .a.plain = { .y = y, .x = x, .rows = rows, .width = n } });
}

static int record_gelu(glm4v_step *s, void *x, int64_t n)
{
    return note(s, (op) { .kind = OP_GELU, .a.plain = { .y = x, .n = n } });
}

static int record_add(glm4v_step *s, void *y, const void *x, int64_t n)
{
    return note(s, (op) { .kind = OP_ADD, .a.plain = { .y = y, .x = x, .n = n } });
}

static int record_scale(glm4v_step *s, void *x, float factor, int64_t n)
{
    return note(s, (op) { .kind = OP_SCALE, .a.plain = { .y = x, .n = n, .factor = factor } });
}

static int record_rope(glm4v_step *s, const glm4v_rope *r)
{
    return note(s, (op) { .kind = OP_ROPE, .a.rope = *r });
}

static int record_append(glm4v_step *s, const glm4v_append *a)
{
    return note(s, (op) { .kind = OP_APPEND, .a.append = *a });
}

static int record_attend(glm4v_step *s, const glm4v_attend *a)
{
    return note(s, (op) { .kind = OP_ATTEND, .a.attend = *a });
}

static int record_attend_all(glm4v_step *s, const glm4v_attend_all *a)
{
    return note(s, (op) { .kind = OP_ATTEND_ALL, .a.attend_all = *a });
}

static int record_place(glm4v_step *s, void *y, const void *x, int64_t n_cols)
{
    return note(s, (op) { .kind = OP_PLACE, .a.plain = { .y = y, .x = x, .n = (size_t)n_cols } });
}

static int record_take(glm4v_step *s, void *y, const void *x, int64_t n_cols)
{
    return note(s, (op) { .kind = OP_TAKE, .a.plain = { .y = y, .x = x, .n = (size_t)n_cols } });
}

static int record_sample(glm4v_step *s, const glm4v_sample *a)
{
    return note(s, (op) { .kind = OP_SAMPLE, .a.sample = *a });
}

static glm4v_norm norm_of(const glm4v_norm *norm)
{
    return norm ? *norm : (glm4v_norm) { 0 };
}

static int record_norm_product(glm4v_step *s, const glm4v_norm_product *p)
{
    return note(s,
                (op) { .kind = OP_NORM_PRODUCT, .norm = norm_of(p->norm), .a.norm_product = *p });
}

static int record_qkv(glm4v_step *s, const glm4v_qkv *p)
{
    return note(s, (op) { .kind = OP_QKV, .norm = norm_of(p->in.norm), .a.qkv = *p });
}

static int record_gate_up(glm4v_step *s, const glm4v_gate_up *p)
{
    return note(s, (op) { .kind = OP_GATE_UP, .norm = norm_of(p->in.norm), .a.gate_up = *p });
}

static int record_product_add(glm4v_step *s, const glm4v_product_add *p)
{
    return note(s, (op) { .kind = OP_PRODUCT_ADD, .norm = norm_of(p->norm), .a.product_add = *p });
}

static int record_preprocess(glm4v_step *s, void *patches, const glm4v_pixels *p)
{
    return note(s, (op) { .kind = OP_PREPROCESS, .a.preprocess = { patches, *p } });
}

static int record_upload(glm4v_step *s, void *y, const float *host, int64_t n)
{
    return note(s, (op) { .kind = OP_UPLOAD, .a.plain = { .y = y, .x = host, .n = n } });
}

static int record_read(glm4v_step *s, void *host, const void *x, size_t bytes)
{
    return note(s, (op) { .kind = OP_READ, .a.plain = { .y = host, .x = x, .n = bytes } });
}

static int record_download(glm4v_step *s, float *host, const void *x, int64_t n)
{
    return record_read(s, host, x, n * sizeof *host);
}

static int record_step_copy(glm4v_step *s, void *y, const void *x, size_t bytes)
{
    return note(s, (op) { .kind = OP_COPY, .a.plain = { .y = y, .x = x, .n = bytes } });
}

/* ---- running ---- */

/* Choose with the host's own sampler, which is the reference. */
static int sample_row(record *r, const record_step *s, const glm4v_sample *a, int32_t i, float *row,
                      glm4v_candidate *scratch)
{
    const glm4v_step_rows *rows = &s->running->rows;
    const size_t words = (size_t)a->vocab / 64 + 1;
    const glm4v_draw *draw = &rows->draws[i];
    const glm4v_step_span *span = rows->spans;
    while (rows->outputs[i] >= span->row + span->n)
        span++;
    uint64_t *seen = a->seen + span->slot * words;
    for (int32_t k = span->row; draw->penalty != 1 && k <= rows->outputs[i]; k++)
        seen[rows->ids[k] / 64] |= (uint64_t)1 << (rows->ids[k] % 64);
    const uint64_t *never = draw->mask < 0 ? NULL : a->masks + (size_t)draw->mask * words;
    glm4v_sampler sampler = { .temperature = draw->temperature,
                              .top_k = draw->top_k,
                              .top_p = draw->top_p,
                              .penalty = draw->penalty,
                              .state = draw->generator,
                              .seen = draw->penalty != 1 ? seen : NULL,
                              .vocab = a->vocab };
    memcpy(row, a->logits + (size_t)i * (size_t)a->vocab, (size_t)a->vocab * sizeof *row);
    a->ids[i] = glm4v_sampler_next(&sampler, row, never, scratch);
    a->sampled[span->slot] = a->ids[i];
    record_count.sampled++;
    return 0;
}

static int run_sample(record *r, const record_step *s, const glm4v_sample *a)
{
    const size_t V = (size_t)a->vocab;
    float *row = malloc(V * sizeof *row);
    glm4v_candidate *scratch = malloc(V * sizeof *scratch);
    int rc = row && scratch ? 0 : no_memory(r);
    for (int32_t i = 0; !rc && i < s->running->rows.n_outputs; i++)
        rc = sample_row(r, s, a, i, row, scratch);
    free(row);
    free(scratch);
    return rc;
}

/* By the host's own preprocessing, on the device's pixels. */
static int run_preprocess(record *r, void *patches, const glm4v_pixels *p)
{
    glm4v_image images[2] = { *p->frames[0], *p->frames[1] };
    const glm4v_image *frames[2] = { &images[0], &images[1] };
    const glm4v_vision_config vision = { .patch = p->patch,
                                         .merge = p->merge,
                                         .temporal = p->temporal };
    glm4v_processor_config processor = { .min_pixels = 1, .max_pixels = UINT64_MAX };
    glm4v_preprocessor *preprocessor = NULL;
    memcpy(processor.mean, p->mean, sizeof p->mean);
    memcpy(processor.std, p->std, sizeof p->std);
    int rc = glm4v_preprocessor_open(&preprocessor, &processor, &vision, NULL);
    if (!rc)
        rc =
            glm4v_preprocess_run(preprocessor, patches, frames,
                                 (glm4v_patch_grid) { p->grid_h, p->grid_w }, r->inner->pool, NULL);
    glm4v_preprocessor_close(&preprocessor);
    record_count.preprocessed += !rc;
    return rc;
}

/* What `operation` calls from the note o, on the step of the CPU. */
static int run_op(record *r, record_step *s, op o)
{
    glm4v_step *step = s->inner;
    const glm4v_backend_ops *ops = r->inner->ops;
    const plain *p = &o.a.plain;
    record_count.operations++;
    if (record_count.fail_at && !--record_count.fail_at) {
        snprintf(r->failure, sizeof r->failure, "injected");
        return record_count.failure;
    }
    if (o.digest != digest_of(&o))
        return violation(r, "what an operation points to changed before it ran");
    switch (o.kind) {
    case OP_EMBED:
        return ops->embed(step, p->y, p->table);
    case OP_PRODUCT:
        return ops->product(step, &o.a.product);
    case OP_LOGITS:
        return ops->logits(step, &o.a.product);
    case OP_NORM:
        o.a.norm.norm = &o.norm;
        return ops->norm(step, &o.a.norm);
    case OP_SILU_MUL:
        return ops->silu_mul(step, p->y, p->x, p->rows, p->width);
    case OP_GELU:
        return ops->gelu(step, p->y, p->n);
    case OP_ADD:
        return ops->add(step, p->y, p->x, p->n);
    case OP_SCALE:
        return ops->scale(step, p->y, p->factor, p->n);
    case OP_ROPE:
        return ops->rope(step, &o.a.rope);
    case OP_APPEND:
        return ops->append(step, &o.a.append);
    case OP_ATTEND:
        return ops->attend(step, &o.a.attend);
    case OP_ATTEND_ALL:
        return ops->attend_all(step, &o.a.attend_all);
    case OP_PLACE:
        return ops->place_rows(step, p->y, p->x, (int64_t)p->n);
    case OP_TAKE:
        return ops->take_rows(step, p->y, p->x, (int64_t)p->n);
    case OP_SAMPLE:
        return run_sample(r, s, &o.a.sample);
    case OP_NORM_PRODUCT:
        o.a.norm_product.norm = o.a.norm_product.norm ? &o.norm : NULL;
        return glm4v_run_norm_product(step, &o.a.norm_product);
    case OP_QKV:
        o.a.qkv.in.norm = o.a.qkv.in.norm ? &o.norm : NULL;
        return glm4v_run_qkv(step, &o.a.qkv);
    case OP_GATE_UP:
        o.a.gate_up.in.norm = o.a.gate_up.in.norm ? &o.norm : NULL;
        return glm4v_run_gate_up(step, &o.a.gate_up);
    case OP_PRODUCT_ADD:
        o.a.product_add.norm = &o.norm;
        return glm4v_run_product_add(step, &o.a.product_add);
    case OP_PREPROCESS:
        return run_preprocess(r, o.a.preprocess.patches, &o.a.preprocess.pixels);
    case OP_UPLOAD:
        return ops->step_upload(step, p->y, p->x, p->n);
    case OP_READ:
    case OP_COPY:
        memcpy(p->y, p->x, p->n);
        return 0;
    }
    return GLM4V_ERR_INTERNAL;
}

static void free_data(step_data *d)
{
    if (!d)
        return;
    free(d->arrays);
    free(d->spans);
    free(d->draws);
    free(d);
}

/* Begin the CPU's step with its data, ids that were sampled in their places. */
static int begin_inner(record_step *s, step_data *d)
{
    glm4v_step_rows rows = d->rows;
    bool replayed;
    for (int32_t i = 0; rows.sampled && i < rows.n_spans; i++)
        for (int32_t k = rows.spans[i].row; k < rows.spans[i].row + rows.spans[i].n; k++)
            if (d->arrays[k] == GLM4V_ID_SAMPLED)
                d->arrays[k] = rows.sampled[rows.spans[i].slot];
    rows.draws = NULL; /* the CPU takes none */
    return s->inner->backend->ops->step_begin(s->inner, &rows, &replayed);
}

/* What the step left in its CPU counterpart must not serve the next one. */
static void poison_inner(record_step *s)
{
    glm4v_cpu_step *c = glm4v_cpu_step_of(s->inner);
    for (int32_t i = 0; c->base.size.spans && i < c->base.size.rows; i++)
        c->ids[i] = INT32_MAX / 2;
    for (int32_t i = 0; i < c->base.size.spans; i++)
        c->spans[i] = (glm4v_step_span) { INT32_MAX / 2, INT32_MAX / 2, INT32_MAX / 2, 1 };
    for (size_t i = 0; i < (size_t)c->base.size.rows * (size_t)c->base.size.n_freq; i++)
        c->cos[i] = c->sin[i] = NAN;
}

static int run_queue(record *r, glm4v_queue q, uint64_t ticket);

static int run_step(record *r, task *t)
{
    record_step *s = t->step;
    const program *p = t->recorded ? &s->keys[t->recorded - 1].program : &t->own;
    int rc = 0;
    if (t->data) {
        free_data((step_data *)(uintptr_t)s->running);
        s->running = t->data;
        rc = begin_inner(s, t->data);
        t->data = NULL;
    }
    for (size_t i = 0; !rc && i < p->n; i++)
        rc = run_op(r, s, p->ops[i]);
    if (t->ends) {
        s->inner->backend->ops->step_end(s->inner);
        poison_inner(s);
    }
    return rc;
}

static int run_task(record *r, task *t)
{
    int rc = t->after ? run_queue(t->after, t->after_queue, t->ticket) : 0;
    if (!rc && t->step)
        rc = run_step(r, t);
    if (!rc && t->kv)
        rc = r->inner->ops->kv_copy(r->inner, GLM4V_QUEUE_PREFILL, t->kv, t->to, t->from, t->n);
    if (!rc && t->y)
        memcpy(t->y, t->x, t->bytes);
    return rc;
}

/* Lock held. What a task leaves behind fails later ones of the queue only if the device failed. */
static int run_queue(record *r, glm4v_queue q, uint64_t ticket)
{
    int rc = r->failed;
    open_range();
    while (r->done[q] < ticket && r->first[q]) {
        task *t = r->first[q];
        r->first[q] = t->next;
        if (!r->first[q])
            r->last[q] = &r->first[q];
        r->done[q]++;
        int failed = r->failed ? r->failed : run_task(r, t);
        rc = rc ? rc : failed;
        if (failed == GLM4V_ERR_DEVICE)
            r->failed = failed;
        if (t->step)
            t->step->n_tasks--;
        program_clear(&t->own);
        free_data(t->data);
        free(t);
    }
    close_range();
    return rc;
}

/* ---- handing over ---- */

/* Lock held. */
static int push(record *r, glm4v_queue q, task t)
{
    task *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return no_memory(r);
    *fresh = t;
    *r->last[q] = fresh;
    r->last[q] = &fresh->next;
    r->submitted[q]++;
    if (t.step)
        t.step->n_tasks++;
    return 0;
}

/* What a read will fill holds nothing until then. */
static void poison_reads(const program *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->ops[i].kind == OP_READ)
            memset(p->ops[i].a.plain.y, 0xff, p->ops[i].a.plain.n);
}

/* The same operations on the same objects. */
static bool same_program(const program *a, const program *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = a->ops[i].kind == b->ops[i].kind && a->ops[i].digest == b->ops[i].digest;
    return same;
}

static size_t find_key(const record_step *s, uint64_t key)
{
    for (size_t i = 0; i < s->n_keys; i++)
        if (s->keys[i].key == key)
            return i + 1;
    return 0;
}

static int hand_over(record_step *s, bool ends)
{
    record *r = of(s->base.backend);
    task t = { .step = s, .data = s->data, .ends = ends };
    const size_t known = s->key ? find_key(s, s->key) : 0;
    if (known && !s->replayed) {
        if (!same_program(&s->keys[known - 1].program, &s->program))
            return violation(r, "two steps of one key differ");
        program_clear(&s->program);
    } else if (s->key && !known) {
        if (s->n_keys == MAX_KEYS)
            return violation(r, "more keys than a step may have");
        s->keys[s->n_keys++] = (recording) { .key = s->key, .program = s->program };
        s->program = (program) { 0 };
    }
    t.recorded = s->key ? find_key(s, s->key) : 0;
    t.own = s->program;
    poison_reads(t.recorded ? &s->keys[t.recorded - 1].program : &t.own);
    int rc = push(r, s->base.size.queue, t);
    if (!rc) {
        s->data = NULL;
        s->program = (program) { 0 };
    }
    return rc;
}

/* Every list of the step in memory of our own; sizes are checked before. */
static step_data *copy_data(const glm4v_step_rows *rows)
{
    const size_t n = (size_t)rows->rows, places = (size_t)rows->n_places;
    const size_t outputs = (size_t)rows->n_outputs;
    step_data *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->rows = *rows;
    d->arrays = calloc(4 * n + places + outputs, sizeof *d->arrays);
    d->spans = calloc((size_t)rows->n_spans + 1, sizeof *d->spans);
    d->draws = calloc(outputs + 1, sizeof *d->draws);
    if (!d->arrays || !d->spans || !d->draws) {
        free_data(d);
        return NULL;
    }
    const int32_t *from[] = { rows->ids,         rows->position[0], rows->position[1],
                              rows->position[2], rows->places,      rows->outputs };
    const size_t counts[] = { n, n, n, n, places, outputs };
    const int32_t **to[] = { &d->rows.ids,         &d->rows.position[0], &d->rows.position[1],
                             &d->rows.position[2], &d->rows.places,      &d->rows.outputs };
    int32_t *at = d->arrays;
    for (int i = 0; i < 6; at += counts[i++]) {
        if (from[i] && counts[i])
            memcpy(at, from[i], counts[i] * sizeof *at);
        *to[i] = from[i] ? at : NULL;
    }
    if (rows->n_spans)
        memcpy(d->spans, rows->spans, (size_t)rows->n_spans * sizeof *d->spans);
    if (rows->draws)
        memcpy(d->draws, rows->draws, outputs * sizeof *d->draws);
    if (rows->rotary)
        d->rotary = *rows->rotary;
    d->rows.spans = d->spans;
    d->rows.draws = rows->draws ? d->draws : NULL;
    d->rows.rotary = rows->rotary ? &d->rotary : NULL;
    return d;
}

static int check_rows(record *r, const record_step *s, const glm4v_step_rows *rows)
{
    const glm4v_step_size *size = &s->base.size;
    if (s->open)
        return violation(r, "a step begins that is open");
    if (rows->rows < 1 || rows->rows > size->rows || rows->n_spans > size->spans ||
        rows->n_outputs > size->outputs || rows->n_places > rows->rows)
        return GLM4V_ERR_INVALID;
    if (rows->key && (rows->n_places || rows->n_outputs != rows->rows))
        return violation(r, "a step with a key and places, or not all rows as outputs");
    for (int32_t i = 0; rows->key && i < rows->n_spans; i++)
        if (rows->spans[i].n > GLM4V_SPAN_ROWS)
            return violation(r, "a span too long for a step with a key");
    return rows->draws && !r->ops.sample ? GLM4V_ERR_INVALID : 0;
}

static int record_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed)
{
    record_step *s = step_of(step);
    record *r = of(step->backend);
    pthread_mutex_lock(&lock);
    int rc = r->failed ? r->failed : check_rows(r, s, rows);
    if (!rc && !(s->data = copy_data(rows)))
        rc = no_memory(r);
    if (!rc) {
        s->open = true;
        s->key = rows->key;
        s->replayed = *replayed = rows->key && find_key(s, rows->key) && !r->options.verify;
        record_count.replayed += s->replayed;
        record_count.recorded += rows->key && !s->replayed;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_flush(glm4v_step *step)
{
    record_step *s = step_of(step);
    pthread_mutex_lock(&lock);
    int rc =
        s->key ? violation(of(step->backend), "a flush of a step with a key") : hand_over(s, false);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_end(glm4v_step *step)
{
    record_step *s = step_of(step);
    pthread_mutex_lock(&lock);
    int rc = hand_over(s, true);
    s->open = false;
    program_clear(&s->program);
    free_data(s->data);
    s->data = NULL;
    pthread_mutex_unlock(&lock);
    return rc;
}

/* What was not handed over yet is forgotten. */
static void record_drop(glm4v_step *step)
{
    record_step *s = step_of(step);
    pthread_mutex_lock(&lock);
    program_clear(&s->program);
    if (!s->data && !s->key) /* it has begun on the CPU */
        hand_over(s, true);
    free_data(s->data);
    s->data = NULL;
    s->open = false;
    pthread_mutex_unlock(&lock);
}

/* ---- events ---- */

static int record_event_open(glm4v_backend *b, glm4v_event **event, glm4v_error *err)
{
    *event = calloc(1, sizeof **event);
    return *event ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an event");
}

static void record_event_close(glm4v_backend *b, glm4v_event *event)
{
    free(event);
}

static int record_event_record(glm4v_backend *b, glm4v_queue q, glm4v_event *event)
{
    pthread_mutex_lock(&lock);
    const bool quick = of(b)->options.quick && q == GLM4V_QUEUE_DECODE;
    *event = (glm4v_event) { q, of(b)->submitted[q], quick ? 0 : of(b)->options.polls };
    int rc = of(b)->failed;
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_queue_wait(glm4v_backend *b, glm4v_queue q, glm4v_event *event)
{
    pthread_mutex_lock(&lock);
    int rc = push(of(b), q,
                  (task) { .after = of(b), .after_queue = event->queue, .ticket = event->ticket });
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_sync(glm4v_backend *b, glm4v_event *event)
{
    pthread_mutex_lock(&lock);
    event->polls = 0;
    int rc = run_queue(of(b), event->queue, event->ticket);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_event_done(glm4v_backend *b, glm4v_event *event)
{
    if (event->polls && event->polls--)
        return 0;
    int rc = record_sync(b, event);
    return rc ? rc : 1;
}

/* ---- memory and copies ---- */

static int record_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    void *memory = take_memory(bytes);
    pthread_mutex_unlock(&lock);
    if (!memory)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a buffer of %zu bytes", bytes);
    *ptr = memory;
    return 0;
}

static void record_free(glm4v_backend *b, void *ptr)
{
    pthread_mutex_lock(&lock);
    give_memory(ptr);
    pthread_mutex_unlock(&lock);
}

static int record_copy(glm4v_backend *b, void *y, const void *x, size_t bytes)
{
    pthread_mutex_lock(&lock);
    open_range();
    memcpy(y, x, bytes);
    close_range();
    pthread_mutex_unlock(&lock);
    return 0;
}

static int record_copy_in(glm4v_backend *b, void *y, const float *host, int64_t n)
{
    return record_copy(b, y, host, n * sizeof *host);
}

static int record_copy_out(glm4v_backend *b, float *host, const void *x, int64_t n)
{
    return record_copy(b, host, x, n * sizeof *host);
}

/* Behind what `from` was given. */
static int record_copy_from(glm4v_backend *b, glm4v_queue q, void *y, glm4v_backend *from,
                            const void *x, int64_t n)
{
    record *r = of(b), *other = of(from);
    if (from->ops->copy_from != record_copy_from)
        return GLM4V_ERR_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    int rc = push(r, q,
                  (task) { .after = other == r ? NULL : other,
                           .after_queue = q,
                           .ticket = other->submitted[q],
                           .y = y,
                           .x = x,
                           .bytes = n * sizeof(float) });
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_kv_copy(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                          int64_t n)
{
    if (n > glm4v_kv_room(&kv->shape, to) || n > glm4v_kv_room(&kv->shape, from))
        return GLM4V_ERR_INVALID;
    pthread_mutex_lock(&lock);
    int rc = push(of(b), q, (task) { .kv = kv, .to = to, .from = from, .n = n });
    pthread_mutex_unlock(&lock);
    return rc;
}

static void record_failure(glm4v_backend *b, char *text, size_t size)
{
    pthread_mutex_lock(&lock);
    snprintf(text, size, "%s", of(b)->failure);
    pthread_mutex_unlock(&lock);
    if (!*text)
        of(b)->inner->ops->failure(of(b)->inner, text, size);
}

/* ---- weights: the CPU's, moved to memory of the device ---- */

static int move_in(record *r, void **ptr, size_t bytes)
{
    if (!*ptr)
        return 0;
    void *memory = take_memory(bytes);
    if (!memory)
        return GLM4V_ERR_NOMEM;
    open_range();
    memcpy(memory, *ptr, bytes);
    close_range();
    glm4v_free(*ptr); /* of the CPU */
    *ptr = memory;
    return 0;
}

/* Parts that could not be moved are still the CPU's. */
static void free_part(void *ptr)
{
    if ((char *)ptr >= range && (char *)ptr < range + RANGE)
        give_memory(ptr);
    else
        glm4v_free(ptr);
}

static void record_weight_free(glm4v_backend *b, glm4v_weight *w)
{
    pthread_mutex_lock(&lock);
    free_part(w->data);
    free_part(w->scale);
    free_part(w->zero);
    free_part(w->order);
    pthread_mutex_unlock(&lock);
    *w = (glm4v_weight) { 0 };
}

static int record_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                               glm4v_error *err)
{
    record *r = of(b);
    const size_t panels = (size_t)glm4v_panel_count(kind->n_out);
    const size_t scales =
        panels * (size_t)glm4v_form_groups(kind->form, kind->blocks, kind->n_in) * GLM4V_PANEL;
    glm4v_weight fresh = { 0 };
    int rc = r->inner->ops->weight_alloc(r->inner, &fresh, kind, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&lock);
    rc = move_in(r, &fresh.data, panels * glm4v_form_of(kind->form)->cpu.panel_bytes(kind->n_in));
    if (!rc)
        rc = move_in(r, (void **)&fresh.scale, scales * sizeof(float));
    if (!rc)
        rc = move_in(r, (void **)&fresh.zero, scales);
    if (!rc)
        rc = move_in(r, (void **)&fresh.order, (size_t)kind->n_in * sizeof(int32_t));
    pthread_mutex_unlock(&lock);
    if (rc) {
        record_weight_free(b, &fresh);
        return glm4v_fail(err, rc, "no memory for a matrix of %" PRId64 " x %" PRId64, kind->n_out,
                          kind->n_in);
    }
    *w = fresh;
    return 0;
}

static void record_table_free(glm4v_backend *b, glm4v_table *t)
{
    pthread_mutex_lock(&lock);
    free_part(t->data);
    free_part(t->scale);
    pthread_mutex_unlock(&lock);
    *t = (glm4v_table) { 0 };
}

static int record_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                              int64_t n_cols, glm4v_error *err)
{
    record *r = of(b);
    glm4v_table fresh = { 0 };
    int rc = r->inner->ops->table_alloc(r->inner, &fresh, form, n_rows, n_cols, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&lock);
    rc = move_in(r, &fresh.data,
                 (size_t)n_rows * (size_t)n_cols * (size_t)glm4v_form_of(form)->bits / 8);
    if (!rc)
        rc = move_in(r, (void **)&fresh.scale, (size_t)n_rows * sizeof(float));
    pthread_mutex_unlock(&lock);
    if (rc) {
        record_table_free(b, &fresh);
        return glm4v_fail(err, rc, "no memory for a table of %" PRId64 " x %" PRId64, n_rows,
                          n_cols);
    }
    *t = fresh;
    return 0;
}

/* Fills that wait: they read their rows when they are asked for, or before the first step. */
typedef struct {
    glm4v_backend *b;
    glm4v_weight *w;
    glm4v_table *t;
    int64_t row, n;
    const void *rows; /* NULL: codes */
    bool bf16;
    glm4v_codes codes;
    size_t bytes; /* of rows, or of codes' numbers */
    uint64_t digest;
} fill;

#define MAX_FILLS 256

static fill fills[MAX_FILLS];
static size_t n_fills;

static const void *fill_from(const fill *f)
{
    if (f->rows)
        return f->rows;
    return f->codes.q ? (const void *)f->codes.q : f->codes.words;
}

static int run_fill(const fill *f)
{
    record *r = of(f->b);
    const glm4v_backend_ops *ops = r->inner->ops;
    if (digest_bytes(fill_from(f), f->bytes, DIGEST_BEGIN) != f->digest)
        return violation(r, "rows of a fill changed before they were read");
    if (f->t)
        return f->rows ? ops->table_fill(r->inner, f->t, f->row, f->n, f->rows)
                       : ops->table_fill_codes(r->inner, f->t, f->row, f->n, &f->codes);
    if (f->bf16)
        return ops->weight_fill_bf16(r->inner, f->w, f->row, f->n, f->rows);
    return f->rows ? ops->weight_fill(r->inner, f->w, f->row, f->n, f->rows)
                   : ops->weight_fill_codes(r->inner, f->w, f->row, f->n, &f->codes);
}

/* Lock held. Those that read from [from, from + bytes), all with from NULL. */
static int run_fills(const void *from, size_t bytes)
{
    int rc = 0;
    open_range();
    for (size_t i = 0; i < n_fills;) {
        const char *at = fill_from(&fills[i]);
        if (from && (at < (const char *)from || at >= (const char *)from + bytes)) {
            i++;
            continue;
        }
        int failed = run_fill(&fills[i]);
        rc = rc ? rc : failed;
        fills[i] = fills[--n_fills];
        record_count.late_fills++;
    }
    close_range();
    return rc;
}

static int note_fill(fill f)
{
    pthread_mutex_lock(&lock);
    int rc = n_fills == MAX_FILLS ? run_fills(NULL, 0) : 0;
    f.digest = digest_bytes(fill_from(&f), f.bytes, DIGEST_BEGIN);
    fills[n_fills++] = f;
    pthread_mutex_unlock(&lock);
    return rc;
}

static int record_fills_wait(glm4v_backend *b, const void *from, size_t bytes)
{
    pthread_mutex_lock(&lock);
    int rc = run_fills(from, bytes);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* What does not fit is refused at once, as the CPU does. */
static bool fits_rows(int64_t row, int64_t n, int64_t all)
{
    return row >= 0 && n >= 0 && row <= all - n;
}

static int record_weight_fill(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                              const float *rows)
{
    if (!fits_rows(row, n, w->n_out) || w->blocks)
        return GLM4V_ERR_INVALID;
    return note_fill((fill) { .b = b,
                              .w = w,
                              .row = row,
                              .n = n,
                              .rows = rows,
                              .bytes = (size_t)n * (size_t)w->n_in * sizeof *rows });
}

static int record_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                   const uint16_t *rows)
{
    if (!fits_rows(row, n, w->n_out) || w->n_in % 2)
        return GLM4V_ERR_INVALID;
    return note_fill((fill) { .b = b,
                              .w = w,
                              .row = row,
                              .n = n,
                              .rows = rows,
                              .bf16 = true,
                              .bytes = (size_t)n * (size_t)w->n_in * sizeof *rows });
}

static int record_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                    const glm4v_codes *codes)
{
    const size_t numbers = (size_t)n * (size_t)w->n_in;
    if (!fits_rows(row, n, w->n_out))
        return GLM4V_ERR_INVALID;
    return note_fill((fill) { .b = b,
                              .w = w,
                              .row = row,
                              .n = n,
                              .codes = *codes,
                              .bytes = codes->q ? numbers : numbers / 2 });
}

static int record_table_fill(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                             const float *rows)
{
    if (!fits_rows(row, n, t->n_rows))
        return GLM4V_ERR_INVALID;
    return note_fill((fill) { .b = b,
                              .t = t,
                              .row = row,
                              .n = n,
                              .rows = rows,
                              .bytes = (size_t)n * (size_t)t->n_cols * sizeof *rows });
}

static int record_table_fill_codes(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                                   const glm4v_codes *codes)
{
    if (!fits_rows(row, n, t->n_rows))
        return GLM4V_ERR_INVALID;
    return note_fill((fill) { .b = b,
                              .t = t,
                              .row = row,
                              .n = n,
                              .codes = *codes,
                              .bytes = (size_t)n * (size_t)t->n_cols });
}

/* Numbers of the device's own: 16 rows at a time. */
static int record_weight_fill_random(glm4v_backend *b, glm4v_weight *w, const glm4v_random *random)
{
    glm4v_backend *inner = of(b)->inner;
    float *rows = malloc(16 * (size_t)w->n_in * sizeof *rows);
    uint64_t state = random->seed;
    int rc = rows ? 0 : no_memory(of(b));
    pthread_mutex_lock(&lock);
    open_range();
    for (int32_t row = 0; !rc && row < w->n_out; row += 16) {
        const int32_t n = w->n_out - row < 16 ? w->n_out - row : 16;
        for (size_t i = 0; i < (size_t)n * (size_t)w->n_in; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            rows[i] =
                random->mean + random->scale * 1.7320508f * ((float)(state >> 40) / 8388608.0f - 1);
        }
        rc = inner->ops->weight_fill(inner, w, row, n, rows);
    }
    close_range();
    record_count.random++;
    pthread_mutex_unlock(&lock);
    free(rows);
    return rc;
}

/* Orders run at once: several threads make them, and each opens the memory for itself. */
#define FILL(name, parameters, call)                                                               \
    static int record_##name parameters                                                            \
    {                                                                                              \
        glm4v_backend *inner = of(b)->inner;                                                       \
        pthread_mutex_lock(&lock);                                                                 \
        open_range();                                                                              \
        pthread_mutex_unlock(&lock);                                                               \
        int rc = inner->ops->name call;                                                            \
        pthread_mutex_lock(&lock);                                                                 \
        close_range();                                                                             \
        pthread_mutex_unlock(&lock);                                                               \
        return rc;                                                                                 \
    }

FILL(weight_order, (glm4v_backend * b, glm4v_weight *w, const int32_t *order), (inner, w, order))

/* What the CPU answers for itself. */
#define INNER(type, name, parameters, call)                                                        \
    static type record_##name parameters                                                           \
    {                                                                                              \
        glm4v_backend *inner = of(b)->inner;                                                       \
        return inner->ops->name call;                                                              \
    }

INNER(uint64_t, weight_bytes, (glm4v_backend * b, const glm4v_weight_kind *kind), (inner, kind))
INNER(int, reserve, (glm4v_backend * b, const glm4v_scratch_need *need, glm4v_error *err),
      (inner, need, err))
INNER(void, scratch_bytes,
      (glm4v_backend * b, const glm4v_scratch_need *need, uint64_t *product, uint64_t *attention),
      (inner, need, product, attention))

static bool record_takes(glm4v_backend *b, const glm4v_image *image)
{
    return image->memory == GLM4V_IMAGE_CUDA && image->format == GLM4V_PIXELS_RGB &&
           image->stride >= 3 * (int64_t)image->width;
}

/* ---- open and close ---- */

static int record_step_open(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                            glm4v_error *err)
{
    record_step *s = calloc(1, sizeof *s);
    if (!s)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a step");
    s->base = (glm4v_step) { .backend = b, .size = *size };
    int rc = of(b)->inner->ops->step_open(of(b)->inner, &s->inner, size, err);
    if (rc)
        free(s);
    else
        *step = &s->base;
    return rc;
}

static void record_step_close(glm4v_step *step)
{
    record_step *s = step_of(step);
    pthread_mutex_lock(&lock);
    for (int q = 0; of(step->backend)->failed && q < GLM4V_N_QUEUES;
         q++) /* nothing runs any more */
        run_queue(of(step->backend), (glm4v_queue)q, of(step->backend)->submitted[q]);
    if (s->open || s->n_tasks)
        violation(of(step->backend), "a step closes while it is open or its work waits");
    for (size_t i = 0; i < s->n_keys; i++)
        program_clear(&s->keys[i].program);
    free_data((step_data *)(uintptr_t)s->running);
    pthread_mutex_unlock(&lock);
    s->inner->backend->ops->step_close(s->inner);
    free(s);
}

static void record_close(glm4v_backend *b)
{
    record *r = of(b);
    pthread_mutex_lock(&lock);
    for (int q = 0; q < GLM4V_N_QUEUES; q++)
        run_queue(r, (glm4v_queue)q, r->submitted[q]);
    clear_memory();
    pthread_mutex_unlock(&lock);
    glm4v_backend_close(&r->inner);
    free(r);
}

static const glm4v_backend_ops record_ops = {
    .name = "record",
    .close = record_close,
    .failure = record_failure,
    .alloc = record_alloc,
    .free = record_free,
    .upload = record_copy_in,
    .download = record_copy_out,
    .write = record_copy,
    .copy = record_copy,
    .copy_from = record_copy_from,
    .event_open = record_event_open,
    .event_close = record_event_close,
    .event_record = record_event_record,
    .queue_wait = record_queue_wait,
    .event_done = record_event_done,
    .sync = record_sync,
    .weight_bytes = record_weight_bytes,
    .weight_alloc = record_weight_alloc,
    .weight_fill = record_weight_fill,
    .weight_fill_codes = record_weight_fill_codes,
    .weight_fill_bf16 = record_weight_fill_bf16,
    .weight_order = record_weight_order,
    .weight_free = record_weight_free,
    .table_alloc = record_table_alloc,
    .table_fill = record_table_fill,
    .table_fill_codes = record_table_fill_codes,
    .table_free = record_table_free,
    .weight_fill_random = record_weight_fill_random,
    .fills_wait = record_fills_wait,
    .kv_open = glm4v_cpu_kv_open, /* asks this table for memory */
    .kv_close = glm4v_cpu_kv_close,
    .kv_copy = record_kv_copy,
    .reserve = record_reserve,
    .scratch_bytes = record_scratch_bytes,
    .step_open = record_step_open,
    .step_close = record_step_close,
    .step_begin = record_begin,
    .step_flush = record_flush,
    .step_end = record_end,
    .step_drop = record_drop,
    .step_upload = record_upload,
    .step_download = record_download,
    .step_read = record_read,
    .step_copy = record_step_copy,
    .embed = record_embed,
    .product = record_product,
    .logits = record_logits,
    .norm = record_norm,
    .silu_mul = record_silu_mul,
    .gelu = record_gelu,
    .add = record_add,
    .scale = record_scale,
    .rope = record_rope,
    .append = record_append,
    .attend = record_attend,
    .attend_all = record_attend_all,
    .place_rows = record_place,
    .take_rows = record_take,
    .sample = record_sample,
    .norm_product = record_norm_product,
    .qkv = record_qkv,
    .gate_up = record_gate_up,
    .product_add = record_product_add,
    .takes = record_takes,
    .preprocess = record_preprocess,
};

/* Plain answers that need nothing of the CPU's own. */
static void borrow(record *r, const glm4v_backend_ops *cpu)
{
    r->ops.available = cpu->available;
    r->ops.staging_alloc = cpu->staging_alloc;
    r->ops.staging_free = cpu->staging_free;
    r->ops.table_bytes = cpu->table_bytes;
    r->ops.kv_bytes = cpu->kv_bytes;
    r->ops.attend_all_bytes = cpu->attend_all_bytes;
    r->ops.step_bytes = cpu->step_bytes;
}

int record_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log, glm4v_error *err)
{
    record *r = calloc(1, sizeof *r);
    if (!r)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a recording backend");
    int rc = glm4v_backend_cpu_open(&r->inner, pool, log, err);
    if (rc) {
        free(r);
        return rc;
    }
    r->options = record_wanted;
    r->ops = record_ops;
    borrow(r, r->inner->ops);
    if (!r->options.samples)
        r->ops.sample = NULL;
    if (!r->options.composites) {
        r->ops.norm_product = NULL;
        r->ops.qkv = NULL;
        r->ops.gate_up = NULL;
        r->ops.product_add = NULL;
    }
    r->traits = *r->inner->traits;
    r->traits.asynchronous = true;
    r->traits.prefill_rows = 100; /* another number than the CPU's */
    r->traits.tower_rows = 72;
    r->traits.chunk = 100000;
    r->traits.all_at_open = r->options.all_at_open;
    for (int q = 0; q < GLM4V_N_QUEUES; q++)
        r->last[q] = &r->first[q];
    r->base = (glm4v_backend) { .ops = &r->ops,
                                .traits = &r->traits,
                                .pool = pool,
                                .isa = r->inner->isa,
                                .device = "cpu",
                                .log = log };
    *backend = &r->base;
    return 0;
}
