/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See folder.h. */
#define _GNU_SOURCE
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "fail.h"

enum { MAX_DEPTH = 100 };
typedef enum { FILES, FILES_BELOW_TOO, FOLDERS } wanted;

bool cli_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int fail(glm4v_error *err, int code, const char *path, const char *why)
{
    return cli_fail(err, code, "%.180s: %s", path, why);
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Not alphasort(), which follows the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Takes the path. */
static bool append(cli_folder *folder, char *path)
{
    if ((folder->n & (folder->n - 1)) == 0) { /* full: room doubles at powers of two */
        char **paths = cli_alloc(folder->n ? 2 * folder->n : 1, sizeof *paths);
        if (!paths)
            return false;
        if (folder->n)
            memcpy(paths, folder->paths, folder->n * sizeof *paths);
        free(folder->paths);
        folder->paths = paths;
    }
    folder->paths[folder->n++] = path;
    return true;
}

static int list(cli_folder *folder, const char *path, wanted what, int depth, glm4v_error *err)
{
    struct dirent **names = NULL;
    int rc = 0, n = scandir(path, &names, is_shown, by_bytes);
    if (n < 0)
        return fail(err, errno == ENOENT ? GLM4V_ERR_NOT_FOUND : GLM4V_ERR_IO, path,
                    strerror(errno));
    if (depth > MAX_DEPTH)
        rc = fail(err, GLM4V_ERR_UNSUPPORTED, path, "folders are nested too deeply");
    const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
    for (int i = 0; i < n; i++) {
        char *entry = NULL;
        struct stat st = { 0 };
        if (!rc && asprintf(&entry, "%s%s%s", path, slash, names[i]->d_name) < 0)
            rc = fail(err, GLM4V_ERR_NOMEM, path, "no memory for a list of files");
        const bool is_folder = !rc && lstat(entry, &st) == 0 && S_ISDIR(st.st_mode);
        if (!rc && is_folder && what == FILES_BELOW_TOO)
            rc = list(folder, entry, what, depth + 1, err);
        if (rc || cli_is_folder(entry) != (what == FOLDERS))
            free(entry);
        else if (!append(folder, entry)) {
            free(entry);
            rc = fail(err, GLM4V_ERR_NOMEM, path, "no memory for a list of files");
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

int cli_folder_list(cli_folder *folder, const char *path, bool recursive, glm4v_error *err)
{
    return list(folder, path, recursive ? FILES_BELOW_TOO : FILES, 0, err);
}

int cli_folder_list_folders(cli_folder *folder, const char *path, glm4v_error *err)
{
    return list(folder, path, FOLDERS, 0, err);
}

void cli_folder_free(cli_folder *folder)
{
    for (size_t i = 0; i < folder->n; i++)
        free(folder->paths[i]);
    free(folder->paths);
    *folder = (cli_folder) { 0 };
}
