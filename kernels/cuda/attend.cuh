/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For .cu files only: what the kernels of attention share. */
#ifndef GLM4V_CUDA_ATTEND_CUH
#define GLM4V_CUDA_ATTEND_CUH

#include "attention.h"
#include "mma.cuh"
#include "vector.cuh"

constexpr float LOG2E = 1.44269504f;

/* Attention of many query rows. */
struct flash {
    glm4v_bf16 *o;
    int64_t ldo;
    const glm4v_bf16 *q;
    int64_t ldq;
    const void *k, *v; /* of key/value head 0: bf16, or int8 with scales */
    const float *k_scale, *v_scale;
    int64_t ldk, head_step; /* elements between keys, and between heads of them */
    int32_t n_queries, n_keys, head_dim, group; /* query heads a key/value head */
    int32_t first; /* query row i sees keys [0, first + i] if causal, else all */
    bool causal;
    float scale; /* of scores, in powers of two */
};

/* Attention with wgmma (attention_wgmma.cu): has it code for the current device? bf16 keys and
 * values only. */
bool has_wgmma_attention();
cudaError_t run_wgmma_attention(cudaStream_t stream, const flash &a, int heads);

/* Four 8x8 matrices of 16 bits; lanes 8i to 8i + 7 give the rows of matrix i. */
static __device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

static __device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 2^x, the hardware's approximation; 0 for -inf. */
static __device__ __forceinline__ float power_of_two(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Codes `first` and the next to bf16, exact. */
static __device__ __forceinline__ uint32_t widen_codes(uint32_t codes, int first)
{
    return narrow2((float)(int8_t)(codes >> 8 * first), (float)(int8_t)(codes >> 8 * (first + 1)));
}

#endif
