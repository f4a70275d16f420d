/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The address that the server listens on. */
#ifndef GLM4V_SERVE_LISTEN_H
#define GLM4V_SERVE_LISTEN_H

#include <stdbool.h>

#include "glm4v/glm4v.h"

typedef struct {
    int fd;     /* listening; -1 = none */
    bool local; /* only this machine's processes reach it */
    bool unix_socket;
    char name[256]; /* "127.0.0.1:8080", "[::1]:8080", "unix:/run/glm4v.sock" */
} serve_listener;

/* Bind "HOST:PORT", "[IPv6]:PORT" or "unix:PATH". Port 0: a free one, which name then has. HOST
 * is an address or a name of this machine. A socket file that nobody listens on any more is
 * replaced. 0, GLM4V_ERR_INVALID (it is no address), _IO (it cannot be used). */
int serve_listen(serve_listener *listener, const char *address, glm4v_error *err);

/* Close it, and remove the file of a UNIX socket. */
void serve_listen_close(serve_listener *listener);

#endif
