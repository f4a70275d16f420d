/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of a model's weights: entries checked against the checkpoint's headers before anything
 * is allocated, their forms, memory and end. The tensors of a family are listed in its own file
 * (weights_glm4v.c, weights_chatglm4v.c) with the functions of weights_list.h. */
#define _GNU_SOURCE
#include "model/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "config/family.h"
#include "model/model.h"
#include "model/weights_list.h"

/* ---- the whole plan ---- */

/* What was quantized in a way that no matrix in memory has. */
typedef struct {
    int64_t matrices;
    uint64_t numbers;
    const char *first; /* of them, and why */
    char why[80];
} widened;

/* Take the item's sources as they are quantized. */
static int keep_codes(glm4v_lister *l, glm4v_item *item, const glm4v_weight_kind *kind)
{
    item->codes = true;
    item->form = kind->form;
    item->zeros = kind->zeros;
    item->blocks = kind->blocks;
    if (!kind->ordered)
        return 0;
    item->order = glm4v_alloc(item->n_in, sizeof *item->order);
    if (!item->order)
        return glm4v_fail(l->err, GLM4V_ERR_NOMEM, "no memory for an order of %" PRId64 " inputs",
                          item->n_in);
    glm4v_source_order(&item->source[0], item->order);
    return 0;
}

static bool is_quantized(const glm4v_item *item)
{
    for (int s = 0; s < item->n_sources; s++)
        if (item->source[s].kind != GLM4V_SOURCE_PLAIN)
            return true;
    return false;
}

/* The form of a convolution: that of its own tensor, independent of the linears, unless the option
 * names bf16 or fp32. */
static glm4v_form form_of_convolution(const glm4v_item *item, const glm4v_quantization *q)
{
    const glm4v_form named = q->form[item->part];
    if (q->set[item->part] && !glm4v_form_of(named)->codes)
        return named;
    return item->n_sources ? glm4v_form_of_stored(item->source[0].tensor->dtype) : GLM4V_FORM_BF16;
}

/* The form of a matrix or a table of a part of that form, were it not quantized. */
static glm4v_form form_of_item(const glm4v_item *item, const glm4v_quantization *q, glm4v_form form)
{
    if (item->convolution)
        return form_of_convolution(item, q);
    if (item->kind == GLM4V_ITEM_TABLE)
        return form;
    return item->fine ? glm4v_form_of(form)->finer : glm4v_form_of_linear(form, item->n_in);
}

/* Whether the stored codes serve the form that the option names for the part, and then the kind of
 * a matrix of them. UNSUPPORTED: not with their scales. */
static int is_named(glm4v_lister *l, const glm4v_item *item, glm4v_form form,
                    glm4v_weight_kind *kind, bool *named)
{
    const glm4v_form_traits *wanted = glm4v_form_of(item->form);
    *named = kind->form == form || kind->form == item->form;
    if (*named || wanted->stored != kind->form)
        return 0;
    if (kind->blocks && !wanted->blocks)
        return glm4v_fail(l->err, GLM4V_ERR_UNSUPPORTED,
                          "quantization: \"%s\" is stored as %s with a scale for each block of "
                          "numbers, which %s does not have: choose %s, or leave %s out",
                          item->source[0].tensor->name, glm4v_form_name(kind->form), wanted->name,
                          glm4v_form_name(kind->form), glm4v_part_name(item->part));
    kind->form = item->form;
    *named = true;
    return 0;
}

/* The form of a matrix or a table: what the option names, else what is stored. */
static int choose_form(glm4v_lister *l, const glm4v_quantization *q, glm4v_item *item, widened *w)
{
    const glm4v_form form = l->model->form[item->part];
    const bool linear = item->kind == GLM4V_ITEM_LINEAR, quantized = is_quantized(item);
    glm4v_weight_kind kind;
    char why[sizeof w->why];
    item->form = form_of_item(item, q, form);
    if (!quantized)
        return 0;
    bool exact = glm4v_sources_kind(&kind, item->source, item->n_sources, why, sizeof why);
    if (!linear && exact && !glm4v_form_of(kind.form)->table) {
        snprintf(why, sizeof why, "a table of %s", glm4v_form_name(kind.form));
        exact = false;
    }
    bool named = !q->set[item->part];
    int rc = exact && !named ? is_named(l, item, form, &kind, &named) : 0;
    if (!rc && exact && named)
        return keep_codes(l, item, &kind);
    if (rc || q->set[item->part])
        return rc;
    item->form = GLM4V_FORM_BF16;
    if (!w->matrices++) {
        w->first = item->source[0].tensor->name;
        memcpy(w->why, why, sizeof why);
    }
    w->numbers += item->n_out * item->n_in;
    return 0;
}

/* A part that is stored in several forms is called by the one most of its numbers have. */
static void name_part(glm4v_lister *l, glm4v_part part)
{
    uint64_t numbers[GLM4V_N_FORMS] = { 0 };
    bool any = false;
    for (int64_t i = 0; i < l->plan->n; i++) {
        const glm4v_item *item = &l->plan->items[i];
        if (item->part != part ||
            (item->kind != GLM4V_ITEM_LINEAR && item->kind != GLM4V_ITEM_TABLE))
            continue;
        any |= is_quantized(item);
        numbers[item->form] += item->n_out * item->n_in;
    }
    for (int form = 0; any && form < GLM4V_N_FORMS; form++)
        if (numbers[form] > numbers[l->model->form[part]])
            l->model->form[part] = (glm4v_form)form;
}

static int choose_forms(glm4v_lister *l, const glm4v_quantization *q)
{
    glm4v_model *model = l->model;
    widened w = { 0 };
    int rc = 0;
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        model->form[part] = q->set[part] ? q->form[part] : l->stored[part];
    for (int64_t i = 0; !rc && i < l->plan->n; i++) {
        glm4v_item *item = &l->plan->items[i];
        if (item->kind == GLM4V_ITEM_LINEAR || item->kind == GLM4V_ITEM_TABLE)
            rc = choose_form(l, q, item, &w);
    }
    for (int part = 0; !rc && part < GLM4V_N_PARTS; part++)
        if (!q->set[part])
            name_part(l, (glm4v_part)part);
    if (!rc && w.matrices)
        glm4v_log_line(&model->log, GLM4V_LOG_WARNING,
                       "%" PRId64 " matrices (the first is \"%s\") are stored in a form that "
                       "has no kernels (%s): they are widened to bf16 and take %" PRIu64
                       " MiB; choose a smaller form with the option quantization",
                       w.matrices, w.first, w.why, w.numbers * 2 >> 20);
    return rc;
}

int glm4v_plan_make(glm4v_plan *plan, glm4v_model *model, const glm4v_checkpoint *checkpoint,
                    const glm4v_quantization *q, glm4v_error *err)
{
    glm4v_lister l = { .plan = plan, .model = model, .checkpoint = checkpoint, .err = err };
    *plan = (glm4v_plan) { .stored = GLM4V_STORED_BF16 };
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        l.stored[part] = GLM4V_FORM_BF16;
    int rc = glm4v_family_of(model->config.family)->list(&l);
    for (int i = 0; i < GLM4V_N_STORED; i++)
        if (l.of_stored[i] > l.of_stored[plan->stored])
            plan->stored = (glm4v_stored)i;
    if (!checkpoint)
        plan->bytes = plan->parameters * sizeof(uint16_t);
    if (!rc)
        rc = choose_forms(&l, q);
    if (rc)
        glm4v_plan_clear(plan);
    return rc;
}

void glm4v_plan_loaded(glm4v_plan *plan)
{
    for (int64_t i = 0; i < plan->n; i++) {
        glm4v_item *item = &plan->items[i];
        for (int s = 0; s < item->n_sources; s++)
            glm4v_source_clear(&item->source[s]);
        glm4v_free(item->order);
        item->order = NULL;
    }
}

void glm4v_plan_clear(glm4v_plan *plan)
{
    glm4v_plan_loaded(plan);
    glm4v_free(plan->items);
    *plan = (glm4v_plan) { 0 };
}

/* ---- memory ---- */

glm4v_weight_kind glm4v_item_kind_of(const glm4v_item *item)
{
    return (glm4v_weight_kind) { .form = item->form,
                                 .n_out = item->n_out,
                                 .n_in = item->n_in,
                                 .zeros = item->zeros,
                                 .blocks = item->blocks,
                                 .ordered = item->order != NULL };
}

uint64_t glm4v_item_bytes(const glm4v_item *item, glm4v_backend *b)
{
    const glm4v_weight_kind kind = glm4v_item_kind_of(item);
    switch (item->kind) {
    case GLM4V_ITEM_LINEAR:
        return b->ops->weight_bytes(b, &kind);
    case GLM4V_ITEM_TABLE:
        return b->ops->table_bytes(b, item->form, item->n_out, item->n_in);
    case GLM4V_ITEM_VECTOR:
    case GLM4V_ITEM_HOST:
        break;
    }
    return item->n_out * item->n_in * sizeof(float);
}

/* Of the items of a stage (-1: all): matrices and tables, vectors and what stays with the host. */
static void count_bytes(const glm4v_plan *plan, const glm4v_model *model, int64_t stage,
                        uint64_t *matrices, uint64_t *others)
{
    *matrices = *others = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const glm4v_item *item = &plan->items[i];
        const bool matrix = item->kind == GLM4V_ITEM_LINEAR || item->kind == GLM4V_ITEM_TABLE;
        if (stage < 0 || item->stage == stage)
            *(matrix ? matrices : others) +=
                glm4v_item_bytes(item, model->stages[item->stage].backend);
    }
}

uint64_t glm4v_plan_memory(const glm4v_plan *plan, const glm4v_model *model, int64_t stage)
{
    uint64_t matrices, others;
    count_bytes(plan, model, stage, &matrices, &others);
    return matrices + others;
}

uint64_t glm4v_plan_step_bytes(const glm4v_plan *plan)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const glm4v_item *item = &plan->items[i];
        if (item->kind != GLM4V_ITEM_LINEAR || item->part == GLM4V_PART_VISION || item->mtp)
            continue;
        const uint64_t bits = glm4v_form_of(item->form)->bits * item->n_in;
        const uint64_t scales =
            glm4v_form_groups(item->form, item->blocks, item->n_in) * (sizeof(float) + item->zeros);
        bytes += item->n_out * (bits / 8 + scales);
    }
    return bytes;
}

/* Are its rows patches, or merged patches? */
static bool is_of_patches(const glm4v_item *item, const glm4v_model *model)
{
    const uintptr_t at = (uintptr_t)item->to.linear, first = (uintptr_t)model->vision.layers;
    const size_t bytes = model->config.vision.layers * sizeof *model->vision.layers;
    return item->to.linear == &model->vision.patch || (at >= first && at < first + bytes);
}

uint64_t glm4v_plan_vision_products(const glm4v_plan *plan, const glm4v_model *model)
{
    const int64_t merge = model->config.vision.merge;
    uint64_t products = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const glm4v_item *item = &plan->items[i];
        if (item->kind == GLM4V_ITEM_LINEAR && item->part == GLM4V_PART_VISION)
            products += item->n_out * item->n_in * (is_of_patches(item, model) ? merge * merge : 1);
    }
    return products;
}

static int allocate(const glm4v_item *item, glm4v_backend *b, glm4v_error *err)
{
    size_t n = item->n_out * item->n_in;
    const glm4v_weight_kind kind = glm4v_item_kind_of(item);
    void *data = NULL;
    int rc;
    switch (item->kind) {
    case GLM4V_ITEM_LINEAR:
        return b->ops->weight_alloc(b, item->to.linear, &kind, err);
    case GLM4V_ITEM_TABLE:
        return b->ops->table_alloc(b, item->to.table, item->form, item->n_out, item->n_in, err);
    case GLM4V_ITEM_VECTOR:
        rc = b->ops->alloc(b, &data, n * sizeof(float), err);
        *item->to.vector = rc ? NULL : data;
        return rc;
    case GLM4V_ITEM_HOST:
        break;
    }
    *item->to.vector = glm4v_alloc_aligned(n, sizeof(float));
    return *item->to.vector
               ? 0
               : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a table of %" PRId64 " x %" PRId64,
                            item->n_out, item->n_in);
}

/* b is NULL where the stage's device was never opened; then nothing was allocated either. */
static void release(const glm4v_item *item, glm4v_backend *b)
{
    switch (item->kind) {
    case GLM4V_ITEM_LINEAR:
        if (item->to.linear->data)
            b->ops->weight_free(b, item->to.linear);
        break;
    case GLM4V_ITEM_TABLE:
        if (item->to.table->data)
            b->ops->table_free(b, item->to.table);
        break;
    case GLM4V_ITEM_VECTOR:
        if (*item->to.vector)
            b->ops->free(b, *item->to.vector);
        *item->to.vector = NULL;
        break;
    case GLM4V_ITEM_HOST:
        glm4v_free(*item->to.vector);
        *item->to.vector = NULL;
        break;
    }
}

/* One block for the matrices and tables of a stage. */
static int reserve(const glm4v_plan *plan, const glm4v_model *model, int64_t stage,
                   glm4v_error *err)
{
    glm4v_backend *b = model->stages[stage].backend;
    uint64_t matrices, others;
    count_bytes(plan, model, stage, &matrices, &others);
    return b->ops->weights_reserve ? b->ops->weights_reserve(b, matrices, err) : 0;
}

int glm4v_plan_allocate(const glm4v_plan *plan, glm4v_model *model, glm4v_error *err)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < model->n_stages; i++)
        rc = reserve(plan, model, i, err);
    for (int64_t i = 0; !rc && i < plan->n; i++)
        rc = allocate(&plan->items[i], model->stages[plan->items[i].stage].backend, err);
    if (rc)
        glm4v_plan_free(plan, model);
    return rc;
}

void glm4v_plan_free(const glm4v_plan *plan, glm4v_model *model)
{
    for (int64_t i = plan->n; i-- > 0;)
        release(&plan->items[i], model->stages[plan->items[i].stage].backend);
}
