/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing a folder atomically, see base/atomic_folder.h. Names in the parent of NAME:
 * `.NAME.glm4v-lock`, locked with flock() while a run lasts, which holds the name of the temporary
 * folder, `.NAME.glm4v-tmp-...`, from before that is made. So a temporary folder is removed only if
 * a lock file of ours names it and no process holds the lock. */
#define _GNU_SOURCE
#include "base/atomic_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define MAX_BASE 160 /* bytes of NAME, so that the names made from it stay below 255 */
#define LOCK_MAGIC "glm4v temporary folder\n"
#define WRITE_PIECE ((size_t)1 << 20)
#define MAX_INTERRUPTS 1000 /* in a row, see file.c */

struct glm4v_atomic_folder {
    int parent, lock, folder, file; /* descriptors, -1 = none */
    bool committed;
    char path[PATH_MAX]; /* of the parent, canonical */
    char base[MAX_BASE + 1];
    char lock_name[MAX_BASE + 32], temporary[MAX_BASE + 64]; /* temporary: "" = none yet */
    char file_name[NAME_MAX + 1];
};

/* ---- errors ---- */

/* What a person can do about it. */
static const char *remedy(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "; free some space or write to another disk";
    case EROFS:
    case EACCES:
    case EPERM:
        return "; name a writable folder";
    case EFBIG:
        return "; raise the limit (ulimit -f) or ask for smaller files";
    default:
        return "";
    }
}

/* glm4v_fail_errno() for what is written. */
__attribute__((format(printf, 3, 4))) static int fail_disk(glm4v_error *err, int error,
                                                           const char *format, ...)
{
    char text[sizeof err->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int code = glm4v_fail_errno(err, error, "%s", text);
    if (err) {
        size_t n = strlen(err->msg);
        snprintf(err->msg + n, sizeof err->msg - n, "%s", remedy(error));
    }
    return code;
}

/* ---- where ---- */

/* Is path the folder itself or something in it? Both are canonical. */
static bool is_within(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (!path[n] || path[n] == '/' || folder[n - 1] == '/');
}

/* Split dst in the canonical path of its parent and its own name. */
static int find_place(glm4v_atomic_folder *p, const char *dst, glm4v_error *err)
{
    char path[PATH_MAX];
    struct stat st;
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/')
        n--;
    if (!n || n >= sizeof path)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "\"%.80s\" is not the path of a folder", dst);
    memcpy(path, dst, n);
    path[n] = 0;
    if (!lstat(path, &st) && S_ISDIR(st.st_mode)) { /* gives "." and ".." their names */
        char given[PATH_MAX];
        memcpy(given, path, n + 1);
        if (!realpath(given, path))
            return glm4v_fail_errno(err, errno, "%s: cannot be resolved", given);
    }
    char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    if (strlen(base) > MAX_BASE || !*base || !strcmp(base, ".") || !strcmp(base, ".."))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "\"%.200s\": the last part must be the name of a folder, of at most %d "
                          "bytes",
                          dst, MAX_BASE);
    snprintf(p->base, sizeof p->base, "%s", base);
    if (slash)
        slash[slash == path] = 0;
    if (!realpath(slash ? path : ".", p->path))
        return glm4v_fail_errno(err, errno, "%.200s: the folder to write it in", dst);
    return 0;
}

static int check_not_within(const glm4v_atomic_folder *p, const char *src, glm4v_error *err)
{
    char folder[PATH_MAX], path[PATH_MAX + MAX_BASE + 2];
    if (!realpath(src, folder))
        return glm4v_fail_errno(err, errno, "%.200s: cannot be resolved", src);
    snprintf(path, sizeof path, "%s/%s", strcmp(p->path, "/") ? p->path : "", p->base);
    if (is_within(path, folder))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%.200s lies in the folder that is read; write to another place", path);
    return 0;
}

/* The name must be free, or an empty folder, which rename() replaces. */
static int check_free(const glm4v_atomic_folder *p, glm4v_error *err)
{
    struct stat st;
    if (fstatat(p->parent, p->base, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT
                   ? 0
                   : glm4v_fail_errno(err, errno, "%.200s: cannot be examined in %.200s", p->base,
                                      p->path);
    if (!S_ISDIR(st.st_mode))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%.200s in %.200s exists already and is not a folder; name another",
                          p->base, p->path);
    int fd = openat(p->parent, p->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return glm4v_fail_errno(err, error, "%.200s: cannot be examined in %.200s", p->base,
                                p->path);
    }
    int n = 0;
    while (n < 3 && readdir(dir))
        n++;
    closedir(dir);
    return n < 3 ? 0
                 : glm4v_fail(err, GLM4V_ERR_INVALID,
                              "%.200s in %.200s exists already and is not empty; nothing is "
                              "overwritten: remove it or name another",
                              p->base, p->path);
}

/* ---- syncing and removing ---- */

/* A file system that cannot sync folders returns EINVAL; there is nothing to wait for then. */
static int sync_folder(int fd)
{
    return fsync(fd) && errno != EINVAL ? errno : 0;
}

/* Remove folder `name` of the parent with the files in it. */
static int remove_folder(const glm4v_atomic_folder *p, const char *name)
{
    int fd = openat(p->parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return error == ENOENT ? 0 : error;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlinkat(fd, entry->d_name, 0); /* what stays makes the next line fail */
    int error = unlinkat(p->parent, name, AT_REMOVEDIR) ? errno : 0;
    closedir(dir);
    return error;
}

/* ---- lock ---- */

/* Take the lock file: made if missing, and still the one that has the name once it is locked. */
static int take_lock(glm4v_atomic_folder *p, glm4v_error *err)
{
    struct stat mine, named;
    for (;;) {
        p->lock = openat(p->parent, p->lock_name,
                         O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
        if (p->lock < 0)
            return fail_disk(err, errno, "%.200s: cannot be created in %.200s", p->lock_name,
                             p->path);
        if (flock(p->lock, LOCK_EX | LOCK_NB)) {
            int error = errno;
            close(p->lock);
            p->lock = -1;
            if (error == EWOULDBLOCK)
                return glm4v_fail(err, GLM4V_ERR_BUSY,
                                  "%.200s in %.200s is being written by another converter", p->base,
                                  p->path);
            unlinkat(p->parent, p->lock_name, 0); /* locks have no effect here */
            return glm4v_fail_errno(err, error, "%.200s: cannot be locked in %.200s", p->lock_name,
                                    p->path);
        }
        if (!fstat(p->lock, &mine) &&
            !fstatat(p->parent, p->lock_name, &named, AT_SYMLINK_NOFOLLOW) &&
            mine.st_ino == named.st_ino && mine.st_dev == named.st_dev)
            return 0;
        close(p->lock); /* its holder removed it in between */
        p->lock = -1;
    }
}

/* Text that a power failure left: as it was written, or zeros in place of any of it. */
static bool is_remnant(const char *text, const char *of, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] && text[i] != of[i])
            return false;
    return true;
}

/* The temporary folder that the lock file names, or "". INVALID: it is no lock file of ours. */
static int read_lock(const glm4v_atomic_folder *p, char *name, size_t size, glm4v_error *err)
{
    char text[512] = "", prefix[MAX_BASE + 32];
    const size_t magic = sizeof LOCK_MAGIC - 1;
    struct stat st;
    *name = 0;
    if (!fstat(p->lock, &st) && !st.st_size) /* made just now */
        return 0;
    ssize_t n = pread(p->lock, text, sizeof text - 1, 0);
    if (n < 0)
        return glm4v_fail_errno(err, errno, "%.200s: cannot be read in %.200s", p->lock_name,
                                p->path);
    char *line = text + ((size_t)n < magic ? (size_t)n : magic), *end;
    if (!is_remnant(text, LOCK_MAGIC, line - text))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%.200s in %.200s is not a lock file of this program; remove it",
                          p->lock_name, p->path);
    end = strchr(line, '\n');
    size_t n_prefix = snprintf(prefix, sizeof prefix, ".%s.glm4v-tmp-", p->base);
    if (!end) /* cut short or zeros: it is synced before the folder is made */
        return 0;
    *end = 0;
    if (!strncmp(line, prefix, n_prefix) && !strchr(line, '/') && strlen(line) < size)
        snprintf(name, size, "%s", line);
    return 0;
}

static int write_all(int fd, const void *data, size_t size, uint64_t offset)
{
    const char *from = data;
    int interrupts = 0;
    while (size) {
        size_t piece = size < WRITE_PIECE ? size : WRITE_PIECE;
        ssize_t done = pwrite(fd, from, piece, (off_t)offset);
        if (done < 0 && errno == EINTR && ++interrupts < MAX_INTERRUPTS)
            continue;
        if (done <= 0)
            return done ? errno : EIO;
        interrupts = 0;
        from += done;
        offset += done;
        size -= done;
    }
    return 0;
}

/* Name the temporary folder in the lock file, safely on disk, then make it. */
static int make_temporary(glm4v_atomic_folder *p, glm4v_error *err)
{
    char text[sizeof LOCK_MAGIC + sizeof p->temporary];
    uint64_t number = 0;
    int error = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = getpid();
    snprintf(p->temporary, sizeof p->temporary, ".%s.glm4v-tmp-%016" PRIx64, p->base, number);
    int n = snprintf(text, sizeof text, LOCK_MAGIC "%s\n", p->temporary);
    if (ftruncate(p->lock, 0))
        error = errno;
    if (!error)
        error = write_all(p->lock, text, n, 0);
    if (!error && fsync(p->lock))
        error = errno;
    if (!error)
        error = sync_folder(p->parent);
    if (error) {
        p->temporary[0] = 0;
        return fail_disk(err, error, "%.200s: cannot be written in %.200s", p->lock_name, p->path);
    }
    if (mkdirat(p->parent, p->temporary, 0777)) {
        error = errno;
        p->temporary[0] = 0;
        return fail_disk(err, error, "a folder cannot be created in %.200s", p->path);
    }
    p->folder = openat(p->parent, p->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return p->folder >= 0 ? 0
                          : glm4v_fail_errno(err, errno, "%.200s: cannot be opened in %.200s",
                                             p->temporary, p->path);
}

/* ---- in order ---- */

static int begin(glm4v_atomic_folder *p, const char *src, const char *dst, glm4v_error *err)
{
    char left[sizeof p->temporary];
    int rc = find_place(p, dst, err);
    if (!rc)
        rc = check_not_within(p, src, err);
    if (rc)
        return rc;
    snprintf(p->lock_name, sizeof p->lock_name, ".%s.glm4v-lock", p->base);
    p->parent = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->parent < 0)
        return glm4v_fail_errno(err, errno, "%.200s: cannot be opened", p->path);
    if ((rc = take_lock(p, err)))
        return rc;
    if ((rc = read_lock(p, left, sizeof left, err))) {
        close(p->lock); /* not ours: it stays */
        p->lock = -1;
        return rc;
    }
    int error = *left ? remove_folder(p, left) : 0;
    if (!error && *left) /* gone for good before the lock file names another one */
        error = sync_folder(p->parent);
    if (error)
        return glm4v_fail_errno(err, error,
                                "%.200s, left in %.200s by an interrupted run, cannot be removed",
                                left, p->path);
    rc = check_free(p, err);
    return rc ? rc : make_temporary(p, err);
}

int glm4v_atomic_folder_begin(glm4v_atomic_folder **folder, const char *src, const char *dst,
                              glm4v_error *err)
{
    glm4v_atomic_folder *p = glm4v_alloc(1, sizeof *p);
    if (!p)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to write %.200s", dst);
    p->parent = p->lock = p->folder = p->file = -1;
    int rc = begin(p, src, dst, err);
    if (rc)
        glm4v_atomic_folder_end(&p);
    else
        *folder = p;
    return rc;
}

int glm4v_atomic_folder_room(const glm4v_atomic_folder *p, uint64_t bytes, glm4v_error *err)
{
    struct statvfs fs;
    if (fstatvfs(p->folder, &fs))
        return glm4v_fail_errno(err, errno, "%.200s: its free space cannot be read", p->path);
    uint64_t room = fs.f_bavail * fs.f_frsize;
    if (bytes <= room)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_IO,
                      "%.200s: %" PRIu64 " bytes (%" PRIu64 " MiB) are needed to write %.100s, "
                      "but %" PRIu64 " (%" PRIu64 " MiB) are free%s",
                      p->path, bytes, bytes >> 20, p->base, room, room >> 20, remedy(ENOSPC));
}

int glm4v_atomic_folder_file(glm4v_atomic_folder *p, const char *name, glm4v_error *err)
{
    snprintf(p->file_name, sizeof p->file_name, "%s", name);
    p->file = openat(p->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return p->file >= 0
               ? 0
               : fail_disk(err, errno, "%.200s: cannot be created in %.200s", name, p->path);
}

int glm4v_atomic_folder_write(const glm4v_atomic_folder *p, uint64_t offset, const void *data,
                              size_t size, glm4v_error *err)
{
    int error = write_all(p->file, data, size, offset);
    return error ? fail_disk(err, error, "%.200s: cannot be written in %.200s at byte %" PRIu64,
                             p->file_name, p->path, offset)
                 : 0;
}

int glm4v_atomic_folder_finish_file(glm4v_atomic_folder *p, glm4v_error *err)
{
    int error = fsync(p->file) ? errno : 0;
    if (close(p->file) && !error)
        error = errno;
    p->file = -1;
    return error
               ? fail_disk(err, error, "%.200s: cannot be written in %.200s", p->file_name, p->path)
               : 0;
}

int glm4v_atomic_folder_commit(glm4v_atomic_folder *p, glm4v_error *err)
{
    int error = sync_folder(p->folder);
    if (error)
        return fail_disk(err, error, "%.200s: cannot be written in %.200s", p->temporary, p->path);
    if (renameat(p->parent, p->temporary, p->parent, p->base)) {
        error = errno;
        if (error == ENOTEMPTY || error == EEXIST || error == ENOTDIR)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "%.200s appeared in %.200s while it was being written; nothing is "
                              "overwritten",
                              p->base, p->path);
        return fail_disk(err, error, "%.200s: the finished folder cannot be renamed in %.200s",
                         p->base, p->path);
    }
    if ((error = sync_folder(p->parent))) {
        /* whether the name survives a power failure is unknown: undo it */
        if (renameat(p->parent, p->base, p->parent, p->temporary))
            p->temporary[0] = 0;
        return fail_disk(err, error, "%.200s: its folder cannot be synced", p->path);
    }
    p->committed = true;
    return 0;
}

void glm4v_atomic_folder_end(glm4v_atomic_folder **folder)
{
    glm4v_atomic_folder *p = *folder;
    *folder = NULL;
    if (!p)
        return;
    if (p->file >= 0)
        close(p->file);
    if (p->folder >= 0)
        close(p->folder);
    bool removes = !p->committed && p->temporary[0];
    bool clean = !removes || !remove_folder(p, p->temporary);
    if (removes && clean) /* before its name is; where that fails, nothing more can be done */
        sync_folder(p->parent);
    if (p->lock >= 0) {
        if (clean) /* else the next run reads in it what to remove */
            unlinkat(p->parent, p->lock_name, 0);
        close(p->lock);
    }
    if (p->parent >= 0)
        close(p->parent);
    glm4v_free(p);
}
