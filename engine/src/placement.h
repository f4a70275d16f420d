/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many layers each stage gets, from what is free on its device and what layers take there, keys
 * and values and working memory of an engine included. */
#ifndef GLM4V_ENGINE_PLACEMENT_H
#define GLM4V_ENGINE_PLACEMENT_H

#include "engine_limits.h"

/* Deal the layers of m out, whose plan is made and whose devices are open. Nothing is done where
 * `layers` of the options named them or there is one stage.
 *   GPUs alone, or CPUs alone: each gets its share of the bytes by what is free there.
 *   GPUs and a CPU: all layers on the GPUs where they fit; else they are filled, the CPU gets
 *   the rest. A stage without layers goes.
 *   "auto" with a GPU that holds less than one layer: the CPU alone, with a warning.
 * engine NULL: all defaults. NOMEM: a GPU that was named holds less than one layer. */
int glm4v_place(glm4v_model *m, const glm4v_model_options *options,
                const glm4v_engine_options *engine, glm4v_error *err);

#endif
