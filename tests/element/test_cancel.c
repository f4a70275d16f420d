/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The action signal cancel: what waits and is in progress has one result each, dropped and in
 * order; the video goes on, and the next frame is described as if nothing had been. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_engine.h"
#include "results.h"

/* Emit it; it waits for nothing. */
static void cancel(GstElement *element)
{
    gint64 start = g_get_monotonic_time();
    g_signal_emit_by_name(element, "cancel");
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
}

static guint64 ask(GstElement *element)
{
    guint64 id = 0;
    g_signal_emit_by_name(element, "describe", NULL, &id);
    return id;
}

/* The engine has as many questions as this since fake_set(). */
static void wait_submitted(int n)
{
    gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
    while (fake_get().submitted < n && g_get_monotonic_time() < end)
        g_usleep(1000);
    CHECK_EQ(fake_get().submitted, n);
}

static void check_trigger(GstElement *element, guint64 id, gboolean canceled)
{
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_EQ(results_uint64(result, "trigger-id"), id);
    CHECK_STR(gst_structure_get_string(result, "status"), canceled ? "dropped" : "ok");
    CHECK_STR(gst_structure_get_string(result, "finish-reason"), canceled ? "canceled" : "stop");
    gst_structure_free(result);
}

static void what_waits_and_is_in_progress_is_dropped_in_order(void)
{
    for (int hang = 0; hang <= 1; hang++) { /* the engine may not let go of it at once */
        fake_set((fake_script) { 0 });
        GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            guint64 dropped = run == 2 ? 0 : support_stat(element, "dropped-canceled");
            fake_set((fake_script) { .answer_ns = (hang ? 4000 : 20000) * MS, .hang = hang });
            for (guint i = 0; i < 5; i++) {
                ask(element);
                gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
            }
            wait_submitted(1);
            fake_set((fake_script) { 0 });
            gint64 start = g_get_monotonic_time();
            cancel(element);
            for (guint64 id = 1; id <= 5; id++)
                check_trigger(element, id, TRUE);
            CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
            CHECK_EQ(support_stat(element, "dropped-canceled"), dropped + 5);
            ask(element);
            gst_harness_push(h, support_frame(CAPS_SMALL, 5, 165));
            check_trigger(element, 6, FALSE);
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
            CHECK_EQ(gst_harness_buffers_received(h), 6 * (run + 1));
            if (hang)
                break;
        }
        support_done(h);
    }
}

static gpointer push_one(gpointer user)
{
    gst_harness_push(user, support_frame(CAPS_SMALL, 1, 0));
    return NULL;
}

/* In mode sync: a frame waits on a thread of its own, and after cancel it passes with n results. */
static void check_frame_is_let_go(GstHarness *h, guint n, int submitted)
{
    GThread *thread = g_thread_new("frame", push_one, h);
    wait_submitted(submitted);
    if (!submitted)
        CHECK(support_wait_stat(h->element, "sampled", n));
    cancel(h->element);
    g_thread_join(thread);
    GstBuffer *frame = gst_harness_pull(h);
    CHECK_EQ(support_count_meta(frame), n);
    CHECK_STR(gst_structure_get_string(support_meta(frame), "finish-reason"), "canceled");
    gst_buffer_unref(frame);
    for (guint i = 0; i < n; i++)
        results_check(h->element, i, "dropped", "canceled");
}

static void in_mode_sync_the_frame_passes_with_the_result(void)
{
    GstHarness *h = support_harness(support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL),
                                    FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        fake_set((fake_script) { .answer_ns = 20000 * MS });
        check_frame_is_let_go(h, 1, 1);
        fake_set((fake_script) { 0 });
        gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
        results_check(h->element, 1, "ok", "stop");
        gst_buffer_unref(gst_harness_pull(h));
    }
    support_done(h);
}

/* Ten regions, three questions about each; of these 16 are with the engine at a time. */
static GstBuffer *frame_with_regions(guint pts_ms)
{
    GstBuffer *frame = support_frame(CAPS_SMALL, 1, pts_ms);
    for (guint i = 0; i < 10; i++)
        gst_buffer_add_video_region_of_interest_meta(frame, "part", i, 0, 4, 4);
    return frame;
}

static void each_question_about_each_region_has_its_result(void)
{
    GstElement *element =
        support_element("mode", 1, "sample-mode", SAMPLE_ALL, "roi-mode", 1, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<one, two, three>");
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        fake_set((fake_script) { .answer_ns = 20000 * MS });
        gst_harness_push(h, frame_with_regions(0));
        wait_submitted(16);
        cancel(element);
        for (guint i = 0; i < 30; i++)
            results_check(element, i, "dropped", "canceled");
        fake_set((fake_script) { 0 });
        gst_harness_push(h, frame_with_regions(33));
        for (guint i = 30; i < 60; i++)
            results_check(element, i, "ok", "stop");
    }
    support_done(h);
}

#ifdef HAVE_REMOTE
static void a_server_that_does_not_answer_is_not_waited_for(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(bind(server, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(server, 16), 0);
    CHECK_EQ(getsockname(server, (struct sockaddr *)&address, &length), 0);
    gchar *url = g_strdup_printf("http://127.0.0.1:%d/v1", ntohs(address.sin_port));
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, "model-location",
                                          NULL, "endpoint", url, "model", "any", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        GThread *thread = g_thread_new("frame", push_one, h);
        int client = accept(server, NULL, NULL);
        char byte;
        CHECK(client >= 0 && recv(client, &byte, 1, 0) == 1); /* it is asked */
        gint64 start = g_get_monotonic_time();
        cancel(element);
        g_thread_join(thread);
        results_check(element, 0, "dropped", "canceled");
        CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
        gst_buffer_unref(gst_harness_pull(h));
        close(client);
    }
    support_done(h);
    close(server);
    g_free(url);
}
#endif

/* ---- what has not reached the engine ---- */

static void a_trigger_without_a_frame_has_its_result_with_the_next_one(void)
{
    fake_set((fake_script) { 0 });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_TRIGGER, NULL);
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            ask(element);
            ask(element);
            cancel(element);
            ask(element);
            gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
            check_trigger(element, 1, TRUE);
            check_trigger(element, 2, TRUE);
            check_trigger(element, 3, FALSE);
            ask(element);
            cancel(element);
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            check_trigger(element, 4, TRUE);
            CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
        }
        support_done(h);
    }
}

static GstPadProbeReturn cancel_at_result(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    if (gst_event_has_name(GST_PAD_PROBE_INFO_EVENT(info), "glm4vdescribe/result"))
        cancel(user);
    return GST_PAD_PROBE_OK;
}

/* The event with the result before it leaves while a frame is on its way to the model. */
static void a_frame_that_is_being_handed_over_is_canceled_too(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", 1, "sample-mode", SAMPLE_TRIGGER, "send-events", TRUE, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPad *src = gst_element_get_static_pad(element, "src");
    gst_pad_add_probe(src, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, cancel_at_result, element, NULL);
    EACH_RUN(h, CAPS_SMALL)
    {
        ask(element);
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        check_trigger(element, 1, FALSE);
        ask(element);
        gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
        check_trigger(element, 2, TRUE);
    }
    gst_object_unref(src);
    support_done(h);
}

static void frames_of_a_clip_are_kept(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "frames-per-request", 5, "window", 400 * MS,
                                          "interval", 400 * MS, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 5; i++) {
            if (i == 3)
                cancel(element);
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 100));
        }
        GstStructure *result = results_next(element), *clip = NULL;
        guint frames = 0;
        REQUIRE(result && gst_structure_get(result, "clip", GST_TYPE_STRUCTURE, &clip, NULL));
        CHECK_STR(gst_structure_get_string(result, "status"), "ok");
        gst_structure_get_uint(clip, "frames", &frames);
        CHECK_EQ(frames, 5);
        gst_structure_free(clip);
        gst_structure_free(result);
    }
    support_done(h);
}

static void while_the_model_is_loaded_the_frame_does_not_wait_for_it(void)
{
    fake_set((fake_script) { .load_ns = 3000 * MS });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<one, two>");
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    check_frame_is_let_go(h, 2, 0);
    CHECK_EQ(fake_get().engines, 0);
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    CHECK_EQ(fake_get().engines, 1);
    results_check(element, 2, "ok", "stop");
    results_check(element, 3, "ok", "stop");
    support_done(h);
}

static void nor_for_a_model_that_was_unloaded(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, "idle-unload",
                                          (guint64)(20 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    while (fake_get().models > 0)
        g_usleep(1000);
    fake_set((fake_script) { .load_ns = 3000 * MS });
    check_frame_is_let_go(h, 1, 0);
    CHECK_EQ(fake_get().engines, 0);
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    results_check(element, 1, "ok", "stop");
    support_done(h);
}

/* ---- others ---- */

static void another_element_of_the_engine_keeps_its_questions(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *a = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL),
               *b = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    fake_set((fake_script) { .answer_ns = 300 * MS });
    gst_harness_push(a, support_frame(CAPS_SMALL, 1, 0));
    gst_harness_push(b, support_frame(CAPS_SMALL, 2, 0));
    wait_submitted(2);
    cancel(a->element);
    results_check(a->element, 0, "dropped", "canceled");
    results_check(b->element, 0, "ok", "stop");
    support_done(a);
    support_done(b);
}

static void there_is_nothing_to_cancel_below_paused(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 1, NULL);
    cancel(element);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    cancel(element);
    CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
    support_free(element);
}

static void a_canceled_result_has_the_verdict_of_one_without_an_answer(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstElement *element = support_element("mode", 1, "output", 1, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<good, bad>");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<bad>");
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    wait_submitted(1);
    cancel(element);
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "verdict"), "fail");
    CHECK(!gst_structure_has_field(result, "choice"));
    gst_structure_free(result);
    support_done(h);
}

/* ---- at any moment ---- */

static int stop; /* atomic */

static gpointer cancel_now_and_then(gpointer user)
{
    for (guint i = 0; !g_atomic_int_get(&stop); i++) {
        g_signal_emit_by_name(user, "cancel");
        g_usleep(i * 137 % 3000);
    }
    return NULL;
}

static void at_any_moment_each_frame_and_trigger_has_one_result_in_order(void)
{
    for (int mode = 1; mode <= 2; mode++) {
        fake_set((fake_script) { .answer_ns = 200 * 1000 });
        GstElement *element =
            support_element("mode", mode, "sample-mode", SAMPLE_ALL, "max-pending", 8, NULL);
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        const guint n = support_count(400, 20000);
        gst_harness_set_drop_buffers(h, TRUE);
        EACH_RUN(h, CAPS_SMALL)
        {
            guint triggers = 0, canceled = 0, ok = 0;
            g_atomic_int_set(&stop, 0);
            GThread *thread = g_thread_new("cancel", cancel_now_and_then, element);
            for (guint i = 0; i < n; i++) {
                triggers += i % 4 == 0 && ask(element) > 0;
                if (i == n / 4 * 2)
                    cancel(element); /* this trigger, whenever the thread runs */
                gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
                g_usleep(i % 3 * 150);
            }
            g_atomic_int_set(&stop, 1);
            g_thread_join(thread);
            gst_harness_push(h, support_frame(CAPS_SMALL, n, n * 33)); /* this one is described */
            CHECK(gst_harness_push_event(h, gst_event_new_eos()));
            for (guint i = 0; i < n + 1 + triggers; i++) {
                GstStructure *result = results_next(element);
                REQUIRE(result != NULL);
                CHECK_EQ(results_uint64(result, "id"), i);
                const char *reason = gst_structure_get_string(result, "finish-reason");
                canceled += g_str_equal(reason, "canceled");
                ok += g_str_equal(reason, "stop");
                gst_structure_free(result);
            }
            CHECK_EQ(triggers, n / 4);
            CHECK(canceled > 0 && ok > 0);
            CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
        }
        support_done(h);
    }
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(what_waits_and_is_in_progress_is_dropped_in_order);
    TEST(in_mode_sync_the_frame_passes_with_the_result);
    TEST(each_question_about_each_region_has_its_result);
#ifdef HAVE_REMOTE
    TEST(a_server_that_does_not_answer_is_not_waited_for);
#endif
    TEST(a_trigger_without_a_frame_has_its_result_with_the_next_one);
    TEST(a_frame_that_is_being_handed_over_is_canceled_too);
    TEST(frames_of_a_clip_are_kept);
    TEST(while_the_model_is_loaded_the_frame_does_not_wait_for_it);
    TEST(nor_for_a_model_that_was_unloaded);
    TEST(another_element_of_the_engine_keeps_its_questions);
    TEST(there_is_nothing_to_cancel_below_paused);
    TEST(a_canceled_result_has_the_verdict_of_one_without_an_answer);
    TEST(at_any_moment_each_frame_and_trigger_has_one_result_in_order);
    return test_end();
}
