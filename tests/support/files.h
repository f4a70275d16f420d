/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small files for tests: write, read, change. Failures end the program: a test that cannot write
 * its input says nothing about what it tests. */
#ifndef GLM4V_TEST_FILES_H
#define GLM4V_TEST_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *data; /* terminated beyond len */
    size_t len;
} file_text;

__attribute__((noreturn, unused)) static void file_die(const char *what, const char *path)
{
    printf("Bail out! %s %s\n", what, path);
    exit(1);
}

/* dir/name in a static buffer, one of four that are taken in turn. */
__attribute__((unused)) static const char *file_path(const char *dir, const char *name)
{
    static char path[4][4096];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* A new file each time: rewriting one in place makes some file systems wait for the disk. */
__attribute__((unused)) static void file_write(const char *dir, const char *name, const void *data,
                                               size_t len)
{
    const char *path = file_path(dir, name);
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, len, f) != len || fclose(f))
        file_die("cannot write", path);
}

__attribute__((unused)) static void file_write_text(const char *dir, const char *name,
                                                    const char *text)
{
    file_write(dir, name, text, strlen(text));
}

__attribute__((unused)) static file_text file_read(const char *dir, const char *name)
{
    const char *path = file_path(dir, name);
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END))
        file_die("cannot open", path);
    long len = ftell(f);
    file_text t = { .data = malloc((size_t)len + 1), .len = (size_t)len };
    rewind(f);
    if (!t.data || fread(t.data, 1, t.len, f) != t.len)
        file_die("cannot read", path);
    t.data[t.len] = 0;
    fclose(f);
    return t;
}

/* Replace the first `from` in dir/name by `to`; dies when it is not there. */
__attribute__((unused)) static void file_replace(const char *dir, const char *name,
                                                 const char *from, const char *to)
{
    file_text t = file_read(dir, name);
    char *at = memmem(t.data, t.len, from, strlen(from));
    if (!at)
        file_die("nothing to replace in", name);
    unlink(file_path(dir, name));
    FILE *f = fopen(file_path(dir, name), "wb");
    fwrite(t.data, 1, (size_t)(at - t.data), f);
    fputs(to, f);
    fwrite(at + strlen(from), 1, t.len - (size_t)(at - t.data) - strlen(from), f);
    if (fclose(f))
        file_die("cannot write", name);
    free(t.data);
}

/* Length of a safetensors file's header text. */
__attribute__((unused)) static size_t file_header_len(file_text t)
{
    uint64_t len;
    memcpy(&len, t.data, sizeof len);
    return (size_t)len;
}

#endif
