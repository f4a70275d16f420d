/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scene changes and frames that have not changed: what is described, and what the results of the
 * others say. */
#include "fake_engine.h"
#include "gstglm4vscene.h"
#include "results.h"

#define SCENE_CHANGE 4 /* sample-mode */
#define CAPS_CLIP "video/x-raw,format=I420,width=160,height=90,framerate=30/1"

/* ---- planes ---- */

/* Grey bars and a slope, or their negative. */
static GstBuffer *picture(const GstVideoInfo *info, gboolean negative)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(info), NULL);
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    for (int y = 0; y < info->height; y++)
        for (int x = 0; x < info->width; x++) {
            int value = x / 10 % 2 * 100 + y * 150 / info->height;
            memset(map.data + y * info->stride[0] + 3 * x, negative ? 255 - value : value, 3);
        }
    gst_buffer_unmap(buffer, &map);
    return buffer;
}

static GstBuffer *convert(GstBuffer *from, const GstVideoInfo *in, const GstVideoInfo *out)
{
    GstBuffer *to = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(out), NULL);
    GstVideoConverter *converter = gst_video_converter_new(in, out, NULL);
    GstVideoFrame a, b;
    gst_video_frame_map(&a, in, from, GST_MAP_READ);
    gst_video_frame_map(&b, out, to, GST_MAP_WRITE);
    gst_video_converter_frame(converter, &a, &b);
    gst_video_frame_unmap(&a);
    gst_video_frame_unmap(&b);
    gst_video_converter_free(converter);
    return to;
}

/* Luma of video range differs from that of RGB by up to 20 of 255. */
static void a_picture_looks_alike_in_every_format(void)
{
    const GValue *formats;
    GstCaps *caps = gst_caps_from_string("video/x-raw,format=" GST_VIDEO_FORMATS_ALL);
    GstGlm4vConverter *converter = gst_glm4v_converter_new();
    GstVideoInfo rgb, info;
    GstGlm4vPlane planes[3];
    guint n;
    gst_video_info_set_format(&rgb, GST_VIDEO_FORMAT_RGB, 100, 56);
    GstBuffer *original = picture(&rgb, FALSE), *other = picture(&rgb, TRUE);
    gst_glm4v_plane_read(&planes[0], original, &rgb, 16, converter);
    CHECK(planes[0].known);
    formats = gst_structure_get_value(gst_caps_get_structure(caps, 0), "format");
    n = gst_value_list_get_size(formats);
    for (guint i = 0; i < n; i++) {
        const char *name = g_value_get_string(gst_value_list_get_value(formats, i));
        gst_video_info_set_format(&info, gst_video_format_from_string(name), 100, 56);
        GstBuffer *same = convert(original, &rgb, &info), *changed = convert(other, &rgb, &info);
        gst_glm4v_plane_read(&planes[1], same, &info, 16, converter);
        gst_glm4v_plane_read(&planes[2], changed, &info, 16, converter);
        gdouble like = gst_glm4v_plane_difference(&planes[0], &planes[1]);
        gdouble unlike = gst_glm4v_plane_difference(&planes[1], &planes[2]);
        if (!planes[1].known || like > 0.05 || unlike < 0.2)
            test_fail(__FILE__, __LINE__, "%s: %f from RGB, %f from another picture", name, like,
                      unlike);
        gst_buffer_unref(same);
        gst_buffer_unref(changed);
    }
    CHECK(n > 100);
    gst_buffer_unref(original);
    gst_buffer_unref(other);
    gst_glm4v_converter_free(converter);
    gst_caps_unref(caps);
}

static void frames_that_cannot_be_read_have_no_plane(void)
{
    GstGlm4vConverter *converter = gst_glm4v_converter_new();
    GstGlm4vPlane plane, other;
    GstVideoInfo info;
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 10, NULL);
    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, 100, 56);
    gst_glm4v_plane_read(&plane, buffer, &info, 16, converter);
    CHECK(!plane.known);
    gst_buffer_unref(buffer);
    buffer = picture(&info, FALSE);
    gst_glm4v_plane_read(&other, buffer, &info, 16, converter);
    CHECK(gst_glm4v_plane_difference(&plane, &other) == 1);
    gst_buffer_unref(buffer);
    gst_glm4v_converter_free(converter);
}

/* ---- a clip with known cuts ---- */

enum { CLIP_FRAMES = 1800, CLIP_CUTS = 20 };

static guint32 mix(guint32 a)
{
    a = (a ^ 61) ^ (a >> 16);
    a *= 9;
    a ^= a >> 4;
    a *= 0x27d4eb2d;
    return a ^ (a >> 15);
}

/* Scenes differ in texture and brightness. In each something moves, some pan, some shake, the light
 * drifts, and each pixel is noisy. */
static guint8 clip_pixel(guint scene, guint frame, int x, int y)
{
    guint32 seed = mix(scene * 7919 + 13);
    int pan = scene % 3 == 1 ? (int)frame : 0, shake = scene % 4 == 2 ? (int)(frame % 3) : 0;
    double fx = 0.03 + (seed & 15) * 0.004, fy = 0.02 + (seed >> 4 & 15) * 0.006;
    double base = 70 + (seed >> 8 & 63) + 20 * sin(frame * 0.01);
    double value = base + 45 * sin((x + pan + shake) * fx + (seed >> 16 & 7)) +
                   35 * cos((y + shake) * fy * 2 + (seed >> 20 & 7));
    int bx = (int)(frame * (1 + scene % 4)) % 160, by = 20 + (int)(seed >> 24 & 31);
    if (abs(x - bx) < 14 && abs(y - by) < 12)
        value = 235;
    value += (int)(mix((guint32)(frame * 14400 + (guint)(y * 160 + x))) % 17) - 8;
    return (guint8)CLAMP(value, 0, 255);
}

static GstBuffer *clip_frame(guint scene, guint frame)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 160 * 90 * 3 / 2, NULL);
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    memset(map.data, 128, map.size);
    for (int y = 0; y < 90; y++)
        for (int x = 0; x < 160; x++)
            map.data[y * 160 + x] = clip_pixel(scene, frame, x, y);
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = gst_util_uint64_scale(frame, GST_SECOND, 30);
    GST_BUFFER_DURATION(buffer) = 33 * MS;
    return buffer;
}

static void twenty_cuts_of_a_minute_are_found_and_no_others(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SCENE_CHANGE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_CLIP);
    for (guint run = 0; run < 2; run++) {
        guint cut[CLIP_CUTS + 1] = { 0 }, found = 0, scene = 0, other = 0;
        if (run)
            support_run(h, 1, CAPS_CLIP);
        for (guint i = 0; i < CLIP_CUTS; i++)
            cut[i] = (i + 1) * 85 + mix(i) % 41; /* 1.5 to 4.2 s apart */
        cut[CLIP_CUTS] = CLIP_FRAMES;
        for (guint i = 0; i < CLIP_FRAMES; i++) {
            gboolean begins = i == cut[scene];
            scene += begins;
            gst_harness_push(h, clip_frame(scene, i));
            GstBuffer *out = gst_harness_pull(h);
            gboolean described = support_count_meta(out) > 0;
            found += described && begins;
            other += described && !begins;
            gst_buffer_unref(out);
        }
        printf("# %u cuts found, %u other frames described\n", found, other);
        CHECK_EQ(scene, CLIP_CUTS);
        CHECK_EQ(found, CLIP_CUTS);
        CHECK(other <= 1 + 1); /* the first frame, and one more */
    }
    support_done(h);
}

static void a_scene_that_comes_too_soon_is_described_when_interval_has_passed(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SCENE_CHANGE, "interval",
                                          (guint64)(500 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 40; i++) { /* frame 6 is new, after 198 ms */
            gst_harness_push(h, support_frame(CAPS_SMALL, i < 6 ? 0x202020 : 0xe0e0e0, i * 33));
            GstBuffer *out = gst_harness_pull(h);
            CHECK_EQ(support_count_meta(out), i == 0 || i == 16); /* 528 ms */
            gst_buffer_unref(out);
        }
    }
    support_done(h);
}

static void the_threshold_decides(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SCENE_CHANGE, "interval",
                                          (guint64)0, "scene-threshold", 0.3, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    static const guint32 colors[] = { 0x101010, 0x505050, 0x505050, 0xf0f0f0, 0x101010 };
    for (guint i = 0; i < G_N_ELEMENTS(colors); i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, colors[i], i * 33));
    /* the first; 0.63 after 0.25; 0.88: a cut is not what frames differ by */
    CHECK_EQ(support_stat(element, "sampled"), 3);
    support_done(h);
}

/* ---- unchanged ---- */

static void a_frame_that_looks_alike_is_unchanged_and_refers_to_the_answer(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL,
                                              "change-threshold", 0.05, "max-pending", 99, NULL);
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
        EACH_RUN(h, CAPS_SMALL)
        {
            for (guint i = 0; i < 12; i++) /* a new picture every fourth frame, others flicker */
                gst_harness_push(h, support_frame(CAPS_SMALL,
                                                  (i / 4 * 0x404040 + 0x101010) + i % 2 * 0x030303,
                                                  i * 33));
            for (guint i = 0; i < 12; i++) {
                GstStructure *result = results_next(element);
                REQUIRE(result != NULL);
                CHECK_EQ(results_uint64(result, "id"), i);
                CHECK_STR(gst_structure_get_string(result, "status"), i % 4 ? "unchanged" : "ok");
                CHECK_EQ(gst_structure_has_field(result, "refers-to"), i % 4 != 0);
                if (i % 4) {
                    CHECK_EQ(results_uint64(result, "refers-to"), i / 4 * 4);
                    CHECK_STR(gst_structure_get_string(result, "finish-reason"), "unchanged");
                    CHECK_STR(gst_structure_get_string(result, "text"), "");
                }
                gst_structure_free(result);
            }
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            CHECK_EQ(support_stat(element, "inferred"), run == 1 ? 6 : 3);
            CHECK_EQ(support_stat(element, "unchanged"), run == 1 ? 18 : 9);
            CHECK(support_wait_stat(element, "text-pushed", run == 1 ? 6 : 3));
        }
        gst_harness_teardown(text);
        support_done(h);
    }
}

static void without_an_answer_to_refer_to_a_frame_is_described(void)
{
    fake_set((fake_script) { .result_code = GLM4V_ERR_INTERNAL });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "change-threshold", 0.05, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 0));
    results_check(element, 0, "error", "error");
    fake_set((fake_script) { 0 });
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 33));
    results_check(element, 1, "ok", "stop");
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 66));
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "unchanged");
    CHECK_EQ(results_uint64(result, "refers-to"), 1);
    gst_structure_free(result);
    support_done(h);
}

static void another_question_or_a_flush_is_answered_anew(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "change-threshold", 0.05, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 0));
    g_object_set(element, "prompt", "Anything new?", NULL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 33));
    CHECK_STR(fake_get().prompt, "Anything new?");
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 0));
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x303030, 33));
    CHECK_EQ(support_stat(element, "inferred"), 3);
    CHECK_EQ(support_stat(element, "unchanged"), 1);
    support_done(h);
}

static void change_threshold_is_refused_with_triggers(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("sample-mode", SAMPLE_TRIGGER, "change-threshold", 0.1, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    GstMessage *message = support_message(element, GST_MESSAGE_ERROR);
    GError *error = NULL;
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    CHECK_CONTAINS(error->message, "change-threshold");
    g_error_free(error);
    gst_message_unref(message);
    g_object_set(element, "change-threshold", 0.0, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
    support_free(element);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(a_picture_looks_alike_in_every_format);
    TEST(frames_that_cannot_be_read_have_no_plane);
    TEST(twenty_cuts_of_a_minute_are_found_and_no_others);
    TEST(a_scene_that_comes_too_soon_is_described_when_interval_has_passed);
    TEST(the_threshold_decides);
    TEST(a_frame_that_looks_alike_is_unchanged_and_refers_to_the_answer);
    TEST(without_an_answer_to_refer_to_a_frame_is_described);
    TEST(another_question_or_a_flush_is_answered_anew);
    TEST(change_threshold_is_refused_with_triggers);
    return test_end();
}
