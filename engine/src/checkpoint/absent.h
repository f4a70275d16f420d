/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The error when weight files are missing: what is in the directory instead, and what to do. */
#ifndef GLM4V_ENGINE_ABSENT_H
#define GLM4V_ENGINE_ABSENT_H

#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_MISSING_NAMES 4 /* are in the message */

typedef struct {
    int64_t n, n_files;                    /* missing, and named by the index */
    const char *name[GLM4V_MISSING_NAMES]; /* the first of them */
    int64_t n_tensors;                     /* of the first one */
    const char *first, *last;
} glm4v_missing;

/* Files of the index are not in dir. Always NOT_FOUND. */
int glm4v_absent_shards(const char *dir, const glm4v_missing *missing, glm4v_error *err);

/* Neither weights nor an index are in dir: what else is there? Always NOT_FOUND. */
int glm4v_absent_weights(const char *dir, glm4v_error *err);

#endif
