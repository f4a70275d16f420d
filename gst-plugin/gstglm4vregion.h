/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an answer points at: boxes and an agent's action become fields of the
 * result, boxes regions of interest on the frame that carries it. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>
#include <glm4v/glm4v.h>

G_BEGIN_DECLS

/* Fields `boxes` and `action` of a result, as far as the answer has them; x, y
 * is the corner of what was asked about in its frame. A structure of that name
 * to be freed, or NULL. */
GstStructure *gst_glm4v_region_fields (const glm4v_result * answer, gint x,
    gint y);

/* Add a GstVideoRegionOfInterestMeta for each box of a result to a writable
 * buffer whose caps are info. If these differ in size from the frame that was
 * described, the boxes are scaled: they are shares of the view. */
void gst_glm4v_region_attach (GstBuffer * buffer, const GstVideoInfo * info,
    const GstStructure * result);

G_END_DECLS
