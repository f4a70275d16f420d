/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config.json of family chatglm4v (GLM-4V-9B): the keys of its own modelling code at the top level,
 * vision_config beside them. Settings of that code that this model does not use are refused. There
 * is no default for a size. */
#include <inttypes.h>

#include "base/error.h"
#include "config/keys.h"

#define MERGE 2 /* of the convolution behind the tower; not in the file */

/* Switches with the values of this model. */
static int check_switches(const glm4v_places *p, glm4v_error *err)
{
    static const struct {
        const char *key;
        bool expected;
    } switches[] = {
        { "rmsnorm", true },
        { "post_layer_norm", true },
        { "original_rope", true },
        { "add_bias_linear", false },
        { "apply_residual_connection_post_layernorm", false },
        { "prefix_projection", false },
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof switches / sizeof *switches; i++)
        rc = glm4v_key_expect_bool(p, switches[i].key, switches[i].expected, err);
    return rc ? rc : glm4v_key_expect_int(p, "pre_seq_len", 0, err);
}

/* Key and value heads: as many as query heads unless the file has groups. */
static int read_groups(glm4v_text_config *t, const glm4v_places *p, glm4v_error *err)
{
    bool groups = false;
    int rc = glm4v_key_bool(p, "multi_query_attention", &groups, err);
    t->kv_heads = t->heads;
    if (!rc && groups)
        rc = glm4v_key_int(p, "multi_query_group_num", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                           &t->kv_heads, err);
    return rc ? rc
              : glm4v_key_divides(t->kv_heads, t->heads, "multi_query_group_num",
                                  "num_attention_heads", p->label[0], err);
}

/* Half of a head rotates, every frequency by the one position there is. */
static int read_rope(glm4v_text_config *t, const glm4v_places *p, glm4v_error *err)
{
    double ratio = 1;
    int rc = glm4v_key_double(p, "rope_ratio", GLM4V_OPTIONAL, (glm4v_interval) { 1e-3, 1e6 },
                              &ratio, err);
    if (rc)
        return rc;
    if (t->head_dim % 4)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"kv_channels\" is %" PRId64
                                 ", expected a multiple of 4: pairs of half "
                                 "of a head are rotated",
                          t->head_dim);
    t->rope_theta = 10000 * ratio;
    t->rotary_dim = t->head_dim / 2;
    t->mrope[0] = t->rotary_dim / 2;
    t->one_position = true;
    return 0;
}

static int read_text(glm4v_config *c, const glm4v_places *p, glm4v_error *err)
{
    glm4v_text_config *t = &c->text;
    const char *layers = glm4v_key_find(p, "num_layers") < 0 ? "num_hidden_layers" : "num_layers";
    double eps = 1e-5;
    int rc;
    if ((rc = glm4v_key_int(p, "padded_vocab_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 21 },
                            &t->vocab, err)) ||
        (rc = glm4v_key_int(p, "hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 16 },
                            &t->hidden, err)) ||
        (rc = glm4v_key_int(p, "ffn_hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 18 },
                            &t->ffn, err)) ||
        (rc = glm4v_key_int(p, layers, GLM4V_REQUIRED, (glm4v_range) { 1, 1024 }, &t->layers,
                            err)) ||
        (rc = glm4v_key_int(p, "num_attention_heads", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &t->heads, err)) ||
        (rc = glm4v_key_int(p, "kv_channels", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &t->head_dim, err)) ||
        (rc = glm4v_key_int(p, "seq_length", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 24 },
                            &t->context, err)) ||
        (rc = glm4v_key_double(p, "layernorm_epsilon", GLM4V_OPTIONAL, (glm4v_interval) { 0, 1 },
                               &eps, err)) ||
        (rc = glm4v_key_bool(p, "add_qkv_bias", &t->qkv_bias, err)) ||
        (rc = glm4v_key_bool(p, "tie_word_embeddings", &t->tied, err)) ||
        (rc = check_switches(p, err)) || (rc = read_groups(t, p, err)))
        return rc;
    t->norm_eps = (float)eps;
    return read_rope(t, p, err);
}

/* The position table has a row for each patch of the one size, and the class row's. */
static int check_table(const glm4v_vision_config *v, int64_t positions, glm4v_error *err)
{
    const int64_t expected = v->table_side * v->table_side + 1;
    if (v->head_dim > 1024 || v->table_side > 256 || v->table_side % MERGE)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": vision_config: a head size of %" PRId64 " and %" PRId64
                                 " x %" PRId64 " patches, expected "
                                 "at most 1024, and an even number up to 256",
                          v->head_dim, v->table_side, v->table_side);
    if (positions != expected)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": vision_config: \"num_positions\" is %" PRId64
                                 ", expected %" PRId64 ": %" PRId64 " x %" PRId64 " "
                                 "patches and the class row",
                          positions, expected, v->table_side, v->table_side);
    return 0;
}

static int read_vision(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    glm4v_vision_config *v = &c->vision;
    glm4v_places p = { .n = 0 };
    double eps = 1e-6, divisor = 0;
    int64_t positions = 0;
    int rc;
    *v = (glm4v_vision_config) { .temporal = 1,
                                 .merge = MERGE,
                                 .class_rows = 1,
                                 .border = 1,
                                 .absolute = true,
                                 .post_norm = true,
                                 .gelu = true };
    glm4v_key_place(&p, json_object_get(root, "vision_config"), CONFIG ": vision_config");
    if ((rc = glm4v_key_int(&p, "hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 16 },
                            &v->hidden, err)) ||
        (rc = glm4v_key_int(&p, "num_hidden_layers", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &v->layers, err)) ||
        (rc = glm4v_key_int(&p, "num_heads", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 }, &v->heads,
                            err)) ||
        (rc = glm4v_key_int(&p, "intermediate_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 18 },
                            &v->ffn, err)) ||
        (rc = glm4v_key_int(&p, "patch_size", GLM4V_REQUIRED, (glm4v_range) { 1, 64 }, &v->patch,
                            err)) ||
        (rc = glm4v_key_int(&p, "image_size", GLM4V_REQUIRED, (glm4v_range) { 1, GLM4V_MAX_SIDE },
                            &c->image.side, err)) ||
        (rc = glm4v_key_int(&p, "num_positions", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 17 },
                            &positions, err)) ||
        (rc = glm4v_key_double(&p, "layer_norm_eps", GLM4V_OPTIONAL, (glm4v_interval) { 0, 1 },
                               &eps, err)) ||
        (rc = glm4v_key_double(&p, "scaling_factor", GLM4V_REQUIRED, (glm4v_interval) { 1e-3, 1e6 },
                               &divisor, err)) ||
        (rc = glm4v_key_expect_int(&p, "in_channels", GLM4V_CHANNELS, err)) ||
        (rc = glm4v_key_expect_string(&p, "hidden_act", "gelu", err)) ||
        (rc =
             glm4v_key_divides(v->heads, v->hidden, "num_heads", "hidden_size", p.label[0], err)) ||
        (rc = glm4v_key_divides(v->patch, c->image.side, "patch_size", "image_size", p.label[0],
                                err)))
        return rc;
    v->head_dim = v->hidden / v->heads;
    v->table_side = c->image.side / v->patch;
    v->merger_ffn = c->text.ffn;
    v->out_hidden = c->text.hidden;
    v->norm_eps = (float)eps;
    v->divisor = (float)divisor;
    return check_table(v, positions, err);
}

/* The pad token is the placeholder between the two image tokens. */
static int read_ids(glm4v_config *c, const glm4v_places *p, glm4v_error *err)
{
    c->image_id = c->image_start_id = c->image_end_id = -1; /* found by the tokenizer's name */
    c->video_id = c->video_start_id = c->video_end_id = -1; /* this model accepts no clips */
    int rc = glm4v_key_id(p, "pad_token_id", c->text.vocab, &c->image_id, err);
    if (!rc)
        rc = glm4v_key_id(p, "boi_token_id", c->text.vocab, &c->image_start_id, err);
    return rc ? rc : glm4v_key_id(p, "eoi_token_id", c->text.vocab, &c->image_end_id, err);
}

int glm4v_config_read_chatglm4v(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    glm4v_places p = { .n = 0 };
    glm4v_key_place(&p, root, CONFIG);
    int rc = read_text(c, &p, err);
    if (!rc)
        rc = read_vision(c, root, err);
    if (!rc)
        rc = read_ids(c, &p, err);
    if (rc)
        return rc;
    /* the model brings no file with its processor's settings: mean and std are the common ones */
    c->image.min_pixels = c->image.max_pixels = c->image.side * c->image.side;
    c->video = c->image;
    return 0;
}
