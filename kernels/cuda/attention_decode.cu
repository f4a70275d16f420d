/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decode attention: one query row, its heads in packs of 16 that share a key/value head, so that
 * keys and values are read once for a pack.
 *
 * Keys [0, position] of a row are cut in pieces of PIECE; SPLITS blocks take runs of pieces, whose
 * length follows from the number of keys alone, and leave sums, maxima and weights in scratch; a
 * second kernel combines them in order. For few rows, on devices that have clusters of blocks, one
 * kernel does both, with results in shared memory: the same numbers. A block of 4 warps takes a
 * piece at a time: each warp makes the scores of a quarter of the keys; then, with the weights in
 * shared memory, the output of a quarter of the head for all keys of the piece. Keys and values go
 * from memory straight to the registers of mma.sync: the contraction runs over head elements in an
 * order in which a lane's part is contiguous (element 8t + i of a block of 32 stands where step
 * i / 4 has 2t + i % 2 and, for i % 4 > 1, 8 more), and columns of the output likewise. Reads each
 * key and value once a pack, writes SPLITS f32 rows a head at most. Sums in f32; weights of values
 * are rounded to bf16.
 *
 * Measured on an H200, 32 / 2 heads of 128: 4.6 us at context 640, 5.9 at 2048; 18.5 us for 16 rows
 * at 2048, 20.1 for 64 at 640. Slower: reading no keys before the kernels ahead have ended (7.5 us
 * at 640); 32 splits of one piece (64 rows 27 us); two kernels for one row (4.9 us). */
#include <cooperative_groups.h>

#include "attend.cuh"
#include "round.cuh"

constexpr int CLUSTER_ROWS = 4; /* more rows keep the device busy without clusters */
constexpr int AHEAD = 10;       /* results that the combining kernel loads at a time, at first */
constexpr int PIECE = 64, SPLITS = 16, WARPS = 4, PACK = 16, THREADS = WARPS * 32;
constexpr int HEAD = 128; /* of outputs that are rounded as they are combined: a group of int8 */

/* Scratch: sums [rows][heads][SPLITS][head_dim], then maximum and weight of each. */
struct partial_results {
    float *sum;
    float2 *weight;
};

struct decode {
    glm4v_cuda_kv kv;
    const int32_t *slot, *position;
    glm4v_cuda_attend a;
    partial_results to;
    int32_t packs;              /* of a key/value head */
    glm4v_cuda_rounded rounded; /* q NULL: not by the combining kernel */
};

/* Pieces a block takes, and how many blocks have any. Of more than 8 pieces a block takes two at
 * least, so that loads of the second go on while the first is worked on, and fewer results are
 * combined. */
static __device__ int32_t pieces_each(int32_t n_keys)
{
    const int32_t pieces = (n_keys + PIECE - 1) / PIECE, each = (pieces + SPLITS - 1) / SPLITS;
    return pieces > SPLITS / 2 ? max(each, 2) : each;
}

static __device__ int32_t splits_of(int32_t n_keys)
{
    const int32_t keys = pieces_each(n_keys) * PIECE;
    return (n_keys + keys - 1) / keys;
}

/* Keys and values as they lie in memory: 8 neighbouring elements of a key, WIDTH (2 or 4) of a
 * value; and as bf16. */
template <bool INT8, int WIDTH> struct element {
    using type = glm4v_bf16;
    using key = uint4;
    struct value {
        uint32_t words[WIDTH / 2];
    };
    static __device__ uint4 widen(const key &x)
    {
        return x;
    }
    static __device__ const value &widen(const value &x)
    {
        return x;
    }
    static __device__ void load(value &x, const type *p)
    {
        if (WIDTH == 4) {
            const uint2 both = __ldcg(reinterpret_cast<const uint2 *>(p));
            x.words[0] = both.x;
            x.words[WIDTH / 2 - 1] = both.y;
        } else {
            x.words[0] = __ldcg(reinterpret_cast<const uint32_t *>(p));
        }
    }
};

template <int WIDTH> struct element<true, WIDTH> {
    using type = int8_t;
    using key = uint2;
    using wide = typename element<false, WIDTH>::value;
    struct value {
        uint32_t codes;
    };
    static __device__ uint4 widen(const key &x)
    {
        return make_uint4(widen_codes(x.x, 0), widen_codes(x.x, 2), widen_codes(x.y, 0),
                          widen_codes(x.y, 2));
    }
    static __device__ wide widen(const value &x)
    {
        wide y;
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++)
            y.words[i] = widen_codes(x.codes, 2 * i);
        return y;
    }
    static __device__ void load(value &x, const type *p)
    {
        x.codes = WIDTH == 4 ? __ldcg(reinterpret_cast<const uint32_t *>(p))
                             : __ldcg(reinterpret_cast<const uint16_t *>(p));
    }
};

/* 8 neighbouring elements of a query; zeros where there are none. */
static __device__ __forceinline__ uint4 load_part(const glm4v_bf16 *p, bool there)
{
    return there ? __ldcg(reinterpret_cast<const uint4 *>(p)) : make_uint4(0, 0, 0, 0);
}

/* The halves of two values that column j asks for, as one operand. */
template <typename V>
static __device__ __forceinline__ uint32_t join(const V &low, const V &high, int j)
{
    return __byte_perm(low.words[j / 2], high.words[j / 2], j % 2 ? 0x7632 : 0x5410);
}

/* One block's work: a row, a pack of heads, a run of pieces. */
template <int D, bool INT8> struct worker {
    static constexpr int BLOCKS = D / 32;           /* of 32 head elements */
    static constexpr int TILES = PIECE / 8 / WARPS; /* of 8 keys, for scores */
    static constexpr int WIDTH = D / WARPS / 8;     /* head elements of a lane, for the output */
    static constexpr int STEPS = PIECE / 16;
    using stored = element<INT8, WIDTH>;
    using type = typename stored::type;
    using key_parts = typename stored::key[TILES][BLOCKS];
    using value_parts = typename stored::value[STEPS][4];
    static constexpr int LD = PIECE + 8;

    struct memory {
        float maximum[WARPS][PACK], weight[WARPS][PACK];
        __nv_bfloat16 p[PACK * LD];
    };

    const type *k, *v;
    const float *k_scale, *v_scale;
    int32_t head_dim, n_keys;
    int warp, g, t;
    mma_a q[BLOCKS][2];
    float o[WIDTH][4], maximum[2], weight[2];

    __device__ void load_queries(const glm4v_bf16 *row, int32_t heads)
    {
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            const int32_t d = 32 * b + 8 * t;
            const uint4 low = load_part(row + g * head_dim + d, g < heads && d < head_dim);
            const uint4 high =
                load_part(row + (g + 8) * head_dim + d, g + 8 < heads && d < head_dim);
            q[b][0].w[0] = low.x, q[b][0].w[1] = high.x, q[b][0].w[2] = low.y,
            q[b][0].w[3] = high.y;
            q[b][1].w[0] = low.z, q[b][1].w[1] = high.z, q[b][1].w[2] = low.w,
            q[b][1].w[3] = high.w;
        }
    }

    /* Those of keys [from, to) of the piece; others stay as they are. */
    __device__ void load_keys(key_parts &keys, int32_t first, int32_t from, int32_t to) const
    {
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                const int32_t key = first + (warp * TILES + i) * 8 + g, d = 32 * b + 8 * t;
                if (key >= from && key < to && d < head_dim)
                    keys[i][b] = __ldcg(reinterpret_cast<const typename stored::key *>(
                        k + (int64_t)key * head_dim + d));
            }
    }

    /* Likewise values of keys 16 s + {2t, 2t + 1, 2t + 8, 2t + 9}. */
    __device__ void load_values(value_parts &values, int32_t first, int32_t from, int32_t to) const
    {
        const int32_t d = (warp * 8 + g) * WIDTH;
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int32_t key = first + 16 * s + 2 * t + i % 2 + 8 * (i / 2);
                if (key >= from && key < to && d < head_dim)
                    stored::load(values[s][i], v + (int64_t)key * head_dim + d);
            }
    }

    /* Scores of the warp's keys, in powers of two; -inf where there is no key. */
    __device__ void score(float (&s)[TILES][4], const key_parts &keys, int32_t first,
                          float scale) const
    {
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            float sum[4] = {}, other[4] = {}; /* two chains of half the length */
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                const uint4 part = stored::widen(keys[i][b]);
                mma_bf16(sum, q[b][0], part.x, part.y);
                mma_bf16(other, q[b][1], part.z, part.w);
            }
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int32_t key = first + (warp * TILES + i) * 8 + 2 * t + c % 2;
                sum[c] += other[c];
                if (INT8 && key < n_keys)
                    sum[c] *= k_scale[key];
                s[i][c] = key < n_keys ? sum[c] * scale : -INFINITY;
            }
        }
    }

    /* A quantity of rows g, g + 8 over the lanes that share them, then over the warps. */
    __device__ void share_maximum(memory &m, const float (&s)[TILES][4], float (&scale)[2])
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = -INFINITY;
#pragma unroll
            for (int i = 0; i < TILES; i++)
                most = fmaxf(most, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
            if (t == 0)
                m.maximum[warp][g + 8 * half] = most;
        }
        __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = maximum[half];
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                most = fmaxf(most, m.maximum[w][g + 8 * half]);
            scale[half] = power_of_two(maximum[half] - most);
            maximum[half] = most;
        }
    }

    __device__ void share_weights(memory &m, const float (&s)[TILES][4], int32_t first)
    {
        float sum[2] = {};
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const int32_t column = (warp * TILES + i) * 8 + 2 * t;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float p[2];
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    p[c] = power_of_two(s[i][2 * half + c] - maximum[half]);
                    sum[half] += p[c];
                    if (INT8 && first + column + c < n_keys)
                        p[c] *= v_scale[first + column + c];
                }
                *reinterpret_cast<uint32_t *>(&m.p[(g + 8 * half) * LD + column]) =
                    narrow2(p[0], p[1]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            sum[half] += __shfl_xor_sync(~0u, sum[half], 1);
            sum[half] += __shfl_xor_sync(~0u, sum[half], 2);
            if (t == 0)
                m.weight[warp][g + 8 * half] = sum[half];
        }
        __syncthreads();
    }

    __device__ void accumulate(const memory &m, const value_parts &values, const float (&scale)[2])
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            weight[half] *= scale[half];
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                weight[half] += m.weight[w][g + 8 * half];
        }
#pragma unroll
        for (int j = 0; j < WIDTH; j++)
#pragma unroll
            for (int c = 0; c < 4; c++)
                o[j][c] *= scale[c / 2];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            mma_a p;
#pragma unroll
            for (int i = 0; i < 4; i++)
                p.w[i] = *reinterpret_cast<const uint32_t *>(
                    &m.p[(g + 8 * (i % 2)) * LD + 16 * s + 2 * t + 8 * (i / 2)]);
            const auto first = stored::widen(values[s][0]), second = stored::widen(values[s][1]);
            const auto third = stored::widen(values[s][2]), fourth = stored::widen(values[s][3]);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                mma_bf16(o[j], p, join(first, second, j), join(third, fourth, j));
        }
    }

    static __device__ void clear(key_parts &keys)
    {
#pragma unroll
        for (int i = 0; i < TILES * BLOCKS; i++)
            keys[i / BLOCKS][i % BLOCKS] = {};
    }

    static __device__ void clear(value_parts &values)
    {
#pragma unroll
        for (int i = 0; i < STEPS * 4; i++)
            values[i / 4][i % 4] = {};
    }

    /* Keys [begin, end). Those below `old` were there before the step's first kernel: they are
     * loaded while the kernels before this one still run. query: called when these have ended. */
    template <typename F>
    __device__ void run(memory &m, int32_t begin, int32_t end, int32_t old, float scale, F query)
    {
        key_parts keys = {};
        value_parts values = {};
        load_keys(keys, begin, begin, min(old, end));
        load_values(values, begin, begin, min(old, end));
        wait_for_earlier();
        query();
        if (old < min(begin + PIECE, end)) {
            load_keys(keys, begin, old, end);
            load_values(values, begin, old, end);
        }
        for (int32_t first = begin; first < end; first += PIECE) {
            const int32_t next = first + PIECE;
            float s[TILES][4], shrink[2];
            score(s, keys, first, scale);
            clear(keys);
            load_keys(keys, next, next, end);
            share_maximum(m, s, shrink);
            share_weights(m, s, first);
            accumulate(m, values, shrink);
            clear(values);
            load_values(values, next, next, end);
        }
    }
};

/* What blockIdx (split, pack of a key/value head, row) stands for. */
struct job {
    int32_t row, kv_head, head, heads; /* heads [head, head + heads) of q */
    __device__ explicit job(const decode &args)
        : row((int32_t)blockIdx.z), kv_head((int32_t)blockIdx.y / args.packs)
    {
        const int32_t group = args.a.heads / args.kv.heads;
        const int32_t first = (int32_t)blockIdx.y % args.packs * PACK;
        head = kv_head * group + first;
        heads = min(PACK, group - first);
    }
};

/* The sums of a block's keys; false: it has none. */
template <int D, bool INT8>
static __device__ bool attend_keys(worker<D, INT8> &w, const decode &args, const job &j,
                                   typename worker<D, INT8>::memory &memory)
{
    using work = worker<D, INT8>;
    const size_t at = glm4v_cuda_kv_at(&args.kv, args.a.layer, args.slot[j.row], j.kv_head, 0);
    w.n_keys = args.position[j.row] + 1;
    w.head_dim = args.kv.head_dim;
    const int32_t keys = pieces_each(w.n_keys) * PIECE, begin = (int32_t)blockIdx.x * keys;
    if (begin >= w.n_keys)
        return false;
    w.k = (const typename work::type *)args.kv.keys + at;
    w.v = (const typename work::type *)args.kv.values + at;
    if (INT8) {
        w.k_scale = args.kv.k_scale + at / (size_t)w.head_dim;
        w.v_scale = args.kv.v_scale + at / (size_t)w.head_dim;
    }
    w.warp = threadIdx.x / 32, w.g = threadIdx.x % 32 / 4, w.t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < work::WIDTH * 4; i++)
        w.o[i / 4][i % 4] = 0;
    w.maximum[0] = w.maximum[1] = -INFINITY;
    w.weight[0] = w.weight[1] = 0;
    const glm4v_bf16 *query = args.a.q + j.row * args.a.ldq + (int64_t)j.head * w.head_dim;
    w.run(memory, begin, min(begin + keys, w.n_keys), w.n_keys - GLM4V_CUDA_SPAN_ROWS,
          args.a.scale * LOG2E, [&] { w.load_queries(query, j.heads); });
    return true;
}

/* Head h of the pack to sums + h * ld and weights + h * step. */
template <int D, bool INT8>
static __device__ void store(const worker<D, INT8> &w, int32_t heads, float *sums, int64_t ld,
                             float2 *weights, int64_t step)
{
    constexpr int WIDTH = worker<D, INT8>::WIDTH;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int32_t head = w.g + 8 * half;
        if (head >= heads)
            continue;
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const int32_t d = (w.warp * 8 + 2 * w.t + c) * WIDTH;
#pragma unroll
            for (int j = 0; j < WIDTH; j += 2)
                if (d < w.head_dim)
                    *reinterpret_cast<float2 *>(sums + head * ld + d + j) =
                        make_float2(w.o[j][2 * half + c], w.o[j + 1][2 * half + c]);
        }
        if (w.warp == 0 && w.t == 0)
            weights[head * step] = make_float2(w.maximum[half], w.weight[half]);
    }
}

/* 4 neighbouring outputs of a head of 128, as bf16 and rounded to int8 as a group. */
static __device__ void store_rounded(const glm4v_cuda_rounded &to, const float (&x)[4], int32_t row,
                                     int32_t head)
{
    const int lane = threadIdx.x;
    float scale;
    const uint32_t codes = round_four(&scale, x, HEAD);
    *reinterpret_cast<uint32_t *>((int8_t *)to.q + row * to.ldq + head * HEAD + 4 * lane) = codes;
    if (lane == 0)
        to.scale[row * to.ldscale + head] = scale;
}

static __device__ __forceinline__ void add_sums(float (&o)[4], const float4 &sum, float scale)
{
    o[0] += scale * sum.x, o[1] += scale * sum.y, o[2] += scale * sum.z, o[3] += scale * sum.w;
}

/* By one warp: o of a head = sum of the splits' sums, each by 2^(its maximum - the largest), over
 * the sum of their weights likewise. Lane i has the weight of split i and outputs [4i, 4i + 4):
 * weight() and sums(split) give them. */
template <typename W, typename S>
static __device__ void combine(const decode &args, int32_t row, int32_t head, int32_t splits,
                               W weight, S sums)
{
    const int32_t lane = threadIdx.x, head_dim = args.kv.head_dim, d = 4 * lane;
    float o[4] = {};
    float4 first[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        first[i] = i < splits ? sums(i) : make_float4(0, 0, 0, 0);
    const float2 part = lane < splits ? weight() : make_float2(-INFINITY, 0);
    float most = part.x;
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
    const float shrink = power_of_two(part.x - most);
    const float inverse = 1 / warp_sum(shrink * part.y);
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        add_sums(o, first[i], __shfl_sync(~0u, shrink, i));
#pragma unroll 1
    for (int32_t i = AHEAD; i < splits; i++)
        add_sums(o, sums(i), __shfl_sync(~0u, shrink, i));
    const uint2 words = make_uint2(narrow2(o[0] * inverse, o[1] * inverse),
                                   narrow2(o[2] * inverse, o[3] * inverse));
    if (d < head_dim)
        *reinterpret_cast<uint2 *>(args.a.o + row * args.a.ldo + (int64_t)head * head_dim + d) =
            words;
    o[0] = __uint_as_float(words.x << 16), o[1] = __uint_as_float(words.x & 0xffff0000u);
    o[2] = __uint_as_float(words.y << 16), o[3] = __uint_as_float(words.y & 0xffff0000u);
    if (args.rounded.q)
        store_rounded(args.rounded, o, row, head);
}

/* ---- two kernels ---- */

template <int D, bool INT8>
static __global__ void __launch_bounds__(THREADS, 3) decode_kernel(const decode args)
{
    __shared__ typename worker<D, INT8>::memory memory;
    let_next_begin();
    const job j(args);
    worker<D, INT8> w;
    if (!attend_keys(w, args, j, memory))
        return;
    const int64_t at = ((int64_t)j.row * args.a.heads + j.head) * SPLITS + blockIdx.x;
    store(w, j.heads, args.to.sum + at * w.head_dim, (int64_t)SPLITS * w.head_dim,
          args.to.weight + at, SPLITS);
}

/* Warp (head, row). */
static __global__ void __launch_bounds__(32) combine_kernel(const decode args)
{
    let_next_begin();
    const int32_t head = (int32_t)blockIdx.x, row = (int32_t)blockIdx.y, d = 4 * threadIdx.x;
    const int32_t head_dim = args.kv.head_dim, splits = splits_of(args.position[row] + 1);
    const int64_t at = ((int64_t)row * args.a.heads + head) * SPLITS;
    const float *from = args.to.sum + at * head_dim + (d < head_dim ? d : 0);
    wait_for_earlier();
    combine(
        args, row, head, splits, [&] { return __ldcg(args.to.weight + at + threadIdx.x); },
        [&](int32_t i) {
            return __ldcg(reinterpret_cast<const float4 *>(from + (int64_t)i * head_dim));
        });
}

/* ---- one kernel ---- */

/* The blocks of a row and pack are a cluster: block i combines head i of the pack from the shared
 * memory of all. */
template <int D, bool INT8>
static __global__ void __launch_bounds__(THREADS, 3) cluster_kernel(const decode args)
{
#if __CUDA_ARCH__ >= 900
    struct results {
        alignas(16) float sum[PACK][D];
        float2 weight[PACK];
    };
    __shared__ typename worker<D, INT8>::memory memory;
    __shared__ results mine;
    const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    let_next_begin();
    const job j(args);
    const int32_t rank = (int32_t)blockIdx.x, d = 4 * ((int32_t)threadIdx.x % 32);
    const int32_t splits = splits_of(args.position[j.row] + 1);
    worker<D, INT8> w;
    if (attend_keys(w, args, j, memory))
        store(w, j.heads, mine.sum[0], D, mine.weight, 1);
    wait_for_earlier();
    cluster.sync();
    if (rank < j.heads && threadIdx.x < 32)
        combine(
            args, j.row, j.head + rank, splits,
            [&] { return cluster.map_shared_rank(&mine, threadIdx.x)->weight[rank]; },
            [&](int32_t i) {
                const float *from = cluster.map_shared_rank(&mine, i)->sum[rank];
                return *reinterpret_cast<const float4 *>(from + (d < D ? d : 0));
            });
    cluster.sync();
#endif
}

/* How cluster_kernel is launched. */
struct cluster_launch {
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    cluster_launch(cudaStream_t stream, const dim3 &grid)
    {
        attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[0].val.programmaticStreamSerializationAllowed = 1;
        attributes[1].id = cudaLaunchAttributeClusterDimension;
        attributes[1].val.clusterDim = { SPLITS, 1, 1 };
        config.gridDim = grid;
        config.blockDim = THREADS;
        config.stream = stream;
        config.attrs = attributes;
        config.numAttrs = 2;
    }
};

/* Has the current device clusters of SPLITS blocks, and code for them? The code for devices without
 * clusters is empty: it needs hardly a register. */
static bool has_clusters(const cluster_launch &l)
{
    const auto kernel = cluster_kernel<128, false>;
    cudaFuncAttributes code;
    int n = 0;
    if (cudaFuncGetAttributes(&code, kernel) == cudaSuccess && code.numRegs > 64 &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) ==
            cudaSuccess &&
        cudaOccupancyMaxActiveClusters(&n, kernel, &l.config) == cudaSuccess && n > 0)
        return true;
    cudaGetLastError(); /* a device that refuses is no failure */
    return false;
}

/* ---- */

size_t glm4v_cuda_decode_scratch(const glm4v_cuda_kv *kv, int32_t heads, int32_t rows)
{
    const size_t results = (size_t)rows * (size_t)heads * SPLITS;
    return results * ((size_t)kv->head_dim * sizeof(float) + sizeof(float2));
}

/* o to int8: for heads of 128 the combining kernel does it. */
static cudaError_t round_after(cudaStream_t stream, const glm4v_cuda_kv *kv,
                               const glm4v_cuda_attend *a)
{
    const int32_t width = a->heads * kv->head_dim;
    glm4v_cuda_matrix w = {};
    w.form = GLM4V_CUDA_INT8;
    w.n_in = width;
    return a->rounded && kv->head_dim != HEAD
               ? glm4v_cuda_round(stream, a->rounded, &w, a->o, a->ldo, a->rows)
               : cudaSuccess;
}

static cudaError_t launch_both(cudaStream_t stream, const dim3 &grid, const decode &args)
{
    const bool int8 = args.kv.form == GLM4V_CUDA_KV_INT8;
    const dim3 heads((unsigned)args.a.heads, (unsigned)args.a.rows);
    void (*kernel)(decode) = int8 ? decode_kernel<128, true> : decode_kernel<128, false>;
    if (args.kv.head_dim <= 64)
        kernel = int8 ? decode_kernel<64, true> : decode_kernel<64, false>;
    const cudaError_t error = launch(kernel, grid, THREADS, 0, stream, args);
    return error == cudaSuccess ? launch(combine_kernel, heads, 32, 0, stream, args) : error;
}

cudaError_t glm4v_cuda_attend_decode(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                     const glm4v_cuda_step_data *step, const glm4v_cuda_attend *a,
                                     void *scratch)
{
    const size_t results = (size_t)a->rows * (size_t)a->heads * SPLITS;
    const int32_t packs = (a->heads / kv->heads + PACK - 1) / PACK;
    const bool int8 = kv->form == GLM4V_CUDA_KV_INT8, small = kv->head_dim <= 64;
    float *sum = (float *)scratch;
    decode args = { *kv,
                    step->slot,
                    step->position,
                    *a,
                    { sum, (float2 *)(sum + results * (size_t)kv->head_dim) },
                    packs,
                    {} };
    if (a->rounded && kv->head_dim == HEAD) {
        a->rounded->ldq = (int64_t)a->heads * HEAD;
        a->rounded->ldscale = a->heads;
        a->rounded->ldgroup = 1;
        args.rounded = *a->rounded;
    }
    const dim3 grid(SPLITS, (unsigned)(kv->heads * packs), (unsigned)a->rows);
    const cluster_launch cluster(stream, grid);
    const bool one = a->rows <= CLUSTER_ROWS && !int8 && !small && has_clusters(cluster);
    const cudaError_t error =
        one ? cudaLaunchKernelEx(&cluster.config, cluster_kernel<128, false>, args)
            : launch_both(stream, grid, args);
    return error == cudaSuccess ? round_after(stream, kv, a) : error;
}
