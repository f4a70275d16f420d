/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See feed.h. */
#include "feed.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Small chunks, as fdsrc has them: avidemux 1.22 does one step per chunk, whatever its size. */
enum { CHUNK = 4096, POLL_MS = 50 };

/* Bytes read, 0 at the end, -1 on an error. Looks up now and then whether it is to stop. */
static ssize_t read_some(cli_feed *feed, uint8_t *to, size_t room)
{
    while (!g_atomic_int_get(&feed->stopped)) {
        struct pollfd ready = { .fd = feed->fd, .events = POLLIN };
        if (poll(&ready, 1, POLL_MS) <= 0)
            continue;
        ssize_t got = read(feed->fd, to, room);
        if (got >= 0 || (errno != EINTR && errno != EAGAIN))
            return got;
    }
    return 0;
}

static void on_need(GstAppSrc *source, guint length, gpointer user)
{
    cli_feed *feed = user;
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, CHUNK, NULL);
    GstMapInfo map;
    ssize_t got = -1;
    if (buffer && gst_buffer_map(buffer, &map, GST_MAP_WRITE)) {
        const size_t left = feed->head->size - feed->at;
        got = left < CHUNK ? left : CHUNK;
        memcpy(map.data, feed->head->data + feed->at, got);
        feed->at += got;
        if (!got && feed->fd >= 0)
            got = read_some(feed, map.data, CHUNK);
        gst_buffer_unmap(buffer, &map);
    }
    if (got < 0)
        GST_ELEMENT_ERROR(source, RESOURCE, READ,
                          ("standard input cannot be read: %s", strerror(errno)), (NULL));
    if (got <= 0) {
        gst_clear_buffer(&buffer);
        gst_app_src_end_of_stream(source);
        return;
    }
    gst_buffer_set_size(buffer, got);
    gst_app_src_push_buffer(source, buffer);
}

static gboolean on_seek(GstAppSrc *source, guint64 to, gpointer user)
{
    cli_feed *feed = user;
    if (feed->fd >= 0 || to > feed->head->size)
        return FALSE;
    feed->at = to;
    return TRUE;
}

void cli_feed_connect(cli_feed *feed, GstAppSrc *source)
{
    GstAppSrcCallbacks callbacks = { .need_data = on_need, .seek_data = on_seek };
    const bool seekable = feed->fd < 0;
    gst_app_src_set_stream_type(source, seekable ? GST_APP_STREAM_TYPE_SEEKABLE
                                                 : GST_APP_STREAM_TYPE_STREAM);
    if (seekable)
        gst_app_src_set_size(source, feed->head->size);
    gst_app_src_set_callbacks(source, &callbacks, feed, NULL);
}

void cli_feed_stop(cli_feed *feed)
{
    g_atomic_int_set(&feed->stopped, 1);
}
