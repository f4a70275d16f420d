/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tensors of a model directory: one *.safetensors file, or shards with
 * model.safetensors.index.json. Opening reads headers only and checks every size, offset, overlap
 * and dtype against the files' lengths. Format: https://github.com/huggingface/safetensors (8-byte
 * little-endian header length, JSON, data). */
#ifndef GLM4V_ENGINE_SAFETENSORS_H
#define GLM4V_ENGINE_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_MAX_DIMS 8
#define GLM4V_MAX_TENSORS_PER_FILE 65536
#define GLM4V_MAX_TENSORS 262144
#define GLM4V_MAX_SHARDS 1024
#define GLM4V_MAX_ELEMENTS ((int64_t)1 << 48)

typedef enum {
    GLM4V_DTYPE_F32,
    GLM4V_DTYPE_F16,
    GLM4V_DTYPE_BF16,
    GLM4V_DTYPE_F8_E4M3,
    GLM4V_DTYPE_I8,
    GLM4V_DTYPE_U8,
    GLM4V_DTYPE_I16,
    GLM4V_DTYPE_I32,
    GLM4V_DTYPE_I64,
    GLM4V_DTYPE_F64,
    GLM4V_DTYPE_BOOL,
    GLM4V_N_DTYPES
} glm4v_dtype;

const char *glm4v_dtype_name(glm4v_dtype dtype); /* "F32", "BF16", ... as in the files */
bool glm4v_dtype_parse(glm4v_dtype *dtype, const char *name); /* false: no such name */
size_t glm4v_dtype_size(glm4v_dtype dtype);

typedef struct {
    const char *name;
    glm4v_dtype dtype;
    int rank;                      /* 0..GLM4V_MAX_DIMS */
    int64_t shape[GLM4V_MAX_DIMS]; /* row-major, last index contiguous */
    int64_t shard;                 /* file it lies in */
    uint64_t offset;               /* from the start of that file */
    uint64_t size;                 /* bytes */
} glm4v_tensor;

typedef struct glm4v_checkpoint glm4v_checkpoint;

/* Open dir. Files stay open until close, and are checked (size, mtime, inode) by _verify. */
int glm4v_checkpoint_open(glm4v_checkpoint **checkpoint, const char *dir, glm4v_error *err);
/* Open one safetensors file alone (reference vectors). */
int glm4v_checkpoint_open_file(glm4v_checkpoint **checkpoint, const char *path, glm4v_error *err);
void glm4v_checkpoint_close(glm4v_checkpoint **checkpoint);

int64_t glm4v_checkpoint_count(const glm4v_checkpoint *checkpoint);
/* by name, sorted */
const glm4v_tensor *glm4v_checkpoint_at(const glm4v_checkpoint *checkpoint, int64_t index);
const glm4v_tensor *glm4v_checkpoint_find(const glm4v_checkpoint *checkpoint, const char *name);
/* name for messages */
const char *glm4v_checkpoint_file(const glm4v_checkpoint *checkpoint, int64_t shard);
int64_t glm4v_checkpoint_shards(const glm4v_checkpoint *checkpoint);
uint64_t glm4v_checkpoint_memory(const glm4v_checkpoint *checkpoint); /* bytes that it takes */
uint64_t glm4v_checkpoint_bytes(const glm4v_checkpoint *checkpoint);

/* Read bytes [start, start + len) of a tensor. Any thread. IO names file, tensor, offset. */
int glm4v_checkpoint_read(const glm4v_checkpoint *checkpoint, const glm4v_tensor *tensor,
                          uint64_t start, void *data, size_t len, glm4v_error *err);
/* Elements [start, start + n) widened to f32 (F32, F16, BF16, F64 and integers; UNSUPPORTED: the
 * others). Any thread. */
int glm4v_checkpoint_read_f32(const glm4v_checkpoint *checkpoint, const glm4v_tensor *tensor,
                              uint64_t start, float *data, size_t n, glm4v_error *err);
/* FNV-1a over names, dtypes and shapes in name order: the same however the tensors are split into
 * files. */
uint64_t glm4v_checkpoint_digest(const glm4v_checkpoint *checkpoint);
/* Parse one header: text [0, len) of a file with data_bytes of data behind it (fuzzing; opening
 * does the same). */
int glm4v_checkpoint_open_header(glm4v_checkpoint **checkpoint, const char *text, size_t len,
                                 uint64_t data_bytes, glm4v_error *err);
/* Check a shard index, text [0, len): *n_shards = distinct files it names (fuzzing; opening does
 * the same). */
int glm4v_checkpoint_check_index(const char *text, size_t len, int64_t *n_shards, glm4v_error *err);
/* The files are still the ones that were opened. */
int glm4v_checkpoint_verify(const glm4v_checkpoint *checkpoint, glm4v_error *err);

#endif
