/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of a clip that are damaged, or that a decoder gave up. */
#ifndef GLM4V_TOOLS_DAMAGE_H
#define GLM4V_TOOLS_DAMAGE_H

#include <gst/gst.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct cli_damage cli_damage;

/* Collect the errors of decoders from now on. Once per process, after gst_init(). */
void cli_damage_init(void);

/* Watch the decoders of a pipeline, those that come later too. One pipeline at a time. */
cli_damage *cli_damage_begin(GstElement *pipeline);

/* Whether a frame that left the decoder is damaged; counts it. Any thread. */
bool cli_damage_see(cli_damage *damage, const GstBuffer *frame);

typedef struct {
    uint32_t damaged; /* frames, those that were lost too */
    uint32_t lost;
    char first[160]; /* what a decoder said first; may be empty */
} cli_damage_counts;

/* Up to now. Any thread. */
cli_damage_counts cli_damage_count(cli_damage *damage);

/* After the pipeline has stopped. Accepts the address of NULL. */
void cli_damage_end(cli_damage **damage);

#endif
