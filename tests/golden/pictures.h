/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preprocessing against reference vectors: a directory with smart_resize.json (rows [frames,
 * height, width, [h, w] or null]) and golden.safetensors (NAME.grid_thw, NAME.pixel_values or _head
 * and _sum_rows, NAME.bicubic224) beside NAME.png; either may be missing. For preprocess-check (a
 * person) and test-pictures (the suite). */
#ifndef GLM4V_TEST_PICTURES_H
#define GLM4V_TEST_PICTURES_H

#include <stdbool.h>

#include "glm4v/glm4v.h"

typedef struct {
    char name[128]; /* of the picture, or "smart_resize" */
    char stage[32];
    bool equal;
    double max_abs;   /* largest difference; 0 where it has no meaning */
    char detail[160]; /* what differs, or how much was compared */
} pictures_result;

typedef void (*pictures_fn)(void *user, const pictures_result *result);

/* Compare everything dir has; fn for each stage of each picture. 0 if it could be done, whatever it
 * found. */
int pictures_check(const char *dir, pictures_fn fn, void *user, glm4v_error *err);

#endif
