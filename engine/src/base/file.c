/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and reading the files of a model directory. Contents and names are hostile; see file.h.
 */
#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

/* O_NONBLOCK: a FIFO without a writer must not block the open that finds out it is one. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW)
/* One pread at most; a thread on slow storage comes back to look for a cancel in between. */
#define READ_PIECE ((size_t)1 << 20)
/* Interrupted calls in a row before the call counts as failed: a regular file is hardly ever
 * interrupted at all, and a file system that always returns EINTR must not block loading
 * forever. */
#define MAX_INTERRUPTS 1000

char *glm4v_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = glm4v_alloc(n, 1);
    if (path)
        snprintf(path, n, "%s/%s", dir, name);
    return path;
}

bool glm4v_file_exists(const char *dir, const char *name)
{
    struct stat st;
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n >= (int)sizeof path || !lstat(path, &st) || errno != ENOENT;
}

static int open_retry(const char *path)
{
    int fd = -1;
    for (int i = 0; i < MAX_INTERRUPTS; i++) {
        fd = open(path, OPEN_FLAGS);
        if (fd >= 0 || errno != EINTR)
            break;
    }
    return fd;
}

/* Is path inside folder? Both are canonical. */
static bool is_inside(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (path[n] == '/' || (n && folder[n - 1] == '/'));
}

/* Cut the last component off a canonical path; "/" stays. */
static void parent_of(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        slash[slash == path] = 0;
}

/* A model cache keeps snapshots/REVISION/NAME as links to blobs/HASH beside `snapshots`. folder is
 * changed. */
static bool is_cache_blob(const char *path, char *folder)
{
    char *name = strrchr(folder, '/');
    if (!name)
        return false;
    parent_of(folder);
    name = strrchr(folder, '/');
    if (!name || strcmp(name, "/snapshots"))
        return false;
    parent_of(folder);
    size_t n = strlen(folder);
    return is_inside(path, folder) && !strncmp(path + n, "/blobs/", 7);
}

static int open_link(int *fd, const char *dir, const char *path, const char *name, glm4v_error *err)
{
    int rc = 0;
    char *folder = glm4v_alloc(2, PATH_MAX);
    if (!folder)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory to resolve the link", name);
    char *target = folder + PATH_MAX;
    if (!realpath(dir, folder) || !realpath(path, target)) {
        rc =
            glm4v_fail_errno(err, errno, "%s: a symbolic link to a file that does not exist", name);
        goto done;
    }
    if (!is_inside(target, folder) && !is_cache_blob(target, folder)) {
        rc = glm4v_fail(err, GLM4V_ERR_IO,
                        "%s: a symbolic link out of the model directory is not followed; "
                        "put the file itself there",
                        name);
        goto done;
    }
    *fd = open_retry(target);
    if (*fd < 0)
        rc = glm4v_fail_errno(err, errno, "%s: cannot be opened", name);
done:
    glm4v_free(folder);
    return rc;
}

static int identify(int fd, glm4v_file_id *id, bool *regular)
{
    struct stat st;
    if (fstat(fd, &st))
        return errno;
    *regular = S_ISREG(st.st_mode);
    *id = (glm4v_file_id) { .device = st.st_dev,
                            .inode = st.st_ino,
                            .size = st.st_size,
                            .mtime_s = st.st_mtim.tv_sec,
                            .mtime_ns = st.st_mtim.tv_nsec };
    return 0;
}

int glm4v_file_open(int *fd, glm4v_file_id *id, const char *dir, const char *name, glm4v_error *err)
{
    bool regular = false;
    int rc = 0, file = -1;
    char *path = glm4v_path_join(dir, name);
    if (!path)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for its path", name);
    file = open_retry(path);
    if (file < 0 && errno == ELOOP)
        rc = open_link(&file, dir, path, name, err);
    else if (file < 0)
        rc = glm4v_fail_errno(err, errno, "%s: cannot be opened in %s", name, dir);
    glm4v_free(path);
    if (rc)
        return rc;
    int error = identify(file, id, &regular);
    if (error)
        rc = glm4v_fail_errno(err, error, "%s: cannot be examined", name);
    else if (!regular)
        rc = glm4v_fail(err, GLM4V_ERR_IO, "%s: not a regular file (a folder, FIFO or device)",
                        name);
    if (rc) {
        close(file);
        return rc;
    }
    *fd = file;
    return 0;
}

int glm4v_file_read(int fd, const char *name, uint64_t offset, void *data, size_t len,
                    glm4v_error *err)
{
    char *to = data;
    int interrupts = 0;
    while (len) {
        size_t piece = len < READ_PIECE ? len : READ_PIECE;
        ssize_t got = pread(fd, to, piece, (off_t)offset);
        if (got < 0 && errno == EINTR && ++interrupts < MAX_INTERRUPTS)
            continue;
        if (got < 0)
            return glm4v_fail_errno(err, errno, "%s: cannot be read at byte %" PRIu64, name,
                                    offset);
        if (got == 0)
            return glm4v_fail(err, GLM4V_ERR_IO,
                              "%s: ends at byte %" PRIu64
                              ", %zu bytes early: it was cut short while "
                              "being read",
                              name, offset, len);
        interrupts = 0;
        to += got;
        offset += got;
        len -= got;
    }
    return 0;
}

int glm4v_file_verify(int fd, const char *name, const glm4v_file_id *id, glm4v_error *err)
{
    glm4v_file_id now = { 0 };
    bool regular;
    int error = identify(fd, &now, &regular);
    if (error)
        return glm4v_fail_errno(err, error, "%s: cannot be examined again", name);
    if (now.size != id->size)
        return glm4v_fail(err, GLM4V_ERR_IO,
                          "%s: changed from %" PRIu64 " to %" PRIu64 " bytes while being read",
                          name, id->size, now.size);
    if (now.mtime_s != id->mtime_s || now.mtime_ns != id->mtime_ns || now.inode != id->inode ||
        now.device != id->device)
        return glm4v_fail(err, GLM4V_ERR_IO,
                          "%s: was written to while being read; open the model again", name);
    return 0;
}

/* ---- what was saved in a file's place ---- */

static bool begins_with(const char *text, size_t len, const char *word)
{
    size_t n = strlen(word);
    return len >= n && !strncasecmp(text, word, n);
}

static size_t skip_space(const char *text, size_t len)
{
    size_t i = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (i < len && (text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r')))
        i++;
    return i;
}

/* The decimal number behind "\nsize ", 0 if there is none. */
static uint64_t lfs_size(const char *text, size_t len)
{
    static const char key[] = "\nsize ";
    const char *at = memmem(text, len, key, sizeof key - 1), *end = text + len;
    uint64_t size = 0;
    for (at = at ? at + sizeof key - 1 : end; at < end && *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(size, 10, &size) ||
            __builtin_add_overflow(size, (*at - '0'), &size))
            return 0;
    return size;
}

/* Length of the first line if it is printable ASCII, else 0. */
static size_t text_line(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && text[n] >= ' ' && text[n] < 0x7f)
        n++;
    return n == len || text[n] == '\n' || text[n] == '\r' ? n : 0;
}

static int check_weights_head(const char *name, const char *head, size_t len, glm4v_error *err)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } others[] = {
        { "GGUF", 4, "is a GGUF file under the name of a safetensors file" },
        { "PK\3\4", 4, "is a zip archive or a PyTorch file under the name of a safetensors file" },
        { "\x80\2", 2, "is a PyTorch file under the name of a safetensors file" },
        { "\x1f\x8b", 2, "is compressed with gzip (unpack it)" },
        { "\x28\xb5\x2f\xfd", 4, "is compressed with zstd (unpack it)" },
        { "\0\0\0\0\0\0\0\0", 8,
          "begins with zeros, like the space reserved for a download that did not finish" },
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (len >= others[i].n && !memcmp(head, others[i].bytes, others[i].n))
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%.80s: %s; download the weights again", name,
                              others[i].what);
    size_t start = skip_space(head, len), n = text_line(head + start, len - start);
    if (n >= 8 || (start < len && head[start] == '{'))
        return glm4v_fail(
            err, GLM4V_ERR_FORMAT,
            "%.80s: is a text that begins with \"%.*s\", probably a server's reply instead of the "
            "weights; check the address and your access, and download it again",
            name, (int)(n < 120 ? n : 120), head + start);
    return 0;
}

int glm4v_file_check_head(const char *name, const char *head, size_t len, bool as_weights,
                          glm4v_error *err)
{
    if (begins_with(head, len, "version https://git-lfs.github.com/spec/"))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: is a Git LFS pointer that stands for %" PRIu64
                          " bytes, not the file "
                          "itself; run \"git lfs pull\" in its folder, or download the file",
                          name, lfs_size(head, len));
    size_t start = skip_space(head, len);
    const char *text = head + start;
    if (begins_with(text, len - start, "<!doctype") || begins_with(text, len - start, "<html"))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: is a web page (HTML), not the file; use the download link of the "
                          "file, not the address of the page that shows it",
                          name);
    if (begins_with(text, len - start, "<?xml"))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: is a server's message (XML), not the file; check the address and "
                          "your access, and download it again",
                          name);
    return as_weights ? check_weights_head(name, head, len, err) : 0;
}
