/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ranges and defaults of glm4v_engine_options. */
#include "engine_limits.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/struct_size.h"

/* Up to so many requests, a decode step takes about as long as one of half of them: two batches
 * would not be faster than one, and leave the devices less time for pictures and prompts. */
#define LEAST_BATCH 16

static int take(int64_t *value, int64_t wanted, int64_t fallback, int64_t max, const char *name,
                glm4v_error *err)
{
    *value = wanted ? wanted : fallback;
    if (*value <= max)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID, "engine option %s is %" PRId64 ", at most %" PRId64,
                      name, wanted, max);
}

/* What suits every device. */
static int64_t prefill_rows(const glm4v_model *model)
{
    int64_t rows = model->stages[0].backend->traits->prefill_rows;
    for (int64_t i = 1; i < model->n_stages; i++)
        if (model->stages[i].backend->traits->prefill_rows < rows)
            rows = model->stages[i].backend->traits->prefill_rows;
    return rows;
}

/* Values of kv_cache. */
static const struct {
    const char *name;
    glm4v_kv_form form;
} kv_choices[] = { { "auto", 0 }, { "bf16", GLM4V_KV_BF16 }, { "int8", GLM4V_KV_INT8 } };

enum { N_KV_CHOICES = sizeof kv_choices / sizeof *kv_choices };

static int take_kv_form(glm4v_kv_form *form, const glm4v_model *model, const char *name,
                        glm4v_error *err)
{
    int i = 0;
    while (name && i < N_KV_CHOICES && strcmp(kv_choices[i].name, name))
        i++;
    if (i == N_KV_CHOICES)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "engine option kv_cache is \"%.32s\", not auto, bf16 or int8", name);
    *form = kv_choices[i].form;
    if (*form && model->config.text.head_dim % 2)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "engine option kv_cache: heads of %" PRId64
                          " numbers are kept as they are, use auto",
                          (int64_t)model->config.text.head_dim);
    for (i = 0; *form && i < model->n_stages; i++)
        if (model->stages[i].count && !(model->stages[i].backend->traits->kv_forms >> *form & 1))
            return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                              "engine option kv_cache: %s does not keep keys and values as %s; use "
                              "auto, or a GPU for all layers",
                              model->stages[i].device, name);
    return 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void glm4v_engine_limits_batch(glm4v_engine_limits *limits, int64_t max_batch)
{
    glm4v_context_size *c = &limits->context;
    const int64_t needed = (max_batch + limits->least_batch - 1) / limits->least_batch;
    c->in_flight = c->in_flight < needed ? c->in_flight : needed;
    const int64_t share = (max_batch + c->in_flight - 1) / c->in_flight;
    limits->max_batch = c->slots = max_batch;
    c->decode_rows = larger(larger(share, limits->least_batch), GLM4V_SPAN_ROWS);
    c->decode_rows =
        c->decode_rows < max_batch ? c->decode_rows : larger(max_batch, GLM4V_SPAN_ROWS);
}

/* Batches that keep all stages busy at once: one a stage, where all of them work beside the host
 * and no stage has more than 1.2 times its share of the layers. Else the others wait for it, and
 * one batch of all requests is faster. */
static int64_t batches(const glm4v_model *model)
{
    const int64_t n = model->n_stages, layers = model->config.text.layers;
    for (int64_t i = 0; i < n; i++) {
        const glm4v_stage *s = &model->stages[i];
        if (!s->backend->traits->asynchronous || 5 * n * s->count > 6 * layers)
            return 1;
    }
    return n < GLM4V_MAX_IN_FLIGHT ? n : GLM4V_MAX_IN_FLIGHT;
}

int glm4v_engine_limits_of(glm4v_engine_limits *limits, const glm4v_model *model,
                           const glm4v_engine_options *options, glm4v_error *err)
{
    glm4v_engine_options o;
    glm4v_engine_limits l = { 0 };
    glm4v_kv_form kv_form = 0;
    int64_t own = model->config.text.context, in_flight;
    const uint64_t patch = model->config.vision.patch, patch_pixels = patch * patch;
    int rc;
    if ((rc = glm4v_struct_read(&o, options, sizeof o, "engine options", err)) ||
        (rc = take(&l.max_batch, o.max_batch, GLM4V_DEFAULT_BATCH, GLM4V_MAX_BATCH, "max_batch",
                   err)) ||
        (rc = take(&l.max_pending, o.max_pending, GLM4V_DEFAULT_PENDING, GLM4V_MAX_PENDING,
                   "max_pending", err)) ||
        (rc = take(&l.context_length, o.context_length,
                   own < GLM4V_DEFAULT_CONTEXT ? own : GLM4V_DEFAULT_CONTEXT, own, "context_length",
                   err)) ||
        (rc = take(&l.prefix_tokens, o.prefix_tokens, GLM4V_DEFAULT_PREFIX_TOKENS, UINT32_MAX,
                   "prefix_tokens", err)) ||
        (rc = take(&in_flight, o.batches_in_flight, batches(model), GLM4V_MAX_IN_FLIGHT,
                   "batches_in_flight", err)) ||
        (rc = take_kv_form(&kv_form, model, o.kv_cache, err)))
        return rc;
    if (l.prefix_tokens > l.context_length)
        l.prefix_tokens = l.context_length;
    l.max_pixels = o.max_pixels && o.max_pixels < model->info.max_pixels ? o.max_pixels
                                                                         : model->info.max_pixels;
    l.context = (glm4v_context_size) {
        .length = l.context_length,
        .kept = l.prefix_tokens,
        .max_rows = prefill_rows(model),
        .span_rows = GLM4V_SPAN_ROWS,
        .in_flight = in_flight,
        .patches =
            l.max_pixels / patch_pixels < UINT32_MAX ? l.max_pixels / patch_pixels : UINT32_MAX,
        .kv_form = kv_form,
    };
    l.least_batch = o.batches_in_flight ? 1 : LEAST_BATCH;
    glm4v_engine_limits_batch(&l, l.max_batch);
    *limits = l;
    return 0;
}
