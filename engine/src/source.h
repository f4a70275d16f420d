/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where rows of a matrix come from: one tensor of numbers. */
#ifndef GLM4V_ENGINE_SOURCE_H
#define GLM4V_ENGINE_SOURCE_H

#include "safetensors.h"

typedef enum {
    GLM4V_SOURCE_PLAIN, /* F32, F16 or BF16 */
} glm4v_source_kind;

typedef struct {
    glm4v_source_kind kind;
    int32_t rows, n_in;
    const glm4v_tensor *tensor; /* its name and file stand for the source in messages */
} glm4v_source;

/* The tensor `name` of the given shape as a source of shape[0] rows. FORMAT names what is missing,
 * or found and expected shape; UNSUPPORTED a dtype. */
int glm4v_source_find(glm4v_source *source, const glm4v_checkpoint *checkpoint, const char *name,
                      const int64_t *shape, int rank, glm4v_error *err);

/* Bytes that it takes in the files. */
uint64_t glm4v_source_bytes(const glm4v_source *source);

/* Rows [row, row + n) as f32 [n, n_in]. Any thread. */
int glm4v_source_read_f32(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                          int32_t row, int32_t n, float *rows, glm4v_error *err);

#endif
