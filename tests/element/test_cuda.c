/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames in memory of a GPU, which is memory of ours that says so, where no GPU can be used: which
 * caps are offered, what is said, what is mapped; queries for the CUDA context. On a GPU:
 * test_cuda_pipeline.c. */
#include "fake_engine.h"
#include "support.h"

#define CAPS "format=GRAY8,width=16,height=8,framerate=30/1"
#define CAPS_CUDA "video/x-raw(memory:CUDAMemory)," CAPS
#define CAPS_HOST "video/x-raw," CAPS
enum { SIZE = 16 * 8 };

/* ---- memory ---- */

typedef struct {
    GstMemory memory;
    guint8 downloaded[SIZE]; /* what a map gives */
} CudaLike;

typedef struct {
    GstAllocator parent;
} CudaLikeAllocator;
typedef struct {
    GstAllocatorClass parent;
} CudaLikeAllocatorClass;
GType cuda_like_allocator_get_type(void);
G_DEFINE_TYPE(CudaLikeAllocator, cuda_like_allocator, GST_TYPE_ALLOCATOR)

static gint maps;
static gboolean maps_fail;

static gpointer map_memory(GstMemory *memory, gsize size, GstMapFlags flags)
{
    g_atomic_int_inc(&maps);
    return maps_fail ? NULL : ((CudaLike *)memory)->downloaded;
}

static void unmap_memory(GstMemory *memory)
{
}

static void free_memory(GstAllocator *allocator, GstMemory *memory)
{
    g_free(memory);
}

static void cuda_like_allocator_class_init(CudaLikeAllocatorClass *klass)
{
    GST_ALLOCATOR_CLASS(klass)->free = free_memory;
}

static void cuda_like_allocator_init(CudaLikeAllocator *self)
{
    GST_ALLOCATOR(self)->mem_type = "gst.cuda.memory";
    GST_ALLOCATOR(self)->mem_map = map_memory;
    GST_ALLOCATOR(self)->mem_unmap = unmap_memory;
}

static GstBuffer *cuda_frame(guint8 grey, guint pts_ms)
{
    GstAllocator *allocator = g_object_new(cuda_like_allocator_get_type(), NULL);
    CudaLike *memory = g_new0(CudaLike, 1);
    GstBuffer *buffer = gst_buffer_new();
    gst_memory_init(&memory->memory, 0, allocator, NULL, SIZE, 0, 0, SIZE);
    memset(memory->downloaded, grey, SIZE);
    gst_buffer_append_memory(buffer, &memory->memory);
    GST_BUFFER_PTS(buffer) = pts_ms * MS;
    gst_object_unref(allocator);
    return buffer;
}

/* ---- tests ---- */

static gboolean offers_cuda(GstPad *pad, const char *filter)
{
    GstCaps *asked = filter ? gst_caps_from_string(filter) : NULL;
    GstCaps *caps = gst_pad_query_caps(pad, asked);
    gboolean offers = FALSE;
    for (guint i = 0; i < gst_caps_get_size(caps); i++)
        offers |= gst_caps_features_contains(gst_caps_get_features(caps, i), "memory:CUDAMemory");
    gst_caps_unref(caps);
    gst_clear_caps(&asked);
    return offers;
}

/* In NULL the device may still change, so pads can be linked; from READY on it is known. */
static void cuda_memory_is_offered_until_the_device_is_known_to_be_the_cpu(void)
{
    static const char *const devices[] = { "cpu", "auto", "cuda" }; /* no GPU can be used here */
    for (guint i = 0; i < G_N_ELEMENTS(devices); i++) {
        fake_set((fake_script) { 0 });
        GstElement *element = support_element("device", devices[i], NULL);
        GstPad *sink = gst_element_get_static_pad(element, "sink");
        GstPad *src = gst_element_get_static_pad(element, "src");
        for (int run = 0; run < 2; run++) {
            CHECK(offers_cuda(sink, NULL));
            CHECK(offers_cuda(src, NULL));
            CHECK(gst_element_set_state(element, GST_STATE_READY) == GST_STATE_CHANGE_SUCCESS);
            CHECK(!offers_cuda(sink, NULL));
            CHECK(!offers_cuda(src, NULL));
            CHECK(!offers_cuda(sink, CAPS_CUDA));
            CHECK(gst_element_set_state(element, GST_STATE_NULL) == GST_STATE_CHANGE_SUCCESS);
        }
        gst_object_unref(sink);
        gst_object_unref(src);
        support_free(element);
    }
}

/* The text of the next warning, g_free(); NULL: there is none. */
static char *next_warning(GstElement *element)
{
    GstMessage *message = support_message(element, GST_MESSAGE_WARNING);
    GError *error = NULL;
    if (!message)
        return NULL;
    gst_message_parse_warning(message, &error, NULL);
    char *text = g_strdup(error->message);
    g_error_free(error);
    gst_message_unref(message);
    return text;
}

static void who_has_nothing_else_is_told_to_insert_cudadownload(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "device", "cpu", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstPad *sink = gst_element_get_static_pad(element, "sink");
    GstCaps *caps = gst_caps_from_string(CAPS_CUDA);
    CHECK(!gst_pad_query_accept_caps(sink, caps));
    CHECK(!gst_pad_query_accept_caps(sink, caps));
    char *text = next_warning(element);
    REQUIRE(text != NULL);
    printf("# %s\n", text);
    CHECK_CONTAINS(text, "memory:CUDAMemory");
    CHECK_CONTAINS(text, "cudadownload");
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING | GST_MESSAGE_ERROR), 0);
    g_free(text);
    CHECK(offers_cuda(sink, NULL) == FALSE);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x10, 0));
    CHECK_EQ(gst_harness_buffers_in_queue(h), 1);
    gst_caps_unref(caps);
    gst_object_unref(sink);
    support_done(h);
}

static void who_takes_any_memory_is_told_nothing(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("device", "cpu", NULL);
    GstPad *sink = gst_element_get_static_pad(element, "sink");
    CHECK(gst_element_set_state(element, GST_STATE_READY) == GST_STATE_CHANGE_SUCCESS);
    for (int run = 0; run < 2; run++)
        CHECK(!offers_cuda(sink, "video/x-raw(ANY)"));
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 0);
    gst_object_unref(sink);
    support_free(element);
}

/* Caps and memory that do not belong together: the memory is what is looked at. */
static void a_frame_on_a_gpu_is_not_mapped_where_the_model_is_on_the_cpu(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_HOST);
    maps = 0;
    gst_harness_push(h, cuda_frame(0x40, 0));
    char *text = next_warning(element);
    REQUIRE(text != NULL);
    CHECK_CONTAINS(text, "memory of a GPU");
    CHECK_CONTAINS(text, "cudadownload");
    CHECK_EQ(maps, 0);
    CHECK_EQ(support_stat(element, "unreadable-frames"), 1);
    CHECK_EQ(support_stat(element, "downloaded-frames"), 0);
    CHECK_EQ(gst_harness_buffers_in_queue(h), 1);
    g_free(text);
    support_done(h);
}

/* Here none is read on the GPU: there is no context. */
static void frames_that_the_gpu_does_not_read_are_downloaded_and_counted(void)
{
    fake_set((fake_script) { .image_device = "cuda:0" });
    maps_fail = FALSE;
    GstElement *element = support_element("mode", 2, NULL); /* one frame a second */
    GstHarness *h = support_harness(element, FALSE, CAPS_HOST);
    maps = 0;
    for (guint i = 0; i < 10; i++) {
        GstBuffer *frame = cuda_frame(0x40, 33 * i);
        GstMemory *memory = gst_buffer_peek_memory(frame, 0);
        gst_harness_push(h, frame);
        GstBuffer *out = gst_harness_pull(h);
        CHECK(gst_buffer_peek_memory(out, 0) == memory);
        gst_buffer_unref(out);
    }
    GstStructure *result = support_result(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "text"), "16x8 #404040");
    gst_structure_free(result);
    CHECK_EQ(maps, 1);
    CHECK_EQ(support_stat(element, "downloaded-frames"), 1);
    support_done(h);
}

static void memory_that_cannot_be_mapped_names_cudadownload(void)
{
    fake_set((fake_script) { .image_device = "cuda:0" });
    maps_fail = TRUE;
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_HOST);
    gst_harness_push(h, cuda_frame(0x40, 0));
    char *text = next_warning(element);
    REQUIRE(text != NULL);
    CHECK_CONTAINS(text, "gst.cuda.memory");
    CHECK_CONTAINS(text, "cudadownload");
    g_free(text);
    CHECK_EQ(gst_harness_buffers_in_queue(h), 1);
    support_done(h);
}

static gint context_queries;

static GstPadProbeReturn see_query(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    GstQuery *query = GST_PAD_PROBE_INFO_QUERY(info);
    const gchar *type = NULL;
    if (GST_QUERY_TYPE(query) == GST_QUERY_CONTEXT && gst_query_parse_context_type(query, &type) &&
        g_str_equal(type, "gst.cuda.context"))
        g_atomic_int_inc(&context_queries);
    return GST_PAD_PROBE_OK;
}

/* As gstcuda asks its neighbours before it makes a context of its own. */
static void queries_for_the_cuda_context_go_through_both_ways(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_HOST);
    GstPad *pads[] = { h->srcpad, h->sinkpad };
    for (int i = 0; i < 2; i++) {
        GstQuery *query = gst_query_new_context("gst.cuda.context");
        const gulong probe =
            gst_pad_add_probe(pads[1 - i], GST_PAD_PROBE_TYPE_QUERY_BOTH, see_query, NULL, NULL);
        context_queries = 0;
        gst_pad_peer_query(pads[i], query);
        CHECK(context_queries > 0);
        gst_pad_remove_probe(pads[1 - i], probe);
        gst_query_unref(query);
    }
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(cuda_memory_is_offered_until_the_device_is_known_to_be_the_cpu);
    TEST(who_has_nothing_else_is_told_to_insert_cudadownload);
    TEST(who_takes_any_memory_is_told_nothing);
    TEST(a_frame_on_a_gpu_is_not_mapped_where_the_model_is_on_the_cpu);
    TEST(frames_that_the_gpu_does_not_read_are_downloaded_and_counted);
    TEST(memory_that_cannot_be_mapped_names_cudadownload);
    TEST(queries_for_the_cuda_context_go_through_both_ways);
    return test_end();
}
