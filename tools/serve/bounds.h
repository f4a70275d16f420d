/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bounds of the server: what a client may send, and how long it may take. docs/serve.md has
 * them. */
#ifndef GLM4V_SERVE_BOUNDS_H
#define GLM4V_SERVE_BOUNDS_H

enum {
    SERVE_MAX_WAITING = 512,      /* connections without a request that is answered now */
    SERVE_MAX_REQUESTS = 64,      /* --max-requests: answered at a time, queued ones included */
    SERVE_SPARE_CONNECTIONS = 64, /* while connections that were shut down are not closed yet */
    SERVE_CONNECTION_BYTES = 64 << 10, /* of libmicrohttpd: a head must fit in */
    SERVE_MAX_HEADERS = 100,
    SERVE_HEADER_BYTES = 32 << 10, /* of all fields, with their separators and ends of lines */
    SERVE_MAX_BODY_MIB = 16,       /* --max-body */
    SERVE_BODIES = 4,              /* bodies of the largest size that may be in memory together */
    SERVE_PIXELS = 33 << 20,       /* of all pictures of a request */
    SERVE_PIXEL_MIB = 256,         /* of decoded pictures beyond which no further one is decoded */
    SERVE_MAX_TOKENS = 8192,       /* --max-tokens */
    SERVE_TOKENS = 1024,           /* of an answer whose request names no number */
    SERVE_PICTURES = 64,           /* of a request */
    SERVE_MAX_ALIASES = 32,
    SERVE_MAX_NAMES = 32, /* of hosts, and of domains of pictures */
    SERVE_MAX_KEYS = 64,
    SERVE_WORKERS = 2,

    /* Seconds. */
    SERVE_NEW_TIME = 1,       /* that a new connection has before it makes room for others */
    SERVE_HEAD_TIME = 5,      /* of a connection until the head of its request is there */
    SERVE_BODY_TIME = 30,     /* until the body is there */
    SERVE_SEND_TIME = 30,     /* from the end of an answer until the client has it */
    SERVE_SILENT_TIME = 5,    /* without a byte while there is something to send or receive */
    SERVE_IDLE_TIME = 60,     /* between two requests */
    SERVE_REQUEST_TIME = 600, /* --request-timeout */
    SERVE_STOP_TIME = 30,     /* --stop-timeout */
    SERVE_FETCH_TIME = 10,
    SERVE_RETRY_AFTER = 1,
};

#endif
