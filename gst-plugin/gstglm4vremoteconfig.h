/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The properties of servers that answer instead of an engine. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/**
 * GstGlm4vRemoteCoding:
 * @GST_GLM4V_REMOTE_CODING_JPEG: quality 90, colours at full size
 * @GST_GLM4V_REMOTE_CODING_PNG: nothing is lost
 *
 * How pictures are sent to a server.
 */
typedef enum
{
  GST_GLM4V_REMOTE_CODING_JPEG,
  GST_GLM4V_REMOTE_CODING_PNG
} GstGlm4vRemoteCoding;

GType gst_glm4v_remote_coding_get_type (void);

#define GST_GLM4V_DEFAULT_REMOTE_MAX_PIXELS (672 * 672)

/* NULL: none. Keys themselves are read when the element goes to READY. */
typedef struct
{
  gchar *endpoint, *model;
  gchar *key_file, *ca_file, *certificate_file, *private_key_file;
  guint64 max_pixels;           /* 0 = no bound */
  GstGlm4vRemoteCoding coding;
} GstGlm4vRemoteConfig;

void gst_glm4v_remote_config_clear (GstGlm4vRemoteConfig * config);
void gst_glm4v_remote_config_copy (GstGlm4vRemoteConfig * to,
    const GstGlm4vRemoteConfig * from);
gboolean gst_glm4v_remote_config_equal (const GstGlm4vRemoteConfig * a,
    const GstGlm4vRemoteConfig * b);

/* FALSE if id is none of theirs. */
gboolean gst_glm4v_remote_config_set (GstGlm4vRemoteConfig * config, guint id,
    const GValue * value);
gboolean gst_glm4v_remote_config_get (const GstGlm4vRemoteConfig * config,
    guint id, GValue * value);
void gst_glm4v_remote_config_install (GObjectClass * klass);

G_END_DECLS
