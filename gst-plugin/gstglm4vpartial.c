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
  GstGlm4vAsked *asked = user;

  g_mutex_lock (&asked->worker->lock);
  if (asked->job && part != GLM4V_TEXT_REASONING)
    g_string_append (asked->said, text);
  g_mutex_unlock (&asked->worker->lock);
}

guint64
gst_glm4v_partial_limit_wait (const GstGlm4vJob * job, guint64 wait)
{
  return job->partial ? MIN (wait, INTERVAL) : wait;
}

/* What is to be told now (g_free), or NULL. */
static gchar *
take_text (GstGlm4vAsked * asked)
{
  GstGlm4vWorker *self = asked->worker;
  gchar *text = NULL;

  g_mutex_lock (&self->lock);
  if (asked->job && !asked->answered && asked->said->len > asked->told) {
    text = g_strdup (asked->said->str);
    asked->told = asked->said->len;
    self->telling = TRUE;
  }
  g_mutex_unlock (&self->lock);
  return text;
}

void
gst_glm4v_partial_tell (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;
  gint64 now = g_get_monotonic_time ();
  gchar *text;

  if (!job->partial || (GstClockTime) (now - self->told_at) * 1000 < INTERVAL)
    return;
  text = take_text (asked);
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
