/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vroi.h"

#include <string.h>

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
is_wanted (const GstGlm4vRoiSettings * settings,
    const GstVideoRegionOfInterestMeta * meta)
{
  const gchar *label = g_quark_to_string (meta->roi_type);

  return !settings->only_on || (label && is_listed (settings->only_on, label));
}

static GstVideoRegionOfInterestMeta *
next_meta (GstBuffer * buffer, gpointer * state)
{
  return (GstVideoRegionOfInterestMeta *) gst_buffer_iterate_meta_filtered
      (buffer, state, GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE);
}

gboolean
gst_glm4v_roi_is_wanted (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer)
{
  GstVideoRegionOfInterestMeta *meta;
  gpointer state = NULL;

  if (!settings->only_on && settings->mode == GST_GLM4V_ROI_PROPERTY)
    return TRUE;
  while ((meta = next_meta (buffer, &state)))
    if (is_wanted (settings, meta))
      return TRUE;
  return FALSE;
}

/* Metas count from the corner of the stored frame. */
static GstGlm4vRoi *
new_from_meta (GstBuffer * buffer, const GstVideoRegionOfInterestMeta * meta)
{
  GstVideoCropMeta *crop = gst_buffer_get_video_crop_meta (buffer);
  GstGlm4vRoi *roi = g_new0 (GstGlm4vRoi, 1);

  roi->x = (gint) MIN (meta->x, G_MAXINT / 4) - (crop ? (gint) crop->x : 0);
  roi->y = (gint) MIN (meta->y, G_MAXINT / 4) - (crop ? (gint) crop->y : 0);
  roi->width = (gint) MIN (meta->w, G_MAXINT / 4);
  roi->height = (gint) MIN (meta->h, G_MAXINT / 4);
  roi->label = g_strdup (g_quark_to_string (meta->roi_type));
  return roi;
}

GPtrArray *
gst_glm4v_roi_collect (const GstGlm4vRoiSettings * settings,
    GstBuffer * buffer)
{
  GPtrArray *regions =
      g_ptr_array_new_with_free_func ((GDestroyNotify) gst_glm4v_roi_free);
  GstVideoRegionOfInterestMeta *meta;
  gpointer state = NULL;
  GstGlm4vRoi whole = { 0 };

  if (settings->mode == GST_GLM4V_ROI_PROPERTY) {
    whole.x = settings->rect[0];
    whole.y = settings->rect[1];
    whole.width = settings->rect[2];
    whole.height = settings->rect[3];
    if (whole.width > 0 && whole.height > 0)
      g_ptr_array_add (regions, gst_glm4v_roi_copy (&whole));
    return regions;
  }
  while (regions->len < GST_GLM4V_MAX_REGIONS
      && (meta = next_meta (buffer, &state)))
    if (is_wanted (settings, meta))
      g_ptr_array_add (regions, new_from_meta (buffer, meta));
  return regions;
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
