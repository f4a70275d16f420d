/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "source pad": the engine's outcome becomes a result that applications
 * read. docs/element.md lists the keys. */
#include "gstglm4vcaption.h"

#include "gstglm4vregion.h"
#include "gstglm4vverdict.h"

#include <string.h>

#define RESULT_VERSION 1
#define MAX_TEXT_BYTES 65536

void
gst_glm4v_caption_register_meta (void)
{
  static const gchar *tags[] = { NULL };

  /* A second registration would be a critical. */
  if (!gst_meta_get_info (GST_GLM4V_META_NAME))
    gst_meta_register_custom (GST_GLM4V_META_NAME, tags, NULL, NULL, NULL);
}

/* ---- text ---- */

static gboolean
is_unwanted (gunichar c)
{
  if (c == '\n' || c == '\t')
    return FALSE;
  return c < 0x20 || (c >= 0x7f && c < 0xa0)
      || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069)
      || c == 0x2028 || c == 0x2029 || c == 0xfeff;
}

gchar *
gst_glm4v_caption_sanitize (const gchar * text)
{
  gchar *valid = g_utf8_make_valid (text, strnlen (text, MAX_TEXT_BYTES));
  GString *clean = g_string_sized_new (strlen (valid) + 1);
  const gchar *p;

  for (p = valid; *p; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);

    if (!is_unwanted (c))
      g_string_append_unichar (clean, c);
  }
  g_free (valid);
  return g_strstrip (g_string_free (clean, FALSE));
}

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
  gchar *forms = g_strdup_printf ("text=%s,vision=%s,embedding=%s,lm-head=%s",
      info->form[GLM4V_PART_TEXT], info->form[GLM4V_PART_VISION],
      info->form[GLM4V_PART_EMBEDDING], info->form[GLM4V_PART_LM_HEAD]);
  GstStructure *model = gst_structure_new ("model",
      "name", G_TYPE_STRING, info->name,
      "hash", G_TYPE_STRING, info->hash,
      "quant", G_TYPE_STRING, forms,
      "isa", G_TYPE_STRING, info->isa, NULL);

  if (*info->products)
    gst_structure_set (model, "products", G_TYPE_STRING, info->products, NULL);
  g_free (forms);
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

static gchar *
prompt_hash (const GstGlm4vQuestion * question)
{
  GChecksum *sum = g_checksum_new (G_CHECKSUM_SHA256);
  gchar *hash;

  if (question->system)
    g_checksum_update (sum, (const guchar *) question->system, -1);
  g_checksum_update (sum, (const guchar *) "", 1);      /* the NUL parts them */
  g_checksum_update (sum, (const guchar *) question->prompt, -1);
  hash = g_strndup (g_checksum_get_string (sum), 16);
  g_checksum_free (sum);
  return hash;
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

/* What only an answer from the engine has. */
static void
add_outcome (GstStructure * result, const GstGlm4vOutcome * outcome)
{
  take_string (result, "text", gst_glm4v_caption_sanitize (outcome->text ?
          outcome->text : ""));
  if (outcome->reasoning && *outcome->reasoning)
    take_string (result, "reasoning",
        gst_glm4v_caption_sanitize (outcome->reasoning));
  if (outcome->box && *outcome->box)
    take_string (result, "box", gst_glm4v_caption_sanitize (outcome->box));
  if (outcome->fields)
    gst_structure_foreach (outcome->fields, copy_field, result);
  if (outcome->width > 0)
    gst_structure_set (result, "width", G_TYPE_UINT, outcome->width,
        "height", G_TYPE_UINT, outcome->height, NULL);
  take_structure (result, "timings", timings_of (outcome));
  take_structure (result, "tokens", gst_structure_new ("tokens",
          "in", G_TYPE_UINT, outcome->prompt_tokens,
          "out", G_TYPE_UINT, outcome->output_tokens,
          "vision", G_TYPE_UINT, outcome->vision_tokens, NULL));
}

static GstStructure *
describe_roi (const GstGlm4vRoi * roi)
{
  GstStructure *one = gst_structure_new ("roi",
      "x", G_TYPE_INT, roi->x, "y", G_TYPE_INT, roi->y,
      "width", G_TYPE_INT, roi->width, "height", G_TYPE_INT, roi->height,
      NULL);

  if (roi->label)
    take_string (one, "label", gst_glm4v_caption_sanitize (roi->label));
  return one;
}

GstStructure *
gst_glm4v_caption_build (const GstGlm4vJob * job, const GstStructure * model)
{
  const gchar *message = gst_glm4v_job_message (job);
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
    take_structure (result, "clip", gst_structure_new ("clip",
            "frames", G_TYPE_UINT, job->clip_frames,
            "length", G_TYPE_UINT64, job->clip_length, NULL));
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
    take_string (result, "message", gst_glm4v_caption_sanitize (message));
  if (model)
    take_structure (result, "model", gst_structure_copy (model));
  take_string (result, "prompt-hash", prompt_hash (&job->question));
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
