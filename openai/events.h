/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Server-sent events, read as they come. Source: "Server-sent events" of the WHATWG's HTML, of
 * which the data of events counts here, not their names. */
#ifndef GLM4V_OPENAI_EVENTS_H
#define GLM4V_OPENAI_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

enum { OPENAI_MAX_EVENT = 1 << 20 }; /* bytes of a line, and of an event */

/* All zero: at the beginning. */
typedef struct {
    glm4v_text_out line, data; /* what has come of them */
    bool has_data;             /* the event has a line of it */
    bool begun, carriage;      /* a line has come; the last byte was \r */
} openai_events;

/* Take bytes. take() gets the data of each event that they complete, and returns 0 to go on.
 * Returns that of take(), or FORMAT (an event is too large), NOMEM. */
int openai_events_take(openai_events *events, const char *bytes, size_t size,
                       int (*take)(void *user, const char *data, size_t size), void *user,
                       glm4v_error *err);

/* Has the stream ended within an event? */
bool openai_events_cut(const openai_events *events);

void openai_events_close(openai_events *events);

#endif
