/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernels of products share: their arguments, and from sums to outputs. */
#ifndef GLM4V_CUDA_PRODUCT_CUH
#define GLM4V_CUDA_PRODUCT_CUH

#include "matrix.cuh"
#include "round.cuh"

/* A glm4v_cuda_product as kernels take it, by value. */
struct product_args {
    const uint8_t *w;
    int64_t w_bytes; /* between rows */
    const float *w_scale;
    const uint8_t *w_zero;
    const uint8_t *x; /* rounded, or as it is */
    int64_t x_bytes;  /* between rows */
    int32_t x_valid;  /* bytes of a row that may be read */
    const float *x_scale;
    int64_t ldscale, ldgroup;
    const float *row_scale; /* of the outputs of a row of x, or NULL */
    int32_t n_out, n_in, rows;
    int32_t scales; /* of a row of w */
    void *y;
    int64_t ldy;
    const float *bias;
    glm4v_cuda_epilogue epilogue;
    bool add, y_f32;
};

static inline product_args arguments_of(const glm4v_cuda_product *p)
{
    const glm4v_cuda_matrix *w = p->w;
    const bool rounded = glm4v_cuda_rounds(w);
    const bool bytes = has_byte_inputs(w->form);
    const int64_t element = bytes ? 1 : 2;
    product_args a = {};
    a.w = (const uint8_t *)w->data;
    a.w_bytes = row_bytes(w->form, w->n_in);
    a.w_scale = w->scale;
    a.w_zero = w->zero;
    a.x = (const uint8_t *)(rounded ? p->rounded.q : p->x);
    a.x_bytes = (rounded ? p->rounded.ldq : p->ldx) * element;
    a.x_valid = (int32_t)(bytes ? round_up(w->n_in, 128) : (int64_t)w->n_in * 2);
    a.x_scale = p->rounded.scale;
    a.ldscale = p->rounded.ldscale;
    a.ldgroup = p->rounded.ldgroup;
    a.n_out = w->n_out;
    a.n_in = w->n_in;
    a.rows = p->rows;
    a.scales = p->raw ? 0 : scales_of(w);
    a.row_scale = w->form == GLM4V_CUDA_FP8_DYNAMIC && !p->raw ? p->rounded.scale : NULL;
    a.y = p->y;
    a.ldy = p->ldy;
    a.bias = p->bias;
    a.epilogue = p->epilogue;
    a.add = p->add;
    a.y_f32 = p->y_f32;
    return a;
}

static __device__ __forceinline__ float gelu(float x)
{
    return 0.5f * x * erfcf(-x * 0.70710678f);
}

static __device__ __forceinline__ float silu(float x)
{
    return x / (1 + expf(-x));
}

/* silu by the hardware's exponential and reciprocal: few units in the last place of f32. */
static __device__ __forceinline__ float silu_of(float x)
{
    return __fdividef(x, 1 + __expf(-x));
}

/* sum: the scale of the output is applied. */
static __device__ __forceinline__ float with_bias(const product_args &p, float sum, int64_t t,
                                                  int32_t n)
{
    if (p.row_scale)
        sum *= p.row_scale[t];
    return p.bias ? sum + p.bias[n] : sum;
}

/* y of row t, column n. */
static __device__ __forceinline__ void store(const product_args &p, int64_t t, int32_t n,
                                             float value)
{
    const int64_t at = t * p.ldy + n;
    if (p.y_f32) {
        float *y = (float *)p.y + at;
        *y = p.add ? *y + value : value;
    } else {
        glm4v_bf16 *y = (glm4v_bf16 *)p.y + at;
        *y = narrow_bf16(p.add ? widen_bf16(*y) + value : value);
    }
}

/* From the sum (scale applied) of an output to y; not for SILU_MUL. */
static __device__ __forceinline__ void finish(const product_args &p, int64_t t, int32_t n,
                                              float sum)
{
    const float value = with_bias(p, sum, t, n);
    store(p, t, n, p.epilogue == GLM4V_CUDA_GELU ? gelu(value) : value);
}

/* SILU_MUL: from the sums of outputs n and n_out / 2 + n. */
static __device__ __forceinline__ void finish_pair(const product_args &p, int64_t t, int32_t n,
                                                   float gate, float up)
{
    store(p, t, n, silu(with_bias(p, gate, t, n)) * with_bias(p, up, t, p.n_out / 2 + n));
}

/* The kernels of one form that read each weight once. Any number of rows; F32: also
 * in prefill. */
cudaError_t product_f32(cudaStream_t stream, const product_args &p);
cudaError_t product_bf16(cudaStream_t stream, const product_args &p);
cudaError_t product_int8(cudaStream_t stream, const product_args &p);
cudaError_t product_int4(cudaStream_t stream, const product_args &p);
cudaError_t product_int4_32(cudaStream_t stream, const product_args &p);
cudaError_t product_fp8(cudaStream_t stream, const product_args &p);
cudaError_t product_fp8_dynamic(cudaStream_t stream, const product_args &p);

/* The kernels of one form for many rows, on any device (product_blocks.cuh). */
cudaError_t blocks_bf16(cudaStream_t stream, const product_args &p);
cudaError_t blocks_int8(cudaStream_t stream, const product_args &p);
cudaError_t blocks_int4(cudaStream_t stream, const product_args &p);
cudaError_t blocks_int4_32(cudaStream_t stream, const product_args &p);
cudaError_t blocks_fp8(cudaStream_t stream, const product_args &p);
cudaError_t blocks_fp8_dynamic(cudaStream_t stream, const product_args &p);
cudaError_t blocks_multiply(cudaStream_t stream, const glm4v_cuda_product *p);

#endif
