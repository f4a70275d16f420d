/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text of an answer while it grows: from the engine's thread to the worker,
 * which tells it between two looks at the request. So no handler of the
 * application runs on the engine's thread, and the result, which the worker
 * delivers, comes after all of it. */
#include "gstglm4vworkerpriv.h"

#define INTERVAL (100 * GST_MSECOND)

void
gst_glm4v_partial_on_text (void *user, glm4v_text_part part, const char *text)
{
  GstGlm4vWorker *self = user;

  g_mutex_lock (&self->lock);
  if (self->asked && part != GLM4V_TEXT_REASONING)
    g_string_append (self->said, text);
  g_mutex_unlock (&self->lock);
}

guint64
gst_glm4v_partial_limit_wait (const GstGlm4vJob * job, guint64 wait)
{
  return job->partial ? MIN (wait, INTERVAL) : wait;
}

/* What is to be told now (g_free), or NULL. */
static gchar *
take_text (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  gchar *text = NULL;

  g_mutex_lock (&self->lock);
  if (self->asked == job && job->state == GST_GLM4V_JOB_WAITING
      && self->said->len > self->told) {
    text = g_strdup (self->said->str);
    self->told = self->said->len;
    self->telling = TRUE;
  }
  g_mutex_unlock (&self->lock);
  return text;
}

void
gst_glm4v_partial_tell (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  gint64 now = g_get_monotonic_time ();
  gchar *text;

  if (!job->partial || (GstClockTime) (now - self->told_at) * 1000 < INTERVAL)
    return;
  text = take_text (self, job);
  if (!text)
    return;
  self->told_at = now;
  if (gst_glm4v_worker_leave (self)) {
    self->callbacks.partial (self->user, job, text);
    gst_glm4v_worker_enter (self);
  }
  g_mutex_lock (&self->lock);
  self->telling = FALSE;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  g_free (text);
}
