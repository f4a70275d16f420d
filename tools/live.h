/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Distinguishing a camera from a file, and its failure from a regular end. */
#ifndef GLM4V_TOOLS_LIVE_H
#define GLM4V_TOOLS_LIVE_H

#include <gst/gst.h>
#include <stdbool.h>
#include <stdint.h>

/* Data of this machine that end where they end: a file, a pipe, a disc. */
bool cli_is_local(const char *uri);

/* The functions below query `pad`, a sink pad at which video has arrived. */

/* Whether a source that is not local is live: GStreamer reports it as live (RTSP, UDP, SRT, a
 * camera of this machine), or it reports neither a duration nor a length (Motion JPEG by HTTP, a
 * stream by TCP). source: the element that fetches, or NULL. */
bool cli_is_live(GstPad *pad, GstElement *source);

/* In nanoseconds; 0 = not known. */
int64_t cli_duration(GstPad *pad);

/* Whether a stream that ended at stream time `last` was a recording, all of which came. */
bool cli_was_recording(GstPad *pad, int64_t last);

#endif
