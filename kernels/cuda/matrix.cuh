/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the elements of a packed matrix lie in memory, for the kernels that write and read them.
 *
 * A multiplying lane reads 16 bytes of a row; the 4 lanes that share a row read 64 bytes, a chunk.
 * INT8, FP8_DYNAMIC and BF16: in order of k. Bits of FP8 and INT4 are mixed so that a few
 * instructions turn a word into operands of mma.sync:
 *   INT4, INT4_32  rows in blocks of 128 inputs, 64 bytes. Word 4 t + i of a block holds inputs
 *                  k = 32 i + 4 t + [0, 4) in nibbles 0, 2, 4, 6 and k + 16 in nibbles 1, 3, 5, 7.
 *                  A nibble is code - 8 in two's complement. So lane t's word i is its part of A of
 *                  step i of 32 inputs, which is group i of an INT4_32 block
 *   FP8            rows in blocks of 64 inputs. Word 4 t + i of a block holds inputs
 *                  k = 16 i + 2 t, k + 1, k + 8, k + 9: lane t's part of A of step i. Bits of a
 *                  code are s, sign, and m, the other 7. Each half of a word holds two codes: bits
 *                  15 and 10..4 are s and m of input k (low half) or k + 1; bit 11, bits 14..12 and
 *                  3..0 are s, m's upper 3 and lower 4 bits of input k + 8 or k + 9 */
#ifndef GLM4V_CUDA_MATRIX_CUH
#define GLM4V_CUDA_MATRIX_CUH

#include "product.h"

enum { CHUNK_BYTES = 64, INT4_BLOCK = 128, FP8_BLOCK = 64 };

static inline __host__ __device__ bool is_int4(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT4 || form == GLM4V_CUDA_INT4_32;
}

/* Activations are rounded to one byte. */
static inline __host__ __device__ bool has_byte_inputs(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT8 || form == GLM4V_CUDA_FP8_DYNAMIC || is_int4(form);
}

/* Inputs that share a scale of the activations; FP8_DYNAMIC: all of a row. */
static inline __host__ __device__ int32_t group_of(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT4_32 ? 32 : 128;
}

static inline __host__ __device__ int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline __host__ __device__ int32_t count_groups(int32_t n_in, int32_t group)
{
    return (int32_t)(((int64_t)n_in + group - 1) / group);
}

/* Scales of a row. */
static inline __host__ __device__ int32_t scales_of(const glm4v_cuda_matrix *w)
{
    if (is_int4(w->form))
        return count_groups(w->n_in, group_of(w->form));
    return w->blocks ? count_groups(w->n_in, 128) : 1;
}

static inline __host__ __device__ int64_t row_bytes(glm4v_cuda_form form, int32_t n_in)
{
    if (form == GLM4V_CUDA_F32)
        return (int64_t)n_in * 4;
    if (form == GLM4V_CUDA_BF16)
        return round_up(n_in, 8) * 2;
    if (form == GLM4V_CUDA_FP8)
        return round_up(n_in, FP8_BLOCK);
    return is_int4(form) ? round_up(n_in, INT4_BLOCK) / 2 : round_up(n_in, 16);
}

/* First input of a row's word; its upper nibbles are the inputs from 16 on after it. */
static inline __host__ __device__ int64_t int4_input(int64_t word)
{
    return word / 16 * INT4_BLOCK + word % 4 * 32 + word % 16 / 4 * 4;
}

/* First input of a row's word; with it are the next and the 8th and 9th after it. */
static inline __host__ __device__ int64_t fp8_input(int64_t word)
{
    return word / 16 * FP8_BLOCK + word % 4 * 16 + word % 16 / 4 * 2;
}

/* Codes 0..15, the first in the lowest bits: lower and upper nibbles of a word. */
static inline __host__ __device__ uint32_t int4_from_codes(uint32_t first, uint32_t last)
{
    return ((first & 0x0f0f0f0f) | (last & 0x0f0f0f0f) << 4) ^ 0x88888888;
}

static inline __host__ __device__ uint32_t fp8_from_codes(uint32_t codes)
{
    uint32_t word = 0;
    for (int half = 0; half < 2; half++) {
        const uint32_t a = codes >> 8 * half & 0xff, b = codes >> (8 * half + 16) & 0xff;
        const uint32_t bits =
            (a & 0x80) << 8 | (a & 0x7f) << 4 | (b & 0x80) << 4 | (b & 0x70) << 8 | (b & 0x0f);
        word |= bits << 16 * half;
    }
    return word;
}

/* 2^-120 of the first two codes and of the last two as bf16. */
static inline __host__ __device__ uint32_t fp8_first(uint32_t word)
{
    return word & 0x87f087f0;
}

static inline __host__ __device__ uint32_t fp8_last(uint32_t word)
{
    return (word << 4 & 0x80f080f0) | (word >> 4 & 0x07000700);
}

#endif
