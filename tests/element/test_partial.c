/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The signal `partial`: text of an answer that grows. With an engine that says what it is told. */
#include "fake_engine.h"
#include "results.h"

typedef struct {
    gboolean result;
    guint64 id;
    GThread *thread;
    char text[256];
} Heard;

static Heard heard[64];
static int n_heard; /* atomic */

static void add(gboolean result, guint64 id, const char *text)
{
    int n = g_atomic_int_get(&n_heard);
    if (n == G_N_ELEMENTS(heard))
        return;
    heard[n] = (Heard) { .result = result, .id = id, .thread = g_thread_self() };
    g_strlcpy(heard[n].text, text, sizeof heard[n].text);
    g_atomic_int_set(&n_heard, n + 1);
}

static void on_partial(GstElement *element, guint64 id, const char *text, gpointer user)
{
    add(FALSE, id, text);
}

static void on_result(GstElement *element, const GstStructure *result, gpointer user)
{
    add(TRUE, results_uint64(result, "id"), gst_structure_get_string(result, "text"));
}

static GstHarness *listen(const char *property, guint64 value)
{
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, NULL);
    if (property)
        g_object_set(element, property, value, NULL);
    n_heard = 0;
    g_signal_connect(element, "partial", G_CALLBACK(on_partial), NULL);
    g_signal_connect(element, "result", G_CALLBACK(on_result), NULL);
    fake_set((fake_script) { .told = true });
    return support_harness(element, FALSE, CAPS_SMALL);
}

static void ask(GstHarness *h)
{
    guint64 id = 0;
    g_signal_emit_by_name(h->element, "describe", NULL, &id);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
}

/* The signal comes after the message. */
static int wait_result(void)
{
    int n = 0;
    for (int i = 0; i < 5000 && (n == 0 || !heard[n - 1].result); i++) {
        g_usleep(1000);
        n = g_atomic_int_get(&n_heard);
    }
    return n;
}

static gboolean wait_heard(int n)
{
    for (int i = 0; i < 5000 && g_atomic_int_get(&n_heard) < n; i++)
        g_usleep(1000);
    return g_atomic_int_get(&n_heard) == n;
}

static void an_answer_is_heard_as_it_grows_and_before_its_result(void)
{
    GstHarness *h = listen(NULL, 0);
    for (guint64 id = 0; id < 2; id++) {
        g_atomic_int_set(&n_heard, 0);
        ask(h);
        fake_tell(" A metal");
        CHECK(wait_heard(1));
        fake_tell(" sheet\033");
        CHECK(wait_heard(2));
        fake_tell(", and the rest.");
        fake_tell(NULL);
        const int n = wait_result();
        REQUIRE(n == 3 || n == 4);
        CHECK_STR(heard[0].text, "A metal");
        CHECK_STR(heard[1].text, "A metal sheet"); /* clean, as in the result */
        CHECK_STR(heard[n - 1].text, "A metal sheet, and the rest.");
        for (int i = 0; i < n; i++) {
            CHECK_EQ(heard[i].result, i == n - 1);
            CHECK_EQ(heard[i].id, id);
            CHECK(heard[i].thread == heard[0].thread && heard[i].thread != g_thread_self());
        }
    }
    support_done(h);
}

static void at_most_ten_are_heard_in_a_second(void)
{
    GstHarness *h = listen(NULL, 0);
    gint64 start = g_get_monotonic_time();
    ask(h);
    for (guint i = 0; i < 200; i++) {
        fake_tell("x");
        g_usleep(2000);
    }
    for (guint i = 0; i < 5000 && g_atomic_int_get(&n_heard) == 0; i++)
        g_usleep(1000);
    fake_tell(NULL);
    const int n = wait_result();
    CHECK(n - 1 <= (g_get_monotonic_time() - start) / 100000 + 1);
    CHECK(n > 1);
    support_done(h);
}

static void without_a_listener_the_engine_tells_nothing(void)
{
    GstElement *element = support_element("mode", 1, NULL);
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    results_wait(element, 1);
    CHECK(!fake_get().heard);
    g_signal_connect(element, "partial", G_CALLBACK(on_partial), NULL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 1000));
    results_wait(element, 1);
    CHECK(fake_get().heard);
    support_done(h);
}

static void nothing_is_heard_after_the_end_of_the_stream(void)
{
    GstHarness *h = listen("eos-timeout", 0);
    ask(h);
    fake_tell("A metal");
    CHECK(wait_heard(1));
    gst_harness_push_event(h, gst_event_new_eos());
    results_check(h->element, 0, "dropped", "end");
    CHECK(wait_heard(2)); /* the result */
    g_usleep(150000);
    CHECK_EQ(g_atomic_int_get(&n_heard), 2);
    support_done(h);
}

static void a_flush_ends_what_is_heard(void)
{
    GstHarness *h = listen(NULL, 0);
    ask(h);
    fake_tell("A metal");
    CHECK(wait_heard(1));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    ask(h);
    fake_tell("Another");
    CHECK(wait_heard(2));
    CHECK_STR(heard[1].text, "Another");
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(an_answer_is_heard_as_it_grows_and_before_its_result);
    TEST(at_most_ten_are_heard_in_a_second);
    TEST(without_a_listener_the_engine_tells_nothing);
    TEST(nothing_is_heard_after_the_end_of_the_stream);
    TEST(a_flush_ends_what_is_heard);
    return test_end();
}
