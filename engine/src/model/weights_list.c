/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the families' lists of weights are made of: each call checks its tensors against the
 * checkpoint's headers and appends one item to the plan. */
#include "model/weights_list.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/model.h"

/* ---- one item ---- */

glm4v_item *glm4v_list_item(glm4v_lister *l, glm4v_item_kind kind, glm4v_part part, void *to,
                            int64_t n_out, int64_t n_in)
{
    glm4v_plan *plan = l->plan;
    if (plan->n == plan->capacity) {
        int64_t capacity = plan->capacity ? 2 * plan->capacity : 128;
        glm4v_item *more = glm4v_realloc(plan->items, capacity, sizeof *more);
        if (!more) {
            glm4v_fail(l->err, GLM4V_ERR_NOMEM, "no memory for the list of weights");
            return NULL;
        }
        plan->items = more;
        plan->capacity = capacity;
    }
    glm4v_item *item = &plan->items[plan->n++];
    *item = (glm4v_item) { .kind = kind, .part = part, .n_out = n_out, .n_in = n_in };
    if (kind == GLM4V_ITEM_LINEAR)
        item->to.linear = to;
    else if (kind == GLM4V_ITEM_TABLE)
        item->to.table = to;
    else
        item->to.vector = to;
    item->random_scale = kind == GLM4V_ITEM_LINEAR ? 1 / sqrtf((float)n_in) : 0.1f;
    plan->parameters += n_out * n_in;
    return item;
}

int glm4v_list_source(glm4v_lister *l, glm4v_item *item, const char *name, const int64_t *shape,
                      int rank)
{
    if (!l->checkpoint)
        return 0;
    glm4v_source *source = &item->source[item->n_sources];
    const glm4v_tensor_need need = { name, shape, rank };
    int rc = glm4v_source_find(source, l->checkpoint, l->model->quantized, &need, l->err);
    if (rc)
        return rc;
    l->of_stored[glm4v_source_stored(source)] += source->rows * source->n_in;
    if ((item->kind == GLM4V_ITEM_LINEAR || item->kind == GLM4V_ITEM_TABLE) && !item->convolution &&
        source->kind == GLM4V_SOURCE_PLAIN &&
        glm4v_form_of_stored(source->tensor->dtype) == GLM4V_FORM_F32)
        l->stored[item->part] = GLM4V_FORM_F32;
    l->plan->bytes += glm4v_source_bytes(source);
    item->n_sources++;
    return 0;
}

/* ---- what the families' lists are made of ---- */

static const char *full_name(char out[GLM4V_NAME_SIZE], const glm4v_module *mod, const char *name)
{
    if (mod->layer >= 0)
        snprintf(out, GLM4V_NAME_SIZE, "%s%s.%" PRId64 ".%s", mod->prefix, mod->group, mod->layer,
                 name);
    else
        snprintf(out, GLM4V_NAME_SIZE, "%s%s", mod->prefix, name);
    return out;
}

bool glm4v_list_has(const glm4v_lister *l, const glm4v_module *mod, const char *name)
{
    char full[GLM4V_NAME_SIZE];
    return l->checkpoint && glm4v_source_exists(l->checkpoint, full_name(full, mod, name));
}

/* One item from one tensor of any shape. */
static int add_one(glm4v_lister *l, const glm4v_module *mod, glm4v_item *item, const char *name,
                   const int64_t *shape, int rank)
{
    char full[GLM4V_NAME_SIZE];
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    return glm4v_list_source(l, item, full_name(full, mod, name), shape, rank);
}

int glm4v_list_vector(glm4v_lister *l, const glm4v_module *mod, float **to, const char *name,
                      int64_t n, float mean)
{
    const int64_t shape[1] = { n };
    glm4v_item *item = glm4v_list_item(l, GLM4V_ITEM_VECTOR, mod->part, to, n, 1);
    if (item)
        item->random_mean = mean;
    return add_one(l, mod, item, name, shape, 1);
}

int glm4v_list_linear(glm4v_lister *l, const glm4v_module *mod, glm4v_weight *to, const char *name,
                      int64_t n_out, int64_t n_in)
{
    const int64_t shape[2] = { n_out, n_in };
    return add_one(l, mod, glm4v_list_item(l, GLM4V_ITEM_LINEAR, mod->part, to, n_out, n_in), name,
                   shape, 2);
}

int glm4v_list_joined(glm4v_lister *l, const glm4v_module *mod, glm4v_item_kind kind, void *to,
                      const glm4v_joined *from)
{
    const glm4v_rows *rows = from->rows;
    char full[GLM4V_NAME_SIZE];
    int64_t n_out = 0;
    for (int i = 0; i < from->n; i++)
        n_out += rows[i].n;
    glm4v_item *item = glm4v_list_item(l, kind, mod->part, to, n_out, from->n_in);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    int rc = 0;
    for (int i = 0; !rc && i < from->n; i++) {
        const int64_t shape[2] = { rows[i].n, from->n_in };
        rc = glm4v_list_source(l, item, full_name(full, mod, rows[i].name), shape,
                               kind == GLM4V_ITEM_VECTOR ? 1 : 2);
    }
    return rc;
}

/* The dimensions after the first. */
static int64_t inputs_of(const int64_t *shape, int rank)
{
    int64_t n = 1;
    for (int i = 1; i < rank; i++)
        n *= shape[i];
    return n;
}

int glm4v_list_convolution(glm4v_lister *l, const glm4v_module *mod, glm4v_weight *to,
                           const char *name, const glm4v_convolution *c)
{
    glm4v_item *item = glm4v_list_item(l, GLM4V_ITEM_LINEAR, mod->part, to, c->shape[0],
                                       inputs_of(c->shape, c->rank));
    if (item) {
        item->convolution = true;
        item->pixels = c->pixels;
    }
    return add_one(l, mod, item, name, c->shape, c->rank);
}

int glm4v_list_host(glm4v_lister *l, const glm4v_module *mod, float **to, const char *name,
                    const int64_t *shape, int rank)
{
    glm4v_item *item =
        glm4v_list_item(l, GLM4V_ITEM_HOST, mod->part, to, shape[0], inputs_of(shape, rank));
    if (item)
        item->form = GLM4V_FORM_F32;
    return add_one(l, mod, item, name, shape, rank);
}

int glm4v_list_vocabulary(glm4v_lister *l, glm4v_item_kind kind, const glm4v_module *mod, void *to,
                          const char *name)
{
    const glm4v_text_config *t = &l->model->config.text;
    const int64_t shape[2] = { t->vocab, t->hidden };
    glm4v_item *item = glm4v_list_item(l, kind, mod->part, to, t->vocab, t->hidden);
    if (item && kind == GLM4V_ITEM_TABLE)
        item->random_scale = 1;
    return add_one(l, mod, item, name, shape, 2);
}

#define COMPARED ((int64_t)1 << 16) /* numbers at a time */

/* Are the plain tensors a and b of one shape different numbers? Up to the first that differs. */
static int compare_tensors(const glm4v_lister *l, const glm4v_tensor *a, const glm4v_tensor *b,
                           bool *differ)
{
    const int64_t n = a->shape[0] * a->shape[1];
    float *x = glm4v_alloc(2 * COMPARED, sizeof *x);
    int rc = x ? 0 : glm4v_fail(l->err, GLM4V_ERR_NOMEM, "no memory to compare two tensors");
    for (int64_t at = 0; !rc && !*differ && at < n; at += COMPARED) {
        const int64_t some = n - at < COMPARED ? n - at : COMPARED;
        rc = glm4v_checkpoint_read_f32(l->checkpoint, a, at, x, some, l->err);
        if (!rc)
            rc = glm4v_checkpoint_read_f32(l->checkpoint, b, at, x + COMPARED, some, l->err);
        *differ = !rc && memcmp(x, x + COMPARED, some * sizeof *x) != 0;
    }
    glm4v_free(x);
    return rc;
}

/* config.json says that the head is the embedding, but the checkpoint has a head: the head is used,
 * as in current transformers, and it is told where the two differ. */
static int check_untied(const glm4v_lister *l, const char *name, const char *tied_name)
{
    const glm4v_text_config *t = &l->model->config.text;
    const glm4v_tensor *head = glm4v_checkpoint_find(l->checkpoint, name);
    const glm4v_tensor *embedding = glm4v_checkpoint_find(l->checkpoint, tied_name);
    bool differ = !head || !embedding || head->rank != 2 || embedding->rank != 2;
    for (int i = 0; !differ && i < 2; i++) {
        const int64_t size = i ? t->hidden : t->vocab;
        differ = head->shape[i] != size || embedding->shape[i] != size;
    }
    int rc = differ ? 0 : compare_tensors(l, head, embedding, &differ);
    if (!rc && differ)
        glm4v_log_line(&l->model->log, GLM4V_LOG_WARNING,
                       "config.json says that the head is the embedding (\"tie_word_embeddings\" "
                       "is true), but the weights hold another head, \"%.100s\": it is used; "
                       "set \"tie_word_embeddings\" to false to silence this",
                       name);
    return rc;
}

int glm4v_list_head(glm4v_lister *l, const char *prefix, const char *name, const char *tied_prefix,
                    const char *tied_name)
{
    glm4v_model *model = l->model;
    const glm4v_text_config *t = &model->config.text;
    const int64_t stage = model->n_stages - 1;
    const glm4v_module head = { prefix, "", -1, GLM4V_PART_LM_HEAD, stage };
    const glm4v_module tie = { tied_prefix, "", -1, GLM4V_PART_LM_HEAD, stage };
    const bool present = glm4v_list_has(l, &head, name);
    char full[GLM4V_NAME_SIZE], tied_full[GLM4V_NAME_SIZE];
    /* a missing head is damage if config.json declares that it is not the embedding */
    bool tied = !present && (t->tied || (t->tied_by_default && l->checkpoint));
    if (present && t->tied) {
        int rc =
            check_untied(l, full_name(full, &head, name), full_name(tied_full, &tie, tied_name));
        if (rc)
            return rc;
    }
    if (!tied)
        return glm4v_list_vocabulary(l, GLM4V_ITEM_LINEAR, &head, &model->lm_head, name);
    int rc = glm4v_list_vocabulary(l, GLM4V_ITEM_LINEAR, &tie, &model->lm_head, tied_name);
    l->plan->parameters -= t->vocab * t->hidden; /* the same numbers again */
    return rc;
}

/* All data of a picture for the text model passes through here: 2 % of the weights, and at int4 as
 * much error as the whole rest of the tower. */
void glm4v_list_fine(glm4v_lister *l, int64_t first)
{
    for (int64_t i = first; i < l->plan->n; i++)
        l->plan->items[i].fine = true;
}

int glm4v_list_no_layer(const glm4v_lister *l, const glm4v_module *mod, const char *name,
                        const char *key)
{
    char full[GLM4V_NAME_SIZE];
    if (!glm4v_list_has(l, mod, name))
        return 0;
    return glm4v_fail(l->err, GLM4V_ERR_FORMAT,
                      "config.json: \"%s\" is %" PRId64 ", but the weights hold \"%s\" too", key,
                      mod->layer, full_name(full, mod, name));
}
