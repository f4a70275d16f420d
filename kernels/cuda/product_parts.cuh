/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two walks over weights share (product_stream.cuh, product_ring.cuh): a block has 16 MT
 * outputs; each of its 8 warps multiplies every eighth piece of k for all of them, 128 bytes of a
 * row a piece. At the end the 8 sums of an output are added in order of the warps. So the order of
 * sums is the same in both. A form says how a piece of outputs times some rows becomes sums. */
#ifndef GLM4V_CUDA_PRODUCT_PARTS_CUH
#define GLM4V_CUDA_PRODUCT_PARTS_CUH

#include "mma.cuh"
#include "product.cuh"

enum { STREAM_WARPS = 8, STREAM_THREADS = 32 * STREAM_WARPS, PIECE_CHUNKS = 2 };

/* Tile of a block: 16 MT outputs times 8 NT rows; CHUNKS of 64 bytes of a row a stage. */
template <int MT_, int NT_, int CHUNKS_> struct stream_tile {
    enum { MT = MT_, NT = NT_, CHUNKS = CHUNKS_, OUTPUTS = 16 * MT, ROWS = 8 * NT };
};

/* What a lane holds of a stage of weights: of each chunk 16 bytes of rows g and g + 8. */
template <class Form, class Tile> struct stage_weights {
    enum { SCALES = Form::CHUNK_SCALES > 0 ? Form::CHUNK_SCALES : 1 };
    uint4 a[Tile::CHUNKS][Tile::MT][2];
    float scale[Tile::CHUNKS][SCALES][Tile::MT][2];
    int32_t zero[Tile::CHUNKS][SCALES][Tile::MT][2];
};

/* Scales and zero points of a lane's rows for chunks from `first` on. */
template <class Form, class Tile>
static __device__ __forceinline__ void load_scales(stage_weights<Form, Tile> &w,
                                                   const product_args &p,
                                                   const int64_t (&row)[Tile::MT][2], int first)
{
    enum { SCALES = stage_weights<Form, Tile>::SCALES };
#pragma unroll
    for (int i = 0; Form::CHUNK_SCALES > 0 && i < Tile::CHUNKS * SCALES * Tile::MT * 2; i++) {
        const int half = i % 2, mt = i / 2 % Tile::MT, s = i / 2 / Tile::MT % SCALES;
        const int c = i / 2 / Tile::MT / SCALES;
        const int index = Form::scale_index(first + c, s);
        const int64_t at = row[mt][half] * p.scales + index;
        const bool inside = index < p.scales;
        w.scale[c][s][mt][half] = inside ? __ldg(p.w_scale + at) : 0;
        w.zero[c][s][mt][half] = p.w_zero && inside ? __ldg(p.w_zero + at) : 8;
    }
}

/* The matrix row of row g (half 0) or g + 8 (half 1) of part mt of a tile. SILU_MUL: g is gate,
 * g + 8 up. Beyond the end the last one. */
template <class Tile>
static __device__ __forceinline__ int64_t tile_row(const product_args &p, int64_t tile, int g,
                                                   int mt, int half)
{
    if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
        const int64_t n = tile * (Tile::OUTPUTS / 2) + 8 * mt + g;
        return min(n, (int64_t)p.n_out / 2 - 1) + half * (p.n_out / 2);
    }
    return min(tile * Tile::OUTPUTS + 16 * mt + 8 * half + g, (int64_t)p.n_out - 1);
}

template <class Tile>
static __device__ __forceinline__ int64_t row_of_lane(const product_args &p, int64_t tile, int mt,
                                                      int half)
{
    return tile_row<Tile>(p, tile, threadIdx.x % 32 / 4, mt, half);
}

/* A stage of x as lanes read it: column g of B is row 8 nt + g, or the last one. */
struct stage_x {
    const uint8_t *data;
    int row_bytes;      /* between rows: such that lanes meet no bank twice */
    const float *scale; /* [group][scale_row] */
    int scale_row, last;

    __device__ __forceinline__ const uint8_t *row(int nt, int g) const
    {
        return data + min(8 * nt + g, last) * row_bytes;
    }

    /* 16 bytes of the lane's row in tile nt: the t-th from `at` on. */
    __device__ __forceinline__ uint4 words(int nt, int at) const
    {
        return *(const uint4 *)(row(nt, threadIdx.x % 32 / 4) + at + threadIdx.x % 4 * 16);
    }

    /* B of two steps from bytes `at` of the rows in tile nt: words x, y of the first, z, w of the
     * second. */
    __device__ __forceinline__ uint4 steps(int nt, int at) const
    {
        const int lane = threadIdx.x % 32;
        return load_matrices(row(nt, lane % 8) + at + lane / 8 * 16);
    }

    /* Scales of the lane's columns of C. */
    __device__ __forceinline__ float2 scales(int nt, int group) const
    {
        return *(const float2 *)(scale + group * scale_row + 8 * nt + threadIdx.x % 4 * 2);
    }
};

/* The 8 warps' sums of the block's tile, added in order, to y. */
template <class Form, class Tile> struct stream_result {
    enum { PARTIAL_ROW = Tile::ROWS + 1, WARP_PARTIAL = Tile::OUTPUTS * PARTIAL_ROW };
    const product_args &p;
    float *partial; /* [warp][output][PARTIAL_ROW] */
    int64_t tile;
    int first; /* row of x */

    __device__ void put(const float (&sum)[Tile::NT][Tile::MT][4])
    {
        const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        float *mine = partial + warp * WARP_PARTIAL;
#pragma unroll
        for (int i = 0; i < Tile::MT * Tile::NT * 4; i++) {
            const int mt = i / (Tile::NT * 4), nt = i / 4 % Tile::NT, j = i % 4;
            const int output = 16 * mt + g + j / 2 * 8, row = 8 * nt + 2 * t + j % 2;
            mine[output * PARTIAL_ROW + row] = sum[nt][mt][j];
        }
    }

    __device__ float get(int output, int row, int64_t n) const
    {
        float sum = 0;
        for (int warp = 0; warp < STREAM_WARPS; warp++)
            sum += partial[(warp * Tile::OUTPUTS + output) * PARTIAL_ROW + row];
        return Form::ROW_SCALE && p.scales == 1 ? sum * p.w_scale[n] : sum;
    }

    __device__ void finish_row(int row, int64_t t, int i) const
    {
        if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
            const int64_t n = tile * (Tile::OUTPUTS / 2) + i, half = p.n_out / 2;
            const int output = i / 8 * 16 + i % 8;
            if (n < half)
                finish_pair(p, t, (int)n, get(output, row, n), get(output + 8, row, half + n));
            return;
        }
        const int64_t n = tile * Tile::OUTPUTS + i;
        if (n < p.n_out)
            finish(p, t, (int)n, get(i, row, n));
    }

    __device__ void finish_all() const
    {
        const int shift = p.epilogue == GLM4V_CUDA_SILU_MUL, width = Tile::OUTPUTS >> shift;
        const int rows = min(p.rows - first, (int)Tile::ROWS);
        for (int i = threadIdx.x; i < rows * width; i += STREAM_THREADS) {
            const int row = (i << shift) / Tile::OUTPUTS;
            finish_row(row, first + row, i & (width - 1));
        }
    }
};

#endif
