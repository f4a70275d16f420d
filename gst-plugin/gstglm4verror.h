/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything that can go wrong in the element, and the one place that posts it
 * on the bus: what happened, where, and what to do. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* A kind of failure; the table in gstglm4verror.c has one row for each. */
typedef enum
{
  GST_GLM4V_FAULT_NO_MODEL,          /* no model directory is known or there */
  GST_GLM4V_FAULT_MODEL_SETTINGS,    /* a property the engine cannot use */
  GST_GLM4V_FAULT_MODEL_MEMORY,      /* the model does not fit */
  GST_GLM4V_FAULT_MODEL_MISSING,     /* a file of the model is not there */
  GST_GLM4V_FAULT_MODEL_READ,        /* a file of the model cannot be read */
  GST_GLM4V_FAULT_MODEL_FORMAT,      /* contents malformed or contradictory */
  GST_GLM4V_FAULT_MODEL_UNSUPPORTED, /* another architecture or dtype */
  GST_GLM4V_FAULT_MODEL_DEVICE,      /* no such compute device */
  GST_GLM4V_FAULT_MODEL_INTERNAL,    /* a defect of the engine */
  GST_GLM4V_FAULT_SHARING,           /* differs from who shares the engine */
  GST_GLM4V_FAULT_LATER,             /* of the engine, set while it is used */
  GST_GLM4V_FAULT_CONFLICT,          /* properties that exclude each other */
  GST_GLM4V_FAULT_SHAPE,             /* the shape of answers is unusable */
  GST_GLM4V_FAULT_PROMPT_FILE,       /* it cannot be used */
  GST_GLM4V_FAULT_THREAD,            /* a thread could not be started */
  GST_GLM4V_FAULT_CAPS,              /* a picture size we refuse */
  GST_GLM4V_FAULT_CUDA_MEMORY,       /* frames on a GPU, a model that is not */
  GST_GLM4V_FAULT_FRAME_SIZE,        /* buffer smaller than its caps require */
  GST_GLM4V_FAULT_FRAME_MAP,         /* memory the CPU cannot read */
  GST_GLM4V_FAULT_FRAME_MEMORY,      /* no memory for one picture */
  GST_GLM4V_FAULT_FRAME_REFUSED,     /* the engine refuses this picture */
  GST_GLM4V_FAULT_FRAME_DEVICE,      /* the compute device failed */
  GST_GLM4V_FAULT_FRAME_INTERNAL,    /* a defect of the engine */
  GST_GLM4V_FAULT_SERVER_SETTINGS,   /* properties of a server, or a file */
  GST_GLM4V_FAULT_SERVER,            /* no server answered */
  GST_GLM4V_FAULT_SERVER_REFUSED,    /* a server refuses a question */
  GST_GLM4V_FAULT_SERVER_ANSWER,     /* what a server answers is of no use */
  GST_GLM4V_FAULT_TEXT_FLOW,         /* the branch behind `text` failed */
  GST_GLM4V_FAULT_DELAY,             /* answers take longer than declared */
  GST_GLM4V_FAULT_STALLED,           /* the engine makes no progress */
  GST_GLM4V_FAULT_STUCK,             /* the engine did not stop in time */
  GST_GLM4V_N_FAULTS
} GstGlm4vFault;

/* The fault that a GLM4V_ERR_* means while a model is opened (loading) or
 * while a frame is described. */
GstGlm4vFault gst_glm4v_fault_from_engine (gint code, gboolean loading);

/* Post an error or a warning from where this is written; never while holding a
 * lock. `where` names the object (a path, a pad, caps), may be NULL; `detail`
 * is the reason. */
#define gst_glm4v_fault_post(element, type, fault, where, detail) \
    gst_glm4v_fault_post_from (element, type, fault, where, detail, \
        &(GstGlm4vPlace) { __FILE__, GST_FUNCTION, __LINE__ })

/* Of a source. */
typedef struct
{
  const gchar *file;
  const gchar *function;
  gint line;
} GstGlm4vPlace;

void gst_glm4v_fault_post_from (GstElement * element, GstMessageType type,
    GstGlm4vFault fault, const gchar * where, const gchar * detail,
    const GstGlm4vPlace * from);

/* Domain and code of a row, for tests. */
void gst_glm4v_fault_describe (GstGlm4vFault fault, GQuark * domain,
    gint * code, const gchar ** what, const gchar ** advice);

G_END_DECLS
