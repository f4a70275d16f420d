/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Arrays of GStreamer (GST_TYPE_ARRAY) as plain C ones, and back. */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/* Replace *field by the texts of an array; NULL if there are none. */
void gst_glm4v_array_to_strings (const GValue * array, gchar *** field);

/* Append to an empty array; strings may be NULL. */
void gst_glm4v_array_from_strings (GValue * array, gchar ** strings);

/* Replace the contents of doubles (of gdouble); NAN for what is no number. */
void gst_glm4v_array_to_doubles (const GValue * array, GArray * doubles);
void gst_glm4v_array_from_doubles (GValue * array, const gdouble * doubles,
    guint n);

G_END_DECLS
