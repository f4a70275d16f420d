/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests for the description of one frame: by event, by action signal, or by
 * a meta on that frame. Triggers wait here for a frame that can be described;
 * each becomes a job of its own. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Name of the event's structure, and of the custom meta. Both may have the
 * fields `id` (any type; comes back as `trigger-id`) and `prompt` (string). */
#define GST_GLM4V_TRIGGER_EVENT "glm4vdescribe/trigger"
#define GST_GLM4V_TRIGGER_META "Glm4vDescribeTrigger"

/* So many can wait for a frame. */
#define GST_GLM4V_MAX_TRIGGERS 4096

typedef struct
{
  GValue id;                    /* unset if it has none */
  gchar *prompt;                /* instead of the property; or NULL */
  gboolean canceled;            /* its result comes with the next frame */
} GstGlm4vTrigger;

/* Register the custom meta once in this process. */
void gst_glm4v_trigger_register_meta (void);

/* The request in a structure. */
GstGlm4vTrigger *gst_glm4v_trigger_new (const GstStructure * structure);

/* The same from an application's call; prompt may be NULL. */
GstGlm4vTrigger *gst_glm4v_trigger_new_call (guint64 id, const gchar * prompt);
void gst_glm4v_trigger_free (GstGlm4vTrigger * trigger);

/* Those that lie on a buffer go to the end of queue. */
void gst_glm4v_trigger_take_metas (GstBuffer * buffer, GQueue * queue);

/* TRUE for an event that is a trigger. */
gboolean gst_glm4v_trigger_is_event (GstEvent * event);

G_END_DECLS
