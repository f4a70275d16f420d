/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT8: int32 sums in groups of 128 inputs, two chunks; times the group's scale of the row, added
 * up in f32; times the scale of the output. */
#include "product_blocks.cuh"
#include "product_stream.cuh"

namespace
{
/* An f32 with these bits has units of 1. So this integer plus the sum of a group (which is below
 * 2^22) has the bits of UNITS_VALUE plus the sum, exactly. */
enum { UNITS = 0x4b400000 };
const float UNITS_VALUE = 12582912;

struct int8_form {
    enum {
        CHUNK_X = 64,       /* bytes of x that a chunk of weights meets */
        PAD = 64,           /* between rows of x in shared memory */
        X_STEPS = 0,        /* x is read by steps() */
        X_GROUP = 128,      /* bytes of x with one scale */
        CHUNK_X_SCALES = 1, /* scales of X_SCALE_CHUNKS chunks */
        X_SCALE_CHUNKS = 2,
        CHUNK_SCALES = 0, /* of weights */
        CHUNKS = 2,       /* of a stage with few rows */
        FEW_CHUNKS = 2,   /* chunks of a stage with many rows */
        BLOCKS = 3,       /* at least, a multiprocessor, with few rows */
        RING_STAGES = 3,
        PIECE_SCALES = 0, /* of a row of weights */
        ROW_SCALE = 1,
        ZEROS = 0, /* weights have zero points */
    };

    static __device__ int scale_index(int, int)
    {
        return 0;
    }

    static __device__ __forceinline__ void multiply_chunk(int (&c)[4], const uint4 (&a)[2], uint4 b)
    {
        mma_int8(c, { a[0].x, a[1].x, a[0].y, a[1].y }, b.x, b.y);
        mma_int8(c, { a[0].z, a[1].z, a[0].w, a[1].w }, b.z, b.w);
    }

    template <class Tile, class X>
    static __device__ __forceinline__ void multiply(float (&sum)[Tile::NT][Tile::MT][4],
                                                    const stage_weights<int8_form, Tile> &w,
                                                    const X &x, const product_args &)
    {
#pragma unroll
        for (int nt = 0; nt < Tile::NT; nt++) {
            const uint4 b0 = x.words(nt, 0);
            const uint4 b1 = x.words(nt, CHUNK_X);
            const float2 scale = x.scales(nt, 0);
#pragma unroll
            for (int mt = 0; mt < Tile::MT; mt++) {
                int c[4] = { UNITS, UNITS, UNITS, UNITS };
                multiply_chunk(c, w.a[0][mt], b0);
                multiply_chunk(c, w.a[1][mt], b1);
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[nt][mt][j] +=
                        (j % 2 ? scale.y : scale.x) * (__int_as_float(c[j]) - UNITS_VALUE);
            }
        }
    }
};
} // namespace

cudaError_t product_int8(cudaStream_t stream, const product_args &p)
{
    return launch_stream<int8_form>(stream, p);
}

cudaError_t blocks_int8(cudaStream_t stream, const product_args &p)
{
    return launch_blocks<int8_form>(stream, p);
}
