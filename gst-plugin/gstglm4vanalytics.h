/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detections that GStreamer 1.24 and later carry as GstAnalyticsODMtd. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Append those of a buffer to regions (of GstGlm4vRoi), in their order. None
 * where GStreamer was older when this was built. */
void gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions);

G_END_DECLS
