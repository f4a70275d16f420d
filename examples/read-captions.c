/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an application reads captions, three ways side by side:
 *   meta   on the frame that was described, in the video branch (here an appsink); boxes
 *          that the answer names are regions of interest there
 *   bus    as element message "glm4vdescribe-result"
 *   text   as text/x-raw buffers with time and duration, from the request pad "text" (here an
 *          appsink)
 * Usage: read-captions FILE [PROMPT]
 * Build: cc read-captions.c $(pkg-config --cflags --libs gstreamer-app-1.0 gstreamer-video-1.0) */
#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdio.h>

#define META_NAME "Glm4vDescribeMeta"
#define MESSAGE_NAME "glm4vdescribe-result"

/* All keys of a result are listed in docs/element.md; meta and message have the same. */
static void print_result(const char *how, const GstStructure *result)
{
    guint64 pts = GST_CLOCK_TIME_NONE;
    const char *status = gst_structure_get_string(result, "status");
    const char *text = gst_structure_get_string(result, "text");
    gst_structure_get_uint64(result, "pts", &pts);
    printf("%s  %" GST_TIME_FORMAT "  %s  %s\n", how, GST_TIME_ARGS(pts), status, text ? text : "");
}

/* Ask for boxes, "Report the defects as JSON.", to see some. */
static void print_region(const GstVideoRegionOfInterestMeta *region)
{
    printf("box   %s at %u,%u, %u x %u pixels\n", g_quark_to_string(region->roi_type), region->x,
           region->y, region->w, region->h);
}

/* A buffer can have several results, so look at every meta of that kind. Runs on a streaming
 * thread. */
static GstFlowReturn on_frame(GstAppSink *sink, gpointer user)
{
    GstSample *sample = gst_app_sink_pull_sample(sink);
    GstBuffer *buffer = sample ? gst_sample_get_buffer(sample) : NULL;
    const GstMetaInfo *kind = gst_meta_get_info(META_NAME);
    gpointer state = NULL;
    GstMeta *meta;
    while (buffer && (meta = gst_buffer_iterate_meta(buffer, &state)))
        if (meta->info == kind)
            print_result("meta", gst_custom_meta_get_structure((GstCustomMeta *)meta));
        else if (meta->info->api == GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE)
            print_region((GstVideoRegionOfInterestMeta *)meta);
    if (sample)
        gst_sample_unref(sample);
    return GST_FLOW_OK;
}

static GstFlowReturn on_text(GstAppSink *sink, gpointer user)
{
    GstSample *sample = gst_app_sink_pull_sample(sink);
    GstBuffer *buffer = sample ? gst_sample_get_buffer(sample) : NULL;
    GstMapInfo map;
    if (buffer && gst_buffer_map(buffer, &map, GST_MAP_READ)) { /* UTF-8, no NUL at the end */
        printf("text  %" GST_TIME_FORMAT "  +%" GST_TIME_FORMAT "  %.*s\n",
               GST_TIME_ARGS(GST_BUFFER_PTS(buffer)), GST_TIME_ARGS(GST_BUFFER_DURATION(buffer)),
               (int)map.size, (const char *)map.data);
        gst_buffer_unmap(buffer, &map);
    }
    if (sample)
        gst_sample_unref(sample);
    return GST_FLOW_OK;
}

static void listen_to(GstElement *pipeline, const char *name,
                      GstFlowReturn (*new_sample)(GstAppSink *, gpointer))
{
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), name);
    GstAppSinkCallbacks callbacks = { .new_sample = new_sample };
    gst_app_sink_set_callbacks(GST_APP_SINK(sink), &callbacks, NULL, NULL);
    gst_object_unref(sink);
}

static void set(GstElement *pipeline, const char *element, const char *property, const char *value)
{
    GstElement *e = gst_bin_get_by_name(GST_BIN(pipeline), element);
    g_object_set(e, property, value, NULL);
    gst_object_unref(e);
}

/* Until the end of the stream or an error; FALSE for an error. */
static gboolean watch_bus(GstElement *pipeline)
{
    GstBus *bus = gst_element_get_bus(pipeline);
    gboolean good = TRUE, more = TRUE;
    while (more) {
        GstMessage *message = gst_bus_timed_pop_filtered(
            bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_ELEMENT | GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ELEMENT) {
            if (gst_message_has_name(message, MESSAGE_NAME))
                print_result("bus ", gst_message_get_structure(message));
        } else {
            GError *error = NULL;
            more = FALSE;
            if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
                gst_message_parse_error(message, &error, NULL);
                fprintf(stderr, "%s\n", error->message);
                g_clear_error(&error);
                good = FALSE;
            }
        }
        gst_message_unref(message);
    }
    gst_object_unref(bus);
    return good;
}

int main(int argc, char **argv)
{
    GError *error = NULL;
    gst_init(&argc, &argv);
    if (argc < 2 || argc > 3 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FILE [PROMPT]\n", argv[0]);
        return 2;
    }
    GstElement *pipeline =
        gst_parse_launch("filesrc name=file ! decodebin ! videoconvert ! glm4vdescribe name=d "
                         "d.src ! queue ! appsink name=frames sync=false "
                         "d.text ! queue ! appsink name=text sync=false",
                         &error);
    if (!pipeline) {
        fprintf(stderr, "%s\n", error->message);
        g_clear_error(&error);
        return 1;
    }
    set(pipeline, "file", "location", argv[1]);
    if (argc == 3)
        set(pipeline, "d", "prompt", argv[2]);
    listen_to(pipeline, "frames", on_frame);
    listen_to(pipeline, "text", on_text);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    gboolean good = watch_bus(pipeline);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
    return good ? 0 : 1;
}
