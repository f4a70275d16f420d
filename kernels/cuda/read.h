/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading memory as fast as it goes, for the figure that decode is held against. */
#ifndef GLM4V_CUDA_READ_H
#define GLM4V_CUDA_READ_H

#include "launch.h"

/* Read n times 16 bytes; *sum, u32, is changed by what they hold. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_read(cudaStream_t stream, const void *x, size_t n,
                                           uint32_t *sum);

#endif
