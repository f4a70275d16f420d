/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file with a prompt, which may change while a pipeline plays. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Bytes of a prompt file, at most. */
#define GST_GLM4V_MAX_PROMPT 65536

/* A file's contents as they were read last. Has its own lock, which is held
 * while the file is read; safe from any thread that may wait for a disk. */
typedef struct _GstGlm4vPromptFile GstGlm4vPromptFile;

GstGlm4vPromptFile *gst_glm4v_prompt_file_new (void);
void gst_glm4v_prompt_file_free (GstGlm4vPromptFile * file);

/* The text of the file at path, read again if the file is not the one that it
 * was; g_free(). If that cannot be used, the text before it, or NULL if there
 * is none; *why (g_free) then tells, the first time. */
gchar *gst_glm4v_prompt_file_read (GstGlm4vPromptFile * file,
    const gchar * path, gchar ** why);

G_END_DECLS
