/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products of few rows that read each weight once: as fast as memory. Blocks stay and take every
 * gridDim.x-th tile of 16 outputs. Each warp has a ring of its own in shared memory, which it fills
 * with its pieces of weights (128 bytes of 16 rows) as far ahead as there is room: over the ends of
 * tiles, and before earlier kernels end. Rows of x lie in shared memory as a whole. */
#ifndef GLM4V_CUDA_PRODUCT_RING_CUH
#define GLM4V_CUDA_PRODUCT_RING_CUH

#include "product_parts.cuh"

enum { RING_ROW = PIECE_CHUNKS * CHUNK_BYTES };

/* Shared memory of a block: rings [warp][stage][16 rows of weights, their scales], sums (twice, so
 * that one barrier a tile is enough), x, its scales [group][row]. */
template <class Form, int NT> struct ring_layout {
    typedef stream_tile<1, NT, PIECE_CHUNKS> tile;
    static constexpr int STAGES = Form::RING_STAGES;
    static constexpr int PIECE_SCALES = Form::PIECE_SCALES; /* of a row of weights */
    static constexpr int WEIGHTS = 16 * RING_ROW;
    static constexpr int STAGE = WEIGHTS + 16 * PIECE_SCALES * 4;
    static constexpr int PARTIAL = STREAM_WARPS * stream_result<Form, tile>::WARP_PARTIAL;
    static constexpr int PARTIAL_AT = STREAM_WARPS * STAGES * STAGE;
    static constexpr int X_AT = PARTIAL_AT + 2 * PARTIAL * 4;

    /* Bytes of a row of x, filled up to whole pieces, and from row to row. */
    static __host__ __device__ int x_filled(const product_args &p)
    {
        return (int)(round_up(p.w_bytes, RING_ROW) / CHUNK_BYTES * Form::CHUNK_X);
    }

    static __host__ __device__ int x_row(const product_args &p)
    {
        return x_filled(p) + Form::PAD;
    }

    static __host__ __device__ int x_groups(const product_args &p)
    {
        if (Form::CHUNK_X_SCALES == 0)
            return 0;
        return x_filled(p) / Form::X_GROUP;
    }

    static __host__ __device__ int bytes(const product_args &p)
    {
        return X_AT + p.rows * x_row(p) + x_groups(p) * tile::ROWS * 4;
    }
};

/* A place in the order of a warp's work: pieces of a tile, then of the block's next tile. */
struct ring_step {
    int64_t tile;
    int piece, stage;
};

/* The step whose weights are loaded next: the lane's bytes of rows lane / 8 + 4 i. */
struct ring_source {
    ring_step at;
    const uint8_t *row[4];
};

template <class Form, int NT> struct ring_block {
    typedef ring_layout<Form, NT> layout;
    typedef typename layout::tile ring_tile;
    const product_args &p;
    uint8_t *shared;
    int pieces; /* of a row */
    int64_t tiles;

    __device__ ring_block(const product_args &args, uint8_t *block_shared)
        : p(args), shared(block_shared)
    {
        const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        pieces = (int)((p.w_bytes + RING_ROW - 1) / RING_ROW);
        tiles = pairs ? (p.n_out / 2 + 7) / 8 : ((int64_t)p.n_out + 15) / 16;
    }

    __device__ ring_step first_step() const
    {
        const int warp = threadIdx.x / 32;
        return { warp < pieces ? (int64_t)blockIdx.x : tiles, warp, 0 };
    }

    /* Is it a new tile? */
    __device__ __forceinline__ bool advance(ring_step &at) const
    {
        at.piece += STREAM_WARPS;
        if (++at.stage == layout::STAGES)
            at.stage = 0;
        if (at.piece < pieces)
            return false;
        at.piece = threadIdx.x / 32;
        at.tile += gridDim.x;
        return true;
    }

    __device__ __forceinline__ void find_rows(ring_source &ahead) const
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int r = 4 * i + lane / 8;
            const int64_t row = tile_row<ring_tile>(p, ahead.at.tile, r % 8, 0, r / 8);
            ahead.row[i] = p.w + row * p.w_bytes + lane % 8 * 16;
        }
    }

    __device__ __forceinline__ uint8_t *stage(int i) const
    {
        return shared + (threadIdx.x / 32 * layout::STAGES + i) * layout::STAGE;
    }

    /* Where unit u (16 bytes) of row r of a stage lies: lanes that read at once meet no bank
     * twice. */
    static __device__ __forceinline__ int unit_at(int r, int u)
    {
        return r * RING_ROW + (u ^ (r & 1) << 2) * 16;
    }

    /* A piece on its way to the ring; 8 lanes a row. One group of copies, also behind the end. */
    __device__ __forceinline__ void load(ring_source &ahead) const
    {
        const int lane = threadIdx.x % 32, unit = lane % 8;
        const int from = ahead.at.piece * RING_ROW;
        const int n = from + unit * 16 < p.w_bytes ? 16 : 0;
        if (ahead.at.tile < tiles) {
            uint8_t *to = stage(ahead.at.stage);
#pragma unroll
            for (int i = 0; i < 4; i++)
                copy_16(to + unit_at(4 * i + lane / 8, unit), n ? ahead.row[i] + from : p.w, n);
            if (layout::PIECE_SCALES > 0 && (Form::ROW_SCALE == 0 || p.scales > 1))
                copy_scales(ahead.at);
        }
        end_copies();
        if (advance(ahead.at) && ahead.at.tile < tiles)
            find_rows(ahead);
    }

    /* Scales [row][PIECE_SCALES]. */
    __device__ __forceinline__ void copy_scales(const ring_step &at) const
    {
        float *to = (float *)(stage(at.stage) + layout::WEIGHTS);
        constexpr int n = layout::PIECE_SCALES > 0 ? layout::PIECE_SCALES : 1;
        for (int i = threadIdx.x % 32; i < 16 * n; i += 32) {
            const int r = i / n, group = at.piece * n + i % n;
            const int64_t row = tile_row<ring_tile>(p, at.tile, r % 8, 0, r / 8);
            const bool inside = group < p.scales;
            copy_4(to + i, inside ? p.w_scale + row * p.scales + group : p.w_scale, inside ? 4 : 0);
        }
    }

    __device__ uint8_t *x_rows() const
    {
        return shared + layout::X_AT;
    }

    __device__ float *x_scales() const
    {
        return (float *)(x_rows() + p.rows * layout::x_row(p));
    }

    /* All of x, beyond its end zeros; one group of copies. */
    __device__ void copy_x() const
    {
        const int units = layout::x_filled(p) / 16, groups = layout::x_groups(p);
        const int there = count_groups(p.n_in, Form::X_GROUP);
        for (int r = 0; r < p.rows; r++) {
            const uint8_t *x = p.x + r * p.x_bytes;
            for (int i = threadIdx.x; i < units; i += STREAM_THREADS) {
                const int n = max(0, min(16, p.x_valid - 16 * i));
                copy_16(x_rows() + r * layout::x_row(p) + 16 * i, n ? x + 16 * i : p.x, n);
            }
            for (int g = threadIdx.x; g < groups; g += STREAM_THREADS) {
                const bool inside = g < there;
                const float *scale = p.x_scale + r * p.ldscale;
                copy_4(x_scales() + g * ring_tile::ROWS + r, inside ? scale + g : p.x_scale,
                       inside ? 4 : 0);
            }
        }
        end_copies();
    }

    /* A stage to registers. */
    __device__ __forceinline__ void fetch(stage_weights<Form, ring_tile> &w, int at) const
    {
        const int lane = threadIdx.x % 32, g = lane / 4;
        const float *scales = (const float *)(stage(at) + layout::WEIGHTS);
#pragma unroll
        for (int i = 0; i < 2 * PIECE_CHUNKS; i++) {
            const int c = i / 2, half = i % 2;
            w.a[c][0][half] = *(const uint4 *)(stage(at) + unit_at(g + 8 * half, 4 * c + lane % 4));
#pragma unroll
            for (int s = 0; s < Form::CHUNK_SCALES; s++)
                w.scale[c][s][0][half] =
                    scales[(g + 8 * half) * layout::PIECE_SCALES + Form::scale_index(c, s)];
        }
    }

    /* Zero points come straight from memory. */
    __device__ __forceinline__ void fetch_zeros(stage_weights<Form, ring_tile> &w,
                                                const ring_step &at) const
    {
#pragma unroll
        for (int i = 0; i < PIECE_CHUNKS * Form::CHUNK_SCALES * 2; i++) {
            const int c = i / (2 * Form::CHUNK_SCALES), s = i / 2 % Form::CHUNK_SCALES;
            const int index = Form::scale_index(at.piece * PIECE_CHUNKS + c, s);
            const int64_t row = row_of_lane<ring_tile>(p, at.tile, 0, i % 2);
            w.zero[c][s][0][i % 2] = 8;
            if (p.w_zero && index < p.scales)
                w.zero[c][s][0][i % 2] = __ldg(p.w_zero + row * p.scales + index);
        }
    }

    __device__ __forceinline__ stage_x x_of(int piece) const
    {
        const int at = piece * PIECE_CHUNKS * Form::CHUNK_X;
        const int group = at / Form::X_GROUP; /* nothing where x has no scales */
        return { x_rows() + at, layout::x_row(p), x_scales() + group * ring_tile::ROWS,
                 ring_tile::ROWS, p.rows - 1 };
    }

    /* This warp's pieces of a tile. */
    __device__ __forceinline__ void add_pieces(float (&sum)[NT][1][4], ring_step &now,
                                               ring_source &ahead) const
    {
        const int64_t tile = now.tile;
        while (now.tile == tile && tile < tiles) {
            stage_weights<Form, ring_tile> w;
            if constexpr (Form::CHUNK_SCALES > 0)
                fetch_zeros(w, now);
            wait_for_copies<layout::STAGES - 2>();
            __syncwarp();
            fetch(w, now.stage);
            load(ahead);
            Form::template multiply<ring_tile>(sum, w, x_of(now.piece), p);
            advance(now);
        }
    }

    __device__ void multiply_all() const
    {
        float *partial = (float *)(shared + layout::PARTIAL_AT);
        ring_step now = first_step();
        ring_source ahead = { now, {} };
        int turn = 0;
        find_rows(ahead);
        for (int s = 0; s < layout::STAGES - 1; s++)
            load(ahead);
        wait_for_earlier();
        copy_x();
        wait_for_copies<0>();
        __syncthreads();
        for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x, turn ^= 1) {
            float sum[NT][1][4] = {};
            stream_result<Form, ring_tile> result = { p, partial + turn * layout::PARTIAL, tile,
                                                      0 };
            add_pieces(sum, now, ahead);
            result.put(sum);
            __syncthreads();
            result.finish_all();
        }
        wait_for_copies<0>();
    }
};

template <class Form, int NT>
__global__ void __launch_bounds__(STREAM_THREADS, NT == 1 ? Form::BLOCKS : 2)
    ring_product(const product_args p)
{
    extern __shared__ __align__(16) uint8_t shared[];
    const ring_block<Form, NT> block(p, shared);

    let_next_begin();
    block.multiply_all();
}

/* Few rows, and room for them. */
template <class Form, int NT> static bool ring_takes(const product_args &p, int limit)
{
    return p.rows <= 8 * NT && ring_layout<Form, NT>::bytes(p) <= limit;
}

template <class Form, int NT>
static cudaError_t launch_ring(cudaStream_t stream, const product_args &p)
{
    const int bytes = ring_layout<Form, NT>::bytes(p);
    const int64_t tiles =
        p.epilogue == GLM4V_CUDA_SILU_MUL ? (p.n_out / 2 + 7) / 8 : ((int64_t)p.n_out + 15) / 16;
    int device, processors = 0, blocks = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(ring_product<Form, NT>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, ring_product<Form, NT>,
                                                              STREAM_THREADS, (size_t)bytes);
    if (error != cudaSuccess)
        return error;
    const int64_t most = (int64_t)processors * blocks;
    return launch(ring_product<Form, NT>, dim3((unsigned)(tiles < most ? tiles : most)),
                  dim3(STREAM_THREADS), (size_t)bytes, stream, p);
}

#endif
