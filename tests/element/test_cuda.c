/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames with caps memory:CUDAMemory, in memory of that kind which is ours: what passes, what is
 * mapped, what is said when it cannot be; queries for the CUDA context. On a GPU:
 * test_cuda_pipeline.c. */
#include "fake_engine.h"
#include "support.h"

#define CAPS_CUDA "video/x-raw(memory:CUDAMemory),format=GRAY8,width=16,height=8,framerate=30/1"
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

static void frames_pass_as_they_are_and_sampled_ones_are_mapped(void)
{
    fake_set((fake_script) { 0 });
    maps_fail = FALSE;
    GstElement *element = support_element("mode", 2, NULL); /* one frame a second */
    GstHarness *h = support_harness(element, FALSE, CAPS_CUDA);
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
    support_done(h);
}

static void memory_that_cannot_be_mapped_names_cudadownload(void)
{
    fake_set((fake_script) { 0 });
    maps_fail = TRUE;
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_CUDA);
    GError *error = NULL;
    gst_harness_push(h, cuda_frame(0x40, 0));
    GstMessage *message = support_message(element, GST_MESSAGE_WARNING);
    REQUIRE(message != NULL);
    gst_message_parse_warning(message, &error, NULL);
    CHECK_CONTAINS(error->message, "gst.cuda.memory");
    CHECK_CONTAINS(error->message, "cudadownload");
    g_error_free(error);
    gst_message_unref(message);
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
    GstHarness *h = support_harness(element, FALSE, CAPS_CUDA);
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
    TEST(frames_pass_as_they_are_and_sampled_ones_are_mapped);
    TEST(memory_that_cannot_be_mapped_names_cudadownload);
    TEST(queries_for_the_cuda_context_go_through_both_ways);
    return test_end();
}
