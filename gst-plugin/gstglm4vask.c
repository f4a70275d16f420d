/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One job and the describer: convert, ask, wait; on the worker thread.
 *
 * A question is abandoned when its job is canceled, late, or the describer
 * stalls. Then the job ends at once, and the worker continues with jobs that
 * need no answer; a job that needs one waits until the describer has finished
 * the abandoned question, which may still use the converter's pixels. */
#include "gstglm4vworkerpriv.h"

#include "gstglm4vregion.h"

/* The describer itself ends a late question; it may be within a step. */
#define GRACE (50 * GST_MSECOND)
#define LOOK_AGAIN (250 * GST_MSECOND)

static guint64
now_ns (void)
{
  return (guint64) g_get_monotonic_time () * 1000;
}

/* ---- the describer's thread ---- */

static void
fill_outcome (GstGlm4vJob * job, const glm4v_result * result,
    GstGlm4vFault fault)
{
  GstGlm4vOutcome *outcome = &job->outcome;
  const GstGlm4vRoi *roi = job->roi;

  outcome->status = result->status;
  outcome->fault = fault;
  outcome->finish = result->finish;
  outcome->message = g_strdup (result->message);
  outcome->text = g_strdup (result->text);
  outcome->reasoning = g_strdup (result->reasoning);
  outcome->box = g_strdup (result->box);
  outcome->fields = gst_glm4v_region_fields (result, roi ? roi->x : 0,
      roi ? roi->y : 0);
  outcome->choice = g_strdup (result->choice);
  outcome->json = g_strdup (result->json);
  outcome->probability = result->probability;
  outcome->n_probabilities = result->n_probabilities;
  outcome->probabilities = g_memdup2 (result->probabilities,
      result->n_probabilities * sizeof (gdouble));
  outcome->prompt_tokens = result->prompt_tokens;
  outcome->vision_tokens = result->vision_tokens;
  outcome->output_tokens = result->output_tokens;
  outcome->drafted_tokens = result->drafted_tokens;
  outcome->accepted_tokens = result->accepted_tokens;
  outcome->timings = result->timings;
}

/* Keeps what is valid during the call only. */
static void
on_done (void *user, const glm4v_result * result)
{
  GstGlm4vWorker *self = user;

  g_mutex_lock (&self->lock);
  if (self->asked)
    fill_outcome (self->asked, result,
        self->describer->klass->fault_of (result->status, FALSE));
  self->asked = NULL;
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

/* Call back about a change. FALSE if the owner has gone. */
static gboolean
tell_stalled (GstGlm4vWorker * self, gboolean stalled, GstClockTime since)
{
  if (stalled == self->stalled)
    return TRUE;
  if (!gst_glm4v_worker_leave (self))
    return FALSE;
  self->stalled = stalled;
  self->callbacks.stalled (self->user, stalled, since);
  gst_glm4v_worker_enter (self);
  return TRUE;
}

/* Has the describer done nothing for as long as the job allows? */
static gboolean
is_stalled (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  guint64 steps = self->describer->klass->get_steps (self->describer);
  gint64 now = g_get_monotonic_time ();
  GstClockTime since;

  if (steps != self->steps) {
    self->steps = steps;
    self->progress = now;
  }
  since = (GstClockTime) (now - self->progress) * 1000;
  if (since < job->stall_timeout || job->stall_timeout == 0)
    return FALSE;
  tell_stalled (self, TRUE, since);
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

/* Wait until the describer has let go of the question, or the job's time is
 * over: OUTCOME or why. */
static GstGlm4vEnd
wait_request (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  while (self->describer->klass->wait (self->describer,
          time_to_look (job)) != 0) {
    if (is_canceled (self, job) || (job->deadline > 0
            && now_ns () >= job->deadline + GRACE))
      return GST_GLM4V_END_LATE;
    if (is_stalled (self, job))
      return GST_GLM4V_END_STALLED;
    gst_glm4v_partial_tell (self, job);
  }
  tell_stalled (self, FALSE, 0);
  return GST_GLM4V_END_OUTCOME;
}

/* The describer has let go of the question. */
static void
drop_request (GstGlm4vWorker * self)
{
  g_mutex_lock (&self->lock);
  self->requested = FALSE;
  g_mutex_unlock (&self->lock);
  self->describer->klass->finish (self->describer);
  gst_glm4v_worker_drop_images (self);
}

void
gst_glm4v_worker_finish_request (GstGlm4vWorker * self)
{
  if (!self->requested)
    return;
  self->describer->klass->wait (self->describer, G_MAXUINT64);
  drop_request (self);
}

/* With what came too late nothing happens. */
static void
give_up (GstGlm4vWorker * self, GstGlm4vJob * job, GstGlm4vEnd end)
{
  g_mutex_lock (&self->lock);
  if (self->asked == job) {
    self->asked = NULL;
    if (job->end == GST_GLM4V_END_OUTCOME)
      job->end = end;
    self->describer->klass->cancel (self->describer);
  }
  g_mutex_unlock (&self->lock);
}

/* ---- asking ---- */

static glm4v_task
make_task (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  const GstGlm4vQuestion *question = &job->question;
  const glm4v_image *images = (const glm4v_image *) self->images->data;
  gboolean clip = job->clip_frames > 0;
  glm4v_task task = {
    .struct_size = sizeof (glm4v_task),
    .system = question->system,
    .prompt = question->prompt,
    .images = clip ? NULL : images,
    .n_images = clip ? 0 : 1,
    .frames = clip ? images : NULL,
    .n_frames = clip ? self->images->len : 0,
    .max_tokens = question->max_tokens,
    .thinking = question->thinking,
    .speculation = question->speculation,
    .temperature = (gfloat) question->temperature,
    .top_k = question->top_k,
    .top_p = (gfloat) question->top_p,
    .seed = question->seed,
    .stream = self->describer->stream,
    .deadline = job->deadline,
    .pictures_id = job->pictures_id,
    .on_text = job->partial ? gst_glm4v_partial_on_text : NULL,
    .on_done = on_done,
    .user = self,
  };

  gst_glm4v_shape_fill (question->shape, &task);
  return task;
}

/* Let the describer begin. FALSE if it did not; then the outcome has the
 * reason. */
static gboolean
submit (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vDescriber *describer = self->describer;
  glm4v_task task = make_task (self, job);
  glm4v_error error = { 0 };
  gboolean unloaded = FALSE;
  gint code;

  g_mutex_lock (&self->lock);
  self->asked = job;            /* before on_done() can come */
  g_string_truncate (self->said, 0);
  self->told = 0;
  g_mutex_unlock (&self->lock);
  code = describer->klass->ask (describer, &task, &unloaded, &error);
  g_mutex_lock (&self->lock);
  self->requested = code == 0;
  if (!self->requested)
    self->asked = NULL;
  if (self->requested && job->state == GST_GLM4V_JOB_CANCELED)
    describer->klass->cancel (describer);
  g_mutex_unlock (&self->lock);
  self->progress = g_get_monotonic_time ();
  if (code == 0)
    return TRUE;
  gst_glm4v_job_fail (job, code, describer->klass->fault_of (code, unloaded),
      error.msg);
  return FALSE;
}

/* The abandoned question before this one may still be in progress. FALSE if
 * there is no time to wait for it. */
static gboolean
wait_turn (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vEnd end;

  if (!self->requested)
    return TRUE;
  if (!self->stalled)
    self->progress = g_get_monotonic_time ();
  end = wait_request (self, job);
  if (end == GST_GLM4V_END_OUTCOME) {
    drop_request (self);
    return TRUE;
  }
  g_mutex_lock (&self->lock);
  if (job->end == GST_GLM4V_END_OUTCOME)
    job->end = end;
  g_mutex_unlock (&self->lock);
  return FALSE;
}

static void
describe (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vEnd end;

  if (!wait_turn (self, job) || !gst_glm4v_worker_convert (self, job)
      || !submit (self, job))
    return;
  gst_glm4v_worker_digest (self, job);
  end = wait_request (self, job);
  if (end != GST_GLM4V_END_OUTCOME) {
    give_up (self, job, end);
    return;
  }
  job->outcome.model = self->describer->klass->dup_model (self->describer);
  drop_request (self);
}

/* FALSE if the job has an end now. */
static gboolean
prepare (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  GstGlm4vEnd end = self->callbacks.prepare (self->user, job);

  g_mutex_lock (&self->lock);
  if (job->end == GST_GLM4V_END_OUTCOME)
    job->end = end;
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
  if (job->end == GST_GLM4V_END_OUTCOME && job->deadline > 0
      && now_ns () >= job->deadline)
    job->end = GST_GLM4V_END_LATE;
  wanted = job->end == GST_GLM4V_END_OUTCOME;
  self->preparing = wanted;
  g_mutex_unlock (&self->lock);
  if (wanted && !prepare (self, job))
    return TRUE;
  gst_glm4v_worker_enter (self);
  if (wanted)
    describe (self, job);
  return gst_glm4v_worker_leave (self);
}
