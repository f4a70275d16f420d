/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engines of this process. Elements whose model, device and quantization
 * are equal, or whose model-key is, share one: its weights are loaded once, its
 * requests batched, the earliest deadline first and streams in turn. */
#pragma once

#include <gst/gst.h>
#include <glm4v/glm4v.h>

#include "gstglm4verror.h"
#include "gstglm4vmodelconfig.h"

G_BEGIN_DECLS

/* One element's part in an engine. Functions are safe from any thread. */
typedef struct _GstGlm4vSharer GstGlm4vSharer;

typedef enum
{
  GST_GLM4V_ENGINE_LOADING,
  GST_GLM4V_ENGINE_LOADED,
  GST_GLM4V_ENGINE_FAILED,
  GST_GLM4V_ENGINE_UNLOADED     /* by idle-unload: the next use loads again */
} GstGlm4vEngineState;

/* What a sharer does not want to wait for any more. */
typedef enum
{
  GST_GLM4V_INTERRUPT_NONE,
  GST_GLM4V_INTERRUPT_USE,      /* gst_glm4v_sharer_begin(): a flush */
  GST_GLM4V_INTERRUPT_ALL       /* loading too: the element goes to NULL */
} GstGlm4vInterrupt;

/* Join the engine of this config, or begin to load one on a thread of its own.
 * hash distinguishes the model's files from others that were in the same place;
 * name is the element's, for messages. NULL with *fault and *why (g_free) if
 * properties differ from those of another sharer, who is named, or if there is
 * no thread. */
GstGlm4vSharer *gst_glm4v_sharer_new (const GstGlm4vModelConfig * config,
    const gchar * hash, const gchar * name, GstGlm4vFault * fault,
    gchar ** why);

/* Leave; the last one waits until the engine is closed. Not between begin and
 * end. */
void gst_glm4v_sharer_free (GstGlm4vSharer * sharer);

/* The engine hangs: later sharers get another one. */
void gst_glm4v_sharer_disown (GstGlm4vSharer * sharer);

/* As it was given; constant. */
const GstGlm4vModelConfig *gst_glm4v_sharer_get_config (GstGlm4vSharer *
    sharer);

/* A number that no other sharer in this process has. */
guint32 gst_glm4v_sharer_get_stream (GstGlm4vSharer * sharer);

/* How many share the engine, this one included. */
guint gst_glm4v_sharer_count (GstGlm4vSharer * sharer);

/* The engine's counters and memory; FALSE while it is not loaded. */
gboolean gst_glm4v_sharer_get_stats (GstGlm4vSharer * sharer,
    glm4v_engine_stats * stats);

/* Wait for the first load until its progress differs from *percent, which is
 * updated, or it is over. FAILED fills error; an interrupt is FAILED with
 * GLM4V_ERR_CANCELED. */
GstGlm4vEngineState gst_glm4v_sharer_wait_load (GstGlm4vSharer * sharer,
    guint * percent, glm4v_error * error);

/* What was loaded; after LOADED, constant. */
const glm4v_model_info *gst_glm4v_sharer_get_info (GstGlm4vSharer * sharer);

/* The engine, loaded until end; NULL with error, GLM4V_ERR_CANCELED after an
 * interrupt. Loads the model again if it was unloaded. */
glm4v_engine *gst_glm4v_sharer_begin (GstGlm4vSharer * sharer,
    glm4v_error * error);
void gst_glm4v_sharer_end (GstGlm4vSharer * sharer);

/* Returns at once; calls that wait in wait_load or begin return soon. */
void gst_glm4v_sharer_interrupt (GstGlm4vSharer * sharer,
    GstGlm4vInterrupt interrupt);

G_END_DECLS
