/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Figures of many live streams in one process: memory, threads, and what each stream got.
 *
 *   sharing-bench [ELEMENTS [SECONDS [PROPERTIES]]]
 *
 * PROPERTIES are added to each glm4vdescribe, "" for none. docs/benchmarks.md has the commands. */
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_ELEMENTS 64

static guint64 seen[MAX_ELEMENTS], described[MAX_ELEMENTS];

static glong status_value(const char *key)
{
    char *text = NULL, *at;
    glong value = 0;
    if (g_file_get_contents("/proc/self/status", &text, NULL, NULL) && (at = strstr(text, key)))
        value = strtol(at + strlen(key), NULL, 10);
    g_free(text);
    return value;
}

static GstElement *make(guint n, const char *properties)
{
    GString *line = g_string_new(NULL);
    for (guint i = 0; i < n; i++)
        g_string_append_printf(
            line,
            "videotestsrc is-live=true pattern=%u ! "
            "video/x-raw,width=640,height=360,framerate=30/1 "
            "! glm4vdescribe name=d%u post-messages=false %s ! fakesink sync=false ",
            i % 20, i, properties);
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line->str, &error);
    if (error) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
    g_string_free(line, TRUE);
    return pipeline;
}

/* Until all have said that their model is loaded. */
static void wait_loaded(GstElement *pipeline, guint n)
{
    GstBus *bus = gst_element_get_bus(pipeline);
    for (guint loaded = 0; loaded < n;) {
        GstMessage *message = gst_bus_timed_pop_filtered(bus, 120 * GST_SECOND,
                                                         GST_MESSAGE_PROGRESS | GST_MESSAGE_ERROR);
        GstProgressType type = GST_PROGRESS_TYPE_ERROR;
        if (message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_PROGRESS)
            gst_message_parse_progress(message, &type, NULL, NULL);
        if (type == GST_PROGRESS_TYPE_ERROR) {
            fprintf(stderr, "a model did not load\n");
            exit(1);
        }
        loaded += type == GST_PROGRESS_TYPE_COMPLETE;
        gst_message_unref(message);
    }
    gst_object_unref(bus);
}

static void read_counters(GstElement *pipeline, guint n, int sign)
{
    for (guint i = 0; i < n; i++) {
        char name[16];
        GstStructure *stats = NULL;
        guint64 frames = 0, answers = 0;
        snprintf(name, sizeof name, "d%u", i);
        GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), name);
        g_object_get(element, "stats", &stats, NULL);
        gst_structure_get_uint64(stats, "frames-seen", &frames);
        gst_structure_get_uint64(stats, "inferred", &answers);
        seen[i] += (guint64)sign * frames;
        described[i] += (guint64)sign * answers;
        gst_structure_free(stats);
        gst_object_unref(element);
    }
}

static void print_range(const char *what, const guint64 *values, guint n, double seconds)
{
    guint64 least = values[0], most = values[0], sum = 0;
    for (guint i = 0; i < n; i++) {
        least = MIN(least, values[i]);
        most = MAX(most, values[i]);
        sum += values[i];
    }
    printf("%s a second: %.2f to %.2f, mean %.2f\n", what, (double)least / seconds,
           (double)most / seconds, (double)sum / n / seconds);
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    if (argc > 1 && argv[1][0] == '-') {
        fprintf(stderr, "usage: sharing-bench [ELEMENTS [SECONDS [PROPERTIES]]]\n");
        return 2;
    }
    guint n = CLAMP(argc > 1 ? (guint)strtoul(argv[1], NULL, 10) : 16, 1, MAX_ELEMENTS);
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 10;
    GstElement *pipeline = make(n, argc > 3 ? argv[3] : "");
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    wait_loaded(pipeline, n);
    g_usleep(2 * G_USEC_PER_SEC); /* the first answers allocate */
    gint64 start = g_get_monotonic_time();
    read_counters(pipeline, n, -1);
    g_usleep((gulong)(seconds * G_USEC_PER_SEC));
    read_counters(pipeline, n, 1);
    double took = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    printf("%u elements: %.1f MiB resident, %ld threads\n", n,
           (double)status_value("VmRSS:") / 1024, status_value("Threads:"));
    print_range("frames", seen, n, took);
    print_range("answers", described, n, took);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
    return 0;
}
