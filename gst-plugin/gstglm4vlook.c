/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vlook.h"

void
gst_glm4v_look_reset (GstGlm4vLook * look)
{
  GstGlm4vConverter *converter = look->converter;

  *look = (GstGlm4vLook) {.converter = converter};
}

void
gst_glm4v_look_clear (GstGlm4vLook * look)
{
  g_clear_pointer (&look->converter, gst_glm4v_converter_free);
}

void
gst_glm4v_look_next (GstGlm4vLook * look)
{
  look->read = FALSE;
}

static void
look_at (GstGlm4vLook * look, const GstGlm4vSight * sight)
{
  if (look->read)
    return;
  if (!look->converter)
    look->converter = gst_glm4v_converter_new ();
  gst_glm4v_plane_read (&look->plane, sight->buffer, sight->info,
      sight->gray_bits, look->converter);
  look->read = TRUE;
}

gboolean
gst_glm4v_look_is_cut (GstGlm4vLook * look, const GstGlm4vSight * sight,
    gdouble threshold)
{
  look_at (look, sight);
  return look->plane.known
      && gst_glm4v_scene_next (&look->scene, &look->plane, threshold)
      >= threshold;
}

gboolean
gst_glm4v_look_is_similar (GstGlm4vLook * look, const GstGlm4vSight * sight,
    gdouble threshold, guint n_jobs, guint64 * id)
{
  look_at (look, sight);
  *id = look->id;
  return look->serial == sight->serial && look->n_jobs == n_jobs
      && gst_glm4v_plane_difference (&look->plane, &look->described)
      < threshold;
}

void
gst_glm4v_look_described (GstGlm4vLook * look, guint64 id, guint n_jobs,
    guint serial)
{
  if (look->read)
    look->described = look->plane;
  look->described.known &= look->read;
  look->id = id;
  look->n_jobs = n_jobs;
  look->serial = serial;
}
