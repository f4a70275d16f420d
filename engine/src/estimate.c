/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See estimate.h. Sums saturate: a size that no machine has is UINT64_MAX. */
#define _GNU_SOURCE
#include "estimate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "forward/context_priv.h"
#include "model/stages.h"
#include "shape/constraint.h"

/* Tokens of a prompt beside its picture, for the lists that grow with it. */
#define PROMPT_TOKENS 64
/* Picture that a suggested quantization leaves room for. */
#define USUAL_SIDE 448

/* What is worth trying, by keys of quantization.h. */
static const char *const choices[] = {
    "bf16",
    "bf16,embedding=bf16,lm-head=bf16",
    "int8",
    "int8,embedding=int8,lm-head=int8",
    "text=int4-32,vision=int8",
    "text=int4,vision=int8",
    "text=int4,vision=int8,embedding=int8,lm-head=int4",
    "int4",
    "int4,embedding=int8,lm-head=int4",
    NULL,
};

const char *const *glm4v_quantization_choices(void)
{
    return choices;
}

/* A picture after resizing. */
typedef struct {
    uint64_t patches, rows; /* rows: of the text model */
    size_t scratch;         /* of resizing it */
} picture;

static void add(uint64_t *sum, uint64_t bytes)
{
    if (__builtin_add_overflow(*sum, bytes, sum))
        *sum = UINT64_MAX;
}

/* What is free on the device of the first stage. */
static uint64_t available(const glm4v_model *m)
{
    glm4v_backend *b = m->stages[0].backend;
    return b->ops->available(b);
}

/* Does every device hold what its stages need, [n_stages]? Else *device is the first that does not,
 * *needed and *room its bytes. */
static bool all_fit(const glm4v_model *m, const uint64_t *needs, const char **device,
                    uint64_t *needed, uint64_t *room)
{
    for (int64_t i = 0; i < m->n_stages; i++) {
        *device = m->stages[i].device;
        *needed = 0;
        for (int64_t k = 0; k < m->n_stages; k++)
            if (!strcmp(m->stages[k].device, *device))
                add(needed, needs[k]);
        *room = glm4v_device_room(m, i);
        if (*needed > *room)
            return false;
    }
    return true;
}

/* ---- parts ---- */

/* What a model keeps in host memory beside its weights. */
static uint64_t tables_of(const glm4v_model *m)
{
    return sizeof *m + m->n_stages * sizeof *m->stages +
           glm4v_text_blocks(&m->config) * sizeof *m->layers +
           m->config.vision.layers * sizeof *m->vision.layers +
           m->plan.capacity * sizeof *m->plan.items +
           (m->tokenizer ? glm4v_tokenizer_memory(m->tokenizer) : 0) +
           (m->preprocessor ? 2 * glm4v_preprocessor_memory() : 0);
}

/* Embeddings and lists of requests with one picture each. The scheduler finishes a picture's prompt
 * before the next picture, unless it takes more than a quantum of pieces: then all may be begun. */
static uint64_t requests_of(const glm4v_model *m, const glm4v_engine_limits *l, const picture *p)
{
    glm4v_backend *b = m->stages[0].backend;
    const uint64_t tokens = p->rows + PROMPT_TOKENS;
    const uint64_t pieces = 2 + (tokens + l->context.max_rows - 1) / l->context.max_rows;
    const uint64_t row = m->config.text.hidden * b->traits->activation;
    if (b->traits->all_at_open) /* rows of one request's pictures, whatever their size */
        return l->context.length * row + l->max_batch * tokens * 4 * sizeof(int32_t);
    return (pieces <= GLM4V_QUANTUM ? 1 : l->max_batch) * p->rows * row +
           l->max_batch * tokens * 4 * sizeof(int32_t); /* ids and positions */
}

/* Scratch of the backends: each grows to the largest of the text model's calls and the tower's. */
static uint64_t backend_of(const glm4v_model *m, int64_t stage, const glm4v_context_size *size,
                           uint64_t patches)
{
    glm4v_backend *b = m->stages[stage].backend;
    const glm4v_scratch_need need = glm4v_text_need(m, size);
    uint64_t product[2] = { 0 }, attention[2] = { 0 };
    b->ops->scratch_bytes(b, &need, &product[0], &attention[0]);
    if (!stage && patches)
        glm4v_vision_backend_bytes(m, patches, &product[1], &attention[1]);
    return (product[0] > product[1] ? product[0] : product[1]) +
           (attention[0] > attention[1] ? attention[0] : attention[1]);
}

/* The vocabulary as tries, which are made here to be counted; the schemas that are kept with their
 * masks, and what follows them in each request of a batch. */
static int schemas_of(const glm4v_model *m, const glm4v_engine_limits *l, uint64_t *bytes,
                      glm4v_error *err)
{
    const int64_t vocab = m->config.text.vocab;
    glm4v_token_tries *tries = NULL;
    *bytes = 0;
    if (!l->json_schema || !m->tokenizer)
        return 0;
    int rc = glm4v_token_tries_open(&tries, m->tokenizer, vocab, err);
    if (rc)
        return rc;
    const int64_t tokens =
        l->context_length < GLM4V_MAX_TOKENS ? l->context_length : GLM4V_MAX_TOKENS;
    *bytes = tries->bytes +
             GLM4V_KEPT_SHAPES * (sizeof(glm4v_shape) + glm4v_schema_bytes() +
                                  glm4v_mask_cache_bytes(vocab / 64 + 1)) +
             l->max_batch * glm4v_constraint_bytes(tries, tokens);
    glm4v_token_tries_close(&tries);
    return 0;
}

/* ---- all of it ---- */

static int resize(picture *p, const glm4v_model *m, const glm4v_engine_limits *limits,
                  glm4v_size size, glm4v_error *err)
{
    glm4v_preprocessor *processor = NULL;
    glm4v_patch_grid grid = { 0, 0 };
    const uint8_t pixel = 0; /* only the size of the picture is looked at */
    if (size.width > INT32_MAX || size.height > INT32_MAX)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %" PRId64 " x %" PRId64 " is too large", size.width,
                          size.height);
    glm4v_image image = { .data = &pixel,
                          .width = (int)size.width,
                          .height = (int)size.height,
                          .stride = GLM4V_CHANNELS * size.width };
    int rc = glm4v_preprocessor_open(&processor, &m->config.image, &m->config.vision, err);
    if (!rc)
        rc = glm4v_preprocess_grid(processor, &image, 1, limits->max_pixels, &grid, err);
    *p = (picture) { grid.h * grid.w, glm4v_picture_rows(&m->config.vision, grid.h, grid.w), 0 };
    if (!rc)
        rc = glm4v_preprocess_scratch(processor, &image, grid, glm4v_pool_threads(m->pool),
                                      &p->scratch, err);
    glm4v_preprocessor_close(&processor);
    return rc;
}

/* Which parts of the model a stage holds, and the room it has. */
static void stage_place(const glm4v_model *m, int64_t stage, glm4v_device_memory *d)
{
    snprintf(d->name, sizeof d->name, "%s", m->stages[stage].device);
    d->first_layer = (uint32_t)m->stages[stage].first;
    d->n_layers = (uint32_t)m->stages[stage].count;
    d->room = glm4v_device_room(m, stage);
    for (int64_t i = 0; i < m->plan.n; i++)
        if (m->plan.items[i].stage == stage)
            d->holds[m->plan.items[i].part] = 1;
}

static void stage_memory(const glm4v_model *m, int64_t stage, const glm4v_engine_limits *limits,
                         const picture *p, glm4v_device_memory *d)
{
    const glm4v_backend *b = m->stages[stage].backend;
    const glm4v_context_bytes context = glm4v_context_memory(m, stage, limits->context);
    const uint64_t patches = b->traits->all_at_open && limits->context.patches > (int64_t)p->patches
                                 ? (uint64_t)limits->context.patches
                                 : p->patches;
    stage_place(m, stage, d);
    d->weights = glm4v_plan_memory(&m->plan, m, stage);
    d->kv_cache = context.kv_cache;
    d->scratch = context.activations;
    add(&d->scratch, context.host);
    add(&d->scratch, backend_of(m, stage, &limits->context, patches));
    if (!stage) {
        add(&d->scratch, glm4v_vision_scratch_bytes(m, patches));
        add(&d->scratch, p->scratch);
        add(&d->scratch, requests_of(m, limits, p));
        add(&d->scratch, glm4v_engine_host_bytes(m, limits, p->patches));
    }
}

int glm4v_estimate_stage(const glm4v_model *m, int64_t stage, const glm4v_engine_limits *limits,
                         glm4v_device_memory *memory, glm4v_error *err)
{
    picture p = { 0 };
    int rc = resize(&p, m, limits, (glm4v_size) { USUAL_SIDE, USUAL_SIDE }, err);
    if (!rc)
        stage_memory(m, stage, limits, &p, memory);
    return rc;
}

int glm4v_estimate_engine(const glm4v_model *m, const glm4v_engine_limits *limits, uint64_t *bytes,
                          glm4v_error *err)
{
    *bytes = 0;
    for (int64_t i = 0; i < m->n_stages; i++) {
        glm4v_device_memory d = { .weights = 0 };
        int rc = glm4v_estimate_stage(m, i, limits, &d, err);
        if (rc)
            return rc;
        add(bytes, d.weights);
        add(bytes, d.kv_cache);
        add(bytes, d.scratch);
    }
    return 0;
}

int glm4v_estimate(const glm4v_model *m, const glm4v_checkpoint *checkpoint,
                   const glm4v_engine_limits *limits, glm4v_size image, glm4v_memory *memory,
                   glm4v_error *err)
{
    glm4v_memory out = { .tables = tables_of(m),
                         .loading = glm4v_plan_loading_bytes(&m->plan, m, checkpoint),
                         .available = available(m) };
    picture p = { 0 };
    uint64_t schemas;
    int rc = resize(&p, m, limits, image, err);
    if (!rc)
        rc = schemas_of(m, limits, &schemas, err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < m->n_stages; i++) {
        glm4v_device_memory *d = &out.device[out.n_devices++];
        stage_memory(m, i, limits, &p, d);
        add(&d->scratch, i ? 0 : schemas);
        add(&out.weights, d->weights);
        add(&out.kv_cache, d->kv_cache);
        add(&out.scratch, d->scratch);
    }
    out.total = out.weights;
    add(&out.total, out.tables);
    out.peak = out.total;
    add(&out.peak, out.loading);
    add(&out.total, out.kv_cache);
    add(&out.total, out.scratch);
    out.peak = out.peak > out.total ? out.peak : out.total;
    *memory = out;
    return 0;
}

/* ---- too little ---- */

/* What the model takes with another quantization and an engine of all defaults. False: it cannot
 * be had in it. */
static bool peak_as(const char *quantization, glm4v_model *m, const glm4v_checkpoint *checkpoint,
                    uint64_t *peak)
{
    const glm4v_size usual = { USUAL_SIDE, USUAL_SIDE };
    const glm4v_plan own = m->plan;
    glm4v_form forms[GLM4V_N_PARTS];
    glm4v_quantization q;
    glm4v_engine_limits limits;
    glm4v_memory memory;
    memcpy(forms, m->form, sizeof forms);
    m->plan = (glm4v_plan) { 0 };
    bool ok = !glm4v_quantization_parse(&q, quantization, NULL) &&
              !glm4v_plan_make(&m->plan, m, checkpoint, &q, NULL) &&
              !glm4v_engine_limits_of(&limits, m, NULL, NULL) &&
              !glm4v_estimate(m, checkpoint, &limits, usual, &memory, NULL);
    glm4v_plan_clear(&m->plan);
    m->plan = own;
    memcpy(m->form, forms, sizeof forms);
    *peak = ok ? memory.peak : UINT64_MAX;
    return ok;
}

int glm4v_estimate_check_model(glm4v_model *m, const glm4v_checkpoint *checkpoint, glm4v_error *err)
{
    uint64_t needs[GLM4V_MAX_DEVICES], needed, room, most = 0, least = UINT64_MAX;
    const char *device, *largest = NULL, *smallest = NULL;
    bool host = false; /* buffers of loading are counted where host memory is a device's */
    for (int64_t i = 0; i < m->n_stages; i++) {
        needs[i] = glm4v_plan_memory(&m->plan, m, i);
        if (!host && !strcmp(m->stages[i].device, "cpu"))
            add(&needs[i], glm4v_plan_loading_bytes(&m->plan, m, checkpoint));
        host = host || !strcmp(m->stages[i].device, "cpu");
    }
    if (all_fit(m, needs, &device, &needed, &room))
        return 0;
    for (const char *const *choice = choices; *choice; choice++) {
        uint64_t peak;
        if (!peak_as(*choice, m, checkpoint, &peak))
            continue;
        if (peak <= room && peak > most) {
            most = peak;
            largest = *choice;
        }
        if (peak < least) {
            least = peak;
            smallest = *choice;
        }
    }
    char advice[160];
    if (largest)
        snprintf(advice, sizeof advice,
                 "the largest that fits, with an engine, is --quantization %s (%" PRIu64 " MiB)",
                 largest, most >> 20);
    else
        snprintf(advice, sizeof advice,
                 "no quantization fits: the smallest, %s, takes %" PRIu64 " MiB with an engine",
                 smallest ? smallest : "none", smallest ? least >> 20 : 0);
    return glm4v_fail(err, GLM4V_ERR_NOMEM,
                      "%s: loading takes %" PRIu64 " MiB on device %s as "
                      "text=%s,vision=%s,embedding=%s,lm-head=%s, but %" PRIu64
                      " MiB of memory are available; %s",
                      m->info.name, needed >> 20, device, m->info.form[GLM4V_PART_TEXT],
                      m->info.form[GLM4V_PART_VISION], m->info.form[GLM4V_PART_EMBEDDING],
                      m->info.form[GLM4V_PART_LM_HEAD], room >> 20, advice);
}

/* What an engine takes on each stage before the first picture comes. */
static void engine_needs(const glm4v_model *m, const glm4v_engine_limits *limits, uint64_t *needs)
{
    for (int64_t i = 0; i < m->n_stages; i++) {
        const glm4v_context_bytes context = glm4v_context_memory(m, i, limits->context);
        needs[i] = i ? 0 : glm4v_engine_host_bytes(m, limits, 0);
        add(&needs[i], context.kv_cache);
        add(&needs[i], context.activations);
        add(&needs[i], context.host);
        add(&needs[i], backend_of(m, i, &limits->context, 0));
    }
}

static void set_size(glm4v_engine_limits *l, int64_t batch, int64_t length)
{
    glm4v_engine_limits_batch(l, batch);
    l->context_length = l->context.length = length;
    if (l->prefix_tokens > length)
        l->prefix_tokens = l->context.kept = length;
}

int glm4v_estimate_check_engine(const glm4v_model *m, const glm4v_engine_limits *limits,
                                glm4v_error *err)
{
    enum { LEAST_CONTEXT = 512 };
    uint64_t needs[GLM4V_MAX_DEVICES], needed, room;
    const char *device;
    engine_needs(m, limits, needs);
    if (all_fit(m, needs, &device, &needed, &room))
        return 0;
    char advice[96] = "close other programs or choose a smaller quantization";
    for (int64_t batch = limits->max_batch, found = 0; batch && !found; batch /= 2)
        for (int64_t length = limits->context_length; length >= LEAST_CONTEXT && !found;
             length /= 2) {
            glm4v_engine_limits smaller = *limits;
            set_size(&smaller, batch, length);
            const char *other;
            uint64_t less, more;
            engine_needs(m, &smaller, needs);
            if (!all_fit(m, needs, &other, &less, &more))
                continue;
            snprintf(advice, sizeof advice,
                     "max_batch %" PRId64 " and context_length %" PRId64 " would fit", batch,
                     length);
            found = 1;
        }
    return glm4v_fail(err, GLM4V_ERR_NOMEM,
                      "%s: an engine of %" PRId64 " requests of %" PRId64 " tokens takes %" PRIu64
                      " MiB on device %s, but %" PRIu64 " MiB of memory are available; %s",
                      m->info.name, limits->max_batch, limits->context_length, needed >> 20, device,
                      room >> 20, advice);
}
