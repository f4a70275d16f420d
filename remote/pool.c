/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pool.h. An endpoint that fails is left out for half a second, then twice as long each time,
 * and asked again by the first request after that. */
#include "remote/pool.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "base/error.h"
#include "base/mem.h"

#define FIRST_PAUSE UINT64_C(500000000)
#define LONGEST_PAUSE UINT64_C(30000000000)

/* ---- URLs ---- */

static bool has(CURLU *parts, CURLUPart part)
{
    char *text = NULL;
    const bool found = !curl_url_get(parts, part, &text, 0) && text && *text;
    curl_free(text);
    return found;
}

static bool is_http(CURLU *parts)
{
    char *scheme = NULL;
    const bool http = !curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) &&
                      (!strcmp(scheme, "http") || !strcmp(scheme, "https"));
    curl_free(scheme);
    return http;
}

static int check_url(const char *url, glm4v_error *err)
{
    CURLU *parts = curl_url();
    if (!parts)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a URL");
    const bool good = !curl_url_set(parts, CURLUPART_URL, url, 0) && is_http(parts);
    const bool login = good && (has(parts, CURLUPART_USER) || has(parts, CURLUPART_PASSWORD));
    const bool more = good && (has(parts, CURLUPART_QUERY) || has(parts, CURLUPART_FRAGMENT));
    curl_url_cleanup(parts);
    if (login)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an endpoint holds a login: write a key into a file instead");
    if (!good || more)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%.200s is no endpoint: it is a URL such as http://host:8080/v1", url);
    return 0;
}

/* One of them, [text, text + n). */
static int add_endpoint(remote_pool *pool, const char *text, size_t n, glm4v_error *err)
{
    remote_endpoint *e = &pool->endpoints[pool->n];
    while (n && (*text == ' ' || *text == '\n')) {
        text++;
        n--;
    }
    while (n && strchr(" \n/", text[n - 1]))
        n--;
    e->url = glm4v_alloc(n + 1, 1);
    if (!e->url)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an endpoint");
    memcpy(e->url, text, n);
    pool->n++;
    return check_url(e->url, err);
}

int remote_pool_open(remote_pool *pool, const char *urls, const char *model, glm4v_error *err)
{
    int rc = 0;
    *pool =
        (remote_pool) { .endpoints = glm4v_alloc(REMOTE_MAX_ENDPOINTS, sizeof *pool->endpoints) };
    if (!pool->endpoints)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for endpoints");
    if (model && strlen(model) >= OPENAI_MAX_MODEL_NAME)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "the name of the model is longer than %d bytes",
                          OPENAI_MAX_MODEL_NAME - 1);
    for (const char *end; !rc; urls = end + 1) {
        end = urls + strcspn(urls, ",");
        if (pool->n == REMOTE_MAX_ENDPOINTS)
            return glm4v_fail(err, GLM4V_ERR_INVALID, "more than %d endpoints",
                              REMOTE_MAX_ENDPOINTS);
        rc = add_endpoint(pool, urls, (size_t)(end - urls), err);
        if (!rc && model)
            snprintf(pool->endpoints[pool->n - 1].model, OPENAI_MAX_MODEL_NAME, "%s", model);
        if (!*end)
            break;
    }
    return rc;
}

void remote_pool_close(remote_pool *pool)
{
    for (uint32_t i = 0; i < pool->n; i++)
        glm4v_free(pool->endpoints[i].url);
    glm4v_free(pool->endpoints);
    *pool = (remote_pool) { 0 };
}

/* ---- who is next ---- */

/* Is a to be asked rather than b? */
static bool comes_first(const remote_endpoint *a, const remote_endpoint *b, uint64_t now)
{
    const bool a_out = a->out_until > now, b_out = b->out_until > now;
    if (a_out != b_out)
        return b_out;
    if (a_out && a->out_until != b->out_until)
        return a->out_until < b->out_until;
    if (a->outstanding != b->outstanding)
        return a->outstanding < b->outstanding;
    return a->used < b->used;
}

remote_endpoint *remote_pool_choose(remote_pool *pool, uint64_t now, uint64_t *at)
{
    remote_endpoint *best = NULL;
    *at = UINT64_MAX;
    for (uint32_t i = 0; i < pool->n; i++) {
        remote_endpoint *e = &pool->endpoints[i];
        if (e->not_before > now) {
            *at = e->not_before < *at ? e->not_before : *at;
            continue;
        }
        if (!best || comes_first(e, best, now))
            best = e;
    }
    return best;
}

void remote_pool_begin(remote_pool *pool, remote_endpoint *endpoint)
{
    endpoint->outstanding++;
    endpoint->used = ++pool->uses;
}

void remote_pool_end(remote_endpoint *endpoint)
{
    endpoint->outstanding--;
}

void remote_pool_answered(remote_endpoint *endpoint)
{
    endpoint->failures = 0;
    endpoint->doubtful = false;
    endpoint->out_until = 0;
}

void remote_pool_failed(remote_endpoint *endpoint, uint64_t now, uint64_t pause)
{
    const uint32_t doublings = endpoint->failures < 6 ? endpoint->failures : 6;
    const uint64_t out = FIRST_PAUSE << doublings;
    remote_pool_doubt(endpoint);
    if (pause)
        endpoint->not_before = now + pause;
    if (endpoint->out_until > now) /* several requests met the same failure */
        return;
    endpoint->failures++;
    endpoint->out_until = now + (out < LONGEST_PAUSE ? out : LONGEST_PAUSE);
}

void remote_pool_doubt(remote_endpoint *endpoint)
{
    endpoint->doubtful = true;
}

bool remote_pool_has_good(const remote_pool *pool, uint64_t now)
{
    for (uint32_t i = 0; i < pool->n; i++)
        if (pool->endpoints[i].out_until <= now && pool->endpoints[i].not_before <= now)
            return true;
    return false;
}
