/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vstatistics.h"

#include <string.h>

#include "gstglm4vdescribe.h"

#define UNIT 10                 /* 2^10 ns */
#define PER_OCTAVE 32
#define OCTAVE_BITS 6           /* of PER_OCTAVE to 2 * PER_OCTAVE - 1 */

/* ---- delays ---- */

static guint
bucket_of (GstClockTime delay)
{
  guint64 units = MIN (delay >> UNIT, G_MAXUINT64 >> 24);
  guint shift = 0;

  if (units < PER_OCTAVE)
    return (guint) units;
  shift = g_bit_storage ((gulong) units) - OCTAVE_BITS;
  return shift * PER_OCTAVE + (guint) (units >> shift);
}

static GstClockTime
end_of (guint bucket)
{
  guint shift = bucket < PER_OCTAVE ? 0 : bucket / PER_OCTAVE - 1;

  return (guint64) (bucket - shift * PER_OCTAVE + 1) << shift << UNIT;
}

GstClockTime
gst_glm4v_stats_p99 (const GstGlm4vStats * stats)
{
  guint64 below = 0, wanted = stats->inferred - stats->inferred / 100;
  guint i;

  if (stats->inferred == 0)
    return 0;
  for (i = 0; i + 1 < GST_GLM4V_DELAY_BUCKETS; i++) {
    below += stats->delays[i];
    if (below >= wanted)
      break;
  }
  return MIN (end_of (i), stats->delay_max);
}

/* ---- counting ---- */

void
gst_glm4v_stats_reset (GstGlm4vStats * stats)
{
  memset (stats, 0, sizeof *stats);
  stats->since = g_get_real_time ();
}

/* The first token comes before the time of decoding. */
static gdouble
rate_of (const glm4v_result * answer)
{
  if (answer->output_tokens < 2 || answer->timings.decode == 0)
    return 0;
  return (answer->output_tokens - 1.0) * GST_SECOND
      / (gdouble) answer->timings.decode;
}

static void
count_end (GstGlm4vStats * stats, const GstGlm4vJob * job)
{
  switch (job->end) {
    case GST_GLM4V_END_REPLACED:
    case GST_GLM4V_END_FULL:
      stats->dropped_busy++;
      break;
    case GST_GLM4V_END_LOADING:
      stats->dropped_loading++;
      break;
    case GST_GLM4V_END_EOS:
    case GST_GLM4V_END_NO_FRAME:
      stats->dropped_eos++;
      break;
    case GST_GLM4V_END_CANCELED:
      stats->dropped_canceled++;
      break;
    default:
      break;
  }
  switch (gst_glm4v_job_status (job)) {
    case GST_GLM4V_STATUS_UNCHANGED:
      stats->unchanged++;
      break;
    case GST_GLM4V_STATUS_TIMEOUT:
      stats->timeouts++;
      break;
    case GST_GLM4V_STATUS_ERROR:
      stats->errors++;
      break;
    default:
      break;
  }
}

void
gst_glm4v_stats_count (GstGlm4vStats * stats, const GstGlm4vJob * job,
    GstClockTime delay)
{
  const glm4v_result *answer = job->outcome.answer;
  guint bucket = MIN (bucket_of (delay), GST_GLM4V_DELAY_BUCKETS - 1);

  stats->results++;
  stats->downloaded_frames += job->outcome.downloaded;
  count_end (stats, job);
  if (gst_glm4v_job_status (job) != GST_GLM4V_STATUS_OK)
    return;
  stats->inferred++;
  stats->tokens_in += answer->prompt_tokens;
  stats->tokens_out += answer->output_tokens;
  stats->tokens_drafted += answer->drafted_tokens;
  stats->tokens_accepted += answer->accepted_tokens;
  stats->delay_last = delay;
  stats->delay_max = MAX (stats->delay_max, delay);
  stats->delay_sum += delay;
  stats->delays[bucket]++;
  stats->vision = answer->timings.vision;
  stats->prefill = answer->timings.prefill;
  stats->first_token = answer->timings.first_token;
  stats->decode = answer->timings.decode;
  stats->token_rate = rate_of (answer);
}

/* ---- the element's ---- */

static gchar *
format_time (gint64 utc)
{
  GDateTime *time = g_date_time_new_from_unix_utc (utc / G_USEC_PER_SEC);
  gchar *text = g_date_time_format (time, "%Y-%m-%dT%H:%M:%SZ");

  g_date_time_unref (time);
  return text;
}

static void
get_load (GstGlm4vDescribe * self, GstGlm4vLoad * load)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);

  *load = (GstGlm4vLoad) { 0 };
  if (worker)
    gst_glm4v_worker_get_load (worker, load);
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
}

/* Requests in a step of decoding. An engine that was loaded again has counted
 * from 0 since. */
static gdouble
batch_mean (const GstGlm4vStats * stats, const glm4v_engine_stats * engine)
{
  guint64 steps = engine->decode_steps, requests = engine->decode_requests;

  if (steps >= stats->steps_before && requests >= stats->requests_before) {
    steps -= stats->steps_before;
    requests -= stats->requests_before;
  }
  return steps > 0 ? (gdouble) requests / (gdouble) steps : 0;
}

static void
add_load (GstGlm4vDescribe * self, const GstGlm4vStats * stats,
    GstStructure * structure)
{
  GstGlm4vLoad load;

  get_load (self, &load);
  gst_structure_set (structure,
      "queue-level", G_TYPE_UINT64, (guint64) load.level,
      "batch-mean", G_TYPE_DOUBLE, batch_mean (stats, &load.engine),
      "device-memory", G_TYPE_UINT64, load.engine.memory, NULL);
}

GstStructure *
gst_glm4v_statistics_describe (GstGlm4vDescribe * self)
{
  GstGlm4vStats s;
  GstStructure *stats;
  gchar *unreadable, *since;
  guint i;

  g_mutex_lock (&self->lock);
  s = self->stats;
  unreadable = g_strdup (self->unreadable);
  g_mutex_unlock (&self->lock);
  since = format_time (s.since);
  stats = gst_structure_new (GST_GLM4V_STATS_NAME,
      "since", G_TYPE_STRING, since,
      "frames-seen", G_TYPE_UINT64, s.frames_seen,
      "sampled", G_TYPE_UINT64, s.sampled,
      "results", G_TYPE_UINT64, s.results,
      "inferred", G_TYPE_UINT64, s.inferred,
      "pass", G_TYPE_UINT64, s.verdicts[GLM4V_VERDICT_PASS],
      "fail", G_TYPE_UINT64, s.verdicts[GLM4V_VERDICT_FAIL],
      "unknown", G_TYPE_UINT64, s.verdicts[GLM4V_VERDICT_UNKNOWN],
      "incidents", G_TYPE_UINT64, s.incidents,
      "dropped-busy", G_TYPE_UINT64, s.dropped_busy,
      "dropped-loading", G_TYPE_UINT64, s.dropped_loading,
      "dropped-eos", G_TYPE_UINT64, s.dropped_eos,
      "dropped-canceled", G_TYPE_UINT64, s.dropped_canceled,
      "bad-frames", G_TYPE_UINT64, s.bad_frames,
      "unreadable-frames", G_TYPE_UINT64, s.unreadable_frames,
      "unreadable-reason", G_TYPE_STRING, unreadable,
      "downloaded-frames", G_TYPE_UINT64, s.downloaded_frames,
      "unchanged", G_TYPE_UINT64, s.unchanged,
      "gated", G_TYPE_UINT64, s.gated,
      "timeouts", G_TYPE_UINT64, s.timeouts,
      "errors", G_TYPE_UINT64, s.errors,
      "delay-last", G_TYPE_UINT64, s.delay_last,
      "delay-mean", G_TYPE_UINT64, s.delay_sum / MAX (s.inferred, 1),
      "delay-p99", G_TYPE_UINT64, gst_glm4v_stats_p99 (&s),
      "delay-max", G_TYPE_UINT64, s.delay_max,
      "vision-time", G_TYPE_UINT64, s.vision,
      "prefill-time", G_TYPE_UINT64, s.prefill,
      "first-token-time", G_TYPE_UINT64, s.first_token,
      "decode-time", G_TYPE_UINT64, s.decode,
      "tokens-per-second", G_TYPE_DOUBLE, s.token_rate,
      "tokens-in", G_TYPE_UINT64, s.tokens_in,
      "tokens-out", G_TYPE_UINT64, s.tokens_out,
      "tokens-drafted", G_TYPE_UINT64, s.tokens_drafted,
      "tokens-accepted", G_TYPE_UINT64, s.tokens_accepted, NULL);
  g_free (since);
  g_free (unreadable);
  add_load (self, &s, stats);
  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_count (self->streams[i], stats);
  return stats;
}

void
gst_glm4v_statistics_join (GstGlm4vDescribe * self,
    const glm4v_engine_stats * before)
{
  g_mutex_lock (&self->lock);
  self->stats.steps_before = before->decode_steps;
  self->stats.requests_before = before->decode_requests;
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_statistics_reset (GstGlm4vDescribe * self)
{
  GstGlm4vLoad load;
  guint i;

  get_load (self, &load);

  for (i = 0; i < GST_GLM4V_N_STREAMS; i++)
    gst_glm4v_text_reset_counters (self->streams[i]);
  g_mutex_lock (&self->lock);
  gst_glm4v_stats_reset (&self->stats);
  self->stats.steps_before = load.engine.decode_steps;
  self->stats.requests_before = load.engine.decode_requests;
  g_clear_pointer (&self->unreadable, g_free);
  g_mutex_unlock (&self->lock);
}

void
gst_glm4v_statistics_post (gpointer element)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (element);

  gst_element_post_message (GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self),
          gst_glm4v_statistics_describe (self)));
}

void
gst_glm4v_statistics_end (GstGlm4vDescribe * self)
{
  if (gst_glm4v_timer_get_interval (self->stats_timer) > 0)
    gst_glm4v_statistics_post (self);
}
