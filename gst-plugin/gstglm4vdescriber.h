/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What answers questions about frames: the engine of this process
 * (gstglm4vlocal.c), or a server (gstglm4vremote.c). */
#pragma once

#include <gst/gst.h>
#include <glm4v/glm4v.h>

#include "gstglm4vengine.h"
#include "gstglm4verror.h"
#include "gstglm4vmodelconfig.h"

G_BEGIN_DECLS

typedef struct _GstGlm4vDescriber GstGlm4vDescriber;

/* A question that it has; of its own kind. */
typedef struct _GstGlm4vRequest GstGlm4vRequest;

/* Functions of the worker's thread, but for those that say so. */
typedef struct
{
  /* Waits until it lets go; not while it has a question. */
  void (*free) (GstGlm4vDescriber * self);
  /* Any thread: it hangs, nobody else must get it. */
  void (*disown) (GstGlm4vDescriber * self);
  /* Any thread: calls that wait return soon. */
  void (*interrupt) (GstGlm4vDescriber * self, GstGlm4vInterrupt interrupt);
  /* Any thread: elements that share what answers. */
    guint (*count_sharers) (GstGlm4vDescriber * self);
  /* Any thread: what the engine has done and takes. FALSE if there is none now,
   * or it is a server's. */
    gboolean (*get_stats) (GstGlm4vDescriber * self,
      glm4v_engine_stats * stats);
  /* Wait until it can be asked, or *percent has changed. FAILED fills error. */
    GstGlm4vEngineState (*wait_load) (GstGlm4vDescriber * self,
      guint * percent, glm4v_error * error);
  /* After LOADED, constant; NULL: it is a server's. */
  const glm4v_model_info *(*get_info) (GstGlm4vDescriber * self);
  /* Would it take a task? 0 or why not. */
    gint (*check) (GstGlm4vDescriber * self, const glm4v_task * task,
      glm4v_error * error);
  /* Begin. The request: on_done() comes, and finish() must follow. NULL with
   * error; *unloaded: because there is no model. */
  GstGlm4vRequest *(*ask) (GstGlm4vDescriber * self, const glm4v_task * task,
      gboolean * unloaded, glm4v_error * error);
  /* 0 when on_done() has returned, GLM4V_ERR_DEADLINE after timeout ns. */
    gint (*wait) (GstGlm4vRequest * request, guint64 timeout);
  /* Any thread, before finish(). */
  void (*cancel) (GstGlm4vRequest * request);
  /* A number that grows while there is work on it, or on anything. */
    guint64 (*get_steps) (GstGlm4vDescriber * self, GstGlm4vRequest * request);
  /* The server that has it; NULL: the engine, or none yet. g_free(). */
  gchar *(*dup_server) (GstGlm4vRequest * request);
  /* After wait(): the name of the model that answered; NULL: that of get_info.
   * g_free(). */
  gchar *(*dup_model) (GstGlm4vRequest * request);
  /* After wait(): forget the question. */
  void (*finish) (GstGlm4vDescriber * self, GstGlm4vRequest * request);
  /* What a GLM4V_ERR_* of a question means. */
    GstGlm4vFault (*fault_of) (gint code, gboolean unloaded);
} GstGlm4vDescriberClass;

/* The first member of what implements it. */
struct _GstGlm4vDescriber
{
  const GstGlm4vDescriberClass *klass;
  const GstGlm4vModelConfig *config;    /* constant */
  guint32 stream;               /* a number that no other has; 0 = none */
};

/* Join or begin an engine: gst_glm4v_sharer_new(). */
GstGlm4vDescriber *gst_glm4v_local_new (const GstGlm4vModelConfig * config,
    const gchar * hash, const gchar * name, GstGlm4vFault * fault,
    gchar ** why);

/* Ask the servers of config->remote. NULL with *fault and *why (g_free). */
GstGlm4vDescriber *gst_glm4v_remote_new (const GstGlm4vModelConfig * config,
    GstGlm4vFault * fault, gchar ** why);

G_END_DECLS
