/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread that waits on the system clock of GStreamer, which goes on whatever
 * the state of the pipeline and its clock. It exists only while there is an
 * interval to wait for. An own thread: calls post messages, so code of the
 * application may run in them, and would hold up all others that wait on that
 * clock.
 *
 * The lock guards all that is not constant. It is not held while waiting, and
 * not during a call. */
#include "gstglm4vtimer.h"

#include "gstglm4vthread.h"

/* GStreamer 1.22 cannot wait for a time that is centuries away: it computes
 * the end anew without pause, and nobody gets hold of its clock. */
#define LONGEST_WAIT (GST_SECOND * 3600)

struct _GstGlm4vTimer
{
  void (*call) (gpointer user);
  gpointer user;

  GMutex lock;
  GCond cond;                   /* interval and running */
  GstClockTime interval;        /* 0: none */
  gboolean running;
  GThread *thread;              /* while running; NULL before an interval */
  GstClock *clock;              /* while running */
  GstClockTime next;            /* time of the next call */
  GstClockID waiting;           /* for it; or NULL */
};

GstGlm4vTimer *
gst_glm4v_timer_new (void (*call) (gpointer user), gpointer user)
{
  GstGlm4vTimer *self = g_new0 (GstGlm4vTimer, 1);

  self->call = call;
  self->user = user;
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  return self;
}

void
gst_glm4v_timer_free (GstGlm4vTimer * self)
{
  g_mutex_clear (&self->lock);
  g_cond_clear (&self->cond);
  g_free (self);
}

/* ---- the thread; with the lock, which is released meanwhile ---- */

/* TRUE when it is time for a call; FALSE if something else has changed, or the
 * time is still far away. */
static gboolean
wait_interval (GstGlm4vTimer * self)
{
  GstClockTime next = self->next;
  GstClockTime until =
      MIN (next, gst_clock_get_time (self->clock) + LONGEST_WAIT);
  GstClockID id = gst_clock_new_single_shot_id (self->clock, until);
  GstClockReturn result;

  self->waiting = id;
  g_mutex_unlock (&self->lock);
  result = gst_clock_id_wait (id, NULL);
  g_mutex_lock (&self->lock);
  self->waiting = NULL;
  gst_clock_id_unref (id);
  return result != GST_CLOCK_UNSCHEDULED && self->running
      && self->interval > 0 && self->next == next && until == next;
}

/* Calls that a process without time has missed are left out. */
static void
plan_next (GstGlm4vTimer * self)
{
  GstClockTime now = gst_clock_get_time (self->clock);
  GstClockTime late = now > self->next ? now - self->next : 0;

  self->next += (late / self->interval + 1) * self->interval;
}

static gpointer
run (gpointer user)
{
  GstGlm4vTimer *self = user;

  g_mutex_lock (&self->lock);
  while (self->running) {
    if (self->interval == 0) {
      g_cond_wait (&self->cond, &self->lock);
    } else if (wait_interval (self)) {
      plan_next (self);
      g_mutex_unlock (&self->lock);
      self->call (self->user);
      g_mutex_lock (&self->lock);
    }
  }
  g_mutex_unlock (&self->lock);
  return NULL;
}

/* ---- outside ---- */

/* With the lock: an interval begins, or none. */
static gboolean
begin_interval (GstGlm4vTimer * self, gchar ** why)
{
  GError *error = NULL;

  self->next = gst_clock_get_time (self->clock) + self->interval;
  if (self->waiting)
    gst_clock_id_unschedule (self->waiting);
  g_cond_broadcast (&self->cond);
  if (self->interval == 0 || self->thread)
    return TRUE;
  self->thread = gst_glm4v_thread_try_new ("glm4v-timer", run, self, &error);
  if (self->thread)
    return TRUE;
  *why = g_strdup (error->message);
  g_error_free (error);
  return FALSE;
}

gboolean
gst_glm4v_timer_set_interval (GstGlm4vTimer * self, GstClockTime interval,
    gchar ** why)
{
  gboolean set;

  g_mutex_lock (&self->lock);
  self->interval = interval;
  set = !self->running || begin_interval (self, why);
  g_mutex_unlock (&self->lock);
  return set;
}

GstClockTime
gst_glm4v_timer_get_interval (GstGlm4vTimer * self)
{
  GstClockTime interval;

  g_mutex_lock (&self->lock);
  interval = self->interval;
  g_mutex_unlock (&self->lock);
  return interval;
}

gboolean
gst_glm4v_timer_start (GstGlm4vTimer * self, gchar ** why)
{
  gboolean started;

  g_mutex_lock (&self->lock);
  self->clock = gst_system_clock_obtain ();
  self->running = TRUE;
  started = begin_interval (self, why);
  g_mutex_unlock (&self->lock);
  if (!started)
    gst_glm4v_timer_stop (self);
  return started;
}

void
gst_glm4v_timer_stop (GstGlm4vTimer * self)
{
  GThread *thread;

  g_mutex_lock (&self->lock);
  self->running = FALSE;
  if (self->waiting)
    gst_clock_id_unschedule (self->waiting);
  g_cond_broadcast (&self->cond);
  thread = g_steal_pointer (&self->thread);
  g_mutex_unlock (&self->lock);
  if (thread)
    g_thread_join (thread);
  gst_clear_object (&self->clock);
}
