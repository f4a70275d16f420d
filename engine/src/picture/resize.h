/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bicubic resize equal to Pillow's, bit for bit: the weights of both axes, and bands of output
 * rows. */
#ifndef GLM4V_ENGINE_RESIZE_H
#define GLM4V_ENGINE_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"
#include "image.h"

/* Of a picture, pixels. */
typedef struct {
    int64_t width, height;
} glm4v_size;

typedef struct {
    glm4v_resize_axis x, y;
    const glm4v_image_ops *ops;
    int32_t *memory; /* of both axes, n_memory numbers */
    size_t n_memory;
} glm4v_resize;

/* Weights of a resize; all sides are in [1, 2^31). ops must outlive it. NOMEM. */
int glm4v_resize_init(glm4v_resize *resize, const glm4v_image_ops *ops, glm4v_size from,
                      glm4v_size to, glm4v_error *err);
void glm4v_resize_clear(glm4v_resize *resize);

/* Bytes of scratch that a band of at most n_rows output rows needs. */
size_t glm4v_resize_scratch(const glm4v_resize *resize, int64_t n_rows);

/* Output rows [y0, y0 + n_rows), packed, rows of out_width * 3 bytes. Returns where they are: in
 * scratch, or in the picture itself when nothing changes; *stride is theirs. */
const uint8_t *glm4v_resize_band(const glm4v_resize *resize, const glm4v_image *image, int64_t y0,
                                 int64_t n_rows, uint8_t *scratch, int64_t *stride);

#endif
