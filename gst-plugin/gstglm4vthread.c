/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "gstglm4vthread.h"

#include <gst/gst.h>

#ifdef __linux__
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#define BACKGROUND_NICE 5

static void
do_nothing (gpointer task, gpointer unused)
{
}

/* GLib gives every thread of a shared pool the priority of the thread that made
 * the first such pool, and video converters make one: without this, a first
 * frame that a background thread converts would lower all streaming threads. */
static gpointer
fix_shared_priority (gpointer unused)
{
  GThreadPool *pool =
      g_thread_pool_new (do_nothing, NULL, 1, FALSE, NULL);

  if (pool)
    g_thread_pool_free (pool, TRUE, FALSE);
  return NULL;
}

GThread *
gst_glm4v_thread_try_new (const gchar * name, GThreadFunc run, gpointer user,
    GError ** error)
{
  static GOnce once = G_ONCE_INIT;

  g_once (&once, fix_shared_priority, NULL);
  return g_thread_try_new (name, run, user, error);
}

void
gst_glm4v_thread_background (void)
{
#ifdef __linux__
  /* A conversion must not delay the video that passes meanwhile. Without
   * SCHED_BATCH the kernel lets this thread, which has slept for long, take
   * the processor from the streaming thread at the moment that wakes it. A
   * process that runs at a lower priority already keeps it. */
  const struct sched_param batch = { 0 };
  const id_t self = (id_t) gettid ();

  if (sched_setscheduler (0, SCHED_BATCH, &batch) != 0)
    GST_DEBUG ("a thread keeps its scheduling policy");
  if (getpriority (PRIO_PROCESS, self) < BACKGROUND_NICE
      && setpriority (PRIO_PROCESS, self, BACKGROUND_NICE) != 0)
    GST_DEBUG ("a thread keeps its priority");
#endif
}
