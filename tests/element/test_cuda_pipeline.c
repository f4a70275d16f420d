/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* On a GPU with GStreamer's elements for it: frames go up, are described and come down, and the
 * answers are those about the same frames in main memory. Else exit status 77. */
#include <glm4v/glm4v.h>
#include <tiny_model.h>

#include "support.h"

enum { FRAMES = 3 };

static char tiny[512];

/* Play the line; the texts of all results, one a line. g_free(). */
static char *texts_of(const char *up, const char *down)
{
    char *line = g_strdup_printf(
        "videotestsrc num-buffers=%d ! video/x-raw,format=NV12,width=112,height=84 %s "
        "! glm4vdescribe device=cuda mode=sync sample-mode=all max-tokens=8 model-location=\"%s\" "
        "%s ! fakesink",
        FRAMES, up, tiny, down);
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    GString *texts = g_string_new(NULL);
    g_free(line);
    if (!pipeline || error)
        test_fail(__FILE__, __LINE__, "%s", error ? error->message : "no pipeline");
    g_clear_error(&error);
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message = NULL;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while ((message = gst_bus_timed_pop_filtered(
                bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT))) {
        const GstMessageType type = GST_MESSAGE_TYPE(message);
        const GstStructure *s = gst_message_get_structure(message);
        if (type == GST_MESSAGE_ELEMENT && gst_structure_has_name(s, "glm4vdescribe-result"))
            g_string_append_printf(texts, "%s\n", gst_structure_get_string(s, "text"));
        if (type == GST_MESSAGE_ERROR) {
            gst_message_parse_error(message, &error, NULL);
            test_fail(__FILE__, __LINE__, "%s", error->message);
            g_clear_error(&error);
        }
        gst_message_unref(message);
        if (type == GST_MESSAGE_EOS || type == GST_MESSAGE_ERROR)
            break;
    }
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
    return g_string_free(texts, FALSE);
}

static void frames_on_the_gpu_have_the_answers_of_main_memory(void)
{
    char *host = texts_of("", "");
    char *gpu = texts_of("! cudaupload ! video/x-raw(memory:CUDAMemory)", "! cudadownload");
    CHECK_STR(gpu, host);
    CHECK(strlen(host) > FRAMES);
    g_free(host);
    g_free(gpu);
}

static gboolean has(const char *name)
{
    GstElementFactory *factory = gst_element_factory_find(name);
    const gboolean found = factory != NULL;
    gst_clear_object(&factory);
    return found;
}

int main(int argc, char **argv)
{
    glm4v_device device;
    glm4v_error err = { 0 };
    if (glm4v_device_examine("cuda", &device, &err)) {
        printf("1..0 # SKIP %s\n", err.msg);
        return 77;
    }
    gst_init(&argc, &argv); /* loads plugins of the system, some of which leak */
    if (!has("cudaupload") || !has("cudadownload")) {
        printf("1..0 # SKIP no cudaupload and cudadownload\n");
        return 77;
    }
    if (tiny_model_make(tiny, sizeof tiny, NULL) != 0)
        return 1;
    TEST(frames_on_the_gpu_have_the_answers_of_main_memory);
    tiny_model_remove(tiny);
    return test_end();
}
