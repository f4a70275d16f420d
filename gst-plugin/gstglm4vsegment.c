/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vsegment.h"

GstClockTime
gst_glm4v_segment_running_time (const GstSegment * segment, GstClockTime pts)
{
  gboolean end_known = GST_CLOCK_TIME_IS_VALID (segment->stop)
      || GST_CLOCK_TIME_IS_VALID (segment->duration);

  if (segment->format != GST_FORMAT_TIME || (segment->rate < 0 && !end_known))
    return GST_CLOCK_TIME_NONE;
  return gst_segment_to_running_time (segment, GST_FORMAT_TIME, pts);
}
