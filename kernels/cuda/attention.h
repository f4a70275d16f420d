/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and values, rotary positions, attention. Head sizes: multiples of 8 up to 128; 64, 80, 112
 * and 128 have kernels of their own size, others take the next larger one with zeros. */
#ifndef GLM4V_CUDA_ATTENTION_H
#define GLM4V_CUDA_ATTENTION_H

#include "launch.h"
#include "product.h"
#include "step.h"

typedef enum { GLM4V_CUDA_KV_BF16, GLM4V_CUDA_KV_INT8 } glm4v_cuda_kv_form;

/* Keys and values of some layers. Token `pos` of head h of a slot in a layer lies at element
 * glm4v_cuda_kv_at() of keys and values. INT8: a scale per token and head, scale =
 * max|x| / 127, at glm4v_cuda_kv_at() / head_dim of k_scale and v_scale. */
typedef struct {
    glm4v_cuda_kv_form form;
    int32_t layers, heads, head_dim;
    int32_t slots, length, kept; /* slot number `slots` holds `kept` tokens */
    void *keys, *values;
    float *k_scale, *v_scale; /* INT8 */
} glm4v_cuda_kv;

#ifdef __CUDACC__
#define GLM4V_CUDA_BOTH __host__ __device__
#else
#define GLM4V_CUDA_BOTH
#endif

static inline GLM4V_CUDA_BOTH size_t glm4v_cuda_kv_at(const glm4v_cuda_kv *kv, int32_t layer,
                                                      int32_t slot, int32_t head, int32_t pos)
{
    const size_t tokens = (size_t)kv->slots * (size_t)kv->length + (size_t)kv->kept;
    const size_t room = (size_t)(slot < kv->slots ? kv->length : kv->kept);
    const size_t first = (size_t)layer * tokens + (size_t)slot * (size_t)kv->length;
    return (first * (size_t)kv->heads + (size_t)head * room + (size_t)pos) * (size_t)kv->head_dim;
}

/* cos, sin [rows, n_freq] of the step from tables f32 [table_rows, n_freq], frequency k from the
 * axis whose section holds k. */
typedef struct {
    const float *cos, *sin;
    int32_t rows, n_freq, section[3];
} glm4v_cuda_rotary;
GLM4V_CUDA_API cudaError_t glm4v_cuda_gather_rotary(cudaStream_t stream,
                                                    const glm4v_cuda_step_data *step,
                                                    const glm4v_cuda_rotary *r);

/* heads of x [rows, heads * head_dim] rotated in place; cos, sin [rows, n_freq]. half: pairs
 * (i, i + n_freq), else (2i, 2i + 1); the rest of a head stays. */
typedef struct {
    glm4v_bf16 *x;
    int64_t ldx;
    const float *cos, *sin;
    int32_t rows, heads, head_dim, n_freq;
    bool half;
    glm4v_cuda_sums sums; /* x, whole rows, of a raw product: made numbers first; sums NULL: not */
} glm4v_cuda_rope;
GLM4V_CUDA_API cudaError_t glm4v_cuda_rotate(cudaStream_t stream, const glm4v_cuda_rope *r);

/* Keys and values of the step's rows to their places. */
typedef struct {
    const glm4v_bf16 *k, *v; /* [rows, kv heads * head_dim] */
    int64_t ld;
    int32_t layer, rows;
} glm4v_cuda_append;
GLM4V_CUDA_API cudaError_t glm4v_cuda_append_kv(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                                const glm4v_cuda_step_data *step,
                                                const glm4v_cuda_append *a);

/* After the qkv product of a text layer, in one kernel: RMSNorm of each head of q and k where
 * q_norm, k_norm [head_dim] are not NULL, rotation of q and k, append of k and v. x holds q, then
 * k, then v heads. */
typedef struct {
    glm4v_cuda_rope rope; /* heads: those of q */
    const float *q_norm, *k_norm;
    float eps;
    int32_t layer;
} glm4v_cuda_qkv;
GLM4V_CUDA_API cudaError_t glm4v_cuda_rotate_append(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                                    const glm4v_cuda_step_data *step,
                                                    const glm4v_cuda_qkv *a);

/* The first n tokens of all layers from slot to slot. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_copy_kv(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                              int32_t to, int32_t from, int32_t n);

/* o [rows, heads * head_dim] = softmax(scale q k^T) v. */
typedef struct {
    glm4v_bf16 *o;
    int64_t ldo;
    const glm4v_bf16 *q;
    int64_t ldq;
    int32_t heads; /* a multiple of kv heads */
    float scale;
    int32_t layer, rows;
    /* decode: o also as glm4v_cuda_round makes it for an INT8 or INT4 matrix without an order, of
     * heads * head_dim inputs; sets ldq and ldscale. NULL: not */
    glm4v_cuda_rounded *rounded;
} glm4v_cuda_attend;

/* Decode: each row of the step by itself, over keys [0, position]. Keys are cut in pieces of a
 * fixed number, whose partial results are combined in order. scratch: glm4v_cuda_decode_scratch
 * bytes. A slot has at most GLM4V_CUDA_SPAN_ROWS rows in a step: older keys are read, as the step's
 * slots and positions are, before the kernels ahead have ended. */
enum { GLM4V_CUDA_SPAN_ROWS = 8 };
GLM4V_CUDA_API size_t glm4v_cuda_decode_scratch(const glm4v_cuda_kv *kv, int32_t heads,
                                                int32_t rows);
GLM4V_CUDA_API cudaError_t glm4v_cuda_attend_decode(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                                    const glm4v_cuda_step_data *step,
                                                    const glm4v_cuda_attend *a, void *scratch);

/* Prefill: rows [row, row + n) of a->q are tokens [length, length + n) of a slot; each sees keys
 * [0, its own]. */
typedef struct {
    int32_t slot, length, row, n;
} glm4v_cuda_span;
GLM4V_CUDA_API cudaError_t glm4v_cuda_attend_prefill(cudaStream_t stream, const glm4v_cuda_kv *kv,
                                                     const glm4v_cuda_attend *a,
                                                     const glm4v_cuda_span *span);

/* Rows [0, rows) to each other; q, k, v rows ldq apart; kv heads = heads. */
typedef struct {
    glm4v_cuda_attend a; /* layer unused */
    const glm4v_bf16 *k, *v;
    int32_t head_dim;
} glm4v_cuda_attend_all;
GLM4V_CUDA_API cudaError_t glm4v_cuda_attend_rows(cudaStream_t stream,
                                                  const glm4v_cuda_attend_all *a);

#endif
