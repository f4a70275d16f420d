/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contiguous layers on one device each: from the device string to open backends, and which items go
 * with which stage. How many layers each gets is placement.c's matter. */
#ifndef GLM4V_ENGINE_STAGES_H
#define GLM4V_ENGINE_STAGES_H

#include "model/model.h"

/* Cut options->layers or the device string (NULL: "auto") at its commas: one stage each in
 * m->stages; "auto" has a second one on the CPU. Layers are dealt out as `layers` says, else evenly
 * for the time being; no backend is open yet. A device that is not there is an error now, long
 * before it is used. INVALID, DEVICE, NOMEM; what was made belongs to m in either case. */
int glm4v_stages_make(glm4v_model *m, const glm4v_model_options *options, glm4v_error *err);

/* Open the pool and the backends. Where "auto" is the CPU, one stage remains. DEVICE, NOMEM; those
 * that are open belong to m in either case. */
int glm4v_stages_open(glm4v_model *m, const glm4v_model_options *options, glm4v_error *err);

/* Prepare the ways from stage to stage, and log them. DEVICE. */
int glm4v_stages_link(const glm4v_model *m, glm4v_error *err);

/* Is it the CPU? */
bool glm4v_stage_is_host(const glm4v_stage *stage);
/* Bytes that the stage's device has: what is free, within the limit; UINT64_MAX where nothing
 * tells. stage_room: in equal parts for all stages on that device. */
uint64_t glm4v_device_room(const glm4v_model *m, int64_t stage);
uint64_t glm4v_stage_room(const glm4v_model *m, int64_t stage);

/* Bytes of the plan's weights, as backend b would keep them: of the largest layer, and of what lies
 * outside of layers on the first and on the last stage. */
uint64_t glm4v_largest_layer(const glm4v_model *m, glm4v_backend *b);
uint64_t glm4v_outer_bytes(const glm4v_model *m, glm4v_backend *b, bool first, bool last);

/* Keep stages [first, first + n) alone, close the others, and give stage i `count[i]` layers: their
 * items go with them. The counts sum up to all layers. */
void glm4v_stages_set(glm4v_model *m, int64_t first, int64_t n, const int64_t *count);

#endif
