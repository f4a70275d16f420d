/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and values to their places, and from slot to slot. 16 lanes hold a head; a block has 8 heads
 * of one row. */
#include "head.cuh"

/* Where a head of a row goes. */
struct place {
    void *data;
    float *scale;
    size_t at; /* element */
};

static __device__ place place_of(const glm4v_cuda_kv &kv, bool value, size_t at)
{
    return { value ? kv.values : kv.keys, value ? kv.v_scale : kv.k_scale, at };
}

/* All lanes of a warp call this; `inside` says which of them store. */
static __device__ void keep_head(const glm4v_cuda_kv &kv, const place &to, const float (&x)[VECTOR],
                                 bool inside)
{
    const int32_t lane = threadIdx.x % HEAD_LANES;
    if (kv.form == GLM4V_CUDA_KV_BF16) {
        if (inside)
            store_head((glm4v_bf16 *)to.data + to.at, x, kv.head_dim);
        return;
    }
    float scale;
    const uint2 codes = round8(&scale, x, HEAD_MOST);
    if (inside && lane * VECTOR < kv.head_dim)
        *reinterpret_cast<uint2 *>((int8_t *)to.data + to.at + lane * VECTOR) = codes;
    if (inside && lane == 0)
        to.scale[to.at / (size_t)kv.head_dim] = scale;
}

/* Heads [0, heads) are keys, [heads, 2 heads) values. */
static __global__ void append_kernel(const glm4v_cuda_kv kv, const glm4v_cuda_step_data step,
                                     const glm4v_cuda_append a)
{
    let_next_begin();
    const int64_t row = blockIdx.x;
    const bool inside = head_of_thread() < 2 * kv.heads;
    const int32_t head = inside ? head_of_thread() : 0;
    const bool value = head >= kv.heads;
    const int32_t kv_head = value ? head - kv.heads : head;
    float x[VECTOR];
    wait_for_earlier();
    load_head(x, (value ? a.v : a.k) + row * a.ld + (int64_t)kv_head * kv.head_dim, kv.head_dim);
    const size_t at = glm4v_cuda_kv_at(&kv, a.layer, step.slot[row], kv_head, step.position[row]);
    keep_head(kv, place_of(kv, value, at), x, inside);
}

cudaError_t glm4v_cuda_append_kv(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                 const glm4v_cuda_step_data *step, const glm4v_cuda_append *a)
{
    const dim3 grid((unsigned)a->rows, blocks_for(2 * (size_t)kv->heads, HEADS_A_BLOCK));
    return launch(append_kernel, grid, HEAD_THREADS, 0, stream, *kv, *step, *a);
}

/* Heads of x: those of q, then of k, then of v. The lanes of a warp may hold heads of two kinds, so
 * that all take part in norm and rotation, and v forgets them. */
static __global__ void rotate_append_kernel(const glm4v_cuda_kv kv, const glm4v_cuda_step_data step,
                                            const glm4v_cuda_qkv a)
{
    let_next_begin();
    const int64_t row = blockIdx.x;
    const int32_t n_heads = a.rope.heads + 2 * kv.heads;
    const bool inside = head_of_thread() < n_heads;
    const int32_t head = inside ? head_of_thread() : n_heads - 1;
    const bool query = head < a.rope.heads, value = head >= a.rope.heads + kv.heads;
    const float *w = query ? a.q_norm : a.k_norm;
    glm4v_bf16 *from = a.rope.x + row * a.rope.ldx + (int64_t)head * kv.head_dim;
    const int32_t slot = step.slot[row], position = step.position[row];
    const int32_t pair = min((int32_t)threadIdx.x % HEAD_LANES * VECTOR / 2, a.rope.n_freq - 1);
    const int64_t pairs = row * a.rope.n_freq + pair;
    float x[VECTOR], turned[VECTOR];
    to_l2(a.rope.cos + pairs);
    to_l2(a.rope.sin + pairs);
    wait_for_earlier();
    load_head(x, from, kv.head_dim);
    if (a.rope.sums.sums) {
        const int32_t at = (int32_t)threadIdx.x % HEAD_LANES * VECTOR;
        make_numbers(x, a.rope.sums, row, head * kv.head_dim + at, kv.head_dim - at);
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++)
        turned[i] = x[i];
    if (a.q_norm || a.k_norm)
        norm_head(turned, w, a.eps, kv.head_dim);
    rotate_head(turned, a.rope, row);
    if (!value)
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
            x[i] = turned[i];
    if (inside && query)
        store_head(from, x, kv.head_dim);
    const int32_t kv_head = (head - a.rope.heads) % kv.heads;
    const size_t at = query ? 0 : glm4v_cuda_kv_at(&kv, a.layer, slot, kv_head, position);
    keep_head(kv, place_of(kv, value, at), x, inside && !query);
}

cudaError_t glm4v_cuda_rotate_append(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                     const glm4v_cuda_step_data *step, const glm4v_cuda_qkv *a)
{
    const size_t heads = (size_t)a->rope.heads + 2 * (size_t)kv->heads;
    const dim3 grid((unsigned)a->rope.rows, blocks_for(heads, HEADS_A_BLOCK));
    return launch(rotate_append_kernel, grid, HEAD_THREADS, 0, stream, *kv, *step, *a);
}

struct copy {
    int32_t to, from, n;
};

/* Block (part, layer and head, keys or values): 8 bytes a thread, and the scales. */
static __global__ void copy_kernel(const glm4v_cuda_kv kv, const copy c)
{
    let_next_begin();
    const bool value = blockIdx.z;
    const int32_t layer = blockIdx.y / kv.heads, head = blockIdx.y % kv.heads;
    const size_t width = kv.form == GLM4V_CUDA_KV_BF16 ? 2 : 1;
    const size_t i = (size_t)blockIdx.x * HEAD_THREADS + threadIdx.x;
    const size_t to = glm4v_cuda_kv_at(&kv, layer, c.to, head, 0);
    const size_t from = glm4v_cuda_kv_at(&kv, layer, c.from, head, 0);
    uint8_t *data = (uint8_t *)(value ? kv.values : kv.keys);
    float *scale = value ? kv.v_scale : kv.k_scale;
    wait_for_earlier();
    if (i < (size_t)c.n * (size_t)kv.head_dim * width / sizeof(uint2))
        reinterpret_cast<uint2 *>(data + to * width)[i] =
            reinterpret_cast<const uint2 *>(data + from * width)[i];
    if (kv.form == GLM4V_CUDA_KV_INT8 && i < (size_t)c.n)
        scale[to / (size_t)kv.head_dim + i] = scale[from / (size_t)kv.head_dim + i];
}

cudaError_t glm4v_cuda_copy_kv(cudaStream_t stream, const glm4v_cuda_kv *kv, int32_t to,
                               int32_t from, int32_t n)
{
    const size_t bytes = (size_t)n * (size_t)kv->head_dim * 2;
    const dim3 grid(blocks_for(bytes, HEAD_THREADS * sizeof(uint2)),
                    (unsigned)(kv->layers * kv->heads), 2);
    return n ? launch(copy_kernel, grid, HEAD_THREADS, 0, stream, *kv, copy { to, from, n })
             : cudaSuccess;
}
