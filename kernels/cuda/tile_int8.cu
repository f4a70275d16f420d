/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT8 in tiles: a stage is a group of 128 inputs. */
#include "tile.cuh"

namespace
{
struct int8_tile {
    enum {
        STEP = 128,   /* inputs of a stage */
        A_ROW = 128,  /* bytes of a row of A */
        GROUP = 128,  /* inputs with one scale of x */
        X_SCALES = 1, /* of a stage */
        ROW_SCALE = 1,
        MOST_ROWS = 208,
    };

    template <int N>
    static __device__ __forceinline__ void add_stage(float (&sum)[N / 2], const tile_stage &stage,
                                                     const tile_rows &, const product_args &)
    {
        const uint64_t a = tile_descriptor(tile_a<int8_tile>(stage));
        const uint64_t b = tile_descriptor(stage.b);
        int part[N / 2];
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < 4; i++)
            wgmma<N>::int8(part, a + 2 * i, b + 2 * i, i > 0);
        wgmma_end();
        wgmma_wait<0>();
        keep_in_place(part);
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
            const float2 scale = *(const float2 *)(stage.x_scale + 8 * j + threadIdx.x % 4 * 2);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[4 * j + i] += (i % 2 ? scale.y : scale.x) * (float)part[4 * j + i];
        }
    }
};
} // namespace

cudaError_t tile_int8(cudaStream_t stream, const tile_device *device, const product_args &p)
{
    return launch_tile_product<int8_tile>(stream, device, p);
}
