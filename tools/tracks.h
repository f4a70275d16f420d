/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of several video tracks is the video: not the picture of a cover. */
#ifndef GLM4V_TOOLS_TRACKS_H
#define GLM4V_TOOLS_TRACKS_H

#include <gst/gst.h>

/* Put the pads of the video tracks into the order of the tracks in the file. */
void cli_tracks_sort(GPtrArray *pads);

/* The first track that is not a still picture, else the first; n >= 1 pads in their order. uri: of
 * a file that may be read a second time, without decoding, until each track has had a second frame,
 * or none for so long that there is none; NULL if it cannot be. */
guint cli_tracks_choose(GPtrArray *pads, const char *uri);

#endif
