/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The values of the properties: plain data, which the element guards with its
 * object lock and takes copies of. */
#include "gstglm4vproperties.h"

#include "gstglm4varray.h"
#include "gstglm4vframe.h"

void
gst_glm4v_settings_init (GstGlm4vSettings * settings)
{
  *settings = (GstGlm4vSettings) {
    .model.device = g_strdup (GST_GLM4V_DEFAULT_DEVICE),
    .model.kv_cache = g_strdup (GST_GLM4V_DEFAULT_KV_CACHE),
    .model.max_batch = GLM4V_DEFAULT_BATCH,
    .model.remote.max_pixels = GST_GLM4V_DEFAULT_REMOTE_MAX_PIXELS,
    .question.prompt = g_strdup (GST_GLM4V_DEFAULT_PROMPT),
    .question.max_tokens = GLM4V_DEFAULT_TOKENS,
    .question.top_p = 1.0,
    .sampling = {GST_GLM4V_SAMPLE_AUTO, GST_CLOCK_TIME_NONE,
        GST_GLM4V_DEFAULT_NTH},
    .reading = {GST_GLM4V_DEFAULT_READING_SPEED, GST_GLM4V_DEFAULT_LINE_LENGTH,
        GST_GLM4V_DEFAULT_LINES},
    .clip = {1, GST_GLM4V_DEFAULT_WINDOW},
    .scene_threshold = GST_GLM4V_DEFAULT_SCENE_THRESHOLD,
    .stall_timeout = GST_GLM4V_DEFAULT_STALL_TIMEOUT,
    .eos_timeout = GST_GLM4V_DEFAULT_EOS_TIMEOUT,
    .gap_interval = GST_GLM4V_DEFAULT_GAP_INTERVAL,
    .gray_bits = GST_GLM4V_MAX_GRAY_BITS,
    .attach_meta = TRUE,
    .post_messages = TRUE,
    .json_sync = TRUE,
    .leaky = GST_GLM4V_LEAKY_DOWNSTREAM,
    .history = {1, GST_GLM4V_DEFAULT_COOLDOWN},
  };
  gst_glm4v_shape_settings_init (&settings->shape);
}

void
gst_glm4v_settings_clear (GstGlm4vSettings * settings)
{
  gst_glm4v_model_config_clear (&settings->model);
  gst_glm4v_question_clear (&settings->question);
  g_strfreev (settings->prompts);
  g_free (settings->roi.only_on);
  gst_glm4v_shape_settings_clear (&settings->shape);
}

static void
set_string (gchar ** field, const GValue * value, const gchar * instead)
{
  gchar *text = g_value_dup_string (value);

  g_free (*field);
  *field = text ? text : g_strdup (instead);
}

/* Four numbers, or none. */
static void
set_roi (GstGlm4vSettings * s, const GValue * value)
{
  guint n = gst_value_array_get_size (value), i;

  s->bad_roi = n != 0 && n != 4;
  for (i = 0; i < 4; i++)
    s->roi.rect[i] = n == 4 ?
        g_value_get_int (gst_value_array_get_value (value, i)) : 0;
}

static void
get_roi (const GstGlm4vSettings * s, GValue * value)
{
  guint i;

  for (i = 0; s->roi.rect[2] > 0 && i < 4; i++) {
    GValue number = G_VALUE_INIT;

    g_value_init (&number, G_TYPE_INT);
    g_value_set_int (&number, s->roi.rect[i]);
    gst_value_array_append_and_take_value (value, &number);
  }
}

gboolean
gst_glm4v_settings_set (GstGlm4vSettings * s, guint id, const GValue * value)
{
  s->serial++;
  switch (id) {
    case PROP_MODEL_LOCATION:
      set_string (&s->model.dir, value, NULL);
      break;
    case PROP_MODEL_KEY:
      set_string (&s->model.key, value, NULL);
      break;
    case PROP_MAX_BATCH:
      s->model.max_batch = g_value_get_uint (value);
      break;
    case PROP_CONTEXT_LENGTH:
      s->model.context_length = g_value_get_uint (value);
      break;
    case PROP_IDLE_UNLOAD:
      s->model.idle_unload = g_value_get_uint64 (value);
      break;
    case PROP_DEVICE:
      set_string (&s->model.device, value, GST_GLM4V_DEFAULT_DEVICE);
      break;
    case PROP_LAYERS:
      set_string (&s->model.layers, value, NULL);
      break;
    case PROP_GPU_MEMORY_LIMIT:
      s->model.gpu_memory_limit = g_value_get_uint64 (value);
      break;
    case PROP_QUANTIZATION:
      set_string (&s->model.quantization, value, NULL);
      break;
    case PROP_KV_CACHE:
      set_string (&s->model.kv_cache, value, GST_GLM4V_DEFAULT_KV_CACHE);
      break;
    case PROP_N_THREADS:
      s->model.n_threads = g_value_get_uint (value);
      break;
    case PROP_MAX_PIXELS:
      s->model.max_pixels = g_value_get_uint64 (value);
      break;
    case PROP_PROMPT:
      set_string (&s->question.prompt, value, GST_GLM4V_DEFAULT_PROMPT);
      break;
    case PROP_PROMPTS:
      gst_glm4v_array_to_strings (value, &s->prompts);
      break;
    case PROP_PROMPT_LOCATION:
      set_string (&s->question.prompt_file, value, NULL);
      break;
    case PROP_CONTEXT_PROMPT:
      set_string (&s->question.context, value, NULL);
      break;
    case PROP_CAMERA:
      set_string (&s->question.camera, value, NULL);
      break;
    case PROP_FRAMES_PER_REQUEST:
      s->clip.n = g_value_get_uint (value);
      break;
    case PROP_WINDOW:
      s->clip.window = g_value_get_uint64 (value);
      break;
    case PROP_ONLY_ON:
      set_string (&s->roi.only_on, value, NULL);
      break;
    case PROP_ROI:
      set_roi (s, value);
      break;
    case PROP_ROI_MODE:
      s->roi.mode = g_value_get_enum (value);
      break;
    case PROP_SYSTEM_PROMPT:
      set_string (&s->question.system, value, NULL);
      break;
    case PROP_MAX_TOKENS:
      s->question.max_tokens = g_value_get_uint (value);
      break;
    case PROP_TEMPERATURE:
      s->question.temperature = g_value_get_double (value);
      break;
    case PROP_TOP_K:
      s->question.top_k = g_value_get_uint (value);
      break;
    case PROP_TOP_P:
      s->question.top_p = g_value_get_double (value);
      break;
    case PROP_SEED:
      s->question.seed = g_value_get_uint64 (value);
      break;
    case PROP_THINKING:
      s->question.thinking = g_value_get_boolean (value);
      break;
    case PROP_SPECULATION:
      s->question.speculation = g_value_get_enum (value);
      break;
    case PROP_SAMPLE_MODE:
      s->sampling.mode = g_value_get_enum (value);
      break;
    case PROP_INTERVAL:
      s->sampling.interval = g_value_get_uint64 (value);
      break;
    case PROP_NTH:
      s->sampling.nth = g_value_get_uint (value);
      break;
    case PROP_SCENE_THRESHOLD:
      s->scene_threshold = g_value_get_double (value);
      break;
    case PROP_CHANGE_THRESHOLD:
      s->change_threshold = g_value_get_double (value);
      break;
    case PROP_MODE:
      s->mode = g_value_get_enum (value);
      break;
    case PROP_MAX_PENDING:
      s->max_pending = g_value_get_uint (value);
      break;
    case PROP_DEADLINE:
      s->deadline = g_value_get_uint64 (value);
      break;
    case PROP_STALL_TIMEOUT:
      s->stall_timeout = g_value_get_uint64 (value);
      break;
    case PROP_GRAY_BITS:
      s->gray_bits = g_value_get_uint (value);
      break;
    case PROP_EOS_TIMEOUT:
      s->eos_timeout = g_value_get_uint64 (value);
      break;
    case PROP_ON_ERROR:
      s->on_error = g_value_get_enum (value);
      break;
    case PROP_ATTACH_META:
      s->attach_meta = g_value_get_boolean (value);
      break;
    case PROP_PERSIST_META:
      s->persist_meta = g_value_get_boolean (value);
      break;
    case PROP_POST_MESSAGES:
      s->post_messages = g_value_get_boolean (value);
      break;
    case PROP_GAP_INTERVAL:
      s->gap_interval = g_value_get_uint64 (value);
      break;
    case PROP_TEXT_DURATION:
      s->text_duration = g_value_get_uint64 (value);
      break;
    case PROP_READING_SPEED:
      s->reading.speed = g_value_get_uint (value);
      break;
    case PROP_MAX_LINE_LENGTH:
      s->reading.max_line_length = g_value_get_uint (value);
      break;
    case PROP_MAX_LINES:
      s->reading.max_lines = g_value_get_uint (value);
      break;
    case PROP_SUPPRESS_DUPLICATES:
      s->suppress_duplicates = g_value_get_boolean (value);
      break;
    case PROP_LATENESS:
      s->lateness = g_value_get_uint64 (value);
      break;
    case PROP_LATENCY:
      s->latency = g_value_get_uint64 (value);
      break;
    case PROP_LEAKY:
      s->leaky = g_value_get_enum (value);
      break;
    case PROP_HYSTERESIS:
      s->history.hysteresis = g_value_get_uint (value);
      break;
    case PROP_COOLDOWN:
      s->history.cooldown = g_value_get_uint64 (value);
      break;
    case PROP_JSON_SYNC:
      s->json_sync = g_value_get_boolean (value);
      break;
    case PROP_SEND_EVENTS:
      s->send_events = g_value_get_boolean (value);
      break;
    default:
      if (gst_glm4v_remote_config_set (&s->model.remote, id, value))
        return TRUE;
      s->shape_serial++;
      return gst_glm4v_shape_settings_set (&s->shape, id, value);
  }
  return TRUE;
}

gboolean
gst_glm4v_settings_get (const GstGlm4vSettings * s, guint id, GValue * value)
{
  switch (id) {
    case PROP_MODEL_LOCATION:
      g_value_set_string (value, s->model.dir);
      break;
    case PROP_MODEL_KEY:
      g_value_set_string (value, s->model.key);
      break;
    case PROP_MAX_BATCH:
      g_value_set_uint (value, s->model.max_batch);
      break;
    case PROP_CONTEXT_LENGTH:
      g_value_set_uint (value, s->model.context_length);
      break;
    case PROP_IDLE_UNLOAD:
      g_value_set_uint64 (value, s->model.idle_unload);
      break;
    case PROP_DEVICE:
      g_value_set_string (value, s->model.device);
      break;
    case PROP_LAYERS:
      g_value_set_string (value, s->model.layers);
      break;
    case PROP_GPU_MEMORY_LIMIT:
      g_value_set_uint64 (value, s->model.gpu_memory_limit);
      break;
    case PROP_QUANTIZATION:
      g_value_set_string (value, s->model.quantization);
      break;
    case PROP_KV_CACHE:
      g_value_set_string (value, s->model.kv_cache);
      break;
    case PROP_N_THREADS:
      g_value_set_uint (value, s->model.n_threads);
      break;
    case PROP_MAX_PIXELS:
      g_value_set_uint64 (value, s->model.max_pixels);
      break;
    case PROP_PROMPT:
      g_value_set_string (value, s->question.prompt);
      break;
    case PROP_PROMPTS:
      gst_glm4v_array_from_strings (value, s->prompts);
      break;
    case PROP_PROMPT_LOCATION:
      g_value_set_string (value, s->question.prompt_file);
      break;
    case PROP_CONTEXT_PROMPT:
      g_value_set_string (value, s->question.context);
      break;
    case PROP_CAMERA:
      g_value_set_string (value, s->question.camera);
      break;
    case PROP_FRAMES_PER_REQUEST:
      g_value_set_uint (value, s->clip.n);
      break;
    case PROP_WINDOW:
      g_value_set_uint64 (value, s->clip.window);
      break;
    case PROP_ONLY_ON:
      g_value_set_string (value, s->roi.only_on);
      break;
    case PROP_ROI:
      get_roi (s, value);
      break;
    case PROP_ROI_MODE:
      g_value_set_enum (value, s->roi.mode);
      break;
    case PROP_SYSTEM_PROMPT:
      g_value_set_string (value, s->question.system);
      break;
    case PROP_MAX_TOKENS:
      g_value_set_uint (value, s->question.max_tokens);
      break;
    case PROP_TEMPERATURE:
      g_value_set_double (value, s->question.temperature);
      break;
    case PROP_TOP_K:
      g_value_set_uint (value, s->question.top_k);
      break;
    case PROP_TOP_P:
      g_value_set_double (value, s->question.top_p);
      break;
    case PROP_SEED:
      g_value_set_uint64 (value, s->question.seed);
      break;
    case PROP_THINKING:
      g_value_set_boolean (value, s->question.thinking);
      break;
    case PROP_SPECULATION:
      g_value_set_enum (value, s->question.speculation);
      break;
    case PROP_SAMPLE_MODE:
      g_value_set_enum (value, s->sampling.mode);
      break;
    case PROP_INTERVAL:
      g_value_set_uint64 (value, s->sampling.interval);
      break;
    case PROP_NTH:
      g_value_set_uint (value, s->sampling.nth);
      break;
    case PROP_SCENE_THRESHOLD:
      g_value_set_double (value, s->scene_threshold);
      break;
    case PROP_CHANGE_THRESHOLD:
      g_value_set_double (value, s->change_threshold);
      break;
    case PROP_MODE:
      g_value_set_enum (value, s->mode);
      break;
    case PROP_MAX_PENDING:
      g_value_set_uint (value, s->max_pending);
      break;
    case PROP_DEADLINE:
      g_value_set_uint64 (value, s->deadline);
      break;
    case PROP_STALL_TIMEOUT:
      g_value_set_uint64 (value, s->stall_timeout);
      break;
    case PROP_GRAY_BITS:
      g_value_set_uint (value, s->gray_bits);
      break;
    case PROP_EOS_TIMEOUT:
      g_value_set_uint64 (value, s->eos_timeout);
      break;
    case PROP_ON_ERROR:
      g_value_set_enum (value, s->on_error);
      break;
    case PROP_ATTACH_META:
      g_value_set_boolean (value, s->attach_meta);
      break;
    case PROP_PERSIST_META:
      g_value_set_boolean (value, s->persist_meta);
      break;
    case PROP_POST_MESSAGES:
      g_value_set_boolean (value, s->post_messages);
      break;
    case PROP_GAP_INTERVAL:
      g_value_set_uint64 (value, s->gap_interval);
      break;
    case PROP_TEXT_DURATION:
      g_value_set_uint64 (value, s->text_duration);
      break;
    case PROP_READING_SPEED:
      g_value_set_uint (value, s->reading.speed);
      break;
    case PROP_MAX_LINE_LENGTH:
      g_value_set_uint (value, s->reading.max_line_length);
      break;
    case PROP_MAX_LINES:
      g_value_set_uint (value, s->reading.max_lines);
      break;
    case PROP_SUPPRESS_DUPLICATES:
      g_value_set_boolean (value, s->suppress_duplicates);
      break;
    case PROP_LATENESS:
      g_value_set_uint64 (value, s->lateness);
      break;
    case PROP_LATENCY:
      g_value_set_uint64 (value, s->latency);
      break;
    case PROP_LEAKY:
      g_value_set_enum (value, s->leaky);
      break;
    case PROP_HYSTERESIS:
      g_value_set_uint (value, s->history.hysteresis);
      break;
    case PROP_COOLDOWN:
      g_value_set_uint64 (value, s->history.cooldown);
      break;
    case PROP_JSON_SYNC:
      g_value_set_boolean (value, s->json_sync);
      break;
    case PROP_SEND_EVENTS:
      g_value_set_boolean (value, s->send_events);
      break;
    default:
      return gst_glm4v_remote_config_get (&s->model.remote, id, value)
          || gst_glm4v_shape_settings_get (&s->shape, id, value);
  }
  return TRUE;
}

GstGlm4vSampling
gst_glm4v_settings_sampling (const GstGlm4vSettings * s)
{
  GstGlm4vSampling sampling = s->sampling;

  if (sampling.mode == GST_GLM4V_SAMPLE_AUTO) {
    sampling.mode = GST_GLM4V_SAMPLE_INTERVAL;
    sampling.paced = !GST_CLOCK_TIME_IS_VALID (sampling.interval)
        && s->reading.speed > 0 && s->text_duration == 0
        && s->shape.output == GST_GLM4V_OUTPUT_TEXT;
  }
  sampling.interval = GST_CLOCK_TIME_IS_VALID (sampling.interval) ?
      MIN (sampling.interval, G_MAXINT64) : GST_GLM4V_DEFAULT_INTERVAL;
  return sampling;
}

const gchar *
gst_glm4v_settings_conflict (const GstGlm4vSettings * s, GstGlm4vFault * fault)
{
  *fault = GST_GLM4V_FAULT_CONFLICT;
  if (s->model.remote.endpoint && s->model.dir)
    return "endpoint is set and so is model-location: a server or an engine "
        "describes frames";
  if (s->change_threshold > 0 && s->sampling.mode == GST_GLM4V_SAMPLE_TRIGGER)
    return "change-threshold is set and sample-mode is trigger: each trigger "
        "has an answer of its own";
  if (s->question.prompt_file && (s->prompts
          || !g_str_equal (s->question.prompt, GST_GLM4V_DEFAULT_PROMPT)))
    return "prompt-location is set and so is prompt or prompts";
  if (s->clip.n > 1 && (s->roi.mode == GST_GLM4V_ROI_META
          || s->sampling.mode == GST_GLM4V_SAMPLE_SCENE_CHANGE))
    return "frames-per-request is more than 1 and roi-mode is meta or "
        "sample-mode is scene-change: frames of a clip belong together";
  if (s->bad_roi)
    return "roi is not four numbers: x, y, width, height";
  if (s->leaky == GST_GLM4V_LEAKY_NO && s->mode != GST_GLM4V_MODE_SYNC)
    return "leaky is no and mode is not sync: only there can video wait";
  *fault = GST_GLM4V_FAULT_SHAPE;
  return s->question.shape->error;
}
