/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settings of the picture and clip processors: preprocessor_config.json and
 * video_preprocessor_config.json, or processor_config.json that newer tools save. */
#include <inttypes.h>
#include <math.h>

#include "base/error.h"
#include "config/keys.h"

/* GLM-4.1V's own settings, also the reference's defaults for clips. */
static const glm4v_processor_config default_image = {
    .min_pixels = 12544,
    .max_pixels = 9633792,
    .mean = { 0.48145466, 0.4578275, 0.40821073 },
    .std = { 0.26862954, 0.26130258, 0.27577711 },
};
#define DEFAULT_VIDEO_PIXELS 47040000
#define DEFAULT_VIDEO_FPS 2

void glm4v_config_default_processors(glm4v_config *c)
{
    c->image = c->video = default_image;
    c->video.max_pixels = DEFAULT_VIDEO_PIXELS;
    c->video_fps = DEFAULT_VIDEO_FPS;
}

static int read_three(const glm4v_places *p, const char *key, double min, double max,
                      double value[3], glm4v_error *err)
{
    const json_t *list = NULL;
    int at = glm4v_key_find(p, key);
    if (at < 0)
        return glm4v_key_missing(p, key, err);
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
static int check_steps(const glm4v_places *p, glm4v_error *err)
{
    static const char *const keys[] = { "do_resize", "do_rescale", "do_normalize" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool on = true;
        int rc = glm4v_key_bool(p, keys[i], &on, err);
        if (rc)
            return rc;
        if (!on)
            return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" false is not supported",
                              p->label[0], keys[i]);
    }
    double factor = 1.0 / 255;
    int rc = glm4v_key_double(p, "rescale_factor", GLM4V_OPTIONAL, (glm4v_interval) { 0, 1 },
                              &factor, err);
    if (!rc && fabs(factor * 255 - 1) > 1e-6)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"rescale_factor\" is %g, expected 1/255",
                        p->label[0], factor);
    return rc ? rc : glm4v_key_expect_int(p, "resample", 3, err); /* 3: bicubic */
}

static int read_pixels(glm4v_processor_config *out, const glm4v_places *p, const json_t *object,
                       glm4v_error *err)
{
    const double most = 0x1p40;
    double min = 0, max = 0;
    glm4v_places size = { .n = 0 };
    glm4v_key_place(&size, json_object_get(object, "size"), p->label[0]);
    int rc;
    if (size.n)
        rc = glm4v_key_double(&size, "shortest_edge", GLM4V_REQUIRED, (glm4v_interval) { 1, most },
                              &min, err);
    else
        rc = glm4v_key_double(p, "min_pixels", GLM4V_REQUIRED, (glm4v_interval) { 1, most }, &min,
                              err);
    if (!rc && size.n)
        rc = glm4v_key_double(&size, "longest_edge", GLM4V_REQUIRED, (glm4v_interval) { 1, most },
                              &max, err);
    else if (!rc)
        rc = glm4v_key_double(p, "max_pixels", GLM4V_REQUIRED, (glm4v_interval) { 1, most }, &max,
                              err);
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
    glm4v_places p = { .n = 0 };
    int rc;
    if (!json_is_object(object))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: is not an object", label);
    glm4v_key_place(&p, object, label);
    if ((rc = read_pixels(out, &p, object, err)) ||
        (rc = read_three(&p, "image_mean", -10, 10, out->mean, err)) ||
        (rc = read_three(&p, "image_std", 1e-6, 100, out->std, err)) || (rc = check_steps(&p, err)))
        return rc;
    const struct {
        const char *key;
        int64_t expected;
    } same[] = { { "patch_size", c->vision.patch },
                 { "temporal_patch_size", c->vision.temporal },
                 { "merge_size", c->vision.merge } };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        int64_t value = same[i].expected;
        if ((rc = glm4v_key_int(&p, same[i].key, GLM4V_OPTIONAL,
                                (glm4v_range) { INT32_MIN, INT32_MAX }, &value, err)))
            return rc;
        if (value != same[i].expected)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: \"%s\" is %" PRId64 ", expected %" PRId64 " from " CONFIG, label,
                              same[i].key, value, same[i].expected);
    }
    return 0;
}

/* A processor's settings are in a file of their own, or (saved by newer tools) inside
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

int glm4v_config_read_processors(glm4v_config *c, const char *dir, glm4v_error *err)
{
    json_t *root = NULL;
    const json_t *object = NULL;
    const char *label = NULL;
    int rc = open_processor(&root, &object, &label, dir, false, err);
    if (!rc && !object)
        rc = glm4v_fail(err, GLM4V_ERR_NOT_FOUND,
                        "%s: has no preprocessor_config.json; the download may be incomplete", dir);
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
        rc = glm4v_json_double(object, label, "fps", (glm4v_interval) { 0.01, 1000 }, &c->video_fps,
                               err);
    json_decref(root);
    return rc;
}
