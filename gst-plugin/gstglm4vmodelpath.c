/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The default place of the model. */
#define _GNU_SOURCE
#include "gstglm4vproperties.h"

#include <dlfcn.h>
#include <string.h>

/* TRUE if base/.../surface-tiny is a model; *found then owns the path. */
static gboolean
try_place (const gchar * base, const gchar * folder, GString * looked,
    gchar ** found)
{
  gchar *dir = g_build_filename (base, folder, GST_GLM4V_SHIPPED_MODEL,
      NULL);
  gchar *config = g_build_filename (dir, "config.json", NULL);
  gboolean there = g_file_test (config, G_FILE_TEST_IS_REGULAR);

  g_free (config);
  g_string_append_printf (looked, "%s%s", looked->len ? ", " : "", dir);
  if (there)
    *found = dir;
  else
    g_free (dir);
  return there;
}

/* Beside the plugin: PREFIX/lib[/ARCH]/gstreamer-1.0/ goes with
 * PREFIX/share/glm4v/models, a bundle's lib/gstreamer-1.0/ with models/. */
static gboolean
try_beside_plugin (GString * looked, gchar ** found)
{
  Dl_info info;
  gchar *dir;
  gint up;
  gboolean there = FALSE;

  if (!dladdr ((void *) (gsize) gst_glm4v_find_model, &info)
      || !info.dli_fname)
    return FALSE;
  dir = g_path_get_dirname (info.dli_fname);
  for (up = 0; up < 4 && !there && strlen (dir) > 1; up++) {
    gchar *parent = g_path_get_dirname (dir);

    there = try_place (dir, "share/glm4v/models", looked, found)
        || try_place (dir, "models", looked, found);
    g_free (dir);
    dir = parent;
  }
  g_free (dir);
  return there;
}

gchar *
gst_glm4v_find_model (gchar ** looked)
{
  const gchar *from_environment = g_getenv ("GLM4V_MODEL");
  GString *places;
  gchar *found = NULL;

  if (from_environment && *from_environment)
    return g_strdup (from_environment);
  places = g_string_new (NULL);
  if (!try_beside_plugin (places, &found)
      && !try_place (GLM4V_INSTALLED_MODELS, "", places, &found)
      && !try_place (GLM4V_SOURCE_MODELS, "", places, &found)) {
    *looked = g_string_free (places, FALSE);
    return NULL;
  }
  g_string_free (places, TRUE);
  return found;
}
