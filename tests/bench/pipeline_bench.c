/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Figures of real pipelines with the shipped model (or GLM4V_MODEL), one JSON line each; no test,
 * nothing fails on a slow machine. Every measurement is a process of its own, so that peak memory
 * and start-up are its own:
 *   captions   captions a second end to end: H.264 clip, scaled to 448x448, every frame described
 *              (mode=sync)
 *   live       1280x720 at 30 a second from a live source while describing without pause
 *              (mode=async): delay that the element adds to each buffer, time between frames at the
 *              sink, captions, peak memory
 *   large      the same at 1920x1080 NV12 with a question of two choices, so that every frame has
 *              its answer
 *   persist    the same, described once a second: the frames between repeat the result
 *   first      time from starting the process to its first caption
 *   remote     as live, described by the server of the environment's BENCH_ENDPOINT
 * Usage: pipeline-bench [captions|live|large|persist|first|remote]...   default: all but remote.
 * Environment: BENCH_SECONDS (live, large, persist and remote, default 20), BENCH_ENDPOINT
 * (http://127.0.0.1:8080/v1). */
#define _GNU_SOURCE
#include <gst/gst.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "samples.h"

#define LIVE "format=I420,width=1280,height=720"
#define LARGE "format=NV12,width=1920,height=1080"

enum { FIRST_RUNS = 10, CAPTIONS = 200, WARM_UP = 5 };

typedef struct {
    samples added;    /* src pad minus sink pad, for each buffer */
    samples interval; /* between buffers at the src pad */
    gint64 entered, left, first;
} video_clock;

static double peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static GstElement *launch(const char *line)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    if (error)
        g_error("%s: %s", line, error->message);
    return pipeline;
}

/* Wait for the next answer: its number of tokens, or -1 at the end of the stream; ends the program
 * on an error. */
static int next_caption(GstBus *bus)
{
    for (;;) {
        GstMessage *message = gst_bus_timed_pop_filtered(
            bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_ELEMENT | GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
        GstStructure *counts = NULL;
        guint tokens = 0;
        GError *error = NULL;
        GstMessageType type = GST_MESSAGE_TYPE(message);
        if (type == GST_MESSAGE_ERROR) {
            gst_message_parse_error(message, &error, NULL);
            g_error("%s", error->message);
        }
        bool result =
            type == GST_MESSAGE_ELEMENT && gst_message_has_name(message, "glm4vdescribe-result");
        const GstStructure *fields = result ? gst_message_get_structure(message) : NULL;
        if (fields && gst_structure_get(fields, "tokens", GST_TYPE_STRUCTURE, &counts, NULL)) {
            gst_structure_get_uint(counts, "out", &tokens);
            gst_structure_free(counts);
        }
        gst_message_unref(message);
        if (result || type == GST_MESSAGE_EOS)
            return result ? (int)tokens : -1;
    }
}

static void stop(GstElement *pipeline, GstBus *bus)
{
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
}

/* The prompt asks for JSON, whose answers are longer than 24 tokens: most captions then have 24. */
static void measure_captions(void)
{
    char line[1024];
    g_snprintf(line, sizeof line,
               "filesrc location=\"" SOURCE_ROOT
               "/examples/media/line.mp4\" ! decodebin ! identity "
               "eos-after=%d ! videoconvert ! videoscale ! "
               "video/x-raw,format=RGB,width=448,height=448 ! glm4vdescribe "
               "mode=sync sample-mode=all max-tokens=24 prompt=\"Report the defects as JSON.\" ! "
               "fakesink sync=false",
               CAPTIONS + WARM_UP + 1);
    GstElement *pipeline = launch(line);
    GstBus *bus = gst_element_get_bus(pipeline);
    gint64 start = 0;
    int n = 0, tokens, sum = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while ((tokens = next_caption(bus)) >= 0) {
        if (++n == WARM_UP)
            start = now_ns();
        sum += tokens;
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    stop(pipeline, bus);
    printf("{\"measure\": \"captions\", \"frame\": \"448x448\", \"captions\": %d, \"mean_tokens\": "
           "%.1f, "
           "\"captions_per_s\": %.2f, \"peak_mib\": %.1f}\n",
           n - WARM_UP, (double)sum / MAX(n, 1), (n - WARM_UP) / seconds, peak_mib());
}

static GstPadProbeReturn on_enter(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    ((video_clock *)user)->entered = now_ns();
    return GST_PAD_PROBE_OK;
}

/* Asynchronous mode passes buffers in the streaming thread: the buffer that leaves is the one that
 * entered last. */
static GstPadProbeReturn on_leave(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    video_clock *v = user;
    gint64 now = now_ns();
    samples_add(&v->added, now - v->entered);
    if (v->left)
        samples_add(&v->interval, now - v->left);
    else
        v->first = now;
    v->left = now;
    return GST_PAD_PROBE_OK;
}

static void add_probe(GstElement *element, const char *name, GstPadProbeCallback callback,
                      video_clock *v)
{
    GstPad *pad = gst_element_get_static_pad(element, name);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, v, NULL);
    gst_object_unref(pad);
}

/* interval=0 samples every frame, the newest waits: the engine is never idle. */
static void measure_live(const char *name, const char *frame, const char *question, int seconds)
{
    char line[512];
    g_snprintf(line, sizeof line,
               "videotestsrc is-live=true pattern=ball num-buffers=%d ! "
               "video/x-raw,%s,framerate=30/1 ! queue ! glm4vdescribe name=d mode=async interval=0 "
               "%s ! fakesink sync=true",
               30 * seconds, frame, question);
    GstElement *pipeline = launch(line), *element = gst_bin_get_by_name(GST_BIN(pipeline), "d");
    GstBus *bus = gst_element_get_bus(pipeline);
    video_clock v = { 0 };
    int n = 0;
    add_probe(element, "sink", on_enter, &v);
    add_probe(element, "src", on_leave, &v);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    gint64 start = now_ns();
    while (next_caption(bus) >= 0)
        n++;
    double taken = (double)(now_ns() - start) / 1e9;
    gst_object_unref(element);
    stop(pipeline, bus);
    printf("{\"measure\": \"%s\", \"frame\": \"%s@30\", \"seconds\": %.1f, \"frames\": %u, "
           "\"fps\": %.2f, "
           "\"added_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}, "
           "\"frame_interval_ms\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}, "
           "\"captions\": %d, \"captions_per_s\": %.2f, \"peak_mib\": %.1f}\n",
           name, frame, taken, v.added.n, v.interval.n * 1e9 / (double)MAX(v.left - v.first, 1),
           percentile(&v.added, 0.5), percentile(&v.added, 0.99), percentile(&v.added, 1),
           percentile(&v.interval, 0.5), percentile(&v.interval, 0.99), percentile(&v.interval, 1),
           n, n / taken, peak_mib());
    samples_clear(&v.added);
    samples_clear(&v.interval);
}

static void measure_remote(int seconds)
{
    const char *endpoint = g_getenv("BENCH_ENDPOINT");
    gchar *question = g_strdup_printf("max-tokens=24 endpoint=%s",
                                      endpoint ? endpoint : "http://127.0.0.1:8080/v1");
    measure_live("remote", LIVE, question, seconds);
    g_free(question);
}

/* In a process of its own: its first caption, then the time, for the parent to subtract. */
static void caption_once(void)
{
    GstElement *pipeline =
        launch("videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=448,height=448 "
               "! glm4vdescribe mode=sync max-tokens=24 ! fakesink");
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    next_caption(bus);
    printf("%" G_GINT64_FORMAT "\n", now_ns());
    stop(pipeline, bus);
}

static void measure_first(const char *self)
{
    samples s = { 0 };
    for (int i = 0; i <= FIRST_RUNS; i++) {
        const char *argv[] = { self, "once", NULL };
        char *out = NULL;
        GError *error = NULL;
        gint64 start = now_ns();
        int status = 0;
        if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, NULL,
                          &status, &error) ||
            !g_spawn_check_wait_status(status, &error))
            g_error("%s", error->message);
        if (i > 0) /* the first one fills the plugin registry and the page cache */
            samples_add(&s, g_ascii_strtoll(out, NULL, 10) - start);
        g_free(out);
    }
    printf("{\"measure\": \"first\", \"runs\": %u, \"first_caption_ms\": {\"p50\": %.1f, \"max\": "
           "%.1f}}\n",
           s.n, percentile(&s, 0.5), percentile(&s, 1));
    samples_clear(&s);
}

int main(int argc, char **argv)
{
    static const char *const all[] = { "captions", "live", "large", "persist", "first" };
    const char *wanted = g_getenv("BENCH_SECONDS");
    const int seconds = wanted ? (int)g_ascii_strtoll(wanted, NULL, 10) : 20;
    gst_init(&argc, &argv);
    for (guint i = 0; argc == 1 && i < G_N_ELEMENTS(all); i++) {
        const char *words[] = { argv[0], all[i], NULL };
        int status = 0;
        if (!g_spawn_sync(NULL, (char **)words, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL,
                          NULL, NULL, &status, NULL) ||
            !g_spawn_check_wait_status(status, NULL))
            return 1;
    }
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "captions"))
            measure_captions();
        else if (!strcmp(argv[i], "live"))
            measure_live("live", LIVE, "max-tokens=24", seconds);
        else if (!strcmp(argv[i], "remote"))
            measure_remote(seconds);
        else if (!strcmp(argv[i], "large"))
            measure_live("large", LARGE,
                         "prompt=\"Choose one: good, bad.\" output=choice choices=\"<good, bad>\"",
                         seconds);
        else if (!strcmp(argv[i], "persist"))
            measure_live(
                "persist", LARGE,
                "prompt=\"Report the defects as JSON.\" persist-meta=true interval=1000000000",
                seconds);
        else if (!strcmp(argv[i], "first"))
            measure_first(argv[0]);
        else if (!strcmp(argv[i], "once"))
            caption_once();
        else {
            fprintf(stderr,
                    "usage: pipeline-bench [captions|live|large|persist|first|remote]...\n");
            return 2;
        }
    }
    return 0;
}
