/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vprompt.h"

#include <glib/gstdio.h>
#include <string.h>

#include "gstglm4vtextfile.h"

struct _GstGlm4vPromptFile
{
  GMutex lock;
  gchar *path, *text;           /* text is NULL if there never was one */
  GStatBuf status;              /* of what was looked at last */
  gboolean looked;
};

GstGlm4vPromptFile *
gst_glm4v_prompt_file_new (void)
{
  GstGlm4vPromptFile *file = g_new0 (GstGlm4vPromptFile, 1);

  g_mutex_init (&file->lock);
  return file;
}

void
gst_glm4v_prompt_file_free (GstGlm4vPromptFile * file)
{
  g_mutex_clear (&file->lock);
  g_free (file->path);
  g_free (file->text);
  g_free (file);
}

static gboolean
same_file (const GStatBuf * a, const GStatBuf * b)
{
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino
      && a->st_size == b->st_size
      && a->st_mtim.tv_sec == b->st_mtim.tv_sec
      && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* With the lock: read it if it is another than before. */
static void
refresh (GstGlm4vPromptFile * file, const gchar * path, gchar ** why)
{
  GStatBuf status = { 0 };
  gchar *text;

  g_stat (path, &status);
  if (g_strcmp0 (file->path, path) != 0) {
    g_free (file->path);
    file->path = g_strdup (path);
    g_clear_pointer (&file->text, g_free);
    file->looked = FALSE;
  }
  if (file->looked && same_file (&status, &file->status))
    return;
  file->looked = TRUE;
  file->status = status;
  text = gst_glm4v_text_file_read (path, GST_GLM4V_MAX_PROMPT, why);
  if (text) {
    g_free (file->text);
    file->text = text;
  }
}

gchar *
gst_glm4v_prompt_file_read (GstGlm4vPromptFile * file, const gchar * path,
    gchar ** why)
{
  gchar *text;

  *why = NULL;
  g_mutex_lock (&file->lock);
  refresh (file, path, why);
  text = g_strdup (file->text);
  g_mutex_unlock (&file->lock);
  return text;
}
