/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the sums of raw products of FP8_DYNAMIC to what follows: scales of outputs and rows, bias,
 * activation; added to y, or rounded for the next product. */
#include "product.cuh"

namespace
{
enum { THREADS = 128, ROWS = 4 };

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

/* 4 numbers of 4 sums, from column n on; `left` of them, beyond which all is 0. */
__device__ __forceinline__ void four_numbers(float (&x)[4], uint2 bits, const glm4v_cuda_sums &s,
                                             int32_t n, int left, float row, bool aligned)
{
    const float sum[4] = { __uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000),
                           __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000) };
    float4 scale = make_float4(0, 0, 0, 0), bias = scale;
    if (aligned && left >= 4) {
        scale = *(const float4 *)(s.column + n);
        if (s.bias)
            bias = *(const float4 *)(s.bias + n);
    } else {
        float *to = &scale.x, *to_bias = &bias.x;
        for (int i = 0; i < 4 && i < left; i++) {
            to[i] = s.column[n + i];
            to_bias[i] = s.bias ? s.bias[n + i] : 0;
        }
    }
    x[0] = number_of(sum[0], scale.x, row, bias.x);
    x[1] = number_of(sum[1], scale.y, row, bias.y);
    x[2] = number_of(sum[2], scale.z, row, bias.z);
    x[3] = number_of(sum[3], scale.w, row, bias.w);
}

/* silu(gate) * up of 4, as bf16. */
__device__ __forceinline__ uint2 four_products(uint2 gate, uint2 up, const glm4v_cuda_sums &s,
                                               int32_t n, int left, float row, bool aligned)
{
    float x[4], y[4];
    four_numbers(x, gate, s, n, left, row, aligned);
    four_numbers(y, up, s, s.n_out / 2 + n, left, row, aligned);
    return make_uint2(narrow2(silu_of(x[0]) * y[0], silu_of(x[1]) * y[1]),
                      narrow2(silu_of(x[2]) * y[2], silu_of(x[3]) * y[3]));
}

/* A block: row blockIdx.x, in registers. All loads of sums are under way at once. */
template <int TEAM, int VECTORS>
__global__ void __launch_bounds__(TEAM, 1024 / TEAM)
    silu_round_kernel(const glm4v_cuda_sums s, const glm4v_cuda_rounded out, bool aligned)
{
    __shared__ uint32_t largest[TEAM / 32];
    const int64_t t = blockIdx.x;
    const int32_t width = s.n_out / 2, first = (int32_t)threadIdx.x * VECTOR;
    const glm4v_bf16 *sums = s.sums + t * s.ld;
    uint4 x[VECTORS], up[VECTORS];
    float inverse;
    uint32_t most = 0;

    let_next_begin();
    wait_for_earlier();
    const float row = s.row[t];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int32_t n = first + v * TEAM * VECTOR;
        x[v] = load_bits(sums + n, width - n, aligned);
        up[v] = load_bits(sums + width + n, width - n, aligned);
    }
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int32_t n = first + v * TEAM * VECTOR, left = width - n;
        float eight[VECTOR];
        const uint2 low = four_products(make_uint2(x[v].x, x[v].y), make_uint2(up[v].x, up[v].y), s,
                                        n, left, row, aligned);
        const uint2 high = four_products(make_uint2(x[v].z, x[v].w), make_uint2(up[v].z, up[v].w),
                                         s, n + 4, left - 4, row, aligned);
        x[v] = make_uint4(low.x, low.y, high.x, high.y);
        widen8(eight, x[v]);
        most = most_of(eight, most);
    }
    const float scale = group_scale(&inverse, block_max<TEAM>(most, largest), 448);
    if (threadIdx.x == 0)
        out.scale[t] = scale;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int64_t n = first + v * TEAM * VECTOR;
        float eight[VECTOR];
        widen8(eight, x[v]);
        if (n < out.ldq)
            *(uint2 *)((uint8_t *)out.q + t * out.ldq + n) = e4m3_eight(eight, inverse);
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
    if (w->n_in > GLM4V_CUDA_SILU_INPUTS)
        return cudaErrorInvalidValue;
    if (w->n_in <= 1024)
        return launch(silu_round_kernel<128, 1>, rows, 128, 0, stream, *s, *out, aligned);
    if (w->n_in <= 4096)
        return launch(silu_round_kernel<256, 2>, rows, 256, 0, stream, *s, *out, aligned);
    return launch(silu_round_kernel<512, 4>, rows, 512, 0, stream, *s, *out, aligned);
}
