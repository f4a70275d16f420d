/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One input of the command line: a picture, an animation, a clip, a camera; named by a path, a URI,
 * "-" for standard input, or contained in a data: URI. */
#ifndef GLM4V_TOOLS_INPUT_H
#define GLM4V_TOOLS_INPUT_H

#include <stdbool.h>

#include "frame.h"
#include "stream.h"

typedef struct cli_input cli_input;

/* Open an input. Pictures are read completely and decoded here, GStreamer decodes everything else.
 * name is borrowed until the input is closed. NULL on failure, with the reason in err->msg. */
cli_input *cli_input_open(const char *name, const cli_stream_options *options, glm4v_error *err);

/* 1 = *frame is the next one, 0 = end, -1 = failed (err->msg); see cli_media_next(). */
int cli_input_next(cli_input *input, cli_frame *frame, glm4v_error *err);

/* What was wrong with a clip that could be read all the same; complete after its end. */
void cli_input_tell(cli_input *input, cli_troubles *troubles);

/* Accepts the address of NULL. */
void cli_input_close(cli_input **input);

/* Whether to open a file of a folder: by its name or its first bytes it is a picture or a video. */
bool cli_input_is_media(const char *path);

#endif
