/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Folders of files in tests: what is in them, whether two hold the same, and their end. */
#ifndef GLM4V_TEST_FOLDERS_H
#define GLM4V_TEST_FOLDERS_H

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "files.h"

static int folder_by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a folder but . and .., sorted, with a space after each; "(none)" if it is not there. */
__attribute__((unused)) static const char *folder_names(const char *dir, char *text, size_t size)
{
    char *names[256];
    size_t n = 0, at = 0;
    DIR *d = opendir(dir);
    snprintf(text, size, "%s", d ? "" : "(none)");
    for (struct dirent *e; d && n < 256 && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            names[n++] = strdup(e->d_name);
    if (d)
        closedir(d);
    if (n)
        qsort(names, n, sizeof *names, folder_by_name);
    for (size_t i = 0; i < n; i++) {
        if (at < size)
            at += (size_t)snprintf(text + at, size - at, "%s ", names[i]);
        free(names[i]);
    }
    return text;
}

/* A number made of names and contents of the files of a folder; 0: it is not there. Files that
 * cannot be read end the program. */
__attribute__((unused)) static uint64_t folder_digest(const char *dir)
{
    char names[3072];
    uint64_t h = 0xcbf29ce484222325u;
    if (!strcmp(folder_names(dir, names, sizeof names), "(none)"))
        return 0;
    for (char *p = names, *end; *p; p = end + 1) {
        end = strchr(p, ' ');
        *end = 0;
        file_text t = file_read(dir, p);
        for (const char *c = p; *c; c++)
            h = (h ^ (unsigned char)*c) * 0x100000001b3u;
        for (size_t i = 0; i < t.len; i++)
            h = (h ^ (unsigned char)t.data[i]) * 0x100000001b3u;
        free(t.data);
    }
    return h ? h : 1;
}

/* Remove a folder of files; not there is fine. */
__attribute__((unused)) static void folder_remove(const char *dir)
{
    char own[2048]; /* dir may be one of file_path()'s four, which go round here */
    snprintf(own, sizeof own, "%s", dir);
    DIR *d = opendir(own);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            unlink(file_path(own, e->d_name));
    if (d)
        closedir(d);
    rmdir(own);
}

#endif
