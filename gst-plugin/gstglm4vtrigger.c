/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vtrigger.h"

void
gst_glm4v_trigger_register_meta (void)
{
  static const gchar *tags[] = { NULL };

  /* A second registration would be a critical. */
  if (!gst_meta_get_info (GST_GLM4V_TRIGGER_META))
    gst_meta_register_custom (GST_GLM4V_TRIGGER_META, tags, NULL, NULL, NULL);
}

GstGlm4vTrigger *
gst_glm4v_trigger_new (const GstStructure * structure)
{
  GstGlm4vTrigger *trigger = g_new0 (GstGlm4vTrigger, 1);
  const GValue *id = gst_structure_get_value (structure, "id");

  if (id) {
    g_value_init (&trigger->id, G_VALUE_TYPE (id));
    g_value_copy (id, &trigger->id);
  }
  trigger->prompt = g_strdup (gst_structure_get_string (structure, "prompt"));
  return trigger;
}

GstGlm4vTrigger *
gst_glm4v_trigger_new_call (guint64 id, const gchar * prompt)
{
  GstGlm4vTrigger *trigger = g_new0 (GstGlm4vTrigger, 1);

  g_value_init (&trigger->id, G_TYPE_UINT64);
  g_value_set_uint64 (&trigger->id, id);
  trigger->prompt = g_strdup (prompt);
  return trigger;
}

void
gst_glm4v_trigger_free (GstGlm4vTrigger * trigger)
{
  if (G_IS_VALUE (&trigger->id))
    g_value_unset (&trigger->id);
  g_free (trigger->prompt);
  g_free (trigger);
}

void
gst_glm4v_trigger_take_metas (GstBuffer * buffer, GQueue * queue)
{
  const GstMetaInfo *info = gst_meta_get_info (GST_GLM4V_TRIGGER_META);
  gpointer state = NULL;
  GstMeta *meta;

  while ((meta = gst_buffer_iterate_meta (buffer, &state)))
    if (meta->info == info)
      g_queue_push_tail (queue,
          gst_glm4v_trigger_new (gst_custom_meta_get_structure ((GstCustomMeta
                      *) meta)));
}

gboolean
gst_glm4v_trigger_is_event (GstEvent * event)
{
  return (GST_EVENT_TYPE (event) == GST_EVENT_CUSTOM_DOWNSTREAM
      || GST_EVENT_TYPE (event) == GST_EVENT_CUSTOM_DOWNSTREAM_OOB)
      && gst_event_has_name (event, GST_GLM4V_TRIGGER_EVENT);
}
