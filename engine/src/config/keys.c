/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking up keys of configuration files: see config/keys.h. */
#include "config/keys.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

void glm4v_key_place(glm4v_places *p, const json_t *object, const char *label)
{
    if (!json_is_object(object))
        return;
    p->object[p->n] = object;
    p->label[p->n++] = label;
}

/* The first place that has the key with a value other than null; -1 if none. */
int glm4v_key_find(const glm4v_places *p, const char *key)
{
    for (int i = 0; i < p->n; i++) {
        const json_t *v = json_object_get(p->object[i], key);
        if (v && !json_is_null(v))
            return i;
    }
    return -1;
}

int glm4v_key_missing(const glm4v_places *p, const char *key, glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%s\" is missing", p->n ? p->label[0] : CONFIG,
                      key);
}

int glm4v_key_int(const glm4v_places *p, const char *key, glm4v_need needed, glm4v_range range,
                  int64_t *value, glm4v_error *err)
{
    int at = glm4v_key_find(p, key);
    if (at < 0)
        return needed == GLM4V_REQUIRED ? glm4v_key_missing(p, key, err) : 0;
    return glm4v_json_int(p->object[at], p->label[at], key, range, value, err);
}

int glm4v_key_id(const glm4v_places *p, const char *key, int64_t vocab, int32_t *id,
                 glm4v_error *err)
{
    int64_t value = *id;
    int rc = glm4v_key_int(p, key, GLM4V_OPTIONAL, (glm4v_range) { 0, vocab - 1 }, &value, err);
    *id = (int32_t)value;
    return rc;
}

int glm4v_key_double(const glm4v_places *p, const char *key, glm4v_need needed,
                     glm4v_interval range, double *value, glm4v_error *err)
{
    int at = glm4v_key_find(p, key);
    if (at < 0)
        return needed == GLM4V_REQUIRED ? glm4v_key_missing(p, key, err) : 0;
    return glm4v_json_double(p->object[at], p->label[at], key, range, value, err);
}

int glm4v_key_string(const glm4v_places *p, const char *key, const char **value, glm4v_error *err)
{
    int at = glm4v_key_find(p, key);
    return at < 0 ? 0 : glm4v_json_string(p->object[at], p->label[at], key, value, err);
}

int glm4v_key_bool(const glm4v_places *p, const char *key, bool *value, glm4v_error *err)
{
    int at = glm4v_key_find(p, key);
    return at < 0 ? 0 : glm4v_json_bool(p->object[at], p->label[at], key, value, err);
}

/* A key that may only have one value, as nothing else is built in. */
int glm4v_key_expect_string(const glm4v_places *p, const char *key, const char *expected,
                            glm4v_error *err)
{
    const char *value = expected;
    int rc = glm4v_key_string(p, key, &value, err);
    if (!rc && strcmp(value, expected))
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                        "%s: \"%s\" is \"%.60s\", expected \"%s\" for this architecture",
                        p->label[0], key, value, expected);
    return rc;
}

int glm4v_key_expect_int(const glm4v_places *p, const char *key, int64_t expected, glm4v_error *err)
{
    int64_t value = expected;
    int rc =
        glm4v_key_int(p, key, GLM4V_OPTIONAL, (glm4v_range) { INT32_MIN, INT32_MAX }, &value, err);
    if (!rc && value != expected)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" is %" PRId64 ", expected %" PRId64,
                        p->label[0], key, value, expected);
    return rc;
}

int glm4v_key_expect_bool(const glm4v_places *p, const char *key, bool expected, glm4v_error *err)
{
    bool value = expected;
    int rc = glm4v_key_bool(p, key, &value, err);
    if (!rc && value != expected)
        rc = glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" is %s, expected %s", p->label[0],
                        key, value ? "true" : "false", expected ? "true" : "false");
    return rc;
}

int glm4v_key_divides(int64_t part, int64_t whole, const char *part_key, const char *whole_key,
                      const char *label, glm4v_error *err)
{
    if (whole % part == 0)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%s: \"%s\" %" PRId64 " is not a multiple of \"%s\" %" PRId64, label,
                      whole_key, whole, part_key, part);
}
