/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ranges and defaults of glm4v_engine_options. */
#include "engine_limits.h"

#include <string.h>

#include "base/error.h"
#include "base/struct_size.h"

#define DEFAULT_CONTEXT 8192

static int take(uint32_t *value, uint32_t wanted, uint32_t fallback, uint32_t max, const char *name,
                glm4v_error *err)
{
    *value = wanted ? wanted : fallback;
    if (*value <= max)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID, "engine option %s is %u, at most %u", name, wanted,
                      max);
}

/* What suits every device. */
static uint32_t prefill_rows(const glm4v_model *model)
{
    int32_t rows = model->stages[0].backend->traits->prefill_rows;
    for (int32_t i = 1; i < model->n_stages; i++)
        if (model->stages[i].backend->traits->prefill_rows < rows)
            rows = model->stages[i].backend->traits->prefill_rows;
    return (uint32_t)rows;
}

int glm4v_engine_limits_of(glm4v_engine_limits *limits, const glm4v_model *model,
                           const glm4v_engine_options *options, glm4v_error *err)
{
    glm4v_engine_options o;
    glm4v_engine_limits l = { 0 };
    uint32_t own = (uint32_t)model->config.text.context;
    const uint64_t patch = (uint64_t)model->config.vision.patch, patch_pixels = patch * patch;
    int rc;
    if ((rc = glm4v_struct_read(&o, options, sizeof o, "engine options", err)) ||
        (rc = take(&l.max_batch, o.max_batch, 4, GLM4V_MAX_BATCH, "max_batch", err)) ||
        (rc = take(&l.max_pending, o.max_pending, 64, GLM4V_MAX_PENDING, "max_pending", err)) ||
        (rc = take(&l.context_length, o.context_length,
                   own < DEFAULT_CONTEXT ? own : DEFAULT_CONTEXT, own, "context_length", err)) ||
        (rc = take(&l.prefix_tokens, o.prefix_tokens, 1024, UINT32_MAX, "prefix_tokens", err)))
        return rc;
    if (l.prefix_tokens > l.context_length)
        l.prefix_tokens = l.context_length;
    l.max_pixels = o.max_pixels && o.max_pixels < model->info.max_pixels ? o.max_pixels
                                                                         : model->info.max_pixels;
    l.context = (glm4v_context_size) {
        .slots = l.max_batch,
        .length = l.context_length,
        .kept = l.prefix_tokens,
        .max_rows = prefill_rows(model),
        .patches = (uint32_t)(l.max_pixels / patch_pixels < UINT32_MAX ? l.max_pixels / patch_pixels
                                                                       : UINT32_MAX),
    };
    *limits = l;
    return 0;
}
