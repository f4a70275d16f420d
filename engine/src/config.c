/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Configuration files to one checked struct. Two layouts of config.json and several spellings of
 * the same keys exist; each key is looked up in a short list of places, first found wins. No
 * default stands for a size: what decides a tensor's shape must be in the file. */
#define _GNU_SOURCE
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "json.h"
#include "mem.h"

#define CONFIG "config.json"
#define MAX_PLACES 6

/* Where a key may stand, most significant first. */
typedef struct {
    const json_t *object[MAX_PLACES];
    const char *label[MAX_PLACES]; /* for messages */
    int n;
} places;

static void add_place(places *p, const json_t *object, const char *label)
{
    if (!json_is_object(object))
        return;
    p->object[p->n] = object;
    p->label[p->n++] = label;
}

/* The first place that has the key with a value other than null; -1 if none. */
static int find(const places *p, const char *key)
{
    for (int i = 0; i < p->n; i++) {
        const json_t *v = json_object_get(p->object[i], key);
        if (v && !json_is_null(v))
            return i;
    }
    return -1;
}

static int missing(const places *p, const char *key, glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%s\" is missing", p->n ? p->label[0] : CONFIG,
                      key);
}

typedef enum { OPTIONAL, REQUIRED } need;

static int get_int(const places *p, const char *key, need needed, int32_t min, int32_t max,
                   int32_t *value, glm4v_error *err)
{
    int64_t v = *value;
    int at = find(p, key);
    if (at < 0)
        return needed == REQUIRED ? missing(p, key, err) : 0;
    int rc = glm4v_json_int(p->object[at], p->label[at], key, min, max, &v, err);
    if (!rc)
        *value = (int32_t)v;
    return rc;
}

static int get_double(const places *p, const char *key, need needed, double min, double max,
                      double *value, glm4v_error *err)
{
    int at = find(p, key);
    if (at < 0)
        return needed == REQUIRED ? missing(p, key, err) : 0;
    return glm4v_json_double(p->object[at], p->label[at], key, min, max, value, err);
}

static int get_string(const places *p, const char *key, const char **value, glm4v_error *err)
{
    int at = find(p, key);
    return at < 0 ? 0 : glm4v_json_string(p->object[at], p->label[at], key, value, err);
}

static int get_bool(const places *p, const char *key, bool *value, glm4v_error *err)
{
    int at = find(p, key);
    return at < 0 ? 0 : glm4v_json_bool(p->object[at], p->label[at], key, value, err);
}

/* A key that may only have one value, as nothing else is built in. */
static int expect_string(const places *p, const char *key, const char *expected, glm4v_error *err)
{
    const char *value = expected;
    int rc = get_string(p, key, &value, err);
    if (!rc && strcmp(value, expected))
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                        "%s: \"%s\" is \"%.60s\", this architecture has \"%s\"", p->label[0], key,
                        value, expected);
    return rc;
}

static int expect_int(const places *p, const char *key, int32_t expected, glm4v_error *err)
{
    int32_t value = expected;
    int rc = get_int(p, key, OPTIONAL, INT32_MIN, INT32_MAX, &value, err);
    if (!rc && value != expected)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" is %d, expected %d", p->label[0],
                        key, value, expected);
    return rc;
}

static int divides(int32_t part, int32_t whole, const char *part_key, const char *whole_key,
                   const char *label, glm4v_error *err)
{
    if (whole % part == 0)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%s\" %d is no multiple of \"%s\" %d", label,
                      whole_key, whole, part_key, part);
}

/* ---- rotary embedding of the text model ---- */

static int read_mrope(glm4v_text_config *t, const places *rope, glm4v_error *err)
{
    static const int32_t usual[3] = { 8, 12, 12 };
    const json_t *list = NULL;
    int at = find(rope, "mrope_section"), sum = 0;
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
        const json_t *v = json_array_get(list, (size_t)i);
        int64_t n = !list ? usual[i] : json_is_integer(v) ? json_integer_value(v) : -1;
        if (n < 0 || n > 4096)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              CONFIG ": value %d of \"mrope_section\" is no number of "
                                     "frequencies",
                              i);
        t->mrope[i] = (int32_t)n;
        sum += t->mrope[i];
    }
    if (2 * sum != t->rotary_dim)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"mrope_section\" %s to %d frequencies, expected %d, half "
                                 "of the rotary dimensions",
                          list ? "adds up" : "is missing; its default adds up", sum,
                          t->rotary_dim / 2);
    return 0;
}

static int read_rope(glm4v_text_config *t, const json_t *root, const json_t *text, glm4v_error *err)
{
    places rope = { .n = 0 };
    add_place(&rope, json_object_get(text, "rope_parameters"),
              CONFIG ": text_config.rope_parameters");
    add_place(&rope, json_object_get(text, "rope_scaling"), CONFIG ": text_config.rope_scaling");
    add_place(&rope, text, CONFIG ": text_config");
    add_place(&rope, json_object_get(root, "rope_parameters"), CONFIG ": rope_parameters");
    add_place(&rope, json_object_get(root, "rope_scaling"), CONFIG ": rope_scaling");
    add_place(&rope, root, CONFIG);
    static const char *const spellings[] = { "rope_type", "type" };
    for (int i = 0; i < 2; i++) {
        const char *type = "default";
        int rc = get_string(&rope, spellings[i], &type, err);
        if (rc)
            return rc;
        if (strcmp(type, "default") && strcmp(type, "mrope"))
            return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                              CONFIG ": rope type \"%.40s\" is not built in, only "
                                     "\"default\"",
                              type);
    }
    double theta = 10000, factor = 0.5;
    int rc;
    if ((rc = get_double(&rope, "rope_theta", OPTIONAL, 1, 1e12, &theta, err)) ||
        (rc = get_double(&rope, "partial_rotary_factor", OPTIONAL, 0, 1, &factor, err)))
        return rc;
    t->rope_theta = theta;
    t->rotary_dim = (int32_t)(t->head_dim * factor);
    if (t->rotary_dim < 2 || t->rotary_dim % 2)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"partial_rotary_factor\" %g of head size %d gives %d rotary "
                                 "dimensions, expected an even number",
                          factor, t->head_dim, t->rotary_dim);
    return read_mrope(t, &rope, err);
}

/* ---- text and vision ---- */

static int read_text(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    glm4v_text_config *t = &c->text;
    const json_t *text = NULL;
    int rc = glm4v_json_object(root, CONFIG, "text_config", &text, err);
    if (rc)
        return rc;
    places p = { .n = 0 }, outer = { .n = 0 };
    add_place(&p, text, CONFIG ": text_config");
    add_place(&p, root, CONFIG);
    add_place(&outer, root, CONFIG);
    add_place(&outer, text, CONFIG ": text_config");
    double eps = 1e-5;
    if ((rc = get_int(&p, "vocab_size", REQUIRED, 1, 1 << 21, &t->vocab, err)) ||
        (rc = get_int(&p, "hidden_size", REQUIRED, 1, 1 << 16, &t->hidden, err)) ||
        (rc = get_int(&p, "intermediate_size", REQUIRED, 1, 1 << 18, &t->ffn, err)) ||
        (rc = get_int(&p, "num_hidden_layers", REQUIRED, 1, 1024, &t->layers, err)) ||
        (rc = get_int(&p, "num_attention_heads", REQUIRED, 1, 1024, &t->heads, err)) ||
        (rc = get_int(&p, "num_key_value_heads", REQUIRED, 1, 1024, &t->kv_heads, err)) ||
        (rc = get_int(&p, "head_dim", OPTIONAL, 1, 1024, &t->head_dim, err)) ||
        (rc = get_int(&p, "max_position_embeddings", REQUIRED, 1, 1 << 24, &t->context, err)) ||
        (rc = get_double(&p, "rms_norm_eps", OPTIONAL, 0, 1, &eps, err)) ||
        (rc = get_bool(&outer, "tie_word_embeddings", &t->tied, err)) ||
        (rc = expect_string(&p, "hidden_act", "silu", err)) ||
        (rc = divides(t->kv_heads, t->heads, "num_key_value_heads", "num_attention_heads",
                      p.label[0], err)))
        return rc;
    if (!t->head_dim) {
        if ((rc = divides(t->heads, t->hidden, "num_attention_heads", "hidden_size", p.label[0],
                          err)))
            return rc;
        t->head_dim = t->hidden / t->heads;
    }
    t->norm_eps = (float)eps;
    t->tied_by_default = find(&outer, "tie_word_embeddings") < 0;
    t->qkv_bias = true; /* of the architecture, whatever attention_bias says */
    return read_rope(t, root, text, err);
}

static int read_vision(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    glm4v_vision_config *v = &c->vision;
    const json_t *vision = NULL;
    int rc = glm4v_json_object(root, CONFIG, "vision_config", &vision, err);
    if (rc)
        return rc;
    if (!vision)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          CONFIG ": has no \"vision_config\": a text model");
    places p = { .n = 0 };
    add_place(&p, vision, CONFIG ": vision_config");
    double eps = 1e-5;
    int32_t image_size = 0;
    v->channels = 3, v->temporal = 2, v->merge = 2;
    if ((rc = get_int(&p, "hidden_size", REQUIRED, 1, 1 << 16, &v->hidden, err)) ||
        (rc = get_int(&p, "depth", REQUIRED, 1, 1024, &v->layers, err)) ||
        (rc = get_int(&p, "num_heads", REQUIRED, 1, 1024, &v->heads, err)) ||
        (rc = get_int(&p, "out_hidden_size", REQUIRED, 1, 1 << 16, &v->out_hidden, err)) ||
        (rc = get_int(&p, "intermediate_size", REQUIRED, 1, 1 << 18, &v->merger_ffn, err)) ||
        (rc = get_int(&p, "patch_size", REQUIRED, 1, 64, &v->patch, err)) ||
        (rc = get_int(&p, "image_size", REQUIRED, 1, 16384, &image_size, err)) ||
        (rc = get_int(&p, "temporal_patch_size", OPTIONAL, 1, 8, &v->temporal, err)) ||
        (rc = get_int(&p, "spatial_merge_size", OPTIONAL, 1, 8, &v->merge, err)) ||
        (rc = get_double(&p, "rms_norm_eps", OPTIONAL, 0, 1, &eps, err)) ||
        (rc = expect_int(&p, "in_channels", v->channels, err)) ||
        (rc = expect_string(&p, "hidden_act", "silu", err)) ||
        (rc = divides(v->heads, v->hidden, "num_heads", "hidden_size", p.label[0], err)) ||
        (rc = divides(v->patch, image_size, "patch_size", "image_size", p.label[0], err)))
        return rc;
    v->head_dim = v->hidden / v->heads;
    v->table_side = image_size / v->patch;
    v->ffn =
        v->out_hidden; /* the name trap of this architecture: intermediate_size is the merger's */
    v->norm_eps = (float)eps;
    if (v->head_dim % 4 || v->head_dim > 1024 || v->table_side > 256)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG
                          ": vision_config: a head size of %d and a position table of "
                          "%d x %d, expected a multiple of 4 up to 1024 and at most 256 x 256",
                          v->head_dim, v->table_side, v->table_side);
    if (v->out_hidden != c->text.hidden)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": vision_config: \"out_hidden_size\" is %d, expected %d, the "
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
    places p = { .n = 0 };
    add_place(&p, root,
              CONFIG); /* the top level counts; text_config repeats them, at times wrongly */
    add_place(&p, json_object_get(root, "text_config"), CONFIG ": text_config");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        *ids[i].id = -1; /* found by the tokenizer's name later */
        int rc = get_int(&p, ids[i].key, OPTIONAL, 0, c->text.vocab - 1, ids[i].id, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_stop(glm4v_config *c, const json_t *value, const char *label, glm4v_error *err)
{
    int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= c->text.vocab)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"eos_token_id\" must be an id below %d or a list of such", label,
                          c->text.vocab);
    for (int i = 0; i < c->n_stop_ids; i++)
        if (c->stop_ids[i] == id)
            return 0;
    if (c->n_stop_ids == GLM4V_MAX_STOP_IDS)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"eos_token_id\" names more than %d different ids", label,
                          GLM4V_MAX_STOP_IDS);
    c->stop_ids[c->n_stop_ids++] = (int32_t)id;
    return 0;
}

/* Add one place's eos_token_id, a number or a list, to the union. */
static int add_stops(glm4v_config *c, const json_t *object, const char *label, glm4v_error *err)
{
    const json_t *value = json_object_get(object, "eos_token_id");
    int rc = 0;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value))
        return add_stop(c, value, label, err);
    for (size_t i = 0; !rc && i < json_array_size(value); i++)
        rc = add_stop(c, json_array_get(value, i), label, err);
    return rc;
}

/* ---- config.json ---- */

/* GLM-4.1V's own settings, also the reference's defaults for clips. */
static const glm4v_processor_config default_image = {
    .min_pixels = 12544,
    .max_pixels = 9633792,
    .mean = { 0.48145466, 0.4578275, 0.40821073 },
    .std = { 0.26862954, 0.26130258, 0.27577711 },
};
#define DEFAULT_VIDEO_PIXELS 47040000
#define DEFAULT_VIDEO_FPS 2

static void default_processors(glm4v_config *c)
{
    c->image = c->video = default_image;
    c->video.max_pixels = DEFAULT_VIDEO_PIXELS;
    c->video_fps = DEFAULT_VIDEO_FPS;
}

static int read_family(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    const char *type = NULL;
    int rc = glm4v_json_string(root, CONFIG, "model_type", &type, err);
    if (rc)
        return rc;
    if (!type)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": \"model_type\" is missing; is it a model's configuration?");
    bool vision = json_is_object(json_object_get(root, "vision_config"));
    c->family = GLM4V_FAMILY_GLM4V;
    if (!strcmp(type, "glm4v") || !strcmp(type, "glm46v"))
        return 0;
    if (!strcmp(type, "chatglm") && vision)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          CONFIG ": family chatglm4v (GLM-4V-9B) is not built in yet");
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      CONFIG ": \"model_type\" is \"%.60s\", expected \"glm4v\" or "
                             "\"glm46v\"",
                      type);
}

static int read_config(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    const json_t *quantized = NULL;
    int rc;
    default_processors(c);
    if (!json_is_object(root))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, CONFIG ": is not an object");
    if ((rc = read_family(c, root, err)) ||
        (rc = glm4v_json_object(root, CONFIG, "quantization_config", &quantized, err)))
        return rc;
    if (quantized) {
        const char *method = "unnamed";
        rc = glm4v_json_string(quantized, CONFIG ": quantization_config", "quant_method", &method,
                               err);
        return rc ? rc
                  : glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                               CONFIG ": weights quantized by \"%.60s\" are not read; "
                                      "take the unquantized checkpoint and the option quantization",
                               method);
    }
    if ((rc = read_text(c, root, err)) || (rc = read_vision(c, root, err)) ||
        (rc = read_ids(c, root, err)))
        return rc;
    rc = add_stops(c, root, CONFIG, err);
    return rc ? rc
              : add_stops(c, json_object_get(root, "text_config"), CONFIG ": text_config", err);
}

static int read_main(glm4v_config *config, const char *dir, const char *name, glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_json_read(&root, dir, name, &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = read_config(config, root, err);
    json_decref(root);
    return rc;
}

static int read_generation(glm4v_config *config, const char *dir, glm4v_error *err)
{
    static const char name[] = "generation_config.json";
    json_t *root = NULL;
    int rc = glm4v_json_read(&root, dir, name, &GLM4V_JSON_CONFIG, err);
    if (rc == GLM4V_ERR_NOT_FOUND) /* not every model brings one */
        return 0;
    if (!rc)
        rc = add_stops(config, root, name, err);
    json_decref(root);
    return rc;
}

/* ---- processor ---- */

static int read_three(const places *p, const char *key, double min, double max, double value[3],
                      glm4v_error *err)
{
    const json_t *list = NULL;
    int at = find(p, key);
    if (at < 0)
        return missing(p, key, err);
    int rc = glm4v_json_array(p->object[at], p->label[at], key, &list, err);
    for (size_t i = 0; !rc && i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        double d = json_number_value(v);
        if (json_array_size(list) != 3 || !json_is_number(v) || !isfinite(d) || d < min || d > max)
            rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%s\" must be three numbers from %g to %g",
                            p->label[at], key, min, max);
        else
            value[i] = d;
    }
    return rc;
}

/* Steps that this engine always takes; a file that turns one off means other pictures than we would
 * make. */
static int check_steps(const places *p, glm4v_error *err)
{
    static const char *const keys[] = { "do_resize", "do_rescale", "do_normalize" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool on = true;
        int rc = get_bool(p, keys[i], &on, err);
        if (rc)
            return rc;
        if (!on)
            return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" false is not built in",
                              p->label[0], keys[i]);
    }
    double factor = 1.0 / 255;
    int rc = get_double(p, "rescale_factor", OPTIONAL, 0, 1, &factor, err);
    if (!rc && fabs(factor * 255 - 1) > 1e-6)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"rescale_factor\" is %g, expected 1/255",
                        p->label[0], factor);
    return rc ? rc : expect_int(p, "resample", 3, err); /* 3: bicubic */
}

static int read_pixels(glm4v_processor_config *out, const places *p, const json_t *object,
                       glm4v_error *err)
{
    const double most = 0x1p40;
    double min = 0, max = 0;
    places size = { .n = 0 };
    add_place(&size, json_object_get(object, "size"), p->label[0]);
    int rc;
    if (size.n)
        rc = get_double(&size, "shortest_edge", REQUIRED, 1, most, &min, err);
    else
        rc = get_double(p, "min_pixels", REQUIRED, 1, most, &min, err);
    if (!rc && size.n)
        rc = get_double(&size, "longest_edge", REQUIRED, 1, most, &max, err);
    else if (!rc)
        rc = get_double(p, "max_pixels", REQUIRED, 1, most, &max, err);
    if (!rc && min > max)
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT,
                        "%s: the smallest size %.0f exceeds the largest %.0f pixels", p->label[0],
                        min, max);
    out->min_pixels = (uint64_t)min;
    out->max_pixels = (uint64_t)max;
    return rc;
}

static int read_processor(glm4v_config *c, glm4v_processor_config *out, const json_t *object,
                          const char *label, glm4v_error *err)
{
    places p = { .n = 0 };
    int rc;
    if (!json_is_object(object))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: is not an object", label);
    add_place(&p, object, label);
    if ((rc = read_pixels(out, &p, object, err)) ||
        (rc = read_three(&p, "image_mean", -10, 10, out->mean, err)) ||
        (rc = read_three(&p, "image_std", 1e-6, 100, out->std, err)) || (rc = check_steps(&p, err)))
        return rc;
    const struct {
        const char *key;
        int32_t expected;
    } same[] = { { "patch_size", c->vision.patch },
                 { "temporal_patch_size", c->vision.temporal },
                 { "merge_size", c->vision.merge } };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        int32_t value = same[i].expected;
        if ((rc = get_int(&p, same[i].key, OPTIONAL, INT32_MIN, INT32_MAX, &value, err)))
            return rc;
        if (value != same[i].expected)
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%s\" is %d, expected %d from " CONFIG,
                              label, same[i].key, value, same[i].expected);
    }
    return 0;
}

/* A processor's settings stand in a file of their own, or (saved by newer tools) inside
 * processor_config.json. *root stays NULL where there is neither. */
static int open_processor(json_t **root, const json_t **object, const char **label, const char *dir,
                          bool video, glm4v_error *err)
{
    *label = video ? "video_preprocessor_config.json" : "preprocessor_config.json";
    int rc = glm4v_json_read(root, dir, *label, &GLM4V_JSON_CONFIG, err);
    if (rc != GLM4V_ERR_NOT_FOUND) {
        *object = *root;
        return rc;
    }
    *label = "processor_config.json";
    const char *key = video ? "video_processor" : "image_processor";
    rc = glm4v_json_read(root, dir, *label, &GLM4V_JSON_CONFIG, err);
    if (rc == GLM4V_ERR_NOT_FOUND)
        return 0;
    *object = NULL;
    return rc ? rc : glm4v_json_object(*root, *label, key, object, err);
}

static int read_processors(glm4v_config *c, const char *dir, glm4v_error *err)
{
    json_t *root = NULL;
    const json_t *object = NULL;
    const char *label = NULL;
    int rc = open_processor(&root, &object, &label, dir, false, err);
    if (!rc && !object)
        rc = glm4v_fail(err, GLM4V_ERR_NOT_FOUND,
                        "%s: has no preprocessor_config.json; is the download complete?", dir);
    if (!rc)
        rc = read_processor(c, &c->image, object, label, err);
    json_decref(root);
    root = NULL, object = NULL;
    c->video = c->image; /* where the model brings no settings for clips */
    c->video.max_pixels = DEFAULT_VIDEO_PIXELS;
    if (!rc)
        rc = open_processor(&root, &object, &label, dir, true, err);
    if (!rc && object)
        rc = read_processor(c, &c->video, object, label, err);
    if (!rc && object)
        rc = glm4v_json_double(object, label, "fps", 0.01, 1000, &c->video_fps, err);
    json_decref(root);
    return rc;
}

/* ---- entry points ---- */

int glm4v_config_read(glm4v_config *config, const char *dir, bool with_processor, glm4v_error *err)
{
    glm4v_config c = { 0 };
    int rc = read_main(&c, dir, CONFIG, err);
    if (!rc)
        rc = read_generation(&c, dir, err);
    if (!rc && with_processor)
        rc = read_processors(&c, dir, err);
    if (!rc)
        *config = c;
    return rc;
}

int glm4v_config_read_file(glm4v_config *config, const char *path, glm4v_error *err)
{
    glm4v_config c = { 0 };
    const char *slash = strrchr(path, '/');
    char *dir = glm4v_strdup(slash ? path : ".");
    if (!dir)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a path");
    if (slash)
        dir[slash - path + (slash == path)] = 0;
    int rc = read_main(&c, dir, slash ? slash + 1 : path, err);
    glm4v_free(dir);
    if (!rc)
        *config = c;
    return rc;
}

int glm4v_config_parse(glm4v_config *config, const char *text, size_t len, glm4v_error *err)
{
    glm4v_config c = { 0 };
    json_t *root = NULL;
    int rc = glm4v_json_parse(&root, text, len, CONFIG, &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = read_config(&c, root, err);
    json_decref(root);
    if (!rc)
        *config = c;
    return rc;
}
