/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hand-over from the streaming thread to the engine: one thread that waits
 * for the model, then takes the newest waiting frame, converts it, has the
 * engine describe it and hands the outcome back. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>
#include <glm4v/glm4v.h>

#include "gstglm4vengine.h"

G_BEGIN_DECLS

/* What is asked about a frame; as the properties stood when it was sampled. */
typedef struct
{
  gchar *prompt, *system;       /* system may be NULL */
  guint max_tokens, top_k;
  gdouble temperature, top_p;
  guint64 seed;
  gboolean thinking;
} GstGlm4vQuestion;

void gst_glm4v_question_clear (GstGlm4vQuestion * question);

/* What came back; status 0 or a GLM4V_ERR_*. Strings are owned. */
typedef struct
{
  gint status;
  GstGlm4vFault fault;          /* if status != 0 */
  gchar *message, *text, *reasoning, *box;
  glm4v_finish finish;
  guint prompt_tokens, vision_tokens, output_tokens;
  guint64 convert;              /* ns, RGB conversion */
  glm4v_timings timings;
  guint width, height;          /* of the frame, as the model saw it */
  GstStructure *fields;         /* gstglm4vregion.h; may be NULL */
} GstGlm4vOutcome;

/* How far a job is; guarded by the worker's lock. Forward only. */
typedef enum
{
  GST_GLM4V_JOB_WAITING,        /* queued, or with the engine */
  GST_GLM4V_JOB_DELIVERING,     /* done() runs */
  GST_GLM4V_JOB_FINISHED,       /* done() has returned */
  GST_GLM4V_JOB_CANCELED        /* instead: done() is never called */
} GstGlm4vJobState;

/* A sampled frame on its way. The streaming thread fills it, then only the
 * worker touches buffer and outcome; the rest is constant. */
typedef struct
{
  gint refs;
  guint64 id, frame_number;
  guint epoch, segment_number;
  GstClockTime pts, running_time;
  GstClockTime time;            /* on the text pad: pts where that goes on */
  GstClockTime until_next;      /* expected time to the next sample */
  gint64 captured;              /* monotonic µs when it was sampled */
  gboolean exact;               /* sync: the frame waits for its answer */
  GstVideoInfo info;
  guint gray_bits;              /* significant ones of GRAY16 */
  GstBuffer *buffer;            /* NULL once converted */
  GstGlm4vQuestion question;
  GstGlm4vOutcome outcome;
  gboolean dropped;             /* given up at EOS; outcome not to be read */
  GstStructure *result;         /* the element's, set by done() */
  GstGlm4vJobState state;
} GstGlm4vJob;

GstGlm4vJob *gst_glm4v_job_new (void);
GstGlm4vJob *gst_glm4v_job_ref (GstGlm4vJob * job);
void gst_glm4v_job_unref (GstGlm4vJob * job);

/* Called on the worker thread, without any lock. */
typedef struct
{
  void (*progress) (gpointer user, guint percent);
  /* info is NULL on failure; then code and message tell why. */
  void (*loaded) (gpointer user, const gchar * dir,
      const glm4v_model_info * info, gint code, const gchar * message);
  void (*done) (gpointer user, GstGlm4vJob * job);
} GstGlm4vWorkerCallbacks;

typedef struct _GstGlm4vWorker GstGlm4vWorker;

/* Start the thread, which waits for the sharer's engine to be loaded. Takes the
 * sharer. NULL with *why when no thread could be started. */
GstGlm4vWorker *gst_glm4v_worker_new (GstGlm4vSharer * sharer,
    const GstGlm4vWorkerCallbacks * callbacks, gpointer user, gchar ** why);

/* Whoever may be at work with it when its owner frees it has a reference. */
GstGlm4vWorker *gst_glm4v_worker_ref (GstGlm4vWorker * worker);
void gst_glm4v_worker_unref (GstGlm4vWorker * worker);

/* Cancel, join, drop the owner's reference; it accepts nothing more. FALSE if
 * the engine did not let go within two seconds: the thread is then left behind,
 * calls back no more and frees itself. */
gboolean gst_glm4v_worker_free (GstGlm4vWorker * worker);

/* The engine's config, constant; how many share the engine, 0 at the end. */
const GstGlm4vModelConfig *gst_glm4v_worker_get_config (GstGlm4vWorker *
    worker);
guint gst_glm4v_worker_count_sharers (GstGlm4vWorker * worker);

/* While flushing nothing is accepted, everything is canceled, nobody waits.
 * Returns at once. */
void gst_glm4v_worker_set_flushing (GstGlm4vWorker * worker, gboolean flushing);

/* Queue a frame (takes no reference). FALSE if not accepted. *replaced tells
 * that an older waiting frame was dropped for it: newest wins. */
gboolean gst_glm4v_worker_push (GstGlm4vWorker * worker, GstGlm4vJob * job,
    gboolean * replaced);

/* Wait until job is finished; FALSE if it was canceled instead. */
gboolean gst_glm4v_worker_wait (GstGlm4vWorker * worker, GstGlm4vJob * job);

/* Wait until nothing is left, at most timeout. FALSE if something is left. */
gboolean gst_glm4v_worker_drain (GstGlm4vWorker * worker, GstClockTime timeout);

/* Cancel all that is left and return it: references to at most two jobs whose
 * done() will not be called. */
guint gst_glm4v_worker_take_all (GstGlm4vWorker * worker,
    GstGlm4vJob * jobs[2]);

/* Let go of every buffer of the stream: waiting frames are copied. */
void gst_glm4v_worker_release_buffers (GstGlm4vWorker * worker);

G_END_DECLS
