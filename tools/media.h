/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures out of a file or URI, through whatever GStreamer can decode. */
#ifndef GLM4V_TOOLS_MEDIA_H
#define GLM4V_TOOLS_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

enum { CLI_TIMEOUT = 20 }; /* seconds: of cli_media_open(), unless the user says otherwise */

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
 * decoded but neither converted nor handed out; 0 = every frame. timeout: seconds without a frame
 * after which a source that is not local has failed. A live source skips what comes while the
 * caller is busy. NULL on failure, with the reason in err->msg (code NOT_FOUND or IO). */
cli_media *cli_media_open(const char *input, uint64_t interval, double timeout, glm4v_error *err);

/* 1 = *frame is the next one, 0 = end, -1 = failed (err->msg; code CANCELED if a signal asked to
 * end, INVALID if a login was refused). Blocks while the source has nothing new. The end of a live
 * source is a failure. */
int cli_media_next(cli_media *media, cli_frame *frame, glm4v_error *err);

/* Whether the frames are those of a camera or another stream without an end; before the first
 * frame: whether they may be. */
bool cli_media_is_live(const cli_media *media);

/* Accepts the address of NULL. */
void cli_media_close(cli_media **media);

#endif
