/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* G-01: up and down through all states, with the leaks tracer counting what stays behind, and
 * memory watched. */
#include <malloc.h>
#include <unistd.h>

#include "fake_engine.h"
#include "support.h"

#define BLOCK 1000u

static GstTracer *leaks_tracer(void)
{
    GList *tracers = gst_tracing_get_active_tracers();
    GstTracer *leaks = NULL;
    for (GList *t = tracers; t; t = t->next)
        if (g_signal_lookup("activity-get-checkpoint", G_OBJECT_TYPE(t->data)))
            leaks = t->data; /* lives as long as the process */
    g_list_free_full(tracers, gst_object_unref);
    return leaks;
}

/* Objects made and freed since the tracer's activity-start-tracking. */
static void count_objects(GstTracer *leaks, guint *made, guint *freed)
{
    GstStructure *log = NULL;
    g_signal_emit_by_name(leaks, "activity-get-checkpoint", &log);
    *made = gst_value_list_get_size(gst_structure_get_value(log, "objects-created-list"));
    *freed = gst_value_list_get_size(gst_structure_get_value(log, "objects-removed-list"));
    gst_structure_free(log);
}

/* The same when all are freed, or after PATIENCE: the thread of a pad that was released while it
 * pushed may still be on its way out, with the pad and its task. */
static void wait_freed(GstTracer *leaks, guint *made, guint *freed)
{
    gint64 end = g_get_monotonic_time() + PATIENCE / 1000;
    count_objects(leaks, made, freed);
    while (*freed != *made && g_get_monotonic_time() < end) {
        printf("# %u objects of %u are freed\n", *freed, *made);
        g_usleep(100000);
        count_objects(leaks, made, freed);
    }
}

static void push_some(GstHarness *h, GstHarness *text, guint frames)
{
    for (guint i = 0; i < frames; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 400));
    gst_harness_set_drop_buffers(text, TRUE);
}

/* One element through its life, ended in one of several ways. */
static void live_once(guint cycle)
{
    fake_set((fake_script) { .answer_ns = cycle % 4 * MS, .load_ns = cycle % 3 * 2 * MS });
    GstElement *element = support_element("mode", cycle % 3, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    gst_object_unref(element);
    if (cycle % 2)
        support_wait_loaded(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    push_some(h, text, cycle % 7);
    if (cycle % 5 == 0)
        gst_harness_push_event(h, gst_event_new_eos());
    gst_element_set_state(element, GST_STATE_READY);
    gst_element_set_state(element, GST_STATE_PAUSED);
    gst_element_set_state(element, cycle % 2 ? GST_STATE_NULL : GST_STATE_PLAYING);
    gst_harness_teardown(text);
    support_done(h);
}

static void cycles_through_all_states_leave_nothing_behind(void)
{
    for (guint i = 0; i < 12; i++)
        live_once(i); /* types, pools and caches are made now */
    GstTracer *leaks = leaks_tracer();
    guint tasks = support_threads(), cycles = 0, made, freed;
    REQUIRE(leaks != NULL);
    while (cycles < support_count(BLOCK, 100 * BLOCK) && test_ok) {
        g_signal_emit_by_name(leaks, "activity-start-tracking");
        for (guint i = 0; i < BLOCK; i++)
            live_once(cycles++);
        wait_freed(leaks, &made, &freed);
        g_signal_emit_by_name(leaks, "activity-stop-tracking"); /* its log grows */
        printf("# %u cycles: %u objects made, %u freed in the last %u\n", cycles, made, freed,
               BLOCK);
        CHECK(made > 50 * BLOCK);
        CHECK_EQ(freed, made);
    }
    CHECK(support_threads() <= tasks + 2); /* GStreamer keeps some for later */
    fake_counts c = fake_get();
    CHECK_EQ(c.models, 0);
    CHECK_EQ(c.engines, 0);
    CHECK_EQ(c.requests, 0);
}

static void memory_does_not_grow_with_the_cycles(void)
{
    const guint eighth = support_count(200, 2000);
    size_t before = 0;
    /* Tables inside GLib and GStreamer fill in the first rounds; one object left a cycle would
     * show. */
    for (guint i = 0; i < 11 * eighth; i++) {
        if (i == 3 * eighth)
            before = mallinfo2().uordblks;
        live_once(i);
    }
    long grown = (long)(mallinfo2().uordblks - before), bound = 8 * (long)eighth * 16;
    printf("# %u cycles: %ld bytes more\n", 8 * eighth, grown);
    CHECK(grown < bound);
}

/* Walks of so many states, whatever the first ones are. */
static void walk(GstElement *element, guint steps)
{
    static const GstState states[] = { GST_STATE_NULL, GST_STATE_READY, GST_STATE_PAUSED,
                                       GST_STATE_PLAYING };
    guint walks = 1;
    for (guint i = 0; i < steps; i++)
        walks *= G_N_ELEMENTS(states);
    for (guint number = 0; number < walks; number++) {
        for (guint rest = number, i = 0; i < steps; i++, rest /= G_N_ELEMENTS(states)) {
            const GstState state = states[rest % G_N_ELEMENTS(states)];
            GstState reached = GST_STATE_VOID_PENDING;
            CHECK(gst_element_set_state(element, state) != GST_STATE_CHANGE_FAILURE);
            gst_element_get_state(element, &reached, NULL, 0);
            CHECK_EQ(reached, state);
        }
        support_count_messages(element, 0);
    }
}

static void every_walk_through_the_states_works(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    walk(element, support_count(4, 6));
    support_free(element);
    CHECK_EQ(fake_get().models, 0);
    CHECK_EQ(fake_get().engines, 0);
}

static void an_element_plays_again_after_ready(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 5; i++) {
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_harness_push(h, support_frame(CAPS_SMALL, 0x100 + i, 0));
        GstBuffer *out = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(out), 1);
        gst_buffer_unref(out);
        gst_element_set_state(element, GST_STATE_READY);
        gst_element_set_state(element, GST_STATE_PLAYING);
        gst_harness_push_event(h, gst_event_new_stream_start("again"));
        gst_harness_set_src_caps_str(h, CAPS_SMALL);
        gst_harness_push_event(h, gst_event_new_segment(&segment));
    }
    support_done(h);
}

/* With the word "leaks": under the leaks tracer, which needs memory itself. */
int main(int argc, char **argv)
{
    gboolean traced = argc > 1 && strcmp(argv[1], "leaks") == 0;
    if (traced)
        g_setenv("GST_TRACERS", "leaks", TRUE);
    fake_init(&argc, &argv);
    if (traced) {
        TEST(cycles_through_all_states_leave_nothing_behind);
    } else {
        TEST(memory_does_not_grow_with_the_cycles);
        TEST(every_walk_through_the_states_works);
        TEST(an_element_plays_again_after_ready);
    }
    return test_end();
}
