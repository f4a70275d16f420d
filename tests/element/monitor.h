/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pad monitor: checks a stream as gst-validate's does (that is not in Debian 12), and takes the
 * place of the pad's functions as that does, so that elements which rely on them are found. */
#ifndef GLM4V_ELEMENT_MONITOR_H
#define GLM4V_ELEMENT_MONITOR_H

#include <gst/gst.h>

typedef struct monitor monitor;

enum {
    MONITOR_SPARSE = 1 << 0 /* GAPs and buffers follow each other without going back, DISCONT is set
                             * only where it must be, and STREAM_START says sparse */
};

/* Watch a pad from now on, best before it is active. Its activatemode, event, query and chain
 * functions are replaced by ones that check, then call the ones that were there. */
monitor *monitor_new(GstPad *pad, guint flags);

/* Take the functions back. */
void monitor_free(monitor *m);

/* Check one event or buffer as if it passed; for trying the monitor itself. */
void monitor_see(monitor *m, GstMiniObject *item);

/* What was wrong so far, a line each; "" if nothing. g_free() it. */
gchar *monitor_faults(monitor *m);

/* Did all that left `out` come in by `in`, in this order? Serialized events and, of a pad that is
 * not sparse, buffers by PTS; for a sparse one, events that are not its own. If `all`, nothing
 * may be missing either. The first that differs, or NULL; g_free() it. */
gchar *monitor_compare(monitor *in, monitor *out, gboolean all);

/* What passed since the pad was activated. */
typedef struct {
    guint buffers, gaps, segments, eos, flushes, queries;
    guint32 segment_seqnum; /* of the newest */
    gchar *stream_id;       /* lives as long as the monitor does not see another */
} monitor_counts;
monitor_counts monitor_get(monitor *m);

#endif
