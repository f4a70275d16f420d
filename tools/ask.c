/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See ask.h. */
#include "ask.h"

#include <stdio.h>

#include "interrupt.h"

enum { POLL_NS = 100000000 };

typedef struct {
    void (*show)(void *user, const glm4v_result *result);
    void *user;
    glm4v_error *err;
    int status;
} question;

static void on_done(void *user, const glm4v_result *result)
{
    question *q = user;
    q->status = result->status;
    if (!result->status) {
        q->show(q->user, result);
        return;
    }
    q->err->code = result->status;
    snprintf(q->err->msg, sizeof q->err->msg, "%s", result->message);
}

int cli_ask(glm4v_engine *engine, const glm4v_task *task,
            void (*show)(void *user, const glm4v_result *result), void *user, glm4v_error *err)
{
    question q = { .show = show, .user = user, .err = err };
    glm4v_task mine = *task;
    glm4v_request *request = NULL;
    mine.on_done = on_done;
    mine.user = &q;
    int rc = glm4v_engine_submit(engine, &mine, &request, err);
    if (rc)
        return rc;
    while (glm4v_request_wait(request, POLL_NS))
        if (cli_interrupted())
            glm4v_request_cancel(request);
    glm4v_request_unref(&request);
    return q.status;
}
