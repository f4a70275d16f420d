/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* G-10: each place where the element maps a frame, copies one, makes a converter, adds a meta,
 * pushes or asks its peers fails, in a run of its own. The linker puts the functions below between
 * the element and GStreamer (--wrap). Whatever fails, each due frame has one result, in order,
 * video goes on unless it was the video that could not be pushed, and another run is as the
 * first. */
#include "fake_engine.h"
#include "results.h"

/* ---- call sites ---- */

#define MOST_SITES 64

typedef struct {
    const char *function;
    const void *address; /* of return */
    guint calls;
} Site;

static GMutex lock; /* guards all that follows but `own` */
static Site sites[MOST_SITES];
static guint n_sites;
static const void *failing;   /* address of the site that fails; or NULL */
static guint each;            /* of so many calls from there the last fails */
static __thread gboolean own; /* this thread is in the test itself, not in the element */

/* Note a call; does it fail? */
static gboolean fails(const char *function, const void *address)
{
    guint i = 0;
    if (own)
        return FALSE;
    g_mutex_lock(&lock);
    while (i < n_sites && sites[i].address != address)
        i++;
    if (i == n_sites && n_sites < MOST_SITES)
        sites[n_sites++] = (Site) { function, address, 0 };
    sites[i].calls++;
    gboolean fail = address == failing && sites[i].calls % each == 0;
    g_mutex_unlock(&lock);
    return fail;
}

#define WRAP(type, name, parameters, arguments, failure)                                           \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    __attribute__((visibility("default"))) type __wrap_##name parameters                           \
    {                                                                                              \
        return fails(#name, __builtin_return_address(0)) ? failure : __real_##name arguments;      \
    }

static GstFlowReturn lose_buffer(GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return GST_FLOW_ERROR;
}

static gboolean lose_event(GstEvent *event)
{
    gst_event_unref(event);
    return FALSE;
}

static GstVideoConverter *lose_options(GstStructure *options)
{
    gst_structure_free(options);
    return NULL;
}

WRAP(gboolean, gst_buffer_map, (GstBuffer * b, GstMapInfo *map, GstMapFlags flags), (b, map, flags),
     FALSE)
WRAP(GstBuffer *, gst_buffer_copy_deep, (const GstBuffer *b), (b), NULL)
WRAP(GstVideoConverter *, gst_video_converter_new,
     (const GstVideoInfo *in, const GstVideoInfo *out, GstStructure *options), (in, out, options),
     lose_options(options))
WRAP(GstCustomMeta *, gst_buffer_add_custom_meta, (GstBuffer * b, const gchar *name), (b, name),
     NULL)
WRAP(GstVideoRegionOfInterestMeta *, gst_buffer_add_video_region_of_interest_meta_id,
     (GstBuffer * b, GQuark type, guint x, guint y, guint w, guint h), (b, type, x, y, w, h), NULL)
WRAP(GstFlowReturn, gst_pad_push, (GstPad * pad, GstBuffer *b), (pad, b), lose_buffer(b))
WRAP(gboolean, gst_pad_push_event, (GstPad * pad, GstEvent *event), (pad, event), lose_event(event))
WRAP(gboolean, gst_pad_peer_query, (GstPad * pad, GstQuery *query), (pad, query), FALSE)
WRAP(gboolean, gst_pad_peer_query_duration, (GstPad * pad, GstFormat format, gint64 *duration),
     (pad, format, duration), FALSE)
WRAP(gboolean, gst_pad_query_default, (GstPad * pad, GstObject *parent, GstQuery *query),
     (pad, parent, query), FALSE)
WRAP(gboolean, gst_pad_event_default, (GstPad * pad, GstObject *parent, GstEvent *event),
     (pad, parent, event), lose_event(event))

/* How many places of the element call each of them, at least: a compiler may make one of two. */
static const struct {
    const char *function;
    guint least;
} expected[] = {
    { "gst_buffer_map", 2 },
    { "gst_buffer_copy_deep", 3 },
    { "gst_video_converter_new", 1 },
    { "gst_buffer_add_custom_meta", 1 },
    { "gst_buffer_add_video_region_of_interest_meta_id", 1 },
    { "gst_pad_push", 3 },
    { "gst_pad_push_event", 8 },
    { "gst_pad_peer_query", 3 },
    { "gst_pad_peer_query_duration", 1 },
    { "gst_pad_query_default", 2 },
    { "gst_pad_event_default", 1 },
};

/* ---- a run that comes to all of them ---- */

static GstBuffer *frame_of(guint i, gboolean no_share)
{
    own = TRUE;
    GstBuffer *frame = support_frame(CAPS_SMALL, i * 0x102030, i * 33);
    own = FALSE;
    if (no_share)
        GST_MINI_OBJECT_FLAG_SET(gst_buffer_peek_memory(frame, 0), GST_MEMORY_FLAG_NO_SHARE);
    return frame;
}

static void ask_both(GstHarness *h)
{
    GstPad *sink = gst_element_get_static_pad(h->element, "sink");
    GstPad *src = gst_element_get_static_pad(h->element, "src");
    GstCaps *caps = gst_caps_from_string(CAPS_SMALL);
    GstQuery *queries[] = { gst_query_new_drain(), gst_query_new_allocation(caps, FALSE),
                            gst_query_new_caps(NULL) };
    for (guint i = 0; i < G_N_ELEMENTS(queries); i++) {
        gst_pad_query(sink, queries[i]);
        gst_query_unref(queries[i]);
    }
    GstQuery *latency = gst_query_new_latency();
    gst_pad_query(src, latency);
    gst_query_unref(latency);
    gst_caps_unref(caps);
    gst_object_unref(src);
    gst_object_unref(sink);
}

/* Events out of band go to a pad that has begun; those of the branch come up from it. */
static void send_events(GstHarness *h, GstHarness *text)
{
    gst_harness_push_event(h, gst_event_new_instant_rate_change(1.0, 0));
    gst_harness_push_upstream_event(text, gst_event_new_navigation(gst_structure_new_empty("n")));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
}

static gboolean answer_duration(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) == GST_QUERY_DURATION) {
        gst_query_set_duration(query, GST_FORMAT_TIME, 3600 * (gint64)GST_SECOND);
        return TRUE;
    }
    own = TRUE;
    gboolean answered = gst_pad_query_default(pad, parent, query);
    own = FALSE;
    return answered;
}

#define FRAMES 12

/* Does upstream see that CAPS are refused? Then no frame comes. */
static gboolean refuses_video(void)
{
    for (guint i = 0; failing && i < n_sites; i++)
        if (sites[i].address == failing)
            return strcmp(sites[i].function, "gst_pad_push_event") == 0 ||
                   strcmp(sites[i].function, "gst_pad_query_default") == 0;
    return FALSE;
}

/* Every frame has come through, and each due one has its result, in order: those that the flush
 * discarded are missing at most. */
static void check_results(GstElement *element)
{
    const guint64 sampled = support_stat(element, "sampled"), n = support_stat(element, "results");
    guint64 next = 0;
    if (!refuses_video()) {
        CHECK_EQ(support_stat(element, "frames-seen"), FRAMES);
        CHECK(sampled > 0 && n > 0);
    }
    CHECK_EQ(support_stat(element, "dropped-busy"), 0);
    for (guint i = 0; i < n; i++) {
        GstStructure *result = results_next(element);
        REQUIRE(result != NULL);
        CHECK(results_uint64(result, "id") >= next);
        next = results_uint64(result, "id") + 1;
        gst_structure_free(result);
    }
    CHECK_EQ(next, sampled);
    CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
}

static void run(int mode, guint clip)
{
    static const glm4v_box box = { .x = 1, .y = 1, .width = 4, .height = 4, .label = "hole" };
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1, .answer_ns = mode == 1 ? 2 * MS : 0 });
    own = TRUE;
    GstElement *element = support_element("mode", mode, "sample-mode", SAMPLE_ALL, "send-events",
                                          TRUE, "change-threshold", clip > 1 ? 0 : 0.001,
                                          "max-pending", 99, "frames-per-request", clip, NULL);
    own = FALSE;
    GstHarness *h = support_harness(element, FALSE, NULL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    GstHarness *json = gst_harness_new_with_element(element, NULL, "json");
    GstHarness *const all[] = { h, text, json };
    gst_pad_set_query_function(h->srcpad, answer_duration);
    for (guint i = 0; i < G_N_ELEMENTS(all); i++)
        gst_harness_set_drop_buffers(all[i], TRUE);
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    for (guint i = 0; i < FRAMES; i++) {
        gst_harness_push(h, frame_of(i, i % 2));
        if (i == FRAMES / 3)
            ask_both(h);
        if (i == FRAMES / 2)
            send_events(h, text);
    }
    gst_harness_push_event(h, gst_event_new_eos());
    check_results(element);
    gst_harness_teardown(json);
    gst_harness_teardown(text);
    support_done(h);
    CHECK_EQ(fake_get().requests, 0);
    CHECK_EQ(fake_get().engines, 0);
}

static void run_both(void)
{
    run(1, 1);
    run(2, 1);
    run(1, 3);
}

static guint count_sites(const char *function)
{
    guint n = 0;
    for (guint i = 0; i < n_sites; i++)
        n += strcmp(sites[i].function, function) == 0;
    return n;
}

static guint n_found; /* sites that a run comes to in which nothing fails */

static void a_run_comes_to_every_call(void)
{
    run_both();
    n_found = n_sites;
    for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
        printf("# %s is called from %u places\n", expected[i].function,
               count_sites(expected[i].function));
        CHECK(count_sites(expected[i].function) >= expected[i].least);
    }
}

/* Some calls depend on the order of threads. Those that only another failure leads to are not
 * tried. */
static void fail_each(guint calls)
{
    each = calls;
    for (guint i = 0; i < n_found; i++) {
        const guint enough = sites[i].calls + calls;
        printf("# %s, place %u: one of %u calls\n", sites[i].function, i, calls);
        fflush(stdout);
        failing = sites[i].address;
        for (guint k = 0; k < 100 && sites[i].calls < enough; k++)
            run_both();
        failing = NULL;
        CHECK(sites[i].calls >= enough);
    }
    run_both();
}

static void each_call_may_fail(void)
{
    fail_each(1);
}

static void each_call_may_fail_now_and_then(void)
{
    fail_each(2);
}

static guint count_calls(const char *function)
{
    guint calls = 0;
    g_mutex_lock(&lock);
    for (guint i = 0; i < n_sites; i++)
        calls += strcmp(sites[i].function, function) ? 0 : sites[i].calls;
    g_mutex_unlock(&lock);
    return calls;
}

static void a_clip_is_converted_once_for_all_its_questions(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", 2, "frames-per-request", 3, "window", 66 * MS,
                                          "interval", 66 * MS, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<a, b, c>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 2; i++) {
        const guint before = count_calls("gst_buffer_map");
        for (guint k = 0; k < (i ? 2 : 3); k++)
            gst_harness_push(h, frame_of(2 * i + k + i, FALSE));
        for (guint k = 0; k < 3; k++)
            results_check(element, 3 * i + k, "ok", "stop");
        CHECK_EQ(count_calls("gst_buffer_map") - before, 3);
    }
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(a_run_comes_to_every_call);
    TEST(each_call_may_fail);
    TEST(each_call_may_fail_now_and_then);
    TEST(a_clip_is_converted_once_for_all_its_questions);
    return test_end();
}
