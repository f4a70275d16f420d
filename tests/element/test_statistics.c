/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running statistics: counts of verdicts and statuses, the 99th percentile of delays, the message
 * every so often, and a beginning anew. With a scripted engine. */
#include <gst/check/gsttestclock.h>

#include "fake_engine.h"
#include "gstglm4vstatistics.h"
#include "results.h"

#define STATS "glm4vdescribe-stats"
#define OK 0xff0000u
#define SCRATCH 0x00ff00u

static GstElement *inspector(void)
{
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<ok, scratch>");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<scratch>");
    gst_util_set_object_arg(G_OBJECT(element), "thresholds", "<0.9, 0.9>");
    return element;
}

static void push(GstHarness *h, guint32 rgb, guint n)
{
    static guint pts;
    for (guint i = 0; i < n; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, rgb, pts++ * 33));
}

static void check_counts(GstElement *element, const guint64 counts[4])
{
    static const char *const names[] = { "pass", "fail", "unknown", "results" };
    for (guint i = 0; i < 4; i++)
        CHECK_EQ(support_stat(element, names[i]), counts[i]);
}

static void verdicts_are_counted_until_the_counters_begin_anew(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint run = 1; run < 3; run++) {
        push(h, OK, 5);
        push(h, SCRATCH, 3);
        push(h, 0x808000, 2);
        check_counts(element, (const guint64[]) { 5, 3, 2, 10 });
        fake_set((fake_script) { .result_code = GLM4V_ERR_INTERNAL });
        push(h, OK, 1); /* no answer: timeout-verdict */
        fake_set((fake_script) { 0 });
        check_counts(element, (const guint64[]) { 5, 4, 2, 11 });
        CHECK_EQ(support_stat(element, "errors"), 1);
        CHECK_EQ(support_stat(element, "inferred"), 10);
        g_signal_emit_by_name(element, "reset-stats");
        check_counts(element, (const guint64[]) { 0, 0, 0, 0 });
        CHECK_EQ(support_stat(element, "frames-seen"), 0);
        CHECK_EQ(support_stat(element, "delay-p99"), 0);
    }
    support_done(h);
}

static char *since(GstElement *element)
{
    GstStructure *stats = NULL;
    g_object_get(element, "stats", &stats, NULL);
    char *text = g_strdup(gst_structure_get_string(stats, "since"));
    gst_structure_free(stats);
    return text;
}

static void statistics_tell_since_when_they_count(void)
{
    fake_set((fake_script) { 0 });
    GDateTime *before = g_date_time_new_now_utc();
    GstElement *element = inspector();
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    char *text = since(element);
    GDateTime *at = g_date_time_new_from_iso8601(text, NULL);
    REQUIRE(at != NULL);
    CHECK(g_date_time_difference(at, before) > -G_TIME_SPAN_SECOND);
    CHECK(g_date_time_difference(at, before) < G_TIME_SPAN_MINUTE);
    g_usleep(1100 * 1000);
    g_signal_emit_by_name(element, "reset-stats");
    char *later = since(element);
    CHECK(strcmp(later, text) > 0);
    g_free(later);
    g_free(text);
    g_date_time_unref(at);
    g_date_time_unref(before);
    support_done(h);
}

/* ---- delays ---- */

static int by_length(const void *a, const void *b)
{
    const guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
    return (x > y) - (x < y);
}

/* Against the sorted delays themselves. */
static void check_p99(guint n, guint octaves)
{
    GstGlm4vJob *job = gst_glm4v_job_new();
    job->outcome.answer = glm4v_result_copy(&(glm4v_result) { .text = "" });
    GstGlm4vStats *stats = g_new0(GstGlm4vStats, 1);
    guint64 *delays = g_new(guint64, n), state = 88172645463325252u;
    for (guint i = 0; i < n; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        delays[i] = state >> (64 - 10 - state % octaves);
        gst_glm4v_stats_count(stats, job, delays[i]);
    }
    qsort(delays, n, sizeof *delays, by_length);
    const guint64 exact = delays[n - n / 100 - 1], found = gst_glm4v_stats_p99(stats);
    CHECK(found >= exact);
    CHECK((double)found <= (double)exact * 33 / 32 + 1024);
    g_free(delays);
    g_free(stats);
    gst_glm4v_job_unref(job);
}

static void the_99th_percentile_is_right_within_a_32nd(void)
{
    for (guint octaves = 1; octaves <= 40; octaves++)
        for (guint n = 1; n <= 1000; n += n < 10 ? 1 : 99)
            check_p99(n, octaves);
}

static void delays_are_those_of_answers(void)
{
    fake_set((fake_script) { .answer_ns = 10 * MS });
    GstElement *element = inspector();
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    push(h, OK, 5);
    CHECK(support_stat(element, "delay-p99") >= 10 * MS);
    CHECK(support_stat(element, "delay-p99") <= support_stat(element, "delay-max"));
    CHECK(support_stat(element, "delay-mean") >= 10 * MS);
    support_done(h);
}

/* ---- gauges ---- */

static double number(GstElement *element, const char *name)
{
    GstStructure *stats = NULL;
    double value = -1;
    g_object_get(element, "stats", &stats, NULL);
    CHECK(gst_structure_get_double(stats, name, &value));
    gst_structure_free(stats);
    return value;
}

static void the_level_of_the_queue_is_what_waits_for_the_model(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstElement *element = inspector();
    g_object_set(element, "mode", 1, "sample-mode", SAMPLE_TRIGGER, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<one, two>");
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        CHECK_EQ(support_stat(element, "queue-level"), 0);
        fake_set((fake_script) { .answer_ns = 20000 * MS });
        for (guint i = 0; i < 5; i++) {
            guint64 trigger = 0;
            g_signal_emit_by_name(element, "describe", NULL, &trigger);
            push(h, OK, 1);
            CHECK(support_wait_stat(element, "queue-level", i)); /* the first is in progress */
        }
        g_signal_emit_by_name(element, "cancel");
        CHECK_EQ(support_stat(element, "queue-level"), 0);
    }
    support_done(h);
}

static void figures_of_the_engine_are_those_of_all_who_share_it(void)
{
    fake_set((fake_script) { .answer_ns = 10 * MS });
    GstElement *a = inspector(), *b = inspector();
    CHECK_EQ(support_stat(a, "device-memory"), 0);
    GstHarness *h = support_harness(a, FALSE, CAPS_SMALL);
    push(h, OK, 3);
    CHECK_EQ(support_stat(a, "device-memory"), FAKE_MEMORY);
    CHECK(fabs(number(a, "batch-mean") - 1.5) < 1e-9);
    CHECK(fabs(number(a, "tokens-per-second") - 200) < 1e-9); /* two after the first, in 10 ms */
    GstHarness *other = support_harness(b, FALSE, CAPS_SMALL);
    CHECK_EQ(support_stat(b, "device-memory"), FAKE_MEMORY);
    CHECK_EQ(number(b, "batch-mean"), 0); /* nothing since it came */
    push(h, OK, 1);
    CHECK(fabs(number(b, "batch-mean") - 1.5) < 1e-9);
    CHECK_EQ(number(b, "tokens-per-second"), 0); /* none of its own */
    g_signal_emit_by_name(b, "reset-stats");
    CHECK_EQ(number(b, "batch-mean"), 0);
    support_done(other);
    gst_element_set_state(a, GST_STATE_NULL);
    CHECK_EQ(support_stat(a, "device-memory"), 0);
    support_done(h);
}

static void a_model_that_was_unloaded_takes_no_memory(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "idle-unload", (guint64)(50 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint run = 0; run < 2; run++) {
        push(h, OK, 2);
        CHECK(support_wait_stat(element, "device-memory", 0));
    }
    support_done(h);
}

#ifdef HAVE_REMOTE
static void of_a_server_there_are_no_figures_of_an_engine(void)
{
    GstElement *element = support_element("model-location", NULL, "endpoint",
                                          "http://127.0.0.1:1/v1", "model", "any", NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(support_stat(element, "device-memory"), 0);
    CHECK_EQ(support_stat(element, "queue-level"), 0);
    CHECK_EQ(number(element, "batch-mean"), 0);
    support_free(element);
}
#endif

/* ---- when a result is counted ---- */

static void on_result(GstElement *element, const GstStructure *result, gpointer user)
{
    guint *wrong = user;
    const guint64 id = results_uint64(result, "id");
    *wrong += support_stat(element, "results") != id + 1 || support_stat(element, "pass") != id + 1;
}

static void a_result_is_counted_after_frames_have_it_and_before_its_signal(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    guint wrong = 0;
    g_object_set(element, "mode", 1, "sample-mode", SAMPLE_TRIGGER, NULL);
    g_signal_connect(element, "result", G_CALLBACK(on_result), &wrong);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 100; i++) {
        guint64 trigger = 0;
        g_signal_emit_by_name(element, "describe", NULL, &trigger);
        push(h, OK, 1);
        gst_buffer_unref(gst_harness_pull(h));
        while (support_stat(element, "results") <= i)
            g_thread_yield();
        push(h, OK, 1); /* nothing is waited for */
        GstBuffer *buffer = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(buffer), 1);
        gst_buffer_unref(buffer);
    }
    results_wait(element, 100);
    support_done(h);
    CHECK_EQ(wrong, 0);
}

/* ---- message ---- */

static void check_posted(GstElement *element, guint n)
{
    for (guint i = 0; i < n; i++) {
        GstStructure *posted = results_next_named(element, STATS);
        CHECK(posted != NULL);
        g_clear_pointer(&posted, gst_structure_free);
    }
    CHECK_EQ(results_count_named(element, STATS), 0);
}

static GstClockTime next_wait(GstTestClock *clock)
{
    GstClockTime time = GST_CLOCK_TIME_NONE;
    GstClockID id = NULL;
    if (gst_test_clock_peek_next_pending_id(clock, &id))
        time = gst_clock_id_get_time(id);
    g_clear_pointer(&id, gst_clock_id_unref);
    return time;
}

/* Time of the system clock, which stands still in between, goes on until the timer wakes. */
static void check_interval(GstTestClock *clock, GstElement *element, GstClockTime interval)
{
    const GstClockTime before = gst_clock_get_time(GST_CLOCK(clock));
    for (guint i = 0; i < 3000 && interval > 0 && next_wait(clock) != before + interval; i++)
        g_usleep(10000); /* it may still be in the wait that was ended */
    CHECK(gst_test_clock_crank(clock));
    CHECK_EQ(gst_clock_get_time(GST_CLOCK(clock)) - before, interval);
    check_posted(element, 1);
}

/* No thread waits for an interval; the one that did needs a moment to be gone. */
static void check_no_timer(GstTestClock *clock, guint threads)
{
    CHECK_EQ(gst_test_clock_peek_id_count(clock), 0);
    for (guint i = 0; i < 3000 && support_threads() > threads; i++)
        g_usleep(10000);
    CHECK(support_threads() <= threads);
}

#define INTERVAL (60 * GST_SECOND)

static void statistics_are_posted_once_an_interval_in_paused_and_playing(void)
{
    GstTestClock *clock = GST_TEST_CLOCK(gst_test_clock_new());
    gst_system_clock_set_default(GST_CLOCK(clock));
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "stats-interval", (guint64)INTERVAL, NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    const guint threads = support_threads();
    for (guint run = 0; run < 2; run++) {
        check_no_timer(clock, threads);
        gst_element_set_state(element, GST_STATE_PAUSED); /* nothing flows */
        check_interval(clock, element, INTERVAL);
        gst_test_clock_advance_time(clock, INTERVAL / 2);
        gst_element_set_state(element, GST_STATE_PLAYING); /* the interval goes on */
        check_interval(clock, element, INTERVAL / 2);
        for (guint i = 0; i < 100; i++)
            check_interval(clock, element, INTERVAL);
        gst_test_clock_set_time(clock, gst_clock_get_time(GST_CLOCK(clock)) + 7 * INTERVAL / 2);
        check_interval(clock, element, 0); /* a process without time: what was missed is left out */
        check_interval(clock, element, INTERVAL / 2);
        gst_element_set_state(element, GST_STATE_PAUSED);
        check_interval(clock, element, INTERVAL);
        gst_element_set_state(element, GST_STATE_READY);
        gst_test_clock_advance_time(clock, 10 * INTERVAL);
        check_posted(element, 0);
    }
    check_no_timer(clock, threads);
    support_free(element);
    gst_system_clock_set_default(NULL);
    gst_object_unref(clock);
}

static void the_interval_of_statistics_can_be_set_while_playing(void)
{
    GstTestClock *clock = GST_TEST_CLOCK(gst_test_clock_new());
    guint64 interval = 1;
    gst_system_clock_set_default(GST_CLOCK(clock));
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    gst_element_set_state(element, GST_STATE_PLAYING);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    const guint threads = support_threads();
    check_no_timer(clock, threads);
    g_object_get(element, "stats-interval", &interval, NULL);
    CHECK_EQ(interval, 0);
    g_object_set(element, "stats-interval", (guint64)INTERVAL, NULL);
    check_interval(clock, element, INTERVAL);
    gst_test_clock_advance_time(clock, INTERVAL / 2);
    g_object_set(element, "stats-interval", (guint64)(INTERVAL / 3), NULL); /* begins now */
    check_interval(clock, element, INTERVAL / 3);
    g_object_get(element, "stats-interval", &interval, NULL);
    CHECK_EQ(interval, INTERVAL / 3);
    g_object_set(element, "stats-interval", (guint64)1, NULL); /* who thinks of seconds */
    check_interval(clock, element, MS);
    g_object_set(element, "stats-interval", (guint64)0, NULL);
    gst_test_clock_advance_time(clock, 10 * INTERVAL);
    check_posted(element, 0);
    g_object_set(element, "stats-interval", (guint64)G_MAXINT64, NULL);
    gst_test_clock_advance_time(clock, 10 * INTERVAL);
    check_posted(element, 0);
    gst_element_set_state(element, GST_STATE_NULL);
    check_no_timer(clock, threads);
    support_free(element);
    gst_system_clock_set_default(NULL);
    gst_object_unref(clock);
}

static gint64 processor_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (gint64)used.tv_sec * G_USEC_PER_SEC + used.tv_nsec / 1000;
}

/* 292 years, on GStreamer's own clock. */
static void an_interval_of_centuries_takes_no_processor_time(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "stats-interval", (guint64)G_MAXINT64, NULL);
    gst_element_set_state(element, GST_STATE_PLAYING);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    const gint64 before = processor_us();
    g_usleep(500 * 1000);
    CHECK(processor_us() - before < 50 * 1000);
    g_object_set(element, "stats-interval", (guint64)(10 * MS), NULL);
    GstStructure *stats = results_next_named(element, STATS);
    CHECK(stats != NULL);
    g_clear_pointer(&stats, gst_structure_free);
    support_free(element);
}

static void statistics_are_posted_by_the_system_clock_and_at_the_end(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_set_drop_buffers(h, TRUE);
    EACH_RUN(h, CAPS_SMALL)
    {
        const gint64 start = g_get_monotonic_time();
        g_object_set(element, "stats-interval", (guint64)(10 * MS), NULL);
        for (guint i = 0; i < 5; i++) { /* no frame, and each after its interval */
            GstStructure *posted = results_next_named(element, STATS);
            REQUIRE(posted != NULL);
            CHECK(g_get_monotonic_time() - start >= (i + 1) * 10000);
            gst_structure_free(posted);
        }
        g_object_set(element, "stats-interval", (guint64)GST_SECOND * 3600, NULL);
        results_count_named(element, STATS);
        push(h, OK, 41);
        gst_harness_push_event(h, gst_event_new_eos());
        GstStructure *last = results_next_named(element, STATS);
        REQUIRE(last != NULL);
        CHECK_EQ(results_uint64(last, "pass"), run == 1 ? 82 : 41); /* on from NULL */
        gst_structure_free(last);
        CHECK_EQ(results_count_named(element, STATS), 0);
    }
    support_done(h);
}

/* Of a handler of the message, on its thread. */
static GstBusSyncReply stop_messages(GstBus *bus, GstMessage *message, gpointer user)
{
    if (gst_message_has_name(message, STATS))
        g_object_set(user, "stats-interval", (guint64)0, NULL);
    return GST_BUS_PASS;
}

static void a_handler_may_stop_the_messages(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    GstBus *bus = gst_element_get_bus(element);
    gst_bus_set_sync_handler(bus, stop_messages, element, NULL);
    g_object_set(element, "stats-interval", (guint64)MS, NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
    GstStructure *posted = results_next_named(element, STATS);
    CHECK(posted != NULL);
    g_clear_pointer(&posted, gst_structure_free);
    g_usleep(20000);
    CHECK_EQ(results_count_named(element, STATS), 0);
    gst_object_unref(bus);
    support_free(element);
}

static void statistics_are_not_posted_unless_wanted(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    push(h, OK, 5);
    gst_harness_push_event(h, gst_event_new_eos());
    CHECK_EQ(results_count_named(element, STATS), 0);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(verdicts_are_counted_until_the_counters_begin_anew);
    TEST(statistics_tell_since_when_they_count);
    TEST(the_99th_percentile_is_right_within_a_32nd);
    TEST(delays_are_those_of_answers);
    TEST(the_level_of_the_queue_is_what_waits_for_the_model);
    TEST(figures_of_the_engine_are_those_of_all_who_share_it);
    TEST(a_model_that_was_unloaded_takes_no_memory);
#ifdef HAVE_REMOTE
    TEST(of_a_server_there_are_no_figures_of_an_engine);
#endif
    TEST(a_result_is_counted_after_frames_have_it_and_before_its_signal);
    TEST(statistics_are_posted_once_an_interval_in_paused_and_playing);
    TEST(the_interval_of_statistics_can_be_set_while_playing);
    TEST(an_interval_of_centuries_takes_no_processor_time);
    TEST(statistics_are_posted_by_the_system_clock_and_at_the_end);
    TEST(a_handler_may_stop_the_messages);
    TEST(statistics_are_not_posted_unless_wanted);
    return test_end();
}
