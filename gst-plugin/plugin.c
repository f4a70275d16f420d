/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registers the element and its metadata. Nothing else happens here: no
 * thread, no device, no file. */
#include <gst/gst.h>

#include "gstglm4vcaption.h"
#include "gstglm4vdescribe.h"
#include "gstglm4vtrigger.h"

static gboolean
plugin_init (GstPlugin * plugin)
{
  gst_glm4v_caption_register_meta ();
  gst_glm4v_trigger_register_meta ();
  return GST_ELEMENT_REGISTER (glm4vdescribe, plugin);
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, glm4vdescribe,
    "Describes video with a GLM-4V vision-language model", plugin_init,
    GLM4V_VERSION, "LGPL", "glm4vdescribe", "glm4vdescribe")
