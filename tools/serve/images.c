/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See images.h. */
#define _GNU_SOURCE
#include "images.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../blob.h"
#include "../cli.h"
#include "../fail.h"
#include "../picture/canvas.h"
#include "../picture/picture.h"
#include "fetch.h"

/* ---- room ---- */

void serve_pixels_open(serve_pixels *pixels)
{
    *pixels = (serve_pixels) { 0 };
    pthread_mutex_init(&pixels->lock, NULL);
    pthread_cond_init(&pixels->less, NULL);
}

void serve_pixels_close(serve_pixels *pixels)
{
    pthread_cond_destroy(&pixels->less);
    pthread_mutex_destroy(&pixels->lock);
}

static void wait_for_room(serve_pixels *pixels)
{
    pthread_mutex_lock(&pixels->lock);
    while (pixels->bytes >= (uint64_t)SERVE_PIXEL_MIB << 20)
        pthread_cond_wait(&pixels->less, &pixels->lock);
    pthread_mutex_unlock(&pixels->lock);
}

static void count(serve_pixels *pixels, int64_t bytes)
{
    pthread_mutex_lock(&pixels->lock);
    pixels->bytes += bytes;
    if (bytes < 0)
        pthread_cond_broadcast(&pixels->less);
    pthread_mutex_unlock(&pixels->lock);
}

/* ---- one picture ---- */

/* Of a picture in memory: RGB, or RGBA that was made RGB in place. */
enum { PIXEL_BYTES = 4 };

static void keep(serve_images *images, cli_picture *picture, const glm4v_image *from,
                 double seconds)
{
    const uint64_t bytes = PIXEL_BYTES * (uint64_t)from->width * from->height;
    glm4v_image *image = &images->images[images->n++];
    *image = *from;
    image->data = cli_picture_take(picture);
    image->timestamp = seconds;
    images->bytes += bytes;
    count(images->pixels, bytes);
}

static int decode(serve_images *images, const cli_blob *file, double seconds, glm4v_error *err)
{
    cli_frame frame;
    cli_canvas_bound((uint64_t)SERVE_PIXELS - images->bytes / PIXEL_BYTES);
    cli_picture *picture = cli_picture_open(file->data, file->size, NULL, 0, err);
    int rc = picture ? 0 : err->code;
    if (!rc && cli_picture_next(picture, &frame, err) <= 0)
        rc = err->code ? err->code : cli_fail(err, GLM4V_ERR_FORMAT, "a picture without frames");
    if (!rc)
        keep(images, picture, &frame.image, seconds);
    cli_picture_close(&picture);
    return rc;
}

static int read_url(cli_blob *file, const char *url, const serve_sources *sources, glm4v_error *err)
{
    if (!strncasecmp(url, "data:", 5))
        return cli_blob_from_data_uri(file, url, err);
    if (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8))
        return cli_fail(err, GLM4V_ERR_INVALID,
                        "it is given by a URL that is neither data: nor http(s):");
    if (!sources->n_domains)
        return cli_fail(err, GLM4V_ERR_INVALID,
                        "this server fetches no pictures: send a data: URL");
    return serve_fetch(file, url, sources, err);
}

int serve_images_decode(serve_images *images, const openai_request *request,
                        const serve_sources *sources, serve_pixels *pixels, glm4v_error *err)
{
    int rc = 0;
    *images = (serve_images) { .pixels = pixels };
    if (!request->n_pictures)
        return 0;
    images->images = cli_alloc(request->n_pictures, sizeof *images->images);
    if (!images->images)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for pictures");
    wait_for_room(pixels);
    for (uint32_t i = 0; !rc && i < request->n_pictures; i++) {
        cli_blob file = { 0 };
        glm4v_error why = { 0 };
        rc = read_url(&file, request->pictures[i].url, sources, &why);
        if (!rc)
            rc = decode(images, &file, request->pictures[i].seconds, &why);
        if (rc)
            cli_fail(err, rc, "picture %u: %.400s", i, why.msg);
        cli_blob_free(&file);
    }
    return rc;
}

void serve_images_free(serve_images *images)
{
    for (uint32_t i = 0; i < images->n; i++)
        free((void *)(uintptr_t)images->images[i].data);
    free(images->images);
    if (images->bytes)
        count(images->pixels, -(int64_t)images->bytes);
    *images = (serve_images) { 0 };
}
