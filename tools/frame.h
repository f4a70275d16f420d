/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A frame of a picture, clip or camera. */
#ifndef GLM4V_TOOLS_FRAME_H
#define GLM4V_TOOLS_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct {
    glm4v_image image; /* RGB, borrowed until the next call */
    int64_t pts;       /* stream time in nanoseconds; -1 = a still picture, or unknown */
    double fraction;   /* how far in a video of known length, [0, 1]; -1 = unknown */
    bool damaged;      /* its decoder met errors in it */
} cli_frame;

/* What was wrong with a clip that could be read all the same. */
typedef struct {
    uint32_t frames, damaged; /* in the clip, as far as it was read; damaged or lost of these */
    char first[160];          /* what a decoder said of the first; may be empty */
    int64_t end, duration;    /* nanoseconds: where it ended, if that is far too early; else 0 */
} cli_troubles;

#endif
