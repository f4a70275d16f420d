/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hand-over from the streaming thread to what describes frames: one thread
 * that waits for the model, then takes the waiting frames in order, converts
 * each, lets the describer answer and returns the outcome. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vdescriber.h"
#include "gstglm4vjob.h"

G_BEGIN_DECLS

/* Called on the worker thread, without any lock. */
typedef struct
{
  void (*progress) (gpointer user, guint percent);
  /* code is not 0 on failure, for which message is the reason; info is NULL
   * then, and where a server has the model; so is before, what the engine has
   * done already. */
  void (*loaded) (gpointer user, const gchar * dir,
      const glm4v_model_info * info, const glm4v_engine_stats * before,
      gint code, const gchar * message);
  /* After a load that succeeded: the describer, during the call. */
  void (*check) (gpointer user, GstGlm4vDescriber * describer);
  /* Complete the question. OUTCOME if it is to be asked, else how it ends. */
    GstGlm4vEnd (*prepare) (gpointer user, GstGlm4vJob * job);
  /* So much text of its answer is there, if job->partial. */
  void (*partial) (gpointer user, const GstGlm4vJob * job, const gchar * text);
  /* Its outcome or end is known; in the order of push(). While the model is
   * loaded, on the thread that is in wait(). */
  void (*done) (gpointer user, GstGlm4vJob * job);
  /* The describer has made no progress for so long; or, with stalled FALSE, it
   * makes some again. server: what it waits for, or NULL. */
  void (*stalled) (gpointer user, gboolean stalled, GstClockTime since,
      const gchar * server);
} GstGlm4vWorkerCallbacks;

/* For frames that wait for the model. */
typedef struct
{
  guint max_pending;            /* so many */
  gboolean keep_waiting;        /* a new sample goes, not the oldest */
  guint cancels;                /* get_cancels() when the frame came */
} GstGlm4vRoom;

typedef struct _GstGlm4vWorker GstGlm4vWorker;

/* Start the thread, which waits for the describer. Takes it. NULL with *why
 * when no thread could be started. */
GstGlm4vWorker *gst_glm4v_worker_new (GstGlm4vDescriber * describer,
    const GstGlm4vWorkerCallbacks * callbacks, gpointer user, gchar ** why);

/* Code that may still use it when its owner frees it has a reference. */
GstGlm4vWorker *gst_glm4v_worker_ref (GstGlm4vWorker * worker);
void gst_glm4v_worker_unref (GstGlm4vWorker * worker);

/* Cancel, join, drop the owner's reference; it accepts nothing more. FALSE if
 * the describer did not let go within two seconds: the thread is then left
 * behind, calls back no more and frees itself. */
gboolean gst_glm4v_worker_free (GstGlm4vWorker * worker);

/* The describer's config, constant; how many share what answers, 0 at the
 * end. */
const GstGlm4vModelConfig *gst_glm4v_worker_get_config (GstGlm4vWorker *
    worker);
guint gst_glm4v_worker_count_sharers (GstGlm4vWorker * worker);

/* Frames and triggers that wait for the model, those in progress not included;
 * and of the engine, zeros where there is none. */
typedef struct
{
  guint level;
  glm4v_engine_stats engine;
} GstGlm4vLoad;

void gst_glm4v_worker_get_load (GstGlm4vWorker * worker, GstGlm4vLoad * load);

/* While flushing nothing is accepted, everything is canceled, no call waits.
 * Returns at once. */
void gst_glm4v_worker_set_flushing (GstGlm4vWorker * worker, gboolean flushing);

/* Queue the jobs of one frame, which may have an end already (takes no
 * references). FALSE while flushing. If there is no room for one more sample,
 * the oldest ends as replaced, or the new one as full; a trigger that does not
 * fit ends as full. Frames that wait for their answer (exact) are not
 * counted. */
gboolean gst_glm4v_worker_push (GstGlm4vWorker * worker, GQueue * frame,
    const GstGlm4vRoom * room);

/* End all that waits and is in progress as canceled, but what has an answer;
 * the results come by done(). So do those of frames that are pushed after this
 * and came before it. Returns at once. */
void gst_glm4v_worker_cancel (GstGlm4vWorker * worker);

/* How often. */
guint gst_glm4v_worker_get_cancels (GstGlm4vWorker * worker);

/* Wait until job is finished; FALSE if it was canceled instead. */
gboolean gst_glm4v_worker_wait (GstGlm4vWorker * worker, GstGlm4vJob * job);

/* Wait until nothing is left, at most timeout. FALSE if something is left. */
gboolean gst_glm4v_worker_drain (GstGlm4vWorker * worker, GstClockTime timeout);

/* Cancel all that is left and move it to jobs, in order, with references: their
 * done() will not be called. Those that have no end get this one. */
void gst_glm4v_worker_take_all (GstGlm4vWorker * worker, GQueue * jobs,
    GstGlm4vEnd end);

/* Let go of every buffer of the stream: waiting frames are copied. */
void gst_glm4v_worker_release_buffers (GstGlm4vWorker * worker);

G_END_DECLS
