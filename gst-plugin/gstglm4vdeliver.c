/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result of a finished job goes to its receivers: text pad, meta queue,
 * bus, signal. On the worker thread, or on the streaming thread for jobs that
 * EOS abandons. Each lock is taken alone; nothing is posted while one is held.
 *
 * A result is counted between the pads and the bus: who sees it counted finds
 * its text and its metadata, who sees its message or signal finds it counted.
 */
#include "gstglm4vdescribe.h"

#include "gstglm4vcaption.h"
#include "gstglm4vcontract.h"
#include "gstglm4verror.h"
#include "gstglm4vreading.h"
#include "gstglm4vverdict.h"

/* Where a result goes, and how. */
typedef struct
{
  gboolean post, meta, queue, json_sync, suppress_duplicates;
  GstClockTime text_duration;
  GstGlm4vReading reading;
  GstGlm4vOnError on_error;
  GstGlm4vHistorySettings history;
} Receivers;

/* What machines read is not broken: answers of a given shape, and JSON and
 * boxes that a prompt asked for. */
static GPtrArray *
divide (const GstGlm4vJob * job, const Receivers * to, const gchar * text)
{
  const GstGlm4vReading whole = { 0 };
  gboolean prose = job->question.shape->output == GST_GLM4V_OUTPUT_TEXT
      && *text != '{' && *text != '[';

  return gst_glm4v_reading_divide (prose ? &to->reading : &whole, text);
}

static void
push_cues (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    const Receivers * to, const gchar * text)
{
  GstClockTime shown = to->text_duration > 0 ? to->text_duration :
      job->until_next;
  /* Answers about one frame follow each other in the time that it has. */
  GstClockTime share = MAX (shown / MAX (job->n_parts, 1), 1);
  GPtrArray *cues = divide (job, to, text);
  GstGlm4vText *stream = self->streams[GST_GLM4V_STREAM_TEXT];

  if (job->unbound && to->text_duration == 0)
    share = MAX (share, gst_glm4v_reading_time (&to->reading, cues));
  gst_glm4v_reading_share (cues, share);
  gst_glm4v_text_push (stream, &(GstGlm4vCaption) {
      .cues = cues,
      .result = to->meta ? job->result : NULL,
      .pts = GST_CLOCK_TIME_IS_VALID (job->time) && !job->paced ?
          job->time + job->part * share : job->time,
      .duration = share,
      .stream_end = job->stream_end,
      .part = job->part,
      .epoch = job->epoch,
      .segment_number = job->segment_number,
      .exact = job->exact,
      .in_turn = job->paced});
  g_ptr_array_unref (cues);
}

/* FALSE if there is nothing to show. */
static gboolean
push_text (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    const Receivers * to)
{
  GstGlm4vText *stream = self->streams[GST_GLM4V_STREAM_TEXT];
  gboolean shown;
  gchar *text;

  if (gst_glm4v_job_status (job) != GST_GLM4V_STATUS_OK
      || !gst_glm4v_text_is_wanted (stream))
    return FALSE;
  text = gst_glm4v_caption_cue (gst_structure_get_string (job->result,
          "text"));
  shown = *text && !(gst_glm4v_text_is_repeated (stream, job->part, text)
      && to->suppress_duplicates);
  if (shown)
    push_cues (self, job, to, text);
  g_free (text);
  return shown;
}

/* One object for each result, whatever its status. It takes no time, so that
 * the next one can follow. */
static void
push_json (GstGlm4vDescribe * self, const GstGlm4vJob * job, gboolean sync)
{
  GstGlm4vText *stream = self->streams[GST_GLM4V_STREAM_JSON];
  GstGlm4vReadingCue object = {.duration = 1 };
  gpointer objects[] = { &object };

  if (!gst_glm4v_text_is_wanted (stream))
    return;
  object.text = glm4v_contract_result_write (&job->record.result);
  gst_glm4v_text_push (stream, &(GstGlm4vCaption) {
      .cues = &(GPtrArray) {objects, 1},
      .settings = job->settings,
      .pts = job->time,
      .duration = 1,
      .stream_end = GST_CLOCK_TIME_NONE,
      .epoch = job->epoch,
      .segment_number = job->segment_number,
      .exact = job->exact,
      .untimed = !sync});
  g_free (object.text);
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

/* With the lock: the last answer to this question of a frame, or NULL. */
static GstGlm4vJob *
answer_of (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  return job->part < self->answers->len ? g_ptr_array_index (self->answers,
      job->part) : NULL;
}

gboolean
gst_glm4v_deliver_holds (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  const GstGlm4vJob *answered;
  gboolean holds;

  if (!job->similar)
    return FALSE;
  g_mutex_lock (&self->lock);
  answered = answer_of (self, job);
  holds = answered && answered->id >= job->like;
  if (holds)
    job->refers_to = answered->id;
  g_mutex_unlock (&self->lock);
  return holds;
}

/* With the lock. Triggers may have asked something else. */
static void
remember_answer (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vStatus status = gst_glm4v_job_status (job);
  GstGlm4vJob *old;

  if (status != GST_GLM4V_STATUS_OK || job->trigger)
    return;
  if (self->answers->len <= job->part)
    g_ptr_array_set_size (self->answers, (gint) job->part + 1);
  old = g_ptr_array_index (self->answers, job->part);
  g_clear_pointer (&old, gst_glm4v_job_unref);
  g_ptr_array_index (self->answers, job->part) = gst_glm4v_job_ref (job);
}

/* ---- judging ---- */

/* What a failing result fails for: its own choice, or that of the answer that
 * holds. */
static const gchar *
defect_of (const GstGlm4vJob * job)
{
  return job->answered ? job->answered->record.result.incident.choice :
      gst_glm4v_verdict_defect (job);
}

/* With the lock: add what the results before this one mean for it. TRUE if an
 * incident begins with it. */
static gboolean
judge (GstGlm4vDescribe * self, GstGlm4vJob * job,
    const GstGlm4vHistorySettings * settings)
{
  GstGlm4vRecord *record = &job->record;
  GstGlm4vJob *answered = NULL;

  if (gst_glm4v_job_status (job) == GST_GLM4V_STATUS_UNCHANGED)
    answered = answer_of (self, job);
  if (answered)
    gst_glm4v_record_repeat (job, answered);
  return record->judged && gst_glm4v_history_add (self->history, settings,
      &(GstGlm4vJudged) {
        .series = job->series ? job->series : "",
        .verdict = record->verdict,
        .defect = defect_of (job),
        .id = job->id,
        .time = GST_CLOCK_TIME_IS_VALID (job->running_time) ?
            job->running_time : (GstClockTime) job->captured * 1000},
      &record->result);
}

/* ---- receivers ---- */

static Receivers
read_settings (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  const GstGlm4vSettings *settings = &self->settings;
  gboolean last = job->end == GST_GLM4V_END_EOS
      || job->end == GST_GLM4V_END_NO_FRAME;
  Receivers to;

  GST_OBJECT_LOCK (self);
  to.post = settings->post_messages;
  to.meta = settings->attach_meta;
  to.queue = !job->exact && ((to.meta && !last) || settings->send_events);
  to.json_sync = settings->json_sync;
  to.suppress_duplicates = settings->suppress_duplicates;
  to.text_duration = settings->text_duration;
  to.reading = settings->reading;
  to.on_error = settings->on_error;
  to.history = settings->history;
  GST_OBJECT_UNLOCK (self);
  return to;
}

/* What the job alone says. */
static void
fill_record (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vModel *model;

  g_mutex_lock (&self->lock);
  model = self->model ? g_atomic_rc_box_acquire (self->model) : NULL;
  g_mutex_unlock (&self->lock);
  gst_glm4v_record_fill (job, model);
  gst_glm4v_contract_settle (self, job);
  g_clear_pointer (&model, g_atomic_rc_box_release);
}

/* Judge it. FALSE if it is of a stream before a flush. */
static gboolean
take_result (GstGlm4vDescribe * self, GstGlm4vJob * job, const Receivers * to,
    gboolean * incident)
{
  gboolean fresh;

  g_mutex_lock (&self->lock);
  fresh = job->epoch == self->epoch;
  if (fresh) {
    *incident = judge (self, job, &to->history);
    remember_answer (self, job);
  }
  g_mutex_unlock (&self->lock);
  if (!fresh)
    return FALSE;
  job->result = gst_glm4v_caption_build (&job->record.result);
  if (G_IS_VALUE (&job->trigger_id))    /* as it was given */
    gst_structure_set_value (job->result, "trigger-id", &job->trigger_id);
  return TRUE;
}

/* For the property last-result. */
static void
keep_result (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  GstStructure *result = gst_structure_copy (job->result), *old;

  g_mutex_lock (&self->lock);
  if (job->epoch == self->epoch) {
    old = self->last_result;
    self->last_result = result;
    result = old;
  }
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&result, gst_structure_free);
}

static void
count_result (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    gboolean incident)
{
  const GstGlm4vRecord *record = &job->record;
  GstClockTime delay = record->stream.delay;

  g_mutex_lock (&self->lock);
  gst_glm4v_stats_count (&self->stats, job, delay);
  if (record->judged)
    self->stats.verdicts[record->verdict]++;
  self->stats.incidents += incident;
  if (gst_glm4v_job_status (job) == GST_GLM4V_STATUS_OK)
    self->delay_max = MAX (self->delay_max, delay);
  g_mutex_unlock (&self->lock);
}

/* A frame will take it. The copy is not made under the lock: video may wait for
 * that. */
static void
queue_result (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  GstGlm4vReady *ready = gst_glm4v_ready_new (job);

  g_mutex_lock (&self->lock);
  if (job->epoch == self->epoch)
    g_queue_push_tail (&self->results, g_steal_pointer (&ready));
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&ready, gst_glm4v_ready_free);
}

static void
post_result (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  gst_glm4v_contract_post (self, job);
  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self),
          gst_structure_copy (job->result)));
}

void
gst_glm4v_deliver (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  Receivers to = read_settings (self, job);
  gboolean incident = FALSE;

  fill_record (self, job);
  if (!take_result (self, job, &to, &incident))
    return;                     /* as the samples of that stream */
  if (to.queue)
    queue_result (self, job);
  if (!push_text (self, job, &to) && job->paced)
    gst_glm4v_text_expect_none (self->streams[GST_GLM4V_STREAM_TEXT]);
  push_json (self, job, to.json_sync);
  keep_result (self, job);
  count_result (self, job, incident);
  if (to.post)
    post_result (self, job);
  g_signal_emit_by_name (self, "result", job->result);
  if (gst_glm4v_job_status (job) == GST_GLM4V_STATUS_ERROR)
    report_failure (self, job, to.on_error);
  gst_glm4v_watch_result (self, job, job->record.stream.delay);
}
