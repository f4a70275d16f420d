/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The result contract: one structure, the same in the custom meta, in the bus
 * message, the signal and the event. */
#pragma once

#include <gst/gst.h>

#include "contract/result.h"

G_BEGIN_DECLS

#define GST_GLM4V_META_NAME "Glm4vDescribeMeta"
#define GST_GLM4V_RESULT_NAME "glm4vdescribe-result"
#define GST_GLM4V_RESULT_EVENT "glm4vdescribe/result"

/* Register the custom meta once in this process. */
void gst_glm4v_caption_register_meta (void);

/* A structure with what the result holds: JSON, and the id of its trigger, as
 * strings. */
GstStructure *gst_glm4v_caption_build (const glm4v_contract_result * result);

/* Add the result to a buffer that is writable. */
void gst_glm4v_caption_attach (GstBuffer * buffer, const GstStructure * result);

/* Sanitized text as one cue that subtitle files can hold: without lines that
 * look empty, which end a cue in WebVTT and SubRip, and without "-->", which
 * begins one. Empty if nothing is left. */
gchar *gst_glm4v_caption_cue (const gchar * text);

G_END_DECLS
