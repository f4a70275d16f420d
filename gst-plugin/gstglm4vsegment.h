/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times in a segment. GStreamer's own functions want one in time that, where it
 * is played backwards, says where it begins; upstream may send any. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Of a buffer with this PTS; GST_CLOCK_TIME_NONE if it has none, lies outside
 * or the segment does not tell. */
GstClockTime gst_glm4v_segment_running_time (const GstSegment * segment,
    GstClockTime pts);
GstClockTime gst_glm4v_segment_stream_time (const GstSegment * segment,
    GstClockTime pts);

/* The PTS at this stream time, or GST_CLOCK_TIME_NONE. */
GstClockTime gst_glm4v_segment_pts (const GstSegment * segment,
    GstClockTime stream_time);

G_END_DECLS
