/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A model of any size, made of a tiny one: its embedding and its head get that many rows. */
#ifndef GLM4V_TEST_LARGE_MODEL_H
#define GLM4V_TEST_LARGE_MODEL_H

#include <inttypes.h>

#include "checkpoint/safetensors.h"
#include "files.h"
#include "tiny_model.h"

/* Bytes of weights that `rows` rows make, without the little else. */
static inline uint64_t large_model_bytes(int64_t rows)
{
    return (uint64_t)rows * TINY_HIDDEN * 2 * 2;
}

/* Give the bf16 model in dir so many rows. Its weights become zeros, of which the disk holds
 * none. Returns where in model.safetensors they begin. */
__attribute__((unused)) static uint64_t large_model_make(const char *dir, int64_t rows)
{
    glm4v_checkpoint *c = NULL;
    glm4v_error err = { 0 };
    char vocab[64];
    size_t capacity = 1 << 20, n = 0;
    char *header = malloc(capacity);
    uint64_t at = 0;
    if (!header || glm4v_checkpoint_open(&c, dir, &err))
        file_die("cannot open", dir);
    n += (size_t)snprintf(header, capacity, "{");
    for (uint32_t i = 0; i < glm4v_checkpoint_count(c); i++) {
        const glm4v_tensor *t = glm4v_checkpoint_at(c, i);
        uint64_t size = 2;
        n += (size_t)snprintf(header + n, capacity - n, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[",
                              i ? "," : "", t->name);
        for (int d = 0; d < t->rank; d++) {
            int64_t length = d == 0 && t->shape[0] == TINY_VOCAB ? rows : t->shape[d];
            size *= (uint64_t)length;
            n += (size_t)snprintf(header + n, capacity - n, "%s%" PRId64, d ? "," : "", length);
        }
        n += (size_t)snprintf(header + n, capacity - n,
                              "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + size);
        at += size;
    }
    n += (size_t)snprintf(header + n, capacity - n, "}");
    glm4v_checkpoint_close(&c);
    unlink(file_path(dir, "model.safetensors"));
    FILE *f = fopen(file_path(dir, "model.safetensors"), "wb");
    uint64_t length = n;
    if (!f || fwrite(&length, 8, 1, f) != 1 || fwrite(header, n, 1, f) != 1 || fflush(f) ||
        ftruncate(fileno(f), (off_t)(8 + n + at)) || fclose(f))
        file_die("cannot write", dir);
    free(header);
    snprintf(vocab, sizeof vocab, "\"vocab_size\": %" PRId64, rows);
    file_replace(dir, "config.json", "\"vocab_size\": 384", vocab);
    return 8 + n;
}

#endif
