/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the server answers to, one row each. tests ask each of them, and the OpenAPI document has
 * each. */
#ifndef GLM4V_SERVE_ROUTES_H
#define GLM4V_SERVE_ROUTES_H

#include "base/string_buffer.h"
#include "server.h"

typedef struct {
    const char *method, *path; /* a path that ends in / is the beginning of several */
    const char *content_type;
    /* The status; the body goes to out. NULL: a completion. */
    unsigned (*answer)(serve_server *server, const char *rest, glm4v_text_out *out);
} serve_route;

/* The row for a path and method; NULL, and *allowed is the method that the path has, or NULL if
 * there is no such path. HEAD is GET. */
const serve_route *serve_route_find(const char *method, const char *path, const char **allowed);

/* What of a path its route leaves open. */
const char *serve_route_rest(const serve_route *route, const char *path);

/* Is it one of the model's names? */
bool serve_is_model(const serve_settings *set, const char *name);

#endif
