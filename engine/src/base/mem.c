/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's allocator. A header in front of each block keeps its size, so that live bytes can be
 * counted. */
#define _GNU_SOURCE
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER 64 /* keeps 64-byte alignment of what follows */
#define HUGE_PAGE (2u << 20)

static atomic_uint_fast64_t calls;
static atomic_size_t live, peak;
static atomic_uint_fast64_t fail_at; /* 0 = off, else the number of the call that fails */
static atomic_bool fail_on;          /* and all after it */

static bool refused(void)
{
    uint64_t call = atomic_fetch_add(&calls, 1) + 1;
    uint64_t at = atomic_load(&fail_at);
    return at && (call == at || (call > at && atomic_load(&fail_on)));
}

/* The size is at the start of the block; the block ends where the caller's bytes end, so that
 * AddressSanitizer sees the first byte beyond. */
static size_t *size_of(void *ptr)
{
    return (size_t *)(void *)((char *)ptr - HEADER);
}

static void count(size_t bytes)
{
    size_t now = atomic_fetch_add(&live, bytes) + bytes, most = atomic_load(&peak);
    while (now > most && !atomic_compare_exchange_weak(&peak, &most, now))
        ;
}

static void *allocate(size_t n, size_t size)
{
    size_t bytes, total;
    void *block = NULL;
    if (refused() || glm4v_mul_overflow(n, size, &bytes) ||
        glm4v_add_overflow(bytes, HEADER, &total) || posix_memalign(&block, HEADER, total))
        return NULL;
    *(size_t *)block = bytes;
    count(bytes);
    return (char *)block + HEADER;
}

void *glm4v_alloc(size_t n, size_t size)
{
    void *ptr = allocate(n, size);
    if (ptr)
        memset(ptr, 0, n * size);
    return ptr;
}

/* Tell the kernel how to back the whole huge pages inside a block. A hint: failing changes
 * nothing. */
static void advise(void *ptr, size_t bytes, int advice)
{
    if (!ptr || bytes < 2 * HUGE_PAGE)
        return;
    uintptr_t first = ((uintptr_t)ptr + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t last = ((uintptr_t)ptr + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (last > first)
        madvise((char *)ptr + (first - (uintptr_t)ptr), last - first, advice);
}

void *glm4v_alloc_aligned(size_t n, size_t size)
{
    void *ptr = allocate(n, size);
    advise(ptr, n * size, MADV_HUGEPAGE);
    return ptr;
}

void *glm4v_alloc_sparse(size_t n, size_t size)
{
    void *ptr = allocate(n, size);
    advise(ptr, n * size, MADV_NOHUGEPAGE);
    return ptr;
}

void *glm4v_realloc(void *ptr, size_t n, size_t size)
{
    size_t bytes;
    if (glm4v_mul_overflow(n, size, &bytes))
        return NULL;
    void *fresh = allocate(n, size);
    if (fresh && ptr) {
        size_t old = *size_of(ptr);
        memcpy(fresh, ptr, old < bytes ? old : bytes);
        glm4v_free(ptr);
    }
    return fresh;
}

char *glm4v_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = allocate(n, 1);
    return copy ? memcpy(copy, s, n) : NULL;
}

void glm4v_free(void *ptr)
{
    if (!ptr)
        return;
    atomic_fetch_sub(&live, *size_of(ptr));
    free((char *)ptr - HEADER);
}

uint64_t glm4v_mem_calls(void)
{
    return atomic_load(&calls);
}

size_t glm4v_mem_live(void)
{
    return atomic_load(&live);
}

size_t glm4v_mem_peak(void)
{
    return atomic_load(&peak);
}

void glm4v_mem_reset_peak(void)
{
    atomic_store(&peak, atomic_load(&live));
}

void glm4v_mem_fail_at(uint64_t nth, bool from_then_on)
{
    atomic_store(&fail_on, from_then_on);
    atomic_store(&fail_at, nth ? atomic_load(&calls) + nth : 0);
}
