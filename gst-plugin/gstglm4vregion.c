/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part of stage "source pad": where things are. Labels are a model's words
 * about a picture, so only so many of them become quarks, which GLib never
 * frees. */
#include "gstglm4vregion.h"

GST_DEBUG_CATEGORY_EXTERN (glm4vdescribe_debug);
#define GST_CAT_DEFAULT glm4vdescribe_debug

#define REGION_TYPE "object"    /* of a box without a label */
#define MAX_TYPES 256           /* labels that become region types */

/* The region type for a label; the common one when there are too many. */
static GQuark
region_type (const gchar * label)
{
  static gint types;
  GQuark known;

  if (!label)
    return g_quark_from_static_string (REGION_TYPE);
  known = g_quark_try_string (label);
  if (known != 0)
    return known;
  if (g_atomic_int_add (&types, 1) < MAX_TYPES)
    return g_quark_from_string (label);
  g_atomic_int_set (&types, MAX_TYPES);
  return g_quark_from_static_string (REGION_TYPE);
}

/* One side of a box, scaled outwards to whole pixels. */
static void
scale_side (guint * start, guint * length, gint from, gint count, guint size,
    guint described)
{
  guint64 end = gst_util_uint64_scale_int_ceil ((guint64) from + count,
      (gint) size, (gint) described);

  *start = (guint) gst_util_uint64_scale_int (from, (gint) size,
      (gint) described);
  *length = (guint) end - *start;
}

static void
copy_keys (GstStructure * to, const GstStructure * result,
    const gchar * const *keys)
{
  for (; *keys; keys++)
    if (gst_structure_has_field (result, *keys))
      gst_structure_set_value (to, *keys, gst_structure_get_value (result,
              *keys));
}

/* What each parameter says: which result it is from. */
static GstStructure *
new_param (const GstStructure * result)
{
  static const gchar *const keys[] = { "id", "pts", "age", NULL };
  GstStructure *param = gst_structure_new_empty ("glm4vdescribe");
  const GValue *model = gst_structure_get_value (result, "model");

  copy_keys (param, result, keys);
  if (model)
    gst_structure_set_value (param, "model",
        gst_structure_get_value (gst_value_get_structure (model), "name"));
  return param;
}

static GstStructure *
param_of (const GstStructure * result, const gchar * label)
{
  GstStructure *param = new_param (result);

  if (label)
    gst_structure_set (param, "label", G_TYPE_STRING, label, NULL);
  return param;
}

static gint
count_regions (GstBuffer * buffer)
{
  gpointer state = NULL;
  gint n = 0;

  while (gst_buffer_iterate_meta_filtered (buffer, &state,
          GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE))
    n++;
  return n;
}

void
gst_glm4v_region_attach (GstBuffer * buffer, const GstVideoInfo * info,
    const GstStructure * result)
{
  const GValue *boxes = gst_structure_get_value (result, "boxes");
  guint width = 0, height = 0, i;
  gint id = count_regions (buffer);     /* so that no two have the same */

  if (!boxes || !gst_structure_get_uint (result, "width", &width)
      || !gst_structure_get_uint (result, "height", &height))
    return;
  for (i = 0; i < gst_value_array_get_size (boxes); i++) {
    const GstStructure *box =
        gst_value_get_structure (gst_value_array_get_value (boxes, i));
    const gchar *label = gst_structure_get_string (box, "label");
    GstVideoRegionOfInterestMeta *meta;
    gint x = 0, y = 0, w = 0, h = 0;
    guint left, top, across, down;

    gst_structure_get (box, "x", G_TYPE_INT, &x, "y", G_TYPE_INT, &y,
        "width", G_TYPE_INT, &w, "height", G_TYPE_INT, &h, NULL);
    scale_side (&left, &across, x, w, GST_VIDEO_INFO_WIDTH (info), width);
    scale_side (&top, &down, y, h, GST_VIDEO_INFO_HEIGHT (info), height);
    meta = gst_buffer_add_video_region_of_interest_meta_id (buffer,
        region_type (label), left, top, across, down);
    if (!meta) {
      GST_WARNING ("a region cannot be attached");
      continue;
    }
    meta->id = id++;
    gst_video_region_of_interest_meta_add_param (meta, param_of (result,
            label));
  }
}

void
gst_glm4v_region_tell (GstBuffer * buffer, guint number,
    const GstStructure * result)
{
  static const gchar *const keys[] = { "prompt-number", "status", "text",
    "choice", "probability", "verdict", "state", NULL
  };
  GstStructure *param = new_param (result);
  gpointer state = NULL;
  GstMeta *meta;

  do
    meta = gst_buffer_iterate_meta_filtered (buffer, &state,
        GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE);
  while (meta && --number > 0);
  copy_keys (param, result, keys);
  if (meta)
    gst_video_region_of_interest_meta_add_param ((GstVideoRegionOfInterestMeta
            *) meta, param);
  else
    gst_structure_free (param);
}
