/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sampling by time or by count. Between the sink pad and the worker.
 *
 * Interval mode keeps a grid: phase, phase + interval, ... The first frame at
 * or after a grid point is taken, so rounding of PTS never adds up. The grid
 * begins anew (and the frame is taken) at the first frame after a flush, a new
 * segment or new settings, and when the time jumps by more than the interval,
 * forward or back. Smaller steps back and DISCONT do not matter: behind a leaky
 * queue every frame has DISCONT. The counting modes look at no time at all. A
 * scene that begins too soon after a sample is taken when interval has passed.
 * Where captions set the pace there is no grid: the first frame is taken that
 * is an interval later than the last one and not before its tick allows it.
 *
 * The time of a frame is its PTS while that goes on. Without PTS it is the time
 * of the previous buffer plus its duration, or plus the caps' frame period, or
 * else plus the time that passed between the two arrivals. Where PTS jump back,
 * or do not get further for as long as the interval, the time goes on from
 * where it was, and all later PTS are shifted. This time is for sampling and
 * for the text pad, never written to a result. */
#include "gstglm4vsampler.h"

/* Duration of a caption if the time to the next one is unknown. */
#define UNKNOWN_SPACING GST_SECOND

void
gst_glm4v_sampler_reset (GstGlm4vSampler * sampler)
{
  GstGlm4vSampling config = sampler->config;

  *sampler = (GstGlm4vSampler) {.config = config};
}

void
gst_glm4v_sampler_restart (GstGlm4vSampler * sampler)
{
  sampler->next = 0;
  sampler->phase = GST_CLOCK_TIME_NONE;
  sampler->count = 0;
  sampler->new_scene = FALSE;
}

static GstClockTime
saturated_add (GstClockTime a, GstClockTime b)
{
  return b < G_MAXINT64 - MIN (a, G_MAXINT64) ? a + b : G_MAXINT64;
}

static gboolean
by_time (const GstGlm4vSampling * config)
{
  return config->mode == GST_GLM4V_SAMPLE_INTERVAL && config->interval > 0;
}

static guint
frames_of (const GstGlm4vSampling * config)
{
  return config->mode == GST_GLM4V_SAMPLE_EVERY_NTH ? config->nth : 1;
}

GstClockTime
gst_glm4v_sampler_time (const GstGlm4vSampler * sampler)
{
  return sampler->last;
}

GstClockTime
gst_glm4v_sampler_time_at (const GstGlm4vSampler * sampler, GstClockTime pts)
{
  GstClockTime limited = MIN (pts, G_MAXINT64);

  return sampler->shift < 0 ? limited - MIN (limited,
      (GstClockTime) - sampler->shift) : saturated_add (limited,
      (GstClockTime) sampler->shift);
}

/* How long the frame before this one lasted. */
static GstClockTime
step_of (const GstGlm4vSampler * sampler, const GstGlm4vTick * tick)
{
  if (GST_CLOCK_TIME_IS_VALID (tick->duration) && tick->duration > 0)
    return tick->duration;
  if (GST_CLOCK_TIME_IS_VALID (tick->period))
    return tick->period;
  return tick->arrival - sampler->last_arrival;
}

/* A step of more than this is a jump. */
static GstClockTime
tolerance (const GstGlm4vSampling * config, const GstGlm4vTick * tick)
{
  if (by_time (config))
    return config->interval;
  if (GST_CLOCK_TIME_IS_VALID (tick->period))
    return MAX (tick->period * frames_of (config), UNKNOWN_SPACING);
  return UNKNOWN_SPACING;
}

/* A PTS that occurs twice is as useless as a missing one. */
static gboolean
tells_time (const GstGlm4vSampler * sampler, const GstGlm4vTick * tick)
{
  return GST_CLOCK_TIME_IS_VALID (tick->pts)
      && tick->pts != sampler->last_pts;
}

/* Move last and furthest on to this frame. TRUE if the time jumped: forward,
 * or its PTS back. */
static gboolean
move_time (GstGlm4vSampler * sampler, const GstGlm4vTick * tick)
{
  GstClockTime limit = tolerance (&sampler->config, tick);
  GstClockTime step = step_of (sampler, tick);
  GstClockTime before = sampler->furthest, time;
  gboolean lost = FALSE;

  time = tells_time (sampler, tick) ?
      gst_glm4v_sampler_time_at (sampler, tick->pts) :
      saturated_add (sampler->last, step);
  if (time <= before) {
    sampler->stalled = saturated_add (sampler->stalled, step);
    lost = before - time > limit || sampler->stalled >= limit;
  }
  if (lost) {
    time = saturated_add (before, MAX (sampler->stalled, 1));
    if (tells_time (sampler, tick))
      sampler->shift = GST_CLOCK_DIFF (MIN (tick->pts, G_MAXINT64), time);
  }
  if (time > before) {
    sampler->furthest = time;
    sampler->stalled = 0;
  }
  sampler->last = time;
  return lost || (time > before && time - before > limit);
}

static void
begin_time (GstGlm4vSampler * sampler, const GstGlm4vTick * tick)
{
  sampler->started = TRUE;
  sampler->last = MIN (GST_CLOCK_TIME_IS_VALID (tick->pts) ? tick->pts :
      tick->start, G_MAXINT64);
  sampler->furthest = sampler->last;
  gst_glm4v_sampler_restart (sampler);
}

static GstClockTime
spacing_of_frames (const GstGlm4vSampler * sampler, const GstGlm4vTick * tick,
    GstClockTime time)
{
  GstClockTime spacing = UNKNOWN_SPACING;

  if (GST_CLOCK_TIME_IS_VALID (tick->spacing))
    spacing = tick->spacing;
  else if (sampler->any_taken && time > sampler->last_taken)
    spacing = time - sampler->last_taken;
  return MAX (spacing, 1);
}

static gboolean
same (const GstGlm4vSampling * a, const GstGlm4vSampling * b)
{
  return a->mode == b->mode && a->interval == b->interval && a->nth == b->nth
      && a->fill == b->fill && a->paced == b->paced;
}

static gboolean
take_by_scene (GstGlm4vSampler * sampler, gboolean cut, GstClockTime time)
{
  GstClockTime since = time > sampler->last_taken ?
      time - sampler->last_taken : 0;

  sampler->new_scene |= cut || sampler->count == 0;
  if (!sampler->new_scene || (sampler->any_taken && sampler->count > 0
          && since < sampler->config.interval))
    return FALSE;
  sampler->new_scene = FALSE;
  return TRUE;
}

static gboolean
take_by_time (GstGlm4vSampler * sampler, GstClockTime time,
    GstClockTime not_before)
{
  GstClockTime interval = sampler->config.interval;

  if (!GST_CLOCK_TIME_IS_VALID (sampler->phase))
    sampler->phase = sampler->next = saturated_add (time,
        sampler->config.fill);
  if (sampler->config.paced) {
    if (time < sampler->next || time < not_before)
      return FALSE;
    sampler->next = saturated_add (time, interval);
    return TRUE;
  }
  if (time < sampler->next)
    return FALSE;
  sampler->next = saturated_add (time, interval - (time - sampler->phase) %
      interval);
  return TRUE;
}

gboolean
gst_glm4v_sampler_take (GstGlm4vSampler * sampler,
    const GstGlm4vSampling * config, const GstGlm4vTick * tick,
    GstClockTime * until)
{
  guint frames = frames_of (config);
  gboolean take;

  if (!same (&sampler->config, config)) {
    sampler->config = *config;
    gst_glm4v_sampler_restart (sampler);
  }
  if (!sampler->started)
    begin_time (sampler, tick);
  else if (move_time (sampler, tick) && by_time (config))
    gst_glm4v_sampler_restart (sampler);
  sampler->last_pts = tick->pts;
  sampler->last_arrival = tick->arrival;
  if (!tick->usable || config->mode == GST_GLM4V_SAMPLE_TRIGGER)
    return FALSE;
  if (config->mode == GST_GLM4V_SAMPLE_SCENE_CHANGE)
    take = take_by_scene (sampler, tick->cut, sampler->last);
  else
    take = by_time (config) ? take_by_time (sampler, sampler->last,
        tick->not_before) :
        sampler->count % frames == 0;
  sampler->count++;
  if (!take)
    return FALSE;
  if (config->mode == GST_GLM4V_SAMPLE_SCENE_CHANGE)
    *until = MAX (config->interval, UNKNOWN_SPACING);
  else
    *until = by_time (config) ? MAX (sampler->next - sampler->last, 1) :
        spacing_of_frames (sampler, tick, sampler->last);
  sampler->last_taken = sampler->last;
  sampler->any_taken = TRUE;
  return TRUE;
}

GstClockTime
gst_glm4v_sampler_ahead (const GstGlm4vSampler * sampler)
{
  if (!sampler->started || !by_time (&sampler->config))
    return GST_CLOCK_TIME_NONE;
  return sampler->next > sampler->last ? sampler->next - sampler->last : 0;
}
