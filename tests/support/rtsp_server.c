/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An RTSP camera on the loopback address, for the tests and for trying README lines:
 *     rtsp_server [--port N] [--seconds N] ["LAUNCH LINE with an element called pay0"]
 * Prints its URL when it is ready to serve and ends by itself. */
#include <gst/gst.h>
#include <gst/rtsp-server/rtsp-server.h>
#include <stdio.h>

static const char camera[] = "( videotestsrc is-live=true pattern=smpte "
                             "! video/x-raw,format=I420,width=320,height=240,framerate=15/1 "
                             "! jpegenc ! rtpjpegpay name=pay0 )";

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

int main(int argc, char **argv)
{
    gint port = 0, seconds = 60;
    gchar **rest = NULL;
    GError *error = NULL;
    const GOptionEntry entries[] = {
        { "port", 0, 0, G_OPTION_ARG_INT, &port, "port; 0 = any free one", "N" },
        { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "serve so long", "N" },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &rest, NULL, NULL },
        { NULL },
    };
    GOptionContext *context = g_option_context_new("[\"LAUNCH LINE\"]");
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_add_group(context, gst_init_get_option_group());
    gboolean good = g_option_context_parse(context, &argc, &argv, &error);
    g_option_context_free(context);
    if (!good) {
        fprintf(stderr, "rtsp_server: %s\n", error->message);
        g_clear_error(&error);
        return 2;
    }

    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    GstRTSPServer *server = gst_rtsp_server_new();
    GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
    GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
    gchar *service = g_strdup_printf("%d", port);
    gst_rtsp_media_factory_set_launch(factory, rest && rest[0] ? rest[0] : camera);
    gst_rtsp_media_factory_set_shared(factory, TRUE);
    gst_rtsp_mount_points_add_factory(mounts, "/camera", factory); /* takes the factory */
    gst_rtsp_server_set_address(server, "127.0.0.1");
    gst_rtsp_server_set_service(server, service);
    guint source = gst_rtsp_server_attach(server, NULL);
    if (source) {
        printf("rtsp://127.0.0.1:%d/camera\n", gst_rtsp_server_get_bound_port(server));
        fflush(stdout);
        g_timeout_add_seconds((guint)seconds, quit, loop);
        g_main_loop_run(loop);
        g_source_remove(source);
    } else {
        fprintf(stderr, "rtsp_server: port %d cannot be used\n", port);
    }
    g_free(service);
    g_strfreev(rest);
    g_object_unref(mounts);
    g_object_unref(server);
    g_main_loop_unref(loop);
    return source ? 0 : 1;
}
