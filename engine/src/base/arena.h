/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A block of memory that is laid out twice by the same code: with base NULL to measure it, then for
 * good. */
#ifndef GLM4V_ENGINE_ARENA_H
#define GLM4V_ENGINE_ARENA_H

#include <stddef.h>
#include <string.h>

/* All zero: measures. */
typedef struct {
    char *base;
    size_t used;
} glm4v_arena;

/* Room for bytes, with those of src unless it is NULL; NULL while it is measured. */
static inline void *glm4v_arena_take(glm4v_arena *a, const void *src, size_t bytes)
{
    size_t at = (a->used + 15) & ~(size_t)15;
    a->used = at + bytes;
    if (!a->base)
        return NULL;
    if (src && bytes)
        memcpy(a->base + at, src, bytes);
    return a->base + at;
}

static inline const char *glm4v_arena_string(glm4v_arena *a, const char *s)
{
    return s ? glm4v_arena_take(a, s, strlen(s) + 1) : NULL;
}

#endif
