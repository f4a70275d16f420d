/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model's life inside the element: found and checked on the way to READY,
 * read with PROGRESS messages, given back on the way to NULL. With an endpoint
 * there is no model here, and nothing to wait for. */
#include "gstglm4vdescribe.h"

#include "contract/text.h"
#include "gstglm4verror.h"

/* A note for users of the shipped model. */
#define SMALL_MODEL ": a small model for metal surfaces with defects and for " \
    "test pictures; for anything else set model-location"

/* ---- worker thread ---- */

static void
post_progress (GstGlm4vDescribe * self, GstProgressType type,
    const gchar * text)
{
  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_progress (GST_OBJECT (self), type, "load", text));
}

static void
on_progress (gpointer user, guint percent)
{
  gchar *text = g_strdup_printf ("Loading the model: %u %%", percent);

  post_progress (user, GST_PROGRESS_TYPE_CONTINUE, text);
  g_free (text);
}

/* Image tokens of the largest picture that the model takes. */
static guint
vision_tokens (const glm4v_model_info * info)
{
  guint64 side = (guint64) info->patch_size * info->merge_size;

  return side > 0 ? (guint) (info->max_pixels / (side * side)) : 0;
}

static GstStructure *
describe_model (const glm4v_model_info * info)
{
  gchar forms[GLM4V_FORMS_SIZE];
  GstStructure *model;

  glm4v_contract_forms (forms, info);
  model = gst_structure_new ("model-info",
      "name", G_TYPE_STRING, info->name,
      "hash", G_TYPE_STRING, info->hash,
      "quant", G_TYPE_STRING, forms,
      "isa", G_TYPE_STRING, info->isa,
      "family", G_TYPE_STRING, info->family,
      "chat-template", G_TYPE_STRING, info->chat_template,
      "stored-form", G_TYPE_STRING, info->stored_form,
      "parameters", G_TYPE_UINT64, info->n_parameters,
      "file-bytes", G_TYPE_UINT64, info->file_bytes,
      "layers", G_TYPE_UINT, info->n_layers,
      "vision-layers", G_TYPE_UINT, info->vision_layers,
      "context-length", G_TYPE_UINT, info->context_length,
      "max-pixels", G_TYPE_UINT64, info->max_pixels,
      "vision-tokens", G_TYPE_UINT, vision_tokens (info), NULL);
  if (*info->products)
    gst_structure_set (model, "products", G_TYPE_STRING, info->products, NULL);
  return model;
}

static void
set_model_info (GstGlm4vDescribe * self, const glm4v_model_info * info,
    gboolean loaded)
{
  GstStructure *fresh = describe_model (info), *old;
  GstGlm4vModel *in_results = loaded ? gst_glm4v_model_new (info) : NULL;

  g_mutex_lock (&self->lock);
  old = self->model_info;
  self->model_info = fresh;
  self->model = in_results;
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&old, gst_structure_free);
}

static void
on_loaded (gpointer user, const gchar * dir, const glm4v_model_info * info,
    const glm4v_engine_stats * before, gint code, const gchar * message)
{
  GstGlm4vDescribe *self = user;
  gchar *text;

  if (before)
    gst_glm4v_statistics_join (self, before);
  if (info) {
    set_model_info (self, info, TRUE);
    gst_glm4v_device_set_loaded (self, info);
  }
  g_mutex_lock (&self->lock);
  self->load_state = code == 0 ? GST_GLM4V_LOADED : GST_GLM4V_LOAD_FAILED;
  g_mutex_unlock (&self->lock);
  if (code == 0 && !info) {
    post_progress (self, GST_PROGRESS_TYPE_COMPLETE,
        "Frames are described by a server");
  } else if (info) {
    text = g_strdup_printf ("Model %s is loaded%s", info->name,
        g_str_equal (info->name, GST_GLM4V_SHIPPED_MODEL) ? SMALL_MODEL : "");
    post_progress (self, GST_PROGRESS_TYPE_COMPLETE, text);
    g_free (text);
  } else if (code == GLM4V_ERR_CANCELED) {
    post_progress (self, GST_PROGRESS_TYPE_CANCELED, "Loading was canceled");
  } else {
    post_progress (self, GST_PROGRESS_TYPE_ERROR, message);
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
        gst_glm4v_fault_from_engine (code, TRUE), dir, message);
  }
}

static void
on_done (gpointer user, GstGlm4vJob * job)
{
  gst_glm4v_deliver (GST_GLM4V_DESCRIBE (user), job);
}

static void
on_partial (gpointer user, const GstGlm4vJob * job, const gchar * text)
{
  GstGlm4vDescribe *self = user;
  gchar *clean = glm4v_contract_sanitize (text);
  gboolean fresh;

  g_mutex_lock (&self->lock);
  fresh = job->epoch == self->epoch;
  g_mutex_unlock (&self->lock);
  if (fresh && *clean)
    g_signal_emit_by_name (self, "partial", job->id, clean);
  g_free (clean);
}

/* The text of the prompt file, or NULL; what is wrong with it is reported. */
static gchar *
read_prompt (GstGlm4vDescribe * self, const gchar * path)
{
  gchar *why = NULL;
  gchar *text = gst_glm4v_prompt_file_read (self->prompt_file, path, &why);

  if (why)
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
        GST_GLM4V_FAULT_PROMPT_FILE, path, why);
  g_free (why);
  return text;
}

static GstGlm4vEnd
on_prepare (gpointer user, GstGlm4vJob * job)
{
  GstGlm4vDescribe *self = user;
  GstGlm4vQuestion *question = &job->question;
  gchar *template = NULL;

  /* Mended after the question was taken, so that sampling saw no conflict. */
  if (question->shape->error)
    return GST_GLM4V_END_SETTINGS;
  if (gst_glm4v_deliver_holds (self, job))
    return GST_GLM4V_END_UNCHANGED;
  if (question->prompt_file) {
    template = read_prompt (self, question->prompt_file);
    if (!template)
      return GST_GLM4V_END_NO_PROMPT;
    g_free (question->prompt);
    question->prompt = template;
    question->templates = g_strdupv ((gchar *[]) {template, NULL});
  }
  job->partial = g_signal_has_handler_pending (self,
      g_signal_lookup ("partial", GST_TYPE_GLM4V_DESCRIBE), 0, FALSE);
  template = question->prompt;
  question->prompt = glm4v_contract_expand (template,
      &(glm4v_placeholders) {
        .time = job->running_time,
        .label = job->roi ? job->roi->label : NULL,
        .frame = job->frame_number,
        .camera = question->camera});
  g_free (template);
  return GST_GLM4V_END_OUTCOME;
}

/* Will the describer take what is to be asked? Told once, before any frame. */
static void
on_check (gpointer user, GstGlm4vDescriber * describer)
{
  GstGlm4vDescribe *self = user;
  GstGlm4vQuestion question = { 0 };
  glm4v_task task = {.struct_size = sizeof task,.prompt = "?" };
  glm4v_error error = { 0 };
  gint code = 0;

  GST_OBJECT_LOCK (self);
  gst_glm4v_question_copy (&question, &self->settings.question);
  GST_OBJECT_UNLOCK (self);
  task.max_tokens = question.max_tokens;
  gst_glm4v_shape_fill (question.shape, &task);
  if (question.shape->output != GST_GLM4V_OUTPUT_TEXT
      && !question.shape->error)
    code = describer->klass->check (describer, &task, &error);
  gst_glm4v_question_clear (&question);
  if (code == GLM4V_ERR_INVALID || code == GLM4V_ERR_UNSUPPORTED)
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
        GST_GLM4V_FAULT_SHAPE, NULL, error.msg);
}

static void
on_stalled (gpointer user, gboolean stalled, GstClockTime since,
    const gchar * server)
{
  gst_glm4v_watch_stalled (user, stalled, since, server);
}

/* ---- state changes ---- */

static gboolean
resolve_config (GstGlm4vDescribe * self, GstGlm4vModelConfig * config)
{
  gchar *looked = NULL;

  GST_OBJECT_LOCK (self);
  gst_glm4v_model_config_copy (config, &self->settings.model);
  GST_OBJECT_UNLOCK (self);
  if (!config->dir && !config->remote.endpoint)
    config->dir = gst_glm4v_find_model (&looked);
  if (config->dir || config->remote.endpoint)
    return TRUE;
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
      GST_GLM4V_FAULT_NO_MODEL, NULL, looked);
  g_free (looked);
  return FALSE;
}

/* Structures take UTF-8 only, and properties anything. */
static void
set_text (GstStructure * structure, const gchar * field, const gchar * text)
{
  GValue value = G_VALUE_INIT;

  g_value_init (&value, G_TYPE_STRING);
  g_value_take_string (&value, g_utf8_make_valid (text, -1));
  gst_structure_take_value (structure, field, &value);
}

/* What is known before a server has answered. */
static void
set_server_info (GstGlm4vDescribe * self, const GstGlm4vRemoteConfig * config)
{
  GstStructure *fresh = gst_structure_new_empty ("model-info"), *old;

  set_text (fresh, "endpoint", config->endpoint);
  if (config->model)
    set_text (fresh, "name", config->model);
  g_mutex_lock (&self->lock);
  old = self->model_info;
  self->model_info = fresh;
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&old, gst_structure_free);
}

static gboolean
validate_model (GstGlm4vDescribe * self, const GstGlm4vModelConfig * config,
    glm4v_model_info * info)
{
  glm4v_model_options options = gst_glm4v_model_config_options (config);
  glm4v_error error = { 0 };
  gint code;

  if (!g_file_test (config->dir, G_FILE_TEST_IS_DIR)) {
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
        GST_GLM4V_FAULT_NO_MODEL, config->dir,
        g_file_test (config->dir, G_FILE_TEST_EXISTS) ?
        "this is not a directory" : "there is no such directory");
    return FALSE;
  }
  code = glm4v_model_inspect (config->dir, &options, info, &error);
  if (code != 0) {
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
        gst_glm4v_fault_from_engine (code, TRUE), config->dir, error.msg);
    return FALSE;
  }
  set_model_info (self, info, FALSE);
  return TRUE;
}

GstStructure *
gst_glm4v_load_model_info (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstStructure *info;

  g_mutex_lock (&self->lock);
  info = self->model_info ? gst_structure_copy (self->model_info) : NULL;
  g_mutex_unlock (&self->lock);
  if (info)
    gst_structure_set (info, "sharers", G_TYPE_UINT,
        worker ? gst_glm4v_worker_count_sharers (worker) : 0, NULL);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return info;
}

void
gst_glm4v_load_stop (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker;
  GstGlm4vModel *model;

  g_mutex_lock (&self->lock);
  worker = g_steal_pointer (&self->worker);
  g_mutex_unlock (&self->lock);
  if (worker && !gst_glm4v_worker_free (worker))
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
        GST_GLM4V_FAULT_STUCK, NULL, "it is still working");
  g_mutex_lock (&self->lock);
  model = g_steal_pointer (&self->model);
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&model, g_atomic_rc_box_release);
  gst_glm4v_device_forget (self);
}

/* Join or begin an engine, or a client of servers, and wait for it on a worker.
 * NULL after an error was posted. */
static GstGlm4vWorker *
start_worker (GstGlm4vDescribe * self, const GstGlm4vModelConfig * config,
    const gchar * hash)
{
  static const GstGlm4vWorkerCallbacks callbacks = { on_progress, on_loaded,
    on_check, on_prepare, on_partial, on_done, on_stalled
  };
  gchar *name = gst_object_get_path_string (GST_OBJECT (self)), *why = NULL;
  GstGlm4vFault fault = GST_GLM4V_FAULT_THREAD;
  GstGlm4vDescriber *describer = config->remote.endpoint ?
      gst_glm4v_remote_new (config, &fault, &why) :
      gst_glm4v_local_new (config, hash, name, &fault, &why);
  GstGlm4vWorker *worker = NULL;

  if (describer) {
    post_progress (self, GST_PROGRESS_TYPE_START, config->remote.endpoint ?
        "A server is going to be asked" : "Loading the model");
    fault = GST_GLM4V_FAULT_THREAD;
    worker = gst_glm4v_worker_new (describer, &callbacks, self, &why);
    if (!worker)
      post_progress (self, GST_PROGRESS_TYPE_ERROR, why);
  }
  if (!worker)
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR, fault, name,
        why);
  g_free (why);
  g_free (name);
  return worker;
}

gboolean
gst_glm4v_load_start (GstGlm4vDescribe * self)
{
  GstGlm4vModelConfig config = { 0 };
  GstGlm4vWorker *worker = NULL;
  glm4v_model_info info = { 0 };
  gboolean ready = resolve_config (self, &config), remote;

  remote = config.remote.endpoint != NULL;
  if (ready && remote)
    set_server_info (self, &config.remote);
  else if (ready)
    ready = validate_model (self, &config, &info);
  if (ready) {
    g_mutex_lock (&self->lock);
    self->load_state = remote ? GST_GLM4V_LOADED : GST_GLM4V_LOADING;
    g_mutex_unlock (&self->lock);
    worker = start_worker (self, &config, info.hash);
  }
  gst_glm4v_model_config_clear (&config);
  g_mutex_lock (&self->lock);
  self->worker = worker;
  g_mutex_unlock (&self->lock);
  return worker != NULL;
}

gboolean
gst_glm4v_load_refresh (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstGlm4vModelConfig config = { 0 };
  gboolean resolved, same;

  if (!worker)                  /* an earlier refresh failed */
    return gst_glm4v_load_start (self);
  resolved = resolve_config (self, &config);
  same = resolved && gst_glm4v_model_config_equal (&config,
      gst_glm4v_worker_get_config (worker));
  gst_glm4v_model_config_clear (&config);
  gst_glm4v_worker_unref (worker);
  if (same || !resolved)
    return resolved;
  gst_glm4v_load_stop (self);
  return gst_glm4v_load_start (self);
}
