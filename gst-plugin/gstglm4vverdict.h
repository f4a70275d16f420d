/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an inspection needs of a result: the choice with its probabilities, and
 * the verdict. Also JSON of a guaranteed shape. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vjob.h"

G_BEGIN_DECLS

/* Add the keys choice, probability, probabilities, verdict and json, those
 * that the job has. An unchanged one has none of its own: repeat. */
void gst_glm4v_verdict_add (GstStructure * result, const GstGlm4vJob * job);

/* Add those of the answer that still holds. */
void gst_glm4v_verdict_repeat (GstStructure * result,
    const GstStructure * answer);

/* FALSE if the result has no verdict. */
gboolean gst_glm4v_verdict_of (const GstStructure * result,
    glm4v_verdict * verdict);

/* The choice for which the answer of a job fails, or NULL; owned by the job. */
const gchar *gst_glm4v_verdict_defect (const GstGlm4vJob * job);

G_END_DECLS
