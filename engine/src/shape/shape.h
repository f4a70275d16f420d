/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A compiled schema with the masks that were found for it, which all requests with the same text
 * share. Compiled and counted on any thread; the masks are the scheduler's. */
#ifndef GLM4V_ENGINE_SHAPE_H
#define GLM4V_ENGINE_SHAPE_H

#include <stdatomic.h>

#include "shape/mask_cache.h"
#include "shape/token_trie.h"

#define GLM4V_KEPT_SHAPES 4 /* that an engine keeps for the next request */

typedef struct {
    char *text;
    glm4v_schema *schema;
    const glm4v_token_tries *tries;
    glm4v_mask_cache *masks;
    atomic_uint refs;
} glm4v_shape;

/* Compile text; tries outlive it. Errors of glm4v_schema_open(). */
int glm4v_shape_open(glm4v_shape **shape, const char *text, const glm4v_token_tries *tries,
                     glm4v_error *err);
/* One holder less, the last frees it. Accepts the address of NULL. */
void glm4v_shape_close(glm4v_shape **shape);

/* Those that were asked for last, under the owner's lock. All zero: none. */
typedef struct {
    glm4v_shape *kept[GLM4V_KEPT_SHAPES]; /* the last first */
} glm4v_shapes;

/* The shape of a text for one holder more. Errors of glm4v_shape_open(). */
int glm4v_shapes_take(glm4v_shapes *shapes, glm4v_shape **shape, const char *text,
                      const glm4v_token_tries *tries, glm4v_error *err);
void glm4v_shapes_clear(glm4v_shapes *shapes);

#endif
