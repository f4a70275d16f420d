/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages about time: frames that were dropped (QOS), answers that are late,
 * delays beyond what was declared, an engine that stands still. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vjob.h"

G_BEGIN_DECLS

#define GST_GLM4V_STALLED_NAME "glm4vdescribe-stalled"
#define GST_GLM4V_LATE_NAME "glm4vdescribe-late"

/* Guarded by the element's lock. All zero when a run begins. */
typedef struct
{
  guint late_in_a_row;          /* results with status timeout */
  GstClockTime told_delay;      /* the largest that a warning reported */
  gint64 last_qos;              /* monotonic µs of the last QOS message, or 0 */
  guint64 processed, dropped;   /* results of this run */
} GstGlm4vWatch;

struct _GstGlm4vDescribe;

/* A result was given: post what it gives reason to. Any thread, no lock. */
void gst_glm4v_watch_result (struct _GstGlm4vDescribe * self,
    const GstGlm4vJob * job, GstClockTime delay);

/* The engine or a server made no progress for so long, or makes some again. */
void gst_glm4v_watch_stalled (struct _GstGlm4vDescribe * self, gboolean stalled,
    GstClockTime since, const gchar * server);

G_END_DECLS
