/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices of the element, with a module in the place of the one for GPUs ("present" on the command
 * line) and without one ("absent"): what plays, what is refused, with which error. The GPUs of that
 * module are the CPU. */
#include <tiny_model.h>

#include "support.h"

#define CAPS_PICTURE "video/x-raw,format=RGB,width=112,height=84,framerate=30/1"

static char tiny[512]; /* a random model of two layers */

static void set(GstElement *element, const char *name, const char *value)
{
    if (name)
        gst_util_set_object_arg(G_OBJECT(element), name, value);
}

static GstElement *element_with(const char *name, const char *value)
{
    GstElement *element = support_element("model-location", tiny, "mode", 2, "max-tokens", 4, NULL);
    set(element, name, value);
    return element;
}

/* Play a frame; its result's "isa" is of the module's GPU, or is not. */
static void expect_plays(const char *name, const char *value, gboolean gpu)
{
    GstElement *element = element_with(name, value);
    GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
    const char *status = NULL, *isa = NULL;
    GstStructure *model = NULL;
    gst_harness_push(h, support_frame(CAPS_PICTURE, 0x336699, 0));
    GstStructure *result = support_result(element);
    REQUIRE(result != NULL);
    status = gst_structure_get_string(result, "status");
    CHECK_STR(status ? status : "none", "ok");
    g_object_get(element, "model-info", &model, NULL);
    isa = gst_structure_get_string(model, "isa");
    CHECK(isa && g_str_equal(isa, "fake") == gpu);
    gst_structure_free(model);
    gst_structure_free(result);
    support_done(h);
}

/* Refused on the way from NULL to READY, with one error of this kind that contains the text. */
static void expect_refused(const char *name, const char *value, GQuark domain, int code,
                           const char *text)
{
    GstElement *element = element_with(name, value);
    GError *error = NULL;
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    GstMessage *message = support_message(element, GST_MESSAGE_ERROR);
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    printf("# %s\n", error->message);
    CHECK(g_error_matches(error, domain, code));
    CHECK_CONTAINS(error->message, text);
    g_error_free(error);
    gst_message_unref(message);
    support_free(element);
}

/* ---- with the module ---- */

static void gpus_and_the_cpu_play(void)
{
    expect_plays(NULL, NULL, TRUE);
    expect_plays("device", "auto", TRUE);
    expect_plays("device", "cuda", TRUE);
    expect_plays("device", "cuda:1,cuda:0", TRUE);
    expect_plays("device", "cpu", FALSE);
    expect_plays("layers", "cuda:1=0,cpu=1", TRUE);
    expect_plays("gpu-memory-limit", "1073741824", TRUE);
    expect_plays("kv-cache", "bf16", TRUE);
}

static void a_gpu_that_is_not_there_is_refused(void)
{
    expect_refused("device", "cuda:5", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT,
                   "there is no cuda:5");
}

static void layers_that_do_not_fit_the_model_are_refused(void)
{
    expect_refused("layers", "cuda:0=0-19,cpu=20-39", GST_RESOURCE_ERROR,
                   GST_RESOURCE_ERROR_SETTINGS, "each layer stands in one range");
    expect_refused("layers", "cuda:0", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
                   "expected DEVICE=FIRST-LAST");
}

/* A limit that holds less than a layer: known when the model is loaded. */
static void too_small_a_limit_is_an_error_of_loading(void)
{
    GstElement *element = element_with("device", "cuda:0,cpu");
    GError *error = NULL;
    g_object_set(element, "gpu-memory-limit", (guint64)4096, NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_ERROR);
    GstMessage *message = support_message(element, GST_MESSAGE_ERROR);
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    printf("# %s\n", error->message);
    CHECK(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT));
    CHECK_CONTAINS(error->message, "device cuda:0 has room for");
    g_error_free(error);
    gst_message_unref(message);
    support_free(element);
}

/* ---- without ---- */

static void auto_is_the_cpu(void)
{
    expect_plays(NULL, NULL, FALSE);
    expect_plays("device", "cpu", FALSE);
    expect_plays("gpu-memory-limit", "1073741824", FALSE);
    expect_plays("kv-cache", "bf16", FALSE);
}

static void cuda_is_refused_with_the_reason(void)
{
    expect_refused("device", "cuda", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT,
                   "/nonexistent/libglm4v-cuda.so");
    expect_refused("device", "cuda:0,cpu", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT, "device=cpu");
    expect_refused("layers", "cuda:0=0,cpu=1", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT,
                   "no CUDA module");
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    if (tiny_model_make(tiny, sizeof tiny, NULL) != 0)
        return 1;
    if (argc > 1 && g_str_equal(argv[1], "present")) {
        TEST(gpus_and_the_cpu_play);
        TEST(a_gpu_that_is_not_there_is_refused);
        TEST(layers_that_do_not_fit_the_model_are_refused);
        TEST(too_small_a_limit_is_an_error_of_loading);
    } else {
        TEST(auto_is_the_cpu);
        TEST(cuda_is_refused_with_the_reason);
    }
    tiny_model_remove(tiny);
    return test_end();
}
