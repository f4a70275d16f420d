/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running statistics: the property `stats`, and the message that repeats it
 * every stats-interval. */
#pragma once

#include <gst/gst.h>

#include "gstglm4vjob.h"

G_BEGIN_DECLS

#define GST_GLM4V_STATS_NAME "glm4vdescribe-stats"

/* Lengths of delays, 32 to an octave from about 1 µs on: within 3 %. */
#define GST_GLM4V_DELAY_BUCKETS (36 * 32)

/* Counters and the last figures; see docs/element.md. Guarded by the element's
 * lock. */
typedef struct
{
  gint64 since;                 /* UTC, µs */
  guint64 frames_seen, sampled, results, inferred, errors, bad_frames, timeouts;
  guint64 unreadable_frames, downloaded_frames;
  guint64 dropped_busy, dropped_loading, dropped_eos, dropped_canceled;
  guint64 unchanged, gated;
  guint64 verdicts[GLM4V_VERDICT_FAIL + 1], incidents;
  guint64 tokens_in, tokens_out, tokens_drafted, tokens_accepted;
  GstClockTime delay_last, delay_max, delay_sum;
  guint32 delays[GST_GLM4V_DELAY_BUCKETS];
  GstClockTime vision, prefill, first_token, decode;    /* of the last */
  gdouble token_rate;           /* likewise, tokens a second */
  guint64 steps_before, requests_before;        /* of the engine */
} GstGlm4vStats;

/* All from now on. */
void gst_glm4v_stats_reset (GstGlm4vStats * stats);

/* A job whose result is known. */
void gst_glm4v_stats_count (GstGlm4vStats * stats, const GstGlm4vJob * job,
    GstClockTime delay);

/* So long that 99 of 100 delays are not longer; 0 without any. */
GstClockTime gst_glm4v_stats_p99 (const GstGlm4vStats * stats);

struct _GstGlm4vDescribe;

/* The property `stats`; the caller frees it. Any thread. */
GstStructure *gst_glm4v_statistics_describe (struct _GstGlm4vDescribe * self);

/* The engine has done this before the element joined it. */
void gst_glm4v_statistics_join (struct _GstGlm4vDescribe * self,
    const glm4v_engine_stats * before);

/* The action signal `reset-stats`. Any thread. */
void gst_glm4v_statistics_reset (struct _GstGlm4vDescribe * self);

/* Post the message; a timer calls this. Any thread, no lock. */
void gst_glm4v_statistics_post (gpointer element);

/* The stream ends: post the last figures, if there is a stats-interval. */
void gst_glm4v_statistics_end (struct _GstGlm4vDescribe * self);

G_END_DECLS
