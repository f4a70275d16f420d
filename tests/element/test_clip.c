/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clips: which frames belong to one, when it ends, what the end of the stream leaves. The scripted
 * engine tells the color of the first frame of a clip. */
#include "fake_engine.h"
#include "results.h"

#define CAPS_OTHER "video/x-raw,format=RGB,width=8,height=8,framerate=30/1"

static GstHarness *clip_harness(int mode, guint n, guint64 window, guint64 interval)
{
    GstElement *element = support_element("mode", mode, "frames-per-request", n, "window", window,
                                          "interval", interval, NULL);
    return support_harness(element, mode == 1, CAPS_SMALL);
}

static void check_clip(GstElement *element, const char *first, guint frames, guint64 length_ms,
                       guint64 pts_ms)
{
    GstStructure *result = results_next(element), *clip = NULL;
    guint n = 0;
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "ok");
    CHECK_CONTAINS(gst_structure_get_string(result, "text"), first);
    CHECK_EQ(results_uint64(result, "pts"), pts_ms * MS);
    REQUIRE(gst_structure_get(result, "clip", GST_TYPE_STRUCTURE, &clip, NULL));
    gst_structure_get_uint(clip, "frames", &n);
    CHECK_EQ(n, frames);
    CHECK_EQ(results_uint64(clip, "length"), length_ms * MS);
    gst_structure_free(clip);
    gst_structure_free(result);
}

static void push(GstHarness *h, guint from, guint to)
{
    for (guint i = from; i < to; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 100));
}

static void a_clip_has_frames_of_the_window_evenly_spaced(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstHarness *h = clip_harness(mode, 5, 1000 * MS, 1000 * MS);
        EACH_RUN(h, CAPS_SMALL)
        {
            push(h, 0, 11); /* 0, 200, ... 800 are kept; 1000 ends the clip */
            check_clip(h->element, "#000002", 5, 800, 1000);
            CHECK_EQ(fake_get().n_frames, 5);
            CHECK_EQ(fake_get().n_images, 0);
            CHECK(fabs(fake_get().last_timestamp - 0.8) < 1e-6);
            push(h, 11, 21);
            check_clip(h->element, "#00000c", 5, 800, 2000);
            CHECK_EQ(support_stat(h->element, "sampled"), run == 1 ? 4 : 2);
        }
        support_done(h);
    }
}

static void clips_overlap_where_the_window_is_longer_than_interval(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = clip_harness(2, 4, 800 * MS, 400 * MS);
    push(h, 0, 17);
    check_clip(h->element, "#000002", 4, 600, 800);
    check_clip(h->element, "#000006", 4, 600, 1200);
    check_clip(h->element, "#00000a", 4, 600, 1600);
    CHECK_EQ(support_stat(h->element, "sampled"), 3);
    support_done(h);
}

static void the_end_of_the_stream_asks_about_a_clip_that_is_not_full(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstHarness *h = clip_harness(mode, 5, 1000 * MS, 1000 * MS);
        EACH_RUN(h, CAPS_SMALL)
        {
            push(h, 0, 5); /* 0, 200, 400 */
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            check_clip(h->element, "#000000", 3, 400, 400);
            CHECK_EQ(results_count_named(h->element, "glm4vdescribe-result"), 0);
        }
        support_done(h);
    }
}

static void a_flush_or_new_caps_begin_a_new_clip(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = clip_harness(2, 5, 1000 * MS, 1000 * MS);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    push(h, 0, 8);
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    push(h, 0, 11);
    check_clip(h->element, "#000002", 5, 800, 1000);
    push(h, 11, 15);
    GstCaps *caps = gst_caps_from_string(CAPS_OTHER);
    gst_harness_push_event(h, gst_event_new_caps(caps)); /* 1100 to 1400 are gone */
    gst_caps_unref(caps);
    for (guint i = 15; i < 21; i++) {
        gst_harness_push(h, support_frame(CAPS_OTHER, i, i * 100));
    }
    check_clip(h->element, "8x8 #00000f", 4, 500, 2000);
    support_done(h);
}

static void a_trigger_s_clip_is_what_led_to_its_frame(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = clip_harness(2, 3, 600 * MS, 1000 * MS);
    guint64 id;
    g_object_set(h->element, "sample-mode", SAMPLE_TRIGGER, NULL);
    push(h, 0, 9);
    g_signal_emit_by_name(h->element, "describe", NULL, &id);
    push(h, 9, 10);
    check_clip(h->element, "#000006", 3, 300, 900);
    CHECK(gst_harness_push_event(h, gst_event_new_eos()));
    CHECK_EQ(results_count_named(h->element, "glm4vdescribe-result"), 0);
    support_done(h);
}

static gchar *pictures_of(const GstStructure *result)
{
    return gst_value_serialize(gst_structure_get_value(result, "pictures"));
}

static void questions_about_a_clip_are_asked_at_once(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = clip_harness(1, 3, 200 * MS, 1000 * MS);
    gst_util_set_object_arg(G_OBJECT(h->element), "prompts", "<one, two, three>");
    gst_util_set_object_arg(G_OBJECT(h->element), "roi", "<8, 0, 100, 8>");
    EACH_RUN(h, CAPS_SMALL)
    {
        fake_set((fake_script) { .told = true }); /* the first is not answered yet */
        push(h, 0, 3);
        const gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
        while (fake_get().submitted < 3 && g_get_monotonic_time() < end)
            g_usleep(1000);
        CHECK_EQ(fake_get().submitted, 3);
        CHECK_EQ(fake_get().n_frames, 3);
        gchar *pictures[3];
        for (guint i = 0; i < 3; i++) {
            fake_tell("said");
            fake_tell(NULL);
            GstStructure *result = results_next(h->element), *roi = NULL;
            gint width = 0;
            REQUIRE(result && gst_structure_get(result, "roi", GST_TYPE_STRUCTURE, &roi, NULL));
            CHECK_STR(gst_structure_get_string(result, "status"), "ok");
            gst_structure_get_int(roi, "width", &width);
            CHECK_EQ(width, 8); /* what of it lies on the frame */
            pictures[i] = pictures_of(result);
            CHECK_STR(pictures[i], pictures[0]);
            gst_structure_free(roi);
            gst_structure_free(result);
        }
        CHECK(strlen(pictures[0]) > 3 * 32);
        for (guint i = 0; i < 3; i++)
            g_free(pictures[i]);
    }
    support_done(h);
}

static int returned; /* atomic */

static void on_return(gpointer data)
{
    g_free(data);
    g_atomic_int_inc(&returned);
}

static void a_drain_query_gives_the_frames_of_a_clip_back(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = clip_harness(1, 8, 1000 * MS, 1000 * MS);
    GstPad *sink = gst_element_get_static_pad(h->element, "sink");
    GstQuery *query = gst_query_new_drain();
    returned = 0;
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 5; i++) {
        gsize size = 16 * 8 * 3;
        guint8 *data = g_malloc0(size);
        GstBuffer *frame = gst_buffer_new_wrapped_full(0, data, size, 0, size, data, on_return);
        GST_BUFFER_PTS(frame) = i * 150 * MS;
        gst_harness_push(h, frame);
    }
    CHECK_EQ(g_atomic_int_get(&returned), 0);
    gst_pad_query(sink, query);
    CHECK_EQ(g_atomic_int_get(&returned), 5);
    gst_query_unref(query);
    gst_object_unref(sink);
    support_done(h);
}

static void clips_exclude_what_takes_frames_apart(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("frames-per-request", 4, "sample-mode", 4, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    g_object_set(element, "sample-mode", 0, "roi-mode", 1, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    g_object_set(element, "roi-mode", 0, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
    support_free(element);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(a_clip_has_frames_of_the_window_evenly_spaced);
    TEST(clips_overlap_where_the_window_is_longer_than_interval);
    TEST(the_end_of_the_stream_asks_about_a_clip_that_is_not_full);
    TEST(a_flush_or_new_caps_begin_a_new_clip);
    TEST(a_trigger_s_clip_is_what_led_to_its_frame);
    TEST(questions_about_a_clip_are_asked_at_once);
    TEST(a_drain_query_gives_the_frames_of_a_clip_back);
    TEST(clips_exclude_what_takes_frames_apart);
    return test_end();
}
