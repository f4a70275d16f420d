/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and shapes of every tensor of family chatglm4v. q, k and v lie in one tensor, so do gate
 * and up of the text MLP; those of the adapter lie apart, and its up has the name that the text
 * model's pair has. Source: section 2 of the family's facts (docs/model.md). */
#include "base/error.h"

#include <inttypes.h>
#include "model/families.h"
#include "model/model.h"

#define ROOT "transformer."
#define TEXT ROOT "encoder."
#define VISION ROOT "vision."
#define QKV_BIAS "self_attention.query_key_value.bias"

/* ---- text model ---- */

/* Without the key there is no bias by default: a file that lost it would load and give other
 * answers. */
static int check_qkv_bias(const glm4v_lister *l, const glm4v_module *mod)
{
    if (l->model->config.text.qkv_bias || !glm4v_list_has(l, mod, QKV_BIAS))
        return 0;
    return glm4v_fail(
        l->err, GLM4V_ERR_FORMAT,
        "config.json: \"add_qkv_bias\" is not true, but the weights have layers.%" PRId64
        "." QKV_BIAS ": config.json is damaged or belongs to another model; download it again",
        mod->layer);
}

static int add_text_layer(glm4v_lister *l, const glm4v_module *mod, glm4v_text_layer *to)
{
    const glm4v_text_config *t = &l->model->config.text;
    const int64_t q = t->heads * t->head_dim, qkv = q + 2 * t->kv_heads * t->head_dim;
    int rc;
    if ((rc = glm4v_list_vector(l, mod, &to->input_norm, "input_layernorm.weight", t->hidden, 1)) ||
        (rc = glm4v_list_linear(l, mod, &to->qkv, "self_attention.query_key_value.weight", qkv,
                                t->hidden)) ||
        (rc = check_qkv_bias(l, mod)) ||
        (t->qkv_bias && (rc = glm4v_list_vector(l, mod, &to->qkv_bias, QKV_BIAS, qkv, 0))) ||
        (rc = glm4v_list_linear(l, mod, &to->o, "self_attention.dense.weight", t->hidden, q)) ||
        (rc = glm4v_list_vector(l, mod, &to->mlp_norm, "post_attention_layernorm.weight", t->hidden,
                                1)) ||
        (rc = glm4v_list_linear(l, mod, &to->gate_up, "mlp.dense_h_to_4h.weight", 2 * t->ffn,
                                t->hidden)) ||
        (rc = glm4v_list_linear(l, mod, &to->down, "mlp.dense_4h_to_h.weight", t->hidden, t->ffn)))
        return rc;
    return 0;
}

static int add_text(glm4v_lister *l)
{
    glm4v_model *model = l->model;
    const int64_t last = model->n_stages - 1;
    const glm4v_module embedding = { ROOT, "", -1, GLM4V_PART_EMBEDDING, 0 };
    const glm4v_module end = { TEXT, "", -1, GLM4V_PART_TEXT, last };
    int rc = glm4v_list_vocabulary(l, GLM4V_ITEM_TABLE, &embedding, &model->embedding,
                                   "embedding.word_embeddings.weight");
    for (int32_t s = 0; s <= last; s++)
        for (int64_t i = 0; !rc && i < model->stages[s].count; i++) {
            const int64_t layer = model->stages[s].first + i;
            const glm4v_module mod = { TEXT, "layers", layer, GLM4V_PART_TEXT, s };
            rc = add_text_layer(l, &mod, &model->layers[layer]);
        }
    if (!rc)
        rc = glm4v_list_vector(l, &end, &model->norm, "final_layernorm.weight",
                               model->config.text.hidden, 1);
    return rc ? rc
              : glm4v_list_head(l, ROOT, "output_layer.weight", ROOT,
                                "embedding.word_embeddings.weight");
}

/* ---- vision tower ---- */

static int add_vision_layer(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_layer *to)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    const int64_t D = v->hidden, F = v->ffn;
    int rc;
    if ((rc = glm4v_list_vector(l, mod, &to->norm1, "input_layernorm.weight", D, 1)) ||
        (rc = glm4v_list_vector(l, mod, &to->norm1_bias, "input_layernorm.bias", D, 0)) ||
        (rc = glm4v_list_linear(l, mod, &to->qkv, "attention.query_key_value.weight", 3 * D, D)) ||
        (rc = glm4v_list_vector(l, mod, &to->qkv_bias, "attention.query_key_value.bias", 3 * D,
                                0)) ||
        (rc = glm4v_list_linear(l, mod, &to->proj, "attention.dense.weight", D, D)) ||
        (rc = glm4v_list_vector(l, mod, &to->proj_bias, "attention.dense.bias", D, 0)) ||
        (rc = glm4v_list_vector(l, mod, &to->norm2, "post_attention_layernorm.weight", D, 1)) ||
        (rc = glm4v_list_vector(l, mod, &to->norm2_bias, "post_attention_layernorm.bias", D, 0)) ||
        (rc = glm4v_list_linear(l, mod, &to->gate_up, "mlp.fc1.weight", F, D)) ||
        (rc = glm4v_list_vector(l, mod, &to->gate_up_bias, "mlp.fc1.bias", F, 0)) ||
        (rc = glm4v_list_linear(l, mod, &to->down, "mlp.fc2.weight", D, F)) ||
        (rc = glm4v_list_vector(l, mod, &to->down_bias, "mlp.fc2.bias", D, 0)))
        return rc;
    return 0;
}

/* Patches, class row, positions. */
static int add_stem(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_weights *w)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    const int64_t patch[4] = { v->hidden, GLM4V_CHANNELS, v->patch, v->patch };
    const int64_t class_row[2] = { 1, v->hidden };
    const int64_t table[2] = { v->table_side * v->table_side + 1, v->hidden };
    int rc;
    if ((rc = glm4v_list_convolution(l, mod, &w->patch, "patch_embedding.proj.weight",
                                     &(glm4v_convolution) { patch, 4, 0 })) ||
        (rc = glm4v_list_vector(l, mod, &w->patch_bias, "patch_embedding.proj.bias", v->hidden,
                                0)) ||
        (rc = glm4v_list_host(l, mod, &w->class_row, "patch_embedding.cls_embedding", class_row,
                              2)) ||
        (rc = glm4v_list_host(l, mod, &w->table, "patch_embedding.position_embedding.weight", table,
                              2)))
        return rc;
    return 0;
}

/* From the convolution that joins patches to the rows that the text model sees. */
static int add_adapter(glm4v_lister *l, const glm4v_module *mod, glm4v_vision_weights *w)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    const int64_t out = v->out_hidden, F = v->merger_ffn;
    const int64_t taps[4] = { out, v->hidden, v->merge, v->merge }, edge[3] = { 1, 1, out };
    const glm4v_convolution conv = { taps, 4, v->merge * v->merge };
    const glm4v_rows gate_up[2] = { { "linear_proj.gate_proj.weight", F },
                                    { "linear_proj.dense_h_to_4h.weight", F } };
    int rc;
    if ((rc = glm4v_list_convolution(l, mod, &w->downsample, "conv.weight", &conv)) ||
        (rc = glm4v_list_vector(l, mod, &w->downsample_bias, "conv.bias", out, 0)) ||
        (rc = glm4v_list_linear(l, mod, &w->merger_proj, "linear_proj.linear_proj.weight", out,
                                out)) ||
        (rc = glm4v_list_vector(l, mod, &w->merger_norm, "linear_proj.norm1.weight", out, 1)) ||
        (rc = glm4v_list_vector(l, mod, &w->merger_norm_bias, "linear_proj.norm1.bias", out, 0)) ||
        (rc = glm4v_list_joined(l, mod, GLM4V_ITEM_LINEAR, &w->merger_gate_up,
                                &(glm4v_joined) { gate_up, 2, out })) ||
        (rc = glm4v_list_linear(l, mod, &w->merger_down, "linear_proj.dense_4h_to_h.weight", out,
                                F)) ||
        (rc = glm4v_list_host(l, mod, &w->begin, "boi", edge, 3)) ||
        (rc = glm4v_list_host(l, mod, &w->end, "eoi", edge, 3)))
        return rc;
    return 0;
}

static int add_vision(glm4v_lister *l)
{
    const glm4v_vision_config *v = &l->model->config.vision;
    glm4v_vision_weights *w = &l->model->vision;
    const glm4v_module mod = { VISION, "", -1, GLM4V_PART_VISION, 0 };
    int rc = add_stem(l, &mod, w);
    for (int64_t i = 0; !rc && i < v->layers; i++) {
        const glm4v_module layer = { VISION "transformer.", "layers", i, GLM4V_PART_VISION, 0 };
        rc = add_vision_layer(l, &layer, &w->layers[i]);
    }
    const int64_t adapter = l->plan->n;
    if (!rc)
        rc = add_adapter(l, &mod, w);
    if (!rc)
        glm4v_list_fine(l, adapter);
    return rc;
}

int glm4v_list_chatglm4v(glm4v_lister *l)
{
    const glm4v_config *c = &l->model->config;
    const glm4v_module layer = { TEXT, "layers", c->text.layers, GLM4V_PART_TEXT, 0 };
    const glm4v_module block = { VISION "transformer.", "layers", c->vision.layers,
                                 GLM4V_PART_VISION, 0 };
    int rc;
    if ((rc = glm4v_list_no_layer(l, &layer, "input_layernorm.weight", "num_layers")) ||
        (rc = glm4v_list_no_layer(l, &block, "input_layernorm.weight",
                                  "vision_config.num_hidden_layers")) ||
        (rc = add_text(l)))
        return rc;
    return add_vision(l);
}
