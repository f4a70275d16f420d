/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Captions a second of a fixed camera, in a real pipeline, with what saves work: change-threshold,
 * and drafts. camera-bench CONFIG [QUANTIZATION [FRAMES [SIDE [THREADS]]]]. CONFIG: a folder with a
 * config.json; this program opens the element's model with random weights of its sizes. FRAMES: of
 * each case, behind one that is not counted; SIDE: of a frame in pixels.
 *
 * still: the same frame again. slow: a block of a sixteenth of the frame moves, more than
 * change-threshold. cuts: another picture each time. What random weights answer to a changed
 * picture says nothing about a model, so here too the engine's memory of the last answer is
 * changed behind its back, before each question: to this picture's answer with one token in ten
 * replaced (slow), or reversed (cuts), as in speculation-bench. Of a still scene nothing is
 * changed.
 *
 * Prints one line of JSON a case. A caption is a result: an answer, or `unchanged`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "samples.h"

enum { PICTURES = 2, MOST_TOKENS = 24, MOST_FRAMES = 100 };
#define THRESHOLD 0.02

typedef enum { STILL, SLOW, CUTS, N_SCENES } scene;
static const char *const names[] = { "still", "slow", "cuts" };

typedef struct {
    int32_t ids[MOST_TOKENS];
    int64_t n;
} answer;

static struct {
    glm4v_engine *engine; /* of the element */
    scene scene;
    int picture;                        /* that is asked about */
    answer answers[N_SCENES][PICTURES]; /* to it; n 0: not known yet */
} camera;

/* ---- between the element and the engine ---- */

/* The element finds these functions in the program, before those of the library. */
#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *library = dlopen("libglm4v.so.0", RTLD_LAZY | RTLD_NOLOAD);
    void *function = library ? dlsym(library, name) : NULL;
    if (!function)
        g_error("%s", dlerror());
    dlclose(library);
    return function;
}

int glm4v_model_inspect(const char *dir, const glm4v_model_options *options, glm4v_model_info *info,
                        glm4v_error *err)
{
    glm4v_model_options random = *options;
    random.random_weights = 1;
    return REAL(glm4v_model_inspect)(dir, &random, info, err);
}

int glm4v_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                     glm4v_error *err)
{
    glm4v_model_options random = *options;
    random.random_weights = 1;
    return REAL(glm4v_model_open)(model, dir, &random, err);
}

int glm4v_engine_open(glm4v_engine **engine, glm4v_model *model,
                      const glm4v_engine_options *options, glm4v_error *err)
{
    int rc = REAL(glm4v_engine_open)(engine, model, options, err);
    camera.engine = *engine;
    return rc;
}

/* The only past answer is a changed one of this picture. The engine is idle. */
static void change_past(glm4v_past *past, const answer *known)
{
    glm4v_past_answer *a = &past->answers[0];
    *a = past->answers[past->n_answers - 1];
    a->start = 0;
    a->n = past->n_ids = known->n;
    past->n_answers = 1;
    for (int64_t i = 0; i < known->n; i++)
        past->ids[i] =
            camera.scene == SLOW ? known->ids[i] ^ (i % 10 == 5) : known->ids[known->n - 1 - i];
}

int glm4v_engine_submit(glm4v_engine *engine, const glm4v_task *task, glm4v_request **request,
                        glm4v_error *err)
{
    const answer *known = &camera.answers[camera.scene][camera.picture];
    if (camera.scene != STILL && known->n && engine->past.n_answers)
        change_past(&engine->past, known);
    return REAL(glm4v_engine_submit)(engine, task, request, err);
}

/* The engine keeps the answer that it gave last. */
static void learn(void)
{
    const glm4v_past *past = &camera.engine->past;
    const glm4v_past_answer *a = &past->answers[past->n_answers - 1];
    answer *to = &camera.answers[camera.scene][camera.picture];
    to->n = MIN(a->n, MOST_TOKENS);
    memcpy(to->ids, past->ids + a->start, (size_t)to->n * sizeof *to->ids);
}

/* ---- the camera ---- */

typedef struct {
    GstElement *pipeline, *source, *element;
    GstBus *bus;
    int side;
    guint64 n; /* frames */
} pipeline;

/* Gradients with noise; `which` of the scene's pictures. */
static void draw(guint8 *rgb, int side, scene s, int which)
{
    const int block = side / 4, left = which * side / 2;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const guint32 at = (guint32)(y * side + x);
            const int along = s == CUTS && which ? side - x : y;
            int value = 40 + 120 * along / side + (int)(at * 2654435761u >> 27);
            if (s == SLOW && y < block && x >= left && x < left + block)
                value += 60;
            memset(rgb + 3 * (gsize)at, value, 3);
        }
}

static void push(pipeline *p, scene s, int which)
{
    GstFlowReturn flow = GST_FLOW_OK;
    GstMapInfo map;
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 3 * (gsize)p->side * (gsize)p->side, NULL);
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    draw(map.data, p->side, s, which);
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = p->n++ * GST_SECOND / 30;
    camera.scene = s;
    camera.picture = which;
    g_signal_emit_by_name(p->source, "push-buffer", buffer, &flow);
    gst_buffer_unref(buffer);
}

typedef struct {
    gint64 taken; /* nanoseconds */
    bool unchanged;
    guint tokens, drafted, accepted;
} caption;

static caption result_of(const GstStructure *fields)
{
    caption c = { .unchanged =
                      !g_strcmp0(gst_structure_get_string(fields, "status"), "unchanged") };
    GstStructure *counts = NULL;
    if (gst_structure_get(fields, "tokens", GST_TYPE_STRUCTURE, &counts, NULL)) {
        gst_structure_get(counts, "out", G_TYPE_UINT, &c.tokens, "drafted", G_TYPE_UINT, &c.drafted,
                          "accepted", G_TYPE_UINT, &c.accepted, NULL);
        gst_structure_free(counts);
    }
    return c;
}

static caption describe(pipeline *p, scene s, int which)
{
    const gint64 start = now_ns();
    push(p, s, which);
    for (;;) {
        GstMessage *message = gst_bus_timed_pop_filtered(p->bus, GST_CLOCK_TIME_NONE,
                                                         GST_MESSAGE_ELEMENT | GST_MESSAGE_ERROR);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
            GError *error = NULL;
            gst_message_parse_error(message, &error, NULL);
            g_error("%s", error->message);
        }
        if (gst_message_has_name(message, "glm4vdescribe-result")) {
            caption c = result_of(gst_message_get_structure(message));
            c.taken = now_ns() - start;
            gst_message_unref(message);
            return c;
        }
        gst_message_unref(message);
    }
}

static pipeline start(const char *config, const char *form, int side, int threads)
{
    char line[1024];
    pipeline p = { .side = side };
    GError *error = NULL;
    g_snprintf(line, sizeof line,
               "appsrc name=s format=time caps=video/x-raw,format=RGB,width=%d,height=%d,"
               "framerate=30/1 ! glm4vdescribe name=d model-location=\"%s\" device=cpu "
               "n-threads=%d quantization=%s max-batch=1 context-length=2048 mode=sync "
               "sample-mode=all temperature=1 seed=1 max-tokens=%d stall-timeout=0 prompt=image ! "
               "fakesink sync=false",
               side, side, config, threads, form, MOST_TOKENS);
    p.pipeline = gst_parse_launch(line, &error);
    if (error)
        g_error("%s: %s", line, error->message);
    p.source = gst_bin_get_by_name(GST_BIN(p.pipeline), "s");
    p.element = gst_bin_get_by_name(GST_BIN(p.pipeline), "d");
    p.bus = gst_element_get_bus(p.pipeline);
    gst_element_set_state(p.pipeline, GST_STATE_PLAYING);
    return p;
}

static void stop(pipeline *p)
{
    gst_element_set_state(p->pipeline, GST_STATE_NULL);
    gst_object_unref(p->source);
    gst_object_unref(p->element);
    gst_object_unref(p->bus);
    gst_object_unref(p->pipeline);
}

/* ---- cases ---- */

static int picture_of(scene s, int frame)
{
    return s == STILL ? 0 : frame % PICTURES;
}

static void measure(pipeline *p, scene s, bool drafts, bool threshold, int frames)
{
    caption all = { 0 };
    int unchanged = 0;
    g_object_set(p->element, "speculation", drafts ? 0 : 1, "change-threshold",
                 threshold ? THRESHOLD : 0.0, NULL);
    describe(p, s, picture_of(s, 0));
    for (int i = 1; i <= frames; i++) {
        const caption c = describe(p, s, picture_of(s, i));
        all.taken += c.taken;
        all.tokens += c.tokens;
        all.drafted += c.drafted;
        all.accepted += c.accepted;
        unchanged += c.unchanged;
    }
    const double n = frames;
    printf("{\"scene\": \"%s\", \"speculation\": \"%s\", \"change-threshold\": %g, "
           "\"captions a second\": %.4g, \"ms\": %.4g, \"unchanged\": %d, \"of\": %d, "
           "\"tokens\": %.1f, \"drafted\": %.1f, \"accepted\": %.1f}\n",
           names[s], drafts ? "auto" : "off", threshold ? THRESHOLD : 0.0,
           n * 1e9 / (double)all.taken, (double)all.taken / 1e6 / n, unchanged, frames,
           all.tokens / n, all.drafted / n, all.accepted / n);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    const int frames = argc > 3 ? atoi(argv[3]) : 5, side = argc > 4 ? atoi(argv[4]) : 224;
    if (argc < 2 || frames < 1 || frames > MOST_FRAMES || side < 56 || side > 4096) {
        fprintf(stderr, "camera-bench CONFIG [QUANTIZATION [FRAMES [SIDE [THREADS]]]]\n");
        return 2;
    }
    pipeline p = start(argv[1], argc > 2 ? argv[2] : "bf16", side, argc > 5 ? atoi(argv[5]) : 2);
    for (scene s = SLOW; s < N_SCENES; s++)
        for (int which = 0; which < PICTURES; which++) {
            describe(&p, s, which);
            learn();
        }
    for (scene s = 0; s < N_SCENES; s++) {
        measure(&p, s, false, false, frames);
        measure(&p, s, true, false, frames);
        measure(&p, s, true, true, frames);
    }
    stop(&p);
    return 0;
}
