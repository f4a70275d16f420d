/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vsegment.h"

/* Backwards, time counts from the stop, which a duration may tell instead. */
static gboolean
tells_time (const GstSegment * segment, gdouble rate)
{
  return segment->format == GST_FORMAT_TIME && (rate > 0.0
      || GST_CLOCK_TIME_IS_VALID (segment->stop)
      || GST_CLOCK_TIME_IS_VALID (segment->duration));
}

GstClockTime
gst_glm4v_segment_running_time (const GstSegment * segment, GstClockTime pts)
{
  if (!tells_time (segment, segment->rate))
    return GST_CLOCK_TIME_NONE;
  return gst_segment_to_running_time (segment, GST_FORMAT_TIME, pts);
}

GstClockTime
gst_glm4v_segment_stream_time (const GstSegment * segment, GstClockTime pts)
{
  if (!tells_time (segment, segment->applied_rate))
    return GST_CLOCK_TIME_NONE;
  return gst_segment_to_stream_time (segment, GST_FORMAT_TIME, pts);
}

GstClockTime
gst_glm4v_segment_pts (const GstSegment * segment, GstClockTime stream_time)
{
  if (!tells_time (segment, segment->applied_rate))
    return GST_CLOCK_TIME_NONE;
  return gst_segment_position_from_stream_time (segment, GST_FORMAT_TIME,
      stream_time);
}
