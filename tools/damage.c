/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See damage.h. GStreamer's decoders conceal damage, or drop a frame, and report it only in the
 * debug log: a log function reads it there. jpegdec does not report what libjpeg filled with grey,
 * so JPEG frames are checked before they reach it. */
#include "damage.h"

#include <string.h>

#include "picture/picture.h"

struct cli_damage {
    GstElement *pipeline;
    gulong handler;
    GMutex lock; /* guards what follows */
    cli_damage_counts counts;
    bool marked;   /* the next frame that leaves the decoder is damaged */
    bool given_up; /* the frame that went into the decoder last will not leave it */
};

static GMutex current_lock; /* guards `current`; taken before a damage's own lock */
static cli_damage *current;

/* Of FFmpeg's errors these leave the picture as it is, and some cameras cause them all the time. */
static bool is_harmless(const char *text)
{
    static const char *const heads[] = { "mmco", "number of reference frames", "co located POCs" };
    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++)
        if (g_str_has_prefix(text, heads[i]))
            return true;
    return false;
}

static void remember(cli_damage *damage, const char *text)
{
    if (!*damage->counts.first)
        g_strlcpy(damage->counts.first, text, sizeof damage->counts.first);
    g_strchomp(damage->counts.first);
}

static void note(cli_damage *damage, const char *category, GstDebugLevel level, GObject *object,
                 const char *text)
{
    static const char error[] = "error: "; /* of GST_VIDEO_DECODER_ERROR */
    g_mutex_lock(&damage->lock);
    if (!strcmp(category, "libav") && level == GST_LEVEL_ERROR && !is_harmless(text)) {
        damage->marked = true;
        remember(damage, text);
    } else if (!strcmp(category, "videodecoder") && g_str_has_prefix(text, error) &&
               GST_IS_OBJECT(object) &&
               gst_object_has_as_ancestor(GST_OBJECT(object), GST_OBJECT(damage->pipeline))) {
        damage->given_up = true;
        remember(damage, text + sizeof error - 1);
    }
    g_mutex_unlock(&damage->lock);
}

static void on_log(GstDebugCategory *category, GstDebugLevel level, const char *file,
                   const char *function, gint line, GObject *object, GstDebugMessage *message,
                   gpointer user)
{
    if (level > GST_LEVEL_WARNING)
        return;
    g_mutex_lock(&current_lock);
    if (current)
        note(current, gst_debug_category_get_name(category), level, object,
             gst_debug_message_get(message));
    g_mutex_unlock(&current_lock);
}

void cli_damage_init(void)
{
    if (!g_getenv("GST_DEBUG")) /* the log was not requested */
        gst_debug_remove_log_function(gst_debug_log_default);
    gst_debug_add_log_function(on_log, NULL, NULL);
    gst_debug_set_threshold_for_name("libav", GST_LEVEL_ERROR);
    gst_debug_set_threshold_for_name("videodecoder", GST_LEVEL_WARNING);
}

/* The frame before is done with when the next one comes. */
static void settle(cli_damage *damage)
{
    if (!damage->given_up)
        return;
    damage->counts.damaged++;
    damage->counts.lost++;
    damage->given_up = damage->marked = false;
}

static bool is_whole_jpeg(GstBuffer *buffer, char *why, size_t size)
{
    GstMapInfo map;
    bool whole = true;
    if (gst_buffer_map(buffer, &map, GST_MAP_READ)) {
        whole = cli_picture_is_whole_jpeg(map.data, map.size, why, size);
        gst_buffer_unmap(buffer, &map);
    }
    return whole;
}

/* Whether buffers are frames: not those of a file without a container, which jpegdec cuts. */
static bool is_framed(GstPad *pad)
{
    GstEvent *event = gst_pad_get_sticky_event(pad, GST_EVENT_SEGMENT, 0);
    const GstSegment *segment = NULL;
    if (event)
        gst_event_parse_segment(event, &segment);
    bool framed = segment && segment->format == GST_FORMAT_TIME;
    gst_clear_event(&event);
    return framed;
}

static GstPadProbeReturn on_input(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    cli_damage *damage = user;
    GstCaps *caps = gst_pad_get_current_caps(pad);
    const bool jpeg = caps &&
                      gst_structure_has_name(gst_caps_get_structure(caps, 0), "image/jpeg") &&
                      is_framed(pad);
    char why[sizeof damage->counts.first] = "";
    const bool whole = !jpeg || is_whole_jpeg(GST_PAD_PROBE_INFO_BUFFER(info), why, sizeof why);
    gst_clear_caps(&caps);
    g_mutex_lock(&damage->lock);
    settle(damage);
    if (!whole) {
        damage->marked = true;
        remember(damage, why);
    }
    g_mutex_unlock(&damage->lock);
    return GST_PAD_PROBE_OK;
}

static void on_element(GstBin *pipeline, GstBin *bin, GstElement *element, gpointer user)
{
    const char *klass =
        gst_element_class_get_metadata(GST_ELEMENT_GET_CLASS(element), GST_ELEMENT_METADATA_KLASS);
    if (!klass || !strstr(klass, "Decoder") || (!strstr(klass, "Video") && !strstr(klass, "Image")))
        return;
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    if (pad)
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_input, user, NULL);
    gst_clear_object(&pad);
}

cli_damage *cli_damage_begin(GstElement *pipeline)
{
    cli_damage *damage = g_new0(cli_damage, 1);
    g_mutex_init(&damage->lock);
    damage->pipeline = gst_object_ref(pipeline);
    damage->handler =
        g_signal_connect(pipeline, "deep-element-added", G_CALLBACK(on_element), damage);
    g_mutex_lock(&current_lock);
    current = damage;
    g_mutex_unlock(&current_lock);
    return damage;
}

bool cli_damage_see(cli_damage *damage, const GstBuffer *frame)
{
    g_mutex_lock(&damage->lock);
    bool damaged = damage->marked || GST_BUFFER_FLAG_IS_SET(frame, GST_BUFFER_FLAG_CORRUPTED);
    damage->counts.damaged += damaged;
    damage->marked = false;
    g_mutex_unlock(&damage->lock);
    return damaged;
}

cli_damage_counts cli_damage_count(cli_damage *damage)
{
    g_mutex_lock(&damage->lock);
    cli_damage_counts counts = damage->counts;
    counts.damaged += damage->given_up;
    counts.lost += damage->given_up;
    g_mutex_unlock(&damage->lock);
    return counts;
}

void cli_damage_end(cli_damage **damage)
{
    cli_damage *d = *damage;
    if (!d)
        return;
    g_mutex_lock(&current_lock);
    if (current == d)
        current = NULL;
    g_mutex_unlock(&current_lock);
    g_signal_handler_disconnect(d->pipeline, d->handler);
    gst_object_unref(d->pipeline);
    g_mutex_clear(&d->lock);
    g_free(d);
    *damage = NULL;
}
