/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vverdict.h"

#include "gstglm4varray.h"

static const gchar *const repeated[] = { "choice", "probability",
  "probabilities", "verdict", "json"
};

/* Did the engine give a share to each choice? */
static gboolean
has_shares (const GstGlm4vJob * job)
{
  const GstGlm4vShape *shape = job->question.shape;

  return gst_glm4v_job_status (job) == GST_GLM4V_STATUS_OK && shape
      && shape->n_choices > 0
      && job->outcome.n_probabilities == shape->n_choices;
}

static void
add_shares (GstStructure * result, const GstGlm4vOutcome * outcome)
{
  GValue all = G_VALUE_INIT;

  gst_value_array_init (&all, outcome->n_probabilities);
  gst_glm4v_array_from_doubles (&all, outcome->probabilities,
      outcome->n_probabilities);
  gst_structure_set (result, "probability", G_TYPE_DOUBLE,
      outcome->probability, NULL);
  gst_structure_take_value (result, "probabilities", &all);
}

void
gst_glm4v_verdict_add (GstStructure * result, const GstGlm4vJob * job)
{
  const GstGlm4vShape *shape = job->question.shape;
  const GstGlm4vOutcome *outcome = &job->outcome;
  GstGlm4vStatus status = gst_glm4v_job_status (job);
  glm4v_verdict verdict;

  if (!shape || status == GST_GLM4V_STATUS_UNCHANGED)
    return;
  if (status == GST_GLM4V_STATUS_OK && outcome->json && *outcome->json)
    gst_structure_set (result, "json", G_TYPE_STRING, outcome->json, NULL);
  if (!gst_glm4v_shape_judges (shape))
    return;
  /* An answer whose shares a server does not tell says nothing certain. */
  verdict = status == GST_GLM4V_STATUS_OK ? GLM4V_VERDICT_UNKNOWN :
      shape->timeout_verdict;
  if (status == GST_GLM4V_STATUS_OK && shape->matcher)
    verdict = glm4v_matcher_check (shape->matcher, outcome->text);
  if (status == GST_GLM4V_STATUS_OK && outcome->choice && *outcome->choice)
    gst_structure_set (result, "choice", G_TYPE_STRING, outcome->choice, NULL);
  if (has_shares (job)) {
    add_shares (result, outcome);
    verdict = glm4v_decide (outcome->probabilities, shape->fails,
        shape->thresholds, shape->n_choices);
  }
  gst_structure_set (result, "verdict", G_TYPE_STRING,
      glm4v_verdict_name (verdict), NULL);
}

void
gst_glm4v_verdict_repeat (GstStructure * result, const GstStructure * answer)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (repeated); i++)
    if (gst_structure_has_field (answer, repeated[i]))
      gst_structure_set_value (result, repeated[i],
          gst_structure_get_value (answer, repeated[i]));
}

gboolean
gst_glm4v_verdict_of (const GstStructure * result, glm4v_verdict * verdict)
{
  const gchar *name = gst_structure_get_string (result, "verdict");
  guint i;

  for (i = GLM4V_VERDICT_UNKNOWN; name && i <= GLM4V_VERDICT_FAIL; i++) {
    if (!g_str_equal (glm4v_verdict_name (i), name))
      continue;
    *verdict = i;
    return TRUE;
  }
  return FALSE;
}

const gchar *
gst_glm4v_verdict_defect (const GstGlm4vJob * job)
{
  return has_shares (job) ?
      gst_glm4v_shape_find_defect (job->question.shape,
      job->outcome.probabilities) : NULL;
}
