/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Results as JSON: docs/result.schema.json describes them. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* A result as one JSON object and a newline; g_free(). Times that are not known
 * are null, the answer under `json` is a value and not a string, and an id that
 * is neither a finite number nor a string is written as GStreamer serializes
 * it. */
gchar *gst_glm4v_json_write (const GstStructure * result);

G_END_DECLS
