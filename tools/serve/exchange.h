/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request of a client and its answer. It is held by up to three: libmicrohttpd's thread until the
 * answer is sent or the client gone, a worker, the engine. Beside each field is who may use it. */
#ifndef GLM4V_SERVE_EXCHANGE_H
#define GLM4V_SERVE_EXCHANGE_H

#include <pthread.h>

#include "openai/result.h"
#include "routes.h"
#include "stops.h"

typedef struct {
    serve_job job; /* a worker's at first, the cleaner's when the engine is done */
    serve_server *server;
    atomic_uint refs;

    /* libmicrohttpd's thread; the body is handed on to a worker. */
    struct MHD_Connection *http;
    serve_connection *connection;
    const serve_route *route;
    glm4v_text_out body;
    uint64_t taken;        /* bytes of the body that came */
    uint64_t reserved;     /* bytes counted in server->bodies */
    serve_refusal refused; /* status != 0: the answer; the body is read, but not kept */
    bool dispatched, sending;

    /* lock guards all that follows. */
    pthread_mutex_t lock;
    glm4v_text_out out; /* what is to be sent */
    size_t sent;        /* of it */
    unsigned status;    /* 0: the response cannot begin yet */
    bool stream;        /* the response is one of events */
    bool finished;      /* nothing is added to out any more */
    bool suspended;     /* libmicrohttpd waits for serve_exchange_wake() */
    bool closed;        /* libmicrohttpd is done with it */
    bool cancel;        /* the client has left, or the server stops */
    glm4v_request *request;

    /* A worker, then the engine's thread. */
    openai_request ask;
    serve_images images;
    serve_stops text;
    glm4v_text_out answer; /* shown text of an answer that is sent as a whole */
    bool role_sent, text_sent;
    uint32_t n_pictures;
    uint64_t received, submitted; /* nanoseconds */
    int64_t created;              /* seconds since 1970 */
    char id[48];
} serve_exchange;

/* NULL: no memory. One reference. */
serve_exchange *serve_exchange_new(serve_server *server, struct MHD_Connection *http,
                                   serve_connection *connection, const serve_route *route);
void serve_exchange_ref(serve_exchange *x);
void serve_exchange_unref(serve_exchange *x);

/* Let libmicrohttpd go on. Lock held. */
void serve_exchange_wake(serve_exchange *x);

/* The answer is an error; an event where the response has begun. parameter and code may be "".
 * Takes the lock. */
void serve_exchange_fail(serve_exchange *x, unsigned status, const openai_error *error);

/* The client has left, or must go: cancel what is under way. Takes the lock. */
void serve_exchange_leave(serve_exchange *x);

/* Give back what its body counts for. */
void serve_exchange_release_body(serve_exchange *x);

#endif
