/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Results on their way to frames, and those that later frames repeat
 * (persist-meta): of each question about a frame, or about a region of it, the
 * last one that says something. Plain data of the streaming thread. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vjob.h"

G_BEGIN_DECLS

/* A result for a frame. */
typedef struct
{
  GstStructure *structure;
  GstGlm4vStatus status;
  guint part, n_parts;          /* of its job */
  guint generation;             /* likewise */
  gboolean fresh;               /* the frame at hand has got it */
} GstGlm4vReady;

/* Of a job that has a result, which is copied. Any thread. */
GstGlm4vReady *gst_glm4v_ready_new (const GstGlm4vJob * job);
void gst_glm4v_ready_free (GstGlm4vReady * ready);

/* An array of GstGlm4vReady, in the order of their parts. */
GPtrArray *gst_glm4v_kept_new (void);

/* The frame at hand has got this result; takes it. Those of earlier frames that
 * it replaces go. With unchanged and dropped they stay, and it is not kept. */
void gst_glm4v_kept_add (GPtrArray * kept, GstGlm4vReady * ready);

/* The next one that the frame at hand has to repeat, with its age at this
 * running time, or NULL after the last, when the next frame is at hand; *at
 * begins with 0. */
const GstStructure *gst_glm4v_kept_next (GPtrArray * kept, guint * at,
    GstClockTime running_time);

G_END_DECLS
