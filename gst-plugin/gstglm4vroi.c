/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vroi.h"

#include "gstglm4vanalytics.h"

void
gst_glm4v_roi_free (GstGlm4vRoi * roi)
{
  g_free (roi->label);
  g_free (roi);
}

GstGlm4vRoi *
gst_glm4v_roi_copy (const GstGlm4vRoi * roi)
{
  GstGlm4vRoi *copy = g_new (GstGlm4vRoi, 1);

  *copy = *roi;
  copy->label = g_strdup (roi->label);
  return copy;
}

/* Is label one of those that stand in list, blanks around them aside? */
static gboolean
is_listed (const gchar * list, const gchar * label)
{
  gchar **labels = g_strsplit (list, ",", -1);
  gboolean listed = FALSE;
  guint i;

  for (i = 0; labels[i] && !listed; i++)
    listed = g_str_equal (g_strstrip (labels[i]), label);
  g_strfreev (labels);
  return listed;
}

static gboolean
has_listed (const GstGlm4vRoiSettings * settings, const GstGlm4vRoi * roi)
{
  return !settings->only_on || (roi->label
      && is_listed (settings->only_on, roi->label));
}

/* Where a side lies in what is shown; metas may say anything. */
static gint
shown_at (gint stored, guint crop)
{
  return (gint) CLAMP ((gint64) stored - crop, -G_MAXINT / 4, G_MAXINT / 4);
}

static GstGlm4vRoi *
new_from_meta (const GstVideoRegionOfInterestMeta * meta, guint number)
{
  GstGlm4vRoi *roi = g_new0 (GstGlm4vRoi, 1);

  roi->x = (gint) MIN (meta->x, G_MAXINT / 4);
  roi->y = (gint) MIN (meta->y, G_MAXINT / 4);
  roi->width = (gint) MIN (meta->w, G_MAXINT / 4);
  roi->height = (gint) MIN (meta->h, G_MAXINT / 4);
  roi->label = g_strdup (g_quark_to_string (meta->roi_type));
  roi->number = number;
  return roi;
}

/* What elements upstream have found: regions of interest, or else detections
 * of GstAnalytics. Both count from the corner of the stored frame. */
static GPtrArray *
find_all (GstBuffer * buffer)
{
  GPtrArray *regions =
      g_ptr_array_new_with_free_func ((GDestroyNotify) gst_glm4v_roi_free);
  GstVideoCropMeta *crop = gst_buffer_get_video_crop_meta (buffer);
  gpointer state = NULL;
  GstMeta *meta;
  guint i;

  while ((meta = gst_buffer_iterate_meta_filtered (buffer, &state,
              GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE)))
    g_ptr_array_add (regions,
        new_from_meta ((GstVideoRegionOfInterestMeta *) meta,
            regions->len + 1));
  if (regions->len == 0)
    gst_glm4v_analytics_collect (buffer, regions);
  for (i = 0; crop && i < regions->len; i++) {
    GstGlm4vRoi *roi = g_ptr_array_index (regions, i);

    roi->x = shown_at (roi->x, crop->x);
    roi->y = shown_at (roi->y, crop->y);
  }
  return regions;
}

/* Those that only-on names, the first most of them; all without it. */
static GPtrArray *
find_wanted (const GstGlm4vRoiSettings * settings, GstBuffer * buffer,
    guint most)
{
  GPtrArray *regions = find_all (buffer);
  guint i = 0;

  while (i < MIN (most, regions->len))
    if (has_listed (settings, g_ptr_array_index (regions, i)))
      i++;
    else
      g_ptr_array_remove_index (regions, i);
  g_ptr_array_set_size (regions, (gint) i);
  return regions;
}

gboolean
gst_glm4v_roi_is_wanted (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer)
{
  GPtrArray *first;
  gboolean wanted;

  if (!settings->only_on && settings->mode == GST_GLM4V_ROI_PROPERTY)
    return TRUE;
  first = find_wanted (settings, buffer, 1);
  wanted = first->len > 0;
  g_ptr_array_unref (first);
  return wanted;
}

/* The fixed region, if there is one. */
static GPtrArray *
fixed_region (const GstGlm4vRoiSettings * settings)
{
  GPtrArray *regions =
      g_ptr_array_new_with_free_func ((GDestroyNotify) gst_glm4v_roi_free);
  GstGlm4vRoi fixed = {.x = settings->rect[0],.y = settings->rect[1],
    .width = settings->rect[2],.height = settings->rect[3]
  };

  if (fixed.width > 0 && fixed.height > 0)
    g_ptr_array_add (regions, gst_glm4v_roi_copy (&fixed));
  return regions;
}

GPtrArray *
gst_glm4v_roi_collect (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer)
{
  return settings->mode == GST_GLM4V_ROI_PROPERTY ? fixed_region (settings) :
      find_wanted (settings, buffer, GST_GLM4V_MAX_REGIONS);
}

/* One side. FALSE if nothing is left. */
static gboolean
clip_side (gint * from, gint * length, gint size)
{
  gint64 end = MIN ((gint64) * from + *length, size);

  *from = MAX (*from, 0);
  *length = (gint) MAX (end - *from, 0);
  return *length > 0;
}

gboolean
gst_glm4v_roi_clip (GstGlm4vRoi * roi, gint width, gint height)
{
  return clip_side (&roi->x, &roi->width, width)
      && clip_side (&roi->y, &roi->height, height);
}
