/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products that read each weight once, through registers: for any device and any number of rows. A
 * block has one tile of outputs. Weights go from memory to registers, STAGES stages ahead; rows of
 * x through shared memory, each warp its own pieces. A stage is a piece or half of one
 * (Tile::CHUNKS): how many rows there are changes tile and stage sizes, never the order of sums. */
#ifndef GLM4V_CUDA_PRODUCT_STREAM_CUH
#define GLM4V_CUDA_PRODUCT_STREAM_CUH

#include "product_ring.cuh"

enum { STAGES = 2 };

/* A stage of x in shared memory: rows of ROW_BYTES (how far apart says the form, so that lanes meet
 * no bank twice), then scales [group][row]. */
template <class Form, class Tile> struct stage_layout {
    enum {
        X_BYTES = Form::CHUNK_X * Tile::CHUNKS,
        ROW_BYTES = X_BYTES + Form::PAD,
        GROUPS = Form::CHUNK_X_SCALES * Tile::CHUNKS / Form::X_SCALE_CHUNKS,
        SCALES = ROW_BYTES * Tile::ROWS,
        BYTES = SCALES + GROUPS * Tile::ROWS * 4,
        WARP_BYTES = BYTES * STAGES,
        PARTIAL_BYTES = STREAM_WARPS * stream_result<Form, Tile>::WARP_PARTIAL * 4,
        COPY_BYTES = WARP_BYTES * STREAM_WARPS,
        BLOCK_BYTES = COPY_BYTES > PARTIAL_BYTES ? COPY_BYTES : PARTIAL_BYTES,
    };
};

/* A warp's way through k. */
template <class Form, class Tile> struct stream_walk {
    typedef stage_layout<Form, Tile> layout;
    const product_args &p;
    uint8_t *shared; /* of this warp */
    int64_t row[Tile::MT][2];
    int stages; /* of this warp */

    __device__ stream_walk(const product_args &args, uint8_t *block_shared) : p(args)
    {
        const int warp = threadIdx.x / 32;
        const int chunks = (int)((p.w_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
        const int pieces = (chunks + PIECE_CHUNKS - 1) / PIECE_CHUNKS;
        shared = block_shared + warp * layout::WARP_BYTES;
        stages = (pieces - warp + STREAM_WARPS - 1) / STREAM_WARPS * (PIECE_CHUNKS / Tile::CHUNKS);
        for (int mt = 0; mt < Tile::MT; mt++)
            for (int half = 0; half < 2; half++)
                row[mt][half] = row_of_lane<Tile>(p, blockIdx.x, mt, half);
    }

    /* First chunk of a stage. */
    __device__ int chunk(int stage) const
    {
        const int parts = PIECE_CHUNKS / Tile::CHUNKS;
        const int piece = threadIdx.x / 32 + stage / parts * STREAM_WARPS;
        return piece * PIECE_CHUNKS + stage % parts * Tile::CHUNKS;
    }

    __device__ __forceinline__ void load(stage_weights<Form, Tile> &w, int stage) const
    {
        const int first = chunk(stage);
        load_scales(w, p, row, first);
#pragma unroll
        for (int c = 0; c < Tile::CHUNKS; c++) {
            const int64_t at = (int64_t)(first + c) * CHUNK_BYTES + threadIdx.x % 4 * 16;
#pragma unroll
            for (int i = 0; i < 2 * Tile::MT; i++) {
                const int mt = i / 2, half = i % 2;
                w.a[c][mt][half] = make_uint4(0, 0, 0, 0);
                if (stage < stages && at < p.w_bytes)
                    w.a[c][mt][half] = load_weights(p.w + row[mt][half] * p.w_bytes + at);
            }
        }
    }

    /* Rows of x for a stage on their way to shared memory. */
    __device__ __forceinline__ void copy(int stage) const
    {
        enum { UNITS = layout::X_BYTES / 16 };
        uint8_t *to = shared + stage % STAGES * layout::BYTES;
        const int lane = threadIdx.x % 32, first = blockIdx.y * Tile::ROWS;
        const int rows = min(p.rows - first, (int)Tile::ROWS), from = chunk(stage) * Form::CHUNK_X;

        for (int i = lane; i < rows * UNITS; i += 32) {
            const int r = i / UNITS, at = from + i % UNITS * 16;
            const int n = max(0, min(16, p.x_valid - at));
            const uint8_t *x = p.x + (first + r) * p.x_bytes;
            copy_16(to + r * layout::ROW_BYTES + i % UNITS * 16, n ? x + at : p.x, n);
        }
        if constexpr (layout::GROUPS > 0) {
            const int group = from / Form::X_GROUP, groups = count_groups(p.n_in, Form::X_GROUP);
            for (int i = lane; i < rows * layout::GROUPS; i += 32) {
                const int r = i / layout::GROUPS, g = i % layout::GROUPS;
                const float *scale = p.x_scale + (first + r) * p.ldscale + group + g;
                const bool inside = group + g < groups;
                copy_4(to + layout::SCALES + (g * Tile::ROWS + r) * 4, inside ? scale : p.x_scale,
                       inside ? 4 : 0);
            }
        }
    }

    __device__ __forceinline__ stage_x x_of(int stage) const
    {
        const uint8_t *at = shared + stage * layout::BYTES;
        return { at, layout::ROW_BYTES, (const float *)(at + layout::SCALES), Tile::ROWS,
                 Tile::ROWS - 1 };
    }
};

template <class Form, class Tile>
__global__ void __launch_bounds__(STREAM_THREADS, Tile::NT == 1 ? 2 : 1)
    stream_product(const product_args p)
{
    typedef stage_layout<Form, Tile> layout;
    extern __shared__ __align__(128) uint8_t shared[];
    const stream_walk<Form, Tile> walk(p, shared);
    stage_weights<Form, Tile> w[STAGES];
    float sum[Tile::NT][Tile::MT][4] = {};

    let_next_begin();
#pragma unroll
    for (int s = 0; s < STAGES; s++)
        walk.load(w[s], s);
    wait_for_earlier();
    for (int s = 0; s < STAGES; s++) {
        if (s < walk.stages)
            walk.copy(s);
        end_copies();
    }
    for (int first = 0; first < walk.stages; first += STAGES) {
#pragma unroll
        for (int s = 0; s < STAGES; s++) {
            wait_for_copies<STAGES - 1>();
            __syncwarp();
            if (first + s < walk.stages)
                Form::template multiply<Tile>(sum, w[s], walk.x_of(s), p);
            __syncwarp();
            walk.load(w[s], first + s + STAGES);
            if (first + s + STAGES < walk.stages)
                walk.copy(first + s + STAGES);
            end_copies();
        }
    }
    wait_for_copies<0>();
    __syncthreads();
    stream_result<Form, Tile> result = { p, (float *)shared, blockIdx.x,
                                         (int)blockIdx.y * Tile::ROWS };
    result.put(sum);
    __syncthreads();
    result.finish_all();
}

template <class Form, class Tile>
static cudaError_t launch_tile(cudaStream_t stream, const product_args &p)
{
    typedef stage_layout<Form, Tile> layout;
    const unsigned tiles = (unsigned)(((int64_t)p.n_out + Tile::OUTPUTS - 1) / Tile::OUTPUTS);
    const unsigned chunks = (unsigned)((p.rows + Tile::ROWS - 1) / Tile::ROWS);
    const cudaError_t error =
        cudaFuncSetAttribute(stream_product<Form, Tile>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, layout::BLOCK_BYTES);
    if (error != cudaSuccess)
        return error;
    return launch(stream_product<Form, Tile>, dim3(tiles, chunks), dim3(STREAM_THREADS),
                  layout::BLOCK_BYTES, stream, p);
}

/* Shared memory that a block may have on this device. */
static inline cudaError_t shared_limit(int *bytes)
{
    int device;
    const cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess)
        return error;
    return cudaDeviceGetAttribute(bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
}

/* The smallest tile that has all rows, or the largest that the device has room for. */
template <class Form> static cudaError_t launch_stream(cudaStream_t stream, const product_args &p)
{
    typedef stream_tile<1, 1, Form::CHUNKS> up_to_8;
    typedef stream_tile<2, 2, Form::CHUNKS> up_to_16;
    typedef stream_tile<2, 4, Form::FEW_CHUNKS> up_to_32;
    typedef stream_tile<2, 8, Form::FEW_CHUNKS> up_to_64;
    int limit = 0;
    const cudaError_t error = shared_limit(&limit);

    if (error != cudaSuccess)
        return error;
    if (ring_takes<Form, 1>(p, limit))
        return launch_ring<Form, 1>(stream, p, limit);
    if (ring_takes<Form, 2>(p, limit))
        return launch_ring<Form, 2>(stream, p, limit);
    if (p.rows <= 8)
        return launch_tile<Form, up_to_8>(stream, p);
    if (p.rows <= 16 || stage_layout<Form, up_to_32>::BLOCK_BYTES > limit)
        return launch_tile<Form, up_to_16>(stream, p);
    if (p.rows <= 32 || stage_layout<Form, up_to_64>::BLOCK_BYTES > limit)
        return launch_tile<Form, up_to_32>(stream, p);
    return launch_tile<Form, up_to_64>(stream, p);
}

#endif
