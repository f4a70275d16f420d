/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "source pad": a result becomes what applications read: structures, and
 * texts that captions show. contract/result.c says what it holds. */
#include "gstglm4vcaption.h"

#include <string.h>

GST_DEBUG_CATEGORY_EXTERN (glm4vdescribe_debug);
#define GST_CAT_DEFAULT glm4vdescribe_debug

void
gst_glm4v_caption_register_meta (void)
{
  static const gchar *tags[] = { NULL };

  /* A second registration would be a critical. */
  if (!gst_meta_get_info (GST_GLM4V_META_NAME))
    gst_meta_register_custom (GST_GLM4V_META_NAME, tags, NULL, NULL, NULL);
}

/* ---- text ---- */

/* Readers differ in what is an empty line: any that shows nothing. */
static gboolean
shows_nothing (const gchar * line)
{
  for (; *line; line = g_utf8_next_char (line)) {
    gunichar c = g_utf8_get_char (line);

    if (!g_unichar_isspace (c) && !g_unichar_iszerowidth (c))
      return FALSE;
  }
  return TRUE;
}

gchar *
gst_glm4v_caption_cue (const gchar * text)
{
  gchar **lines = g_strsplit (text, "\n", -1);
  GString *cue = g_string_sized_new (strlen (text) + 1);
  guint i;

  for (i = 0; lines[i]; i++)
    if (!shows_nothing (lines[i]))
      g_string_append_printf (cue, "%s%s", cue->len > 0 ? "\n" : "", lines[i]);
  g_strfreev (lines);
  g_string_replace (cue, "-->", "\342\206\222", 0);      /* U+2192, an arrow */
  return g_string_free (cue, FALSE);
}

/* ---- structures ---- */

#define MAX_DEPTH 4             /* boxes, one of them, and one to spare */

/* What is being built: a structure, or an array if object is NULL. */
typedef struct
{
  const gchar *key;
  GstStructure *object;
  GValue array;
} Level;

typedef struct
{
  Level levels[MAX_DEPTH];
  guint depth;
} Builder;

/* Takes the value. */
static void
add_value (Builder * self, const gchar * key, GValue * value)
{
  Level *level = &self->levels[self->depth];

  if (level->object)
    gst_structure_take_value (level->object, key, value);
  else
    gst_value_array_append_and_take_value (&level->array, value);
}

/* A structure has the name of its key; those in an array, of which there are
 * only boxes, have none. */
static void
open_level (Builder * self, const gchar * key, gboolean array)
{
  Level *level = &self->levels[++self->depth];

  *level = (Level) {.key = key };
  if (array)
    gst_value_array_init (&level->array, 0);
  else
    level->object = gst_structure_new_empty (key ? key : "box");
}

static void
close_level (Builder * self)
{
  Level *level = &self->levels[self->depth--];
  GValue value = level->array;

  if (level->object) {
    g_value_init (&value, GST_TYPE_STRUCTURE);
    g_value_take_boxed (&value, level->object);
  }
  add_value (self, level->key, &value);
}

/* Of what is neither an object nor an array. */
static void
init_value (GValue * value, const glm4v_contract_member * member)
{
  switch (member->kind) {
    case GLM4V_MEMBER_INT:
      g_value_init (value, G_TYPE_INT);
      g_value_set_int (value, (gint) member->wide);
      break;
    case GLM4V_MEMBER_UINT:
      g_value_init (value, G_TYPE_UINT);
      g_value_set_uint (value, (guint) member->count);
      break;
    case GLM4V_MEMBER_COUNT:
    case GLM4V_MEMBER_TIME:
      g_value_init (value, G_TYPE_UINT64);
      g_value_set_uint64 (value, member->count);
      break;
    case GLM4V_MEMBER_NUMBER:
      g_value_init (value, G_TYPE_DOUBLE);
      g_value_set_double (value, member->number);
      break;
    case GLM4V_MEMBER_TRUE:
      g_value_init (value, G_TYPE_BOOLEAN);
      g_value_set_boolean (value, TRUE);
      break;
    default:
      g_value_init (value, G_TYPE_STRING);
      g_value_set_string (value, member->string);
      break;
  }
}

static void
take_member (void *user, const char *key, const glm4v_contract_member * member)
{
  Builder *self = user;
  GValue value = G_VALUE_INIT;

  switch (member->kind) {
    case GLM4V_MEMBER_OBJECT:
    case GLM4V_MEMBER_ARRAY:
      open_level (self, key, member->kind == GLM4V_MEMBER_ARRAY);
      break;
    case GLM4V_MEMBER_OBJECT_END:
    case GLM4V_MEMBER_ARRAY_END:
      close_level (self);
      break;
    default:
      init_value (&value, member);
      add_value (self, key, &value);
      break;
  }
}

GstStructure *
gst_glm4v_caption_build (const glm4v_contract_result * result)
{
  Builder builder = { 0 };

  G_STATIC_ASSERT (GLM4V_UNKNOWN_TIME == GST_CLOCK_TIME_NONE);
  builder.levels[0].object = gst_structure_new_empty (GST_GLM4V_RESULT_NAME);
  glm4v_contract_result_build (result, &(glm4v_contract_receiver) {
        take_member, &builder});
  return builder.levels[0].object;
}

static gboolean
copy_field (GQuark field, const GValue * value, gpointer user)
{
  gst_structure_id_set_value (user, field, value);
  return TRUE;
}

void
gst_glm4v_caption_attach (GstBuffer * buffer, const GstStructure * result)
{
  GstCustomMeta *meta = gst_buffer_add_custom_meta (buffer,
      GST_GLM4V_META_NAME);

  if (!meta) {
    GST_WARNING ("a result cannot be attached");
    return;
  }
  gst_structure_foreach (result, copy_field,
      gst_custom_meta_get_structure (meta));
}
