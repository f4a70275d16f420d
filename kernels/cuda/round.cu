/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Activations as products want them: rounded to int8 per group or to e4m3 per row, in the order of
 * the matrix. */
#include "matrix.cuh"
#include "round.cuh"

namespace
{
enum { THREADS = 256, WARP_INPUTS = 128 };

struct round_args {
    glm4v_cuda_rounded out;
    const glm4v_bf16 *x;
    int64_t ldx;
    const int32_t *order;
    int32_t n_in, group;
};

__device__ float input(const round_args &a, const glm4v_bf16 *x, int64_t k)
{
    if (k >= a.n_in)
        return 0;
    return widen_bf16(x[a.order ? a.order[k] : k]);
}

/* A warp: 128 inputs of row blockIdx.x. */
__global__ void __launch_bounds__(THREADS) round_int8(const round_args a)
{
    const int64_t row = blockIdx.x;
    const int64_t first = (blockIdx.y * (THREADS / 32) + threadIdx.x / 32) * (int64_t)WARP_INPUTS;
    const int64_t k = first + threadIdx.x % 32 * 4;
    const glm4v_bf16 *x = a.x + row * a.ldx;
    float v[4], scale;

    let_next_begin();
    wait_for_earlier();
    if (first >= a.out.ldq)
        return;
    for (int i = 0; i < 4; i++)
        v[i] = input(a, x, k + i);
    const uint32_t codes = round_four(&scale, v, a.group);
    *(uint32_t *)((int8_t *)a.out.q + row * a.out.ldq + k) = codes;
    if (is_scaled(a.out, k, a.n_in, a.group))
        *scale_at(a.out, row, k / a.group) = scale;
}

/* The same of rows that begin at multiples of 16 bytes, inputs in order. A lane: 8 inputs. */
__global__ void __launch_bounds__(THREADS) round_vectors(const round_args a)
{
    const int64_t row = blockIdx.x;
    const int64_t k = (blockIdx.y * (int64_t)THREADS + threadIdx.x) * VECTOR;
    float v[VECTOR], scale;

    let_next_begin();
    wait_for_earlier();
    load8(v, a.x + row * a.ldx + k, (int)(a.n_in - k), true);
    const uint2 codes = round8(&scale, v, a.group);
    if (k < a.out.ldq)
        *(uint2 *)((int8_t *)a.out.q + row * a.out.ldq + k) = codes;
    if (is_scaled(a.out, k, a.n_in, a.group))
        *scale_at(a.out, row, k / a.group) = scale;
}

/* bf16 in the order of the matrix, rows filled up; a thread an input. */
__global__ void __launch_bounds__(THREADS) reorder(const round_args a)
{
    const int64_t row = blockIdx.x, k = blockIdx.y * (int64_t)THREADS + threadIdx.x;

    let_next_begin();
    wait_for_earlier();
    if (k >= a.out.ldq)
        return;
    glm4v_bf16 value = 0;
    if (k < a.n_in)
        value = a.x[row * a.ldx + (a.order ? a.order[k] : k)];
    ((glm4v_bf16 *)a.out.q)[row * a.out.ldq + k] = value;
}

/* Codes of a row to e4m3: 8 values of thread-vector v. */
__device__ void put_eight(const round_args &a, int64_t row, int64_t k, const float (&x)[VECTOR],
                          float inverse)
{
    if (k < a.out.ldq)
        *(uint2 *)((uint8_t *)a.out.q + row * a.out.ldq + k) = e4m3_eight(x, inverse);
}

/* A block: row blockIdx.x to e4m3, in registers. Rows begin at multiples of 16 bytes, inputs in
 * order. */
template <int TEAM, int VECTORS>
__global__ void __launch_bounds__(TEAM) round_row(const round_args a)
{
    __shared__ uint32_t largest[TEAM / 32];
    const int64_t row = blockIdx.x;
    const int32_t first = (int32_t)threadIdx.x * VECTOR;
    float x[VECTORS][VECTOR], inverse;
    uint32_t most = 0;

    let_next_begin();
    wait_for_earlier();
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int32_t k = first + v * TEAM * VECTOR;
        load8(x[v], a.x + row * a.ldx + k, a.n_in - k, true);
    }
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        most = most_of(x[v], most);
    const float scale = group_scale(&inverse, block_max<TEAM>(most, largest), 448);
    if (threadIdx.x == 0)
        a.out.scale[row] = scale;
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        put_eight(a, row, first + v * TEAM * VECTOR, x[v], inverse);
}

/* The same of any row, which is read twice. */
__global__ void __launch_bounds__(THREADS) round_any_row(const round_args a)
{
    __shared__ uint32_t largest[THREADS / 32];
    const int64_t row = blockIdx.x;
    const glm4v_bf16 *x = a.x + row * a.ldx;
    float inverse;
    uint32_t most = 0;

    let_next_begin();
    wait_for_earlier();
    for (int64_t k = threadIdx.x; k < a.n_in; k += THREADS)
        most = max(most, magnitude_bits(widen_bf16(x[k])));
    const float scale = group_scale(&inverse, block_max<THREADS>(most, largest), 448);
    if (threadIdx.x == 0)
        a.out.scale[row] = scale;
    for (int64_t k = threadIdx.x * VECTOR; k < a.out.ldq; k += THREADS * VECTOR) {
        float eight[VECTOR];
        for (int i = 0; i < VECTOR; i++)
            eight[i] = input(a, x, k + i);
        put_eight(a, row, k, eight, inverse);
    }
}

cudaError_t round_to_e4m3(cudaStream_t stream, const round_args &a, int32_t rows, bool vectors)
{
    const unsigned blocks = (unsigned)rows;
    if (!vectors || a.n_in > 16384)
        return launch(round_any_row, blocks, THREADS, 0, stream, a);
    if (a.n_in <= 2048)
        return launch(round_row<256, 1>, blocks, 256, 0, stream, a);
    if (a.n_in <= 4096)
        return launch(round_row<512, 1>, blocks, 512, 0, stream, a);
    if (a.n_in <= 8192)
        return launch(round_row<1024, 1>, blocks, 1024, 0, stream, a);
    return launch(round_row<1024, 2>, blocks, 1024, 0, stream, a);
}

/* Blocks of `inputs` inputs. */
cudaError_t launch_round(cudaStream_t stream, void (*kernel)(const round_args), const round_args &a,
                         int32_t rows, int64_t inputs)
{
    const unsigned blocks = (unsigned)((a.out.ldq + inputs - 1) / inputs);
    return launch(kernel, dim3((unsigned)rows, blocks), dim3(THREADS), 0, stream, a);
}
} // namespace

void glm4v_cuda_rounded_size(int32_t rows, int32_t n_in, size_t *q, size_t *scale)
{
    *q = (size_t)rows * (size_t)round_up(n_in, 128) * 2;
    *scale = (size_t)round_up(rows, 16) * (size_t)round_up(n_in, 128) / 32 * sizeof(float);
}

bool glm4v_cuda_rounds(const glm4v_cuda_matrix *w)
{
    return has_byte_inputs(w->form) || w->order || w->n_in % 8;
}

cudaError_t glm4v_cuda_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                             const glm4v_cuda_matrix *w, const glm4v_bf16 *x, int64_t ldx,
                             int32_t rows)
{
    const bool vectors = !w->order && ldx % VECTOR == 0 && (uintptr_t)x % 16 == 0;
    set_rounded_layout(out, w, rows);
    const round_args a = { *out, x, ldx, w->order, w->n_in, group_of(w->form) };
    if (!has_byte_inputs(w->form))
        return launch_round(stream, reorder, a, rows, THREADS);
    if (w->form == GLM4V_CUDA_FP8_DYNAMIC)
        return round_to_e4m3(stream, a, rows, vectors);
    if (vectors)
        return launch_round(stream, round_vectors, a, rows, THREADS * VECTOR);
    return launch_round(stream, round_int8, a, rows, WARP_INPUTS * (THREADS / 32));
}
