/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The streaming thread's work, split into frames (gstglm4vstream.c), due frames
 * (gstglm4vsample.c) and events (gstglm4vevent.c). Only the functions of pads
 * and states are called by gstglm4vdescribe.c. */
#pragma once

#include "gstglm4vdescribe.h"

G_BEGIN_DECLS

/* The settings that a buffer needs, copied once under the object lock. */
typedef struct
{
  GstGlm4vSampling sampling;
  gdouble scene_threshold, change_threshold;
  guint gray_bits, serial;
  guint cancels;                /* of the worker, when the frame came */
  GstGlm4vClipSize clip;
  GstClockTime gap_interval, lateness;
  gboolean attach_meta, persist_meta, send_events, exact;
  GstGlm4vOnError on_error;
} GstGlm4vPass;

/* The sink pad's chain and event functions. */
GstFlowReturn gst_glm4v_stream_chain (GstPad * pad, GstObject * parent,
    GstBuffer * buffer);
gboolean gst_glm4v_stream_event (GstPad * pad, GstObject * parent,
    GstEvent * event);

/* The action signal `describe`: a trigger for the next frame. Its id, which the
 * result has as `trigger-id`; 0 below PAUSED. Any thread. */
guint64 gst_glm4v_stream_describe (GstGlm4vDescribe * self,
    const gchar * prompt);

/* The action signal `cancel`. Any thread, returns at once. */
void gst_glm4v_stream_cancel (GstGlm4vDescribe * self);

/* A run begins (READY -> PAUSED). */
void gst_glm4v_stream_prepare (GstGlm4vDescribe * self);

/* Wait for no result any more, forget those on their way; any thread. */
guint gst_glm4v_stream_begin_epoch (GstGlm4vDescribe * self);
void gst_glm4v_stream_set_flushing (GstGlm4vDescribe * self, gboolean flushing);

/* Query whether the source is live, once for each stream. */
void gst_glm4v_stream_learn_live (GstGlm4vDescribe * self);
void gst_glm4v_stream_read_settings (GstGlm4vDescribe * self,
    GstGlm4vPass * pass);
GstClockTime gst_glm4v_stream_frame_period (GstGlm4vDescribe * self);
gboolean gst_glm4v_stream_has_failed (GstGlm4vDescribe * self);
void gst_glm4v_stream_count (GstGlm4vDescribe * self, guint64 * counter);

/* At the end of the stream: events for results that no frame came for. */
void gst_glm4v_stream_send_rest (GstGlm4vDescribe * self);

/* The text pad may push GAPs up to the frame at `time`; `waiting` keeps that
 * frame's own time open for the caption that it waits for. */
void gst_glm4v_stream_advance_text (GstGlm4vDescribe * self, GstClockTime time,
    GstClockTime duration, const GstGlm4vPass * pass, gboolean waiting);

/* What a frame is described for. */
typedef struct
{
  GQueue triggers;              /* of GstGlm4vTrigger */
  gboolean due;                 /* by sample-mode */
  GstClockTime until_next;      /* if due */
  GPtrArray *regions;           /* of GstGlm4vRoi; empty: the whole frame */
  gboolean no_region;           /* there had to be one */
} GstGlm4vWanted;

/* gstglm4vsample.c: look at a frame as it came, before results are attached to
 * it. TRUE if it is to be described: submit then. */
gboolean gst_glm4v_sample_want (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstGlm4vWanted * wanted);

/* Have it described; clears wanted. The jobs that an exact frame has to wait
 * for go to waiting (of GstGlm4vJob, with references). */
void gst_glm4v_sample_submit (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstGlm4vWanted * wanted, GQueue * waiting);

/* At the end of the stream: a clip of what no clip had yet. */
void gst_glm4v_sample_end_clip (GstGlm4vDescribe * self);

/* At the end of the stream: results for triggers that no frame came for. */
void gst_glm4v_sample_end_triggers (GstGlm4vDescribe * self);

/* Results for those of them that were canceled. */
void gst_glm4v_sample_end_canceled (GstGlm4vDescribe * self);

/* Wait for the result; FALSE if the job was canceled instead. */
gboolean gst_glm4v_sample_wait (GstGlm4vDescribe * self, GstGlm4vJob * job);

/* The first frame after a late model is due, whatever the grid. */
void gst_glm4v_sample_notice_load (GstGlm4vDescribe * self);

G_END_DECLS
