/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tells a camera from a file, and its failure from an end. */
#ifndef GLM4V_TOOLS_LIVE_H
#define GLM4V_TOOLS_LIVE_H

#include <gst/gst.h>
#include <stdbool.h>
#include <stdint.h>

/* Data of this machine that end where they end: a file, a pipe, a disc. */
bool cli_is_local(const char *uri);

/* Those below ask at `pad`, a sink pad that the video arrives at, once it does. */

/* Whether a source that is not local gives what it sees now: GStreamer calls it live (RTSP, UDP,
 * SRT, a camera of this machine), or it tells neither a duration nor a length (Motion JPEG by HTTP,
 * a stream by TCP). source: the element that fetches, or NULL. */
bool cli_is_live(GstPad *pad, GstElement *source);

/* In nanoseconds; 0 = not known. */
int64_t cli_duration(GstPad *pad);

/* Whether a stream that ended at stream time `last` was a recording, all of which came. */
bool cli_was_recording(GstPad *pad, int64_t last);

#endif
