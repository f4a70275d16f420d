/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which frames of a stream are described. Plain data and arithmetic: no
 * locks, no clock, one thread (the streaming thread). */
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

/**
 * GstGlm4vSampleMode:
 * @GST_GLM4V_SAMPLE_INTERVAL: the first frame, then one per interval
 * @GST_GLM4V_SAMPLE_EVERY_NTH: the first frame, then every nth
 * @GST_GLM4V_SAMPLE_ALL: every frame
 * @GST_GLM4V_SAMPLE_TRIGGER: only frames with a trigger
 * @GST_GLM4V_SAMPLE_SCENE_CHANGE: the first frame, then the first of each
 *     scene
 * @GST_GLM4V_SAMPLE_AUTO: as interval; captions are given the time to be read
 */
typedef enum
{
  GST_GLM4V_SAMPLE_INTERVAL,
  GST_GLM4V_SAMPLE_EVERY_NTH,
  GST_GLM4V_SAMPLE_ALL,
  GST_GLM4V_SAMPLE_TRIGGER,
  GST_GLM4V_SAMPLE_SCENE_CHANGE,
  GST_GLM4V_SAMPLE_AUTO
} GstGlm4vSampleMode;

/* Of these the modes are not AUTO, and interval is not NONE. */
typedef struct
{
  GstGlm4vSampleMode mode;
  GstClockTime interval;        /* between samples; 0 = every frame; of scenes:
                                 * at least */
  guint nth;                    /* >= 1 */
  GstClockTime fill;            /* interval: before the first sample */
  gboolean paced;               /* interval: no grid, ticks tell when */
} GstGlm4vSampling;

/* What the sampler needs to know about one buffer. */
typedef struct
{
  GstClockTime pts;             /* GST_CLOCK_TIME_NONE if unknown */
  GstClockTime duration;        /* of the buffer, or NONE */
  GstClockTime period;          /* of the caps' framerate, NONE if 0/1 */
  GstClockTime spacing;         /* of samples that are counted, or NONE */
  GstClockTime arrival;         /* monotonic clock, only differences count */
  GstClockTime start;           /* of the segment: where unknown time begins */
  GstClockTime not_before;      /* paced: the next sample */
  gboolean usable;              /* FALSE: GAP, CORRUPTED, trick mode */
  gboolean cut;                 /* a scene begins here */
} GstGlm4vTick;

typedef struct
{
  GstGlm4vSampling config;
  gboolean started;
  GstClockTime phase, next;     /* interval: grid origin, next point due */
  GstClockTime last;            /* time of the last buffer */
  GstClockTime furthest;        /* the latest of all times */
  GstClockTime stalled;         /* by frames, since furthest moved */
  GstClockTimeDiff shift;       /* time minus PTS; 0 until PTS go back */
  GstClockTime last_pts;        /* of the last buffer; may be NONE */
  GstClockTime last_arrival;
  GstClockTime last_taken;
  gboolean any_taken;
  gboolean new_scene;           /* not taken yet */
  guint64 count;                /* usable frames since the phase began */
} GstGlm4vSampler;

/* Forget the stream: its time restarts, the next usable frame is sampled. */
void gst_glm4v_sampler_reset (GstGlm4vSampler * sampler);

/* The time goes on, the next usable frame is taken and begins a new grid. */
void gst_glm4v_sampler_restart (GstGlm4vSampler * sampler);

/* TRUE if this frame is to be described; then *until is the time to the next
 * sample as far as it can be known, always > 0. */
gboolean gst_glm4v_sampler_take (GstGlm4vSampler * sampler,
    const GstGlm4vSampling * config, const GstGlm4vTick * tick,
    GstClockTime * until);

/* The time of the tick last taken or passed over: its PTS, or counted where PTS
 * are missing, do not advance or go back. It goes back by an interval at
 * most. */
GstClockTime gst_glm4v_sampler_time (const GstGlm4vSampler * sampler);

/* The same for a PTS that no tick had, of a GAP event. */
GstClockTime gst_glm4v_sampler_time_at (const GstGlm4vSampler * sampler,
    GstClockTime pts);

/* Time from tick's time to the earliest possible next sample, NONE if the mode
 * counts frames, so that it is unknown. Call after take(). */
GstClockTime gst_glm4v_sampler_ahead (const GstGlm4vSampler * sampler);

G_END_DECLS
