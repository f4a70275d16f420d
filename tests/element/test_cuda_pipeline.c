/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* On a GPU with GStreamer's elements for it: frames that go up or are decoded there are described
 * without a copy to main memory, with the answers that the same frames have there; several streams
 * on one engine; flushes and states. Else exit status 77. With "few" as argument storms are short:
 * for compute-sanitizer. */
#include <glm4v/glm4v.h>

#include "support.h"

#define GST_USE_UNSTABLE_API
#include <gst/cuda/gstcudacontext.h>
#include <gst/cuda/gstcudamemory.h>
#include <gst/cuda/gstcudautils.h>

#define MODEL SOURCE_ROOT "/models/surface-tiny"
#define CLIP SOURCE_ROOT "/examples/media/line.mp4"
#define DESCRIBE                                                                                   \
    "glm4vdescribe name=d device=cuda mode=sync sample-mode=all max-tokens=24 "                    \
    "model-location=\"" MODEL "\" "
#define UP "! cudaupload ! video/x-raw(memory:CUDAMemory) "
#define WAIT (60 * GST_SECOND)

static gboolean few;

static guint storm(guint n)
{
    return few ? n / 50 : n;
}

/* ---- pipelines ---- */

typedef struct {
    GString *texts; /* of all results, one a line */
    guint n;
    guint64 downloaded, inferred;
    gboolean on_gpu, own_context; /* every frame; in the context that the element offers */
} played;

static void clear(played *p)
{
    g_string_free(p->texts, TRUE);
}

/* The context that the element has for its neighbours; NULL: none. */
static GstCudaContext *offered(GstElement *element)
{
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    GstQuery *query = gst_query_new_context(GST_CUDA_CONTEXT_TYPE);
    GstCudaContext *cuda = NULL;
    GstContext *context = NULL;
    if (gst_pad_query(pad, query))
        gst_query_parse_context(query, &context);
    if (context)
        gst_structure_get(gst_context_get_structure(context), GST_CUDA_CONTEXT_TYPE,
                          GST_TYPE_CUDA_CONTEXT, &cuda, NULL);
    gst_query_unref(query);
    gst_object_unref(pad);
    return cuda;
}

static GstPadProbeReturn see_frame(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    GstMemory *memory = gst_buffer_peek_memory(buffer, 0);
    played *p = user;
    if (!gst_is_cuda_memory(memory)) {
        p->on_gpu = p->own_context = FALSE;
        return GST_PAD_PROBE_OK;
    }
    GstElement *element = gst_pad_get_parent_element(pad);
    GstCudaContext *own = offered(element);
    if (own != GST_CUDA_MEMORY_CAST(memory)->context)
        p->own_context = FALSE;
    gst_clear_object(&own);
    gst_object_unref(element);
    return GST_PAD_PROBE_OK;
}

static void take_result(const char *element, const GstStructure *result, void *user)
{
    played *p = user;
    g_string_append_printf(p->texts, "%s\n", gst_structure_get_string(result, "text"));
    p->n++;
}

/* Play a line with an element `d`, in this context if that is not NULL. */
static played play_in(const char *line, GstCudaContext *context)
{
    played p = { .texts = g_string_new(NULL), .on_gpu = TRUE, .own_context = TRUE };
    GstElement *pipeline = support_launch(line);
    GstElement *d = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstPad *pad = gst_element_get_static_pad(d, "sink");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, see_frame, &p, NULL);
    if (context) {
        GstContext *given = gst_context_new_cuda_context(context);
        gst_element_set_context(pipeline, given);
        gst_context_unref(given);
    }
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    support_collect(pipeline, take_result, &p);
    p.downloaded = support_stat(d, "downloaded-frames");
    p.inferred = support_stat(d, "inferred");
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pad);
    gst_object_unref(d);
    gst_object_unref(pipeline);
    return p;
}

static played play(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *line = g_strdup_vprintf(format, args);
    va_end(args);
    played p = play_in(line, NULL);
    g_free(line);
    return p;
}

/* Frames of the pattern, described where they are and on the GPU: the same answers. */
static void compare(const char *format, const char *describe)
{
    static const char source[] =
        "videotestsrc pattern=%s num-buffers=3 ! video/x-raw,format=%s,width=360,height=270 ";
    static const char *const patterns[] = { "smpte", "ball", "checkers-8" };
    for (gsize i = 0; i < (few ? 1 : G_N_ELEMENTS(patterns)); i++) {
        char *front = g_strdup_printf(source, patterns[i], format);
        played host = play("%s ! %s ! fakesink", front, describe);
        played gpu = play("%s " UP "! %s ! cudadownload ! fakesink", front, describe);
        printf("# %s, %s: %s", format, patterns[i], gpu.texts->str);
        CHECK_STR(gpu.texts->str, host.texts->str);
        CHECK(host.n > 0);
        CHECK(!host.on_gpu);
        CHECK(gpu.on_gpu);
        CHECK(gpu.own_context);
        CHECK_EQ(gpu.downloaded, 0);
        clear(&host);
        clear(&gpu);
        g_free(front);
    }
}

/* ---- tests ---- */

static void frames_on_the_gpu_have_the_answers_of_main_memory(void)
{
    static const char *const formats[] = { "NV12", "I420", "YV12", "RGB",  "BGR",
                                           "RGBA", "BGRA", "RGBx", "BGRx", "P010_10LE" };
    for (gsize i = 0; i < (few ? 1 : G_N_ELEMENTS(formats)); i++)
        compare(formats[i], DESCRIBE);
}

static void regions_and_clips_have_too(void)
{
    compare("NV12", DESCRIBE "roi=\"<33,21,201,187>\"");
    compare("RGBA", DESCRIBE "roi=\"<33,21,201,187>\"");
    compare("NV12", DESCRIBE "frames-per-request=3 window=100000000");
}

/* What the engine does not read there is downloaded, and counted. */
static void other_formats_are_downloaded(void)
{
    played p = play("videotestsrc num-buffers=3 ! video/x-raw,format=Y444,width=360,height=270 " UP
                    "! " DESCRIBE "! fakesink");
    CHECK(p.on_gpu);
    CHECK_EQ(p.n, 3);
    CHECK_EQ(p.downloaded, 3);
    clear(&p);
}

static void frames_of_another_context_stay_on_the_gpu(void)
{
    GstCudaContext *other = gst_cuda_context_new(0);
    REQUIRE(other != NULL);
    for (int i = 0; i < 2; i++) {
        static const char front[] = "videotestsrc pattern=ball num-buffers=10 "
                                    "! video/x-raw,format=NV12,width=1280,height=720 ";
        char *line = g_strdup_printf("%s" UP "! " DESCRIBE "! fakesink", front);
        played host = play("%s ! " DESCRIBE "! fakesink", front);
        played gpu = play_in(line, other);
        CHECK_STR(gpu.texts->str, host.texts->str);
        CHECK_EQ(gpu.n, 10);
        CHECK(gpu.on_gpu);
        CHECK(!gpu.own_context);
        CHECK_EQ(gpu.downloaded, 0);
        clear(&host);
        clear(&gpu);
        g_free(line);
    }
    gst_object_unref(other);
}

/* Lines that two texts have in common at the same place. */
static guint same_lines(const played *a, const played *b)
{
    char **x = g_strsplit(a->texts->str, "\n", -1), **y = g_strsplit(b->texts->str, "\n", -1);
    guint same = 0;
    for (guint i = 0; x[i] && y[i]; i++)
        same += *x[i] && !strcmp(x[i], y[i]);
    g_strfreev(x);
    g_strfreev(y);
    return same;
}

/* The clip, decoded; short if everything is slow. g_free(). */
static char *clip_by(const char *decoder)
{
    return g_strdup_printf("filesrc location=\"" CLIP "\" ! qtdemux ! h264parse ! %s "
                           "! identity eos-after=%d ",
                           decoder, few ? 6 : -1);
}

static void h264_is_decoded_and_described_on_the_gpu(void)
{
    char *by_cpu = clip_by("openh264dec"), *by_gpu = clip_by("nvh264dec");
    played host = play("%s ! " DESCRIBE "! fakesink", by_cpu);
    played gpu = play("%s ! " DESCRIBE "! fakesink", by_gpu);
    const guint same = same_lines(&host, &gpu);
    printf("# %u frames of H.264, %u answers the same as after a decoder on the CPU\n", gpu.n,
           same);
    CHECK(gpu.on_gpu);
    CHECK(gpu.own_context);
    CHECK_EQ(gpu.downloaded, 0);
    CHECK(few || gpu.n == host.n); /* decoders end a part of the clip differently */
    CHECK(gpu.n > 0 && same >= MIN(gpu.n, host.n) * 95 / 100);
    clear(&host);
    clear(&gpu);
    g_free(by_cpu);
    g_free(by_gpu);
}

static void four_streams_share_an_engine(void)
{
    char *front = clip_by("nvh264dec");
    GString *line = g_string_new(NULL);
    for (int i = 0; i < 4; i++)
        g_string_append_printf(line,
                               "%s ! glm4vdescribe name=%c device=cuda mode=sync max-tokens=24 "
                               "sample-mode=all model-location=\"" MODEL "\" ! fakesink ",
                               front, "dcba"[i]);
    played p = play_in(line->str, NULL), one = play("%s ! " DESCRIBE "! fakesink", front);
    CHECK_EQ(p.n, 4 * one.n);
    CHECK_EQ(p.inferred, one.n);
    CHECK_EQ(p.downloaded, 0);
    g_string_free(line, TRUE);
    g_free(front);
    clear(&p);
    clear(&one);
}

/* The CPU asks for what is missing; where upstream has a choice it gets other memory. */
static void a_cpu_names_cudadownload(void)
{
    GstElement *pipeline = support_launch(
        "videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=320,height=240 " UP
        "! glm4vdescribe device=cpu model-location=\"" MODEL "\" ! fakesink");
    GstBus *bus = gst_element_get_bus(pipeline);
    gboolean named = FALSE, failed = FALSE;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while (!failed) {
        GstMessage *message = gst_bus_timed_pop_filtered(
            bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
        GError *error = NULL;
        REQUIRE(message != NULL);
        REQUIRE(GST_MESSAGE_TYPE(message) != GST_MESSAGE_EOS);
        failed = GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR;
        if (!failed) {
            gst_message_parse_warning(message, &error, NULL);
            named |= strstr(error->message, "cudadownload") != NULL;
            g_clear_error(&error);
        }
        gst_message_unref(message);
    }
    CHECK(named);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
    played p = play("filesrc location=\"" CLIP "\" ! qtdemux ! h264parse ! nvh264dec "
                    "! glm4vdescribe name=d device=cpu mode=sync model-location=\"" MODEL
                    "\" max-tokens=4 ! fakesink");
    CHECK(!p.on_gpu);
    CHECK(p.n > 0);
    clear(&p);
}

/* ---- storms ---- */

static guint64 free_memory(void)
{
    glm4v_device device = { 0 };
    glm4v_device_examine("cuda", &device, NULL);
    return device.available;
}

static gint64 slowest, began;

/* A seek sends flush-start from this thread, waits until the stream has let go, and starts anew. */
static gpointer seek_often(gpointer user)
{
    for (guint i = 0; i < storm(10000); i++) {
        g_usleep(i % 16 ? i % 7 * 100 : 5000); /* now and then there is an answer */
        const gint64 start = g_get_monotonic_time();
        gst_element_seek_simple(user, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, i % 50 * GST_SECOND);
        slowest = MAX(slowest, g_get_monotonic_time() - start);
    }
    return NULL;
}

/* G-03: from another thread than the one that streams. */
static void flushes_during_answers_return_at_once(void)
{
    GstElement *pipeline =
        support_launch("videotestsrc name=s ! video/x-raw,format=NV12,width=320,height=240 " UP
                       "! " DESCRIBE "! cudadownload ! fakesink sync=false");
    GstElement *d = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstElement *source = gst_bin_get_by_name(GST_BIN(pipeline), "s");
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    gst_element_get_state(pipeline, NULL, NULL, WAIT);
    began = g_get_monotonic_time();
    GThread *thread = g_thread_new("flush", seek_often, source);
    g_thread_join(thread);
    const guint64 before = support_stat(d, "inferred");
    printf("# %u flushes in %.1f s, the slowest %.1f ms, %" G_GUINT64_FORMAT " answers\n",
           storm(10000), (double)(g_get_monotonic_time() - began) / 1e6, (double)slowest / 1e3,
           before);
    CHECK(slowest < (few ? 5000 : 50) * 1000);
    for (int i = 0; i < 500 && support_stat(d, "inferred") == before; i++)
        g_usleep(10000);
    CHECK(support_stat(d, "inferred") > before);
    CHECK_EQ(support_stat(d, "errors"), 0);
    CHECK_EQ(support_stat(d, "downloaded-frames"), 0);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(source);
    gst_object_unref(d);
    gst_object_unref(pipeline);
}

static void cycle(GstElement *pipeline, guint i)
{
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    if (i % 3)
        gst_element_get_state(pipeline, NULL, NULL, WAIT);
    g_usleep(i % 5 * 2000);
    if (i % 2)
        gst_element_set_state(pipeline, GST_STATE_READY);
    if (i % 4 == 1)
        gst_element_set_state(pipeline, GST_STATE_PAUSED);
    gst_element_set_state(pipeline, GST_STATE_NULL);
}

/* G-01, with the model loaded anew each time. */
static void states_up_and_down_leave_no_memory_on_the_gpu(void)
{
    GstElement *pipeline =
        support_launch("videotestsrc ! video/x-raw,format=NV12,width=320,height=240 " UP
                       "! " DESCRIBE "! cudadownload ! fakesink");
    const guint n = storm(200);
    guint64 before = 0;
    GstBus *bus = gst_element_get_bus(pipeline);
    began = g_get_monotonic_time();
    for (guint i = 0; i < n; i++) {
        if (i == n / 4)
            before = free_memory();
        cycle(pipeline, i);
        GstMessage *error = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
        CHECK(!error);
        gst_clear_message(&error);
        gst_bus_set_flushing(bus, TRUE);
        gst_bus_set_flushing(bus, FALSE);
    }
    const guint64 after = free_memory();
    printf("# %u cycles in %.1f s; free on the GPU %" G_GUINT64_FORMAT ", then %" G_GUINT64_FORMAT
           " bytes\n",
           n, (double)(g_get_monotonic_time() - began) / 1e6, before, after);
    CHECK(after + (16 << 20) >= before);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
}

/* X-02 in a pipeline: what is free on the GPU does not change any more. */
static void memory_of_the_gpu_is_constant(void)
{
    const guint n = storm(3000);
    char *line = g_strdup_printf("videotestsrc num-buffers=%u ! video/x-raw,format=NV12,width=640,"
                                 "height=360 " UP "! " DESCRIBE "max-tokens=4 "
                                 "! cudadownload ! fakesink",
                                 n);
    GstElement *pipeline = support_launch(line);
    GstElement *d = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_bus_set_flushing(bus, TRUE); /* nobody counts results */
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while (support_stat(d, "inferred") < 20)
        g_usleep(1000);
    const guint64 before = free_memory();
    while (support_stat(d, "inferred") < n && support_stat(d, "errors") == 0)
        g_usleep(10000);
    const guint64 after = free_memory();
    printf("# %u frames: free on the GPU %" G_GUINT64_FORMAT ", then %" G_GUINT64_FORMAT " bytes\n",
           n, before, after);
    CHECK_EQ(support_stat(d, "inferred"), n);
    CHECK_EQ(support_stat(d, "downloaded-frames"), 0);
    CHECK(few || after == before); /* the sanitizer takes some */
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(d);
    gst_object_unref(pipeline);
    g_free(line);
}

int main(int argc, char **argv)
{
    static const char *const needed[] = { "cudaupload", "cudadownload", "nvh264dec" };
    glm4v_device device;
    glm4v_error err = { 0 };
    if (glm4v_device_examine("cuda", &device, &err)) {
        printf("1..0 # SKIP %s\n", err.msg);
        return 77;
    }
    gst_init(&argc, &argv); /* loads plugins of the system, some of which leak */
    for (gsize i = 0; i < G_N_ELEMENTS(needed); i++) {
        GstElementFactory *factory = gst_element_factory_find(needed[i]);
        if (!factory) {
            printf("1..0 # SKIP no element %s\n", needed[i]);
            return 77;
        }
        gst_object_unref(factory);
    }
    few = argc > 1 && !strcmp(argv[1], "few");
    TEST(frames_on_the_gpu_have_the_answers_of_main_memory);
    TEST(frames_of_another_context_stay_on_the_gpu);
    TEST(h264_is_decoded_and_described_on_the_gpu);
    TEST(regions_and_clips_have_too);
    TEST(other_formats_are_downloaded);
    TEST(four_streams_share_an_engine);
    TEST(a_cpu_names_cudadownload);
    TEST(flushes_during_answers_return_at_once);
    TEST(memory_of_the_gpu_is_constant);
    TEST(states_up_and_down_leave_no_memory_on_the_gpu);
    return test_end();
}
