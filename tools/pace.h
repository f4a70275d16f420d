/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which frames of a clip are returned: the first at or after each point of a fixed grid, so that
 * the distance does not drift with the frame rate. */
#ifndef GLM4V_TOOLS_PACE_H
#define GLM4V_TOOLS_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t interval; /* nanoseconds; 0 = every frame */
    int64_t due;      /* time from which the next frame is wanted; -1 = the first frame */
} cli_pace;

static inline cli_pace cli_pace_begin(uint64_t interval)
{
    return (cli_pace) { .interval = (int64_t)interval, .due = -1 };
}

/* Whether the frame at `time` (nanoseconds, -1 = unknown) is wanted; moves on where it is. */
static inline bool cli_pace_wants(cli_pace *pace, int64_t time)
{
    if (!pace->interval || time < 0)
        return true;
    if (pace->due >= 0 && time < pace->due)
        return false;
    pace->due = pace->due < 0
                    ? time + pace->interval
                    : pace->due + ((time - pace->due) / pace->interval + 1) * pace->interval;
    return true;
}

#endif
