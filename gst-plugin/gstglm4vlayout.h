/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the planes of a frame lie in its buffer, and that all of them do. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>

#include <glm4v/glm4v.h>

G_BEGIN_DECLS

/* Pixels of a frame, at most. */
#define GST_GLM4V_MAX_AREA (128 * 1024 * 1024)

typedef struct
{
  GstVideoInfo info;            /* format and size of the stored frame */
  gsize offset[GST_VIDEO_MAX_PLANES];
  gint stride[GST_VIDEO_MAX_PLANES];    /* tiled formats: counts of tiles */
  gsize row_bytes[GST_VIDEO_MAX_PLANES]; /* bytes of a row that hold pixels */
  guint rows[GST_VIDEO_MAX_PLANES];     /* tiled formats: 1, the whole plane */
  guint x, y, width, height;    /* the part of the frame that is shown */
} GstGlm4vLayout;

/* FALSE if data that caps (info) and metas describe is not inside the buffer;
 * then *why (g_free) is the reason. Reads no pixel. */
gboolean gst_glm4v_layout_find (GstGlm4vLayout * layout, GstBuffer * buffer,
    const GstVideoInfo * info, gchar ** why);

G_END_DECLS
