/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening a model: everything is examined (model/examine.c), held against the memory that there is,
 * then allocated, then loaded. What comes out does not change any more and is shared by
 * reference. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/struct_size.h"
#include "estimate.h"
#include "model/examine.h"
#include "model/stages.h"
#include "placement.h"

/* What the devices choose products by: the digest that all have, or one of theirs in order. */
static void set_products(glm4v_model *m)
{
    char *all = m->info.products;
    const size_t size = sizeof m->info.products;
    uint64_t h = 0xcbf29ce484222325u;
    bool differ = false;
    for (int64_t i = 0; i < m->n_stages; i++) {
        const char *one = m->stages[i].backend->products;
        if (!one || !*one)
            continue;
        differ |= *all && strcmp(all, one);
        snprintf(all, size, "%s", one);
        for (const char *c = one; *c; c++)
            h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    }
    if (differ)
        snprintf(all, size, "%016" PRIx64, h);
}

static int load(glm4v_builder *b)
{
    glm4v_model *m = b->model;
    const glm4v_model_info *info = &m->info;
    int rc = glm4v_stages_open(m, &b->options, &b->error);
    if (!rc)
        rc = glm4v_place(m, &b->options, NULL, &b->error);
    if (!rc)
        rc = glm4v_stages_link(m, &b->error);
    if (rc)
        return rc;
    snprintf(m->info.isa, sizeof m->info.isa, "%s", m->stages[0].backend->isa);
    snprintf(m->info.image_device, sizeof m->info.image_device, "%s", m->stages[0].device);
    set_products(m);
    uint64_t bytes = glm4v_plan_memory(&m->plan, m, -1);
    glm4v_log_line(&m->log, GLM4V_LOG_INFO,
                   "%s: %" PRIu64 " parameters in %" PRIu64 " MiB, "
                   "text=%s,vision=%s,embedding=%s,lm-head=%s, kernels %s",
                   info->name, info->n_parameters, bytes >> 20, info->form[GLM4V_PART_TEXT],
                   info->form[GLM4V_PART_VISION], info->form[GLM4V_PART_EMBEDDING],
                   info->form[GLM4V_PART_LM_HEAD], info->isa);
    /* before the system is driven out of memory: allocations succeed until pages are touched */
    rc = glm4v_estimate_check_model(m, b->checkpoint, &b->error);
    if (!rc)
        rc = glm4v_plan_allocate(&m->plan, m, &b->error);
    if (!rc)
        rc = glm4v_plan_load(&m->plan, m, b->checkpoint, &b->options, &b->error);
    glm4v_plan_loaded(&m->plan);
    return rc;
}

int glm4v_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                     glm4v_error *err)
{
    glm4v_builder b;
    int rc = glm4v_builder_start(&b, dir, options);
    if (!rc)
        rc = load(&b);
    if (!rc) {
        *model = b.model;
        b.model = NULL;
    }
    return glm4v_builder_finish(&b, rc, err);
}

int glm4v_model_estimate_memory(const char *dir, const glm4v_estimate_options *options,
                                glm4v_memory *memory, glm4v_error *err)
{
    glm4v_estimate_options o;
    glm4v_builder b;
    glm4v_engine_limits limits;
    glm4v_memory out;
    int rc = glm4v_struct_read(&o, options, sizeof o, "estimate options", err);
    if (rc)
        return rc;
    rc = glm4v_builder_start(&b, dir, o.model);
    if (!rc)
        rc = glm4v_stages_open(b.model, &b.options, &b.error);
    if (!rc)
        rc = glm4v_place(b.model, &b.options, NULL, &b.error);
    if (!rc)
        rc = glm4v_engine_limits_of(&limits, b.model, o.engine, &b.error);
    limits.json_schema = o.json_schema;
    if (!rc)
        rc = glm4v_estimate(b.model, b.checkpoint, &limits, (glm4v_size) { o.width, o.height },
                            &out, &b.error);
    if (!rc)
        rc = glm4v_struct_write(memory, &out, sizeof out, "memory", &b.error);
    return glm4v_builder_finish(&b, rc, err);
}
