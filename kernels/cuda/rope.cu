/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rotary positions: the rows of the tables that a step needs, and rotation in place. */
#include "head.cuh"

constexpr int THREADS = 128, HALVES_THREADS = 256;

/* Block: a row. */
static __global__ void gather_kernel(const glm4v_cuda_step_data step, const glm4v_cuda_rotary r)
{
    let_next_begin();
    const int64_t row = blockIdx.x;
    const bool sections = r.section[0] + r.section[1] + r.section[2] > 0;
    wait_for_earlier();
    for (int32_t k = threadIdx.x; k < r.n_freq; k += THREADS) {
        const int32_t *axis = step.axis[0];
        if (k >= r.section[0])
            axis = k < r.section[0] + r.section[1] ? step.axis[1] : step.axis[2];
        const int64_t from = (sections ? axis[row] : row) * (int64_t)r.n_freq + k;
        step.cos[row * r.n_freq + k] = r.cos[from];
        step.sin[row * r.n_freq + k] = r.sin[from];
    }
}

cudaError_t glm4v_cuda_gather_rotary(cudaStream_t stream, const glm4v_cuda_step_data *step,
                                     const glm4v_cuda_rotary *r)
{
    return launch(gather_kernel, (unsigned)r->rows, THREADS, 0, stream, *step, *r);
}

/* Block (row, 8 heads). */
static __global__ void rotate_kernel(const glm4v_cuda_rope r)
{
    let_next_begin();
    const int32_t head = head_of_thread();
    const int64_t row = blockIdx.x;
    const bool inside = head < r.heads;
    glm4v_bf16 *at = r.x + row * r.ldx + (int64_t)(inside ? head : 0) * r.head_dim;
    float x[VECTOR];
    wait_for_earlier();
    load_head(x, at, r.head_dim);
    rotate_head(x, r, row);
    if (inside)
        store_head(at, x, r.head_dim);
}

/* Block: a row. A thread has 8 pairs (i, i + n_freq) of one head after the other. SUMS: the other
 * heads of the row become numbers too. */
template <bool SUMS> static __global__ void rotate_halves_kernel(const glm4v_cuda_rope r)
{
    let_next_begin();
    const int32_t lanes = r.n_freq / VECTOR, at = (int32_t)threadIdx.x % lanes * VECTOR;
    const int64_t row = blockIdx.x;
    float cos[VECTOR], sin[VECTOR];
    wait_for_earlier();
    load8(cos, r.cos + row * r.n_freq + at, VECTOR, true);
    load8(sin, r.sin + row * r.n_freq + at, VECTOR, true);
    const int32_t heads = SUMS ? r.sums.n_out / r.head_dim : r.heads;
    for (int32_t head = (int32_t)threadIdx.x / lanes; head < heads;
         head += (int32_t)blockDim.x / lanes) {
        glm4v_bf16 *to = r.x + row * r.ldx + (int64_t)head * r.head_dim + at;
        float x[VECTOR], y[VECTOR];
        load8(x, to, VECTOR, true);
        load8(y, to + r.n_freq, VECTOR, true);
        if (SUMS) {
            make_numbers(x, r.sums, row, head * r.head_dim + at, VECTOR);
            make_numbers(y, r.sums, row, head * r.head_dim + at + r.n_freq, VECTOR);
        }
#pragma unroll
        for (int i = 0; i < VECTOR && head < r.heads; i++) {
            const float low = x[i] * cos[i] - y[i] * sin[i];
            y[i] = y[i] * cos[i] + x[i] * sin[i];
            x[i] = low;
        }
        store8(to, x, VECTOR, true);
        store8(to + r.n_freq, y, VECTOR, true);
    }
}

static cudaError_t rotate_halves(cudaStream_t stream, const glm4v_cuda_rope *r)
{
    const int32_t lanes = r->n_freq / VECTOR, most = HALVES_THREADS / lanes;
    const int32_t heads = r->sums.sums ? r->sums.n_out / r->head_dim : r->heads;
    const int32_t teams = heads < most ? heads : most;
    return launch(r->sums.sums ? rotate_halves_kernel<true> : rotate_halves_kernel<false>,
                  (unsigned)r->rows, (unsigned)(teams * lanes), 0, stream, *r);
}

cudaError_t glm4v_cuda_rotate(cudaStream_t stream, const glm4v_cuda_rope *r)
{
    const bool in_eights = r->half && r->n_freq % VECTOR == 0;
    if (r->sums.sums && !(in_eights && r->head_dim == 2 * r->n_freq)) {
        const cudaError_t error =
            glm4v_cuda_finish_sums(stream, r->x, r->ldx, &r->sums, GLM4V_CUDA_PLAIN, false);
        glm4v_cuda_rope numbers = *r;
        numbers.sums = {};
        return error == cudaSuccess ? glm4v_cuda_rotate(stream, &numbers) : error;
    }
    if (in_eights)
        return rotate_halves(stream, r);
    const dim3 grid((unsigned)r->rows, blocks_for((size_t)r->heads, HEADS_A_BLOCK));
    return launch(rotate_kernel, grid, HEAD_THREADS, 0, stream, *r);
}
