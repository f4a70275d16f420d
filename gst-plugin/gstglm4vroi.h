/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which parts of a frame are asked about: all of it, a fixed region, or the
 * regions that elements upstream have found; and whether it is asked about at
 * all. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

/* Regions of one frame, at most. */
#define GST_GLM4V_MAX_REGIONS 64

/**
 * GstGlm4vRoiMode:
 * @GST_GLM4V_ROI_PROPERTY: the region of the property roi, or the whole frame
 * @GST_GLM4V_ROI_META: each region of interest that the frame carries
 */
typedef enum
{
  GST_GLM4V_ROI_PROPERTY,
  GST_GLM4V_ROI_META
} GstGlm4vRoiMode;

typedef struct
{
  GstGlm4vRoiMode mode;
  gint rect[4];                 /* x, y, width, height; no width = none */
  gchar *only_on;               /* labels with commas between, or NULL */
} GstGlm4vRoiSettings;

/* Pixels of the frame as it is shown; may lie outside. */
typedef struct
{
  gint x, y, width, height;
  gchar *label;                 /* or NULL */
  guint number;                 /* of the GstVideoRegionOfInterestMeta, from 1;
                                 * 0 = it is none */
  guint detection;              /* id of the GstAnalyticsODMtd and 1; 0 = it is
                                 * none */
} GstGlm4vRoi;

void gst_glm4v_roi_free (GstGlm4vRoi * roi);
GstGlm4vRoi *gst_glm4v_roi_copy (const GstGlm4vRoi * roi);

/* FALSE if the frame has to have a region (only-on, ROI_META) and has none. */
gboolean gst_glm4v_roi_is_wanted (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer);

/* The regions to ask about, in the order in which they were found; none with
 * ROI_PROPERTY is the whole frame. */
GPtrArray *gst_glm4v_roi_collect (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer);

/* Clip to a frame of this size. FALSE if nothing is left. */
gboolean gst_glm4v_roi_clip (GstGlm4vRoi * roi, gint width, gint height);

G_END_DECLS
