/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prefill products in tiles by wgmma, for devices of compute capability 9.0. */
#ifndef GLM4V_CUDA_TILE_H
#define GLM4V_CUDA_TILE_H

#include "product.cuh"

/* What launching needs to know of the device. */
typedef struct {
    bool usable;
    int multiprocessors;
    void *encode; /* cuTensorMapEncodeTiled */
} tile_device;

/* Asks about the current device. */
cudaError_t tile_device_open(tile_device *device);
/* Is this product one for tiles? The answer does not depend on the number of rows. */
bool tile_takes(const tile_device *device, const glm4v_cuda_product *p);
cudaError_t tile_multiply(cudaStream_t stream, const tile_device *device,
                          const glm4v_cuda_product *p);

/* Its forms. */
cudaError_t tile_bf16(cudaStream_t stream, const tile_device *device, const product_args &p);
cudaError_t tile_int8(cudaStream_t stream, const tile_device *device, const product_args &p);
cudaError_t tile_int4(cudaStream_t stream, const tile_device *device, const product_args &p);
cudaError_t tile_int4_32(cudaStream_t stream, const tile_device *device, const product_args &p);
cudaError_t tile_fp8(cudaStream_t stream, const tile_device *device, const product_args &p);

#endif
