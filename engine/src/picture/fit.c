/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures for another program's model: made smaller here, by the same rule and the same filter
 * that the model's own processor would use, so that less is sent and nothing is resized twice. */
#include <string.h>

#include "base/cpu_level.h"
#include "base/error.h"
#include "base/mem.h"
#include "picture/preprocess.h"

enum {
    BLOCK = 28, /* sides of a resized picture are multiples of it: two patches of all GLM-4V */
    BAND = 32,  /* rows that are made at a time */
};

static int check(const glm4v_image *image, glm4v_error *err)
{
    if (!image->data || image->width < 1 || image->height < 1 || image->width > GLM4V_MAX_SIDE ||
        image->height > GLM4V_MAX_SIDE || image->stride < GLM4V_CHANNELS * (int64_t)image->width)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image is empty, larger than %d pixels a side, or has a stride that "
                          "is less than its rows",
                          GLM4V_MAX_SIDE);
    if (image->memory != GLM4V_IMAGE_HOST || image->format != GLM4V_PIXELS_RGB)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "an image is not RGB in memory of the process");
    return 0;
}

int glm4v_image_fit(const glm4v_image *image, uint64_t max_pixels, int32_t *width, int32_t *height,
                    glm4v_error *err)
{
    const uint64_t largest = (uint64_t)GLM4V_MAX_SIDE * GLM4V_MAX_SIDE;
    const glm4v_size_rule rule = { .frames = 2,
                                   .factor = BLOCK,
                                   .max_pixels =
                                       2 * (max_pixels < largest ? max_pixels : largest) };
    glm4v_size size = { image->width, image->height };
    int rc = check(image, err);
    if (!rc && max_pixels && (uint64_t)(size.width * size.height) > max_pixels)
        rc = glm4v_smart_resize(&size, size, &rule, err);
    if (rc)
        return rc;
    *width = (int32_t)size.width;
    *height = (int32_t)size.height;
    return 0;
}

int glm4v_image_resize(uint8_t *pixels, int32_t width, int32_t height, const glm4v_image *image,
                       glm4v_error *err)
{
    const size_t row = GLM4V_CHANNELS * (size_t)width;
    glm4v_image_ops ops;
    glm4v_resize resize;
    unsigned flags;
    int64_t stride;
    int rc = check(image, err);
    if (!rc &&
        (!pixels || width < 1 || height < 1 || width > GLM4V_MAX_SIDE || height > GLM4V_MAX_SIDE))
        rc = glm4v_fail(err, GLM4V_ERR_INVALID, "%dx%d pixels are no size of an image", width,
                        height);
    if (!rc)
        rc = glm4v_cpu_choose(&flags, err);
    if (rc)
        return rc;
    glm4v_image_ops_init(&ops, flags);
    rc = glm4v_resize_init(&resize, &ops, (glm4v_size) { image->width, image->height },
                           (glm4v_size) { width, height }, err);
    if (rc)
        return rc;
    uint8_t *scratch = glm4v_alloc(1, glm4v_resize_scratch(&resize, BAND));
    if (!scratch)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to resize an image");
    for (int64_t y = 0; !rc && y < height; y += BAND) {
        const int64_t n = height - y < BAND ? height - y : BAND;
        const uint8_t *rows = glm4v_resize_band(&resize, image, y, n, scratch, &stride);
        for (int64_t i = 0; i < n; i++)
            memcpy(pixels + (size_t)(y + i) * row, rows + i * stride, row);
    }
    glm4v_free(scratch);
    glm4v_resize_clear(&resize);
    return rc;
}
