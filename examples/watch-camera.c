/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an application keeps captions and a recording going over a camera that disappears and
 * returns. There are two pipelines:
 *   input uridecodebin ! videoconvert ! videoscale ! intervideosink, created again whenever the
 *           camera fails: an error, an end, or no frame for TIMEOUT
 *   output  intervideosrc ! glm4vdescribe ! ... ! filesink, which runs all the time. While there
 *           is no camera it gets black frames, flagged GAP: the element describes none of those.
 * The model is loaded once, the recording is one file, and its times continue. Usage: watch-camera
 * URI RECORDING.mkv Ctrl-C ends it and closes the recording. Build: cc watch-camera.c $(pkg-config
 * --cflags --libs gstreamer-1.0) */
#include <glib-unix.h>
#include <gst/gst.h>
#include <stdatomic.h>
#include <stdio.h>

/* In microseconds. The pauses between attempts grow. */
#define TIMEOUT (10 * G_USEC_PER_SEC)
#define FRESH (G_USEC_PER_SEC / 2)
#define FIRST_PAUSE G_USEC_PER_SEC
#define LAST_PAUSE (4 * G_USEC_PER_SEC)

/* One size, rate and kind for all that comes: a recording cannot change them. */
#define FORMAT                                                                                     \
    "video/x-raw,format=I420,width=640,height=360,pixel-aspect-ratio=1/1,"                         \
    "colorimetry=bt601,chroma-site=jpeg,interlace-mode=progressive"

typedef struct {
    const char *uri;
    GMainLoop *loop;
    GstElement *input; /* NULL in a pause */
    GstElement *output;
    gint64 opened;   /* when the input was made */
    gint64 pause;    /* before the next attempt */
    gboolean failed; /* the output did */
    /* Streaming threads use these too. */
    _Atomic gint64 latest; /* when the last frame came from the camera */
    atomic_bool there;     /* it gives frames */
} app;

static void watch_bus(GstElement *pipeline, GstBusFunc callback, app *a)
{
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_bus_add_watch(bus, callback, a);
    gst_object_unref(bus);
}

static void watch_pad(GstElement *pipeline, const char *name, const char *pad_name,
                      GstPadProbeCallback callback, app *a)
{
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), name);
    GstPad *pad = gst_element_get_static_pad(element, pad_name);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, a, NULL);
    gst_object_unref(pad);
    gst_object_unref(element);
}

/* Accepts the address of NULL. */
static void close_pipeline(GstElement **pipeline)
{
    if (!*pipeline)
        return;
    GstBus *bus = gst_element_get_bus(*pipeline);
    gst_bus_remove_watch(bus);
    gst_object_unref(bus);
    gst_element_set_state(*pipeline, GST_STATE_NULL);
    gst_clear_object(pipeline);
}

/* Takes the error. */
static void give_up(app *a, GError *error)
{
    fprintf(stderr, "%s\n", error->message);
    g_error_free(error);
    a->failed = TRUE;
    g_main_loop_quit(a->loop);
}

/* ---------------------------------------------------------------- input ---------------------- */

static gboolean open_input(gpointer user);

/* Stops the input; a timer makes the next. From here on there are black frames. */
static void lose_input(app *a, const char *why)
{
    atomic_store(&a->there, FALSE);
    close_pipeline(&a->input);
    printf("camera  lost: %s; again in %d s\n", why, (int)(a->pause / G_USEC_PER_SEC));
    g_timeout_add((guint)(a->pause / 1000), open_input, a);
    a->pause = MIN(2 * a->pause, LAST_PAUSE);
}

static gboolean on_input_message(GstBus *bus, GstMessage *message, gpointer user)
{
    app *a = user;
    GError *error = NULL;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        gst_message_parse_error(message, &error, NULL);
        lose_input(a, error->message);
        g_clear_error(&error);
    } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) {
        lose_input(a, "the stream ended");
    }
    return G_SOURCE_CONTINUE;
}

static GstPadProbeReturn on_camera_frame(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    atomic_store(&((app *)user)->latest, g_get_monotonic_time());
    return GST_PAD_PROBE_OK;
}

/* Motion JPEG by HTTP: decodebin would keep frames back until it knows of all streams. */
static void on_element(GstBin *input, GstBin *bin, GstElement *element, gpointer user)
{
    GstElementFactory *factory = gst_element_get_factory(element);
    if (factory && g_str_equal(GST_OBJECT_NAME(factory), "multipartdemux"))
        g_object_set(element, "single-stream", TRUE, NULL);
}

/* Only video is requested, in any memory; sound is not decoded. */
static gboolean open_input(gpointer user)
{
    app *a = user;
    GError *error = NULL;
    a->input = gst_parse_launch("uridecodebin name=source expose-all-streams=false "
                                "! videoconvert name=frames ! videoscale ! " FORMAT
                                " ! intervideosink channel=camera sync=false",
                                &error);
    if (!a->input) {
        give_up(a, error);
        return G_SOURCE_REMOVE;
    }
    GstCaps *raw = gst_caps_from_string("video/x-raw(ANY)");
    GstElement *source = gst_bin_get_by_name(GST_BIN(a->input), "source");
    g_object_set(source, "uri", a->uri, "caps", raw, NULL);
    gst_object_unref(source);
    gst_caps_unref(raw);
    g_signal_connect(a->input, "deep-element-added", G_CALLBACK(on_element), NULL);
    watch_pad(a->input, "frames", "sink", on_camera_frame, a);
    watch_bus(a->input, on_input_message, a);
    a->opened = g_get_monotonic_time();
    gst_element_set_state(a->input, GST_STATE_PLAYING); /* a failure is posted on the bus */
    return G_SOURCE_REMOVE;
}

/* Runs five times a second: no element reports a camera that just stops sending. */
static gboolean look(gpointer user)
{
    app *a = user;
    gint64 latest = atomic_load(&a->latest);
    if (!a->input)
        return G_SOURCE_CONTINUE;
    if (g_get_monotonic_time() - MAX(latest, a->opened) > TIMEOUT) {
        lose_input(a, "no frame comes");
    } else if (!atomic_load(&a->there) && latest > a->opened) {
        atomic_store(&a->there, TRUE);
        a->pause = FIRST_PAUSE;
        printf("camera  connected\n");
    }
    return G_SOURCE_CONTINUE;
}

/* ---------------------------------------------------------------- output --------------------- */

/* intervideosrc repeats the last frame for a second, then makes black ones, as it does when there
 * is no input. None of those is to be described. Runs on a streaming thread. */
static GstPadProbeReturn on_output_frame(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    app *a = user;
    if (!atomic_load(&a->there) || g_get_monotonic_time() - atomic_load(&a->latest) > FRESH) {
        GstBuffer *buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
        GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_GAP);
        GST_PAD_PROBE_INFO_DATA(info) = buffer;
    }
    return GST_PAD_PROBE_OK;
}

static void print_result(const GstStructure *result)
{
    guint64 time = GST_CLOCK_TIME_NONE;
    const char *status = gst_structure_get_string(result, "status");
    gboolean ok = g_strcmp0(status, "ok") == 0;
    const char *text = gst_structure_get_string(result, ok ? "text" : "message");
    gst_structure_get_uint64(result, "running-time", &time);
    printf("%s %" GST_TIME_FORMAT "  %s\n", ok ? "caption" : status, GST_TIME_ARGS(time),
           text ? text : "");
}

static gboolean on_output_message(GstBus *bus, GstMessage *message, gpointer user)
{
    app *a = user;
    GError *error = NULL;
    if (gst_message_has_name(message, "glm4vdescribe-result")) {
        print_result(gst_message_get_structure(message));
    } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) {
        g_main_loop_quit(a->loop);
    } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        gst_message_parse_error(message, &error, NULL);
        give_up(a, error);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean open_output(app *a, const char *path)
{
    GError *error = NULL;
    a->output =
        gst_parse_launch("intervideosrc name=camera channel=camera ! videoconvert ! " FORMAT
                         ",framerate=10/1 ! glm4vdescribe name=d ! queue ! jpegenc "
                         "! matroskamux name=m ! filesink name=file d.text ! queue ! m.subtitle_0",
                         &error);
    if (!a->output) {
        give_up(a, error);
        return FALSE;
    }
    GstElement *file = gst_bin_get_by_name(GST_BIN(a->output), "file");
    g_object_set(file, "location", path, NULL);
    gst_object_unref(file);
    watch_pad(a->output, "camera", "src", on_output_frame, a);
    watch_bus(a->output, on_output_message, a);
    gst_element_set_state(a->output, GST_STATE_PLAYING);
    return TRUE;
}

/* The end of the stream closes the file; then on_output_message() ends the loop. */
static gboolean on_signal(gpointer user)
{
    gst_element_send_event(((app *)user)->output, gst_event_new_eos());
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    app a = { .pause = FIRST_PAUSE };
    gst_init(&argc, &argv);
    if (argc != 3) {
        fprintf(stderr, "usage: %s URI RECORDING.mkv\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* each line at once */
    a.uri = argv[1];
    a.loop = g_main_loop_new(NULL, FALSE);
    if (open_output(&a, argv[2])) {
        open_input(&a);
        g_timeout_add(200, look, &a);
        g_unix_signal_add(SIGINT, on_signal, &a);
        g_unix_signal_add(SIGTERM, on_signal, &a);
        g_main_loop_run(a.loop);
    }
    close_pipeline(&a.input);
    close_pipeline(&a.output);
    g_main_loop_unref(a.loop);
    return a.failed ? 1 : 0;
}
