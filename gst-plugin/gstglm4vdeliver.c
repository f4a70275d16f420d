/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result of a finished job goes to its receivers: text pad, meta queue,
 * bus. On the worker thread, or on the streaming thread for jobs that EOS
 * abandons. Each lock is taken alone; nothing is posted while one is held. */
#include "gstglm4vdescribe.h"

#include "gstglm4vcaption.h"
#include "gstglm4verror.h"

/* With the lock. */
static void
count_end (GstGlm4vStats * stats, const GstGlm4vJob * job)
{
  switch (job->end) {
    case GST_GLM4V_END_REPLACED:
    case GST_GLM4V_END_FULL:
      stats->dropped_busy++;
      break;
    case GST_GLM4V_END_LOADING:
      stats->dropped_loading++;
      break;
    case GST_GLM4V_END_EOS:
    case GST_GLM4V_END_NO_FRAME:
      stats->dropped_eos++;
      break;
    default:
      break;
  }
  switch (gst_glm4v_job_status (job)) {
    case GST_GLM4V_STATUS_UNCHANGED:
      stats->unchanged++;
      break;
    case GST_GLM4V_STATUS_TIMEOUT:
      stats->timeouts++;
      break;
    case GST_GLM4V_STATUS_ERROR:
      stats->errors++;
      break;
    default:
      break;
  }
}

/* With the lock. */
static void
count_result (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime delay)
{
  const GstGlm4vOutcome *outcome = &job->outcome;
  GstGlm4vStats *stats = &self->stats;

  stats->results++;
  count_end (stats, job);
  if (gst_glm4v_job_status (job) != GST_GLM4V_STATUS_OK)
    return;
  stats->inferred++;
  stats->tokens_in += outcome->prompt_tokens;
  stats->tokens_out += outcome->output_tokens;
  stats->delay_last = delay;
  stats->delay_max = MAX (stats->delay_max, delay);
  stats->delay_sum += delay;
  stats->vision = outcome->timings.vision;
  stats->prefill = outcome->timings.prefill;
  stats->first_token = outcome->timings.first_token;
  stats->decode = outcome->timings.decode;
}

static void
push_text (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime text_duration, gboolean with_meta)
{
  gchar *cue = gst_glm4v_caption_cue (gst_structure_get_string (job->result,
          "text"));
  GstClockTime shown = text_duration > 0 ? text_duration : job->until_next;
  /* Answers about one frame follow each other in the time that it has. */
  GstClockTime share = MAX (shown / MAX (job->n_parts, 1), 1);

  if (*cue)
    gst_glm4v_text_push (self->text, &(GstGlm4vCue) {
        .text = cue,
        .result = with_meta ? job->result : NULL,
        .pts = GST_CLOCK_TIME_IS_VALID (job->time) ?
            job->time + job->part * share : job->time,
        .duration = share,
        .epoch = job->epoch,
        .segment_number = job->segment_number,
        .exact = job->exact});
  g_free (cue);
}

/* Count a frame whose memory cannot be read. TRUE if it is to be reported: once
 * for each caps, since all frames of such a source are alike. */
static gboolean
note_unreadable (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  gchar *old, *why = g_strdup (job->outcome.message);
  gboolean first;

  g_mutex_lock (&self->lock);
  self->stats.unreadable_frames++;
  old = self->unreadable;
  self->unreadable = why;
  first = !self->told_unreadable;
  self->told_unreadable = TRUE;
  g_mutex_unlock (&self->lock);
  g_free (old);
  return first;
}

/* The fault of a job whose status is error, or N_FAULTS if it was reported. */
static GstGlm4vFault
fault_of (const GstGlm4vJob * job)
{
  switch (job->end) {
    case GST_GLM4V_END_OUTCOME:
      return job->outcome.fault;
    case GST_GLM4V_END_STALLED:
      return GST_GLM4V_FAULT_STALLED;
    default:
      return GST_GLM4V_N_FAULTS;
  }
}

static void
report_failure (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstGlm4vOnError on_error)
{
  gboolean fail = on_error == GST_GLM4V_ON_ERROR_FAIL;
  GstGlm4vFault fault = fault_of (job);
  const gchar *message = gst_glm4v_job_message (job);
  gchar *where;

  if (fault == GST_GLM4V_N_FAULTS)
    return;
  if (fault == GST_GLM4V_FAULT_FRAME_MAP && !note_unreadable (self, job)
      && !fail)
    return;
  where = g_strdup_printf ("frame %" G_GUINT64_FORMAT " (%" GST_TIME_FORMAT
      ")", job->frame_number, GST_TIME_ARGS (job->pts));
  g_mutex_lock (&self->lock);
  self->failed |= fail;
  g_mutex_unlock (&self->lock);
  gst_glm4v_fault_post (GST_ELEMENT (self),
      fail ? GST_MESSAGE_ERROR : GST_MESSAGE_WARNING, fault, where,
      message ? message : "no reason given");
  g_free (where);
}

/* ---- answers that hold ---- */

/* What judges an answer holds as long as it does. */
static const gchar *const verdict_keys[] = { "choice", "probability",
  "verdict"
};

/* With the lock: the last answer to this question of a frame, or NULL. */
static const GstStructure *
answer_of (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  return job->part < self->answers->len ? g_ptr_array_index (self->answers,
      job->part) : NULL;
}

gboolean
gst_glm4v_deliver_holds (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  const GstStructure *answer;
  gboolean holds;

  if (!job->similar)
    return FALSE;
  g_mutex_lock (&self->lock);
  answer = answer_of (self, job);
  holds = answer && gst_structure_get_uint64 (answer, "id", &job->refers_to)
      && job->refers_to >= job->like;
  g_mutex_unlock (&self->lock);
  return holds;
}

/* With the lock. */
static void
repeat_verdict (GstStructure * result, const GstStructure * answer)
{
  guint i;

  for (i = 0; answer && i < G_N_ELEMENTS (verdict_keys); i++)
    if (gst_structure_has_field (answer, verdict_keys[i]))
      gst_structure_set_value (result, verdict_keys[i],
          gst_structure_get_value (answer, verdict_keys[i]));
}

/* With the lock. Triggers may have asked something else. */
static void
remember_answer (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  GstGlm4vStatus status = gst_glm4v_job_status (job);

  GstStructure *old;

  if (status != GST_GLM4V_STATUS_OK || job->trigger)
    return;
  if (self->answers->len <= job->part)
    g_ptr_array_set_size (self->answers, (gint) job->part + 1);
  old = g_ptr_array_index (self->answers, job->part);
  g_clear_pointer (&old, gst_structure_free);
  g_ptr_array_index (self->answers, job->part) =
      gst_structure_copy (job->result);
}

void
gst_glm4v_deliver (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vStatus status = gst_glm4v_job_status (job);
  GstClockTime text_duration, delay = 0;
  GstGlm4vOnError on_error;
  gboolean post, meta, attach;
  GstStructure *model, *copy = NULL;

  GST_OBJECT_LOCK (self);
  post = self->settings.post_messages;
  meta = self->settings.attach_meta;
  attach = meta && !job->exact && job->end != GST_GLM4V_END_EOS
      && job->end != GST_GLM4V_END_NO_FRAME;
  text_duration = self->settings.text_duration;
  on_error = self->settings.on_error;
  GST_OBJECT_UNLOCK (self);

  g_mutex_lock (&self->lock);
  model = self->model ? gst_structure_copy (self->model) : NULL;
  g_mutex_unlock (&self->lock);
  job->result = gst_glm4v_caption_build (job, model);
  if (status == GST_GLM4V_STATUS_UNCHANGED) {
    g_mutex_lock (&self->lock);
    repeat_verdict (job->result, answer_of (self, job));
    g_mutex_unlock (&self->lock);
  }
  g_clear_pointer (&model, gst_structure_free);
  gst_structure_get_uint64 (job->result, "delay", &delay);
  if (attach)                   /* not under the lock: video may wait for it */
    copy = gst_structure_copy (job->result);

  g_mutex_lock (&self->lock);
  if (job->epoch != self->epoch) {
    g_mutex_unlock (&self->lock);
    g_clear_pointer (&copy, gst_structure_free);
    return;
  }
  count_result (self, job, delay);
  remember_answer (self, job);
  if (copy)
    g_queue_push_tail (&self->results, copy);
  g_mutex_unlock (&self->lock);

  if (status == GST_GLM4V_STATUS_OK)
    push_text (self, job, text_duration, meta);
  if (post)
    gst_element_post_message (GST_ELEMENT (self),
        gst_message_new_element (GST_OBJECT (self),
            gst_structure_copy (job->result)));
  if (status == GST_GLM4V_STATUS_ERROR)
    report_failure (self, job, on_error);
  gst_glm4v_watch_result (self, job, delay);
}

GstStructure *
gst_glm4v_deliver_stats (GstGlm4vDescribe * self)
{
  GstGlm4vStats s;
  GstStructure *stats;
  gchar *unreadable;

  g_mutex_lock (&self->lock);
  s = self->stats;
  unreadable = g_strdup (self->unreadable);
  g_mutex_unlock (&self->lock);
  stats = gst_structure_new ("glm4vdescribe-stats",
      "frames-seen", G_TYPE_UINT64, s.frames_seen,
      "sampled", G_TYPE_UINT64, s.sampled,
      "results", G_TYPE_UINT64, s.results,
      "inferred", G_TYPE_UINT64, s.inferred,
      "dropped-busy", G_TYPE_UINT64, s.dropped_busy,
      "dropped-loading", G_TYPE_UINT64, s.dropped_loading,
      "dropped-eos", G_TYPE_UINT64, s.dropped_eos,
      "bad-frames", G_TYPE_UINT64, s.bad_frames,
      "unreadable-frames", G_TYPE_UINT64, s.unreadable_frames,
      "unreadable-reason", G_TYPE_STRING, unreadable,
      "unchanged", G_TYPE_UINT64, s.unchanged,
      "gated", G_TYPE_UINT64, s.gated,
      "timeouts", G_TYPE_UINT64, s.timeouts,
      "errors", G_TYPE_UINT64, s.errors,
      "delay-last", G_TYPE_UINT64, s.delay_last,
      "delay-mean", G_TYPE_UINT64, s.delay_sum / MAX (s.inferred, 1),
      "delay-max", G_TYPE_UINT64, s.delay_max,
      "vision-time", G_TYPE_UINT64, s.vision,
      "prefill-time", G_TYPE_UINT64, s.prefill,
      "first-token-time", G_TYPE_UINT64, s.first_token,
      "decode-time", G_TYPE_UINT64, s.decode,
      "tokens-in", G_TYPE_UINT64, s.tokens_in,
      "tokens-out", G_TYPE_UINT64, s.tokens_out, NULL);
  g_free (unreadable);
  gst_glm4v_text_count (self->text, stats);
  return stats;
}
