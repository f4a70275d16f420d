/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Activations as products want them: rounded to int8 per group, in the order of the matrix. */
#include "matrix.cuh"
#include "round.cuh"

namespace
{
enum { THREADS = 256, WARP_INPUTS = 128 };

struct round_args {
    void *q;
    float *scale;
    int64_t ldq, ldscale;
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
    if (first >= a.ldq)
        return;
    for (int i = 0; i < 4; i++)
        v[i] = input(a, x, k + i);
    const uint32_t codes = round_four(&scale, v, a.group);
    *(uint32_t *)((int8_t *)a.q + row * a.ldq + k) = codes;
    if (k % a.group == 0 && k < a.n_in)
        a.scale[row * a.ldscale + k / a.group] = scale;
}

/* bf16 in the order of the matrix, rows filled up; a thread an input. */
__global__ void __launch_bounds__(THREADS) reorder(const round_args a)
{
    const int64_t row = blockIdx.x, k = blockIdx.y * (int64_t)THREADS + threadIdx.x;

    let_next_begin();
    wait_for_earlier();
    if (k >= a.ldq)
        return;
    glm4v_bf16 value = 0;
    if (k < a.n_in)
        value = a.x[row * a.ldx + (a.order ? a.order[k] : k)];
    ((glm4v_bf16 *)a.q)[row * a.ldq + k] = value;
}

bool has_int8_inputs(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT8 || is_int4(form);
}
} // namespace

void glm4v_cuda_rounded_size(int32_t rows, int32_t n_in, size_t *q, size_t *scale)
{
    *q = (size_t)rows * (size_t)round_up(n_in, 128) * 2;
    *scale = (size_t)rows * (size_t)count_groups(n_in, 32) * sizeof(float);
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
    out->ldscale = int8 ? count_groups(w->n_in, group_of(w->form)) : 0;
    const round_args a = { out->q, out->scale, out->ldq, out->ldscale,     x,
                           ldx,    w->order,   w->n_in,  group_of(w->form) };
    const int64_t inputs = int8 ? WARP_INPUTS * (THREADS / 32) : THREADS;
    const unsigned blocks = (unsigned)((out->ldq + inputs - 1) / inputs);
    return launch(int8 ? round_int8 : reorder, dim3((unsigned)rows, blocks), dim3(THREADS), 0,
                  stream, a);
}
