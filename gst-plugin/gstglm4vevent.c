/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events between the frames, on the streaming thread, and flushes from any. */
#include "gstglm4vstream.h"

#include "gstglm4verror.h"
#include "gstglm4vframe.h"

#define GST_CAT_DEFAULT glm4vdescribe_debug

static void
forget_triggers (GstGlm4vDescribe * self)
{
  g_mutex_lock (&self->lock);
  g_queue_clear_full (&self->triggers,
      (GDestroyNotify) gst_glm4v_trigger_free);
  g_mutex_unlock (&self->lock);
}

/* Wait for no result any more and forget those on their way. */
guint
gst_glm4v_stream_begin_epoch (GstGlm4vDescribe * self)
{
  guint epoch;

  g_mutex_lock (&self->lock);
  epoch = ++self->epoch;
  g_queue_clear_full (&self->results, (GDestroyNotify) gst_glm4v_ready_free);
  g_ptr_array_set_size (self->answers, 0);
  g_clear_pointer (&self->last_result, gst_structure_free);
  gst_glm4v_history_clear (self->history);
  g_mutex_unlock (&self->lock);
  return epoch;
}

/* What was seen so far does not hold for what comes. */
static void
begin_generation (GstGlm4vDescribe * self)
{
  self->generation++;
  g_ptr_array_set_size (self->kept, 0);
}

static gboolean
set_caps (GstGlm4vDescribe * self, GstCaps * caps)
{
  GstVideoInfo info;
  gchar *text;

  if (gst_video_info_from_caps (&info, caps)
      && (guint64) GST_VIDEO_INFO_WIDTH (&info)
      * GST_VIDEO_INFO_HEIGHT (&info) <= GST_GLM4V_MAX_AREA) {
    if (!self->have_info || !gst_video_info_is_equal (&info, &self->info))
      begin_generation (self);
    self->info = info;
    self->have_info = TRUE;
    gst_glm4v_clip_clear (&self->clip);
    self->warned_frame = FALSE;
    g_mutex_lock (&self->lock);
    self->told_unreadable = FALSE;
    g_mutex_unlock (&self->lock);
    gst_clear_caps (&self->refused);
    return TRUE;
  }
  self->have_info = FALSE;
  /* The sticky event comes again with the next buffer. */
  if (self->refused && gst_caps_is_equal (self->refused, caps))
    return FALSE;
  gst_caps_replace (&self->refused, caps);
  text = gst_caps_to_string (caps);
  gst_glm4v_fault_post (GST_ELEMENT (self), GST_MESSAGE_ERROR,
      GST_GLM4V_FAULT_CAPS, text, "larger than 134217728 pixels or malformed");
  g_free (text);
  return FALSE;
}

/* Wait for pending answers; what takes too long is reported as dropped. */
static void
drain (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GQueue left = G_QUEUE_INIT;
  GstClockTime timeout;
  GstGlm4vJob *job;

  GST_OBJECT_LOCK (self);
  timeout = self->settings.eos_timeout;
  GST_OBJECT_UNLOCK (self);
  if (worker && !gst_glm4v_worker_drain (worker, timeout))
    gst_glm4v_worker_take_all (worker, &left, GST_GLM4V_END_EOS);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  while ((job = g_queue_pop_head (&left))) {
    gst_glm4v_deliver (self, job);
    gst_glm4v_job_unref (job);
  }
}

static void
reset_stream (GstGlm4vDescribe * self)
{
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  gst_glm4v_sampler_reset (&self->sampler);
  gst_glm4v_look_reset (&self->look);
  gst_glm4v_clip_clear (&self->clip);
  begin_generation (self);
}

void
gst_glm4v_stream_set_flushing (GstGlm4vDescribe * self, gboolean flushing)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  if (worker)
    gst_glm4v_worker_set_flushing (worker, flushing);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
}

static void
flush_start (GstGlm4vDescribe * self, GstEvent * event)
{
  guint epoch = gst_glm4v_stream_begin_epoch (self), i;

  gst_glm4v_stream_set_flushing (self, TRUE);
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_flush_start (self->streams[i], event, epoch);
  gst_pad_push_event (self->srcpad, event);
}

static void
flush_stop (GstGlm4vDescribe * self, GstEvent * event)
{
  guint i;

  reset_stream (self);
  forget_triggers (self);
  g_mutex_lock (&self->lock);
  self->failed = FALSE;
  g_mutex_unlock (&self->lock);
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_flush_stop (self->streams[i], event);
  gst_glm4v_stream_set_flushing (self, FALSE);
}

static void
new_segment (GstGlm4vDescribe * self, GstEvent * event)
{
  GstClockTime lateness;
  GstGlm4vPass pass;
  guint i;

  gst_glm4v_stream_read_settings (self, &pass);
  lateness = pass.exact ? 0 : pass.lateness;
  gst_event_copy_segment (event, &self->segment);
  self->segment_number++;
  gst_glm4v_sampler_reset (&self->sampler);
  gst_glm4v_clip_clear (&self->clip);
  begin_generation (self);
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_segment (self->streams[i], &self->segment,
        self->segment_number, lateness, gst_event_get_seqnum (event));
}

static void
sink_gap (GstGlm4vDescribe * self, GstEvent * event)
{
  GstClockTime start, duration;
  GstGlm4vPass pass;

  gst_glm4v_stream_read_settings (self, &pass);
  gst_event_parse_gap (event, &start, &duration);
  if (self->segment.rate >= 0)
    start = gst_glm4v_sampler_time_at (&self->sampler, start);
  gst_glm4v_stream_advance_text (self, start, duration, &pass, FALSE);
}

/* Takes the trigger. FALSE if too many wait for a frame already. */
static gboolean
add_trigger (GstGlm4vDescribe * self, GstGlm4vTrigger * trigger)
{
  gboolean fits;

  g_mutex_lock (&self->lock);
  fits = g_queue_get_length (&self->triggers) < GST_GLM4V_MAX_TRIGGERS;
  if (fits)
    g_queue_push_tail (&self->triggers, trigger);
  g_mutex_unlock (&self->lock);
  if (!fits) {
    GST_WARNING_OBJECT (self, "%d triggers wait for a frame: one is refused",
        GST_GLM4V_MAX_TRIGGERS);
    gst_glm4v_trigger_free (trigger);
  }
  return fits;
}

guint64
gst_glm4v_stream_describe (GstGlm4vDescribe * self, const gchar * prompt)
{
  guint64 id = 0;

  if (GST_STATE (self) < GST_STATE_PAUSED)
    return 0;
  g_mutex_lock (&self->lock);
  id = ++self->calls;
  g_mutex_unlock (&self->lock);
  return add_trigger (self, gst_glm4v_trigger_new_call (id, prompt)) ? id : 0;
}

/* Triggers first: those that the streaming thread takes meanwhile belong to a
 * frame that came before the worker counts this. */
void
gst_glm4v_stream_cancel (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GList *link;

  g_mutex_lock (&self->lock);
  for (link = self->triggers.head; link; link = link->next)
    ((GstGlm4vTrigger *) link->data)->canceled = TRUE;
  g_mutex_unlock (&self->lock);
  if (worker)
    gst_glm4v_worker_cancel (worker);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
}

/* The streams beside the video follow it. */
static void
tell_streams (GstGlm4vDescribe * self, GstEvent * event,
    void (*function) (GstGlm4vText * text, GstEvent * event))
{
  guint i;

  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    function (self->streams[i], event);
}

gboolean
gst_glm4v_stream_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (parent);
  GstCaps *caps;

  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_FLUSH_START:
      flush_start (self, event);
      return TRUE;
    case GST_EVENT_FLUSH_STOP:
      flush_stop (self, event);
      break;
    case GST_EVENT_STREAM_START:
      self->live_known = FALSE;
      tell_streams (self, event, gst_glm4v_text_stream_start);
      break;
    case GST_EVENT_CAPS:
      gst_event_parse_caps (event, &caps);
      if (!set_caps (self, caps)) {
        gst_event_unref (event);
        return FALSE;
      }
      break;
    case GST_EVENT_SEGMENT:
      gst_glm4v_stream_learn_live (self);
      new_segment (self, event);
      break;
    case GST_EVENT_GAP:
      sink_gap (self, event);
      break;
    case GST_EVENT_EOS:
    case GST_EVENT_SEGMENT_DONE:
      gst_glm4v_sample_end_clip (self);
      gst_glm4v_sample_end_triggers (self);
      drain (self);
      gst_glm4v_stream_send_rest (self);
      gst_glm4v_statistics_end (self);
      tell_streams (self, event, gst_glm4v_text_end);
      break;
    default:
      if (gst_glm4v_trigger_is_event (event))
        add_trigger (self, gst_glm4v_trigger_new (gst_event_get_structure
                (event)));
      tell_streams (self, event, gst_glm4v_text_event);
      break;
  }
  return gst_pad_push_event (self->srcpad, event);
}

void
gst_glm4v_stream_prepare (GstGlm4vDescribe * self)
{
  guint epoch = gst_glm4v_stream_begin_epoch (self), i;

  reset_stream (self);
  forget_triggers (self);
  self->have_info = self->live_known = FALSE;
  self->segment_number = 0;
  self->frame_number = 0;
  self->missed_loading = FALSE;
  self->told_conflict = 0;
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_reset (self->streams[i], epoch);
  g_mutex_lock (&self->lock);
  self->failed = FALSE;
  self->live = FALSE;
  self->told_latency = 0;
  self->watch = (GstGlm4vWatch) { 0 };
  self->next_id = 0;
  self->calls = 0;
  g_mutex_unlock (&self->lock);
  gst_glm4v_stream_set_flushing (self, FALSE);
}
