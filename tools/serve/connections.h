/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All connections: how long each may take for what it does, which one goes when there are too many,
 * and which client has left. libmicrohttpd only knows how long a connection was silent, and nothing
 * of one that waits for its answer.
 *
 * A thread looks at all of them ten times a second, and at once when a client leaves. */
#ifndef GLM4V_SERVE_CONNECTIONS_H
#define GLM4V_SERVE_CONNECTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct serve_connections serve_connections;
typedef struct serve_connection serve_connection;

typedef enum {
    SERVE_PHASE_IDLE,   /* the head of a request is not there yet */
    SERVE_PHASE_BODY,   /* the body is on its way */
    SERVE_PHASE_ANSWER, /* the server is at work; takes as long as it takes */
    SERVE_PHASE_SEND,   /* the answer is complete, the client takes it */
} serve_phase;

/* left(user): the client of a connection in phase ANSWER has left; called on the thread that
 * watches, while nothing else happens to the connection's user. requests: that may be answered
 * at a time. NOMEM. */
int serve_connections_open(serve_connections **connections, uint32_t requests,
                           void (*left)(void *user), glm4v_error *err);

/* How many there can be, given the same number: more than are used, for those being shut down. */
uint32_t serve_connections_most(uint32_t requests);

/* After all of them are closed. */
void serve_connections_close(serve_connections **connections);

/* A connection came: one more, in phase IDLE. When there are more than SERVE_MAX_WAITING that are
 * not in phase ANSWER, another one is shut down, but none whose client has sent what is not read
 * yet. NULL: there is no room, shut it down. */
serve_connection *serve_connections_add(serve_connections *connections, int fd);
/* It is about to be closed. */
void serve_connections_remove(serve_connections *connections, serve_connection *connection);

/* From now on the connection does that. user: of ANSWER, whom left() is called for; else NULL. */
void serve_connections_set(serve_connections *connections, serve_connection *connection,
                           serve_phase phase, void *user);

/* Call left() for all that are in phase ANSWER. */
void serve_connections_leave_all(serve_connections *connections);

/* Is there one in phase ANSWER or SEND? An answer is complete before libmicrohttpd's thread, which
 * sends it, knows that. */
bool serve_connections_busy(serve_connections *connections);

/* Those that are there. */
uint32_t serve_connections_count(serve_connections *connections);

#endif
