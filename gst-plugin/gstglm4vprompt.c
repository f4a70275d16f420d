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

/* ---- placeholders ---- */

static gchar *
time_text (GstClockTime time)
{
  guint64 ms = time / GST_MSECOND;

  if (!GST_CLOCK_TIME_IS_VALID (time))
    return g_strdup ("");
  return g_strdup_printf ("%" G_GUINT64_FORMAT ":%02u:%02u.%03u",
      ms / 3600000, (guint) (ms / 60000 % 60), (guint) (ms / 1000 % 60),
      (guint) (ms % 1000));
}

/* What stands for the placeholder that p begins with, and its length; NULL if
 * it is none. */
static gchar *
value_of (const gchar * p, const GstGlm4vPlaceholders * values, gsize * length)
{
  static const gchar *const names[] = { "{time}", "{label}", "{frame}",
    "{camera}"
  };
  guint i;

  for (i = 0; i < G_N_ELEMENTS (names); i++)
    if (g_str_has_prefix (p, names[i]))
      break;
  if (i == G_N_ELEMENTS (names))
    return NULL;
  *length = strlen (names[i]);
  switch (i) {
    case 0:
      return time_text (values->time);
    case 1:
      return g_strdup (values->label ? values->label : "");
    case 2:
      return g_strdup_printf ("%" G_GUINT64_FORMAT, values->frame);
    default:
      return g_strdup (values->camera ? values->camera : "");
  }
}

gchar *
gst_glm4v_prompt_expand (const gchar * prompt,
    const GstGlm4vPlaceholders * values)
{
  GString *text = g_string_sized_new (strlen (prompt) + 1);

  while (*prompt) {
    gsize length = 0;
    gchar *value = *prompt == '{' ? value_of (prompt, values, &length) : NULL;

    if (value)
      g_string_append (text, value);
    else
      g_string_append_c (text, *prompt);
    prompt += value ? length : 1;
    g_free (value);
  }
  return g_string_free (text, FALSE);
}

/* ---- files ---- */

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
