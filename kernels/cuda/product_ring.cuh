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
    static constexpr int STAGE = (WEIGHTS + 16 * PIECE_SCALES * 4 + 127) / 128 * 128;
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

/* Which rows of the matrix a tile has: tile_row of a block of 16 outputs in a few instructions. */
struct ring_rows {
    int step, low, last, half;

    __device__ explicit ring_rows(const product_args &p)
    {
        const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        step = pairs ? 8 : 16;
        low = pairs ? 0 : 8;
        half = pairs ? p.n_out / 2 : 0;
        last = (pairs ? half : p.n_out) - 1;
    }

    __device__ __forceinline__ int row(int tile, int r) const
    {
        const int n = min(tile * step + r % 8 + (r < 8 ? 0 : low), last);
        return r < 8 ? n : n + half;
    }
};

/* What is loaded next of a warp's work: pieces of a tile, then of the block's next tile. Copies of
 * a lane: 16 bytes of rows 4 i + lane / 8, and of scales [row][PIECE_SCALES] every 32nd. */
template <class Form> struct ring_source {
    enum { SCALES = 16 * Form::PIECE_SCALES, SCALE_COPIES = SCALES > 32 ? SCALES / 32 : 1 };
    int tile;
    uint32_t at; /* bytes of a row before the piece */
    const uint8_t *row[4], *scale[SCALE_COPIES];
};

/* A value that the compiler keeps in a register and does not count again at each use. */
static __device__ __forceinline__ uint32_t keep(uint32_t value)
{
    return __shfl_sync(~0u, value, threadIdx.x % 32);
}

/* Where a lane finds its part of things in shared memory: counted once, for the loop over pieces
 * has no instruction to spare. A stage is named by its `fetch`. */
template <class Form, int NT> struct ring_lane {
    typedef ring_layout<Form, NT> layout;
    uint32_t fetch, end;                /* weights of row g in the warp's first and last stage */
    uint32_t copy, scales, copy_scales; /* from there to other parts of a stage */
    uint32_t x[NT], x_scale;
    uint32_t limit, scale_limit; /* ring_source::at where it copies no more */

    __device__ ring_lane(const product_args &p, const uint8_t *shared)
    {
        constexpr int n = Form::PIECE_SCALES > 0 ? Form::PIECE_SCALES : 1;
        const int lane = threadIdx.x % 32, g = lane / 4, mine = unit_at(g, lane % 4);
        const uint32_t begin = shared_address(shared), x_at = begin + layout::X_AT;
        fetch = keep(begin + threadIdx.x / 32 * layout::STAGES * layout::STAGE + mine);
        end = keep(fetch + (layout::STAGES - 1) * layout::STAGE);
        copy = keep(unit_at(lane / 8, lane % 8) - mine);
        scales = keep(layout::WEIGHTS + g * n * 4 - mine);
        copy_scales = keep(layout::WEIGHTS + lane * 4 - mine);
        for (int nt = 0; nt < NT; nt++)
            x[nt] = keep(x_at + (Form::X_STEPS ? x_row(p, nt, lane % 8) + lane / 8 * 16
                                               : x_row(p, nt, g) + lane % 4 * 16));
        x_scale = keep(x_at + p.rows * layout::x_row(p) + lane % 4 * 8);
        limit = keep(max(0, (int)p.w_bytes - lane % 8 * 16));
        scale_limit = keep((p.scales - lane % n + n - 1) / n * RING_ROW);
    }

    /* Column g of part nt of B: a row of x, or the last one. */
    static __device__ int x_row(const product_args &p, int nt, int g)
    {
        return min(8 * nt + g, p.rows - 1) * layout::x_row(p);
    }

    /* Where unit u (16 bytes) of row r of a stage lies: lanes that read at once meet no bank
     * twice. */
    static __device__ int unit_at(int r, int u)
    {
        return r * RING_ROW + (u ^ (r & 1) << 2) * 16;
    }
};

/* A piece of x as lanes read it, like stage_x. */
template <class Form, int NT> struct ring_x {
    const ring_lane<Form, NT> &lane;
    int piece;

    __device__ __forceinline__ uint32_t data(int nt, int at) const
    {
        return lane.x[nt] + piece * (PIECE_CHUNKS * Form::CHUNK_X) + at;
    }

    __device__ __forceinline__ uint4 words(int nt, int at) const
    {
        return load_shared_16(data(nt, at));
    }

    __device__ __forceinline__ uint4 steps(int nt, int at) const
    {
        return load_matrices(data(nt, at));
    }

    __device__ __forceinline__ float2 scales(int nt, int group) const
    {
        enum { GROUPS = PIECE_CHUNKS * Form::CHUNK_X / Form::X_GROUP, GROUP = 8 * NT * 4 };
        const uint2 bits =
            load_shared_8(lane.x_scale + piece * (GROUPS * GROUP) + group * GROUP + nt * 32);
        return make_float2(__uint_as_float(bits.x), __uint_as_float(bits.y));
    }
};

template <class Form, int NT> struct ring_block {
    typedef ring_layout<Form, NT> layout;
    typedef typename layout::tile ring_tile;
    typedef ring_source<Form> source;
    const product_args &p;
    const ring_rows rows;
    const ring_lane<Form, NT> lane;
    uint8_t *const shared;
    const int tiles;
    const uint64_t once;            /* of weights: others stay in the L2 cache rather than these */
    const int64_t step, scale_step; /* from a tile's rows to the next one's, in bytes */

    __device__ ring_block(const product_args &args, uint8_t *block_shared)
        : p(args), rows(args), lane(args, block_shared), shared(block_shared),
          tiles(rows.last / rows.step + 1), once(read_once()),
          step((int64_t)gridDim.x * rows.step * args.w_bytes),
          scale_step((int64_t)gridDim.x * rows.step * args.scales * 4)
    {
    }

    static __device__ __forceinline__ int lane_id()
    {
        return threadIdx.x % 32;
    }

    static __device__ __forceinline__ uint32_t first_piece()
    {
        return threadIdx.x / 32 * RING_ROW;
    }

    __device__ __forceinline__ uint32_t next_stage(uint32_t at) const
    {
        return at + (at == lane.end ? -(layout::STAGES - 1) * layout::STAGE : layout::STAGE);
    }

    /* Scales of weights lie in the ring. */
    __device__ __forceinline__ bool has_scales() const
    {
        return Form::PIECE_SCALES > 0 && (!Form::ROW_SCALE || p.scales > 1);
    }

    __device__ __forceinline__ void find_rows(source &ahead) const
    {
        constexpr int n = Form::PIECE_SCALES > 0 ? Form::PIECE_SCALES : 1;
        const uint8_t *w = p.w + lane_id() % 8 * 16;
        const uint8_t *scale = (const uint8_t *)(p.w_scale + lane_id() % n);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t row = rows.row(ahead.tile, 4 * i + lane_id() / 8);
            ahead.row[i] = w + (uint64_t)row * (uint32_t)p.w_bytes;
        }
        if (!has_scales())
            return;
#pragma unroll
        for (int i = 0; i < source::SCALE_COPIES; i++) {
            const uint32_t row = rows.row(ahead.tile, (lane_id() / n + i * 32 / n) % 16);
            ahead.scale[i] = scale + (uint64_t)row * (uint32_t)(p.scales * 4);
        }
    }

    /* The block's next tile. */
    __device__ __forceinline__ void next_tile(source &ahead) const
    {
        ahead.tile += gridDim.x;
        ahead.at = first_piece();
        if ((ahead.tile + 1) * rows.step - 1 > rows.last) {
            find_rows(ahead);
            return;
        }
        for (const uint8_t *&row : ahead.row)
            row += step;
        if (has_scales())
            for (const uint8_t *&scale : ahead.scale)
                scale += scale_step;
    }

    /* A piece on its way to a stage of the ring, 8 lanes a row. One group of copies, also behind
     * the end. */
    __device__ __forceinline__ void load(source &ahead, uint32_t stage) const
    {
        if (ahead.tile < tiles) {
            const int n = ahead.at < lane.limit ? 16 : 0;
#pragma unroll
            for (int i = 0; i < 4; i++)
                copy_16_once(stage + lane.copy + 4 * i * RING_ROW, ahead.row[i] + ahead.at, n,
                             once);
            if (has_scales())
                copy_scales(ahead, stage);
            ahead.at += STREAM_WARPS * RING_ROW;
            if (ahead.at >= (uint32_t)p.w_bytes)
                next_tile(ahead);
        }
        end_copies();
    }

    __device__ __forceinline__ void copy_scales(const source &ahead, uint32_t stage) const
    {
        const uint32_t from = ahead.at / (RING_ROW / 4) * Form::PIECE_SCALES;
        const int n = ahead.at < lane.scale_limit ? 4 : 0;
#pragma unroll
        for (int i = 0; i < source::SCALE_COPIES; i++)
            if (source::SCALES >= 32 || lane_id() < source::SCALES)
                copy_4(stage + lane.copy_scales + i * 128, ahead.scale[i] + from, n);
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
#pragma unroll 1
        for (int r = 0; r < p.rows; r++) {
            const uint8_t *x = p.x + r * p.x_bytes;
#pragma unroll 1
            for (int i = threadIdx.x; i < units; i += STREAM_THREADS) {
                const int n = max(0, min(16, p.x_valid - 16 * i));
                copy_16(x_rows() + r * layout::x_row(p) + 16 * i, n ? x + 16 * i : p.x, n);
            }
#pragma unroll 1
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
    __device__ __forceinline__ void fetch(stage_weights<Form, ring_tile> &w, uint32_t stage) const
    {
        /* The second chunk is the other half of 128 aligned bytes. */
#pragma unroll
        for (int c = 0; c < PIECE_CHUNKS; c++) {
            const uint32_t from = stage ^ c * CHUNK_BYTES;
            w.a[c][0][0] = load_shared_16(from);
            w.a[c][0][1] = load_shared_16(from + 8 * RING_ROW);
        }
        if constexpr (Form::CHUNK_SCALES > 0) {
            if (has_scales())
                fetch_scales(w, stage + lane.scales);
        }
    }

    template <int N>
    static __device__ __forceinline__ void load_scales(uint32_t (&scale)[N], uint32_t from)
    {
        if (N == 1)
            scale[0] = load_shared_4(from);
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const uint2 two = load_shared_8(from + 8 * i);
            scale[2 * i] = two.x;
            scale[2 * i + 1] = two.y;
        }
    }

    static __device__ __forceinline__ void fetch_scales(stage_weights<Form, ring_tile> &w,
                                                        uint32_t from)
    {
        enum { N = Form::PIECE_SCALES };
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t scale[N];
            load_scales(scale, from + 8 * half * N * 4);
#pragma unroll
            for (int i = 0; i < PIECE_CHUNKS * Form::CHUNK_SCALES; i++) {
                const int c = i / Form::CHUNK_SCALES, s = i % Form::CHUNK_SCALES;
                w.scale[c][s][0][half] = __uint_as_float(scale[Form::scale_index(c, s)]);
            }
        }
    }

    /* Zero points come straight from memory. */
    __device__ __forceinline__ void fetch_zeros(stage_weights<Form, ring_tile> &w, int tile,
                                                int piece) const
    {
#pragma unroll
        for (int i = 0; i < PIECE_CHUNKS * Form::CHUNK_SCALES * 2; i++) {
            const int c = i / (2 * Form::CHUNK_SCALES), s = i / 2 % Form::CHUNK_SCALES;
            const int index = Form::scale_index(piece * PIECE_CHUNKS + c, s);
            const int64_t row = rows.row(tile, lane_id() / 4 + i % 2 * 8);
            w.zero[c][s][0][i % 2] =
                index < p.scales ? __ldg(p.w_zero + row * p.scales + index) : 8;
        }
    }

    /* This warp's pieces of a tile; stage: of the first. A stage is loaded again as soon as all
     * lanes have it in registers. */
    __device__ __forceinline__ void add_pieces(float (&sum)[NT][1][4], int tile, uint32_t &stage,
                                               source &ahead) const
    {
        const int pieces = (int)((p.w_bytes + RING_ROW - 1) / RING_ROW);
        for (int piece = threadIdx.x / 32; piece < pieces; piece += STREAM_WARPS) {
            stage_weights<Form, ring_tile> w;
            if constexpr (Form::ZEROS)
                fetch_zeros(w, tile, piece);
            wait_for_copies<layout::STAGES - 1>();
            __syncwarp();
            fetch(w, stage);
            __syncwarp();
            load(ahead, stage);
            const ring_x<Form, NT> x = { lane, piece };
            Form::template multiply<ring_tile>(sum, w, x, p);
            stage = next_stage(stage);
        }
    }

    /* Biases and scales of a tile's outputs are read from memory when the sums are complete: until
     * then they come to the L2 cache. */
    __device__ __forceinline__ void fetch_ahead(int tile) const
    {
        if (threadIdx.x >= 2 || tile >= tiles)
            return;
        const int n = rows.row(tile, threadIdx.x * 8);
        if (p.bias)
            to_l2(p.bias + n);
        if (Form::ROW_SCALE && p.scales == 1)
            to_l2(p.w_scale + n);
    }

    __device__ void multiply_all() const
    {
        float *partial = (float *)(shared + layout::PARTIAL_AT);
        source ahead = {
            first_piece() < p.w_bytes ? (int)blockIdx.x : tiles, first_piece(), {}, {}
        };
        uint32_t stage = lane.fetch;
        int turn = 0;
        find_rows(ahead);
        for (int s = 0; s < layout::STAGES; s++)
            load(ahead, stage + s * layout::STAGE);
        fetch_ahead(blockIdx.x);
        wait_for_earlier();
        copy_x();
        wait_for_copies<0>();
        __syncthreads();
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, turn ^= 1) {
            float sum[NT][1][4] = {};
            stream_result<Form, ring_tile> result = { p, partial + turn * layout::PARTIAL, tile,
                                                      0 };
            fetch_ahead(tile + gridDim.x);
            add_pieces(sum, tile, stage, ahead);
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
    extern __shared__ __align__(128) uint8_t shared[];
    const ring_block<Form, NT> block(p, shared);

    let_next_begin();
    block.multiply_all();
}

/* Few rows, and room for them. */
template <class Form, int NT> static bool ring_takes(const product_args &p, int limit)
{
    return p.rows <= 8 * NT && ring_layout<Form, NT>::bytes(p) <= limit;
}

/* What a block may have is the kernel's attribute, which threads of one process share: as it is set
 * to the device's limit and not to what this call needs, none makes another's launch fail. */
template <class Form, int NT>
static cudaError_t launch_ring(cudaStream_t stream, const product_args &p, int limit)
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
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
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
