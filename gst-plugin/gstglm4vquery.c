/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers to queries: whose memory frames lie in, and how long they wait here.
 * From any thread. */
#include "gstglm4vdescribe.h"

/* Buffers that sampling may keep; requested in the allocation query. */
#define HELD_BUFFERS 2

/* Downstream decides about pools and metas: buffers go there unchanged. Only
 * the frames that sampling keeps are added. */
static gboolean
allocation_query (GstGlm4vDescribe * self, GstQuery * query)
{
  guint i;

  if (!gst_pad_peer_query (self->srcpad, query))
    return FALSE;
  for (i = 0; i < gst_query_get_n_allocation_pools (query); i++) {
    GstBufferPool *pool;
    guint size, min, max;

    gst_query_parse_nth_allocation_pool (query, i, &pool, &size, &min, &max);
    /* Not max: only the pool's owner knows what its memory allows. */
    min += HELD_BUFFERS;
    gst_query_set_nth_allocation_pool (query, i, pool, size,
        max > 0 ? MIN (min, max) : min, max);
    gst_clear_object (&pool);
  }
  return TRUE;
}

/* They come in order with buffers, so below PAUSED there is nothing that they
 * could be about: refused, as by a queue. An inactive pad does not keep them
 * out. */
static gboolean
serialized_query (GstGlm4vDescribe * self, GstPad * pad, GstQuery * query)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstQueryType type = GST_QUERY_TYPE (query);
  gboolean open = worker && gst_pad_is_active (pad);

  if (open && (type == GST_QUERY_ALLOCATION || type == GST_QUERY_DRAIN)) {
    gst_glm4v_clip_release (&self->clip);
    gst_glm4v_worker_release_buffers (worker);
  }
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  if (!open)
    return FALSE;
  return type == GST_QUERY_ALLOCATION ? allocation_query (self, query)
      : gst_pad_query_default (pad, GST_OBJECT (self), query);
}

/* Queries of the sink pad and of `src` that are not about order or time. */
static gboolean
common_query (GstGlm4vDescribe * self, GstPad * pad, GstQuery * query)
{
  gboolean answered;

  if (GST_QUERY_TYPE (query) == GST_QUERY_CONTEXT
      && gst_glm4v_device_answer_context (self, query))
    return TRUE;
  answered = gst_pad_query_default (pad, GST_OBJECT (self), query);
  if (answered)
    gst_glm4v_device_filter_caps (self, query);
  return answered;
}

gboolean
gst_glm4v_query_sink (GstPad * pad, GstObject * parent, GstQuery * query)
{
  GstGlm4vDescribe *self = GST_GLM4V_DESCRIBE (parent);

  if (GST_QUERY_IS_SERIALIZED (query))
    return serialized_query (self, pad, query);
  return common_query (self, pad, query);
}

static gboolean
latency_query (GstGlm4vDescribe * self, GstQuery * query)
{
  GstClockTime min, max, own;
  gboolean live;

  if (!gst_pad_peer_query (self->sinkpad, query))
    return FALSE;
  gst_query_parse_latency (query, &live, &min, &max);
  GST_OBJECT_LOCK (self);
  own = self->settings.latency;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  self->live = live;
  if (own == 0)
    own = self->delay_max;
  self->told_latency = own;
  g_mutex_unlock (&self->lock);
  if (!live || !gst_glm4v_describe_is_exact (self))
    own = 0;
  /* One frame waits inside, upstream has to keep the others: max stays. */
  gst_query_set_latency (query, live, min + own, max);
  return TRUE;
}

gboolean
gst_glm4v_query_src (GstPad * pad, GstObject * parent, GstQuery * query)
{
  if (GST_QUERY_TYPE (query) == GST_QUERY_LATENCY)
    return latency_query (GST_GLM4V_DESCRIBE (parent), query);
  return common_query (GST_GLM4V_DESCRIBE (parent), pad, query);
}
