/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stream beside the video, `text` or `json`: sparse buffers with GAPs between
 * them, pushed by the pad's own task so that nothing downstream of it can delay
 * the video. It keeps the state of the stream also without a pad, so a pad that
 * is requested late receives what it has missed. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Counted references: the element has one, each pad it made another. */
typedef struct _GstGlm4vText GstGlm4vText;

/* Which of them. */
typedef enum
{
  GST_GLM4V_STREAM_TEXT,        /* captions: text/x-raw */
  GST_GLM4V_STREAM_JSON,        /* results: application/x-json */
  GST_GLM4V_N_STREAMS
} GstGlm4vTextKind;

/* A caption as one or several cues, or a result in JSON, on its way to the
 * pad. */
typedef struct
{
  const GPtrArray *cues;        /* of GstGlm4vReadingCue, at least one */
  const GstStructure *result;   /* to lie on the first as meta, or NULL */
  GRefString *settings;         /* a line that has to come before, or NULL */
  GstClockTime pts;             /* of the frame, or NONE */
  GstClockTime duration;        /* of all cues */
  GstClockTime stream_end;      /* where the video ends, or NONE */
  guint part;                   /* of the answers about one frame */
  guint epoch, segment_number;
  gboolean exact;               /* the frame still waits: no shift */
  gboolean in_turn;             /* it begins when those before it have ended,
                                 * and keeps its duration */
  gboolean untimed;             /* it goes at once, without a time */
} GstGlm4vCaption;

/* The kind has the pad's name, which also ends the stream's id, and what is to
 * be done where there is no room. Takes the caps. */
GstGlm4vText *gst_glm4v_text_new (GstGlm4vTextKind kind, GstCaps * caps);
const gchar *gst_glm4v_text_name (GstGlm4vTextKind kind);
GstGlm4vText *gst_glm4v_text_ref (GstGlm4vText * text);
void gst_glm4v_text_unref (GstGlm4vText * text);

/* Forget the stream (PAUSED -> READY and back). Captions of another epoch are
 * stale. */
void gst_glm4v_text_reset (GstGlm4vText * text, guint epoch);

/* Reset the counters (NULL -> READY). */
void gst_glm4v_text_reset_counters (GstGlm4vText * text);

/* The request pad; NULL if there is one. The caller activates and adds it. */
GstPad *gst_glm4v_text_new_pad (GstGlm4vText * text, GstPadTemplate * template);

/* Release it; then the caller deactivates and removes it. Nothing is pushed,
 * and nothing is waited for: a push that downstream blocks ends when downstream
 * returns. */
void gst_glm4v_text_release_pad (GstGlm4vText * text, GstPad * pad);

/* The stream's events, from the streaming thread. */
void gst_glm4v_text_stream_start (GstGlm4vText * text, GstEvent * event);
void gst_glm4v_text_segment (GstGlm4vText * text, const GstSegment * segment,
    guint segment_number, GstClockTime lateness, guint32 seqnum);
void gst_glm4v_text_end (GstGlm4vText * text, GstEvent * event);

/* Any other downstream event: goes on as it is. */
void gst_glm4v_text_event (GstGlm4vText * text, GstEvent * event);

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

/* Is there a pad that takes what is pushed? */
gboolean gst_glm4v_text_is_wanted (GstGlm4vText * text);

/* Queue a caption; stale ones are ignored. One in turn that cannot be read
 * before the stream ends is dropped, unless it is the first. */
void gst_glm4v_text_push (GstGlm4vText * text,
    const GstGlm4vCaption * caption);

/* Is this answer the same as the last one to its question? It is remembered. */
gboolean gst_glm4v_text_is_repeated (GstGlm4vText * text, guint part,
    const gchar * answer);

/* A caption in turn will be pushed; or it will not. */
void gst_glm4v_text_expect (GstGlm4vText * text);
void gst_glm4v_text_expect_none (GstGlm4vText * text);

/* The time of the first frame whose caption, as late as the last one, comes
 * when all captions so far have ended; NONE while one is expected. */
GstClockTime gst_glm4v_text_free_from (GstGlm4vText * text);

/* Sync mode: wait until the queue is short enough, or flushing; without
 * waiting, the oldest cue may be lost. */
void gst_glm4v_text_wait_room (GstGlm4vText * text);

void gst_glm4v_text_count (GstGlm4vText * text, GstStructure * stats);

G_END_DECLS
