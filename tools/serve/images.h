/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pictures of a request: from their URLs to pixels, through the same readers as `describe`. */
#ifndef GLM4V_SERVE_IMAGES_H
#define GLM4V_SERVE_IMAGES_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "openai/request.h"

/* Decoded pixels of all requests together. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t less;
    uint64_t bytes; /* guarded by lock */
} serve_pixels;

void serve_pixels_open(serve_pixels *pixels);
void serve_pixels_close(serve_pixels *pixels);

/* Where pictures may come from beside data: URLs. */
typedef struct {
    const char *domains[SERVE_MAX_NAMES]; /* [n_domains] hosts of http: and https: URLs */
    size_t n_domains;
} serve_sources;

/* All zero: none. */
typedef struct {
    glm4v_image *images; /* [n], RGB; timestamps of a clip's frames are set */
    uint32_t n;
    uint64_t bytes;
    serve_pixels *pixels; /* that bytes are counted in */
} serve_images;

/* Waits until there is room for pixels, then decodes the pictures of a request one after the other;
 * of an animated one the first frame. 0, GLM4V_ERR_FORMAT (no picture, or a damaged one),
 * _UNSUPPORTED (a format, or too many pixels), _INVALID (a URL that is not accepted), _IO (it could
 * not be fetched), _NOMEM. Free it also after a failure. */
int serve_images_decode(serve_images *images, const openai_request *request,
                        const serve_sources *sources, serve_pixels *pixels, glm4v_error *err);
void serve_images_free(serve_images *images);

#endif
