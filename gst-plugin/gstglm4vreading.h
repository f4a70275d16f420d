/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers as captions that a person can read: lines, consecutive cues, and the
 * time that they need. Plain text and arithmetic: no locks. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* As the properties are. */
typedef struct
{
  guint speed;                  /* characters a second, 0 = any */
  guint max_line_length;        /* columns, 0 = no line is broken */
  guint max_lines;              /* of a cue, 0 = any number */
} GstGlm4vReading;

/* One of the cues of a text. */
typedef struct
{
  gchar *text;
  GstClockTime offset, duration;        /* in the time of the text */
} GstGlm4vReadingCue;

/* A text as consecutive cues (of GstGlm4vReadingCue): lines are broken between
 * words, wide characters (East Asian) count two columns. Line breaks of the
 * text stay. The times of the cues are still 0. */
GPtrArray *gst_glm4v_reading_divide (const GstGlm4vReading * reading,
    const gchar * text);

/* How long the cues are to be shown; 0 if speed is. */
GstClockTime gst_glm4v_reading_time (const GstGlm4vReading * reading,
    const GPtrArray * cues);

/* Share time among the cues by their lengths. */
void gst_glm4v_reading_share (GPtrArray * cues, GstClockTime time);

G_END_DECLS
