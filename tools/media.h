/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures from a file or URI in any format that GStreamer can decode. */
#ifndef GLM4V_TOOLS_MEDIA_H
#define GLM4V_TOOLS_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "feed.h"
#include "frame.h"

enum { CLI_TIMEOUT = 20 }; /* seconds: default of cli_media_open() */

typedef struct cli_media cli_media;

/* Start GStreamer once per process. */
void cli_media_init(void);

bool cli_is_utf8(const char *text);

typedef struct {
    /* nanoseconds between the returned frames; 0 = every frame. Those in between are decoded, but
     * neither converted nor returned */
    uint64_t interval;
    double timeout;       /* seconds without a frame after which a source has failed that is not a
                          file */
    uint32_t video_track; /* 1 = the first in the file; 0 = the first that is no still picture */
    cli_feed *feed;       /* what an input called CLI_FEED_URI holds; else NULL. Borrowed */
} cli_media_options;

/* Open a URI. A live source skips what comes while the caller is busy. NULL on failure, with the
 * reason in err->msg. */
cli_media *cli_media_open(const char *uri, const cli_media_options *options, glm4v_error *err);

/* 1 = *frame is the next one, 0 = end, -1 = failed (err->msg; code CANCELED after a signal to end,
 * INVALID if a login was refused). Blocks while the source has nothing new. The end of a live
 * source is a failure. */
int cli_media_next(cli_media *media, cli_frame *frame, glm4v_error *err);

/* Whether the frames are those of a camera or another stream without an end; before the first
 * frame: whether they may be. */
bool cli_media_is_live(const cli_media *media);

/* What was wrong up to now; complete after the end. */
void cli_media_tell(cli_media *media, cli_troubles *troubles);

/* Accepts the address of NULL. */
void cli_media_close(cli_media **media);

#endif
