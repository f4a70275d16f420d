/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See monitor.h. */
#include "monitor.h"

#include <stdarg.h>

struct monitor {
    GstPad *pad;
    guint flags;
    gulong probe;
    /* as they were */
    GstPadActivateModeFunction activatemode;
    GstPadEventFunction event;
    GstPadQueryFunction query;
    GstPadChainFunction chain;

    GMutex lock; /* guards all below */
    gboolean started, have_segment, eos, flushing, discont;
    GstCaps *caps;
    GstSegment segment;
    GstClockTime position; /* sparse: where the last GAP or buffer ended */
    guint32 flush_seqnum;  /* of a flush whose segment has not come */
    gboolean flushed;
    monitor_counts counts;
    GString *faults;
    GPtrArray *passed; /* gchar *, see name_of() */
};

static GQuark quark(void)
{
    return g_quark_from_static_string("glm4v-test-monitor");
}

static monitor *monitor_of(GstPad *pad)
{
    return g_object_get_qdata(G_OBJECT(pad), quark());
}

/* With the lock. */
G_GNUC_PRINTF(2, 3) static void fault(monitor *m, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_string_append_printf(m->faults, "%s: ", GST_OBJECT_NAME(m->pad));
    g_string_append_vprintf(m->faults, format, args);
    g_string_append_c(m->faults, '\n');
    va_end(args);
}

/* A pad's stream begins when the pad is activated. */
static void begin(monitor *m)
{
    g_mutex_lock(&m->lock);
    g_clear_pointer(&m->counts.stream_id, g_free);
    m->counts = (monitor_counts) { 0 };
    m->started = m->have_segment = m->eos = m->flushing = m->flushed = FALSE;
    m->discont = TRUE;
    gst_clear_caps(&m->caps);
    g_ptr_array_set_size(m->passed, 0);
    g_mutex_unlock(&m->lock);
}

/* ---- checks, with the lock ---- */

static void see_stream_start(monitor *m, GstEvent *event)
{
    const gchar *id;
    GstStreamFlags flags;
    guint group;
    gst_event_parse_stream_start(event, &id);
    gst_event_parse_stream_flags(event, &flags);
    if (!*id)
        fault(m, "STREAM_START without an id");
    if (!gst_event_parse_group_id(event, &group))
        fault(m, "STREAM_START without a group");
    if (m->flags & MONITOR_SPARSE && !(flags & GST_STREAM_FLAG_SPARSE))
        fault(m, "STREAM_START is not marked sparse");
    g_free(m->counts.stream_id);
    m->counts.stream_id = g_strdup(id);
    m->started = TRUE;
    m->eos = FALSE;
    gst_clear_caps(&m->caps);
}

static void see_segment(monitor *m, GstEvent *event)
{
    if (!m->caps)
        fault(m, "SEGMENT before CAPS");
    if (m->flushed && gst_event_get_seqnum(event) != m->flush_seqnum)
        fault(m, "SEGMENT after a flush has seqnum %u, the flush %u", gst_event_get_seqnum(event),
              m->flush_seqnum);
    gst_event_copy_segment(event, &m->segment);
    m->counts.segment_seqnum = gst_event_get_seqnum(event);
    m->counts.segments++;
    m->position = m->segment.start;
    m->have_segment = m->discont = TRUE;
    m->flushed = FALSE;
}

/* Time of a GAP or a buffer. */
static void see_time(monitor *m, const char *what, GstClockTime start, GstClockTime duration)
{
    GstClockTime end = GST_CLOCK_TIME_IS_VALID(duration) ? start + duration : start;
    if (!m->have_segment) {
        fault(m, "%s before SEGMENT", what);
        return;
    }
    if (m->segment.format != GST_FORMAT_TIME)
        return;
    /* videotestsrc played backwards begins with a frame at the segment's stop */
    if (end < m->segment.start ||
        (GST_CLOCK_TIME_IS_VALID(m->segment.stop) && start > m->segment.stop))
        fault(m, "%s of %" GST_TIME_FORMAT " lies outside its segment", what, GST_TIME_ARGS(start));
    if (!(m->flags & MONITOR_SPARSE) || m->segment.rate < 0)
        return;
    if (start < m->position)
        fault(m, "%s begins at %" GST_TIME_FORMAT " after %" GST_TIME_FORMAT " was told", what,
              GST_TIME_ARGS(start), GST_TIME_ARGS(m->position));
    m->position = MAX(m->position, end);
}

static void see_gap(monitor *m, GstEvent *event)
{
    GstClockTime start, duration;
    gst_event_parse_gap(event, &start, &duration);
    see_time(m, "GAP", start, duration);
    m->counts.gaps++;
}

static void see_buffer(monitor *m, GstBuffer *buffer)
{
    gboolean discont = GST_BUFFER_IS_DISCONT(buffer);
    if (m->eos)
        fault(m, "buffer after EOS");
    if (!m->started || !m->caps)
        fault(m, "buffer before %s", m->started ? "CAPS" : "STREAM_START");
    if (m->discont && !discont)
        fault(m, "buffer %u has no DISCONT, the first after a SEGMENT or a flush",
              m->counts.buffers);
    if (!m->discont && discont && m->flags & MONITOR_SPARSE)
        fault(m, "buffer %u has DISCONT and follows another", m->counts.buffers);
    if (!GST_BUFFER_PTS_IS_VALID(buffer))
        fault(m, "buffer %u has no time", m->counts.buffers);
    else
        see_time(m, "buffer", GST_BUFFER_PTS(buffer), GST_BUFFER_DURATION(buffer));
    m->discont = FALSE;
    m->counts.buffers++;
}

static void see_flush(monitor *m, GstEvent *event, gboolean start)
{
    if (m->flushing == start)
        fault(m, "%s again", GST_EVENT_TYPE_NAME(event));
    if (!start && gst_event_get_seqnum(event) != m->flush_seqnum)
        fault(m, "FLUSH_STOP has another seqnum than FLUSH_START");
    m->flushing = start;
    m->flush_seqnum = gst_event_get_seqnum(event);
    m->flushed = TRUE;
    if (!start) {
        m->have_segment = m->eos = FALSE;
        m->discont = TRUE;
        m->counts.flushes++;
    }
}

static void see_caps(monitor *m, GstEvent *event)
{
    GstCaps *caps;
    gst_event_parse_caps(event, &caps);
    if (!gst_caps_is_fixed(caps))
        fault(m, "CAPS are not fixed");
    if (m->caps && gst_caps_is_equal(m->caps, caps))
        fault(m, "the same CAPS again");
    gst_caps_replace(&m->caps, caps);
}

static void see_eos(monitor *m)
{
    if (!m->have_segment)
        fault(m, "EOS before SEGMENT");
    m->eos = TRUE;
    m->counts.eos++;
}

static void see_event(monitor *m, GstEvent *event)
{
    GstEventType type = GST_EVENT_TYPE(event);
    if (m->eos && type != GST_EVENT_STREAM_START)
        fault(m, "%s after EOS", GST_EVENT_TYPE_NAME(event));
    if (!m->started && type != GST_EVENT_STREAM_START)
        fault(m, "%s before STREAM_START", GST_EVENT_TYPE_NAME(event));
    if (type == GST_EVENT_STREAM_START)
        see_stream_start(m, event);
    else if (type == GST_EVENT_CAPS)
        see_caps(m, event);
    else if (type == GST_EVENT_SEGMENT)
        see_segment(m, event);
    else if (type == GST_EVENT_GAP)
        see_gap(m, event);
    else if (type == GST_EVENT_EOS)
        see_eos(m);
}

/* ---- what passed ---- */

static gboolean is_flush(GstMiniObject *item)
{
    return GST_IS_EVENT(item) && (GST_EVENT_TYPE(item) == GST_EVENT_FLUSH_START ||
                                  GST_EVENT_TYPE(item) == GST_EVENT_FLUSH_STOP);
}

/* As monitor_compare() tells items apart; NULL for one that it does not look at. */
static gchar *name_of(GstMiniObject *item)
{
    if (GST_IS_BUFFER(item))
        return g_strdup_printf("buffer %" GST_TIME_FORMAT, GST_TIME_ARGS(GST_BUFFER_PTS(item)));
    if (!GST_EVENT_IS_SERIALIZED(item) || is_flush(item))
        return NULL;
    return g_strdup_printf("%s %u", GST_EVENT_TYPE_NAME(item),
                           gst_event_get_seqnum(GST_EVENT(item)));
}

static gboolean is_own(const gchar *name)
{
    static const char *own[] = { "buffer ", "caps ", "gap " };
    for (guint i = 0; i < G_N_ELEMENTS(own); i++)
        if (g_str_has_prefix(name, own[i]))
            return TRUE;
    return FALSE;
}

gchar *monitor_compare(monitor *in, monitor *out, gboolean all)
{
    gboolean sparse = (out->flags & MONITOR_SPARSE) != 0;
    gchar *differs = NULL;
    guint k = 0;
    g_mutex_lock(&in->lock);
    g_mutex_lock(&out->lock);
    for (guint i = 0; i < out->passed->len && !differs; i++) {
        const gchar *name = out->passed->pdata[i];
        if (sparse && is_own(name))
            continue;
        while (k < in->passed->len && strcmp(in->passed->pdata[k], name) &&
               (!all || (sparse && is_own(in->passed->pdata[k]))))
            k++;
        if (k == in->passed->len || strcmp(in->passed->pdata[k], name))
            differs = g_strdup_printf("%s left, but %s came", name,
                                      k < in->passed->len ? (gchar *)in->passed->pdata[k] : "none");
        k++;
    }
    for (; all && !differs && k < in->passed->len; k++)
        if (!sparse || !is_own(in->passed->pdata[k]))
            differs = g_strdup_printf("%s came and did not leave", (gchar *)in->passed->pdata[k]);
    g_mutex_unlock(&out->lock);
    g_mutex_unlock(&in->lock);
    return differs;
}

void monitor_see(monitor *m, GstMiniObject *item)
{
    gchar *name = name_of(item);
    g_mutex_lock(&m->lock);
    if (is_flush(item))
        see_flush(m, GST_EVENT(item), GST_EVENT_TYPE(item) == GST_EVENT_FLUSH_START);
    else if (!m->flushing && GST_IS_BUFFER(item)) /* else it was on its way when the flush began */
        see_buffer(m, GST_BUFFER(item));
    else if (!m->flushing && name)
        see_event(m, GST_EVENT(item));
    if (name)
        g_ptr_array_add(m->passed, name);
    g_mutex_unlock(&m->lock);
}

/* ---- the pad's functions ---- */

static gboolean activatemode(GstPad *pad, GstObject *parent, GstPadMode mode, gboolean active)
{
    monitor *m = monitor_of(pad);
    if (active)
        begin(m);
    return !m->activatemode || m->activatemode(pad, parent, mode, active);
}

static gboolean event(GstPad *pad, GstObject *parent, GstEvent *e)
{
    monitor *m = monitor_of(pad);
    if (GST_PAD_IS_SINK(pad))
        monitor_see(m, GST_MINI_OBJECT(e));
    return m->event(pad, parent, e);
}

static gboolean query(GstPad *pad, GstObject *parent, GstQuery *q)
{
    monitor *m = monitor_of(pad);
    g_mutex_lock(&m->lock);
    m->counts.queries++;
    g_mutex_unlock(&m->lock);
    return m->query(pad, parent, q);
}

/* The pad on the other side of the element says what downstream answered; `flow` if that pad was
 * stopped meanwhile. */
static GstFlowReturn answer_of(GstPad *pad, GstFlowReturn flow)
{
    GstIterator *links = gst_pad_iterate_internal_links(pad);
    GValue value = G_VALUE_INIT;
    if (links && gst_iterator_next(links, &value) == GST_ITERATOR_OK) {
        GstPad *other = g_value_get_object(&value);
        GstFlowReturn answer = gst_pad_get_last_flow_return(other);
        flow = GST_PAD_IS_FLUSHING(other) ? flow : answer;
    }
    g_value_unset(&value);
    g_clear_pointer(&links, gst_iterator_free);
    return flow;
}

static GstFlowReturn chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    monitor *m = monitor_of(pad);
    monitor_see(m, GST_MINI_OBJECT(buffer));
    GstFlowReturn flow = m->chain(pad, parent, buffer), answer = answer_of(pad, flow);
    g_mutex_lock(&m->lock);
    if (flow != answer)
        fault(m, "chain returns %s, downstream returned %s", gst_flow_get_name(flow),
              gst_flow_get_name(answer));
    g_mutex_unlock(&m->lock);
    return flow;
}

/* What leaves a source pad. */
static GstPadProbeReturn probe(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    monitor_see(user, GST_PAD_PROBE_INFO_DATA(info));
    return GST_PAD_PROBE_OK;
}

monitor *monitor_new(GstPad *pad, guint flags)
{
    monitor *m = g_new0(monitor, 1);
    m->pad = gst_object_ref(pad);
    m->flags = flags;
    g_mutex_init(&m->lock);
    m->faults = g_string_new(NULL);
    m->passed = g_ptr_array_new_with_free_func(g_free);
    begin(m);
    g_object_set_qdata(G_OBJECT(pad), quark(), m);
    m->activatemode = GST_PAD_ACTIVATEMODEFUNC(pad);
    m->event = GST_PAD_EVENTFUNC(pad);
    m->query = GST_PAD_QUERYFUNC(pad);
    m->chain = GST_PAD_CHAINFUNC(pad);
    gst_pad_set_activatemode_function(pad, activatemode);
    gst_pad_set_event_function(pad, event);
    gst_pad_set_query_function(pad, query);
    if (GST_PAD_IS_SINK(pad))
        gst_pad_set_chain_function(pad, chain);
    else
        m->probe = gst_pad_add_probe(pad,
                                     GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_FLUSH |
                                         GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
                                     probe, m, NULL);
    return m;
}

void monitor_free(monitor *m)
{
    gst_pad_set_activatemode_function(m->pad, m->activatemode);
    gst_pad_set_event_function(m->pad, m->event);
    gst_pad_set_query_function(m->pad, m->query);
    if (GST_PAD_IS_SINK(m->pad))
        gst_pad_set_chain_function(m->pad, m->chain);
    else
        gst_pad_remove_probe(m->pad, m->probe);
    g_object_set_qdata(G_OBJECT(m->pad), quark(), NULL);
    gst_object_unref(m->pad);
    gst_clear_caps(&m->caps);
    g_free(m->counts.stream_id);
    g_string_free(m->faults, TRUE);
    g_ptr_array_unref(m->passed);
    g_mutex_clear(&m->lock);
    g_free(m);
}

gchar *monitor_faults(monitor *m)
{
    g_mutex_lock(&m->lock);
    gchar *faults = g_strdup(m->faults->str);
    g_mutex_unlock(&m->lock);
    return faults;
}

monitor_counts monitor_get(monitor *m)
{
    g_mutex_lock(&m->lock);
    monitor_counts counts = m->counts;
    g_mutex_unlock(&m->lock);
    return counts;
}
