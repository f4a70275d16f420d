/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is checked of every request before it is looked at: that its head is plain, that it is meant
 * for this server, that no page of a browser sent it, and its key. All routes are behind it. */
#ifndef GLM4V_SERVE_GATE_H
#define GLM4V_SERVE_GATE_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"
#include "bounds.h"

typedef struct {
    const char *hosts[SERVE_MAX_NAMES]; /* [n_hosts] names beside localhost and addresses */
    size_t n_hosts;
    char *keys[SERVE_MAX_KEYS]; /* [n_keys] of which one is required; 0: none is */
    size_t n_keys;
} serve_gate;

/* Read keys, one a line; lines that are empty or begin with # do not count. 0, GLM4V_ERR_IO, or
 * _INVALID if it has none, a line that cannot be one, or others may read the file. */
int serve_gate_read_keys(serve_gate *gate, const char *path, glm4v_error *err);
void serve_gate_close(serve_gate *gate);

/* What of a head matters behind the gate. */
typedef struct {
    bool has_body;
    bool expects;                                /* it waits for 100 before it sends the body */
    bool chunked;                                /* the body is, so its length is unknown */
    uint64_t length;                             /* else */
    const char *content_type, *content_encoding; /* NULL: not given */
} serve_head;

/* Status and reason of a refusal. */
typedef struct {
    unsigned status; /* 0: let through */
    const char *message, *code;
} serve_refusal;

/* local: the connection came through a UNIX socket, whose file's rights are the key. */
serve_refusal serve_gate_check(const serve_gate *gate, struct MHD_Connection *connection,
                               const char *version, bool local, serve_head *head);

/* For tests: does a Host header name this machine? */
bool serve_gate_is_host(const serve_gate *gate, const char *host);

/* In time that depends on the length of `given` alone. */
bool serve_gate_is_key(const serve_gate *gate, const char *given);

#endif
