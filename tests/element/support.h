/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the element's tests share: the element with a bus around it, frames, and what it said. */
#ifndef GLM4V_ELEMENT_SUPPORT_H
#define GLM4V_ELEMENT_SUPPORT_H

#include <gst/check/gstharness.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <test.h>

/* An element with a bus of its own, model-location set to a directory that exists. The element is
 * the one linked into the program (fake_engine.h), or else the plugin that GST_PLUGIN_PATH leads
 * to. */
GstElement *support_element(const char *first_property, ...);

/* A harness around it, PLAYING, the model loaded; live or not. Takes the element. */
GstHarness *support_harness(GstElement *element, gboolean live, const char *caps);

/* To NULL; pending messages, which hold references, are freed, then the element. */
void support_free(GstElement *element);

/* To NULL, out of the harness; pending messages are freed. */
void support_done(GstHarness *h);

/* For runs 0, 1, 2 of one stream, each from its beginning: before the second the element goes to
 * READY, before the third to NULL, and back to PLAYING; the events of the stream come anew. TRUE,
 * for the condition of a loop. */
gboolean support_run(GstHarness *h, guint run, const char *caps);
#define EACH_RUN(h, caps) for (guint run = 0; run < 3 && support_run(h, run, caps); run++)

/* Wait until PROGRESS complete, error or canceled; its type. */
GstProgressType support_wait_loaded(GstElement *element);

/* A frame of one grey or RGB colour by caps; pts in ms, duration 33 ms. */
GstBuffer *support_frame(const char *caps, guint32 rgb, guint pts_ms);

/* How long is waited for what must come: a busy machine is slow, and only a failure takes so long.
 */
#define PATIENCE (30 * GST_SECOND)

/* The next message of these types within PATIENCE, or NULL. */
GstMessage *support_message(GstElement *element, GstMessageType types);

/* The structure of the next element message within PATIENCE, or NULL; gst_structure_free(). */
GstStructure *support_structure(GstElement *element);

/* The same, messages with settings passed over. */
GstStructure *support_result(GstElement *element);

/* How many messages of these types wait now; they are taken away. */
guint support_count_messages(GstElement *element, GstMessageType types);

/* The first result on a buffer, or NULL. */
const GstStructure *support_meta(GstBuffer *buffer);
guint support_count_meta(GstBuffer *buffer);

guint64 support_stat(GstElement *element, const char *name);

/* Wait until a counter of stats has this value, at most PATIENCE. */
gboolean support_wait_stat(GstElement *element, const char *name, guint64 value);

/* Is there an element of this name? Else the test fails and says which plugins are missing. */
gboolean support_finds(const char *element);

/* A pipeline from a line of gst-launch, or NULL and the test fails. */
GstElement *support_launch(const char *line);

/* Take the results of a pipeline, each with the name of the element that posted it, until EOS. An
 * error, or silence for twice PATIENCE, fails the test. */
typedef void (*support_result_fn)(const char *element, const GstStructure *result, void *user);
void support_collect(GstElement *pipeline, support_result_fn take, void *user);

/* Threads of this process. */
guint support_threads(void);

/* How often: n, or in the deep run (GLM4V_DEEP is set) deep. */
guint support_count(guint n, guint deep);

/* CAPS_SMALL: RGB 16x8 at 30 fps. */
#define CAPS_SMALL "video/x-raw,format=RGB,width=16,height=8,framerate=30/1"
#define MS (1000 * 1000ull)

/* Microseconds: a machine that is busy with other things may take this long over something that
 * waits for nothing. What it must not wait for takes at least 5 s. */
#define NOT_AT_ALL (2500 * 1000)

#endif
