/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A finished job by the contract: all that its result holds, in plain C. */
#pragma once

#include <gst/gst.h>

#include "contract/result.h"

G_BEGIN_DECLS

struct _GstGlm4vJob;

/* A model that is loaded; constant, shared by the jobs that it answered:
 * g_atomic_rc_box_release(). */
typedef struct
{
  glm4v_model_info info;
  gchar quant[GLM4V_FORMS_SIZE];
} GstGlm4vModel;

GstGlm4vModel *gst_glm4v_model_new (const glm4v_model_info * info);

/* The result, and what it points to beside its job. All zero: not filled. */
typedef struct
{
  glm4v_contract_result result;
  glm4v_contract_stream stream;
  glm4v_contract_region roi;
  glm4v_contract_clip clip;
  glm4v_contract_model model;
  gchar prompt_hash[GLM4V_PROMPT_HASH_SIZE];
  gchar *trigger_id;            /* a value of JSON, or NULL */
  gboolean judged;              /* it has a verdict */
  glm4v_verdict verdict;
} GstGlm4vRecord;

/* That of a job whose outcome or end is known, but for what the results before
 * it mean for it. model may be NULL: none is loaded. */
void gst_glm4v_record_fill (struct _GstGlm4vJob * job, GstGlm4vModel * model);

/* It looks as the job that was answered, whose choice and verdict hold. */
void gst_glm4v_record_repeat (struct _GstGlm4vJob * job,
    struct _GstGlm4vJob * answered);

void gst_glm4v_record_clear (GstGlm4vRecord * record);

G_END_DECLS
