/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config.json of family glm4v and its relatives. Two layouts (text keys at the top level, or inside
 * text_config) and several spellings of the same keys exist. There is no default for a size: what
 * determines a tensor's shape must be in the file. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "config/keys.h"

/* ---- rotary embedding of the text model ---- */

static int read_mrope(glm4v_text_config *t, const glm4v_places *rope, glm4v_error *err)
{
    static const int64_t usual[3] = { 8, 12, 12 };
    const json_t *list = NULL;
    int at = glm4v_key_find(rope, "mrope_section");
    int64_t sum = 0;
    int rc = at < 0
                 ? 0
                 : glm4v_json_array(rope->object[at], rope->label[at], "mrope_section", &list, err);
    if (rc)
        return rc;
    if (list && json_array_size(list) != 3)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"mrope_section\" has %zu values, expected 3",
                          json_array_size(list));
    for (int i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        int64_t n = list ? -1 : usual[i];
        if (json_is_integer(v))
            n = json_integer_value(v);
        if (n < 0 || n > 4096)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              CONFIG ": value %d of \"mrope_section\" is not a number of "
                                     "frequencies",
                              i);
        t->mrope[i] = n;
        sum += t->mrope[i];
    }
    if (2 * sum != t->rotary_dim)
        return glm4v_fail(
            err, GLM4V_ERR_FORMAT,
            CONFIG ": \"mrope_section\" %s to %" PRId64 " frequencies, expected %" PRId64 ", half "
                   "of the rotary dimensions",
            list ? "adds up" : "is missing; its default adds up", sum, t->rotary_dim / 2);
    return 0;
}

/* Of text: text_config, or NULL. factor: rotary part of a head where the file names none. */
static int read_rope(glm4v_text_config *t, const json_t *root, const json_t *text, double factor,
                     glm4v_error *err)
{
    glm4v_places rope = { .n = 0 };
    glm4v_key_place(&rope, json_object_get(text, "rope_parameters"),
                    CONFIG ": text_config.rope_parameters");
    glm4v_key_place(&rope, json_object_get(text, "rope_scaling"),
                    CONFIG ": text_config.rope_scaling");
    glm4v_key_place(&rope, text, CONFIG ": text_config");
    glm4v_key_place(&rope, json_object_get(root, "rope_parameters"), CONFIG ": rope_parameters");
    glm4v_key_place(&rope, json_object_get(root, "rope_scaling"), CONFIG ": rope_scaling");
    glm4v_key_place(&rope, root, CONFIG);
    static const char *const spellings[] = { "rope_type", "type" };
    for (int i = 0; i < 2; i++) {
        const char *type = "default";
        int rc = glm4v_key_string(&rope, spellings[i], &type, err);
        if (rc)
            return rc;
        if (strcmp(type, "default") && strcmp(type, "mrope"))
            return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                              CONFIG ": rope type \"%.40s\" is not supported, only "
                                     "\"default\"",
                              type);
    }
    double theta = 10000;
    int rc;
    if ((rc = glm4v_key_double(&rope, "rope_theta", GLM4V_OPTIONAL, (glm4v_interval) { 1, 1e12 },
                               &theta, err)) ||
        (rc = glm4v_key_double(&rope, "partial_rotary_factor", GLM4V_OPTIONAL,
                               (glm4v_interval) { 0, 1 }, &factor, err)))
        return rc;
    t->rope_theta = theta;
    t->rotary_dim = (int64_t)((double)t->head_dim * factor);
    if (t->rotary_dim < 2 || t->rotary_dim % 2)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"partial_rotary_factor\" %g of head size %" PRId64
                                 " gives %" PRId64 " rotary "
                                 "dimensions, expected an even number",
                          factor, t->head_dim, t->rotary_dim);
    return read_mrope(t, &rope, err);
}

/* ---- text and vision ---- */

/* Current transformers ties the head where either place says so. */
static int read_tied(glm4v_text_config *t, const json_t *root, const json_t *text, glm4v_error *err)
{
    static const char key[] = "tie_word_embeddings";
    glm4v_places outer = { .n = 0 }, inner = { .n = 0 }, both = { .n = 0 };
    bool inside = false;
    glm4v_key_place(&outer, root, CONFIG);
    glm4v_key_place(&inner, text, CONFIG ": text_config");
    glm4v_key_place(&both, root, CONFIG);
    glm4v_key_place(&both, text, CONFIG ": text_config");
    int rc = glm4v_key_bool(&outer, key, &t->tied, err);
    if (!rc)
        rc = glm4v_key_bool(&inner, key, &inside, err);
    t->tied |= inside;
    t->tied_by_default = glm4v_key_find(&both, key) < 0;
    return rc;
}

static int read_mtp(glm4v_text_config *t, const glm4v_places *p, glm4v_error *err)
{
    int64_t n = 0;
    int rc = glm4v_key_int(p, "num_nextn_predict_layers", GLM4V_OPTIONAL, (glm4v_range) { 0, 1024 },
                           &n, err);
    t->mtp = n > 0;
    return rc;
}

static int read_text(glm4v_config *c, const json_t *root, const glm4v_relative *relative,
                     glm4v_error *err)
{
    glm4v_text_config *t = &c->text;
    const json_t *text = NULL;
    int rc = glm4v_json_object(root, CONFIG, "text_config", &text, err);
    if (rc)
        return rc;
    glm4v_places p = { .n = 0 };
    glm4v_key_place(&p, text, CONFIG ": text_config");
    glm4v_key_place(&p, root, CONFIG);
    double eps = 1e-5;
    if ((rc = glm4v_key_int(&p, "vocab_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 21 },
                            &t->vocab, err)) ||
        (rc = glm4v_key_int(&p, "hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 16 },
                            &t->hidden, err)) ||
        (rc = glm4v_key_int(&p, "intermediate_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 18 },
                            &t->ffn, err)) ||
        (rc = glm4v_key_int(&p, "num_hidden_layers", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &t->layers, err)) ||
        (rc = glm4v_key_int(&p, "num_attention_heads", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &t->heads, err)) ||
        (rc = glm4v_key_int(&p, "num_key_value_heads", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 },
                            &t->kv_heads, err)) ||
        (rc = glm4v_key_int(&p, "head_dim", GLM4V_OPTIONAL, (glm4v_range) { 1, 1024 }, &t->head_dim,
                            err)) ||
        (rc = glm4v_key_int(&p, "max_position_embeddings", GLM4V_REQUIRED,
                            (glm4v_range) { 1, 1 << 24 }, &t->context, err)) ||
        (rc = glm4v_key_double(&p, "rms_norm_eps", GLM4V_OPTIONAL, (glm4v_interval) { 0, 1 }, &eps,
                               err)) ||
        (rc = read_tied(t, root, text, err)) || (relative->mtp && (rc = read_mtp(t, &p, err))) ||
        (rc = glm4v_key_expect_string(&p, "hidden_act", "silu", err)) ||
        (rc = glm4v_key_divides(t->kv_heads, t->heads, "num_key_value_heads", "num_attention_heads",
                                p.label[0], err)))
        return rc;
    if (!t->head_dim) {
        if ((rc = glm4v_key_divides(t->heads, t->hidden, "num_attention_heads", "hidden_size",
                                    p.label[0], err)))
            return rc;
        t->head_dim = t->hidden / t->heads;
    }
    t->norm_eps = (float)eps;
    t->qkv_bias = relative->qkv_bias; /* by the architecture; attention_bias is ignored */
    return read_rope(t, root, text, relative->rotary_factor, err);
}

static int read_vision_theta(glm4v_vision_config *v, const json_t *vision, glm4v_error *err)
{
    glm4v_places rope = { .n = 0 };
    v->rope_theta = 10000;
    glm4v_key_place(&rope, json_object_get(vision, "rope_parameters"),
                    CONFIG ": vision_config.rope_parameters");
    return glm4v_key_double(&rope, "rope_theta", GLM4V_OPTIONAL, (glm4v_interval) { 1, 1e12 },
                            &v->rope_theta, err);
}

static int read_vision(glm4v_config *c, const json_t *root, const glm4v_relative *relative,
                       glm4v_error *err)
{
    glm4v_vision_config *v = &c->vision;
    const json_t *vision = NULL;
    int rc = glm4v_json_object(root, CONFIG, "vision_config", &vision, err);
    if (rc)
        return rc;
    if (!vision)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          CONFIG ": has no \"vision_config\": a text model");
    glm4v_places p = { .n = 0 };
    glm4v_key_place(&p, vision, CONFIG ": vision_config");
    double eps = 1e-5;
    v->temporal = 2, v->merge = 2;
    if ((rc = glm4v_key_int(&p, "hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 16 },
                            &v->hidden, err)) ||
        (rc = glm4v_key_int(&p, "depth", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 }, &v->layers,
                            err)) ||
        (rc = glm4v_key_int(&p, "num_heads", GLM4V_REQUIRED, (glm4v_range) { 1, 1024 }, &v->heads,
                            err)) ||
        (rc = glm4v_key_int(&p, "out_hidden_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 16 },
                            &v->out_hidden, err)) ||
        (rc = glm4v_key_int(&p, "patch_size", GLM4V_REQUIRED, (glm4v_range) { 1, 64 }, &v->patch,
                            err)) ||
        (rc = glm4v_key_int(&p, "temporal_patch_size", GLM4V_OPTIONAL, (glm4v_range) { 1, 8 },
                            &v->temporal, err)) ||
        (rc = glm4v_key_int(&p, "spatial_merge_size", GLM4V_OPTIONAL, (glm4v_range) { 1, 8 },
                            &v->merge, err)) ||
        (rc = glm4v_key_double(&p, "rms_norm_eps", GLM4V_OPTIONAL, (glm4v_interval) { 0, 1 }, &eps,
                               err)) ||
        (rc = glm4v_key_expect_int(&p, "in_channels", GLM4V_CHANNELS, err)) ||
        (rc = glm4v_key_expect_string(&p, "hidden_act", "silu", err)) ||
        (rc =
             glm4v_key_divides(v->heads, v->hidden, "num_heads", "hidden_size", p.label[0], err)) ||
        (rc = read_vision_theta(v, vision, err)) || (rc = relative->tower(v, &p, err)))
        return rc;
    v->head_dim = v->hidden / v->heads;
    v->norm_eps = (float)eps;
    if (v->head_dim % 4 || v->head_dim > 1024 || v->table_side > 256)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": vision_config: a head size of %" PRId64
                                 " and a position table of "
                                 "%" PRId64 " x %" PRId64
                                 ", expected a multiple of 4 up to 1024 and at most 256 x 256",
                          v->head_dim, v->table_side, v->table_side);
    if (v->out_hidden != c->text.hidden)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": vision_config: \"out_hidden_size\" is %" PRId64
                                 ", expected %" PRId64 ", the "
                                 "text model's \"hidden_size\"",
                          v->out_hidden, c->text.hidden);
    return 0;
}

/* ---- token ids ---- */

static int read_ids(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        { "image_token_id", &c->image_id },
        { "video_token_id", &c->video_id },
        { "image_start_token_id", &c->image_start_id },
        { "image_end_token_id", &c->image_end_id },
        { "video_start_token_id", &c->video_start_id },
        { "video_end_token_id", &c->video_end_id },
    };
    glm4v_places p = { .n = 0 };
    glm4v_key_place(&p, root,
                    CONFIG); /* the top level counts; text_config repeats them, at times wrongly */
    glm4v_key_place(&p, json_object_get(root, "text_config"), CONFIG ": text_config");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        *ids[i].id = -1; /* found by the tokenizer's name later */
        int rc = glm4v_key_id(&p, ids[i].key, c->text.vocab, ids[i].id, err);
        if (rc)
            return rc;
    }
    return 0;
}

int glm4v_config_read_relative(glm4v_config *c, const json_t *root, const glm4v_relative *relative,
                               glm4v_error *err)
{
    int rc = read_text(c, root, relative, err);
    if (!rc)
        rc = read_vision(c, root, relative, err);
    return rc ? rc : read_ids(c, root, err);
}

/* The name trap of this architecture: intermediate_size is the merger's width. */
static int read_glm4v_tower(glm4v_vision_config *v, const glm4v_places *p, glm4v_error *err)
{
    int64_t image_size = 0;
    int rc;
    if ((rc = glm4v_key_int(p, "intermediate_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 18 },
                            &v->merger_ffn, err)) ||
        (rc = glm4v_key_int(p, "image_size", GLM4V_REQUIRED, (glm4v_range) { 1, GLM4V_MAX_SIDE },
                            &image_size, err)) ||
        (rc =
             glm4v_key_divides(v->patch, image_size, "patch_size", "image_size", p->label[0], err)))
        return rc;
    v->table_side = image_size / v->patch;
    v->ffn = v->out_hidden;
    v->conv_norm = true;
    return 0;
}

int glm4v_config_read_glm4v(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    static const glm4v_relative glm4v = { .qkv_bias = true,
                                          .rotary_factor = 0.5,
                                          .tower = read_glm4v_tower };
    return glm4v_config_read_relative(c, root, &glm4v, err);
}
