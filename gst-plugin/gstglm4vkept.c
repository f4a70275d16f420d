/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vkept.h"

GstGlm4vReady *
gst_glm4v_ready_new (const GstGlm4vJob * job)
{
  GstGlm4vReady *ready = g_new (GstGlm4vReady, 1);

  *ready = (GstGlm4vReady) {
    .structure = gst_structure_copy (job->result),
    .status = gst_glm4v_job_status (job),
    .part = job->part,
    .n_parts = job->n_parts,
    .generation = job->generation
  };
  return ready;
}

void
gst_glm4v_ready_free (GstGlm4vReady * ready)
{
  gst_structure_free (ready->structure);
  g_free (ready);
}

GPtrArray *
gst_glm4v_kept_new (void)
{
  return g_ptr_array_new_with_free_func ((GDestroyNotify)
      gst_glm4v_ready_free);
}

/* Does it say something that was not known? */
static gboolean
is_news (const GstGlm4vReady * ready)
{
  switch (ready->status) {
    case GST_GLM4V_STATUS_OK:
    case GST_GLM4V_STATUS_TIMEOUT:
    case GST_GLM4V_STATUS_ERROR:
      return TRUE;
    case GST_GLM4V_STATUS_UNCHANGED:
    case GST_GLM4V_STATUS_DROPPED:
    case GST_GLM4V_N_STATUSES:
      break;
  }
  return FALSE;
}

void
gst_glm4v_kept_add (GPtrArray * kept, GstGlm4vReady * ready)
{
  guint i = 0, place = 0;

  if (!is_news (ready)) {
    gst_glm4v_ready_free (ready);
    return;
  }
  while (i < kept->len) {
    const GstGlm4vReady *other = g_ptr_array_index (kept, i);

    if (other->part == ready->part || other->part >= ready->n_parts) {
      g_ptr_array_remove_index (kept, i);
    } else {
      place += other->part < ready->part;
      i++;
    }
  }
  ready->fresh = TRUE;
  g_ptr_array_insert (kept, (gint) place, ready);
}

/* Nanoseconds since the described frame; GST_CLOCK_TIME_NONE if one of the two
 * has no time. */
static GstClockTime
age_of (const GstStructure * result, GstClockTime running_time)
{
  GstClockTime then = GST_CLOCK_TIME_NONE;

  gst_structure_get_uint64 (result, "running-time", &then);
  if (!GST_CLOCK_TIME_IS_VALID (then)
      || !GST_CLOCK_TIME_IS_VALID (running_time))
    return GST_CLOCK_TIME_NONE;
  return running_time > then ? running_time - then : 0;
}

const GstStructure *
gst_glm4v_kept_next (GPtrArray * kept, guint * at, GstClockTime running_time)
{
  while (*at < kept->len) {
    GstGlm4vReady *ready = g_ptr_array_index (kept, (*at)++);

    if (!ready->fresh) {
      gst_structure_set (ready->structure, "age", G_TYPE_UINT64,
          age_of (ready->structure, running_time), NULL);
      return ready->structure;
    }
    ready->fresh = FALSE;
  }
  return NULL;
}
