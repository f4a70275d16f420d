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
    GstGlm4vRoi roi = {.label = (gchar *) g_quark_to_string (label),
      .detection = object.id + 1
    };

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
gst_glm4v_analytics_attach (GstBuffer * buffer, const GstStructure * result,
    guint detection)
{
  GstAnalyticsRelationMeta *meta = NULL;
  const gchar *choice = gst_structure_get_string (result, "choice");
  gdouble probability = 0;
  GstAnalyticsMtd mtd;
  gboolean added = FALSE;

  if (choice
      && gst_structure_get_double (result, "probability", &probability)) {
    meta = relation_meta_of (buffer);
    /* A word of the property choices: there are only so many quarks. */
    added = gst_analytics_relation_meta_add_one_cls_mtd (meta,
        (gfloat) probability, g_quark_from_string (choice), &mtd);
  }
#if GST_CHECK_VERSION (1, 30, 0)
  else {
    const gchar *text = gst_structure_get_string (result, "text");

    if (text && *text) {
      meta = relation_meta_of (buffer);
      /* The model has no score for it. */
      added = gst_analytics_relation_meta_add_text_mtd (meta, text, 1.0f, &mtd);
    }
  }
#endif
  if (added && detection > 0)
    gst_analytics_relation_meta_set_relation (meta,
        GST_ANALYTICS_REL_TYPE_RELATE_TO, mtd.id, detection - 1);
}

#else

void
gst_glm4v_analytics_collect (GstBuffer * buffer, GPtrArray * regions)
{
}

void
gst_glm4v_analytics_attach (GstBuffer * buffer, const GstStructure * result,
    guint detection)
{
}

#endif
