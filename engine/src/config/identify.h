/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose files are these? Names of other architectures, so that a mixed-up or unsupported model is
 * called by its name. */
#ifndef GLM4V_ENGINE_IDENTIFY_H
#define GLM4V_ENGINE_IDENTIFY_H

#include "checkpoint/safetensors.h"
#include "config/config.h"

/* What models with this "model_type" are, or NULL if that is not known. */
const char *glm4v_identify_type(const char *type);

/* FORMAT when the tensors belong to another model than the configuration. */
int glm4v_identify_check(const glm4v_checkpoint *checkpoint, const glm4v_config *config,
                         glm4v_error *err);

#endif
