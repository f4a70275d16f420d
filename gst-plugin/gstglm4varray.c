/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4varray.h"

#include <math.h>

void
gst_glm4v_array_to_strings (const GValue * array, gchar *** field)
{
  guint n = gst_value_array_get_size (array), i;

  g_strfreev (*field);
  *field = n > 0 ? g_new0 (gchar *, n + 1) : NULL;
  for (i = 0; i < n; i++) {
    const gchar *text =
        g_value_get_string (gst_value_array_get_value (array, i));

    (*field)[i] = g_strdup (text ? text : "");
  }
}

void
gst_glm4v_array_from_strings (GValue * array, gchar ** strings)
{
  for (; strings && *strings; strings++) {
    GValue text = G_VALUE_INIT;

    g_value_init (&text, G_TYPE_STRING);
    g_value_set_string (&text, *strings);
    gst_value_array_append_and_take_value (array, &text);
  }
}

void
gst_glm4v_array_to_doubles (const GValue * array, GArray * doubles)
{
  guint n = gst_value_array_get_size (array), i;

  g_array_set_size (doubles, 0);
  for (i = 0; i < n; i++) {
    const GValue *entry = gst_value_array_get_value (array, i);
    GValue number = G_VALUE_INIT;
    gdouble value = NAN;

    g_value_init (&number, G_TYPE_DOUBLE);
    if (!G_VALUE_HOLDS_STRING (entry) && g_value_transform (entry, &number))
      value = g_value_get_double (&number);
    g_array_append_val (doubles, value);
    g_value_unset (&number);
  }
}

void
gst_glm4v_array_from_doubles (GValue * array, const gdouble * doubles, guint n)
{
  guint i;

  for (i = 0; i < n; i++) {
    GValue number = G_VALUE_INIT;

    g_value_init (&number, G_TYPE_DOUBLE);
    g_value_set_double (&number, doubles[i]);
    gst_value_array_append_and_take_value (array, &number);
  }
}
