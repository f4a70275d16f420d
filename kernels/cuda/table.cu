/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Embedding tables: rows in, rows out. A block takes one row. */
#include "rows.h"
#include "vector.cuh"

constexpr int THREADS = 256;
constexpr float QUANT_MIN = 0x1p-100f; /* GLM4V_QUANT_MIN of kernels/convert.h */

/* The largest magnitude of a row, as bits: those of NaN and infinity are beyond all others. */
static __device__ uint32_t largest_bits(const float *row, int32_t n)
{
    __shared__ uint32_t partial[THREADS / 32];
    uint32_t most = 0;
    for (int32_t i = threadIdx.x; i < n; i += THREADS)
        most = max(most, __float_as_uint(row[i]) & 0x7fffffffu);
    most = __reduce_max_sync(~0u, most);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = most;
    __syncthreads();
    return __reduce_max_sync(~0u, partial[threadIdx.x % (THREADS / 32)]);
}

static __global__ void fill_int8_kernel(int8_t *q, float *scale, const float *rows, int32_t n)
{
    const float *row = rows + (int64_t)blockIdx.x * n;
    wait_for_earlier();
    const uint32_t bits = largest_bits(row, n);
    const bool finite = bits < 0x7f800000u;
    const float largest = finite && __uint_as_float(bits) >= QUANT_MIN ? __uint_as_float(bits) : 0;
    const float factor = largest > 0 ? 127 / largest : 0;
    for (int32_t i = threadIdx.x; i < n; i += THREADS)
        q[(int64_t)blockIdx.x * n + i] =
            largest > 0 ? (int8_t)__float2int_rn(row[i] * factor) : (int8_t)0;
    if (threadIdx.x == 0)
        scale[blockIdx.x] = finite ? largest / 127 : __uint_as_float(0x7fc00000u);
}

cudaError_t glm4v_cuda_table_fill(cudaStream_t stream, const glm4v_cuda_table *t, int32_t row,
                                  int32_t n, const float *rows)
{
    const size_t first = (size_t)row * (size_t)t->n_cols, count = (size_t)n * (size_t)t->n_cols;
    if (!n)
        return cudaSuccess;
    switch (t->form) {
    case GLM4V_CUDA_F32:
        return cudaMemcpyAsync((float *)t->data + first, rows, count * sizeof(float),
                               cudaMemcpyDeviceToDevice, stream);
    case GLM4V_CUDA_BF16:
        return glm4v_cuda_narrow(stream, (glm4v_bf16 *)t->data + first, rows, count);
    case GLM4V_CUDA_INT8:
        return launch(fill_int8_kernel, (unsigned)n, THREADS, 0, stream, (int8_t *)t->data + first,
                      t->scale + row, rows, t->n_cols);
    case GLM4V_CUDA_INT4:
    case GLM4V_CUDA_FP8:
    case GLM4V_CUDA_FP8_DYNAMIC:
    case GLM4V_CUDA_INT4_32:
        break;
    }
    return cudaErrorInvalidValue;
}

/* An id that is out of range, as -1 of a failed choice, reads row 0. */
static __device__ int32_t id_of(const glm4v_cuda_step_data &step, const int32_t *sampled,
                                int32_t n_rows, int32_t row)
{
    int32_t id = step.ids[row];
    if (id == INT32_MIN)
        id = sampled[step.slot[row]];
    return id >= 0 && id < n_rows ? id : 0;
}

static __device__ void load_int8(float (&x)[VECTOR], const int8_t *p, float scale, int count)
{
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        x[i] = i < count ? scale * (float)p[i] : 0;
}

static __global__ void embed_kernel(glm4v_bf16 *y, const glm4v_cuda_table t,
                                    const glm4v_cuda_step_data step, const int32_t *sampled)
{
    let_next_begin();
    const bool aligned = t.n_cols % VECTOR == 0;
    wait_for_earlier();
    const int64_t id = id_of(step, sampled, t.n_rows, (int32_t)blockIdx.x), from = id * t.n_cols;
    y += (int64_t)blockIdx.x * t.n_cols;
    for (int32_t i = threadIdx.x * VECTOR; i < t.n_cols; i += THREADS * VECTOR) {
        const int count = t.n_cols - i;
        float x[VECTOR];
        if (t.form == GLM4V_CUDA_F32)
            load8(x, (const float *)t.data + from + i, count, aligned);
        else if (t.form == GLM4V_CUDA_BF16)
            load8(x, (const glm4v_bf16 *)t.data + from + i, count, aligned);
        else
            load_int8(x, (const int8_t *)t.data + from + i, t.scale[id], count);
        store8(y + i, x, count, aligned);
    }
}

cudaError_t glm4v_cuda_embed(cudaStream_t stream, glm4v_bf16 *y, const glm4v_cuda_table *t,
                             const glm4v_cuda_step_data *step, const int32_t *sampled, int32_t rows)
{
    return launch(embed_kernel, (unsigned)rows, THREADS, 0, stream, y, *t, *step, sampled);
}
