/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "sink pad": pads, properties and states of the element. Frames and
 * events go through gstglm4vstream.c, queries to gstglm4vquery.c.
 *
 * Threads: the streaming thread (gstglm4vstream.h), the worker
 * (gstglm4vworker.c; it calls back into gstglm4vload.c and gstglm4vdeliver.c),
 * the text pad's task (gstglm4vtextpad.c), and applications (properties,
 * states, flushes). Locks: the stream lock first,
 * then one of object lock, `lock`, the worker's, the text pad's; no two of
 * these are ever held together, none while pushing or posting. */
/**
 * SECTION:element-glm4vdescribe
 * @title: glm4vdescribe
 * @short_description: describes what a video shows
 *
 * Passes video unchanged and describes some of its frames with a GLM-4V
 * vision-language model, on this machine. Answers leave as custom meta
 * `Glm4vDescribeMeta` on the frames, as `text/x-raw` buffers on the request
 * pad `text`, as JSON on the request pad `json`, and as element messages
 * `glm4vdescribe-result`; boxes that they name as
 * `GstVideoRegionOfInterestMeta` too.
 *
 * In mode async (the default for live sources) video is never delayed: a
 * frame that is due goes to a worker, and its answer is attached to the next
 * frame that leaves. While the model is busy only the newest due frame waits.
 * In mode sync (the default otherwise) a due frame waits for its own answer.
 *
 * ## Example launch lines
 * |[
 * gst-launch-1.0 -m videotestsrc num-buffers=60 ! glm4vdescribe ! fakesink
 * ]| Print what is seen in a test picture, as messages.
 * |[
 * gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! videoconvert \
 *   ! glm4vdescribe name=d ! fakesink \
 *   d.text ! queue ! webvttenc ! filesink location=captions.vtt
 * ]| Write the captions of a clip as subtitles.
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! glm4vdescribe name=d \
 *   d.src ! queue ! o.video_sink d.text ! queue ! o.text_sink \
 *   textoverlay name=o ! videoconvert ! autovideosink
 * ]| Show a camera's picture with captions in it.
 */
#include "gstglm4vdescribe.h"

#include "gstglm4vcontract.h"
#include "gstglm4verror.h"
#include "gstglm4vframe.h"
#include "gstglm4vstream.h"

GST_DEBUG_CATEGORY (glm4vdescribe_debug);
#define GST_CAT_DEFAULT glm4vdescribe_debug

#define SIDE "(int) [ 1, " G_STRINGIFY (GLM4V_MAX_SIDE) " ]"
#define SIZES "width = " SIDE ", height = " SIDE
#define CAPS(features, formats) \
    "video/x-raw" features ", format = (string) " formats ", " SIZES

/* Frames pass whatever they are; these are the ones whose pixels can be read
 * where their memory can be mapped. Sources choose the first structure if they
 * can, so that a test source does not use 16-bit AYUV. */
#define VIDEO_CAPS CAPS ("", GST_GLM4V_FORMATS) ";" \
    CAPS ("", GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(memory:DMABuf)", GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(memory:CUDAMemory)", GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(meta:GstVideoOverlayComposition)", GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(memory:SystemMemory, meta:GstVideoOverlayComposition)", \
        GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(memory:DMABuf, meta:GstVideoOverlayComposition)", \
        GST_VIDEO_FORMATS_ALL)

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE ("src",
    GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate text_template = GST_STATIC_PAD_TEMPLATE ("text",
    GST_PAD_SRC, GST_PAD_REQUEST,
    GST_STATIC_CAPS ("text/x-raw, format = (string) utf8"));
static GstStaticPadTemplate json_template = GST_STATIC_PAD_TEMPLATE ("json",
    GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS ("application/x-json"));

G_DEFINE_TYPE_WITH_CODE (GstGlm4vDescribe, gst_glm4v_describe,
    GST_TYPE_ELEMENT, G_IMPLEMENT_INTERFACE (GST_TYPE_PRESET, NULL));
GST_ELEMENT_REGISTER_DEFINE (glm4vdescribe, "glm4vdescribe", GST_RANK_NONE,
    GST_TYPE_GLM4V_DESCRIBE);
GstGlm4vWorker *
gst_glm4v_describe_ref_worker (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker;

  g_mutex_lock (&self->lock);
  worker = self->worker ? gst_glm4v_worker_ref (self->worker) : NULL;
  g_mutex_unlock (&self->lock);
  return worker;
}
gboolean
gst_glm4v_describe_is_exact (GstGlm4vDescribe * self)
{
  GstGlm4vMode mode;
  gboolean live;

  GST_OBJECT_LOCK (self);
  mode = self->settings.mode;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  live = self->live;
  g_mutex_unlock (&self->lock);
  return mode == GST_GLM4V_MODE_SYNC || (mode == GST_GLM4V_MODE_AUTO && !live);
}
/* ---- pads ---- */

/* What comes up the text branch must not steer the video. */
static gboolean
text_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_QOS:
    case GST_EVENT_RECONFIGURE:
      gst_event_unref (event);
      return TRUE;
    default:
      return gst_pad_event_default (pad, parent, event);
  }
}

/* ---- links ---- */

/* Default handling forwards along these links; nothing reaches the text pad
 * that way, its task pushes everything. */
static GstIterator *
internal_links (GstPad * pad, GstObject * parent)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (parent);
  GValue value = G_VALUE_INIT;
  GstIterator *links;

  g_value_init (&value, GST_TYPE_PAD);
  g_value_set_object (&value, pad == self->sinkpad ? self->srcpad :
      self->sinkpad);
  links = gst_iterator_new_single (GST_TYPE_PAD, &value);
  g_value_unset (&value);
  return links;
}

/* ---- element ---- */

static GstPad *
request_new_pad (GstElement * element, GstPadTemplate * template,
    const gchar * name, const GstCaps * caps)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (element);
  const gchar *asked = GST_PAD_TEMPLATE_NAME_TEMPLATE (template);
  GstGlm4vTextKind kind = GST_GLM4V_STREAM_TEXT;
  GstPad *pad;

  if (!g_str_equal (asked, gst_glm4v_text_name (kind)))
    kind = GST_GLM4V_STREAM_JSON;
  pad = gst_glm4v_text_new_pad (self->streams[kind], template);
  if (!pad)
    return NULL;
  gst_pad_set_event_function (pad, GST_DEBUG_FUNCPTR (text_event));
  gst_pad_set_query_function (pad, GST_DEBUG_FUNCPTR (gst_glm4v_query_src));
  gst_pad_set_iterate_internal_links_function (pad,
      GST_DEBUG_FUNCPTR (internal_links));
  if (GST_STATE (element) > GST_STATE_READY
      || GST_STATE_NEXT (element) > GST_STATE_READY)
    gst_pad_set_active (pad, TRUE);
  gst_element_add_pad (element, pad);
  return pad;
}

/* As tee does: what is downstream stays as it is. */
static void
release_pad (GstElement * element, GstPad * pad)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (element);
  guint i;

  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_release_pad (self->streams[i], pad);
  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
}

static void
reset_counters (GstGlm4vDescribe * self)
{
  gst_glm4v_statistics_reset (self);
  g_mutex_lock (&self->lock);
  self->delay_max = 0;
  g_mutex_unlock (&self->lock);
}

/* Check the shape of answers as the properties stand now; may read a file. */
static void
apply_shape (GstGlm4vDescribe * self)
{
  GstGlm4vShapeSettings settings;
  GstGlm4vShape *shape;
  guint serial;

  GST_OBJECT_LOCK (self);
  serial = self->settings.shape_serial;
  gst_glm4v_shape_settings_copy (&settings, &self->settings.shape);
  GST_OBJECT_UNLOCK (self);
  shape = gst_glm4v_shape_new (&settings);
  gst_glm4v_shape_settings_clear (&settings);
  GST_OBJECT_LOCK (self);
  /* If they have changed meanwhile, who did it comes here as well. */
  if (serial == self->settings.shape_serial) {
    GstGlm4vShape *old = self->settings.question.shape;

    self->settings.question.shape = shape;
    shape = old;
  }
  GST_OBJECT_UNLOCK (self);
  g_clear_pointer (&shape, gst_glm4v_shape_unref);
}

/* FALSE after an error was posted. */
static gboolean
check_settings (GstGlm4vDescribe * self)
{
  GstGlm4vFault fault = GST_GLM4V_FAULT_CONFLICT;
  const gchar *why;
  gchar *conflict;

  apply_shape (self);
  GST_OBJECT_LOCK (self);
  why = gst_glm4v_shape_settings_unused (&self->settings.shape);
  if (!why)
    why = gst_glm4v_settings_conflict (&self->settings, &fault);
  conflict = g_strdup (why);
  GST_OBJECT_UNLOCK (self);
  if (!conflict)
    return TRUE;
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR, fault, NULL,
      conflict);
  g_free (conflict);
  return FALSE;
}

/* FALSE after an error was posted. */
static gboolean
start_timer (GstGlm4vDescribe * self)
{
  gchar *why = NULL;

  if (gst_glm4v_timer_start (self->stats_timer, &why))
    return TRUE;
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
      GST_GLM4V_FAULT_THREAD, "stats-interval", why);
  g_free (why);
  return FALSE;
}

static void
set_stats_interval (GstGlm4vDescribe * self, GstClockTime interval)
{
  gchar *why = NULL;

  /* Who means seconds must not fill the bus. */
  if (interval > 0)
    interval = MAX (interval, GST_MSECOND);
  if (gst_glm4v_timer_set_interval (self->stats_timer, interval, &why))
    return;
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_THREAD, "stats-interval", why);
  g_free (why);
}

static GstStateChangeReturn
change_state (GstElement * element, GstStateChange transition)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (element);
  GstStateChangeReturn result;
  guint epoch = 0, i;

  switch (transition) {
    case GST_STATE_CHANGE_NULL_TO_READY:
      reset_counters (self);
      if (!gst_glm4v_load_start (self))
        return GST_STATE_CHANGE_FAILURE;
      break;
    case GST_STATE_CHANGE_READY_TO_PAUSED:
      if (!check_settings (self) || !gst_glm4v_load_refresh (self))
        return GST_STATE_CHANGE_FAILURE;
      if (!start_timer (self))
        return GST_STATE_CHANGE_FAILURE;
      gst_glm4v_contract_reset (self);
      gst_glm4v_stream_prepare (self);
      break;
    case GST_STATE_CHANGE_PAUSED_TO_READY:
      gst_glm4v_timer_stop (self->stats_timer);
      epoch = gst_glm4v_stream_begin_epoch (self);
      gst_glm4v_stream_set_flushing (self, TRUE);
      break;
    default:
      break;
  }
  result = GST_ELEMENT_CLASS (gst_glm4v_describe_parent_class)->change_state
      (element, transition);
  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED
      && result == GST_STATE_CHANGE_FAILURE)
    gst_glm4v_timer_stop (self->stats_timer);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
      gst_glm4v_text_reset (self->streams[i], epoch);
  if (transition == GST_STATE_CHANGE_READY_TO_NULL)
    gst_glm4v_load_stop (self);
  return result;
}

static void
get_property (GObject * object, guint id, GValue * value, GParamSpec * spec)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (object);
  gboolean known;

  switch (id) {
    case PROP_STATS_INTERVAL:
      g_value_set_uint64 (value,
          gst_glm4v_timer_get_interval (self->stats_timer));
      break;
    case PROP_STATS:
      g_value_take_boxed (value, gst_glm4v_statistics_describe (self));
      break;
    case PROP_MAX_OBSERVED_DELAY:
      g_mutex_lock (&self->lock);
      g_value_set_uint64 (value, self->delay_max);
      g_mutex_unlock (&self->lock);
      break;
    case PROP_LAST_RESULT:
      g_mutex_lock (&self->lock);
      g_value_set_boxed (value, self->last_result);
      g_mutex_unlock (&self->lock);
      break;
    case PROP_MODEL_INFO:
      g_value_take_boxed (value, gst_glm4v_load_model_info (self));
      break;
    default:
      GST_OBJECT_LOCK (self);
      known = gst_glm4v_settings_get (&self->settings, id, value);
      GST_OBJECT_UNLOCK (self);
      if (!known)
        G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
      break;
  }
}

/* Values of the engine's properties are kept until it is opened again. */
static void
warn_later (GstGlm4vDescribe * self, guint id, const GParamSpec * spec)
{
  if (id <= PROP_LAST_OF_ENGINE && GST_STATE (self) > GST_STATE_READY)
    gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_WARNING,
        GST_GLM4V_FAULT_LATER, spec->name, "the engine keeps the old value");
}

static void
set_property (GObject * object, guint id, const GValue * value,
    GParamSpec * spec)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (object);
  gboolean known, shape;
  guint serial;

  if (id == PROP_STATS_INTERVAL) {
    set_stats_interval (self, g_value_get_uint64 (value));
    return;
  }
  GST_OBJECT_LOCK (self);
  serial = self->settings.shape_serial;
  known = gst_glm4v_settings_set (&self->settings, id, value);
  shape = self->settings.shape_serial != serial;
  GST_OBJECT_UNLOCK (self);
  if (shape)
    apply_shape (self);
  warn_later (self, id, spec);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  else if (id == PROP_LATENCY || id == PROP_MODE)
    gst_element_post_message (GST_ELEMENT (self),
        gst_message_new_latency (GST_OBJECT (self)));
}

static void
free_answer (gpointer answer)
{
  g_clear_pointer (&answer, gst_glm4v_job_unref);
}

static void
finalize (GObject * object)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (object);
  guint i;

  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_unref (self->streams[i]);
  gst_glm4v_timer_free (self->stats_timer);
  gst_glm4v_settings_clear (&self->settings);
  gst_clear_caps (&self->refused);
  g_queue_clear_full (&self->results, (GDestroyNotify) gst_glm4v_ready_free);
  g_ptr_array_unref (self->kept);
  g_queue_clear_full (&self->triggers,
      (GDestroyNotify) gst_glm4v_trigger_free);
  g_free (self->unreadable);
  gst_glm4v_device_forget (self);
  gst_glm4v_look_clear (&self->look);
  gst_glm4v_clip_clear (&self->clip);
  g_ptr_array_unref (self->answers);
  gst_glm4v_prompt_file_free (self->prompt_file);
  gst_glm4v_history_free (self->history);
  gst_glm4v_contract_reset (self);
  g_clear_pointer (&self->model, g_atomic_rc_box_release);
  g_clear_pointer (&self->last_result, gst_structure_free);
  g_clear_pointer (&self->model_info, gst_structure_free);
  g_mutex_clear (&self->lock);
  G_OBJECT_CLASS (gst_glm4v_describe_parent_class)->finalize (object);
}

static void
gst_glm4v_describe_class_init (GstGlm4vDescribeClass * klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);

  GST_DEBUG_CATEGORY_INIT (glm4vdescribe_debug, "glm4vdescribe", 0,
      "Describes video with a vision-language model");
  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  gst_glm4v_properties_install (object_class);
  /**
   * GstGlm4vDescribe::describe:
   * @prompt: (nullable): what to ask, or %NULL for the property
   *
   * Describe the next frame that can be.
   *
   * Returns: the `trigger-id` of its result, or 0 below PAUSED
   *
   * Since: 0.1
   */
  g_signal_new_class_handler ("describe", G_TYPE_FROM_CLASS (klass),
      G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION,
      G_CALLBACK (gst_glm4v_stream_describe), NULL, NULL, NULL, G_TYPE_UINT64,
      1, G_TYPE_STRING);
  /**
   * GstGlm4vDescribe::cancel:
   *
   * Cancel what waits to be described and what is being described. Each has its
   * result, with status dropped, in its order; later frames are described as
   * usual.
   *
   * Since: 0.1
   */
  g_signal_new_class_handler ("cancel", G_TYPE_FROM_CLASS (klass),
      G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION,
      G_CALLBACK (gst_glm4v_stream_cancel), NULL, NULL, NULL, G_TYPE_NONE, 0);
  /**
   * GstGlm4vDescribe::reset-stats:
   *
   * Let the property stats begin anew.
   *
   * Since: 0.1
   */
  g_signal_new_class_handler ("reset-stats", G_TYPE_FROM_CLASS (klass),
      G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION,
      G_CALLBACK (gst_glm4v_statistics_reset), NULL, NULL, NULL, G_TYPE_NONE,
      0);
  /**
   * GstGlm4vDescribe::result:
   * @result: a #GstStructure, during the call only
   *
   * A result, in the order of results, on the thread that delivers it: the
   * handler must not block.
   *
   * Since: 0.1
   */
  g_signal_new ("result", G_TYPE_FROM_CLASS (klass), G_SIGNAL_RUN_LAST, 0,
      NULL, NULL, NULL, G_TYPE_NONE, 1,
      GST_TYPE_STRUCTURE | G_SIGNAL_TYPE_STATIC_SCOPE);
  /**
   * GstGlm4vDescribe::partial:
   * @id: that its result will have
   * @text: of the answer so far, during the call only
   *
   * An answer that grows, at most ten times a second and always before its
   * result, on the thread that delivers results: the handler must not block.
   *
   * Since: 0.1
   */
  g_signal_new ("partial", G_TYPE_FROM_CLASS (klass), G_SIGNAL_RUN_LAST, 0,
      NULL, NULL, NULL, G_TYPE_NONE, 2, G_TYPE_UINT64,
      G_TYPE_STRING | G_SIGNAL_TYPE_STATIC_SCOPE);
  element_class->change_state = GST_DEBUG_FUNCPTR (change_state);
  element_class->request_new_pad = GST_DEBUG_FUNCPTR (request_new_pad);
  element_class->release_pad = GST_DEBUG_FUNCPTR (release_pad);
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_add_static_pad_template (element_class, &text_template);
  gst_element_class_add_static_pad_template (element_class, &json_template);
  gst_element_class_set_static_metadata (element_class,
      "GLM-4V video description", "Filter/Analyzer/Video",
      "Describes frames with a vision-language model while the video passes "
      "unchanged; captions leave as metadata, text and messages",
      "The glm4vdescribe developers");
}

static void
gst_glm4v_describe_init (GstGlm4vDescribe * self)
{
  GstElement *element = GST_ELEMENT (self);

  g_mutex_init (&self->lock);
  g_queue_init (&self->results);
  g_queue_init (&self->triggers);
  g_queue_init (&self->clip.frames);
  self->answers = g_ptr_array_new_with_free_func (free_answer);
  self->kept = gst_glm4v_kept_new ();
  self->prompt_file = gst_glm4v_prompt_file_new ();
  self->history = gst_glm4v_history_new ();
  gst_glm4v_stats_reset (&self->stats);
  self->stats_timer = gst_glm4v_timer_new (gst_glm4v_statistics_post, self);
  gst_glm4v_settings_init (&self->settings);
  apply_shape (self);
  self->streams[GST_GLM4V_STREAM_TEXT] =
      gst_glm4v_text_new (GST_GLM4V_STREAM_TEXT,
      gst_static_pad_template_get_caps (&text_template));
  self->streams[GST_GLM4V_STREAM_JSON] =
      gst_glm4v_text_new (GST_GLM4V_STREAM_JSON,
      gst_static_pad_template_get_caps (&json_template));
  self->sinkpad = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_chain_function (self->sinkpad,
      GST_DEBUG_FUNCPTR (gst_glm4v_stream_chain));
  gst_pad_set_event_function (self->sinkpad,
      GST_DEBUG_FUNCPTR (gst_glm4v_stream_event));
  gst_pad_set_query_function (self->sinkpad,
      GST_DEBUG_FUNCPTR (gst_glm4v_query_sink));
  gst_pad_set_iterate_internal_links_function (self->sinkpad,
      GST_DEBUG_FUNCPTR (internal_links));
  GST_PAD_SET_PROXY_CAPS (self->sinkpad);
  GST_PAD_SET_PROXY_SCHEDULING (self->sinkpad);
  gst_element_add_pad (element, self->sinkpad);

  self->srcpad = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_query_function (self->srcpad,
      GST_DEBUG_FUNCPTR (gst_glm4v_query_src));
  gst_pad_set_iterate_internal_links_function (self->srcpad,
      GST_DEBUG_FUNCPTR (internal_links));
  GST_PAD_SET_PROXY_CAPS (self->srcpad);
  gst_element_add_pad (element, self->srcpad);
}
