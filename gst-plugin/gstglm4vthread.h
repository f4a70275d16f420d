/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Priority of the threads that must not delay the video. */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* As g_thread_try_new(). The first thread also fixes the priority of the
 * threads that GLib's pools share, GStreamer's streaming threads among them:
 * they get that of the caller. */
GThread *gst_glm4v_thread_try_new (const gchar * name, GThreadFunc run,
    gpointer user, GError ** error);
/* Lower the calling thread's priority; best effort. */
void gst_glm4v_thread_background (void);

G_END_DECLS
