/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "hand-over": streaming thread -> this thread -> describer and back.
 *
 * Jobs are taken and delivered in the order in which they came; one that has an
 * end already keeps its place, so results are always in order. At most
 * max-pending frames wait for the model: of samples the newest stay, so that a
 * slow model describes recent frames; triggers keep their places.
 *
 * The lock guards what stands below it in the struct; those of the describer
 * and of gstglm4vengine.c may be taken inside it. It is never held while the
 * describer works, while pixels are converted or while a callback runs. It may
 * hang (a device fault): gst_glm4v_worker_free() then leaves the thread behind.
 * `in_engine` is TRUE while the thread is where that can happen, the only place
 * where it can be abandoned. */
#include "gstglm4vworkerpriv.h"

#include "gstglm4vthread.h"

#define STOP_TIMEOUT (2 * G_TIME_SPAN_SECOND)

/* Questions of one frame that are asked before the first answer comes. */
#define MOST_AT_ONCE 16

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
  g_clear_pointer (&self->copies, gst_glm4v_cuda_copies_free);
  gst_glm4v_model_config_clear (&self->config);
  g_mutex_clear (&self->lock);
  g_cond_clear (&self->cond);
  g_free (self);
}

/* ---- inside the thread ---- */

void
gst_glm4v_worker_enter (GstGlm4vWorker * self)
{
  g_mutex_lock (&self->lock);
  self->in_engine = TRUE;
  g_mutex_unlock (&self->lock);
}

gboolean
gst_glm4v_worker_leave (GstGlm4vWorker * self)
{
  gboolean owned;

  g_mutex_lock (&self->lock);
  self->in_engine = FALSE;
  owned = !self->abandoned;
  g_mutex_unlock (&self->lock);
  return owned;
}

/* Wait for the model. FALSE if there is none, or no receiver. */
static gboolean
wait_load (GstGlm4vWorker * self)
{
  GstGlm4vDescriber *describer = self->describer;
  glm4v_engine_stats before;
  glm4v_error error = { 0 };
  guint percent = 0, told = 0;
  GstGlm4vEngineState state;
  gboolean known;

  do {
    gst_glm4v_worker_enter (self);
    state = describer->klass->wait_load (describer, &percent, &error);
    if (!gst_glm4v_worker_leave (self))
      return FALSE;
    if (percent != told)
      self->callbacks.progress (self->user, percent);
    told = percent;
  } while (state == GST_GLM4V_ENGINE_LOADING);
  if (state != GST_GLM4V_ENGINE_LOADED) {
    self->callbacks.loaded (self->user, self->config.dir, NULL, NULL,
        error.code, error.msg);
    return FALSE;
  }
  known = describer->klass->get_stats (describer, &before);
  self->callbacks.loaded (self->user, self->config.dir,
      describer->klass->get_info (describer), known ? &before : NULL, 0, NULL);
  self->callbacks.check (self->user, describer);
  return TRUE;
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

static void
deliver (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  if (!set_state (self, job, GST_GLM4V_JOB_DELIVERING))
    return;
  self->callbacks.done (self->user, job);
  set_state (self, job, GST_GLM4V_JOB_FINISHED);
}

/* The first of the current jobs is over. */
static void
drop_current (GstGlm4vWorker * self)
{
  GstGlm4vJob *job;

  g_mutex_lock (&self->lock);
  job = g_queue_pop_head (&self->current);
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  gst_glm4v_job_unref (job);
}

/* Take the current jobs through all of it; only this thread changes them. FALSE
 * if the owner has gone. */
static gboolean
work (GstGlm4vWorker * self)
{
  gboolean owned = TRUE;
  GstGlm4vJob *job;
  GList *link;

  for (link = self->current.head; link && owned; link = link->next)
    owned = gst_glm4v_worker_ask (self, link->data);
  while ((job = g_queue_peek_head (&self->current))) {
    owned = owned && gst_glm4v_worker_answer (self, job);
    if (owned)
      deliver (self, job);
    drop_current (self);
  }
  gst_glm4v_worker_forget_clip (self);
  return owned;
}

/* Is job about the same frame as the one before it? */
static gboolean
goes_with (const GstGlm4vJob * job, const GstGlm4vJob * before)
{
  return job->part == before->part + 1;
}

/* The next job becomes current, with those that can be asked at once. FALSE if
 * there will be no more. */
static gboolean
next_jobs (GstGlm4vWorker * self)
{
  GstGlm4vJob *job = NULL, *next;
  gboolean more;

  g_mutex_lock (&self->lock);
  while (!self->stop && (g_queue_is_empty (&self->waiting) || self->lent))
    g_cond_wait (&self->cond, &self->lock);
  more = !self->stop;
  while (more && (next = g_queue_peek_head (&self->waiting))
      && (!job || (goes_with (next, job)
              && g_queue_get_length (&self->current) < MOST_AT_ONCE))) {
    job = g_queue_pop_head (&self->waiting);
    if (self->failed)
      gst_glm4v_job_end (job, GST_GLM4V_END_NO_MODEL);
    g_queue_push_tail (&self->current, job);
  }
  g_mutex_unlock (&self->lock);
  return more;
}

static void
free_describer (GstGlm4vWorker * self)
{
  GstGlm4vDescriber *describer;

  g_mutex_lock (&self->lock);
  describer = g_steal_pointer (&self->describer);
  g_mutex_unlock (&self->lock);
  describer->klass->free (describer);
}

static gpointer
run (gpointer user)
{
  GstGlm4vWorker *self = user;
  gboolean loaded;

  gst_glm4v_thread_background ();
  loaded = wait_load (self);
  g_mutex_lock (&self->lock);
  self->failed = !loaded;
  self->loading = FALSE;
  g_mutex_unlock (&self->lock);
  while (next_jobs (self) && work (self));
  gst_glm4v_worker_enter (self);
  gst_glm4v_worker_finish_requests (self);
  free_describer (self);
  gst_glm4v_worker_leave (self);
  g_mutex_lock (&self->lock);
  self->stopped = TRUE;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  gst_glm4v_worker_unref (self);
  return NULL;
}

/* ---- outside ---- */

GstGlm4vWorker *
gst_glm4v_worker_new (GstGlm4vDescriber * describer,
    const GstGlm4vWorkerCallbacks * callbacks, gpointer user, gchar ** why)
{
  GstGlm4vWorker *self = g_new0 (GstGlm4vWorker, 1);
  GError *error = NULL;

  self->refs = 2;
  self->describer = describer;
  gst_glm4v_model_config_copy (&self->config, describer->config);
  self->callbacks = *callbacks;
  self->user = user;
  self->converter = gst_glm4v_converter_new ();
  self->flushing = TRUE;
  self->loading = TRUE;
  g_queue_init (&self->waiting);
  g_queue_init (&self->current);
  g_queue_init (&self->asked);
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  self->thread = gst_glm4v_thread_try_new ("glm4v-worker", run, self, &error);
  if (self->thread)
    return self;
  *why = g_strdup (error->message);
  g_error_free (error);
  describer->klass->free (describer);
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
  n = self->describer ?
      self->describer->klass->count_sharers (self->describer) : 0;
  g_mutex_unlock (&self->lock);
  return n;
}

void
gst_glm4v_worker_get_load (GstGlm4vWorker * self, GstGlm4vLoad * load)
{
  GList *link;

  *load = (GstGlm4vLoad) { 0 };
  g_mutex_lock (&self->lock);
  for (link = self->waiting.head; link; link = link->next) {
    const GstGlm4vJob *job = link->data;

    load->level += job->part == 0 && job->end == GST_GLM4V_END_OUTCOME;
  }
  if (!self->describer || !self->describer->klass->get_stats (self->describer,
          &load->engine))
    load->engine = (glm4v_engine_stats) { 0 };
  g_mutex_unlock (&self->lock);
}

/* With the lock. */
static void
interrupt (GstGlm4vWorker * self, GstGlm4vInterrupt interrupt)
{
  if (self->describer)
    self->describer->klass->interrupt (self->describer, interrupt);
}

/* With the lock: jobs that have not reached done() never will. Moves them to
 * canceled, for the caller to unref after unlocking: the last reference of a
 * buffer may run code of other elements. */
static void
cancel_all (GstGlm4vWorker * self, GQueue * canceled)
{
  GstGlm4vJob *job;
  GList *link;

  for (link = self->current.head; link; link = link->next) {
    job = link->data;
    if (job->state != GST_GLM4V_JOB_WAITING)
      continue;
    job->state = GST_GLM4V_JOB_CANCELED;
    g_queue_push_tail (canceled, gst_glm4v_job_ref (job));
  }
  while ((job = g_queue_pop_head (&self->waiting))) {
    job->state = GST_GLM4V_JOB_CANCELED;
    g_queue_push_tail (canceled, job);
  }
  gst_glm4v_worker_cancel_asked (self);
  g_cond_broadcast (&self->cond);
}

static void
unref_all (GQueue * jobs)
{
  g_queue_clear_full (jobs, (GDestroyNotify) gst_glm4v_job_unref);
}

gboolean
gst_glm4v_worker_free (GstGlm4vWorker * self)
{
  gint64 deadline = g_get_monotonic_time () + STOP_TIMEOUT;
  GQueue canceled = G_QUEUE_INIT;
  gboolean joined;

  g_mutex_lock (&self->lock);
  self->flushing = self->stop = TRUE;
  interrupt (self, GST_GLM4V_INTERRUPT_ALL);
  cancel_all (self, &canceled);
  while (!self->stopped && !self->abandoned) {
    if (!g_cond_wait_until (&self->cond, &self->lock, deadline)) {
      if (self->in_engine) {
        self->abandoned = TRUE;
        if (self->describer)
          self->describer->klass->disown (self->describer);
      }
      deadline = g_get_monotonic_time () + STOP_TIMEOUT;
    }
  }
  joined = self->stopped;
  g_mutex_unlock (&self->lock);
  unref_all (&canceled);
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
  GQueue canceled = G_QUEUE_INIT;

  g_mutex_lock (&self->lock);
  self->flushing = flushing;
  if (!self->stop)
    interrupt (self, flushing ? GST_GLM4V_INTERRUPT_USE :
        GST_GLM4V_INTERRUPT_NONE);
  if (flushing)
    cancel_all (self, &canceled);
  g_mutex_unlock (&self->lock);
  unref_all (&canceled);
}

/* With the lock: the first job of the oldest of the waiting frames that count
 * as job does; *n is the number of such frames. */
static GList *
oldest_like (GstGlm4vWorker * self, const GstGlm4vJob * job, guint * n)
{
  GList *oldest = NULL, *link;

  *n = 0;
  for (link = self->waiting.head; link; link = link->next) {
    const GstGlm4vJob *other = link->data;

    if (other->part > 0 || other->end != GST_GLM4V_END_OUTCOME
        || other->exact || other->trigger != job->trigger)
      continue;
    if (!oldest)
      oldest = link;
    ++*n;
  }
  return oldest;
}

static void
take_clip (GstGlm4vJob * job, GQueue * unneeded)
{
  guint i;

  for (i = 0; job->clip && i < job->clip->len; i++) {
    GstGlm4vClipFrame *frame = g_ptr_array_index (job->clip, i);

    if (frame->buffer)          /* it could be copied */
      g_queue_push_tail (unneeded, g_steal_pointer (&frame->buffer));
  }
  g_clear_pointer (&job->clip, g_ptr_array_unref);
}

/* With the lock: a job that waits has no answer, but keeps the place of its
 * result. Buffers go to unneeded. */
static void
end_job (GstGlm4vJob * job, GstGlm4vEnd end, GQueue * unneeded)
{
  gst_glm4v_job_end (job, end);
  if (job->buffer)
    g_queue_push_tail (unneeded, g_steal_pointer (&job->buffer));
  take_clip (job, unneeded);
}

/* With the lock: the same for a frame's jobs, which begin at link. */
static void
end_frame (GList * link, GstGlm4vEnd end, GQueue * unneeded)
{
  guint n = ((GstGlm4vJob *) link->data)->n_parts;

  for (; link && n > 0; link = link->next, n--)
    end_job (link->data, end, unneeded);
}

/* With the lock. */
static void
make_room (GstGlm4vWorker * self, GQueue * frame, const GstGlm4vRoom * room,
    GQueue * unneeded)
{
  const GstGlm4vJob *job = frame->head->data;
  gboolean keep = job->trigger || room->keep_waiting;
  GList *oldest;
  guint n;

  if (job->exact || job->end != GST_GLM4V_END_OUTCOME)
    return;
  oldest = oldest_like (self, job, &n);
  if (keep && n >= room->max_pending)
    end_frame (frame->head, GST_GLM4V_END_FULL, unneeded);
  while (!keep && n >= room->max_pending) {
    end_frame (oldest, GST_GLM4V_END_REPLACED, unneeded);
    oldest = oldest_like (self, job, &n);
  }
}

gboolean
gst_glm4v_worker_push (GstGlm4vWorker * self, GQueue * frame,
    const GstGlm4vRoom * room)
{
  GQueue unneeded = G_QUEUE_INIT;
  gboolean accepted;
  GList *link;

  g_mutex_lock (&self->lock);
  accepted = !self->flushing;
  if (accepted) {
    if (room->cancels != self->cancels)
      end_frame (frame->head, GST_GLM4V_END_CANCELED, &unneeded);
    make_room (self, frame, room, &unneeded);
    for (link = frame->head; link; link = link->next)
      g_queue_push_tail (&self->waiting, gst_glm4v_job_ref (link->data));
    g_cond_broadcast (&self->cond);
  }
  g_mutex_unlock (&self->lock);
  g_queue_clear_full (&unneeded, (GDestroyNotify) gst_buffer_unref);
  return accepted;
}

void
gst_glm4v_worker_cancel (GstGlm4vWorker * self)
{
  GQueue unneeded = G_QUEUE_INIT;
  GList *link;

  g_mutex_lock (&self->lock);
  self->cancels++;
  for (link = self->current.head; link; link = link->next)
    gst_glm4v_worker_cancel_job (self, link->data);
  for (link = self->waiting.head; link; link = link->next)
    end_job (link->data, GST_GLM4V_END_CANCELED, &unneeded);
  /* Until the next question: this one may wait for a model to be loaded. */
  if (!self->stop)
    interrupt (self, GST_GLM4V_INTERRUPT_USE);
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  g_queue_clear_full (&unneeded, (GDestroyNotify) gst_buffer_unref);
}

guint
gst_glm4v_worker_get_cancels (GstGlm4vWorker * self)
{
  guint cancels;

  g_mutex_lock (&self->lock);
  cancels = self->cancels;
  g_mutex_unlock (&self->lock);
  return cancels;
}

/* With the lock: a job that was ended while the thread waits for the model need
 * not wait for that as well. */
static gboolean
may_lend (GstGlm4vWorker * self, const GstGlm4vJob * job)
{
  return self->loading && !self->flushing && !self->stop
      && job->end != GST_GLM4V_END_OUTCOME
      && job->state == GST_GLM4V_JOB_WAITING;
}

/* With the lock, which is released meanwhile. Whoever waits does so for one job
 * after the other, so the order stays. */
static void
deliver_lent (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  if (g_queue_remove (&self->waiting, job))
    gst_glm4v_job_unref (job);  /* the caller has one too */
  self->lent = TRUE;
  g_mutex_unlock (&self->lock);
  deliver (self, job);
  g_mutex_lock (&self->lock);
  self->lent = FALSE;
  g_cond_broadcast (&self->cond);
}

gboolean
gst_glm4v_worker_wait (GstGlm4vWorker * self, GstGlm4vJob * job)
{
  gboolean finished;

  g_mutex_lock (&self->lock);
  while (job->state < GST_GLM4V_JOB_FINISHED && !self->flushing
      && !may_lend (self, job))
    g_cond_wait (&self->cond, &self->lock);
  if (may_lend (self, job))
    deliver_lent (self, job);
  finished = job->state == GST_GLM4V_JOB_FINISHED;
  g_mutex_unlock (&self->lock);
  return finished;
}

/* With the lock. */
static gboolean
is_idle (GstGlm4vWorker * self)
{
  return g_queue_is_empty (&self->waiting)
      && g_queue_is_empty (&self->current);
}

gboolean
gst_glm4v_worker_drain (GstGlm4vWorker * self, GstClockTime timeout)
{
  gint64 deadline = g_get_monotonic_time ()
      + (gint64) MIN (timeout / 1000, G_MAXINT64 / 2);
  gboolean empty;

  g_mutex_lock (&self->lock);
  while (!is_idle (self) && !self->flushing
      && g_cond_wait_until (&self->cond, &self->lock, deadline));
  empty = is_idle (self);
  g_mutex_unlock (&self->lock);
  return empty;
}

/* With the lock: is a callback about one of the current jobs running? Only the
 * first of them can be delivered. */
static gboolean
is_calling (GstGlm4vWorker * self)
{
  const GstGlm4vJob *first = g_queue_peek_head (&self->current);

  return self->telling || self->preparing
      || (first && first->state == GST_GLM4V_JOB_DELIVERING);
}

void
gst_glm4v_worker_take_all (GstGlm4vWorker * self, GQueue * jobs,
    GstGlm4vEnd end)
{
  GList *link;

  g_mutex_lock (&self->lock);
  while (is_calling (self))
    g_cond_wait (&self->cond, &self->lock);
  cancel_all (self, jobs);
  for (link = jobs->head; link; link = link->next)
    gst_glm4v_job_end (link->data, end);
  g_mutex_unlock (&self->lock);
}

/* With the lock: the job keeps a copy, the buffer goes to held. */
static void
copy_one (GstBuffer ** buffer, GQueue * held)
{
  if (!*buffer)
    return;
  g_queue_push_tail (held, *buffer);
  *buffer = gst_buffer_copy_deep (*buffer);
}

/* With the lock. */
static void
copy_buffer (GstGlm4vJob * job, GQueue * held)
{
  guint i;

  copy_one (&job->buffer, held);
  for (i = 0; job->clip && i < job->clip->len; i++) {
    GstGlm4vClipFrame *frame = g_ptr_array_index (job->clip, i);

    copy_one (&frame->buffer, held);
  }
}

void
gst_glm4v_worker_release_buffers (GstGlm4vWorker * self)
{
  GQueue held = G_QUEUE_INIT;
  GList *link;

  g_mutex_lock (&self->lock);
  while (self->converting && !self->flushing)
    g_cond_wait (&self->cond, &self->lock);
  for (link = self->current.head; link && !self->converting; link = link->next)
    copy_buffer (link->data, &held);
  for (link = self->waiting.head; link; link = link->next)
    copy_buffer (link->data, &held);
  g_mutex_unlock (&self->lock);
  g_queue_clear_full (&held, (GDestroyNotify) gst_buffer_unref);
}
