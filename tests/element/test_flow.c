/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* G-03, G-04 and states, with a scripted engine: flushes, ends of stream, downstream's answers, a
 * model that does not load, an engine that does not stop. */
#include "fake_engine.h"
#include "results.h"

/* ---- flush ---- */

static int stale, current_cycle; /* atomic */

/* Frames carry the number of their flush cycle as colour, texts end in it. */
static GstPadProbeReturn check_cycle(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    GstMapInfo map;
    gst_buffer_map(GST_PAD_PROBE_INFO_BUFFER(info), &map, GST_MAP_READ);
    gchar *text = g_strndup((const gchar *)map.data, map.size), *hash = strchr(text, '#');
    if (!hash || g_ascii_strtoull(hash + 1, NULL, 16) != (guint64)g_atomic_int_get(&current_cycle))
        g_atomic_int_inc(&stale);
    g_free(text);
    gst_buffer_unmap(GST_PAD_PROBE_INFO_BUFFER(info), &map);
    return GST_PAD_PROBE_OK;
}

static GstPadProbeReturn check_meta_cycle(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    const GstStructure *meta = support_meta(GST_PAD_PROBE_INFO_BUFFER(info));
    const char *hash = meta ? strchr(gst_structure_get_string(meta, "text"), '#') : NULL;
    if (hash && g_ascii_strtoull(hash + 1, NULL, 16) != (guint64)g_atomic_int_get(&current_cycle))
        g_atomic_int_inc(&stale);
    return GST_PAD_PROBE_OK;
}

static gpointer push_until_flushed(gpointer user)
{
    GstHarness *h = user;
    for (guint i = 0; i < 100000; i++) {
        GstBuffer *frame =
            support_frame(CAPS_SMALL, (guint32)g_atomic_int_get(&current_cycle), i * 33);
        if (gst_harness_push(h, frame) != GST_FLOW_OK)
            return NULL;
        g_usleep(200);
    }
    return NULL;
}

/* The last flush of each run comes after a text: those before it may all be too early for one. */
static gboolean wait_for_text(GstElement *element)
{
    gint64 end = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    while (!support_stat(element, "text-pushed") && g_get_monotonic_time() < end)
        g_usleep(1000);
    return support_stat(element, "text-pushed") > 0;
}

static void flush_storm(int mode, guint rounds)
{
    fake_set((fake_script) { .answer_ns = 3 * MS });
    GstElement *element =
        support_element("mode", mode, "sample-mode", 2, "post-messages", FALSE, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    GstPad *pad = gst_element_get_static_pad(element, "text");
    GstSegment segment;
    gint64 took, longest = 0;
    guint slow = 0;
    gst_harness_set_drop_buffers(h, TRUE);
    gst_harness_set_drop_buffers(text, TRUE);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, check_cycle, NULL, NULL);
    gst_object_unref(pad);
    pad = gst_element_get_static_pad(element, "src");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, check_meta_cycle, NULL, NULL);
    gst_object_unref(pad);
    gst_segment_init(&segment, GST_FORMAT_TIME);
    stale = current_cycle = 0;
    const guint run = rounds / 3 + 1;
    for (guint i = 0; i < rounds; i++) {
        if (i % run == run - 1) {
            g_atomic_int_inc(&current_cycle);
            support_run(h, 2, CAPS_SMALL);
        }
        GThread *thread = g_thread_new("pusher", push_until_flushed, h);
        g_usleep((gulong)(500 + i * 37 % 6000));
        if (i % run == run - 2 || i == rounds - 1)
            CHECK(wait_for_text(element)); /* since NULL */
        gint64 start = g_get_monotonic_time();
        CHECK(gst_harness_push_event(h, gst_event_new_flush_start()));
        took = g_get_monotonic_time() - start;
        longest = MAX(longest, took);
        slow += took >= 50 * 1000;
        g_thread_join(thread);
        g_atomic_int_inc(&current_cycle);
        CHECK(gst_harness_push_event(h, gst_event_new_flush_stop(TRUE)));
        CHECK(gst_harness_push_event(h, gst_event_new_segment(&segment)));
    }
    printf("# mode %d: longest flush-start %d us of %u, %d answers, %d texts\n", mode, (int)longest,
           rounds, (int)support_stat(element, "inferred"),
           (int)support_stat(element, "text-pushed"));
    CHECK(slow <= rounds / 50); /* a busy machine may look elsewhere for a while */
    CHECK_EQ(stale, 0);
    gst_harness_teardown(text);
    support_done(h);
}

static void flushes_in_async_mode_are_quick_and_leave_nothing_stale(void)
{
    flush_storm(1, support_count(500, 10000));
}

static void flushes_in_sync_mode_are_quick_and_leave_nothing_stale(void)
{
    flush_storm(2, support_count(500, 10000));
}

static void a_flush_does_not_wait_for_a_long_answer(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GThread *thread = g_thread_new("pusher", push_until_flushed, h);
    g_usleep(50000);
    gint64 start = g_get_monotonic_time();
    gst_harness_push_event(h, gst_event_new_flush_start());
    g_thread_join(thread);
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    support_done(h);
}

/* ---- end of stream ---- */

static void eos_before_the_first_frame_passes(void)
{
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < support_count(50, 1000); i++) {
        GstElement *element = support_element("mode", 1 + i % 2, NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
        GstEvent *event = NULL;
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        while ((event = gst_harness_pull_event(text)) && GST_EVENT_TYPE(event) != GST_EVENT_EOS)
            gst_event_unref(event);
        CHECK(event != NULL);
        gst_event_unref(event);
        while ((event = gst_harness_pull_event(h)) && GST_EVENT_TYPE(event) != GST_EVENT_EOS)
            gst_event_unref(event);
        CHECK(event != NULL);
        gst_event_unref(event);
        /* a second one is refused upstream of us */
        CHECK(!gst_harness_push_event(h, gst_event_new_eos()));
        gst_harness_teardown(text);
        support_done(h);
    }
}

static void eos_waits_for_answers_under_way(void)
{
    fake_set((fake_script) { .answer_ns = 100 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        g_usleep(20000);
        gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        CHECK_EQ(support_stat(element, "inferred"), run == 1 ? 4 : 2);
        for (int i = 0; i < 2; i++) {
            GstBuffer *cue = gst_harness_pull(text);
            REQUIRE(cue != NULL);
            gst_buffer_unref(cue);
        }
    }
    gst_harness_teardown(text);
    support_done(h);
}

/* Events of this type that have come out and wait. */
static guint count_events(GstHarness *h, GstEventType type)
{
    GstEvent *event;
    guint n = 0;
    while ((event = gst_harness_try_pull_event(h))) {
        n += GST_EVENT_TYPE(event) == type;
        gst_event_unref(event);
    }
    return n;
}

static void eos_at_any_moment_of_an_answer_comes_once_behind_all_results(void)
{
    for (guint i = 0; i < support_count(100, 1000); i++) {
        fake_set((fake_script) { .answer_ns = i % 5 * MS });
        GstElement *element = support_element("mode", 1 + i % 2, "sample-mode", 2, NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
        for (guint frame = 0; frame < 1 + i % 3; frame++)
            gst_harness_push(h, support_frame(CAPS_SMALL, frame, frame * 33));
        g_usleep(i % 7 * 1000);
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        CHECK_EQ(support_stat(element, "results"), 1 + i % 3);
        CHECK(!gst_harness_push_event(h, gst_event_new_eos()));
        CHECK_EQ(count_events(h, GST_EVENT_EOS), 1);
        GstEvent *event; /* from a thread of its own */
        while ((event = gst_harness_pull_event(text)) && GST_EVENT_TYPE(event) != GST_EVENT_EOS)
            gst_event_unref(event);
        CHECK(event != NULL);
        gst_clear_event(&event);
        /* during a flush there is no end */
        CHECK(gst_harness_push_event(h, gst_event_new_flush_start()));
        CHECK(!gst_harness_push_event(h, gst_event_new_eos()));
        CHECK(gst_harness_push_event(h, gst_event_new_flush_stop(TRUE)));
        CHECK_EQ(count_events(h, GST_EVENT_EOS), 0);
        CHECK_EQ(count_events(text, GST_EVENT_EOS), 0);
        gst_harness_teardown(text);
        support_done(h);
    }
}

/* As a source plays a loop: it is asked for a segment, sends it, and says where it ended. */
static void segments_of_a_loop_are_described_one_after_another(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.flags = GST_SEGMENT_FLAG_SEGMENT;
    segment.stop = 99 * MS;
    for (guint i = 0; i < support_count(200, 1000); i++) {
        CHECK(gst_harness_push_upstream_event(
            h, gst_event_new_seek(1, GST_FORMAT_TIME, GST_SEEK_FLAG_SEGMENT, GST_SEEK_TYPE_SET, 0,
                                  GST_SEEK_TYPE_SET, 99 * MS)));
        GstEvent *seek = gst_harness_pull_upstream_event(h);
        while (seek && GST_EVENT_TYPE(seek) != GST_EVENT_SEEK) {
            gst_event_unref(seek);
            seek = gst_harness_pull_upstream_event(h);
        }
        REQUIRE(seek != NULL);
        gst_event_unref(seek);
        segment.base = i * 99 * MS;
        CHECK(gst_harness_push_event(h, gst_event_new_segment(&segment)));
        for (guint frame = 0; frame < 3; frame++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i * 3 + frame, frame * 33));
        CHECK(gst_harness_push_event(h, gst_event_new_segment_done(GST_FORMAT_TIME, 99 * MS)));
        for (guint frame = 0; frame < 3; frame++) {
            GstStructure *result = support_result(element);
            guint64 id = G_MAXUINT64, pts = 0, running = 0;
            REQUIRE(result != NULL);
            gst_structure_get(result, "id", G_TYPE_UINT64, &id, "pts", G_TYPE_UINT64, &pts,
                              "running-time", G_TYPE_UINT64, &running, NULL);
            CHECK_EQ(id, i * 3 + frame);
            CHECK_EQ(pts, frame * 33 * MS);
            CHECK_EQ(running, segment.base + pts);
            gst_structure_free(result);
            gst_buffer_unref(gst_harness_pull(h));
        }
        CHECK_EQ(count_events(h, GST_EVENT_SEGMENT_DONE), 1);
    }
    support_done(h);
}

/* A segment that is played backwards without a stop: GStreamer's own functions refuse to count in
 * it. With a duration they count. */
static void segments_that_do_not_tell_their_end_pass_backwards(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", 2, "persist-meta", TRUE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    for (guint i = 0; i < 8; i++) {
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        segment.rate = i & 1 ? -1.0 : 1.0;
        segment.applied_rate = i & 2 ? -1.0 : 1.0;
        segment.duration = i & 4 ? 100 * MS : GST_CLOCK_TIME_NONE;
        CHECK(gst_harness_push_event(h, gst_event_new_segment(&segment)));
        CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, 30)), GST_FLOW_OK);
        GstBuffer *buffer = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(buffer), i & 1 ? 0 : 1); /* trick play is not described */
        if (!(i & 1))
            CHECK_EQ(results_uint64(support_meta(buffer), "running-time"), 30 * MS);
        gst_buffer_unref(buffer);
    }
    support_done(h);
}

static void answers_that_miss_the_eos_timeout_are_reported_dropped(void)
{
    fake_set((fake_script) { .answer_ns = 5000 * MS });
    GstElement *element =
        support_element("sample-mode", 2, "eos-timeout", (guint64)(50 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(20000);
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    gint64 start = g_get_monotonic_time();
    CHECK(gst_harness_push_event(h, gst_event_new_eos()));
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    for (guint i = 0; i < 2; i++) {
        GstStructure *result = support_result(element);
        guint64 pts = 0;
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "dropped");
        gst_structure_get_uint64(result, "pts", &pts);
        CHECK_EQ(pts, i * 33 * MS);
        gst_structure_free(result);
    }
    CHECK_EQ(support_stat(element, "dropped-eos"), 2);
    support_done(h);
}

static gpointer push_eos(gpointer user)
{
    gst_harness_push_event(user, gst_event_new_eos());
    return NULL;
}

static void a_flush_ends_the_wait_at_eos(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    for (guint i = 0; i < support_count(50, 1000); i++) {
        GstElement *element = support_element("eos-timeout", (guint64)(20 * GST_SECOND), NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        GThread *thread = g_thread_new("eos", push_eos, h);
        g_usleep(i % 20 * 1000);
        gst_harness_push_event(h, gst_event_new_flush_start());
        g_thread_join(thread);
        gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
        support_done(h);
    }
}

static void check_gaps(guint gaps)
{
    GstElement *element = support_element(NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    GstClockTime end = 0, start, duration;
    GstEvent *event;
    for (guint i = 0; i < gaps; i++)
        CHECK(gst_harness_push_event(h, gst_event_new_gap(i * 40 * MS, 40 * MS)));
    CHECK(gst_harness_push_event(h, gst_event_new_eos()));
    while ((event = gst_harness_pull_event(text)) && GST_EVENT_TYPE(event) != GST_EVENT_EOS) {
        if (GST_EVENT_TYPE(event) == GST_EVENT_GAP) {
            gst_event_parse_gap(event, &start, &duration);
            CHECK_EQ(start, end);
            end = start + duration;
        }
        gst_event_unref(event);
    }
    CHECK(event != NULL);
    CHECK(end >= gaps * 40 * MS);
    gst_clear_event(&event);
    gst_harness_teardown(text);
    support_done(h);
}

static void a_stream_of_gaps_only_reaches_its_end(void)
{
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < support_count(50, 1000); i++)
        check_gaps(i % 2 ? 100 : 1 + i);
}

/* ---- downstream ---- */

static GstFlowReturn answer;

static GstFlowReturn chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return answer;
}

static void upstream_sees_what_downstream_returns(void)
{
    static const GstFlowReturn answers[] = { GST_FLOW_OK,
                                             GST_FLOW_FLUSHING,
                                             GST_FLOW_ERROR,
                                             GST_FLOW_EOS,
                                             GST_FLOW_NOT_NEGOTIATED,
                                             GST_FLOW_NOT_LINKED,
                                             GST_FLOW_CUSTOM_SUCCESS };
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", NULL);
    GstPad *src = gst_element_get_static_pad(element, "src"),
           *sink = gst_pad_new("sink", GST_PAD_SINK);
    gst_object_unref(element);
    gst_pad_set_chain_function(sink, chain);
    gst_pad_set_active(sink, TRUE);
    gst_pad_link(src, sink);
    support_wait_loaded(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    for (guint i = 0; i < G_N_ELEMENTS(answers); i++) {
        answer = answers[i];
        CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, i * 33)), answer);
    }
    gst_pad_unlink(src, sink);
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, 1000)), GST_FLOW_NOT_LINKED);
    gst_object_unref(src);
    gst_object_unref(sink);
    support_done(h);
}

static void errors_behind_the_text_pad_become_one_message_and_video_goes_on(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPad *text = gst_element_request_pad_simple(element, "text"),
           *sink = gst_pad_new("sink", GST_PAD_SINK);
    GstMessage *message;
    answer = GST_FLOW_ERROR;
    gst_pad_set_chain_function(sink, chain);
    gst_pad_set_active(sink, TRUE);
    CHECK_EQ(gst_pad_link(text, sink), GST_PAD_LINK_OK);
    for (guint i = 0; i < 10; i++) {
        CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, i * 33)), GST_FLOW_OK);
        CHECK(support_wait_stat(element, "inferred", i + 1));
    }
    message = support_message(element, GST_MESSAGE_ERROR);
    CHECK(message != NULL);
    gst_message_unref(message);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 0);
    gst_element_release_request_pad(element, text);
    gst_object_unref(text);
    gst_object_unref(sink);
    support_done(h);
}

static gboolean propose(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) != GST_QUERY_ALLOCATION)
        return gst_pad_query_default(pad, parent, query);
    gst_query_add_allocation_pool(query, NULL, 1000, 3, 0);
    gst_query_add_allocation_pool(query, NULL, 1000, 1, 5);
    gst_query_add_allocation_pool(query, NULL, 1000, 1, 2);
    gst_query_add_allocation_meta(query, GST_VIDEO_CROP_META_API_TYPE, NULL);
    return TRUE;
}

static void downstream_decides_about_memory_and_two_buffers_more_are_asked_for(void)
{
    GstElement *element = support_element(NULL);
    GstPad *src = gst_element_get_static_pad(element, "src"),
           *down = gst_pad_new("sink", GST_PAD_SINK);
    GstPad *sink = gst_element_get_static_pad(element, "sink");
    GstCaps *caps = gst_caps_from_string(CAPS_SMALL);
    GstQuery *query = gst_query_new_allocation(caps, TRUE);
    guint min, max;
    fake_set((fake_script) { 0 });
    gst_pad_set_query_function(down, propose);
    gst_pad_set_active(down, TRUE);
    gst_pad_link(src, down);
    gst_element_set_state(element, GST_STATE_PAUSED);
    CHECK(gst_pad_query(sink, query));
    CHECK(gst_query_find_allocation_meta(query, GST_VIDEO_CROP_META_API_TYPE, NULL));
    CHECK(!gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL));
    CHECK_EQ(gst_query_get_n_allocation_pools(query), 3);
    gst_query_parse_nth_allocation_pool(query, 0, NULL, NULL, &min, &max);
    CHECK_EQ(min, 5);
    CHECK_EQ(max, 0);
    gst_query_parse_nth_allocation_pool(query, 1, NULL, NULL, &min, &max);
    CHECK_EQ(min, 3);
    CHECK_EQ(max, 5); /* what the pool can give at most is not ours to raise */
    gst_query_parse_nth_allocation_pool(query, 2, NULL, NULL, &min, &max);
    CHECK_EQ(min, 2);
    CHECK_EQ(max, 2);
    gst_query_unref(query);
    gst_caps_unref(caps);
    gst_object_unref(src);
    gst_object_unref(sink);
    gst_object_unref(down);
    support_free(element);
}

static int returned; /* atomic: buffers whose memory came back */

static void on_return(gpointer data)
{
    g_free(data);
    g_atomic_int_inc(&returned);
}

static void a_drain_query_gives_every_buffer_back(void)
{
    fake_set((fake_script) { .answer_ns = 10000 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPad *sink = gst_element_get_static_pad(element, "sink");
    GstQuery *query = gst_query_new_drain();
    returned = 0;
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 3; i++) {
        gsize size = 16 * 8 * 3;
        guint8 *data = g_malloc0(size);
        GstBuffer *frame = gst_buffer_new_wrapped_full(0, data, size, 0, size, data, on_return);
        GST_BUFFER_PTS(frame) = i * 33 * MS;
        gst_harness_push(h, frame);
        g_usleep(20000);
    }
    CHECK_EQ(g_atomic_int_get(&returned), 2); /* one waits for the engine */
    gst_pad_query(sink, query);
    CHECK_EQ(g_atomic_int_get(&returned), 3);
    gst_query_unref(query);
    gst_object_unref(sink);
    support_done(h);
}

/* ---- states ---- */

static void a_failing_load_is_one_error_and_video_still_passes(void)
{
    fake_set((fake_script) { .open_code = GLM4V_ERR_NOMEM });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = support_element("mode", mode, NULL);
        GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
        gst_object_unref(element);
        gst_harness_set_src_caps_str(h, CAPS_SMALL);
        for (guint i = 0; i < 5; i++)
            CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, i * 1000)), GST_FLOW_OK);
        g_usleep(20000);
        CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
        CHECK_EQ(gst_harness_buffers_received(h), 5);
        support_done(h);
    }
}

static void a_missing_model_fails_the_state_change_and_a_good_path_mends_it(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("model-location", "/nonexistent/model", NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    gst_element_set_state(element, GST_STATE_NULL);
    g_object_set(element, "model-location", SOURCE_ROOT, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    support_free(element);
    CHECK_EQ(fake_get().models, 0);
}

static void going_to_null_cancels_a_load(void)
{
    fake_set((fake_script) { .load_ns = 20000 * MS });
    GstElement *element = support_element(NULL);
    gint64 start = g_get_monotonic_time();
    gst_element_set_state(element, GST_STATE_PAUSED);
    gst_element_set_state(element, GST_STATE_NULL);
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_CANCELED);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 0);
    CHECK_EQ(fake_get().models, 0);
    support_free(element);
}

static void a_model_changed_in_ready_is_loaded_on_the_way_to_paused(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_STR(fake_get().quantization, "");
    g_object_set(element, "quantization", "int8", NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_STR(fake_get().quantization, "int8");
    CHECK_EQ(fake_get().models, 1);
    support_free(element);
}

static gpointer push_one(gpointer user)
{
    gst_harness_push(user, support_frame(CAPS_SMALL, 1, 0));
    return NULL;
}

static void stopping_ends_a_sync_wait(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GThread *thread = g_thread_new("pusher", push_one, h);
    g_usleep(30000);
    gint64 start = g_get_monotonic_time();
    gst_element_set_state(element, GST_STATE_READY);
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    g_thread_join(thread);
    support_done(h);
}

static void an_engine_that_hangs_is_left_behind_within_two_seconds(void)
{
    fake_set((fake_script) { .answer_ns = 3500 * MS, .hang = true });
    GstElement *element = support_element(NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(30000);
    support_count_messages(element, 0);
    gint64 start = g_get_monotonic_time();
    gst_element_set_state(element, GST_STATE_NULL);
    CHECK(g_get_monotonic_time() - start < 2500 * 1000);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 1);
    support_done(h);
    CHECK_EQ(fake_get().models, 1);
    g_usleep(2000 * 1000); /* it answers at last and frees itself */
    CHECK_EQ(fake_get().models, 0);
    CHECK_EQ(fake_get().engines, 0);
}

static void text_pads_come_and_go_while_playing(void)
{
    fake_set((fake_script) { .answer_ns = MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPadTemplate *template = gst_element_get_pad_template(element, "text");
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < support_count(100, 5000); i++) {
        if (i % 25 == 24)
            support_run(h, 1 + i / 25 % 2, CAPS_SMALL);
        GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
        /* there is one only */
        CHECK(gst_element_request_pad(element, template, NULL, NULL) == NULL);
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 66));
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 66 + 33));
        if (i % 10 == 0) {
            GstBuffer *cue = gst_harness_pull(text);
            CHECK(cue != NULL);
            gst_clear_buffer(&cue);
        }
        gst_harness_teardown(text);
    }
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(flushes_in_async_mode_are_quick_and_leave_nothing_stale);
    TEST(flushes_in_sync_mode_are_quick_and_leave_nothing_stale);
    TEST(a_flush_does_not_wait_for_a_long_answer);
    TEST(eos_before_the_first_frame_passes);
    TEST(eos_waits_for_answers_under_way);
    TEST(eos_at_any_moment_of_an_answer_comes_once_behind_all_results);
    TEST(segments_of_a_loop_are_described_one_after_another);
    TEST(segments_that_do_not_tell_their_end_pass_backwards);
    TEST(answers_that_miss_the_eos_timeout_are_reported_dropped);
    TEST(a_flush_ends_the_wait_at_eos);
    TEST(a_stream_of_gaps_only_reaches_its_end);
    TEST(upstream_sees_what_downstream_returns);
    TEST(errors_behind_the_text_pad_become_one_message_and_video_goes_on);
    TEST(downstream_decides_about_memory_and_two_buffers_more_are_asked_for);
    TEST(a_drain_query_gives_every_buffer_back);
    TEST(a_failing_load_is_one_error_and_video_still_passes);
    TEST(a_missing_model_fails_the_state_change_and_a_good_path_mends_it);
    TEST(going_to_null_cancels_a_load);
    TEST(a_model_changed_in_ready_is_loaded_on_the_way_to_paused);
    TEST(stopping_ends_a_sync_wait);
    TEST(an_engine_that_hangs_is_left_behind_within_two_seconds);
    TEST(text_pads_come_and_go_while_playing);
    return test_end();
}
