/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The `text` pad: captions as sparse text/x-raw buffers with GAPs between
 * them, pushed by a task of its own so that nothing behind it can ever hold up
 * the video. Works, as a memory of the stream, without a pad too. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

typedef struct
{
  GstElement *element;          /* not owned: the struct lives inside it */

  GMutex lock;                  /* guards all below; held with no other */
  GCond cond;                   /* queue, flushing, need */
  GstPad *pad;                  /* NULL while not requested */
  GQueue queue;                 /* of Item, oldest first */
  guint cues;                   /* captions among them */
  guint epoch;                  /* flushes so far; older captions are stale */
  gboolean active, flushing;
  gboolean ended;               /* EOS is queued: nothing may follow */
  gboolean announced;           /* STREAM_START and CAPS were pushed */
  GstFlowReturn flow;

  /* what a pad that is requested late must hear first */
  gchar *stream_id;
  guint group_id;               /* GST_GROUP_ID_INVALID if none */
  GstSegment segment;           /* shifted by lateness */
  guint segment_number;         /* 0 = none yet */
  guint32 seqnum;

  /* time, as PTS of the newest segment */
  GstClockTime position;        /* all before this is told; task only writes */
  GstClockTime need;            /* position must come to exceed this soon */
  GstClockTime target;          /* and may go this far */
  GstClockTime end;             /* where the video ends so far */

  guint64 pushed, late, dropped;
} GstGlm4vText;

/* A caption on its way to the pad. */
typedef struct
{
  const gchar *text;
  const GstStructure *result;   /* to lie on the buffer as meta, or NULL */
  GstClockTime pts;             /* of the frame, or NONE */
  GstClockTime duration;
  guint epoch, segment_number;
  gboolean exact;               /* the frame still waits: no shift */
} GstGlm4vCue;

void gst_glm4v_text_init (GstGlm4vText * text, GstElement * element);
void gst_glm4v_text_clear (GstGlm4vText * text);

/* Forget the stream (PAUSED -> READY). */
void gst_glm4v_text_reset (GstGlm4vText * text);

/* Make text the owner of the element's request pad, or take it back. */
void gst_glm4v_text_set_pad (GstGlm4vText * text, GstPad * pad);
void gst_glm4v_text_unset_pad (GstGlm4vText * text);

/* The stream's events, from the streaming thread. */
void gst_glm4v_text_stream_start (GstGlm4vText * text, GstEvent * event);
void gst_glm4v_text_segment (GstGlm4vText * text, const GstSegment * segment,
    guint segment_number, GstClockTime lateness, guint32 seqnum);
void gst_glm4v_text_end (GstGlm4vText * text, GstEvent * event);

/* From any thread; returns without waiting for the model. */
void gst_glm4v_text_flush_start (GstGlm4vText * text, GstEvent * event,
    guint epoch);
void gst_glm4v_text_flush_stop (GstGlm4vText * text, GstEvent * event);

/* The video has come to where no text is expected before `need`; GAPs may run
 * ahead to `target` (> need, or equal). `end` is the end of the last frame. */
void gst_glm4v_text_advance (GstGlm4vText * text, GstClockTime need,
    GstClockTime target, GstClockTime end);

/* Reverse playback has no captions: a GAP as long as the frame. */
void gst_glm4v_text_gap (GstGlm4vText * text, GstClockTime start,
    GstClockTime duration);

/* Queue a caption; stale ones are ignored. */
void gst_glm4v_text_push (GstGlm4vText * text, const GstGlm4vCue * cue);

/* Sync mode: wait until the queue is short enough, or flushing. */
void gst_glm4v_text_wait_room (GstGlm4vText * text);

void gst_glm4v_text_count (GstGlm4vText * text, GstStructure * stats);

G_END_DECLS
