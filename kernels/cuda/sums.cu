/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the sums of raw products of FP8_DYNAMIC to what follows: scales of outputs and rows, bias,
 * activation; added to y, or rounded for the next product. */
#include "product.cuh"

namespace
{
enum { THREADS = 128, ROWS = 4, SILU_THREADS = 512 };

/* 8 neighbouring outputs of some rows. */
struct columns {
    float scale[VECTOR], bias[VECTOR];

    __device__ columns(const glm4v_cuda_sums &s, int32_t n, int count, bool aligned) : bias()
    {
        load8(scale, s.column + n, count, aligned);
        if (s.bias)
            load8(bias, s.bias + n, count, aligned);
    }

    __device__ __forceinline__ void numbers(float (&x)[VECTOR], float row) const
    {
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[i] = number_of(x[i], scale[i], row, bias[i]);
    }
};

__device__ __forceinline__ void silu_times(float (&gate)[VECTOR], const float (&up)[VECTOR])
{
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        gate[i] = silu_of(gate[i]) * up[i];
}

struct finish_args {
    glm4v_cuda_sums s;
    glm4v_bf16 *y;
    int64_t ldy;
    glm4v_cuda_epilogue epilogue;
    bool add, aligned;
};

__device__ __forceinline__ void finish_eight(const finish_args &a, int64_t t, int32_t n, int count,
                                             float (&x)[VECTOR])
{
    glm4v_bf16 *y = a.y + t * a.ldy + n;
    float old[VECTOR] = {};
    if (a.add)
        load8(old, y, count, a.aligned);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        if (a.epilogue == GLM4V_CUDA_GELU)
            x[i] = gelu(x[i]);
        x[i] = a.add ? old[i] + x[i] : x[i];
    }
    store8(y, x, count, a.aligned);
}

/* Block (part of the outputs, ROWS rows): a thread has 8 outputs. */
template <bool PAIRS> __global__ void __launch_bounds__(THREADS) finish_kernel(const finish_args a)
{
    const int32_t width = PAIRS ? a.s.n_out / 2 : a.s.n_out;
    const int32_t n = (int32_t)(blockIdx.x * THREADS + threadIdx.x) * VECTOR;
    const int count = min(width - n, VECTOR);
    const int64_t first = (int64_t)blockIdx.y * ROWS;
    float x[ROWS][VECTOR], up[ROWS][VECTOR];

    let_next_begin();
    const columns c(a.s, n, count, a.aligned), c_up(a.s, PAIRS ? width + n : n, count, a.aligned);
    wait_for_earlier();
    if (count <= 0)
        return;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int64_t t = min(first + r, (int64_t)a.s.rows - 1);
        load8(x[r], a.s.sums + t * a.s.ld + n, count, a.aligned);
        if (PAIRS)
            load8(up[r], a.s.sums + t * a.s.ld + width + n, count, a.aligned);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (first + r >= a.s.rows)
            break;
        const float row = a.s.row[first + r];
        c.numbers(x[r], row);
        if (PAIRS) {
            c_up.numbers(up[r], row);
            silu_times(x[r], up[r]);
        }
        finish_eight(a, first + r, n, count, x[r]);
    }
}

/* A block: row blockIdx.x, in registers. */
template <int VECTORS>
__global__ void __launch_bounds__(SILU_THREADS, 2)
    silu_round_kernel(const glm4v_cuda_sums s, const glm4v_cuda_rounded out, bool aligned)
{
    __shared__ uint32_t largest[SILU_THREADS / 32];
    const int64_t t = blockIdx.x;
    const int32_t width = s.n_out / 2;
    const glm4v_bf16 *sums = s.sums + t * s.ld;
    float x[VECTORS][VECTOR], inverse;
    uint32_t most = 0;

    let_next_begin();
    wait_for_earlier();
    const float row = s.row[t];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int32_t n = (int32_t)(v * SILU_THREADS + threadIdx.x) * VECTOR, left = width - n;
        float up[VECTOR];
        load8(x[v], sums + n, left, aligned);
        load8(up, sums + width + n, left, aligned);
        columns(s, n, left, aligned).numbers(x[v], row);
        columns(s, width + n, left, aligned).numbers(up, row);
        silu_times(x[v], up);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] = i < left ? widen(narrow(x[v][i])) : 0;
        most = most_of(x[v], most);
    }
    const float scale = group_scale(&inverse, block_max<SILU_THREADS>(most, largest), 448);
    if (threadIdx.x == 0)
        out.scale[t] = scale;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int64_t n = (int64_t)(v * SILU_THREADS + threadIdx.x) * VECTOR;
        if (n < out.ldq)
            *(uint2 *)((uint8_t *)out.q + t * out.ldq + n) = e4m3_eight(x[v], inverse);
    }
}

/* All accesses are of 16 bytes. */
bool is_aligned(const glm4v_cuda_sums *s, int32_t width)
{
    return width % VECTOR == 0 && s->ld % VECTOR == 0 && (uintptr_t)s->sums % 16 == 0 &&
           (uintptr_t)s->bias % 16 == 0;
}
} // namespace

cudaError_t glm4v_cuda_finish_sums(cudaStream_t stream, glm4v_bf16 *y, int64_t ldy,
                                   const glm4v_cuda_sums *s, glm4v_cuda_epilogue epilogue, bool add)
{
    const bool pairs = epilogue == GLM4V_CUDA_SILU_MUL;
    const int32_t width = pairs ? s->n_out / 2 : s->n_out;
    const bool aligned = is_aligned(s, width) && ldy % VECTOR == 0 && (uintptr_t)y % 16 == 0;
    const finish_args a = { *s, y, ldy, epilogue, add, aligned };
    const dim3 grid(blocks_for((size_t)width, THREADS * VECTOR),
                    (unsigned)((s->rows + ROWS - 1) / ROWS));
    return launch(pairs ? finish_kernel<true> : finish_kernel<false>, grid, THREADS, 0, stream, a);
}

cudaError_t glm4v_cuda_silu_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                                  const glm4v_cuda_matrix *w, const glm4v_cuda_sums *s)
{
    const unsigned rows = (unsigned)s->rows;
    const bool aligned = is_aligned(s, w->n_in);
    set_rounded_layout(out, w, s->rows);
    if (w->n_in <= 4096)
        return launch(silu_round_kernel<1>, rows, SILU_THREADS, 0, stream, *s, *out, aligned);
    if (w->n_in <= 8192)
        return launch(silu_round_kernel<2>, rows, SILU_THREADS, 0, stream, *s, *out, aligned);
    if (w->n_in > GLM4V_CUDA_SILU_INPUTS)
        return cudaErrorInvalidValue;
    return launch(silu_round_kernel<4>, rows, SILU_THREADS, 0, stream, *s, *out, aligned);
}
