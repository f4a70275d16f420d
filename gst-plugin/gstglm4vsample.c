/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Due frames on their way to the worker: streaming thread. */
#include "gstglm4vstream.h"

#include "gstglm4verror.h"
#include "gstglm4vframe.h"

gboolean
gst_glm4v_sample_is_due (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstClockTime * until_next)
{
  const GstBufferFlags unusable = GST_BUFFER_FLAG_GAP
      | GST_BUFFER_FLAG_CORRUPTED;
  gboolean trick = self->segment.rate < 0
      || (self->segment.flags & GST_SEGMENT_FLAG_TRICKMODE);

  return gst_glm4v_sampler_take (&self->sampler, &pass->sampling,
      &(GstGlm4vTick) {
        .pts = GST_BUFFER_PTS (buffer),
        .duration = GST_BUFFER_DURATION (buffer),
        .period = gst_glm4v_stream_frame_period (self),
        .arrival = (GstClockTime) g_get_monotonic_time () * 1000,
        .start = self->segment.format == GST_FORMAT_TIME ?
            self->segment.start : 0,
        .usable = self->have_info && !trick
            && !(GST_BUFFER_FLAGS (buffer) & unusable)}, until_next);
}

/* Report a frame that is not what its caps say: once for each caps. */
void
gst_glm4v_sample_bad_frame (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, const gchar * why)
{
  gboolean fail = pass->on_error == GST_GLM4V_ON_ERROR_FAIL;
  gboolean first = !self->warned_frame;
  gchar *where;

  self->warned_frame = TRUE;
  g_mutex_lock (&self->lock);
  self->stats.bad_frames++;
  self->failed |= fail;
  g_mutex_unlock (&self->lock);
  if (!first)
    return;
  where = g_strdup_printf ("frame %" G_GUINT64_FORMAT " (%" GST_TIME_FORMAT
      ")", self->frame_number, GST_TIME_ARGS (GST_BUFFER_PTS (buffer)));
  gst_glm4v_fault_post (GST_ELEMENT (self),
      fail ? GST_MESSAGE_ERROR : GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_FRAME_SIZE, where, why);
  g_free (where);
}

static GstGlm4vJob *
new_job (GstGlm4vDescribe * self, GstBuffer * buffer, gboolean exact,
    GstClockTime until_next)
{
  GstGlm4vJob *job = gst_glm4v_job_new ();

  job->buffer = gst_glm4v_frame_hold (buffer);
  job->info = self->info;
  job->frame_number = self->frame_number;
  job->segment_number = self->segment_number;
  job->pts = GST_BUFFER_PTS (buffer);
  job->time = gst_glm4v_sampler_time (&self->sampler);
  job->running_time = self->segment.format == GST_FORMAT_TIME ?
      gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME,
      job->pts) : GST_CLOCK_TIME_NONE;
  job->until_next = until_next;
  job->captured = g_get_monotonic_time ();
  job->exact = exact;
  GST_OBJECT_LOCK (self);
  gst_glm4v_question_copy (&job->question, &self->settings.question);
  job->gray_bits = self->settings.gray_bits;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  job->epoch = self->epoch;
  job->id = self->next_id++;
  self->stats.sampled++;
  g_mutex_unlock (&self->lock);
  return job;
}

static GstGlm4vLoadState
load_state (GstGlm4vDescribe * self)
{
  GstGlm4vLoadState state;

  g_mutex_lock (&self->lock);
  state = self->load_state;
  g_mutex_unlock (&self->lock);
  return state;
}

/* Hand a frame to the worker. Returns the job only if the frame waits. */
GstGlm4vJob *
gst_glm4v_sample_submit (GstGlm4vDescribe * self, GstBuffer * buffer,
    gboolean exact, GstClockTime until_next)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstGlm4vJob *job = new_job (self, buffer, exact, until_next);
  gboolean replaced = FALSE, accepted = FALSE;

  if (!exact && load_state (self) != GST_GLM4V_LOADED) {
    self->missed_loading = TRUE;
    gst_glm4v_stream_count (self, &self->stats.dropped_loading);
  } else if (worker) {
    accepted = gst_glm4v_worker_push (worker, job, &replaced);
  }
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  if (replaced)
    gst_glm4v_stream_count (self, &self->stats.dropped_busy);
  if (accepted && exact)
    return job;
  gst_glm4v_job_unref (job);
  return NULL;
}

/* Wait for the answer; NULL if the job was canceled instead. */
GstGlm4vJob *
gst_glm4v_sample_wait (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  if (!worker || !gst_glm4v_worker_wait (worker, job))
    g_clear_pointer (&job, gst_glm4v_job_unref);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return job;
}

/* The first frame after a late model is due, whatever the grid. */
void
gst_glm4v_sample_notice_load (GstGlm4vDescribe * self)
{
  if (!self->missed_loading || load_state (self) != GST_GLM4V_LOADED)
    return;
  self->missed_loading = FALSE;
  gst_glm4v_sampler_restart (&self->sampler);
}
