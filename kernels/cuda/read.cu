/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Four loads of 16 bytes in flight a thread, enough blocks for the largest cards. */
#include "launch.cuh"
#include "read.h"

constexpr int THREADS = 256, BLOCKS = 1024, IN_FLIGHT = 4;

static __global__ void read_kernel(const uint4 *x, size_t n, uint32_t *sum)
{
    const size_t step = (size_t)gridDim.x * THREADS;
    uint32_t bits = 0;
    wait_for_earlier();
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += IN_FLIGHT * step) {
        uint4 v[IN_FLIGHT] = {};
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++)
            if (i + k * step < n)
                v[k] = __ldcs(x + i + k * step);
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++)
            bits ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    atomicXor(sum, bits); /* so that no load is left out */
}

cudaError_t glm4v_cuda_read(cudaStream_t stream, const void *x, size_t n, uint32_t *sum)
{
    return launch(read_kernel, dim3(BLOCKS), dim3(THREADS), 0, stream, (const uint4 *)x, n, sum);
}
