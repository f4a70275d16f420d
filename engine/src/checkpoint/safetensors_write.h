/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing safetensors: a list of tensors, cut into files of bounded size, gives every tensor its
 * place before a byte of data is there, so that data can be written piece by piece, in any order
 * and by several threads. Format: https://github.com/huggingface/safetensors; metadata "format" =
 * "pt", which the reference implementation requires. */
#ifndef GLM4V_ENGINE_SAFETENSORS_WRITE_H
#define GLM4V_ENGINE_SAFETENSORS_WRITE_H

#include "base/string_buffer.h"
#include "checkpoint/safetensors.h"

typedef struct {
    char *name;
    glm4v_dtype dtype;
    int rank;
    int64_t shape[GLM4V_MAX_DIMS];
    uint64_t size;   /* bytes */
    int64_t shard;   /* by _lay_out: file it lies in */
    uint64_t offset; /* by _lay_out: from the start of that file */
} glm4v_output;

typedef struct {
    glm4v_output *items;
    int64_t n, capacity;
    int64_t n_shards; /* by _lay_out */
    uint64_t bytes;   /* by _lay_out: of all files, headers included */
} glm4v_outputs;

typedef struct {
    glm4v_dtype dtype;
    int rank;
    const int64_t *shape; /* [rank] */
} glm4v_output_type;

/* Append a tensor named `stem` + `suffix`. NOMEM. */
int glm4v_outputs_add(glm4v_outputs *outputs, const char *stem, const char *suffix,
                      const glm4v_output_type *type, glm4v_error *err);
void glm4v_outputs_clear(glm4v_outputs *outputs);

/* Give tensors their places: files are filled in order of the list up to max_bytes (one tensor may
 * be larger), the widest dtypes first in each, so that every tensor is aligned to its elements and
 * the data to 64 bytes. groups [n]: tensors of equal numbers, which follow one another, stay in one
 * file. NOMEM; UNSUPPORTED: more files than are read back. */
int glm4v_outputs_lay_out(glm4v_outputs *outputs, const int64_t *groups, uint64_t max_bytes,
                          glm4v_error *err);

/* "model.safetensors", or "model-00002-of-00005.safetensors". */
void glm4v_outputs_file(const glm4v_outputs *outputs, int64_t shard, char name[64]);
/* All of a file in front of its data. NOMEM. */
int glm4v_outputs_header(const glm4v_outputs *outputs, int64_t shard, glm4v_text_out *header,
                         glm4v_error *err);
/* model.safetensors.index.json. NOMEM. */
int glm4v_outputs_index(const glm4v_outputs *outputs, glm4v_text_out *index, glm4v_error *err);

#endif
