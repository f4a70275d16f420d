/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products of many rows by mma.sync, for any device. A block has 128 outputs times 64 rows, a warp
 * 32 times 32 of them; weights and rows of x go through shared memory, a stage ahead. Sums go
 * through all of k in order. */
#ifndef GLM4V_CUDA_PRODUCT_BLOCKS_CUH
#define GLM4V_CUDA_PRODUCT_BLOCKS_CUH

#include "product_parts.cuh"

enum {
    BLOCK_OUTPUTS = 128,
    BLOCK_ROWS = 64,
    BLOCK_THREADS = 256,
    BLOCK_STAGES = 2,
    BLOCK_COLUMNS = 4, /* warps along outputs; 2 along rows */
};

/* Shared memory of a stage: rows of weights, rows of x, scales of x [group][row]. */
template <class Form> struct block_layout {
    typedef stream_tile<2, 4, Form::FEW_CHUNKS> tile; /* of a warp */
    static constexpr int W_BYTES = tile::CHUNKS * CHUNK_BYTES;
    static constexpr int W_ROW = W_BYTES % 128 ? W_BYTES : W_BYTES + 64;
    static constexpr int X_BYTES = tile::CHUNKS * Form::CHUNK_X;
    static constexpr int X_ROW = X_BYTES + Form::PAD;
    static constexpr int GROUPS = Form::CHUNK_X_SCALES * tile::CHUNKS / Form::X_SCALE_CHUNKS;
    static constexpr int X_AT = BLOCK_OUTPUTS * W_ROW;
    static constexpr int SCALES_AT = X_AT + BLOCK_ROWS * X_ROW;
    static constexpr int STAGE = SCALES_AT + GROUPS * BLOCK_ROWS * 4;
    static constexpr int BYTES = STAGE * BLOCK_STAGES;
};

template <class Form> struct block_walk {
    typedef block_layout<Form> layout;
    typedef typename layout::tile tile;
    const product_args &p;
    uint8_t *shared;
    int steps, first_row;

    __device__ block_walk(const product_args &args, uint8_t *block_shared)
        : p(args), shared(block_shared)
    {
        steps = (int)((p.w_bytes + layout::W_BYTES - 1) / layout::W_BYTES);
        first_row = blockIdx.x * BLOCK_ROWS;
    }

    __device__ uint8_t *stage(int step) const
    {
        return shared + step % BLOCK_STAGES * layout::STAGE;
    }

    /* The matrix row of row r of the block. */
    __device__ int64_t weights_row(int r) const
    {
        const int64_t part = (int64_t)blockIdx.y * BLOCK_COLUMNS + r / tile::OUTPUTS;
        return tile_row<tile>(p, part, r % 8, r % tile::OUTPUTS / 16, r / 8 % 2);
    }

    __device__ void copy(int step) const
    {
        copy_weights(step);
        copy_x(step);
        if constexpr (layout::GROUPS > 0)
            copy_scales(step);
    }

    __device__ __forceinline__ void copy_weights(int step) const
    {
        constexpr int units = layout::W_BYTES / 16;
        for (int i = threadIdx.x; i < BLOCK_OUTPUTS * units; i += BLOCK_THREADS) {
            const int r = i / units, unit = i % units;
            const int64_t at = (int64_t)step * layout::W_BYTES + unit * 16;
            const bool inside = at < p.w_bytes;
            copy_16(stage(step) + r * layout::W_ROW + unit * 16,
                    inside ? p.w + weights_row(r) * p.w_bytes + at : p.w, inside ? 16 : 0);
        }
    }

    __device__ __forceinline__ void copy_x(int step) const
    {
        constexpr int units = layout::X_BYTES / 16;
        for (int i = threadIdx.x; i < BLOCK_ROWS * units; i += BLOCK_THREADS) {
            const int r = i / units, at = step * layout::X_BYTES + i % units * 16;
            const int row = first_row + r;
            const int n = row < p.rows ? max(0, min(16, p.x_valid - at)) : 0;
            copy_16(stage(step) + layout::X_AT + r * layout::X_ROW + i % units * 16,
                    n ? p.x + row * p.x_bytes + at : p.x, n);
        }
    }

    __device__ __forceinline__ void copy_scales(int step) const
    {
        const int groups = count_groups(p.n_in, Form::X_GROUP);
        for (int i = threadIdx.x; i < BLOCK_ROWS * layout::GROUPS; i += BLOCK_THREADS) {
            const int row = first_row + i % BLOCK_ROWS;
            const int group = step * layout::GROUPS + i / BLOCK_ROWS;
            const bool inside = row < p.rows && group < groups;
            copy_4(stage(step) + layout::SCALES_AT + 4 * i,
                   inside ? p.x_scale + row * p.ldscale + group * p.ldgroup : p.x_scale,
                   inside ? 4 : 0);
        }
    }

    __device__ __forceinline__ void fetch(stage_weights<Form, tile> &w, int step) const
    {
        const int lane = threadIdx.x % 32, column = threadIdx.x / 32 % BLOCK_COLUMNS;
        const uint8_t *from = stage(step) + (column * tile::OUTPUTS + lane / 4) * layout::W_ROW;
#pragma unroll
        for (int i = 0; i < tile::CHUNKS * tile::MT * 2; i++) {
            const int c = i / 2 / tile::MT, mt = i / 2 % tile::MT, half = i % 2;
            w.a[c][mt][half] = *(const uint4 *)(from + (16 * mt + 8 * half) * layout::W_ROW +
                                                c * CHUNK_BYTES + lane % 4 * 16);
        }
    }

    __device__ __forceinline__ stage_x x_of(int step) const
    {
        const int row = threadIdx.x / 32 / BLOCK_COLUMNS * tile::ROWS;
        return { stage(step) + layout::X_AT + row * layout::X_ROW, layout::X_ROW,
                 (const float *)(stage(step) + layout::SCALES_AT) + row, BLOCK_ROWS,
                 tile::ROWS - 1 };
    }
};

/* A warp's sums to y. */
template <class Form> struct block_result {
    typedef typename block_layout<Form>::tile tile;
    const product_args &p;
    int64_t part; /* tile of outputs of the warp */
    int row;      /* first one of the warp */

    __device__ float scaled(float sum, int64_t n) const
    {
        return Form::ROW_SCALE && p.scales == 1 ? sum * p.w_scale[n] : sum;
    }

    __device__ __forceinline__ void put(const float (&sum)[tile::NT][tile::MT][4]) const
    {
        const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        const int g = threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < tile::NT * tile::MT * 2; i++) {
            const int nt = i / 2 / tile::MT, mt = i / 2 % tile::MT, j = i % 2;
            const int t = row + 8 * nt + threadIdx.x % 4 * 2 + j;
            const float top = sum[nt][mt][j], low = sum[nt][mt][j + 2];
            if (t >= p.rows)
                continue;
            if (pairs)
                put_pair(t, part * (tile::OUTPUTS / 2) + 8 * mt + g, top, low);
            else
                put_both(t, part * tile::OUTPUTS + 16 * mt + g, top, low);
        }
    }

    __device__ void put_pair(int t, int64_t n, float gate, float up) const
    {
        if (n < p.n_out / 2)
            finish_pair(p, t, (int32_t)n, scaled(gate, n), scaled(up, p.n_out / 2 + n));
    }

    __device__ void put_both(int t, int64_t n, float top, float low) const
    {
        if (n < p.n_out)
            finish(p, t, (int32_t)n, scaled(top, n));
        if (n + 8 < p.n_out)
            finish(p, t, (int32_t)n + 8, scaled(low, n + 8));
    }
};

template <class Form>
__global__ void __launch_bounds__(BLOCK_THREADS) block_product(const product_args p)
{
    typedef typename block_layout<Form>::tile tile;
    extern __shared__ __align__(128) uint8_t shared[];
    const block_walk<Form> walk(p, shared);
    const int64_t part = (int64_t)blockIdx.y * BLOCK_COLUMNS + threadIdx.x / 32 % BLOCK_COLUMNS;
    const int row = walk.first_row + threadIdx.x / 32 / BLOCK_COLUMNS * tile::ROWS;
    int64_t rows[tile::MT][2];
    float sum[tile::NT][tile::MT][4] = {};

    let_next_begin();
    wait_for_earlier();
    for (int i = 0; i < 2 * tile::MT; i++)
        rows[i / 2][i % 2] = row_of_lane<tile>(p, part, i / 2, i % 2);
    walk.copy(0);
    end_copies();
    for (int step = 0; step < walk.steps; step++) {
        stage_weights<Form, tile> w;
        if (step + 1 < walk.steps)
            walk.copy(step + 1);
        end_copies();
        load_scales(w, p, rows, step * tile::CHUNKS);
        wait_for_copies<1>();
        __syncthreads();
        walk.fetch(w, step);
        Form::template multiply<tile>(sum, w, walk.x_of(step), p);
        __syncthreads();
    }
    const block_result<Form> result = { p, part, row };
    result.put(sum);
}

template <class Form> static cudaError_t launch_blocks(cudaStream_t stream, const product_args &p)
{
    constexpr int bytes = block_layout<Form>::BYTES;
    const unsigned rows = (unsigned)((p.rows + BLOCK_ROWS - 1) / BLOCK_ROWS);
    const unsigned outputs = (unsigned)((p.n_out + BLOCK_OUTPUTS - 1) / BLOCK_OUTPUTS);
    const cudaError_t error = cudaFuncSetAttribute(
        block_product<Form>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess)
        return error;
    return launch(block_product<Form>, dim3(rows, outputs), dim3(BLOCK_THREADS), (size_t)bytes,
                  stream, p);
}

#endif
