/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames on the streaming thread: each passes, results are attached, the text
 * pad gets the position of the video. gstglm4vsample.c decides which are
 * described, gstglm4vevent.c has the events between them. */
#include "gstglm4vstream.h"

#include "gstglm4vanalytics.h"
#include "gstglm4vcaption.h"
#include "gstglm4vregion.h"
#include "gstglm4vsegment.h"

#define GST_CAT_DEFAULT glm4vdescribe_debug

/* ---- what the other files of the streaming thread use ---- */

void
gst_glm4v_stream_learn_live (GstGlm4vDescribe * self)
{
  GstQuery *query;
  gboolean live = FALSE;

  if (self->live_known)
    return;
  self->live_known = TRUE;
  query = gst_query_new_latency ();
  if (gst_pad_peer_query (self->sinkpad, query))
    gst_query_parse_latency (query, &live, NULL, NULL);
  gst_query_unref (query);
  g_mutex_lock (&self->lock);
  self->live = live;
  g_mutex_unlock (&self->lock);
  GST_INFO_OBJECT (self, "the source is %slive", live ? "" : "not ");
}

void
gst_glm4v_stream_read_settings (GstGlm4vDescribe * self, GstGlm4vPass * pass)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  pass->cancels = worker ? gst_glm4v_worker_get_cancels (worker) : 0;
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  pass->exact = gst_glm4v_describe_is_exact (self);
  GST_OBJECT_LOCK (self);
  pass->sampling = gst_glm4v_settings_sampling (&self->settings);
  pass->scene_threshold = self->settings.scene_threshold;
  pass->change_threshold = self->settings.change_threshold;
  pass->gray_bits = self->settings.gray_bits;
  pass->serial = self->settings.serial;
  pass->clip = self->settings.clip;
  if (pass->clip.n > 1)
    pass->sampling.fill = pass->clip.window;
  pass->gap_interval = self->settings.gap_interval;
  pass->lateness = self->settings.lateness;
  pass->attach_meta = self->settings.attach_meta;
  pass->persist_meta = self->settings.attach_meta
      && self->settings.persist_meta;
  pass->send_events = self->settings.send_events;
  pass->on_error = self->settings.on_error;
  GST_OBJECT_UNLOCK (self);
  /* Without captions there is nothing to be read. */
  pass->sampling.paced &=
      gst_glm4v_text_is_wanted (self->streams[GST_GLM4V_STREAM_TEXT]);
}

GstClockTime
gst_glm4v_stream_frame_period (GstGlm4vDescribe * self)
{
  if (!self->have_info || GST_VIDEO_INFO_FPS_N (&self->info) <= 0)
    return GST_CLOCK_TIME_NONE;
  /* Rounded up: what is counted in frames must not miss a whole second. */
  return gst_util_uint64_scale_int_ceil (GST_SECOND,
      GST_VIDEO_INFO_FPS_D (&self->info), GST_VIDEO_INFO_FPS_N (&self->info));
}

gboolean
gst_glm4v_stream_has_failed (GstGlm4vDescribe * self)
{
  gboolean failed;

  g_mutex_lock (&self->lock);
  failed = self->failed;
  g_mutex_unlock (&self->lock);
  return failed;
}

void
gst_glm4v_stream_count (GstGlm4vDescribe * self, guint64 * counter)
{
  g_mutex_lock (&self->lock);
  ++*counter;
  g_mutex_unlock (&self->lock);
}

/* ---- results on frames ---- */

/* detection: what upstream found in this frame, if the result is about it. */
static void
attach_one (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstStructure * result, guint detection)
{
  gst_glm4v_caption_attach (buffer, result);
  gst_glm4v_analytics_attach (buffer, result, detection);
  if (self->have_info)
    gst_glm4v_region_attach (buffer, &self->info, result);
}

/* For elements downstream in the same branch. */
static void
send_event (GstGlm4vDescribe * self, const GstStructure * result)
{
  GstStructure *structure = gst_structure_copy (result);

  gst_structure_set_name (structure, GST_GLM4V_RESULT_EVENT);
  gst_pad_push_event (self->srcpad,
      gst_event_new_custom (GST_EVENT_CUSTOM_DOWNSTREAM, structure));
}

static void
take_results (GstGlm4vDescribe * self, GQueue * results)
{
  GstGlm4vReady *ready;

  g_mutex_lock (&self->lock);
  while ((ready = g_queue_pop_head (&self->results)))
    g_queue_push_tail (results, ready);
  g_mutex_unlock (&self->lock);
}

/* A frame has got this result; takes it. */
static void
keep_result (GstGlm4vDescribe * self, const GstGlm4vPass * pass,
    GstGlm4vReady * ready)
{
  if (pass->persist_meta && ready->generation == self->generation)
    gst_glm4v_kept_add (self->kept, ready);
  else
    gst_glm4v_ready_free (ready);
}

/* Attach what async answers wait for a frame. This comes before anyone keeps a
 * reference of it: a frame that is shared would have to be copied for the
 * metas, and its pool would lose the original. */
static GstBuffer *
attach_results (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass)
{
  GQueue ready = G_QUEUE_INIT;
  GstGlm4vReady *result;

  take_results (self, &ready);
  if (!g_queue_is_empty (&ready) && pass->attach_meta)
    buffer = gst_buffer_make_writable (buffer);
  while ((result = g_queue_pop_head (&ready))) {
    if (pass->attach_meta)
      attach_one (self, buffer, result->structure, 0);
    if (pass->send_events)
      send_event (self, result->structure);
    keep_result (self, pass, result);
  }
  return buffer;
}

/* With persist-meta: what the frame has not got, earlier results say. */
static GstBuffer *
repeat_results (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass)
{
  GstClockTime time = gst_glm4v_segment_running_time (&self->segment,
      GST_BUFFER_PTS (buffer));
  const GstStructure *result;
  guint at = 0;

  if (!pass->persist_meta)
    g_ptr_array_set_size (self->kept, 0);
  while ((result = gst_glm4v_kept_next (self->kept, &at, time))) {
    buffer = gst_buffer_make_writable (buffer);
    attach_one (self, buffer, result, 0);
  }
  return buffer;
}

void
gst_glm4v_stream_send_rest (GstGlm4vDescribe * self)
{
  GQueue rest = G_QUEUE_INIT;
  GstGlm4vReady *result;
  GstGlm4vPass pass;

  gst_glm4v_stream_read_settings (self, &pass);
  if (!pass.send_events)
    return;
  take_results (self, &rest);
  while ((result = g_queue_pop_head (&rest))) {
    send_event (self, result->structure);
    gst_glm4v_ready_free (result);
  }
}

/* ---- time on the text pad ---- */

static GstClockTime
length_of (GstGlm4vDescribe * self, GstClockTime duration)
{
  GstClockTime length = duration;

  if (!GST_CLOCK_TIME_IS_VALID (length) || length == 0)
    length = gst_glm4v_stream_frame_period (self);
  if (!GST_CLOCK_TIME_IS_VALID (length))
    length = 1;
  return MIN (length, GST_SECOND);
}

/* How far GAPs may go: not to where the next caption may begin. */
static GstClockTime
gap_target (GstGlm4vDescribe * self, const GstGlm4vPass * pass,
    GstClockTime need)
{
  GstClockTime ahead;

  if (!pass->exact)
    return need + pass->gap_interval;
  ahead = gst_glm4v_sampler_ahead (&self->sampler);
  if (!GST_CLOCK_TIME_IS_VALID (ahead) || ahead == 0)
    return need;
  return need + MIN (ahead - 1, pass->gap_interval);    /* need is 1 later */
}

/* The text pad may push GAPs up to the frame at `time`; `waiting` keeps that
 * frame's own time open for the caption that it waits for. */
void
gst_glm4v_stream_advance_text (GstGlm4vDescribe * self, GstClockTime time,
    GstClockTime duration, const GstGlm4vPass * pass, gboolean waiting)
{
  GstClockTime end, need, target;
  guint i;

  if (!GST_CLOCK_TIME_IS_VALID (time) || time >= G_MAXINT64
      || self->segment.format != GST_FORMAT_TIME)
    return;
  end = time + length_of (self, duration);
  if (self->segment.rate < 0) {
    for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
      gst_glm4v_text_gap (self->streams[i], time, end - time);
    return;
  }
  if (pass->exact)
    need = waiting ? time : time + 1;
  else
    need = end > pass->lateness ? end - pass->lateness : 0;
  target = waiting ? need : gap_target (self, pass, need);
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_advance (self->streams[i], need, target, end);
}

/* Where a frame lies on the text pad: backwards PTS are as they should be. */
static GstClockTime
text_time (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  return self->segment.rate < 0 ? GST_BUFFER_PTS (buffer) :
      gst_glm4v_sampler_time (&self->sampler);
}

/* Have the frame described and, if it is exact, wait. Its results go to results
 * (of GstGlm4vJob). */
static void
describe_frame (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstGlm4vWanted * wanted, GQueue * results)
{
  GQueue waiting = G_QUEUE_INIT;
  GstGlm4vJob *job;

  gst_glm4v_sample_submit (self, buffer, pass, wanted, &waiting);
  while ((job = g_queue_pop_head (&waiting))) {
    if (gst_glm4v_sample_wait (self, job))
      g_queue_push_tail (results, job);
    else
      gst_glm4v_job_unref (job);
  }
}

/* What exact frames waited for lies on them. */
static GstBuffer *
attach_own (GstGlm4vDescribe * self, GstBuffer * buffer, GQueue * results,
    const GstGlm4vPass * pass)
{
  GstGlm4vJob *job;

  if (pass->attach_meta && !g_queue_is_empty (results))
    buffer = gst_buffer_make_writable (buffer);
  while ((job = g_queue_pop_head (results))) {
    if (pass->attach_meta && job->result)
      attach_one (self, buffer, job->result,
          job->roi ? job->roi->detection : 0);
    if (pass->attach_meta && job->result && job->roi && job->roi->number > 0)
      gst_glm4v_region_tell (buffer, job->roi->number, job->result);
    if (pass->send_events && job->result)
      send_event (self, job->result);
    if (pass->attach_meta && job->result)
      keep_result (self, pass, gst_glm4v_ready_new (job));
    gst_glm4v_job_unref (job);
  }
  return buffer;
}

static void
wait_room (GstGlm4vDescribe * self)
{
  guint i;

  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_wait_room (self->streams[i]);
}

GstFlowReturn
gst_glm4v_stream_chain (GstPad * pad, GstObject * parent, GstBuffer * buffer)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (parent);
  GstClockTime time, duration = GST_BUFFER_DURATION (buffer);
  GstGlm4vWanted wanted = {.triggers = G_QUEUE_INIT };
  GQueue results = G_QUEUE_INIT;
  gboolean any;
  GstGlm4vPass pass;

  if (gst_glm4v_stream_has_failed (self))
    goto fail;
  gst_glm4v_stream_learn_live (self);
  gst_glm4v_stream_read_settings (self, &pass);
  gst_glm4v_sample_notice_load (self);
  gst_glm4v_sample_end_canceled (self);
  any = gst_glm4v_sample_want (self, buffer, &pass, &wanted);
  time = text_time (self, buffer);
  buffer = attach_results (self, buffer, &pass);
  if (!(any && pass.exact))
    buffer = repeat_results (self, buffer, &pass);
  if (any && pass.exact)
    gst_glm4v_stream_advance_text (self, time, duration, &pass, TRUE);
  if (any)
    describe_frame (self, buffer, &pass, &wanted, &results);
  /* Where the time is counted, what is behind the pads may wait for a time that
   * the video never has: there the text must not hold it up. */
  if (!g_queue_is_empty (&results) && time == GST_BUFFER_PTS (buffer))
    wait_room (self);
  gst_glm4v_stream_advance_text (self, time, duration, &pass, FALSE);
  buffer = attach_own (self, buffer, &results, &pass);
  if (any && pass.exact)
    buffer = repeat_results (self, buffer, &pass);

  self->frame_number++;
  gst_glm4v_stream_count (self, &self->stats.frames_seen);
  if (!gst_glm4v_stream_has_failed (self))
    return gst_pad_push (self->srcpad, buffer);

fail:
  gst_buffer_unref (buffer);
  return GST_FLOW_ERROR;
}
