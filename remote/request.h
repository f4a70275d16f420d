/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of remote/ share: a client, its requests, and the transfer that each has at a
 * time. */
#ifndef GLM4V_REMOTE_REQUEST_H
#define GLM4V_REMOTE_REQUEST_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/completion.h"
#include "openai/events.h"
#include "remote/pool.h"
#include "remote/remote.h"

struct remote_client {
    /* constant */
    uint64_t max_pixels;
    remote_coding coding;
    char *ca_file, *certificate_file, *private_key_file; /* or NULL */
    struct curl_slist *headers;
    CURLM *multi; /* only waking it up is for other threads */
    pthread_t thread;

    /* the thread only */
    remote_pool pool;
    remote_request *active; /* a list */

    pthread_mutex_t lock; /* guards what is below */
    remote_request *incoming;
    bool stop;
};

/* One exchange with a server. */
typedef struct {
    CURL *curl; /* NULL: none */
    bool models;
    char trouble[CURL_ERROR_SIZE];
    glm4v_text_out url, sent, received;
    bool streams; /* what comes are events */
    size_t total; /* bytes that came */
    openai_events events;
    openai_reply reply;
    int rc; /* of reading what came; then error has the reason */
    glm4v_error error;
} remote_transfer;

/* Guarded by its lock: done. The client's thread only: what stands behind it. */
struct remote_request {
    atomic_int refs;
    atomic_bool cancel;
    atomic_ullong progress;
    _Atomic(const char *) url; /* of endpoint; NULL: none yet */
    remote_client *client;     /* until done */
    remote_request *next;

    /* constant copies */
    glm4v_task task;       /* without pixels */
    glm4v_image image;     /* size of the first one; data is not there */
    glm4v_image sent;      /* what it was made to */
    openai_ask ask;        /* strings are the task's */
    glm4v_text_out *files; /* [ask.n_files] */
    uint64_t preprocess;   /* ns that coding took */

    glm4v_completion done;

    uint64_t submitted, started, first_text; /* 0: not yet */
    uint64_t at;                             /* nothing is to be done before; 0: now */
    uint64_t done_at;                        /* the answer was complete, its transfer is not */
    remote_endpoint *endpoint;               /* that is asked, or was asked last */
    openai_dialect dialect;                  /* that it is asked in */
    bool reworded;                           /* both words for the shape of the answer were tried */
    remote_transfer transfer;
    uint32_t tries; /* that failed */
    bool used;      /* on_text was called */
    glm4v_error error;
    char model[OPENAI_MAX_MODEL_NAME];
};

/* request.c */
int remote_request_new(remote_request **request, remote_client *client, const glm4v_task *task,
                       glm4v_error *err);
/* It ends: with what the reply says, or with error. Calls on_done. False: the reply is not of the
 * task's shape, and the server is to be asked again in other words; nothing has ended. */
bool remote_request_answer(remote_request *r);
void remote_request_fail(remote_request *r, int code);

/* transfer.c: how one ended. */
typedef enum {
    REMOTE_ANSWERED,
    REMOTE_KNOWS_MODEL, /* the endpoint's model is known now */
    REMOTE_OTHER_WAY,   /* the request's dialect is another one now */
    REMOTE_AGAIN,       /* another try may succeed */
    REMOTE_FAILED,
} remote_end;

/* Begin to ask the endpoint, for the name of its model first if that is unknown. NOMEM. */
int remote_transfer_begin(remote_request *r);
/* curl is through with it: read what came. Fills r->error where it failed; *pause: the endpoint
 * wants to be left alone so long, ns. */
remote_end remote_transfer_end(remote_request *r, CURLcode code, uint64_t *pause);
void remote_transfer_close(remote_request *r);

#endif
