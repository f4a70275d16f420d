/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The key for a server: of a file, else of the environment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "remote/remote.h"

#define VARIABLE "GLM4V_API_KEY"

static int take_key(char **key, const char *text, glm4v_error *err)
{
    *key = glm4v_strdup(text);
    return *key ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a key");
}

static int read_file(char **key, const char *name, glm4v_error *err)
{
    char line[1000];
    FILE *file = fopen(name, "re");
    if (!file)
        return glm4v_fail_errno(err, errno, "the file of the key, %.200s", name);
    const bool read = fgets(line, sizeof line, file) != NULL;
    const bool failed = ferror(file);
    fclose(file);
    if (failed)
        return glm4v_fail(err, GLM4V_ERR_IO, "the file of the key cannot be read: %.200s", name);
    if (read)
        line[strcspn(line, "\r\n")] = 0;
    if (!read || !*line || strlen(line) == sizeof line - 1)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "the file of the key has none in its first line: %.200s", name);
    return take_key(key, line, err);
}

int remote_read_key(char **key, const char *file, glm4v_error *err)
{
    const char *text = getenv(VARIABLE);
    *key = NULL;
    if (file)
        return read_file(key, file, err);
    return text && *text ? take_key(key, text, err) : 0;
}
