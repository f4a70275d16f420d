/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Priority of the threads that must not delay the video. */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Lower the calling thread's priority; best effort. */
void gst_glm4v_thread_background (void);

G_END_DECLS
