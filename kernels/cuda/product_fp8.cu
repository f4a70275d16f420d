/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FP8: codes become bf16 (exactly) in registers. A chunk's sum in the tensor cores, times the scale
 * of its block where there are blocks; chunks in f32. */
#include "fp8.cuh"
#include "product_blocks.cuh"
#include "product_stream.cuh"

namespace
{
struct fp8_form {
    enum {
        CHUNK_X = 128,
        PAD = 16,
        X_STEPS = 1, /* x is read by steps() */
        X_GROUP = 1,
        CHUNK_X_SCALES = 0,
        X_SCALE_CHUNKS = 1,
        CHUNK_SCALES = 1,
        CHUNKS = 2,
        FEW_CHUNKS = 1,
        BLOCKS = 3,
        RING_STAGES = 3,
        PIECE_SCALES = 1, /* of a row of weights */
        ROW_SCALE = 1,
        ZEROS = 0, /* weights have zero points */
    };

    /* Blocks are two chunks. */
    static __device__ int scale_index(int chunk, int)
    {
        return chunk / 2;
    }

    template <class Tile, class X>
    static __device__ __forceinline__ void multiply(float (&sum)[Tile::NT][Tile::MT][4],
                                                    const stage_weights<fp8_form, Tile> &w,
                                                    const X &x, const product_args &p)
    {
        const bool blocks = p.scales > 1;
#pragma unroll
        for (int i = 0; i < Tile::CHUNKS * Tile::MT; i++) {
            const int c = i / Tile::MT, mt = i % Tile::MT;
            const uint4 top = w.a[c][mt][0], low = w.a[c][mt][1];
            const mma_a a[4] = { widen_step(top.x, low.x), widen_step(top.y, low.y),
                                 widen_step(top.z, low.z), widen_step(top.w, low.w) };
            const float scale_top = blocks ? w.scale[c][0][mt][0] : 1;
            const float scale_low = blocks ? w.scale[c][0][mt][1] : 1;
#pragma unroll
            for (int nt = 0; nt < Tile::NT; nt++) {
                const uint4 b0 = x.steps(nt, c * CHUNK_X), b1 = x.steps(nt, c * CHUNK_X + 64);
                const uint32_t b[8] = { b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w };
                float part[4] = {};
#pragma unroll
                for (int j = 0; j < 4; j++)
                    mma_bf16(part, a[j], b[2 * j], b[2 * j + 1]);
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

cudaError_t blocks_fp8(cudaStream_t stream, const product_args &p)
{
    return launch_blocks<fp8_form>(stream, p);
}
