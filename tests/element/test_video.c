/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The video path with a scripted engine: what passes, when, unchanged, and where results are
 * attached. */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/resource.h>

#include "fake_engine.h"
#include "results.h"

static void async_passes_the_same_memory_unchanged(void)
{
    GstHarness *h =
        support_harness(support_element("interval", (guint64)0, NULL), TRUE, CAPS_SMALL);
    for (guint i = 0; i < 50; i++) {
        GstBuffer *in = support_frame(CAPS_SMALL, 0x102030 + i, i * 33), *out;
        GstMemory *memory = gst_buffer_peek_memory(in, 0);
        GstBuffer *copy = gst_buffer_copy_deep(in);
        GstMapInfo a, b;
        GST_BUFFER_OFFSET(in) = i;
        GST_BUFFER_FLAG_SET(in, GST_BUFFER_FLAG_MARKER);
        CHECK_EQ(gst_harness_push(h, in), GST_FLOW_OK);
        out = gst_harness_pull(h);
        CHECK(gst_buffer_peek_memory(out, 0) == memory);
        CHECK_EQ(GST_BUFFER_PTS(out), i * 33 * MS);
        CHECK_EQ(GST_BUFFER_DURATION(out), 33 * MS);
        CHECK_EQ(GST_BUFFER_OFFSET(out), i);
        CHECK(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_MARKER));
        gst_buffer_map(out, &a, GST_MAP_READ);
        gst_buffer_map(copy, &b, GST_MAP_READ);
        CHECK(a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
        gst_buffer_unmap(out, &a);
        gst_buffer_unmap(copy, &b);
        gst_buffer_unref(copy);
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void async_does_not_wait_for_the_engine(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstHarness *h = support_harness(support_element(NULL), TRUE, CAPS_SMALL);
    gint64 start = g_get_monotonic_time();
    for (guint i = 0; i < 30; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    CHECK_EQ(gst_harness_buffers_received(h), 30);
    support_done(h);
}

static void async_attaches_each_result_to_the_next_buffer_oldest_first(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    for (guint i = 0; i < 3; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, 0x0a0b00 + i, i * 33));
        results_wait(element, 1);
        GstBuffer *out = gst_harness_pull(h);
        const GstStructure *meta = support_meta(out);
        CHECK_EQ(support_count_meta(out), i > 0);
        if (i > 0) {
            guint64 pts;
            REQUIRE(meta && gst_structure_get_uint64(meta, "pts", &pts));
            CHECK_EQ(pts, (i - 1) * 33 * MS);
            CHECK_CONTAINS(gst_structure_get_string(meta, "text"), i == 1 ? "#0a0b00" : "#0a0b01");
        }
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void several_finished_results_go_on_one_buffer(void)
{
    fake_set((fake_script) { .answer_ns = 30 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(10000); /* the first is with the engine, the second waits */
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    results_wait(element, 2);
    gst_harness_push(h, support_frame(CAPS_SMALL, 3, 66));
    for (guint i = 0; i < 3; i++) {
        GstBuffer *out = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(out), i == 2 ? 2 : 0);
        if (i == 2)
            CHECK_CONTAINS(gst_structure_get_string(support_meta(out), "text"), "#000001");
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void newest_frame_wins_and_drops_are_counted(void)
{
    fake_set((fake_script) { .answer_ns = 100 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    g_usleep(30000);
    for (guint i = 1; i <= 5; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
    for (guint i = 0; i <= 5; i++) {
        GstStructure *result = support_result(element);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), i % 5 ? "dropped" : "ok");
        if (i % 5 == 0)
            CHECK_CONTAINS(gst_structure_get_string(result, "text"), i ? "#000005" : "#000000");
        gst_structure_free(result);
    }
    CHECK_EQ(support_stat(element, "dropped-busy"), 4);
    CHECK_EQ(support_stat(element, "sampled"), 6);
    support_done(h);
}

static void sync_attaches_the_answer_to_exactly_its_frame(void)
{
    fake_set((fake_script) { .answer_ns = 5 * MS });
    GstElement *element = support_element("mode", 2, "sample-mode", 1, "nth", 3, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 12; i++) {
        char expected[32];
        GstBuffer *in = support_frame(CAPS_SMALL, 0x30 + i, i * 33);
        GstMemory *memory = gst_buffer_peek_memory(in, 0);
        gst_harness_push(h, in);
        GstBuffer *out = gst_harness_pull(h);
        CHECK(gst_buffer_peek_memory(out, 0) == memory);
        CHECK_EQ(support_count_meta(out), i % 3 == 0);
        snprintf(expected, sizeof expected, "#%06x", 0x30 + i);
        if (i % 3 == 0)
            CHECK_CONTAINS(gst_structure_get_string(support_meta(out), "text"), expected);
        gst_buffer_unref(out);
    }
    support_done(h);
}

static GstPadProbeReturn count_results(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_add((gint *)user, (gint)support_count_meta(GST_PAD_PROBE_INFO_BUFFER(info)));
    return GST_PAD_PROBE_OK;
}

static void results_stay_on_frames_behind_encoders(void)
{
    static const char *const behind[] = { "jpegenc", "pngenc", "jpegenc ! jpegdec",
                                          ("videoscale ! video/x-raw,width=64,height=48 ! "
                                           "avenc_mpeg4 max-bframes=0") };
    for (guint i = 0; i < G_N_ELEMENTS(behind); i++) {
        fake_set((fake_script) { 0 });
        gchar *line = g_strdup_printf("videotestsrc num-buffers=10 ! video/x-raw,format=I420 ! "
                                      "glm4vdescribe mode=sync sample-mode=all model-location=%s ! "
                                      "videoconvert ! %s ! fakesink name=out",
                                      SOURCE_ROOT, behind[i]);
        GstElement *pipeline = gst_parse_launch(line, NULL);
        gint results = 0;
        REQUIRE(pipeline != NULL);
        GstElement *out = gst_bin_get_by_name(GST_BIN(pipeline), "out");
        GstPad *pad = gst_element_get_static_pad(out, "sink");
        GstBus *bus = gst_element_get_bus(pipeline);
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, count_results, &results, NULL);
        gst_element_set_state(pipeline, GST_STATE_PLAYING);
        GstMessage *end =
            gst_bus_timed_pop_filtered(bus, PATIENCE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
        CHECK(end && GST_MESSAGE_TYPE(end) == GST_MESSAGE_EOS);
        gst_element_set_state(pipeline, GST_STATE_NULL);
        if (results != 10)
            test_fail(__FILE__, __LINE__, "%d results behind %s", results, behind[i]);
        g_clear_pointer(&end, gst_message_unref);
        gst_object_unref(bus);
        gst_object_unref(pad);
        gst_object_unref(out);
        gst_object_unref(pipeline);
        g_free(line);
    }
}

static void auto_mode_is_sync_without_a_live_source_and_async_with_one(void)
{
    fake_set((fake_script) { .answer_ns = 20 * MS });
    for (int live = 0; live < 2; live++) {
        GstHarness *h = support_harness(support_element(NULL), live, CAPS_SMALL);
        gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
        GstBuffer *out = gst_harness_pull(h);
        CHECK_EQ(support_count_meta(out), !live);
        gst_buffer_unref(out);
        support_done(h);
    }
}

static void sync_waits_for_the_model_to_load(void)
{
    fake_set((fake_script) { .load_ns = 200 * MS });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    GstBuffer *out = gst_harness_pull(h);
    CHECK_EQ(support_count_meta(out), 1);
    gst_buffer_unref(out);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 33));
    CHECK_EQ(support_stat(element, "sampled"), 1);
    support_done(h);
}

static void async_passes_and_counts_while_the_model_loads_then_samples_at_once(void)
{
    fake_set((fake_script) { .load_ns = 200 * MS });
    GstElement *element = support_element("mode", 1, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    CHECK_EQ(gst_harness_buffers_received(h), 1);
    CHECK_EQ(support_stat(element, "dropped-loading"), 1);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    gst_harness_push(h, support_frame(CAPS_SMALL, 8, 33));
    CHECK(support_wait_stat(element, "inferred", 1));
    support_done(h);
}

static void a_result_has_every_key_of_the_contract(void)
{
    static const char *keys[] = { "version",      "id",      "pts",    "running-time",
                                  "frame-number", "status",  "text",   "finish-reason",
                                  "delay",        "timings", "tokens", "model",
                                  "prompt-hash",  "seed",    "width",  "height" };
    fake_set((fake_script) { .text = "a ball" });
    GstElement *element = support_element("seed", (guint64)77, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    GstStructure *message = support_result(element);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 33));
    gst_buffer_unref(gst_harness_pull(h));
    GstBuffer *out = gst_harness_pull(h);
    const GstStructure *meta = support_meta(out);
    REQUIRE(message && meta);
    CHECK_STR(gst_structure_get_name(message), "glm4vdescribe-result");
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        const GValue *a = gst_structure_get_value(message, keys[i]);
        const GValue *b = gst_structure_get_value(meta, keys[i]);
        if (!a || !b || gst_value_compare(a, b) != GST_VALUE_EQUAL)
            test_fail(__FILE__, __LINE__, "%s is missing or differs between message and meta",
                      keys[i]);
    }
    CHECK_STR(gst_structure_get_string(message, "text"), "a ball");
    CHECK_STR(gst_structure_get_string(message, "status"), "ok");
    gst_structure_free(message);
    gst_buffer_unref(out);
    support_done(h);
}

static void outputs_can_be_switched_off(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element =
        support_element("attach-meta", FALSE, "post-messages", FALSE, "mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    GstBuffer *out = gst_harness_pull(h);
    CHECK_EQ(support_count_meta(out), 0);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ELEMENT), 0);
    CHECK_EQ(support_stat(element, "inferred"), 1);
    gst_buffer_unref(out);
    support_done(h);
}

static void settings_reach_the_engine(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(
        "prompt", "What?", "system-prompt", "Be brief.", "max-tokens", 9, "quantization",
        "text=int4,vision=int8", "n-threads", 3, "max-pixels", (guint64)50176, "mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    fake_counts c = fake_get();
    CHECK_STR(c.prompt, "What?");
    CHECK_STR(c.system, "Be brief.");
    CHECK_STR(c.quantization, "text=int4,vision=int8");
    CHECK_EQ(c.max_tokens, 9);
    CHECK_EQ(c.n_threads, 3);
    CHECK_EQ(c.max_pixels, 50176);
    g_object_set(element, "prompt", "And now?", NULL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 1000));
    CHECK_STR(fake_get().prompt, "And now?");
    support_done(h);
}

static void caps_change_in_flight_keeps_each_frame_its_own_format(void)
{
    static const char wide[] = "video/x-raw,format=GRAY8,width=40,height=4,framerate=30/1";
    fake_set((fake_script) { .answer_ns = 50 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x112233, 0));
    g_usleep(10000);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0x445566, 33));
    gst_harness_set_src_caps_str(h, wide);
    GstStructure *a = support_result(element), *b = support_result(element);
    REQUIRE(a && b);
    CHECK_STR(gst_structure_get_string(a, "text"), "16x8 #112233");
    CHECK_STR(gst_structure_get_string(b, "text"), "16x8 #445566");
    gst_harness_push(h, support_frame(wide, 0x80, 66));
    gst_structure_free(a);
    a = support_result(element);
    REQUIRE(a);
    CHECK_STR(gst_structure_get_string(a, "text"), "40x4 #808080");
    gst_structure_free(a);
    gst_structure_free(b);
    support_done(h);
}

static void latency_is_zero_in_async_and_declared_in_sync(void)
{
    fake_set((fake_script) { .answer_ns = 50 * MS });
    GstElement *element = support_element(NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_set_upstream_latency(h, 10 * MS);
    CHECK_EQ(gst_harness_query_latency(h), 10 * MS);
    g_object_set(element, "mode", 2, "latency", (guint64)(700 * MS), NULL);
    CHECK_EQ(gst_harness_query_latency(h), 710 * MS);
    g_object_set(element, "latency", (guint64)0, NULL);
    CHECK_EQ(gst_harness_query_latency(h), 10 * MS);
    support_count_messages(element, GST_MESSAGE_LATENCY);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_LATENCY), 1);
    CHECK(gst_harness_query_latency(h) >= 60 * MS);
    support_done(h);
}

static void pictures_larger_than_the_bound_are_refused_with_one_error(void)
{
    GstElement *element = support_element(NULL);
    GstHarness *h = support_harness(element, TRUE, NULL);
    GstCaps *caps =
        gst_caps_from_string("video/x-raw,format=RGB,width=16384,height=16384,framerate=1/1");
    gst_harness_push_event(h, gst_event_new_stream_start("s"));
    gst_harness_push_event(h, gst_event_new_caps(caps));
    CHECK(gst_harness_push(h, gst_buffer_new()) < 0);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    gst_caps_unref(caps);
    support_done(h);
}

/* The thread of this process with that name; 0 if there is none. */
static int thread_named(const char *name)
{
    GDir *dir = g_dir_open("/proc/self/task", 0, NULL);
    const char *id;
    int found = 0;
    while (dir && !found && (id = g_dir_read_name(dir))) {
        gchar *path = g_strdup_printf("/proc/self/task/%s/comm", id), *comm = NULL;
        if (g_file_get_contents(path, &comm, NULL, NULL) && g_str_has_prefix(comm, name))
            found = (int)g_ascii_strtoll(id, NULL, 10);
        g_free(comm);
        g_free(path);
    }
    g_clear_pointer(&dir, g_dir_close);
    return found;
}

/* Else a frame that wakes it may wait for a whole conversion before it goes on. */
static void the_worker_yields_to_the_video(void)
{
    const int policy = sched_getscheduler(0), priority = getpriority(PRIO_PROCESS, 0);
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    int worker = thread_named("glm4v-worker");
    REQUIRE(worker > 0);
    CHECK_EQ(sched_getscheduler(worker), SCHED_BATCH);
    CHECK_EQ(getpriority(PRIO_PROCESS, (id_t)worker), MAX(priority, 5));
    CHECK_EQ(sched_getscheduler(0), policy);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), priority);
    support_done(h);
}

/* ---- a pool that counts what it allocates ---- */

typedef struct {
    GstBufferPool parent;
    guint allocated;
} CountingPool;
typedef struct {
    GstBufferPoolClass parent;
} CountingPoolClass;
GType counting_pool_get_type(void);
G_DEFINE_TYPE(CountingPool, counting_pool, GST_TYPE_BUFFER_POOL)

static GstFlowReturn count_buffer(GstBufferPool *pool, GstBuffer **buffer,
                                  GstBufferPoolAcquireParams *params)
{
    ((CountingPool *)pool)->allocated++;
    return GST_BUFFER_POOL_CLASS(counting_pool_parent_class)->alloc_buffer(pool, buffer, params);
}

static void counting_pool_class_init(CountingPoolClass *klass)
{
    GST_BUFFER_POOL_CLASS(klass)->alloc_buffer = count_buffer;
}

static void counting_pool_init(CountingPool *self)
{
}

static void upstreams_pool_gets_its_frames_back_with_every_frame_due(void)
{
    static const struct {
        int mode;
        guint64 answer_ns;
    } cases[] = { { 1, 0 }, { 1, 3 * MS }, { 2, 0 } };
    for (guint c = 0; c < G_N_ELEMENTS(cases); c++) {
        CountingPool *pool = g_object_new(counting_pool_get_type(), NULL);
        GstBufferPool *base = GST_BUFFER_POOL(pool);
        GstStructure *config = gst_buffer_pool_get_config(base);
        fake_set((fake_script) { .answer_ns = cases[c].answer_ns });
        GstElement *element = support_element("mode", cases[c].mode, "sample-mode", 2, NULL);
        GstHarness *h = support_harness(element, cases[c].mode == 1, CAPS_SMALL);
        gst_buffer_pool_config_set_params(config, NULL, 16 * 8 * 3, 0, 0);
        gst_buffer_pool_set_config(base, config);
        gst_buffer_pool_set_active(base, TRUE);
        GstBuffer *shown[4] = { NULL }; /* what a queue behind the element keeps */
        for (guint i = 0, metas = 0; i < 90; i++) {
            GstBuffer *frame;
            CHECK_EQ(gst_buffer_pool_acquire_buffer(base, &frame, NULL), GST_FLOW_OK);
            GST_BUFFER_PTS(frame) = i * 33 * MS;
            CHECK_EQ(gst_harness_push(h, frame), GST_FLOW_OK);
            frame = gst_harness_pull(h);
            metas += support_count_meta(frame);
            gst_clear_buffer(&shown[i % 4]);
            shown[i % 4] = frame;
            g_usleep(1000);
            CHECK(i < 89 || metas > 10);
        }
        for (guint i = 0; i < 4; i++)
            gst_clear_buffer(&shown[i]);
        printf("# mode %d: %u allocations for 90 frames\n", cases[c].mode, pool->allocated);
        CHECK(pool->allocated <= 4 + 3); /* passing, waiting, being converted */
        support_done(h);
        gst_buffer_pool_set_active(base, FALSE);
        gst_object_unref(pool);
    }
}

/* How many of 100 frames at 10 fps are sampled, all with DISCONT as behind a leaky queue, every
 * other one `back` ms before the one ahead of it. */
static guint sampled_of_torn_frames(GstElement *element, GstHarness *h, guint back)
{
    guint64 before = support_stat(element, "sampled");
    for (guint i = 0; i < 100; i++) {
        GstBuffer *frame =
            support_frame(CAPS_SMALL, i, i % 2 ? (i - 1) * 100 + 1000 - back : i * 100 + 1000);
        GST_BUFFER_FLAG_SET(frame, GST_BUFFER_FLAG_DISCONT);
        CHECK_EQ(gst_harness_push(h, frame), GST_FLOW_OK);
    }
    return (guint)(support_stat(element, "sampled") - before);
}

static void new_segment(GstHarness *h)
{
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
}

static void the_grid_goes_on_over_discont_and_small_steps_back(void)
{
    static const struct {
        int sample_mode;
        guint back, expected;
    } cases[] = { { 0, 0, 2 }, { 0, 1, 2 }, { 0, 900, 2 }, { 1, 1, 2 }, { 1, 900, 2 } };
    fake_set((fake_script) { 0 });
    for (guint c = 0; c < G_N_ELEMENTS(cases); c++) {
        GstElement *element = support_element("mode", 2, "sample-mode", cases[c].sample_mode, "nth",
                                              50, "interval", (guint64)(5 * GST_SECOND), NULL);
        GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
        CHECK_EQ(sampled_of_torn_frames(element, h, cases[c].back), cases[c].expected);
        new_segment(h);
        CHECK_EQ(sampled_of_torn_frames(element, h, cases[c].back), cases[c].expected);
        gst_harness_push_event(h, gst_event_new_flush_start());
        gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
        new_segment(h);
        CHECK_EQ(sampled_of_torn_frames(element, h, cases[c].back), cases[c].expected);
        gst_element_set_state(element, GST_STATE_READY); /* and in a second run */
        gst_element_set_state(element, GST_STATE_PLAYING);
        gst_harness_push_event(h, gst_event_new_stream_start("again"));
        gst_harness_set_src_caps_str(h, CAPS_SMALL);
        new_segment(h);
        CHECK_EQ(sampled_of_torn_frames(element, h, cases[c].back), cases[c].expected);
        support_done(h);
    }
}

static void gap_corrupted_and_trick_mode_frames_are_not_described(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("sample-mode", 2, "mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstBuffer *frame = support_frame(CAPS_SMALL, 1, 0);
    GST_BUFFER_FLAG_SET(frame, GST_BUFFER_FLAG_GAP);
    gst_harness_push(h, frame);
    frame = support_frame(CAPS_SMALL, 1, 33);
    GST_BUFFER_FLAG_SET(frame, GST_BUFFER_FLAG_CORRUPTED);
    gst_harness_push(h, frame);
    CHECK_EQ(support_stat(element, "sampled"), 0);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 66));
    CHECK_EQ(support_stat(element, "sampled"), 1);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.rate = -1.0;
    segment.stop = GST_SECOND;
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 500));
    CHECK_EQ(support_stat(element, "sampled"), 1);
    CHECK_EQ(gst_harness_buffers_received(h), 4);
    support_done(h);
}

static void frames_smaller_than_their_caps_pass_with_one_warning(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    support_count_messages(element, 0);
    for (guint i = 1; i <= 64; i++) {
        GstBuffer *frame = support_frame(CAPS_SMALL, 1, i * 33);
        gst_buffer_set_size(frame, (gssize)(gst_buffer_get_size(frame) - i));
        CHECK_EQ(gst_harness_push(h, frame), GST_FLOW_OK);
    }
    gst_harness_push(h, gst_buffer_new());
    CHECK_EQ(gst_harness_buffers_received(h), 65);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 1);
    CHECK_EQ(support_stat(element, "bad-frames"), 65);
    CHECK_EQ(fake_get().submitted, 0);
    support_done(h);
}

static void check_named(const char *page, const char *name)
{
    gchar *code = g_strdup_printf("`%s`", name);
    if (!strstr(page, code))
        test_fail(__FILE__, __LINE__, "docs/element.md does not name %s", name);
    g_free(code);
}

static gboolean check_field(GQuark field, const GValue *value, gpointer page)
{
    check_named(page, g_quark_to_string(field));
    if (GST_VALUE_HOLDS_ARRAY(value) && gst_value_array_get_size(value))
        value = gst_value_array_get_value(value, 0);
    if (GST_VALUE_HOLDS_STRUCTURE(value))
        gst_structure_foreach(gst_value_get_structure(value), check_field, page);
    return TRUE;
}

static void the_manual_names_every_property_counter_key_and_format(void)
{
    const glm4v_box box = { 1, 1, 2, 2, "hole" };
    const glm4v_action action = { "Swipe", "text", "message", { 1, 2 }, { 3, 4 } };
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1, .action = &action });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstStructure *stats = NULL, *result;
    gchar *page = NULL;
    guint n;
    REQUIRE(g_file_get_contents(SOURCE_ROOT "/docs/element.md", &page, NULL, NULL));
    GParamSpec **specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &n);
    for (guint i = 0; i < n; i++) {
        GParamSpec *spec = specs[i];
        if (spec->owner_type != G_OBJECT_TYPE(element))
            continue;
        check_named(page, spec->name);
        CHECK(strlen(g_param_spec_get_blurb(spec)) > 20);
        CHECK(!(spec->flags & G_PARAM_WRITABLE) ||
              (spec->flags & (GST_PARAM_MUTABLE_READY | GST_PARAM_MUTABLE_PLAYING)));
    }
    g_object_get(element, "stats", &stats, NULL);
    gst_structure_foreach(stats, check_field, page);
    gst_harness_push(h, support_frame(CAPS_SMALL, 7, 0));
    result = support_result(element);
    REQUIRE(result != NULL);
    gst_structure_foreach(result, check_field, page);
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    GstCaps *caps = gst_pad_get_pad_template_caps(pad);
    for (guint c = 0; c < gst_caps_get_size(caps); c++) {
        gchar *features = gst_caps_features_to_string(gst_caps_get_features(caps, c));
        const GValue *formats = gst_structure_get_value(gst_caps_get_structure(caps, c), "format");
        CHECK_CONTAINS(page, features);
        for (guint i = 0; i < gst_value_list_get_size(formats); i++)
            CHECK_CONTAINS(page, g_value_get_string(gst_value_list_get_value(formats, i)));
        g_free(features);
    }
    gst_caps_unref(caps);
    gst_object_unref(pad);
    gst_structure_free(result);
    gst_structure_free(stats);
    g_free(specs);
    g_free(page);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(async_passes_the_same_memory_unchanged);
    TEST(async_does_not_wait_for_the_engine);
    TEST(async_attaches_each_result_to_the_next_buffer_oldest_first);
    TEST(several_finished_results_go_on_one_buffer);
    TEST(newest_frame_wins_and_drops_are_counted);
    TEST(sync_attaches_the_answer_to_exactly_its_frame);
    TEST(results_stay_on_frames_behind_encoders);
    TEST(auto_mode_is_sync_without_a_live_source_and_async_with_one);
    TEST(sync_waits_for_the_model_to_load);
    TEST(async_passes_and_counts_while_the_model_loads_then_samples_at_once);
    TEST(a_result_has_every_key_of_the_contract);
    TEST(outputs_can_be_switched_off);
    TEST(settings_reach_the_engine);
    TEST(caps_change_in_flight_keeps_each_frame_its_own_format);
    TEST(latency_is_zero_in_async_and_declared_in_sync);
    TEST(pictures_larger_than_the_bound_are_refused_with_one_error);
    TEST(the_worker_yields_to_the_video);
    TEST(upstreams_pool_gets_its_frames_back_with_every_frame_due);
    TEST(the_grid_goes_on_over_discont_and_small_steps_back);
    TEST(gap_corrupted_and_trick_mode_frames_are_not_described);
    TEST(frames_smaller_than_their_caps_pass_with_one_warning);
    TEST(the_manual_names_every_property_counter_key_and_format);
    return test_end();
}
