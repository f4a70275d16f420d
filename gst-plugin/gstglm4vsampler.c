/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sampling by time or by count. Between the sink pad and the worker.
 *
 * Interval mode keeps a grid: phase, phase + interval, ... The first frame at
 * or after a grid point is taken, so rounding of PTS never adds up. The grid
 * starts anew (and the frame is taken) at the first frame, after a flush, at
 * a DISCONT buffer, when the time jumps back and when the settings change.
 *
 * Buffers without PTS: the time of the previous buffer plus its duration, or
 * plus the caps' frame period, or else plus the time that passed between the
 * two arrivals. This time is used here only, never written to a result. */
#include "gstglm4vsampler.h"

/* Shown length of a caption when nothing tells how long the next will take. */
#define UNKNOWN_SPACING GST_SECOND

void
gst_glm4v_sampler_reset (GstGlm4vSampler * sampler)
{
  GstGlm4vSampling config = sampler->config;

  *sampler = (GstGlm4vSampler) {.config = config};
}

static GstClockTime
saturated_add (GstClockTime a, GstClockTime b)
{
  return b < G_MAXINT64 - MIN (a, G_MAXINT64) ? a + b : G_MAXINT64;
}

static GstClockTime
time_of (const GstGlm4vSampler * sampler, const GstGlm4vTick * tick)
{
  GstClockTime step = tick->arrival - sampler->last_arrival;

  if (GST_CLOCK_TIME_IS_VALID (tick->pts))
    return tick->pts;
  if (!sampler->started)
    return 0;
  if (GST_CLOCK_TIME_IS_VALID (tick->duration) && tick->duration > 0)
    step = tick->duration;
  else if (GST_CLOCK_TIME_IS_VALID (tick->period))
    step = tick->period;
  return saturated_add (sampler->last, step);
}

static GstClockTime
spacing_of_frames (const GstGlm4vSampler * sampler, const GstGlm4vTick * tick,
    guint frames, GstClockTime time)
{
  GstClockTime spacing = UNKNOWN_SPACING;

  if (GST_CLOCK_TIME_IS_VALID (tick->period))
    spacing = tick->period * frames;
  else if (sampler->any_taken && time > sampler->last_taken)
    spacing = time - sampler->last_taken;
  return MAX (spacing, 1);
}

static gboolean
same (const GstGlm4vSampling * a, const GstGlm4vSampling * b)
{
  return a->mode == b->mode && a->interval == b->interval && a->nth == b->nth;
}

static gboolean
take_by_time (GstGlm4vSampler * sampler, GstClockTime time)
{
  GstClockTime interval = sampler->config.interval;

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
  gboolean by_time = config->mode == GST_GLM4V_SAMPLE_INTERVAL
      && config->interval > 0;
  guint frames = config->mode == GST_GLM4V_SAMPLE_EVERY_NTH ? config->nth : 1;
  GstClockTime time = time_of (sampler, tick);
  gboolean take;

  if (!same (&sampler->config, config)) {
    sampler->config = *config;
    gst_glm4v_sampler_reset (sampler);
  }
  if (!sampler->started || tick->discont || time < sampler->last) {
    sampler->started = TRUE;
    sampler->phase = sampler->next = time;
    sampler->count = 0;
  }
  sampler->last = time;
  sampler->last_arrival = tick->arrival;
  if (!tick->usable)
    return FALSE;
  take = by_time ? take_by_time (sampler, time) : sampler->count % frames == 0;
  sampler->count++;
  if (!take)
    return FALSE;
  *until = by_time ? MAX (sampler->next - time, 1) :
      spacing_of_frames (sampler, tick, frames, time);
  sampler->last_taken = time;
  sampler->any_taken = TRUE;
  return TRUE;
}

GstClockTime
gst_glm4v_sampler_ahead (const GstGlm4vSampler * sampler)
{
  if (!sampler->started || sampler->config.mode != GST_GLM4V_SAMPLE_INTERVAL
      || sampler->config.interval == 0)
    return GST_CLOCK_TIME_NONE;
  return sampler->next > sampler->last ? sampler->next - sampler->last : 0;
}
