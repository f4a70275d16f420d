/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Short text files that properties name. */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* The text of a file of at most max_bytes in UTF-8 that is not empty, without
 * blanks at its ends (g_free); or NULL with *why (g_free). */
gchar *gst_glm4v_text_file_read (const gchar * path, gsize max_bytes,
    gchar ** why);

G_END_DECLS
