/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part of stage "source pad": what a job was asked with, as an object of the
 * contract. The text is shared by the jobs that have the same. */
#include "gstglm4vcontract.h"

#include "contract/settings.h"

static const gchar *const outputs[] = { "text", "choice", "json" };

static glm4v_contract_shape
shape_of (const GstGlm4vShape * shape)
{
  return (glm4v_contract_shape) {
    .output = outputs[shape->output],
    .choices = (const gchar * const *) shape->choices,
    .fails = shape->fails,
    .thresholds = shape->thresholds,
    /* A shape that cannot be used may have been read in part only. */
    .n_choices = shape->error ? 0 : shape->n_choices,
    .pattern = shape->pattern,
    .schema = shape->schema,
    .timeout_verdict = gst_glm4v_shape_judges (shape) ?
        glm4v_verdict_name (shape->timeout_verdict) : NULL,
  };
}

/* Where pictures are made smaller. */
static guint64
max_pixels_of (const GstGlm4vModelConfig * config)
{
  return config->remote.endpoint ? config->remote.max_pixels :
      config->max_pixels;
}

/* The settings object as text; hash is filled. */
static gchar *
write_settings (const GstGlm4vQuestion * question,
    const GstGlm4vModelConfig * config, const glm4v_contract_model * model,
    gchar hash[GLM4V_DIGEST_SIZE])
{
  const glm4v_contract_settings settings = {
    .prompts = (const gchar * const *) question->templates,
    .n_prompts = question->templates ? g_strv_length (question->templates) : 0,
    .placeholders = true,
    .system = question->system,
    .camera = question->camera,
    .shape = shape_of (question->shape),
    .temperature = question->temperature,
    .top_p = question->top_p,
    .repetition_penalty = 1,    /* none */
    .top_k = question->top_k,
    .seed = question->seed,
    .thinking = question->thinking,
    .max_tokens = question->max_tokens,
    .context_length = config ? config->context_length : 0,
    .max_pixels = config ? max_pixels_of (config) : 0,
    .kv_cache = config ? config->kv_cache : NULL,
    .model = model,
  };

  return glm4v_contract_settings_write (&settings, hash);
}

/* With the lock: text as it is kept, shared if it is that of the last job. */
static GRefString *
share (GstGlm4vDescribe * self, const gchar * text)
{
  if (!self->contract || !g_str_equal (self->contract, text)) {
    g_clear_pointer (&self->contract, g_ref_string_release);
    self->contract = g_ref_string_new (text);
  }
  return g_ref_string_acquire (self->contract);
}

void
gst_glm4v_contract_settle (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  const GstGlm4vModelConfig *config = worker ?
      gst_glm4v_worker_get_config (worker) : NULL;
  gchar *text = write_settings (&job->question, config,
      job->record.result.model, job->settings_hash);

  g_mutex_lock (&self->lock);
  job->settings = share (self, text);
  g_mutex_unlock (&self->lock);
  g_free (text);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
}

void
gst_glm4v_contract_post (GstGlm4vDescribe * self, const GstGlm4vJob * job)
{
  gboolean known;
  gchar *line;

  g_mutex_lock (&self->lock);
  known = self->told_contract
      && g_str_equal (self->told_contract, job->settings);
  if (!known) {
    g_clear_pointer (&self->told_contract, g_ref_string_release);
    self->told_contract = g_ref_string_acquire (job->settings);
  }
  g_mutex_unlock (&self->lock);
  if (known)
    return;
  line = g_strchomp (g_strdup (job->settings));
  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self),
          gst_structure_new (GST_GLM4V_SETTINGS_NAME,
              "hash", G_TYPE_STRING, job->settings_hash,
              "json", G_TYPE_STRING, line, NULL)));
  g_free (line);
}

void
gst_glm4v_contract_reset (GstGlm4vDescribe * self)
{
  g_mutex_lock (&self->lock);
  g_clear_pointer (&self->contract, g_ref_string_release);
  g_clear_pointer (&self->told_contract, g_ref_string_release);
  g_mutex_unlock (&self->lock);
}
