/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an input holds, in memory: a file, standard input, a data: URI. */
#ifndef GLM4V_TOOLS_BLOB_H
#define GLM4V_TOOLS_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct {
    uint8_t *data; /* owned */
    size_t size, room;
} cli_blob;

/* Read on until `wanted` bytes are there or the descriptor ends. 0 or a GLM4V_ERR_*: NOMEM, IO, or
 * CANCELED after a signal to end. */
int cli_blob_read(cli_blob *blob, int fd, size_t wanted, glm4v_error *err);

/* 0 or GLM4V_ERR_NOMEM. */
int cli_blob_append(cli_blob *blob, const void *data, size_t size, glm4v_error *err);

/* What a data: URI holds (RFC 2397), in base64 or percent-encoded. 0, GLM4V_ERR_FORMAT or NOMEM. */
int cli_blob_from_data_uri(cli_blob *blob, const char *uri, glm4v_error *err);

void cli_blob_free(cli_blob *blob);

#endif
