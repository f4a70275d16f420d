/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames: checking a buffer against its caps, keeping it until the worker has
 * time, and converting it to the RGB picture that the engine needs. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>
#include <glm4v/glm4v.h>

#include "gstglm4verror.h"
#include "gstglm4vlayout.h"

G_BEGIN_DECLS

/* What sources choose where they may: these come first in the templates. All
 * else that GstVideoConverter reads is accepted too. */
#define GST_GLM4V_FORMATS "{ GRAY8, GRAY16_LE, GRAY16_BE, RGB, BGR, RGBA, " \
    "BGRA, ARGB, ABGR, RGBx, BGRx, xRGB, xBGR, NV12, NV21, I420, YV12, " \
    "YUY2, UYVY, P010_10LE }"

/* Significant bits of GRAY16: the lowest ones. */
#define GST_GLM4V_MIN_GRAY_BITS 8
#define GST_GLM4V_MAX_GRAY_BITS 16

/* Turns frames of any accepted format into RGB; one thread. */
typedef struct _GstGlm4vConverter GstGlm4vConverter;

/* TRUE if every byte that caps (info) and GstVideoMeta describe is inside the
 * buffer. Reads no pixel. On FALSE *why is the reason (g_free). */
gboolean gst_glm4v_frame_check (GstBuffer * buffer, const GstVideoInfo * info,
    gchar ** why);

/* Do its lines belong to two moments? */
gboolean gst_glm4v_frame_is_interlaced (GstBuffer * buffer,
    const GstVideoInfo * info);

/* A reference to the buffer, or a copy where a reference would keep memory
 * that upstream cannot spare, with so many held, and that can be copied. */
GstBuffer *gst_glm4v_frame_hold (GstBuffer * buffer, guint held);

GstGlm4vConverter *gst_glm4v_converter_new (void);

void gst_glm4v_converter_free (GstGlm4vConverter * converter);

/* A frame as it came. */
typedef struct
{
  GstBuffer *buffer;
  const GstVideoInfo *info;
  guint gray_bits;              /* of GRAY16 */
} GstGlm4vFrame;

/* Convert a frame that gst_glm4v_frame_check() accepted; what is transparent
 * becomes white. The picture belongs to the
 * converter and lives until its next call; the buffer is not needed any more.
 * FALSE with *fault and *why (g_free) when that is not possible. */
gboolean gst_glm4v_converter_run (GstGlm4vConverter * converter,
    const GstGlm4vFrame * frame, glm4v_image * image, GstGlm4vFault * fault,
    gchar ** why);

G_END_DECLS
