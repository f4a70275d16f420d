/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Figures of an inspecting element with the shipped model (or GLM4V_MODEL), one JSON line each; no
 * test, nothing fails on a slow machine.
 *   verdict   from a trigger, which comes with its frame, to the message with the verdict: one of
 *             two choices, live 640x480, mode=async
 *   flush     how long a flush takes, and PLAYING to READY, while answers are generated without
 *             pause, in both modes
 * Usage: inspection-bench [verdict|flush]...   default: both. Environment: BENCH_TRIGGERS (200). */
#include <gst/gst.h>
#include <stdio.h>
#include <string.h>

#include "samples.h"

#define QUESTION                                                                                   \
    "prompt=\"Choose one: good, bad.\" output=choice choices=\"<good, bad>\" "                     \
    "fail-choices=\"<bad>\""
enum { EACH = 3, WARM_UP = 10, FLUSHES = 200 };

static GstElement *launch(const char *line)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    if (error)
        g_error("%s: %s", line, error->message);
    return pipeline;
}

/* ---- verdict ---- */

static gint64 triggered; /* when the last trigger came, 0 = answered; atomic */
static guint frames;

/* Each third frame comes with a trigger, if the one before it has its verdict. */
static GstPadProbeReturn on_frame(GstPad *pad, GstPadProbeInfo *info, gpointer element)
{
    gint64 none = 0, now = now_ns();
    guint64 id;
    if (frames++ % EACH == 0 && __atomic_compare_exchange_n(&triggered, &none, now, FALSE,
                                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        g_signal_emit_by_name(element, "describe", NULL, &id);
    return GST_PAD_PROBE_OK;
}

static void wait_verdicts(GstBus *bus, guint n, samples *s)
{
    for (guint i = 0; i < n; i++) {
        GstMessage *message;
        do {
            message = gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE,
                                                 GST_MESSAGE_ELEMENT | GST_MESSAGE_ERROR);
            if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
                g_error("the pipeline failed");
        } while (!gst_message_has_name(message, "glm4vdescribe-result"));
        const char *status = gst_structure_get_string(gst_message_get_structure(message), "status");
        gint64 began = __atomic_exchange_n(&triggered, 0, __ATOMIC_SEQ_CST);
        if (i >= WARM_UP && !strcmp(status, "ok"))
            samples_add(s, now_ns() - began);
        gst_message_unref(message);
    }
}

static void measure_verdict(guint triggers)
{
    GstElement *pipeline =
        launch("videotestsrc is-live=true pattern=ball ! "
               "video/x-raw,format=NV12,width=640,height=480,framerate=30/1 ! "
               "queue ! glm4vdescribe name=d mode=async sample-mode=trigger " QUESTION
               " ! fakesink sync=true");
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstPad *sink = gst_element_get_static_pad(element, "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    samples s = { 0 };
    gst_pad_add_probe(sink, GST_PAD_PROBE_TYPE_BUFFER, on_frame, element, NULL);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    wait_verdicts(bus, triggers + WARM_UP, &s);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    printf("{\"measure\": \"verdict\", \"frame\": \"640x480\", \"choices\": 2, \"verdicts\": %u, "
           "\"ms\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}}\n",
           s.n, percentile(&s, 0.5), percentile(&s, 0.99), percentile(&s, 1));
    samples_clear(&s);
    gst_object_unref(bus);
    gst_object_unref(sink);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

/* ---- flush ---- */

static void wait_answers(GstBus *bus, guint n)
{
    samples none = { 0 };
    wait_verdicts(bus, n, &none);
    samples_clear(&none);
}

/* From the thread of an application, as a seek does it. */
static void flush(GstPad *upstream, samples *s)
{
    GstSegment segment;
    gint64 start = now_ns();
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_pad_push_event(upstream, gst_event_new_flush_start());
    samples_add(s, now_ns() - start);
    gst_pad_push_event(upstream, gst_event_new_flush_stop(TRUE));
    gst_pad_push_event(upstream, gst_event_new_segment(&segment));
}

/* Of the element alone; what it leaves it takes up again. */
static void stop(GstElement *element, samples *s)
{
    gint64 start = now_ns();
    gst_element_set_state(element, GST_STATE_READY);
    samples_add(s, now_ns() - start);
    gst_element_sync_state_with_parent(element);
}

static void measure_flush(const char *mode)
{
    gchar *line = g_strdup_printf(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=NV12,width=640,height=480,"
        "framerate=30/1 ! glm4vdescribe name=d mode=%s sample-mode=all max-tokens=256 "
        "prompt=\"Report the defects as JSON.\" ! fakesink sync=false",
        mode);
    GstElement *pipeline = launch(line), *element = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstPad *sink = gst_element_get_static_pad(element, "sink"), *upstream = gst_pad_get_peer(sink);
    GstBus *bus = gst_element_get_bus(pipeline);
    samples flushes = { 0 }, stops = { 0 };
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    wait_answers(bus, 3);
    for (guint i = 0; i < FLUSHES; i++) {
        g_usleep(40000 + i * 7919 % 40000); /* the next answer is under way */
        flush(upstream, &flushes);
    }
    for (guint i = 0; i < FLUSHES / 4; i++) {
        g_usleep(150000 + i * 7919 % 40000);
        stop(element, &stops);
    }
    gst_element_set_state(pipeline, GST_STATE_NULL);
    printf(
        "{\"measure\": \"flush\", \"mode\": \"%s\", \"flush_ms\": {\"p50\": %.2f, \"max\": %.2f}, "
        "\"to_ready_ms\": {\"p50\": %.2f, \"max\": %.2f}}\n",
        mode, percentile(&flushes, 0.5), percentile(&flushes, 1), percentile(&stops, 0.5),
        percentile(&stops, 1));
    samples_clear(&flushes);
    samples_clear(&stops);
    g_free(line);
    gst_object_unref(bus);
    gst_object_unref(upstream);
    gst_object_unref(sink);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

int main(int argc, char **argv)
{
    const char *triggers = g_getenv("BENCH_TRIGGERS");
    gst_init(&argc, &argv);
    for (int i = 1; i < MAX(argc, 2); i++) {
        const char *word = argc > 1 ? argv[i] : "";
        if (*word && strcmp(word, "verdict") && strcmp(word, "flush")) {
            fprintf(stderr, "usage: inspection-bench [verdict|flush]...\n");
            return 2;
        }
        if (strcmp(word, "flush"))
            measure_verdict(triggers ? (guint)g_ascii_strtoull(triggers, NULL, 10) : 200);
        if (strcmp(word, "verdict")) {
            measure_flush("async");
            measure_flush("sync");
        }
    }
    return 0;
}
