/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A PNG file as a picture. */
#ifndef GLM4V_TEST_READ_PNG_H
#define GLM4V_TEST_READ_PNG_H

#include <png.h>
#include <stdlib.h>

#include "glm4v/glm4v.h"

/* RGB, 8 bits; *image points to the pixels, which free() takes. NULL: it cannot be read. */
static uint8_t *read_png(const char *path, glm4v_image *image)
{
    png_image png = { .version = PNG_IMAGE_VERSION };
    if (!png_image_begin_read_from_file(&png, path))
        return NULL;
    png.format = PNG_FORMAT_RGB;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(png));
    if (pixels && !png_image_finish_read(&png, NULL, pixels, 0, NULL)) {
        free(pixels);
        return NULL;
    }
    *image = (glm4v_image) { .data = pixels,
                             .width = (int32_t)png.width,
                             .height = (int32_t)png.height,
                             .stride = 3 * (int64_t)png.width };
    return pixels;
}

#endif
