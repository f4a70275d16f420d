/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The insides of a checkpoint, shared by safetensors.c (headers of files, reading) and shards.c
 * (opening a directory: index, shards, whether they belong together). */
#ifndef GLM4V_ENGINE_SAFETENSORS_PRIV_H
#define GLM4V_ENGINE_SAFETENSORS_PRIV_H

#include "base/file.h"

#include <inttypes.h>
#include "checkpoint/safetensors.h"

#define GLM4V_SINGLE_FILE "model.safetensors"
#define GLM4V_INDEX_FILE "model.safetensors.index.json"

typedef struct {
    char *name;
    int fd; /* -1: a header alone */
    glm4v_file_id id;
    uint64_t data_start; /* length word and header */
} glm4v_shard;

struct glm4v_checkpoint {
    char *dir;
    glm4v_shard *shards;
    int64_t n_shards;
    glm4v_tensor *tensors; /* sorted by name; names owned */
    int64_t n_tensors, capacity;
};

/* An empty checkpoint in dir, or NULL when memory is out. */
glm4v_checkpoint *glm4v_checkpoint_new(const char *dir);
/* Close and forget all files; tensors stay. */
void glm4v_checkpoint_drop_shards(glm4v_checkpoint *c);
/* Check the header of shards[index], whose file is open, and append its tensors. */
int glm4v_shard_read_header(glm4v_checkpoint *c, int64_t index, glm4v_error *err);
/* rc 0: sort the tensors for look-ups and hand c out; else close it. */
int glm4v_checkpoint_hand_out(glm4v_checkpoint **checkpoint, glm4v_checkpoint *c, int rc,
                              glm4v_error *err);

#endif
