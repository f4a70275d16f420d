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
