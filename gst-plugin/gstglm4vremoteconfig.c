/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vremoteconfig.h"

#include <string.h>

#include "gstglm4vproperties.h"

#define READY (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS \
    | GST_PARAM_MUTABLE_READY)

/* The texts, by their property. */
static const struct
{
  guint id;
  gsize offset;
  const gchar *name, *nick, *about;
} texts[] = {
  {PROP_ENDPOINT, G_STRUCT_OFFSET (GstGlm4vRemoteConfig, endpoint),
        "endpoint", "Endpoint",
        "URL of a server of chat completions that describes frames instead of "
        "an engine of this process, as http://host:8080/v1; several with "
        "commas between them. NULL: an engine"},
  {PROP_MODEL, G_STRUCT_OFFSET (GstGlm4vRemoteConfig, model),
        "model", "Model",
        "With endpoint: the name of the model there. NULL: the first that the "
        "server lists"},
  {PROP_API_KEY_FILE, G_STRUCT_OFFSET (GstGlm4vRemoteConfig, key_file),
        "api-key-file", "API key file",
        "With endpoint: file whose first line is the key for it. NULL: "
        "environment GLM4V_API_KEY, if it is set"},
  {PROP_CA_FILE, G_STRUCT_OFFSET (GstGlm4vRemoteConfig, ca_file),
        "ca-file", "CA file",
        "With endpoint: PEM file of the authorities that may have signed its "
        "certificate. NULL: those of the system"},
  {PROP_CERTIFICATE_FILE,
        G_STRUCT_OFFSET (GstGlm4vRemoteConfig, certificate_file),
        "certificate-file", "Certificate file",
        "With endpoint: PEM file of the certificate that is shown to it", },
  {PROP_PRIVATE_KEY_FILE,
        G_STRUCT_OFFSET (GstGlm4vRemoteConfig, private_key_file),
        "private-key-file", "Private key file",
        "With endpoint: PEM file of the private key of certificate-file"},
};

static gchar **
text_of (GstGlm4vRemoteConfig * config, guint i)
{
  return G_STRUCT_MEMBER_P (config, texts[i].offset);
}

/* Where the text of this property is; NULL: it has none. */
static gchar **
find_text (const GstGlm4vRemoteConfig * config, guint id)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (texts); i++)
    if (texts[i].id == id)
      return text_of ((GstGlm4vRemoteConfig *) config, i);
  return NULL;
}

void
gst_glm4v_remote_config_clear (GstGlm4vRemoteConfig * config)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (texts); i++)
    g_free (*text_of (config, i));
  memset (config, 0, sizeof *config);
}

void
gst_glm4v_remote_config_copy (GstGlm4vRemoteConfig * to,
    const GstGlm4vRemoteConfig * from)
{
  guint i;

  *to = *from;
  for (i = 0; i < G_N_ELEMENTS (texts); i++)
    *text_of (to, i) = g_strdup (*text_of (to, i));
}

gboolean
gst_glm4v_remote_config_equal (const GstGlm4vRemoteConfig * a,
    const GstGlm4vRemoteConfig * b)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (texts); i++)
    if (g_strcmp0 (*text_of ((GstGlm4vRemoteConfig *) a, i),
            *text_of ((GstGlm4vRemoteConfig *) b, i)) != 0)
      return FALSE;
  return a->max_pixels == b->max_pixels && a->coding == b->coding;
}

gboolean
gst_glm4v_remote_config_set (GstGlm4vRemoteConfig * config, guint id,
    const GValue * value)
{
  gchar **text = find_text (config, id);
  const gchar *given;

  if (text) {
    given = g_value_get_string (value);
    g_free (*text);
    *text = g_strdup (given && *given ? given : NULL);
  } else if (id == PROP_REMOTE_MAX_PIXELS) {
    config->max_pixels = g_value_get_uint64 (value);
  } else if (id == PROP_REMOTE_CODING) {
    config->coding = g_value_get_enum (value);
  } else {
    return FALSE;
  }
  return TRUE;
}

gboolean
gst_glm4v_remote_config_get (const GstGlm4vRemoteConfig * config, guint id,
    GValue * value)
{
  gchar **text = find_text (config, id);

  if (text)
    g_value_set_string (value, *text);
  else if (id == PROP_REMOTE_MAX_PIXELS)
    g_value_set_uint64 (value, config->max_pixels);
  else if (id == PROP_REMOTE_CODING)
    g_value_set_enum (value, config->coding);
  else
    return FALSE;
  return TRUE;
}

GType
gst_glm4v_remote_coding_get_type (void)
{
  static const GEnumValue values[] = {
    {GST_GLM4V_REMOTE_CODING_JPEG, "JPEG, quality 90, colours at full size",
        "jpeg"},
    {GST_GLM4V_REMOTE_CODING_PNG, "PNG, nothing is lost", "png"},
    {0, NULL, NULL}
  };
  static gsize type;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type,
        g_enum_register_static ("GstGlm4vRemoteCoding", values));
  return type;
}

/* All since 0.1. */
void
gst_glm4v_remote_config_install (GObjectClass * klass)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (texts); i++)
    g_object_class_install_property (klass, texts[i].id,
        g_param_spec_string (texts[i].name, texts[i].nick, texts[i].about,
            NULL, READY));
  g_object_class_install_property (klass, PROP_REMOTE_MAX_PIXELS,
      g_param_spec_uint64 ("remote-max-pixels", "Remote maximum pixels",
          "With endpoint: larger pictures are made smaller before they are "
          "sent, 0 = never", 0, G_MAXUINT64,
          GST_GLM4V_DEFAULT_REMOTE_MAX_PIXELS, READY));
  g_object_class_install_property (klass, PROP_REMOTE_CODING,
      g_param_spec_enum ("remote-coding", "Remote coding",
          "With endpoint: how pictures are sent",
          gst_glm4v_remote_coding_get_type (), GST_GLM4V_REMOTE_CODING_JPEG,
          READY));
  gst_type_mark_as_plugin_api (gst_glm4v_remote_coding_get_type (), 0);
}
