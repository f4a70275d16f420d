/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory planner: the memory that a model and one engine on it need, computed from headers
 * before anything is allocated, by the same functions that the allocations use; and the errors when
 * it is too much. tests/engine/test_memory.c compares it with the count of the allocator. */
#ifndef GLM4V_ENGINE_ESTIMATE_H
#define GLM4V_ENGINE_ESTIMATE_H

#include "engine_limits.h"

/* All fields of *memory, for pictures of this size. The plan of m is made, its devices are
 * open; checkpoint NULL: random weights. INVALID: the size of the picture. */
int glm4v_estimate(const glm4v_model *m, const glm4v_checkpoint *checkpoint,
                   const glm4v_engine_limits *limits, glm4v_size image, glm4v_memory *memory,
                   glm4v_error *err);

/* The same of one stage alone, for a usual picture. */
int glm4v_estimate_stage(const glm4v_model *m, int64_t stage, const glm4v_engine_limits *limits,
                         glm4v_device_memory *memory, glm4v_error *err);

/* The bytes of all stages together, for a usual picture. */
int glm4v_estimate_engine(const glm4v_model *m, const glm4v_engine_limits *limits, uint64_t *bytes,
                          glm4v_error *err);

/* NOMEM unless the model can be loaded into the memory there is; names the largest quantization
 * that would fit. Leaves m as it was. */
int glm4v_estimate_check_model(glm4v_model *m, const glm4v_checkpoint *checkpoint,
                               glm4v_error *err);

/* The same for an engine on a loaded model: names a smaller context_length or max_batch. */
int glm4v_estimate_check_engine(const glm4v_model *m, const glm4v_engine_limits *limits,
                                glm4v_error *err);

#endif
