/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Products in tiles of 128 outputs times N rows, for sm_90a. The weights are A of wgmma, so that
 * forms which have to be unpacked go through registers; rows of x are B.
 *
 * As many blocks as the device runs at a time take one tile after the other. A block has two
 * warpgroups that multiply, 64 outputs each, and one of which a thread loads. A stage is 128 bytes
 * of each row of x (64 inputs of bf16, 128 of int8) with their scales. Stages go round, from tile
 * to tile: full[s] says that stage s holds data, empty[s] that it may be written again. Blocks of
 * neighbouring outputs are a cluster: each loads its part of the rows of x, to all. So empty[s]
 * waits for the multiplying warps of all.
 *
 * A form adds up in its own way what is in a stage. The sums of a row do not depend on N: one
 * product of 16 or 32 inputs after the other, in order of k. */
#ifndef GLM4V_CUDA_TILE_CUH
#define GLM4V_CUDA_TILE_CUH

#include "tile.h"
#include "tma.cuh"
#include "wgmma.cuh"

enum {
    TILE_OUTPUTS = 128,
    TILE_X_BYTES = 128,
    TILE_WARPS = 8, /* that multiply */
    TILE_THREADS = 32 * TILE_WARPS + 128,
    TILE_SHARED = 227 * 1024 - 1024, /* 1024 for alignment */
    TILE_CLUSTER = 2,
    TILE_OUT_ROWS = 32, /* on their way to y at a time */
    TILE_OUT_ROW = 64 + 4,
    TILE_OUT_BYTES = TILE_OUT_ROWS * TILE_OUT_ROW * 4, /* of a warpgroup */
};

/* Shared memory: stages [A, B], scales of x [stage][group][row], outputs [warpgroup][row][OUT_ROW],
 * barriers. */
template <class Form, int N> struct tile_layout {
    enum {
        A_BYTES = TILE_OUTPUTS * Form::A_ROW,
        B_BYTES = N * TILE_X_BYTES,
        STAGE = A_BYTES + B_BYTES,
        SCALES = Form::X_SCALES * N * 4,
        MOST = (TILE_SHARED - 256 - 2 * TILE_OUT_BYTES) / (STAGE + SCALES),
        STAGES = MOST < 8 ? MOST : 8,
        SCALES_AT = STAGE * STAGES,
        OUT_AT = SCALES_AT + SCALES * STAGES,
        BARRIERS_AT = OUT_AT + 2 * TILE_OUT_BYTES,
        BYTES = BARRIERS_AT + 2 * STAGES * 8 + 1024,
    };
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

    /* Of the warpgroup. */
    __device__ float *out() const
    {
        return (float *)(base + layout::OUT_AT + threadIdx.x / 128 * TILE_OUT_BYTES);
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
            barrier_init(full(s), 1);
            barrier_init(empty(s), TILE_CLUSTER * TILE_WARPS);
        }
        publish_barriers();
    }
};

/* Where a tile lies. */
struct tile_place {
    int output; /* tile of outputs */
    int first;  /* row of x */
};

/* The tiles of a block: clusters go through the rows first, so that the weights are read once. */
template <class Form, int N> struct tile_list {
    int rows, groups,
        steps; /* tiles along the rows; of groups of TILE_CLUSTER tiles; stages of k */

    __device__ explicit tile_list(const product_args &p)
        : rows((p.rows + N - 1) / N), groups((p.n_out + TILE_OUTPUTS * TILE_CLUSTER - 1) /
                                             (TILE_OUTPUTS * TILE_CLUSTER) * rows),
          steps((p.n_in + Form::STEP - 1) / Form::STEP)
    {
    }

    __device__ tile_place place(int group) const
    {
        return { TILE_CLUSTER * (group / rows) + (int)cluster_rank(), group % rows * N };
    }
};

/* Groups of tiles from the cluster's first to its last: for (int i = first; i < groups; i += step)
 */
static __device__ __forceinline__ int first_group()
{
    return (int)blockIdx.x / TILE_CLUSTER;
}

static __device__ __forceinline__ int group_step()
{
    return (int)gridDim.x / TILE_CLUSTER;
}

/* ---- loading ---- */

template <class Form, int N> struct tile_loader {
    typedef tile_layout<Form, N> layout;
    const product_args &p;
    const tile_shared<Form, N> &shared;
    const tile_list<Form, N> &list;
    const CUtensorMap *w_map, *x_map;

    __device__ __forceinline__ void load_w(const tile_place &place, int step, int stage) const
    {
        const int x = step * Form::A_ROW;
        const uint32_t scales = Form::X_SCALES ? Form::X_SCALES * scale_bytes(place) : 0;
        barrier_expect(shared.full(stage), layout::STAGE + scales);
        if (p.epilogue == GLM4V_CUDA_SILU_MUL)
            load_pairs(shared.a(stage), w_map, shared.full(stage), x, place.output * 8);
        else
            load_tile(shared.a(stage), w_map, shared.full(stage), x, place.output * TILE_OUTPUTS);
    }

    /* Rows of x and their scales. */
    __device__ __forceinline__ void load_x(const tile_place &place, int step, int stage) const
    {
        const int part = (int)cluster_rank() * (N / TILE_CLUSTER);
        load_tile_to_all<TILE_CLUSTER>(shared.b(stage) + part * TILE_X_BYTES, x_map,
                                       shared.full(stage), step * TILE_X_BYTES, place.first + part);
#pragma unroll
        for (int i = 0; i < Form::X_SCALES; i++)
            load_bytes(shared.scales(stage) + i * N,
                       p.x_scale + (step * Form::X_SCALES + i) * p.ldgroup + place.first,
                       scale_bytes(place), shared.full(stage));
    }

    /* Of one group: rows behind the last are not read. */
    __device__ __forceinline__ uint32_t scale_bytes(const tile_place &place) const
    {
        return (uint32_t)min((int64_t)N, p.ldgroup - place.first) * 4;
    }

    /* One thread. The first round needs no empty stage, and its weights no earlier kernel. */
    __device__ void load_tiles() const
    {
        const int early = min(list.steps, (int)layout::STAGES);
        int loaded = 0;
        ring_place ring;
        for (int step = 0; step < early; step++)
            load_w(list.place(first_group()), step, step);
        wait_for_earlier();
        for (int i = first_group(); i < list.groups; i += group_step()) {
            const tile_place place = list.place(i);
            for (int step = 0; step < list.steps; step++, loaded++) {
                if (loaded >= layout::STAGES)
                    barrier_wait(shared.empty(ring.stage), ring.parity ^ 1);
                if (loaded >= early)
                    load_w(place, step, ring.stage);
                load_x(place, step, ring.stage);
                ring.next<layout::STAGES>();
            }
        }
    }
};

/* ---- multiplying ---- */

/* Rows of the first part of a tile that is cut in two. */
static constexpr int tile_first_rows(int n)
{
    return (n / 2 + 15) / 16 * 16;
}

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

/* A form's sums of a tile: struct sums<N> { float c[N / 2]; }, zeros at first, and
 *   add(stage)  adds the products of the stage. When it returns those of the stage before are
 *               added with LAG, else its own: what is added may be written again
 *   end()       adds what is left */

/* ---- from sums to y ---- */

/* Outputs of a warpgroup in a tile: sums get scale and bias in registers, and go through shared
 * memory, 32 rows at a time, so that each thread stores 8 neighbours of one row, or of two
 * that are 16 apart. */
template <int N> struct tile_result {
    const product_args &p;
    float *out; /* [row][out_row] */
    float scale[2], bias[2];
    int local;         /* of the lane in out's rows */
    int eight, row;    /* the thread's 8 outputs in out, its first row */
    int rows, outputs; /* that there are of the tile, and from the 8 on */
    int64_t t, n;      /* of the 8 in y */
    bool pairs, whole; /* whole: the 8 are one access */
    uint4 old[2];      /* of y, for the part that comes next */

    __device__ tile_result(const product_args &args, float *staging, const tile_rows &lane,
                           const tile_place &place, bool scaled)
        : p(args), out(staging)
    {
        const int i = (int)threadIdx.x % 128, group = (int)threadIdx.x / 128;
        pairs = p.epilogue == GLM4V_CUDA_SILU_MUL;
        local = pairs ? lane.local % 64 / 16 * 8 + lane.local % 8 : lane.local % 64;
        eight = pairs ? i % 4 * 8 : i % 8 * 8;
        row = pairs ? i / 4 : i / 8;
        t = place.first + row;
        n = ((int64_t)place.output * 2 + group) * (pairs ? 32 : 64) + eight;
        rows = (int)min((int64_t)p.rows - place.first, (int64_t)N);
        outputs = (int)max((pairs ? p.n_out / 2 : p.n_out) - n, (int64_t)0);
        whole = !p.y_f32 && p.ldy % 8 == 0 && outputs >= 8;
        for (int half = 0; half < 2; half++) {
            scale[half] = scaled && p.scales == 1 ? __ldg(p.w_scale + lane.n[half]) : 1;
            bias[half] = p.bias ? __ldg(p.bias + lane.n[half]) : 0;
        }
    }

    __device__ __forceinline__ int out_row() const
    {
        return pairs ? TILE_OUT_ROW / 2 + 2 : TILE_OUT_ROW;
    }

    /* Scale and bias; of a pair, silu(gate) * up in c[4 j] and c[4 j + 1]. */
    __device__ __forceinline__ void bend(float (&c)[N / 2]) const
    {
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            c[i] = c[i] * scale[i / 2 % 2] + bias[i / 2 % 2];
        if (pairs) {
#pragma unroll
            for (int i = 0; i < N / 2; i += 4) {
                c[i] = silu_of(c[i]) * c[i + 2];
                c[i + 1] = silu_of(c[i + 1]) * c[i + 3];
            }
        }
    }

    /* Rows [32 part, 32 part + 32). */
    __device__ __forceinline__ void put(const float (&c)[N / 2], int part) const
    {
        float *to = out + threadIdx.x % 4 * 2 * out_row() + local;
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (16 * part + i < N / 2 && (i % 4 < 2 || !pairs))
                to[(i / 4 * 8 + i % 2) * out_row() + i / 2 % 2 * 8] = c[16 * part + i];
    }

    /* Has the thread an i-th row in this part? */
    __device__ __forceinline__ bool inside(int part, int i) const
    {
        return (i == 0 || !pairs) && outputs > 0 && TILE_OUT_ROWS * part + 16 * i + row < rows;
    }

    __device__ __forceinline__ uint4 *place_of(int part, int i) const
    {
        return (uint4 *)((glm4v_bf16 *)p.y + (t + TILE_OUT_ROWS * part + 16 * i) * p.ldy + n);
    }

    /* Of the part: it is under way while others are stored. */
    __device__ __forceinline__ void load_old(int part)
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            old[i] = make_uint4(0, 0, 0, 0);
            if (p.add && whole && inside(part, i))
                old[i] = *place_of(part, i);
        }
    }

    __device__ __forceinline__ void store_row(int part, int i, const uint4 &before) const
    {
        const float *from = out + (row + 16 * i) * out_row() + eight;
        const float4 low = *(const float4 *)from, high = *(const float4 *)(from + 4);
        float v[8] = { low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w }, sum[8];
        if (p.epilogue == GLM4V_CUDA_GELU) {
#pragma unroll
            for (int k = 0; k < 8; k++)
                v[k] = gelu(v[k]);
        }
        if (!whole) {
#pragma unroll
            for (int k = 0; k < 8; k++)
                if (k < outputs)
                    store(p, t + TILE_OUT_ROWS * part + 16 * i, (int32_t)(n + k), v[k]);
            return;
        }
        widen8(sum, before);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v[k] += sum[k];
        *place_of(part, i) = narrow8(v);
    }

    __device__ __forceinline__ void store_part(int part)
    {
        const uint4 before[2] = { old[0], old[1] };
        load_old(part + 1);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (inside(part, i))
                store_row(part, i, before[i]);
    }
};

/* The warps of a warpgroup meet. */
static __device__ __forceinline__ void warpgroup_meets()
{
    asm volatile("bar.sync %0, 128;" ::"r"(1 + threadIdx.x / 128) : "memory");
}

template <int N>
static __device__ __forceinline__ void store_tile(float (&c)[N / 2], tile_result<N> &result)
{
    result.load_old(0);
    result.bend(c);
#pragma unroll
    for (int part = 0; part < (N + TILE_OUT_ROWS - 1) / TILE_OUT_ROWS; part++) {
        result.put(c, part);
        warpgroup_meets();
        result.store_part(part);
        warpgroup_meets();
    }
}

template <class Form, int N>
static __device__ __forceinline__ void
multiply_tile(const product_args &p, const tile_shared<Form, N> &shared, const tile_place &place,
              int steps, ring_place &ring)
{
    typedef tile_layout<Form, N> layout;
    const tile_rows rows = rows_of_lane(p, place.output);
    const int lane = threadIdx.x % 32;
    typename Form::template sums<N> sums(p, rows);
    tile_result<N> result(p, shared.out(), rows, place, Form::ROW_SCALE);
    const auto release = [&](int stage) {
        __syncwarp();
        if (lane < TILE_CLUSTER)
            barrier_arrive(shared.empty(stage), lane);
    };
    int before = 0;

    for (int step = 0; step < steps; step++) {
        const int stage = ring.stage;
        barrier_wait(shared.full(stage), ring.parity);
        sums.add({ shared.a(stage), shared.b(stage), shared.scales(stage), step });
        if (!Form::LAG)
            release(stage);
        else if (step > 0)
            release(before);
        before = stage;
        ring.next<layout::STAGES>();
    }
    sums.end();
    if (Form::LAG)
        release(before);
    store_tile(sums.c, result);
}

template <class Form, int N>
__global__ void __launch_bounds__(TILE_THREADS, 1)
    tile_product(const product_args p, const __grid_constant__ CUtensorMap w_map,
                 const __grid_constant__ CUtensorMap x_map)
{
#ifdef GLM4V_CUDA_HAS_WGMMA
    extern __shared__ uint8_t raw[];
    const tile_shared<Form, N> shared(raw);
    const tile_list<Form, N> list(p);
    const int warp = threadIdx.x / 32;

    let_next_begin();
    if (threadIdx.x == 0)
        shared.init();
    cluster_meet();
    if (warp >= TILE_WARPS) {
        give_registers<24>();
        const tile_loader<Form, N> loader = { p, shared, list, &w_map, &x_map };
        if (threadIdx.x == 32 * TILE_WARPS)
            loader.load_tiles();
    } else {
        take_registers<240>();
        wait_for_earlier();
        ring_place ring;
        for (int i = first_group(); i < list.groups; i += group_step())
            multiply_tile<Form, N>(p, shared, list.place(i), list.steps, ring);
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

/* With N rows, in whole clusters. */
static inline int64_t count_tiles(const product_args &p, int n)
{
    const int64_t outputs = (p.n_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    return round_up(outputs, TILE_CLUSTER) * ((p.rows + n - 1) / n);
}

template <class Form, int N>
static cudaError_t launch_tiles(cudaStream_t stream, const tile_device *device,
                                const product_args &p)
{
    typedef tile_layout<Form, N> layout;
    const int64_t tiles = count_tiles(p, N), most = device->multiprocessors;
    const int64_t blocks = tiles < most ? tiles : most / TILE_CLUSTER * TILE_CLUSTER;
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    CUtensorMap w_map, x_map;
    cudaError_t error = encode_weights<Form>(&w_map, device, p);
    if (error == cudaSuccess)
        error = encode_map(&x_map, device, p.x,
                           { 2,
                             { (cuuint64_t)p.x_valid, (cuuint64_t)p.rows },
                             { (cuuint64_t)p.x_bytes },
                             { TILE_X_BYTES, N / TILE_CLUSTER },
                             CU_TENSOR_MAP_SWIZZLE_128B });
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(tile_product<Form, N>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, layout::BYTES);
    if (error != cudaSuccess)
        return error;
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = TILE_CLUSTER;
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
    const int64_t most = device->multiprocessors;
    return (count_tiles(p, n) + most - 1) / most * (n + SETUP);
}

template <class Form>
static cudaError_t launch_tile_product(cudaStream_t stream, const tile_device *device,
                                       const product_args &p)
{
    static const int sizes[] = { 64, 128, 160, 192, 208, 256 };
    int best = sizes[0];
    for (int n : sizes)
        if (n <= Form::MOST_ROWS && tile_cost(device, p, n) < tile_cost(device, p, best))
            best = n;
    switch (best) {
    case 64:
        return launch_tiles<Form, 64>(stream, device, p);
    case 128:
        return launch_tiles<Form, 128>(stream, device, p);
    case 192:
        if constexpr (Form::MOST_ROWS >= 192)
            return launch_tiles<Form, 192>(stream, device, p);
        break;
    case 208:
        if constexpr (Form::MOST_ROWS >= 208)
            return launch_tiles<Form, 208>(stream, device, p);
        break;
    case 256:
        if constexpr (Form::MOST_ROWS >= 256)
            return launch_tiles<Form, 256>(stream, device, p);
        break;
    }
    return launch_tiles<Form, 160>(stream, device, p);
}

#endif
