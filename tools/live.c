/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See live.h. */
#include "live.h"

#include <string.h>

bool cli_is_local(const char *uri)
{
    static const char *const schemes[] = { "file", "fd",   "data",     "pushfile",
                                           "dvd",  "cdda", "resource", "appsrc" };
    char *scheme = gst_uri_get_protocol(uri);
    bool local = false;
    for (size_t i = 0; scheme && i < G_N_ELEMENTS(schemes); i++)
        local |= !strcmp(scheme, schemes[i]);
    g_free(scheme);
    return local;
}

static bool calls_itself_live(GstPad *pad)
{
    GstQuery *query = gst_query_new_latency();
    gboolean live = FALSE;
    if (gst_pad_peer_query(pad, query))
        gst_query_parse_latency(query, &live, NULL, NULL);
    gst_query_unref(query);
    return live;
}

int64_t cli_duration(GstPad *pad)
{
    gint64 duration = 0;
    return gst_pad_peer_query_duration(pad, GST_FORMAT_TIME, &duration) && duration > 0 ? duration
                                                                                        : 0;
}

static bool has_length(GstElement *source)
{
    gint64 bytes = 0;
    return source && gst_element_query_duration(source, GST_FORMAT_BYTES, &bytes) && bytes > 0;
}

bool cli_is_live(GstPad *pad, GstElement *source)
{
    return calls_itself_live(pad) || !(cli_duration(pad) || has_length(source));
}

/* The last frames of a recording may be missing: durations are rounded, and sound may be longer. */
bool cli_was_recording(GstPad *pad, int64_t last)
{
    const int64_t duration = cli_duration(pad);
    return duration && last >= 0 && last + MAX(2 * (int64_t)GST_SECOND, duration / 20) >= duration;
}
