/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 and INT4_32: int32 sums in groups, exact; times the scales of row and weights, added up in
 * f32. Nibbles stand in the upper half of bytes when they are multiplied, so sums are 16 times what
 * they mean. */
#ifndef GLM4V_CUDA_PRODUCT_INT4_CUH
#define GLM4V_CUDA_PRODUCT_INT4_CUH

#include "product_stream.cuh"

/* 8 nibbles of two rows to operands, 16 times their values. */
static __device__ __forceinline__ mma_a spread_nibbles(uint32_t top, uint32_t low)
{
    return { top << 4 & 0xf0f0f0f0, low << 4 & 0xf0f0f0f0, top & 0xf0f0f0f0, low & 0xf0f0f0f0 };
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i)
{
    const uint32_t word[4] = { v.x, v.y, v.z, v.w };
    return word[i];
}

/* GROUPS a chunk of 128 inputs: 1 or 4. */
template <int GROUPS> struct int4_form {
    enum {
        CHUNK_X = 128,
        PAD = 32,
        X_GROUP = 128 / GROUPS,
        CHUNK_X_SCALES = GROUPS,
        X_SCALE_CHUNKS = 1,
        CHUNK_SCALES = GROUPS,
        CHUNKS = GROUPS == 1 ? 2 : 1,
        FEW_CHUNKS = 1,
        BLOCKS = 2,
        ROW_SCALE = 0,
        GROUP_STEPS = 4 / GROUPS, /* multiplications */
    };

    static __device__ int scale_index(int chunk, int s)
    {
        return chunk * GROUPS + s;
    }

    /* Sums of a group's inputs for the lane's columns: the rows of A are ones. */
    template <class Tile>
    static __device__ __forceinline__ void
    input_sums(int (&total)[4], const stage_x<int4_form, Tile> &x, int nt, int at)
    {
        const uint32_t ones = 0x01010101;
        for (int i = 0; i < GROUP_STEPS; i++) {
            const uint2 b = x.template words<uint2>(nt, at + 32 * i);
            mma_int8(total, { ones, ones, ones, ones }, b.x, b.y);
        }
    }

    /* Group s of chunk c. */
    template <class Tile>
    static __device__ __forceinline__ void
    multiply_group(float (&sum)[Tile::MT][Tile::NT][4], const stage_weights<int4_form, Tile> &w,
                   const stage_x<int4_form, Tile> &x, bool zeros, int c, int s)
    {
        const int at = c * CHUNK_X + s * X_GROUP + threadIdx.x % 4 * 8;
        mma_a a[Tile::MT][GROUP_STEPS];
#pragma unroll
        for (int i = 0; i < Tile::MT * GROUP_STEPS; i++) {
            const int mt = i / GROUP_STEPS, step = i % GROUP_STEPS, word = s * GROUP_STEPS + step;
            a[mt][step] =
                spread_nibbles(word_of(w.a[c][mt][0], word), word_of(w.a[c][mt][1], word));
        }
#pragma unroll
        for (int nt = 0; nt < Tile::NT; nt++) {
            const float2 scale = x.scales(nt, c * GROUPS + s);
            int part[Tile::MT][4] = {}, total[4] = {};
#pragma unroll
            for (int i = 0; i < GROUP_STEPS; i++) {
                const uint2 b = x.template words<uint2>(nt, at + 32 * i);
#pragma unroll
                for (int mt = 0; mt < Tile::MT; mt++)
                    mma_int8(part[mt], a[mt][i], b.x, b.y);
            }
            if (zeros)
                input_sums<Tile>(total, x, nt, at);
#pragma unroll
            for (int i = 0; i < Tile::MT * 4; i++) {
                const int mt = i / 4, j = i % 4;
                const int less = 16 * (w.zero[c][s][mt][j / 2] - 8) * total[j];
                const float both = (j % 2 ? scale.y : scale.x) * w.scale[c][s][mt][j / 2];
                sum[mt][nt][j] += both * ((float)(part[mt][j] - less) * 0.0625f);
            }
        }
    }

    template <class Tile>
    static __device__ __forceinline__ void
    multiply(float (&sum)[Tile::MT][Tile::NT][4], const stage_weights<int4_form, Tile> &w,
             const stage_x<int4_form, Tile> &x, const product_args &p)
    {
        const bool zeros = p.w_zero;
#pragma unroll
        for (int c = 0; c < Tile::CHUNKS; c++)
#pragma unroll
            for (int s = 0; s < GROUPS; s++)
                multiply_group<Tile>(sum, w, x, zeros, c, s);
    }
};

#endif
