/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frames of one input, as media.h gives them; a camera that breaks off is opened again. */
#ifndef GLM4V_TOOLS_STREAM_H
#define GLM4V_TOOLS_STREAM_H

#include "media.h"

typedef struct cli_stream cli_stream;

typedef struct {
    cli_media_options media;
    double reconnect; /* seconds that one outage of a live source may last; 0 = it is a failure */
} cli_stream_options;

/* input is borrowed until the stream is closed. NULL on failure, with the reason in err->msg. */
cli_stream *cli_stream_open(const char *input, const cli_stream_options *options, glm4v_error *err);

/* As cli_media_next(). While a live source is away, each attempt to reach it is reported on stderr.
 * Times continue by the clock: after an outage of a minute they are a minute later. */
int cli_stream_next(cli_stream *stream, cli_frame *frame, glm4v_error *err);

/* As cli_media_tell(), of all connections. */
void cli_stream_tell(cli_stream *stream, cli_troubles *troubles);

/* Accepts the address of NULL. */
void cli_stream_close(cli_stream **stream);

#endif
