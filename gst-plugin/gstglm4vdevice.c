/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose memory frames may lie in: memory:CUDAMemory is offered where the model
 * is on a GPU, whose context neighbours get. From any thread. */
#include "gstglm4vdescribe.h"

#include <string.h>

#include "gstglm4vcuda.h"
#include "gstglm4verror.h"

#define GST_CAT_DEFAULT glm4vdescribe_debug
#define CUDA_FEATURE "memory:CUDAMemory"

/* The GPU that looks at the frames, or will if all goes well; -1: none. */
static gint
find_gpu (GstGlm4vDescribe * self)
{
  const GstGlm4vModelConfig *config = &self->settings.model;
  gchar loaded[sizeof self->image_device];
  gint number;

  g_mutex_lock (&self->lock);
  memcpy (loaded, self->image_device, sizeof loaded);
  g_mutex_unlock (&self->lock);
  if (*loaded)
    return gst_glm4v_cuda_number (loaded);
  GST_OBJECT_LOCK (self);
  number = gst_glm4v_cuda_number (config->layers ? config->layers :
      config->device);
  if (config->remote.endpoint)
    number = -1;
  GST_OBJECT_UNLOCK (self);
  return number;
}

/* The context of that GPU, kept until NULL; NULL: none. */
static GstObject *
ref_context (GstGlm4vDescribe * self)
{
  gint number = find_gpu (self);
  GstObject *context = NULL, *old = NULL;

  if (number < 0)
    return NULL;
  g_mutex_lock (&self->lock);
  if (self->cuda && self->cuda_number == number)
    context = gst_object_ref (self->cuda);
  g_mutex_unlock (&self->lock);
  if (context)
    return context;
  context = gst_glm4v_cuda_get_context (number);
  if (!context)
    return NULL;
  g_mutex_lock (&self->lock);
  old = self->cuda;
  self->cuda = gst_object_ref (context);
  self->cuda_number = number;
  g_mutex_unlock (&self->lock);
  gst_clear_object (&old);
  return context;
}

gboolean
gst_glm4v_device_answer_context (GstGlm4vDescribe * self, GstQuery * query)
{
  GstObject *context = NULL;
  const gchar *type = NULL;
  gboolean answered = FALSE;

  if (gst_query_parse_context_type (query, &type)
      && g_str_equal (type, "gst.cuda.context"))
    context = ref_context (self);
  if (context)
    answered = gst_glm4v_cuda_answer (GST_ELEMENT (self), query, context);
  gst_clear_object (&context);
  return answered;
}

/* ANY contains every feature, system memory too. */
static gboolean
is_cuda (const GstCapsFeatures * features)
{
  return !gst_caps_features_is_any (features)
      && gst_caps_features_contains (features, CUDA_FEATURE);
}

static gboolean
drop_cuda (GstCapsFeatures * features, GstStructure * structure, gpointer user)
{
  return !is_cuda (features);
}

/* Nothing but frames in memory of a GPU is offered. */
static gboolean
is_all_cuda (const GstCaps * caps)
{
  guint i, n = caps ? gst_caps_get_size (caps) : 0;

  for (i = 0; i < n; i++)
    if (!is_cuda (gst_caps_get_features (caps, i)))
      return FALSE;
  return n > 0;
}

/* Once for each start: negotiation asks often. */
static void
tell_refused (GstGlm4vDescribe * self, const GstCaps * offered)
{
  gboolean first;
  gchar *text;

  g_mutex_lock (&self->lock);
  first = !self->told_cuda;
  self->told_cuda = TRUE;
  g_mutex_unlock (&self->lock);
  if (!first)
    return;
  text = gst_caps_to_string (offered);
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_CUDA_MEMORY, text, "the model is not on a GPU");
  g_free (text);
}

/* May frames be in memory of a GPU? Below READY properties may still change. */
static gboolean
takes_cuda (GstGlm4vDescribe * self)
{
  GstObject *context;

  if (GST_STATE (self) < GST_STATE_READY
      && GST_STATE_NEXT (self) < GST_STATE_READY)
    return TRUE;
  context = ref_context (self);
  if (!context)
    return FALSE;
  gst_object_unref (context);
  return TRUE;
}

static gboolean
has_cuda (const GstCaps * caps)
{
  guint i;

  for (i = 0; i < gst_caps_get_size (caps); i++)
    if (is_cuda (gst_caps_get_features (caps, i)))
      return TRUE;
  return FALSE;
}

static void
filter_caps (GstGlm4vDescribe * self, GstQuery * query)
{
  GstCaps *caps, *filter;

  gst_query_parse_caps_result (query, &caps);
  if (!has_cuda (caps) || takes_cuda (self))
    return;
  gst_query_parse_caps (query, &filter);
  if (is_all_cuda (filter))
    tell_refused (self, filter);
  caps = gst_caps_copy (caps);
  gst_caps_filter_and_map_in_place (caps, drop_cuda, NULL);
  gst_query_set_caps_result (query, caps);
  gst_caps_unref (caps);
}

static void
filter_accepted (GstGlm4vDescribe * self, GstQuery * query)
{
  GstCaps *caps;

  gst_query_parse_accept_caps (query, &caps);
  if (!is_all_cuda (caps) || takes_cuda (self))
    return;
  tell_refused (self, caps);
  gst_query_set_accept_caps_result (query, FALSE);
}

void
gst_glm4v_device_filter_caps (GstGlm4vDescribe * self, GstQuery * query)
{
  if (GST_QUERY_TYPE (query) == GST_QUERY_CAPS)
    filter_caps (self, query);
  else if (GST_QUERY_TYPE (query) == GST_QUERY_ACCEPT_CAPS)
    filter_accepted (self, query);
}

void
gst_glm4v_device_set_loaded (GstGlm4vDescribe * self,
    const glm4v_model_info * info)
{
  g_mutex_lock (&self->lock);
  g_strlcpy (self->image_device, info->image_device,
      sizeof self->image_device);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_device_forget (GstGlm4vDescribe * self)
{
  GstObject *context;

  g_mutex_lock (&self->lock);
  context = g_steal_pointer (&self->cuda);
  *self->image_device = 0;
  self->told_cuda = FALSE;
  g_mutex_unlock (&self->lock);
  gst_clear_object (&context);
}
