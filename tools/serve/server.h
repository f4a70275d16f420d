/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server: its parts, and what all requests share. serve.c starts and stops it.
 *
 * Threads: libmicrohttpd's own (sockets, heads, bodies, what is sent), workers (JSON and pictures),
 * the engine's (callbacks of requests), the cleaner (frees pictures), and the one that watches
 * connections.
 * Locks, outer first: connections, exchange, libmicrohttpd's own. */
#ifndef GLM4V_SERVE_SERVER_H
#define GLM4V_SERVE_SERVER_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "connections.h"
#include "gate.h"
#include "images.h"
#include "listen.h"
#include "metrics.h"
#include "workers.h"

typedef enum { SERVE_LOADING, SERVE_READY, SERVE_STOPPING } serve_state;

typedef struct {
    const char *names[SERVE_MAX_ALIASES + 1]; /* [n_names] of the model, its own first */
    size_t n_names;
    uint32_t max_requests, max_tokens, max_batch;
    uint64_t max_body;      /* bytes */
    double request_timeout; /* seconds */
    serve_gate gate;
    serve_sources sources;
} serve_settings;

typedef struct {
    const serve_settings *set;
    serve_listener listener;
    struct MHD_Daemon *daemon;
    serve_connections *connections;
    serve_workers *workers; /* may all wait for room for pixels */
    serve_workers *cleaner; /* makes it: one thread of its own, which waits for nothing */
    serve_metrics metrics;
    serve_pixels pixels;
    _Atomic(glm4v_engine *) engine; /* NULL while the model is loaded */
    char fingerprint[64];           /* of library and model; set before engine */
    int64_t started;                /* seconds since 1970 */
    atomic_int state;               /* a serve_state */
    atomic_uint requests;           /* between the end of a request and that of its answer */
    atomic_uint held;               /* by a worker or the engine: their holds of exchanges */
    atomic_uint_fast64_t bodies;    /* bytes of bodies in memory */
    atomic_uint numbers;            /* of requests, for streams and ids */
} serve_server;

/* Listen; every request but those for the model is answered from now on. set: borrowed. 0, or
 * GLM4V_ERR_INVALID (address), _IO, _NOMEM. */
int serve_server_open(serve_server *server, const serve_settings *set, const char *address,
                      glm4v_error *err);

/* The model is there. */
void serve_server_ready(serve_server *server, glm4v_engine *engine, const glm4v_model_info *info);

/* Refuse new requests for the model, let the others end for at most so many seconds, then cancel
 * them. Afterwards nothing uses the engine any more. */
void serve_server_stop(serve_server *server, double seconds);

/* Closes all connections. After serve_server_stop(). */
void serve_server_close(serve_server *server);

#endif
