/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* BF16 in tiles: products of two stages are under way. */
#include "tile.cuh"

namespace
{
struct bf16_tile {
    enum { STEP = 64, A_ROW = 128, X_SCALES = 0, ROW_SCALE = 0, LAG = 1, MOST_ROWS = 256 };

    template <int N> struct sums {
        float c[N / 2] = {};

        __device__ sums(const product_args &, const tile_rows &)
        {
        }

        __device__ __forceinline__ void add(const tile_stage &stage)
        {
            const uint64_t a = tile_descriptor(tile_a<bf16_tile>(stage));
            const uint64_t b = tile_descriptor(stage.b);
            wgmma_begin();
#pragma unroll
            for (int i = 0; i < 4; i++)
                wgmma<N>::bf16(c, a + 2 * i, b + 2 * i, 1);
            wgmma_end();
            wgmma_wait<1>();
        }

        __device__ __forceinline__ void end()
        {
            wgmma_wait<0>();
            keep_in_place(c);
        }
    };
};
} // namespace

cudaError_t tile_bf16(cudaStream_t stream, const tile_device *device, const product_args &p)
{
    return launch_tile_product<bf16_tile>(stream, device, p);
}
