/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The element glm4vdescribe. */
#pragma once

#include <gst/gst.h>
#include <gst/video/video.h>

#include "gstglm4vhistory.h"
#include "gstglm4vkept.h"
#include "gstglm4vprompt.h"
#include "gstglm4vproperties.h"
#include "gstglm4vlook.h"
#include "gstglm4vsampler.h"
#include "gstglm4vstatistics.h"
#include "gstglm4vtext.h"
#include "gstglm4vtimer.h"
#include "gstglm4vtrigger.h"
#include "gstglm4vwatch.h"
#include "gstglm4vworker.h"

GST_DEBUG_CATEGORY_EXTERN (glm4vdescribe_debug);

G_BEGIN_DECLS

#define GST_TYPE_GLM4V_DESCRIBE (gst_glm4v_describe_get_type ())
G_DECLARE_FINAL_TYPE (GstGlm4vDescribe, gst_glm4v_describe, GST,
    GLM4V_DESCRIBE, GstElement)
GST_ELEMENT_REGISTER_DECLARE (glm4vdescribe);

typedef enum
{
  GST_GLM4V_LOADING,
  GST_GLM4V_LOADED,
  GST_GLM4V_LOAD_FAILED
} GstGlm4vLoadState;

struct _GstGlm4vDescribe
{
  GstElement parent;
  GstPad *sinkpad, *srcpad;

  GstGlm4vSettings settings;    /* object lock */
  GstGlm4vPromptFile *prompt_file;      /* has its own lock */
  GstGlm4vText *streams[GST_GLM4V_N_STREAMS];   /* have their own locks */
  GstGlm4vTimer *stats_timer;   /* likewise; runs from PAUSED on */

  /* streaming thread only */
  GstVideoInfo info;
  gboolean have_info;
  GstSegment segment;
  guint segment_number;
  GstGlm4vSampler sampler;
  GstGlm4vLook look;
  GstGlm4vClip clip;
  guint64 frame_number;
  guint generation;             /* counts flushes, segments and caps */
  GPtrArray *kept;              /* of GstGlm4vReady: persist-meta */
  gboolean live_known;          /* live was queried since the stream began */
  GstCaps *refused;             /* reported already, or NULL */
  gboolean warned_frame;        /* a bad frame was reported since CAPS */
  guint told_conflict;          /* serial of settings that were reported */
  gboolean missed_loading;      /* a due frame came before the model did */

  GMutex lock;                  /* guards all below; held with no other */
  GstGlm4vWorker *worker;       /* NULL in NULL, and where loading failed */
  guint epoch;                  /* counts flushes; stale results have less */
  GQueue results;               /* of GstGlm4vReady, to be attached (async) */
  GstGlm4vLoadState load_state;
  GstGlm4vModel *model;         /* NULL while loading, and of a server */
  GstStructure *model_info;     /* the property */
  GstGlm4vStats stats;
  GstClockTime delay_max;       /* of answers since READY */
  GstGlm4vHistory *history;
  GRefString *contract;         /* settings of the last result, or NULL */
  GRefString *told_contract;    /* those of the last message of them */
  gchar *unreadable;            /* why frames cannot be read, or NULL */
  gboolean told_unreadable;     /* since CAPS */
  GPtrArray *answers;           /* of GstGlm4vJob or NULL: the last of each
                                 * question about a frame that are ok */
  GstStructure *last_result;    /* since PAUSED or a flush, or NULL */
  GstGlm4vWatch watch;
  GQueue triggers;              /* of GstGlm4vTrigger: for the next frame */
  GstObject *cuda;              /* GstCudaContext of cuda_number, or NULL */
  gint cuda_number;
  gchar image_device[16];       /* that looks at frames; "" while loading */
  gboolean told_cuda;           /* that CUDA memory is refused */
  guint64 calls;                /* of the action signal */
  guint64 next_id;
  gboolean failed;              /* on-error=fail struck: end the stream */
  gboolean live;
  GstClockTime told_latency;    /* in the last answer to a latency query */
};

/* The worker with a reference, or NULL. Any thread. */
GstGlm4vWorker *gst_glm4v_describe_ref_worker (GstGlm4vDescribe * self);

/* A due frame waits for its own answer (sync), with the present settings. Any
 * thread. */
gboolean gst_glm4v_describe_is_exact (GstGlm4vDescribe * self);

/* gstglm4vquery.c. The query functions of the sink pad and the source pads. */
gboolean gst_glm4v_query_sink (GstPad * pad, GstObject * parent,
    GstQuery * query);
gboolean gst_glm4v_query_src (GstPad * pad, GstObject * parent,
    GstQuery * query);

/* gstglm4vdevice.c. Answer a query for the context of the GPU that the model is
 * on, or will be. FALSE if that is none, or the query is for another kind. */
gboolean gst_glm4v_device_answer_context (GstGlm4vDescribe * self,
    GstQuery * query);

/* From READY on: no memory:CUDAMemory in the result of a CAPS or ACCEPT_CAPS
 * query where the model is not on a GPU. Where upstream has nothing else, a
 * warning says what to insert. */
void gst_glm4v_device_filter_caps (GstGlm4vDescribe * self, GstQuery * query);

/* The model is loaded; to NULL: it is not, and no context is kept. */
void gst_glm4v_device_set_loaded (GstGlm4vDescribe * self,
    const glm4v_model_info * info);
void gst_glm4v_device_forget (GstGlm4vDescribe * self);

/* gstglm4vload.c. To READY: check the model and begin to load it. FALSE after
 * an error was posted. */
gboolean gst_glm4v_load_start (GstGlm4vDescribe * self);

/* To PAUSED: in READY the model's properties may have changed; if so, load with
 * the new values. */
gboolean gst_glm4v_load_refresh (GstGlm4vDescribe * self);

/* The property `model-info`; the caller frees it. NULL before READY. */
GstStructure *gst_glm4v_load_model_info (GstGlm4vDescribe * self);

/* To NULL: stop the worker, free the model. */
void gst_glm4v_load_stop (GstGlm4vDescribe * self);

/* gstglm4vdeliver.c. Deliver the result of a job to its receivers: the text pad
 * first, so that an overlay has the caption before the frame. */
void gst_glm4v_deliver (GstGlm4vDescribe * self, GstGlm4vJob * job);

/* Does an earlier answer hold for a job that looks alike? It then refers to it.
 * Worker thread. */
gboolean gst_glm4v_deliver_holds (GstGlm4vDescribe * self, GstGlm4vJob * job);

G_END_DECLS
