/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vjob.h"

#include <string.h>

typedef struct
{
  GstGlm4vStatus status;
  const gchar *finish_reason, *message;
} End;

/* END_OUTCOME has no row: the outcome has the text. */
static const End ends[GST_GLM4V_N_ENDS] = {
  [GST_GLM4V_END_REPLACED] = {GST_GLM4V_STATUS_DROPPED, "busy",
        "a newer frame replaced it while the model was busy"},
  [GST_GLM4V_END_FULL] = {GST_GLM4V_STATUS_DROPPED, "busy",
        "max-pending frames are waiting already"},
  [GST_GLM4V_END_LOADING] = {GST_GLM4V_STATUS_DROPPED, "loading",
        "the model was not loaded yet"},
  [GST_GLM4V_END_NO_MODEL] = {GST_GLM4V_STATUS_ERROR, "error",
        "the model could not be loaded"},
  [GST_GLM4V_END_EOS] = {GST_GLM4V_STATUS_DROPPED, "end",
        "the stream ended and eos-timeout passed"},
  [GST_GLM4V_END_NO_FRAME] = {GST_GLM4V_STATUS_DROPPED, "end",
        "the stream ended before there was a frame"},
  [GST_GLM4V_END_CANCELED] = {GST_GLM4V_STATUS_DROPPED, "canceled",
        "the action signal cancel was emitted"},
  [GST_GLM4V_END_NO_REGION] = {GST_GLM4V_STATUS_ERROR, "error",
        "the frame carries no region to ask about"},
  [GST_GLM4V_END_NO_PROMPT] = {GST_GLM4V_STATUS_ERROR, "error",
        "the file of prompt-location cannot be used"},
  [GST_GLM4V_END_SETTINGS] = {GST_GLM4V_STATUS_ERROR, "error",
        "the properties contradict each other"},
  [GST_GLM4V_END_BAD_FRAME] = {GST_GLM4V_STATUS_ERROR, "error",
        "the frame does not match its caps"},
  [GST_GLM4V_END_LATE] = {GST_GLM4V_STATUS_TIMEOUT, "deadline",
        "the deadline passed"},
  [GST_GLM4V_END_UNCHANGED] = {GST_GLM4V_STATUS_UNCHANGED, "unchanged", NULL},
  [GST_GLM4V_END_STALLED] = {GST_GLM4V_STATUS_ERROR, "error",
        "the engine made no progress for stall-timeout"},
};

void
gst_glm4v_question_copy (GstGlm4vQuestion * to, const GstGlm4vQuestion * from)
{
  *to = *from;
  to->prompt = g_strdup (from->prompt);
  to->templates = g_strdupv (from->templates);
  to->prompt_file = g_strdup (from->prompt_file);
  to->camera = g_strdup (from->camera);
  to->system = g_strdup (from->system);
  to->context = g_strdup (from->context);
  to->shape = from->shape ? gst_glm4v_shape_ref (from->shape) : NULL;
}

void
gst_glm4v_question_clear (GstGlm4vQuestion * question)
{
  g_free (question->prompt);
  g_strfreev (question->templates);
  g_free (question->prompt_file);
  g_free (question->camera);
  g_free (question->system);
  g_free (question->context);
  g_clear_pointer (&question->shape, gst_glm4v_shape_unref);
  memset (question, 0, sizeof *question);
}

GstGlm4vJob *
gst_glm4v_job_new (void)
{
  GstGlm4vJob *job = g_new0 (GstGlm4vJob, 1);

  job->refs = 1;
  return job;
}

GstGlm4vJob *
gst_glm4v_job_ref (GstGlm4vJob * job)
{
  g_atomic_int_inc (&job->refs);
  return job;
}

void
gst_glm4v_outcome_clear (GstGlm4vOutcome * outcome)
{
  g_free (outcome->message);
  g_free (outcome->model);
  glm4v_result_free (&outcome->answer);
  g_strfreev (outcome->pictures);
  g_clear_pointer (&outcome->times, g_array_unref);
  memset (outcome, 0, sizeof *outcome);
}

void
gst_glm4v_job_unref (GstGlm4vJob * job)
{
  if (!g_atomic_int_dec_and_test (&job->refs))
    return;
  gst_clear_buffer (&job->buffer);
  g_clear_pointer (&job->clip, g_ptr_array_unref);
  gst_glm4v_question_clear (&job->question);
  gst_glm4v_outcome_clear (&job->outcome);
  if (G_IS_VALUE (&job->trigger_id))
    g_value_unset (&job->trigger_id);
  g_clear_pointer (&job->roi, gst_glm4v_roi_free);
  g_free (job->end_detail);
  g_free (job->series);
  g_clear_pointer (&job->settings, g_ref_string_release);
  g_clear_pointer (&job->model, g_atomic_rc_box_release);
  g_clear_pointer (&job->answered, gst_glm4v_job_unref);
  gst_glm4v_record_clear (&job->record);
  g_clear_pointer (&job->result, gst_structure_free);
  g_free (job);
}

GstGlm4vStatus
gst_glm4v_job_status (const GstGlm4vJob * job)
{
  if (job->end != GST_GLM4V_END_OUTCOME)
    return ends[job->end].status;
  switch (job->outcome.status) {
    case GLM4V_OK:
      return GST_GLM4V_STATUS_OK;
    case GLM4V_ERR_DEADLINE:
      return GST_GLM4V_STATUS_TIMEOUT;
    default:
      return GST_GLM4V_STATUS_ERROR;
  }
}

void
gst_glm4v_job_end (GstGlm4vJob * job, GstGlm4vEnd end)
{
  if (job->end == GST_GLM4V_END_OUTCOME)
    job->end = end;
}

const gchar *
gst_glm4v_status_name (GstGlm4vStatus status)
{
  static const gchar *const names[] = { "ok", "unchanged", "timeout", "dropped",
    "error"
  };

  G_STATIC_ASSERT (G_N_ELEMENTS (names) == GST_GLM4V_N_STATUSES);
  return names[status];
}

const gchar *
gst_glm4v_job_finish_reason (const GstGlm4vJob * job)
{
  if (job->end != GST_GLM4V_END_OUTCOME)
    return ends[job->end].finish_reason;
  return glm4v_contract_finish_name (job->outcome.finish);
}

const gchar *
gst_glm4v_job_message (const GstGlm4vJob * job)
{
  if (job->end == GST_GLM4V_END_OUTCOME)
    return job->outcome.status != 0 ? job->outcome.message : NULL;
  return job->end_detail ? job->end_detail : ends[job->end].message;
}

void
gst_glm4v_outcome_fail (GstGlm4vOutcome * outcome, gint status,
    GstGlm4vFault fault, const gchar * message)
{
  outcome->status = status;
  outcome->fault = fault;
  outcome->finish = status == GLM4V_ERR_DEADLINE ? GLM4V_FINISH_DEADLINE :
      GLM4V_FINISH_ERROR;
  outcome->message = g_strdup (message);
}
