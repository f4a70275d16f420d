/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The endpoints of a client: who is asked next. One thread; no clock of its own, times are those of
 * base/clock.h. */
#ifndef GLM4V_REMOTE_POOL_H
#define GLM4V_REMOTE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"
#include "openai/ask.h"
#include "openai/reply.h"

enum { REMOTE_MAX_ENDPOINTS = 64 };

typedef struct {
    char *url;                         /* of the API, without a slash at its end */
    char model[OPENAI_MAX_MODEL_NAME]; /* "" as long as it is unknown */
    openai_dialect dialect;            /* as far as it is known: words that it has answered */
    bool ignores_shapes;               /* neither words for a shape led to an answer of it */
    uint32_t outstanding;              /* requests that it answers */
    uint32_t failures;                 /* since its last answer */
    bool doubtful;       /* its address and its connections: see remote_pool_doubt() */
    uint64_t out_until;  /* others come first: it failed */
    uint64_t not_before; /* it said so */
    uint64_t used;       /* number of its last request */
} remote_endpoint;

typedef struct {
    remote_endpoint *endpoints; /* [n] */
    uint32_t n;
    uint64_t uses;
} remote_pool;

/* URLs with commas between them. model may be NULL. INVALID, NOMEM. */
int remote_pool_open(remote_pool *pool, const char *urls, const char *model, glm4v_error *err);
void remote_pool_close(remote_pool *pool);

/* The endpoint for a request: of those that have not failed lately the one with the fewest
 * requests, the longest unused of equals; one that failed if there is no other. NULL: all said that
 * they are not to be asked before *at. */
remote_endpoint *remote_pool_choose(remote_pool *pool, uint64_t now, uint64_t *at);

/* A request goes to it; it has ended. */
void remote_pool_begin(remote_pool *pool, remote_endpoint *endpoint);
void remote_pool_end(remote_endpoint *endpoint);

/* It answered; it failed, and is not to be asked for `pause` nanoseconds, if that is not 0. */
void remote_pool_answered(remote_endpoint *endpoint);
void remote_pool_failed(remote_endpoint *endpoint, uint64_t now, uint64_t pause);

/* A request ended without a byte from it, which need not be its fault. Until its next answer, as
 * after a failure, its name is looked up and a connection opened for each request: the address may
 * have changed, and an old connection may be dead. */
void remote_pool_doubt(remote_endpoint *endpoint);

/* Is there one that has not failed lately? */
bool remote_pool_has_good(const remote_pool *pool, uint64_t now);

#endif
