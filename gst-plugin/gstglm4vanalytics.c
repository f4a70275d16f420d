/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vanalytics.h"

#ifdef HAVE_GST_ANALYTICS

#include <gst/analytics/analytics.h>

#include "gstglm4vroi.h"

void
gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions)
{
  GstAnalyticsRelationMeta *meta =
      gst_buffer_get_analytics_relation_meta (buffer);
  GstAnalyticsODMtd object;
  gpointer state = NULL;

  while (meta && gst_analytics_relation_meta_iterate (meta, &state,
          gst_analytics_od_mtd_get_mtd_type (), &object)) {
    GQuark label = gst_analytics_od_mtd_get_obj_type (&object);
    GstGlm4vRoi roi = {.label = (gchar *) g_quark_to_string (label) };

    if (gst_analytics_od_mtd_get_location (&object, &roi.x, &roi.y, &roi.width,
            &roi.height, NULL))
      g_ptr_array_add (regions, gst_glm4v_roi_copy (&roi));
  }
}

#else

void
gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions)
{
}

#endif
