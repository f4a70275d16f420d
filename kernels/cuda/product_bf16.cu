/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* BF16: f32 sums in the tensor cores. */
#include "product_blocks.cuh"
#include "product_stream.cuh"

namespace
{
struct bf16_form {
    enum {
        CHUNK_X = 64,
        PAD = 64,
        X_STEPS = 0, /* x is read by steps() */
        X_GROUP = 1,
        CHUNK_X_SCALES = 0,
        X_SCALE_CHUNKS = 1,
        CHUNK_SCALES = 0,
        CHUNKS = 2,
        FEW_CHUNKS = 2,
        BLOCKS = 3,
        RING_STAGES = 3,
        PIECE_SCALES = 0, /* of a row of weights */
        ROW_SCALE = 0,
        ZEROS = 0, /* weights have zero points */
    };

    static __device__ int scale_index(int, int)
    {
        return 0;
    }

    template <class Tile, class X>
    static __device__ __forceinline__ void multiply(float (&sum)[Tile::NT][Tile::MT][4],
                                                    const stage_weights<bf16_form, Tile> &w,
                                                    const X &x, const product_args &)
    {
#pragma unroll
        for (int c = 0; c < Tile::CHUNKS; c++) {
#pragma unroll
            for (int nt = 0; nt < Tile::NT; nt++) {
                const uint4 b = x.words(nt, c * CHUNK_X);
#pragma unroll
                for (int mt = 0; mt < Tile::MT; mt++) {
                    const uint4 &top = w.a[c][mt][0], &low = w.a[c][mt][1];
                    mma_bf16(sum[nt][mt], { top.x, low.x, top.y, low.y }, b.x, b.y);
                    mma_bf16(sum[nt][mt], { top.z, low.z, top.w, low.w }, b.z, b.w);
                }
            }
        }
    }
};
} // namespace

cudaError_t product_bf16(cudaStream_t stream, const product_args &p)
{
    return launch_stream<bf16_form>(stream, p);
}

cudaError_t blocks_bf16(cudaStream_t stream, const product_args &p)
{
    return launch_blocks<bf16_form>(stream, p);
}
