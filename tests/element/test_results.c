/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exactly one result for each sampled frame, in order, whatever happens to it; in time or marked as
 * late; and the messages about time. With a scripted engine. */
#include "fake_engine.h"
#include "results.h"

/* ---- exactly one ---- */

static int metas; /* atomic */

static GstPadProbeReturn count_metas(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_add(&metas, (int)support_count_meta(GST_PAD_PROBE_INFO_BUFFER(info)));
    return GST_PAD_PROBE_OK;
}

static void each_sampled_frame_has_one_result_in_order(void)
{
    enum { FRAMES = 300 };
    for (int mode = 1; mode <= 2; mode++) {
        fake_set((fake_script) { .answer_ns = mode == 1 ? 7 * MS : MS / 2 });
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        GstPad *pad = gst_element_get_static_pad(element, "src");
        gst_harness_set_drop_buffers(h, TRUE);
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, count_metas, NULL, NULL);
        gst_object_unref(pad);
        EACH_RUN(h, CAPS_SMALL)
        {
            guint64 before = support_stat(element, "results");
            guint answered = 0;
            metas = 0;
            for (guint i = 0; i < FRAMES; i++) {
                gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
                g_usleep((gulong)(i * 7919 % 3000));
            }
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            CHECK_EQ(support_stat(element, "results") - before, FRAMES);
            for (guint i = 0; i < FRAMES; i++) {
                GstStructure *result = results_next(element);
                guint64 id = 0, frame = 0;
                REQUIRE(result != NULL);
                gst_structure_get(result, "id", G_TYPE_UINT64, &id, "frame-number", G_TYPE_UINT64,
                                  &frame, NULL);
                CHECK_EQ(id, i);
                CHECK_EQ(frame, i);
                answered += !strcmp(gst_structure_get_string(result, "status"), "ok");
                gst_structure_free(result);
            }
            CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
            CHECK(answered > 10);
            /* all lie on frames, apart from those that come after the last one */
            CHECK(g_atomic_int_get(&metas) >= FRAMES - (mode == 1 ? 40 : 0));
            if (mode == 2)
                CHECK_EQ(answered, FRAMES);
        }
        support_done(h);
    }
}

static void so_many_samples_wait_as_max_pending_says(void)
{
    fake_set((fake_script) { .answer_ns = 60 * MS });
    GstElement *element = support_element("sample-mode", SAMPLE_ALL, "max-pending", 3, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
        g_usleep(20000); /* the first is with the engine */
        for (guint i = 1; i <= 6; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        results_check(element, 0, "ok", "stop");
        for (guint i = 1; i <= 3; i++)
            results_check(element, i, "dropped", "busy");
        for (guint i = 4; i <= 6; i++)
            results_check(element, i, "ok", "stop");
    }
    support_done(h);
}

static void frames_before_the_model_have_their_results_at_once(void)
{
    fake_set((fake_script) { .load_ns = 300 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gint64 start = g_get_monotonic_time();
    for (guint i = 0; i < 3; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        results_check(element, i, "dropped", "loading");
    }
    CHECK(g_get_monotonic_time() - start < 300 * 1000);
    CHECK_EQ(support_stat(element, "dropped-loading"), 3);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    gst_harness_push(h, support_frame(CAPS_SMALL, 9, 99));
    results_check(element, 3, "ok", "stop");
    support_done(h);
}

static void without_a_model_each_frame_has_an_error(void)
{
    fake_set((fake_script) { .open_code = GLM4V_ERR_NOMEM, .load_ns = 50 * MS });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, NULL);
        GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
        gst_object_unref(element);
        gst_harness_set_src_caps_str(h, CAPS_SMALL);
        if (mode == 1)
            CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_ERROR);
        for (guint i = 0; i < 3; i++) {
            CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33)), GST_FLOW_OK);
            results_check(element, i, "error", "error");
        }
        CHECK_EQ(support_stat(element, "errors"), 3);
        support_done(h);
    }
}

static void frames_that_lie_have_an_error_in_their_place(void)
{
    fake_set((fake_script) { .answer_ns = 5 * MS });
    GstElement *element =
        support_element("mode", 1, "sample-mode", SAMPLE_ALL, "max-pending", 9, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 6; i++) {
            GstBuffer *frame = i % 2 ? gst_buffer_new_allocate(NULL, 10, NULL)
                                     : support_frame(CAPS_SMALL, i, i * 33);
            GST_BUFFER_PTS(frame) = i * 33 * MS;
            gst_harness_push(h, frame);
        }
        for (guint i = 0; i < 6; i++)
            results_check(element, i, i % 2 ? "error" : "ok", i % 2 ? "error" : "stop");
    }
    support_done(h);
}

/* ---- G-12: while all changes ---- */

static void set_something(GstElement *element, GRand *random)
{
    static const char *const values[][2] = {
        { "sample-mode", "all" },
        { "sample-mode", "interval" },
        { "sample-mode", "trigger" },
        { "sample-mode", "every-nth" },
        { "sample-mode", "scene-change" },
        { "interval", "50000000" },
        { "interval", "0" },
        { "nth", "3" },
        { "prompts", "<a, b, c>" },
        { "prompts", "<>" },
        { "roi", "<2, 2, 8, 4>" },
        { "roi", "<>" },
        { "roi", "<90, 0, 4, 4>" },
        { "only-on", "nobody" },
        { "roi-mode", "meta" },
        { "roi-mode", "property" },
        { "max-pending", "5" },
        { "max-pending", "0" },
        { "deadline", "3000000" },
        { "deadline", "0" },
        { "change-threshold", "0.1" },
        { "change-threshold", "0" },
        { "frames-per-request", "4" },
        { "frames-per-request", "1" },
        { "window", "200000000" },
        { "mode", "sync" },
        { "mode", "async" },
        { "stall-timeout", "1000000" },
        { "stall-timeout", "0" },
        { "prompt", "{time}?" },
    };
    guint i = (guint)g_rand_int_range(random, 0, G_N_ELEMENTS(values));
    if (i == 13)
        g_object_set(element, "only-on", g_rand_boolean(random) ? "nobody" : NULL, NULL);
    else
        gst_util_set_object_arg(G_OBJECT(element), values[i][0], values[i][1]);
}

static gint stop_storm;

static gpointer storm(gpointer user)
{
    GRand *random = g_rand_new_with_seed(7);
    guint64 id;
    while (!g_atomic_int_get(&stop_storm)) {
        set_something(user, random);
        if (g_rand_int_range(random, 0, 8) == 0)
            g_signal_emit_by_name(user, "describe", g_rand_boolean(random) ? "x" : NULL, &id);
        g_usleep((gulong)g_rand_int_range(random, 0, 1500));
    }
    g_rand_free(random);
    return NULL;
}

static void each_due_frame_has_its_result_while_properties_change(void)
{
    fake_set((fake_script) { .answer_ns = MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_set_drop_buffers(h, TRUE);
    EACH_RUN(h, CAPS_SMALL)
    {
        g_atomic_int_set(&stop_storm, 0);
        GThread *thread = g_thread_new("storm", storm, element);
        for (guint i = 0; i < support_count(1000, 20000); i++) {
            GstBuffer *frame = support_frame(CAPS_SMALL, i / 5 * 0x111111, i * 33);
            if (i % 7 == 0)
                gst_buffer_add_video_region_of_interest_meta(frame, "bolt", i % 16, 0, 4, 4);
            CHECK_EQ(gst_harness_push(h, frame), GST_FLOW_OK);
            g_usleep(i % 11 * 100);
        }
        g_atomic_int_set(&stop_storm, 1);
        g_thread_join(thread);
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        guint64 sampled = support_stat(element, "sampled");
        CHECK_EQ(support_stat(element, "results"), sampled);
        CHECK_EQ(support_stat(element, "inferred") + support_stat(element, "unchanged") +
                     support_stat(element, "timeouts") + support_stat(element, "errors") +
                     support_stat(element, "dropped-busy") +
                     support_stat(element, "dropped-loading") +
                     support_stat(element, "dropped-eos"),
                 sampled);
        printf("# %u results, %u answers, %u unchanged, %u late, %u errors\n", (guint)sampled,
               (guint)support_stat(element, "inferred"), (guint)support_stat(element, "unchanged"),
               (guint)support_stat(element, "timeouts"), (guint)support_stat(element, "errors"));
        CHECK(support_stat(element, "inferred") > 0);
        /* ready for the next run, whatever was set last */
        g_object_set(element, "change-threshold", 0.0, "frames-per-request", 1, "sample-mode",
                     SAMPLE_ALL, "roi-mode", 0, NULL);
        guint64 next = 0;
        GstStructure *result;
        GstBus *bus = gst_element_get_bus(element);
        GstMessage *message;
        while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT))) {
            result = gst_structure_copy(gst_message_get_structure(message));
            if (gst_structure_has_name(result, "glm4vdescribe-result"))
                CHECK_EQ(results_uint64(result, "id"), next++);
            gst_structure_free(result);
            gst_message_unref(message);
        }
        gst_object_unref(bus);
        CHECK(next > 0);
    }
    support_done(h);
}

/* ---- deadline ---- */

static void after_its_deadline_a_frame_has_a_timeout(void)
{
    fake_set((fake_script) { .answer_ns = 10000 * MS });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, "deadline",
                                              (guint64)(40 * MS), NULL);
        GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            gint64 start = g_get_monotonic_time();
            gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
            results_check(element, 0, "timeout", "deadline");
            CHECK(g_get_monotonic_time() - start >= 40 * 1000);
            CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
        }
        CHECK_EQ(support_stat(element, "inferred"), 0);
        CHECK_EQ(support_stat(element, "timeouts"), 1); /* since NULL */
        support_done(h);
    }
}

static void the_engine_hears_of_the_deadline(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "deadline", (guint64)(5000 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    guint64 before = (guint64)g_get_monotonic_time() * 1000;
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    guint64 after = (guint64)g_get_monotonic_time() * 1000;
    CHECK(fake_get().deadline >= before + 5000 * MS - MS);
    CHECK(fake_get().deadline <= after + 5000 * MS);
    support_done(h);
}

static void an_engine_that_hangs_does_not_keep_results_back(void)
{
    fake_set((fake_script) { .answer_ns = 700 * MS, .hang = true });
    GstElement *element =
        support_element("mode", 1, "sample-mode", SAMPLE_ALL, "deadline", (guint64)(50 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gint64 start = g_get_monotonic_time();
    for (guint i = 0; i < 3; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        results_check(element, i, "timeout", "deadline");
    }
    CHECK(g_get_monotonic_time() - start < 700 * 1000);
    fake_set((fake_script) { 0 });
    g_usleep(800 * 1000); /* it lets go of the first at last */
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 200));
    results_check(element, 3, "ok", "stop");
    CHECK_EQ(fake_get().submitted, 1); /* since fake_set(): those that were late were not asked */
    support_done(h);
}

static void the_deadline_counts_from_the_running_time_of_live_frames(void)
{
    fake_set((fake_script) { .answer_ns = 10 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, "deadline",
                                          (guint64)(2000 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_use_systemclock(h);
    EACH_RUN(h, CAPS_SMALL)
    {
        GstClock *clock = gst_element_get_clock(element);
        GstClockTime now = gst_clock_get_time(clock) - gst_element_get_base_time(element);
        GstBuffer *old = support_frame(CAPS_SMALL, 1, 0), *fresh = support_frame(CAPS_SMALL, 2, 0);
        gst_object_unref(clock);
        GST_BUFFER_PTS(old) = now - 3 * GST_SECOND;
        GST_BUFFER_PTS(fresh) = now;
        gst_harness_push(h, old);
        results_check(element, 0, "timeout", "deadline");
        gst_harness_push(h, fresh);
        results_check(element, 1, "ok", "stop");
        CHECK_EQ(fake_get().submitted, run + 1);
    }
    support_done(h);
}

static void three_timeouts_in_a_row_are_told_once(void)
{
    fake_set((fake_script) { .answer_ns = 10000 * MS });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "deadline", (guint64)(5 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 2; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        CHECK_EQ(results_count_named(element, "glm4vdescribe-late"), 0);
        for (guint i = 2; i < 6; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        GstStructure *late = results_next_named(element, "glm4vdescribe-late");
        guint64 id = 0;
        REQUIRE(late != NULL);
        gst_structure_get_uint64(late, "id", &id);
        CHECK_EQ(id, 2);
        gst_structure_free(late);
        CHECK_EQ(results_count_named(element, "glm4vdescribe-late"), 0);
        fake_set((fake_script) { 0 }); /* one in time, and they are counted anew */
        g_object_set(element, "deadline", (guint64)(5000 * MS), NULL);
        gst_harness_push(h, support_frame(CAPS_SMALL, 6, 200));
        fake_set((fake_script) { .answer_ns = 10000 * MS });
        g_object_set(element, "deadline", (guint64)(5 * MS), NULL);
        for (guint i = 7; i < 10; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        CHECK_EQ(results_count_named(element, "glm4vdescribe-late"), 1);
    }
    support_done(h);
}

/* ---- the latest ---- */

static guint64 last_id(GstElement *element)
{
    GstStructure *last = NULL;
    guint64 id = G_MAXUINT64;
    g_object_get(element, "last-result", &last, NULL);
    if (last)
        gst_structure_get_uint64(last, "id", &id);
    g_clear_pointer(&last, gst_structure_free);
    return id;
}

static void the_last_result_can_be_asked_for(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_set_drop_buffers(h, TRUE);
    EACH_RUN(h, CAPS_SMALL)
    {
        CHECK_EQ(last_id(element), G_MAXUINT64);
        for (guint i = 0; i < 3; i++) {
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
            CHECK_EQ(last_id(element), i);
        }
        gst_harness_push_event(h, gst_event_new_flush_start());
        CHECK_EQ(last_id(element), G_MAXUINT64);
        gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
        gst_harness_push_event(h, gst_event_new_segment(&segment));
        gst_harness_push(h, support_frame(CAPS_SMALL, 3, 0));
        CHECK_EQ(last_id(element), 3);
    }
    support_done(h);
}

/* ---- an engine that stands still ---- */

/* A frame with this reference time in seconds, if kind is not NULL. */
static GstBuffer *frame_captured(const char *kind, guint64 seconds)
{
    GstBuffer *frame = support_frame(CAPS_SMALL, 1, 0);
    GstCaps *caps = kind ? gst_caps_new_empty_simple(kind) : NULL;
    if (caps)
        gst_buffer_add_reference_timestamp_meta(frame, caps, seconds * GST_SECOND + 7, 33 * MS);
    gst_clear_caps(&caps);
    return frame;
}

static void a_result_tells_when_its_frame_was_captured(void)
{
    static const struct {
        const char *kind;
        guint64 seconds, utc; /* 0: not told */
    } cases[] = {
        { "timestamp/x-unix", 1764547200, 1764547200 }, /* 2025-12-01 */
        { "timestamp/x-ntp", 3973536000, 1764547200 },
        { "timestamp/x-ntp", 12, 0 }, /* a server without the time counts from its start */
        { "timestamp/x-ptp", 1764547237, 0 },
        { NULL, 0, 0 },
    };
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "interval", 0ull, NULL);
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
            gst_harness_push(h, frame_captured(cases[i].kind, cases[i].seconds));
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            CHECK_EQ(gst_structure_has_field(result, "capture-utc"), cases[i].utc > 0);
            if (cases[i].utc)
                CHECK_EQ(results_uint64(result, "capture-utc"), cases[i].utc * GST_SECOND + 7);
            gst_structure_free(result);
        }
        support_done(h);
    }
}

static void a_stalled_engine_is_told_and_so_is_its_recovery(void)
{
    fake_set((fake_script) { .answer_ns = 600 * MS, .hang = true });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, "stall-timeout",
                                          (guint64)(100 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstStructure *told;
    gboolean stalled = FALSE;
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    told = results_next_named(element, "glm4vdescribe-stalled");
    REQUIRE(told != NULL);
    gst_structure_get_boolean(told, "stalled", &stalled);
    CHECK(stalled);
    gst_structure_free(told);
    results_check(element, 0, "error", "error");
    GstMessage *warning = support_message(element, GST_MESSAGE_WARNING);
    CHECK(warning != NULL);
    g_clear_pointer(&warning, gst_message_unref);
    fake_set((fake_script) { 0 });
    g_usleep(700 * 1000);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 33));
    told = results_next_named(element, "glm4vdescribe-stalled");
    REQUIRE(told != NULL);
    gst_structure_get_boolean(told, "stalled", &stalled);
    CHECK(!stalled);
    gst_structure_free(told);
    results_check(element, 1, "ok", "stop");
    CHECK_EQ(results_count_named(element, "glm4vdescribe-stalled"), 0);
    support_done(h);
}

/* ---- QOS and delay ---- */

static void dropped_frames_are_told_by_qos_once_a_second(void)
{
    fake_set((fake_script) { .answer_ns = 2 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_set_drop_buffers(h, TRUE);
    EACH_RUN(h, CAPS_SMALL)
    {
        gint64 start = g_get_monotonic_time();
        for (guint i = 0; i < 400; i++) {
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
            g_usleep(500);
        }
        gst_harness_push_event(h, gst_event_new_eos());
        guint64 most = 1 + (guint64)(g_get_monotonic_time() - start) / G_USEC_PER_SEC, n = 0;
        GstBus *bus = gst_element_get_bus(element);
        GstMessage *message;
        while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_QOS))) {
            guint64 processed = 0, dropped = 0, pts = GST_CLOCK_TIME_NONE;
            GstFormat format;
            gboolean live = FALSE;
            gst_message_parse_qos_stats(message, &format, &processed, &dropped);
            gst_message_parse_qos(message, &live, NULL, NULL, &pts, NULL);
            CHECK_EQ(format, GST_FORMAT_BUFFERS);
            CHECK(live && dropped > 0 && GST_CLOCK_TIME_IS_VALID(pts));
            CHECK(processed + dropped <= 400);
            gst_message_unref(message);
            n++;
        }
        gst_object_unref(bus);
        CHECK(n >= 1);
        CHECK(n <= most);
        CHECK(support_stat(element, "dropped-busy") > 50);
    }
    support_done(h);
}

static void a_delay_beyond_the_declared_one_is_a_warning(void)
{
    fake_set((fake_script) { .answer_ns = 60 * MS });
    GstElement *element =
        support_element("mode", 1, "lateness", (guint64)(20 * MS), "interval", (guint64)0, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    guint64 delay = 0;
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 3; i++) {
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
            results_check(element, i, "ok", "stop");
        }
        CHECK(support_wait_stat(element, "results", run == 1 ? 6 : 3));
        g_usleep(20000);
        CHECK(support_count_messages(element, GST_MESSAGE_WARNING) <= 2);
        g_object_get(element, "max-observed-delay", &delay, NULL);
        CHECK(delay >= 60 * MS);
        CHECK_EQ(delay, support_stat(element, "delay-max"));
    }
    g_object_set(element, "lateness", (guint64)(60000 * MS), NULL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 9, 200));
    results_check(element, 3, "ok", "stop");
    g_usleep(20000);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 0);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(each_sampled_frame_has_one_result_in_order);
    TEST(so_many_samples_wait_as_max_pending_says);
    TEST(frames_before_the_model_have_their_results_at_once);
    TEST(without_a_model_each_frame_has_an_error);
    TEST(frames_that_lie_have_an_error_in_their_place);
    TEST(each_due_frame_has_its_result_while_properties_change);
    TEST(after_its_deadline_a_frame_has_a_timeout);
    TEST(the_engine_hears_of_the_deadline);
    TEST(an_engine_that_hangs_does_not_keep_results_back);
    TEST(the_deadline_counts_from_the_running_time_of_live_frames);
    TEST(three_timeouts_in_a_row_are_told_once);
    TEST(the_last_result_can_be_asked_for);
    TEST(a_result_tells_when_its_frame_was_captured);
    TEST(a_stalled_engine_is_told_and_so_is_its_recovery);
    TEST(dropped_frames_are_told_by_qos_once_a_second);
    TEST(a_delay_beyond_the_declared_one_is_a_warning);
    return test_end();
}
