/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel level of this process: what the CPU has, lowered by GLM4V_CPU in the environment. */
#ifndef GLM4V_ENGINE_CPU_LEVEL_H
#define GLM4V_ENGINE_CPU_LEVEL_H

#include "glm4v/glm4v.h"

/* Flags of kernels/cpu.h for every *_ops_init(). INVALID: GLM4V_CPU names no level. */
int glm4v_cpu_choose(unsigned *flags, glm4v_error *err);

#endif
