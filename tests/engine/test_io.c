/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* T-IO: open, fstat, pread and close fail at call N, for every N, once and from then on, with six
 * errnos; pread also comes back short, or early. The linker leads the engine's calls here first
 * (--wrap). Each time the load ends in an error that names a file, or gives the same model; nothing
 * stays open or allocated. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "files.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

typedef enum { OPEN, STAT, READ, CLOSE, N_CALLS } call;

static struct {
    atomic_int count[N_CALLS]; /* calls so far */
    call which;
    int at; /* number of the call that fails, from 1; 0 = off */
    bool from_then_on;
    int error; /* errno; 0: a short read; -1: the end of the file */
} fault;

static bool fails(call which)
{
    int n = atomic_fetch_add(&fault.count[which], 1) + 1;
    return fault.at && fault.which == which &&
           (n == fault.at || (fault.from_then_on && n > fault.at));
}

/* Both spellings of the C library: which one is called depends on _FILE_OFFSET_BITS. */
#define WRAP_OPEN(name)                                                                            \
    int __real_##name(const char *path, int flags, ...);                                           \
    int __wrap_##name(const char *path, int flags, ...);                                           \
    int __wrap_##name(const char *path, int flags, ...)                                            \
    {                                                                                              \
        if (!strncmp(path, "/proc", 5) || !strncmp(path, "/sys", 4))                               \
            return __real_##name(path, flags);                                                     \
        if (!fails(OPEN))                                                                          \
            return __real_##name(path, flags);                                                     \
        errno = fault.error;                                                                       \
        return -1;                                                                                 \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_STAT(name)                                                                            \
    int __real_##name(int fd, struct stat *st);                                                    \
    int __wrap_##name(int fd, struct stat *st);                                                    \
    int __wrap_##name(int fd, struct stat *st)                                                     \
    {                                                                                              \
        if (!fails(STAT))                                                                          \
            return __real_##name(fd, st);                                                          \
        errno = fault.error;                                                                       \
        return -1;                                                                                 \
    }
WRAP_STAT(fstat)
WRAP_STAT(fstat64)

#define WRAP_READ(name)                                                                            \
    ssize_t __real_##name(int fd, void *data, size_t n, off_t offset);                             \
    ssize_t __wrap_##name(int fd, void *data, size_t n, off_t offset);                             \
    ssize_t __wrap_##name(int fd, void *data, size_t n, off_t offset)                              \
    {                                                                                              \
        if (!fails(READ))                                                                          \
            return __real_##name(fd, data, n, offset);                                             \
        if (fault.error == 0)                                                                      \
            return __real_##name(fd, data, n > 3 ? n / 3 : 1, offset);                             \
        if (fault.error < 0)                                                                       \
            return 0;                                                                              \
        errno = fault.error;                                                                       \
        return -1;                                                                                 \
    }
WRAP_READ(pread)
WRAP_READ(pread64)

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    bool failed = fails(CLOSE);
    int rc = __real_close(fd); /* the descriptor is gone even where close() fails */
    if (failed)
        errno = fault.error;
    return failed ? -1 : rc;
}

static char dir[512];
static glm4v_error err;

/* Load under the fault. The fingerprint, or 0. */
static uint64_t load(void)
{
    glm4v_model *m = NULL;
    memset(&err, 0, sizeof err);
    for (int i = 0; i < N_CALLS; i++)
        atomic_store(&fault.count[i], 0);
    if (glm4v_model_open(&m, dir, &(glm4v_model_options) { .n_threads = 1 }, &err))
        return 0;
    uint64_t h = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < m->plan.n; i++)
        if (m->plan.items[i].kind == GLM4V_ITEM_LINEAR) {
            const glm4v_weight *w = m->plan.items[i].to.linear;
            for (uint64_t k = 0; k < w->bytes; k++)
                h = (h ^ ((unsigned char *)w->data)[k]) * 0x100000001b3u;
        }
    glm4v_model_close(&m);
    return h;
}

static int lowest_free_descriptor(void)
{
    int fd = dup(0);
    __real_close(fd);
    return fd;
}

/* Every call number of one kind, with one error. must_fail: whether the model can come out all the
 * same. */
static void sweep(call which, int error, bool from_then_on, bool must_fail)
{
    fault.at = 0;
    uint64_t whole = load();
    int calls = atomic_load(&fault.count[which]), fd = lowest_free_descriptor();
    size_t live = glm4v_mem_live();
    CHECK(whole && calls > 2);
    for (int n = 1; n <= calls; n++) {
        fault.which = which, fault.at = n, fault.error = error, fault.from_then_on = from_then_on;
        uint64_t h = load();
        fault.at = 0;
        bool named =
            strstr(err.msg, ".json") || strstr(err.msg, ".safetensors") || strstr(err.msg, dir);
        if (must_fail ? h != 0 || !named : h != 0 && h != whole)
            test_fail(__FILE__, __LINE__, "call %d of %d fails with %d: %s \"%s\"", n, calls, error,
                      h ? "loaded" : "failed", err.msg);
        if (!h && (err.code != GLM4V_ERR_IO && err.code != GLM4V_ERR_NOMEM))
            test_fail(__FILE__, __LINE__, "call %d: code %d, \"%s\"", n, err.code, err.msg);
        if (glm4v_mem_live() != live || lowest_free_descriptor() != fd)
            test_fail(__FILE__, __LINE__, "call %d: something stays allocated or open", n);
    }
    CHECK_EQ(load(), whole);
}

static const int errors[] = { EIO, ENOSPC, EACCES, EMFILE, ESTALE, ENOMEM };

static void open_may_fail_at_any_call(void)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (int on = 0; on < 2; on++)
            sweep(OPEN, errors[i], on, true);
    sweep(OPEN, EINTR, false, false); /* tried again */
    sweep(OPEN, EINTR, true, true);   /* but not for ever */
}

static void fstat_may_fail_at_any_call(void)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (int on = 0; on < 2; on++)
            sweep(STAT, errors[i], on, true);
}

static void pread_may_fail_at_any_call(void)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (int on = 0; on < 2; on++)
            sweep(READ, errors[i], on, true);
    sweep(READ, EINTR, false, false);
    sweep(READ, EINTR, true, true);
}

static void pread_may_come_back_short_at_any_call(void)
{
    fault.at = 0;
    uint64_t whole = load();
    int calls = atomic_load(&fault.count[READ]);
    for (int n = 1; n <= calls; n++)
        for (int on = 0; on < 2; on++) {
            fault.which = READ, fault.at = n, fault.error = 0, fault.from_then_on = on;
            CHECK_EQ(load(), whole);
        }
    fault.at = 0;
}

static void pread_may_find_the_end_early_at_any_call(void)
{
    sweep(READ, -1, false, true);
    sweep(READ, -1, true, true);
    CHECK(true);
}

static void close_may_fail_at_any_call(void)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (int on = 0; on < 2; on++)
            sweep(CLOSE, errors[i], on, false);
    sweep(CLOSE, EINTR, true, false);
}

int main(void)
{
    for (int shards = 1; shards <= 3; shards += 2) {
        if (tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = shards }))
            return 1;
        printf("# %d weight files\n", shards);
        TEST(open_may_fail_at_any_call);
        TEST(fstat_may_fail_at_any_call);
        TEST(pread_may_fail_at_any_call);
        TEST(pread_may_come_back_short_at_any_call);
        TEST(pread_may_find_the_end_early_at_any_call);
        TEST(close_may_fail_at_any_call);
        tiny_model_remove(dir);
    }
    return test_end();
}
