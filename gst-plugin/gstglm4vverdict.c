/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vverdict.h"

/* Did the engine give a share to each choice? */
static gboolean
has_shares (const GstGlm4vJob * job)
{
  const GstGlm4vShape *shape = job->question.shape;

  return gst_glm4v_job_status (job) == GST_GLM4V_STATUS_OK && shape
      && shape->n_choices > 0
      && job->outcome.answer->n_probabilities == shape->n_choices;
}

gboolean
gst_glm4v_verdict_decide (const GstGlm4vJob * job, glm4v_verdict * verdict)
{
  const GstGlm4vShape *shape = job->question.shape;
  const glm4v_result *answer = job->outcome.answer;
  GstGlm4vStatus status = gst_glm4v_job_status (job);

  if (!shape || status == GST_GLM4V_STATUS_UNCHANGED
      || !gst_glm4v_shape_judges (shape))
    return FALSE;
  if (status != GST_GLM4V_STATUS_OK)
    *verdict = shape->timeout_verdict;
  else if (shape->matcher)
    *verdict = glm4v_matcher_check (shape->matcher, answer->text);
  else if (has_shares (job))
    *verdict = glm4v_decide (answer->probabilities, shape->fails,
        shape->thresholds, shape->n_choices);
  else                          /* a server does not tell: nothing is certain */
    *verdict = GLM4V_VERDICT_UNKNOWN;
  return TRUE;
}

const gchar *
gst_glm4v_verdict_defect (const GstGlm4vJob * job)
{
  return has_shares (job) ?
      gst_glm4v_shape_find_defect (job->question.shape,
      job->outcome.answer->probabilities) : NULL;
}
