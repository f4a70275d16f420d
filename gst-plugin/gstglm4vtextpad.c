/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Out of the text stream: the pad, and the task that pushes. The rules, which
 * textoverlay and the muxers depend on:
 * - STREAM_START, CAPS, SEGMENT, then at once a GAP; every buffer has PTS and
 *   duration; cues never overlap and never go back. DISCONT is set on the
 *   first cue of a segment and on one that follows a cue which was lost.
 * - Video never waits: whenever the video reaches the text position, a GAP
 *   advances it. A GAP cannot be revoked, so a caption for an earlier time
 *   starts at the position: shown late, counted, never lost silently.
 * - A cue lasts until the next answer is expected. If it came late it still
 *   ends as if it had started when it could have: lateness does not add up.
 * - What downstream answers holds for one push only: a branch that was stopped
 *   and plays again, or another one in its place, gets what follows.
 *
 * The task does not hold the pad's stream lock while it pushes. A pad that is
 * released can therefore be deactivated while downstream holds up a push, and
 * without a flush; the task, with a reference to its pad, ends after it. */
#include "gstglm4vtextpad.h"

#include <string.h>

#include "gstglm4vcaption.h"
#include "gstglm4verror.h"

G_DEFINE_TYPE (GstGlm4vTextPad, gst_glm4v_text_pad, GST_TYPE_PAD);

/* Where a caption goes. */
typedef struct
{
  GstClockTime start, end;
  gboolean late, discont;       /* start is NONE: at once */
} Place;

/* ---- pushing ---- */

/* Post an error behind the pad: the first since a push that worked. */
static void
report_flow (GstGlm4vTextPad * self, GstFlowReturn flow)
{
  GstGlm4vText *text = self->text;
  gchar *where = g_strdup_printf ("pad %s", text->traits->name);
  GstElement *element;
  gboolean first;

  g_mutex_lock (&text->lock);
  first = !text->failed;
  text->failed = TRUE;
  g_mutex_unlock (&text->lock);
  element = gst_pad_get_parent_element (GST_PAD (self));
  if (element && first)
    gst_glm4v_fault_post (element, GST_MESSAGE_ERROR,
        GST_GLM4V_FAULT_TEXT_FLOW, where, gst_flow_get_name (flow));
  g_free (where);
  gst_clear_object (&element);
}

static void
mark_discont (GstGlm4vTextPad * self)
{
  g_mutex_lock (&self->text->lock);
  self->text->discont = TRUE;
  g_mutex_unlock (&self->text->lock);
}

/* Nothing if a flush came meanwhile, out of the push before this one: on this
 * thread it did not wait. */
static void
push_one_gap (GstGlm4vTextPad * self, GstClockTime start, GstClockTime length)
{
  GstGlm4vText *text = self->text;
  GstEvent *event = gst_event_new_gap (start, length);
  gboolean stale;

  g_mutex_lock (&text->lock);
  stale = text->epoch != self->epoch;
  gst_event_set_seqnum (event, text->seqnum);
  g_mutex_unlock (&text->lock);
  if (stale)
    gst_event_unref (event);
  else if (!gst_pad_push_event (GST_PAD (self), event))
    mark_discont (self);
}

/* Push that there is nothing between start and end, and that the next cue will
 * not begin before end: muxers use the start times, so without the second event
 * they would hold the video back until there is a cue. */
static void
push_gap (GstGlm4vTextPad * self, GstClockTime start, GstClockTime end)
{
  if (end > start)
    push_one_gap (self, start, end - start);
  push_one_gap (self, end, 0);
}

/* With the lock. It goes at once; so does what must go where there is no
 * time. */
static gboolean
place_untimed (GstGlm4vText * text, const GstGlm4vTextItem * item,
    Place * place)
{
  if (!item->untimed && !(text->traits->every_one
          && !GST_CLOCK_TIME_IS_VALID (text->position)))
    return FALSE;
  place->start = place->end = GST_CLOCK_TIME_NONE;
  place->late = FALSE;
  return TRUE;
}

/* With the lock. FALSE if there is no room before the segment ends. */
static gboolean
place_timed (GstGlm4vText * text, const GstGlm4vTextItem * item, Place * place)
{
  GstClockTime ideal = MAX (item->ideal, text->segment.start);

  place->start = MAX (ideal, text->position);
  place->end = MAX (ideal + item->duration,
      place->start + text->traits->min_duration);
  if (GST_CLOCK_TIME_IS_VALID (text->segment.stop) && !text->traits->every_one)
    place->end = MIN (place->end, text->segment.stop);
  if (GST_CLOCK_TIME_IS_VALID (item->stream_end)
      && item->stream_end > place->start)
    place->end = MIN (place->end, item->stream_end);
  if (place->end <= place->start) {
    text->dropped++;
    return FALSE;
  }
  place->late = GST_CLOCK_TIME_IS_VALID (item->pts) && place->start > item->pts;
  text->position = place->end;
  return TRUE;
}

/* With the lock. */
static gboolean
place_cue (GstGlm4vText * text, const GstGlm4vTextItem * item, Place * place)
{
  if (!place_untimed (text, item, place) && !place_timed (text, item, place))
    return FALSE;
  place->discont = text->discont;
  text->discont = FALSE;
  text->pushed++;
  text->late += place->late;
  return TRUE;
}

/* Takes the text. */
static GstBuffer *
new_buffer (gchar * text, const Place * place)
{
  GstBuffer *buffer = gst_buffer_new_wrapped (text, strlen (text));

  GST_BUFFER_PTS (buffer) = place->start;
  if (place->discont)
    GST_BUFFER_FLAG_SET (buffer, GST_BUFFER_FLAG_DISCONT);
  return buffer;
}

static GstBuffer *
new_cue (GstGlm4vTextItem * item, const Place * place)
{
  GstBuffer *buffer = new_buffer (g_steal_pointer (&item->text), place);

  if (GST_CLOCK_TIME_IS_VALID (place->start))
    GST_BUFFER_DURATION (buffer) = place->end - place->start;
  if (item->result)
    gst_glm4v_caption_attach (buffer, item->result);
  return buffer;
}

/* A cue that could not be pushed was not shown. */
static void
count_lost (GstGlm4vTextPad * self, const Place * place)
{
  GstGlm4vText *text = self->text;

  g_mutex_lock (&text->lock);
  text->discont = TRUE;
  gst_glm4v_text_forget_answers (text);
  text->pushed--;
  text->late -= place->late;
  text->dropped++;
  g_mutex_unlock (&text->lock);
}

/* Before a cue its settings, if the peer had others last. They take no time. */
static GstFlowReturn
push_settings (GstGlm4vTextPad * self, const GstGlm4vTextItem * item,
    Place * place)
{
  GstGlm4vText *text = self->text;
  GstBuffer *buffer;
  GstFlowReturn flow;
  gboolean known;

  g_mutex_lock (&text->lock);
  known = !item->settings || (text->settings
      && g_str_equal (text->settings, item->settings));
  g_mutex_unlock (&text->lock);
  if (known)
    return GST_FLOW_OK;
  buffer = new_buffer (g_strdup (item->settings), place);
  if (GST_CLOCK_TIME_IS_VALID (place->start))
    GST_BUFFER_DURATION (buffer) = 0;
  flow = gst_pad_push (GST_PAD (self), buffer);
  if (flow != GST_FLOW_OK)
    return flow;
  place->discont = FALSE;
  g_mutex_lock (&text->lock);
  if (text->epoch == self->epoch) {
    gst_glm4v_text_forget_settings (text);
    text->settings = g_ref_string_acquire (item->settings);
  }
  g_mutex_unlock (&text->lock);
  return GST_FLOW_OK;
}

static void
push_cue (GstGlm4vTextPad * self, GstGlm4vTextItem * item)
{
  GstGlm4vText *text = self->text;
  GstFlowReturn flow;
  gboolean placed;
  Place place;

  g_mutex_lock (&text->lock);
  placed = place_cue (text, item, &place);
  g_mutex_unlock (&text->lock);
  if (!placed)
    return;
  flow = push_settings (self, item, &place);
  if (flow == GST_FLOW_OK)
    flow = gst_pad_push (GST_PAD (self), new_cue (item, &place));
  if (flow == GST_FLOW_OK) {
    g_mutex_lock (&text->lock);
    text->failed = FALSE;
    g_mutex_unlock (&text->lock);
    if (GST_CLOCK_TIME_IS_VALID (place.end))
      push_gap (self, place.end, place.end);
    return;
  }
  count_lost (self, &place);
  if (flow < GST_FLOW_EOS)
    report_flow (self, flow);
}

/* The rest of a stream up to its end is silence. */
static void
push_final_gap (GstGlm4vTextPad * self)
{
  GstGlm4vText *text = self->text;
  GstClockTime start, end;

  g_mutex_lock (&text->lock);
  start = text->position;
  end = text->segment.rate < 0 ? GST_CLOCK_TIME_NONE : text->end;
  g_mutex_unlock (&text->lock);
  if (GST_CLOCK_TIME_IS_VALID (start) && GST_CLOCK_TIME_IS_VALID (end)
      && end > start)
    push_gap (self, start, end);
}

/* Takes the event. */
static void
push_event (GstGlm4vTextPad * self, GstEvent * event)
{
  GstEventType type = GST_EVENT_TYPE (event);
  GstClockTime begin = GST_CLOCK_TIME_NONE;
  const GstSegment *segment;
  gboolean taken;

  if (type == GST_EVENT_SEGMENT) {
    gst_event_parse_segment (event, &segment);
    if (segment->format == GST_FORMAT_TIME)
      begin = segment->start;
  } else if (type == GST_EVENT_EOS || type == GST_EVENT_SEGMENT_DONE) {
    push_final_gap (self);
  }
  if (type == GST_EVENT_STREAM_START) {
    g_mutex_lock (&self->text->lock);
    gst_glm4v_text_forget_settings (self->text);
    g_mutex_unlock (&self->text->lock);
  }
  taken = gst_pad_push_event (GST_PAD (self), event);
  if (GST_CLOCK_TIME_IS_VALID (begin))
    push_gap (self, begin, begin);
  if (taken && type == GST_EVENT_EOS) {
    g_mutex_lock (&self->text->lock);
    self->text->nudge = FALSE;  /* the peer has received all events */
    g_mutex_unlock (&self->text->lock);
  }
}

/* ---- task: with the lock ---- */

static gboolean
gap_is_due (GstGlm4vText * text)
{
  return !text->ended && GST_CLOCK_TIME_IS_VALID (text->position)
      && GST_CLOCK_TIME_IS_VALID (text->need) && text->need > text->position;
}

static gboolean
has_work (GstGlm4vTextPad * self)
{
  GstGlm4vText *text = self->text;

  return text->pad == GST_PAD (self) && !text->flushing
      && (!g_queue_is_empty (&text->queue) || gap_is_due (text)
      || text->nudge);
}

/* How far the next GAP goes; the position moves with it. */
static GstClockTime
next_gap (GstGlm4vText * text)
{
  GstClockTime start = text->position;
  GstClockTime end = MAX (text->need, text->target);

  if (GST_CLOCK_TIME_IS_VALID (text->segment.stop))
    end = MAX (MIN (end, text->segment.stop), start);
  text->position = MAX (end, text->need);
  return end;
}

/* The head of the queue; its segment, if it is one, becomes the timeline. */
static GstGlm4vTextItem *
pop_item (GstGlm4vText * text)
{
  GstGlm4vTextItem *item = g_queue_pop_head (&text->queue);
  const GstSegment *segment;

  if (!item->event) {
    text->cues--;
    g_cond_broadcast (&text->cond);
  } else if (GST_EVENT_TYPE (item->event) == GST_EVENT_SEGMENT) {
    gst_event_parse_segment (item->event, &segment);
    text->position = segment->format == GST_FORMAT_TIME && segment->rate > 0 ?
        segment->start : GST_CLOCK_TIME_NONE;
    text->begun = text->discont = TRUE;
  }
  return item;
}

/* A new peer receives the sticky events with the next push. If there will be
 * none after EOS, EOS is pushed again and they with it; else a GAP shows the
 * position of the stream. */
static gboolean
answer_nudge (GstGlm4vText * text)
{
  GstEvent *last = g_queue_peek_tail (&text->sticky);

  if (!text->nudge)
    return FALSE;
  text->nudge = FALSE;
  if (text->ended && last && GST_EVENT_TYPE (last) == GST_EVENT_EOS)
    gst_glm4v_text_queue_sticky (text);
  return !text->ended && GST_CLOCK_TIME_IS_VALID (text->position);
}

static void
loop (gpointer user)
{
  GstGlm4vTextPad *self = user;
  GstGlm4vText *text = self->text;
  GstClockTime start = GST_CLOCK_TIME_NONE, end = GST_CLOCK_TIME_NONE;
  GstGlm4vTextItem *item = NULL;
  gboolean tell = FALSE;

  g_mutex_lock (&text->lock);
  while (!self->stop && !has_work (self))
    g_cond_wait (&text->cond, &text->lock);
  if (self->stop) {
    g_mutex_unlock (&text->lock);
    return;
  }
  self->pusher = g_thread_self ();
  self->epoch = text->epoch;
  if (!g_queue_is_empty (&text->queue)) {
    item = pop_item (text);
  } else {
    tell = answer_nudge (text);
    start = end = text->position;
    if (gap_is_due (text))
      end = next_gap (text);
  }
  g_mutex_unlock (&text->lock);

  if (item && item->event)
    push_event (self, g_steal_pointer (&item->event));
  else if (item)
    push_cue (self, item);
  else if (tell || end > start)
    push_gap (self, start, end);
  g_clear_pointer (&item, gst_glm4v_text_item_free);

  g_mutex_lock (&text->lock);
  self->pusher = NULL;
  g_cond_broadcast (&text->cond);
  g_mutex_unlock (&text->lock);
}

/* ---- pad ---- */

static void
post_status (GstGlm4vTextPad * self, GstTask * task, GstStreamStatusType type)
{
  GstElement *element = gst_pad_get_parent_element (GST_PAD (self));
  GValue value = G_VALUE_INIT;
  GstMessage *message;

  if (!element)
    return;
  message = gst_message_new_stream_status (GST_OBJECT (self), type, element);
  g_value_init (&value, GST_TYPE_TASK);
  g_value_set_object (&value, task);
  gst_message_set_stream_status_object (message, &value);
  g_value_unset (&value);
  gst_element_post_message (element, message);
  gst_object_unref (element);
}

static void
on_enter (GstTask * task, GThread * thread, gpointer user)
{
  post_status (user, task, GST_STREAM_STATUS_TYPE_ENTER);
}

static void
on_leave (GstTask * task, GThread * thread, gpointer user)
{
  GstGlm4vTextPad *self = user;
  gboolean left;

  g_mutex_lock (&self->text->lock);
  left = self->left;
  g_mutex_unlock (&self->text->lock);
  if (!left)
    post_status (self, task, GST_STREAM_STATUS_TYPE_LEAVE);
}

static gboolean
start (GstGlm4vTextPad * self)
{
  GstGlm4vText *text = self->text;
  gboolean ours;

  g_mutex_lock (&text->lock);
  ours = text->pad == GST_PAD (self);
  if (ours) {
    text->active = text->discont = TRUE;
    text->flushing = text->failed = FALSE;
    gst_glm4v_text_forget_settings (text);
    self->stop = self->left = FALSE;
  }
  g_mutex_unlock (&text->lock);
  if (!ours)
    return FALSE;
  self->task = gst_task_new (loop, gst_object_ref (self),
      (GDestroyNotify) gst_object_unref);
  gst_task_set_lock (self->task, &self->task_lock);
  gst_task_set_enter_callback (self->task, on_enter, self, NULL);
  gst_task_set_leave_callback (self->task, on_leave, self, NULL);
  post_status (self, self->task, GST_STREAM_STATUS_TYPE_CREATE);
  return gst_task_start (self->task);
}

static gboolean
stop (GstGlm4vTextPad * self)
{
  GstGlm4vText *text = self->text;
  GstTask *task = g_steal_pointer (&self->task);
  gboolean left, stopped = TRUE;

  if (task)
    gst_task_stop (task);
  g_mutex_lock (&text->lock);
  if (text->pad == GST_PAD (self)) {
    text->active = FALSE;
    text->flushing = TRUE;
  } else {
    self->left = self->pusher != NULL;
  }
  left = self->left;
  self->stop = TRUE;
  g_cond_broadcast (&text->cond);
  g_mutex_unlock (&text->lock);
  if (task && !left)
    stopped = gst_task_join (task);
  gst_clear_object (&task);
  return stopped;
}

static gboolean
activate_mode (GstPad * pad, GstObject * parent, GstPadMode mode,
    gboolean active)
{
  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  return active ? start (GST_GLM4V_TEXT_PAD (pad))
      : stop (GST_GLM4V_TEXT_PAD (pad));
}

static void
linked (GstPad * pad, GstPad * peer)
{
  GstGlm4vText *text = GST_GLM4V_TEXT_PAD (pad)->text;

  g_mutex_lock (&text->lock);
  if (text->pad == pad) {
    text->nudge = TRUE;
    gst_glm4v_text_forget_settings (text);
    g_cond_broadcast (&text->cond);
  }
  g_mutex_unlock (&text->lock);
}

void
gst_glm4v_text_pad_wait_idle (GstGlm4vTextPad * self)
{
  GstGlm4vText *text = self->text;

  g_mutex_lock (&text->lock);
  while (self->pusher && self->pusher != g_thread_self () && !self->stop)
    g_cond_wait (&text->cond, &text->lock);
  g_mutex_unlock (&text->lock);
}

GstPad *
gst_glm4v_text_pad_new (GstGlm4vText * text, GstPadTemplate * template)
{
  GstGlm4vTextPad *self = g_object_new (GST_TYPE_GLM4V_TEXT_PAD,
      "name", text->traits->name, "direction", GST_PAD_SRC,
      "template", template, NULL);

  self->text = gst_glm4v_text_ref (text);
  return GST_PAD (self);
}

static void
finalize (GObject * object)
{
  GstGlm4vTextPad *self = GST_GLM4V_TEXT_PAD (object);

  gst_glm4v_text_unref (self->text);
  g_rec_mutex_clear (&self->task_lock);
  G_OBJECT_CLASS (gst_glm4v_text_pad_parent_class)->finalize (object);
}

static void
gst_glm4v_text_pad_class_init (GstGlm4vTextPadClass * klass)
{
  G_OBJECT_CLASS (klass)->finalize = finalize;
  GST_PAD_CLASS (klass)->linked = linked;
}

static void
gst_glm4v_text_pad_init (GstGlm4vTextPad * self)
{
  GstPad *pad = GST_PAD (self);

  g_rec_mutex_init (&self->task_lock);
  gst_pad_set_activatemode_function (pad, GST_DEBUG_FUNCPTR (activate_mode));
  gst_pad_use_fixed_caps (pad);
}
