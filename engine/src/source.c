/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding the tensors that a matrix is made of, checked against the shape that config.json asks
 * for. */
#include "source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

static void shape_text(char *text, size_t size, const int64_t *shape, int rank)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

int glm4v_source_find(glm4v_source *source, const glm4v_checkpoint *checkpoint, const char *name,
                      const int64_t *shape, int rank, glm4v_error *err)
{
    const glm4v_tensor *t = glm4v_checkpoint_find(checkpoint, name);
    if (!t)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "\"%s\" is missing; config.json asks for it, but it is in none of "
                          "the %" PRIu32 " weight files",
                          name, glm4v_checkpoint_shards(checkpoint));
    if (t->rank != rank || memcmp(t->shape, shape, (size_t)rank * sizeof *shape)) {
        char found[128], expected[128];
        shape_text(found, sizeof found, t->shape, t->rank);
        shape_text(expected, sizeof expected, shape, rank);
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: \"%s\" is %s, expected %s from config.json",
                          glm4v_checkpoint_file(checkpoint, t->shard), name, found, expected);
    }
    if (t->dtype != GLM4V_DTYPE_BF16 && t->dtype != GLM4V_DTYPE_F32 && t->dtype != GLM4V_DTYPE_F16)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "%.80s: \"%s\" is %s, expected BF16, F16 or F32; a checkpoint "
                          "quantized by another program is not read",
                          glm4v_checkpoint_file(checkpoint, t->shard), name,
                          glm4v_dtype_name(t->dtype));
    int64_t n_in = 1;
    for (int i = 1; i < rank; i++)
        n_in *= shape[i];
    *source = (glm4v_source) { GLM4V_SOURCE_PLAIN, (int32_t)shape[0], (int32_t)n_in, t };
    return 0;
}

uint64_t glm4v_source_bytes(const glm4v_source *source)
{
    return source->tensor->size;
}

int glm4v_source_read_f32(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                          int32_t row, int32_t n, float *rows, glm4v_error *err)
{
    const size_t width = (size_t)source->n_in;
    return glm4v_checkpoint_read_f32(checkpoint, source->tensor, (uint64_t)row * width, rows,
                                     (size_t)n * width, err);
}
