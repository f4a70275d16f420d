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

/* What the elements upstream have put there stays. */
static GstAnalyticsRelationMeta *
relation_meta_of (GstBuffer * buffer)
{
  GstAnalyticsRelationMeta *meta =
      gst_buffer_get_analytics_relation_meta (buffer);

  return meta ? meta : gst_buffer_add_analytics_relation_meta (buffer);
}

void
gst_glm4v_analytics_attach (GstBuffer * buffer, const GstStructure * result)
{
  const gchar *choice = gst_structure_get_string (result, "choice");
  gdouble probability = 0;

  if (choice
      && gst_structure_get_double (result, "probability", &probability)) {
    GstAnalyticsClsMtd mtd;

    /* A word of the property choices: there are only so many quarks. */
    gst_analytics_relation_meta_add_one_cls_mtd (relation_meta_of (buffer),
        (gfloat) probability, g_quark_from_string (choice), &mtd);
    return;
  }
#if GST_CHECK_VERSION (1, 30, 0)
  {
    const gchar *text = gst_structure_get_string (result, "text");
    GstAnalyticsTextMtd mtd;

    /* The model has no score for it. */
    if (text && *text)
      gst_analytics_relation_meta_add_text_mtd (relation_meta_of (buffer),
          text, 1.0f, &mtd);
  }
#endif
}

#else

void
gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions)
{
}

void
gst_glm4v_analytics_attach (GstBuffer * buffer, const GstStructure * result)
{
}

#endif
