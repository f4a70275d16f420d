/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures out of a file or URI: uridecodebin ! videoconvert ! appsink. A probe before videoconvert
 * drops frames that are not sampled, so that only sampled frames are converted to RGB. */
#include "media.h"

#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <locale.h>
#include <string.h>

#include "blob.h"
#include "damage.h"
#include "fail.h"
#include "interrupt.h"
#include "live.h"
#include "pace.h"
#include "picture/canvas.h"
#include "picture/picture.h"
#include "timeline.h"
#include "tracks.h"

struct cli_media {
    GstElement *pipeline;
    GstElement *source, *convert; /* owned by the pipeline, as is the sink */
    GstAppSink *sink;
    char *uri;
    cli_feed *feed;
    uint32_t track;    /* see cli_media_options.video_track */
    bool local, live;  /* see live.h; live counts from the first frame on */
    GstSample *sample; /* of the last returned frame */
    GstVideoFrame map;
    bool mapped;
    cli_canvas upright; /* that frame, if it had to be turned */
    bool got_frame;
    int max_silence; /* milliseconds without a frame that mean that none will come */
    int silence;     /* waited so far; counted in polls, so that Ctrl-Z is no silence */
    cli_damage *damage;

    cli_blob bytes; /* of a picture from elsewhere */
    cli_picture *picture;

    GMutex lock;     /* guards what follows: set on streaming threads */
    GPtrArray *pads; /* of the video tracks of a local file, until one is chosen */
    uint32_t n_tracks;
    bool linked; /* a video stream was found */
    bool no_more_pads;
    bool typed;         /* the first type is known */
    bool still;         /* it is a picture from elsewhere: its bytes are fetched */
    GstSegment segment; /* of the stream before videoconvert */
    cli_pace pace;
    cli_timeline timeline;
    int64_t step;      /* nanoseconds: duration of the frame before */
    int64_t frame;     /* nanoseconds: of a frame by the frame rate; 0 = unknown */
    int orientation;   /* as in EXIF */
    int64_t last_time; /* of the frame before, by the clip */
    int64_t frozen;    /* frames since time moved forward */
    uint32_t frames;
    gint64 first_arrival; /* g_get_monotonic_time() of the first frame without a time */
    bool seen;            /* a frame came since the last look, wanted or not */
};

/* A damaged file may decode to endless frames that all have the same time: more than its bytes can
 * contain are too many. And decodebin 1.22 may lose an error that a demuxer posts while it is being
 * added: then no frame arrives. */
enum { MAX_FROZEN = 2000, MIN_FRAME_BYTES = 8, MAX_FILE_SILENCE_MS = 5000, POLL_MS = 100 };

/* Of frames without times, durations and a rate: 25 a second. */
#define DEFAULT_STEP (40 * (int64_t)GST_MSECOND)

/* A bundle (tools/bundle.sh) has the helper that GStreamer looks at plugins with; without one it
 * would warn on a machine that has no GStreamer. */
static void use_scanner_of_bundle(void)
{
    char *program = g_file_read_link("/proc/self/exe", NULL);
    char *folder = program ? g_path_get_dirname(program) : g_strdup(".");
    char *scanner = g_build_filename(folder, "..", "libexec", "gst-plugin-scanner", NULL);
    if (!g_getenv("GST_PLUGIN_SCANNER") && g_file_test(scanner, G_FILE_TEST_IS_EXECUTABLE))
        g_setenv("GST_PLUGIN_SCANNER_1_0", scanner, FALSE);
    g_free(scanner);
    g_free(folder);
    g_free(program);
}

void cli_media_init(void)
{
    use_scanner_of_bundle();
    gst_init(NULL, NULL);
    cli_damage_init();
    setlocale(LC_NUMERIC, "C"); /* gst_init() took the user's; JSON wants a decimal point */
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

/* The returned time of a frame is stored in the offset of its buffer, and whether the frame is
 * damaged in a flag. */
static GstPadProbeReturn on_frame(cli_media *media, GstPadProbeInfo *info)
{
    GstBuffer *buffer = with_time(media, GST_PAD_PROBE_INFO_BUFFER(info));
    GstClockTime time = GST_CLOCK_TIME_NONE;
    GST_PAD_PROBE_INFO_DATA(info) = buffer;
    media->seen = true;
    media->frames++;
    if (media->segment.format == GST_FORMAT_TIME)
        time = gst_segment_to_stream_time(&media->segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer));
    const int64_t t = GST_CLOCK_TIME_IS_VALID(time) ? (int64_t)time : -1;
    media->frozen = t > media->last_time ? 0 : media->frozen + 1;
    media->last_time = t;
    const int64_t placed = cli_timeline_place(&media->timeline, t, media->step);
    media->step = media->frame ? media->frame : DEFAULT_STEP;
    if (GST_BUFFER_DURATION_IS_VALID(buffer) && GST_BUFFER_DURATION(buffer))
        media->step = GST_BUFFER_DURATION(buffer);
    const bool damaged = cli_damage_see(media->damage, buffer);
    if (!cli_pace_wants(&media->pace, placed))
        return GST_PAD_PROBE_DROP;
    buffer = gst_buffer_make_writable(buffer);
    GST_BUFFER_OFFSET(buffer) = placed;
    if (damaged)
        GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_CORRUPTED);
    GST_PAD_PROBE_INFO_DATA(info) = buffer;
    return GST_PAD_PROBE_OK;
}

static void on_caps(cli_media *media, GstEvent *event)
{
    GstCaps *caps;
    gint n = 0, d = 0;
    gst_event_parse_caps(event, &caps);
    gst_structure_get_fraction(gst_caps_get_structure(caps, 0), "framerate", &n, &d);
    media->frame = n > 0 && d > 0 ? (int64_t)gst_util_uint64_scale(GST_SECOND, d, n) : 0;
}

/* The orientation in a container, or in EXIF in it. */
static void on_tags(cli_media *media, GstEvent *event)
{
    static const char *const turns[] = { "rotate-0",        "flip-rotate-0",   "rotate-180",
                                         "flip-rotate-180", "flip-rotate-270", "rotate-90",
                                         "flip-rotate-90",  "rotate-270" };
    GstTagList *tags;
    char *turn = NULL;
    gst_event_parse_tag(event, &tags);
    if (!gst_tag_list_get_string(tags, GST_TAG_IMAGE_ORIENTATION, &turn))
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(turns); i++)
        if (!strcmp(turn, turns[i]))
            media->orientation = (int)i + 1;
    g_free(turn);
}

static GstPadProbeReturn on_data(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    cli_media *media = user;
    GstPadProbeReturn result = GST_PAD_PROBE_OK;
    g_mutex_lock(&media->lock);
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
        result = on_frame(media, info);
    } else {
        GstEvent *event = GST_PAD_PROBE_INFO_EVENT(info);
        if (GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT)
            gst_event_copy_segment(event, &media->segment);
        else if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS)
            on_caps(media, event);
        else if (GST_EVENT_TYPE(event) == GST_EVENT_TAG)
            on_tags(media, event);
    }
    g_mutex_unlock(&media->lock);
    return result;
}

static void link_to(cli_media *media, GstPad *pad, GstElement *element)
{
    GstPad *target = gst_element_get_static_pad(element, "sink");
    bool good = GST_PAD_LINK_SUCCESSFUL(gst_pad_link(pad, target));
    gst_object_unref(target);
    g_mutex_lock(&media->lock);
    media->linked |= good;
    g_mutex_unlock(&media->lock);
}

/* Video is decoded and goes to videoconvert; what is not, because on_type() said so, goes past it.
 */
static void fetch_from(cli_media *media, GstPad *pad)
{
    gst_element_unlink(media->convert, GST_ELEMENT(media->sink));
    g_object_set(media->sink, "caps", NULL, NULL);
    link_to(media, pad, GST_ELEMENT(media->sink));
}

static void on_pad(GstElement *source, GstPad *pad, gpointer user)
{
    cli_media *media = user;
    g_mutex_lock(&media->lock);
    const bool still = media->still, first = !media->linked;
    const uint32_t number = ++media->n_tracks;
    if (media->local)
        g_ptr_array_add(media->pads, gst_object_ref(pad));
    g_mutex_unlock(&media->lock);
    if (still)
        fetch_from(media, pad);
    else if (!media->local && (media->track ? number == media->track : first))
        link_to(media, pad, media->convert);
}

/* Index of the track to decode, which may not exist. */
static guint chosen_track(const cli_media *media)
{
    if (media->track)
        return media->track - 1;
    if (media->pads->len == 1)
        return 0;
    return cli_tracks_choose(media->pads, media->feed ? NULL : media->uri);
}

/* decodebin holds the data back until this is over. */
static void on_no_more_pads(GstElement *source, gpointer user)
{
    cli_media *media = user;
    GPtrArray *pads = media->pads;
    if (pads->len && !media->linked) {
        cli_tracks_sort(pads);
        const guint chosen = chosen_track(media);
        if (chosen < pads->len)
            link_to(media, pads->pdata[chosen], media->convert);
    }
    g_mutex_lock(&media->lock);
    media->no_more_pads = true;
    g_mutex_unlock(&media->lock);
}

/* A picture from elsewhere is not decoded by GStreamer: its bytes are. Over other protocols than
 * HTTP a JPEG is the first of many. */
static gboolean on_type(GstElement *source, GstPad *pad, GstCaps *caps, gpointer user)
{
    cli_media *media = user;
    const char *name = gst_structure_get_name(gst_caps_get_structure(caps, 0));
    g_mutex_lock(&media->lock);
    if (!media->typed && !media->local)
        media->still = g_str_has_prefix(name, "image/") &&
                       (strcmp(name, "image/jpeg") != 0 || g_str_has_prefix(media->uri, "http"));
    media->typed = true;
    const bool still = media->still;
    g_mutex_unlock(&media->lock);
    return !still;
}

static void on_source(GstElement *decode, GstElement *source, gpointer user)
{
    cli_media *media = user;
    if (media->feed)
        cli_feed_connect(media->feed, GST_APP_SRC(source));
}

/* Decodebin holds frames back until it knows all streams; with this demuxer that is only at the
 * end. */
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

static bool make_pipeline(cli_media *media, glm4v_error *err)
{
    GstElement *source = gst_element_factory_make("uridecodebin", NULL);
    GstElement *convert = gst_element_factory_make("videoconvert", NULL);
    GstElement *sink = gst_element_factory_make("appsink", NULL);
    media->pipeline = gst_pipeline_new(NULL);
    if (!source || !convert || !sink) {
        const char *missing = convert ? "appsink" : "videoconvert";
        if (!source)
            missing = "uridecodebin";
        cli_fail(err, GLM4V_ERR_UNSUPPORTED,
                 "GStreamer's basic plugins are missing (%s): install gstreamer1.0-plugins-base",
                 missing);
        gst_clear_object(&source);
        gst_clear_object(&convert);
        gst_clear_object(&sink);
        return false;
    }
    /* Any memory feature: decodebin skips decoders whose template has more than these caps. */
    GstCaps *raw = gst_caps_from_string("video/x-raw(ANY)");
    GstCaps *rgb = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "RGB", NULL);
    g_object_set(source, "uri", media->uri, "caps", raw, "expose-all-streams", FALSE, NULL);
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
    g_signal_connect(source, "source-setup", G_CALLBACK(on_source), media);
    media->damage = cli_damage_begin(media->pipeline);
    GstPad *pad = gst_element_get_static_pad(convert, "sink");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_data,
                      media, NULL);
    gst_object_unref(pad);
    return true;
}

cli_media *cli_media_open(const char *uri, const cli_media_options *options, glm4v_error *err)
{
    cli_media *media = g_new0(cli_media, 1);
    g_mutex_init(&media->lock);
    gst_segment_init(&media->segment, GST_FORMAT_UNDEFINED);
    media->uri = g_strdup(uri);
    media->feed = options->feed;
    media->track = options->video_track;
    media->pads = g_ptr_array_new_with_free_func(gst_object_unref);
    media->pace = cli_pace_begin(options->interval);
    media->timeline = cli_timeline_begin();
    media->step = DEFAULT_STEP;
    media->last_time = -1;
    media->local = cli_is_local(uri);
    media->max_silence = media->local && !(media->feed && media->feed->fd >= 0)
                             ? MAX_FILE_SILENCE_MS
                             : (int)(options->timeout * 1000);
    if (!make_pipeline(media, err)) {
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

/* An error of a network source: its message has little information, the last line of its details
 * has what was tried. */
static void fail_with_details(cli_media *media, const char *message, const char *debug,
                              glm4v_error *err)
{
    const char *details = debug ? strrchr(debug, '\n') : NULL;
    size_t length = strlen(message);
    while (length && message[length - 1] == '.')
        length--;
    cli_fail(err, GLM4V_ERR_IO, "%s%.*s%s%s", media->live ? "the stream was interrupted: " : "",
             (int)length, message, details ? ": " : "", details ? details + 1 : "");
}

/* An error that follows from the failure of another element, such as "Internal data stream
 * error". */
static bool is_consequence(const GError *error, const char *debug)
{
    return g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED) && debug &&
           strstr(debug, "streaming stopped, reason ");
}

/* True if no track was linked, with the reason in err. */
static bool lacks_track(cli_media *media, glm4v_error *err)
{
    g_mutex_lock(&media->lock);
    const bool lacks = media->no_more_pads && !media->linked;
    const uint32_t n_tracks = media->n_tracks;
    g_mutex_unlock(&media->lock);
    if (lacks && n_tracks && media->track)
        cli_fail(err, GLM4V_ERR_NOT_FOUND, "there is no video track %u in it: it has %u, from 0 on",
                 media->track - 1, n_tracks);
    else if (lacks)
        cli_fail(err, GLM4V_ERR_FORMAT, "there is neither a picture nor a video in it");
    return lacks;
}

/* No element reported the reason: use what a decoder logged, or else the way in which it
 * stopped. */
static void fail_without_reason(cli_media *media, const char *debug, glm4v_error *err)
{
    const char *reason = strstr(debug, "reason ") + strlen("reason ");
    const cli_damage_counts counts = cli_damage_count(media->damage);
    if (lacks_track(media, err))
        return;
    if (*counts.first)
        cli_fail(err, GLM4V_ERR_FORMAT, "it cannot be decoded: %s", counts.first);
    else if (g_str_has_prefix(reason, "not-negotiated"))
        cli_fail(err, GLM4V_ERR_UNSUPPORTED,
                 "its video is of a kind that cannot be decoded to RGB");
    else
        cli_fail(err, GLM4V_ERR_FORMAT, "it cannot be decoded (%s)", reason);
}

static void fail_with(cli_media *media, const GError *error, const char *debug, glm4v_error *err)
{
    if (g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_TYPE_NOT_FOUND))
        cli_fail(err, GLM4V_ERR_FORMAT, "neither a picture nor a video that GStreamer knows");
    else if (g_error_matches(error, GST_CORE_ERROR, GST_CORE_ERROR_MISSING_PLUGIN))
        cli_fail(
            err, GLM4V_ERR_UNSUPPORTED,
            "neither a picture nor a video, or its decoder is missing: install gstreamer1.0-libav "
            "and gstreamer1.0-plugins-good, -bad and -ugly");
    else if (g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_AUTHORIZED))
        cli_fail(err, GLM4V_ERR_INVALID,
                 "the login was refused (%s): write it as scheme://user:password@host",
                 error->message);
    else if (!media->local)
        fail_with_details(media, error->message, debug, err);
    else if (is_consequence(error, debug))
        fail_without_reason(media, debug, err);
    else
        cli_fail(err, GLM4V_ERR_IO, "%s", error->message);
}

/* A demuxer whose chosen track has ended, and which finds no taker for the others. */
static bool is_end_of_track(const GError *error, const char *debug)
{
    return is_consequence(error, debug) && strstr(debug, "reason not-linked");
}

/* 0 = no error on the bus, 1 = the end of the track, -1 = an error, which is in err: the first one,
 * unless that is the consequence of another one. */
static int look_at_bus(cli_media *media, glm4v_error *err)
{
    GstBus *bus = gst_element_get_bus(media->pipeline);
    GstMessage *message;
    int found = 0;
    bool told = false;
    while (!told && (message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR))) {
        GError *error = NULL;
        char *debug = NULL;
        gst_message_parse_error(message, &error, &debug);
        told = !is_consequence(error, debug);
        if (media->linked && is_end_of_track(error, debug)) {
            found = found ? found : 1;
        } else if (told || found >= 0) {
            fail_with(media, error, debug, err);
            found = -1;
        }
        g_clear_error(&error);
        g_free(debug);
        gst_message_unref(message);
    }
    gst_object_unref(bus);
    return found;
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

/* Rotates the frame as its container specifies. */
static int turn(cli_media *media, glm4v_image *image, int orientation, glm4v_error *err)
{
    if (orientation < 2)
        return 0;
    const int32_t row = 3 * image->width;
    int rc = cli_canvas_make(&media->upright, image->width, image->height, 3, err);
    for (int32_t y = 0; !rc && y < image->height; y++)
        memcpy(cli_canvas_at(&media->upright, 0, y), image->data + y * image->stride, row);
    if (!rc)
        rc = cli_canvas_orient(&media->upright, orientation, err);
    if (!rc)
        *image = (glm4v_image) { .data = media->upright.pixels,
                                 .width = media->upright.width,
                                 .height = media->upright.height,
                                 .stride = 3 * media->upright.width };
    return rc;
}

static int hand_out(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    GstBuffer *buffer = gst_sample_get_buffer(media->sample);
    GstVideoInfo info;
    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(media->sample)) ||
        !gst_video_frame_map(&media->map, &info, buffer, GST_MAP_READ)) {
        cli_fail(err, GLM4V_ERR_FORMAT, "a decoded frame could not be read");
        return -1;
    }
    media->mapped = true;
    if (!media->got_frame)
        look_whether_live(media);
    media->got_frame = true;
    g_mutex_lock(&media->lock);
    int orientation = media->orientation;
    g_mutex_unlock(&media->lock);
    *frame = (cli_frame) {
        .image = { .data = GST_VIDEO_FRAME_PLANE_DATA(&media->map, 0),
                   .width = GST_VIDEO_FRAME_WIDTH(&media->map),
                   .height = GST_VIDEO_FRAME_HEIGHT(&media->map),
                   .stride = GST_VIDEO_FRAME_PLANE_STRIDE(&media->map, 0) },
        .pts = GST_BUFFER_OFFSET(buffer),
        .damaged = GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_CORRUPTED),
    };
    frame->fraction = fraction_done(media, frame->pts);
    return turn(media, &frame->image, orientation, err) ? -1 : 1;
}

/* More frames of the same time than a local file can hold. */
static bool is_endless(cli_media *media)
{
    gint64 bytes = 0;
    g_mutex_lock(&media->lock);
    int64_t frozen = media->frozen;
    g_mutex_unlock(&media->lock);
    if (!media->local || frozen <= MAX_FROZEN)
        return false;
    GstElement *source = NULL;
    g_object_get(media->source, "source", &source, NULL);
    bool known =
        source && gst_element_query_duration(source, GST_FORMAT_BYTES, &bytes) && bytes > 0;
    gst_clear_object(&source);
    return known && frozen > bytes / MIN_FRAME_BYTES;
}

/* True, with the reason in err, if no frame will come although nothing failed. */
static bool hopeless(cli_media *media, glm4v_error *err)
{
    g_mutex_lock(&media->lock);
    media->silence = media->seen ? 0 : media->silence + POLL_MS;
    media->seen = false;
    g_mutex_unlock(&media->lock);
    if (lacks_track(media, err))
        return true;
    if (is_endless(media))
        cli_fail(err, GLM4V_ERR_FORMAT, "it has no end, and all its frames have the same time");
    else if (media->silence < media->max_silence)
        return false;
    else if (media->local)
        cli_fail(err, GLM4V_ERR_FORMAT, "it contains no frame");
    else
        cli_fail(err, GLM4V_ERR_IO,
                 media->got_frame
                     ? "no frame for %g s: the camera, or the network to it, has stopped"
                     : "no frame within %g s: check the address, and that the camera is on",
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
        cli_fail(err, GLM4V_ERR_IO, "the stream was ended by its sender");
    else
        cli_fail(err, media->local ? GLM4V_ERR_FORMAT : GLM4V_ERR_IO,
                 "it ended before its first frame");
    return -1;
}

/* Adds what came of a picture to its bytes. 2 = there may be more, -1 = failed. */
static int take_bytes(cli_media *media, GstSample *sample, glm4v_error *err)
{
    GstBuffer *buffer = gst_sample_get_buffer(sample);
    GstMapInfo map;
    int rc = 0;
    if (gst_buffer_map(buffer, &map, GST_MAP_READ)) {
        rc = cli_blob_append(&media->bytes, map.data, map.size, err);
        gst_buffer_unmap(buffer, &map);
    }
    media->silence = 0;
    if (!rc && media->bytes.size > CLI_PICTURE_MAX_FILE)
        cli_fail(err, rc = GLM4V_ERR_UNSUPPORTED, "the picture's file is larger than %d MiB",
                 CLI_PICTURE_MAX_FILE >> 20);
    return rc ? -1 : 2;
}

/* All bytes of a picture have come. */
static int begin_picture(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    media->picture = cli_picture_open(media->bytes.data, media->bytes.size, media->uri,
                                      media->pace.interval, err);
    media->got_frame = media->picture != NULL;
    return media->picture ? cli_picture_next(media->picture, frame, err) : -1;
}

/* 1 = a frame, 0 = the end, -1 = failed, 2 = nothing yet. */
static int look(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    media->sample = gst_app_sink_try_pull_sample(media->sink, POLL_MS * GST_MSECOND);
    g_mutex_lock(&media->lock);
    const bool still = media->still;
    g_mutex_unlock(&media->lock);
    if (media->sample)
        return still ? take_bytes(media, media->sample, err) : hand_out(media, frame, err);
    const int found = look_at_bus(media, err);
    if (found < 0)
        return -1;
    if (!found && !gst_app_sink_is_eos(media->sink))
        return 2;
    return still && media->bytes.size ? begin_picture(media, frame, err) : end(media, err);
}

int cli_media_next(cli_media *media, cli_frame *frame, glm4v_error *err)
{
    if (media->picture)
        return cli_picture_next(media->picture, frame, err);
    media->silence = 0; /* while the caller was busy, nothing could come */
    do {
        release_frame(media);
        if (cli_interrupted()) {
            cli_fail(err, GLM4V_ERR_CANCELED, "interrupted");
            return -1;
        }
        int more = is_endless(media) ? 2 : look(media, frame, err);
        if (more < 2)
            return more;
    } while (!hopeless(media, err));
    return -1;
}

void cli_media_tell(cli_media *media, cli_troubles *troubles)
{
    const cli_damage_counts counts = cli_damage_count(media->damage);
    *troubles = (cli_troubles) { .damaged = counts.damaged, .frames = counts.lost };
    g_strlcpy(troubles->first, counts.first, sizeof troubles->first);
    g_mutex_lock(&media->lock);
    troubles->frames += media->frames;
    const int64_t last = media->timeline.last;
    g_mutex_unlock(&media->lock);
    GstPad *pad = gst_element_get_static_pad(media->convert, "sink");
    if (media->local && media->got_frame && gst_app_sink_is_eos(media->sink) && cli_duration(pad) &&
        !cli_was_recording(pad, last)) {
        troubles->end = last;
        troubles->duration = cli_duration(pad);
    }
    gst_object_unref(pad);
}

void cli_media_close(cli_media **media)
{
    if (!*media)
        return;
    release_frame(*media);
    if ((*media)->feed)
        cli_feed_stop((*media)->feed);
    if ((*media)->pipeline) {
        gst_element_set_state((*media)->pipeline, GST_STATE_NULL);
        cli_damage_end(&(*media)->damage);
        gst_object_unref((*media)->pipeline);
    }
    cli_picture_close(&(*media)->picture);
    cli_blob_free(&(*media)->bytes);
    cli_canvas_free(&(*media)->upright);
    g_ptr_array_unref((*media)->pads);
    g_mutex_clear(&(*media)->lock);
    g_free((*media)->uri);
    g_free(*media);
    *media = NULL;
}
