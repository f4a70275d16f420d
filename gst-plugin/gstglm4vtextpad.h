/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What gstglm4vtext.c, which fills the queue, and gstglm4vtextpad.c, which
 * empties it, share. */
#pragma once

#include "gstglm4vtext.h"

G_BEGIN_DECLS

/* One entry of the queue. */
typedef struct
{
  GstEvent *event;              /* or, if NULL, a caption: */
  gchar *text;
  GRefString *settings;         /* or NULL */
  GstStructure *result;         /* or NULL */
  GstClockTime pts, ideal, duration;
  GstClockTime stream_end;      /* or NONE */
  gboolean untimed;
} GstGlm4vTextItem;

/* What distinguishes the streams. */
typedef struct
{
  const gchar *name;
  const gchar *counters[3];     /* in `stats`: pushed, late, dropped */
  guint max_cues;               /* of them wait for a slow branch */
  GstClockTime min_duration;
  gboolean every_one;           /* also what lies behind the segment's end */
} GstGlm4vTextTraits;

struct _GstGlm4vText
{
  gint refs;
  const GstGlm4vTextTraits *traits;
  GstCaps *caps;

  GMutex lock;                  /* guards all below; held with no other */
  GCond cond;                   /* any change below */
  GstPad *pad;                  /* the one that is fed, or NULL; no reference */
  GQueue queue;                 /* of GstGlm4vTextItem, oldest first */
  guint cues;                   /* captions among them */
  guint epoch;                  /* captions of another are stale */
  gboolean active, flushing;    /* the pad; flushing if not active */
  gboolean begun;               /* the pad has this segment */
  gboolean ended;               /* EOS is queued: nothing may follow */
  gboolean discont;             /* the next caption follows nothing */
  GRefString *settings;         /* those that the peer had last, or NULL */
  gboolean nudge;               /* a new peer needs the sticky events */
  gboolean failed;              /* an error was posted, no push worked since */

  /* The sticky events so far, in the order of their types: what a pad that is
   * requested late pushes first. */
  GQueue sticky;
  GstSegment segment;           /* the newest, shifted by lateness */
  guint segment_number;         /* 0 = none yet */
  guint32 seqnum;               /* of that segment */

  /* time, as PTS of the newest segment */
  GstClockTime position;        /* text before is pushed; task only writes */
  GstClockTime need;            /* position must come to exceed this soon */
  GstClockTime target;          /* and may go this far */
  GstClockTime end;             /* where the video ends so far */

  GstClockTime busy;            /* the last caption ends here, 0 = none */
  GstClockTime lag;             /* how far it began behind its frame */
  guint expected;               /* captions in turn that are not there yet */
  GPtrArray *told;              /* gchar *: the last answers, one for each
                                 * question about a frame */

  guint64 pushed, late, dropped;
};

#define GST_TYPE_GLM4V_TEXT_PAD (gst_glm4v_text_pad_get_type ())
G_DECLARE_FINAL_TYPE (GstGlm4vTextPad, gst_glm4v_text_pad, GST,
    GLM4V_TEXT_PAD, GstPad)

struct _GstGlm4vTextPad
{
  GstPad parent;
  GstGlm4vText *text;
  GRecMutex task_lock;          /* the task's; the pad's own stays free */
  GstTask *task;                /* while active; (de)activation only */
  guint epoch;                  /* task only: the text's when it began */

  /* guarded by text->lock */
  gboolean stop;                /* the task is to return */
  GThread *pusher;              /* the task's thread while it pushes */
  gboolean left;                /* released while it pushes: the task, which may
                                 * be held up, ends alone and tells nobody */
};

GstPad *gst_glm4v_text_pad_new (GstGlm4vText * text, GstPadTemplate * template);

/* Wait until the task pushes nothing any more; call it while flushing. */
void gst_glm4v_text_pad_wait_idle (GstGlm4vTextPad * pad);

/* With the lock, for both. */
void gst_glm4v_text_item_free (GstGlm4vTextItem * item);
void gst_glm4v_text_drop_items (GstGlm4vText * text);
void gst_glm4v_text_queue_sticky (GstGlm4vText * text);
void gst_glm4v_text_forget_answers (GstGlm4vText * text);

/* What is downstream now has no settings yet. */
void gst_glm4v_text_forget_settings (GstGlm4vText * text);

G_END_DECLS
