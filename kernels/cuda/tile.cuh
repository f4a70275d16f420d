/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products in tiles of 128 outputs times N rows, for sm_90a. The weights are A of wgmma, so that
 * forms which have to be unpacked go through registers; rows of x are B.
 *
 * A block has two warpgroups that multiply, 64 outputs each, and one that loads: one thread starts
 * copies of tiles, three warps fetch scales of x. A stage is 128 bytes of each row of x (64 inputs
 * of bf16, 128 of int8). Stages go round: full[s] says that stage s holds data, empty[s] that it
 * may be written again. Two blocks of neighbouring outputs are a cluster: each loads half of the
 * rows of x, to both. So empty[s] waits for the multiplying warps of both.
 *
 * A form adds a stage to the sums. The sums of a row do not depend on N: one product of 16 or 32
 * inputs after the other, in order of k. */
#ifndef GLM4V_CUDA_TILE_CUH
#define GLM4V_CUDA_TILE_CUH

#include "tile.h"
#include "tma.cuh"
#include "tile_wgmma.cuh"

enum {
    TILE_OUTPUTS = 128,
    TILE_X_BYTES = 128,
    TILE_WARPS = 8, /* that multiply */
    TILE_LOADERS = 96,
    TILE_THREADS = 32 * TILE_WARPS + 128,
    TILE_SHARED = 227 * 1024 - 1024, /* 1024 for alignment */
};

/* Shared memory: stages [A, B], scales of x [stage][group][row], barriers. At the end the outputs
 * [row][OUT_ROW] take the place of the stages. */
template <class Form, int N> struct tile_layout {
    enum {
        A_BYTES = TILE_OUTPUTS * Form::A_ROW,
        B_BYTES = N * TILE_X_BYTES,
        STAGE = A_BYTES + B_BYTES,
        SCALES = Form::X_SCALES * N * 4,
        MOST = (TILE_SHARED - 256) / (STAGE + SCALES),
        STAGES = MOST < 8 ? MOST : 8,
        SCALES_AT = STAGE * STAGES,
        BARRIERS_AT = SCALES_AT + SCALES * STAGES,
        BYTES = BARRIERS_AT + 2 * STAGES * 8 + 1024,
        OUT_ROW = TILE_OUTPUTS + 4,
    };
    static_assert(N * OUT_ROW * 4 <= SCALES_AT, "outputs fit in the stages");
};

template <class Form, int N> struct tile_shared {
    typedef tile_layout<Form, N> layout;
    uint8_t *base;

    __device__ explicit tile_shared(uint8_t *raw)
        : base(raw + (1024 - shared_address(raw) % 1024) % 1024)
    {
    }

    __device__ uint8_t *a(int stage) const
    {
        return base + stage * layout::STAGE;
    }

    __device__ uint8_t *b(int stage) const
    {
        return base + stage * layout::STAGE + layout::A_BYTES;
    }

    __device__ float *scales(int stage) const
    {
        return (float *)(base + layout::SCALES_AT + stage * layout::SCALES);
    }

    __device__ uint64_t *full(int stage) const
    {
        return (uint64_t *)(base + layout::BARRIERS_AT) + stage;
    }

    __device__ uint64_t *empty(int stage) const
    {
        return full(layout::STAGES) + stage;
    }

    __device__ void init() const
    {
        for (int s = 0; s < layout::STAGES; s++) {
            barrier_init(full(s), 1 + (Form::X_SCALES ? TILE_LOADERS : 0));
            barrier_init(empty(s), 2 * TILE_WARPS);
        }
        publish_barriers();
    }
};

/* Which tile a block has. */
struct tile_place {
    int output; /* tile of outputs */
    int first;  /* row of x */
    int steps;  /* stages of k */
};

/* Clusters go through the rows first, so that the weights are read once. */
template <class Form, int N> static __device__ tile_place place_of_block(const product_args &p)
{
    const int tiles = (p.rows + N - 1) / N, cluster = blockIdx.x / 2;
    return { 2 * (cluster / tiles) + (int)cluster_rank(), cluster % tiles * N,
             (p.n_in + Form::STEP - 1) / Form::STEP };
}

/* ---- loading ---- */

template <class Form, int N> struct tile_loader {
    typedef tile_layout<Form, N> layout;
    const product_args &p;
    const tile_shared<Form, N> &shared;
    const tile_place &place;
    const CUtensorMap *w_map, *x_map;

    __device__ __forceinline__ void load_w(int step, int stage) const
    {
        const int x = step * Form::A_ROW;
        barrier_expect(shared.full(stage), layout::STAGE);
        if (p.epilogue == GLM4V_CUDA_SILU_MUL)
            load_pairs(shared.a(stage), w_map, shared.full(stage), x, place.output * 8);
        else
            load_tile(shared.a(stage), w_map, shared.full(stage), x, place.output * TILE_OUTPUTS);
    }

    __device__ __forceinline__ void load_x(int step, int stage) const
    {
        const int half = (int)cluster_rank() * (N / 2);
        load_tile_to_both(shared.b(stage) + half * TILE_X_BYTES, x_map, shared.full(stage),
                          step * TILE_X_BYTES, place.first + half);
    }

    /* One thread. The first round needs no empty stage, and weights no earlier kernel. */
    __device__ void load_tiles() const
    {
        ring_place ring;
        for (int step = 0; step < min(place.steps, (int)layout::STAGES); step++)
            load_w(step, step);
        wait_for_earlier();
        for (int step = 0; step < place.steps; step++) {
            if (step >= layout::STAGES) {
                barrier_wait(shared.empty(ring.stage), ring.parity ^ 1);
                load_w(step, ring.stage);
            }
            load_x(step, ring.stage);
            ring.next<layout::STAGES>();
        }
    }

    /* Thread i of TILE_LOADERS: scales of rows i, i + TILE_LOADERS, .. */
    __device__ void load_scales(int i) const
    {
        const int groups = count_groups(p.n_in, Form::GROUP);
        ring_place ring;
        wait_for_earlier();
        for (int step = 0; step < place.steps; step++) {
            if (step >= layout::STAGES)
                barrier_wait(shared.empty(ring.stage), ring.parity ^ 1);
#pragma unroll 1
            for (int at = i; at < N * Form::X_SCALES; at += TILE_LOADERS) {
                const int row = place.first + at % N;
                const int group = step * Form::X_SCALES + at / N;
                const bool inside = row < p.rows && group < groups;
                const float *from = p.x_scale + row * p.ldscale + group;
                copy_4(shared.scales(ring.stage) + at, inside ? from : p.x_scale, inside ? 4 : 0);
            }
            barrier_arrive_after_copies(shared.full(ring.stage));
            ring.next<layout::STAGES>();
        }
    }
};

/* ---- multiplying ---- */

/* What a multiplying lane has of the outputs: rows g and g + 8 of its warp's 16. */
struct tile_rows {
    int local;    /* row g in the tile */
    int32_t n[2]; /* outputs of the matrix, at most n_out - 1 */
};

static __device__ __forceinline__ tile_rows rows_of_lane(const product_args &p, int tile)
{
    const int block = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
    tile_rows rows = { 16 * block + g, {} };
    for (int half = 0; half < 2; half++) {
        int64_t n = (int64_t)tile * TILE_OUTPUTS + 16 * block + 8 * half + g;
        if (p.epilogue == GLM4V_CUDA_SILU_MUL)
            n = (int64_t)half * (p.n_out / 2) +
                min((int64_t)tile * (TILE_OUTPUTS / 2) + 8 * block + g, (int64_t)p.n_out / 2 - 1);
        rows.n[half] = (int32_t)min(n, (int64_t)p.n_out - 1);
    }
    return rows;
}

/* A stage as the forms see it. */
struct tile_stage {
    const uint8_t *a, *b;
    const float *x_scale; /* [group][N] */
    int step;
};

/* Part of A in shared memory of this warpgroup. */
template <class Form>
static __device__ __forceinline__ const uint8_t *tile_a(const tile_stage &stage)
{
    return stage.a + threadIdx.x / 128 * 64 * Form::A_ROW;
}

/* 16 bytes of the lane's row g or g + 8 of A with rows of 64 bytes. */
static __device__ __forceinline__ uint4 tile_codes(const tile_stage &stage, const tile_rows &rows,
                                                   int half)
{
    return *(const uint4 *)(stage.a + (rows.local + 8 * half) * 64 + threadIdx.x % 4 * 16);
}

/* ---- from sums to y ---- */

template <class Form, int N> struct tile_result {
    const product_args &p;
    float *out; /* [row][OUT_ROW], outputs of a row in the order of the tile */
    const tile_rows &rows;
    enum { OUT_ROW = tile_layout<Form, N>::OUT_ROW };

    /* With scale and bias. */
    __device__ void put(const float (&sum)[N / 2]) const
    {
        const int t = threadIdx.x % 4;
        float scale[2] = { 1, 1 }, bias[2] = { 0, 0 };
        for (int half = 0; half < 2; half++) {
            if (Form::ROW_SCALE && p.scales == 1)
                scale[half] = p.w_scale[rows.n[half]];
            if (p.bias)
                bias[half] = p.bias[rows.n[half]];
        }
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const int row = i / 4 * 8 + 2 * t + i % 2, half = i / 2 % 2;
            out[row * OUT_ROW + rows.local + 8 * half] = sum[i] * scale[half] + bias[half];
        }
    }

    static __device__ __forceinline__ void eight_of(float (&v)[8], const float *from)
    {
        const float4 low = *(const float4 *)from, high = *(const float4 *)(from + 4);
        v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
        v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    }

    /* Outputs n to n + 7 of a row, from those of the tile. */
    __device__ void bend(float (&v)[8], const float *from) const
    {
        eight_of(v, from);
        if (p.epilogue == GLM4V_CUDA_GELU) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                v[i] = gelu(v[i]);
        } else if (p.epilogue == GLM4V_CUDA_SILU_MUL) {
            float up[8];
            eight_of(up, from + 8);
#pragma unroll
            for (int i = 0; i < 8; i++)
                v[i] = silu(v[i]) * up[i];
        }
    }

    __device__ void store_eight(int64_t t, int64_t n, int64_t width, const float (&v)[8]) const
    {
        if (n + 8 > width || p.y_f32 || p.ldy % 8) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (n + i < width)
                    store(p, t, (int32_t)(n + i), v[i]);
            return;
        }
        uint4 *y = (uint4 *)((glm4v_bf16 *)p.y + t * p.ldy + n);
        const uint4 old = p.add ? *y : make_uint4(0, 0, 0, 0);
        const uint32_t words[4] = { old.x, old.y, old.z, old.w };
        uint32_t sums[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float low = v[2 * i] + widen_bf16((glm4v_bf16)words[i]);
            const float high = v[2 * i + 1] + widen_bf16((glm4v_bf16)(words[i] >> 16));
            sums[i] = narrow_bf16(low) | (uint32_t)narrow_bf16(high) << 16;
        }
        *y = make_uint4(sums[0], sums[1], sums[2], sums[3]);
    }

    __device__ void store_all(const tile_place &place) const
    {
        const bool pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        const int step = pairs ? 16 : 8, eights = TILE_OUTPUTS / step;
        const int64_t width = pairs ? p.n_out / 2 : p.n_out;
        const int64_t first = (int64_t)place.output * eights * 8;
        for (int i = threadIdx.x; i < N * eights; i += 32 * TILE_WARPS) {
            const int row = i / eights, eight = i % eights;
            float v[8];
            if (place.first + row >= p.rows || first + 8 * eight >= width)
                continue;
            bend(v, out + row * OUT_ROW + eight * step);
            store_eight(place.first + row, first + 8 * eight, width, v);
        }
    }
};

/* The warps that multiply meet. */
static __device__ __forceinline__ void multipliers_meet()
{
    asm volatile("bar.sync 1, 256;" ::: "memory");
}

template <class Form, int N>
static __device__ __forceinline__ void
multiply_tile(const product_args &p, const tile_shared<Form, N> &shared, const tile_place &place)
{
    typedef tile_layout<Form, N> layout;
    const tile_rows rows = rows_of_lane(p, place.output);
    const int lane = threadIdx.x % 32;
    float sum[N / 2];
    ring_place ring;

#pragma unroll
    for (int i = 0; i < N / 2; i++)
        sum[i] = 0;
    for (int step = 0; step < place.steps; step++) {
        barrier_wait(shared.full(ring.stage), ring.parity);
        Form::template add_stage<N>(
            sum, { shared.a(ring.stage), shared.b(ring.stage), shared.scales(ring.stage), step },
            rows, p);
        __syncwarp();
        if (lane < 2)
            barrier_arrive(shared.empty(ring.stage), lane);
        ring.next<layout::STAGES>();
    }
    wait_for_earlier();
    multipliers_meet();
    const tile_result<Form, N> result = { p, (float *)shared.base, rows };
    result.put(sum);
    multipliers_meet();
    result.store_all(place);
}

template <class Form, int N>
__global__ void __launch_bounds__(TILE_THREADS, 1)
    tile_product(const product_args p, const __grid_constant__ CUtensorMap w_map,
                 const __grid_constant__ CUtensorMap x_map)
{
#ifdef GLM4V_CUDA_HAS_WGMMA
    extern __shared__ uint8_t raw[];
    const tile_shared<Form, N> shared(raw);
    const tile_place place = place_of_block<Form, N>(p);
    const int warp = threadIdx.x / 32;

    let_next_begin();
    if (threadIdx.x == 0)
        shared.init();
    cluster_meet();
    if (warp >= TILE_WARPS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        const tile_loader<Form, N> loader = { p, shared, place, &w_map, &x_map };
        const int i = threadIdx.x - 32 * (TILE_WARPS + 1);
        if (threadIdx.x == 32 * TILE_WARPS)
            loader.load_tiles();
        else if (Form::X_SCALES && i >= 0)
            loader.load_scales(i);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        multiply_tile<Form, N>(p, shared, place);
    }
    __syncwarp();
    cluster_meet();
#endif
}

/* ---- launching ---- */

typedef decltype(&cuTensorMapEncodeTiled) encode_function;

/* A matrix of bytes in boxes; fewer dimensions: the first ones. */
struct tile_map {
    cuuint32_t rank;
    cuuint64_t size[4], stride[3]; /* stride: bytes, of dimensions 1 on */
    cuuint32_t box[4];
    CUtensorMapSwizzle swizzle;
};

static inline cudaError_t encode_map(CUtensorMap *map, const tile_device *device, const void *data,
                                     const tile_map &m)
{
    const cuuint32_t steps[4] = { 1, 1, 1, 1 };
    const CUresult result = ((encode_function)device->encode)(
        map, CU_TENSOR_MAP_DATA_TYPE_UINT8, m.rank, (void *)data, m.size, m.stride, m.box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, m.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Form>
static cudaError_t encode_weights(CUtensorMap *map, const tile_device *device,
                                  const product_args &p)
{
    const cuuint64_t row = (cuuint64_t)p.w_bytes, n = (cuuint64_t)p.n_out;
    const CUtensorMapSwizzle swizzle =
        Form::A_ROW == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE;
    if (p.epilogue == GLM4V_CUDA_SILU_MUL) /* [n / 16][gate, up][8][row] */
        return encode_map(map, device, p.w,
                          { 4,
                            { row, 8, 2, n / 16 },
                            { row, n / 2 * row, 8 * row },
                            { Form::A_ROW, 8, 2, TILE_OUTPUTS / 16 },
                            swizzle });
    return encode_map(map, device, p.w,
                      { 2, { row, n }, { row }, { Form::A_ROW, TILE_OUTPUTS }, swizzle });
}

template <class Form, int N>
static cudaError_t launch_tiles(cudaStream_t stream, const tile_device *device,
                                const product_args &p)
{
    typedef tile_layout<Form, N> layout;
    const int64_t outputs = (p.n_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const int64_t blocks = round_up(outputs, 2) * ((p.rows + N - 1) / N);
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    CUtensorMap w_map, x_map;
    cudaError_t error = encode_weights<Form>(&w_map, device, p);
    if (error == cudaSuccess)
        error = encode_map(&x_map, device, p.x,
                           { 2,
                             { (cuuint64_t)p.x_valid, (cuuint64_t)p.rows },
                             { (cuuint64_t)p.x_bytes },
                             { TILE_X_BYTES, N / 2 },
                             CU_TENSOR_MAP_SWIZZLE_128B });
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(tile_product<Form, N>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, layout::BYTES);
    if (error != cudaSuccess)
        return error;
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = 2;
    attributes[1].val.clusterDim.y = 1;
    attributes[1].val.clusterDim.z = 1;
    config.gridDim = dim3((unsigned)blocks);
    config.blockDim = dim3(TILE_THREADS);
    config.dynamicSmemBytes = layout::BYTES;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, tile_product<Form, N>, p, w_map, x_map);
}

/* Time of all tiles with N rows, in units of a row of a tile; SETUP for the ends of a tile. */
static inline int64_t tile_cost(const tile_device *device, const product_args &p, int n)
{
    enum { SETUP = 24 };
    const int64_t outputs = (p.n_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const int64_t tiles = round_up(outputs, 2) * ((p.rows + n - 1) / n);
    return (tiles + device->multiprocessors - 1) / device->multiprocessors * (n + SETUP);
}

template <class Form>
static cudaError_t launch_tile_product(cudaStream_t stream, const tile_device *device,
                                       const product_args &p)
{
    static const int sizes[] = { 64, 128, 160, 208 };
    int best = sizes[0];
    for (int n : sizes)
        if (n <= Form::MOST_ROWS && tile_cost(device, p, n) < tile_cost(device, p, best))
            best = n;
    if (best == 64)
        return launch_tiles<Form, 64>(stream, device, p);
    if (best == 128)
        return launch_tiles<Form, 128>(stream, device, p);
    if constexpr (Form::MOST_ROWS >= 208)
        if (best == 208)
            return launch_tiles<Form, 208>(stream, device, p);
    return launch_tiles<Form, 160>(stream, device, p);
}

#endif
