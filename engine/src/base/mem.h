/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's one allocator: checked sizes, and failures that a test can inject.
 * Raw malloc, calloc, realloc and free appear in mem.c only. */
#ifndef GLM4V_ENGINE_MEM_H
#define GLM4V_ENGINE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* n objects of size bytes, zeroed. NULL if n * size overflows or memory is out. n * size may be
 * 0. */
void *glm4v_alloc(size_t n, size_t size) __attribute__((warn_unused_result));

/* Resize to n objects; new bytes are undefined. On failure NULL, and ptr stays valid. */
void *glm4v_realloc(void *ptr, size_t n, size_t size) __attribute__((warn_unused_result));

/* bytes rounded up to what glm4v_alloc_aligned() aligns to: whole cache lines. */
static inline uint64_t glm4v_aligned(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* n objects, not zeroed, aligned to 64 bytes; from 4 MiB on, huge pages are requested. Not for
 * glm4v_realloc. */
void *glm4v_alloc_aligned(size_t n, size_t size) __attribute__((warn_unused_result));

/* The same for memory that may never be touched in full (KV cache, scratch): no huge pages, of
 * which one touched byte takes 2 MiB. */
void *glm4v_alloc_sparse(size_t n, size_t size) __attribute__((warn_unused_result));

/* Copy of a string, or NULL. */
char *glm4v_strdup(const char *s) __attribute__((warn_unused_result));

/* Frees what any of the above returned; NULL is allowed. */
void glm4v_free(void *ptr);

/* a + b and a * b into *r; true when they overflow. */
static inline bool glm4v_add_overflow(size_t a, size_t b, size_t *r)
{
    return __builtin_add_overflow(a, b, r);
}
static inline bool glm4v_mul_overflow(size_t a, size_t b, size_t *r)
{
    return __builtin_mul_overflow(a, b, r);
}

/* For tests. Number of successful and failed allocation calls since the start. */
uint64_t glm4v_mem_calls(void);
/* For tests. Bytes of live allocations. */
size_t glm4v_mem_live(void);
/* For tests. Most bytes that were live at a time since the last glm4v_mem_reset_peak(). */
size_t glm4v_mem_peak(void);
void glm4v_mem_reset_peak(void);
/* For tests. Let call number nth from now on (1 = the next) fail: that one only, or all from it on.
 * nth = 0 turns it off. */
void glm4v_mem_fail_at(uint64_t nth, bool from_then_on);

#endif
