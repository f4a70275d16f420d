/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-10: the element between two pads that do what the input says, two bytes a step: what, and
 * how. Caps, frames that are whole or not, events and queries in any order, states, properties,
 * the text pad, triggers, cancel. Whatever comes, results count up from 0 in each run, each with a
 * status, and with a state exactly if they have a verdict; there are as many as frames were
 * sampled, unless a flush or a state discards some; the element ends in NULL and leaves nothing
 * with the engine. The engine is the scripted one of the element's tests. */
#include "../element/fake_engine.h"
#include "fuzz.h"

#include <gst/gst.h>
#include <gst/video/video.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STEPS 200

typedef struct {
    GstElement *element;
    GstPad *src, *sink, *text; /* text: the element's, or NULL */
    GstCaps *caps;             /* the last ones, or NULL */
    guint64 next_id, pts;      /* next_id is guarded by the lock */
    gboolean discarded;        /* results, by a flush or a state; or the counters */
} scene;

static GMutex lock;

/* ---- what comes out ---- */

static void on_result(GstElement *element, const GstStructure *result, gpointer user)
{
    static const char *const statuses[] = { "ok", "unchanged", "timeout", "dropped", "error" };
    scene *s = user;
    const char *status = gst_structure_get_string(result, "status");
    guint64 id = G_MAXUINT64;
    guint known = 0;
    gst_structure_get_uint64(result, "id", &id);
    for (guint i = 0; i < G_N_ELEMENTS(statuses); i++)
        known += !strcmp(status, statuses[i]);
    g_mutex_lock(&lock);
    FUZZ_CHECK(known == 1);
    FUZZ_CHECK(id == 0 || id >= s->next_id); /* a flush discards some */
    s->next_id = id + 1;
    g_mutex_unlock(&lock);
    FUZZ_CHECK(gst_structure_get_string(result, "text") != NULL);
    if (gst_structure_has_field(result, "choice"))
        FUZZ_CHECK(gst_structure_has_field(result, "verdict"));
    FUZZ_CHECK(gst_structure_has_field(result, "verdict") ==
               gst_structure_has_field(result, "state"));
    FUZZ_CHECK(strcmp(status, "ok") || !gst_structure_has_field(result, "message"));
}

static GstFlowReturn take_buffer(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return GST_FLOW_OK;
}

static gboolean take_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    gst_event_unref(event);
    return TRUE;
}

/* ---- steps ---- */

static const char *const all_caps[] = {
    "video/x-raw,format=RGB,width=16,height=8,framerate=30/1",
    "video/x-raw,format=GRAY8,width=9,height=7,framerate=0/1",
    "video/x-raw,format=NV12,width=32,height=32,framerate=1000/1",
    "video/x-raw,format=I420,width=1,height=1",
    "video/x-raw,format=GRAY16_LE,width=5,height=3,framerate=1/1000",
    "video/x-raw,format=RGB,width=40000,height=8",
    "video/x-raw,format=YUY2,width=64,height=2,interlace-mode=interleaved,framerate=25/1",
};

static void send_caps(scene *s, uint8_t how)
{
    GstCaps *caps = gst_caps_from_string(all_caps[how % G_N_ELEMENTS(all_caps)]);
    if (gst_pad_push_event(s->src, gst_event_new_caps(caps)))
        gst_caps_replace(&s->caps, caps);
    gst_caps_unref(caps);
}

static void send_frame(scene *s, uint8_t how)
{
    static const GstBufferFlags flags[] = { 0, 0, GST_BUFFER_FLAG_GAP, GST_BUFFER_FLAG_CORRUPTED,
                                            GST_BUFFER_FLAG_DISCONT };
    GstVideoInfo info;
    gsize size = 100;
    if (s->caps && gst_video_info_from_caps(&info, s->caps))
        size = info.size;
    if (how % 8 == 7) /* not the whole frame */
        size = size * (how >> 3) / 32;
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, size, NULL);
    gst_buffer_memset(buffer, 0, how, size);
    GST_BUFFER_FLAGS(buffer) |= flags[how % G_N_ELEMENTS(flags)];
    s->pts += (guint64)(how >> 4) * 50 * GST_MSECOND;
    GST_BUFFER_PTS(buffer) = how % 9 == 8 ? GST_CLOCK_TIME_NONE : s->pts;
    if (how % 11 == 10)
        GST_BUFFER_PTS(buffer) = s->pts / 2;
    if (how % 13 == 12)
        gst_buffer_add_video_region_of_interest_meta(buffer, "bolt", how, 0, how % 7, 5);
    gst_pad_push(s->src, buffer);
}

static void send_event(scene *s, uint8_t how)
{
    GstSegment segment;
    GstEvent *event = NULL;
    switch (how % 12) {
    case 0:
        event = gst_event_new_stream_start("fuzz");
        break;
    case 1:
        gst_segment_init(&segment, how & 64 ? GST_FORMAT_BYTES : GST_FORMAT_TIME);
        segment.rate = how & 128 ? -1.0 : 1.0;
        event = gst_event_new_segment(&segment);
        break;
    case 2:
        s->discarded = TRUE;
        gst_pad_push_event(s->src, gst_event_new_flush_start());
        event = gst_event_new_flush_stop(how & 64);
        break;
    case 3:
        event = gst_event_new_gap(s->pts, how * GST_MSECOND);
        break;
    case 4:
        event = gst_event_new_tag(gst_tag_list_new_empty());
        break;
    case 5:
        event = gst_event_new_custom(
            GST_EVENT_CUSTOM_DOWNSTREAM,
            gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_INT, (int)how, NULL));
        break;
    case 6:
        event = gst_event_new_eos();
        break;
    case 7:
        event = gst_event_new_segment_done(GST_FORMAT_TIME, 0);
        break;
    case 8:
        gst_pad_push_event(s->sink, gst_event_new_qos(GST_QOS_TYPE_OVERFLOW, 2.0, how, s->pts));
        break;
    case 9:
        gst_pad_push_event(s->sink, gst_event_new_reconfigure());
        break;
    case 10:
        event = gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM_OOB,
                                     gst_structure_new_empty("glm4vdescribe/trigger"));
        break;
    default:
        s->discarded = TRUE;
        event = gst_event_new_flush_stop(TRUE); /* without a start */
    }
    if (event)
        gst_pad_push_event(s->src, event);
}

static void ask(scene *s, uint8_t how)
{
    GstQuery *query = NULL;
    GstCaps *caps = gst_caps_from_string(all_caps[how % G_N_ELEMENTS(all_caps)]);
    switch (how % 5) {
    case 0:
        query = gst_query_new_latency();
        break;
    case 1:
        query = gst_query_new_caps(how & 8 ? caps : NULL);
        break;
    case 2:
        query = gst_query_new_accept_caps(caps);
        break;
    case 3:
        query = gst_query_new_allocation(caps, how & 8);
        break;
    default:
        query = gst_query_new_drain();
    }
    gst_pad_peer_query(how & 128 && !GST_QUERY_IS_SERIALIZED(query) ? s->sink : s->src, query);
    gst_query_unref(query);
    gst_caps_unref(caps);
}

static void set_state(scene *s, uint8_t how)
{
    static const GstState states[] = { GST_STATE_NULL, GST_STATE_READY, GST_STATE_PAUSED,
                                       GST_STATE_PLAYING, GST_STATE_PLAYING };
    s->discarded = TRUE;
    gst_element_set_state(s->element, states[how % G_N_ELEMENTS(states)]);
}

static void set_property(scene *s, uint8_t how)
{
    static const char *const settings[][2] = {
        { "output", "choice" },
        { "output", "text" },
        { "output", "json" },
        { "choices", "<ok, bad>" },
        { "choices", "<>" },
        { "fail-choices", "<bad>" },
        { "fail-choices", "<no>" },
        { "thresholds", "<1, 0.2>" },
        { "thresholds", "<1, 1, 1>" },
        { "json-schema", "{}" },
        { "mode", "async" },
        { "mode", "sync" },
        { "leaky", "upstream" },
        { "leaky", "no" },
        { "leaky", "downstream" },
        { "sample-mode", "all" },
        { "sample-mode", "trigger" },
        { "sample-mode", "scene-change" },
        { "sample-mode", "every-nth" },
        { "interval", "0" },
        { "roi", "<1, 1, 4, 4>" },
        { "roi", "<1, 1>" },
        { "roi", "<>" },
        { "roi-mode", "meta" },
        { "roi-mode", "property" },
        { "only-on", "bolt" },
        { "frames-per-request", "3" },
        { "frames-per-request", "1" },
        { "prompts", "<a, b>" },
        { "prompts", "<>" },
        { "change-threshold", "0.1" },
        { "change-threshold", "0" },
        { "deadline", "1000000" },
        { "deadline", "0" },
        { "hysteresis", "3" },
        { "cooldown", "0" },
        { "stats-interval", "1" },
        { "send-events", "true" },
        { "on-error", "fail" },
        { "on-error", "warn" },
        { "attach-meta", "false" },
        { "max-pending", "3" },
        { "eos-timeout", "0" },
        { "gray-bits", "12" },
        { "lateness", "100000000" },
        { "prompt-location", "/nonexistent" },
        { "window", "1" },
        { "nth", "2" },
    };
    const char *const *one = settings[how % G_N_ELEMENTS(settings)];
    gst_util_set_object_arg(G_OBJECT(s->element), one[0], one[1]);
}

static void use_text_pad(scene *s, uint8_t how)
{
    if (s->text) {
        gst_element_release_request_pad(s->element, s->text);
        gst_clear_object(&s->text);
    } else {
        s->text = gst_element_request_pad_simple(s->element, "text");
    }
}

static void act(scene *s, uint8_t how)
{
    GstStructure *stats = NULL;
    guint64 id;
    s->discarded |= how % 3 == 1;
    if (how % 3 == 0 && how & 16)
        g_signal_emit_by_name(s->element, "cancel");
    else if (how % 3 == 0)
        g_signal_emit_by_name(s->element, "describe", how & 8 ? "What?" : NULL, &id);
    else if (how % 3 == 1)
        g_signal_emit_by_name(s->element, "reset-stats");
    else
        g_object_get(s->element, "stats", &stats, NULL);
    g_clear_pointer(&stats, gst_structure_free);
}

static void set_engine(scene *s, uint8_t how)
{
    fake_set((fake_script) { .answer_ns = how % 4 * 200 * 1000,
                             .result_code = how % 16 == 15 ? GLM4V_ERR_INTERNAL : 0,
                             .submit_code = how % 16 == 14 ? GLM4V_ERR_INVALID : 0 });
}

static void (*const steps[])(scene *s, uint8_t how) = {
    send_frame, send_frame,   send_frame, send_frame,   send_caps, send_event,
    ask,        set_property, set_state,  use_text_pad, act,       set_engine,
};

/* ---- the whole ---- */

static GstPad *new_peer(const char *name, GstPadDirection direction)
{
    GstPad *pad = gst_pad_new(name, direction);
    gst_pad_set_event_function(pad, take_event);
    if (direction == GST_PAD_SINK)
        gst_pad_set_chain_function(pad, take_buffer);
    gst_pad_set_active(pad, TRUE);
    return pad;
}

static void link_pads(scene *s)
{
    GstPad *sink = gst_element_get_static_pad(s->element, "sink");
    GstPad *src = gst_element_get_static_pad(s->element, "src");
    s->src = new_peer("up", GST_PAD_SRC);
    s->sink = new_peer("down", GST_PAD_SINK);
    gst_pad_link_full(s->src, sink, GST_PAD_LINK_CHECK_NOTHING);
    gst_pad_link_full(src, s->sink, GST_PAD_LINK_CHECK_NOTHING);
    gst_object_unref(sink);
    gst_object_unref(src);
}

static void begin(scene *s)
{
    GstSegment segment;
    fake_set((fake_script) { 0 });
    s->element = gst_object_ref_sink(gst_element_factory_make("glm4vdescribe", NULL));
    g_object_set(s->element, "model-location", SOURCE_ROOT, "mode", 2, "persist-meta", TRUE, NULL);
    g_signal_connect(s->element, "result", G_CALLBACK(on_result), s);
    link_pads(s);
    gst_element_set_state(s->element, GST_STATE_PLAYING);
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_pad_push_event(s->src, gst_event_new_stream_start("fuzz"));
    send_caps(s, 0);
    gst_pad_push_event(s->src, gst_event_new_segment(&segment));
}

/* At the end of the stream each sampled frame has had its result. */
static void count_results(scene *s)
{
    GstStructure *stats = NULL;
    guint64 sampled = 0, results = 0;
    gst_pad_push_event(s->src, gst_event_new_eos());
    g_object_get(s->element, "stats", &stats, NULL);
    gst_structure_get(stats, "sampled", G_TYPE_UINT64, &sampled, "results", G_TYPE_UINT64, &results,
                      NULL);
    gst_structure_free(stats);
    FUZZ_CHECK(results == sampled);
}

static void end(scene *s)
{
    if (!s->discarded)
        count_results(s);
    gst_element_set_state(s->element, GST_STATE_NULL);
    if (s->text)
        use_text_pad(s, 0);
    gst_pad_set_active(s->src, FALSE);
    gst_pad_set_active(s->sink, FALSE);
    gst_object_unref(s->element);
    gst_object_unref(s->src);
    gst_object_unref(s->sink);
    gst_clear_caps(&s->caps);
    fake_counts c = fake_get();
    FUZZ_CHECK(c.models == 0 && c.engines == 0 && c.requests == 0);
}

/* GLib stops at a critical message with SIGTRAP, which libFuzzer does not see. */
static void on_trap(int signal_number)
{
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gboolean ready;
    scene s = { 0 };
    if (!ready) {
        g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK);
        signal(SIGTRAP, on_trap);
        gst_debug_set_default_threshold(GST_LEVEL_NONE);
        fake_init(NULL, NULL);
        ready = TRUE;
    }
    begin(&s);
    for (size_t i = 0; i + 1 < size && i / 2 < MOST_STEPS; i += 2)
        steps[data[i] % G_N_ELEMENTS(steps)](&s, data[i + 1]);
    end(&s);
    return 0;
}
