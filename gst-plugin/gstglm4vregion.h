/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxes of a result as regions of interest on the frame that carries it. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

/* Add a GstVideoRegionOfInterestMeta for each box of a result to a writable
 * buffer whose caps are info. If these differ in size from the frame that was
 * described, the boxes are scaled: they are shares of the view. */
void gst_glm4v_region_attach (GstBuffer * buffer, const GstVideoInfo * info,
    const GstStructure * result);

/* Tell the number-th region of interest of a writable buffer, from 1, what the
 * model says of it, by a parameter. */
void gst_glm4v_region_tell (GstBuffer * buffer, guint number,
    const GstStructure * result);

G_END_DECLS
