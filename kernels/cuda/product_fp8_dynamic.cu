/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FP8_DYNAMIC: codes of both sides become f16 (exactly) in registers. A chunk's sum in the tensor
 * cores, chunks in f32; times the scales of the output and of the row. */
#include "product_blocks.cuh"
#include "product_stream.cuh"

namespace
{
/* The two codes in the lower half of a word as f16. */
__device__ __forceinline__ uint32_t two_f16(uint32_t codes)
{
    const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)codes, __NV_E4M3);
    return pair.x | (uint32_t)pair.y << 16;
}

struct fp8_dynamic_form {
    enum {
        CHUNK_X = 64, /* bytes of x that a chunk of weights meets */
        PAD = 64,     /* between rows of x in shared memory */
        X_STEPS = 0,  /* x is read by steps() */
        X_GROUP = 1,
        CHUNK_X_SCALES = 0,
        X_SCALE_CHUNKS = 1,
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

    /* A and B of a step of 16 inputs: a lane's word holds 4 that follow one another. That these
     * are not the 4 that mma.sync means does not matter, as they are the same on both sides. */
    static __device__ __forceinline__ mma_a step_of(uint32_t top, uint32_t low)
    {
        return { two_f16(top), two_f16(low), two_f16(top >> 16), two_f16(low >> 16) };
    }

    template <class Tile, class X>
    static __device__ __forceinline__ void multiply(float (&sum)[Tile::NT][Tile::MT][4],
                                                    const stage_weights<fp8_dynamic_form, Tile> &w,
                                                    const X &x, const product_args &)
    {
#pragma unroll
        for (int c = 0; c < Tile::CHUNKS; c++) {
            mma_a a[Tile::MT][4];
#pragma unroll
            for (int mt = 0; mt < Tile::MT; mt++) {
                const uint4 &top = w.a[c][mt][0], &low = w.a[c][mt][1];
                a[mt][0] = step_of(top.x, low.x);
                a[mt][1] = step_of(top.y, low.y);
                a[mt][2] = step_of(top.z, low.z);
                a[mt][3] = step_of(top.w, low.w);
            }
#pragma unroll
            for (int nt = 0; nt < Tile::NT; nt++) {
                const uint4 words = x.words(nt, c * CHUNK_X);
                const uint32_t b[4] = { words.x, words.y, words.z, words.w };
                float part[Tile::MT][4] = {};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const uint32_t b0 = two_f16(b[i]), b1 = two_f16(b[i] >> 16);
#pragma unroll
                    for (int mt = 0; mt < Tile::MT; mt++)
                        mma_f16(part[mt], a[mt][i], b0, b1);
                }
#pragma unroll
                for (int j = 0; j < Tile::MT * 4; j++)
                    sum[nt][j / 4][j % 4] += part[j / 4][j % 4];
            }
        }
    }
};
} // namespace

cudaError_t product_fp8_dynamic(cudaStream_t stream, const product_args &p)
{
    return launch_stream<fp8_dynamic_form>(stream, p);
}

cudaError_t blocks_fp8_dynamic(cudaStream_t stream, const product_args &p)
{
    return launch_blocks<fp8_dynamic_form>(stream, p);
}
