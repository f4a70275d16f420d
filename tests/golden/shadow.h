/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backend that runs every operation twice on the same inputs: on the backend under test, whose
 * result counts, and on the C kernels, and keeps the largest difference.
 *
 * Whole runs cannot be compared closely where activations are rounded: one last bit of a sum moves
 * one activation by a whole step, that row moves others, and a few layers later the two runs differ
 * by a good part of the rounding noise itself (on the reference vectors 4e-3 of 1e-2 as int8).
 * Operation by operation both sides round the same inputs, and no such thing happens. */
#ifndef GLM4V_TESTS_SHADOW_H
#define GLM4V_TESTS_SHADOW_H

#include "backend/backend.h"

typedef struct {
    double nmse, max_abs;  /* largest of all operations since the last shadow_take() */
    const char *operation; /* the one with that nmse */
    unsigned long operations;
} shadow_errors;

typedef struct {
    glm4v_backend base; /* put this in the model's stage */
    glm4v_backend *tested, *reference;
    glm4v_backend_ops ops;
    shadow_errors errors;
} shadow;

/* tested must be the CPU backend (shared memory and layouts); it is not owned. */
int shadow_open(shadow *s, glm4v_backend *tested, glm4v_error *err);
void shadow_close(shadow *s);
shadow_errors shadow_take(shadow *s);

#endif
