/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A call once an interval, whether frames come or not. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

typedef struct _GstGlm4vTimer GstGlm4vTimer;

/* Stopped, without an interval. */
GstGlm4vTimer *gst_glm4v_timer_new (void (*call) (gpointer user),
    gpointer user);

/* Of one that is stopped. */
void gst_glm4v_timer_free (GstGlm4vTimer * timer);

/* A new interval of at most G_MAXINT64 begins; 0: no calls. Any thread, also
 * within a call. FALSE with *why (g_free) if it runs and no thread could be
 * started. */
gboolean gst_glm4v_timer_set_interval (GstGlm4vTimer * timer,
    GstClockTime interval, gchar ** why);

GstClockTime gst_glm4v_timer_get_interval (GstGlm4vTimer * timer);

/* The first interval begins. FALSE as above; it is stopped then. */
gboolean gst_glm4v_timer_start (GstGlm4vTimer * timer, gchar ** why);

/* Waits for a call in progress; none follows, and no thread is left. Not within
 * a call. */
void gst_glm4v_timer_stop (GstGlm4vTimer * timer);

G_END_DECLS
