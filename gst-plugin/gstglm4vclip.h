/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several frames for one question: those of the last `window`, evenly spaced.
 * Streaming thread. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

typedef struct
{
  GstBuffer *buffer;            /* held: gst_glm4v_frame_hold() */
  GstClockTime time;            /* the sampler's */
  guint64 frame_number;
} GstGlm4vClipFrame;

void gst_glm4v_clip_frame_free (GstGlm4vClipFrame * frame);

typedef struct
{
  guint n;                      /* frames of a clip; 1 = no clips */
  GstClockTime window;          /* time that they come from */
} GstGlm4vClipSize;

typedef struct
{
  GQueue frames;                /* of GstGlm4vClipFrame, oldest first */
  GstClockTime next;            /* when the next is to be kept */
  gboolean fresh;               /* there is one that no clip had yet */
} GstGlm4vClip;

/* Forget all frames. */
void gst_glm4v_clip_clear (GstGlm4vClip * clip);

/* A frame has come: keep it if it is time to, and always if it is the last of a
 * clip. Frames that are too old go. */
void gst_glm4v_clip_add (GstGlm4vClip * clip, GstGlm4vClipSize size,
    const GstGlm4vClipFrame * frame, gboolean last);

/* The frames of a clip that ends now, with references; of GstGlm4vClipFrame. */
GPtrArray *gst_glm4v_clip_take (GstGlm4vClip * clip);

/* Let go of every buffer: copies are kept. */
void gst_glm4v_clip_release (GstGlm4vClip * clip);

G_END_DECLS
