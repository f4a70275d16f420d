/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What gstglm4vworker.c (thread and queue) and gstglm4vask.c (jobs and the
 * describer) share. */
#pragma once

#include "gstglm4vcuda.h"
#include "gstglm4vframe.h"
#include "gstglm4vworker.h"

G_BEGIN_DECLS

/* A frame as it is asked about: RGB in the converter's memory, or a copy on
 * the GPU. */
typedef struct
{
  gboolean known;
  guint epoch;
  guint64 frame_number;
  glm4v_image image;
  gint part[4];                 /* that digest is of: x, y, width, height */
  gchar digest[GLM4V_DIGEST_SIZE];      /* "" if none is known */
} GstGlm4vPicture;

/* The frames of a clip as several questions are asked about them. */
typedef struct
{
  guint64 pictures_id;          /* of the jobs; 0: there is none */
  GArray *images;
  GPtrArray *blocks;
  GArray *times;
  guint width, height;          /* of a frame */
  gboolean downloaded;
  gchar **digests;              /* NULL before they are asked for */
} GstGlm4vSharedClip;

/* A job that is asked about, from its pictures to the end of its request. What
 * becomes known is kept here until the job gets it: a canceled job, which may
 * be delivered on another thread, is not touched. */
typedef struct
{
  GstGlm4vWorker *worker;

  /* the thread only */
  GArray *images;               /* of glm4v_image: what is asked about */
  GPtrArray *blocks;            /* their pixels, if they are a clip's */
  GstGlm4vRoi *roi;             /* the job's, clipped to the frame; or NULL */
  gsize told;                   /* so much of said was told */

  /* the worker's lock */
  GstGlm4vJob *job;             /* NULL: nobody waits for the answer */
  GstGlm4vRequest *request;     /* NULL: the describer does not have it */
  gboolean answered;
  GString *said;                /* of the answer, if somebody listens */
  GstGlm4vOutcome outcome;      /* the describer's part; else the thread's */
} GstGlm4vAsked;

struct _GstGlm4vWorker
{
  gint refs;                    /* owner, thread, who is at work with it */
  GstGlm4vModelConfig config;
  GstGlm4vWorkerCallbacks callbacks;
  gpointer user;
  GThread *thread;

  /* the thread only */
  GstGlm4vConverter *converter;
  GstGlm4vCudaCopies *copies;   /* NULL: there was no frame on a GPU */
  GstGlm4vPicture picture;      /* converted last */
  GstGlm4vSharedClip clip;      /* of the current jobs */
  guint64 steps;                /* of the describer, when last looked at */
  gint64 progress;              /* monotonic µs when they last changed */
  gboolean stalled;             /* as last reported */
  gint64 told_at;               /* monotonic µs of the last partial text */

  GMutex lock;
  GCond cond;                   /* any change below */
  GstGlm4vDescriber *describer; /* only the thread frees it, at its end */
  GQueue waiting;               /* of GstGlm4vJob, oldest first */
  GQueue current;               /* of GstGlm4vJob about one frame */
  GQueue asked;                 /* of GstGlm4vAsked */
  gboolean telling;             /* partial() runs */
  gboolean converting;          /* a buffer of current is being read */
  gboolean preparing;           /* a question of current is being completed */
  gboolean flushing, failed;    /* failed: there is no model */
  gboolean loading;             /* the thread waits for the model */
  gboolean lent;                /* who waits for a job delivers it */
  guint cancels;                /* calls of cancel() */
  gboolean stop, stopped;
  gboolean in_engine, abandoned;
};

/* Around calls that may hang. leave is FALSE if the owner has gone: no callback
 * may run any more. */
void gst_glm4v_worker_enter (GstGlm4vWorker * worker);
gboolean gst_glm4v_worker_leave (GstGlm4vWorker * worker);

/* gstglm4vpixels.c: fill images with what the job asks about. FALSE if there is
 * nothing to ask: the frame failed, as the outcome tells, or is not wanted. */
gboolean gst_glm4v_asked_convert (GstGlm4vAsked * asked, GstGlm4vJob * job);

/* Their digests, while the engine looks at them as well. */
void gst_glm4v_asked_digest (GstGlm4vAsked * asked, const GstGlm4vJob * job);

/* No further question is about the clip at hand. */
void gst_glm4v_worker_forget_clip (GstGlm4vWorker * worker);

/* Ask what the job asks, then find its outcome or end, or see it canceled.
 * Between the two other jobs about the frame may be asked. FALSE if the owner
 * has gone. */
gboolean gst_glm4v_worker_ask (GstGlm4vWorker * worker, GstGlm4vJob * job);
gboolean gst_glm4v_worker_answer (GstGlm4vWorker * worker, GstGlm4vJob * job);

/* With the lock: the answers to those that are current are not wanted. */
void gst_glm4v_worker_cancel_asked (GstGlm4vWorker * worker);

/* With the lock: end the job, unless its outcome is known, and its request. */
void gst_glm4v_worker_cancel_job (GstGlm4vWorker * worker, GstGlm4vJob * job);

/* Wait for abandoned requests: before the thread ends. */
void gst_glm4v_worker_finish_requests (GstGlm4vWorker * worker);

/* gstglm4vpartial.c: the callback of the engine, whose user is a GstGlm4vAsked;
 * how long to wait at most for a job's answer; tell what there is of it, if it
 * is time to. */
void gst_glm4v_partial_on_text (void *user, glm4v_text_part part,
    const char *text);
guint64 gst_glm4v_partial_limit_wait (const GstGlm4vJob * job, guint64 wait);
void gst_glm4v_partial_tell (GstGlm4vAsked * asked, const GstGlm4vJob * job);

G_END_DECLS
