/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "sink pad": caps, buffers, events and states of the element; the other
 * stages are called from here, queries are answered in gstglm4vquery.c.
 *
 * Threads: the streaming thread (chain, serialized events), the worker
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
 * pad `text`, and as element messages `glm4vdescribe-result`; boxes that they
 * name as `GstVideoRegionOfInterestMeta` too.
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

#include "gstglm4vcaption.h"
#include "gstglm4verror.h"
#include "gstglm4vframe.h"
#include "gstglm4vregion.h"

GST_DEBUG_CATEGORY_STATIC (glm4vdescribe_debug);
#define GST_CAT_DEFAULT glm4vdescribe_debug

#define SIDE "(int) [ 1, " G_STRINGIFY (GLM4V_MAX_SIDE) " ]"
#define SIZES "width = " SIDE ", height = " SIDE
#define CAPS(features, formats) \
    "video/x-raw" features ", format = (string) " formats ", " SIZES

/* Frames pass whatever they are; these are the ones whose pixels can be read
 * where their memory can be mapped. Sources take the first structure if they
 * may choose, so that a test source does not make 16-bit AYUV. */
#define VIDEO_CAPS CAPS ("", GST_GLM4V_FORMATS) ";" \
    CAPS ("", GST_VIDEO_FORMATS_ALL) ";" \
    CAPS ("(memory:DMABuf)", GST_VIDEO_FORMATS_ALL) ";" \
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

G_DEFINE_TYPE_WITH_CODE (GstGlm4vDescribe, gst_glm4v_describe,
    GST_TYPE_ELEMENT, G_IMPLEMENT_INTERFACE (GST_TYPE_PRESET, NULL));
GST_ELEMENT_REGISTER_DEFINE (glm4vdescribe, "glm4vdescribe", GST_RANK_NONE,
    GST_TYPE_GLM4V_DESCRIBE);

/* The settings that a buffer needs, copied once under the object lock. */
typedef struct
{
  GstGlm4vSampling sampling;
  GstClockTime gap_interval, lateness;
  gboolean attach_meta, exact;
  GstGlm4vOnError on_error;
} Pass;

/* ---- frames: streaming thread ---- */

/* Wait for no result any more and forget those on their way. */
static guint
begin_epoch (GstGlm4vDescribe * self)
{
  guint epoch;

  g_mutex_lock (&self->lock);
  epoch = ++self->epoch;
  g_queue_clear_full (&self->results, (GDestroyNotify) gst_structure_free);
  g_mutex_unlock (&self->lock);
  return epoch;
}

static void
learn_live (GstGlm4vDescribe * self)
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

static void
read_settings (GstGlm4vDescribe * self, Pass * pass)
{
  pass->exact = gst_glm4v_describe_is_exact (self);
  GST_OBJECT_LOCK (self);
  pass->sampling = self->settings.sampling;
  pass->gap_interval = self->settings.gap_interval;
  pass->lateness = self->settings.lateness;
  pass->attach_meta = self->settings.attach_meta;
  pass->on_error = self->settings.on_error;
  GST_OBJECT_UNLOCK (self);
}

static GstClockTime
frame_period (GstGlm4vDescribe * self)
{
  if (!self->have_info || GST_VIDEO_INFO_FPS_N (&self->info) <= 0)
    return GST_CLOCK_TIME_NONE;
  /* Rounded up: what is counted in frames must not miss a whole second. */
  return gst_util_uint64_scale_int_ceil (GST_SECOND,
      GST_VIDEO_INFO_FPS_D (&self->info), GST_VIDEO_INFO_FPS_N (&self->info));
}

static gboolean
is_due (GstGlm4vDescribe * self, GstBuffer * buffer, const Pass * pass,
    GstClockTime * until_next)
{
  const GstBufferFlags unusable = GST_BUFFER_FLAG_GAP
      | GST_BUFFER_FLAG_CORRUPTED;
  gboolean trick = self->segment.rate < 0
      || (self->segment.flags & GST_SEGMENT_FLAG_TRICKMODE);

  return gst_glm4v_sampler_take (&self->sampler, &pass->sampling,
      &(GstGlm4vTick) {
        .pts = GST_BUFFER_PTS (buffer),
        .duration = GST_BUFFER_DURATION (buffer),
        .period = frame_period (self),
        .arrival = (GstClockTime) g_get_monotonic_time () * 1000,
        .start = self->segment.format == GST_FORMAT_TIME ?
            self->segment.start : 0,
        .usable = self->have_info && !trick
            && !(GST_BUFFER_FLAGS (buffer) & unusable)}, until_next);
}

/* Tell of a frame that is not what its caps say: once per stream. */
static void
report_bad_frame (GstGlm4vDescribe * self, GstBuffer * buffer,
    const Pass * pass, const gchar * why)
{
  gboolean fail = pass->on_error == GST_GLM4V_ON_ERROR_FAIL;
  gboolean first = !self->warned_frame;
  gchar *where;

  self->warned_frame = TRUE;
  g_mutex_lock (&self->lock);
  self->stats.bad_frames++;
  self->failed |= fail;
  g_mutex_unlock (&self->lock);
  if (!first)
    return;
  where = g_strdup_printf ("frame %" G_GUINT64_FORMAT " (%" GST_TIME_FORMAT
      ")", self->frame_number, GST_TIME_ARGS (GST_BUFFER_PTS (buffer)));
  gst_glm4v_fault_post (GST_ELEMENT (self),
      fail ? GST_MESSAGE_ERROR : GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_FRAME_SIZE, where, why);
  g_free (where);
}

static GstGlm4vJob *
new_job (GstGlm4vDescribe * self, GstBuffer * buffer, gboolean exact,
    GstClockTime until_next)
{
  GstGlm4vJob *job = gst_glm4v_job_new ();

  job->buffer = gst_glm4v_frame_hold (buffer);
  job->info = self->info;
  job->frame_number = self->frame_number;
  job->segment_number = self->segment_number;
  job->pts = GST_BUFFER_PTS (buffer);
  job->time = gst_glm4v_sampler_time (&self->sampler);
  job->running_time = self->segment.format == GST_FORMAT_TIME ?
      gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME,
      job->pts) : GST_CLOCK_TIME_NONE;
  job->until_next = until_next;
  job->captured = g_get_monotonic_time ();
  job->exact = exact;
  GST_OBJECT_LOCK (self);
  gst_glm4v_question_copy (&job->question, &self->settings.question);
  job->gray_bits = self->settings.gray_bits;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  job->epoch = self->epoch;
  job->id = self->next_id++;
  self->stats.sampled++;
  g_mutex_unlock (&self->lock);
  return job;
}

static GstGlm4vLoadState
load_state (GstGlm4vDescribe * self)
{
  GstGlm4vLoadState state;

  g_mutex_lock (&self->lock);
  state = self->load_state;
  g_mutex_unlock (&self->lock);
  return state;
}

static gboolean
has_failed (GstGlm4vDescribe * self)
{
  gboolean failed;

  g_mutex_lock (&self->lock);
  failed = self->failed;
  g_mutex_unlock (&self->lock);
  return failed;
}

static void
count (GstGlm4vDescribe * self, guint64 * counter)
{
  g_mutex_lock (&self->lock);
  ++*counter;
  g_mutex_unlock (&self->lock);
}

/* Hand a frame to the worker. Returns the job only if the frame waits. */
static GstGlm4vJob *
submit (GstGlm4vDescribe * self, GstBuffer * buffer, gboolean exact,
    GstClockTime until_next)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstGlm4vJob *job = new_job (self, buffer, exact, until_next);
  gboolean replaced = FALSE, accepted = FALSE;

  if (!exact && load_state (self) != GST_GLM4V_LOADED) {
    self->missed_loading = TRUE;
    count (self, &self->stats.dropped_loading);
  } else if (worker) {
    accepted = gst_glm4v_worker_push (worker, job, &replaced);
  }
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  if (replaced)
    count (self, &self->stats.dropped_busy);
  if (accepted && exact)
    return job;
  gst_glm4v_job_unref (job);
  return NULL;
}

/* Wait for the answer; NULL if the job was canceled instead. */
static GstGlm4vJob *
wait_answer (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  if (!worker || !gst_glm4v_worker_wait (worker, job))
    g_clear_pointer (&job, gst_glm4v_job_unref);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return job;
}

/* The first frame after a late model is due, whatever the grid. */
static void
notice_load (GstGlm4vDescribe * self)
{
  if (!self->missed_loading || load_state (self) != GST_GLM4V_LOADED)
    return;
  self->missed_loading = FALSE;
  gst_glm4v_sampler_restart (&self->sampler);
}

static void
attach_one (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstStructure * result)
{
  gst_glm4v_caption_attach (buffer, result);
  if (self->have_info)
    gst_glm4v_region_attach (buffer, &self->info, result);
}

/* Attach what async answers wait for a frame. This comes before anyone keeps a
 * reference of it: a frame that is shared would have to be copied for the
 * metas, and its pool would lose the original. */
static GstBuffer *
attach_results (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  GQueue ready = G_QUEUE_INIT;
  GstStructure *result;

  g_mutex_lock (&self->lock);
  while ((result = g_queue_pop_head (&self->results)))
    g_queue_push_tail (&ready, result);
  g_mutex_unlock (&self->lock);
  if (!g_queue_is_empty (&ready))
    buffer = gst_buffer_make_writable (buffer);
  while ((result = g_queue_pop_head (&ready))) {
    attach_one (self, buffer, result);
    gst_structure_free (result);
  }
  return buffer;
}

/* ---- time on the text pad ---- */

static GstClockTime
length_of (GstGlm4vDescribe * self, GstClockTime duration)
{
  GstClockTime length = duration;

  if (!GST_CLOCK_TIME_IS_VALID (length) || length == 0)
    length = frame_period (self);
  if (!GST_CLOCK_TIME_IS_VALID (length))
    length = 1;
  return MIN (length, GST_SECOND);
}

/* How far GAPs may go: not to where the next caption may begin. */
static GstClockTime
gap_target (GstGlm4vDescribe * self, const Pass * pass, GstClockTime need)
{
  GstClockTime ahead;

  if (!pass->exact)
    return need + pass->gap_interval;
  ahead = gst_glm4v_sampler_ahead (&self->sampler);
  return GST_CLOCK_TIME_IS_VALID (ahead) ?
      need + MIN (ahead, pass->gap_interval) : need;
}

/* The text pad may promise silence up to the frame at `time`; `waiting` keeps
 * that frame's own time open for the caption that it waits for. */
static void
advance_text (GstGlm4vDescribe * self, GstClockTime time,
    GstClockTime duration, const Pass * pass, gboolean waiting)
{
  GstClockTime end, need;

  if (!GST_CLOCK_TIME_IS_VALID (time) || time >= G_MAXINT64
      || self->segment.format != GST_FORMAT_TIME)
    return;
  end = time + length_of (self, duration);
  if (self->segment.rate < 0) {
    gst_glm4v_text_gap (self->text, time, end - time);
    return;
  }
  if (pass->exact)
    need = waiting ? time : time + 1;
  else
    need = end > pass->lateness ? end - pass->lateness : 0;
  gst_glm4v_text_advance (self->text, need,
      waiting ? need : gap_target (self, pass, need), end);
}

/* Where a frame lies on the text pad: backwards PTS are as they should be. */
static GstClockTime
text_time (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  return self->segment.rate < 0 ? GST_BUFFER_PTS (buffer) :
      gst_glm4v_sampler_time (&self->sampler);
}

static GstFlowReturn
chain (GstPad * pad, GstObject * parent, GstBuffer * buffer)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (parent);
  GstClockTime until_next = 0;
  GstGlm4vJob *job = NULL;
  GstClockTime time, duration = GST_BUFFER_DURATION (buffer);
  gchar *why = NULL;
  gboolean due;
  Pass pass;

  if (has_failed (self))
    goto fail;
  learn_live (self);
  read_settings (self, &pass);
  notice_load (self);
  due = is_due (self, buffer, &pass, &until_next);
  time = text_time (self, buffer);
  buffer = attach_results (self, buffer);
  if (due) {
    if (pass.exact)
      advance_text (self, time, duration, &pass, TRUE);
    if (gst_glm4v_frame_check (buffer, &self->info, &why))
      job = submit (self, buffer, pass.exact, until_next);
    else
      report_bad_frame (self, buffer, &pass, why);
    g_free (why);
  }
  if (job)
    job = wait_answer (self, job);
  /* Where the time is counted, what is behind the pads may wait for a time that
   * the video never has: there the text must not hold it up. */
  if (job && job->time == job->pts)
    gst_glm4v_text_wait_room (self->text);
  advance_text (self, time, duration, &pass, FALSE);
  if (job && job->result && pass.attach_meta) {
    buffer = gst_buffer_make_writable (buffer);
    attach_one (self, buffer, job->result);
  }
  g_clear_pointer (&job, gst_glm4v_job_unref);

  self->frame_number++;
  count (self, &self->stats.frames_seen);
  if (!has_failed (self))
    return gst_pad_push (self->srcpad, buffer);

fail:
  gst_buffer_unref (buffer);
  return GST_FLOW_ERROR;
}

/* ---- events ---- */

static gboolean
set_caps (GstGlm4vDescribe * self, GstCaps * caps)
{
  GstVideoInfo info;
  gchar *text;

  if (gst_video_info_from_caps (&info, caps)
      && (guint64) GST_VIDEO_INFO_WIDTH (&info)
      * GST_VIDEO_INFO_HEIGHT (&info) <= GST_GLM4V_MAX_AREA) {
    self->info = info;
    self->have_info = TRUE;
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

/* Wait for the answers under way; what takes too long is reported dropped. */
static void
drain (GstGlm4vDescribe * self)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstGlm4vJob *left[2];
  GstClockTime timeout;
  guint n = 0, i;

  GST_OBJECT_LOCK (self);
  timeout = self->settings.eos_timeout;
  GST_OBJECT_UNLOCK (self);
  if (worker && !gst_glm4v_worker_drain (worker, timeout))
    n = gst_glm4v_worker_take_all (worker, left);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  for (i = 0; i < n; i++) {
    left[i]->dropped = TRUE;
    gst_glm4v_deliver (self, left[i]);
    gst_glm4v_job_unref (left[i]);
  }
}

static void
reset_stream (GstGlm4vDescribe * self)
{
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  gst_glm4v_sampler_reset (&self->sampler);
}

static void
set_flushing (GstGlm4vDescribe * self, gboolean flushing)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  if (worker)
    gst_glm4v_worker_set_flushing (worker, flushing);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
}

static void
flush_start (GstGlm4vDescribe * self, GstEvent * event)
{
  guint epoch = begin_epoch (self);

  set_flushing (self, TRUE);
  gst_glm4v_text_flush_start (self->text, event, epoch);
  gst_pad_push_event (self->srcpad, event);
}

static void
flush_stop (GstGlm4vDescribe * self, GstEvent * event)
{
  reset_stream (self);
  g_mutex_lock (&self->lock);
  self->failed = FALSE;
  g_mutex_unlock (&self->lock);
  gst_glm4v_text_flush_stop (self->text, event);
  set_flushing (self, FALSE);
}

static void
new_segment (GstGlm4vDescribe * self, GstEvent * event)
{
  GstClockTime lateness;
  Pass pass;

  read_settings (self, &pass);
  lateness = pass.exact ? 0 : pass.lateness;
  gst_event_copy_segment (event, &self->segment);
  self->segment_number++;
  gst_glm4v_sampler_reset (&self->sampler);
  gst_glm4v_text_segment (self->text, &self->segment, self->segment_number,
      lateness, gst_event_get_seqnum (event));
}

static void
sink_gap (GstGlm4vDescribe * self, GstEvent * event)
{
  GstClockTime start, duration;
  Pass pass;

  read_settings (self, &pass);
  gst_event_parse_gap (event, &start, &duration);
  if (self->segment.rate >= 0)
    start = gst_glm4v_sampler_time_at (&self->sampler, start);
  advance_text (self, start, duration, &pass, FALSE);
}

static gboolean
sink_event (GstPad * pad, GstObject * parent, GstEvent * event)
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
      gst_glm4v_text_stream_start (self->text, event);
      break;
    case GST_EVENT_CAPS:
      gst_event_parse_caps (event, &caps);
      if (!set_caps (self, caps)) {
        gst_event_unref (event);
        return FALSE;
      }
      break;
    case GST_EVENT_SEGMENT:
      learn_live (self);
      new_segment (self, event);
      break;
    case GST_EVENT_GAP:
      sink_gap (self, event);
      break;
    case GST_EVENT_EOS:
    case GST_EVENT_SEGMENT_DONE:
      drain (self);
      gst_glm4v_text_end (self->text, event);
      break;
    default:
      gst_glm4v_text_event (self->text, event);
      break;
  }
  return gst_pad_push_event (self->srcpad, event);
}

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

/* Default handling forwards along these links; the text pad gets nothing that
 * way, its task pushes whatever it is to have. */
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
  GstPad *pad = gst_glm4v_text_new_pad (self->text, template);

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
  gst_glm4v_text_release_pad (GST_GLM4V_DESCRIBE (element)->text, pad);
  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
}

static void
prepare_stream (GstGlm4vDescribe * self)
{
  reset_stream (self);
  self->have_info = self->live_known = FALSE;
  self->segment_number = 0;
  self->frame_number = 0;
  self->missed_loading = FALSE;
  gst_glm4v_text_reset (self->text, begin_epoch (self));
  g_mutex_lock (&self->lock);
  self->failed = FALSE;
  self->live = FALSE;
  self->told_latency = 0;
  self->next_id = 0;
  g_mutex_unlock (&self->lock);
  set_flushing (self, FALSE);
}

static void
reset_counters (GstGlm4vDescribe * self)
{
  gst_glm4v_text_reset_counters (self->text);
  g_mutex_lock (&self->lock);
  memset (&self->stats, 0, sizeof self->stats);
  g_clear_pointer (&self->unreadable, g_free);
  g_mutex_unlock (&self->lock);
}

static GstStateChangeReturn
change_state (GstElement * element, GstStateChange transition)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (element);
  GstStateChangeReturn result;
  guint epoch = 0;

  switch (transition) {
    case GST_STATE_CHANGE_NULL_TO_READY:
      reset_counters (self);
      if (!gst_glm4v_load_start (self))
        return GST_STATE_CHANGE_FAILURE;
      break;
    case GST_STATE_CHANGE_READY_TO_PAUSED:
      if (!gst_glm4v_load_refresh (self))
        return GST_STATE_CHANGE_FAILURE;
      prepare_stream (self);
      break;
    case GST_STATE_CHANGE_PAUSED_TO_READY:
      epoch = begin_epoch (self);
      set_flushing (self, TRUE);
      break;
    default:
      break;
  }
  result = GST_ELEMENT_CLASS (gst_glm4v_describe_parent_class)->change_state
      (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    gst_glm4v_text_reset (self->text, epoch);
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
    case PROP_STATS:
      g_value_take_boxed (value, gst_glm4v_deliver_stats (self));
      break;
    case PROP_MODEL_INFO:
      g_mutex_lock (&self->lock);
      g_value_set_boxed (value, self->model_info);
      g_mutex_unlock (&self->lock);
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

static void
set_property (GObject * object, guint id, const GValue * value,
    GParamSpec * spec)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (object);
  gboolean known;

  GST_OBJECT_LOCK (self);
  known = gst_glm4v_settings_set (&self->settings, id, value);
  GST_OBJECT_UNLOCK (self);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  else if (id == PROP_LATENCY || id == PROP_MODE)
    gst_element_post_message (GST_ELEMENT (self),
        gst_message_new_latency (GST_OBJECT (self)));
}

static void
finalize (GObject * object)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (object);

  gst_glm4v_text_unref (self->text);
  gst_glm4v_settings_clear (&self->settings);
  gst_clear_caps (&self->refused);
  g_queue_clear_full (&self->results, (GDestroyNotify) gst_structure_free);
  g_free (self->unreadable);
  g_clear_pointer (&self->model, gst_structure_free);
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
  element_class->change_state = GST_DEBUG_FUNCPTR (change_state);
  element_class->request_new_pad = GST_DEBUG_FUNCPTR (request_new_pad);
  element_class->release_pad = GST_DEBUG_FUNCPTR (release_pad);
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_add_static_pad_template (element_class, &text_template);
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
  gst_glm4v_settings_init (&self->settings);
  self->text = gst_glm4v_text_new ("text",
      gst_static_pad_template_get_caps (&text_template));
  self->sinkpad = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_chain_function (self->sinkpad, GST_DEBUG_FUNCPTR (chain));
  gst_pad_set_event_function (self->sinkpad, GST_DEBUG_FUNCPTR (sink_event));
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
