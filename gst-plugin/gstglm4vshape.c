/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vshape.h"

#include <string.h>

#include "gstglm4varray.h"
#include "gstglm4vproperties.h"
#include "gstglm4vtextfile.h"

#define MAX_SCHEMA_BYTES (256 * 1024)

/* ---- settings ---- */

void
gst_glm4v_shape_settings_init (GstGlm4vShapeSettings * settings)
{
  *settings = (GstGlm4vShapeSettings) {
    .thresholds = g_array_new (FALSE, FALSE, sizeof (gdouble)),
    .timeout_verdict = GST_GLM4V_DEFAULT_TIMEOUT_VERDICT
  };
}

void
gst_glm4v_shape_settings_clear (GstGlm4vShapeSettings * settings)
{
  g_strfreev (settings->choices);
  g_strfreev (settings->fail_choices);
  g_array_unref (settings->thresholds);
  g_free (settings->schema);
  g_free (settings->schema_file);
  g_free (settings->pattern);
}

void
gst_glm4v_shape_settings_copy (GstGlm4vShapeSettings * to,
    const GstGlm4vShapeSettings * from)
{
  *to = *from;
  to->choices = g_strdupv (from->choices);
  to->fail_choices = g_strdupv (from->fail_choices);
  to->thresholds = g_array_copy (from->thresholds);
  to->schema = g_strdup (from->schema);
  to->schema_file = g_strdup (from->schema_file);
  to->pattern = g_strdup (from->pattern);
}

static void
set_string (gchar ** field, const GValue * value)
{
  g_free (*field);
  *field = g_value_dup_string (value);
}

gboolean
gst_glm4v_shape_settings_set (GstGlm4vShapeSettings * s, guint id,
    const GValue * value)
{
  switch (id) {
    case PROP_OUTPUT:
      s->output = g_value_get_enum (value);
      break;
    case PROP_CHOICES:
      gst_glm4v_array_to_strings (value, &s->choices);
      break;
    case PROP_FAIL_CHOICES:
      gst_glm4v_array_to_strings (value, &s->fail_choices);
      break;
    case PROP_THRESHOLDS:
      gst_glm4v_array_to_doubles (value, s->thresholds);
      break;
    case PROP_TIMEOUT_VERDICT:
      s->timeout_verdict = g_value_get_enum (value);
      break;
    case PROP_JSON_SCHEMA:
      set_string (&s->schema, value);
      break;
    case PROP_JSON_SCHEMA_LOCATION:
      set_string (&s->schema_file, value);
      break;
    case PROP_PATTERN:
      set_string (&s->pattern, value);
      break;
    default:
      return FALSE;
  }
  return TRUE;
}

gboolean
gst_glm4v_shape_settings_get (const GstGlm4vShapeSettings * s, guint id,
    GValue * value)
{
  switch (id) {
    case PROP_OUTPUT:
      g_value_set_enum (value, s->output);
      break;
    case PROP_CHOICES:
      gst_glm4v_array_from_strings (value, s->choices);
      break;
    case PROP_FAIL_CHOICES:
      gst_glm4v_array_from_strings (value, s->fail_choices);
      break;
    case PROP_THRESHOLDS:
      gst_glm4v_array_from_doubles (value, (const gdouble *)
          s->thresholds->data, s->thresholds->len);
      break;
    case PROP_TIMEOUT_VERDICT:
      g_value_set_enum (value, s->timeout_verdict);
      break;
    case PROP_JSON_SCHEMA:
      g_value_set_string (value, s->schema);
      break;
    case PROP_JSON_SCHEMA_LOCATION:
      g_value_set_string (value, s->schema_file);
      break;
    case PROP_PATTERN:
      g_value_set_string (value, s->pattern);
      break;
    default:
      return FALSE;
  }
  return TRUE;
}

const gchar *
gst_glm4v_shape_settings_unused (const GstGlm4vShapeSettings * s)
{
  gboolean judged = s->choices || s->fail_choices || s->thresholds->len > 0;

  if (judged && s->output != GST_GLM4V_OUTPUT_CHOICE)
    return "choices, fail-choices or thresholds is set and output is not "
        "choice";
  if ((s->schema || s->schema_file) && s->output != GST_GLM4V_OUTPUT_JSON)
    return "json-schema or json-schema-location is set and output is not json";
  if (s->pattern && s->output != GST_GLM4V_OUTPUT_TEXT)
    return "pattern is set and output is not text";
  return NULL;
}

/* ---- checks ---- */

/* Its place, or n. */
static guint
find_choice (const GstGlm4vShape * shape, const gchar * choice, guint n)
{
  guint i;

  for (i = 0; i < n && !g_str_equal (shape->choices[i], choice); i++);
  return i;
}

static gchar *
check_choice (const GstGlm4vShape * shape, guint i)
{
  const gchar *choice = shape->choices[i];

  if (!*choice)
    return g_strdup_printf ("choices: number %u is empty", i + 1);
  if (!g_utf8_validate (choice, -1, NULL))
    return g_strdup_printf ("choices: number %u is not UTF-8", i + 1);
  if (strlen (choice) > GLM4V_MAX_CHOICE_BYTES)
    return g_strdup_printf ("choices: number %u has more than %d bytes", i + 1,
        GLM4V_MAX_CHOICE_BYTES);
  if (find_choice (shape, choice, i) < i)
    return g_strdup_printf ("choices: \"%s\" stands there twice", choice);
  return NULL;
}

static gchar *
take_choices (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  gchar *error = NULL;
  guint i;

  if (!s->choices)
    return g_strdup ("output is choice and choices is empty");
  shape->choices = g_strdupv (s->choices);
  shape->n_choices = g_strv_length (shape->choices);
  if (shape->n_choices > GLM4V_MAX_CHOICES)
    return g_strdup_printf ("choices has %u entries, at most %d can be",
        shape->n_choices, GLM4V_MAX_CHOICES);
  for (i = 0; !error && i < shape->n_choices; i++)
    error = check_choice (shape, i);
  return error;
}

static gchar *
take_fails (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  gchar **fail;

  shape->fails = g_new0 (guchar, shape->n_choices);
  for (fail = s->fail_choices; fail && *fail; fail++) {
    guint i = find_choice (shape, *fail, shape->n_choices);
    gchar *all, *error;

    if (i < shape->n_choices) {
      shape->fails[i] = 1;
      continue;
    }
    all = g_strjoinv (", ", shape->choices);
    error = g_strdup_printf ("fail-choices: \"%s\" is not among choices: %s",
        *fail, all);
    g_free (all);
    return error;
  }
  return NULL;
}

static gchar *
take_thresholds (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  guint i;

  if (s->thresholds->len > shape->n_choices)
    return g_strdup_printf ("thresholds has %u numbers and choices %u entries",
        s->thresholds->len, shape->n_choices);
  shape->thresholds = g_new (gdouble, shape->n_choices);
  for (i = 0; i < shape->n_choices; i++)
    shape->thresholds[i] = GST_GLM4V_DEFAULT_THRESHOLD;
  for (i = 0; i < s->thresholds->len; i++) {
    gdouble threshold = g_array_index (s->thresholds, gdouble, i);

    if (!(threshold > 0 && threshold <= 1))
      return g_strdup_printf ("thresholds: number %u is %g, it must be above 0 "
          "and at most 1", i + 1, threshold);
    shape->thresholds[i] = threshold;
  }
  return NULL;
}

static gchar *
read_schema (GstGlm4vShape * shape, const gchar * path)
{
  gchar *why = NULL, *error;

  shape->schema = gst_glm4v_text_file_read (path, MAX_SCHEMA_BYTES, &why);
  if (shape->schema)
    return NULL;
  error = g_strdup_printf ("json-schema-location: %s: %s", path, why);
  g_free (why);
  return error;
}

static gchar *
take_schema (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  glm4v_error why = { 0 };
  gchar *error = NULL;

  if (s->schema && s->schema_file)
    return g_strdup ("json-schema and json-schema-location are both set");
  if (!s->schema && !s->schema_file)
    return g_strdup ("output is json and neither json-schema nor "
        "json-schema-location is set");
  if (s->schema)
    shape->schema = g_strdup (s->schema);
  else
    error = read_schema (shape, s->schema_file);
  if (!error && glm4v_json_schema_check (shape->schema, &why) != 0)
    error = g_strdup (why.msg);
  return error;
}

static gchar *
take_pattern (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  glm4v_error why = { 0 };

  shape->pattern = g_strdup (s->pattern);
  if (s->pattern && glm4v_matcher_open (&shape->matcher, s->pattern, &why))
    return g_strdup (why.msg);
  return NULL;
}

static gchar *
take_settings (GstGlm4vShape * shape, const GstGlm4vShapeSettings * s)
{
  gchar *error = NULL;

  switch (s->output) {
    case GST_GLM4V_OUTPUT_TEXT:
      return take_pattern (shape, s);
    case GST_GLM4V_OUTPUT_JSON:
      return take_schema (shape, s);
    case GST_GLM4V_OUTPUT_CHOICE:
      break;
  }
  error = take_choices (shape, s);
  if (!error)
    error = take_fails (shape, s);
  return error ? error : take_thresholds (shape, s);
}

GstGlm4vShape *
gst_glm4v_shape_new (const GstGlm4vShapeSettings * settings)
{
  GstGlm4vShape *shape = g_new0 (GstGlm4vShape, 1);

  shape->refs = 1;
  shape->output = settings->output;
  shape->timeout_verdict = settings->timeout_verdict;
  shape->error = take_settings (shape, settings);
  return shape;
}

GstGlm4vShape *
gst_glm4v_shape_ref (GstGlm4vShape * shape)
{
  g_atomic_int_inc (&shape->refs);
  return shape;
}

void
gst_glm4v_shape_unref (GstGlm4vShape * shape)
{
  if (!g_atomic_int_dec_and_test (&shape->refs))
    return;
  g_free (shape->error);
  g_strfreev (shape->choices);
  g_free (shape->fails);
  g_free (shape->thresholds);
  g_free (shape->schema);
  g_free (shape->pattern);
  glm4v_matcher_close (&shape->matcher);
  g_free (shape);
}

/* ---- use ---- */

void
gst_glm4v_shape_fill (const GstGlm4vShape * shape, glm4v_task * task)
{
  task->choices = (const char *const *) shape->choices;
  task->n_choices = shape->n_choices;
  task->json_schema = shape->schema;
}

gboolean
gst_glm4v_shape_judges (const GstGlm4vShape * shape)
{
  return shape->output == GST_GLM4V_OUTPUT_CHOICE || shape->matcher;
}

const gchar *
gst_glm4v_shape_find_defect (const GstGlm4vShape * shape,
    const gdouble * probabilities)
{
  const gchar *defect = NULL;
  gdouble most = -1;
  guint i;

  for (i = 0; i < shape->n_choices; i++) {
    if (!shape->fails[i] || probabilities[i] < shape->thresholds[i]
        || probabilities[i] <= most)
      continue;
    most = probabilities[i];
    defect = shape->choices[i];
  }
  return defect;
}
