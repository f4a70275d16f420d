/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Norms of rows. A team of 32 to 1,024 threads, chosen by the length alone, holds one row
 * in registers: it is read once. Weights are loaded before the kernel ahead has ended. Vector v of
 * thread t is 8 values from 8 (t + v * TEAM) on, so that 16 neighbouring lanes hold a group of 128
 * and 4 a group of 32 when the result is rounded to int8. */
#include "rows.h"
#include "round.cuh"
#include "vector.cuh"

/* How one row is cut: values from `at(v)` on, `left(v)` of them. */
template <int TEAM> struct cut {
    int32_t n, lane;
    bool aligned;
    __device__ cut(int32_t length) : n(length), lane(threadIdx.x % TEAM), aligned(length % 8 == 0)
    {
    }
    __device__ int32_t at(int v) const
    {
        return (lane + v * TEAM) * VECTOR;
    }
    __device__ int32_t left(int v) const
    {
        return n - at(v);
    }
};

template <int TEAM, int VECTORS, typename T>
static __device__ void load_row(float (&x)[VECTORS][VECTOR], const T *row, const cut<TEAM> &c)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        load8(x[v], row + c.at(v), c.left(v), c.aligned);
}

/* A row before it is widened: of two rows both loads are under way at once. */
template <int TEAM, int VECTORS>
static __device__ void load_row_bits(uint4 (&x)[VECTORS], const glm4v_bf16 *row, const cut<TEAM> &c)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        x[v] = load_bits(row + c.at(v), c.left(v), c.aligned);
}

template <int VECTORS>
static __device__ void widen_row(float (&x)[VECTORS][VECTOR], const uint4 (&bits)[VECTORS])
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        widen8(x[v], bits[v]);
}

template <int TEAM, int VECTORS>
static __device__ void store_row(glm4v_bf16 *row, const float (&x)[VECTORS][VECTOR],
                                 const cut<TEAM> &c)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        store8(row + c.at(v), x[v], c.left(v), c.aligned);
}

/* sum (x - mean)^2 over the row. */
template <int TEAM, int VECTORS>
static __device__ float squares(const float (&x)[VECTORS][VECTOR], float mean, const cut<TEAM> &c,
                                float *partial)
{
    float sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float d = i < c.left(v) ? x[v][i] - mean : 0;
            sum += d * d;
        }
    return block_sum<TEAM>(sum, partial);
}

/* x = (x - mean) / sqrt(var + eps) * w + bias, or x / sqrt(mean(x^2) + eps) * w.
 * partial: two, shared, used once. */
template <int TEAM, int VECTORS>
static __device__ void normalize(float (&x)[VECTORS][VECTOR], const float (&w)[VECTORS][VECTOR],
                                 const float *bias, float eps, const cut<TEAM> &c,
                                 float (*partial)[32])
{
    float mean = 0;
    if (bias) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
#pragma unroll
            for (int i = 0; i < VECTOR; i++)
                mean += x[v][i];
        mean = block_sum<TEAM>(mean, partial[0]) / (float)c.n;
    }
    const float scale = rsqrtf(squares(x, mean, c, partial[1]) / (float)c.n + eps);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        float b[VECTOR] = {};
        if (bias)
            load8(b, bias + c.at(v), c.left(v), c.aligned);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] = (x[v][i] - mean) * scale * w[v][i] + b[i];
    }
}

template <int TEAM, int VECTORS>
static __device__ void add_row(float (&x)[VECTORS][VECTOR], const glm4v_bf16 *row,
                               const cut<TEAM> &c)
{
    float old[VECTORS][VECTOR];
    load_row(old, row, c);
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] += old[v][i];
}

/* Block: blockDim / TEAM groups. */
template <int TEAM, int VECTORS>
static __global__ void __launch_bounds__(TEAM < 128 ? 128 : TEAM)
    norm_kernel(const glm4v_cuda_norm n)
{
    __shared__ alignas(16) float partial[2][32];
    let_next_begin();
    const cut<TEAM> c(n.n);
    const int64_t group = (int64_t)blockIdx.x * (blockDim.x / TEAM) + threadIdx.x / TEAM;
    const int64_t row = group / n.groups, first = group % n.groups * n.n;
    float x[VECTORS][VECTOR], w[VECTORS][VECTOR];
    load_row(w, n.w, c);
    wait_for_earlier();
    if (row >= n.rows)
        return;
    load_row(x, n.x + row * n.ldx + first, c);
    normalize(x, w, n.bias, n.eps, c, partial);
    glm4v_bf16 *y = n.y + row * n.ldy + first;
    if (n.add)
        add_row(x, y, c);
    store_row(y, x, c);
}

cudaError_t glm4v_cuda_norm_rows(cudaStream_t stream, const glm4v_cuda_norm *n)
{
    const size_t groups = (size_t)n->rows * (size_t)n->groups;
    if (n->n <= 256)
        return launch(norm_kernel<32, 1>, blocks_for(groups, 4), 128, 0, stream, *n);
    if (n->n <= 1024)
        return launch(norm_kernel<128, 1>, (unsigned)groups, 128, 0, stream, *n);
    if (n->n <= 2048)
        return launch(norm_kernel<256, 1>, (unsigned)groups, 256, 0, stream, *n);
    if (n->n <= 4096)
        return launch(norm_kernel<512, 1>, (unsigned)groups, 512, 0, stream, *n);
    if (n->n <= 8192)
        return launch(norm_kernel<1024, 1>, (unsigned)groups, 1024, 0, stream, *n);
    return launch(norm_kernel<1024, 2>, (unsigned)groups, 1024, 0, stream, *n);
}

enum how_rounded { TO_BF16, TO_INT8, TO_E4M3 };

/* What the rounding kernel gets of a glm4v_cuda_norm_round. */
struct rounding {
    glm4v_cuda_norm norm;
    const glm4v_bf16 *branch;
    int64_t ldbranch;
    const float *branch_norm;
    float branch_eps;
    const float *branch_column, *branch_row, *branch_bias;
    glm4v_cuda_rounded out;
    const int32_t *order;
    how_rounded how;
    int group; /* of int8 */
};

/* Numbers of the sums of a raw product, as glm4v_cuda_finish_sums makes them. column, bias: from
 * the row's first on. */
template <int TEAM, int VECTORS>
static __device__ void scale_branch(float (&branch)[VECTORS][VECTOR],
                                    const float (&column)[VECTORS][VECTOR], const rounding &a,
                                    const cut<TEAM> &c)
{
    const float row = a.branch_row[blockIdx.x];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        float bias[VECTOR] = {};
        if (a.branch_bias)
            load8(bias, a.branch_bias + c.at(v), c.left(v), c.aligned);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float number = number_of(branch[v][i], column[v][i], row, bias[i]);
            branch[v][i] = a.branch_norm ? widen(narrow(number)) : number;
        }
    }
}

/* x += branch, in bf16, in memory too. */
template <int TEAM, int VECTORS>
static __device__ void add_branch(float (&x)[VECTORS][VECTOR], float (&branch)[VECTORS][VECTOR],
                                  const float (&w)[VECTORS][VECTOR], const rounding &a,
                                  const cut<TEAM> &c, float (*partial)[32])
{
    if (a.branch_norm)
        normalize(branch, w, nullptr, a.branch_eps, c, partial);
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] = widen(narrow(x[v][i] + branch[v][i]));
    store_row(const_cast<glm4v_bf16 *>(a.norm.x) + blockIdx.x * a.norm.ldx, x, c);
}

/* x in the order of the matrix's inputs; shared: bf16 [n]. */
template <int TEAM, int VECTORS>
static __device__ void reorder(float (&x)[VECTORS][VECTOR], const int32_t *order,
                               const cut<TEAM> &c)
{
    extern __shared__ uint4 shared[];
    glm4v_bf16 *row = reinterpret_cast<glm4v_bf16 *>(shared);
    store_row(row, x, c);
    __syncthreads();
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] = i < c.left(v) ? widen(row[order[c.at(v) + i]]) : 0;
}

template <int TEAM, int VECTORS>
static __device__ void store_rounded(const rounding &a, const float (&x)[VECTORS][VECTOR],
                                     const cut<TEAM> &c)
{
    const int64_t row = blockIdx.x;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        float scale;
        const uint2 codes = round8(&scale, x[v], a.group);
        const int32_t at = c.at(v);
        if (at < a.out.ldq)
            *reinterpret_cast<uint2 *>((int8_t *)a.out.q + row * a.out.ldq + at) = codes;
        if (is_scaled(a.out, at, c.n, a.group))
            *scale_at(a.out, row, at / a.group) = scale;
    }
}

/* partial: [TEAM / 32], used once. */
template <int TEAM, int VECTORS>
static __device__ void store_e4m3(const rounding &a, const float (&x)[VECTORS][VECTOR],
                                  const cut<TEAM> &c, uint32_t *partial)
{
    const int64_t row = blockIdx.x;
    uint32_t most = 0;
    float inverse;
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        most = most_of(x[v], most);
    const float scale = group_scale(&inverse, block_max<TEAM>(most, partial), 448);
    if (threadIdx.x == 0)
        a.out.scale[row] = scale;
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        if (c.at(v) < a.out.ldq)
            *reinterpret_cast<uint2 *>((uint8_t *)a.out.q + row * a.out.ldq + c.at(v)) =
                e4m3_eight(x[v], inverse);
}

/* bf16, up to the end of the padded row. */
template <int TEAM, int VECTORS>
static __device__ void store_plain(glm4v_bf16 *row, int64_t ld, const float (&x)[VECTORS][VECTOR],
                                   const cut<TEAM> &c)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        if (c.at(v) < ld)
            *reinterpret_cast<uint4 *>(row + c.at(v)) = narrow8(x[v]);
}

/* Block: one row. */
template <int TEAM, int VECTORS>
static __global__ void __launch_bounds__(TEAM) norm_round_kernel(const rounding a)
{
    __shared__ alignas(16) float partial[4][32];
    __shared__ uint32_t largest[32];
    let_next_begin();
    const cut<TEAM> c(a.norm.n);
    const int64_t row = blockIdx.x;
    float x[VECTORS][VECTOR], branch[VECTORS][VECTOR], w[VECTORS][VECTOR];
    float branch_w[VECTORS][VECTOR] = {}, column[VECTORS][VECTOR] = {};
    uint4 bits[2][VECTORS] = {};
    load_row(w, a.norm.w, c);
    if (a.branch_norm)
        load_row(branch_w, a.branch_norm, c);
    if (a.branch_row)
        load_row(column, a.branch_column, c);
    wait_for_earlier();
    load_row_bits(bits[0], a.norm.x + row * a.norm.ldx, c);
    if (a.branch)
        load_row_bits(bits[1], a.branch + row * a.ldbranch, c);
    widen_row(x, bits[0]);
    widen_row(branch, bits[1]);
    if (a.branch_row)
        scale_branch(branch, column, a, c);
    if (a.branch)
        add_branch(x, branch, branch_w, a, c, partial + 2);
    normalize(x, w, a.norm.bias, a.norm.eps, c, partial);
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[v][i] = i < c.left(v) ? widen(narrow(x[v][i])) : 0;
    if (a.order)
        reorder(x, a.order, c);
    if (a.how == TO_INT8)
        store_rounded(a, x, c);
    else if (a.how == TO_E4M3)
        store_e4m3(a, x, c, largest);
    else if (a.out.q)
        store_plain((glm4v_bf16 *)a.out.q + row * a.out.ldq, a.out.ldq, x, c);
    else
        store_row(a.norm.y + row * a.norm.ldy, x, c);
}

static how_rounded rounding_of(glm4v_cuda_form form)
{
    if (form == GLM4V_CUDA_FP8_DYNAMIC)
        return TO_E4M3;
    return has_byte_inputs(form) ? TO_INT8 : TO_BF16;
}

cudaError_t glm4v_cuda_norm_rounded(cudaStream_t stream, const glm4v_cuda_norm_round *n)
{
    const unsigned rows = (unsigned)n->norm.rows;
    const int32_t length = n->norm.n;
    rounding a = { n->norm,
                   n->branch,
                   n->ldbranch,
                   n->branch_norm,
                   n->branch_eps,
                   n->branch_column,
                   n->branch_row,
                   n->branch_bias,
                   {},
                   n->w->order,
                   rounding_of(n->w->form),
                   group_of(n->w->form) };
    if (glm4v_cuda_rounds(n->w)) {
        set_rounded_layout(n->out, n->w, n->norm.rows);
        a.out = *n->out;
    }
    const size_t shared = a.order ? (size_t)length * sizeof(glm4v_bf16) + 16 : 0;
    if (length <= 1024)
        return launch(norm_round_kernel<128, 1>, rows, 128, shared, stream, a);
    if (length <= 2048)
        return launch(norm_round_kernel<256, 1>, rows, 256, shared, stream, a);
    if (length <= 4096)
        return launch(norm_round_kernel<512, 1>, rows, 512, shared, stream, a);
    if (length <= 8192)
        return launch(norm_round_kernel<1024, 1>, rows, 1024, shared, stream, a);
    return launch(norm_round_kernel<1024, 2>, rows, 1024, shared, stream, a);
}
