/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FP8: codes become bf16 (exactly) in registers. A chunk's sum in the tensor cores, times the scale
 * of its block where there are blocks; chunks in f32. */
#include "product_stream.cuh"

namespace
{
/* 16 codes as pairs of bf16: words 2 j, 2 j + 1 are the lane's of step j. */
struct fp8_values {
    uint32_t pair[8];
};

__device__ __forceinline__ uint32_t times_2_120(uint32_t pair)
{
    uint32_t product;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"
        : "=r"(product)
        : "r"(pair), "r"(0x7b807b80), "r"(0x80008000));
    return product;
}

__device__ __forceinline__ fp8_values widen_codes(uint4 codes)
{
    const uint32_t word[4] = { codes.x, codes.y, codes.z, codes.w };
    fp8_values v;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        v.pair[2 * j] = times_2_120(fp8_first(word[j]));
        v.pair[2 * j + 1] = times_2_120(fp8_last(word[j]));
    }
    return v;
}

struct fp8_form {
    enum {
        CHUNK_X = 128,
        PAD = 16,
        X_GROUP = 1,
        CHUNK_X_SCALES = 0,
        X_SCALE_CHUNKS = 1,
        CHUNK_SCALES = 1,
        CHUNKS = 2,
        FEW_CHUNKS = 1,
        BLOCKS = 2,
        ROW_SCALE = 1,
    };

    /* Blocks are two chunks. */
    static __device__ int scale_index(int chunk, int)
    {
        return chunk / 2;
    }

    template <class Tile>
    static __device__ __forceinline__ void
    multiply(float (&sum)[Tile::NT][Tile::MT][4], const stage_weights<fp8_form, Tile> &w,
             const stage_x<fp8_form, Tile> &x, const product_args &p)
    {
        const bool blocks = p.scales > 1;
#pragma unroll
        for (int i = 0; i < Tile::CHUNKS * Tile::MT; i++) {
            const int c = i / Tile::MT, mt = i % Tile::MT;
            const fp8_values top = widen_codes(w.a[c][mt][0]), low = widen_codes(w.a[c][mt][1]);
            const float scale_top = blocks ? w.scale[c][0][mt][0] : 1;
            const float scale_low = blocks ? w.scale[c][0][mt][1] : 1;
#pragma unroll
            for (int nt = 0; nt < Tile::NT; nt++) {
                const uint4 b0 = x.steps(nt, c * CHUNK_X), b1 = x.steps(nt, c * CHUNK_X + 64);
                const uint32_t b[8] = { b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w };
                float part[4] = {};
#pragma unroll
                for (int j = 0; j < 8; j += 2)
                    mma_bf16(part, { top.pair[j], low.pair[j], top.pair[j + 1], low.pair[j + 1] },
                             b[j], b[j + 1]);
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[nt][mt][j] += (j < 2 ? scale_top : scale_low) * part[j];
            }
        }
    }
};
} // namespace

cudaError_t product_fp8(cudaStream_t stream, const product_args &p)
{
    return launch_stream<fp8_form>(stream, p);
}
