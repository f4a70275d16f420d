/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See ask_server.h. */
#include "ask_server.h"

#include <stdio.h>

#include "fail.h"
#include "interrupt.h"

#if HAVE_REMOTE
#include <pthread.h>

#include "base/mem.h"
#include "remote/remote.h"

enum { POLL_NS = 100000000 };

struct cli_server {
    remote_client *client;
};

typedef struct {
    void (*show)(void *user, const glm4v_result *result, const char *model);
    void *user;
    glm4v_error *err;
    int status;
    pthread_mutex_t lock; /* until request is known */
    remote_request *request;
} question;

static void on_done(void *user, const glm4v_result *result)
{
    question *q = user;
    pthread_mutex_lock(&q->lock);
    remote_request *request = q->request;
    pthread_mutex_unlock(&q->lock);
    q->status = result->status;
    if (!result->status) {
        q->show(q->user, result, remote_model(request));
        return;
    }
    q->err->code = result->status;
    snprintf(q->err->msg, sizeof q->err->msg, "%s", result->message);
}

int cli_server_open(cli_server **server, const cli_server_options *options, glm4v_error *err)
{
    char *key = NULL;
    cli_server *own = glm4v_alloc(1, sizeof *own);
    int rc = own ? remote_read_key(&key, options->api_key_file, err)
                 : cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a client");
    if (!rc)
        rc =
            remote_open(&own->client,
                        &(remote_options) { .endpoints = options->endpoint,
                                            .model = options->model,
                                            .key = key,
                                            .ca_file = options->ca_file,
                                            .certificate_file = options->certificate_file,
                                            .private_key_file = options->private_key_file,
                                            .max_pixels = options->max_pixels ? options->max_pixels
                                                                              : REMOTE_MAX_PIXELS },
                        err);
    glm4v_free(key);
    if (rc)
        glm4v_free(own);
    else
        *server = own;
    return rc;
}

void cli_server_close(cli_server **server)
{
    if (!*server)
        return;
    remote_close(&(*server)->client);
    glm4v_free(*server);
    *server = NULL;
}

int cli_server_ask(cli_server *server, const glm4v_task *task,
                   void (*show)(void *user, const glm4v_result *result, const char *model),
                   void *user, glm4v_error *err)
{
    question q = { .show = show, .user = user, .err = err, .lock = PTHREAD_MUTEX_INITIALIZER };
    glm4v_task mine = *task;
    mine.on_done = on_done;
    mine.user = &q;
    pthread_mutex_lock(&q.lock);
    int rc = remote_submit(server->client, &mine, &q.request, err);
    pthread_mutex_unlock(&q.lock);
    if (rc)
        return rc;
    while (remote_wait(q.request, POLL_NS))
        if (cli_interrupted())
            remote_cancel(q.request);
    remote_unref(&q.request);
    return q.status;
}

#else

int cli_server_open(cli_server **server, const cli_server_options *options, glm4v_error *err)
{
    return cli_fail(err, GLM4V_ERR_UNSUPPORTED, "this program was built without libcurl");
}

void cli_server_close(cli_server **server)
{
    *server = NULL;
}

int cli_server_ask(cli_server *server, const glm4v_task *task,
                   void (*show)(void *user, const glm4v_result *result, const char *model),
                   void *user, glm4v_error *err)
{
    return cli_fail(err, GLM4V_ERR_UNSUPPORTED, "this program was built without libcurl");
}

#endif
