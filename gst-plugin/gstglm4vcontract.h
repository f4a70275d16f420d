/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The settings object of a job, which its result names by hash. */
#pragma once

#include "gstglm4vdescribe.h"

G_BEGIN_DECLS

#define GST_GLM4V_SETTINGS_NAME "glm4vdescribe-settings"

/* Write the settings that the job was asked with into it. */
void gst_glm4v_contract_settle (GstGlm4vDescribe * self, GstGlm4vJob * job);

/* The message with the job's settings, if the last one was of others. */
void gst_glm4v_contract_post (GstGlm4vDescribe * self, const GstGlm4vJob * job);

/* A stream begins: its settings are to be posted. */
void gst_glm4v_contract_reset (GstGlm4vDescribe * self);

G_END_DECLS
