/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See server.h. Here is what libmicrohttpd calls: for a head, for pieces of a body, when a response
 * can begin, for its pieces, and at the end. */
#define _GNU_SOURCE
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "../cli.h"
#include "../fail.h"
#include "base/mem.h"
#include "completion.h"
#include "exchange.h"

/* ---- responses ---- */

static serve_connection *connection_of(struct MHD_Connection *http)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void add_headers(struct MHD_Response *response, const char *content_type)
{
    MHD_add_response_header(response, "Content-Type", content_type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
}

/* Headers that only some answers have. */
static void add_headers_of(struct MHD_Response *response, unsigned status, const char *allowed,
                           bool last)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", SERVE_RETRY_AFTER);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", seconds);
    if (allowed)
        MHD_add_response_header(response, "Allow", allowed);
    if (last)
        MHD_add_response_header(response, "Connection", "close");
}

static enum MHD_Result send_response(struct MHD_Connection *http, unsigned status,
                                     struct MHD_Response *response)
{
    const enum MHD_Result queued = MHD_queue_response(http, status, response);
    MHD_destroy_response(response);
    return queued;
}

typedef struct {
    unsigned status;
    const char *message, *code;
    const char *path;    /* for counting */
    const char *allowed; /* method of the path; NULL unless it was another one */
} answer;

/* An error that is told before there is an exchange. The connection ends with it: what follows may
 * be a body that nobody reads. */
static enum MHD_Result send_error(serve_server *server, struct MHD_Connection *http,
                                  const answer *a)
{
    glm4v_text_out out = { 0 };
    openai_write_error(
        &out, &(openai_error) { .message = a->message,
                                .type = a->status >= 500 ? "server_error" : "invalid_request_error",
                                .code = a->code });
    glm4v_text_add(&out, "\n", 1);
    struct MHD_Response *response =
        out.failed ? NULL
                   : MHD_create_response_from_buffer(out.size, out.data, MHD_RESPMEM_MUST_COPY);
    glm4v_free(out.data);
    if (!response)
        return MHD_NO;
    add_headers(response, "application/json");
    add_headers_of(response, a->status, a->allowed, true);
    serve_connection *connection = connection_of(http);
    if (connection)
        serve_connections_set(server->connections, connection, SERVE_PHASE_SEND, NULL);
    serve_metrics_answered(&server->metrics, a->path, a->status);
    return send_response(http, a->status, response);
}

/* Pieces of a response of events, or of a whole one. */
static ssize_t read_output(void *user, uint64_t offset, char *to, size_t room)
{
    serve_exchange *x = user;
    ssize_t n = 0;
    (void)offset;
    pthread_mutex_lock(&x->lock);
    const size_t left = x->out.size - x->sent;
    if (x->out.failed) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (left) {
        n = left < room ? left : room;
        memcpy(to, x->out.data + x->sent, n);
        x->sent += n;
        if (x->sent == x->out.size)
            x->sent = x->out.size = 0;
    } else if (x->finished) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->http);
    }
    const bool finished = x->finished;
    pthread_mutex_unlock(&x->lock);
    if (finished && !x->sending) {
        x->sending = true;
        serve_connections_set(x->server->connections, x->connection, SERVE_PHASE_SEND, NULL);
    }
    return n;
}

static enum MHD_Result begin_stream(serve_exchange *x)
{
    enum { BLOCK = 16 << 10 };
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_output, x, NULL);
    if (!response)
        return MHD_NO;
    add_headers(response, "text/event-stream");
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx must not hold events */
    return send_response(x->http, MHD_HTTP_OK, response);
}

/* All of it is in out, which lives as long as the exchange. */
static enum MHD_Result send_whole(serve_exchange *x, const char *content_type)
{
    const bool stopping = atomic_load(&x->server->state) == SERVE_STOPPING;
    if (x->out.failed)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(x->out.size, x->out.data, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    add_headers(response, content_type);
    add_headers_of(response, x->status, NULL, stopping);
    x->sending = true;
    serve_connections_set(x->server->connections, x->connection, SERVE_PHASE_SEND, NULL);
    return send_response(x->http, x->status, response);
}

/* ---- heads ---- */

static answer refuse_body(const serve_server *server, const serve_route *route,
                          const serve_head *head)
{
    const char *type = head->content_type, *coding = head->content_encoding;
    const bool wanted = !route->answer;
    if (!wanted)
        return head->has_body ? (answer) { 400, "this request has no body", "bad_request" }
                              : (answer) { 0 };
    if (coding && strcasecmp(coding, "identity"))
        return (answer) { 415, "bodies with a content encoding are not accepted",
                          "unsupported_media_type" };
    if (!type || strncasecmp(type, "application/json", 16) ||
        (type[16] && !strchr("; \t", type[16])))
        return (answer) { 415, "the Content-Type of a request is application/json",
                          "unsupported_media_type" };
    if (!head->has_body)
        return (answer) { 400, "the request has no body", "bad_request" };
    if (head->length > server->set->max_body)
        return (answer) { 413, "the body is too large", "request_too_large" };
    return (answer) { 0 };
}

/* May the model be asked now, while it has `requests`? */
static serve_refusal refuse_work(serve_server *server, uint32_t requests)
{
    const int state = atomic_load(&server->state);
    if (state == SERVE_LOADING)
        return (serve_refusal) { 503, "the model is being loaded", "loading" };
    if (state == SERVE_STOPPING)
        return (serve_refusal) { 503, "the server stops", "stopping" };
    if (requests >= server->set->max_requests)
        return (serve_refusal) { 503, "too many requests are being answered", "overloaded" };
    return (serve_refusal) { 0 };
}

static bool reserve(serve_exchange *x, uint64_t bytes)
{
    serve_server *server = x->server;
    if (atomic_fetch_add(&server->bodies, bytes) + bytes > SERVE_BODIES * server->set->max_body) {
        atomic_fetch_sub(&server->bodies, bytes);
        return false;
    }
    x->reserved += bytes;
    return true;
}

static const serve_refusal too_many_bodies = { 503, "too many requests are being read",
                                               "overloaded" };

static void set_timeout(struct MHD_Connection *http, unsigned seconds)
{
    MHD_set_connection_option(http, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

typedef struct {
    struct MHD_Connection *http;
    const char *method, *path, *version;
} request_line;

/* What the head leads to: a route, or a refusal. */
static answer look_at_head(serve_server *server, const request_line *line, serve_head *head,
                           const serve_route **route)
{
    const char *allowed = NULL;
    const serve_refusal refusal = serve_gate_check(&server->set->gate, line->http, line->version,
                                                   server->listener.unix_socket, head);
    *route = serve_route_find(line->method, line->path, &allowed);
    answer a = { refusal.status, refusal.message, refusal.code };
    if (!a.status && !*route)
        a = allowed ? (answer) { 405, "the path has another method", "method_not_allowed" }
                    : (answer) { 404, "there is nothing at this path", "not_found" };
    if (!a.status)
        a = refuse_body(server, *route, head);
    a.path = *route ? (*route)->path : "other";
    a.allowed = *route ? NULL : allowed;
    return a;
}

/* Say so when the body is there: many clients read no answer while they send, and lose it if the
 * connection ends before. Its memory is given back. */
static void refuse_later(serve_exchange *x, serve_refusal refusal)
{
    x->refused = refusal;
    serve_exchange_release_body(x);
}

static enum MHD_Result begin(serve_server *server, const request_line *line, void **state)
{
    const serve_route *route;
    serve_head head;
    serve_connection *connection = connection_of(line->http);
    if (!connection)
        return MHD_NO;
    answer a = look_at_head(server, line, &head, &route);
    set_timeout(line->http, SERVE_SILENT_TIME);
    const serve_refusal work = a.status || route->answer
                                   ? (serve_refusal) { 0 }
                                   : refuse_work(server, atomic_load(&server->requests));
    if (work.status && head.expects) /* the body is not sent yet */
        a = (answer) { work.status, work.message, work.code, route->path, NULL };
    if (a.status)
        return send_error(server, line->http, &a);
    serve_exchange *x = serve_exchange_new(server, line->http, connection, route);
    if (!x)
        return MHD_NO;
    if (work.status)
        refuse_later(x, work);
    else if (head.length && !reserve(x, head.length))
        refuse_later(x, too_many_bodies);
    *state = x;
    serve_connections_set(server->connections, connection, SERVE_PHASE_BODY, NULL);
    return MHD_YES;
}

/* ---- bodies ---- */

/* A body in chunks that grows too large ends the connection: an answer is not possible any more. */
static enum MHD_Result take_body(serve_exchange *x, const char *data, size_t *size)
{
    x->taken += *size;
    if (x->taken > x->server->set->max_body)
        return MHD_NO;
    if (!x->refused.status && x->taken > x->reserved && !reserve(x, x->taken - x->reserved))
        refuse_later(x, too_many_bodies);
    if (!x->refused.status) {
        if (!x->body.size)
            glm4v_text_reserve(&x->body, x->reserved);
        glm4v_text_add(&x->body, data, *size);
        if (x->body.failed)
            refuse_later(x, (serve_refusal) { 503, "no memory for the body", "overloaded" });
    }
    *size = 0;
    return MHD_YES;
}

/* One more request is answered from now on, unless it is refused. It counts before the state is
 * looked at, so that serve_server_stop() misses none. */
static serve_refusal take_place(serve_server *server)
{
    const uint32_t others = atomic_fetch_add(&server->requests, 1);
    const serve_refusal refusal = refuse_work(server, others);
    if (refusal.status)
        atomic_fetch_sub(&server->requests, 1);
    return refusal;
}

/* The request is complete: answer it, or have it answered. */
static enum MHD_Result dispatch(serve_exchange *x, const char *path)
{
    const serve_route *route = x->route;
    x->dispatched = true;
    if (route->answer) {
        x->status = route->answer(x->server, serve_route_rest(route, path), &x->out);
        x->finished = true;
        serve_metrics_answered(&x->server->metrics, route->path, x->status);
        return send_whole(x, route->content_type);
    }
    const serve_refusal refusal = x->refused.status ? x->refused : take_place(x->server);
    if (refusal.status)
        return send_error(
            x->server, x->http,
            &(answer) { refusal.status, refusal.message, refusal.code, route->path, NULL });
    pthread_mutex_lock(&x->lock);
    x->suspended = true;
    MHD_suspend_connection(x->http);
    pthread_mutex_unlock(&x->lock);
    serve_connections_set(x->server->connections, x->connection, SERVE_PHASE_ANSWER, x);
    serve_completion_begin(x);
    return MHD_YES;
}

/* A worker or the engine has something to send. */
static enum MHD_Result respond(serve_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    const unsigned status = x->status;
    const bool stream = x->stream;
    pthread_mutex_unlock(&x->lock);
    if (!status)
        return MHD_YES;
    serve_metrics_answered(&x->server->metrics, x->route->path, status);
    return stream ? begin_stream(x) : send_whole(x, x->route->content_type);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *http, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **state)
{
    serve_exchange *x = *state;
    const request_line line = { http, method, path, version };
    if (!x)
        return begin(user, &line, state);
    if (*size)
        return take_body(x, data, size);
    return x->dispatched ? respond(x) : dispatch(x, path);
}

/* ---- ends ---- */

static void on_completed(void *user, struct MHD_Connection *http, void **state,
                         enum MHD_RequestTerminationCode code)
{
    serve_server *server = user;
    serve_exchange *x = *state;
    (void)code;
    *state = NULL;
    serve_connection *connection = connection_of(http);
    if (connection)
        serve_connections_set(server->connections, connection, SERVE_PHASE_IDLE, NULL);
    set_timeout(http, SERVE_IDLE_TIME);
    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    x->closed = true;
    pthread_mutex_unlock(&x->lock);
    serve_exchange_leave(x);
    serve_exchange_unref(x);
}

static void on_connection(void *user, struct MHD_Connection *http, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    serve_server *server = user;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = serve_connections_add(server->connections, info->connect_fd);
        if (!*context)
            shutdown(info->connect_fd, SHUT_RDWR);
    } else if (*context) {
        serve_connections_remove(server->connections, *context);
        *context = NULL;
    }
}

static void on_left(void *user)
{
    serve_exchange_leave(user);
}

/* ---- the server ---- */

/* libmicrohttpd's own words are for its developers. */
static void log_nothing(void *user, const char *format, va_list args)
{
    (void)user, (void)format, (void)args;
}

static struct MHD_Daemon *start(serve_server *server)
{
    const unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, log_nothing, NULL,
        MHD_OPTION_LISTEN_SOCKET, server->listener.fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SERVE_SILENT_TIME, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)serve_connections_most(server->set->max_requests),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVE_CONNECTION_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
}

int serve_server_open(serve_server *server, const serve_settings *set, const char *address,
                      glm4v_error *err)
{
    const int n_workers = set->sources.n_domains ? 4 * SERVE_WORKERS : SERVE_WORKERS;
    *server = (serve_server) { .set = set, .started = time(NULL) };
    serve_metrics_open(&server->metrics);
    serve_pixels_open(&server->pixels);
    int rc = serve_listen(&server->listener, address, err);
    if (!rc && !server->listener.local && !set->gate.n_keys)
        rc = cli_fail(err, GLM4V_ERR_INVALID,
                      "%s can be reached from other machines: give --api-key-file",
                      server->listener.name);
    if (!rc)
        rc = serve_connections_open(&server->connections, set->max_requests, on_left, err);
    if (!rc)
        rc = serve_workers_open(&server->workers, n_workers, err);
    if (!rc)
        rc = serve_workers_open(&server->cleaner, 1, err);
    if (!rc) {
        server->daemon = start(server);
        rc = server->daemon ? 0
                            : cli_fail(err, GLM4V_ERR_IO, "%s: the server could not be started",
                                       server->listener.name);
    }
    if (rc)
        serve_server_close(server);
    return rc;
}

void serve_server_ready(serve_server *server, glm4v_engine *engine, const glm4v_model_info *info)
{
    snprintf(server->fingerprint, sizeof server->fingerprint, "glm4v-%s-%s", glm4v_version(),
             info->hash);
    atomic_store(&server->engine, engine);
    atomic_store(&server->state, SERVE_READY);
}

/* Waits a little; the seconds. */
static double wait_a_step(void)
{
    enum { STEP_MS = 20 };
    nanosleep(&(struct timespec) { .tv_nsec = STEP_MS * 1000000 }, NULL);
    return STEP_MS / 1e3;
}

void serve_server_stop(serve_server *server, double seconds)
{
    double waited = 0;
    atomic_store(&server->state, SERVE_STOPPING);
    while (waited < seconds && atomic_load(&server->requests))
        waited += wait_a_step();
    while (atomic_load(&server->requests) || atomic_load(&server->held)) {
        serve_connections_leave_all(server->connections);
        wait_a_step();
    }
    /* What is answered is sent, if the client takes it. */
    waited = 0;
    while (waited < 1 && serve_connections_busy(server->connections))
        waited += wait_a_step();
}

void serve_server_close(serve_server *server)
{
    if (server->daemon) {
        MHD_stop_daemon(server->daemon); /* closes the listening socket too */
        server->daemon = NULL;
        server->listener.fd = -1;
    }
    serve_workers_close(&server->workers);
    serve_workers_close(&server->cleaner);
    serve_connections_close(&server->connections);
    serve_listen_close(&server->listener);
    serve_pixels_close(&server->pixels);
    serve_metrics_close(&server->metrics);
}
