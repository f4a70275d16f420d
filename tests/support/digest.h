/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Digests (FNV-1a) of structs of the engine, by which a test sees that they stay. Field by field:
 * the bytes between fields are anybody's. What pointers lead to is not looked at. h: DIGEST_BEGIN,
 * or the digest of what goes before. NULL adds nothing. */
#ifndef GLM4V_SUPPORT_DIGEST_H
#define GLM4V_SUPPORT_DIGEST_H

#include "backend/backend.h"

#define DIGEST_BEGIN 0xcbf29ce484222325u

static inline uint64_t digest_bytes(const void *x, size_t bytes, uint64_t h)
{
    const unsigned char *p = x;
    for (size_t i = 0; x && i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

uint64_t digest_weight(const glm4v_weight *w, uint64_t h);
uint64_t digest_table(const glm4v_table *table, uint64_t h);
uint64_t digest_kv(const glm4v_kv *kv, uint64_t h);
uint64_t digest_image(const glm4v_image *image, uint64_t h);

#endif
