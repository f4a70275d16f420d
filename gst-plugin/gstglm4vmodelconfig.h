/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an engine is opened, or a server asked: the properties that may be set in
 * NULL and READY. */
#pragma once

#include <gst/gst.h>
#include <glm4v/glm4v.h>

#include "gstglm4vremoteconfig.h"

G_BEGIN_DECLS

typedef struct
{
  gchar *dir, *device;
  gchar *layers;                /* NULL = dealt out */
  gchar *quantization;          /* NULL = as stored */
  gchar *kv_cache;
  gchar *key;                   /* NULL = shared by the three above */
  guint n_threads, max_batch, context_length;
  guint64 max_pixels, gpu_memory_limit;
  GstClockTime idle_unload;     /* 0 = never */
  GstGlm4vRemoteConfig remote;  /* with an endpoint: instead of all these */
} GstGlm4vModelConfig;

void gst_glm4v_model_config_clear (GstGlm4vModelConfig * config);
void gst_glm4v_model_config_copy (GstGlm4vModelConfig * to,
    const GstGlm4vModelConfig * from);
gboolean gst_glm4v_model_config_equal (const GstGlm4vModelConfig * a,
    const GstGlm4vModelConfig * b);

/* The first property in which two configs of one engine differ, with both
 * values: "max-pixels is 0 here and 50176"; NULL if there is none. g_free(). */
gchar *gst_glm4v_model_config_conflict (const GstGlm4vModelConfig * here,
    const GstGlm4vModelConfig * there);

/* The options that config holds, logging set up; config must stay. */
glm4v_model_options gst_glm4v_model_config_options (const GstGlm4vModelConfig *
    config);

G_END_DECLS
