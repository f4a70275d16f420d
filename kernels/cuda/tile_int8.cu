/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT8 in tiles: a stage is a group of 128 inputs. The rows of a tile are cut in two: while
 * products of one part are under way, the sums of the other are scaled and added. */
#include "tile.cuh"

namespace
{
struct int8_tile {
    enum {
        STEP = 128,   /* inputs of a stage */
        A_ROW = 128,  /* bytes of a row of A */
        X_SCALES = 1, /* groups with a scale in a stage of x */
        ROW_SCALE = 1,
        LAG = 0,
        MOST_ROWS = 208,
    };

    template <int N> struct sums {
        enum { FIRST = tile_first_rows(N), SECOND = N - FIRST };
        float c[N / 2] = {};
        int first[FIRST / 2], second[SECOND / 2];

        __device__ sums(const product_args &, const tile_rows &)
        {
        }

        /* Rows from ROW on. */
        template <int ROW, int ROWS>
        static __device__ __forceinline__ void multiply(int (&part)[ROWS / 2],
                                                        const tile_stage &stage)
        {
            const uint64_t a = tile_descriptor(tile_a<int8_tile>(stage));
            const uint64_t b = tile_descriptor(stage.b + ROW * TILE_X_BYTES);
            wgmma_begin();
#pragma unroll
            for (int i = 0; i < 4; i++)
                wgmma<ROWS>::int8(part, a + 2 * i, b + 2 * i, i > 0);
            wgmma_end();
        }

        template <int ROW, int ROWS>
        __device__ __forceinline__ void scale(int (&part)[ROWS / 2], const tile_stage &stage)
        {
            keep_in_place(part);
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++) {
                const float2 x =
                    *(const float2 *)(stage.x_scale + ROW + 8 * j + threadIdx.x % 4 * 2);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    c[ROW / 2 + 4 * j + i] += (i % 2 ? x.y : x.x) * (float)part[4 * j + i];
            }
        }

        __device__ __forceinline__ void add(const tile_stage &stage)
        {
            multiply<0, FIRST>(first, stage);
            multiply<FIRST, SECOND>(second, stage);
            wgmma_wait<1>();
            scale<0, FIRST>(first, stage);
            wgmma_wait<0>();
            scale<FIRST, SECOND>(second, stage);
        }

        __device__ __forceinline__ void end()
        {
        }
    };
};
} // namespace

cudaError_t tile_int8(cudaStream_t stream, const tile_device *device, const product_args &p)
{
    return launch_tile_product<int8_tile>(stream, device, p);
}
