/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of family glm4v: names and shapes of every tensor, checked against config.json before
 * anything is allocated. Two sets of prefixes are met in checkpoints, and the text MLP's gate and
 * up either fused or apart. Source: section 2 of the family's facts (docs/model.md). */
#define _GNU_SOURCE
#include "weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "model.h"

#define NAME_SIZE 128

/* What plan-making functions share. */
typedef struct {
    glm4v_plan *plan;
    glm4v_model *model;
    const glm4v_checkpoint *checkpoint; /* NULL: random weights */
    const char *text, *vision;          /* prefixes of names */
    uint64_t of_dtype[GLM4V_N_DTYPES];  /* numbers stored as each */
    glm4v_form stored[GLM4V_N_PARTS];   /* form that keeps all matrices of the part exactly */
    glm4v_error *err;
} maker;

/* ---- one item ---- */

static glm4v_item *new_item(maker *m, glm4v_item_kind kind, glm4v_part part, void *to,
                            int32_t n_out, int32_t n_in)
{
    glm4v_plan *plan = m->plan;
    if (plan->n == plan->capacity) {
        uint32_t capacity = plan->capacity ? 2 * plan->capacity : 128;
        glm4v_item *more = glm4v_realloc(plan->items, capacity, sizeof *more);
        if (!more) {
            glm4v_fail(m->err, GLM4V_ERR_NOMEM, "no memory for the list of weights");
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
    plan->parameters += (uint64_t)n_out * (uint64_t)n_in;
    return item;
}

static void shape_text(char *text, size_t size, const int64_t *shape, int rank)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

/* Take tensor `name` of the given shape as the next rows of item. */
static int add_source(maker *m, glm4v_item *item, const char *name, const int64_t *shape, int rank)
{
    if (!m->checkpoint)
        return 0;
    const glm4v_tensor *t = glm4v_checkpoint_find(m->checkpoint, name);
    if (!t)
        return glm4v_fail(m->err, GLM4V_ERR_FORMAT,
                          "\"%s\" is missing; config.json asks for it, but it is in none of "
                          "the %" PRIu32 " weight files",
                          name, glm4v_checkpoint_shards(m->checkpoint));
    if (t->rank != rank || memcmp(t->shape, shape, (size_t)rank * sizeof *shape)) {
        char found[128], expected[128];
        shape_text(found, sizeof found, t->shape, t->rank);
        shape_text(expected, sizeof expected, shape, rank);
        return glm4v_fail(m->err, GLM4V_ERR_FORMAT,
                          "%.80s: \"%s\" is %s, expected %s from config.json",
                          glm4v_checkpoint_file(m->checkpoint, t->shard), name, found, expected);
    }
    if (t->dtype != GLM4V_DTYPE_BF16 && t->dtype != GLM4V_DTYPE_F32 && t->dtype != GLM4V_DTYPE_F16)
        return glm4v_fail(m->err, GLM4V_ERR_UNSUPPORTED,
                          "%.80s: \"%s\" is %s, expected BF16, F16 or F32; a checkpoint "
                          "quantized by another program is not read",
                          glm4v_checkpoint_file(m->checkpoint, t->shard), name,
                          glm4v_dtype_name(t->dtype));
    uint64_t n = t->size / glm4v_dtype_size(t->dtype);
    m->of_dtype[t->dtype] += n;
    if (item->kind != GLM4V_ITEM_VECTOR && glm4v_form_of_stored(t->dtype) == GLM4V_FORM_F32)
        m->stored[item->part] = GLM4V_FORM_F32;
    m->plan->bytes += t->size;
    item->rows[item->n_sources] = (int32_t)shape[0];
    item->source[item->n_sources++] = t;
    return 0;
}

/* ---- lists of items: one row each in the tables below ---- */

/* Join prefix, "layers.N." (layer >= 0) and name. */
static const char *full_name(char *out, const char *prefix, const char *group, int layer,
                             const char *name)
{
    if (layer >= 0)
        snprintf(out, NAME_SIZE, "%s%s.%d.%s", prefix, group, layer, name);
    else
        snprintf(out, NAME_SIZE, "%s%s", prefix, name);
    return out;
}

/* A module of the model: its tensor names share a prefix, a layer group and number, a part and a
 * stage. */
typedef struct {
    const char *prefix, *group;
    int layer; /* -1: outside the layers */
    glm4v_part part;
    int32_t stage;
} module;

/* float vector [n] from one tensor. mean: of random weights, 1 for the factors of norms. */
static int add_vector(maker *m, const module *mod, float **to, const char *name, int32_t n,
                      float mean)
{
    char full[NAME_SIZE];
    int64_t shape[1] = { n };
    glm4v_item *item = new_item(m, GLM4V_ITEM_VECTOR, mod->part, to, n, 1);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    item->random_mean = mean;
    return add_source(m, item, full_name(full, mod->prefix, mod->group, mod->layer, name), shape,
                      1);
}

/* Matrix [n_out, n_in] from one tensor of the same shape. */
static int add_linear(maker *m, const module *mod, glm4v_weight *to, const char *name,
                      int32_t n_out, int32_t n_in)
{
    char full[NAME_SIZE];
    int64_t shape[2] = { n_out, n_in };
    glm4v_item *item = new_item(m, GLM4V_ITEM_LINEAR, mod->part, to, n_out, n_in);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    return add_source(m, item, full_name(full, mod->prefix, mod->group, mod->layer, name), shape,
                      2);
}

/* Matrix whose gate rows and up rows lie in one tensor (fused) or in two. */
static int add_gate_up(maker *m, const module *mod, glm4v_weight *to, const char *folder,
                       int32_t ffn, int32_t n_in)
{
    char full[NAME_SIZE], name[64];
    int64_t both[2] = { 2 * (int64_t)ffn, n_in }, half[2] = { ffn, n_in };
    glm4v_item *item = new_item(m, GLM4V_ITEM_LINEAR, mod->part, to, 2 * ffn, n_in);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    snprintf(name, sizeof name, "%sgate_up_proj.weight", folder);
    full_name(full, mod->prefix, mod->group, mod->layer, name);
    if (m->checkpoint && glm4v_checkpoint_find(m->checkpoint, full))
        return add_source(m, item, full, both, 2);
    snprintf(name, sizeof name, "%sgate_proj.weight", folder);
    int rc =
        add_source(m, item, full_name(full, mod->prefix, mod->group, mod->layer, name), half, 2);
    snprintf(name, sizeof name, "%sup_proj.weight", folder);
    return rc ? rc
              : add_source(m, item, full_name(full, mod->prefix, mod->group, mod->layer, name),
                           half, 2);
}

/* q, k, v rows (or their biases) of a text layer, one below the other. */
static int add_qkv(maker *m, const module *mod, void *to, bool bias)
{
    static const char *const names[2][3] = {
        { "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight" },
        { "self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias" },
    };
    const glm4v_text_config *t = &m->model->config.text;
    int32_t q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim;
    char full[NAME_SIZE];
    glm4v_item *item = new_item(m, bias ? GLM4V_ITEM_VECTOR : GLM4V_ITEM_LINEAR, mod->part, to,
                                q + 2 * kv, bias ? 1 : t->hidden);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = mod->stage;
    for (int i = 0; i < 3; i++) {
        int64_t shape[2] = { i ? kv : q, t->hidden };
        int rc = add_source(m, item,
                            full_name(full, mod->prefix, mod->group, mod->layer, names[bias][i]),
                            shape, bias ? 1 : 2);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- text model ---- */

static int add_text_layer(maker *m, const module *mod, glm4v_text_layer *l)
{
    const glm4v_text_config *t = &m->model->config.text;
    int rc;
    if ((rc = add_vector(m, mod, &l->input_norm, "input_layernorm.weight", t->hidden, 1)) ||
        (rc = add_qkv(m, mod, &l->qkv, false)) ||
        (t->qkv_bias && (rc = add_qkv(m, mod, &l->qkv_bias, true))) ||
        (rc = add_linear(m, mod, &l->o, "self_attn.o_proj.weight", t->hidden,
                         t->heads * t->head_dim)) ||
        (rc = add_vector(m, mod, &l->post_attn_norm, "post_self_attn_layernorm.weight", t->hidden,
                         1)) ||
        (rc = add_vector(m, mod, &l->mlp_norm, "post_attention_layernorm.weight", t->hidden, 1)) ||
        (rc = add_gate_up(m, mod, &l->gate_up, "mlp.", t->ffn, t->hidden)) ||
        (rc = add_linear(m, mod, &l->down, "mlp.down_proj.weight", t->hidden, t->ffn)) ||
        (rc = add_vector(m, mod, &l->post_mlp_norm, "post_mlp_layernorm.weight", t->hidden, 1)))
        return rc;
    return 0;
}

/* A matrix [V, D] from a tensor under its full name. */
static int add_vocabulary(maker *m, glm4v_item_kind kind, glm4v_part part, int32_t stage, void *to,
                          const char *name)
{
    const glm4v_text_config *t = &m->model->config.text;
    int64_t shape[2] = { t->vocab, t->hidden };
    glm4v_item *item = new_item(m, kind, part, to, t->vocab, t->hidden);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->stage = stage;
    if (kind == GLM4V_ITEM_TABLE)
        item->random_scale = 1;
    return add_source(m, item, name, shape, 2);
}

static int add_text(maker *m)
{
    glm4v_model *model = m->model;
    const glm4v_text_config *t = &model->config.text;
    char embedding[NAME_SIZE];
    int32_t last = model->n_stages - 1;
    full_name(embedding, m->text, "", -1, "embed_tokens.weight");
    int rc =
        add_vocabulary(m, GLM4V_ITEM_TABLE, GLM4V_PART_EMBEDDING, 0, &model->embedding, embedding);
    for (int32_t s = 0; s <= last; s++)
        for (int32_t i = 0; !rc && i < model->stages[s].count; i++) {
            int32_t layer = model->stages[s].first + i;
            module mod = { m->text, "layers", layer, GLM4V_PART_TEXT, s };
            rc = add_text_layer(m, &mod, &model->layers[layer]);
        }
    module mod = { m->text, "", -1, GLM4V_PART_TEXT, last };
    if (!rc)
        rc = add_vector(m, &mod, &model->norm, "norm.weight", t->hidden, 1);
    /* a head that is missing though config.json says it is not the embedding is damage, no tie */
    bool tied = t->tied || (t->tied_by_default && m->checkpoint &&
                            !glm4v_checkpoint_find(m->checkpoint, "lm_head.weight"));
    if (!rc)
        rc = add_vocabulary(m, GLM4V_ITEM_LINEAR, GLM4V_PART_LM_HEAD, last, &model->lm_head,
                            tied ? embedding : "lm_head.weight");
    if (tied)
        m->plan->parameters -=
            (uint64_t)t->vocab * (uint64_t)t->hidden; /* the same numbers again */
    return rc;
}

/* ---- vision tower ---- */

static int add_vision_layer(maker *m, const module *mod, glm4v_vision_layer *l)
{
    const glm4v_vision_config *v = &m->model->config.vision;
    int rc;
    if ((rc = add_vector(m, mod, &l->norm1, "norm1.weight", v->hidden, 1)) ||
        (rc = add_linear(m, mod, &l->qkv, "attn.qkv.weight", 3 * v->hidden, v->hidden)) ||
        (rc = add_linear(m, mod, &l->proj, "attn.proj.weight", v->hidden, v->hidden)) ||
        (rc = add_vector(m, mod, &l->norm2, "norm2.weight", v->hidden, 1)) ||
        (rc = add_gate_up(m, mod, &l->gate_up, "mlp.", v->ffn, v->hidden)) ||
        (rc = add_linear(m, mod, &l->down, "mlp.down_proj.weight", v->hidden, v->ffn)))
        return rc;
    return 0;
}

/* Convolution [n_out, channels, ...] as a matrix over its flattened taps. */
static int add_convolution(maker *m, const module *mod, glm4v_weight *to, const char *name,
                           const int64_t *shape, int rank, int32_t pixels)
{
    char full[NAME_SIZE];
    int64_t n_in = 1;
    for (int i = 1; i < rank; i++)
        n_in *= shape[i];
    glm4v_item *item =
        new_item(m, GLM4V_ITEM_LINEAR, mod->part, to, (int32_t)shape[0], (int32_t)n_in);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->pixels = pixels;
    return add_source(m, item, full_name(full, mod->prefix, mod->group, mod->layer, name), shape,
                      rank);
}

/* The position table [S * S, hidden]: interpolated on the host. */
static int add_positions(maker *m, const module *mod)
{
    const glm4v_vision_config *v = &m->model->config.vision;
    char full[NAME_SIZE];
    int64_t shape[2] = { v->table_side * v->table_side, v->hidden };
    glm4v_item *item = new_item(m, GLM4V_ITEM_HOST, mod->part, &m->model->vision.table,
                                (int32_t)shape[0], v->hidden);
    if (!item)
        return GLM4V_ERR_NOMEM;
    item->form = GLM4V_FORM_F32;
    full_name(full, mod->prefix, "", -1, "embeddings.position_embedding.weight");
    return add_source(m, item, full, shape, 2);
}

static int add_vision(maker *m)
{
    const glm4v_vision_config *v = &m->model->config.vision;
    glm4v_vision_weights *w = &m->model->vision;
    const int64_t patch[5] = { v->hidden, v->channels, v->temporal, v->patch, v->patch };
    const int64_t down[4] = { v->out_hidden, v->hidden, v->merge, v->merge };
    module mod = { m->vision, "", -1, GLM4V_PART_VISION, 0 };
    int rc;
    if ((rc = add_convolution(m, &mod, &w->patch, "patch_embed.proj.weight", patch, 5, 0)) ||
        (rc = add_vector(m, &mod, &w->patch_bias, "patch_embed.proj.bias", v->hidden, 0)) ||
        (rc =
             add_vector(m, &mod, &w->post_conv_norm, "post_conv_layernorm.weight", v->hidden, 1)) ||
        (rc = add_positions(m, &mod)))
        return rc;
    for (int32_t i = 0; i < v->layers; i++) {
        module block = { m->vision, "blocks", i, GLM4V_PART_VISION, 0 };
        if ((rc = add_vision_layer(m, &block, &w->layers[i])))
            return rc;
    }
    const uint32_t merger = m->plan->n;
    if ((rc = add_vector(m, &mod, &w->post_norm, "post_layernorm.weight", v->hidden, 1)) ||
        (rc = add_convolution(m, &mod, &w->downsample, "downsample.weight", down, 4,
                              v->merge * v->merge)) ||
        (rc = add_vector(m, &mod, &w->downsample_bias, "downsample.bias", v->out_hidden, 0)) ||
        (rc = add_linear(m, &mod, &w->merger_proj, "merger.proj.weight", v->out_hidden,
                         v->out_hidden)) ||
        (rc = add_vector(m, &mod, &w->merger_norm, "merger.post_projection_norm.weight",
                         v->out_hidden, 1)) ||
        (rc = add_vector(m, &mod, &w->merger_norm_bias, "merger.post_projection_norm.bias",
                         v->out_hidden, 0)) ||
        (rc = add_gate_up(m, &mod, &w->merger_gate_up, "merger.", v->merger_ffn, v->out_hidden)) ||
        (rc = add_linear(m, &mod, &w->merger_down, "merger.down_proj.weight", v->out_hidden,
                         v->merger_ffn)))
        return rc;
    /* all that the text model sees of a picture passes here once: 2 % of the weights, and at int4
     * as much error as the whole rest of the tower */
    for (uint32_t i = merger; i < m->plan->n; i++)
        m->plan->items[i].fine = true;
    return 0;
}

/* ---- the whole plan ---- */

/* The first of two prefixes under which `name` is there. */
static int find_prefix(maker *m, const char **prefix, const char *first, const char *second,
                       const char *name)
{
    char full[NAME_SIZE];
    *prefix = first;
    if (!m->checkpoint ||
        glm4v_checkpoint_find(m->checkpoint, full_name(full, first, "", -1, name)))
        return 0;
    *prefix = second;
    if (glm4v_checkpoint_find(m->checkpoint, full_name(full, second, "", -1, name)))
        return 0;
    bool any = glm4v_checkpoint_count(m->checkpoint) > 0;
    return glm4v_fail(m->err, GLM4V_ERR_FORMAT,
                      "%.80s: neither \"%s%s\" nor \"%s%s\" is there (the first tensor is "
                      "\"%.80s\")",
                      glm4v_checkpoint_file(m->checkpoint, 0), first, name, second, name,
                      any ? glm4v_checkpoint_at(m->checkpoint, 0)->name : "none");
}

/* More layers in the files than in config.json: the two belong to different models. */
static int check_no_layer(maker *m, const char *prefix, const char *group, int layer,
                          const char *name, const char *key)
{
    char full[NAME_SIZE];
    full_name(full, prefix, group, layer, name);
    if (!m->checkpoint || !glm4v_checkpoint_find(m->checkpoint, full))
        return 0;
    return glm4v_fail(m->err, GLM4V_ERR_FORMAT,
                      "config.json: \"%s\" is %d, but the weights hold \"%s\" too", key, layer,
                      full);
}

static void choose_forms(maker *m, const glm4v_quantization *q)
{
    glm4v_model *model = m->model;
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        model->form[part] = q->set[part] ? q->form[part] : m->stored[part];
    for (uint32_t i = 0; i < m->plan->n; i++) {
        glm4v_item *item = &m->plan->items[i];
        const glm4v_form form = model->form[item->part];
        if (item->kind == GLM4V_ITEM_LINEAR)
            item->form = item->fine && form == GLM4V_FORM_INT4
                             ? GLM4V_FORM_INT8
                             : glm4v_form_of_linear(form, item->n_in);
        else if (item->kind == GLM4V_ITEM_TABLE)
            item->form = model->form[item->part];
    }
}

int glm4v_plan_make(glm4v_plan *plan, glm4v_model *model, const glm4v_checkpoint *checkpoint,
                    const glm4v_quantization *q, glm4v_error *err)
{
    const glm4v_config *c = &model->config;
    maker m = { .plan = plan, .model = model, .checkpoint = checkpoint, .err = err };
    int rc;
    *plan = (glm4v_plan) { .stored = GLM4V_DTYPE_BF16 };
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        m.stored[part] = GLM4V_FORM_BF16;
    if ((rc = find_prefix(&m, &m.text, "model.language_model.", "model.", "embed_tokens.weight")) ||
        (rc = find_prefix(&m, &m.vision, "model.visual.", "visual.", "patch_embed.proj.weight")) ||
        (rc = check_no_layer(&m, m.text, "layers", c->text.layers, "input_layernorm.weight",
                             "num_hidden_layers")) ||
        (rc = check_no_layer(&m, m.vision, "blocks", c->vision.layers, "norm1.weight", "depth")) ||
        (rc = add_text(&m)) || (rc = add_vision(&m))) {
        glm4v_plan_clear(plan);
        return rc;
    }
    for (int i = 0; i < GLM4V_N_DTYPES; i++)
        if (m.of_dtype[i] > m.of_dtype[plan->stored])
            plan->stored = (glm4v_dtype)i;
    if (!checkpoint)
        plan->bytes = plan->parameters * sizeof(uint16_t);
    choose_forms(&m, q);
    return 0;
}

void glm4v_plan_clear(glm4v_plan *plan)
{
    glm4v_free(plan->items);
    *plan = (glm4v_plan) { 0 };
}

/* ---- memory ---- */

static uint64_t table_bytes(const glm4v_item *item)
{
    static const uint64_t size[GLM4V_N_FORMS] = { 4, 2, 1, 1, 1 };
    uint64_t numbers = (uint64_t)item->n_out * (uint64_t)item->n_in;
    return numbers * size[item->form] +
           (item->form == GLM4V_FORM_INT8 ? (uint64_t)item->n_out * sizeof(float) : 0);
}

uint64_t glm4v_plan_memory(const glm4v_plan *plan, const glm4v_model *model)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        const glm4v_item *item = &plan->items[i];
        glm4v_backend *b = model->stages[item->stage].backend;
        if (item->kind == GLM4V_ITEM_LINEAR)
            bytes += b->ops->weight_bytes(b, item->form, item->n_out, item->n_in);
        else if (item->kind == GLM4V_ITEM_TABLE)
            bytes += table_bytes(item);
        else
            bytes += (uint64_t)item->n_out * (uint64_t)item->n_in * sizeof(float);
    }
    return bytes;
}

static int allocate(const glm4v_item *item, glm4v_backend *b, glm4v_error *err)
{
    size_t n = (size_t)item->n_out * (size_t)item->n_in;
    void *data = NULL;
    int rc;
    switch (item->kind) {
    case GLM4V_ITEM_LINEAR:
        return b->ops->weight_alloc(b, item->to.linear, item->form, item->n_out, item->n_in, err);
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
    return *item->to.vector ? 0
                            : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a table of %d x %d",
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

int glm4v_plan_allocate(const glm4v_plan *plan, glm4v_model *model, glm4v_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < plan->n; i++)
        rc = allocate(&plan->items[i], model->stages[plan->items[i].stage].backend, err);
    if (rc)
        glm4v_plan_free(plan, model);
    return rc;
}

void glm4v_plan_free(const glm4v_plan *plan, glm4v_model *model)
{
    for (uint32_t i = plan->n; i-- > 0;)
        release(&plan->items[i], model->stages[plan->items[i].stage].backend);
}
