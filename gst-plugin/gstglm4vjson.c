/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vjson.h"

#include <math.h>

#include "contract/json.h"

/* Where the next key goes. */
typedef struct
{
  GString *text;
  gboolean first;
} Object;

static void write_object (GString * text, const GstStructure * structure);

/* FALSE if it is none of the types that numbers of a result have, or none that
 * JSON has. */
static gboolean
write_number (GString * text, const GValue * value)
{
  GValue whole = G_VALUE_INIT;

  if (G_VALUE_HOLDS_DOUBLE (value) && isfinite (g_value_get_double (value))) {
    glm4v_contract_json_real (text, g_value_get_double (value));
    return TRUE;
  }
  if (G_VALUE_HOLDS_UINT64 (value)) {
    g_string_append_printf (text, "%" G_GUINT64_FORMAT,
        g_value_get_uint64 (value));
    return TRUE;
  }
  if (!G_VALUE_HOLDS_INT (value) && !G_VALUE_HOLDS_UINT (value)
      && !G_VALUE_HOLDS_INT64 (value))
    return FALSE;
  g_value_init (&whole, G_TYPE_INT64);
  g_value_transform (value, &whole);
  g_string_append_printf (text, "%" G_GINT64_FORMAT,
      g_value_get_int64 (&whole));
  return TRUE;
}

static void
write_serialized (GString * text, const GValue * value)
{
  gchar *serialized = gst_value_serialize (value);

  glm4v_contract_json_quote (text, serialized ? serialized : "");
  g_free (serialized);
}

static void
write_value (GString * text, const GValue * value)
{
  if (write_number (text, value))
    return;
  if (G_VALUE_HOLDS_STRING (value) && g_value_get_string (value))
    glm4v_contract_json_quote (text, g_value_get_string (value));
  else if (GST_VALUE_HOLDS_STRUCTURE (value))
    write_object (text, gst_value_get_structure (value));
  else
    write_serialized (text, value);
}

static void
write_array (GString * text, const GValue * array)
{
  guint n = gst_value_array_get_size (array), i;

  g_string_append_c (text, '[');
  for (i = 0; i < n; i++) {
    if (i > 0)
      g_string_append_c (text, ',');
    write_value (text, gst_value_array_get_value (array, i));
  }
  g_string_append_c (text, ']');
}

/* Of any type: an application gave it. */
static void
write_id (GString * text, const GValue * value)
{
  if (GST_VALUE_HOLDS_STRUCTURE (value))
    write_serialized (text, value);
  else
    write_value (text, value);
}

static gboolean
is_unknown_time (const gchar * key, const GValue * value)
{
  return (g_str_equal (key, "pts") || g_str_equal (key, "running-time"))
      && g_value_get_uint64 (value) == GST_CLOCK_TIME_NONE;
}

static void
write_field (GString * text, const gchar * key, const GValue * value)
{
  if (g_str_equal (key, "trigger-id")) {
    write_id (text, value);
  } else if (is_unknown_time (key, value)) {
    g_string_append (text, "null");
  } else if (g_str_equal (key, "json")) {
    g_string_append (text, g_value_get_string (value));
  } else if (GST_VALUE_HOLDS_ARRAY (value)) {
    write_array (text, value);
  } else {
    write_value (text, value);
  }
}

static gboolean
write_member (GQuark field, const GValue * value, gpointer user)
{
  const gchar *key = g_quark_to_string (field);
  Object *object = user;

  if (!object->first)
    g_string_append_c (object->text, ',');
  object->first = FALSE;
  glm4v_contract_json_quote (object->text, key);
  g_string_append_c (object->text, ':');
  write_field (object->text, key, value);
  return TRUE;
}

static void
write_object (GString * text, const GstStructure * structure)
{
  Object object = { text, TRUE };

  g_string_append_c (text, '{');
  gst_structure_foreach (structure, write_member, &object);
  g_string_append_c (text, '}');
}

gchar *
gst_glm4v_json_write (const GstStructure * result)
{
  GString *text = g_string_sized_new (1024);

  write_object (text, result);
  g_string_append_c (text, '\n');
  return g_string_free (text, FALSE);
}
