/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of a folder. */
#ifndef GLM4V_TOOLS_FOLDER_H
#define GLM4V_TOOLS_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "glm4v/glm4v.h"

typedef struct {
    char **paths; /* each begins with the folder's own */
    size_t n;
} cli_folder;

bool cli_is_folder(const char *path);

/* List a folder's files in the order of the bytes of their names, without those whose names begin
 * with a dot; recursive: also those of its subfolders, at the place of the name of each. Links to
 * files are files, links to folders are skipped. 0, or a GLM4V_ERR_* with the reason in err->msg.
 * Free it also after a failure. */
int cli_folder_list(cli_folder *folder, const char *path, bool recursive, glm4v_error *err);
/* Likewise the folders in a folder; links to folders are among them. */
int cli_folder_list_folders(cli_folder *folder, const char *path, glm4v_error *err);
void cli_folder_free(cli_folder *folder);

#endif
