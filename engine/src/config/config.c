/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Configuration files to one checked struct: which family it is, what all families have in common
 * (stop ids), and the entry points. Sizes are read by the family's own file. */
#include "config/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "config/family.h"
#include "config/identify.h"
#include "config/keys.h"

/* ---- stop ids ---- */

static int add_stop(glm4v_config *c, const json_t *value, const char *label, glm4v_error *err)
{
    int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= c->text.vocab)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"eos_token_id\" must be an id below %" PRId64 " or a list of such",
                          label, c->text.vocab);
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

static bool has_type(const glm4v_family_traits *family, const char *type)
{
    for (int i = 0; i < GLM4V_MAX_TYPES && family->types[i]; i++)
        if (!strcmp(type, family->types[i]))
            return true;
    return false;
}

/* A model of none of the families, by its name where that is known, and what is expected. */
static int unknown_type(const char *type, glm4v_error *err)
{
    const char *other = glm4v_identify_type(type);
    char types[128] = "", models[128] = "";
    size_t t = 0, m = 0;
    for (int f = 0; f < GLM4V_N_FAMILIES; f++) {
        const glm4v_family_traits *family = glm4v_family_of((glm4v_family)f);
        const bool last = f + 1 == GLM4V_N_FAMILIES;
        const char *join = last ? " or " : ", ";
        for (int i = 0; i < GLM4V_MAX_TYPES && family->types[i] && t < sizeof types; i++) {
            const char *separator = i ? ", " : join;
            t += snprintf(types + t, sizeof types - t, "%s\"%s\"", t ? separator : "",
                          family->types[i]);
        }
        if (m < sizeof models)
            m += snprintf(models + m, sizeof models - m, "%s%s", m ? join : "", family->models);
    }
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      CONFIG ": \"model_type\" is \"%.60s\"%s%s, expected %s: %s", type,
                      other ? ", " : "", other ? other : "", types, models);
}

static int read_family(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    const char *type = NULL;
    int rc = glm4v_json_string(root, CONFIG, "model_type", &type, err);
    if (rc)
        return rc;
    const json_t *message = json_object_get(root, "error");
    if (!type && json_is_string(message))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          CONFIG ": is a server's reply instead of the file: \"%.200s\"; check "
                                 "your access to the model and download it again",
                          json_string_value(message));
    if (!type)
        return glm4v_fail(
            err, GLM4V_ERR_FORMAT,
            CONFIG ": \"model_type\" is missing; check that this is the configuration of a model");
    const glm4v_family_traits *family = NULL;
    for (int i = 0; i < GLM4V_N_FAMILIES && !family; i++)
        if (has_type(glm4v_family_of((glm4v_family)i), type)) {
            c->family = (glm4v_family)i;
            family = glm4v_family_of(c->family);
        }
    if (!family)
        return unknown_type(type, err);
    c->steady_clips = family->steady && !strcmp(type, family->steady);
    if (family->text_only && !json_is_object(json_object_get(root, "vision_config")))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          CONFIG ": %s, expected a vision model such as %s", family->text_only,
                          family->models);
    return 0;
}

static int read_config(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    int rc;
    glm4v_config_default_processors(c);
    if (!json_is_object(root))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, CONFIG ": is not an object");
    if ((rc = read_family(c, root, err)))
        return rc;
    rc = glm4v_family_of(c->family)->read(c, root, err);
    if (!rc)
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

int32_t *glm4v_media_id(glm4v_config *c, glm4v_media media)
{
    switch (media) {
    case GLM4V_MEDIA_IMAGE:
        return &c->image_id;
    case GLM4V_MEDIA_IMAGE_START:
        return &c->image_start_id;
    case GLM4V_MEDIA_IMAGE_END:
        return &c->image_end_id;
    case GLM4V_MEDIA_VIDEO:
        return &c->video_id;
    case GLM4V_MEDIA_VIDEO_START:
        return &c->video_start_id;
    case GLM4V_MEDIA_VIDEO_END:
        return &c->video_end_id;
    case GLM4V_N_MEDIA:
        break;
    }
    return NULL;
}

/* ---- entry points ---- */

int glm4v_config_read(glm4v_config *config, const char *dir, bool with_processor, glm4v_error *err)
{
    glm4v_config c = { 0 };
    int rc = read_main(&c, dir, CONFIG, err);
    if (!rc)
        rc = read_generation(&c, dir, err);
    if (!rc && with_processor && glm4v_family_of(c.family)->processor_files)
        rc = glm4v_config_read_processors(&c, dir, err);
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
