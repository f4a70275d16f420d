/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contiguous layers on one device each: from the device string to open backends. */
#ifndef GLM4V_ENGINE_STAGES_H
#define GLM4V_ENGINE_STAGES_H

#include "model/model.h"

/* Cut the device string (NULL: "auto") at its commas: one stage each in m->stages, layers
 * distributed evenly for now, no backend open yet. A device that is not there is an error now, long
 * before it is used. INVALID, DEVICE, NOMEM; what was made belongs to m in either case. */
int glm4v_stages_make(glm4v_model *m, const char *device, glm4v_error *err);

/* Open the pool and the backends of the same device string, and distribute the layers of m->plan by
 * their bytes and the free memory of each device. INVALID, DEVICE, NOMEM; those that are open
 * belong to m in either case. */
int glm4v_stages_open(glm4v_model *m, const char *device, int64_t n_threads, glm4v_error *err);

#endif
