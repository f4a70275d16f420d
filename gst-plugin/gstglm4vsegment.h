/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times in a segment, which upstream may make as it likes. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* The running time of a PTS. GST_CLOCK_TIME_NONE if it has none, lies outside,
 * or the segment does not tell: it is not in time, or is played backwards from
 * an unknown end, where GStreamer's own function is a critical. */
GstClockTime gst_glm4v_segment_running_time (const GstSegment * segment,
    GstClockTime pts);

G_END_DECLS
