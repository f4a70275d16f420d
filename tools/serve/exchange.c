/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See exchange.h. */
#include "exchange.h"

#include <stdlib.h>
#include <string.h>

#include "../cli.h"
#include "base/mem.h"

serve_exchange *serve_exchange_new(serve_server *server, struct MHD_Connection *http,
                                   serve_connection *connection, const serve_route *route)
{
    serve_exchange *x = cli_alloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->server = server;
    x->http = http;
    x->connection = connection;
    x->route = route;
    pthread_mutex_init(&x->lock, NULL);
    atomic_init(&x->refs, 1);
    return x;
}

void serve_exchange_ref(serve_exchange *x)
{
    atomic_fetch_add(&x->refs, 1);
}

void serve_exchange_release_body(serve_exchange *x)
{
    glm4v_free(x->body.data);
    x->body = (glm4v_text_out) { 0 };
    atomic_fetch_sub(&x->server->bodies, x->reserved);
    x->reserved = 0;
}

void serve_exchange_unref(serve_exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) > 1)
        return;
    glm4v_request_unref(&x->request);
    serve_images_free(&x->images);
    openai_request_close(&x->ask);
    serve_stops_close(&x->text);
    serve_exchange_release_body(x);
    glm4v_free(x->answer.data);
    glm4v_free(x->out.data);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

void serve_exchange_wake(serve_exchange *x)
{
    if (!x->suspended || x->closed)
        return;
    x->suspended = false;
    MHD_resume_connection(x->http);
}

void serve_exchange_fail(serve_exchange *x, unsigned status, const openai_error *error)
{
    pthread_mutex_lock(&x->lock);
    if (x->status) { /* an event, behind those that are sent already */
        glm4v_text_add(&x->out, "data: ", 6);
        openai_write_error(&x->out, error);
        glm4v_text_add(&x->out, "\n\n", 2);
    } else {
        x->status = status;
        x->stream = false;
        openai_write_error(&x->out, error);
        glm4v_text_add(&x->out, "\n", 1);
    }
    x->finished = true;
    serve_exchange_wake(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_exchange_leave(serve_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    x->cancel = true;
    if (x->request)
        glm4v_request_cancel(x->request);
    pthread_mutex_unlock(&x->lock);
}
