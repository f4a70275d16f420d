/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "hand-over": streaming thread -> this thread -> engine and back.
 *
 * There is room for one waiting frame; a newer one takes its place (newest
 * wins), so that a slow model describes what is there now. The engine is
 * shared with other elements (gstglm4vengine.h).
 *
 * The lock guards what stands below it in the struct; the one of
 * gstglm4vengine.c may be taken inside it. It is never held while the engine
 * works, while pixels are converted or while a callback runs. The
 * engine may hang (a device fault): gst_glm4v_worker_free() then leaves the
 * thread behind. `in_engine` is TRUE while the thread is inside the engine,
 * the only place where it can be abandoned. */
#include "gstglm4vworker.h"

#include "gstglm4vframe.h"
#include "gstglm4vregion.h"
#include "gstglm4vthread.h"

#define STOP_TIMEOUT (2 * G_TIME_SPAN_SECOND)

struct _GstGlm4vWorker
{
  gint refs;                    /* owner, thread, who is at work with it */
  GstGlm4vModelConfig config;
  GstGlm4vWorkerCallbacks callbacks;
  gpointer user;
  GThread *thread;

  /* the thread only */
  GstGlm4vConverter *converter;

  GMutex lock;
  GCond cond;                   /* any change below */
  GstGlm4vSharer *sharer;       /* only the thread frees it, at its end */
  GstGlm4vJob *waiting, *current;
  glm4v_request *request;       /* of current, while the engine has it */
  gboolean converting;          /* current still needs its buffer */
  gboolean flushing, failed;    /* failed: no model, nothing accepted */
  gboolean stop, stopped;
  gboolean in_engine, abandoned;
};

/* ---- plain data ---- */

void
gst_glm4v_question_clear (GstGlm4vQuestion * question)
{
  g_free (question->prompt);
  g_free (question->system);
  memset (question, 0, sizeof *question);
}

GstGlm4vJob *
gst_glm4v_job_new (void)
{
  GstGlm4vJob *job = g_new0 (GstGlm4vJob, 1);

  job->refs = 1;
  return job;
}

GstGlm4vJob *
gst_glm4v_job_ref (GstGlm4vJob * job)
{
  g_atomic_int_inc (&job->refs);
  return job;
}

void
gst_glm4v_job_unref (GstGlm4vJob * job)
{
  if (!g_atomic_int_dec_and_test (&job->refs))
    return;
  gst_clear_buffer (&job->buffer);
  gst_glm4v_question_clear (&job->question);
  g_free (job->outcome.message);
  g_free (job->outcome.text);
  g_free (job->outcome.reasoning);
  g_free (job->outcome.box);
  g_clear_pointer (&job->outcome.fields, gst_structure_free);
  if (job->result)
    gst_structure_free (job->result);
  g_free (job);
}

/* ---- references ---- */

GstGlm4vWorker *
gst_glm4v_worker_ref (GstGlm4vWorker * self)
{
  g_atomic_int_inc (&self->refs);
  return self;
}

void
gst_glm4v_worker_unref (GstGlm4vWorker * self)
{
  if (!g_atomic_int_dec_and_test (&self->refs))
    return;
  gst_glm4v_converter_free (self->converter);
  gst_glm4v_model_config_clear (&self->config);
  g_mutex_clear (&self->lock);
  g_cond_clear (&self->cond);
  g_free (self);
}

/* ---- inside the thread ---- */

static void
engine_enter (GstGlm4vWorker * self)
{
  g_mutex_lock (&self->lock);
  self->in_engine = TRUE;
  g_mutex_unlock (&self->lock);
}

/* FALSE if the owner has gone: no callback may run any more. */
static gboolean
engine_leave (GstGlm4vWorker * self)
{
  gboolean owned;

  g_mutex_lock (&self->lock);
  self->in_engine = FALSE;
  owned = !self->abandoned;
  g_mutex_unlock (&self->lock);
  return owned;
}

/* Wait for the model. FALSE if there is none, or nobody to tell. */
static gboolean
wait_load (GstGlm4vWorker * self)
{
  glm4v_error error = { 0 };
  guint percent = 0, told = 0;
  GstGlm4vEngineState state;

  do {
    engine_enter (self);
    state = gst_glm4v_sharer_wait_load (self->sharer, &percent, &error);
    if (!engine_leave (self))
      return FALSE;
    if (percent != told)
      self->callbacks.progress (self->user, percent);
    told = percent;
  } while (state == GST_GLM4V_ENGINE_LOADING);
  self->callbacks.loaded (self->user,
      self->config.dir, state == GST_GLM4V_ENGINE_LOADED ?
      gst_glm4v_sharer_get_info (self->sharer) : NULL, error.code, error.msg);
  return state == GST_GLM4V_ENGINE_LOADED;
}

static void
fail_job (GstGlm4vJob * job, gint status, GstGlm4vFault fault,
    const gchar * message)
{
  job->outcome.status = status;
  job->outcome.fault = fault;
  job->outcome.finish = GLM4V_FINISH_ERROR;
  job->outcome.message = g_strdup (message);
}

/* On the engine's scheduler thread: keep what is valid during the call only. */
static void
on_done (void *user, const glm4v_result * result)
{
  GstGlm4vOutcome *outcome = user;

  outcome->status = result->status;
  outcome->fault = gst_glm4v_fault_from_engine (result->status, FALSE);
  outcome->finish = result->finish;
  outcome->message = g_strdup (result->message);
  outcome->text = g_strdup (result->text);
  outcome->reasoning = g_strdup (result->reasoning);
  outcome->box = g_strdup (result->box);
  outcome->fields = gst_glm4v_region_fields (result);
  outcome->prompt_tokens = result->prompt_tokens;
  outcome->vision_tokens = result->vision_tokens;
  outcome->output_tokens = result->output_tokens;
  outcome->timings = result->timings;
}

/* FALSE if there is nothing to ask: the frame failed or is not wanted. */
static gboolean
convert (GstGlm4vWorker * self, GstGlm4vJob * job, glm4v_image * image)
{
  GstGlm4vFault fault;
  gchar *why = NULL;
  gint64 start = g_get_monotonic_time ();
  gboolean converted = FALSE;

  fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  if (job->buffer)
    converted = gst_glm4v_converter_run (self->converter, job->buffer,
        &job->info, job->gray_bits, image, &fault, &why);
  else
    why = g_strdup ("the frame could not be copied");
  job->outcome.convert = (guint64) (g_get_monotonic_time () - start) * 1000;
  if (converted) {
    job->outcome.width = (guint) image->width;
    job->outcome.height = (guint) image->height;
  } else {
    fail_job (job, fault == GST_GLM4V_FAULT_FRAME_MEMORY ? GLM4V_ERR_NOMEM :
        GLM4V_ERR_INVALID, fault, why);
  }
  g_free (why);
  gst_clear_buffer (&job->buffer);      /* upstream may have it back */
  g_mutex_lock (&self->lock);
  self->converting = FALSE;
  converted = converted && job->state != GST_GLM4V_JOB_CANCELED;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  return converted;
}

/* Submit and wait. FALSE if the owner has gone meanwhile. */
static gboolean
describe (GstGlm4vWorker * self, GstGlm4vJob * job, const glm4v_image * image)
{
  const GstGlm4vQuestion *question = &job->question;
  glm4v_error error = { 0 };
  glm4v_request *request = NULL;
  glm4v_engine *engine;
  glm4v_task task = {
    .struct_size = sizeof task,
    .system = question->system,
    .prompt = question->prompt,
    .images = image,
    .n_images = 1,
    .max_tokens = question->max_tokens,
    .thinking = question->thinking,
    .temperature = (gfloat) question->temperature,
    .top_k = question->top_k,
    .top_p = (gfloat) question->top_p,
    .seed = question->seed,
    .stream = gst_glm4v_sharer_get_stream (self->sharer),
    .on_done = on_done,
    .user = &job->outcome,
  };
  gint code;

  engine_enter (self);
  engine = gst_glm4v_sharer_begin (self->sharer, &error);
  code = engine ? glm4v_engine_submit (engine, &task, &request, &error) :
      error.code;
  if (code == 0) {
    g_mutex_lock (&self->lock);
    self->request = request;
    if (job->state == GST_GLM4V_JOB_CANCELED)
      glm4v_request_cancel (request);
    g_mutex_unlock (&self->lock);
    glm4v_request_wait (request, UINT64_MAX);
    g_mutex_lock (&self->lock);
    self->request = NULL;
    g_mutex_unlock (&self->lock);
    glm4v_request_unref (&request);
  } else {
    fail_job (job, code, gst_glm4v_fault_from_engine (code, !engine),
        error.msg);
  }
  if (engine)
    gst_glm4v_sharer_end (self->sharer);
  return engine_leave (self);
}

static gboolean
set_state (GstGlm4vWorker * self, GstGlm4vJob * job, GstGlm4vJobState state)
{
  gboolean set;

  g_mutex_lock (&self->lock);
  set = job->state != GST_GLM4V_JOB_CANCELED;
  if (set)
    job->state = state;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  return set;
}

/* Take one job through all of it. FALSE if the owner has gone. */
static gboolean
work (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  glm4v_image image;

  if (convert (self, job, &image) && !describe (self, job, &image))
    return FALSE;
  if (set_state (self, job, GST_GLM4V_JOB_DELIVERING)) {
    self->callbacks.done (self->user, job);
    set_state (self, job, GST_GLM4V_JOB_FINISHED);
  }
  g_mutex_lock (&self->lock);
  self->current = NULL;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  return TRUE;
}

static GstGlm4vJob *
next_job (GstGlm4vWorker * self)
{
  GstGlm4vJob *job;

  g_mutex_lock (&self->lock);
  while (!self->stop && !self->waiting)
    g_cond_wait (&self->cond, &self->lock);
  job = self->stop ? NULL : g_steal_pointer (&self->waiting);
  self->current = job;
  self->converting = job != NULL;
  g_mutex_unlock (&self->lock);
  return job;
}

/* With the lock. The caller drops the reference after unlocking: the last one
 * of a buffer may run code of other elements. */
static GstGlm4vJob *
cancel_waiting (GstGlm4vWorker * self)
{
  if (self->waiting)
    self->waiting->state = GST_GLM4V_JOB_CANCELED;
  return g_steal_pointer (&self->waiting);
}

static void
leave_engine (GstGlm4vWorker * self)
{
  GstGlm4vSharer *sharer;

  g_mutex_lock (&self->lock);
  sharer = g_steal_pointer (&self->sharer);
  g_mutex_unlock (&self->lock);
  gst_glm4v_sharer_free (sharer);
}

static gpointer
run (gpointer user)
{
  GstGlm4vWorker *self = user;
  GstGlm4vJob *job;
  gboolean owned = TRUE;

  gst_glm4v_thread_background ();
  if (!wait_load (self)) {
    g_mutex_lock (&self->lock);
    self->failed = TRUE;
    job = cancel_waiting (self);
    g_cond_broadcast (&self->cond);
    g_mutex_unlock (&self->lock);
    g_clear_pointer (&job, gst_glm4v_job_unref);
  }
  while (owned && (job = next_job (self))) {
    owned = work (self, job);
    gst_glm4v_job_unref (job);
  }
  engine_enter (self);
  leave_engine (self);
  engine_leave (self);
  g_mutex_lock (&self->lock);
  self->stopped = TRUE;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  gst_glm4v_worker_unref (self);
  return NULL;
}

/* ---- outside ---- */

GstGlm4vWorker *
gst_glm4v_worker_new (GstGlm4vSharer * sharer,
    const GstGlm4vWorkerCallbacks * callbacks, gpointer user, gchar ** why)
{
  GstGlm4vWorker *self = g_new0 (GstGlm4vWorker, 1);
  GError *error = NULL;

  self->refs = 2;
  self->sharer = sharer;
  gst_glm4v_model_config_copy (&self->config,
      gst_glm4v_sharer_get_config (sharer));
  self->callbacks = *callbacks;
  self->user = user;
  self->converter = gst_glm4v_converter_new ();
  self->flushing = TRUE;
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  self->thread = g_thread_try_new ("glm4v-worker", run, self, &error);
  if (self->thread)
    return self;
  *why = g_strdup (error->message);
  g_error_free (error);
  gst_glm4v_sharer_free (sharer);
  self->refs = 1;
  gst_glm4v_worker_unref (self);
  return NULL;
}

const GstGlm4vModelConfig *
gst_glm4v_worker_get_config (GstGlm4vWorker * self)
{
  return &self->config;
}

guint
gst_glm4v_worker_count_sharers (GstGlm4vWorker * self)
{
  guint n;

  g_mutex_lock (&self->lock);
  n = self->sharer ? gst_glm4v_sharer_count (self->sharer) : 0;
  g_mutex_unlock (&self->lock);
  return n;
}

/* With the lock. */
static void
interrupt (GstGlm4vWorker * self, GstGlm4vInterrupt interrupt)
{
  if (self->sharer)
    gst_glm4v_sharer_interrupt (self->sharer, interrupt);
}

/* With the lock: whatever has not reached done() never will. Returns what
 * waited, for the caller to unref after unlocking. */
static GstGlm4vJob *
cancel_all (GstGlm4vWorker * self)
{
  if (self->current && self->current->state == GST_GLM4V_JOB_WAITING)
    self->current->state = GST_GLM4V_JOB_CANCELED;
  if (self->request)
    glm4v_request_cancel (self->request);
  g_cond_broadcast (&self->cond);
  return cancel_waiting (self);
}

gboolean
gst_glm4v_worker_free (GstGlm4vWorker * self)
{
  gint64 deadline = g_get_monotonic_time () + STOP_TIMEOUT;
  GstGlm4vJob *waited;
  gboolean joined;

  g_mutex_lock (&self->lock);
  self->flushing = self->stop = TRUE;
  interrupt (self, GST_GLM4V_INTERRUPT_ALL);
  waited = cancel_all (self);
  while (!self->stopped && !self->abandoned) {
    if (!g_cond_wait_until (&self->cond, &self->lock, deadline)) {
      if (self->in_engine) {
        self->abandoned = TRUE;
        if (self->sharer)
          gst_glm4v_sharer_disown (self->sharer);
      }
      deadline = g_get_monotonic_time () + STOP_TIMEOUT;
    }
  }
  joined = self->stopped;
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&waited, gst_glm4v_job_unref);
  if (joined)
    g_thread_join (self->thread);
  else
    g_thread_unref (self->thread);
  gst_glm4v_worker_unref (self);
  return joined;
}

void
gst_glm4v_worker_set_flushing (GstGlm4vWorker * self, gboolean flushing)
{
  GstGlm4vJob *waited = NULL;

  g_mutex_lock (&self->lock);
  self->flushing = flushing;
  if (!self->stop)
    interrupt (self, flushing ? GST_GLM4V_INTERRUPT_USE :
        GST_GLM4V_INTERRUPT_NONE);
  if (flushing)
    waited = cancel_all (self);
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&waited, gst_glm4v_job_unref);
}

gboolean
gst_glm4v_worker_push (GstGlm4vWorker * self, GstGlm4vJob * job,
    gboolean * replaced)
{
  GstGlm4vJob *older = NULL;
  gboolean accepted;

  g_mutex_lock (&self->lock);
  accepted = !self->flushing && !self->failed;
  if (accepted) {
    older = cancel_waiting (self);
    self->waiting = gst_glm4v_job_ref (job);
    g_cond_broadcast (&self->cond);
  }
  g_mutex_unlock (&self->lock);
  *replaced = older != NULL;
  g_clear_pointer (&older, gst_glm4v_job_unref);
  return accepted;
}

gboolean
gst_glm4v_worker_wait (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  gboolean finished;

  g_mutex_lock (&self->lock);
  while (job->state < GST_GLM4V_JOB_FINISHED && !self->flushing)
    g_cond_wait (&self->cond, &self->lock);
  finished = job->state == GST_GLM4V_JOB_FINISHED;
  g_mutex_unlock (&self->lock);
  return finished;
}

gboolean
gst_glm4v_worker_drain (GstGlm4vWorker * self, GstClockTime timeout)
{
  gint64 deadline = g_get_monotonic_time ()
      + (gint64) MIN (timeout / 1000, G_MAXINT64 / 2);
  gboolean empty;

  g_mutex_lock (&self->lock);
  while ((self->waiting || self->current) && !self->flushing
      && g_cond_wait_until (&self->cond, &self->lock, deadline));
  empty = !self->waiting && !self->current;
  g_mutex_unlock (&self->lock);
  return empty;
}

guint
gst_glm4v_worker_take_all (GstGlm4vWorker * self, GstGlm4vJob * jobs[2])
{
  guint n = 0;

  g_mutex_lock (&self->lock);
  if (self->current && self->current->state == GST_GLM4V_JOB_WAITING)
    jobs[n++] = gst_glm4v_job_ref (self->current);
  jobs[n] = cancel_all (self);
  n += jobs[n] != NULL;
  g_mutex_unlock (&self->lock);
  return n;
}

void
gst_glm4v_worker_release_buffers (GstGlm4vWorker * self)
{
  GstBuffer *held = NULL;

  g_mutex_lock (&self->lock);
  while (self->converting && !self->flushing)
    g_cond_wait (&self->cond, &self->lock);
  if (self->waiting) {
    held = self->waiting->buffer;
    self->waiting->buffer = gst_buffer_copy_deep (held);
  }
  g_mutex_unlock (&self->lock);
  gst_clear_buffer (&held);
}
