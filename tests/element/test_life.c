/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One element's life: played again, restarted in a pipeline that goes on, given a wrong model and a
 * right one, asked at times when it has nothing to answer with. */
#include "fake_engine.h"
#include "support.h"

/* ---- runs ---- */

static int cues, metas; /* atomic: buffers on the text pad, results on frames */

static GstPadProbeReturn count_cue(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_inc(&cues);
    return GST_PAD_PROBE_OK;
}

static GstPadProbeReturn count_metas(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_add(&metas, (int)support_count_meta(GST_PAD_PROBE_INFO_BUFFER(info)));
    return GST_PAD_PROBE_OK;
}

static void probe(GstElement *element, const char *name, GstPadProbeCallback callback)
{
    GstPad *pad = gst_element_get_static_pad(element, name);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, NULL, NULL);
    gst_object_unref(pad);
}

/* Play to the end; the results that were posted, numbered from 0 with frames from 0. */
static int play(GstElement *pipeline)
{
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message;
    int results = 0;
    gboolean ended = FALSE;
    cues = metas = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while (!ended &&
           (message = gst_bus_timed_pop_filtered(
                bus, 10 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT))) {
        if (gst_message_has_name(message, "glm4vdescribe-result")) {
            guint64 id, frame;
            CHECK(gst_structure_get(gst_message_get_structure(message), "id", G_TYPE_UINT64, &id,
                                    "frame-number", G_TYPE_UINT64, &frame, NULL));
            CHECK_EQ(id, results);
            CHECK_EQ(frame, results * 30);
            results++;
        } else if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_ELEMENT) {
            ended = GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
            CHECK(ended);
        }
        gst_message_unref(message);
    }
    CHECK(ended);
    gst_object_unref(bus);
    return results;
}

static void each_run_has_the_same_captions(void)
{
    static const char *modes[] = { "sync", "async" };
    fake_set((fake_script) { 0 });
    for (int mode = 0; mode < 2; mode++) {
        gchar *line = g_strdup_printf(
            "videotestsrc is-live=%d num-buffers=75 ! "
            "video/x-raw,format=RGB,width=16,height=8,framerate=100/1 ! glm4vdescribe name=d "
            "model-location=" SOURCE_ROOT " sample-mode=every-nth nth=30 mode=%s ! fakesink "
            "d.text ! queue ! fakesink name=t async=false",
            mode, modes[mode]);
        GstElement *pipeline = gst_parse_launch(line, NULL);
        GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d"),
                   *sink = gst_bin_get_by_name(GST_BIN(pipeline), "t");
        probe(element, "src", count_metas);
        probe(sink, "sink", count_cue);
        guint64 since_null = 0;
        for (int run = 0; run < 6; run++) {
            gst_element_set_state(pipeline, GST_STATE_READY);
            if (run % 2 == 0)
                CHECK_EQ(support_wait_loaded(pipeline), GST_PROGRESS_TYPE_COMPLETE);
            since_null = run % 2 ? since_null + 3 : 3;
            CHECK_EQ(play(pipeline), 3);
            CHECK_EQ(g_atomic_int_get(&cues), 3);
            CHECK_EQ(g_atomic_int_get(&metas), 3);
            CHECK_EQ(support_stat(element, "inferred"), since_null);
            CHECK_EQ(support_stat(element, "text-pushed"), since_null);
            CHECK_EQ(support_stat(element, "frames-seen"), since_null * 25);
            gst_element_set_state(pipeline, run % 2 ? GST_STATE_NULL : GST_STATE_READY);
        }
        gst_element_set_state(pipeline, GST_STATE_NULL);
        gst_object_unref(element);
        gst_object_unref(sink);
        gst_object_unref(pipeline);
        g_free(line);
    }
}

static gboolean wait_cues(int n)
{
    for (int i = 0; i < 5000 && g_atomic_int_get(&cues) < n; i++)
        g_usleep(1000);
    return g_atomic_int_get(&cues) >= n;
}

static GstPadProbeReturn hold(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    return GST_PAD_PROBE_OK;
}

static void restarted_in_a_live_pipeline_captions_go_on(void)
{
    fake_set((fake_script) { 0 });
    GstElement *pipeline = gst_parse_launch(
        "videotestsrc is-live=true ! video/x-raw,format=RGB,width=16,height=8,framerate=50/1 ! "
        "queue name=q leaky=downstream max-size-buffers=2 ! glm4vdescribe name=d "
        "model-location=" SOURCE_ROOT " interval=100000000 ! fakesink sync=false "
        "d.text ! queue ! fakesink name=t sync=false",
        NULL);
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d"),
               *sink = gst_bin_get_by_name(GST_BIN(pipeline), "t"),
               *queue = gst_bin_get_by_name(GST_BIN(pipeline), "q");
    GstPad *pad = gst_element_get_static_pad(queue, "src");
    probe(sink, "sink", count_cue);
    cues = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    CHECK(wait_cues(5));
    for (int i = 0; i < 4; i++) {
        gulong id = gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BLOCK_DOWNSTREAM, hold, NULL, NULL);
        g_usleep(40000); /* the frame on its way is through */
        gst_element_set_state(element, i % 2 ? GST_STATE_READY : GST_STATE_NULL);
        CHECK(gst_element_sync_state_with_parent(element));
        cues = 0;
        gst_pad_remove_probe(pad, id);
        CHECK(wait_cues(5));
        CHECK(support_stat(element, "text-pushed") >= 4);
    }
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pad);
    gst_object_unref(queue);
    gst_object_unref(sink);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

/* ---- wrong models ---- */

static void a_wrong_model_is_mended_in_ready(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    for (int i = 0; i < 3; i++) {
        support_count_messages(element, 0);
        for (int wrong = 0; wrong < 2; wrong++) {
            g_object_set(element, "model-location", wrong ? "/nonexistent/model" : "/etc/passwd",
                         NULL);
            CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
            CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
        }
        if (i == 2) /* a model that is refused later than its directory */
            fake_set((fake_script) { .inspect_code = GLM4V_ERR_FORMAT });
        g_object_set(element, "model-location", SOURCE_ROOT, NULL);
        if (i == 2) {
            CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
            fake_set((fake_script) { 0 });
        }
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
        CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
        CHECK_EQ(fake_get().models, 1);
        gst_element_set_state(element, GST_STATE_READY);
    }
    g_object_set(element, "model-location", "/nonexistent/model", NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
    support_free(element); /* from READY without a model */
    CHECK_EQ(fake_get().models, 0);
}

static void counters_stay_when_a_model_is_changed_in_ready(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    gst_element_set_state(element, GST_STATE_READY);
    g_object_set(element, "quantization", "int8", NULL);
    support_run(h, 1, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    CHECK_STR(fake_get().quantization, "int8");
    CHECK_EQ(support_stat(element, "inferred"), 2);
    support_done(h);
}

/* ---- queries ---- */

static GstQuery *new_query(int kind)
{
    GstCaps *caps = gst_caps_from_string(CAPS_SMALL);
    GstQuery *query = kind == 0 ? gst_query_new_drain() : gst_query_new_allocation(caps, TRUE);
    gst_caps_unref(caps);
    return query;
}

static gboolean ask(GstElement *element, int kind)
{
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    GstQuery *query = new_query(kind);
    gboolean answered = gst_pad_query(pad, query);
    CHECK(GST_QUERY_IS_SERIALIZED(query));
    gst_query_unref(query);
    gst_object_unref(pad);
    return answered;
}

static gboolean answer_serialized(GstPad *pad, GstObject *parent, GstQuery *query)
{
    return GST_QUERY_IS_SERIALIZED(query) || gst_pad_query_default(pad, parent, query);
}

static void serialized_queries_below_paused_are_refused(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    GstPad *src = gst_element_get_static_pad(element, "src"),
           *down = gst_pad_new("sink", GST_PAD_SINK);
    gst_pad_set_query_function(down, answer_serialized);
    gst_pad_set_active(down, TRUE);
    gst_pad_link(src, down);
    static const GstState states[] = { GST_STATE_NULL,    GST_STATE_READY, GST_STATE_PAUSED,
                                       GST_STATE_PLAYING, GST_STATE_READY, GST_STATE_NULL,
                                       GST_STATE_PAUSED };
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        gst_element_set_state(element, states[i]);
        for (int kind = 0; kind < 2; kind++)
            CHECK_EQ(ask(element, kind), states[i] >= GST_STATE_PAUSED);
    }
    gst_element_set_state(element, GST_STATE_READY);
    g_object_set(element, "model-location", "/nonexistent/model", NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
    for (int kind = 0; kind < 2; kind++)
        CHECK(!ask(element, kind));
    gst_object_unref(src);
    gst_object_unref(down);
    support_free(element);
}

static int stop_asking; /* atomic */

static gpointer ask_all(gpointer user)
{
    while (!g_atomic_int_get(&stop_asking))
        for (int kind = 0; kind < 2; kind++)
            ask(user, kind);
    return NULL;
}

static gpointer flush_all(gpointer user)
{
    GstPad *pad = gst_element_get_static_pad(user, "sink");
    while (!g_atomic_int_get(&stop_asking)) {
        gst_pad_send_event(pad, gst_event_new_flush_start());
        gst_pad_send_event(pad, gst_event_new_flush_stop(TRUE));
    }
    gst_object_unref(pad);
    return NULL;
}

static void queries_and_flushes_during_state_changes_are_safe(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element(NULL);
    g_atomic_int_set(&stop_asking, 0);
    GThread *threads[] = { g_thread_new("ask", ask_all, element),
                           g_thread_new("flush", flush_all, element) };
    for (guint i = 0; i < support_count(100, 2000); i++) {
        gst_element_set_state(element, GST_STATE_PAUSED);
        gst_element_set_state(element, GST_STATE_NULL);
    }
    g_atomic_int_set(&stop_asking, 1);
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    support_free(element);
    CHECK_EQ(fake_get().models, 0);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(each_run_has_the_same_captions);
    TEST(restarted_in_a_live_pipeline_captions_go_on);
    TEST(a_wrong_model_is_mended_in_ready);
    TEST(counters_stay_when_a_model_is_changed_in_ready);
    TEST(serialized_queries_below_paused_are_refused);
    TEST(queries_and_flushes_during_state_changes_are_safe);
    return test_end();
}
