/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One exchange with a server: what is sent, what comes and how far it is trusted, and what it means
 * for the request. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "remote/request.h"

enum {
    MOST_BYTES = 64 << 20, /* of an answer */
    MOST_ERROR = 64 << 10, /* that are read of what a server says about a failure */
    CONNECT_TIME = 10,     /* s */
    SILENT_TIME = 300,     /* s without a byte */
    KEPT_CONNECTIONS = 64,
};
#define LONGEST_REST UINT64_C(3600000000000) /* that a server may ask for */

/* ---- what comes ---- */

static bool is_answer(const remote_request *r)
{
    long status = 0;
    curl_easy_getinfo(r->transfer.curl, CURLINFO_RESPONSE_CODE, &status);
    return status == 200 && !r->transfer.models;
}

static void tell_text(remote_request *r, const openai_piece *piece)
{
    const bool content = *piece->content != 0, reasoning = *piece->reasoning != 0;
    if (!content && !reasoning)
        return;
    if (!r->first_text)
        r->first_text = glm4v_now();
    if (!r->task.on_text || atomic_load(&r->cancel))
        return;
    r->used = true;
    if (reasoning)
        r->task.on_text(r->task.user, GLM4V_TEXT_REASONING, piece->reasoning);
    if (content)
        r->task.on_text(r->task.user, GLM4V_TEXT_ANSWER, piece->content);
}

static int on_event(void *user, const char *data, size_t size)
{
    remote_request *r = user;
    remote_transfer *t = &r->transfer;
    openai_piece piece;
    if (t->reply.done)
        return 0;
    const int rc = openai_reply_event(&t->reply, data, size, &piece, &t->error);
    if (!rc)
        tell_text(r, &piece);
    if (t->reply.done)
        r->done_at = glm4v_now();
    return rc;
}

static int take_bytes(remote_request *r, const char *data, size_t size)
{
    remote_transfer *t = &r->transfer;
    if (t->streams)
        return openai_events_take(&t->events, data, size, on_event, r, &t->error);
    if (!is_answer(r) && !t->models && t->received.size > MOST_ERROR)
        return 0;
    glm4v_text_add(&t->received, data, size);
    return t->received.failed ? glm4v_fail(&t->error, GLM4V_ERR_NOMEM, "no memory for an answer")
                              : 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
    remote_request *r = user;
    remote_transfer *t = &r->transfer;
    const size_t bytes = size * n;
    atomic_fetch_add(&r->progress, 1);
    if (!t->total && is_answer(r)) {
        const char *type = NULL;
        curl_easy_getinfo(t->curl, CURLINFO_CONTENT_TYPE, &type);
        t->streams = type && !strncasecmp(type, "text/event-stream", 17);
    }
    t->total += bytes;
    if (t->total > MOST_BYTES)
        t->rc = glm4v_fail(&t->error, GLM4V_ERR_FORMAT, "its answer is larger than %d MiB",
                           MOST_BYTES >> 20);
    if (!t->rc)
        t->rc = take_bytes(r, data, bytes);
    return t->rc ? 0 : bytes;
}

/* ---- what is sent ---- */

static void set_up(CURL *curl, remote_request *r)
{
    const remote_client *c = r->client;
    curl_easy_setopt(curl, CURLOPT_URL, r->transfer.url.data);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* no waiting for a name that nobody needs */
#endif
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIME);
    if (r->endpoint->doubtful) {
        curl_easy_setopt(curl, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
        curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    }
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SILENT_TIME);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "glm4v");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->headers);
    if (c->ca_file) { /* only those; NULL without a file would be no authority at all */
        curl_easy_setopt(curl, CURLOPT_CAINFO, c->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_SSLCERT, c->certificate_file);
    curl_easy_setopt(curl, CURLOPT_SSLKEY, c->private_key_file);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, r->transfer.trouble);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, r);
}

int remote_transfer_begin(remote_request *r)
{
    remote_transfer *t = &r->transfer;
    *t = (remote_transfer) { .models = !*r->endpoint->model };
    const char *path = t->models ? "/models" : "/chat/completions";
    glm4v_text_add(&t->url, r->endpoint->url, strlen(r->endpoint->url));
    glm4v_text_add(&t->url, path, strlen(path));
    if (!t->models)
        openai_write_ask(&t->sent, &r->ask, r->endpoint->model, &r->dialect);
    t->curl = t->url.failed || t->sent.failed ? NULL : curl_easy_init();
    if (!t->curl)
        return glm4v_fail(&r->error, GLM4V_ERR_NOMEM, "no memory to ask a server");
    set_up(t->curl, r);
    if (!t->models) {
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, t->sent.data);
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->sent.size);
    }
    r->done_at = r->first_text = 0;
    if (curl_multi_add_handle(r->client->multi, t->curl))
        return glm4v_fail(&r->error, GLM4V_ERR_NOMEM, "no memory to ask a server");
    return 0;
}

void remote_transfer_close(remote_request *r)
{
    remote_transfer *t = &r->transfer;
    if (t->curl) {
        curl_multi_remove_handle(r->client->multi, t->curl);
        curl_easy_cleanup(t->curl);
    }
    glm4v_free(t->url.data);
    glm4v_free(t->sent.data);
    glm4v_free(t->received.data);
    openai_events_close(&t->events);
    openai_reply_close(&t->reply);
    *t = (remote_transfer) { 0 };
}

/* ---- what it means ---- */

static remote_end failed(remote_request *r, remote_end end, int code, const char *why)
{
    glm4v_fail(&r->error, code, "%.100s: %s", r->endpoint->url, why);
    return end;
}

static bool may_pass(long status)
{
    return status == 408 || status == 429 || status >= 500;
}

/* What a failure of TLS asks of the user; NULL: it is another failure. */
static const char *advice(const remote_request *r, CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return "its certificate is not trusted: name the authority's file (ca-file)";
    case CURLE_SSL_CACERT_BADFILE:
        return "the ca-file cannot be used";
    case CURLE_SSL_CERTPROBLEM:
        return "certificate-file or private-key-file cannot be used";
    default:
        break;
    }
    if (strstr(r->transfer.trouble, "alert")) /* of TLS; each library has words of its own */
        return r->client->certificate_file
                   ? "it may not trust the certificate of certificate-file"
                   : "it may want a client's certificate (certificate-file)";
    return code == CURLE_SSL_CONNECT_ERROR && r->client->certificate_file
               ? "certificate-file or private-key-file may be wrong"
               : NULL;
}

static void say_login(char *why, size_t size, const remote_request *r)
{
    snprintf(why, size,
             "status 407: the HTTP proxy wants another login "
             "(%s_proxy=http://USER:PASSWORD@HOST:PORT)",
             strncasecmp(r->endpoint->url, "https:", 6) ? "http" : "https");
}

/* The HTTP proxy made no way to the server. */
static remote_end end_of_tunnel(remote_request *r, long status)
{
    char why[128];
    if (status == 407)
        say_login(why, sizeof why, r);
    else
        snprintf(why, sizeof why, "status %ld of the HTTP proxy", status);
    return may_pass(status) ? failed(r, REMOTE_AGAIN, GLM4V_ERR_IO, why)
                            : failed(r, REMOTE_FAILED, GLM4V_ERR_INVALID, why);
}

/* No connection, or it broke. */
static remote_end end_of_line(remote_request *r, CURLcode code)
{
    const char *trouble = *r->transfer.trouble ? r->transfer.trouble : curl_easy_strerror(code);
    const char *what_to_do = advice(r, code);
    char why[CURL_ERROR_SIZE + 128];
    long tunnel = 0;
    curl_easy_getinfo(r->transfer.curl, CURLINFO_HTTP_CONNECTCODE, &tunnel);
    if (tunnel && tunnel / 100 != 2)
        return end_of_tunnel(r, tunnel);
    if (r->transfer.total)
        snprintf(why, sizeof why, "its answer was cut short: %s", trouble);
    else if (what_to_do)
        snprintf(why, sizeof why, "no answer: %s; %s", what_to_do, trouble);
    else
        snprintf(why, sizeof why, "no answer: %s", trouble);
    return failed(r, REMOTE_AGAIN,
                  code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                          code == CURLE_COULDNT_RESOLVE_PROXY
                      ? GLM4V_ERR_NOT_FOUND
                      : GLM4V_ERR_IO,
                  why);
}

static remote_end end_of_answer(remote_request *r)
{
    remote_transfer *t = &r->transfer;
    if (!t->total) /* curl takes a head without its end for one */
        return failed(r, REMOTE_AGAIN, GLM4V_ERR_IO, "no answer: it is empty or was cut short");
    if (!t->streams && !t->rc)
        t->rc = openai_reply_whole(&t->reply, t->received.data ? t->received.data : "",
                                   t->received.size, &t->error);
    if (t->rc)
        return failed(r, t->rc == GLM4V_ERR_NOMEM ? REMOTE_FAILED : REMOTE_AGAIN, t->rc,
                      t->error.msg);
    if (!t->reply.finished)
        return failed(r, REMOTE_AGAIN, GLM4V_ERR_IO,
                      openai_events_cut(&t->events) ? "its answer was cut short within an event"
                                                    : "its answer was cut short");
    return REMOTE_ANSWERED;
}

static remote_end end_of_models(remote_request *r)
{
    remote_transfer *t = &r->transfer;
    glm4v_error err = { 0 };
    const int rc = openai_read_models(r->endpoint->model, t->received.data ? t->received.data : "",
                                      t->received.size, &err);
    return rc ? failed(r, REMOTE_AGAIN, rc, err.msg) : REMOTE_KNOWS_MODEL;
}

/* How long it wants to be left alone. */
static uint64_t rest_of(CURL *curl)
{
    curl_off_t seconds = 0;
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds <= 0)
        return 0;
    const uint64_t rest = (uint64_t)seconds < 3600 ? (uint64_t)seconds * 1000000000 : LONGEST_REST;
    return rest;
}

/* A refusal that another way to say the request may avoid. */
static bool is_about_words(long status)
{
    return status == 400 || status == 422 || status == 501;
}

/* A server refused the request: can it be said in another way? */
static bool has_other_way(remote_request *r, const char *reason)
{
    const bool older = r->dialect.older_shapes;
    if (!openai_other_dialect(&r->dialect, &r->ask, reason))
        return false;
    r->reworded |= r->dialect.older_shapes != older;
    return true;
}

static remote_end end_of_status(remote_request *r, long status, uint64_t *pause)
{
    const remote_transfer *t = &r->transfer;
    char reason[OPENAI_MAX_REASON], why[OPENAI_MAX_REASON + 128];
    const char *location = NULL;
    openai_read_reason(reason, t->received.data ? t->received.data : "", t->received.size);
    snprintf(why, sizeof why, "%sstatus %ld%s%s", t->models ? "its list of models: " : "", status,
             *reason ? ": " : "", reason);
    if (!t->models && is_about_words(status) && has_other_way(r, reason))
        return failed(r, REMOTE_OTHER_WAY, GLM4V_ERR_INVALID, why);
    curl_easy_getinfo(t->curl, CURLINFO_REDIRECT_URL, &location);
    if (location) {
        snprintf(why, sizeof why, "status %ld leads to %.200s, which is not followed", status,
                 location);
        return failed(r, REMOTE_FAILED, GLM4V_ERR_INVALID, why);
    }
    *pause = rest_of(t->curl);
    if (may_pass(status))
        return failed(r, REMOTE_AGAIN, GLM4V_ERR_IO, why);
    if (status == 407)
        say_login(why, sizeof why, r);
    else if (status == 401 || status == 403)
        snprintf(why, sizeof why, "status %ld, the key or its lack: %s", status, reason);
    return failed(r, REMOTE_FAILED, GLM4V_ERR_INVALID, why);
}

remote_end remote_transfer_end(remote_request *r, CURLcode code, uint64_t *pause)
{
    const remote_transfer *t = &r->transfer;
    long status = 0;
    *pause = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    /* complete, or refused while it came; the line does not matter then */
    if (is_answer(r) && (t->rc || t->reply.finished))
        return end_of_answer(r);
    if (t->rc)
        return failed(r, REMOTE_FAILED, t->rc, t->error.msg);
    if (code)
        return end_of_line(r, code);
    if (status != 200)
        return end_of_status(r, status, pause);
    return t->models ? end_of_models(r) : end_of_answer(r);
}
