/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pixels in device memory to patches: colour conversion, antialiased bicubic resize, normalization
 * and the order of patches, as engine/src/picture/preprocess.c makes them, within 1/255 of it. */
#ifndef GLM4V_CUDA_PIXELS_H
#define GLM4V_CUDA_PIXELS_H

#include "launch.h"

typedef enum {
    GLM4V_CUDA_RGB,
    GLM4V_CUDA_BGR,
    GLM4V_CUDA_RGBX,
    GLM4V_CUDA_BGRX,
    GLM4V_CUDA_GRAY8,
    GLM4V_CUDA_NV12,
    GLM4V_CUDA_I420,
    GLM4V_CUDA_P010,
    GLM4V_CUDA_YUY2,
    GLM4V_CUDA_RGBA,
    GLM4V_CUDA_BGRA,
} glm4v_cuda_format;

/* One image: width x height pixels of the planes, the first one at (left, top). plane, stride
 * (bytes; of P010 even): as many as the format has. matrix: YUV to RGB, row-major 3x4 on values in
 * [0, 1], code / (2^bits - 1), offset last. Chroma is that of the nearest sample; RGB is rounded to
 * 8 bits before the resize. GRAY8 is full range; RGBA and BGRA are laid on white. */
typedef struct {
    const void *plane[3];
    int64_t stride[3];
    int32_t width, height, left, top;
    glm4v_cuda_format format;
    float matrix[12];
} glm4v_cuda_image;

/* Patches of one temporal patch: two images (the same twice for a still), resized to
 * (grid_w * patch) x (grid_h * patch), both multiples of merge * patch. temporal: 1 (the first
 * image alone) or 2. y bf16 [grid_h * grid_w, 3 * temporal * patch^2]. */
typedef struct {
    glm4v_cuda_image frame[2];
    int32_t grid_h, grid_w, patch, temporal, merge;
    float mean[3], std[3];
} glm4v_cuda_pixels;
GLM4V_CUDA_API size_t glm4v_cuda_pixels_scratch(const glm4v_cuda_pixels *p);
GLM4V_CUDA_API cudaError_t glm4v_cuda_patches(cudaStream_t stream, glm4v_bf16 *y,
                                              const glm4v_cuda_pixels *p, void *scratch);

#endif
