/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all launchers of kernels/cuda share. A launcher puts work on a stream and returns: it
 * allocates nothing, never waits, makes no CUDA call but launches and copies on that stream and
 * those about attributes of its kernels, and may be called while the stream is captured. Its grid
 * depends only on what the descriptor says, so a captured launch serves every later step of the
 * same key: what changes from step to step is in device memory. It returns the first error of its
 * launches; arguments are the caller's promise.
 *
 * Activations are bf16 (uint16_t here), row-major; rows start at multiples of 16 bytes, and ld
 * (distance of rows in elements) is a multiple of 8. Sums are f32. A row's result is the same bytes
 * whatever the other rows hold and however many there are.
 *
 * Order of kernels. Launches use programmatic dependent launch where the device has it (compute
 * capability 9.0 and later): a kernel may begin while the one before it ends. So every kernel calls
 * wait_for_earlier() of launch.cuh before it reads what a kernel wrote or writes anything; before
 * that it may only read weights, its arguments, and what was complete before the step's first
 * kernel: a step begins with copies, which no kernel overtakes. */
#ifndef GLM4V_CUDA_LAUNCH_H
#define GLM4V_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t glm4v_bf16;

#ifdef __cplusplus
#define GLM4V_CUDA_API extern "C"
#else
#define GLM4V_CUDA_API
#endif

#endif
