/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts of frames: a fixed region, regions that others have found, frames that are not looked at.
 * The scripted engine tells size and middle pixel of what it was shown. */
#include "fake_engine.h"
#include "results.h"

#define CAPS_TILES "video/x-raw,format=RGB,width=64,height=48,framerate=30/1"
#define ROI_META 1

/* 8x8 tiles; the red of each is its column, the green its row. */
static GstBuffer *tiles(guint pts_ms)
{
    GstBuffer *frame = support_frame(CAPS_TILES, 0, pts_ms);
    GstMapInfo map;
    gst_buffer_map(frame, &map, GST_MAP_WRITE);
    for (int y = 0; y < 48; y++)
        for (int x = 0; x < 64; x++) {
            map.data[(y * 64 + x) * 3] = (guint8)(x / 8);
            map.data[(y * 64 + x) * 3 + 1] = (guint8)(y / 8);
        }
    gst_buffer_unmap(frame, &map);
    return frame;
}

static GstStructure *check_seen(GstElement *element, const char *expected)
{
    GstStructure *result = results_next(element);
    if (!result) {
        test_fail(__FILE__, __LINE__, "no result for %s", expected);
        return gst_structure_new_empty("none");
    }
    CHECK_STR(gst_structure_get_string(result, "status"), "ok");
    CHECK_STR(gst_structure_get_string(result, "text"), expected);
    return result;
}

static void check_roi(const GstStructure *result, int x, int y, int width, int height)
{
    GstStructure *roi = NULL;
    int got[4] = { -1, -1, -1, -1 };
    REQUIRE(gst_structure_get(result, "roi", GST_TYPE_STRUCTURE, &roi, NULL));
    gst_structure_get(roi, "x", G_TYPE_INT, &got[0], "y", G_TYPE_INT, &got[1], "width", G_TYPE_INT,
                      &got[2], "height", G_TYPE_INT, &got[3], NULL);
    CHECK(got[0] == x && got[1] == y && got[2] == width && got[3] == height);
    gst_structure_free(roi);
}

static GstHarness *tiles_harness(const char *roi, int roi_mode)
{
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "roi-mode", roi_mode, NULL);
    if (roi)
        gst_util_set_object_arg(G_OBJECT(element), "roi", roi);
    return support_harness(element, FALSE, CAPS_TILES);
}

static void the_region_of_the_property_is_shown_to_the_model(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = tiles_harness("<16, 8, 8, 24>", 0);
    EACH_RUN(h, CAPS_TILES)
    {
        gst_harness_push(h, tiles(0));
        GstStructure *result = check_seen(h->element, "8x24 #020200");
        guint width = 0;
        check_roi(result, 16, 8, 8, 24);
        gst_structure_get_uint(result, "width", &width);
        CHECK_EQ(width, 64); /* of the frame */
        gst_structure_free(result);
    }
    support_done(h);
}

static void a_region_is_clipped_and_one_outside_is_an_error(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = tiles_harness("<56, 40, 100, 100>", 0);
    gst_harness_push(h, tiles(0));
    GstStructure *result = check_seen(h->element, "8x8 #070500");
    check_roi(result, 56, 40, 8, 8);
    gst_structure_free(result);
    gst_util_set_object_arg(G_OBJECT(h->element), "roi", "<64, 0, 8, 8>");
    gst_harness_push(h, tiles(33));
    result = results_next(h->element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "error");
    CHECK_CONTAINS(gst_structure_get_string(result, "message"), "outside");
    gst_structure_free(result);
    support_done(h);
}

static void boxes_are_pixels_of_the_whole_frame(void)
{
    static const glm4v_box box = { .x = 1, .y = 2, .width = 3, .height = 4, .label = "hole" };
    static const glm4v_action action = {
        .action = "Tap", .text = "", .message = "", .element = { 5, 6 }, .to = { -1, -1 }
    };
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1, .action = &action });
    GstHarness *h = tiles_harness("<16, 8, 8, 24>", 0);
    gst_harness_push(h, tiles(0));
    GstBuffer *out = gst_harness_pull(h);
    GstVideoRegionOfInterestMeta *meta = gst_buffer_get_video_region_of_interest_meta_id(out, 0);
    REQUIRE(meta != NULL);
    CHECK(meta->x == 17 && meta->y == 10 && meta->w == 3 && meta->h == 4);
    GstStructure *result = results_next(h->element), *tap = NULL;
    REQUIRE(result != NULL);
    gst_structure_get(result, "action", GST_TYPE_STRUCTURE, &tap, NULL);
    const GValue *element = gst_structure_get_value(tap, "element");
    CHECK_EQ(g_value_get_int(gst_value_array_get_value(element, 0)), 21);
    CHECK_EQ(g_value_get_int(gst_value_array_get_value(element, 1)), 14);
    gst_structure_free(tap);
    gst_structure_free(result);
    gst_buffer_unref(out);
    support_done(h);
}

static void each_region_of_the_frame_has_a_result(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = tiles_harness(NULL, ROI_META);
    g_object_set(h->element, "only-on", "bolt, nut", NULL);
    EACH_RUN(h, CAPS_TILES)
    {
        GstBuffer *frame = tiles(0);
        gst_buffer_add_video_region_of_interest_meta(frame, "bolt", 0, 0, 8, 8);
        gst_buffer_add_video_region_of_interest_meta(frame, "hand", 8, 8, 8, 8);
        gst_buffer_add_video_region_of_interest_meta(frame, "nut", 40, 16, 16, 16);
        gst_harness_push(h, frame);
        GstStructure *bolt = check_seen(h->element, "8x8 #000000");
        GstStructure *nut = check_seen(h->element, "16x16 #060300"), *roi = NULL;
        check_roi(bolt, 0, 0, 8, 8);
        check_roi(nut, 40, 16, 16, 16);
        gst_structure_get(nut, "roi", GST_TYPE_STRUCTURE, &roi, NULL);
        CHECK_STR(gst_structure_get_string(roi, "label"), "nut");
        gst_structure_free(roi);
        gst_structure_free(bolt);
        gst_structure_free(nut);
        GstBuffer *out = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(out), 2);
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void regions_count_from_the_corner_of_the_stored_frame(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = tiles_harness(NULL, ROI_META);
    GstBuffer *frame = tiles(0);
    GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(frame);
    crop->x = crop->y = 8;
    crop->width = 56;
    crop->height = 40;
    gst_buffer_add_video_region_of_interest_meta(frame, "bolt", 16, 24, 8, 8);
    gst_harness_push(h, frame);
    GstStructure *result = check_seen(h->element, "8x8 #020300");
    check_roi(result, 8, 16, 8, 8); /* of what is shown */
    gst_structure_free(result);
    support_done(h);
}

static void a_crop_beyond_all_pixels_moves_no_region_around(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = tiles_harness(NULL, ROI_META);
    for (guint i = 0; i < 2; i++) {
        GstBuffer *frame = tiles(i * 33);
        GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta(frame);
        crop->x = crop->y = (guint)G_MAXINT + 1 + i;
        crop->width = crop->height = 8;
        gst_buffer_add_video_region_of_interest_meta(frame, "bolt", 16, 24, 8, 8);
        gst_harness_push(h, frame);
        GstStructure *result = results_next(h->element);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "error");
        check_roi(result, -G_MAXINT / 4, -G_MAXINT / 4, 8, 8);
        gst_structure_free(result);
    }
    support_done(h);
}

static void labels_and_prompts_multiply(void)
{
    fake_set((fake_script) { .echo = true });
    GstHarness *h = tiles_harness(NULL, ROI_META);
    static const char *expected[] = { "Is the bolt whole?", "bolt!", "Is the nut whole?", "nut!" };
    gst_util_set_object_arg(G_OBJECT(h->element), "prompts",
                            "<\"Is the {label} whole?\", \"{label}!\">");
    GstBuffer *frame = tiles(0);
    gst_buffer_add_video_region_of_interest_meta(frame, "bolt", 0, 0, 8, 8);
    gst_buffer_add_video_region_of_interest_meta(frame, "nut", 40, 16, 16, 16);
    gst_harness_push(h, frame);
    for (guint i = 0; i < 4; i++)
        gst_structure_free(check_seen(h->element, expected[i]));
    support_done(h);
}

/* ---- gate ---- */

static void frames_without_the_label_are_not_described(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", 2, "interval", (guint64)(300 * MS), "only-on", "person", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_TILES);
    EACH_RUN(h, CAPS_TILES)
    {
        for (guint i = 0; i < 30; i++) {
            GstBuffer *frame = tiles(i * 33);
            if (i >= 5 && i < 20)
                gst_buffer_add_video_region_of_interest_meta(frame, i == 7 ? "dog" : "person", 0, 0,
                                                             8, 8);
            gst_harness_push(h, frame);
            GstBuffer *out = gst_harness_pull(h);
            /* the first with the label, then the grid of 300 ms */
            CHECK_EQ(support_count_meta(out), i == 5 || i == 15);
            gst_buffer_unref(out);
        }
        CHECK(support_stat(element, "gated") > 0);
        CHECK_EQ(support_stat(element, "sampled"), run == 1 ? 4 : 2);
    }
    support_done(h);
}

static void a_trigger_is_answered_whatever_lies_on_the_frame(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_TRIGGER, "only-on", "person", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_TILES);
    guint64 id;
    g_signal_emit_by_name(element, "describe", NULL, &id);
    gst_harness_push(h, tiles(0));
    gst_structure_free(check_seen(element, "64x48 #040300"));
    g_object_set(element, "roi-mode", ROI_META, NULL);
    g_signal_emit_by_name(element, "describe", NULL, &id);
    gst_harness_push(h, tiles(33));
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "error");
    CHECK_CONTAINS(gst_structure_get_string(result, "message"), "no region");
    CHECK_EQ(results_uint64(result, "trigger-id"), 2);
    gst_structure_free(result);
    support_done(h);
}

static void a_roi_that_is_not_four_numbers_is_refused(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<1, 2, 3>");
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<>");
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
    support_free(element);
}

static void in_sync_each_region_has_its_result_as_parameters(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, "roi-mode",
                                              ROI_META, "only-on", "b,c", NULL);
        gst_util_set_object_arg(G_OBJECT(element), "prompts", "<one, two>");
        GstHarness *h = support_harness(element, FALSE, CAPS_TILES);
        EACH_RUN(h, CAPS_TILES)
        {
            static const char *const labels[] = { "a", "b", "c" };
            guint64 id = 0;
            GstBuffer *frame = tiles(0);
            for (guint i = 0; i < 3; i++)
                gst_buffer_add_video_region_of_interest_meta(frame, labels[i], 8 * i, 8, 8, 8);
            gst_harness_push(h, frame);
            GstBuffer *out = gst_harness_pull(h);
            gpointer state = NULL;
            GstMeta *meta;
            for (guint i = 0; i < 3; i++) {
                meta = gst_buffer_iterate_meta_filtered(out, &state,
                                                        GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE);
                REQUIRE(meta != NULL);
                GList *params = ((GstVideoRegionOfInterestMeta *)meta)->params;
                CHECK_EQ(g_list_length(params), mode == 2 && i > 0 ? 2 : 0);
                for (guint prompt = 0; params; params = params->next, prompt++) {
                    char expected[16];
                    guint number = 9;
                    snprintf(expected, sizeof expected, "8x8 #%02x0100", i);
                    CHECK(gst_structure_has_name(params->data, "glm4vdescribe"));
                    CHECK_EQ(results_uint64(params->data, "id"), id++);
                    gst_structure_get_uint(params->data, "prompt-number", &number);
                    CHECK_EQ(number, prompt);
                    CHECK_STR(gst_structure_get_string(params->data, "text"), expected);
                    CHECK_STR(gst_structure_get_string(params->data, "status"), "ok");
                }
            }
            results_wait(element, 4);
            gst_buffer_unref(out);
        }
        support_done(h);
    }
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(the_region_of_the_property_is_shown_to_the_model);
    TEST(a_region_is_clipped_and_one_outside_is_an_error);
    TEST(boxes_are_pixels_of_the_whole_frame);
    TEST(each_region_of_the_frame_has_a_result);
    TEST(regions_count_from_the_corner_of_the_stored_frame);
    TEST(a_crop_beyond_all_pixels_moves_no_region_around);
    TEST(labels_and_prompts_multiply);
    TEST(frames_without_the_label_are_not_described);
    TEST(a_trigger_is_answered_whatever_lies_on_the_frame);
    TEST(a_roi_that_is_not_four_numbers_is_refused);
    TEST(in_sync_each_region_has_its_result_as_parameters);
    return test_end();
}
