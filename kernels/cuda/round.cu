/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Activations as products want them: rounded to int8 per group, in the order of the matrix. */
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

bool has_int8_inputs(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT8 || is_int4(form);
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
    return has_int8_inputs(w->form) || w->order || w->n_in % 8;
}

cudaError_t glm4v_cuda_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                             const glm4v_cuda_matrix *w, const glm4v_bf16 *x, int64_t ldx,
                             int32_t rows)
{
    const bool int8 = has_int8_inputs(w->form);
    out->ldq = round_up(w->n_in, int8 ? 128 : 8);
    out->ldscale = out->ldgroup = 0;
    if (int8)
        set_scale_layout(out, rows, w->n_in, group_of(w->form));
    const round_args a = { *out, x, ldx, w->order, w->n_in, group_of(w->form) };
    if (!int8)
        return launch_round(stream, reorder, a, rows, THREADS);
    if (!w->order && ldx % VECTOR == 0 && (uintptr_t)x % 16 == 0)
        return launch_round(stream, round_vectors, a, rows, THREADS * VECTOR);
    return launch_round(stream, round_int8, a, rows, WARP_INPUTS * (THREADS / 32));
}
