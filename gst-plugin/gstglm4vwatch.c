/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vdescribe.h"

#include "gstglm4verror.h"

#define QOS_INTERVAL G_TIME_SPAN_SECOND
#define LATE_IN_A_ROW 3

/* Post a LATENCY message if frames wait longer than reported. */
static void
tell_latency (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime delay)
{
  gboolean grown;

  GST_OBJECT_LOCK (self);
  grown = self->settings.latency == 0;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  grown = grown && job->exact && self->live && delay > self->told_latency;
  g_mutex_unlock (&self->lock);
  if (grown)
    gst_element_post_message (GST_ELEMENT (self),
        gst_message_new_latency (GST_OBJECT (self)));
}

/* What answers were said to take at most: in a stream that nothing waits for,
 * the shift of its captions, else what its frames may wait; 0 = nothing. */
static GstClockTime
declared_delay (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  GstClockTime declared;

  GST_OBJECT_LOCK (self);
  declared = job->exact ? self->settings.latency : self->settings.lateness;
  GST_OBJECT_UNLOCK (self);
  return declared;
}

/* A warning when the declared delay is exceeded, and each time that the excess
 * has doubled. */
static void
warn_delay (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime delay)
{
  GstClockTime declared = declared_delay (self, job);
  gboolean tell;
  gchar *text;

  if (declared == 0 || delay <= declared)
    return;
  g_mutex_lock (&self->lock);
  tell = self->watch.told_delay == 0
      || delay - declared >= 2 * (self->watch.told_delay - declared);
  if (tell)
    self->watch.told_delay = delay;
  g_mutex_unlock (&self->lock);
  if (!tell)
    return;
  text = g_strdup_printf ("%" GST_TIME_FORMAT " after the frame, declared %"
      GST_TIME_FORMAT, GST_TIME_ARGS (delay), GST_TIME_ARGS (declared));
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_DELAY, job->exact ? "latency" : "lateness", text);
  g_free (text);
}

static void
tell_late (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstGlm4vStatus status)
{
  guint late;

  g_mutex_lock (&self->lock);
  if (status == GST_GLM4V_STATUS_TIMEOUT)
    self->watch.late_in_a_row++;
  else if (status <= GST_GLM4V_STATUS_UNCHANGED)
    self->watch.late_in_a_row = 0;
  late = self->watch.late_in_a_row;
  g_mutex_unlock (&self->lock);
  if (late != LATE_IN_A_ROW || status != GST_GLM4V_STATUS_TIMEOUT)
    return;
  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self),
          gst_structure_new (GST_GLM4V_LATE_NAME,
              "in-a-row", G_TYPE_UINT, late,
              "id", G_TYPE_UINT64, job->id,
              "running-time", G_TYPE_UINT64, job->running_time, NULL)));
}

/* One message a second at most; it counts those between as well. */
static void
tell_qos (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstGlm4vStatus status, GstClockTime delay)
{
  gint64 now = g_get_monotonic_time ();
  GstMessage *message;
  GstGlm4vWatch watch;
  gboolean live, tell;

  g_mutex_lock (&self->lock);
  self->watch.processed += status != GST_GLM4V_STATUS_DROPPED;
  self->watch.dropped += status == GST_GLM4V_STATUS_DROPPED;
  tell = status == GST_GLM4V_STATUS_DROPPED && (self->watch.last_qos == 0
      || now - self->watch.last_qos >= QOS_INTERVAL);
  if (tell)
    self->watch.last_qos = now;
  watch = self->watch;
  live = self->live;
  g_mutex_unlock (&self->lock);
  if (!tell)
    return;
  message = gst_message_new_qos (GST_OBJECT (self), live, job->running_time,
      job->stream_time, job->pts, GST_CLOCK_TIME_NONE);
  gst_message_set_qos_values (message, (gint64) delay, 1.0, 1000000);
  gst_message_set_qos_stats (message, GST_FORMAT_BUFFERS, watch.processed,
      watch.dropped);
  gst_element_post_message (GST_ELEMENT (self), message);
}

void
gst_glm4v_watch_result (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime delay)
{
  GstGlm4vStatus status = gst_glm4v_job_status (job);

  tell_qos (self, job, status, delay);
  tell_late (self, job, status);
  if (status != GST_GLM4V_STATUS_OK)
    return;
  tell_latency (self, job, delay);
  warn_delay (self, job, delay);
}

void
gst_glm4v_watch_stalled (GstGlm4vDescribe * self, gboolean stalled,
    GstClockTime since, const gchar * server)
{
  GstStructure *structure = gst_structure_new (GST_GLM4V_STALLED_NAME,
      "stalled", G_TYPE_BOOLEAN, stalled,
      "since", G_TYPE_UINT64, since, NULL);

  if (server)
    gst_structure_set (structure, "endpoint", G_TYPE_STRING, server, NULL);
  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self), structure));
}
