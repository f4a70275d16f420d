/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The types of properties that have one of several values. */
#include "gstglm4vproperties.h"

GType
gst_glm4v_sample_mode_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_SAMPLE_INTERVAL, "The first frame, then one per interval",
        "interval"},
    {GST_GLM4V_SAMPLE_EVERY_NTH, "The first frame, then every nth",
        "every-nth"},
    {GST_GLM4V_SAMPLE_ALL, "Every frame", "all"},
    {GST_GLM4V_SAMPLE_TRIGGER, "Only frames with a trigger", "trigger"},
    {GST_GLM4V_SAMPLE_SCENE_CHANGE,
        "The first frame, then the first of each scene", "scene-change"},
    {GST_GLM4V_SAMPLE_AUTO,
        "As interval; captions are given the time to be read", "auto"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vSampleMode",
            values));
  return type;
}

GType
gst_glm4v_mode_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_MODE_AUTO, "async if the source is live, else sync", "auto"},
    {GST_GLM4V_MODE_ASYNC, "Video passes at once, answers follow", "async"},
    {GST_GLM4V_MODE_SYNC, "A sampled frame waits for its answer", "sync"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vMode",
            values));
  return type;
}

GType
gst_glm4v_roi_mode_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_ROI_PROPERTY, "The region of roi, or the whole frame",
        "property"},
    {GST_GLM4V_ROI_META, "Each region of interest that the frame carries",
        "meta"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vRoiMode",
            values));
  return type;
}

GType
gst_glm4v_on_error_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_ON_ERROR_WARN, "Post a warning, let the video pass", "warn"},
    {GST_GLM4V_ON_ERROR_FAIL, "Post an error, end the stream", "fail"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vOnError",
            values));
  return type;
}

GType
gst_glm4v_output_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_OUTPUT_TEXT, "Any text", "text"},
    {GST_GLM4V_OUTPUT_CHOICE, "One of choices, with a verdict", "choice"},
    {GST_GLM4V_OUTPUT_JSON, "JSON that matches json-schema", "json"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vOutput",
            values));
  return type;
}

GType
gst_glm4v_verdict_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GLM4V_VERDICT_UNKNOWN, "Uncertain", "unknown"},
    {GLM4V_VERDICT_PASS, "OK", "pass"},
    {GLM4V_VERDICT_FAIL, "NG", "fail"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vVerdict",
            values));
  return type;
}

GType
gst_glm4v_leaky_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GST_GLM4V_LEAKY_NO, "None: in mode sync video waits", "no"},
    {GST_GLM4V_LEAKY_UPSTREAM, "The new frame", "upstream"},
    {GST_GLM4V_LEAKY_DOWNSTREAM, "The one that has waited longest",
        "downstream"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vLeaky",
            values));
  return type;
}

GType
gst_glm4v_speculation_get_type (void)
{
  static GType type;
  static const GEnumValue values[] = {
    {GLM4V_SPECULATION_AUTO, "Where something is expected", "auto"},
    {GLM4V_SPECULATION_OFF, "One token after the other", "off"},
    {0, NULL, NULL}
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstGlm4vSpeculation",
            values));
  return type;
}
