/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "source pad": the engine's outcome becomes a result that applications
 * read. docs/element.md lists the keys. */
#include "gstglm4vcaption.h"

#include "contract/digest.h"
#include "contract/text.h"
#include "gstglm4varray.h"
#include "gstglm4vregion.h"
#include "gstglm4vverdict.h"

#include <string.h>

#define RESULT_VERSION 1

void
gst_glm4v_caption_register_meta (void)
{
  static const gchar *tags[] = { NULL };

  /* A second registration would be a critical. */
  if (!gst_meta_get_info (GST_GLM4V_META_NAME))
    gst_meta_register_custom (GST_GLM4V_META_NAME, tags, NULL, NULL, NULL);
}

/* ---- text ---- */

/* Readers differ in what is an empty line: any that shows nothing. */
static gboolean
shows_nothing (const gchar * line)
{
  for (; *line; line = g_utf8_next_char (line)) {
    gunichar c = g_utf8_get_char (line);

    if (!g_unichar_isspace (c) && !g_unichar_iszerowidth (c))
      return FALSE;
  }
  return TRUE;
}

gchar *
gst_glm4v_caption_cue (const gchar * text)
{
  gchar **lines = g_strsplit (text, "\n", -1);
  GString *cue = g_string_sized_new (strlen (text) + 1);
  guint i;

  for (i = 0; lines[i]; i++)
    if (!shows_nothing (lines[i]))
      g_string_append_printf (cue, "%s%s", cue->len > 0 ? "\n" : "", lines[i]);
  g_strfreev (lines);
  g_string_replace (cue, "-->", "\342\206\222", 0);      /* U+2192, an arrow */
  return g_string_free (cue, FALSE);
}

/* ---- contract ---- */

GstStructure *
gst_glm4v_caption_model (const glm4v_model_info * info)
{
  gchar forms[GLM4V_FORMS_SIZE];
  GstStructure *model;

  glm4v_contract_forms (forms, info);
  model = gst_structure_new ("model",
      "name", G_TYPE_STRING, info->name,
      "hash", G_TYPE_STRING, info->hash,
      "quant", G_TYPE_STRING, forms,
      "isa", G_TYPE_STRING, info->isa, NULL);

  if (*info->products)
    gst_structure_set (model, "products", G_TYPE_STRING, info->products, NULL);
  return model;
}

static GstStructure *
timings_of (const GstGlm4vOutcome * outcome)
{
  const glm4v_timings *t = &outcome->timings;

  return gst_structure_new ("timings",
      "convert", G_TYPE_UINT64, outcome->convert,
      "queued", G_TYPE_UINT64, t->queued,
      "preprocess", G_TYPE_UINT64, t->preprocess,
      "vision", G_TYPE_UINT64, t->vision,
      "prefill", G_TYPE_UINT64, t->prefill,
      "first-token", G_TYPE_UINT64, t->first_token,
      "decode", G_TYPE_UINT64, t->decode,
      "total", G_TYPE_UINT64, t->total, NULL);
}

static void
take_string (GstStructure * result, const gchar * key, gchar * text)
{
  GValue value = G_VALUE_INIT;

  g_value_init (&value, G_TYPE_STRING);
  g_value_take_string (&value, text);
  gst_structure_take_value (result, key, &value);
}

static void
take_structure (GstStructure * result, const gchar * key,
    GstStructure * structure)
{
  GValue value = G_VALUE_INIT;

  g_value_init (&value, GST_TYPE_STRUCTURE);
  g_value_take_boxed (&value, structure);
  gst_structure_take_value (result, key, &value);
}

static gboolean
copy_field (GQuark field, const GValue * value, gpointer user)
{
  gst_structure_id_set_value (user, field, value);
  return TRUE;
}

static void
add_pictures (GstStructure * result, gchar ** digests)
{
  GValue array = G_VALUE_INIT;

  gst_value_array_init (&array, 1);
  gst_glm4v_array_from_strings (&array, digests);
  gst_structure_take_value (result, "pictures", &array);
}

/* What only an answer from the engine has. */
static void
add_outcome (GstStructure * result, const GstGlm4vOutcome * outcome)
{
  take_string (result, "text", glm4v_contract_sanitize (outcome->text ?
          outcome->text : ""));
  if (outcome->reasoning && *outcome->reasoning)
    take_string (result, "reasoning",
        glm4v_contract_sanitize (outcome->reasoning));
  if (outcome->box && *outcome->box)
    take_string (result, "box", glm4v_contract_sanitize (outcome->box));
  if (outcome->fields)
    gst_structure_foreach (outcome->fields, copy_field, result);
  if (outcome->width > 0)
    gst_structure_set (result, "width", G_TYPE_UINT, outcome->width,
        "height", G_TYPE_UINT, outcome->height, NULL);
  if (outcome->pictures)
    add_pictures (result, outcome->pictures);
  take_structure (result, "timings", timings_of (outcome));
  take_structure (result, "tokens", gst_structure_new ("tokens",
          "in", G_TYPE_UINT, outcome->prompt_tokens,
          "out", G_TYPE_UINT, outcome->output_tokens,
          "vision", G_TYPE_UINT, outcome->vision_tokens,
          "drafted", G_TYPE_UINT, outcome->drafted_tokens,
          "accepted", G_TYPE_UINT, outcome->accepted_tokens, NULL));
}

static GstStructure *
describe_roi (const GstGlm4vRoi * roi)
{
  GstStructure *one = gst_structure_new ("roi",
      "x", G_TYPE_INT, roi->x, "y", G_TYPE_INT, roi->y,
      "width", G_TYPE_INT, roi->width, "height", G_TYPE_INT, roi->height,
      NULL);

  if (roi->label)
    take_string (one, "label", glm4v_contract_sanitize (roi->label));
  return one;
}

static GstStructure *
describe_clip (const GstGlm4vJob * job)
{
  /* An abandoned job's outcome is the worker's. */
  const GArray *times = job->end == GST_GLM4V_END_OUTCOME ?
      job->outcome.times : NULL;
  GValue array = G_VALUE_INIT;
  GstStructure *clip = gst_structure_new ("clip",
      "frames", G_TYPE_UINT, job->clip_frames,
      "length", G_TYPE_UINT64, job->clip_length, NULL);
  guint i;

  if (!times)
    return clip;
  gst_value_array_init (&array, times->len);
  for (i = 0; i < times->len; i++) {
    GValue value = G_VALUE_INIT;

    g_value_init (&value, G_TYPE_UINT64);
    g_value_set_uint64 (&value, g_array_index (times, guint64, i));
    gst_value_array_append_and_take_value (&array, &value);
  }
  gst_structure_take_value (clip, "times", &array);
  return clip;
}

GstStructure *
gst_glm4v_caption_build (const GstGlm4vJob * job, const GstStructure * model)
{
  const gchar *message = gst_glm4v_job_message (job);
  gchar hash[GLM4V_PROMPT_HASH_SIZE];
  guint64 delay = (guint64) (g_get_monotonic_time () - job->captured) * 1000;
  GstStructure *result = gst_structure_new (GST_GLM4V_RESULT_NAME,
      "version", G_TYPE_UINT, RESULT_VERSION,
      "id", G_TYPE_UINT64, job->id,
      "pts", G_TYPE_UINT64, job->pts,
      "running-time", G_TYPE_UINT64, job->running_time,
      "frame-number", G_TYPE_UINT64, job->frame_number,
      "status", G_TYPE_STRING,
      gst_glm4v_status_name (gst_glm4v_job_status (job)),
      "finish-reason", G_TYPE_STRING, gst_glm4v_job_finish_reason (job),
      "delay", G_TYPE_UINT64, delay,
      "seed", G_TYPE_UINT64, job->question.seed, NULL);

  if (job->n_prompts > 1)
    gst_structure_set (result, "prompt-number", G_TYPE_UINT,
        job->prompt_number, NULL);
  if (job->clip_frames > 0)
    take_structure (result, "clip", describe_clip (job));
  if (job->roi)
    take_structure (result, "roi", describe_roi (job->roi));
  if (job->end == GST_GLM4V_END_UNCHANGED)
    gst_structure_set (result, "refers-to", G_TYPE_UINT64, job->refers_to,
        NULL);
  if (G_IS_VALUE (&job->trigger_id))
    gst_structure_set_value (result, "trigger-id", &job->trigger_id);
  if (job->end == GST_GLM4V_END_OUTCOME)
    add_outcome (result, &job->outcome);
  else
    gst_structure_set (result, "text", G_TYPE_STRING, "", NULL);
  gst_glm4v_verdict_add (result, job);
  if (message)
    take_string (result, "message", glm4v_contract_sanitize (message));
  if (model)
    take_structure (result, "model", gst_structure_copy (model));
  glm4v_digest_prompt (hash, job->question.system, job->question.prompt);
  gst_structure_set (result, "prompt-hash", G_TYPE_STRING, hash,
      "settings", G_TYPE_STRING, job->settings_hash, NULL);
  return result;
}

void
gst_glm4v_caption_attach (GstBuffer * buffer, const GstStructure * result)
{
  GstCustomMeta *meta = gst_buffer_add_custom_meta (buffer,
      GST_GLM4V_META_NAME);

  gst_structure_foreach (result, copy_field,
      gst_custom_meta_get_structure (meta));
}
