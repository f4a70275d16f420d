/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers of chat completions answer instead of an engine: the same tasks, results and callbacks as
 * those of glm4v_engine_submit(). A client has one thread, in which all its transfers run, and a
 * pool of endpoints. */
#ifndef GLM4V_REMOTE_H
#define GLM4V_REMOTE_H

#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct remote_client remote_client;
typedef struct remote_request remote_request;

typedef enum {
    REMOTE_JPEG, /* quality 90, colours at full size */
    REMOTE_PNG,
} remote_coding;

/* Largest number of pixels that is sent, if nothing else is said. */
#define REMOTE_MAX_PIXELS (672 * 672)

/* Strings are read during the call only; NULL: none. */
typedef struct {
    const char *endpoints; /* "http://host:8080/v1", several with commas between them */
    const char *model;     /* NULL: the first that the server lists */
    const char *key;       /* sent as Authorization: Bearer KEY */
    const char *ca_file, *certificate_file, *private_key_file;
    uint64_t max_pixels; /* 0: no bound */
    remote_coding coding;
} remote_options;

/* Nothing is connected yet. INVALID: an option; NOT_FOUND, IO: a file; NOMEM. */
int remote_open(remote_client **client, const remote_options *options, glm4v_error *err);

/* Requests that are under way end as canceled. Sets *client NULL. Not from a callback. */
void remote_close(remote_client **client);

/* The key of a request: the first line of a file, else of the environment's GLM4V_API_KEY; NULL if
 * there is none. glm4v_free(). NOT_FOUND, IO, FORMAT (no key in the file), NOMEM. */
int remote_read_key(char **key, const char *file, glm4v_error *err);

/* Queue a task; its pictures are coded here and not needed afterwards. Earlier turns are not
 * supported. Callbacks run in the client's thread and must not block. INVALID, UNSUPPORTED, NOMEM:
 * nothing is queued.
 *
 * What ends a request: GLM4V_ERR_IO (it could not be answered), _NOT_FOUND (no connection),
 * _INVALID (a server refused it), _FORMAT (what came is no answer, or none of the task's choices or
 * schema), _DEADLINE, _CANCELED, _NOMEM. One retry is made, on another server if there is one,
 * while on_text has not been called. */
int remote_submit(remote_client *client, const glm4v_task *task, remote_request **request,
                  glm4v_error *err);

/* As those of glm4v_request. */
void remote_cancel(remote_request *request);
int remote_wait(remote_request *request, uint64_t timeout_ns);
void remote_unref(remote_request **request);

/* A number that grows whenever something comes from a server. */
uint64_t remote_progress(const remote_request *request);

/* The URL of the endpoint that is asked, or was asked last; "" before. Until remote_close(). */
const char *remote_url(const remote_request *request);

/* The model that answered, "" if that is unknown; after remote_wait(). */
const char *remote_model(const remote_request *request);

#endif
