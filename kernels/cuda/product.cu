/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each form to its kernel. */
#include "product.cuh"

cudaError_t glm4v_cuda_decode_product(cudaStream_t stream, const glm4v_cuda_product *p)
{
    const product_args a = arguments_of(p);
    switch (p->w->form) {
    case GLM4V_CUDA_F32:
        return product_f32(stream, a);
    case GLM4V_CUDA_BF16:
        return product_bf16(stream, a);
    case GLM4V_CUDA_INT8:
        return product_int8(stream, a);
    case GLM4V_CUDA_INT4:
        return product_int4(stream, a);
    case GLM4V_CUDA_FP8:
        return product_fp8(stream, a);
    case GLM4V_CUDA_INT4_32:
        return product_int4_32(stream, a);
    case GLM4V_CUDA_FP8_DYNAMIC:
        return product_fp8_dynamic(stream, a);
    }
    return cudaErrorInvalidValue;
}

cudaError_t blocks_multiply(cudaStream_t stream, const glm4v_cuda_product *p)
{
    const product_args a = arguments_of(p);
    switch (p->w->form) {
    case GLM4V_CUDA_F32:
        return product_f32(stream, a);
    case GLM4V_CUDA_BF16:
        return blocks_bf16(stream, a);
    case GLM4V_CUDA_INT8:
        return blocks_int8(stream, a);
    case GLM4V_CUDA_INT4:
        return blocks_int4(stream, a);
    case GLM4V_CUDA_FP8:
        return blocks_fp8(stream, a);
    case GLM4V_CUDA_INT4_32:
        return blocks_int4_32(stream, a);
    case GLM4V_CUDA_FP8_DYNAMIC:
        return blocks_fp8_dynamic(stream, a);
    }
    return cudaErrorInvalidValue;
}
