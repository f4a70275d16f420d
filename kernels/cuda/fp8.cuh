/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FP8 codes to operands of the tensor cores, exactly. */
#ifndef GLM4V_CUDA_FP8_CUH
#define GLM4V_CUDA_FP8_CUH

#include "matrix.cuh"
#include "mma.cuh"

static __device__ __forceinline__ uint32_t times_2_120(uint32_t pair)
{
    uint32_t product;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"
        : "=r"(product)
        : "r"(pair), "r"(0x7b807b80), "r"(0x80008000));
    return product;
}

/* A of a step of 16 inputs from the words of rows g and g + 8. */
static __device__ __forceinline__ mma_a widen_step(uint32_t top, uint32_t low)
{
    return { times_2_120(fp8_first(top)), times_2_120(fp8_first(low)), times_2_120(fp8_last(top)),
             times_2_120(fp8_last(low)) };
}

#endif
