/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs and the describer: convert, ask, wait; on the worker thread. All jobs
 * about a frame are asked before the first answer is waited for.
 *
 * A question is abandoned when its job is canceled, late, or the describer
 * stalls. Then the job ends at once, and the worker continues with jobs that
 * need no answer; a job that needs one waits until the describer has finished
 * the abandoned questions, which may still use the converter's pixels. */
#include "gstglm4vworkerpriv.h"

/* The describer itself ends a late question; it may be within a step. */
#define GRACE (50 * GST_MSECOND)
#define LOOK_AGAIN (250 * GST_MSECOND)

static guint64
now_ns (void)
{
  return (guint64) g_get_monotonic_time () * 1000;
}

/* ---- what is asked ---- */

static GstGlm4vAsked *
new_asked (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vAsked *asked = g_new0 (GstGlm4vAsked, 1);

  asked->worker = self;
  asked->images = g_array_new (FALSE, FALSE, sizeof (glm4v_image));
  asked->blocks = g_ptr_array_new_with_free_func (g_free);
  asked->roi = job->roi ? gst_glm4v_roi_copy (job->roi) : NULL;
  asked->said = g_string_new (NULL);
  g_mutex_lock (&self->lock);
  if (job->state != GST_GLM4V_JOB_CANCELED)
    asked->job = job;
  g_queue_push_tail (&self->asked, asked);
  g_mutex_unlock (&self->lock);
  return asked;
}

/* With the lock: of a job, or with NULL the first that was abandoned; or
 * NULL. */
static GstGlm4vAsked *
find_asked_locked (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  GList *link;

  for (link = self->asked.head; link; link = link->next)
    if (((GstGlm4vAsked *) link->data)->job == job)
      return link->data;
  return NULL;
}

static GstGlm4vAsked *
find_asked (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  GstGlm4vAsked *asked;

  g_mutex_lock (&self->lock);
  asked = find_asked_locked (self, job);
  g_mutex_unlock (&self->lock);
  return asked;
}

/* With the lock: the job gets what is known, unless it was canceled. */
static void
hand_over (GstGlm4vAsked * asked)
{
  GstGlm4vJob *job = g_steal_pointer (&asked->job);
  GstGlm4vRoi *roi;

  if (!job)
    return;
  gst_glm4v_outcome_clear (&job->outcome);
  job->outcome = asked->outcome;
  asked->outcome = (GstGlm4vOutcome) { 0 };
  roi = job->roi;
  job->roi = asked->roi;
  asked->roi = roi;
}

/* The describer does not have it, or has let go of it. */
static void
drop (GstGlm4vAsked * asked)
{
  GstGlm4vWorker *self = asked->worker;

  g_mutex_lock (&self->lock);
  hand_over (asked);
  g_queue_remove (&self->asked, asked);
  g_mutex_unlock (&self->lock);
  if (asked->request)
    self->describer->klass->finish (self->describer, asked->request);
  gst_glm4v_outcome_clear (&asked->outcome);
  g_clear_pointer (&asked->roi, gst_glm4v_roi_free);
  g_string_free (asked->said, TRUE);
  g_array_unref (asked->images);
  g_ptr_array_unref (asked->blocks);
  g_free (asked);
}

void
gst_glm4v_worker_cancel_asked (GstGlm4vWorker * self)
{
  GList *link;

  for (link = self->asked.head; link; link = link->next) {
    GstGlm4vAsked *asked = link->data;

    asked->job = NULL;
    if (asked->request)
      self->describer->klass->cancel (asked->request);
  }
}

void
gst_glm4v_worker_cancel_job (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  const GstGlm4vOutcome *known = &job->outcome;
  GstGlm4vAsked *asked = find_asked_locked (self, job);

  if (job->state != GST_GLM4V_JOB_WAITING || known->answer
      || known->status != 0 || (asked && asked->answered))
    return;
  gst_glm4v_job_end (job, GST_GLM4V_END_CANCELED);
  if (asked && asked->request)
    self->describer->klass->cancel (asked->request);
}

void
gst_glm4v_worker_finish_requests (GstGlm4vWorker * self)
{
  GstGlm4vAsked *asked;

  while ((asked = g_queue_peek_head (&self->asked))) {
    self->describer->klass->wait (asked->request, G_MAXUINT64);
    drop (asked);
  }
}

/* ---- the describer's thread ---- */

/* Keeps what is valid during the call only. */
static void
fill_outcome (GstGlm4vOutcome * outcome, const glm4v_result * result,
    GstGlm4vFault (*fault_of) (gint code, gboolean unloaded))
{
  outcome->answer = glm4v_result_copy (result);
  if (!outcome->answer) {
    gst_glm4v_outcome_fail (outcome, GLM4V_ERR_NOMEM,
        fault_of (GLM4V_ERR_NOMEM, FALSE), "no memory for the answer");
    return;
  }
  outcome->status = result->status;
  outcome->fault = fault_of (result->status, FALSE);
  outcome->finish = result->finish;
  outcome->message = g_strdup (result->message);
}

static void
on_done (void *user, const glm4v_result * result)
{
  GstGlm4vAsked *asked = user;
  GstGlm4vWorker *self = asked->worker;

  g_mutex_lock (&self->lock);
  if (asked->job)
    fill_outcome (&asked->outcome, result, self->describer->klass->fault_of);
  asked->answered = TRUE;
  g_mutex_unlock (&self->lock);
}

/* ---- waiting ---- */

static gboolean
is_canceled (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  gboolean canceled;

  g_mutex_lock (&self->lock);
  canceled = job->state == GST_GLM4V_JOB_CANCELED;
  g_mutex_unlock (&self->lock);
  return canceled;
}

/* Nobody waits for the answer any more. */
static gboolean
is_over (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  gboolean over;

  g_mutex_lock (&self->lock);
  over = job->state == GST_GLM4V_JOB_CANCELED
      || job->end != GST_GLM4V_END_OUTCOME;
  g_mutex_unlock (&self->lock);
  return over;
}

/* Call back about a change, unless the owner has gone. */
static void
tell_stalled (GstGlm4vAsked * asked, gboolean stalled, GstClockTime since)
{
  GstGlm4vWorker *self = asked->worker;
  gchar *server;

  if (stalled == self->stalled || !gst_glm4v_worker_leave (self))
    return;
  self->stalled = stalled;
  server = self->describer->klass->dup_server (asked->request);
  self->callbacks.stalled (self->user, stalled, since, server);
  g_free (server);
  gst_glm4v_worker_enter (self);
}

/* Grows while there is work on any of the questions. */
static guint64
count_steps (GstGlm4vWorker * self)
{
  guint64 steps = 0;
  GList *link;

  for (link = self->asked.head; link; link = link->next)
    steps += self->describer->klass->get_steps (self->describer,
        ((GstGlm4vAsked *) link->data)->request);
  return steps;
}

/* Has the describer done nothing for as long as the job allows? */
static gboolean
is_stalled (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;
  guint64 steps = count_steps (self);
  gint64 now = g_get_monotonic_time ();
  GstClockTime since;

  if (steps != self->steps) {
    self->steps = steps;
    self->progress = now;
  }
  since = (GstClockTime) (now - self->progress) * 1000;
  if (since < job->stall_timeout || job->stall_timeout == 0)
    return FALSE;
  tell_stalled (asked, TRUE, since);
  return TRUE;
}

static guint64
time_to_look (const GstGlm4vJob * job)
{
  guint64 wait = LOOK_AGAIN, now = now_ns ();

  if (job->stall_timeout > 0)
    wait = MIN (wait, job->stall_timeout / 2 + GST_MSECOND);
  if (job->deadline > 0)
    wait = MIN (wait, (job->deadline > now ? job->deadline - now : 0) + GRACE);
  return gst_glm4v_partial_limit_wait (job, wait);
}

/* Wait until the describer has let go of a question, or the job's time is over:
 * OUTCOME or why. */
static GstGlm4vEnd
wait_request (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;

  if (!self->stalled)
    self->progress = g_get_monotonic_time ();
  while (self->describer->klass->wait (asked->request,
          time_to_look (job)) != 0) {
    if (is_over (self, job) || (job->deadline > 0
            && now_ns () >= job->deadline + GRACE))
      return GST_GLM4V_END_LATE;
    if (is_stalled (asked, job))
      return GST_GLM4V_END_STALLED;
    gst_glm4v_partial_tell (asked, job);
  }
  tell_stalled (asked, FALSE, 0);
  return GST_GLM4V_END_OUTCOME;
}

/* With the lock: a job that was not canceled ends while asked is with the
 * describer. */
static void
end_job (GstGlm4vAsked * asked, GstGlm4vJob * job, GstGlm4vEnd end)
{
  gchar *server = NULL;

  if (job->end != GST_GLM4V_END_OUTCOME)
    return;
  job->end = end;
  if (end == GST_GLM4V_END_STALLED)
    server = asked->worker->describer->klass->dup_server (asked->request);
  if (server)
    job->end_detail = g_strdup_printf ("%s has sent nothing for stall-timeout",
        server);
  g_free (server);
}

/* With what came too late nothing happens. */
static void
give_up (GstGlm4vAsked * asked, GstGlm4vEnd end)
{
  GstGlm4vWorker *self = asked->worker;

  g_mutex_lock (&self->lock);
  if (asked->job && !asked->answered) {
    end_job (asked, asked->job, end);
    self->describer->klass->cancel (asked->request);
  }
  hand_over (asked);
  g_mutex_unlock (&self->lock);
}

/* ---- asking ---- */

static glm4v_task
make_task (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  const GstGlm4vQuestion *question = &job->question;
  const glm4v_image *images = (const glm4v_image *) asked->images->data;
  gboolean clip = job->clip_frames > 0;
  glm4v_task task = {
    .struct_size = sizeof (glm4v_task),
    .system = question->system,
    .prompt = question->prompt,
    .images = clip ? NULL : images,
    .n_images = clip ? 0 : 1,
    .frames = clip ? images : NULL,
    .n_frames = clip ? asked->images->len : 0,
    .max_tokens = question->max_tokens,
    .thinking = question->thinking,
    .speculation = question->speculation,
    .temperature = (gfloat) question->temperature,
    .top_k = question->top_k,
    .top_p = (gfloat) question->top_p,
    .seed = question->seed,
    .stream = asked->worker->describer->stream,
    .deadline = job->deadline,
    .pictures_id = job->pictures_id,
    .on_text = job->partial ? gst_glm4v_partial_on_text : NULL,
    .on_done = on_done,
    .user = asked,
  };

  gst_glm4v_shape_fill (question->shape, &task);
  return task;
}

/* Let the describer begin. FALSE if it did not; then the outcome has the
 * reason. */
static gboolean
submit (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vDescriber *describer = asked->worker->describer;
  glm4v_task task = make_task (asked, job);
  glm4v_error error = { 0 };
  gboolean unloaded = FALSE;
  GstGlm4vRequest *request = describer->klass->ask (describer, &task,
      &unloaded, &error);

  if (!request) {
    gst_glm4v_outcome_fail (&asked->outcome, error.code,
        describer->klass->fault_of (error.code, unloaded), error.msg);
    return FALSE;
  }
  g_mutex_lock (&asked->worker->lock);
  asked->request = request;
  if (!asked->job || job->end != GST_GLM4V_END_OUTCOME) /* canceled meanwhile */
    describer->klass->cancel (request);
  g_mutex_unlock (&asked->worker->lock);
  return TRUE;
}

/* Abandoned questions before this one may still be in progress. FALSE if there
 * is no time to wait for them. */
static gboolean
wait_turn (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vEnd end = GST_GLM4V_END_OUTCOME;
  GstGlm4vAsked *asked;

  while (end == GST_GLM4V_END_OUTCOME && (asked = find_asked (self, NULL))) {
    end = wait_request (asked, job);
    if (end == GST_GLM4V_END_OUTCOME) {
      drop (asked);
      continue;
    }
    g_mutex_lock (&self->lock);
    if (job->state != GST_GLM4V_JOB_CANCELED)
      end_job (asked, job, end);
    g_mutex_unlock (&self->lock);
  }
  return end == GST_GLM4V_END_OUTCOME;
}

static void
begin (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vAsked *asked;

  if (!wait_turn (self, job) || is_over (self, job))
    return;
  asked = new_asked (self, job);
  if (!gst_glm4v_asked_convert (asked, job) || !submit (asked, job))
    drop (asked);
}

/* FALSE if the job has an end now. */
static gboolean
prepare (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vEnd end = self->callbacks.prepare (self->user, job);

  g_mutex_lock (&self->lock);
  gst_glm4v_job_end (job, end);
  end = job->end;
  self->preparing = FALSE;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  return end == GST_GLM4V_END_OUTCOME;
}

gboolean
gst_glm4v_worker_ask (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  gboolean wanted;

  g_mutex_lock (&self->lock);
  if (job->deadline > 0 && now_ns () >= job->deadline)
    gst_glm4v_job_end (job, GST_GLM4V_END_LATE);
  wanted = job->end == GST_GLM4V_END_OUTCOME
      && job->state != GST_GLM4V_JOB_CANCELED;
  self->preparing = wanted;
  /* What cancel interrupted is over. */
  if (wanted && !self->flushing && !self->stop)
    self->describer->klass->interrupt (self->describer,
        GST_GLM4V_INTERRUPT_NONE);
  g_mutex_unlock (&self->lock);
  if (!wanted || !prepare (self, job))
    return TRUE;
  gst_glm4v_worker_enter (self);
  begin (self, job);
  return gst_glm4v_worker_leave (self);
}

/* ---- answers ---- */

static void
finish (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vEnd end;

  gst_glm4v_asked_digest (asked, job);
  end = wait_request (asked, job);
  if (end != GST_GLM4V_END_OUTCOME) {
    give_up (asked, end);
    return;
  }
  asked->outcome.model =
      asked->worker->describer->klass->dup_model (asked->request);
  drop (asked);
}

gboolean
gst_glm4v_worker_answer (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vAsked *asked = find_asked (self, job);

  gst_glm4v_worker_enter (self);
  if (asked)
    finish (asked, job);
  else if (is_canceled (self, job))
    wait_turn (self, job);      /* the request ends soon */
  return gst_glm4v_worker_leave (self);
}
