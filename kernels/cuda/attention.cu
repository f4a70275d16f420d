/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attention of many query rows: prefill of a span, and the rows of a tower among themselves.
 * FlashAttention-2, arXiv:2307.08691, with mma.sync.
 *
 * A block of 4 warps takes QUERIES rows of one head, 32 a warp, and goes over keys from 0 upward,
 * KEYS at a time; the next keys and values are copied while these are multiplied. Scores stay in
 * registers, where they become the operand of the second product. Keys that a row does not see have
 * weight 0 and change nothing, so a row's result does not depend on the rows around it. Blocks of
 * keys that no row of the block sees are left out.
 *
 * Shared memory: queries, then two buffers of keys and values each, rows of LD bf16 whose 16-byte
 * parts are permuted by the row (part ^ row % 8), so that ldmatrix meets no bank twice. Head sizes
 * between those compiled are filled up with zeros there. */
#include "attend.cuh"

constexpr int QUERIES = 128, KEYS = 64, WARPS = 4, THREADS = WARPS * 32,
              ROWS = QUERIES / WARPS / 16;

template <int D, bool INT8> struct attention {
    static constexpr int LD = D <= 64 ? 64 : 128, PARTS = D / VECTOR;
    static constexpr int STEPS = D / 16; /* of the first product; pairs of columns of the second */
    static constexpr int TILES = KEYS / 8;
    static constexpr int TILE_BYTES = KEYS * LD * 2;
    static constexpr int SCALES = QUERIES * LD * 2 + 4 * TILE_BYTES; /* [4][KEYS] of int8 */
    static constexpr int SHARED = SCALES + (INT8 ? 4 * KEYS * (int)sizeof(float) : 0);

    char *shared;
    int32_t row, head; /* the warp's first query row, and its head */
    float o[ROWS][D / 8][4], maximum[ROWS][2], weight[ROWS][2];

    static __device__ int part_at(int row, int part)
    {
        return row * LD * 2 + ((part ^ (row & 7)) << 4);
    }

    __device__ char *buffer(int block, bool value) const
    {
        return shared + QUERIES * LD * 2 + (block % 2 * 2 + value) * TILE_BYTES;
    }

    /* n rows of bf16, ld apart; zeros from row `there` and head element head_dim on. */
    static __device__ void copy_rows(char *to, const glm4v_bf16 *from, int64_t ld, int n,
                                     int32_t there, int32_t head_dim)
    {
        for (int i = threadIdx.x; i < n * PARTS; i += THREADS) {
            const int r = i / PARTS, part = i % PARTS;
            const bool in = r < there && part * VECTOR < head_dim;
            copy_16(to + part_at(r, part), in ? from + r * ld + part * VECTOR : from, in ? 16 : 0);
        }
    }

    __device__ float *scales(int block, bool value) const
    {
        return reinterpret_cast<float *>(shared + SCALES) + (block % 2 * 2 + value) * KEYS;
    }

    /* Codes as bf16, which is exact, and their scales. */
    static __device__ void widen_rows(char *to, float *scales, const int8_t *from,
                                      const float *scale, int32_t there, int32_t head_dim)
    {
        for (int i = threadIdx.x; i < KEYS * PARTS; i += THREADS) {
            const int r = i / PARTS, part = i % PARTS;
            uint2 codes = make_uint2(0, 0);
            if (r < there && part * VECTOR < head_dim)
                codes = __ldcg(
                    reinterpret_cast<const uint2 *>(from + (int64_t)r * head_dim + part * VECTOR));
            *reinterpret_cast<uint4 *>(to + part_at(r, part)) =
                make_uint4(widen_codes(codes.x, 0), widen_codes(codes.x, 2),
                           widen_codes(codes.y, 0), widen_codes(codes.y, 2));
        }
        for (int r = threadIdx.x; r < KEYS; r += THREADS)
            scales[r] = r < there ? scale[r] : 0;
    }

    __device__ void copy_block(const flash &a, int block) const
    {
        const int32_t first = block * KEYS, there = a.n_keys - first;
        const int64_t at = head / a.group * a.head_step + first * a.ldk;
        if (INT8) {
            const int64_t token = at / a.head_dim;
            widen_rows(buffer(block, false), scales(block, false), (const int8_t *)a.k + at,
                       a.k_scale + token, there, a.head_dim);
            widen_rows(buffer(block, true), scales(block, true), (const int8_t *)a.v + at,
                       a.v_scale + token, there, a.head_dim);
        } else {
            copy_rows(buffer(block, false), (const glm4v_bf16 *)a.k + at, a.ldk, KEYS, there,
                      a.head_dim);
            copy_rows(buffer(block, true), (const glm4v_bf16 *)a.v + at, a.ldk, KEYS, there,
                      a.head_dim);
        }
        end_copies();
    }

    /* s = q k^T of the warp's rows and the block's keys. */
    __device__ void score(float (&s)[ROWS][TILES][4], int block) const
    {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const uint32_t queries = shared_address(shared);
        const uint32_t keys = shared_address(buffer(block, false));
#pragma unroll
        for (int i = 0; i < ROWS * TILES * 4; i++)
            s[i / (TILES * 4)][i / 4 % TILES][i % 4] = 0;
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            mma_a q[ROWS];
#pragma unroll
            for (int m = 0; m < ROWS; m++)
                load_matrices(q[m].w, queries + part_at((warp * ROWS + m) * 16 + lane % 16,
                                                        2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < TILES; j += 2) {
                uint32_t b[4];
                load_matrices(
                    b, keys + part_at(8 * j + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
                for (int m = 0; m < ROWS; m++) {
                    mma_bf16(s[m][j], q[m], b[0], b[1]);
                    mma_bf16(s[m][j + 1], q[m], b[2], b[3]);
                }
            }
        }
    }

    /* By the scales of keys or of values. */
    __device__ void scale_columns(float (&s)[ROWS][TILES][4], const float *scales) const
    {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int j = 0; j < TILES; j++) {
            const float2 scale = *reinterpret_cast<const float2 *>(scales + 8 * j + 2 * t);
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                s[m][j][0] *= scale.x, s[m][j][2] *= scale.x;
                s[m][j][1] *= scale.y, s[m][j][3] *= scale.y;
            }
        }
    }

    /* -inf where a row does not see a key. */
    __device__ void mask(float (&s)[ROWS][TILES][4], const flash &a, int block) const
    {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int m = 0; m < ROWS; m++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int32_t last = a.first + row + 16 * m + g + c / 2 * 8;
                const int32_t seen = a.causal ? min(last + 1, a.n_keys) : a.n_keys;
#pragma unroll
                for (int j = 0; j < TILES; j++)
                    if (block * KEYS + 8 * j + 2 * t + c % 2 >= seen)
                        s[m][j][c] = -INFINITY;
            }
    }

    /* Scores to weights; what was summed shrinks to the new maximum. */
    __device__ void weigh(float (&s)[ROWS][TILES][4], float scale)
    {
#pragma unroll
        for (int m = 0; m < ROWS; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float most = maximum[m][half], sum = 0;
#pragma unroll
                for (int j = 0; j < TILES; j++)
                    most = fmaxf(most, fmaxf(s[m][j][2 * half], s[m][j][2 * half + 1]));
                most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
                most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
                const float shrink = power_of_two((maximum[m][half] - most) * scale);
                maximum[m][half] = most;
#pragma unroll
                for (int j = 0; j < TILES; j++)
#pragma unroll
                    for (int c = 2 * half; c < 2 * half + 2; c++) {
                        s[m][j][c] = power_of_two(s[m][j][c] * scale - most * scale);
                        sum += s[m][j][c];
                    }
                weight[m][half] = weight[m][half] * shrink + sum;
#pragma unroll
                for (int j = 0; j < D / 8; j++) {
                    o[m][j][2 * half] *= shrink;
                    o[m][j][2 * half + 1] *= shrink;
                }
            }
    }

    /* o += p v */
    __device__ void accumulate(const float (&p)[ROWS][TILES][4], int block)
    {
        const int lane = threadIdx.x % 32;
        const uint32_t values = shared_address(buffer(block, true));
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            mma_a w[ROWS];
#pragma unroll
            for (int m = 0; m < ROWS; m++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    w[m].w[i] =
                        narrow2(p[m][2 * k + i / 2][i % 2 * 2], p[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
            for (int j = 0; j < STEPS; j++) {
                uint32_t b[4];
                load_transposed(b, values + part_at(16 * k + lane % 16, 2 * j + lane / 16));
#pragma unroll
                for (int m = 0; m < ROWS; m++) {
                    mma_bf16(o[m][2 * j], w[m], b[0], b[1]);
                    mma_bf16(o[m][2 * j + 1], w[m], b[2], b[3]);
                }
            }
        }
    }

    __device__ void store(const flash &a)
    {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int m = 0; m < ROWS; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int32_t r = row + 16 * m + g + 8 * half;
                float sum = weight[m][half];
                sum += __shfl_xor_sync(~0u, sum, 1);
                sum += __shfl_xor_sync(~0u, sum, 2);
                const float inverse = 1 / sum;
                glm4v_bf16 *to = a.o + r * a.ldo + (int64_t)head * a.head_dim;
#pragma unroll
                for (int j = 0; j < D / 8; j++)
                    if (r < a.n_queries && 8 * j < a.head_dim)
                        *reinterpret_cast<uint32_t *>(to + 8 * j + 2 * t) =
                            narrow2(o[m][j][2 * half] * inverse, o[m][j][2 * half + 1] * inverse);
            }
    }

    __device__ void run(const flash &a, int32_t first_row)
    {
        const int32_t last = a.first + min(first_row + QUERIES, a.n_queries);
        const int32_t n_keys = a.causal ? min(last, a.n_keys) : a.n_keys;
        const int n_blocks = (n_keys + KEYS - 1) / KEYS;
        /* blocks that all rows see whole */
        const int n_whole = (a.causal ? a.first + first_row + 1 : a.n_keys) / KEYS;
        copy_rows(shared, a.q + first_row * a.ldq + (int64_t)head * a.head_dim, a.ldq, QUERIES,
                  a.n_queries - first_row, a.head_dim);
        copy_block(a, 0);
        for (int block = 0; block < n_blocks; block++) {
            float s[ROWS][TILES][4];
            wait_for_copies<0>();
            __syncthreads();
            if (block + 1 < n_blocks)
                copy_block(a, block + 1);
            score(s, block);
            if (INT8)
                scale_columns(s, scales(block, false));
            if (block >= n_whole)
                mask(s, a, block);
            weigh(s, a.scale);
            if (INT8)
                scale_columns(s, scales(block, true));
            accumulate(s, block);
        }
        store(a);
    }
};

/* Block (rows, head); causal: the longest rows first. */
template <int D, bool INT8>
static __global__ void __launch_bounds__(THREADS) attention_kernel(const flash a)
{
    extern __shared__ uint4 shared[];
    attention<D, INT8> work;
    let_next_begin();
    const int32_t part = (int32_t)(a.causal ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
    work.shared = reinterpret_cast<char *>(shared);
    work.head = (int32_t)blockIdx.x;
    work.row = part * QUERIES + (int32_t)threadIdx.x / 32 * ROWS * 16;
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            work.o[m][i / 4][i % 4] = 0;
        work.maximum[m][0] = work.maximum[m][1] = -INFINITY;
        work.weight[m][0] = work.weight[m][1] = 0;
    }
    wait_for_earlier();
    work.run(a, part * QUERIES);
}

template <int D, bool INT8> static cudaError_t run(cudaStream_t stream, const flash &a, int heads)
{
    constexpr int shared = attention<D, INT8>::SHARED;
    const dim3 grid((unsigned)heads, blocks_for((size_t)a.n_queries, QUERIES));
    const cudaError_t error = cudaFuncSetAttribute(
        attention_kernel<D, INT8>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess)
        return error;
    return launch(attention_kernel<D, INT8>, grid, THREADS, shared, stream, a);
}

template <bool INT8> static cudaError_t run_size(cudaStream_t stream, const flash &a, int heads)
{
    if (!INT8 && has_wgmma_attention())
        return run_wgmma_attention(stream, a, heads);
    if (a.head_dim <= 64)
        return run<64, INT8>(stream, a, heads);
    if (a.head_dim <= 80)
        return run<80, INT8>(stream, a, heads);
    if (a.head_dim <= 112)
        return run<112, INT8>(stream, a, heads);
    return run<128, INT8>(stream, a, heads);
}

cudaError_t glm4v_cuda_attend_prefill(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                      const glm4v_cuda_attend *a, const glm4v_cuda_span *span)
{
    const bool int8 = kv->form == GLM4V_CUDA_KV_INT8;
    const size_t at = glm4v_cuda_kv_at(kv, a->layer, span->slot, 0, 0);
    const size_t bytes = int8 ? 1 : sizeof(glm4v_bf16), token = at / (size_t)kv->head_dim;
    const size_t head_step =
        glm4v_cuda_kv_at(kv, 0, span->slot, 1, 0) - glm4v_cuda_kv_at(kv, 0, span->slot, 0, 0);
    const flash args = { a->o + span->row * a->ldo,
                         a->ldo,
                         a->q + span->row * a->ldq,
                         a->ldq,
                         (const char *)kv->keys + at * bytes,
                         (const char *)kv->values + at * bytes,
                         int8 ? kv->k_scale + token : nullptr,
                         int8 ? kv->v_scale + token : nullptr,
                         kv->head_dim,
                         (int64_t)head_step,
                         span->n,
                         span->length + span->n,
                         kv->head_dim,
                         a->heads / kv->heads,
                         span->length,
                         true,
                         a->scale * LOG2E };
    return int8 ? run_size<true>(stream, args, a->heads) : run_size<false>(stream, args, a->heads);
}

cudaError_t glm4v_cuda_attend_rows(cudaStream_t stream, const glm4v_cuda_attend_all *all)
{
    const glm4v_cuda_attend *a = &all->a;
    const flash args = { a->o,          a->ldo,  a->q,   a->ldq,        all->k,          all->v,
                         nullptr,       nullptr, a->ldq, all->head_dim, a->rows,         a->rows,
                         all->head_dim, 1,       0,      false,         a->scale * LOG2E };
    return run_size<false>(stream, args, a->heads);
}
