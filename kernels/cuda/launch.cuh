/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For .cu files only: launching and the order of kernels. */
#ifndef GLM4V_CUDA_LAUNCH_CUH
#define GLM4V_CUDA_LAUNCH_CUH

#include <cuda_bf16.h>

#include "launch.h"

/* What earlier kernels of the stream wrote may be read from here on, and memory written. */
static __device__ __forceinline__ void wait_for_earlier()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel may be put on the device from here on; it still waits for this one to end. */
static __device__ __forceinline__ void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* The line of 128 bytes around p on its way to the L2 cache: no read, so also before the kernel
 * that writes it has ended. */
static __device__ __forceinline__ void to_l2(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* Launch with programmatic dependent launch; shared: bytes of dynamic shared memory. */
template <typename... Parameters, typename... Arguments>
static cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                          cudaStream_t stream, Arguments... arguments)
{
    cudaLaunchAttribute serial = {};
    serial.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    serial.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &serial;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

#endif
