/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures out of a file or URI: uridecodebin ! videoconvert ! appsink. A probe before videoconvert
 * drops the frames that nobody asked for, so that only sampled frames are converted to RGB. */
#include "media.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <locale.h>
#include <string.h>

struct cli_media {
    GstElement *pipeline;
    GstElement *convert; /* owned by the pipeline, as is the sink */
    GstAppSink *sink;
    uint64_t interval;
    GstSample *sample; /* of the frame handed out last */
    GstVideoFrame map;
    bool mapped;
    bool got_frame;
    int max_silence; /* seconds without a frame that mean that none will come */

    GMutex lock; /* guards what follows: set on streaming threads */
    bool linked; /* a video stream was found */
    bool no_more_pads;
    bool typed;         /* the first type was told */
    bool still;         /* it is one picture, not a video */
    GstSegment segment; /* of the stream before videoconvert */
    int64_t due;        /* stream time from which the next frame is wanted; -1 = the first frame */
    int64_t last_time;  /* of the frame before */
    int frozen;         /* frames since time moved forward */
    gint64 last_seen;   /* g_get_monotonic_time() of the last frame, wanted or not */
};

/* A damaged or endless file may decode to frames without end that all bear the same time. And
 * decodebin 1.22 may swallow a demuxer's error when it comes while the demuxer is being added: then
 * nothing ever comes. */
enum { MAX_FROZEN = 2000, MAX_SILENCE_S = 30, MAX_FILE_SILENCE_S = 5 };

void cli_media_init(void)
{
    gst_init(NULL, NULL);
    setlocale(LC_NUMERIC, "C"); /* gst_init() took the user's; JSON wants a decimal point */
}

__attribute__((format(printf, 3, 4))) static void fail(glm4v_error *err, int code,
                                                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err->code = code;
    g_vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
}

/* Whether the frame at stream time `time` is to be described; moves the due time on a fixed grid,
 * so that the distance does not drift with the frame rate. */
static bool wanted(cli_media *media, int64_t time)
{
    if (!media->interval || time < 0)
        return true;
    if (media->due >= 0 && time < media->due)
        return false;
    int64_t interval = (int64_t)media->interval;
    media->due = media->due < 0 ? time + interval
                                : media->due + ((time - media->due) / interval + 1) * interval;
    return true;
}

static GstPadProbeReturn on_data(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    cli_media *media = user;
    GstPadProbeReturn result = GST_PAD_PROBE_OK;
    g_mutex_lock(&media->lock);
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
        GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
        GstClockTime time = GST_CLOCK_TIME_NONE;
        media->last_seen = g_get_monotonic_time();
        if (media->segment.format == GST_FORMAT_TIME)
            time = gst_segment_to_stream_time(&media->segment, GST_FORMAT_TIME,
                                              GST_BUFFER_PTS(buffer));
        int64_t t = GST_CLOCK_TIME_IS_VALID(time) ? (int64_t)time : -1;
        media->frozen = t > media->last_time ? 0 : media->frozen + 1;
        media->last_time = t;
        if (!wanted(media, t))
            result = GST_PAD_PROBE_DROP;
    } else if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_SEGMENT) {
        gst_event_copy_segment(GST_PAD_PROBE_INFO_EVENT(info), &media->segment);
    }
    g_mutex_unlock(&media->lock);
    return result;
}

static void on_pad(GstElement *source, GstPad *pad, gpointer user)
{
    cli_media *media = user;
    GstPad *target = gst_element_get_static_pad(media->convert, "sink");
    g_mutex_lock(&media->lock);
    bool first = !media->linked;
    g_mutex_unlock(&media->lock);
    /* A file with several video streams: the first counts. */
    if (first && GST_PAD_LINK_SUCCESSFUL(gst_pad_link(pad, target))) {
        g_mutex_lock(&media->lock);
        media->linked = true;
        g_mutex_unlock(&media->lock);
    }
    gst_object_unref(target);
}

static void on_no_more_pads(GstElement *source, gpointer user)
{
    cli_media *media = user;
    g_mutex_lock(&media->lock);
    media->no_more_pads = true;
    g_mutex_unlock(&media->lock);
}

/* The first type that is found tells a picture from a video: a JPEG file is a picture, Motion JPEG
 * in AVI is not. */
static gboolean on_type(GstElement *source, GstPad *pad, GstCaps *caps, gpointer user)
{
    cli_media *media = user;
    const char *name = gst_structure_get_name(gst_caps_get_structure(caps, 0));
    g_mutex_lock(&media->lock);
    if (!media->typed)
        media->still = g_str_has_prefix(name, "image/");
    media->typed = true;
    g_mutex_unlock(&media->lock);
    return TRUE;
}

bool cli_is_utf8(const char *text)
{
    return g_utf8_validate(text, -1, NULL);
}

static char *to_uri(const char *input, glm4v_error *err)
{
    GError *error = NULL;
    GStatBuf st;
    if (gst_uri_is_valid(input) && strstr(input, "://"))
        return g_strdup(input);
    if (!g_file_test(input, G_FILE_TEST_EXISTS)) {
        fail(err, GLM4V_ERR_NOT_FOUND, "%s: no such file", input);
        return NULL;
    }
    if (!g_file_test(input, G_FILE_TEST_IS_REGULAR)) {
        fail(err, GLM4V_ERR_IO, "%s: not a file", input);
        return NULL;
    }
    if (!g_stat(input, &st) && st.st_size == 0) {
        fail(err, GLM4V_ERR_FORMAT, "%s: the file is empty", input);
        return NULL;
    }
    char *uri = gst_filename_to_uri(input, &error);
    if (!uri)
        fail(err, GLM4V_ERR_IO, "%s: %s", input, error->message);
    g_clear_error(&error);
    return uri;
}

static bool make_pipeline(cli_media *media, const char *uri, glm4v_error *err)
{
    GstElement *source = gst_element_factory_make("uridecodebin", NULL);
    GstElement *convert = gst_element_factory_make("videoconvert", NULL);
    GstElement *sink = gst_element_factory_make("appsink", NULL);
    media->pipeline = gst_pipeline_new(NULL);
    if (!source || !convert || !sink) {
        fail(err, GLM4V_ERR_UNSUPPORTED,
             "GStreamer's basic plugins are missing (%s): install gstreamer1.0-plugins-base",
             !source    ? "uridecodebin"
             : !convert ? "videoconvert"
                        : "appsink");
        gst_clear_object(&source);
        gst_clear_object(&convert);
        gst_clear_object(&sink);
        return false;
    }
    /* Any memory feature: decodebin passes over decoders whose template says more than these
     * caps. */
    GstCaps *raw = gst_caps_from_string("video/x-raw(ANY)");
    GstCaps *rgb = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "RGB", NULL);
    g_object_set(source, "uri", uri, "caps", raw, "expose-all-streams", FALSE, NULL);
    g_object_set(sink, "caps", rgb, "sync", FALSE, "max-buffers", 2, NULL);
    gst_caps_unref(raw);
    gst_caps_unref(rgb);
    gst_bin_add_many(GST_BIN(media->pipeline), source, convert, sink, NULL);
    gst_element_link(convert, sink);
    media->convert = convert;
    media->sink = GST_APP_SINK(sink);
    g_signal_connect(source, "pad-added", G_CALLBACK(on_pad), media);
    g_signal_connect(source, "no-more-pads", G_CALLBACK(on_no_more_pads), media);
    g_signal_connect(source, "autoplug-continue", G_CALLBACK(on_type), media);
    GstPad *pad = gst_element_get_static_pad(convert, "sink");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_data,
                      media, NULL);
    gst_object_unref(pad);
    return true;
}

cli_media *cli_media_open(const char *input, uint64_t interval, glm4v_error *err)
{
    char *uri = to_uri(input, err);
    if (!uri)
        return NULL;
    cli_media *media = g_new0(cli_media, 1);
    g_mutex_init(&media->lock);
    gst_segment_init(&media->segment, GST_FORMAT_UNDEFINED);
    media->interval = interval;
    media->due = media->last_time = -1;
    media->last_seen = g_get_monotonic_time();
    media->max_silence = g_str_has_prefix(uri, "file:") ? MAX_FILE_SILENCE_S : MAX_SILENCE_S;
    bool good = make_pipeline(media, uri, err);
    g_free(uri);
    if (!good) {
        cli_media_close(&media);
        return NULL;
    }
    /* A failure shows up on the bus, where cli_media_next() looks. */
    if (gst_element_set_state(media->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_NO_PREROLL)
        g_object_set(media->sink, "drop", TRUE, "max-buffers", 1, NULL);
    return media;
}

static void release_frame(cli_media *media)
{
    if (media->mapped)
        gst_video_frame_unmap(&media->map);
    media->mapped = false;
    g_clear_pointer(&media->sample, gst_sample_unref);
}

/* True if the bus holds an error, which is then in err. */
static bool bus_failed(cli_media *media, glm4v_error *err)
{
    GstBus *bus = gst_element_get_bus(media->pipeline);
    GstMessage *message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    gst_object_unref(bus);
    if (!message)
        return false;
    GError *error = NULL;
    gst_message_parse_error(message, &error, NULL);
    if (g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_TYPE_NOT_FOUND))
        fail(err, GLM4V_ERR_FORMAT, "neither a picture nor a video that GStreamer knows");
    else if (g_error_matches(error, GST_CORE_ERROR, GST_CORE_ERROR_MISSING_PLUGIN))
        fail(err, GLM4V_ERR_UNSUPPORTED,
             "neither a picture nor a video, or its decoder is missing: install gstreamer1.0-libav "
             "and gstreamer1.0-plugins-good, -bad and -ugly");
    else
        fail(err, GLM4V_ERR_IO, "%s", error->message);
    g_clear_error(&error);
    gst_message_unref(message);
    return true;
}

static double fraction_done(cli_media *media, int64_t time)
{
    gint64 duration = 0;
    if (time < 0 || !gst_element_query_duration(media->pipeline, GST_FORMAT_TIME, &duration) ||
        duration <= 0)
        return -1;
    return (double)time / (double)duration;
}

static int hand_out(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    GstBuffer *buffer = gst_sample_get_buffer(media->sample);
    const GstSegment *segment = gst_sample_get_segment(media->sample);
    GstVideoInfo info;
    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(media->sample)) ||
        !gst_video_frame_map(&media->map, &info, buffer, GST_MAP_READ)) {
        fail(err, GLM4V_ERR_FORMAT, "a decoded frame could not be read");
        return -1;
    }
    media->mapped = true;
    media->got_frame = true;
    g_mutex_lock(&media->lock);
    bool still = media->still;
    g_mutex_unlock(&media->lock);
    GstClockTime time =
        gst_segment_to_stream_time(segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer));
    *frame = (cli_frame) {
        .image = { .data = GST_VIDEO_FRAME_PLANE_DATA(&media->map, 0),
                   .width = GST_VIDEO_FRAME_WIDTH(&media->map),
                   .height = GST_VIDEO_FRAME_HEIGHT(&media->map),
                   .stride = GST_VIDEO_FRAME_PLANE_STRIDE(&media->map, 0) },
        .pts = still || !GST_CLOCK_TIME_IS_VALID(time) ? -1 : (int64_t)time,
    };
    frame->fraction = fraction_done(media, frame->pts);
    return 1;
}

/* Why no frame will come although nothing failed; NULL while one may. */
static const char *hopeless(cli_media *media)
{
    const char *why = NULL;
    g_mutex_lock(&media->lock);
    if (media->no_more_pads && !media->linked)
        why = "there is neither a picture nor a video in it";
    else if (media->frozen > MAX_FROZEN && media->interval)
        why = "its frames all bear the same time";
    else if (g_get_monotonic_time() - media->last_seen > media->max_silence * G_USEC_PER_SEC)
        why = "it gives no frame";
    g_mutex_unlock(&media->lock);
    return why;
}

/* A picture has one frame, whatever its decoder does after it. */
static bool was_still(cli_media *media)
{
    g_mutex_lock(&media->lock);
    bool still = media->still && media->got_frame;
    g_mutex_unlock(&media->lock);
    return still;
}

int cli_media_next(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    const char *why = NULL;
    release_frame(media);
    if (was_still(media))
        return 0;
    g_mutex_lock(&media->lock);
    media->last_seen = g_get_monotonic_time(); /* while the caller was busy, nothing could come */
    g_mutex_unlock(&media->lock);
    while (!why) {
        media->sample = gst_app_sink_try_pull_sample(media->sink, 100 * GST_MSECOND);
        if (media->sample)
            return hand_out(media, frame, err);
        if (bus_failed(media, err))
            return -1;
        if (gst_app_sink_is_eos(media->sink)) {
            if (media->got_frame)
                return 0;
            why = "it ended before its first frame";
        } else {
            why = hopeless(media);
        }
    }
    fail(err, GLM4V_ERR_FORMAT, "%s", why);
    return -1;
}

void cli_media_close(cli_media **media)
{
    if (!*media)
        return;
    release_frame(*media);
    if ((*media)->pipeline) {
        gst_element_set_state((*media)->pipeline, GST_STATE_NULL);
        gst_object_unref((*media)->pipeline);
    }
    g_mutex_clear(&(*media)->lock);
    g_free(*media);
    *media = NULL;
}
