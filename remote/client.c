/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's thread: it begins transfers, lets curl work on all of them, and decides what comes
 * after each: an answer, another try, or a failure. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <signal.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "remote/request.h"

#define MOST_TRIES 2
#define PAUSE UINT64_C(250000000)          /* before the same server is asked again */
#define DONE_PAUSE UINT64_C(100000000)     /* for the end of a stream behind its last event */
#define LONGEST_WAIT UINT64_C(30000000000) /* for a server that wants to be left alone */
#define SECOND UINT64_C(1000000000)

/* ---- one request ---- */

static void take_out(remote_client *c, remote_request *r)
{
    remote_request **at = &c->active;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (r->transfer.curl)
        remote_pool_end(r->endpoint);
    remote_transfer_close(r);
    remote_unref(&r);
}

static void fail(remote_client *c, remote_request *r, int code)
{
    remote_request_fail(r, code);
    take_out(c, r);
}

/* Was a server asked, and has said nothing? */
static bool is_silent(const remote_request *r)
{
    return r->transfer.curl && !r->transfer.total;
}

/* Perhaps because it took too long. */
static void end_canceled(remote_client *c, remote_request *r)
{
    if (is_silent(r))
        remote_pool_doubt(r->endpoint);
    glm4v_fail(&r->error, GLM4V_ERR_CANCELED, "canceled");
    fail(c, r, GLM4V_ERR_CANCELED);
}

static void end_late(remote_client *c, remote_request *r, uint64_t now)
{
    char before[sizeof r->error.msg];
    snprintf(before, sizeof before, "%s", r->error.msg);
    if (is_silent(r)) /* too busy, or behind a dead connection */
        remote_pool_failed(r->endpoint, now, 0);
    if (*before)
        glm4v_fail(&r->error, GLM4V_ERR_DEADLINE, "the deadline passed; %.400s", before);
    else if (r->endpoint)
        glm4v_fail(&r->error, GLM4V_ERR_DEADLINE, "the deadline passed while %.200s %s",
                   r->endpoint->url, r->transfer.total ? "answered" : "was asked");
    else
        glm4v_fail(&r->error, GLM4V_ERR_DEADLINE, "the deadline passed");
    fail(c, r, GLM4V_ERR_DEADLINE);
}

/* All servers want to be left alone until r->at. */
static void wait_or_fail(remote_client *c, remote_request *r, uint64_t now, uint64_t at)
{
    const uint64_t end = r->task.deadline ? r->task.deadline : now + LONGEST_WAIT;
    char before[sizeof r->error.msg];
    r->at = at;
    if (at < end)
        return;
    snprintf(before, sizeof before, "%s", r->error.msg);
    glm4v_fail(&r->error, GLM4V_ERR_IO, "no server may be asked for %.0f s%s%.400s",
               (double)(at - now) / (double)SECOND, *before ? "; " : "", before);
    fail(c, r, GLM4V_ERR_IO);
}

/* Ask r->endpoint. */
static void begin_transfer(remote_client *c, remote_request *r)
{
    const int rc = remote_transfer_begin(r);
    if (r->transfer.curl)
        remote_pool_begin(&c->pool, r->endpoint);
    if (rc)
        fail(c, r, rc);
}

/* Ask a server. The handle of the last transfer has gone. */
static void begin(remote_client *c, remote_request *r, uint64_t now)
{
    uint64_t at;
    remote_endpoint *endpoint = remote_pool_choose(&c->pool, now, &at);
    if (!endpoint) {
        wait_or_fail(c, r, now, at);
        return;
    }
    r->endpoint = endpoint;
    atomic_store(&r->url, endpoint->url);
    r->dialect = endpoint->dialect;
    r->reworded = false;
    r->at = 0;
    r->started = r->started ? r->started : now;
    begin_transfer(c, r);
}

static void again(remote_client *c, remote_request *r, uint64_t pause)
{
    const uint64_t now = glm4v_now();
    remote_pool_failed(r->endpoint, now, pause);
    if (++r->tries >= MOST_TRIES || r->used) {
        fail(c, r, r->error.code);
        return;
    }
    remote_pool_end(r->endpoint);
    remote_transfer_close(r);
    r->at = remote_pool_has_good(&c->pool, now) ? now : now + PAUSE;
}

/* The same server at once, in another way, or with another path. */
static void go_on(remote_client *c, remote_request *r)
{
    remote_pool_end(r->endpoint);
    remote_transfer_close(r);
    begin_transfer(c, r);
}

static void end_transfer(remote_client *c, remote_request *r, CURLcode code)
{
    uint64_t pause;
    switch (remote_transfer_end(r, code, &pause)) {
    case REMOTE_ANSWERED:
        remote_pool_answered(r->endpoint);
        if (remote_request_answer(r))
            take_out(c, r);
        else
            go_on(c, r);
        break;
    case REMOTE_KNOWS_MODEL:
    case REMOTE_OTHER_WAY:
        go_on(c, r);
        break;
    case REMOTE_AGAIN:
        again(c, r, pause);
        break;
    case REMOTE_FAILED:
        fail(c, r, r->error.code);
        break;
    }
}

/* What is due for it. */
static void look_at(remote_client *c, remote_request *r, uint64_t now)
{
    if (atomic_load(&r->cancel)) {
        end_canceled(c, r);
    } else if (r->task.deadline && now >= r->task.deadline) {
        end_late(c, r, now);
    } else if (r->done_at && now >= r->done_at + DONE_PAUSE) {
        end_transfer(c, r, CURLE_OK); /* it does not close */
    } else if (!r->transfer.curl && now >= r->at) {
        begin(c, r, now);
    }
}

/* ---- the thread ---- */

/* False: the client is closed. */
static bool take_incoming(remote_client *c)
{
    pthread_mutex_lock(&c->lock);
    remote_request *r = c->incoming;
    c->incoming = NULL;
    const bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    for (remote_request *next; r; r = next) {
        next = r->next;
        r->next = c->active;
        c->active = r;
    }
    return !stop;
}

static void look_at_all(remote_client *c)
{
    const uint64_t now = glm4v_now();
    for (remote_request *r = c->active, *next; r; r = next) {
        next = r->next;
        look_at(c, r, now);
    }
}

static void end_transfers(remote_client *c)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(c->multi, &left))) {
        char *r = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &r);
        end_transfer(c, (remote_request *)(void *)r, code);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Milliseconds until something is due, rounded up. */
static int time_to_wait(const remote_client *c)
{
    const uint64_t now = glm4v_now();
    uint64_t next = now + 10 * SECOND;
    for (const remote_request *r = c->active; r; r = r->next) {
        if (r->task.deadline)
            next = earlier(next, r->task.deadline);
        if (r->done_at)
            next = earlier(next, r->done_at + DONE_PAUSE);
        if (!r->transfer.curl)
            next = earlier(next, r->at);
    }
    return next > now ? (int)((next - now) / 1000000) + 1 : 0;
}

static void *run(void *user)
{
    remote_client *c = user;
    int n_running;
    glm4v_thread_background(); /* video passes meanwhile */
    while (take_incoming(c)) {
        look_at_all(c);
        curl_multi_perform(c->multi, &n_running);
        end_transfers(c);
        curl_multi_poll(c->multi, NULL, 0, time_to_wait(c), NULL);
    }
    while (c->active)
        end_canceled(c, c->active);
    return NULL;
}

/* Signals are for other threads; curl's TLS may meet a closed connection. */
static int start_thread(remote_client *c, glm4v_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failure = pthread_create(&c->thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure ? glm4v_fail_errno(err, failure, "no thread for a client of servers") : 0;
}

/* ---- a client ---- */

static int copy_file_name(char **own, const char *name, const char *what, glm4v_error *err)
{
    if (!name)
        return 0;
    if (access(name, R_OK))
        return glm4v_fail(err, GLM4V_ERR_NOT_FOUND, "the file of the %s cannot be read: %.200s",
                          what, name);
    *own = glm4v_strdup(name);
    return *own ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a client of servers");
}

static int add_header(remote_client *c, const char *line, glm4v_error *err)
{
    struct curl_slist *more = curl_slist_append(c->headers, line);
    if (!more)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a client of servers");
    c->headers = more;
    return 0;
}

static int add_key(remote_client *c, const char *key, glm4v_error *err)
{
    glm4v_text_out line = { 0 };
    if (!key)
        return 0;
    for (const char *p = key; *p; p++)
        if (*p <= ' ' || *p == 0x7f)
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "the key holds white space or a character that is none of ASCII");
    glm4v_text_format(&line, "Authorization: Bearer %s", key);
    int rc = line.failed ? glm4v_fail(err, GLM4V_ERR_INVALID, "the key is too long")
                         : add_header(c, line.data, err);
    glm4v_free(line.data);
    return rc;
}

static void free_client(remote_client *c)
{
    remote_pool_close(&c->pool);
    curl_slist_free_all(c->headers);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    glm4v_free(c->ca_file);
    glm4v_free(c->certificate_file);
    glm4v_free(c->private_key_file);
    pthread_mutex_destroy(&c->lock);
    glm4v_free(c);
}

static int set_up(remote_client *c, const remote_options *o, glm4v_error *err)
{
    c->max_pixels = o->max_pixels;
    c->coding = o->coding;
    c->multi = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : curl_multi_init();
    int rc = c->multi ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a client of servers");
    if (!rc)
        rc = remote_pool_open(&c->pool, o->endpoints, o->model, err);
    if (!rc)
        rc = copy_file_name(&c->ca_file, o->ca_file, "authority", err);
    if (!rc)
        rc = copy_file_name(&c->certificate_file, o->certificate_file, "certificate", err);
    if (!rc)
        rc = copy_file_name(&c->private_key_file, o->private_key_file, "private key", err);
    if (!rc)
        rc = add_header(c, "Content-Type: application/json", err);
    if (!rc)
        rc = add_header(c, "Expect:", err); /* no round trip before a picture is sent */
    return rc ? rc : add_key(c, o->key, err);
}

int remote_open(remote_client **client, const remote_options *options, glm4v_error *err)
{
    remote_client *c = glm4v_alloc(1, sizeof *c);
    if (!c || pthread_mutex_init(&c->lock, NULL)) {
        glm4v_free(c);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a client of servers");
    }
    int rc = set_up(c, options, err);
    if (!rc)
        rc = start_thread(c, err);
    if (rc)
        free_client(c);
    else
        *client = c;
    return rc;
}

void remote_close(remote_client **client)
{
    remote_client *c = *client;
    if (!c)
        return;
    *client = NULL;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_mutex_unlock(&c->lock);
    curl_multi_wakeup(c->multi);
    pthread_join(c->thread, NULL);
    free_client(c);
}

int remote_submit(remote_client *client, const glm4v_task *task, remote_request **request,
                  glm4v_error *err)
{
    remote_request *r;
    int rc = remote_request_new(&r, client, task, err);
    if (rc)
        return rc;
    if (request) {
        atomic_fetch_add(&r->refs, 1);
        *request = r;
    }
    pthread_mutex_lock(&client->lock);
    r->next = client->incoming;
    client->incoming = r;
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
    return 0;
}
