/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and shapes of every tensor of families glm4v and glm_ocr: their config says which of them
 * there are. Several prefixes are met in checkpoints, and gate and up of an MLP either fused or
 * apart. Source: docs/model.md. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/families.h"
#include "model/model.h"

/* Matrix whose gate rows and up rows lie in one tensor (fused) or in two. */
static int add_gate_up(glm4v_lister *l, const glm4v_module *mod, glm4v_weight *to,
                       const char *folder, int64_t ffn, int64_t n_in)
{
    char fused[64], gate[64], up[64];
    snprintf(fused, sizeof fused, "%sgate_up_proj.weight", folder);
    snprintf(gate, sizeof gate, "%sgate_proj.weight", folder);
    snprintf(up, sizeof up, "%sup_proj.weight", folder);
    if (glm4v_list_has(l, mod, fused))
        return glm4v_list_linear(l, mod, to, fused, 2 * ffn, n_in);
    const glm4v_rows rows[2] = { { gate, ffn }, { up, ffn } };
    return glm4v_list_joined(l, mod, GLM4V_ITEM_LINEAR, to, &(glm4v_joined) { rows, 2, n_in });
}

/* q, k, v rows (or their biases) of a text layer, one below the other. */
static int add_qkv(glm4v_lister *l, const glm4v_module *mod, glm4v_text_layer *to)
{
    const glm4v_text_config *t = &l->model->config.text;
    const int64_t q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim;
    const glm4v_rows weight[3] = { { "self_attn.q_proj.weight", q },
                                   { "self_attn.k_proj.weight", kv },
                                   { "self_attn.v_proj.weight", kv } };
    const glm4v_rows bias[3] = { { "self_attn.q_proj.bias", q },
                                 { "self_attn.k_proj.bias", kv },
                                 { "self_attn.v_proj.bias", kv } };
    int rc = glm4v_list_joined(l, mod, GLM4V_ITEM_LINEAR, &to->qkv,
                               &(glm4v_joined) { weight, 3, t->hidden });
    if (!rc && t->qkv_bias)
        rc = glm4v_list_joined(l, mod, GLM4V_ITEM_VECTOR, &to->qkv_bias,
                               &(glm4v_joined) { bias, 3, 1 });
    return rc;
}

/* ---- text model ---- */

static int add_text_layer(glm4v_lister *l, const glm4v_module *mod, glm4v_text_layer *to)
{
    const glm4v_text_config *t = &l->model->config.text;
    int rc;
    if ((rc = glm4v_list_vector(l, mod, &to->input_norm, "input_layernorm.weight", t->hidden, 1)) ||
        (rc = add_qkv(l, mod, to)) ||
        (rc = glm4v_list_linear(l, mod, &to->o, "self_attn.o_proj.weight", t->hidden,
                                t->heads * t->head_dim)) ||
        (rc = glm4v_list_vector(l, mod, &to->post_attn_norm, "post_self_attn_layernorm.weight",
                                t->hidden, 1)) ||
        (rc = glm4v_list_vector(l, mod, &to->mlp_norm, "post_attention_layernorm.weight", t->hidden,
                                1)) ||
        (rc = add_gate_up(l, mod, &to->gate_up, "mlp.", t->ffn, t->hidden)) ||
        (rc = glm4v_list_linear(l, mod, &to->down, "mlp.down_proj.weight", t->hidden, t->ffn)) ||
        (rc = glm4v_list_vector(l, mod, &to->post_mlp_norm, "post_mlp_layernorm.weight", t->hidden,
                                1)))
        return rc;
    return 0;
}

/* The MTP layer lies behind the others. What transformers saved lacks it, although config.json
 * announces it. Its copies of embedding and head are not read. */
static int add_mtp(glm4v_lister *l, const char *text)
{
    glm4v_model *model = l->model;
    glm4v_mtp_weights *to = &model->mtp;
    const int64_t D = model->config.text.hidden, layer = model->config.text.layers;
    const glm4v_module mod = { text, "layers", layer, GLM4V_PART_TEXT, model->n_stages - 1 };
    const int64_t first = l->plan->n;
    int rc;
    if (!model->config.text.mtp)
        return 0;
    to->present = !l->checkpoint || glm4v_list_has(l, &mod, "eh_proj.weight");
    if (!to->present) {
        glm4v_log_line(&model->log, GLM4V_LOG_DEBUG,
                       "config.json announces an MTP layer, which the weights lack: it drafts no "
                       "tokens");
        return 0;
    }
    if ((rc = glm4v_list_vector(l, &mod, &to->embedding_norm, "enorm.weight", D, 1)) ||
        (rc = glm4v_list_vector(l, &mod, &to->state_norm, "hnorm.weight", D, 1)) ||
        (rc = glm4v_list_linear(l, &mod, &to->joint, "eh_proj.weight", D, 2 * D)) ||
        (rc = add_text_layer(l, &mod, &model->layers[layer])) ||
        (rc = glm4v_list_vector(l, &mod, &to->head_norm, "shared_head.norm.weight", D, 1)))
        return rc;
    for (int64_t i = first; i < l->plan->n; i++)
        l->plan->items[i].mtp = true;
    return 0;
}

static int add_text(glm4v_lister *l, const char *text)
{
    glm4v_model *model = l->model;
    const int64_t last = model->n_stages - 1;
    const glm4v_module embedding = { text, "", -1, GLM4V_PART_EMBEDDING, 0 };
    const glm4v_module end = { text, "", -1, GLM4V_PART_TEXT, last };
    int rc = glm4v_list_vocabulary(l, GLM4V_ITEM_TABLE, &embedding, &model->embedding,
                                   "embed_tokens.weight");
    for (int32_t s = 0; s <= last; s++)
        for (int64_t i = 0; !rc && i < model->stages[s].count; i++) {
            const int64_t layer = model->stages[s].first + i;
            const glm4v_module mod = { text, "layers", layer, GLM4V_PART_TEXT, s };
            rc = add_text_layer(l, &mod, &model->layers[layer]);
        }
    if (!rc)
        rc = glm4v_list_vector(l, &end, &model->norm, "norm.weight", model->config.text.hidden, 1);
    /* the head: beside the text model, or one up where that has a prefix of its own */
    const glm4v_module outer = { "language_model.", "", -1, GLM4V_PART_LM_HEAD, last };
    const char *prefix = glm4v_list_has(l, &outer, "lm_head.weight") ? outer.prefix : "";
    if (!rc)
        rc = glm4v_list_head(l, prefix, "lm_head.weight", text, "embed_tokens.weight");
    return rc ? rc : add_mtp(l, text);
}

/* ---- vision tower ---- */

/* Of a family that has them. */
static int add_biases(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_layer *to)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    const glm4v_rows gate_up[2] = { { "mlp.gate_proj.bias", v->ffn },
                                    { "mlp.up_proj.bias", v->ffn } };
    int rc;
    if (!v->bias)
        return 0;
    if ((rc = glm4v_list_vector(l, mod, &to->qkv_bias, "attn.qkv.bias", 3 * v->hidden, 0)) ||
        (rc = glm4v_list_vector(l, mod, &to->proj_bias, "attn.proj.bias", v->hidden, 0)) ||
        (rc = glm4v_list_joined(l, mod, GLM4V_ITEM_VECTOR, &to->gate_up_bias,
                                &(glm4v_joined) { gate_up, 2, 1 })))
        return rc;
    return glm4v_list_vector(l, mod, &to->down_bias, "mlp.down_proj.bias", v->hidden, 0);
}

static int add_head_norms(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_layer *to)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    if (!v->head_norms)
        return 0;
    int rc = glm4v_list_vector(l, mod, &to->q_norm, "attn.q_norm.weight", v->head_dim, 1);
    return rc ? rc : glm4v_list_vector(l, mod, &to->k_norm, "attn.k_norm.weight", v->head_dim, 1);
}

static int add_vision_layer(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_layer *to)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    int rc;
    if ((rc = glm4v_list_vector(l, mod, &to->norm1, "norm1.weight", v->hidden, 1)) ||
        (rc = glm4v_list_linear(l, mod, &to->qkv, "attn.qkv.weight", 3 * v->hidden, v->hidden)) ||
        (rc = glm4v_list_linear(l, mod, &to->proj, "attn.proj.weight", v->hidden, v->hidden)) ||
        (rc = glm4v_list_vector(l, mod, &to->norm2, "norm2.weight", v->hidden, 1)) ||
        (rc = add_gate_up(l, mod, &to->gate_up, "mlp.", v->ffn, v->hidden)) ||
        (rc = glm4v_list_linear(l, mod, &to->down, "mlp.down_proj.weight", v->hidden, v->ffn)) ||
        (rc = add_head_norms(l, mod, to)))
        return rc;
    return add_biases(l, mod, to);
}

/* From the convolution that joins patches to the rows that the text model sees. */
static int add_merger(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_weights *w)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    const int64_t out = v->out_hidden;
    const int64_t taps[4] = { out, v->hidden, v->merge, v->merge };
    const glm4v_convolution down = { taps, 4, v->merge * v->merge };
    int rc;
    if ((rc = glm4v_list_vector(l, mod, &w->post_norm, "post_layernorm.weight", v->hidden, 1)) ||
        (rc = glm4v_list_convolution(l, mod, &w->downsample, "downsample.weight", &down)) ||
        (rc = glm4v_list_vector(l, mod, &w->downsample_bias, "downsample.bias", out, 0)) ||
        (rc = glm4v_list_linear(l, mod, &w->merger_proj, "merger.proj.weight", out, out)) ||
        (rc = glm4v_list_vector(l, mod, &w->merger_norm, "merger.post_projection_norm.weight", out,
                                1)) ||
        (rc = glm4v_list_vector(l, mod, &w->merger_norm_bias, "merger.post_projection_norm.bias",
                                out, 0)) ||
        (rc = add_gate_up(l, mod, &w->merger_gate_up, "merger.", v->merger_ffn, out)) ||
        (rc = glm4v_list_linear(l, mod, &w->merger_down, "merger.down_proj.weight", out,
                                v->merger_ffn)))
        return rc;
    return 0;
}

static int add_vision(glm4v_lister *l, const char *prefix)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    glm4v_vision_weights *w = &l->model->vision;
    const int64_t patch[5] = { v->hidden, GLM4V_CHANNELS, v->temporal, v->patch, v->patch };
    const int64_t table[2] = { v->table_side * v->table_side, v->hidden };
    const glm4v_module mod = { prefix, "", -1, GLM4V_PART_VISION, 0 };
    int rc;
    if ((rc = glm4v_list_convolution(l, &mod, &w->patch, "patch_embed.proj.weight",
                                     &(glm4v_convolution) { patch, 5, 0 })) ||
        (rc = glm4v_list_vector(l, &mod, &w->patch_bias, "patch_embed.proj.bias", v->hidden, 0)))
        return rc;
    if (v->conv_norm && (rc = glm4v_list_vector(l, &mod, &w->post_conv_norm,
                                                "post_conv_layernorm.weight", v->hidden, 1)))
        return rc;
    if (v->table_side && (rc = glm4v_list_host(l, &mod, &w->table,
                                               "embeddings.position_embedding.weight", table, 2)))
        return rc;
    for (int64_t i = 0; i < v->layers; i++) {
        const glm4v_module layer = { prefix, "blocks", i, GLM4V_PART_VISION, 0 };
        if ((rc = add_vision_layer(l, &layer, &w->layers[i])))
            return rc;
    }
    const int64_t merger = l->plan->n;
    if ((rc = add_merger(l, &mod, w)))
        return rc;
    glm4v_list_fine(l, merger);
    return 0;
}

/* ---- the whole list ---- */

/* The prefix under which `name` is there: one of n, and the first without a checkpoint. */
static int find_prefix(glm4v_lister *l, const char **prefix, const char *const *prefixes, int n,
                       const char *name)
{
    char tried[160] = "";
    for (int i = 0; i < n; i++) {
        const glm4v_module mod = { prefixes[i], "", -1, GLM4V_PART_TEXT, 0 };
        const size_t used = strlen(tried);
        *prefix = prefixes[i];
        if (!l->checkpoint || glm4v_list_has(l, &mod, name))
            return 0;
        snprintf(tried + used, sizeof tried - used, "%s\"%s%s\"", i ? " nor " : "", prefixes[i],
                 i ? "..." : name);
    }
    bool any = glm4v_checkpoint_count(l->checkpoint) > 0;
    return glm4v_fail(l->err, GLM4V_ERR_FORMAT,
                      "%.80s: neither %s is there (the first tensor is \"%.80s\"); the files "
                      "belong to another model",
                      glm4v_checkpoint_file(l->checkpoint, 0), tried,
                      any ? glm4v_checkpoint_at(l->checkpoint, 0)->name : "none");
}

/* The first layer that may not be there. Behind the text layers a checkpoint may hold MTP layers,
 * of which the first is read where config.json announces it. */
static glm4v_module first_unknown(const glm4v_lister *l, const char *text)
{
    glm4v_module layer = { text, "layers", l->model->config.text.layers, GLM4V_PART_TEXT, 0 };
    while (glm4v_list_has(l, &layer, "eh_proj.weight"))
        layer.layer++;
    return layer;
}

int glm4v_list_glm4v(glm4v_lister *l)
{
    const glm4v_config *c = &l->model->config;
    static const char *const texts[] = { "model.language_model.", "model.", "language_model.model.",
                                         "language_model." };
    static const char *const visions[] = { "model.visual.", "visual." };
    const char *text, *vision;
    int rc;
    if ((rc = find_prefix(l, &text, texts, 4, "embed_tokens.weight")) ||
        (rc = find_prefix(l, &vision, visions, 2, "patch_embed.proj.weight")))
        return rc;
    const glm4v_module layer = first_unknown(l, text);
    const glm4v_module block = { vision, "blocks", c->vision.layers, GLM4V_PART_VISION, 0 };
    if ((rc = glm4v_list_no_layer(l, &layer, "input_layernorm.weight", "num_hidden_layers")) ||
        (rc = glm4v_list_no_layer(l, &block, "norm1.weight", "depth")) || (rc = add_text(l, text)))
        return rc;
    return add_vision(l, vision);
}
