/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an inspection needs of a result. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vjob.h"

G_BEGIN_DECLS

/* The verdict of a job whose outcome or end is known. FALSE if it has none of
 * its own. */
gboolean gst_glm4v_verdict_decide (const GstGlm4vJob * job,
    glm4v_verdict * verdict);

/* The choice for which the answer of a job fails, or NULL; owned by the job. */
const gchar *gst_glm4v_verdict_defect (const GstGlm4vJob * job);

G_END_DECLS
