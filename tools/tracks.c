/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See tracks.h. */
#include "tracks.h"

#include <stdbool.h>
#include <string.h>

/* A cover is one frame. Where a track has shown one, and another is so far ahead, none follows. */
enum { ENOUGH_S = 10, MAX_LOOK_MS = 5000 };

typedef struct {
    char *id; /* of its stream */
    guint frames;
    GstClockTime first, last; /* PTS */
} track;

typedef struct {
    GstElement *pipeline;
    GMutex lock; /* guards the list */
    GPtrArray *tracks;
    bool all_known; /* no more tracks will come */
} look;

static gint by_stream(gconstpointer a, gconstpointer b)
{
    char *first = gst_pad_get_stream_id(*(GstPad *const *)a);
    char *second = gst_pad_get_stream_id(*(GstPad *const *)b);
    gint order = g_strcmp0(first, second);
    g_free(first);
    g_free(second);
    return order;
}

void cli_tracks_sort(GPtrArray *pads)
{
    g_ptr_array_sort(pads, by_stream);
}

static void free_track(gpointer data)
{
    g_free(((track *)data)->id);
    g_free(data);
}

static GstPadProbeReturn on_frame(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    look *l = user;
    const GstClockTime time = GST_BUFFER_PTS(GST_PAD_PROBE_INFO_BUFFER(info));
    track *t = g_object_get_data(G_OBJECT(pad), "glm4v-track");
    g_mutex_lock(&l->lock);
    t->frames++;
    if (GST_CLOCK_TIME_IS_VALID(time) && !GST_CLOCK_TIME_IS_VALID(t->first))
        t->first = time;
    if (GST_CLOCK_TIME_IS_VALID(time))
        t->last = time;
    g_mutex_unlock(&l->lock);
    return GST_PAD_PROBE_OK;
}

static void on_pad(GstElement *parse, GstPad *pad, gpointer user)
{
    look *l = user;
    GstElement *sink = gst_element_factory_make("fakesink", NULL);
    GstCaps *caps = gst_pad_get_current_caps(pad);
    const char *type = caps ? gst_structure_get_name(gst_caps_get_structure(caps, 0)) : "";
    if (g_str_has_prefix(type, "video/") || g_str_has_prefix(type, "image/")) {
        track *t = g_new0(track, 1);
        t->id = gst_pad_get_stream_id(pad);
        t->first = t->last = GST_CLOCK_TIME_NONE;
        g_object_set_data(G_OBJECT(pad), "glm4v-track", t);
        g_mutex_lock(&l->lock);
        g_ptr_array_add(l->tracks, t);
        g_mutex_unlock(&l->lock);
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_frame, l, NULL);
    }
    gst_clear_caps(&caps);
    g_object_set(sink, "sync", FALSE, "async", FALSE, NULL);
    gst_bin_add(GST_BIN(l->pipeline), sink);
    gst_element_sync_state_with_parent(sink);
    GstPad *target = gst_element_get_static_pad(sink, "sink");
    gst_pad_link(pad, target);
    gst_object_unref(target);
}

static void on_no_more_pads(GstElement *parse, gpointer user)
{
    look *l = user;
    g_mutex_lock(&l->lock);
    l->all_known = true;
    g_mutex_unlock(&l->lock);
}

/* Whether each track has two frames, or another one is far beyond its first. */
static bool is_decided(look *l)
{
    bool all = true, ahead = false;
    g_mutex_lock(&l->lock);
    for (guint i = 0; i < l->tracks->len; i++) {
        const track *t = l->tracks->pdata[i];
        all &= t->frames > 1;
        ahead |= t->frames > 1 && GST_CLOCK_TIME_IS_VALID(t->first) &&
                 t->last > t->first + ENOUGH_S * GST_SECOND;
    }
    bool known = l->all_known;
    g_mutex_unlock(&l->lock);
    return known && (all || ahead);
}

static void wait_until_decided(look *l)
{
    GstBus *bus = gst_element_get_bus(l->pipeline);
    for (int waited = 0; waited < MAX_LOOK_MS && !is_decided(l); waited += 5) {
        GstMessage *message =
            gst_bus_timed_pop_filtered(bus, 5 * GST_MSECOND, GST_MESSAGE_ERROR | GST_MESSAGE_EOS);
        if (!message)
            continue;
        gst_message_unref(message);
        break;
    }
    gst_object_unref(bus);
}

/* Sets still[i] for the pads whose track has one frame only. */
static void look_at_file(GPtrArray *pads, bool *still, const char *uri)
{
    look l = { .pipeline = gst_pipeline_new(NULL),
               .tracks = g_ptr_array_new_with_free_func(free_track) };
    GstElement *source = gst_element_make_from_uri(GST_URI_SRC, uri, NULL, NULL);
    GstElement *parse = gst_element_factory_make("parsebin", NULL);
    g_mutex_init(&l.lock);
    if (source && parse) {
        gst_bin_add_many(GST_BIN(l.pipeline), source, parse, NULL);
        gst_element_link(source, parse);
        g_signal_connect(parse, "pad-added", G_CALLBACK(on_pad), &l);
        g_signal_connect(parse, "no-more-pads", G_CALLBACK(on_no_more_pads), &l);
        gst_element_set_state(l.pipeline, GST_STATE_PLAYING);
        wait_until_decided(&l);
        gst_element_set_state(l.pipeline, GST_STATE_NULL);
    } else {
        gst_clear_object(&source);
        gst_clear_object(&parse);
    }
    for (guint i = 0; i < pads->len; i++) {
        char *id = gst_pad_get_stream_id(pads->pdata[i]);
        for (guint j = 0; j < l.tracks->len; j++) {
            const track *t = l.tracks->pdata[j];
            still[i] |= t->frames == 1 && !g_strcmp0(t->id, id);
        }
        g_free(id);
    }
    gst_object_unref(l.pipeline);
    g_ptr_array_unref(l.tracks);
    g_mutex_clear(&l.lock);
}

/* Demuxers report a frame rate of 0 for a track of one frame. */
static bool has_no_rate(GstPad *pad)
{
    GstCaps *caps = gst_pad_get_current_caps(pad);
    gint n = 0, d = 0;
    bool none = caps &&
                gst_structure_get_fraction(gst_caps_get_structure(caps, 0), "framerate", &n, &d) &&
                n == 0;
    gst_clear_caps(&caps);
    return none;
}

guint cli_tracks_choose(GPtrArray *pads, const char *uri)
{
    bool *still = g_new0(bool, pads->len);
    for (guint i = 0; i < pads->len; i++)
        still[i] = has_no_rate(pads->pdata[i]);
    if (uri)
        look_at_file(pads, still, uri);
    guint chosen = 0;
    while (chosen < pads->len && still[chosen])
        chosen++;
    g_free(still);
    return chosen < pads->len ? chosen : 0;
}
