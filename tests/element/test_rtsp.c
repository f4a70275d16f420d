/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The element inside an RTSP server's media. A server prepares, suspends and unprepares a pipeline
 * and uses it again for the next client: each client has to get captions. */
#include <gst/rtsp-server/rtsp-server.h>

#include "fake_engine.h"
#include "support.h"

#define WANTED 4

/* ---- server, on a thread of its own ---- */

typedef struct {
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    GstRTSPServer *server;
    gchar *url;
} Server;

static int medias, sent_cues, sent_frames; /* atomic: made; into the payloaders */

static GstPadProbeReturn count(GstPad *pad, GstPadProbeInfo *info, gpointer counter)
{
    g_atomic_int_inc((int *)counter);
    return GST_PAD_PROBE_OK;
}

static void count_buffers(GstElement *element, const char *name, int *counter)
{
    GstPad *pad = gst_element_get_static_pad(element, name);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, count, counter, NULL);
    gst_object_unref(pad);
}

static void on_configure(GstRTSPMediaFactory *factory, GstRTSPMedia *media, gpointer reusable)
{
    GstElement *bin = gst_rtsp_media_get_element(media),
               *element = gst_bin_get_by_name(GST_BIN(bin), "d");
    gst_rtsp_media_set_reusable(media, reusable != NULL);
    count_buffers(element, "src", &sent_frames);
    count_buffers(element, "text", &sent_cues);
    gst_object_unref(element);
    gst_object_unref(bin);
    g_atomic_int_inc(&medias);
}

static gpointer serve(gpointer user)
{
    Server *s = user;
    g_main_context_push_thread_default(s->context);
    g_main_loop_run(s->loop);
    g_main_context_pop_thread_default(s->context);
    return NULL;
}

#define CAMERA                                                                                     \
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 "
#define DESCRIBE "glm4vdescribe name=d model-location=" SOURCE_ROOT " interval=120000000 "

static GstRTSPMediaFactory *factory_new(const char *line, gboolean reusable,
                                        GstRTSPSuspendMode suspend)
{
    GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
    gst_rtsp_media_factory_set_launch(factory, line);
    gst_rtsp_media_factory_set_shared(factory, TRUE);
    gst_rtsp_media_factory_set_suspend_mode(factory, suspend);
    g_signal_connect(factory, "media-configure", G_CALLBACK(on_configure),
                     GINT_TO_POINTER(reusable));
    return factory;
}

static Server *server_new(GstRTSPSuspendMode suspend)
{
    static const char line[] =
        CAMERA "! " DESCRIBE "! jpegenc ! rtpjpegpay name=pay0 d.text ! rtpgstpay name=pay1 )";
    Server *s = g_new0(Server, 1);
    s->context = g_main_context_new();
    s->loop = g_main_loop_new(s->context, FALSE);
    s->server = gst_rtsp_server_new();
    gst_rtsp_server_set_address(s->server, "127.0.0.1");
    gst_rtsp_server_set_service(s->server, "0");
    GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(s->server);
    gst_rtsp_mount_points_add_factory(mounts, "/captions", factory_new(line, FALSE, suspend));
    g_object_unref(mounts);
    CHECK(gst_rtsp_server_attach(s->server, s->context) != 0);
    s->url =
        g_strdup_printf("rtsp://127.0.0.1:%d/captions", gst_rtsp_server_get_bound_port(s->server));
    s->thread = g_thread_new("server", serve, s);
    return s;
}

static GstRTSPFilterResult remove_client(GstRTSPServer *server, GstRTSPClient *client, gpointer n)
{
    ++*(guint *)n;
    return GST_RTSP_FILTER_REMOVE;
}

static guint server_clients(Server *s)
{
    GList *clients = gst_rtsp_server_client_filter(s->server, NULL, NULL);
    guint n = g_list_length(clients);
    g_list_free_full(clients, g_object_unref);
    return n;
}

static void server_free(Server *s)
{
    guint n = 0;
    gst_rtsp_server_client_filter(s->server, remove_client, &n);
    g_main_loop_quit(s->loop);
    g_thread_join(s->thread);
    GSource *left;
    while ((left = g_main_context_find_source_by_user_data(s->context, s->server)))
        g_source_destroy(left);
    g_object_unref(s->server);
    while (g_main_context_iteration(s->context, FALSE))
        ;
    g_main_loop_unref(s->loop);
    g_main_context_unref(s->context);
    g_free(s->url);
    g_free(s);
}

/* ---- client ---- */

static int cues, frames; /* atomic */

static void on_pad(GstElement *source, GstPad *pad, gpointer pipeline)
{
    GstCaps *caps = gst_pad_get_current_caps(pad);
    const char *media = gst_structure_get_string(gst_caps_get_structure(caps, 0), "media");
    gboolean video = g_strcmp0(media, "video") == 0;
    GstElement *depay = gst_element_factory_make(video ? "rtpjpegdepay" : "rtpgstdepay", NULL),
               *sink = gst_element_factory_make("fakesink", NULL);
    g_object_set(sink, "async", FALSE, "sync", FALSE, NULL);
    gst_bin_add_many(GST_BIN(pipeline), depay, sink, NULL);
    CHECK(gst_element_link(depay, sink));
    GstPad *in = gst_element_get_static_pad(depay, "sink");
    count_buffers(depay, "src", video ? &frames : &cues);
    gst_element_sync_state_with_parent(sink);
    gst_element_sync_state_with_parent(depay);
    CHECK_EQ(gst_pad_link(pad, in), GST_PAD_LINK_OK);
    gst_object_unref(in);
    gst_caps_unref(caps);
}

/* Connect, wait for frames and cues, at most 10 s, go. */
static void check_client(Server *s, const char *what, int number)
{
    GstElement *pipeline = gst_pipeline_new(NULL),
               *source = gst_element_factory_make("rtspsrc", NULL);
    g_object_set(source, "location", s->url, "protocols", 4 /* TCP */, "latency", 0u, NULL);
    g_signal_connect(source, "pad-added", G_CALLBACK(on_pad), pipeline);
    gst_bin_add(GST_BIN(pipeline), source);
    cues = frames = sent_cues = sent_frames = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    for (int i = 0; i < 10000; i++) {
        if (g_atomic_int_get(&cues) >= WANTED && g_atomic_int_get(&frames) >= 10)
            break;
        g_usleep(1000);
    }
    if (g_atomic_int_get(&cues) < WANTED || g_atomic_int_get(&frames) < 10)
        test_fail(__FILE__, __LINE__, "%s, client %d: %d cues, %d frames; sent %d, %d", what,
                  number, cues, frames, sent_cues, sent_frames);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
    for (int i = 0; i < 5000 && server_clients(s) > 0; i++) /* the media is unprepared */
        g_usleep(1000);
}

static const char *mode_names[] = { "NONE", "PAUSE", "RESET" };

static void models_are_gone(void)
{
    for (int i = 0; i < 5000 && fake_get().models > 0; i++) /* its threads end by themselves */
        g_usleep(1000);
    CHECK_EQ(fake_get().models, 0);
}

static void each_client_gets_captions_whatever_the_suspend_mode(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = GST_RTSP_SUSPEND_MODE_NONE; mode <= GST_RTSP_SUSPEND_MODE_RESET; mode++) {
        Server *s = server_new(mode);
        medias = 0;
        for (int number = 1; number <= 3; number++)
            check_client(s, mode_names[mode], number);
        CHECK_EQ(g_atomic_int_get(&medias), 3);
        server_free(s);
        models_are_gone();
    }
}

/* What the server does for a client, without one: that of 1.22 does not play a reused media a
 * second time, whatever is in it, and holds a stream that nobody plays after its first packet. The
 * captions are therefore not streamed here. */
static void a_reused_media_has_captions_each_time_whatever_the_suspend_mode(void)
{
    static const char line[] =
        CAMERA "! tee name=t ! queue leaky=downstream ! jpegenc ! rtpjpegpay name=pay0 "
               "t. ! queue ! " DESCRIBE "! fakesink async=false d.text ! fakesink async=false )";
    fake_set((fake_script) { 0 });
    GstRTSPThreadPool *pool = gst_rtsp_thread_pool_new();
    GstRTSPUrl *url = NULL;
    CHECK_EQ(gst_rtsp_url_parse("rtsp://127.0.0.1/captions", &url), GST_RTSP_OK);
    for (int mode = GST_RTSP_SUSPEND_MODE_NONE; mode <= GST_RTSP_SUSPEND_MODE_RESET; mode++) {
        GstRTSPMediaFactory *factory = factory_new(line, TRUE, mode);
        GstRTSPMedia *media = gst_rtsp_media_factory_construct(factory, url);
        REQUIRE(media != NULL);
        for (int number = 1; number <= 3; number++) {
            GstRTSPThread *thread =
                gst_rtsp_thread_pool_get_thread(pool, GST_RTSP_THREAD_TYPE_MEDIA, NULL);
            sent_cues = sent_frames = 0;
            CHECK(gst_rtsp_media_prepare(media, thread)); /* takes the thread */
            CHECK(gst_rtsp_media_suspend(media));
            CHECK(gst_rtsp_media_unsuspend(media));
            gst_rtsp_media_set_pipeline_state(media, GST_STATE_PLAYING);
            for (int i = 0; i < 10000 && g_atomic_int_get(&sent_cues) < WANTED; i++)
                g_usleep(1000);
            if (g_atomic_int_get(&sent_cues) < WANTED)
                test_fail(__FILE__, __LINE__, "%s, time %d: %d cues, %d frames", mode_names[mode],
                          number, sent_cues, sent_frames);
            CHECK(gst_rtsp_media_unprepare(media));
        }
        g_object_unref(media);
        g_object_unref(factory);
        models_are_gone();
    }
    gst_rtsp_url_free(url);
    g_object_unref(pool);
    gst_rtsp_thread_pool_cleanup();
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(each_client_gets_captions_whatever_the_suspend_mode);
    TEST(a_reused_media_has_captions_each_time_whatever_the_suspend_mode);
    return test_end();
}
