/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 and INT4_32: int32 sums in groups, exact; times the scales of row and weights, added up in
 * f32. Nibbles stand in the upper half of bytes when they are multiplied, so sums are 16 times what
 * they mean. */
#ifndef GLM4V_CUDA_PRODUCT_INT4_CUH
#define GLM4V_CUDA_PRODUCT_INT4_CUH

#include "product_blocks.cuh"
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

/* An f32 with these bits has units of 1/16. So this integer plus the sum of a group (which is below
 * 2^22) has the bits of SIXTEENTHS_VALUE plus a sixteenth of the sum, exactly. */
enum { SIXTEENTHS = 0x49400000 };
static const float SIXTEENTHS_VALUE = 786432;

/* GROUPS a chunk of 128 inputs: 1 or 4. ZEROS: weights have zero points. */
template <int GROUPS, bool ZEROS_> struct int4_form {
    enum {
        ZEROS = ZEROS_,
        CHUNK_X = 128,
        PAD = 16,
        X_STEPS = 1, /* x is read by steps() */
        X_GROUP = 128 / GROUPS,
        CHUNK_X_SCALES = GROUPS,
        X_SCALE_CHUNKS = 1,
        CHUNK_SCALES = GROUPS,
        CHUNKS = GROUPS == 1 ? 2 : 1,
        FEW_CHUNKS = 1,
        BLOCKS = GROUPS == 1 ? 3 : 2,
        RING_STAGES = 3,
        PIECE_SCALES = 2 * GROUPS, /* of a row of weights */
        ROW_SCALE = 0,
        GROUP_STEPS = 4 / GROUPS, /* multiplications */
    };

    static __device__ int scale_index(int chunk, int s)
    {
        return chunk * GROUPS + s;
    }

    /* A sixteenth of a sum that began with SIXTEENTHS. */
    static __device__ __forceinline__ float sixteenth(int sum, int zero, int total)
    {
        if (!ZEROS)
            return __int_as_float(sum) - SIXTEENTHS_VALUE;
        return (float)(sum - SIXTEENTHS - 16 * (zero - 8) * total) * 0.0625f;
    }

    /* Group s of chunk c; b: of the chunk. */
    template <class Tile>
    static __device__ __forceinline__ void
    multiply_group(float (&sum)[Tile::MT][4], const stage_weights<int4_form, Tile> &w,
                   const uint32_t (&b)[8], float2 scale, int c, int s)
    {
        const mma_a ones = { 0x01010101, 0x01010101, 0x01010101, 0x01010101 };
        int part[Tile::MT][4], total[4] = {};
#pragma unroll
        for (int i = 0; i < Tile::MT * 4; i++)
            part[i / 4][i % 4] = SIXTEENTHS;
#pragma unroll
        for (int i = s * GROUP_STEPS; i < (s + 1) * GROUP_STEPS; i++) {
#pragma unroll
            for (int mt = 0; mt < Tile::MT; mt++) {
                const uint4 *a = w.a[c][mt];
                mma_int8(part[mt], spread_nibbles(word_of(a[0], i), word_of(a[1], i)), b[2 * i],
                         b[2 * i + 1]);
            }
            if (ZEROS) /* sums of the inputs for the lane's columns */
                mma_int8(total, ones, b[2 * i], b[2 * i + 1]);
        }
#pragma unroll
        for (int i = 0; i < Tile::MT * 4; i++) {
            const int mt = i / 4, j = i % 4;
            const float both = (j % 2 ? scale.y : scale.x) * w.scale[c][s][mt][j / 2];
            const int zero = ZEROS ? w.zero[c][s][mt][j / 2] : 8;
            sum[mt][j] += both * sixteenth(part[mt][j], zero, total[j]);
        }
    }

    template <class Tile, class X>
    static __device__ __forceinline__ void multiply(float (&sum)[Tile::NT][Tile::MT][4],
                                                    const stage_weights<int4_form, Tile> &w,
                                                    const X &x, const product_args &)
    {
#pragma unroll
        for (int i = 0; i < Tile::CHUNKS * Tile::NT; i++) {
            const int c = i / Tile::NT, nt = i % Tile::NT;
            const uint4 b0 = x.steps(nt, c * CHUNK_X), b1 = x.steps(nt, c * CHUNK_X + 64);
            const uint32_t b[8] = { b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w };
#pragma unroll
            for (int s = 0; s < GROUPS; s++)
                multiply_group<Tile>(sum[nt], w, b, x.scales(nt, c * GROUPS + s), c, s);
        }
    }
};

#endif
