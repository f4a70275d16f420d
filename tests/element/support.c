/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See support.h. */
#include "support.h"

/* GLib has no frame pointers: without whole stacks its one-time allocations could not be told from
 * leaks. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}

guint support_count(guint n, guint deep)
{
    return g_getenv("GLM4V_DEEP") ? deep : n;
}

GstElement *support_element(const char *first_property, ...)
{
    GstElement *element = gst_element_factory_make("glm4vdescribe", NULL);
    GstBus *bus = gst_bus_new();
    va_list args;
    gst_element_set_bus(element, bus);
    gst_object_unref(bus);
    g_object_set(element, "model-location", SOURCE_ROOT, NULL);
    va_start(args, first_property);
    if (first_property)
        g_object_set_valist(G_OBJECT(element), first_property, args);
    va_end(args);
    return element;
}

GstProgressType support_wait_loaded(GstElement *element)
{
    GstProgressType type = GST_PROGRESS_TYPE_START;
    while (type == GST_PROGRESS_TYPE_START || type == GST_PROGRESS_TYPE_CONTINUE) {
        GstMessage *message = support_message(element, GST_MESSAGE_PROGRESS);
        if (!message)
            return GST_PROGRESS_TYPE_START;
        gst_message_parse_progress(message, &type, NULL, NULL);
        gst_message_unref(message);
    }
    return type;
}

GstHarness *support_harness(GstElement *element, gboolean live, const char *caps)
{
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_live(h, live);
    gst_object_unref(element);
    if (support_wait_loaded(element) != GST_PROGRESS_TYPE_COMPLETE)
        test_fail(__FILE__, __LINE__, "the model did not load");
    if (caps)
        gst_harness_set_src_caps_str(h, caps);
    return h;
}

gboolean support_run(GstHarness *h, guint run, const char *caps)
{
    if (run == 0)
        return TRUE;
    gst_element_set_state(h->element, run == 1 ? GST_STATE_READY : GST_STATE_NULL);
    support_count_messages(h->element, 0);
    gst_element_set_state(h->element, GST_STATE_PLAYING);
    if (run == 2 && support_wait_loaded(h->element) != GST_PROGRESS_TYPE_COMPLETE)
        test_fail(__FILE__, __LINE__, "the model did not load");
    gst_harness_push_event(h, gst_event_new_stream_start("again"));
    gst_harness_set_src_caps_str(h, caps);
    return TRUE;
}

void support_free(GstElement *element)
{
    GstBus *bus = gst_element_get_bus(element);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_bus_set_flushing(bus, TRUE);
    gst_object_unref(bus);
    gst_object_unref(element);
}

void support_done(GstHarness *h)
{
    GstElement *element = gst_object_ref(h->element);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_harness_teardown(h);
    support_free(element);
}

GstBuffer *support_frame(const char *caps, guint32 rgb, guint pts_ms)
{
    GstCaps *parsed = gst_caps_from_string(caps);
    GstVideoInfo info;
    GstBuffer *buffer;
    GstMapInfo map;
    gst_video_info_from_caps(&info, parsed);
    gst_caps_unref(parsed);
    buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    memset(map.data, (int)(rgb & 255), map.size);
    if (GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_RGB)
        for (int y = 0; y < info.height; y++)
            for (int x = 0; x < info.width; x++) {
                guint8 *p = map.data + y * info.stride[0] + 3 * x;
                p[0] = (guint8)(rgb >> 16);
                p[1] = (guint8)(rgb >> 8);
                p[2] = (guint8)rgb;
            }
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = pts_ms * MS;
    GST_BUFFER_DURATION(buffer) = 33 * MS;
    return buffer;
}

GstMessage *support_message(GstElement *element, GstMessageType types)
{
    GstBus *bus = gst_element_get_bus(element);
    GstMessage *message = gst_bus_timed_pop_filtered(bus, PATIENCE, types);
    gst_object_unref(bus);
    return message;
}

GstStructure *support_structure(GstElement *element)
{
    GstMessage *message = support_message(element, GST_MESSAGE_ELEMENT);
    GstStructure *result;
    if (!message)
        return NULL;
    result = gst_structure_copy(gst_message_get_structure(message));
    gst_message_unref(message);
    return result;
}

GstStructure *support_result(GstElement *element)
{
    GstStructure *result;
    while ((result = support_structure(element)) &&
           gst_structure_has_name(result, "glm4vdescribe-settings"))
        gst_structure_free(result);
    return result;
}

guint support_count_messages(GstElement *element, GstMessageType types)
{
    GstBus *bus = gst_element_get_bus(element);
    GstMessage *message;
    guint n = 0;
    while ((message = gst_bus_pop(bus))) {
        n += (GST_MESSAGE_TYPE(message) & types) != 0;
        gst_message_unref(message);
    }
    gst_object_unref(bus);
    return n;
}

static const GstStructure *next_meta(GstBuffer *buffer, gpointer *state)
{
    const GstMetaInfo *info = gst_meta_get_info("Glm4vDescribeMeta");
    GstMeta *meta;
    while ((meta = gst_buffer_iterate_meta(buffer, state)))
        if (meta->info == info)
            return gst_custom_meta_get_structure((GstCustomMeta *)meta);
    return NULL;
}

const GstStructure *support_meta(GstBuffer *buffer)
{
    gpointer state = NULL;
    return next_meta(buffer, &state);
}

guint support_count_meta(GstBuffer *buffer)
{
    gpointer state = NULL;
    guint n = 0;
    while (next_meta(buffer, &state))
        n++;
    return n;
}

guint64 support_stat(GstElement *element, const char *name)
{
    GstStructure *stats = NULL;
    guint64 value = G_MAXUINT64;
    g_object_get(element, "stats", &stats, NULL);
    if (!gst_structure_get_uint64(stats, name, &value))
        test_fail(__FILE__, __LINE__, "stats has no %s", name);
    gst_structure_free(stats);
    return value;
}

gboolean support_wait_stat(GstElement *element, const char *name, guint64 value)
{
    gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
    while (support_stat(element, name) != value) {
        if (g_get_monotonic_time() > end)
            return FALSE;
        g_usleep(1000);
    }
    return TRUE;
}

gboolean support_finds(const char *element)
{
    GstElementFactory *factory = gst_element_factory_find(element);
    gboolean there = factory != NULL;
    if (!there) {
        /* link_gst_plugins.py writes it beside the folder of links */
        const char *links = g_getenv("GST_PLUGIN_SYSTEM_PATH_1_0");
        char *path = g_strconcat(links ? links : "", "-missing.txt", NULL), *missing = NULL;
        g_file_get_contents(path, &missing, NULL, NULL);
        test_fail(__FILE__, __LINE__, "no element %s; %s", element,
                  missing && *missing ? missing
                                      : "does tests/support/gst-plugins.txt name its plugin?");
        g_free(missing);
        g_free(path);
    }
    gst_clear_object(&factory);
    return there;
}

GstElement *support_launch(const char *line)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    if (!pipeline || error)
        test_fail(__FILE__, __LINE__, "%s: %s", line, error ? error->message : "no pipeline");
    g_clear_error(&error);
    return pipeline;
}

void support_collect(GstElement *pipeline, support_result_fn take, void *user)
{
    const GstMessageType types = GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT;
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessageType type = GST_MESSAGE_UNKNOWN;
    while (type != GST_MESSAGE_EOS && type != GST_MESSAGE_ERROR) {
        GstMessage *message = gst_bus_timed_pop_filtered(bus, 2 * PATIENCE, types);
        if (!message) {
            test_fail(__FILE__, __LINE__, "nothing comes");
            break;
        }
        const GstStructure *s = gst_message_get_structure(message);
        type = GST_MESSAGE_TYPE(message);
        if (type == GST_MESSAGE_ELEMENT && gst_structure_has_name(s, "glm4vdescribe-result")) {
            take(GST_OBJECT_NAME(GST_MESSAGE_SRC(message)), s, user);
        } else if (type == GST_MESSAGE_ERROR) {
            GError *error = NULL;
            gst_message_parse_error(message, &error, NULL);
            test_fail(__FILE__, __LINE__, "%s", error->message);
            g_clear_error(&error);
        }
        gst_message_unref(message);
    }
    gst_object_unref(bus);
}

guint support_threads(void)
{
    GDir *dir = g_dir_open("/proc/self/task", 0, NULL);
    guint n = 0;
    while (dir && g_dir_read_name(dir))
        n++;
    g_clear_pointer(&dir, g_dir_close);
    return n;
}
