/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GstAnalytics, which GStreamer has from 1.24 on: detections of others come as
 * GstAnalyticsODMtd, answers go as GstAnalyticsClsMtd or
 * GstAnalyticsTextMtd. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Append those of a buffer to regions (of GstGlm4vRoi), in their order. None
 * where GStreamer was older when this was built. */
void gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions);

/* Add the choice of a result to a buffer that is writable, or, with GStreamer
 * 1.30, its text. It relates to what it is about, the buffer's detection of
 * that number (GstGlm4vRoi), unless that is 0. Nothing where GStreamer was
 * older when this was built. */
void gst_glm4v_analytics_attach (GstBuffer * buffer,
    const GstStructure * result, guint detection);

G_END_DECLS
