/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tests of results share: the next one, and what it has to say. */
#ifndef GLM4V_ELEMENT_RESULTS_H
#define GLM4V_ELEMENT_RESULTS_H

#include "support.h"

/* Values of the property sample-mode. */
#define SAMPLE_ALL 2
#define SAMPLE_TRIGGER 3

/* The next message of this kind, or NULL after PATIENCE; others are passed over.
 * gst_structure_free(). */
GstStructure *results_next_named(GstElement *element, const char *name);
GstStructure *results_next(GstElement *element);

/* The next n results are on the bus: before that frames and pads had them, and they were counted.
 */
void results_wait(GstElement *element, guint n);

/* The next result is this one; it has a message unless it is ok. */
void results_check(GstElement *element, guint64 id, const char *status, const char *reason);

/* The same for one with a trigger-id of a uint64; its text, which the caller frees. */
char *results_check_trigger(GstElement *element, guint64 trigger, const char *status);

guint64 results_uint64(const GstStructure *result, const char *name);

/* How many messages of this kind wait now; all others are taken away too. */
guint results_count_named(GstElement *element, const char *name);

#endif
