/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every format that the element accepts, from a picture that is known: what the model sees is what
 * videoconvert makes of the same frame, in odd sizes, with padded strides, in memory of several
 * kinds, and in a second run. C-04: interlaced and stereo frames, fields alone. */
#define _GNU_SOURCE
#include <gst/allocators/gstdmabuf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gstglm4vframe.h"
#include "fake_engine.h"
#include "support.h"

static const GValue *formats(void)
{
    static GstCaps *caps;
    if (!caps)
        caps = gst_caps_from_string("video/x-raw, format = " GST_VIDEO_FORMATS_ALL);
    return gst_structure_get_value(gst_caps_get_structure(caps, 0), "format");
}

static guint n_formats(void)
{
    return gst_value_list_get_size(formats());
}

static const char *format_at(guint i)
{
    return g_value_get_string(gst_value_list_get_value(formats(), i));
}

static char *caps_of(const char *format, int width, int height)
{
    return g_strdup_printf("video/x-raw,format=%s,width=%d,height=%d,framerate=30/1", format, width,
                           height);
}

/* ---- pictures ---- */

/* What is shown at x, y: smooth, so that subsampled colour comes near it too. */
static void colour_at(int x, int y, int width, int height, guint8 rgba[4])
{
    rgba[0] = (guint8)(40 + 160 * x / width);
    rgba[1] = (guint8)(60 + 120 * y / height);
    rgba[2] = (guint8)(200 - 120 * x / width);
    rgba[3] = (guint8)(255 - 90 * y / height);
}

static GstBuffer *make_picture(const GstVideoInfo *info, gboolean with_alpha)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, info->size, NULL);
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    for (int y = 0; y < info->height; y++)
        for (int x = 0; x < info->width; x++) {
            guint8 *p = map.data + (gsize)y * info->stride[0] + 4 * x;
            colour_at(x, y, info->width, info->height, p);
            if (!with_alpha)
                p[3] = 255;
        }
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = 0;
    GST_BUFFER_DURATION(buffer) = 33 * MS;
    return buffer;
}

/* The frame as videoconvert writes it in another format. NULL if it does not. */
static GstBuffer *by_videoconvert(GstBuffer *frame, const char *from, const char *to, int width,
                                  int height)
{
    char *in = caps_of(from, width, height), *out = caps_of(to, width, height);
    GstHarness *h = gst_harness_new_parse("videoconvert dither=none n-threads=1");
    gst_harness_set_caps_str(h, in, out);
    GstBuffer *converted = gst_harness_push_and_pull(h, gst_buffer_ref(frame));
    gst_harness_teardown(h);
    g_free(in);
    g_free(out);
    return converted;
}

static void info_of(GstVideoInfo *info, const char *format, int width, int height)
{
    char *text = caps_of(format, width, height);
    GstCaps *caps = gst_caps_from_string(text);
    gst_video_info_from_caps(info, caps);
    gst_caps_unref(caps);
    g_free(text);
}

/* Alpha on white, as Pillow's paste() with a mask on a white picture. */
static int pasted(int value, int alpha)
{
    return (value * alpha + 255 * (255 - alpha) + 127) / 255;
}

/* The same planes with strides longer by 48 bytes, 5 bytes into the buffer. */
static GstBuffer *padded(GstBuffer *frame, const GstVideoInfo *info)
{
    guint n = GST_VIDEO_INFO_N_PLANES(info);
    gsize offset[GST_VIDEO_MAX_PLANES] = { 0 }, end = 5, rows[GST_VIDEO_MAX_PLANES];
    gint stride[GST_VIDEO_MAX_PLANES] = { 0 };
    GstMapInfo from, to;
    for (guint p = 0; p < n; p++) {
        gsize next = p + 1 < n ? info->offset[p + 1] : info->size;
        rows[p] = (next - info->offset[p]) / (gsize)info->stride[p];
        stride[p] = info->stride[p] + 48;
        offset[p] = end;
        end += rows[p] * (gsize)stride[p];
    }
    GstBuffer *wide = gst_buffer_new_allocate(NULL, end, NULL);
    gst_buffer_memset(wide, 0, 0x5a, end);
    gst_buffer_map(frame, &from, GST_MAP_READ);
    gst_buffer_map(wide, &to, GST_MAP_WRITE);
    for (guint p = 0; p < n; p++)
        for (gsize y = 0; y < rows[p]; y++)
            memcpy(to.data + offset[p] + y * (gsize)stride[p],
                   from.data + info->offset[p] + y * (gsize)info->stride[p],
                   (gsize)info->stride[p]);
    gst_buffer_unmap(wide, &to);
    gst_buffer_unmap(frame, &from);
    gst_buffer_add_video_meta_full(wide, 0, GST_VIDEO_INFO_FORMAT(info), (guint)info->width,
                                   (guint)info->height, n, offset, stride);
    return wide;
}

static gboolean can_be_padded(const GstVideoInfo *info)
{
    return !GST_VIDEO_FORMAT_INFO_IS_TILED(info->finfo) &&
           !GST_VIDEO_FORMAT_INFO_HAS_PALETTE(info->finfo);
}

/* ---- comparison ---- */

static gboolean has_alpha(const GstVideoInfo *info)
{
    return info->finfo->n_components == 4 || GST_VIDEO_FORMAT_INFO_HAS_PALETTE(info->finfo);
}

/* GStreamer 1.22 makes 192 of the most that two bits can say. */
static int alpha_of(const GstVideoInfo *info, int alpha)
{
    if (!has_alpha(info))
        return 255;
    return info->finfo->n_components == 4 && info->finfo->depth[3] == 2 ? (alpha >> 6) * 85 : alpha;
}

/* What the model would see against RGBA on white; the largest difference, or -1. */
static int largest_difference(GstBuffer *frame, const GstVideoInfo *info, const guint8 *rgba,
                              gsize rgba_stride)
{
    GstGlm4vConverter *converter = gst_glm4v_converter_new();
    GstGlm4vFault fault;
    glm4v_image image;
    gchar *why = NULL;
    int largest = -1;
    if (gst_glm4v_converter_run(converter, &(GstGlm4vFrame) { frame, info, 16 }, &image, &fault,
                                &why)) {
        largest = 0;
        for (int y = 0; y < image.height; y++)
            for (int x = 0; x < image.width; x++)
                for (int c = 0; c < 3; c++) {
                    const guint8 *p = rgba + (gsize)y * rgba_stride + 4 * x;
                    int seen = image.data[(gsize)y * image.stride + 3 * x + c];
                    largest = MAX(largest, abs(seen - pasted(p[c], alpha_of(info, p[3]))));
                }
    } else {
        printf("# %s\n", why);
    }
    g_free(why);
    gst_glm4v_converter_free(converter);
    return largest;
}

static void check_format(const char *format, int width, int height, gboolean with_alpha)
{
    GstVideoInfo rgba_info, info;
    GstMapInfo map;
    info_of(&rgba_info, "RGBA", width, height);
    info_of(&info, format, width, height);
    GstBuffer *picture = make_picture(&rgba_info, with_alpha);
    GstBuffer *frame = by_videoconvert(picture, "RGBA", format, width, height);
    REQUIRE(frame != NULL);
    GstBuffer *back = by_videoconvert(frame, format, "RGBA", width, height);
    REQUIRE(back != NULL);
    gst_buffer_map(back, &map, GST_MAP_READ);
    int few = g_str_has_prefix(format, "GRAY16"); /* ours are exact */
    int plain = largest_difference(frame, &info, map.data, (gsize)rgba_info.stride[0]);
    if (plain < 0 || plain > few)
        test_fail(__FILE__, __LINE__, "%s %dx%d is %d away from videoconvert", format, width,
                  height, plain);
    if (can_be_padded(&info)) {
        GstBuffer *wide = padded(frame, &info);
        plain = largest_difference(wide, &info, map.data, (gsize)rgba_info.stride[0]);
        if (plain < 0 || plain > few)
            test_fail(__FILE__, __LINE__,
                      "%s %dx%d with padded strides is %d away from "
                      "videoconvert",
                      format, width, height, plain);
        gst_buffer_unref(wide);
    }
    gst_buffer_unmap(back, &map);
    gst_buffer_unref(back);
    gst_buffer_unref(frame);
    gst_buffer_unref(picture);
}

static void the_model_sees_what_videoconvert_makes_of_every_format(void)
{
    /* Not odd multiples of 3: there GStreamer's rows of NV12_10LE32 are a word too short. */
    static const int sizes[][2] = { { 64, 48 }, { 35, 17 }, { 17, 9 }, { 4, 2 }, { 1, 1 } };
    for (guint f = 0; f < n_formats(); f++)
        for (guint s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_format(format_at(f), sizes[s][0], sizes[s][1], s % 2 == 0);
}

/* Videoconvert and the element ask the same converter: here against the picture itself. */
static void every_format_shows_the_picture_it_was_made_of(void)
{
    GstVideoInfo rgba_info, info;
    info_of(&rgba_info, "RGBA", 64, 48);
    for (guint f = 0; f < n_formats(); f++) {
        const char *format = format_at(f);
        gboolean grey = g_str_has_prefix(format, "GRAY");
        int few = g_str_equal(format, "RGB8P") ? 60 : strstr(format, "15") ? 16 : 12;
        GstBuffer *picture = make_picture(&rgba_info, FALSE);
        GstMapInfo map;
        gst_buffer_map(picture, &map, GST_MAP_READWRITE);
        for (gsize i = 0; grey && i < map.size; i += 4)
            map.data[i] = map.data[i + 1] = map.data[i + 2];
        GstBuffer *frame = by_videoconvert(picture, "RGBA", format, 64, 48);
        REQUIRE(frame != NULL);
        info_of(&info, format, 64, 48);
        int away = largest_difference(frame, &info, map.data, (gsize)rgba_info.stride[0]);
        if (away < 0 || away > few)
            test_fail(__FILE__, __LINE__, "%s is %d away from its picture", format, away);
        gst_buffer_unmap(picture, &map);
        gst_buffer_unref(frame);
        gst_buffer_unref(picture);
    }
}

/* ---- the element ---- */

static void begin_stream(GstHarness *h, const char *caps)
{
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_stream_start("formats"));
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
}

static void push_frame(GstHarness *h, GstBuffer *frame, const char *caps)
{
    begin_stream(h, caps);
    CHECK_EQ(gst_harness_push(h, gst_buffer_ref(frame)), GST_FLOW_OK);
    GstBuffer *out = gst_harness_pull(h);
    CHECK(gst_buffer_peek_memory(out, 0) == gst_buffer_peek_memory(frame, 0));
    CHECK_EQ(support_count_meta(out), 1);
    gst_buffer_unref(out);
}

static void every_format_is_negotiated_passed_and_described_twice(void)
{
    GstVideoInfo rgba_info;
    info_of(&rgba_info, "RGBA", 33, 17);
    fake_set((fake_script) { 0 });
    for (guint f = 0; f < n_formats(); f++) {
        GstBuffer *picture = make_picture(&rgba_info, FALSE);
        GstBuffer *frame = by_videoconvert(picture, "RGBA", format_at(f), 33, 17);
        GstBuffer *back = by_videoconvert(frame, format_at(f), "RGB", 33, 17);
        GstElement *element = support_element("mode", 2, NULL);
        GstHarness *h = support_harness(element, FALSE, NULL);
        char *caps = caps_of(format_at(f), 33, 17), expected[32];
        GstMapInfo map;
        gst_buffer_map(back, &map, GST_MAP_READ);
        const guint8 *middle = map.data + 8 * GST_ROUND_UP_4(33 * 3) + 3 * 16;
        snprintf(expected, sizeof expected, "33x17 #%02x%02x%02x", middle[0], middle[1], middle[2]);
        gst_buffer_unmap(back, &map);
        for (int run = 0; run < 2; run++) {
            push_frame(h, frame, caps);
            GstStructure *result = support_result(element);
            REQUIRE(result != NULL);
            unsigned seen = 0, off = g_str_has_prefix(format_at(f), "GRAY16") ? 0x010101 : 0;
            const char *text = gst_structure_get_string(result, "text");
            CHECK(text && sscanf(text, "33x17 #%6x", &seen) == 1);
            if (seen != (unsigned)strtoul(strchr(expected, '#') + 1, NULL, 16) &&
                seen - off != (unsigned)strtoul(strchr(expected, '#') + 1, NULL, 16))
                test_fail(__FILE__, __LINE__, "%s, run %d: %s, expected %s", format_at(f), run,
                          text, expected);
            gst_structure_free(result);
            gst_element_set_state(element, GST_STATE_READY);
            gst_element_set_state(element, GST_STATE_PLAYING);
        }
        support_done(h);
        g_free(caps);
        gst_buffer_unref(back);
        gst_buffer_unref(frame);
        gst_buffer_unref(picture);
    }
}

static void gray_bits_makes_a_twelve_bit_camera_bright(void)
{
    static const char caps[] = "video/x-raw,format=GRAY16_LE,width=16,height=8,framerate=30/1";
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, caps);
    for (int twelve = 0; twelve < 2; twelve++) {
        GstBuffer *frame = support_frame(caps, 0, (guint)twelve * 33);
        GstMapInfo map;
        gst_buffer_map(frame, &map, GST_MAP_WRITE);
        for (gsize i = 0; i < map.size; i += 2)
            GST_WRITE_UINT16_LE(map.data + i, 0x0fff);
        gst_buffer_unmap(frame, &map);
        if (twelve)
            g_object_set(element, "gray-bits", 12, NULL);
        gst_harness_push(h, frame);
        GstStructure *result = support_result(element);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "text"),
                  twelve ? "16x8 #ffffff" : "16x8 #0f0f0f");
        gst_structure_free(result);
    }
    support_done(h);
}

/* ---- memory of other kinds ---- */

static const char *features[] = { "(memory:DMABuf)", "(meta:GstVideoOverlayComposition)",
                                  "(memory:SystemMemory, meta:GstVideoOverlayComposition)",
                                  "(memory:DMABuf, meta:GstVideoOverlayComposition)" };

/* A frame of one grey in a file that stands in for a DMA buffer. */
static GstBuffer *dmabuf_frame(GstAllocator *allocator, guint8 grey)
{
    int fd = memfd_create("frame", 0);
    guint8 pixels[16 * 8];
    memset(pixels, grey, sizeof pixels);
    CHECK_EQ(write(fd, pixels, sizeof pixels), sizeof pixels);
    GstBuffer *buffer = gst_buffer_new();
    gst_buffer_append_memory(buffer, gst_dmabuf_allocator_alloc(allocator, fd, sizeof pixels));
    GST_BUFFER_PTS(buffer) = 0;
    return buffer;
}

static void frames_with_caps_features_are_passed_and_described_where_they_can_be_mapped(void)
{
    GstAllocator *allocator = gst_dmabuf_allocator_new();
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < G_N_ELEMENTS(features); i++) {
        char *caps = g_strdup_printf("video/x-raw%s,format=GRAY8,width=16,height=8,framerate=30/1",
                                     features[i]);
        GstElement *element = support_element("mode", 2, NULL);
        GstHarness *h = support_harness(element, FALSE, NULL);
        for (int run = 0; run < 2; run++) {
            GstBuffer *frame = strstr(caps, "DMABuf") ? dmabuf_frame(allocator, 0x40)
                                                      : gst_buffer_new_allocate(NULL, 128, NULL);
            if (!strstr(caps, "DMABuf"))
                gst_buffer_memset(frame, 0, 0x40, 128);
            GST_BUFFER_PTS(frame) = 0;
            push_frame(h, frame, caps);
            GstStructure *result = support_result(element);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "text"), "16x8 #404040");
            gst_structure_free(result);
            gst_buffer_unref(frame);
            gst_element_set_state(element, GST_STATE_READY);
            gst_element_set_state(element, GST_STATE_PLAYING);
        }
        GstCaps *out = gst_pad_get_current_caps(h->sinkpad);
        g_clear_pointer(&out, gst_caps_unref);
        CHECK_EQ(support_stat(element, "unreadable-frames"), 0);
        support_done(h);
        g_free(caps);
    }
    gst_object_unref(allocator);
}

/* A red square of 8x6 on the frame's middle, as textoverlay leaves words to a sink. */
static void add_overlay(GstBuffer *frame, guint x, guint y)
{
    GstBuffer *pixels = gst_buffer_new_allocate(NULL, 8 * 6 * 4, NULL);
    gsize offset[GST_VIDEO_MAX_PLANES] = { 0 };
    gint stride[GST_VIDEO_MAX_PLANES] = { 8 * 4 };
    GstMapInfo map;
    gst_buffer_map(pixels, &map, GST_MAP_WRITE);
    for (gsize i = 0; i < map.size; i += 4)
        GST_WRITE_UINT32_LE(map.data + i, 0xffff0000); /* BGRA */
    gst_buffer_unmap(pixels, &map);
    gst_buffer_add_video_meta_full(pixels, 0, GST_VIDEO_OVERLAY_COMPOSITION_FORMAT_RGB, 8, 6, 1,
                                   offset, stride);
    GstVideoOverlayRectangle *square = gst_video_overlay_rectangle_new_raw(
        pixels, (gint)x, (gint)y, 8, 6, GST_VIDEO_OVERLAY_FORMAT_FLAG_NONE);
    GstVideoOverlayComposition *all = gst_video_overlay_composition_new(square);
    gst_buffer_add_video_overlay_composition_meta(frame, all);
    gst_video_overlay_composition_unref(all);
    gst_video_overlay_rectangle_unref(square);
    gst_buffer_unref(pixels);
}

static void overlays_that_a_sink_would_draw_are_seen_and_pass(void)
{
    static const char *shown[] = { "GRAY8", "RGBA", "I420", "v210" };
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < G_N_ELEMENTS(shown); i++)
        for (int there = 0; there < 2; there++) {
            char *caps = g_strdup_printf("video/x-raw(meta:GstVideoOverlayComposition),format=%s,"
                                         "width=40,height=30,framerate=30/1",
                                         shown[i]);
            GstElement *element = support_element("mode", 2, NULL);
            GstHarness *h = support_harness(element, FALSE, caps);
            GstVideoInfo info;
            info_of(&info, shown[i], 40, 30);
            GstBuffer *frame = gst_buffer_new_allocate(NULL, info.size, NULL);
            gst_buffer_memset(frame, 0, 0xff, info.size);
            GST_BUFFER_PTS(frame) = 0;
            add_overlay(frame, there ? 16 : 0, there ? 12 : 0);
            gst_harness_push(h, frame);
            GstStructure *result = support_result(element);
            GstBuffer *out = gst_harness_pull(h);
            REQUIRE(result != NULL);
            const char *text = gst_structure_get_string(result, "text");
            CHECK_EQ(g_strcmp0(text, "40x30 #ff0000") == 0, there);
            CHECK(gst_buffer_get_video_overlay_composition_meta(out) != NULL);
            gst_structure_free(result);
            gst_buffer_unref(out);
            support_done(h);
            g_free(caps);
        }
}

/* ---- memory that cannot be mapped ---- */

typedef struct {
    GstAllocator parent;
} SealedAllocator;
typedef struct {
    GstAllocatorClass parent;
} SealedAllocatorClass;
GType sealed_allocator_get_type(void);
G_DEFINE_TYPE(SealedAllocator, sealed_allocator, GST_TYPE_ALLOCATOR)

static gpointer refuse_map(GstMemory *memory, gsize size, GstMapFlags flags)
{
    return NULL;
}

static void no_unmap(GstMemory *memory)
{
}

static void free_memory(GstAllocator *allocator, GstMemory *memory)
{
    g_free(memory);
}

static void sealed_allocator_class_init(SealedAllocatorClass *klass)
{
    GST_ALLOCATOR_CLASS(klass)->free = free_memory;
}

static void sealed_allocator_init(SealedAllocator *self)
{
    GST_ALLOCATOR(self)->mem_type = "SealedMemory";
    GST_ALLOCATOR(self)->mem_map = refuse_map;
    GST_ALLOCATOR(self)->mem_unmap = no_unmap;
}

/* no_share: memory that has to be copied to be kept, which this cannot be. */
static GstBuffer *sealed_frame(const GstVideoInfo *info, guint pts_ms, gboolean no_share)
{
    GstAllocator *allocator = g_object_new(sealed_allocator_get_type(), NULL);
    GstMemory *memory = g_new0(GstMemory, 1);
    GstBuffer *buffer = gst_buffer_new();
    gst_memory_init(memory, no_share ? GST_MEMORY_FLAG_NO_SHARE : 0, allocator, NULL, info->size, 0,
                    0, info->size);
    gst_buffer_append_memory(buffer, memory);
    GST_BUFFER_PTS(buffer) = pts_ms * MS;
    gst_object_unref(allocator);
    return buffer;
}

static char *reason(GstElement *element)
{
    GstStructure *stats;
    g_object_get(element, "stats", &stats, NULL);
    char *text = g_strdup(gst_structure_get_string(stats, "unreadable-reason"));
    gst_structure_free(stats);
    return text;
}

static void check_sealed(const char *caps, int mode, gboolean no_share)
{
    GstCaps *parsed = gst_caps_from_string(caps);
    GstVideoInfo info;
    gst_video_info_from_caps(&info, parsed);
    gst_caps_unref(parsed);
    GstElement *element = support_element("mode", mode, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, mode == 1, NULL);
    for (guint run = 1; run <= 2; run++) {
        begin_stream(h, caps);
        support_count_messages(element, 0);
        CHECK(reason(element) == NULL);
        for (guint i = 0; i < 10; i++) {
            CHECK_EQ(gst_harness_push(h, sealed_frame(&info, i * 33, no_share)), GST_FLOW_OK);
            CHECK(support_wait_stat(element, "unreadable-frames", i + 1));
        }
        CHECK_EQ(gst_harness_buffers_received(h), 10 * run);
        char *why = reason(element);
        CHECK_CONTAINS(why, "SealedMemory");
        g_free(why);
        CHECK_EQ(support_stat(element, "inferred"), 0);
        CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 1);
        CHECK_EQ(fake_get().submitted, 0);
        gst_element_set_state(element, GST_STATE_NULL);
        gst_element_set_state(element, GST_STATE_PLAYING);
        CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    }
    support_done(h);
}

static void what_cannot_be_mapped_passes_with_one_warning_and_the_reason_in_stats(void)
{
    fake_set((fake_script) { 0 });
    for (guint f = 0; f < n_formats(); f++) {
        char *caps = caps_of(format_at(f), 17, 9);
        check_sealed(caps, 2, f % 2);
        g_free(caps);
    }
    for (guint i = 0; i < G_N_ELEMENTS(features); i++) {
        char *caps = g_strdup_printf("video/x-raw%s,format=NV12,width=16,height=8,framerate=30/1",
                                     features[i]);
        check_sealed(caps, 1, FALSE);
        check_sealed(caps, 2, TRUE);
        g_free(caps);
    }
}

/* ---- C-04 ---- */

static void check_described(const char *fields)
{
    char *caps = g_strdup_printf(CAPS_SMALL "%s", fields);
    GstElement *element = support_element("mode", 2, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, caps);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x123456, 0));
    GstStructure *result = support_result(element);
    GstBuffer *out = gst_harness_pull(h);
    const char *status = result ? gst_structure_get_string(result, "status") : "none";
    const char *text = result ? gst_structure_get_string(result, "text") : "";
    if (g_strcmp0(status, "ok") != 0 || !strstr(text, "16x8 #123456"))
        test_fail(__FILE__, __LINE__, "%s: %s, %s", fields, status, text);
    CHECK(out != NULL);
    gst_clear_buffer(&out);
    g_clear_pointer(&result, gst_structure_free);
    support_done(h);
    g_free(caps);
}

static void interlaced_stereo_and_colors_of_no_name_are_one_picture_as_stored(void)
{
    static const char *const interlacing[] = { "", ",interlace-mode=interleaved",
                                               ",interlace-mode=mixed,field-order=top-field-first",
                                               ",interlace-mode=fields" };
    static const char *const views[] = { "",
                                         ",multiview-mode=mono,views=1",
                                         ",multiview-mode=left",
                                         ",multiview-mode=side-by-side,views=2",
                                         ",multiview-mode=side-by-side-quincunx,views=2",
                                         ",multiview-mode=column-interleaved,views=2",
                                         ",multiview-mode=row-interleaved,views=2",
                                         ",multiview-mode=top-bottom,views=2",
                                         ",multiview-mode=checkerboard,views=2",
                                         ",multiview-mode=frame-by-frame,views=2",
                                         ",multiview-mode=multiview-frame-by-frame,views=3" };
    static const char *const colors[] = { "", ",colorimetry=sRGB", ",colorimetry=bt2100-pq",
                                          ",colorimetry=1:0:0:0", ",colorimetry=nobody-knows" };
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < G_N_ELEMENTS(interlacing); i++)
        for (guint v = 0; v < G_N_ELEMENTS(views); v++)
            for (guint c = 0; c < G_N_ELEMENTS(colors); c++) {
                char *fields = g_strconcat(interlacing[i], views[v], colors[c], NULL);
                check_described(fields);
                g_free(fields);
            }
}

static void buffers_of_single_fields_or_other_memory_are_refused_by_their_caps(void)
{
    static const char *const refused[] = {
        ("video/x-raw(format:Interlaced),format=NV12,width=16,height=8,framerate=30/1,"
         "interlace-mode=alternate"),
        "video/x-raw(memory:GLMemory),format=RGBA,width=16,height=8,framerate=30/1",
        "video/x-raw,format=DMA_DRM,width=16,height=8,framerate=30/1",
        "video/x-bayer,format=bggr,width=16,height=8,framerate=30/1",
    };
    GstElement *element = support_element(NULL);
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        GstCaps *caps = gst_caps_from_string(refused[i]);
        CHECK(!gst_pad_query_accept_caps(pad, caps));
        GstCaps *allowed = gst_pad_query_caps(pad, caps);
        CHECK(gst_caps_is_empty(allowed));
        gst_caps_unref(allowed);
        gst_caps_unref(caps);
    }
    gst_object_unref(pad);
    support_free(element);
}

static void sources_that_may_choose_still_choose_as_before(void)
{
    GstElement *pipeline =
        gst_parse_launch("videotestsrc num-buffers=1 ! glm4vdescribe name=d ! fakesink", NULL);
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    GstVideoInfo info;
    g_object_set(element, "model-location", SOURCE_ROOT, NULL);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, 10 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    REQUIRE(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS);
    GstCaps *caps = gst_pad_get_current_caps(pad);
    CHECK(caps && gst_video_info_from_caps(&info, caps));
    CHECK_STR(GST_VIDEO_INFO_NAME(&info), "ABGR");
    gst_caps_unref(caps);
    gst_message_unref(message);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pad);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(the_model_sees_what_videoconvert_makes_of_every_format);
    TEST(every_format_shows_the_picture_it_was_made_of);
    TEST(every_format_is_negotiated_passed_and_described_twice);
    TEST(gray_bits_makes_a_twelve_bit_camera_bright);
    TEST(frames_with_caps_features_are_passed_and_described_where_they_can_be_mapped);
    TEST(overlays_that_a_sink_would_draw_are_seen_and_pass);
    TEST(what_cannot_be_mapped_passes_with_one_warning_and_the_reason_in_stats);
    TEST(interlaced_stereo_and_colors_of_no_name_are_one_picture_as_stored);
    TEST(buffers_of_single_fields_or_other_memory_are_refused_by_their_caps);
    TEST(sources_that_may_choose_still_choose_as_before);
    return test_end();
}
