/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C-01, C-06: every format at 1..9 x 1..9 in many layouts, the frame's last byte before a page that
 * must not be touched; frames that lie about their size. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "fake_engine.h"
#include "gstglm4vframe.h"
#include "support.h"

/* All that the element accepts. */
static const char *formats[256];
static guint n_formats;

static void list_formats(void)
{
    GstCaps *caps = gst_caps_from_string("video/x-raw, format = " GST_VIDEO_FORMATS_ALL);
    const GValue *list = gst_structure_get_value(gst_caps_get_structure(caps, 0), "format");
    for (guint i = 0; i < gst_value_list_get_size(list) && i < G_N_ELEMENTS(formats); i++)
        formats[n_formats++] =
            g_intern_string(g_value_get_string(gst_value_list_get_value(list, i)));
    gst_caps_unref(caps);
}

/* ---- frames in memory that ends at a guard page ---- */

typedef struct {
    guint8 *map, *data; /* data ends where the guard page begins */
    gsize mapped, size;
} Guarded;

static Guarded guarded_new(gsize size)
{
    gsize page = (gsize)sysconf(_SC_PAGESIZE), body = (size + page - 1) / page * page;
    Guarded g = { .mapped = body + page, .size = size };
    g.map = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(g.map + body, page, PROT_NONE);
    g.data = g.map + body - size;
    return g;
}

static void guarded_free(Guarded *g)
{
    munmap(g->map, g->mapped);
}

static GstVideoInfo make_info(const char *format, guint width, guint height)
{
    GstVideoInfo info;
    gst_video_info_set_format(&info, gst_video_format_from_string(format), width, height);
    info.fps_n = 30;
    info.fps_d = 1;
    return info;
}

static gboolean is_tiled(const GstVideoInfo *info)
{
    return GST_VIDEO_FORMAT_INFO_IS_TILED(info->finfo);
}

static void plane_extent(const GstVideoInfo *info, guint plane, gsize *row_bytes, guint *rows)
{
    *row_bytes = 0;
    *rows = 0;
    for (guint c = 0; c < GST_VIDEO_INFO_N_COMPONENTS(info); c++)
        if ((guint)GST_VIDEO_INFO_COMP_PLANE(info, c) == plane) {
            gsize bytes =
                (gsize)GST_VIDEO_INFO_COMP_WIDTH(info, c) * GST_VIDEO_INFO_COMP_PSTRIDE(info, c);
            if (GST_VIDEO_INFO_COMP_PSTRIDE(info, c) == 0)
                bytes = (gsize)GST_VIDEO_INFO_PLANE_STRIDE(info, plane);
            *row_bytes = MAX(*row_bytes, bytes);
            *rows = MAX(*rows, (guint)GST_VIDEO_INFO_COMP_HEIGHT(info, c));
        }
    if (GST_VIDEO_FORMAT_INFO_HAS_PALETTE(info->finfo) && plane == 1) {
        *row_bytes = 1024;
        *rows = 1;
    }
}

/* The same pixels for every layout: byte i of row r of plane p. */
static guint8 pixel_byte(guint plane, guint row, gsize i)
{
    guint32 x = (guint32)(plane * 7919 + row * 104729 + i * 1299709 + 12345);
    x ^= x >> 13;
    x *= 0x5bd1e995;
    return (guint8)(x >> 15);
}

/* The tiles of a plane that show something: where each begins, the pixels if data. Returns the
 * plane's end. */
static gsize lay_tiles(const GstVideoInfo *info, guint p, gint stride, gsize offset, guint8 *data)
{
    gint across = GST_VIDEO_TILE_X_TILES(GST_VIDEO_INFO_PLANE_STRIDE(info, p));
    gint down = GST_VIDEO_TILE_Y_TILES(GST_VIDEO_INFO_PLANE_STRIDE(info, p));
    gsize size = GST_VIDEO_FORMAT_INFO_TILE_SIZE(info->finfo, p), end = offset;
    for (gint y = 0; y < down; y++)
        for (gint x = 0; x < across; x++) {
            gsize at = offset + size * gst_video_tile_get_index(info->finfo->tile_mode, x, y,
                                                                GST_VIDEO_TILE_X_TILES(stride),
                                                                GST_VIDEO_TILE_Y_TILES(stride));
            end = MAX(end, at + size);
            for (gsize i = 0; data && i < size; i++)
                data[at + i] = pixel_byte(p, (guint)(y * 100 + x), i);
        }
    return end;
}

static void lay_rows(const GstVideoInfo *info, guint p, gint stride, gsize offset, guint8 *data)
{
    gsize row_bytes;
    guint rows;
    plane_extent(info, p, &row_bytes, &rows);
    for (guint r = 0; r < rows; r++)
        for (gsize i = 0; i < row_bytes; i++)
            data[offset + (gsize)stride * r + i] = pixel_byte(p, r, i);
}

/* A frame whose strides are row_bytes + extra (extra < 0: GStreamer's own; tiles: one more across
 * and down if extra > 0) and whose first plane begins at lead; bytes between the pixels are poison.
 */
static GstBuffer *make_frame(const GstVideoInfo *info, gint extra, gsize lead, Guarded *g)
{
    gsize offset[GST_VIDEO_MAX_PLANES] = { 0 }, row_bytes, end = lead;
    gint stride[GST_VIDEO_MAX_PLANES] = { 0 };
    guint rows, n = GST_VIDEO_INFO_N_PLANES(info);
    for (guint p = 0; p < n; p++) {
        gint usual = GST_VIDEO_INFO_PLANE_STRIDE(info, p);
        plane_extent(info, p, &row_bytes, &rows);
        if (is_tiled(info))
            stride[p] = extra > 0 ? usual + GST_VIDEO_TILE_MAKE_STRIDE(1, 1) : usual;
        else
            stride[p] = extra < 0 ? usual : (gint)row_bytes + extra;
        offset[p] = extra < 0 ? GST_VIDEO_INFO_PLANE_OFFSET(info, p) + lead : end;
        end = is_tiled(info) ? lay_tiles(info, p, stride[p], offset[p], NULL)
                             : offset[p] + (gsize)stride[p] * (rows - 1) + row_bytes;
    }
    *g = guarded_new(extra < 0 ? lead + GST_VIDEO_INFO_SIZE(info) : end);
    memset(g->data, 0xa5, g->size);
    for (guint p = 0; p < n; p++)
        if (is_tiled(info))
            lay_tiles(info, p, stride[p], offset[p], g->data);
        else
            lay_rows(info, p, stride[p], offset[p], g->data);
    GstBuffer *buffer = gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, g->data, g->size, 0,
                                                    g->size, NULL, NULL);
    if (extra >= 0 || lead > 0)
        gst_buffer_add_video_meta_full(buffer, 0, GST_VIDEO_INFO_FORMAT(info), (guint)info->width,
                                       (guint)info->height, n, offset, stride);
    return buffer;
}

/* The picture without row padding, or NULL. */
static guint8 *convert_gray(GstBuffer *buffer, const GstVideoInfo *info, guint gray_bits,
                            int *width, int *height)
{
    GstGlm4vConverter *converter = gst_glm4v_converter_new();
    const GstGlm4vFrame frame = { buffer, info, gray_bits };
    GstGlm4vFault fault;
    glm4v_image image;
    guint8 *packed = NULL;
    gchar *why = NULL;
    if (gst_glm4v_converter_run(converter, &frame, &image, &fault, &why)) {
        packed = g_malloc((gsize)image.width * image.height * 3);
        for (int y = 0; y < image.height; y++)
            memcpy(packed + (gsize)y * image.width * 3, image.data + y * image.stride,
                   (gsize)image.width * 3);
        *width = image.width;
        *height = image.height;
    }
    g_free(why);
    gst_glm4v_converter_free(converter);
    return packed;
}

static guint8 *convert(GstBuffer *buffer, const GstVideoInfo *info, int *width, int *height)
{
    return convert_gray(buffer, info, 16, width, height);
}

static void check_layouts(const char *format, guint width, guint height)
{
    static const struct {
        gint extra;
        gsize lead;
    } layouts[] = { { -1, 0 }, { 0, 0 }, { 1, 0 }, { 3, 0 },
                    { 64, 0 }, { 0, 1 }, { 1, 3 }, { -1, 5 } };
    GstVideoInfo info = make_info(format, width, height);
    guint8 *first = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(layouts); i++) {
        Guarded g;
        GstBuffer *buffer = make_frame(&info, layouts[i].extra, layouts[i].lead, &g);
        gchar *why = NULL;
        int w = 0, h = 0;
        if (!gst_glm4v_frame_check(buffer, &info, &why))
            test_fail(__FILE__, __LINE__, "%s %ux%u layout %u: %s", format, width, height, i, why);
        guint8 *rgb = convert(buffer, &info, &w, &h);
        if (!rgb || w != (int)width || h != (int)height)
            test_fail(__FILE__, __LINE__, "%s %ux%u layout %u: no picture", format, width, height,
                      i);
        else if (first && memcmp(rgb, first, (gsize)w * h * 3) != 0)
            test_fail(__FILE__, __LINE__, "%s %ux%u: layout %u changes the picture", format, width,
                      height, i);
        if (!first)
            first = g_steal_pointer(&rgb);
        g_free(rgb);
        g_free(why);
        gst_buffer_unref(buffer);
        guarded_free(&g);
    }
    g_free(first);
}

static void every_format_and_layout_gives_the_same_picture_and_reads_nothing_beyond(void)
{
    for (guint f = 0; f < n_formats; f++)
        for (guint width = 1; width <= 9; width++)
            for (guint height = 1; height <= 9; height += 1 + height / 3)
                check_layouts(formats[f], width, height);
}

/* ---- values ---- */

/* Pillow's paste() of a value with a mask on white. */
static int pasted(int value, int alpha)
{
    return (value * alpha + 255 * (255 - alpha) + 127) / 255;
}

static void rgb_of_packed_formats_is_exact_and_put_on_white(void)
{
    static const struct {
        const char *format;
        int r, g, b, step, a; /* a < 0: opaque */
    } orders[] = { { "RGB", 0, 1, 2, 3, -1 },  { "BGR", 2, 1, 0, 3, -1 },
                   { "RGBA", 0, 1, 2, 4, 3 },  { "BGRA", 2, 1, 0, 4, 3 },
                   { "ARGB", 1, 2, 3, 4, 0 },  { "ABGR", 3, 2, 1, 4, 0 },
                   { "RGBx", 0, 1, 2, 4, -1 }, { "BGRx", 2, 1, 0, 4, -1 },
                   { "xRGB", 1, 2, 3, 4, -1 }, { "xBGR", 3, 2, 1, 4, -1 },
                   { "GRAY8", 0, 0, 0, 1, -1 } };
    for (guint f = 0; f < G_N_ELEMENTS(orders); f++) {
        GstVideoInfo info = make_info(orders[f].format, 9, 5);
        Guarded g;
        GstBuffer *buffer = make_frame(&info, 3, 1, &g);
        int w = 0, h = 0;
        guint8 *rgb = convert(buffer, &info, &w, &h);
        for (guint y = 0; rgb && y < 5; y++)
            for (gsize x = 0; x < 9; x++) {
                guint8 *p = rgb + (y * 9 + x) * 3;
                gsize at = x * (gsize)orders[f].step;
                int alpha = orders[f].a < 0 ? 255 : pixel_byte(0, y, at + (gsize)orders[f].a);
                if (p[0] != pasted(pixel_byte(0, y, at + (gsize)orders[f].r), alpha) ||
                    p[1] != pasted(pixel_byte(0, y, at + (gsize)orders[f].g), alpha) ||
                    p[2] != pasted(pixel_byte(0, y, at + (gsize)orders[f].b), alpha))
                    test_fail(__FILE__, __LINE__, "%s: pixel %d,%d is wrong", orders[f].format,
                              (int)x, (int)y);
            }
        CHECK(rgb != NULL);
        g_free(rgb);
        gst_buffer_unref(buffer);
        guarded_free(&g);
    }
}

static int clamp(double v)
{
    return v < 0 ? 0 : v > 255 ? 255 : (int)floor(v + 0.5);
}

static void fill_component(const GstVideoInfo *info, guint8 *data, guint c, guint value)
{
    gboolean wide = GST_VIDEO_INFO_COMP_DEPTH(info, c) == 10;
    /* GStreamer 1.22 says that V of P010 lies one byte after U. */
    gsize offset = wide && c == 2 ? GST_VIDEO_INFO_COMP_OFFSET(info, 1) + 2
                                  : GST_VIDEO_INFO_COMP_OFFSET(info, c);
    for (int y = 0; y < GST_VIDEO_INFO_COMP_HEIGHT(info, c); y++)
        for (int x = 0; x < GST_VIDEO_INFO_COMP_WIDTH(info, c); x++) {
            guint8 *p = data + offset + y * GST_VIDEO_INFO_COMP_STRIDE(info, c) +
                        x * GST_VIDEO_INFO_COMP_PSTRIDE(info, c);
            if (wide)
                GST_WRITE_UINT16_LE(p, value << 8);
            else
                *p = (guint8)value;
        }
}

/* One colour through the matrix that the colorimetry names, in double precision. GStreamer's quick
 * paths for 8-bit formats multiply in 8 bits: up to 5 of 255 away. A wrong matrix or range is 10
 * and more away. */
static void check_yuv(const char *format, const char *colorimetry, double kr, double kb,
                      gboolean full)
{
    static const guint colours[][3] = { { 16, 128, 128 }, { 235, 128, 128 }, { 81, 90, 240 },
                                        { 145, 54, 34 },  { 41, 240, 110 },  { 120, 100, 150 } };
    GstVideoInfo info = make_info(format, 8, 6);
    gst_video_colorimetry_from_string(&info.colorimetry, colorimetry);
    for (guint i = 0; i < G_N_ELEMENTS(colours); i++) {
        GstBuffer *buffer = gst_buffer_new_allocate(NULL, info.size, NULL);
        GstMapInfo map;
        int w = 0, h = 0;
        gst_buffer_map(buffer, &map, GST_MAP_WRITE);
        for (guint c = 0; c < 3; c++)
            fill_component(&info, map.data, c, colours[i][c]);
        gst_buffer_unmap(buffer, &map);
        double y = full ? colours[i][0] / 255.0 : (colours[i][0] - 16.0) / 219.0;
        double cb = (colours[i][1] - 128.0) / (full ? 255.0 : 224.0);
        double cr = (colours[i][2] - 128.0) / (full ? 255.0 : 224.0), kg = 1 - kr - kb;
        int r = clamp(255 * (y + 2 * (1 - kr) * cr)), b = clamp(255 * (y + 2 * (1 - kb) * cb));
        int gr = clamp(255 * (y - 2 * kr * (1 - kr) / kg * cr - 2 * kb * (1 - kb) / kg * cb));
        guint8 *rgb = convert(buffer, &info, &w, &h);
        for (int p = 0; rgb && p < w * h; p++)
            if (abs(rgb[3 * p] - r) > 5 || abs(rgb[3 * p + 1] - gr) > 5 ||
                abs(rgb[3 * p + 2] - b) > 5) {
                test_fail(__FILE__, __LINE__, "%s %s colour %u: %d %d %d, expected %d %d %d",
                          format, colorimetry, i, rgb[3 * p], rgb[3 * p + 1], rgb[3 * p + 2], r, gr,
                          b);
                break;
            }
        CHECK(rgb != NULL);
        g_free(rgb);
        gst_buffer_unref(buffer);
    }
}

static void yuv_formats_follow_their_colorimetry(void)
{
    static const char *yuv[] = { "NV12", "NV21", "I420", "YV12", "YUY2", "UYVY", "P010_10LE" };
    for (guint f = 0; f < G_N_ELEMENTS(yuv); f++) {
        check_yuv(yuv[f], "bt601", 0.299, 0.114, FALSE);
        check_yuv(yuv[f], "bt709", 0.2126, 0.0722, FALSE);
        check_yuv(yuv[f], "1:4:0:0", 0.299, 0.114, TRUE);
    }
}

static void gray16_keeps_its_upper_byte(void)
{
    for (int big = 0; big < 2; big++) {
        GstVideoInfo info = make_info(big ? "GRAY16_BE" : "GRAY16_LE", 7, 3);
        Guarded g;
        GstBuffer *buffer = make_frame(&info, 1, 1, &g);
        int w = 0, h = 0;
        guint8 *rgb = convert(buffer, &info, &w, &h);
        for (guint y = 0; rgb && y < 3; y++)
            for (gsize x = 0; x < 7; x++)
                CHECK_EQ(rgb[(y * 7 + x) * 3], pixel_byte(0, y, 2 * x + (big ? 0 : 1)));
        CHECK(rgb != NULL);
        g_free(rgb);
        gst_buffer_unref(buffer);
        guarded_free(&g);
    }
}

static void grey_of_fewer_bits_fills_the_range(void)
{
    static const guint bits[] = { 8, 10, 12, 14, 16 };
    for (int big = 0; big < 2; big++)
        for (guint b = 0; b < G_N_ELEMENTS(bits); b++) {
            const guint most = (1u << bits[b]) - 1;
            GstVideoInfo info = make_info(big ? "GRAY16_BE" : "GRAY16_LE", 9, 3);
            GstBuffer *buffer = gst_buffer_new_allocate(NULL, info.size, NULL);
            guint values[9] = { 0,
                                1,
                                most / 4,
                                most / 2,
                                most / 2 + 1,
                                most - most / 8,
                                most,
                                MIN(most + 1, 65535),
                                65535 };
            GstMapInfo map;
            int w = 0, h = 0;
            gst_buffer_map(buffer, &map, GST_MAP_WRITE);
            for (guint i = 0; i < 27; i++) {
                guint8 *p = map.data + (gsize)info.stride[0] * (i / 9) + 2 * (i % 9);
                big ? GST_WRITE_UINT16_BE(p, values[i % 9]) : GST_WRITE_UINT16_LE(p, values[i % 9]);
            }
            gst_buffer_unmap(buffer, &map);
            guint8 *rgb = convert_gray(buffer, &info, bits[b], &w, &h);
            for (guint i = 0; rgb && i < 27; i++) {
                int expected = (int)(MIN(values[i % 9], most) >> (bits[b] - 8));
                if (rgb[3 * i] != expected)
                    test_fail(__FILE__, __LINE__, "%u bits: %u is %d, not %d", bits[b],
                              values[i % 9], rgb[3 * i], expected);
            }
            CHECK(rgb && rgb[3 * 6] == 255 && rgb[0] == 0);
            g_free(rgb);
            gst_buffer_unref(buffer);
        }
}

static void interlaced_frames_are_taken_as_they_are_woven(void)
{
    static const GstVideoInterlaceMode modes[] = { GST_VIDEO_INTERLACE_MODE_INTERLEAVED,
                                                   GST_VIDEO_INTERLACE_MODE_MIXED };
    for (guint f = 0; f < n_formats; f++)
        for (guint i = 0; i < 2; i++) {
            GstVideoInfo info;
            gst_video_info_set_interlaced_format(&info, gst_video_format_from_string(formats[f]),
                                                 modes[i], 10, 7);
            Guarded g;
            GstBuffer *buffer = make_frame(&info, 3, 1, &g);
            int w = 0, h = 0;
            GST_BUFFER_FLAG_SET(buffer, GST_VIDEO_BUFFER_FLAG_INTERLACED);
            guint8 *rgb = convert(buffer, &info, &w, &h);
            if (!rgb || w != 10 || h != 7)
                test_fail(__FILE__, __LINE__, "%s: no picture", formats[f]);
            if (rgb && g_str_equal(formats[f], "RGB"))
                for (guint y = 0; y < 7; y++)
                    for (gsize x = 0; x < 30; x++)
                        CHECK_EQ(rgb[y * 30 + x], pixel_byte(0, y, x));
            g_free(rgb);
            gst_buffer_unref(buffer);
            guarded_free(&g);
        }
}

/* ---- lies ---- */

static gboolean accepted(GstBuffer *buffer, const GstVideoInfo *info)
{
    gchar *why = NULL;
    int w, h;
    gboolean fits = gst_glm4v_frame_check(buffer, info, &why);
    guint8 *rgb = convert(buffer, info, &w, &h);
    CHECK(fits == (rgb != NULL));
    CHECK(fits || (why && *why));
    g_free(why);
    g_free(rgb);
    return fits;
}

static void frames_too_small_by_1_to_64_bytes_are_refused(void)
{
    for (guint f = 0; f < n_formats; f++) {
        GstVideoInfo info = make_info(formats[f], 17, 9);
        for (gsize missing = 0; missing <= 64; missing++) {
            GstBuffer *plain = gst_buffer_new_allocate(NULL, info.size - missing, NULL);
            Guarded g;
            GstBuffer *strided = make_frame(&info, 3, 1, &g);
            gst_buffer_memset(plain, 0, 0, info.size);
            gst_buffer_set_size(strided, (gssize)(g.size - missing));
            CHECK_EQ(accepted(plain, &info), missing == 0);
            CHECK_EQ(accepted(strided, &info), missing == 0);
            gst_buffer_unref(plain);
            gst_buffer_unref(strided);
            guarded_free(&g);
        }
    }
}

static void video_metas_that_lie_are_refused(void)
{
    static const struct {
        gsize offset;
        gint stride;
        guint width, height;
        const char *format;
    } lies[] = {
        { 0, 64, 17, 9, "GRAY8" },
        { 0, -20, 16, 9, "GRAY8" },
        { 0, 15, 16, 9, "GRAY8" },
        { 0, G_MAXINT, 16, 9, "GRAY8" },
        { G_MAXSIZE, 16, 16, 9, "GRAY8" },
        { 1, 16, 16, 9, "GRAY8" },
        { 0, 16, 16, 10, "GRAY8" },
        { 0, 16, 16, 9, "GRAY16_LE" },
        { 0, 0, 16, 9, "GRAY8" },
        { 0, 16, 0, 9, "GRAY8" },
        { G_MAXSIZE - 100, 16, 16, 9, "GRAY8" },
    };
    GstVideoInfo info = make_info("GRAY8", 16, 9);
    for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
        GstBuffer *buffer = gst_buffer_new_allocate(NULL, 16 * 9, NULL);
        gsize offset[GST_VIDEO_MAX_PLANES] = { 0 };
        gint stride[GST_VIDEO_MAX_PLANES] = { 16 };
        GstVideoMeta *meta = gst_buffer_add_video_meta_full(buffer, 0, GST_VIDEO_FORMAT_GRAY8, 16,
                                                            9, 1, offset, stride);
        gst_buffer_memset(buffer, 0, 7, 16 * 9);
        CHECK(accepted(buffer, &info));
        meta->offset[0] = lies[i].offset;
        meta->stride[0] = lies[i].stride;
        meta->width = lies[i].width;
        meta->height = lies[i].height;
        meta->format = gst_video_format_from_string(lies[i].format);
        if (accepted(buffer, &info))
            test_fail(__FILE__, __LINE__, "lie %u was believed", i);
        gst_buffer_unref(buffer);
    }
}

/* P-09: any format, size, stride, offset, crop and length; what is accepted is read to its last
 * byte. */
static void whatever_the_metas_say_nothing_beyond_the_buffer_is_read(void)
{
    GRand *rand = g_rand_new_with_seed(20240607);
    guint taken = 0, rounds = support_count(20000, 1000000);
    for (guint i = 0; i < rounds; i++) {
        const char *format = formats[g_rand_int_range(rand, 0, (gint)n_formats)];
        GstVideoInfo info = make_info(format, (guint)g_rand_int_range(rand, 1, 40),
                                      (guint)g_rand_int_range(rand, 1, 40));
        gsize offset[GST_VIDEO_MAX_PLANES] = { 0 };
        gint stride[GST_VIDEO_MAX_PLANES] = { 0 };
        Guarded g =
            guarded_new(MAX(1, (gsize)((double)info.size * g_rand_double_range(rand, 0.5, 2))));
        GstBuffer *buffer = gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, g.data, g.size, 0,
                                                        g.size, NULL, NULL);
        for (guint p = 0; p < GST_VIDEO_INFO_N_PLANES(&info); p++) {
            offset[p] = GST_VIDEO_INFO_PLANE_OFFSET(&info, p) + (gsize)g_rand_int_range(rand, 0, 9);
            stride[p] = GST_VIDEO_INFO_PLANE_STRIDE(&info, p) + g_rand_int_range(rand, -4, 20);
        }
        if (g_rand_int_range(rand, 0, 4))
            gst_buffer_add_video_meta_full(buffer, 0, GST_VIDEO_INFO_FORMAT(&info),
                                           (guint)info.width, (guint)info.height,
                                           GST_VIDEO_INFO_N_PLANES(&info), offset, stride);
        if (!g_rand_int_range(rand, 0, 3)) {
            GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(buffer);
            crop->x = (guint)g_rand_int_range(rand, 0, 40);
            crop->y = (guint)g_rand_int_range(rand, 0, 40);
            crop->width = (guint)g_rand_int_range(rand, 0, 40);
            crop->height = (guint)g_rand_int_range(rand, 0, 40);
        }
        taken += accepted(buffer, &info);
        gst_buffer_unref(buffer);
        guarded_free(&g);
    }
    g_rand_free(rand);
    printf("# %u of %u frames accepted\n", taken, rounds);
    CHECK(taken > rounds / 20 && taken < rounds * 19 / 20);
}

static void crop_meta_cuts_out_its_part(void)
{
    GstVideoInfo stored = make_info("RGB", 9, 7), info = make_info("RGB", 4, 3);
    Guarded g;
    GstBuffer *buffer = make_frame(&stored, 5, 0, &g);
    GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(buffer);
    int w = 0, h = 0;
    crop->x = 2;
    crop->y = 1;
    crop->width = 4;
    crop->height = 3;
    guint8 *rgb = convert(buffer, &info, &w, &h);
    CHECK(rgb && w == 4 && h == 3);
    for (guint y = 0; rgb && y < 3; y++)
        for (gsize i = 0; i < 12; i++)
            CHECK_EQ(rgb[y * 12 + i], pixel_byte(0, y + 1, 6 + i));
    g_free(rgb);
    crop->x = 6;
    CHECK(!accepted(buffer, &info));
    crop->x = G_MAXUINT;
    CHECK(!accepted(buffer, &info));
    crop->x = 0;
    crop->width = 0;
    CHECK(!accepted(buffer, &info));
    gst_buffer_unref(buffer);
    guarded_free(&g);
}

static void frames_in_several_memories_are_read_whole(void)
{
    GstVideoInfo info = make_info("GRAY8", 8, 4);
    GstBuffer *buffer = gst_buffer_new();
    int w = 0, h = 0;
    for (guint i = 0; i < 4; i++) {
        GstMemory *memory = gst_allocator_alloc(NULL, 8, NULL);
        gst_buffer_append_memory(buffer, memory);
        gst_buffer_memset(buffer, i * 8, (guint8)(i * 20), 8);
    }
    guint8 *rgb = convert(buffer, &info, &w, &h);
    for (guint y = 0; rgb && y < 4; y++)
        CHECK_EQ(rgb[y * 24], y * 20);
    CHECK(rgb != NULL);
    g_free(rgb);
    gst_buffer_unref(buffer);
}

/* ---- hold ---- */

static void frames_are_held_by_reference(void)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 100, NULL),
              *held = gst_glm4v_frame_hold(buffer, 1);
    CHECK(held == buffer);
    gst_buffer_unref(held);
    gst_buffer_unref(buffer);
}

static void frames_that_upstream_cannot_spare_are_copied(void)
{
    GstBufferPool *pool = gst_buffer_pool_new();
    GstStructure *config = gst_buffer_pool_get_config(pool);
    GstBuffer *buffer, *held;
    gst_buffer_pool_config_set_params(config, NULL, 100, 2, 3);
    gst_buffer_pool_set_config(pool, config);
    gst_buffer_pool_set_active(pool, TRUE);
    gst_buffer_pool_acquire_buffer(pool, &buffer, NULL);
    held = gst_glm4v_frame_hold(buffer, 1);
    CHECK(held != buffer && gst_buffer_peek_memory(held, 0) != gst_buffer_peek_memory(buffer, 0));
    gst_buffer_unref(held);
    gst_buffer_unref(buffer);
    gst_buffer_pool_set_active(pool, FALSE);
    gst_object_unref(pool);

    buffer = gst_buffer_new_allocate(NULL, 100, NULL);
    GST_MINI_OBJECT_FLAG_SET(gst_buffer_peek_memory(buffer, 0), GST_MEMORY_FLAG_NO_SHARE);
    held = gst_glm4v_frame_hold(buffer, 1);
    CHECK(held != buffer);
    gst_buffer_unref(held);
    gst_buffer_unref(buffer);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    list_formats();
    TEST(every_format_and_layout_gives_the_same_picture_and_reads_nothing_beyond);
    TEST(rgb_of_packed_formats_is_exact_and_put_on_white);
    TEST(yuv_formats_follow_their_colorimetry);
    TEST(gray16_keeps_its_upper_byte);
    TEST(grey_of_fewer_bits_fills_the_range);
    TEST(interlaced_frames_are_taken_as_they_are_woven);
    TEST(frames_too_small_by_1_to_64_bytes_are_refused);
    TEST(video_metas_that_lie_are_refused);
    TEST(whatever_the_metas_say_nothing_beyond_the_buffer_is_read);
    TEST(crop_meta_cuts_out_its_part);
    TEST(frames_in_several_memories_are_read_whole);
    TEST(frames_are_held_by_reference);
    TEST(frames_that_upstream_cannot_spare_are_copied);
    return test_end();
}
