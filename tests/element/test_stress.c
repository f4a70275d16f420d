/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* G-05 to G-09, G-11, C-02 and C-03: order over many frames, extreme shapes and times, pads that
 * are unlinked and elements that go while the model is at work, whatever downstream answers, and
 * everything at once. With a scripted engine. */
#define _GNU_SOURCE
#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fake_engine.h"
#include "results.h"

#define SYNC 2
#define ASYNC 1

/* ---- threads ---- */

typedef struct {
    int policy, nice;
} Priority;

static Priority own_priority(void)
{
    return (Priority) { sched_getscheduler(0),
                        getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)) };
}

typedef struct {
    GMutex lock;
    Priority priority;
} Noted;

static void note_priority(gpointer user)
{
    Noted *noted = user;
    g_mutex_lock(&noted->lock);
    noted->priority = own_priority();
    g_mutex_unlock(&noted->lock);
}

/* Must be the first test: what GLib's pools share is fixed once a process. */
static void streaming_threads_keep_their_priority(void)
{
    Noted streaming = { .priority = { -1, -1 } };
    g_mutex_init(&streaming.lock);
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    results_check(element, 0, "ok", "stop");
    GstTaskPool *pool = gst_task_pool_new();
    gst_task_pool_prepare(pool, NULL);
    gpointer id = gst_task_pool_push(pool, note_priority, &streaming, NULL);
    gst_task_pool_join(pool, id);
    gst_task_pool_cleanup(pool); /* waits for the thread */
    gst_object_unref(pool);
    g_mutex_lock(&streaming.lock);
    CHECK_EQ(streaming.priority.policy, own_priority().policy);
    CHECK_EQ(streaming.priority.nice, own_priority().nice);
    g_mutex_unlock(&streaming.lock);
    g_mutex_clear(&streaming.lock);
    support_done(h);
}

/* ---- G-05 ---- */

typedef struct {
    guint64 frames, marks;
    gboolean wrong;
} Order;

/* A mark comes before each tenth frame; each frame has its own result. */
static GstPadProbeReturn follow(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    Order *order = user;
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER) {
        GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
        const GstStructure *meta = support_meta(buffer);
        guint64 id = G_MAXUINT64, pts = 0;
        if (meta)
            gst_structure_get(meta, "id", G_TYPE_UINT64, &id, "pts", G_TYPE_UINT64, &pts, NULL);
        order->wrong |= id != order->frames || pts != GST_BUFFER_PTS(buffer) ||
                        order->marks != order->frames / 10 + 1;
        order->frames++;
    } else if (gst_event_has_name(GST_PAD_PROBE_INFO_EVENT(info), "mark")) {
        order->wrong |= order->frames != order->marks * 10;
        order->marks++;
    }
    return GST_PAD_PROBE_OK;
}

static GstClockTime time_of(guint64 frame)
{
    return gst_util_uint64_scale(frame, GST_SECOND, 30);
}

/* Captions name the color of their frame, which is its number. */
static GstPadProbeReturn follow_captions(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    Order *order = user;
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    char text[32] = "";
    gst_buffer_extract(buffer, 0, text, sizeof text - 1);
    const char *hash = strchr(text, '#');
    order->wrong |= !hash || g_ascii_strtoull(hash + 1, NULL, 16) != order->frames ||
                    GST_BUFFER_PTS(buffer) != time_of(order->frames);
    order->frames++;
    return GST_PAD_PROBE_OK;
}

static void wait_for_end(GstHarness *h)
{
    GstEvent *event;
    while ((event = gst_harness_pull_event(h)) && GST_EVENT_TYPE(event) != GST_EVENT_EOS)
        gst_event_unref(event);
    CHECK(event != NULL);
    gst_clear_event(&event);
}

static void frames_results_captions_and_events_keep_their_order(void)
{
    const guint frames = support_count(4000, 100000);
    Order order = { 0 }, captions = { 0 };
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "post-messages", FALSE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    GstPad *pad = gst_element_get_static_pad(element, "src");
    gst_harness_set_drop_buffers(h, TRUE);
    gst_harness_set_drop_buffers(text, TRUE);
    gst_pad_add_probe(text->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, follow_captions, &captions, NULL);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, follow,
                      &order, NULL);
    gst_object_unref(pad);
    for (guint i = 0; i < frames; i++) {
        if (i % 10 == 0)
            gst_harness_push_event(h, gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM,
                                                           gst_structure_new_empty("mark")));
        GstBuffer *frame = support_frame(CAPS_SMALL, i, 0);
        GST_BUFFER_PTS(frame) = time_of(i);
        GST_BUFFER_DURATION(frame) = time_of(i + 1) - time_of(i);
        gst_harness_push(h, frame);
    }
    CHECK(gst_harness_push_event(h, gst_event_new_eos()));
    wait_for_end(text);
    CHECK_EQ(order.frames, frames);
    CHECK_EQ(order.marks, frames / 10);
    CHECK_EQ(captions.frames, frames);
    CHECK(!order.wrong);
    CHECK(!captions.wrong);
    gst_harness_teardown(text);
    support_done(h);
}

/* ---- C-03 ---- */

static void caps_that_change_with_every_frame_are_those_of_their_results(void)
{
    const guint frames = support_count(500, 10000);
    for (int mode = ASYNC; mode <= SYNC; mode++) {
        fake_set((fake_script) { .answer_ns = 20 * 1000 });
        GstElement *element =
            support_element("mode", mode, "sample-mode", SAMPLE_ALL, "max-pending", 4096, NULL);
        GstHarness *h = support_harness(element, mode == ASYNC, NULL);
        gst_harness_set_drop_buffers(h, TRUE);
        for (guint i = 0; i < frames; i++) {
            gchar *caps = g_strdup_printf("video/x-raw,format=%s,width=%u,height=%u,framerate=30/1",
                                          i % 3 ? "RGB" : "GRAY8", 8 + i * 7 % 60, 8 + i * 5 % 40);
            gst_harness_set_src_caps_str(h, caps);
            gst_harness_push(h, support_frame(caps, i, i * 33));
            g_free(caps);
            if (i % 1000 == 999) /* not more than can wait */
                CHECK(support_wait_stat(element, "results", i + 1));
        }
        for (guint i = 0; i < frames; i++) {
            GstStructure *result = results_next(element);
            guint width = 0, height = 0, text_width = 0, text_height = 0;
            REQUIRE(result != NULL);
            gst_structure_get(result, "width", G_TYPE_UINT, &width, "height", G_TYPE_UINT, &height,
                              NULL);
            sscanf(gst_structure_get_string(result, "text"), "%ux%u", &text_width, &text_height);
            CHECK_EQ(width, 8 + i * 7 % 60);
            CHECK_EQ(height, 8 + i * 5 % 40);
            CHECK_EQ(text_width, width);
            CHECK_EQ(text_height, height);
            gst_structure_free(result);
        }
        support_done(h);
    }
}

/* ---- C-02 ---- */

static void pictures_of_extreme_shapes_are_described(void)
{
    static const int shapes[][2] = { { 1, 1 },      { 1, 16384 }, { 16384, 1 },   { 3, 9999 },
                                     { 9999, 3 },   { 2, 512 },   { 7680, 4320 }, { 16384, 16 },
                                     { 16, 16384 }, { 1, 200 },   { 16384, 8192 } };
    const guint n = G_N_ELEMENTS(shapes) - support_count(1, 0); /* the last takes half a GiB */
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, FALSE, NULL);
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 2 * n; i++) {
        const int *shape = shapes[i / 2];
        gchar *caps = g_strdup_printf("video/x-raw,format=%s,width=%d,height=%d,framerate=1/1",
                                      i % 2 ? "GRAY8" : "NV12", shape[0], shape[1]);
        gst_harness_set_src_caps_str(h, caps);
        gst_harness_push(h, support_frame(caps, i, i * 33));
        GstStructure *result = results_next(element);
        guint width = 0, height = 0;
        REQUIRE(result != NULL);
        gst_structure_get(result, "width", G_TYPE_UINT, &width, "height", G_TYPE_UINT, &height,
                          NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "ok");
        CHECK_EQ(width, shape[0]);
        CHECK_EQ(height, shape[1]);
        gst_structure_free(result);
        g_free(caps);
    }
    support_done(h);
}

/* ---- G-09 ---- */

static void times_at_the_ends_of_their_range_are_those_of_the_results(void)
{
    static const guint64 times[] = { 0,
                                     G_MAXINT64 - 1,
                                     G_MAXINT64,
                                     (guint64)G_MAXINT64 + 1,
                                     G_MAXUINT64 - 1,
                                     GST_CLOCK_TIME_NONE,
                                     5 * GST_SECOND,
                                     (guint64)1 << 32,
                                     ((guint64)1 << 32) * GST_SECOND,
                                     0 };
    for (int mode = ASYNC; mode <= SYNC; mode++) {
        fake_set((fake_script) { 0 });
        GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, NULL);
        GstHarness *h = support_harness(element, mode == ASYNC, CAPS_SMALL);
        GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
        GstHarness *json = gst_harness_new_with_element(element, NULL, "json");
        gst_harness_set_drop_buffers(h, TRUE);
        for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
            GstBuffer *frame = support_frame(CAPS_SMALL, i, 0);
            GST_BUFFER_PTS(frame) = times[i];
            gst_harness_push(h, frame);
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), "ok");
            CHECK(results_uint64(result, "pts") == times[i]);
            gst_structure_free(result);
            GstBuffer *object = gst_harness_pull(json);
            CHECK(object != NULL);
            gst_clear_buffer(&object);
        }
        gst_harness_teardown(json);
        gst_harness_teardown(text);
        support_done(h);
    }
}

static void a_clock_that_jumps_makes_frames_late_and_no_more(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "deadline",
                                          (guint64)(5 * GST_SECOND), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_use_testclock(h);
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint hour = 0; hour < 3; hour++) {
        const guint now_ms = hour * 3600 * 1000;
        gst_harness_set_time(h, now_ms * MS);
        if (hour > 0) { /* the camera has not noticed yet */
            gst_harness_push(h, support_frame(CAPS_SMALL, 1, now_ms - 3600 * 1000 + 33));
            results_check(element, 2 * hour - 1, "timeout", "deadline");
        }
        gst_harness_push(h, support_frame(CAPS_SMALL, 2, now_ms));
        results_check(element, 2 * hour, "ok", "stop");
    }
    support_done(h);
}

/* ---- G-06 ---- */

typedef struct {
    GstHarness *h;
    int stop;   /* atomic */
    int pushed; /* atomic */
} Pusher;

static gpointer keep_pushing(gpointer user)
{
    Pusher *pusher = user;
    for (guint i = 0; !g_atomic_int_get(&pusher->stop); i++) {
        gst_harness_push(pusher->h, support_frame(CAPS_SMALL, i, i * 33));
        g_atomic_int_inc(&pusher->pushed);
        g_usleep(50);
    }
    return NULL;
}

static void pads_may_be_unlinked_and_linked_while_frames_come(void)
{
    fake_set((fake_script) { .answer_ns = MS / 5 });
    for (int mode = ASYNC; mode <= SYNC; mode++) {
        GstElement *element =
            support_element("mode", mode, "sample-mode", SAMPLE_ALL, "post-messages", FALSE, NULL);
        GstHarness *h = support_harness(element, mode == ASYNC, CAPS_SMALL);
        GstPad *sink = gst_element_get_static_pad(element, "sink");
        GstPad *src = gst_element_get_static_pad(element, "src");
        Pusher pusher = { .h = h };
        gst_harness_set_drop_buffers(h, TRUE);
        GThread *thread = g_thread_new("pusher", keep_pushing, &pusher);
        const guint times = support_count(150, 5000);
        for (guint i = 0; i < times || g_atomic_int_get(&pusher.pushed) < 100; i++) {
            CHECK(gst_pad_unlink(h->srcpad, sink));
            g_usleep(i % 7 * 30);
            CHECK_EQ(gst_pad_link(h->srcpad, sink), GST_PAD_LINK_OK);
            CHECK(gst_pad_unlink(src, h->sinkpad));
            g_usleep(i % 5 * 30);
            CHECK_EQ(gst_pad_link(src, h->sinkpad), GST_PAD_LINK_OK);
        }
        g_atomic_int_set(&pusher.stop, 1);
        g_thread_join(thread);
        /* what the storm left behind has its results before they are posted again */
        CHECK(support_wait_stat(element, "results", support_stat(element, "sampled")));
        g_object_set(element, "post-messages", TRUE, NULL);
        support_count_messages(element, 0);
        CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 7, 1000000)), GST_FLOW_OK);
        GstStructure *result = results_next(element);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "ok");
        gst_structure_free(result);
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        CHECK_EQ(support_stat(element, "results"), support_stat(element, "sampled"));
        gst_object_unref(sink);
        gst_object_unref(src);
        support_done(h);
    }
}

/* Frames by hand, so that nothing but the bin holds the element. */
static void begin_stream(GstPad *sink)
{
    GstCaps *caps = gst_caps_from_string(CAPS_SMALL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_pad_send_event(sink, gst_event_new_stream_start("bin"));
    gst_pad_send_event(sink, gst_event_new_caps(caps));
    gst_pad_send_event(sink, gst_event_new_segment(&segment));
    gst_caps_unref(caps);
}

static void elements_may_leave_their_bin_while_the_model_works(void)
{
    fake_set((fake_script) { .answer_ns = 10000 * MS });
    GstElement *bin = gst_bin_new(NULL);
    gst_element_set_state(bin, GST_STATE_PLAYING);
    for (guint i = 0; i < support_count(60, 5000); i++) {
        GstElement *element = support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, NULL);
        GstPad *sink = gst_element_get_static_pad(element, "sink");
        gboolean gone = FALSE;
        g_object_weak_ref(G_OBJECT(element), (GWeakNotify)(void (*)(void))g_atomic_int_inc, &gone);
        gst_object_ref(element);
        gst_element_set_state(element, GST_STATE_PLAYING);
        CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
        gst_bin_add(GST_BIN(bin), element);
        begin_stream(sink);
        for (guint frame = 0; frame < i % 4; frame++)
            gst_pad_chain(sink, support_frame(CAPS_SMALL, frame, frame * 33));
        while (i % 4 == 3 && fake_get().requests == 0) /* it is with the engine */
            g_usleep(100);
        gst_object_unref(sink);
        gst_bin_remove(GST_BIN(bin), element); /* it plays on, without a bus */
        gst_element_set_state(element, GST_STATE_NULL);
        gst_object_unref(element);
        CHECK(gone);
    }
    gst_element_set_state(bin, GST_STATE_NULL);
    gst_object_unref(bin);
    fake_counts c = fake_get();
    CHECK_EQ(c.models, 0);
    CHECK_EQ(c.engines, 0);
    CHECK_EQ(c.requests, 0);
    CHECK(c.canceled > 0);
}

/* ---- G-07 ---- */

static GstFlowReturn answer; /* of the sink below */

static GstFlowReturn answering_chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return answer;
}

static void whatever_downstream_returns_upstream_gets(void)
{
    static const GstFlowReturn answers[] = { GST_FLOW_OK,
                                             GST_FLOW_NOT_LINKED,
                                             GST_FLOW_FLUSHING,
                                             GST_FLOW_EOS,
                                             GST_FLOW_NOT_NEGOTIATED,
                                             GST_FLOW_ERROR,
                                             GST_FLOW_NOT_SUPPORTED,
                                             GST_FLOW_CUSTOM_SUCCESS,
                                             GST_FLOW_CUSTOM_ERROR };
    for (int mode = ASYNC; mode <= SYNC; mode++) {
        fake_set((fake_script) { 0 });
        GstElement *element =
            support_element("mode", mode, "sample-mode", SAMPLE_ALL, "post-messages", FALSE, NULL);
        GstHarness *h = support_harness(element, mode == ASYNC, CAPS_SMALL);
        guint random = 1;
        gst_pad_set_chain_function(h->sinkpad, answering_chain);
        for (guint i = 0; i < support_count(2000, 10000); i++) {
            random = random * 1103515245 + 12345;
            answer = answers[(random >> 16) % G_N_ELEMENTS(answers)];
            CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33)), answer);
        }
        answer = GST_FLOW_OK;
        gst_harness_push_event(h, gst_event_new_eos());
        CHECK_EQ(support_stat(element, "results"), support_stat(element, "sampled"));
        support_done(h);
    }
}

/* ---- G-08 ---- */

static GMutex gate;

static GstPadProbeReturn wait_at_gate(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_mutex_lock(&gate);
    g_mutex_unlock(&gate);
    return GST_PAD_PROBE_OK;
}

static void a_branch_that_blocks_holds_nothing_but_its_own_frames(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPad *pad = gst_element_get_static_pad(element, "src");
    Pusher pusher = { .h = h };
    gst_harness_set_drop_buffers(h, TRUE);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, wait_at_gate, NULL, NULL);
    gst_object_unref(pad);
    g_mutex_lock(&gate);
    GThread *thread = g_thread_new("pusher", keep_pushing, &pusher);
    CHECK(support_wait_stat(element, "results", 1)); /* the first frame hangs at the gate */
    gint64 end = g_get_monotonic_time() + (gint64)support_count(5, 60) * G_USEC_PER_SEC;
    while (g_get_monotonic_time() < end) { /* all that does not push goes on */
        GstStructure *info = NULL;
        CHECK_EQ(support_stat(element, "frames-seen"), 1);
        CHECK_EQ(support_stat(element, "sampled"), 1);
        g_object_get(element, "model-info", &info, NULL);
        CHECK(info != NULL);
        g_clear_pointer(&info, gst_structure_free);
        g_object_set(element, "prompt", "What now?", NULL);
        g_usleep(50000);
    }
    g_mutex_unlock(&gate);
    while (support_stat(element, "frames-seen") < 20)
        g_usleep(1000);
    g_atomic_int_set(&pusher.stop, 1);
    g_thread_join(thread);
    gst_harness_push_event(h, gst_event_new_eos());
    CHECK_EQ(support_stat(element, "results"), pusher.pushed);
    support_done(h);
}

static int passed; /* atomic: frames of the branch beside it */

static GstPadProbeReturn count_passed(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_inc(&passed);
    return GST_PAD_PROBE_OK;
}

static void add_probe(GstElement *pipeline, const char *name, GstPadProbeCallback probe)
{
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), name);
    GstPad *pad = gst_element_get_static_pad(sink, "sink");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, probe, NULL, NULL);
    gst_object_unref(pad);
    gst_object_unref(sink);
}

/* Zero under a sanitizer, whose allocator mallinfo2() does not see. */
static size_t allocated(void)
{
    const struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
}

static void a_branch_that_blocks_leaves_the_one_beside_it_its_frame_rate(void)
{
    const gint64 seconds = support_count(5, 60);
    fake_set((fake_script) { 0 });
    GstElement *pipeline = support_launch(
        "videotestsrc is-live=true ! video/x-raw,format=RGB,width=640,height=480,framerate=30/1 ! "
        "tee name=t t. ! queue leaky=downstream max-size-buffers=2 ! "
        "glm4vdescribe name=d model-location=" SOURCE_ROOT " mode=async sample-mode=all ! "
        "fakesink name=blocked async=false t. ! queue max-size-buffers=1 ! "
        "fakesink name=beside async=false");
    REQUIRE(pipeline != NULL);
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    g_atomic_int_set(&passed, 0);
    add_probe(pipeline, "beside", count_passed);
    add_probe(pipeline, "blocked", wait_at_gate);
    g_mutex_lock(&gate);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    CHECK(support_wait_stat(element, "frames-seen", 1)); /* it hangs at the gate */
    CHECK(support_wait_stat(element, "results", 1));
    g_usleep(500 * 1000); /* the queues are full */
    const size_t before = allocated();
    const int first = g_atomic_int_get(&passed);
    const gint64 start = g_get_monotonic_time();
    g_usleep((gulong)seconds * G_USEC_PER_SEC);
    const double rate = (double)(g_atomic_int_get(&passed) - first) * G_USEC_PER_SEC /
                        (double)(g_get_monotonic_time() - start);
    const long grown = (long)(allocated() - before);
    printf("# %.1f frames a second beside it, %ld bytes more\n", rate, grown);
    CHECK(rate > 0.9 * 30);
    CHECK(grown <= 2 * 640 * 480 * 3 + 65536);
    CHECK_EQ(support_stat(element, "frames-seen"), 1);
    g_mutex_unlock(&gate);
    while (support_stat(element, "frames-seen") < 20)
        g_usleep(1000);
    gst_object_unref(element);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
}

static int alive; /* atomic */

static void forget(gpointer user, GstMiniObject *buffer)
{
    g_atomic_int_add(&alive, -1);
}

static void a_model_a_hundred_times_slower_holds_two_frames(void)
{
    fake_set((fake_script) { .answer_ns = 100 * MS });
    GstElement *element = support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    int most = 0;
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 1000; i++) {
        GstBuffer *frame = support_frame(CAPS_SMALL, i, i * 33);
        gst_mini_object_weak_ref(GST_MINI_OBJECT(frame), forget, NULL);
        g_atomic_int_inc(&alive);
        gst_harness_push(h, frame);
        most = MAX(most, g_atomic_int_get(&alive));
        g_usleep(1000);
    }
    gst_harness_push_event(h, gst_event_new_eos());
    CHECK(most <= 3); /* asked about, waiting, and just replaced */
    CHECK_EQ(support_stat(element, "results"), 1000);
    CHECK(support_stat(element, "dropped-busy") > 900);
    support_done(h);
    CHECK_EQ(alive, 0);
}

/* ---- G-11 ---- */

typedef struct {
    GstHarness *h;
    GstElement *element;
    int stop; /* atomic */
} Storm;

#define STORM(storm, i) for (guint i = 0; !g_atomic_int_get(&(storm)->stop); i++)

static gpointer push_frames(gpointer user)
{
    Storm *storm = user;
    STORM(storm, i)
    {
        gst_harness_push(storm->h, support_frame(CAPS_SMALL, i, i * 33));
        g_usleep(2000);
    }
    return NULL;
}

static gpointer send_events(gpointer user)
{
    Storm *storm = user;
    STORM(storm, i)
    {
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_harness_push_event(storm->h, gst_event_new_flush_start());
        gst_harness_push_event(storm->h, gst_event_new_flush_stop(TRUE));
        gst_harness_push_event(storm->h, gst_event_new_segment(&segment));
        gst_harness_push_event(storm->h, gst_event_new_tag(gst_tag_list_new_empty()));
        gst_harness_push_event(storm->h, gst_event_new_gap(i * MS, MS));
        gst_harness_push_upstream_event(storm->h,
                                        gst_event_new_qos(GST_QOS_TYPE_OVERFLOW, 2.0, MS, i * MS));
        g_usleep(i % 13 * 800);
    }
    return NULL;
}

static gpointer change_states(gpointer user)
{
    static const GstState states[] = { GST_STATE_PAUSED,  GST_STATE_PLAYING, GST_STATE_READY,
                                       GST_STATE_PLAYING, GST_STATE_NULL,    GST_STATE_PLAYING };
    Storm *storm = user;
    STORM(storm, i)
    {
        gst_element_set_state(storm->element, states[i % G_N_ELEMENTS(states)]);
        support_count_messages(storm->element, 0);
        g_usleep(i % 7 * 1500);
    }
    return NULL;
}

static gpointer set_properties(gpointer user)
{
    static const char *const shapes[][4] = {
        { "choice", "<a, b>", "<b>", "<0.5>" },
        { "choice", "<a>", "<b>", "<0.5, 1>" }, /* contradictory */
        { "text", "<>", "<>", "<>" },
    };
    Storm *storm = user;
    STORM(storm, i)
    {
        const char *const *shape = shapes[i % G_N_ELEMENTS(shapes)];
        gchar *long_prompt = g_strnfill(i % 100 ? 10 : 4096, 'x');
        g_object_set(storm->element, "prompt", long_prompt, "mode", i % 3, "sample-mode", i % 5,
                     "interval", (guint64)(i % 4 * 10 * MS), "deadline", (guint64)(i % 3 * MS),
                     "change-threshold", i % 2 * 0.1, "max-pending", i % 9, "hysteresis", 1 + i % 5,
                     "stats-interval", (guint64)(i % 2 * MS), "send-events", i % 2, "persist-meta",
                     i % 2, "prompt-location", i % 11 ? NULL : "/nonexistent", NULL);
        gst_util_set_object_arg(G_OBJECT(storm->element), "choices", shape[1]);
        gst_util_set_object_arg(G_OBJECT(storm->element), "fail-choices", shape[2]);
        gst_util_set_object_arg(G_OBJECT(storm->element), "thresholds", shape[3]);
        gst_util_set_object_arg(G_OBJECT(storm->element), "output", shape[0]);
        g_free(long_prompt);
        g_usleep(2000);
    }
    return NULL;
}

static gpointer ask(gpointer user)
{
    Storm *storm = user;
    STORM(storm, i)
    {
        GstStructure *stats = NULL;
        GstQuery *query = gst_query_new_latency();
        guint64 id;
        g_object_get(storm->element, "stats", &stats, NULL);
        gst_structure_free(stats);
        g_signal_emit_by_name(storm->element, "describe", i % 2 ? "Now?" : NULL, &id);
        if (i % 7 == 0)
            g_signal_emit_by_name(storm->element, "cancel");
        if (i % 50 == 0)
            g_signal_emit_by_name(storm->element, "reset-stats");
        gst_element_query(storm->element, query);
        gst_query_unref(query);
        g_usleep(2000);
    }
    return NULL;
}

static gpointer request_pads(gpointer user)
{
    Storm *storm = user;
    STORM(storm, i)
    {
        GstPad *pad = gst_element_request_pad_simple(storm->element, "text");
        g_usleep(i % 5 * 10000);
        if (pad) {
            gst_element_release_request_pad(storm->element, pad);
            gst_object_unref(pad);
        }
    }
    return NULL;
}

/* GStreamer's queue of messages takes them strictly in turn: with hundreds of threads at it on few
 * cores each push waits for all others, and threads come faster than they go. */
static GstBusSyncReply drop_message(GstBus *bus, GstMessage *message, gpointer unused)
{
    gst_message_unref(message);
    return GST_BUS_DROP;
}

static void everything_at_once_ends_in_an_orderly_run(void)
{
    static const GThreadFunc functions[] = { push_frames,    send_events, change_states,
                                             set_properties, ask,         request_pads };
    GThread *threads[G_N_ELEMENTS(functions)];
    fake_set((fake_script) { .answer_ns = MS / 2 });
    GstElement *element = support_element("mode", ASYNC, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    Storm storm = { .h = h, .element = element };
    gst_harness_set_drop_buffers(h, TRUE);
    GstBus *bus = gst_element_get_bus(element);
    gst_bus_set_sync_handler(bus, drop_message, NULL, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("storm", functions[i], &storm);
    g_usleep((gulong)support_count(60, 1800) * G_USEC_PER_SEC);
    g_atomic_int_set(&storm.stop, 1);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_bus_set_sync_handler(bus, NULL, NULL, NULL);
    gst_object_unref(bus);
    support_count_messages(element, 0);
    g_object_set(element, "prompt", NULL, "prompt-location", NULL, "mode", SYNC, "sample-mode",
                 SAMPLE_ALL, "deadline", (guint64)0, "change-threshold", 0.0, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "text");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<>");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<>");
    gst_util_set_object_arg(G_OBJECT(element), "thresholds", "<>");
    gst_element_set_state(element, GST_STATE_PLAYING);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    gst_harness_push_event(h, gst_event_new_stream_start("after"));
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    for (guint i = 0; i < 5; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        results_check(element, i, "ok", "stop");
    }
    support_done(h);
    CHECK_EQ(fake_get().requests, 0);
    CHECK_EQ(fake_get().engines, 0);
}

/* What comes while the state changes may be ahead of the stream's events, by the thousand. */
static void leave_out_early_data(const gchar *domain, GLogLevelFlags level, const gchar *text,
                                 gpointer user)
{
    if (!strstr(text, "Got data flow before") && !strstr(text, "Sticky event misordering"))
        g_log_default_handler(domain, level, text, user);
}

/* With the word "storm": only what takes long. */
int main(int argc, char **argv)
{
    const gboolean storm = argc > 1 && strcmp(argv[1], "storm") == 0;
    fake_init(&argc, &argv);
    if (storm) {
        g_log_set_default_handler(leave_out_early_data, NULL);
        TEST(everything_at_once_ends_in_an_orderly_run);
        return test_end();
    }
    TEST(streaming_threads_keep_their_priority);
    TEST(frames_results_captions_and_events_keep_their_order);
    TEST(caps_that_change_with_every_frame_are_those_of_their_results);
    TEST(pictures_of_extreme_shapes_are_described);
    TEST(times_at_the_ends_of_their_range_are_those_of_the_results);
    TEST(a_clock_that_jumps_makes_frames_late_and_no_more);
    TEST(pads_may_be_unlinked_and_linked_while_frames_come);
    TEST(elements_may_leave_their_bin_while_the_model_works);
    TEST(whatever_downstream_returns_upstream_gets);
    TEST(a_branch_that_blocks_holds_nothing_but_its_own_frames);
    TEST(a_branch_that_blocks_leaves_the_one_beside_it_its_frame_rate);
    TEST(a_model_a_hundred_times_slower_holds_two_frames);
    return test_end();
}
