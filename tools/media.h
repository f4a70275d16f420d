/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures out of a file or URI, through whatever GStreamer can decode. */
#ifndef GLM4V_TOOLS_MEDIA_H
#define GLM4V_TOOLS_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct cli_media cli_media;

typedef struct {
    glm4v_image image; /* RGB, borrowed until the next call */
    int64_t pts;       /* stream time in nanoseconds; -1 = a still picture, or unknown */
    double fraction;   /* how far in a video of known length, [0, 1]; -1 = unknown */
} cli_frame;

/* Start GStreamer once per process. */
void cli_media_init(void);

bool cli_is_utf8(const char *text);

/* Open a path or URI. interval: nanoseconds between the frames handed out; frames in between are
 * decoded but neither converted nor handed out; 0 = every frame. A live source skips what comes
 * while the caller is busy. NULL on failure, with the reason in err->msg (code NOT_FOUND or IO). */
cli_media *cli_media_open(const char *input, uint64_t interval, glm4v_error *err);

/* 1 = *frame is the next one, 0 = end, -1 = failed (err->msg). Blocks while the source has nothing
 * new. */
int cli_media_next(cli_media *media, cli_frame *frame, glm4v_error *err);

/* Accepts the address of NULL. */
void cli_media_close(cli_media **media);

#endif
