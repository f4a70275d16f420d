/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Archived pictures, found by the digest of what the model saw of them. */
#ifndef GLM4V_TOOLS_ARCHIVE_H
#define GLM4V_TOOLS_ARCHIVE_H

#include <stdbool.h>

#include "contract/digest.h"
#include "glm4v/glm4v.h"

/* Parts of pictures that are looked for, at most; the others have to be archived as they are. */
enum { CLI_MOST_PARTS = 64 };

typedef struct {
    int32_t x, y, width, height;
} cli_part;

typedef struct cli_archive cli_archive;

cli_archive *cli_archive_new(void);
void cli_archive_free(cli_archive **archive);

/* Before pictures are read: what is looked for. */
void cli_archive_want(cli_archive *archive, const char *digest);
void cli_archive_want_part(cli_archive *archive, const cli_part *part);

/* Decode files, and those of folders and the folders in them, and note which are wanted. What is no
 * picture is told on stderr. 0, or a GLM4V_ERR_*: a path that was named cannot be read. */
int cli_archive_read(cli_archive *archive, char **paths, int n, glm4v_error *err);

/* The wanted picture with a digest. False: there is none; err->code is 0, or the file was there and
 * cannot be read any more. On success its pixels are freed with free((void *)image->data). */
bool cli_archive_load(const cli_archive *archive, const char *digest, glm4v_image *image,
                      glm4v_error *err);

#endif
