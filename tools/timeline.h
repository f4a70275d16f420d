/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The times of a clip's frames as they are returned: those of the clip, as long as they advance.
 * Where time does not advance, goes back or is unknown, it advances by the frame's duration. So a
 * recording whose time restarts in the middle continues after its first part. */
#ifndef GLM4V_TOOLS_TIMELINE_H
#define GLM4V_TOOLS_TIMELINE_H

#include <stdint.h>

typedef struct {
    int64_t shift; /* from the clip's times to those returned; all in nanoseconds */
    int64_t last;  /* returned; -1 = none */
} cli_timeline;

static inline cli_timeline cli_timeline_begin(void)
{
    return (cli_timeline) { .last = -1 };
}

/* time: of the frame, -1 = unknown. duration: of the frame before it, > 0. */
static inline int64_t cli_timeline_place(cli_timeline *line, int64_t time, int64_t duration)
{
    enum { JUMP = 1000000000 }; /* less is an unsteady clock, which catches up */
    const int64_t next = line->last < 0 ? 0 : line->last + duration;
    int64_t placed = time < 0 ? next : time + line->shift;
    if (placed <= line->last) {
        if (placed + JUMP <= line->last)
            line->shift = next - time;
        placed = next;
    }
    return line->last = placed;
}

#endif
