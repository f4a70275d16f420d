/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See routes.h. */
#include "routes.h"

#include <inttypes.h>
#include <string.h>

#include "documents.h"
#include "openai/result.h"

static void add(glm4v_text_out *out, const char *text)
{
    glm4v_text_add(out, text, strlen(text));
}

static unsigned answer_health(serve_server *server, const char *rest, glm4v_text_out *out)
{
    (void)rest;
    glm4v_text_format(out, "{\"status\":\"ok\",\"model_loaded\":%s}\n",
                      atomic_load(&server->engine) ? "true" : "false");
    return MHD_HTTP_OK;
}

static unsigned answer_ready(serve_server *server, const char *rest, glm4v_text_out *out)
{
    static const char *const names[] = { "loading", "ready", "stopping" };
    const int state = atomic_load(&server->state);
    (void)rest;
    glm4v_text_format(out, "{\"status\":\"%s\"}\n", names[state]);
    return state == SERVE_READY ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static void add_model(const serve_server *server, const char *name, glm4v_text_out *out)
{
    add(out, "{\"id\":");
    glm4v_text_string(out, name);
    glm4v_text_format(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"glm4v\"}",
                      server->started);
}

static unsigned answer_models(serve_server *server, const char *rest, glm4v_text_out *out)
{
    (void)rest;
    add(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < server->set->n_names; i++) {
        add(out, i ? "," : "");
        add_model(server, server->set->names[i], out);
    }
    add(out, "]}\n");
    return MHD_HTTP_OK;
}

bool serve_is_model(const serve_settings *set, const char *name)
{
    for (size_t i = 0; i < set->n_names; i++)
        if (!strcmp(set->names[i], name))
            return true;
    return false;
}

static unsigned answer_model(serve_server *server, const char *rest, glm4v_text_out *out)
{
    if (serve_is_model(server->set, rest)) {
        add_model(server, rest, out);
        return MHD_HTTP_OK;
    }
    openai_write_error(out,
                       &(openai_error) { "there is no model of that name; GET /v1/models",
                                         "invalid_request_error", "model", "model_not_found" });
    return MHD_HTTP_NOT_FOUND;
}

static unsigned answer_metrics(serve_server *server, const char *rest, glm4v_text_out *out)
{
    serve_gauges gauges = { .engine = { .struct_size = sizeof gauges.engine },
                            .connections = serve_connections_count(server->connections),
                            .requests = atomic_load(&server->requests),
                            .max_batch = server->set->max_batch };
    glm4v_engine *engine = atomic_load(&server->engine);
    (void)rest;
    if (engine)
        glm4v_engine_get_stats(engine, &gauges.engine, NULL);
    pthread_mutex_lock(&server->pixels.lock);
    gauges.pixels = server->pixels.bytes;
    pthread_mutex_unlock(&server->pixels.lock);
    serve_metrics_write(&server->metrics, &gauges, out);
    return MHD_HTTP_OK;
}

static unsigned answer_openapi(serve_server *server, const char *rest, glm4v_text_out *out)
{
    (void)server, (void)rest;
    add(out, serve_openapi);
    return MHD_HTTP_OK;
}

static unsigned answer_docs(serve_server *server, const char *rest, glm4v_text_out *out)
{
    (void)server, (void)rest;
    add(out, serve_docs);
    return MHD_HTTP_OK;
}

static const char json[] = "application/json";

static const serve_route routes[] = {
    { "POST", "/v1/chat/completions", json, NULL },
    { "GET", "/v1/models", json, answer_models },
    { "GET", "/v1/models/", json, answer_model },
    { "GET", "/health", json, answer_health },
    { "GET", "/ready", json, answer_ready },
    { "GET", "/metrics", "text/plain; version=0.0.4; charset=utf-8", answer_metrics },
    { "GET", "/openapi.json", json, answer_openapi },
    { "GET", "/docs", "text/html; charset=utf-8", answer_docs },
};

static bool has_path(const serve_route *route, const char *path)
{
    const size_t n = strlen(route->path);
    return route->path[n - 1] == '/' ? !strncmp(path, route->path, n) && path[n]
                                     : !strcmp(path, route->path);
}

const serve_route *serve_route_find(const char *method, const char *path, const char **allowed)
{
    *allowed = NULL;
    if (!strcmp(method, "HEAD"))
        method = "GET";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!has_path(&routes[i], path))
            continue;
        *allowed = routes[i].method;
        return strcmp(method, routes[i].method) ? NULL : &routes[i];
    }
    return NULL;
}

const char *serve_route_rest(const serve_route *route, const char *path)
{
    return path + strlen(route->path);
}
