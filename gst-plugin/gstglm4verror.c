/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of failures and the only calls that post errors and warnings.
 * Callers have released every lock: a bus handler may run application code. */
#include "gstglm4verror.h"

#include <glm4v/glm4v.h>
#include <string.h>

typedef enum
{
  RESOURCE,
  STREAM,
  LIBRARY
} Domain;

typedef struct
{
  Domain domain;
  gint code;
  const gchar *what;
  const gchar *advice;
} Row;

static const Row rows[] = {
  [GST_GLM4V_FAULT_NO_MODEL] = {RESOURCE, GST_RESOURCE_ERROR_NOT_FOUND,
        "No model directory found",
        "Set the property model-location or the environment variable "
        "GLM4V_MODEL to a directory that holds config.json and the weights."},
  [GST_GLM4V_FAULT_MODEL_SETTINGS] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "The engine does not accept these settings",
        "Check the properties device, layers, gpu-memory-limit, quantization, "
        "n-threads, max-pixels, max-batch and context-length."},
  [GST_GLM4V_FAULT_MODEL_MEMORY] = {RESOURCE, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
        "Not enough memory for the model",
        "Choose a smaller weight form (quantization=int4), lower max-pixels, "
        "free memory, or add a device (device=cuda:0,cpu)."},
  [GST_GLM4V_FAULT_MODEL_MISSING] = {RESOURCE, GST_RESOURCE_ERROR_NOT_FOUND,
        "A file of the model is missing",
        "Complete the directory or set model-location to a complete one."},
  [GST_GLM4V_FAULT_MODEL_READ] = {RESOURCE, GST_RESOURCE_ERROR_READ,
        "A file of the model cannot be read",
        "Check the permissions and the disk, and that nothing writes there."},
  [GST_GLM4V_FAULT_MODEL_FORMAT] = {RESOURCE, GST_RESOURCE_ERROR_OPEN_READ,
        "The model's files are damaged or contradict each other",
        "Copy or download the model again."},
  [GST_GLM4V_FAULT_MODEL_UNSUPPORTED] = {LIBRARY, GST_LIBRARY_ERROR_SETTINGS,
        "The model is of a kind that this version does not support",
        "Use GLM-4.1V-9B, GLM-4.6V-Flash, AutoGLM-Phone-9B or GLM-4V-9B."},
  [GST_GLM4V_FAULT_MODEL_DEVICE] = {LIBRARY, GST_LIBRARY_ERROR_INIT,
        "The compute device cannot be used",
        "Set device=auto or device=cpu."},
  [GST_GLM4V_FAULT_MODEL_INTERNAL] = {LIBRARY, GST_LIBRARY_ERROR_FAILED,
        "The engine failed while it opened the model",
        "This is a defect: please report it with GST_DEBUG=glm4v*:6 output."},
  [GST_GLM4V_FAULT_SHARING] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "Elements that share an engine have different settings",
        "Set equal values, or give one of them a model-key of its own."},
  [GST_GLM4V_FAULT_LATER] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "A property of the engine was set while it is used",
        "It applies from the next change to PAUSED on, which fails if it "
        "differs from that of an element that shares the engine."},
  [GST_GLM4V_FAULT_CONFLICT] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "Two properties exclude each other",
        "Set one of them to its default."},
  [GST_GLM4V_FAULT_SHAPE] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "Answers cannot have this shape",
        "Check the properties output, choices, fail-choices, thresholds, "
        "json-schema, json-schema-location, pattern and max-tokens."},
  [GST_GLM4V_FAULT_PROMPT_FILE] = {RESOURCE, GST_RESOURCE_ERROR_READ,
        "The file of prompt-location cannot be used",
        "Write a prompt in UTF-8 into it; until then the one that was read "
        "last is used, if there is one."},
  [GST_GLM4V_FAULT_THREAD] = {RESOURCE, GST_RESOURCE_ERROR_FAILED,
        "No thread could be started",
        "Raise the limit of threads of this process."},
  [GST_GLM4V_FAULT_CAPS] = {STREAM, GST_STREAM_ERROR_WRONG_TYPE,
        "This video cannot be described",
        "Put videoconvert and videoscale before the element."},
  [GST_GLM4V_FAULT_CUDA_MEMORY] = {STREAM, GST_STREAM_ERROR_WRONG_TYPE,
        "Frames in memory of a GPU cannot be described",
        "Put cudadownload before the element, or set device=cuda."},
  [GST_GLM4V_FAULT_FRAME_SIZE] = {STREAM, GST_STREAM_ERROR_FAILED,
        "A video frame does not match its caps",
        "Such frames pass without a caption. Check the element that produces "
        "them. This is reported once for each caps; stats counts all."},
  [GST_GLM4V_FAULT_FRAME_MAP] = {RESOURCE, GST_RESOURCE_ERROR_READ,
        "A video frame lies in memory that cannot be read",
        "Put an element that downloads frames (gldownload, cudadownload) "
        "before this one."},
  [GST_GLM4V_FAULT_FRAME_MEMORY] = {RESOURCE, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
        "Not enough memory to describe a frame",
        "Lower max-pixels, scale the video down or free memory."},
  [GST_GLM4V_FAULT_FRAME_REFUSED] = {STREAM, GST_STREAM_ERROR_FAILED,
        "A frame could not be described",
        "Check the prompt's length and the picture's size and shape."},
  [GST_GLM4V_FAULT_FRAME_DEVICE] = {RESOURCE, GST_RESOURCE_ERROR_FAILED,
        "The compute device failed",
        "Set the element to NULL and back, or use device=cpu."},
  [GST_GLM4V_FAULT_FRAME_INTERNAL] = {LIBRARY, GST_LIBRARY_ERROR_FAILED,
        "The engine failed on a frame",
        "This is a defect: please report it with GST_DEBUG=glm4v*:6 output."},
  [GST_GLM4V_FAULT_SERVER_SETTINGS] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "Servers cannot be asked with these settings",
        "Check the properties endpoint, model, api-key-file, ca-file, "
        "certificate-file and private-key-file."},
  [GST_GLM4V_FAULT_SERVER] = {RESOURCE, GST_RESOURCE_ERROR_OPEN_READ,
        "No server described a frame",
        "Check that the servers of endpoint run and can be reached."},
  [GST_GLM4V_FAULT_SERVER_REFUSED] = {RESOURCE,
        GST_RESOURCE_ERROR_NOT_AUTHORIZED,
        "A server refused to describe a frame",
        "Check the properties model, api-key-file and those of the question."},
  [GST_GLM4V_FAULT_SERVER_ANSWER] = {RESOURCE, GST_RESOURCE_ERROR_READ,
        "What a server answered cannot be used",
        "Check that endpoint leads to a server of chat completions that holds "
        "answers to choices and schemas."},
  [GST_GLM4V_FAULT_TEXT_FLOW] = {STREAM, GST_STREAM_ERROR_FAILED,
        "Captions or results could not be pushed downstream",
        "Check the elements downstream of this pad."},
  [GST_GLM4V_FAULT_DELAY] = {RESOURCE, GST_RESOURCE_ERROR_SETTINGS,
        "An answer took longer than the declared latency",
        "Raise this property, or make answers faster (max-tokens, "
        "max-pixels, interval)."},
  [GST_GLM4V_FAULT_STALLED] = {RESOURCE, GST_RESOURCE_ERROR_BUSY,
        "A frame was abandoned",
        "If the model is only slow, raise stall-timeout; else set the element "
        "to NULL and back."},
  [GST_GLM4V_FAULT_STUCK] = {LIBRARY, GST_LIBRARY_ERROR_SHUTDOWN,
        "The engine did not stop within two seconds and was left behind",
        "Its memory is freed when it answers; restart the process if it "
        "does not."},
};

G_STATIC_ASSERT (G_N_ELEMENTS (rows) == GST_GLM4V_N_FAULTS);

GstGlm4vFault
gst_glm4v_fault_from_engine (gint code, gboolean loading)
{
  switch (code) {
    case GLM4V_ERR_INVALID:
      return loading ? GST_GLM4V_FAULT_MODEL_SETTINGS :
          GST_GLM4V_FAULT_FRAME_REFUSED;
    case GLM4V_ERR_NOMEM:
      return loading ? GST_GLM4V_FAULT_MODEL_MEMORY :
          GST_GLM4V_FAULT_FRAME_MEMORY;
    case GLM4V_ERR_NOT_FOUND:
      return GST_GLM4V_FAULT_MODEL_MISSING;
    case GLM4V_ERR_IO:
      return GST_GLM4V_FAULT_MODEL_READ;
    case GLM4V_ERR_FORMAT:
      return GST_GLM4V_FAULT_MODEL_FORMAT;
    case GLM4V_ERR_UNSUPPORTED:
      return loading ? GST_GLM4V_FAULT_MODEL_UNSUPPORTED :
          GST_GLM4V_FAULT_FRAME_REFUSED;
    case GLM4V_ERR_DEVICE:
      return loading ? GST_GLM4V_FAULT_MODEL_DEVICE :
          GST_GLM4V_FAULT_FRAME_DEVICE;
    default:
      return loading ? GST_GLM4V_FAULT_MODEL_INTERNAL :
          GST_GLM4V_FAULT_FRAME_INTERNAL;
  }
}

static GQuark
domain_quark (Domain domain)
{
  switch (domain) {
    case RESOURCE:
      return GST_RESOURCE_ERROR;
    case STREAM:
      return GST_STREAM_ERROR;
    default:
      return GST_LIBRARY_ERROR;
  }
}

void
gst_glm4v_fault_describe (GstGlm4vFault fault, GQuark * domain, gint * code,
    const gchar ** what, const gchar ** advice)
{
  *domain = domain_quark (rows[fault].domain);
  *code = rows[fault].code;
  *what = rows[fault].what;
  *advice = rows[fault].advice;
}

void
gst_glm4v_fault_post_from (GstElement * element, GstMessageType type,
    GstGlm4vFault fault, const gchar * where, const gchar * detail,
    const GstGlm4vPlace * from)
{
  const Row *row = &rows[fault];
  const gchar *stop = g_str_has_suffix (detail, "?") ? "" : ".";
  gchar *text = g_strdup_printf ("%s%s%s: %s%s %s", row->what,
      where ? ": " : "", where ? where : "", detail, stop, row->advice);
  gchar *valid = g_utf8_make_valid (text, -1);  /* paths may be any bytes */
  gchar *debug = g_strdup_printf ("fault %d", (gint) fault);
  const gchar *slash = strrchr (from->file, '/');     /* where it was built */

  gst_element_message_full (element, type, domain_quark (row->domain),
      row->code, valid, debug, slash ? slash + 1 : from->file, from->function,
      from->line);
  g_free (text);
}
