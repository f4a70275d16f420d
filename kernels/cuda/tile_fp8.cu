/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FP8 in tiles: codes become bf16 in registers. With blocks, a stage is half of one: its sum is
 * scaled before it is added. */
#include "fp8.cuh"
#include "tile.cuh"

namespace
{
template <bool BLOCKS> struct fp8_tile {
    enum {
        STEP = 64,
        A_ROW = 64,
        X_SCALES = 0,
        ROW_SCALE = 1,
        LAG = 0,
        MOST_ROWS = BLOCKS ? 160 : 208,
    };

    template <int N> struct sums {
        float c[N / 2] = {};
        const product_args &p;
        const tile_rows &rows;

        __device__ sums(const product_args &args, const tile_rows &r) : p(args), rows(r)
        {
        }

        __device__ __forceinline__ void multiply(float (&to)[N / 2], const tile_stage &stage,
                                                 bool keep) const
        {
            const uint64_t b = tile_descriptor(stage.b);
            const uint4 top = tile_codes(stage, rows, 0), low = tile_codes(stage, rows, 1);
            const mma_a a[4] = { widen_step(top.x, low.x), widen_step(top.y, low.y),
                                 widen_step(top.z, low.z), widen_step(top.w, low.w) };
            wgmma_begin();
#pragma unroll
            for (int i = 0; i < 4; i++)
                wgmma<N>::bf16(to, a[i], b + 2 * i, keep || i > 0);
            wgmma_end();
            wgmma_wait<0>();
            keep_in_place(to);
        }

        __device__ __forceinline__ void add(const tile_stage &stage)
        {
            if constexpr (!BLOCKS) {
                keep_in_place(c);
                multiply(c, stage, true);
            } else {
                const int block = stage.step / 2;
                const float top = __ldg(p.w_scale + (int64_t)rows.n[0] * p.scales + block);
                const float low = __ldg(p.w_scale + (int64_t)rows.n[1] * p.scales + block);
                float part[N / 2];
                multiply(part, stage, false);
#pragma unroll
                for (int i = 0; i < N / 2; i++)
                    c[i] += (i % 4 < 2 ? top : low) * part[i];
            }
        }

        __device__ __forceinline__ void end()
        {
        }
    };
};
} // namespace

cudaError_t tile_fp8(cudaStream_t stream, const tile_device *device, const product_args &p)
{
    if (p.scales > 1)
        return launch_tile_product<fp8_tile<true>>(stream, device, p);
    return launch_tile_product<fp8_tile<false>>(stream, device, p);
}
