/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products that read each weight once and are as fast as memory: the walk over the weights, the
 * same for all forms. A form says how a piece of 16 outputs times some rows becomes sums.
 *
 * A block has 16 MT outputs; each of its 8 warps multiplies every eighth piece of k for all of
 * them, 128 bytes of a row a piece. So all loads of a row are under way at once, and the block
 * reads rows in long runs. At the end the 8 sums of an output are added in order of the warps.
 * Weights go from memory to registers, STAGES stages ahead; rows of x through shared memory, each
 * warp its own pieces. A stage is a piece or half of one (STAGE_CHUNKS): how many rows there are
 * changes tile and stage sizes, never the order of sums. */
#ifndef GLM4V_CUDA_PRODUCT_STREAM_CUH
#define GLM4V_CUDA_PRODUCT_STREAM_CUH

#include "mma.cuh"
#include "product.cuh"

enum { STREAM_WARPS = 8, STREAM_THREADS = 32 * STREAM_WARPS, PIECE_CHUNKS = 2, STAGES = 2 };

/* Tile of a block: 16 MT outputs times 8 NT rows; CHUNKS of 64 bytes of a row a stage. */
template <int MT_, int NT_, int CHUNKS_> struct stream_tile {
    enum { MT = MT_, NT = NT_, CHUNKS = CHUNKS_, OUTPUTS = 16 * MT, ROWS = 8 * NT };
};

/* What a lane holds of a stage of weights: of each chunk 16 bytes of rows g and g + 8. */
template <class Form, class Tile> struct stage_weights {
    uint4 a[Tile::CHUNKS][Tile::MT][2];
    float scale[Tile::CHUNKS][Form::CHUNK_SCALES][Tile::MT][2];
    int32_t zero[Tile::CHUNKS][Form::CHUNK_SCALES][Tile::MT][2];
};

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
        PARTIAL_ROW = Tile::ROWS + 1,
        PARTIAL_BYTES = STREAM_WARPS * Tile::OUTPUTS * PARTIAL_ROW * 4,
        COPY_BYTES = WARP_BYTES * STREAM_WARPS,
        BLOCK_BYTES = COPY_BYTES > PARTIAL_BYTES ? COPY_BYTES : PARTIAL_BYTES,
    };
};

/* The matrix row of a lane's row `half` (g or g + 8) of tile mt. SILU_MUL: g is gate, g + 8 up. */
template <class Tile>
static __device__ __forceinline__ int64_t stream_row(const product_args &p, int mt, int half)
{
    const int g = threadIdx.x % 32 / 4;
    if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
        const int64_t n = (int64_t)blockIdx.x * (Tile::OUTPUTS / 2) + 8 * mt + g;
        return min(n, (int64_t)p.n_out / 2 - 1) + half * (p.n_out / 2);
    }
    const int64_t n = (int64_t)blockIdx.x * Tile::OUTPUTS + 16 * mt + 8 * half + g;
    return min(n, (int64_t)p.n_out - 1);
}

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
                row[mt][half] = stream_row<Tile>(p, mt, half);
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
#pragma unroll
        for (int c = 0; c < Tile::CHUNKS; c++) {
            const int64_t at = (int64_t)(first + c) * CHUNK_BYTES + threadIdx.x % 4 * 16;
#pragma unroll
            for (int i = 0; i < 2 * Tile::MT; i++) {
                const int mt = i / 2, half = i % 2;
                w.a[c][mt][half] = make_uint4(0, 0, 0, 0);
                if (stage < stages && at < p.w_bytes)
                    w.a[c][mt][half] = load_weights(p.w + row[mt][half] * p.w_bytes + at);
#pragma unroll
                for (int s = 0; s < Form::CHUNK_SCALES; s++)
                    load_scale(w, c, s, mt, half, Form::scale_index(first + c, s));
            }
        }
    }

    __device__ __forceinline__ void load_scale(stage_weights<Form, Tile> &w, int c, int s, int mt,
                                               int half, int index) const
    {
        const int64_t at = row[mt][half] * p.scales + index;
        const bool inside = index < p.scales;
        w.scale[c][s][mt][half] = inside ? __ldg(p.w_scale + at) : 0;
        w.zero[c][s][mt][half] = p.w_zero && inside ? __ldg(p.w_zero + at) : 8;
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
};

/* A stage of x as lanes read it: column g of B is row 8 nt + g. */
template <class Form, class Tile> struct stage_x {
    typedef stage_layout<Form, Tile> layout;
    const uint8_t *data;

    /* Bytes `at` of the lane's row in tile nt. */
    template <class T> __device__ __forceinline__ T words(int nt, int at) const
    {
        const int row = 8 * nt + threadIdx.x % 32 / 4;
        return *(const T *)(data + row * layout::ROW_BYTES + at);
    }

    /* B of two steps from bytes `at` of the rows in tile nt: words x, y of the first, z, w of the
     * second. */
    __device__ __forceinline__ uint4 steps(int nt, int at) const
    {
        const int lane = threadIdx.x % 32;
        return load_matrices(data + (8 * nt + lane % 8) * layout::ROW_BYTES + at + lane / 8 * 16);
    }

    /* Scales of the lane's columns of C. */
    __device__ __forceinline__ float2 scales(int nt, int group) const
    {
        const int row = 8 * nt + threadIdx.x % 4 * 2;
        return *(const float2 *)(data + layout::SCALES + (group * Tile::ROWS + row) * 4);
    }
};

/* The 8 warps' sums of the block's tile, added in order, to y. */
template <class Form, class Tile> struct stream_result {
    typedef stage_layout<Form, Tile> layout;
    const product_args &p;
    float *partial; /* [warp][output][PARTIAL_ROW] */

    __device__ void put(const float (&sum)[Tile::NT][Tile::MT][4])
    {
        const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        float *mine = partial + warp * Tile::OUTPUTS * layout::PARTIAL_ROW;
#pragma unroll
        for (int i = 0; i < Tile::MT * Tile::NT * 4; i++) {
            const int mt = i / (Tile::NT * 4), nt = i / 4 % Tile::NT, j = i % 4;
            const int output = 16 * mt + g + j / 2 * 8, row = 8 * nt + 2 * t + j % 2;
            mine[output * layout::PARTIAL_ROW + row] = sum[nt][mt][j];
        }
    }

    __device__ float get(int output, int row, int64_t n) const
    {
        float sum = 0;
        for (int warp = 0; warp < STREAM_WARPS; warp++)
            sum += partial[(warp * Tile::OUTPUTS + output) * layout::PARTIAL_ROW + row];
        return Form::ROW_SCALE && p.scales == 1 ? sum * p.w_scale[n] : sum;
    }

    __device__ void finish_row(int row, int64_t t, int i) const
    {
        if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
            const int64_t n = (int64_t)blockIdx.x * (Tile::OUTPUTS / 2) + i, half = p.n_out / 2;
            const int output = i / 8 * 16 + i % 8;
            if (n < half)
                finish_pair(p, t, (int)n, get(output, row, n), get(output + 8, row, half + n));
            return;
        }
        const int64_t n = (int64_t)blockIdx.x * Tile::OUTPUTS + i;
        if (n < p.n_out)
            finish(p, t, (int)n, get(i, row, n));
    }

    __device__ void finish_all() const
    {
        const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        const int first = blockIdx.y * Tile::ROWS, width = Tile::OUTPUTS / (pairs ? 2 : 1);
        const int rows = min(p.rows - first, (int)Tile::ROWS);
        for (int i = threadIdx.x; i < rows * width; i += STREAM_THREADS)
            finish_row(i / width, first + i / width, i % width);
    }
};

template <class Form, class Tile>
__global__ void __launch_bounds__(STREAM_THREADS, Tile::NT == 1 ? Form::BLOCKS : 1)
    stream_product(const product_args p)
{
    typedef stage_layout<Form, Tile> layout;
    extern __shared__ __align__(16) uint8_t shared[];
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
                Form::template multiply<Tile>(sum, w[s], { walk.shared + s * layout::BYTES }, p);
            __syncwarp();
            walk.load(w[s], first + s + STAGES);
            if (first + s + STAGES < walk.stages)
                walk.copy(first + s + STAGES);
            end_copies();
        }
    }
    wait_for_copies<0>();
    __syncthreads();
    stream_result<Form, Tile> result = { p, (float *)shared };
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
    if (p.rows <= 8)
        return launch_tile<Form, up_to_8>(stream, p);
    if (p.rows <= 16 || stage_layout<Form, up_to_32>::BLOCK_BYTES > limit)
        return launch_tile<Form, up_to_16>(stream, p);
    if (p.rows <= 32 || stage_layout<Form, up_to_64>::BLOCK_BYTES > limit)
        return launch_tile<Form, up_to_32>(stream, p);
    return launch_tile<Form, up_to_64>(stream, p);
}

#endif
