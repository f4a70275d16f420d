/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settings of the picture and clip processors. processor_config.json, which newer programs save,
 * goes before preprocessor_config.json and video_preprocessor_config.json, and of clips the latter
 * before the former, as in transformers 5. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

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
#define STEADY_VIDEO_PIXELS 87478720 /* of GLM-GA */

void glm4v_config_default_processors(glm4v_config *c)
{
    c->image = c->video = default_image;
    c->video.max_pixels = DEFAULT_VIDEO_PIXELS;
    c->video_fps = DEFAULT_VIDEO_FPS;
    c->video_most = GLM4V_MAX_FRAMES;
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
    if (!rc)
        rc = glm4v_key_expect_int(p, "resample", 3, err); /* 3: bicubic */
    return rc ? rc : glm4v_key_expect_int(p, "patch_expand_factor", 1, err);
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

static int read_processor(const glm4v_config *c, glm4v_processor_config *out, const json_t *object,
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

/* What one place says. */
typedef struct {
    glm4v_processor_config processor;
    double fps;
    int64_t most;
} settings;

static int read_settings(const glm4v_config *c, settings *s, bool video, const json_t *object,
                         const char *label, glm4v_error *err)
{
    int rc = read_processor(c, &s->processor, object, label, err);
    if (!rc && video)
        rc = glm4v_json_double(object, label, "fps", (glm4v_interval) { 0.01, 1000 }, &s->fps, err);
    if (!rc && video && c->steady_clips)
        rc = glm4v_json_int(object, label, "max_frames", (glm4v_range) { 1, INT32_MAX }, &s->most,
                            err);
    if (s->most > GLM4V_MAX_FRAMES)
        s->most = GLM4V_MAX_FRAMES;
    return rc;
}

static bool are_equal(const settings *a, const settings *b)
{
    const glm4v_processor_config *x = &a->processor, *y = &b->processor;
    return x->min_pixels == y->min_pixels && x->max_pixels == y->max_pixels &&
           !memcmp(x->mean, y->mean, sizeof x->mean) && !memcmp(x->std, y->std, sizeof x->std) &&
           a->fps == b->fps && a->most == b->most;
}

#define OF_PICTURES "preprocessor_config.json"
#define OF_CLIPS "video_preprocessor_config.json"

/* A file of its own: `name` is one of the two above. */
static int read_own(const glm4v_config *c, settings *s, const char *dir, bool video,
                    const char *name, glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_json_read(&root, dir, name, &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = read_settings(c, s, video, root, name, err);
    json_decref(root);
    return rc;
}

/* *replaced: the file of its own, if it says anything else than s, or nothing that can be read. */
static int compare_own(const glm4v_config *c, const settings *s, const char *dir, bool video,
                       const char **replaced, glm4v_error *err)
{
    const char *name = video ? OF_CLIPS : OF_PICTURES;
    settings own = *s;
    glm4v_error why = { 0 };
    const int rc = read_own(c, &own, dir, video, name, &why);
    if (rc == GLM4V_ERR_NOMEM && err)
        *err = why;
    else if (rc != GLM4V_ERR_NOT_FOUND && (rc || !are_equal(s, &own)))
        *replaced = name;
    return rc == GLM4V_ERR_NOMEM ? rc : 0;
}

/* Out of processor_config.json; NOT_FOUND: it has none. */
static int read_newer(const glm4v_config *c, settings *s, const char *dir, bool video,
                      glm4v_error *err)
{
    static const char name[] = "processor_config.json";
    const json_t *object = NULL;
    json_t *root = NULL;
    int rc = glm4v_json_read(&root, dir, name, &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = glm4v_json_object(root, name, video ? "video_processor" : "image_processor", &object,
                               err);
    if (!rc)
        rc = object ? read_settings(c, s, video, object, name, err) : GLM4V_ERR_NOT_FOUND;
    json_decref(root);
    return rc;
}

/* The first place that has them; NOT_FOUND: none has, *s is unchanged. *replaced: the file that
 * says otherwise and does not count, or NULL. */
static int read_first(const glm4v_config *c, settings *s, const char *dir, bool video,
                      const char **replaced, glm4v_error *err)
{
    *replaced = NULL;
    int rc = read_newer(c, s, dir, video, err);
    if (!rc)
        return compare_own(c, s, dir, video, replaced, err);
    if (rc == GLM4V_ERR_NOT_FOUND && video)
        rc = read_own(c, s, dir, video, OF_CLIPS, err);
    return rc == GLM4V_ERR_NOT_FOUND ? read_own(c, s, dir, video, OF_PICTURES, err) : rc;
}

int glm4v_config_read_processors(glm4v_config *c, const char *dir, glm4v_error *err)
{
    settings image = { c->image, c->video_fps, c->video_most };
    int rc = read_first(c, &image, dir, false, &c->replaced[0], err);
    if (rc == GLM4V_ERR_NOT_FOUND)
        return glm4v_fail(
            err, rc, "%s: has no preprocessor_config.json; the download may be incomplete", dir);
    if (rc)
        return rc;
    c->image = image.processor;
    /* where the model brings no settings for clips */
    settings video = image;
    video.processor.max_pixels = c->steady_clips ? STEADY_VIDEO_PIXELS : DEFAULT_VIDEO_PIXELS;
    rc = read_first(c, &video, dir, true, &c->replaced[1], err);
    if (rc && rc != GLM4V_ERR_NOT_FOUND)
        return rc;
    c->video = video.processor;
    c->video_fps = video.fps;
    c->video_most = video.most;
    return 0;
}
