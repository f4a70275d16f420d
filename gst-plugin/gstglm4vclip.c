/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vclip.h"

#include "gstglm4vframe.h"

GST_DEBUG_CATEGORY_EXTERN (glm4vdescribe_debug);
#define GST_CAT_DEFAULT glm4vdescribe_debug

void
gst_glm4v_clip_frame_free (GstGlm4vClipFrame * frame)
{
  gst_clear_buffer (&frame->buffer);
  g_free (frame);
}

void
gst_glm4v_clip_clear (GstGlm4vClip * clip)
{
  g_queue_clear_full (&clip->frames,
      (GDestroyNotify) gst_glm4v_clip_frame_free);
  clip->next = 0;
  clip->fresh = FALSE;
}

static void
drop_oldest (GstGlm4vClip * clip)
{
  gst_glm4v_clip_frame_free (g_queue_pop_head (&clip->frames));
}

void
gst_glm4v_clip_add (GstGlm4vClip * clip, GstGlm4vClipSize size,
    const GstGlm4vClipFrame * frame, gboolean last)
{
  GstClockTime spacing = size.window / size.n;
  const GstGlm4vClipFrame *newest = g_queue_peek_tail (&clip->frames);
  GstGlm4vClipFrame *kept;

  if (newest && frame->time < newest->time)
    gst_glm4v_clip_clear (clip);        /* time goes back a little */
  if (!last && frame->time < clip->next)
    return;
  kept = g_new (GstGlm4vClipFrame, 1);
  *kept = *frame;
  kept->buffer = gst_glm4v_frame_hold (frame->buffer, size.n);
  g_queue_push_tail (&clip->frames, kept);
  clip->fresh = TRUE;
  clip->next = frame->time + spacing;
  while (g_queue_get_length (&clip->frames) > size.n)
    drop_oldest (clip);
  while (frame->time - ((GstGlm4vClipFrame *)
          g_queue_peek_head (&clip->frames))->time > size.window)
    drop_oldest (clip);
}

GPtrArray *
gst_glm4v_clip_take (GstGlm4vClip * clip)
{
  GPtrArray *frames = g_ptr_array_new_with_free_func ((GDestroyNotify)
      gst_glm4v_clip_frame_free);
  GList *link;

  for (link = clip->frames.head; link; link = link->next) {
    GstGlm4vClipFrame *frame = g_new (GstGlm4vClipFrame, 1);

    *frame = *(GstGlm4vClipFrame *) link->data;
    gst_buffer_ref (frame->buffer);
    g_ptr_array_add (frames, frame);
  }
  clip->fresh = FALSE;
  return frames;
}

void
gst_glm4v_clip_release (GstGlm4vClip * clip)
{
  GList *link, *next;

  for (link = clip->frames.head; link; link = next) {
    GstGlm4vClipFrame *frame = link->data;
    GstBuffer *copy = gst_buffer_copy_deep (frame->buffer);

    next = link->next;
    gst_buffer_unref (frame->buffer);
    frame->buffer = copy;
    if (copy)
      continue;
    GST_WARNING ("a frame cannot be copied: clips are without it");
    gst_glm4v_clip_frame_free (frame);
    g_queue_delete_link (&clip->frames, link);
  }
  clip->fresh &= !g_queue_is_empty (&clip->frames);
}
