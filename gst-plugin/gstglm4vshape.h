/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The shape of answers: free text, one of several choices with a verdict, or
 * JSON that matches a schema. */
#pragma once

#include <gst/gst.h>
#include <glm4v/glm4v.h>

G_BEGIN_DECLS

/**
 * GstGlm4vOutput:
 * @GST_GLM4V_OUTPUT_TEXT: any text
 * @GST_GLM4V_OUTPUT_CHOICE: one of `choices`, and a verdict
 * @GST_GLM4V_OUTPUT_JSON: JSON that matches `json-schema`
 */
typedef enum
{
  GST_GLM4V_OUTPUT_TEXT,
  GST_GLM4V_OUTPUT_CHOICE,
  GST_GLM4V_OUTPUT_JSON
} GstGlm4vOutput;

/* As the properties have it; all owned. */
typedef struct
{
  GstGlm4vOutput output;
  gchar **choices, **fail_choices;      /* NULL = none */
  GArray *thresholds;           /* of gdouble */
  gchar *schema, *schema_file, *pattern;
  glm4v_verdict timeout_verdict;
} GstGlm4vShapeSettings;

void gst_glm4v_shape_settings_init (GstGlm4vShapeSettings * settings);
void gst_glm4v_shape_settings_clear (GstGlm4vShapeSettings * settings);
void gst_glm4v_shape_settings_copy (GstGlm4vShapeSettings * to,
    const GstGlm4vShapeSettings * from);

/* FALSE if id is none of theirs. */
gboolean gst_glm4v_shape_settings_set (GstGlm4vShapeSettings * settings,
    guint id, const GValue * value);
gboolean gst_glm4v_shape_settings_get (const GstGlm4vShapeSettings * settings,
    guint id, GValue * value);

/* A property that was set and that `output` makes no use of: why that cannot
 * be meant, or NULL; static. */
const gchar *gst_glm4v_shape_settings_unused (const GstGlm4vShapeSettings *
    settings);

/* Checked settings; constant. */
typedef struct
{
  gint refs;
  GstGlm4vOutput output;
  glm4v_verdict timeout_verdict;
  gchar *error;                 /* why it cannot be used, or NULL */
  gchar **choices;              /* [n_choices]; NULL without */
  guint n_choices;
  guchar *fails;                /* [n_choices] 1: a defect */
  gdouble *thresholds;          /* [n_choices] */
  gchar *schema, *pattern;      /* or NULL */
  glm4v_matcher *matcher;       /* of a pattern, or NULL */
} GstGlm4vShape;

/* Check settings, read the schema's file. What is wrong stands in error. */
GstGlm4vShape *gst_glm4v_shape_new (const GstGlm4vShapeSettings * settings);
GstGlm4vShape *gst_glm4v_shape_ref (GstGlm4vShape * shape);
void gst_glm4v_shape_unref (GstGlm4vShape * shape);

/* Let a task have answers of this shape, which is used until it is copied. */
void gst_glm4v_shape_fill (const GstGlm4vShape * shape, glm4v_task * task);

/* Do its results have a verdict? */
gboolean gst_glm4v_shape_judges (const GstGlm4vShape * shape);

/* What fails: of the fail choices that have their threshold the most probable;
 * NULL if there is none. probabilities is [n_choices]. */
const gchar *gst_glm4v_shape_find_defect (const GstGlm4vShape * shape,
    const gdouble * probabilities);

G_END_DECLS
