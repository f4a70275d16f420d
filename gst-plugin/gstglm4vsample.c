/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Due frames on their way to the worker: streaming thread. */
#include "gstglm4vstream.h"

#include "gstglm4verror.h"
#include "gstglm4vframe.h"

#define DEFAULT_PENDING_TRIGGERS 16
#define DEFAULT_PENDING_SAMPLES 1

gboolean
gst_glm4v_sample_is_usable (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  const GstBufferFlags unusable = GST_BUFFER_FLAG_GAP
      | GST_BUFFER_FLAG_CORRUPTED;
  gboolean trick = self->segment.rate < 0
      || (self->segment.flags & GST_SEGMENT_FLAG_TRICKMODE);

  return self->have_info && !trick && !(GST_BUFFER_FLAGS (buffer) & unusable);
}

static GstGlm4vSight
sight_of (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass)
{
  return (GstGlm4vSight) {buffer, &self->info, pass->gray_bits};
}

static gboolean
is_cut (GstGlm4vDescribe * self, GstBuffer * buffer, const GstGlm4vPass * pass)
{
  GstGlm4vSight sight = sight_of (self, buffer, pass);

  return pass->sampling.mode == GST_GLM4V_SAMPLE_SCENE_CHANGE
      && gst_glm4v_look_is_cut (&self->look, &sight, pass->scene_threshold);
}

gboolean
gst_glm4v_sample_is_due (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstClockTime * until_next)
{
  gboolean usable = gst_glm4v_sample_is_usable (self, buffer);

  gst_glm4v_look_next (&self->look);
  return gst_glm4v_sampler_take (&self->sampler, &pass->sampling,
      &(GstGlm4vTick) {
        .pts = GST_BUFFER_PTS (buffer),
        .duration = GST_BUFFER_DURATION (buffer),
        .period = gst_glm4v_stream_frame_period (self),
        .arrival = (GstClockTime) g_get_monotonic_time () * 1000,
        .start = self->segment.format == GST_FORMAT_TIME ?
            self->segment.start : 0,
        .usable = usable,
        .cut = usable && is_cut (self, buffer, pass)}, until_next);
}

void
gst_glm4v_sample_take_triggers (GstGlm4vDescribe * self, GstBuffer * buffer,
    GQueue * triggers)
{
  GQueue on_buffer = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  gst_glm4v_trigger_take_metas (buffer, &on_buffer);
  g_mutex_lock (&self->lock);
  while ((trigger = g_queue_pop_head (&on_buffer)))
    g_queue_push_tail (&self->triggers, trigger);
  if (gst_glm4v_sample_is_usable (self, buffer))
    while ((trigger = g_queue_pop_head (&self->triggers)))
      g_queue_push_tail (triggers, trigger);
  g_mutex_unlock (&self->lock);
}

/* Report a frame that does not match its caps: once for each caps. */
static void
report_bad_frame (GstGlm4vDescribe * self, GstBuffer * buffer,
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

/* ---- jobs ---- */

/* How old a frame of a live source is by the pipeline's clock; 0 where that is
 * unknown. */
static GstClockTime
age_of (GstGlm4vDescribe * self, GstClockTime running_time)
{
  GstClock *clock;
  GstClockTime now = 0;
  gboolean live;

  g_mutex_lock (&self->lock);
  live = self->live;
  g_mutex_unlock (&self->lock);
  if (!live || !GST_CLOCK_TIME_IS_VALID (running_time)
      || GST_STATE (self) != GST_STATE_PLAYING)
    return 0;
  clock = gst_element_get_clock (GST_ELEMENT (self));
  if (clock)
    now = gst_clock_get_time (clock);
  gst_clear_object (&clock);
  running_time += gst_element_get_base_time (GST_ELEMENT (self));
  return now > running_time ? now - running_time : 0;
}

/* When an answer is worth nothing any more: monotonic ns, 0 = never. */
static guint64
deadline_of (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime deadline)
{
  GstClockTime age;

  if (deadline == 0)
    return 0;
  age = age_of (self, job->running_time);
  return (guint64) job->captured * 1000 + deadline - MIN (age, deadline);
}

static void
place_job (GstGlm4vDescribe * self, GstGlm4vJob * job, GstClockTime pts)
{
  gboolean timed = self->segment.format == GST_FORMAT_TIME;

  job->frame_number = self->frame_number;
  job->segment_number = self->segment_number;
  job->pts = pts;
  job->time = gst_glm4v_sampler_time (&self->sampler);
  job->running_time = timed ? gst_segment_to_running_time (&self->segment,
      GST_FORMAT_TIME, pts) : GST_CLOCK_TIME_NONE;
  job->stream_time = timed ? gst_segment_to_stream_time (&self->segment,
      GST_FORMAT_TIME, pts) : GST_CLOCK_TIME_NONE;
}

static void
take_trigger (GstGlm4vJob * job, const GstGlm4vTrigger * trigger)
{
  job->trigger = TRUE;
  if (G_IS_VALUE (&trigger->id)) {
    g_value_init (&job->trigger_id, G_VALUE_TYPE (&trigger->id));
    g_value_copy (&trigger->id, &job->trigger_id);
  }
  if (trigger->prompt) {
    g_free (job->question.prompt);
    job->question.prompt = g_strdup (trigger->prompt);
  }
}

static GstGlm4vJob *
new_job (GstGlm4vDescribe * self, const GstGlm4vDue * due)
{
  GstGlm4vJob *job = gst_glm4v_job_new ();
  GstClockTime deadline;

  place_job (self, job, due->buffer ? GST_BUFFER_PTS (due->buffer) :
      GST_CLOCK_TIME_NONE);
  job->info = self->info;
  job->until_next = due->until_next;
  job->captured = g_get_monotonic_time ();
  job->exact = due->exact;
  GST_OBJECT_LOCK (self);
  gst_glm4v_question_copy (&job->question, &self->settings.question);
  job->gray_bits = self->settings.gray_bits;
  job->stall_timeout = self->settings.stall_timeout;
  deadline = self->settings.deadline;
  GST_OBJECT_UNLOCK (self);
  if (due->trigger)
    take_trigger (job, due->trigger);
  job->deadline = deadline_of (self, job, deadline);
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

static guint
max_pending (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  guint n;

  GST_OBJECT_LOCK (self);
  n = self->settings.max_pending;
  GST_OBJECT_UNLOCK (self);
  if (n > 0)
    return n;
  return job->trigger ? DEFAULT_PENDING_TRIGGERS : DEFAULT_PENDING_SAMPLES;
}

/* The worker delivers in order; while it loads nothing waits there that is not
 * waited for here, so that results need not be kept until it is done. FALSE if
 * the job was not taken: a flush. */
static gboolean
send_job (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker;
  gboolean taken = FALSE;

  if (load_state (self) == GST_GLM4V_LOADING) {
    if (!job->exact && job->end == GST_GLM4V_END_OUTCOME)
      job->end = GST_GLM4V_END_LOADING;
    self->missed_loading |= job->end == GST_GLM4V_END_LOADING;
    if (job->end != GST_GLM4V_END_OUTCOME) {
      gst_glm4v_deliver (self, job);
      job->state = GST_GLM4V_JOB_FINISHED;
      return TRUE;
    }
  }
  worker = gst_glm4v_describe_ref_worker (self);
  if (worker)
    taken = gst_glm4v_worker_push (worker, job, max_pending (self, job));
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return taken;
}

/* A sample that looks as the one described last may do without an answer. */
static void
compare (GstGlm4vDescribe * self, const GstGlm4vDue * due,
    const GstGlm4vPass * pass, GstGlm4vJob * job)
{
  GstGlm4vSight sight = sight_of (self, due->buffer, pass);

  if (job->trigger)
    return;
  job->similar = pass->change_threshold > 0
      && gst_glm4v_look_is_similar (&self->look, &sight,
      pass->change_threshold, pass->serial, &job->like);
  if (!job->similar)
    gst_glm4v_look_described (&self->look, job->id, pass->serial);
}

void
gst_glm4v_sample_submit (GstGlm4vDescribe * self, const GstGlm4vDue * due,
    const GstGlm4vPass * pass, GQueue * waiting)
{
  GstGlm4vJob *job = new_job (self, due);

  if (gst_glm4v_frame_check (due->buffer, &self->info, &job->end_detail)) {
    compare (self, due, pass, job);
    job->buffer = gst_glm4v_frame_hold (due->buffer);
  } else {
    job->end = GST_GLM4V_END_BAD_FRAME;
    report_bad_frame (self, due->buffer, pass, job->end_detail);
  }
  if (send_job (self, job) && due->exact)
    g_queue_push_tail (waiting, job);
  else
    gst_glm4v_job_unref (job);
}

void
gst_glm4v_sample_end_triggers (GstGlm4vDescribe * self)
{
  GQueue triggers = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  g_mutex_lock (&self->lock);
  while ((trigger = g_queue_pop_head (&self->triggers)))
    g_queue_push_tail (&triggers, trigger);
  g_mutex_unlock (&self->lock);
  while ((trigger = g_queue_pop_head (&triggers))) {
    GstGlm4vJob *job = new_job (self, &(GstGlm4vDue) {.trigger = trigger});

    job->end = GST_GLM4V_END_NO_FRAME;
    send_job (self, job);
    gst_glm4v_job_unref (job);
    gst_glm4v_trigger_free (trigger);
  }
}

gboolean
gst_glm4v_sample_wait (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  gboolean finished = worker && gst_glm4v_worker_wait (worker, job);

  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return finished;
}

void
gst_glm4v_sample_notice_load (GstGlm4vDescribe * self)
{
  if (!self->missed_loading || load_state (self) != GST_GLM4V_LOADED)
    return;
  self->missed_loading = FALSE;
  gst_glm4v_sampler_restart (&self->sampler);
}
