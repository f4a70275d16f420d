/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See shape.h. */
#include "shape/shape.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

int glm4v_shape_open(glm4v_shape **shape, const char *text, const glm4v_token_tries *tries,
                     glm4v_error *err)
{
    glm4v_shape *s = glm4v_alloc(1, sizeof *s);
    if (!s)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a schema");
    atomic_init(&s->refs, 1);
    s->tries = tries;
    s->text = glm4v_strdup(text);
    int rc = s->text ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a schema");
    if (!rc)
        rc = glm4v_schema_open(&s->schema, text, err);
    if (!rc)
        rc = glm4v_mask_cache_open(&s->masks, tries->n_ids / 64 + 1, err);
    if (rc)
        glm4v_shape_close(&s);
    else
        *shape = s;
    return rc;
}

void glm4v_shape_close(glm4v_shape **shape)
{
    glm4v_shape *s = *shape;
    *shape = NULL;
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    glm4v_schema_close(&s->schema);
    glm4v_mask_cache_close(&s->masks);
    glm4v_free(s->text);
    glm4v_free(s);
}

/* Put a shape first; those before its old place move behind it. */
static void move_first(glm4v_shapes *shapes, int64_t place, glm4v_shape *shape)
{
    memmove(shapes->kept + 1, shapes->kept, place * sizeof *shapes->kept);
    shapes->kept[0] = shape;
}

int glm4v_shapes_take(glm4v_shapes *shapes, glm4v_shape **shape, const char *text,
                      const glm4v_token_tries *tries, glm4v_error *err)
{
    glm4v_shape *found = NULL;
    int64_t i = 0;
    while (i < GLM4V_KEPT_SHAPES && shapes->kept[i] && strcmp(shapes->kept[i]->text, text))
        i++;
    if (i < GLM4V_KEPT_SHAPES)
        found = shapes->kept[i];
    if (!found) {
        int rc = glm4v_shape_open(&found, text, tries, err);
        if (rc)
            return rc;
        i = i < GLM4V_KEPT_SHAPES ? i : GLM4V_KEPT_SHAPES - 1;
        glm4v_shape_close(&shapes->kept[i]);
    }
    move_first(shapes, i, found);
    atomic_fetch_add(&found->refs, 1);
    *shape = found;
    return 0;
}

void glm4v_shapes_clear(glm4v_shapes *shapes)
{
    for (int64_t i = 0; i < GLM4V_KEPT_SHAPES; i++)
        glm4v_shape_close(&shapes->kept[i]);
}
