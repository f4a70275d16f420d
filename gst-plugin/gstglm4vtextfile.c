/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vtextfile.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

gchar *
gst_glm4v_text_file_read (const gchar * path, gsize max_bytes, gchar ** why)
{
  GStatBuf status = { 0 };
  GError *error = NULL;
  gchar *text = NULL;
  gsize length = 0;

  if (g_stat (path, &status) != 0) {
    *why = g_strdup ("there is no such file");
    return NULL;
  }
  if (!S_ISREG (status.st_mode) || (guint64) status.st_size > max_bytes) {
    *why = g_strdup_printf ("it is no file of at most %" G_GSIZE_FORMAT
        " bytes", max_bytes);
    return NULL;
  }
  if (!g_file_get_contents (path, &text, &length, &error)) {
    *why = g_strdup (error->message);
    g_error_free (error);
    return NULL;
  }
  if (g_utf8_validate (text, (gssize) length, NULL) && *g_strstrip (text))
    return text;
  *why = g_strdup ("it is empty or not UTF-8");
  g_free (text);
  return NULL;
}
