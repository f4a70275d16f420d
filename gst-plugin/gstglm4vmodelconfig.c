/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vmodelconfig.h"

#include <string.h>

GST_DEBUG_CATEGORY_STATIC (engine_debug);
#define GST_CAT_DEFAULT engine_debug

void
gst_glm4v_model_config_clear (GstGlm4vModelConfig * config)
{
  g_free (config->dir);
  g_free (config->device);
  g_free (config->layers);
  g_free (config->quantization);
  g_free (config->kv_cache);
  g_free (config->key);
  gst_glm4v_remote_config_clear (&config->remote);
  memset (config, 0, sizeof *config);
}

void
gst_glm4v_model_config_copy (GstGlm4vModelConfig * to,
    const GstGlm4vModelConfig * from)
{
  *to = *from;
  to->dir = g_strdup (from->dir);
  to->device = g_strdup (from->device);
  to->layers = g_strdup (from->layers);
  to->quantization = g_strdup (from->quantization);
  to->kv_cache = g_strdup (from->kv_cache);
  to->key = g_strdup (from->key);
  gst_glm4v_remote_config_copy (&to->remote, &from->remote);
}

gboolean
gst_glm4v_model_config_equal (const GstGlm4vModelConfig * a,
    const GstGlm4vModelConfig * b)
{
  gchar *conflict = gst_glm4v_model_config_conflict (a, b);

  g_free (conflict);
  return !conflict && g_strcmp0 (a->key, b->key) == 0
      && gst_glm4v_remote_config_equal (&a->remote, &b->remote);
}

/* ---- conflicts ---- */

static gchar *
string_conflict (const gchar * name, const gchar * here, const gchar * there)
{
  if (g_strcmp0 (here, there) == 0)
    return NULL;
  return g_strdup_printf ("%s is %s here and %s", name, here ? here : "not set",
      there ? there : "not set");
}

static gchar *
number_conflict (const gchar * name, guint64 here, guint64 there)
{
  if (here == there)
    return NULL;
  return g_strdup_printf ("%s is %" G_GUINT64_FORMAT " here and %"
      G_GUINT64_FORMAT, name, here, there);
}

gchar *
gst_glm4v_model_config_conflict (const GstGlm4vModelConfig * here,
    const GstGlm4vModelConfig * there)
{
  gchar *found = string_conflict ("model-location", here->dir, there->dir);

  if (!found)
    found = string_conflict ("device", here->device, there->device);
  if (!found)
    found = string_conflict ("layers", here->layers, there->layers);
  if (!found)
    found = number_conflict ("gpu-memory-limit", here->gpu_memory_limit,
        there->gpu_memory_limit);
  if (!found)
    found = string_conflict ("quantization", here->quantization,
        there->quantization);
  if (!found)
    found = string_conflict ("kv-cache", here->kv_cache, there->kv_cache);
  if (!found)
    found = number_conflict ("n-threads", here->n_threads, there->n_threads);
  if (!found)
    found = number_conflict ("max-pixels", here->max_pixels,
        there->max_pixels);
  if (!found)
    found = number_conflict ("max-batch", here->max_batch, there->max_batch);
  if (!found)
    found = number_conflict ("context-length", here->context_length,
        there->context_length);
  if (!found)
    found = number_conflict ("idle-unload", here->idle_unload,
        there->idle_unload);
  return found;
}

/* ---- options ---- */

static void
on_log (void *user, glm4v_log_level level, const char *line)
{
  static const GstDebugLevel levels[] = { GST_LEVEL_ERROR, GST_LEVEL_ERROR,
    GST_LEVEL_WARNING, GST_LEVEL_INFO, GST_LEVEL_DEBUG
  };

  GST_CAT_LEVEL_LOG (engine_debug, levels[MIN ((guint) level, 4)], NULL, "%s",
      line);
}

glm4v_model_options
gst_glm4v_model_config_options (const GstGlm4vModelConfig * config)
{
  static gsize once;

  if (g_once_init_enter (&once)) {
    GST_DEBUG_CATEGORY_INIT (engine_debug, "glm4vengine", 0,
        "GLM-4V engine behind glm4vdescribe");
    g_once_init_leave (&once, 1);
  }
  return (glm4v_model_options) {
    .struct_size = sizeof (glm4v_model_options),
    .device = config->device,
    .layers = config->layers,
    .gpu_memory_limit = config->gpu_memory_limit,
    .quantization = config->quantization,
    .n_threads = config->n_threads,
    .log = on_log,
  };
}
