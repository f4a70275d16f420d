/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules, which textoverlay and the muxers depend on:
 * - STREAM_START, CAPS, SEGMENT, then at once a GAP; every buffer has PTS and
 *   duration; cues never overlap and never go back.
 * - Video never waits: whenever the video reaches the told position, a GAP
 *   moves it on. A GAP is a promise, so a caption that comes later than that
 *   starts at the position: shown late, counted, never lost silently.
 * - A cue lasts until the next answer is expected. If it came late it still
 *   ends as if it had started when it could have: lateness does not add up.
 *
 * Lock order: `lock` alone. Nothing is pushed or posted while it is held. */
#include "gstglm4vtext.h"

#include <string.h>

#include "gstglm4vcaption.h"
#include "gstglm4verror.h"

#define MIN_CUE (10 * GST_MSECOND)
#define MAX_CUES 256

typedef struct
{
  GstEvent *event;              /* or, if NULL, a caption: */
  gchar *text;
  GstStructure *result;         /* or NULL */
  GstClockTime pts, ideal, duration;
} Item;

static void
item_free (gpointer data)
{
  Item *item = data;

  if (item->event)
    gst_event_unref (item->event);
  g_free (item->text);
  g_clear_pointer (&item->result, gst_structure_free);
  g_free (item);
}

/* ---- queue, with the lock ---- */

static void
drop_items (GstGlm4vText * self)
{
  g_queue_clear_full (&self->queue, item_free);
  self->cues = 0;
  g_cond_broadcast (&self->cond);
}

static gboolean
accepts_events (GstGlm4vText * self)
{
  return self->pad && self->flow == GST_FLOW_OK;
}

static gboolean
accepts_cues (GstGlm4vText * self)
{
  return accepts_events (self) && self->active && !self->flushing;
}

static void
queue_event (GstGlm4vText * self, GstEvent * event)
{
  Item *item = g_new0 (Item, 1);

  item->event = event;
  g_queue_push_tail (&self->queue, item);
  g_cond_broadcast (&self->cond);
}

static void
queue_stream_start (GstGlm4vText * self)
{
  gchar *id = g_strconcat (self->stream_id, "/text", NULL);
  GstEvent *event = gst_event_new_stream_start (id);
  GstCaps *caps = gst_caps_new_simple ("text/x-raw", "format", G_TYPE_STRING,
      "utf8", NULL);

  self->announced = FALSE;
  gst_event_set_stream_flags (event, GST_STREAM_FLAG_SPARSE);
  if (self->group_id != GST_GROUP_ID_INVALID)
    gst_event_set_group_id (event, self->group_id);
  queue_event (self, event);
  queue_event (self, gst_event_new_caps (caps));
  gst_caps_unref (caps);
  g_free (id);
}

static void
queue_segment (GstGlm4vText * self)
{
  GstEvent *event = gst_event_new_segment (&self->segment);

  gst_event_set_seqnum (event, self->seqnum);
  queue_event (self, event);
}

static void
drop_oldest_cue (GstGlm4vText * self)
{
  GList *link = self->queue.head;

  while (((Item *) link->data)->event)
    link = link->next;
  item_free (link->data);
  g_queue_delete_link (&self->queue, link);
  self->cues--;
  self->dropped++;
}

static void
forget_times (GstGlm4vText * self)
{
  self->position = self->need = self->target = self->end =
      GST_CLOCK_TIME_NONE;
}

/* ---- task ---- */

static void
handle_flow (GstGlm4vText * self, GstFlowReturn flow)
{
  if (flow == GST_FLOW_OK || flow == GST_FLOW_NOT_LINKED)
    return;
  g_mutex_lock (&self->lock);
  self->flow = flow;
  drop_items (self);
  g_mutex_unlock (&self->lock);
  if (flow == GST_FLOW_NOT_NEGOTIATED || flow < GST_FLOW_EOS)
    gst_glm4v_fault_post (self->element, GST_MESSAGE_ERROR,
        GST_GLM4V_FAULT_TEXT_FLOW, "pad text", gst_flow_get_name (flow));
}

/* Tell that nothing comes between start and end, and that what comes next will
 * not begin before end: muxers look at where things begin, so without the
 * second event they would hold the video back until there is something. */
static void
push_gap (GstPad * pad, GstClockTime start, GstClockTime end)
{
  if (end > start)
    gst_pad_push_event (pad, gst_event_new_gap (start, end - start));
  gst_pad_push_event (pad, gst_event_new_gap (end, 0));
}

/* Where a caption goes; FALSE if there is no room before the segment ends. */
static gboolean
place_cue (GstGlm4vText * self, const Item * item, GstClockTime * start,
    GstClockTime * end)
{
  GstClockTime ideal = MAX (item->ideal, self->segment.start);

  *start = MAX (ideal, self->position);
  *end = MAX (ideal + item->duration, *start + MIN_CUE);
  if (GST_CLOCK_TIME_IS_VALID (self->segment.stop))
    *end = MIN (*end, self->segment.stop);
  if (*end <= *start) {
    self->dropped++;
    return FALSE;
  }
  self->pushed++;
  self->late += GST_CLOCK_TIME_IS_VALID (item->pts) && *start > item->pts;
  return TRUE;
}

static GstBuffer *
new_cue (Item * item, GstClockTime start, GstClockTime end)
{
  gsize size = strlen (item->text);
  GstBuffer *buffer = gst_buffer_new_wrapped (g_steal_pointer (&item->text),
      size);

  GST_BUFFER_PTS (buffer) = start;
  GST_BUFFER_DURATION (buffer) = end - start;
  if (item->result)
    gst_glm4v_caption_attach (buffer, item->result);
  return buffer;
}

/* The rest of a stream up to its end is silence. */
static void
push_final_gap (GstGlm4vText * self, GstPad * pad)
{
  GstClockTime start, end;

  g_mutex_lock (&self->lock);
  start = self->position;
  end = self->segment.rate < 0 ? GST_CLOCK_TIME_NONE : self->end;
  g_mutex_unlock (&self->lock);
  if (GST_CLOCK_TIME_IS_VALID (start) && GST_CLOCK_TIME_IS_VALID (end)
      && end > start)
    push_gap (pad, start, end);
}

static void
push_event (GstGlm4vText * self, GstPad * pad, GstEvent * event)
{
  GstClockTime begin = GST_CLOCK_TIME_NONE;
  const GstSegment *segment;

  if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT) {
    gst_event_parse_segment (event, &segment);
    if (segment->format == GST_FORMAT_TIME)
      begin = segment->start;
  } else if (GST_EVENT_TYPE (event) == GST_EVENT_EOS
      || GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT_DONE) {
    push_final_gap (self, pad);
  }
  gst_pad_push_event (pad, event);
  if (GST_CLOCK_TIME_IS_VALID (begin))
    push_gap (pad, begin, begin);
}

static void
push_item (GstGlm4vText * self, GstPad * pad, Item * item)
{
  GstClockTime start, end;
  GstFlowReturn flow;

  if (item->event) {
    push_event (self, pad, g_steal_pointer (&item->event));
    return;
  }
  g_mutex_lock (&self->lock);
  if (!place_cue (self, item, &start, &end)) {
    g_mutex_unlock (&self->lock);
    return;
  }
  self->position = end;
  g_mutex_unlock (&self->lock);
  flow = gst_pad_push (pad, new_cue (item, start, end));
  if (flow == GST_FLOW_OK)
    push_gap (pad, end, end);
  handle_flow (self, flow);
}

static gboolean
gap_is_due (GstGlm4vText * self)
{
  return self->flow == GST_FLOW_OK && !self->ended
      && GST_CLOCK_TIME_IS_VALID (self->position)
      && GST_CLOCK_TIME_IS_VALID (self->need) && self->need > self->position;
}

/* How far the next GAP goes; the position moves with it. */
static GstClockTime
next_gap (GstGlm4vText * self)
{
  GstClockTime start = self->position;
  GstClockTime end = MAX (self->need, self->target);

  if (GST_CLOCK_TIME_IS_VALID (self->segment.stop))
    end = MAX (MIN (end, self->segment.stop), start);
  self->position = MAX (end, self->need);
  return end;
}

/* The head of the queue; its segment, if it is one, becomes the timeline. */
static Item *
pop_item (GstGlm4vText * self)
{
  Item *item = g_queue_pop_head (&self->queue);
  const GstSegment *segment;

  if (!item->event) {
    self->cues--;
    g_cond_broadcast (&self->cond);
  } else if (GST_EVENT_TYPE (item->event) == GST_EVENT_CAPS) {
    self->announced = TRUE;
  } else if (GST_EVENT_TYPE (item->event) == GST_EVENT_SEGMENT) {
    gst_event_parse_segment (item->event, &segment);
    self->position = segment->format == GST_FORMAT_TIME && segment->rate > 0 ?
        segment->start : GST_CLOCK_TIME_NONE;
  }
  return item;
}

static void
loop (gpointer user)
{
  GstGlm4vText *self = user;
  Item *item = NULL;
  GstClockTime start, end = 0;
  gboolean flushing;
  GstPad *pad;

  g_mutex_lock (&self->lock);
  while (!self->flushing && g_queue_is_empty (&self->queue)
      && !gap_is_due (self))
    g_cond_wait (&self->cond, &self->lock);
  flushing = self->flushing;
  pad = self->pad;
  start = self->position;
  if (!flushing && !g_queue_is_empty (&self->queue))
    item = pop_item (self);
  else if (!flushing)
    end = next_gap (self);
  g_mutex_unlock (&self->lock);

  if (flushing) {
    gst_pad_pause_task (pad);
  } else if (item) {
    push_item (self, pad, item);
    item_free (item);
  } else if (end > start) {
    push_gap (pad, start, end);
  }
}

/* ---- pad ---- */

static gboolean
activate_mode (GstPad * pad, GstObject * parent, GstPadMode mode,
    gboolean active)
{
  GstGlm4vText *self = pad->activatemodedata;
  gboolean done = TRUE;

  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  g_mutex_lock (&self->lock);
  self->active = active;
  self->flushing = !active;
  self->flow = GST_FLOW_OK;
  if (active)
    done = gst_pad_start_task (pad, loop, self, NULL);
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  if (!active)
    done = gst_pad_stop_task (pad);
  return done;
}

void
gst_glm4v_text_set_pad (GstGlm4vText * self, GstPad * pad)
{
  gst_pad_set_activatemode_function_full (pad, activate_mode, self, NULL);
  g_mutex_lock (&self->lock);
  self->pad = pad;
  self->flushing = TRUE;
  forget_times (self);
  if (self->stream_id)
    queue_stream_start (self);
  if (self->segment_number > 0)
    queue_segment (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_unset_pad (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  self->pad = NULL;
  drop_items (self);
  g_mutex_unlock (&self->lock);
}

/* ---- stream ---- */

void
gst_glm4v_text_init (GstGlm4vText * self, GstElement * element)
{
  self->element = element;
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  g_queue_init (&self->queue);
  gst_glm4v_text_reset (self);
}

void
gst_glm4v_text_clear (GstGlm4vText * self)
{
  gst_glm4v_text_reset (self);
  g_mutex_clear (&self->lock);
  g_cond_clear (&self->cond);
}

void
gst_glm4v_text_reset (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  drop_items (self);
  g_clear_pointer (&self->stream_id, g_free);
  self->group_id = GST_GROUP_ID_INVALID;
  gst_segment_init (&self->segment, GST_FORMAT_TIME);
  self->segment_number = 0;
  self->ended = FALSE;
  self->flow = GST_FLOW_OK;
  forget_times (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_stream_start (GstGlm4vText * self, GstEvent * event)
{
  const gchar *id;

  gst_event_parse_stream_start (event, &id);
  g_mutex_lock (&self->lock);
  g_free (self->stream_id);
  self->stream_id = g_strdup (id);
  self->group_id = GST_GROUP_ID_INVALID;
  gst_event_parse_group_id (event, &self->group_id);
  self->ended = FALSE;
  if (accepts_events (self))
    queue_stream_start (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_segment (GstGlm4vText * self, const GstSegment * segment,
    guint segment_number, GstClockTime lateness, guint32 seqnum)
{
  g_mutex_lock (&self->lock);
  self->segment = *segment;
  if (segment->format == GST_FORMAT_TIME)
    self->segment.base += lateness;
  self->segment_number = segment_number;
  self->seqnum = seqnum;
  self->ended = FALSE;
  self->need = self->target = self->end = GST_CLOCK_TIME_NONE;
  if (accepts_events (self))
    queue_segment (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_end (GstGlm4vText * self, GstEvent * event)
{
  g_mutex_lock (&self->lock);
  self->ended = TRUE;
  if (accepts_events (self))
    queue_event (self, gst_event_ref (event));
  g_mutex_unlock (&self->lock);
}

/* The pad with a reference, for work after the lock is released. */
static GstPad *
ref_pad (GstGlm4vText * self)
{
  return self->pad ? gst_object_ref (self->pad) : NULL;
}

void
gst_glm4v_text_flush_start (GstGlm4vText * self, GstEvent * event, guint epoch)
{
  GstPad *pad;

  g_mutex_lock (&self->lock);
  self->epoch = epoch;
  self->flushing = TRUE;
  drop_items (self);
  pad = ref_pad (self);
  g_mutex_unlock (&self->lock);
  if (!pad)
    return;
  gst_pad_push_event (pad, gst_event_ref (event));
  gst_pad_pause_task (pad);
  gst_object_unref (pad);
}

void
gst_glm4v_text_flush_stop (GstGlm4vText * self, GstEvent * event)
{
  GstPad *pad;

  g_mutex_lock (&self->lock);
  pad = ref_pad (self);
  g_mutex_unlock (&self->lock);
  if (pad)
    gst_pad_push_event (pad, gst_event_ref (event));
  g_mutex_lock (&self->lock);
  drop_items (self);
  self->segment_number = 0;
  self->ended = FALSE;
  self->flow = GST_FLOW_OK;
  forget_times (self);
  if (pad && self->stream_id && !self->announced)
    queue_stream_start (self);  /* the flush swept the first one away */
  if (pad && self->active && self->pad == pad) {
    self->flushing = FALSE;
    gst_pad_start_task (pad, loop, self, NULL);
  }
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&pad, gst_object_unref);
}

void
gst_glm4v_text_advance (GstGlm4vText * self, GstClockTime need,
    GstClockTime target, GstClockTime end)
{
  g_mutex_lock (&self->lock);
  self->need = need;
  self->target = target;
  self->end = end;
  if (gap_is_due (self))
    g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_gap (GstGlm4vText * self, GstClockTime start,
    GstClockTime duration)
{
  g_mutex_lock (&self->lock);
  if (accepts_cues (self) && g_queue_get_length (&self->queue) < MAX_CUES)
    queue_event (self, gst_event_new_gap (start, duration));
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_push (GstGlm4vText * self, const GstGlm4vCue * cue)
{
  Item *item;
  GstClockTime now;

  g_mutex_lock (&self->lock);
  if (!accepts_cues (self) || cue->epoch != self->epoch || self->ended
      || self->segment_number == 0) {
    g_mutex_unlock (&self->lock);
    return;
  }
  if (!cue->exact && self->cues >= MAX_CUES)
    drop_oldest_cue (self);
  now = GST_CLOCK_TIME_IS_VALID (self->need) ? self->need : 0;
  item = g_new0 (Item, 1);
  item->text = g_strdup (cue->text);
  item->result = cue->result ? gst_structure_copy (cue->result) : NULL;
  item->pts = cue->pts;
  item->duration = cue->duration;
  if (!GST_CLOCK_TIME_IS_VALID (cue->pts)
      || cue->segment_number != self->segment_number)
    item->ideal = now;
  else
    item->ideal = cue->exact ? cue->pts : MAX (cue->pts, now);
  g_queue_push_tail (&self->queue, item);
  self->cues++;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_wait_room (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  while (accepts_cues (self) && self->cues >= MAX_CUES)
    g_cond_wait (&self->cond, &self->lock);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_count (GstGlm4vText * self, GstStructure * stats)
{
  g_mutex_lock (&self->lock);
  gst_structure_set (stats,
      "text-pushed", G_TYPE_UINT64, self->pushed,
      "text-late", G_TYPE_UINT64, self->late,
      "text-dropped", G_TYPE_UINT64, self->dropped, NULL);
  g_mutex_unlock (&self->lock);
}
