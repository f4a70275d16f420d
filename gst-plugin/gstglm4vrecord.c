/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part of stage "source pad": what became of a job, as contract/result.c takes
 * it. Texts and numbers stay those of the job. */
#include "gstglm4vrecord.h"

#include <math.h>

#include "contract/json.h"
#include "gstglm4vjob.h"
#include "gstglm4vverdict.h"

GstGlm4vModel *
gst_glm4v_model_new (const glm4v_model_info * info)
{
  GstGlm4vModel *model = g_atomic_rc_box_new0 (GstGlm4vModel);

  model->info = *info;
  glm4v_contract_forms (model->quant, info);
  return model;
}

/* ---- ids of triggers ---- */

/* FALSE if it is none of the types that JSON has too. */
static gboolean
write_plain (glm4v_contract_json * json, const GValue * id)
{
  GValue whole = G_VALUE_INIT;

  if (G_VALUE_HOLDS_STRING (id) && g_value_get_string (id)) {
    glm4v_contract_json_string (json, NULL, g_value_get_string (id));
  } else if (G_VALUE_HOLDS_DOUBLE (id) && isfinite (g_value_get_double (id))) {
    glm4v_contract_json_number (json, NULL, g_value_get_double (id));
  } else if (G_VALUE_HOLDS_UINT64 (id)) {
    glm4v_contract_json_count (json, NULL, g_value_get_uint64 (id));
  } else if (G_VALUE_HOLDS_INT (id) || G_VALUE_HOLDS_UINT (id)
      || G_VALUE_HOLDS_INT64 (id)) {
    g_value_init (&whole, G_TYPE_INT64);
    g_value_transform (id, &whole);
    glm4v_contract_json_int (json, NULL, g_value_get_int64 (&whole));
  } else {
    return FALSE;
  }
  return TRUE;
}

/* An application gave it, of any type: others are written as GStreamer
 * serializes them. */
static gchar *
write_id (const GValue * id)
{
  glm4v_contract_json json = {.text = g_string_new (NULL) };
  gchar *serialized;

  if (!write_plain (&json, id)) {
    serialized = gst_value_serialize (id);
    glm4v_contract_json_string (&json, NULL, serialized ? serialized : "");
    g_free (serialized);
  }
  return g_string_free (json.text, FALSE);
}

/* ---- parts ---- */

static void
fill_question (GstGlm4vRecord * record, const GstGlm4vJob * job)
{
  glm4v_contract_result *result = &record->result;

  if (job->n_prompts > 1)
    result->prompt_number = &job->prompt_number;
  if (job->roi) {
    record->roi = (glm4v_contract_region) {
    job->roi->x, job->roi->y, job->roi->width, job->roi->height,
          job->roi->label};
    result->roi = &record->roi;
  }
  if (job->clip_frames > 0) {
    record->clip.frames = job->clip_frames;
    record->clip.length = job->clip_length;
    result->clip = &record->clip;
  }
  if (G_IS_VALUE (&job->trigger_id))
    record->trigger_id = write_id (&job->trigger_id);
  result->trigger_id = record->trigger_id;
  glm4v_digest_prompt (record->prompt_hash, job->question.system,
      job->question.prompt);
  result->prompt_hash = record->prompt_hash;
  result->settings = job->settings_hash;
  result->seed = job->question.seed;
}

/* What only an outcome has: that of an abandoned job is still the worker's. */
static void
fill_outcome (GstGlm4vRecord * record, const GstGlm4vOutcome * outcome)
{
  static const glm4v_result none = {.text = "",.reasoning = "",.box = "",
    .action = {"", "", "", {-1, -1}, {-1, -1}},.choice = "",.json = ""
  };
  glm4v_contract_result *result = &record->result;

  result->answer = outcome->answer ? outcome->answer : &none;
  result->width = outcome->width;
  result->height = outcome->height;
  record->stream.convert = outcome->convert;
  if (outcome->pictures) {
    result->pictures = (const char *const *) outcome->pictures;
    result->n_pictures = g_strv_length (outcome->pictures);
  }
  if (outcome->times) {
    record->clip.times = (const guint64 *) outcome->times->data;
    record->clip.n_times = outcome->times->len;
  }
}

/* Of a server's only the name is known. */
static void
fill_model (GstGlm4vRecord * record, const GstGlm4vJob * job)
{
  const GstGlm4vModel *model = job->model;

  if (job->end == GST_GLM4V_END_OUTCOME && job->outcome.model)
    record->model = (glm4v_contract_model) {.name = job->outcome.model };
  else if (model)
    record->model = (glm4v_contract_model) {
      .name = model->info.name,
      .hash = model->info.hash,
      .quant = model->quant,
      .isa = model->info.isa,
      .products = model->info.products,
      .device = model->info.image_device
    };
  record->result.model = record->model.name ? &record->model : NULL;
}

static void
set_verdict (GstGlm4vRecord * record, glm4v_verdict verdict)
{
  record->judged = TRUE;
  record->verdict = verdict;
  record->result.verdict = glm4v_verdict_name (verdict);
}

/* ---- the whole ---- */

void
gst_glm4v_record_fill (GstGlm4vJob * job, GstGlm4vModel * model)
{
  GstGlm4vRecord *record = &job->record;
  glm4v_contract_result *result = &record->result;
  GstGlm4vStatus status = gst_glm4v_job_status (job);
  glm4v_verdict verdict;

  job->model = model ? g_atomic_rc_box_acquire (model) : NULL;
  record->stream = (glm4v_contract_stream) {
    .running_time = job->running_time,
    .capture_utc = job->capture_utc,
    .frame_number = job->frame_number,
    .delay = (guint64) (g_get_monotonic_time () - job->captured) * 1000
  };
  *result = (glm4v_contract_result) {
    .id = job->id,
    .pts = job->pts,
    .stream = &record->stream,
    .status = gst_glm4v_status_name (status),
    .finish_reason = gst_glm4v_job_finish_reason (job),
    .message = gst_glm4v_job_message (job)
  };
  fill_question (record, job);
  fill_model (record, job);
  if (job->end == GST_GLM4V_END_UNCHANGED)
    result->refers_to = &job->refers_to;
  if (job->end == GST_GLM4V_END_OUTCOME)
    fill_outcome (record, &job->outcome);
  if (status == GST_GLM4V_STATUS_OK)
    result->chosen = result->answer;
  if (gst_glm4v_verdict_decide (job, &verdict))
    set_verdict (record, verdict);
}

void
gst_glm4v_record_repeat (GstGlm4vJob * job, GstGlm4vJob * answered)
{
  job->answered = gst_glm4v_job_ref (answered);
  job->record.result.chosen = answered->record.result.chosen;
  if (answered->record.judged)
    set_verdict (&job->record, answered->record.verdict);
}

void
gst_glm4v_record_clear (GstGlm4vRecord * record)
{
  g_clear_pointer (&record->trigger_id, g_free);
}
