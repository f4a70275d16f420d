/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What gdk-pixbuf reads through the loaders that are installed. The loader is named by the format
 * that picture.c has recognised, so that no other one ever sees the file. */
#include <string.h>

#include <gdk-pixbuf/gdk-pixbuf.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

typedef struct {
    int width, height; /* from the header */
    bool refused;      /* too large */
    int top, bottom;   /* of the rows that were decoded */
} progress;

/* Called before the loader allocates memory. A size of 0 makes it end. */
static void on_size(GdkPixbufLoader *loader, int width, int height, gpointer user)
{
    progress *p = user;
    p->width = width;
    p->height = height;
    p->refused = width < 1 || height < 1 || width > CLI_MAX_SIDE || height > CLI_MAX_SIDE ||
                 (int64_t)width * height > CLI_MAX_PIXELS;
    if (p->refused)
        gdk_pixbuf_loader_set_size(loader, 0, 0);
}

/* Loaders decode from the top down or from the bottom up, and most of them treat the end of the
 * data as the end of the picture. */
static void on_rows(GdkPixbufLoader *loader, int x, int y, int width, int height, gpointer user)
{
    progress *p = user;
    p->top = MIN(p->top, y);
    p->bottom = MAX(p->bottom, y + height);
}

static int missing(const cli_decoding *d, glm4v_error *err)
{
    const bool heif = strstr(d->mime_type, "heif") || strstr(d->mime_type, "avif");
    return cli_fail(err, GLM4V_ERR_UNSUPPORTED,
                    "a picture in the format %s, whose gdk-pixbuf loader is not "
                    "installed%s",
                    d->name, heif ? " (Debian package heif-gdk-pixbuf)" : "");
}

static int copy(cli_decoding *d, const GdkPixbuf *pixbuf, glm4v_error *err)
{
    const int channels = gdk_pixbuf_get_n_channels(pixbuf);
    const int64_t stride = gdk_pixbuf_get_rowstride(pixbuf);
    const uint8_t *from = gdk_pixbuf_read_pixels(pixbuf);
    int rc = cli_canvas_make(&d->canvas, gdk_pixbuf_get_width(pixbuf),
                             gdk_pixbuf_get_height(pixbuf), channels, err);
    for (int32_t y = 0; !rc && y < d->canvas.height; y++)
        memcpy(cli_canvas_at(&d->canvas, 0, y), from + y * stride, d->canvas.width * channels);
    return rc;
}

int cli_decode_pixbuf(cli_decoding *d, glm4v_error *err)
{
    GError *error = NULL;
    progress p = { .top = G_MAXINT };
    GdkPixbufLoader *loader = gdk_pixbuf_loader_new_with_mime_type(d->mime_type, NULL);
    if (!loader)
        return missing(d, err);
    g_signal_connect(loader, "size-prepared", G_CALLBACK(on_size), &p);
    g_signal_connect(loader, "area-updated", G_CALLBACK(on_rows), &p);
    bool good = gdk_pixbuf_loader_write(loader, d->data, d->size, &error);
    good = gdk_pixbuf_loader_close(loader, good ? &error : NULL) && good;
    const GdkPixbuf *pixbuf = good ? gdk_pixbuf_loader_get_pixbuf(loader) : NULL;
    int rc;
    if (p.refused) /* words for the size */
        rc = cli_canvas_make(&d->canvas, MAX(p.width, 0), MAX(p.height, 0), 3, err);
    else if (pixbuf && (p.top > 0 || p.bottom < gdk_pixbuf_get_height(pixbuf)))
        rc = cli_decoding_damaged(d, "rows are missing", err);
    else if (pixbuf)
        rc = copy(d, pixbuf, err);
    else
        rc = cli_decoding_damaged(d, error ? error->message : "it holds no pixels", err);
    g_clear_error(&error);
    g_object_unref(loader);
    return rc;
}
