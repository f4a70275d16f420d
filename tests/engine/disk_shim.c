/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of the C library in both spellings, as which one is called depends on _FILE_OFFSET_BITS.
 * See disk_shim.h. */
#define _GNU_SOURCE
#include "disk_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const call_names[N_CALLS] = { "flock", "openat",  "pwrite",   "ftruncate",
                                          "fsync", "mkdirat", "renameat", "unlinkat",
                                          "close", "pread",   "open" };

disk_shim shim;

void shim_reset(void)
{
    memset(&shim, 0, sizeof shim);
}

/* Count the call: threads that read a checkpoint count side by side. True: it is to fail. */
static bool fails(call what)
{
    int n = __atomic_add_fetch(&shim.count[what], 1, __ATOMIC_RELAXED);
    if (!shim.at || shim.which != what || (n != shim.at && (!shim.from_then_on || n < shim.at)))
        return false;
    errno = shim.error;
    return true;
}

/* The same for a call that changes the disk: noted, in order. */
static bool enter(call what, const char *name)
{
    if (shim.total < MAX_EVENTS) {
        shim.events[shim.total].what = what;
        snprintf(shim.events[shim.total].name, sizeof shim.events[0].name, "%s", name);
    }
    shim.total++;
    return fails(what);
}

static void tell(const change *c, bool good)
{
    int error = errno;
    if (good && shim.done)
        shim.done(c);
    errno = error;
}

static void leave(const change *c, bool good)
{
    tell(c, good);
    if (shim.kill_after && shim.total >= shim.kill_after)
        kill(getpid(), SIGKILL);
}

static const char *name_of(int fd)
{
    return fd >= 0 && fd < MAX_FDS ? shim.opened[fd] : "";
}

static void note_fd(int fd, const char *path)
{
    if (fd >= 0 && fd < MAX_FDS)
        snprintf(shim.opened[fd], sizeof shim.opened[fd], "%s", path);
}

#define WRAP_OPENAT(name)                                                                          \
    int __real_##name(int dir, const char *path, int flags, ...);                                  \
    int __wrap_##name(int dir, const char *path, int flags, ...);                                  \
    int __wrap_##name(int dir, const char *path, int flags, ...)                                   \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                                  \
        va_end(args);                                                                              \
        if (flags & O_CREAT && enter(CREATE, path))                                                \
            return -1;                                                                             \
        int fd = __real_##name(dir, path, flags, mode);                                            \
        note_fd(fd, path);                                                                         \
        change c = {                                                                               \
            .what = flags & O_CREAT ? CREATE : OPEN, .dir = dir, .path = path, .fd = fd            \
        };                                                                                         \
        if (flags & O_CREAT)                                                                       \
            leave(&c, fd >= 0);                                                                    \
        else                                                                                       \
            tell(&c, fd >= 0);                                                                     \
        return fd;                                                                                 \
    }
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

#define WRAP_OPEN(name)                                                                            \
    int __real_##name(const char *path, int flags, ...);                                           \
    int __wrap_##name(const char *path, int flags, ...);                                           \
    int __wrap_##name(const char *path, int flags, ...)                                            \
    {                                                                                              \
        int fd = __real_##name(path, flags);                                                       \
        note_fd(fd, flags &O_DIRECTORY ? "(parent)" : "(read)");                                   \
        tell(&(change) { .what = OPEN, .dir = AT_FDCWD, .path = path, .fd = fd }, fd >= 0);        \
        return fd;                                                                                 \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_PWRITE(name)                                                                          \
    ssize_t __real_##name(int fd, const void *data, size_t n, off_t offset);                       \
    ssize_t __wrap_##name(int fd, const void *data, size_t n, off_t offset);                       \
    ssize_t __wrap_##name(int fd, const void *data, size_t n, off_t offset)                        \
    {                                                                                              \
        if (enter(WRITE, name_of(fd)))                                                             \
            return shim.error ? -1 : __real_##name(fd, data, n > 3 ? n / 3 : 1, offset);           \
        ssize_t done = __real_##name(fd, data, n, offset);                                         \
        leave(&(change) { .what = WRITE,                                                           \
                          .fd = fd,                                                                \
                          .data = data,                                                            \
                          .size = (size_t)done,                                                    \
                          .offset = (uint64_t)offset },                                            \
              done >= 0);                                                                          \
        return done;                                                                               \
    }
WRAP_PWRITE(pwrite)
WRAP_PWRITE(pwrite64)

#define WRAP_PREAD(name)                                                                           \
    ssize_t __real_##name(int fd, void *data, size_t n, off_t offset);                             \
    ssize_t __wrap_##name(int fd, void *data, size_t n, off_t offset);                             \
    ssize_t __wrap_##name(int fd, void *data, size_t n, off_t offset)                              \
    {                                                                                              \
        return fails(READ) ? -1 : __real_##name(fd, data, n, offset);                              \
    }
WRAP_PREAD(pread)
WRAP_PREAD(pread64)

#define WRAP_FTRUNCATE(name)                                                                       \
    int __real_##name(int fd, off_t size);                                                         \
    int __wrap_##name(int fd, off_t size);                                                         \
    int __wrap_##name(int fd, off_t size)                                                          \
    {                                                                                              \
        if (enter(TRUNCATE, name_of(fd)))                                                          \
            return -1;                                                                             \
        int rc = __real_##name(fd, size);                                                          \
        leave(&(change) { .what = TRUNCATE, .fd = fd, .size = (size_t)size }, !rc);                \
        return rc;                                                                                 \
    }
WRAP_FTRUNCATE(ftruncate)
WRAP_FTRUNCATE(ftruncate64)

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    if (enter(SYNC, name_of(fd)))
        return -1;
    leave(&(change) { .what = SYNC, .fd = fd }, true);
    return 0;
}

int __real_mkdirat(int dir, const char *path, mode_t mode);
int __wrap_mkdirat(int dir, const char *path, mode_t mode);
int __wrap_mkdirat(int dir, const char *path, mode_t mode)
{
    if (enter(MKDIR, path))
        return -1;
    int rc = __real_mkdirat(dir, path, mode);
    leave(&(change) { .what = MKDIR, .dir = dir, .path = path, .fd = -1 }, !rc);
    return rc;
}

int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (enter(RENAME, to))
        return -1;
    int rc = __real_renameat(from_dir, from, to_dir, to);
    leave(&(change) { .what = RENAME, .dir = from_dir, .path = from, .to = to }, !rc);
    return rc;
}

int __real_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags)
{
    if (enter(UNLINK, path))
        return -1;
    int rc = __real_unlinkat(dir, path, flags);
    leave(&(change) { .what = UNLINK, .dir = dir, .path = path }, !rc);
    return rc;
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
    return enter(LOCK, name_of(fd)) ? -1 : __real_flock(fd, operation);
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    bool written = fd >= 0 && fd < MAX_FDS && shim.opened[fd][0] && shim.opened[fd][0] != '(';
    bool failed = written && enter(CLOSE, name_of(fd));
    if (fd >= 0 && fd < MAX_FDS)
        shim.opened[fd][0] = 0;
    tell(&(change) { .what = CLOSE, .fd = fd }, true);
    int rc = __real_close(fd); /* the descriptor is gone even where close() fails */
    if (failed)
        errno = shim.error;
    return failed ? -1 : rc;
}
