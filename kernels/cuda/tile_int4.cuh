/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 and INT4_32 in tiles: a stage is 128 inputs, GROUPS groups (1 or 4). Codes become int8 in
 * registers: less 8 and times 16, or less the zero point. */
#ifndef GLM4V_CUDA_TILE_INT4_CUH
#define GLM4V_CUDA_TILE_INT4_CUH

#include "tile.cuh"

/* Bytes of a less those of b, where no difference is out of int8's range and a < 128. */
static __device__ __forceinline__ uint32_t subtract_bytes(uint32_t a, uint32_t b)
{
    return ((a | 0x80808080) - b) ^ 0x80808080;
}

/* Scale and zero point of a lane's two rows. */
struct int4_rows {
    float scale[2];
    uint32_t zero[2]; /* in all 4 bytes */
};

static __device__ __forceinline__ int4_rows load_rows(const product_args &p, const tile_rows &rows,
                                                      int group)
{
    int4_rows r = {};
    const float unit = p.w_zero ? 1 : 0.0625f;
    if (group >= p.scales)
        return r;
    for (int half = 0; half < 2; half++) {
        const int64_t at = (int64_t)rows.n[half] * p.scales + group;
        r.scale[half] = __ldg(p.w_scale + at) * unit;
        if (p.w_zero)
            r.zero[half] = __ldg(p.w_zero + at) * 0x01010101u;
    }
    return r;
}

/* A of 32 inputs. */
static __device__ __forceinline__ mma_a widen_nibbles(uint32_t top, uint32_t low,
                                                      const int4_rows &r, bool zeros)
{
    if (!zeros)
        return { top << 4 & 0xf0f0f0f0, low << 4 & 0xf0f0f0f0, top & 0xf0f0f0f0, low & 0xf0f0f0f0 };
    top ^= 0x88888888;
    low ^= 0x88888888;
    return { subtract_bytes(top & 0x0f0f0f0f, r.zero[0]),
             subtract_bytes(low & 0x0f0f0f0f, r.zero[1]),
             subtract_bytes(top >> 4 & 0x0f0f0f0f, r.zero[0]),
             subtract_bytes(low >> 4 & 0x0f0f0f0f, r.zero[1]) };
}

template <int GROUPS> struct int4_tile {
    enum {
        STEP = 128,
        A_ROW = 64,
        X_SCALES = GROUPS,
        ROW_SCALE = 0,
        LAG = 0,
        MOST_ROWS = GROUPS == 1 ? 208 : 160,
        GROUP_STEPS = 4 / GROUPS,
    };

    template <int N> struct sums {
        float c[N / 2] = {};
        const product_args &p;
        const tile_rows &rows;

        __device__ sums(const product_args &args, const tile_rows &r) : p(args), rows(r)
        {
        }

        __device__ __forceinline__ void scale(const int (&part)[N / 2], const float *x_scale,
                                              const int4_rows &r)
        {
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
                const float2 x = *(const float2 *)(x_scale + 8 * j + threadIdx.x % 4 * 2);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    c[4 * j + i] += (i % 2 ? x.y : x.x) * r.scale[i / 2] * (float)part[4 * j + i];
            }
        }

        __device__ __forceinline__ void add(const tile_stage &stage)
        {
            const uint64_t b = tile_descriptor(stage.b);
            const uint4 top = tile_codes(stage, rows, 0), low = tile_codes(stage, rows, 1);
            const uint32_t tops[4] = { top.x, top.y, top.z, top.w };
            const uint32_t lows[4] = { low.x, low.y, low.z, low.w };
            const bool zeros = p.w_zero;
#pragma unroll
            for (int s = 0; s < GROUPS; s++) {
                const int4_rows r = load_rows(p, rows, stage.step * GROUPS + s);
                mma_a a[GROUP_STEPS];
                int part[N / 2];
#pragma unroll
                for (int i = 0; i < GROUP_STEPS; i++)
                    a[i] = widen_nibbles(tops[s * GROUP_STEPS + i], lows[s * GROUP_STEPS + i], r,
                                         zeros);
                wgmma_begin();
#pragma unroll
                for (int i = 0; i < GROUP_STEPS; i++)
                    wgmma<N>::int8(part, a[i], b + 2 * (s * GROUP_STEPS + i), i > 0);
                wgmma_end();
                wgmma_wait<0>(part);
                scale(part, stage.x_scale + s * N, r);
            }
        }

        __device__ __forceinline__ void end()
        {
        }
    };
};

#endif
