/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What frames look like: does a scene begin, and does a sampled frame still
 * look like the one described last? Streaming thread. */
#pragma once

#include "gstglm4vscene.h"

G_BEGIN_DECLS

typedef struct
{
  GstGlm4vConverter *converter; /* for formats that need it; made when used */
  GstGlm4vScene scene;
  GstGlm4vPlane plane;          /* of the frame at hand; may be unknown */
  gboolean read;                /* it was tried */
  GstGlm4vPlane described;      /* of the frame described last */
  guint64 id;                   /* of its first job */
  guint n_jobs;
  guint serial;                 /* of the settings then */
} GstGlm4vLook;

/* A frame to look at. */
typedef struct
{
  GstBuffer *buffer;
  const GstVideoInfo *info;
  guint gray_bits;
  guint serial;                 /* of the settings */
} GstGlm4vSight;

void gst_glm4v_look_reset (GstGlm4vLook * look);
void gst_glm4v_look_clear (GstGlm4vLook * look);

/* The next frame comes. */
void gst_glm4v_look_next (GstGlm4vLook * look);

/* Does a scene begin with it? To be asked of each frame. */
gboolean gst_glm4v_look_is_cut (GstGlm4vLook * look,
    const GstGlm4vSight * sight, gdouble threshold);

/* Does it differ by less than threshold from the frame described last, with the
 * same settings and as many jobs? *id is then that of the first of those. */
gboolean gst_glm4v_look_is_similar (GstGlm4vLook * look,
    const GstGlm4vSight * sight, gdouble threshold, guint n_jobs,
    guint64 * id);

/* It is described, by so many jobs from this one on. */
void gst_glm4v_look_described (GstGlm4vLook * look, guint64 id, guint n_jobs,
    guint serial);

G_END_DECLS
