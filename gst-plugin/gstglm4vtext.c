/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Into the text stream: its events, captions and times, from the streaming
 * thread and from the worker. gstglm4vtextpad.c takes them out.
 *
 * STREAM_START, CAPS and SEGMENT are the stream's own; other downstream events
 * of the video go on as they are: serialized ones in their order, others past
 * the queue. Sticky ones are remembered, with the pad or without one, by the
 * rules of GstPad.
 *
 * Lock order: `lock` alone. Nothing is pushed or posted while it is held. */
#include "gstglm4vtext.h"

#include "gstglm4vreading.h"
#include "gstglm4vtextpad.h"

#define MAX_ITEMS 1024          /* GAPs, forwarded events; and captions */

static const GstGlm4vTextTraits kinds[GST_GLM4V_N_STREAMS] = {
  [GST_GLM4V_STREAM_TEXT] = {"text", {"text-pushed", "text-late",
              "text-dropped"}, 256, 10 * GST_MSECOND, FALSE},
  [GST_GLM4V_STREAM_JSON] = {"json", {"json-pushed", "json-late",
              "json-dropped"}, 4096, 1, TRUE},
};

/* ---- queue, with the lock ---- */

void
gst_glm4v_text_item_free (GstGlm4vTextItem * item)
{
  if (item->event)
    gst_event_unref (item->event);
  g_free (item->text);
  g_clear_pointer (&item->settings, g_ref_string_release);
  g_clear_pointer (&item->result, gst_structure_free);
  g_free (item);
}

void
gst_glm4v_text_drop_items (GstGlm4vText * self)
{
  g_queue_clear_full (&self->queue, (GDestroyNotify) gst_glm4v_text_item_free);
  self->cues = 0;
  g_cond_broadcast (&self->cond);
}

void
gst_glm4v_text_forget_settings (GstGlm4vText * self)
{
  g_clear_pointer (&self->settings, g_ref_string_release);
}

static gboolean
accepts_cues (GstGlm4vText * self)
{
  return self->pad && self->active && !self->flushing;
}

/* Takes the event. */
static void
queue_event (GstGlm4vText * self, GstEvent * event)
{
  GstGlm4vTextItem *item = g_new0 (GstGlm4vTextItem, 1);

  item->event = event;
  g_queue_push_tail (&self->queue, item);
  g_cond_broadcast (&self->cond);
}

static void
delete_item (GstGlm4vText * self, GList * link)
{
  gst_glm4v_text_item_free (link->data);
  g_queue_delete_link (&self->queue, link);
}

/* What was told last was not shown, or not there. */
void
gst_glm4v_text_forget_answers (GstGlm4vText * self)
{
  g_ptr_array_set_size (self->told, 0);
}

static void
drop_oldest_cue (GstGlm4vText * self)
{
  GList *link = self->queue.head;

  while (((GstGlm4vTextItem *) link->data)->event)
    link = link->next;
  delete_item (self, link);
  gst_glm4v_text_forget_answers (self);
  self->cues--;
  self->dropped++;
}

static void
forget_captions (GstGlm4vText * self)
{
  self->busy = self->lag = 0;
  self->expected = 0;
  gst_glm4v_text_forget_answers (self);
}

static void
forget_times (GstGlm4vText * self)
{
  self->position = self->need = self->target = self->end =
      GST_CLOCK_TIME_NONE;
  forget_captions (self);
}

/* ---- sticky events, with the lock ---- */

/* Does b replace a? */
static gboolean
same_kind (GstEvent * a, GstEvent * b)
{
  GstEventType type = GST_EVENT_TYPE (a);

  if (!GST_EVENT_IS_STICKY (a) || type != GST_EVENT_TYPE (b))
    return FALSE;
  return !(type & GST_EVENT_TYPE_STICKY_MULTI)
      || gst_event_has_name_id (a,
      gst_structure_get_name_id (gst_event_get_structure (b)));
}

static void
remember (GstGlm4vText * self, GstEvent * event)
{
  GstEventType type = GST_EVENT_TYPE (event);
  GList *link;

  for (link = self->sticky.head; link; link = link->next) {
    if (same_kind (link->data, event)) {
      gst_event_replace ((GstEvent **) & link->data, event);
      return;
    }
    if (GST_EVENT_TYPE (link->data) == GST_EVENT_EOS
        || (type != GST_EVENT_EOS && GST_EVENT_TYPE (link->data) > type))
      break;
  }
  g_queue_insert_before (&self->sticky, link, gst_event_ref (event));
}

static void
forget (GstGlm4vText * self, GstEventType type)
{
  GList *link = self->sticky.head;

  while (link) {
    GList *next = link->next;

    if (GST_EVENT_TYPE (link->data) == type) {
      gst_event_unref (link->data);
      g_queue_delete_link (&self->sticky, link);
    }
    link = next;
  }
}

static void
forget_all (GstGlm4vText * self)
{
  g_queue_clear_full (&self->sticky, (GDestroyNotify) gst_event_unref);
}

void
gst_glm4v_text_queue_sticky (GstGlm4vText * self)
{
  GList *link;

  for (link = self->sticky.head; link; link = link->next)
    queue_event (self, gst_event_ref (link->data));
}

/* Remember a sticky event and have the pad push it. Takes the event. */
static void
tell (GstGlm4vText * self, GstEvent * event)
{
  if (GST_EVENT_IS_STICKY (event))
    remember (self, event);
  if (self->pad)
    queue_event (self, event);
  else
    gst_event_unref (event);
}

/* A blocked branch must not make the queue grow forever: an older event of its
 * kind, or the oldest that is not sticky, is dropped. */
static void
make_room (GstGlm4vText * self, GstEvent * event)
{
  GList *link;

  if (g_queue_get_length (&self->queue) < MAX_ITEMS)
    return;
  for (link = self->queue.head; link; link = link->next) {
    GstEvent *older = ((GstGlm4vTextItem *) link->data)->event;

    if (older && (same_kind (older, event) || (!GST_EVENT_IS_STICKY (older)
                && GST_EVENT_TYPE (older) != GST_EVENT_SEGMENT_DONE))) {
      delete_item (self, link);
      return;
    }
  }
}

/* ---- life ---- */

GstGlm4vText *
gst_glm4v_text_new (GstGlm4vTextKind kind, GstCaps * caps)
{
  GstGlm4vText *self = g_new0 (GstGlm4vText, 1);

  self->refs = 1;
  self->traits = &kinds[kind];
  self->caps = caps;
  self->flushing = TRUE;
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  g_queue_init (&self->queue);
  g_queue_init (&self->sticky);
  self->told = g_ptr_array_new_with_free_func (g_free);
  gst_glm4v_text_reset (self, 0);
  return self;
}

const gchar *
gst_glm4v_text_name (GstGlm4vTextKind kind)
{
  return kinds[kind].name;
}

GstGlm4vText *
gst_glm4v_text_ref (GstGlm4vText * self)
{
  g_atomic_int_inc (&self->refs);
  return self;
}

void
gst_glm4v_text_unref (GstGlm4vText * self)
{
  if (!g_atomic_int_dec_and_test (&self->refs))
    return;
  gst_glm4v_text_drop_items (self);
  gst_glm4v_text_forget_settings (self);
  forget_all (self);
  gst_caps_unref (self->caps);
  g_ptr_array_unref (self->told);
  g_mutex_clear (&self->lock);
  g_cond_clear (&self->cond);
  g_free (self);
}

void
gst_glm4v_text_reset (GstGlm4vText * self, guint epoch)
{
  g_mutex_lock (&self->lock);
  gst_glm4v_text_drop_items (self);
  forget_all (self);
  gst_segment_init (&self->segment, GST_FORMAT_TIME);
  self->segment_number = 0;
  self->epoch = epoch;
  self->begun = self->ended = self->nudge = self->failed = FALSE;
  forget_times (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_reset_counters (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  self->pushed = self->late = self->dropped = 0;
  g_mutex_unlock (&self->lock);
}

GstPad *
gst_glm4v_text_new_pad (GstGlm4vText * self, GstPadTemplate * template)
{
  GstPad *pad = gst_glm4v_text_pad_new (self, template);

  g_mutex_lock (&self->lock);
  if (self->pad) {
    g_mutex_unlock (&self->lock);
    gst_object_unref (gst_object_ref_sink (pad));
    return NULL;
  }
  self->pad = pad;
  self->flushing = TRUE;
  self->begun = self->nudge = FALSE;
  gst_glm4v_text_forget_settings (self);
  forget_times (self);
  gst_glm4v_text_queue_sticky (self);
  g_mutex_unlock (&self->lock);
  return pad;
}

void
gst_glm4v_text_release_pad (GstGlm4vText * self, GstPad * pad)
{
  g_mutex_lock (&self->lock);
  if (self->pad == pad) {
    self->pad = NULL;
    self->active = FALSE;
    self->flushing = TRUE;
    gst_glm4v_text_drop_items (self);
  }
  g_mutex_unlock (&self->lock);
}

/* ---- stream ---- */

void
gst_glm4v_text_stream_start (GstGlm4vText * self, GstEvent * event)
{
  guint group = GST_GROUP_ID_INVALID;
  GstEvent *start, *caps;
  const gchar *video;
  gchar *id;

  gst_event_parse_stream_start (event, &video);
  id = g_strconcat (video, "/", self->traits->name, NULL);
  start = gst_event_new_stream_start (id);
  g_free (id);
  gst_event_set_stream_flags (start, GST_STREAM_FLAG_SPARSE);
  gst_event_set_seqnum (start, gst_event_get_seqnum (event));
  if (gst_event_parse_group_id (event, &group))
    gst_event_set_group_id (start, group);
  caps = gst_event_new_caps (self->caps);
  gst_event_set_seqnum (caps, gst_event_get_seqnum (event));
  g_mutex_lock (&self->lock);
  forget (self, GST_EVENT_EOS);
  forget (self, GST_EVENT_STREAM_GROUP_DONE);
  forget (self, GST_EVENT_TAG);
  self->ended = FALSE;
  tell (self, start);
  tell (self, caps);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_segment (GstGlm4vText * self, const GstSegment * segment,
    guint segment_number, GstClockTime lateness, guint32 seqnum)
{
  GstEvent *event;

  g_mutex_lock (&self->lock);
  self->segment = *segment;
  if (segment->format == GST_FORMAT_TIME)
    self->segment.base += lateness;
  self->segment_number = segment_number;
  self->seqnum = seqnum;
  self->ended = FALSE;
  self->need = self->target = self->end = GST_CLOCK_TIME_NONE;
  forget_captions (self);
  event = gst_event_new_segment (&self->segment);
  gst_event_set_seqnum (event, seqnum);
  tell (self, event);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_end (GstGlm4vText * self, GstEvent * event)
{
  g_mutex_lock (&self->lock);
  self->ended = TRUE;
  tell (self, gst_event_ref (event));
  g_mutex_unlock (&self->lock);
}

/* The pad with a reference, for work after the lock is released. */
static GstPad *
ref_pad (GstGlm4vText * self)
{
  return self->pad ? gst_object_ref (self->pad) : NULL;
}

void
gst_glm4v_text_event (GstGlm4vText * self, GstEvent * event)
{
  GstPad *pad = NULL;

  g_mutex_lock (&self->lock);
  if (GST_EVENT_IS_SERIALIZED (event) || !self->begun) {
    make_room (self, event);
    tell (self, gst_event_ref (event));
  } else {
    if (GST_EVENT_IS_STICKY (event))
      remember (self, event);
    pad = ref_pad (self);
  }
  g_mutex_unlock (&self->lock);
  if (!pad)
    return;
  gst_pad_push_event (pad, gst_event_ref (event));
  gst_object_unref (pad);
}

void
gst_glm4v_text_flush_start (GstGlm4vText * self, GstEvent * event, guint epoch)
{
  GstPad *pad;

  g_mutex_lock (&self->lock);
  self->epoch = epoch;
  self->flushing = TRUE;
  gst_glm4v_text_drop_items (self);
  gst_glm4v_text_forget_settings (self);
  pad = ref_pad (self);
  g_mutex_unlock (&self->lock);
  if (!pad)
    return;
  gst_pad_push_event (pad, gst_event_ref (event));
  gst_glm4v_text_pad_wait_idle (GST_GLM4V_TEXT_PAD (pad));
  gst_object_unref (pad);
}

static gpointer
ref_event (gconstpointer event, gpointer user)
{
  return gst_event_ref ((GstEvent *) event);
}

void
gst_glm4v_text_flush_stop (GstGlm4vText * self, GstEvent * event)
{
  GList *sticky, *link;
  GstPad *pad;

  g_mutex_lock (&self->lock);
  pad = ref_pad (self);
  g_mutex_unlock (&self->lock);
  if (pad)
    gst_pad_push_event (pad, gst_event_ref (event));
  g_mutex_lock (&self->lock);
  gst_glm4v_text_drop_items (self);
  forget (self, GST_EVENT_EOS);
  forget (self, GST_EVENT_STREAM_GROUP_DONE);
  forget (self, GST_EVENT_SEGMENT);
  self->segment_number = 0;
  self->begun = self->ended = self->failed = FALSE;
  self->discont = TRUE;
  forget_times (self);
  sticky = g_list_copy_deep (self->sticky.head, ref_event, NULL);
  g_mutex_unlock (&self->lock);
  /* The pad has those that the flush swept out of the queue as well. */
  for (link = sticky; pad && link; link = link->next)
    gst_pad_store_sticky_event (pad, link->data);
  g_list_free_full (sticky, (GDestroyNotify) gst_event_unref);
  g_mutex_lock (&self->lock);
  if (pad && self->pad == pad && self->active)
    self->flushing = FALSE;
  g_cond_broadcast (&self->cond);
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
  if (GST_CLOCK_TIME_IS_VALID (self->position) && need > self->position)
    g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_gap (GstGlm4vText * self, GstClockTime start,
    GstClockTime duration)
{
  GstEvent *event = gst_event_new_gap (start, duration);

  g_mutex_lock (&self->lock);
  gst_event_set_seqnum (event, self->seqnum);
  if (accepts_cues (self) && g_queue_get_length (&self->queue) < MAX_ITEMS)
    queue_event (self, event);
  else
    gst_event_unref (event);
  g_mutex_unlock (&self->lock);
}

gboolean
gst_glm4v_text_is_wanted (GstGlm4vText * self)
{
  gboolean wanted;

  g_mutex_lock (&self->lock);
  wanted = accepts_cues (self);
  g_mutex_unlock (&self->lock);
  return wanted;
}

/* With the lock: where a caption begins if nothing is in its way. */
static GstClockTime
start_of (GstGlm4vText * self, const GstGlm4vCaption * caption)
{
  GstClockTime now = GST_CLOCK_TIME_IS_VALID (self->need) ? self->need : 0;
  GstClockTime start = now;

  if (GST_CLOCK_TIME_IS_VALID (caption->pts)
      && caption->segment_number == self->segment_number)
    start = caption->exact ? caption->pts : MAX (caption->pts, now);
  if (caption->in_turn) {
    start = MAX (start, self->busy);
    if (g_queue_is_empty (&self->queue)
        && GST_CLOCK_TIME_IS_VALID (self->position))
      start = MAX (start, self->position);
  }
  return start;
}

/* With the lock. */
static void
queue_cue (GstGlm4vText * self, const GstGlm4vCaption * caption, guint i,
    GstClockTime start)
{
  const GstGlm4vReadingCue *cue = g_ptr_array_index (caption->cues, i);
  GstGlm4vTextItem *item = g_new0 (GstGlm4vTextItem, 1);

  if (self->cues >= self->traits->max_cues)
    drop_oldest_cue (self);
  item->text = g_strdup (cue->text);
  item->settings = caption->settings ?
      g_ref_string_acquire (caption->settings) : NULL;
  item->result = i == 0 && caption->result ?
      gst_structure_copy (caption->result) : NULL;
  item->pts = GST_CLOCK_TIME_IS_VALID (caption->pts) ?
      caption->pts + cue->offset : GST_CLOCK_TIME_NONE;
  item->ideal = start + cue->offset;
  item->duration = cue->duration;
  item->stream_end = caption->stream_end;
  item->untimed = caption->untimed;
  g_queue_push_tail (&self->queue, item);
  self->cues++;
}

/* With the lock. */
static gboolean
ends_too_late (GstGlm4vText * self, const GstGlm4vCaption * caption,
    GstClockTime start)
{
  return caption->in_turn && self->busy > 0
      && GST_CLOCK_TIME_IS_VALID (caption->stream_end)
      && start + caption->duration > caption->stream_end + GST_MSECOND;
}

/* With the lock. */
static void
queue_caption (GstGlm4vText * self, const GstGlm4vCaption * caption)
{
  GstClockTime start = start_of (self, caption);
  guint i;

  if (ends_too_late (self, caption, start)) {
    self->dropped += caption->cues->len;
    self->busy = MAX (self->busy, caption->stream_end);
    return;
  }
  for (i = 0; i < caption->cues->len; i++)
    queue_cue (self, caption, i, start);
  self->busy = MAX (self->busy, start + caption->duration);
  if (caption->part == 0)
    self->lag = GST_CLOCK_TIME_IS_VALID (caption->pts) && start > caption->pts ?
        start - caption->pts : 0;
  g_cond_broadcast (&self->cond);
}

/* With the lock. */
static void
end_expected (GstGlm4vText * self)
{
  self->expected -= MIN (self->expected, 1);
}

void
gst_glm4v_text_expect (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  self->expected++;
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_expect_none (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  end_expected (self);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_push (GstGlm4vText * self, const GstGlm4vCaption * caption)
{
  g_mutex_lock (&self->lock);
  if (caption->in_turn)
    end_expected (self);
  if (accepts_cues (self) && caption->epoch == self->epoch && !self->ended
      && self->segment_number > 0)
    queue_caption (self, caption);
  g_mutex_unlock (&self->lock);
}

gboolean
gst_glm4v_text_is_repeated (GstGlm4vText * self, guint part,
    const gchar * answer)
{
  gboolean repeated;
  gchar **last;

  g_mutex_lock (&self->lock);
  if (self->told->len <= part)
    g_ptr_array_set_size (self->told, (gint) part + 1);
  last = (gchar **) & g_ptr_array_index (self->told, part);
  repeated = g_strcmp0 (*last, answer) == 0;
  if (!repeated) {
    g_free (*last);
    *last = g_strdup (answer);
  }
  g_mutex_unlock (&self->lock);
  return repeated;
}

GstClockTime
gst_glm4v_text_free_from (GstGlm4vText * self)
{
  GstClockTime from;

  g_mutex_lock (&self->lock);
  from = self->expected > 0 ? GST_CLOCK_TIME_NONE :
      self->busy - MIN (self->busy, self->lag);
  g_mutex_unlock (&self->lock);
  return from;
}

void
gst_glm4v_text_wait_room (GstGlm4vText * self)
{
  g_mutex_lock (&self->lock);
  while (accepts_cues (self) && self->cues >= self->traits->max_cues)
    g_cond_wait (&self->cond, &self->lock);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_text_count (GstGlm4vText * self, GstStructure * stats)
{
  g_mutex_lock (&self->lock);
  gst_structure_set (stats,
      self->traits->counters[0], G_TYPE_UINT64, self->pushed,
      self->traits->counters[1], G_TYPE_UINT64, self->late,
      self->traits->counters[2], G_TYPE_UINT64, self->dropped, NULL);
  g_mutex_unlock (&self->lock);
}
