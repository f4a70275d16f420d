/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes that have no address GStreamer could read, into its appsrc: what was read already, and then
 * what comes out of a descriptor. */
#ifndef GLM4V_TOOLS_FEED_H
#define GLM4V_TOOLS_FEED_H

#include <gst/app/gstappsrc.h>

#include "blob.h"

#define CLI_FEED_URI "appsrc://"

typedef struct {
    const cli_blob *head;
    int fd;       /* read after that; -1 = nothing more, and what there is may be read again */
    size_t at;    /* in head */
    gint stopped; /* atomic */
} cli_feed;

/* Push to the appsrc the data that it requests, on its thread. feed is borrowed until the appsrc is
 * gone. */
void cli_feed_connect(cli_feed *feed, GstAppSrc *source);

/* To be called before the appsrc is stopped: waiting for the descriptor ends. */
void cli_feed_stop(cli_feed *feed);

#endif
