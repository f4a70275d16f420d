/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much a picture has changed: luma on a small plane, and what is a cut.
 * Streaming thread. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>

#include "gstglm4vframe.h"

G_BEGIN_DECLS

#define GST_GLM4V_PLANE_COLUMNS 48
#define GST_GLM4V_PLANE_ROWS 27
#define GST_GLM4V_SCENE_HISTORY 8

/* Mean luma of the cells of a picture, 0 to 255, whatever its size. */
typedef struct
{
  gboolean known;
  guint8 luma[GST_GLM4V_PLANE_ROWS * GST_GLM4V_PLANE_COLUMNS];
} GstGlm4vPlane;

/* What the differences between neighbouring frames were of late. */
typedef struct
{
  GstGlm4vPlane last;
  gdouble history[GST_GLM4V_SCENE_HISTORY];
  guint n;                      /* differences so far, cuts apart */
} GstGlm4vScene;

/* Read the plane of a frame, its crop only; not known afterwards if its memory
 * cannot be read or is too small. Takes a few of the pixels of formats that
 * have them in bytes or words of their own; packed and tiled ones go through
 * the converter, whole. */
void gst_glm4v_plane_read (GstGlm4vPlane * plane, GstBuffer * buffer,
    const GstVideoInfo * info, guint gray_bits, GstGlm4vConverter * converter);

/* Mean difference, 0 to 1; 1 if one of them is not known. */
gdouble gst_glm4v_plane_difference (const GstGlm4vPlane * a,
    const GstGlm4vPlane * b);

/* The next frame: by how much more it differs from the one before it than
 * frames have differed of late, 0 to 1. What reaches threshold is a cut. */
gdouble gst_glm4v_scene_next (GstGlm4vScene * scene,
    const GstGlm4vPlane * plane, gdouble threshold);

G_END_DECLS
