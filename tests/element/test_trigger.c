/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Triggers: by event, by action signal, by a meta on the frame. Each has its result, in order; none
 * takes the place of another. */
#include "fake_engine.h"
#include "results.h"

static GstEvent *new_trigger(guint64 id, const char *prompt)
{
    GstStructure *structure =
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_UINT64, id, NULL);
    if (prompt)
        gst_structure_set(structure, "prompt", G_TYPE_STRING, prompt, NULL);
    return gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM, structure);
}

static void check_trigger(GstElement *element, guint64 id, const char *status)
{
    g_free(results_check_trigger(element, id, status));
}

static void check_text(GstElement *element, guint64 id, const char *expected)
{
    char *text = results_check_trigger(element, id, "ok");
    CHECK_CONTAINS(text, expected);
    g_free(text);
}

static GstHarness *trigger_harness(int mode)
{
    return support_harness(support_element("mode", mode, "sample-mode", SAMPLE_TRIGGER, NULL),
                           mode == 1, CAPS_SMALL);
}

static void an_event_describes_the_frame_that_follows_it(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstHarness *h = trigger_harness(mode);
        EACH_RUN(h, CAPS_SMALL)
        {
            gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
            CHECK(gst_harness_push_event(h, new_trigger(4711, NULL)));
            gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
            gst_harness_push(h, support_frame(CAPS_SMALL, 3, 66));
            CHECK(gst_harness_push_event(h, new_trigger(4712, "Is it whole?")));
            gst_harness_push(h, support_frame(CAPS_SMALL, 4, 99));
            check_text(h->element, 4711, "#000002");
            check_text(h->element, 4712, "#000004");
            CHECK_STR(fake_get().prompt, "Is it whole?");
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            CHECK_EQ(results_count_named(h->element, "glm4vdescribe-result"), 0);
        }
        CHECK_EQ(support_stat(h->element, "sampled"), 2); /* since NULL */
        support_done(h);
    }
}

static void the_trigger_s_id_comes_back_as_it_was(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(2);
    GstStructure *trigger = gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_STRING,
                                              "part 17/\xe4\xbb\xb6", NULL);
    gst_harness_push_event(h, gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM, trigger));
    gst_harness_push_event(h,
                           gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM,
                                                gst_structure_new_empty("glm4vdescribe/trigger")));
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    GstStructure *first = results_next(h->element), *second = results_next(h->element);
    REQUIRE(first && second);
    CHECK_STR(gst_structure_get_string(first, "trigger-id"), "part 17/\xe4\xbb\xb6");
    CHECK(!gst_structure_has_field(second, "trigger-id"));
    gst_structure_free(first);
    gst_structure_free(second);
    support_done(h);
}

static void the_action_signal_describes_the_next_frame(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(1);
    guint64 id = 99;
    EACH_RUN(h, CAPS_SMALL)
    {
        g_signal_emit_by_name(h->element, "describe", NULL, &id);
        CHECK_EQ(id, 1);
        gst_harness_push(h, support_frame(CAPS_SMALL, 5, 0));
        check_text(h->element, 1, "#000005");
        g_signal_emit_by_name(h->element, "describe", "What is new?", &id);
        CHECK_EQ(id, 2);
        gst_harness_push(h, support_frame(CAPS_SMALL, 6, 33));
        check_text(h->element, 2, "#000006");
        CHECK_STR(fake_get().prompt, "What is new?");
    }
    gst_element_set_state(h->element, GST_STATE_READY);
    g_signal_emit_by_name(h->element, "describe", NULL, &id);
    CHECK_EQ(id, 0);
    support_done(h);
}

static void a_meta_on_the_frame_is_a_trigger(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(2);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 4; i++) {
            GstBuffer *frame = support_frame(CAPS_SMALL, 0x10 + i, i * 33);
            for (guint n = 0; n < i; n++) {
                GstCustomMeta *meta = gst_buffer_add_custom_meta(frame, "Glm4vDescribeTrigger");
                gst_structure_set(gst_custom_meta_get_structure(meta), "id", G_TYPE_UINT64,
                                  (guint64)(i * 10 + n), NULL);
            }
            gst_harness_push(h, frame);
            GstBuffer *out = gst_harness_pull(h);
            CHECK_EQ(support_count_meta(out), i);
            gst_buffer_unref(out);
            for (guint n = 0; n < i; n++)
                check_trigger(h->element, i * 10 + n, "ok");
        }
    }
    support_done(h);
}

/* ---- queue ---- */

static void triggers_wait_and_never_replace_one_another(void)
{
    fake_set((fake_script) { .answer_ns = 5 * MS });
    GstHarness *h = trigger_harness(1);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 16; i++) {
            gst_harness_push_event(h, new_trigger(i, NULL));
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        }
        for (guint i = 0; i < 16; i++) {
            char expected[16];
            snprintf(expected, sizeof expected, "#%06x", i);
            check_text(h->element, i, expected);
        }
    }
    support_done(h);
}

static void check_queue(guint max_pending, guint fits)
{
    fake_set((fake_script) { .answer_ns = 100 * MS });
    GstHarness *h = trigger_harness(1);
    g_object_set(h->element, "max-pending", max_pending, NULL);
    gst_harness_push_event(h, new_trigger(0, NULL));
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    g_usleep(40000); /* the first is with the engine */
    for (guint i = 1; i <= fits + 4; i++) {
        gst_harness_push_event(h, new_trigger(i, NULL));
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
    }
    fake_set((fake_script) { 0 });
    for (guint i = 0; i <= fits + 4; i++)
        check_trigger(h->element, i, i <= fits ? "ok" : "dropped");
    CHECK_EQ(support_stat(h->element, "dropped-busy"), 4);
    support_done(h);
}

static void what_does_not_fit_is_dropped_in_its_place(void)
{
    check_queue(0, 16);
    check_queue(2, 2);
}

static void triggers_and_samples_have_results_of_their_own(void)
{
    fake_set((fake_script) { .answer_ns = 2 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        guint triggered = 0;
        for (guint i = 0; i < 60; i++) {
            if (i % 10 == 5)
                gst_harness_push_event(h, new_trigger(i, NULL));
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        }
        gst_harness_push_event(h, gst_event_new_eos());
        for (guint i = 0; i < 66; i++) {
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            CHECK_EQ(results_uint64(result, "id"), i);
            if (gst_structure_has_field(result, "trigger-id")) {
                CHECK_STR(gst_structure_get_string(result, "status"), "ok");
                CHECK_EQ(results_uint64(result, "trigger-id"),
                         results_uint64(result, "frame-number"));
                triggered++;
            }
            gst_structure_free(result);
        }
        CHECK_EQ(triggered, 6);
    }
    support_done(h);
}

/* ---- no frame ---- */

static void a_trigger_waits_for_a_frame_that_can_be_described(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(2);
    GstBuffer *gap = support_frame(CAPS_SMALL, 1, 0), *broken = support_frame(CAPS_SMALL, 2, 33);
    GST_BUFFER_FLAG_SET(gap, GST_BUFFER_FLAG_GAP);
    GST_BUFFER_FLAG_SET(broken, GST_BUFFER_FLAG_CORRUPTED);
    gst_harness_push_event(h, new_trigger(1, NULL));
    gst_harness_push(h, gap);
    gst_harness_push(h, broken);
    CHECK_EQ(support_stat(h->element, "sampled"), 0);
    gst_harness_push(h, support_frame(CAPS_SMALL, 3, 66));
    check_text(h->element, 1, "#000003");
    support_done(h);
}

static void a_trigger_that_no_frame_comes_for_is_dropped_at_the_end(void)
{
    fake_set((fake_script) { .answer_ns = 30 * MS });
    GstHarness *h = trigger_harness(1);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push_event(h, new_trigger(1, NULL));
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        gst_harness_push_event(h, new_trigger(2, NULL));
        gst_harness_push_event(h, gst_event_new_eos());
        check_trigger(h->element, 1, "ok");
        check_trigger(h->element, 2, "dropped");
    }
    support_done(h);
}

static void only_so_many_triggers_wait_for_a_frame(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(1);
    guint64 id = 0;
    for (guint i = 1; i <= 4096; i++) {
        g_signal_emit_by_name(h->element, "describe", NULL, &id);
        CHECK_EQ(id, i);
    }
    g_signal_emit_by_name(h->element, "describe", NULL, &id);
    CHECK_EQ(id, 0);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    CHECK(support_wait_stat(h->element, "results", 4096));
    CHECK_EQ(support_stat(h->element, "inferred") + support_stat(h->element, "dropped-busy"), 4096);
    support_done(h);
}

static void a_flush_forgets_triggers(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = trigger_harness(2);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, new_trigger(1, NULL));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    CHECK_EQ(support_stat(h->element, "sampled"), 0);
    support_done(h);
}

static void triggers_before_the_model_have_a_result_at_once(void)
{
    fake_set((fake_script) { .load_ns = 300 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gst_harness_push_event(h, new_trigger(8, NULL));
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    check_trigger(element, 8, "dropped");
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    CHECK_EQ(support_stat(element, "sampled"), 1);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(an_event_describes_the_frame_that_follows_it);
    TEST(the_trigger_s_id_comes_back_as_it_was);
    TEST(the_action_signal_describes_the_next_frame);
    TEST(a_meta_on_the_frame_is_a_trigger);
    TEST(triggers_wait_and_never_replace_one_another);
    TEST(what_does_not_fit_is_dropped_in_its_place);
    TEST(triggers_and_samples_have_results_of_their_own);
    TEST(a_trigger_waits_for_a_frame_that_can_be_described);
    TEST(a_trigger_that_no_frame_comes_for_is_dropped_at_the_end);
    TEST(only_so_many_triggers_wait_for_a_frame);
    TEST(a_flush_forgets_triggers);
    TEST(triggers_before_the_model_have_a_result_at_once);
    return test_end();
}
