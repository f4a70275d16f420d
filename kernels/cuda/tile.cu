/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which products go in tiles. */
#include "tile.h"

#include <cuda.h>

#include "wgmma.cuh"

namespace
{
enum { MARK = 512 };

/* Its shared memory says whether the code for this device was compiled for wgmma. */
__global__ void mark()
{
#ifdef GLM4V_CUDA_HAS_WGMMA
    __shared__ volatile uint8_t marked[MARK];
    marked[threadIdx.x] = 0;
#endif
}
} // namespace

cudaError_t tile_device_open(tile_device *device)
{
    int number, major;
    cudaDriverEntryPointQueryResult found;
    cudaFuncAttributes marked;
    cudaError_t error = cudaGetDevice(&number);
    *device = {};
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&device->multiprocessors, cudaDevAttrMultiProcessorCount,
                                       number);
    if (error == cudaSuccess)
        error = cudaFuncGetAttributes(&marked, mark);
    if (error != cudaSuccess || major != 9)
        return error;
    error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &device->encode, 12000,
                                             cudaEnableDefault, &found);
    device->usable = error == cudaSuccess && found == cudaDriverEntryPointSuccess &&
                     marked.sharedSizeBytes >= MARK;
    return error;
}

bool tile_takes(const tile_device *device, const glm4v_cuda_product *p)
{
    const glm4v_cuda_matrix *w = p->w;
    if (!device->usable || w->form == GLM4V_CUDA_F32 || w->form == GLM4V_CUDA_FP8_DYNAMIC)
        return false;
    /* pairs of gate and up lie in eights */
    return p->epilogue != GLM4V_CUDA_SILU_MUL || w->n_out % 16 == 0;
}

cudaError_t tile_multiply(cudaStream_t stream, const tile_device *device,
                          const glm4v_cuda_product *p)
{
    const product_args a = arguments_of(p);
    switch (p->w->form) {
    case GLM4V_CUDA_BF16:
        return tile_bf16(stream, device, a);
    case GLM4V_CUDA_INT8:
        return tile_int8(stream, device, a);
    case GLM4V_CUDA_INT4:
        return tile_int4(stream, device, a);
    case GLM4V_CUDA_FP8:
        return tile_fp8(stream, device, a);
    case GLM4V_CUDA_INT4_32:
        return tile_int4_32(stream, device, a);
    case GLM4V_CUDA_F32:
    case GLM4V_CUDA_FP8_DYNAMIC:
        break;
    }
    return cudaErrorInvalidValue;
}
