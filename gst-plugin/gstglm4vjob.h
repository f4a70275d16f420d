/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A sampled frame on its way through the element, and the results that it
 * owes: exactly one for each question about it. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>
#include <glm4v/glm4v.h>

#include "gstglm4vclip.h"
#include "gstglm4verror.h"
#include "gstglm4vrecord.h"
#include "gstglm4vroi.h"
#include "gstglm4vshape.h"

G_BEGIN_DECLS

/* What is asked about a frame; as the properties stood when it was sampled. */
typedef struct
{
  gchar *prompt;                /* with placeholders until it is asked */
  gchar **templates;            /* what it, or all of `prompts`, was then; NULL
                                 * before prompt_file is read */
  gchar *prompt_file;           /* instead of it, or NULL */
  gchar *camera;                /* for placeholders, or NULL */
  gchar *system, *context;      /* NULL = none */
  guint max_tokens, top_k;
  gdouble temperature, top_p;
  guint64 seed;
  gboolean thinking;
  glm4v_speculation speculation;
  GstGlm4vShape *shape;         /* of the answer */
} GstGlm4vQuestion;

void gst_glm4v_question_copy (GstGlm4vQuestion * to,
    const GstGlm4vQuestion * from);
void gst_glm4v_question_clear (GstGlm4vQuestion * question);

/* `status` of a result. What judges results looks at this first: there is an
 * answer of its own with OK only. */
typedef enum
{
  GST_GLM4V_STATUS_OK,
  GST_GLM4V_STATUS_UNCHANGED,   /* the last answer holds */
  GST_GLM4V_STATUS_TIMEOUT,
  GST_GLM4V_STATUS_DROPPED,
  GST_GLM4V_STATUS_ERROR,
  GST_GLM4V_N_STATUSES
} GstGlm4vStatus;

/* Why the engine was not asked, or not waited for. With the first value, the
 * outcome has the reason. */
typedef enum
{
  GST_GLM4V_END_OUTCOME,
  GST_GLM4V_END_REPLACED,       /* by a newer frame */
  GST_GLM4V_END_FULL,           /* max-pending frames waited already */
  GST_GLM4V_END_LOADING,        /* the model was not there yet */
  GST_GLM4V_END_NO_MODEL,       /* and never will be */
  GST_GLM4V_END_EOS,            /* the stream ended, eos-timeout passed */
  GST_GLM4V_END_NO_FRAME,       /* and before there was a frame */
  GST_GLM4V_END_CANCELED,       /* by the action signal cancel */
  GST_GLM4V_END_NO_REGION,      /* a trigger; no region lies on the frame */
  GST_GLM4V_END_NO_PROMPT,      /* prompt-location cannot be read */
  GST_GLM4V_END_SETTINGS,       /* the properties contradict each other */
  GST_GLM4V_END_BAD_FRAME,      /* it does not match its caps */
  GST_GLM4V_END_LATE,           /* its deadline passed */
  GST_GLM4V_END_STALLED,        /* the engine made no progress */
  GST_GLM4V_END_UNCHANGED,      /* it looks as the last one described */
  GST_GLM4V_N_ENDS
} GstGlm4vEnd;

/* What came back; status 0 or a GLM4V_ERR_*. Strings are owned. */
typedef struct
{
  gint status;
  GstGlm4vFault fault;          /* if status != 0 */
  gchar *message;
  glm4v_finish finish;
  glm4v_result *answer;         /* NULL: none was asked; status is not 0 */
  gchar *model;                 /* that a server named, or NULL */
  guint64 convert;              /* ns, RGB conversion */
  gboolean downloaded;          /* from a GPU for it */
  guint width, height;          /* of the frame, as the model saw it */
  gchar **pictures;             /* digests of what it saw, or NULL */
  GArray *times;                /* of guint64, ns, of a clip's; or NULL */
} GstGlm4vOutcome;

void gst_glm4v_outcome_clear (GstGlm4vOutcome * outcome);

/* The engine refused or could not be asked. */
void gst_glm4v_outcome_fail (GstGlm4vOutcome * outcome, gint status,
    GstGlm4vFault fault, const gchar * message);

/* How far a job is; guarded by the worker's lock. Forward only. */
typedef enum
{
  GST_GLM4V_JOB_WAITING,        /* queued, or with the engine */
  GST_GLM4V_JOB_DELIVERING,     /* done() runs */
  GST_GLM4V_JOB_FINISHED,       /* done() has returned */
  GST_GLM4V_JOB_CANCELED        /* instead: done() is never called */
} GstGlm4vJobState;

/* One question about a sampled frame. The streaming thread fills it; then only
 * the worker touches question and buffer, and until the job is canceled roi and
 * outcome; end and state are guarded by the worker's lock; the rest is
 * constant. */
typedef struct _GstGlm4vJob GstGlm4vJob;
struct _GstGlm4vJob
{
  gint refs;
  guint64 id, frame_number;
  guint part, n_parts;          /* of the questions about one frame */
  guint64 pictures_id;          /* the same for all prompts; 0 with one only */
  guint prompt_number, n_prompts;       /* of them one for each prompt */
  GstGlm4vRoi *roi;             /* asked about; NULL = the whole frame */
  guint epoch, segment_number;
  guint generation;             /* of what the stream was then */
  GstClockTime pts, running_time, stream_time;
  guint64 capture_utc;          /* ns since 1970, 0 = unknown */
  GstClockTime time;            /* on the text pad: pts where that goes on */
  GstClockTime until_next;      /* expected time to the next sample */
  gboolean unbound;             /* which may come later: it is only a guess */
  gboolean paced;               /* it will not come before this is read */
  GstClockTime stream_end;      /* where the video ends, NONE if unknown */
  gint64 captured;              /* monotonic µs when it was sampled */
  guint64 deadline;             /* monotonic ns, 0 = none */
  GstClockTime stall_timeout;   /* 0 = none */
  gboolean exact;               /* sync: the frame waits for its answer */
  gboolean similar;             /* it looks as that of job like did */
  guint64 like;
  guint64 refers_to;            /* id of the answer that holds (UNCHANGED) */
  gboolean partial;             /* somebody listens to its answer as it grows */
  gboolean trigger;             /* somebody waits for this very result */
  GValue trigger_id;            /* as it was given, or unset */
  GstVideoInfo info;
  guint gray_bits;              /* significant ones of GRAY16 */
  GstBuffer *buffer;            /* NULL once converted */
  GPtrArray *clip;              /* of GstGlm4vClipFrame, instead; or NULL */
  guint clip_frames;            /* in it, 0 = no clip */
  GstClockTime clip_length;     /* from the first to the last */
  GstGlm4vQuestion question;
  GstGlm4vOutcome outcome;
  GstGlm4vEnd end;
  gchar *end_detail;            /* of some ends, or NULL */
  gchar *series;                /* question and region: gstglm4vhistory.h */
  GRefString *settings;         /* a line of JSON: gstglm4vcontract.h */
  gchar settings_hash[GLM4V_DIGEST_SIZE];
  GstGlm4vModel *model;         /* that was loaded then, or NULL */
  GstGlm4vJob *answered;        /* whose answer holds, or NULL */
  GstGlm4vRecord record;
  GstStructure *result;         /* the same; all these are set by done() */
  GstGlm4vJobState state;
};

GstGlm4vJob *gst_glm4v_job_new (void);
GstGlm4vJob *gst_glm4v_job_ref (GstGlm4vJob * job);
void gst_glm4v_job_unref (GstGlm4vJob * job);

/* Of a job whose outcome or end is known. */
GstGlm4vStatus gst_glm4v_job_status (const GstGlm4vJob * job);

/* With the worker's lock: how it ends, unless that is known. */
void gst_glm4v_job_end (GstGlm4vJob * job, GstGlm4vEnd end);

/* As they stand in a result; message may be NULL. */
const gchar *gst_glm4v_status_name (GstGlm4vStatus status);
const gchar *gst_glm4v_job_finish_reason (const GstGlm4vJob * job);
const gchar *gst_glm4v_job_message (const GstGlm4vJob * job);


G_END_DECLS
