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

#include "interrupt.h"
#include "live.h"

struct cli_media {
    GstElement *pipeline;
    GstElement *source, *convert; /* owned by the pipeline, as is the sink */
    GstAppSink *sink;
    bool local, live; /* see live.h; live counts from the first frame on */
    uint64_t interval;
    GstSample *sample; /* of the frame handed out last */
    GstVideoFrame map;
    bool mapped;
    bool got_frame;
    int max_silence; /* milliseconds without a frame that mean that none will come */
    int silence;     /* waited so far; counted in polls, so that Ctrl-Z is no silence */

    GMutex lock; /* guards what follows: set on streaming threads */
    bool linked; /* a video stream was found */
    bool no_more_pads;
    bool typed;         /* the first type was told */
    bool still;         /* it is one picture, not a video */
    GstSegment segment; /* of the stream before videoconvert */
    int64_t due;        /* stream time from which the next frame is wanted; -1 = the first frame */
    int64_t last_time;  /* of the frame before */
    int frozen;         /* frames since time moved forward */
    gint64 first_arrival; /* g_get_monotonic_time() of the first frame without a time */
    bool seen;            /* a frame came since the last look, wanted or not */
};

/* A damaged or endless file may decode to frames without end that all bear the same time. And
 * decodebin 1.22 may swallow a demuxer's error when it comes while the demuxer is being added: then
 * nothing ever comes. */
enum { MAX_FROZEN = 2000, MAX_FILE_SILENCE_MS = 5000, POLL_MS = 100 };

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

/* A camera that sends pictures without times (Motion JPEG by HTTP): the time of arrival counts. */
static GstBuffer *with_time(cli_media *media, GstBuffer *buffer)
{
    gint64 now = g_get_monotonic_time();
    if (GST_BUFFER_PTS_IS_VALID(buffer) || media->local || media->segment.format != GST_FORMAT_TIME)
        return buffer;
    if (!media->first_arrival)
        media->first_arrival = now;
    buffer = gst_buffer_make_writable(buffer);
    GST_BUFFER_PTS(buffer) =
        media->segment.start + (GstClockTime)(now - media->first_arrival) * GST_USECOND;
    return buffer;
}

static GstPadProbeReturn on_data(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    cli_media *media = user;
    GstPadProbeReturn result = GST_PAD_PROBE_OK;
    g_mutex_lock(&media->lock);
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
        GstBuffer *buffer = with_time(media, GST_PAD_PROBE_INFO_BUFFER(info));
        GST_PAD_PROBE_INFO_DATA(info) = buffer;
        GstClockTime time = GST_CLOCK_TIME_NONE;
        media->seen = true;
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

/* Decodebin keeps frames back until it knows all streams; of this demuxer it would learn at the end
 * only. */
static void on_element(GstBin *pipeline, GstBin *bin, GstElement *element, gpointer user)
{
    GstElementFactory *factory = gst_element_get_factory(element);
    if (factory && !strcmp(GST_OBJECT_NAME(factory), "multipartdemux"))
        g_object_set(element, "single-stream", TRUE, NULL);
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
    media->source = source;
    media->convert = convert;
    media->sink = GST_APP_SINK(sink);
    g_signal_connect(media->pipeline, "deep-element-added", G_CALLBACK(on_element), NULL);
    g_signal_connect(source, "pad-added", G_CALLBACK(on_pad), media);
    g_signal_connect(source, "no-more-pads", G_CALLBACK(on_no_more_pads), media);
    g_signal_connect(source, "autoplug-continue", G_CALLBACK(on_type), media);
    GstPad *pad = gst_element_get_static_pad(convert, "sink");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_data,
                      media, NULL);
    gst_object_unref(pad);
    return true;
}

cli_media *cli_media_open(const char *input, uint64_t interval, double timeout, glm4v_error *err)
{
    char *uri = to_uri(input, err);
    if (!uri)
        return NULL;
    cli_media *media = g_new0(cli_media, 1);
    g_mutex_init(&media->lock);
    gst_segment_init(&media->segment, GST_FORMAT_UNDEFINED);
    media->interval = interval;
    media->due = media->last_time = -1;
    media->local = cli_is_local(uri);
    media->max_silence = media->local ? MAX_FILE_SILENCE_MS : (int)(timeout * 1000);
    bool good = make_pipeline(media, uri, err);
    g_free(uri);
    if (!good) {
        cli_media_close(&media);
        return NULL;
    }
    /* A failure shows up on the bus, where cli_media_next() looks. */
    gst_element_set_state(media->pipeline, GST_STATE_PLAYING);
    return media;
}

static void release_frame(cli_media *media)
{
    if (media->mapped)
        gst_video_frame_unmap(&media->map);
    media->mapped = false;
    g_clear_pointer(&media->sample, gst_sample_unref);
}

/* An error of a network source: its message tells little, the last line of its details what was
 * tried. */
static void fail_with_details(cli_media *media, const char *message, const char *debug,
                              glm4v_error *err)
{
    const char *details = debug ? strrchr(debug, '\n') : NULL;
    size_t length = strlen(message);
    while (length && message[length - 1] == '.')
        length--;
    fail(err, GLM4V_ERR_IO, "%s%.*s%s%s", media->live ? "the stream broke off: " : "", (int)length,
         message, details ? ": " : "", details ? details + 1 : "");
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
    char *debug = NULL;
    gst_message_parse_error(message, &error, &debug);
    if (g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_TYPE_NOT_FOUND))
        fail(err, GLM4V_ERR_FORMAT, "neither a picture nor a video that GStreamer knows");
    else if (g_error_matches(error, GST_CORE_ERROR, GST_CORE_ERROR_MISSING_PLUGIN))
        fail(err, GLM4V_ERR_UNSUPPORTED,
             "neither a picture nor a video, or its decoder is missing: install gstreamer1.0-libav "
             "and gstreamer1.0-plugins-good, -bad and -ugly");
    else if (g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_AUTHORIZED))
        fail(err, GLM4V_ERR_INVALID,
             "the login was refused (%s): write it as scheme://user:password@host", error->message);
    else if (!media->local)
        fail_with_details(media, error->message, debug, err);
    else
        fail(err, GLM4V_ERR_IO, "%s", error->message);
    g_clear_error(&error);
    g_free(debug);
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

/* What a camera sees while the caller is busy is not kept. */
static void look_whether_live(cli_media *media)
{
    GstElement *source = NULL;
    if (media->local)
        return;
    GstPad *pad = gst_element_get_static_pad(media->convert, "sink");
    g_object_get(media->source, "source", &source, NULL);
    media->live = cli_is_live(pad, source);
    if (media->live)
        g_object_set(media->sink, "drop", TRUE, "max-buffers", 1, NULL);
    gst_clear_object(&source);
    gst_object_unref(pad);
}

bool cli_media_is_live(const cli_media *media)
{
    return media->got_frame ? media->live : !media->local;
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
    if (!media->got_frame)
        look_whether_live(media);
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

/* True, with the reason in err, if no frame will come although nothing failed. */
static bool hopeless(cli_media *media, glm4v_error *err)
{
    g_mutex_lock(&media->lock);
    bool empty = media->no_more_pads && !media->linked;
    bool frozen = media->frozen > MAX_FROZEN && media->interval;
    media->silence = media->seen ? 0 : media->silence + POLL_MS;
    media->seen = false;
    g_mutex_unlock(&media->lock);
    if (empty)
        fail(err, GLM4V_ERR_FORMAT, "there is neither a picture nor a video in it");
    else if (frozen)
        fail(err, GLM4V_ERR_FORMAT, "its frames all bear the same time");
    else if (media->silence < media->max_silence)
        return false;
    else if (media->local)
        fail(err, GLM4V_ERR_FORMAT, "it gives no frame");
    else
        fail(err, GLM4V_ERR_IO,
             media->got_frame ? "no frame for %g s: the camera, or the network to it, has stopped"
                              : "no frame within %g s: is the address right, and the camera on?",
             media->max_silence / 1000.);
    return true;
}

static bool was_recording(cli_media *media)
{
    g_mutex_lock(&media->lock);
    int64_t last = media->last_time;
    g_mutex_unlock(&media->lock);
    GstPad *pad = gst_element_get_static_pad(media->convert, "sink");
    bool result = cli_was_recording(pad, last);
    gst_object_unref(pad);
    return result;
}

/* The end of the stream: 0, or -1 where it is a failure. */
static int end(cli_media *media, glm4v_error *err)
{
    if (media->got_frame && (!media->live || was_recording(media)))
        return 0;
    if (media->got_frame)
        fail(err, GLM4V_ERR_IO, "the stream was ended from the other side");
    else
        fail(err, media->local ? GLM4V_ERR_FORMAT : GLM4V_ERR_IO,
             "it ended before its first frame");
    return -1;
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
    release_frame(media);
    if (was_still(media))
        return 0;
    media->silence = 0; /* while the caller was busy, nothing could come */
    do {
        if (cli_interrupted()) {
            fail(err, GLM4V_ERR_CANCELED, "interrupted");
            return -1;
        }
        media->sample = gst_app_sink_try_pull_sample(media->sink, POLL_MS * GST_MSECOND);
        if (media->sample)
            return hand_out(media, frame, err);
        if (bus_failed(media, err))
            return -1;
        if (gst_app_sink_is_eos(media->sink))
            return end(media, err);
    } while (!hopeless(media, err));
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
