/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocations that are not the engine's own (jansson's, utf8proc's, the C library's) fail at call N
 * while a model is inspected, for every N, once and from then on: an error, nothing stays
 * allocated, the next call succeeds. This program's own malloc stands in front of the C library's;
 * sanitizers bring theirs, so there the test is skipped. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>

#include "base/mem.h"
#include "glm4v/glm4v.h"
#include "test.h"
#include "tiny_model.h"

#if TEST_SANITIZED
static void every_foreign_allocation_may_fail(void)
{
    SKIP("a sanitizer's allocator is in place");
}
#else

/* One thread only while armed. */
static struct {
    bool armed, from_then_on;
    uint64_t calls, at;
    int64_t live; /* blocks */
} heap;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

/* Libraries find these only where they are exported. */
#define VISIBLE __attribute__((visibility("default")))

static bool refused(void)
{
    if (!heap.armed)
        return false;
    heap.calls++;
    if (heap.calls != heap.at && !(heap.from_then_on && heap.at && heap.calls > heap.at))
        return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    heap.live += heap.armed && p;
    return p;
}

VISIBLE void *malloc(size_t n)
{
    return refused() ? NULL : counted(__libc_malloc(n));
}

VISIBLE void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : counted(__libc_calloc(n, size));
}

VISIBLE void *realloc(void *p, size_t n)
{
    if (refused())
        return NULL;
    void *q = __libc_realloc(p, n);
    heap.live += heap.armed && q && !p;
    return q;
}

VISIBLE void free(void *p)
{
    heap.live -= heap.armed && p;
    __libc_free(p);
}

static char dir[512];

static int inspect(glm4v_error *err)
{
    glm4v_model_info info = { 0 };
    heap.calls = 0;
    heap.live = 0;
    heap.armed = true;
    int rc = glm4v_model_inspect(dir, NULL, &info, err);
    heap.armed = false;
    return rc;
}

static void sweep(bool from_then_on)
{
    glm4v_error err = { 0 };
    size_t live = glm4v_mem_live();
    heap.at = 0;
    CHECK_EQ(inspect(&err), 0); /* what the C library keeps for itself is taken now */
    CHECK_EQ(inspect(&err), 0);
    int64_t kept = heap.live; /* blocks of posix_memalign are freed, but were not counted */
    uint64_t calls = heap.calls;
    printf("# %llu allocations\n", (unsigned long long)calls);
    CHECK(calls > 1000);
    for (uint64_t n = 1; n <= calls; n++) {
        memset(&err, 0, sizeof err);
        heap.at = n;
        heap.from_then_on = from_then_on;
        uint64_t own = glm4v_mem_calls();
        int rc = inspect(&err);
        /* each of ours was freed: -1 */
        int64_t foreign = heap.live + (int64_t)(glm4v_mem_calls() - own);
        heap.at = 0;
        /* jansson takes some of its failures for bad syntax */
        if ((rc != GLM4V_ERR_NOMEM && rc != GLM4V_ERR_FORMAT) || err.code != rc || !err.msg[0])
            test_fail(__FILE__, __LINE__, "allocation %llu: code %d \"%s\"", (unsigned long long)n,
                      rc, err.msg);
        if (foreign || glm4v_mem_live() != live)
            test_fail(__FILE__, __LINE__, "allocation %llu: %lld blocks and %zu bytes stay",
                      (unsigned long long)n, (long long)foreign, glm4v_mem_live() - live);
    }
    CHECK_EQ(inspect(&err), 0);
    CHECK_EQ(heap.live, kept);
}

static void every_foreign_allocation_may_fail(void)
{
    if (tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 2 }))
        return;
    sweep(false);
    sweep(true);
    tiny_model_remove(dir);
}
#endif

int main(void)
{
    TEST(every_foreign_allocation_may_fail);
    return test_end();
}
