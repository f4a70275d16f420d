/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine of this process as a describer: the element's part in it, and its
 * requests. */
#include "gstglm4vdescriber.h"

typedef struct
{
  GstGlm4vDescriber parent;
  GstGlm4vSharer *sharer;
  glm4v_engine *engine;         /* while there is a request */
} Local;

static glm4v_request *
engines (GstGlm4vRequest * request)
{
  return (glm4v_request *) request;
}

static void
local_free (GstGlm4vDescriber * describer)
{
  Local *self = (Local *) describer;

  gst_glm4v_sharer_free (self->sharer);
  g_free (self);
}

static void
local_disown (GstGlm4vDescriber * describer)
{
  gst_glm4v_sharer_disown (((Local *) describer)->sharer);
}

static void
local_interrupt (GstGlm4vDescriber * describer, GstGlm4vInterrupt interrupt)
{
  gst_glm4v_sharer_interrupt (((Local *) describer)->sharer, interrupt);
}

static guint
local_count_sharers (GstGlm4vDescriber * describer)
{
  return gst_glm4v_sharer_count (((Local *) describer)->sharer);
}

static gboolean
local_get_stats (GstGlm4vDescriber * describer, glm4v_engine_stats * stats)
{
  return gst_glm4v_sharer_get_stats (((Local *) describer)->sharer, stats);
}

static GstGlm4vEngineState
local_wait_load (GstGlm4vDescriber * describer, guint * percent,
    glm4v_error * error)
{
  return gst_glm4v_sharer_wait_load (((Local *) describer)->sharer, percent,
      error);
}

static const glm4v_model_info *
local_get_info (GstGlm4vDescriber * describer)
{
  return gst_glm4v_sharer_get_info (((Local *) describer)->sharer);
}

/* An engine that cannot be had is not the task's fault: that is told when it is
 * asked. */
static gint
local_check (GstGlm4vDescriber * describer, const glm4v_task * task,
    glm4v_error * error)
{
  Local *self = (Local *) describer;
  glm4v_engine *engine = gst_glm4v_sharer_begin (self->sharer, error);
  gint code = 0;

  if (engine) {
    code = glm4v_engine_check (engine, task, error);
    gst_glm4v_sharer_end (self->sharer);
  }
  return code;
}

/* Each request keeps the model loaded. */
static GstGlm4vRequest *
local_ask (GstGlm4vDescriber * describer, const glm4v_task * task,
    gboolean * unloaded, glm4v_error * error)
{
  Local *self = (Local *) describer;
  glm4v_engine *engine = gst_glm4v_sharer_begin (self->sharer, error);
  glm4v_request *request = NULL;

  *unloaded = !engine;
  if (!engine)
    return NULL;
  if (glm4v_engine_submit (engine, task, &request, error) != 0) {
    gst_glm4v_sharer_end (self->sharer);
    return NULL;
  }
  self->engine = engine;
  return (GstGlm4vRequest *) request;
}

static gint
local_wait (GstGlm4vRequest * request, guint64 timeout)
{
  return glm4v_request_wait (engines (request), timeout);
}

static void
local_cancel (GstGlm4vRequest * request)
{
  glm4v_request_cancel (engines (request));
}

static guint64
local_get_steps (GstGlm4vDescriber * describer, GstGlm4vRequest * request)
{
  glm4v_engine_stats stats = {.struct_size = sizeof stats };
  Local *self = (Local *) describer;

  return glm4v_engine_get_stats (self->engine, &stats, NULL) == 0 ?
      stats.steps : 0;
}

static gchar *
local_dup_server (GstGlm4vRequest * request)
{
  return NULL;
}

static gchar *
local_dup_model (GstGlm4vRequest * request)
{
  return NULL;
}

static void
local_finish (GstGlm4vDescriber * describer, GstGlm4vRequest * request)
{
  glm4v_request *finished = engines (request);

  glm4v_request_unref (&finished);
  gst_glm4v_sharer_end (((Local *) describer)->sharer);
}

GstGlm4vDescriber *
gst_glm4v_local_new (const GstGlm4vModelConfig * config, const gchar * hash,
    const gchar * name, GstGlm4vFault * fault, gchar ** why)
{
  static const GstGlm4vDescriberClass klass = {
    local_free, local_disown, local_interrupt, local_count_sharers,
    local_get_stats, local_wait_load, local_get_info, local_check, local_ask,
    local_wait, local_cancel, local_get_steps, local_dup_server,
    local_dup_model, local_finish, gst_glm4v_fault_from_engine
  };
  GstGlm4vSharer *sharer = gst_glm4v_sharer_new (config, hash, name, fault,
      why);
  Local *self;

  if (!sharer)
    return NULL;
  self = g_new0 (Local, 1);
  self->parent.klass = &klass;
  self->parent.config = gst_glm4v_sharer_get_config (sharer);
  self->parent.stream = gst_glm4v_sharer_get_stream (sharer);
  self->sharer = sharer;
  return &self->parent;
}
