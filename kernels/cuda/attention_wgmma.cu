/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention of many query rows on compute capability 9.0: what attention.cu computes, with wgmma.
 * The pipeline follows FlashAttention-3, arXiv:2407.08608.
 *
 * A block takes QUERIES rows of one head. A thread of its first warpgroup has queries, then keys
 * and values in turns, KEYS at a time, copied into a ring of STAGES buffers of each by the copy
 * engine; the two other warpgroups take 64 rows each.
 * While one tile of weights multiplies values, the scores of the next keys are made and turned into
 * weights. Keys run from 0 upward; those that a row does not see have weight 0 and change nothing.
 *
 * The two warpgroups take turns at the matrix units.
 *
 * Shared memory: queries, STAGES tiles of keys, STAGES of values, barriers. A tile is one or two
 * blocks of 64 columns, KEYS rows of 128 bytes, as wgmma.cuh says, with zeros beyond the
 * head.
 *
 * Measured on an H200: 2304 x 12 x 128 67 us (487 TFLOP/s), 6401 x 16 x 112 554 us (530). Slower:
 * tiles copied by a warpgroup with cp.async (104 and 863 us); warpgroups that do not take turns (69
 * and 599 us); mma.sync, attention.cu (138 and 1163 us). */
#include "attend.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

constexpr int QUERIES = 128, KEYS = 128, CONSUMERS = 2, GROUP = 128;
constexpr int THREADS = (1 + CONSUMERS) * GROUP, STAGES = 3;
constexpr int BLOCK_BYTES = KEYS * 128; /* of 64 columns */
static_assert(QUERIES == KEYS, "one shape of tiles");

/* Queries, keys and values as tensors of head elements, heads and rows. */
struct maps {
    CUtensorMap q, k, v;
};

struct barriers {
    uint64_t keys_there[STAGES], keys_free[STAGES], values_there[STAGES], values_free[STAGES];
};

template <int D> struct tiles {
    static constexpr int COLUMNS = D <= 64 ? 1 : 2;
    static constexpr int BYTES = COLUMNS * BLOCK_BYTES;
    static constexpr int SHARED = 1024 + (1 + 2 * STAGES) * BYTES + (int)sizeof(barriers);

    char *first;
    __device__ explicit tiles(void *shared)
        : first((char *)shared + (1024 - shared_address(shared) % 1024) % 1024)
    {
    }
    __device__ char *queries() const
    {
        return first;
    }
    __device__ char *keys(int stage) const
    {
        return first + (1 + stage) * BYTES;
    }
    __device__ char *values(int stage) const
    {
        return first + (1 + STAGES + stage) * BYTES;
    }
    __device__ barriers *ends() const
    {
        return reinterpret_cast<barriers *>(first + (1 + 2 * STAGES) * BYTES);
    }
};

#ifdef GLM4V_CUDA_HAS_WGMMA
/* Blocks of keys that some row of the block of queries sees. */
static __device__ int count_blocks(const flash &a, int32_t first_row)
{
    const int32_t last = a.first + min(first_row + QUERIES, a.n_queries);
    return ((a.causal ? min(last, a.n_keys) : a.n_keys) + KEYS - 1) / KEYS;
}

/* ---- the thread that has tiles copied ---- */

/* Rows from `first` on of a head. */
template <int D>
static __device__ void copy_tile(char *to, const CUtensorMap *map, int head, int32_t first,
                                 uint64_t *barrier)
{
#pragma unroll
    for (int i = 0; i < tiles<D>::COLUMNS; i++)
        load_box(to + i * BLOCK_BYTES, map, 64 * i, head, first, barrier);
}

template <int D>
static __device__ void produce(const flash &a, const maps &m, const tiles<D> &t, int32_t first_row,
                               int head)
{
    constexpr int BYTES = tiles<D>::BYTES;
    const int n = count_blocks(a, first_row), kv_head = head / a.group;
    barriers *b = t.ends();
    for (int j = 0; j < n; j++) {
        const int stage = j % STAGES;
        if (j >= STAGES)
            barrier_wait(&b->keys_free[stage], j / STAGES % 2 ^ 1);
        barrier_expect(&b->keys_there[stage], j ? BYTES : 2 * BYTES);
        if (j == 0)
            copy_tile<D>(t.queries(), &m.q, head, first_row, &b->keys_there[0]);
        copy_tile<D>(t.keys(stage), &m.k, kv_head, j * KEYS, &b->keys_there[stage]);
        if (j >= STAGES)
            barrier_wait(&b->values_free[stage], j / STAGES % 2 ^ 1);
        barrier_expect(&b->values_there[stage], BYTES);
        copy_tile<D>(t.values(stage), &m.v, kv_head, j * KEYS, &b->values_there[stage]);
    }
}

/* ---- the warpgroups that multiply ---- */

template <int D> struct consumer {
    static constexpr int STEPS = D / 16, SCORES = KEYS / 2, OUTPUTS = D / 2;

    uint32_t queries, keys, values; /* shared addresses of the first tiles */
    int32_t row;                    /* of the thread's first row; the second is 8 behind it */
    float o[OUTPUTS], maximum[2], weight[2];
    mma_a p[KEYS / 16];

    /* s = q k^T, begun. */
    __device__ void score(float (&s)[SCORES], int stage) const
    {
        const uint32_t k = keys + stage * tiles<D>::BYTES;
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const uint32_t at = i / 4 * BLOCK_BYTES + i % 4 * 32;
            wgmma<KEYS>::bf16(s, wgmma_descriptor(queries + at, 0), wgmma_descriptor(k + at, 0),
                              i > 0);
        }
        wgmma_end();
    }

    /* o += p v, begun. */
    __device__ void accumulate(int stage)
    {
        const uint32_t v = values + stage * tiles<D>::BYTES;
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++)
            wgmma<D>::template bf16<true>(o, p[i], wgmma_descriptor(v + i * 16 * 128, BLOCK_BYTES),
                                          1);
        wgmma_end();
    }

    /* -inf where a row does not see a key. */
    __device__ void mask(float (&s)[SCORES], const flash &a, int block) const
    {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int32_t last = a.first + row + 8 * half;
            const int32_t seen = (a.causal ? min(last + 1, a.n_keys) : a.n_keys) - block * KEYS;
#pragma unroll
            for (int i = 0; i < SCORES; i++)
                if (i / 2 % 2 == half && i / 4 * 8 + 2 * t + i % 2 >= seen)
                    s[i] = -INFINITY;
        }
    }

    /* Scores to weights in place; shrink: what sums before are to be multiplied by. */
    __device__ void weigh(float (&s)[SCORES], float (&shrink)[2], float scale)
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = maximum[half], sum = 0;
#pragma unroll
            for (int i = 2 * half; i < SCORES; i += 4)
                most = fmaxf(most, fmaxf(s[i], s[i + 1]));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
            shrink[half] = power_of_two((maximum[half] - most) * scale);
            maximum[half] = most;
            most *= scale;
#pragma unroll
            for (int i = 2 * half; i < SCORES; i += 4) {
                s[i] = power_of_two(s[i] * scale - most);
                s[i + 1] = power_of_two(s[i + 1] * scale - most);
                sum += s[i] + s[i + 1];
            }
            weight[half] = weight[half] * shrink[half] + sum;
        }
    }

    __device__ void keep_weights(const float (&s)[SCORES])
    {
#pragma unroll
        for (int i = 0; i < SCORES / 2; i++)
            p[i / 4].w[i % 4] = narrow2(s[2 * i], s[2 * i + 1]);
    }

    __device__ void shrink_sums(const float (&shrink)[2])
    {
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            o[i] *= shrink[i / 2 % 2];
    }

    __device__ void store(const flash &a, int head)
    {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int32_t r = row + 8 * half;
            float sum = weight[half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const float inverse = 1 / sum;
            glm4v_bf16 *to = a.o + r * a.ldo + (int64_t)head * a.head_dim + 2 * t;
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                if (r < a.n_queries && 8 * j < a.head_dim)
                    *reinterpret_cast<uint32_t *>(to + 8 * j) =
                        narrow2(o[4 * j + 2 * half] * inverse, o[4 * j + 2 * half + 1] * inverse);
        }
    }
};

/* The two warpgroups that multiply take turns at the matrix units, so that one makes weights while
 * the other multiplies: named barriers 1 and 2. */
static __device__ __forceinline__ void wait_for_turn(int index)
{
    asm volatile("bar.sync %0, 256;" ::"r"(index + 1) : "memory");
}

static __device__ __forceinline__ void give_turn(int index)
{
    asm volatile("bar.arrive %0, 256;" ::"r"(2 - index) : "memory");
}

/* A warp is done with a tile. */
static __device__ void release(uint64_t *barrier)
{
    if (threadIdx.x % 32 == 0)
        barrier_arrive(barrier);
}

template <int D>
static __device__ void consume(const flash &a, const tiles<D> &t, int32_t first_row, int head)
{
    const int index = threadIdx.x / GROUP - 1, warp = threadIdx.x / 32 % 4;
    const int n = count_blocks(a, first_row);
    /* blocks that all rows see whole */
    const int n_whole = (a.causal ? a.first + first_row + 1 : a.n_keys) / KEYS;
    barriers *b = t.ends();
    consumer<D> c;
    float s[KEYS / 2], shrink[2];
    c.queries = shared_address(t.queries()) + index * 64 * 128;
    c.keys = shared_address(t.keys(0));
    c.values = shared_address(t.values(0));
    c.row = first_row + index * 64 + warp * 16 + threadIdx.x % 32 / 4;
    c.maximum[0] = c.maximum[1] = -INFINITY;
    c.weight[0] = c.weight[1] = 0;
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        c.o[i] = 0;
    if (index == 1)
        give_turn(index);
    barrier_wait(&b->keys_there[0], 0);
    wait_for_turn(index);
    c.score(s, 0);
    give_turn(index);
    wgmma_wait<0>(s);
    release(&b->keys_free[0]);
    if (n_whole < 1)
        c.mask(s, a, 0);
    c.weigh(s, shrink, a.scale);
    c.keep_weights(s);
    for (int j = 1; j < n; j++) {
        const int stage = j % STAGES, before = (j + STAGES - 1) % STAGES;
        barrier_wait(&b->keys_there[stage], j / STAGES % 2);
        wait_for_turn(index);
        c.score(s, stage);
        barrier_wait(&b->values_there[before], (j - 1) / STAGES % 2);
        c.accumulate(before);
        give_turn(index);
        wgmma_wait<1>(s);
        release(&b->keys_free[stage]);
        if (j >= n_whole)
            c.mask(s, a, j);
        c.weigh(s, shrink, a.scale);
        wgmma_wait<0>(c.o);
        release(&b->values_free[before]);
        c.shrink_sums(shrink);
        c.keep_weights(s);
    }
    barrier_wait(&b->values_there[(n - 1) % STAGES], (n - 1) / STAGES % 2);
    c.accumulate((n - 1) % STAGES);
    wgmma_wait<0>(c.o);
    c.store(a, head);
}
#endif

/* Block (head, rows); causal: the longest rows first. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 1)
    wgmma_kernel(const flash a, const __grid_constant__ maps m)
{
#ifdef GLM4V_CUDA_HAS_WGMMA
    extern __shared__ uint4 shared[];
    const tiles<D> t(shared);
    barriers *b = t.ends();
    const int32_t part = (int32_t)(a.causal ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
    const int head = (int)blockIdx.x;
    let_next_begin();
    if (threadIdx.x < STAGES) {
        barrier_init(&b->keys_there[threadIdx.x], 1);
        barrier_init(&b->values_there[threadIdx.x], 1);
        barrier_init(&b->keys_free[threadIdx.x], CONSUMERS * 4);
        barrier_init(&b->values_free[threadIdx.x], CONSUMERS * 4);
    }
    publish_barriers();
    __syncthreads();
    wait_for_earlier();
    if (threadIdx.x < GROUP) {
        give_registers<24>();
        if (threadIdx.x == 0)
            produce<D>(a, m, t, part * QUERIES, head);
    } else {
        take_registers<240>();
        consume<D>(a, t, part * QUERIES, head);
    }
#endif
}

using encode_function = decltype(&cuTensorMapEncodeTiled);

/* The driver's function; NULL: it has none. */
static encode_function find_encode()
{
    static encode_function known;
    encode_function encode = __atomic_load_n(&known, __ATOMIC_RELAXED);
    cudaDriverEntryPointQueryResult found;
    if (!encode &&
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void **)&encode, 12000,
                                         cudaEnableDefault, &found) == cudaSuccess)
        __atomic_store_n(&known, encode, __ATOMIC_RELAXED);
    return encode;
}

/* bf16 [rows, heads, head_dim], rows ld and heads step elements apart, in boxes of 64 elements of
 * KEYS rows. */
struct tensor {
    const void *data;
    int32_t rows, heads, head_dim;
    int64_t ld, step;
};

static cudaError_t set_map(CUtensorMap *map, const tensor &t)
{
    const encode_function encode = find_encode();
    const cuuint64_t sizes[3] = { (cuuint64_t)t.head_dim, (cuuint64_t)t.heads, (cuuint64_t)t.rows };
    const cuuint64_t strides[2] = { (cuuint64_t)t.step * 2, (cuuint64_t)t.ld * 2 };
    const cuuint32_t box[3] = { 64, 1, KEYS }, every[3] = { 1, 1, 1 };
    if (!encode)
        return cudaErrorNotSupported;
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)t.data, sizes, strides, box,
                  every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS
               ? cudaSuccess
               : cudaErrorInvalidValue;
}

template <int D> static cudaError_t run(cudaStream_t stream, const flash &a, int heads)
{
    const dim3 grid((unsigned)heads, blocks_for((size_t)a.n_queries, QUERIES));
    const int32_t kv_heads = heads / a.group;
    maps m;
    cudaError_t error = set_map(&m.q, { a.q, a.n_queries, heads, a.head_dim, a.ldq, a.head_dim });
    if (error == cudaSuccess)
        error = set_map(&m.k, { a.k, a.n_keys, kv_heads, a.head_dim, a.ldk, a.head_step });
    if (error == cudaSuccess)
        error = set_map(&m.v, { a.v, a.n_keys, kv_heads, a.head_dim, a.ldk, a.head_step });
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(wgmma_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     tiles<D>::SHARED);
    if (error != cudaSuccess)
        return error;
    return launch(wgmma_kernel<D>, grid, THREADS, tiles<D>::SHARED, stream, a, m);
}

/* The code for other targets is empty: it needs hardly a register. */
bool has_wgmma_attention()
{
    cudaFuncAttributes code;
    return cudaFuncGetAttributes(&code, wgmma_kernel<128>) == cudaSuccess && code.numRegs > 100 &&
           find_encode();
}

cudaError_t run_wgmma_attention(cudaStream_t stream, const flash &a, int heads)
{
    if (a.head_dim <= 64)
        return run<64>(stream, a, heads);
    if (a.head_dim <= 80)
        return run<80>(stream, a, heads);
    if (a.head_dim <= 112)
        return run<112>(stream, a, heads);
    return run<128>(stream, a, heads);
}
