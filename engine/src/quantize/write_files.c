/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of what lies beside the weights of a checkpoint: tokenizer, processor and generation
 * settings, chat template, licence, model card. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "quantize/quantize.h"

#define MAX_FILES 1024
#define COPY_PIECE ((size_t)1 << 18)

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

/* Weights of any kind, and files that the converter writes itself. */
static bool is_left_out(const char *name)
{
    static const char *const ends[] = {
        ".safetensors", ".safetensors.index.json",
        ".bin",         ".bin.index.json",
        ".pt",          ".pth",
        ".ckpt",        ".gguf",
        ".h5",          ".msgpack",
        ".tflite",      ".onnx",
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i]))
            return true;
    return name[0] == '.' || !strcmp(name, "config.json");
}

static int add_name(glm4v_file_list *list, const char *name, glm4v_error *err)
{
    if (list->n == MAX_FILES)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "more than %d files lie beside the weights; is this a model directory?",
                          MAX_FILES);
    if (list->n == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 32;
        char **more = glm4v_realloc(list->names, capacity, sizeof *more);
        if (!more)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a list of files");
        list->names = more;
        list->capacity = capacity;
    }
    list->names[list->n] = glm4v_strdup(name);
    if (!list->names[list->n])
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the name of a file");
    list->n++;
    return 0;
}

/* Take the entry if it is a file that may be read. */
static int consider(glm4v_file_list *list, const char *src, const struct dirent *entry,
                    const glm4v_log *log, glm4v_error *err)
{
    glm4v_error error = { 0 };
    glm4v_file_id id;
    int fd;
    if (is_left_out(entry->d_name) || entry->d_type == DT_DIR)
        return 0;
    int rc = glm4v_file_open(&fd, &id, src, entry->d_name, &error);
    if (rc == GLM4V_ERR_NOMEM) {
        if (err)
            *err = error;
        return rc;
    }
    if (rc) {
        glm4v_log_line(log, GLM4V_LOG_WARNING, "not copied: %s", error.msg);
        return 0;
    }
    close(fd);
    list->bytes += id.size;
    return add_name(list, entry->d_name, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int glm4v_file_list_make(glm4v_file_list *list, const char *src, const glm4v_log *log,
                         glm4v_error *err)
{
    DIR *dir = opendir(src);
    const struct dirent *entry;
    int rc = 0;
    if (!dir)
        return glm4v_fail_errno(err, errno, "%.200s: cannot be listed", src);
    errno = 0;
    while (!rc && (entry = readdir(dir))) {
        rc = consider(list, src, entry, log, err);
        errno = 0;
    }
    if (!rc && errno)
        rc = glm4v_fail_errno(err, errno, "%.200s: cannot be listed", src);
    closedir(dir);
    if (!rc && list->n)
        qsort(list->names, list->n, sizeof *list->names, by_name);
    return rc;
}

static int copy(const char *src, const char *name, glm4v_atomic_folder *to, char *buffer,
                glm4v_error *err)
{
    glm4v_file_id id;
    int fd, rc = glm4v_file_open(&fd, &id, src, name, err);
    if (rc)
        return rc;
    rc = glm4v_atomic_folder_file(to, name, err);
    for (uint64_t at = 0; !rc && at < id.size;) {
        size_t some = id.size - at < COPY_PIECE ? (id.size - at) : COPY_PIECE;
        rc = glm4v_file_read(fd, name, at, buffer, some, err);
        if (!rc)
            rc = glm4v_atomic_folder_write(to, at, buffer, some, err);
        at += some;
    }
    if (!rc)
        rc = glm4v_file_verify(fd, name, &id, err);
    close(fd);
    return rc ? rc : glm4v_atomic_folder_finish_file(to, err);
}

int glm4v_file_list_copy(const glm4v_file_list *list, const char *src, glm4v_atomic_folder *to,
                         glm4v_error *err)
{
    char *buffer = glm4v_alloc(COPY_PIECE, 1);
    if (!buffer)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to copy files");
    int rc = 0;
    for (int64_t i = 0; !rc && i < list->n; i++)
        rc = copy(src, list->names[i], to, buffer, err);
    glm4v_free(buffer);
    return rc;
}

void glm4v_file_list_clear(glm4v_file_list *list)
{
    for (int64_t i = 0; i < list->n; i++)
        glm4v_free(list->names[i]);
    glm4v_free(list->names);
    *list = (glm4v_file_list) { 0 };
}
