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
  GstClockTime gap_interval, lateness;
  gboolean attach_meta, exact;
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

/* The text pad may push GAPs up to the frame at `time`; `waiting` keeps that
 * frame's own time open for the caption that it waits for. */
void gst_glm4v_stream_advance_text (GstGlm4vDescribe * self, GstClockTime time,
    GstClockTime duration, const GstGlm4vPass * pass, gboolean waiting);

/* gstglm4vsample.c: FALSE for what cannot be described: GAP, CORRUPTED, trick
 * modes. */
gboolean gst_glm4v_sample_is_usable (GstGlm4vDescribe * self,
    GstBuffer * buffer);

/* The triggers for this frame go to triggers (of GstGlm4vTrigger); they wait
 * for the next one if it is not usable. */
void gst_glm4v_sample_take_triggers (GstGlm4vDescribe * self,
    GstBuffer * buffer, GQueue * triggers);

/* At the end of the stream: those that no frame came for. */
void gst_glm4v_sample_end_triggers (GstGlm4vDescribe * self);

/* TRUE if the frame is to be described by sample-mode. */
gboolean gst_glm4v_sample_is_due (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstClockTime * until_next);

/* A frame that is to be described. */
typedef struct
{
  GstBuffer *buffer;
  GstClockTime until_next;      /* expected time to the next sample */
  gboolean exact;               /* it waits for its result */
  const GstGlm4vTrigger *trigger;       /* the receiver, or NULL */
} GstGlm4vDue;

/* Have it described. What it has to wait for goes to waiting (of GstGlm4vJob,
 * with references). */
void gst_glm4v_sample_submit (GstGlm4vDescribe * self, const GstGlm4vDue * due,
    const GstGlm4vPass * pass, GQueue * waiting);

/* Wait for the result; FALSE if the job was canceled instead. */
gboolean gst_glm4v_sample_wait (GstGlm4vDescribe * self, GstGlm4vJob * job);

/* The first frame after a late model is due, whatever the grid. */
void gst_glm4v_sample_notice_load (GstGlm4vDescribe * self);

G_END_DECLS
