/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GstAnalytics of GStreamer 1.24 and later: detections are regions, and answers are metadata that
 * relate to them. */
#include "fake_engine.h"
#include "results.h"

#ifdef HAVE_GST_ANALYTICS
#include <gst/analytics/analytics.h>

#define ROI_META 1

/* A frame of one colour with these detections of upstream, each 4x4, side by side. */
static GstBuffer *frame_with(guint n, guint pts_ms)
{
    static const char *const labels[] = { "bolt", "nut" };
    GstBuffer *buffer = support_frame(CAPS_SMALL, 0x4080c0, pts_ms);
    if (n > 0) {
        GstAnalyticsRelationMeta *meta = gst_buffer_add_analytics_relation_meta(buffer);
        for (guint i = 0; i < n; i++) {
            GstAnalyticsODMtd object;
            CHECK(gst_analytics_relation_meta_add_od_mtd(meta, g_quark_from_string(labels[i % 2]),
                                                         (gint)(4 * i), 0, 4, 4, 0.5f, &object));
        }
    }
    return buffer;
}

/* The n-th answer on the buffer, from 0, relates to the n-th detection alone, or to none. */
static void check_answers(GstBuffer *buffer, guint n, guint n_detections, gboolean related)
{
    GstAnalyticsRelationMeta *meta = gst_buffer_get_analytics_relation_meta(buffer);
    guint objects[8], n_objects = 0, n_answers = 0;
    gpointer state = NULL;
    GstAnalyticsMtd mtd;
    gdouble probability = -1; /* all answers are the same */
    REQUIRE(meta != NULL);
    CHECK(gst_structure_get_double(support_meta(buffer), "probability", &probability));
    while (gst_analytics_relation_meta_iterate(meta, &state, gst_analytics_od_mtd_get_mtd_type(),
                                               &mtd))
        objects[n_objects++ % 8] = mtd.id;
    CHECK_EQ(n_objects, n_detections);
    state = NULL;
    while (gst_analytics_relation_meta_iterate(meta, &state, gst_analytics_cls_mtd_get_mtd_type(),
                                               &mtd)) {
        CHECK_STR(g_quark_to_string(gst_analytics_cls_mtd_get_quark(&mtd, 0)),
                  gst_structure_get_string(support_meta(buffer), "choice"));
        CHECK_EQ(gst_analytics_cls_mtd_get_level(&mtd, 0), (float)probability);
        for (guint i = 0; i < n_objects; i++)
            CHECK_EQ(gst_analytics_relation_meta_get_relation(meta, mtd.id, objects[i]),
                     related && i == n_answers ? GST_ANALYTICS_REL_TYPE_RELATE_TO
                                               : GST_ANALYTICS_REL_TYPE_NONE);
        n_answers++;
    }
    CHECK_EQ(n_answers, n);
}

static GstHarness *new_harness(int mode, int roi_mode)
{
    GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, "roi-mode",
                                          roi_mode, "persist-meta", TRUE, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<ok, bad>");
    return support_harness(element, mode == 1, CAPS_SMALL);
}

static void each_answer_relates_to_the_detection_that_it_is_about(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = new_harness(2, ROI_META);
    EACH_RUN(h, CAPS_SMALL)
    for (guint i = 0; i < 6; i++) {
        CHECK_EQ(gst_harness_push(h, frame_with(1 + i % 2, i * 33)), GST_FLOW_OK);
        GstBuffer *buffer = gst_harness_pull(h);
        check_answers(buffer, 1 + i % 2, 1 + i % 2, TRUE);
        gst_buffer_unref(buffer);
    }
    support_done(h);
}

static void an_answer_about_the_whole_frame_relates_to_none(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = new_harness(2, 0);
    EACH_RUN(h, CAPS_SMALL)
    for (guint i = 0; i < 3; i++) {
        CHECK_EQ(gst_harness_push(h, frame_with(i, i * 33)), GST_FLOW_OK);
        GstBuffer *buffer = gst_harness_pull(h);
        check_answers(buffer, 1, i, FALSE);
        gst_buffer_unref(buffer);
    }
    support_done(h);
}

/* What a later frame carries was found in that frame. */
static void answers_on_later_frames_relate_to_none(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = new_harness(1, ROI_META);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, frame_with(1, 0));
        gst_buffer_unref(gst_harness_pull(h));
        results_wait(h->element, 1);
        gst_harness_push(h, frame_with(1, 33));
        GstBuffer *buffer = gst_harness_pull(h);
        check_answers(buffer, 1, 1, FALSE);
        gst_buffer_unref(buffer);
        results_wait(h->element, 1);
    }
    support_done(h);
}

#else

#define OLDER "GStreamer was older than 1.24 when this was built"

static void each_answer_relates_to_the_detection_that_it_is_about(void)
{
    SKIP(OLDER);
}

static void an_answer_about_the_whole_frame_relates_to_none(void)
{
    SKIP(OLDER);
}

static void answers_on_later_frames_relate_to_none(void)
{
    SKIP(OLDER);
}

#endif

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(each_answer_relates_to_the_detection_that_it_is_about);
    TEST(an_answer_about_the_whole_frame_relates_to_none);
    TEST(answers_on_later_frames_relate_to_none);
    return test_end();
}
