/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* persist-meta: frames without a result of their own repeat the last one with its age, until a
 * newer one, a flush, a segment, caps or READY. */
#include "fake_engine.h"
#include "results.h"

#define CAPS_OTHER "video/x-raw,format=RGB,width=8,height=8,framerate=30/1"

static GstHarness *persistent(int mode, guint64 interval_ms)
{
    GstElement *element =
        support_element("mode", mode, "interval", interval_ms * MS, "persist-meta", TRUE, NULL);
    return support_harness(element, mode == 1, CAPS_SMALL);
}

/* The n-th of the metas, from 0, or NULL. */
static const GstStructure *meta_at(GstBuffer *buffer, guint n)
{
    const GstMetaInfo *info = gst_meta_get_info("Glm4vDescribeMeta");
    gpointer state = NULL;
    GstMeta *meta;
    while ((meta = gst_buffer_iterate_meta(buffer, &state)))
        if (meta->info == info && n-- == 0)
            return gst_custom_meta_get_structure((GstCustomMeta *)meta);
    return NULL;
}

/* A meta with this id, new (age_ms < 0) or repeated. */
static void check_meta(const GstStructure *meta, guint64 id, int age_ms)
{
    REQUIRE(meta != NULL);
    CHECK_EQ(results_uint64(meta, "id"), id);
    CHECK_EQ(gst_structure_has_field(meta, "age"), age_ms >= 0);
    if (age_ms >= 0)
        CHECK_EQ(results_uint64(meta, "age"), (guint64)age_ms * MS);
}

/* A frame goes through; n metas lie on it. */
static GstBuffer *pass(GstHarness *h, guint32 rgb, guint pts_ms, guint n)
{
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, rgb, pts_ms)), GST_FLOW_OK);
    GstBuffer *buffer = gst_harness_pull(h);
    CHECK_EQ(support_count_meta(buffer), n);
    return buffer;
}

static void pass_with(GstHarness *h, guint pts_ms, guint64 id, int age_ms)
{
    GstBuffer *buffer = pass(h, 0x404040, pts_ms, 1);
    check_meta(support_meta(buffer), id, age_ms);
    gst_buffer_unref(buffer);
}

static void pass_without(GstHarness *h, guint pts_ms)
{
    gst_buffer_unref(pass(h, 1, pts_ms, 0));
}

static void frames_between_repeat_the_last_result_with_its_age(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = persistent(2, 100);
    EACH_RUN(h, CAPS_SMALL)
    for (guint i = 0; i < 12; i++)
        pass_with(h, i * 25, i / 4, i % 4 ? (int)(i % 4 * 25) : -1);
    support_done(h);
}

static void in_async_the_age_counts_from_the_described_frame(void)
{
    GstHarness *h = persistent(1, 100000);
    EACH_RUN(h, CAPS_SMALL)
    {
        fake_set((fake_script) { .answer_ns = 20 * MS });
        pass_without(h, 0);
        pass_without(h, 25);
        results_wait(h->element, 1);
        pass_with(h, 50, 0, -1);
        pass_with(h, 75, 0, 75);
        pass_with(h, 5000, 0, 5000);
    }
    support_done(h);
}

static void without_it_nothing_is_repeated(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = persistent(2, 100);
    g_object_set(h->element, "persist-meta", FALSE, NULL);
    pass_with(h, 0, 0, -1);
    pass_without(h, 25);
    g_object_set(h->element, "persist-meta", TRUE, NULL); /* it is known from the next one on */
    pass_without(h, 50);
    pass_with(h, 100, 1, -1);
    pass_with(h, 125, 1, 25);
    g_object_set(h->element, "attach-meta", FALSE, NULL);
    pass_without(h, 150);
    g_object_set(h->element, "attach-meta", TRUE, NULL);
    pass_without(h, 175);
    support_done(h);
}

/* ---- what ends it ---- */

static void push_segment(GstHarness *h)
{
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
}

static void a_flush_a_segment_and_caps_end_it(void)
{
    fake_set((fake_script) { 0 });
    for (guint what = 0; what < 3; what++) {
        GstHarness *h = support_harness(
            support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, "persist-meta", TRUE, NULL),
            TRUE, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            const char *caps = what == 2 ? CAPS_OTHER : CAPS_SMALL;
            guint64 id = 0;
            g_signal_emit_by_name(h->element, "describe", NULL, &id);
            pass_without(h, 0);
            results_wait(h->element, 1);
            pass_with(h, 25, 0, -1);
            pass_with(h, 50, 0, 50);
            if (what == 0) {
                gst_harness_push_event(h, gst_event_new_flush_start());
                gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
            }
            if (what < 2)
                push_segment(h);
            else
                gst_harness_set_src_caps_str(h, caps);
            gst_harness_push(h, support_frame(caps, 1, 75));
            GstBuffer *buffer = gst_harness_pull(h);
            CHECK_EQ(support_count_meta(buffer), 0);
            gst_buffer_unref(buffer);
        }
        support_done(h);
    }
}

/* The answer of a frame of the earlier caps comes on one frame of the new ones, and no more. */
static void what_was_seen_before_new_caps_is_not_repeated(void)
{
    GstHarness *h = persistent(1, 100000);
    EACH_RUN(h, CAPS_SMALL)
    {
        fake_set((fake_script) { .answer_ns = 20 * MS });
        pass_without(h, 0);
        gst_harness_set_src_caps_str(h, CAPS_OTHER);
        results_wait(h->element, 1);
        for (guint i = 1; i < 4; i++) {
            gst_harness_push(h, support_frame(CAPS_OTHER, 1, i * 25));
            GstBuffer *buffer = gst_harness_pull(h);
            CHECK_EQ(support_count_meta(buffer), i == 1);
            gst_buffer_unref(buffer);
        }
    }
    support_done(h);
}

/* ---- which results ---- */

static void each_question_has_its_own(void)
{
    fake_set((fake_script) { .echo = true });
    GstHarness *h = persistent(2, 100);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_util_set_object_arg(G_OBJECT(h->element), "prompts", "<a, b, c>");
        for (guint i = 0; i < 2; i++) {
            GstBuffer *buffer = pass(h, 1, i * 25, 3);
            for (guint k = 0; k < 3; k++) {
                check_meta(meta_at(buffer, k), k, i ? 25 : -1);
                CHECK_STR(gst_structure_get_string(meta_at(buffer, k), "text"),
                          ((const char *[]) { "a", "b", "c" })[k]);
            }
            gst_buffer_unref(buffer);
        }
        gst_util_set_object_arg(G_OBJECT(h->element), "prompts", "<a>");
        pass_with(h, 100, 3, -1); /* fewer questions: those of before are gone */
        pass_with(h, 125, 3, 25);
    }
    support_done(h);
}

static void each_region_of_the_frame_described_last_has_its_own(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = persistent(2, 0);
    g_object_set(h->element, "roi-mode", 1, NULL);
    EACH_RUN(h, CAPS_SMALL)
    {
        guint64 first = 0;
        for (guint i = 0; i < 8; i++) {
            const guint n = i < 4 ? 3 : 2; /* regions; only every other frame has some */
            GstBuffer *frame = support_frame(CAPS_SMALL, 1, i * 25);
            for (guint k = 0; k < n && i % 2 == 0; k++)
                gst_buffer_add_video_region_of_interest_meta(frame, "part", 4 * k, 0, 4, 4);
            gst_harness_push(h, frame);
            GstBuffer *buffer = gst_harness_pull(h);
            CHECK_EQ(support_count_meta(buffer), n);
            for (guint k = 0; k < n; k++)
                check_meta(meta_at(buffer, k), first + k, i % 2 ? 25 : -1);
            first += i % 2 ? n : 0;
            gst_buffer_unref(buffer);
        }
    }
    support_done(h);
}

static void results_without_news_lie_beside_the_answer_that_holds(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "interval", 0ull, "change-threshold", 0.05,
                                          "persist-meta", TRUE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        pass_with(h, 0, 0, -1);
        for (guint i = 1; i < 4; i++) {
            GstBuffer *buffer = pass(h, 0x404040, i * 25, 2);
            check_meta(meta_at(buffer, 0), i, -1);
            CHECK_STR(gst_structure_get_string(meta_at(buffer, 0), "status"), "unchanged");
            check_meta(meta_at(buffer, 1), 0, (int)i * 25);
            CHECK_STR(gst_structure_get_string(meta_at(buffer, 1), "status"), "ok");
            gst_buffer_unref(buffer);
        }
    }
    support_done(h);
}

static void a_dropped_frame_leaves_the_last_answer(void)
{
    GstHarness *h = support_harness(
        support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, "persist-meta", TRUE, NULL), TRUE,
        CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        guint64 id = 0;
        fake_set((fake_script) { 0 });
        g_signal_emit_by_name(h->element, "describe", NULL, &id);
        pass_without(h, 0);
        results_wait(h->element, 1);
        pass_with(h, 25, 0, -1);
        fake_set((fake_script) { .answer_ns = 20000 * MS });
        g_signal_emit_by_name(h->element, "describe", NULL, &id);
        pass_with(h, 50, 0, 50);
        g_signal_emit_by_name(h->element, "cancel");
        results_wait(h->element, 1);
        GstBuffer *buffer = pass(h, 1, 75, 2);
        check_meta(meta_at(buffer, 0), 1, -1);
        check_meta(meta_at(buffer, 1), 0, 75);
        gst_buffer_unref(buffer);
        pass_with(h, 100, 0, 100);
    }
    support_done(h);
}

/* An old good part must not be shown in place of one that could not be looked at. */
static void an_error_or_a_timeout_takes_the_place_of_the_answer(void)
{
    const fake_script scripts[] = { { .result_code = GLM4V_ERR_INTERNAL },
                                    { .answer_ns = 20000 * MS } };
    GstHarness *h = persistent(2, 100);
    EACH_RUN(h, CAPS_SMALL)
    for (guint i = 0; i < 2; i++) {
        fake_set((fake_script) { 0 });
        pass_with(h, i * 200, 2 * i, -1);
        g_object_set(h->element, "deadline", (guint64)(20 * MS), NULL);
        fake_set(scripts[i]);
        pass_with(h, i * 200 + 100, 2 * i + 1, -1);
        pass_with(h, i * 200 + 125, 2 * i + 1, 25);
        g_object_set(h->element, "deadline", (guint64)0, NULL);
    }
    support_done(h);
}

/* ---- what it costs ---- */

static void boxes_are_repeated_as_regions_with_the_age(void)
{
    static const glm4v_box box = { 1, 2, 3, 4, "hole" };
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1 });
    GstHarness *h = persistent(2, 100);
    for (guint i = 0; i < 3; i++) {
        GstBuffer *buffer = pass(h, 1, i * 25, 1);
        GstVideoRegionOfInterestMeta *region = gst_buffer_get_video_region_of_interest_meta(buffer);
        REQUIRE(region != NULL);
        CHECK_STR(g_quark_to_string(region->roi_type), "hole");
        GstStructure *param = gst_video_region_of_interest_meta_get_param(region, "glm4vdescribe");
        REQUIRE(param != NULL);
        check_meta(param, 0, i ? (int)i * 25 : -1);
        gst_buffer_unref(buffer);
    }
    support_done(h);
}

static void pixels_are_not_copied(void)
{
    for (int mode = 1; mode <= 2; mode++) {
        fake_set((fake_script) { 0 });
        GstHarness *h = persistent(mode, 100);
        for (guint i = 0; i < 20; i++) {
            GstBuffer *frame = support_frame(CAPS_SMALL, 1, i * 25);
            GstMemory *pixels = gst_buffer_peek_memory(frame, 0);
            gst_buffer_ref(frame); /* somebody else looks at it too */
            gst_harness_push(h, frame);
            GstBuffer *buffer = gst_harness_pull(h);
            CHECK(gst_buffer_peek_memory(buffer, 0) == pixels);
            CHECK_EQ(support_count_meta(frame), 0); /* and sees nothing of it */
            gst_buffer_unref(buffer);
            gst_buffer_unref(frame);
        }
        support_done(h);
    }
}

static void frames_without_a_time_have_no_age(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", 2, "sample-mode", 1, "nth", 2, "persist-meta", TRUE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 4; i++) {
        GstBuffer *frame = support_frame(CAPS_SMALL, 1, 0);
        GST_BUFFER_PTS(frame) = GST_CLOCK_TIME_NONE;
        gst_harness_push(h, frame);
        GstBuffer *buffer = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(buffer), 1);
        CHECK_EQ(gst_structure_has_field(support_meta(buffer), "age"), i % 2);
        if (i % 2)
            CHECK_EQ(results_uint64(support_meta(buffer), "age"), GST_CLOCK_TIME_NONE);
        gst_buffer_unref(buffer);
    }
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(frames_between_repeat_the_last_result_with_its_age);
    TEST(in_async_the_age_counts_from_the_described_frame);
    TEST(without_it_nothing_is_repeated);
    TEST(a_flush_a_segment_and_caps_end_it);
    TEST(what_was_seen_before_new_caps_is_not_repeated);
    TEST(each_question_has_its_own);
    TEST(each_region_of_the_frame_described_last_has_its_own);
    TEST(results_without_news_lie_beside_the_answer_that_holds);
    TEST(a_dropped_frame_leaves_the_last_answer);
    TEST(an_error_or_a_timeout_takes_the_place_of_the_answer);
    TEST(boxes_are_repeated_as_regions_with_the_age);
    TEST(pixels_are_not_copied);
    TEST(frames_without_a_time_have_no_age);
    return test_end();
}
